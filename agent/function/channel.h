/*
 * The channel between the agent and one native function process (PROTOCOL.md, "The function's side").
 *
 * The agent makes a SOCK_STREAM Unix socket pair, starts the program with one blocking end inherited (not
 * close-on-exec) and its number, in decimal, in REKINDLE_FUNCTION_FD. Frames of agent/proto go both ways:
 *
 *   function -> agent
 *     HELLO       first, once: version, the program's name, wants_logs false, state STARTING
 *     INIT        once, when its init ended: READY, or FAILED with the failure, after which the process
 *                 exits. duration_us is that of the init hook alone; the agent puts its own measure, from the
 *                 spawn, into what it tells the host
 *     RESPONSE    fragments of the answer to the event in hand, in order, without gap
 *     ERROR       instead of an answer, with the event's id: this invocation failed, the process goes on. It
 *                 may come after some fragments and then replaces them. Without an id: the process cannot go
 *                 on and is about to exit
 *     QUIESCED    once for each CHECKPOINT: its hooks have run, or the failure of one, after which it goes on
 *                 as if nothing had been asked
 *     RESUMED     once for each RESUME: likewise; after a failure it is never run again
 *   agent -> function
 *     INVOKE      fragments of one event, in order, only after INIT READY and only when the last event has
 *                 been answered. timeout_ms is what is left of the deadline when the first fragment is sent
 *     CHECKPOINT  between events. Until RESUME (or its own failed QUIESCED) nothing else
 *     RESUME      between events, timeout_ms and generation alone. After a CHECKPOINT, or unasked: a snapshot
 *                 may be taken without one
 *     (end)       shutdown or close: finish and exit 0
 *
 * The agent says nothing else, and no hello: it started the program and knows what it is. Any other type in
 * either direction is a violation: the agent kills the function, the function exits FUNCTION_EXIT_CHANNEL.
 *
 * Before the last fragment of an answer, and before ERROR, INIT, QUIESCED and RESUMED, the function flushes
 * stdout and stderr: an agent that empties both pipes when it has read that frame has the whole output of
 * that invocation.
 */
#ifndef AGENT_FUNCTION_CHANNEL_H
#define AGENT_FUNCTION_CHANNEL_H

#define FUNCTION_ENV_FD "REKINDLE_FUNCTION_FD"

/* Exit codes of a process that runs function_run(). */
#define FUNCTION_EXIT_OK   0 /* the agent closed the channel */
#define FUNCTION_EXIT_INIT 1 /* init failed, and the agent has been told */
#define FUNCTION_EXIT_CHANNEL                                                                                \
    76 /* the agent broke the protocol, or the channel failed: the reason is on stderr */
#define FUNCTION_EXIT_USAGE 64 /* REKINDLE_FUNCTION_FD is not the number of a stream socket */

/* Error types the function's side puts into its failures. Those of the agent are in agent/proto/errors.h. */
#define FUNCTION_ERROR_HANDLE     "Function.Error"           /* handle returned non-zero */
#define FUNCTION_ERROR_INIT       "Function.InitError"       /* init returned non-zero */
#define FUNCTION_ERROR_CHECKPOINT "Function.CheckpointError" /* a hook before the checkpoint did */
#define FUNCTION_ERROR_RESTORE    "Function.RestoreError"    /* a hook after the restore did */
#define FUNCTION_ERROR_TOO_BIG    "Function.ResponseSizeTooLarge"
#define FUNCTION_ERROR_NO_SPACE   "Function.OutOfMemory" /* no memory for the event or the answer */

/*
 * function_connect() asks at the Unix stream socket FUNCTION_CONNECT_SOCKET in the directory that
 * FUNCTION_ENV_CONNECTIONS names (unset: the manifest names no connection; nothing is there outside of a
 * guest): it connects, writes the connection's name and a newline, and reads one line: "ok\n", and from then
 * on the bytes are the server's; or "error ERRNO TEXT\n", ERRNO in decimal, and the end of the stream.
 */
#define FUNCTION_ENV_CONNECTIONS       "REKINDLE_CONNECTIONS"
#define FUNCTION_CONNECT_LINE_BYTES    320 /* with its newline */
#define FUNCTION_CONNECTION_NAME_BYTES 32
#define FUNCTION_CONNECT_SOCKET        ".connect" /* in that directory */

#endif
