/* Each resource's bodies: those that are taken, and those that are not, by the name of what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/control/api_server.h"

#define BODY "An error occurred when deserializing the json body of a request: "

static struct stage stage;

static int begin(void **state)
{
    (void)state;
    api_stage_begin(&stage);
    api_stage_write("file", "f");
    return 0;
}

static int end(void **state)
{
    (void)state;
    api_stage_end(&stage);
    return 0;
}

struct ask {
    const char *text;
    const char *fault; /* NULL: it is taken */
};

static void ask_all(const char *method, const char *path, const struct ask *asks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        api_stage_expect(&stage, method, path, asks[i].text, asks[i].fault ? 400 : 204, asks[i].fault);
}

#define ASK(method, path, asks) ask_all(method, path, asks, sizeof(asks) / sizeof(asks)[0])

static void test_machine_config(void **state)
{
    static const struct ask puts[] = {
        {"{\"vcpu_count\":2,\"mem_size_mib\":1024,\"smt\":false,\"track_dirty_pages\":true}", NULL},
        {"{\"vcpu_count\":32,\"mem_size_mib\":16,\"cpu_template\":\"None\",\"huge_pages\":\"2M\"}", NULL},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128,\"cpu_template\":\"baseline\"}", NULL},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128,\"cpu_template\":null}", NULL},
        {"{\"vcpu_count\":1}", BODY "missing field `mem_size_mib`"},
        {"{\"mem_size_mib\":1}", BODY "missing field `vcpu_count`"},
        {"{\"vcpu_count\":0,\"mem_size_mib\":128}", "number of vCPUs"},
        {"{\"vcpu_count\":33,\"mem_size_mib\":128}", "number of vCPUs"},
        {"{\"vcpu_count\":-1,\"mem_size_mib\":128}", BODY "vcpu_count: invalid value"},
        {"{\"vcpu_count\":1.5,\"mem_size_mib\":128}", BODY "vcpu_count: invalid type"},
        {"{\"vcpu_count\":\"1\",\"mem_size_mib\":128}", BODY "vcpu_count: invalid type"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":0}", "memory size"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":524289}", "memory size"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":129,\"huge_pages\":\"2M\"}", "memory size"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128,\"huge_pages\":\"1G\"}", "unknown variant `1G`"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128,\"cpu_template\":\"T2\"}", "unknown variant `T2`"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":true}", "smt"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128,\"smt\":1}", BODY "smt: invalid type"},
        {"{\"vcpu_count\":1,\"mem_size_mib\":128,\"ht_enabled\":false}",
         BODY "unknown field `ht_enabled`, expected one of `vcpu_count`"},
    };
    static const struct ask patches[] = {
        {"{\"mem_size_mib\":256}", NULL},
        {"{}", "Empty PATCH request."},
        {"{\"smt\":null}", "Empty PATCH request."},
        {"{\"mem_size_mib\":0}", "memory size"},
    };
    (void)state;
    ASK("PUT", "/machine-config", puts);
    ASK("PATCH", "/machine-config", patches);
    api_stage_expect(&stage, "GET", "/machine-config", NULL, 200, NULL);
    assert_int_equal(model_number(stage.answer, "mem_size_mib", 0), 256);
    assert_int_equal(model_number(stage.answer, "vcpu_count", 0), 1);
}

static void test_memory_and_balloon_go_together(void **state)
{
    (void)state;
    api_stage_expect(&stage, "PUT", "/balloon", "{\"amount_mib\":129,\"deflate_on_oom\":false}", 400,
                     "Balloon config error: Amount of pages requested is too large.");
    api_stage_expect(&stage, "GET", "/balloon", NULL, 400, "Balloon config error: No balloon device found.");
    api_stage_expect(&stage, "PUT", "/balloon", "{\"amount_mib\":100,\"deflate_on_oom\":false}", 204, NULL);
    api_stage_expect(&stage, "PATCH", "/machine-config", "{\"mem_size_mib\":99}", 400,
                     "balloon device target");
    api_stage_expect(&stage, "GET", "/balloon", NULL, 200, NULL);
    assert_int_equal(model_number(stage.answer, "stats_polling_interval_s", 9), 0);
}

