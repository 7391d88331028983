/*
 * hostvmm invoke: send an event to the function in a running VM and print its answer.
 *
 * Standard output carries the answer's bytes alone (or, with --json, one JSON report a line and no answer).
 * Standard error carries the function's output, each line after `[<request id> stdout|stderr] `, its error
 * object as one line of JSON, and our own messages. Exit codes: control.h.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/proto/errors.h"
#include "hostvmm/control/client.h"
#include "hostvmm/control/control.h"
#include "hostvmm/control/dial.h"
#include "hostvmm/control/output.h"
#include "hostvmm/control/text.h"
#include "hostvmm/exit.h"

#define NS_PER_MS       UINT64_C(1000000)
#define TIMEOUT_MS      30000  /* default of --timeout */
#define WAIT_MS         10000  /* default of --wait */
#define WAIT_MAX_MS     900000 /* as long as a function may run */
#define REPEAT_MAX      1000000
#define ANSWER_GRACE_MS 10000 /* past --timeout, for the agent to report that it killed the function */

static const char usage[] =
    "usage: hostvmm invoke --vsock PATH --event FILE|- [options]\n"
    "  --vsock PATH    the socket given to `hostvmm run --vsock`\n"
    "  --event FILE|-  the event, at most 6291556 bytes; - reads standard input\n"
    "  --out FILE|-    where the answer goes (default -, standard output; none with --json)\n"
    "  --timeout MS    how long the function may take, 1 to 900000 (default 30000)\n"
    "  --wait MS       how long to wait for the VM and the function to be ready, 0 to 900000 (default "
    "10000)\n"
    "  --id ID         request id, 1 to 64 of A-Z a-z 0-9 . _ - (default: random)\n"
    "  --trace ID      trace id handed to the function\n"
    "  --repeat N      invoke N times, one after the other, with ids ID, ID-2, ID-3 ...\n"
    "  --times         print how long each step took, on standard error\n"
    "  --json          print a JSON report of each invocation on standard output\n";

struct invoke_options {
    const char *vsock;
    const char *event;
    const char *out; /* NULL: nowhere */
    const char *trace;
    const char *id;
    uint32_t timeout_ms;
    uint32_t wait_ms;
    uint32_t repeat;
    bool times;
    bool json;
};

struct invoke {
    struct invoke_options options;
    char random_id[PROTO_ID_MAX_BYTES + 1];
    uint8_t *event;
    size_t event_size;
    uint64_t connect_ns; /* until CONNECT was answered */
    uint64_t ready_ns;   /* from there until the function was known to be ready */
    struct control_client client;
};

/* ---- command line ---- */

static int number(const char *name, const char *text, uint32_t least, uint32_t most, uint32_t *value)
{
    char *end;
    errno = 0;
    const unsigned long parsed = strtoul(text, &end, 10);
    if (errno || end == text || *end != '\0' || text[0] < '0' || text[0] > '9' || parsed < least ||
        parsed > most) {
        log_error("--%s %s: give a number from %" PRIu32 " to %" PRIu32, name, text, least, most);
        return -EINVAL;
    }
    *value = (uint32_t)parsed;
    return 0;
}

enum option_code {
    OPT_VSOCK = 1,
    OPT_EVENT,
    OPT_OUT,
    OPT_TIMEOUT,
    OPT_WAIT,
    OPT_ID,
    OPT_TRACE,
    OPT_REPEAT,
    OPT_TIMES,
    OPT_JSON
};

static const struct option long_options[] = {
    {"vsock", required_argument, NULL, OPT_VSOCK},
    {"event", required_argument, NULL, OPT_EVENT},
    {"out", required_argument, NULL, OPT_OUT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"wait", required_argument, NULL, OPT_WAIT},
    {"id", required_argument, NULL, OPT_ID},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"repeat", required_argument, NULL, OPT_REPEAT},
    {"times", no_argument, NULL, OPT_TIMES},
    {"json", no_argument, NULL, OPT_JSON},
    {NULL, 0, NULL, 0},
};

static int option_take(struct invoke_options *options, int code)
{
    switch (code) {
    case OPT_VSOCK:
        options->vsock = optarg;
        return 0;
    case OPT_EVENT:
        options->event = optarg;
        return 0;
    case OPT_OUT:
        options->out = optarg;
        return 0;
    case OPT_TIMEOUT:
        return number("timeout", optarg, 1, PROTO_TIMEOUT_MAX_MS, &options->timeout_ms);
    case OPT_WAIT:
        return number("wait", optarg, 0, WAIT_MAX_MS, &options->wait_ms);
    case OPT_ID:
        options->id = optarg;
        return 0;
    case OPT_TRACE:
        options->trace = optarg;
        return 0;
    case OPT_REPEAT:
        return number("repeat", optarg, 1, REPEAT_MAX, &options->repeat);
    case OPT_TIMES:
        options->times = true;
        return 0;
    case OPT_JSON:
        options->json = true;
        return 0;
    default:
        return -EINVAL; /* getopt has said what */
    }
}

