/*
 * The last output of the function that nobody was there to hear: above all that of an init that failed before
 * the first client came. The next client that wants logs gets it. Bounded; what falls out is counted. A
 * checkpoint and a resume clear it: what the original printed is not told by each clone again.
 */
#ifndef AGENT_BACKLOG_H
#define AGENT_BACKLOG_H

#include "agent/proto/proto.h"

#define BACKLOG_BYTES 8192 /* of each stream; one LOG takes it */

struct backlog {
    struct backlog_stream {
        uint64_t dropped_bytes;
        size_t size;
    } streams[2]; /* apart from the texts: whoever only looks touches no page of those */
    uint8_t texts[2][BACKLOG_BYTES];
};

void backlog_add(struct backlog *backlog, enum proto_stream stream, struct proto_slice text);

/* What there is of a stream, as a LOG; false when there is nothing. Its body lies in the backlog. */
bool backlog_get(const struct backlog *backlog, enum proto_stream stream, struct proto_message *log);

void backlog_clear(struct backlog *backlog);

#endif
