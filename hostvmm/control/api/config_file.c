/* --config-file: the resources of a JSON file, each through the handler that a request would have. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/fd.h"
#include "hostvmm/control/api/model.h"
#include "hostvmm/control/api/route.h"

#define FILE_MAX_BYTES (256u << 10)

/* In the order they are applied; drives and interfaces are lists whose elements say their names. */
static const struct {
    const char *key;
    const char *id; /* NULL: one resource */
} sections[] = {
    {"logger", NULL},
    {"metrics", NULL},
    {"machine-config", NULL},
    {"cpu-config", NULL},
    {"boot-source", NULL},
    {"drives", "drive_id"},
    {"network-interfaces", "iface_id"},
    {"vsock", NULL},
    {"balloon", NULL},
    {"entropy", NULL},
    {"serial", NULL},
};

#define SECTIONS (sizeof sections / sizeof sections[0])

static bool apply(struct api *api, const char *path, const json_t *json, char why[MODEL_WHY_BYTES])
{
    struct api_request request = {.method = "PUT", .path = path};
    struct api_response response = {.status = 0};
    route_new_id(request.id);
    route_resource(api, &request, json, &response);
    const bool fine = response.status < 400;
    if (!fine) {
        const char *fault = model_text(response.json, "fault_message");
        (void)snprintf(why, MODEL_WHY_BYTES, "%s: %s", path + 1, fault ? fault : "refused");
    }
    route_free(&response);
    return fine;
}

static bool apply_list(struct api *api, const char *key, const char *id, const json_t *list,
                       char why[MODEL_WHY_BYTES])
{
    char path[200];
    if (!json_is_array(list)) {
        (void)snprintf(why, MODEL_WHY_BYTES, "%s: want a list", key);
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *name = model_text(item, id);
        if (!name || strchr(name, '/')) {
            (void)snprintf(why, MODEL_WHY_BYTES, "%s[%zu]: want an object with %s", key, i, id);
            return false;
        }
        (void)snprintf(path, sizeof path, "/%s/%.100s", key, name);
        if (!apply(api, path, item, why))
            return false;
    }
    return true;
}

static bool apply_section(struct api *api, size_t section, const json_t *value, char why[MODEL_WHY_BYTES])
{
    char path[64];
    if (sections[section].id)
        return apply_list(api, sections[section].key, sections[section].id, value, why);
    (void)snprintf(path, sizeof path, "/%s", sections[section].key);
    return apply(api, path, value, why);
}

static bool known(const char *key)
{
    for (size_t i = 0; i < SECTIONS; i++)
        if (strcmp(sections[i].key, key) == 0)
            return true;
    return false;
}

static json_t *parse(const char *path, char why[MODEL_WHY_BYTES])
{
    json_error_t error;
    char *text = malloc(FILE_MAX_BYTES);
    json_t *file = NULL;
    const int64_t size = text ? fd_read_file(path, text, FILE_MAX_BYTES) : -ENOMEM;
    if (size < 0) {
        (void)snprintf(why, MODEL_WHY_BYTES, "cannot be read: %s", strerror((int)-size));
    } else {
        api_blank_commas(text, (size_t)size);
        file = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(file))
            (void)snprintf(why, MODEL_WHY_BYTES, "%s at line %d column %d",
                           file ? "want an object" : error.text, error.line, error.column);
    }
    free(text);
    if (json_is_object(file))
        return file;
    json_decref(file);
    return NULL;
}

bool config_file_apply(struct api *api, const char *path, char why[MODEL_WHY_BYTES])
{
    const char *key;
    json_t *value;
    json_t *file = parse(path, why);
    bool fine = file != NULL;
    json_object_foreach(file, key, value) if (fine && !known(key) && !json_is_null(value))
    {
        (void)snprintf(why, MODEL_WHY_BYTES, "unknown or unsupported key \"%.100s\"", key);
        fine = false;
    }
    for (size_t i = 0; i < SECTIONS && fine; i++) {
        value = json_object_get(file, sections[i].key);
        if (value && !json_is_null(value))
            fine = apply_section(api, i, value, why);
    }
    json_decref(file);
    return fine;
}
