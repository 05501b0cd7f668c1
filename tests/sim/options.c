/* options.c - a seed becomes a world: swarm testing, sizes small on purpose.
 *
 * Each fault is off in half of the worlds, so that faults do not hide each
 * other; caches, packs and windows are small, so that their edges are met.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int rate_most[RATES] = {
#define X(id, name, most) most,
    SIM_FAULTS(X)
    SIM_MACHINE_FAULTS(X)
#undef X
};

static const int batch_rate_most[BATCH_RATES] = {
#define X(id, name, most) most,
    SIM_BATCH_FAULTS(X)
#undef X
};

static int between(struct tr_rng *r, int from, int to)
{
    return from + (int)tr_rng_below(r, (uint64_t)(to - from) + 1);
}

static bool one_in(struct tr_rng *r, int n)
{
    return tr_rng_below(r, (uint64_t)n) == 0;
}

static void draw_lane(struct sim_lane_options *o, struct tr_rng *r, int place)
{
    o->hidden_rpm = one_in(r, 2) ? between(r, 30, 3000) : 0;
    o->hidden_burst_s = one_in(r, 2) ? 60 : between(r, 1, 10);
    o->headers = one_in(r, 2);
    o->retry_after = one_in(r, 2);
    o->quota_after = one_in(r, 8) ? between(r, 1, 100) : 0;
    o->quota_for_s = one_in(r, 2) ? between(r, 10, 4000) : 0;
    o->quota_is_day = one_in(r, 3);
    o->gone_after = one_in(r, 16) ? between(r, 1, 60) : 0;
    o->latency_ms = one_in(r, 3) ? between(r, 300, 5000) : between(r, 1, 300);
    o->context = one_in(r, 3) ? between(r, 1200, 8000) : 0;
    o->old_cap = one_in(r, 6);
    o->outage_at_s = one_in(r, 6) ? between(r, 1, 60) : 0;
    o->outage_s = one_in(r, 2) ? between(r, 1, 100) : between(r, 100, 2000);
    o->price_pct = place == 0 ? 100 : between(r, 10, 400);
}

/* From draws of its own, so that seeds without batches are what they were. */
static void draw_batches(struct sim_options *o)
{
    struct tr_rng r = {sim_stream(o->seed, 20)};

    if (!one_in(&r, 8))
        return;
    o->batch = one_in(&r, 3) ? SIM_ANTHROPIC : SIM_OPENAI;
    o->batch_pct = one_in(&r, 5) ? 0 : 50;
    o->batch_requests = one_in(&r, 2) ? between(&r, 1, 20) : 0;
    o->batch_kib = one_in(&r, 4) ? between(&r, 2, 40) : 0;
    o->batch_tokens = one_in(&r, 4) ? between(&r, 500, 20000) : 0;
    o->batch_room = one_in(&r, 3) ? between(&r, 3000, 12000) : 0;
    o->batch_poll_ms = one_in(&r, 3) ? between(&r, 1000, 300000) : 30000;
    o->batch_other_pct = one_in(&r, 3) ? between(&r, 1, 60) : 0;
    for (int f = 0; f < BATCH_RATES; f++)
        if (one_in(&r, 2))
            o->batch_rate[f] = between(&r, 1, batch_rate_most[f]);
    if (one_in(&r, 8))
        memset(o->batch_rate, 0, sizeof o->batch_rate);
    if (one_in(&r, 2)) { /* lost replies by themselves */
        static const enum sim_site sites[] = SIM_UNCLEAR;

        for (size_t i = 0; i < sizeof sites / sizeof *sites; i++)
            o->batch_rate[sites[i] - B_UNREACHED] = 0;
    }
    if (!o->audit_pct && one_in(&r, 3))
        o->audit_pct = between(&r, 1, 40);
}

