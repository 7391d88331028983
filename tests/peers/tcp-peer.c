/*
 * tcp-peer: the other end of measurements of a network. One connection at a time on each of two ports.
 *
 *   tcp-peer ADDRESS SINK-PORT SOURCE-PORT PIDFILE
 *
 * The sink reads all that comes and closes at its end, so that a sender knows when everything has arrived.
 * The source sends zeros until its client has gone. Returns when both listen; the process's number is in
 * PIDFILE.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BLOCK_BYTES (256u << 10)

static char block[BLOCK_BYTES];

_Noreturn static void die(const char *what)
{
    (void)fprintf(stderr, "tcp-peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_at(const char *host, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
    const int one = 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0)
        die(port);
    return fd;
}

static void serve(int listener, ssize_t (*move)(int fd))
{
    const int fd = accept(listener, NULL, NULL);
    while (fd >= 0 && move(fd) > 0)
        continue;
    close(fd);
}

static ssize_t sink(int fd)
{
    return recv(fd, block, sizeof block, 0);
}

static ssize_t source(int fd)
{
    return send(fd, block, sizeof block, MSG_NOSIGNAL);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        (void)fputs("usage: tcp-peer ADDRESS SINK-PORT SOURCE-PORT PIDFILE\n", stderr);
        return 2;
    }
    struct pollfd listeners[2] = {{.fd = listen_at(argv[1], argv[2]), .events = POLLIN},
                                  {.fd = listen_at(argv[1], argv[3]), .events = POLLIN}};
    const pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child > 0) {
        FILE *file = fopen(argv[4], "we");
        if (!file || fprintf(file, "%d\n", (int)child) < 0 || fclose(file))
            die(argv[4]);
        return 0;
    }
    (void)setsid();
    (void)signal(SIGHUP, SIG_IGN);
    for (;;) {
        if (poll(listeners, 2, -1) < 0 && errno != EINTR)
            die("poll");
        if (listeners[0].revents)
            serve(listeners[0].fd, sink);
        if (listeners[1].revents)
            serve(listeners[1].fd, source);
    }
}
