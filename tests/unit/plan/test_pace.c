/* test_pace.c - the pace against simulated providers: it uses what there is
 * and is hardly ever refused.
 *
 * SPDX-License-Identifier: MIT */
#include "pace_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define START WORLD_START
#define NOTHING {-1, -1, -1, 0}

static const struct tr_limits silent = {NOTHING, NOTHING, NOTHING, NOTHING};

static struct world_result result;
static struct tr_pace pace;

static void drive(const struct world *w, struct tr_pace_opts opts,
                  uint64_t seed, double length_s)
{
    struct world_client c = world_pace(&pace);

    if (opts.room == 0)
        opts.room = 8192;
    tr_pace_init(&pace, &opts, WORLD_START);
    world_run(&result, w, &c, seed, length_s);
}

static double sum_served(int from, int to)
{
    double n = 0;

    for (int i = from; i < to; i++)
        n += result.served[i];
    return n;
}

static int most_in_second(void)
{
    int most = 0;

    for (int i = 0; i < result.seconds; i++)
        most = result.sent[i] > most ? result.sent[i] : most;
    return most;
}

/* ---- limits that headers state ------------------------------- */

static void known_limits_are_used_and_not_passed(void **state)
{
    static const double rates[] = {1, 10, 100}, bursts[] = {1, 10, 60},
                        latencies[] = {0.020, 0.2, 2};
    static const enum world_style styles[] = {
        WORLD_PER_MINUTE, WORLD_PER_BUCKET, WORLD_HIDDEN};
    struct tr_pace_opts learn = {0};
    int failed = 0;
    (void)state;

    for (size_t r = 0; r < 3; r++)
    for (size_t b = 0; b < 3; b++)
    for (size_t l = 0; l < 3; l++)
    for (size_t s = 0; s < 3; s++) {
        struct world w = {.rate = rates[r], .burst_s = bursts[b],
                          .style = styles[s], .latency_s = latencies[l],
                          .refusal_s = 0.02, .retry_after = l & 1};
        double used;

        drive(&w, learn, 1 + l, 240);
        used = world_used(&result, &w, 40, 240);
        /* A request more or less at the ends. */
        if (used < 0.995 - 1.5 / (200 * rates[r]) ||
            (double)result.refusals > 5 + 2 * latencies[l]) { /* in flight by then */
            print_error("%g/s burst %g s latency %g s style %d: used %.4f, "
                        "refused %d\n", rates[r], bursts[b], latencies[l],
                        (int)styles[s], used, (int)result.refusals);
            failed++;
        }
        /* No burst of a full minute at the start. */
        if (most_in_second() > rates[r] * 1.3 + 4) {
            print_error("%d in one second at %g/s\n", most_in_second(),
                        rates[r]);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
}

static void a_level_alone_is_enough(void **state)
{
    static const double rates[] = {5, 50}, bursts[] = {1, 10, 60};
    struct tr_pace_opts learn = {0};
    (void)state;

    for (size_t r = 0; r < 2; r++)
    for (size_t b = 0; b < 3; b++) {
        struct world w = {.rate = rates[r], .burst_s = bursts[b],
                          .style = WORLD_REMAINING, .latency_s = 0.7,
                          .refusal_s = 0.05};
        double used;

        drive(&w, learn, 5, 300);
        used = world_used(&result, &w, 60, 300);
        if (used < 0.98 || result.refusals > 20)
            fail_msg("%g/s burst %g s: used %.4f, refused %d", rates[r],
                     bursts[b], used, (int)result.refusals);
    }
}

static void the_window_of_a_limit_is_found(void **state)
{
    static const struct {
        const char *what;
        double rate, window_s;
        bool fixed;
    } cases[] = {
        {"a minute", 10, 60, false},
        {"ten seconds", 50, 10, false},
        {"a second", 100, 1, false},
        {"a fixed minute", 10, 60, true},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w = {.rate = cases[i].rate, .burst_s = cases[i].window_s,
                          .fixed = cases[i].fixed, .style = WORLD_PER_BUCKET,
                          .latency_s = 0.2, .refusal_s = 0.02,
                          .retry_after = true};
        struct tr_pace_opts learn = {0};
        double used;

        drive(&w, learn, 7, 1200);
        used = world_used(&result, &w, 60, 1200);
        if (used < 0.98 || result.refusals > 5)
            fail_msg("%s: used %.4f, refused %d", cases[i].what, used,
                     (int)result.refusals);
    }
}

/* 14,400 a day are no ten a minute: they are there, and then they are gone. */
static void a_limit_of_a_day_is_a_stock(void **state)
{
    struct world w = {.rate = 1 / 6.0, .burst_s = 86400,
                      .style = WORLD_PER_BUCKET, .latency_s = 0.2,
                      .refusal_s = 0.02, .retry_after = true};
    struct tr_pace_opts learn = {0};
    (void)state;

    drive(&w, learn, 3, 1800);
    assert_true(sum_served(0, 1800) > 13500);
    /* The last of it is spread: it is not run into. */
    assert_int_equal(result.refusals, 0);
}

static void a_stated_window_needs_no_guess(void **state)
{
    struct tr_pace_opts opts = {0};
    struct tr_limits l = {{50, 49, -1, 1000}, NOTHING, NOTHING, NOTHING};
    struct tr_pace_news news = {.outcome = TR_OUT_OK, .limits = &l,
                                .sent_at = START, .tokens_true = -1,
                                .retry_after_ms = -1};
    (void)state;

    tr_pace_init(&pace, &opts, START);
    tr_pace_sent(&pace, 0, START);
    tr_pace_reply(&pace, &news, START);
    assert_in_range(tr_pace_rpm(&pace), 2980, 3000);
}

/* Of two servers behind one address one says the limit, or a refusal leaves it
 * out: it stands as it was said. */
static void a_limit_left_out_stands(void **state)
{
    static const int64_t left[] = {0, 300, 599};
    struct tr_pace_opts opts = {0};
    (void)state;

    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        struct tr_limits l = {{600, 599, 100, 0}, NOTHING, NOTHING, NOTHING};
        struct tr_pace_news news = {.outcome = TR_OUT_OK, .limits = &l,
                                    .sent_at = START, .tokens_true = -1,
                                    .retry_after_ms = -1};

        tr_pace_init(&pace, &opts, START);
        tr_pace_sent(&pace, 0, START);
        tr_pace_reply(&pace, &news, START);
        assert_in_range(tr_pace_rpm(&pace), 590, 600);
        l.requests = (struct tr_limit){-1, left[i], -1, 0};
        news.sent_at = START + TR_S;
        tr_pace_sent(&pace, 0, START + TR_S);
        tr_pace_reply(&pace, &news, START + TR_S);
        assert_in_range(tr_pace_rpm(&pace), 590, 600);
        assert_in_range(tr_pace_wait(&pace, START + TR_S), 0, TR_S);
    }
}

/* While the server is left alone the rate that is felt for grows to millions.
 * A moment's debt at that rate is no debt of hours at the one that somebody
 * states then. */
static void a_stated_limit_makes_no_long_debt(void **state)
{
    static const double told[] = {10, 0};
    static const bool follows[] = {true, false};
    (void)state;

    for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
        struct tr_pace_opts opts = {0};
        struct tr_limits said = {{600, 599, 100, 0}, NOTHING, NOTHING, NOTHING};
        int64_t now = START;

        tr_pace_init(&pace, &opts, now);
        for (int i = 0; i < 4; i++) {
            struct tr_pace_news news = {
                .outcome = i < 3 ? TR_OUT_THROTTLED : TR_OUT_OK,
                .status = i < 3 ? 429 : 200, .tokens_estimate = 500,
                .tokens_true = -1, .unit = 0.5,
                .limits = i < 3 || elsewhere ? &silent : &said,
                .retry_after_ms = i == 2 ? 55000 : -1};

            now += tr_pace_wait(&pace, now);
            news.sent_at = now;
            tr_pace_sent(&pace, 500, now);
            if (i == 3 && elsewhere)
                tr_pace_told(&pace, told, follows, now);
            now += TR_MS / 2;
            tr_pace_reply(&pace, &news, now);
        }
        assert_in_range(tr_pace_rpm(&pace), 590, 600);
        assert_in_range(tr_pace_wait(&pace, now), 0, 60 * TR_S);
    }
}

