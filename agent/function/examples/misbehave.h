/* What the two files of misbehave share: a deed gets the call, and answers it or fails. */
#ifndef AGENT_FUNCTION_EXAMPLES_MISBEHAVE_H
#define AGENT_FUNCTION_EXAMPLES_MISBEHAVE_H

#include "agent/function/function.h"

struct call {
    const struct function_event *event;
    struct function_reply *reply;
    unsigned long number; /* 0: none was given */
    const char *path;     /* the same word, as text */
};

int do_leak(struct call *call);
int do_spin(struct call *call);
int do_fill(struct call *call);
int do_files(struct call *call);
int do_descriptors(struct call *call);
int do_buffers(struct call *call);
int do_noise(struct call *call);
int do_killall(struct call *call);
int do_read(struct call *call);
int do_write(struct call *call);
int do_list(struct call *call);
int do_escape(struct call *call);

#endif
