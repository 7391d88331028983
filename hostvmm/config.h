/*
 * What `hostvmm run`, `snapshot` or `restore` was asked for. Parsing is pure: no file is touched; text
 * pointers are argv's own.
 */
#ifndef HOSTVMM_CONFIG_H
#define HOSTVMM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/log.h"
#include "hostvmm/config_net.h"
#include "hostvmm/console.h"
#include "hostvmm/device/rate.h"
#include "hostvmm/device/virtio/balloon_plan.h"
#include "hostvmm/jail/jail.h"
#include "init/bootargs.h"

#define CONFIG_DRIVES_MAX   15 /* besides the root image */
#define CONFIG_DRIVE_ID_MAX 20
#define CONFIG_PATH_MAX     1023

struct config_drive {
    char path[CONFIG_PATH_MAX + 1];
    char id[CONFIG_DRIVE_ID_MAX + 1]; /* what the guest sees as its serial number */
    bool read_only;
    struct rate_wish rate;
};

#define CONFIG_SECRETS_MAX 16
#define CONFIG_NAME_MAX    64
#define CONFIG_CLONES_MAX  10000u

/* A secret for a clone: a name, and the file that holds it. */
struct config_secret {
    char name[CONFIG_NAME_MAX + 1];
    const char *path;
};

enum config_command { CONFIG_RUN = 1, CONFIG_SNAPSHOT = 2, CONFIG_RESTORE = 4 };

struct config {
    enum config_command command;
    const char *kernel;
    const char *rootfs;   /* NULL: none */
    const char *initrd;   /* NULL: our own when there is a rootfs, else none */
    const char *cmdline;  /* NULL: none; added after our own */
    const char *timeline; /* NULL: none; JSON, or a picture when its name ends in .svg */
    unsigned cpus;
    unsigned memory_mib;
    struct config_drive drives[CONFIG_DRIVES_MAX];
    unsigned drive_count;
    struct config_net nets[CONFIG_NETS_MAX]; /* restore: as the first clone has them; config_net_parse */
    unsigned net_count;
    char net_why[CONFIG_NET_WHY_BYTES]; /* of the last that was refused */
    bool vsock;
    char vsock_path[CONFIG_PATH_MAX + 1];
    uint32_t vsock_cid;
    enum console_kind console;
    const char *console_path;
    struct bootargs bootargs;
    bool rng;
    bool cpu_baseline;
    const char *control;      /* NULL: none; the Unix socket for `hostvmm snapshot --control` */
    const char *out;          /* snapshot: the directory to make */
    uint32_t hooks_ms;        /* snapshot, restore: for the function's hooks */
    const char *snapshot;     /* restore: the directory */
    unsigned clones;          /* restore: how many; in names %n is the clone's number, from 1 */
    const char *hostname;     /* restore; NULL: made from the clone's id */
    uint32_t resume_limit_ms; /* restore: from the start of the vCPUs to a function that runs */
    bool rehearse;            /* snapshot: afterwards; restore: this is it */
    bool verify;              /* restore: read all of the snapshot first */
    struct config_secret secrets[CONFIG_SECRETS_MAX];
    unsigned secret_count;
    struct rate_wish root_rate; /* of the root image */
    struct rate_wish rng_rate;
    struct virtio_balloon_plan balloon;
    bool huge_pages;          /* memory is of these */
    int control_fd;           /* an inherited connection to operate the guest through; -1: none */
    bool paused;              /* everything made, nothing runs until it is told to resume */
    const char *log;          /* NULL: standard error; a file to append messages to */
    enum log_level log_level; /* up to which */
    bool log_json;
    const char *metrics; /* NULL: none; a file for the counters: JSON, or Prometheus when its name ends so */
    bool bare_cmdline;   /* cmdline is all that the kernel is told */
    struct jail_plan *jail; /* NULL: none. Kept by config_jail.c, as it is large */
};

enum config_result { CONFIG_OK, CONFIG_HELP, CONFIG_BAD };

/* argv[0] is the command's name; `config` is all zero (it is large, and a clone's start pays for each page that is
 * written). CONFIG_BAD: `why` says which option, what was given and what is wanted. */
enum config_result config_parse(struct config *config, enum config_command command, int argc, char **argv,
                                char *why, size_t why_bytes);

/* `template` with each %n replaced by the clone's number. 0, or -ENAMETOOLONG. */
int config_expand(const char *template, unsigned clone, char *to, size_t capacity);

/* The text of `hostvmm COMMAND --help`. */
const char *config_help(enum config_command command);

#endif
