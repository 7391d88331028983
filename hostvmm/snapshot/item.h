/* One CBOR item (RFC 8949), of the kinds that a state is made of: libcbor's streaming decoder, pulled. Pure.
 */
#ifndef HOSTVMM_SNAPSHOT_ITEM_H
#define HOSTVMM_SNAPSHOT_ITEM_H

#include <stddef.h>
#include <stdint.h>

enum item_kind {
    ITEM_OTHER, /* what no state has: tags, floats, indefinite lengths, negative numbers */
    ITEM_UINT,
    ITEM_BYTES,
    ITEM_TEXT,
    ITEM_ARRAY,
    ITEM_MAP,
    ITEM_BOOL,
    ITEM_KINDS,
};

struct item {
    enum item_kind kind;
    uint64_t value;      /* a number, a bool, a count of elements or fields, or the size of `data` */
    const uint8_t *data; /* of bytes and text: where they are */
    size_t size_bytes;   /* of the item, its head and content, but not what an array or map holds */
};

/* The item at `data`. 0; -ENODATA it ends beyond `size`; -EBADMSG it is none. */
int item_next(struct item *item, const uint8_t *data, size_t size);

#endif
