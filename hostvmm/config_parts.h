/*
 * The parts of the command line's parser behind config.h: the table of options, their handlers by what they
 * are for, and what the handlers share.
 */
#ifndef HOSTVMM_CONFIG_PARTS_H
#define HOSTVMM_CONFIG_PARTS_H

#include "hostvmm/config.h"

#define CONFIG_TEXT_OF(x)        #x
#define CONFIG_NUMBER_TEXT(x)    CONFIG_TEXT_OF(x)

#define CONFIG_VSOCK_CID_DEFAULT 3u

#define CONFIG_BOOTS             (CONFIG_RUN | CONFIG_SNAPSHOT)
#define CONFIG_ANY               (CONFIG_BOOTS | CONFIG_RESTORE)

/* NULL when the value was taken, else what is wanted. */
typedef const char *config_handler(struct config *config, const char *value);

struct config_option {
    const char *name;
    config_handler *handler;
    unsigned commands; /* of enum config_command */
    bool flag;         /* takes no value */
};

/* The option of that name, if the command has it; else NULL. */
const struct config_option *config_option_named(enum config_command command, const char *name, size_t size);

/* ---- what handlers share ---- */

/* All of `text` as a decimal number within [min, max]. */
bool config_number(const char *text, uint64_t min, uint64_t max, uint64_t *number);
/* Copy `size` bytes as a string. Whether they fit and are not empty. */
bool config_copy(char *to, size_t capacity, const char *from, size_t size);
/* Letters, digits and the characters _ - . */
bool config_is_plain(const char *text, size_t size);
/* The same, 1 to CONFIG_NAME_MAX of them, the first no dot and no dash. */
bool config_is_name(const char *text, size_t size);

/* ---- handlers: config_operate.c ---- */

config_handler config_on_control;
config_handler config_on_control_fd;
config_handler config_on_paused;
config_handler config_on_log;
config_handler config_on_log_level;
config_handler config_on_log_format;
config_handler config_on_metrics;
config_handler config_on_timeline;

/* How the guest is operated, all options taken: NULL, or what does not go together. */
const char *config_unfit_operation(const struct config *config);

/* ---- handlers: config_balloon.c ---- */

config_handler config_on_balloon;
config_handler config_on_huge_pages;

/* Whether they fit the guest's memory, all options taken: NULL, or what does not go together. */
const char *config_unfit_memory(const struct config *config);

/* ---- handlers: config_devices.c ---- */

config_handler config_on_drive;
config_handler config_on_root_rate;
config_handler config_on_rng_rate;
config_handler config_on_vsock;
config_handler config_on_net;
config_handler config_on_console;

/* ---- handlers: config_jail.c ---- */

config_handler config_on_jail;
/* Settles what a jail leaves out. NULL, or what does not go with it. */
const char *config_unfit_jail(struct config *config);

#endif
