/* --jail: the plan is kept here, so that a config without it stays small. */
#include "hostvmm/config_parts.h"

const char *config_on_jail(struct config *config, const char *value)
{
    static struct jail_plan plan; /* large */
    static char why[JAIL_WHY_BYTES];
    config->jail = &plan;
    return jail_parse(&plan, value, why) ? why : NULL;
}

const char *config_unfit_jail(struct config *config)
{
    if (config->jail && config->command == CONFIG_RESTORE && config->rehearse)
        return "--rehearse: not with --jail: a rehearsal watches faults, and writes beside the snapshot";
    if (config->jail)
        config->rehearse = false; /* it would start a program */
    return NULL;
}
