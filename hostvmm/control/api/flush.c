/* See flush.h. */
#include "hostvmm/control/api/flush.h"

#include <stdint.h>
#include <time.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/route.h"

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S  UINT64_C(1000000000)

static struct timespec later(unsigned ms)
{
    const uint64_t at_ns = clock_monotonic_ns() + (uint64_t)ms * NS_PER_MS;
    return (struct timespec){.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)};
}

/* A guest that does not answer is told of by who asks for something; one line missing is no reason to end. */
static void write_line(struct api *api)
{
    struct api_request request = {.method = "PUT", .path = "/actions"};
    struct api_response response = {.status = 0};
    route_new_id(request.id);
    api_lock(api);
    const bool wanted = api->metrics >= 0 && api->state != MODEL_NOT_STARTED;
    if (wanted && !observe_flush(api, &request, &response))
        log_debug("metrics: a line is missing: %s", model_text(response.json, "fault_message"));
    api_unlock(api);
    route_free(&response);
}

static void *flush_main(void *context)
{
    struct flush *flush = context;
    (void)pthread_mutex_lock(&flush->lock);
    while (!flush->over) {
        const struct timespec until = later(flush->every_ms);
        int error = 0;
        while (!flush->over && error == 0)
            error = pthread_cond_timedwait(&flush->over_now, &flush->lock, &until);
        if (flush->over)
            break;
        (void)pthread_mutex_unlock(&flush->lock);
        write_line(flush->api);
        (void)pthread_mutex_lock(&flush->lock);
    }
    (void)pthread_mutex_unlock(&flush->lock);
    return NULL;
}

int flush_begin(struct flush *flush, struct api *api, unsigned every_ms)
{
    pthread_condattr_t monotonic;
    *flush = (struct flush){.api = api, .every_ms = every_ms};
    int error = pthread_mutex_init(&flush->lock, NULL);
    if (error == 0)
        error = pthread_condattr_init(&monotonic);
    if (error)
        return -error;
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    error = pthread_cond_init(&flush->over_now, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    if (error == 0)
        error = pthread_create(&flush->thread, NULL, flush_main, flush);
    flush->begun = error == 0;
    return -error;
}

void flush_end(struct flush *flush)
{
    if (!flush->begun)
        return;
    (void)pthread_mutex_lock(&flush->lock);
    flush->over = true;
    (void)pthread_cond_signal(&flush->over_now);
    (void)pthread_mutex_unlock(&flush->lock);
    (void)pthread_join(flush->thread, NULL);
    flush->begun = false;
}
