/* test_alarm.c - which alerts are due: each once per episode.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "plan/alarm.h"
#include "plan/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static const struct tr_alarm_opts opts = {
    .stall_ns = 300 * TR_S, .error_pct = 20, .spend_per_hour = -1,
};
static const struct tr_alarm_view nothing = {
    .rows_expected = -1, .budget = -1, .rows_wait = true,
};

/* All alerts that are due now, as "word:limit word:limit". */
static const char *due(struct tr_alarm *a, const struct tr_alarm_view *v)
{
    static char text[400];
    struct tr_alert alert;
    size_t n = 0;

    text[0] = '\0';
    while (tr_alarm_next(a, v, &alert)) {
        assert_true(alert.text[0] && alert.severity[0]);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s:%lld",
                              n ? " " : "", tr_event_word(alert.kind),
                              (long long)alert.limit);
        assert_true(n < sizeof text);
    }
    return text;
}

static void budget_is_told_at_each_share_once(void **state)
{
    static const struct {
        int64_t used;
        const char *due;
    } steps[] = {
        {0, ""},           {49, ""},           {50, "budget:50"},
        {51, ""},          {79, ""},           {81, "budget:80"},
        {70, ""},          {81, ""},           {95, "budget:95"},
        {100, ""},         {120, ""},
    };
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    v.budget = 100 * TR_NANO;
    tr_alarm_init(&a, &opts, &v);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        v.now += TR_S;
        v.used = steps[i].used * TR_NANO;
        assert_string_equal(due(&a, &v), steps[i].due);
    }
}

static void a_jump_of_money_tells_every_share_it_passes(void **state)
{
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    v.budget = 1000;
    tr_alarm_init(&a, &opts, &v);
    v.used = 990;
    assert_string_equal(due(&a, &v), "budget:50 budget:80 budget:95");
    assert_string_equal(due(&a, &v), "");
}

static void what_an_earlier_run_spent_is_no_news(void **state)
{
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    v.budget = 1000;
    v.used = 820;
    tr_alarm_init(&a, &opts, &v);
    assert_string_equal(due(&a, &v), "");
    v.used = 950;
    assert_string_equal(due(&a, &v), "budget:95");
}

static void without_a_budget_nothing_is_told_of_it(void **state)
{
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    tr_alarm_init(&a, &opts, &v);
    v.used = INT64_MAX;
    assert_string_equal(due(&a, &v), "");
    v.budget = 0; /* nothing may be spent: no share of nothing */
    assert_string_equal(due(&a, &v), "");
    v.budget = v.used = INT64_MAX; /* no overflow */
    assert_string_equal(due(&a, &v), "budget:50 budget:80 budget:95");
}

static void a_stall_is_told_once_until_a_row_settles(void **state)
{
    static const struct {
        int64_t at_s, settled;
        bool wait;
        const char *due;
    } steps[] = {
        {299, 0, true, ""},
        {301, 0, true, "stall:300"},
        {302, 0, true, ""},
        {9000, 0, true, ""},
        {9001, 1, true, ""},
        {9300, 1, true, ""},
        {9301, 1, true, "stall:300"},
        {9302, 2, true, ""},
        {20000, 2, false, ""}, /* only its input is slow */
        {20299, 2, true, ""},
        {20300, 2, true, "stall:300"},
    };
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    tr_alarm_init(&a, &opts, &v);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        v.now = steps[i].at_s * TR_S;
        v.rows_settled = steps[i].settled;
        v.rows_wait = steps[i].wait;
        assert_string_equal(due(&a, &v), steps[i].due);
    }
}

/* seconds pass, of all requests bad ones fail */
static const char *requests(struct tr_alarm *a, struct tr_alarm_view *v,
                            int seconds, int all, int bad)
{
    v->now += seconds * TR_S;
    v->attempts += all;
    v->attempts_bad += bad;
    v->rows_settled++; /* no stall */
    return due(a, v);
}

