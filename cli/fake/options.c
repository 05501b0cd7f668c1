/* options.c - the command line of `trommel fake`, from options.def.
 * SPDX-License-Identifier: MIT */
#include "fake/options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum type { COUNT, REAL, TEXT, FLAG, LATENCY, SWITCH, RETRY, PRICES,
            CACHE_PRICES, STUCK, ALL, SHARE, TITLE };

static const struct row {
    const char *name;
    enum type type;
    size_t offset;
    const char *argument, *help;
    double share;
} rows[] = {
#define GROUP(title) {title, TITLE, 0, NULL, NULL, 0},
#define OPT(field, name, type, argument, help)                                 \
    {name, type, offsetof(struct fake_options, field), argument, help, 0},
#define FAULT(id, name, share, help)                                           \
    {name, SHARE, offsetof(struct fake_options, p) + id * sizeof(double), "P", \
     help, share},
#include "fake/options.def"
};
#define ROW_COUNT (sizeof rows / sizeof *rows)

static const char usage[] =
    "usage: trommel fake [OPTION...]\n"
    "A provider on loopback that speaks every dialect trommel speaks, to\n"
    "rehearse a run without spending. GET /bill tells what it would have charged.\n\n"
    "  trommel fake --port 8000 --gold tickets.csv --latency 300:0.5 --rpm 600\n"
    "  trommel classify tickets.csv -l refund,bug,question --model openai/fake \\\n"
    "      --base-url http://127.0.0.1:8000/v1 -o out.csv\n"
    "  trommel fake --labels yes,no --all-faults --seed 7\n";

static void show_help(FILE *out)
{
    fputs(usage, out);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *r = &rows[i];
        char left[64];

        if (r->type == TITLE) {
            fprintf(out, "\n%s:\n", r->name);
            continue;
        }
        snprintf(left, sizeof left, "--%s%s%s", r->name, r->argument ? " " : "",
                 r->argument ? r->argument : "");
        fprintf(out, "  %-32s %s", left, r->help);
        if (r->type == SHARE)
            fprintf(out, " [%g]", r->share);
        fputc('\n', out);
    }
    fputs("\n[x]: share in --all-faults\n", out);
}

/* A number from the start of s; *end is where it stops. */
static bool real_in(const char *s, double *out, char **end)
{
    errno = 0;
    *out = strtod(s, end);
    return *end != s && !errno && isfinite(*out) && *out >= 0;
}

static bool whole_real(const char *s, double *out)
{
    char *end;

    return real_in(s, out, &end) && !*end;
}

static bool two_reals(const char *s, double *a, double *b)
{
    char *end;

    return real_in(s, a, &end) && *end == ':' && whole_real(end + 1, b);
}

static bool word_in(const char *s, const char *const *words, int *out)
{
    for (int i = 0; words[i]; i++)
        if (!strcmp(s, words[i])) {
            *out = i;
            return true;
        }
    return false;
}

static bool read_stuck(struct fake_options *o, const char *s)
{
    const char *colon = strrchr(s, ':');
    size_t n = colon ? (size_t)(colon - s) : 0;

    if (!n || n >= sizeof o->stuck || !whole_real(colon + 1, &o->stuck_s))
        return false;
    memcpy(o->stuck, s, n);
    o->stuck[n] = 0;
    return true;
}

static void set_all_faults(struct fake_options *o)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (rows[i].type == SHARE)
            *(double *)((char *)o + rows[i].offset) = rows[i].share;
    o->reasoning = 24;
}

