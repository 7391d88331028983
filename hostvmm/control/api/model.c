/* See model.h. What bodies may hold is said by tables; the texts of refusals begin as serde's do. */
#include "hostvmm/control/api/model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define NUMBER_MAX (UINT64_C(1) << 53)

int api_init(struct api *api, const char *program)
{
    *api = (struct api){.id = "anonymous-instance", .metrics = -1};
    api->config = json_pack("{s:[],s:[],s:{s:i,s:i,s:b,s:b,s:s}}", "drives", "network-interfaces",
                            "machine-config", "vcpu_count", 1, "mem_size_mib", 128, "smt", 0,
                            "track_dirty_pages", 0, "huge_pages", "None");
    if (!api->config || pthread_mutex_init(&api->lock, NULL))
        return -ENOMEM;
    return child_init(&api->child, program);
}

void api_fini(struct api *api)
{
    child_fini(&api->child);
    fd_close(&api->metrics);
    model_unlink(api->copies);
    json_decref(api->config);
    (void)pthread_mutex_destroy(&api->lock);
}

void api_lock(struct api *api)
{
    (void)pthread_mutex_lock(&api->lock);
}

void api_unlock(struct api *api)
{
    (void)pthread_mutex_unlock(&api->lock);
}

/* ---- bodies ---- */

void model_refuse(struct api_response *response, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    api_fail(response, 400, "An error occurred when deserializing the json body of a request: %s.", text);
}

static void refuse_unknown(const char *name, const struct model_member *members,
                           struct api_response *response)
{
    char names[600] = "";
    size_t used = 0;
    for (; members->name && used < sizeof names; members++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s`%s`", used > 0 ? ", " : "",
                                 members->name);
    model_refuse(response, "unknown field `%.100s`, expected one of %s", name, names);
}

/* Paths are words of a command line, and lines of OPERATOR.md. */
static bool is_line(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

static bool is_id(const char *text)
{
    for (; *text; text++)
        if (!((*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
              (*text >= 'A' && *text <= 'Z') || *text == '_'))
            return false;
    return true;
}

static bool check_word(const char *text, const struct model_member *member, struct api_response *response)
{
    char words[300] = "";
    size_t used = 0;
    for (const char *const *word = member->words; *word; word++) {
        if (strcmp(*word, text) == 0)
            return true;
        if (used < sizeof words)
            used +=
                (size_t)snprintf(words + used, sizeof words - used, "%s`%s`", used > 0 ? ", " : "", *word);
    }
    model_refuse(response, "%s: unknown variant `%.100s`, expected one of %s", member->name, text, words);
    return false;
}

static bool check_text(const char *text, const struct model_member *member, struct api_response *response)
{
    const size_t size = strlen(text);
    const size_t most = member->most ? (size_t)member->most : MODEL_PATH_MAX;
    if (member->words)
        return check_word(text, member, response);
    if (member->kind == MODEL_ID && size == 0)
        api_fail(response, 400, "The ID cannot be empty.");
    else if (member->kind == MODEL_ID && !is_id(text))
        api_fail(response, 400, "API Resource IDs can only contain alphanumeric characters and underscores.");
    else if (size > most)
        model_refuse(response, "%s: %zu bytes, at most %zu are taken", member->name, size, most);
    else if (!is_line(text))
        model_refuse(response, "%s: control characters, such as a line's end, are not taken", member->name);
    else if (member->kind == MODEL_PATH && size == 0)
        model_refuse(response, "%s: an empty path", member->name);
    else
        return true;
    return false;
}

static bool check_number(const json_t *value, const struct model_member *member,
                         struct api_response *response)
{
    const uint64_t most = member->most ? member->most : NUMBER_MAX;
    const json_int_t number = json_integer_value(value);
    if (number >= 0 && (uint64_t)number <= most)
        return true;
    model_refuse(response, "%s: invalid value: integer `%lld`, expected 0 to %llu", member->name,
                 (long long)number, (unsigned long long)most);
    return false;
}

static bool check_texts(const json_t *value, const struct model_member *member, struct api_response *response)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *text = json_array_get(value, i);
        if (!json_is_string(text)) {
            model_refuse(response, "%s: invalid type, expected strings", member->name);
            return false;
        }
        if (!check_text(json_string_value(text), member, response))
            return false;
    }
    return true;
}

