/* main.c - sim --seeds N --from S: many small worlds, every promise checked.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Every mark must be met in a thousand worlds: a fault that never strikes
 * proves nothing. */
static bool marks_met(const int64_t *marks, uint64_t seeds)
{
    static const char *const others[] = {
#define X(id, name) #name,
        SIM_MARKS(X)
#undef X
    };
    bool all = true;

    for (int i = 0; i < M_COUNT; i++) {
        const char *name = i < SIM_SITES ? sim_site_name((enum sim_site)i)
                                         : others[i - SIM_SITES];

        printf("%s%s %lld", i ? ", " : "marks: ", name, (long long)marks[i]);
        all = all && marks[i];
    }
    printf("\n");
    if (!all && seeds >= 1000)
        printf("sim: a mark was never met\n");
    return all || seeds < 1000;
}

/* ---- every cap there can be (O7) ------------------------------- */

static bool capped(const struct sim_options *base, int purse, int64_t cap,
                   bool may_stop)
{
    struct sim_options o = *base;
    static struct sim w;
    bool ok;

    if (cap <= 0)
        return true;
    o.budget_exact[purse] = cap;
    ok = sim_run(&w, &o, NULL, false);
    if (ok && !may_stop && w.marks[M_BUDGET + purse]) {
        printf("cap %" PRId64 " of purse %d is never reached, but stopped the "
               "run\n", cap, purse);
        ok = false;
    }
    if (!ok)
        printf("cap %" PRId64 " of purse %d: %s\n", cap, purse, w.failure);
    return ok;
}

/* A job without faults, and everything it ever held at an instant: each such
 * sum, one less and one more, is a place where a cap may cut. */
static int every_cap(uint64_t seed)
{
    static struct sim w;
    struct sim_options o = {
        .seed = seed, .rows = 200, .labels = 3, .pack = 3, .concurrency = 3,
        .priced = true, .faulty_runs = 1, .lanes = 1,
        .lane = {{.latency_ms = 50, .price_pct = 100}},
    };
    int caps = 0, failed = 0, stopped_at_least = 0;

    sim_begin(&w, &o, NULL, false, NULL);
    w.held_count = 0;
    while (sim_step(&w))
        ;
    sim_end(&w);
    if (w.failure[0]) {
        printf("without a cap: %s\n", w.failure);
        return 1;
    }
    for (int p = 0; p < TR_PURSES; p++) {
        int64_t most = 0;

        for (int i = 0; i < w.held_count; i++)
            if (w.held_seen[i][p] > most)
                most = w.held_seen[i][p];
        for (int i = 0; i < w.held_count; i++) {
            int64_t v = w.held_seen[i][p];
            int k = 0;

            while (k < i && w.held_seen[k][p] != v)
                k++;
            for (int d = -1; k == i && d <= 1; d++, caps++)
                failed += !capped(&o, p, v + d, v + d < most);
        }
        stopped_at_least += most > 0;
    }
    printf("sim: %d caps on %d sums of a job of 200 rows, %d failed\n", caps,
           w.held_count, failed);
    return failed || caps < 200 || stopped_at_least < TR_PURSES;
}

/* ---- two stores, one budget ------------------------------- */

static bool within(struct sim *w, int64_t *budget)
{
    for (int p = 0; p < TR_PURSES; p++)
        if (budget[p] >= 0 && w[0].bill[p] + w[1].bill[p] > budget[p]) {
            sim_fail(&w[0], "I5", "two stores together: %" PRId64 " + %" PRId64
                     " billed of purse %d, the budget is %" PRId64,
                     w[0].bill[p], w[1].bill[p], p, budget[p]);
            return false;
        }
    return true;
}

/* Both have been there before: a store that comes when another has finished
 * would begin the job anew, and rightly so. */
static void meet(const struct sim *w, struct tr_ledger *ledger)
{
    struct tr_ledger_ask ask = {.op = TR_LEDGER_JOIN, .round = 1};
    struct tr_key store = sim_store_key(w);
    struct tr_err err;

    tr_ledger_apply(ledger, &store, &ask, &err);
    ledger->shares[ledger->n - 1].alive = false;
}

