/*
 * A function that speaks the Lambda Runtime API by hand (agent/function/HTTP.md), rightly or wrongly as its
 * event says: a word and an optional number; any other event is its own answer. How its init goes is read
 * from the file "mode" in its directory. The agent's tests on this machine and in a VM run it.
 *
 * One connection is kept open, as a runtime client does; a status that surprises is kept for "statuses".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define API            "/2018-06-01/runtime/"
#define EVENT_MAX      6291556
#define CHUNK_BYTES    50000
#define HEAD_MAX_BYTES 4096

static struct sockaddr_in api;
static int connection = -1;
static char head[HEAD_MAX_BYTES + 1]; /* of the last answer */
static size_t head_size;
static char event[EVENT_MAX + 1];
static char id[65];
static char statuses[64];

static void die(const char *what)
{
    fprintf(stderr, "http-function: %s: %s\n", what, strerror(errno));
    exit(3);
}

/* ---- HTTP ------------------------------------------------------------------------------------------ */

static int dial(void)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&api, sizeof api) < 0)
        die("connect");
    return fd;
}

/* What the other end refuses may be closed before all of it is written: its answer says more than our error.
 */
static bool write_all(int fd, const void *data, size_t size)
{
    while (size > 0) {
        const ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0)
            return false;
        data = (const char *)data + n;
        size -= (size_t)n;
    }
    return true;
}

/* The value of a field of the last head; empty when it is missing. */
static const char *field(const char *name)
{
    static char value[300];
    const char *at = head;
    value[0] = '\0';
    while ((at = strstr(at, "\r\n")) != NULL) {
        at += 2;
        if (strncasecmp(at, name, strlen(name)) == 0 && at[strlen(name)] == ':')
            (void)sscanf(at + strlen(name) + 1, " %299[^\r]", value);
    }
    return value;
}

/* The head of an answer, byte for byte so that nothing behind it is taken; the status, 0 at the end. */
static int read_head(int fd)
{
    head_size = 0;
    do {
        if (head_size == HEAD_MAX_BYTES || read(fd, head + head_size, 1) != 1)
            return 0;
        head[++head_size] = '\0';
    } while (head_size < 4 || memcmp(head + head_size - 4, "\r\n\r\n", 4) != 0);
    return atoi(head + strlen("HTTP/1.1 "));
}

static size_t read_body(int fd, char *to, size_t capacity)
{
    const size_t size = (size_t)strtoul(field("Content-Length"), NULL, 10);
    size_t have = 0;
    while (have < size && have < capacity) {
        const ssize_t n = read(fd, to + have, size - have < capacity - have ? size - have : capacity - have);
        if (n <= 0)
            die("body");
        have += (size_t)n;
    }
    to[have] = '\0';
    return have;
}

static void note(int status)
{
    const size_t at = strlen(statuses);
    (void)snprintf(statuses + at, sizeof statuses - at, "%s%d", at ? " " : "", status);
}

/* Read the answer to a POST, over any "100 Continue"; a connection that is closed for it is forgotten. */
static int read_status(void)
{
    static char body[HEAD_MAX_BYTES + 1];
    int status = read_head(connection);
    if (status == 100)
        status = read_head(connection);
    (void)read_body(connection, body, HEAD_MAX_BYTES);
    if (status == 0 || strcasecmp(field("Connection"), "close") == 0) {
        close(connection);
        connection = -1;
    }
    note(status);
    return status;
}

static void begin_post(const char *path, const char *fields)
{
    char text[1024];
    if (connection < 0)
        connection = dial();
    (void)snprintf(text, sizeof text, "POST " API "%s HTTP/1.1\r\nHost: api\r\n%s\r\n", path, fields);
    (void)write_all(connection, text, strlen(text));
}

static int post(const char *path, const char *more_fields, const void *body, size_t size)
{
    char fields[512];
    (void)snprintf(fields, sizeof fields, "%sContent-Length: %zu\r\n", more_fields, size);
    begin_post(path, fields);
    (void)write_all(connection, body, size);
    return read_status();
}

