/* See openapi_page.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostvmm/control/api/model.h"
#include "hostvmm/control/api/route.h"
#include "tests/unit/control/openapi_page.h"

json_t *page;
unsigned complaints;
int messages;

/* http.c's: there is no HTTP. */
const char *api_header(const struct api_request *request, const char *name)
{
    (void)request;
    (void)name;
    return NULL;
}

/* ---- the page ---- */

json_t *resolve(json_t *schema)
{
    static const char begin[] = "#/components/schemas/";
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    if (!ref)
        return schema;
    assert_true(strncmp(ref, begin, sizeof begin - 1) == 0);
    json_t *found = json_object_get(json_object_get(json_object_get(page, "components"), "schemas"),
                                    ref + sizeof begin - 1);
    if (!found)
        fail_msg("%s is nowhere", ref);
    return found;
}

json_t *path_get(json_t *object, const char *one, const char *two, const char *three)
{
    json_t *inner = json_object_get(json_object_get(object, one), two);
    return three ? json_object_get(inner, three) : inner;
}

json_t *body_schema(json_t *operation)
{
    json_t *schema =
        json_object_get(path_get(operation, "requestBody", "content", "application/json"), "schema");
    return schema ? resolve(schema) : NULL;
}

bool has_text(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
            return true;
    return false;
}

json_t *base_of(json_t *schema)
{
    json_t *base = json_object();
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        json_object_set_new(base, name, example_of(path_get(schema, "properties", name, NULL)));
    }
    return base;
}

json_t *example_of(json_t *schema)
{
    assert_non_null(schema);
    schema = resolve(schema);
    json_t *example = json_object_get(schema, "example");
    if (example)
        return json_deep_copy(example);
    if (!json_object_get(schema, "properties"))
        fail_msg("a schema without an example");
    return base_of(schema);
}

/* The required members, and those of one of the alternatives: the one with `name`, or the first. */
json_t *base_with(json_t *schema, const char *name)
{
    json_t *base = base_of(schema);
    const json_t *choices = json_object_get(schema, "oneOf");
    const json_t *choice = json_array_get(choices, 0);
    for (size_t i = 0; i < json_array_size(choices); i++)
        if (name && has_text(json_object_get(json_array_get(choices, i), "required"), name))
            choice = json_array_get(choices, i);
    const json_t *members = json_object_get(choice, "required");
    for (size_t i = 0; i < json_array_size(members); i++) {
        const char *member = json_string_value(json_array_get(members, i));
        json_object_set_new(base, member, example_of(path_get(schema, "properties", member, NULL)));
    }
    return base;
}

/* ---- asking ---- */

/* The pattern with a drive's, an interface's or a clone's name in it. */
static void path_of(const char *pattern, char *path, size_t size)
{
    const char *open = strchr(pattern, '{');
    const char *close = open ? strchr(open, '}') : NULL;
    const char *name = !open                             ? ""
                       : strncmp(open, "{drive", 6) == 0 ? "rootfs"
                       : strncmp(open, "{iface", 6) == 0 ? "net1"
                                                         : "7";
    snprintf(path, size, "%.*s%s%s", open ? (int)(open - pattern) : (int)strlen(pattern), pattern, name,
             close ? close + 1 : "");
}

/* To a server of its own; every status must be on the page. */
void ask(struct operation *operation, const char *body, size_t bytes, struct outcome *outcome)
{
    static struct api api;
    char path[200];
    char number[8];
    struct api_response response = {0};
    struct api_request request = {.id = "0123456789abcdef", .method = operation->method, .path = path};
    path_of(operation->pattern, path, sizeof path);
    char *copy = malloc(bytes ? bytes : 1);
    assert_non_null(copy);
    memcpy(copy, body, bytes);
    assert_int_equal(api_init(&api, "/proc/self/exe"), 0);
    api.child.served = false; /* nobody starts processes here */
    route_handle(&api, &request, copy, bytes, &response);
    api_fini(&api);
    assert_int_equal(dup2(messages, 2), 2);
    free(copy);
    outcome->status = response.status;
    const char *fault = json_string_value(json_object_get(response.json, "fault_message"));
    snprintf(outcome->fault, sizeof outcome->fault, "%s", fault ? fault : "");
    json_decref(outcome->json);
    outcome->json = json_incref(response.json);
    if (response.status >= 400 && !fault) {
        print_error("%s %s: %d without a fault_message\n", operation->method, path, response.status);
        complaints++;
    }
    route_free(&response);
    snprintf(number, sizeof number, "%d", outcome->status);
    if (!json_object_get(json_object_get(operation->about, "responses"), number))
        fail_msg("%s %s gives %s, which is not on the page: %s", operation->method, path, number,
                 outcome->fault);
    json_object_set_new(operation->seen, number, json_true());
}

void ask_json(struct operation *operation, const json_t *body, struct outcome *outcome)
{
    char *text = json_dumps(body, JSON_COMPACT);
    assert_non_null(text);
    ask(operation, text, strlen(text), outcome);
    free(text);
}

bool is(const struct operation *operation, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(operation->about, key));
    return text && strcmp(text, value) == 0;
}

void blame(const struct operation *operation, const json_t *body, const struct outcome *outcome,
           const char *what)
{
    char *text = json_dumps(body, JSON_COMPACT);
    print_error("%s %s %s: %s, not %d: %s\n", operation->method, operation->pattern, text, what,
                outcome->status, outcome->fault);
    complaints++;
    free(text);
}

bool is_of_the_body(const struct outcome *outcome)
{
    return strstr(outcome->fault, "unknown field") || strstr(outcome->fault, "missing field") ||
           strstr(outcome->fault, "deserializ") || strstr(outcome->fault, ": want ");
}

/* Taken, but that it is too early for it. */
static bool before_start(const struct outcome *outcome)
{
    return strstr(outcome->fault, "before starting the microVM") ||
           strstr(outcome->fault, "without kernel configuration");
}

void expect_taken(struct operation *operation, const json_t *body)
{
    struct outcome outcome = {0};
    ask_json(operation, body, &outcome);
    if (is(operation, "x-when", "after")) {
        if (outcome.status != 400 || !before_start(&outcome))
            blame(operation, body, &outcome, "is to be taken, but before the start");
    } else if (json_object_get(operation->about, "x-needs")) {
        if (outcome.status < 300 || is_of_the_body(&outcome))
            blame(operation, body, &outcome, "is to be taken as far as it goes");
    } else if (outcome.status < 200 || outcome.status > 299) {
        blame(operation, body, &outcome, "is to be taken");
    }
    json_decref(outcome.json);
}

/* `name` is in the refusal; `known`: as of a member that there is. */
void expect_refused(struct operation *operation, const json_t *body, const char *name, bool known)
{
    struct outcome outcome = {0};
    ask_json(operation, body, &outcome);
    if (outcome.status != 400 || !strstr(outcome.fault, name) ||
        (known && strstr(outcome.fault, "unknown field")) || strstr(outcome.fault, "the microVM"))
        blame(operation, body, &outcome, name);
    json_decref(outcome.json);
}
