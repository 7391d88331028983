/*
 * tls-peer: a TLS server to test clients against, which writes down what it saw (peer-watch.c) and can behave
 * badly (peer.h). HTTP/1.1 with keep-alive (peer-serve.c). A thread for each connection.
 *
 *   tls-peer --listen ADDRESS:PORT --cert FILE --key FILE [--background PIDFILE] [--log FILE] [--keylog FILE]
 *            [--client-ca FILE] [--min VERSION] [--max VERSION] [--ciphers LIST] [--groups LIST]
 *            [--sessions on|off] [--delay-ms N] [--fault NAME]
 *
 * With --background it returns when it listens, and its process's number is in PIDFILE. For tests only: it
 * speaks whatever was asked for, however weak, with whatever certificate it was given.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/peers/peer.h"

#define LISTEN_BACKLOG 1024
#define STACK_BYTES    (256u << 10)

static struct peer_options options;

static const char *const fault_names[PEER_FAULT_COUNT] = {
    [PEER_NO_FAULT] = "none",
    [PEER_RESET_IN_HANDSHAKE] = "reset-in-handshake",
    [PEER_OVERSIZED_RECORD] = "oversized-record",
    [PEER_TRUNCATED_RECORD] = "truncated-record",
    [PEER_SILENT] = "silent",
    [PEER_CLOSE_IDLE] = "close-idle",
    [PEER_OVERSIZED_ANSWER] = "oversized-answer",
    [PEER_TRUNCATED_ANSWER] = "truncated-answer",
    [PEER_RESET_ANSWER] = "reset-answer",
};

_Noreturn static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "tls-peer: %s: %s\n", what, why);
    exit(1);
}

static const char *tls_error(void)
{
    const char *text = ERR_reason_error_string(ERR_get_error());
    return text ? text : "failed";
}

static int version_of(const char *text)
{
    if (strcmp(text, "1.0") == 0)
        return TLS1_VERSION;
    if (strcmp(text, "1.1") == 0)
        return TLS1_1_VERSION;
    if (strcmp(text, "1.2") == 0)
        return TLS1_2_VERSION;
    if (strcmp(text, "1.3") == 0)
        return TLS1_3_VERSION;
    die(text, "no version of TLS: 1.0, 1.1, 1.2 or 1.3");
}

static enum peer_fault fault_of(const char *text)
{
    for (unsigned i = 0; i < PEER_FAULT_COUNT; i++)
        if (strcmp(text, fault_names[i]) == 0)
            return (enum peer_fault)i;
    die(text, "no such fault");
}

static unsigned number_of(const char *text)
{
    char *end;
    errno = 0;
    const unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || end == text || value > 600000)
        die(text, "not a number of milliseconds up to 600000");
    return (unsigned)value;
}

/* Take http/1.1 where it is offered. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_size, const unsigned char *in,
                       unsigned in_size, void *context)
{
    static const unsigned char wanted[] = "\x08http/1.1";
    (void)ssl, (void)context;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_size, wanted, sizeof wanted - 1, in, in_size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

struct arguments {
    const char *listen, *cert, *key, *pid_file, *client_ca, *ciphers, *groups, *keylog;
    int min, max;
    bool sessions;
};

static SSL_CTX *context_make(const struct arguments *given)
{
    static const unsigned char name[] = "tls-peer";
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || !SSL_CTX_set_min_proto_version(context, given->min) ||
        !SSL_CTX_set_max_proto_version(context, given->max))
        die("versions", tls_error());
    if (!SSL_CTX_set_cipher_list(context, given->ciphers))
        die(given->ciphers, tls_error());
    if (given->groups && !SSL_CTX_set1_groups_list(context, given->groups))
        die(given->groups, tls_error());
    if (SSL_CTX_use_certificate_chain_file(context, given->cert) != 1)
        die(given->cert, tls_error());
    if (SSL_CTX_use_PrivateKey_file(context, given->key, SSL_FILETYPE_PEM) != 1)
        die(given->key, tls_error());
    if (given->client_ca) {
        if (SSL_CTX_load_verify_locations(context, given->client_ca, NULL) != 1)
            die(given->client_ca, tls_error());
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    /* By session ids alone, which the log shows; a ticket would be another secret in the client's hands. */
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, given->sessions ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(context, name, sizeof name - 1);
    SSL_CTX_set_alpn_select_cb(context, choose_alpn, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE);
    if (given->keylog)
        SSL_CTX_set_keylog_callback(context, peer_keylog);
    return context;
}

