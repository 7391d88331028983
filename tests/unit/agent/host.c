/* See host.h. */
#include "tests/unit/agent/host.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"

static char build_directory[512]; /* $(BUILD)/tests/agent */

static void path_in(char *path, size_t capacity, const char *directory, const char *name)
{
    const int size = snprintf(path, capacity, "%s/%s", directory, name);
    assert_true(size > 0 && (size_t)size < capacity);
}

static void copy_program(const char *from, const char *to)
{
    static char data[8 << 20];
    const int64_t size = fd_read_file(from, data, sizeof data);
    if (size < 0)
        fail_msg("%s: %s", from, strerror((int)-size));
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, (size_t)size), size);
    fd_close(&fd);
}

void set_mode(struct host *host, const char *mode)
{
    char path[128];
    path_in(path, sizeof path, host->directory, "mode");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, mode, strlen(mode)), strlen(mode));
    fd_close(&fd);
}

/* Read the agent's log until it says `text`. */
void wait_for_log(struct host *host, const char *text)
{
    while (!strstr(host->log, text)) {
        const ssize_t n =
            read(host->log_fd, host->log + host->log_size, sizeof host->log - 1 - host->log_size);
        if (n <= 0)
            fail_msg("the agent did not say \"%s\", but:\n%s", text, host->log);
        host->log_size += (size_t)n;
        host->log[host->log_size] = '\0';
    }
}

static void start_agent(struct host *host)
{
    int pipe_fds[2];
    char program[600], listen[128];
    path_in(program, sizeof program, build_directory, "agent");
    (void)snprintf(listen, sizeof listen, "unix:%s", host->socket_path);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    host->agent = fork();
    if (host->agent == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        execl(program, "agent", "--listen", listen, "--function", host->directory, "--run", host->run,
              "--init-limit-ms", INIT_LIMIT_MS, (char *)NULL);
        _exit(126);
    }
    close(pipe_fds[1]);
    host->log_fd = pipe_fds[0];
    wait_for_log(host, "listening");
}

static void make_directory(void **state, const char *function, const char *mode)
{
    struct host *host = calloc(1, sizeof *host);
    *state = host;
    strcpy(host->directory, "/tmp/rekindle-agent-XXXXXX");
    assert_non_null(mkdtemp(host->directory));
    assert_int_equal(chmod(host->directory, 0755), 0);
    path_in(host->socket_path, sizeof host->socket_path, host->directory, "agent.sock");
    char from[600], to[128];
    path_in(from, sizeof from, build_directory, function);
    path_in(to, sizeof to, host->directory, "bootstrap");
    if (function[0])
        copy_program(from, to);
    set_mode(host, mode);
    strcpy(host->run, host->directory);
}

int host_set_up_with(void **state, const char *function, const char *mode)
{
    make_directory(state, function, mode);
    start_agent(*state);
    return 0;
}

int host_set_up_prepared(void **state, const char *function, void (*prepare)(const struct host *host))
{
    make_directory(state, function, "");
    struct host *host = *state;
    path_in(host->run, sizeof host->run, host->directory, "run");
    assert_int_equal(mkdir(host->run, 0755), 0);
    prepare(host);
    start_agent(host);
    return 0;
}

int host_set_up(void **state)
{
    return host_set_up_with(state, "rude", "");
}

int host_set_up_misbehave(void **state)
{
    return host_set_up_with(state, "misbehave", "");
}

/* Exit code, or minus the signal. */
int agent_end(struct host *host)
{
    int status;
    assert_int_equal(waitpid(host->agent, &status, 0), host->agent);
    host->agent = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int host_tear_down(void **state)
{
    struct host *host = *state;
    int code = 0;
    if (host->agent > 0) {
        kill(host->agent, SIGTERM);
        code = agent_end(host);
    }
    char path[128];
    const char *const files[] = {"mode", "bootstrap", "agent.sock", "generation", "secrets/token", "secrets"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        path_in(path, sizeof path, host->directory, files[i]);
        (void)remove(path);
    }
    if (strcmp(host->run, host->directory) != 0) {
        (void)snprintf(path, sizeof path, "rm -rf '%s'", host->directory);
        assert_int_equal(system(path), 0); /* NOLINT(cert-env33-c): a name of our own */
    }
    (void)rmdir(host->directory);
    if (code != 0 || getenv("V")) {
        char rest[8192];
        ssize_t n;
        fprintf(stderr, "agent ended with %d:\n%s", code, host->log);
        while ((n = read(host->log_fd, rest, sizeof rest)) > 0)
            (void)!write(STDERR_FILENO, rest, (size_t)n);
    }
    close(host->log_fd);
    free(host);
    return code;
}

struct talk *dial(struct host *host)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, host->socket_path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    struct talk *talk = malloc(sizeof *talk);
    talk_init(talk, fd, talk_poll);
    return talk;
}

struct talk *dial_ready(struct host *host)
{
    struct talk *talk = dial(host);
    talk_ready(talk, false);
    return talk;
}

void hang_up(struct talk *talk)
{
    talk_close(talk);
    free(talk);
}

void next_works(struct talk *talk)
{
    talk_invoke(talk, "next", "next please", 10000);
    talk_expect_answer(talk, "next", "next please");
}

int host_hand_off(const char *version)
{
    char program[600];
    path_in(program, sizeof program, build_directory, "agent");
    struct host host = {.agent = fork()};
    if (host.agent == 0) {
        if (version)
            setenv("REKINDLE_HANDOFF", version, 1);
        else
            unsetenv("REKINDLE_HANDOFF");
        execl(program, "agent", (char *)NULL);
        _exit(126);
    }
    return agent_end(&host);
}

int host_find_programs(void)
{
    char self[512] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return -1;
    (void)snprintf(build_directory, sizeof build_directory, "%.480s/../agent", dirname(self));
    return 0;
}
