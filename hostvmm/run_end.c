/* How a guest's end becomes hostvmm's exit code: exit.h. */
#include "agent/base/log.h"
#include "hostvmm/exit.h"
#include "hostvmm/run.h"

static int powered_off(enum guest_exit reason)
{
    static const char *const texts[] = {
        [GUEST_EXIT_NO_ROOT] = "no root: its device is missing or holds no file system it knows",
        [GUEST_EXIT_NO_OVERLAY] = "its writable overlay could not be mounted",
        [GUEST_EXIT_NO_AGENT] = "its image has no agent that can be executed",
        [GUEST_EXIT_AGENT_GAVE_UP] = "its agent ended more often than it may",
        [GUEST_EXIT_INIT_FAILED] = "init could not go on",
    };
    if (reason == GUEST_EXIT_ORDERLY)
        return HOSTVMM_EXIT_OK;
    log_error("the guest powered off: %s; its console says more", texts[reason]);
    return HOSTVMM_EXIT_GUEST + (int)reason;
}

int run_exit_code(const struct machine *machine, int stop_signal)
{
    switch ((enum vm_end)machine->vm.end) {
    case VM_END_POWER_OFF:
        return powered_off(lifecycle_reason(&machine->lifecycle));
    case VM_END_RESET:
        log_error("the guest reset itself: a panic or a reboot; its console says more");
        return HOSTVMM_EXIT_RESET;
    case VM_END_CRASH:
        log_error("the guest crashed");
        return HOSTVMM_EXIT_RESET;
    case VM_END_KVM:
        return HOSTVMM_EXIT_KVM;
    case VM_END_STOPPED:
        return stop_signal ? HOSTVMM_EXIT_SIGNAL + stop_signal : HOSTVMM_EXIT_HOST;
    case VM_END_NONE:
        break;
    }
    return HOSTVMM_EXIT_HOST;
}
