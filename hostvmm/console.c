/*
 * See console.h. Output waits a few milliseconds for more to join it: guests write byte by byte, and a write
 * and a switch of threads for each would cost more than the byte. Standard output may be shared with other
 * programs, so its O_NONBLOCK flag is not ours to set: terminals and pipes are opened anew through /proc,
 * which gives an open file of our own; sockets take a flag with each send; regular files do not block.
 */
#include "hostvmm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

#define FLUSH_DELAY_NS 5000000u

static int open_again(int fd, int flags)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
}

/* A descriptor like `fd` that is ours; without O_NONBLOCK where that needs /proc and there is none. */
static int own_descriptor(int fd, int flags, bool *is_socket)
{
    struct stat status;
    *is_socket = false;
    if (fstat(fd, &status) < 0)
        return -errno;
    *is_socket = S_ISSOCK(status.st_mode);
    int own = -1;
    if (S_ISCHR(status.st_mode) || S_ISFIFO(status.st_mode))
        own = open_again(fd, flags);
    if (own < 0)
        own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return own < 0 ? -errno : own;
}

static int open_output(struct console *console, enum console_kind kind, const char *path)
{
    switch (kind) {
    case CONSOLE_NONE:
        return 0;
    case CONSOLE_FILE:
        console->out_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
        if (console->out_fd < 0) {
            const int error = -errno;
            log_error("cannot open %s for the console: %s", path, strerror(-error));
            return error;
        }
        return 0;
    case CONSOLE_AUTO:
    case CONSOLE_STDIO:
        console->out_fd = own_descriptor(STDOUT_FILENO, O_WRONLY, &console->out_is_socket);
        if (console->out_fd < 0)
            console->out_fd = -1; /* closed by whoever started us: the console goes nowhere */
        return 0;
    }
    return -EINVAL;
}

/* In the background a terminal's input is another's, and touching it would stop this process. */
static bool terminal_is_ours(int fd)
{
    return isatty(fd) && tcgetpgrp(fd) == getpgrp();
}

static void open_input(struct console *console, enum console_kind kind)
{
    bool is_socket;
    console->in_is_terminal = terminal_is_ours(STDIN_FILENO);
    if (kind == CONSOLE_STDIO || (kind == CONSOLE_AUTO && console->in_is_terminal))
        console->in_fd = own_descriptor(STDIN_FILENO, O_RDONLY, &is_socket);
    if (console->in_fd < 0)
        console->in_fd = -1;
}

int console_init(struct console *console, enum console_kind kind, const char *path)
{
    memset(console, 0, offsetof(struct console, buffer)); /* whose pages most clones never need */
    console->out_fd = console->in_fd = console->wake_fd = console->flush_fd = -1;
    console->wake.fd = console->flush.fd = console->writable.fd = console->readable.fd = -1;
    const int error = pthread_mutex_init(&console->lock, NULL);
    if (error)
        return -error;
    open_input(console, kind);
    return open_output(console, kind, path);
}

static void wake_loop(const struct console *console)
{
    const uint64_t one = 1;
    const ssize_t n = write(console->wake_fd, &one, sizeof one);
    (void)n; /* fails only when it is readable already */
}

/* Write what the reader takes at once. With the lock held. */
static void flush_locked(struct console *console)
{
    while (console->count > 0 && console->out_fd >= 0) {
        const uint32_t until_wrap = CONSOLE_BUFFER_BYTES - console->first;
        const uint32_t size = console->count < until_wrap ? console->count : until_wrap;
        const void *from = console->buffer + console->first;
        const ssize_t n = console->out_is_socket
                              ? send(console->out_fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT)
                              : write(console->out_fd, from, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) { /* its reader is gone, or the disk is full: nobody will see this */
            console->dropped_bytes += console->count;
            console->count = 0;
            return;
        }
        console->first = (console->first + (uint32_t)n) % CONSOLE_BUFFER_BYTES;
        console->count -= (uint32_t)n;
    }
}

static void console_transmit(void *context, uint8_t byte)
{
    struct console *console = context;
    if (console->out_fd < 0)
        return;
    pthread_mutex_lock(&console->lock);
    if (console->count == CONSOLE_BUFFER_BYTES)
        flush_locked(console);
    if (console->count < CONSOLE_BUFFER_BYTES) {
        console->buffer[(console->first + console->count++) % CONSOLE_BUFFER_BYTES] = byte;
        if (console->count == 1)
            (void)loop_timer_arm(console->flush_fd, FLUSH_DELAY_NS);
    } else {
        console->dropped_bytes++;
    }
    pthread_mutex_unlock(&console->lock);
}

static void console_input_wanted(void *context)
{
    wake_loop(context);
}

const struct serial_ops console_serial_ops = {
    .transmit = console_transmit,
    .input_wanted = console_input_wanted,
};

