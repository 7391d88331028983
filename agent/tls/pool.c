/*
 * Pools: as many ready lines as the manifest says, and one for each local end.
 *
 * Back-off. A server that cannot be reached, or that ends connections as soon as they are there, is asked
 * again after 100 ms, 200 ms ... 10 s, less up to a quarter at random, because clones fail at the same
 * moment. A local end does not wait for that: it is an attempt of its own.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "agent/base/fd.h"
#include "agent/tls/table.h"

/* ---- back-off -------------------------------------------------------------------------------------- */

void pool_back_off(struct pool *pool)
{
    const uint64_t now_ns = clock_monotonic_ns();
    uint8_t random = 0;
    if (pool->retry_ns > now_ns)
        return;
    uint64_t delay_ms = TABLE_BACK_OFF_MS;
    for (unsigned i = 0; i < pool->failures && delay_ms < TABLE_BACK_OFF_LIMIT; i++)
        delay_ms *= 2;
    if (delay_ms > TABLE_BACK_OFF_LIMIT)
        delay_ms = TABLE_BACK_OFF_LIMIT;
    pool->failures++;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = 0;
    const uint64_t delay_ns = delay_ms * TABLE_NS_PER_MS;
    pool->retry_ns = now_ns + delay_ns - delay_ns / 4 / 256 * random;
}

static bool lacks_key(const struct pool *pool)
{
    return pool->wish->client_key_secret[0] != '\0' && !pool->credentials.key;
}

/* ---- the pool -------------------------------------------------------------------------------------- */

unsigned pool_count_spare(const struct pool *pool)
{
    unsigned count = 0;
    for (const struct line *line = pool->connections->lines; line; line = line->next)
        count += line_is_spare(line, pool);
    return count;
}

/* Ready before getting ready before held; the last in the list is the oldest. */
static unsigned worth(const struct line *line)
{
    if (line->state == LINE_OPEN)
        return line->upstream.state == UPSTREAM_OPEN && !line->upstream.peer_ended ? 3 : 0;
    return line->upstream.state == UPSTREAM_FAILED ? 0 : line->held ? 1 : 2;
}

void pool_bind(struct pool *pool, struct local *local)
{
    struct line *best = NULL;
    if (pool->connections->mode != TABLE_SERVING)
        return; /* later */
    if (lacks_key(pool)) {
        char why[UPSTREAM_WHY_BYTES];
        (void)snprintf(why, sizeof why, "its client key, the secret %s, has not been delivered by a resume",
                       pool->wish->client_key_secret);
        report_failure(pool, -ENOKEY, why);
        local_fail(local, -ENOKEY, why);
        return;
    }
    for (struct line *line = pool->connections->lines; line; line = line->next)
        if (line_is_spare(line, pool) && worth(line) > 0 && (!best || worth(line) >= worth(best)))
            best = line;
    if (!best)
        best = line_begin(pool);
    if (!best) {
        report_failure(pool, -ENOMEM, "the agent has no memory for another connection");
        local_fail(local, -ENOMEM, "the agent has no memory for another connection");
        return;
    }
    best->local = local;
    local->line = best;
    local->dirty = pool->connections->progress = true;
    if (best->state == LINE_OPEN)
        pool->failures = 0; /* it was of use */
}

void pool_fill(struct pool *pool, uint64_t now_ns)
{
    const uint64_t age_limit_ns = pool->wish->idle_timeout_ms * TABLE_NS_PER_MS;
    if (lacks_key(pool))
        return;
    for (struct line *line = pool->connections->lines; line; line = line->next)
        if (line_is_spare(line, pool) && line->state == LINE_OPEN && now_ns >= line->opened_ns + age_limit_ns)
            line_close(line);
    if (now_ns < pool->retry_ns)
        return;
    for (unsigned count = pool_count_spare(pool); count < pool->wish->pool; count++) {
        const struct line *line = line_begin(pool);
        if (!line)
            pool_back_off(pool);
        if (!line || line->dirty) /* that one failed at once: so would the next */
            return;
    }
}

uint64_t pool_next_ns(const struct pool *pool)
{
    const uint64_t age_limit_ns = pool->wish->idle_timeout_ms * TABLE_NS_PER_MS;
    uint64_t next_ns = LOOP_TIMER_NEVER;
    if (lacks_key(pool))
        return next_ns;
    if (pool_count_spare(pool) < pool->wish->pool)
        next_ns = pool->retry_ns;
    for (const struct line *line = pool->connections->lines; line; line = line->next)
        if (line_is_spare(line, pool) && line->state == LINE_OPEN && line->opened_ns + age_limit_ns < next_ns)
            next_ns = line->opened_ns + age_limit_ns;
    return next_ns;
}
