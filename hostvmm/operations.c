/* See operations.h. */
#include "hostvmm/operations.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "agent/base/log.h"
#include "hostvmm/control/text.h"
#include "hostvmm/exit.h"
#include "hostvmm/logs.h"

static void answer(struct operations *operations, bool ok, int code, const char *text)
{
    operations->resume_asked = false;
    logs_request(NULL);
    operator_answer(&operations->server, ok, code, text);
}

static void done(struct operations *operations)
{
    answer(operations, true, 0, "");
}

static void refuse(struct operations *operations, int code, const char *why)
{
    answer(operations, false, code, why);
}

/* Whether the guest can be paused or saved; if not, the request is refused. */
static bool is_free(struct operations *operations)
{
    const char *why = operations->snapshots->capture.busy ? "a snapshot is under way"
                                                          : operations->guest->busy(operations->context);
    if (why)
        refuse(operations, HOSTVMM_EXIT_STATE, why);
    return !why;
}

/* ---- snapshot ---- */

static void on_snapshot(void *context, int code, const struct capture_result *result)
{
    struct operations *operations = context;
    const bool stops = operations->stops;
    char members[160];
    operations->stops = false;
    if (result->error) {
        refuse(operations, code, result->why);
        return;
    }
    if (operations->snapshots->capture.request.hold) {
        operations->paused = true;
        if (operations->guest->busy(operations->context)) /* it has been asked to power off meanwhile */
            (void)operations_go_on(operations);
    }
    (void)snprintf(members, sizeof members,
                   "\"pause_ns\":%" PRIu64 ",\"checkpoint_us\":%" PRIu64 ",\"disk_bytes\":%" PRIu64,
                   result->pause_ns, result->checkpoint_us, result->disk_bytes);
    answer(operations, true, 0, members);
    if (stops)
        operations->guest->stop(operations->context, HOSTVMM_EXIT_OK);
}

static void copy_path(char *to, size_t capacity, const char *from)
{
    (void)snprintf(to, capacity, "%s", from ? from : "");
}

static void on_snapshot_request(struct operations *operations, const struct operator_request *request)
{
    struct capture_request wanted = {
        .checkpoint = !operator_says(request, OPERATOR_CHECKPOINT, "no") && !operations->paused,
        .stop = operator_says(request, OPERATOR_THEN, "stop"),
        .hold = operator_says(request, OPERATOR_THEN, "pause") && !operations->paused,
        .still = operations->paused,
    };
    _Static_assert(OPERATOR_PATH_MAX_BYTES < sizeof wanted.out, "a path of the operator's fits a request");
    if (!operations->started) {
        refuse(operations, HOSTVMM_EXIT_STATE, "the guest has not started: resume it first");
        return;
    }
    if (operations->paused && operator_says(request, OPERATOR_CHECKPOINT, "yes")) {
        refuse(operations, HOSTVMM_EXIT_STATE,
               "the guest is paused: its agent cannot be asked to checkpoint");
        return;
    }
    if (operations->paused && operator_says(request, OPERATOR_THEN, "run")) {
        refuse(operations, HOSTVMM_EXIT_STATE, "the guest is paused: resume it after the snapshot");
        return;
    }
    if (!is_free(operations))
        return;
    copy_path(wanted.out, sizeof wanted.out, operator_value(request, OPERATOR_OUT));
    copy_path(wanted.parent, sizeof wanted.parent, operator_value(request, OPERATOR_PARENT));
    operations->stops = wanted.stop;
    const int error = snapshots_take(operations->snapshots, &wanted, on_snapshot, operations);
    if (error)
        refuse(operations, HOSTVMM_EXIT_HOST, strerror(-error));
}

/* ---- pause, resume ---- */

static void on_pause(struct operations *operations, const struct operator_request *request)
{
    (void)request;
    if (strcmp(operations_state(operations), "Paused") == 0)
        done(operations);
    else if (!operations->started)
        refuse(operations, HOSTVMM_EXIT_STATE, "the guest has not started");
    else if (is_free(operations))
        operations->pause_wanted = true; /* what of this turn is left comes first */
}

static void begin_standing(struct operations *operations)
{
    struct machine *machine = operations->machine;
    operations->pause_wanted = false;
    if (!is_free(operations)) /* since it was asked for */
        return;
    vm_pause(&machine->vm);
    const int error = machine_hold(machine);
    if (error) {
        machine_release(machine);
        vm_go_on(&machine->vm);
        refuse(operations, HOSTVMM_EXIT_HOST, "a drive cannot be flushed; the guest goes on");
        return;
    }
    operations->paused = true;
    log_info("the guest is paused");
    done(operations);
}

