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

json_t *functions_resume_of(const json_t *status)
{
    const json_t *resume = json_object_get(status, "resume");
    return json_is_object(resume) ? json_deep_copy(resume) : NULL;
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
