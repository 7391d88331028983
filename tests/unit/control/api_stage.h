/*
 * A server for the tests of the control API, without HTTP: requests go in as method, path and text. Its program is
 * the test itself: started with `run` or `restore` it is a guest's process that speaks OPERATOR.md (api_stage_main).
 */
#ifndef TESTS_UNIT_CONTROL_API_STAGE_H
#define TESTS_UNIT_CONTROL_API_STAGE_H

#include <pthread.h>

#include "hostvmm/control/api/model.h"

struct stage {
    struct api api;
    pthread_t main; /* the server's main thread */
    bool joined;
    int signal_fd;
    int code;   /* of child_run */
    int status; /* of the last answer */
    json_t *answer;
    char directory[64];
};

/* At the start of main(): the guest's process, when it is that; never returns then. */
void api_stage_main(int argc, char **argv);

/* A server with its main thread, in a new working directory. */
void api_stage_begin(struct stage *stage);
/* Its main thread has come to its end. */
void api_stage_join(struct stage *stage);
/* Its guest is stopped, the directory removed. */
void api_stage_end(struct stage *stage);

/* A request; `text` NULL: without a body. The status. */
int api_stage_ask(struct stage *stage, const char *method, const char *path, const char *text);
/* It is answered so, and when it is refused, with this in its text (may be NULL). */
void api_stage_expect(struct stage *stage, const char *method, const char *path, const char *text, int status,
                      const char *fault);
const char *api_stage_fault(const struct stage *stage);

/* A model that can start: a kernel and a root drive, with an image of ours in it or not. */
void api_stage_configure(struct stage *stage, bool image);

/* What the guest's process was started with, and was asked, a line each: for the caller to free. */
char *api_stage_words(void);
char *api_stage_lines(void);
/* A file with this text in the working directory. */
void api_stage_write(const char *name, const char *text);

#endif
