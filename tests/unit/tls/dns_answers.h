/* Answers of DNS as a server writes them, for the tests of those who read them. */
#ifndef TESTS_UNIT_TLS_DNS_ANSWERS_H
#define TESTS_UNIT_TLS_DNS_ANSWERS_H

#include <stddef.h>
#include <stdint.h>

#define ANSWER_FLAGS 0x8180 /* an answer, recursion wanted and available */
#define ANSWER_CNAME 5

struct answer {
    uint8_t data[8192];
    size_t size;
};

void answer_begin(struct answer *answer, uint16_t id, uint16_t flags, const char *name, uint16_t type);
/* `owner` NULL: a pointer to the question's name. */
void answer_record(struct answer *answer, const char *owner, uint16_t type, const void *data, size_t size);
void answer_address(struct answer *answer, const char *owner, const char *address);
void answer_cname(struct answer *answer, const char *owner, const char *other);

/* The question of a query: id and type; its name is written as text. False: not a query as dns_message_query
 * makes them. */
int answer_question(const uint8_t *query, size_t size, char name[256], uint16_t *id, uint16_t *type);

#endif
