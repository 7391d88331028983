/*
 * A kernel that is none: it runs on the bare virtual machine and abuses the virtio devices until it is
 * stopped. It is loaded as Linux is (64-bit boot protocol), on one processor, with interrupts off.
 *
 * One round, of the device that the generator chooses: half of the rounds bring it up as a driver would, fill
 * its rings with chains that are right but for their values, and write over them while they are served; the
 * others write anything into any register and over the rings. What a device did is counted: buffers it gave
 * back, times it said that it is broken. A line about it goes out on the serial port every REPORT_ROUNDS.
 *
 *   garbage.seed=N     another sequence
 *   garbage.mode=spin  computes, and touches nothing: what to compare with
 *
 * The devices may write wherever a descriptor, or a ring's address, points to. So addresses in RAM are those
 * of the arena, in which nothing of the program's lies; all others are beyond RAM.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "hostvmm/arch/x86_64/layout.h"

#define WINDOWS         18u
#define WINDOW_BYTES    4096u
#define MAGIC           0x74726976u
#define ARENA           0x100000u
#define ARENA_BYTES     0x3c00000u
#define RAM_BYTES       0x4000000u
#define RINGS           0x200000u /* in the arena */
#define QUEUE_BYTES     0x8000u
#define AVAIL_AT        0x2000u
#define USED_AT         0x4000u
#define QUEUES          4u
#define QUEUE_SIZE_MAX  256u
#define WAIT_LOOKS      200u /* at the used index; each costs nothing but time */
#define REPORT_ROUNDS   64u
#define SMALL_BYTES     0x10000u
#define ZERO_PAGE_LINE  0x228u /* where its address is */
#define LINE_MAX        2048u
#define SERIAL_DATA     (X86_SERIAL_PORT + 0)
#define SERIAL_ENABLE   (X86_SERIAL_PORT + 1)
#define SERIAL_LINE     (X86_SERIAL_PORT + 3)
#define SERIAL_MODEM    (X86_SERIAL_PORT + 4)
#define LIFECYCLE_STAGE (X86_LIFECYCLE_PORT + 1)
#define STATUS_DRIVER   3u
#define PTE_LARGE       0x83u

void run(const uint8_t *boot_params);

static uint64_t tables[6 * 512] __attribute__((aligned(4096)));
uint8_t stack[16384] __attribute__((aligned(16)));
__attribute__((section(".high"), used)) static const uint32_t high = MAGIC;

__asm__(".section .text.start,\"ax\"\n"
        ".global start\n"
        "start: cld\n"
        "       lea stack+16384(%rip), %rsp\n"
        "       mov %rsi, %rdi\n"
        "       call run\n"
        "1:     hlt\n"
        "       jmp 1b\n");

static uint64_t state = 88172645463325252ull;
static struct {
    uintptr_t base;
    uint32_t id;
    uint16_t used[QUEUES]; /* index as last seen */
    uint32_t size[QUEUES]; /* as last brought up; 0: no such queue */
    uint64_t served, broken;
} devices[WINDOWS];
static unsigned device_count;

/* ---- the machine ---- */

static uint64_t draw(void)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717ull;
}

static uint32_t below(uint32_t limit)
{
    return (uint32_t)((draw() >> 32) * limit >> 32);
}

static bool one_in(uint32_t count)
{
    return below(count) == 0;
}

static void out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static uint32_t get(unsigned device, uint32_t offset)
{
    return *(volatile uint32_t *)(devices[device].base + offset);
}

static void set(unsigned device, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(devices[device].base + offset) = value;
}

