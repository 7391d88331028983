/*
 * kernel-features: sockets and their destruction, control groups, namespaces, seccomp. See kernel-features.c.
 */
#include "tests/guest/kernel-features.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define VSOCK_FAMILY     40
#define KILL_LIMIT_BYTES (8u << 20)

/* ---- network ---- */

const char *check_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return failed("socket");
    int result = ioctl(fd, SIOCGIFFLAGS, &request);
    request.ifr_flags |= IFF_UP;
    if (result == 0)
        result = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result < 0 ? failed("lo") : NULL;
}

/* A connected pair over loopback of the family; NULL or a reason. */
static const char *tcp_pair(int family, int pair[2], struct sockaddr_storage *server)
{
    socklen_t size = sizeof *server;
    memset(server, 0, sizeof *server);
    server->ss_family = (sa_family_t)family;
    if (family == AF_INET)
        ((struct sockaddr_in *)server)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)server)->sin6_addr = in6addr_loopback;
    int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return failed("socket");
    if (bind(listener, (struct sockaddr *)server,
             family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)server, &size) < 0)
        return failed("bind");
    pair[0] = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(pair[0], (struct sockaddr *)server, size) < 0)
        return failed("connect");
    pair[1] = accept(listener, NULL, NULL);
    close(listener);
    return pair[1] < 0 ? failed("accept") : NULL;
}

static const char *check_tcp(int family)
{
    int pair[2];
    char byte = 0;
    struct sockaddr_storage server;
    const char *why = tcp_pair(family, pair, &server);
    if (why)
        return why;
    if (write(pair[0], "x", 1) != 1 || read(pair[1], &byte, 1) != 1 || byte != 'x')
        return failed("a byte over loopback");
    close(pair[0]), close(pair[1]);
    return NULL;
}
const char *check_ipv4(void)
{
    return check_tcp(AF_INET);
}
const char *check_ipv6(void)
{
    return check_tcp(AF_INET6);
}

/* SOCK_DESTROY on one end of a connection: its next read says ECONNABORTED. */
const char *check_sock_destroy(void)
{
    int pair[2];
    struct sockaddr_storage server;
    struct sockaddr_in self;
    socklen_t size = sizeof self;
    const char *why = tcp_pair(AF_INET, pair, &server);
    if (why)
        return why;
    if (getsockname(pair[0], (struct sockaddr *)&self, &size) < 0)
        return failed("getsockname");
    int diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (diag < 0)
        return failed("NETLINK_SOCK_DIAG");
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 body;
    } request = {
        .header = {.nlmsg_len = sizeof request,
                   .nlmsg_type = SOCK_DESTROY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .body = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u},
    };
    request.body.id.idiag_sport = self.sin_port;
    request.body.id.idiag_dport = ((struct sockaddr_in *)&server)->sin_port;
    request.body.id.idiag_src[0] = request.body.id.idiag_dst[0] = htonl(INADDR_LOOPBACK);
    request.body.id.idiag_cookie[0] = request.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[256];
    } answer;
    if (send(diag, &request, sizeof request, 0) < 0 || recv(diag, &answer, sizeof answer, 0) < 0)
        return failed("netlink");
    if (answer.header.nlmsg_type != NLMSG_ERROR || answer.error.error != 0)
        return reason("refused: %s", strerror(-answer.error.error));
    char byte;
    ssize_t count = read(pair[0], &byte, 1);
    int error = errno;
    close(pair[0]), close(pair[1]), close(diag);
    return count < 0 && error == ECONNABORTED ? NULL : reason("read gave %zd, %s", count, strerror(error));
}

const char *check_sockets(void)
{
    static const struct {
        const char *name;
        int family, type, protocol;
    } kinds[] = {{"unix", AF_UNIX, SOCK_SEQPACKET, 0},
                 {"packet", AF_PACKET, SOCK_RAW, 0},
                 {"netlink route", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE},
                 {"udp6", AF_INET6, SOCK_DGRAM, 0},
                 {"vsock", VSOCK_FAMILY, SOCK_STREAM, 0}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        int fd = socket(kinds[i].family, kinds[i].type | SOCK_CLOEXEC, kinds[i].protocol);
        if (fd < 0)
            return failed(kinds[i].name);
        close(fd);
    }
    return NULL;
}

/* ---- control groups, namespaces, seccomp ---- */

const char *check_cgroup_controllers(void)
{
    static const char *const wanted[] = {"cpu", "io", "memory", "pids"};
    const char *why = NULL;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && !why; i++)
        why = file_holds("/cg/cgroup.controllers", wanted[i]);
    if (!why && !spit("/cg/cgroup.subtree_control", "+cpu +io +memory +pids"))
        why = failed("cgroup.subtree_control");
    return why;
}

