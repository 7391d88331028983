/*
 * agent/tls/proven: a good signature is remembered as what it is, and nothing else is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/tls/credentials.h"
#include "agent/tls/proven.h"

static struct credentials credentials;
static uint8_t hash[32] = "what is signed";
static uint8_t signature[512];
static size_t signature_size;

static int setup(void **state)
{
    (void)state;
    credentials_init(&credentials);
    proven_forget();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    credentials_fini(&credentials);
    return 0;
}

static void load_key(const char *name)
{
    char path[4096], key[8192], why[CREDENTIALS_WHY_BYTES];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 128);
    assert_true(size > 0);
    path[size] = '\0';
    for (int up = 0; up < 3; up++)
        *strrchr(path, '/') = '\0';
    snprintf(path + strlen(path), 128, "/tls-certs/%s", name);
    int64_t key_size = fd_read_file(path, key, sizeof key);
    assert_true(key_size > 0);
    assert_int_equal(credentials_set_key(&credentials, key, (size_t)key_size, why), 0);
}

/* Known, and spared so far. */
static void assert_counts(unsigned known, unsigned spared)
{
    assert_int_equal(proven_count().known, known);
    assert_int_equal(proven_count().spared, spared);
}

static br_ec_public_key sign_with_ec(uint8_t *point)
{
    load_key("ec.key");
    const br_ec_private_key *secret = br_skey_decoder_get_ec(credentials.key);
    br_ec_public_key key;
    assert_true(br_ec_compute_pub(br_ec_get_default(), &key, point, secret) > 0);
    signature_size =
        br_ecdsa_sign_asn1_get_default()(br_ec_get_default(), &br_sha256_vtable, hash, secret, signature);
    assert_true(signature_size > 0);
    return key;
}

static uint32_t verify_ec(const br_ec_public_key *key)
{
    return proven_verify_ecdsa(br_ec_get_default(), hash, sizeof hash, key, signature, signature_size);
}

static void test_ecdsa(void **state)
{
    (void)state;
    uint8_t point[BR_EC_KBUF_PUB_MAX_SIZE];
    br_ec_public_key key = sign_with_ec(point);
    assert_true(verify_ec(&key));
    assert_counts(1, 0);
    assert_true(verify_ec(&key));
    assert_counts(1, 1);
    /* Another hash, another key, another signature: none is taken for it, and none is kept. */
    for (int twice = 0; twice < 2; twice++) {
        hash[0] ^= 1;
        assert_false(verify_ec(&key));
        hash[0] ^= 1;
        point[key.qlen - 1] ^= 1;
        assert_false(verify_ec(&key));
        point[key.qlen - 1] ^= 1;
        signature[signature_size - 1] ^= 1;
        assert_false(verify_ec(&key));
        signature[signature_size - 1] ^= 1;
    }
    assert_counts(1, 1);
}

static const unsigned char *const sha256_oid =
    (const unsigned char *)"\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01";

static void test_rsa(void **state)
{
    (void)state;
    uint8_t modulus[512], out[64] = {0};
    load_key("rsa.key");
    const br_rsa_private_key *secret = br_skey_decoder_get_rsa(credentials.key);
    uint8_t exponent[] = {1, 0, 1};
    br_rsa_public_key key = {.n = modulus, .e = exponent, .elen = sizeof exponent};
    key.nlen = br_rsa_compute_modulus_get_default()(modulus, secret);
    assert_int_equal(key.nlen, 256);
    assert_true(br_rsa_pkcs1_sign_get_default()(sha256_oid, hash, sizeof hash, secret, signature));
    for (unsigned i = 0; i < 3; i++) {
        memset(out, 0, sizeof out);
        assert_true(proven_verify_rsa(signature, 256, sha256_oid, sizeof hash, &key, out));
        assert_memory_equal(out, hash, sizeof hash);
        assert_counts(1, i);
    }
    signature[255] ^= 1;
    assert_false(proven_verify_rsa(signature, 256, sha256_oid, sizeof hash, &key, out));
    signature[255] ^= 1;
    assert_false(proven_verify_rsa(signature, 256, sha256_oid, 20, &key, out));
    assert_false(proven_verify_rsa(signature, 256, sha256_oid, 65, &key, out));
    assert_counts(1, 2);
}

static void test_the_oldest_makes_room(void **state)
{
    (void)state;
    uint8_t point[BR_EC_KBUF_PUB_MAX_SIZE];
    br_ec_public_key key = sign_with_ec(point);
    assert_true(verify_ec(&key));
    uint8_t first[sizeof signature], kept = hash[31];
    size_t first_size = signature_size;
    memcpy(first, signature, sizeof first);
    for (int i = 0; i < PROVEN_MAX; i++) {
        hash[31] = (uint8_t)(i + 1);
        key = sign_with_ec(point);
        assert_true(verify_ec(&key));
    }
    assert_counts(PROVEN_MAX, 0);
    hash[31] = kept;
    memcpy(signature, first, sizeof first);
    signature_size = first_size;
    assert_true(verify_ec(&key));
    assert_counts(PROVEN_MAX, 0);
    assert_true(verify_ec(&key));
    assert_counts(PROVEN_MAX, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_ecdsa),
        TEST(test_rsa),
        TEST(test_the_oldest_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
