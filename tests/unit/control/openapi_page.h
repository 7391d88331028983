/*
 * The page of the API as a test reads it: what its schemas allow, bodies made of its examples, and requests of its
 * operations to a server without a guest, which is made for each.
 */
#ifndef TESTS_UNIT_CONTROL_OPENAPI_PAGE_H
#define TESTS_UNIT_CONTROL_OPENAPI_PAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

extern json_t *page;
extern unsigned complaints; /* all of them are shown before a test fails */
extern int messages;        /* descriptor 2, which /logger replaces */

struct operation {
    const char *method; /* as HTTP has it */
    const char *pattern;
    json_t *about;
    json_t *seen; /* statuses, as keys */
};

struct outcome {
    int status;
    char fault[1700];
    json_t *json;
};

/* ---- the page ---- */

/* What it refers to, or itself. */
json_t *resolve(json_t *schema);
/* The member of a member of a member; `three` may be NULL. */
json_t *path_get(json_t *object, const char *one, const char *two, const char *three);
json_t *body_schema(json_t *operation);
bool has_text(const json_t *list, const char *text);
/* What a member may be: its example, or for an object one of the examples of its members. */
json_t *example_of(json_t *schema);
/* The required members. */
json_t *base_of(json_t *schema);
/* And those of one of the alternatives: the one with `name`, or the first. */
json_t *base_with(json_t *schema, const char *name);

/* ---- asking ---- */

/* Every status must be on the page. The outcome's JSON is let go when it is used again. */
void ask(struct operation *operation, const char *body, size_t bytes, struct outcome *outcome);
void ask_json(struct operation *operation, const json_t *body, struct outcome *outcome);
bool is(const struct operation *operation, const char *key, const char *value);
bool is_of_the_body(const struct outcome *outcome);
void blame(const struct operation *operation, const json_t *body, const struct outcome *outcome,
           const char *what);
void expect_taken(struct operation *operation, const json_t *body);
/* `name` is in the refusal; `known`: as of a member that there is. */
void expect_refused(struct operation *operation, const json_t *body, const char *name, bool known);

#endif
