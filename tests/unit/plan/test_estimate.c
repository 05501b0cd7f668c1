/* test_estimate.c - limits that nobody states are found from refusals, used,
 * and followed when they change. The whole table: bench/bench_pace.c.
 *
 * SPDX-License-Identifier: MIT */
#include "pace_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define LATENCY_S 0.7
#define REFUSAL_S 0.05

static struct world_result result;
static struct tr_pace pace;

static void drive(const struct world *w, uint64_t seed, double length_s)
{
    struct tr_pace_opts opts = {.room = 8192};
    struct world_client c = world_pace(&pace);

    tr_pace_init(&pace, &opts, WORLD_START);
    world_run(&result, w, &c, seed, length_s);
}

static struct world silent(double rate, double burst_s)
{
    return (struct world){.rate = rate, .burst_s = burst_s,
                          .style = WORLD_SILENT, .latency_s = LATENCY_S,
                          .refusal_s = REFUSAL_S};
}

/* Looking for a raised limit costs a refusal every minute and a half: at a few
 * requests a second these are more than a permille. */
static double allowed(double rate)
{
    return rate >= 20 ? 0.001 * 600 * rate : 25;
}

static void a_steady_bucket_is_used_up(void **state)
{
    static const double rates[] = {2, 20, 300}, bursts[] = {1, 10, 60};
    (void)state;

    for (size_t r = 0; r < 3; r++)
    for (size_t b = 0; b < 3; b++)
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world w = silent(rates[r], bursts[b]);
        double all, later, few = rates[r] * bursts[b] < 4 ? 0.05 : 0;

        drive(&w, seed, 600);
        all = world_used(&result, &w, 0, 600);
        later = world_used(&result, &w, 60, 600);
        if (all < 0.98 - few ||
            later < 0.997 - few - 1 / (540 * rates[r]))
            fail_msg("%g/s burst %g s seed %d: used %.4f, after a minute %.4f",
                     rates[r], bursts[b], (int)seed, all, later);
        /* A bucket of a minute: what a climb costs (docs/internals/pace.md). */
        if ((double)result.refusals >
            (bursts[b] > 10 ? 2.5 : 1) * allowed(rates[r]) + 15)
            fail_msg("%g/s burst %g s seed %d: refused %d", rates[r],
                     bursts[b], (int)seed, (int)result.refusals);
    }
}

static void a_limit_that_changes_is_followed(void **state)
{
    static const double bursts[] = {1, 10, 60},
                        factors[] = {0.25, 0.5, 2, 4};
    (void)state;

    for (size_t b = 0; b < 3; b++)
    for (size_t f = 0; f < 4; f++) {
        struct world w = silent(30, bursts[b]);
        int back;

        w.changes_at_s = 200;
        w.factor = factors[f];
        drive(&w, 7, 400);
        back = world_back(&result, &w);
        if (back < 0 || back > (factors[f] < 1 ? 5 : 90))
            fail_msg("burst %g s, x%g: back in %d s", bursts[b], factors[f],
                     back);
    }
}

static void fixed_windows_are_recognised(void **state)
{
    static const double rates[] = {5, 50};
    (void)state;

    for (size_t r = 0; r < 2; r++)
    for (double phase = 0; phase < 60; phase += 25) {
        struct world w = silent(rates[r], 60);
        double used;

        w.fixed = true;
        w.phase_s = phase;
        drive(&w, 5, 900);
        used = world_used(&result, &w, 0, 900);
        if (used < 0.96 ||
            (double)result.refusals > 0.009 * (double)result.requests)
            fail_msg("%g/s at %g s: used %.4f, refused %d of %d", rates[r],
                     phase, used, (int)result.refusals, (int)result.requests);
    }
}

/* A minute's limit that is counted second by second: one request at a time. */
static void a_bucket_of_one_is_met_from_below(void **state)
{
    struct world w = silent(1, 1);
    (void)state;

    for (uint64_t seed = 1; seed <= 5; seed++) {
        drive(&w, seed, 900);
        assert_true(world_used(&result, &w, 200, 900) > 0.97);
        assert_true(result.refusals < 60);
    }
}

