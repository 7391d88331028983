/*
 * libFuzzer target: answers of DNS. The first byte says which question was asked; the rest is the answer to
 * it. What comes out are addresses of the family asked for, no more than there is room for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const uint16_t type = data[0] & 1 ? DNS_TYPE_AAAA : DNS_TYPE_A;
    const unsigned capacity = data[0] & 2 ? 1 : DNS_ADDRESSES_MAX;
    /* In a block of its own, so that a read past its end is seen. */
    uint8_t *answer = malloc(size);
    if (!answer)
        return 0;
    memcpy(answer, data + 1, size - 1);
    uint8_t *exact = realloc(answer, size - 1 > 0 ? size - 1 : 1);
    struct dns_address addresses[DNS_ADDRESSES_MAX];
    unsigned count = 99;
    const int error =
        dns_message_take(exact, size - 1, "a.example.com", type, 0x1234, addresses, capacity, &count);
    if (count > capacity || error > 0 || (error && count > 0))
        abort();
    for (unsigned i = 0; error == 0 && i < count; i++) {
        const int family = type == DNS_TYPE_A ? AF_INET : AF_INET6;
        const size_t want = type == DNS_TYPE_A ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        if (addresses[i].at.ss_family != family || addresses[i].size != want)
            abort();
    }
    free(exact);

    /* The same bytes as a name: what is asked can be read back as the question of an answer. */
    char name[300];
    uint8_t query[DNS_QUERY_MAX];
    const size_t length = size - 1 < sizeof name - 1 ? size - 1 : sizeof name - 1;
    memcpy(name, data + 1, length);
    name[length] = '\0';
    const int asked = dns_message_query(query, name, type, 7);
    if (asked < 0)
        return 0;
    query[2] |= 0x80;
    if (dns_message_take(query, (size_t)asked, name, type, 7, addresses, capacity, &count) != 0 || count != 0)
        abort();
    return 0;
}
