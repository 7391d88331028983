/*
 * See engine.h.
 *
 * What is spoken: TLS 1.2; key exchange by ECDHE only, so that a key that leaks later opens nothing of
 * before; AEAD suites, then CBC ones with SHA-2 for servers that lack those. No RSA key exchange, no SHA-1,
 * no 3DES: a server that has nothing better would not pass for safe anywhere. With AES in hardware, AES-GCM
 * is the cheapest there is; without, ChaCha20 is.
 *
 * Which implementations the processor has is asked once, not in each handshake: CPUID leaves a virtual
 * machine, at a cost of many thousand instructions. A clone's processor has what the snapshot's had.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "agent/tls/engine.h"
#include "agent/tls/proven.h"

#define SEED_BYTES  48
#define PUMP_ROUNDS 64 /* records and parts of them, before others get their turn */

struct algorithms {
    const br_block_ctr_class *aes_ctr;
    const br_block_cbcenc_class *aes_cbc_encrypt;
    const br_block_cbcdec_class *aes_cbc_decrypt;
    br_ghash ghash;
    br_chacha20_run chacha20;
    br_poly1305_run poly1305;
    br_rsa_pkcs1_vrfy rsa_verify;
    br_ecdsa_vrfy ecdsa_verify;
    br_rsa_pkcs1_sign rsa_sign;
    br_ecdsa_sign ecdsa_sign;
    const br_ec_impl *ec;
    bool fast_aes;
};

static const struct algorithms *algorithms(void)
{
    static struct algorithms chosen;
    if (chosen.ec)
        return &chosen;
    chosen.aes_ctr = br_aes_x86ni_ctr_get_vtable();
    chosen.aes_cbc_encrypt = br_aes_x86ni_cbcenc_get_vtable();
    chosen.aes_cbc_decrypt = br_aes_x86ni_cbcdec_get_vtable();
    chosen.ghash = br_ghash_pclmul_get();
    chosen.fast_aes = chosen.aes_ctr && chosen.ghash;
    if (!chosen.aes_ctr)
        chosen.aes_ctr = &br_aes_ct64_ctr_vtable;
    if (!chosen.aes_cbc_encrypt)
        chosen.aes_cbc_encrypt = &br_aes_ct64_cbcenc_vtable;
    if (!chosen.aes_cbc_decrypt)
        chosen.aes_cbc_decrypt = &br_aes_ct64_cbcdec_vtable;
    if (!chosen.ghash)
        chosen.ghash = br_ghash_ctmul64;
    chosen.chacha20 = br_chacha20_sse2_get();
    if (!chosen.chacha20)
        chosen.chacha20 = br_chacha20_ct_run;
    chosen.poly1305 = br_poly1305_ctmulq_get();
    if (!chosen.poly1305)
        chosen.poly1305 = br_poly1305_ctmul_run;
    chosen.rsa_verify = br_rsa_pkcs1_vrfy_get_default();
    chosen.ecdsa_verify = br_ecdsa_vrfy_asn1_get_default();
    chosen.rsa_sign = br_rsa_pkcs1_sign_get_default();
    chosen.ecdsa_sign = br_ecdsa_sign_asn1_get_default();
    chosen.ec = br_ec_get_default();
    return &chosen;
}

static void set_suites(br_ssl_engine_context *tls, const struct algorithms *use)
{
    static const uint16_t aes_first[] = {
        BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,       BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,       BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        BR_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,       BR_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384,       BR_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384,
    };
    static const uint16_t chacha20_first[] = {
        BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,       BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,       BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        BR_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,       BR_TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
        BR_TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384,       BR_TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384,
    };
    br_ssl_engine_set_suites(tls, use->fast_aes ? aes_first : chacha20_first,
                             sizeof aes_first / sizeof aes_first[0]);
    br_ssl_engine_set_gcm(tls, &br_sslrec_in_gcm_vtable, &br_sslrec_out_gcm_vtable);
    br_ssl_engine_set_aes_ctr(tls, use->aes_ctr);
    br_ssl_engine_set_ghash(tls, use->ghash);
    br_ssl_engine_set_chapol(tls, &br_sslrec_in_chapol_vtable, &br_sslrec_out_chapol_vtable);
    br_ssl_engine_set_chacha20(tls, use->chacha20);
    br_ssl_engine_set_poly1305(tls, use->poly1305);
    br_ssl_engine_set_cbc(tls, &br_sslrec_in_cbc_vtable, &br_sslrec_out_cbc_vtable);
    br_ssl_engine_set_aes_cbc(tls, use->aes_cbc_encrypt, use->aes_cbc_decrypt);
}

