/*
 * The hooks around a snapshot: their order, what a failing one does, and how they are asked for over the
 * channel; the generation page as a function reads it; random bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/function/channel.h"
#include "agent/function/hooks.h"
#include "agent/function/unique.h"
#include "agent/function/wire.h"

/* ---- hooks that write down that they ran ---- */

static char ran[64];
static uint64_t generation_seen;
static char failing; /* the letter of the hook that fails */

static int note(char letter)
{
    const size_t size = strlen(ran);
    assert_true(size + 1 < sizeof ran);
    ran[size] = letter;
    ran[size + 1] = '\0';
    return letter == failing ? 7 : 0;
}

static int on_checkpoint(void *context)
{
    return note(*(const char *)context);
}

static int on_restore(void *context, uint64_t generation)
{
    generation_seen = generation;
    return note(*(const char *)context);
}

static int echo(void *context, const struct function_event *event, struct function_reply *reply)
{
    (void)context;
    return function_reply_write(reply, event->data, event->size);
}

static struct function table = {
    .handle = echo, .before_checkpoint = on_checkpoint, .after_restore = on_restore, .context = "t"};

static int set_up(void **state)
{
    (void)state;
    hooks_reset();
    ran[0] = failing = '\0';
    generation_seen = 0;
    static char letters[][2] = {"a", "b", "c"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(function_on_checkpoint(on_checkpoint, letters[i]), 0);
        assert_int_equal(function_on_restore(on_restore, letters[i]), 0);
    }
    return 0;
}

static void checkpoint_takes_the_last_first_and_restore_the_first(void **state)
{
    (void)state;
    char why[HOOKS_WHY_BYTES] = "";
    assert_int_equal(hooks_before_checkpoint(&table, why), 0);
    assert_string_equal(ran, "tcba");
    ran[0] = '\0';
    assert_int_equal(hooks_after_restore(&table, 9, why), 0);
    assert_string_equal(ran, "abct");
    assert_int_equal(generation_seen, 9);
    assert_string_equal(why, "");
}

static void failed_checkpoint_is_taken_back(void **state)
{
    (void)state;
    char why[HOOKS_WHY_BYTES] = "";
    failing = 'b';
    assert_int_equal(hooks_before_checkpoint(&table, why), 7);
    assert_string_equal(why, "hook 2 of function_on_checkpoint returned 7");
    assert_string_equal(ran, "tcbab"); /* and its restore hook fails as well, which changes nothing */
    failing = 't';
    ran[0] = '\0';
    assert_int_equal(hooks_before_checkpoint(&table, why), 7);
    assert_string_equal(why, "before_checkpoint returned 7");
    assert_string_equal(ran, "tabct");
}

static void failed_restore_ends_the_row(void **state)
{
    (void)state;
    char why[HOOKS_WHY_BYTES] = "";
    failing = 'b';
    assert_int_equal(hooks_after_restore(&table, 2, why), 7);
    assert_string_equal(why, "hook 2 of function_on_restore returned 7");
    assert_string_equal(ran, "ab");
    failing = 't';
    ran[0] = '\0';
    assert_int_equal(hooks_after_restore(&table, 2, why), 7);
    assert_string_equal(why, "after_restore returned 7");
    assert_string_equal(ran, "abct");
}

static void number_of_hooks_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(function_on_checkpoint(NULL, NULL), -EINVAL);
    assert_int_equal(function_on_restore(NULL, NULL), -EINVAL);
    for (int i = 3; i < FUNCTION_HOOKS_MAX; i++) {
        assert_int_equal(function_on_checkpoint(on_checkpoint, "x"), 0);
        assert_int_equal(function_on_restore(on_restore, "x"), 0);
    }
    assert_int_equal(function_on_checkpoint(on_checkpoint, "x"), -ENOSPC);
    assert_int_equal(function_on_restore(on_restore, "x"), -ENOSPC);
}

/* ---- over the channel ---- */

static struct wire peer;
static pid_t child;

static void start(const struct function *function, char fails)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char number[16];
        close(ends[0]);
        snprintf(number, sizeof number, "%d", ends[1]);
        setenv(FUNCTION_ENV_FD, number, 1);
        failing = fails;
        _exit(function_run(function));
    }
    close(ends[1]);
    peer.fd = ends[0];
    frame_reader_init(&peer.reader);
    struct proto_message message;
    const char *why;
    assert_int_equal(wire_receive(&peer, &message, &why), 1);
    assert_int_equal(message.type, PROTO_HELLO);
    assert_int_equal(wire_receive(&peer, &message, &why), 1);
    assert_int_equal(message.type, PROTO_INIT);
}

