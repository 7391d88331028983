/*
 * Around a snapshot: connections.h has the words, PROTOCOL.md where they are said.
 *
 *   SERVING -- drain --> DRAINING -- no line is left --> STILL -- undrain, renew --> SERVING
 *      ^                    | undrain, renew
 *      +--------------------+
 *
 * A local end that outlives its line is detached: its socket is not looked at, what the function writes there
 * waits, and nothing of it has been said to any server, so a new line can have it from its first byte.
 *
 * A clone of a guest that was not asked wakes with lines that are the original's, in whatever state. Between
 * that moment and connections_renew the loop may run, and may even write on them; what is written goes no
 * further than the interface, which the host keeps shut until the clone's network is its own, and is dropped
 * with the sockets in the step "sockets". What these lines say of their end is no news of a server's: it is
 * taken back here (error files, back-off).
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/tls/table.h"

static bool has_lines(const struct connections *connections)
{
    for (const struct line *line = connections->lines; line; line = line->next)
        if (line->state != LINE_SPENT)
            return true;
    return false;
}

static void detach_line(struct local *local)
{
    struct line *line = local->line;
    local->line = NULL;
    line->local = NULL;
    local_detach(local);
}

/* ---- drain ----------------------------------------------------------------------------------------- */

/* Nothing of the function's has gone out on it. */
static bool is_unused(const struct line *line)
{
    return line->state == LINE_BEGUN;
}

static void look_at_local(struct local *local, bool over)
{
    struct line *line = local->line;
    if (!line || line->state == LINE_SPENT)
        return;
    if (is_unused(line)) {
        detach_line(local);
        line_spend(line);
    } else if (local_is_idle(local)) {
        detach_line(local);
        line_close(line);
    } else if (over) {
        log_info("connection %s: in use at the snapshot: reset", local->pool->wish->name);
        local_fail(local, -ECONNRESET, "the guest was to be snapshotted");
    }
}

/* What still has a line is busy: of the rest turn_look has taken it. */
bool turn_waits_for_function(const struct connections *connections)
{
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (connections->locals[i].state == LOCAL_SERVED && connections->locals[i].line)
            return true;
    return false;
}

void turn_look(struct connections *connections, uint64_t now_ns)
{
    const bool over = now_ns >= connections->drain_deadline_ns;
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (connections->locals[i].state == LOCAL_SERVED)
            look_at_local(&connections->locals[i], over);
    for (struct line *line = connections->lines; line; line = line->next) {
        if (line->local)
            continue;
        if (over || is_unused(line))
            line_spend(line);
        else
            line_close(line);
    }
    if (has_lines(connections))
        return;
    connections->mode = TABLE_STILL;
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (connections->locals[i].state != LOCAL_FREE)
            local_detach(&connections->locals[i]);
}

int connections_drain(struct connections *connections, uint64_t deadline_ns, connections_drained *drained,
                      void *context)
{
    if (connections->mode == TABLE_OFF || connections->mode == TABLE_STILL)
        return 0;
    connections->drained = NULL; /* not before this returns */
    table_enter(connections);
    connections->mode = TABLE_DRAINING;
    connections->drain_deadline_ns = deadline_ns;
    door_pause(connections);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (connections->locals[i].state == LOCAL_ASKING)
            local_detach(&connections->locals[i]);
    table_leave(connections);
    if (connections->mode == TABLE_STILL)
        return 0;
    connections->drained = drained;
    connections->drained_context = context;
    return -EINPROGRESS;
}

/* ---- and back -------------------------------------------------------------------------------------- */

/* Within table_enter: what waits gets lines, all at once. */
static void serve(struct connections *connections)
{
    connections->mode = TABLE_SERVING;
    connections->drained = NULL;
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++) {
        struct local *local = &connections->locals[i];
        if (local->state == LOCAL_FREE)
            continue;
        if (!local->line && local_is_deserted(local)) {
            local_finish(local);
            continue;
        }
        local->dirty = true;
        local->moved_ns = clock_monotonic_ns();
        local_attach(local);
        if (local->state == LOCAL_SERVED && !local->line)
            pool_bind(local->pool, local);
    }
    door_resume(connections);
    connections->progress = true;
}

