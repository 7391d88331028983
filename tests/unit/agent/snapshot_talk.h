/* What the tests of snapshots say and hear, as clients and as the function (stage.h). */
#ifndef TESTS_UNIT_AGENT_SNAPSHOT_TALK_H
#define TESTS_UNIT_AGENT_SNAPSHOT_TALK_H

#include "tests/unit/agent/stage.h"

/* ---- as a client ---- */
void ask_checkpoint(struct talk *talk, uint32_t timeout_ms);
void ask_resume(struct talk *talk, uint64_t generation, uint32_t timeout_ms);
void give_secret(struct talk *talk, const char *name, const char *body);
/* The next message ends a checkpoint, well (NULL) or with this type and part of its message. */
void expect_quiesced(struct talk *talk, const char *type, const char *part);
/* The next message says that a step is done, or has failed. */
void expect_step(struct talk *talk, const char *name, bool failed);
/* The agent's own steps, all well. */
void expect_steps(struct talk *talk);
void expect_resumed(struct talk *talk, const char *type, const char *part);
/* The next message that is not INIT or a log. */
const struct proto_message *next_but_init(struct talk *talk);

/* ---- as the function ---- */
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