static int post_chunked(const char *path, const char *body, size_t size)
{
    char line[32];
    begin_post(path, "Transfer-Encoding: chunked\r\n");
    for (size_t done = 0; done < size;) {
        const size_t part = size - done < CHUNK_BYTES ? size - done : CHUNK_BYTES;
        (void)snprintf(line, sizeof line, "%zx\r\n", part);
        if (!write_all(connection, line, strlen(line)) || !write_all(connection, body + done, part) ||
            !write_all(connection, "\r\n", 2))
            break;
        done += part;
    }
    (void)write_all(connection, "0\r\n\r\n", 5);
    return read_status();
}

static int get(int fd, const char *path)
{
    char text[256];
    (void)snprintf(text, sizeof text, "GET " API "%s HTTP/1.1\r\nHost: api\r\n\r\n", path);
    return write_all(fd, text, strlen(text)) ? read_head(fd) : 0;
}

static const char *path_of(const char *what)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "invocation/%s/%s", id, what);
    return path;
}

static void respond(const char *text)
{
    (void)post(path_of("response"), "", text, strlen(text));
}

/* ---- what it is told ------------------------------------------------------------------------------- */

static void half_an_answer(void)
{
    begin_post(path_of("response"), "Content-Length: 1000\r\n");
    (void)write_all(connection, "half", 4);
}

/* A request of its own connection: its status. */
static int once(const char *text)
{
    const int fd = dial();
    (void)write_all(fd, text, strlen(text));
    const int status = read_head(fd);
    close(fd);
    return status;
}

static void many_connections(void)
{
    int fds[20];
    for (int i = 0; i < 20; i++)
        fds[i] = dial();
    for (int i = 0; i < 20; i++)
        close(fds[i]);
    respond("opened and closed");
}

/* Half a request on each of as many as there are descriptors for; they stay, as far as the agent lets them. */
static void hoard_connections(void)
{
    int made = 0;
    for (int fd; (fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) >= 0; made++) {
        (void)connect(fd, (struct sockaddr *)&api, sizeof api); /* goes on by itself */
        (void)write_all(fd, "GET /", 5);
    }
    respond(made > 900 ? "hoarded" : "stopped before");
}

static void fail_in_words(void)
{
    static const char error[] = "{\"errorMessage\": \"as \\u0074old\", \"errorType\": \"Test.Failed\", "
                                "\"stackTrace\": [\"first\", \"second\"]}";
    (void)post(path_of("error"), "", error, sizeof error - 1);
}

static void obey_badly(const char *word, long number)
{
    if (strcmp(word, "crash") == 0)
        abort();
    else if (strcmp(word, "exit") == 0)
        _exit((int)number);
    else if (strcmp(word, "other") == 0)
        (void)post("invocation/somebody-else/response", "", "x", 1);
    else if (strcmp(word, "twice") == 0)
        respond("once"), respond("twice");
    else if (strcmp(word, "large") == 0)
        (void)post(path_of("response"), "", event, EVENT_MAX + 1);
    else if (strcmp(word, "large-chunked") == 0)
        (void)post_chunked(path_of("response"), event, EVENT_MAX + 1);
    else if (strcmp(word, "half-crash") == 0)
        half_an_answer(), abort();
    else if (strcmp(word, "half") == 0) {
        half_an_answer();
        close(connection);
        pause();
    } else if (strcmp(word, "silent") == 0) {
        respond("that was all");
        pause();
    } else
        pause(); /* "hang" */
}

