/* /balloon, its statistics and its hinting. */
#include <stdio.h>
#include <string.h>

#include "hostvmm/control/api/model.h"

#define STATS_S_MAX 65535

static const struct model_member balloon_members[] = {
    {.name = "amount_mib", .kind = MODEL_NUMBER, .required = true, .most = UINT32_MAX},
    {.name = "deflate_on_oom", .kind = MODEL_FLAG, .required = true},
    {.name = "stats_polling_interval_s", .kind = MODEL_NUMBER, .most = STATS_S_MAX},
    {.name = "free_page_hinting", .kind = MODEL_FLAG},
    {.name = "free_page_reporting", .kind = MODEL_FLAG},
    {.name = NULL},
};

static const struct model_member target_members[] = {
    {.name = "amount_mib", .kind = MODEL_NUMBER, .required = true, .most = UINT32_MAX},
    {.name = NULL},
};

static const struct model_member interval_members[] = {
    {.name = "stats_polling_interval_s", .kind = MODEL_NUMBER, .required = true, .most = STATS_S_MAX},
    {.name = NULL},
};

static const struct model_member start_members[] = {
    {.name = "acknowledge_on_stop", .kind = MODEL_FLAG},
    {.name = NULL},
};

static json_t *balloon_of(const struct api *api, struct api_response *response)
{
    json_t *balloon = json_object_get(api->config, "balloon");
    if (!balloon)
        api_fail(response, 400, "Balloon config error: No balloon device found.");
    return balloon;
}

static bool fits(const struct api *api, uint64_t mib, struct api_response *response)
{
    if (mib <= model_number(json_object_get(api->config, "machine-config"), "mem_size_mib", 0))
        return true;
    api_fail(response, 400, "Balloon config error: Amount of pages requested is too large.");
    return false;
}

void balloon_get(struct api *api, const struct api_request *request, struct api_response *response)
{
    (void)request;
    const json_t *balloon = balloon_of(api, response);
    if (balloon)
        response->json = json_deep_copy(balloon);
}

void balloon_put(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, balloon_members, response) || !model_before_start(api, response) ||
        !fits(api, model_number(request->json, "amount_mib", 0), response))
        return;
    json_t *balloon = json_pack("{s:i,s:b,s:b}", "stats_polling_interval_s", 0, "free_page_hinting", 0,
                                "free_page_reporting", 0);
    json_t *given = model_copy(request->json);
    (void)json_object_update(balloon, given);
    json_decref(given);
    (void)json_object_set_new(api->config, "balloon", balloon);
    api->configured = true;
}

/* A running guest's: what it says it is, for the caller to let go. NULL: refused. */
static json_t *operate(struct api *api, const struct api_request *request, struct api_response *response,
                       const char *words)
{
    char line[100];
    (void)snprintf(line, sizeof line, "balloon%s", words);
    return api_operate(api, request, response, line);
}

void balloon_patch(struct api *api, const struct api_request *request, struct api_response *response)
{
    char words[40];
    if (!model_check(request->json, target_members, response) || !model_after_start(api, response))
        return;
    json_t *balloon = balloon_of(api, response);
    const uint64_t mib = model_number(request->json, "amount_mib", 0);
    if (!balloon || !fits(api, mib, response))
        return;
    (void)snprintf(words, sizeof words, "\ttarget=%llu", (unsigned long long)mib);
    json_t *answer = operate(api, request, response, words);
    if (answer)
        (void)json_object_set_new(balloon, "amount_mib", json_integer((json_int_t)mib));
    json_decref(answer);
}

/* ---- statistics ---- */

static bool has_statistics(const json_t *balloon, struct api_response *response)
{
    if (!balloon)
        return false;
    if (model_number(balloon, "stats_polling_interval_s", 0) > 0)
        return true;
    api_fail(response, 400, "Balloon config error: Statistics for the balloon device are not enabled");
    return false;
}

void balloon_patch_statistics(struct api *api, const struct api_request *request,
                              struct api_response *response)
{
    char words[40];
    if (!model_check(request->json, interval_members, response) || !model_after_start(api, response))
        return;
    json_t *balloon = balloon_of(api, response);
    const uint64_t seconds = model_number(request->json, "stats_polling_interval_s", 0);
    if (!balloon)
        return;
    if ((seconds > 0) != (model_number(balloon, "stats_polling_interval_s", 0) > 0)) {
        api_fail(response, 400, "Balloon config error: Cannot enable/disable the statistics after boot.");
        return;
    }
    (void)snprintf(words, sizeof words, "\tstats=%llu", (unsigned long long)seconds);
    json_t *answer = seconds > 0 ? operate(api, request, response, words) : NULL;
    if (answer)
        (void)json_object_set_new(balloon, "stats_polling_interval_s", json_integer((json_int_t)seconds));
    json_decref(answer);
}

/* Firecracker's members, as far as the guest told them. */
void balloon_get_statistics(struct api *api, const struct api_request *request, struct api_response *response)
{
    static const char *const names[] = {
        "swap_in",        "swap_out",         "major_faults", "minor_faults",        "free_memory",
        "total_memory",   "available_memory", "disk_caches",  "hugetlb_allocations", "hugetlb_failures",
        "oom_kill",       "alloc_stall",      "async_scan",   "direct_scan",         "async_reclaim",
        "direct_reclaim",
    };
    if (!model_after_start(api, response) || !has_statistics(balloon_of(api, response), response))
        return;
    json_t *answer = operate(api, request, response, "");
    if (!answer)
        return;
    const json_t *view = json_object_get(answer, "balloon");
    const json_t *stats = json_object_get(view, "stats");
    const uint64_t target = model_number(view, "target_pages", 0);
    const uint64_t actual = model_number(view, "actual_pages", 0);
    response->json =
        json_pack("{s:I,s:I,s:I,s:I}", "target_pages", (json_int_t)target, "actual_pages", (json_int_t)actual,
                  "target_mib", (json_int_t)(target / 256), "actual_mib", (json_int_t)(actual / 256));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *value = json_object_get(stats ? stats : view, names[i]);
        if (json_is_integer(value))
            (void)json_object_set(response->json, names[i], value);
    }
    json_decref(answer);
}

/* ---- hinting ---- */

static bool has_hinting(const struct api *api, struct api_response *response)
{
    const json_t *balloon = model_after_start(api, response) ? balloon_of(api, response) : NULL;
    if (balloon && !model_flag(balloon, "free_page_hinting", false))
        api_fail(response, 400,
                 "Balloon config error: Free page hinting is not enabled for the balloon device.");
    return balloon && model_flag(balloon, "free_page_hinting", false);
}

void balloon_hinting_start(struct api *api, const struct api_request *request, struct api_response *response)
{
    if ((request->json && !model_check(request->json, start_members, response)) ||
        !has_hinting(api, response))
        return;
    json_decref(operate(api, request, response, "\thinting=start"));
}

void balloon_hinting_stop(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (has_hinting(api, response))
        json_decref(operate(api, request, response, "\thinting=stop"));
}

/* Commands as the device numbers them: 0 stop, 1 done, from 2 on a run. */
void balloon_hinting_status(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!has_hinting(api, response))
        return;
    json_t *answer = operate(api, request, response, "");
    if (!answer)
        return;
    const char *hinting = model_text(json_object_get(answer, "balloon"), "hinting");
    const bool runs = hinting && strcmp(hinting, "runs") == 0;
    const bool done = hinting && strcmp(hinting, "done") == 0;
    response->json = json_pack("{s:i,s:i}", "host_cmd", runs ? 2 : done, "guest_cmd", runs || done ? 2 : 0);
    json_decref(answer);
}
