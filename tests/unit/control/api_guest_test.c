/* A guest's life through the API: how it is started and operated, what is refused when, how it ends. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "hostvmm/control/api/flush.h"
#include "tests/unit/control/api_server.h"

#define START "{\"action_type\":\"InstanceStart\"}"

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

static void put(const char *path, const char *text)
{
    api_stage_expect(&stage, "PUT", path, text, 204, NULL);
}

static void patch(const char *path, const char *text)
{
    api_stage_expect(&stage, "PATCH", path, text, 204, NULL);
}

static void start(void)
{
    api_stage_configure(&stage, true);
    put("/actions", START);
}

static void was_asked(const char *line)
{
    char *lines = api_stage_lines();
    if (!strstr(lines, line))
        fail_msg("the guest's process was not asked '%s', but: %s", line, lines);
    free(lines);
}

static void state_is(const char *wanted)
{
    api_stage_expect(&stage, "GET", "/", NULL, 200, NULL);
    assert_string_equal(model_text(stage.answer, "state"), wanted);
}

static void test_a_guest_starts_pauses_and_goes_on(void **state)
{
    (void)state;
    start();
    state_is("Running");
    patch("/vm", "{\"state\":\"Paused\"}");
    state_is("Paused");
    patch("/vm", "{\"state\":\"Paused\"}");
    patch("/vm", "{\"state\":\"Resumed\"}");
    state_is("Running");
    char *lines = api_stage_lines();
    assert_int_equal(strncmp(lines, "status\trequest=", 15), 0);
    assert_null(strstr(strstr(lines, "pause\t") + 1, "pause\t")); /* once */
    free(lines);
    was_asked("\nresume\trequest=");
}

static void test_without_a_kernel_nothing_starts(void **state)
{
    (void)state;
    api_stage_expect(&stage, "PUT", "/actions", START, 400,
                     "Start microvm error: Cannot start microvm without kernel configuration.");
    state_is("Not started");
}

static void test_a_guest_that_cannot_start_says_why_and_may_be_tried_again(void **state)
{
    (void)state;
    api_stage_configure(&stage, true);
    api_stage_write("mode", "dies");
    api_stage_expect(&stage, "PUT", "/actions", START, 400,
                     "Start microvm error: no such kernel (exit code 3)");
    state_is("Not started");
    put("/machine-config", "{\"vcpu_count\":2,\"mem_size_mib\":256}");
    api_stage_write("mode", "");
    put("/actions", START);
    state_is("Running");
}

static void test_what_is_for_before_the_start_is_refused_after_it(void **state)
{
    static const struct {
        const char *method;
        const char *path;
        const char *text;
    } requests[] = {
        {"PUT", "/actions", START},
        {"PUT", "/boot-source", "{\"kernel_image_path\":\"kernel\"}"},
        {"PUT", "/drives/b", "{\"drive_id\":\"b\",\"path_on_host\":\"root\",\"is_root_device\":false}"},
        {"PUT", "/network-interfaces/b", "{\"iface_id\":\"b\",\"host_dev_name\":\"tap9\"}"},
        {"PUT", "/machine-config", "{\"vcpu_count\":1,\"mem_size_mib\":128}"},
        {"PATCH", "/machine-config", "{\"vcpu_count\":1}"},
        {"PUT", "/cpu-config", "{}"},
        {"PUT", "/vsock", "{\"guest_cid\":3,\"uds_path\":\"v\"}"},
        {"PUT", "/entropy", "{}"},
        {"PUT", "/serial", "{}"},
        {"PUT", "/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true}"},
        {"PUT", "/logger", "{\"level\":\"Info\"}"},
        {"PUT", "/metrics", "{\"metrics_path\":\"m\"}"},
        {"PUT", "/snapshot/load", "{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\"}"},
    };
    (void)state;
    start();
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        api_stage_expect(&stage, requests[i].method, requests[i].path, requests[i].text, 400,
                         "The requested operation is not supported after starting the microVM.");
}

