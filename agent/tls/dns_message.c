/*
 * Messages of DNS (RFC 1035, section 4; EDNS: RFC 6891, section 6.1): queries built, answers taken apart.
 * Pure.
 *
 * Names are kept as on the wire, without compression and in lower case: a length and that many bytes for each
 * label, then zero, 255 bytes at most. Compression pointers may only lead backwards, each to before where the
 * last one led, so following them ends; their number is bounded all the same, and with it the work that an
 * answer can make.
 *
 * An answer is walked once for each CNAME followed, in any order of its records, as servers do not agree on
 * one.
 */
#include <errno.h>
#include <string.h>

#include "agent/base/cursor.h"
#include "agent/tls/dns.h"

#define HEADER_BYTES 12
#define NAME_BYTES   255
#define LABEL_BYTES  63
#define CHAIN_MAX    16 /* CNAMEs followed */
#define POINTERS_MAX 64 /* in one name */

enum { TYPE_CNAME = 5, TYPE_OPT = 41, CLASS_IN = 1 };
enum { RCODE_NONE = 0, RCODE_NO_SUCH_NAME = 3 };

/* In the second 16 bits of the header. */
#define FLAG_RESPONSE  0x8000u
#define FLAG_OPCODE    0x7800u
#define FLAG_TRUNCATED 0x0200u
#define FLAG_RECURSE   0x0100u
#define FLAG_RCODE     0x000fu

struct name {
    uint8_t bytes[NAME_BYTES];
    size_t size; /* with the zero at the end */
};

struct record {
    struct name owner;
    uint16_t type, class;
    size_t data, data_size; /* where in the message */
};

static uint8_t lower(uint8_t c)
{
    return (uint8_t)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static bool name_is(const struct name *a, const struct name *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

/* "orders.example.com", with or without a dot at its end. */
static int name_of_text(struct name *name, const char *text)
{
    size_t size = 0;
    while (*text) {
        const size_t length = strcspn(text, ".");
        if (length == 0 || length > LABEL_BYTES || size + 1 + length + 1 > NAME_BYTES)
            return -EINVAL;
        name->bytes[size++] = (uint8_t)length;
        for (size_t i = 0; i < length; i++)
            name->bytes[size++] = lower((uint8_t)text[i]);
        text += length;
        if (*text == '.')
            text++;
    }
    if (size == 0)
        return -EINVAL;
    name->bytes[size++] = 0;
    name->size = size;
    return 0;
}

/* The name at the cursor, which moves past it. A name that is none fails the cursor. */
static void name_take(struct cursor *message, struct name *name)
{
    struct cursor at = *message;
    size_t before = message->at; /* pointers lead to before this */
    unsigned followed = 0;
    name->size = 0;
    for (;;) {
        const uint8_t length = (uint8_t)cursor_get_be(&at, 1);
        if (!at.failed && (length & 0xc0) == 0xc0) {
            const size_t target = (size_t)(length & 0x3f) << 8 | (size_t)cursor_get_be(&at, 1);
            if (followed++ == 0)
                message->at = at.at;
            at.failed = at.failed || target >= before || followed > POINTERS_MAX;
            before = target;
            cursor_seek(&at, target);
            continue;
        }
        const uint8_t *label = length <= LABEL_BYTES ? cursor_take(&at, length) : NULL;
        if (at.failed || !label || name->size + 1 + length + (length > 0) > NAME_BYTES) {
            message->failed = true;
            return;
        }
        name->bytes[name->size++] = length;
        for (size_t i = 0; i < length; i++)
            name->bytes[name->size++] = lower(label[i]);
        if (length == 0)
            break;
    }
    if (followed == 0)
        message->at = at.at;
}

int dns_message_query(uint8_t out[DNS_QUERY_MAX], const char *name, uint16_t type, uint16_t id)
{
    struct name wire;
    if (name_of_text(&wire, name) < 0)
        return -EINVAL;
    struct cursor c = cursor_over(out, DNS_QUERY_MAX);
    const uint64_t header[] = {id, FLAG_RECURSE, 1, 0, 0, 1};
    for (size_t i = 0; i < sizeof header / sizeof header[0]; i++)
        cursor_put_be(&c, header[i], 2);
    cursor_put(&c, wire.bytes, wire.size);
    cursor_put_be(&c, type, 2);
    cursor_put_be(&c, CLASS_IN, 2);
    cursor_put_be(&c, 0, 1); /* OPT: the root's, its class the size of answers we take, no flags, no data */
    cursor_put_be(&c, TYPE_OPT, 2);
    cursor_put_be(&c, DNS_UDP_MAX, 2);
    cursor_put_be(&c, 0, 4);
    cursor_put_be(&c, 0, 2);
    return c.failed ? -EINVAL : (int)c.at; /* never: a header, a name and two trailers fit */
}

static void record_take(struct cursor *message, struct record *record)
{
    name_take(message, &record->owner);
    record->type = (uint16_t)cursor_get_be(message, 2);
    record->class = (uint16_t)cursor_get_be(message, 2);
    (void)cursor_get_be(message, 4); /* TTL: nothing is kept */
    record->data_size = (size_t)cursor_get_be(message, 2);
    record->data = message->at;
    (void)cursor_take(message, record->data_size);
}

/* False: data of a wrong size. */
static bool address_take(const uint8_t *data, size_t size, uint16_t type, struct dns_address *address)
{
    *address = (struct dns_address){0};
    if (type == DNS_TYPE_A && size == sizeof(struct in_addr)) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, data, size);
        memcpy(&address->at, &in, sizeof in);
        address->size = sizeof in;
        return true;
    }
    if (type == DNS_TYPE_AAAA && size == sizeof(struct in6_addr)) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        memcpy(&in6.sin6_addr, data, size);
        memcpy(&address->at, &in6, sizeof in6);
        address->size = sizeof in6;
        return true;
    }
    return false;
}

