/*
 * Lines: an upstream each, from its begin to its end, and whose it is meanwhile.
 *
 * Who shakes hands first. Without a session to resume, one line of a name (the leader) shakes hands and the
 * others, which connect meanwhile, are held: with the leader's session theirs cost a fraction. When the
 * server gives none they all go on at once, and from then on nobody is held. When the leader fails, what the
 * pool holds is dropped (it tries again later), and of the others each tries in turn.
 */
#include <errno.h>
#include <stdlib.h>

#include "agent/base/fd.h"
#include "agent/tls/table.h"

/* ---- begin and end --------------------------------------------------------------------------------- */

static void on_changed(void *context, struct upstream *upstream)
{
    struct line *line = context;
    struct connections *connections = line->pool->connections;
    const bool outermost = connections->depth == 0;
    (void)upstream;
    line->dirty = connections->progress = true;
    if (!outermost)
        return;
    connections->from_line = true;
    table_enter(connections);
    table_leave(connections);
    connections->from_line = false;
}

struct line *line_begin(struct pool *pool)
{
    struct connections *connections = pool->connections;
    struct line *line = calloc(1, sizeof *line);
    if (!line)
        return NULL;
    line->pool = pool;
    line->next = connections->lines;
    connections->lines = line;
    const bool first = !pool->sessions.has_last && !pool->gives_no_sessions;
    line->held = first && pool->leader;
    if (first && !line->held)
        pool->leader = line;
    const int error =
        line->held ? upstream_begin_held(&line->upstream, connections->loop, &pool->plan, on_changed, line)
                   : upstream_begin(&line->upstream, connections->loop, &pool->plan, on_changed, line);
    if (error) /* in its state, too */
        line->dirty = connections->progress = true;
    return line;
}

static void release(struct line *line)
{
    line->held = false;
    upstream_release(&line->upstream);
}

static bool is_held(const struct line *line, const struct pool *pool)
{
    return line->pool == pool && line->held && line->state == LINE_BEGUN;
}

static void release_all(struct pool *pool)
{
    pool->leader = NULL;
    for (struct line *line = pool->connections->lines; line; line = line->next)
        if (is_held(line, pool))
            release(line);
}

/* The leader came to nothing. */
static void lead_next(struct pool *pool)
{
    struct line *next = NULL;
    pool->leader = NULL;
    if (pool->sessions.has_last) {
        release_all(pool);
        return;
    }
    for (struct line *line = pool->connections->lines; line; line = line->next) {
        if (is_held(line, pool) && line->local)
            next = line; /* the last in the list is the oldest */
        else if (is_held(line, pool))
            line_spend(line);
    }
    pool->leader = next;
    if (next)
        release(next);
}

void line_spend(struct line *line)
{
    struct pool *pool = line->pool;
    if (line->state == LINE_SPENT)
        return;
    line->state = LINE_SPENT;
    line->dirty = false;
    upstream_fini(&line->upstream);
    pool->connections->progress = true;
    if (pool->leader == line && pool->connections->mode == TABLE_SERVING)
        lead_next(pool);
    else if (pool->leader == line)
        pool->leader = NULL; /* the others go too: not a byte more of them */
}

void line_close(struct line *line)
{
    if (line->state == LINE_SPENT || line->state == LINE_CLOSING)
        return;
    if (line->state == LINE_BEGUN || line->upstream.state != UPSTREAM_OPEN) {
        line_spend(line);
        return;
    }
    line->state = LINE_CLOSING;
    line->dirty = line->pool->connections->progress = true;
    upstream_close(&line->upstream);
}

void line_give_back(struct line *line)
{
    if (pool_count_spare(line->pool) > line->pool->wish->pool)
        line_spend(line);
}

void line_sweep(struct connections *connections)
{
    struct line **at = &connections->lines;
    while (*at) {
        struct line *line = *at;
        if (line->state != LINE_SPENT) {
            at = &line->next;
            continue;
        }
        *at = line->next;
        free(line);
    }
}

bool line_is_spare(const struct line *line, const struct pool *pool)
{
    return line->pool == pool && !line->local && (line->state == LINE_BEGUN || line->state == LINE_OPEN);
}

/* ---- what happens to a line ------------------------------------------------------------------------ */

static void opened(struct line *line)
{
    struct pool *pool = line->pool;
    line->state = LINE_OPEN;
    line->opened_ns = clock_monotonic_ns();
    pool->retry_ns = 0;
    report_success(pool);
    if (pool->sessions.has_last)
        pool->gives_no_sessions = false;
    if (pool->leader == line) {
        pool->gives_no_sessions = !pool->sessions.has_last;
        release_all(pool);
    }
}

/* A ready one has ended, or failed: the server closes what is idle. */
static void lost(struct line *line)
{
    struct pool *pool = line->pool;
    const uint64_t age_ns = clock_monotonic_ns() - line->opened_ns;
    line_spend(line);
    if (age_ns < TABLE_SHORT_LIFE_MS * TABLE_NS_PER_MS)
        pool_back_off(pool);
    else
        pool->failures = 0;
}

static void failed(struct line *line)
{
    struct local *local = line->local;
    const int error = line->upstream.error ? line->upstream.error : -EIO;
    report_failure(line->pool, error, line->upstream.why);
    if (line->state == LINE_BEGUN)
        pool_back_off(line->pool);
    if (local)
        local_fail(local, error, line->upstream.why); /* spends it */
    else
        line_spend(line);
}

void line_look(struct line *line)
{
    const enum upstream_state state = line->upstream.state;
    const bool ended = state == UPSTREAM_CLOSED || state == UPSTREAM_FAILED;
    line->dirty = false;
    if (line->state == LINE_SPENT)
        return;
    if (line->state == LINE_BEGUN && state >= UPSTREAM_OPEN && state != UPSTREAM_FAILED)
        opened(line);
    if (line->state == LINE_CLOSING) {
        if (ended)
            line_spend(line);
    } else if (state == UPSTREAM_FAILED && (line->local || line->state == LINE_BEGUN)) {
        failed(line);
    } else if (line->local) {
        line->local->dirty = line->pool->connections->progress = true;
    } else if (ended || line->upstream.peer_ended) {
        lost(line);
    }
}
