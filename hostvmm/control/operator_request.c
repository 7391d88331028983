/* The line of a request; see operator.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hostvmm/control/operator.h"

static int refuse(char *why, const char *text)
{
    (void)snprintf(why, OPERATOR_WHY_BYTES, "%s", text);
    return -EINVAL;
}

struct word {
    const char *at;
    size_t size;
};

static bool word_is(struct word word, const char *text)
{
    return word.size == strlen(text) && memcmp(word.at, text, word.size) == 0;
}

/* If `word` is key=value: its value. */
static bool value_of(struct word word, const char *key, struct word *value)
{
    const size_t size = strlen(key);
    if (word.size <= size || memcmp(word.at, key, size) != 0 || word.at[size] != '=')
        return false;
    *value = (struct word){word.at + size + 1, word.size - size - 1};
    return true;
}

static int take_path(char *to, struct word value, char *why)
{
    if (to[0])
        return refuse(why, "a path is given twice");
    if (value.size == 0 || value.at[0] != '/')
        return refuse(why, "a path must be absolute");
    if (value.size > OPERATOR_PATH_MAX_BYTES)
        return refuse(why, "a path of more than 1023 bytes");
    memcpy(to, value.at, value.size);
    to[value.size] = '\0';
    return 0;
}

static int take_choice(bool *to, bool *is_given, struct word value, const char *yes, const char *no,
                       char *why)
{
    if (*is_given)
        return refuse(why, "a choice is given twice");
    *is_given = true;
    *to = word_is(value, yes);
    return *to || word_is(value, no) ? 0 : refuse(why, "checkpoint is yes or no, then is run or stop");
}

static int take_words(const char *at, const char *end, struct operator_snapshot *request, char *why)
{
    bool has_checkpoint = false;
    bool has_then = false;
    int error = 0;
    while (error == 0 && at < end) {
        at++; /* past the TAB before this word */
        const char *tab = memchr(at, '\t', (size_t)(end - at));
        const struct word word = {at, (size_t)((tab ? tab : end) - at)};
        struct word value;
        if (value_of(word, "out", &value))
            error = take_path(request->out, value, why);
        else if (value_of(word, "parent", &value))
            error = take_path(request->parent, value, why);
        else if (value_of(word, "checkpoint", &value))
            error = take_choice(&request->checkpoint, &has_checkpoint, value, "yes", "no", why);
        else if (value_of(word, "then", &value))
            error = take_choice(&request->stop, &has_then, value, "stop", "run", why);
        else
            error = refuse(why, "a word other than out=, parent=, checkpoint= and then=");
        at += word.size;
    }
    return error;
}

int operator_parse(const char *line, size_t size, struct operator_snapshot *request, char *why)
{
    static const char verb[] = "snapshot";
    const size_t verb_size = sizeof verb - 1;
    memset(request, 0, sizeof *request);
    request->checkpoint = true;
    for (size_t i = 0; i < size; i++)
        if (((unsigned char)line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
            return refuse(why, "a control character other than TAB");
    if (size < verb_size || memcmp(line, verb, verb_size) != 0 ||
        (size > verb_size && line[verb_size] != '\t'))
        return refuse(why, "unknown request: what can be asked for is 'snapshot'");
    const int error = take_words(line + verb_size, line + size, request, why);
    if (error)
        return error;
    return request->out[0] ? 0 : refuse(why, "out= is missing");
}
