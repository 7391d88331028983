/*
 * What a memory balloon is to be: apart from balloon.h for those who only carry it, as the command line and a
 * snapshot's manifest do.
 */
#ifndef HOSTVMM_DEVICE_VIRTIO_BALLOON_PLAN_H
#define HOSTVMM_DEVICE_VIRTIO_BALLOON_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_BALLOON_STATS_S_MAX 65535u

struct virtio_balloon_plan {
    bool on;             /* there is such a device at all */
    uint32_t target_mib; /* at the start */
    bool deflate_on_oom; /* the guest may take pages back before it kills a process */
    bool free_page_reporting;
    bool free_page_hinting;
    uint16_t stats_s; /* how often the guest is asked for its statistics; 0: never, for good */
};

#endif
