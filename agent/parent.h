/*
 * init, as the agent sees it: the other side of handoff.h.
 */
#ifndef AGENT_PARENT_H
#define AGENT_PARENT_H

#include <stdbool.h>

#include "agent/handoff.h"

struct parent {
    int fd;                 /* -1: started by hand, there is no init to tell */
    unsigned attempt;       /* of init to start us */
    enum handoff_word said; /* last; 0: nothing yet */
};

/* Nobody: words go nowhere. */
void parent_none(struct parent *parent);

/* Take what init handed over. 0; -EPROTO when it speaks another version or this is not its child, logged. */
int parent_take(struct parent *parent);
void parent_fini(struct parent *parent);

/* Say a word, unless it was the last one said. */
void parent_say(struct parent *parent, enum handoff_word word);

#endif