/* Tokens are limited, and every request takes another number of them. */
static void a_limit_of_tokens_is_found(void **state)
{
    static const double bursts[] = {1, 10, 60};
    (void)state;

    for (size_t b = 0; b < 3; b++) {
        struct world w = silent(50000, bursts[b]);
        double later;

        w.tokens_from = 200;
        w.tokens_to = 2000;
        drive(&w, 5, 600);
        later = world_used(&result, &w, 60, 600);
        if (later < 0.985 || result.refusals > 100)
            fail_msg("burst %g s: used %.4f, refused %d", bursts[b], later,
                     (int)result.refusals);
    }
}

/* Frames of a second hidden in the minute (P2 of the fault model). */
static void a_hidden_frame_is_lived_with(void **state)
{
    struct world w = silent(20, 10);
    (void)state;

    w.fixed = true; /* ten-second windows that nobody told of */
    drive(&w, 3, 600);
    assert_true(world_used(&result, &w, 120, 600) > 0.9);
    assert_true((double)world_refused(&result, 120, 600) <
                0.01 * 20 * 480);
}

static const double shares[] = {0.02, 0.07, 0.2};

static double served(int from, int to)
{
    double n = 0;

    for (int i = from; i < to; i++)
        n += result.served[i];
    return n / (to - from);
}

/* A provider that refuses a share of all requests has no limit to be found: its
 * 32 places are used as if nothing were refused. */
static void refusals_at_any_rate_are_no_limit(void **state)
{
    (void)state;

    for (size_t i = 0; i < 3; i++)
    for (int overloaded = 0; overloaded < 2; overloaded++) {
        struct world w = silent(1e9, 1);
        double busy = 32 / (0.5 * exp(0.08)), mean = 0;

        w.noise = shares[i];
        w.overloaded = overloaded;
        w.servers = 32;
        w.latency_s = 0.5;
        for (uint64_t seed = 1; seed <= 4; seed++) {
            drive(&w, seed, 400);
            mean += served(200, 400) / 4;
        }
        if (mean < 0.9 * busy)
            fail_msg("%g of all refused with %s: %g of %g a second", shares[i],
                     overloaded ? "503" : "429", mean, busy);
    }
}

/* A limit is found among refusals that have nothing to do with it, and no more
 * are refused than these and a few. */
static void a_limit_shows_among_refusals_at_any_rate(void **state)
{
    static const double rates[] = {5, 50, 500}, bursts[] = {1, 10, 60};
    (void)state;

    for (size_t r = 0; r < 3; r++)
    for (size_t b = 0; b < 3; b++) {
        struct world w = silent(rates[r], bursts[b]);
        double used = 0, refused = 0, requests = 0;

        w.noise = 0.05;
        for (uint64_t seed = 1; seed <= 3; seed++) {
            drive(&w, seed, 600);
            used += world_used(&result, &w, 120, 600) / 3;
            refused += (double)result.refusals;
            requests += (double)result.requests;
        }
        if (used < 0.9 || refused > (rates[r] < 10 ? 0.12 : 0.08) * requests)
            fail_msg("%g/s burst %g s: used %.4f, refused %.4f", rates[r],
                     bursts[b], used, refused / requests);
    }
}

/* A cut is no reason to think so, however small: the limit is kept to. */
static void a_small_cut_is_a_cut(void **state)
{
    static const double factors[] = {0.6, 0.8, 0.9, 0.95};
    (void)state;

    for (size_t f = 0; f < 4; f++) {
        struct world w = silent(20, 10);

        w.changes_at_s = 200;
        w.factor = factors[f];
        drive(&w, 7, 400);
        if (pace.usual.known || world_refused(&result, 200, 400) > 10)
            fail_msg("x%g: %d refused", factors[f],
                     (int)world_refused(&result, 200, 400));
    }
}

