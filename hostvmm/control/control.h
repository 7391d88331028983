/*
 * The subcommands of hostvmm that talk to a running VM or look at this machine; main.c dispatches to them.
 * `argv[0]` is the subcommand's name. Each returns the process's exit code (hostvmm/exit.h).
 */
#ifndef HOSTVMM_CONTROL_CONTROL_H
#define HOSTVMM_CONTROL_CONTROL_H

int control_invoke_main(int argc, char **argv);
int control_doctor_main(int argc, char **argv);

#endif
