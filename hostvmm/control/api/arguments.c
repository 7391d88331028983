/* See arguments.h. */
#include "hostvmm/control/api/arguments.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/api/model.h"

#define RATES_BYTES   200
#define COMMAND_BYTES 2304

/* What Firecracker gives a kernel whose boot_args are not said. */
#define DEFAULT_BOOT_ARGS                                                                                    \
    "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"

void arguments_add(struct arguments *arguments, const char *format, ...)
{
    va_list values;
    char *text = NULL;
    if (arguments->count == ARGUMENTS_MAX) {
        arguments->failed = true;
        return;
    }
    va_start(values, format);
    if (vasprintf(&text, format, values) < 0) {
        arguments->failed = true;
        text = NULL;
    }
    va_end(values);
    if (text)
        arguments->at[arguments->count++] = text;
}

void arguments_fini(struct arguments *arguments)
{
    while (arguments->count > 0)
        free(arguments->at[--arguments->count]);
}

static void add_option(struct arguments *arguments, const char *name, const char *value)
{
    if (!value)
        return;
    arguments_add(arguments, "%s", name);
    arguments_add(arguments, "%s", value);
}

/* ---- devices ---- */

static int add_drive(struct arguments *arguments, const json_t *drive, bool rekindle)
{
    char rates[RATES_BYTES];
    if (rates_words(model_object(drive, "rate_limiter"), ",", "", rates, sizeof rates))
        return -ENOSPC;
    arguments_add(arguments, "--drive");
    arguments_add(arguments, "%s%s,id=%s%s", model_text(drive, "path_on_host"),
                  model_flag(drive, "is_read_only", false) ? ",ro" : "", drives_name(drive, rekindle), rates);
    return 0;
}

/* Room for a --net: grows at `to`. */
struct words {
    char *to;
    size_t left;
};

static void add_words(struct words *words, const char *name, const json_t *value)
{
    const size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count && value; i++) {
        const char *text = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
        const int n = snprintf(words->to, words->left, ",%s=%s", name, text ? text : "");
        if (n < 0 || (size_t)n >= words->left) {
            words->left = 0;
            return;
        }
        words->to += n;
        words->left -= (size_t)n;
    }
}

/* A clone's MAC is new, and its addresses are those the snapshot has. */
static int add_net(struct arguments *arguments, const json_t *net, bool clone)
{
    char rx[RATES_BYTES];
    char tx[RATES_BYTES];
    char items[1024] = "";
    struct words words = {.to = items, .left = sizeof items};
    if (!clone) {
        add_words(&words, "mac", model_object(net, "guest_mac"));
        add_words(&words, "address", model_object(net, "addresses"));
        add_words(&words, "gateway", model_object(net, "gateway"));
        add_words(&words, "dns", model_object(net, "dns"));
    }
    if (rates_words(model_object(net, "rx_rate_limiter"), ",", "rx-", rx, sizeof rx) ||
        rates_words(model_object(net, "tx_rate_limiter"), ",", "tx-", tx, sizeof tx) || words.left == 0)
        return -ENOSPC;
    const json_t *mtu = clone ? NULL : model_object(net, "mtu");
    char mtu_word[24] = "";
    if (mtu)
        (void)snprintf(mtu_word, sizeof mtu_word, ",mtu=%u", (unsigned)json_integer_value(mtu));
    arguments_add(arguments, "--net");
    arguments_add(arguments, "tap=%s%s%s%s%s", model_text(net, "host_dev_name"), items, mtu_word, rx, tx);
    return 0;
}

static void add_balloon(struct arguments *arguments, const json_t *balloon)
{
    const uint64_t stats_s = model_number(balloon, "stats_polling_interval_s", 0);
    char stats[32] = "";
    if (!balloon)
        return;
    if (stats_s > 0)
        (void)snprintf(stats, sizeof stats, ",stats=%u", (unsigned)stats_s);
    arguments_add(arguments, "--balloon");
    arguments_add(arguments, "target=%u%s%s%s%s", (unsigned)model_number(balloon, "amount_mib", 0),
                  model_flag(balloon, "deflate_on_oom", false) ? ",deflate-on-oom" : "",
                  model_flag(balloon, "free_page_reporting", false) ? ",reporting" : "",
                  model_flag(balloon, "free_page_hinting", false) ? ",hinting" : "", stats);
}

/* Two words of --console are no files. */
static void add_console(struct arguments *arguments, const json_t *config)
{
    const char *path = model_text(model_object(config, "serial"), "serial_out_path");
    if (!path)
        return;
    const bool word = strcmp(path, "stdio") == 0 || strcmp(path, "none") == 0;
    arguments_add(arguments, "--console");
    arguments_add(arguments, "%s%s", word ? "./" : "", path);
}

static void add_common(struct arguments *arguments, const json_t *config, const struct arguments_about *about)
{
    arguments_add(arguments, "--control-fd");
    arguments_add(arguments, "%d", CHILD_CONTROL_FD);
    add_console(arguments, config);
    add_option(arguments, "--jail", about->jail);
    add_option(arguments, "--log-level", about->log_level);
}

