/* See hooks.h. */
#include "agent/function/hooks.h"

#include <errno.h>
#include <stdio.h>

#include "agent/base/log.h"

struct checkpoint_hook {
    int (*run)(void *context);
    void *context;
};

struct restore_hook {
    int (*run)(void *context, uint64_t generation);
    void *context;
};

static struct checkpoint_hook checkpoint_hooks[FUNCTION_HOOKS_MAX];
static struct restore_hook restore_hooks[FUNCTION_HOOKS_MAX];
static unsigned checkpoint_count, restore_count;

int function_on_checkpoint(int (*hook)(void *context), void *context)
{
    if (!hook)
        return -EINVAL;
    if (checkpoint_count == FUNCTION_HOOKS_MAX)
        return -ENOSPC;
    checkpoint_hooks[checkpoint_count++] = (struct checkpoint_hook){hook, context};
    return 0;
}

int function_on_restore(int (*hook)(void *context, uint64_t generation), void *context)
{
    if (!hook)
        return -EINVAL;
    if (restore_count == FUNCTION_HOOKS_MAX)
        return -ENOSPC;
    restore_hooks[restore_count++] = (struct restore_hook){hook, context};
    return 0;
}

void hooks_reset(void)
{
    checkpoint_count = restore_count = 0;
}

static int checkpoint_row(const struct function *function, char *why)
{
    int result = function->before_checkpoint ? function->before_checkpoint(function->context) : 0;
    if (result != 0)
        (void)snprintf(why, HOOKS_WHY_BYTES, "before_checkpoint returned %d", result);
    for (unsigned i = checkpoint_count; result == 0 && i-- > 0;) {
        result = checkpoint_hooks[i].run(checkpoint_hooks[i].context);
        if (result != 0)
            (void)snprintf(why, HOOKS_WHY_BYTES, "hook %u of function_on_checkpoint returned %d", i + 1,
                           result);
    }
    return result;
}

int hooks_before_checkpoint(const struct function *function, char *why)
{
    const int result = checkpoint_row(function, why);
    char ignored[HOOKS_WHY_BYTES];
    /* No snapshot comes of it: what was let go of is wanted again. */
    if (result != 0 && hooks_after_restore(function, function_generation(), ignored) != 0)
        log_warn("after a checkpoint that was given up: %s", ignored);
    return result;
}

int hooks_after_restore(const struct function *function, uint64_t generation, char *why)
{
    for (unsigned i = 0; i < restore_count; i++) {
        const int result = restore_hooks[i].run(restore_hooks[i].context, generation);
        if (result == 0)
            continue;
        (void)snprintf(why, HOOKS_WHY_BYTES, "hook %u of function_on_restore returned %d", i + 1, result);
        return result;
    }
    const int result = function->after_restore ? function->after_restore(function->context, generation) : 0;
    if (result != 0)
        (void)snprintf(why, HOOKS_WHY_BYTES, "after_restore returned %d", result);
    return result;
}
