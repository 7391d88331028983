/*
 * See der.h. One function reads a header; nothing else looks at a length.
 */
#include "agent/tls/der.h"

/* Size of the header, 0: none that is well formed. */
static size_t read_header(const struct der *in, uint8_t *tag, size_t *length)
{
    if (in->size < 2 || (in->at[0] & 0x1f) == 0x1f)
        return 0;
    *tag = in->at[0];
    uint8_t first = in->at[1];
    if (first < 0x80) {
        *length = first;
        return 2;
    }
    size_t bytes = first & 0x7f;
    if (bytes < 1 || bytes > 4 || in->size < 2 + bytes)
        return 0;
    size_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | in->at[2 + i];
    if (value < 0x80 || in->at[2] == 0) /* DER: the shortest form */
        return 0;
    *length = value;
    return 2 + bytes;
}

bool der_next(struct der *in, struct der_item *item)
{
    size_t length = 0;
    size_t header = read_header(in, &item->tag, &length);
    if (!header || length > in->size - header)
        return false;
    item->whole = in->at;
    item->whole_size = header + length;
    item->content = (struct der){.at = in->at + header, .size = length};
    in->at += item->whole_size;
    in->size -= item->whole_size;
    return true;
}

bool der_take(struct der *in, uint8_t tag, struct der_item *item)
{
    return in->size && in->at[0] == tag && der_next(in, item);
}

bool der_enter(struct der *in, uint8_t tag)
{
    uint8_t found = 0;
    size_t length = 0;
    size_t header = read_header(in, &found, &length);
    if (!header || found != tag)
        return false;
    in->at += header;
    in->size -= header;
    if (in->size > length)
        in->size = length;
    return true;
}
