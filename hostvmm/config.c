/* See config.h. `--name value` and `--name=value` are the same. */
#include "hostvmm/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/config_parts.h"

#define HOOKS_LIMIT_MS  10000u
#define RESUME_LIMIT_MS 60000u

/* Take the option at argv[*at], and its value. */
static enum config_result parse_option(struct config *config, int argc, char **argv, int *at, char *why,
                                       size_t why_bytes)
{
    const char *text = argv[*at];
    if (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)
        return CONFIG_HELP;
    const size_t size = strncmp(text, "--", 2) == 0 ? strcspn(text + 2, "=") : 0;
    const struct config_option *option = config_option_named(config->command, text + 2, size);
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
    if (config->command & CONFIG_BOOTS && !config->kernel)
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

/* The root image is a drive of this name; without one the name is free. NULL, or what is wrong. */
static const char *unfit_drive(const struct config *config, const char **text)
{
    for (unsigned i = 0; i < config->drive_count && config->rootfs; i++) {
        *text = config->drives[i].path;
        if (strcmp(config->drives[i].id, "rootfs") == 0)
            return "want another id: rootfs is the root image's";
    }
    return NULL;
}

enum config_result config_parse(struct config *config, enum config_command command, int argc, char **argv,
                                char *why, size_t why_bytes)
{
    config->command = command;
    config->cpus = 1;
    config->clones = 1;
    config->vsock_cid = CONFIG_VSOCK_CID_DEFAULT;
    config->memory_mib = 128;
    config->rng = true;
    config->control_fd = -1;
    config->log_level = LOG_LEVEL_INFO;
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
    const char *unfit = name ? NULL : config_unfit_operation(config);
    if (unfit) {
        (void)snprintf(why, why_bytes, "%s", unfit);
        return CONFIG_BAD;
    }
    const char *misfit = name ? NULL : config_unfit_memory(config);
    if (misfit) {
        (void)snprintf(why, why_bytes, "%s", misfit);
        return CONFIG_BAD;
    }
    const char *taken = name ? NULL : unfit_drive(config, &text);
    if (taken) {
        (void)snprintf(why, why_bytes, "--drive %.80s: %s", text, taken);
        return CONFIG_BAD;
    }
    const char *wanted = name ? NULL : unfit_net(config, &text);
    if (wanted) {
        (void)snprintf(why, why_bytes, "--net %.80s: %s", text, wanted);
        return CONFIG_BAD;
    }
    const char *jailed = name ? NULL : config_unfit_jail(config);
    if (jailed) {
        (void)snprintf(why, why_bytes, "%s", jailed);
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
