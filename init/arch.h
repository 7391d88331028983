/*
 * What init needs of the processor: one file init/arch_<arch>.c implements every hook here.
 *
 * The ports are those of the boot contract's way up (init/bootargs.h). An architecture without port I/O
 * answers -ENOTSUP to arch_ports_open, which init reports once; it then runs without the way up.
 */
#ifndef INIT_ARCH_H
#define INIT_ARCH_H

#include <stdint.h>

/* Gain access to `count` byte-wide ports from `port` on. 0 or -errno. Needs CAP_SYS_RAWIO. */
int arch_ports_open(uint16_t port, unsigned count);

/* Write one byte to a port that arch_ports_open gave access to. */
void arch_port_write(uint16_t port, uint8_t value);

#endif
