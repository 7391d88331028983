/*
 * net-steps: a guest's PID 1 that sets two interfaces as the agent does, and asks the kernel what came of it.
 *
 * Run as /init of an initramfs in a VM with `--net none --net none`. One line on the console for each check,
 * "ok NAME" or "not ok NAME: reason", then power-off. With another PID, in namespaces of its own that have
 * eth0 and eth1, the same without mounts and power-off. As "again" it is an agent that is started again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "agent/net/net.h"
#include "tests/guest/net-show.h"

#define ORIGINAL                                                                                             \
    "mac=02:00:00:00:00:0a,mtu=1400,address=192.0.2.2/24,address=192.0.2.3/24,address=2001:db8::2/64,"       \
    "gateway=192.0.2.1,gateway=fe80::1,dns=192.0.2.1,dns=fe80::1;"                                           \
    "mac=02:00:00:00:01:0a,address=198.51.100.2/24,gateway=198.51.100.1"
#define CLONE                                                                                                \
    "mac=02:00:00:00:00:0b,address=203.0.113.9/32,address=192.0.2.3/24,gateway=10.9.9.9,dns=10.9.9.9"

static char reason_text[4096];

static const char *reason(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(reason_text, sizeof reason_text, format, args);
    va_end(args);
    return reason_text;
}

/* The kernel shows exactly these lines. */
static const char *shows(const char *wanted)
{
    static char text[4096];
    const int error = net_show(text, sizeof text);
    if (error)
        return reason("rtnetlink: %s", strerror(-error));
    if (strcmp(text, wanted) == 0)
        return NULL;
    for (char *at = text; *at; at++)
        *at = *at == '\n' ? ';' : *at;
    return reason("the kernel shows %s", text);
}

static const char *file_holds(const char *path, const char *wanted)
{
    char text[2048];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = '\0';
    return size >= 0 && strcmp(text, wanted) == 0 ? NULL : reason("%s holds '%s'", path, text);
}

static const char *renew(const char *text)
{
    static char why[RESUME_WHY_BYTES];
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    const int error = net_renew(text, strlen(text), why);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("# renewed in %lld us\n",
           (long long)(end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000);
    return error ? reason("net_renew: %s", why) : NULL;
}

/* ---- checks, in the order of a guest's life ---- */

static const char *check_nothing(void)
{
    char why[RESUME_WHY_BYTES] = "";
    if (net_begin(NULL, why) != 0 || net_begin("", why) != 0 || net_renew("", 0, why) != 0)
        return reason("no network: %s", why);
    if (net_current()->count != 0 || access(NET_STATE_PATH, F_OK) == 0)
        return "a guest without a network has one";
    return net_begin("mac=02:00:00:00:00:0a,mtu=9", why) == -EINVAL && strstr(why, "mtu=9")
               ? NULL
               : reason("a bad text: '%s'", why);
}

static const char *check_missing(void)
{
    char why[RESUME_WHY_BYTES] = "";
    const char *text = "mac=02:00:00:00:00:0a;mac=02:00:00:00:01:0a;mac=02:00:00:00:02:0a";
    return net_begin(text, why) == -ENODEV && strstr(why, "eth2") ? NULL : reason("said '%s'", why);
}

static const char original_lines[] = "eth0 up 02:00:00:00:00:0a 1400\n"
                                     "eth1 up 02:00:00:00:01:0a 1500\n"
                                     "eth0 192.0.2.2/24\n"
                                     "eth0 192.0.2.3/24\n"
                                     "eth1 198.51.100.2/24\n"
                                     "eth0 2001:db8::2/64\n"
                                     "eth0 fe80::ff:fe00:a/64\n"
                                     "eth0 default 192.0.2.1 100\n"
                                     "eth1 default 198.51.100.1 101\n"
                                     "eth0 default fe80::1 100\n";

static const char *check_begin(void)
{
    char why[RESUME_WHY_BYTES] = "";
    struct stat about;
    if (net_begin(ORIGINAL, why) != 0)
        return reason("net_begin: %s", why);
    const char *wrong = shows(original_lines);
    if (!wrong)
        wrong = file_holds("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0\n");
    if (!wrong)
        wrong = file_holds("/etc/resolv.conf", "nameserver 192.0.2.1\nnameserver fe80::1%eth0\n");
    if (!wrong)
        wrong = file_holds(NET_STATE_PATH, ORIGINAL);
    if (!wrong && (stat(NET_STATE_PATH, &about) < 0 || (about.st_mode & 07777) != 0600))
        wrong = reason("%s is of mode %o", NET_STATE_PATH, (unsigned)about.st_mode);
    return wrong;
}

static bool knows_neighbour(int fd)
{
    struct arpreq request = {.arp_dev = "eth0"};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(0xc0000207)}};
    memcpy(&request.arp_pa, &to, sizeof to);
    return ioctl(fd, SIOCGARP, &request) == 0 && request.arp_flags & ATF_COM;
}

/* The same network, but on another host, where 192.0.2.7 may be another station. */
static const char *check_same(void)
{
    struct arpreq request = {
        .arp_dev = "eth0", .arp_flags = ATF_COM, .arp_ha = {.sa_data = {2, 9, 9, 9, 9, 9}}};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(0xc0000207)}};
    memcpy(&request.arp_pa, &to, sizeof to);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const bool set = ioctl(fd, SIOCSARP, &request) == 0 && knows_neighbour(fd);
    const char *wrong = set ? renew(ORIGINAL) : reason("SIOCSARP: %s", strerror(errno));
    if (!wrong && knows_neighbour(fd))
        wrong = "a neighbour of the original is still known";
    close(fd);
    return wrong ? wrong : shows(original_lines);
}

