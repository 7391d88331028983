/*
 * hostvmm audit: restore many clones of one snapshot, ask each the same, and look for what two of them share.
 * Standard output carries the report. Exit codes: control.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/audit_clones.h"
#include "hostvmm/control/audit_report.h"
#include "hostvmm/control/client.h"
#include "hostvmm/control/control.h"
#include "hostvmm/control/dial.h"
#include "hostvmm/control/lifeline.h"
#include "hostvmm/control/output.h"
#include "hostvmm/control/text.h"
#include "hostvmm/exit.h"

#define NS_PER_MS  UINT64_C(1000000)
#define GRACE_MS   10000u /* past --timeout, for the agent to report that it killed the function */
#define SLICE_MS   2000u
#define COLLECT_MS 30000u
#define CLONES_MAX 100000u
#define PROGRAM    "/proc/self/exe"
#define MAX_MS     900000u

static const char usage[] =
    "usage: hostvmm audit --snapshot DIR --clones N [options] [-- restore option...]\n"
    "  --snapshot DIR       the snapshot\n"
    "  --clones N           how many clones to compare, 2 to 100000\n"
    "  --batch B            how many run at once, 1 to 64 (8)\n"
    "  --event FILE|-       what each clone is asked (an empty event)\n"
    "  --timeout MS         how long the function may take (30000)\n"
    "  --wait MS            how long a clone may take until it serves (60000)\n"
    "  --keep-random FILE   append the random bytes that the clones gave to FILE, for tests of randomness\n"
    "  --json               the report as JSON\n";

struct audit {
    const char *snapshot;
    const char *event_path;
    const char *keep_path;
    uint32_t clones;
    uint32_t batch;
    uint32_t timeout_ms;
    uint32_t wait_ms;
    bool json;
    char *const *further;

    int keep_fd;
    uint8_t *event;
    size_t event_size;
    struct audit_facts facts;
    struct audit_tokens tokens;

    uint32_t clone; /* in hand, from 1 */
    uint64_t before_ns;
    int error; /* of what a callback did */
    bool collected;
    struct lifeline lifeline;
    struct lifeline_outcome outcome;
    struct control_client client;
    size_t output_size;
    char output[AUDIT_TEXT_MAX + 1]; /* one more, so that a cut is seen */
    struct {
        char name[PROTO_NAME_MAX_BYTES + 1];
        uint8_t body[256];
        size_t size;
    } told[LIFELINE_FACTS_MAX];
    unsigned told_count;
};

/* ---- command line ---- */

static const struct option long_options[] = {
    {"snapshot", required_argument, NULL, 's'},
    {"clones", required_argument, NULL, 'c'},
    {"batch", required_argument, NULL, 'b'},
    {"event", required_argument, NULL, 'e'},
    {"timeout", required_argument, NULL, 't'},
    {"wait", required_argument, NULL, 'w'},
    {"keep-random", required_argument, NULL, 'k'},
    {"json", no_argument, NULL, 'j'},
    {NULL, 0, NULL, 0},
};

static int number(const char *name, uint32_t least, uint32_t most, uint32_t *value)
{
    char *end;
    errno = 0;
    const unsigned long parsed = strtoul(optarg, &end, 10);
    if (errno || *end != '\0' || optarg[0] < '0' || optarg[0] > '9' || parsed < least || parsed > most) {
        log_error("--%s %s: give a number from %" PRIu32 " to %" PRIu32, name, optarg, least, most);
        return -EINVAL;
    }
    *value = (uint32_t)parsed;
    return 0;
}

static int take_option(struct audit *audit, int code)
{
    switch (code) {
    case 's':
        audit->snapshot = optarg;
        return 0;
    case 'e':
        audit->event_path = optarg;
        return 0;
    case 'k':
        audit->keep_path = optarg;
        return 0;
    case 'j':
        audit->json = true;
        return 0;
    case 'c':
        return number("clones", 2, CLONES_MAX, &audit->clones);
    case 'b':
        return number("batch", 1, AUDIT_BATCH_MAX, &audit->batch);
    case 't':
        return number("timeout", 1, MAX_MS, &audit->timeout_ms);
    case 'w':
        return number("wait", 1, MAX_MS, &audit->wait_ms);
    default:
        return -EINVAL; /* getopt has said what */
    }
}

static int parse(struct audit *audit, int argc, char **argv)
{
    int code;
    optind = 1;
    while ((code = getopt_long(argc, argv, "+", long_options, NULL)) != -1)
        if (take_option(audit, code) < 0)
            return -EINVAL;
    if (optind < argc && strcmp(argv[optind - 1], "--") != 0) {
        log_error("audit: unexpected argument '%s'; options of restore come after --", argv[optind]);
        return -EINVAL;
    }
    audit->further = argv + optind;
    if (audit->snapshot && audit->clones > 0)
        return 0;
    log_error("audit: --snapshot and --clones are needed");
    return -EINVAL;
}

