/*
 * libFuzzer target: what answers function_connect() in the agent's place. The code is a part of this file; its
 * socket is one end of a pair, at whose other end the fuzzer has spoken.
 *
 * What is checked beside memory safety: a descriptor comes of "ok" alone, and what follows the line is still
 * to be read from it; anything else is an error that errno knows, with a reason whose text has an end.
 */
#include <sys/socket.h>

static int fuzz_socket(void);
#define socket(...)  fuzz_socket()
#define connect(...) 0
#include "agent/function/connect.c"
#undef socket
#undef connect

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int ends[2];

static int fuzz_socket(void)
{
    const int fd = ends[0];
    ends[0] = -1; /* the caller's */
    return fd;
}

static void check_rest(int fd, const uint8_t *data, size_t size)
{
    uint8_t rest[8];
    if (size < 3 || memcmp(data, "ok\n", 3) != 0)
        abort();
    const ssize_t left = recv(fd, rest, sizeof rest, MSG_DONTWAIT);
    const size_t wanted = size - 3 < sizeof rest ? size - 3 : sizeof rest;
    if (left != (ssize_t)wanted || memcmp(rest, data + 3, wanted) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[256];
    if (size > 4096)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ||
        setenv(FUNCTION_ENV_CONNECTIONS, "/", 1))
        abort();
    if (size > 0 && send(ends[1], data, size, MSG_NOSIGNAL) != (ssize_t)size)
        abort();
    (void)shutdown(ends[1], SHUT_WR);
    memset(why, 'x', sizeof why);
    int fd = function_connect("orders", why, size % 2 ? sizeof why : 16);
    if (fd < -ERRNO_MAX || !memchr(why, '\0', sizeof why) || (fd < 0 && !why[0]))
        abort();
    if (fd >= 0)
        check_rest(fd, data, size);
    fd_close(&fd);
    fd_close(&ends[1]);
    return 0;
}
