/*
 * Snapshots as files, for the API: where one may appear, whose a memory file is, what the API keeps in one, and
 * copies of drives. A snapshot is a directory (hostvmm/snapshot/FORMAT.md); nothing here reads its state.
 *
 * Functions give 0 or -errno with `why` (SNAPSHOT_FILES_WHY bytes) for people.
 */
#ifndef HOSTVMM_CONTROL_API_SNAPSHOT_FILES_H
#define HOSTVMM_CONTROL_API_SNAPSHOT_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define SNAPSHOT_FILES_WHY  1400
#define SNAPSHOT_FILES_PATH 1023
#define SNAPSHOT_FILES_API  "api.json"

/* May one appear at `path`? `replaces`: one of ours is there. -EEXIST: something else is. */
int snapshot_files_place(const char *path, bool *replaces, char *why);
/* A name beside `path` that nobody has. */
int snapshot_files_beside(const char *path, const char *what, char to[SNAPSHOT_FILES_PATH + 1], char *why);
/* The snapshot at `made` gets the name `path`, at once; what was there of ours is removed. */
int snapshot_files_publish(const char *made, const char *path, char *why);
/* One that nobody wants. Only the files that snapshots have are removed. */
void snapshot_files_remove(const char *path);

/*
 * `link` becomes another name of the memory file of the snapshot that is at `made` now, and at `path` soon: a
 * hard link, or a symbolic one where that cannot be. First under a name of its own, `ready`; its rename is the
 * caller's to do. `ready` is empty where `link` is that file anyway.
 */
int snapshot_files_link(const char *made, const char *path, const char *link,
                        char ready[SNAPSHOT_FILES_PATH + 1], char *why);
/* Is `file` the memory file of the snapshot at `path`: the same file, or one with its id? -EBADMSG: it is not. */
int snapshot_files_owns(const char *path, const char *file, char *why);

/* What the API keeps beside the state. Reading: -ENOENT there is none. */
int snapshot_files_note(const char *path, const json_t *note, char *why);
int snapshot_files_noted(const char *path, json_t **note, char *why);

/* A private copy of a drive's file, beside it: shared blocks where the file system can, holes kept. */
int snapshot_files_copy(const char *path, char to[SNAPSHOT_FILES_PATH + 1], char *why);

#endif
