/*
 * hostvmm ctl: the command line of the control API's client, and how its answers are told.
 *
 * Standard output carries the answer's body alone; what failed is told on standard error. Exit codes:
 * control.h.
 */
#include "hostvmm/control/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/proto/limits.h"
#include "hostvmm/control/control.h"
#include "hostvmm/control/output.h"
#include "hostvmm/exit.h"

#define NS_PER_MS        UINT64_C(1000000)
#define WAIT_MS          300000u
#define WAIT_MAX_MS      86400000u
#define RESOURCE_MAX     512
#define TARGET_MAX_MIB   524288u
#define STATUS_TIMED_OUT 504

static const char usage[] =
    "usage: hostvmm ctl --api-sock PATH METHOD RESOURCE [JSON|@FILE|-]\n"
    "       hostvmm ctl --api-sock PATH WORD [option]...\n"
    "\n"
    "Asks a hostvmm that was started with --api-sock. METHOD is GET, PUT, PATCH, POST or DELETE; a body is "
    "given\n"
    "as it is, as the name of a file, or on standard input.\n"
    "\n"
    "  status                     what it is and does\n"
    "  start                      start the guest that was configured\n"
    "  pause, resume\n"
    "  stop                       have the guest power off\n"
    "  snapshot --out DIR [--mem FILE] [--diff] [--checkpoint]\n"
    "                             a snapshot; a guest that runs is paused for it, unless its agent is asked\n"
    "                             (--checkpoint)\n"
    "  invoke --event FILE|- [--timeout MS] [--clone ID] [--trace ID] [--logs]\n"
    "                             send an event to the function, print what it answers; --logs: the end of "
    "its\n"
    "                             output, on standard error\n"
    "  metrics [--prometheus]\n"
    "  drive ID --path FILE       another file for the drive\n"
    "  balloon --target MIB       how much memory the guest is to give back\n"
    "  resume-steps               how the running clone became unique\n"
    "  clones                     the clones beside the guest\n"
    "\n"
    "  --wait MS                  how long an answer may take (300000)\n"
    "\n"
    "exit codes: 0 done; 1 no connection, or the host failed; 2 the command line; 3 what was asked for is "
    "refused;\n"
    "6 the function failed; 7 no answer in time\n";

