/*
 * See config.h. One row per option; each row's handler takes the option's value and gives what is wanted
 * instead when it cannot be used. `--name value` and `--name=value` are the same.
 */
#include "hostvmm/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/arch/arch.h"

#define TEXT_OF(x)        #x
#define NUMBER_TEXT(x)    TEXT_OF(x)

#define NAME_CHARACTERS   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

#define LIMIT_MAX_MS      900000u
#define HOOKS_LIMIT_MS    10000u
#define RESUME_LIMIT_MS   60000u

#define VSOCK_CID_DEFAULT 3u
#define VSOCK_CID_MIN     3u
#define VSOCK_CID_MAX     0xfffffffeu

/* NULL when the value was taken, else what is wanted. */
typedef const char *option_handler(struct config *config, const char *value);

/* All of `text` as a decimal number within [min, max]. */
static bool parse_number(const char *text, uint32_t min, uint32_t max, uint32_t *number)
{
    uint64_t value = 0;
    if (!*text)
        return false;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9')
            return false;
        value = value * 10 + (uint64_t)(*c - '0');
        if (value > max)
            return false;
    }
    *number = (uint32_t)value;
    return value >= min;
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

static const char *on_timeline(struct config *config, const char *value)
{
    return set_path(&config->timeline, value);
}

static const char *on_cpus(struct config *config, const char *value)
{
    return parse_number(value, 1, ARCH_VCPUS_MAX, &config->cpus) ? NULL : "want a number from 1 to 32";
}

static const char *on_memory(struct config *config, const char *value)
{
    return parse_number(value, ARCH_MEMORY_MIN_MIB, ARCH_MEMORY_MAX_MIB, &config->memory_mib)
               ? NULL
               : "want MiB, a number from 16 to 524288";
}

/* Copy `size` bytes as a string. Whether they fit and are not empty. */
static bool copy_text(char *to, size_t capacity, const char *from, size_t size)
{
    if (size == 0 || size >= capacity)
        return false;
    memcpy(to, from, size);
    to[size] = '\0';
    return true;
}

static bool is_drive_id(const char *id)
{
    for (const char *c = id; *c; c++)
        if (!strchr(NAME_CHARACTERS, *c))
            return false;
    return true;
}

/* One of the words after a drive's path. */
static const char *drive_word(struct config_drive *drive, const char *word, size_t size)
{
    if (size == 2 && memcmp(word, "ro", 2) == 0) {
        drive->read_only = true;
        return NULL;
    }
    if (size > 3 && memcmp(word, "id=", 3) == 0) {
        if (copy_text(drive->id, sizeof drive->id, word + 3, size - 3) && is_drive_id(drive->id))
            return NULL;
        return "want an id of 1 to 20 letters, digits and the characters _ - .";
    }
    return "want FILE[,ro][,id=NAME]";
}

static const char *on_drive(struct config *config, const char *value)
{
    if (config->drive_count == CONFIG_DRIVES_MAX)
        return "want at most " NUMBER_TEXT(CONFIG_DRIVES_MAX) " of them";
    struct config_drive *drive = &config->drives[config->drive_count];
    *drive = (struct config_drive){.read_only = false};
    size_t size = strcspn(value, ",");
    if (!copy_text(drive->path, sizeof drive->path, value, size))
        return "want the path of a file, of at most 1023 bytes";
    (void)snprintf(drive->id, sizeof drive->id, "drive%u", config->drive_count + 1);
    while (value[size]) {
        value += size + 1;
        size = strcspn(value, ",");
        const char *wanted = drive_word(drive, value, size);
        if (wanted)
            return wanted;
    }
    config->drive_count++;
    return NULL;
}

static const char *on_vsock(struct config *config, const char *value)
{
    const size_t size = strcspn(value, ",");
    if (config->vsock)
        return "want it once";
    if (!copy_text(config->vsock_path, sizeof config->vsock_path, value, size))
        return "want the path of a Unix socket";
    if (value[size] && config->command == CONFIG_RESTORE)
        return "want PATH alone: a clone has the CID that its guest had";
    config->vsock_cid = VSOCK_CID_DEFAULT;
    if (value[size] && (strncmp(value + size, ",cid=", 5) != 0 ||
                        !parse_number(value + size + 5, VSOCK_CID_MIN, VSOCK_CID_MAX, &config->vsock_cid)))
        return "want PATH[,cid=N], N from 3 to 4294967294";
    config->vsock = true;
    return NULL;
}

static const char *on_net(struct config *config, const char *value)
{
    if (config->net_count == CONFIG_NETS_MAX)
        return "want at most " NUMBER_TEXT(CONFIG_NETS_MAX) " of them";
    struct config_net *net = &config->nets[config->net_count];
    if (config_net_parse(net, value, config->command == CONFIG_RESTORE, config->net_why))
        return config->net_why;
    config->net_count++;
    return NULL;
}

