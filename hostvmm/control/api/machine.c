/* The machine and what it boots: /, /version, /machine-config, /cpu-config, /boot-source, /vsock, /entropy,
 * /serial, and what there is nothing of here. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostvmm/control/api/model.h"

#ifndef HOSTVMM_VERSION
#define HOSTVMM_VERSION "development"
#endif

/* ---- what it is ---- */

void machine_get_instance(struct api *api, const struct api_request *request, struct api_response *response)
{
    static const char *const states[] = {"Not started", "Running", "Paused"};
    (void)request;
    response->json = json_pack("{s:s,s:s,s:s,s:s}", "id", api->id, "state", states[api->state], "vmm_version",
                               HOSTVMM_VERSION, "app_name", "Rekindle");
}

void machine_get_version(struct api *api, const struct api_request *request, struct api_response *response)
{
    (void)api;
    (void)request;
    response->json = json_pack("{s:s}", "firecracker_version", HOSTVMM_VERSION);
}

void machine_get_config(struct api *api, const struct api_request *request, struct api_response *response)
{
    (void)request;
    response->json = json_deep_copy(api->config);
}

/* ---- /machine-config ---- */

static const char *const templates[] = {"None", "baseline", NULL};
static const char *const huge_pages[] = {"None", "2M", NULL};

static const struct model_member machine_members[] = {
    {.name = "vcpu_count", .kind = MODEL_NUMBER},
    {.name = "mem_size_mib", .kind = MODEL_NUMBER},
    {.name = "smt", .kind = MODEL_FLAG},
    {.name = "cpu_template", .kind = MODEL_TEXT, .words = templates},
    {.name = "track_dirty_pages", .kind = MODEL_FLAG},
    {.name = "huge_pages", .kind = MODEL_TEXT, .words = huge_pages},
    {.name = NULL},
};

void machine_get(struct api *api, const struct api_request *request, struct api_response *response)
{
    (void)request;
    response->json = json_deep_copy(json_object_get(api->config, "machine-config"));
}

/* What the members together make, or a refusal. */
static bool machine_is_sound(const struct api *api, const json_t *machine, struct api_response *response)
{
    const uint64_t vcpus = model_number(machine, "vcpu_count", 0);
    const uint64_t memory = model_number(machine, "mem_size_mib", 0);
    const char *pages = model_text(machine, "huge_pages");
    const json_t *balloon = json_object_get(api->config, "balloon");
    if (vcpus == 0 || vcpus > MODEL_VCPUS_MAX)
        api_fail(response, 400,
                 "Machine config error: The number of vCPUs must be greater than 0, less than %d and must be "
                 "1 or an "
                 "even number if SMT is enabled.",
                 MODEL_VCPUS_MAX);
    else if (memory == 0 || memory > MODEL_MEMORY_MAX ||
             (pages && strcmp(pages, "2M") == 0 && memory % 2 != 0))
        api_fail(response, 400,
                 "Machine config error: The memory size (MiB) is either 0, or not a multiple of the "
                 "configured page "
                 "size; at most %u are taken.",
                 MODEL_MEMORY_MAX);
    else if (model_flag(machine, "smt", false))
        api_fail(
            response, 400,
            "Machine config error: smt: threads of one core are not shown to guests here: leave it false.");
    else if (balloon && model_number(balloon, "amount_mib", 0) > memory)
        api_fail(response, 400,
                 "Machine config error: The memory size (MiB) is smaller than the previously set balloon "
                 "device target "
                 "size.");
    else
        return true;
    return false;
}

static void set_machine(struct api *api, json_t *machine, struct api_response *response)
{
    const char *template = model_text(machine, "cpu_template");
    if (template && strcmp(template, "None") == 0)
        (void)json_object_del(machine, "cpu_template");
    if (!model_before_start(api, response) || !machine_is_sound(api, machine, response)) {
        json_decref(machine);
        return;
    }
    (void)json_object_set_new(api->config, "machine-config", machine);
    api->configured = true;
}

void machine_put(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, machine_members, response))
        return;
    static const char *const needed[] = {"vcpu_count", "mem_size_mib"};
    for (size_t i = 0; i < 2; i++)
        if (!model_object(request->json, needed[i])) {
            model_refuse(response, "missing field `%s`", needed[i]);
            return;
        }
    json_t *machine = json_pack("{s:b,s:b,s:s}", "smt", 0, "track_dirty_pages", 0, "huge_pages", "None");
    json_t *given = model_copy(request->json);
    (void)json_object_update(machine, given);
    json_decref(given);
    set_machine(api, machine, response);
}

void machine_patch(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, machine_members, response))
        return;
    json_t *given = model_copy(request->json);
    if (json_object_size(given) == 0) {
        api_fail(response, 400, "Empty PATCH request.");
    } else {
        json_t *machine = json_deep_copy(json_object_get(api->config, "machine-config"));
        (void)json_object_update(machine, given);
        set_machine(api, machine, response);
    }
    json_decref(given);
}

/* ---- /cpu-config ---- */

