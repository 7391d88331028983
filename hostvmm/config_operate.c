/* Options by which a guest is operated and watched: its control channels, its messages, its counters. */
#include <string.h>

#include "hostvmm/config_parts.h"

#define FD_FIRST 3
#define FD_MAX   1048576

static const char *set_path(const char **to, const char *value)
{
    if (!*value)
        return "want the path of a file";
    *to = value;
    return NULL;
}

const char *config_on_control(struct config *config, const char *value)
{
    return set_path(&config->control, value);
}

const char *config_on_control_fd(struct config *config, const char *value)
{
    uint64_t number;
    if (!config_number(value, FD_FIRST, FD_MAX, &number))
        return "want the number of an inherited descriptor, 3 or more";
    config->control_fd = (int)number;
    return NULL;
}

const char *config_on_paused(struct config *config, const char *value)
{
    (void)value;
    config->paused = true;
    return NULL;
}

const char *config_on_log(struct config *config, const char *value)
{
    return set_path(&config->log, value);
}

const char *config_on_log_level(struct config *config, const char *value)
{
    static const char *const names[] = {
        [LOG_LEVEL_ERROR] = "error",
        [LOG_LEVEL_WARN] = "warning",
        [LOG_LEVEL_INFO] = "info",
        [LOG_LEVEL_DEBUG] = "debug",
    };
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(value, names[i]) == 0) {
            config->log_level = (enum log_level)i;
            return NULL;
        }
    return "want error, warning, info or debug";
}

const char *config_on_log_format(struct config *config, const char *value)
{
    config->log_json = strcmp(value, "json") == 0;
    return config->log_json || strcmp(value, "text") == 0 ? NULL : "want text or json";
}

const char *config_on_metrics(struct config *config, const char *value)
{
    return set_path(&config->metrics, value);
}

const char *config_on_timeline(struct config *config, const char *value)
{
    return set_path(&config->timeline, value);
}

const char *config_unfit_operation(const struct config *config)
{
    if (config->paused && !config->control && config->control_fd < 0)
        return "--paused: nobody could let it go on; give --control or --control-fd, too";
    if (config->command == CONFIG_RESTORE && config->clones > 1 && config->control_fd >= 0)
        return "--control-fd: one connection operates one clone; give --control with %n in its name instead";
    if (config->paused && config->rehearse && config->command == CONFIG_RESTORE)
        return "--paused: a rehearsal runs";
    return NULL;
}