static void set_algorithms(struct upstream_engine *engine, const struct algorithms *use)
{
    br_ssl_engine_context *tls = &engine->client.eng;
    br_x509_minimal_context *minimal = &engine->trust.minimal;
    set_suites(tls, use);
    br_ssl_engine_set_prf_sha256(tls, br_tls12_sha256_prf);
    br_ssl_engine_set_prf_sha384(tls, br_tls12_sha384_prf);
    br_ssl_engine_set_ec(tls, use->ec);
    br_ssl_engine_set_rsavrfy(tls, use->rsa_verify);
    br_ssl_engine_set_ecdsa(tls, use->ecdsa_verify);
    br_x509_minimal_set_rsa(minimal, proven_verify_rsa);
    br_x509_minimal_set_ecdsa(minimal, use->ec, proven_verify_ecdsa);
    static const br_hash_class *const hashes[] = {&br_sha256_vtable, &br_sha384_vtable, &br_sha512_vtable};
    for (unsigned i = 0; i < 3; i++) {
        br_ssl_engine_set_hash(tls, br_sha256_ID + (int)i, hashes[i]);
        br_x509_minimal_set_hash(minimal, br_sha256_ID + (int)i, hashes[i]);
    }
}

/* ---- the client's certificate */

static void ignore(const br_ssl_client_certificate_class **context)
{
    (void)context;
}

static void ignore_size(const br_ssl_client_certificate_class **context, size_t size)
{
    (void)context, (void)size;
}

static void ignore_name(const br_ssl_client_certificate_class **context, const unsigned char *data,
                        size_t size)
{
    (void)context, (void)data, (void)size;
}

static void choose_none(const br_ssl_client_certificate_class **context, const br_ssl_client_context *client,
                        uint32_t kinds, br_ssl_client_certificate *choice)
{
    (void)client, (void)kinds;
    struct engine_no_certificate *none = (struct engine_no_certificate *)(void *)context;
    none->asked = true;
    *choice = (br_ssl_client_certificate){0};
}

static const br_ssl_client_certificate_class no_certificate_class = {
    .context_size = sizeof(struct engine_no_certificate),
    .start_name_list = ignore,
    .start_name = ignore_size,
    .append_name = ignore_name,
    .end_name = ignore,
    .end_name_list = ignore,
    .choose = choose_none,
};

static void set_certificate(struct upstream_engine *engine, const struct algorithms *use)
{
    const struct credentials *credentials = engine->plan->credentials;
    const br_ec_private_key *ec = credentials->key ? br_skey_decoder_get_ec(credentials->key) : NULL;
    const br_rsa_private_key *rsa = credentials->key ? br_skey_decoder_get_rsa(credentials->key) : NULL;
    engine->no_certificate.vtable = &no_certificate_class;
    if (ec && credentials->chain_length)
        br_ssl_client_set_single_ec(&engine->client, credentials->chain, credentials->chain_length, ec,
                                    BR_KEYTYPE_SIGN, 0, use->ec, use->ecdsa_sign);
    else if (rsa && credentials->chain_length)
        br_ssl_client_set_single_rsa(&engine->client, credentials->chain, credentials->chain_length, rsa,
                                     use->rsa_sign);
    else
        br_ssl_client_set_client_certificate(&engine->client, &engine->no_certificate.vtable);
}

/* ---- begin, end */

/* The generator is this engine's alone, and what it is seeded with was never anybody else's. BearSSL's own
 * seeding is left out: it would open /dev/urandom or ask CPUID, for nothing that is not here already. */
