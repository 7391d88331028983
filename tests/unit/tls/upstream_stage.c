/*
 * See upstream_stage.h: the client's half.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "tests/unit/tls/upstream_stage.h"

struct stage_names stage_names;

int dns_begin(struct dns_lookup *lookup, struct loop *loop, const char *name, uint64_t deadline_ns,
              dns_done *done, void *context)
{
    (void)loop, (void)name, (void)deadline_ns;
    *lookup = (struct dns_lookup){.done = done, .context = context};
    if (stage_names.error)
        snprintf(lookup->why, sizeof lookup->why, "there is no such name");
    if (stage_names.pending)
        return 0;
    memcpy(lookup->addresses, stage_names.addresses, sizeof lookup->addresses);
    lookup->count = stage_names.count;
    return stage_names.error ? stage_names.error : 1;
}

void dns_cancel(struct dns_lookup *lookup)
{
    lookup->done = NULL;
}

void stage_add_address(const char *text)
{
    struct dns_address *address = &stage_names.addresses[stage_names.count++];
    *address = (struct dns_address){0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->at;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->at;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        address->size = sizeof *v4;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
        v6->sin6_family = AF_INET6;
        address->size = sizeof *v6;
    }
}

/* Beside the tests: BUILD/tests/unit/tls/NAME -> BUILD/tests/tls-certs. */
const char *stage_path(const char *name)
{
    static char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 128);
    assert_true(size > 0);
    path[size] = '\0';
    for (int up = 0; up < 3; up++)
        *strrchr(path, '/') = '\0';
    snprintf(path + strlen(path), 128, "/tls-certs/%s", name);
    return path;
}

void stage_load_trust(struct stage *stage, const char *name)
{
    char why[CREDENTIALS_WHY_BYTES] = "";
    if (credentials_load_trust(&stage->credentials, stage_path(name), why))
        fail_msg("%s", why);
}

static void load_pair(struct credentials *credentials, const char *name)
{
    char file[64], why[CREDENTIALS_WHY_BYTES] = "", key[8192];
    snprintf(file, sizeof file, "%s.pem", name);
    if (credentials_load_chain(credentials, stage_path(file), why))
        fail_msg("%s", why);
    snprintf(file, sizeof file, "%s.key", name);
    int64_t size = fd_read_file(stage_path(file), key, sizeof key);
    assert_true(size > 0);
    if (credentials_set_key(credentials, key, (size_t)size, why))
        fail_msg("%s", why);
}

void stage_load_client(struct stage *stage, const char *name)
{
    load_pair(&stage->credentials, name);
}

int stage_setup(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);
    stage->got = malloc(STAGE_GOT_BYTES);
    assert_int_equal(loop_init(&stage->loop), 0);
    credentials_init(&stage->credentials);
    stage_load_trust(stage, "ca.pem");
    strcpy(stage->connection.name, "orders");
    strcpy(stage->connection.host, "orders.example.test");
    strcpy(stage->connection.server_name, "orders.example.test");
    stage->connection.connect_timeout_ms = STAGE_LIMIT_MS;
    stage->plan = (struct upstream_plan){&stage->connection, &stage->credentials, &stage->sessions};
    stage->server.listen_fd = stage->server.fd = -1;
    memset(&stage_names, 0, sizeof stage_names);
    *state = stage;
    return 0;
}

int stage_teardown(void **state)
{
    struct stage *stage = *state;
    upstream_fini(&stage->upstream);
    stage_stop_server(stage);
    credentials_fini(&stage->credentials);
    loop_fini(&stage->loop);
    free(stage->got);
    free(stage);
    return 0;
}

void stage_changed(void *context, struct upstream *upstream)
{
    struct stage *stage = context;
    size_t size;
    const void *data;
    stage->told++;
    if (stage->fini_when_told) {
        upstream_fini(upstream);
        return;
    }
    while (!stage->hold && (data = upstream_peek(upstream, &size))) {
        assert_true(size > 0 && size <= STAGE_GOT_BYTES - stage->got_size);
        memcpy(stage->got + stage->got_size, data, size);
        stage->got_size += size;
        upstream_drop(upstream, size);
    }
}

