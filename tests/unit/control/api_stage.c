/* See api_stage.h. The guest's process notes its words in the file `words`, what it is asked in `lines`, and does
 * as the file `mode` says: "dies" before it answers, "hangs up" at the next request, "refuses" it, or nothing. */
#include "tests/unit/control/api_stage.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/control/api/route.h"

#define LINE_BYTES 8192

/* The tests of what is ours alone have their own. */
__attribute__((weak)) const struct api_route api_function_routes[] = {{.method = NULL}};

/* ---- the guest's process ---- */

static void append(const char *name, const char *text)
{
    FILE *file = fopen(name, "a");
    if (!file || fprintf(file, "%s\n", text) < 0 || fclose(file))
        _exit(99);
}

static bool mode_is(const char *word)
{
    char text[64] = "";
    int64_t size = fd_read_file("mode", text, sizeof text - 1);
    return size > 0 && strncmp(text, word, strlen(word)) == 0;
}

static void answer(const char *text)
{
    if (fd_write_all(CHILD_CONTROL_FD, text, strlen(text)) || fd_write_all(CHILD_CONTROL_FD, "\n", 1))
        _exit(98);
}

static void put_file(const char *directory, const char *name, const void *data, size_t size)
{
    char path[LINE_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, data, size))
        _exit(97);
    fd_close(&fd);
}

/* A snapshot as far as its files' first and last bytes go. Its id counts up. */
static void save(const char *line)
{
    static uint8_t id;
    char out[LINE_BYTES];
    uint8_t memory[4096 + 32] = {0};
    const char *at = strstr(line, "out=");
    (void)snprintf(out, sizeof out, "%.*s", (int)strcspn(at + 4, "\t"), at + 4);
    memcpy(memory + 4096, "RKNDMEM\n", 8);
    memory[4096 + 8] = ++id;
    memory[4096 + 9] = (uint8_t)getpid();
    if (mkdir(out, 0700) < 0)
        _exit(96);
    put_file(out, "state", "\x89RKSNAP\n", 8);
    put_file(out, "memory", memory, sizeof memory);
    put_file(out, "chunks", "", 0);
    answer("{\"ok\":true,\"pause_ns\":1}");
}

static void serve_line(const char *line)
{
    append("lines", line);
    if (mode_is("hangs up"))
        _exit(4);
    if (mode_is("refuses"))
        answer("{\"ok\":false,\"error\":\"not in this state\",\"code\":9}");
    else if (strncmp(line, "snapshot\t", 9) == 0)
        save(line);
    else if (strncmp(line, "balloon", 7) == 0)
        answer("{\"ok\":true,\"balloon\":{\"target_pages\":512,\"actual_pages\":256,\"hinting\":\"done\","
               "\"stats\":{\"free_memory\":77}}}");
    else if (strncmp(line, "metrics", 7) == 0)
        answer("{\"ok\":true,\"metrics\":{\"exits\":5}}");
    else
        answer("{\"ok\":true,\"state\":\"Running\"}");
    if (strncmp(line, "shutdown", 8) == 0)
        _exit(0);
}

void api_stage_main(int argc, char **argv)
{
    char line[LINE_BYTES];
    size_t used = 0;
    if (argc < 2 || (strcmp(argv[1], "run") != 0 && strcmp(argv[1], "restore") != 0))
        return;
    for (int i = 1; i < argc; i++)
        append("words", argv[i]);
    if (mode_is("dies")) {
        (void)fputs("hostvmm: the first line\nhostvmm: error: no such kernel\nhostvmm: error: later\n",
                    stderr);
        exit(3);
    }
    while (read(CHILD_CONTROL_FD, line + used, 1) == 1) {
        if (line[used] != '\n') {
            used++;
            continue;
        }
        line[used] = '\0';
        used = 0;
        serve_line(line);
    }
    _exit(1); /* nobody operates it any more */
}

/* ---- the server ---- */

