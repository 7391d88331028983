/* /drives/{drive_id}. The root drive stands first in the list, as the guest's /dev/vda. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hostvmm/control/api/model.h"

static const char *const cache_types[] = {"Unsafe", "Writeback", NULL};
static const char *const io_engines[] = {"Sync", "Async", NULL};

static const struct model_member drive_members[] = {
    {.name = "drive_id", .kind = MODEL_ID, .required = true},
    {.name = "path_on_host", .kind = MODEL_PATH},
    {.name = "is_root_device", .kind = MODEL_FLAG, .required = true},
    {.name = "is_read_only", .kind = MODEL_FLAG},
    {.name = "partuuid", .kind = MODEL_TEXT, .most = 64},
    {.name = "cache_type", .kind = MODEL_TEXT, .words = cache_types},
    {.name = "io_engine", .kind = MODEL_TEXT, .words = io_engines},
    {.name = "rate_limiter", .kind = MODEL_OBJECT},
    {.name = "socket", .kind = MODEL_TEXT},
    {.name = NULL},
};

static const struct model_member patch_members[] = {
    {.name = "drive_id", .kind = MODEL_ID, .required = true},
    {.name = "path_on_host", .kind = MODEL_PATH},
    {.name = "rate_limiter", .kind = MODEL_OBJECT},
    {.name = NULL},
};

/* The path's name of it, and the body's. */
static bool same_id(const struct api_request *request, struct api_response *response)
{
    const struct model_member id = {.name = "drive_id", .kind = MODEL_ID};
    const struct model_member ids[] = {id, {.name = NULL}};
    json_t *path = json_pack("{s:s?}", "drive_id", request->name);
    const bool sound = model_check(path, ids, response);
    json_decref(path);
    if (!sound)
        return false;
    const char *body = model_text(request->json, "drive_id");
    if (body && strcmp(request->name, body) != 0)
        api_fail(response, 400, "The id from the path does not match the id from the body!");
    return !body || strcmp(request->name, body) == 0;
}

static bool path_fits(const char *path, struct api_response *response)
{
    if (!strchr(path, ','))
        return true;
    api_fail(response, 400,
             "Drive config error: path_on_host %.200s: a comma in it is not taken: name it otherwise.", path);
    return false;
}

bool drives_check(const json_t *body, struct api_response *response)
{
    if (!model_check(body, drive_members, response) ||
        !rates_check(model_object(body, "rate_limiter"), response))
        return false;
    const char *path = model_text(body, "path_on_host");
    const char *partuuid = model_text(body, "partuuid");
    const char *engine = model_text(body, "io_engine");
    if (model_text(body, "socket"))
        api_fail(response, 400,
                 "Drive config error: socket: there is no vhost-user-block here: give path_on_host.");
    else if (!path)
        model_refuse(response, "missing field `path_on_host`");
    else if (strlen(model_text(body, "drive_id")) > MODEL_DRIVE_ID)
        api_fail(response, 400, "Drive config error: drive_id: at most %d characters are taken.",
                 MODEL_DRIVE_ID);
    else if (partuuid && strspn(partuuid, "0123456789abcdefABCDEF-") != strlen(partuuid))
        api_fail(response, 400, "Drive config error: partuuid: want hexadecimal digits and dashes.");
    else if (engine && strcmp(engine, "Async") == 0)
        api_fail(response, 400,
                 "Drive config error: io_engine Async: a drive has a thread of its own here, which \"Sync\" "
                 "names.");
    else
        return path_fits(path, response);
    return false;
}

const json_t *drives_root(const json_t *config)
{
    const json_t *first = json_array_get(json_object_get(config, "drives"), 0);
    return model_flag(first, "is_root_device", false) ? first : NULL;
}

const char *drives_name(const json_t *drive, bool rekindle)
{
    const char *id = model_text(drive, "drive_id");
    if (!rekindle)
        return id;
    if (model_flag(drive, "is_root_device", false))
        return "rootfs";
    /* A name with a dash is nobody's here. */
    return strcmp(id, "rootfs") == 0 ? "rootfs-drive" : id;
}

/* Into the list: in its old place, or at the end, the root first. */
static void place(json_t *drives, int index, json_t *drive)
{
    const bool root = model_flag(drive, "is_root_device", false);
    if (index >= 0 && (!root || index == 0)) {
        (void)json_array_set_new(drives, (size_t)index, drive);
        return;
    }
    if (index >= 0)
        (void)json_array_remove(drives, (size_t)index);
    (void)(root ? json_array_insert_new(drives, 0, drive) : json_array_append_new(drives, drive));
}

void drives_put(struct api *api, const struct api_request *request, struct api_response *response)
{
    const json_t *body = request->json;
    if (!same_id(request, response) || !drives_check(body, response) || !model_before_start(api, response))
        return;
    json_t *drives = json_object_get(api->config, "drives");
    const int index = model_find(drives, "drive_id", request->name);
    const char *path = model_text(body, "path_on_host");
    if (access(path, R_OK) != 0) {
        api_fail(response, 400,
                 "Drive config error: Unable to create the virtio block device: Virtio backend error: "
                 "Error manipulating the backing file: %s (os error %d) %s",
                 strerror(errno), errno, path);
        return;
    }
    if (model_flag(body, "is_root_device", false) && drives_root(api->config) && index != 0) {
        api_fail(response, 400, "Drive config error: A root block device already exists!");
        return;
    }
    if (index < 0 && json_array_size(drives) == MODEL_DRIVES_MAX) {
        api_fail(response, 400, "Drive config error: at most %d drives are taken.", MODEL_DRIVES_MAX);
        return;
    }
    json_t *drive = model_copy(body);
    if (!json_object_get(drive, "is_read_only"))
        (void)json_object_set_new(drive, "is_read_only", json_false());
    place(drives, index, drive);
    api->configured = true;
}

void drives_patch(struct api *api, const struct api_request *request, struct api_response *response)
{
    char line[2 * MODEL_PATH_MAX];
    char absolute[MODEL_PATH_MAX + 1];
    char rates[200];
    const json_t *body = request->json;
    const json_t *limiter = model_object(body, "rate_limiter");
    const char *path = model_text(body, "path_on_host");
    if (!same_id(request, response) || !model_check(body, patch_members, response) ||
        !rates_check(limiter, response) || (path && !path_fits(path, response)) ||
        !model_after_start(api, response))
        return;
    json_t *drives = json_object_get(api->config, "drives");
    const int index = model_find(drives, "drive_id", request->name);
    json_t *drive = index < 0 ? NULL : json_array_get(drives, (size_t)index);
    if (!drive || (path && model_absolute(path, absolute)) ||
        rates_words(limiter, "\t", "", rates, sizeof rates)) {
        api_fail(response, 400, "Drive config error: %s: %s", request->name,
                 drive ? "the path is too long" : "Invalid block device ID - not found.");
        return;
    }
    (void)snprintf(line, sizeof line, "drive\tid=%s%s%s%s", drives_name(drive, api->rekindle),
                   path ? "\tpath=" : "", path ? absolute : "", rates);
    json_t *answer = api_operate(api, request, response, line);
    if (!answer)
        return;
    json_decref(answer);
    if (path)
        (void)json_object_set(drive, "path_on_host", json_object_get(body, "path_on_host"));
    json_t *known = json_object_get(drive, "rate_limiter");
    if (limiter && known)
        (void)json_object_update(known, (json_t *)(uintptr_t)limiter);
    else if (limiter)
        (void)json_object_set_new(drive, "rate_limiter", model_copy(limiter));
}