/* ADDRESS:PORT, the address of IPv6 in brackets or not. */
static int listen_at(const char *text)
{
    const char *colon = strrchr(text, ':');
    char host[128];
    const int one = 1;
    struct addrinfo *found, hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    if (!colon || colon - text >= (long)sizeof host)
        die(text, "no ADDRESS:PORT");
    const bool brackets = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon - text) - (brackets ? 2 : 0), text + brackets);
    const int error = getaddrinfo(host, colon + 1, &hints, &found);
    if (error)
        die(text, gai_strerror(error));
    const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        die(text, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static void go_to_background(const char *pid_file)
{
    const pid_t child = fork();
    if (child < 0)
        die("fork", strerror(errno));
    if (child > 0) {
        FILE *file = fopen(pid_file, "we");
        if (!file || fprintf(file, "%d\n", (int)child) < 0 || fclose(file))
            die(pid_file, strerror(errno));
        exit(0);
    }
    (void)setsid();
}

static void *connection_main(void *argument)
{
    struct peer_connection *connection = argument;
    peer_serve(connection);
    free(connection);
    return NULL;
}

static void serve(int listener, SSL_CTX *context)
{
    const int one = 1;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (unsigned number = 1;; number++) {
        struct sockaddr_storage from;
        socklen_t size = sizeof from;
        pthread_t thread;
        const int fd = accept4(listener, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
            die("accept", strerror(errno));
        if (fd < 0)
            continue;
        struct peer_connection *connection = calloc(1, sizeof *connection);
        if (!connection)
            die("a connection", strerror(ENOMEM));
        *connection = (struct peer_connection){.options = &options, .number = number, .fd = fd};
        connection->ssl = SSL_new(context);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        (void)getnameinfo((struct sockaddr *)&from, size, connection->from, sizeof connection->from, NULL, 0,
                          NI_NUMERICHOST);
        if (!connection->ssl || pthread_create(&thread, &attributes, connection_main, connection))
            die("a connection", "no thread");
    }
}

static const struct option known[] = {
    {"listen", required_argument, NULL, 'l'},
    {"cert", required_argument, NULL, 'c'},
    {"key", required_argument, NULL, 'k'},
    {"background", required_argument, NULL, 'b'},
    {"log", required_argument, NULL, 'L'},
    {"keylog", required_argument, NULL, 'K'},
    {"client-ca", required_argument, NULL, 'C'},
    {"min", required_argument, NULL, 'm'},
    {"max", required_argument, NULL, 'M'},
    {"ciphers", required_argument, NULL, 'x'},
    {"groups", required_argument, NULL, 'g'},
    {"sessions", required_argument, NULL, 's'},
    {"delay-ms", required_argument, NULL, 'd'},
    {"fault", required_argument, NULL, 'f'},
    {0},
};

static void take(struct arguments *given, int option)
{
    switch (option) {
    case 'l':
        given->listen = optarg;
        break;
    case 'c':
        given->cert = optarg;
        break;
    case 'k':
        given->key = optarg;
        break;
    case 'b':
        given->pid_file = optarg;
        break;
    case 'C':
        given->client_ca = optarg;
        break;
    case 'x':
        given->ciphers = optarg;
        break;
    case 'g':
        given->groups = optarg;
        break;
    case 'm':
        given->min = version_of(optarg);
        break;
    case 'M':
        given->max = version_of(optarg);
        break;
    case 's':
        given->sessions = strcmp(optarg, "on") == 0;
        break;
    case 'd':
        options.delay_ms = number_of(optarg);
        break;
    case 'f':
        options.fault = fault_of(optarg);
        break;
    case 'K':
        given->keylog = optarg;
        if (peer_keylog_open(optarg))
            die(optarg, "cannot be written");
        break;
    case 'L':
        if (peer_log_open(optarg))
            die(optarg, "cannot be written");
        break;
    default:
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct arguments given = {
        .ciphers = "ALL:@SECLEVEL=0", .min = TLS1_VERSION, .max = TLS1_3_VERSION, .sessions = true};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        take(&given, option);
    if (!given.listen || !given.cert || !given.key || optind < argc) {
        (void)fputs("usage: tls-peer --listen ADDRESS:PORT --cert FILE --key FILE [options]\n", stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    SSL_CTX *context = context_make(&given);
    const int listener = listen_at(given.listen);
    if (given.pid_file)
        go_to_background(given.pid_file);
    serve(listener, context);
}
