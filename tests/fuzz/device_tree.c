/*
 * libFuzzer target: a whole machine's devices on their buses, as the guest's processors reach them: two
 * drives, an entropy device, sockets, an interface, a balloon, serial port, lifecycle ports, generation id, over memory
 * that is the fuzzer's as well. The input is a program: register accesses of every size at any place, bytes
 * and descriptors into memory, notifications, what the host does meanwhile, pauses, and snapshots of it all
 * that are loaded into a machine made anew, which goes on in the old one's place.
 *
 * What is checked beside memory safety: an access that no device claims reads all ones; between two turns no
 * request is in a device's hands; a device serves only between DRIVER_OK and reset, and a broken one not at
 * all; what was saved can be loaded, and saved again it is the same.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/cursor.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "hostvmm/bus.h"
#include "hostvmm/device/lifecycle.h"
#include "hostvmm/device/serial.h"
#include "hostvmm/device/virtio/balloon.h"
#include "hostvmm/device/virtio/blk.h"
#include "hostvmm/device/virtio/net.h"
#include "hostvmm/device/virtio/rng.h"
#include "hostvmm/device/virtio/vsock.h"
#include "hostvmm/device/vmgenid.h"
#include "hostvmm/snapshot/codec.h"
#include "tests/fuzz/driver.h"

#define RAM_BYTES    0x10000u
#define FILE_BYTES   0x8000u
#define VMGENID_AT   0xf000u
#define DATA_AT      0x7000u
#define WINDOWS_AT   0xd0000000u
#define SERIAL_PORT  0x3f8u
#define LIFE_PORT    0x5f0u
#define GUEST_CID    3
#define DRIVES       2
#define VIRTIO_COUNT (DRIVES + 4)
#define QUEUE_COUNT  13u /* of all of them */
#define HOST_FDS     4
#define COMING_MAX   4
#define TURNS_MAX    64 /* of the loop, until it is at rest; the guest can keep it busy */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct tree {
    struct guest_memory memory;
    struct loop loop;
    struct bus ports, mmio;
    struct serial serial;
    struct lifecycle lifecycle;
    struct vmgenid vmgenid;
    struct virtio_blk drives[DRIVES];
    struct virtio_rng rng;
    struct virtio_vsock vsock;
    struct virtio_net net;
    struct virtio_balloon balloon;
    struct virtio_device *virtio[VIRTIO_COUNT];
    uint32_t queues_at[VIRTIO_COUNT]; /* where the driver lays them out */
};

static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));
static struct tree trees[2], *tree = &trees[0];
static int host_fds[HOST_FDS];    /* the host's ends of connections; -1: none */
static size_t coming[COMING_MAX]; /* sizes of frames that wait on the wire */
static unsigned coming_count;
static unsigned sends_left;
static unsigned ends; /* power off, reset: told once each write */

/* ---- what the devices are connected to ---- */

static void drop_byte(void *context, uint8_t byte)
{
    (void)context;
    (void)byte;
}

static void nothing(void *context)
{
    (void)context;
}

static void on_stage(void *context, enum guest_stage stage)
{
    (void)context;
    if (stage == GUEST_STAGE_PID1)
        vmgenid_guest_ready(&tree->vmgenid);
}

static void on_end(void *context)
{
    (void)context;
    ends++;
}

static int wire_send(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    uint8_t sum = 0;
    (void)backend;
    for (unsigned i = 0; i < count; i++)
        for (size_t j = 0; j < parts[i].iov_len; j++)
            sum = (uint8_t)(sum + ((const uint8_t *)parts[i].iov_base)[j]);
    if (sends_left == 0)
        return -EAGAIN;
    sends_left--;
    return sum & 0; /* all of it could be read */
}

static int64_t wire_receive(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    size_t done = 0;
    (void)backend;
    if (coming_count == 0)
        return -EAGAIN;
    const size_t size = coming[--coming_count];
    for (unsigned i = 0; i < count && done < size; i++) {
        const size_t here = parts[i].iov_len < size - done ? parts[i].iov_len : size - done;
        memset(parts[i].iov_base, 0x5a, here);
        done += here;
    }
    if (done < size)
        abort();
    return (int64_t)size;
}

static void wire_close(struct net_backend *backend)
{
    (void)close(backend->fd);
}

static const struct net_backend_ops wire = {
    .name = "fuzz",
    .features = 1ull << VIRTIO_NET_F_CSUM | 1ull << VIRTIO_NET_F_HOST_TSO4,
    .send = wire_send,
    .receive = wire_receive,
    .close = wire_close,
};

/* ---- a machine's life ---- */

