/* /network-interfaces/{iface_id}. What a TAP device is, and the guest's own addresses (ours: addresses, gateway,
 * dns, mtu), are judged by hostvmm's parser of such items. */
#include <stdio.h>
#include <string.h>

#include "agent/proto/network.h"
#include "hostvmm/control/api/model.h"

#define TAP_NAME_MAX 15

static const struct model_member net_members[] = {
    {.name = "iface_id", .kind = MODEL_ID, .required = true},
    {.name = "host_dev_name", .kind = MODEL_PATH, .required = true},
    {.name = "guest_mac", .kind = MODEL_TEXT},
    {.name = "mtu", .kind = MODEL_NUMBER, .most = 65535},
    {.name = "rx_rate_limiter", .kind = MODEL_OBJECT},
    {.name = "tx_rate_limiter", .kind = MODEL_OBJECT},
    {.name = "addresses", .kind = MODEL_TEXTS},
    {.name = "gateway", .kind = MODEL_TEXTS},
    {.name = "dns", .kind = MODEL_TEXTS},
    {.name = NULL},
};

static const struct model_member patch_members[] = {
    {.name = "iface_id", .kind = MODEL_ID, .required = true},
    {.name = "rx_rate_limiter", .kind = MODEL_OBJECT},
    {.name = "tx_rate_limiter", .kind = MODEL_OBJECT},
    {.name = NULL},
};

static bool same_id(const struct api_request *request, struct api_response *response)
{
    const char *body = model_text(request->json, "iface_id");
    const struct model_member ids[] = {{.name = "iface_id", .kind = MODEL_ID}, {.name = NULL}};
    json_t *path = json_pack("{s:s?}", "iface_id", request->name);
    const bool sound = model_check(path, ids, response);
    json_decref(path);
    if (!sound)
        return false;
    if (body && strcmp(request->name, body) != 0) {
        api_fail(response, 400, "The id from the path [%s] does not match the id from the body [%.100s]!",
                 request->name, body);
        return false;
    }
    return true;
}

/* One item of hostvmm's --net. */
static bool check_item(struct network_interface *items, const char *word, const char *value,
                       struct api_response *response)
{
    char item[MODEL_PATH_MAX + 16];
    char why[NETWORK_WHY_BYTES];
    (void)snprintf(item, sizeof item, "%s=%s", word, value);
    if (!strpbrk(value, ",+%") && network_parse_item(items, item, strlen(item), why) == 0)
        return true;
    api_fail(response, 400, "Network config error: %.100s: %s", item,
             strpbrk(value, ",+%") ? "one value without the characters , + and % is wanted" : why);
    return false;
}

static bool check_items(struct network_interface *items, const json_t *body, const char *member,
                        const char *word, struct api_response *response)
{
    const json_t *value = model_object(body, member);
    if (json_is_string(value))
        return check_item(items, word, json_string_value(value), response);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!check_item(items, word, json_string_value(json_array_get(value, i)), response))
            return false;
    return true;
}

bool nets_check(const json_t *body, struct api_response *response)
{
    char mtu[16];
    struct network_interface items = {0};
    if (!model_check(body, net_members, response) ||
        !rates_check(model_object(body, "rx_rate_limiter"), response) ||
        !rates_check(model_object(body, "tx_rate_limiter"), response))
        return false;
    const char *tap = model_text(body, "host_dev_name");
    if (strlen(tap) > TAP_NAME_MAX || strpbrk(tap, "/,% ")) {
        api_fail(response, 400,
                 "Network config error: Open tap device failed: Invalid TUN/TAP Backend provided by %.100s. "
                 "Check our "
                 "documentation on setting up the network devices.",
                 tap);
        return false;
    }
    (void)snprintf(mtu, sizeof mtu, "%u", (unsigned)model_number(body, "mtu", 0));
    return (!model_object(body, "mtu") || check_item(&items, "mtu", mtu, response)) &&
           check_items(&items, body, "guest_mac", "mac", response) &&
           check_items(&items, body, "addresses", "address", response) &&
           check_items(&items, body, "gateway", "gateway", response) &&
           check_items(&items, body, "dns", "dns", response);
}

/* Whether another interface has its TAP device or its address. */
static bool is_free(const json_t *nets, const json_t *body, int index, struct api_response *response)
{
    const char *tap = model_text(body, "host_dev_name");
    const char *mac = model_text(body, "guest_mac");
    const int with_tap = model_find(nets, "host_dev_name", tap);
    const int with_mac = mac ? model_find(nets, "guest_mac", mac) : -1;
    if (with_tap >= 0 && with_tap != index)
        api_fail(response, 400, "Network config error: The host device name %s is already in use.", tap);
    else if (with_mac >= 0 && with_mac != index)
        api_fail(response, 400, "Network config error: The MAC address is already in use: %s", mac);
    else if (index < 0 && json_array_size(nets) == MODEL_NETS_MAX)
        api_fail(response, 400, "Network config error: at most %d interfaces are taken.", MODEL_NETS_MAX);
    else
        return true;
    return false;
}

void nets_put(struct api *api, const struct api_request *request, struct api_response *response)
{
    if (!same_id(request, response) || !nets_check(request->json, response) ||
        !model_before_start(api, response))
        return;
    json_t *nets = json_object_get(api->config, "network-interfaces");
    const int index = model_find(nets, "iface_id", request->name);
    if (!is_free(nets, request->json, index, response))
        return;
    if (index >= 0)
        (void)json_array_set_new(nets, (size_t)index, model_copy(request->json));
    else
        (void)json_array_append_new(nets, model_copy(request->json));
    api->configured = true;
}

void nets_patch(struct api *api, const struct api_request *request, struct api_response *response)
{
    char rx[200];
    char tx[200];
    char line[500];
    const json_t *body = request->json;
    const json_t *limiters[] = {model_object(body, "rx_rate_limiter"), model_object(body, "tx_rate_limiter")};
    if (!same_id(request, response) || !model_check(body, patch_members, response) ||
        !rates_check(limiters[0], response) || !rates_check(limiters[1], response) ||
        !model_after_start(api, response))
        return;
    json_t *nets = json_object_get(api->config, "network-interfaces");
    const int index = model_find(nets, "iface_id", request->name);
    if (index < 0) {
        api_fail(response, 400, "Network config error: Invalid interface ID - not found.");
        return;
    }
    if (rates_words(limiters[0], "\t", "rx-", rx, sizeof rx) ||
        rates_words(limiters[1], "\t", "tx-", tx, sizeof tx))
        return;
    (void)snprintf(line, sizeof line, "net\tid=%d%s%s", index, rx, tx);
    json_t *answer = api_operate(api, request, response, line);
    if (!answer)
        return;
    json_decref(answer);
    static const char *const names[] = {"rx_rate_limiter", "tx_rate_limiter"};
    json_t *net = json_array_get(nets, (size_t)index);
    for (unsigned i = 0; i < 2; i++) {
        json_t *known = json_object_get(net, names[i]);
        if (limiters[i] && known)
            (void)json_object_update(known, (json_t *)(uintptr_t)limiters[i]);
        else if (limiters[i])
            (void)json_object_set_new(net, names[i], model_copy(limiters[i]));
    }
}