/* Input and output are limited apart (Anthropic): the tighter one paces. */
static void input_and_output_are_limited_apart(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 1000};
    struct tr_limits l = {NOTHING, NOTHING, {60000, 60000, 0, 60000},
                          {6000, 6000, 0, 60000}};
    int64_t now = START, sent = 0;
    (void)state;

    tr_pace_init(&pace, &opts, now);
    while (now < START + 120 * TR_S) {
        struct tr_pace_news news = {
            .outcome = TR_OUT_OK, .sent_at = now, .tokens_estimate = 1000,
            .tokens_true = 900, .in_true = 500, .out_true = 400,
            .limits = &l, .retry_after_ms = -1};
        int64_t wait = tr_pace_wait(&pace, now);

        now += wait;
        tr_pace_sent(&pace, 1000, now);
        news.sent_at = now;
        tr_pace_reply(&pace, &news, now);
        sent++;
    }
    /* 6,000 a minute of output at 400 each: 15 a minute; input alone: 120 */
    assert_in_range(sent, 29, 32);
}

/* ---- the user's ceiling ------------------------------- */

static void the_users_ceiling_stands_above_all(void **state)
{
    struct world w = {.rate = 100, .burst_s = 60, .style = WORLD_PER_MINUTE,
                      .latency_s = 0.1, .refusal_s = 0.02};
    struct tr_pace_opts opts = {.rpm = 300};
    (void)state;

    for (int i = 0; i < 2; i++) {
        drive(&w, opts, 3, 120);
        assert_in_range(sum_served(0, 120), 580, 602);
        assert_in_range(most_in_second(), 1, 7);
        w.style = WORLD_SILENT;
    }
    /* A ceiling above the limit: refusals show where the limit is. */
    w = (struct world){.rate = 4, .burst_s = 10, .style = WORLD_SILENT,
                       .latency_s = 0.1, .refusal_s = 0.02};
    drive(&w, opts, 3, 600);
    assert_true(world_used(&result, &w, 60, 600) > 0.99);
    assert_true(result.refusals < 30);
}