static void test_balloon(void **state)
{
    static const struct ask puts[] = {
        {"{\"amount_mib\":0,\"deflate_on_oom\":true,\"stats_polling_interval_s\":65535}", NULL},
        {"{\"amount_mib\":64,\"deflate_on_oom\":true,\"free_page_hinting\":true,\"free_page_reporting\":"
         "true}",
         NULL},
        {"{\"amount_mib\":64}", "missing field `deflate_on_oom`"},
        {"{\"deflate_on_oom\":true}", "missing field `amount_mib`"},
        {"{\"amount_mib\":64,\"deflate_on_oom\":true,\"stats_polling_interval_s\":65536}",
         "stats_polling_interval_s"},
        {"{\"amount_mib\":\"bar\",\"is_read_only\":false}", BODY},
    };
    (void)state;
    ASK("PUT", "/balloon", puts);
}

static void test_boot_source(void **state)
{
    static const struct ask puts[] = {
        {"{\"kernel_image_path\":\"file\"}", NULL},
        {"{\"kernel_image_path\":\"./file\",\"boot_args\":\"console=ttyS0 "
         "reboot=k\",\"initrd_path\":\"file\"}",
         NULL},
        {"{\"kernel_image_path\":\"file\",\"rekindle\":true,\"initrd_path\":null}", NULL},
        {"{\"kernel_image_path\":\"nowhere\"}",
         "Boot source error: The kernel file cannot be opened: No such file or directory (os error 2)"},
        {"{\"kernel_image_path\":\"file\",\"initrd_path\":\"nowhere\"}",
         "Boot source error: The initrd file cannot be opened due to invalid path"},
        {"{\"kernel_image_path\":\"file\",\"initrd_path\":\"file\",\"rekindle\":true}", "built in"},
        {"{\"kernel_image_path\":\"\"}", "kernel_image_path: an empty path"},
        {"{\"kernel_image_path\":\"a\\nb\"}", "control characters"},
        {"{\"boot_args\":\"a\"}", "missing field `kernel_image_path`"},
        {"{\"kernel_image_path\":\"file\",\"boot_args\":\"a\\nb\"}", "boot_args: control characters"},
        {"{\"kernel_image_path\":\"file\",\"rekindle\":\"yes\"}",
         "rekindle: invalid type, expected a boolean"},
    };
    (void)state;
    ASK("PUT", "/boot-source", puts);
}

static void test_long_texts(void **state)
{
    char text[3000];
    (void)state;
    (void)snprintf(text, sizeof text, "{\"kernel_image_path\":\"file\",\"boot_args\":\"%02047d\"}", 0);
    api_stage_expect(&stage, "PUT", "/boot-source", text, 204, NULL);
    (void)snprintf(text, sizeof text, "{\"kernel_image_path\":\"file\",\"boot_args\":\"%02048d\"}", 0);
    api_stage_expect(&stage, "PUT", "/boot-source", text, 400, "2048 bytes");
    (void)snprintf(text, sizeof text, "{\"kernel_image_path\":\"%01024d\"}", 0);
    api_stage_expect(&stage, "PUT", "/boot-source", text, 400, "1024 bytes");
    (void)snprintf(text, sizeof text, "{\"guest_cid\":3,\"uds_path\":\"%0108d\"}", 0);
    api_stage_expect(&stage, "PUT", "/vsock", text, 400, "107 bytes");
}

#define DRIVE "{\"drive_id\":\"a\",\"path_on_host\":\"file\",\"is_root_device\":false"

