/* The manifest of connections: what is taken, and that each mistake is refused by its line, key and cure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/tls/manifest.h"

static struct manifest manifest;
static char why[MANIFEST_WHY_BYTES];

/* From a copy without a byte to spare, so that a read past the end is seen. */
static int parse(const char *text)
{
    const size_t size = strlen(text);
    char *copy = malloc(size + 1);
    assert_non_null(copy);
    memcpy(copy, text, size);
    char *exact = realloc(copy, size > 0 ? size : 1);
    assert_non_null(exact);
    const int error = manifest_parse(&manifest, exact, size, why);
    free(exact);
    return error;
}

static void assert_takes(const char *text)
{
    const int error = parse(text);
    if (error)
        fail_msg("refused: %s", why);
    assert_string_equal(why, "");
}

static void assert_refuses(const char *text, const char *wanted)
{
    static const struct manifest none;
    assert_int_equal(parse(text), -EINVAL);
    assert_string_equal(why, wanted);
    assert_memory_equal(&manifest, &none, sizeof none);
}

static void defaults(void **state)
{
    (void)state;
    assert_takes("[a]\nhost = Orders.Example.COM\n");
    assert_int_equal(manifest.count, 1);
    const struct manifest_connection *c = &manifest.at[0];
    assert_string_equal(c->name, "a");
    assert_string_equal(c->host, "orders.example.com");
    assert_string_equal(c->server_name, "orders.example.com");
    assert_int_equal(c->port, 443);
    assert_string_equal(c->trust, "");
    assert_string_equal(c->revoked, "");
    assert_string_equal(c->client_certificate, "");
    assert_string_equal(c->client_key_secret, "");
    assert_int_equal(c->alpn_count, 0);
    assert_int_equal(c->pool, 1);
    assert_int_equal(c->local_port, 0);
    assert_int_equal(c->connect_timeout_ms, 5000);
    assert_int_equal(c->idle_timeout_ms, 60000);
}

static void every_key(void **state)
{
    (void)state;
    assert_takes("# two of them\r\n\r\n"
                 "  [orders-1]\t\n"
                 "host=192.0.2.7\nport =\t8443\n server_name = db.internal \ntrust = ca.pem\n"
                 "revoked = lists/crl.pem\nclient_certificate=/etc/ssl/client.pem\n"
                 "client_key_secret = orders.key_1\nalpn = http/1.1  h2\nminimum_version = 1.2\npool = 16\n"
                 "local_port = 15001\nconnect_timeout_ms = 60000\nidle_timeout_ms = 3600000\n"
                 "[b]\nhost = 2001:db8::1\nserver_name = x\ntrust = system\npool = 0\nlocal_port = 15002");
    assert_int_equal(manifest.count, 2);
    const struct manifest_connection *c = &manifest.at[0];
    assert_string_equal(c->name, "orders-1");
    assert_string_equal(c->host, "192.0.2.7");
    assert_int_equal(c->port, 8443);
    assert_string_equal(c->server_name, "db.internal");
    assert_string_equal(c->trust, "ca.pem");
    assert_string_equal(c->revoked, "lists/crl.pem");
    assert_string_equal(c->client_certificate, "/etc/ssl/client.pem");
    assert_string_equal(c->client_key_secret, "orders.key_1");
    assert_int_equal(c->alpn_count, 2);
    assert_string_equal(c->alpn[0], "http/1.1");
    assert_string_equal(c->alpn[1], "h2");
    assert_int_equal(c->pool, 16);
    assert_int_equal(c->local_port, 15001);
    assert_int_equal(c->connect_timeout_ms, 60000);
    assert_int_equal(c->idle_timeout_ms, 3600000);
    c = &manifest.at[1];
    assert_string_equal(c->host, "2001:db8::1");
    assert_string_equal(c->server_name, "x");
    assert_string_equal(c->trust, "");
    assert_int_equal(c->pool, 0);
    assert_int_equal(c->local_port, 15002);
}

