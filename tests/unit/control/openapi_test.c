/*
 * The page of the API (openapi.json) against the server, both ways. Each operation of the page is a route, and
 * each route is on the page; of each body, made of the page's examples, every member is taken, every required
 * one is missed by its name, every unknown one refused by its name, at each level; and every status that the
 * page promises of a server without a guest is given, and no other.
 *
 * The requests go in where HTTP hands them over (route.h), to a server without a guest and without the loop
 * that starts processes. What takes a guest (x-needs) is seen by tests/integration.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/model.h"
#include "hostvmm/control/api/route.h"
#include "tests/unit/control/openapi_page.h"

#ifndef PAGE /* another one, to see that the test fails */
#define PAGE "hostvmm/control/api/openapi.json"
#endif
#define DEPTH_MAX 4

static char here[1024];
static char directory[] = "/tmp/openapi_test.XXXXXX";

/* ---- bodies ---- */

/* An object somewhere in a body: `body` as a whole, whose object at `at` is this one. */
struct place {
    struct operation *operation;
    json_t *body;
    json_t *at;
    unsigned depth;
};

static json_t *wrong_for(const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    return !type || strcmp(type, "string") == 0 ? json_integer(5) : json_string("x");
}

static void try_object(const struct place *place, json_t *schema);

/* Put a value there for as long as `then` takes, and what was there back. */
static void try_inner(const struct place *place, const char *name, json_t *schema)
{
    json_t *item = resolve(schema);
    const bool in_list = json_object_get(item, "items") != NULL;
    if (in_list)
        item = resolve(json_object_get(item, "items"));
    if (!json_object_get(item, "properties") || place->depth >= DEPTH_MAX)
        return;
    json_t *inner = base_of(item);
    json_t *value = in_list ? json_pack("[O]", inner) : json_incref(inner);
    json_object_set_new(place->at, name, value);
    const struct place below = {place->operation, place->body, inner, place->depth + 1};
    try_object(&below, item);
    json_decref(inner);
}

static void try_words(const struct place *place, const char *name, json_t *schema)
{
    const json_t *words = json_object_get(schema, "enum");
    for (size_t i = 0; i < json_array_size(words); i++) {
        json_object_set(place->at, name, json_array_get(words, i));
        if (has_text(json_object_get(schema, "x-refused-values"),
                     json_string_value(json_array_get(words, i))))
            expect_refused(place->operation, place->body, name, true);
        else
            expect_taken(place->operation, place->body);
    }
    if (words) {
        json_object_set_new(place->at, name, json_string("x_no_such_word"));
        expect_refused(place->operation, place->body, name, true);
    }
}

static void try_bounds(const struct place *place, const char *name, const json_t *schema)
{
    static const char *const bounds[] = {"minimum", "maximum"};
    for (unsigned i = 0; i < 2; i++) {
        const json_t *bound = json_object_get(schema, bounds[i]);
        const json_int_t beyond = json_integer_value(bound) + (i ? 1 : -1);
        struct outcome outcome = {0};
        if (!bound)
            continue;
        json_object_set(place->at, name, (json_t *)(uintptr_t)bound);
        ask_json(place->operation, place->body, &outcome);
        if (is_of_the_body(&outcome))
            blame(place->operation, place->body, &outcome, "is within bounds");
        json_object_set_new(place->at, name, json_integer(beyond));
        ask_json(place->operation, place->body, &outcome);
        if (outcome.status != 400 || (!strstr(outcome.fault, name) && strstr(outcome.fault, "the microVM")))
            blame(place->operation, place->body, &outcome, "is out of bounds");
        json_decref(outcome.json);
    }
}

/* One member, which the object has or not as it stands. */
static void try_member(const struct place *place, const char *name, json_t *given, bool required)
{
    json_t *schema = resolve(given);
    json_t *before = json_incref(json_object_get(place->at, name));
    json_object_set_new(place->at, name, example_of(given));
    if (json_is_true(json_object_get(schema, "x-refused")))
        expect_refused(place->operation, place->body, name, true);
    else
        expect_taken(place->operation, place->body);
    json_object_set_new(place->at, name, wrong_for(schema));
    expect_refused(place->operation, place->body, name, true);
    try_words(place, name, schema);
    try_bounds(place, name, schema);
    if (!json_object_get(schema, "x-refused"))
        try_inner(place, name, schema);
    json_object_del(place->at, name);
    if (required)
        expect_refused(place->operation, place->body, name, true);
    if (before)
        json_object_set_new(place->at, name, before);
}

