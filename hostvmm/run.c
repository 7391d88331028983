/*
 * See run.h. The main thread's part of a VM's life: signals, boot stages, the orderly shutdown, the end.
 *
 *   open files -> build -> start vCPUs -> loop -> stop vCPUs -> devices end -> exit code
 *
 * A first SIGINT, SIGTERM or SIGHUP asks the guest's agent to power off, and sets a limit to how long that
 * may take; when there is nobody to ask, when the limit passes, or at a second signal, the guest is stopped
 * at once.
 */
#include "hostvmm/run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/proto/limits.h"
#include "hostvmm/control/shutdown.h"
#include "hostvmm/exit.h"
#include "hostvmm/machine.h"

#define SHUTDOWN_LIMIT_MS 5000u /* beyond init's own wait for processes to end */

struct run {
    const struct config *config;
    struct timeline timeline;
    struct loop loop;
    struct machine machine;
    int signal_fd;
    struct loop_source signals;
    int stage_fd; /* a stage was reached that the loop has to do with */
    struct loop_source stages;
    int limit_fd; /* timer: the guest had its time to power off */
    struct loop_source limit;
    struct control_shutdown shutdown;
    int stop_signal; /* the first one; 0: none yet */
    bool ready_said;
};

static struct run run; /* one per process; far too large for a stack */

/* On vCPU threads. */
static void on_guest_stage(void *context, enum guest_stage stage)
{
    struct run *self = context;
    const uint64_t one = 1;
    timeline_mark(&self->timeline, stage);
    if (stage == GUEST_STAGE_AGENT_LISTENING || stage == GUEST_STAGE_FUNCTION_READY ||
        stage == GUEST_STAGE_FUNCTION_FAILED) {
        const ssize_t n = write(self->stage_fd, &one, sizeof one);
        (void)n;
    }
}

static void on_guest_power_off(void *context)
{
    struct run *self = context;
    vm_end(&self->machine.vm, VM_END_POWER_OFF);
}

static void on_guest_reset(void *context)
{
    struct run *self = context;
    vm_end(&self->machine.vm, VM_END_RESET);
}

static const struct lifecycle_ops guest_ops = {
    .stage = on_guest_stage,
    .power_off = on_guest_power_off,
    .reset = on_guest_reset,
};

static void write_timeline(struct run *self)
{
    if (!self->config->timeline)
        return;
    const int error = timeline_write(&self->timeline, self->config->timeline);
    if (error)
        log_error("cannot write the timeline to %s: %s", self->config->timeline, strerror(-error));
}

static void on_stage(void *context, uint32_t events)
{
    struct run *self = context;
    uint64_t count;
    char text[160];
    (void)events;
    const ssize_t n = read(self->stage_fd, &count, sizeof count);
    (void)n;
    if (timeline_stage(&self->timeline, GUEST_STAGE_AGENT_LISTENING) && self->machine.has_vsock)
        virtio_vsock_open_gate(&self->machine.vsock);
    const bool ready = timeline_stage(&self->timeline, GUEST_STAGE_FUNCTION_READY);
    const bool failed = timeline_stage(&self->timeline, GUEST_STAGE_FUNCTION_FAILED);
    if ((!ready && !failed) || self->ready_said)
        return;
    self->ready_said = true;
    timeline_text(&self->timeline, ready ? GUEST_STAGE_FUNCTION_READY : GUEST_STAGE_FUNCTION_FAILED, text,
                  sizeof text);
    if (ready)
        log_info("ready in %s", text);
    else
        log_error("the function's init failed after %s; `hostvmm invoke` shows its error", text);
    write_timeline(self);
}

static void stop_at_once(struct run *self, const char *why)
{
    log_warn("%s: stopping the guest at once", why);
    vm_end(&self->machine.vm, VM_END_STOPPED);
}

static void on_limit(void *context, uint32_t events)
{
    struct run *self = context;
    (void)events;
    loop_timer_clear(self->limit_fd);
    stop_at_once(self, "the guest did not power off in time");
}

static void on_asked(void *context, int error)
{
    struct run *self = context;
    if (error)
        stop_at_once(self, "no agent in the guest takes the request to shut down");
}

static void begin_shutdown(struct run *self)
{
    int fd;
    if (!self->machine.has_vsock) {
        stop_at_once(self, "without --vsock the guest cannot be asked to shut down");
        return;
    }
    int error = virtio_vsock_connect(&self->machine.vsock, PROTO_PORT, &fd);
    if (error == 0)
        error = control_shutdown_begin(&self->shutdown, &self->loop, fd, on_asked, self);
    if (error) {
        stop_at_once(self, "nobody in the guest can be asked to shut down yet");
        return;
    }
    const uint64_t limit_ms = SHUTDOWN_LIMIT_MS + self->config->bootargs.grace_ms;
    if (loop_timer_arm(self->limit_fd, limit_ms * 1000000u))
        stop_at_once(self, "no timer for the guest's shutdown");
}

