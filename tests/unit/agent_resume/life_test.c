/*
 * A life on a development machine: the generation page as those see it who poll, wait and watch; secrets as
 * files; what is forgotten; the texts of an identity. The clock, the pool and the names of the machine that
 * runs this test stay as they are.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/fd.h"
#include "agent/facts.h"
#include "agent/function/generation.h"
#include "agent/resume/parts.h"

static char directory[64], page_path[96], secrets_path[96];
static char why[RESUME_WHY_BYTES];
static struct resume_secret secrets[2];

static int begin(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/resume-life.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    (void)snprintf(page_path, sizeof page_path, "%s/generation", directory);
    (void)snprintf(secrets_path, sizeof secrets_path, "%s/secrets", directory);
    const struct resume_places places = {.generation = page_path, .secrets = secrets_path};
    memset(secrets, 0, sizeof secrets);
    return resume_begin_life(resume_get(), &places, 0);
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *walk)
{
    (void)about, (void)kind, (void)walk;
    return remove(path);
}

static int end(void **state)
{
    (void)state;
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static int run(const char *name, const struct resume_order *order)
{
    for (const struct resume_step *step = resume_steps; step->name; step++)
        if (strcmp(step->name, name) == 0)
            return step->run(resume_get(), order, why);
    fail_msg("no step %s", name);
    return -1;
}

static const struct generation_page *map(void)
{
    int fd = open(page_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    const void *page = mmap(NULL, GENERATION_FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(page, MAP_FAILED);
    fd_close(&fd);
    return page;
}

static void unmap(const struct generation_page *page)
{
    munmap((void *)(uintptr_t)page, GENERATION_FILE_BYTES);
}

/* ---- the generation page ---- */

