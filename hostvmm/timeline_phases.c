/* A boot or a restore as phases, each from one moment to the next that was reached; see timeline.h. */
#include "hostvmm/timeline.h"

struct moment {
    const char *name;
    const char *what;
    uint64_t ns; /* when the phase ended; 0: it did not */
};

static unsigned phases_of(const struct moment *moments, unsigned count, uint64_t from_ns,
                          struct timeline_phase phases[TIMELINE_PHASES_MAX])
{
    unsigned used = 0;
    for (unsigned i = 0; i < count && used < TIMELINE_PHASES_MAX; i++) {
        if (moments[i].ns < from_ns)
            continue;
        phases[used++] = (struct timeline_phase){
            .name = moments[i].name,
            .what = moments[i].what,
            .from_ns = from_ns,
            .duration_ns = moments[i].ns - from_ns,
        };
        from_ns = moments[i].ns;
    }
    return used;
}

unsigned timeline_phases(const struct timeline *timeline, struct timeline_phase phases[TIMELINE_PHASES_MAX])
{
    const uint64_t ready = timeline_stage(timeline, GUEST_STAGE_FUNCTION_READY);
    const struct moment boot[] = {
        {"vmm", "files, VM, devices, kernel into memory", timeline->running_ns},
        {"kernel", "to the first line of init", timeline_stage(timeline, GUEST_STAGE_PID1)},
        {"init", "to a mounted root and the agent's start",
         timeline_stage(timeline, GUEST_STAGE_AGENT_SPAWNED)},
        {"agent", "to where it listens", timeline_stage(timeline, GUEST_STAGE_AGENT_LISTENING)},
        {"function", ready ? "its init" : "its init, which failed",
         ready ? ready : timeline_stage(timeline, GUEST_STAGE_FUNCTION_FAILED)},
    };
    const struct moment restore[] = {
        {"open", "the snapshot is read and checked", timeline->opened_ns},
        {"files", "what the clone is given is opened", timeline->kvm_ns},
        {"vm", "VM, memory and vCPUs are made", timeline->created_ns},
        {"devices", "the devices are made", timeline->built_ns},
        {"load", "the snapshot's state goes in", timeline->running_ns},
        {"reach", "vCPUs run, to a word with the agent", timeline->connected_ns},
        {"unique", "the agent's steps and the function's hooks", timeline->unique_ns},
    };
    return timeline->opened_ns
               ? phases_of(restore, sizeof restore / sizeof restore[0], timeline->start_ns, phases)
               : phases_of(boot, sizeof boot / sizeof boot[0], timeline->start_ns, phases);
}
