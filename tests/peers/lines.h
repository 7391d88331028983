/*
 * A file of lines, and what is in a line of tls-peer's log: {"key":"text","key":number,...}, flat, its text
 * without escapes.
 */
#ifndef TESTS_PEERS_LINES_H
#define TESTS_PEERS_LINES_H

#include <stdbool.h>
#include <stddef.h>

struct lines {
    char *text;
    char **at;
    size_t count;
};

/* The lines of a file, without their ends, for as long as the program runs. 0 or -errno. */
int lines_read(struct lines *lines, const char *path);

/* The text of a field; false when there is none or it does not fit. */
bool line_field(const char *line, const char *name, char *to, size_t room);
/* The number of a field, or -1. */
long line_number(const char *line, const char *name);

#endif
