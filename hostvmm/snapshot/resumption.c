/* See resumption.h. */
#include "hostvmm/snapshot/resumption.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/proto/limits.h"

#define RETRY_NS UINT64_C(20000000) /* the agent was there and is not: it is being started again */

static void try(struct resumption *resumption);

static void end(struct resumption *resumption, const struct lifeline_outcome *outcome)
{
    resumption_done *done = resumption->done;
    resumption->done = NULL;
    loop_remove(resumption->lifeline.loop, &resumption->timer);
    if (done)
        done(resumption->context, outcome);
}

static void end_late(struct resumption *resumption)
{
    struct lifeline_outcome outcome = {.error = -ETIMEDOUT};
    (void)snprintf(outcome.why, sizeof outcome.why, "no agent in the guest could be reached in time");
    end(resumption, &outcome);
}

/* Look again after `delay_ns`, or when the limit passes. */
static void wait(struct resumption *resumption, uint64_t delay_ns)
{
    const uint64_t now = clock_monotonic_ns();
    const uint64_t left_ns = resumption->limit_ns > now ? resumption->limit_ns - now : 0;
    if (left_ns == 0 || loop_timer_arm(resumption->timer_fd, delay_ns < left_ns ? delay_ns : left_ns))
        end_late(resumption);
}

static void on_resumed(void *context, const struct lifeline_outcome *outcome)
{
    struct resumption *resumption = context;
    resumption->under_way = false;
    /* Refused before it said a word: it does not listen (any more). */
    if (outcome->step_count == 0 && !outcome->step[0] &&
        (outcome->error == -ECONNREFUSED || outcome->error == -ECONNRESET))
        wait(resumption, RETRY_NS);
    else
        end(resumption, outcome);
}

static void try(struct resumption *resumption)
{
    int fd;
    const uint64_t now = clock_monotonic_ns();
    if (!resumption->done || resumption->under_way)
        return;
    if (now >= resumption->limit_ns) {
        end_late(resumption);
        return;
    }
    int error = virtio_vsock_connect(&resumption->machine->vsock, PROTO_PORT, &fd);
    if (error == 0)
        error = lifeline_open(&resumption->lifeline, fd);
    if (error == 0)
        error =
            lifeline_resume(&resumption->lifeline, &resumption->uniqueness->resume,
                            (uint32_t)((resumption->limit_ns - now) / 1000000u) + 1, on_resumed, resumption);
    if (error) {
        wait(resumption, RETRY_NS);
        return;
    }
    resumption->connected_ns = now;
    resumption->under_way = true;
}

static void on_timer(void *context, uint32_t events)
{
    struct resumption *resumption = context;
    (void)events;
    loop_timer_clear(resumption->timer_fd);
    try(resumption);
}

void resumption_init(struct resumption *resumption, struct machine *machine, struct loop *loop)
{
    resumption->machine = machine;
    resumption->timer_fd = resumption->timer.fd = -1;
    resumption->done = NULL;
    resumption->under_way = false;
    lifeline_init(&resumption->lifeline, loop);
}

int resumption_begin(struct resumption *resumption, struct uniqueness *uniqueness, uint32_t limit_ms,
                     resumption_done *done, void *context)
{
    struct loop *loop = resumption->lifeline.loop;
    resumption->uniqueness = uniqueness;
    resumption->limit_ns = clock_monotonic_ns() + limit_ms * UINT64_C(1000000);
    resumption->done = done;
    resumption->context = context;
    resumption->timer_fd = loop_timer_open();
    if (resumption->timer_fd < 0)
        return resumption->timer_fd;
    const int error = loop_add(loop, &resumption->timer, resumption->timer_fd, EPOLLIN, on_timer, resumption);
    if (error)
        return error;
    if (lifecycle_stage_reached(&resumption->machine->lifecycle, GUEST_STAGE_AGENT_LISTENING))
        try(resumption);
    else
        wait(resumption, UINT64_MAX); /* its stage will come, or the limit */
    return 0;
}

void resumption_agent_listens(struct resumption *resumption)
{
    try(resumption);
}

void resumption_fini(struct resumption *resumption)
{
    resumption->done = NULL;
    if (resumption->timer_fd >= 0)
        loop_remove(resumption->lifeline.loop, &resumption->timer);
    fd_close(&resumption->timer_fd);
    lifeline_fini(&resumption->lifeline);
}