static void put_on_bus(struct tree *made, struct virtio_device *device, unsigned *count)
{
    const uint64_t at = WINDOWS_AT + (uint64_t)*count * VIRTIO_MMIO_WINDOW_BYTES;
    made->virtio[*count] = device;
    if (*count > 0) {
        const struct virtio_device *last = made->virtio[*count - 1];
        made->queues_at[*count] = made->queues_at[*count - 1] + last->kind->queue_count * DRIVER_QUEUE_BYTES;
    }
    if (bus_add(&made->mmio, at, VIRTIO_MMIO_WINDOW_BYTES, &virtio_mmio_bus_ops, device, "virtio"))
        abort();
    ++*count;
}

static void make_drive(struct tree *made, unsigned index)
{
    const int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, FILE_BYTES) < 0 ||
        virtio_blk_init(&made->drives[index], &made->memory, fd, index == 1, "fuzz") < 0)
        abort();
    made->drives[index].serve_by_hand = true;
}

static void make(struct tree *made)
{
    static const struct serial_ops serial_ops = {.transmit = drop_byte, .input_wanted = nothing};
    static const struct lifecycle_ops life_ops = {.stage = on_stage, .power_off = on_end, .reset = on_end};
    static const struct virtio_net_plan plan = {.mac = {0x52, 0x54, 0, 0, 0, 1}, .mtu = 1400, .shut = true};
    static const struct virtio_balloon_plan balloon_plan = {
        .on = true, .free_page_reporting = true, .free_page_hinting = true, .stats_s = 600};
    const struct net_backend backend = {.ops = &wire, .fd = eventfd(0, EFD_CLOEXEC)};
    unsigned count = 0;
    memset(made, 0, sizeof *made);
    guest_memory_over(&made->memory, ram, sizeof ram);
    if (loop_init(&made->loop) < 0 || serial_init(&made->serial, &serial_ops, NULL) < 0 ||
        vmgenid_init(&made->vmgenid, &made->memory, gpa_of(VMGENID_AT)) < 0 ||
        virtio_rng_init(&made->rng, &made->memory, &made->loop) < 0 ||
        virtio_vsock_init(&made->vsock, &made->memory, &made->loop, NULL, GUEST_CID) < 0 ||
        virtio_net_init(&made->net, &made->memory, &backend, &plan) < 0 ||
        virtio_balloon_init(&made->balloon, &made->memory, &made->loop, &balloon_plan) < 0)
        abort();
    lifecycle_init(&made->lifecycle, &life_ops, NULL);
    made->net.serve_by_hand = true;
    for (unsigned i = 0; i < DRIVES; i++) {
        make_drive(made, i);
        put_on_bus(made, &made->drives[i].device, &count);
    }
    put_on_bus(made, &made->rng.device, &count);
    put_on_bus(made, &made->vsock.device, &count);
    put_on_bus(made, &made->net.device, &count);
    put_on_bus(made, &made->balloon.device, &count);
    if (bus_add(&made->ports, SERIAL_PORT, SERIAL_PORT_BYTES, &serial_bus_ops, &made->serial, "serial") ||
        bus_add(&made->ports, LIFE_PORT, LIFECYCLE_BYTES, &lifecycle_bus_ops, &made->lifecycle, "life"))
        abort();
}

static void unmake(struct tree *made)
{
    virtio_balloon_fini(&made->balloon);
    virtio_net_fini(&made->net);
    virtio_vsock_fini(&made->vsock);
    virtio_rng_fini(&made->rng);
    for (unsigned i = 0; i < DRIVES; i++)
        virtio_blk_fini(&made->drives[i]);
    serial_fini(&made->serial);
    loop_fini(&made->loop);
    guest_memory_fini(&made->memory);
}

static void pause_all(struct tree *of)
{
    for (unsigned i = 0; i < VIRTIO_COUNT; i++)
        virtio_device_pause(of->virtio[i]);
}

static void save(struct tree *of, struct state_writer *out)
{
    state_writer_init(out);
    state_put_map(out, NULL, 9);
    serial_save(&of->serial, out, "serial");
    lifecycle_save(&of->lifecycle, out, "lifecycle");
    vmgenid_save(&of->vmgenid, out, "vmgenid");
    virtio_blk_save(&of->drives[0], out, "blk0");
    virtio_blk_save(&of->drives[1], out, "blk1");
    virtio_rng_save(&of->rng, out, "rng");
    virtio_vsock_save(&of->vsock, out, "vsock");
    virtio_net_save(&of->net, out, "net");
    virtio_balloon_save(&of->balloon, out, "balloon");
    if (out->failed)
        abort();
}

