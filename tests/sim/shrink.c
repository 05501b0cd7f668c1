/* shrink.c - a red seed becomes a short script.
 *
 * First the options, while what strikes is still drawn: each goes to its least
 * or halfway there, fault classes among them, as long as the same promise is
 * broken in the same way. Then what struck is written down and takes the place
 * of the draws, and goes piece by piece, larger pieces first; then the options
 * once more.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "base/err.h"

#include <math.h>

enum { RUNS_MAX = 3000, ROUNDS = 4 };

struct shrink {
    struct sim_script s;  /* the smallest so far that is red */
    bool scripted;
    char kind[40];        /* of its failure */
    int runs;
};

static struct sim w;

/* "I5 broken at 1.5 s, run 2: text 7 is shown ...": what is broken, and how,
 * without the numbers; else it may turn into another failure. */
static void kind_of(const char *failure, char *out, size_t size)
{
    const char *how = strstr(failure, ": ");
    size_t n = (size_t)snprintf(out, size, "%.*s ", (int)strcspn(failure, " "),
                                failure);

    how = how ? how + 2 : "";
    while (*how && n + 1 < size) {
        size_t word = strcspn(how, " ,"), digits = strcspn(how, "0123456789");

        for (size_t i = 0; digits >= word && i < word && n + 1 < size; i++)
            out[n++] = how[i];
        how += word + (how[word] != '\0');
    }
    out[n] = '\0';
}

static bool red(struct shrink *k, const struct sim_script *s)
{
    char kind[sizeof k->kind];

    k->runs++;
    if (sim_run(&w, &s->o, k->scripted ? s : NULL, false))
        return false;
    kind_of(w.failure, kind, sizeof kind);
    if (!k->kind[0])
        snprintf(k->kind, sizeof k->kind, "%s", kind);
    return strcmp(kind, k->kind) == 0;
}

static bool try_option(struct shrink *k, int i, double v)
{
    struct sim_script trial = k->s;

    if (k->runs >= RUNS_MAX)
        return false;
    sim_option_put(&trial.o, i, v);
    if (sim_option(&trial.o, i) == sim_option(&k->s.o, i) || !red(k, &trial))
        return false;
    k->s.o = trial.o;
    return true;
}

/* One option: at its least, or halfway there, or halfway to that. */
static bool shrink_option(struct shrink *k, int i)
{
    double least = sim_option_least(i), at = sim_option(&k->s.o, i);
    bool any = false;

    if (at == least)
        return false;
    if (try_option(k, i, least))
        return true;
    for (double by = trunc((at - least) / 2); by >= 1 || by <= -1;
         by = trunc(by / 2))
        if (try_option(k, i, sim_option(&k->s.o, i) - by))
            any = true;
    return any;
}

static bool shrink_options(struct shrink *k)
{
    bool any = false;

    for (int i = 0; i < sim_options_count(); i++)
        any |= shrink_option(k, i);
    return any;
}

/* What strikes, without the n from `from` on. */
static bool shrink_cut(struct shrink *k, size_t from, size_t n)
{
    struct sim_script trial = k->s;
    bool ok;

    trial.strikes = tr_array(k->s.n + 1, sizeof *trial.strikes);
    TR_ASSERT(trial.strikes);
    trial.n = 0;
    for (size_t i = 0; i < k->s.n; i++)
        if (i < from || i >= from + n)
            trial.strikes[trial.n++] = k->s.strikes[i];
    ok = red(k, &trial);
    if (ok) {
        tr_free(k->s.strikes);
        k->s = trial;
    } else {
        tr_free(trial.strikes);
    }
    return ok;
}

static bool shrink_strikes(struct shrink *k)
{
    bool any = false;

    for (size_t n = k->s.n; n > 0; n /= 2)
        for (size_t from = 0; from < k->s.n && k->runs < RUNS_MAX; ) {
            if (shrink_cut(k, from, n))
                any = true;
            else
                from += n;
        }
    return any;
}

/* Of a power cut: nothing is left that was not synced. */
static void shrink_cuts(struct shrink *k)
{
    for (size_t i = 0; i < k->s.n; i++) {
        struct sim_strike *s = &k->s.strikes[i];
        int64_t was = s->value;

        if (s->site != S_POWER || was == 1)
            continue;
        s->value = 1;
        if (!red(k, &k->s))
            s->value = was;
    }
}

/* What struck in the last red run takes the place of the draws. */
static void write_down(struct shrink *k)
{
    TR_ASSERT(red(k, &k->s));
    k->s.n = w.struck_n;
    k->s.strikes = tr_array(w.struck_n + 1, sizeof *k->s.strikes);
    TR_ASSERT(k->s.strikes);
    if (w.struck_n)
        memcpy(k->s.strikes, w.struck, w.struck_n * sizeof *w.struck);
    sim_script_sort(&k->s);
    k->scripted = true;
    TR_ASSERT(red(k, &k->s)); /* else it was no equal world */
}

bool sim_shrink(struct sim_script *out, const struct sim_options *o)
{
    struct shrink k = {.s = {.o = *o}};

    *out = (struct sim_script){.n = 0};
    if (!red(&k, &k.s))
        return false;
    fprintf(stderr, "shrink: %s\n", w.failure);
    k.s.o.audit_pct = 100; /* what is looked at always needs no luck */
    if (!red(&k, &k.s))
        k.s.o.audit_pct = o->audit_pct;
    shrink_options(&k);
    write_down(&k);
    for (int i = 0; i < ROUNDS; i++) {
        bool any = shrink_strikes(&k);

        shrink_cuts(&k);
        any |= shrink_options(&k);
        if (!any)
            break;
    }
    TR_ASSERT(red(&k, &k.s));
    fprintf(stderr, "shrink: %d runs; %d rows, %zu strikes left: %s\n", k.runs,
            k.s.o.rows, k.s.n, w.failure);
    *out = k.s;
    return true;
}