static int stop(void)
{
    int status;
    fd_close(&peer.fd);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct proto_message ask(const struct proto_message *question)
{
    static struct proto_message answer;
    const char *why = "";
    assert_int_equal(wire_send(&peer, question), 0);
    assert_int_equal(wire_receive(&peer, &answer, &why), 1);
    return answer;
}

static const struct proto_message checkpoint = {.type = PROTO_CHECKPOINT, .u.checkpoint.timeout_ms = 1000};
static const struct proto_message resume = {.type = PROTO_RESUME,
                                            .u.resume = {.timeout_ms = 1000, .generation = 4}};

static void echoes(void)
{
    const struct proto_message invoke = {
        .type = PROTO_INVOKE,
        .u.invoke = {
            .id = proto_text("r"), .timeout_ms = 1000, .total_bytes = 4, .body = proto_text("ping")}};
    const struct proto_message answer = ask(&invoke);
    assert_int_equal(answer.type, PROTO_RESPONSE);
    assert_true(proto_slice_equal(answer.u.response.body, proto_text("ping")));
}

static void function_quiesces_and_resumes(void **state)
{
    (void)state;
    start(&table, 0);
    for (int round = 0; round < 2; round++) {
        echoes();
        struct proto_message answer = ask(&checkpoint);
        assert_int_equal(answer.type, PROTO_QUIESCED);
        assert_int_equal(answer.u.quiesced.failure.type.size, 0);
        answer = ask(&resume);
        assert_int_equal(answer.type, PROTO_RESUMED);
        assert_int_equal(answer.u.resumed.failure.type.size, 0);
    }
    assert_int_equal(ask(&resume).type, PROTO_RESUMED); /* of a snapshot that nobody announced */
    echoes();
    assert_int_equal(stop(), FUNCTION_EXIT_OK);
}

static void function_without_hooks_answers_all_the_same(void **state)
{
    (void)state;
    static const struct function plain = {.handle = echo};
    hooks_reset();
    start(&plain, 0);
    assert_int_equal(ask(&checkpoint).u.quiesced.failure.type.size, 0);
    assert_int_equal(ask(&resume).u.resumed.failure.type.size, 0);
    echoes();
    assert_int_equal(stop(), FUNCTION_EXIT_OK);
}

static void failing_hooks_are_told(void **state)
{
    (void)state;
    start(&table, 't');
    struct proto_message answer = ask(&checkpoint);
    assert_true(proto_slice_equal(answer.u.quiesced.failure.type, proto_text(FUNCTION_ERROR_CHECKPOINT)));
    assert_true(
        proto_slice_equal(answer.u.quiesced.failure.message, proto_text("before_checkpoint returned 7")));
    echoes();
    answer = ask(&resume);
    assert_true(proto_slice_equal(answer.u.resumed.failure.type, proto_text(FUNCTION_ERROR_RESTORE)));
    assert_true(proto_slice_equal(answer.u.resumed.failure.message, proto_text("after_restore returned 7")));
    assert_int_equal(stop(), FUNCTION_EXIT_OK);
}

static void checkpoint_in_the_middle_of_an_event_ends_the_function(void **state)
{
    (void)state;
    start(&table, 0);
    const struct proto_message half = {
        .type = PROTO_INVOKE,
        .u.invoke = {
            .id = proto_text("r"), .timeout_ms = 1000, .total_bytes = 8, .body = proto_text("half")}};
    assert_int_equal(wire_send(&peer, &half), 0);
    assert_int_equal(wire_send(&peer, &checkpoint), 0);
    assert_int_equal(stop(), FUNCTION_EXIT_CHANNEL);
}

/* ---- the generation page ---- */

static void generation_is_read_as_it_changes(void **state)
{
    (void)state;
    char path[] = "/tmp/generation-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_null(generation_map("/nonexistent"));
    assert_null(generation_map(path)); /* too short */
    assert_int_equal(ftruncate(fd, GENERATION_FILE_BYTES), 0);
    assert_null(generation_map(path)); /* no magic */
    struct generation_page page = {.generation = UINT64_C(0x100000002), .futex = 2};
    memcpy(&page.magic, "RKGN", 4);
    assert_int_equal(pwrite(fd, &page, sizeof page, 0), sizeof page);
    const struct generation_page *seen = generation_map(path);
    assert_non_null(seen);
    assert_int_equal(seen->generation, UINT64_C(0x100000002));
    page.generation++;
    assert_int_equal(pwrite(fd, &page, sizeof page, 0), sizeof page);
    assert_int_equal(seen->generation, UINT64_C(0x100000003));
    munmap((void *)(uintptr_t)seen, GENERATION_FILE_BYTES);
    close(fd);
    unlink(path);
}

static void random_fills_what_it_is_given(void **state)
{
    (void)state;
    static uint8_t first[1 << 16], second[1 << 16];
    assert_int_equal(function_random(first, sizeof first), 0);
    assert_int_equal(function_random(second, sizeof second), 0);
    assert_memory_not_equal(first, second, sizeof first);
    assert_memory_not_equal(first + sizeof first - 16, second + sizeof second - 16, 16); /* to the end */
    assert_int_equal(function_random(first, 0), 0);
    assert_int_equal(function_random(NULL, 16), -EFAULT);
}

#define TEST(test) cmocka_unit_test_setup(test, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(checkpoint_takes_the_last_first_and_restore_the_first),
        TEST(failed_checkpoint_is_taken_back),
        TEST(failed_restore_ends_the_row),
        TEST(number_of_hooks_is_bounded),
        TEST(function_quiesces_and_resumes),
        TEST(function_without_hooks_answers_all_the_same),
        TEST(failing_hooks_are_told),
        TEST(checkpoint_in_the_middle_of_an_event_ends_the_function),
        TEST(generation_is_read_as_it_changes),
        TEST(random_fills_what_it_is_given),
    };
    return cmocka_run_group_tests_name("function hooks", tests, NULL, NULL);
}
