/*
 * The agent's side of a snapshot: a first identity, what to forget, and the steps that make a clone one of
 * its own (resume.h has the order; each step is checked, and says which call failed). The parts are in
 * agent/resume/; here are the table, the pool, and what they share.
 *
 * One instance a process, in static storage: nothing of a resume depends on memory being to be had.
 */
#include "agent/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/drbg.h"
#include "agent/net/net.h"
#include "agent/process.h"
#include "agent/resume/parts.h"
#include "agent/resume/state.h"
#include "agent/tls/connections.h"

static struct resume resume_state = {.page = {.fd = -1}, .host_clock = -1};

struct resume *resume_get(void)
{
    return &resume_state;
}

int resume_why(char *why, int error, const char *what)
{
    (void)snprintf(why, RESUME_WHY_BYTES, "%s: %s", what, strerror(-error));
    return error;
}

int resume_why_at(char *why, int error, const char *what, const char *path)
{
    (void)snprintf(why, RESUME_WHY_BYTES, "%s %s: %s", what, path, strerror(-error));
    return error;
}

/* ---- entropy ---- */

static int pool_fd = -1; /* kept from the first life on: a clone looks up no path */

static bool open_pool(void)
{
    if (pool_fd < 0)
        pool_fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    return pool_fd >= 0;
}

/*
 * Both are needed: the first alone leaves the generator of a pool that is ready as it was until its next
 * turn; the second makes that turn now. With our kernel it also renews TCP's key (kernel-config/WHY.md).
 */
static int reseed_kernel(const uint8_t *seed, char *why)
{
    struct {
        struct rand_pool_info info;
        uint8_t bytes[PROTO_SEED_BYTES];
    } pool = {.info = {.entropy_count = PROTO_SEED_BYTES * 8, .buf_size = PROTO_SEED_BYTES}};
    int error = 0;
    if (!open_pool())
        return resume_why(why, -errno, "open /dev/urandom");
    memcpy(pool.bytes, seed, PROTO_SEED_BYTES);
    if (ioctl(pool_fd, RNDADDENTROPY, &pool) < 0)
        error = resume_why(why, -errno, "ioctl(RNDADDENTROPY)");
    else if (ioctl(pool_fd, RNDRESEEDCRNG) < 0)
        error = resume_why(why, -errno, "ioctl(RNDRESEEDCRNG)");
    explicit_bzero(&pool, sizeof pool);
    return error;
}

static int step_entropy(struct resume *resume, const struct resume_order *order, char *why)
{
    drbg_forget(&resume->drbg);
    int error = resume->in_guest ? reseed_kernel(order->seed, why) : 0;
    if (error)
        return error;
    error = drbg_instantiate(&resume->drbg, order->seed, sizeof order->seed);
    return error ? resume_why(why, error, "getrandom for the agent's generator") : 0;
}

/* ---- clock ---- */

static int step_clock(struct resume *resume, const struct resume_order *order, char *why)
{
    return resume->in_guest
               ? resume_clock_step(resume->host_clock, order->realtime_ns, order->received_ns, why)
               : 0;
}

/* ---- sockets, identity, network, secrets, connections, generation ---- */

static int step_sockets(struct resume *resume, const struct resume_order *order, char *why)
{
    (void)order;
    return resume->in_guest ? resume_sockets_destroy(why) : 0;
}

static int set_hostname(const char *name, char *why)
{
    char shown[PROTO_HOSTNAME_MAX_BYTES + 1] = "";
    const size_t size = strnlen(name, PROTO_HOSTNAME_MAX_BYTES + 1);
    if (size > PROTO_HOSTNAME_MAX_BYTES)
        return resume_why(why, -EINVAL, "the host's name for this clone is too long");
    if (sethostname(name, size) < 0)
        return resume_why(why, -errno, "sethostname");
    if (gethostname(shown, sizeof shown) < 0 || strncmp(shown, name, sizeof shown) != 0)
        return resume_why(why, -EIO, "gethostname does not give the name that was set");
    return 0;
}

static int step_identity(struct resume *resume, const struct resume_order *order, char *why)
{
    if (!resume->in_guest)
        return 0;
    int error = order->hostname[0] ? set_hostname(order->hostname, why) : 0;
    if (error == 0)
        error = resume_machine_id_write(resume->machine_id, false, why);
    if (error == 0)
        error = resume_boot_id_write(resume->boot_id, false, why);
    return error;
}

