/*
 * The subcommands of hostvmm that talk to a running VM or look at this machine; main.c dispatches to them.
 * `argv[0]` is the subcommand's name. Each returns the process's exit code (hostvmm/exit.h):
 *
 *   invoke  OK answered; HOST no connection, the guest went away, a protocol error, or the answer could not
 * be written; USAGE; INPUT the event cannot be read or is too large; FUNCTION it failed, its error object is
 * on standard error; TIMED_OUT no answer in time, from the function or the guest doctor  OK when VMs can run
 * here, directly or through the emulated host; else HOST; USAGE
 *   snapshot  (with --control) OK it is written; HOST no connection, or it failed there; USAGE; INPUT the
 * parent cannot be used; TIMED_OUT no answer in time
 */
#ifndef HOSTVMM_CONTROL_CONTROL_H
#define HOSTVMM_CONTROL_CONTROL_H

int control_invoke_main(int argc, char **argv);
int control_snapshot_main(int argc, char **argv);
/* OK; HOST no connection, or no metrics; USAGE; TIMED_OUT no answer in time. */
int control_metrics_main(int argc, char **argv);
int control_doctor_main(int argc, char **argv);
/* OK no two clones share anything; HOST they do, a clock is wrong, a fact is missing, or the host failed;
 * USAGE; INPUT the event; FUNCTION it failed in a clone; TIMED_OUT a clone did not serve or answer in time.
 */
int control_audit_main(int argc, char **argv);
/* OK; HOST no connection, or the other side failed (HTTP 5xx); USAGE; INPUT it refuses (HTTP 4xx), or a body
 * that cannot be read; FUNCTION it failed, its error object is on standard error; TIMED_OUT no answer in time,
 * from the API or the function */
int control_ctl_main(int argc, char **argv);

#endif
