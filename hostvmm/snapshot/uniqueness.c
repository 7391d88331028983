/*
 * See uniqueness.h. The id is 128 random bits. The generation must differ between clones as well, fit 64 bits
 * and only ever rise in one guest: it is the host's time in microseconds, followed by 12 random bits for
 * clones of the same microsecond.
 */
#include "hostvmm/snapshot/uniqueness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

#define GENERATION_RANDOM_BITS 12

static int add_secret(struct uniqueness *uniqueness, const struct config_secret *given)
{
    struct lifeline_resume *resume = &uniqueness->resume;
    struct lifeline_secret *secret = &resume->secrets[resume->secret_count];
    uint8_t *to = uniqueness->secrets + uniqueness->secret_bytes;
    const int64_t size = fd_read_file(given->path, to, PROTO_SECRET_MAX_BYTES);
    if (size < 0) {
        log_error("secret %s: %s: %s", given->name, given->path,
                  size == -EFBIG ? "more than 4096 bytes" : strerror((int)-size));
        return (int)size;
    }
    memcpy(secret->name, given->name, strlen(given->name) + 1);
    secret->data = to;
    secret->size = (size_t)size;
    uniqueness->secret_bytes += (size_t)size;
    resume->secret_count++;
    return 0;
}

int uniqueness_init(struct uniqueness *uniqueness, const struct config *config)
{
    int error = 0;
    uniqueness->resume.hooks_limit_ms = config->hooks_ms;
    uniqueness->resume.secret_count = 0;
    uniqueness->resume.network = NULL;
    uniqueness->secrets = NULL;
    uniqueness->secret_bytes = 0;
    if (config->secret_count == 0)
        return 0;
    uniqueness->secrets = malloc((size_t)config->secret_count * PROTO_SECRET_MAX_BYTES);
    if (!uniqueness->secrets)
        return -ENOMEM;
    for (unsigned i = 0; i < config->secret_count && error == 0; i++)
        error = add_secret(uniqueness, &config->secrets[i]);
    return error;
}

static int draw(void *to, size_t size)
{
    return getrandom(to, size, 0) == (ssize_t)size ? 0 : -EIO; /* up to 256 bytes come whole */
}

int uniqueness_draw(struct uniqueness *uniqueness, const char *hostname)
{
    struct lifeline_resume *resume = &uniqueness->resume;
    struct timespec now;
    uint64_t random;
    int error = draw(resume->seed, sizeof resume->seed);
    if (error == 0)
        error = draw(resume->clone_id, sizeof resume->clone_id);
    if (error == 0)
        error = draw(&random, sizeof random);
    if (error)
        return error;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t us = (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
    resume->generation = us << GENERATION_RANDOM_BITS | (random & ((1u << GENERATION_RANDOM_BITS) - 1));
    const uint8_t *id = resume->clone_id;
    (void)snprintf(uniqueness->hostname, sizeof uniqueness->hostname, "clone-%02x%02x%02x%02x%02x%02x", id[0],
                   id[1], id[2], id[3], id[4], id[5]);
    resume->hostname = hostname ? hostname : uniqueness->hostname;
    if (!*resume->hostname)
        resume->hostname = NULL;
    return 0;
}

void uniqueness_fini(struct uniqueness *uniqueness)
{
    if (uniqueness->secrets)
        explicit_bzero(uniqueness->secrets, uniqueness->secret_bytes);
    free(uniqueness->secrets);
    uniqueness->secrets = NULL;
    explicit_bzero(&uniqueness->resume, sizeof uniqueness->resume);
}
