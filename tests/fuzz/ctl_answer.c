/*
 * The parser of the control API's answers, as the client uses it: the input comes in two pieces, cut where its
 * first byte says; then every header and text a client asks for. What is given must lie within the input, and
 * the answer must not depend on the cut.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/ctl_answer.h"

static void must(bool held)
{
    if (!held)
        abort();
}

static int parse(struct ctl_answer *answer, char *data, size_t size, size_t cut)
{
    memset(answer, 0, sizeof *answer);
    const int got = ctl_answer_parse(answer, data, cut);
    return got ? got : ctl_answer_parse(answer, data, size);
}

static void look(const struct ctl_answer *answer, const char *data, size_t size)
{
    char value[64];
    must(answer->status >= 200 && answer->status <= 599);
    must(answer->head_bytes >= 4 && answer->head_bytes <= size);
    must(answer->body_bytes <= size - answer->head_bytes && answer->body_bytes <= CTL_BODY_MAX_BYTES);
    if (ctl_answer_header(answer, data, "X-Function-Error", value, sizeof value))
        must(strlen(value) < sizeof value);
    if (ctl_answer_text(data + answer->head_bytes, answer->body_bytes, "fault_message", value, sizeof value))
        for (const char *at = value; *at; at++)
            must((unsigned char)*at >= 0x20 && *at != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const size_t bytes = size - 1;
    char *whole = malloc(bytes ? bytes : 1);
    char *pieces = malloc(bytes ? bytes : 1);
    must(whole && pieces);
    memcpy(whole, data + 1, bytes);
    memcpy(pieces, data + 1, bytes);
    struct ctl_answer one;
    struct ctl_answer two;
    const int got = parse(&one, whole, bytes, bytes);
    must(got == 0 || got == 1 || (got == -EPROTO && one.why));
    /* A piece may be a whole answer, or refused, already: then it was of the whole, too. */
    const int in_pieces = parse(&two, pieces, bytes, data[0] * bytes / 256);
    must(in_pieces == got);
    if (got == 1) {
        must(one.body_bytes == two.body_bytes && one.head_bytes == two.head_bytes);
        must(memcmp(whole + one.head_bytes, pieces + two.head_bytes, one.body_bytes) == 0);
        look(&one, whole, bytes);
    }
    free(whole);
    free(pieces);
    return 0;
}
