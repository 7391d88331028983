/* See vmgenid.h. */
#include "hostvmm/device/vmgenid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "hostvmm/snapshot/codec.h"

static bool is_zero(const uint8_t id[VMGENID_BYTES])
{
    static const uint8_t zero[VMGENID_BYTES];
    return memcmp(id, zero, VMGENID_BYTES) == 0;
}

static int write_id(struct vmgenid *vmgenid, const uint8_t id[VMGENID_BYTES])
{
    const int error = guest_memory_write(vmgenid->memory, vmgenid->at, id, VMGENID_BYTES);
    if (error == 0)
        memcpy(vmgenid->id, id, VMGENID_BYTES);
    return error;
}

int vmgenid_init(struct vmgenid *vmgenid, const struct guest_memory *memory, struct gpa at)
{
    uint8_t id[VMGENID_BYTES] = {0};
    *vmgenid = (struct vmgenid){.memory = memory, .at = at, .irq = {.fd = -1}};
    while (is_zero(id))
        if (getrandom(id, sizeof id, 0) < 0 && errno != EINTR) /* so few bytes come whole */
            return -errno;
    return write_id(vmgenid, id);
}

static void notify(struct vmgenid *vmgenid)
{
    if (!vmgenid->notify_pending || !vmgenid->guest_ready)
        return;
    vmgenid->notify_pending = false;
    irq_raise(&vmgenid->irq);
}

int vmgenid_change(struct vmgenid *vmgenid, const uint8_t id[VMGENID_BYTES])
{
    if (is_zero(id))
        return -EINVAL;
    const int error = write_id(vmgenid, id);
    if (error)
        return error;
    vmgenid->notify_pending = true;
    notify(vmgenid);
    return 0;
}

void vmgenid_guest_ready(struct vmgenid *vmgenid)
{
    vmgenid->guest_ready = true;
    notify(vmgenid);
}

void vmgenid_save(const struct vmgenid *vmgenid, struct state_writer *out, const char *key)
{
    state_put_map(out, key, 3);
    state_put_bytes(out, "id", vmgenid->id, sizeof vmgenid->id);
    state_put_bool(out, "notify_pending", vmgenid->notify_pending);
    state_put_bool(out, "guest_ready", vmgenid->guest_ready);
}

void vmgenid_load(struct vmgenid *vmgenid, struct state_reader *in, const char *key)
{
    uint8_t id[VMGENID_BYTES];
    memset(id, 0xff, sizeof id);
    state_get_map(in, key, 3);
    state_get_bytes(in, "id", id, sizeof id);
    const bool notify_pending = state_get_bool(in, "notify_pending");
    const bool guest_ready = state_get_bool(in, "guest_ready");
    if (is_zero(id))
        state_refuse(in, "id", "all zeros");
    if (notify_pending && guest_ready)
        state_refuse(in, "notify_pending", "true, while the guest is ready");
    state_end(in);
    if (in->failed)
        return;
    memcpy(vmgenid->id, id, sizeof id);
    vmgenid->notify_pending = notify_pending;
    vmgenid->guest_ready = guest_ready;
}
