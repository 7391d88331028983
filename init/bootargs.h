/*
 * bootargs: the boot contract between hostvmm and init, both ways.
 *
 * Down: the kernel command line. hostvmm encodes, init decodes. Space-separated `rekindle.key=value`;
 * everything else on the line is the kernel's or somebody else's and is skipped. Values hold [A-Za-z0-9._:/-]
 * only, at most BOOTARGS_VALUE_MAX bytes, but for net=. A bad or unknown `rekindle.` argument is reported and
 * ignored: the default stays.
 *
 * Up: one byte-wide I/O port pair (bootarg exit_port; 0 means the VMM has none). A byte written to exit_port
 * + 0 is the reason (enum guest_exit) that hostvmm reports when the guest powers off; a byte written to
 * exit_port + 1 marks a stage of the boot (enum guest_stage), which hostvmm times. Unknown values are counted
 * and ignored by hostvmm.
 */
#ifndef INIT_BOOTARGS_H
#define INIT_BOOTARGS_H

#include <stddef.h>
#include <stdint.h>

#define BOOTARGS_LINE_MAX  2048 /* x86-64 kernel limit COMMAND_LINE_SIZE, NUL included */
#define BOOTARGS_VALUE_MAX 63
#define BOOTARGS_NET_MAX   1024 /* of net=, whose value may hold , ; and = besides */
#define BOOTARGS_PREFIX    "rekindle."

struct bootargs {
    char hostname[BOOTARGS_VALUE_MAX + 1]; /* hostname=: RFC 1123 label; default "rekindle" */
    char root[BOOTARGS_VALUE_MAX +
              1]; /* root=: block device name below /dev holding the image; default "vda" */
    char overlay[BOOTARGS_VALUE_MAX +
                 1]; /* overlay=: "tmpfs" (default), "none", or a device name ("vdb", ext4) */
    char agent[BOOTARGS_VALUE_MAX + 1]; /* agent=: absolute path of the agent; default "/sbin/agent" */
    uint32_t agent_restarts;            /* agent_restarts=: 0..100, default 3 */
    uint32_t grace_ms;                  /* grace_ms=: TERM-to-KILL wait at halt, 0..60000, default 2000 */
    char net[BOOTARGS_NET_MAX + 1]; /* net=: the network, as agent/proto/network.h has it; default empty. init
                                       passes it on and does not look into it */
    uint16_t exit_port;             /* exit_port=: 0x-hexadecimal or decimal, 0 (default): none */
};

/* What hostvmm reports when the guest powers off. Also in hostvmm's exit code: see hostvmm/main.c. */
enum guest_exit {
    GUEST_EXIT_ORDERLY = 0,       /* asked for by the agent, by the host or by SIGTERM */
    GUEST_EXIT_NO_ROOT = 1,       /* root device missing, or holds no file system we know */
    GUEST_EXIT_NO_OVERLAY = 2,    /* the writable overlay could not be mounted */
    GUEST_EXIT_NO_AGENT = 3,      /* agent missing or not executable */
    GUEST_EXIT_AGENT_GAVE_UP = 4, /* the agent ended more than agent_restarts times */
    GUEST_EXIT_INIT_FAILED = 5,   /* init itself could not go on */
    GUEST_EXIT_MAX = 5,
};

enum guest_stage {
    GUEST_STAGE_PID1 = 1,            /* first line of PID 1 */
    GUEST_STAGE_AGENT_SPAWNED = 2,   /* root mounted, agent started */
    GUEST_STAGE_AGENT_LISTENING = 3, /* the agent accepts connections on its vsock port */
    GUEST_STAGE_FUNCTION_READY = 4,  /* the function's init returned */
    GUEST_STAGE_FUNCTION_FAILED = 5, /* the function's init failed; the agent says why to who asks */
    GUEST_STAGE_HALTING = 6,         /* orderly halt began */
    GUEST_STAGE_MAX = 6,
};

void bootargs_defaults(struct bootargs *args);

/*
 * Report one argument that was ignored: `what` names it with its value (at most 80 bytes, printable), `why`
 * says why.
 */
typedef void bootargs_report(void *context, const char *what, const char *why);

/* Decode a command line over the defaults in `args`. Never fails; ignored arguments go to `report` (may be
 * NULL). */
void bootargs_decode(struct bootargs *args, const char *line, size_t size, bootargs_report *report,
                     void *context);

/*
 * Append every field that differs from its default to `line` (capacity bytes, NUL-terminated on entry).
 * 0, -ENOSPC, or -EINVAL for a value outside its range.
 */
int bootargs_encode(const struct bootargs *args, char *line, size_t capacity);

#endif
