/*
 * libFuzzer target: every device's load, from bytes that are anything or that are a sound state with some of
 * them changed; then the devices serve what was loaded, over guest memory that is the fuzzer's as well.
 *
 * What is checked beside memory safety: what was refused left the device idle; what was taken can be saved
 * and loaded again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "agent/base/cursor.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "hostvmm/device/lifecycle.h"
#include "hostvmm/device/serial.h"
#include "hostvmm/device/net/backend.h"
#include "hostvmm/device/virtio/blk.h"
#include "hostvmm/device/virtio/net.h"
#include "hostvmm/device/virtio/rng.h"
#include "hostvmm/device/virtio/vsock.h"
#include "hostvmm/device/vmgenid.h"
#include "hostvmm/snapshot/codec.h"

#define RAM_BYTES   65536u
#define FILE_BYTES  32768u
#define VMGENID_AT  0xf000u
#define QUEUE_BYTES 0x2000u /* each queue's place: descriptors, then avail and used ring */
#define QUEUE_SIZE  16u
#define TURNS       8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));

struct devices {
    struct guest_memory memory;
    struct loop loop;
    struct serial serial;
    struct lifecycle lifecycle;
    struct vmgenid vmgenid;
    struct virtio_blk blk;
    struct virtio_rng rng;
    struct virtio_vsock vsock;
    struct virtio_net net;
};

static struct state_writer sound; /* the state of devices that a driver has brought up */

static void drop_byte(void *context, uint8_t byte)
{
    (void)context;
    (void)byte;
}

static void nothing(void *context)
{
    (void)context;
}

static void drop_stage(void *context, enum guest_stage stage)
{
    (void)context;
    (void)stage;
}

static void make(struct devices *made)
{
    static const struct serial_ops serial_ops = {.transmit = drop_byte, .input_wanted = nothing};
    static const struct lifecycle_ops lifecycle_ops = {
        .stage = drop_stage, .power_off = nothing, .reset = nothing};
    static const struct virtio_net_plan plan = {.mac = {0x52, 0x54, 0, 0, 0, 1}, .mtu = 1400};
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    struct net_backend nowhere;
    guest_memory_over(&made->memory, ram, sizeof ram);
    if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0 || loop_init(&made->loop) < 0 ||
        serial_init(&made->serial, &serial_ops, NULL) < 0 ||
        vmgenid_init(&made->vmgenid, &made->memory, gpa_of(VMGENID_AT)) < 0 ||
        virtio_blk_init(&made->blk, &made->memory, fd, false, "fuzz") < 0 ||
        virtio_rng_init(&made->rng, &made->memory, &made->loop) < 0 ||
        virtio_vsock_init(&made->vsock, &made->memory, &made->loop, NULL, 3) < 0 ||
        net_none_open(&nowhere) < 0 || virtio_net_init(&made->net, &made->memory, &nowhere, &plan) < 0)
        abort();
    lifecycle_init(&made->lifecycle, &lifecycle_ops, NULL);
    made->blk.serve_by_hand = true;
    made->net.serve_by_hand = true;
}

static void unmake(struct devices *made)
{
    virtio_net_fini(&made->net);
    virtio_vsock_fini(&made->vsock);
    virtio_rng_fini(&made->rng);
    virtio_blk_fini(&made->blk);
    serial_fini(&made->serial);
    loop_fini(&made->loop);
    guest_memory_fini(&made->memory);
}

static void save(struct devices *made, struct state_writer *out)
{
    state_put_map(out, NULL, 7);
    serial_save(&made->serial, out, "serial");
    lifecycle_save(&made->lifecycle, out, "lifecycle");
    vmgenid_save(&made->vmgenid, out, "vmgenid");
    virtio_blk_save(&made->blk, out, "blk");
    virtio_rng_save(&made->rng, out, "rng");
    virtio_vsock_save(&made->vsock, out, "vsock");
    virtio_net_save(&made->net, out, "net");
}

static int load(struct devices *made, const uint8_t *data, size_t size)
{
    struct state_reader in;
    state_reader_init(&in, data, size);
    state_get_map(&in, NULL, 7);
    serial_load(&made->serial, &in, "serial");
    lifecycle_load(&made->lifecycle, &in, "lifecycle");
    vmgenid_load(&made->vmgenid, &in, "vmgenid");
    virtio_blk_load(&made->blk, &in, "blk");
    virtio_rng_load(&made->rng, &in, "rng");
    virtio_vsock_load(&made->vsock, &in, "vsock");
    virtio_net_load(&made->net, &in, "net");
    state_end(&in);
    if (in.failed && made->net.device.active)
        abort(); /* the last one of all: nothing of it may count */
    return state_reader_finish(&in);
}

