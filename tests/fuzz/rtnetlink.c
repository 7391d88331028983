/*
 * libFuzzer target: any bytes as a datagram of rtnetlink's answers. Beside the sanitizers': reading goes on
 * to the end or a refusal, never past it, and an error is one that errno knows.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "agent/net/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_answer answer;
    size_t at = 0, before = 0;
    int more;
    while ((more = net_message_answer(&answer, data, size, &at)) == 1) {
        if (at <= before || at > size || answer.error > 0 || answer.error <= -4096)
            abort();
        before = at;
    }
    if (more == 0 && at != size)
        abort();
    return 0;
}
