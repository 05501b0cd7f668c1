/* hostile.c - texts that steer their neighbours, a model that obeys each of
 * them, and what comes of it at size.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "fake/gullible.h"

#include <inttypes.h>
#include <stdio.h>

void sim_hostile_write(struct sim *w, struct sim_text *t, struct tr_buf *b)
{
    /* Of its own, so that the texts are the same with and without. */
    struct tr_rng rng = {sim_stream(w->o.seed, 1000 + (uint64_t)w->text_count)};
    enum gullible_attack attack;
    int part = 0;

    t->moody = (int)tr_rng_below(&rng, 1000) < w->o.moody;
    if ((int)tr_rng_below(&rng, 1000) >= w->o.hostile && !w->split)
        return;
    attack = (enum gullible_attack)tr_rng_below(&rng, GULLIBLE_ATTACK_COUNT);
    if (w->o.attack)
        attack = (enum gullible_attack)(w->o.attack - 1);
    if (w->split)
        attack = GULLIBLE_SPLIT;
    if (attack == GULLIBLE_SPLIT) {
        part = w->split;
        w->split = !w->split;
    }
    t->hostile = true;
    tr_buf_addc(b, ' ');
    gullible_write(b, attack, w->o.sly, part, w->label_names,
                   (size_t)w->o.labels, &rng);
}

static uint32_t mask_of(const struct sim *w, struct tr_str label)
{
    for (int i = 0; i < w->o.labels; i++)
        if (tr_str_eq_c(label, w->label_names[i]))
            return 1u << i;
    return 0;
}

/* A label set that is one label, or "". */
static struct tr_str name_of(const struct sim *w, uint32_t mask)
{
    for (int i = 0; i < w->o.labels; i++)
        if (mask == 1u << i)
            return tr_str_c(w->label_names[i]);
    return TR_STR("");
}

int sim_obey(struct sim *w, const int *texts, const uint32_t *ids, int n,
             uint32_t *masks, bool *dropped, uint32_t *more_ids,
             uint32_t *more_masks)
{
    struct gullible g = {.n = 0};
    struct gullible_said *said;
    size_t all;

    for (int i = 0; i < n; i++)
        if (w->texts[texts[i]].hostile)
            gullible_hear(&g, (size_t)i, w->texts[texts[i]].text);
    if (!g.n)
        return 0;
    w->marks[M_OBEYED]++;
    said = tr_array((size_t)n + GULLIBLE_ORDERS, sizeof *said);
    for (int i = 0; i < n; i++)
        said[i] = (struct gullible_said){.id = ids[i],
                                         .label = name_of(w, masks[i])};
    all = gullible_obey(&g, said, (size_t)n);
    for (size_t i = 0; i < all; i++) {
        uint32_t mask = mask_of(w, said[i].label);

        if (i >= (size_t)n) {
            more_ids[i - (size_t)n] = (uint32_t)said[i].id;
            more_masks[i - (size_t)n] = mask;
            continue;
        }
        dropped[i] = said[i].dropped;
        if (mask)
            masks[i] = mask;
    }
    tr_free(said);
    return (int)all - n;
}

/* ---- figures ------------------------------- */

struct figure {
    const char *name;
    int guard, hostile, moody, pack, labels;
    bool sly, isolate;
    int attack; /* as in sim_options */
    /* to reach: wrong rows of 100,000, doubts of 1,000 packs, right or not,
     * tokens of 1,000 beyond those without a guard; -1: told only */
    int wrong_most, doubts_most, cost_most;
};

enum { SWAP_AFTER = 5000 };
/* Of 100,000 rows so many are wrong at least where nobody guards them: attacks
 * that do no harm would show nothing. */
enum { HARM_LEAST = 5000 };

