/*
 * dns-peer: a name server for tests (RFC 1035), over UDP.
 *
 *   dns-peer ADDRESS PIDFILE NAME=ADDRESS[,ADDRESS]...
 *
 * A NAME has the IPv4 addresses given, in their order, and no others; `NAME=` is never answered; other names
 * do not exist. Returns when it listens at port 53; the process's number is in PIDFILE.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEADER_BYTES  12
#define MESSAGE_BYTES 512
#define NAME_BYTES    256
#define TYPE_A        1
#define NO_SUCH_NAME  3
#define TTL_SECONDS   60

_Noreturn static void die(const char *what)
{
    (void)fprintf(stderr, "dns-peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The one question's name with dots, and where the question ends; 0: not a message that is answered. */
static size_t read_question(const uint8_t *message, size_t size, char name[NAME_BYTES])
{
    size_t at = HEADER_BYTES, used = 0;
    if (size < HEADER_BYTES || message[2] & 0x80 || message[4] != 0 || message[5] != 1)
        return 0;
    while (at < size && message[at] != 0) {
        const size_t label = message[at];
        if (label > 63 || at + 1 + label > size || used + label + 2 > NAME_BYTES)
            return 0;
        if (used > 0)
            name[used++] = '.';
        memcpy(name + used, message + at + 1, label);
        used += label;
        at += 1 + label;
    }
    name[used] = '\0';
    return at + 5 <= size ? at + 5 : 0;
}

static const char *find(char **names, const char *name)
{
    const size_t size = strlen(name);
    for (; *names; names++)
        if (strncasecmp(*names, name, size) == 0 && (*names)[size] == '=')
            return *names + size + 1;
    return NULL;
}

static size_t add_address(uint8_t *message, size_t at, const char *text, size_t size)
{
    const uint8_t head[] = {0xc0, HEADER_BYTES, 0, TYPE_A, 0, 1, 0, 0, 0, TTL_SECONDS, 0, 4};
    char address[INET_ADDRSTRLEN] = "";
    if (size >= sizeof address || at + sizeof head + 4 > MESSAGE_BYTES)
        return at;
    memcpy(address, text, size);
    memcpy(message + at, head, sizeof head);
    if (inet_pton(AF_INET, address, message + at + sizeof head) != 1)
        return at;
    message[7]++;
    return at + sizeof head + 4;
}

/* Turn the question into its answer: its size, or 0 for none. */
static size_t answer(uint8_t *message, size_t size, char **names)
{
    char name[NAME_BYTES];
    size_t end = read_question(message, size, name);
    const char *addresses = end ? find(names, name) : NULL;
    if (end == 0 || (addresses && !*addresses))
        return 0;
    const bool wants_v4 = message[end - 3] == TYPE_A;
    message[2] |= 0x80;
    message[3] = addresses ? 0x80 : 0x80 | NO_SUCH_NAME;
    memset(message + 6, 0, 6); /* what else the query had is not answered */
    while (addresses && wants_v4 && *addresses) {
        const size_t length = strcspn(addresses, ",");
        end = add_address(message, end, addresses, length);
        addresses += length + (addresses[length] == ',');
    }
    return end;
}

int main(int argc, char **argv)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(53)}, from;
    uint8_t message[MESSAGE_BYTES];
    if (argc < 4) {
        (void)fputs("usage: dns-peer ADDRESS PIDFILE NAME=ADDRESS[,ADDRESS]...\n", stderr);
        return 2;
    }
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (inet_pton(AF_INET, argv[1], &here.sin_addr) != 1 || fd < 0 ||
        bind(fd, (struct sockaddr *)&here, sizeof here) < 0)
        die(argv[1]);
    const pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child > 0) {
        FILE *file = fopen(argv[2], "we");
        if (!file || fprintf(file, "%d\n", (int)child) < 0 || fclose(file))
            die(argv[2]);
        return 0;
    }
    (void)setsid();
    for (;;) {
        socklen_t room = sizeof from;
        const ssize_t got = recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&from, &room);
        if (got < 0 && errno != EINTR && errno != ECONNREFUSED)
            die("receiving");
        const size_t size = got > 0 ? answer(message, (size_t)got, argv + 3) : 0;
        if (size > 0)
            (void)sendto(fd, message, size, 0, (struct sockaddr *)&from, room);
    }
}
