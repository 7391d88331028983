/* libFuzzer target: the manifest of connections. What is taken keeps to its limits; what is not leaves
 * nothing. */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *path)
{
    if (strlen(path) > MANIFEST_PATH_MAX || strstr(path, "/../") || strncmp(path, "../", 3) == 0)
        abort();
}

static void check(const struct manifest_connection *c)
{
    uint8_t address[16];
    if (strlen(c->name) == 0 || c->name[strspn(c->name, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
        abort();
    if (c->host[0] == '\0' || c->server_name[0] == '\0' || inet_pton(AF_INET, c->server_name, address) == 1 ||
        strpbrk(c->server_name, " \t\r:/"))
        abort();
    if (c->port == 0 || c->pool > MANIFEST_POOL_MAX || (c->local_port > 0 && c->local_port < 1024))
        abort();
    if (c->connect_timeout_ms < 100 || c->connect_timeout_ms > 60000 || c->idle_timeout_ms < 1000 ||
        c->idle_timeout_ms > 3600000)
        abort();
    if ((c->client_certificate[0] == '\0') != (c->client_key_secret[0] == '\0') ||
        c->alpn_count > MANIFEST_ALPN_MAX)
        abort();
    for (unsigned i = 0; i < c->alpn_count; i++)
        if (c->alpn[i][0] == '\0' || strlen(c->alpn[i]) > 32)
            abort();
    check_path(c->trust);
    check_path(c->revoked);
    check_path(c->client_certificate);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct manifest manifest;
    char why[MANIFEST_WHY_BYTES];
    const int error = manifest_parse(&manifest, (const char *)data, size, why);
    if ((error != 0) != (why[0] != '\0') || strlen(why) >= sizeof why || manifest.count > MANIFEST_MAX)
        abort();
    if (error && manifest.count > 0)
        abort();
    for (const char *c = why; *c; c++)
        if (*c < ' ' || *c > '~')
            abort();
    for (unsigned i = 0; i < manifest.count; i++)
        check(&manifest.at[i]);
    return 0;
}
