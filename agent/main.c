/*
 * The runtime agent: runs one function in this guest and serves it to clients on the host.
 *
 *   agent                     in the guest: started by init through handoff.h; vsock, FUNCTION_DIRECTORY
 *   agent --listen unix:PATH --function DIR [--cgroup DIR] [--run DIR] [--init-limit-ms N]
 *                             on a development machine: no handoff; without root no change of user, without
 *                             --cgroup no cgroup (a checkpoint then stops the function with a signal); the
 *                             generation page, secrets and connections below --run, without it none; the
 * Runtime API on any free port, so that several agents fit on one machine. What is missing is said on
 * standard error
 *
 * Exit codes: 0 after SIGTERM (or, without init, a client's shutdown), 1 when it cannot go on, 64 for wrong
 * arguments, HANDOFF_EXIT_VERSION when init speaks another contract.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/cgroup.h"
#include "agent/function/generation.h"
#include "agent/handoff.h"
#include "agent/isolate.h"
#include "agent/net/net.h"
#include "agent/parent.h"
#include "agent/process.h"
#include "agent/resume.h"
#include "agent/server.h"
#include "agent/session.h"
#include "agent/tls/connections.h"

enum { EXIT_USAGE = 64 };
#define GIVEN_UP_PATH "/run/not-resumed"

struct options {
    const char *unix_path; /* NULL: in the guest */
    const char *function;
    const char *cgroup; /* NULL: none */
    const char *run;    /* NULL: none, or in the guest its own */
    uint32_t init_limit_ms;
};

/* Big, and there is one: not on the stack. */
static struct agent {
    struct loop loop;
    struct parent parent;
    struct cgroup cgroup;
    struct isolate isolate;
    struct process process;
    struct server server;
    struct loop_source signals;
    int signal_fd;
    struct session session; /* large, and small things first: session.h */
} agent;

static int parse_options(struct options *options, int count, char *const *arguments)
{
    *options = (struct options){
        .function = FUNCTION_DIRECTORY, .cgroup = CGROUP_DIRECTORY, .init_limit_ms = SESSION_INIT_LIMIT_MS};
    if (count > 1)
        options->cgroup = NULL;
    for (int i = 1; i < count; i += 2) {
        const char *name = arguments[i];
        const char *value = i + 1 < count ? arguments[i + 1] : "";
        char *end = NULL;
        if (strcmp(name, "--listen") == 0 && strncmp(value, "unix:", 5) == 0 && value[5])
            options->unix_path = value + 5;
        else if (strcmp(name, "--function") == 0 && value[0])
            options->function = value;
        else if (strcmp(name, "--cgroup") == 0 && value[0])
            options->cgroup = value;
        else if (strcmp(name, "--run") == 0 && value[0])
            options->run = value;
        else if (strcmp(name, "--init-limit-ms") == 0 && value[0])
            options->init_limit_ms = (uint32_t)strtoul(value, &end, 10);
        else
            return -EINVAL;
        if ((end && *end) || options->init_limit_ms == 0 || options->init_limit_ms > PROTO_TIMEOUT_MAX_MS)
            return -EINVAL;
    }
    return count == 1 || options->unix_path ? 0 : -EINVAL;
}

static void on_signal(void *context, uint32_t events)
{
    (void)context;
    (void)events;
    int number;
    while ((number = loop_signal_next(agent.signal_fd)) > 0) {
        if (number == SIGCHLD)
            process_reap(&agent.process);
        else
            session_stop(&agent.session, true);
    }
}

static int open_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    agent.signal_fd = loop_signal_open(&signals);
    if (agent.signal_fd < 0)
        return agent.signal_fd;
    return loop_add(&agent.loop, &agent.signals, agent.signal_fd, EPOLLIN, on_signal, NULL);
}