/* A busy machine wakes up late; what flowed in meanwhile is not lost. */
static void waking_late_costs_nothing(void **state)
{
    static const double rates[] = {5, 50, 300};
    (void)state;

    for (size_t r = 0; r < 3; r++)
    for (int told = 0; told < 2; told++) {
        struct world w = silent(rates[r], 10);
        double later;

        w.lag_s = 0.01;
        w.style = told ? WORLD_PER_MINUTE : WORLD_SILENT;
        drive(&w, 3, 600);
        later = world_used(&result, &w, 60, 600);
        if (later < (rates[r] < 10 ? 0.95 : 0.99) || result.refusals > 250)
            fail_msg("%g/s style %d: used %.4f, refused %d", rates[r],
                     (int)w.style, later, (int)result.refusals);
    }
}

/* Nothing to send for a while is no sign that more is allowed. */
static void idle_time_teaches_nothing(void **state)
{
    struct tr_estimate e;
    int64_t now = WORLD_START;
    double before;
    (void)state;

    tr_estimate_init(&e, now);
    for (int i = 0; i < 200; i++) {
        now += 50 * TR_MS;
        tr_estimate_sent(&e, 1, true, now);
        if (i >= 100 && i % 4 == 0)
            tr_estimate_refused(&e, 1, -1, now - 10 * TR_MS, now);
    }
    before = tr_estimate_rate(&e, true, now);
    now += 3600 * TR_S;
    tr_estimate_sent(&e, 1, false, now);
    assert_true(tr_estimate_rate(&e, true, now) < 1.5 * before);
}

/* After the first refusal of ten a second something else holds us back for ten
 * minutes, and the bucket runs over: the next refusal makes no limit of the few
 * that left meanwhile. */
static void rare_requests_are_no_slow_limit(void **state)
{
    struct tr_estimate e;
    int64_t now = WORLD_START;
    double rate;
    (void)state;

    tr_estimate_init(&e, now);
    for (int i = 0; i < 200; i++, now += 100 * TR_MS) {
        tr_estimate_sent(&e, 1, true, now);
        tr_estimate_accepted(&e, now, now + 50 * TR_MS);
    }
    tr_estimate_sent(&e, 1, true, now);
    tr_estimate_refused(&e, 1, -1, now, now + 50 * TR_MS);
    for (int i = 0; i < 300; i++, now += 2 * TR_S) {
        tr_estimate_sent(&e, 1, false, now);
        tr_estimate_accepted(&e, now, now + 50 * TR_MS);
    }
    for (int i = 0; i < 100; i++, now += 50 * TR_MS) {
        tr_estimate_sent(&e, 1, false, now);
        tr_estimate_accepted(&e, now, now + 50 * TR_MS);
    }
    tr_estimate_sent(&e, 1, false, now);
    tr_estimate_refused(&e, 1, -1, now, now + 50 * TR_MS);
    rate = tr_estimate_rate(&e, true, now + TR_S);
    if (rate < 5)
        fail_msg("%.2f a second", rate);
}

/* A model that was not needed for hours is asked again, or the process slept,
 * and it refuses: few requests between two refusals that lie so far apart are
 * no slow limit. */
static void hours_between_refusals_are_no_limit(void **state)
{
    (void)state;

    for (int held = 0; held < 2; held++) {
        struct tr_estimate e;
        int64_t now = WORLD_START;

        tr_estimate_init(&e, now);
        for (int round = 0; round < 2; round++, now += 17 * 3600 * TR_S) {
            for (int i = 0; i < 3; i++, now += 100 * TR_MS) {
                tr_estimate_sent(&e, 1, held && !i, now);
                tr_estimate_accepted(&e, now, now + 50 * TR_MS);
            }
            tr_estimate_sent(&e, 1, false, now);
            tr_estimate_refused(&e, 1, -1, now, now + 50 * TR_MS);
            assert_true(tr_estimate_rate(&e, true, now) > 0.1);
        }
    }
}

