/*
 * What POST /clones asks for, checked, and the command line of `hostvmm restore` made from it. Each value is
 * one word behind its option's `=`, so that none can become an option itself.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hostvmm/control/api/functions_clones.h"

#define COUNT_MAX      256u
#define NET_MAX        4u
#define DRIVES_MAX     15u
#define SECRETS_MAX    16u
#define NAME_MAX_BYTES 64u
#define LIMIT_MAX_MS   900000u

/* ---- the body ---- */

static int check_numbered(const struct clones_wish *wish, struct api_response *response)
{
    const char *name = NULL;
    if (wish->count == 1)
        return 0;
    if (!strstr(wish->vsock_path, "%n"))
        name = "vsock_path";
    else if (wish->control_path && !strstr(wish->control_path, "%n"))
        name = "control_path";
    if (!name)
        return 0;
    api_fail(response, 400, "clones: %s: want %%n in it, which becomes each clone's number", name);
    return -EINVAL;
}

/* Objects of two texts. The first may have no character of `banned`, nor the second. */
static int check_pairs(const json_t *list, const char *where, const char *first, const char *second,
                       const char *banned, struct api_response *response)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *one = NULL;
        const char *two = NULL;
        const struct members_row rows[] = {
            {first, MEMBER_TEXT, true, 0, NAME_MAX_BYTES, &one},
            {second, MEMBER_TEXT, true, 0, FUNCTIONS_TEXT_MAX, &two},
        };
        if (members_take(json_array_get(list, i), where, rows, 2, response) < 0)
            return -EINVAL;
        if (strpbrk(one, ",=") || strpbrk(two, banned)) {
            api_fail(response, 400, "%s: %s and %s: want no comma in them", where, first, second);
            return -EINVAL;
        }
    }
    return 0;
}

int clones_wish_take(struct clones_wish *wish, const json_t *body, struct api_response *response)
{
    *wish = (struct clones_wish){.count = 1};
    const struct members_row rows[] = {
        {"snapshot_path", MEMBER_TEXT, true, 0, FUNCTIONS_TEXT_MAX, &wish->snapshot_path},
        {"vsock_path", MEMBER_TEXT, true, 0, FUNCTIONS_TEXT_MAX, &wish->vsock_path},
        {"count", MEMBER_NUMBER, false, 1, COUNT_MAX, &wish->count},
        {"control_path", MEMBER_TEXT, false, 0, FUNCTIONS_TEXT_MAX, &wish->control_path},
        {"hostname", MEMBER_TEXT, false, 0, FUNCTIONS_TEXT_MAX, &wish->hostname},
        {"jail", MEMBER_TEXT, false, 0, FUNCTIONS_TEXT_MAX, &wish->jail},
        {"net", MEMBER_TEXTS, false, 0, NET_MAX, &wish->net},
        {"drives", MEMBER_OBJECTS, false, 0, DRIVES_MAX, &wish->drives},
        {"secrets", MEMBER_OBJECTS, false, 0, SECRETS_MAX, &wish->secrets},
        {"resume_limit_ms", MEMBER_NUMBER, false, 1, LIMIT_MAX_MS, &wish->resume_limit_ms},
        {"hooks_limit_ms", MEMBER_NUMBER, false, 1, LIMIT_MAX_MS, &wish->hooks_limit_ms},
    };
    int error = members_take(body, "clones", rows, sizeof rows / sizeof *rows, response);
    if (error == 0)
        error = check_numbered(wish, response);
    if (error == 0)
        error = check_pairs(wish->drives, "drives", "drive_id", "path_on_host", ",", response);
    if (error == 0)
        error = check_pairs(wish->secrets, "secrets", "name", "path", "", response);
    return error;
}

/* ---- the command line ---- */

char *clones_expand(const char *text, uint32_t number, int *error)
{
    char to[FUNCTIONS_TEXT_MAX + 1];
    size_t used = 0;
    for (; *text && used < sizeof to; text++) {
        if (text[0] == '%' && text[1] == 'n') {
            used += (size_t)snprintf(to + used, sizeof to - used, "%u", number);
            text++;
        } else {
            to[used++] = *text;
        }
    }
    if (used >= sizeof to) {
        *error = -ENAMETOOLONG;
        return NULL;
    }
    to[used] = '\0';
    char *copy = strdup(to);
    if (!copy)
        *error = -ENOMEM;
    return copy;
}

/* `option` and what `format` makes, its %n replaced. */
__attribute__((format(printf, 4, 5))) static void add(struct clones_line *line, uint32_t number,
                                                      const char *option, const char *format, ...)
{
    char text[2 * FUNCTIONS_TEXT_MAX + 2];
    va_list arguments;
    if (line->error)
        return;
    va_start(arguments, format);
    const int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof text || line->count == CLONES_ARGUMENTS_MAX) {
        line->error = -E2BIG;
        return;
    }
    char *value = clones_expand(text, number, &line->error);
    if (value && asprintf(&line->words[line->count], "%s%s", option, value) < 0) {
        line->words[line->count] = NULL;
        line->error = -ENOMEM;
    }
    if (value && !line->error)
        line->count++;
    free(value);
}

static void add_pairs(struct clones_line *line, uint32_t number, const json_t *list, const char *option,
                      const char *between, const char *first, const char *second)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i);
        const char *one = json_string_value(json_object_get(pair, first));
        const char *two = json_string_value(json_object_get(pair, second));
        char text[2 * FUNCTIONS_TEXT_MAX + 2];
        (void)snprintf(text, sizeof text, "%s%s%s", one, between, two); /* both were checked */
        add(line, number, option, "%s", text);
    }
}

void clones_line_make(struct clones_line *line, const struct clones_wish *wish, uint32_t number)
{
    memset(line, 0, sizeof *line);
    add(line, number, "", "restore");
    add(line, number, "--console=", "none");
    add(line, number, "--snapshot=", "%s", wish->snapshot_path);
    add(line, number, "--vsock=", "%s", wish->vsock_path);
    add(line, number, "--control=", "%s%s", wish->control_path ? wish->control_path : wish->vsock_path,
        wish->control_path ? "" : ".control");
    if (wish->hostname)
        add(line, number, "--hostname=", "%s", wish->hostname);
    if (wish->jail)
        add(line, number, "--jail=", "%s", wish->jail);
    if (wish->resume_limit_ms)
        add(line, number, "--resume-limit=", "%u", wish->resume_limit_ms);
    if (wish->hooks_limit_ms)
        add(line, number, "--hooks-limit=", "%u", wish->hooks_limit_ms);
    for (size_t i = 0; i < json_array_size(wish->net); i++)
        add(line, number, "--net=", "%s", json_string_value(json_array_get(wish->net, i)));
    add_pairs(line, number, wish->drives, "--drive=", ",id=", "path_on_host", "drive_id");
    add_pairs(line, number, wish->secrets, "--secret=", "=", "name", "path");
}

void clones_line_fini(struct clones_line *line)
{
    for (unsigned i = 0; i < line->count; i++)
        free(line->words[i]);
    memset(line, 0, sizeof *line);
}