static void test_what_is_for_after_the_start_is_refused_before_it(void **state)
{
    static const struct {
        const char *method;
        const char *path;
        const char *text;
    } requests[] = {
        {"PUT", "/actions", "{\"action_type\":\"FlushMetrics\"}"},
        {"PUT", "/actions", "{\"action_type\":\"SendCtrlAltDel\"}"},
        {"PATCH", "/vm", "{\"state\":\"Paused\"}"},
        {"PATCH", "/drives/a", "{\"drive_id\":\"a\"}"},
        {"PATCH", "/network-interfaces/a", "{\"iface_id\":\"a\"}"},
        {"PATCH", "/balloon", "{\"amount_mib\":1}"},
        {"PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":1}"},
        {"GET", "/balloon/statistics", NULL},
        {"PATCH", "/balloon/hinting/start", NULL},
        {"PATCH", "/balloon/hinting/stop", NULL},
        {"GET", "/balloon/hinting/status", NULL},
        {"PUT", "/snapshot/create", "{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\"}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        api_stage_expect(&stage, requests[i].method, requests[i].path, requests[i].text, 400,
                         "The requested operation is not supported before starting the microVM.");
}

static void test_devices_of_a_running_guest_are_changed(void **state)
{
    char line[1200];
    char here[512];
    (void)state;
    put("/network-interfaces/eth0", "{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\"}");
    put("/balloon", "{\"amount_mib\":1,\"deflate_on_oom\":true,\"stats_polling_interval_s\":1,\"free_page_"
                    "hinting\":true}");
    api_stage_write("data", "d");
    put("/drives/data",
        "{\"drive_id\":\"data\",\"path_on_host\":\"data\",\"is_root_device\":false,\"is_read_only\":false}");
    start();
    patch("/drives/data",
          "{\"drive_id\":\"data\",\"path_on_host\":\"other\",\"rate_limiter\":{\"bandwidth\":"
          "{\"size\":1000,\"refill_time\":10,\"one_time_burst\":5},\"ops\":{\"size\":0,\"refill_time\":0}}}");
    assert_non_null(getcwd(here, sizeof here));
    (void)snprintf(line, sizeof line,
                   "\ndrive\tid=data\tpath=%s/other\tbandwidth=1000/10/5\toperations=none\trequest=", here);
    was_asked(line);
    patch("/drives/root",
          "{\"drive_id\":\"root\",\"rate_limiter\":{\"ops\":{\"size\":7,\"refill_time\":8}}}");
    was_asked("\ndrive\tid=rootfs\toperations=7/8\trequest=");
    patch("/network-interfaces/eth0",
          "{\"iface_id\":\"eth0\",\"tx_rate_limiter\":{\"bandwidth\":{\"size\":9,\"refill_time\":1}}}");
    was_asked("\nnet\tid=0\ttx-bandwidth=9/1\trequest=");
    patch("/balloon", "{\"amount_mib\":16}");
    was_asked("\nballoon\ttarget=16\trequest=");
    api_stage_expect(&stage, "PATCH", "/balloon", "{\"amount_mib\":4096}", 400, "Amount of pages requested");
    patch("/balloon/statistics", "{\"stats_polling_interval_s\":5}");
    was_asked("\nballoon\tstats=5\trequest=");
    api_stage_expect(&stage, "PATCH", "/balloon/statistics", "{\"stats_polling_interval_s\":0}", 400,
                     "Cannot enable/disable the statistics after boot.");
    api_stage_expect(&stage, "GET", "/balloon", NULL, 200, NULL);
    assert_int_equal(model_number(stage.answer, "amount_mib", 0), 16);
    api_stage_expect(&stage, "GET", "/balloon/statistics", NULL, 200, NULL);
    assert_int_equal(model_number(stage.answer, "target_mib", 0), 2);
    assert_int_equal(model_number(stage.answer, "actual_mib", 0), 1);
    assert_int_equal(model_number(stage.answer, "free_memory", 0), 77);
    patch("/balloon/hinting/start", NULL);
    patch("/balloon/hinting/start", "{\"acknowledge_on_stop\":true}");
    was_asked("\nballoon\thinting=start\trequest=");
    api_stage_expect(&stage, "GET", "/balloon/hinting/status", NULL, 200, NULL);
    assert_int_equal(model_number(stage.answer, "host_cmd", 9), 1);
    patch("/balloon/hinting/stop", NULL);
    api_stage_expect(&stage, "PATCH", "/drives/nix", "{\"drive_id\":\"nix\"}", 400, "not found");
    api_stage_expect(&stage, "PATCH", "/network-interfaces/nix", "{\"iface_id\":\"nix\"}", 400, "not found");
    api_stage_expect(&stage, "GET", "/vm/config", NULL, 200, NULL);
    const json_t *drive = json_array_get(json_object_get(stage.answer, "drives"), 1);
    assert_string_equal(model_text(drive, "path_on_host"), "other");
    assert_int_equal(
        model_number(json_object_get(json_object_get(drive, "rate_limiter"), "bandwidth"), "size", 0), 1000);
}

static void test_the_root_images_limits_are_told_after_the_start(void **state)
{
    (void)state;
    api_stage_configure(&stage, true);
    put("/drives/root",
        "{\"drive_id\":\"root\",\"path_on_host\":\"root\",\"is_root_device\":true,\"is_read_only\":true,"
        "\"rate_limiter\":{\"bandwidth\":{\"size\":5,\"refill_time\":6}}}");
    put("/actions", START);
    was_asked("\ndrive\tid=rootfs\tbandwidth=5/6\trequest=");
}

static void test_metrics_are_flushed_into_their_file(void **state)
{
    char text[100] = "";
    (void)state;
    put("/metrics", "{\"metrics_path\":\"counters\"}");
    api_stage_expect(&stage, "PUT", "/metrics", "{\"metrics_path\":\"counters\"}", 400,
                     "initialized already");
    start();
    put("/actions", "{\"action_type\":\"FlushMetrics\"}");
    put("/actions", "{\"action_type\":\"FlushMetrics\"}");
    assert_int_equal(fd_read_file("counters", text, sizeof text), 24);
    assert_string_equal(text, "{\"exits\":5}\n{\"exits\":5}\n");
}

static void test_metrics_are_flushed_unasked(void **state)
{
    static const char two[] = "{\"exits\":5}\n{\"exits\":5}\n"; /* one more than a single turn writes */
    struct flush flush;
    char text[sizeof two] = "";
    size_t size = 0;
    (void)state;
    assert_int_equal(mkfifo("counters", 0600), 0);
    put("/metrics", "{\"metrics_path\":\"counters\"}");
    int fd = open("counters", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flush_begin(&flush, &stage.api, 10), 0);
    start();
    while (size < sizeof two - 1) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 20000), 1);
        const ssize_t n = read(fd, text + size, sizeof two - 1 - size);
        assert_true(n > 0);
        size += (size_t)n;
    }
    flush_end(&flush);
    fd_close(&fd);
    assert_string_equal(text, two);
}

