/*
 * hostvmm api: the process. The main thread reads the command line, blocks signals, opens the socket, applies a
 * configuration file, and then starts processes and waits (child.h); libmicrohttpd's threads do the rest.
 *
 * Its exit code is the guest's. When this process goes, whatever ends it, its children go with it.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/flush.h"
#include "hostvmm/control/api/http.h"
#include "hostvmm/control/api/model.h"
#include "hostvmm/control/api/route.h"
#include "hostvmm/control/api/server.h"
#include "hostvmm/exit.h"

#define ID_MAX 64

static const char usage[] =
    "usage: hostvmm api --api-sock PATH [option]...   (or hostvmm --api-sock PATH ...)\n"
    "\n"
    "Serves the control API (HTTP and JSON, as Firecracker's) at a Unix socket: one guest, which it starts,\n"
    "operates, and whose exit code is its own.\n"
    "\n"
    "  --api-sock PATH       the socket; nobody but this user can open it\n"
    "  --config-file FILE    resources as JSON, keys as in Firecracker's configuration file; the guest "
    "starts at "
    "once\n"
    "  --no-api              no socket: what --config-file says, and nothing else\n"
    "  --id NAME             the guest's name, as GET / tells it (anonymous-instance)\n"
    "  --log-path FILE       messages go there (standard error)\n"
    "  --level LEVEL         Error, Warning, Info or Debug (Info)\n"
    "  --metrics-path FILE   where the guest's counters go, a line a minute and for each FlushMetrics\n"
    "  --jail ITEMS          the guest's process runs in a jail: see hostvmm run --help\n"
    "\n"
    "--show-level, --show-log-origin, --start-time-us, --start-time-cpu-us and --parent-cpu-time-us are "
    "taken and\n"
    "mean nothing here. SIGTERM, SIGINT and SIGHUP shut the guest down in order; a second one stops it at "
    "once.\n";

struct server_wish {
    const char *socket;
    const char *config_file;
    const char *id;
    const char *log_path;
    const char *level;
    const char *metrics_path;
    const char *jail;
    int no_api;
    int help;
};

static bool take(struct server_wish *wish, int code)
{
    switch (code) {
    case 'a':
        wish->socket = optarg;
        return true;
    case 'c':
        wish->config_file = optarg;
        return true;
    case 'i':
        wish->id = optarg;
        return true;
    case 'l':
        wish->log_path = optarg;
        return true;
    case 'v':
        wish->level = optarg;
        return true;
    case 'm':
        wish->metrics_path = optarg;
        return true;
    case 'j':
        wish->jail = optarg;
        return true;
    case 0: /* a flag */
    case 'x':
        return true;
    default:
        return false; /* getopt has said what */
    }
}

static bool is_id(const char *text)
{
    const size_t size = strlen(text);
    static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";
    return size > 0 && size <= ID_MAX && strspn(text, characters) == size;
}

static bool parse(struct server_wish *wish, int argc, char **argv)
{
    int code;
    const struct option options[] = {
        {"api-sock", required_argument, NULL, 'a'},
        {"config-file", required_argument, NULL, 'c'},
        {"id", required_argument, NULL, 'i'},
        {"log-path", required_argument, NULL, 'l'},
        {"level", required_argument, NULL, 'v'},
        {"metrics-path", required_argument, NULL, 'm'},
        {"jail", required_argument, NULL, 'j'},
        {"no-api", no_argument, &wish->no_api, 1},
        {"help", no_argument, &wish->help, 1},
        {"show-level", no_argument, NULL, 'x'},
        {"show-log-origin", no_argument, NULL, 'x'},
        {"start-time-us", required_argument, NULL, 'x'},
        {"start-time-cpu-us", required_argument, NULL, 'x'},
        {"parent-cpu-time-us", required_argument, NULL, 'x'},
        {NULL, 0, NULL, 0},
    };
    optind = 1;
    while ((code = getopt_long(argc, argv, "", options, NULL)) != -1)
        if (!take(wish, code))
            return false;
    if (wish->help)
        return true;
    const char *wrong = NULL;
    if (optind < argc)
        wrong = "an argument that is no option";
    else if (wish->no_api && (wish->socket || !wish->config_file))
        wrong = "--no-api wants --config-file, and no --api-sock";
    else if (!wish->no_api && !wish->socket)
        wrong = "--api-sock is missing; `hostvmm api --help` lists all options";
    else if (wish->id && !is_id(wish->id))
        wrong = "--id: want 1 to 64 letters, digits and dashes";
    if (wrong)
        log_error("%s", wrong);
    return !wrong;
}