/* The refusal of an unknown member lists those the server knows: they are the page's. */
static void try_unknown(const struct place *place, json_t *schema)
{
    char name[100];
    size_t known = 0;
    struct outcome outcome = {0};
    assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
    json_object_set_new(place->at, "x_no_such_member", json_integer(1));
    expect_refused(place->operation, place->body, "`x_no_such_member`", false);
    ask_json(place->operation, place->body, &outcome);
    const char *at = strstr(outcome.fault, "expected one of ");
    for (at = at ? strchr(at, '`') : NULL; at; at = strchr(at + strlen(name) + 2, '`')) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 1, "`"), at + 1);
        if (!path_get(schema, "properties", name, NULL))
            blame(place->operation, place->body, &outcome, "a member that the page does not name");
        known++;
    }
    if (known != json_object_size(json_object_get(schema, "properties")))
        blame(place->operation, place->body, &outcome, "a list of other members than the page's");
    json_object_del(place->at, "x_no_such_member");
    json_decref(outcome.json);
}

static void try_object(const struct place *place, json_t *schema)
{
    const char *name;
    json_t *member;
    try_unknown(place, schema);
    json_object_foreach(json_object_get(schema, "properties"), name, member)
    {
        /* An object with alternatives is a whole body: it is begun anew with the one that has the member. */
        if (json_object_get(schema, "oneOf")) {
            json_t *base = base_with(schema, name);
            json_object_clear(place->at);
            json_object_update(place->at, base);
            json_decref(base);
        }
        try_member(place, name, member, has_text(json_object_get(schema, "required"), name));
    }
}

static void try_body(struct operation *operation, json_t *schema)
{
    struct outcome outcome = {0};
    json_t *body = base_with(schema, NULL);
    const bool needs_a_member = json_object_get(schema, "minProperties") != NULL;
    if (needs_a_member) {
        ask_json(operation, body, &outcome);
        assert_int_equal(outcome.status, 400);
        const char *first = json_object_iter_key(json_object_iter(json_object_get(schema, "properties")));
        json_object_set_new(body, first, example_of(path_get(schema, "properties", first, NULL)));
    }
    expect_taken(operation, body);
    ask(operation, "{", 1, &outcome);
    assert_int_equal(outcome.status, 400);
    ask(operation, "[]", 2, &outcome);
    assert_int_equal(outcome.status, 400);
    if (json_is_true(path_get(operation->about, "requestBody", "required", NULL))) {
        ask(operation, "", 0, &outcome);
        assert_int_equal(outcome.status, 400);
    }
    json_decref(outcome.json);
    const struct place place = {operation, body, body, 0};
    try_object(&place, schema);
    json_decref(body);
}

/* ---- answers ---- */

/* The answer has what the page requires, and nothing that it does not name. */
static void check_answer(const struct operation *operation, const json_t *value, json_t *schema)
{
    const char *name;
    json_t *member;
    schema = resolve(schema);
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required); i++)
        if (!json_object_get(value, json_string_value(json_array_get(required, i))))
            fail_msg("%s %s: no %s in the answer", operation->method, operation->pattern,
                     json_string_value(json_array_get(required, i)));
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        json_t *known = path_get(schema, "properties", name, NULL);
        if (!known)
            fail_msg("%s %s: %s in the answer is not on the page", operation->method, operation->pattern,
                     name);
        if (json_is_object(member))
            check_answer(operation, member, known);
    }
}

static void try_without_body(struct operation *operation)
{
    struct outcome outcome = {0};
    ask(operation, "", 0, &outcome);
    json_t *schema =
        json_object_get(json_object_get(path_get(path_get(operation->about, "responses", "200", NULL),
                                                 "content", "application/json", NULL),
                                        "schema"),
                        "$ref");
    if (outcome.status == 200 && schema) {
        json_t *ref = json_pack("{sO}", "$ref", schema);
        check_answer(operation, outcome.json, ref);
        json_decref(ref);
    } else if (is(operation, "x-when", "after")) {
        assert_int_equal(outcome.status, 400);
    }
    json_decref(outcome.json);
}

/* ---- the tests ---- */

static void method_of(const char *key, char method[8])
{
    size_t used = 0;
    for (; key[used] && used < 7; used++)
        method[used] = (char)(key[used] - 'a' + 'A');
    method[used] = '\0';
}

static bool is_routed(const struct api_route *routes, const char *method, const char *pattern)
{
    for (; routes->method; routes++)
        if (strcmp(routes->method, method) == 0 && strcmp(routes->pattern, pattern) == 0)
            return true;
    return false;
}

static void test_every_operation_is_routed(void **state)
{
    const char *pattern;
    const char *key;
    json_t *item;
    json_t *operation;
    char method[8];
    (void)state;
    json_object_foreach(json_object_get(page, "paths"), pattern, item)
    {
        json_object_foreach(item, key, operation)
        {
            method_of(key, method);
            if (!is_routed(api_machine_routes, method, pattern) &&
                !is_routed(api_function_routes, method, pattern))
                fail_msg("%s %s is on the page, and not routed", method, pattern);
        }
    }
}