void connections_undrain(struct connections *connections)
{
    if (connections->mode != TABLE_DRAINING && connections->mode != TABLE_STILL)
        return;
    table_enter(connections);
    serve(connections);
    table_leave(connections);
}

void connections_forget(struct connections *connections)
{
    if (connections->mode == TABLE_OFF)
        return;
    table_enter(connections);
    connections->mode = TABLE_STILL;
    connections->drained = NULL;
    door_pause(connections);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++) {
        struct local *local = &connections->locals[i];
        if (local->state != LOCAL_FREE && local->line)
            local_fail(local, -ECONNRESET, "the guest is snapshotted");
        if (local->state != LOCAL_FREE)
            local_detach(local);
    }
    for (struct line *line = connections->lines; line; line = line->next)
        line_spend(line);
    line_sweep(connections);
    for (unsigned i = 0; i < connections->manifest.count; i++) {
        upstream_sessions_clear(&connections->pools[i].sessions);
        credentials_drop_key(&connections->pools[i].credentials);
    }
    table_leave(connections);
    pump_wipe();
    upstream_wipe_stack();
}

/* ---- a clone --------------------------------------------------------------------------------------- */

/* The original's lines go without a byte; what was half-way on one is told to the function. */
static void abandon_all(struct connections *connections)
{
    bool is_busy[CONNECTIONS_LOCAL_MAX] = {false};
    connections->mode = TABLE_STILL; /* nothing takes the place of what goes */
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++) {
        struct local *local = &connections->locals[i];
        if (local->state != LOCAL_SERVED || !local->line)
            continue;
        is_busy[i] = !is_unused(local->line) && !local_is_idle(local);
        detach_line(local);
    }
    for (struct line *line = connections->lines; line; line = line->next) {
        if (line->state == LINE_SPENT)
            continue;
        upstream_abandon(&line->upstream);
        line_spend(line);
    }
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (is_busy[i])
            local_fail(&connections->locals[i], -ECONNRESET, "the guest was cloned");
}

void connections_abandon(struct connections *connections)
{
    if (connections->mode == TABLE_OFF)
        return;
    table_enter(connections);
    connections->drained = NULL;
    door_pause(connections);
    abandon_all(connections);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (connections->locals[i].state != LOCAL_FREE)
            local_detach(&connections->locals[i]);
    table_leave(connections);
}

static int take_key(struct pool *pool, const struct resume_secret *secrets, unsigned count, char *why)
{
    const char *name = pool->wish->client_key_secret;
    char what[CREDENTIALS_WHY_BYTES] = "";
    credentials_drop_key(&pool->credentials);
    for (unsigned i = 0; i < count && name[0] != '\0'; i++) {
        if (strncmp(secrets[i].name, name, sizeof secrets[i].name) != 0)
            continue;
        const int error = credentials_set_key(&pool->credentials, secrets[i].data, secrets[i].size, what);
        upstream_wipe_stack(); /* of what reading it took */
        if (error)
            (void)snprintf(why, RESUME_WHY_BYTES, "secret %s: %.80s", name,
                           what[0] ? what : strerror(-error));
        return error;
    }
    return 0;
}

int connections_renew(struct connections *connections, const struct resume_secret *secrets, unsigned count,
                      char *why)
{
    int error = 0;
    if (connections->mode == TABLE_OFF)
        return 0;
    table_enter(connections);
    abandon_all(connections);
    for (unsigned i = 0; i < connections->manifest.count; i++) {
        struct pool *pool = &connections->pools[i];
        upstream_sessions_clear(&pool->sessions);
        pool->failures = 0;
        pool->retry_ns = 0;
        pool->said[0] = '\0';
        if (pool->has_error_file)
            report_forget(pool);
        error = error ? error : take_key(pool, secrets, count, why);
    }
    if (error == 0)
        serve(connections);
    table_leave(connections);
    return error;
}