static const struct option long_options[] = {
    {"api-sock", required_argument, NULL, 'a'}, {"wait", required_argument, NULL, 'w'},
    {"out", required_argument, NULL, 'o'},      {"mem", required_argument, NULL, 'm'},
    {"event", required_argument, NULL, 'e'},    {"path", required_argument, NULL, 'p'},
    {"target", required_argument, NULL, 't'},   {"clone", required_argument, NULL, 'c'},
    {"timeout", required_argument, NULL, 'l'},  {"trace", required_argument, NULL, 'r'},
    {"diff", no_argument, NULL, 'd'},           {"checkpoint", no_argument, NULL, 'k'},
    {"logs", no_argument, NULL, 'g'},           {"prometheus", no_argument, NULL, 'q'},
    {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
};

/* ---- telling ---- */

/* What a function failed with is Lambda's error object, as `hostvmm invoke` gives it. */
static int tell_function_error(const struct ctl_reply *reply)
{
    (void)fwrite(reply->body, 1, reply->body_bytes, stderr);
    (void)putc('\n', stderr);
    return HOSTVMM_EXIT_FUNCTION;
}

static int tell_fault(const struct ctl_reply *reply)
{
    char fault[1024];
    const int status = reply->answer.status;
    if (!ctl_answer_text(reply->body, reply->body_bytes, "fault_message", fault, sizeof fault))
        (void)snprintf(fault, sizeof fault, "HTTP status %d", status);
    log_error("%s", fault);
    if (status == STATUS_TIMED_OUT)
        return HOSTVMM_EXIT_TIMED_OUT;
    return status < 500 ? HOSTVMM_EXIT_INPUT : HOSTVMM_EXIT_HOST;
}

int ctl_tell(const struct ctl_reply *reply)
{
    char value[32];
    if (reply->answer.status >= 300)
        return tell_fault(reply);
    if (ctl_answer_header(&reply->answer, reply->data, "X-Function-Error", value, sizeof value))
        return tell_function_error(reply);
    const bool is_json =
        ctl_answer_header(&reply->answer, reply->data, "Content-Type", value, sizeof value) &&
        strcmp(value, "application/json") == 0;
    (void)fwrite(reply->body, 1, reply->body_bytes, stdout);
    if (is_json && reply->body_bytes > 0 && reply->body[reply->body_bytes - 1] != '\n')
        (void)putc('\n', stdout);
    return fflush(stdout) || ferror(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
}

int ctl_send(const struct ctl *ctl, const struct ctl_request *request)
{
    struct ctl_reply reply;
    const int error = ctl_exchange(ctl->api_sock, request, ctl->deadline_ns, &reply);
    const int code = error == -ETIMEDOUT ? HOSTVMM_EXIT_TIMED_OUT
                     : error == -E2BIG   ? HOSTVMM_EXIT_USAGE
                     : error             ? HOSTVMM_EXIT_HOST
                                         : ctl_tell(&reply);
    ctl_reply_fini(&reply);
    return code;
}

/* ---- a method and a resource ---- */

static bool is_method(const char *word)
{
    static const char *const methods[] = {"GET", "PUT", "PATCH", "POST", "DELETE"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(word, methods[i]) == 0)
            return true;
    return false;
}

static bool is_resource(const char *text)
{
    const size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return text[0] == '/' && size <= RESOURCE_MAX;
}

/* Raw events have no JSON in them to speak of. */
static bool is_raw(const char *resource)
{
    static const char tail[] = "/invocations";
    const size_t size = strlen(resource);
    return size >= sizeof tail - 1 && strcmp(resource + size - (sizeof tail - 1), tail) == 0;
}

static int send_generic(const struct ctl *ctl, char *const *words, int count)
{
    struct ctl_request request = {.method = words[0], .resource = count > 1 ? words[1] : ""};
    uint8_t *read = NULL;
    if (count < 2 || count > 3 || !is_resource(request.resource)) {
        log_error("ctl %s: want a resource, such as /machine-config, and one body at most", words[0]);
        return HOSTVMM_EXIT_USAGE;
    }
    request.is_raw = is_raw(request.resource);
    if (count == 3 && (strcmp(words[2], "-") == 0 || words[2][0] == '@')) {
        const char *path = words[2][0] == '@' ? words[2] + 1 : words[2];
        const int error = event_read(path, PROTO_PAYLOAD_MAX_BYTES, &read, &request.body_bytes);
        if (error) {
            log_error("%s: cannot be read: %s", path, strerror(-error));
            return HOSTVMM_EXIT_INPUT;
        }
        request.body = read ? (const void *)read : "";
    } else if (count == 3) {
        request.body = words[2];
        request.body_bytes = strlen(words[2]);
    }
    const int code = ctl_send(ctl, &request);
    free(read);
    return code;
}

/* ---- the command line ---- */

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

static int take_text(struct ctl *ctl, const char **to, enum ctl_option option)
{
    ctl->given |= option;
    *to = optarg;
    return 0;
}

static int take_flag(struct ctl *ctl, bool *to, enum ctl_option option)
{
    ctl->given |= option;
    *to = true;
    return 0;
}

static int take_option(struct ctl *ctl, int code, uint32_t *wait_ms)
{
    switch (code) {
    case 'a':
        ctl->api_sock = optarg;
        return 0;
    case 'w':
        return number("wait", 1, WAIT_MAX_MS, wait_ms);
    case 'o':
        return take_text(ctl, &ctl->out, CTL_OUT);
    case 'm':
        return take_text(ctl, &ctl->mem, CTL_MEM);
    case 'e':
        return take_text(ctl, &ctl->event, CTL_EVENT);
    case 'p':
        return take_text(ctl, &ctl->path, CTL_PATH);
    case 'c':
        return take_text(ctl, &ctl->clone, CTL_CLONE);
    case 'r':
        return take_text(ctl, &ctl->trace, CTL_TRACE);
    case 't':
        ctl->given |= CTL_TARGET;
        return number("target", 0, TARGET_MAX_MIB, &ctl->target_mib);
    case 'l':
        ctl->given |= CTL_LIMIT;
        return number("timeout", 1, PROTO_TIMEOUT_MAX_MS, &ctl->limit_ms);
    case 'd':
        return take_flag(ctl, &ctl->is_diff, CTL_DIFF);
    case 'k':
        return take_flag(ctl, &ctl->is_checkpoint, CTL_CHECKPOINT);
    case 'g':
        return take_flag(ctl, &ctl->wants_logs, CTL_LOGS);
    case 'q':
        return take_flag(ctl, &ctl->is_prometheus, CTL_PROMETHEUS);
    default:
        return -EINVAL; /* getopt has said what */
    }
}

static int run_word(const struct ctl *ctl, char *const *words, int count)
{
    const struct ctl_word *word = ctl_word_named(words[0]);
    if (!word) {
        log_error("ctl: unknown word '%.40s'", words[0]);
        return HOSTVMM_EXIT_USAGE;
    }
    if ((unsigned)count != 1 + word->names || ctl->given & ~word->options || word->needed & ~ctl->given) {
        log_error("ctl %s: an option or a word too many, or one that is missing", word->name);
        return HOSTVMM_EXIT_USAGE;
    }
    return word->run(ctl, count > 1 ? words[1] : NULL);
}

int control_ctl_main(int argc, char **argv)
{
    struct ctl ctl = {.api_sock = NULL};
    uint32_t wait_ms = WAIT_MS;
    int code;
    optind = 1;
    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (code == 'h')
            return fputs(usage, stdout) < 0 || fflush(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
        if (take_option(&ctl, code, &wait_ms) < 0) {
            (void)fputs(usage, stderr);
            return HOSTVMM_EXIT_USAGE;
        }
    }
    if (!ctl.api_sock || optind >= argc) {
        log_error("ctl: --api-sock, and what to ask for, are needed");
        (void)fputs(usage, stderr);
        return HOSTVMM_EXIT_USAGE;
    }
    ctl.deadline_ns = clock_monotonic_ns() + wait_ms * NS_PER_MS;
    if (!is_method(argv[optind]))
        return run_word(&ctl, argv + optind, argc - optind);
    if (ctl.given == 0)
        return send_generic(&ctl, argv + optind, argc - optind);
    log_error("ctl %s: takes no option but --api-sock and --wait", argv[optind]);
    return HOSTVMM_EXIT_USAGE;
}
