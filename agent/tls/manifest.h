/*
 * The connections that a function wants held for it: the file `connections` beside its program (in the image:
 * /function/connections). Pure: text in, struct out; every error names its line. Fuzzed.
 *
 *   # comment, a line of its own
 *   [orders]                             a name: [a-z0-9-], 1 to 32 bytes, each once; up to MANIFEST_MAX
 *   host = orders.example.com            required: a name or an address
 *   port = 443                           1..65535 (443)
 *   server_name = orders.example.com     to ask for and to check (host; required when host is an address)
 *   trust = ca.pem                       a path (see below) to PEM; or "system" (default): the distribution's
 *                                        bundle, /etc/ssl/certs/ca-certificates.crt
 *   revoked = crl.pem                    PEM certificate revocation lists
 *   client_certificate = client.pem      PEM chain; with
 *   client_key_secret = orders-key       the name of the secret that holds its key, PEM: delivered at resume
 *   alpn = http/1.1                      up to 4, separated by blanks
 *   minimum_version = 1.2                the only one there is; another is refused with what is spoken
 *   pool = 2                             connections kept ready, 0..16 (1); more are made when asked for
 *   local_port = 15001                   also reachable at 127.0.0.1 (and ::1): 1024..65535; none by default
 *   connect_timeout_ms = 5000            for names, addresses and the handshake together, 100..60000
 *   idle_timeout_ms = 60000              a ready connection that nobody uses is renewed, 1000..3600000
 *
 * Paths are absolute in the image, or relative to this file's directory; no component is "." or "..". Names
 * of hosts are kept in lower case. A key comes once in its section, a local port once in the file.
 */
#ifndef AGENT_TLS_MANIFEST_H
#define AGENT_TLS_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#define MANIFEST_FILE       "connections"
#define MANIFEST_MAX        16
#define MANIFEST_FILE_BYTES 32768
#define MANIFEST_NAME_MAX   32
#define MANIFEST_HOST_MAX   253
#define MANIFEST_PATH_MAX   255
#define MANIFEST_ALPN_MAX   4
#define MANIFEST_POOL_MAX   16
#define MANIFEST_WHY_BYTES  160

struct manifest_connection {
    char name[MANIFEST_NAME_MAX + 1];
    char host[MANIFEST_HOST_MAX + 1];
    uint16_t port;
    char server_name[MANIFEST_HOST_MAX + 1];
    char trust[MANIFEST_PATH_MAX + 1];              /* empty: the distribution's */
    char revoked[MANIFEST_PATH_MAX + 1];            /* empty: none */
    char client_certificate[MANIFEST_PATH_MAX + 1]; /* empty: none */
    char client_key_secret[64 + 1];
    char alpn[MANIFEST_ALPN_MAX][32 + 1];
    unsigned alpn_count;
    unsigned pool;
    uint16_t local_port; /* 0: none */
    uint32_t connect_timeout_ms;
    uint32_t idle_timeout_ms;
};

struct manifest {
    struct manifest_connection at[MANIFEST_MAX];
    unsigned count;
};

/* 0, or -EINVAL: "line 7: port: 70000 is not in 1..65535". No connection at all is none wanted: 0. What is
 * not used of the struct is zero. */
int manifest_parse(struct manifest *manifest, const char *text, size_t size, char why[MANIFEST_WHY_BYTES]);

#endif
