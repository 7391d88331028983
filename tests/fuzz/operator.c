/* libFuzzer target: the request line of the server's socket. What is taken keeps to its limits. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/operator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *path)
{
    if (path && (path[0] != '/' || strlen(path) > OPERATOR_PATH_MAX_BYTES || strpbrk(path, "\t\n")))
        abort();
}

static void check_name(const char *name)
{
    if (name && (!*name || strlen(name) > OPERATOR_NAME_MAX_BYTES || strpbrk(name, "\t\n/ \"\\")))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct operator_request request;
    char why[OPERATOR_WHY_BYTES] = "";
    if (size > OPERATOR_LINE_MAX_BYTES + 1)
        return 0;
    const int error = operator_parse((const char *)data, size, &request, why);
    if ((error != 0) != (why[0] != '\0') || !memchr(why, 0, sizeof why))
        abort();
    if (error)
        return 0;
    if ((unsigned)request.verb >= OPERATOR_VERBS ||
        (request.verb == OPERATOR_SNAPSHOT) != (operator_value(&request, OPERATOR_OUT) != NULL))
        abort();
    for (unsigned i = 0; i < OPERATOR_WORDS; i++)
        if (request.at[i] > size)
            abort();
    check_path(operator_value(&request, OPERATOR_OUT));
    check_path(operator_value(&request, OPERATOR_PARENT));
    check_path(operator_value(&request, OPERATOR_PATH));
    check_name(operator_value(&request, OPERATOR_ID));
    check_name(operator_value(&request, OPERATOR_REQUEST));
    if (operator_number(&request, OPERATOR_TARGET, 0) > UINT32_MAX ||
        operator_number(&request, OPERATOR_STATS, 0) > UINT16_MAX)
        abort();
    return 0;
}
