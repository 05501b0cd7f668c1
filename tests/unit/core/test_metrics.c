/* test_metrics.c - attempts counted: buckets, tokens, who failed.
 *
 * The text is read by a strict parser in tests/watch.
 *
 * SPDX-License-Identifier: MIT */
#include "watch/metrics.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct tr_lane lane = {.model = "openai/m"};

static void ended(struct tr_metrics *m, const struct tr_lane *l,
                  enum tr_outcome outcome, int64_t ms,
                  const struct tr_usage *usage)
{
    struct tr_reply reply = {
        .outcome = outcome, .latency_ms = ms, .message = "words",
        .billing = usage ? TR_BILL_USAGE : TR_BILL_NONE,
    };
    struct tr_attempt a = {.lane = l, .reply = &reply};

    if (usage)
        reply.usage = *usage;
    tr_metrics_attempt(m, &a);
}

static void a_bucket_holds_its_upper_bound(void **state)
{
    static const struct {
        int64_t ms;
        int bucket; /* TR_METRICS_BUCKETS: beyond all of them */
    } cases[] = {{0, 0},  {10, 0},     {11, 1},     {20, 1},
                 {21, 2}, {81920, 13}, {81921, 14}, {INT64_MAX / 1000000, 14}};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_metrics m = {0};

        ended(&m, &lane, TR_OUT_OK, cases[i].ms, NULL);
        assert_int_equal(m.lanes[0].count[TR_OUT_OK], 1);
        for (int k = 0; k < TR_METRICS_BUCKETS; k++)
            assert_int_equal(m.lanes[0].buckets[TR_OUT_OK][k],
                             k == cases[i].bucket);
    }
}

/* Replies out of a batch have no time of their own. */
static void a_request_in_a_batch_took_until_its_end(void **state)
{
    struct tr_reply reply = {.outcome = TR_OUT_OK, .message = "words"};
    struct tr_attempt a = {.lane = &lane, .reply = &reply,
                           .sent_at = 1000000000, .ended_at = 61000000000};
    struct tr_metrics m = {0};
    (void)state;

    tr_metrics_attempt(&m, &a);
    assert_int_equal(m.lanes[0].buckets[TR_OUT_OK][0], 0);
    assert_int_equal(m.lanes[0].buckets[TR_OUT_OK][13], 1);
    assert_int_equal(m.lanes[0].ms[TR_OUT_OK], 60000);
    reply.latency_ms = 20; /* but what it says of itself counts */
    tr_metrics_attempt(&m, &a);
    assert_int_equal(m.lanes[0].buckets[TR_OUT_OK][1], 1);
}

static void a_token_has_one_type(void **state)
{
    static const struct tr_usage whole = {100, 50, 30, 20, 40};
    static const struct tr_usage silent = {-1, -1, -1, -1, -1};
    static const struct tr_usage some = {10, 5, -1, -1, -1};
    static const struct tr_usage odd = {10, 5, 30, 0, 40}; /* parts too big */
    struct tr_metrics m = {0};
    const struct tr_metrics_lane *l = m.lanes;
    (void)state;

    ended(&m, &lane, TR_OUT_OK, 1, &whole);
    assert_int_equal(l->input, 50);
    assert_int_equal(l->cached, 30);
    assert_int_equal(l->cache_write, 20);
    assert_int_equal(l->output, 10);
    assert_int_equal(l->reasoning, 40);
    ended(&m, &lane, TR_OUT_OK, 1, &silent);
    ended(&m, &lane, TR_OUT_OK, 1, &some);
    assert_int_equal(l->input, 60);
    assert_int_equal(l->output, 15);
    ended(&m, &lane, TR_OUT_OK, 1, &odd);
    assert_int_equal(l->input, 60); /* a counter never falls */
    assert_int_equal(l->output, 15);
}

static void neither_answers_nor_the_pace_are_failures(void **state)
{
    struct tr_metrics m = {0};
    struct tr_reply dropped = {.outcome = TR_OUT_LOST};
    struct tr_attempt a = {.lane = &lane, .reply = &dropped,
                           .sent_at = 1000000000, .ended_at = 4000000000};
    int64_t bad = 0;
    (void)state;

    for (int o = 0; o < TR_OUT_COUNT; o++) {
        ended(&m, &lane, (enum tr_outcome)o, 1, NULL);
        bad += o == TR_OUT_GARBLED || o == TR_OUT_EXHAUSTED ||
               o == TR_OUT_FATAL || o == TR_OUT_BAD_REQUEST ||
               o == TR_OUT_TRANSIENT || o == TR_OUT_UNREACHED ||
               o == TR_OUT_LOST;
        assert_int_equal(m.attempts_bad, bad);
    }
    tr_metrics_attempt(&m, &a); /* dropped by us */
    assert_int_equal(m.attempts_bad, bad);
    assert_int_equal(m.attempts, TR_OUT_COUNT + 1);
    assert_int_equal(m.outcomes[TR_OUT_LOST], 2);
    assert_int_equal(m.lanes[0].ms[TR_OUT_LOST], 3001); /* as long as it hung */
}

