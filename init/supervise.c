/*
 * Supervision: one loop (child, signal, handoff and time-out events), one state machine.
 *
 *              agent ended, restarts left          alone, or time is up
 *   RUNNING ------------------------------> CLEARING -------------------> RUNNING
 *      |                                        |
 *      | halt asked; agent ended, none left     | halt asked; agent cannot start
 *      v                                        v
 *   TERMINATING --- time is up ---> KILLING --- alone, or time is up ---> FINISHED
 *      |                                                                     ^
 *      +------------------------------ alone --------------------------------+
 *
 * "Alone" means init has no child left. Every user process descends from the agent and falls to init when its
 * parent ends, so alone means that no user process exists. CLEARING kills what a dead agent left behind, so
 * that the next one finds its ports and cgroups free. Each state but RUNNING has a time limit, so none lasts.
 */
#include "init/supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/handoff.h"
#include "init/report.h"
#include "init/spawn.h"

#define KILL_LIMIT_MS      2000
#define REAP_BATCH         64
#define LAST_WORDS_BATCHES 64
#define NS_PER_MS          1000000u

enum state { STATE_RUNNING, STATE_CLEARING, STATE_TERMINATING, STATE_KILLING, STATE_FINISHED, STATE_COUNT };
enum event { EVENT_AGENT_ENDED, EVENT_HALT_ASKED, EVENT_ALONE, EVENT_TIME_UP, EVENT_COUNT };

struct supervisor {
    const struct bootargs *args;
    struct loop loop;
    struct loop_source signal_source, timer_source, handoff_source;
    int signal_fd, timer_fd, handoff_fd;
    enum state state;
    enum guest_exit reason;
    pid_t agent;      /* 0: none */
    int agent_status; /* of the last one, as waitpid gives it */
    unsigned attempt;
    bool word_refused; /* an unknown word of this agent was reported */
};

/* One transition's work; returns the next state. */
typedef enum state transition(struct supervisor *s);

static void time_limit(struct supervisor *s, uint64_t limit_ms)
{
    const int error = loop_timer_arm(s->timer_fd, limit_ms * NS_PER_MS);
    if (error)
        log_error("cannot set a time limit: %s", strerror(-error));
}

static enum state begin_halt(struct supervisor *s)
{
    report_stage(GUEST_STAGE_HALTING);
    (void)kill(-1, SIGTERM);
    (void)kill(-1, SIGCONT); /* what is stopped could not act on it */
    time_limit(s, s->args->grace_ms);
    return STATE_TERMINATING;
}

static void handoff_close(struct supervisor *s)
{
    loop_remove(&s->loop, &s->handoff_source);
    fd_close(&s->handoff_fd);
}

static loop_handler on_handoff;

static enum state start_agent(struct supervisor *s)
{
    s->word_refused = false;
    if (spawn_agent(s->args, s->attempt, &s->handoff_fd, &s->agent) != 0) {
        s->reason = GUEST_EXIT_NO_AGENT;
        return begin_halt(s);
    }
    const int error =
        loop_add(&s->loop, &s->handoff_source, s->handoff_fd, EPOLLIN | EPOLLRDHUP, on_handoff, s);
    if (error) {
        log_error("cannot listen to the agent: %s", strerror(-error));
        s->reason = GUEST_EXIT_INIT_FAILED;
        return begin_halt(s);
    }
    (void)loop_timer_arm(s->timer_fd, LOOP_TIMER_NEVER); /* RUNNING has no limit */
    report_stage(GUEST_STAGE_AGENT_SPAWNED);
    return STATE_RUNNING;
}

static enum state start_agent_in_company(struct supervisor *s)
{
    log_warn("processes of the last agent did not end within %d ms", KILL_LIMIT_MS);
    return start_agent(s);
}

static enum state restart_or_give_up(struct supervisor *s)
{
    const int status = s->agent_status;
    const bool refused = WIFEXITED(status) && WEXITSTATUS(status) == HANDOFF_EXIT_VERSION;
    const bool again = !refused && s->attempt < s->args->agent_restarts;
    const char *what = again     ? "starting it again"
                       : refused ? "it does not speak version " HANDOFF_VERSION_TEXT
                                   " of the handoff; build init and agent from one tree"
                                 : "giving up";
    if (WIFSIGNALED(status))
        log_error("the agent was killed by signal %d (%s) after %u of %u restarts: %s", WTERMSIG(status),
                  strsignal(WTERMSIG(status)), s->attempt, (unsigned)s->args->agent_restarts, what);
    else
        log_error("the agent ended with exit code %d after %u of %u restarts: %s", WEXITSTATUS(status),
                  s->attempt, (unsigned)s->args->agent_restarts, what);
    if (!again) {
        s->reason = GUEST_EXIT_AGENT_GAVE_UP;
        return begin_halt(s);
    }
    s->attempt++;
    (void)kill(-1, SIGKILL);
    time_limit(s, KILL_LIMIT_MS);
    return STATE_CLEARING;
}

static enum state kill_all(struct supervisor *s)
{
    if (s->args->grace_ms > 0)
        log_warn("processes did not end within %u ms of SIGTERM: killing them", (unsigned)s->args->grace_ms);
    (void)kill(-1, SIGKILL);
    time_limit(s, KILL_LIMIT_MS);
    return STATE_KILLING;
}

static enum state finish(struct supervisor *s)
{
    (void)s;
    return STATE_FINISHED;
}