static void error_rate_has_hysteresis(void **state)
{
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    tr_alarm_init(&a, &opts, &v);
    assert_string_equal(requests(&a, &v, 1, 15, 15), ""); /* too few */
    assert_string_equal(requests(&a, &v, 1, 15, 0), "error_rate:20");
    assert_string_equal(requests(&a, &v, 1, 10, 10), "");
    /* 15 % is below the limit and above half of it: the same episode */
    for (int i = 0; i < 100; i++)
        assert_string_equal(requests(&a, &v, 10, 100, 15), "");
    assert_string_equal(requests(&a, &v, 10, 1000, 900), "");
    for (int i = 0; i < 100; i++)
        assert_string_equal(requests(&a, &v, 10, 100, 1), "");
    assert_string_equal(requests(&a, &v, 10, 1000, 900), "error_rate:20");
}

static void an_idle_hour_tells_nothing(void **state)
{
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    tr_alarm_init(&a, &opts, &v);
    assert_string_equal(requests(&a, &v, 1, 100, 30), "error_rate:20");
    assert_string_equal(requests(&a, &v, 3600, 1, 1), "");
    assert_string_equal(requests(&a, &v, 1, 30, 30), ""); /* same episode */
}

static void failed_rows_are_a_share_of_the_rows_lately(void **state)
{
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    tr_alarm_init(&a, &opts, &v);
    v.now = TR_S;
    v.rows_settled = 1000;
    v.rows_failed = 100;
    assert_string_equal(due(&a, &v), "");
    v.now = 600 * TR_S; /* most of them fade */
    v.rows_settled = 1300;
    v.rows_failed = 200;
    assert_string_equal(due(&a, &v), "failed_rows:20");
    assert_string_equal(due(&a, &v), "");
}

static void zero_percent_switches_rates_off(void **state)
{
    struct tr_alarm_opts off = {.spend_per_hour = -1};
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    tr_alarm_init(&a, &off, &v);
    assert_string_equal(requests(&a, &v, 9000, 100, 100), "");
}

static void a_plan_that_does_not_fit_is_told(void **state)
{
    static const struct {
        int64_t settled, used;
        const char *due;
    } steps[] = {
        {99, 990, ""},                       /* too few rows to tell */
        {100, 1000, "spend_rate:10000"},     /* 10 a row: 20,000 in all */
        {200, 1080, ""},                     /* 5.4 a row: 10,800 */
        {400, 1200, ""},                     /* 3 a row: it fits */
        {400, 2180, ""},                     /* 10,900, within the slack */
        {400, 2300, "spend_rate:10000"},     /* 11,500 */
    };
    static const int64_t earlier[] = {0, 70000}; /* paid from other budgets */
    (void)state;

    for (size_t k = 0; k < sizeof earlier / sizeof *earlier; k++) {
        struct tr_alarm_view v = nothing;
        struct tr_alarm a;

        v.budget = 10000;
        v.rows_expected = 2000;
        v.spent = earlier[k];
        tr_alarm_init(&a, &opts, &v);
        v.now = TR_S;
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            v.rows_settled = steps[i].settled;
            v.used = steps[i].used;
            v.spent = earlier[k] + steps[i].used;
            if (strcmp(due(&a, &v), steps[i].due) != 0)
                fail_msg("step %zu", i);
        }
    }
}

/* What was used of yesterday's budget counts no more; a row costs the same. */
static void a_new_day_has_its_own_budget(void **state)
{
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    v.budget = 10000;
    v.rows_expected = 3000;
    tr_alarm_init(&a, &opts, &v);
    v.now = TR_S;
    v.rows_settled = 1000;
    v.used = v.spent = 4800; /* 14,400 in all */
    assert_string_equal(due(&a, &v), "spend_rate:10000");
    v.used = 0; /* 9,600 to come */
    assert_string_equal(due(&a, &v), "");
    v.rows_settled = 1100;
    v.used = 480;
    v.spent = 5280;
    assert_string_equal(due(&a, &v), "");
}

