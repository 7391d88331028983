/* See backlog.h. The newest text stays: what a program says last tells why it ended. */
#include "agent/backlog.h"

#include <string.h>

static size_t index_of(enum proto_stream stream)
{
    return stream == PROTO_STREAM_STDOUT ? 0 : 1;
}

void backlog_add(struct backlog *backlog, enum proto_stream stream, struct proto_slice text)
{
    struct backlog_stream *kept = &backlog->streams[index_of(stream)];
    uint8_t *const kept_text = backlog->texts[index_of(stream)];
    if (text.size > BACKLOG_BYTES) {
        const size_t skipped = text.size - BACKLOG_BYTES;
        kept->dropped_bytes += skipped;
        text.data += skipped;
        text.size -= skipped;
    }
    const size_t room = BACKLOG_BYTES - kept->size;
    if (text.size > room) {
        const size_t out = text.size - room;
        kept->dropped_bytes += out;
        kept->size -= out;
        memmove(kept_text, kept_text + out, kept->size);
    }
    if (text.size > 0)
        memcpy(kept_text + kept->size, text.data, text.size);
    kept->size += text.size;
}

bool backlog_get(const struct backlog *backlog, enum proto_stream stream, struct proto_message *log)
{
    const struct backlog_stream *kept = &backlog->streams[index_of(stream)];
    *log = (struct proto_message){
        .type = PROTO_LOG,
        .u.log = {.stream = stream,
                  .dropped_bytes = kept->dropped_bytes,
                  .body = {backlog->texts[index_of(stream)], kept->size}},
    };
    return kept->size > 0;
}

void backlog_clear(struct backlog *backlog)
{
    /* Mostly empty: a clone that writes here copies a page. */
    for (int i = 0; i < 2; i++)
        if (backlog->streams[i].size > 0 || backlog->streams[i].dropped_bytes > 0)
            backlog->streams[i] = (struct backlog_stream){0};
}
