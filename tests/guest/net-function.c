/*
 * A function for the tests of the network. It listens on port 7777 from its init on, and does what an event's
 * words say:
 *
 *   show                     interfaces, their MAC addresses, MTUs, addresses; routes; the resolver's file
 *   dial ADDRESS PORT BYTES  connect, send as many bytes, end, answer with the line that comes back
 *   timed ADDRESS PORT BYTES connect, send as many bytes, end, read all that comes; answer with how long that
 *                            took by the guest's clock and how many bytes came
 *   stream ADDRESS PORT      connect, and send for ever from a thread of its own
 *   streamed                 how that goes
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netpacket/packet.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "agent/function/function.h"

#define PORT    7777
#define LIMIT_S 20

static struct {
    int listener;
    int stream;
    uint64_t streamed_bytes; /* atomic */
    int stream_error;        /* atomic: -1 none yet */
    pthread_t streamer;
} state = {.listener = -1, .stream = -1, .stream_error = -1};

static void *serve(void *context)
{
    (void)context;
    for (;;) {
        char name[80] = "";
        char text[128];
        const int fd = accept(state.listener, NULL, NULL);
        if (fd < 0)
            continue;
        (void)gethostname(name, sizeof name - 1);
        const int size = snprintf(text, sizeof text, "this is %s\n", name);
        (void)!write(fd, text, (size_t)size);
        (void)close(fd);
    }
    return NULL;
}

static int start(void *context)
{
    const int on = 1;
    pthread_t thread;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
    (void)context;
    state.listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(state.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (state.listener < 0 || bind(state.listener, (struct sockaddr *)&any, sizeof any) < 0 ||
        listen(state.listener, 8) < 0)
        return 1;
    return pthread_create(&thread, NULL, serve, NULL);
}

static void show_file(struct function_reply *reply, const char *path)
{
    char text[4096];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n > 0)
        (void)function_reply_printf(reply, "%s:\n%.*s", path, (int)n, text);
    if (fd >= 0)
        (void)close(fd);
}

static unsigned prefix_of(const struct sockaddr *mask)
{
    const uint8_t *bytes = mask->sa_family == AF_INET
                               ? (const uint8_t *)&((const struct sockaddr_in *)mask)->sin_addr
                               : (const uint8_t *)&((const struct sockaddr_in6 *)mask)->sin6_addr;
    unsigned bits = 0;
    for (unsigned i = 0; i < (mask->sa_family == AF_INET ? 4u : 16u); i++)
        bits += (unsigned)__builtin_popcount(bytes[i]);
    return bits;
}

static void show_link(struct function_reply *reply, const char *name, const struct sockaddr_ll *link)
{
    struct ifreq request = {.ifr_mtu = 0};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (fd >= 0)
        (void)ioctl(fd, SIOCGIFMTU, &request);
    (void)close(fd);
    const uint8_t *mac = link->sll_addr;
    (void)function_reply_printf(reply, "%s mac %02x:%02x:%02x:%02x:%02x:%02x mtu %d\n", name, mac[0], mac[1],
                                mac[2], mac[3], mac[4], mac[5], request.ifr_mtu);
}

static int show(struct function_reply *reply)
{
    struct ifaddrs *all;
    char text[INET6_ADDRSTRLEN];
    if (getifaddrs(&all) < 0)
        return 1;
    for (const struct ifaddrs *at = all; at; at = at->ifa_next) {
        if (!at->ifa_addr || (at->ifa_flags & IFF_LOOPBACK))
            continue;
        if (at->ifa_addr->sa_family == AF_PACKET)
            show_link(reply, at->ifa_name, (const struct sockaddr_ll *)at->ifa_addr);
        else if (getnameinfo(at->ifa_addr,
                             at->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                                : sizeof(struct sockaddr_in6),
                             text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            (void)function_reply_printf(reply, "%s address %s/%u\n", at->ifa_name, text,
                                        prefix_of(at->ifa_netmask));
    }
    freeifaddrs(all);
    show_file(reply, "/proc/net/route");
    show_file(reply, "/etc/resolv.conf");
    show_file(reply, "/run/resolv.conf");
    return 0;
}

/* A connected socket, or -1 with the reply failed. */
static int dial(const char *address, const char *port, struct function_reply *reply)
{
    const struct timeval limit = {.tv_sec = LIMIT_S};
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *to = NULL;
    int fd = -1;
    if (!address || !port || getaddrinfo(address, port, &hints, &to))
        function_reply_fail(reply, "Test.Usage", "want an address and a port");
    else
        fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
                    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
                    connect(fd, to->ai_addr, to->ai_addrlen) < 0)) {
        function_reply_fail(reply, "Test.Unreachable", "%s: %s", address, strerror(errno));
        (void)close(fd);
        fd = -1;
    }
    freeaddrinfo(to);
    return fd;
}

