/*
 * One end of a protocol connection, for tests: the client's towards the agent, or the function's. Any call
 * that cannot go on runs `idle`: the session under test in the same thread, or a bounded poll on another
 * process.
 */
#ifndef TESTS_UNIT_AGENT_TALK_H
#define TESTS_UNIT_AGENT_TALK_H

#include "agent/proto/frame.h"
#include "agent/proto/proto.h"

struct talk {
    int fd;
    void (*idle)(struct talk *talk);
    struct frame_reader in;
    struct proto_message message; /* the last received; slices valid until the next call */
};

void talk_init(struct talk *talk, int fd, void (*idle)(struct talk *talk));
void talk_close(struct talk *talk);

/* Wait for the fd, at most 20 s: longer fails the test. */
void talk_poll(struct talk *talk);

void talk_send_bytes(struct talk *talk, const void *data, size_t size);
void talk_send(struct talk *talk, const struct proto_message *message);

/* The next message; NULL at the end of the stream. */
const struct proto_message *talk_next(struct talk *talk);
/* The next message that is not a LOG. */
const struct proto_message *talk_next_but_log(struct talk *talk);
/* True when nothing has come and nothing comes while the session settles. */
bool talk_is_quiet(struct talk *talk);

void talk_hello(struct talk *talk, bool wants_logs);
/* Hello both ways and INIT READY. */
void talk_ready(struct talk *talk, bool wants_logs);
void talk_invoke(struct talk *talk, const char *id, const char *event, uint32_t timeout_ms);
void talk_invoke_bytes(struct talk *talk, const char *id, const void *event, uint32_t size,
                       uint32_t timeout_ms);
void talk_fragment(struct talk *talk, const char *id, uint32_t total, uint32_t offset, uint32_t size);
void talk_respond(struct talk *talk, const char *id, const char *answer);
void talk_shutdown(struct talk *talk);

/* Expect the answer `text` to `id`; the error `type` to `id` (NULL: of the connection) with `part` in its
 * message. LOG messages in between are skipped. */
void talk_expect_answer(struct talk *talk, const char *id, const char *text);
void talk_expect_error(struct talk *talk, const char *id, const char *type, const char *part);
void talk_expect_end(struct talk *talk);

/* Receive a whole answer into `data` (capacity bytes); its size. Logs go to `logs` when given. */
struct talk_logs {
    char text[2][65536]; /* stdout, stderr: the first bytes of each */
    size_t size[2];
    uint64_t total_bytes;
    uint64_t dropped_bytes;
    char id[PROTO_ID_MAX_BYTES + 1]; /* of the last */
};
size_t talk_answer(struct talk *talk, const char *id, void *data, size_t capacity, struct talk_logs *logs);
void talk_note_log(struct talk_logs *logs, const struct proto_message *log);

#endif
