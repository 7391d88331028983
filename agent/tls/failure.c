/*
 * Why a TLS connection failed: BearSSL's errors, the server's alerts, the socket's errors, into an errno for
 * the program and a line for people that names the cause. See engine.h.
 *
 * Errors of the certificate are -EKEYREJECTED; of TLS -EPROTO; what came damaged -EBADMSG; a stream that
 * ended too early -ECONNRESET.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/tls/engine.h"

static int say(char *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int say(char *why, int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, UPSTREAM_WHY_BYTES, format, arguments);
    va_end(arguments);
    return error;
}

/* Which certificate of the chain: the server's own, or one above it. */
static const char *whose(const struct trust *trust)
{
    return trust->failed_at > 1 ? "an authority's certificate in the server's chain" : "server's certificate";
}

static int of_dates(const struct trust *trust, char *why)
{
    const struct certificate_head *head = &trust->at_fault;
    const char *time = strcmp(trust->now, head->not_before) < 0 ? head->not_before : head->not_after;
    return say(why, -EKEYREJECTED, "%s %s on %.4s-%.2s-%.2s; it is %.4s-%.2s-%.2s here", whose(trust),
               time == head->not_before ? "begins to hold" : "expired", time, time + 4, time + 6, trust->now,
               trust->now + 4, trust->now + 6);
}

/* The names are the server's choice: what is not a name's character becomes '?'. */
static int of_name(const struct upstream_engine *engine, char *why)
{
    const struct trust *trust = &engine->trust;
    const struct manifest_connection *connection = engine->plan->connection;
    char names[TRUST_NAMES * (TRUST_NAME_BYTES + 2) + 1] = "";
    size_t used = 0;
    for (unsigned i = 0; i < TRUST_NAMES; i++) {
        if (trust->names[i].status != 1)
            continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", used ? ", " : "",
                                 TRUST_NAME_BYTES - 1, trust->name_text[i]);
    }
    for (size_t i = 0; i < used; i++)
        if (names[i] <= ' ' || names[i] > '~')
            names[i] = names[i] == ' ' ? ' ' : '?';
    return say(why, -EKEYREJECTED, "server's certificate is for %s, not for %s", used ? names : "no name",
               connection->server_name[0] ? connection->server_name : connection->host);
}

static int of_certificate(const struct upstream_engine *engine, int error, char *why)
{
    const struct trust *trust = &engine->trust;
    switch (error) {
    case BR_ERR_X509_EXPIRED:
        return of_dates(trust, why);
    case BR_ERR_X509_BAD_SERVER_NAME:
        return of_name(engine, why);
    case BR_ERR_X509_WEAK_PUBLIC_KEY:
        return say(why, -EKEYREJECTED, "%s has an RSA key of less than %d bits", whose(trust),
                   TRUST_RSA_BITS);
    case BR_ERR_X509_NOT_CA:
        return say(why, -EKEYREJECTED,
                   "a certificate in the server's chain signs others and is not an authority's");
    case BR_ERR_X509_BAD_SIGNATURE:
        return say(why, -EKEYREJECTED, "a signature in the server's chain is wrong");
    case BR_ERR_X509_DN_MISMATCH:
        return say(why, -EKEYREJECTED,
                   "the server's certificates are not a chain: one does not name the next");
    case BR_ERR_X509_FORBIDDEN_KEY_USAGE:
        return say(why, -EKEYREJECTED, "%s forbids its use for TLS", whose(trust));
    case BR_ERR_X509_CRITICAL_EXTENSION:
        return say(why, -EKEYREJECTED, "%s has an extension that must be understood and is not",
                   whose(trust));
    case BR_ERR_X509_EMPTY_CHAIN:
        return say(why, -EKEYREJECTED, "server sent no certificate");
    case BR_ERR_X509_UNSUPPORTED:
    case BR_ERR_X509_WRONG_KEY_TYPE:
        if (trust->at_fault.weak_hash)
            return say(why, -EKEYREJECTED, "%s is signed over SHA-1 or MD5, which can be forged",
                       whose(trust));
        return say(why, -EKEYREJECTED, "%s has a key or signature of an unknown kind", whose(trust));
    case BR_ERR_X509_NOT_TRUSTED:
        if (trust->revoked)
            return say(why, -EKEYREJECTED, "%s is revoked", whose(trust));
        return say(why, -EKEYREJECTED,
                   "server's certificate is signed by an unknown authority, or by itself: none in `trust` "
                   "signed it");
    case BR_ERR_X509_LIMIT_EXCEEDED:
        if (trust->too_long)
            return say(why, -EKEYREJECTED, "server's chain has more than %d certificates", TRUST_CHAIN_MAX);
        return say(why, -EKEYREJECTED, "%s has parts that are larger than is read", whose(trust));
    default:
        return say(why, -EKEYREJECTED, "%s is not well formed (BearSSL's error %d)", whose(trust), error);
    }
}

static const char *alert_name(int alert)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {10, "unexpected_message"},
        {20, "bad_record_mac"},
        {21, "decryption_failed"},
        {22, "record_overflow"},
        {30, "decompression_failure"},
        {40, "handshake_failure"},
        {41, "no_certificate"},
        {42, "bad_certificate"},
        {43, "unsupported_certificate"},
        {44, "certificate_revoked"},
        {45, "certificate_expired"},
        {46, "certificate_unknown"},
        {47, "illegal_parameter"},
        {48, "unknown_ca"},
        {49, "access_denied"},
        {50, "decode_error"},
        {51, "decrypt_error"},
        {70, "protocol_version"},
        {71, "insufficient_security"},
        {80, "internal_error"},
        {86, "inappropriate_fallback"},
        {90, "user_canceled"},
        {100, "no_renegotiation"},
        {109, "missing_extension"},
        {110, "unsupported_extension"},
        {112, "unrecognized_name"},
        {113, "bad_certificate_status_response"},
        {115, "unknown_psk_identity"},
        {116, "certificate_required"},
        {120, "no_application_protocol"},
    };
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].number == alert)
            return names[i].name;
    return "unknown";
}

