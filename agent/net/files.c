/*
 * Files of the network: what is set now, for an agent that is started again, and the resolver's configuration
 * (resolv.conf(5)), for programs that read it. parts.h.
 *
 * Both are written in place. The first is one write of a fixed size into a file that is kept open: an agent
 * that ends leaves the old text or the new, and a clone is spared a new file. The second may be mounted over
 * another; in a resume whoever reads it is frozen.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/net/parts.h"
#include "agent/resume/parts.h"

static int state_fd = -1;

int net_state_load(char *text, char *why)
{
    const int64_t size = fd_read_file(NET_STATE_PATH, text, PROTO_NETWORK_MAX_BYTES);
    if (size < 0 && size != -ENOENT)
        return net_why(why, (int)size, "read " NET_STATE_PATH);
    return size < 0 ? (int)size : (int)strnlen(text, (size_t)size);
}

int net_state_save(const struct network *network, char *why)
{
    char text[PROTO_NETWORK_MAX_BYTES + 1] = ""; /* zeros behind the text */
    const int size = network_format(network, text, sizeof text);
    if (size < 0)
        return net_why(why, size, "text of the network");
    if (state_fd < 0)
        state_fd = open(NET_STATE_PATH, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (state_fd < 0)
        return net_why(why, -errno, "open " NET_STATE_PATH);
    const ssize_t count = pwrite(state_fd, text, PROTO_NETWORK_MAX_BYTES, 0);
    if (count != PROTO_NETWORK_MAX_BYTES)
        return net_why(why, count < 0 ? -errno : -EIO, "write " NET_STATE_PATH);
    return 0;
}

size_t net_resolv_text(const struct network *network, char *text, size_t capacity)
{
    size_t size = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < network->count; i++) {
        for (unsigned j = 0; j < network->at[i].dns_count; j++) {
            const struct network_address *address = &network->at[i].dns[j];
            char shown[46];
            char zone[16] = "";
            network_address_text(address, shown);
            if (address->family == 6 && address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80)
                (void)snprintf(zone, sizeof zone, "%%eth%u", i);
            const int added = snprintf(text + size, capacity - size, "nameserver %s%s\n", shown, zone);
            if (added < 0 || (size_t)added >= capacity - size)
                return size;
            size += (size_t)added;
        }
    }
    return size;
}

int net_resolv_write(const struct network *network, char *why)
{
    char text[NET_RESOLV_BYTES];
    struct stat about;
    const size_t size = net_resolv_text(network, text, sizeof text);
    int error = 0;
    if (size == 0 && stat(NET_RESOLV_PATH, &about) < 0)
        return 0; /* the image's own stays in force */
    int fd = open(NET_RESOLV_PATH, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return net_why(why, -errno, "open " NET_RESOLV_PATH);
    if (pwrite(fd, text, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size) < 0)
        error = net_why(why, errno ? -errno : -EIO, "write " NET_RESOLV_PATH);
    fd_close(&fd);
    return error ? error : resume_mount_over(NET_RESOLV_PATH, "/etc/resolv.conf", why);
}
