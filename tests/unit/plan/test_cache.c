/* test_cache.c - when a provider's prompt cache pays, by its prices.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/cache.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static struct tr_model_facts prices(int64_t in, int64_t cached, int64_t write)
{
    return (struct tr_model_facts){.price_in = in, .price_out = 5 * in,
                                   .price_cached = cached,
                                   .price_cache_write = write};
}

static void it_pays_by_length_prices_and_number(void **state)
{
    static const struct {
        const char *name;
        int64_t in, cached, write, least;
        struct tr_cache_case c;
        bool pays, warms;
        uint32_t keys;
    } cases[] = {
        {"long, often, keeping costs extra", 100, 10, 125, 0,
         {2000, 1000, 0, 4, false}, true, true, 1},
        {"too short", 100, 10, 125, 0, {1000, 1000, 0, 4, false},
         false, false, 1},
        {"short, for a model that keeps short ones", 100, 10, 125, 512,
         {1000, 1000, 0, 4, false}, true, true, 1},
        {"long, for a model that keeps very long ones", 100, 10, 125, 4096,
         {2000, 1000, 0, 4, false}, false, false, 1},
        {"one request", 100, 10, 125, 0, {2000, 1, 0, 4, false},
         false, false, 1},
        {"the second use pays", 100, 10, 125, 0, {2000, 2, 0, 1, false},
         true, false, 1},
        {"dear keeping wants more uses", 100, 10, 200, 0,
         {2000, 2, 0, 1, false}, false, false, 1},
        {"all at once, so one goes first", 100, 10, 125, 0,
         {2000, 4, 0, 4, false}, true, true, 1},
        {"keeping is free", 100, 50, 100, 0, {2000, 2, 0, 4, false},
         true, true, 1},
        {"nothing is cheaper", 100, 100, 100, 0, {2000, 1000, 0, 4, false},
         false, false, 1},
        {"no price is known", -1, -1, -1, 0, {2000, 1000, 0, 4, false},
         false, false, 1},
        {"nobody knows how many", 100, 10, 125, 0, {2000, -1, 0, 4, false},
         true, true, 1},
        {"fast: several keys, and no waiting", 100, 10, 125, 0,
         {2000, 10000, 600, 4, true}, true, false, 41},
        {"fast, but few requests a key", 100, 10, 125, 0,
         {2000, 80, 6000, 4, true}, true, false, 10},
        {"slow: one key", 100, 10, 125, 0, {2000, 10000, 10, 4, true},
         true, true, 1},
        {"fast, a provider without keys", 100, 10, 125, 0,
         {2000, 10000, 600, 4, false}, true, true, 1},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_model_facts f = prices(cases[i].in, cases[i].cached,
                                         cases[i].write);
        struct tr_cache_plan p;

        f.cache_min = cases[i].least;
        tr_cache_choose(&p, &cases[i].c, &f);
        if (p.pays != cases[i].pays || p.warms != cases[i].warms ||
            p.keys != cases[i].keys)
            fail_msg("%s: pays %d, warms %d, keys %u", cases[i].name, p.pays,
                     p.warms, (unsigned)p.keys);
    }
}

/* Whatever the numbers: what it says pays costs less than no cache at all, when
 * each key is written once and read by all others that come after. */
static void what_it_says_pays_is_cheaper(void **state)
{
    struct tr_rng rng = {3};
    int paid = 0;
    (void)state;

    for (int i = 0; i < 20000; i++) {
        int64_t in = 1 + (int64_t)tr_rng_below(&rng, 1000);
        struct tr_model_facts f = prices(
            in, (int64_t)tr_rng_below(&rng, (uint64_t)in + 1),
            (int64_t)tr_rng_below(&rng, (uint64_t)in * 3));
        struct tr_cache_case c = {
            .stable_tokens = (int64_t)tr_rng_below(&rng, 5000),
            .requests = (int64_t)tr_rng_below(&rng, 300),
            .rpm = (double)tr_rng_below(&rng, 2000),
            .at_once = 1 + (int)tr_rng_below(&rng, 20),
            .has_keys = tr_rng_below(&rng, 2),
        };
        struct tr_cache_plan p;
        int64_t first, dear = f.price_cache_write > in ? f.price_cache_write
                                                       : in;

        tr_cache_choose(&p, &c, &f);
        if (!p.pays)
            continue;
        paid++;
        first = p.warms ? 1 : c.at_once;
        if (first < p.keys)
            first = p.keys;
        assert_true(p.keys >= 1 && first <= c.requests);
        assert_true(first * dear + (c.requests - first) * f.price_cached <
                    c.requests * in);
    }
    assert_true(paid > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_pays_by_length_prices_and_number),
        cmocka_unit_test(what_it_says_pays_is_cheaper),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
