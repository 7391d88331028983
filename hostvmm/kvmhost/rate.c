/*
 * Print the rate of this machine's time-stamp counter in kHz, measured against the monotonic clock: what QEMU's
 * emulated processors count with. Told it, the emulated host's kernel need not measure while this machine is busy.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define MEASURES 5
#define SPAN_NS  UINT64_C(20000000)

struct instant {
    uint64_t ns;
    uint64_t ticks;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The reading of several that took least: nothing came between its two clocks. */
static struct instant read_both(void)
{
    struct instant best = {0, 0};
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 16; i++) {
        const uint64_t before = __rdtsc();
        const uint64_t ns = now_ns();
        const uint64_t took = __rdtsc() - before;
        if (took < least) {
            least = took;
            best = (struct instant){.ns = ns, .ticks = before + took / 2};
        }
    }
    return best;
}

int main(void)
{
    const struct instant from = read_both();
    const struct timespec span = {.tv_nsec = (long)SPAN_NS};
    for (int i = 0; i < MEASURES; i++)
        (void)nanosleep(&span, NULL);
    const struct instant to = read_both();
    const uint64_t ns = to.ns - from.ns;
    if (ns < SPAN_NS || to.ticks <= from.ticks)
        return 1;
    return printf("%.0f\n", (double)(to.ticks - from.ticks) * 1e6 / (double)ns) < 0;
}
