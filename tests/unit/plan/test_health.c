/* test_health.c - when a lane is asked, when it is probed, when rows go on.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/rng.h"
#include "plan/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define START (1000 * TR_S)

/* One reply that left `took` before now; others could take over. */
static struct tr_health_news news(enum tr_outcome outcome, int status,
                                  int64_t sent_at)
{
    return (struct tr_health_news){
        .outcome = outcome, .status = status, .sent_at = sent_at,
        .retry_after_ms = -1, .unit = 0.5, .replaced = true,
        .patience_ns = 900 * TR_S,
    };
}

static bool told(struct tr_health *h, enum tr_outcome outcome, int status,
                 int64_t now)
{
    struct tr_health_news n = news(outcome, status, now - TR_MS);

    return tr_health_reply(h, &n, now);
}

static void a_used_up_quota_closes_at_once_and_for_good(void **state)
{
    struct tr_health h = {0};
    (void)state;

    assert_true(told(&h, TR_OUT_EXHAUSTED, 429, START));
    assert_int_equal(h.state, TR_LANE_EXHAUSTED);
    assert_false(h.comes_back);
    assert_false(tr_health_wants_probe(&h, START + 1000 * 3600 * TR_S));
    assert_false(tr_health_hopes(&h, false, 900 * TR_S, START));
    /* The others that were in flight change nothing, answered or not. */
    assert_false(told(&h, TR_OUT_EXHAUSTED, 429, START + TR_S));
    assert_false(told(&h, TR_OUT_OK, 200, START + TR_S));
    assert_false(told(&h, TR_OUT_TRANSIENT, 500, START + TR_S));
    assert_int_equal(h.state, TR_LANE_EXHAUSTED);
}

/* A probe that left while the lane was down comes back after it was open for a
 * while and its quota ended: that says nothing of the quota. */
static void a_probe_is_for_the_trouble_it_left_in(void **state)
{
    struct tr_health h = {.state = TR_LANE_DOWN};
    struct tr_health_news n = news(TR_OUT_OK, 200, START);
    (void)state;

    n.probe = h.probing = true;
    assert_true(told(&h, TR_OUT_OK, 200, START + TR_S));
    assert_true(told(&h, TR_OUT_EXHAUSTED, 429, START + 2 * TR_S));
    assert_false(tr_health_reply(&h, &n, START + 3 * TR_S));
    assert_int_equal(h.state, TR_LANE_EXHAUSTED);
    assert_false(h.probing);
    n.sent_at = START + 4 * TR_S;
    assert_true(tr_health_reply(&h, &n, START + 5 * TR_S));
    assert_int_equal(h.state, TR_LANE_OPEN);
}

static void a_day_is_probed_when_it_ends(void **state)
{
    struct tr_health h = {0};
    struct tr_health_news n = news(TR_OUT_EXHAUSTED, 429, START);
    (void)state;

    n.retry_after_ms = 2 * 3600 * 1000;
    assert_true(tr_health_reply(&h, &n, START));
    assert_true(h.comes_back);
    assert_false(tr_health_wants_probe(&h, START + 7200 * TR_S - 1));
    assert_true(tr_health_wants_probe(&h, START + 7260 * TR_S));
}

/* The probe at its end is lost on the way: the day has ended all the same. Only
 * a provider that says so without an end takes the hope. */
static void a_probe_that_is_lost_says_nothing_of_a_day(void **state)
{
    const int64_t end = START + 7260 * TR_S;
    struct tr_health h = {0};
    struct tr_health_news n = news(TR_OUT_EXHAUSTED, 429, START);
    (void)state;

    n.retry_after_ms = 2 * 3600 * 1000;
    assert_true(tr_health_reply(&h, &n, START));
    n = news(TR_OUT_LOST, 0, end);
    n.probe = h.probing = true;
    assert_false(tr_health_reply(&h, &n, end + TR_S));
    assert_int_equal(h.state, TR_LANE_EXHAUSTED);
    assert_false(tr_health_wants_probe(&h, end + 30 * TR_S));
    assert_true(tr_health_wants_probe(&h, end + 300 * TR_S));
    n = news(TR_OUT_EXHAUSTED, 429, end + 300 * TR_S);
    n.probe = h.probing = true;
    assert_false(tr_health_reply(&h, &n, end + 301 * TR_S));
    assert_false(tr_health_wants_probe(&h, end + 1000 * 3600 * TR_S));
}

