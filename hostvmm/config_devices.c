/* Options that give the machine its devices. See config_parts.h. */
#include <stdio.h>
#include <string.h>

#include "hostvmm/config_parts.h"

#define VSOCK_CID_MIN 3u
#define VSOCK_CID_MAX 0xfffffffeu

/* One of the words after a drive's path. */
static const char *drive_word(struct config_drive *drive, const char *word, size_t size)
{
    if (size == 2 && memcmp(word, "ro", 2) == 0) {
        drive->read_only = true;
        return NULL;
    }
    if (size > 3 && memcmp(word, "id=", 3) == 0) {
        if (config_copy(drive->id, sizeof drive->id, word + 3, size - 3) &&
            config_is_plain(drive->id, strlen(drive->id)))
            return NULL;
        return "want an id of 1 to 20 letters, digits and the characters _ - .";
    }
    const int rate = rate_wish_word(&drive->rate, "", word, size);
    if (rate < 0)
        return RATE_WANTED;
    return rate > 0 ? NULL : "want FILE[,ro][,id=NAME][,bandwidth=LIMIT][,operations=LIMIT]";
}

/* Whether a guest can have this drive beside those before it. */
static const char *drive_unfit(const struct config *config, const struct config_drive *drive)
{
    for (unsigned i = 0; i < config->drive_count; i++)
        if (strcmp(config->drives[i].id, drive->id) == 0)
            return "want an id that no other drive has";
    return NULL;
}

const char *config_on_drive(struct config *config, const char *value)
{
    if (config->drive_count == CONFIG_DRIVES_MAX)
        return "want at most " CONFIG_NUMBER_TEXT(CONFIG_DRIVES_MAX) " of them";
    struct config_drive *drive = &config->drives[config->drive_count];
    *drive = (struct config_drive){.read_only = false};
    size_t size = strcspn(value, ",");
    if (!config_copy(drive->path, sizeof drive->path, value, size))
        return "want the path of a file, of at most 1023 bytes";
    (void)snprintf(drive->id, sizeof drive->id, "drive%u", config->drive_count + 1);
    while (value[size]) {
        value += size + 1;
        size = strcspn(value, ",");
        const char *wanted = drive_word(drive, value, size);
        if (wanted)
            return wanted;
    }
    const char *unfit = drive_unfit(config, drive);
    if (!unfit)
        config->drive_count++;
    return unfit;
}

/* Limits that are an option of their own. */
static const char *take_rates(struct rate_wish *wish, const char *value)
{
    for (;; value++) {
        const size_t size = strcspn(value, ",");
        const int rate = rate_wish_word(wish, "", value, size);
        if (rate < 0)
            return RATE_WANTED;
        if (rate == 0)
            return "want bandwidth=LIMIT or operations=LIMIT, or both";
        value += size;
        if (!*value)
            return NULL;
    }
}

const char *config_on_root_rate(struct config *config, const char *value)
{
    return take_rates(&config->root_rate, value);
}

const char *config_on_rng_rate(struct config *config, const char *value)
{
    return take_rates(&config->rng_rate, value);
}

const char *config_on_vsock(struct config *config, const char *value)
{
    const size_t size = strcspn(value, ",");
    if (config->vsock)
        return "want it once";
    if (!config_copy(config->vsock_path, sizeof config->vsock_path, value, size))
        return "want the path of a Unix socket";
    if (value[size] && config->command == CONFIG_RESTORE)
        return "want PATH alone: a clone has the CID that its guest had";
    uint64_t cid = CONFIG_VSOCK_CID_DEFAULT;
    if (value[size] && (strncmp(value + size, ",cid=", 5) != 0 ||
                        !config_number(value + size + 5, VSOCK_CID_MIN, VSOCK_CID_MAX, &cid)))
        return "want PATH[,cid=N], N from 3 to 4294967294";
    config->vsock_cid = (uint32_t)cid;
    config->vsock = true;
    return NULL;
}

const char *config_on_net(struct config *config, const char *value)
{
    if (config->net_count == CONFIG_NETS_MAX)
        return "want at most " CONFIG_NUMBER_TEXT(CONFIG_NETS_MAX) " of them";
    struct config_net *net = &config->nets[config->net_count];
    if (config_net_parse(net, value, config->command == CONFIG_RESTORE, config->net_why))
        return config->net_why;
    config->net_count++;
    return NULL;
}

const char *config_on_console(struct config *config, const char *value)
{
    config->console_path = NULL;
    if (strcmp(value, "stdio") == 0)
        config->console = CONSOLE_STDIO;
    else if (strcmp(value, "none") == 0)
        config->console = CONSOLE_NONE;
    else if (*value) {
        config->console = CONSOLE_FILE;
        config->console_path = value;
    } else
        return "want stdio, none or the path of a file";
    return NULL;
}
