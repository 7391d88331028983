/*
 * What an HTTP/1.1 server answers, as far as the client of the control API (ctl.c) needs it: pure, over bytes
 * that have come so far. Strict: what RFC 9112 lets a reader forgive is refused here, as our own server sends
 * none of it.
 */
#ifndef HOSTVMM_CONTROL_CTL_ANSWER_H
#define HOSTVMM_CONTROL_CTL_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CTL_HEAD_MAX_BYTES  16384
#define CTL_BODY_MAX_BYTES  (8u << 20) /* an invocation's answer, and to spare */
#define CTL_HEADERS_MAX     64
#define CTL_CHUNK_MAX_BYTES 32 /* of a chunk's line */

struct ctl_answer {
    int status;        /* 200 to 599 */
    size_t head_bytes; /* with the empty line; 0: it has not come yet */
    bool is_chunked;
    size_t length;     /* of the body, when it is not chunked */
    size_t body_bytes; /* the body, at data + head_bytes, once all of it has come */
    const char *why;   /* of -EPROTO */
};

/*
 * `data` has the first `size` bytes of the answer. 1: all of it is there (what follows is not looked at); 0:
 * more is to come; -EPROTO, answer->why says what is wrong. Chunks are put together in place, once, when 1 is
 * given. Begin with a zeroed *answer; call with more bytes until it is not 0.
 */
int ctl_answer_parse(struct ctl_answer *answer, char *data, size_t size);

/* The value of the first header of this name, into `to`. False: there is none, or it is too long. After
 * head_bytes is set. */
bool ctl_answer_header(const struct ctl_answer *answer, const char *data, const char *name, char *to,
                       size_t capacity);

/*
 * The text of the member `name` of the JSON object in these bytes, of its first level, escapes undone; what
 * cannot be shown on a terminal becomes '?'. False: the bytes are no object, or have no such text. Cut at
 * capacity.
 */
bool ctl_answer_text(const char *json, size_t size, const char *name, char *to, size_t capacity);

#endif
