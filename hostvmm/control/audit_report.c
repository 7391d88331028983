/* See audit_report.h. A finding's text is of token bytes or hexadecimal: it needs no escapes. */
#include "hostvmm/control/audit_report.h"

#include <inttypes.h>

static const char *const places[] = {[AUDIT_ANSWER] = "answer", [AUDIT_OUTPUT] = "output"};
static const char *const units[] = {[AUDIT_ANSWER] = "offset", [AUDIT_OUTPUT] = "line"};

static const char *verdict_of(const struct audit_column *column, const struct audit_source *source)
{
    if (column->duplicates > 0)
        return "DUPLICATES";
    if (column->missing > 0)
        return source->optional ? "missing (it may be)" : "MISSING";
    return "unique";
}

static uint64_t spread_ns(const struct audit_facts *facts)
{
    return facts->monotonic_count > 0 ? facts->monotonic_most_ns - facts->monotonic_least_ns : 0;
}

static void where_people(FILE *out, const struct audit_where *where)
{
    (void)fprintf(out, "clone %" PRIu32 " %s %s %" PRIu32, where->clone, places[where->place],
                  units[where->place], where->at);
}

static size_t described(const struct audit_tokens *tokens)
{
    return tokens->finding_count < AUDIT_FINDINGS_MAX ? (size_t)tokens->finding_count : AUDIT_FINDINGS_MAX;
}

static void clocks_people(FILE *out, const struct audit_facts *facts, uint32_t clones)
{
    (void)fprintf(out, "%-16s %8" PRIu32 " %11s  %s, at worst %.3f ms from the host's\n", "realtime",
                  facts->realtime_count, "-",
                  facts->realtime_bad > 0           ? "OUT OF BOUNDS"
                  : facts->realtime_count != clones ? "MISSING"
                                                    : "right",
                  (double)facts->realtime_worst_ns / 1e6);
    (void)fprintf(out, "%-16s %8" PRIu32 " %11s  %s, %.3f ms from the least to the most\n", "monotonic",
                  facts->monotonic_count, "-", facts->monotonic_count != clones ? "MISSING" : "told",
                  (double)spread_ns(facts) / 1e6);
}

void audit_report_people(FILE *out, const struct audit_facts *facts, const struct audit_tokens *tokens,
                         uint32_t clones)
{
    (void)fprintf(out, "%-16s %8s %11s  verdict\n", "source", "clones", "duplicates");
    for (unsigned i = 0; i < AUDIT_SOURCES; i++) {
        const struct audit_column *column = &facts->columns[i];
        (void)fprintf(out, "%-16s %8zu %11" PRIu32 "  %s", audit_sources[i].name, column->count,
                      column->duplicates, verdict_of(column, &audit_sources[i]));
        if (column->duplicates > 0)
            (void)fprintf(out, ", as in clones %" PRIu32 " and %" PRIu32, column->first, column->second);
        (void)putc('\n', out);
    }
    clocks_people(out, facts, clones);
    (void)fprintf(out, "%-16s %8" PRIu32 " %11" PRIu64 "  %s\n", "function", clones, tokens->finding_count,
                  tokens->finding_count > 0 ? "DUPLICATES in its answers or output" : "unique");
    for (size_t i = 0; i < described(tokens); i++) {
        const struct audit_finding *finding = &tokens->findings[i];
        (void)fprintf(out, "  %s%s (%" PRIu32 " bytes, some %" PRIu32 " bits) in %" PRIu32 " clones: ",
                      finding->is_binary ? "0x" : "", finding->shown, finding->bytes, finding->bits,
                      finding->clones);
        where_people(out, &finding->first);
        (void)fputs(", ", out);
        where_people(out, &finding->second);
        (void)putc('\n', out);
    }
    if (tokens->cut_texts > 0)
        (void)fprintf(out, "of %" PRIu64 " answers or outputs only the first %d bytes were considered\n",
                      tokens->cut_texts, AUDIT_TEXT_MAX);
}

static void where_json(FILE *out, const char *name, const struct audit_where *where)
{
    (void)fprintf(out, ",\"%s\":{\"clone\":%" PRIu32 ",\"in\":\"%s\",\"%s\":%" PRIu32 "}", name, where->clone,
                  places[where->place], units[where->place], where->at);
}

void audit_report_json(FILE *out, const struct audit_facts *facts, const struct audit_tokens *tokens,
                       uint32_t clones, bool good)
{
    (void)fprintf(out, "{\"clones\":%" PRIu32 ",\"good\":%s,\"sources\":[", clones, good ? "true" : "false");
    for (unsigned i = 0; i < AUDIT_SOURCES; i++) {
        const struct audit_column *column = &facts->columns[i];
        (void)fprintf(
            out, "%s{\"name\":\"%s\",\"compared\":%zu,\"missing\":%" PRIu32 ",\"duplicates\":%" PRIu32,
            i > 0 ? "," : "", audit_sources[i].name, column->count, column->missing, column->duplicates);
        if (column->duplicates > 0)
            (void)fprintf(out, ",\"pair\":[%" PRIu32 ",%" PRIu32 "]", column->first, column->second);
        (void)putc('}', out);
    }
    (void)fprintf(out,
                  "],\"realtime\":{\"compared\":%" PRIu32 ",\"out_of_bounds\":%" PRIu32
                  ",\"worst_ns\":%" PRId64 "},\"monotonic\":{\"compared\":%" PRIu32 ",\"spread_ns\":%" PRIu64
                  "}",
                  facts->realtime_count, facts->realtime_bad, facts->realtime_worst_ns,
                  facts->monotonic_count, spread_ns(facts));
    (void)fprintf(out, ",\"function\":{\"duplicates\":%" PRIu64 ",\"cut\":%" PRIu64 ",\"found\":[",
                  tokens->finding_count, tokens->cut_texts);
    for (size_t i = 0; i < described(tokens); i++) {
        const struct audit_finding *finding = &tokens->findings[i];
        (void)fprintf(out,
                      "%s{\"value\":\"%s\",\"binary\":%s,\"bytes\":%" PRIu32 ",\"bits\":%" PRIu32
                      ",\"clones\":%" PRIu32,
                      i > 0 ? "," : "", finding->shown, finding->is_binary ? "true" : "false", finding->bytes,
                      finding->bits, finding->clones);
        where_json(out, "first", &finding->first);
        where_json(out, "second", &finding->second);
        (void)putc('}', out);
    }
    (void)fputs("]}}\n", out);
}