/* The agent that waited since a checkpoint has heard that it may go on. */
static void on_gone_on(void *context, const struct capture_result *result)
{
    struct operations *operations = context;
    if (result->error)
        log_error("%s", result->why);
    if (!operations->resume_asked)
        return;
    if (result->error)
        refuse(operations, HOSTVMM_EXIT_HOST, result->why);
    else
        done(operations);
}

/* Whether on_gone_on will be called. */
static bool release(struct operations *operations)
{
    machine_release(operations->machine);
    vm_go_on(&operations->machine->vm);
    operations->paused = false;
    log_info("the guest goes on");
    return capture_go_on(&operations->snapshots->capture, on_gone_on, operations) == 0;
}

bool operations_go_on(struct operations *operations)
{
    if (operations->paused)
        (void)release(operations);
    return operations->started || !operations->config->paused;
}

static void on_resume(struct operations *operations, const struct operator_request *request)
{
    (void)request;
    if (!operations->started) {
        const int error = operations->guest->start(operations->context);
        if (error)
            refuse(operations, HOSTVMM_EXIT_HOST, "the guest cannot be started; the messages say why");
        else
            done(operations);
        return;
    }
    operations->resume_asked = true;
    if (!operations->paused || !release(operations))
        done(operations);
}

void operations_started(struct operations *operations)
{
    operations->started = true;
}

bool operations_stands(const struct operations *operations)
{
    const bool stands = operations->paused || operations->pause_wanted || !operations->started;
    return operations->open && stands && !vm_ended(&operations->machine->vm);
}

int operations_stand(struct operations *operations)
{
    const struct vm *vm = &operations->machine->vm;
    if (operations->pause_wanted)
        begin_standing(operations);
    int result = loop_add(&operations->loop, &operations->signals, operations->signal_fd, EPOLLIN,
                          operations->guest->on_signal, operations->context);
    while (result >= 0 && (operations->paused || !operations->started) && !vm_ended(vm))
        result = loop_run_once(&operations->loop, -1);
    loop_remove(&operations->loop, &operations->signals);
    return result < 0 ? result : 0;
}

/* ---- the others ---- */

static void on_status(struct operations *operations, const struct operator_request *request)
{
    char *text = operations_status(operations);
    (void)request;
    answer(operations, text, HOSTVMM_EXIT_HOST, text ? text : "no memory");
    free(text);
}

/* In the form that is asked for; NULL: no memory. */
static char *metrics_text(struct operations *operations, bool prometheus)
{
    struct metrics metrics = {.phase_count = 0};
    char *inner = NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&inner, &size);
    if (!out)
        return NULL;
    metrics_look(&metrics, operations->machine, operations->timeline, operations->snapshots);
    if (operations->config->metrics)
        operations_write_metrics(operations);
    if (prometheus)
        metrics_prometheus(&metrics, out);
    else
        metrics_json(&metrics, out);
    if (fclose(out)) {
        free(inner);
        return NULL;
    }
    out = open_memstream(&text, &size);
    if (out) {
        (void)fprintf(out, "\"%s\":", prometheus ? "text" : "metrics");
        if (prometheus)
            text_json(out, inner);
        else
            (void)fputs(inner, out);
        if (fclose(out)) {
            free(text);
            text = NULL;
        }
    }
    free(inner);
    return text;
}

void operations_write_metrics(const struct operations *operations)
{
    struct metrics metrics = {.phase_count = 0};
    const char *path = operations->config->metrics;
    if (!path)
        return;
    metrics_look(&metrics, operations->machine, operations->timeline, operations->snapshots);
    const int error = metrics_write(&metrics, path);
    if (error)
        log_error("cannot write the metrics to %s: %s", path, strerror(-error));
}

static void on_metrics(struct operations *operations, const struct operator_request *request)
{
    char *text = metrics_text(operations, operator_says(request, OPERATOR_FORMAT, "prometheus"));
    answer(operations, text, HOSTVMM_EXIT_HOST, text ? text : "no memory");
    free(text);
}

