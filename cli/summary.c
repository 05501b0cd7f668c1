/* summary.c - what came of the run, at its end: a few aligned lines.
 * SPDX-License-Identifier: MIT */
#include "summary.h"

#include "format.h"

#include <stdio.h>
#include <string.h>

enum { LABELS_SHOWN = 10 };

/* A line built from parts; what does not fit is left out. */
struct line {
    char text[2000];
    size_t n;
};

static void put(struct line *l, const char *a, const char *b)
{
    int n = snprintf(l->text + l->n, sizeof l->text - l->n, "%s%s", a, b);

    if (n > 0)
        l->n += (size_t)n < sizeof l->text - l->n ? (size_t)n
                                                  : sizeof l->text - l->n - 1;
}

/* ", 12 words" with "12" in thousands. */
static void put_count(struct line *l, const char *before, int64_t n,
                      const char *after)
{
    char number[FORMAT_BYTES];

    put(l, before, format_count(number, n));
    put(l, after, "");
}

/* The labels with most rows first; task order decides among equals. */
static void put_labels(struct line *l, const trommel_run *run)
{
    size_t top[LABELS_SHOWN], shown = 0, used = 0;
    int64_t none = trommel_run_count(run, TROMMEL_ROWS_UNLABELLED), rows, other;

    for (size_t i = 0; trommel_run_label(run, i, &rows); i++) {
        size_t at = shown;

        if (rows == 0)
            continue;
        used++;
        while (at > 0 && trommel_run_label(run, top[at - 1], &other) &&
               other < rows)
            at--;
        if (at == LABELS_SHOWN)
            continue;
        if (shown < LABELS_SHOWN)
            shown++;
        memmove(top + at + 1, top + at, (shown - 1 - at) * sizeof *top);
        top[at] = i;
    }
    for (size_t i = 0; i < shown; i++) {
        const char *name = trommel_run_label(run, top[i], &rows);

        put_count(l, i ? ", " : ": ", rows, " ");
        put(l, name, "");
    }
    if (used > shown)
        put_count(l, " and ", (int64_t)(used - shown),
                  used - shown == 1 ? " label more" : " labels more");
    if (none > 0)
        put_count(l, shown ? ", " : ": ", none, " with no label");
}

static void say_failures(struct term *term, const trommel_run *run)
{
    int64_t rows, example;
    const char *code, *text;

    for (size_t i = 0;
         (code = trommel_run_failure(run, i, &rows, &example, &text)); i++) {
        struct line l = {.n = 0};

        put_count(&l, "  failed  ", rows, " ");
        put(&l, code, ": ");
        put(&l, text, "");
        if (example > 0)
            put_count(&l, rows > 1 ? " (first: row " : " (row ", example, ")");
        term_say(term, SAY_NOTE, l.text);
    }
}

static void say_known(struct term *term, const trommel_run *run)
{
    int64_t stored = trommel_run_count(run, TROMMEL_ROWS_STORED);
    int64_t failed = trommel_run_count(run, TROMMEL_ROWS_STORED_FAILED);
    int64_t twins = trommel_run_count(run, TROMMEL_ROWS_TWIN);
    struct line l = {.n = 0};

    if (stored > 0)
        put_count(&l, "  known   ", stored, stored == 1
                      ? " row came from the store"
                      : " rows came from the store");
    if (twins > 0)
        put_count(&l, stored ? ", " : "  known   ", twins,
                  " equal to an earlier row");
    if (failed > 0)
        put_count(&l, "; ", failed, " from the store failed before: "
                                    "--retry-failed asks again");
    if (l.n)
        term_say(term, SAY_NOTE, l.text);
}

static void say_asked(struct term *term, const trommel_run *run)
{
    int64_t requests = trommel_run_count(run, TROMMEL_REQUESTS);
    int64_t retries = trommel_run_count(run, TROMMEL_RETRIES);
    int64_t in = trommel_run_count(run, TROMMEL_TOKENS_IN);
    int64_t out = trommel_run_count(run, TROMMEL_TOKENS_OUT);
    int64_t cached = trommel_run_count(run, TROMMEL_TOKENS_CACHED);
    int64_t refused = trommel_run_count(run, TROMMEL_THROTTLED);
    struct line l = {.n = 0};
    char n[FORMAT_BYTES];

    if (requests == 0)
        return;
    put_count(&l, "  asked   ", requests, requests == 1 ? " request" :
                                                          " requests");
    if (retries > 0)
        put_count(&l, ", ", retries, retries == 1 ? " retry" : " retries");
    if (refused > 0)
        put_count(&l, ", ", refused, " refused for pace");
    if (in + out > 0) {
        put(&l, "; tokens: ", format_short(n, in));
        put(&l, " in", "");
        if (cached > 0) {
            put(&l, " (", format_short(n, cached));
            put(&l, " cached)", "");
        }
        put(&l, ", ", format_short(n, out));
        put(&l, " out", "");
    }
    term_say(term, SAY_NOTE, l.text);
}

