/* Requests about the devices of a running guest: another file, other limits, the balloon; see
 * control/OPERATOR.md. What a request has wrong is found before anything of it is done. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/operations.h"

/* ---- limits ---- */

/* A word of the request into a limit: 1 said, 0 not, -EINVAL with `refused` set. */
static int take_limit(const struct operator_request *request, enum operator_word word,
                      struct bucket_limit *limit, struct operations_reply *reply)
{
    const char *value = operator_value(request, word);
    if (!value)
        return 0;
    if (rate_parse(limit, value, strlen(value)) == 0)
        return 1;
    *reply = (struct operations_reply){.code = HOSTVMM_EXIT_USAGE, .why = "a limit: " RATE_WANTED};
    return -EINVAL;
}

/* What is said of a device's limits, or of one direction of it. Whether it makes sense. */
static bool take_wish(const struct operator_request *request, enum operator_word bandwidth,
                      enum operator_word operations, struct rate_wish *wish, struct operations_reply *reply)
{
    *wish = (struct rate_wish){.bandwidth = false};
    const int bytes = take_limit(request, bandwidth, &wish->limits.bandwidth, reply);
    const int count = bytes < 0 ? bytes : take_limit(request, operations, &wish->limits.operations, reply);
    wish->bandwidth = bytes > 0;
    wish->operations = count > 0;
    return count >= 0;
}

/* The limits that a device has, with what is wished. */
static struct rate_limits limits_with(struct rate *rate, const struct rate_wish *wish)
{
    struct rate_limits limits;
    rate_limits_now(rate, &limits);
    rate_wish_apply(wish, &limits);
    return limits;
}

/* ---- drives ---- */

/* The file at `path` for the drive. Its own file again, which it has locked: the same descriptor, as the file
 * may have grown. A descriptor or -errno, logged. */
