/*
 * Landlock: of the files that the tree still has, what may be done with each. Where there are no more rights
 * to lose than those named here, a hole in the tree leads nowhere. (Linux, Documentation/userspace-api/
 * landlock.rst; the structures are written out here, as the machine's headers may be older than its kernel.)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/jail/parts.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

#define VERSION_ONLY  1u
#define RULE_BENEATH  1
#define FS_WRITE_FILE (UINT64_C(1) << 1)
#define FS_READ_FILE  (UINT64_C(1) << 2)
#define FS_READ_DIR   (UINT64_C(1) << 3)
#define FS_REMOVE_DIR (UINT64_C(1) << 4)
#define FS_REMOVE     (UINT64_C(1) << 5)
#define FS_MAKE_DIR   (UINT64_C(1) << 7)
#define FS_MAKE_REG   (UINT64_C(1) << 8)
#define FS_MAKE_SOCK  (UINT64_C(1) << 9)
#define FS_REFER      (UINT64_C(1) << 13)
#define FS_TRUNCATE   (UINT64_C(1) << 14)

#define SOCKETS       (FS_READ_DIR | FS_REMOVE | FS_MAKE_SOCK)
#define WHOLE                                                                                                \
    (SOCKETS | FS_WRITE_FILE | FS_READ_FILE | FS_REMOVE_DIR | FS_MAKE_DIR | FS_MAKE_REG | FS_REFER |         \
     FS_TRUNCATE)

struct ruleset {
    uint64_t fs;
    uint64_t net;    /* version 4: TCP */
    uint64_t scoped; /* version 6: abstract sockets, signals */
};

struct beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

/* Everything that a version of the interface can refuse. */
static struct ruleset all_of(long version)
{
    static const unsigned fs_bits[] = {0, 13, 14, 15, 15, 16};
    const unsigned last = sizeof fs_bits / sizeof *fs_bits - 1;
    const unsigned bits = fs_bits[version > (long)last ? last : (unsigned)version];
    return (struct ruleset){
        .fs = (UINT64_C(1) << bits) - 1, .net = version >= 4 ? 3 : 0, .scoped = version >= 6 ? 3 : 0};
}

static int allow(int rules, const struct ruleset *handled, const struct jail_bind *bind)
{
    struct beneath rule = {.allowed = (bind->whole ? WHOLE : SOCKETS) & handled->fs};
    int fd = open(bind->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    rule.parent = fd;
    const int error = syscall(SYS_landlock_add_rule, rules, RULE_BENEATH, &rule, 0) < 0 ? -errno : 0;
    fd_close(&fd);
    return error;
}

int jail_landlock(struct jail *jail)
{
    const long version = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_ONLY);
    if (version < 1)
        return version < 0 ? -errno : -EOPNOTSUPP;
    const struct ruleset handled = all_of(version);
    const size_t size = version >= 6   ? sizeof handled
                        : version >= 4 ? 2 * sizeof(uint64_t)
                                       : sizeof(uint64_t);
    int rules = (int)syscall(SYS_landlock_create_ruleset, &handled, size, 0);
    if (rules < 0)
        return -errno;
    int error = 0;
    for (unsigned i = 0; i < jail->bind_count && error == 0; i++)
        error = allow(rules, &handled, &jail->binds[i]);
    if (error == 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0)
        error = -errno;
    fd_close(&rules);
    jail->landlocked = error == 0;
    return error;
}
