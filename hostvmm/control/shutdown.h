/*
 * Ask the guest's agent, over its vsock port, to power the guest off in order.
 *
 * Asynchronous on the caller's loop: `run` begins it at the first SIGTERM and goes on serving the VM. It
 * never ends the VM itself. The agent's word is only a hope: the caller keeps its own limit on how long a
 * guest may take to power off, and stops the VM when the limit passes, when this reports a failure, or at the
 * second signal.
 */
#ifndef HOSTVMM_CONTROL_SHUTDOWN_H
#define HOSTVMM_CONTROL_SHUTDOWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/loop.h"

/*
 * Called at most once, from the loop. 0: the whole request was handed over and the agent said something back,
 * so it is there; the guest's power-off follows. Otherwise a negative errno: -ECONNREFUSED (nobody listens in
 * the guest, or it closed before it said hello), -EPROTO (it talks too much to be an agent), or what send
 * or recv reported. May call control_shutdown_fini().
 */
typedef void control_shutdown_done(void *context, int error);

struct control_shutdown {
    struct loop *loop;
    struct loop_source source;
    int fd;
    control_shutdown_done *done; /* NULL once called */
    void *context;
    size_t request_size;
    size_t request_sent;
    size_t discarded_bytes;
    uint8_t request[256]; /* hello and shutdown frames */
};

/* Before anything else; makes control_shutdown_fini() safe. */
void control_shutdown_init(struct control_shutdown *shutdown);

/*
 * Begin, on `fd`: a connected, non-blocking stream socket to the agent's port (virtio_vsock_connect), owned
 * by `shutdown` from here on, also when this fails. `done` is not called from within. 0 or a negative errno.
 */
int control_shutdown_begin(struct control_shutdown *shutdown, struct loop *loop, int fd,
                           control_shutdown_done *done, void *context);

/* Leave the loop and close the connection. `done` is not called any more. */
void control_shutdown_fini(struct control_shutdown *shutdown);

#endif
