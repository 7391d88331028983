/*
 * The words of `hostvmm ctl` for people, each one or a few requests. Paths are made absolute, because the
 * server has another working directory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "agent/proto/limits.h"
#include "hostvmm/control/ctl.h"
#include "hostvmm/control/output.h"
#include "hostvmm/control/text.h"
#include "hostvmm/exit.h"

#define PATH_BYTES     1024
#define RESOURCE_BYTES 128

/* ---- bodies ---- */

struct body {
    FILE *out;
    char *text;
    size_t size;
};

static bool body_begin(struct body *body)
{
    *body = (struct body){.out = NULL};
    body->out = open_memstream(&body->text, &body->size);
    return body->out != NULL;
}

static void body_text(struct body *body, const char *before, const char *value)
{
    (void)fputs(before, body->out);
    text_json(body->out, value);
}

/* Send what was written. The exit code. */
static int body_send(const struct ctl *ctl, const char *method, const char *resource, struct body *body)
{
    const bool failed = ferror(body->out) != 0;
    int code = HOSTVMM_EXIT_HOST;
    if (fclose(body->out) == 0 && !failed) {
        const struct ctl_request request = {
            .method = method, .resource = resource, .body = body->text, .body_bytes = body->size};
        code = ctl_send(ctl, &request);
    } else {
        log_error("no memory for a request");
    }
    free(body->text);
    return code;
}

static int send_text(const struct ctl *ctl, const char *method, const char *resource, const char *body)
{
    const struct ctl_request request = {
        .method = method, .resource = resource, .body = body, .body_bytes = body ? strlen(body) : 0};
    return ctl_send(ctl, &request);
}

/* 0, or the exit code, told. */
static int make_absolute(const char *path, char to[PATH_BYTES])
{
    char here[PATH_BYTES] = "";
    if (path[0] != '/' && !getcwd(here, sizeof here)) {
        log_error("%s: the working directory cannot be told: %s", path, strerror(errno));
        return HOSTVMM_EXIT_HOST;
    }
    const int size = snprintf(to, PATH_BYTES, "%s%s%s", here, here[0] ? "/" : "", path);
    if (path[0] != '\0' && size > 0 && size < PATH_BYTES)
        return 0;
    log_error("want a path of 1 to %d bytes", PATH_BYTES - 1);
    return HOSTVMM_EXIT_USAGE;
}

/* Of a drive or a clone: a part of a resource. */
static bool is_name(const char *name)
{
    const size_t size = strlen(name);
    return size > 0 && size <= 64 &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == size;
}

/* ---- words ---- */

/* Its state into `state`; or the exit code, told. */
static int ask_state(const struct ctl *ctl, char *state, size_t capacity, struct ctl_reply *reply)
{
    const struct ctl_request request = {.method = "GET", .resource = "/"};
    const int error = ctl_exchange(ctl->api_sock, &request, ctl->deadline_ns, reply);
    if (error)
        return error == -ETIMEDOUT ? HOSTVMM_EXIT_TIMED_OUT : HOSTVMM_EXIT_HOST;
    if (reply->answer.status != 200)
        return ctl_tell(reply);
    if (ctl_answer_text(reply->body, reply->body_bytes, "state", state, capacity))
        return 0;
    log_error("%s: what answers there is no control API: it has no state", ctl->api_sock);
    return HOSTVMM_EXIT_HOST;
}

static int word_status(const struct ctl *ctl, const char *name)
{
    char state[32];
    char id[80] = "";
    char version[80] = "";
    struct ctl_reply reply;
    (void)name;
    const int code = ask_state(ctl, state, sizeof state, &reply);
    if (code == 0) {
        (void)ctl_answer_text(reply.body, reply.body_bytes, "id", id, sizeof id);
        (void)ctl_answer_text(reply.body, reply.body_bytes, "vmm_version", version, sizeof version);
        (void)printf("%s: %s (hostvmm %s)\n", id, state, version);
    }
    ctl_reply_fini(&reply);
    return code == 0 && fflush(stdout) ? HOSTVMM_EXIT_HOST : code;
}

static int word_start(const struct ctl *ctl, const char *name)
{
    (void)name;
    return send_text(ctl, "PUT", "/actions", "{\"action_type\":\"InstanceStart\"}");
}