/* Who runs the function and within which bounds: all of them in the guest, what there is elsewhere. */
static int prepare_function(const struct options *options)
{
    const bool guest = !options->unix_path;
    const bool root = geteuid() == 0;
    struct cgroup *cgroup = options->cgroup ? &agent.cgroup : NULL;
    if (cgroup) {
        const int error = cgroup_init(cgroup, &agent.loop, options->cgroup, !guest);
        if (error)
            return error;
    } else {
        log_warn("no cgroup: the function runs without limits of memory and processes");
    }
    if (!root)
        log_warn("not root: the function runs as the same user as the agent");
    /* The agent must outlive its function when memory runs out. */
    if (guest && fd_write_file("/proc/self/oom_score_adj", "-1000") < 0)
        log_warn("cannot exempt the agent from the out-of-memory killer");
    process_init(&agent.process, options->function, cgroup, root);
    if (!guest)
        return 0;
    agent.process.isolate = &agent.isolate;
    return isolate_init(&agent.isolate, agent.cgroup.memory_max_bytes);
}

/* The first identity of this guest; later ones come with a resume. */
static int begin_life(const struct options *options)
{
    static char generation[512], secrets[512]; /* kept by the steps */
    struct resume_places places = {0};
    if (!options->unix_path) {
        places = (struct resume_places){.generation = GENERATION_PATH,
                                        .machine_id = "/run/machine-id",
                                        .boot_id = "/run/boot_id",
                                        .secrets = "/run/secrets"};
    } else if (options->run) {
        (void)snprintf(generation, sizeof generation, "%.480s/generation", options->run);
        (void)snprintf(secrets, sizeof secrets, "%.480s/secrets", options->run);
        places = (struct resume_places){.generation = generation, .secrets = secrets};
    }
    return resume_begin_life(resume_get(), &places, !options->unix_path);
}

/* Without its network a guest still serves: the function is told by the connections it cannot make. */
static void begin_network(void)
{
    char why[RESUME_WHY_BYTES] = "";
    if (net_begin(getenv(HANDOFF_ENV_NETWORK), why) < 0)
        log_error("no network: %s", why);
}

static const char *connections_directory(const struct options *options)
{
    static char directory[512];
    if (!options->unix_path)
        return CONNECTIONS_DIRECTORY;
    if (!options->run)
        return NULL;
    (void)snprintf(directory, sizeof directory, "%.480s/connections", options->run);
    return directory;
}

static int serve(const struct options *options)
{
    int error = session_init(&agent.session, &agent.loop, &agent.process, &agent.parent);
    if (error == 0) {
        agent.session.init_limit_ms = options->init_limit_ms;
        agent.session.given_up_path = options->unix_path ? NULL : GIVEN_UP_PATH;
        agent.session.api_port = options->unix_path ? 0 : HTTP_LINK_PORT;
        agent.session.connections_directory = connections_directory(options);
        error = server_init(&agent.server, &agent.session, options->unix_path);
    }
    if (error)
        return error;
    parent_say(&agent.parent, HANDOFF_LISTENING);
    log_info("listening; starting %s/" FUNCTION_PROGRAM, options->function);
    session_start(&agent.session);
    while (!agent.loop.stopped && error >= 0)
        error = session_run_once(&agent.session, -1);
    server_fini(&agent.server);
    session_fini(&agent.session);
    return error < 0 ? error : 0;
}

int main(int count, char **arguments)
{
    struct options options;
    if (count == 1 && getpid() == 1 && strcmp(arguments[0], ISOLATE_REAPER) == 0)
        isolate_reap();
    log_setup("agent", LOG_LEVEL_INFO, STDERR_FILENO);
    if (parse_options(&options, count, arguments) < 0) {
        log_error("usage: agent [--listen unix:PATH [--function DIR] [--cgroup DIR] [--run DIR] "
                  "[--init-limit-ms N]]");
        return EXIT_USAGE;
    }
    if (options.unix_path)
        parent_none(&agent.parent);
    else if (parent_take(&agent.parent) < 0)
        return HANDOFF_EXIT_VERSION;
    int error = loop_init(&agent.loop);
    if (error == 0)
        error = open_signals();
    if (error == 0)
        error = begin_life(&options);
    if (error == 0 && !options.unix_path)
        begin_network();
    if (error == 0)
        error = prepare_function(&options);
    if (error == 0)
        error = serve(&options);
    if (error)
        log_error("cannot go on: %s", strerror(-error));
    if (options.cgroup && agent.cgroup.loop)
        cgroup_fini(&agent.cgroup);
    if (agent.process.isolate)
        isolate_fini(&agent.isolate);
    fd_close(&agent.signal_fd);
    loop_fini(&agent.loop);
    parent_fini(&agent.parent);
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
