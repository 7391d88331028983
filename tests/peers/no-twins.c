/*
 * no-twins: did two TLS connections share what no two may?
 *
 *   no-twins [--log FILE]... [--capture FILE --port N]
 *
 * A log is tls-peer's. No two connections may share a client random, a key share, a session id that was
 * given, a client's write key; no two records a key with its nonce; and no two addresses a session id, given
 * or offered: a clone that offers what its original was given betrays that it holds its secrets. One address
 * may offer its own again.
 *
 * The capture is read apart from the log: its client randoms, key shares and nonces are compared among
 * themselves in the same way, and then with the log's: a handshake in the log that the capture lacks makes
 * the evidence incomplete.
 *
 * Exit code 0: none; 1: twins, each on a line; 2: nothing to compare, or incomplete.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/peers/capture.h"
#include "tests/peers/keys.h"
#include "tests/peers/lines.h"

#define VALUE_MAX 330

enum kind {
    CLIENT_RANDOM,
    KEY_SHARE,
    GIVEN_ID,
    HELD_ID, /* given or offered, with the address */
    KEY,
    KEY_AND_NONCE,
    CAPTURED_RANDOM,
    CAPTURED_SHARE,
    CAPTURED_NONCE,
    KIND_COUNT
};
static const char *const kind_names[KIND_COUNT] = {
    [CLIENT_RANDOM] = "client random",
    [KEY_SHARE] = "key share",
    [GIVEN_ID] = "session id given",
    [HELD_ID] = "session id in two hands",
    [KEY] = "client's write key",
    [KEY_AND_NONCE] = "key and nonce",
    [CAPTURED_RANDOM] = "client random in the capture",
    [CAPTURED_SHARE] = "key share in the capture",
    [CAPTURED_NONCE] = "connection and nonce in the capture",
};

struct value {
    enum kind kind;
    char *text;
    char *holder; /* HELD_ID: the address */
};
static struct value *values;
static size_t value_count, kind_counts[KIND_COUNT];
static unsigned twin_count;
static bool incomplete;

_Noreturn static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "no-twins: %s: %s\n", what, why);
    exit(2);
}

static char *copy(const char *text)
{
    char *copied = strdup(text);
    if (!copied)
        die("memory", strerror(ENOMEM));
    return copied;
}

static void add(enum kind kind, const char *text, const char *holder)
{
    if (text[0] == '\0')
        return;
    if ((value_count & (value_count - 1)) == 0) {
        values = realloc(values, (value_count ? 2 * value_count : 1) * sizeof *values);
        if (!values)
            die("memory", strerror(ENOMEM));
    }
    values[value_count++] = (struct value){kind, copy(text), copy(holder)};
    kind_counts[kind]++;
}

/* ---- the log ---- */

static void must(const char *line, const char *name, char *to, size_t room)
{
    if (!line_field(line, name, to, room))
        die(line, "not as tls-peer logs it");
}

static void add_handshake(const char *line)
{
    char text[VALUE_MAX], from[96];
    const bool resumed = strstr(line, "\"resumed\":true") != NULL;
    must(line, "from", from, sizeof from);
    must(line, "client_random", text, sizeof text);
    add(CLIENT_RANDOM, text, from);
    must(line, "key_share", text, sizeof text);
    add(KEY_SHARE, text, from);
    must(line, "key", text, sizeof text);
    add(KEY, text, from);
    must(line, "offered_id", text, sizeof text);
    add(HELD_ID, text, from);
    must(line, "given_id", text, sizeof text);
    if (!resumed)
        add(GIVEN_ID, text, from);
    add(HELD_ID, text, from);
}

static void add_record(const char *line)
{
    char key[64], nonce[32], text[128];
    must(line, "key", key, sizeof key);
    must(line, "nonce", nonce, sizeof nonce);
    (void)snprintf(text, sizeof text, "%s %s", key, nonce);
    add(KEY_AND_NONCE, text, "");
}

static void add_log(const char *path)
{
    struct lines log;
    const int error = lines_read(&log, path);
    if (error)
        die(path, strerror(-error));
    for (size_t i = 0; i < log.count; i++) {
        if (strstr(log.at[i], "\"event\":\"handshake\""))
            add_handshake(log.at[i]);
        else if (strstr(log.at[i], "\"event\":\"record\""))
            add_record(log.at[i]);
    }
}

/* ---- the capture ---- */

