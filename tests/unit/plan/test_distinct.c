/* test_distinct.c - different keys counted: exactly, then within a bound.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/distinct.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct tr_key key_of(int64_t i)
{
    char text[32];

    snprintf(text, sizeof text, "text %lld", (long long)i);
    return tr_digest(NULL, tr_str_c(text));
}

/* Adds texts 0..n-1 in an order that meets each `times` times. */
static int64_t count(struct tr_distinct *d, int64_t n, int times)
{
    int64_t sum = 0;

    for (int t = 0; t < times; t++)
        for (int64_t i = 0; i < n; i++) {
            struct tr_key key = key_of(t % 2 ? n - 1 - i : i);
            int64_t w = tr_distinct_add(d, &key);

            assert_true(w >= 0);
            sum += w;
        }
    return sum;
}

static void a_table_that_has_room_counts_exactly(void **state)
{
    struct tr_distinct d = {.most = 20000};
    (void)state;

    assert_int_equal(count(&d, 20000, 3), 20000);
    assert_int_equal(d.level, 0);
    assert_int_equal(d.n, 20000);
    tr_distinct_release(&d);
}

static void a_full_table_stays_near_the_truth_and_bounded(void **state)
{
    static const int64_t sizes[] = {20001, 50000, 160000, 640000};
    (void)state;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct tr_distinct d = {.most = 20000};
        int64_t n = count(&d, sizes[i], 2);
        double off = (double)(n - sizes[i]) / (double)sizes[i];

        assert_true(d.level > 0);
        assert_true(d.n <= 20000 && d.cap <= 65536);
        /* one standard deviation is 1 % with 10,000 kept */
        assert_true(off > -0.03 && off < 0.03);
        tr_distinct_release(&d);
    }
}

static void a_text_seen_before_never_counts_again(void **state)
{
    struct tr_distinct d = {.most = 1000};
    struct tr_key key;
    (void)state;

    count(&d, 5000, 1);
    for (int64_t i = 0; i < 5000; i++) {
        key = key_of(i);
        assert_int_equal(tr_distinct_add(&d, &key), 0);
    }
    tr_distinct_release(&d);
}

static void memory_that_is_out_is_said(void **state)
{
    struct tr_distinct d = {0};
    struct tr_key key = key_of(1);
    (void)state;

    tr_mem_fail_at(1, 0);
    assert_int_equal(tr_distinct_add(&d, &key), -1);
    tr_mem_fail_at(0, 0);
    assert_int_equal(tr_distinct_add(&d, &key), 1);
    tr_distinct_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_that_has_room_counts_exactly),
        cmocka_unit_test(a_full_table_stays_near_the_truth_and_bounded),
        cmocka_unit_test(a_text_seen_before_never_counts_again),
        cmocka_unit_test(memory_that_is_out_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