/* Whoever waits for the end of what the server asked for waits for a probe. */
static void a_probe_comes_when_a_wish_ends(void **state)
{
    const int64_t patience = 600 * TR_S, end = START + 86400 * TR_S;
    struct tr_health h = {.state = TR_LANE_DOWN, .probe_at = START};
    struct tr_health_news n = news(TR_OUT_THROTTLED, 429, START);
    (void)state;

    n.probe = h.probing = true;
    n.retry_after_ms = 86400 * 1000;
    n.unit = 0.999;
    tr_health_reply(&h, &n, START);
    assert_false(tr_health_wish(&h, end, patience, START));
    assert_false(tr_health_hopes(&h, false, patience, end - patience - 1));
    assert_true(tr_health_hopes(&h, false, patience, end - patience));
    assert_false(tr_health_wants_probe(&h, end - 1));
    assert_true(tr_health_wants_probe(&h, end + 60 * TR_S));
}

static void probes_for_quota_come_one_by_one_and_ever_later(void **state)
{
    struct tr_health h = {0};
    struct tr_health_news n = news(TR_OUT_EXHAUSTED, 429, START);
    int64_t now = START, before = 0;
    (void)state;

    n.quota_probe_ns = 60 * TR_S;
    tr_health_reply(&h, &n, now);
    assert_true(tr_health_hopes(&h, true, 900 * TR_S, START));
    n.probe = true;
    for (int i = 0; i < 12; i++) {
        int64_t wait = h.probe_at - now;

        assert_true(wait >= 45 * TR_S && wait <= 15 * 75 * TR_S);
        assert_true(wait >= before);
        before = wait;
        assert_false(tr_health_wants_probe(&h, h.probe_at - 1));
        assert_true(tr_health_wants_probe(&h, h.probe_at));
        h.probing = true;
        assert_false(tr_health_wants_probe(&h, h.probe_at));
        now = h.probe_at + TR_S;
        assert_false(tr_health_reply(&h, &n, now));
    }
    assert_int_equal(before, 15 * 60 * TR_S);
    /* The server's wish is a floor. */
    n.retry_after_ms = 3600 * 1000;
    h.probing = true;
    tr_health_reply(&h, &n, now);
    assert_true(h.probe_at >= now + 3600 * TR_S);
    /* One that is answered opens it. */
    h.probing = true;
    n.outcome = TR_OUT_OK;
    assert_true(tr_health_reply(&h, &n, now));
    assert_int_equal(h.state, TR_LANE_OPEN);
    assert_false(h.probing);
}

static void a_refused_key_is_gone(void **state)
{
    struct tr_health h = {0};
    (void)state;

    assert_true(told(&h, TR_OUT_FATAL, 401, START));
    assert_int_equal(h.state, TR_LANE_GONE);
    assert_false(tr_health_hopes(&h, true, 900 * TR_S, START));
    assert_false(told(&h, TR_OUT_OK, 200, START + TR_S));
    assert_false(told(&h, TR_OUT_EXHAUSTED, 429, START + TR_S));
    assert_int_equal(h.state, TR_LANE_GONE);
    assert_false(tr_health_wants_probe(&h, START + 100 * TR_S));
}

