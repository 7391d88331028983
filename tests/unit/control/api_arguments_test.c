/* The model as a command line: word for word, and as hostvmm's own parser takes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hostvmm/config.h"
#include "hostvmm/control/api/arguments.h"

static json_t *config_of(const char *text)
{
    json_error_t error;
    json_t *config = json_loads(text, 0, &error);
    if (!config)
        fail_msg("%s at column %d", error.text, error.column);
    return config;
}

/* As one text; hostvmm's parser has to take it. */
static void is(const struct arguments *arguments, enum config_command command, const char *wanted)
{
    static struct config config;
    char text[8192] = "";
    char why[256];
    size_t used = 0;
    for (unsigned i = 0; i < arguments->count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? "|" : "", arguments->at[i]);
    assert_string_equal(text, wanted);
    assert_null(arguments->at[arguments->count]);
    memset(&config, 0, sizeof config);
    if (config_parse(&config, command, (int)arguments->count, (char **)(uintptr_t)arguments->at, why,
                     sizeof why) != CONFIG_OK)
        fail_msg("%s", why);
}

static void run_is(const char *model, const struct arguments_about *about, const char *wanted)
{
    struct arguments arguments = {.count = 0};
    json_t *config = config_of(model);
    assert_int_equal(arguments_run(&arguments, config, about), 0);
    is(&arguments, CONFIG_RUN, wanted);
    arguments_fini(&arguments);
    json_decref(config);
}

#define BOOT "\"boot-source\":{\"kernel_image_path\":\"k\"}"
#define DEFAULT                                                                                              \
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"

static void test_a_kernel_alone(void **state)
{
    const struct arguments_about about = {.rekindle = false};
    (void)state;
    run_is("{" BOOT "}", &about,
           "run|--kernel|k|--bare-cmdline|--cmdline|" DEFAULT "|--cpus|1|--memory|128|--control-fd|3");
}

static void test_an_image_of_ours(void **state)
{
    const struct arguments_about about = {.rekindle = true, .log_level = "debug"};
    (void)state;
    run_is("{\"boot-source\":{\"kernel_image_path\":\"k\",\"boot_args\":\"loglevel=7\"},"
           "\"drives\":[{\"drive_id\":\"r\",\"path_on_host\":\"i\",\"is_root_device\":true,\"is_read_only\":"
           "false},"
           "{\"drive_id\":\"d\",\"path_on_host\":\"/d\",\"is_root_device\":false,\"is_read_only\":true,"
           "\"rate_limiter\":{\"ops\":{\"size\":5,\"refill_time\":6},\"bandwidth\":{\"size\":0,\"refill_"
           "time\":1}}}],"
           "\"machine-config\":{\"vcpu_count\":4,\"mem_size_mib\":512,\"cpu_template\":\"baseline\",\"huge_"
           "pages\":\"2M\"},"
           "\"vsock\":{\"guest_cid\":7,\"uds_path\":\"v\"},\"serial\":{\"serial_out_path\":\"none\"}}",
           &about,
           "run|--kernel|k|--rootfs|i|--cmdline|loglevel=7|--cpus|4|--memory|512|--cpu|baseline|--huge-pages|"
           "--drive|"
           "/d,ro,id=d,bandwidth=none,operations=5/6|--vsock|v,cid=7|--control-fd|3|--console|./"
           "none|--log-level|debug");
}

static void test_a_root_that_the_kernel_mounts(void **state)
{
    const struct arguments_about about = {.rekindle = false};
    (void)state;
    run_is("{\"boot-source\":{\"kernel_image_path\":\"k\",\"boot_args\":\"console=ttyS0\"},"
           "\"drives\":[{\"drive_id\":\"r\",\"path_on_host\":\"i\",\"is_root_device\":true,\"is_read_only\":"
           "false}]}",
           &about,
           "run|--kernel|k|--bare-cmdline|--cmdline|console=ttyS0 root=/dev/vda "
           "rw|--cpus|1|--memory|128|--drive|"
           "i,id=r|--control-fd|3");
    run_is("{\"boot-source\":{\"kernel_image_path\":\"k\",\"boot_args\":\"\",\"initrd_path\":\"n\"},"
           "\"drives\":[{\"drive_id\":\"r\",\"path_on_host\":\"i\",\"is_root_device\":true,\"is_read_only\":"
           "true,"
           "\"partuuid\":\"0eaa91a0-01\"}]}",
           &about,
           "run|--kernel|k|--bare-cmdline|--cmdline| root=PARTUUID=0eaa91a0-01 "
           "ro|--initrd|n|--cpus|1|--memory|128|"
           "--drive|i,ro,id=r|--control-fd|3");
}

static void test_the_root_images_name_is_no_other_drives(void **state)
{
    const struct arguments_about about = {.rekindle = false};
    (void)state;
    run_is("{\"boot-source\":{\"kernel_image_path\":\"k\",\"boot_args\":\"a\"},"
           "\"drives\":[{\"drive_id\":\"rootfs\",\"path_on_host\":\"i\",\"is_root_device\":true,\"is_read_"
           "only\":true}]}",
           &about,
           "run|--kernel|k|--bare-cmdline|--cmdline|a root=/dev/vda ro|--cpus|1|--memory|128|--drive|"
           "i,ro,id=rootfs|--control-fd|3");
    const struct arguments_about ours = {.rekindle = true};
    run_is("{\"boot-source\":{\"kernel_image_path\":\"k\"},"
           "\"drives\":[{\"drive_id\":\"r\",\"path_on_host\":\"i\",\"is_root_device\":true},"
           "{\"drive_id\":\"rootfs\",\"path_on_host\":\"d\",\"is_root_device\":false}]}",
           &ours, "run|--kernel|k|--rootfs|i|--cpus|1|--memory|128|--drive|d,id=rootfs-drive|--control-fd|3");
}