/* What the provider's prompt cache did for the money. */
static void say_cache(struct term *term, const trommel_run *run)
{
    int64_t in = trommel_run_count(run, TROMMEL_TOKENS_IN);
    int64_t cached = trommel_run_count(run, TROMMEL_TOKENS_CACHED);
    int64_t wrote = trommel_run_count(run, TROMMEL_TOKENS_CACHE_WRITE);
    int64_t saved = trommel_run_count(run, TROMMEL_CACHE_SAVED_NANOUSD);
    struct line l = {.n = 0};
    char n[FORMAT_BYTES];

    if (in <= 0 || (cached <= 0 && wrote <= 0))
        return;
    snprintf(n, sizeof n, "%d", (int)((double)cached / (double)in * 100 + 0.5));
    put(&l, "  cache   ", n);
    put(&l, " % of the tokens in came from the provider's cache", "");
    if (saved > 0)
        put(&l, ", saved ", format_money(n, saved));
    else if (saved < 0)
        put(&l, ", and keeping them cost ", format_money(n, -saved));
    term_say(term, SAY_NOTE, l.text);
}

/* Which part of the shadow sample disagrees. */
static void put_shadow(struct line *l, const trommel_run *run)
{
    int64_t rows = trommel_run_count(run, TROMMEL_SHADOW_ROWS);
    int64_t differ = trommel_run_count(run, TROMMEL_SHADOW_DIFFER);
    char range[80];

    snprintf(range, sizeof range, " (%.1f-%.1f %%)",
             (double)trommel_run_count(run, TROMMEL_SHADOW_LOW) / 10,
             (double)trommel_run_count(run, TROMMEL_SHADOW_HIGH) / 10);
    put_count(l, "; shadow: ", rows, rows == 1 ? " row asked again, "
                                               : " rows asked again, ");
    put_count(l, "", differ, " labelled otherwise");
    put(l, range, "");
}

/* Nothing in the counts tells that nobody could have noticed. Where some had
 * canaries the line of counts says how many had none. */
static void say_unguarded(struct term *term, int64_t bare)
{
    struct line l = {.n = 0};

    put_count(&l, "  guard   ", bare, bare == 1 ? " request" : " requests");
    put(&l, " of several texts without known answers: a text that gives orders "
            "may have steered others; add examples to the task, or use "
            "--guard strict or --isolate", "");
    term_say(term, SAY_NOTE, l.text);
}

/* What canaries, looks and the shadow sample found. */
static void say_found(struct term *term, const trommel_run *run)
{
    int64_t packs = trommel_run_count(run, TROMMEL_GUARD_PACKS);
    int64_t bare = trommel_run_count(run, TROMMEL_GUARD_BARE);
    int64_t doubts = trommel_run_count(run, TROMMEL_GUARD_DOUBTS);
    int64_t in_vain = trommel_run_count(run, TROMMEL_GUARD_FALSE);
    int64_t corrected = trommel_run_count(run, TROMMEL_GUARD_CORRECTED);
    int64_t isolated = trommel_run_count(run, TROMMEL_ROWS_ISOLATED);
    int64_t tokens = trommel_run_count(run, TROMMEL_GUARD_TOKENS);
    struct line l = {.n = 0};
    char n[FORMAT_BYTES];

    if (packs <= 0 && doubts <= 0 && isolated <= 0)
        return;
    put_count(&l, "  guard   ", packs, packs == 1 ? " request with canaries"
                                                  : " requests with canaries");
    if (bare > 0)
        put_count(&l, ", ", bare, " without");
    if (doubts > 0)
        put_count(&l, ", ", doubts, " voided");
    if (in_vain > 0)
        put_count(&l, " (", in_vain, " in vain)");
    if (corrected > 0)
        put_count(&l, ", ", corrected, corrected == 1 ? " label corrected"
                                                      : " labels corrected");
    if (isolated > 0)
        put_count(&l, "; ", isolated, isolated == 1
                      ? " row asked alone by its looks"
                      : " rows asked alone by their looks");
    if (trommel_run_count(run, TROMMEL_SHADOW_ROWS) > 0)
        put_shadow(&l, run);
    if (tokens > 0) {
        put(&l, "; ", format_short(n, tokens));
        put(&l, " tokens", "");
    }
    term_say(term, SAY_NOTE, l.text);
}

/* What the guard found, and what stays a risk. */
static void say_guard(struct term *term, const trommel_run *run)
{
    int64_t bare = trommel_run_count(run, TROMMEL_GUARD_BARE);

    say_found(term, run);
    if (bare > 0 && trommel_run_count(run, TROMMEL_GUARD_PACKS) == 0)
        say_unguarded(term, bare);
}