const char *check_cgroup_limits(void)
{
    mkdir("/cg/limits", 0755);
    static const char *const files[][2] = {{"/cg/limits/cpu.max", "50000 100000"},
                                           {"/cg/limits/cpu.weight", "50"},
                                           {"/cg/limits/pids.max", "10"},
                                           {"/cg/limits/memory.high", "max"}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (!spit(files[i][0], files[i][1]))
            return failed(files[i][0]);
    struct stat status;
    char limit[64];
    if (stat("/dev/vda", &status) == 0) {
        snprintf(limit, sizeof limit, "%u:%u rbps=1048576", major(status.st_rdev), minor(status.st_rdev));
        if (!spit("/cg/limits/io.max", limit))
            return failed("/cg/limits/io.max");
    }
    return rmdir("/cg/limits") < 0 ? failed("rmdir") : NULL;
}

/* Start a child that waits in the cgroup `path`; its pid or -1. */
static pid_t child_in_cgroup(const char *path)
{
    mkdir(path, 0755);
    pid_t child = fork();
    if (child == 0) {
        char procs[128];
        snprintf(procs, sizeof procs, "%s/cgroup.procs", path);
        if (!spit(procs, "0"))
            _exit(2);
        raise(SIGSTOP);
        /* Continued: take memory page by page, more than any limit set here. */
        for (size_t taken = 0; taken < 8 * (size_t)KILL_LIMIT_BYTES; taken += 4096) {
            volatile char *page =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
            if (page == MAP_FAILED)
                _exit(3);
            *page = 1;
        }
        _exit(0);
    }
    int status;
    if (child > 0 && (waitpid(child, &status, WUNTRACED) < 0 || !WIFSTOPPED(status)))
        return -1;
    return child;
}

const char *check_cgroup_freeze(void)
{
    pid_t child = child_in_cgroup("/cg/freeze");
    if (child < 0)
        return failed("a child in a cgroup");
    int fd = open("/cg/freeze/cgroup.events", O_RDONLY | O_CLOEXEC);
    const char *why = NULL;
    char text[128] = "";
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0 || !spit("/cg/freeze/cgroup.freeze", "1"))
        why = failed("cgroup.freeze");
    struct pollfd waiter = {.fd = fd, .events = POLLPRI};
    while (!why && slurp("/cg/freeze/cgroup.events", text, sizeof text) > 0 && !strstr(text, "frozen 1"))
        if (poll(&waiter, 1, WAIT_LIMIT_MS) <= 0)
            why = "cgroup.events does not come to say frozen 1";
    spit("/cg/freeze/cgroup.freeze", "0");
    if (!spit("/cg/freeze/cgroup.kill", "1") && !why)
        why = failed("cgroup.kill");
    waitpid(child, NULL, 0);
    close(fd);
    return why;
}

const char *check_cgroup_oom(void)
{
    pid_t child = child_in_cgroup("/cg/oom");
    int status = 0;
    char limit[32], events[256] = "";
    snprintf(limit, sizeof limit, "%u", KILL_LIMIT_BYTES);
    if (child < 0 || !spit("/cg/oom/memory.max", limit))
        return failed("memory.max");
    kill(child, SIGCONT);
    waitpid(child, &status, 0);
    slurp("/cg/oom/memory.events", events, sizeof events);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        return reason("a child over memory.max ended with status 0x%x", (unsigned)status);
    return strstr(events, "oom_kill 1") ? NULL : reason("memory.events says: %s", events);
}

static const char *body_namespaces(void)
{
    static const struct {
        const char *name;
        int flag;
    } kinds[] = {{"user", CLONE_NEWUSER}, {"mount", CLONE_NEWNS}, {"uts", CLONE_NEWUTS},
                 {"ipc", CLONE_NEWIPC},   {"net", CLONE_NEWNET},  {"pid", CLONE_NEWPID},
                 {"cgroup", 0x02000000},  {"time", 0x00000080}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (unshare(kinds[i].flag) < 0)
            return failed(kinds[i].name);
    return NULL;
}
const char *check_namespaces(void)
{
    return in_child(body_namespaces);
}

static const char *body_seccomp(void)
{
    struct sock_filter_ {
        uint16_t code;
        uint8_t jt, jf;
        uint32_t k;
    } filter[] = {{0x20, 0, 0, 0}, /* load the system call's number */
                  {0x15, 0, 1, SYS_getppid},
                  {0x06, 0, 0, SECCOMP_RET_ERRNO | EXDEV},
                  {0x06, 0, 0, SECCOMP_RET_ALLOW}};
    struct {
        unsigned short count;
        struct sock_filter_ *filter;
    } program = {4, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
        return failed("seccomp");
    errno = 0;
    return syscall(SYS_getppid) == -1 && errno == EXDEV ? NULL : "the filter does not filter";
}
const char *check_seccomp(void)
{
    return in_child(body_seccomp);
}
