/* test_inflight.c - how many under way: enough for the rate, no long queue.
 *
 * SPDX-License-Identifier: MIT */
#include "pace_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static struct world_result result;
static struct tr_pace pace;

/* A server of one's own refuses nothing: it is kept busy, and what waits in
 * its queue stays small. */
static void a_server_of_ones_own_is_busy_without_a_queue(void **state)
{
    static const int slots[] = {1, 4, 32, 128};
    (void)state;

    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        struct world w = {.rate = 1e9, .burst_s = 60, .style = WORLD_SILENT,
                          .latency_s = 0.5, .refusal_s = 0.001,
                          .servers = slots[i]};
        struct tr_pace_opts opts = {0};
        struct world_client c = world_pace(&pace);
        double served = 0, mean_s = 0.5 * exp(0.08);

        tr_pace_init(&pace, &opts, WORLD_START);
        world_run(&result, &w, &c, 3, 300);
        for (int s = 60; s < 300; s++)
            served += result.served[s];
        if (served < 0.9 * 240 * slots[i] / mean_s)
            fail_msg("%d slots: %.0f served", slots[i], served);
        if (result.latency_s > 8 * mean_s)
            fail_msg("%d slots: %.1f s mean latency", slots[i],
                     result.latency_s);
        assert_true(result.most_in_flight <= 6 * slots[i] + 40);
    }
}

static void answer(struct tr_inflight *f, int64_t *now, int64_t latency,
                   int times)
{
    for (int i = 0; i < times; i++) {
        *now += TR_MS;
        tr_inflight_answer(f, true, *now - latency, *now);
    }
}

static void it_doubles_while_no_queue_is_felt(void **state)
{
    struct tr_inflight f;
    int64_t now = WORLD_START;
    (void)state;

    tr_inflight_init(&f, 4, 512, now);
    answer(&f, &now, 500 * TR_MS, 200);
    assert_true(f.limit > 200);
    answer(&f, &now, 500 * TR_MS, 5000);
    assert_true(f.limit == 512);
}

static void a_queue_shrinks_it_in_proportion(void **state)
{
    struct tr_inflight f;
    int64_t now = WORLD_START;
    (void)state;

    tr_inflight_init(&f, 100, 512, now);
    answer(&f, &now, 500 * TR_MS, 50);
    answer(&f, &now, 2500 * TR_MS, 1000);
    assert_true(f.limit < 90);
    assert_true(f.limit >= 1);
}

static void unused_it_does_not_grow(void **state)
{
    struct tr_inflight f;
    int64_t now = WORLD_START;
    (void)state;

    tr_inflight_init(&f, 10, 512, now);
    for (int i = 0; i < 1000; i++) {
        now += TR_MS;
        tr_inflight_answer(&f, false, now - TR_S, now);
    }
    assert_true(f.limit == 10);
}

/* An overload that ends: three quarters are back within ten round trips, after
 * eight refusals in a row, which leave nothing that is safe, half. */
static void after_an_overload_it_comes_back_quickly(void **state)
{
    struct tr_inflight f;
    int64_t now = WORLD_START;
    (void)state;

    tr_inflight_init(&f, 4, 512, now);
    answer(&f, &now, 500 * TR_MS, 300);
    double before = f.limit;

    for (int i = 0; i < 8; i++)
        tr_inflight_halve(&f);
    assert_true(f.limit == 4); /* one may hang, others go on */
    answer(&f, &now, 500 * TR_MS, 10 * (int)before);
    assert_true(f.limit > 0.5 * before);
    tr_inflight_init(&f, 64, 512, now);
    answer(&f, &now, 500 * TR_MS, 6);
    before = f.limit;
    tr_inflight_halve(&f);
    assert_true(f.limit <= before / 2 && f.limit >= before / 2 - 1);
    /* A server that refuses nothing more and answers as before. */
    answer(&f, &now, 500 * TR_MS, 10 * (int)before);
    assert_true(f.limit > 0.75 * before);
    answer(&f, &now, 500 * TR_MS, 2000 - 10 * (int)before);
    assert_true(f.limit > 0.95 * before);
}

/* A base that chance made too low shows when fewer are under way. What is safe
 * to go back to after an overload does not fill the place up meanwhile. */
static void a_look_at_the_base_is_not_undone(void **state)
{
    struct tr_inflight f;
    int64_t now = WORLD_START;
    (void)state;

    tr_inflight_init(&f, 64, 512, now);
    f.doubling = false;
    f.base_ns = 270 * TR_MS;
    f.safe = 32;
    for (int i = 0; i < 1000; i++) {
        now += 100 * TR_MS;
        tr_inflight_answer(&f, true, now - 500 * TR_MS, now);
    }
    assert_true(f.base_ns > 450 * TR_MS);
    assert_true(f.limit > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_of_ones_own_is_busy_without_a_queue),
        cmocka_unit_test(it_doubles_while_no_queue_is_felt),
        cmocka_unit_test(a_queue_shrinks_it_in_proportion),
        cmocka_unit_test(unused_it_does_not_grow),
        cmocka_unit_test(after_an_overload_it_comes_back_quickly),
        cmocka_unit_test(a_look_at_the_base_is_not_undone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
