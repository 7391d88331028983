/*
 * What the server knows of its guest: one JSON object in the shape of Firecracker's configuration file
 * ("boot-source", "drives", ...), whose every member was checked when it came in, and the guest's state. It is
 * what GET /vm/config tells, what arguments.c makes a command line of, and what a snapshot keeps as api.json.
 */
#ifndef HOSTVMM_CONTROL_API_MODEL_H
#define HOSTVMM_CONTROL_API_MODEL_H

#include <pthread.h>

#include "hostvmm/control/api/api.h"
#include "hostvmm/control/api/child.h"

#define MODEL_DRIVES_MAX 16 /* what hostvmm takes: the root image and 15 more */
#define MODEL_NETS_MAX   4
#define MODEL_PATH_MAX   1023
#define MODEL_SOCKET_MAX 107
#define MODEL_VCPUS_MAX  32
#define MODEL_MEMORY_MAX 524288u /* MiB */
#define MODEL_DRIVE_ID   20      /* characters that hostvmm takes */
#define MODEL_WHY_BYTES  512

enum model_state { MODEL_NOT_STARTED, MODEL_RUNNING, MODEL_PAUSED };

struct api {
    pthread_mutex_t lock;
    const char *id;   /* --id */
    const char *jail; /* --jail, for the child; NULL: none */
    json_t *config;
    enum model_state state;
    bool configured;       /* a resource of a boot was set: no snapshot can be loaded any more */
    bool rekindle;         /* the guest runs Rekindle's init from a root image; once it was started */
    const char *log_level; /* the child's --log-level; NULL: as it is without */
    char vsock[MODEL_PATH_MAX + 1];  /* absolute; empty: none */
    char parent[MODEL_PATH_MAX + 1]; /* the last snapshot made of this guest, or that it came from */
    json_t *copies;                  /* paths of this clone's own drives: removed at the end */
    int metrics;                     /* the file of /metrics; -1: none */
    struct child child;
};

int api_init(struct api *api, const char *program);
void api_fini(struct api *api);

/* ---- bodies ---- */

enum model_kind {
    MODEL_TEXT,
    MODEL_PATH,
    MODEL_ID,
    MODEL_FLAG,
    MODEL_NUMBER,
    MODEL_OBJECT,
    MODEL_LIST,
    MODEL_TEXTS, /* one, or a list of them */
};

struct model_member {
    const char *name;
    enum model_kind kind;
    bool required;
    uint64_t most;            /* of a number; 0: 2^53. Of a text's bytes; 0: 1023 */
    const char *const *words; /* of a text: the values there are, ended by NULL */
};

/* Whether `object` has what it must, and nothing that `members` (ended by a row without a name) does not name,
 * each of its kind. Else the response says which. A member that is null is as one that is absent. */
bool model_check(const json_t *object, const struct model_member *members, struct api_response *response);

/* The usual refusal of a body: 400, and `format` behind serde's well-known beginning. */
void model_refuse(struct api_response *response, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Members of checked objects. */
const char *model_text(const json_t *object, const char *name); /* NULL: absent or null */
bool model_flag(const json_t *object, const char *name, bool otherwise);
uint64_t model_number(const json_t *object, const char *name, uint64_t otherwise);
const json_t *model_object(const json_t *object, const char *name); /* NULL: absent or null */

/* The element of a list of the configuration whose `key` is `id`. Its index, or -1. */
int model_find(const json_t *list, const char *key, const char *id);

/* Remove the files of a list of paths, and let go of it. NULL: none. */
void model_unlink(json_t *paths);

/* A copy of `object` without the members that are null. */
json_t *model_copy(const json_t *object);

/* ---- what may be done when; each fills the response in when it gives false ---- */

bool model_before_start(const struct api *api, struct api_response *response);
bool model_after_start(const struct api *api, struct api_response *response);

/* The path from the root, for another process's sake. 0; -ENAMETOOLONG, or what getcwd says. */
int model_absolute(const char *path, char to[MODEL_PATH_MAX + 1]);

/* ---- rate limiters: rates.c ---- */

/* Whether `limiter` (may be NULL) is a rate limiter that can be honoured. */
bool rates_check(const json_t *limiter, struct api_response *response);
/* It as words of hostvmm: each `separator`, `prefix`, then bandwidth=.. or operations=... 0 or -ENOSPC. */
int rates_words(const json_t *limiter, const char *separator, const char *prefix, char *to, size_t size);

/* ---- handlers ---- */

api_handler machine_get_instance, machine_get_version, machine_get_config;
api_handler machine_get, machine_put, machine_patch;
api_handler machine_put_boot_source, machine_put_cpu_config, machine_put_vsock, machine_put_entropy,
    machine_put_serial, machine_refuse_absent;
api_handler drives_put, drives_patch;
api_handler nets_put, nets_patch;
api_handler balloon_get, balloon_put, balloon_patch, balloon_get_statistics, balloon_patch_statistics,
    balloon_hinting_start, balloon_hinting_status, balloon_hinting_stop;
api_handler observe_put_logger, observe_put_metrics;
api_handler start_put_actions, start_patch_vm;
api_handler snapshot_put_create, snapshot_put_load;

/* ---- between the files ---- */

/* Bodies alone, as they are also read back from a snapshot: no file is looked for. */
bool drives_check(const json_t *body, struct api_response *response);
bool nets_check(const json_t *body, struct api_response *response);
bool machine_check_vsock(const json_t *body, struct api_response *response);
/* The drive that the guest's root is on. NULL: there is none. */
const json_t *drives_root(const json_t *config);
/* What hostvmm calls this drive: where Rekindle's init runs, "rootfs" is its image, and nothing else. */
const char *drives_name(const json_t *drive, bool rekindle);

/* Boot what the model says. Whether it runs; else the response tells why not. */
bool start_guest(struct api *api, const struct api_request *request, struct api_response *response);
/* Start the child with these arguments, and wait until it answers; `what` begins the refusal. */
bool start_child(struct api *api, const struct api_request *request, struct api_response *response,
                 const char *const *arguments, const char *what);
/* Tell the child the limits of drives and interfaces that its command line could not; `all`: every one. */
bool start_limits(struct api *api, const struct api_request *request, struct api_response *response,
                  bool all);

/* A line of JSON with the guest's counters behind the file of /metrics. */
bool observe_flush(struct api *api, const struct api_request *request, struct api_response *response);
/* The file of the log from now on. 0 or -errno. */
int observe_log_to(const char *path);

/* Read and apply a configuration file; the guest is not started. Whether all was taken; else `why`. */
bool config_file_apply(struct api *api, const char *path, char why[MODEL_WHY_BYTES]);

#endif