/* ---- a boot ---- */

int arguments_command_line(const json_t *config, char *to, size_t size)
{
    const json_t *root = drives_root(config);
    const char *given = model_text(model_object(config, "boot-source"), "boot_args");
    const char *partuuid = model_text(root, "partuuid");
    char device[100] = "";
    if (root)
        (void)snprintf(device, sizeof device, " root=%s%s %s", partuuid ? "PARTUUID=" : "/dev/vda",
                       partuuid ? partuuid : "", model_flag(root, "is_read_only", false) ? "ro" : "rw");
    const int n = snprintf(to, size, "%s%s", given ? given : DEFAULT_BOOT_ARGS, device);
    return n < 0 || (size_t)n >= size ? -ENOSPC : 0;
}

static void add_machine(struct arguments *arguments, const json_t *machine)
{
    const char *template = model_text(machine, "cpu_template");
    const char *pages = model_text(machine, "huge_pages");
    arguments_add(arguments, "--cpus");
    arguments_add(arguments, "%u", (unsigned)model_number(machine, "vcpu_count", 1));
    arguments_add(arguments, "--memory");
    arguments_add(arguments, "%u", (unsigned)model_number(machine, "mem_size_mib", 128));
    if (template && strcmp(template, "baseline") == 0)
        add_option(arguments, "--cpu", "baseline");
    if (pages && strcmp(pages, "2M") == 0)
        arguments_add(arguments, "--huge-pages");
}

static int add_boot(struct arguments *arguments, const json_t *config, bool rekindle)
{
    char line[COMMAND_BYTES];
    const json_t *boot = model_object(config, "boot-source");
    add_option(arguments, "--kernel", model_text(boot, "kernel_image_path"));
    if (rekindle) {
        add_option(arguments, "--rootfs", model_text(drives_root(config), "path_on_host"));
        add_option(arguments, "--cmdline", model_text(boot, "boot_args"));
        return 0;
    }
    const int error = arguments_command_line(config, line, sizeof line);
    arguments_add(arguments, "--bare-cmdline");
    add_option(arguments, "--cmdline", line);
    add_option(arguments, "--initrd", model_text(boot, "initrd_path"));
    return error;
}

int arguments_run(struct arguments *arguments, const json_t *config, const struct arguments_about *about)
{
    const json_t *drives = model_object(config, "drives");
    const json_t *nets = model_object(config, "network-interfaces");
    const json_t *vsock = model_object(config, "vsock");
    char rates[RATES_BYTES];
    arguments_add(arguments, "run");
    int error = add_boot(arguments, config, about->rekindle);
    add_machine(arguments, model_object(config, "machine-config"));
    for (size_t i = 0; i < json_array_size(drives) && error == 0; i++)
        if (i > 0 || !about->rekindle)
            error = add_drive(arguments, json_array_get(drives, i), about->rekindle);
    for (size_t i = 0; i < json_array_size(nets) && error == 0; i++)
        error = add_net(arguments, json_array_get(nets, i), false);
    if (vsock) {
        arguments_add(arguments, "--vsock");
        arguments_add(arguments, "%s,cid=%u", model_text(vsock, "uds_path"),
                      (unsigned)model_number(vsock, "guest_cid", 3));
    }
    add_balloon(arguments, model_object(config, "balloon"));
    if (rates_words(model_object(model_object(config, "entropy"), "rate_limiter"), ",", "", rates,
                    sizeof rates))
        error = -ENOSPC;
    else if (rates[0])
        add_option(arguments, "--rng-rate", rates + 1);
    add_common(arguments, config, about);
    return error ? error : arguments->failed ? -E2BIG : 0;
}

/* ---- a clone ---- */

int arguments_restore(struct arguments *arguments, const json_t *config, const struct arguments_about *about,
                      const struct arguments_clone *clone)
{
    int error = 0;
    const json_t *drives = model_object(config, "drives");
    const json_t *nets = model_object(config, "network-interfaces");
    arguments_add(arguments, "restore");
    add_option(arguments, "--snapshot", clone->snapshot);
    for (size_t i = 0; i < json_array_size(drives) && i < sizeof clone->moved; i++) {
        const json_t *drive = json_array_get(drives, i);
        if (!clone->moved[i])
            continue;
        arguments_add(arguments, "--drive");
        arguments_add(arguments, "%s%s,id=%s", model_text(drive, "path_on_host"),
                      model_flag(drive, "is_read_only", false) ? ",ro" : "",
                      drives_name(drive, about->rekindle));
    }
    for (size_t i = 0; i < json_array_size(nets) && error == 0; i++)
        error = add_net(arguments, json_array_get(nets, i), true);
    add_option(arguments, "--vsock", model_text(model_object(config, "vsock"), "uds_path"));
    if (clone->paused)
        arguments_add(arguments, "--paused");
    add_common(arguments, config, about);
    return error ? error : arguments->failed ? -E2BIG : 0;
}
