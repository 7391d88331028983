/*
 * One client of the agent: its connection, its greeting, the message it waits with, its share of the logs.
 *
 *      FREE -- accepted, our HELLO sent --> GREETING -- its HELLO --> OPEN -- gone, or refused --> FREE
 *
 * A message that cannot be taken yet is held in the client's own frame buffer, and the client is not read
 * meanwhile: that is the whole queue of waiting invocations, one a client, first come first served by
 * `order`.
 */
#ifndef AGENT_CLIENT_H
#define AGENT_CLIENT_H

#include "agent/failure.h"
#include "agent/link.h"

#define CLIENT_GREETING_LIMIT_MS 10000

struct session;

enum client_state { CLIENT_FREE, CLIENT_GREETING, CLIENT_OPEN };

struct client {
    enum client_state state;
    struct link link;
    bool wants_logs;
    bool holding;                              /* `held` has not been taken */
    struct proto_message held;                 /* its slices lie in the frame reader */
    uint64_t order;                            /* of arrival of a held event; 0: none waits */
    uint64_t deadline_ns;                      /* of a held event, or of the greeting */
    char discarded_id[PROTO_ID_MAX_BYTES + 1]; /* failed: what is still sent of its event is thrown away */
    uint64_t dropped_bytes;                    /* of logs, since the last that went out */
    enum proto_stream dropped_stream;
};

/* Take over `fd` in a FREE client and greet. 0 or -errno. */
int client_open(struct client *client, struct session *session, int fd);
/* Forgets it everywhere; its running invocation is cancelled. */
void client_close(struct client *client, struct session *session);

/* Take what has come from it, as far as that goes now. True when something was taken. */
bool client_pump(struct client *client, struct session *session);

/* Fail one request, or with an empty id the connection, which is not closed by this. A client that does not
 * even take this is. */
void client_fail(struct client *client, struct session *session, struct proto_slice id,
                 const struct failure *failure);
/* Fail the connection and close it. */
void client_refuse(struct client *client, struct session *session, const struct failure *failure);

/* Send it a message that it has to get; closed if it does not take it. */
void client_say(struct client *client, struct session *session, const struct proto_message *message);

/* Tell it how the function's init ended. */
void client_tell_init(struct client *client, struct session *session);

/* A piece of output, dropped and counted when there is no room. */
void client_log(struct client *client, struct proto_slice id, enum proto_stream stream,
                struct proto_slice text);
/* Say now what was dropped and not said yet: the end of its invocation follows. */
void client_log_dropped(struct client *client, struct proto_slice id);

#endif
