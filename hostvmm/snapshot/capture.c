/* See capture.h. */
#include "hostvmm/snapshot/capture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/proto/limits.h"
#include "hostvmm/snapshot/pages.h"

#define CHECKPOINT_MARGIN_MS 20000u /* for the agent's own part, beyond the function's hooks */

static void end(struct capture *capture)
{
    saver_fini(&capture->saver);
    snapshot_close(&capture->parent);
    state_writer_fini(&capture->parts);
    if (!capture->quiesced)
        lifeline_fini(&capture->lifeline);
    uniqueness_fini(&capture->uniqueness);
    capture->busy = false;
    capture->done(capture->context, &capture->result);
}

static void fail(struct capture *capture, int error, const char *what)
{
    capture->result.error = error;
    if (what)
        (void)snprintf(capture->result.why, sizeof capture->result.why, "%s: %s", what, strerror(-error));
}

/* ---- the guest goes on ---- */

static void on_resumed(void *context, const struct lifeline_outcome *outcome)
{
    struct capture *capture = context;
    if (outcome->error && capture->result.error == 0) {
        capture->result.error = outcome->error;
        (void)snprintf(capture->result.why, sizeof capture->result.why,
                       "%sthe guest's function did not go on: %s",
                       capture->request.hold ? "" : "the snapshot is made, but ", outcome->why);
    }
    end(capture);
}

/* The agent waits for a word. It gets what a clone gets: the original is one of those who know its secrets.
 */
static void resume(struct capture *capture)
{
    struct uniqueness *uniqueness = &capture->uniqueness;
    int error = uniqueness_draw(uniqueness, "");
    if (error == 0)
        error = vmgenid_change(&capture->machine->vmgenid, uniqueness->resume.clone_id);
    if (error == 0)
        error = lifeline_resume(&capture->lifeline, &uniqueness->resume,
                                capture->request.hooks_ms + CHECKPOINT_MARGIN_MS, on_resumed, capture);
    if (error == 0)
        return;
    fail(capture, error, "the guest's function cannot be told to go on");
    end(capture);
}

/* ---- the snapshot ---- */

/* Which pages belong into the file: of a diff those that changed, of a full snapshot those that may not be
 * zero. */
static int choose_pages(struct capture *capture, uint64_t **present, uint64_t **changed)
{
    struct machine *machine = capture->machine;
    *present = *changed = NULL;
    if (!capture->request.parent[0])
        return pages_present(&machine->vm.memory, machine->origin, present);
    /* A huge page that was given back has changed; it must not be looked at for that. */
    const int error = machine->vm.memory.huge ? pages_present(&machine->vm.memory, NULL, present) : 0;
    if (error)
        return error;
    return machine->tracked ? pages_written(&machine->vm, changed)
                            : pages_private(&machine->vm.memory, changed);
}

/* While the guest stands still. */
static int take(struct capture *capture)
{
    struct machine *machine = capture->machine;
    char *why = capture->result.why;
    uint64_t *present;
    uint64_t *changed;
    if (lifecycle_stage_reached(&machine->lifecycle, GUEST_STAGE_PID1))
        vmgenid_guest_ready(&machine->vmgenid);
    int error = machine_save(machine, &capture->parts);
    if (error == 0 && capture->parts.failed)
        error = -ENOMEM;
    if (error) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "the machine's state cannot be read: %s", strerror(-error));
        return error;
    }
    error = choose_pages(capture, &present, &changed);
    if (error) {
        free(present);
        free(changed);
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "it cannot be told which pages to save: %s",
                       strerror(-error));
        return error;
    }
    error = saver_memory(&capture->saver, &machine->vm.memory, present, changed,
                         capture->request.parent[0] ? &capture->parent : NULL, why);
    free(present);
    return error;
}

/* From now on the guest's writes are logged, for a diff against this one. */
static void track(struct capture *capture)
{
    struct machine *machine = capture->machine;
    const int error = vm_track_writes(&machine->vm);
    machine->tracked = error == 0;
    machine->has_last = error == 0;
    memcpy(machine->last_id, capture->saver.made.id, SNAPSHOT_ID_BYTES);
    if (error)
        log_warn("no diff can be made against this snapshot: %s", strerror(-error));
}

static void measure(struct capture *capture)
{
    static struct snapshot made; /* only its path is looked at */
    (void)snprintf(made.path, sizeof made.path, "%s", capture->request.out);
    capture->result.disk_bytes = snapshot_disk_bytes(&made);
}

static int hold(struct machine *machine)
{
    vm_pause(&machine->vm);
    return machine_hold(machine);
}

static void release(struct machine *machine)
{
    machine_release(machine);
    vm_go_on(&machine->vm);
}

