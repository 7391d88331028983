/* hostvmm metrics --control SOCK [--prometheus]: the counters of a running guest, on standard output. */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/control/ask.h"
#include "hostvmm/control/control.h"
#include "hostvmm/exit.h"

#define WAIT_MS          10000u
#define ANSWER_MAX_BYTES ((size_t)256 << 10)

static const char usage[] = "usage: hostvmm metrics --control SOCK [--prometheus]\n"
                            "  --control SOCK   the socket given to `hostvmm run --control`\n"
                            "  --prometheus     in Prometheus's text form, not as JSON\n";

/* The string that begins behind `at`, its escapes undone: those that hostvmm's text_json makes. */
static bool print_text(const char *at)
{
    for (; *at && *at != '"'; at++) {
        if (*at != '\\') {
            (void)putchar(*at);
            continue;
        }
        at++;
        if (*at == 'n')
            (void)putchar('\n');
        else if (*at == '"' || *at == '\\')
            (void)putchar(*at);
        else
            return false; /* no character of our metrics needs another */
    }
    return *at == '"';
}

static int tell(const char *answer, bool prometheus)
{
    static const char json[] = "{\"ok\":true,\"metrics\":";
    static const char text[] = "{\"ok\":true,\"text\":\"";
    const size_t size = strlen(answer);
    bool good = false;
    if (prometheus && strncmp(answer, text, sizeof text - 1) == 0) {
        good = print_text(answer + sizeof text - 1);
    } else if (!prometheus && strncmp(answer, json, sizeof json - 1) == 0 && answer[size - 1] == '}') {
        (void)printf("%.*s\n", (int)(size - sizeof json), answer + sizeof json - 1);
        good = true;
    }
    if (!good)
        log_error("no metrics: %s", answer);
    return good && fflush(stdout) == 0 ? HOSTVMM_EXIT_OK : HOSTVMM_EXIT_HOST;
}

static int ask(const char *control, bool prometheus)
{
    const char *line = prometheus ? "metrics\tformat=prometheus\n" : "metrics\n";
    char *answer = malloc(ANSWER_MAX_BYTES);
    if (!answer) {
        log_error("metrics: no memory");
        return HOSTVMM_EXIT_HOST;
    }
    const int error = control_ask(control, line, strlen(line), WAIT_MS, answer, ANSWER_MAX_BYTES);
    const int code = error == -ETIMEDOUT ? HOSTVMM_EXIT_TIMED_OUT
                     : error             ? HOSTVMM_EXIT_HOST
                                         : tell(answer, prometheus);
    free(answer);
    return code;
}

int control_metrics_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"control", required_argument, NULL, 'c'},
        {"prometheus", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *control = NULL;
    bool prometheus = false;
    int code;
    optind = 1;
    while ((code = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (code == 'c') {
            control = optarg;
        } else if (code == 'p') {
            prometheus = true;
        } else if (code == 'h') {
            return fputs(usage, stdout) < 0 || fflush(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
        } else {
            (void)fputs(usage, stderr);
            return HOSTVMM_EXIT_USAGE;
        }
    }
    if (!control || optind < argc) {
        log_error("metrics: --control is needed, and nothing else but --prometheus is known");
        (void)fputs(usage, stderr);
        return HOSTVMM_EXIT_USAGE;
    }
    return ask(control, prometheus);
}