/* A single refusal among answers: one text finds out, after some seconds. */
static void who_has_served_is_gone_at_the_second_word(void **state)
{
    static const struct {
        enum tr_outcome probe;
        enum tr_health_state after;
        bool hopes;
    } rows[] = {
        {TR_OUT_FATAL,       TR_LANE_GONE,      false},
        {TR_OUT_OK,          TR_LANE_OPEN,      true },
        {TR_OUT_BAD_REQUEST, TR_LANE_OPEN,      true },
        {TR_OUT_EXHAUSTED,   TR_LANE_EXHAUSTED, false},
        {TR_OUT_TRANSIENT,   TR_LANE_GONE,      true }, /* that says nothing */
        {TR_OUT_THROTTLED,   TR_LANE_GONE,      true },
        {TR_OUT_UNREACHED,   TR_LANE_GONE,      true },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_health h = {0};
        struct tr_health_news n = news(TR_OUT_FATAL, 401, START);
        int64_t asked;

        n.served = true;
        assert_true(tr_health_reply(&h, &n, START));
        assert_int_equal(h.state, TR_LANE_GONE);
        assert_true(tr_health_hopes(&h, false, 900 * TR_S, START));
        assert_false(tr_health_wants_probe(&h, START + 7 * TR_S));
        assert_true(tr_health_wants_probe(&h, START + 13 * TR_S));
        /* What was in flight neither confirms nor refutes. */
        assert_false(told(&h, TR_OUT_OK, 200, START + TR_S));
        assert_false(tr_health_reply(&h, &n, START + TR_S));
        assert_true(h.doubted);
        n.probe = h.probing = true;
        n.sent_at = asked = h.probe_at;
        n.outcome = rows[i].probe;
        tr_health_reply(&h, &n, asked + TR_S);
        assert_int_equal(h.state, rows[i].after);
        assert_int_equal(tr_health_hopes(&h, false, 900 * TR_S, asked),
                         rows[i].hopes);
        assert_int_equal(tr_health_wants_probe(&h, asked + 1000 * TR_S),
                         rows[i].hopes && rows[i].after != TR_LANE_OPEN);
    }
}

/* A refusal of what was in flight when the quota ended brings no earlier probe;
 * that of the quota's own probe is the second word then, and the first if the
 * quota was spoken of since. */
static void a_doubt_is_no_reason_to_probe_a_quota_sooner(void **state)
{
    (void)state;

    for (int i = 0; i < 4; i++) {
        bool waits = i & 1, known = i & 2;
        struct tr_health h = {0};
        struct tr_health_news n = news(TR_OUT_EXHAUSTED, 402, START);
        int64_t probe_at;

        n.served = true;
        n.quota_probe_ns = waits ? 60 * TR_S : 0;
        assert_true(tr_health_reply(&h, &n, START));
        probe_at = h.probe_at;
        n.outcome = TR_OUT_FATAL;
        assert_false(tr_health_reply(&h, &n, START + TR_S));
        assert_int_equal(h.state, TR_LANE_EXHAUSTED);
        assert_int_equal(h.probe_at, probe_at);
        if (known)
            assert_false(told(&h, TR_OUT_EXHAUSTED, 402, START + 2 * TR_S));
        n.probe = h.probing = true;
        n.sent_at = START + 60 * TR_S;
        assert_true(tr_health_reply(&h, &n, START + 61 * TR_S));
        assert_int_equal(h.state, TR_LANE_GONE);
        assert_int_equal(h.doubted, known);
        assert_int_equal(h.probe_at == TR_NEVER, !known);
    }
}

/* failures that step apart, each in flight for took: down after `after`, or
 * never (0). */
static void failures_are_weighed_against_time(void **state)
{
    static const struct {
        enum tr_outcome outcome;
        int status;
        int64_t apart, took;
        int after;
    } rows[] = {
        {TR_OUT_TRANSIENT, 500, TR_S, 0, 5},     /* over two seconds */
        {TR_OUT_TRANSIENT, 500, 100 * TR_MS, 0, 21},
        {TR_OUT_TRANSIENT, 500, TR_MS, 0, 301},  /* a flood: 300 ms of it */
        {TR_OUT_UNREACHED, 0, TR_S, 0, 5},
        {TR_OUT_GARBLED, 200, TR_S, 0, 5},
        {TR_OUT_THROTTLED, 503, TR_S, 0, 5},     /* overloaded is no pace */
        {TR_OUT_THROTTLED, 429, TR_S, 0, 451},   /* pace: half of patience */
        {TR_OUT_LOST, 0, TR_S, 120 * TR_S, 2},   /* time-outs are long */
        {TR_OUT_REFUSED, 200, TR_S, 0, 0},
        {TR_OUT_BAD_REQUEST, 400, TR_S, 0, 0},
        {TR_OUT_TOO_BIG, 400, TR_S, 0, 0},
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_health h = {0};
        int n = 0;
        bool down = false;

        while (!down && n < 2000) {
            int64_t now = START + n++ * rows[i].apart;
            struct tr_health_news x =
                news(rows[i].outcome, rows[i].status, now - rows[i].took);

            down = tr_health_reply(&h, &x, now);
        }
        if (n != (rows[i].after ? rows[i].after : 2000))
            fail_msg("row %zu: %d", i, n);
        assert_int_equal(h.state, down ? TR_LANE_DOWN : TR_LANE_OPEN);
    }
}

