/*
 * A state file cut short whose header is right all the same: digest and size are those of what is left. So
 * the fields are what a restore has to notice.
 *
 * Usage: state-cut STATE OUT BYTES      BYTES: of the body
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "hostvmm/snapshot/snapshot.h"

static uint8_t file[SNAPSHOT_HEADER_BYTES + (1u << 20)];

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    const int64_t size = fd_read_file(argv[1], file, sizeof file);
    const unsigned long bytes = strtoul(argv[3], NULL, 10);
    if (size < (int64_t)SNAPSHOT_HEADER_BYTES || bytes > (uint64_t)size - SNAPSHOT_HEADER_BYTES)
        return 1;
    snapshot_header_make(file, file + SNAPSHOT_HEADER_BYTES, bytes);
    int fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, file, SNAPSHOT_HEADER_BYTES + bytes)) {
        perror(argv[2]);
        return 1;
    }
    return close(fd) < 0;
}
