/*
 * In place of agent/process.c: a "process" whose other ends the test holds, and whose death the test decides.
 */
#ifndef TESTS_UNIT_AGENT_FAKE_PROCESS_H
#define TESTS_UNIT_AGENT_FAKE_PROCESS_H

#include "agent/process.h"

struct fake_process {
    int starts, kills, stops; /* how often asked for */
    int start_error;          /* what process_start gives: 0 or -errno */
    bool survives_kill;       /* a kill alone does not end it */
    bool lingers;             /* something is left in its cgroup after it was reaped */
    int freeze_error;         /* what process_freeze gives */
    bool freezes_late;        /* asked for, not yet done: fake_freeze_is_done() */
    bool frozen;
    int channel_fd, stdout_fd, stderr_fd;
};

extern struct fake_process fake;

void fake_reset(void);
/* A freeze that was late is done now. */
void fake_freeze_is_done(void);
/* It ends by itself: its descriptors close, and the agent has reaped it. */
void fake_exit(struct process *process, int status);

#endif