/* ---- one clone ---- */

static void keep(struct audit *audit, const void *data, size_t size)
{
    if (audit->keep_fd >= 0 && audit->error == 0)
        audit->error = fd_write_all(audit->keep_fd, data, size);
}

static void on_log(void *context, const struct proto_message *message)
{
    struct audit *audit = context;
    const struct proto_slice body = message->u.log.body;
    const size_t room = sizeof audit->output - audit->output_size;
    const size_t size = body.size < room ? body.size : room;
    if (size > 0)
        memcpy(audit->output + audit->output_size, body.data, size);
    audit->output_size += size;
}

/* The clone's number is put before what is said of it. The exit code. */
static int fail(const struct audit *audit, int error, const char *why)
{
    log_error("clone %" PRIu32 ": %s", audit->clone, why[0] ? why : strerror(-error));
    audit_clones_tell();
    return error == -ETIMEDOUT   ? HOSTVMM_EXIT_TIMED_OUT
           : error == -EREMOTEIO ? HOSTVMM_EXIT_FUNCTION
                                 : HOSTVMM_EXIT_HOST;
}

/* In slices, so that the end of `restore` is seen. The descriptor or -errno. */
static int dial(const char *socket, uint64_t deadline_ns, char *why)
{
    for (;;) {
        const uint64_t now_ns = clock_monotonic_ns();
        const uint64_t slice_ns = now_ns + SLICE_MS * NS_PER_MS;
        const int fd = control_dial(socket, PROTO_PORT, slice_ns < deadline_ns ? slice_ns : deadline_ns, why);
        if (fd >= 0 || clock_monotonic_ns() >= deadline_ns)
            return fd;
        if (!audit_clones_alive()) {
            (void)snprintf(why, DIAL_PROBLEM_BYTES, "hostvmm restore ended before its clones served");
            return -ECONNREFUSED;
        }
    }
}

static int invoke(struct audit *audit, const char *socket, uint64_t deadline_ns)
{
    char why[DIAL_PROBLEM_BYTES];
    struct control_answer answer;
    const struct control_request request = {.id = "audit",
                                            .trace = "",
                                            .timeout_ms = audit->timeout_ms,
                                            .event = audit->event,
                                            .event_size = (uint32_t)audit->event_size};
    audit->output_size = 0;
    const int fd = dial(socket, deadline_ns, why);
    if (fd < 0)
        return fail(audit, fd, why);
    int error = control_client_init(&audit->client, fd, true, on_log, audit);
    if (error == 0)
        error = control_client_ready(&audit->client, deadline_ns);
    if (error == 0)
        error = control_client_invoke(&audit->client, &request, &answer,
                                      clock_monotonic_ns() + (audit->timeout_ms + GRACE_MS) * NS_PER_MS);
    if (error == -EREMOTEIO) {
        text_json_failure(stderr, &audit->client.failure);
        (void)putc('\n', stderr);
    }
    control_client_fini(&audit->client);
    if (error)
        return fail(audit, error, error == -EREMOTEIO ? "its function failed" : audit->client.problem);
    error = audit_tokens_add(&audit->tokens, audit->clone, AUDIT_ANSWER, answer.data, answer.size);
    free(answer.data);
    if (error == 0)
        error =
            audit_tokens_add(&audit->tokens, audit->clone, AUDIT_OUTPUT, audit->output, audit->output_size);
    return error ? fail(audit, error, "") : 0;
}

/* Kept until the host's clock after them is known. */
static void on_fact(void *context, struct proto_slice name, struct proto_slice body)
{
    struct audit *audit = context;
    if (audit->told_count == LIFELINE_FACTS_MAX || body.size > sizeof audit->told[0].body) {
        audit->error = -EPROTO;
        return;
    }
    memcpy(audit->told[audit->told_count].name, name.data, name.size);
    audit->told[audit->told_count].name[name.size] = '\0';
    if (body.size > 0)
        memcpy(audit->told[audit->told_count].body, body.data, body.size);
    audit->told[audit->told_count++].size = body.size;
}

static void on_collected(void *context, const struct lifeline_outcome *outcome)
{
    struct audit *audit = context;
    audit->outcome = *outcome;
    audit->collected = true;
}

static uint64_t realtime_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void take_facts(struct audit *audit)
{
    const uint64_t after_ns = realtime_ns();
    for (unsigned i = 0; i < audit->told_count && audit->error == 0; i++) {
        const struct proto_slice body = {audit->told[i].body, audit->told[i].size};
        audit->error = audit_facts_add(&audit->facts, audit->clone, proto_text(audit->told[i].name), body,
                                       audit->before_ns, after_ns);
        for (unsigned j = 0; j < AUDIT_SOURCES; j++)
            if (audit_sources[j].is_random && strcmp(audit_sources[j].name, audit->told[i].name) == 0)
                keep(audit, body.data, body.size);
    }
}