static void the_first_life_has_a_generation_and_a_page_to_read(void **state)
{
    (void)state;
    struct stat about;
    const struct generation_page *page = map();
    assert_int_equal(stat(page_path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0444);
    assert_int_equal(about.st_size, GENERATION_FILE_BYTES);
    assert_int_equal(page->generation, 1);
    assert_int_equal(page->futex, 1);
    assert_memory_equal(&page->magic, "RKGN", 4);
    assert_int_equal(resume_generation(resume_get()), 1);
    unmap(page);
}

static void a_resume_shows_in_a_mapping(void **state)
{
    (void)state;
    const struct resume_order order = {.generation = UINT64_C(0x500000007), .clone_id = "fifteen letters"};
    const struct generation_page *page = map();
    assert_int_equal(run("generation", &order), 0);
    assert_true(page->generation == UINT64_C(0x500000007));
    assert_int_equal(page->futex, 7);
    assert_memory_equal(page->clone_id, "fifteen letters", 16);
    unmap(page);
}

static void the_counter_only_grows(void **state)
{
    (void)state;
    struct resume_order order = {.generation = 8};
    assert_int_equal(run("generation", &order), 0);
    for (uint64_t wanted = 9; wanted < 12; wanted++) {
        assert_int_equal(run("generation", &order), 0);
        assert_int_equal(resume_generation(resume_get()), wanted);
    }
}

static void *wait_for_change(void *context)
{
    const struct generation_page *page = context;
    while (__atomic_load_n(&page->generation, __ATOMIC_ACQUIRE) == 1)
        syscall(SYS_futex, &page->futex, FUTEX_WAIT, 1, NULL, NULL, 0);
    return NULL;
}

static void who_waits_on_the_futex_word_is_woken(void **state)
{
    (void)state;
    const struct resume_order order = {.generation = 2};
    const struct generation_page *page = map();
    struct timespec limit;
    pthread_t waiter;
    assert_int_equal(pthread_create(&waiter, NULL, wait_for_change, (void *)(uintptr_t)page), 0);
    assert_int_equal(run("generation", &order), 0);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 10;
    assert_int_equal(pthread_timedjoin_np(waiter, NULL, &limit), 0);
    unmap(page);
}

static void who_watches_the_file_gets_an_event(void **state)
{
    (void)state;
    const struct resume_order order = {.generation = 2};
    struct inotify_event event;
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    assert_true(inotify_add_watch(watch, page_path, IN_MODIFY) >= 0);
    assert_int_equal(run("generation", &order), 0);
    assert_int_equal(read(watch, &event, sizeof event), sizeof event);
    assert_int_equal(event.mask, IN_MODIFY);
    fd_close(&watch);
}

static void a_place_that_does_not_exist_is_named(void **state)
{
    (void)state;
    struct resume_page page;
    assert_int_equal(resume_page_open(&page, "/nowhere/generation", 1, why), -ENOENT);
    assert_non_null(strstr(why, "/nowhere/generation"));
    assert_int_equal(resume_page_write(&page, 2, (const uint8_t *)"0123456789abcdef", why), -ENODEV);
}

/* ---- secrets ---- */

static void secret(unsigned at, const char *name, const char *text)
{
    (void)snprintf(secrets[at].name, sizeof secrets[at].name, "%s", name);
    secrets[at].size = strlen(text);
    memcpy(secrets[at].data, text, secrets[at].size);
}

static unsigned files(void)
{
    unsigned count = 0;
    DIR *listing = opendir(secrets_path);
    for (const struct dirent *entry; listing && (entry = readdir(listing));)
        count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    if (listing)
        closedir(listing);
    return count;
}

static void names_of_secrets(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "A-b_c.9", "token..", "-"};
    static const char *const bad[] = {"", ".", "..", ".hidden", "a/b", "a b", "\xc3\xa4", "a\n"};
    char longest[PROTO_NAME_MAX_BYTES + 2];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(resume_secret_name_is_good(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(resume_secret_name_is_good(bad[i]));
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_false(resume_secret_name_is_good(longest));
    assert_true(resume_secret_name_is_good(longest + 1));
}

static void secrets_are_files_until_the_next_ones_come(void **state)
{
    (void)state;
    const struct resume_order order = {.secrets = secrets, .secret_count = 2};
    char path[128], text[32] = "";
    struct stat about;
    secret(0, "one", "first");
    secret(1, "two", "");
    assert_int_equal(run("secrets", &order), 0);
    (void)snprintf(path, sizeof path, "%s/one", secrets_path);
    assert_int_equal(fd_read_file(path, text, sizeof text), 5);
    assert_string_equal(text, "first");
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0440);
    assert_int_equal(stat(secrets_path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0710);
    secret(0, "three", "3");
    assert_int_equal(run("secrets", &order), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(files(), 2);
}

static void a_bad_name_leaves_the_old_secrets(void **state)
{
    (void)state;
    const struct resume_order order = {.secrets = secrets, .secret_count = 2};
    secret(0, "one", "1");
    secret(1, "two", "2");
    assert_int_equal(run("secrets", &order), 0);
    secret(1, "../two", "2");
    assert_int_equal(run("secrets", &order), -EINVAL);
    assert_int_equal(files(), 2);
}

static void what_is_no_secret_of_ours_fails_the_step_by_name(void **state)
{
    (void)state;
    const struct resume_order order = {.secrets = secrets, .secret_count = 1};
    char path[128];
    secret(0, "one", "1");
    (void)snprintf(path, sizeof path, "%s/intruder", secrets_path);
    assert_int_equal(mkdir(secrets_path, 0700), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(run("secrets", &order) < 0);
    assert_non_null(strstr(why, "intruder"));
}

static void an_open_secret_reads_as_zeros_once_it_is_gone(void **state)
{
    (void)state;
    const struct resume_order order = {.secrets = secrets, .secret_count = 1};
    char path[128], text[4] = "";
    secret(0, "key", "abc");
    assert_int_equal(run("secrets", &order), 0);
    (void)snprintf(path, sizeof path, "%s/key", secrets_path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(resume_forget(resume_get(), why), 0);
    assert_int_equal(files(), 0);
    assert_int_equal(pread(fd, text, 3, 0), 3);
    if (geteuid() == 0) /* another user cannot open its own file of mode 0440 to overwrite it */
        assert_memory_equal(text, "\0\0\0", 3);
    fd_close(&fd);
}

/* ---- identity, facts ---- */

static void texts_of_an_identity(void **state)
{
    (void)state;
    static const uint8_t random[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                       0xff, 0xff, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55};
    char text[RESUME_BOOT_ID_BYTES + 1];
    resume_machine_id_text(text, random);
    assert_string_equal(text, "0123456789abcdefffff001122334455\n");
    resume_boot_id_text(text, random);
    assert_string_equal(text, "01234567-89ab-4def-bfff-001122334455\n");
}

static unsigned facts;
static uint8_t generator[32];

static void take_fact(void *context, struct proto_slice name, struct proto_slice body)
{
    (void)context;
    facts++;
    assert_true(body.size <= PROTO_FACT_MAX_BYTES);
    if (name.size == 4 && memcmp(name.data, "drbg", 4) == 0) {
        assert_int_equal(body.size, sizeof generator);
        assert_memory_not_equal(body.data, generator, sizeof generator);
        memcpy(generator, body.data, sizeof generator);
    }
}

static void facts_are_told_but_not_of_a_generator_that_has_forgotten(void **state)
{
    (void)state;
    const struct resume_order order = {.seed = {1}};
    assert_int_equal(facts_collect(take_fact, NULL, why), 0);
    assert_true(facts >= 9);
    assert_int_equal(resume_forget(resume_get(), why), 0);
    assert_int_equal(facts_collect(take_fact, NULL, why), -EAGAIN);
    assert_non_null(strstr(why, "generator"));
    assert_int_equal(run("entropy", &order), 0);
    assert_int_equal(facts_collect(take_fact, NULL, why), 0);
}

static void the_machine_that_runs_this_is_left_alone(void **state)
{
    (void)state;
    const struct resume_order order = {.realtime_ns = 1, .hostname = "not-this-one"};
    char name[65] = "";
    assert_int_equal(run("clock", &order), 0);
    assert_int_equal(run("sockets", &order), 0);
    assert_int_equal(run("identity", &order), 0);
    assert_int_equal(gethostname(name, sizeof name - 1), 0);
    assert_string_not_equal(name, "not-this-one");
    assert_true(time(NULL) > 1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_life_has_a_generation_and_a_page_to_read, begin, end),
        cmocka_unit_test_setup_teardown(a_resume_shows_in_a_mapping, begin, end),
        cmocka_unit_test_setup_teardown(the_counter_only_grows, begin, end),
        cmocka_unit_test_setup_teardown(who_waits_on_the_futex_word_is_woken, begin, end),
        cmocka_unit_test_setup_teardown(who_watches_the_file_gets_an_event, begin, end),
        cmocka_unit_test_setup_teardown(a_place_that_does_not_exist_is_named, begin, end),
        cmocka_unit_test(names_of_secrets),
        cmocka_unit_test_setup_teardown(secrets_are_files_until_the_next_ones_come, begin, end),
        cmocka_unit_test_setup_teardown(a_bad_name_leaves_the_old_secrets, begin, end),
        cmocka_unit_test_setup_teardown(what_is_no_secret_of_ours_fails_the_step_by_name, begin, end),
        cmocka_unit_test_setup_teardown(an_open_secret_reads_as_zeros_once_it_is_gone, begin, end),
        cmocka_unit_test(texts_of_an_identity),
        cmocka_unit_test_setup_teardown(facts_are_told_but_not_of_a_generator_that_has_forgotten, begin, end),
        cmocka_unit_test_setup_teardown(the_machine_that_runs_this_is_left_alone, begin, end),
    };
    return cmocka_run_group_tests_name("resume", tests, NULL, NULL);
}
