/* Opening a snapshot: see snapshot.h. Everything is opened for reading and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/snapshot/snapshot.h"

#define TRAILER_MAGIC "RKNDMEM\n"

void snapshot_trailer_make(uint8_t trailer[SNAPSHOT_TRAILER_BYTES], const uint8_t id[SNAPSHOT_ID_BYTES])
{
    memset(trailer, 0, SNAPSHOT_TRAILER_BYTES);
    memcpy(trailer, TRAILER_MAGIC, sizeof TRAILER_MAGIC - 1);
    memcpy(trailer + 8, id, SNAPSHOT_ID_BYTES);
}

static int say(char *why, int error, const char *what)
{
    (void)snprintf(why, SNAPSHOT_WHY_BYTES, "%s: %s", what, strerror(-error));
    return error;
}

static int read_state(struct snapshot *snapshot, int directory, char *why)
{
    struct stat status;
    int fd = openat(directory, SNAPSHOT_STATE, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return say(why, -errno, SNAPSHOT_STATE);
    int error = 0;
    if (fstat(fd, &status) < 0)
        error = say(why, -errno, SNAPSHOT_STATE);
    else if (!S_ISREG(status.st_mode) || status.st_size > (off_t)(STATE_MAX_BYTES + SNAPSHOT_HEADER_BYTES)) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "state: no regular file of at most %u bytes",
                       STATE_MAX_BYTES + SNAPSHOT_HEADER_BYTES);
        error = -EBADMSG;
    }
    if (error == 0) {
        snapshot->file_bytes = (size_t)status.st_size;
        snapshot->file =
            malloc(snapshot->file_bytes + 1); /* an empty file is refused later, with its reason */
        error = snapshot->file ? fd_read_all(fd, snapshot->file, snapshot->file_bytes) : -ENOMEM;
        if (error)
            (void)say(why, error, SNAPSHOT_STATE);
    }
    fd_close(&fd);
    return error;
}

/* A memory file is RAM and a trailer that says whose it is. */
static int check_memory(const struct snapshot *snapshot, const struct snapshot_layer *layer, const char *name,
                        char *why)
{
    uint8_t wanted[SNAPSHOT_TRAILER_BYTES];
    uint8_t found[SNAPSHOT_TRAILER_BYTES] = {0};
    struct stat status;
    const uint64_t bytes = snapshot->machine.memory_bytes + SNAPSHOT_TRAILER_BYTES;
    if (fstat(layer->fd, &status) < 0)
        return say(why, -errno, name);
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != bytes) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "%s: %lld bytes, %llu wanted: the file is not whole", name,
                       (long long)status.st_size, (unsigned long long)bytes);
        return -EBADMSG;
    }
    snapshot_trailer_make(wanted, layer->id);
    if (pread(layer->fd, found, sizeof found, (off_t)snapshot->machine.memory_bytes) != (ssize_t)sizeof found)
        return say(why, -EIO, name);
    if (memcmp(found, wanted, sizeof found) == 0)
        return 0;
    (void)snprintf(why, SNAPSHOT_WHY_BYTES, "%s: the memory of another snapshot than the one wanted here",
                   name);
    return -EBADMSG;
}

static int open_layer(struct snapshot *snapshot, int directory, struct snapshot_layer *layer, char *why)
{
    char name[CONFIG_PATH_MAX + 16];
    const bool own = layer->path[0] == '\0';
    (void)snprintf(name, sizeof name, "%s%s" SNAPSHOT_MEMORY, layer->path, own ? "" : "/");
    layer->fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (layer->fd >= 0)
        return check_memory(snapshot, layer, name, why);
    const int error = -errno;
    (void)snprintf(
        why, SNAPSHOT_WHY_BYTES, "%s: %s%s", name, strerror(errno),
        own ? "" : "; the snapshot it belongs to is needed too: this one holds only what changed since");
    return error;
}

static int parse(struct snapshot *snapshot, char *why)
{
    const int64_t body = snapshot_header_check(snapshot->file, snapshot->file_bytes, why);
    if (body < 0)
        return (int)body;
    struct state_reader *in = &snapshot->state;
    state_reader_init(in, snapshot->file + SNAPSHOT_HEADER_BYTES, (size_t)body);
    state_get_map(in, NULL, SNAPSHOT_STATE_FIELDS);
    snapshot_manifest_load(snapshot, in);
    if (!in->failed)
        return 0;
    (void)snprintf(why, SNAPSHOT_WHY_BYTES, "state: %s", in->why);
    return -EBADMSG;
}

int snapshot_open(struct snapshot *snapshot, const char *path, char *why)
{
    /* Its tables are large and mostly unused: what the manifest does not fill in is not touched. */
    snapshot->file = NULL;
    snapshot->prefetch = NULL;
    snapshot->layer_count = snapshot->run_count = 0;
    if (strlen(path) > CONFIG_PATH_MAX)
        return say(why, -ENAMETOOLONG, path);
    (void)snprintf(snapshot->path, sizeof snapshot->path, "%s", path);
    int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return say(why, -errno, "its directory");
    int error = read_state(snapshot, directory, why);
    if (error == 0)
        error = parse(snapshot, why);
    for (unsigned i = 0; i < snapshot->layer_count && error == 0; i++)
        error = open_layer(snapshot, directory, &snapshot->layers[i], why);
    fd_close(&directory);
    if (error)
        snapshot_close(snapshot);
    return error;
}

void snapshot_close(struct snapshot *snapshot)
{
    for (unsigned i = 0; i < snapshot->layer_count; i++)
        fd_close(&snapshot->layers[i].fd);
    snapshot->layer_count = 0;
    free(snapshot->file);
    snapshot->file = NULL;
}

unsigned snapshot_runs(const struct snapshot *snapshot, struct guest_run runs[SNAPSHOT_RUNS_MAX])
{
    for (unsigned i = 0; i < snapshot->run_count; i++)
        runs[i] = (struct guest_run){.page_count = snapshot->runs[i].page_count,
                                     .fd = snapshot->layers[snapshot->runs[i].layer].fd};
    return snapshot->run_count;
}

uint64_t snapshot_disk_bytes(const struct snapshot *snapshot)
{
    static const char *const names[] = {SNAPSHOT_STATE, SNAPSHOT_MEMORY, SNAPSHOT_CHUNKS};
    uint64_t bytes = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[CONFIG_PATH_MAX + 16];
        struct stat status;
        (void)snprintf(path, sizeof path, "%s/%s", snapshot->path, names[i]);
        if (stat(path, &status) == 0)
            bytes += (uint64_t)status.st_blocks * 512;
    }
    return bytes;
}
