/* test_pack.c - ids, order, sizes and form of packs.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/pack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void ids_are_distinct_and_order_is_a_shuffle(void **state)
{
    static const uint32_t sizes[] = {0, 1, 2, 3, 16, 32, 449, TR_PACK_MAX};
    (void)state;

    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (uint64_t seed = 0; seed < 50; seed++) {
            uint16_t order[TR_PACK_MAX], ids[TR_PACK_MAX];
            bool placed[TR_PACK_MAX] = {false}, used[1000] = {false};

            tr_pack_draw(seed, sizes[s], order, ids);
            for (uint32_t i = 0; i < sizes[s]; i++) {
                assert_in_range(ids[i], 100, 999);
                assert_false(used[ids[i]]);
                used[ids[i]] = true;
                assert_true(order[i] < sizes[s]);
                assert_false(placed[order[i]]);
                placed[order[i]] = true;
            }
        }
}

static void a_seed_says_it_all_and_says_it_evenly(void **state)
{
    uint16_t a[32], b[32], x[32], y[32];
    uint32_t first[4] = {0}, low = 0;
    (void)state;

    tr_pack_draw(42, 32, a, x);
    tr_pack_draw(42, 32, b, y);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_equal(x, y, sizeof x);
    tr_pack_draw(43, 32, b, y);
    assert_memory_not_equal(x, y, sizeof x);
    for (uint64_t seed = 0; seed < 4000; seed++) {
        tr_pack_draw(seed, 4, a, x);
        first[a[0]]++;
        low += x[0] < 550;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(first[i], 880, 1120);
    assert_in_range(low, 1850, 2150);
}

static void the_bound_is_never_too_low(void **state)
{
    static const struct {
        const char *what;
        size_t bytes;
        int64_t in;
        bool above; /* more than the bound said */
    } replies[] = {
        {"usual", 1000, 260, false},
        {"one token a byte", 1000, 1060, false},
        {"a fat template", 1000, 1400, true},
        {"none reported", 1000, -1, false},
        {"zero reported", 1000, 0, false},
        {"nonsense", 1000, INT64_MAX, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        struct tr_meter m;
        struct tr_usage u = {replies[i].in, 5, -1, -1, -1};
        int64_t before;

        tr_meter_init(&m);
        before = tr_meter_bound(&m, replies[i].bytes);
        assert_true(before >= (int64_t)replies[i].bytes);
        tr_meter_learn(&m, replies[i].bytes, 1, &u);
        if (replies[i].above)
            assert_int_equal(tr_meter_bound(&m, replies[i].bytes),
                             replies[i].in);
        else
            assert_int_equal(tr_meter_bound(&m, replies[i].bytes), before);
        assert_true(tr_meter_bound(&m, SIZE_MAX) > 0);
    }
}

static void the_estimate_follows_what_is_reported(void **state)
{
    struct tr_meter m;
    struct tr_usage u = {180, 96, -1, -1, -1};
    (void)state;

    tr_meter_init(&m);
    assert_in_range(tr_meter_estimate(&m, 1000), 300, 301);
    for (int i = 0; i < 100; i++)
        tr_meter_learn(&m, 1000, 16, &u);
    assert_in_range(tr_meter_estimate(&m, 1000), 178, 182);
    assert_in_range((int)m.out_per_item, 5, 6);
    u.in = 500; /* another kind of text: followed within some 200 replies */
    for (int i = 0; i < 200; i++)
        tr_meter_learn(&m, 1000, 16, &u);
    assert_in_range(tr_meter_estimate(&m, 1000), 480, 501);
}

/* A server that puts words of its own before each prompt counts more tokens
 * than there are bytes. They do not grow with the text: one that fits is not
 * failed for them. */
static void what_a_server_adds_makes_no_text_too_long(void **state)
{
    const struct tr_pack_policy policy = {.context = 128000};
    const struct tr_usage u = {2500, 96, -1, -1, -1};
    const uint32_t bytes = 100000;
    const uint16_t company = 0;
    struct tr_meter m;
    (void)state;

    tr_meter_init(&m);
    for (int i = 0; i < 20; i++)
        tr_meter_learn(&m, 1000, 16, &u);
    assert_in_range(tr_meter_estimate(&m, 1000), 2490, 2501);
    assert_in_range(tr_meter_estimate(&m, bytes), 1, bytes + 1500);
    assert_int_equal(tr_pack_take(&policy, &m, &bytes, &company, 1, 8), 1);
}