static void on_writable(void *context, uint32_t events);
static void on_readable(void *context, uint32_t events);

/* Write, and watch for the reader exactly while something is left. */
static void flush(struct console *console)
{
    pthread_mutex_lock(&console->lock);
    flush_locked(console);
    const bool left = console->count > 0;
    pthread_mutex_unlock(&console->lock);
    if (left && console->writable.fd < 0)
        (void)loop_add(console->loop, &console->writable, console->out_fd, EPOLLOUT, on_writable, console);
    else if (!left)
        loop_remove(console->loop, &console->writable);
}

static void on_writable(void *context, uint32_t events)
{
    (void)events;
    flush(context);
}

static void end_input(struct console *console)
{
    loop_remove(console->loop, &console->readable);
    fd_close(&console->in_fd);
}

/* Watch for input exactly while the guest can take it: a descriptor at its end is always readable. */
static void watch_input(struct console *console, bool wanted)
{
    if (!wanted) {
        loop_remove(console->loop, &console->readable);
        return;
    }
    if (console->readable.fd < 0 && console->in_fd >= 0)
        (void)loop_add(console->loop, &console->readable, console->in_fd, EPOLLIN, on_readable, console);
}

/* One read per event; a regular file, which cannot be watched, is read for as long as there is room. */
static void pump_input(struct console *console)
{
    uint8_t bytes[SERIAL_INPUT_BYTES];
    const bool watched = console->readable.fd >= 0;
    do {
        const size_t room = serial_room(console->serial);
        if (room == 0) {
            watch_input(console, false);
            return;
        }
        const ssize_t n = read(console->in_fd, bytes, room);
        if (n > 0)
            (void)serial_receive(console->serial, bytes, (size_t)n);
        else if (n == 0 || (errno != EINTR && errno != EAGAIN))
            end_input(console);
    } while (!watched && console->in_fd >= 0);
}

static void on_readable(void *context, uint32_t events)
{
    (void)events;
    pump_input(context);
}

static void on_flush(void *context, uint32_t events)
{
    struct console *console = context;
    (void)events;
    loop_timer_clear(console->flush_fd);
    flush(console);
}

static void on_wake(void *context, uint32_t events)
{
    struct console *console = context;
    uint64_t count;
    (void)events;
    const ssize_t n = read(console->wake_fd, &count, sizeof count);
    (void)n;
    if (console->in_fd >= 0 && console->readable.fd < 0 && serial_room(console->serial) > 0)
        watch_input(console, true);
    if (console->in_fd >= 0 && console->readable.fd < 0)
        pump_input(console);
}

/* Keys go to the guest as they are typed, but for the one that asks this program to end. */
static void take_terminal(struct console *console)
{
    if (tcgetattr(STDIN_FILENO, &console->terminal) < 0) {
        console->in_is_terminal = false;
        return;
    }
    struct termios raw = console->terminal;
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | IXON);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_cc[VSUSP] = _POSIX_VDISABLE;
    raw.c_cc[VQUIT] = _POSIX_VDISABLE;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

int console_attach(struct console *console, struct serial *serial, struct loop *loop)
{
    console->serial = serial;
    console->loop = loop;
    console->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (console->wake_fd < 0)
        return -errno;
    console->flush_fd = loop_timer_open();
    if (console->flush_fd < 0)
        return console->flush_fd;
    int error = loop_add(loop, &console->wake, console->wake_fd, EPOLLIN, on_wake, console);
    if (error == 0)
        error = loop_add(loop, &console->flush, console->flush_fd, EPOLLIN, on_flush, console);
    if (error)
        return error;
    if (console->in_fd >= 0 && console->in_is_terminal)
        take_terminal(console);
    if (console->in_fd >= 0)
        watch_input(console, true);
    if (console->in_fd >= 0 && console->readable.fd < 0)
        wake_loop(console); /* a regular file cannot be watched: read it whenever there is room */
    return 0;
}

void console_fini(struct console *console)
{
    pthread_mutex_lock(&console->lock);
    flush_locked(console);
    console->dropped_bytes += console->count;
    pthread_mutex_unlock(&console->lock);
    if (console->dropped_bytes > 0)
        log_warn("console: %llu bytes of the guest's output were dropped: nobody read them in time",
                 (unsigned long long)console->dropped_bytes);
    if (console->loop) {
        loop_remove(console->loop, &console->wake);
        loop_remove(console->loop, &console->flush);
        loop_remove(console->loop, &console->writable);
        loop_remove(console->loop, &console->readable);
        if (console->in_is_terminal)
            (void)tcsetattr(STDIN_FILENO, TCSANOW, &console->terminal);
    }
    fd_close(&console->flush_fd);
    fd_close(&console->wake_fd);
    fd_close(&console->in_fd);
    fd_close(&console->out_fd);
    pthread_mutex_destroy(&console->lock);
}