/* Headers state a limit just above the user's, and every second request is
 * refused all the same: that makes no room. */
static void refusals_beside_headers_forgive_nothing(void **state)
{
    struct tr_pace_opts opts = {.rpm = 834, .concurrency = 1};
    struct tr_limits l = {{840, 0, 72, 60000}, NOTHING, NOTHING, NOTHING};
    int64_t now = START;
    int sent = 0;
    (void)state;

    tr_pace_init(&pace, &opts, now);
    for (; now < START + 60 * TR_S; sent++) {
        struct tr_pace_news news = {
            .outcome = sent % 2 ? TR_OUT_THROTTLED : TR_OUT_OK,
            .status = sent % 2 ? 429 : 200, .tokens_estimate = 10,
            .tokens_true = 10, .limits = &l, .retry_after_ms = -1};

        now += tr_pace_wait(&pace, now);
        news.sent_at = now;
        tr_pace_sent(&pace, 10, now);
        now += 2 * TR_MS;
        tr_pace_reply(&pace, &news, now);
    }
    assert_in_range(sent, 700, 834 + 3);
}

/* One request at a time, a few a minute, and each of another size: that is no
 * limit of tokens. The limit is raised in the middle. */
static void a_slow_bucket_of_one_is_no_limit_of_tokens(void **state)
{
    (void)state;

    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct tr_rng rng = {seed};
        double level = 1, rate = 0.2;
        int64_t now = START, level_at = now;
        int served = 0;

        tr_pace_init(&pace, &(struct tr_pace_opts){.concurrency = 4}, now);
        while (now < START + 2400 * TR_S) {
            int64_t tokens = tr_rng_below(&rng, 12)
                                 ? 100 + (int64_t)tr_rng_below(&rng, 300) : 4000;
            struct tr_pace_news news = {
                .tokens_estimate = tokens, .tokens_true = tokens,
                .limits = &silent, .retry_after_ms = -1};
            int64_t wait = tr_pace_wait(&pace, now);

            now += wait ? wait : TR_MS;
            rate = now < START + 600 * TR_S ? 0.2 : 0.3;
            news.sent_at = now;
            tr_pace_sent(&pace, tokens, now);
            now += 3 * TR_MS;
            level = fmin(1, level + rate * (double)(now - level_at) / TR_S);
            level_at = now;
            news.outcome = level >= 1 ? TR_OUT_OK : TR_OUT_THROTTLED;
            news.status = level >= 1 ? 200 : 429;
            level -= level >= 1;
            served += news.outcome == TR_OUT_OK && now > START + 900 * TR_S;
            tr_pace_reply(&pace, &news, now);
        }
        assert_in_range(served, 1500 * 0.3 * 0.85, 1500 * 0.3 + 1);
    }
}

/* Small and large requests tell whether they or tokens are limited: so much of
 * either limit is used in the first five minutes, and after ten, by 20 runs. */
static void what_is_limited_is_told_from_sizes(void **state)
{
    static const struct {
        double rate, burst_s, tokens_to, first, later;
    } cases[] = {
        {1, 1, 0, 0.33, 0.8},         {5, 0.2, 0, 0.52, 0.62},
        {1000, 10, 8000, 0.84, 0.92}, {333, 27, 8000, 0.85, 0.92},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct world w = {.rate = cases[i].rate,
                                .burst_s = cases[i].burst_s,
                                .style = WORLD_SILENT, .latency_s = 0.5,
                                .refusal_s = 0.5, .mixed = true,
                                .tokens_to = cases[i].tokens_to};
        double first = 0, later = 0;

        for (uint64_t seed = 1; seed <= 20; seed++) {
            drive(&w, (struct tr_pace_opts){.concurrency = 8}, seed, 1200);
            first += world_used(&result, &w, 0, 300) / 20;
            later += world_used(&result, &w, 600, 1200) / 20;
        }
        if (first < cases[i].first || later < cases[i].later)
            fail_msg("%g/s: %.3f, then %.3f used", w.rate, first, later);
    }
}

/* ---- one decision each ------------------------------- */

/* A window of an hour that is only estimated does not keep a closed lane's
 * probe; the user's own limit and the server's word do. */
