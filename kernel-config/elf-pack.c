/*
 * elf-pack: write a bootable ELF kernel without what no loader reads.
 *
 * Linux links vmlinux with its parts on 2 MiB boundaries in the file too, so that a third of it is padding,
 * and strip leaves that as it is. This writes the ELF header, program headers of type LOAD and NOTE, and the
 * loaded bytes, each segment at the next offset that agrees with its address modulo the page size (ELF-64,
 * "Program Header": p_offset and p_vaddr congruent modulo p_align). Long padding inside a segment splits it;
 * what follows it is a segment of its own. Padding is zeros, or breakpoint instructions (0xcc) in code:
 * loaders leave zeros there, which nothing reads or runs (Linux frees the gap behind its code at boot). Every
 * other byte is at the physical address it had.
 *
 * Usage: elf-pack INPUT OUTPUT. Built and run by build.sh on the build machine; little-endian ELF-64 only.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES    4096u
#define SEGMENTS_MAX  16u /* of hostvmm's loader, too */
#define SPLITS_MAX    10u /* beyond these, padding stays: every whole segment and note still has room */
#define GAP_MIN_BYTES (8 * PAGE_BYTES) /* shorter padding is not worth a segment */

struct image {
    const uint8_t *bytes;
    uint64_t size_bytes;
    Elf64_Ehdr header;
    Elf64_Phdr in[SEGMENTS_MAX];
    Elf64_Phdr out[SEGMENTS_MAX];
    uint64_t from[SEGMENTS_MAX]; /* where the bytes of out[i] are in the input */
    uint16_t count, out_count;
};

static bool image_holds(const struct image *image, uint64_t offset, uint64_t size)
{
    return offset <= image->size_bytes && size <= image->size_bytes - offset;
}

/* Read and check the headers; NULL, or what is wrong. */
static const char *image_parse(struct image *image)
{
    if (!image_holds(image, 0, sizeof image->header))
        return "shorter than an ELF header";
    memcpy(&image->header, image->bytes, sizeof image->header);
    const Elf64_Ehdr *header = &image->header;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_ident[EI_DATA] != ELFDATA2LSB)
        return "not a little-endian ELF-64 file";
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > SEGMENTS_MAX)
        return "program headers of an unknown size, or too many";
    if (!image_holds(image, header->e_phoff, (uint64_t)header->e_phnum * sizeof(Elf64_Phdr)))
        return "program headers beyond the end of the file";
    for (uint16_t i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        memcpy(&segment, image->bytes + header->e_phoff + i * sizeof segment, sizeof segment);
        if (segment.p_type != PT_LOAD && segment.p_type != PT_NOTE)
            continue;
        if (!image_holds(image, segment.p_offset, segment.p_filesz) || segment.p_filesz > segment.p_memsz)
            return "a segment beyond the end of the file";
        image->in[image->count++] = segment;
    }
    return image->count ? NULL : "nothing to load";
}

/* How many of the bytes at `offset` are padding of one kind, at most `limit`. */
static uint64_t padding_at(const struct image *image, uint64_t offset, uint64_t limit, bool code)
{
    uint8_t filler = image->bytes[offset];
    uint64_t run = 0;
    if (filler != 0 && !(filler == 0xcc && code))
        return 0;
    while (run < limit && image->bytes[offset + run] == filler)
        run++;
    return run;
}

/* Add a segment of the output for the bytes from..to of segment `whole` and its memory up to `memory_to`. */
static bool image_add(struct image *image, const Elf64_Phdr *whole, uint64_t from, uint64_t to,
                      uint64_t memory_to)
{
    if (image->out_count == SEGMENTS_MAX)
        return false;
    Elf64_Phdr *segment = &image->out[image->out_count++];
    *segment = *whole;
    segment->p_vaddr += from;
    segment->p_paddr += from;
    segment->p_offset += from; /* in the input, until image_place */
    segment->p_filesz = to - from;
    segment->p_memsz = memory_to - from;
    return true;
}