/* Nothing is accepted any more, and windows are taken to last an hour. */
static void in_the_dark(struct tr_estimate *e, int64_t now)
{
    tr_estimate_init(e, now);
    e->phase = TR_EST_DARK;
    e->window_s = 3600;
    e->quota = 4;
    e->trusted = 2;
    e->boundary = e->dark_from = e->dark_last = e->last_at = now;
}

/* A process that slept while a window's length was measured: not that long. */
static void sleep_is_no_window(void **state)
{
    struct tr_estimate e;
    int64_t now = WORLD_START;
    (void)state;

    in_the_dark(&e, now);
    e.measuring = true;
    e.hold_until = now + 120 * TR_S;
    now += 5500 * TR_S;
    tr_estimate_sent(&e, 1, true, now);
    tr_estimate_accepted(&e, now, now + 50 * TR_MS);
    assert_true(tr_estimate_rate(&e, true, now) > 0.1);
}

/* What left before the machine slept is heard of after it: the hour between is
 * no time in which so little was accepted. */
static void a_refusal_heard_after_sleep_measures_no_rate(void **state)
{
    struct tr_estimate e;
    int64_t now = WORLD_START, left;
    (void)state;

    tr_estimate_init(&e, now);
    for (int i = 0; i < 12; i++, now += 100 * TR_MS) {
        tr_estimate_sent(&e, i == 6 ? 470 : 188, false, now);
        if (i == 6) /* one, and a large one: by chance, perhaps */
            tr_estimate_refused(&e, 470, -1, now, now + 50 * TR_MS);
        else
            tr_estimate_accepted(&e, now, now + 50 * TR_MS);
    }
    left = now;
    tr_estimate_sent(&e, 188, true, left);
    now += 3473 * TR_S;
    tr_estimate_refused(&e, 188, -1, left, now);
    now += 67 * TR_S;
    for (int i = 0; i < 2; i++, now += 100 * TR_MS) {
        tr_estimate_sent(&e, 188, true, now);
        tr_estimate_accepted(&e, now, now + 50 * TR_MS);
    }
    tr_estimate_sent(&e, 470, true, now);
    tr_estimate_refused(&e, 470, -1, now, now + 50 * TR_MS);
    assert_true(tr_estimate_rate(&e, true, now) > 3);
}

/* An hour's window may be none: somebody looks every two minutes. */
static void darkness_is_looked_at(void **state)
{
    struct tr_estimate e;
    int64_t now = WORLD_START;
    (void)state;

    in_the_dark(&e, now);
    now += 60 * TR_S;
    tr_estimate_sent(&e, 1, true, now);
    tr_estimate_refused(&e, 1, -1, now, now + 50 * TR_MS);
    assert_in_range(e.hold_until - now, TR_S, 121 * TR_S);
}

/* What a bucket of one accepts while its raised limit is looked for came one by
 * one: it did not grow. */
static void a_raised_limit_makes_no_larger_bucket(void **state)
{
    struct tr_estimate e;
    int64_t now = WORLD_START;
    (void)state;

    tr_estimate_init(&e, now);
    e.phase = TR_EST_RAMP;
    e.base = 0.2;
    e.size = 1;
    for (int i = 0; i < 18; i++) {
        now += 5 * TR_S;
        tr_estimate_sent(&e, 1, true, now);
    }
    tr_estimate_refused(&e, 1, -1, now, now + 50 * TR_MS);
    assert_int_equal(e.phase, TR_EST_FIND);
    assert_true(tr_estimate_is_tight(&e));
}

/* A process that slept for an hour finds a refusal: not an hour's round trip. */
static void a_refusal_found_after_sleep_is_not_waited_for(void **state)
{
    struct tr_estimate e;
    int64_t now = WORLD_START;
    (void)state;

    tr_estimate_init(&e, now);
    for (int i = 0; i < 8; i++, now += 100 * TR_MS) {
        tr_estimate_sent(&e, 1, false, now);
        tr_estimate_accepted(&e, now, now + 50 * TR_MS);
    }
    tr_estimate_sent(&e, 1, false, now);
    tr_estimate_refused(&e, 1, -1, now, now + 3600 * TR_S);
    assert_true(e.hold_until - (now + 3600 * TR_S) <= 70 * TR_S);
}

