/* The tests of snapshots with a played function (stage.h). */
#ifndef TESTS_UNIT_AGENT_SNAPSHOT_STAGE_H
#define TESTS_UNIT_AGENT_SNAPSHOT_STAGE_H

#include "tests/unit/agent/snapshot_talk.h"
#include "tests/unit/agent/stage.h"

/* The agent's own steps, all well. */
void expect_steps(struct talk *talk);

/* As the function. */
void function_expect(enum proto_type type);
void function_quiesced(void);
void function_resumed(void);

/* A function that is frozen for a snapshot, by a client that is returned. */
struct talk *start_frozen(void);
/* The same, resumed as far as its hook after the restore. */
struct talk *start_hooks(uint32_t timeout_ms);

/* The hook after the restore goes well: from thawed to ready. */
void hooks_go_well(struct talk *host);
void next_works(struct talk *talk);
/* This clone answers nothing (`part` is in the reason), is not resumed, and can be shut down. */
void is_given_up(struct talk *host, const char *part);

#endif
