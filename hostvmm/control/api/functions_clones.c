/*
 * /clones: see functions_clones.h. A process is waited for through its pidfd, so that any number of requests
 * may wait for the same one without the lock; whoever finds it ended, with the lock, reaps it. Between giving
 * the lock up and taking it again a clone may have been deleted: it is found anew by its number.
 */
#include "hostvmm/control/api/functions_clones.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/dial.h"
#include "hostvmm/exit.h"

#define NS_PER_MS UINT64_C(1000000)

static struct {
    struct clone *first;
    uint32_t count;
    uint32_t last_number;
} clones;

/* ---- processes ---- */

static uint64_t realtime_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / NS_PER_MS;
}

/* Take note of its end, if it has come. */
static void reap(struct clone *clone)
{
    int status;
    if (clone->pid == 0 || waitpid(clone->pid, &status, WNOHANG) != clone->pid)
        return;
    clone->code = WIFEXITED(status) ? WEXITSTATUS(status) : HOSTVMM_EXIT_SIGNAL + WTERMSIG(status);
    clone->pid = 0;
    clone->ended_ns = clock_monotonic_ns();
    fd_close(&clone->pid_fd);
}

static void free_clone(struct clone *clone)
{
    fd_close(&clone->pid_fd);
    free(clone->snapshot_path);
    free(clone->vsock_path);
    free(clone->control_path);
    free(clone);
}

static void forget(struct clone *clone)
{
    for (struct clone **at = &clones.first; *at; at = &(*at)->next)
        if (*at == clone) {
            *at = clone->next;
            clones.count--;
            free_clone(clone);
            return;
        }
}

static struct clone *find(uint32_t number)
{
    struct clone *clone = clones.first;
    while (clone && clone->number != number)
        clone = clone->next;
    return clone;
}

/* The clone a request's path names, or NULL and the response says so. */
static struct clone *named(const struct api_request *request, struct api_response *response)
{
    const char *name = request->name ? request->name : "";
    const size_t size = strlen(name);
    struct clone *clone = NULL;
    if (size >= 1 && size <= 9 && strspn(name, "0123456789") == size && name[0] != '0')
        clone = find((uint32_t)strtoul(name, NULL, 10));
    if (!clone)
        api_fail(response, 404, "no such clone: GET /clones lists them");
    return clone;
}

/* ---- starting ---- */

static struct clone *new_clone(const struct clones_wish *wish, uint32_t number, int *error)
{
    struct clone *clone = calloc(1, sizeof *clone);
    char control[FUNCTIONS_TEXT_MAX + 16];
    if (!clone) {
        *error = -ENOMEM;
        return NULL;
    }
    (void)snprintf(control, sizeof control, "%s%s",
                   wish->control_path ? wish->control_path : wish->vsock_path,
                   wish->control_path ? "" : ".control");
    clone->number = number;
    clone->pid_fd = -1;
    clone->snapshot_path = clones_expand(wish->snapshot_path, number, error);
    clone->vsock_path = clones_expand(wish->vsock_path, number, error);
    clone->control_path = clones_expand(control, number, error);
    return clone;
}

/* 0 with the clone in the list, or -errno. */
static int start(struct api *api, const struct clones_wish *wish, uint32_t number)
{
    struct clones_line line = {0};
    int error = 0;
    struct clone *clone = new_clone(wish, number, &error);
    if (!error) {
        clones_line_make(&line, wish, number);
        error = line.error;
    }
    if (!error) {
        const int pid = api_spawn(api, (const char *const *)line.words, NULL);
        error = pid < 0 ? pid : 0;
        clone->pid = pid < 0 ? 0 : pid;
    }
    clones_line_fini(&line);
    if (!error) {
        clone->pid_fd = (int)syscall(SYS_pidfd_open, clone->pid, 0);
        if (clone->pid_fd < 0) {
            error = -errno;
            (void)kill(clone->pid, SIGKILL);
            (void)waitpid(clone->pid, NULL, 0);
        }
    }
    if (error) {
        if (clone)
            free_clone(clone);
        return error;
    }
    clone->started_ns = clock_monotonic_ns();
    clone->started_ms = realtime_ms();
    struct clone **end = &clones.first;
    while (*end)
        end = &(*end)->next;
    *end = clone;
    clones.count++;
    return 0;
}

void functions_clones_post(struct api *api, const struct api_request *request, struct api_response *response)
{
    struct clones_wish wish;
    if (clones_wish_take(&wish, request->json, response) < 0)
        return;
    if (clones.count + wish.count > CLONES_MAX) {
        api_fail(response, 400,
                 "clones: count: %u are listed already, and %d is the limit: DELETE those that ended",
                 clones.count, CLONES_MAX);
        return;
    }
    json_t *ids = json_array();
    int error = ids ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < wish.count && !error; i++) {
        char id[16];
        error = start(api, &wish, ++clones.last_number);
        (void)snprintf(id, sizeof id, "%u", clones.last_number);
        if (!error && json_array_append_new(ids, json_pack("{ss}", "id", id)) < 0)
            error = -ENOMEM;
    }
    if (error) {
        api_fail(response, error == -E2BIG || error == -ENAMETOOLONG ? 400 : 500,
                 "clones: clone %u cannot be started: %s; those before it run", clones.last_number,
                 strerror(-error));
        json_decref(ids);
        return;
    }
    response->status = 201;
    response->json = json_pack("{so}", "clones", ids);
}

/* ---- telling ---- */

static const char *state_of(const struct clone *clone)
{
    if (!clone->pid)
        return "Ended";
    if (clone->is_ending)
        return "Ending";
    return clone->is_unique ? "Running" : "Starting";
}

