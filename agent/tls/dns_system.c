/*
 * What the machine knows by itself of names: addresses as text, /etc/hosts, and whom to ask (dns.h).
 *
 * The files are the image's or the agent's own. A line that is none is passed over, as every resolver does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/net/net.h"
#include "agent/tls/dns.h"

#define FILE_BYTES 262144 /* more is no file of this kind */
#define BLANKS     " \t\r"

struct dns_settings dns_settings = {
    .hosts_path = "/etc/hosts",
    .resolv_path = "/etc/resolv.conf",
    .port = 53,
    .try_ms = DNS_TRY_MS,
    .other_ms = DNS_OTHER_MS,
};

static void address_of(struct dns_address *address, int family, const void *bytes, uint32_t scope)
{
    *address = (struct dns_address){0};
    if (family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, bytes, sizeof in.sin_addr);
        memcpy(&address->at, &in, sizeof in);
        address->size = sizeof in;
    } else {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_scope_id = scope};
        memcpy(&in6.sin6_addr, bytes, sizeof in6.sin6_addr);
        memcpy(&address->at, &in6, sizeof in6);
        address->size = sizeof in6;
    }
}

bool dns_system_address(const char *text, struct dns_address *address)
{
    uint8_t bytes[16];
    char copy[INET6_ADDRSTRLEN];
    const size_t length = strcspn(text, "%");
    uint32_t scope = 0;
    if (length >= sizeof copy)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (text[length] == '\0' && inet_pton(AF_INET, copy, bytes) == 1) {
        address_of(address, AF_INET, bytes, 0);
        return true;
    }
    if (inet_pton(AF_INET6, copy, bytes) != 1)
        return false;
    if (text[length] == '%' && (scope = if_nametoindex(text + length + 1)) == 0)
        return false;
    address_of(address, AF_INET6, bytes, scope);
    return true;
}

/* The whole of a small file, NUL-terminated, to be freed; NULL: there is none, or it is not usable. */
static char *file_read(const char *path)
{
    char *text = malloc(FILE_BYTES + 1);
    if (!text)
        return NULL;
    const int64_t size = fd_read_file(path, text, FILE_BYTES);
    if (size < 0) {
        if (size != -ENOENT)
            log_warn("%s is passed over: %s", path, strerror((int)-size));
        free(text);
        return NULL;
    }
    text[size] = '\0';
    return text;
}

/* The next line's words, one after the other; comments are none. NULL: no more in it. */
static char *line_word(char **at)
{
    char *word = *at + strspn(*at, BLANKS);
    const size_t length = strcspn(word, BLANKS);
    if (length == 0)
        return NULL;
    *at = word[length] ? word + length + 1 : word + length;
    word[length] = '\0';
    return word;
}

static char *file_line(char **text)
{
    if (!**text)
        return NULL;
    char *line = *text;
    const size_t length = strcspn(line, "\n");
    *text = line[length] ? line + length + 1 : line + length;
    line[length] = '\0';
    line[strcspn(line, "#;")] = '\0';
    return line;
}

unsigned dns_system_hosts(const char *name, struct dns_address *addresses, unsigned capacity)
{
    char *text = file_read(dns_settings.hosts_path);
    unsigned count = 0;
    char *rest = text, *line;
    while (text && count < capacity && (line = file_line(&rest))) {
        const char *address = line_word(&line), *word;
        while (address && (word = line_word(&line)))
            if (strcasecmp(word, name) == 0) {
                count += dns_system_address(address, &addresses[count]);
                break;
            }
    }
    free(text);
    return count;
}

static unsigned servers_of_network(struct dns_address *servers)
{
    const struct network *network = net_current();
    unsigned count = 0;
    for (unsigned i = 0; i < network->count; i++)
        for (unsigned j = 0; j < network->at[i].dns_count && count < DNS_SERVERS_MAX; j++) {
            const struct network_address *from = &network->at[i].dns[j];
            char interface[IF_NAMESIZE];
            (void)snprintf(interface, sizeof interface, "eth%u", i);
            const bool local = from->family == 6 && from->bytes[0] == 0xfe && (from->bytes[1] & 0xc0) == 0x80;
            address_of(&servers[count++], from->family == 4 ? AF_INET : AF_INET6, from->bytes,
                       local ? if_nametoindex(interface) : 0);
        }
    return count;
}

static unsigned servers_of_file(struct dns_address *servers)
{
    char *text = file_read(dns_settings.resolv_path);
    unsigned count = 0;
    char *rest = text, *line;
    while (text && count < DNS_SERVERS_MAX && (line = file_line(&rest))) {
        const char *key = line_word(&line);
        const char *address = key && strcmp(key, "nameserver") == 0 ? line_word(&line) : NULL;
        if (address)
            count += dns_system_address(address, &servers[count]);
    }
    free(text);
    return count;
}

unsigned dns_system_servers(struct dns_address servers[DNS_SERVERS_MAX])
{
    unsigned count = servers_of_network(servers);
    if (count == 0)
        count = servers_of_file(servers);
    for (unsigned i = 0; i < count; i++) {
        const uint16_t port = htons(dns_settings.port);
        /* The port is at the same place in both families. */
        memcpy((uint8_t *)&servers[i].at + offsetof(struct sockaddr_in, sin_port), &port, sizeof port);
    }
    return count;
}

_Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
               "the port of an address is not where it is taken to be");
