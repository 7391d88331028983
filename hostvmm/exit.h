/*
 * hostvmm's exit codes: part of the command line's contract. Scripts and the integration tests rely on them.
 */
#ifndef HOSTVMM_EXIT_H
#define HOSTVMM_EXIT_H

enum hostvmm_exit {
    HOSTVMM_EXIT_OK = 0,        /* the guest powered off in order */
    HOSTVMM_EXIT_HOST = 1,      /* the host failed us: no memory, no /dev/kvm, an unusable socket path, ... */
    HOSTVMM_EXIT_USAGE = 2,     /* the command line */
    HOSTVMM_EXIT_INPUT = 3,     /* a kernel, image, initrd or event that cannot be used as it is */
    HOSTVMM_EXIT_RESET = 4,     /* the guest reset itself or crashed: panic, triple fault */
    HOSTVMM_EXIT_KVM = 5,       /* KVM stopped the guest with an internal error */
    HOSTVMM_EXIT_FUNCTION = 6,  /* invoke: the function answered with an error */
    HOSTVMM_EXIT_TIMED_OUT = 7, /* invoke: no answer in time */
    HOSTVMM_EXIT_RESUME = 8,    /* restore: the clone could not become unique, and was stopped */
    HOSTVMM_EXIT_STATE = 9,     /* control: not while the guest is in this state */
    HOSTVMM_EXIT_GUEST = 10,    /* + enum guest_exit (init/bootargs.h), when it is not GUEST_EXIT_ORDERLY */
    HOSTVMM_EXIT_SIGNAL = 128,  /* + the signal's number: the guest was stopped at once */
};

#endif
