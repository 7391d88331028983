/*
 * See pem.h. An object can be no longer than the text it is made of, so that one buffer serves them all.
 */
#include <bearssl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/pem.h"

struct decoded {
    uint8_t *data;
    size_t size, capacity, most; /* most: that was ever used, and is wiped */
};

static void take_bytes(void *context, const void *bytes, size_t size)
{
    struct decoded *decoded = context;
    if (size > decoded->capacity - decoded->size)
        size = decoded->capacity - decoded->size; /* cannot be: four characters make three bytes */
    memcpy(decoded->data + decoded->size, bytes, size);
    decoded->size += size;
    if (decoded->size > decoded->most)
        decoded->most = decoded->size;
}

/* Feed the decoder; at the end of an object, hand it on. `inside`: between a BEGIN and its END. */
static int push(br_pem_decoder_context *pem, const void *text, size_t size, struct decoded *decoded,
                bool *inside, pem_object *object, void *context, unsigned *count)
{
    const uint8_t *at = text;
    while (size) {
        size_t used = br_pem_decoder_push(pem, at, size);
        at += used;
        size -= used;
        switch (br_pem_decoder_event(pem)) {
        case BR_PEM_BEGIN_OBJ:
            decoded->size = 0;
            *inside = true;
            br_pem_decoder_setdest(pem, take_bytes, decoded);
            break;
        case BR_PEM_END_OBJ:
            *inside = false;
            int error = object(context, br_pem_decoder_name(pem), decoded->data, decoded->size);
            if (error)
                return error;
            ++*count;
            break;
        case BR_PEM_ERROR:
            return -EBADMSG;
        default:
            break;
        }
    }
    return 0;
}

int pem_each(const void *text, size_t size, pem_object *object, void *context, unsigned *count)
{
    br_pem_decoder_context pem;
    struct decoded decoded = {.data = malloc(size + 1), .capacity = size + 1};
    bool inside = false;
    *count = 0;
    if (!decoded.data)
        return -ENOMEM;
    br_pem_decoder_init(&pem);
    int error = push(&pem, text, size, &decoded, &inside, object, context, count);
    /* The last line may lack its end. */
    if (!error)
        error = push(&pem, "\n", 1, &decoded, &inside, object, context, count);
    if (!error && inside)
        error = -EBADMSG;
    explicit_bzero(decoded.data, decoded.most);
    explicit_bzero(&pem, sizeof pem);
    free(decoded.data);
    return error;
}