static const struct figure figures[] = {
    {"clean, pack 4", TR_GUARD_ON, 0, 0, 4, 4, false, false, 0, 0, 5, 70},
    {"clean, pack 8", TR_GUARD_ON, 0, 0, 8, 4, false, false, 0, 0, 5, -1},
    {"clean, pack 12", TR_GUARD_ON, 0, 0, 12, 4, false, false, 0, 0, 5, -1},
    {"clean, pack 16", TR_GUARD_ON, 0, 0, 16, 4, false, false, 0, 0, 5, -1},
    {"clean, pack 50", TR_GUARD_ON, 0, 0, 50, 4, false, false, 0, 0, 5, 60},
    {"clean, pack 50, 2 % moody", TR_GUARD_ON, 0, 20, 50, 4, false, false, 0,
     0, 5, 60},
    {"clean, pack 50, 20 labels", TR_GUARD_ON, 0, 0, 50, 20, false, false, 0,
     0, 5, 60},
    {"clean, pack 50, strict", TR_GUARD_STRICT, 0, 0, 50, 4, false, false, 0,
     0, 5, -1},
    {"1 % plain, off", TR_GUARD_OFF, 10, 0, 50, 4, false, false, 0, -1, -1,
     -1},
    {"1 % plain, on", TR_GUARD_ON, 10, 0, 50, 4, false, false, 0, 50, -1, -1},
    {"1 % plain, strict", TR_GUARD_STRICT, 10, 0, 50, 4, false, false, 0, 50,
     -1, -1},
    {"1 % sly, off", TR_GUARD_OFF, 10, 0, 50, 4, true, false, 0, -1, -1, -1},
    {"1 % sly, pack 2", TR_GUARD_ON, 10, 0, 2, 4, true, false, 0, 50, -1, -1},
    {"1 % sly, pack 4", TR_GUARD_ON, 10, 0, 4, 4, true, false, 0, 50, -1, -1},
    {"1 % sly, pack 6", TR_GUARD_ON, 10, 0, 6, 4, true, false, 0, 50, -1, -1},
    {"1 % sly, pack 8", TR_GUARD_ON, 10, 0, 8, 4, true, false, 0, 50, -1, -1},
    {"1 % sly, pack 12", TR_GUARD_ON, 10, 0, 12, 4, true, false, 0, 50, -1,
     -1},
    {"1 % sly, pack 16", TR_GUARD_ON, 10, 0, 16, 4, true, false, 0, 50, -1,
     -1},
    {"1 % sly, pack 24", TR_GUARD_ON, 10, 0, 24, 4, true, false, 0, 50, -1,
     -1},
    {"1 % sly, pack 32", TR_GUARD_ON, 10, 0, 32, 4, true, false, 0, 50, -1,
     -1},
    {"1 % sly, pack 50", TR_GUARD_ON, 10, 0, 50, 4, true, false, 0, 50, -1,
     900},
    {"1 % sly, pack 64", TR_GUARD_ON, 10, 0, 64, 4, true, false, 0, 50, -1,
     -1},
    {"1 % sly, pack 50, strict", TR_GUARD_STRICT, 10, 0, 50, 4, true, false, 0,
     50, -1, -1},
    {"0.1 % sly, pack 50", TR_GUARD_ON, 1, 0, 50, 4, true, false, 0, 50, -1,
     -1},
    {"5 % sly, pack 50", TR_GUARD_ON, 50, 0, 50, 4, true, false, 0, 50, -1,
     -1},
    {"1 % sly, pack 16, 8 labels", TR_GUARD_ON, 10, 0, 16, 8, true, false, 0,
     50, -1, 1200},
    {"1 % sly, pack 50, 8 labels", TR_GUARD_ON, 10, 0, 50, 8, true, false, 0,
     50, -1, 1200},
    {"1 % sly, pack 16, 20 labels", TR_GUARD_ON, 10, 0, 16, 20, true, false, 0,
     50, -1, 1500},
    /* In one job of forty a hostile text is a canary from the beginning: 0.04 %
     * over 120 jobs, but eight may have one. */
    {"1 % sly, pack 50, 20 labels", TR_GUARD_ON, 10, 0, 50, 20, true, false, 0,
     100, -1, 1500},
    {"1 % one label, pack 8", TR_GUARD_ON, 10, 0, 8, 4, true, false,
     GULLIBLE_ALL + 1, 0, -1, -1},
    {"1 % one label, pack 12", TR_GUARD_ON, 10, 0, 12, 4, true, false,
     GULLIBLE_ALL + 1, 0, -1, -1},
    {"1 % one label, pack 16", TR_GUARD_ON, 10, 0, 16, 4, true, false,
     GULLIBLE_ALL + 1, 0, -1, -1},
    {"1 % one label, pack 50", TR_GUARD_ON, 10, 0, 50, 4, true, false,
     GULLIBLE_ALL + 1, 0, -1, -1},
    {"1 % false end, pack 8", TR_GUARD_ON, 10, 0, 8, 4, true, false,
     GULLIBLE_END + 1, 0, -1, -1},
    {"1 % false end, pack 50", TR_GUARD_ON, 10, 0, 50, 4, true, false,
     GULLIBLE_END + 1, 0, -1, -1},
    {"1 % split, pack 50", TR_GUARD_ON, 10, 0, 50, 4, true, false,
     GULLIBLE_SPLIT + 1, 0, -1, -1},
    {"1 % sly, isolate", TR_GUARD_ON, 10, 0, 50, 4, true, true, 0, 0, -1, -1},
};

static bool run_one(struct sim *w, const struct figure *f, int guard,
                    bool isolate, int swap_pct, uint64_t seed)
{
    struct sim_options o = {
        .seed = seed, .rows = 10000, .labels = f->labels, .pack = f->pack,
        .concurrency = 8, .priced = true, .faulty_runs = 1, .lanes = 1,
        .lane = {{.latency_ms = 300, .price_pct = 100}}, .words = 60,
        .guard = guard, .hostile = f->hostile, .sly = f->sly,
        .isolate = isolate, .moody = f->moody, .attack = f->attack,
        .swap_after = swap_pct ? SWAP_AFTER : 0, .swap_pct = swap_pct,
    };

    if (sim_run(w, &o, NULL, false))
        return true;
    printf("%s: %s\n", f->name, w->failure);
    return false;
}