static int seed(br_ssl_engine_context *tls)
{
    uint8_t fresh[SEED_BYTES];
    ssize_t got = getrandom(fresh, sizeof fresh, 0);
    if (got != (ssize_t)sizeof fresh)
        return got < 0 ? -errno : -EIO;
    br_ssl_engine_inject_entropy(tls, fresh, sizeof fresh);
    tls->rng_os_rand_done = 1;
    explicit_bzero(fresh, sizeof fresh);
    return 0;
}

static const char *server_name(const struct manifest_connection *connection)
{
    return connection->server_name[0] ? connection->server_name : connection->host;
}

static int begin(struct upstream_engine *engine, const struct upstream_plan *plan)
{
    const struct algorithms *use = algorithms();
    br_ssl_engine_context *tls = &engine->client.eng;
    br_ssl_client_zero(&engine->client);
    br_ssl_engine_set_versions(tls, BR_TLS12, BR_TLS12);
    br_ssl_engine_add_flags(tls, BR_OPT_NO_RENEGOTIATION | BR_OPT_FAIL_ON_ALPN_MISMATCH);
    trust_init(&engine->trust, plan->credentials);
    br_ssl_engine_set_x509(tls, &engine->trust.vtable);
    engine->plan = plan;
    set_algorithms(engine, use);
    set_certificate(engine, use);
    for (unsigned i = 0; i < plan->connection->alpn_count; i++)
        engine->protocols[i] = plan->connection->alpn[i];
    br_ssl_engine_set_protocol_names(tls, engine->protocols, plan->connection->alpn_count);
    br_ssl_engine_set_buffers_bidi(tls, engine->in, sizeof engine->in, engine->out, sizeof engine->out);
    int error = seed(tls);
    if (error)
        return error;
    const struct upstream_sessions *sessions = plan->sessions;
    bool offer = sessions && sessions->has_last && sessions->last.session_id_len;
    if (offer) {
        engine->offered = sessions->last;
        br_ssl_engine_set_session_parameters(tls, &sessions->last);
    }
    return br_ssl_client_reset(&engine->client, server_name(plan->connection), offer) ? 0 : -EINVAL;
}

int engine_open(struct upstream_engine **engine, const struct upstream_plan *plan, char *why)
{
    /* An empty name would turn the check of the name off. */
    if (!server_name(plan->connection)[0]) {
        snprintf(why, UPSTREAM_WHY_BYTES, "no server name to check");
        return -EINVAL;
    }
    struct upstream_engine *fresh = malloc(sizeof *fresh);
    if (!fresh) {
        snprintf(why, UPSTREAM_WHY_BYTES, "no memory for a TLS connection");
        return -ENOMEM;
    }
    memset(fresh, 0, offsetof(struct upstream_engine, in));
    int error = begin(fresh, plan);
    if (error) {
        snprintf(why, UPSTREAM_WHY_BYTES, "TLS cannot begin: %s, BearSSL's error %d", strerror(-error),
                 br_ssl_engine_last_error(&fresh->client.eng));
        engine_drop(&fresh);
        return error;
    }
    *engine = fresh;
    engine_wipe_stack(false); /* of the generator's seed */
    return 0;
}

void engine_drop(struct upstream_engine **engine)
{
    struct upstream_engine *old = *engine;
    *engine = NULL;
    if (!old)
        return;
    explicit_bzero(old->in, old->in_used);
    explicit_bzero(old->out, old->out_used);
    explicit_bzero(old, offsetof(struct upstream_engine, in));
    free(old);
}

/* ---- the pump */

/* Where BearSSL will have written: records end there, and it encrypts in place. */
static void note_used(size_t *used, const uint8_t *buffer, const uint8_t *at, size_t size)
{
    size_t end = (size_t)(at - buffer) + size;
    if (end > *used)
        *used = end;
}

enum step { STEP_NONE, STEP_DONE, STEP_WAIT };

