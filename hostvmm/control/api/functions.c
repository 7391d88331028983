/*
 * The resources that are ours alone: their routes, how a clone became unique, and what the handlers share.
 * API.md and openapi.json tell their contract.
 */
#include "hostvmm/control/api/functions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/api/functions_clones.h"

static api_handler resume_steps;

const struct api_route api_function_routes[] = {
    {.method = "GET", .pattern = "/resume-steps", .handler = resume_steps, .empty = true},
    {.method = "GET", .pattern = "/metrics", .handler = functions_metrics, .empty = true},
    {.method = "POST", .pattern = "/invocations", .handler = functions_invocation, .raw = true},
    {.method = "POST", .pattern = "/clones", .handler = functions_clones_post},
    {.method = "GET", .pattern = "/clones", .handler = functions_clones_get, .empty = true},
    {.method = "GET", .pattern = "/clones/{clone_id}", .handler = functions_clone_get, .empty = true},
    {.method = "DELETE", .pattern = "/clones/{clone_id}", .handler = functions_clone_delete, .empty = true},
    {.method = "POST",
     .pattern = "/clones/{clone_id}/invocations",
     .handler = functions_clone_invoke,
     .raw = true},
    {.method = "POST", .pattern = "/audit", .handler = functions_audit},
    {.method = NULL},
};

/* The steps in their order, and how long all of them took. */
static json_t *steps_of(const json_t *status)
{
    const json_t *told = json_object_get(status, "resume_steps");
    json_t *steps = json_array();
    json_int_t total_us = 0;
    for (size_t i = 0; i < json_array_size(told); i++) {
        const json_t *step = json_array_get(told, i);
        const char *name = json_string_value(json_object_get(step, "name"));
        const json_int_t us = json_integer_value(json_object_get(step, "us"));
        if (name && json_array_append_new(steps, json_pack("{ss sI}", "name", name, "us", us)) == 0)
            total_us += us;
    }
    return json_pack("{sI so}", "total_us", total_us, "steps", steps);
}

json_t *functions_resume_of(const json_t *status)
{
    static const char *const others[] = {"generation", "clone_id", "ready_us"};
    if (!json_object_get(status, "ready_us"))
        return NULL;
    json_t *resume = steps_of(status);
    for (size_t i = 0; i < sizeof others / sizeof others[0] && resume; i++)
        if (json_object_get(status, others[i]))
            (void)json_object_set(resume, others[i], json_object_get(status, others[i]));
    return resume;
}

static void resume_steps(struct api *api, const struct api_request *request, struct api_response *response)
{
    json_t *status = api_operate(api, request, response, "status");
    if (!status)
        return;
    response->json = functions_resume_of(status);
    if (response->json)
        response->status = 200;
    else
        api_fail(response, 400,
                 "this guest was booted, or has not resumed yet: only a clone has resume steps");
    json_decref(status);
}

int functions_header(struct api_response *response, const char *name, const char *value)
{
    char *copy = strdup(value);
    if (!copy || response->header_count == API_HEADERS_MAX) {
        free(copy);
        return copy ? -E2BIG : -ENOMEM;
    }
    response->headers[response->header_count].name = name;
    response->headers[response->header_count++].value = copy;
    return 0;
}
