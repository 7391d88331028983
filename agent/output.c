/* See output.h. */
#include "agent/output.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "agent/base/fd.h"

#define PIPE_DEFAULT_BYTES 65536

void output_init(struct output *output, struct loop *loop, output_sink *sink, void *context)
{
    *output = (struct output){.loop = loop, .sink = sink, .context = context};
    for (int i = 0; i < 2; i++) {
        output->pipes[i].fd = output->pipes[i].source.fd = -1;
        output->pipes[i].output = output;
    }
    output->pipes[0].stream = PROTO_STREAM_STDOUT;
    output->pipes[1].stream = PROTO_STREAM_STDERR;
}

static void close_pipe(struct output_pipe *pipe)
{
    loop_remove(pipe->output->loop, &pipe->source);
    fd_close(&pipe->fd);
}

/* Read at most `limit` bytes of what is there. */
static void read_pipe(struct output_pipe *pipe, size_t limit)
{
    /* Not on the stack, whose pages below it a clone would write. One thread, and no sink reads a pipe. */
    static uint8_t text[PROTO_LOG_MAX_BYTES];
    while (pipe->fd >= 0 && limit > 0) {
        const size_t want = limit < sizeof text ? limit : sizeof text;
        const ssize_t n = read(pipe->fd, text, want);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_pipe(pipe);
            return;
        }
        pipe->output->sink(pipe->output->context, pipe->stream,
                           (struct proto_slice){.data = text, .size = (size_t)n});
        limit -= (size_t)n;
    }
}

static void on_readable(void *context, uint32_t events)
{
    (void)events;
    read_pipe(context, PROTO_LOG_MAX_BYTES);
}

static int open_pipe(struct output_pipe *pipe, int fd)
{
    close_pipe(pipe);
    pipe->fd = fd;
    const int size = fcntl(fd, F_GETPIPE_SZ); /* fails on the sockets that tests use */
    pipe->size_bytes = size > 0 ? (size_t)size : PIPE_DEFAULT_BYTES;
    return loop_add(pipe->output->loop, &pipe->source, fd, EPOLLIN, on_readable, pipe);
}

int output_open(struct output *output, int stdout_fd, int stderr_fd)
{
    const int first = open_pipe(&output->pipes[0], stdout_fd);
    const int second = open_pipe(&output->pipes[1], stderr_fd);
    if (first || second)
        output_close(output);
    return first ? first : second;
}

void output_close(struct output *output)
{
    for (int i = 0; i < 2; i++)
        close_pipe(&output->pipes[i]);
}

void output_drain(struct output *output)
{
    for (int i = 0; i < 2; i++)
        read_pipe(&output->pipes[i], output->pipes[i].size_bytes);
}
