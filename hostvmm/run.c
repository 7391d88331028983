/*
 * See run.h. The main thread's part of a VM's life: signals, stages, snapshots, the orderly shutdown, the
 * end.
 *
 *   open files -> build, or restore -> start vCPUs -> loop -> stop vCPUs -> devices end -> exit code
 *
 * Clients are let in when a booted guest's agent listens; a restored one's when it has become unique.
 *
 * A first SIGINT, SIGTERM or SIGHUP asks the guest's agent to power off, and sets a limit to how long that
 * may take; when there is nobody to ask, when the limit passes, or at a second signal, the guest is stopped
 * at once. A paused guest goes on for it; one that has never run is stopped.
 */
#include "hostvmm/run.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/proto/limits.h"
#include "hostvmm/control/shutdown.h"
#include "hostvmm/exit.h"
#include "hostvmm/jail/jail.h"
#include "hostvmm/machine.h"
#include "hostvmm/operations.h"
#include "hostvmm/snapshot/rehearsal.h"
#include "hostvmm/snapshot/resumption.h"
#include "hostvmm/snapshots.h"

#define SHUTDOWN_LIMIT_MS 5000u /* beyond init's own wait for processes to end */

struct run {
    const struct config *config;
    struct timeline timeline;
    struct loop loop;
    struct machine machine;
    struct loop_source signals;
    struct loop_source stages;
    struct loop_source limit;
    int signal_fd;
    int stage_fd; /* a stage was reached that the loop has to do with */
    int limit_fd; /* timer: the guest had its time to power off */
    struct control_shutdown shutdown;
    struct snapshots snapshots;
    struct operations operations;
    struct resumption resumption;
    struct rehearsal rehearsal;
    struct uniqueness uniqueness;
    int stop_signal; /* the first one; 0: none yet */
    int code;
    bool stopped;  /* by ourselves, with this code */
    bool resuming; /* a clone that is not unique yet */
    bool ready_said;
};

static struct run run; /* one per process; far too large for a stack */