static int word_stop(const struct ctl *ctl, const char *name)
{
    (void)name;
    return send_text(ctl, "PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
}

static int word_pause(const struct ctl *ctl, const char *name)
{
    (void)name;
    return send_text(ctl, "PATCH", "/vm", "{\"state\":\"Paused\"}");
}

static int word_resume(const struct ctl *ctl, const char *name)
{
    (void)name;
    return send_text(ctl, "PATCH", "/vm", "{\"state\":\"Resumed\"}");
}

static int create(const struct ctl *ctl, const char *out, const char *mem)
{
    struct body body;
    if (!body_begin(&body))
        return HOSTVMM_EXIT_HOST;
    body_text(&body, "{\"snapshot_path\":", out);
    body_text(&body, ",\"mem_file_path\":", mem);
    body_text(&body, ",\"snapshot_type\":", ctl->is_diff ? "Diff" : "Full");
    (void)fputs(ctl->is_checkpoint ? ",\"checkpoint\":true}" : "}", body.out);
    return body_send(ctl, "PUT", "/snapshot/create", &body);
}

/* As the snapshot is asked for: paused when its agent is not, and then as it was before. */
static int word_snapshot(const struct ctl *ctl, const char *name)
{
    char out[PATH_BYTES];
    char mem[PATH_BYTES];
    char mem_given[PATH_BYTES];
    char state[32];
    struct ctl_reply reply;
    (void)name;
    const int size =
        snprintf(mem_given, sizeof mem_given, "%s%s", ctl->mem ? ctl->mem : ctl->out, ctl->mem ? "" : ".mem");
    int code = size < 0 || size >= PATH_BYTES ? HOSTVMM_EXIT_USAGE : make_absolute(ctl->out, out);
    if (code == 0)
        code = make_absolute(mem_given, mem);
    if (code)
        return code;
    code = ask_state(ctl, state, sizeof state, &reply);
    ctl_reply_fini(&reply);
    if (code)
        return code;
    const bool runs = strcmp(state, "Running") == 0 && !ctl->is_checkpoint;
    if (runs)
        code = word_pause(ctl, NULL);
    if (code)
        return code;
    code = create(ctl, out, mem);
    const int resumed = runs ? word_resume(ctl, NULL) : 0;
    return code ? code : resumed;
}

static int word_metrics(const struct ctl *ctl, const char *name)
{
    (void)name;
    const struct ctl_request request = {
        .method = "GET",
        .resource = "/metrics",
        .accept = "text/plain",
    };
    return ctl->is_prometheus ? ctl_send(ctl, &request) : send_text(ctl, "GET", "/metrics", NULL);
}

static int word_resume_steps(const struct ctl *ctl, const char *name)
{
    (void)name;
    return send_text(ctl, "GET", "/resume-steps", NULL);
}

static int word_clones(const struct ctl *ctl, const char *name)
{
    (void)name;
    return send_text(ctl, "GET", "/clones", NULL);
}

static int word_drive(const struct ctl *ctl, const char *name)
{
    char path[PATH_BYTES];
    char resource[RESOURCE_BYTES];
    struct body body;
    if (!is_name(name)) {
        log_error("drive: want its id, 1 to 64 of A-Z a-z 0-9 . _ -");
        return HOSTVMM_EXIT_USAGE;
    }
    const int code = make_absolute(ctl->path, path);
    if (code)
        return code;
    (void)snprintf(resource, sizeof resource, "/drives/%s", name);
    if (!body_begin(&body))
        return HOSTVMM_EXIT_HOST;
    body_text(&body, "{\"drive_id\":", name);
    body_text(&body, ",\"path_on_host\":", path);
    (void)fputs("}", body.out);
    return body_send(ctl, "PATCH", resource, &body);
}

static int word_balloon(const struct ctl *ctl, const char *name)
{
    char body[48];
    (void)name;
    (void)snprintf(body, sizeof body, "{\"amount_mib\":%u}", (unsigned)ctl->target_mib);
    return send_text(ctl, "PATCH", "/balloon", body);
}

/* ---- invoke ---- */

/* The end of the function's output, undone from base64 and safe for a terminal. */
static void tell_logs(const struct ctl_reply *reply)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[8192];
    unsigned char bytes[sizeof text];
    size_t size = 0;
    unsigned bits = 0;
    unsigned held = 0;
    if (!ctl_answer_header(&reply->answer, reply->data, "X-Log-Result", text, sizeof text))
        return;
    for (const char *at = text; *at && *at != '='; at++) {
        const char *digit = strchr(digits, *at);
        if (!digit)
            return;
        held = held << 6 | (unsigned)(digit - digits);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            bytes[size++] = (unsigned char)(held >> bits);
        }
    }
    text_lines(stderr, "", bytes, size);
}

