/*
 * The host's end of the network tests.
 *
 *   net-peer serve PORT          takes TCP connections on every address; reads each to its end, then says
 * whose it was and how many bytes came. Prints "serving" when it can be reached net-peer dial ADDRESS PORT
 * connects, prints what comes; exit code 1 when there is none within 20 s
 *
 *   net-peer source PORT BYTES   as serve, but it is who sends: so many bytes to each connection
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LIMIT_S 20

static void answer(int fd, const struct sockaddr *peer, socklen_t size)
{
    static char block[65536];
    char name[64] = "";
    char text[128];
    unsigned long total = 0;
    ssize_t n;
    while ((n = read(fd, block, sizeof block)) > 0)
        total += (unsigned long)n;
    if (n < 0 || getnameinfo(peer, size, name, sizeof name, NULL, 0, NI_NUMERICHOST))
        _exit(1);
    const char *plain = strncmp(name, "::ffff:", 7) == 0 ? name + 7 : name;
    const int length = snprintf(text, sizeof text, "you are %s, %lu bytes\n", plain, total);
    _exit(write(fd, text, (size_t)length) == length ? 0 : 1);
}

static void give(int fd, unsigned long bytes)
{
    static char block[65536];
    while (bytes > 0) {
        const ssize_t n = write(fd, block, bytes < sizeof block ? bytes : sizeof block);
        if (n <= 0)
            _exit(1);
        bytes -= (unsigned long)n;
    }
    _exit(0);
}

/* `bytes` 0: reads what comes. */
static int serve(unsigned port, unsigned long bytes)
{
    const int on = 1;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port)};
    const int listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)signal(SIGCHLD, SIG_IGN);
    (void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 64) < 0) {
        perror("net-peer: listening");
        return 1;
    }
    (void)puts("serving");
    (void)fflush(stdout);
    for (;;) {
        struct sockaddr_in6 peer;
        socklen_t size = sizeof peer;
        const int fd = accept(listener, (struct sockaddr *)&peer, &size);
        const pid_t child = fd >= 0 ? fork() : -1;
        if (child == 0 && bytes > 0)
            give(fd, bytes);
        if (child == 0)
            answer(fd, (struct sockaddr *)&peer, size);
        if (fd >= 0)
            (void)close(fd);
    }
}

static int dial(const char *address, const char *port)
{
    const struct timeval limit = {.tv_sec = LIMIT_S};
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *to;
    char text[512];
    size_t used = 0;
    if (getaddrinfo(address, port, &hints, &to))
        return 2;
    const int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (fd < 0 || connect(fd, to->ai_addr, to->ai_addrlen) < 0) {
        perror("net-peer: connecting");
        return 1;
    }
    for (ssize_t n; used < sizeof text && (n = read(fd, text + used, sizeof text - used)) > 0;)
        used += (size_t)n;
    (void)fwrite(text, 1, used, stdout);
    return used > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve((unsigned)atoi(argv[2]), 0);
    if (argc == 4 && strcmp(argv[1], "source") == 0)
        return serve((unsigned)atoi(argv[2]), strtoul(argv[3], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "dial") == 0)
        return dial(argv[2], argv[3]);
    (void)fputs("usage: net-peer serve PORT | source PORT BYTES | dial ADDRESS PORT\n", stderr);
    return 2;
}
