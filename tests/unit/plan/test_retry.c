/* test_retry.c - the outcome table, back-off, retry budget, group commit.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/rng.h"
#include "plan/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void every_outcome_has_its_row(void **state)
{
    static const struct {
        enum tr_outcome outcome;
        enum tr_action action;
        enum tr_charge charge;
        enum tr_why why;
    } rows[] = {
        {TR_OUT_OK, TR_DO_CHECK, TR_CHARGE_ROWS, TR_WHY_INVALID},
        {TR_OUT_CUT_SHORT, TR_DO_CHECK, TR_CHARGE_ROWS, TR_WHY_TRUNCATED},
        {TR_OUT_REFUSED, TR_DO_HALVE, TR_CHARGE_ROWS, TR_WHY_BLOCKED},
        {TR_OUT_GARBLED, TR_DO_AGAIN, TR_CHARGE_LANE, TR_WHY_NO_ANSWER},
        {TR_OUT_THROTTLED, TR_DO_AGAIN, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED},
        {TR_OUT_TOO_BIG, TR_DO_HALVE, TR_CHARGE_ROWS, TR_WHY_TOO_LONG},
        {TR_OUT_EXHAUSTED, TR_DO_STOP, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED},
        {TR_OUT_FATAL, TR_DO_STOP, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED},
        {TR_OUT_BAD_REQUEST, TR_DO_HALVE, TR_CHARGE_ROWS, TR_WHY_REJECTED},
        {TR_OUT_ADAPT, TR_DO_NOW, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED},
        {TR_OUT_TRANSIENT, TR_DO_AGAIN, TR_CHARGE_LANE, TR_WHY_NO_ANSWER},
        {TR_OUT_UNREACHED, TR_DO_AGAIN, TR_CHARGE_NOBODY, TR_WHY_NOT_ASKED},
        {TR_OUT_LOST, TR_DO_AGAIN, TR_CHARGE_LANE, TR_WHY_NO_ANSWER},
    };
    (void)state;

    assert_int_equal(sizeof rows / sizeof *rows, TR_OUT_COUNT);
    for (size_t i = 0; i < TR_OUT_COUNT; i++) {
        const struct tr_rule *r = tr_rule(rows[i].outcome);

        if (r->action != rows[i].action || r->charge != rows[i].charge ||
            r->why != rows[i].why)
            fail_msg("%s", tr_outcome_word(rows[i].outcome));
        /* Throttling alone slows the pace. */
        assert_int_equal(r->slows, rows[i].outcome == TR_OUT_THROTTLED);
        /* What is charged to nobody ends no row. */
        if (r->charge == TR_CHARGE_NOBODY)
            assert_int_equal(r->why, TR_WHY_NOT_ASKED);
    }
}

static void back_off_is_jittered_above_the_servers_wish(void **state)
{
    static const struct {
        uint32_t tries;
        int64_t floor_ms;
        int64_t least_ms, most_ms; /* for unit 0 and almost 1 */
    } cases[] = {
        {0, -1, 0, 500},
        {1, -1, 0, 1000},
        {3, -1, 0, 4000},
        {6, -1, 0, 30000},
        {TR_TRIES_LONG, -1, 0, 30000},
        {TR_TRIES_LONG + 4, -1, 0, 60000},
        {TR_TRIES_LONG + 41, -1, 0, 330000},
        {TR_TRIES_LONG + 116, -1, 0, 900000},
        {UINT32_MAX, -1, 0, 900000},
        {0, 2000, 2000, 2700},
        {1, 60000, 60000, 67000},
        {0, 3600000, 3600000, 3660500},
        {0, INT64_MAX, 86400000, 86460500},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t least = tr_backoff_ns(cases[i].tries, cases[i].floor_ms, 0);
        int64_t most =
            tr_backoff_ns(cases[i].tries, cases[i].floor_ms, 0.9999999);

        assert_int_equal(least, cases[i].least_ms * TR_MS);
        assert_in_range(most, cases[i].most_ms * TR_MS - 10 * TR_MS,
                        cases[i].most_ms * TR_MS);
    }
}

/* Whoever is told a few milliseconds is one of many that ask for each token of
 * a bucket. */
