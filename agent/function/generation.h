/*
 * The generation page, /run/generation: how a process of any language learns that it lives in another clone.
 *
 * The file is one page, readable by all, kept in memory. The agent writes it while the function is frozen:
 * once when the guest starts, and again in every clone (and in the original when that goes on), before any
 * process of the function runs again. The counter only grows; a value that differs from the one remembered
 * means: everything that was to be unique is now in two places and has to be made anew.
 *
 *   offset  bytes  what                                                      (all integers little-endian)
 *        0      8  generation: above 0; each write of the page makes it larger
 *        8      4  futex word: the low 32 bits of the generation, to wait on
 *       12      4  magic: the bytes "RKGN". Another layout would have another
 *       16     16  clone id: the VM generation id the host gave this clone; zero before the first resume
 *       32      1  touched: written with write() at each change, for those who watch with inotify
 *       33         zero, to the end of the page
 *
 * Order of a write: clone id, touched, futex word, generation (a release store); then the futex is woken and
 * the byte at 32 written through the file. Who has seen a generation with an acquire load sees the clone id
 * of that generation or a later one. Aligned loads of 4 or 8 bytes are never torn; who can load only 4 reads
 * the low half of the generation or the futex word, and sees every change.
 *
 * To poll: open read-only, mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) once, and load offset 0 before each
 * use of what must be unique: no system call. Reading the file anew works too: pread(fd, &value, 8, 0).
 *
 * To wait: load the futex word, look at the generation, and then
 *     syscall(SYS_futex, page + 8, FUTEX_WAIT, word, timeout)       without FUTEX_PRIVATE_FLAG
 * which returns when the word is not `word` any more; a read-only mapping is enough. Or without a mapping:
 * inotify_add_watch(inotify, "/run/generation", IN_MODIFY), whose event comes after the change.
 *
 * C: function_generation() of function.h. The shell: od -An -tu8 -N8 /run/generation.
 */
#ifndef FUNCTION_GENERATION_H
#define FUNCTION_GENERATION_H

#include <stddef.h>
#include <stdint.h>

#define GENERATION_PATH       "/run/generation"
#define GENERATION_FILE_BYTES 4096
#define GENERATION_MAGIC      UINT32_C(0x4e474b52) /* "RKGN" in memory */

struct generation_page {
    uint64_t generation;
    uint32_t futex;
    uint32_t magic;
    uint8_t clone_id[16];
    uint8_t touched;
    uint8_t reserved[7]; /* zero, as the rest of the page */
};

_Static_assert(offsetof(struct generation_page, futex) == 8, "the futex word is at 8");
_Static_assert(offsetof(struct generation_page, magic) == 12, "the magic is at 12");
_Static_assert(offsetof(struct generation_page, clone_id) == 16, "the clone id is at 16");
_Static_assert(offsetof(struct generation_page, touched) == 32, "the touched byte is at 32");

#endif