static void rows_that_cost_twice_the_estimate_are_told(void **state)
{
    static const struct {
        int64_t settled, stored, spent;
        const char *due;
    } steps[] = {
        {99,  0,   99000, ""}, /* too few rows to tell */
        {100, 0,   20000, ""}, /* twice, not more */
        {200, 100, 20001, "spend_rate:200000"}, /* what was known is free */
        {200, 100, 30000, ""},                 /* told */
        {400, 100, 47000, ""},                 /* 1.57: the same episode */
        {400, 100, 90000, ""},
        {900, 100, 120000, ""},                /* 1.5: over */
        {900, 100, 170000, "spend_rate:200000"},
    };
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    (void)state;

    v.spent = 5000; /* of earlier runs */
    v.rows_expected = 2000;
    tr_alarm_init(&a, &opts, &v);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        v.now += TR_S;
        v.row_estimate = 100;
        v.rows_settled = steps[i].settled;
        v.rows_stored = steps[i].stored;
        v.spent = 5000 + steps[i].spent;
        if (strcmp(due(&a, &v), steps[i].due) != 0)
            fail_msg("step %zu", i);
    }
    v = nothing; /* of many rows, or nobody knows how many, more are needed */
    v.row_estimate = 100;
    for (int i = 0; i < 2; i++) {
        v.rows_expected = i ? 1000000 : -1;
        v.spent = 0;
        v.rows_settled = 0;
        tr_alarm_init(&a, &opts, &v);
        v.now += TR_S;
        v.rows_settled = 999;
        v.spent = 999 * 300;
        assert_string_equal(due(&a, &v), "");
        v.rows_settled = 1000;
        v.spent = 1000 * 300;
        assert_string_equal(due(&a, &v), "spend_rate:200000");
    }
    v = nothing; /* nobody estimated */
    tr_alarm_init(&a, &opts, &v);
    v.now = TR_S;
    v.rows_settled = 1000;
    v.spent = 1000000000;
    assert_string_equal(due(&a, &v), "");
}

static void money_that_goes_too_fast_is_told(void **state)
{
    struct tr_alarm_opts o = opts;
    struct tr_alarm_view v = nothing;
    struct tr_alarm a;
    int told = 0;
    (void)state;

    o.spend_per_hour = 36 * TR_NANO; /* a cent a second */
    tr_alarm_init(&a, &o, &v);
    v.now = TR_S;
    v.spent = TR_NANO; /* a burst of a second is no rate */
    assert_string_equal(due(&a, &v), "");
    for (int i = 0; i < 1000; i++) { /* two cents a second */
        v.now += TR_S;
        v.spent += TR_NANO / 50;
        v.rows_settled++;
        told += due(&a, &v)[0] != '\0';
    }
    assert_int_equal(told, 1);
    for (int i = 0; i < 1000; i++) { /* 0.9 cents: the same episode */
        v.now += TR_S;
        v.spent += TR_NANO * 9 / 1000;
        v.rows_settled++;
        assert_string_equal(due(&a, &v), "");
    }
    for (int i = 0; i < 3000; i++) { /* nothing at all: over */
        v.now += TR_S;
        v.rows_settled++;
        assert_string_equal(due(&a, &v), "");
    }
    told = 0;
    for (int i = 0; i < 1000; i++) {
        v.now += TR_S;
        v.spent += TR_NANO / 50;
        v.rows_settled++;
        told += due(&a, &v)[0] != '\0';
    }
    assert_int_equal(told, 1);
}

static void the_end_is_told_once_with_its_severity(void **state)
{
    static const struct {
        int exit_code;
        const char *severity;
    } cases[] = {{0, "info"},      {1, "warning"},   {75, "warning"},
                 {77, "critical"}, {69, "critical"}, {70, "critical"},
                 {129, "warning"}, {130, "warning"}};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_alarm_view v = nothing;
        struct tr_alarm a;
        struct tr_alert alert;

        tr_alarm_init(&a, &opts, &v);
        v.ended = true;
        v.exit_code = cases[i].exit_code;
        assert_true(tr_alarm_next(&a, &v, &alert));
        assert_int_equal(alert.kind, TR_EVENT_FINISHED);
        assert_int_equal(alert.value, cases[i].exit_code);
        assert_string_equal(alert.severity, cases[i].severity);
        assert_false(tr_alarm_next(&a, &v, &alert));
    }
}

