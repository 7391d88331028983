/*
 * The other end, for the tests of hostvmm/control: an agent as well behaved as a test wants it, in a thread.
 */
#ifndef TESTS_UNIT_CONTROL_FAKE_H
#define TESTS_UNIT_CONTROL_FAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/proto/frame.h"

struct fake {
    int fd; /* the agent's end; the script may close it and set -1 */
    int listen_fd;
    pthread_t thread;
    void (*script)(struct fake *fake);
    struct frame_reader in;
};

/* A connected pair: *client_fd is non-blocking; `script` runs in a thread at the other end. */
void fake_pair(struct fake *fake, int *client_fd, void (*script)(struct fake *fake));

/* A VM's Unix socket at `path`: accepts one connection, answers CONNECT with OK, and runs `script`. */
void fake_vm(struct fake *fake, const char *path, void (*script)(struct fake *fake));

/* Wait for the script to end; closes what it left open. */
void fake_join(struct fake *fake);

void fake_send_bytes(struct fake *fake, const void *data, size_t size);
void fake_send(struct fake *fake, const struct proto_message *message);
/* The next message of the client. False at the end of the stream. */
bool fake_receive(struct fake *fake, struct proto_message *message);

void fake_hello(struct fake *fake, enum proto_state state);
void fake_log(struct fake *fake, const char *id, const char *text);
void fake_error(struct fake *fake, const char *id, const char *type, const char *text);
void fake_response(struct fake *fake, const char *id, const void *data, uint32_t size);
/* Take a whole event; its bytes go to `into` (PROTO_PAYLOAD_MAX_BYTES) unless NULL. Its size. */
uint32_t fake_take_event(struct fake *fake, void *into, char *id);

#endif