static void *run_main(void *context)
{
    struct stage *stage = context;
    stage->code = child_run(&stage->api.child, stage->signal_fd);
    return NULL;
}

void api_stage_begin(struct stage *stage)
{
    static char program[1024];
    sigset_t signals;
    memset(stage, 0, sizeof *stage);
    if (!program[0])
        assert_true(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    log_setup("api_stage", LOG_LEVEL_ERROR, STDERR_FILENO);
    (void)snprintf(stage->directory, sizeof stage->directory, "/tmp/api_stage.XXXXXX");
    assert_non_null(mkdtemp(stage->directory));
    assert_int_equal(chdir(stage->directory), 0);
    (void)signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    stage->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    assert_true(stage->signal_fd >= 0);
    assert_int_equal(api_init(&stage->api, program), 0);
    assert_int_equal(pthread_create(&stage->main, NULL, run_main, stage), 0);
}

void api_stage_join(struct stage *stage)
{
    assert_int_equal(pthread_join(stage->main, NULL), 0);
    stage->joined = true;
}

void api_stage_end(struct stage *stage)
{
    char command[128];
    child_stop(&stage->api.child, 0);
    if (!stage->joined)
        api_stage_join(stage);
    json_decref(stage->answer);
    api_fini(&stage->api); /* its end of the line goes, and so does the guest's process */
    (void)close(stage->signal_fd);
    assert_int_equal(chdir("/"), 0);
    (void)snprintf(command, sizeof command, "rm -rf %s", stage->directory);
    assert_int_equal(system(command), 0); /* NOLINT: a name of mkdtemp's */
}

int api_stage_ask(struct stage *stage, const char *method, const char *path, const char *text)
{
    struct api_request request = {.method = method, .path = path};
    struct api_response response = {.status = 0};
    char *body = text ? strdup(text) : NULL;
    route_new_id(request.id);
    route_handle(&stage->api, &request, body, body ? strlen(body) : 0, &response);
    free(body);
    json_decref(stage->answer);
    stage->answer = json_incref(response.json);
    stage->status = response.status;
    assert_true(response.status >= 200 && response.status < 500);
    assert_true(response.status < 400 || api_stage_fault(stage));
    route_free(&response);
    return stage->status;
}

const char *api_stage_fault(const struct stage *stage)
{
    return model_text(stage->answer, "fault_message");
}

void api_stage_expect(struct stage *stage, const char *method, const char *path, const char *text, int status,
                      const char *fault)
{
    const int given = api_stage_ask(stage, method, path, text);
    const char *said = api_stage_fault(stage);
    if (given != status || (fault && (!said || !strstr(said, fault))))
        fail_msg("%s %s %s: %d \"%s\", expected %d \"%s\"", method, path, text ? text : "", given,
                 said ? said : "", status, fault ? fault : "");
}

void api_stage_write(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void api_stage_configure(struct stage *stage, bool image)
{
    static const uint8_t magic[] = {0xe2, 0xe1, 0xf5, 0xe0};
    uint8_t bytes[2048] = {0};
    if (image)
        memcpy(bytes + 1024, magic, sizeof magic);
    api_stage_write("kernel", "k");
    int fd = open("root", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fd_write_all(fd, bytes, sizeof bytes), 0);
    fd_close(&fd);
    api_stage_expect(stage, "PUT", "/boot-source", "{\"kernel_image_path\":\"./kernel\"}", 204, NULL);
    api_stage_expect(
        stage, "PUT", "/drives/root",
        "{\"drive_id\":\"root\",\"path_on_host\":\"root\",\"is_root_device\":true,\"is_read_only\":true}",
        204, NULL);
}

static char *text_of(const char *name)
{
    char *text = calloc(1, 65536);
    assert_non_null(text);
    (void)fd_read_file(name, text, 65535);
    return text;
}

char *api_stage_words(void)
{
    char *text = text_of("words");
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
    return text;
}

char *api_stage_lines(void)
{
    return text_of("lines");
}