static bool set(struct fake_options *o, const struct row *r, const char *s)
{
    static const char *const switches[] = {"off", "on", NULL};
    static const char *const forms[] = {"seconds", "ms", "date", "none", NULL};
    void *at = (char *)o + r->offset;
    double a = 0, b = 0;
    char *end;
    int word;

    switch (r->type) {
    case COUNT:
        errno = 0;
        *(int64_t *)at = strtoll(s, &end, 10);
        return *s >= '0' && *s <= '9' && !*end && !errno;
    case REAL:
        return whole_real(s, at);
    case SHARE:
        return whole_real(s, at) && *(double *)at <= 1;
    case TEXT:
        *(const char **)at = s;
        return *s != 0;
    case FLAG:
        *(bool *)at = true;
        return true;
    case SWITCH:
        if (!word_in(s, switches, &word))
            return false;
        *(bool *)at = word;
        return true;
    case RETRY:
        if (!word_in(s, forms, &word))
            return false;
        o->retry_after = (enum fake_retry)word;
        return true;
    case LATENCY:
        o->latency_sigma = 0;
        return whole_real(s, &o->latency_ms) ||
               two_reals(s, &o->latency_ms, &o->latency_sigma);
    case PRICES:
        if (!two_reals(s, &a, &b) || a > 1e6 || b > 1e6)
            return false;
        o->price_in = llround(a * 1e6);
        o->price_out = llround(b * 1e6);
        return true;
    case CACHE_PRICES:
        if (!two_reals(s, &a, &b) || a > 1e6 || b > 1e6)
            return false;
        o->price_cached = llround(a * 1e6);
        o->price_cache_write = llround(b * 1e6);
        return true;
    case STUCK:
        return read_stuck(o, s);
    case ALL:
        set_all_faults(o);
        return true;
    case TITLE:
        break;
    }
    return false;
}

static const struct row *find(const char *name, size_t n)
{
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (rows[i].type != TITLE && strlen(rows[i].name) == n &&
            !memcmp(rows[i].name, name, n))
            return &rows[i];
    return NULL;
}

/* What only holds over all options together; NULL when all is well. */
static const char *conflict(const struct fake_options *o)
{
    double sum = 0;

    for (int i = 0; i < FAKE_FAULT_REPLACING; i++)
        sum += o->p[i];
    if (sum > 1 + 1e-9)
        return "the faults that replace the answer add up to more than 1";
    if (o->port > 65535)
        return "--port goes up to 65535";
    if (!o->gold && !o->labels)
        return "give --gold FILE, or --labels A,B,C, so that it knows what to "
               "answer";
    if (o->window_s == 0 && o->bucket_s == 0)
        return "--bucket must be larger than 0";
    return NULL;
}

int fake_options_read(struct fake_options *o, int argc, char **argv,
                      FILE *out, FILE *err)
{
    const char *why;

    *o = (struct fake_options){.seed = 1, .headers = true, .bucket_s = 60,
                               .batch_delay_s = 1, .batch_price = 50,
                               .quota_after = -1, .daily_after = -1,
                               .cache = -1, .price_cached = -1,
                               .price_cache_write = -1,
                               .retired_after = -1, .down_after = -1,
                               .told_off_at = -1, .told_off_for_s = 60,
                               .key_after = -1, .renamed_after = -1,
                               .text = "text", .label = "label"};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i] + 2, *eq, *value = NULL;
        const struct row *r;

        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            show_help(out);
            return 1;
        }
        if (strncmp(argv[i], "--", 2)) {
            fprintf(err, "trommel fake: '%s' is not an option; try --help\n",
                    argv[i]);
            return -1;
        }
        eq = strchr(name, '=');
        r = find(name, eq ? (size_t)(eq - name) : strlen(name));
        if (!r) {
            fprintf(err, "trommel fake: no option %s; try --help\n", argv[i]);
            return -1;
        }
        if (r->argument)
            value = eq ? eq + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (r->argument && !value) {
            fprintf(err, "trommel fake: --%s needs %s\n", r->name, r->argument);
            return -1;
        }
        if ((!r->argument && eq) || !set(o, r, value)) {
            fprintf(err, "trommel fake: --%s does not take '%s'; it takes %s\n",
                    r->name, eq ? eq + 1 : value,
                    r->argument ? r->argument : "no value");
            return -1;
        }
    }
    why = conflict(o);
    if (why) {
        fprintf(err, "trommel fake: %s\n", why);
        return -1;
    }
    return 0;
}
