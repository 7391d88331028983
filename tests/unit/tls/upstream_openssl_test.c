/*
 * agent/tls/upstream against a server that is not BearSSL's: `openssl s_server`, with certificates and
 * versions right and wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/tls/engine.h"
#include "tests/unit/tls/upstream_stage.h"

#define ARGUMENTS_MAX 24

static pid_t server;
static FILE *said;
static char why_unloaded[CREDENTIALS_WHY_BYTES];

/* "ACCEPT 127.0.0.1:43211" is what it says when it listens. */
static uint16_t read_port(void)
{
    char line[256];
    unsigned port = 0;
    while (fgets(line, sizeof line, said))
        if (sscanf(line, "ACCEPT 127.0.0.1:%u", &port) == 1 || sscanf(line, "ACCEPT [%*[^]]]:%u", &port) == 1)
            return (uint16_t)port;
    fail_msg("openssl s_server has not said where it listens");
    return 0;
}

/* What the server sends after its certificate. */
static const char *above(const char *certificate)
{
    if (!strcmp(certificate, "revoked-chain"))
        return "withdrawn.pem";
    if (!strcmp(certificate, "not-a-ca"))
        return "ec.pem";
    return !strcmp(certificate, "unknown") || !strcmp(certificate, "self-signed") ? "" : "intermediate.pem";
}

static char *copy_path(const char *name, const char *end)
{
    char file[64];
    snprintf(file, sizeof file, "%s%s", name, end);
    return strdup(stage_path(file));
}

/* `certificate`'s chain and key; `more`: further options, in pieces, NULL at the end. */
static void start(struct stage *stage, const char *certificate, const char *const *more)
{
    int pipe_fds[2], count = 0;
    char *leaf = copy_path(certificate, ".pem"), *key = copy_path(certificate, ".key");
    char *chain = copy_path(above(certificate), ""), *clients = copy_path("client-ca", ".pem");
    const char *first[] = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-rev", "-cert",
                           leaf,      "-key",     key};
    const char *arguments[ARGUMENTS_MAX] = {NULL};
    for (unsigned i = 0; i < sizeof first / sizeof first[0]; i++)
        arguments[count++] = first[i];
    if (above(certificate)[0]) {
        arguments[count++] = "-cert_chain";
        arguments[count++] = chain;
    }
    for (; more && *more; more++)
        arguments[count++] = strcmp(*more, "CA") == 0 ? clients : *more;
    assert_true(count < ARGUMENTS_MAX);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    server = fork();
    if (server == 0) {
        int nothing = open("/dev/null", O_RDWR);
        dup2(nothing, 0);
        dup2(pipe_fds[1], 1);
        dup2(nothing, 2);
        execvp("openssl", (char *const *)arguments);
        _exit(127);
    }
    close(pipe_fds[1]);
    said = fdopen(pipe_fds[0], "r");
    stage->connection.port = read_port();
    stage_add_address("127.0.0.1");
    free(clients);
    free(chain);
    free(key);
    free(leaf);
}

static int teardown(void **state)
{
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
        fclose(said);
    }
    server = 0;
    return stage_teardown(state);
}

/* -rev answers each line with the line reversed. */
static void exchange(struct stage *stage)
{
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    stage->got_size = 0;
    stage_write(stage, "ping\n", 5);
    stage_until_got(stage, 5);
    assert_memory_equal(stage->got, "gnip\n", 5);
    upstream_close(&stage->upstream);
    stage_until(stage, UPSTREAM_CLOSED);
}

static void works(void **state, const char *certificate, const char *const *more, unsigned suite)
{
    struct stage *stage = *state;
    start(stage, certificate, more);
    stage_begin(stage);
    stage_until(stage, UPSTREAM_OPEN);
    br_ssl_session_parameters session;
    br_ssl_engine_get_session_parameters(&stage->upstream.engine->client.eng, &session);
    assert_int_equal(session.cipher_suite, suite);
    upstream_close(&stage->upstream);
    stage_until(stage, UPSTREAM_CLOSED);
    upstream_fini(&stage->upstream);
    exchange(stage);
    assert_true(stage->upstream.resumed);
}

