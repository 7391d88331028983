/*
 * PUT /snapshot/load. What the API noted in the snapshot, with the request's overrides over it, becomes the
 * model; a drive that the guest writes, and for which no file is named, is copied; then a clone starts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostvmm/control/api/arguments.h"
#include "hostvmm/control/api/model.h"
#include "hostvmm/control/api/snapshot_files.h"

#define WHAT "Load snapshot error"

static const char *const backends[] = {"File", "Uffd", NULL};

static const struct model_member load_members[] = {
    {.name = "snapshot_path", .kind = MODEL_PATH, .required = true},
    {.name = "mem_file_path", .kind = MODEL_PATH},
    {.name = "mem_backend", .kind = MODEL_OBJECT},
    {.name = "track_dirty_pages", .kind = MODEL_FLAG},
    {.name = "enable_diff_snapshots", .kind = MODEL_FLAG},
    {.name = "resume_vm", .kind = MODEL_FLAG},
    {.name = "network_overrides", .kind = MODEL_LIST},
    {.name = "vsock_override", .kind = MODEL_OBJECT},
    {.name = "drive_overrides", .kind = MODEL_LIST},
    {.name = "clock_realtime", .kind = MODEL_FLAG},
    {.name = NULL},
};

static const struct model_member backend_members[] = {
    {.name = "backend_type", .kind = MODEL_TEXT, .required = true, .words = backends},
    {.name = "backend_path", .kind = MODEL_PATH, .required = true},
    {.name = NULL},
};

static const struct model_member net_members[] = {
    {.name = "iface_id", .kind = MODEL_ID, .required = true},
    {.name = "host_dev_name", .kind = MODEL_PATH, .required = true},
    {.name = NULL},
};

static const struct model_member drive_members[] = {
    {.name = "drive_id", .kind = MODEL_ID, .required = true},
    {.name = "path_on_host", .kind = MODEL_PATH, .required = true},
    {.name = NULL},
};

static const struct model_member vsock_members[] = {
    {.name = "uds_path", .kind = MODEL_PATH, .required = true},
    {.name = NULL},
};

struct load {
    char path[MODEL_PATH_MAX + 1];
    const char *memory;
    json_t *config; /* the clone's */
    bool rekindle;
    struct arguments_clone clone;
    json_t *copies; /* of drives, by their paths */
};

/* ---- the request ---- */

static bool check_list(const json_t *body, const char *name, const struct model_member *members,
                       struct api_response *response)
{
    const json_t *list = model_object(body, name);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!model_check(json_array_get(list, i), members, response))
            return false;
    return true;
}

static bool check_body(const json_t *body, struct load *load, struct api_response *response)
{
    if (!model_check(body, load_members, response))
        return false;
    const json_t *backend = model_object(body, "mem_backend");
    const json_t *vsock = model_object(body, "vsock_override");
    load->memory = model_text(body, "mem_file_path");
    if (backend && load->memory) {
        model_refuse(response,
                     "too many fields: either `mem_backend` or `mem_file_path` exclusively is required");
        return false;
    }
    if (!backend && !load->memory) {
        model_refuse(response, "missing field: either `mem_backend` or `mem_file_path` is required");
        return false;
    }
    if ((backend && !model_check(backend, backend_members, response)) ||
        (vsock && !model_check(vsock, vsock_members, response)) ||
        !check_list(body, "network_overrides", net_members, response) ||
        !check_list(body, "drive_overrides", drive_members, response))
        return false;
    if (backend && strcmp(model_text(backend, "backend_type"), "Uffd") == 0) {
        api_fail(response, 400,
                 WHAT ": mem_backend: backend_type Uffd: no other process serves a guest's page faults "
                      "here: name the memory file with \"File\", its pages are loaded as they are used");
        return false;
    }
    if (backend)
        load->memory = model_text(backend, "backend_path");
    return true;
}

/* ---- what the snapshot notes ---- */