static void nothing_is_wanted_by_an_empty_one(void **state)
{
    (void)state;
    assert_takes("");
    assert_int_equal(manifest.count, 0);
    assert_takes("\n # none yet\n\t\n");
    assert_int_equal(manifest.count, 0);
}

#define SECTION "[a]\nhost = h\n"

static const struct {
    const char *text, *why;
} cases[] = {
    {"host = h\n", "line 1: host: comes before the first [NAME]"},
    {"hello\n", "line 1: hello: want KEY = VALUE, [NAME] or a comment"},
    {"[a]\nport = 1\n\n", "line 1: a: has no host"},
    {"[b]\n[a]\nhost = h\n", "line 1: b: has no host"},
    {"[A]\n", "line 1: [A]: want [NAME], 1 to 32 of a-z, 0-9 and -"},
    {"[]\n", "line 1: []: want [NAME], 1 to 32 of a-z, 0-9 and -"},
    {"[\n", "line 1: [: want [NAME], 1 to 32 of a-z, 0-9 and -"},
    {"[a.error]\n", "line 1: [a.error]: want [NAME], 1 to 32 of a-z, 0-9 and -"},
    {"[a-name-of-thirty-three-letters-xx]\n",
     "line 1: [a-name-of-thirty-three-letters-xx]: want [NAME], 1 to 32 of a-z, 0-9 and -"},
    {SECTION "[a]\n", "line 3: [a] comes twice"},
    {SECTION "host = i\n", "line 3: host: comes twice in [a]"},
    {SECTION "prot = 1\n", "line 3: there is no key \"prot\""},
    {SECTION "= 1\n", "line 3: there is no key \"\""},
    {SECTION "port =\n", "line 3: port: has no value"},
    {SECTION "port = 70000\n", "line 3: port: 70000 is not in 1..65535"},
    {SECTION "port = 0\n", "line 3: port: 0 is not in 1..65535"},
    {SECTION "port = -1\n", "line 3: port: -1 is not in 1..65535"},
    {SECTION "port = 99999999999999999999\n", "line 3: port: 99999999999999999999 is not in 1..65535"},
    {SECTION "port = 1 # one\n", "line 3: port: a comment is a line of its own"},
    {SECTION "pool = 17\n", "line 3: pool: 17 is not in 0..16"},
    {SECTION "local_port = 80\n", "line 3: local_port: 80 is not in 1024..65535"},
    {SECTION "local_port = 9001\n", "line 3: local_port: 9001 is the port of the Runtime API"},
    {SECTION "local_port = 2000\n[b]\nhost = h\nlocal_port = 2000\n",
     "line 6: local_port: 2000 is that of [a] already"},
    {SECTION "connect_timeout_ms = 99\n", "line 3: connect_timeout_ms: 99 is not in 100..60000"},
    {SECTION "idle_timeout_ms = 3600001\n", "line 3: idle_timeout_ms: 3600001 is not in 1000..3600000"},
    {SECTION "minimum_version = 1.3\n", "line 3: minimum_version: 1.3 is not spoken; TLS 1.2 is"},
    {SECTION "trust = ../ca.pem\n", "line 3: trust: \"../ca.pem\": want a path without \"..\""},
    {SECTION "trust = /a/../ca.pem\n", "line 3: trust: \"/a/../ca.pem\": want a path without \"..\""},
    {SECTION "revoked = a//b\n", "line 3: revoked: \"a//b\": want a path without \"//\""},
    {SECTION "revoked = ./b\n", "line 3: revoked: \"./b\": want a path without \".\""},
    {SECTION "revoked = a/\n", "line 3: revoked: \"a/\": want a path without \"/ at its end\""},
    {SECTION "revoked = /\n", "line 3: revoked: \"/\": want a path without \"/ at its end\""},
    {SECTION "client_key_secret = k\n",
     "line 1: a: client_certificate and client_key_secret go together: the first is missing"},
    {SECTION "client_certificate = c\n",
     "line 1: a: client_certificate and client_key_secret go together: the second is missing"},
    {SECTION "client_key_secret = .k\n", "line 3: client_key_secret: \".k\" is no secret's name: letters, "
                                         "digits and . _ -, up to 64, no . first"},
    {SECTION "alpn = a b c d e\n", "line 3: alpn: more than 4 protocols"},
    {SECTION "alpn = a a\n", "line 3: alpn: \"a\" comes twice"},
    {SECTION "alpn = h2 \xc3\xa4\n", "line 3: alpn: \"??\": want protocols of 1 to 32 printable characters"},
    {SECTION "server_name = 192.0.2.1\n",
     "line 3: server_name: \"192.0.2.1\" is no host name; certificates are checked for names only"},
    {"[a]\nhost = 192.0.2.1\n",
     "line 1: a: host is an address: want server_name, the name in the server's certificate"},
    {"[a]\nhost = 192.0.2.300\n", "line 2: host: \"192.0.2.300\" is no host name and no address"},
    {"[a]\nhost = h.\n", "line 2: host: \"h.\" is no host name and no address"},
    {"[a]\nhost = -h\n", "line 2: host: \"-h\" is no host name and no address"},
    {"[a]\nhost = h-\n", "line 2: host: \"h-\" is no host name and no address"},
    {"[a]\nhost = h-.b\n", "line 2: host: \"h-.b\" is no host name and no address"},
    {"[a]\nhost = a..b\n", "line 2: host: \"a..b\" is no host name and no address"},
    {"[a]\nhost = https://h/\n", "line 2: host: \"https://h/\" is no host name and no address"},
    {"[a]\nhost = h\xffi\n", "line 2: host: \"h?i\" is no host name and no address"},
    {"[a]\nhost = h\x01\n", "line 2: byte 0x01 is no text"},
    {"[a]\nhost = 0123456789012345678901234567890123456789012345678901234567890123\n",
     "line 2: host: \"012345678901234567890123456789012345678901234567...\" is no host name and no "
     "address"},
};

