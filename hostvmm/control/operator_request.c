/*
 * The line of a request; see operator.h. Two tables: what each word may hold, and which words each verb takes.
 * What passes is bounded and of its kind; whether it fits the guest is for who carries it out.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/control/operator.h"

#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
#define CHOICES_MAX     4

enum kind { KIND_PATH, KIND_NAME, KIND_CHOICE, KIND_NUMBER, KIND_RATE };

static const struct word {
    const char *name;
    enum kind kind;
    const char *choices[CHOICES_MAX];
    uint64_t max;
} words[OPERATOR_WORDS] = {
    [OPERATOR_OUT] = {.name = "out", .kind = KIND_PATH},
    [OPERATOR_PARENT] = {.name = "parent", .kind = KIND_PATH},
    [OPERATOR_CHECKPOINT] = {.name = "checkpoint", .kind = KIND_CHOICE, .choices = {"yes", "no"}},
    [OPERATOR_THEN] = {.name = "then", .kind = KIND_CHOICE, .choices = {"run", "stop", "pause"}},
    [OPERATOR_ID] = {.name = "id", .kind = KIND_NAME},
    [OPERATOR_PATH] = {.name = "path", .kind = KIND_PATH},
    [OPERATOR_BANDWIDTH] = {.name = "bandwidth", .kind = KIND_RATE},
    [OPERATOR_OPERATIONS] = {.name = "operations", .kind = KIND_RATE},
    [OPERATOR_RX_BANDWIDTH] = {.name = "rx-bandwidth", .kind = KIND_RATE},
    [OPERATOR_RX_OPERATIONS] = {.name = "rx-operations", .kind = KIND_RATE},
    [OPERATOR_TX_BANDWIDTH] = {.name = "tx-bandwidth", .kind = KIND_RATE},
    [OPERATOR_TX_OPERATIONS] = {.name = "tx-operations", .kind = KIND_RATE},
    [OPERATOR_TARGET] = {.name = "target", .kind = KIND_NUMBER, .max = UINT32_MAX},
    [OPERATOR_STATS] = {.name = "stats", .kind = KIND_NUMBER, .max = UINT16_MAX},
    [OPERATOR_HINTING] = {.name = "hinting", .kind = KIND_CHOICE, .choices = {"start", "stop"}},
    [OPERATOR_LEVEL] = {.name = "level",
                        .kind = KIND_CHOICE,
                        .choices = {"error", "warning", "info", "debug"}},
    [OPERATOR_FORMAT] = {.name = "format", .kind = KIND_CHOICE, .choices = {"json", "prometheus"}},
    [OPERATOR_REQUEST] = {.name = "request", .kind = KIND_NAME},
};

#define BIT(word) (1u << OPERATOR_##word)
#define RATES     (BIT(BANDWIDTH) | BIT(OPERATIONS))
#define NET_RATES (BIT(RX_BANDWIDTH) | BIT(RX_OPERATIONS) | BIT(TX_BANDWIDTH) | BIT(TX_OPERATIONS))

static const struct verb {
    const char *name;
    unsigned takes; /* besides request=, which every verb does */
    unsigned needs;
} verbs[OPERATOR_VERBS] = {
    [OPERATOR_SNAPSHOT] = {"snapshot", BIT(OUT) | BIT(PARENT) | BIT(CHECKPOINT) | BIT(THEN), BIT(OUT)},
    [OPERATOR_PAUSE] = {"pause", 0, 0},
    [OPERATOR_RESUME] = {"resume", 0, 0},
    [OPERATOR_STATUS] = {"status", 0, 0},
    [OPERATOR_METRICS] = {"metrics", BIT(FORMAT), 0},
    [OPERATOR_SHUTDOWN] = {"shutdown", 0, 0},
    [OPERATOR_KILL] = {"kill", 0, 0},
    [OPERATOR_DRIVE] = {"drive", BIT(ID) | BIT(PATH) | RATES, BIT(ID)},
    [OPERATOR_NET] = {"net", BIT(ID) | NET_RATES, BIT(ID)},
    [OPERATOR_ENTROPY] = {"entropy", RATES, 0},
    [OPERATOR_BALLOON] = {"balloon", BIT(TARGET) | BIT(STATS) | BIT(HINTING), 0},
    [OPERATOR_LOG] = {"log", BIT(LEVEL), BIT(LEVEL)},
};

const char *operator_verb_name(enum operator_verb verb)
{
    return verbs[verb].name;
}

/* ---- values ---- */

