/*
 * A client of hostvmm's own control line (hostvmm/control/OPERATOR.md), for tests on the host's side.
 *
 *   operate SOCKET WORD...        one request of these words; prints the answer. 0 it was {"ok":true
 *   operate --run COMMAND...      runs a command with a connection as descriptor 3; sends each line of standard
 *                                 input, blanks as TABs, and prints each answer. At the input's end it hangs up,
 *                                 waits, and ends with the command's exit code
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define FD_GIVEN  3
#define LINE_MAX_ 8192

static int die(const char *what)
{
    (void)fprintf(stderr, "operate: %s: %s\n", what, strerror(errno));
    return 125;
}

/* Print one line from there. Whether it says that all is well; -1: it never came. */
static int pass_answer(FILE *from)
{
    char *line = NULL;
    size_t room = 0;
    const ssize_t size = getline(&line, &room, from);
    const int ok = size < 0 ? -1 : strncmp(line, "{\"ok\":true", 10) == 0;
    if (size > 0)
        (void)fputs(line, stdout);
    (void)fflush(stdout);
    free(line);
    return ok;
}

static int ask(const char *path, int count, char **words)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *stream = fd < 0 ? NULL : fdopen(fd, "r+");
    if (!stream || connect(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return die(path);
    for (int i = 0; i < count; i++)
        (void)fprintf(stream, "%s%s", i ? "\t" : "", words[i]);
    (void)putc('\n', stream);
    (void)fflush(stream);
    const int ok = pass_answer(stream);
    (void)fclose(stream);
    return ok < 0 ? die("no answer") : !ok;
}

static int run(char **command)
{
    char line[LINE_MAX_];
    int pair[2];
    int status;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return die("socketpair");
    const pid_t child = fork();
    if (child == 0) {
        const int null = dup2(pair[1], FD_GIVEN) == FD_GIVEN && freopen("/dev/null", "r", stdin) ? 0 : -1;
        if (null == 0)
            (void)execvp(command[0], command);
        _exit(die(command[0]));
    }
    (void)close(pair[1]);
    FILE *answers = fdopen(pair[0], "r");
    while (child > 0 && answers && fgets(line, sizeof line, stdin)) {
        for (char *at = line; *at; at++)
            *at = *at == ' ' ? '\t' : *at;
        if (send(pair[0], line, strlen(line), MSG_NOSIGNAL) < 0 || pass_answer(answers) < 0)
            break;
    }
    if (answers)
        (void)fclose(answers);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return die("no child");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "--run") == 0)
        return run(argv + 2);
    if (argc >= 3)
        return ask(argv[1], argc - 2, argv + 2);
    (void)fputs("usage: operate SOCKET WORD... | operate --run COMMAND...\n", stderr);
    return 2;
}