static void load(struct tree *into, const struct state_writer *from)
{
    struct state_reader in;
    state_reader_init(&in, from->data, from->size_bytes);
    state_get_map(&in, NULL, 9);
    serial_load(&into->serial, &in, "serial");
    lifecycle_load(&into->lifecycle, &in, "lifecycle");
    vmgenid_load(&into->vmgenid, &in, "vmgenid");
    virtio_blk_load(&into->drives[0], &in, "blk0");
    virtio_blk_load(&into->drives[1], &in, "blk1");
    virtio_rng_load(&into->rng, &in, "rng");
    virtio_vsock_load(&into->vsock, &in, "vsock");
    virtio_net_load(&into->net, &in, "net");
    virtio_balloon_load(&into->balloon, &in, "balloon");
    state_end(&in);
    if (state_reader_finish(&in))
        abort();
}

static void close_host(void)
{
    for (unsigned i = 0; i < HOST_FDS; i++) {
        if (host_fds[i] >= 0)
            (void)close(host_fds[i]);
        host_fds[i] = -1;
    }
}

/* Save it, load that into another, and go on with the other, as a clone does. */
static void clone_machine(struct cursor *in)
{
    static const uint8_t id[VMGENID_BYTES] = {1};
    struct tree *other = tree == &trees[0] ? &trees[1] : &trees[0];
    struct state_writer first, second;
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    pause_all(tree);
    save(tree, &first);
    make(other);
    /* The link is the other's back end's: a load tells the guest where it differs. */
    virtio_net_set_link(&other->net, tree->net.link_up);
    load(other, &first);
    save(other, &second);
    if (first.size_bytes != second.size_bytes || memcmp(first.data, second.data, first.size_bytes) != 0)
        abort();
    close_host();
    unmake(tree);
    tree = other;
    state_writer_fini(&first);
    state_writer_fini(&second);
    if (how & 1u && vmgenid_change(&tree->vmgenid, id) < 0)
        abort();
    for (unsigned i = 0; i < VIRTIO_COUNT; i++)
        virtio_device_revive(tree->virtio[i]);
    serial_revive(&tree->serial);
    if (how & 2u)
        virtio_vsock_reset_connections(&tree->vsock);
}

/* ---- the program's steps ---- */

/* A register of a window, as drivers write it. */
static void write_register(struct cursor *in)
{
    const unsigned window = (unsigned)cursor_get_le(in, 1) % VIRTIO_COUNT;
    const uint32_t offset = (uint32_t)cursor_get_le(in, 1) * 4u;
    driver_write(tree->virtio[window], offset, (uint32_t)cursor_get_le(in, 4));
}

/* Anything at any place of a bus. */
static void access_bus(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    const uint32_t size = 1u << (how >> 2 & 3u);
    struct bus *bus = how & 1u ? &tree->mmio : &tree->ports;
    uint64_t at = cursor_get_le(in, 2), value = cursor_get_le(in, size);
    if (how & 1u)
        at = WINDOWS_AT - 8 + at % ((VIRTIO_COUNT + 1) * VIRTIO_MMIO_WINDOW_BYTES);
    else
        at = how & 16u ? SERIAL_PORT - 1 + at % 10 : LIFE_PORT - 1 + at % 10;
    if (how & 2u) {
        (void)bus_write(bus, at, &value, size);
        return;
    }
    value = 0;
    if (!bus_read(bus, at, &value, size) && (size == 8 ? ~value : ~value << (64 - 8 * size)) != 0)
        abort();
}

static void put_anything(struct cursor *in)
{
    const size_t at = (size_t)cursor_get_le(in, 2), length = (size_t)cursor_get_le(in, 1);
    const uint8_t *from = cursor_take(in, length);
    if (from && length <= RAM_BYTES - at)
        memcpy(ram + at, from, length);
}

static void put_desc(struct cursor *in)
{
    const unsigned queue = (unsigned)cursor_get_le(in, 1);
    const unsigned index = (unsigned)cursor_get_le(in, 1);
    const struct vring_desc desc = {
        .addr = DATA_AT + 16 * (cursor_get_le(in, 2) % 0x900u),
        .len = (uint32_t)cursor_get_le(in, 2),
        .flags = (uint16_t)(cursor_get_le(in, 1) & 7u),
        .next = (uint16_t)cursor_get_le(in, 1),
    };
    driver_put_desc(ram, queue % QUEUE_COUNT * DRIVER_QUEUE_BYTES, index, &desc);
}