static void a_probe_waits_for_no_estimate(void **state)
{
    struct tr_pace_opts opts = {.rpm = 60};
    (void)state;

    tr_pace_init(&pace, &opts, START);
    pace.buckets[TR_PACE_TOKENS].estimate.hold_until = START + 3600 * TR_S;
    assert_int_equal(tr_pace_wait(&pace, START), 3600 * TR_S);
    assert_int_equal(tr_pace_probe_wait(&pace, START), 0);
    for (int i = 0; i < 5; i++)
        tr_pace_sent(&pace, 10, START);
    pace.in_flight = 0;
    assert_in_range(tr_pace_probe_wait(&pace, START), 3 * TR_S, 6 * TR_S);
    pace.hold_until = START + 90 * TR_S;
    assert_int_equal(tr_pace_probe_wait(&pace, START), 90 * TR_S);
}

static void reply(struct tr_pace *p, enum tr_outcome o, int64_t sent_at,
                  int64_t retry_after_ms, int64_t now)
{
    struct tr_pace_news news = {.outcome = o, .sent_at = sent_at,
                                .tokens_true = -1, .limits = &silent,
                                .retry_after_ms = retry_after_ms, .unit = 0.5};

    tr_pace_reply(p, &news, now);
}

static int fill(struct tr_pace *p, int64_t now)
{
    int n = 0;

    while (n < 10000 && tr_pace_wait(p, now) == 0) {
        tr_pace_sent(p, 0, now);
        n++;
    }
    return n;
}

static void explicit_concurrency_is_start_and_ceiling(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 64};
    struct tr_pace p;
    (void)state;

    tr_pace_init(&p, &opts, START);
    assert_int_equal(fill(&p, START), 64);
    for (int i = 0; i < 64; i++)
        reply(&p, TR_OUT_OK, START, -1, START + TR_S);
    assert_int_equal(fill(&p, START + TR_S), 64);
    opts.concurrency_max = 8; /* the lane's own */
    tr_pace_init(&p, &opts, START);
    assert_int_equal(fill(&p, START), 8);
    opts = (struct tr_pace_opts){.concurrency_max = 2};
    tr_pace_init(&p, &opts, START);
    assert_int_equal(fill(&p, START), 2);
}

static void retry_after_holds_the_whole_lane(void **state)
{
    static const struct {
        int64_t ms, at_least_ms, at_most_ms;
    } cases[] = {
        {0, 0, 3000}, /* without a wish of the server's, our own gap */
        {1, 1, 3000},
        {1500, 1500, 3000},
        {60000, 60000, 66060},
        {INT64_MAX, 24 * 3600 * 1000, 27 * 3600 * 1000}, /* absurd: clamped */
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_pace_opts opts = {0};
        struct tr_pace p;
        int64_t wait;

        tr_pace_init(&p, &opts, START);
        tr_pace_sent(&p, 0, START);
        tr_pace_sent(&p, 0, START);
        reply(&p, TR_OUT_THROTTLED, START, cases[i].ms, START);
        wait = tr_pace_wait(&p, START) / TR_MS;
        assert_in_range(wait, cases[i].at_least_ms, cases[i].at_most_ms);
        /* A success of a request already out does not lift it. */
        reply(&p, TR_OUT_OK, START, -1, START);
        assert_true(tr_pace_wait(&p, START) / TR_MS >= wait);
    }
}

/* What the server itself asked for, which others have to know of. */
static void a_wish_is_told_from_other_holds(void **state)
{
    static const struct {
        enum tr_outcome outcome;
        int64_t retry_after_ms;
        bool wishes;
    } cases[] = {
        {TR_OUT_THROTTLED, 90000, true},
        {TR_OUT_TRANSIENT, 90000, true},
        {TR_OUT_EXHAUSTED, 90000, true},
        {TR_OUT_THROTTLED, -1,    false}, /* our own gap */
        {TR_OUT_OK,        90000, false},
        {TR_OUT_REFUSED,   90000, false}, /* a text, and for good */
        {TR_OUT_BAD_REQUEST, 90000, false},
        {TR_OUT_ADAPT,     90000, false}, /* asked again at once */
    };
    const struct tr_pace_opts opts = {0};
    struct tr_pace p;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tr_pace_init(&p, &opts, START);
        tr_pace_sent(&p, 0, START);
        reply(&p, cases[i].outcome, START, cases[i].retry_after_ms, START);
        if (cases[i].wishes)
            assert_in_range(p.wished_until, START + 90 * TR_S,
                            START + 100 * TR_S);
        else
            assert_true(p.wished_until <= START);
        assert_int_equal(tr_pace_wait(&p, START) >= 90 * TR_S,
                         cases[i].wishes);
    }
    /* Said to another process with the same key. */
    tr_pace_init(&p, &opts, START);
    tr_pace_refused_elsewhere(&p, START, START + 90 * TR_S, START, START);
    assert_int_equal(p.wished_until, START + 90 * TR_S);
    tr_pace_init(&p, &opts, START);
    tr_pace_refused_elsewhere(&p, START, 0, START, START);
    assert_true(p.wished_until <= START);
}

/* Ten requests, one a second, in a window that has just begun; then the limit
 * is used up. Whatever the last one left owing, the reset ends it. */
