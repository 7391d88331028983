/*
 * Values of the boot line, init/bootargs.c: decode_value, for every field and any bytes, reads only its
 * value, writes only its field, and leaves a number within the field's range and a text that ends within its
 * field.
 *
 * Bounds: values of 0 to 8 bytes, and of 64 and 65: too long for all fields but net, which is left out there.
 *
 * options: -eva-slevel 300 -eva-domains cvalue -eva-slevel-function is_alnum:0,digit_of:0
 */
#include "tests/proof/bounds.h"

#include "init/bootargs.c"

#define VALUE_BYTES 65u

static void each(unsigned row, size_t size)
{
    struct bootargs args;
    char data[VALUE_BYTES];
    bootargs_defaults(&args);
    any_bytes(data, sizeof data);
    const char *why = decode_value(&fields[row], &args, data + (size ? VALUE_BYTES - size : 0), size);
    //@ assert args.agent_restarts <= 100 && args.grace_ms <= 60000 && args.exit_port <= 0xfffe;
    //@ assert args.hostname[BOOTARGS_VALUE_MAX] == 0 && args.root[BOOTARGS_VALUE_MAX] == 0;
    //@ assert args.overlay[BOOTARGS_VALUE_MAX] == 0 && args.agent[BOOTARGS_VALUE_MAX] == 0;
}

int main(void)
{
    static const size_t sizes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 64, 65};
    //@ loop unroll 20;
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        //@ loop unroll 20;
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            if (sizes[i] <= 8 || fields[row].text_max <= BOOTARGS_VALUE_MAX)
                each(row, sizes[i]);
    return 0;
}
