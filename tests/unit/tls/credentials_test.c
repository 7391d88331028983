/*
 * agent/tls/credentials, anchors, revocation, certificate, der, pem: what is read, what is refused, and how.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/tls/certificate.h"
#include "agent/tls/credentials.h"
#include "agent/tls/der.h"
#include "agent/tls/pem.h"

static struct credentials credentials;
static char why[CREDENTIALS_WHY_BYTES];
static char text[1 << 20];
static size_t text_size;

static int setup(void **state)
{
    (void)state;
    credentials_init(&credentials);
    why[0] = '\0';
    text_size = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    credentials_fini(&credentials);
    return 0;
}

/* Beside the tests: BUILD/tests/unit/tls/NAME -> BUILD/tests/tls-certs. */
static const char *path_of(const char *name)
{
    static char path[4096];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 128);
    assert_true(size > 0);
    path[size] = '\0';
    for (int up = 0; up < 3; up++)
        *strrchr(path, '/') = '\0';
    snprintf(path + strlen(path), 128, "/tls-certs/%s", name);
    return path;
}

static void add_file(const char *name)
{
    int64_t size = fd_read_file(path_of(name), text + text_size, sizeof text - text_size);
    assert_true(size > 0);
    text_size += (size_t)size;
}

static int one_object(void *context, const char *label, const void *data, size_t size)
{
    (void)label;
    br_x509_certificate *out = context;
    if (out->data)
        return 0; /* the first */
    out->data = malloc(size);
    memcpy(out->data, data, size);
    out->data_len = size;
    return 0;
}

static br_x509_certificate der_of(const char *name)
{
    br_x509_certificate out = {NULL, 0};
    unsigned count;
    text_size = 0;
    add_file(name);
    assert_int_equal(pem_each(text, text_size, one_object, &out, &count), 0);
    return out;
}

static void assert_why(const char *words)
{
    if (!strstr(why, words))
        fail_msg("\"%s\", not \"...%s...\"", why, words);
}

/* ---- trust */

static void test_anchors_are_found_by_name(void **state)
{
    (void)state;
    assert_int_equal(credentials_load_trust(&credentials, path_of("other-ca.pem"), why), 0);
    assert_int_equal(credentials_load_trust(&credentials, path_of("ca.pem"), why), 0);
    assert_int_equal(credentials_load_trust(&credentials, path_of("ca.pem"), why), 0);
    assert_int_equal(credentials.anchor_count, 3);
    struct certificate_head head;
    br_x509_certificate intermediate = der_of("intermediate.pem"), unknown = der_of("unknown.pem");
    unsigned count = 0;
    assert_int_equal(certificate_read_head(&head, intermediate.data, intermediate.data_len), 0);
    assert_non_null(credentials_find_anchors(&credentials, head.serial.issuer, &count));
    assert_int_equal(count, 2);
    assert_int_equal(certificate_read_head(&head, unknown.data, unknown.data_len), 0);
    assert_non_null(credentials_find_anchors(&credentials, head.serial.issuer, &count));
    assert_int_equal(count, 1);
    head.serial.issuer[31] ^= 1;
    assert_null(credentials_find_anchors(&credentials, head.serial.issuer, &count));
    assert_int_equal(count, 0);
    free(intermediate.data);
    free(unknown.data);
}

static void test_the_distributions_bundle(void **state)
{
    (void)state;
    static const char bundle[] = "/etc/ssl/certs/ca-certificates.crt";
    if (access(bundle, R_OK) != 0)
        skip();
    if (credentials_load_trust(&credentials, bundle, why))
        fail_msg("%s", why);
    assert_true(credentials.anchor_count > 50);
    for (unsigned i = 1; i < credentials.anchor_count; i++)
        assert_true(memcmp(credentials.anchor_names[i - 1], credentials.anchor_names[i], 32) <= 0);
    for (unsigned i = 0; i < credentials.anchor_count; i++) {
        uint8_t hash[32];
        certificate_hash_name(hash, credentials.anchors[i].dn.data, credentials.anchors[i].dn.len);
        assert_memory_equal(hash, credentials.anchor_names[i], 32);
        assert_int_equal(credentials.anchors[i].flags, BR_X509_TA_CA);
    }
}

static void test_a_leaf_is_no_anchor(void **state)
{
    (void)state;
    assert_int_equal(credentials_load_trust(&credentials, path_of("ec.pem"), why), -EBADMSG);
    assert_why("ec.pem: certificate 1 is not an authority's: name the one that signed it");
    assert_int_equal(credentials.anchor_count, 0);
}

static void test_what_is_not_there_to_trust(void **state)
{
    (void)state;
    assert_int_equal(credentials_load_trust(&credentials, "/nonexistent.pem", why), -ENOENT);
    assert_string_equal(why, "/nonexistent.pem: cannot be read: No such file or directory");
    assert_int_equal(credentials_parse_trust(&credentials, "", 0, why), -EBADMSG);
    assert_why("no certificate in it");
    add_file("ec.key");
    assert_int_equal(credentials_parse_trust(&credentials, text, text_size, why), -EBADMSG);
    assert_why("no certificate in it");
    assert_int_equal(credentials_load_trust(&credentials, "/dev/zero", why), -EFBIG);
    assert_string_equal(why, "/dev/zero: larger than 1048576 bytes");
}