/* Without what only the clone itself knows. */
static json_t *describe(struct clone *clone)
{
    char id[16];
    reap(clone);
    (void)snprintf(id, sizeof id, "%u", clone->number);
    const uint64_t until_ns = clone->ended_ns ? clone->ended_ns : clock_monotonic_ns();
    json_t *about = json_pack("{ss ss ss ss ss sI sI}", "id", id, "state", state_of(clone), "snapshot_path",
                              clone->snapshot_path, "vsock_path", clone->vsock_path, "control_path",
                              clone->control_path, "started_at_ms", (json_int_t)clone->started_ms, "age_ms",
                              (json_int_t)((until_ns - clone->started_ns) / NS_PER_MS));
    if (about && !clone->pid)
        json_object_set_new(about, "exit_code", json_integer(clone->code));
    return about;
}

/* Add to each of the list what its clone tells. Without the lock: the list is ours alone. */
static void ask_each(json_t *list)
{
    const uint64_t limit_ns = clock_monotonic_ns() + 4 * CLONES_ASK_MS * NS_PER_MS;
    for (size_t i = 0; i < json_array_size(list) && clock_monotonic_ns() < limit_ns; i++) {
        json_t *about = json_array_get(list, i);
        const char *state = json_string_value(json_object_get(about, "state"));
        const char *control = json_string_value(json_object_get(about, "control_path"));
        if (!control || !state || strcmp(state, "Ended") == 0 || strcmp(state, "Ending") == 0)
            continue;
        json_t *status = clones_ask(control, "status", CLONES_ASK_MS);
        json_t *told = json_object_get(status, "state");
        json_t *resume = functions_resume_of(status);
        /* One that has not become unique serves nobody yet, whatever its processors do. */
        if (json_is_string(told) && resume)
            json_object_set(about, "state", told);
        if (resume)
            json_object_set_new(about, "resume", resume);
        json_decref(status);
    }
}

/* So that a clone that once was unique is not said to start when it is slow to answer. With the lock. */
static void note_unique(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *about = json_array_get(list, i);
        const char *id = json_string_value(json_object_get(about, "id"));
        struct clone *clone = id ? find((uint32_t)strtoul(id, NULL, 10)) : NULL;
        if (clone && json_object_get(about, "resume"))
            clone->is_unique = true;
    }
}

void functions_clones_get(struct api *api, const struct api_request *request, struct api_response *response)
{
    json_t *list = json_array();
    (void)request;
    for (struct clone *clone = clones.first; clone; clone = clone->next)
        if (json_array_append_new(list, describe(clone)) < 0) {
            json_decref(list);
            api_fail(response, 500, "no memory for the list of clones");
            return;
        }
    api_unlock(api);
    ask_each(list);
    api_lock(api);
    note_unique(list);
    response->status = 200;
    response->json = json_pack("{so}", "clones", list);
}

void functions_clone_get(struct api *api, const struct api_request *request, struct api_response *response)
{
    struct clone *clone = named(request, response);
    if (!clone)
        return;
    json_t *list = json_pack("[o]", describe(clone));
    api_unlock(api);
    ask_each(list);
    api_lock(api);
    note_unique(list);
    response->status = 200;
    response->json = json_incref(json_array_get(list, 0));
    json_decref(list);
    if (!response->json)
        api_fail(response, 500, "no memory to describe a clone");
}

void functions_clone_invoke(struct api *api, const struct api_request *request, struct api_response *response)
{
    struct clone *clone = named(request, response);
    if (!clone)
        return;
    reap(clone);
    if (clone->pid)
        functions_invoke(api, request, response, clone->vsock_path);
    else
        api_fail(response, 400, "the clone has ended, with exit code %d", clone->code);
}

/* ---- ending ---- */

void functions_clone_delete(struct api *api, const struct api_request *request, struct api_response *response)
{
    struct clone *clone = named(request, response);
    if (!clone)
        return;
    const uint32_t number = clone->number;
    reap(clone);
    if (clone->pid) {
        int pid_fd = fcntl(clone->pid_fd, F_DUPFD_CLOEXEC, 0);
        if (pid_fd < 0) {
            api_fail(response, 500, "clone %u: %s", number, strerror(errno));
            return;
        }
        (void)kill(clone->pid, SIGTERM);
        clone->is_ending = true;
        api_unlock(api);
        const bool ended = control_poll(pid_fd, POLLIN, clock_monotonic_ns() + CLONES_END_MS * NS_PER_MS) > 0;
        if (!ended) {
            log_warn("clone %u did not power off in time: it is killed", number);
            (void)syscall(SYS_pidfd_send_signal, pid_fd, SIGKILL, NULL, 0);
            (void)control_poll(pid_fd, POLLIN, clock_monotonic_ns() + CLONES_END_MS * NS_PER_MS);
        }
        fd_close(&pid_fd);
        api_lock(api);
        clone = find(number);
        if (clone)
            reap(clone);
    }
    if (clone && clone->pid) {
        api_fail(response, 500, "clone %u does not end", number);
        return;
    }
    if (clone)
        forget(clone);
    response->status = 204;
}

void api_functions_end(void)
{
    const uint64_t limit_ns = clock_monotonic_ns() + CLONES_END_MS * NS_PER_MS;
    for (struct clone *clone = clones.first; clone; clone = clone->next) {
        reap(clone);
        if (clone->pid)
            (void)kill(clone->pid, SIGTERM);
    }
    while (clones.first) {
        struct clone *clone = clones.first;
        if (clone->pid && control_poll(clone->pid_fd, POLLIN, limit_ns) <= 0)
            (void)kill(clone->pid, SIGKILL);
        if (clone->pid)
            (void)waitpid(clone->pid, NULL, 0);
        forget(clone);
    }
}
