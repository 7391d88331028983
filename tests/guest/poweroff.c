/*
 * PID 1 whose first line is the last: power off. The guest of `make bench`'s boot time, the same for every
 * monitor.
 */
#include <sys/reboot.h>

int main(void)
{
    reboot(RB_POWER_OFF);
    return 1; /* not reached; the kernel's panic would show */
}