static void publish(struct cursor *in)
{
    const unsigned which = (unsigned)cursor_get_le(in, 1);
    struct virtio_device *device = tree->virtio[which % VIRTIO_COUNT];
    const unsigned queue = which / VIRTIO_COUNT % device->kind->queue_count;
    const uint16_t size = device->queues[queue].size;
    const uint32_t at = tree->queues_at[which % VIRTIO_COUNT] + queue * DRIVER_QUEUE_BYTES;
    if (size > 0 && size <= DRIVER_SIZE_MAX)
        driver_publish(ram, at, size, (uint16_t)cursor_get_le(in, 1));
    driver_write(device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

static void bring_up(struct cursor *in)
{
    const unsigned which = (unsigned)cursor_get_le(in, 1) % VIRTIO_COUNT;
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    const uint64_t features = ~((uint64_t)(how >> 3 & 1u) << VIRTIO_RING_F_EVENT_IDX |
                                (uint64_t)(how >> 4 & 1u) << VIRTIO_NET_F_MRG_RXBUF);
    driver_bring_up(tree->virtio[which], ram, tree->queues_at[which], (uint16_t)(1u << (how & 7u) % 6),
                    features);
}

/* No request is in the hands of a device that serves: it was answered, or it waits in the ring. */
static void check_queue(const struct virtio_device *device, unsigned queue)
{
    if (virtio_device_serving(device) && device->queues[queue].last_avail != device->queues[queue].last_used)
        abort();
}

static void check(void)
{
    for (unsigned i = 0; i < VIRTIO_COUNT; i++) {
        const struct virtio_device *device = tree->virtio[i];
        if (device->active && !(device->status & VIRTIO_CONFIG_S_DRIVER_OK))
            abort();
        if (device->status & VIRTIO_CONFIG_S_NEEDS_RESET && virtio_device_serving(device))
            abort();
    }
    check_queue(tree->virtio[0], 0);
    check_queue(tree->virtio[1], 0);
    check_queue(&tree->rng.device, 0);
    check_queue(&tree->net.device, 0);
    check_queue(&tree->net.device, 1);
}

static void serve(struct cursor *in)
{
    (void)in;
    for (unsigned i = 0; i < DRIVES; i++)
        virtio_blk_serve(&tree->drives[i]);
    virtio_net_serve(&tree->net);
    for (unsigned i = 0; i < TURNS_MAX && loop_run_once(&tree->loop, 0) > 0; i++)
        continue;
    check();
}

static void pause_and_go_on(struct cursor *in)
{
    (void)in;
    pause_all(tree);
    for (unsigned i = 0; i < VIRTIO_COUNT; i++)
        virtio_device_unpause(tree->virtio[i]);
}

static void host_socket(uint8_t how, struct cursor *in)
{
    int *fd = &host_fds[how >> 4 & 3u];
    uint8_t bytes[256];
    if (*fd < 0) {
        if (virtio_vsock_connect(&tree->vsock, (uint32_t)cursor_get_le(in, 1), fd) < 0)
            *fd = -1;
    } else if (how & 64u) {
        (void)close(*fd);
        *fd = -1;
    } else {
        memset(bytes, how, sizeof bytes);
        (void)send(*fd, bytes, cursor_get_le(in, 1), MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)recv(*fd, bytes, sizeof bytes, MSG_DONTWAIT);
    }
}

static void balloon_step(unsigned how)
{
    if (how & 1u)
        (void)virtio_balloon_set_target(&tree->balloon, how >> 4);
    else if (how & 2u)
        (void)virtio_balloon_hint_start(&tree->balloon);
    else
        (void)virtio_balloon_hint_stop(&tree->balloon);
}

static void host_step(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    uint8_t bytes[16];
    switch (how & 7u) {
    case 0:
    case 1:
        host_socket(how, in);
        break;
    case 2:
        memset(bytes, how, sizeof bytes);
        if (serial_receive(&tree->serial, bytes, how >> 4) > how >> 4)
            abort();
        break;
    case 3:
        virtio_net_set_link(&tree->net, (how & 8u) != 0);
        break;
    case 4:
        if (coming_count < COMING_MAX)
            coming[coming_count++] = VIRTIO_NET_HEADER_BYTES + (size_t)cursor_get_le(in, 2);
        break;
    case 5:
        sends_left = how >> 3;
        balloon_step(how >> 3);
        break;
    case 6:
        virtio_vsock_reset_connections(&tree->vsock);
        break;
    default:
        virtio_vsock_open_gate(&tree->vsock);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const steps[])(struct cursor *) = {
        write_register, access_bus, put_anything, put_desc,        publish,       bring_up,
        serve,          host_step,  put_desc,     pause_and_go_on, clone_machine, publish};
    static bool logging;
    uint8_t program[4096];
    if (size > sizeof program)
        return -1;
    if (!logging)
        log_setup("fuzz", LOG_LEVEL_ERROR, -1);
    logging = true;
    memcpy(program, data, size);
    memset(ram, 0, sizeof ram);
    memset(host_fds, 0xff, sizeof host_fds);
    coming_count = 0;
    sends_left = 100;
    make(tree);
    struct cursor in = cursor_over(program, size);
    while (cursor_left(&in) > 0)
        steps[cursor_get_le(&in, 1) % (sizeof steps / sizeof steps[0])](&in);
    serve(&in);
    close_host();
    unmake(tree);
    return 0;
}
