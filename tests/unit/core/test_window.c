/* The window: order, bounds, spilling behind a stuck row.
 * SPDX-License-Identifier: MIT */
#include "engine/window.h"

#include "rows/source.h"
#include "rows/spill.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static struct tr_spill spill;
static int spilled;

static int put(void *ctx, struct tr_block *b, struct tr_err *err)
{
    (void)ctx;
    spilled++;
    return tr_spill_put(&spill, b, err);
}

static int get(void *ctx, struct tr_block *b, struct tr_err *err)
{
    (void)ctx;
    return tr_spill_get(&spill, b, err);
}

static const struct tr_env env = {.spill = put, .unspill = get};

/* Reads row number n into the window; NULL when it is full. */
static struct tr_row *read_row(struct tr_window *w, uint64_t n)
{
    char text[400];
    struct tr_err err;
    int len = snprintf(text, sizeof text, "row %" PRIu64 " %0300d", n, 7);

    for (int fresh = 0; fresh < 2; fresh++) {
        struct tr_block *b = tr_window_room(w, fresh, &err);

        if (!b) {
            assert_int_equal(err.code, TR_OK);
            return NULL;
        }
        if (tr_block_add_row(b, tr_str(text, (size_t)len), false))
            return tr_window_added(w, b);
    }
    fail_msg("a row does not fit into a fresh block");
    return NULL;
}

static void check_row(const struct tr_row *row, uint64_t n)
{
    char text[32];
    struct tr_str raw = tr_row_raw(row->block, row);
    int len = snprintf(text, sizeof text, "row %" PRIu64 " ", n);

    assert_memory_equal(raw.p, text, (size_t)len);
    assert_int_equal(row->verdict.set, n % 7);
}

static void a_stuck_row_holds_the_output_not_the_reading(void **state)
{
    enum { ROWS = 60000 };
    struct tr_window w;
    struct tr_err err;
    struct tr_row *first, *row;
    uint64_t written = 0;
    (void)state;

    tr_spill_init(&spill, NULL);
    spilled = 0;
    tr_window_init(&w, &env, 4u << 20, false);
    first = read_row(&w, 0);
    for (uint64_t n = 1; n < ROWS; n++) {
        row = read_row(&w, n);
        assert_non_null(row); /* never full: settled rows leave memory */
        row->verdict.set = (uint32_t)(n % 7);
        tr_window_settled(&w, row);
        assert_true(w.bytes <= w.bytes_max);
        assert_int_equal(tr_window_next(&w, &row, &err), TR_OK);
        assert_null(row); /* nothing overtakes row 0 */
    }
    assert_true(spilled > 10);
    tr_window_settled(&w, first);
    while (tr_window_next(&w, &row, &err) == TR_OK && row) {
        check_row(row, written++);
        tr_window_wrote(&w, row);
    }
    assert_int_equal(written, ROWS);
    assert_true(tr_window_empty(&w));
    assert_int_equal(spill.blocks, 0);
    tr_window_release(&w);
    assert_int_equal(w.bytes, 0);
    tr_spill_release(&spill);
}

static void a_window_of_unsettled_rows_gets_full(void **state)
{
    struct tr_window w;
    struct tr_row *rows[20000], *row;
    struct tr_err err;
    uint64_t n = 0, written = 0;
    (void)state;

    tr_window_init(&w, &env, 2u << 20, false);
    while ((rows[n] = read_row(&w, n)))
        n++;
    assert_true(n > 1000 && n < 20000);
    for (uint64_t i = n; i-- > 0; ) { /* settle backwards */
        rows[i]->verdict.set = (uint32_t)(i % 7);
        tr_window_settled(&w, rows[i]);
    }
    while (tr_window_next(&w, &row, &err) == TR_OK && row) {
        check_row(row, written++);
        tr_window_wrote(&w, row);
    }
    assert_int_equal(written, n);
    assert_non_null(read_row(&w, n)); /* there is room again */
    tr_window_release(&w);
}

static void as_completed_rows_leave_when_they_settle(void **state)
{
    struct tr_window w;
    struct tr_row *a, *b, *row;
    struct tr_err err;
    (void)state;

    tr_window_init(&w, &env, 2u << 20, true);
    a = read_row(&w, 0);
    b = read_row(&w, 1);
    b->verdict.set = 1;
    tr_window_settled(&w, b);
    assert_int_equal(tr_window_next(&w, &row, &err), TR_OK);
    assert_ptr_equal(row, b);
    tr_window_wrote(&w, row);
    assert_int_equal(tr_window_next(&w, &row, &err), TR_OK);
    assert_null(row);
    assert_false(tr_window_empty(&w));
    tr_window_settled(&w, a);
    assert_int_equal(tr_window_next(&w, &row, &err), TR_OK);
    assert_ptr_equal(row, a);
    tr_window_wrote(&w, row);
    assert_true(tr_window_empty(&w));
    tr_window_release(&w);
}

/* As completed, behind rows that do not settle: blocks that were written leave
 * their shells, and these fill the window in the end. */
static void a_block_without_memory_is_not_read_into(void **state)
{
    struct tr_window w;
    struct tr_row *stuck[2000], *row;
    struct tr_err err;
    size_t n = 0;
    int full = 0;
    (void)state;

    tr_window_init(&w, &env, 1u << 20, true);
    while (full < 3) {
        row = read_row(&w, 0);
        if (!row) { /* a shorter one would fit into what the last block had */
            struct tr_block *b = tr_window_room(&w, false, &err);

            assert_true(!b || b->rows);
            full++;
            continue;
        }
        if (row->block == w.head) {
            assert_true(n < 2000);
            stuck[n++] = row;
            continue;
        }
        tr_window_settled(&w, row);
        assert_int_equal(tr_window_next(&w, &row, &err), TR_OK);
        tr_window_wrote(&w, row);
    }
    while (n)
        tr_window_settled(&w, stuck[--n]);
    while (tr_window_next(&w, &row, &err) == TR_OK && row)
        tr_window_wrote(&w, row);
    assert_true(tr_window_empty(&w));
    assert_non_null(read_row(&w, 0));
    tr_window_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stuck_row_holds_the_output_not_the_reading),
        cmocka_unit_test(a_window_of_unsettled_rows_gets_full),
        cmocka_unit_test(as_completed_rows_leave_when_they_settle),
        cmocka_unit_test(a_block_without_memory_is_not_read_into),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
