/*
 * A function that counts processors: it moves to each one it may use, makes sure that it got there, and
 * answers how many that were. With the event "all" it does so in one thread per processor at once.
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/function/function.h"

#define CPUS_MAX 64
#define TRIES    1000000u

struct visit {
    pthread_t thread;
    int cpu;
    bool arrived;
};

static bool go_to(int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one))
        return false;
    for (unsigned i = 0; i < TRIES; i++)
        if (sched_getcpu() == cpu)
            return true;
    return false;
}

static void *visit_one(void *context)
{
    struct visit *visit = context;
    visit->arrived = go_to(visit->cpu);
    return NULL;
}

/* A thread for each: they run side by side, and none is left out. */
static unsigned visit_all(const cpu_set_t *allowed)
{
    struct visit visits[CPUS_MAX];
    unsigned count = 0;
    unsigned arrived = 0;
    for (int cpu = 0; cpu < CPUS_MAX; cpu++) {
        if (!CPU_ISSET((size_t)cpu, allowed))
            continue;
        visits[count] = (struct visit){.cpu = cpu};
        if (pthread_create(&visits[count].thread, NULL, visit_one, &visits[count]) == 0)
            count++;
    }
    for (unsigned i = 0; i < count; i++) {
        (void)pthread_join(visits[i].thread, NULL);
        arrived += visits[i].arrived;
    }
    return arrived;
}

static int handle(void *context, const struct function_event *event, struct function_reply *reply)
{
    (void)context;
    cpu_set_t allowed;
    unsigned arrived = 0;
    char text[16];
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return 1;
    if (event->size == 3 && memcmp(event->data, "all", 3) == 0) {
        arrived = visit_all(&allowed);
    } else {
        for (int cpu = 0; cpu < CPUS_MAX; cpu++)
            arrived += CPU_ISSET((size_t)cpu, &allowed) && go_to(cpu);
        (void)sched_setaffinity(0, sizeof allowed, &allowed);
    }
    const int size = snprintf(text, sizeof text, "%u", arrived);
    return function_reply_write(reply, text, (size_t)size);
}

int main(void)
{
    static const struct function function = {.handle = handle};
    return function_run(&function);
}
