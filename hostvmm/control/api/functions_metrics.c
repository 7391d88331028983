/*
 * GET /metrics: the counters of the running guest's hostvmm, as it tells them, or, to a client that accepts
 * text/plain, in the text form of Prometheus: each number under the names it is nested in, joined by '_'.
 * Firecracker's PUT /metrics names a file for them, and stays.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/api/functions.h"

#define NAME_MAX_BYTES 200
#define DEPTH_MAX      8

/* `name` behind what is there, as a metric's name may be. False: too long. */
static bool join(char *to, size_t *used, const char *name)
{
    if (*used + 1 + strlen(name) >= NAME_MAX_BYTES)
        return false;
    to[(*used)++] = '_';
    for (; *name; name++) {
        const bool is_plain = (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                              (*name >= '0' && *name <= '9');
        to[(*used)++] = is_plain ? *name : '_';
    }
    to[*used] = '\0';
    return true;
}

/* What is no number has no place in this form; deeper than anything we send is not looked into. */
static void write_all(FILE *out, const json_t *value, char *name, size_t used, unsigned depth)
{
    const char *key;
    json_t *inner;
    char index[24];
    if (json_is_integer(value)) {
        (void)fprintf(out, "%s %lld\n", name, (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        (void)fprintf(out, "%s %.17g\n", name, json_real_value(value));
    } else if (json_is_object(value) && depth < DEPTH_MAX) {
        json_object_foreach((json_t *)(uintptr_t)value, key, inner)
        {
            size_t at = used;
            if (join(name, &at, key))
                write_all(out, inner, name, at, depth + 1);
        }
    } else if (json_is_array(value) && depth < DEPTH_MAX) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            size_t at = used;
            (void)snprintf(index, sizeof index, "%zu", i);
            if (join(name, &at, index))
                write_all(out, json_array_get(value, i), name, at, depth + 1);
        }
    }
}

static void answer_text(const json_t *metrics, struct api_response *response)
{
    char name[NAME_MAX_BYTES] = "hostvmm";
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out)
        write_all(out, metrics, name, strlen(name), 0);
    const bool failed = !out || ferror(out);
    if ((out && fclose(out)) || failed) {
        free(text);
        api_fail(response, 500, "no memory for the metrics");
        return;
    }
    response->status = 200;
    response->body = text;
    response->body_bytes = size;
    response->type = "text/plain; version=0.0.4";
}

void functions_metrics(struct api *api, const struct api_request *request, struct api_response *response)
{
    const char *accept = api_header(request, "Accept");
    json_t *answer = api_operate(api, request, response, "metrics");
    if (!answer)
        return;
    json_t *metrics = json_object_get(answer, "metrics");
    if (!json_is_object(metrics)) {
        api_fail(response, 502, "the guest's hostvmm told no metrics");
    } else if (accept && strncmp(accept, "text/plain", 10) == 0) {
        answer_text(metrics, response);
    } else {
        response->status = 200;
        response->json = json_incref(metrics);
    }
    json_decref(answer);
}