/* As if each had been a request. */
static bool put(struct api *api, const char *path, json_t *body)
{
    struct api_request request = {.method = "PUT", .path = path};
    struct api_response response = {.status = 0};
    route_new_id(request.id);
    route_resource(api, &request, body, &response);
    const bool fine = response.status < 400;
    if (!fine)
        log_error("%s", model_text(response.json, "fault_message"));
    json_decref(body);
    route_free(&response);
    return fine;
}

static bool apply_options(struct api *api, const struct server_wish *wish)
{
    bool fine = true;
    if (wish->log_path || wish->level)
        fine =
            put(api, "/logger", json_pack("{s:s?,s:s?}", "log_path", wish->log_path, "level", wish->level));
    if (fine && wish->metrics_path)
        fine = put(api, "/metrics", json_pack("{s:s}", "metrics_path", wish->metrics_path));
    return fine;
}

/* The guest of a configuration file: it is started by a thread, as by a request, since this one spawns. */
struct boot {
    struct api *api;
    pthread_t thread;
    bool begun;
};

static void *boot_main(void *context)
{
    struct boot *boot = context;
    api_lock(boot->api);
    const bool fine = put(boot->api, "/actions", json_pack("{s:s}", "action_type", "InstanceStart"));
    api_unlock(boot->api);
    if (!fine)
        child_stop(&boot->api->child, HOSTVMM_EXIT_INPUT);
    return NULL;
}

static int serve(struct api *api, const struct server_wish *wish, int signal_fd)
{
    struct http http = {.place = {.fd = -1}};
    struct flush flush = {.begun = false};
    struct boot boot = {.api = api};
    char why[MODEL_WHY_BYTES];
    int code = HOSTVMM_EXIT_HOST;
    if (wish->config_file && !config_file_apply(api, wish->config_file, why)) {
        log_error("--config-file %s: %s", wish->config_file, why);
        return HOSTVMM_EXIT_INPUT;
    }
    if (!wish->no_api && http_open(&http, api, wish->socket))
        goto out;
    if (!wish->no_api)
        log_info("the API is served at %s", wish->socket);
    if (flush_begin(&flush, api, FLUSH_EVERY_MS)) {
        log_error("no thread for the guest's counters can be started");
        goto out;
    }
    boot.begun = wish->config_file && pthread_create(&boot.thread, NULL, boot_main, &boot) == 0;
    if (!wish->config_file || boot.begun)
        code = child_run(&api->child, signal_fd);
out:
    http_close(&http);
    flush_end(&flush);
    if (boot.begun)
        (void)pthread_join(boot.thread, NULL);
    api_functions_end();
    return code;
}

/* Before threads: they inherit the blocked signals. */
static int open_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    const int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int api_main(int argc, char **argv)
{
    static struct api api;
    struct server_wish wish = {.socket = NULL};
    if (!parse(&wish, argc, argv))
        return HOSTVMM_EXIT_USAGE;
    if (wish.help)
        return fputs(usage, stdout) < 0 || fflush(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
    log_setup("hostvmm api", LOG_LEVEL_INFO, STDERR_FILENO);
    int signal_fd = open_signals();
    int error = signal_fd < 0 ? signal_fd : api_init(&api, "/proc/self/exe");
    int code = HOSTVMM_EXIT_HOST;
    if (error) {
        log_error("the server cannot be set up: %s", strerror(-error));
        return code;
    }
    if (wish.id)
        api.id = wish.id;
    api.jail = wish.jail;
    code = apply_options(&api, &wish) ? serve(&api, &wish, signal_fd) : HOSTVMM_EXIT_USAGE;
    api_fini(&api);
    fd_close(&signal_fd);
    return code;
}