static const char *on_console(struct config *config, const char *value)
{
    config->console_path = NULL;
    if (strcmp(value, "stdio") == 0)
        config->console = CONSOLE_STDIO;
    else if (strcmp(value, "none") == 0)
        config->console = CONSOLE_NONE;
    else if (*value) {
        config->console = CONSOLE_FILE;
        config->console_path = value;
    } else
        return "want stdio, none or the path of a file";
    return NULL;
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

static const char *on_control(struct config *config, const char *value)
{
    return set_path(&config->control, value);
}

static const char *on_out(struct config *config, const char *value)
{
    return set_path(&config->out, value);
}

static const char *on_hooks_limit(struct config *config, const char *value)
{
    return parse_number(value, 1, LIMIT_MAX_MS, &config->hooks_ms) ? NULL
                                                                   : "want milliseconds, from 1 to 900000";
}

static const char *on_snapshot(struct config *config, const char *value)
{
    return set_path(&config->snapshot, value);
}

static const char *on_clones(struct config *config, const char *value)
{
    return parse_number(value, 1, CONFIG_CLONES_MAX, &config->clones)
               ? NULL
               : "want a number from 1 to " NUMBER_TEXT(CONFIG_CLONES_MAX);
}

/* A name of [A-Za-z0-9._-] that does not begin with a dot or a dash. */
static bool is_name(const char *text, size_t size)
{
    if (size == 0 || size > CONFIG_NAME_MAX || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < size; i++)
        if (!strchr(NAME_CHARACTERS, text[i]))
            return false;
    return true;
}

static const char *on_hostname(struct config *config, const char *value)
{
    char name[CONFIG_NAME_MAX + 1];
    if (config_expand(value, CONFIG_CLONES_MAX, name, sizeof name) || !is_name(name, strlen(name)))
        return "want 1 to 64 letters, digits and the characters _ - . (and %n)";
    config->hostname = value;
    return NULL;
}

static const char *on_resume_limit(struct config *config, const char *value)
{
    return parse_number(value, 1, LIMIT_MAX_MS, &config->resume_limit_ms)
               ? NULL
               : "want milliseconds, from 1 to 900000";
}

static const char *on_secret(struct config *config, const char *value)
{
    const size_t size = strcspn(value, "=");
    if (config->secret_count == CONFIG_SECRETS_MAX)
        return "want at most " NUMBER_TEXT(CONFIG_SECRETS_MAX) " of them";
    struct config_secret *secret = &config->secrets[config->secret_count];
    if (!value[size] || !value[size + 1] || !is_name(value, size))
        return "want NAME=FILE, a name of 1 to 64 letters, digits and the characters _ - .";
    (void)copy_text(secret->name, sizeof secret->name, value, size);
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

#define BOOTS (CONFIG_RUN | CONFIG_SNAPSHOT)
#define ALL   (CONFIG_RUN | CONFIG_SNAPSHOT | CONFIG_RESTORE)

static const struct option {
    const char *name;
    option_handler *handler;
    unsigned commands; /* of enum config_command */
    bool flag;         /* takes no value */
} options[] = {
    {.name = "kernel", .handler = on_kernel, .commands = BOOTS},
    {.name = "rootfs", .handler = on_rootfs, .commands = BOOTS},
    {.name = "initrd", .handler = on_initrd, .commands = BOOTS},
    {.name = "cpus", .handler = on_cpus, .commands = BOOTS},
    {.name = "cpu", .handler = on_cpu, .commands = BOOTS},
    {.name = "memory", .handler = on_memory, .commands = BOOTS},
    {.name = "drive", .handler = on_drive, .commands = ALL},
    {.name = "vsock", .handler = on_vsock, .commands = ALL},
    {.name = "net", .handler = on_net, .commands = ALL},
    {.name = "console", .handler = on_console, .commands = ALL},
    {.name = "bootarg", .handler = on_bootarg, .commands = BOOTS},
    {.name = "cmdline", .handler = on_cmdline, .commands = BOOTS},
    {.name = "timeline", .handler = on_timeline, .commands = ALL},
    {.name = "no-rng", .handler = on_no_rng, .commands = BOOTS, .flag = true},
    {.name = "control", .handler = on_control, .commands = CONFIG_RUN | CONFIG_RESTORE},
    {.name = "out", .handler = on_out, .commands = CONFIG_SNAPSHOT},
    {.name = "hooks-limit", .handler = on_hooks_limit, .commands = ALL},
    {.name = "snapshot", .handler = on_snapshot, .commands = CONFIG_RESTORE},
    {.name = "clones", .handler = on_clones, .commands = CONFIG_RESTORE},
    {.name = "hostname", .handler = on_hostname, .commands = CONFIG_RESTORE},
    {.name = "secret", .handler = on_secret, .commands = CONFIG_RESTORE},
    {.name = "resume-limit", .handler = on_resume_limit, .commands = CONFIG_RESTORE},
    {.name = "rehearse", .handler = on_rehearse, .commands = CONFIG_RESTORE, .flag = true},
    {.name = "no-rehearsal", .handler = on_no_rehearsal, .commands = CONFIG_SNAPSHOT, .flag = true},
    {.name = "verify", .handler = on_verify, .commands = CONFIG_RESTORE, .flag = true},
};

static const struct option *option_named(enum config_command command, const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (strlen(options[i].name) == size && memcmp(options[i].name, name, size) == 0)
            return options[i].commands & command ? &options[i] : NULL;
    return NULL;
}

/* Take the option at argv[*at], and its value. */
static enum config_result parse_option(struct config *config, int argc, char **argv, int *at, char *why,
                                       size_t why_bytes)
{
    const char *text = argv[*at];
    if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)
        return CONFIG_HELP;
    const size_t size = strncmp(text, "--", 2) == 0 ? strcspn(text + 2, "=") : 0;
    const struct option *option = option_named(config->command, text + 2, size);
    if (size == 0 || !option) {
        (void)snprintf(why, why_bytes, "unknown argument %s; `hostvmm %s --help` lists them", text, argv[0]);
        return CONFIG_BAD;
    }
    const char *value = text[2 + size] == '=' ? text + 2 + size + 1 : NULL;
    if (option->flag && value) {
        (void)snprintf(why, why_bytes, "--%s takes no value", option->name);
        return CONFIG_BAD;
    }
    if (!option->flag && !value) {
        if (*at + 1 >= argc) {
            (void)snprintf(why, why_bytes, "--%s needs a value", option->name);
            return CONFIG_BAD;
        }
        value = argv[++*at];
    }
    const char *wanted = option->handler(config, value);
    if (!wanted)
        return CONFIG_OK;
    (void)snprintf(why, why_bytes, "--%s %.80s: %s", option->name, value ? value : "", wanted);
    return CONFIG_BAD;
}

/* What the command cannot do without. NULL, or the option's name. */
static const char *missing(const struct config *config)
{
    if (config->command & BOOTS && !config->kernel)
        return "kernel";
    if (config->command == CONFIG_SNAPSHOT && !config->out)
        return "out";
    return config->command == CONFIG_RESTORE && !config->snapshot ? "snapshot" : NULL;
}

/* What is right for the first clone may not be for the last; and clones would inherit one descriptor, and
 * take each other's frames. NULL, or what is wrong with it. */
static const char *unfit_net(struct config *config, const char **text)
{
    struct config_net last;
    for (unsigned i = 0; i < config->net_count && config->command == CONFIG_RESTORE; i++) {
        *text = config->nets[i].text;
        if (config->clones > 1 && config->nets[i].backend == CONFIG_BACKEND_TAP_FD && !strstr(*text, "%n"))
            return "want a descriptor for each clone, named with %n";
        if (config_net_parse(&last, *text, config->clones, config->net_why))
            return config->net_why;
    }
    return NULL;
}

enum config_result config_parse(struct config *config, enum config_command command, int argc, char **argv,
                                char *why, size_t why_bytes)
{
    memset(config, 0, sizeof *config);
    config->command = command;
    config->cpus = 1;
    config->clones = 1;
    config->vsock_cid = VSOCK_CID_DEFAULT;
    config->memory_mib = 128;
    config->rng = true;
    config->rehearse = command == CONFIG_SNAPSHOT;
    config->hooks_ms = HOOKS_LIMIT_MS;
    config->resume_limit_ms = RESUME_LIMIT_MS;
    bootargs_defaults(&config->bootargs);
    for (int at = 1; at < argc; at++) {
        const enum config_result result = parse_option(config, argc, argv, &at, why, why_bytes);
        if (result != CONFIG_OK)
            return result;
    }
    const char *name = missing(config);
    const char *text = "";
    const char *wanted = name ? NULL : unfit_net(config, &text);
    if (wanted) {
        (void)snprintf(why, why_bytes, "--net %.80s: %s", text, wanted);
        return CONFIG_BAD;
    }
    if (!name)
        return CONFIG_OK;
    (void)snprintf(why, why_bytes, "--%s is missing; `hostvmm %s --help` lists all options", name, argv[0]);
    return CONFIG_BAD;
}

int config_expand(const char *template, unsigned clone, char *to, size_t capacity)
{
    size_t at = 0;
    for (const char *from = template; *from && at < capacity; from++) {
        if (from[0] == '%' && from[1] == 'n') {
            at += (size_t)snprintf(to + at, capacity - at, "%u", clone);
            from++;
        } else {
            to[at++] = *from;
        }
    }
    if (at >= capacity)
        return -ENAMETOOLONG;
    to[at] = '\0';
    return 0;
}