/* Each refusal is felt for again from what was reached before it, and what
 * nothing held back lets that grow: never to more than anybody serves. */
static void what_is_felt_for_has_an_end(void **state)
{
    int64_t now = WORLD_START;
    struct tr_estimate e;
    (void)state;

    tr_estimate_init(&e, now);
    for (int i = 0; i < 200; i++) {
        tr_estimate_sent(&e, 100, false, now);
        now += TR_S / 3;
        if (i & 1)
            tr_estimate_refused(&e, 100, -1, now - TR_S / 3, now);
        else
            tr_estimate_accepted(&e, now - TR_S / 3, now);
        now += 70 * TR_S;
        if (!(tr_estimate_rate(&e, true, now) <= 1e6 * 100))
            fail_msg("%g a second after %d requests",
                     tr_estimate_rate(&e, true, now), i + 1);
    }
}

/* Whatever comes, in whatever order: rates stay finite and above nothing. */
static void nothing_breaks_it(void **state)
{
    struct tr_rng rng = {42};
    (void)state;

    for (int run = 0; run < 300; run++) {
        struct tr_estimate e;
        int64_t now = WORLD_START;
        double rate = 1;

        tr_estimate_init(&e, now);
        for (int i = 0; i < 400; i++) {
            int64_t back = (int64_t)(tr_rng_unit(&rng) * 3 * TR_S);
            double units = tr_rng_below(&rng, 50) ? 1 : 1e12;

            now += tr_rng_below(&rng, 20)
                       ? (int64_t)(tr_rng_unit(&rng) * 100 * TR_MS)
                       : (int64_t)(tr_rng_unit(&rng) * 4000 * TR_S);
            if (i == 200 && run % 2)
                tr_estimate_tolerate(&e, rate, now);
            switch (tr_rng_below(&rng, 5)) {
            case 0:
                tr_estimate_refused(&e, units, tr_rng_unit(&rng) * 9 - 1,
                                    now - back, now);
                break;
            case 1:
                tr_estimate_accepted(&e, now - back, now);
                break;
            case 2:
                tr_estimate_uncount(&e, units, now - back);
                break;
            default:
                tr_estimate_sent(&e, units, tr_rng_below(&rng, 2), now);
            }
            rate = tr_estimate_rate(&e, true, now);
            if (!(rate > 0 && isfinite(rate)) ||
                e.hold_until > now + 2 * 86400 * TR_S)
                fail_msg("run %d step %d: rate %g", run, i, rate);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_steady_bucket_is_used_up),
        cmocka_unit_test(a_limit_that_changes_is_followed),
        cmocka_unit_test(fixed_windows_are_recognised),
        cmocka_unit_test(a_bucket_of_one_is_met_from_below),
        cmocka_unit_test(a_limit_of_tokens_is_found),
        cmocka_unit_test(a_hidden_frame_is_lived_with),
        cmocka_unit_test(refusals_at_any_rate_are_no_limit),
        cmocka_unit_test(a_limit_shows_among_refusals_at_any_rate),
        cmocka_unit_test(a_small_cut_is_a_cut),
        cmocka_unit_test(waking_late_costs_nothing),
        cmocka_unit_test(idle_time_teaches_nothing),
        cmocka_unit_test(rare_requests_are_no_slow_limit),
        cmocka_unit_test(hours_between_refusals_are_no_limit),
        cmocka_unit_test(sleep_is_no_window),
        cmocka_unit_test(a_refusal_heard_after_sleep_measures_no_rate),
        cmocka_unit_test(darkness_is_looked_at),
        cmocka_unit_test(a_raised_limit_makes_no_larger_bucket),
        cmocka_unit_test(a_refusal_found_after_sleep_is_not_waited_for),
        cmocka_unit_test(what_is_felt_for_has_an_end),
        cmocka_unit_test(nothing_breaks_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
