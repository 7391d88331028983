/*
 * hostvmm: the virtual machine monitor. This file is its table of contents: each command and where it goes.
 */
#include <stdio.h>
#include <string.h>

#include "agent/base/log.h"
#include "hostvmm/control/api/server.h"
#include "hostvmm/control/control.h"
#include "hostvmm/exit.h"
#include "hostvmm/logs.h"
#include "hostvmm/restore.h"
#include "hostvmm/run.h"
#include "hostvmm/snapshot/inspect.h"
#include "hostvmm/snapshot/rehearsal.h"

#ifndef HOSTVMM_VERSION
#define HOSTVMM_VERSION "development"
#endif

static struct timeline timeline;
static struct config config;

static int with_config(enum config_command command, int argc, char **argv)
{
    char why[256];
    int code;
    switch (config_parse(&config, command, argc, argv, why, sizeof why)) {
    case CONFIG_OK:
        if (logs_begin(&config, "hostvmm"))
            return HOSTVMM_EXIT_HOST;
        if (command == CONFIG_RESTORE)
            return restore_clones(&config, &timeline);
        code = run_guest(&config, &timeline, NULL);
        if (code == 0 && config.rehearse)
            rehearsal_run(&config);
        return code;
    case CONFIG_HELP:
        return fputs(config_help(command), stdout) < 0 || fflush(stdout) ? HOSTVMM_EXIT_HOST
                                                                         : HOSTVMM_EXIT_OK;
    case CONFIG_BAD:
        break;
    }
    log_error("%s: %s", argv[0], why);
    return HOSTVMM_EXIT_USAGE;
}

static int command_run(int argc, char **argv)
{
    return with_config(CONFIG_RUN, argc, argv);
}

/* Of a guest of its own, or of a running one, which is asked through its control socket. */
static int command_snapshot(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--control", 9) == 0)
            return control_snapshot_main(argc, argv);
    return with_config(CONFIG_SNAPSHOT, argc, argv);
}

static int command_restore(int argc, char **argv)
{
    return with_config(CONFIG_RESTORE, argc, argv);
}

static int command_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return puts("hostvmm " HOSTVMM_VERSION) < 0 || fflush(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
}

static int command_help(int argc, char **argv);

static const struct command {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", command_run, "boot a guest and run it until it powers off"},
    {"snapshot", command_snapshot, "save an initialised guest, to be restored many times"},
    {"restore", command_restore, "run clones of a snapshot"},
    {"inspect", inspect_main, "show what is in a snapshot"},
    {"invoke", control_invoke_main, "send an event to the function in a running guest"},
    {"ctl", control_ctl_main, "ask a hostvmm that was started with --api-sock"},
    {"metrics", control_metrics_main, "print the counters of a running guest"},
    {"audit", control_audit_main, "look for what the clones of a snapshot share"},
    {"api", api_main, "serve the control API, as Firecracker's clients know it, for one guest"},
    {"doctor", control_doctor_main, "say what this machine can do and, if it cannot, why"},
    {"version", command_version, "print the version"},
    {"help", command_help, "print this"},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static int command_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    (void)puts("usage: hostvmm COMMAND [option]...\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)printf("  %-8s %s\n", commands[i].name, commands[i].summary);
    (void)puts("\n`hostvmm COMMAND --help` tells a command's options and exit codes.");
    return fflush(stdout) ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_OK;
}

int main(int argc, char **argv)
{
    timeline_begin(&timeline);
    log_setup("hostvmm", LOG_LEVEL_INFO, 2);
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0)
        name = "version";
    if (strncmp(name, "--", 2) == 0) /* Firecracker's way to start it */
        return api_main(argc, argv);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].main(argc - 1, argv + 1);
    log_error("%s%s; `hostvmm help` lists the commands", *name ? "unknown command " : "want a command", name);
    return HOSTVMM_EXIT_USAGE;
}