/* What came after the batches, the same way. */
static void draw_later(struct sim_options *o)
{
    struct tr_rng r = {sim_stream(o->seed, 21)};

    o->long_retry_after = one_in(&r, 4) ? between(&r, 1, 60) : 0;
    o->stray_refusal = one_in(&r, 6) ? between(&r, 1, 30) : 0;
    for (int i = 0; i < SIM_LANES; i++) {
        o->lane[i].key_refused_after = one_in(&r, 16) ? between(&r, 1, 60) : 0;
        o->lane[i].says_402 = one_in(&r, 3);
    }
    o->slots = one_in(&r, 4) ? between(&r, 4, 64) : 0;
    o->stale = one_in(&r, 4) ? between(&r, 1, 300) : 0;
    if (o->batch && one_in(&r, 4)) /* most of a batch is refused */
        o->poison_pct = between(&r, 10, 60);
    o->listed = one_in(&r, 3);
}

/* And after that. */
static void draw_last(struct sim_options *o)
{
    struct tr_rng r = {sim_stream(o->seed, 22)};

    for (int i = 0; i < SIM_LANES; i++)
        o->lane[i].hidden_tpm = one_in(&r, 12) ? between(&r, 3000, 100000) : 0;
}

void sim_options_draw(struct sim_options *o, uint64_t seed)
{
    struct tr_rng r = {sim_stream(seed, 1)};
    bool faulty_disk;

    *o = (struct sim_options){.seed = seed};
    o->rows = one_in(&r, 30) ? between(&r, 0, 2)
              : one_in(&r, 4) ? between(&r, 100, 300)
                              : between(&r, 3, 100);
    o->labels = between(&r, 2, 8);
    o->duplicates_pct = one_in(&r, 2) ? between(&r, 1, 50) : 0;
    o->nasty_pct = one_in(&r, 2) ? between(&r, 1, 60) : 0;
    o->poison_pct = one_in(&r, 3) ? between(&r, 1, 12) : 0;
    o->long_pct = one_in(&r, 6) ? between(&r, 1, 10) : 0;
    o->multiple = one_in(&r, 4);
    o->slow_input_ms = !one_in(&r, 5) ? 0 : one_in(&r, 3) ? 60000 : 3000;

    o->pack = one_in(&r, 4) ? 0 : between(&r, 1, 16);
    o->concurrency = one_in(&r, 3) ? 0 : between(&r, 1, 16);
    o->form = one_in(&r, 3) ? -1 : between(&r, 0, 1);
    o->rpm = one_in(&r, 3) ? between(&r, 20, 1200) : 0;
    o->tpm = one_in(&r, 5) ? between(&r, 2000, 100000) : 0;
    o->priced = !one_in(&r, 5);
    o->budget_pct = o->priced && one_in(&r, 3) ? between(&r, 20, 400) : 0;
    o->as_completed = one_in(&r, 6);
    o->window_kib = one_in(&r, 4) ? between(&r, 400, 1200) : 0;

    for (int f = 0; f < F_COUNT; f++)
        if (one_in(&r, 2))
            o->rate[f] = between(&r, 1, rate_most[f]);
    if (one_in(&r, 8)) /* a good day */
        memset(o->rate, 0, sizeof o->rate);
    o->lanes = one_in(&r, 2) ? 1 : between(&r, 2, SIM_LANES);
    for (int i = 0; i < SIM_LANES; i++)
        draw_lane(&o->lane[i], &r, i);
    o->fallback_on = (1 << TR_TRIGGER_COUNT) - 1;
    if (!one_in(&r, 3))
        o->fallback_on = between(&r, 0, o->fallback_on);
    o->wait_for_quota = one_in(&r, 4);
    for (int i = 0; i < SIM_LANES && o->wait_for_quota; i++)
        if (!o->lane[i].quota_for_s) /* who waits must be able to have it */
            o->lane[i].quota_for_s = between(&r, 10, 4000);

    o->crashes = one_in(&r, 2) ? between(&r, 1, 4) : 0;
    o->crash_every = one_in(&r, 2) ? between(&r, 1, 60) : between(&r, 60, 1500);
    o->stops = one_in(&r, 6) ? between(&r, 1, 3) : 0;
    o->sluggish_us = one_in(&r, 3) ? between(&r, 1, 2000) : 0;
    o->disk_ms = !one_in(&r, 2) ? 0 : one_in(&r, 4) ? 150 : between(&r, 1, 30);
    o->full_output_pct = one_in(&r, 5) ? between(&r, 1, 90) : 0;
    o->faulty_runs = between(&r, 1, 6);
    o->budget_tokens_pct = one_in(&r, 6) ? between(&r, 20, 400) : 0;
    o->budget_requests_pct = one_in(&r, 6) ? between(&r, 20, 400) : 0;
    o->budget_per = one_in(&r, 2) ? TR_PER_JOB : between(&r, 0, 2);
    o->clock_jumps_pct = one_in(&r, 3) ? between(&r, 1, 100) : 0;
    o->cache = one_in(&r, 3);
    o->guard = one_in(&r, 2) ? TR_GUARD_OFF : between(&r, 1, 2);
    o->guard_from = between(&r, 2, 6);
    o->isolate = one_in(&r, 12);
    o->hostile = one_in(&r, 2) ? between(&r, 1, 60) : 0;
    o->sly = one_in(&r, 2);
    o->moody = one_in(&r, 4) ? between(&r, 1, 60) : 0;

    faulty_disk = one_in(&r, 3);
    o->power_pct = one_in(&r, 4) ? 0 : between(&r, 1, 100);
    o->disk_crash_pct = one_in(&r, 4) ? 0 : between(&r, 1, 100);
    for (int f = F_COUNT; f < RATES; f++)
        if (f < T_OUTPUT ? faulty_disk && one_in(&r, 3) : one_in(&r, 6))
            o->rate[f] = between(&r, 1, rate_most[f]);
    o->coarse_ms = one_in(&r, 6) ? between(&r, 1, 16) : 0;
    o->again = one_in(&r, 6);
    o->wal_pages = one_in(&r, 2) ? between(&r, 1, 40) : 0;
    o->cache_pages = one_in(&r, 3) ? between(&r, 1, 16) : 0;
    o->audit_pct = one_in(&r, 5) ? between(&r, 1, 40) : 0;
    o->parties = one_in(&r, 8) ? between(&r, 1, 6) : 0;
    draw_batches(o);
    draw_later(o);
    draw_last(o);
}

