/* libFuzzer target: the request line of the server's socket. What is taken keeps to its limits. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/operator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct operator_snapshot request;
    char why[OPERATOR_WHY_BYTES] = "";
    if (size > OPERATOR_LINE_MAX_BYTES)
        return 0;
    const int error = operator_parse((const char *)data, size, &request, why);
    if ((error != 0) != (why[0] != '\0'))
        abort();
    if (error == 0 && (request.out[0] != '/' || (request.parent[0] && request.parent[0] != '/') ||
                       strpbrk(request.out, "\t\n") || strpbrk(request.parent, "\t\n")))
        abort();
    return 0;
}