static void expect_on_page(const struct api_route *route)
{
    char key[8] = "";
    for (size_t i = 0; route->method[i] && i < 7; i++)
        key[i] = (char)(route->method[i] - 'A' + 'a');
    json_t *operation = path_get(page, "paths", route->pattern, key);
    if (!operation)
        fail_msg("%s %s is routed, and not on the page", route->method, route->pattern);
    if (route->raw != (path_get(operation, "requestBody", "content", "application/octet-stream") != NULL))
        fail_msg("%s %s: is its body bytes or JSON?", route->method, route->pattern);
}

static void test_every_route_is_on_the_page(void **state)
{
    (void)state;
    for (const struct api_route *route = api_machine_routes; route->method; route++)
        expect_on_page(route);
    for (const struct api_route *route = api_function_routes; route->method; route++)
        expect_on_page(route);
}

static void check_seen(const struct operation *operation)
{
    const char *status;
    json_t *response;
    json_object_foreach(json_object_get(operation->about, "responses"), status, response)
    {
        if (json_object_get(response, "x-needs"))
            continue;
        /* One that the client brings about by its headers or its size. */
        if (strcmp(status, "413") == 0)
            continue;
        if (!json_object_get(operation->seen, status))
            fail_msg("%s %s: %s is on the page, and never given", operation->method, operation->pattern,
                     status);
    }
}

static void try_operation(const char *pattern, const char *key, json_t *about)
{
    char method[8];
    method_of(key, method);
    struct operation operation = {method, pattern, about, json_object()};
    json_t *schema = body_schema(about);
    if (json_is_true(json_object_get(about, "x-absent"))) {
        struct outcome outcome = {0};
        const bool is_get = strcmp(key, "get") == 0;
        ask(&operation, "{}", is_get ? 0 : 2, &outcome);
        assert_non_null(strstr(outcome.fault, "not supported"));
        json_decref(outcome.json);
    } else if (schema) {
        try_body(&operation, schema);
    } else {
        try_without_body(&operation);
    }
    check_seen(&operation);
    json_decref(operation.seen);
}

static void test_bodies_and_statuses(void **state)
{
    const char *pattern;
    const char *key;
    json_t *item;
    json_t *about;
    (void)state;
    json_object_foreach(json_object_get(page, "paths"), pattern, item)
    {
        json_object_foreach(item, key, about)
        {
            try_operation(pattern, key, about);
        }
    }
    assert_int_equal(complaints, 0);
}

/* What one request needs of another: it is given after it. */
static void test_statuses_that_take_two_requests(void **state)
{
    static struct api api;
    char body[] = "{\"amount_mib\":1,\"deflate_on_oom\":false}";
    struct api_request put = {.id = "0", .method = "PUT", .path = "/balloon"};
    struct api_request get = {.id = "0", .method = "GET", .path = "/balloon"};
    struct api_response response = {0};
    struct operation operation = {"GET", "/balloon", path_get(page, "paths", "/balloon", "get"), NULL};
    (void)state;
    assert_int_equal(api_init(&api, "/proc/self/exe"), 0);
    route_handle(&api, &put, body, strlen(body), &response);
    assert_int_equal(response.status, 204);
    route_free(&response);
    route_handle(&api, &get, NULL, 0, &response);
    assert_int_equal(response.status, 200);
    json_t *ref = json_pack("{ss}", "$ref", "#/components/schemas/Balloon");
    check_answer(&operation, response.json, ref);
    json_decref(ref);
    route_free(&response);
    api_fini(&api);
}

/* ---- the stage ---- */

static int set_up(void **state)
{
    static const char *const files[] = {"vmlinux", "initrd", "rootfs.ext4"};
    json_error_t error;
    (void)state;
    page = json_load_file(PAGE, JSON_REJECT_DUPLICATES, &error);
    if (!page) {
        print_error("%s: line %d: %s\n", PAGE, error.line, error.text);
        return -1;
    }
    log_setup("openapi_test", LOG_LEVEL_ERROR, 2);
    messages = fcntl(2, F_DUPFD_CLOEXEC, 100);
    if (messages < 0 || !getcwd(here, sizeof here) || !mkdtemp(directory) || chdir(directory))
        return -1;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        int fd = open(files[i], O_WRONLY | O_CREAT, 0600);
        if (fd < 0)
            return -1;
        fd_close(&fd);
    }
    return 0;
}

static int tear_down(void **state)
{
    static const char *const files[] = {"vmlinux", "initrd", "rootfs.ext4", "log", "metrics"};
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        (void)unlink(files[i]);
    json_decref(page);
    return chdir(here) || rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_is_routed),
        cmocka_unit_test(test_every_route_is_on_the_page),
        cmocka_unit_test(test_bodies_and_statuses),
        cmocka_unit_test(test_statuses_that_take_two_requests),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
