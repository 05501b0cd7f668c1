/* test_purse.c - budgets of which more was used before than they are now.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

enum { BUDGET = 1000 };

static int64_t earlier; /* what the ledger answers to who joins */

static int64_t wall_s(void *ctx)
{
    (void)ctx;
    return INT64_C(86400) * 20000;
}

static int ledger(void *ctx, struct tr_ledger_ask *ask, struct tr_err *err)
{
    (void)ctx;
    (void)err;
    for (int i = 0; i < TR_PURSES; i++) {
        ask->earlier[i] = earlier;
        ask->more[i] = ask->want[i];
    }
    ask->granted = true;
    return TR_OK;
}

static const struct tr_env env = {.wall_s = wall_s, .ledger = ledger};

static void open_purses(struct tr_run *run, int64_t budget,
                        struct tr_money *out)
{
    struct tr_job job = {.round = 2};
    struct tr_store *st;
    struct tr_err err;

    assert_int_equal(tr_store_open_memory(&st, &err), TR_OK);
    *run = (struct tr_run){.env = &env, .store = st, .opts = {
        .budget_nano = budget, .budget_tokens = budget,
        .budget_requests = budget, .budget_per = TR_PER_DAY}};
    assert_int_equal(tr_run_purse_open(run, &job, &err), TR_OK);
    tr_store_close(st);
    tr_run_purses(run, out);
}

/* Lowered, or overspent by a request that cost more than its bound: whatever
 * earlier rounds used beyond the budget, nothing is left of it. */
static void a_budget_that_was_overspent_is_none_left(void **state)
{
    static const int64_t used[] = {BUDGET, BUDGET + 1, 2 * BUDGET,
                                   INT64_MAX};
    static struct tr_run run;
    struct tr_money m[TR_PURSES];
    (void)state;

    for (size_t k = 0; k < sizeof used / sizeof *used; k++) {
        earlier = -used[k];
        open_purses(&run, BUDGET, m);
        for (int i = 0; i < TR_PURSES; i++) {
            assert_int_equal(tr_money_left(&m[i]), 0);
            assert_false(tr_money_reserve(&m[i], 1));
            assert_int_equal(m[i].withheld, 0);
            assert_true(tr_money_used(&m[i]) >= BUDGET);
        }
    }
}

static void what_is_left_of_a_budget_is_claimed(void **state)
{
    static struct tr_run run;
    struct tr_money m[TR_PURSES];
    (void)state;

    earlier = -BUDGET + 1;
    open_purses(&run, BUDGET, m);
    for (int i = 0; i < TR_PURSES; i++) {
        assert_int_equal(m[i].withheld, 1);
        assert_int_equal(tr_money_used(&m[i]), BUDGET - 1);
    }
}

static void no_budget_stays_none(void **state)
{
    static struct tr_run run;
    struct tr_money m[TR_PURSES];
    (void)state;

    earlier = -2 * BUDGET;
    open_purses(&run, -1, m);
    for (int i = 0; i < TR_PURSES; i++) {
        assert_int_equal(tr_money_left(&m[i]), INT64_MAX);
        assert_int_equal(m[i].withheld, 0);
        assert_true(tr_money_reserve(&m[i], -1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_budget_that_was_overspent_is_none_left),
        cmocka_unit_test(what_is_left_of_a_budget_is_claimed),
        cmocka_unit_test(no_budget_stays_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