static void one_success_forgets_failures(void **state)
{
    struct tr_health h = {0};
    (void)state;

    for (int i = 0; i < 1000; i++)
        assert_false(told(&h, i % 4 == 3 ? TR_OUT_OK : TR_OUT_TRANSIENT,
                          i % 4 == 3 ? 200 : 500, START + i * TR_S));
}

static void a_rest_forgets_failures_and_opens_nothing(void **state)
{
    struct tr_health h = {0};
    (void)state;

    assert_false(told(&h, TR_OUT_TRANSIENT, 500, START));
    tr_health_rest(&h);
    assert_false(told(&h, TR_OUT_TRANSIENT, 500, START + 1200 * TR_S));
    assert_false(told(&h, TR_OUT_TRANSIENT, 500, START + 1259 * TR_S));
    assert_true(told(&h, TR_OUT_TRANSIENT, 500, START + 1260 * TR_S));
    tr_health_rest(&h);
    assert_int_equal(h.state, TR_LANE_DOWN);
}

static void who_is_alone_is_never_down(void **state)
{
    struct tr_health h = {0};
    (void)state;

    for (int i = 0; i < 1000; i++) {
        struct tr_health_news n =
            news(TR_OUT_TRANSIENT, 500, START + i * TR_S);

        n.replaced = false;
        assert_false(tr_health_reply(&h, &n, START + i * TR_S));
    }
    /* As soon as another can take over, what was seen counts. */
    assert_true(told(&h, TR_OUT_TRANSIENT, 500, START + 1000 * TR_S));
}

static void down_is_half_open_and_recovers(void **state)
{
    struct tr_health h = {0};
    struct tr_health_news n;
    int64_t now = START, before = 0;
    (void)state;

    for (int i = 0; i < 5; i++)
        told(&h, TR_OUT_TRANSIENT, 500, now += TR_S);
    assert_int_equal(h.state, TR_LANE_DOWN);
    for (int i = 0; i < 10; i++) {
        int64_t wait = h.probe_at - now;

        assert_true(wait >= before && wait <= 50 * TR_S);
        before = wait;
        now = h.probe_at;
        h.probing = true;
        /* What was in flight before and fails neither moves nor counts. */
        assert_false(told(&h, TR_OUT_TRANSIENT, 500, now));
        assert_true(h.probing);
        n = news(TR_OUT_UNREACHED, 0, now);
        n.probe = true;
        assert_false(tr_health_reply(&h, &n, now));
        assert_false(h.probing);
    }
    assert_true(told(&h, TR_OUT_OK, 200, now));
    assert_int_equal(h.state, TR_LANE_OPEN);
    assert_int_equal(h.failures, 0);
    /* An exhausted quota counts in any state. */
    for (int i = 0; i < 5; i++)
        told(&h, TR_OUT_TRANSIENT, 500, now += TR_S);
    assert_true(told(&h, TR_OUT_EXHAUSTED, 429, now));
    assert_int_equal(h.state, TR_LANE_EXHAUSTED);
}

/* The server wants to be left alone. Longer than the user waits, that closes
 * the lane at once, and what was in flight does not open it again. */