static enum step send_some(struct upstream_engine *engine, int fd)
{
    size_t size = 0;
    uint8_t *from = br_ssl_engine_sendrec_buf(&engine->client.eng, &size);
    if (!from || engine->send_error)
        return STEP_NONE;
    note_used(&engine->out_used, engine->out, from, size);
    ssize_t sent = send(fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR)
        return STEP_DONE;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return STEP_WAIT;
    if (sent < 0) {
        engine->send_error = errno;
        return STEP_NONE;
    }
    br_ssl_engine_sendrec_ack(&engine->client.eng, (size_t)sent);
    return STEP_DONE;
}

/* `error`: an errno, or -1 for the end of the stream. */
static enum step receive_some(struct upstream_engine *engine, int fd, int *error)
{
    size_t size = 0;
    uint8_t *into = br_ssl_engine_recvrec_buf(&engine->client.eng, &size);
    if (!into)
        return STEP_NONE;
    ssize_t got = recv(fd, into, size, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR)
        return STEP_DONE;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return STEP_WAIT;
    if (got <= 0) {
        *error = got < 0 ? errno : -1;
        return STEP_NONE;
    }
    note_used(&engine->in_used, engine->in, into, (size_t)got);
    br_ssl_engine_recvrec_ack(&engine->client.eng, (size_t)got);
    return STEP_DONE;
}

/* What the server sent before its end is still read when nothing can be sent any more. */
static int verdict(struct upstream_engine *engine, int receive_error, bool reading_waits, char *why)
{
    if (br_ssl_engine_current_state(&engine->client.eng) == BR_SSL_CLOSED)
        return br_ssl_engine_last_error(&engine->client.eng) ? failure_of_engine(engine, why) : 1;
    if (receive_error)
        return failure_of_socket(engine, receive_error < 0 ? 0 : receive_error, why);
    if (engine->send_error && engine_peer_ended(engine))
        return 1; /* it has not waited for our close_notify */
    if (engine->send_error && reading_waits)
        return failure_of_socket(engine, engine->send_error, why);
    return 0;
}

__attribute__((noinline)) static int pump(struct upstream_engine *engine, int fd, enum engine_way way,
                                          uint32_t *wants, char *why)
{
    enum step sent = STEP_DONE, received = way == ENGINE_BOTH ? STEP_DONE : STEP_NONE;
    int receive_error = 0;
    for (int round = 0; round < PUMP_ROUNDS && !receive_error; round++) {
        if (sent != STEP_WAIT)
            sent = send_some(engine, fd);
        if (way == ENGINE_BOTH && received != STEP_WAIT)
            received = receive_some(engine, fd, &receive_error);
        if (sent != STEP_DONE && received != STEP_DONE)
            break;
        if (!engine->opened && engine_is_open(engine)) {
            engine->opened = true; /* the owner hears of this before it hears of an end */
            break;
        }
    }
    *wants = (uint32_t)(sent != STEP_NONE && engine_has_output(engine) ? EPOLLOUT : 0) |
             (uint32_t)(engine_can_receive(engine) ? EPOLLIN : 0);
    return verdict(engine, receive_error, received == STEP_WAIT, why);
}

int engine_pump(struct upstream_engine *engine, int fd, enum engine_way way, uint32_t *wants, char *why)
{
    const bool was_open = engine->opened;
    const int outcome = pump(engine, fd, way, wants, why);
    engine_wipe_stack(was_open);
    return outcome;
}

/* Long enough for each implementation's widest loop, and with a key of the longest schedule. */
void engine_wipe_registers(void)
{
    static const uint8_t key[32] = "of no worth, and of no zeros ...";
    const struct algorithms *use = algorithms();
    union {
        const br_block_ctr_class *vtable;
        br_aes_gen_ctr_keys aes;
    } keys;
    uint8_t data[256] = {1}, hash[16] = {1};
    use->chacha20(key, key, 1, data, sizeof data);
    use->aes_ctr->init(&keys.vtable, key, sizeof key);
    use->ghash(hash, key, data, sizeof data);
    use->aes_ctr->run(&keys.vtable, key, 1, data, sizeof data);
}
