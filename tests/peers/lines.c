#include "tests/peers/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int lines_read(struct lines *lines, const char *path)
{
    FILE *file = fopen(path, "re");
    size_t room = 0;
    if (!file)
        return -errno;
    *lines = (struct lines){0};
    const ssize_t got = getdelim(&lines->text, &room, '\0', file);
    (void)fclose(file);
    if (got < 0) /* an empty file */
        return 0;
    for (char *rest = lines->text, *line; (line = strsep(&rest, "\n"));) {
        if (*line == '\0')
            continue;
        if ((lines->count & (lines->count - 1)) == 0) {
            char **more = realloc(lines->at, (lines->count ? 2 * lines->count : 1) * sizeof *more);
            if (!more)
                return -ENOMEM;
            lines->at = more;
        }
        lines->at[lines->count++] = line;
    }
    return 0;
}

static const char *value_of(const char *line, const char *name)
{
    char wanted[64];
    (void)snprintf(wanted, sizeof wanted, "\"%s\":", name);
    const char *found = strstr(line, wanted);
    return found ? found + strlen(wanted) : NULL;
}

bool line_field(const char *line, const char *name, char *to, size_t room)
{
    const char *value = value_of(line, name);
    if (!value || *value != '"')
        return false;
    const size_t size = strcspn(++value, "\"");
    if (value[size] != '"' || size >= room)
        return false;
    memcpy(to, value, size);
    to[size] = '\0';
    return true;
}

long line_number(const char *line, const char *name)
{
    const char *value = value_of(line, name);
    return value ? strtol(value, NULL, 10) : -1;
}
