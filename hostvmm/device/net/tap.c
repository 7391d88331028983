/*
 * The TAP back end: see backend.h, and Documentation/networking/tuntap.rst in Linux. The kernel takes and
 * gives the guest's offload header as it is, in the layout of virtio 1.x: 12 bytes, little-endian.
 *
 * TUNSETIFF makes an interface that does not exist, for who may. Nothing is made here: the name is looked up
 * first, and what vanished in between, so that it was made after all, is told by its not being persistent; it
 * goes with its descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "hostvmm/device/net/backend.h"

#define TUN_DEVICE "/dev/net/tun"
#define MODE       (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
#define FEATURE(f) (1ull << VIRTIO_NET_F_##f)

/* ioctl(2); libcs do not agree on the type of its request. 0 or -1. */
static int control(int fd, unsigned long request, void *argument)
{
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

/* What a packet cannot be at fault for: the device was deleted, or its descriptor is none. */
static bool means_gone(int error)
{
    return error == EBADFD || error == EBADF || error == ENODEV;
}

static int tap_send(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    ssize_t sent;
    do
        sent = writev(backend->fd, parts, (int)count);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return 0;
    if (errno == EAGAIN || means_gone(errno))
        return -errno;
    return 1; /* not this frame: no frame, no memory, or the interface is down (EIO) */
}

static int64_t tap_receive(struct net_backend *backend, const struct iovec *parts, unsigned count)
{
    ssize_t size;
    do
        size = readv(backend->fd, parts, (int)count);
    while (size < 0 && errno == EINTR);
    if (size >= 0)
        return size;
    /* A frame that cannot be had is dropped by the kernel; whatever else goes wrong would do so again. */
    return errno == EFAULT || errno == EINVAL || errno == ENOMEM ? 0 : -errno;
}

static int tap_configure(struct net_backend *backend, uint64_t driver_features)
{
    unsigned offload = 0;
    if (driver_features & FEATURE(GUEST_CSUM)) {
        offload |= TUN_F_CSUM;
        offload |= driver_features & FEATURE(GUEST_TSO4) ? TUN_F_TSO4 : 0;
        offload |= driver_features & FEATURE(GUEST_TSO6) ? TUN_F_TSO6 : 0;
    }
    if (control(backend->fd, TUNSETOFFLOAD, (void *)(uintptr_t)offload) == 0)
        return 0;
    const int error = -errno;
    log_error("tap: the kernel refuses the offloads 0x%x: %s", offload, strerror(-error));
    return error;
}

static void tap_close(struct net_backend *backend)
{
    fd_close(&backend->fd);
}

static const struct net_backend_ops ops = {
    .name = "tap",
    .features = FEATURE(CSUM) | FEATURE(GUEST_CSUM) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) |
                FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6),
    .configure = tap_configure,
    .send = tap_send,
    .receive = tap_receive,
    .close = tap_close,
};

/* Say so when the interface is down: everything looks right then, and nothing arrives. */
static void warn_when_down(const char *name)
{
    struct ifreq about = {.ifr_flags = 0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(about.ifr_name, name, strnlen(name, IFNAMSIZ - 1));
    if (fd >= 0 && control(fd, SIOCGIFFLAGS, &about) == 0 && !(about.ifr_flags & IFF_UP))
        log_warn("tap %s: the interface is down, frames are dropped until it is up: `ip link set %s up`",
                 name, name);
    fd_close(&fd);
}

/* Check the mode of an attached descriptor and set it up. `fd` is closed on failure. */
static int adopt(struct net_backend *backend, int fd, const struct ifreq *about)
{
    int header_bytes = VIRTIO_NET_HEADER_BYTES, little_endian = 1;
    const unsigned mode = (unsigned short)about->ifr_flags;
    const char *name = about->ifr_name;
    int error = 0;
    if ((mode & MODE) != MODE || (mode & IFF_TUN)) {
        log_error("tap %s: its mode is 0x%x: it must be opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR", name,
                  mode);
        error = -EINVAL;
    } else if (control(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
               control(fd, TUNSETVNETLE, &little_endian) < 0 || control(fd, TUNSETOFFLOAD, NULL) < 0) {
        error = -errno;
        log_error("tap %s: the kernel refuses an offload header of %d bytes: %s", name, header_bytes,
                  strerror(-error));
    } else if ((error = fd_set_nonblock(fd)) == 0) {
        error = fd_set_cloexec(fd, 1);
    }
    if (error) {
        fd_close(&fd);
        return error;
    }
    warn_when_down(name);
    *backend = (struct net_backend){.ops = &ops, .fd = fd};
    return 0;
}

static void explain(const char *name, int error)
{
    switch (-error) {
    case EBUSY:
        log_error("tap %s: another process has it open: stop that one, or give each VM its own", name);
        break;
    case EPERM:
        log_error("tap %s: not permitted: it must belong to this user (`ip tuntap add dev %s mode tap user "
                  "NAME`), or hand over an open descriptor",
                  name, name);
        break;
    case EINVAL:
        log_error("tap %s: no TAP device with a single queue: make one (`ip tuntap add dev %s mode tap`)",
                  name, name);
        break;
    case ENODEV:
        log_error("tap %s: no such interface: make it first (`ip tuntap add dev %s mode tap`)", name, name);
        break;
    default:
        log_error("tap %s: cannot attach to it: %s", name, strerror(-error));
        break;
    }
}

/* Attach `fd` to the interface, which exists before and after. */
static int attach(int fd, const char *name, struct ifreq *about)
{
    if (if_nametoindex(name) == 0)
        return -ENODEV;
    memcpy(about->ifr_name, name, strlen(name));
    about->ifr_flags = MODE;
    if (control(fd, TUNSETIFF, about) < 0 || control(fd, TUNGETIFF, about) < 0)
        return -errno;
    return about->ifr_flags & IFF_PERSIST ? 0 : -ENODEV;
}

int net_tap_open(struct net_backend *backend, const char *name)
{
    struct ifreq about = {.ifr_flags = 0};
    const size_t length = strlen(name);
    if (length == 0 || length >= IFNAMSIZ || strpbrk(name, "/ %:")) {
        log_error("tap %s: no name of an interface: 1 to %d bytes without '/', '%%', ':' and spaces", name,
                  IFNAMSIZ - 1);
        return -EINVAL;
    }
    int fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        const int error = -errno;
        if (error == -ENOENT || error == -ENODEV || error == -ENXIO)
            log_error("tap %s: this host has no " TUN_DEVICE ": load the module tun", name);
        else
            log_error("tap %s: cannot open " TUN_DEVICE ": %s: open it to this user, or hand over an open "
                      "descriptor",
                      name, strerror(-error));
        return error;
    }
    const int error = attach(fd, name, &about);
    if (error) {
        explain(name, error);
        fd_close(&fd);
        return error;
    }
    return adopt(backend, fd, &about);
}

int net_tap_take(struct net_backend *backend, int fd)
{
    struct ifreq about = {.ifr_flags = 0};
    if (control(fd, TUNGETIFF, &about) == 0)
        return adopt(backend, fd, &about);
    const int error = -errno;
    if (error == -EBADF)
        log_error("tap: descriptor %d is not open", fd);
    else
        log_error("tap: descriptor %d is no TAP device (%s): open " TUN_DEVICE
                  " and attach it with TUNSETIFF",
                  fd, strerror(-error));
    fd_close(&fd);
    return error == -EBADF ? error : -EINVAL;
}