static void pause_and_take(struct capture *capture)
{
    struct machine *machine = capture->machine;
    const struct capture_request *request = &capture->request;
    const uint64_t from = clock_monotonic_ns();
    bool held = !request->still; /* and to be let go by us */
    int error = held ? hold(machine) : 0;
    if (error)
        fail(capture, error, "a drive cannot be flushed");
    if (error == 0)
        error = capture->result.error = take(capture);
    if (error == 0 && !request->stop)
        track(capture);
    if (held && (error || (!request->stop && !request->hold))) {
        release(machine);
        held = false;
    }
    capture->result.pause_ns = clock_monotonic_ns() - from;
    if (error == 0)
        error = capture->result.error = saver_finish(&capture->saver, &capture->parts, capture->result.why);
    if (error)
        machine->has_last = false; /* what was logged since is against nothing */
    else
        measure(capture);
    if (error && held)
        release(machine);
    capture->quiesced = capture->quiesced || (error == 0 && request->hold && request->checkpoint);
    if (request->checkpoint && (error || (!request->stop && !request->hold)))
        resume(capture);
    else
        end(capture);
}

static void on_quiesced(void *context, const struct lifeline_outcome *outcome)
{
    struct capture *capture = context;
    capture->result.checkpoint_us = outcome->duration_us;
    if (outcome->error == 0) {
        pause_and_take(capture);
        return;
    }
    capture->result.error = outcome->error;
    (void)snprintf(capture->result.why, sizeof capture->result.why, "the function cannot be checkpointed: %s",
                   outcome->why);
    end(capture);
}

/* ---- beginning ---- */

static int open_parent(struct capture *capture)
{
    const struct machine *machine = capture->machine;
    char *why = capture->result.why;
    char reason[SNAPSHOT_WHY_BYTES];
    const int error = snapshot_open(&capture->parent, capture->request.parent, reason);
    if (error) {
        (void)snprintf(why, SNAPSHOT_WHY_BYTES, "parent %.500s: %.1000s", capture->request.parent, reason);
        return error;
    }
    if (machine->has_last && memcmp(machine->last_id, capture->parent.id, SNAPSHOT_ID_BYTES) == 0)
        return 0;
    (void)snprintf(
        why, SNAPSHOT_WHY_BYTES,
        "parent %.500s: what changed is known only since the last snapshot of this guest (or the one it was "
        "restored from), which is another: make a full one",
        capture->request.parent);
    return -EINVAL;
}

static int ask_agent(struct capture *capture)
{
    struct machine *machine = capture->machine;
    int fd;
    if (!machine->has_vsock)
        return -ENODEV;
    int error = virtio_vsock_connect(&machine->vsock, PROTO_PORT, &fd);
    if (error == 0)
        error = lifeline_open(&capture->lifeline, fd);
    return error ? error
                 : lifeline_checkpoint(&capture->lifeline, capture->request.hooks_ms + CHECKPOINT_MARGIN_MS,
                                       on_quiesced, capture);
}

void capture_init(struct capture *capture, struct machine *machine, struct loop *loop)
{
    /* The rest is large, and set when there is something to do. */
    capture->machine = machine;
    capture->loop = loop;
    capture->busy = capture->quiesced = false;
}

static void prepare(struct capture *capture)
{
    capture->result = (struct capture_result){.error = 0};
    capture->uniqueness = (struct uniqueness){
        .resume = {.hooks_limit_ms = capture->request.hooks_ms, .network = capture->machine->network_text}};
    capture->saver.above = capture->saver.directory = capture->saver.memory = -1;
    capture->saver.changed = NULL;
    capture->parent.layer_count = 0;
    capture->parent.file = NULL;
    if (!capture->quiesced)
        lifeline_init(&capture->lifeline, capture->loop);
    state_writer_init(&capture->parts);
}

int capture_begin(struct capture *capture, const struct capture_request *request, capture_done *done,
                  void *context)
{
    if (capture->busy)
        return -EBUSY;
    capture->busy = true;
    capture->request = *request;
    capture->done = done;
    capture->context = context;
    prepare(capture);
    int error = request->parent[0] ? open_parent(capture) : 0;
    if (error == 0)
        error = saver_begin(&capture->saver, request->out, capture->result.why);
    capture->result.error = error;
    capture->saver.made.machine = capture->machine->made;
    capture->saver.made.consented = request->checkpoint || capture->quiesced;
    if (error == 0 && request->checkpoint) {
        error = ask_agent(capture);
        if (error)
            fail(capture, error, "no agent in the guest can be asked to checkpoint");
    } else if (error == 0) {
        pause_and_take(capture);
        return 0;
    }
    if (error)
        end(capture);
    return 0;
}

int capture_go_on(struct capture *capture, capture_done *done, void *context)
{
    if (capture->busy)
        return -EBUSY;
    if (!capture->quiesced)
        return -EALREADY;
    prepare(capture);
    capture->busy = true;
    capture->quiesced = false;
    capture->request.hold = true;
    capture->done = done;
    capture->context = context;
    resume(capture);
    return 0;
}

void capture_fini(struct capture *capture)
{
    if (capture->quiesced)
        lifeline_fini(&capture->lifeline);
    capture->quiesced = false;
    if (!capture->busy)
        return;
    capture->busy = false;
    saver_fini(&capture->saver);
    snapshot_close(&capture->parent);
    state_writer_fini(&capture->parts);
    lifeline_fini(&capture->lifeline);
    uniqueness_fini(&capture->uniqueness);
}