static void a_long_wish_is_trouble_at_once(void **state)
{
    static const struct {
        enum tr_health_state before;
        int64_t wish_s;
        enum tr_health_state after;
        bool hopes, hopes_in_time; /* now; when less than patience is left */
    } rows[] = {
        {TR_LANE_OPEN,      60,    TR_LANE_OPEN,      true,  true },
        {TR_LANE_OPEN,      900,   TR_LANE_OPEN,      true,  true },
        {TR_LANE_OPEN,      901,   TR_LANE_DOWN,      false, true },
        {TR_LANE_OPEN,      86400, TR_LANE_DOWN,      false, true },
        {TR_LANE_DOWN,      900,   TR_LANE_DOWN,      true,  true },
        {TR_LANE_DOWN,      86400, TR_LANE_DOWN,      false, true },
        {TR_LANE_EXHAUSTED, 86400, TR_LANE_EXHAUSTED, false, false},
        {TR_LANE_GONE,      86400, TR_LANE_GONE,      false, false},
    };
    const int64_t patience = 900 * TR_S;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_health h = {.state = rows[i].before,
                              .probe_at = START + TR_S};
        int64_t until = START + rows[i].wish_s * TR_S;

        assert_int_equal(tr_health_wish(&h, until, patience, START),
                         rows[i].after != rows[i].before);
        assert_int_equal(h.state, rows[i].after);
        assert_int_equal(tr_health_hopes(&h, false, patience, START),
                         rows[i].hopes);
        assert_int_equal(tr_health_hopes(&h, false, patience,
                                         until - 900 * TR_S),
                         rows[i].hopes_in_time);
        assert_int_equal(tr_health_hopes(&h, true, patience, START),
                         rows[i].after != TR_LANE_GONE);
        if (h.state != TR_LANE_OPEN && h.state != TR_LANE_GONE) {
            assert_false(tr_health_wants_probe(&h, until - 1));
            assert_true(tr_health_wants_probe(&h, until));
        }
        /* Said again, or a shorter one, it is no news. */
        assert_false(tr_health_wish(&h, until, patience, START + TR_S));
        assert_false(tr_health_wish(&h, until - 1, patience, START + TR_S));
    }
}

static void only_a_probe_ends_a_long_wish(void **state)
{
    struct tr_health h = {0};
    struct tr_health_news n = news(TR_OUT_OK, 200, START);
    int64_t until = START + 5000 * TR_S;
    (void)state;

    assert_true(tr_health_wish(&h, until, 900 * TR_S, START));
    assert_false(told(&h, TR_OUT_OK, 200, START + TR_S));
    assert_int_equal(h.state, TR_LANE_DOWN);
    /* Failures of what was in flight bring no probe nearer. */
    for (int i = 0; i < 50; i++)
        told(&h, TR_OUT_TRANSIENT, 500, START + i * TR_S);
    assert_false(tr_health_wants_probe(&h, until - 1));
    n.probe = h.probing = true;
    n.sent_at = until;
    n.outcome = TR_OUT_TRANSIENT;
    assert_false(tr_health_reply(&h, &n, until + TR_S));
    assert_true(h.probe_at > until && h.probe_at < until + 60 * TR_S);
    n.probe = h.probing = true;
    n.outcome = TR_OUT_OK;
    assert_true(tr_health_reply(&h, &n, until + 2 * TR_S));
    assert_int_equal(h.state, TR_LANE_OPEN);
    /* Down by failures while a shorter one goes on: nothing before it is over,
     * since the probe would only lie there with its row. */
    assert_false(tr_health_wish(&h, until + 600 * TR_S, 900 * TR_S, until));
    for (int i = 0; i < 5; i++)
        told(&h, TR_OUT_TRANSIENT, 500, until + (3 + i) * TR_S);
    assert_int_equal(h.state, TR_LANE_DOWN);
    assert_false(tr_health_wants_probe(&h, until + 600 * TR_S - 1));
    assert_true(tr_health_wants_probe(&h, until + 600 * TR_S));
}

/* Whatever comes: a probe is wanted only when closed, never while one is under
 * way, never of what is gone; and only a change is reported. */
