/* See text.h. Errors of the stream are the caller's to look for (ferror), once, at its end. */
#include "hostvmm/control/text.h"

#include "hostvmm/control/client.h"

void text_json(FILE *out, const char *text)
{
    putc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at == '\n')
            fputs("\\n", out);
        else if (*at < 0x20 || *at == 0x7f)
            fprintf(out, "\\u%04x", *at);
        else
            putc(*at, out);
    }
    putc('"', out);
}

void text_json_failure(FILE *out, const struct control_failure *failure)
{
    fputs("{\"errorType\":", out);
    text_json(out, failure->type);
    fputs(",\"errorMessage\":", out);
    text_json(out, failure->message);
    fputs(",\"stackTrace\":[", out);
    for (size_t i = 0; i < failure->stack_count; i++) {
        if (i > 0)
            putc(',', out);
        text_json(out, failure->stack[i]);
    }
    fputs("]}", out);
}

void text_lines(FILE *out, const char *prefix, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    size_t at = 0;
    while (at < size) {
        fputs(prefix, out);
        for (; at < size && bytes[at] != '\n'; at++) {
            if ((bytes[at] < 0x20 && bytes[at] != '\t') || bytes[at] == 0x7f)
                fprintf(out, "\\x%02x", bytes[at]);
            else
                putc(bytes[at], out);
        }
        putc('\n', out);
        at++; /* past the newline, or the end */
    }
}