static void a_limit_used_up_for_long_is_a_wish(void **state)
{
    static const struct {
        const char *what;
        int64_t limit, window_ms; /* that the headers state; 0: they do not */
        int64_t reset_ms;         /* of the first reply */
        bool bucket;              /* it stays, else it comes nearer */
        int64_t least_s, most_s;  /* of the wish; 0: there is none */
    } cases[] = {
        {"an hour's", 120, 0, 3600000, false, 3588, 3592},
        {"a day's", 50, 0, 86400000, false, 86388, 86392},
        {"the rest of an hour", 120, 0, 600000, false, 588, 592},
        {"a minute's", 120, 0, 60000, false, 0, 0},
        {"a day's that does so every six seconds", 14400, 86400000, 86400000,
         true, 0, 0},
    };
    const struct tr_pace_opts opts = {.concurrency = 1};
    struct tr_pace p;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t now = START, wish;

        tr_pace_init(&p, &opts, START);
        for (int k = 0; k < 11; k++, now += TR_S) {
            struct tr_limits l = {
                {cases[i].limit, k < 10 ? cases[i].limit - k - 1 : 0,
                 cases[i].reset_ms - (cases[i].bucket ? 0 : k * 1000),
                 cases[i].window_ms}, NOTHING, NOTHING, NOTHING};
            struct tr_pace_news news = {.outcome = TR_OUT_OK, .limits = &l,
                                        .sent_at = now, .tokens_true = -1,
                                        .retry_after_ms = -1};

            tr_pace_sent(&p, 0, now);
            tr_pace_reply(&p, &news, now);
            assert_true(k == 10 || p.wished_until <= now);
        }
        now -= TR_S;
        wish = p.wished_until > now ? (p.wished_until - now) / TR_S : 0;
        if (wish < cases[i].least_s || wish > cases[i].most_s)
            fail_msg("%s: wished for %lld s", cases[i].what, (long long)wish);
        assert_int_equal(p.used_up_until, p.wished_until);
        if (wish) /* all of it is the limit's, and no debt is left after it */
            assert_int_equal(tr_pace_wait(&p, p.wished_until), 0);
    }
}

/* The last of a window that ends as a whole is no more precious than the
 * first. */
static void the_last_of_a_long_window_is_not_spread(void **state)
{
    const struct tr_pace_opts opts = {.concurrency = 1};
    int64_t now = START;
    struct tr_pace p;
    (void)state;

    tr_pace_init(&p, &opts, START);
    for (int k = 0; k < 200; k++) {
        int64_t passed_ms = (now - START) / TR_MS;
        struct tr_limits l = {{200, 199 - k, 86400000 - passed_ms, 0}, NOTHING,
                              NOTHING, NOTHING};
        struct tr_pace_news news = {.outcome = TR_OUT_OK, .limits = &l,
                                    .sent_at = now, .tokens_true = -1,
                                    .retry_after_ms = -1};

        tr_pace_sent(&p, 0, now);
        tr_pace_reply(&p, &news, now);
        if (k < 199)
            now += tr_pace_wait(&p, now) + TR_MS;
    }
    assert_in_range(now, START, START + 60 * TR_S);
}

static void tokens_are_paced_and_settled(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 100, .tpm = 60000}; /* 1/ms */
    struct tr_pace_news news = {.outcome = TR_OUT_OK, .sent_at = START,
                                .tokens_estimate = 2000, .tokens_true = 500,
                                .limits = &silent, .retry_after_ms = -1};
    struct tr_pace p;
    int64_t wait;
    (void)state;

    tr_pace_init(&p, &opts, START);
    tr_pace_sent(&p, 2000, START);
    wait = tr_pace_wait(&p, START);
    assert_in_range(wait, 1890 * TR_MS, 2000 * TR_MS);
    tr_pace_reply(&p, &news, START); /* it was a quarter of that */
    assert_in_range(tr_pace_wait(&p, START), 390 * TR_MS, 500 * TR_MS);
    news.tokens_true = 4000;
    news.sent_at = START + 2 * TR_S;
    tr_pace_sent(&p, 2000, START + 2 * TR_S);
    tr_pace_reply(&p, &news, START + 2 * TR_S); /* twice that */
    assert_in_range(tr_pace_wait(&p, START + 2 * TR_S), 3890 * TR_MS,
                    4000 * TR_MS);
    /* Larger than a whole minute: leaves, and is paid off afterwards. */
    tr_pace_init(&p, &opts, START);
    assert_int_equal(tr_pace_wait(&p, START), 0);
    tr_pace_sent(&p, 1000000, START);
    assert_in_range(tr_pace_wait(&p, START), 999 * TR_S, 1000 * TR_S);
}

static void what_never_left_costs_no_pace(void **state)
{
    struct tr_pace_opts opts = {.rpm = 60};
    struct tr_pace p;
    (void)state;

    tr_pace_init(&p, &opts, START);
    fill(&p, START);
    assert_true(tr_pace_wait(&p, START) > 0);
    reply(&p, TR_OUT_UNREACHED, START, -1, START);
    assert_int_equal(tr_pace_wait(&p, START), 0);
}

