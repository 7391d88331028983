/*
 * What `hostvmm run` was asked for. Parsing is pure: no file is touched; text pointers are argv's own.
 */
#ifndef HOSTVMM_CONFIG_H
#define HOSTVMM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hostvmm/console.h"
#include "init/bootargs.h"

#define CONFIG_DRIVES_MAX   15 /* besides the root image */
#define CONFIG_DRIVE_ID_MAX 20
#define CONFIG_PATH_MAX     1023

struct config_drive {
    char path[CONFIG_PATH_MAX + 1];
    char id[CONFIG_DRIVE_ID_MAX + 1]; /* what the guest sees as its serial number */
    bool read_only;
};

struct config {
    const char *kernel;
    const char *rootfs;   /* NULL: none */
    const char *initrd;   /* NULL: our own when there is a rootfs, else none */
    const char *cmdline;  /* NULL: none; added after our own */
    const char *timeline; /* NULL: none */
    unsigned cpus;
    unsigned memory_mib;
    struct config_drive drives[CONFIG_DRIVES_MAX];
    unsigned drive_count;
    bool vsock;
    char vsock_path[CONFIG_PATH_MAX + 1];
    uint32_t vsock_cid;
    enum console_kind console;
    const char *console_path;
    struct bootargs bootargs;
    bool rng;
};

enum config_result { CONFIG_OK, CONFIG_HELP, CONFIG_BAD };

/* argv[0] is "run". CONFIG_BAD: `why` says which option, what was given and what is wanted. */
enum config_result config_parse(struct config *config, int argc, char **argv, char *why, size_t why_bytes);

/* The text of `hostvmm run --help`. */
extern const char config_help[];

#endif
