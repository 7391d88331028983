/* See fake_resume.h. */
#include "tests/unit/agent/fake_resume.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/facts.h"
#include "tests/unit/agent/stage.h"

struct fake_resume fake_resume;

struct resume *resume_get(void)
{
    return NULL;
}

uint64_t resume_generation(const struct resume *resume)
{
    (void)resume;
    return fake_resume.order.generation;
}

int resume_forget(struct resume *resume, char *why)
{
    (void)resume;
    fake_resume.forgets++;
    if (!fake_resume.forget_fails)
        return 0;
    (void)snprintf(why, RESUME_WHY_BYTES, "cannot drop the page cache");
    return -EIO;
}

static int take(const char *name, const struct resume_order *order, char *why)
{
    const size_t size = strlen(fake_resume.taken);
    if (size + 1 < sizeof fake_resume.taken)
        fake_resume.taken[size] = name[0];
    fake_resume.order = *order;
    if (order->secret_count > 0)
        memcpy(fake_resume.secrets, order->secrets, order->secret_count * sizeof *order->secrets);
    if (!process_is_gone(&process) && !process_is_frozen(&process))
        fake_resume.always_frozen = false;
    if (!fake_resume.failing || strcmp(fake_resume.failing, name) != 0)
        return 0;
    if (!fake_resume.fails_without_why)
        (void)snprintf(why, RESUME_WHY_BYTES, "%s cannot be done", name);
    return -EPERM;
}

#define STEP(name)                                                                                           \
    static int take_##name(struct resume *resume, const struct resume_order *order, char *why)               \
    {                                                                                                        \
        (void)resume;                                                                                        \
        return take(#name, order, why);                                                                      \
    }
STEP(entropy)
STEP(clock)
STEP(sockets)
STEP(identity)
STEP(generation)

const struct resume_step resume_steps[] = {
    {"entropy", take_entropy},   {"clock", take_clock},           {"sockets", take_sockets},
    {"identity", take_identity}, {"generation", take_generation}, {NULL, NULL},
};

int facts_collect(void (*tell)(void *context, struct proto_slice name, struct proto_slice body),
                  void *context, char *why)
{
    tell(context, proto_text("boot_id"), proto_text("1234"));
    tell(context, proto_text("empty"), proto_text(""));
    if (!fake_resume.facts_fail)
        return 0;
    (void)snprintf(why, RESUME_WHY_BYTES, "cannot read it");
    return -EIO;
}
