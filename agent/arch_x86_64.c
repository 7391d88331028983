/* x86-64: see arch.h. */
#include "agent/arch.h"

#include <errno.h>
#include <sys/syscall.h>

/* Port I/O reaches hostvmm's lifecycle ports, by which PID 1 alone reports; segments of its own nobody needs.
 */
static const struct confine_refusal refusals[] = {
    {SYS_iopl, EPERM},
    {SYS_ioperm, EPERM},
    {SYS_modify_ldt, EPERM},
};

const struct confine_refusal *arch_refusals(size_t *count)
{
    *count = sizeof refusals / sizeof *refusals;
    return refusals;
}
