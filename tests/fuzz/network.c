/*
 * libFuzzer target: any text is parsed without a fault; what is taken is written in one way, which says the
 * same again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/proto/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/,;=-";
    struct network network;
    struct network again;
    char why[NETWORK_WHY_BYTES];
    char text[PROTO_NETWORK_MAX_BYTES + 1];
    char twice[PROTO_NETWORK_MAX_BYTES + 1];
    if (network_parse(&network, (const char *)data, size, why)) {
        if (strlen(why) == 0 || network.count != 0)
            abort();
        return 0;
    }
    const int length = network_format(&network, text, sizeof text);
    if (length < 0 || (size_t)length != strlen(text) || strspn(text, allowed) != (size_t)length)
        abort();
    if (network_parse(&again, text, (size_t)length, why) || memcmp(&network, &again, sizeof network) != 0)
        abort();
    if (network_format(&again, twice, sizeof twice) != length || strcmp(text, twice) != 0)
        abort();
    return 0;
}
