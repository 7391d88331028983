/* See fake_upstream.h. */
#include "tests/unit/tls/fake_upstream.h"

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fake fakes[FAKE_MAX];
int fake_count, fake_begin_error, fake_stack_wipes;
bool fake_gives_sessions = true, fake_answers_close = true, fake_trust_fails;

static struct fake *find(const struct upstream *upstream)
{
    for (int i = fake_count - 1; i >= 0; i--)
        if (fakes[i].upstream == upstream)
            return &fakes[i];
    return NULL;
}

void fake_reset(void)
{
    for (int i = 0; i < fake_count; i++) {
        assert_null(fakes[i].upstream); /* all were given back */
        free(fakes[i].sent);
        free(fakes[i].given);
    }
    memset(fakes, 0, sizeof fakes);
    fake_count = fake_begin_error = fake_stack_wipes = 0;
    fake_gives_sessions = fake_answers_close = true;
    fake_trust_fails = false;
}

int fake_alive(void)
{
    int count = 0;
    for (int i = 0; i < fake_count; i++)
        count += !fakes[i].fini;
    return count;
}

static void tell(struct fake *fake)
{
    fake->upstream->changed(fake->upstream->context, fake->upstream);
}

/* ---- the server ------------------------------------------------------------------------------------ */

void fake_open(struct fake *fake)
{
    assert_non_null(fake->upstream);
    assert_false(fake->held);
    if (fake_gives_sessions)
        fake->upstream->plan->sessions->has_last = true;
    fake->upstream->state = UPSTREAM_OPEN;
    tell(fake);
}

void fake_fail(struct fake *fake, int error, const char *why)
{
    fake->upstream->state = UPSTREAM_FAILED;
    fake->upstream->error = error;
    (void)snprintf(fake->upstream->why, sizeof fake->upstream->why, "%s", why);
    tell(fake);
}

void fake_give(struct fake *fake, const void *data, size_t size)
{
    assert_true(fake->given_end + size <= FAKE_BYTES);
    memcpy(fake->given + fake->given_end, data, size);
    fake->given_end += size;
    tell(fake);
}

void fake_end(struct fake *fake)
{
    fake->upstream->peer_ended = true;
    fake->upstream->state = UPSTREAM_CLOSED;
    tell(fake);
}

void fake_closed(struct fake *fake)
{
    assert_true(fake->closed);
    fake_end(fake);
}

void fake_add_room(struct fake *fake, size_t room)
{
    fake->room += room;
    tell(fake);
}

/* ---- upstream.h ------------------------------------------------------------------------------------ */

static int begin(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                 upstream_changed *changed, void *context, bool held)
{
    assert_true(fake_count < FAKE_MAX);
    assert_int_equal(upstream->state, UPSTREAM_NONE);
    struct fake *fake = &fakes[fake_count++];
    *upstream = (struct upstream){
        .state = UPSTREAM_CONNECTING, .loop = loop, .plan = plan, .changed = changed, .context = context};
    *fake = (struct fake){.upstream = upstream,
                          .name = plan->connection->name,
                          .held = held,
                          .resumes = !held && plan->sessions->has_last,
                          .room = FAKE_BYTES,
                          .sent = malloc(FAKE_BYTES),
                          .given = malloc(FAKE_BYTES)};
    if (fake_begin_error == 0)
        return 0;
    upstream->state = UPSTREAM_FAILED;
    upstream->error = fake_begin_error;
    (void)snprintf(upstream->why, sizeof upstream->why, "could not begin");
    return fake_begin_error;
}

int upstream_begin(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                   upstream_changed *changed, void *context)
{
    return begin(upstream, loop, plan, changed, context, false);
}

int upstream_begin_held(struct upstream *upstream, struct loop *loop, const struct upstream_plan *plan,
                        upstream_changed *changed, void *context)
{
    return begin(upstream, loop, plan, changed, context, true);
}

