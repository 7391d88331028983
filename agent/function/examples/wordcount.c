/*
 * wordcount: the lines, words and bytes of the event, as GNU wc counts them in the C locale.
 *
 * A line is a newline. A word starts at a printable byte and ends at white space; a byte that is neither (a
 * control character, or anything past ASCII) does not start one.
 */
#include <stdint.h>

#include "agent/function/function.h"

enum class { OTHER, SPACE, PRINTABLE };

static uint8_t classes[256];

static int prepare(void *context)
{
    (void)context;
    for (int c = '!'; c <= '~'; c++)
        classes[c] = PRINTABLE;
    for (const char *c = " \t\n\v\f\r"; *c; c++)
        classes[(uint8_t)*c] = SPACE;
    return 0;
}

static int count(void *context, const struct function_event *event, struct function_reply *reply)
{
    (void)context;
    const uint8_t *text = event->data;
    size_t lines = 0;
    size_t words = 0;
    int in_word = 0;
    for (size_t i = 0; i < event->size; i++) {
        const uint8_t class = classes[text[i]];
        lines += text[i] == '\n';
        words += class == PRINTABLE && !in_word;
        in_word = class == OTHER ? in_word : class == PRINTABLE;
    }
    return function_reply_printf(reply, "{\"lines\":%zu,\"words\":%zu,\"bytes\":%zu}", lines, words,
                                 event->size);
}

int main(void)
{
    static const struct function function = {.init = prepare, .handle = count};
    return function_run(&function);
}