struct answer {
    struct cursor records; /* at the first */
    unsigned record_count;
    uint16_t type;
    struct dns_address *addresses;
    unsigned capacity, count;
};

/* One walk: the addresses of `name`, or else what it is another name for, which replaces it: 1. */
static int answer_walk(struct answer *answer, struct name *name)
{
    struct cursor c = answer->records;
    struct name other;
    bool has_other = false;
    for (unsigned i = 0; i < answer->record_count; i++) {
        struct record record;
        record_take(&c, &record);
        if (c.failed)
            return -EBADMSG;
        if (record.class != CLASS_IN || !name_is(&record.owner, name))
            continue;
        if (record.type == TYPE_CNAME) {
            struct cursor data = c;
            data.at = record.data;
            name_take(&data, &other);
            if (data.failed || data.at != record.data + record.data_size)
                return -EBADMSG;
            has_other = true;
        } else if (record.type == answer->type && answer->count < answer->capacity) {
            if (!address_take(c.data + record.data, record.data_size, record.type,
                              &answer->addresses[answer->count]))
                return -EBADMSG;
            answer->count++;
        }
    }
    if (answer->count > 0 || !has_other)
        return 0;
    *name = other;
    return 1;
}

static int outcome_of(uint16_t flags)
{
    switch (flags & FLAG_RCODE) {
    case RCODE_NONE:
        return 0;
    case RCODE_NO_SUCH_NAME:
        return -ENOENT;
    default:
        return -EREMOTEIO;
    }
}

int dns_message_take(const uint8_t *data, size_t size, const char *name, uint16_t type, uint16_t id,
                     struct dns_address *addresses, unsigned capacity, unsigned *count)
{
    *count = 0;
    struct name asked, question;
    if (name_of_text(&asked, name) < 0)
        return -EINVAL;
    if (size < HEADER_BYTES)
        return -EAGAIN;
    struct cursor c = cursor_over((void *)(uintptr_t)data, size); /* only read */
    const uint16_t got_id = (uint16_t)cursor_get_be(&c, 2);
    const uint16_t flags = (uint16_t)cursor_get_be(&c, 2);
    const unsigned questions = (unsigned)cursor_get_be(&c, 2);
    const unsigned answers = (unsigned)cursor_get_be(&c, 2);
    cursor_seek(&c, HEADER_BYTES);
    if (got_id != id || (flags & (FLAG_RESPONSE | FLAG_OPCODE)) != FLAG_RESPONSE || questions != 1)
        return -EAGAIN;
    name_take(&c, &question);
    const uint64_t got_type = cursor_get_be(&c, 2);
    const uint64_t got_class = cursor_get_be(&c, 2);
    if (c.failed || !name_is(&question, &asked) || got_type != type || got_class != CLASS_IN)
        return -EAGAIN;
    if (flags & FLAG_TRUNCATED)
        return -EMSGSIZE;
    int error = outcome_of(flags);
    if (error)
        return error;
    struct answer answer = {c, answers, type, addresses, capacity, 0};
    error = 1;
    for (unsigned step = 0; error == 1 && step <= CHAIN_MAX; step++)
        error = answer_walk(&answer, &asked);
    if (error)
        return -EBADMSG; /* or a chain without an end */
    *count = answer.count;
    return 0;
}