static void write32(struct virtio_device *device, uint32_t offset, uint32_t value)
{
    virtio_mmio_bus_ops.write(device, offset, &value, sizeof value);
}

static void bring_up(struct virtio_device *device, uint64_t at)
{
    write32(device, VIRTIO_MMIO_STATUS, 3);
    for (uint32_t half = 0; half < 2; half++) {
        write32(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        write32(device, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(device->offered_features >> (32 * half)));
    }
    write32(device, VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK);
    for (uint32_t i = 0; i < device->kind->queue_count; i++, at += QUEUE_BYTES) {
        write32(device, VIRTIO_MMIO_QUEUE_SEL, i);
        write32(device, VIRTIO_MMIO_QUEUE_NUM, QUEUE_SIZE);
        write32(device, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)at);
        write32(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)at + 0x200);
        write32(device, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)at + 0x300);
        write32(device, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    write32(device, VIRTIO_MMIO_STATUS, 3 | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void start(void)
{
    static struct devices made;
    log_setup("fuzz", LOG_LEVEL_ERROR, 2);
    make(&made);
    bring_up(&made.blk.device, 0);
    bring_up(&made.rng.device, QUEUE_BYTES);
    bring_up(&made.vsock.device, 2 * QUEUE_BYTES);
    bring_up(&made.net.device, 5 * QUEUE_BYTES);
    save(&made, &sound);
    unmake(&made);
    if (sound.failed)
        abort();
}

static void serve(struct devices *made)
{
    uint8_t bytes[8];
    int fd = -1;
    virtio_device_revive(&made->blk.device);
    virtio_device_revive(&made->rng.device);
    virtio_device_revive(&made->vsock.device);
    virtio_device_revive(&made->net.device);
    serial_revive(&made->serial);
    virtio_vsock_reset_connections(&made->vsock);
    vmgenid_guest_ready(&made->vmgenid);
    for (uint64_t i = 0; i < SERIAL_PORT_BYTES; i++)
        serial_bus_ops.read(&made->serial, i, bytes, 1);
    (void)virtio_vsock_connect(&made->vsock, 1024, &fd);
    virtio_blk_serve(&made->blk);
    virtio_net_serve(&made->net);
    for (unsigned i = 0; i < TURNS && loop_run_once(&made->loop, 0) > 0; i++)
        continue;
    if (fd >= 0)
        close(fd);
    for (unsigned i = 0; i < TURNS && loop_run_once(&made->loop, 0) > 0; i++)
        continue;
}

static void save_and_load_again(struct devices *made)
{
    static struct devices other;
    struct state_writer out;
    state_writer_init(&out);
    (void)virtio_blk_pause(&made->blk);
    virtio_device_pause(&made->net.device);
    save(made, &out);
    make(&other);
    if (out.failed || load(&other, out.data, out.size_bytes) < 0)
        abort();
    unmake(&other);
    state_writer_fini(&out);
}

/* Runs of bytes, anywhere in RAM. */
static void change_ram(struct cursor *in)
{
    while (cursor_left(in) > 3) {
        const size_t at = (size_t)cursor_get_le(in, 2);
        size_t length = (size_t)cursor_get_le(in, 1);
        if (length > cursor_left(in))
            length = cursor_left(in);
        const uint8_t *from = cursor_take(in, length);
        if (from && at + length <= RAM_BYTES)
            memcpy(ram + at, from, length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct devices made;
    uint8_t state[4096];
    struct cursor in;
    uint8_t input[4096];
    if (size > sizeof input)
        return -1;
    if (!sound.data)
        start();
    if (sound.size_bytes > sizeof state)
        abort();
    memcpy(input, data, size);
    in = cursor_over(input, size);
    memset(ram, 0, sizeof ram);
    const unsigned changes = (unsigned)cursor_get_le(&in, 1);
    size_t state_bytes = sound.size_bytes;
    make(&made);
    if (changes == 0xff) { /* all of it is the fuzzer's */
        state_bytes = cursor_left(&in);
        const uint8_t *rest = cursor_take(&in, state_bytes);
        memcpy(state, rest ? rest : input, rest ? state_bytes : 0);
    } else {
        memcpy(state, sound.data, state_bytes);
        for (unsigned i = 0; i < changes % 8; i++) {
            const size_t at = (size_t)cursor_get_le(&in, 2) % state_bytes;
            state[at] = (uint8_t)cursor_get_le(&in, 1);
        }
        change_ram(&in);
    }
    if (load(&made, state, state_bytes) == 0) {
        serve(&made);
        save_and_load_again(&made);
    }
    unmake(&made);
    return 0;
}
