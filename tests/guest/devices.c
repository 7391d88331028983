/*
 * The virtio devices under Linux's own drivers. One program for both sides: as PID 1 it is the guest, started
 * with a path it is the host's side of that VM's vsock. It prints `devices: what ok` lines, or `devices: what
 * failed`.
 *
 * The guest tries the entropy device and the drive /dev/vda, then listens on vsock port ECHO_PORT and sends
 * everything back, then makes a connection to the host and checks that what it sends comes back. The host,
 * once it has that connection, makes CLIENTS connections at once, each with CLIENT_BYTES both ways and a half
 * close, and last one to QUIT_PORT, which ends the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define ECHO_PORT    5000
#define QUIT_PORT    5001
#define HOST_PORT    6000
#define CLIENTS      32
#define CLIENT_BYTES (128u << 10)
#define GUEST_BYTES  (2u << 20)
#define DRIVE_BYTES  (4u << 20)
#define BLOCK_BYTES  (512u << 10)

static uint8_t block[BLOCK_BYTES] __attribute__((aligned(4096)));
static uint8_t wanted[BLOCK_BYTES];

static int said(const char *what, int good)
{
    if (good)
        printf("devices: %s ok\n", what);
    else
        printf("devices: %s failed: %s\n", what, strerror(errno));
    fflush(stdout);
    return good;
}

static uint8_t pattern(uint32_t seed, uint32_t at)
{
    uint32_t value = (seed + at / 4 + 1) * 2654435761u;
    value ^= value >> 15;
    return (uint8_t)(value >> (8 * (at % 4)));
}

/* Send `total` bytes of a pattern and read the same back, both as they go; then each side ends. */
static int exchange(int fd, uint32_t seed, uint32_t total)
{
    static uint8_t out[16384], in[16384];
    uint32_t sent = 0, received = 0;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return 0;
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (sent < total ? POLLOUT : 0))};
        if (poll(&wait, 1, 30000) <= 0)
            return 0;
        if (sent < total && wait.revents & POLLOUT) {
            uint32_t size = total - sent < sizeof out ? total - sent : (uint32_t)sizeof out;
            for (uint32_t i = 0; i < size; i++)
                out[i] = pattern(seed, sent + i);
            const ssize_t n = send(fd, out, size, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                return 0;
            sent += n > 0 ? (uint32_t)n : 0;
            if (sent == total && shutdown(fd, SHUT_WR) < 0)
                return 0;
        }
        if (!(wait.revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        const ssize_t n = recv(fd, in, sizeof in, 0);
        if (n < 0 && errno == EAGAIN)
            continue;
        if (n <= 0)
            return n == 0 && sent == total && received == total;
        for (uint32_t i = 0; i < (uint32_t)n; i++)
            if (in[i] != pattern(seed, received + i)) {
                errno = EBADMSG;
                return 0;
            }
        received += (uint32_t)n;
    }
}

/* Send everything back until the other side ends. */
static void echo(int fd)
{
    static uint8_t bytes[8192];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0)
        for (ssize_t done = 0; done < n;) {
            const ssize_t m = write(fd, bytes + done, (size_t)(n - done));
            if (m < 0)
                return;
            done += m;
        }
}

/* Do it in a process of its own. */
static void echo_aside(int fd)
{
    if (fork() == 0) {
        echo(fd);
        _exit(0);
    }
    close(fd);
}

/* ---- guest
 * ------------------------------------------------------------------------------------------------*/

static int try_entropy(void)
{
    static uint8_t first[4096], second[4096];
    const int fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < 16; i++) {
        size_t have = 0;
        while (have < sizeof first) {
            const ssize_t n = read(fd, first + have, sizeof first - have);
            if (n <= 0)
                return 0;
            have += (size_t)n;
        }
        if (memcmp(first, second, sizeof first) == 0)
            return 0;
        memcpy(second, first, sizeof first);
    }
    close(fd);
    return 1;
}

