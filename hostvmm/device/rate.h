/*
 * Limits to what a device takes from the host: token buckets for bytes and for operations.
 *
 * A bucket holds up to `size` tokens, is refilled evenly over refill_ms, and starts full. What is in `burst`
 * is spent first, once, and never refilled. A request that is larger than the bucket passes when the bucket
 * is full, and puts it into debt: it is the average that is limited. The names and their meaning are the ones
 * that Firecracker's rate limiters have.
 *
 * Pure but for the lock: time is the caller's CLOCK_MONOTONIC, in nanoseconds, and may stand still but not go
 * back. All arithmetic is exact and free of overflow for every limit within the bounds below (tests/proof).
 *
 * A struct rate belongs to the thread that serves the device; limits may be changed by any thread at any
 * time, and count from that thread's next question on.
 */
#ifndef HOSTVMM_DEVICE_RATE_H
#define HOSTVMM_DEVICE_RATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define RATE_SIZE_MAX      (UINT64_C(1) << 48) /* tokens: bytes or operations */
#define RATE_REFILL_MS_MAX UINT64_C(86400000)

struct bucket_limit {
    uint64_t size; /* 0: no limit, and the other two mean nothing */
    uint64_t burst;
    uint64_t refill_ms; /* 1..RATE_REFILL_MS_MAX: from empty to full */
};

/* What one device, or one direction of it, may take. All zeros: anything. */
struct rate_limits {
    struct bucket_limit bandwidth; /* bytes */
    struct bucket_limit operations;
};

struct bucket {
    struct bucket_limit limit;
    uint64_t burst_left;
    uint64_t tokens;
    uint64_t debt;       /* tokens that were taken beyond what there were */
    uint64_t counted_ns; /* tokens are those of this instant */
};

struct rate {
    struct bucket bandwidth;
    struct bucket operations;
    pthread_mutex_t lock; /* of the two that follow */
    struct rate_limits wanted;
    bool changed; /* atomic: wanted is to be taken over */
};

/* Whether a limit is within its bounds. Pure. */
bool bucket_limit_valid(const struct bucket_limit *limit);
/* Full, with the whole burst. The limit is valid. */
void bucket_init(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now_ns);
/* Another limit: what is in the bucket stays, up to the new size. */
void bucket_change(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now_ns);
/* 0: `cost` tokens may pass now (nothing is taken). Else after how many nanoseconds to ask again, at least 1. */
uint64_t bucket_wait_ns(struct bucket *bucket, uint64_t cost, uint64_t now_ns);
/* Take them; bucket_wait_ns was 0 for the same cost and instant. */
void bucket_take(struct bucket *bucket, uint64_t cost);

void rate_init(struct rate *rate, const struct rate_limits *limits, uint64_t now_ns);
void rate_fini(struct rate *rate);
/* Any thread. The limits are valid. The device's owner wakes its thread afterwards. */
void rate_change(struct rate *rate, const struct rate_limits *limits);
void rate_limits_now(struct rate *rate, struct rate_limits *limits); /* any thread: the last that were set */
/* The device's thread, for one operation of `bytes`: 0, both are taken; else nanoseconds to wait. Without any
 * limit this costs two comparisons and reads no clock: now_ns is a function. */
uint64_t rate_take(struct rate *rate, uint64_t bytes);

#endif