static void nonsense_does_not_stop_the_lane(void **state)
{
    static const struct tr_limit limits[] = {
        {0, 0, 0, 0}, {-5, 3, 10, 0}, {10, 20, 0, 0}, {10, -1, -1, 0},
        {-1, 5, 1000, 0}, {-1, INT64_MAX, -1, 0},
        {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX}, {1, 0, INT64_MAX, 0},
        {INT64_MAX, 0, 1, 1}, {1, 1, 0, 0},
    };
    struct tr_pace_opts opts = {.rpm = 600};
    (void)state;

    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct tr_pace p;
        int64_t now = START;

        tr_pace_init(&p, &opts, now);
        for (int k = 0; k < 20; k++) {
            struct tr_limits l = {limits[i], limits[i], limits[i],
                                  limits[i]};
            struct tr_pace_news news = {
                .outcome = TR_OUT_OK, .sent_at = now, .limits = &l,
                .tokens_estimate = INT64_MAX, .tokens_true = INT64_MAX,
                .retry_after_ms = -1};
            int64_t wait = tr_pace_wait(&p, now);

            assert_true(wait != TR_PACE_FULL);
            assert_in_range(wait, 0, 3 * 24 * 3600 * TR_S);
            now += wait;
            news.sent_at = now;
            tr_pace_sent(&p, k & 1 ? INT64_MAX : 0, now);
            tr_pace_reply(&p, &news, now);
        }
    }
}

static void a_clock_that_steps_back_costs_nothing(void **state)
{
    struct tr_pace_opts opts = {.rpm = 60, .concurrency = 4};
    struct tr_pace p;
    int64_t far = START + 3600 * TR_S;
    (void)state;

    tr_pace_init(&p, &opts, far);
    fill(&p, far);
    reply(&p, TR_OUT_THROTTLED, far, 2000, far);
    reply(&p, TR_OUT_OK, far, -1, START); /* an hour back */
    assert_in_range(tr_pace_wait(&p, START), 1, 4 * TR_S);
    /* and with nothing in flight */
    tr_pace_init(&p, &opts, far);
    assert_int_equal(tr_pace_wait(&p, START), 0);
    tr_pace_sent(&p, 0, START);
    assert_in_range(tr_pace_wait(&p, START), 0, 2 * TR_S);
    /* the end of time */
    tr_pace_init(&p, &opts, INT64_MAX - 1);
    tr_pace_sent(&p, 0, INT64_MAX - 1);
    reply(&p, TR_OUT_THROTTLED, INT64_MAX - 1, INT64_MAX, INT64_MAX - 1);
    assert_true(tr_pace_wait(&p, INT64_MAX - 1) >= 0);
}

static void limits_that_change_are_followed(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 1};
    struct tr_pace p;
    struct tr_limits l = {{600, 600, 0, 0}, NOTHING, NOTHING, NOTHING};
    struct tr_pace_news news = {.outcome = TR_OUT_OK, .limits = &l,
                                .tokens_true = -1, .retry_after_ms = -1};
    (void)state;

    tr_pace_init(&p, &opts, START);
    assert_true(tr_pace_rpm(&p) == 0);
    tr_pace_sent(&p, 0, START);
    news.sent_at = START;
    tr_pace_reply(&p, &news, START);
    assert_in_range(tr_pace_rpm(&p), 595, 600);
    l.requests.limit = l.requests.remaining = 60;
    tr_pace_sent(&p, 0, START + TR_S);
    news.sent_at = START + TR_S;
    tr_pace_reply(&p, &news, START + TR_S);
    assert_in_range(tr_pace_rpm(&p), 59, 60);
    /* Old news that was overtaken is no news. */
    l.requests.limit = l.requests.remaining = 600;
    tr_pace_sent(&p, 0, START + 3 * TR_S);
    news.sent_at = START;
    tr_pace_reply(&p, &news, START + 3 * TR_S);
    assert_in_range(tr_pace_rpm(&p), 59, 60);
    /* Others draw on the same limit: slower, but not by more than half. */
    l.requests = (struct tr_limit){60, 0, 60000, 0};
    tr_pace_sent(&p, 0, START + 6 * TR_S);
    news.sent_at = START + 6 * TR_S;
    tr_pace_reply(&p, &news, START + 6 * TR_S);
    assert_in_range(tr_pace_rpm(&p), 29, 31);
}

/* ---- refusals that are no rate limit ------------------------------- */