static void lanes_have_episodes_of_their_own(void **state)
{
    static const struct {
        enum tr_event_kind kind;
        const char *lane;
        bool told;
    } steps[] = {
        {TR_EVENT_LANE_UP, "a/x", false}, /* it never was down */
        {TR_EVENT_QUOTA, "a/x", true},
        {TR_EVENT_QUOTA, "a/x", false},
        {TR_EVENT_QUOTA, "b/y", true},
        {TR_EVENT_LANE_DOWN, "a/x", true},
        {TR_EVENT_LANE_DOWN, "a/x", false},
        {TR_EVENT_LANE_UP, "a/x", true},
        {TR_EVENT_LANE_UP, "a/x", false},
        {TR_EVENT_QUOTA, "a/x", true},
        {TR_EVENT_QUOTA, "b/y", false},
        {TR_EVENT_MODEL, "b/y", true},
        {TR_EVENT_MODEL, "b/y", false},
        {TR_EVENT_LANE_UP, "b/y", true},
        {TR_EVENT_MODEL, "b/y", false}, /* never again */
        {TR_EVENT_MODEL, "a/x", true},
    };
    struct tr_alarm a;
    struct tr_alert alert;
    (void)state;

    tr_alarm_init(&a, &opts, &nothing);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct tr_event e = {steps[i].kind, steps[i].lane, -1};

        if (tr_alarm_raise(&a, &e, &alert) != steps[i].told)
            fail_msg("step %zu", i);
        if (!steps[i].told)
            continue;
        assert_int_equal(alert.kind, steps[i].kind);
        assert_string_equal(alert.lane, steps[i].lane);
        assert_non_null(strstr(alert.text, steps[i].lane));
    }
}

static void a_lane_that_wants_to_be_left_alone_says_for_how_long(void **state)
{
    struct tr_event e = {TR_EVENT_LANE_DOWN, "a/x", 86401};
    struct tr_alarm a;
    struct tr_alert alert;
    (void)state;

    tr_alarm_init(&a, &opts, &nothing);
    assert_true(tr_alarm_raise(&a, &e, &alert));
    assert_non_null(strstr(alert.text, "left alone for 1441 min"));
    assert_int_equal(alert.value, -1);
}

static void more_lanes_than_are_remembered_stay_silent(void **state)
{
    struct tr_alarm a;
    struct tr_alert alert;
    int told = 0;
    (void)state;

    tr_alarm_init(&a, &opts, &nothing);
    for (int i = 0; i < 100; i++) {
        char name[20];
        struct tr_event e = {TR_EVENT_QUOTA, name, 90};

        snprintf(name, sizeof name, "a/%d", i);
        told += tr_alarm_raise(&a, &e, &alert);
        assert_true(i || strstr(alert.text, "2 min"));
    }
    assert_int_equal(told, TR_ALARM_LANES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget_is_told_at_each_share_once),
        cmocka_unit_test(a_jump_of_money_tells_every_share_it_passes),
        cmocka_unit_test(what_an_earlier_run_spent_is_no_news),
        cmocka_unit_test(without_a_budget_nothing_is_told_of_it),
        cmocka_unit_test(a_stall_is_told_once_until_a_row_settles),
        cmocka_unit_test(error_rate_has_hysteresis),
        cmocka_unit_test(an_idle_hour_tells_nothing),
        cmocka_unit_test(failed_rows_are_a_share_of_the_rows_lately),
        cmocka_unit_test(zero_percent_switches_rates_off),
        cmocka_unit_test(a_plan_that_does_not_fit_is_told),
        cmocka_unit_test(a_new_day_has_its_own_budget),
        cmocka_unit_test(rows_that_cost_twice_the_estimate_are_told),
        cmocka_unit_test(money_that_goes_too_fast_is_told),
        cmocka_unit_test(the_end_is_told_once_with_its_severity),
        cmocka_unit_test(lanes_have_episodes_of_their_own),
        cmocka_unit_test(a_lane_that_wants_to_be_left_alone_says_for_how_long),
        cmocka_unit_test(more_lanes_than_are_remembered_stay_silent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
