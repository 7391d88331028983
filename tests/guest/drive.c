/*
 * PID 1 that counts its boots on a drive: reads the count from /dev/vda, checks the pattern that the last
 * boot left at the drive's end, writes both anew, flushes, and powers off. Prints `drive: boot N` or `drive:
 * what failed`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define BLOCK_BYTES   4096
#define PATTERN_BYTES (1 << 20)

static uint8_t block[BLOCK_BYTES];
static uint8_t pattern[PATTERN_BYTES];

static void fill(uint32_t boot)
{
    uint32_t value = boot * 2654435761u + 1;
    for (size_t i = 0; i < sizeof pattern; i++) {
        value = value * 1664525u + 1013904223u;
        pattern[i] = (uint8_t)(value >> 24);
    }
}

static int check_pattern(int fd, uint32_t boot, off_t at)
{
    static uint8_t found[PATTERN_BYTES];
    if (pread(fd, found, sizeof found, at) != (ssize_t)sizeof found)
        return -EIO;
    fill(boot);
    return memcmp(found, pattern, sizeof found) == 0 ? 0 : -EBADMSG;
}

static int count_boot(const char **what)
{
    uint32_t boot;
    *what = "mounting /dev";
    mkdir("/dev", 0755);
    if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 && errno != EBUSY)
        return -errno;
    *what = "opening /dev/vda";
    int fd = open("/dev/vda", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *what = "reading";
    if (pread(fd, block, sizeof block, 0) != (ssize_t)sizeof block)
        return -errno;
    memcpy(&boot, block, sizeof boot);
    const off_t end = lseek(fd, 0, SEEK_END);
    *what = "the pattern of the last boot";
    int error = boot > 0 ? check_pattern(fd, boot, end - PATTERN_BYTES) : 0;
    if (error)
        return error;
    boot++;
    fill(boot);
    memcpy(block, &boot, sizeof boot);
    *what = "writing";
    if (pwrite(fd, pattern, sizeof pattern, end - PATTERN_BYTES) != (ssize_t)sizeof pattern ||
        pwrite(fd, block, sizeof block, 0) != (ssize_t)sizeof block)
        return -errno;
    *what = "flushing";
    if (fsync(fd) < 0)
        return -errno;
    close(fd);
    printf("drive: boot %u\n", boot);
    return 0;
}

int main(void)
{
    const char *what;
    const int error = count_boot(&what);
    if (error)
        printf("drive: failed: %s: %s\n", what, strerror(-error));
    fflush(stdout);
    (void)tcdrain(STDOUT_FILENO); /* the last words leave through a slow line */
    reboot(RB_POWER_OFF);
    return 1;
}
