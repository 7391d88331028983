/*
 * A client of the runtime protocol (agent/proto/PROTOCOL.md): hello, wait for the function's init, invoke.
 *
 * For one thread that may block; every call ends at its deadline. Sending and receiving go on at the same
 * time, so that an agent that talks while an event is sent cannot deadlock with us. Everything received is
 * checked; what an answer costs in memory is bounded by PROTO_PAYLOAD_MAX_BYTES.
 */
#ifndef HOSTVMM_CONTROL_CLIENT_H
#define HOSTVMM_CONTROL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/proto/frame.h"
#include "agent/proto/proto.h"

#define CLIENT_PROBLEM_BYTES 512

/* Lambda's error object, copied out of its frame; every text NUL-terminated. */
struct control_failure {
    char type[PROTO_ERROR_TYPE_MAX_BYTES + 1];
    char message[PROTO_ERROR_TEXT_MAX_BYTES + 1];
    char stack[PROTO_STACK_MAX][PROTO_STACK_ENTRY_MAX_BYTES + 1];
    size_t stack_count;
};

/* Called for each piece of the function's output, from within the calls below; `log` is a LOG message. */
typedef void control_log(void *context, const struct proto_message *log);

struct control_client {
    int fd;
    control_log *log; /* may be NULL */
    void *log_context;
    bool greeted;                       /* the agent's hello has come */
    enum proto_state state;             /* of the function, as far as we were told */
    uint64_t init_duration_us;          /* 0 until INIT has come */
    struct control_failure failure;     /* of the last call that gave -EREMOTEIO */
    char problem[CLIENT_PROBLEM_BYTES]; /* for people: what went wrong in the last call that failed */
    size_t out_size;
    size_t out_sent;
    uint8_t out[PROTO_FRAME_MAX_BYTES];
    struct frame_reader in;
};

struct control_request {
    const char *id;    /* 1..PROTO_ID_MAX_BYTES of [A-Za-z0-9._-] */
    const char *trace; /* may be empty */
    uint32_t timeout_ms;
    const void *event;
    uint32_t event_size; /* at most PROTO_PAYLOAD_MAX_BYTES */
};

struct control_answer {
    uint8_t *data; /* malloc'ed by control_client_invoke; free() it. NULL when size is 0 or there is none */
    uint32_t size;
};

/* Take over `fd`, a connected non-blocking stream to the agent, also when this fails. 0 or -errno. */
int control_client_init(struct control_client *client, int fd, bool wants_logs, control_log *log,
                        void *log_context);
void control_client_fini(struct control_client *client);

/*
 * The calls below give 0 or
 *   -EREMOTEIO        the function failed: see client->failure
 *   -ETIMEDOUT        nothing until `deadline_ns` (CLOCK_MONOTONIC)
 *   -EPROTONOSUPPORT  the agent speaks another version
 *   -EPROTO           what came is not this protocol, or the agent ended the connection with an error
 *   -ECONNRESET       the agent or its guest is gone
 *   -EINVAL           a request outside its limits; nothing was sent
 * After anything but 0, -EREMOTEIO and -EINVAL the connection is of no more use.
 */

/* Exchange hellos and wait until the function's init has ended well. */
int control_client_ready(struct control_client *client, uint64_t deadline_ns);

/* One invocation. *answer is set on 0. */
int control_client_invoke(struct control_client *client, const struct control_request *request,
                          struct control_answer *answer, uint64_t deadline_ns);

#endif