static void mistakes_are_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refuses(cases[i].text, cases[i].why);
}

static void limits(void **state)
{
    (void)state;
    static char text[2 * MANIFEST_FILE_BYTES];
    size_t at = 0;
    for (int i = 0; i < MANIFEST_MAX; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "[n%d]\nhost = h\n", i);
    assert_takes(text);
    assert_int_equal(manifest.count, MANIFEST_MAX);
    (void)snprintf(text + at, sizeof text - at, "[more]\nhost = h\n");
    assert_refuses(text, "line 33: more than 16 connections");

    char host[255]; /* labels of 63 make names of at most 255 */
    memset(host, 'a', sizeof host);
    for (int dot = 63; dot < 254; dot += 64)
        host[dot] = '.';
    (void)snprintf(text, sizeof text, "[a]\nhost = %.253s\n", host);
    assert_takes(text);
    (void)snprintf(text, sizeof text, "[a]\nhost = %.254s\n", host);
    assert_int_equal(parse(text), -EINVAL);

    char path[257];
    memset(path, 'p', sizeof path);
    (void)snprintf(text, sizeof text, SECTION "trust = %.255s\n", path);
    assert_takes(text);
    (void)snprintf(text, sizeof text, SECTION "trust = %.256s\n", path);
    assert_refuses(text, "line 3: trust: a path of more than 255 bytes");

    memset(text, '#', sizeof text);
    text[MANIFEST_FILE_BYTES] = '\0';
    assert_takes(text);
    text[MANIFEST_FILE_BYTES] = '#';
    text[MANIFEST_FILE_BYTES + 1] = '\0';
    assert_refuses(text, "longer than 32768 bytes");
}

static void a_zero_byte_is_refused(void **state)
{
    (void)state;
    static const char text[] = "[a]\nhost = h\0i\n";
    assert_int_equal(manifest_parse(&manifest, text, sizeof text - 1, why), -EINVAL);
    assert_string_equal(why, "line 2: byte 0x00 is no text");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key),
        cmocka_unit_test(nothing_is_wanted_by_an_empty_one),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(limits),
        cmocka_unit_test(a_zero_byte_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
