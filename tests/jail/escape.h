/* What the jail is tried with: see escape.c. */
#ifndef TESTS_JAIL_ESCAPE_H
#define TESTS_JAIL_ESCAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What there is outside to be reached. */
struct outside {
    char room[256];   /* the directory that appears in the jail */
    char secret[300]; /* a file beside it, which anybody may read and write */
    pid_t sibling;    /* a process of the jail's own uid */
    pid_t keeper;     /* set inside, before the way in */
    unsigned port;    /* somebody listens on the loopback */
    char abstract[64];
    int open; /* a descriptor of the secret that whoever started us left open */
    int key;  /* in the session's keyring */
};

struct escape {
    const char *name;
    int (*try)(const struct outside *outside); /* 0: it is out; else an errno */
    bool filter_only;                          /* without the filter it may well succeed */
};

extern const struct escape escapes[];
extern const size_t escape_count;

#endif