static void test_drives(void **state)
{
    static const struct ask puts[] = {
        {DRIVE "}", NULL},
        {DRIVE ",\"is_read_only\":true,\"cache_type\":\"Writeback\",\"io_engine\":\"Sync\",\"partuuid\":"
               "\"ab12-01\"}",
         NULL},
        {DRIVE ",\"rate_limiter\":{\"bandwidth\":{\"size\":0,\"one_time_burst\":0,\"refill_time\":0},\"ops\":"
               "{\"size\":1,"
               "\"one_time_burst\":null,\"refill_time\":1}}}",
         NULL},
        {DRIVE ",\"rate_limiter\":null,\"socket\":null}", NULL},
        {DRIVE ",\"io_engine\":\"Async\"}", "io_engine Async"},
        {DRIVE ",\"io_engine\":\"Turbo\"}", "unknown variant `Turbo`"},
        {DRIVE ",\"cache_type\":\"None\"}", "cache_type: unknown variant"},
        {DRIVE ",\"partuuid\":\"a b\"}", "partuuid"},
        {DRIVE ",\"socket\":\"s\"}", "vhost-user"},
        {DRIVE ",\"rate_limiter\":{\"ops\":{\"size\":100}}}", "missing field `refill_time`"},
        {DRIVE ",\"rate_limiter\":{\"iops\":{}}}", "unknown field `iops`"},
        {DRIVE ",\"rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":86400001}}}", "refill_time"},
        {DRIVE ",\"rate_limiter\":[]}", "rate_limiter: invalid type"},
        {"{\"drive_id\":\"a\",\"is_root_device\":false}", "missing field `path_on_host`"},
        {"{\"drive_id\":\"a\",\"path_on_host\":\"file\"}", "missing field `is_root_device`"},
        {"{\"path_on_host\":\"file\",\"is_root_device\":false}", "missing field `drive_id`"},
        {"{\"drive_id\":\"b\",\"path_on_host\":\"file\",\"is_root_device\":false}",
         "The id from the path does not match the id from the body!"},
        {"{\"drive_id\":\"a\",\"path_on_host\":\"nowhere\",\"is_root_device\":false}",
         "Drive config error: "},
        {"{\"drive_id\":\"a\",\"path_on_host\":\"file,ro\",\"is_root_device\":false}", "comma"},
        {"{\"drive_id\":1000,\"path_on_host\":\"file\",\"is_root_device\":false}", "drive_id: invalid type"},
    };
    (void)state;
    ASK("PUT", "/drives/a", puts);
    api_stage_expect(&stage, "PUT", "/drives", DRIVE "}", 400, "The ID cannot be empty.");
    api_stage_expect(&stage, "PUT", "/drives/a-b", DRIVE "}", 400,
                     "API Resource IDs can only contain alphanumeric characters and underscores.");
    api_stage_expect(
        &stage, "PUT", "/drives/a23456789012345678901",
        "{\"drive_id\":\"a23456789012345678901\",\"path_on_host\":\"file\",\"is_root_device\":false}", 400,
        "at most 20 characters");
}

static const char *drive_at(size_t index)
{
    return model_text(json_array_get(json_object_get(stage.api.config, "drives"), index), "drive_id");
}

static void put_drive(const char *id, bool root, int status, const char *fault)
{
    char path[64];
    char text[200];
    (void)snprintf(path, sizeof path, "/drives/%s", id);
    (void)snprintf(text, sizeof text, "{\"drive_id\":\"%s\",\"path_on_host\":\"file\",\"is_root_device\":%s}",
                   id, root ? "true" : "false");
    api_stage_expect(&stage, "PUT", path, text, status, fault);
}

static void test_the_root_drive_is_the_first(void **state)
{
    char id[8];
    (void)state;
    put_drive("a", false, 204, NULL);
    put_drive("b", false, 204, NULL);
    put_drive("r", true, 204, NULL);
    assert_string_equal(drive_at(0), "r");
    assert_string_equal(drive_at(1), "a");
    put_drive("b", true, 400, "Drive config error: A root block device already exists!");
    put_drive("r", true, 204, NULL);
    put_drive("r", false, 204, NULL); /* it is no root any more */
    put_drive("b", true, 204, NULL);
    assert_string_equal(drive_at(0), "b");
    assert_string_equal(drive_at(1), "r");
    assert_string_equal(drive_at(2), "a");
    for (unsigned i = 3; i < MODEL_DRIVES_MAX; i++) {
        (void)snprintf(id, sizeof id, "d%u", i);
        put_drive(id, false, 204, NULL);
    }
    put_drive("more", false, 400, "at most 16 drives");
    put_drive("a", false, 204, NULL);
}

#define NET "{\"iface_id\":\"eth0\",\"host_dev_name\":\"tap0\""

