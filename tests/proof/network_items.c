/*
 * Items of a network's text, agent/proto/network.c: on_mac and on_mtu read nothing but their value and take
 * no MAC address that is a group's and no MTU outside 1280..65535; parse_number gives no number beyond its
 * bound.
 *
 * Bounds: values of 0 to 20 bytes, any bytes, each size a case of its own.
 *
 * options: -eva-slevel 200 -eva-domains cvalue
 */
#include "tests/proof/bounds.h"

#include "agent/proto/network.c"

#define VALUE_BYTES 20u

static void each(size_t size)
{
    char data[VALUE_BYTES + 1];
    unsigned number = 0;
    struct network_interface interface = {.mtu = 0};
    any_bytes(data, sizeof data);
    const struct value value = {data + (VALUE_BYTES + 1 - size), size};
    if (!on_mac(&interface, value)) {
        //@ assert interface.has_mac != 0;
    }
    if (!on_mtu(&interface, value)) {
        //@ assert 1280 <= interface.mtu <= 65535;
    }
    const unsigned min = any_u32(0, UINT32_MAX), max = 128;
    if (parse_number(value, min, max, &number)) {
        //@ assert number <= 128;
    }
}

int main(void)
{
    //@ loop unroll 30;
    for (size_t size = 0; size <= VALUE_BYTES; size++)
        each(size);
    return 0;
}
