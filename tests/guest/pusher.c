/*
 * PID 1 that makes CONNECTIONS vsock connections to the host, port HOST_PORT, and sends on each until nothing more
 * is taken: what the host's end does not read is then in hostvmm's buffers. It powers off when the host ends the
 * last of them.
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST_PORT     6000
#define CONNECTIONS   128
#define MOST_BYTES    (1u << 20) /* more than socket and buffers hold */
#define PATIENCE_MS   200        /* that nothing is taken in */
#define MESSAGE_BYTES 65536

static const uint8_t message[MESSAGE_BYTES];

/* The descriptor, full; or -1. */
static int push(void)
{
    const struct sockaddr_vm address = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = HOST_PORT};
    const int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address) < 0)
        return -1;
    for (size_t sent = 0; sent < MOST_BYTES;) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        const int ready = poll(&wait, 1, PATIENCE_MS);
        if (ready == 0)
            return fd;
        const ssize_t n = send(fd, message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (ready < 0 || (n < 0 && errno != EAGAIN))
            break;
        sent += n > 0 ? (size_t)n : 0;
    }
    return -1;
}

int main(void)
{
    int last = -1;
    unsigned full = 0;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        last = push();
        full += last >= 0;
    }
    printf("pusher: %u full\n", full);
    (void)fflush(stdout);
    struct pollfd wait = {.fd = last, .events = POLLIN};
    (void)poll(&wait, 1, -1); /* until its end comes */
    reboot(RB_POWER_OFF);
    return 1;
}
