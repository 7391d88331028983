/*
 * libFuzzer target: a command line of `run`, `snapshot` or `restore`. The first byte chooses the command, the
 * rest are its arguments, each ended by a newline.
 *
 * What is checked beside memory safety: what is refused is told, with an end to the text; what is taken has
 * what the command needs, within the limits of config.h, and its names with %n expand within theirs.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/arch/arch.h"
#include "hostvmm/config.h"

#define ARGUMENTS_MAX 64
#define INPUT_MAX     4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct config config;

static void check_text(const char *text, size_t capacity)
{
    if (!memchr(text, '\0', capacity))
        abort();
}

static void check(void)
{
    char expanded[CONFIG_PATH_MAX + 1];
    if (config.cpus < 1 || config.cpus > ARCH_VCPUS_MAX || config.memory_mib < ARCH_MEMORY_MIN_MIB ||
        config.memory_mib > ARCH_MEMORY_MAX_MIB || config.clones < 1 || config.clones > CONFIG_CLONES_MAX ||
        config.drive_count > CONFIG_DRIVES_MAX || config.net_count > CONFIG_NETS_MAX ||
        config.secret_count > CONFIG_SECRETS_MAX)
        abort();
    if ((config.command != CONFIG_RESTORE && !config.kernel) ||
        (config.command == CONFIG_SNAPSHOT && !config.out) ||
        (config.command == CONFIG_RESTORE && !config.snapshot))
        abort();
    for (unsigned i = 0; i < config.drive_count; i++) {
        check_text(config.drives[i].path, sizeof config.drives[i].path);
        check_text(config.drives[i].id, sizeof config.drives[i].id);
    }
    for (unsigned i = 0; i < config.secret_count; i++)
        check_text(config.secrets[i].name, sizeof config.secrets[i].name);
    if (config.vsock && config_expand(config.vsock_path, config.clones, expanded, sizeof expanded) == 0)
        check_text(expanded, sizeof expanded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum config_command commands[] = {CONFIG_RUN, CONFIG_SNAPSHOT, CONFIG_RESTORE};
    static char text[INPUT_MAX + 1];
    static char name[] = "command";
    char *arguments[ARGUMENTS_MAX + 1] = {name};
    char why[256];
    int count = 1;
    if (size < 1 || size > INPUT_MAX)
        return -1;
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *at = text + 1, *end; count < ARGUMENTS_MAX && (end = strchr(at, '\n')); at = end + 1) {
        *end = '\0';
        arguments[count++] = at;
    }
    memset(why, 'x', sizeof why);
    memset(&config, 0, sizeof config);
    const enum config_result result =
        config_parse(&config, commands[data[0] % 3], count, arguments, why, sizeof why);
    if (result == CONFIG_BAD) {
        check_text(why, sizeof why);
        if (!why[0])
            abort();
    }
    if (result == CONFIG_OK)
        check();
    return 0;
}
