/* See connections_stage.h. */
#include "tests/unit/tls/connections_stage.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

struct loop loop;
struct connections *table;
char stage_directory[64];
int stage_drained;
static char root[48];

int stage_set_up(void **state)
{
    (void)state;
    log_setup("agent", LOG_LEVEL_ERROR, STDERR_FILENO);
    (void)snprintf(root, sizeof root, "/tmp/connections.XXXXXX");
    assert_non_null(mkdtemp(root));
    (void)snprintf(stage_directory, sizeof stage_directory, "%s/run", root);
    stage_drained = 0;
    table = connections_get();
    return loop_init(&loop);
}

int stage_tear_down(void **state)
{
    char command[128];
    (void)state;
    connections_fini(table);
    fake_reset();
    loop_fini(&loop);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command); /* NOLINT(cert-env33-c): a name of our own */
}

int stage_begin(const char *manifest, char *why)
{
    if (manifest) {
        char path[80];
        (void)snprintf(path, sizeof path, "%s/" MANIFEST_FILE, root);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs(manifest, file) >= 0);
        assert_int_equal(fclose(file), 0);
    }
    return connections_begin(table, &loop, root, stage_directory, geteuid(), getegid(), why);
}

void stage_serve(const char *manifest)
{
    char why[CONNECTIONS_WHY_BYTES] = "";
    const int error = stage_begin(manifest, why);
    assert_string_equal(why, "");
    assert_int_equal(error, 0);
}

void stage_turn(void)
{
    assert_true(loop_run_once(&loop, 5) >= 0);
}

void stage_rest(void)
{
    for (int quiet = 0, turns = 0; quiet < 3 && turns < 40; turns++)
        quiet = loop_run_once(&loop, 5) == 0 ? quiet + 1 : 0;
}

int function_open(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", stage_directory, name);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

int function_open_tcp(bool ipv6, uint16_t port)
{
    const struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    const struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, ipv6 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4,
                          ipv6 ? sizeof v6 : sizeof v4) < 0) {
        if (fd >= 0)
            (void)close(fd);
        return -errno;
    }
    assert_int_equal(fd_set_nonblock(fd), 0);
    return fd;
}

void function_write(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

int64_t function_read(int fd, void *data, size_t capacity)
{
    return recv(fd, data, capacity, 0);
}

void function_expect(int fd, const char *text)
{
    char got[256] = "";
    const size_t wanted = strlen(text);
    size_t size = 0;
    assert_true(wanted < sizeof got);
    const uint64_t limit_ns = clock_monotonic_ns() + UINT64_C(8000000000);
    while (size < wanted && clock_monotonic_ns() < limit_ns) {
        const int64_t count = function_read(fd, got + size, wanted - size);
        if (count < 0 && errno == EAGAIN)
            stage_turn();
        else if (count <= 0)
            break;
        else
            size += (size_t)count;
    }
    assert_string_equal(got, text);
}

int function_end(int fd)
{
    char byte;
    const uint64_t limit_ns = clock_monotonic_ns() + UINT64_C(8000000000);
    while (clock_monotonic_ns() < limit_ns) {
        const int64_t count = function_read(fd, &byte, 1);
        if (count == 0)
            return 0;
        assert_int_not_equal(count, 1);
        if (errno != EAGAIN)
            return errno;
        stage_turn();
    }
    return ETIMEDOUT;
}

const char *stage_error_of(const char *name)
{
    static char text[512];
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s.error", stage_directory, name);
    const int64_t size = fd_read_file(path, text, sizeof text - 1);
    if (size < 0)
        return NULL;
    text[size] = '\0';
    return text;
}

static void on_drained(void *context)
{
    assert_ptr_equal(context, &stage_drained);
    stage_drained++;
}

int stage_drain(unsigned limit_ms)
{
    return connections_drain(table, clock_monotonic_ns() + limit_ms * UINT64_C(1000000), on_drained,
                             &stage_drained);
}

struct fake *fake_last(void)
{
    assert_true(fake_count > 0);
    return &fakes[fake_count - 1];
}

void fake_expect(struct fake *fake, const char *text)
{
    until(fake->sent_size >= strlen(text));
    assert_int_equal(fake->sent_size, strlen(text));
    assert_memory_equal(fake->sent, text, strlen(text));
}