static void on_signal(void *context, uint32_t events)
{
    struct run *self = context;
    (void)events;
    const int number = loop_signal_next(self->signal_fd);
    if (number == 0)
        return;
    if (self->stop_signal) {
        self->stop_signal = number;
        stop_at_once(self, "second signal");
        return;
    }
    self->stop_signal = number;
    log_info("%s: asking the guest to power off; once more stops it at once", strsignal(number));
    begin_shutdown(self);
}

/* Descriptors of the loop. Before threads: they inherit the blocked signals. */
static int open_loop(struct run *self)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    (void)signal(SIGPIPE, SIG_IGN);
    int error = loop_init(&self->loop);
    if (error)
        return error;
    self->signal_fd = loop_signal_open(&signals);
    self->stage_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->limit_fd = loop_timer_open();
    if (self->stage_fd < 0)
        return -errno;
    if (self->signal_fd < 0 || self->limit_fd < 0)
        return self->signal_fd < 0 ? self->signal_fd : self->limit_fd;
    error = loop_add(&self->loop, &self->signals, self->signal_fd, EPOLLIN, on_signal, self);
    if (error == 0)
        error = loop_add(&self->loop, &self->stages, self->stage_fd, EPOLLIN, on_stage, self);
    if (error == 0)
        error = loop_add(&self->loop, &self->limit, self->limit_fd, EPOLLIN, on_limit, self);
    return error;
}

static void close_loop(struct run *self)
{
    control_shutdown_fini(&self->shutdown);
    fd_close(&self->limit_fd);
    fd_close(&self->stage_fd);
    fd_close(&self->signal_fd);
    loop_fini(&self->loop);
}

static int powered_off(enum guest_exit reason)
{
    static const char *const texts[] = {
        [GUEST_EXIT_NO_ROOT] = "no root: its device is missing or holds no file system it knows",
        [GUEST_EXIT_NO_OVERLAY] = "its writable overlay could not be mounted",
        [GUEST_EXIT_NO_AGENT] = "its image has no agent that can be executed",
        [GUEST_EXIT_AGENT_GAVE_UP] = "its agent ended more often than it may",
        [GUEST_EXIT_INIT_FAILED] = "init could not go on",
    };
    if (reason == GUEST_EXIT_ORDERLY)
        return HOSTVMM_EXIT_OK;
    log_error("the guest powered off: %s; its console says more", texts[reason]);
    return HOSTVMM_EXIT_GUEST + (int)reason;
}

static int exit_code(const struct run *self)
{
    switch ((enum vm_end)self->machine.vm.end) {
    case VM_END_POWER_OFF:
        return powered_off(lifecycle_reason(&self->machine.lifecycle));
    case VM_END_RESET:
        log_error("the guest reset itself: a panic or a reboot; its console says more");
        return HOSTVMM_EXIT_RESET;
    case VM_END_CRASH:
        log_error("the guest crashed");
        return HOSTVMM_EXIT_RESET;
    case VM_END_KVM:
        return HOSTVMM_EXIT_KVM;
    case VM_END_STOPPED:
        return self->stop_signal ? HOSTVMM_EXIT_SIGNAL + self->stop_signal : HOSTVMM_EXIT_HOST;
    case VM_END_NONE:
        break;
    }
    return HOSTVMM_EXIT_HOST;
}

static int serve(struct run *self)
{
    if (self->config->initrd && self->machine.has_vsock)
        virtio_vsock_open_gate(&self->machine.vsock); /* not our init: nobody will say when it listens */
    self->timeline.running_ns = clock_monotonic_ns();
    /* Point of no return: from here on the guest runs, and what it writes is read. */
    int error = vm_start(&self->machine.vm);
    if (error == 0)
        error = loop_run(&self->loop);
    if (error)
        log_error("the event loop failed: %s", strerror(-error));
    vm_stop(&self->machine.vm);
    if (!self->ready_said)
        write_timeline(self);
    return error ? HOSTVMM_EXIT_HOST : exit_code(self);
}

int run_guest(const struct config *config, const struct timeline *timeline)
{
    run.config = config;
    run.timeline = *timeline;
    run.signal_fd = run.stage_fd = run.limit_fd = -1;
    run.loop.epoll_fd = run.loop.stop_fd = -1; /* close_loop comes even when open_loop did not */
    control_shutdown_init(&run.shutdown);
    int code = machine_open(&run.machine, config);
    const int error = code == 0 ? open_loop(&run) : 0;
    if (error) {
        log_error("cannot set up the event loop: %s", strerror(-error));
        code = HOSTVMM_EXIT_HOST;
    }
    if (code == 0)
        code = machine_build(&run.machine, config, &run.loop, &guest_ops, &run);
    if (code == 0)
        code = serve(&run);
    machine_fini(&run.machine);
    close_loop(&run);
    return code;
}