void stage_serve(struct stage *stage, const char *certificate, server_script *script);

void stage_begin(struct stage *stage)
{
    int error = upstream_begin(&stage->upstream, &stage->loop, &stage->plan, stage_changed, stage);
    if (error)
        fail_msg("upstream_begin: %d, %s", error, stage->upstream.why);
}

static void run_once(struct stage *stage, uint64_t deadline_ns)
{
    if (clock_monotonic_ns() > deadline_ns)
        fail_msg("waited too long: state %d, got %zu, %s", (int)stage->upstream.state, stage->got_size,
                 stage->upstream.why);
    assert_true(loop_run_once(&stage->loop, 100) >= 0);
}

void stage_until(struct stage *stage, enum upstream_state state)
{
    uint64_t deadline = clock_monotonic_ns() + STAGE_LIMIT_MS * 1000000ull;
    while (stage->upstream.state != state) {
        if (stage->upstream.state == UPSTREAM_FAILED)
            fail_msg("failed: %s", stage->upstream.why);
        if (stage->upstream.state == UPSTREAM_CLOSED)
            fail_msg("closed");
        run_once(stage, deadline);
    }
}

void stage_until_got(struct stage *stage, size_t size)
{
    uint64_t deadline = clock_monotonic_ns() + STAGE_LIMIT_MS * 1000000ull;
    while (stage->got_size < size) {
        assert_int_not_equal(stage->upstream.state, UPSTREAM_FAILED);
        run_once(stage, deadline);
    }
}

void stage_run_ready(struct stage *stage)
{
    while (loop_run_once(&stage->loop, 0) > 0)
        continue;
}

void stage_write(struct stage *stage, const void *data, size_t size)
{
    uint64_t deadline = clock_monotonic_ns() + STAGE_LIMIT_MS * 1000000ull;
    for (size_t done = 0; done < size;) {
        int64_t taken = upstream_write(&stage->upstream, (const char *)data + done, size - done);
        if (taken < 0)
            fail_msg("write: %d, %s", (int)taken, stage->upstream.why);
        done += (size_t)taken;
        if (!taken)
            run_once(stage, deadline);
    }
}

void stage_assert_failed(struct stage *stage, int error, const char *words)
{
    uint64_t deadline = clock_monotonic_ns() + STAGE_LIMIT_MS * 1000000ull;
    unsigned told = stage->told;
    while (stage->upstream.state != UPSTREAM_FAILED) {
        if (stage->upstream.state == UPSTREAM_CLOSED)
            fail_msg("closed, not failed");
        run_once(stage, deadline);
    }
    stage_run_ready(stage);
    assert_true(stage->told > told);
    if (stage->upstream.error != error || !strstr(stage->upstream.why, words))
        fail_msg("error %d \"%s\", not %d \"...%s...\"", stage->upstream.error, stage->upstream.why, error,
                 words);
}

void stage_serve(struct stage *stage, const char *certificate, server_script *script)
{
    struct server *server = &stage->server;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    if (certificate)
        load_pair(&server->shown, certificate);
    if (server->listen_fd < 0) {
        server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(server->listen_fd, (struct sockaddr *)&at, sizeof at), 0);
        assert_int_equal(listen(server->listen_fd, 8), 0);
        assert_int_equal(getsockname(server->listen_fd, (struct sockaddr *)&at, &size), 0);
        server->port = ntohs(at.sin_port);
        br_ssl_session_cache_lru_init(&server->cache, server->cache_store, sizeof server->cache_store);
    }
    stage->connection.port = server->port;
    if (!stage_names.count)
        stage_add_address("127.0.0.1");
    server->script = script;
    extern void *server_run(void *context);
    assert_int_equal(pthread_create(&server->thread, NULL, server_run, server), 0);
    server->running = true;
}

void stage_stop_server(struct stage *stage)
{
    struct server *server = &stage->server;
    if (server->running)
        pthread_join(server->thread, NULL);
    server->running = false;
    fd_close(&server->fd);
    fd_close(&server->listen_fd);
    credentials_fini(&server->shown);
    credentials_fini(&server->clients);
}
