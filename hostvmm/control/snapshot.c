/*
 * hostvmm snapshot --control SOCK: ask a running hostvmm for a snapshot of its guest (operator.h has the
 * protocol), and tell what was written. Exit codes: the ones the other side gives, or ours for what goes
 * wrong on the way.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/control/ask.h"
#include "hostvmm/control/control.h"
#include "hostvmm/control/operator.h"
#include "hostvmm/exit.h"

#define WAIT_MS          120000
#define WAIT_MAX_MS      86400000ul
#define ANSWER_MAX_BYTES 16384

static const char usage[] =
    "usage: hostvmm snapshot --control SOCK --out DIR [options]\n"
    "  --control SOCK   the socket given to `hostvmm run --control`\n"
    "  --out DIR        the snapshot: a directory that does not exist yet\n"
    "  --parent DIR     only what changed since that snapshot\n"
    "  --no-checkpoint  now, whatever the guest is doing, without its agent's consent\n"
    "  --stop           the guest does not go on after it\n"
    "  --pause          it stands still after it\n"
    "  --wait MS        how long it may take (120000)\n"
    "  --json           print the answer as JSON\n";

struct ask {
    const char *control;
    const char *out;
    const char *parent;
    bool no_checkpoint;
    bool stop;
    bool pause;
    bool json;
    uint64_t wait_ms;
    char out_path[OPERATOR_PATH_MAX_BYTES + 1];
    char parent_path[OPERATOR_PATH_MAX_BYTES + 1];
    char answer[ANSWER_MAX_BYTES];
};

/* ---- command line ---- */