static void test_network_interfaces(void **state)
{
    static const struct ask puts[] = {
        {NET "}", NULL},
        {NET ",\"guest_mac\":\"06:00:AC:10:00:02\",\"mtu\":1400}", NULL},
        {NET ",\"rx_rate_limiter\":{\"ops\":{\"size\":1,\"refill_time\":1}},\"tx_rate_limiter\":{}}", NULL},
        {NET ",\"addresses\":[\"192.0.2.2/24\",\"2001:db8::2/"
             "64\"],\"gateway\":\"192.0.2.1\",\"dns\":[\"192.0.2.53\"]}",
         NULL},
        {NET ",\"addresses\":\"192.0.2.2\"}", "address=192.0.2.2"},
        {NET ",\"addresses\":\"192.0.2.2/24,mac=02:00:00:00:00:01\"}", "one value"},
        {NET ",\"addresses\":[1]}", "expected strings"},
        {NET ",\"gateway\":\"nowhere\"}", "gateway=nowhere"},
        {NET ",\"guest_mac\":\"06:00\"}", "mac=06:00"},
        {NET ",\"mtu\":1}", "mtu=1"},
        {NET ",\"mtu\":65536}", "mtu: invalid value"},
        {NET ",\"tx_rate_limiter\":{\"ops\":{\"size\":1}}}", "missing field `refill_time`"},
        {NET ",\"allow_mmds_requests\":true}", "unknown field `allow_mmds_requests`"},
        {"{\"iface_id\":\"eth0\"}", "missing field `host_dev_name`"},
        {"{\"iface_id\":\"eth0\",\"host_dev_name\":\"a/b\"}", "Open tap device failed"},
        {"{\"iface_id\":\"eth0\",\"host_dev_name\":\"a,fd=1\"}", "Open tap device failed"},
        {"{\"iface_id\":\"eth0\",\"host_dev_name\":\"sixteencharacter\"}", "Open tap device failed"},
        {"{\"iface_id\":\"eth1\",\"host_dev_name\":\"tap0\"}",
         "The id from the path [eth0] does not match the id from the body [eth1]!"},
    };
    (void)state;
    ASK("PUT", "/network-interfaces/eth0", puts);
    api_stage_expect(&stage, "PUT", "/network-interfaces/eth1",
                     "{\"iface_id\":\"eth1\",\"host_dev_name\":\"tap0\"}", 400,
                     "The host device name tap0 is already in use.");
    api_stage_expect(&stage, "PUT", "/network-interfaces/eth0", NET ",\"guest_mac\":\"06:00:00:00:00:01\"}",
                     204, NULL);
    api_stage_expect(&stage, "PUT", "/network-interfaces/eth1",
                     "{\"iface_id\":\"eth1\",\"host_dev_name\":\"tap1\",\"guest_mac\":\"06:00:00:00:00:01\"}",
                     400, "already in use");
    api_stage_expect(&stage, "PUT", "/network-interfaces/", "{}", 400, "The ID cannot be empty.");
}

static void test_vsock_entropy_serial_cpu(void **state)
{
    static const struct ask vsocks[] = {
        {"{\"guest_cid\":3,\"uds_path\":\"./v.sock\"}", NULL},
        {"{\"vsock_id\":\"1\",\"guest_cid\":4294967294,\"uds_path\":\"v\"}", NULL},
        {"{\"guest_cid\":2,\"uds_path\":\"v\"}", "guest_cid"},
        {"{\"guest_cid\":4294967295,\"uds_path\":\"v\"}", "guest_cid"},
        {"{\"guest_cid\":3}", "missing field `uds_path`"},
        {"{\"guest_cid\":3,\"uds_path\":\"a,cid=4\"}", "comma"},
    };
    static const struct ask entropies[] = {
        {"{}", NULL},
        {"{\"rate_limiter\":{\"bandwidth\":{\"size\":1,\"refill_time\":1}}}", NULL},
        {"{\"rate\":1}", "unknown field `rate`"},
    };
    static const struct ask serials[] = {
        {"{}", NULL},
        {"{\"serial_out_path\":\"out\"}", NULL},
        {"{\"serial_out_path\":1}", "serial_out_path"},
        {"{\"rate_limiter\":{\"size\":1,\"refill_time\":1}}", "rate_limiter"},
    };
    static const struct ask cpus[] = {
        {"{}", NULL},
        {"{\"cpuid_modifiers\":[],\"msr_modifiers\":[]}", NULL},
        {"{\"cpuid_modifiers\":[{}]}", "cpuid_modifiers: single features"},
        {"{\"kvm_capabilities\":[\"121\"]}", "kvm_capabilities"},
        {"{\"cpuid\":[]}", "unknown field `cpuid`"},
    };
    (void)state;
    ASK("PUT", "/vsock", vsocks);
    ASK("PUT", "/entropy", entropies);
    ASK("PUT", "/serial", serials);
    ASK("PUT", "/cpu-config", cpus);
}