static void slow_down_goes_back_holds_and_ramps(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 100000, .rpm = 600};
    struct tr_pace_news news = {.outcome = TR_OUT_THROTTLED, .status = 503,
                                .slow_down = true, .tokens_true = -1,
                                .limits = &silent, .retry_after_ms = 0};
    int64_t now = START;
    double before, held;
    (void)state;

    tr_pace_init(&pace, &opts, now);
    for (int minute = 0; minute < 4; minute++) /* 60, 60, 60, then 600 */
        for (int i = 0; i < (minute < 3 ? 60 : 600); i++) {
            now += minute < 3 ? TR_S : TR_S / 10;
            tr_pace_sent(&pace, 0, now);
            reply(&pace, TR_OUT_OK, now, -1, now);
        }
    before = tr_pace_rpm(&pace);
    assert_in_range(before, 595, 600);
    tr_pace_sent(&pace, 0, now);
    news.sent_at = now;
    tr_pace_reply(&pace, &news, now);
    held = tr_pace_rpm(&pace);
    assert_in_range(held, 50, 65);
    /* An echo does not go back further. */
    tr_pace_sent(&pace, 0, now);
    tr_pace_reply(&pace, &news, now + TR_S);
    assert_true(tr_pace_rpm(&pace) == held);
    /* A quarter of an hour later it is the same, then a tenth a minute. */
    now += 14 * 60 * TR_S;
    reply(&pace, TR_OUT_OK, now, -1, now);
    assert_true(tr_pace_rpm(&pace) == held);
    now += 11 * 60 * TR_S;
    reply(&pace, TR_OUT_OK, now, -1, now);
    assert_in_range(tr_pace_rpm(&pace), 2 * held, 3 * held);
    now += 80 * 60 * TR_S;
    reply(&pace, TR_OUT_OK, now, -1, now);
    reply(&pace, TR_OUT_OK, now, -1, now + TR_MS);
    assert_in_range(tr_pace_rpm(&pace), 595, 600);
}

/* A run has just begun: half of next to nothing would be a crawl for a quarter
 * of an hour. With answers after 0.5 s, four under way are 8/s. */
static void slow_down_at_the_start_is_no_crawl(void **state)
{
    struct tr_pace_opts opts = {0};
    struct tr_pace_news news = {.outcome = TR_OUT_THROTTLED, .status = 503,
                                .slow_down = true, .tokens_true = -1,
                                .limits = &silent, .retry_after_ms = 0};
    int64_t now = START;
    (void)state;

    tr_pace_init(&pace, &opts, now);
    for (int i = 0; i < 3; i++) {
        int64_t sent_at = now;

        tr_pace_sent(&pace, 0, now);
        now += TR_S / 2;
        reply(&pace, TR_OUT_OK, sent_at, -1, now);
    }
    for (int i = 0; i < 5; i++) { /* whenever it comes again */
        tr_pace_sent(&pace, 0, now);
        news.sent_at = now;
        now += 70 * TR_S;
        tr_pace_reply(&pace, &news, now);
        assert_in_range(tr_pace_rpm(&pace), 8 * 60 - 1, 8 * 60 + 1);
    }
}

/* One that hangs keeps no place, but the window holds on top of those that
 * hang, and the user's number in any case. */
static void what_hangs_keeps_no_place(void **state)
{
    static const struct { int user, stuck, may; } cases[] = {
        {0, 0, 4}, {0, 1, 5}, {0, 4, 8}, {0, 8, 8}, {3, 3, 3}};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_pace_opts opts = {.concurrency = cases[i].user};
        int64_t now = START;
        int sent = 0;

        tr_pace_init(&pace, &opts, now);
        for (; sent < 100; sent++, now += 10 * TR_S) {
            if (sent >= cases[i].stuck || sent >= 4)
                tr_pace_stuck(&pace, cases[i].stuck);
            if (tr_pace_wait(&pace, now) == TR_PACE_FULL)
                break;
            tr_pace_sent(&pace, 0, now);
        }
        if (sent != cases[i].may)
            fail_msg("case %zu: %d", i, sent);
    }
}

/* 503 and 529 say nothing about a rate: fewer at a time, and a pause. */
static void overload_halves_what_is_under_way(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 64};
    struct tr_pace_news news = {.outcome = TR_OUT_THROTTLED, .status = 529,
                                .tokens_true = -1, .limits = &silent,
                                .retry_after_ms = -1, .unit = 0.5,
                                .sent_at = START};
    (void)state;

    tr_pace_init(&pace, &opts, START);
    fill(&pace, START);
    tr_pace_reply(&pace, &news, START + TR_S);
    assert_int_equal((int)pace.window, 32);
    assert_true(tr_pace_wait(&pace, START + TR_S) > 0);
    tr_pace_reply(&pace, &news, START + TR_S + TR_MS); /* an echo */
    assert_int_equal((int)pace.window, 32);
    assert_true(tr_pace_rpm(&pace) == 0);
}

/* A second's answer each, for so long. */
static void answers(const struct tr_limits *l, int64_t from, int seconds)
{
    struct tr_pace_news news = {.outcome = TR_OUT_OK, .status = 200,
                                .tokens_true = -1, .limits = l,
                                .retry_after_ms = -1, .unit = 0.5};

    for (int i = 0; i < seconds; i++) {
        news.sent_at = from + i * TR_S;
        tr_pace_sent(&pace, 0, news.sent_at);
        tr_pace_reply(&pace, &news, news.sent_at);
    }
}

/* Whatever cut the trust in headers, a minute after the last time they are
 * believed again; what one cut took comes back as slowly as ever, or a hidden
 * limit would refuse more. */
