/*
 * The init of a root file system as Firecracker's pages use one: no agent, no image of ours. It gives eth0 the
 * address that its MAC address carries (06:00 and the four bytes of an IPv4 address, in a network of four), and
 * answers HTTP on port 80: with how many requests came before, which it also keeps in /count, so that the root
 * has to be writable, and with a word that is drawn at its start. `GET /reboot` reboots.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    printf("walkthrough: %s: %s\n", what, strerror(errno));
    for (;;)
        pause(); /* an init that ends would hide the line behind a panic */
}

/* The kernel found no console in an empty /dev. */
static void open_console(void)
{
    mkdir("/dev", 0755);
    if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 && errno != EBUSY)
        return;
    const int fd = open("/dev/console", O_RDWR | O_NOCTTY);
    if (fd >= 0 && dup2(fd, 0) == 0 && dup2(fd, 1) == 1)
        (void)dup2(fd, 2);
    setvbuf(stdout, NULL, _IOLBF, 0);
}

static void set_address(int fd)
{
    struct ifreq request = {.ifr_name = "eth0"};
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (ioctl(fd, SIOCGIFHWADDR, &request) < 0) {
        puts("walkthrough: no eth0");
        return;
    }
    memcpy(&address.sin_addr, request.ifr_hwaddr.sa_data + 2, 4);
    memcpy(&request.ifr_addr, &address, sizeof address);
    must(ioctl(fd, SIOCSIFADDR, &request), "address");
    address.sin_addr.s_addr = htonl(0xfffffffc);
    memcpy(&request.ifr_netmask, &address, sizeof address);
    must(ioctl(fd, SIOCSIFNETMASK, &request), "netmask");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    must(ioctl(fd, SIOCSIFFLAGS, &request), "up");
}

static int listen_at(in_port_t port)
{
    const struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd, "socket");
    must(bind(fd, (const struct sockaddr *)&address, sizeof address), "bind");
    must(listen(fd, 8), "listen");
    set_address(fd);
    return fd;
}

static void keep(unsigned count)
{
    char text[16];
    const int size = snprintf(text, sizeof text, "%u\n", count);
    const int fd = open("/count", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd, "/count");
    must((int)write(fd, text, (size_t)size) == size ? 0 : -1, "/count");
    must(fsync(fd), "/count");
    close(fd);
}

static void answer(int fd, unsigned count, unsigned word)
{
    char request[1024];
    char body[64];
    char text[256];
    const ssize_t n = read(fd, request, sizeof request - 1);
    request[n > 0 ? n : 0] = '\0';
    const int size = snprintf(body, sizeof body, "count %u word %08x\n", count, word);
    const int whole =
        snprintf(text, sizeof text, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body);
    (void)!write(fd, text, (size_t)whole);
    (void)shutdown(fd, SHUT_WR);
    while (read(fd, text, sizeof text) > 0)
        ;
    close(fd);
    if (strncmp(request, "GET /reboot ", 12) == 0) {
        sync();
        (void)reboot(RB_AUTOBOOT);
    }
}

int main(void)
{
    unsigned word = 0;
    open_console();
    must((int)getrandom(&word, sizeof word, 0), "random");
    const int fd = listen_at(80);
    puts("walkthrough: up");
    for (unsigned count = 0;; count++) {
        keep(count);
        const int client = accept(fd, NULL, NULL);
        must(client, "accept");
        answer(client, count, word);
    }
}
