/*
 * The host's side of the guest's serial console: standard output, a file or nothing; input from a terminal.
 *
 * Output is buffered and written without blocking. What a stuck reader leaves no room for is dropped and
 * counted: the guest never waits for a terminal. Bytes are added on vCPU threads, written mostly by the loop.
 */
#ifndef HOSTVMM_CONSOLE_H
#define HOSTVMM_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <termios.h>

#include "agent/base/loop.h"
#include "hostvmm/device/serial.h"

#define CONSOLE_BUFFER_BYTES 8192u

enum console_kind {
    CONSOLE_AUTO,  /* standard output; input when standard input is our terminal */
    CONSOLE_STDIO, /* standard output and input, whatever they are */
    CONSOLE_NONE,
    CONSOLE_FILE,
};

struct console {
    struct loop *loop;
    struct serial *serial;
    int out_fd;  /* -1: output goes nowhere */
    int in_fd;   /* -1: no input */
    int wake_fd; /* tells the loop that there is room for input */
    struct loop_source wake;
    int flush_fd; /* timer: tells the loop that output has waited long enough for more to join it */
    struct loop_source flush;
    struct loop_source writable; /* while the reader of out_fd is slow */
    struct loop_source readable; /* while the guest can take input */
    bool out_is_socket;
    bool in_is_terminal;
    struct termios terminal; /* as it was */
    pthread_mutex_t lock;    /* for what follows */
    uint32_t first;
    uint32_t count;
    uint64_t dropped_bytes;
    uint8_t buffer[CONSOLE_BUFFER_BYTES];
};

/* Open what the console needs; `path` is for CONSOLE_FILE. 0, or -errno with a message logged. */
int console_init(struct console *console, enum console_kind kind, const char *path);
/* Connect it to the port and the loop. The terminal, if there is one, passes keys on from here. */
int console_attach(struct console *console, struct serial *serial, struct loop *loop);
/* Write what is left, as far as that is possible at once; give the terminal back. */
void console_fini(struct console *console);

extern const struct serial_ops console_serial_ops; /* their context is a struct console * */

#endif