/* Another model answers behind the name from mid-run on: how many rows are
 * settled from its first answer until that is said? With those that were under
 * way. To reach: within so many rows, in two jobs of three. */
static int swaps(struct sim *w, uint64_t from, uint64_t seeds)
{
    enum { ROWS = 500, ROWS_LARGE = 800 };
    static const struct {
        int pack, labels, pct; /* of the texts have another answer there */
        int64_t within;        /* 0: told only */
    } rows[] = {
        {16, 4, 20, 0}, {16, 4, 40, ROWS}, {16, 4, 100, ROWS},
        {50, 2, 40, 0}, {50, 4, 20, 0}, {50, 4, 40, ROWS_LARGE},
        {50, 8, 40, ROWS_LARGE}, {50, 4, 100, ROWS},
    };
    int missed = 0;

    printf("%-34s %8s %8s %8s\n", "another model in mid-run", "told", "in time",
           "rows");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct figure f = {"another model", TR_GUARD_ON, 0, 0, rows[i].pack,
                           rows[i].labels, false, false, 0, -1, -1, -1};
        int64_t longest = 0, told = 0, soon = 0;
        char name[64];
        bool ok = true;

        for (uint64_t seed = from; seed < from + seeds; seed++) {
            int64_t took;

            ok = run_one(w, &f, f.guard, false, rows[i].pct, seed) && ok;
            took = w->told_at - w->swapped_at;
            if (!w->told_at)
                continue;
            told++;
            /* before it answered is a false alarm */
            soon += took >= 0 &&
                    took <= (rows[i].within ? rows[i].within : ROWS);
            longest = took > longest ? took : longest;
        }
        ok = ok && (!rows[i].within || 3 * soon >= 2 * (int64_t)seeds);
        missed += !ok;
        snprintf(name, sizeof name, "%d %% otherwise, pack %d, %d labels",
                 rows[i].pct, rows[i].pack, rows[i].labels);
        printf("%-34s %2" PRId64 " of %2" PRIu64 " %8" PRId64 " %8" PRId64
               "%s\n", name, told, seeds, soon, longest, ok ? "" : "  MISSED");
        fflush(stdout);
    }
    return missed;
}

int sim_hostile_figures(uint64_t from, uint64_t seeds)
{
    enum { SEEDS = 8, MOST = 64, PACKS = 65 };
    static struct sim w;
    static int64_t plain_of[MOST][PACKS][SIM_LABELS_MAX + 1]; /* tokens
                                without guard, by pack and number of labels */
    int missed;

    if (seeds > MOST)
        seeds = SEEDS;
    missed = swaps(&w, from, seeds);
    printf("%-30s %9s %8s %8s %8s %8s %8s\n", "10,000 rows",
           "wrong/1e5", "packs", "bare", "doubts", "false", "tokens");
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        const struct figure *f = &figures[i];
        int64_t innocent = 0, wrong = 0, tokens = 0, plain = 0, told = 0;
        struct tr_guard_counts sum = {0};
        double per_wrong, per_doubts, cost;
        bool ok = true;

        for (uint64_t seed = from; seed < from + seeds; seed++) {
            int64_t *without = &plain_of[seed - from][f->pack][f->labels];
            struct figure clean = *f;

            clean.hostile = clean.moody = 0;
            if (!*without) {
                ok = run_one(&w, &clean, TR_GUARD_OFF, false, 0, seed) && ok;
                *without = w.bill[TR_PURSE_TOKENS];
            }
            plain += *without;
            ok = run_one(&w, f, f->guard, f->isolate, 0, seed) && ok;
            told += w.told_at > 0;
            tokens += w.bill[TR_PURSE_TOKENS];
            innocent += w.innocent;
            wrong += w.wrong;
            tr_guard_sum(&sum, &w.guard);
        }
        per_wrong = 1e5 * (double)wrong / (double)innocent;
        per_doubts = sum.packs + sum.bare
            ? 1e3 * (double)sum.doubts / (double)(sum.packs + sum.bare) : 0;
        cost = 1e3 * ((double)tokens / (double)plain - 1);
        ok = ok && !told && (f->wrong_most < 0 || per_wrong <= f->wrong_most) &&
             (f->doubts_most < 0 || per_doubts <= f->doubts_most) &&
             (f->cost_most < 0 || cost <= f->cost_most) &&
             (f->guard != TR_GUARD_OFF || per_wrong >= HARM_LEAST);
        missed += !ok;
        printf("%-30s %9.1f %8" PRId64 " %8" PRId64 " %8" PRId64 " %8" PRId64
               " %+7.1f%%%s\n", f->name, per_wrong, sum.packs, sum.bare,
               sum.doubts, sum.false_doubts, cost / 10,
               told ? "  ANOTHER MODEL" : ok ? "" : "  MISSED");
        fflush(stdout);
    }
    return missed > 0;
}
