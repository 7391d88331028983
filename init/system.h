/*
 * The small settings of a fresh guest: console, host name, loopback.
 */
#ifndef INIT_SYSTEM_H
#define INIT_SYSTEM_H

/* Make /dev/console (or /dev/null, without a console) descriptors 0 to 2. */
void system_console(void);

/* Set the host name. Failure is logged and the boot goes on. */
void system_hostname(const char *name);

/* Bring the loopback interface up. Failure is logged and the boot goes on. */
void system_loopback_up(void);

#endif