/* A decimal number up to `max`. */
static bool take_number(const char *text, uint64_t max, uint64_t *number)
{
    uint64_t value = 0;
    for (const char *at = text; *at; at++) {
        const uint64_t digit = (uint64_t)(*at - '0');
        if (*at < '0' || *at > '9' || digit > max || value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return *text != '\0';
}

static bool is_choice(const struct word *word, const char *value)
{
    for (unsigned i = 0; i < CHOICES_MAX && word->choices[i]; i++)
        if (strcmp(word->choices[i], value) == 0)
            return true;
    return false;
}

static void list_choices(const struct word *word, char *text, size_t size)
{
    size_t used = 0;
    for (unsigned i = 0; i < CHOICES_MAX && word->choices[i] && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", word->choices[i]);
}

/* NULL, or what is wanted instead (perhaps in `room`). */
static const char *unfit(const struct word *word, const char *value, char *room, size_t room_bytes)
{
    const size_t size = strlen(value);
    uint64_t number;
    switch (word->kind) {
    case KIND_PATH:
        return value[0] != '/'                  ? "want an absolute path"
               : size > OPERATOR_PATH_MAX_BYTES ? "want a path of at most 1023 bytes"
                                                : NULL;
    case KIND_NAME:
        return size == 0 || size > OPERATOR_NAME_MAX_BYTES || strspn(value, NAME_CHARACTERS) != size
                   ? "want 1 to 64 letters, digits and the characters _ - ."
                   : NULL;
    case KIND_CHOICE:
        if (is_choice(word, value))
            return NULL;
        (void)snprintf(room, room_bytes, "want one of ");
        list_choices(word, room + strlen(room), room_bytes - strlen(room));
        return room;
    case KIND_NUMBER:
        if (take_number(value, word->max, &number))
            return NULL;
        (void)snprintf(room, room_bytes, "want a number up to %llu", (unsigned long long)word->max);
        return room;
    case KIND_RATE:
        break;
    }
    return strcmp(value, "none") == 0 ||
                   (size > 0 && size <= OPERATOR_RATE_MAX_BYTES && strspn(value, "0123456789KMG/") == size)
               ? NULL
               : "want SIZE/REFILL_MS[/BURST], or none";
}

/* ---- the line ---- */

static int refuse_word(char *why, const char *verb, const char *name, const char *text)
{
    (void)snprintf(why, OPERATOR_WHY_BYTES, "%s: %s=: %s", verb, name, text);
    return -EINVAL;
}

/* What a verb takes, for who asked with another word. */
static int refuse_unknown_word(char *why, const struct verb *verb)
{
    size_t used =
        (size_t)snprintf(why, OPERATOR_WHY_BYTES, "%s: a word it does not know; it takes", verb->name);
    for (unsigned i = 0; i < OPERATOR_WORDS && used < OPERATOR_WHY_BYTES; i++)
        if ((verb->takes | BIT(REQUEST)) >> i & 1)
            used += (size_t)snprintf(why + used, OPERATOR_WHY_BYTES - used, " %s=", words[i].name);
    return -EINVAL;
}

/* The word that begins at `at` in the request's text. */
static int take_word(struct operator_request *request, size_t at, char *why)
{
    const struct verb *verb = &verbs[request->verb];
    char *text = request->text + at;
    char room[80];
    char *equals = strchr(text, '=');
    if (!equals)
        return refuse_unknown_word(why, verb);
    const size_t size = (size_t)(equals - text);
    for (unsigned i = 0; i < OPERATOR_WORDS; i++) {
        const struct word *word = &words[i];
        if (!((verb->takes | BIT(REQUEST)) >> i & 1) || strlen(word->name) != size ||
            memcmp(text, word->name, size) != 0)
            continue;
        if (request->at[i])
            return refuse_word(why, verb->name, word->name, "given twice");
        const char *wanted = unfit(word, equals + 1, room, sizeof room);
        if (wanted)
            return refuse_word(why, verb->name, word->name, wanted);
        request->at[i] = (uint16_t)(at + size + 1);
        return 0;
    }
    return refuse_unknown_word(why, verb);
}

static int take_verb(struct operator_request *request, char *why)
{
    for (unsigned i = 0; i < OPERATOR_VERBS; i++)
        if (strcmp(request->text, verbs[i].name) == 0) {
            request->verb = (enum operator_verb)i;
            return 0;
        }
    size_t used = (size_t)snprintf(why, OPERATOR_WHY_BYTES, "unknown request; there are");
    for (unsigned i = 0; i < OPERATOR_VERBS && used < OPERATOR_WHY_BYTES; i++)
        used += (size_t)snprintf(why + used, OPERATOR_WHY_BYTES - used, " %s", verbs[i].name);
    return -EINVAL;
}

int operator_parse(const char *line, size_t size, struct operator_request *request, char *why)
{
    memset(request->at, 0, sizeof request->at);
    if (size > OPERATOR_LINE_MAX_BYTES) {
        (void)snprintf(why, OPERATOR_WHY_BYTES, "a request of more than 8192 bytes");
        return -EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        const unsigned char byte = (unsigned char)line[i];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f) {
            (void)snprintf(why, OPERATOR_WHY_BYTES, "a control character other than TAB");
            return -EINVAL;
        }
        request->text[i] = (char)(byte == '\t' ? 0 : byte);
    }
    request->text[size] = '\0';
    int error = take_verb(request, why);
    for (size_t at = strlen(request->text) + 1; error == 0 && at <= size;
         at += strlen(request->text + at) + 1)
        error = take_word(request, at, why);
    for (unsigned i = 0; i < OPERATOR_WORDS && error == 0; i++)
        if (verbs[request->verb].needs >> i & 1 && !request->at[i])
            error = refuse_word(why, verbs[request->verb].name, words[i].name, "missing");
    return error;
}

const char *operator_value(const struct operator_request *request, enum operator_word word)
{
    return request->at[word] ? request->text + request->at[word] : NULL;
}

bool operator_says(const struct operator_request *request, enum operator_word word, const char *value)
{
    const char *given = operator_value(request, word);
    return given && strcmp(given, value) == 0;
}

uint64_t operator_number(const struct operator_request *request, enum operator_word word, uint64_t otherwise)
{
    const char *given = operator_value(request, word);
    uint64_t number = otherwise;
    if (given)
        (void)take_number(given, UINT64_MAX, &number);
    return number;
}
