/*
 * The manifest of connections: see manifest.h for its form.
 *
 * Every key has a row that says how its value is checked and where it goes. The text comes with the image,
 * but is read as if from a stranger: bounded, any byte allowed to be wrong. What is refused is refused by its
 * line, its key and what was wanted, because the author sees this text and nothing else. Pure: no I/O, no
 * allocation.
 *
 * Names of hosts are kept in lower case: they are compared with those in certificates.
 */
#include "agent/tls/manifest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/http_link.h"

#define QUOTED_MAX 48 /* bytes of a value shown in an error */

struct slice {
    const char *data;
    size_t size;
};

struct parser {
    struct manifest *manifest;
    struct manifest_connection *in; /* the section in hand; NULL before the first */
    unsigned section_line;
    unsigned seen; /* a bit for each row of keys */
    unsigned line;
    const char *key; /* in hand, for errors; NULL: none */
    char *why;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct parser *parser, const char *format, ...)
{
    int at = snprintf(parser->why, MANIFEST_WHY_BYTES, "line %u: ", parser->line);
    if (parser->key)
        at += snprintf(parser->why + at, MANIFEST_WHY_BYTES - (size_t)at, "%s: ", parser->key);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(parser->why + at, MANIFEST_WHY_BYTES - (size_t)at, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* What was written, fit to be printed. */
static const char *quote(struct slice value, char out[QUOTED_MAX + 4])
{
    const size_t shown = value.size < QUOTED_MAX ? value.size : QUOTED_MAX;
    for (size_t i = 0; i < shown; i++)
        out[i] = (char)(value.data[i] >= ' ' && value.data[i] < 0x7f ? value.data[i] : '?');
    memcpy(out + shown, "...", 4);
    if (shown == value.size)
        out[shown] = '\0';
    return out;
}

static bool slice_is(struct slice value, const char *text)
{
    return value.size == strlen(text) && memcmp(value.data, text, value.size) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_small(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z');
}

/* A name as DNS has them (RFC 1035, 2.3.1; underscores too), whose last label is no number: "10.0.0.300" is
 * an address with a mistake in it. */
static bool is_host_name(const char *text, size_t size)
{
    size_t label = 0;
    bool digits = true;
    for (size_t i = 0; i < size; i++) {
        const char c = lower(text[i]);
        if (c == '.') {
            if (label == 0 || text[i - 1] == '-')
                return false;
            label = 0;
            digits = true;
            continue;
        }
        if (!is_small(c) && c != '_' && (c != '-' || label == 0))
            return false;
        digits = digits && is_digit(c);
        if (++label > 63)
            return false;
    }
    return label > 0 && !digits && text[size - 1] != '-' && size <= MANIFEST_HOST_MAX;
}

static bool is_address(const char *text)
{
    uint8_t bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

/* ---- values ---- */

struct key;
typedef int take_value(struct parser *parser, const struct key *key, struct slice value);

struct key {
    const char *name;
    take_value *take;
    size_t offset; /* in struct manifest_connection */
    size_t size;
    uint32_t min, max; /* of a number */
};

static char *field_of(struct parser *parser, const struct key *key)
{
    return (char *)parser->in + key->offset;
}

static int take_host(struct parser *parser, const struct key *key, struct slice value)
{
    char text[MANIFEST_HOST_MAX + 1] = "";
    char shown[QUOTED_MAX + 4];
    const bool addresses = key->offset == offsetof(struct manifest_connection, host);
    if (value.size < sizeof text)
        for (size_t i = 0; i < value.size; i++)
            text[i] = lower(value.data[i]);
    if (!is_host_name(text, strlen(text)) && !(addresses && is_address(text)))
        return refuse(parser, "\"%s\" is no host name%s", quote(value, shown),
                      addresses ? " and no address" : "; certificates are checked for names only");
    memcpy(field_of(parser, key), text, sizeof text);
    return 0;
}

static int take_number(struct parser *parser, const struct key *key, struct slice value)
{
    uint32_t number = 0;
    bool good = value.size > 0;
    for (size_t i = 0; good && i < value.size; i++) {
        good = is_digit(value.data[i]);
        number = good ? number * 10 + (uint32_t)(value.data[i] - '0') : 0;
        good = good && number <= key->max; /* at most 3600000: cannot overflow */
    }
    char shown[QUOTED_MAX + 4];
    if (!good || number < key->min)
        return refuse(parser, "%s is not in %u..%u", quote(value, shown), key->min, key->max);
    const uint16_t narrow = (uint16_t)number;
    if (key->size == sizeof narrow)
        memcpy(field_of(parser, key), &narrow, sizeof narrow);
    else
        memcpy(field_of(parser, key), &number, sizeof number);
    return 0;
}

_Static_assert(sizeof(unsigned) == sizeof(uint32_t), "numbers are put in place as uint32_t");

static int take_local_port(struct parser *parser, const struct key *key, struct slice value)
{
    const int error = take_number(parser, key, value);
    if (error)
        return error;
    const uint16_t port = parser->in->local_port;
    if (port == HTTP_LINK_PORT)
        return refuse(parser, "%u is the port of the Runtime API", port);
    for (const struct manifest_connection *other = parser->manifest->at; other < parser->in; other++)
        if (other->local_port == port)
            return refuse(parser, "%u is that of [%s] already", port, other->name);
    return 0;
}

/* Every component a name: what is meant is written, and what is written is within the image. */
static int take_path(struct parser *parser, const struct key *key, struct slice value)
{
    if (value.size > MANIFEST_PATH_MAX)
        return refuse(parser, "a path of more than %d bytes", MANIFEST_PATH_MAX);
    for (size_t start = 0, i = 0; i <= value.size; i++) {
        if (i < value.size && value.data[i] != '/')
            continue;
        const struct slice part = {value.data + start, i - start};
        char shown[QUOTED_MAX + 4];
        if (slice_is(part, "..") || slice_is(part, ".") || (part.size == 0 && i > 0))
            return refuse(parser, "\"%s\": want a path without \"%s\"", quote(value, shown),
                          part.size == 0   ? i < value.size ? "//" : "/ at its end"
                          : part.size == 1 ? "."
                                           : "..");
        start = i + 1;
    }
    memcpy(field_of(parser, key), value.data, value.size);
    return 0;
}

static int take_trust(struct parser *parser, const struct key *key, struct slice value)
{
    return slice_is(value, "system") ? 0 : take_path(parser, key, value);
}

/* As resume_secret_name_is_good() has them. */
static int take_secret(struct parser *parser, const struct key *key, struct slice value)
{
    bool good = value.size < key->size && value.data[0] != '.';
    for (size_t i = 0; good && i < value.size; i++)
        good = is_small(lower(value.data[i])) || strchr("._-", value.data[i]) != NULL;
    char shown[QUOTED_MAX + 4];
    if (!good)
        return refuse(parser, "\"%s\" is no secret's name: letters, digits and . _ -, up to %zu, no . first",
                      quote(value, shown), key->size - 1);
    memcpy(field_of(parser, key), value.data, value.size);
    return 0;
}

static int take_alpn(struct parser *parser, const struct key *key, struct slice value)
{
    (void)key;
    struct manifest_connection *in = parser->in;
    for (size_t i = 0; i < value.size;) {
        size_t end = i;
        while (end < value.size && value.data[end] > ' ' && value.data[end] < 0x7f)
            end++;
        const struct slice protocol = {value.data + i, end - i};
        char shown[QUOTED_MAX + 4];
        if (protocol.size == 0 || protocol.size >= sizeof in->alpn[0])
            return refuse(parser, "\"%s\": want protocols of 1 to %zu printable characters",
                          quote((struct slice){value.data + i, value.size - i}, shown),
                          sizeof in->alpn[0] - 1);
        if (in->alpn_count == MANIFEST_ALPN_MAX)
            return refuse(parser, "more than %d protocols", MANIFEST_ALPN_MAX);
        for (unsigned other = 0; other < in->alpn_count; other++)
            if (slice_is(protocol, in->alpn[other]))
                return refuse(parser, "\"%s\" comes twice", quote(protocol, shown));
        memcpy(in->alpn[in->alpn_count++], protocol.data, protocol.size);
        for (i = end; i < value.size && is_blank(value.data[i]);)
            i++;
    }
    return 0;
}

static int take_version(struct parser *parser, const struct key *key, struct slice value)
{
    (void)key;
    char shown[QUOTED_MAX + 4];
    return slice_is(value, "1.2") ? 0 : refuse(parser, "%s is not spoken; TLS 1.2 is", quote(value, shown));
}

#define KEY(field, how)                                                                                      \
    {                                                                                                        \
        .name = #field, .take = (how), .offset = offsetof(struct manifest_connection, field),                \
        .size = sizeof((struct manifest_connection *)0)->field                                               \
    }
#define NUMBER(field, how, least, most)                                                                      \
    {                                                                                                        \
        .name = #field, .take = (how), .offset = offsetof(struct manifest_connection, field),                \
        .size = sizeof((struct manifest_connection *)0)->field, .min = (least), .max = (most)                \
    }

static const struct key keys[] = {
    KEY(host, take_host),
    NUMBER(port, take_number, 1, 65535),
    KEY(server_name, take_host),
    KEY(trust, take_trust),
    KEY(revoked, take_path),
    KEY(client_certificate, take_path),
    KEY(client_key_secret, take_secret),
    KEY(alpn, take_alpn),
    {.name = "minimum_version", .take = take_version},
    NUMBER(pool, take_number, 0, MANIFEST_POOL_MAX),
    NUMBER(local_port, take_local_port, 1024, 65535),
    NUMBER(connect_timeout_ms, take_number, 100, 60000),
    NUMBER(idle_timeout_ms, take_number, 1000, 3600000),
};

#define KEY_COUNT (sizeof keys / sizeof keys[0])

/* ---- lines ---- */

static int section_end(struct parser *parser)
{
    struct manifest_connection *in = parser->in;
    if (!in)
        return 0;
    parser->line = parser->section_line;
    parser->key = in->name;
    if (in->host[0] == '\0')
        return refuse(parser, "has no host");
    if (in->server_name[0] == '\0' && is_address(in->host))
        return refuse(parser, "host is an address: want server_name, the name in the server's certificate");
    if ((in->client_certificate[0] != '\0') != (in->client_key_secret[0] != '\0'))
        return refuse(parser, "client_certificate and client_key_secret go together: %s is missing",
                      in->client_certificate[0] ? "the second" : "the first");
    if (in->server_name[0] == '\0')
        memcpy(in->server_name, in->host, sizeof in->server_name);
    return 0;
}

static int section_begin(struct parser *parser, struct slice text)
{
    struct manifest *manifest = parser->manifest;
    char shown[QUOTED_MAX + 4];
    const struct slice name = {text.data + 1, text.size > 1 ? text.size - 2 : 0};
    bool good = text.data[text.size - 1] == ']' && name.size > 0 && name.size <= MANIFEST_NAME_MAX;
    for (size_t i = 0; good && i < name.size; i++)
        good = is_small(name.data[i]) || name.data[i] == '-';
    if (!good)
        return refuse(parser, "%s: want [NAME], 1 to %d of a-z, 0-9 and -", quote(text, shown),
                      MANIFEST_NAME_MAX);
    for (unsigned i = 0; i < manifest->count; i++)
        if (slice_is(name, manifest->at[i].name))
            return refuse(parser, "[%s] comes twice", manifest->at[i].name);
    if (manifest->count == MANIFEST_MAX)
        return refuse(parser, "more than %d connections", MANIFEST_MAX);
    parser->in = &manifest->at[manifest->count++];
    *parser->in = (struct manifest_connection){
        .port = 443, .pool = 1, .connect_timeout_ms = 5000, .idle_timeout_ms = 60000};
    memcpy(parser->in->name, name.data, name.size);
    parser->section_line = parser->line;
    parser->seen = 0;
    return 0;
}

static int take_item(struct parser *parser, struct slice text)
{
    const char *equals = memchr(text.data, '=', text.size);
    char shown[QUOTED_MAX + 4];
    if (!equals)
        return refuse(parser, "%s: want KEY = VALUE, [NAME] or a comment", quote(text, shown));
    const struct slice name = trim((struct slice){text.data, (size_t)(equals - text.data)});
    const struct slice value = trim((struct slice){equals + 1, text.size - (size_t)(equals + 1 - text.data)});
    size_t row = 0;
    while (row < KEY_COUNT && !slice_is(name, keys[row].name))
        row++;
    if (row == KEY_COUNT)
        return refuse(parser, "there is no key \"%s\"", quote(name, shown));
    parser->key = keys[row].name;
    if (!parser->in)
        return refuse(parser, "comes before the first [NAME]");
    if (parser->seen & 1u << row)
        return refuse(parser, "comes twice in [%s]", parser->in->name);
    parser->seen |= 1u << row;
    if (value.size == 0)
        return refuse(parser, "has no value");
    for (size_t i = 1; i < value.size; i++)
        if (value.data[i] == '#' && is_blank(value.data[i - 1]))
            return refuse(parser, "a comment is a line of its own");
    return keys[row].take(parser, &keys[row], value);
}

static int take_line(struct parser *parser, struct slice text)
{
    if (text.size > 0 && text.data[text.size - 1] == '\r')
        text.size--;
    for (size_t i = 0; i < text.size; i++)
        if (((unsigned char)text.data[i] < ' ' && text.data[i] != '\t') || text.data[i] == 0x7f)
            return refuse(parser, "byte 0x%02x is no text", (unsigned char)text.data[i]);
    text = trim(text);
    if (text.size == 0 || text.data[0] == '#')
        return 0;
    if (text.data[0] != '[')
        return take_item(parser, text);
    const unsigned line = parser->line;
    const int error = section_end(parser);
    if (error)
        return error;
    parser->line = line;
    parser->key = NULL;
    return section_begin(parser, text);
}

int manifest_parse(struct manifest *manifest, const char *text, size_t size, char why[MANIFEST_WHY_BYTES])
{
    struct parser parser = {.manifest = manifest, .why = why};
    memset(manifest, 0, sizeof *manifest);
    why[0] = '\0';
    if (size > MANIFEST_FILE_BYTES) {
        (void)snprintf(why, MANIFEST_WHY_BYTES, "longer than %d bytes", MANIFEST_FILE_BYTES);
        return -EINVAL;
    }
    int error = 0;
    for (size_t at = 0; error == 0 && at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        const size_t length = end ? (size_t)(end - text) - at : size - at;
        parser.line++;
        parser.key = NULL;
        error = take_line(&parser, (struct slice){text + at, length});
        at += length + 1;
    }
    if (error == 0)
        error = section_end(&parser);
    if (error)
        memset(manifest, 0, sizeof *manifest);
    return error;
}
