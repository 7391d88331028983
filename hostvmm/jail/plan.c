/* The items of --jail, and what follows from them: see jail.h. Pure. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/jail/jail.h"

#define UID_LAST      0xfffffffeu /* the one after means "none" */
#define ITEM_MAX      (JAIL_PATH_MAX + 16)
#define COUNTS_ON     "+%n"
#define CPU_MOST      100000u /* a thousand processors */
#define MEMORY_MOST   16777216u
#define THREADS_MOST  32768u
#define FILES_LEAST   64u
#define FILES_MOST    1048576u
#define IO_RATE_LEAST 4096u

static int refuse(char *why, const char *item, const char *wanted)
{
    (void)snprintf(why, JAIL_WHY_BYTES, "%.100s: %s", item, wanted);
    return -EINVAL;
}

/* All of `text` as a number within [min, max]. */
static bool number(const char *text, size_t size, uint64_t min, uint64_t max, uint64_t *to)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        const uint64_t digit = (uint64_t)(text[i] - '0');
        if (digit > max || value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *to = value;
    return size > 0 && value >= min;
}

/* The same, whole, into a field. */
static bool field(const char *text, uint32_t min, uint32_t max, uint32_t *to)
{
    uint64_t value;
    if (!number(text, strlen(text), min, max, &value))
        return false;
    *to = (uint32_t)value;
    return true;
}

static bool on_id(const char *value, uint32_t *to, bool *counts_on)
{
    uint64_t id;
    size_t size = strlen(value);
    const size_t tail = sizeof COUNTS_ON - 1;
    const bool counts = size > tail && strcmp(value + size - tail, COUNTS_ON) == 0;
    if (counts)
        size -= tail;
    if (!number(value, size, 1, UID_LAST - 65536u, &id))
        return false;
    *counts_on = counts;
    *to = (uint32_t)id;
    return true;
}

static bool copy_path(char *to, const char *value)
{
    const size_t size = strlen(value);
    if (size == 0 || size > JAIL_PATH_MAX)
        return false;
    memcpy(to, value, size + 1);
    return true;
}

/* A path below the mount, which leads nowhere else. */
static bool on_cgroup(struct jail_plan *plan, const char *value)
{
    plan->no_cgroup = strcmp(value, "none") == 0;
    if (plan->no_cgroup)
        return true;
    while (*value == '/')
        value++;
    for (const char *at = value; *at;) {
        const size_t size = strcspn(at, "/");
        if ((size == 1 && at[0] == '.') || (size == 2 && at[0] == '.' && at[1] == '.'))
            return false;
        at += size;
        at += strspn(at, "/");
    }
    return copy_path(plan->cgroup, value);
}

/* MAJOR:MINOR/READ/WRITE, as the line that io.max takes. */
static bool on_io(struct jail_plan *plan, const char *value)
{
    static const char ends[] = ":/";
    uint64_t parts[4];
    for (unsigned i = 0; i < 4; i++) {
        const char *end = i < 3 ? strchr(value, ends[i > 0]) : value + strlen(value);
        if (!end || !number(value, (size_t)(end - value), i < 2 ? 0 : IO_RATE_LEAST,
                            i < 2 ? 0xfffffu : UINT64_MAX / 2, &parts[i]))
            return false;
        value = end + (i < 3);
    }
    (void)snprintf(plan->io, sizeof plan->io, "%llu:%llu rbps=%llu wbps=%llu", (unsigned long long)parts[0],
                   (unsigned long long)parts[1], (unsigned long long)parts[2], (unsigned long long)parts[3]);
    return true;
}

static bool on_dir(struct jail_plan *plan, const char *value)
{
    return *value == '/' && plan->dir_count < JAIL_DIRS_MAX &&
           copy_path(plan->dirs[plan->dir_count], value) && ++plan->dir_count;
}

static int take(struct jail_plan *plan, const char *item, char *why)
{
    const size_t size = strcspn(item, "=");
    const char *value = item[size] ? item + size + 1 : "";
    const char *const names[] = {"uid", "gid", "cgroup", "cpu", "memory", "pids", "files", "io", "dir"};
    unsigned which = 0;
    while (which < sizeof names / sizeof *names &&
           (strlen(names[which]) != size || strncmp(names[which], item, size) != 0))
        which++;
    switch (which) {
    case 0:
        return on_id(value, &plan->uid, &plan->uid_counts)
                   ? 0
                   : refuse(why, item, "want a uid above 0 (and +%n)");
    case 1:
        return on_id(value, &plan->gid, &plan->gid_counts)
                   ? 0
                   : refuse(why, item, "want a gid above 0 (and +%n)");
    case 2:
        return on_cgroup(plan, value)
                   ? 0
                   : refuse(why, item, "want a path below the cgroup v2 mount, without . and .., or none");
    case 3:
        return field(value, 1, CPU_MOST, &plan->cpu_percent)
                   ? 0
                   : refuse(why, item, "want percent of one processor, from 1 to 100000");
    case 4:
        return field(value, 16, MEMORY_MOST, &plan->memory_mib)
                   ? 0
                   : refuse(why, item, "want MiB, from 16 to 16777216");
    case 5:
        return field(value, 4, THREADS_MOST, &plan->pids)
                   ? 0
                   : refuse(why, item, "want threads, from 4 to 32768");
    case 6:
        return field(value, FILES_LEAST, FILES_MOST, &plan->files)
                   ? 0
                   : refuse(why, item, "want descriptors, from 64 to 1048576");
    case 7:
        return on_io(plan, value) ? 0
                                  : refuse(why, item,
                                           "want MAJOR:MINOR/READ/WRITE, the device's numbers and bytes a "
                                           "second, 4096 at least");
    case 8:
        return on_dir(plan, value) ? 0 : refuse(why, item, "want an absolute path, at most 8 of them");
    default:
        return refuse(why, item,
                      "want default, or uid=, gid=, cgroup=, cpu=, memory=, pids=, files=, io=, dir=");
    }
}

int jail_parse(struct jail_plan *plan, const char *text, char *why)
{
    char item[ITEM_MAX];
    memset(plan, 0, sizeof *plan);
    plan->on = true;
    if (strcmp(text, "default") == 0)
        return 0;
    for (;;) {
        const size_t size = strcspn(text, ",");
        if (size == 0 || size >= sizeof item)
            return refuse(why, text, size ? "longer than any item" : "want an item");
        memcpy(item, text, size);
        item[size] = '\0';
        const int error = take(plan, item, why);
        if (error || !text[size])
            return error;
        text += size + 1;
    }
}

void jail_for_clone(struct jail_plan *plan, unsigned number)
{
    plan->uid += plan->uid_counts ? number : 0;
    plan->gid += plan->gid_counts ? number : 0;
    plan->uid_counts = plan->gid_counts = false;
}