static void test_interfaces_balloon_and_entropy(void **state)
{
    const struct arguments_about about = {.rekindle = false};
    (void)state;
    run_is(
        "{" BOOT ",\"network-interfaces\":[{\"iface_id\":\"a\",\"host_dev_name\":\"tap0\",\"guest_mac\":"
        "\"06:00:00:00:00:01\",\"addresses\":[\"192.0.2.2/24\",\"2001:db8::2/64\"],\"gateway\":\"192.0.2.1\","
        "\"dns\":[\"192.0.2.53\"],\"mtu\":1400,\"tx_rate_limiter\":{\"bandwidth\":{\"size\":9,\"refill_"
        "time\":8,"
        "\"one_time_burst\":7}}},{\"iface_id\":\"b\",\"host_dev_name\":\"tap1\"}],"
        "\"balloon\":{\"amount_mib\":32,\"deflate_on_oom\":true,\"stats_polling_interval_s\":5,"
        "\"free_page_reporting\":true,\"free_page_hinting\":true},"
        "\"entropy\":{\"rate_limiter\":{\"bandwidth\":{\"size\":1,\"refill_time\":2},\"ops\":{\"size\":3,"
        "\"refill_time\":4}}}}",
        &about,
        "run|--kernel|k|--bare-cmdline|--cmdline|" DEFAULT
        "|--cpus|1|--memory|128|--net|tap=tap0,mac=06:00:00:00:00:01,address=192.0.2.2/"
        "24,address=2001:db8::2/64,"
        "gateway=192.0.2.1,dns=192.0.2.53,mtu=1400,tx-bandwidth=9/8/7|--net|tap=tap1|--balloon|"
        "target=32,deflate-on-oom,reporting,hinting,stats=5|--rng-rate|bandwidth=1/2,operations=3/"
        "4|--control-fd|3");
}

static void test_a_clone(void **state)
{
    const struct arguments_about about = {.rekindle = true};
    const struct arguments_clone clone = {.snapshot = "/s", .paused = true, .moved = {false, true}};
    struct arguments arguments = {.count = 0};
    (void)state;
    json_t *config = config_of(
        "{\"drives\":[{\"drive_id\":\"r\",\"path_on_host\":\"i\",\"is_root_device\":true,\"is_read_only\":"
        "true},"
        "{\"drive_id\":\"d\",\"path_on_host\":\"c\",\"is_root_device\":false,\"is_read_only\":false},"
        "{\"drive_id\":\"e\",\"path_on_host\":\"e\",\"is_root_device\":false,\"is_read_only\":true}],"
        "\"network-interfaces\":[{\"iface_id\":\"a\",\"host_dev_name\":\"tap5\",\"guest_mac\":\"06:00:00:00:"
        "00:01\","
        "\"addresses\":[\"192.0.2.2/24\"],\"mtu\":1400}],\"vsock\":{\"guest_cid\":7,\"uds_path\":\"v\"}}");
    assert_int_equal(arguments_restore(&arguments, config, &about, &clone), 0);
    is(&arguments, CONFIG_RESTORE,
       "restore|--snapshot|/s|--drive|c,id=d|--net|tap=tap5|--vsock|v|--paused|--control-fd|3");
    arguments_fini(&arguments);
    json_decref(config);
}

static void test_a_root_images_other_file_goes_by_its_own_name(void **state)
{
    const struct arguments_about about = {.rekindle = true, .jail = "default"};
    const struct arguments_clone clone = {.snapshot = "/s", .moved = {true}};
    struct arguments arguments = {.count = 0};
    (void)state;
    json_t *config = config_of("{\"drives\":[{\"drive_id\":\"r\",\"path_on_host\":\"i2\",\"is_root_device\":"
                               "true,\"is_read_only\":true}],"
                               "\"network-interfaces\":[]}");
    assert_int_equal(arguments_restore(&arguments, config, &about, &clone), 0);
    assert_string_equal(arguments.at[4], "i2,ro,id=rootfs");
    assert_string_equal(arguments.at[arguments.count - 2], "--jail");
    arguments_fini(&arguments);
    json_decref(config);
}

static void test_too_much_is_no_command_line(void **state)
{
    struct arguments arguments = {.count = 0};
    const struct arguments_about about = {.rekindle = false};
    (void)state;
    json_t *config = config_of("{" BOOT ",\"drives\":[]}");
    for (unsigned i = 0; i < ARGUMENTS_MAX; i++)
        (void)json_array_append_new(
            json_object_get(config, "drives"),
            json_pack("{s:s,s:s,s:b}", "drive_id", "d", "path_on_host", "p", "is_root_device", 0));
    assert_true(arguments_run(&arguments, config, &about) < 0);
    arguments_fini(&arguments);
    json_decref(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_kernel_alone),
        cmocka_unit_test(test_an_image_of_ours),
        cmocka_unit_test(test_a_root_that_the_kernel_mounts),
        cmocka_unit_test(test_the_root_images_name_is_no_other_drives),
        cmocka_unit_test(test_interfaces_balloon_and_entropy),
        cmocka_unit_test(test_a_clone),
        cmocka_unit_test(test_a_root_images_other_file_goes_by_its_own_name),
        cmocka_unit_test(test_too_much_is_no_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
