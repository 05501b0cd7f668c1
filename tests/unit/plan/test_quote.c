/* test_quote.c - forecasts: what they say, and how often they are right.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/quote.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static const struct tr_model_facts facts = {
    .price_in = 1000000, .price_out = 5000000, .price_cached = 100000,
    .price_cache_write = 1000000, .long_in_pct = 100, .long_out_pct = 100,
};

static void without_an_answer_it_is_a_wide_guess(void **state)
{
    struct tr_forecast f = {.texts = 1000, .requests = 63, .bytes = 100000,
                            .cap = 20000};
    struct tr_quote e;
    struct tr_meter m;
    (void)state;

    tr_meter_init(&m);
    tr_quote(&e, &f, &m, &facts);
    assert_int_equal(e.measured, 0);
    assert_int_equal(e.in.mean, 30000);
    assert_true(e.in.low < 20000 && e.in.high > 50000);
    assert_int_equal(e.out.mean, 5000);
    assert_int_equal(e.out.high, 20000);
    assert_int_equal(e.nano.mean, 30000 * 1000 + 5000 * 5000);
    assert_true(e.nano.low < e.nano.mean && e.nano.mean < e.nano.high);
}

static void an_unknown_price_stays_unknown(void **state)
{
    struct tr_model_facts none = {.price_in = -1, .price_out = -1};
    struct tr_forecast f = {.texts = 10, .requests = 1, .bytes = 1000};
    struct tr_quote e;
    struct tr_meter m;
    (void)state;

    tr_meter_init(&m);
    tr_quote(&e, &f, &m, &none);
    assert_int_equal(e.nano.mean, -1);
    assert_int_equal(e.nano.low, -1);
    assert_int_equal(e.nano.high, -1);
}

/* A population of requests whose tokens scatter around a ratio; from 20 of
 * them the sum over 500 others is told. */
static void nineteen_intervals_of_twenty_hold_the_truth(void **state)
{
    struct tr_rng rng = {7};
    int in_holds = 0, out_holds = 0, worlds = 1000;
    (void)state;

    for (int w = 0; w < worlds; w++) {
        struct tr_forecast f = {.requests = 500};
        struct tr_quote e;
        struct tr_meter m;
        int64_t in = 0, out = 0;
        double ratio = 0.15 + 0.4 * tr_rng_unit(&rng);

        tr_meter_init(&m);
        for (int i = 0; i < 520; i++) {
            int64_t bytes = 400 + (int64_t)tr_rng_below(&rng, 3000);
            uint32_t items = 1 + (uint32_t)tr_rng_below(&rng, 16);
            struct tr_usage u = {
                .in = (int64_t)((double)bytes * ratio *
                                (0.8 + 0.4 * tr_rng_unit(&rng))) + 1,
                .out = (int64_t)(items * (3 + 3 * tr_rng_unit(&rng))),
            };

            if (i < 20) {
                tr_meter_learn(&m, (size_t)bytes, items, &u);
                tr_meter_answered(&m, items);
                continue;
            }
            f.bytes += bytes;
            f.texts += items;
            in += u.in;
            out += u.out;
        }
        tr_quote(&e, &f, &m, &facts);
        assert_int_equal(e.measured, 20);
        in_holds += e.in.low <= in && in <= e.in.high;
        out_holds += e.out.low <= out && out <= e.out.high;
    }
    assert_true(in_holds >= 920 && in_holds <= 990);
    assert_true(out_holds >= 920 && out_holds <= 990);
}

static void items_asked_twice_are_paid_twice(void **state)
{
    struct tr_forecast f = {.texts = 100, .requests = 10, .bytes = 10000};
    struct tr_usage u = {.in = 300, .out = 50};
    struct tr_quote once, twice;
    struct tr_meter a, b;
    (void)state;

    tr_meter_init(&a);
    tr_meter_init(&b);
    for (int i = 0; i < 10; i++) {
        tr_meter_learn(&a, 1000, 10, &u);
        tr_meter_answered(&a, 10);
        tr_meter_learn(&b, 1000, 10, &u);
        tr_meter_answered(&b, 5);
    }
    tr_quote(&once, &f, &a, &facts);
    tr_quote(&twice, &f, &b, &facts);
    assert_int_equal(once.in.mean, 3000);
    assert_int_equal(once.out.mean, 500);
    assert_int_equal(twice.in.mean, 6000);
    assert_int_equal(twice.out.mean, 1000);
}

/* Three requests of ten were cut short until there was room for reasoning:
 * whether that comes again nobody knows. */
static void what_was_asked_again_at_first_may_be_all(void **state)
{
    struct tr_forecast f = {.texts = 1000, .requests = 100, .bytes = 100000};
    struct tr_usage u = {.in = 300, .out = 50};
    struct tr_quote few, many;
    struct tr_meter m;
    (void)state;

    tr_meter_init(&m);
    for (int i = 0; i < 10; i++) {
        tr_meter_learn(&m, 1000, 10, &u);
        tr_meter_answered(&m, i < 3 ? 0 : 10);
    }
    tr_quote(&few, &f, &m, &facts);
    assert_true(few.in.low <= 30000 && few.in.high >= 55000);
    assert_true(few.out.low <= 5000 && few.nano.low <= 55000 * 1000);
    for (int i = 10; i < 2000; i++) {
        tr_meter_learn(&m, 1000, 10, &u);
        tr_meter_answered(&m, i % 10 < 3 ? 0 : 10);
    }
    tr_quote(&many, &f, &m, &facts);
    assert_int_equal(many.in.mean, few.in.mean);
    assert_in_range(many.in.low, 40000, 42000);
    assert_in_range(many.in.high, 43500, 46000);
}