static void test_a_cut_bundle(void **state)
{
    (void)state;
    add_file("ca.pem");
    size_t whole = text_size;
    add_file("other-ca.pem");
    assert_int_equal(credentials_parse_trust(&credentials, text, whole + 200, why), -EBADMSG);
    assert_why("broken after certificate 1");
    text[whole + 100] = '!';
    assert_int_equal(credentials_parse_trust(&credentials, text, text_size, why), -EBADMSG);
    assert_why("broken after certificate 1");
}

static void test_a_bundle_without_its_last_newline(void **state)
{
    (void)state;
    add_file("ca.pem");
    assert_int_equal(text[text_size - 1], '\n');
    assert_int_equal(credentials_parse_trust(&credentials, text, text_size - 1, why), 0);
    assert_int_equal(credentials.anchor_count, 1);
}

static void test_too_many_anchors(void **state)
{
    (void)state;
    for (int i = 0; i <= CREDENTIALS_ANCHORS_MAX; i++)
        add_file("ca.pem");
    assert_int_equal(credentials_parse_trust(&credentials, text, text_size, why), -EBADMSG);
    assert_why("more than 512 certificates");
}

/* ---- revoked */

static void test_revoked_certificates(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool revoked;
    } cases[] = {{"revoked.pem", true}, {"withdrawn.pem", true}, {"ec.pem", false},
                 {"rsa.pem", false},    {"ca.pem", false},       {"revoked-chain.pem", false}};
    assert_int_equal(credentials_load_revoked(&credentials, path_of("crl.pem"), why), 0);
    assert_int_equal(credentials.revoked_count, 2);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        br_x509_certificate der = der_of(cases[i].name);
        assert_int_equal(credentials_is_revoked(&credentials, der.data, der.data_len), cases[i].revoked);
        free(der.data);
    }
}

static void test_no_revocation_list(void **state)
{
    (void)state;
    assert_int_equal(credentials_load_revoked(&credentials, path_of("ca.pem"), why), -EBADMSG);
    assert_why("ca.pem: no revocation list in it");
}

/* A list with one entry: `critical`, whether its extension must be understood. */
static size_t make_list(uint8_t *out, const uint8_t *serial, uint8_t serial_size, int critical)
{
    static const uint8_t begin[] = {0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x17, 0, 0x30, 0, 0x30, 0, 0x02};
    /* Lengths: list, body, signature, issuer, thisUpdate, entries, entry; all short. */
    uint8_t extension[] = {0x30, 12, 0x30, 10, 0x06, 3, 0x55, 0x1d, 0x1d, 0x01, 1, 0xff, 0x04, 0};
    uint8_t entry = (uint8_t)(2 + serial_size + 2 + (critical >= 0 ? (int)sizeof extension : 0));
    memcpy(out, begin, sizeof begin);
    out[1] = (uint8_t)(entry + 12);
    out[3] = (uint8_t)(entry + 10);
    out[11] = (uint8_t)(entry + 2);
    out[13] = entry;
    size_t at = sizeof begin;
    out[at++] = serial_size;
    memcpy(out + at, serial, serial_size);
    at += serial_size;
    out[at++] = 0x17;
    out[at++] = 0;
    extension[11] = critical > 0 ? 0xff : 0;
    if (critical >= 0) {
        memcpy(out + at, extension, sizeof extension);
        at += sizeof extension;
    }
    return at;
}

static int parse_list(const uint8_t *der, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = text + sprintf(text, "-----BEGIN X509 CRL-----\n");
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = 0;
        for (size_t k = 0; k < 3; k++)
            three = three << 8 | (i + k < size ? der[i + k] : 0u);
        for (int k = 0; k < 4; k++)
            *at++ = (size_t)k <= size - i ? digits[three >> (18 - 6 * k) & 63] : '=';
    }
    at += sprintf(at, "\n-----END X509 CRL-----\n");
    return credentials_parse_revoked(&credentials, text, (size_t)(at - text), why);
}

static void test_entries_of_a_list(void **state)
{
    (void)state;
    static const uint8_t serial[22] = {1, 2, 3};
    uint8_t der[128];
    assert_int_equal(parse_list(der, make_list(der, serial, 3, -1)), 0);
    assert_int_equal(parse_list(der, make_list(der, serial, 20, 0)), 0);
    assert_int_equal(credentials.revoked_count, 2);
    assert_int_equal(parse_list(der, make_list(der, serial, 21, -1)), -EBADMSG);
    assert_why("revocation list 1: a serial number is longer than 20 bytes");
    assert_int_equal(parse_list(der, make_list(der, serial, 3, 1)), -EBADMSG);
    assert_why("revocation list 1: an entry has an extension that must be understood");
    assert_int_equal(credentials.revoked_count, 2);
    for (size_t cut = make_list(der, serial, 3, -1) - 1; cut > 0; cut--)
        assert_int_equal(parse_list(der, cut), -EBADMSG);
}

