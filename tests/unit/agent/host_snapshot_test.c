/*
 * The real agent with real functions on this machine, stopped and told that it is a clone: the id of
 * `identity` is another afterwards, that of `identity-twin` is not, and what runs in between is nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/function/generation.h"
#include "agent/proto/errors.h"
#include "agent/resume.h"
#include "tests/unit/agent/host.h"
#include "tests/unit/agent/snapshot_talk.h"

static int identity_set_up(void **state)
{
    return host_set_up_with(state, "identity", "");
}

static int twin_set_up(void **state)
{
    return host_set_up_with(state, "identity-twin", "");
}

/* Ask `identity` for its answer: the line after `name`. */
static void ask(struct talk *talk, const char *name, char value[128])
{
    char answer[1024];
    talk_invoke(talk, "who", "tell me", 10000);
    const size_t size = talk_answer(talk, "who", answer, sizeof answer - 1, NULL);
    answer[size] = '\0';
    const char *at = strstr(answer, name);
    assert_non_null(at);
    assert_int_equal(sscanf(at + strlen(name), " %127s", value), 1);
}

static void checkpoint(struct talk *talk)
{
    ask_checkpoint(talk, 10000);
    expect_quiesced(talk, NULL, "");
}

static void resume(struct talk *talk, uint64_t generation)
{
    static const char *const names[] = {"entropy", "clock",       "sockets",    "identity", "network",
                                        "secrets", "connections", "generation", "thaw",     "hooks"};
    ask_resume(talk, generation, 10000);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect_step(talk, names[i], false);
    expect_resumed(talk, NULL, "");
}

static void id_is_another_in_a_clone(void **state)
{
    struct talk *talk = dial_ready(*state);
    char before[128], again[128], after[128], restored[128], random[2][128];
    ask(talk, "id", before);
    ask(talk, "id", again);
    assert_string_equal(before, again);
    ask(talk, "restored", restored);
    assert_string_equal(restored, "0");
    ask(talk, "random", random[0]);
    checkpoint(talk);
    hang_up(talk);
    talk = dial_ready(*state);
    resume(talk, 7);
    ask(talk, "id", after);
    assert_string_not_equal(before, after);
    ask(talk, "restored", restored);
    assert_string_equal(restored, "7");
    ask(talk, "random", random[1]);
    assert_string_not_equal(random[0], random[1]);
    checkpoint(talk); /* of the clone */
    resume(talk, 8);
    ask(talk, "id", before);
    assert_string_not_equal(before, after);
    ask(talk, "served", restored);
    assert_string_equal(restored, "9"); /* the same process all along */
    hang_up(talk);
}

static void twin_keeps_its_id(void **state)
{
    struct talk *talk = dial_ready(*state);
    char before[128], after[128];
    ask(talk, "id", before);
    checkpoint(talk);
    resume(talk, 7);
    ask(talk, "id", after);
    assert_string_equal(before, after);
    hang_up(talk);
}

static void events_wait_for_the_resume(void **state)
{
    struct talk *host = dial_ready(*state), *client = dial_ready(*state);
    char answer[1024];
    checkpoint(host);
    talk_invoke(client, "early", "x", 10000);
    resume(host, 7);
    assert_true(talk_answer(client, "early", answer, sizeof answer, NULL) > 0);
    hang_up(host);
    hang_up(client);
}

static void page_and_secrets_are_those_of_the_clone(void **state)
{
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    char path[160], text[64] = "";
    struct generation_page page;
    (void)snprintf(path, sizeof path, "%s/generation", host->directory);
    static uint8_t file[GENERATION_FILE_BYTES];
    assert_int_equal(fd_read_file(path, file, sizeof file), sizeof file);
    memcpy(&page, file, sizeof page);
    const uint64_t first = page.generation;
    assert_true(first > 0);
    checkpoint(talk);
    give_secret(talk, "token", "s3cret");
    resume(talk, first + 5);
    assert_int_equal(fd_read_file(path, file, sizeof file), sizeof file);
    memcpy(&page, file, sizeof page);
    assert_int_equal(page.generation, first + 5);
    assert_int_equal(page.futex, first + 5);
    assert_memory_equal(page.clone_id, "fedcba9876543210", sizeof page.clone_id);
    (void)snprintf(path, sizeof path, "%s/secrets/token", host->directory);
    assert_int_equal(fd_read_file(path, text, sizeof text), 6);
    assert_string_equal(text, "s3cret");
    checkpoint(talk);
    assert_int_equal(fd_read_file(path, text, sizeof text), -ENOENT); /* not into the next snapshot */
    hang_up(talk);
}

static void frozen_function_can_be_shut_down(void **state)
{
    struct host *host = *state;
    struct talk *talk = dial_ready(host);
    checkpoint(talk);
    talk_shutdown(talk);
    assert_int_equal(agent_end(host), 0);
    hang_up(talk);
}

int main(void)
{
    if (host_find_programs() < 0)
        return 1;
#define WITH(test, set_up) cmocka_unit_test_setup_teardown(test, set_up, host_tear_down)
    const struct CMUnitTest tests[] = {
        WITH(id_is_another_in_a_clone, identity_set_up),
        WITH(twin_keeps_its_id, twin_set_up),
        WITH(events_wait_for_the_resume, identity_set_up),
        WITH(page_and_secrets_are_those_of_the_clone, identity_set_up),
        WITH(frozen_function_can_be_shut_down, identity_set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
