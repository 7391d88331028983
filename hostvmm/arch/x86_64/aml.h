/*
 * A small writer of AML, ACPI's byte code (ACPI 6.5, chapter 20): as much of it as a DSDT of fixed devices
 * needs. Bounded like the cursor below it: after the first overflow it stays failed, and the caller checks
 * once at the end. Pure.
 */
#ifndef HOSTVMM_ARCH_X86_64_AML_H
#define HOSTVMM_ARCH_X86_64_AML_H

#include <stddef.h>
#include <stdint.h>

#include "agent/base/cursor.h"

#define AML_DEPTH_MAX 8

struct aml {
    struct cursor out;
    size_t starts[AML_DEPTH_MAX]; /* where the contents of each open package begin */
    unsigned depth;
};

void aml_init(struct aml *aml, void *to, size_t capacity);

/* Packages: what is written until aml_end belongs to them. */
void aml_scope(struct aml *aml, const char *path);  /* up to one leading \ and one 4-character name */
void aml_device(struct aml *aml, const char *name); /* exactly 4 characters, as all names below */
void aml_resources(struct aml *aml);                /* _CRS; closed by aml_resources_end */
void aml_resources_end(struct aml *aml);
void aml_end(struct aml *aml);

/* Name (name, value) */
void aml_name_integer(struct aml *aml, const char *name, uint32_t value);
void aml_name_string(struct aml *aml, const char *name, const char *value);
void aml_name_eisaid(struct aml *aml, const char *name, const char *id); /* such as "PNP0501" */
void aml_name_package(struct aml *aml, const char *name, const uint32_t *values, uint8_t count);

/* A serialized method of `arguments` arguments; what is written until aml_end is its body. */
void aml_method(struct aml *aml, const char *name, unsigned arguments);
/* If (Arg0 == value) { Notify (device, code) } */
void aml_notify_if(struct aml *aml, uint32_t value, const char *device, uint8_t code);

/* Inside resources */
void aml_memory32(struct aml *aml, uint32_t base, uint32_t size);
void aml_io(struct aml *aml, uint16_t base, uint8_t size);
void aml_interrupt_edge(struct aml *aml, uint32_t gsi); /* edge, active high, exclusive */

#endif