/* A file is not more trustworthy than a request: the same checks. */
static bool check_note(const json_t *config, struct api_response *response)
{
    const json_t *drives = json_object_get(config, "drives");
    const json_t *nets = json_object_get(config, "network-interfaces");
    const json_t *vsock = json_object_get(config, "vsock");
    if (!json_is_object(config) || !json_is_array(drives) || json_array_size(drives) > MODEL_DRIVES_MAX ||
        !json_is_array(nets) || json_array_size(nets) > MODEL_NETS_MAX ||
        !json_is_object(json_object_get(config, "machine-config")) || (vsock && !json_is_object(vsock))) {
        api_fail(response, 400, "it does not hold what it should");
        return false;
    }
    bool fine = !vsock || machine_check_vsock(vsock, response);
    for (size_t i = 0; i < json_array_size(drives) && fine; i++)
        fine = drives_check(json_array_get(drives, i), response);
    for (size_t i = 0; i < json_array_size(nets) && fine; i++)
        fine = nets_check(json_array_get(nets, i), response);
    return fine;
}

/* One that hostvmm's command line made has no note: then there are no names to override. */
static bool read_note(struct load *load, const struct api *api, struct api_response *response)
{
    char why[SNAPSHOT_FILES_WHY];
    json_t *note = NULL;
    const int error = snapshot_files_noted(load->path, &note, why);
    if (error == -ENOENT) {
        load->config = json_deep_copy(api->config);
        return true;
    }
    if (error) {
        api_fail(response, 400, WHAT ": %s", why);
        return false;
    }
    json_t *config = json_object_get(note, "config");
    if (model_number(note, "version", 0) != 1 || !check_note(config, response)) {
        const char *fault = model_text(response->json, "fault_message");
        (void)snprintf(why, sizeof why, "%.1200s", fault ? fault : "another version");
        api_fail(response, 400, WHAT ": %s/" SNAPSHOT_FILES_API ": %s", load->path, why);
        json_decref(note);
        return false;
    }
    load->rekindle = model_flag(note, "rekindle", false);
    load->config = json_deep_copy(config);
    json_decref(note);
    return true;
}

/* ---- the clone's own ---- */

/* Each element of a list of overrides sets `member` of the element of the configuration with its id. */
static bool override(struct load *load, const json_t *overrides, const char *key, const char *id,
                     const char *member, struct api_response *response)
{
    json_t *list = json_object_get(load->config, key);
    for (size_t i = 0; i < json_array_size(overrides); i++) {
        const json_t *wanted = json_array_get(overrides, i);
        const int index = model_find(list, id, model_text(wanted, id));
        if (index < 0) {
            api_fail(response, 400, WHAT ": %s %s: the snapshot tells of none of that name", id,
                     model_text(wanted, id));
            return false;
        }
        (void)json_object_set(json_array_get(list, (size_t)index), member, json_object_get(wanted, member));
        if (strcmp(key, "drives") == 0)
            load->clone.moved[index] = true;
    }
    return true;
}

static bool check_config(const struct load *load, struct api_response *response)
{
    const json_t *drives = json_object_get(load->config, "drives");
    if (strstr(load->path, "%n")) {
        api_fail(response, 400, WHAT ": snapshot_path %s: a path with %%n in it is not taken", load->path);
        return false;
    }
    for (size_t i = 0; i < json_array_size(drives); i++)
        if (strstr(model_text(json_array_get(drives, i), "path_on_host"), "%n")) {
            api_fail(response, 400, WHAT ": path_on_host: a path with %%n in it is not taken");
            return false;
        }
    return check_note(load->config, response);
}

static bool apply_overrides(struct load *load, const json_t *body, struct api_response *response)
{
    const json_t *vsock = model_object(body, "vsock_override");
    if (!override(load, model_object(body, "network_overrides"), "network-interfaces", "iface_id",
                  "host_dev_name", response) ||
        !override(load, model_object(body, "drive_overrides"), "drives", "drive_id", "path_on_host",
                  response))
        return false;
    if (vsock) {
        json_t *known = json_object_get(load->config, "vsock");
        if (!known) {
            known = json_pack("{s:i}", "guest_cid", 3);
            (void)json_object_set_new(load->config, "vsock", known);
        }
        (void)json_object_set(known, "uds_path", json_object_get(vsock, "uds_path"));
    }
    return check_config(load, response);
}

