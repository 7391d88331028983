/*
 * PID 1 that reads its last drive again and again, past every cache, and says how long each round took by the
 * guest's own clock:
 *
 *   rates: DEVICE, COUNT drives
 *   rates: round N, BYTES bytes in MS ms, capacity BYTES, first byte X
 *
 * When reading fails it says so and powers off.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <termios.h>
#include <unistd.h>

#define REQUEST_BYTES 65536u
#define ROUND_BYTES   (1u << 20)

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The last of the drives; how many there are. */
static int open_last(char name[16], unsigned *count)
{
    int last = -1;
    *count = 0;
    for (char letter = 'a'; letter <= 'z'; letter++) {
        char path[16];
        (void)snprintf(path, sizeof path, "/dev/vd%c", letter);
        const int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (fd < 0)
            break;
        if (last >= 0)
            (void)close(last);
        last = fd;
        memcpy(name, path, sizeof path);
        (*count)++;
    }
    return last;
}

/* Read a round's bytes, from the start again where the drive ends. 0 or -errno. */
static int read_round(int fd, uint8_t *block, uint64_t capacity)
{
    uint64_t at = 0;
    for (unsigned done = 0; done < ROUND_BYTES; done += REQUEST_BYTES) {
        if (at + REQUEST_BYTES > capacity)
            at = 0;
        const ssize_t n = pread(fd, block, REQUEST_BYTES, (off_t)at);
        if (n != (ssize_t)REQUEST_BYTES)
            return n < 0 ? -errno : -EIO;
        at += REQUEST_BYTES;
    }
    return 0;
}

int main(void)
{
    char name[16] = "nothing";
    unsigned count;
    uint8_t *block = aligned_alloc(4096, REQUEST_BYTES);
    (void)mkdir("/dev", 0755);
    (void)mount("dev", "/dev", "devtmpfs", 0, NULL);
    const int fd = open_last(name, &count);
    printf("rates: %s, %u drives\n", name, count);
    (void)fflush(stdout);
    for (unsigned round = 1; fd >= 0; round++) {
        const uint64_t capacity = (uint64_t)lseek(fd, 0, SEEK_END);
        const uint64_t since_ms = now_ms();
        const int error = read_round(fd, block, capacity);
        if (error) {
            printf("rates: round %u failed: %s\n", round, strerror(-error));
            break;
        }
        printf("rates: round %u, %u bytes in %llu ms, capacity %llu, first byte %c\n", round, ROUND_BYTES,
               (unsigned long long)(now_ms() - since_ms), (unsigned long long)capacity, block[0]);
        (void)fflush(stdout);
    }
    (void)fflush(stdout);
    (void)tcdrain(STDOUT_FILENO); /* the last words leave through a slow line */
    reboot(RB_POWER_OFF);
    return 1;
}
