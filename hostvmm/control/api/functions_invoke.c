/*
 * POST /invocations: the body is the event, the answer's body is what the function gave. As AWS Lambda's
 * Invoke: a function's own error is 200 with the header X-Function-Error and the error object; the end of its
 * output comes in X-Log-Result when X-Log-Type asks for it.
 *
 * Everything an invocation needs is its own, and the lock is given up while it waits, so several go on at
 * once. The vsock path was copied before: the guest may end meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/proto/errors.h"
#include "hostvmm/control/api/functions.h"
#include "hostvmm/control/client.h"
#include "hostvmm/control/dial.h"
#include "hostvmm/control/text.h"

#define NS_PER_MS      UINT64_C(1000000)
#define DEADLINE_MS    30000u /* when the caller names none */
#define GRACE_MS       10000u /* past it, for the agent to report that it killed the function */
#define TAIL_MAX_BYTES 4096u  /* of the function's output: Lambda's limit */

struct invocation {
    char vsock_path[FUNCTIONS_TEXT_MAX + 1];
    const char *trace;
    uint32_t deadline_ms;
    bool wants_tail;
    struct control_client client;
    struct control_answer answer;
    char problem[DIAL_PROBLEM_BYTES];
    uint64_t tail_bytes; /* in all; the last TAIL_MAX_BYTES are kept, the byte n at n % TAIL_MAX_BYTES */
    unsigned char tail[TAIL_MAX_BYTES];
};

/* ---- the end of the output ---- */

static void on_log(void *context, const struct proto_message *message)
{
    struct invocation *invocation = context;
    const struct proto_slice body = message->u.log.body;
    for (size_t i = 0; i < body.size; i++)
        invocation->tail[invocation->tail_bytes++ % TAIL_MAX_BYTES] = ((const unsigned char *)body.data)[i];
}

static void base64(const unsigned char *bytes, size_t size, char *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        const uint32_t three = (uint32_t)bytes[i] << 16 | (i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0) |
                               (i + 2 < size ? bytes[i + 2] : 0);
        *to++ = digits[three >> 18];
        *to++ = digits[three >> 12 & 63];
        *to++ = i + 1 < size ? digits[three >> 6 & 63] : '=';
        *to++ = i + 2 < size ? digits[three & 63] : '=';
    }
    *to = '\0';
}

/* No header when there was no output: a header has a value. */
static int answer_tail(const struct invocation *invocation, struct api_response *response)
{
    if (invocation->tail_bytes == 0)
        return 0;
    unsigned char bytes[TAIL_MAX_BYTES];
    char text[(TAIL_MAX_BYTES + 2) / 3 * 4 + 1];
    const uint64_t first =
        invocation->tail_bytes > TAIL_MAX_BYTES ? invocation->tail_bytes - TAIL_MAX_BYTES : 0;
    size_t size = 0;
    for (uint64_t at = first; at < invocation->tail_bytes; at++)
        bytes[size++] = invocation->tail[at % TAIL_MAX_BYTES];
    base64(bytes, size, text);
    return functions_header(response, "X-Log-Result", text);
}

/* ---- headers of the request ---- */

static int take_deadline(const char *text, uint32_t *deadline_ms)
{
    uint32_t value = 0;
    const size_t size = strlen(text);
    if (size == 0 || size > 6 || strspn(text, "0123456789") != size)
        return -EINVAL;
    for (size_t i = 0; i < size; i++)
        value = value * 10 + (uint32_t)(text[i] - '0');
    *deadline_ms = value;
    return value >= 1 && value <= PROTO_TIMEOUT_MAX_MS ? 0 : -EINVAL;
}

static int take_headers(struct invocation *invocation, const struct api_request *request,
                        struct api_response *response)
{
    const char *deadline = api_header(request, "X-Deadline-Ms");
    const char *log = api_header(request, "X-Log-Type");
    const char *trace = api_header(request, "X-Amzn-Trace-Id");
    invocation->deadline_ms = DEADLINE_MS;
    invocation->trace = trace ? trace : "";
    invocation->wants_tail = log && strcmp(log, "Tail") == 0;
    const char *wrong = NULL;
    if (deadline && take_deadline(deadline, &invocation->deadline_ms) < 0)
        wrong = "X-Deadline-Ms: want milliseconds, from 1 to 900000";
    else if (log && !invocation->wants_tail && strcmp(log, "None") != 0)
        wrong = "X-Log-Type: want Tail or None";
    else if (trace && !members_is_text(trace, PROTO_TRACE_MAX_BYTES))
        wrong = "X-Amzn-Trace-Id: want a text without control characters, not too long";
    if (wrong)
        api_fail(response, 400, "%s", wrong);
    return wrong ? -EINVAL : 0;
}