static void on_shutdown(struct operations *operations, const struct operator_request *request)
{
    (void)request;
    if (!operations->started) {
        refuse(operations, HOSTVMM_EXIT_STATE, "the guest has not started: kill ends it");
        return;
    }
    done(operations);
    operations->guest->shutdown(operations->context);
}

static void on_kill(struct operations *operations, const struct operator_request *request)
{
    (void)request;
    log_info("kill: stopping the guest at once");
    done(operations);
    operations->guest->stop(operations->context, HOSTVMM_EXIT_OK);
}

static void on_log(struct operations *operations, const struct operator_request *request)
{
    enum log_level level = LOG_LEVEL_INFO;
    if (logs_level(operator_value(request, OPERATOR_LEVEL), &level))
        log_set_most(level);
    done(operations);
}

static void on_device(struct operations *operations, const struct operator_request *request)
{
    struct operations_reply (*const change)(struct machine *, const struct operator_request *) =
        request->verb == OPERATOR_DRIVE     ? operations_drive
        : request->verb == OPERATOR_NET     ? operations_net
        : request->verb == OPERATOR_ENTROPY ? operations_entropy
                                            : operations_balloon;
    const struct operations_reply reply = change(operations->machine, request);
    answer(operations, reply.code == 0, reply.code, reply.code ? reply.why : reply.text);
    free(reply.text);
}

static void on_request(void *context, const struct operator_request *request)
{
    static void (*const handlers[OPERATOR_VERBS])(struct operations *, const struct operator_request *) = {
        [OPERATOR_SNAPSHOT] = on_snapshot_request,
        [OPERATOR_PAUSE] = on_pause,
        [OPERATOR_RESUME] = on_resume,
        [OPERATOR_STATUS] = on_status,
        [OPERATOR_METRICS] = on_metrics,
        [OPERATOR_SHUTDOWN] = on_shutdown,
        [OPERATOR_KILL] = on_kill,
        [OPERATOR_DRIVE] = on_device,
        [OPERATOR_NET] = on_device,
        [OPERATOR_ENTROPY] = on_device,
        [OPERATOR_BALLOON] = on_device,
        [OPERATOR_LOG] = on_log,
    };
    struct operations *operations = context;
    logs_request(operator_value(request, OPERATOR_REQUEST));
    log_debug("request: %s", operator_verb_name(request->verb));
    if (vm_ended(&operations->machine->vm))
        refuse(operations, HOSTVMM_EXIT_STATE, "the guest has ended");
    else
        handlers[request->verb](operations, request);
}

static void on_hung_up(void *context)
{
    struct operations *operations = context;
    if (vm_ended(&operations->machine->vm))
        return;
    log_warn("the operator's connection is closed: stopping the guest at once");
    operations->guest->stop(operations->context, HOSTVMM_EXIT_HOST);
}

static const struct operator_ops server_ops = {.request = on_request, .hung_up = on_hung_up};

static void on_nested(void *context, uint32_t events)
{
    struct operations *operations = context;
    (void)events;
    (void)loop_run_once(&operations->loop, 0);
}

/* ---- life ---- */

void operations_init(struct operations *operations)
{
    operations->open = false;
    operations->started = operations->paused = operations->pause_wanted = operations->resume_asked = false;
    operations->stops = false;
    operations->nested.fd = operations->signals.fd = -1;
}

int operations_open(struct operations *operations, struct loop *main_loop)
{
    const struct config *config = operations->config;
    if (!config->control && config->control_fd < 0)
        return 0;
    int error = loop_init(&operations->loop);
    if (error) {
        log_error("cannot set up the operator's loop: %s", strerror(-error));
        return error;
    }
    operations->open = true;
    operator_init(&operations->server, &operations->loop, &server_ops, operations);
    error =
        loop_add(main_loop, &operations->nested, operations->loop.epoll_fd, EPOLLIN, on_nested, operations);
    if (error == 0 && config->control) {
        error = operator_open(&operations->server, config->control);
        if (error)
            log_error("control socket %s: %s", config->control, strerror(-error));
    }
    if (error == 0 && config->control_fd >= 0) {
        error = operator_adopt(&operations->server, config->control_fd);
        if (error)
            log_error("--control-fd %d: no connected stream socket: %s", config->control_fd,
                      strerror(-error));
    }
    return error;
}

void operations_fini(struct operations *operations)
{
    if (!operations->open)
        return;
    operations->open = false;
    operator_fini(&operations->server);
    loop_fini(&operations->loop);
}
