/*
 * Facts that take a look at a process: what the vDSO draws in this one, and what the kernel gives a new one.
 *
 * The vDSO's getrandom (getrandom(2), "vgetrandom"; Linux 6.11) keeps its state in memory that the caller
 * maps as it asks. It must notice by itself that the pool was reseeded in a clone, so the audit looks at it.
 * It is called as a C library would, without one: the function is found in the ELF image that
 * AT_SYSINFO_EHDR points to.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/fd.h"
#include "agent/facts_parts.h"
#include "agent/resume/parts.h"

/* ---- the vDSO ---- */

typedef ssize_t vgetrandom(void *buffer, size_t size, unsigned flags, void *state, size_t state_size);

/* What a call with a state size of ~0 fills in (linux/random.h, struct vgetrandom_opaque_params). */
struct opaque_parameters {
    uint32_t state_bytes;
    uint32_t mmap_protection;
    uint32_t mmap_flags;
    uint32_t reserved[13];
};

struct symbols {
    const Elf64_Sym *at;
    const char *names;
    const Elf64_Word *hash; /* its second word: how many symbols */
};

static int find_symbols(const uint8_t *image, struct symbols *symbols)
{
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Phdr *part = (const void *)(image + header->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    for (unsigned i = 0; i < header->e_phnum; i++)
        if (part[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(image + part[i].p_offset);
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        const void *at = image + dynamic->d_un.d_ptr; /* linked to address 0 */
        if (dynamic->d_tag == DT_SYMTAB)
            symbols->at = at;
        else if (dynamic->d_tag == DT_STRTAB)
            symbols->names = at;
        else if (dynamic->d_tag == DT_HASH)
            symbols->hash = at;
    }
    return symbols->at && symbols->names && symbols->hash ? 0 : -ENOSYS;
}

static vgetrandom *find_vgetrandom(void)
{
    const uint8_t *image = (const uint8_t *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
    struct symbols symbols = {0};
    if (!image || memcmp(image, ELFMAG, SELFMAG) != 0 || find_symbols(image, &symbols) < 0)
        return NULL;
    for (Elf64_Word i = 0; i < symbols.hash[1]; i++)
        if (symbols.at[i].st_shndx != SHN_UNDEF &&
            strcmp(symbols.names + symbols.at[i].st_name, "__vdso_getrandom") == 0)
            return (vgetrandom *)(uintptr_t)(image + symbols.at[i].st_value);
    return NULL;
}

int facts_vdso_random(uint8_t out[FACTS_RANDOM_BYTES], char *why)
{
    struct opaque_parameters parameters = {0};
    vgetrandom *call = find_vgetrandom();
    if (!call || call(NULL, 0, 0, &parameters, ~(size_t)0) != 0)
        return resume_why(why, -ENOSYS, "the vDSO's getrandom");
    /* One state, at the start of a page of its own: it may not lie across two. */
    void *state = mmap(NULL, parameters.state_bytes, (int)parameters.mmap_protection,
                       (int)parameters.mmap_flags, -1, 0);
    if (state == MAP_FAILED)
        return resume_why(why, -errno, "mmap for the vDSO's getrandom");
    const ssize_t count = call(out, FACTS_RANDOM_BYTES, 0, state, parameters.state_bytes);
    (void)munmap(state, parameters.state_bytes);
    if (count != FACTS_RANDOM_BYTES)
        return resume_why(why, count < 0 ? (int)count : -EIO, "the vDSO's getrandom");
    return 0;
}

/* ---- a new process ---- */

/* A child that stops at the first instruction of a program: this one, as there may be no other. */
static void become_stopped_program(void)
{
    char *const arguments[] = {(char *)(uintptr_t) "agent", NULL};
    char *const environment[] = {NULL};
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
        (void)execve("/proc/self/exe", arguments, environment);
    _exit(127);
}

static int auxiliary_value(pid_t pid, uint64_t type, uint64_t *value)
{
    char path[64];
    uint64_t pairs[128][2];
    (void)snprintf(path, sizeof path, "/proc/%d/auxv", (int)pid);
    const int64_t size = fd_read_file(path, pairs, sizeof pairs);
    if (size < 0)
        return (int)size;
    for (size_t i = 0; i < (size_t)size / sizeof pairs[0]; i++)
        if (pairs[i][0] == type) {
            *value = pairs[i][1];
            return 0;
        }
    return -ENOENT;
}

static int read_at_random(pid_t pid, uint8_t out[16], char *why)
{
    uint64_t address = 0;
    const int error = auxiliary_value(pid, AT_RANDOM, &address);
    if (error)
        return resume_why(why, error, "read AT_RANDOM of a new process");
    for (size_t i = 0; i < 16; i += sizeof(long)) {
        errno = 0;
        const long word = ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)(address + i), NULL);
        if (errno)
            return resume_why(why, -errno, "ptrace(PTRACE_PEEKDATA)");
        memcpy(out + i, &word, sizeof word);
    }
    return 0;
}

int facts_at_random(uint8_t out[16], char *why)
{
    int status = 0;
    const pid_t pid = fork();
    if (pid < 0)
        return resume_why(why, -errno, "fork");
    if (pid == 0)
        become_stopped_program();
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return resume_why(why, -errno, "waitpid");
    if (!WIFSTOPPED(status))
        return resume_why(why, -ECHILD, "start a process under ptrace");
    const int error = read_at_random(pid, out, why);
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return error;
}