static int step_network(struct resume *resume, const struct resume_order *order, char *why)
{
    const size_t size = strnlen(order->network, sizeof order->network);
    return resume->in_guest ? net_renew(order->network, size, why) : 0;
}

static int step_secrets(struct resume *resume, const struct resume_order *order, char *why)
{
    return resume_secrets_write(resume->secrets, resume->in_guest ? FUNCTION_GID : (gid_t)-1, order->secrets,
                                order->secret_count, why);
}

static int step_connections(struct resume *resume, const struct resume_order *order, char *why)
{
    (void)resume;
    return connections_renew(connections_get(), order->secrets, order->secret_count, why);
}

static int step_generation(struct resume *resume, const struct resume_order *order, char *why)
{
    const uint64_t next = resume->generation + 1;
    const uint64_t generation = order->generation > next ? order->generation : next;
    const bool has_page = resume->in_guest || resume->page.page;
    const int error = has_page ? resume_page_write(&resume->page, generation, order->clone_id, why) : 0;
    if (error == 0)
        resume->generation = generation;
    return error;
}

const struct resume_step resume_steps[] = {
    {.name = "entropy", .run = step_entropy},
    {.name = "clock", .run = step_clock},
    {.name = "sockets", .run = step_sockets},
    {.name = "identity", .run = step_identity},
    {.name = "network", .run = step_network},
    {.name = "secrets", .run = step_secrets},
    {.name = "connections", .run = step_connections},
    {.name = "generation", .run = step_generation},
    {.name = NULL},
};

uint64_t resume_generation(const struct resume *resume)
{
    return resume->generation;
}

/* ---- the first life, and what a snapshot must not hold ---- */

static int give_identity(struct resume *resume, char *why)
{
    int error = resume_machine_id_write(resume->machine_id, true, why);
    if (error == 0)
        error = resume_boot_id_write(resume->boot_id, true, why);
    if (error == 0)
        error = resume_mount_over(resume->machine_id, "/etc/machine-id", why);
    if (error == 0)
        error = resume_mount_over(resume->boot_id, "/proc/sys/kernel/random/boot_id", why);
    return error;
}

static int copy_place(char *to, const char *from)
{
    const size_t size = from ? strlen(from) : 0;
    if (size >= RESUME_PLACE_BYTES)
        return -ENAMETOOLONG;
    if (size > 0)
        memcpy(to, from, size);
    to[size] = '\0';
    return 0;
}

int resume_begin_life(struct resume *resume, const struct resume_places *places, int in_guest)
{
    char why[RESUME_WHY_BYTES] = "a path is too long";
    resume->in_guest = in_guest != 0;
    if (in_guest && resume->host_clock < 0)
        resume->host_clock = resume_clock_open();
    if (in_guest) {
        resume_sockets_prepare();
        (void)open_pool(); /* the step says why not */
    }
    resume_page_close(&resume->page);
    int error = copy_place(resume->machine_id, places->machine_id);
    if (error == 0)
        error = copy_place(resume->boot_id, places->boot_id);
    if (error == 0)
        error = copy_place(resume->secrets, places->secrets);
    if (error == 0 && places->generation)
        error = resume_page_open(&resume->page, places->generation, 1, why);
    if (error == 0) {
        resume->generation = 1;
        error = drbg_instantiate(&resume->drbg, NULL, 0);
        if (error)
            (void)resume_why(why, error, "getrandom for the agent's generator");
    }
    if (error == 0 && in_guest)
        error = give_identity(resume, why);
    if (error)
        log_error("cannot give this guest an identity: %s", why);
    return error;
}

/*
 * Clean pages of the image come back from the drive; in a snapshot they would only be read and stored. What
 * is dropped is freed after a grace period of RCU: waiting for its end is not left to every clone, which
 * would write a hundred pages over it. A kernel that offers no way to wait costs only that.
 */
static int drop_page_cache(char *why)
{
    sync();
    const int error = fd_write_file("/proc/sys/vm/drop_caches", "3");
    (void)fd_write_file("/sys/module/rcutree/parameters/do_rcu_barrier", "1");
    return error ? resume_why(why, error, "write /proc/sys/vm/drop_caches") : 0;
}

int resume_forget(struct resume *resume, char *why)
{
    drbg_forget(&resume->drbg);
    const int error = resume_secrets_remove(resume->secrets, why);
    if (error)
        return error;
    return resume->in_guest ? drop_page_cache(why) : 0;
}