static int invoke_fields(const struct ctl *ctl, struct ctl_request *request)
{
    if (ctl->limit_ms)
        (void)snprintf(request->fields[0], CTL_HEADER_BYTES, "X-Deadline-Ms: %u", (unsigned)ctl->limit_ms);
    if (ctl->wants_logs)
        (void)snprintf(request->fields[1], CTL_HEADER_BYTES, "X-Log-Type: Tail");
    if (!ctl->trace)
        return 0;
    for (const char *at = ctl->trace; *at; at++)
        if (*at < ' ' || *at > '~')
            return HOSTVMM_EXIT_USAGE;
    const int size = snprintf(request->fields[2], CTL_HEADER_BYTES, "X-Amzn-Trace-Id: %s", ctl->trace);
    return size > 0 && size < CTL_HEADER_BYTES ? 0 : HOSTVMM_EXIT_USAGE;
}

static int word_invoke(const struct ctl *ctl, const char *name)
{
    char resource[RESOURCE_BYTES] = "/invocations";
    struct ctl_request request = {.method = "POST", .resource = resource, .is_raw = true};
    struct ctl_reply reply;
    uint8_t *event = NULL;
    (void)name;
    if (ctl->clone && is_name(ctl->clone))
        (void)snprintf(resource, sizeof resource, "/clones/%s/invocations", ctl->clone);
    if ((ctl->clone && !is_name(ctl->clone)) || invoke_fields(ctl, &request)) {
        log_error("invoke: a --clone or --trace that cannot be one");
        return HOSTVMM_EXIT_USAGE;
    }
    int error = event_read(ctl->event, PROTO_PAYLOAD_MAX_BYTES, &event, &request.body_bytes);
    if (error) {
        log_error("event %s: cannot be used: %s", ctl->event, strerror(-error));
        return HOSTVMM_EXIT_INPUT;
    }
    request.body = event ? (const void *)event : "";
    error = ctl_exchange(ctl->api_sock, &request, ctl->deadline_ns, &reply);
    int code = error == -ETIMEDOUT ? HOSTVMM_EXIT_TIMED_OUT : HOSTVMM_EXIT_HOST;
    if (error == 0) {
        tell_logs(&reply);
        code = ctl_tell(&reply);
    }
    ctl_reply_fini(&reply);
    free(event);
    return code;
}

/* ---- which ---- */

static const struct ctl_word words[] = {
    {.name = "status", .run = word_status},
    {.name = "start", .run = word_start},
    {.name = "stop", .run = word_stop},
    {.name = "pause", .run = word_pause},
    {.name = "resume", .run = word_resume},
    {.name = "snapshot",
     .options = CTL_OUT | CTL_MEM | CTL_DIFF | CTL_CHECKPOINT,
     .needed = CTL_OUT,
     .run = word_snapshot},
    {.name = "invoke",
     .options = CTL_EVENT | CTL_CLONE | CTL_LIMIT | CTL_LOGS | CTL_TRACE,
     .needed = CTL_EVENT,
     .run = word_invoke},
    {.name = "metrics", .options = CTL_PROMETHEUS, .run = word_metrics},
    {.name = "drive", .options = CTL_PATH, .needed = CTL_PATH, .names = 1, .run = word_drive},
    {.name = "balloon", .options = CTL_TARGET, .needed = CTL_TARGET, .run = word_balloon},
    {.name = "resume-steps", .run = word_resume_steps},
    {.name = "clones", .run = word_clones},
};

const struct ctl_word *ctl_word_named(const char *name)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    return NULL;
}
