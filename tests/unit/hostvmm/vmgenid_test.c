/* The generation id: where it is written, and when the guest is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hostvmm/device/vmgenid.h"
#include "hostvmm/snapshot/codec.h"

#define AT 0x2000u

static uint8_t ram[0x4000] __attribute__((aligned(4096)));
static const uint8_t fresh[VMGENID_BYTES] = {1, 2, 3};

struct fixture {
    struct guest_memory memory;
    struct vmgenid vmgenid;
};

static int setup(void **state)
{
    static struct fixture f;
    memset(ram, 0, sizeof ram);
    guest_memory_over(&f.memory, ram, sizeof ram);
    assert_int_equal(vmgenid_init(&f.vmgenid, &f.memory, gpa_of(AT)), 0);
    f.vmgenid.irq.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close(f->vmgenid.irq.fd);
    guest_memory_fini(&f->memory);
    return 0;
}

static unsigned interrupts(const struct fixture *f)
{
    uint64_t count;
    return read(f->vmgenid.irq.fd, &count, sizeof count) == sizeof count ? (unsigned)count : 0;
}

static void the_first_id_is_random_and_no_news(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zero[VMGENID_BYTES];
    uint8_t first[VMGENID_BYTES];
    memcpy(first, ram + AT, sizeof first);
    assert_memory_not_equal(first, zero, sizeof zero);
    assert_memory_equal(ram + AT + VMGENID_BYTES, zero, sizeof zero);
    const int irq = f->vmgenid.irq.fd;
    assert_int_equal(vmgenid_init(&f->vmgenid, &f->memory, gpa_of(AT)), 0);
    f->vmgenid.irq.fd = irq;
    assert_memory_not_equal(first, ram + AT, sizeof first);
    vmgenid_guest_ready(&f->vmgenid);
    assert_int_equal(interrupts(f), 0);
}

static void a_ready_guest_is_told_at_once(void **state)
{
    struct fixture *f = *state;
    vmgenid_guest_ready(&f->vmgenid);
    assert_int_equal(vmgenid_change(&f->vmgenid, fresh), 0);
    assert_memory_equal(ram + AT, fresh, sizeof fresh);
    assert_int_equal(interrupts(f), 1);
    vmgenid_guest_ready(&f->vmgenid);
    assert_int_equal(interrupts(f), 0);
}

static void a_booting_guest_is_told_when_its_driver_is_bound(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmgenid_change(&f->vmgenid, fresh), 0);
    assert_memory_equal(ram + AT, fresh, sizeof fresh);
    assert_int_equal(interrupts(f), 0);
    vmgenid_guest_ready(&f->vmgenid);
    assert_int_equal(interrupts(f), 1);
}

static void what_cannot_be_an_id_is_refused(void **state)
{
    struct fixture *f = *state;
    static const uint8_t zero[VMGENID_BYTES];
    struct vmgenid outside;
    uint8_t before[VMGENID_BYTES];
    memcpy(before, ram + AT, sizeof before);
    vmgenid_guest_ready(&f->vmgenid);
    assert_int_equal(vmgenid_change(&f->vmgenid, zero), -EINVAL);
    assert_memory_equal(before, ram + AT, sizeof before);
    assert_int_equal(interrupts(f), 0);
    assert_int_equal(vmgenid_init(&outside, &f->memory, gpa_of(sizeof ram)), -EFAULT);
}

/* Save one, load it into a new one. */
static int transplant(struct fixture *f, struct state_reader *in)
{
    struct state_writer out;
    const int irq = f->vmgenid.irq.fd;
    state_writer_init(&out);
    vmgenid_save(&f->vmgenid, &out, "vmgenid");
    assert_int_equal(vmgenid_init(&f->vmgenid, &f->memory, gpa_of(AT)), 0);
    f->vmgenid.irq.fd = irq;
    state_reader_init(in, out.data, out.size_bytes);
    vmgenid_load(&f->vmgenid, in, "vmgenid");
    const int error = state_reader_finish(in);
    state_writer_fini(&out);
    return error;
}

static void it_is_kept_over_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct state_reader in;
    uint8_t id[VMGENID_BYTES];
    /* Of a guest that is yet to be told. */
    assert_int_equal(vmgenid_change(&f->vmgenid, fresh), 0);
    assert_int_equal(transplant(f, &in), 0);
    assert_memory_equal(f->vmgenid.id, fresh, sizeof fresh);
    vmgenid_guest_ready(&f->vmgenid);
    assert_int_equal(interrupts(f), 1);
    /* Of a guest that is up: its clone is told at once. */
    assert_int_equal(transplant(f, &in), 0);
    assert_int_equal(interrupts(f), 0);
    memset(id, 7, sizeof id);
    assert_int_equal(vmgenid_change(&f->vmgenid, id), 0);
    assert_int_equal(interrupts(f), 1);
    /* What never is. */
    f->vmgenid.notify_pending = true;
    assert_true(transplant(f, &in) < 0);
    assert_non_null(strstr(in.why, "vmgenid.notify_pending"));
    memset(f->vmgenid.id, 0, sizeof f->vmgenid.id);
    assert_true(transplant(f, &in) < 0);
    assert_non_null(strstr(in.why, "vmgenid.id"));
    assert_false(f->vmgenid.guest_ready);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_id_is_random_and_no_news, setup, teardown),
        cmocka_unit_test_setup_teardown(a_ready_guest_is_told_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_booting_guest_is_told_when_its_driver_is_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_an_id_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_kept_over_a_snapshot, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