static void headers_are_believed_again_within_a_minute(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 8};
    const struct tr_limits l = {{600, 600, 0, 0}, NOTHING, NOTHING, NOTHING};
    (void)state;

    tr_pace_init(&pace, &opts, START);
    answers(&l, START, 10);
    pace.trust = 0.1;
    pace.cut_at = START + 9 * TR_S;
    answers(&l, START + 10 * TR_S, 30);
    assert_in_range(tr_pace_rpm(&pace), 145, 155);
    answers(&l, START + 40 * TR_S, 31);
    assert_in_range(tr_pace_rpm(&pace), 570, 600);
}

/* An overload that is one: so many at a time, and whoever comes on top gets 503.
 * Few are refused. Nobody takes it for refusals that come anyway. */
static void an_overload_that_ends_with_fewer_is_one(void **state)
{
    static const int places[] = {8, 32, 128};
    struct tr_pace_opts learn = {0};
    (void)state;

    for (size_t i = 0; i < 3; i++) {
        struct world w = {.rate = 1e9, .burst_s = 1, .style = WORLD_SILENT,
                          .latency_s = 0.5, .refusal_s = 0.02,
                          .concurrent = places[i], .overloaded = true};

        drive(&w, learn, 3, 600);
        if ((double)result.refusals > 0.06 * (double)result.requests)
            fail_msg("%d places: %d of %d refused", places[i],
                     (int)result.refusals, (int)result.requests);
    }
}

/* After a share of 503 is known as usual, an outage still slows down: to less
 * than one a second, where 59 a second were served. */
static void an_outage_among_usual_refusals_is_felt(void **state)
{
    struct tr_pace_opts learn = {.room = 512};
    struct world w = {.rate = 1e9, .burst_s = 1, .style = WORLD_SILENT,
                      .latency_s = 0.5, .refusal_s = 0.02, .servers = 32,
                      .noise = 0.07, .overloaded = true};
    struct world_client c = world_pace(&pace);
    int64_t sent = 0, now;
    (void)state;

    tr_pace_init(&pace, &learn, START);
    world_run(&result, &w, &c, 3, 300);
    assert_true(pace.usual.known);
    assert_true(pace.window > 16);
    pace.in_flight = 0; /* those under way are answered */
    for (now = START + 301 * TR_S; now < START + 361 * TR_S; now += TR_MS)
        if (tr_pace_wait(&pace, now) == 0) {
            struct tr_pace_news news = {
                .outcome = TR_OUT_THROTTLED, .status = 503, .sent_at = now,
                .tokens_true = -1, .limits = &silent, .retry_after_ms = -1,
                .unit = 0.5};

            tr_pace_sent(&pace, 0, now);
            tr_pace_reply(&pace, &news, now);
            sent++;
        }
    if (sent > 60)
        fail_msg("%d sent in a minute", (int)sent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_limits_are_used_and_not_passed),
        cmocka_unit_test(a_level_alone_is_enough),
        cmocka_unit_test(the_window_of_a_limit_is_found),
        cmocka_unit_test(a_limit_of_a_day_is_a_stock),
        cmocka_unit_test(a_stated_window_needs_no_guess),
        cmocka_unit_test(a_limit_left_out_stands),
        cmocka_unit_test(a_stated_limit_makes_no_long_debt),
        cmocka_unit_test(input_and_output_are_limited_apart),
        cmocka_unit_test(the_users_ceiling_stands_above_all),
        cmocka_unit_test(refusals_beside_headers_forgive_nothing),
        cmocka_unit_test(a_probe_waits_for_no_estimate),
        cmocka_unit_test(a_slow_bucket_of_one_is_no_limit_of_tokens),
        cmocka_unit_test(what_is_limited_is_told_from_sizes),
        cmocka_unit_test(explicit_concurrency_is_start_and_ceiling),
        cmocka_unit_test(retry_after_holds_the_whole_lane),
        cmocka_unit_test(a_wish_is_told_from_other_holds),
        cmocka_unit_test(a_limit_used_up_for_long_is_a_wish),
        cmocka_unit_test(the_last_of_a_long_window_is_not_spread),
        cmocka_unit_test(tokens_are_paced_and_settled),
        cmocka_unit_test(what_never_left_costs_no_pace),
        cmocka_unit_test(nonsense_does_not_stop_the_lane),
        cmocka_unit_test(a_clock_that_steps_back_costs_nothing),
        cmocka_unit_test(limits_that_change_are_followed),
        cmocka_unit_test(slow_down_goes_back_holds_and_ramps),
        cmocka_unit_test(slow_down_at_the_start_is_no_crawl),
        cmocka_unit_test(what_hangs_keeps_no_place),
        cmocka_unit_test(overload_halves_what_is_under_way),
        cmocka_unit_test(headers_are_believed_again_within_a_minute),
        cmocka_unit_test(an_overload_that_ends_with_fewer_is_one),
        cmocka_unit_test(an_outage_among_usual_refusals_is_felt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