static int open_for(const struct virtio_blk *drive, const char *path)
{
    struct stat ours;
    struct stat theirs;
    int fd = -1;
    if (fstat(drive->fd, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
        ours.st_ino == theirs.st_ino) {
        fd = fcntl(drive->fd, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? -errno : fd;
    }
    const int error = virtio_blk_open(path, drive->read_only, &fd);
    return error ? error : fd;
}

static int find_drive(const struct machine *machine, const char *id)
{
    for (unsigned i = 0; i < machine->drive_count; i++)
        if (strcmp(machine->made.drives[i].id, id) == 0)
            return (int)i;
    return -ENOENT;
}

struct operations_reply operations_drive(struct machine *machine, const struct operator_request *request)
{
    struct operations_reply reply = {.code = 0};
    struct rate_wish wish;
    const char *path = operator_value(request, OPERATOR_PATH);
    const int at = find_drive(machine, operator_value(request, OPERATOR_ID));
    if (at < 0)
        return (struct operations_reply){.code = HOSTVMM_EXIT_INPUT, .why = "there is no drive of that id"};
    if (!take_wish(request, OPERATOR_BANDWIDTH, OPERATOR_OPERATIONS, &wish, &reply))
        return reply;
    struct virtio_blk *drive = &machine->drives[at];
    if (path) {
        const int fd = open_for(drive, path);
        const int error = fd < 0 ? fd : virtio_blk_swap(drive, fd);
        if (error) {
            reply.code = error == -ENOMEM || error == -EMFILE ? HOSTVMM_EXIT_HOST : HOSTVMM_EXIT_INPUT;
            reply.why = error == -EBUSY    ? "the file is in use by another process; the drive keeps its own"
                        : error == -EINVAL ? "the file is no file or block device of at least a sector; the "
                                             "drive keeps its own"
                        : error == -EACCES ? "no permission on the file; the drive keeps its own"
                        : error == -ENOENT ? "there is no such file; the drive keeps its own"
                                           : "the file cannot be used; the drive keeps its own";
            return reply;
        }
        struct snapshot_drive *made = &machine->made.drives[at];
        (void)snprintf(made->path, sizeof made->path, "%s", path);
        log_info("drive %s: is %s now", made->id, path);
    }
    if (wish.bandwidth || wish.operations) {
        const struct rate_limits limits = limits_with(&drive->rate, &wish);
        virtio_blk_set_rate(drive, &limits);
    }
    return reply;
}

/* ---- interfaces, entropy ---- */

struct operations_reply operations_net(struct machine *machine, const struct operator_request *request)
{
    struct operations_reply reply = {.code = 0};
    struct rate_wish rx;
    struct rate_wish tx;
    const char *id = operator_value(request, OPERATOR_ID);
    const unsigned number = (unsigned)(id[0] - '0');
    _Static_assert(NETWORK_INTERFACES_MAX <= 10, "an interface's number is one digit");
    if (id[1] != '\0' || number >= machine->net_count)
        return (struct operations_reply){.code = HOSTVMM_EXIT_INPUT,
                                         .why = "there is no interface of that number"};
    if (!take_wish(request, OPERATOR_RX_BANDWIDTH, OPERATOR_RX_OPERATIONS, &rx, &reply) ||
        !take_wish(request, OPERATOR_TX_BANDWIDTH, OPERATOR_TX_OPERATIONS, &tx, &reply))
        return reply;
    struct virtio_net *net = &machine->nets[number];
    const struct rate_limits rx_limits = limits_with(&net->rx_rate, &rx);
    const struct rate_limits tx_limits = limits_with(&net->tx_rate, &tx);
    virtio_net_set_rate(net, rx.bandwidth || rx.operations ? &rx_limits : NULL,
                        tx.bandwidth || tx.operations ? &tx_limits : NULL);
    return reply;
}

struct operations_reply operations_entropy(struct machine *machine, const struct operator_request *request)
{
    struct operations_reply reply = {.code = 0};
    struct rate_wish wish;
    if (!machine->has_rng)
        return (struct operations_reply){.code = HOSTVMM_EXIT_INPUT,
                                         .why = "the guest has no entropy device"};
    if (take_wish(request, OPERATOR_BANDWIDTH, OPERATOR_OPERATIONS, &wish, &reply) &&
        (wish.bandwidth || wish.operations)) {
        const struct rate_limits limits = limits_with(&machine->rng.rate, &wish);
        virtio_rng_set_rate(&machine->rng, &limits);
    }
    return reply;
}

/* ---- balloon ---- */

static const char *const stat_names[VIRTIO_BALLOON_S_NR] = {
    [VIRTIO_BALLOON_S_SWAP_IN] = "swap_in",
    [VIRTIO_BALLOON_S_SWAP_OUT] = "swap_out",
    [VIRTIO_BALLOON_S_MAJFLT] = "major_faults",
    [VIRTIO_BALLOON_S_MINFLT] = "minor_faults",
    [VIRTIO_BALLOON_S_MEMFREE] = "free_memory",
    [VIRTIO_BALLOON_S_MEMTOT] = "total_memory",
    [VIRTIO_BALLOON_S_AVAIL] = "available_memory",
    [VIRTIO_BALLOON_S_CACHES] = "disk_caches",
    [VIRTIO_BALLOON_S_HTLB_PGALLOC] = "hugetlb_allocations",
    [VIRTIO_BALLOON_S_HTLB_PGFAIL] = "hugetlb_failures",
#ifdef VIRTIO_BALLOON_S_OOM_KILL
    [VIRTIO_BALLOON_S_OOM_KILL] = "oom_kill",
    [VIRTIO_BALLOON_S_ALLOC_STALL] = "alloc_stall",
    [VIRTIO_BALLOON_S_ASYNC_SCAN] = "async_scan",
    [VIRTIO_BALLOON_S_DIRECT_SCAN] = "direct_scan",
    [VIRTIO_BALLOON_S_ASYNC_RECLAIM] = "async_reclaim",
    [VIRTIO_BALLOON_S_DIRECT_RECLAIM] = "direct_reclaim",
#endif
};

static void put_stats(FILE *out, const struct virtio_balloon_stats *stats)
{
    const char *comma = "";
    (void)fputs(",\"stats\":{", out);
    for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++)
        if (stats->has >> i & 1 && stat_names[i]) {
            (void)fprintf(out, "%s\"%s\":%" PRIu64, comma, stat_names[i], stats->value[i]);
            comma = ",";
        }
    (void)putc('}', out);
}

static const char *yes(bool is_so)
{
    return is_so ? "true" : "false";
}

static char *balloon_text(const struct virtio_balloon *balloon)
{
    static const char *const hinting[] = {
        [BALLOON_HINTING_OFF] = "off", [BALLOON_HINTING_RUNS] = "runs", [BALLOON_HINTING_DONE] = "done"};
    struct virtio_balloon_view view;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return NULL;
    virtio_balloon_look(balloon, &view);
    (void)fprintf(out,
                  "\"balloon\":{\"target_mib\":%" PRIu64 ",\"actual_mib\":%" PRIu64
                  ",\"target_pages\":%" PRIu64 ",\"actual_pages\":%" PRIu64,
                  view.target_pages >> 8, view.actual_pages >> 8, view.target_pages, view.actual_pages);
    (void)fprintf(out,
                  ",\"deflate_on_oom\":%s,\"reporting\":%s,\"hints\":%s,\"stats_s\":%u,\"hinting\":\"%s\"",
                  yes(view.plan.deflate_on_oom), yes(view.plan.free_page_reporting),
                  yes(view.plan.free_page_hinting), view.plan.stats_s, hinting[view.hinting]);
    (void)fprintf(out,
                  ",\"inflated_pages\":%" PRIu64 ",\"deflated_pages\":%" PRIu64 ",\"reported_pages\":%" PRIu64
                  ",\"hinted_pages\":%" PRIu64 ",\"discarded_bytes\":%" PRIu64,
                  view.inflated_pages, view.deflated_pages, view.reported_pages, view.hinted_pages,
                  view.discarded_bytes);
    put_stats(out, &view.stats);
    (void)putc('}', out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static struct operations_reply change_balloon(struct virtio_balloon *balloon,
                                              const struct operator_request *request)
{
    if (operator_value(request, OPERATOR_STATS) &&
        virtio_balloon_set_stats_interval(balloon, (uint16_t)operator_number(request, OPERATOR_STATS, 0)))
        return (struct operations_reply){
            .code = HOSTVMM_EXIT_INPUT,
            .why = "statistics were off when the guest was made, and stay off; or were on, and stay on"};
    if (operator_value(request, OPERATOR_TARGET) &&
        virtio_balloon_set_target(balloon, (uint32_t)operator_number(request, OPERATOR_TARGET, 0)))
        return (struct operations_reply){.code = HOSTVMM_EXIT_INPUT,
                                         .why = "a target larger than the guest's memory"};
    int error = 0;
    if (operator_says(request, OPERATOR_HINTING, "start"))
        error = virtio_balloon_hint_start(balloon);
    else if (operator_says(request, OPERATOR_HINTING, "stop"))
        error = virtio_balloon_hint_stop(balloon);
    if (error == -EBUSY)
        return (struct operations_reply){.code = HOSTVMM_EXIT_STATE, .why = "hinting is under way"};
    if (error)
        return (struct operations_reply){.code = HOSTVMM_EXIT_INPUT,
                                         .why = "the guest's balloon has no hinting: not asked for when it "
                                                "was made, or not known to its driver"};
    return (struct operations_reply){.code = 0};
}

struct operations_reply operations_balloon(struct machine *machine, const struct operator_request *request)
{
    if (!machine->has_balloon)
        return (struct operations_reply){.code = HOSTVMM_EXIT_INPUT, .why = "the guest has no balloon"};
    struct operations_reply reply = change_balloon(&machine->balloon, request);
    if (reply.code)
        return reply;
    reply.text = balloon_text(&machine->balloon);
    if (!reply.text)
        return (struct operations_reply){.code = HOSTVMM_EXIT_HOST, .why = "no memory"};
    return reply;
}
