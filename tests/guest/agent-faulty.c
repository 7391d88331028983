/*
 * The agent as it ships, but for one thing: the step of a resume that the file FAULT names fails. Linked with
 * the agent's own objects, whose table of steps is called real_resume_steps here (Makefile); an image for
 * tests takes this program in the agent's place. Without the file every step is the real one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/fd.h"
#include "agent/resume.h"

#define FAULT "/function/fault"

extern const struct resume_step real_resume_steps[];

static int is_told_to_fail(const char *name)
{
    char fault[64];
    const int64_t size = fd_read_file(FAULT, fault, sizeof fault - 1);
    if (size < 0)
        return 0;
    fault[size] = '\0';
    fault[strcspn(fault, "\n")] = '\0';
    return strcmp(fault, name) == 0;
}

static int run(const char *name, struct resume *resume, const struct resume_order *order, char *why)
{
    if (is_told_to_fail(name)) {
        (void)snprintf(why, RESUME_WHY_BYTES, "told to fail by " FAULT);
        return -EIO;
    }
    for (const struct resume_step *step = real_resume_steps; step->name; step++)
        if (strcmp(step->name, name) == 0)
            return step->run(resume, order, why);
    (void)snprintf(why, RESUME_WHY_BYTES, "the agent has no step %s: agent-faulty.c is behind", name);
    return -ENOSYS;
}

#define STEP(name)                                                                                           \
    static int run_##name(struct resume *resume, const struct resume_order *order, char *why)                \
    {                                                                                                        \
        return run(#name, resume, order, why);                                                               \
    }
STEP(entropy)
STEP(clock)
STEP(sockets)
STEP(identity)
STEP(network)
STEP(secrets)
STEP(connections)
STEP(generation)

const struct resume_step resume_steps[] = {
    {"entropy", run_entropy},         {"clock", run_clock},           {"sockets", run_sockets},
    {"identity", run_identity},       {"network", run_network},       {"secrets", run_secrets},
    {"connections", run_connections}, {"generation", run_generation}, {NULL, NULL},
};