/* ---- chain, key */

static void test_a_chain_replaces_the_one_before(void **state)
{
    (void)state;
    assert_int_equal(credentials_load_chain(&credentials, path_of("client.pem"), why), 0);
    assert_int_equal(credentials.chain_length, 2);
    assert_int_equal(credentials_load_chain(&credentials, path_of("unknown.pem"), why), 0);
    assert_int_equal(credentials.chain_length, 1);
    assert_int_equal(credentials_load_chain(&credentials, path_of("crl.pem"), why), -EBADMSG);
    assert_why("crl.pem: no certificate in it");
    assert_int_equal(credentials.chain_length, 1);
    for (int i = 0; i < CREDENTIALS_CHAIN_MAX; i++)
        add_file("client.pem");
    assert_int_equal(credentials_parse_chain(&credentials, text, text_size, why), -EBADMSG);
    assert_why("more than 8 certificates");
}

static void test_keys(void **state)
{
    (void)state;
    add_file("client.key");
    assert_int_equal(credentials_set_key(&credentials, text, text_size, why), 0);
    assert_non_null(br_skey_decoder_get_rsa(credentials.key));
    text_size = 0;
    add_file("client-ec.key");
    assert_int_equal(credentials_set_key(&credentials, text, text_size, why), 0);
    assert_non_null(br_skey_decoder_get_ec(credentials.key));
    credentials_drop_key(&credentials);
    assert_null(credentials.key);
    add_file("client.key");
    assert_int_equal(credentials_set_key(&credentials, text, text_size, why), -EBADMSG);
    assert_string_equal(why, "more than one private key");
    assert_int_equal(credentials_set_key(&credentials, text, 100, why), -EBADMSG);
    assert_string_equal(why, "the private key or its PEM is broken, or of an unknown kind");
    assert_int_equal(credentials_set_key(&credentials, "x\n", 2, why), -EBADMSG);
    assert_string_equal(why, "no private key in it: PEM with BEGIN PRIVATE KEY is wanted");
    static const char locked[] =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_int_equal(credentials_set_key(&credentials, locked, sizeof locked - 1, why), -EBADMSG);
    assert_string_equal(why, "the private key is encrypted: deliver it without a passphrase");
    assert_null(credentials.key);
}

/* ---- heads, DER */

static void test_heads(void **state)
{
    (void)state;
    struct certificate_head head;
    br_x509_certificate expired = der_of("expired.pem"), sha1 = der_of("sha1.pem");
    assert_int_equal(certificate_read_head(&head, expired.data, expired.data_len), 0);
    assert_string_equal(head.not_before, "20200101000000");
    assert_string_equal(head.not_after, "20210101000000");
    assert_false(head.weak_hash);
    /* Its beginning will do, as far as the dates; no less. */
    unsigned enough = 0;
    for (size_t size = 0; size < expired.data_len; size++)
        enough += certificate_read_head(&head, expired.data, size) == 0;
    assert_true(enough > 100 && enough < expired.data_len - 40);
    assert_int_equal(certificate_read_head(&head, sha1.data, sha1.data_len), 0);
    assert_true(head.weak_hash);
    free(expired.data);
    free(sha1.data);
}

static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[8];
        size_t size;
        bool good;
    } cases[] = {
        {{0x02, 0x01, 0x05}, 3, true},
        {{0x02, 0x01}, 2, false},
        {{0x02}, 1, false},
        {{0x02, 0x80, 0x00, 0x00}, 4, false}, /* without an end */
        {{0x02, 0x81, 0x01, 0x05}, 4, false}, /* longer than need be */
        {{0x02, 0x82, 0x00, 0x81}, 4, false},
        {{0x02, 0x84, 0xff, 0xff, 0xff, 0xff}, 6, false},
        {{0x02, 0x85, 1, 1, 1, 1, 1}, 7, false},
        {{0x1f, 0x01, 0x05}, 3, false}, /* a tag of several bytes */
        {{0x02, 0x00}, 2, true},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct der in = {.at = cases[i].bytes, .size = cases[i].size};
        struct der_item item;
        assert_int_equal(der_next(&in, &item), cases[i].good);
        assert_int_equal(in.size, cases[i].good ? 0 : cases[i].size);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_anchors_are_found_by_name),
        TEST(test_the_distributions_bundle),
        TEST(test_a_leaf_is_no_anchor),
        TEST(test_what_is_not_there_to_trust),
        TEST(test_a_cut_bundle),
        TEST(test_a_bundle_without_its_last_newline),
        TEST(test_too_many_anchors),
        TEST(test_revoked_certificates),
        TEST(test_no_revocation_list),
        TEST(test_entries_of_a_list),
        TEST(test_a_chain_replaces_the_one_before),
        TEST(test_keys),
        TEST(test_heads),
        TEST(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
