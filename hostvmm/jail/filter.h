/* What each role may ask of the kernel: tables (rules.c, rules_<arch>.c), and the program made of them. */
#ifndef HOSTVMM_JAIL_FILTER_H
#define HOSTVMM_JAIL_FILTER_H

#include <linux/filter.h>
#include <stddef.h>

#include "hostvmm/jail/jail.h"

#define ROLE(role) (1u << (role))
#define MAIN       ROLE(JAIL_MAIN)
#define VCPU       ROLE(JAIL_VCPU)
#define BLK        ROLE(JAIL_BLK)
#define NET        ROLE(JAIL_NET)
#define SPAWN      ROLE(JAIL_SPAWN)

/* Which arguments an allowed call may have. */
enum jail_check {
    JAIL_ANY,
    JAIL_EQUAL,   /* the low half of argument `argument` is `value` */
    JAIL_NONE_OF, /* it has none of the bits of `value` */
    JAIL_REFUSED, /* the call fails with errno `value`, which its libc copes with; never allowed */
};

struct jail_rule {
    unsigned call;
    unsigned roles;
    enum jail_check check;
    unsigned argument;
    uint32_t value;
};

/* Rows of one call: either lets it through. */
const struct jail_rule *jail_rules(size_t *count);
const struct jail_rule *jail_arch_rules(size_t *count);

/* The architecture as seccomp names it, and a number above all of its calls (that are no other ABI's). */
extern const uint32_t jail_arch_audit;
extern const uint32_t jail_arch_calls_end;

/* What `role` may do: a row's own roles, and for the maker of threads those of the threads. */
bool jail_rule_holds(const struct jail_rule *rule, enum jail_role role);

#define JAIL_PROGRAM_MAX 512

/* The program of a role. Its size, 0 when it has no room. Pure. */
unsigned short jail_filter_make(enum jail_role role, struct sock_filter program[JAIL_PROGRAM_MAX]);

/* For the calling thread, now. 0 or -errno. */
int jail_filter_install(enum jail_role role);

#endif