static void random_news_keep_the_rules(void **state)
{
    struct tr_rng rng = {42};
    (void)state;

    for (int run = 0; run < 2000; run++) {
        struct tr_health h = {0};
        int64_t now = START;

        for (int i = 0; i < 200; i++) {
            struct tr_health_news n = news(
                (enum tr_outcome)tr_rng_below(&rng, TR_OUT_COUNT),
                tr_rng_below(&rng, 2) ? 503 : 429, now);
            enum tr_health_state before = h.state;
            bool changed, doubted = h.doubted;

            n.unit = tr_rng_unit(&rng);
            n.replaced = tr_rng_below(&rng, 4) > 0;
            n.served = run % 2;
            n.quota_probe_ns = tr_rng_below(&rng, 2) ? 60 * TR_S : 0;
            n.retry_after_ms = tr_rng_below(&rng, 4) ? -1 : 5000;
            if (tr_health_wants_probe(&h, now)) {
                assert_true(h.state != TR_LANE_OPEN &&
                            (h.state != TR_LANE_GONE || h.doubted));
                h.probing = true;
            }
            n.probe = h.probing && tr_rng_below(&rng, 2);
            now += (int64_t)tr_rng_below(&rng, 3000) * TR_MS;
            changed = tr_health_reply(&h, &n, now);
            assert_int_equal(changed, h.state != before);
            if (before == TR_LANE_GONE && !doubted)
                assert_int_equal(h.state, TR_LANE_GONE);
            if (h.state != TR_LANE_OPEN && h.state != before)
                assert_true(h.probe_at > now);
        }
    }
}

static void triggers_are_words(void **state)
{
    struct tr_str bad;
    unsigned mask;
    (void)state;

    assert_true(tr_triggers_parse(TR_STR("exhausted, down,invalid"), &mask,
                                  &bad));
    assert_int_equal(mask, 1u << TR_ON_EXHAUSTED | 1u << TR_ON_DOWN |
                               1u << TR_ON_INVALID);
    assert_false(tr_triggers_parse(TR_STR("gone,bloked"), &mask, &bad));
    assert_memory_equal(bad.p, "bloked", bad.n);
    assert_false(tr_triggers_parse(TR_STR("gone,,down"), &mask, &bad));
    for (int t = 0; t < TR_TRIGGER_COUNT; t++) {
        assert_true(tr_triggers_parse(
            tr_str_c(tr_trigger_word((enum tr_trigger)t)), &mask, &bad));
        assert_int_equal(mask, 1u << t);
    }
    /* A refusal in any words never goes on under another name. */
    assert_int_equal(tr_trigger_of_why(TR_WHY_BLOCKED), TR_ON_BLOCKED);
    assert_int_equal(tr_trigger_of_why(TR_WHY_REJECTED), TR_ON_BLOCKED);
    assert_int_equal(tr_trigger_of_why(TR_WHY_EMPTY), -1);
    assert_int_equal(tr_trigger_of_state(TR_LANE_OPEN), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_used_up_quota_closes_at_once_and_for_good),
        cmocka_unit_test(a_probe_is_for_the_trouble_it_left_in),
        cmocka_unit_test(a_day_is_probed_when_it_ends),
        cmocka_unit_test(a_probe_that_is_lost_says_nothing_of_a_day),
        cmocka_unit_test(a_probe_comes_when_a_wish_ends),
        cmocka_unit_test(probes_for_quota_come_one_by_one_and_ever_later),
        cmocka_unit_test(a_refused_key_is_gone),
        cmocka_unit_test(who_has_served_is_gone_at_the_second_word),
        cmocka_unit_test(a_doubt_is_no_reason_to_probe_a_quota_sooner),
        cmocka_unit_test(failures_are_weighed_against_time),
        cmocka_unit_test(one_success_forgets_failures),
        cmocka_unit_test(a_rest_forgets_failures_and_opens_nothing),
        cmocka_unit_test(who_is_alone_is_never_down),
        cmocka_unit_test(down_is_half_open_and_recovers),
        cmocka_unit_test(a_long_wish_is_trouble_at_once),
        cmocka_unit_test(only_a_probe_ends_a_long_wish),
        cmocka_unit_test(random_news_keep_the_rules),
        cmocka_unit_test(triggers_are_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