static int talk(int fd, size_t bytes, struct function_reply *reply)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    while (bytes > 0) {
        const ssize_t n = write(fd, block, bytes < sizeof block ? bytes : sizeof block);
        if (n <= 0) {
            function_reply_fail(reply, "Test.Cut", "sending: %s", strerror(errno));
            return 1;
        }
        bytes -= (size_t)n;
    }
    (void)shutdown(fd, SHUT_WR);
    for (;;) {
        const ssize_t n = read(fd, block, sizeof block);
        if (n == 0)
            return 0;
        if (n < 0) {
            function_reply_fail(reply, "Test.Cut", "receiving: %s", strerror(errno));
            return 1;
        }
        (void)function_reply_write(reply, block, (size_t)n);
        if (block[n - 1] == '\n')
            return 0; /* the line is whole; not every passt says the end of a connection that we ended first
                       */
    }
}

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int timed(int fd, size_t bytes, struct function_reply *reply)
{
    static char block[65536];
    const uint64_t since_ms = now_ms();
    size_t came = 0;
    ssize_t n = 1;
    while (bytes > 0 && n > 0) {
        n = write(fd, block, bytes < sizeof block ? bytes : sizeof block);
        bytes -= n > 0 ? (size_t)n : 0;
    }
    (void)shutdown(fd, SHUT_WR);
    while (n > 0 && (n = read(fd, block, sizeof block)) > 0)
        came += (size_t)n;
    if (n < 0)
        function_reply_fail(reply, "Test.Cut", "%s", strerror(errno));
    return function_reply_printf(reply, "%llu ms, %zu bytes came\n",
                                 (unsigned long long)(now_ms() - since_ms), came);
}

static void *stream(void *context)
{
    static char block[16384];
    (void)context;
    for (;;) {
        const ssize_t n = send(state.stream, block, sizeof block, MSG_NOSIGNAL);
        if (n > 0) {
            __atomic_add_fetch(&state.streamed_bytes, (uint64_t)n, __ATOMIC_SEQ_CST);
            continue;
        }
        __atomic_store_n(&state.stream_error, n < 0 ? errno : EPIPE, __ATOMIC_SEQ_CST);
        return NULL;
    }
}

static int start_stream(const char *address, const char *port, struct function_reply *reply)
{
    const struct timeval never = {.tv_sec = 0};
    state.stream = dial(address, port, reply);
    if (state.stream < 0 || setsockopt(state.stream, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof never) < 0 ||
        pthread_create(&state.streamer, NULL, stream, NULL))
        return 1;
    while (__atomic_load_n(&state.streamed_bytes, __ATOMIC_SEQ_CST) < (1u << 20) &&
           __atomic_load_n(&state.stream_error, __ATOMIC_SEQ_CST) < 0)
        (void)usleep(1000);
    return function_reply_printf(reply, "streaming");
}

static int tell_stream(struct function_reply *reply)
{
    const int error = __atomic_load_n(&state.stream_error, __ATOMIC_SEQ_CST);
    return function_reply_printf(reply, "%s\n", error < 0 ? "goes on" : strerror(error));
}

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    char text[256];
    char *rest = text;
    (void)context;
    (void)snprintf(text, sizeof text, "%.*s", (int)event->size, (const char *)event->data);
    const char *word = strtok_r(text, " ", &rest);
    if (word && strcmp(word, "show") == 0)
        return show(reply);
    if (word && strcmp(word, "streamed") == 0)
        return tell_stream(reply);
    const char *address = strtok_r(NULL, " ", &rest);
    const char *port = strtok_r(NULL, " ", &rest);
    if (word && strcmp(word, "stream") == 0)
        return start_stream(address, port, reply);
    const char *bytes = strtok_r(NULL, " ", &rest);
    const bool clocked = word && strcmp(word, "timed") == 0;
    if (!word || (strcmp(word, "dial") != 0 && !clocked))
        return 1;
    const int fd = dial(address, port, reply);
    if (fd < 0)
        return 0;
    if (clocked)
        (void)timed(fd, bytes ? strtoul(bytes, NULL, 10) : 0, reply);
    else
        (void)talk(fd, bytes ? strtoul(bytes, NULL, 10) : 1, reply);
    (void)close(fd);
    return 0;
}

int main(void)
{
    static const struct function function = {.init = start, .handle = handle};
    return function_run(&function);
}