static int listen_to(const char *name)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    at.sll_ifindex = (int)if_nametoindex(name);
    return fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof at) == 0 ? fd : -1;
}

/* Of the frames sent by this MAC, the first is an ARP request of this address for itself. */
static const char *first_is_announcement(int fd, uint8_t mac, const uint8_t address[4])
{
    uint8_t frame[2048];
    for (;;) {
        const ssize_t size = recv(fd, frame, sizeof frame, 0);
        if (size < 0)
            return reason("no frame of the new MAC: %s", strerror(errno));
        if (size < 42 || frame[11] != mac)
            continue;
        if (frame[12] != 8 || frame[13] != 6 || frame[21] != 1 || memcmp(frame + 28, address, 4) != 0 ||
            memcmp(frame + 38, address, 4) != 0)
            return reason("the first frame is of type %02x%02x", frame[12], frame[13]);
        return NULL;
    }
}

static const char clone_lines[] = "eth0 up 02:00:00:00:00:0b 1400\n"
                                  "eth1 down 02:00:00:00:01:0a 1500\n"
                                  "eth0 203.0.113.9/32\n"
                                  "eth0 192.0.2.3/24\n"
                                  "eth0 default 10.9.9.9 100\n"
                                  "eth0 route 10.9.9.9/32\n";

static const char *check_clone(void)
{
    static const uint8_t first[4] = {203, 0, 113, 9};
    int fd = listen_to("eth0");
    const char *wrong = renew(CLONE);
    if (!wrong)
        wrong = shows(clone_lines);
    if (!wrong)
        wrong = file_holds("/etc/resolv.conf", "nameserver 10.9.9.9\n");
    if (!wrong)
        wrong = file_holds(NET_STATE_PATH, CLONE);
    if (!wrong)
        wrong = first_is_announcement(fd, 0x0b, first);
    close(fd);
    return wrong;
}

static const char *check_announced_again(void)
{
    static const uint8_t first[4] = {203, 0, 113, 9};
    int fd = listen_to("eth0");
    const char *wrong = renew("");
    if (!wrong)
        wrong = first_is_announcement(fd, 0x0b, first);
    close(fd);
    return wrong ? wrong : shows(clone_lines);
}

/* Init hands on the original's network for ever. */
static const char *check_started_again(void)
{
    int status = -1;
    const pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "net-steps", "again", (char *)NULL);
        _exit(100);
    }
    waitpid(child, &status, 0);
    return status == 0 ? shows(clone_lines) : reason("it ended with 0x%x", (unsigned)status);
}

static const char *check_back(void)
{
    const char *wrong = renew(ORIGINAL);
    return wrong ? wrong : shows(original_lines);
}

/* Its gateway is itself: the kernel takes all but that. */
static const char *check_refused(void)
{
    char why[RESUME_WHY_BYTES] = "";
    static const char text[] = "mac=02:00:00:00:00:0a,address=2001:db8::9/64,gateway=2001:db8::9";
    const int error = net_renew(text, strlen(text), why);
    return error < 0 && strstr(why, "eth0: add gateway 2001:db8::9") ? NULL : reason("said '%s'", why);
}

/* After a change that ended half-way. */
static const char *check_afresh(void)
{
    const char *wrong = renew(CLONE);
    return wrong ? wrong : shows(clone_lines);
}

static const struct {
    const char *name;
    const char *(*check)(void);
} checks[] = {
    {"nothing", check_nothing},
    {"missing", check_missing},
    {"begin", check_begin},
    {"same", check_same},
    {"clone", check_clone},
    {"announced_again", check_announced_again},
    {"started_again", check_started_again},
    {"back", check_back},
    {"refused", check_refused},
    {"afresh", check_afresh},
};

static void prepare(void)
{
    static const char *const mounts[][2] = {{"/dev", "devtmpfs"}, {"/proc", "proc"}, {"/run", "tmpfs"}};
    for (size_t i = 0; i < sizeof mounts / sizeof mounts[0]; i++) {
        mkdir(mounts[i][0], 0755);
        mount(mounts[i][1], mounts[i][0], mounts[i][1], MS_NOSUID, NULL);
    }
    int console = open("/dev/console", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3 && console >= 0; fd++)
        dup2(console, fd);
    mkdir("/etc", 0755);
    close(open("/etc/resolv.conf", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
}

static int again(void)
{
    char why[RESUME_WHY_BYTES];
    const int error = net_begin(ORIGINAL, why);
    if (error)
        printf("# again: %s\n", why);
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int count, char **arguments)
{
    unsigned good = 0, bad = 0;
    if (count > 1 && strcmp(arguments[1], "again") == 0)
        return again();
    if (getpid() == 1)
        prepare();
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const char *why = checks[i].check();
        if (!why)
            good++, printf("ok %s\n", checks[i].name);
        else
            bad++, printf("not ok %s: %s\n", checks[i].name, why);
    }
    printf("# %u ok, %u not ok\n", good, bad);
    if (getpid() != 1)
        return bad ? EXIT_FAILURE : EXIT_SUCCESS;
    tcdrain(1);
    reboot(RB_POWER_OFF);
    return 1;
}
