/*
 * See filter.h. The program is a list of the calls' rows, one comparison a call that is not asked for; what no
 * row lets through kills the process, as does a call by another ABI's numbers (x32 has a bit of its own, i386
 * another architecture). Calls without a condition cost nothing more after the first: seccomp keeps a bitmap
 * of them.
 */
#include "hostvmm/jail/filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>

/* The low half of an argument: what is looked at are ints. Little-endian, as every architecture here is. */
#define ARGUMENT(index) ((uint32_t)(offsetof(struct seccomp_data, args) + (index) * sizeof(uint64_t)))
#define LOAD(offset)    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define GIVE(action)    BPF_STMT(BPF_RET | BPF_K, (action))
#define JUMP(test, value, then_skip, else_skip)                                                              \
    BPF_JUMP(BPF_JMP | (test) | BPF_K, (uint32_t)(value), (then_skip), (else_skip))

struct program {
    struct sock_filter *code;
    size_t size;
};

static void put(struct program *program, const struct sock_filter *code, size_t count)
{
    for (size_t i = 0; i < count; i++, program->size++)
        if (program->size < JAIL_PROGRAM_MAX)
            program->code[program->size] = code[i];
}

/* Ends with the call's number loaded. */
static void put_head(struct program *program)
{
    const struct sock_filter head[] = {
        LOAD(offsetof(struct seccomp_data, arch)),
        JUMP(BPF_JEQ, jail_arch_audit, 1, 0),
        GIVE(SECCOMP_RET_KILL_PROCESS),
        LOAD(offsetof(struct seccomp_data, nr)),
        JUMP(BPF_JGE, jail_arch_calls_end, 0, 1),
        GIVE(SECCOMP_RET_KILL_PROCESS),
    };
    put(program, head, sizeof head / sizeof *head);
}

bool jail_rule_holds(const struct jail_rule *rule, enum jail_role role)
{
    const unsigned roles = role == JAIL_SPAWN ? SPAWN | BLK | NET : ROLE(role);
    return rule->roles & roles;
}

static const struct jail_rule *rule_at(size_t index)
{
    size_t common, own;
    const struct jail_rule *rules = jail_rules(&common);
    const struct jail_rule *arch_rules = jail_arch_rules(&own);
    if (index < common)
        return &rules[index];
    return index - common < own ? &arch_rules[index - common] : NULL;
}

static bool judged_before(size_t index, enum jail_role role)
{
    for (size_t i = 0; i < index; i++)
        if (rule_at(i)->call == rule_at(index)->call && jail_rule_holds(rule_at(i), role))
            return true;
    return false;
}

/* All rows of the call of row `index`, in turn; the last word is death. */
static void put_call(struct program *program, size_t index, enum jail_role role)
{
    struct sock_filter body[160];
    const unsigned call = rule_at(index)->call;
    size_t size = 0;
    const struct jail_rule *row;
    for (; (row = rule_at(index)) && size + 4 < sizeof body / sizeof *body; index++) {
        if (row->call != call || !jail_rule_holds(row, role))
            continue;
        if (row->check == JAIL_REFUSED) {
            body[size++] = (struct sock_filter)GIVE(SECCOMP_RET_ERRNO | row->value);
            continue;
        }
        if (row->check != JAIL_ANY) {
            const bool none = row->check == JAIL_NONE_OF;
            body[size++] = (struct sock_filter)LOAD(ARGUMENT(row->argument));
            body[size++] = (struct sock_filter)JUMP(none ? BPF_JSET : BPF_JEQ, row->value, none, !none);
        }
        body[size++] = (struct sock_filter)GIVE(SECCOMP_RET_ALLOW);
    }
    body[size++] = (struct sock_filter)GIVE(SECCOMP_RET_KILL_PROCESS);
    const struct sock_filter head[] = {JUMP(BPF_JEQ, call, 0, (uint8_t)size)};
    put(program, head, 1);
    put(program, body, size);
}

unsigned short jail_filter_make(enum jail_role role, struct sock_filter code[JAIL_PROGRAM_MAX])
{
    static const struct sock_filter last = GIVE(SECCOMP_RET_KILL_PROCESS);
    struct program program = {.code = code};
    put_head(&program);
    for (size_t i = 0; rule_at(i); i++)
        if (jail_rule_holds(rule_at(i), role) && !judged_before(i, role))
            put_call(&program, i, role);
    put(&program, &last, 1);
    return program.size <= JAIL_PROGRAM_MAX ? (unsigned short)program.size : 0;
}

int jail_filter_install(enum jail_role role)
{
    struct sock_filter code[JAIL_PROGRAM_MAX];
    const struct sock_fprog program = {.len = jail_filter_make(role, code), .filter = code};
    if (program.len == 0)
        return -E2BIG;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}
