/*
 * The table of options, and the handlers of all that is no device. One row per option; each row's handler
 * takes the option's value and gives what is wanted instead when it cannot be used.
 */
#include <stdio.h>
#include <string.h>

#include "hostvmm/arch/arch.h"
#include "hostvmm/config_parts.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
#define LIMIT_MAX_MS    900000u

bool config_number(const char *text, uint64_t min, uint64_t max, uint64_t *number)
{
    uint64_t value = 0;
    if (!*text)
        return false;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9')
            return false;
        const uint64_t digit = (uint64_t)(*c - '0');
        if (value > (max - digit) / 10 || digit > max)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return value >= min;
}

bool config_copy(char *to, size_t capacity, const char *from, size_t size)
{
    if (size == 0 || size >= capacity)
        return false;
    memcpy(to, from, size);
    to[size] = '\0';
    return true;
}

bool config_is_plain(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(NAME_CHARACTERS, text[i]) || !text[i])
            return false;
    return true;
}

bool config_is_name(const char *text, size_t size)
{
    return size > 0 && size <= CONFIG_NAME_MAX && text[0] != '.' && text[0] != '-' &&
           config_is_plain(text, size);
}

/* The same for a field of 32 bits. */
static bool take_number(const char *text, uint32_t min, uint32_t max, uint32_t *number)
{
    uint64_t value = 0;
    if (!config_number(text, min, max, &value))
        return false;
    *number = (uint32_t)value;
    return true;
}

static const char *set_path(const char **to, const char *value)
{
    if (!*value)
        return "want the path of a file";
    *to = value;
    return NULL;
}

static const char *on_kernel(struct config *config, const char *value)
{
    return set_path(&config->kernel, value);
}

static const char *on_rootfs(struct config *config, const char *value)
{
    return set_path(&config->rootfs, value);
}

static const char *on_initrd(struct config *config, const char *value)
{
    return set_path(&config->initrd, value);
}

static const char *on_cpus(struct config *config, const char *value)
{
    return take_number(value, 1, ARCH_VCPUS_MAX, &config->cpus) ? NULL : "want a number from 1 to 32";
}

static const char *on_memory(struct config *config, const char *value)
{
    return take_number(value, ARCH_MEMORY_MIN_MIB, ARCH_MEMORY_MAX_MIB, &config->memory_mib)
               ? NULL
               : "want MiB, a number from 16 to 524288";
}

static void note_refused(void *context, const char *what, const char *why)
{
    const char **wanted = context;
    (void)what;
    *wanted = why;
}

/* init's own decoder judges the argument: what it would ignore in the guest is refused here. */
static const char *on_bootarg(struct config *config, const char *value)
{
    char line[BOOTARGS_LINE_MAX];
    const char *wanted = NULL;
    const int size = snprintf(line, sizeof line, BOOTARGS_PREFIX "%s", value);
    if (size < 0 || (size_t)size >= sizeof line || strpbrk(value, " \t\r\n"))
        return "want one K=V without blanks";
    if (strncmp(value, "exit_port=", 10) == 0)
        return "exit_port is this program's own to set";
    if (strncmp(value, "net=", 4) == 0)
        return "want --net instead: it makes the interface, too";
    bootargs_decode(&config->bootargs, line, (size_t)size, note_refused, &wanted);
    return wanted;
}

static const char *on_cmdline(struct config *config, const char *value)
{
    if (strlen(value) >= ARCH_COMMAND_LINE_MAX || strpbrk(value, "\r\n"))
        return "want one line of fewer than 2048 bytes";
    config->cmdline = value;
    return NULL;
}

static const char *on_bare_cmdline(struct config *config, const char *value)
{
    (void)value;
    config->bare_cmdline = true;
    return NULL;
}

static const char *on_no_rng(struct config *config, const char *value)
{
    (void)value;
    config->rng = false;
    return NULL;
}

static const char *on_cpu(struct config *config, const char *value)
{
    config->cpu_baseline = strcmp(value, "baseline") == 0;
    return config->cpu_baseline || strcmp(value, "host") == 0 ? NULL : "want host or baseline";
}

static const char *on_out(struct config *config, const char *value)
{
    return set_path(&config->out, value);
}

static const char *on_hooks_limit(struct config *config, const char *value)
{
    return take_number(value, 1, LIMIT_MAX_MS, &config->hooks_ms) ? NULL
                                                                  : "want milliseconds, from 1 to 900000";
}

static const char *on_snapshot(struct config *config, const char *value)
{
    return set_path(&config->snapshot, value);
}

static const char *on_clones(struct config *config, const char *value)
{
    return take_number(value, 1, CONFIG_CLONES_MAX, &config->clones)
               ? NULL
               : "want a number from 1 to " CONFIG_NUMBER_TEXT(CONFIG_CLONES_MAX);
}

static const char *on_hostname(struct config *config, const char *value)
{
    char name[CONFIG_NAME_MAX + 1];
    if (config_expand(value, CONFIG_CLONES_MAX, name, sizeof name) || !config_is_name(name, strlen(name)))
        return "want 1 to 64 letters, digits and the characters _ - . (and %n)";
    config->hostname = value;
    return NULL;
}

