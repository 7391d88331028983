/*
 * handoff: what init gives the agent, and the few words the agent says back.
 *
 * The agent is spawned as a child of PID 1 with a fresh session, every signal at its default and unblocked,
 * stdin /dev/null, stdout and stderr the console, working directory /, and exactly these descriptors and
 * variables:
 *
 *   HANDOFF_FD (3)        one end of a SOCK_STREAM socket pair; each byte the agent writes is an enum
 *                         handoff_word. Close-on-exec is off: the agent sets it on
 *   REKINDLE_HANDOFF=1    version of this contract. The agent refuses another with exit code
 *                         HANDOFF_EXIT_VERSION
 *   REKINDLE_ATTEMPT=n    0 for the first start of the agent, n after n restarts
 *   REKINDLE_NETWORK=...  what hostvmm said of the network (agent/proto/network.h), as it was; absent when
 *                         it said nothing
 *   PATH, HOME=/
 *
 * SIGTERM asks the agent to end its function and exit 0 within the grace time. An agent that exits in any
 * other way is restarted by init, up to the bootarg's limit. Mounted before the agent starts: /proc, /sys,
 * /dev, /dev/pts, /dev/shm, /run, /tmp, /sys/fs/cgroup (cgroup2, with the memory, pids, cpu and io
 * controllers enabled in its root's subtree_control), and the writable overlay on /, if any.
 */
#ifndef AGENT_HANDOFF_H
#define AGENT_HANDOFF_H

#define HANDOFF_FD           3
#define HANDOFF_VERSION      1
#define HANDOFF_VERSION_TEXT "1"
#define HANDOFF_ENV_VERSION  "REKINDLE_HANDOFF"
#define HANDOFF_ENV_ATTEMPT  "REKINDLE_ATTEMPT"
#define HANDOFF_ENV_NETWORK  "REKINDLE_NETWORK"
#define HANDOFF_EXIT_VERSION 78

enum handoff_word {
    HANDOFF_LISTENING = 'L',       /* accepting connections on the vsock port */
    HANDOFF_FUNCTION_READY = 'R',  /* the function's init returned */
    HANDOFF_FUNCTION_FAILED = 'F', /* the function's init failed */
    HANDOFF_HALT = 'H',            /* please power off in order */
};

#endif
