/*
 * The facts of facts.h, in their order: a table of what each is and who draws it. Everything is drawn
 * when it is asked for; nothing is kept.
 */
#include "agent/facts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/facts_parts.h"
#include "agent/resume/parts.h"
#include "agent/resume/state.h"

struct fact {
    uint8_t bytes[256];
    size_t size;
};

/* ---- random bytes ---- */

static int draw_getrandom(struct fact *fact, char *why)
{
    fact->size = FACTS_RANDOM_BYTES;
    return getrandom(fact->bytes, fact->size, 0) == FACTS_RANDOM_BYTES
               ? 0
               : resume_why(why, errno ? -errno : -EIO, "getrandom");
}

static int draw_vdso(struct fact *fact, char *why)
{
    fact->size = FACTS_RANDOM_BYTES;
    return facts_vdso_random(fact->bytes, why);
}

static int draw_urandom(struct fact *fact, char *why)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return resume_why(why, -errno, "open /dev/urandom");
    fact->size = FACTS_RANDOM_BYTES;
    const int error = fd_read_all(fd, fact->bytes, fact->size);
    fd_close(&fd);
    return error ? resume_why(why, error, "read /dev/urandom") : 0;
}

static int draw_drbg(struct fact *fact, char *why)
{
    fact->size = FACTS_RANDOM_BYTES;
    const int error = drbg_generate(&resume_get()->drbg, fact->bytes, fact->size);
    return error ? resume_why(why, error, "the agent's generator") : 0;
}

static int draw_at_random(struct fact *fact, char *why)
{
    fact->size = 16;
    return facts_at_random(fact->bytes, why);
}

/* ---- texts ---- */

static int read_line(struct fact *fact, const char *path, char *why)
{
    const int64_t size = fd_read_file(path, fact->bytes, sizeof fact->bytes);
    if (size < 0)
        return resume_why_at(why, (int)size, "read", path);
    fact->size = (size_t)size;
    if (fact->size > 0 && fact->bytes[fact->size - 1] == '\n')
        fact->size--;
    return 0;
}

static int draw_uuid(struct fact *fact, char *why)
{
    return read_line(fact, "/proc/sys/kernel/random/uuid", why);
}

static int draw_boot_id(struct fact *fact, char *why)
{
    return read_line(fact, "/proc/sys/kernel/random/boot_id", why);
}

static int draw_machine_id(struct fact *fact, char *why)
{
    return read_line(fact, "/etc/machine-id", why);
}

static int draw_hostname(struct fact *fact, char *why)
{
    char *name = (char *)fact->bytes;
    if (gethostname(name, sizeof fact->bytes) < 0)
        return resume_why(why, -errno, "gethostname");
    fact->size = strnlen(name, sizeof fact->bytes);
    return 0;
}

/* ---- numbers ---- */

static void put_number(struct fact *fact, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        fact->bytes[fact->size++] = (uint8_t)(value >> 8 * i);
}

static int draw_generation(struct fact *fact, char *why)
{
    (void)why;
    put_number(fact, resume_generation(resume_get()), 8);
    return 0;
}

static int draw_clock(struct fact *fact, clockid_t clock, char *why)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        return resume_why(why, -errno, "clock_gettime");
    put_number(fact, (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec, 8);
    return 0;
}

static int draw_realtime(struct fact *fact, char *why)
{
    return draw_clock(fact, CLOCK_REALTIME, why);
}

static int draw_monotonic(struct fact *fact, char *why)
{
    return draw_clock(fact, CLOCK_MONOTONIC, why);
}

static int draw_sequences(struct fact *fact, char *why)
{
    struct facts_tcp tcp;
    const int error = facts_tcp_draw(&tcp, why);
    for (size_t i = 0; i < FACTS_CONNECTIONS && error == 0; i++)
        put_number(fact, tcp.sequences[i], 4);
    return error;
}

static int draw_ports(struct fact *fact, char *why)
{
    struct facts_tcp tcp;
    const int error = facts_tcp_draw(&tcp, why);
    for (size_t i = 0; i < FACTS_CONNECTIONS && error == 0; i++)
        put_number(fact, tcp.ports[i], 2);
    return error;
}

/* ---- the table ---- */

static const struct {
    const char *name;
    int (*draw)(struct fact *fact, char *why);
    int absent; /* the error that says: there is no such thing here, leave it out */
} sources[] = {
    {"getrandom", draw_getrandom, 0},      {"getrandom_vdso", draw_vdso, -ENOSYS},
    {"dev_urandom", draw_urandom, 0},      {"kernel_uuid", draw_uuid, 0},
    {"boot_id", draw_boot_id, 0},          {"machine_id", draw_machine_id, -ENOENT},
    {"hostname", draw_hostname, 0},        {"generation", draw_generation, 0},
    {"at_random", draw_at_random, -EPERM}, {"tcp_isn", draw_sequences, -EPERM},
    {"tcp_ports", draw_ports, -EPERM},     {"drbg", draw_drbg, 0},
    {"realtime_ns", draw_realtime, 0},     {"monotonic_ns", draw_monotonic, 0},
};

int facts_collect(facts_tell *tell, void *context, char *why)
{
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        struct fact fact = {.size = 0};
        const int error = sources[i].draw(&fact, why);
        if (error && error == sources[i].absent)
            continue;
        if (error)
            return error;
        const struct proto_slice name = {(const uint8_t *)sources[i].name, strlen(sources[i].name)};
        tell(context, name, (struct proto_slice){fact.bytes, fact.size});
    }
    why[0] = '\0';
    return 0;
}
