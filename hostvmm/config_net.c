/* See config_net.h. The words of a back end are ours; everything else network_parse_item judges. */
#include "hostvmm/config_net.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/config.h"

#define ITEM_MAX_BYTES 80u
#define DIGITS         "0123456789"

struct backend_word {
    const char *word; /* with its = */
    enum config_backend backend;
    size_t name_max;
};

static const struct backend_word words[] = {
    {"tap=", CONFIG_BACKEND_TAP, CONFIG_TAP_NAME_MAX},
    {"tap-fd=", CONFIG_BACKEND_TAP_FD, 9},
    {"stream=", CONFIG_BACKEND_STREAM, CONFIG_STREAM_MAX},
};

static int refuse(char *why, const char *item, size_t size, const char *wanted)
{
    (void)snprintf(why, CONFIG_NET_WHY_BYTES, "%.*s: %s", size > 60 ? 60 : (int)size, item, wanted);
    return -EINVAL;
}

/* All of `text` as a decimal number of at most `max`; -1 otherwise. */
static long parse_number(const char *text, size_t size, long max)
{
    long value = 0;
    if (size == 0 || size > 9 || strspn(text, DIGITS) < size)
        return -1;
    for (size_t i = 0; i < size; i++)
        value = value * 10 + (text[i] - '0');
    return value <= max ? value : -1;
}

static int take_backend(struct config_net *net, const struct backend_word *word, const char *item,
                        size_t size, char *why)
{
    const size_t key = strlen(word->word);
    if (net->backend)
        return refuse(why, item, size, "want one back end: tap=, tap-fd=, stream= or none");
    net->backend = word->backend;
    if (size - key == 0 || size - key > word->name_max)
        return refuse(
            why, item, size,
            word->backend == CONFIG_BACKEND_STREAM ? "want the path of a Unix socket, at most 107 bytes"
            : word->backend == CONFIG_BACKEND_TAP  ? "want the name of a TAP device, at most 15 bytes"
                                                   : "want the number of a descriptor");
    memcpy(net->name, item + key, size - key);
    net->name[size - key] = '\0';
    if (word->backend != CONFIG_BACKEND_TAP_FD)
        return 0;
    net->fd = (int)parse_number(net->name, size - key, INT_MAX / 2);
    return net->fd > 2 ? 0 : refuse(why, item, size, "want the number of a descriptor above 2");
}

/* Add to the host part of an address. Whether it stays what it was: an address of a station in its network.
 */
static bool advance(struct network_address *address, unsigned long by)
{
    const unsigned size = address->family == 4 ? 4 : 16;
    const struct network_address before = *address;
    bool ones = true; /* in the host part */
    for (unsigned i = size; i-- > 0;) {
        by += address->bytes[i];
        address->bytes[i] = (uint8_t)by;
        by >>= 8;
    }
    for (unsigned bit = 0; bit < size * 8; bit++) {
        const unsigned mask = 0x80u >> bit % 8;
        const unsigned differ = (before.bytes[bit / 8] ^ address->bytes[bit / 8]) & mask;
        if (bit < address->prefix && differ)
            return false;
        if (bit >= address->prefix && !(address->bytes[bit / 8] & mask))
            ones = false;
    }
    /* The last of an IPv4 network is everybody's (broadcast), where it is large enough to have one. */
    return by == 0 && !(address->family == 4 && address->prefix < 31 && ones);
}

/* "address=BASE+N/PREFIX" as "address=ADDRESS/PREFIX" into `to`. 0, or -EINVAL with `why`. */
static int add_number(const char *item, size_t size, const char *plus, char *to, size_t capacity, char *why)
{
    static const char wanted[] =
        "want a number of clones after +, so that the address stays within its prefix";
    struct network_interface base = {.mtu = 0};
    const size_t before = (size_t)(plus - item);
    const char *slash = memchr(plus, '/', size - before);
    char text[46];
    if (!slash || size >= capacity)
        return refuse(why, item, size, "want a prefix, such as /24, behind the address");
    const long by = parse_number(plus + 1, (size_t)(slash - plus) - 1, CONFIG_CLONES_MAX);
    (void)snprintf(to, capacity, "%.*s%.*s", (int)before, item, (int)(size - (size_t)(slash - item)), slash);
    const int error = network_parse_item(&base, to, strlen(to), why);
    if (error)
        return error;
    struct network_address *address = &base.addresses[0];
    if (by < 0 || !advance(address, (unsigned long)by))
        return refuse(why, item, size, wanted);
    network_address_text(address, text);
    (void)snprintf(to, capacity, "address=%s/%u", text, address->prefix);
    return 0;
}

static int take_item(struct config_net *net, const char *item, size_t size, bool clone, char *why)
{
    static const char address[] = "address=";
    char sum[ITEM_MAX_BYTES];
    if (size == 4 && memcmp(item, "none", 4) == 0 && !net->backend) {
        net->backend = CONFIG_BACKEND_NONE;
        return 0;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (size >= strlen(words[i].word) && memcmp(item, words[i].word, strlen(words[i].word)) == 0)
            return take_backend(net, &words[i], item, size, why);
    int rate = rate_wish_word(&net->rx_rate, "rx-", item, size);
    if (rate == 0)
        rate = rate_wish_word(&net->tx_rate, "tx-", item, size);
    if (rate != 0)
        return rate > 0 ? 0 : refuse(why, item, size, RATE_WANTED);
    const char *plus = memchr(item, '+', size);
    if (clone && plus && size > sizeof address && memcmp(item, address, sizeof address - 1) == 0) {
        const int error = add_number(item, size, plus, sum, sizeof sum, why);
        return error ? error : network_parse_item(&net->items, sum, strlen(sum), why);
    }
    return network_parse_item(&net->items, item, size, why);
}

int config_net_parse(struct config_net *net, const char *text, unsigned clone, char why[CONFIG_NET_WHY_BYTES])
{
    char own[CONFIG_NET_TEXT_MAX + 1];
    memset(net, 0, sizeof *net);
    net->text = text;
    net->fd = -1;
    if (strlen(text) >= sizeof own || (clone && config_expand(text, clone, own, sizeof own)))
        return refuse(why, text, strlen(text), "longer than 1023 bytes");
    for (const char *at = clone ? own : text;; at++) {
        const size_t size = strcspn(at, ",");
        const int error = take_item(net, at, size, clone > 0, why);
        if (error)
            return error;
        at += size;
        if (!*at)
            break;
    }
    return net->backend ? 0
                        : refuse(why, text, strlen(text), "want a back end: tap=, tap-fd=, stream= or none");
}
