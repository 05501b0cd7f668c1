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
    SIM_DISK_FAULTS(X)
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

void sim_options_draw(struct sim_options *o, uint64_t seed)
{
    struct tr_rng r = {sim_stream(seed, 1)};
    bool faulty_disk;

    *o = (struct sim_options){.seed = seed};
    o->rows = one_in(&r, 30) ? between(&r, 0, 2)
              : one_in(&r, 4) ? between(&r, 100, 300)
                              : between(&r, 3, 100);
    o->labels = between(&r, 2, SIM_LABELS_MAX);
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

    faulty_disk = one_in(&r, 3);
    o->power_pct = one_in(&r, 4) ? 0 : between(&r, 1, 100);
    o->disk_crash_pct = one_in(&r, 4) ? 0 : between(&r, 1, 100);
    for (int f = F_COUNT; f < RATES && faulty_disk; f++)
        if (one_in(&r, 3))
            o->rate[f] = between(&r, 1, rate_most[f]);
    o->wal_pages = one_in(&r, 2) ? between(&r, 1, 40) : 0;
    o->cache_pages = one_in(&r, 3) ? between(&r, 1, 16) : 0;
    o->audit_pct = one_in(&r, 5) ? between(&r, 1, 40) : 0;
}

/* ---- names ------------------------------- */

enum type { INT, BOOL, DOUBLE, INT64 };

static const struct field {
    const char *name;
    enum type type;
    size_t at;
} fields[] = {
#define F(name, type) {#name, type, offsetof(struct sim_options, name)}
    F(rows, INT), F(labels, INT), F(duplicates_pct, INT), F(nasty_pct, INT),
    F(poison_pct, INT), F(long_pct, INT), F(multiple, BOOL),
    F(slow_input_ms, INT), F(pack, INT), F(concurrency, INT), F(form, INT),
    F(rpm, DOUBLE), F(tpm, DOUBLE), F(budget_pct, INT),
    F(budget_tokens_pct, INT), F(budget_requests_pct, INT),
    F(budget_per, INT), F(clock_jumps_pct, INT), F(cache, BOOL),
    F(as_completed, BOOL), F(window_kib, INT), F(fallback_on, INT),
    F(wait_for_quota, BOOL), F(lanes, INT), F(priced, BOOL),
    F(crashes, INT), F(crash_every, INT), F(stops, INT), F(sluggish_us, INT),
    F(disk_ms, INT), F(power_pct, INT), F(disk_crash_pct, INT),
    F(wal_pages, INT), F(cache_pages, INT), F(audit_pct, INT),
    F(disk_lies, BOOL),
    F(full_output_pct, INT), F(faulty_runs, INT),
#undef F
/* quota_after, quota_after1, quota_after2: of the first provider, the second */
#define X(name, type) {#name, type, offsetof(struct sim_options, lane[0].name)},
    SIM_LANE_OPTIONS(X)
#undef X
#define X(name, type)                                                          \
    {#name "1", type, offsetof(struct sim_options, lane[1].name)},
    SIM_LANE_OPTIONS(X)
#undef X
#define X(name, type)                                                          \
    {#name "2", type, offsetof(struct sim_options, lane[2].name)},
    SIM_LANE_OPTIONS(X)
#undef X
};
#define FIELD_COUNT (sizeof fields / sizeof *fields)

static double get(const struct sim_options *o, const struct field *f)
{
    const char *p = (const char *)o + f->at;

    switch (f->type) {
    case INT: return *(const int *)p;
    case BOOL: return *(const bool *)p;
    case DOUBLE: return *(const double *)p;
    case INT64: return (double)*(const int64_t *)p;
    }
    return 0;
}

static void put(struct sim_options *o, const struct field *f, double v)
{
    char *p = (char *)o + f->at;

    switch (f->type) {
    case INT: *(int *)p = (int)v; break;
    case BOOL: *(bool *)p = v != 0; break;
    case DOUBLE: *(double *)p = v; break;
    case INT64: *(int64_t *)p = (int64_t)v; break;
    }
}

void sim_options_print(const struct sim_options *o)
{
    printf("seed %llu:", (unsigned long long)o->seed);
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (get(o, &fields[i]) != 0)
            printf(" %s=%g", fields[i].name, get(o, &fields[i]));
    for (int f = 0; f < RATES; f++)
        if (o->rate[f])
            printf(" %s=%d", sim_site_name((enum sim_site)f), o->rate[f]);
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
        return true;
    }
    for (size_t i = 0; i < FIELD_COUNT; i++)
        if (strlen(fields[i].name) == n &&
            memcmp(fields[i].name, assignment, n) == 0) {
            put(o, &fields[i], v);
            return true;
        }
    for (int f = 0; f < RATES; f++)
        if (strlen(sim_site_name((enum sim_site)f)) == n &&
            memcmp(sim_site_name((enum sim_site)f), assignment, n) == 0) {
            o->rate[f] = (int)v;
            return true;
        }
    return false;
}
