/*
 * What this machine can do for hostvmm, in two steps: doctor_probe() gathers facts and judges nothing;
 * doctor_judge() turns facts into findings and touches nothing. The second is pure, so that every kind of
 * machine can be tested on one.
 */
#ifndef HOSTVMM_CONTROL_DOCTOR_H
#define HOSTVMM_CONTROL_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum doctor_status { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL };

enum doctor_verdict {
    DOCTOR_DIRECT,   /* VMs run on this machine's own KVM */
    DOCTOR_EMULATED, /* VMs run through the emulated host (hostvmm/kvmhost) */
    DOCTOR_NEITHER,
};

/* A KVM capability hostvmm asks for. */
struct doctor_capability {
    const char *name;
    const char *use;    /* what for */
    const char *advice; /* what a missing one means, what to do */
    long id;            /* KVM_CAP_* */
    int least;          /* smallest value that serves */
    bool needed;        /* else: useful */
};

extern const struct doctor_capability doctor_capabilities[];
extern const size_t doctor_capability_count;
#define DOCTOR_CAPABILITIES_MAX 32

struct doctor_facts {
    char machine[65]; /* uname: x86_64 */
    char kernel[65];  /* uname: release */
    bool cpu_vmx;     /* Intel's or AMD's virtualisation, as /proc/cpuinfo shows it */
    bool cpu_svm;
    int kvm_error;                           /* 0, or the errno of opening /dev/kvm */
    int kvm_version;                         /* KVM_GET_API_VERSION, or -errno */
    int kvm_create_error;                    /* 0, or the errno of KVM_CREATE_VM */
    int kvm_values[DOCTOR_CAPABILITIES_MAX]; /* of doctor_capabilities, in their order */
    uint64_t memory_total_kib;               /* 0: unknown */
    uint64_t memory_available_kib;
    bool cgroup_v2;
    char qemu[256]; /* path of qemu-system-x86_64, empty when there is none */
};

struct doctor_finding {
    enum doctor_status status;
    const char *name;
    char detail[256]; /* what is so */
    char advice[256]; /* what to do about it; empty when there is nothing to do */
};

#define DOCTOR_FINDINGS_MAX 48

struct doctor_report {
    enum doctor_verdict verdict;
    size_t count;
    struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
};

void doctor_probe(struct doctor_facts *facts);
void doctor_judge(const struct doctor_facts *facts, struct doctor_report *report);

#endif
