/* From bytes to a handler: paths, methods, bodies, and what is refused before any resource sees it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/control/api/route.h"
#include "tests/unit/control/api_server.h"

static struct stage stage;

static int begin(void **state)
{
    (void)state;
    api_stage_begin(&stage);
    return 0;
}

static int end(void **state)
{
    (void)state;
    api_stage_end(&stage);
    return 0;
}

static void test_a_route_is_found_by_method_and_parts(void **state)
{
    char name[ROUTE_NAME_MAX + 1];
    (void)state;
    assert_non_null(route_find("GET", "/", name));
    assert_non_null(route_find("GET", "", name));
    const struct api_route *drive = route_find("PUT", "/drives/one", name);
    assert_non_null(drive);
    assert_string_equal(name, "one");
    assert_ptr_equal(route_find("PUT", "/drives/one/", name), drive);
    assert_ptr_equal(route_find("PUT", "/drives", name), drive); /* its id is missing: the handler says so */
    assert_string_equal(name, "");
    assert_null(route_find("GET", "/drives/one", name));
    assert_null(route_find("PUT", "/drives/one/two", name));
    assert_null(route_find("put", "/drives/one", name));
    assert_null(route_find("PUT", "/drive/one", name));
    assert_non_null(route_find("GET", "/vm/config", name));
    assert_null(route_find("GET", "/vm", name));
}

static void test_a_long_name_is_no_route(void **state)
{
    char path[300] = "/drives/";
    char name[ROUTE_NAME_MAX + 1];
    (void)state;
    memset(path + 8, 'x', ROUTE_NAME_MAX);
    assert_non_null(route_find("PUT", path, name));
    assert_int_equal(strlen(name), ROUTE_NAME_MAX);
    path[8 + ROUTE_NAME_MAX] = 'x';
    assert_null(route_find("PUT", path, name));
}

static void test_what_is_no_request_is_refused_as_firecracker_does(void **state)
{
    (void)state;
    api_stage_expect(&stage, "GET", "/x", NULL, 400, "Invalid request method and/or path: GET x.");
    api_stage_expect(&stage, "PUT", "/x/y", "{}", 400, "Invalid request method and/or path: PUT x.");
    api_stage_expect(&stage, "DELETE", "/drives/a", NULL, 400,
                     "Invalid request method and/or path: DELETE drives.");
    api_stage_expect(&stage, "GET", "/", "{}", 400, "GET request cannot have a body.");
    api_stage_expect(&stage, "PUT", "/vsock", NULL, 400, "Empty PUT request.");
    api_stage_expect(&stage, "PUT", "/x", NULL, 400, "Empty PUT request.");
    api_stage_expect(&stage, "PATCH", "/vm", NULL, 400, "Empty PATCH request.");
    api_stage_expect(&stage, "GET", "/mmds", NULL, 400, "there is no /mmds");
    api_stage_expect(&stage, "GET", "/\xff\xfe", NULL, 400, "GET ??.");
}

static void test_a_body_that_is_no_json_is_refused(void **state)
{
    static const char *const bodies[] = {
        "{", "}", "1", "\"a\"", "nul", "{\"a\":1,\"a\":2}", "{} {}", "{\"a\":\"\\u0000\"}", "\xff"};
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        api_stage_expect(&stage, "PUT", "/vsock", bodies[i], 400,
                         "An error occurred when deserializing the json body of a request: ");
    api_stage_expect(&stage, "PUT", "/vsock", "[]", 400, "invalid type, expected an object");
}

/* As deep as Jansson goes, with a stack of the size the server gives its threads. */
static void *nest(void *context)
{
    char *text = context;
    (void)api_stage_ask(&stage, "PUT", "/vsock", text);
    return NULL;
}

static void test_a_deep_body_does_not_overflow(void **state)
{
    pthread_t thread;
    pthread_attr_t attributes;
    char *text = malloc(API_BODY_MAX_BYTES + 1);
    (void)state;
    assert_non_null(text);
    memset(text, '[', API_BODY_MAX_BYTES);
    text[API_BODY_MAX_BYTES] = '\0';
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 4u << 20),
                     0); /* the sanitizer's frames are larger */
    assert_int_equal(pthread_create(&thread, &attributes, nest, text), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    (void)pthread_attr_destroy(&attributes);
    assert_int_equal(stage.status, 400);
    free(text);
}

static void blanked(const char *text, const char *wanted)
{
    char copy[200];
    (void)snprintf(copy, sizeof copy, "%s", text);
    api_blank_commas(copy, strlen(copy));
    assert_string_equal(copy, wanted);
}

static void test_a_comma_before_a_closing_brace_becomes_a_blank(void **state)
{
    (void)state;
    blanked("{\"a\":1,}", "{\"a\":1 }");
    blanked("{\"a\":[1,\n ],\n}", "{\"a\":[1 \n ] \n}");
    blanked("{\"a\":\",}\"}", "{\"a\":\",}\"}");
    blanked("{\"a\\\"\":\",\",\"b\":2}", "{\"a\\\"\":\",\",\"b\":2}");
    blanked("{\"a\":\"\\\\\",}", "{\"a\":\"\\\\\" }");
    blanked(",", ",");
    blanked("{,,}", "{, }");
    blanked("\"\\", "\"\\");
    blanked("", "");
}

static void test_the_answers_of_what_there_is_to_read(void **state)
{
    (void)state;
    api_stage_expect(&stage, "GET", "/", NULL, 200, NULL);
    assert_string_equal(model_text(stage.answer, "state"), "Not started");
    assert_string_equal(model_text(stage.answer, "id"), "anonymous-instance");
    assert_string_equal(model_text(stage.answer, "app_name"), "Rekindle");
    assert_non_null(model_text(stage.answer, "vmm_version"));
    api_stage_expect(&stage, "GET", "/version", NULL, 200, NULL);
    assert_non_null(model_text(stage.answer, "firecracker_version"));
    api_stage_expect(&stage, "GET", "/machine-config", NULL, 200, NULL);
    assert_int_equal(model_number(stage.answer, "vcpu_count", 0), 1);
    assert_int_equal(model_number(stage.answer, "mem_size_mib", 0), 128);
    api_stage_expect(&stage, "GET", "/vm/config", NULL, 200, NULL);
    assert_true(json_is_array(json_object_get(stage.answer, "drives")));
}

static void test_ids_of_requests_differ(void **state)
{
    char one[API_ID_BYTES];
    char two[API_ID_BYTES];
    (void)state;
    route_new_id(one);
    route_new_id(two);
    assert_int_equal(strlen(one), API_ID_BYTES - 1);
    assert_int_equal(strspn(one, "0123456789abcdef"), API_ID_BYTES - 1);
    assert_string_not_equal(one, two);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_route_is_found_by_method_and_parts),
        cmocka_unit_test(test_a_long_name_is_no_route),
        cmocka_unit_test_setup_teardown(test_what_is_no_request_is_refused_as_firecracker_does, begin, end),
        cmocka_unit_test_setup_teardown(test_a_body_that_is_no_json_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_a_deep_body_does_not_overflow, begin, end),
        cmocka_unit_test(test_a_comma_before_a_closing_brace_becomes_a_blank),
        cmocka_unit_test_setup_teardown(test_the_answers_of_what_there_is_to_read, begin, end),
        cmocka_unit_test(test_ids_of_requests_differ),
    };
    api_stage_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
