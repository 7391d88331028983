/*
 * A snapshot on disk (FORMAT.md): a directory that appears whole or not at all.
 *
 *   state    header with version and digest; then what the machine is and the state of its every part
 *   memory   the guest's RAM, page for page at its own offset; zero pages are holes
 *   chunks   a SHA-256 of each 512 KiB of RAM as a restore sees it
 *
 * A diff's memory file holds only the pages that changed; its runs say for all of RAM in which snapshot's
 * memory file each page is found, so a restore never looks at its parents' states.
 *
 * Functions give 0 or -errno with `why` (SNAPSHOT_WHY_BYTES) for people: which part, what was found, what
 * was wanted.
 */
#ifndef HOSTVMM_SNAPSHOT_SNAPSHOT_H
#define HOSTVMM_SNAPSHOT_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/proto/network.h"
#include "hostvmm/config.h"
#include "hostvmm/device/virtio/balloon_plan.h"
#include "hostvmm/memory.h"
#include "hostvmm/snapshot/codec.h"
#include "hostvmm/snapshot/prefetch.h"

#define SNAPSHOT_VERSION       3u
#define SNAPSHOT_WHY_BYTES     1600
#define SNAPSHOT_ID_BYTES      16
#define SNAPSHOT_DIGEST_BYTES  32
#define SNAPSHOT_CHUNK_BYTES   (512u << 10)
#define SNAPSHOT_LAYERS_MAX    16   /* memory files of one snapshot, its own included */
#define SNAPSHOT_RUNS_MAX      1024 /* each is one mmap of a restore */
#define SNAPSHOT_DRIVES_MAX    (1 + CONFIG_DRIVES_MAX)

#define SNAPSHOT_TRAILER_BYTES 32u /* behind RAM in a memory file: whose it is */

#define SNAPSHOT_STATE         "state"
#define SNAPSHOT_MEMORY        "memory"
#define SNAPSHOT_CHUNKS        "chunks"

struct snapshot_drive {
    char id[CONFIG_DRIVE_ID_MAX + 1];
    char path[CONFIG_PATH_MAX + 1]; /* when the snapshot was taken; absolute */
    bool read_only;
    bool root; /* the image the guest runs from */
};

/* What the guest has: a restore makes the same. */
struct snapshot_machine {
    uint64_t memory_bytes;
    unsigned vcpu_count;
    struct snapshot_drive drives[SNAPSHOT_DRIVES_MAX];
    unsigned drive_count;
    uint32_t vsock_cid; /* 0: no vsock */
    bool rng;
    struct virtio_balloon_plan
        balloon;            /* of target and statistics' interval, the device's state has the last */
    struct network network; /* its interfaces, as the guest was told of them */
    bool agent;             /* Rekindle's init and agent run in it: a clone can be asked to become unique */
};

/* A memory file. The first is the snapshot's own. */
struct snapshot_layer {
    uint8_t id[SNAPSHOT_ID_BYTES];  /* of the snapshot it belongs to */
    char path[CONFIG_PATH_MAX + 1]; /* its directory: absolute, or beside ours; empty for our own */
    int fd;                         /* its memory file, read-only */
};

struct snapshot_run {
    uint64_t page_count;
    unsigned layer;
};

struct snapshot {
    char path[CONFIG_PATH_MAX + 1]; /* the directory */
    uint8_t id[SNAPSHOT_ID_BYTES];  /* random */
    uint8_t parent[SNAPSHOT_ID_BYTES];
    bool has_parent;
    bool consented;      /* the agent had quiesced */
    uint64_t created_ns; /* CLOCK_REALTIME */
    struct snapshot_machine machine;
    struct snapshot_layer layers[SNAPSHOT_LAYERS_MAX];
    unsigned layer_count;
    struct snapshot_run runs[SNAPSHOT_RUNS_MAX];
    unsigned run_count;
    uint8_t chunks_digest[SNAPSHOT_DIGEST_BYTES]; /* of the file chunks */

    const struct prefetch *prefetch; /* the opener's, for a restore; NULL: none */

    uint8_t *file; /* the whole of state, allocated */
    size_t file_bytes;
    struct state_reader state; /* behind the manifest, at the parts of the machine */
};

/*
 * Read the state file, check its header and digest, parse what the machine is, open its memory files. Their
 * sizes are checked, their contents are not (snapshot_verify). `snapshot` needs no initialisation, but one
 * that is open must be closed first. -EBADMSG damaged or not a snapshot, -ENOENT,
 * -EPROTONOSUPPORT another version or architecture, -errno.
 */
int snapshot_open(struct snapshot *snapshot, const char *path, char *why);
void snapshot_close(struct snapshot *snapshot);

/* Into one that is all zero. Only what there is: room for the drives that there might be is most of its pages. */
void snapshot_machine_copy(struct snapshot_machine *to, const struct snapshot_machine *from);

/* RAM's runs as descriptors. */
unsigned snapshot_runs(const struct snapshot *snapshot, struct guest_run runs[SNAPSHOT_RUNS_MAX]);

/* Read all of RAM and compare it with its digests. -EBADMSG: `why` names the chunk. */
int snapshot_verify(const struct snapshot *snapshot, char *why);

/* Bytes that the snapshot's own files take on disk. */
uint64_t snapshot_disk_bytes(const struct snapshot *snapshot);

/* ---- between the room's files ---- */

#define SNAPSHOT_HEADER_BYTES 64u

/* What ends a memory file: magic and the snapshot's id. */
void snapshot_trailer_make(uint8_t trailer[SNAPSHOT_TRAILER_BYTES], const uint8_t id[SNAPSHOT_ID_BYTES]);

/* The header of a state whose body is this. */
void snapshot_header_make(uint8_t header[SNAPSHOT_HEADER_BYTES], const void *body, size_t size);
/* Check a whole state file. The body's size, or -EBADMSG, -EPROTONOSUPPORT with `why`. */
int64_t snapshot_header_check(const uint8_t *file, size_t size, char *why);

/* The manifest, both ways: everything of struct snapshot that the state file holds. */
void snapshot_manifest_save(const struct snapshot *snapshot, struct state_writer *out);
void snapshot_manifest_load(struct snapshot *snapshot, struct state_reader *in);
/* The map that holds the manifest and the parts of the machine has this many fields. */
#define SNAPSHOT_STATE_FIELDS 11u

/* Digest of one chunk of RAM, read from its layers' files. 0 or -errno. */
int snapshot_chunk_digest(const struct snapshot *snapshot, uint64_t chunk,
                          uint8_t digest[SNAPSHOT_DIGEST_BYTES]);
uint64_t snapshot_chunk_count(const struct snapshot *snapshot);

#endif
