/*
 * The objects of a PEM text (RFC 7468), one by one, decoded by BearSSL. What is between them is passed over.
 */
#ifndef AGENT_TLS_PEM_H
#define AGENT_TLS_PEM_H

#include <stddef.h>

/* One object: its label ("CERTIFICATE") and bytes, both gone after the call. 0, or a negative errno: stop. */
typedef int pem_object(void *context, const char *label, const void *data, size_t size);

/*
 * 0, -errno of `object`'s, -ENOMEM, or -EBADMSG: one of them is broken or cut off. `count`: objects that
 * `object` has taken. What was decoded is wiped: it may be a key.
 */
int pem_each(const void *text, size_t size, pem_object *object, void *context, unsigned *count);

#endif
