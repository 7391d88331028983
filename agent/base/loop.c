/* See loop.h. */
#include "agent/base/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "agent/base/fd.h"

static void on_stop(void *context, uint32_t events)
{
    struct loop *loop = context;
    (void)events;
    loop->stopped = 1; /* the eventfd stays readable: a stop is final */
}

int loop_init(struct loop *loop)
{
    *loop = (struct loop){.epoll_fd = -1, .stop_fd = -1, .stop_source = {.fd = -1}};
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = loop->epoll_fd < 0 || loop->stop_fd < 0 ? -errno : 0;
    if (error == 0)
        error = loop_add(loop, &loop->stop_source, loop->stop_fd, EPOLLIN, on_stop, loop);
    if (error)
        loop_fini(loop);
    return error;
}

void loop_fini(struct loop *loop)
{
    fd_close(&loop->stop_fd);
    fd_close(&loop->epoll_fd);
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events, loop_handler *handler,
             void *context)
{
    *source = (struct loop_source){.fd = fd, .handler = handler, .context = context};
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        source->fd = -1;
        return -errno;
    }
    return 0;
}

int loop_modify(struct loop *loop, struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
    if (source->fd < 0)
        return;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->fd = -1;
    for (int i = 0; i < loop->batch_count; i++)
        if (loop->batch[i] == source)
            loop->batch[i] = NULL;
}

int loop_run_once(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[LOOP_BATCH];
    int count = epoll_wait(loop->epoll_fd, events, LOOP_BATCH, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    loop->batch_count = count;
    for (int i = 0; i < count; i++)
        loop->batch[i] = events[i].data.ptr;
    for (int i = 0; i < count; i++) {
        struct loop_source *source = loop->batch[i];
        if (source)
            source->handler(source->context, events[i].events);
    }
    loop->batch_count = 0;
    return count;
}

int loop_run(struct loop *loop)
{
    while (!loop->stopped) {
        int count = loop_run_once(loop, -1);
        if (count < 0)
            return count;
    }
    return 0;
}

void loop_stop(struct loop *loop)
{
    const uint64_t one = 1;
    ssize_t n = write(loop->stop_fd, &one, sizeof one);
    (void)n; /* fails only when the counter is full, that is, already readable */
}

int loop_timer_open(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int loop_timer_arm(int timer_fd, uint64_t delay_ns)
{
    struct itimerspec when = {0};
    if (delay_ns != LOOP_TIMER_NEVER) {
        if (delay_ns == 0)
            delay_ns = 1; /* a zero value would disarm */
        when.it_value.tv_sec = (time_t)(delay_ns / 1000000000u);
        when.it_value.tv_nsec = (long)(delay_ns % 1000000000u);
    }
    return timerfd_settime(timer_fd, 0, &when, NULL) < 0 ? -errno : 0;
}

void loop_timer_clear(int timer_fd)
{
    uint64_t expirations;
    ssize_t n = read(timer_fd, &expirations, sizeof expirations);
    (void)n; /* EAGAIN: disarmed in between */
}

int loop_signal_open(const sigset_t *signals)
{
    if (sigprocmask(SIG_BLOCK, signals, NULL) < 0)
        return -errno;
    int fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int loop_signal_next(int signal_fd)
{
    struct signalfd_siginfo info;
    ssize_t n = read(signal_fd, &info, sizeof info);
    return n == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}