static void test_logger_and_metrics(void **state)
{
    static const struct ask loggers[] = {
        {"{\"level\":\"Error\",\"show_level\":true,\"show_log_origin\":false}", NULL},
        {"{\"level\":\"wArNiNg\"}", NULL},
        {"{\"level\":\"Loud\"}", "unknown variant `Loud`"},
        {"{\"module\":\"api\"}", "module"},
        {"{\"log_path\":\"no/where\"}", "Logger error"},
        {"{\"path\":\"x\"}", "unknown field `path`"},
    };
    static const struct ask metrics[] = {
        {"{}", "missing field `metrics_path`"},
        {"{\"metrics_path\":\"no/where\"}", "Metrics error"},
        {"{\"metrics_path\":\"counters\"}", NULL},
    };
    (void)state;
    ASK("PUT", "/logger", loggers);
    ASK("PUT", "/metrics", metrics);
}

static void test_actions_and_states(void **state)
{
    static const struct ask actions[] = {
        {"{\"action_type\":\"Explode\"}", "unknown variant `Explode`, expected one of `FlushMetrics`"},
        {"{}", "missing field `action_type`"},
        {"{\"action_type\":\"InstanceStart\",\"payload\":1}", "unknown field `payload`"},
    };
    static const struct ask states[] = {
        {"{\"state\":\"Running\"}", "unknown variant `Running`"},
        {"{}", "missing field `state`"},
    };
    (void)state;
    ASK("PUT", "/actions", actions);
    ASK("PATCH", "/vm", states);
}

static void test_snapshots(void **state)
{
    static const struct ask creates[] = {
        {"{\"snapshot_path\":\"s\"}", "missing field `mem_file_path`"},
        {"{\"mem_file_path\":\"s\"}", "missing field `snapshot_path`"},
        {"{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\",\"snapshot_type\":\"Half\"}",
         "unknown variant `Half`"},
    };
    static const struct ask loads[] = {
        {"{\"snapshot_path\":\"s\"}",
         BODY "missing field: either `mem_backend` or `mem_file_path` is required."},
        {"{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\",\"mem_backend\":{\"backend_type\":\"File\","
         "\"backend_path\":\"m\"}}",
         BODY "too many fields: either `mem_backend` or `mem_file_path` exclusively is required."},
        {"{\"mem_file_path\":\"m\"}", "missing field `snapshot_path`"},
        {"{\"snapshot_path\":\"s\",\"mem_backend\":{\"backend_path\":\"m\"}}",
         "missing field `backend_type`"},
        {"{\"snapshot_path\":\"s\",\"mem_backend\":{\"backend_type\":\"Uffd\",\"backend_path\":\"m\"}}",
         "Uffd"},
        {"{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\",\"network_overrides\":[{\"iface_id\":\"a\"}]}",
         "missing field `host_dev_name`"},
        {"{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\",\"network_overrides\":[1]}", "expected an object"},
        {"{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\",\"vsock_override\":{}}",
         "missing field `uds_path`"},
        {"{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\",\"drive_overrides\":{}}", "expected a list"},
        {"{\"snapshot_path\":\"nowhere\",\"mem_file_path\":\"m\"}", "Load snapshot error: snapshot_path"},
        {"{\"snapshot_path\":\"file\",\"mem_file_path\":\"file\"}", "directories"},
    };
    (void)state;
    ASK("PUT", "/snapshot/create", creates);
    ASK("PUT", "/snapshot/load", loads);
    put_drive("a", false, 204, NULL);
    api_stage_expect(&stage, "PUT", "/snapshot/load", "{\"snapshot_path\":\"s\",\"mem_file_path\":\"m\"}",
                     400,
                     "Loading a microVM snapshot not allowed after configuring boot-specific resources.");
}

int main(int argc, char **argv)
{
#define LIVES(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        LIVES(test_machine_config),
        LIVES(test_memory_and_balloon_go_together),
        LIVES(test_balloon),
        LIVES(test_boot_source),
        LIVES(test_long_texts),
        LIVES(test_drives),
        LIVES(test_the_root_drive_is_the_first),
        LIVES(test_network_interfaces),
        LIVES(test_vsock_entropy_serial_cpu),
        LIVES(test_logger_and_metrics),
        LIVES(test_actions_and_states),
        LIVES(test_snapshots),
    };
    api_stage_main(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
