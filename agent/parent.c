/* See parent.h and handoff.h. */
#include "agent/parent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

void parent_none(struct parent *parent)
{
    *parent = (struct parent){.fd = -1};
}

int parent_take(struct parent *parent)
{
    parent_none(parent);
    const char *version = getenv(HANDOFF_ENV_VERSION);
    if (!version || strcmp(version, HANDOFF_VERSION_TEXT) != 0) {
        log_error("init's contract is version %s, this agent's is " HANDOFF_VERSION_TEXT
                  ": use init and agent of one release; by hand, use --listen",
                  version ? version : "(not set)");
        return -EPROTO;
    }
    if (fd_set_cloexec(HANDOFF_FD, 1) < 0) {
        log_error("descriptor %d, on which init listens, is not open: %s", HANDOFF_FD, strerror(errno));
        return -EPROTO;
    }
    const char *attempt = getenv(HANDOFF_ENV_ATTEMPT);
    parent->fd = HANDOFF_FD;
    parent->attempt = attempt ? (unsigned)strtoul(attempt, NULL, 10) : 0;
    return 0;
}

void parent_fini(struct parent *parent)
{
    fd_close(&parent->fd);
}

void parent_say(struct parent *parent, enum handoff_word word)
{
    if (parent->fd < 0 || parent->said == word)
        return;
    parent->said = word;
    const char byte = (char)word;
    /* A few bytes in all: they always fit, unless init is gone, and then the guest is. */
    if (send(parent->fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
        log_error("cannot tell init '%c': %s", byte, strerror(errno));
}