static void test_a_refusal_of_the_guests_process_is_told(void **state)
{
    (void)state;
    start();
    api_stage_write("mode", "refuses");
    api_stage_expect(&stage, "PATCH", "/vm", "{\"state\":\"Paused\"}", 400, "not in this state");
    state_is("Running");
}

static void test_the_guests_end_is_the_servers(void **state)
{
    (void)state;
    start();
    put("/actions", "{\"action_type\":\"SendCtrlAltDel\"}");
    api_stage_join(&stage);
    assert_int_equal(stage.code, 0);
}

static void test_a_guest_that_dies_is_told_and_ends_the_server(void **state)
{
    (void)state;
    start();
    api_stage_write("mode", "hangs up");
    api_stage_expect(&stage, "PATCH", "/vm", "{\"state\":\"Paused\"}", 400, "the guest's process is gone");
    api_stage_join(&stage);
    assert_int_equal(stage.code, 4);
    api_stage_expect(&stage, "PATCH", "/vm", "{\"state\":\"Paused\"}", 400, NULL);
}

static void *start_main(void *context)
{
    (void)context;
    (void)api_stage_ask(&stage, "PUT", "/actions", START);
    return NULL;
}

static bool has_guest(void)
{
    (void)pthread_mutex_lock(&stage.api.child.lock);
    const bool has = stage.api.child.pid > 0;
    (void)pthread_mutex_unlock(&stage.api.child.lock);
    return has;
}