static enum state finish_in_company(struct supervisor *s)
{
    (void)s;
    log_error("processes did not end within %d ms of SIGKILL: halting without them", KILL_LIMIT_MS);
    return STATE_FINISHED;
}

/* An event without a step means nothing in that state. */
static transition *const steps[STATE_COUNT][EVENT_COUNT] = {
    [STATE_RUNNING] = {[EVENT_AGENT_ENDED] = restart_or_give_up, [EVENT_HALT_ASKED] = begin_halt},
    [STATE_CLEARING] = {[EVENT_ALONE] = start_agent,
                        [EVENT_TIME_UP] = start_agent_in_company,
                        [EVENT_HALT_ASKED] = begin_halt},
    [STATE_TERMINATING] = {[EVENT_ALONE] = finish, [EVENT_TIME_UP] = kill_all},
    [STATE_KILLING] = {[EVENT_ALONE] = finish, [EVENT_TIME_UP] = finish_in_company},
};

/* Whether the event did anything. */
static bool deliver(struct supervisor *s, enum event event)
{
    transition *const step = steps[s->state][event];
    if (!step)
        return false;
    s->state = step(s);
    return true;
}

static void take_word(struct supervisor *s, unsigned char word)
{
    switch ((enum handoff_word)word) {
    case HANDOFF_LISTENING:
        report_stage(GUEST_STAGE_AGENT_LISTENING);
        return;
    case HANDOFF_FUNCTION_READY:
        report_stage(GUEST_STAGE_FUNCTION_READY);
        return;
    case HANDOFF_FUNCTION_FAILED:
        report_stage(GUEST_STAGE_FUNCTION_FAILED);
        return;
    case HANDOFF_HALT:
        (void)deliver(s, EVENT_HALT_ASKED);
        return;
    }
    if (!s->word_refused)
        log_warn("the agent said an unknown word, 0x%02x: ignored, and so are others to come", word);
    s->word_refused = true;
}

/* One batch of words a wake-up: a chattering agent cannot keep the other events waiting. */
static void on_handoff(void *context, uint32_t events)
{
    struct supervisor *s = context;
    unsigned char words[16];
    (void)events;
    const ssize_t count = read(s->handoff_fd, words, sizeof words);
    for (ssize_t i = 0; i < count; i++)
        take_word(s, words[i]);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
        handoff_close(s); /* its end is closed: it ended, or has nothing more to say */
}

static void agent_ended(struct supervisor *s, int status)
{
    s->agent = 0;
    s->agent_status = status;
    /* Its last words count: a halt asked for just before its end must not look like a crash. */
    for (int i = 0; i < LAST_WORDS_BATCHES && s->handoff_fd >= 0; i++)
        on_handoff(s, 0);
    handoff_close(s);
    (void)deliver(s, EVENT_AGENT_ENDED);
}

/* Reap what has ended, orphans included. Bounded: false when more may be waiting. */
static bool reap(struct supervisor *s)
{
    for (int i = 0; i < REAP_BATCH; i++) {
        int status;
        const pid_t ended = waitpid(-1, &status, WNOHANG);
        if (ended <= 0)
            return true;
        if (ended == s->agent)
            agent_ended(s, status);
    }
    return false;
}

static bool alone(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

static void on_signal(void *context, uint32_t events)
{
    struct supervisor *s = context;
    (void)events;
    const int signal = loop_signal_next(s->signal_fd);
    if (signal == SIGTERM || signal == SIGINT || signal == SIGPWR)
        (void)deliver(s, EVENT_HALT_ASKED);
    /* SIGCHLD: run() reaps before each wait. */
}

static void on_timer(void *context, uint32_t events)
{
    struct supervisor *s = context;
    (void)events;
    loop_timer_clear(s->timer_fd);
    (void)deliver(s, EVENT_TIME_UP);
}

static int prepare(struct supervisor *s)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT); /* Ctrl-Alt-Del, once the kernel's own reaction to it is off */
    sigaddset(&signals, SIGPWR);
    int error = loop_init(&s->loop);
    if (error)
        return error;
    s->signal_fd = loop_signal_open(&signals);
    s->timer_fd = loop_timer_open();
    if (s->signal_fd < 0 || s->timer_fd < 0)
        return s->signal_fd < 0 ? s->signal_fd : s->timer_fd;
    error = loop_add(&s->loop, &s->signal_source, s->signal_fd, EPOLLIN, on_signal, s);
    if (error == 0)
        error = loop_add(&s->loop, &s->timer_source, s->timer_fd, EPOLLIN, on_timer, s);
    return error;
}

enum guest_exit supervise(const struct bootargs *args)
{
    struct supervisor s = {
        .args = args,
        .signal_fd = -1,
        .timer_fd = -1,
        .handoff_fd = -1,
        .handoff_source = {.fd = -1},
        .reason = GUEST_EXIT_ORDERLY,
    };
    int error = prepare(&s);
    if (error == 0)
        s.state = start_agent(&s);
    while (error == 0 && s.state != STATE_FINISHED) {
        const bool all = reap(&s);
        if (all && alone() && deliver(&s, EVENT_ALONE))
            continue;
        const int count = loop_run_once(&s.loop, all ? -1 : 0);
        error = count < 0 ? count : 0;
    }
    if (error) {
        log_error("the event loop failed: %s", strerror(-error));
        (void)kill(-1, SIGKILL);
        return GUEST_EXIT_INIT_FAILED;
    }
    return s.reason;
}