/* Handshake messages in the clear, one or more to a record; none of a client's is cut between records. */
static void add_messages(const uint8_t *bytes, size_t size, char random[65])
{
    char text[2 * 255 + 1];
    while (size >= 4) {
        const size_t length = (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
        if (length > size - 4)
            return;
        if (bytes[0] == 1 && length >= 2 + TLS_RANDOM_BYTES) {
            to_hex(random, bytes + 4 + 2, TLS_RANDOM_BYTES);
            add(CAPTURED_RANDOM, random, "");
        } else if (bytes[0] == 16 && length > 1 && bytes[4] == length - 1) {
            to_hex(text, bytes + 5, bytes[4]);
            add(CAPTURED_SHARE, text, "");
        }
        bytes += 4 + length;
        size -= 4 + length;
    }
}

static void add_flow(const struct capture_flow *flow)
{
    char random[65] = "", nonce[17], text[96];
    bool encrypted = false;
    const uint8_t *at = flow->stream;
    size_t left = flow->size;
    while (left >= 5) {
        const size_t size = (size_t)(at[3] << 8 | at[4]);
        if (size > left - 5)
            return;
        if (at[0] == 20) {
            encrypted = true;
        } else if (!encrypted && at[0] == 22) {
            add_messages(at + 5, size, random);
        } else if (encrypted && size >= 8) {
            to_hex(nonce, at + 5, 8);
            (void)snprintf(text, sizeof text, "%s %s", random, nonce);
            add(CAPTURED_NONCE, text, "");
        }
        at += 5 + size;
        left -= 5 + size;
    }
}

static void add_capture(const char *path, uint16_t port)
{
    struct capture capture;
    const int error = capture_read(&capture, path, port);
    size_t gaps = 0;
    if (error)
        die(path, error == -EINVAL ? "no capture of a kind that is read here" : strerror(-error));
    for (size_t i = 0; i < capture.count; i++) {
        add_flow(&capture.flows[i]);
        gaps += capture.flows[i].gap;
    }
    printf("capture: %zu connections, %zu of them with a gap\n", capture.count, gaps);
}

/* ---- the comparison ---- */

static int compare(const void *a, const void *b)
{
    const struct value *left = a, *right = b;
    if (left->kind != right->kind)
        return left->kind < right->kind ? -1 : 1;
    return strcmp(left->text, right->text);
}

static void find_twins(void)
{
    for (size_t i = 1; i < value_count; i++) {
        const struct value *a = &values[i - 1], *b = &values[i];
        if (compare(a, b) != 0 || (a->kind == HELD_ID && strcmp(a->holder, b->holder) == 0))
            continue;
        printf("twin: %s: %s (%s, %s)\n", kind_names[b->kind], b->text, a->holder, b->holder);
        twin_count++;
    }
}

static void find_missing(void)
{
    for (size_t i = 0; i < value_count && values[i].kind == CLIENT_RANDOM; i++) {
        const struct value wanted = {CAPTURED_RANDOM, values[i].text, NULL};
        if (bsearch(&wanted, values, value_count, sizeof *values, compare))
            continue;
        printf("missing: the capture has no handshake with client random %s\n", values[i].text);
        incomplete = true;
    }
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"log", required_argument, NULL, 'l'},
                                          {"capture", required_argument, NULL, 'c'},
                                          {"port", required_argument, NULL, 'p'},
                                          {0}};
    const char *capture = NULL;
    unsigned long port = 0;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'l')
            add_log(optarg);
        else if (option == 'c')
            capture = optarg;
        else if (option == 'p')
            port = strtoul(optarg, NULL, 10);
        else
            return 2;
    }
    if (optind < argc || (capture && (port == 0 || port > 65535))) {
        (void)fputs("usage: no-twins [--log FILE]... [--capture FILE --port N]\n", stderr);
        return 2;
    }
    if (capture)
        add_capture(capture, (uint16_t)port);
    qsort(values, value_count, sizeof *values, compare);
    find_twins();
    if (capture)
        find_missing();
    for (unsigned kind = 0; kind < KIND_COUNT; kind++)
        if (kind_counts[kind] > 0)
            printf("%s: %zu\n", kind_names[kind], kind_counts[kind]);
    if (kind_counts[CLIENT_RANDOM] + kind_counts[CAPTURED_RANDOM] < 2)
        die("handshakes", "fewer than two: nothing to compare");
    printf("%u twins\n", twin_count);
    return twin_count > 0 ? 1 : incomplete ? 2 : 0;
}