static void lanes_are_counted_apart_and_bounded(void **state)
{
    static struct tr_lane many[TR_LANES_MAX + 3];
    struct tr_metrics m = {0};
    (void)state;

    for (int i = 0; i < TR_LANES_MAX + 3; i++) {
        snprintf(many[i].model, sizeof many[i].model, "p/%d", i);
        ended(&m, &many[i], TR_OUT_OK, 1, NULL);
        ended(&m, &many[0], TR_OUT_OK, 1, NULL);
    }
    assert_int_equal(m.lane_count, TR_LANES_MAX);
    assert_int_equal(m.lanes[0].count[TR_OUT_OK], TR_LANES_MAX + 4);
    assert_int_equal(m.lanes[1].count[TR_OUT_OK], 1);
    assert_int_equal(m.attempts, 2 * (TR_LANES_MAX + 3));
}

/* While it waits for another run of its task: 1970 would look like a stall. */
static void a_run_that_has_not_begun_has_no_times(void **state)
{
    static const int64_t alerts[TR_EVENT_COUNT];
    struct tr_metrics_view v = {.version = "1", .alerts = alerts};
    struct tr_metrics m = {0};
    struct tr_buf text;
    (void)state;

    for (int begun = 0; begun < 2; begun++) {
        v.started_s = v.progress_s = begun * 1800000000;
        tr_buf_init(&text, 0);
        tr_metrics_text(&m, &v, &text);
        assert_true(tr_buf_ok(&text));
        assert_non_null(strstr(text.p, "\ntrommel_finished 0\n"));
        assert_int_equal(begun, strstr(text.p, "timestamp_seconds") != NULL);
        tr_buf_release(&text);
    }
}

/* One is made where none is installed. */
static bool take_commas(char *folder)
{
    char command[200];

    if (setlocale(LC_ALL, "de_DE.UTF-8"))
        return true;
    if (!mkdtemp(folder))
        return false;
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 "
             "%s/de_DE.UTF-8 2>/dev/null", folder);
    return system(command) == 0 && setenv("LOCPATH", folder, 1) == 0 &&
           setlocale(LC_ALL, "de_DE.UTF-8");
}

static void leave_commas(const char *folder)
{
    char command[80];

    setlocale(LC_ALL, "C");
    unsetenv("LOCPATH");
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* The program around the library may have a locale with another decimal point;
 * the text is for machines. */
static void the_decimal_point_is_no_comma(void **state)
{
    static const char *const lines[] = {
        "_seconds_bucket{provider=\"openai\",model=\"m\",outcome=\"ok\","
        "le=\"0.01\"} 0\n", "le=\"0.16\"} 1\n", "le=\"81.92\"} 2\n",
        "_seconds_sum{provider=\"openai\",model=\"m\",outcome=\"ok\"} "
        "3.125\n", "\ntrommel_ratelimit_wait_seconds_total 1.500\n"};
    static const int64_t alerts[TR_EVENT_COUNT];
    struct tr_metrics_view v = {.version = "1", .alerts = alerts,
                                .counts.wait_limits_ns = 1500000000};
    struct tr_metrics m = {0};
    char folder[] = "/tmp/trommel-locale-XXXXXX";
    struct tr_buf text;
    (void)state;

    if (!take_commas(folder)) {
        leave_commas(folder);
        skip();
    }
    ended(&m, &lane, TR_OUT_OK, 125, NULL);
    ended(&m, &lane, TR_OUT_OK, 3000, NULL);
    tr_buf_init(&text, 0);
    tr_metrics_text(&m, &v, &text);
    leave_commas(folder);
    assert_true(tr_buf_ok(&text));
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text.p, lines[i]))
            fail_msg("no %s in\n%s", lines[i], text.p);
    tr_buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_holds_its_upper_bound),
        cmocka_unit_test(a_request_in_a_batch_took_until_its_end),
        cmocka_unit_test(a_token_has_one_type),
        cmocka_unit_test(neither_answers_nor_the_pace_are_failures),
        cmocka_unit_test(lanes_are_counted_apart_and_bounded),
        cmocka_unit_test(a_run_that_has_not_begun_has_no_times),
        cmocka_unit_test(the_decimal_point_is_no_comma),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
