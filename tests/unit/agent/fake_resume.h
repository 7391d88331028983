/*
 * In place of the agent's steps around a snapshot (resume.h) and of its facts (facts.h): each writes down
 * that it was taken, and fails when the test says so.
 */
#ifndef TESTS_UNIT_AGENT_FAKE_RESUME_H
#define TESTS_UNIT_AGENT_FAKE_RESUME_H

#include <stdbool.h>

#include "agent/resume.h"

struct fake_resume {
    char taken[64];            /* the first letters of the steps, in order */
    const char *failing;       /* the step that fails */
    bool fails_without_why;    /* it says no more than its errno */
    bool forget_fails;         /* so does resume_forget */
    bool facts_fail;           /* and facts_collect */
    int forgets;               /* times asked to */
    bool always_frozen;        /* the function was frozen, or gone, in every step */
    struct resume_order order; /* as the last step saw it */
    struct resume_secret secrets[RESUME_SECRETS_MAX];
};

extern struct fake_resume fake_resume;

#endif
