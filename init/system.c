/* See system.h. */
#include "init/system.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/base/log.h"

void system_console(void)
{
    int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return; /* nothing to say it to */
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        if (fd == i)
            (void)fd_set_cloexec(fd, 0);
        else
            (void)dup2(fd, i);
    if (fd > STDERR_FILENO)
        fd_close(&fd);
}

void system_hostname(const char *name)
{
    if (sethostname(name, strlen(name)) < 0)
        log_warn("cannot set the host name to %s: %s", name, strerror(errno));
}

void system_loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0) {
        request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
        if (ioctl(fd, SIOCSIFFLAGS, &request) == 0) {
            fd_close(&fd);
            return;
        }
    }
    log_warn("cannot bring the loopback interface up: %s", strerror(errno));
    fd_close(&fd);
}
