/*
 * The wall clock of a clone. Where KVM offers its paired clock (Linux's ptp_kvm) the host's time is read when
 * it is set; else it is what the host sent, and late by the time that message took. The monotonic clock goes
 * on as if there had been no snapshot.
 */
#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "agent/base/fd.h"
#include "agent/resume/parts.h"

#define NS_PER_S       INT64_C(1000000000)
#define TOLERANCE_NS   INT64_C(1000000)
#define MESSAGE_MAX_NS (60 * NS_PER_S) /* the message was under way for no longer than this */
#define PTP_DEVICE     "/dev/ptp0"

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* The clock of a device (clock_getres(2), dynamic clocks). */
static clockid_t clock_of(int fd)
{
    return (clockid_t)(~(unsigned)fd << 3 | 3);
}

int resume_clock_open(void)
{
    struct timespec now;
    int fd = open(PTP_DEVICE, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && clock_gettime(clock_of(fd), &now) < 0)
        fd_close(&fd);
    return fd;
}

/* The host's time now. What the device shows must fit what the host sent. */
static int64_t host_ns(int device, int64_t sent_ns, int64_t received_ns)
{
    struct timespec shown;
    const int64_t late_ns = sent_ns + clock_ns(CLOCK_MONOTONIC) - received_ns;
    if (device < 0 || clock_gettime(clock_of(device), &shown) < 0)
        return late_ns;
    const int64_t device_ns = (int64_t)shown.tv_sec * NS_PER_S + shown.tv_nsec;
    return device_ns >= late_ns - TOLERANCE_NS && device_ns <= late_ns + MESSAGE_MAX_NS ? device_ns : late_ns;
}

int resume_clock_step(int device, uint64_t sent_ns, uint64_t received_ns, char *why)
{
    if (sent_ns > INT64_MAX / 2)
        return resume_why(why, -EINVAL, "the host's time is out of range");
    const int64_t start = clock_ns(CLOCK_MONOTONIC);
    const int64_t target = host_ns(device, (int64_t)sent_ns, (int64_t)received_ns);
    const struct timespec time = {.tv_sec = (time_t)(target / NS_PER_S),
                                  .tv_nsec = (long)(target % NS_PER_S)};
    if (clock_settime(CLOCK_REALTIME, &time) < 0)
        return resume_why(why, -errno, "clock_settime(CLOCK_REALTIME)");
    const int64_t shown = clock_ns(CLOCK_REALTIME);
    const int64_t took = clock_ns(CLOCK_MONOTONIC) - start; /* this processor may have been away */
    if (shown < target - TOLERANCE_NS || shown > target + took + TOLERANCE_NS)
        return resume_why(why, -ERANGE, "CLOCK_REALTIME does not show what was set");
    return 0;
}
