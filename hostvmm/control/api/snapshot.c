/*
 * PUT /snapshot/create. The guest's process writes the snapshot beside its place; the API's note goes into it;
 * then it takes its place at once, and the memory file its second name. Whatever fails before leaves nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/log.h"
#include "hostvmm/control/api/model.h"
#include "hostvmm/control/api/snapshot_files.h"

static const char *const types[] = {"Full", "Diff", NULL};

static const struct model_member create_members[] = {
    {.name = "snapshot_path", .kind = MODEL_PATH, .required = true},
    {.name = "mem_file_path", .kind = MODEL_PATH, .required = true},
    {.name = "snapshot_type", .kind = MODEL_TEXT, .words = types},
    {.name = "checkpoint", .kind = MODEL_FLAG},
    {.name = "version", .kind = MODEL_TEXT}, /* what older pages still print: it names a version of theirs */
    {.name = NULL},
};

struct creation {
    char path[MODEL_PATH_MAX + 1];
    char memory[MODEL_PATH_MAX + 1];
    char made[MODEL_PATH_MAX + 1]; /* until it has its place */
    char link[MODEL_PATH_MAX + 1]; /* the same of the memory file's other name */
    bool diff;
    bool checkpoint;
    char why[SNAPSHOT_FILES_WHY];
};

/* The snapshot keeps what it takes to load it, in the shape of a configuration file. */
static json_t *note_of(const struct api *api)
{
    static const char *const keys[] = {"machine-config", "drives",  "network-interfaces",
                                       "vsock",          "balloon", "entropy"};
    json_t *config = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(api->config, keys[i]);
        if (value)
            (void)json_object_set_new(config, keys[i], json_deep_copy(value));
    }
    return json_pack("{s:i,s:b,s:o}", "version", 1, "rekindle", api->rekindle, "config", config);
}

/* Where everything is to be, before the guest is bothered. */
static int prepare(struct api *api, const json_t *body, struct creation *creation)
{
    bool replaces = false;
    const char *type = model_text(body, "snapshot_type");
    char *why = creation->why;
    if (model_absolute(model_text(body, "snapshot_path"), creation->path) ||
        model_absolute(model_text(body, "mem_file_path"), creation->memory)) {
        (void)snprintf(why, SNAPSHOT_FILES_WHY, "the path is too long");
        return -ENAMETOOLONG;
    }
    for (size_t size = strlen(creation->path); size > 1 && creation->path[size - 1] == '/'; size--)
        creation->path[size - 1] = '\0';
    if (strcmp(creation->path, creation->memory) == 0) {
        (void)snprintf(why, SNAPSHOT_FILES_WHY, "snapshot_path and mem_file_path name the same place");
        return -EINVAL;
    }
    int error = snapshot_files_place(creation->path, &replaces, why);
    if (error == 0)
        error = snapshot_files_beside(creation->path, "new", creation->made, why);
    /* What it replaces may be what it builds on: then it has to hold everything. */
    creation->diff = type && strcmp(type, "Diff") == 0 && api->parent[0] && !replaces;
    creation->checkpoint = model_flag(body, "checkpoint", false);
    return error;
}

/* The guest's process writes it. */
static bool capture(struct api *api, const struct api_request *request, struct api_response *response,
                    const struct creation *creation)
{
    char line[3 * MODEL_PATH_MAX];
    (void)snprintf(line, sizeof line, "snapshot\tout=%s%s%s\tcheckpoint=%s\tthen=%s", creation->made,
                   creation->diff ? "\tparent=" : "", creation->diff ? api->parent : "",
                   creation->checkpoint ? "yes" : "no", api->state == MODEL_PAUSED ? "pause" : "run");
    json_t *answer = api_operate(api, request, response, line);
    json_decref(answer);
    return answer != NULL;
}

/* It is written: make it what was asked for. */
static int publish(struct api *api, struct creation *creation)
{
    json_t *note = note_of(api);
    int error = snapshot_files_note(creation->made, note, creation->why);
    json_decref(note);
    if (error == 0)
        error = snapshot_files_link(creation->made, creation->path, creation->memory, creation->link,
                                    creation->why);
    if (error == 0)
        error = snapshot_files_publish(creation->made, creation->path, creation->why);
    if (error == 0 && creation->link[0] && rename(creation->link, creation->memory) < 0) {
        error = -errno;
        (void)snprintf(creation->why, sizeof creation->why,
                       "mem_file_path %.500s: %s; the snapshot itself is at %.500s", creation->memory,
                       strerror(errno), creation->path);
        (void)unlink(creation->link);
        return error;
    }
    if (error) {
        if (creation->link[0])
            (void)unlink(creation->link);
        snapshot_files_remove(creation->made);
    }
    return error;
}

/* As Firecracker: of a guest that stands still. One that runs is asked for its consent, when that is wished. */
static bool state_fits(const struct api *api, const json_t *body, struct api_response *response)
{
    const bool checkpoint = model_flag(body, "checkpoint", false);
    if (checkpoint && api->state == MODEL_PAUSED)
        api_fail(response, 400,
                 "Create snapshot error: a guest that stands still cannot be asked for its consent: resume "
                 "it first, "
                 "or leave \"checkpoint\" out");
    else if (!checkpoint && api->state != MODEL_PAUSED)
        api_fail(response, 400,
                 "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore "
                 "unavailable while running");
    else
        return true;
    return false;
}

void snapshot_put_create(struct api *api, const struct api_request *request, struct api_response *response)
{
    struct creation creation = {.diff = false};
    if (!model_check(request->json, create_members, response) || !model_after_start(api, response) ||
        !state_fits(api, request->json, response))
        return;
    int error = prepare(api, request->json, &creation);
    if (error == 0) {
        if (!capture(api, request, response, &creation)) {
            const char *why = model_text(response->json, "fault_message");
            (void)snprintf(creation.why, sizeof creation.why, "%.1200s", why ? why : "");
            error = -EIO;
        } else {
            error = publish(api, &creation);
        }
    }
    if (error)
        api_fail(response, 400, "Create snapshot error: %s", creation.why);
    else
        memcpy(api->parent, creation.path, sizeof api->parent);
}