static int twins(uint64_t from, uint64_t seeds, bool verbose)
{
    static struct sim w[2];
    uint64_t failed = 0;
    int64_t stopped = 0, crashes = 0;

    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct tr_rng rng = {sim_stream(seed, 9)};
        struct tr_ledger ledger = {0};
        struct sim_options o[2];
        int64_t budget[TR_PURSES];
        bool going[2] = {true, true};

        for (int i = 0; i < 2; i++) {
            sim_options_draw(&o[i], seed + (uint64_t)i * 1000003);
            o[i].priced = true;
            o[i].budget_per = TR_PER_JOB;
            o[i].clock_jumps_pct = 0;
            sim_begin(&w[i], &o[i], NULL, verbose, &ledger);
            w[i].hopeful = false;
            meet(&w[i], &ledger);
        }
        for (int p = 0; p < TR_PURSES; p++) {
            int64_t pct = 20 + (int64_t)tr_rng_below(&rng, 300);

            budget[p] = tr_rng_below(&rng, 3) == 0 ? -1
                : sim_expected(&w[0], p) * pct / 100;
            w[0].budget[p] = w[1].budget[p] = budget[p];
        }
        while ((going[0] || going[1]) && within(w, budget)) {
            int i = (int)tr_rng_below(&rng, 2);

            for (int n = (int)tr_rng_below(&rng, 30); going[i] && n > 0; n--)
                going[i] = sim_step(&w[i]);
        }
        for (int i = 0; i < 2; i++) {
            while (w[0].failure[0] && going[i] && sim_step(&w[i]))
                ;
            for (int p = 0; p < TR_PURSES; p++)
                stopped += w[i].marks[M_BUDGET + p];
            crashes += w[i].marks[M_CRASH];
            if (w[i].failure[0]) {
                failed++;
                printf("twins, seed %" PRIu64 ": %s\n", seed, w[i].failure);
            }
            sim_end(&w[i]);
        }
        if (failed >= 20)
            break;
    }
    printf("sim: %" PRIu64 " pairs of stores with one budget: %" PRId64
           " budget stops, %" PRId64 " crashes, %" PRIu64 " failed\n", seeds,
           stopped, crashes, failed);
    return failed || (seeds >= 100 && (stopped < 10 || crashes < 10));
}

static int usage(void)
{
    fputs("usage: sim [--seeds N] [--from S] [-v] [--set NAME=VALUE]...\n"
          "  --seeds N   worlds to run (1000)\n"
          "  --from S    first seed (1)\n"
          "  --caps      a job of 200 rows under every cap there can be\n"
          "  --twins     two stores at a time, one budget, N pairs\n"
          "  --first     stop at the first failure\n"
          "  -v          trace of every event\n"
          "  --set       overrides an option of every seed; faults=0 ends\n"
          "              all faults; see the options a failing seed prints\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 1000, from = 1, failed = 0, events = 0, rows = 0;
    const char *sets[64];
    int set_count = 0;
    bool verbose = false, first_only = false, pairs = false, caps = false;
    static struct sim w;
    static int64_t marks[M_COUNT];

    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];

        if (strcmp(a, "-v") == 0)
            verbose = true;
        else if (strcmp(a, "--first") == 0)
            first_only = true;
        else if (strcmp(a, "--twins") == 0)
            pairs = true;
        else if (strcmp(a, "--caps") == 0)
            caps = true;
        else if (strcmp(a, "--seeds") == 0 && i + 1 < argc)
            seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(a, "--from") == 0 && i + 1 < argc)
            from = strtoull(argv[++i], NULL, 10);
        else if (strcmp(a, "--set") == 0 && i + 1 < argc && set_count < 64)
            sets[set_count++] = argv[++i];
        else
            return usage();
    }
    sim_vfs_init();
    if (caps)
        return every_cap(from);
    if (pairs)
        return twins(from, seeds, verbose);
    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct sim_options o;
        bool ok;

        sim_options_draw(&o, seed);
        for (int i = 0; i < set_count; i++)
            if (!sim_options_set(&o, sets[i]))
                return usage();
        if (verbose)
            sim_options_print(&o);
        ok = sim_run(&w, &o, NULL, verbose);
        events += w.events;
        rows += (uint64_t)o.rows;
        for (int i = 0; i < M_COUNT; i++)
            marks[i] += w.marks[i];
        /* Equal seeds are equal worlds: else no failure could be repeated. */
        if (ok && seed % 100 == 0) {
            uint64_t hash = w.hash;

            ok = sim_run(&w, &o, NULL, false);
            if (w.hash != hash)
                sim_fail(&w, "determinism", "another history on a repeat");
            ok = ok && w.hash == hash;
        }
        if (!ok) {
            failed++;
            sim_options_print(&o);
            printf("seed %" PRIu64 ": %s\n", seed, w.failure);
            fflush(stdout);
            if (failed >= 20 || first_only)
                break;
        }
    }
    printf("sim: %" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " rows, %" PRIu64
           " events, %" PRIu64 " failed\n", seeds, from, rows, events, failed);
    return !failed && (set_count || marks_met(marks, seeds)) ? 0 : 1;
}