/* Split the loaded segments at long padding. */
static const char *image_split(struct image *image)
{
    for (uint16_t i = 0; i < image->count; i++) {
        const Elf64_Phdr *whole = &image->in[i];
        uint64_t from = 0, at = 0, end = whole->p_filesz;
        if (whole->p_type != PT_LOAD)
            continue;
        while (at < end) {
            uint64_t run = padding_at(image, whole->p_offset + at, end - at, whole->p_flags & PF_X);
            uint64_t next = (at + run) / PAGE_BYTES * PAGE_BYTES; /* the next segment starts on a page */
            if (run < GAP_MIN_BYTES || at + run == end || image->out_count >= SPLITS_MAX) {
                at += run ? run : 1;
                continue;
            }
            if (!image_add(image, whole, from, at, next))
                return "more segments than this program knows";
            from = next;
            at += run;
        }
        if (!image_add(image, whole, from, end, whole->p_memsz))
            return "more segments than this program knows";
    }
    return NULL;
}

/* Give every segment its place in the output. A note lies inside a loaded segment and moves with it. */
static const char *image_place(struct image *image)
{
    Elf64_Phdr notes[SEGMENTS_MAX];
    uint16_t note_count = 0, loads = image->out_count;
    for (uint16_t i = 0; i < image->count; i++)
        if (image->in[i].p_type == PT_NOTE)
            notes[note_count++] = image->in[i];
    if (loads + note_count > SEGMENTS_MAX)
        return "more segments than this program knows";
    uint64_t end = sizeof(Elf64_Ehdr) + (uint64_t)(loads + note_count) * sizeof(Elf64_Phdr);
    for (uint16_t i = 0; i < loads; i++) {
        Elf64_Phdr *segment = &image->out[i];
        uint64_t place = end + (segment->p_vaddr - end) % PAGE_BYTES;
        for (uint16_t j = 0; j < note_count; j++)
            if (notes[j].p_vaddr >= segment->p_vaddr &&
                notes[j].p_vaddr < segment->p_vaddr + segment->p_filesz) {
                image->out[image->out_count] = notes[j];
                image->out[image->out_count++].p_offset = place + (notes[j].p_vaddr - segment->p_vaddr);
            }
        image->from[i] = segment->p_offset;
        segment->p_offset = place;
        segment->p_align = PAGE_BYTES;
        end = place + segment->p_filesz;
    }
    return image->out_count == loads + note_count ? NULL : "a note that lies in no loaded segment";
}

static bool put(int fd, const void *bytes, uint64_t size, uint64_t offset)
{
    const uint8_t *at = bytes;
    while (size) {
        ssize_t count = pwrite(fd, at, size, (off_t)offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        at += count;
        size -= (uint64_t)count;
        offset += (uint64_t)count;
    }
    return true;
}

static bool image_write(const struct image *image, int fd)
{
    Elf64_Ehdr header = image->header;
    header.e_phoff = sizeof header;
    header.e_phnum = image->out_count;
    header.e_shoff = 0;
    header.e_shnum = header.e_shstrndx = 0;
    bool good = put(fd, &header, sizeof header, 0) &&
                put(fd, image->out, image->out_count * sizeof image->out[0], sizeof header);
    for (uint16_t i = 0; good && i < image->out_count; i++)
        if (image->out[i].p_type == PT_LOAD)
            good = put(fd, image->bytes + image->from[i], image->out[i].p_filesz, image->out[i].p_offset);
    return good;
}

int main(int argc, char **argv)
{
    static struct image image;
    struct stat status;
    if (argc != 3) {
        fprintf(stderr, "usage: elf-pack INPUT OUTPUT\n");
        return 2;
    }
    int in = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (in < 0 || fstat(in, &status) < 0 || status.st_size <= 0) {
        fprintf(stderr, "elf-pack: cannot read %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    image.size_bytes = (uint64_t)status.st_size;
    image.bytes = mmap(NULL, image.size_bytes, PROT_READ, MAP_PRIVATE, in, 0);
    const char *wrong = image.bytes == MAP_FAILED ? strerror(errno) : image_parse(&image);
    if (!wrong)
        wrong = image_split(&image);
    if (!wrong)
        wrong = image_place(&image);
    if (wrong) {
        fprintf(stderr, "elf-pack: %s: %s\n", argv[1], wrong);
        return 1;
    }
    int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (out < 0 || !image_write(&image, out) || close(out) < 0) {
        fprintf(stderr, "elf-pack: cannot write %s: %s\n", argv[2], strerror(errno));
        return 1;
    }
    return 0;
}
