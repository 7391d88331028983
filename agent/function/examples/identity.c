/*
 * identity: a function with an id of its own, made in init and given in every answer. It shows what a
 * snapshot does to such a thing, and what to do about it.
 *
 * `identity` makes the id anew in after_restore: each clone has its own. `identity-twin` is the same source
 * built with IDENTITY_TWIN, which leaves the hook out, as code does that knows of no snapshots: all its
 * clones answer with one id. `hostvmm audit` has to find it.
 *
 * The answer, one "name value" a line:
 *
 *     id 0f1e...       32 hex digits, of init or of after_restore
 *     generation 7     of the clone, as the page says
 *     restored 7       the generation given to after_restore last; 0: never called
 *     random 3c5a...   64 hex digits, made for this event
 *     served 1         events of this process
 *     event ...        the event, up to 256 bytes of it, as it came
 */
#include <inttypes.h>
#include <stdio.h>

#include "agent/function/function.h"

#define ID_BYTES     16
#define RANDOM_BYTES 32
#define EVENT_BYTES  256

struct identity {
    uint8_t id[ID_BYTES];
    uint64_t restored;
    unsigned served;
};

static void print_hex(struct function_reply *reply, const char *name, const uint8_t *bytes, size_t size)
{
    function_reply_printf(reply, "%s ", name);
    for (size_t i = 0; i < size; i++)
        function_reply_printf(reply, "%02x", bytes[i]);
    function_reply_write(reply, "\n", 1);
}

static int make_id(void *context)
{
    struct identity *self = context;
    return function_random(self->id, sizeof self->id);
}

#ifndef IDENTITY_TWIN
static int make_id_again(void *context, uint64_t generation)
{
    struct identity *self = context;
    self->restored = generation;
    return make_id(self);
}
#endif

static int answer(void *context, const struct function_event *event, struct function_reply *reply)
{
    struct identity *self = context;
    uint8_t random[RANDOM_BYTES];
    const int error = function_random(random, sizeof random);
    if (error)
        return error;
    self->served++;
    print_hex(reply, "id", self->id, sizeof self->id);
    function_reply_printf(reply, "generation %" PRIu64 "\nrestored %" PRIu64 "\n", function_generation(),
                          self->restored);
    print_hex(reply, "random", random, sizeof random);
    function_reply_printf(reply, "served %u\nevent ", self->served);
    function_reply_write(reply, event->data, event->size < EVENT_BYTES ? event->size : EVENT_BYTES);
    return function_reply_write(reply, "\n", 1); /* a failed write sticks: this one tells */
}

int main(void)
{
    static struct identity self;
    static const struct function function = {
        .init = make_id,
        .handle = answer,
#ifndef IDENTITY_TWIN
        .after_restore = make_id_again,
#endif
        .context = &self,
    };
    return function_run(&function);
}