static void nothing_to_ask_costs_nothing(void **state)
{
    struct tr_forecast f = {0};
    struct tr_usage u = {.in = 300, .out = 50};
    struct tr_quote e;
    struct tr_meter m;
    (void)state;

    tr_meter_init(&m);
    for (int i = 0; i < 10; i++) {
        u.in += i;
        tr_meter_learn(&m, 1000, 10, &u);
        tr_meter_answered(&m, 10);
    }
    tr_quote(&e, &f, &m, &facts);
    assert_int_equal(e.in.high, 0);
    assert_int_equal(e.nano.high, 0);
}

static void what_came_from_the_cache_is_cheaper(void **state)
{
    struct tr_forecast f = {.texts = 100, .requests = 10, .bytes = 10000};
    struct tr_usage u = {.in = 1000, .out = 0, .cached = 500};
    struct tr_quote e;
    struct tr_meter m;
    (void)state;

    tr_meter_init(&m);
    for (int i = 0; i < 4; i++)
        tr_meter_learn(&m, 1000, 10, &u);
    tr_quote(&e, &f, &m, &facts);
    assert_int_equal(e.in.mean, 10000);
    assert_int_equal(e.nano.mean, 5000 * 1000 + 5000 * 100);
}

static void what_the_cache_may_bring_is_in_the_interval(void **state)
{
    struct tr_forecast f = {.texts = 100, .requests = 10, .bytes = 10000};
    struct tr_quote plain, e;
    struct tr_meter m;
    (void)state;

    tr_meter_init(&m);
    tr_quote(&plain, &f, &m, &facts);
    f.cacheable = 8000;
    tr_quote(&e, &f, &m, &facts);
    assert_int_equal(e.nano.mean, plain.nano.mean);
    assert_int_equal(e.nano.high, plain.nano.high);
    assert_int_equal(plain.nano.low - e.nano.low, 8 * e.in.low / 10 * 900);
}

static void a_meter_survives_a_run(void **state)
{
    static const char *const lines[] = {"", "1", "2 3 4", "1 x", "1 -5 64",
        "1 99999999999999999999999 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"};
    struct tr_usage u = {.in = 321, .out = 57, .cached = 64, .reasoning = 20};
    struct tr_meter a, b;
    struct tr_buf line;
    (void)state;

    tr_meter_init(&a);
    for (int i = 0; i < 50; i++) {
        u.in += i % 7;
        tr_meter_learn(&a, 1000 + (size_t)i, 10, &u);
        tr_meter_answered(&a, 9);
        tr_meter_took(&a, 800 + i);
    }
    tr_buf_init(&line, 0);
    tr_meter_write(&a, &line);
    tr_meter_init(&b);
    tr_meter_read(&b, tr_buf_str(&line));
    assert_int_equal(b.seen, 50);
    assert_int_equal(b.reasoning_max, a.reasoning_max);
    assert_int_equal(b.overhead, a.overhead);
    assert_true(b.in.n == 50 && b.in.y == a.in.y && b.in.xy == a.in.xy);
    assert_true(b.out.x == 500 && b.answered == 450 && b.cached == a.cached);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct tr_meter before = b;

        tr_meter_read(&b, tr_str_c(lines[i]));
        assert_memory_equal(&before, &b, sizeof b);
    }
    tr_buf_release(&line);
}

/* Whoever puts words of his own before each prompt counts more tokens than
 * there are bytes: the next run's first requests must be reserved for it. */
static void what_a_server_adds_is_remembered(void **state)
{
    const struct tr_usage u = {.in = 2500, .out = 57};
    struct tr_meter a, b;
    struct tr_buf line;
    (void)state;

    tr_meter_init(&a);
    tr_meter_learn(&a, 1000, 10, &u);
    tr_buf_init(&line, 0);
    tr_meter_write(&a, &line);
    tr_meter_init(&b);
    tr_meter_read(&b, tr_buf_str(&line));
    assert_int_equal(tr_meter_bound(&b, 1000), 2500);
    assert_in_range(tr_meter_estimate(&b, 1000), 2500, 2502);
    tr_buf_release(&line);
}

static void time_follows_from_what_is_tightest(void **state)
{
    static const struct {
        const char *name;
        struct tr_pace_known known;
        int64_t requests, tokens, ms;
    } cases[] = {
        {"nothing is known", {.rpm = 0}, 10, 1000, -1},
        {"nothing to ask", {.rpm = 0}, 0, 0, 0},
        {"requests", {.rpm = 60}, 10, 1000, 10000},
        {"tokens", {.rpm = 600, .tpm = 1000}, 10, 1000, 60000},
        {"latency", {.latency_ms = 500, .concurrency = 2}, 10, 1000, 2500},
        {"latency is slower than the limit",
         {.rpm = 6000, .latency_ms = 500, .concurrency = 1}, 10, 1000, 5000},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (tr_quote_ms(cases[i].requests, cases[i].tokens,
                           &cases[i].known) != cases[i].ms)
            fail_msg("%s", cases[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_an_answer_it_is_a_wide_guess),
        cmocka_unit_test(an_unknown_price_stays_unknown),
        cmocka_unit_test(nineteen_intervals_of_twenty_hold_the_truth),
        cmocka_unit_test(items_asked_twice_are_paid_twice),
        cmocka_unit_test(what_was_asked_again_at_first_may_be_all),
        cmocka_unit_test(nothing_to_ask_costs_nothing),
        cmocka_unit_test(what_came_from_the_cache_is_cheaper),
        cmocka_unit_test(what_the_cache_may_bring_is_in_the_interval),
        cmocka_unit_test(a_meter_survives_a_run),
        cmocka_unit_test(what_a_server_adds_is_remembered),
        cmocka_unit_test(time_follows_from_what_is_tightest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
