/*
 * What the function writes to stdout and stderr, turned into LOG messages.
 *
 * The pipes are read whenever there is something in them, whether somebody listens or not: the function never
 * waits for a reader of its logs, and what nobody takes fast enough is dropped there (client.h) and counted.
 */
#ifndef AGENT_OUTPUT_H
#define AGENT_OUTPUT_H

#include "agent/base/loop.h"
#include "agent/proto/proto.h"

/* Gets each piece, at most PROTO_LOG_MAX_BYTES, as soon as it is read. */
typedef void output_sink(void *context, enum proto_stream stream, struct proto_slice text);

struct output_pipe {
    struct output *output;
    struct loop_source source;
    enum proto_stream stream;
    int fd;            /* -1 while closed */
    size_t size_bytes; /* what the pipe can hold */
};

struct output {
    struct loop *loop;
    output_sink *sink;
    void *context;
    struct output_pipe pipes[2];
};

void output_init(struct output *output, struct loop *loop, output_sink *sink, void *context);

/* Take over the reading ends, also when this fails; what was open before is closed. 0 or -errno. */
int output_open(struct output *output, int stdout_fd, int stderr_fd);
void output_close(struct output *output);

/* Give the sink what is in the pipes now, at most one pipe's capacity each: a flood does not hold us here. */
void output_drain(struct output *output);

#endif