static const struct option long_options[] = {
    {"control", required_argument, NULL, 'c'},
    {"out", required_argument, NULL, 'o'},
    {"parent", required_argument, NULL, 'p'},
    {"no-checkpoint", no_argument, NULL, 'n'},
    {"stop", no_argument, NULL, 's'},
    {"wait", required_argument, NULL, 'w'},
    {"json", no_argument, NULL, 'j'},
    {"pause", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int take_wait(struct ask *ask, const char *text)
{
    char *end;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    if (errno || *end != '\0' || text[0] < '0' || text[0] > '9' || value == 0 || value > WAIT_MAX_MS) {
        log_error("--wait %s: give a number from 1 to %lu", text, WAIT_MAX_MS);
        return -EINVAL;
    }
    ask->wait_ms = value;
    return 0;
}

static int take_option(struct ask *ask, int code)
{
    switch (code) {
    case 'c':
        ask->control = optarg;
        return 0;
    case 'o':
        ask->out = optarg;
        return 0;
    case 'p':
        ask->parent = optarg;
        return 0;
    case 'n':
        return ask->no_checkpoint = true, 0;
    case 's':
        return ask->stop = true, 0;
    case 'h':
        return ask->pause = true, 0;
    case 'j':
        return ask->json = true, 0;
    case 'w':
        return take_wait(ask, optarg);
    default:
        return -EINVAL; /* getopt has said what */
    }
}

/* The other side has another working directory. */
static int make_absolute(const char *option, const char *path, char *to)
{
    char here[OPERATOR_PATH_MAX_BYTES + 1] = "";
    if (path[0] == '\0') {
        log_error("--%s: an empty path", option);
        return -EINVAL;
    }
    if (path[0] != '/' && !getcwd(here, sizeof here)) {
        log_error("--%s %s: the working directory cannot be told: %s", option, path, strerror(errno));
        return -EINVAL;
    }
    const int size = snprintf(to, OPERATOR_PATH_MAX_BYTES + 1, "%s%s%s", here, here[0] ? "/" : "", path);
    if (size < 0 || size > OPERATOR_PATH_MAX_BYTES) {
        log_error("--%s: a path of more than %d bytes: %.80s...", option, OPERATOR_PATH_MAX_BYTES, path);
        return -EINVAL;
    }
    for (const char *at = to; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            log_error("--%s: a path with a TAB, newline or other control character: name another", option);
            return -EINVAL;
        }
    return 0;
}

static int parse(struct ask *ask, int argc, char **argv)
{
    int code;
    *ask = (struct ask){.wait_ms = WAIT_MS};
    optind = 1;
    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        if (take_option(ask, code) < 0)
            return -EINVAL;
    if (optind < argc) {
        log_error("snapshot: unexpected argument '%s'", argv[optind]);
        return -EINVAL;
    }
    if (!ask->control || !ask->out) {
        log_error("snapshot: --control and --out are needed");
        return -EINVAL;
    }
    if (ask->stop && ask->pause) {
        log_error("snapshot: --stop and --pause: give one of them");
        return -EINVAL;
    }
    if (make_absolute("out", ask->out, ask->out_path) < 0)
        return -EINVAL;
    return ask->parent ? make_absolute("parent", ask->parent, ask->parent_path) : 0;
}

/* ---- the answer ---- */

static bool number_of(const char *answer, const char *name, uint64_t *value)
{
    char key[40];
    (void)snprintf(key, sizeof key, "\"%s\":", name);
    const char *at = strstr(answer, key);
    if (!at)
        return false;
    *value = strtoull(at + strlen(key), NULL, 10);
    return true;
}

/* The text of the member "error", its escapes undone; what cannot be shown becomes '?'. */
static void error_of(const char *answer, char *to, size_t capacity)
{
    static const char key[] = "\"error\":\"";
    const char *at = strstr(answer, key);
    size_t used = 0;
    for (at = at ? at + sizeof key - 1 : ""; *at && *at != '"' && used + 1 < capacity; at++) {
        char byte = *at;
        if (byte == '\\' && at[1] != '\0') {
            byte = *++at;
            if (byte != '"' && byte != '\\')
                byte = byte == 'n' ? ' ' : '?';
            if (*at == 'u')
                for (int i = 0; i < 4 && at[1] != '\0'; i++)
                    at++;
        }
        to[used++] = (unsigned char)byte < 0x20 ? '?' : byte;
    }
    to[used] = '\0';
}

/* The exit code. */
static int tell(const struct ask *ask)
{
    static const char good[] = "{\"ok\":true";
    static const char bad[] = "{\"ok\":false";
    const bool ok = strncmp(ask->answer, good, sizeof good - 1) == 0;
    uint64_t value;
    if (!ok && strncmp(ask->answer, bad, sizeof bad - 1) != 0) {
        log_error("%s: what answers there is no hostvmm", ask->control);
        return HOSTVMM_EXIT_HOST;
    }
    if (ask->json)
        (void)puts(ask->answer);
    if (!ok) {
        char why[1024];
        error_of(ask->answer, why, sizeof why);
        log_error("no snapshot: %s", why);
        return number_of(ask->answer, "code", &value) && value > 0 && value < 128 ? (int)value
                                                                                  : HOSTVMM_EXIT_HOST;
    }
    if (!ask->json) {
        (void)printf("snapshot %s", ask->out_path);
        if (number_of(ask->answer, "disk_bytes", &value))
            (void)printf(", %.1f MiB", (double)value / 1048576.0);
        if (number_of(ask->answer, "pause_ns", &value))
            (void)printf(", the guest stood still for %.1f ms", (double)value / 1e6);
        if (number_of(ask->answer, "checkpoint_us", &value) && value > 0)
            (void)printf(", its checkpoint took %.1f ms", (double)value / 1e3);
        (void)puts(ask->stop ? "; the guest was stopped" : "");
    }
    return fflush(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
}

int control_snapshot_main(int argc, char **argv)
{
    static struct ask ask;
    char line[OPERATOR_LINE_MAX_BYTES + 2];
    if (parse(&ask, argc, argv) < 0) {
        (void)fputs(usage, stderr);
        return HOSTVMM_EXIT_USAGE;
    }
    /* What is not asked for is the guest's to say: a paused one is saved as it stands and stays so. */
    const int size =
        snprintf(line, sizeof line, "snapshot\tout=%s%s%s%s%s\n", ask.out_path, ask.parent ? "\tparent=" : "",
                 ask.parent_path, ask.no_checkpoint ? "\tcheckpoint=no" : "",
                 ask.stop    ? "\tthen=stop"
                 : ask.pause ? "\tthen=pause"
                             : "");
    const int error =
        control_ask(ask.control, line, (size_t)size, ask.wait_ms, ask.answer, sizeof ask.answer);
    if (error == -ETIMEDOUT)
        log_error("the snapshot may still be made");
    if (error)
        return error == -ETIMEDOUT ? HOSTVMM_EXIT_TIMED_OUT : HOSTVMM_EXIT_HOST;
    return tell(&ask);
}
