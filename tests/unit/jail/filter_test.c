/* The filters, run by an interpreter of the few instructions that they are made of. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "hostvmm/jail/filter.h"

#define CALLS_LAST 600

static struct sock_filter code[JAIL_PROGRAM_MAX];

/* What the kernel would do with the call. */
static uint32_t judge(enum jail_role role, const struct seccomp_data *data)
{
    const unsigned size = jail_filter_make(role, code);
    uint32_t value = 0;
    assert_true(size > 0);
    for (unsigned at = 0; at < size; at++) {
        const struct sock_filter *step = &code[at];
        bool holds;
        switch (step->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(step->k + sizeof value <= sizeof *data);
            memcpy(&value, (const uint8_t *)data + step->k, sizeof value);
            continue;
        case BPF_RET | BPF_K:
            return step->k;
        case BPF_JMP | BPF_JEQ | BPF_K:
            holds = value == step->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            holds = value >= step->k;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            holds = value & step->k;
            break;
        default:
            fail_msg("instruction 0x%x", step->code);
            return 0;
        }
        at += holds ? step->jt : step->jf;
    }
    fail_msg("the program of role %d has no end", (int)role);
    return 0;
}

static uint32_t call(enum jail_role role, long number, uint64_t first, uint64_t second, uint64_t third)
{
    const struct seccomp_data data = {
        .nr = (int)number, .arch = jail_arch_audit, .args = {first, second, third}};
    return judge(role, &data);
}

/* Whether a row of either table names it. */
static bool listed(enum jail_role role, unsigned number)
{
    size_t count;
    const struct jail_rule *rules = jail_rules(&count);
    for (int table = 0; table < 2; table++, rules = jail_arch_rules(&count))
        for (size_t i = 0; i < count; i++)
            if (rules[i].call == number && jail_rule_holds(&rules[i], role))
                return true;
    return false;
}

static void what_is_not_listed_kills(void **state)
{
    (void)state;
    for (unsigned role = 0; role < JAIL_ROLES; role++)
        for (unsigned number = 0; number < CALLS_LAST; number++)
            if (!listed(role, number))
                assert_int_equal(call(role, number, 0, 0, 0), SECCOMP_RET_KILL_PROCESS);
}

static void other_abis_kill(void **state)
{
    (void)state;
    for (unsigned role = 0; role < JAIL_ROLES; role++) {
        struct seccomp_data data = {.nr = SYS_futex, .arch = jail_arch_audit};
        assert_int_equal(judge(role, &data), SECCOMP_RET_ALLOW);
        data.arch = AUDIT_ARCH_I386;
        assert_int_equal(judge(role, &data), SECCOMP_RET_KILL_PROCESS);
        data.arch = jail_arch_audit;
        data.nr = (int)(jail_arch_calls_end | (unsigned)SYS_futex);
        assert_int_equal(judge(role, &data), SECCOMP_RET_KILL_PROCESS);
        data.nr = -1;
        assert_int_equal(judge(role, &data), SECCOMP_RET_KILL_PROCESS);
    }
}

static void memory_never_becomes_code(void **state)
{
    (void)state;
    const long calls[] = {SYS_mmap, SYS_mprotect};
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(call(JAIL_MAIN, calls[i], 0, 0, PROT_READ | PROT_WRITE), SECCOMP_RET_ALLOW);
        assert_int_equal(call(JAIL_MAIN, calls[i], 0, 0, PROT_READ | PROT_EXEC), SECCOMP_RET_KILL_PROCESS);
        assert_int_equal(call(JAIL_SPAWN, calls[i], 0, 0, PROT_EXEC), SECCOMP_RET_KILL_PROCESS);
    }
}

static void ioctls_are_those_of_the_role(void **state)
{
    (void)state;
    assert_int_equal(call(JAIL_VCPU, SYS_ioctl, 5, KVM_RUN, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(call(JAIL_MAIN, SYS_ioctl, 5, KVM_RUN, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_MAIN, SYS_ioctl, 5, KVM_GET_SREGS, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(call(JAIL_VCPU, SYS_ioctl, 5, KVM_GET_SREGS, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_MAIN, SYS_ioctl, 5, KVM_CREATE_VM, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_MAIN, SYS_ioctl, 5, TUNSETIFF, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_NET, SYS_ioctl, 5, TUNSETOFFLOAD, 0), SECCOMP_RET_KILL_PROCESS);
    /* a request is an int: what a libc makes of its sign is no other request */
    assert_int_equal(call(JAIL_MAIN, SYS_ioctl, 5, (uint64_t)(int64_t)(int32_t)KVM_GET_SREGS, 0),
                     SECCOMP_RET_ALLOW);
}

static void only_unix_sockets_and_threads(void **state)
{
    (void)state;
    assert_int_equal(call(JAIL_MAIN, SYS_socket, AF_UNIX, SOCK_STREAM, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(call(JAIL_MAIN, SYS_socket, AF_INET, SOCK_STREAM, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_MAIN, SYS_socket, AF_VSOCK, SOCK_STREAM, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_SPAWN, SYS_clone, SIGCHLD, 0, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_SPAWN, SYS_clone, 0x7d0f00, 0, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(call(JAIL_MAIN, SYS_clone, 0x7d0f00, 0, 0), SECCOMP_RET_KILL_PROCESS);
    assert_int_equal(call(JAIL_MAIN, SYS_tkill, 1, SIGUSR1, 0), SECCOMP_RET_ALLOW);
    assert_int_equal(call(JAIL_MAIN, SYS_tkill, 1, SIGKILL, 0), SECCOMP_RET_KILL_PROCESS);
}

static void malloc_is_refused_its_old_ways(void **state)
{
    (void)state;
    for (unsigned role = 0; role < JAIL_ROLES; role++) {
        assert_int_equal(call(role, SYS_brk, 0, 0, 0), SECCOMP_RET_ERRNO | ENOMEM);
        assert_int_equal(call(role, SYS_mremap, 0, 0, 0), SECCOMP_RET_ERRNO | ENOMEM);
    }
}

/* A thread has its maker's filter besides its own. */
static void the_maker_of_threads_has_theirs(void **state)
{
    (void)state;
    for (unsigned number = 0; number < CALLS_LAST; number++)
        if (listed(JAIL_BLK, number) || listed(JAIL_NET, number))
            assert_true(listed(JAIL_SPAWN, number));
    assert_false(jail_is_on());
    jail_thread(JAIL_VCPU); /* outside of a jail nothing happens: the asserts below still print */
    assert_int_not_equal(call(JAIL_VCPU, SYS_openat, 0, 0, 0), SECCOMP_RET_ALLOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_listed_kills),        cmocka_unit_test(other_abis_kill),
        cmocka_unit_test(memory_never_becomes_code),       cmocka_unit_test(ioctls_are_those_of_the_role),
        cmocka_unit_test(only_unix_sockets_and_threads),   cmocka_unit_test(malloc_is_refused_its_old_ways),
        cmocka_unit_test(the_maker_of_threads_has_theirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
