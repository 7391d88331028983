/* The model as words of hostvmm's command line. Pure. */
#ifndef HOSTVMM_CONTROL_API_ARGUMENTS_H
#define HOSTVMM_CONTROL_API_ARGUMENTS_H

#include <jansson.h>
#include <stdbool.h>

#define ARGUMENTS_MAX 128

struct arguments {
    char *at[ARGUMENTS_MAX + 1]; /* ended by NULL, each allocated */
    unsigned count;
    bool failed; /* there were too many, or no memory for one */
};

/* What is not in the configuration itself. */
struct arguments_about {
    bool rekindle;    /* the guest runs Rekindle's init from the root drive, else the kernel mounts that */
    const char *jail; /* NULL: none */
    const char *log_level; /* NULL: hostvmm's own */
};

/* For one to be restored. */
struct arguments_clone {
    const char *snapshot;
    bool paused;
    bool moved[16]; /* by drive: its file is another than the snapshot's */
};

void arguments_add(struct arguments *arguments, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void arguments_fini(struct arguments *arguments);

/* `run ...`: 0, or -E2BIG, -ENOSPC. */
int arguments_run(struct arguments *arguments, const json_t *config, const struct arguments_about *about);
/* `restore ...` of a snapshot whose configuration, as the clone is to have it, is `config`. */
int arguments_restore(struct arguments *arguments, const json_t *config, const struct arguments_about *about,
                      const struct arguments_clone *clone);

/* What the kernel is told when it mounts the root drive itself: boot_args, and the root. */
int arguments_command_line(const json_t *config, char *to, size_t size);

#endif
