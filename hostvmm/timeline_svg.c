/*
 * A boot or a restore as a picture: a row for each phase, its bar where it lies in time; below the last phase of
 * a restore the agent's steps, one after the other. Labels stand in the bars, or beside them where there is room; names are hostvmm's own, but for those of steps, which are the guest's and escaped.
 *
 *     title                                     ready in 12.3 ms
 *     name      |####| 4.2 ms  34 %
 *     name           |##########| 8.1 ms  66 %
 *     (axis)    0    2    4    6    8    10   12 ms
 */
#include <stdbool.h>
#include <string.h>

#include "hostvmm/timeline.h"

#define WIDTH      960.0
#define MARGIN     28.0
#define NAMES      248.0 /* the column of names */
#define PLOT_LEFT  (MARGIN + NAMES)
#define PLOT_WIDTH (WIDTH - PLOT_LEFT - MARGIN)
#define HEAD       84.0
#define ROW        38.0
#define STEP_ROW   23.0
#define FOOT       52.0
#define LABEL      112.0 /* that one wants */
#define TICKS      6.0

static const char *const colours[TIMELINE_PHASES_MAX] = {
    "#3d5a80", "#4a7c8c", "#5b9279", "#8fa34b", "#d9a441", "#d97b41", "#b8405e", "#7d4e8c",
};

struct picture {
    FILE *out;
    uint64_t from_ns;
    double total_ns;
    double y;
};

static double x_of(const struct picture *picture, double at_ns)
{
    return PLOT_LEFT + PLOT_WIDTH * at_ns / picture->total_ns;
}

static const struct unit {
    double ns;
    const char *name;
} units[] = {{1e9, " s"}, {1e6, " ms"}, {1e3, " \302\265s"}};

static const struct unit *unit_of(double ns)
{
    return &units[ns >= 1e9 ? 0 : ns >= 1e6 ? 1 : 2];
}

/* A time with three digits or so, and its unit. */
static void put_time(FILE *out, double ns)
{
    const struct unit *unit = unit_of(ns);
    const double value = ns / unit->ns;
    (void)fprintf(out, "%.*f%s", value < 10 ? 2 : value < 100 ? 1 : 0, value, unit->name);
}

static void put_escaped(FILE *out, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '<' || *at == '>' || *at == '&' || *at == '"' || *at < 0x20 || *at >= 0x7f)
            (void)putc('?', out);
        else
            (void)putc(*at, out);
    }
}

static void put_head(const struct picture *picture, const struct timeline *timeline, double height)
{
    FILE *out = picture->out;
    const bool restored = timeline->opened_ns != 0;
    const bool ready =
        restored ? timeline->unique_ns != 0 : timeline_stage(timeline, GUEST_STAGE_FUNCTION_READY) != 0;
    (void)fprintf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 "
                  "%.0f %.0f\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n",
                  WIDTH, height, WIDTH, height);
    (void)fprintf(out, "<style>.n{font-size:14px;font-weight:600;fill:#1d2733}.s{font-size:12px;fill:#46525f}"
                       ".a{font-size:11px;fill:#6b7785}</style>\n");
    (void)fprintf(out, "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n");
    (void)fprintf(
        out, "<text x=\"%.0f\" y=\"40\" font-size=\"20\" font-weight=\"700\" fill=\"#1d2733\">%s</text>\n",
        MARGIN, restored ? "Restore of a clone" : "Boot of a guest");
    (void)fprintf(out, "<text x=\"%.0f\" y=\"40\" text-anchor=\"end\" font-size=\"16\" fill=\"#1d2733\">%s ",
                  WIDTH - MARGIN, ready ? "ready in" : "not ready; so far");
    put_time(out, picture->total_ns);
    (void)fputs("</text>\n", out);
}

/* 1, 2 or 5 times a power of ten. */
static double tick_ns(double total_ns)
{
    double tick = 1;
    while (tick * TICKS < total_ns) {
        if (tick * 2 * TICKS >= total_ns)
            return tick * 2;
        if (tick * 5 * TICKS >= total_ns)
            return tick * 5;
        tick *= 10;
    }
    return tick;
}

static void put_axis(const struct picture *picture, double top, double bottom)
{
    const double tick = tick_ns(picture->total_ns);
    const struct unit *unit = unit_of(tick);
    for (unsigned i = 0; (double)i * tick <= picture->total_ns * 1.0001; i++) {
        const double x = x_of(picture, (double)i * tick);
        (void)fprintf(picture->out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
                      x, x, top, bottom, i ? "#e6eaee" : "#9aa5b1");
        (void)fprintf(picture->out, "<text class=\"a\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x,
                      bottom + 18);
        (void)fprintf(picture->out, "%g%s</text>\n", (double)i * tick / unit->ns, i ? unit->name : "");
    }
}