/* The snapshot's own file is never opened for writing. */
static bool copy_drives(struct load *load, struct api_response *response)
{
    char copy[SNAPSHOT_FILES_PATH + 1];
    char why[SNAPSHOT_FILES_WHY];
    const json_t *drives = json_object_get(load->config, "drives");
    for (size_t i = 0; i < json_array_size(drives); i++) {
        json_t *drive = json_array_get(drives, i);
        const bool image = load->rekindle && model_flag(drive, "is_root_device", false);
        if (load->clone.moved[i] || image || model_flag(drive, "is_read_only", false))
            continue;
        if (snapshot_files_copy(model_text(drive, "path_on_host"), copy, why)) {
            api_fail(response, 400, WHAT ": %s", why);
            return false;
        }
        (void)json_array_append_new(load->copies, json_string(copy));
        load->clone.moved[i] = true;
        (void)json_object_set_new(drive, "path_on_host", json_string(copy));
    }
    return true;
}

/* ---- the start ---- */

/* The model is the clone's from here on. */
static void take_over(struct api *api, struct load *load, bool resume)
{
    const char *key;
    json_t *value;
    json_object_foreach(load->config, key, value)(void) json_object_set(api->config, key, value);
    api->copies = load->copies;
    load->copies = NULL;
    memcpy(api->parent, load->path, sizeof api->parent);
    api->rekindle = load->rekindle;
    api->state = resume ? MODEL_RUNNING : MODEL_PAUSED;
    const char *vsock = model_text(json_object_get(api->config, "vsock"), "uds_path");
    if (!vsock || model_absolute(vsock, api->vsock))
        api->vsock[0] = '\0';
}

static void start(struct api *api, struct load *load, const struct api_request *request,
                  struct api_response *response)
{
    struct arguments arguments = {.count = 0};
    const bool resume = model_flag(request->json, "resume_vm", false);
    load->clone.snapshot = load->path;
    load->clone.paused = !resume;
    json_t *config = json_deep_copy(load->config);
    json_t *serial = json_object_get(api->config, "serial");
    if (serial)
        (void)json_object_set(config, "serial", serial);
    const struct arguments_about about = {
        .rekindle = load->rekindle, .jail = api->jail, .log_level = api->log_level};
    const int error = arguments_restore(&arguments, config, &about, &load->clone);
    bool runs = false;
    if (error)
        api_fail(response, 400, WHAT ": this is more than a command line holds: %s", strerror(-error));
    else
        runs = start_child(api, request, response, (const char *const *)arguments.at,
                           WHAT ": Failed to restore from snapshot");
    json_decref(config);
    arguments_fini(&arguments);
    if (!runs)
        return;
    take_over(api, load, resume);
    (void)start_limits(api, request, response, true);
}

void snapshot_put_load(struct api *api, const struct api_request *request, struct api_response *response)
{
    char why[SNAPSHOT_FILES_WHY];
    struct load load = {.copies = NULL};
    if (!check_body(request->json, &load, response) || !model_before_start(api, response))
        return;
    if (api->configured) {
        api_fail(response, 400,
                 WHAT ": Loading a microVM snapshot not allowed after configuring boot-specific resources.");
        return;
    }
    load.copies = json_array();
    if (model_absolute(model_text(request->json, "snapshot_path"), load.path))
        api_fail(response, 400, WHAT ": snapshot_path: the path is too long");
    else if (snapshot_files_owns(load.path, load.memory, why))
        api_fail(response, 400, WHAT ": %s", why);
    else if (read_note(&load, api, response) && apply_overrides(&load, request->json, response) &&
             copy_drives(&load, response))
        start(api, &load, request, response);
    model_unlink(load.copies);
    json_decref(load.config);
}
