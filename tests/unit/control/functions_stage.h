/*
 * The stage of the handlers of our own resources: each is called as the router calls it, with the lock held.
 * Beside them is a server that is the test (its lock, its headers, its guest), guests that are scripts (fake.h),
 * and processes that wait for a signal, or print something and end.
 */
#ifndef TESTS_UNIT_CONTROL_FUNCTIONS_STAGE_H
#define TESTS_UNIT_CONTROL_FUNCTIONS_STAGE_H

#include <pthread.h>

#include "hostvmm/control/api/functions_clones.h"
#include "tests/unit/control/fake.h"

#define WORDS_MAX 64

struct api {
    pthread_mutex_t lock;
    const char *vsock_path;
    const char *told; /* what the guest answers when it is operated; NULL: there is none */
    char asked[64];
    char words[WORDS_MAX][1200]; /* of the last process started */
    unsigned word_count;
    unsigned spawned;
    const char
        *output; /* what a process writes, before it ends with `exit_code`; NULL: it waits for a signal */
    int exit_code;
    bool refuses;
};

extern struct api stage_api;
extern struct api_response stage_response; /* of the last call */
extern struct fake stage_vm;
extern char stage_directory[];
extern char stage_vsock[64]; /* where stage_vm listens */

/* A request with these headers: names and values in turn, ended by NULL. */
void stage_call_raw(api_handler *handler, const char *name, const char *json, const void *body, size_t bytes,
                    const char *const *headers);
void stage_call(api_handler *handler, const char *name, const char *json);

/* Of the answer. */
const char *stage_fault(void);
void stage_expect_fault(int status, const char *text);
const char *stage_header(const char *name);
const char *stage_member(const json_t *object, const char *name);
void stage_clear(void);

/* Of the last process that was started. */
const char *stage_word_after(const char *word);
bool stage_has_word(const char *word);

/* A guest that answers with its event, and prints a line. */
void stage_echo(struct fake *agent);

int stage_set_up(void **state);
int stage_tear_down(void **state);

#endif
