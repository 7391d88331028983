/* What the tests of snapshots say and hear as clients. */
#ifndef TESTS_UNIT_AGENT_SNAPSHOT_TALK_H
#define TESTS_UNIT_AGENT_SNAPSHOT_TALK_H

#include "tests/unit/agent/talk.h"

void ask_checkpoint(struct talk *talk, uint32_t timeout_ms);
void ask_resume(struct talk *talk, uint64_t generation, uint32_t timeout_ms);
void give_secret(struct talk *talk, const char *name, const char *body);
/* The next message ends a checkpoint, well (NULL) or with this type and part of its message. */
void expect_quiesced(struct talk *talk, const char *type, const char *part);
/* The next message says that a step is done, or has failed. */
void expect_step(struct talk *talk, const char *name, bool failed);
void expect_resumed(struct talk *talk, const char *type, const char *part);
/* The next message that is not INIT or a log. */
const struct proto_message *next_but_init(struct talk *talk);

#endif