/* With several models: who answered what, and why rows went on. */
static void say_models(struct term *term, const trommel_run *run)
{
    const char *model, *why;
    int64_t rows, nano;

    if (!trommel_run_model(run, 1))
        return;
    for (size_t i = 0; (model = trommel_run_model(run, i)); i++) {
        struct line l = {.n = 0};
        char n[FORMAT_BYTES];

        put(&l, "  model   ", model);
        rows = trommel_run_model_count(run, i, TROMMEL_MODEL_ROWS);
        put_count(&l, ": ", rows, rows == 1 ? " row" : " rows");
        rows = trommel_run_model_count(run, i, TROMMEL_MODEL_STORED);
        if (rows > 0)
            put_count(&l, ", ", rows, " known");
        rows = trommel_run_model_count(run, i, TROMMEL_MODEL_REQUESTS);
        if (rows > 0)
            put_count(&l, ", ", rows, rows == 1 ? " request" : " requests");
        nano = trommel_run_model_count(run, i, TROMMEL_MODEL_SPENT_NANOUSD);
        if (nano > 0)
            put(&l, ", ", format_money(n, nano));
        for (size_t k = 0; (why = trommel_run_moved(run, i, k, &rows)); k++) {
            put_count(&l, k ? ", " : "; went on: ", rows, " ");
            put(&l, why, "");
        }
        term_say(term, SAY_NOTE, l.text);
    }
}

/* What is settled, and apart from it what nobody knows. */
static void put_cost(struct line *l, const trommel_run *run, int64_t nano)
{
    int64_t unknown = trommel_run_count(run, TROMMEL_UNKNOWN_NANOUSD);
    int64_t requests = trommel_run_count(run, TROMMEL_UNKNOWN_REQUESTS);
    char n[FORMAT_BYTES];

    put(l, "  cost    ", format_money(n, nano - unknown));
    put(l, nano > 0 ? " for this job (all its runs)" : "", "");
    if (unknown <= 0)
        return;
    put(l, ", and at most ", format_money(n, unknown));
    put_count(l, " for ", requests, requests == 1
                  ? " request whose cost is unknown"
                  : " requests whose cost is unknown");
}

static void say_cost_and_time(struct term *term, const trommel_run *run,
                              int64_t elapsed_ms)
{
    int64_t nano = trommel_run_count(run, TROMMEL_SPENT_NANOUSD);
    int64_t waited = trommel_run_count(run, TROMMEL_LIMIT_WAIT_MS);
    int64_t settled = trommel_run_count(run, TROMMEL_ROWS_SETTLED);
    int64_t requests = trommel_run_count(run, TROMMEL_REQUESTS);
    struct line cost = {.n = 0}, time = {.n = 0};
    char n[FORMAT_BYTES];
    double s = (double)elapsed_ms / 1000;

    if (nano >= 0)
        put_cost(&cost, run, nano);
    if (nano < 0 && requests > 0)
        put(&cost, "  cost    not known: no price for a model in "
                   "models.yaml", "");
    if (cost.n)
        term_say(term, SAY_NOTE, cost.text);
    snprintf(n, sizeof n, "%.1f s", s);
    put(&time, "  time    ", s < 60 ? n : format_span(n, s));
    if (s > 0 && settled > 0) {
        put(&time, ", ", format_rate(n, (double)settled / s));
        put(&time, " rows/s", "");
    }
    if (waited >= 1000) {
        put(&time, ", ", format_span(n, (double)waited / 1000));
        put(&time, " of it waiting for limits", "");
    }
    term_say(term, SAY_NOTE, time.text);
}

void summary_print(struct term *term, const trommel_run *run,
                   const char *output, int64_t elapsed_ms)
{
    int64_t rows = trommel_run_count(run, TROMMEL_ROWS_SETTLED);
    int64_t total = trommel_run_count(run, TROMMEL_ROWS_TOTAL);
    struct line l = {.n = 0};
    char n[FORMAT_BYTES];

    if (output) {
        put(&l, output, ": ");
    }
    put(&l, format_count(n, rows), "");
    if (total > rows)
        put(&l, " of ", format_count(n, total));
    put(&l, rows == 1 && total <= 1 ? " row" : " rows", "");
    put_labels(&l, run);
    term_say(term, SAY_NOTE, l.text);
    say_failures(term, run);
    say_known(term, run);
    say_asked(term, run);
    say_cache(term, run);
    say_guard(term, run);
    say_models(term, run);
    say_cost_and_time(term, run, elapsed_ms);
}

void summary_failed(struct term *term, const trommel_run *run,
                    const char *output)
{
    int64_t rows, row, first = 0;
    const char *code, *text;
    struct line l = {.n = 0};

    put_count(&l, "rows without a label: ",
              trommel_run_count(run, TROMMEL_ROWS_FAILED), " of ");
    put_count(&l, "", trommel_run_count(run, TROMMEL_ROWS_SETTLED), " (");
    for (size_t i = 0;
         (code = trommel_run_failure(run, i, &rows, &row, &text)); i++) {
        put_count(&l, i ? ", " : "", rows, " ");
        put(&l, code, "");
        if (!first || row < first)
            first = row;
    }
    put_count(&l, ", first: row ", first, "); the reasons stand in ");
    put(&l, output ? output : "the output",
        ", in the column that ends in _error");
    term_say(term, SAY_ERROR, l.text);
}