/* A bar, and how long it is: in it, behind it, or before it where the picture ends. */
static void put_bar(const struct picture *picture, double from_ns, double duration_ns, double height,
                    const char *colour, bool is_step)
{
    FILE *out = picture->out;
    const double x = x_of(picture, from_ns);
    const double wide = x_of(picture, from_ns + duration_ns) - x;
    const bool inside = wide > LABEL;
    const bool behind = inside || x + wide + LABEL <= WIDTH;
    (void)fprintf(out,
                  "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"3\" fill=\"%s\"%s/>\n", x,
                  picture->y, wide < 1.5 ? 1.5 : wide, height, colour, is_step ? " opacity=\"0.62\"" : "");
    (void)fprintf(out, "<text font-size=\"12\" fill=\"%s\" x=\"%.1f\" y=\"%.1f\"%s>",
                  inside && !is_step ? "#ffffff" : "#1d2733",
                  inside   ? x + 9
                  : behind ? x + wide + 7
                           : x - 7,
                  picture->y + height / 2 + 4.2, behind ? "" : " text-anchor=\"end\"");
    put_time(out, duration_ns);
    if (!is_step)
        (void)fprintf(out, "<tspan dx=\"8\" opacity=\"0.7\">%.0f %%</tspan>",
                      100 * duration_ns / picture->total_ns);
    (void)fputs("</text>\n", out);
}

static void put_phase(struct picture *picture, const struct timeline_phase *phase, const char *colour)
{
    FILE *out = picture->out;
    (void)fprintf(out, "<text class=\"n\" x=\"%.0f\" y=\"%.1f\">%s</text>\n", MARGIN, picture->y + 11,
                  phase->name);
    (void)fprintf(out, "<text class=\"a\" x=\"%.0f\" y=\"%.1f\">%s</text>\n", MARGIN, picture->y + 25,
                  phase->what);
    put_bar(picture, (double)(phase->from_ns - picture->from_ns), (double)phase->duration_ns, ROW - 14,
            colour, false);
    picture->y += ROW;
}

/* As the guest measured them, one after the other; we know when the last one ended. */
static void put_steps(struct picture *picture, const struct timeline *timeline, const char *colour)
{
    double at_ns = picture->total_ns;
    for (unsigned i = 0; i < timeline->step_count; i++)
        at_ns -= (double)timeline->steps[i].duration_us * 1e3;
    if (at_ns < 0)
        at_ns = 0;
    for (unsigned i = 0; i < timeline->step_count; i++) {
        double duration_ns = (double)timeline->steps[i].duration_us * 1e3;
        if (at_ns + duration_ns > picture->total_ns)
            duration_ns = picture->total_ns - at_ns;
        (void)fprintf(picture->out, "<text class=\"s\" x=\"%.0f\" y=\"%.1f\">", MARGIN + 16,
                      picture->y + 12.5);
        put_escaped(picture->out, timeline->steps[i].name);
        (void)fputs("</text>\n", picture->out);
        put_bar(picture, at_ns, duration_ns, STEP_ROW - 8, colour, true);
        at_ns += duration_ns;
        picture->y += STEP_ROW;
    }
}

void timeline_svg(const struct timeline *timeline, FILE *out)
{
    struct timeline_phase phases[TIMELINE_PHASES_MAX];
    const unsigned count = timeline_phases(timeline, phases);
    const uint64_t end_ns = count ? phases[count - 1].from_ns + phases[count - 1].duration_ns : 0;
    struct picture picture = {.out = out, .from_ns = timeline->start_ns, .total_ns = 1, .y = HEAD};
    const unsigned steps = count && timeline->unique_ns ? timeline->step_count : 0;
    const double bottom = HEAD + ROW * count + STEP_ROW * steps + 2;
    if (end_ns > timeline->start_ns)
        picture.total_ns = (double)(end_ns - timeline->start_ns);
    put_head(&picture, timeline, bottom + FOOT);
    put_axis(&picture, HEAD - 12, bottom);
    for (unsigned i = 0; i < count && i < TIMELINE_PHASES_MAX; i++)
        put_phase(&picture, &phases[i], colours[i]);
    if (steps)
        put_steps(&picture, timeline, colours[count - 1]);
    (void)fputs("</svg>\n", out);
}
