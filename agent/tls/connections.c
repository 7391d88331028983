/* See connections.h, and table.h for the files and the two phases. Here: life, settling, the timer. */
#include "agent/tls/connections.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/tls/table.h"

#define SYSTEM_TRUST "/etc/ssl/certs/ca-certificates.crt"

enum { ROUNDS_MAX = 8 }; /* of settling, before others on the loop have their turn */

static struct connections table = {
    .timer_fd = -1, .timer = {.fd = -1}, .turn_fd = -1, .turn = {.fd = -1}, .armed_ns = LOOP_TIMER_NEVER};

struct connections *connections_get(void)
{
    return &table;
}

bool connections_are_wanted(const struct connections *connections)
{
    return connections->mode != TABLE_OFF;
}

/* ---- settling -------------------------------------------------------------------------------------- */

void table_enter(struct connections *connections)
{
    connections->depth++;
}

static void settle_once(struct connections *connections)
{
    for (struct line *line = connections->lines; line; line = line->next)
        if (line->dirty)
            line_look(line);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (connections->locals[i].state != LOCAL_FREE && connections->locals[i].dirty &&
            connections->mode != TABLE_STILL)
            local_look(&connections->locals[i]);
    const uint64_t now_ns = clock_monotonic_ns();
    for (unsigned i = 0; i < connections->manifest.count && connections->mode == TABLE_SERVING; i++)
        pool_fill(&connections->pools[i], now_ns);
    if (connections->mode == TABLE_DRAINING)
        turn_look(connections, now_ns);
}

static uint64_t next_ns(const struct connections *connections)
{
    uint64_t next = LOOP_TIMER_NEVER;
    if (connections->later || (connections->mode == TABLE_STILL && connections->drained))
        return 0;
    if (connections->mode == TABLE_DRAINING) {
        const uint64_t tick_ns = clock_monotonic_ns() + TABLE_DRAIN_TICK_MS * TABLE_NS_PER_MS;
        const bool sooner = turn_waits_for_function(connections) && tick_ns < connections->drain_deadline_ns;
        return sooner ? tick_ns : connections->drain_deadline_ns;
    }
    if (connections->mode != TABLE_SERVING)
        return next;
    for (unsigned i = 0; i < connections->manifest.count; i++)
        if (pool_next_ns(&connections->pools[i]) < next)
            next = pool_next_ns(&connections->pools[i]);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++)
        if (connections->locals[i].state != LOCAL_FREE && local_next_ns(&connections->locals[i]) < next)
            next = local_next_ns(&connections->locals[i]);
    if (!connections->doors_open && connections->local_count < CONNECTIONS_LOCAL_MAX &&
        connections->accept_retry_ns < next)
        next = connections->accept_retry_ns;
    return next;
}

/* What is due at once needs no clock, and none of the exits that setting one costs: the loop's next turn. */
static void arm(struct connections *connections)
{
    const uint64_t one = 1;
    const uint64_t next = next_ns(connections);
    const uint64_t now_ns = clock_monotonic_ns();
    if (next == connections->armed_ns)
        return;
    if (next <= now_ns) {
        if (write(connections->turn_fd, &one, sizeof one) == (ssize_t)sizeof one)
            connections->armed_ns = next;
        return;
    }
    const uint64_t delay_ns = next == LOOP_TIMER_NEVER ? next : next - now_ns;
    if (loop_timer_arm(connections->timer_fd, delay_ns) == 0)
        connections->armed_ns = next;
}

void table_leave(struct connections *connections)
{
    if (connections->depth > 1) {
        connections->depth--;
        return;
    }
    int rounds = 0;
    do {
        connections->progress = false;
        settle_once(connections);
    } while (connections->progress && ++rounds < ROUNDS_MAX);
    connections->later = connections->later || connections->progress;
    if (!connections->from_line)
        line_sweep(connections);
    for (const struct line *line = connections->lines; line; line = line->next)
        if (line->state == LINE_SPENT)
            connections->later = true;
    arm(connections);
    connections->depth = 0;
}

static void come_back(struct connections *connections)
{
    connections->armed_ns = LOOP_TIMER_NEVER;
    connections->later = false;
    table_enter(connections);
    const uint64_t now_ns = clock_monotonic_ns();
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++) {
        struct local *local = &connections->locals[i];
        if (local->state != LOCAL_FREE && now_ns >= local_next_ns(local))
            local->dirty = true;
    }
    door_resume(connections);
    table_leave(connections);
    if (connections->mode == TABLE_STILL && connections->drained) {
        connections_drained *drained = connections->drained;
        connections->drained = NULL;
        drained(connections->drained_context);
    }
}

static void on_timer(void *context, uint32_t events)
{
    struct connections *connections = context;
    (void)events;
    loop_timer_clear(connections->timer_fd);
    come_back(connections);
}

static void on_turn(void *context, uint32_t events)
{
    struct connections *connections = context;
    uint64_t count;
    (void)events;
    const ssize_t n = read(connections->turn_fd, &count, sizeof count);
    (void)n; /* nonblocking: at worst there was nothing to do */
    come_back(connections);
}

/* ---- life ------------------------------------------------------------------------------------------ */

static int read_manifest(struct connections *connections, char *why)
{
    char path[sizeof connections->function_directory + sizeof MANIFEST_FILE];
    char what[MANIFEST_WHY_BYTES] = "";
    (void)snprintf(path, sizeof path, "%s/%s", connections->function_directory, MANIFEST_FILE);
    char *text = malloc(MANIFEST_FILE_BYTES);
    int64_t size = text ? fd_read_file(path, text, MANIFEST_FILE_BYTES) : -ENOMEM;
    if (size == -ENOENT) {
        size = 0;
    } else if (size < 0) {
        (void)snprintf(why, CONNECTIONS_WHY_BYTES, "%.200s: %s", path, strerror((int)-size));
    } else {
        const int error = manifest_parse(&connections->manifest, text, (size_t)size, what);
        if (error)
            (void)snprintf(why, CONNECTIONS_WHY_BYTES, "%.150s: %s", path, what);
        size = error;
    }
    free(text);
    return (int)size;
}