/* Alerts with which servers answer to a client certificate, or to none. */
static bool is_about_our_certificate(int alert)
{
    return alert == 40 || (alert >= 41 && alert <= 46) || alert == 48 || alert == 49 || alert == 116;
}

static int of_alert(const struct upstream_engine *engine, int alert, char *why)
{
    const struct credentials *credentials = engine->plan->credentials;
    if (alert == BR_ALERT_PROTOCOL_VERSION)
        return say(why, -EPROTO,
                   "server does not speak TLS 1.2 (alert protocol_version): 1.2 is what is spoken here, "
                   "neither 1.3 nor 1.0 and 1.1");
    if (engine->no_certificate.asked && is_about_our_certificate(alert))
        return say(why, -EPROTO, "server wants a client certificate, and %s (alert %s)",
                   credentials->chain_length ? "its key has not been delivered" : "there is none for it",
                   alert_name(alert));
    if (credentials->key && alert != 40 && is_about_our_certificate(alert))
        return say(why, -EPROTO, "server refused the client certificate: alert %s", alert_name(alert));
    if (alert == BR_ALERT_HANDSHAKE_FAILURE)
        return say(
            why, -EPROTO,
            "server refused the handshake (alert handshake_failure): TLS 1.2 is what is spoken here, with "
            "ECDHE and AES-GCM, ChaCha20 or AES-CBC with SHA-2");
    return say(why, -EPROTO, "server ended the connection with alert %s (%d)", alert_name(alert), alert);
}

static int of_version(const struct upstream_engine *engine, char *why)
{
    unsigned version = engine->client.eng.version_in;
    if (!version)
        return say(why, -EPROTO, "what the server sent is not TLS: does it speak TLS on this port?");
    if (version == BR_TLS10 || version == BR_TLS11)
        return say(why, -EPROTO, "server speaks TLS 1.%u; 1.2 is what is spoken here", version - BR_TLS10);
    return say(why, -EPROTO,
               "server chose a version that was not offered (0x%04x); 1.2 is what is spoken here", version);
}

int failure_of_engine(const struct upstream_engine *engine, char *why)
{
    int error = br_ssl_engine_last_error(&engine->client.eng);
    if (error >= BR_ERR_SEND_FATAL_ALERT)
        return say(why, -EPROTO, "handshake given up, alert %s sent",
                   alert_name(error - BR_ERR_SEND_FATAL_ALERT));
    if (error >= BR_ERR_RECV_FATAL_ALERT)
        return of_alert(engine, error - BR_ERR_RECV_FATAL_ALERT, why);
    if (error >= BR_ERR_X509_OK)
        return of_certificate(engine, error, why);
    switch (error) {
    case BR_ERR_UNSUPPORTED_VERSION:
        return of_version(engine, why);
    case BR_ERR_BAD_VERSION:
    case BR_ERR_UNKNOWN_TYPE:
        return say(why, -EPROTO, "what the server sent is not TLS 1.2: does it speak TLS on this port?");
    case BR_ERR_TOO_LARGE:
    case BR_ERR_BAD_LENGTH:
        return say(why, -EBADMSG, "server sent a record that is too large or of a wrong length");
    case BR_ERR_BAD_MAC:
        return say(why, -EBADMSG, "a record was damaged on its way: its authentication code is wrong");
    case BR_ERR_BAD_SIGNATURE:
        return say(why, -EPROTO,
                   "server's signature in the handshake is wrong: it may not have its certificate's key");
    case BR_ERR_INVALID_ALGORITHM:
        return say(why, -EPROTO, "server chose a curve or signature that was not offered");
    case BR_ERR_BAD_CIPHER_SUITE:
        return say(why, -EPROTO, "server chose a cipher suite that was not offered");
    case BR_ERR_WRONG_KEY_USAGE:
        return say(why, -EKEYREJECTED,
                   "server's certificate does not fit the cipher suite that the server chose");
    case BR_ERR_RESUME_MISMATCH:
        return say(why, -EPROTO, "server resumed a session with other parameters than it had");
    case BR_ERR_BAD_FINISHED:
        return say(why, -EPROTO, "the handshake was tampered with: the server's Finished is wrong");
    case BR_ERR_UNEXPECTED:
        return say(why, -EPROTO, "server sent a message that does not belong here");
    default:
        return say(why, -EPROTO, "server does not keep to TLS 1.2 (BearSSL's error %d)", error);
    }
}

int failure_of_socket(const struct upstream_engine *engine, int error, char *why)
{
    if (error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH)
        return say(why, -error, "server is no longer reached: %s", strerror(error));
    if (error && error != EPIPE && error != ECONNRESET)
        return say(why, -error, "the connection failed: %s", strerror(error));
    if (!engine->opened && engine->no_certificate.asked)
        return say(why, -ECONNRESET,
                   "server %s in mid-handshake, after it asked for a client certificate and got none",
                   error ? "reset the connection" : "ended the connection");
    if (!engine->opened)
        return say(why, -ECONNRESET, "server %s in mid-handshake",
                   error ? "reset the connection" : "ended the connection");
    if (error)
        return say(why, -ECONNRESET, "server reset the connection: what came may be cut off");
    return say(why, -ECONNRESET, "server ended without close_notify: what came may be cut off");
}
