/*
 * What clones of one snapshot said, searched for values that two of them share and that look random: tokens
 * of text of at least AUDIT_TOKEN_BITS of apparent entropy, and runs of bytes in answers that are no text.
 * Pure.
 *
 * Apparent entropy is judged on the careful side: words, names made of words, counters and repetitions are
 * not random; digits count 3.3 bits, hexadecimal digits 4, other symbols at most 6.
 */
#ifndef HOSTVMM_CONTROL_AUDIT_TOKENS_H
#define HOSTVMM_CONTROL_AUDIT_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDIT_TOKEN_BITS   64
#define AUDIT_TEXT_MAX     65536 /* bytes considered of each answer, and of each clone's output */
#define AUDIT_FINDINGS_MAX 256   /* described; more are counted */
#define AUDIT_SHOWN_BYTES  80

enum audit_place { AUDIT_ANSWER, AUDIT_OUTPUT };

struct audit_where {
    uint32_t clone;
    enum audit_place place;
    uint32_t at; /* ANSWER: offset in bytes; OUTPUT: line, from 1 */
};

struct audit_finding {
    char shown[AUDIT_SHOWN_BYTES + 1]; /* the value, perhaps cut; of bytes: in hexadecimal */
    bool is_binary;
    uint32_t bytes;
    uint32_t bits;   /* of apparent entropy */
    uint32_t clones; /* that have it */
    struct audit_where first;
    struct audit_where second;
};

struct audit_text; /* private */
struct audit_entry;

struct audit_tokens {
    const uint8_t *event; /* the caller's: what is in it is an echo */
    size_t event_bytes;
    struct audit_text *texts;
    size_t text_count;
    struct audit_entry *table;
    size_t table_size; /* a power of two, or 0 */
    size_t entry_count;
    uint64_t cut_texts;     /* texts of which only the beginning was considered */
    uint64_t finding_count; /* in all */
    struct audit_finding findings[AUDIT_FINDINGS_MAX];
};

void audit_tokens_init(struct audit_tokens *tokens, const void *event, size_t event_bytes);
void audit_tokens_fini(struct audit_tokens *tokens);
/* What one clone said, copied. 0 or -ENOMEM. Clones come one after the other. */
int audit_tokens_add(struct audit_tokens *tokens, uint32_t clone, enum audit_place place, const void *text,
                     size_t size);

/* Bits of apparent entropy of one token of [A-Za-z0-9+/_=-], or of hexadecimal pairs with ':' between. */
uint32_t audit_token_bits(const char *token, size_t size);

#endif
