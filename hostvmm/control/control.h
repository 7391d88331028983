/*
 * The subcommands of hostvmm that talk to a running VM or look at this machine; main.c dispatches to them.
 * `argv[0]` is the subcommand's name. Each returns the process's exit code.
 *
 *   hostvmm invoke: see invoke.c for the options, enum control_exit for the codes
 *   hostvmm doctor: CONTROL_EXIT_OK when VMs can run here, directly or through the emulated host; else
 *   CONTROL_EXIT_FAILED
 */
#ifndef HOSTVMM_CONTROL_CONTROL_H
#define HOSTVMM_CONTROL_CONTROL_H

/* The values are part of the command line's contract, in step with hostvmm/exit.h. */
enum control_exit {
    CONTROL_EXIT_OK = 0,     /* answered */
    CONTROL_EXIT_FAILED = 1, /* no connection, the guest went away, a protocol error, or output not written */
    CONTROL_EXIT_USAGE = 2,  /* the command line */
    CONTROL_EXIT_EVENT = 3,  /* the event cannot be read or is too large */
    CONTROL_EXIT_FUNCTION = 6,  /* the function failed: its error object is on standard error */
    CONTROL_EXIT_TIMED_OUT = 7, /* no answer in time: from the function, or from the guest */
};

int control_invoke_main(int argc, char **argv);
int control_doctor_main(int argc, char **argv);

#endif
