/* Options about how the guest's memory is held and given back. See config_parts.h. */
#include <string.h>

#include "hostvmm/config_parts.h"

/* The number behind `name`, when that is how the word begins. */
static bool word_number(const char *word, size_t size, const char *name, uint64_t min, uint64_t max,
                        uint64_t *number)
{
    char text[16];
    const size_t length = strlen(name);
    return size > length && memcmp(word, name, length) == 0 &&
           config_copy(text, sizeof text, word + length, size - length) &&
           config_number(text, min, max, number);
}

static bool is_word(const char *word, size_t size, const char *name)
{
    return size == strlen(name) && memcmp(word, name, size) == 0;
}

static bool take_word(struct virtio_balloon_plan *plan, const char *word, size_t size)
{
    uint64_t number = 0;
    if (is_word(word, size, "deflate-on-oom"))
        plan->deflate_on_oom = true;
    else if (is_word(word, size, "reporting"))
        plan->free_page_reporting = true;
    else if (is_word(word, size, "hinting"))
        plan->free_page_hinting = true;
    else if (word_number(word, size, "stats=", 1, VIRTIO_BALLOON_STATS_S_MAX, &number))
        plan->stats_s = (uint16_t)number;
    else
        return false;
    return true;
}

const char *config_on_balloon(struct config *config, const char *value)
{
    struct virtio_balloon_plan plan = {.on = true};
    uint64_t target = 0;
    size_t size = strcspn(value, ",");
    if (config->command == CONFIG_RESTORE)
        return "want it when the guest is booted: a clone has the balloon that its guest had";
    if (config->balloon.on)
        return "want it once";
    if (!word_number(value, size, "target=", 0, UINT32_MAX, &target))
        return "want target=MIB[,deflate-on-oom][,reporting][,hinting][,stats=SECONDS]";
    plan.target_mib = (uint32_t)target;
    while (value[size]) {
        value += size + 1;
        size = strcspn(value, ",");
        if (!take_word(&plan, value, size))
            return "want, after target=MIB, any of deflate-on-oom, reporting, hinting and stats=SECONDS, 1 "
                   "to "
                   "65535";
    }
    config->balloon = plan;
    return NULL;
}

const char *config_on_huge_pages(struct config *config, const char *value)
{
    (void)value;
    if (config->command == CONFIG_RESTORE)
        return "want it when the guest is booted: a clone's memory is its snapshot's file, shared page by "
               "page "
               "with other clones";
    config->huge_pages = true;
    return NULL;
}

const char *config_unfit_memory(const struct config *config)
{
    if (config->balloon.target_mib > config->memory_mib)
        return "--balloon: want a target of at most the guest's memory (--memory)";
    if (config->huge_pages && config->memory_mib % 2)
        return "--huge-pages: want memory of a multiple of 2 MiB (--memory)";
    return NULL;
}