static void test_ec(void **state)
{
    works(state, "ec", NULL, BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
}

static void test_rsa(void **state)
{
    works(state, "rsa", NULL, BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
}

static void test_chacha20(void **state)
{
    static const char *const only[] = {"-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305", NULL};
    works(state, "ec", only, BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
}

static void test_aes_256(void **state)
{
    static const char *const only[] = {"-cipher", "ECDHE-RSA-AES256-GCM-SHA384", NULL};
    works(state, "rsa", only, BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384);
}

static void test_cbc(void **state)
{
    static const char *const only[] = {"-cipher", "ECDHE-ECDSA-AES128-SHA256", NULL};
    works(state, "ec", only, BR_TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256);
}

static void fails(void **state, const char *certificate, const char *const *more, int error,
                  const char *words)
{
    struct stage *stage = *state;
    start(stage, certificate, more);
    stage_begin(stage);
    stage_assert_failed(stage, error, words);
}

static const char *const weak[] = {"-cipher", "DEFAULT@SECLEVEL=0", NULL};

static void test_expired(void **state)
{
    fails(state, "expired", NULL, -EKEYREJECTED, "server's certificate expired on 2021-01-01; it is 20");
}

static void test_not_yet_valid(void **state)
{
    fails(state, "future", NULL, -EKEYREJECTED,
          "server's certificate begins to hold on 2048-01-01; it is 20");
}

static void test_wrong_name(void **state)
{
    fails(state, "wrong-name", NULL, -EKEYREJECTED,
          "server's certificate is for elsewhere.example.org, not for orders.example.test");
}

static void test_wrong_name_of_several(void **state)
{
    struct stage *stage = *state;
    strcpy(stage->connection.server_name, "orders.example.net");
    fails(state, "ec", NULL, -EKEYREJECTED,
          "is for orders.example.test, *.example.test, localhost, not for orders.example.net");
}

static void test_self_signed(void **state)
{
    fails(state, "self-signed", NULL, -EKEYREJECTED, "signed by an unknown authority, or by itself");
}

static void test_unknown_authority(void **state)
{
    fails(state, "unknown", NULL, -EKEYREJECTED, "signed by an unknown authority, or by itself");
}

static void test_not_an_authority(void **state)
{
    fails(state, "not-a-ca", NULL, -EKEYREJECTED, "signs others and is not an authority's");
}

static void test_rsa_of_1024_bits(void **state)
{
    fails(state, "rsa1024", weak, -EKEYREJECTED,
          "server's certificate has an RSA key of less than 2048 bits");
}

static void test_sha1(void **state)
{
    fails(state, "sha1", weak, -EKEYREJECTED, "server's certificate is signed over SHA-1 or MD5");
}

static void test_revoked(void **state)
{
    struct stage *stage = *state;
    assert_int_equal(credentials_load_revoked(&stage->credentials, stage_path("crl.pem"), why_unloaded), 0);
    fails(state, "revoked", NULL, -EKEYREJECTED, "server's certificate is revoked");
}

static void test_revoked_authority(void **state)
{
    struct stage *stage = *state;
    assert_int_equal(credentials_load_revoked(&stage->credentials, stage_path("crl.pem"), why_unloaded), 0);
    fails(state, "revoked-chain", NULL, -EKEYREJECTED,
          "an authority's certificate in the server's chain is revoked");
}

static void test_others_are_not_revoked(void **state)
{
    struct stage *stage = *state;
    assert_int_equal(credentials_load_revoked(&stage->credentials, stage_path("crl.pem"), why_unloaded), 0);
    start(stage, "ec", NULL);
    exchange(stage);
}

static void test_tls_1_0_only(void **state)
{
    static const char *const old[] = {"-tls1", "-cipher", "DEFAULT@SECLEVEL=0", NULL};
    fails(state, "ec", old, -EPROTO, "1.2 is what is spoken here");
}

static void test_tls_1_3_only(void **state)
{
    static const char *const modern[] = {"-tls1_3", NULL};
    fails(state, "ec", modern, -EPROTO,
          "server does not speak TLS 1.2 (alert protocol_version): 1.2 is what is");
}

static void test_no_suite_in_common(void **state)
{
    static const char *const old[] = {"-tls1_2", "-cipher", "AES128-SHA", NULL};
    fails(state, "rsa", old, -EPROTO,
          "server refused the handshake (alert handshake_failure): TLS 1.2 is what");
}

static const char *const verify[] = {"-Verify", "3", "-CAfile", "CA", "-verify_return_error", NULL};

static void test_a_client_certificate_is_wanted(void **state)
{
    fails(state, "ec", verify, -EPROTO, "server wants a client certificate, and there is none for it (alert");
}

static void test_a_client_certificate_without_its_key(void **state)
{
    struct stage *stage = *state;
    assert_int_equal(credentials_load_chain(&stage->credentials, stage_path("client.pem"), why_unloaded), 0);
    fails(state, "ec", verify, -EPROTO,
          "server wants a client certificate, and its key has not been delivered");
}

static void test_a_client_certificate_is_taken(void **state)
{
    struct stage *stage = *state;
    stage_load_client(stage, "client");
    start(stage, "ec", verify);
    exchange(stage);
}

static void test_a_client_certificate_is_refused(void **state)
{
    struct stage *stage = *state;
    stage_load_client(stage, "self-signed");
    fails(state, "ec", verify, -EPROTO, "server refused the client certificate: alert unknown_ca");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_ec),
        TEST(test_rsa),
        TEST(test_chacha20),
        TEST(test_aes_256),
        TEST(test_cbc),
        TEST(test_expired),
        TEST(test_not_yet_valid),
        TEST(test_wrong_name),
        TEST(test_wrong_name_of_several),
        TEST(test_self_signed),
        TEST(test_unknown_authority),
        TEST(test_not_an_authority),
        TEST(test_rsa_of_1024_bits),
        TEST(test_sha1),
        TEST(test_revoked),
        TEST(test_revoked_authority),
        TEST(test_others_are_not_revoked),
        TEST(test_tls_1_0_only),
        TEST(test_tls_1_3_only),
        TEST(test_no_suite_in_common),
        TEST(test_a_client_certificate_is_wanted),
        TEST(test_a_client_certificate_without_its_key),
        TEST(test_a_client_certificate_is_taken),
        TEST(test_a_client_certificate_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