static int try_drive(void)
{
    const int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
    const uint64_t hole[2] = {BLOCK_BYTES, 2 * BLOCK_BYTES}, dropped[2] = {6 * BLOCK_BYTES, BLOCK_BYTES};
    if (fd < 0)
        return 0;
    for (uint32_t at = 0; at < DRIVE_BYTES; at += BLOCK_BYTES) {
        for (uint32_t i = 0; i < BLOCK_BYTES; i++)
            block[i] = pattern(7, at + i);
        if (pwrite(fd, block, sizeof block, at) != (ssize_t)sizeof block)
            return 0;
    }
    if (fsync(fd) < 0 || ioctl(fd, BLKZEROOUT, hole) < 0 || ioctl(fd, BLKDISCARD, dropped) < 0)
        return 0;
    for (uint32_t at = 0; at < 6 * BLOCK_BYTES; at += BLOCK_BYTES) {
        const int zero = at >= hole[0] && at < hole[0] + hole[1];
        for (uint32_t i = 0; i < BLOCK_BYTES; i++)
            wanted[i] = zero ? 0 : pattern(7, at + i);
        if (pread(fd, block, sizeof block, at) != (ssize_t)sizeof block)
            return 0;
        if (memcmp(block, wanted, sizeof block) != 0) {
            errno = EBADMSG;
            return 0;
        }
    }
    /* Beyond the end. */
    const off_t end = lseek(fd, 0, SEEK_END);
    return pread(fd, block, 4096, end) == 0 && close(fd) == 0;
}

static int vsock_socket(unsigned cid, unsigned port, int passive)
{
    const struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr *generic = (const struct sockaddr *)(const void *)&address;
    if (passive ? bind(fd, generic, sizeof address) < 0 || listen(fd, 128) < 0
                : connect(fd, generic, sizeof address) < 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static void serve(int clients, int quit)
{
    for (;;) {
        struct pollfd wait[2] = {{.fd = clients, .events = POLLIN}, {.fd = quit, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0 || wait[1].revents)
            return;
        const int fd = accept(clients, NULL, NULL);
        if (fd < 0)
            return;
        echo_aside(fd);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

static void be_guest(void)
{
    mkdir("/dev", 0755);
    (void)mount("dev", "/dev", "devtmpfs", 0, NULL);
    said("entropy", try_entropy());
    said("drive", try_drive());
    const int clients = vsock_socket(VMADDR_CID_ANY, ECHO_PORT, 1);
    const int quit = vsock_socket(VMADDR_CID_ANY, QUIT_PORT, 1);
    if (!said("listening", clients >= 0 && quit >= 0))
        return;
    said("refusal", vsock_socket(VMADDR_CID_HOST, HOST_PORT + 1, 0) < 0 && errno == ECONNRESET);
    /* The host echoes this one and talks to the listeners at the same time. */
    const int up = vsock_socket(VMADDR_CID_HOST, HOST_PORT, 0);
    if (fork() == 0) {
        said("guest to host", up >= 0 && exchange(up, 1, GUEST_BYTES));
        _exit(0);
    }
    close(up);
    serve(clients, quit);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    said("end", 1);
}

/* ---- host
 * -------------------------------------------------------------------------------------------------*/

static struct sockaddr_un unix_address(const char *path, const char *suffix)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s%s", path, suffix);
    return address;
}

static int dial(const char *path, unsigned port)
{
    const struct sockaddr_un address = unix_address(path, "");
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char line[32];
    size_t have = 0;
    const int size = snprintf(line, sizeof line, "CONNECT %u\n", port);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
        write(fd, line, (size_t)size) != size)
        return -1;
    do {
        if (have == sizeof line || read(fd, line + have, 1) != 1) {
            errno = ECONNREFUSED;
            return -1;
        }
    } while (line[have++] != '\n');
    return strncmp(line, "OK ", 3) == 0 ? fd : -1;
}

static int be_host(const char *path)
{
    const struct sockaddr_un address = unix_address(path, "_6000");
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (const struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4) < 0)
        return said("host", 0);
    const int guest = accept(listener, NULL, NULL); /* its listeners are up by now */
    if (guest < 0)
        return said("host", 0);
    echo_aside(guest);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (fork() != 0)
            continue;
        const int fd = dial(path, ECHO_PORT);
        if (fd < 0 || !exchange(fd, 100 + i, CLIENT_BYTES)) {
            said("host to guest", 0);
            _exit(1);
        }
        _exit(0);
    }
    int status, good = 1;
    while (wait(&status) > 0)
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const int quit = dial(path, QUIT_PORT);
    if (quit < 0)
        good = said("ending", 0);
    return said("host to guest", good);
}

int main(int count, char **arguments)
{
    signal(SIGPIPE, SIG_IGN);
    if (getpid() != 1)
        return count == 2 && be_host(arguments[1]) ? 0 : 1;
    be_guest();
    (void)tcdrain(STDOUT_FILENO); /* the last words leave through a slow line */
    reboot(RB_POWER_OFF);
    return 1;
}