/* On vCPU threads. */
static void on_guest_stage(void *context, enum guest_stage stage)
{
    struct run *self = context;
    const uint64_t one = 1;
    timeline_mark(&self->timeline, stage);
    if (stage == GUEST_STAGE_PID1 || stage == GUEST_STAGE_AGENT_LISTENING ||
        stage == GUEST_STAGE_FUNCTION_READY || stage == GUEST_STAGE_FUNCTION_FAILED) {
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
    timeline_entered(&self->timeline, __atomic_load_n(&self->machine.vm.first_exit_ns, __ATOMIC_RELAXED));
    const int error = timeline_write(&self->timeline, self->config->timeline);
    if (error)
        log_error("cannot write the timeline to %s: %s", self->config->timeline, strerror(-error));
}

static void stop_with(void *context, int code)
{
    struct run *self = context;
    self->code = code;
    self->stopped = true;
    vm_end(&self->machine.vm, VM_END_STOPPED);
}

/* ---- the last snapshot, that the guest does not outlive ---- */

static void on_last_snapshot(void *context, int code, const struct capture_result *result)
{
    (void)result;
    stop_with(context, code);
}

static void take_last_snapshot(struct run *self)
{
    struct capture_request request = {.checkpoint = true, .stop = true};
    if ((size_t)snprintf(request.out, sizeof request.out, "%s", self->config->out) >= sizeof request.out)
        log_error("--out: the path is too long");
    else if (snapshots_take(&self->snapshots, &request, on_last_snapshot, self) == 0)
        return;
    stop_with(self, HOSTVMM_EXIT_HOST);
}

/* ---- stages ---- */

static void open_gate(struct run *self)
{
    if (self->machine.has_vsock)
        virtio_vsock_open_gate(&self->machine.vsock);
}

static void say_ready(struct run *self, bool ready)
{
    char text[160];
    self->ready_said = true;
    timeline_text(&self->timeline, ready ? GUEST_STAGE_FUNCTION_READY : GUEST_STAGE_FUNCTION_FAILED, text,
                  sizeof text);
    if (ready)
        log_info("ready in %s", text);
    else
        log_error("the function's init failed after %s; `hostvmm invoke` shows its error", text);
    write_timeline(self);
    if (self->config->command != CONFIG_SNAPSHOT)
        return;
    if (ready)
        take_last_snapshot(self);
    else
        stop_with(self, HOSTVMM_EXIT_FUNCTION);
}

static void on_stage(void *context, uint32_t events)
{
    struct run *self = context;
    uint64_t count;
    (void)events;
    const ssize_t n = read(self->stage_fd, &count, sizeof count);
    (void)n;
    if (timeline_stage(&self->timeline, GUEST_STAGE_PID1))
        vmgenid_guest_ready(&self->machine.vmgenid);
    if (timeline_stage(&self->timeline, GUEST_STAGE_AGENT_LISTENING)) {
        if (self->resuming)
            resumption_agent_listens(&self->resumption);
        else
            open_gate(self);
    }
    const bool ready = timeline_stage(&self->timeline, GUEST_STAGE_FUNCTION_READY);
    const bool failed = timeline_stage(&self->timeline, GUEST_STAGE_FUNCTION_FAILED);
    if ((ready || failed) && !self->ready_said && !self->machine.origin)
        say_ready(self, ready);
}

/* ---- a clone becomes unique ---- */

static void on_unique(void *context, const struct lifeline_outcome *outcome)
{
    struct run *self = context;
    self->resuming = false;
    if (outcome->error) {
        log_error("the clone is stopped: it could not become unique: %s", outcome->why);
        stop_with(self, HOSTVMM_EXIT_RESUME);
        return;
    }
    if (self->config->rehearse) {
        stop_with(self, rehearsal_record(&self->rehearsal) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK);
        return;
    }
    timeline_restored(&self->timeline, self->resumption.connected_ns);
    for (unsigned i = 0; i < outcome->step_count; i++)
        timeline_resume_step(&self->timeline, outcome->steps[i].name, outcome->steps[i].duration_us);
    log_info("clone ready in %.1f ms", (double)timeline_restore_ns(&self->timeline) / 1e6);
    self->ready_said = true;
    write_timeline(self);
    open_gate(self);
}

/* Everything is in place and nothing has run: give the clone its id, and see that it takes it. */
static int begin_resumption(struct run *self)
{
    struct machine *machine = &self->machine;
    if (!machine->made.agent)
        log_warn("no agent of ours is in this guest: nobody sees to it that the clone is no twin");
    self->uniqueness.resume.network = machine->network_text;
    int error = uniqueness_draw(&self->uniqueness, self->config->hostname);
    if (error == 0)
        error = vmgenid_change(&machine->vmgenid, self->uniqueness.resume.clone_id);
    if (machine->has_vsock)
        virtio_vsock_reset_connections(&machine->vsock);
    if (error == 0 && machine->made.agent && machine->has_vsock) {
        self->resuming = true;
        error = resumption_begin(&self->resumption, &self->uniqueness, self->config->resume_limit_ms,
                                 on_unique, self);
    } else if (error == 0) {
        open_gate(self);
    }
    if (error)
        log_error("the clone cannot be made unique: %s", strerror(-error));
    return error;
}

/* ---- the orderly shutdown ---- */

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
    if (!operations_go_on(&self->operations)) {
        stop_at_once(self, "the guest has not started");
        return;
    }
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

/* ---- what the operator asks for ---- */

static int start_guest(struct run *self)
{
    const int error = self->machine.origin ? begin_resumption(self) : 0;
    self->timeline.running_ns = clock_monotonic_ns();
    operations_started(&self->operations);
    /* Point of no return: from here on the guest runs, and what it writes is read. */
    const int result = error ? error : vm_start(&self->machine.vm);
    jail_thread(JAIL_MAIN);
    return result;
}

static int on_start_asked(void *context)
{
    struct run *self = context;
    machine_release(&self->machine);
    const int error = start_guest(self);
    if (error)
        stop_with(self, HOSTVMM_EXIT_HOST);
    return error;
}

static const char *why_busy(void *context)
{
    const struct run *self = context;
    if (self->stop_signal)
        return "the guest is being shut down";
    return self->resuming ? "the clone is not unique yet" : NULL;
}

static void on_shutdown_asked(void *context)
{
    struct run *self = context;
    if (self->stop_signal)
        return; /* it has been asked */
    self->stop_signal = SIGTERM;
    log_info("asking the guest to power off");
    begin_shutdown(self);
}

static const struct operations_guest operated_guest = {
    .start = on_start_asked,
    .busy = why_busy,
    .shutdown = on_shutdown_asked,
    .stop = stop_with,
    .on_signal = on_signal,
};

static void init_operations(struct run *self)
{
    struct operations *operations = &self->operations;
    operations->config = self->config;
    operations->machine = &self->machine;
    operations->snapshots = &self->snapshots;
    operations->timeline = &self->timeline;
    operations->uniqueness = &self->uniqueness;
    operations->guest = &operated_guest;
    operations->context = self;
    operations_init(operations);
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

static int serve(struct run *self)
{
    if (!self->machine.made.agent && !self->machine.origin && self->machine.has_vsock)
        virtio_vsock_open_gate(&self->machine.vsock); /* not our init: nobody will say when it listens */
    int error = self->config->paused ? machine_hold(&self->machine) : start_guest(self);
    while (error >= 0 && !self->loop.stopped)
        error = operations_stands(&self->operations) ? operations_stand(&self->operations)
                                                     : loop_run_once(&self->loop, -1);
    error = error < 0 ? error : 0;
    if (error)
        log_error("the event loop failed: %s", strerror(-error));
    vm_stop(&self->machine.vm);
    if (!self->ready_said)
        write_timeline(self);
    if (error)
        return HOSTVMM_EXIT_HOST;
    const bool ours = self->machine.vm.end == VM_END_STOPPED && self->stopped;
    return ours ? self->code : run_exit_code(&self->machine, self->stop_signal);
}

/* The VM, booted or restored, ready to start. 0 or an exit code. */
static int build(struct run *self, struct snapshot *snapshot)
{
    const struct config *config = self->config;
    int code = snapshot ? machine_open_restore(&self->machine, config, snapshot)
                        : machine_open(&self->machine, config);
    if (code == 0)
        code =
            run_enter_jail(&self->machine, config); /* before the loop: it waits for signals of its process */
    if (code)
        return code;
    const int error = open_loop(self);
    if (error) {
        log_error("cannot set up the event loop: %s", strerror(-error));
        return HOSTVMM_EXIT_HOST;
    }
    if (!snapshot)
        return machine_build(&self->machine, config, &self->loop, &guest_ops, self);
    code = machine_restore(&self->machine, config, &self->loop, &guest_ops, self);
    timeline_built(&self->timeline, self->machine.vm.kvm_ns, self->machine.created_ns);
    if (code == 0 && config->rehearse && rehearsal_begin(&self->rehearsal, &self->machine.vm, snapshot))
        code = HOSTVMM_EXIT_HOST;
    code = code ? code : machine_reload(&self->machine);
    if (code == 0 && config->rehearse)
        rehearsal_loaded(&self->rehearsal);
    return code;
}

int run_guest(const struct config *config, const struct timeline *timeline, struct snapshot *snapshot)
{
    run.config = config;
    run.timeline = *timeline;
    run.signal_fd = run.stage_fd = run.limit_fd = -1;
    run.loop.epoll_fd = run.loop.stop_fd = -1; /* close_loop comes even when open_loop did not */
    control_shutdown_init(&run.shutdown);
    snapshots_init(&run.snapshots, &run.machine, &run.loop, config->hooks_ms);
    init_operations(&run);
    resumption_init(&run.resumption, &run.machine, &run.loop);
    rehearsal_init(&run.rehearsal);
    int code = uniqueness_init(&run.uniqueness, config) ? HOSTVMM_EXIT_INPUT : 0;
    if (code == 0)
        code = build(&run, snapshot);
    run.operations.signal_fd = run.signal_fd;
    if (code == 0 && operations_open(&run.operations, &run.loop))
        code = HOSTVMM_EXIT_HOST;
    if (code == 0) {
        code = serve(&run);
        operations_write_metrics(&run.operations);
    }
    operations_fini(&run.operations);
    snapshots_fini(&run.snapshots);
    resumption_fini(&run.resumption);
    uniqueness_fini(&run.uniqueness);
    rehearsal_fini(&run.rehearsal);
    machine_fini(&run.machine);
    close_loop(&run);
    return code;
}