/* ---- names ------------------------------- */

enum type { INT, BOOL, DOUBLE, INT64 };

/* least: what the option is when nothing is wanted of it. */
static const struct field {
    const char *name;
    enum type type;
    size_t at;
    double least;
} fields[] = {
#define F(name, type, least)                                                   \
    {#name, type, offsetof(struct sim_options, name), least}
    F(rows, INT, 1), F(lanes, INT, 1), F(crashes, INT, 0),
    F(labels, INT, 2), F(duplicates_pct, INT, 0), F(nasty_pct, INT, 0),
    F(poison_pct, INT, 0), F(long_pct, INT, 0), F(multiple, BOOL, 0),
    F(slow_input_ms, INT, 0), F(pack, INT, 0), F(concurrency, INT, 0),
    F(form, INT, 0), F(rpm, DOUBLE, 0), F(tpm, DOUBLE, 0),
    F(budget_pct, INT, 0), F(budget_tokens_pct, INT, 0),
    F(budget_requests_pct, INT, 0), F(budget_per, INT, 0),
    F(clock_jumps_pct, INT, 0), F(cache, BOOL, 0), F(as_completed, BOOL, 0),
    F(window_kib, INT, 0), F(fallback_on, INT, 0), F(wait_for_quota, BOOL, 0),
    F(priced, BOOL, 0), F(crash_every, INT, 1), F(stops, INT, 0),
    F(sluggish_us, INT, 0), F(coarse_ms, INT, 0), F(again, BOOL, 0),
    F(disk_ms, INT, 0), F(power_pct, INT, 0),
    F(disk_crash_pct, INT, 0), F(wal_pages, INT, 0), F(cache_pages, INT, 0),
    F(audit_pct, INT, 0), F(disk_lies, BOOL, 0), F(full_output_pct, INT, 0),
    F(faulty_runs, INT, 1),
    F(guard, INT, 0), F(guard_from, INT, 2), F(isolate, BOOL, 0),
    F(parties, INT, 0),
    F(hostile, INT, 0), F(sly, BOOL, 0), F(moody, INT, 0), F(attack, INT, 0),
    F(swap_after, INT, 0), F(swap_pct, INT, 0),
    F(words, INT, 0), F(slots, INT, 0), F(stale, INT, 0),
    F(batch, INT, 0), F(batch_pct, INT, 50),
    F(batch_requests, INT, 0), F(batch_kib, INT, 0), F(batch_tokens, INT, 0),
    F(batch_room, INT, 0), F(batch_poll_ms, INT, 30000),
    F(batch_other_pct, INT, 0), F(long_retry_after, INT, 0),
    F(stray_refusal, INT, 0), F(listed, BOOL, 0),
#undef F
/* quota_after, quota_after1, quota_after2: of the first provider, the second */
#define X(name, type, least)                                                   \
    {#name, type, offsetof(struct sim_options, lane[0].name), least},
    SIM_LANE_OPTIONS(X)
#undef X
#define X(name, type, least)                                                   \
    {#name "1", type, offsetof(struct sim_options, lane[1].name), least},
    SIM_LANE_OPTIONS(X)
#undef X
#define X(name, type, least)                                                   \
    {#name "2", type, offsetof(struct sim_options, lane[2].name), least},
    SIM_LANE_OPTIONS(X)
#undef X
};
enum {
    FIELDS = sizeof fields / sizeof *fields,
    COUNT = FIELDS + RATES + BATCH_RATES
};

/* Where the rate of a fault stands. */
static int *rate_at(struct sim_options *o, int i)
{
    i -= FIELDS;
    return i < RATES ? &o->rate[i] : &o->batch_rate[i - RATES];
}

int sim_options_count(void)
{
    return COUNT;
}

const char *sim_option_name(int i)
{
    if (i < FIELDS)
        return fields[i].name;
    i -= FIELDS;
    return sim_site_name((enum sim_site)(i < RATES ? i
                                                   : i - RATES + B_UNREACHED));
}

double sim_option_least(int i)
{
    return i < FIELDS ? fields[i].least : 0;
}

double sim_option(const struct sim_options *o, int i)
{
    const char *p = (const char *)o + (i < FIELDS ? fields[i].at : 0);

    if (i >= FIELDS)
        return *rate_at((struct sim_options *)(uintptr_t)o, i);
    switch (fields[i].type) {
    case INT: return *(const int *)p;
    case BOOL: return *(const bool *)p;
    case DOUBLE: return *(const double *)p;
    case INT64: return (double)*(const int64_t *)p;
    }
    return 0;
}

void sim_option_put(struct sim_options *o, int i, double v)
{
    char *p = (char *)o + (i < FIELDS ? fields[i].at : 0);

    if (i >= FIELDS) {
        *rate_at(o, i) = (int)v;
        return;
    }
    switch (fields[i].type) {
    case INT: *(int *)p = (int)v; break;
    case BOOL: *(bool *)p = v != 0; break;
    case DOUBLE: *(double *)p = v; break;
    case INT64: *(int64_t *)p = (int64_t)v; break;
    }
}

void sim_options_none(struct sim_options *o)
{
    *o = (struct sim_options){.seed = 0};
    for (int i = 0; i < COUNT; i++)
        sim_option_put(o, i, sim_option_least(i));
}

void sim_options_print(const struct sim_options *o)
{
    printf("seed %llu:", (unsigned long long)o->seed);
    for (int i = 0; i < COUNT; i++)
        if (sim_option(o, i) != 0)
            printf(" %s=%.10g", sim_option_name(i), sim_option(o, i));
    printf("\n");
}

bool sim_options_set(struct sim_options *o, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    size_t n;
    double v;

    if (!equals)
        return false;
    n = (size_t)(equals - assignment);
    v = strtod(equals + 1, NULL);
    if (n == 6 && memcmp(assignment, "faults", n) == 0) {
        for (int f = 0; f < RATES; f++)
            o->rate[f] = (int)v;
        for (int f = 0; f < BATCH_RATES; f++)
            o->batch_rate[f] = (int)v;
        o->long_retry_after = o->stray_refusal = (int)v;
        return true;
    }
    for (int i = 0; i < COUNT; i++)
        if (strlen(sim_option_name(i)) == n &&
            memcmp(sim_option_name(i), assignment, n) == 0) {
            sim_option_put(o, i, v);
            return true;
        }
    return false;
}