static void reasoning_raises_its_allowance_only(void **state)
{
    static const struct {
        const char *what;
        int64_t had, allowance, out, reasoning, context, max_output;
        bool raised;
        int64_t then;
    } cases[] = {
        {"first time", 0, 0, 100, 100, 0, 0, true, 256},
        {"doubles", 1000, 1000, 1200, 1100, 0, 0, true, 2200},
        {"up to the model's", 1000, 1000, 1200, 1100, 0, 1500, true, 1500},
        {"not beyond it", 1500, 1500, 1500, 1500, 0, 1500, false, 1500},
        {"whatever was seen", 1500, 2250, 1500, 1500, 0, 1500, false, 2250},
        {"nor beyond the context", 1000, 1000, 1200, 1100, 1500, 0, true, 1500},
        {"whatever the output", 1500, 1500, 1500, 1500, 1500, 9000, false,
         1500},
        {"another has raised it", 0, 2200, 1100, 1100, 0, 0, true, 2200},
        {"to the end", 0, 1500, 1100, 1100, 0, 1500, true, 1500},
        {"spent on words", 0, 0, 1000, 100, 0, 0, false, 0},
        {"none reported", 0, 0, 1000, -1, 0, 0, false, 0},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_meter m;
        struct tr_usage u = {100, cases[i].out, -1, -1, cases[i].reasoning};

        tr_meter_init(&m);
        m.reasoning_max = cases[i].allowance;
        if (tr_meter_more_reasoning(&m, &u, cases[i].had, cases[i].context,
                                    cases[i].max_output) != cases[i].raised ||
            m.reasoning_max != cases[i].then)
            fail_msg("%s: allowance %lld", cases[i].what,
                     (long long)m.reasoning_max);
    }
}

static void packs_are_filled_by_count_tokens_and_company(void **state)
{
    enum { N = 40 };
    static const struct {
        const char *what;
        uint32_t rows, bytes, first_bytes;
        uint16_t company_at, company; /* row and its limit */
        struct tr_pack_policy policy;
        uint32_t takes;
    } cases[] = {
        {"nothing waits", 0, 100, 100, 0, 0, {0}, 0},
        {"auto: 16", N, 100, 100, 0, 0, {0}, 16},
        {"auto: fewer long ones", N, 2000, 2000, 0, 0, {0}, 4},
        {"auto: one very long", N, 100, 90000, 0, 0, {0}, 1},
        {"auto: a smaller aim", N, 100, 100, 0, 0,
         {.pack_tokens = 200}, 6},
        {"as told", N, 2000, 2000, 0, 0, {.pack = 32}, 32},
        {"fewer are there", 7, 100, 100, 0, 0, {.pack = 32}, 7},
        {"never more than ids allow", N, 1, 1, 0, 0, {.pack = 100000}, N},
        {"the first wants company of 2", N, 100, 100, 0, 2, {.pack = 8}, 2},
        {"the first wants to be alone", N, 100, 100, 0, 1, {.pack = 8}, 1},
        {"a later one wants 2: not with us", N, 100, 100, 3, 2,
         {.pack = 8}, 3},
        {"a later one takes 6: it joins, and 6 it is", N, 100, 100, 3, 6,
         {.pack = 8}, 6},
        {"the context bounds company by bytes", N, 1000, 1000, 0, 0,
         {.pack = 8, .context = 4000}, 3},
        {"guests take room in company", N, 1000, 1000, 0, 0,
         {.pack = 8, .context = 4000, .guest_bytes = 1000}, 2},
        {"and none when alone", N, 1000, 1000, 0, 0,
         {.pack = 8, .context = 4000, .guest_bytes = 100000}, 1},
        {"a minute holds guests, too", N, 1000, 1000, 0, 0,
         {.pack = 32, .tpm = 1000, .guest_bytes = 400}, 1},
        {"bound above, estimate within: alone", N, 5000, 5000, 0, 0,
         {.pack = 8, .context = 4000}, 1},
        {"estimate above: not at all", N, 100, 20000, 0, 0,
         {.pack = 8, .context = 4000}, 0},
        {"a pack stays within a minute", N, 1000, 1000, 0, 0,
         {.pack = 32, .tpm = 1000}, 3},
        {"one text may pass a minute", N, 10000, 10000, 0, 0,
         {.pack = 32, .tpm = 1000}, 1},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t bytes[N], takes;
        uint16_t company[N] = {0};
        struct tr_meter m;

        tr_meter_init(&m);
        for (uint32_t k = 0; k < N; k++)
            bytes[k] = k ? cases[i].bytes : cases[i].first_bytes;
        company[cases[i].company_at] = cases[i].company;
        takes = tr_pack_take(&cases[i].policy, &m, bytes, company,
                             cases[i].rows, 8);
        if (takes != cases[i].takes)
            fail_msg("%s: took %u, not %u", cases[i].what, (unsigned)takes,
                     (unsigned)cases[i].takes);
    }
}

