/*
 * libFuzzer target: the table of a function's connections between a function that connects, asks, writes and
 * leaves as it likes, and servers that open, fail, speak and end as they like; snapshots are taken at any
 * moment between. Upstreams are in memory (tests/unit/tls/fake_upstream.h).
 *
 * What is checked beside memory safety: one function's connection never has its bytes on another's upstream;
 * the question at the door is answered by one line, or not at all; a drain comes to its end; nothing is kept
 * when all have left.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/cursor.h"
#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/tls/connections.h"
#include "agent/tls/manifest.h"
#include "tests/unit/tls/fake_upstream.h"

#define LOCALS      6
#define FAKES_MAX   100 /* of one run; each holds memory */
#define TURNS_MAX   400
#define GIVE_BYTES  512
#define MANIFEST    "[orders]\nhost = orders.test\npool = 1\n[plain]\nhost = plain.test\npool = 0\n"
#define DRAIN_TICKS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct local_end {
    int fd; /* -1: none */
    uint8_t mark;
};

static char root[48], directory[64];
static struct loop loop;
static struct connections *table;
static struct local_end locals[LOCALS];
static uint8_t next_mark;
static bool raw; /* the function said what is not a mark */
static unsigned drains, drained;

static void remove_directory(void)
{
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", root);
    (void)!system(command); /* NOLINT(cert-env33-c): a name of our own */
}

static void prepare(void)
{
    char path[80];
    (void)snprintf(root, sizeof root, "/tmp/fuzz-connections.XXXXXX");
    if (!mkdtemp(root))
        abort();
    (void)atexit(remove_directory);
    (void)snprintf(directory, sizeof directory, "%s/run", root);
    (void)snprintf(path, sizeof path, "%s/" MANIFEST_FILE, root);
    FILE *file = fopen(path, "w");
    if (!file || fputs(MANIFEST, file) < 0 || fclose(file))
        abort();
}

static void turn(struct cursor *in)
{
    (void)in;
    for (unsigned i = 0; i < TURNS_MAX; i++) {
        const int batch = loop_run_once(&loop, 0);
        if (batch < 0)
            abort();
        if (batch == 0)
            return;
    }
}

/* ---- the function ---- */

static void open_local(struct local_end *local, uint8_t how)
{
    static const char *const names[] = {CONNECTIONS_ASK, "orders", "plain", CONNECTIONS_ASK};
    static const char *const questions[] = {"orders\n", "plain\n", "ord", "nobody\n"};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", directory, names[how & 3u]);
    local->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connect(local->fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        fd_close(&local->fd);
        return;
    }
    local->mark = next_mark++;
    if (names[how & 3u][0] == '.' && !(how & 32u)) {
        const char *question = questions[how >> 2 & 3u];
        (void)send(local->fd, question, strlen(question), MSG_NOSIGNAL);
        raw = raw || (how >> 2 & 3u) == 2; /* what follows a name cut short is a part of it */
    } else if (names[how & 3u][0] == '.') {
        raw = true;
    }
}

