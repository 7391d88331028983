/*
 * Stands in for the agent: adds a line to /scribe, prints how many there are, and asks init to halt. Shows
 * whether the overlay under / keeps what is written: on a drive it does, in memory it does not.
 */
#include <stdio.h>
#include <unistd.h>

#include "agent/handoff.h"

int main(void)
{
    FILE *file = fopen("/scribe", "a+");
    int lines = 0;
    if (file) {
        fputs("line\n", file);
        fflush(file);
        rewind(file);
        for (int c; (c = getc(file)) != EOF;)
            lines += c == '\n';
        fclose(file);
    }
    printf("scribe: %d lines\n", lines);
    fflush(stdout);
    const char halt = HANDOFF_HALT;
    if (write(HANDOFF_FD, &halt, 1) != 1)
        return 1;
    pause(); /* for init's SIGTERM */
    return 0;
}