static void test_a_signal_while_the_guest_starts_ends_both(void **state)
{
    pthread_t starter;
    (void)state;
    api_stage_configure(&stage, true);
    api_stage_write("mode", "waits");
    assert_int_equal(pthread_create(&starter, NULL, start_main, NULL), 0);
    for (unsigned i = 0; i < 20000 && !has_guest(); i++)
        (void)usleep(1000);
    assert_true(has_guest());
    assert_int_equal(kill(getpid(), SIGUSR1), 0); /* the one that the stage's main thread takes */
    assert_int_equal(pthread_join(starter, NULL), 0);
    api_stage_join(&stage);
    assert_int_equal(stage.status, 400);
    assert_int_equal(stage.code, 128 + SIGUSR1);
}

static void test_a_process_beside_the_guest_is_the_callers_to_wait_for(void **state)
{
    static const char *const words[] = {"restore", "--beside", NULL};
    int out = -1;
    int status = -1;
    char byte;
    (void)state;
    const int pid = api_spawn(&stage.api, words, &out);
    assert_true(pid > 0);
    assert_int_equal(read(out, &byte, 1), 0); /* it ends, for it has no line to be operated through */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    fd_close(&out);
}

static void test_a_configuration_file_is_its_requests(void **state)
{
    char why[MODEL_WHY_BYTES];
    (void)state;
    api_stage_write("kernel", "k");
    api_stage_write("root", "r");
    api_stage_write("config",
                    "{\"boot-source\":{\"kernel_image_path\":\"kernel\",\"boot_args\":\"a b\"},"
                    "\"drives\":[{\"drive_id\":\"root\",\"path_on_host\":\"root\",\"is_root_device\":true,"
                    "\"is_read_only\":false}],\"machine-config\":{\"vcpu_count\":2,\"mem_size_mib\":64},"
                    "\"cpu-config\":null,\"balloon\":null,\"network-interfaces\":[],\"vsock\":null,"
                    "\"logger\":null,\"metrics\":null,\"mmds-config\":null,\"entropy\":null,}");
    if (!config_file_apply(&stage.api, "config", why))
        fail_msg("%s", why);
    put("/actions", START);
    char *words = api_stage_words();
    assert_non_null(strstr(words, "--cmdline a b root=/dev/vda rw "));
    assert_non_null(strstr(words, "--cpus 2 --memory 64 "));
    free(words);
}

static void test_a_configuration_file_that_is_wrong_is_refused_by_its_key(void **state)
{
    static const char *const texts[][2] = {
        {"{\"drivers\":[]}", "drivers"},
        {"{\"drives\":{}}", "drives: want a list"},
        {"{\"drives\":[{}]}", "drives[0]"},
        {"{\"drives\":[{\"drive_id\":\"a/b\"}]}", "drives[0]"},
        {"{\"machine-config\":{\"vcpu_count\":0,\"mem_size_mib\":1}}",
         "machine-config: Machine config error"},
        {"{\"mmds-config\":{}}", "mmds-config"},
        {"[]", "want an object"},
        {"{", "line 1"},
    };
    char why[MODEL_WHY_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        api_stage_write("config", texts[i][0]);
        assert_false(config_file_apply(&stage.api, "config", why));
        if (!strstr(why, texts[i][1]))
            fail_msg("%s: '%s'", texts[i][0], why);
    }
    assert_false(config_file_apply(&stage.api, "nowhere", why));
}

int main(int argc, char **argv)
{
#define LIVES(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        LIVES(test_a_guest_starts_pauses_and_goes_on),
        LIVES(test_without_a_kernel_nothing_starts),
        LIVES(test_a_guest_that_cannot_start_says_why_and_may_be_tried_again),
        LIVES(test_what_is_for_before_the_start_is_refused_after_it),
        LIVES(test_what_is_for_after_the_start_is_refused_before_it),
        LIVES(test_devices_of_a_running_guest_are_changed),
        LIVES(test_the_root_images_limits_are_told_after_the_start),
        LIVES(test_metrics_are_flushed_into_their_file),
        LIVES(test_metrics_are_flushed_unasked),
        LIVES(test_a_refusal_of_the_guests_process_is_told),
        LIVES(test_the_guests_end_is_the_servers),
        LIVES(test_a_guest_that_dies_is_told_and_ends_the_server),
        LIVES(test_a_signal_while_the_guest_starts_ends_both),
        LIVES(test_a_process_beside_the_guest_is_the_callers_to_wait_for),
        LIVES(test_a_configuration_file_is_its_requests),
        LIVES(test_a_configuration_file_that_is_wrong_is_refused_by_its_key),
    };
    api_stage_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
