/*
 * Limits to what a device takes from the host: token buckets for bytes and for operations.
 *
 * A bucket holds up to `size` tokens, is refilled evenly over refill_ms, and starts full. What is in `burst`
 * is spent first, once, and never refilled. A request that is larger than the bucket passes when the bucket
 * is full, and puts it into debt: it is the average that is limited. So within any span of time T no more
 * pass than size + burst + size * T / refill_ms, and one request that is larger than the bucket. The names
 * and their meaning are the ones that Firecracker's rate limiters have.
 *
 * rate_bucket.c is pure: time is the caller's CLOCK_MONOTONIC, in nanoseconds, and may stand still; one that
 * goes back counts as standing still. The arithmetic loses no fraction of a token, and is free of overflow
 * for every limit within the bounds below, however far time jumps (tests/proof/rate_*.c).
 *
 * A struct rate belongs to the thread that serves the device; limits may be changed by any thread at any
 * time, and count from that thread's next question on.
 */
#ifndef HOSTVMM_DEVICE_RATE_H
#define HOSTVMM_DEVICE_RATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define RATE_SIZE_MAX      (UINT64_C(1) << 48) /* tokens: bytes or operations */
#define RATE_REFILL_MS_MAX UINT64_C(86400000)

struct bucket_limit {
    uint64_t size; /* 0: no limit, and the other two are 0 */
    uint64_t burst;
    uint64_t refill_ms; /* 1..RATE_REFILL_MS_MAX: from empty to full */
};

/* What one device, or one direction of it, may take. All zeros: anything. */
struct rate_limits {
    struct bucket_limit bandwidth; /* bytes */
    struct bucket_limit operations;
};

/* Limits as somebody asks for them: what is not said stays as it is. */
struct rate_wish {
    struct rate_limits limits;
    bool bandwidth; /* said */
    bool operations;
};

struct bucket {
    struct bucket_limit limit;
    uint64_t burst_left;
    uint64_t tokens;
    uint64_t debt;       /* tokens that were taken beyond what there were; tokens is 0 then */
    uint64_t fraction;   /* of the next token, in parts of the nanoseconds of a refill */
    uint64_t counted_ns; /* tokens are those of this instant */
};

struct rate {
    struct bucket bandwidth;
    struct bucket operations;
    bool limited; /* one of the two is */
    bool changed; /* atomic: wanted is to be taken over */
    pthread_mutex_t lock;
    struct rate_limits wanted;  /* below the lock */
    uint64_t (*now_ns)(void);   /* CLOCK_MONOTONIC, unless a test has another */
    uint64_t waiting_since_ns;  /* 0: nothing waits */
    uint64_t throttled_count;   /* operations that had to wait; atomic: read by others for metrics, as is */
    uint64_t throttled_wait_ns; /* how long they did, all together */
};

/* ---- rate_bucket.c. Costs beyond RATE_SIZE_MAX count as that -------------------------------------------- */

/* Whether a limit is within its bounds. */
bool bucket_limit_valid(const struct bucket_limit *limit);
/* Full, with the whole burst. The limit is valid. */
void bucket_init(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now_ns);
/* Another limit, with its whole burst: what is in the bucket stays, up to the new size, and so does its debt,
 * up to one new size. The same limit once more changes nothing. */
void bucket_change(struct bucket *bucket, const struct bucket_limit *limit, uint64_t now_ns);
/* 0: `cost` tokens may pass now (nothing is taken). Else after how many nanoseconds to ask again, at least 1
 * and at most a refill. */
uint64_t bucket_wait_ns(struct bucket *bucket, uint64_t cost, uint64_t now_ns);
/* Take them, at the instant of the last question; what is not there becomes debt. */
void bucket_take(struct bucket *bucket, uint64_t cost);

/* ---- rate.c --------------------------------------------------------------------------------------------- */

/* Without limits. */
void rate_init(struct rate *rate);
void rate_fini(struct rate *rate);
/* Any thread. The limits are valid. The device's owner wakes its thread afterwards. */
void rate_change(struct rate *rate, const struct rate_limits *limits);
void rate_limits_now(struct rate *rate, struct rate_limits *limits); /* any thread: the last that were set */
/* What was said of `wish` into `limits`. */
void rate_wish_apply(const struct rate_wish *wish, struct rate_limits *limits);

/* For the functions below, when there is a limit or was. */
uint64_t rate_ask_limited(struct rate *rate, uint64_t bytes);
void rate_charge_limited(struct rate *rate, uint64_t bytes);

/* The device's thread: may one operation of `bytes` pass now? 0, and nothing is taken yet; else nanoseconds
 * to wait. Without any limit this costs two comparisons and reads no clock. */
static inline uint64_t rate_ask(struct rate *rate, uint64_t bytes)
{
    if (!rate->limited && !__atomic_load_n(&rate->changed, __ATOMIC_RELAXED))
        return 0;
    return rate_ask_limited(rate, bytes);
}

/* The operation was done: it is taken. More bytes than were asked for become debt. */
static inline void rate_charge(struct rate *rate, uint64_t bytes)
{
    if (rate->limited)
        rate_charge_limited(rate, bytes);
}

/* Both: 0, it is taken; else nanoseconds to wait. */
static inline uint64_t rate_take(struct rate *rate, uint64_t bytes)
{
    const uint64_t wait_ns = rate_ask(rate, bytes);
    if (wait_ns == 0)
        rate_charge(rate, bytes);
    return wait_ns;
}

/* For a poll or a timer. */
static inline struct timespec rate_timespec(uint64_t wait_ns)
{
    const struct timespec time = {
        .tv_sec = (time_t)(wait_ns / 1000000000u),
        .tv_nsec = (long)(wait_ns % 1000000000u),
    };
    return time;
}

/* The device's thread stops or starts: what waited is given up, and not counted as waiting any more. */
void rate_idle(struct rate *rate);

/* ---- rate_text.c ---------------------------------------------------------------------------------------- */

/* "SIZE/REFILL_MS", "SIZE/REFILL_MS/BURST" or "none"; SIZE and BURST are decimal numbers, with K, M or G
 * behind them times 1024, its square, its cube. 0, or -EINVAL: not that, or not within the bounds. */
int rate_parse(struct bucket_limit *limit, const char *text, size_t size);
#define RATE_WANTED "want SIZE/REFILL_MS[/BURST], such as 10M/1000, or none"
/* A word "PREFIXbandwidth=LIMIT" or "PREFIXoperations=LIMIT" into the wish. 1 taken, 0 another word, -EINVAL
 * its limit is none. */
int rate_wish_word(struct rate_wish *wish, const char *prefix, const char *word, size_t size);

struct state_reader;
struct state_writer;
/* Limits as a part of a device's state: what is in the buckets is not saved, a clone starts with full ones. */
void rate_save(struct rate *rate, struct state_writer *out, const char *key);
void rate_load(struct rate *rate, struct state_reader *in, const char *key);

#endif
