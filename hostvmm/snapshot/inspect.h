/* `hostvmm inspect`: a snapshot for people, or as JSON. */
#ifndef HOSTVMM_SNAPSHOT_INSPECT_H
#define HOSTVMM_SNAPSHOT_INSPECT_H

/* The process's exit code (exit.h): 0; INPUT when the snapshot cannot be used or, with --verify, is damaged.
 */
int inspect_main(int argc, char **argv);

#endif