static void *at(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

static void print(const char *text)
{
    for (; *text; text++)
        out8(SERIAL_DATA, (uint8_t)*text);
}

static void print_number(uint64_t number)
{
    char digits[24];
    unsigned i = sizeof digits;
    digits[--i] = '\0';
    do {
        digits[--i] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    print(digits + i);
}

/* Page tables of our own, beside the program: the first 4 GiB one to one. */
static void map_memory(void)
{
    const uintptr_t base = (uintptr_t)tables;
    tables[0] = (base + 4096) | 3;
    for (unsigned i = 0; i < 4; i++)
        tables[512 + i] = (base + (2 + i) * 4096ull) | 3;
    for (unsigned i = 0; i < 2048; i++)
        tables[1024 + i] = ((uint64_t)i << 21) | PTE_LARGE;
    __asm__ volatile("mov %0, %%cr3" : : "r"(base) : "memory");
}

/* ---- values ---- */

/* In the arena, with room behind it; or not in RAM at all. */
static uint64_t any_address(void)
{
    if (!one_in(8))
        return ARENA + below(ARENA_BYTES - SMALL_BYTES);
    return one_in(2) ? draw() | 1ull << 40 : RAM_BYTES + below(UINT32_MAX - RAM_BYTES);
}

/* For a register, or the half of one, that may hold an address. */
static uint32_t any_word(void)
{
    static const uint32_t edges[] = {0, 1, 2, 3, 7, 8, 15, 128, 256, 0x7fff, 0x8000, 0xffff, UINT32_MAX};
    const uint32_t value = one_in(2) ? edges[below(sizeof edges / sizeof edges[0])] : (uint32_t)draw();
    return value;
}

static uint32_t address_word(void)
{
    const uint32_t value = (uint32_t)draw();
    return value < RAM_BYTES ? ARENA + value % (ARENA_BYTES - SMALL_BYTES) : value;
}

static bool holds_address(uint32_t offset)
{
    return offset == VIRTIO_MMIO_QUEUE_DESC_LOW || offset == VIRTIO_MMIO_QUEUE_AVAIL_LOW ||
           offset == VIRTIO_MMIO_QUEUE_USED_LOW;
}

static uint32_t any_length(void)
{
    if (one_in(16))
        return RAM_BYTES + below(UINT32_MAX - RAM_BYTES);
    return one_in(2) ? below(600) : below(SMALL_BYTES);
}

static uint64_t queue_at(unsigned device, unsigned queue)
{
    return RINGS + (uint64_t)(device * QUEUES + queue) * QUEUE_BYTES;
}

static struct vring_desc any_desc(void)
{
    return (struct vring_desc){
        .addr = any_address(),
        .len = any_length(),
        .flags = one_in(16) ? (uint16_t)draw() : (uint16_t)below(8),
        .next = one_in(16) ? (uint16_t)draw() : (uint16_t)below(QUEUE_SIZE_MAX),
    };
}

/* ---- half of the rounds: a driver ---- */

static void bring_up(unsigned device)
{
    set(device, VIRTIO_MMIO_STATUS, 0);
    set(device, VIRTIO_MMIO_STATUS, STATUS_DRIVER);
    for (uint32_t half = 0; half < 2; half++) {
        set(device, VIRTIO_MMIO_DEVICE_FEATURES_SEL, half);
        set(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        const uint32_t offered = get(device, VIRTIO_MMIO_DEVICE_FEATURES);
        set(device, VIRTIO_MMIO_DRIVER_FEATURES, offered & (half == 0 && one_in(2) ? (uint32_t)draw() : ~0u));
    }
    set(device, VIRTIO_MMIO_STATUS, STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK);
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        const uint64_t base = queue_at(device, queue);
        set(device, VIRTIO_MMIO_QUEUE_SEL, queue);
        const uint32_t max = get(device, VIRTIO_MMIO_QUEUE_NUM_MAX);
        const uint32_t size = one_in(2) || max < 16 ? max : 1u << below(5);
        devices[device].size[queue] = size;
        if (max == 0)
            break;
        set(device, VIRTIO_MMIO_QUEUE_NUM, size);
        set(device, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)base);
        set(device, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
        set(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)base + AVAIL_AT);
        set(device, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0);
        set(device, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)base + USED_AT);
        set(device, VIRTIO_MMIO_QUEUE_USED_HIGH, 0);
        *(volatile uint32_t *)at(base + AVAIL_AT) = 0;
        *(volatile uint32_t *)at(base + USED_AT) = 0;
        devices[device].used[queue] = 0;
        set(device, VIRTIO_MMIO_QUEUE_READY, 1);
    }
    set(device, VIRTIO_MMIO_STATUS, STATUS_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void put_desc(uint64_t base, unsigned index, uint64_t address, uint32_t length, unsigned flags)
{
    *(struct vring_desc *)at(base + 16ull * index) = (struct vring_desc){
        .addr = address, .len = length, .flags = (uint16_t)flags, .next = (uint16_t)(index + 1)};
}

/* What the driver of each kind would write first: how many bytes. */
static uint32_t put_header(uint32_t id, uint64_t address)
{
    uint32_t *words = at(address);
    for (unsigned i = 0; i < 12; i++)
        words[i] = 0;
    switch (id) {
    case VIRTIO_ID_BLOCK:
        words[0] = one_in(8) ? any_word() : below(16);
        words[2] = one_in(8) ? any_word() : below(4096);
        return 16;
    case VIRTIO_ID_VSOCK:
        words[0] = 3; /* from us to the host: CIDs, ports, length, type and operation, flags, credit */
        words[2] = 2;
        words[4] = below(4);
        words[5] = one_in(2) ? 1024 : below(4);
        words[6] = one_in(4) ? any_word() : below(64);
        words[7] = 1u | (one_in(8) ? any_word() : below(9)) << 16;
        words[8] = below(4);
        words[9] = one_in(2) ? SMALL_BYTES : any_word();
        words[10] = one_in(2) ? 0 : any_word();
        return 44;
    case VIRTIO_ID_NET:
        words[0] = one_in(4) ? any_word() : 0;
        words[1] = one_in(4) ? any_word() : 0;
        return 12;
    default:
        return 16;
    }
}

/* One chain of three at `index`: header, data, and a last byte of the device's; their directions are right
 * more often than not. */
static void put_chain(unsigned device, unsigned queue, unsigned index)
{
    const uint64_t base = queue_at(device, queue);
    const uint64_t data = RINGS + WINDOWS * QUEUES * QUEUE_BYTES + below(0x1000000);
    const uint32_t id = devices[device].id;
    const bool gives = id == VIRTIO_ID_RNG || (queue == 0 && (id == VIRTIO_ID_NET || id == VIRTIO_ID_VSOCK));
    const unsigned write = gives || one_in(16) ? VRING_DESC_F_WRITE : 0;
    put_desc(base, index, data, put_header(id, data), VRING_DESC_F_NEXT | write);
    put_desc(base, index + 1, data + 64, 1 + below(4096),
             VRING_DESC_F_NEXT | (gives || one_in(2) ? VRING_DESC_F_WRITE : 0));
    put_desc(base, index + 2, data + 8192, 1, id == VIRTIO_ID_BLOCK || gives ? VRING_DESC_F_WRITE : 0);
}

static void publish(unsigned device, unsigned queue, unsigned head, uint32_t size)
{
    volatile uint16_t *avail = at(queue_at(device, queue) + AVAIL_AT);
    avail[2 + (avail[1] & (size - 1))] = (uint16_t)head;
    __asm__ volatile("" : : : "memory");
    avail[1]++;
}

static void count_used(unsigned device, unsigned queue)
{
    const volatile uint16_t *used = at(queue_at(device, queue) + USED_AT);
    const uint16_t moved = (uint16_t)(used[1] - devices[device].used[queue]);
    if (moved <= QUEUE_SIZE_MAX)
        devices[device].served += moved;
    devices[device].used[queue] = used[1];
}

static void spoil_ring(uint64_t base)
{
    switch (below(5)) {
    case 0:
        *(struct vring_desc *)at(base + 16ull * below(QUEUE_SIZE_MAX)) = any_desc();
        break;
    case 1:
        *(volatile uint16_t *)at(base + AVAIL_AT + 2) = (uint16_t)draw();
        break;
    case 2:
        *(volatile uint16_t *)at(base + AVAIL_AT + 4 + 2 * below(QUEUE_SIZE_MAX)) = (uint16_t)draw();
        break;
    case 3:
        *(volatile uint32_t *)at(base + USED_AT + 4 * below(512)) = any_word();
        break;
    default:
        *(volatile uint16_t *)at(base + AVAIL_AT) = (uint16_t)draw();
        break;
    }
}

static void drive(unsigned device)
{
    bring_up(device);
    const bool spoils = one_in(2);
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        const uint32_t size = devices[device].size[queue];
        if (size == 0)
            break;
        const unsigned chains = 1 + below(5);
        for (unsigned i = 0; i < chains && 3 * i + 2 < size; i++) {
            put_chain(device, queue, 3 * i);
            publish(device, queue, 3 * i, size);
        }
        set(device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
        for (unsigned i = 0; spoils && i < 16; i++)
            spoil_ring(queue_at(device, queue));
        if (spoils)
            set(device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
        for (unsigned i = 0; i < WAIT_LOOKS; i++)
            __asm__ volatile("pause" : : : "memory");
        if (!spoils)
            count_used(device, queue);
    }
}

/* ---- the other half: anything ---- */

static void write_anything(unsigned device)
{
    const uint32_t offset = one_in(4) ? below(WINDOW_BYTES / 8) * 8 : below(0x40) * 4;
    volatile void *to = at(devices[device].base + offset);
    switch (one_in(4) ? below(4) : 2) {
    case 0:
        *(volatile uint8_t *)to = (uint8_t)draw();
        break;
    case 1:
        *(volatile uint16_t *)to = (uint16_t)draw();
        break;
    case 2:
        set(device, offset, holds_address(offset) ? address_word() : any_word());
        break;
    default:
        if (offset < VIRTIO_MMIO_QUEUE_DESC_LOW || offset >= VIRTIO_MMIO_CONFIG)
            *(volatile uint64_t *)to = draw();
        break;
    }
    if (one_in(2))
        (void)get(device, below(0x60) * 4);
}

static void fill_rings(unsigned device)
{
    for (unsigned queue = 0; queue < QUEUES; queue++)
        for (unsigned i = 0; i < 64; i++)
            spoil_ring(queue_at(device, queue));
}

static void abuse(unsigned device)
{
    if (one_in(2))
        bring_up(device);
    for (unsigned i = 0; i < 32; i++)
        write_anything(device);
    fill_rings(device);
    for (uint32_t queue = 0; queue < QUEUES; queue++)
        set(device, VIRTIO_MMIO_QUEUE_NOTIFY, one_in(8) ? any_word() : queue);
}

/* The serial port in loop-back, that its garbage is not the console's; and stages of a boot. */
static void abuse_ports(void)
{
    out8(SERIAL_MODEM, 0x10);
    for (unsigned i = 0; i < 16; i++) {
        const uint16_t port = (uint16_t)(X86_SERIAL_PORT + below(8));
        if (port != SERIAL_MODEM)
            out8(port, (uint8_t)draw());
        (void)in8((uint16_t)(X86_SERIAL_PORT + below(8)));
    }
    out8(SERIAL_LINE, 3);
    out8(SERIAL_ENABLE, 0);
    out8(SERIAL_MODEM, 0);
    out8(LIFECYCLE_STAGE, (uint8_t)draw());
    out8(X86_LIFECYCLE_PORT, (uint8_t)draw());
}

/* ---- life ---- */

static void find_devices(void)
{
    for (unsigned i = 0; i < WINDOWS; i++) {
        const uintptr_t base = X86_VIRTIO + (uintptr_t)i * WINDOW_BYTES;
        if (*(volatile uint32_t *)base != MAGIC)
            continue;
        devices[device_count].base = base;
        devices[device_count].id = *(volatile uint32_t *)(base + VIRTIO_MMIO_DEVICE_ID);
        device_count++;
    }
}

static void report(uint64_t rounds)
{
    print("garbage: rounds=");
    print_number(rounds);
    for (unsigned i = 0; i < device_count; i++) {
        print(" id");
        print_number(devices[i].id);
        print("=");
        print_number(devices[i].served);
        print("/");
        print_number(devices[i].broken);
    }
    print("\n");
}

/* The number, or the word, behind `name` on the command line; NULL: it is not there. */
static const char *option(const char *line, const char *name)
{
    for (const char *end = line + LINE_MAX; line < end && *line; line++) {
        const char *a = line, *b = name;
        while (*b && *a == *b) {
            a++;
            b++;
        }
        if (!*b)
            return a;
    }
    return NULL;
}

void run(const uint8_t *boot_params)
{
    const char *line = at(*(const uint32_t *)(const void *)(boot_params + ZERO_PAGE_LINE));
    const char *seed = option(line, "garbage.seed=");
    const char *mode = option(line, "garbage.mode=");
    for (; seed && *seed >= '0' && *seed <= '9'; seed++)
        state = state * 31 + (uint64_t)*seed;
    map_memory();
    find_devices();
    print(mode && *mode == 's' ? "garbage: spins\n" : "garbage: begins\n");
    while (mode && *mode == 's')
        (void)draw();
    for (uint64_t rounds = 1; device_count > 0; rounds++) {
        const unsigned device = below(device_count);
        if (one_in(2))
            drive(device);
        else
            abuse(device);
        if (get(device, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)
            devices[device].broken++;
        if (one_in(16))
            abuse_ports();
        if (rounds % REPORT_ROUNDS == 0)
            report(rounds);
    }
    print("garbage: no device\n");
}
