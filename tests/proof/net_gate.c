/*
 * What opens a clone's gate, hostvmm/device/virtio/net_gate.c: net_gate_announces reads nothing outside the
 * frame, whatever is in it, and ends.
 *
 * Bounds: frames of 0 to 86 bytes, any bytes: with up to one option of an advertisement. Each size is a case
 * of its own, with just that many bytes to read; from 78 on so is each length that the frame gives for its
 * payload, and each that it gives for its options.
 *
 * options: -eva-slevel 300 -eva-precision 2
 */
#include "tests/proof/bounds.h"

#include "hostvmm/device/virtio/net_gate.c"

#define FRAME_BYTES   86u
#define OPTIONS_AT    (ADVERTISEMENT_AT + ADVERTISEMENT_BYTES)
#define OPTIONS_BYTES (FRAME_BYTES - OPTIONS_AT)

static uint8_t mac[MAC_BYTES];

/* At the end of its array: one byte too far is outside. */
static void shorter(size_t size)
{
    uint8_t frame[FRAME_BYTES];
    any_bytes(frame, sizeof frame);
    any_bytes(mac, sizeof mac);
    (void)net_gate_announces(mac, frame + (FRAME_BYTES - size), size);
}

/* The lengths in it lie within these. */
static void longer(size_t size, unsigned payload_from, unsigned payload_to, unsigned first)
{
    uint8_t whole[FRAME_BYTES], *frame = whole + (FRAME_BYTES - size);
    const unsigned payload = any_u32(payload_from, payload_to);
    any_bytes(whole, sizeof whole);
    any_bytes(mac, sizeof mac);
    frame[IPV6_AT + 4] = (uint8_t)(payload >> 8);
    frame[IPV6_AT + 5] = (uint8_t)payload;
    if (size >= OPTIONS_AT + 2)
        frame[OPTIONS_AT + 1] = (uint8_t)any_u32(first, first < 2 ? first : 255);
    (void)net_gate_announces(mac, frame, size);
}

int main(void)
{
    //@ loop unroll 100;
    for (size_t size = 0; size < OPTIONS_AT; size++)
        shorter(size);
    //@ loop unroll 100;
    for (size_t size = OPTIONS_AT; size <= FRAME_BYTES; size++)
        //@ loop unroll 100;
        for (unsigned first = 0; first <= 2; first++) {
            const unsigned most = (unsigned)size - ADVERTISEMENT_AT;
            longer(size, 0, ADVERTISEMENT_BYTES - 1, first);
            //@ loop unroll 100;
            for (unsigned payload = ADVERTISEMENT_BYTES; payload <= most; payload++)
                longer(size, payload, payload, first);
            longer(size, most + 1, 0xffff, first);
        }
    return 0;
}
