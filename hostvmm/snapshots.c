/* See snapshots.h. */
#include "hostvmm/snapshots.h"

#include <errno.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/exit.h"

/* What was wrong: the caller's path or parent, or this host. */
int snapshots_code(const struct capture_result *result)
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

static void on_done(void *context, const struct capture_result *result)
{
    struct snapshots *snapshots = context;
    struct snapshots_counts *counts = &snapshots->counts;
    say(snapshots->capture.request.out, result);
    if (result->error) {
        counts->failed++;
    } else {
        counts->taken++;
        counts->last_pause_ns = result->pause_ns;
        counts->pause_ns += result->pause_ns;
        counts->disk_bytes += result->disk_bytes;
    }
    snapshots->done(snapshots->context, snapshots_code(result), result);
}

int snapshots_take(struct snapshots *snapshots, const struct capture_request *request, snapshots_done *done,
                   void *context)
{
    struct capture_request whole = *request;
    whole.hooks_ms = snapshots->hooks_ms;
    if (snapshots->capture.busy)
        return -EBUSY;
    snapshots->done = done;
    snapshots->context = context;
    return capture_begin(&snapshots->capture, &whole, on_done, snapshots);
}

void snapshots_init(struct snapshots *snapshots, struct machine *machine, struct loop *loop,
                    uint32_t hooks_ms)
{
    snapshots->hooks_ms = hooks_ms;
    snapshots->counts = (struct snapshots_counts){0};
    capture_init(&snapshots->capture, machine, loop);
}

void snapshots_fini(struct snapshots *snapshots)
{
    capture_fini(&snapshots->capture);
}
