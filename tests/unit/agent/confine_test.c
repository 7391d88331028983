/* What the filter refuses and what it lets pass, asked of the kernel by a child that is under it. */
#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/arch.h"
#include "agent/confine.h"

/* Run in a child under the filter; what it returns is its exit code. */
static int confined(int (*act)(void))
{
    const pid_t child = fork();
    if (child == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || confine_self() < 0)
            _exit(99);
        _exit(act());
    }
    int status = 0;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int count_wrong(const struct confine_refusal *rows, size_t count)
{
    int wrong = 0;
    for (size_t i = 0; i < count; i++) {
        errno = 0;
        /* Arguments that no such call takes: were it let through, it would do nothing but fail otherwise. */
        if (syscall(rows[i].call, -1L, -1L, -1L, -1L, -1L, -1L) != -1 || errno != rows[i].error) {
            (void)fprintf(stderr, "call %d: %s\n", rows[i].call, strerror(errno));
            wrong++;
        }
    }
    return wrong;
}

static int try_refusals(void)
{
    size_t count;
    const struct confine_refusal *rows = confine_refusals(&count);
    const int wrong = count_wrong(rows, count);
    rows = arch_refusals(&count);
    return wrong + count_wrong(rows, count);
}

static void each_refused_call_fails_as_the_table_says(void **state)
{
    (void)state;
    size_t count;
    (void)confine_refusals(&count);
    assert_true(count > 40);
    assert_int_equal(confined(try_refusals), 0);
}

static int socket_error(int family, int type, int protocol)
{
    errno = 0;
    const int fd = socket(family, type, protocol);
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? 0 : errno;
}

static int try_sockets(void)
{
    if (socket_error(AF_VSOCK, SOCK_STREAM, 0) != EAFNOSUPPORT)
        return 1;
    if (socket_error(AF_PACKET, SOCK_RAW, 0) != EAFNOSUPPORT || socket_error(AF_ALG, SOCK_SEQPACKET, 0) == 0)
        return 2;
    if (socket_error(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG) != EPROTONOSUPPORT)
        return 3;
    if (socket_error(AF_UNIX, SOCK_STREAM, 0) || socket_error(AF_INET, SOCK_STREAM, 0) ||
        socket_error(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE))
        return 4;
    /* IPv6 may be missing on the machine of the test; the filter must not be what refuses it. */
    return socket_error(AF_INET6, SOCK_STREAM, 0) == EPERM ? 5 : 0;
}

static void vsock_and_raw_sockets_are_refused_and_common_ones_pass(void **state)
{
    (void)state;
    assert_int_equal(confined(try_sockets), 0);
}

static int try_clone(void)
{
    errno = 0;
    if (syscall(SYS_clone, (long)(CLONE_NEWUSER | SIGCHLD), 0L, 0L, 0L, 0L) != -1 || errno != EPERM)
        return 1;
    const pid_t child = fork();
    if (child == 0)
        _exit(0);
    int status = 0;
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 ? 0 : 2;
}

static void a_process_can_be_made_and_no_namespace(void **state)
{
    (void)state;
    assert_int_equal(confined(try_clone), 0);
}

static int try_other_numbers(void)
{
    (void)syscall((long)ARCH_CALLS_END + SYS_getpid);
    return 0;
}

static void numbers_of_another_abi_end_the_process(void **state)
{
    (void)state;
    assert_int_equal(confined(try_other_numbers), 128 + SIGSYS);
}

static int try_executed(void)
{
    execl("/bin/sh", "sh", "-c", "unshare -U true 2>/dev/null && exit 1; exit 0", (char *)NULL);
    return 3;
}

static void the_filter_outlives_exec(void **state)
{
    (void)state;
    assert_int_equal(confined(try_executed), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_refused_call_fails_as_the_table_says),
        cmocka_unit_test(vsock_and_raw_sockets_are_refused_and_common_ones_pass),
        cmocka_unit_test(a_process_can_be_made_and_no_namespace),
        cmocka_unit_test(numbers_of_another_abi_end_the_process),
        cmocka_unit_test(the_filter_outlives_exec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