static bool obey_well(const char *word, size_t size)
{
    char text[256];
    if (strcmp(word, "chunked") == 0)
        (void)post_chunked(path_of("response"), event, size);
    else if (strcmp(word, "expect") == 0)
        (void)post(path_of("response"), "Expect: 100-continue\r\n", event, size);
    else if (strcmp(word, "head") == 0)
        respond(head);
    else if (strcmp(word, "statuses") == 0) {
        (void)snprintf(text, sizeof text, "%s", statuses);
        statuses[0] = '\0';
        respond(text);
    } else if (strcmp(word, "environment") == 0) {
        (void)snprintf(text, sizeof text, "%s %s", getenv("LAMBDA_TASK_ROOT"),
                       getenv("AWS_LAMBDA_FUNCTION_NAME"));
        respond(text);
    } else if (strcmp(word, "port") == 0)
        respond(getenv("AWS_LAMBDA_RUNTIME_API"));
    else if (strcmp(word, "error") == 0)
        fail_in_words();
    else if (strcmp(word, "error-plain") == 0)
        (void)post(path_of("error"), "Lambda-Runtime-Function-Error-Type: Test.Plain\r\n", "no object", 9);
    else if (strcmp(word, "print") == 0) {
        (void)!write(STDOUT_FILENO, "to stdout\n", 10);
        respond("printed");
    } else if (strcmp(word, "requests") == 0) {
        const int again = once("GET " API "invocation/next HTTP/1.1\r\nHost: api\r\n\r\n");
        const int restore = once("GET " API "restore/next HTTP/1.1\r\nHost: api\r\n\r\n");
        const int init = once("POST " API "init/error HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n");
        (void)snprintf(text, sizeof text, "%d %d %d %d %d", again, restore, init,
                       once("GET /else HTTP/1.1\r\nHost: a\r\n\r\n"), once("nonsense\r\n\r\n"));
        respond(text);
    } else if (strcmp(word, "hoard") == 0)
        hoard_connections();
    else if (strcmp(word, "many") == 0)
        many_connections();
    else
        return false;
    return true;
}

static void obey(size_t size)
{
    static const char *const bad[] = {"crash",         "exit",       "other", "twice",  "large",
                                      "large-chunked", "half-crash", "half",  "silent", "hang"};
    char word[32] = "";
    long number = 0;
    (void)sscanf(event, "%31s %ld", word, &number);
    if (obey_well(word, size))
        return;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (strcmp(word, bad[i]) == 0) {
            obey_badly(word, number);
            return;
        }
    }
    (void)post(path_of("response"), "", event, size);
}

/* An event is not read, but answered over another connection ("early"), or left where it is ("leave"). */
static void look_ahead(void)
{
    char word[6] = "";
    if (recv(connection, word, 5, MSG_PEEK) == 5 &&
        (strcmp(word, "early") == 0 || strcmp(word, "leave") == 0)) {
        if (word[0] == 'l') {
            close(connection);
            pause();
        }
        connection = dial();
        respond("too early");
        pause();
    }
}

static void init(void)
{
    char mode[16] = "";
    FILE *file = fopen("mode", "r");
    if (file) {
        (void)!fgets(mode, sizeof mode, file);
        fclose(file);
    }
    if (strcmp(mode, "exit") == 0)
        _exit(7);
    if (strcmp(mode, "fail") == 0) {
        static const char error[] = "{\"errorType\":\"Test.NoInit\",\"errorMessage\":\"no database\"}";
        (void)post("init/error", "", error, sizeof error - 1);
        _exit(1);
    }
    if (strcmp(mode, "close") == 0)
        close(3); /* the socket of the other form of the contract */
}

int main(void)
{
    const char *where = getenv("AWS_LAMBDA_RUNTIME_API");
    const char *port = where ? strchr(where, ':') : NULL;
    if (!port)
        return 64;
    api = (struct sockaddr_in){.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)atoi(port + 1)),
                               .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    init();
    for (;;) {
        if (connection < 0)
            connection = dial();
        if (get(connection, "invocation/next") != 200)
            die("next");
        (void)snprintf(id, sizeof id, "%.64s", field("Lambda-Runtime-Aws-Request-Id"));
        if (strtoul(field("Content-Length"), NULL, 10) > CHUNK_BYTES)
            look_ahead();
        const size_t size = read_body(connection, event, EVENT_MAX);
        obey(size);
    }
}