static const struct model_member cpu_members[] = {
    {.name = "kvm_capabilities", .kind = MODEL_LIST}, {.name = "cpuid_modifiers", .kind = MODEL_LIST},
    {.name = "msr_modifiers", .kind = MODEL_LIST},    {.name = "reg_modifiers", .kind = MODEL_LIST},
    {.name = "vcpu_features", .kind = MODEL_LIST},    {.name = NULL},
};

/* A template without modifiers is what `--cpu host` is. */
void machine_put_cpu_config(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, cpu_members, response) || !model_before_start(api, response))
        return;
    for (const struct model_member *member = cpu_members; member->name; member++)
        if (json_array_size(json_object_get(request->json, member->name)) > 0) {
            api_fail(response, 400,
                     "Configure CPU error: %s: single features cannot be changed here; /machine-config has "
                     "cpu_template \"baseline\" (x86-64-v2) for guests that move between machines.",
                     member->name);
            return;
        }
    (void)json_object_set_new(api->config, "cpu-config", model_copy(request->json));
    api->configured = true;
}

/* ---- /boot-source ---- */

static const struct model_member boot_members[] = {
    {.name = "kernel_image_path", .kind = MODEL_PATH, .required = true},
    {.name = "initrd_path", .kind = MODEL_PATH},
    {.name = "boot_args", .kind = MODEL_TEXT, .most = 2047},
    {.name = "rekindle", .kind = MODEL_FLAG},
    {.name = NULL},
};

static bool check_file(const char *path, const char *what, struct api_response *response)
{
    if (!path || access(path, R_OK) == 0)
        return true;
    api_fail(response, 400, "Boot source error: The %s: %s (os error %d): %s", what, strerror(errno), errno,
             path);
    return false;
}

void machine_put_boot_source(struct api *api, const struct api_request *request,
                             struct api_response *response)
{
    const json_t *body = request->json;
    if (!model_check(body, boot_members, response) || !model_before_start(api, response))
        return;
    const char *initrd = model_text(body, "initrd_path");
    if (!check_file(model_text(body, "kernel_image_path"), "kernel file cannot be opened", response) ||
        !check_file(initrd, "initrd file cannot be opened due to invalid path or invalid permissions",
                    response))
        return;
    if (initrd && model_flag(body, "rekindle", false)) {
        api_fail(response, 400,
                 "Boot source error: initrd_path and \"rekindle\": true: the initrd that starts Rekindle's "
                 "init is "
                 "built in: leave initrd_path out.");
        return;
    }
    (void)json_object_set_new(api->config, "boot-source", model_copy(body));
    api->configured = true;
}

/* ---- /vsock, /entropy, /serial ---- */

static const struct model_member vsock_members[] = {
    {.name = "guest_cid", .kind = MODEL_NUMBER, .required = true, .most = 0xfffffffe},
    {.name = "uds_path", .kind = MODEL_PATH, .required = true},
    {.name = "vsock_id", .kind = MODEL_TEXT},
    {.name = NULL},
};

bool machine_check_vsock(const json_t *body, struct api_response *response)
{
    if (!model_check(body, vsock_members, response))
        return false;
    const char *path = model_text(body, "uds_path");
    if (model_number(body, "guest_cid", 0) < 3)
        api_fail(response, 400,
                 "Vsock config error: guest_cid: the first three CIDs are taken: want 3 or more.");
    else if (strlen(path) > MODEL_SOCKET_MAX || strchr(path, ','))
        api_fail(response, 400,
                 "Vsock config error: uds_path: want a path of at most %d bytes without a comma.",
                 MODEL_SOCKET_MAX);
    else
        return true;
    return false;
}

void machine_put_vsock(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!machine_check_vsock(request->json, response) || !model_before_start(api, response))
        return;
    (void)json_object_set_new(api->config, "vsock", model_copy(request->json));
    api->configured = true;
}

static const struct model_member entropy_members[] = {
    {.name = "rate_limiter", .kind = MODEL_OBJECT},
    {.name = NULL},
};

void machine_put_entropy(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, entropy_members, response) ||
        !rates_check(model_object(request->json, "rate_limiter"), response) ||
        !model_before_start(api, response))
        return;
    (void)json_object_set_new(api->config, "entropy", model_copy(request->json));
    api->configured = true;
}

static const struct model_member serial_members[] = {
    {.name = "serial_out_path", .kind = MODEL_PATH},
    {.name = "rate_limiter", .kind = MODEL_OBJECT},
    {.name = NULL},
};

void machine_put_serial(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!model_check(request->json, serial_members, response) || !model_before_start(api, response))
        return;
    if (model_object(request->json, "rate_limiter")) {
        api_fail(response, 400,
                 "Serial error: rate_limiter: the console has no rate limit here: leave it out.");
        return;
    }
    (void)json_object_set_new(api->config, "serial", model_copy(request->json));
}

void machine_refuse_absent(struct api *api, const struct api_request *request, struct api_response *response)
{
    (void)api;
    api_fail(response, 400, "The requested operation is not supported: there is no %.100s in Rekindle.",
             request->path);
}
