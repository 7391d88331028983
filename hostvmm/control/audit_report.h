/* What an audit found, for people or for programs. */
#ifndef HOSTVMM_CONTROL_AUDIT_REPORT_H
#define HOSTVMM_CONTROL_AUDIT_REPORT_H

#include <stdio.h>

#include "hostvmm/control/audit_facts.h"
#include "hostvmm/control/audit_tokens.h"

/* Both after audit_facts_judge. Clones are numbered from 1. */
void audit_report_people(FILE *out, const struct audit_facts *facts, const struct audit_tokens *tokens,
                         uint32_t clones);
void audit_report_json(FILE *out, const struct audit_facts *facts, const struct audit_tokens *tokens,
                       uint32_t clones, bool good);

#endif