static bool check_value(const json_t *value, const struct model_member *member, struct api_response *response)
{
    const char *wanted = NULL;
    switch (member->kind) {
    case MODEL_TEXT:
    case MODEL_PATH:
    case MODEL_ID:
        if (json_is_string(value))
            return check_text(json_string_value(value), member, response);
        wanted = "a string";
        break;
    case MODEL_FLAG:
        wanted = json_is_boolean(value) ? NULL : "a boolean";
        break;
    case MODEL_NUMBER:
        if (json_is_integer(value))
            return check_number(value, member, response);
        wanted = "an integer";
        break;
    case MODEL_OBJECT:
        wanted = json_is_object(value) ? NULL : "an object";
        break;
    case MODEL_LIST:
        wanted = json_is_array(value) ? NULL : "a list";
        break;
    case MODEL_TEXTS:
        if (json_is_array(value))
            return check_texts(value, member, response);
        if (json_is_string(value))
            return check_text(json_string_value(value), member, response);
        wanted = "a string or a list of strings";
        break;
    }
    if (wanted)
        model_refuse(response, "%s: invalid type, expected %s", member->name, wanted);
    return !wanted;
}

bool model_check(const json_t *object, const struct model_member *members, struct api_response *response)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        model_refuse(response, "invalid type, expected an object");
        return false;
    }
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const struct model_member *member = members;
        while (member->name && strcmp(member->name, name) != 0)
            member++;
        if (!member->name) {
            refuse_unknown(name, members, response);
            return false;
        }
        if (!json_is_null(value) && !check_value(value, member, response))
            return false;
    }
    for (; members->name; members++)
        if (members->required && !model_object(object, members->name)) {
            model_refuse(response, "missing field `%s`", members->name);
            return false;
        }
    return true;
}

const json_t *model_object(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

const char *model_text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

bool model_flag(const json_t *object, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(object, name);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

uint64_t model_number(const json_t *object, const char *name, uint64_t otherwise)
{
    const json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? (uint64_t)json_integer_value(value) : otherwise;
}

int model_find(const json_t *list, const char *key, const char *id)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = model_text(json_array_get(list, i), key);
        if (name && strcmp(name, id) == 0)
            return (int)i;
    }
    return -1;
}

void model_unlink(json_t *paths)
{
    for (size_t i = 0; i < json_array_size(paths); i++)
        (void)unlink(json_string_value(json_array_get(paths, i)));
    json_decref(paths);
}

json_t *model_copy(const json_t *object)
{
    const char *name;
    json_t *value;
    json_t *copy = json_object();
    json_object_foreach((json_t *)(uintptr_t)object, name, value) if (!json_is_null(value))(void)
        json_object_set_new(copy, name, json_deep_copy(value));
    return copy;
}

/* ---- what may be done when ---- */

bool model_before_start(const struct api *api, struct api_response *response)
{
    if (api->state != MODEL_NOT_STARTED)
        api_fail(response, 400, "The requested operation is not supported after starting the microVM.");
    return api->state == MODEL_NOT_STARTED;
}

bool model_after_start(const struct api *api, struct api_response *response)
{
    if (api->state == MODEL_NOT_STARTED)
        api_fail(response, 400, "The requested operation is not supported before starting the microVM.");
    return api->state != MODEL_NOT_STARTED;
}

int model_absolute(const char *path, char to[MODEL_PATH_MAX + 1])
{
    char here[MODEL_PATH_MAX + 1] = "";
    while (strncmp(path, "./", 2) == 0 && path[2] && path[2] != '/')
        path += 2;
    if (path[0] != '/' && !getcwd(here, sizeof here))
        return -errno;
    const int size = snprintf(to, MODEL_PATH_MAX + 1, "%s%s%s", here, here[0] ? "/" : "", path);
    return size < 0 || size > MODEL_PATH_MAX ? -ENAMETOOLONG : 0;
}