static int collect(struct audit *audit, struct loop *loop, const char *socket, uint64_t deadline_ns)
{
    char why[DIAL_PROBLEM_BYTES];
    const int fd = dial(socket, deadline_ns, why);
    if (fd < 0)
        return fail(audit, fd, why);
    audit->collected = false;
    audit->told_count = 0;
    audit->before_ns = realtime_ns();
    int error = lifeline_open(&audit->lifeline, fd);
    if (error == 0)
        error = lifeline_collect(&audit->lifeline, COLLECT_MS, on_fact, on_collected, audit);
    while (error == 0 && !audit->collected) {
        const int turned = loop_run_once(loop, -1);
        error = turned < 0 && turned != -EINTR ? turned : 0;
    }
    if (error == 0 && audit->outcome.error)
        (void)fail(audit, audit->outcome.error, audit->outcome.why);
    lifeline_fini(&audit->lifeline);
    if (error == 0 && audit->outcome.error)
        return audit->outcome.error == -ETIMEDOUT ? HOSTVMM_EXIT_TIMED_OUT : HOSTVMM_EXIT_HOST;
    if (error == 0)
        take_facts(audit);
    error = error ? error : audit->error;
    return error ? fail(audit, error, "") : 0;
}

/* ---- all of them ---- */

static int run_batch(struct audit *audit, struct loop *loop, uint32_t first, uint32_t count)
{
    int code = 0;
    audit->clone = first;
    const int error = audit_clones_start(PROGRAM, audit->snapshot, count, audit->further);
    if (error)
        return fail(audit, error, "");
    const uint64_t deadline_ns = clock_monotonic_ns() + audit->wait_ms * NS_PER_MS;
    for (uint32_t i = 1; i <= count && code == 0; i++) {
        const char *socket = audit_clones_socket(i);
        audit->clone = first + i - 1;
        code = invoke(audit, socket, deadline_ns);
        if (code == 0)
            code = collect(audit, loop, socket, clock_monotonic_ns() + COLLECT_MS * NS_PER_MS);
    }
    audit_clones_end();
    return code;
}

static int run_all(struct audit *audit)
{
    struct loop loop;
    int code = loop_init(&loop) < 0 ? HOSTVMM_EXIT_HOST : 0;
    if (code)
        return code;
    lifeline_init(&audit->lifeline, &loop);
    for (uint32_t done = 0; done < audit->clones && code == 0;) {
        const uint32_t left = audit->clones - done;
        const uint32_t count = left < audit->batch ? left : audit->batch;
        code = run_batch(audit, &loop, done + 1, count);
        done += count;
    }
    loop_fini(&loop);
    return code;
}

static int report(struct audit *audit)
{
    const bool good = audit_facts_judge(&audit->facts, audit->clones) && audit->tokens.finding_count == 0;
    if (audit->json)
        audit_report_json(stdout, &audit->facts, &audit->tokens, audit->clones, good);
    else
        audit_report_people(stdout, &audit->facts, &audit->tokens, audit->clones);
    return fflush(stdout) || !good ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
}

static int read_inputs(struct audit *audit)
{
    int error = 0;
    if (audit->event_path)
        error = event_read(audit->event_path, PROTO_PAYLOAD_MAX_BYTES, &audit->event, &audit->event_size);
    if (error) {
        log_error("event %s: %s", audit->event_path, strerror(-error));
        return HOSTVMM_EXIT_INPUT;
    }
    if (audit->keep_path) {
        audit->keep_fd = open(audit->keep_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
        if (audit->keep_fd < 0) {
            log_error("%s: cannot be written: %s", audit->keep_path, strerror(errno));
            return HOSTVMM_EXIT_HOST;
        }
    }
    return audit_clones_prepare() < 0 ? HOSTVMM_EXIT_HOST : 0;
}

int control_audit_main(int argc, char **argv)
{
    static struct audit audit; /* large */
    audit = (struct audit){
        .batch = 8, .timeout_ms = 30000, .wait_ms = 60000, .keep_fd = -1, .client = {.fd = -1}};
    if (parse(&audit, argc, argv) < 0) {
        (void)fputs(usage, stderr);
        return HOSTVMM_EXIT_USAGE;
    }
    int code = read_inputs(&audit);
    audit_facts_init(&audit.facts);
    audit_tokens_init(&audit.tokens, audit.event, audit.event_size);
    if (code == 0)
        code = run_all(&audit);
    if (code == 0)
        code = report(&audit);
    audit_facts_fini(&audit.facts);
    audit_tokens_fini(&audit.tokens);
    fd_close(&audit.keep_fd);
    free(audit.event);
    return code;
}
