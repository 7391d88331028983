/* See fake_connections.h. */
#include "tests/unit/agent/fake_connections.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct fake_connections fake_connections;

static void note(char call)
{
    const size_t size = strlen(fake_connections.calls);
    if (size + 1 < sizeof fake_connections.calls)
        fake_connections.calls[size] = call;
}

void fake_drained(void)
{
    fake_connections.drained(fake_connections.context);
}

struct connections *connections_get(void)
{
    return NULL;
}

int connections_begin(struct connections *connections, struct loop *loop, const char *function_directory,
                      const char *directory, uid_t user, gid_t group, char *why)
{
    (void)connections;
    (void)loop;
    (void)function_directory;
    (void)directory;
    (void)user;
    (void)group;
    note('b');
    if (!fake_connections.begin_why)
        return 0;
    (void)snprintf(why, CONNECTIONS_WHY_BYTES, "%s", fake_connections.begin_why);
    return -EINVAL;
}

bool connections_are_wanted(const struct connections *connections)
{
    (void)connections;
    return fake_connections.wanted;
}

int connections_drain(struct connections *connections, uint64_t deadline_ns, connections_drained *drained,
                      void *context)
{
    (void)connections;
    note('d');
    fake_connections.drain_deadline_ns = deadline_ns;
    fake_connections.drained = drained;
    fake_connections.context = context;
    return fake_connections.drains_late ? -EINPROGRESS : 0;
}

void connections_undrain(struct connections *connections)
{
    (void)connections;
    note('u');
}

void connections_forget(struct connections *connections)
{
    (void)connections;
    note('f');
}

void connections_abandon(struct connections *connections)
{
    (void)connections;
    note('a');
}

void connections_fini(struct connections *connections)
{
    (void)connections;
    note('x');
}