void upstream_release(struct upstream *upstream)
{
    struct fake *fake = find(upstream);
    assert_false(fake->abandoned);
    fake->held = false;
    fake->resumes = upstream->plan->sessions->has_last;
}

int64_t upstream_write(struct upstream *upstream, const void *data, size_t size)
{
    struct fake *fake = find(upstream);
    assert_false(fake->abandoned);
    if (upstream->state != UPSTREAM_OPEN)
        return -EPIPE;
    const size_t taken = size < fake->room ? size : fake->room;
    assert_true(fake->sent_size + taken <= FAKE_BYTES);
    memcpy(fake->sent + fake->sent_size, data, taken);
    fake->sent_size += taken;
    fake->room -= taken;
    return (int64_t)taken;
}

void upstream_flush(struct upstream *upstream)
{
    assert_non_null(find(upstream));
}

const void *upstream_peek(struct upstream *upstream, size_t *size)
{
    const struct fake *fake = find(upstream);
    *size = fake->given_end - fake->given_start;
    return *size > 0 ? fake->given + fake->given_start : NULL;
}

void upstream_drop(struct upstream *upstream, size_t size)
{
    struct fake *fake = find(upstream);
    assert_true(size <= fake->given_end - fake->given_start);
    fake->given_start += size;
}

bool upstream_is_quiet(struct upstream *upstream)
{
    return !find(upstream)->noisy;
}

void upstream_close(struct upstream *upstream)
{
    struct fake *fake = find(upstream);
    assert_int_equal(upstream->state, UPSTREAM_OPEN);
    assert_false(fake->abandoned);
    fake->closed = true;
    upstream->state = UPSTREAM_CLOSING;
    if (!fake_answers_close)
        return;
    upstream->state = UPSTREAM_CLOSED;
    tell(fake); /* from within, which the owner must bear */
}

void upstream_abandon(struct upstream *upstream)
{
    find(upstream)->abandoned = true;
    upstream->state = UPSTREAM_FAILED;
}

void upstream_fini(struct upstream *upstream)
{
    struct fake *fake = find(upstream);
    if (!fake)
        return;
    fake->fini = true;
    fake->fini_in_order = upstream->state == UPSTREAM_CLOSED;
    fake->upstream = NULL;
    memset(upstream, 0, sizeof *upstream);
}

void upstream_sessions_clear(struct upstream_sessions *sessions)
{
    memset(sessions, 0, sizeof *sessions);
}

void upstream_wipe_stack(void)
{
    fake_stack_wipes++;
}

/* ---- credentials.h --------------------------------------------------------------------------------- */

void credentials_init(struct credentials *credentials)
{
    memset(credentials, 0, sizeof *credentials);
}

int credentials_load_trust(struct credentials *credentials, const char *path, char *why)
{
    (void)credentials;
    if (fake_trust_fails)
        (void)snprintf(why, CREDENTIALS_WHY_BYTES, "%s: no certificate in it", path);
    return fake_trust_fails ? -EBADMSG : 0;
}

int credentials_load_revoked(struct credentials *credentials, const char *path, char *why)
{
    return credentials_load_trust(credentials, path, why);
}

int credentials_load_chain(struct credentials *credentials, const char *path, char *why)
{
    return credentials_load_trust(credentials, path, why);
}

int credentials_set_key(struct credentials *credentials, const void *pem, size_t size, char *why)
{
    credentials_drop_key(credentials);
    if (size < 3 || memcmp(pem, "bad", 3) == 0) {
        (void)snprintf(why, CREDENTIALS_WHY_BYTES, "not a private key");
        return -EBADMSG;
    }
    credentials->key = calloc(1, sizeof *credentials->key);
    return 0;
}

void credentials_drop_key(struct credentials *credentials)
{
    free(credentials->key);
    credentials->key = NULL;
}

void credentials_fini(struct credentials *credentials)
{
    credentials_drop_key(credentials);
}