/* ---- the answer ---- */

static void fail(const struct invocation *invocation, int error, const char *why,
                 struct api_response *response)
{
    const char *text = why[0] ? why : strerror(-error);
    if (error == -ETIMEDOUT)
        api_fail(response, 504, "no answer within %u ms: %s", invocation->deadline_ms, text);
    else
        api_fail(response, error == -EINVAL ? 400 : error == -ENOMEM ? 500 : 502, "%s", text);
}

/* The function's own error, as Lambda tells it. */
static void answer_failure(const struct control_failure *failure, struct api_response *response)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out)
        text_json_failure(out, failure);
    const bool failed = !out || ferror(out);
    if ((out && fclose(out)) || failed || functions_header(response, "X-Function-Error", "Unhandled") < 0) {
        free(text);
        api_fail(response, 500, "no memory to tell the function's error");
        return;
    }
    response->status = 200;
    response->body = text;
    response->body_bytes = size;
    response->type = "application/json";
}

static void answer(struct invocation *invocation, int error, struct api_response *response)
{
    const struct control_failure *failure = &invocation->client.failure;
    if (error == -EREMOTEIO && strcmp(failure->type, PROTO_ERROR_TIMED_OUT) == 0) {
        fail(invocation, -ETIMEDOUT, failure->message, response);
    } else if (error == -EREMOTEIO) {
        answer_failure(failure, response);
    } else if (error) {
        fail(invocation, error, invocation->problem[0] ? invocation->problem : invocation->client.problem,
             response);
    } else {
        response->status = 200;
        response->body = invocation->answer.data;
        response->body_bytes = invocation->answer.size;
        invocation->answer.data = NULL;
    }
    if (invocation->wants_tail && response->status == 200 && answer_tail(invocation, response) < 0) {
        free(response->body);
        response->body = NULL;
        api_fail(response, 500, "no memory for the function's output");
    }
}

/* ---- the work ---- */

/* Without the lock. 0 or -errno as control_client_invoke's, or control_dial's with `problem`. */
static int converse(struct invocation *invocation, const struct api_request *request)
{
    const uint64_t deadline_ns = clock_monotonic_ns() + invocation->deadline_ms * NS_PER_MS;
    struct control_client *client = &invocation->client;
    const int fd = control_dial(invocation->vsock_path, PROTO_PORT, deadline_ns, invocation->problem);
    if (fd < 0)
        return clock_monotonic_ns() >= deadline_ns ? -ETIMEDOUT : fd; /* nobody there all the time */
    invocation->problem[0] = '\0';
    int error = control_client_init(client, fd, false, on_log, invocation);
    if (error == 0)
        error = control_client_ready(client, deadline_ns);
    const uint64_t now_ns = clock_monotonic_ns();
    if (error)
        return error;
    const struct control_request ask = {
        .id = request->id,
        .trace = invocation->trace,
        .timeout_ms = now_ns + NS_PER_MS < deadline_ns ? (uint32_t)((deadline_ns - now_ns) / NS_PER_MS) : 1,
        .event = request->body,
        .event_size = (uint32_t)request->body_bytes,
    };
    return control_client_invoke(client, &ask, &invocation->answer, deadline_ns + GRACE_MS * NS_PER_MS);
}

void functions_invoke(struct api *api, const struct api_request *request, struct api_response *response,
                      const char *vsock_path)
{
    struct invocation *invocation = NULL;
    if (request->body_bytes > PROTO_PAYLOAD_MAX_BYTES) {
        api_fail(response, 413, "an event has %d bytes at most", PROTO_PAYLOAD_MAX_BYTES);
        return;
    }
    if (strlen(vsock_path) <= FUNCTIONS_TEXT_MAX)
        invocation = calloc(1, sizeof *invocation);
    if (!invocation) {
        api_fail(response, 500, "no memory for an invocation");
        return;
    }
    invocation->client.fd = -1;
    memcpy(invocation->vsock_path, vsock_path, strlen(vsock_path) + 1);
    if (take_headers(invocation, request, response) == 0) {
        api_unlock(api);
        const int error = converse(invocation, request);
        api_lock(api);
        answer(invocation, error, response);
    }
    control_client_fini(&invocation->client);
    free(invocation->answer.data);
    free(invocation);
}

void functions_invocation(struct api *api, const struct api_request *request, struct api_response *response)
{
    const char *vsock_path = api_vsock_path(api);
    if (vsock_path)
        functions_invoke(api, request, response, vsock_path);
    else
        api_fail(response, 400,
                 "no guest with a vsock runs: PUT /vsock, then InstanceStart, or load a snapshot");
}
