/*
 * Threads in the jail: each takes its filter; those of devices are made by one that does nothing else. A
 * thread has its maker's filter besides its own, and a driver's write starts a device's thread: made by the
 * vCPU that wrote, that vCPU would have to be allowed threads and all that a device does.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/jail/filter.h"
#include "hostvmm/jail/parts.h"

static bool on;
static _Thread_local bool confined;

/* One wish at a time; the lock is held by whoever has it. */
static struct {
    pthread_mutex_t lock;  /* of those that wish */
    pthread_mutex_t guard; /* of what follows */
    pthread_cond_t changed;
    enum { NOTHING, WISHED, MADE } state;
    pthread_t *thread;
    void *(*main)(void *);
    void *context;
    int error;
} maker = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .guard = PTHREAD_MUTEX_INITIALIZER,
           .changed = PTHREAD_COND_INITIALIZER};

bool jail_is_on(void)
{
    return on;
}

/* Who looks at the threads sees which are confined, and as what. */
static void show(enum jail_role role)
{
    static const char *const names[JAIL_ROLES] = {[JAIL_MAIN] = "main",
                                                  [JAIL_VCPU] = NULL, /* has its own */
                                                  [JAIL_BLK] = "blk",
                                                  [JAIL_NET] = "net",
                                                  [JAIL_SPAWN] = "spawn"};
    char own[16] = "";
    char name[32];
    if (!names[role])
        (void)prctl(PR_GET_NAME, own, 0, 0, 0);
    (void)snprintf(name, sizeof name, "%.8s jailed", names[role] ? names[role] : own);
    (void)prctl(PR_SET_NAME, name, 0, 0, 0);
}

void jail_thread(enum jail_role role)
{
    if (!on || confined)
        return;
    confined = true;
    show(role);
    const int error = jail_filter_install(role);
    if (error == 0)
        return;
    log_error("jail: a thread cannot be confined: %s", strerror(-error));
    _exit(HOSTVMM_EXIT_HOST);
}

__attribute__((noreturn)) static void *make_threads(void *context)
{
    (void)context;
    jail_thread(JAIL_SPAWN);
    (void)pthread_mutex_lock(&maker.guard);
    for (;;) {
        while (maker.state != WISHED)
            (void)pthread_cond_wait(&maker.changed, &maker.guard);
        maker.error = pthread_create(maker.thread, NULL, maker.main, maker.context);
        maker.state = MADE;
        (void)pthread_cond_broadcast(&maker.changed);
    }
}

int jail_threads_begin(void)
{
    pthread_t thread;
    sigset_t all, before;
    on = true;
    sigfillset(&all); /* signals are others' */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&thread, NULL, make_threads, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        (void)pthread_detach(thread);
    return -error;
}

int jail_spawn(pthread_t *thread, void *(*main)(void *), void *context)
{
    if (!on)
        return pthread_create(thread, NULL, main, context);
    (void)pthread_mutex_lock(&maker.lock);
    (void)pthread_mutex_lock(&maker.guard);
    maker.thread = thread;
    maker.main = main;
    maker.context = context;
    maker.state = WISHED;
    (void)pthread_cond_broadcast(&maker.changed);
    while (maker.state != MADE)
        (void)pthread_cond_wait(&maker.changed, &maker.guard);
    maker.state = NOTHING;
    const int error = maker.error;
    (void)pthread_mutex_unlock(&maker.guard);
    (void)pthread_mutex_unlock(&maker.lock);
    return error;
}