/* Relative to the manifest's directory. */
static void make_path(const struct connections *connections, const char *name, char *path, size_t capacity)
{
    if (name[0] == '/')
        (void)snprintf(path, capacity, "%s", name);
    else
        (void)snprintf(path, capacity, "%s/%s", connections->function_directory, name);
}

static int load(struct pool *pool, char *why)
{
    const struct manifest_connection *wish = pool->wish;
    char path[sizeof pool->connections->function_directory + MANIFEST_PATH_MAX + 2];
    char what[CREDENTIALS_WHY_BYTES] = "";
    make_path(pool->connections, wish->trust[0] ? wish->trust : SYSTEM_TRUST, path, sizeof path);
    int error = credentials_load_trust(&pool->credentials, path, what);
    if (error == 0 && wish->revoked[0]) {
        make_path(pool->connections, wish->revoked, path, sizeof path);
        error = credentials_load_revoked(&pool->credentials, path, what);
    }
    if (error == 0 && wish->client_certificate[0]) {
        make_path(pool->connections, wish->client_certificate, path, sizeof path);
        error = credentials_load_chain(&pool->credentials, path, what);
    }
    if (error)
        (void)snprintf(why, CONNECTIONS_WHY_BYTES, "connection %s: %s", wish->name,
                       what[0] ? what : strerror(-error));
    return error;
}

static void make_pool(struct connections *connections, unsigned at)
{
    struct pool *pool = &connections->pools[at];
    *pool = (struct pool){.connections = connections, .wish = &connections->manifest.at[at]};
    credentials_init(&pool->credentials);
    pool->plan = (struct upstream_plan){
        .connection = pool->wish, .credentials = &pool->credentials, .sessions = &pool->sessions};
    for (int i = 0; i < TABLE_DOORS; i++)
        pool->doors[i] =
            (struct door){.connections = connections, .pool = pool, .fd = -1, .source = {.fd = -1}};
}

static void clear(struct connections *connections)
{
    memset(connections, 0, sizeof *connections);
    connections->timer_fd = connections->timer.fd = -1;
    connections->turn_fd = connections->turn.fd = -1;
    connections->ask = (struct door){.connections = connections, .fd = -1, .source = {.fd = -1}};
    connections->armed_ns = LOOP_TIMER_NEVER;
}

static int open_clocks(struct connections *connections)
{
    struct loop *loop = connections->loop;
    connections->timer_fd = loop_timer_open();
    if (connections->timer_fd < 0)
        return connections->timer_fd;
    connections->turn_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (connections->turn_fd < 0)
        return -errno;
    const int error =
        loop_add(loop, &connections->timer, connections->timer_fd, EPOLLIN, on_timer, connections);
    return error ? error
                 : loop_add(loop, &connections->turn, connections->turn_fd, EPOLLIN, on_turn, connections);
}

static int start(struct connections *connections, char *why)
{
    int error = 0;
    for (unsigned i = 0; i < connections->manifest.count; i++)
        make_pool(connections, i);
    connections->mode = TABLE_SERVING; /* there is something to fini */
    for (unsigned i = 0; i < connections->manifest.count && error == 0; i++)
        error = load(&connections->pools[i], why);
    if (error)
        return error;
    error = open_clocks(connections);
    if (error)
        (void)snprintf(why, CONNECTIONS_WHY_BYTES, "a timer: %s", strerror(-error));
    return error ? error : door_open_all(connections, why);
}

int connections_begin(struct connections *connections, struct loop *loop, const char *function_directory,
                      const char *directory, uid_t user, gid_t group, char *why)
{
    clear(connections);
    connections->loop = loop;
    connections->user = user;
    connections->group = group;
    if (strlen(function_directory) >= sizeof connections->function_directory ||
        strlen(directory) >= sizeof connections->directory) {
        (void)snprintf(why, CONNECTIONS_WHY_BYTES, "a directory's path is longer than 255 bytes");
        return -ENAMETOOLONG;
    }
    (void)snprintf(connections->function_directory, sizeof connections->function_directory, "%s",
                   function_directory);
    (void)snprintf(connections->directory, sizeof connections->directory, "%s", directory);
    int error = read_manifest(connections, why);
    if (error || connections->manifest.count == 0)
        return error;
    error = start(connections, why);
    if (error) {
        connections_fini(connections);
        return error;
    }
    table_enter(connections);
    table_leave(connections); /* the pools are filled */
    return 0;
}

void connections_fini(struct connections *connections)
{
    if (connections->mode == TABLE_OFF)
        return;
    connections->depth = 1; /* nothing is begun any more */
    connections->mode = TABLE_STILL;
    for (struct line *line = connections->lines; line; line = line->next)
        line_spend(line);
    line_sweep(connections);
    for (int i = 0; i < CONNECTIONS_LOCAL_MAX; i++) {
        struct local *local = &connections->locals[i];
        if (local->state == LOCAL_FREE)
            continue;
        local_detach(local);
        fd_close(&local->fd);
    }
    door_close_all(connections);
    for (unsigned i = 0; i < connections->manifest.count; i++) {
        credentials_fini(&connections->pools[i].credentials);
        upstream_sessions_clear(&connections->pools[i].sessions);
    }
    loop_remove(connections->loop, &connections->timer);
    loop_remove(connections->loop, &connections->turn);
    fd_close(&connections->timer_fd);
    fd_close(&connections->turn_fd);
    clear(connections);
}