static void function_step(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    struct local_end *local = &locals[(how >> 3) % LOCALS];
    uint8_t bytes[64];
    const size_t size = (size_t)cursor_get_le(in, 1) % sizeof bytes;
    if (local->fd < 0) {
        open_local(local, (uint8_t)cursor_get_le(in, 1));
        return;
    }
    switch (how & 7u) {
    case 0:
    case 1:
    case 2:
        memset(bytes, local->mark, sizeof bytes);
        (void)send(local->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        break;
    case 3: {
        const uint8_t *from = cursor_take(in, size);
        if (from && size > 0 && send(local->fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            raw = true;
        break;
    }
    case 4:
        (void)shutdown(local->fd, SHUT_WR);
        break;
    case 5:
        fd_close(&local->fd);
        break;
    default:
        (void)recv(local->fd, bytes, size, MSG_DONTWAIT);
        break;
    }
}

/* ---- the servers ---- */

static void server_step(struct cursor *in)
{
    static const uint8_t bytes[GIVE_BYTES];
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    if (fake_count == 0)
        return;
    struct fake *of = &fakes[fake_count - 1 - (how >> 3) % fake_count];
    if (!of->upstream || of->held || of->abandoned)
        return;
    const bool open = of->upstream->state == UPSTREAM_OPEN;
    switch (how & 7u) {
    case 0:
    case 1:
        if (of->upstream->state == UPSTREAM_CONNECTING)
            fake_open(of);
        break;
    case 2:
        if (open || of->upstream->state == UPSTREAM_CONNECTING)
            fake_fail(of, -ECONNRESET, "fuzz\nfailure");
        break;
    case 3:
    case 4:
        if (open && of->given_end + GIVE_BYTES <= FAKE_BYTES)
            fake_give(of, bytes, 1 + (size_t)cursor_get_le(in, 1) * 2);
        break;
    case 5:
        if (open)
            fake_end(of);
        break;
    case 6:
        if (of->closed && of->upstream->state == UPSTREAM_CLOSING)
            fake_closed(of);
        break;
    default:
        of->noisy = (how & 64u) != 0;
        of->room = how & 128u ? 16 : FAKE_BYTES - of->sent_size;
        break;
    }
}

/* ---- snapshots ---- */

static void on_drained(void *context)
{
    (void)context;
    if (++drained > drains)
        abort();
}

static void snapshot(struct cursor *in)
{
    const uint8_t how = (uint8_t)cursor_get_le(in, 1);
    char why[CONNECTIONS_WHY_BYTES] = "";
    drains++;
    const int error =
        connections_drain(table, how & 1u ? 0 : clock_monotonic_ns() + 1000000, on_drained, NULL);
    if (error == 0)
        drains--;
    else if (error != -EINPROGRESS)
        abort();
    for (unsigned i = 0; i < TURNS_MAX && drained < drains; i++)
        if (loop_run_once(&loop, DRAIN_TICKS) < 0)
            abort();
    if (drained != drains)
        abort();
    if (how & 2u)
        connections_forget(table);
    if (how & 4u && connections_renew(table, NULL, 0, why) < 0 && !why[0])
        abort();
    connections_undrain(table);
}

/* ---- one run ---- */

/* What one upstream was given came from one end. */
static void check(void)
{
    for (int i = 0; i < fake_count && !raw; i++)
        for (size_t j = 1; j < fakes[i].sent_size; j++)
            if (fakes[i].sent[j] != fakes[i].sent[0])
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const steps[])(struct cursor *) = {function_step, server_step, turn, function_step,
                                                     server_step,   turn,        turn, snapshot};
    uint8_t script[512];
    char why[CONNECTIONS_WHY_BYTES] = "";
    if (size > sizeof script)
        return -1;
    if (!root[0])
        prepare();
    log_setup("fuzz", LOG_LEVEL_ERROR, -1);
    memcpy(script, data, size);
    memset(locals, 0xff, sizeof locals);
    next_mark = 1;
    drains = drained = 0;
    raw = false;
    table = connections_get();
    if (loop_init(&loop) < 0 ||
        connections_begin(table, &loop, root, directory, geteuid(), getegid(), why) < 0)
        abort();
    struct cursor in = cursor_over(script, size);
    fake_answers_close = !(cursor_get_le(&in, 1) & 1u);
    while (cursor_left(&in) > 0 && fake_count < FAKES_MAX)
        steps[cursor_get_le(&in, 1) % (sizeof steps / sizeof steps[0])](&in);
    turn(&in);
    check();
    for (unsigned i = 0; i < LOCALS; i++)
        fd_close(&locals[i].fd);
    connections_fini(table);
    if (fake_alive() != 0)
        abort();
    fake_reset();
    loop_fini(&loop);
    return 0;
}