static void a_short_wish_is_jittered_too(void **state)
{
    (void)state;

    assert_int_equal(tr_told_wait_ns(9, 0), 9 * TR_MS);
    assert_int_equal(tr_told_wait_ns(9, 0.5), 9 * TR_MS + 45 * TR_MS / 100);
    assert_int_equal(tr_told_wait_ns(19, 0.5), 19 * TR_MS + 95 * TR_MS / 100);
}

static void retries_are_a_tenth_of_successes(void **state)
{
    struct tr_retry_budget b;
    int taken = 0;
    (void)state;

    tr_retry_budget_init(&b);
    while (tr_retry_budget_take(&b))
        taken++;
    assert_int_equal(taken, 3);
    for (int i = 0; i < 100; i++)
        tr_retry_budget_earn(&b);
    for (taken = 0; tr_retry_budget_take(&b); taken++)
        ;
    assert_in_range(taken, 9, 10);
    /* A long good time is no licence for a storm. */
    for (int i = 0; i < 1000000; i++)
        tr_retry_budget_earn(&b);
    for (taken = 0; tr_retry_budget_take(&b); taken++)
        ;
    assert_in_range(taken, 99, 101);
}

/* Time units below are milliseconds. */
static void a_commit_is_due(void **state)
{
    static const struct {
        const char *what;
        int64_t last_at, cost, oldest_at;
        bool starved;
        uint32_t pending;
        int64_t now;
        bool due;
    } cases[] = {
        {"nothing to commit", 1000, 2, 0, true, 0, 9999, false},
        {"after a quiet time: at once", 1000, 2, 2000, false, 1, 2000, true},
        {"right after one: not yet", 1000, 2, 1001, false, 9, 1010, false},
        {"nine times its cost later", 1000, 2, 1001, false, 9, 1018, true},
        {"slots idle: after its cost", 1000, 2, 1001, true, 9, 1002, true},
        {"slots idle: half the time at most", 1000, 2, 1001, true, 9, 1001,
         false},
        {"slow disk: 200 ms is the age", 1000, 100, 1001, false, 1, 1200,
         false},
        {"slow disk: and then it is due", 1000, 100, 1001, false, 1, 1201,
         true},
        {"very slow disk: half the time", 1000, 800, 1001, false, 1, 1790,
         false},
        {"very slow disk: then due", 1000, 800, 1001, false, 1, 1800, true},
        {"the first ever", 0, 0, 5, false, 1, 5, true},
        {"clock stepped back", 5000, 2, 5001, false, 1, 1000, true},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_flush f = {.last_at = cases[i].last_at * TR_MS,
                             .last_cost = cases[i].cost * TR_MS,
                             .oldest_at = cases[i].oldest_at * TR_MS};
        if (tr_flush_due(&f, cases[i].starved, cases[i].pending,
                         cases[i].now * TR_MS) != cases[i].due)
            fail_msg("%s", cases[i].what);
    }
}

/* 3,200 replies a second for ten seconds, each waiting for a sync of cost. */
static void syncing_takes_a_small_share_and_nothing_lies_long(void **state)
{
    static const double costs_ms[] = {0.05, 1, 5, 20};
    (void)state;

    for (size_t i = 0; i < sizeof costs_ms / sizeof *costs_ms; i++) {
        struct tr_flush f = {0};
        struct tr_rng rng = {i};
        int64_t now = TR_S, busy = 0, oldest = 0, longest = 0;

        while (now < 11 * TR_S) {
            now += TR_S / 3200;
            if (!oldest)
                oldest = f.oldest_at = now;
            if (tr_flush_due(&f, false, 1, now)) {
                int64_t cost = (int64_t)(costs_ms[i] * TR_MS *
                                         (0.5 + tr_rng_unit(&rng)));

                tr_flush_done(&f, now, now + cost);
                now += cost;
                busy += cost;
                if (now - oldest > longest)
                    longest = now - oldest;
                oldest = 0;
            } else {
                /* wake says the same as due */
                assert_true(tr_flush_wake(&f) > now);
            }
        }
        assert_true(busy < TR_S * 10 * 12 / 100);
        assert_true(longest < 240 * TR_MS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_outcome_has_its_row),
        cmocka_unit_test(back_off_is_jittered_above_the_servers_wish),
        cmocka_unit_test(a_short_wish_is_jittered_too),
        cmocka_unit_test(retries_are_a_tenth_of_successes),
        cmocka_unit_test(a_commit_is_due),
        cmocka_unit_test(syncing_takes_a_small_share_and_nothing_lies_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
