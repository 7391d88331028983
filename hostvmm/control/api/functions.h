/*
 * What the handlers of our own resources share (functions.c and its siblings): members of a JSON body taken
 * strictly, and an invocation through some guest's vsock. The rest of the API has no business here.
 */
#ifndef HOSTVMM_CONTROL_API_FUNCTIONS_H
#define HOSTVMM_CONTROL_API_FUNCTIONS_H

#include "hostvmm/control/api/api.h"

#define FUNCTIONS_TEXT_MAX 1023 /* as long as hostvmm's options take a path */

enum members_kind {
    MEMBER_TEXT,    /* const char **: 1 to `most` bytes, no control characters */
    MEMBER_EVENT,   /* const json_t **: any text, of no more than `most` bytes */
    MEMBER_NUMBER,  /* uint32_t *: `least` to `most` */
    MEMBER_FLAG,    /* bool * */
    MEMBER_TEXTS,   /* const json_t **: up to `most` texts like MEMBER_TEXT's */
    MEMBER_OBJECTS, /* const json_t **: up to `most` objects, for the caller to look into */
};

struct members_row {
    const char *name;
    enum members_kind kind;
    bool required;
    uint32_t least;
    uint32_t most;
    void *to; /* left as it is when the member is absent */
};

/* The members of `object`, which may be no object at all. What is taken points into it. 0; or -EINVAL, the
 * response saying which member, what is wrong and what is wanted. `where` names the object in that text. */
int members_take(const json_t *object, const char *where, const struct members_row *rows, size_t count,
                 struct api_response *response);

/* A text as MEMBER_TEXT wants it. */
bool members_is_text(const char *text, size_t most);

/* A header of the answer, `value` copied. 0, or -ENOMEM or -E2BIG. */
int functions_header(struct api_response *response, const char *name, const char *value);

/* The body of /invocations, to the function behind this vsock socket; called with the lock, which it gives up
 * while it waits. */
void functions_invoke(struct api *api, const struct api_request *request, struct api_response *response,
                      const char *vsock_path);

api_handler functions_metrics;
api_handler functions_invocation;
api_handler functions_audit;
api_handler functions_clones_post;
api_handler functions_clones_get;
api_handler functions_clone_get;
api_handler functions_clone_delete;
api_handler functions_clone_invoke;

#endif
