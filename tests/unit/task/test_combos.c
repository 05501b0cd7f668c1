/* test_combos.c - a number for each combination of labels, and no other.
 * SPDX-License-Identifier: MIT */
#include "task/combos.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Of few labels: every number is a combination, each once, and all are met. */
static void small_ones_are_counted(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= 12; n++) {
        static bool seen[1 << 12];
        struct tr_arena arena;
        struct tr_combos c;
        uint32_t labels[TR_COMBO_LABELS_MAX], before = 2;

        memset(seen, 0, sizeof seen);
        tr_arena_init(&arena);
        assert_int_equal(tr_combos_init(&c, &arena, n, n, NULL), TR_OK);
        assert_int_equal(c.most, n);
        assert_int_equal(c.count, (1u << n) - n - 1);
        for (uint64_t number = 0; number < c.count; number++) {
            uint32_t k = tr_combos_labels(&c, number, labels), mask = 0;

            assert_true(k >= before); /* the smaller ones first */
            before = k;
            for (uint32_t i = 0; i < k; i++) {
                assert_true(labels[i] < n);
                assert_true(i == 0 || labels[i - 1] < labels[i]);
                mask |= 1u << labels[i];
            }
            assert_false(seen[mask]);
            seen[mask] = true;
            assert_int_equal(tr_combos_number(&c, labels, k), number);
        }
        tr_arena_release(&arena);
    }
}

/* Up to how many labels at once a combination has a number: docs/task-file.md
 * says so, and stores rely on it. */
static void as_many_labels_as_stated(void **state)
{
    static const struct {
        uint32_t labels, most;
    } cases[] = {
        {2, 2},   {20, 20},   {55, 55},  {56, 46},  {60, 23},   {100, 14},
        {200, 10}, {500, 7}, {1000, 6}, {2000, 5}, {6000, 5}, {10000, 4},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t n = cases[i].labels, labels[TR_COMBO_LABELS_MAX];
        struct tr_rng rng = {i};
        struct tr_arena arena;
        struct tr_combos c;

        tr_arena_init(&arena);
        assert_int_equal(tr_combos_init(&c, &arena, n, UINT32_MAX, NULL),
                         TR_OK);
        assert_int_equal(c.most, cases[i].most);
        assert_true(c.count <= TR_COMBOS_MAX);
        assert_true(arena.bytes < 1 << 19);
        for (uint32_t k = 0; k < c.most; k++)
            labels[k] = n - c.most + k;
        assert_int_equal(tr_combos_number(&c, labels, c.most), c.count - 1);
        for (int draw = 0; draw < 10000; draw++) {
            uint64_t number = tr_rng_below(&rng, c.count);
            uint32_t k = tr_combos_labels(&c, number, labels);

            assert_true(k <= c.most && labels[k - 1] < n);
            assert_true(tr_combos_number(&c, labels, k) == number);
        }
        tr_arena_release(&arena);
    }
}

/* Fewer labels at once: the numbers below are the same. */
static void a_limit_takes_numbers_from_the_end(void **state)
{
    struct tr_arena arena;
    struct tr_combos c, all;
    uint32_t labels[TR_COMBO_LABELS_MAX];

    (void)state;
    tr_arena_init(&arena);
    assert_int_equal(tr_combos_init(&all, &arena, 9, UINT32_MAX, NULL), TR_OK);
    for (uint32_t most = 0; most < 9; most++) {
        assert_int_equal(tr_combos_init(&c, &arena, 9, most, NULL), TR_OK);
        assert_int_equal(c.most, most < 2 ? 0 : most);
        for (uint64_t number = 0; number < c.count; number++) {
            uint32_t k = tr_combos_labels(&c, number, labels);

            assert_int_equal(tr_combos_number(&all, labels, k), number);
        }
    }
    tr_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_are_counted),
        cmocka_unit_test(as_many_labels_as_stated),
        cmocka_unit_test(a_limit_takes_numbers_from_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
