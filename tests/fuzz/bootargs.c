/*
 * libFuzzer target: any command line decodes without a fault into values that encode, and what was encoded
 * decodes to the same values.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "init/bootargs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_report(void *context, const char *what, const char *why)
{
    (void)context;
    const size_t length = strlen(what);
    if (length == 0 || length > 80 || strlen(why) == 0)
        abort();
    for (size_t i = 0; i < length; i++)
        if (what[i] <= ' ' || what[i] >= 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bootargs args;
    struct bootargs back;
    char line[BOOTARGS_LINE_MAX] = "";
    bootargs_defaults(&args);
    bootargs_decode(&args, (const char *)data, size, check_report, NULL);
    if (bootargs_encode(&args, line, sizeof line) != 0)
        abort();
    bootargs_defaults(&back);
    bootargs_decode(&back, line, strlen(line), check_report, NULL);
    if (strcmp(args.hostname, back.hostname) != 0 || strcmp(args.root, back.root) != 0 ||
        strcmp(args.overlay, back.overlay) != 0 || strcmp(args.agent, back.agent) != 0 ||
        args.agent_restarts != back.agent_restarts || args.grace_ms != back.grace_ms ||
        args.exit_port != back.exit_port || strcmp(args.net, back.net) != 0)
        abort();
    return 0;
}
