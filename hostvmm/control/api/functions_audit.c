/*
 * POST /audit: `hostvmm audit --json` as a process beside the guest, its report as the answer. An event goes
 * to it through a file in memory that it opens by our process's number, so that nothing is left on any disk.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/control/api/functions.h"
#include "hostvmm/control/dial.h"
#include "hostvmm/exit.h"

#define NS_PER_MS        UINT64_C(1000000)
#define CLONES_MOST      100000u
#define BATCH_MOST       64u
#define LIMIT_MAX_MS     900000u
#define REPORT_MAX_BYTES (1u << 20)
#define NET_MAX          4u
#define ARGUMENTS_MAX    24
#define EVENT_MAX_BYTES  (API_BODY_MAX_BYTES)
#define WHOLE_LIMIT_MS   3600000u /* an hour: of a hundred thousand clones, too */

struct wish {
    const char *snapshot_path;
    const json_t *event;
    const json_t *net;
    uint32_t clones;
    uint32_t batch;
    uint32_t timeout_ms;
    uint32_t wait_ms;
};

/* ---- the command line ---- */

struct line {
    const char *words[ARGUMENTS_MAX + 1];
    unsigned count;
    char numbers[4][16];
    unsigned number_count;
    char event[48];
    char net[NET_MAX][FUNCTIONS_TEXT_MAX + 8];
};

static void add_number(struct line *line, const char *option, uint32_t value)
{
    char *text = line->numbers[line->number_count++];
    (void)snprintf(text, sizeof line->numbers[0], "%u", value);
    line->words[line->count++] = option;
    line->words[line->count++] = text;
}

static void line_make(struct line *line, const struct wish *wish, int event_fd)
{
    memset(line, 0, sizeof *line);
    line->words[line->count++] = "audit";
    line->words[line->count++] = "--json";
    line->words[line->count++] = "--snapshot";
    line->words[line->count++] = wish->snapshot_path;
    add_number(line, "--clones", wish->clones);
    add_number(line, "--batch", wish->batch);
    add_number(line, "--timeout", wish->timeout_ms);
    add_number(line, "--wait", wish->wait_ms);
    if (event_fd >= 0) {
        (void)snprintf(line->event, sizeof line->event, "/proc/%d/fd/%d", (int)getpid(), event_fd);
        line->words[line->count++] = "--event";
        line->words[line->count++] = line->event;
    }
    line->words[line->count++] = "--";
    for (size_t i = 0; i < json_array_size(wish->net); i++) {
        (void)snprintf(line->net[i], sizeof line->net[i], "--net=%s",
                       json_string_value(json_array_get(wish->net, i)));
        line->words[line->count++] = line->net[i];
    }
}

/* The descriptor, -1 when there is no event, or -errno below that. */
static int event_make(const json_t *event)
{
    if (!event)
        return -1;
    int fd = memfd_create("event", MFD_CLOEXEC);
    if (fd < 0)
        return -ENOMEM;
    if (fd_write_all(fd, json_string_value(event), json_string_length(event)) == 0)
        return fd;
    fd_close(&fd);
    return -ENOMEM;
}

/* ---- the report ---- */

/* All that comes from `fd` until its end; malloc'ed. 0 or -errno. Without the lock. */
static int read_report(int fd, char **report, size_t *size)
{
    const uint64_t deadline_ns = clock_monotonic_ns() + WHOLE_LIMIT_MS * NS_PER_MS;
    *size = 0;
    *report = malloc(REPORT_MAX_BYTES);
    if (!*report)
        return -ENOMEM;
    for (;;) {
        const int ready = control_poll(fd, POLLIN, deadline_ns);
        if (ready <= 0)
            return ready ? ready : -ETIMEDOUT;
        const ssize_t n = read(fd, *report + *size, REPORT_MAX_BYTES - *size);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return n < 0 ? -errno : 0;
        *size += (size_t)n;
        if (*size == REPORT_MAX_BYTES)
            return -EFBIG;
    }
}

/* The audit's exit code; it is killed first if it is not to be waited for. Without the lock. */
static int wait_for(pid_t pid, bool kill_it)
{
    int status = 0;
    if (kill_it)
        (void)kill(pid, SIGTERM); /* it ends its clones then */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : HOSTVMM_EXIT_SIGNAL + WTERMSIG(status);
}

static void answer(struct api_response *response, int error, int code, const char *report, size_t size)
{
    json_t *json = error ? NULL : json_loadb(report, size, JSON_REJECT_DUPLICATES, NULL);
    /* Twins that were found are a report like any other: its member `good` is false. */
    if (json && (code == HOSTVMM_EXIT_OK || code == HOSTVMM_EXIT_HOST)) {
        response->status = 200;
        response->json = json;
        return;
    }
    json_decref(json);
    if (error == -ETIMEDOUT || code == HOSTVMM_EXIT_TIMED_OUT)
        api_fail(response, 504, "audit: a clone did not serve or answer in time");
    else if (code == HOSTVMM_EXIT_INPUT || code == HOSTVMM_EXIT_USAGE)
        api_fail(response, 400, "audit: exit code %d: the snapshot or the options cannot be used", code);
    else
        api_fail(response, 502, "audit: exit code %d, and no report; the server's log has its messages",
                 code);
}

static int take_wish(struct wish *wish, const json_t *body, struct api_response *response)
{
    *wish = (struct wish){.batch = 8, .timeout_ms = 30000, .wait_ms = 60000};
    const struct members_row rows[] = {
        {"snapshot_path", MEMBER_TEXT, true, 0, FUNCTIONS_TEXT_MAX, &wish->snapshot_path},
        {"clones", MEMBER_NUMBER, true, 2, CLONES_MOST, &wish->clones},
        {"batch", MEMBER_NUMBER, false, 1, BATCH_MOST, &wish->batch},
        {"event", MEMBER_EVENT, false, 0, EVENT_MAX_BYTES, &wish->event},
        {"timeout_ms", MEMBER_NUMBER, false, 1, LIMIT_MAX_MS, &wish->timeout_ms},
        {"wait_ms", MEMBER_NUMBER, false, 1, LIMIT_MAX_MS, &wish->wait_ms},
        {"net", MEMBER_TEXTS, false, 0, NET_MAX, &wish->net},
    };
    return members_take(body, "audit", rows, sizeof rows / sizeof *rows, response);
}

void functions_audit(struct api *api, const struct api_request *request, struct api_response *response)
{
    struct wish wish;
    struct line line;
    int out_fd = -1;
    if (take_wish(&wish, request->json, response) < 0)
        return;
    int event_fd = event_make(wish.event);
    if (event_fd < -1) {
        api_fail(response, 500, "audit: no memory for the event");
        return;
    }
    line_make(&line, &wish, event_fd);
    const int pid = api_spawn(api, line.words, &out_fd);
    if (pid < 0) {
        api_fail(response, 500, "audit: cannot be started: %s", strerror(-pid));
        fd_close(&event_fd);
        return;
    }
    char *report = NULL;
    size_t size = 0;
    api_unlock(api);
    const int error = read_report(out_fd, &report, &size);
    fd_close(&out_fd);
    const int code = wait_for(pid, error != 0);
    fd_close(&event_fd);
    api_lock(api);
    answer(response, error, code, report, size);
    free(report);
}
