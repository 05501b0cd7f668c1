/* test_tally.c - exact money: cost, reservation, settlement, text.
 *
 * SPDX-License-Identifier: MIT */
#include "base/rng.h"
#include "plan/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define USD_PER_M INT64_C(1000000) /* pico-dollars a token */

static const struct tr_model_facts luna = {
    .price_in = USD_PER_M, .price_out = 5 * USD_PER_M,
    .price_cached = USD_PER_M / 10, .price_cache_write = 2 * USD_PER_M,
};
static const struct tr_model_facts plain = {
    .price_in = 3, .price_out = 7, .price_cached = -1, .price_cache_write = -1,
};
static const struct tr_model_facts longer = {
    .price_in = USD_PER_M, .price_out = 5 * USD_PER_M, .price_cached = -1,
    .price_cache_write = -1, .long_from = 1000, .long_in_pct = 200,
    .long_out_pct = 150,
};
static const struct tr_model_facts unpriced = {
    .price_in = -1, .price_out = -1, .price_cached = -1,
    .price_cache_write = -1,
};
static const struct tr_model_facts dear = {
    .price_in = INT64_MAX, .price_out = INT64_MAX, .price_cached = INT64_MAX,
    .price_cache_write = INT64_MAX,
};

static void cost_is_exact_and_never_wraps(void **state)
{
    static const struct {
        const char *what;
        const struct tr_model_facts *facts;
        struct tr_usage usage;
        int64_t nano;
    } cases[] = {
        {"in and out", &luna, {1000, 100, -1, -1, -1}, 1500000},
        {"a part from the cache", &luna, {1000, 100, 400, -1, -1}, 1140000},
        {"a part into the cache", &luna, {1000, 0, 0, 500, -1}, 1500000},
        {"more cached than in", &luna, {1000, 0, 2000, 50, -1}, 100000},
        {"reasoning is part of out", &luna, {1, 100, -1, -1, 90}, 501000},
        {"rounded up", &plain, {1, 0, -1, -1, -1}, 1},
        {"rounded up once, not per part", &plain, {100, 100, 50, -1, -1}, 1},
        {"exact at the edge", &plain, {1000, 1000, -1, -1, -1}, 10},
        {"nothing", &luna, {0, 0, -1, -1, -1}, 0},
        {"no count of in", &luna, {-1, 5, -1, -1, -1}, -1},
        {"no count of out", &luna, {5, -1, -1, -1, -1}, -1},
        {"no price", &unpriced, {5, 5, -1, -1, -1}, -1},
        {"long: all of it dearer", &longer, {1001, 100, -1, -1, -1}, 2752000},
        {"not long yet", &longer, {1000, 100, -1, -1, -1}, 1500000},
        {"beyond all bounds", &dear,
         {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, -1}, INT64_MAX},
        {"beyond all bounds, plain", &dear, {INT64_MAX, INT64_MAX, -1, -1, -1},
         INT64_MAX},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (tr_cost(cases[i].facts, &cases[i].usage) != cases[i].nano)
            fail_msg("%s: %lld", cases[i].what,
                     (long long)tr_cost(cases[i].facts, &cases[i].usage));
}

static void the_rest_costs_as_much_again(void **state)
{
    (void)state;

    assert_true(tr_money_times(1000, 3, 10) == 3333);
    assert_true(tr_money_times(0, 1, 10) == 0);
    assert_true(tr_money_times(INT64_MAX, 7, 7) == INT64_MAX);
    assert_true(tr_money_times(INT64_MAX / 2, 1, 1000000) == INT64_MAX);
}

static void the_bound_covers_every_usage_within_it(void **state)
{
    struct tr_rng rng = {9};
    (void)state;

    for (int i = 0; i < 20000; i++) {
        struct tr_model_facts f = {
            .price_in = (int64_t)tr_rng_below(&rng, 100 * USD_PER_M),
            .price_out = (int64_t)tr_rng_below(&rng, 100 * USD_PER_M),
            .price_cached = (int64_t)tr_rng_below(&rng, 100 * USD_PER_M) - 1,
            .price_cache_write =
                (int64_t)tr_rng_below(&rng, 100 * USD_PER_M) - 1,
            .long_from = (int64_t)tr_rng_below(&rng, 1000000),
            .long_in_pct = 100 + (int64_t)tr_rng_below(&rng, 200),
            .long_out_pct = 100 + (int64_t)tr_rng_below(&rng, 200),
        };
        int64_t in = (int64_t)tr_rng_below(&rng, 1000000);
        int64_t out = (int64_t)tr_rng_below(&rng, 100000);
        struct tr_usage u = {
            .in = (int64_t)tr_rng_below(&rng, (uint64_t)in + 1),
            .out = (int64_t)tr_rng_below(&rng, (uint64_t)out + 1),
        };

        u.cached = (int64_t)tr_rng_below(&rng, (uint64_t)u.in + 1);
        u.cache_write = (int64_t)tr_rng_below(&rng, (uint64_t)u.in + 1);
        assert_true(tr_cost(&f, &u) <= tr_cost_bound(&f, in, out));
    }
    assert_int_equal(tr_cost_bound(&unpriced, 1, 1), -1);
    assert_true(tr_cost_bound(&dear, INT64_MAX, INT64_MAX) == INT64_MAX);
    assert_true(tr_cost_bound(&luna, -5, 0) == INT64_MAX);
}

static void an_attempt_settles(void **state)
{
    static const struct tr_usage known = {1000, 100, 0, 0, 0};
    static const struct tr_usage zero = {0, 0, 0, 0, 0};
    static const struct tr_usage none = {-1, -1, -1, -1, -1};
    static const struct {
        const char *what;
        int64_t bound;
        enum tr_billing billing;
        const struct tr_usage *usage;
        const struct tr_model_facts *facts;
        struct tr_settled then;
    } cases[] = {
        {"refused: nothing", 5000000, TR_BILL_NONE, &known, &luna, {0, 0}},
        {"answered", 5000000, TR_BILL_USAGE, &known, &luna, {1500000, 0}},
        {"answered, no usage: the bound", 5000000, TR_BILL_USAGE, &none,
         &luna, {0, 5000000}},
        {"answered, zero usage: the bound", 5000000, TR_BILL_USAGE, &zero,
         &luna, {0, 5000000}},
        {"lost: the bound", 5000000, TR_BILL_UNKNOWN, &known, &luna,
         {0, 5000000}},
        {"dearer than bound: as billed", 1000000, TR_BILL_USAGE, &known,
         &luna, {1500000, 0}},
        {"no price: nothing to count", -1, TR_BILL_USAGE, &known, &unpriced,
         {0, 0}},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_money m = {.cap = -1, .spent = 7, .unknown = 11};
        struct tr_settled s;

        assert_true(tr_money_reserve(&m, cases[i].bound));
        s = tr_money_settle(&m, cases[i].bound, cases[i].billing,
                            cases[i].facts, cases[i].usage);
        if (s.spent != cases[i].then.spent ||
            s.unknown != cases[i].then.unknown)
            fail_msg("%s", cases[i].what);
        assert_int_equal(m.reserved, 0);
        assert_int_equal(m.spent, 7 + s.spent);
        assert_int_equal(m.unknown, 11 + s.unknown);
    }
}

static void the_cap_holds_at_every_instant(void **state)
{
    struct tr_rng rng = {4};
    int refused = 0;
    (void)state;

    for (int run = 0; run < 200; run++) {
        struct tr_money m = {.cap = (int64_t)tr_rng_below(&rng, 10000000)};
        int64_t open[16];
        int n = 0;

        for (int step = 0; step < 200; step++) {
            int64_t bound = (int64_t)tr_rng_below(&rng, 1000000);

            if (n < 16 && tr_rng_below(&rng, 2)) {
                if (tr_money_reserve(&m, bound))
                    open[n++] = bound;
                else
                    refused++;
            } else if (n) {
                struct tr_usage u = {.in = 1 + open[n - 1] / 1000, .out = 0};

                bound = open[--n];
                if (tr_rng_below(&rng, 8) == 0)
                    tr_money_unreserve(&m, bound);
                else if (bound >= 1000)
                    tr_money_settle(&m, bound,
                                    (enum tr_billing)tr_rng_below(&rng, 3),
                                    &(struct tr_model_facts){
                                        .price_in = 900000, .price_out = 0,
                                        .price_cached = -1,
                                        .price_cache_write = -1},
                                    &u);
                else
                    tr_money_unreserve(&m, bound);
            }
            assert_true(m.spent + m.unknown + m.reserved <= m.cap);
            assert_true(tr_money_left(&m) ==
                        m.cap - m.spent - m.unknown - m.reserved);
        }
    }
    assert_true(refused > 100);
}

static void room_is_counted_without_wrapping(void **state)
{
    struct tr_money m = {.cap = 100, .spent = 40, .unknown = 10};
    (void)state;

    assert_false(tr_money_reserve(&m, 51));
    assert_true(tr_money_reserve(&m, 50)); /* to the last nano-dollar */
    assert_false(tr_money_reserve(&m, 1));
    assert_true(tr_money_reserve(&m, 0));
    assert_false(tr_money_reserve(&m, -1)); /* unpriced under a cap */
    m = (struct tr_money){.cap = -1, .spent = INT64_MAX - 1};
    assert_true(tr_money_reserve(&m, INT64_MAX));
    assert_true(tr_money_reserve(&m, INT64_MAX));
    assert_true(m.reserved == INT64_MAX);
    assert_true(tr_money_left(&m) == INT64_MAX);
    m = (struct tr_money){.cap = INT64_MAX, .spent = INT64_MAX,
                          .unknown = INT64_MAX, .reserved = INT64_MAX};
    assert_int_equal(tr_money_left(&m), 0);
}

static void money_reads_well(void **state)
{
    static const struct {
        int64_t nano;
        const char *text;
    } cases[] = {
        {0, "$0.00"}, {1, "$0.000000001"}, {4200000, "$0.0042"},
        {4260000, "$0.0043"}, {42000000, "$0.042"}, {420000000, "$0.42"},
        {996000000, "$1.00"}, {1004000000, "$1.00"},
        {12300000000, "$12.30"}, {12345678901234, "$12345.68"},
        {-4200000, "-$0.0042"}, {INT64_MAX, "$9223372036.85"},
        {INT64_MIN, "-$9223372036.85"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[32];

        assert_string_equal(tr_money_text(cases[i].nano, out, sizeof out),
                            cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cost_is_exact_and_never_wraps),
        cmocka_unit_test(the_rest_costs_as_much_again),
        cmocka_unit_test(the_bound_covers_every_usage_within_it),
        cmocka_unit_test(an_attempt_settles),
        cmocka_unit_test(the_cap_holds_at_every_instant),
        cmocka_unit_test(room_is_counted_without_wrapping),
        cmocka_unit_test(money_reads_well),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
