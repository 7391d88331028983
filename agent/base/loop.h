/*
 * The event loop: one epoll instance per process, driven by one thread (STYLE: handlers never block).
 *
 * The caller owns each `struct loop_source` and keeps it at a fixed address while it is added. A handler may
 * remove any source, its own included, and may add others; an event already fetched for a removed source is
 * not delivered. Only loop_stop() may be called from another thread or a signal handler.
 */
#ifndef AGENT_BASE_LOOP_H
#define AGENT_BASE_LOOP_H

#include <stdint.h>
#include <signal.h>

struct loop;

/* `events` holds EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLRDHUP bits. */
typedef void loop_handler(void *context, uint32_t events);

struct loop_source {
    int fd; /* -1 while not added */
    loop_handler *handler;
    void *context;
};

#define LOOP_BATCH 16

struct loop {
    int epoll_fd;
    int stop_fd;
    struct loop_source stop_source;
    int stopped;
    struct loop_source *batch[LOOP_BATCH]; /* events fetched and not yet delivered; cleared by loop_remove */
    int batch_count;
};

int loop_init(struct loop *loop);
void loop_fini(struct loop *loop);

/* Add `fd` (not owned: closing it is the caller's work, after loop_remove). 0 or -errno. */
int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events, loop_handler *handler,
             void *context);
int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events);
/* Safe on a source that was never added but initialised with fd = -1. */
void loop_remove(struct loop *loop, struct loop_source *source);

/* Deliver events until loop_stop. 0 or -errno. */
int loop_run(struct loop *loop);
/* Wait for and deliver one batch; timeout_ms -1 waits without limit. Number delivered, or -errno. */
int loop_run_once(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);

/* A CLOCK_MONOTONIC timer descriptor, disarmed. The descriptor or -errno. */
int loop_timer_open(void);
/* Fire once, `delay_ns` from now (0 fires at once); -1 as UINT64_MAX disarms. The handler must
 * loop_timer_clear. */
int loop_timer_arm(int timer_fd, uint64_t delay_ns);
void loop_timer_clear(int timer_fd);
#define LOOP_TIMER_NEVER UINT64_MAX

/* Block `signals` in this thread and open a descriptor that delivers them. The descriptor or -errno. */
int loop_signal_open(const sigset_t *signals);
/* Next pending signal number, 0 when none. */
int loop_signal_next(int signal_fd);

#endif
