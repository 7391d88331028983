/* x86-64: port I/O by ioperm(2) and the OUT instruction. See arch.h. */
#include "init/arch.h"

#include <errno.h>
#include <sys/io.h>

int arch_ports_open(uint16_t port, unsigned count)
{
    return ioperm(port, count, 1) < 0 ? -errno : 0;
}

void arch_port_write(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