static const char *on_resume_limit(struct config *config, const char *value)
{
    return take_number(value, 1, LIMIT_MAX_MS, &config->resume_limit_ms)
               ? NULL
               : "want milliseconds, from 1 to 900000";
}

static const char *on_secret(struct config *config, const char *value)
{
    const size_t size = strcspn(value, "=");
    if (config->secret_count == CONFIG_SECRETS_MAX)
        return "want at most " CONFIG_NUMBER_TEXT(CONFIG_SECRETS_MAX) " of them";
    struct config_secret *secret = &config->secrets[config->secret_count];
    if (!value[size] || !value[size + 1] || !config_is_name(value, size))
        return "want NAME=FILE, a name of 1 to 64 letters, digits and the characters _ - .";
    (void)config_copy(secret->name, sizeof secret->name, value, size);
    secret->path = value + size + 1;
    config->secret_count++;
    return NULL;
}

static const char *on_verify(struct config *config, const char *value)
{
    (void)value;
    config->verify = true;
    return NULL;
}

static const char *on_rehearse(struct config *config, const char *value)
{
    (void)value;
    config->rehearse = true;
    return NULL;
}

static const char *on_no_rehearsal(struct config *config, const char *value)
{
    (void)value;
    config->rehearse = false;
    return NULL;
}

static const struct config_option options[] = {
    {.name = "kernel", .handler = on_kernel, .commands = CONFIG_BOOTS},
    {.name = "rootfs", .handler = on_rootfs, .commands = CONFIG_BOOTS},
    {.name = "initrd", .handler = on_initrd, .commands = CONFIG_BOOTS},
    {.name = "cpus", .handler = on_cpus, .commands = CONFIG_BOOTS},
    {.name = "cpu", .handler = on_cpu, .commands = CONFIG_BOOTS},
    {.name = "memory", .handler = on_memory, .commands = CONFIG_BOOTS},
    {.name = "drive", .handler = config_on_drive, .commands = CONFIG_ANY},
    {.name = "rootfs-rate", .handler = config_on_root_rate, .commands = CONFIG_ANY},
    {.name = "rng-rate", .handler = config_on_rng_rate, .commands = CONFIG_ANY},
    {.name = "vsock", .handler = config_on_vsock, .commands = CONFIG_ANY},
    {.name = "net", .handler = config_on_net, .commands = CONFIG_ANY},
    {.name = "console", .handler = config_on_console, .commands = CONFIG_ANY},
    {.name = "bootarg", .handler = on_bootarg, .commands = CONFIG_BOOTS},
    {.name = "cmdline", .handler = on_cmdline, .commands = CONFIG_BOOTS},
    {.name = "bare-cmdline", .handler = on_bare_cmdline, .commands = CONFIG_BOOTS, .flag = true},
    {.name = "timeline", .handler = config_on_timeline, .commands = CONFIG_ANY},
    {.name = "no-rng", .handler = on_no_rng, .commands = CONFIG_BOOTS, .flag = true},
    {.name = "control", .handler = config_on_control, .commands = CONFIG_RUN | CONFIG_RESTORE},
    {.name = "control-fd", .handler = config_on_control_fd, .commands = CONFIG_RUN | CONFIG_RESTORE},
    {.name = "paused", .handler = config_on_paused, .commands = CONFIG_RUN | CONFIG_RESTORE, .flag = true},
    {.name = "log", .handler = config_on_log, .commands = CONFIG_ANY},
    {.name = "log-level", .handler = config_on_log_level, .commands = CONFIG_ANY},
    {.name = "log-format", .handler = config_on_log_format, .commands = CONFIG_ANY},
    {.name = "metrics", .handler = config_on_metrics, .commands = CONFIG_ANY},
    {.name = "out", .handler = on_out, .commands = CONFIG_SNAPSHOT},
    {.name = "hooks-limit", .handler = on_hooks_limit, .commands = CONFIG_ANY},
    {.name = "snapshot", .handler = on_snapshot, .commands = CONFIG_RESTORE},
    {.name = "clones", .handler = on_clones, .commands = CONFIG_RESTORE},
    {.name = "hostname", .handler = on_hostname, .commands = CONFIG_RESTORE},
    {.name = "secret", .handler = on_secret, .commands = CONFIG_RESTORE},
    {.name = "resume-limit", .handler = on_resume_limit, .commands = CONFIG_RESTORE},
    {.name = "jail", .handler = config_on_jail, .commands = CONFIG_ANY},
    {.name = "rehearse", .handler = on_rehearse, .commands = CONFIG_RESTORE, .flag = true},
    {.name = "no-rehearsal", .handler = on_no_rehearsal, .commands = CONFIG_SNAPSHOT, .flag = true},
    {.name = "verify", .handler = on_verify, .commands = CONFIG_RESTORE, .flag = true},
    {.name = "balloon", .handler = config_on_balloon, .commands = CONFIG_ANY},
    {.name = "huge-pages", .handler = config_on_huge_pages, .commands = CONFIG_ANY, .flag = true},
};

const struct config_option *config_option_named(enum config_command command, const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strlen(options[i].name) == size && memcmp(options[i].name, name, size) == 0)
            return options[i].commands & command ? &options[i] : NULL;
    return NULL;
}
