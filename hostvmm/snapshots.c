/* See snapshots.h. */
#include "hostvmm/snapshots.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/exit.h"

/* What was wrong: the caller's path or parent, or this host. */
static int code_of(const struct capture_result *result)
{
    switch (-result->error) {
    case 0:
        return HOSTVMM_EXIT_OK;
    case EEXIST:
    case EINVAL:
    case ENOENT:
    case EBADMSG:
    case EPROTONOSUPPORT:
        return HOSTVMM_EXIT_INPUT;
    default:
        return HOSTVMM_EXIT_HOST;
    }
}

static void say(const char *out, const struct capture_result *result)
{
    if (result->error)
        log_error("no snapshot: %s", result->why);
    else
        log_info("snapshot %s: %.1f MiB on disk; the guest stood still for %.1f ms", out,
                 (double)result->disk_bytes / (1024 * 1024), (double)result->pause_ns / 1e6);
}

/* ---- the last one ---- */

static void on_last(void *context, const struct capture_result *result)
{
    struct snapshots *snapshots = context;
    say(snapshots->capture.request.out, result);
    snapshots->stop(snapshots->context, code_of(result));
}

void snapshots_take_last(struct snapshots *snapshots, const char *out)
{
    struct capture_request request = {.checkpoint = true, .stop = true, .hooks_ms = snapshots->hooks_ms};
    if ((size_t)snprintf(request.out, sizeof request.out, "%s", out) >= sizeof request.out)
        log_error("--out: the path is too long");
    else if (capture_begin(&snapshots->capture, &request, on_last, snapshots) == 0)
        return;
    snapshots->stop(snapshots->context, HOSTVMM_EXIT_HOST);
}

/* ---- those asked for ---- */

static void on_asked(void *context, const struct capture_result *result)
{
    struct snapshots *snapshots = context;
    char members[160];
    say(snapshots->capture.request.out, result);
    if (result->error) {
        operator_answer(&snapshots->control, false, code_of(result), result->why);
        return;
    }
    (void)snprintf(members, sizeof members,
                   "\"pause_ns\":%" PRIu64 ",\"checkpoint_us\":%" PRIu64 ",\"disk_bytes\":%" PRIu64,
                   result->pause_ns, result->checkpoint_us, result->disk_bytes);
    operator_answer(&snapshots->control, true, 0, members);
    if (snapshots->stops)
        snapshots->stop(snapshots->context, HOSTVMM_EXIT_OK);
}

static void on_request(void *context, const struct operator_snapshot *asked)
{
    struct snapshots *snapshots = context;
    struct capture_request request = {
        .checkpoint = asked->checkpoint,
        .stop = asked->stop,
        .hooks_ms = snapshots->hooks_ms,
    };
    _Static_assert(sizeof asked->out <= sizeof request.out, "a path of the control socket fits a request");
    memcpy(request.out, asked->out, strlen(asked->out) + 1);
    memcpy(request.parent, asked->parent, strlen(asked->parent) + 1);
    snapshots->stops = asked->stop;
    const int error = capture_begin(&snapshots->capture, &request, on_asked, snapshots);
    if (error)
        operator_answer(&snapshots->control, false, HOSTVMM_EXIT_HOST, strerror(-error));
}

void snapshots_init(struct snapshots *snapshots, struct machine *machine, struct loop *loop,
                    uint32_t hooks_ms, snapshots_stop *stop, void *context)
{
    snapshots->listening = false;
    snapshots->hooks_ms = hooks_ms;
    snapshots->stop = stop;
    snapshots->context = context;
    capture_init(&snapshots->capture, machine, loop);
}

int snapshots_listen(struct snapshots *snapshots, const char *path)
{
    operator_init(&snapshots->control, snapshots->capture.loop);
    snapshots->listening = true;
    const int error = operator_open(&snapshots->control, path, on_request, snapshots);
    if (error)
        log_error("control socket %s: %s", path, strerror(-error));
    return error;
}

void snapshots_fini(struct snapshots *snapshots)
{
    capture_fini(&snapshots->capture);
    if (snapshots->listening)
        operator_fini(&snapshots->control);
    snapshots->listening = false;
}