/* Checked here, before any VM is troubled; the codec refuses what it would. */
static int id_check(const char *id)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t length = strlen(id);
    if (length >= 1 && length <= PROTO_ID_MAX_BYTES && strspn(id, allowed) == length)
        return 0;
    log_error("--id '%.80s': give 1 to %d of A-Z a-z 0-9 . _ -", id, PROTO_ID_MAX_BYTES);
    return -EINVAL;
}

static int options_parse(struct invoke_options *options, int argc, char **argv)
{
    *options =
        (struct invoke_options){.trace = "", .timeout_ms = TIMEOUT_MS, .wait_ms = WAIT_MS, .repeat = 1};
    int code;
    optind = 1;
    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        const int error = option_take(options, code);
        if (error)
            return error;
    }
    if (optind < argc) {
        log_error("invoke: unexpected argument '%s'", argv[optind]);
        return -EINVAL;
    }
    if (!options->vsock || !options->event) {
        log_error("invoke: --vsock and --event are needed");
        return -EINVAL;
    }
    if (strlen(options->trace) > PROTO_TRACE_MAX_BYTES) {
        log_error("--trace: at most %d bytes", PROTO_TRACE_MAX_BYTES);
        return -EINVAL;
    }
    if (!options->out && !options->json)
        options->out = "-";
    return options->id ? id_check(options->id) : 0;
}

static int random_id(char *id, size_t capacity)
{
    uint8_t bytes[12];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return -EIO;
    size_t used = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        used += (size_t)snprintf(id + used, capacity - used, "%02x", bytes[i]);
    return 0;
}

/* ---- reports ---- */

static void on_log(void *context, const struct proto_message *message)
{
    (void)context;
    char prefix[PROTO_ID_MAX_BYTES + 16];
    const char *stream = message->u.log.stream == PROTO_STREAM_STDOUT ? "stdout" : "stderr";
    const struct proto_slice id = message->u.log.id;
    const int length = id.size < PROTO_ID_MAX_BYTES ? (int)id.size : PROTO_ID_MAX_BYTES;
    snprintf(prefix, sizeof prefix, "[%.*s %s] ", length > 0 ? length : 1,
             length > 0 ? (const char *)id.data : "-", stream);
    if (message->u.log.dropped_bytes > 0)
        fprintf(stderr, "%s(%" PRIu64 " bytes of output lost here: it came faster than it was read)\n",
                prefix, message->u.log.dropped_bytes);
    text_lines(stderr, prefix, message->u.log.body.data, message->u.log.body.size);
}

static const char *outcome_of(int error, const struct control_failure *failure)
{
    if (error == 0)
        return "answer";
    if (error == -ETIMEDOUT || (error == -EREMOTEIO && strcmp(failure->type, PROTO_ERROR_TIMED_OUT) == 0))
        return "timeout";
    return error == -EREMOTEIO ? "error" : "failure";
}

static int exit_of(int error, const struct control_failure *failure)
{
    const char *outcome = outcome_of(error, failure);
    if (strcmp(outcome, "answer") == 0)
        return HOSTVMM_EXIT_OK;
    if (strcmp(outcome, "timeout") == 0)
        return HOSTVMM_EXIT_TIMED_OUT;
    return error == -EREMOTEIO ? HOSTVMM_EXIT_FUNCTION
           : error == -EINVAL  ? HOSTVMM_EXIT_USAGE
                               : HOSTVMM_EXIT_HOST;
}

static void report_json(const struct invoke *invoke, const char *id, int error, uint32_t answer_size,
                        uint64_t invoke_ns)
{
    const struct control_client *client = &invoke->client;
    fputs("{\"id\":", stdout);
    text_json(stdout, id);
    printf(",\"outcome\":\"%s\",\"event_bytes\":%zu,\"answer_bytes\":%" PRIu32,
           outcome_of(error, &client->failure), invoke->event_size, answer_size);
    printf(",\"connect_ns\":%" PRIu64 ",\"ready_ns\":%" PRIu64 ",\"init_us\":%" PRIu64
           ",\"invoke_ns\":%" PRIu64,
           invoke->connect_ns, invoke->ready_ns, client->init_duration_us, invoke_ns);
    if (error == -EREMOTEIO) {
        fputs(",\"error\":", stdout);
        text_json_failure(stdout, &client->failure);
    } else if (error) {
        fputs(",\"problem\":", stdout);
        text_json(stdout, client->problem);
    }
    fputs("}\n", stdout);
    fflush(stdout);
}

