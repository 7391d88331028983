/*
 * Answers of rtnetlink, agent/net/message.c: net_message_answer reads nothing outside the datagram, and each
 * answer moves on towards its end and never past it, so a walk over a datagram ends.
 *
 * Bounds: datagrams of 0 to 40 bytes, any bytes; every size and every place in it a case of its own.
 *
 * options: -eva-slevel 5000
 */
#include "tests/proof/bounds.h"

#include "agent/net/message.c"

#define DATAGRAM_BYTES 40u

static void each(size_t size, size_t start)
{
    uint8_t data[DATAGRAM_BYTES];
    struct net_answer answer;
    size_t at = start;
    any_bytes(data, sizeof data);
    if (start <= size && net_message_answer(&answer, data + (DATAGRAM_BYTES - size), size, &at) == 1) {
        //@ assert start < at <= size;
        //@ assert -4096 < answer.error <= 0;
    }
}

int main(void)
{
    for (size_t size = 0; size <= DATAGRAM_BYTES; size++)
        for (size_t start = 0; start <= DATAGRAM_BYTES; start++)
            each(size, start);
    return 0;
}
