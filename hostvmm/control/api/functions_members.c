/*
 * Members of a JSON body, taken by a table: each is known, of its type and within its bounds, or the request
 * is refused by the member's name. Nothing is copied.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/control/api/functions.h"

static int refuse(struct api_response *response, const char *where, const char *name, const char *wanted)
{
    api_fail(response, 400, "%s: %s: want %s", where, name, wanted);
    return -EINVAL;
}

/* A name comes from the request: what is shown of it is short and printable. */
static int refuse_unknown(struct api_response *response, const char *where, const char *name,
                          const struct members_row *rows, size_t count)
{
    char shown[41];
    char known[400] = "";
    size_t used = 0;
    for (size_t i = 0; i < count && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s`%s`", i ? ", " : "", rows[i].name);
    used = 0;
    for (; *name && used < sizeof shown - 1; name++)
        shown[used++] = (unsigned char)*name < 0x20 || (unsigned char)*name > 0x7e ? '?' : *name;
    shown[used] = '\0';
    api_fail(response, 400, "%s: unknown field `%s`, expected one of %s", where, shown, known);
    return -EINVAL;
}

bool members_is_text(const char *text, size_t most)
{
    const size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return size > 0 && size <= most;
}

/* NULL, or what is wanted instead. */
static const char *take_text(const struct members_row *row, const json_t *value)
{
    if (!json_is_string(value) || json_string_length(value) > row->most ||
        !members_is_text(json_string_value(value), row->most))
        return "a text, not empty, not too long and without control characters";
    *(const char **)row->to = json_string_value(value);
    return NULL;
}

static const char *take_event(const struct members_row *row, const json_t *value)
{
    if (!json_is_string(value) || json_string_length(value) > row->most)
        return "a text";
    *(const json_t **)row->to = value;
    return NULL;
}

static bool take_number(const struct members_row *row, const json_t *value)
{
    if (!json_is_integer(value) || json_integer_value(value) < (json_int_t)row->least ||
        json_integer_value(value) > (json_int_t)row->most)
        return false;
    *(uint32_t *)row->to = (uint32_t)json_integer_value(value);
    return true;
}

static const char *take_flag(const struct members_row *row, const json_t *value)
{
    if (!json_is_boolean(value))
        return "true or false";
    *(bool *)row->to = json_is_true(value);
    return NULL;
}

static const char *take_list(const struct members_row *row, const json_t *value)
{
    if (!json_is_array(value) || json_array_size(value) > row->most)
        return "a list, not longer than documented";
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        const char *text = json_string_value(item);
        if (row->kind == MEMBER_TEXTS && (!text || !members_is_text(text, FUNCTIONS_TEXT_MAX)))
            return "a list of texts, each not empty, not too long and without control characters";
        if (row->kind == MEMBER_OBJECTS && !json_is_object(item))
            return "a list of objects";
    }
    *(const json_t **)row->to = value;
    return NULL;
}

static int take_one(const struct members_row *row, const json_t *value, const char *where,
                    struct api_response *response)
{
    const char *wanted = NULL;
    switch (row->kind) {
    case MEMBER_TEXT:
        wanted = take_text(row, value);
        break;
    case MEMBER_EVENT:
        wanted = take_event(row, value);
        break;
    case MEMBER_NUMBER:
        if (take_number(row, value))
            return 0;
        api_fail(response, 400, "%s: %s: want a number from %u to %u", where, row->name, row->least,
                 row->most);
        return -EINVAL;
    case MEMBER_FLAG:
        wanted = take_flag(row, value);
        break;
    case MEMBER_TEXTS:
    case MEMBER_OBJECTS:
        wanted = take_list(row, value);
        break;
    }
    return wanted ? refuse(response, where, row->name, wanted) : 0;
}

static bool is_known(const struct members_row *rows, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return true;
    return false;
}

int members_take(const json_t *object, const char *where, const struct members_row *rows, size_t count,
                 struct api_response *response)
{
    if (!json_is_object(object)) {
        api_fail(response, 400, "%s: want a JSON object", where);
        return -EINVAL;
    }
    /* Jansson's iterators take no const, and change nothing. */
    json_t *whole = (json_t *)(uintptr_t)object;
    for (void *at = json_object_iter(whole); at; at = json_object_iter_next(whole, at))
        if (!is_known(rows, count, json_object_iter_key(at)))
            return refuse_unknown(response, where, json_object_iter_key(at), rows, count);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, rows[i].name);
        if (!value && rows[i].required) {
            api_fail(response, 400, "%s: missing field `%s`", where, rows[i].name);
            return -EINVAL;
        }
        const int error = value ? take_one(&rows[i], value, where, response) : 0;
        if (error)
            return error;
    }
    return 0;
}