static void a_long_thought_leaves_packs_of_many(void **state)
{
    enum { N = 16 };
    static const struct {
        const char *what;
        uint32_t bytes; /* of each text */
        int64_t reasoning, context, max_output, tpm;
        uint32_t takes;
    } cases[] = {
        {"another's is not this text's length", 5000, 4000, 4000, 0, 0, 1},
        {"short texts go together", 100, 32768, 8192, 0, 0, N},
        {"it takes half of the context", 1000, 32768, 8192, 0, 0, 4},
        {"all of the output", 1000, 32768, 8192, 1000, 0, 7},
        {"which is of a minute, too", 1000, 32768, 0, 1000, 2000, 3},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_pack_policy policy = {
            .pack = N, .context = cases[i].context,
            .max_output = cases[i].max_output, .tpm = cases[i].tpm,
        };
        uint16_t company[N] = {0};
        uint32_t bytes[N], takes;
        struct tr_meter m;

        tr_meter_init(&m);
        m.reasoning_max = cases[i].reasoning;
        for (int k = 0; k < N; k++)
            bytes[k] = cases[i].bytes;
        takes = tr_pack_take(&policy, &m, bytes, company, N, 8);
        if (takes != cases[i].takes)
            fail_msg("%s: took %u, not %u", cases[i].what, (unsigned)takes,
                     (unsigned)cases[i].takes);
    }
}

static void reasoning_gets_what_the_model_has_room_for(void **state)
{
    static const struct {
        const char *what;
        int64_t reasoning, words;
        size_t bytes;
        int64_t context, max_output, cap;
    } cases[] = {
        {"none", 0, 80, 1000, 0, 0, 80},
        {"on top of the words", 500, 80, 1000, 0, 0, 580},
        {"within the context", 500, 80, 1000, 8192, 0, 580},
        /* 3001 tokens by estimate, a quarter more for safety */
        {"what the context leaves", 9000, 80, 10000, 8192, 0, 8192 - 3751},
        {"words in any case", 9000, 80, 10000, 3700, 0, 80},
        {"and none of it where it leaves nothing", 9000, 80, 10000, 10, 0, 80},
        {"within the output", 9000, 80, 1000, 8192, 4096, 4096},
        {"words, too", 0, 80, 1000, 8192, 40, 40},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_meter m;
        int64_t cap;

        tr_meter_init(&m);
        m.reasoning_max = cases[i].reasoning;
        cap = tr_pack_cap(&m, cases[i].words, cases[i].bytes,
                          cases[i].context, cases[i].max_output);
        if (cap != cases[i].cap)
            fail_msg("%s: cap %lld, not %lld", cases[i].what, (long long)cap,
                     (long long)cases[i].cap);
    }
}

static void the_form_changes_when_lines_go_wrong(void **state)
{
    static const struct {
        const char *what;
        int forced;
        uint32_t packs, items, bad; /* bad: per pack */
        bool refused;
        int form;
    } cases[] = {
        {"good lines stay", -1, 100, 16, 0, false, 0},
        {"2 % is still good", -1, 20, 50, 1, false, 0},
        {"too soon to tell", -1, 19, 16, 16, false, 0},
        {"bad lines become schema", -1, 20, 16, 1, false, 1},
        {"unless it is refused", -1, 20, 16, 1, true, 0},
        {"lines as told", 0, 100, 16, 16, false, 0},
        {"schema as told", 1, 100, 16, 0, false, 1},
        {"schema as told even if not enforced", 1, 1, 16, 0, true, 1},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_form_choice f;

        tr_form_init(&f, cases[i].forced);
        for (uint32_t k = 0; k < cases[i].packs; k++)
            tr_form_learn(&f, cases[i].items, cases[i].bad);
        if (cases[i].refused)
            tr_form_refused(&f);
        for (uint32_t k = 0; cases[i].refused && k < cases[i].packs; k++)
            tr_form_learn(&f, cases[i].items, cases[i].bad);
        if (f.form != cases[i].form)
            fail_msg("%s: form %d", cases[i].what, f.form);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_distinct_and_order_is_a_shuffle),
        cmocka_unit_test(a_seed_says_it_all_and_says_it_evenly),
        cmocka_unit_test(the_bound_is_never_too_low),
        cmocka_unit_test(the_estimate_follows_what_is_reported),
        cmocka_unit_test(what_a_server_adds_makes_no_text_too_long),
        cmocka_unit_test(reasoning_raises_its_allowance_only),
        cmocka_unit_test(packs_are_filled_by_count_tokens_and_company),
        cmocka_unit_test(a_long_thought_leaves_packs_of_many),
        cmocka_unit_test(reasoning_gets_what_the_model_has_room_for),
        cmocka_unit_test(the_form_changes_when_lines_go_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