static void report(const struct invoke *invoke, const char *id, int error, uint32_t answer_size,
                   uint64_t invoke_ns)
{
    if (error == -EREMOTEIO) {
        text_json_failure(stderr, &invoke->client.failure);
        putc('\n', stderr);
    } else if (error) {
        log_error("%s", invoke->client.problem);
    }
    if (invoke->options.times)
        fprintf(stderr, "times: connect %.3f ms, ready %.3f ms, invoke %.3f ms (request %s)\n",
                (double)invoke->connect_ns / 1e6, (double)invoke->ready_ns / 1e6, (double)invoke_ns / 1e6,
                id);
    if (invoke->options.json)
        report_json(invoke, id, error, answer_size, invoke_ns);
}

/* ---- the work ---- */

/* One invocation, reported. The exit code. */
static int invoke_once(struct invoke *invoke, const char *id)
{
    const struct invoke_options *options = &invoke->options;
    const struct control_request request = {
        .id = id,
        .trace = options->trace,
        .timeout_ms = options->timeout_ms,
        .event = invoke->event,
        .event_size = (uint32_t)invoke->event_size,
    };
    struct control_answer answer;
    const uint64_t start_ns = clock_monotonic_ns();
    const uint64_t deadline_ns = start_ns + (options->timeout_ms + UINT64_C(0) + ANSWER_GRACE_MS) * NS_PER_MS;
    const int error = control_client_invoke(&invoke->client, &request, &answer, deadline_ns);
    report(invoke, id, error, answer.size, clock_monotonic_ns() - start_ns);
    int code = exit_of(error, &invoke->client.failure);
    if (error == 0 && options->out) {
        const int failed = answer_write(options->out, answer.data, answer.size);
        if (failed) {
            log_error("cannot write the answer to %s: %s", options->out, strerror(-failed));
            code = HOSTVMM_EXIT_HOST;
        }
    }
    free(answer.data);
    return code;
}

/* Connect and wait until the function is ready. The exit code. */
static int invoke_connect(struct invoke *invoke)
{
    const struct invoke_options *options = &invoke->options;
    const uint64_t start_ns = clock_monotonic_ns();
    const uint64_t deadline_ns = start_ns + options->wait_ms * NS_PER_MS;
    char why[DIAL_PROBLEM_BYTES];
    const int fd = control_dial(options->vsock, PROTO_PORT, deadline_ns, why);
    if (fd < 0) {
        log_error("%s", why[0] != '\0' ? why : strerror(-fd));
        return fd == -ETIMEDOUT ? HOSTVMM_EXIT_TIMED_OUT : HOSTVMM_EXIT_HOST;
    }
    const uint64_t connected_ns = clock_monotonic_ns();
    invoke->connect_ns = connected_ns - start_ns;
    int error = control_client_init(&invoke->client, fd, false, on_log, NULL);
    /* A single attempt still has to wait for the agent's hello. */
    if (error == 0)
        error = control_client_ready(&invoke->client,
                                     options->wait_ms > 0 ? deadline_ns : connected_ns + 1000 * NS_PER_MS);
    invoke->ready_ns = clock_monotonic_ns() - connected_ns;
    if (error)
        report(invoke, options->id, error, 0, 0);
    return exit_of(error, &invoke->client.failure);
}

static int invoke_repeat(struct invoke *invoke)
{
    int code = invoke_once(invoke, invoke->options.id);
    for (uint32_t i = 2; code == HOSTVMM_EXIT_OK && i <= invoke->options.repeat; i++) {
        char id[2 * PROTO_ID_MAX_BYTES];
        snprintf(id, sizeof id, "%.*s-%" PRIu32, PROTO_ID_MAX_BYTES, invoke->options.id, i);
        code = invoke_once(invoke, id);
    }
    return code;
}

int control_invoke_main(int argc, char **argv)
{
    static struct invoke invoke; /* holds the client's frame buffers: too large for the stack */
    invoke = (struct invoke){.client = {.fd = -1}};
    if (options_parse(&invoke.options, argc, argv) < 0) {
        fputs(usage, stderr);
        return HOSTVMM_EXIT_USAGE;
    }
    int error = event_read(invoke.options.event, PROTO_PAYLOAD_MAX_BYTES, &invoke.event, &invoke.event_size);
    if (error == -EFBIG) {
        log_error("event %s: larger than %d bytes, the most an invocation takes", invoke.options.event,
                  PROTO_PAYLOAD_MAX_BYTES);
        return HOSTVMM_EXIT_INPUT;
    }
    if (error) {
        log_error("event %s: cannot read it: %s", invoke.options.event, strerror(-error));
        return HOSTVMM_EXIT_INPUT;
    }
    int code = HOSTVMM_EXIT_HOST;
    if (!invoke.options.id) {
        if (random_id(invoke.random_id, sizeof invoke.random_id) < 0) {
            log_error("no random bytes for a request id: give one with --id");
            goto out;
        }
        invoke.options.id = invoke.random_id;
    }
    code = invoke_connect(&invoke);
    if (code == HOSTVMM_EXIT_OK)
        code = invoke_repeat(&invoke);
out:
    control_client_fini(&invoke.client);
    free(invoke.event);
    return code;
}
