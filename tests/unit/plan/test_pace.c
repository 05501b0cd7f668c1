/* test_pace.c - the pace against simulated providers: it uses what there is
 * and is hardly ever refused.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/rng.h"
#include "plan/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define START (5 * TR_S) /* clocks start anywhere */

static const struct tr_limits silent = {{-1, -1, -1}, {-1, -1, -1}};

/* ---- a provider ------------------------------- */

enum style {
    PER_MINUTE, /* limit per minute, remaining of a bucket of any size */
    PER_BUCKET, /* limit is the size of the bucket, reset until it is full */
    HIDDEN,     /* per minute; a smaller bucket does not show */
    FIXED,      /* a window that ends as a whole */
    NO_HEADERS
};

struct world {
    double per_min, burst_s; /* burst_s: size of the bucket or the window */
    enum style style;
    double latency_s;        /* median */
    bool retry_after;        /* told with a refusal */
    double tokens;           /* > 0: limit these per minute, each costs 100 */
    /* state */
    double level;
    int64_t level_at;
    int64_t window_from;
};

struct flight {
    int64_t sent_at, back_at;
    struct tr_limits limits;
    bool refused;
    int64_t wait_ms;
};

#define FLIGHTS 4096

struct outcome {
    int64_t served, refused, ended_at;
    int64_t most_in_second; /* requests sent in one second */
};

static void admit(struct world *w, struct flight *f, int64_t at)
{
    double rate = w->per_min / 60, size = rate * w->burst_s, cost = 1;
    struct tr_limit said = {-1, -1, -1};

    if (w->style == FIXED) {
        while (at - w->window_from >= (int64_t)(w->burst_s * TR_S)) {
            w->window_from += (int64_t)(w->burst_s * TR_S);
            w->level = size;
        }
    } else {
        w->level += rate * (double)(at - w->level_at) / TR_S;
        if (w->level > size)
            w->level = size;
    }
    w->level_at = at;
    f->refused = w->level < cost;
    if (!f->refused)
        w->level -= cost;
    else if (w->retry_after)
        f->wait_ms = (int64_t)((cost - w->level) / rate * 1000) + 1;
    said.limit = (int64_t)(w->style == PER_MINUTE || w->style == HIDDEN
                               ? w->per_min : size);
    said.remaining =
        (int64_t)(w->style == HIDDEN ? w->per_min - size + w->level : w->level);
    said.reset_ms =
        w->style == FIXED
            ? (w->window_from + (int64_t)(w->burst_s * TR_S) - at) / TR_MS
            : (int64_t)((size - w->level) / rate * 1000);
    if (w->style != NO_HEADERS)
        f->limits.requests = said;
}

/* Sends as fast as the pace lets until `until`. */
static struct outcome drive(struct world w, const struct tr_pace_opts *opts,
                            uint64_t seed, int64_t length)
{
    static struct flight flights[FLIGHTS];
    struct tr_pace p;
    struct tr_rng rng = {seed};
    struct outcome out = {0};
    int64_t now = START, second = 0, in_second = 0;
    int n = 0;

    w.level = w.per_min / 60 * w.burst_s;
    w.level_at = w.window_from = now;
    tr_pace_init(&p, opts, now);
    while (now < START + length) {
        int64_t wait = tr_pace_wait(&p, 100, now), next = INT64_MAX;
        int first = -1;

        if (wait == 0) {
            struct flight *f = &flights[n++];
            /* a quarter to four times the median, short ones more often */
            double u = tr_rng_unit(&rng) * 2 - 1;
            double slow = u < 0 ? 1 + 0.75 * u : 1 + 3 * u * u * u;

            assert_true(n < FLIGHTS);
            *f = (struct flight){.sent_at = now, .wait_ms = -1,
                                 .limits = silent};
            admit(&w, f, now + (int64_t)(tr_rng_unit(&rng) * 2 * TR_MS));
            f->back_at = now + (int64_t)(w.latency_s * slow * TR_S);
            if (f->refused)
                f->back_at = now + 5 * TR_MS;
            tr_pace_sent(&p, 100, now);
            in_second = now / TR_S == second ? in_second + 1 : 1;
            second = now / TR_S;
            if (in_second > out.most_in_second)
                out.most_in_second = in_second;
            continue;
        }
        for (int i = 0; i < n; i++)
            if (flights[i].back_at < next)
                next = flights[first = i].back_at;
        if (wait != TR_PACE_FULL && now + wait < next) {
            now += wait;
            continue;
        }
        assert_true(first >= 0); /* FULL with nothing in flight: stuck */
        now = next;
        {
            struct flight f = flights[first];
            struct tr_pace_news news = {
                .outcome = f.refused ? TR_OUT_THROTTLED : TR_OUT_OK,
                .sent_at = f.sent_at, .tokens_estimate = 100,
                .tokens_true = f.refused ? -1 : 90, .limits = &f.limits,
                .retry_after_ms = f.wait_ms, .unit = tr_rng_unit(&rng),
            };

            flights[first] = flights[--n];
            tr_pace_reply(&p, &news, now);
            out.served += !f.refused;
            out.refused += f.refused;
        }
    }
    assert_int_equal(p.in_flight, n);
    out.ended_at = now;
    return out;
}

static void known_limits_are_used_and_not_passed(void **state)
{
    static const double rates[] = {600, 6000}, bursts[] = {1, 60},
                        latencies[] = {0.020, 0.2, 2};
    static const enum style styles[] = {PER_MINUTE, PER_BUCKET, HIDDEN};
    struct tr_pace_opts learn = {0};
    int failed = 0;
    (void)state;

    for (size_t r = 0; r < 2; r++)
    for (size_t b = 0; b < 2; b++)
    for (size_t l = 0; l < 3; l++)
    for (size_t s = 0; s < 3; s++)
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world w = {.per_min = rates[r], .burst_s = bursts[b],
                          .style = styles[s], .latency_s = latencies[l],
                          .retry_after = seed & 1};
        int64_t length = 180 * TR_S;
        struct outcome o = drive(w, &learn, seed, length);
        /* Six round trips of up to four times the median learn. */
        double ideal = rates[r] / 60 * (180 - 6 * latencies[l] - 3);

        if ((double)o.served < 0.97 * ideal || o.refused > 5) {
            print_error("%g/min burst %g s latency %g s style %d seed %d: "
                        "served %lld of %.0f, refused %lld\n", rates[r],
                        bursts[b], latencies[l], (int)styles[s], (int)seed,
                        (long long)o.served, ideal, (long long)o.refused);
            failed++;
        }
        /* No burst of a full minute at the start. */
        if ((double)o.most_in_second > rates[r] / 60 * 1.3 + 4) {
            print_error("%lld in one second at %g/min\n",
                        (long long)o.most_in_second, rates[r]);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
}

static void the_window_of_a_limit_is_found(void **state)
{
    static const struct {
        const char *what;
        struct world w;
        double per_min;
    } cases[] = {
        {"a day, 14,400", {1e1, 86400, PER_BUCKET, 0.2, true, 0, 0, 0, 0}, 10},
        {"an hour", {60, 3600, PER_BUCKET, 0.2, true, 0, 0, 0, 0}, 60},
        {"a minute", {600, 60, PER_BUCKET, 0.2, true, 0, 0, 0, 0}, 600},
        {"a second", {6000, 1, PER_BUCKET, 0.2, true, 0, 0, 0, 0}, 6000},
        {"a fixed minute", {600, 60, FIXED, 0.2, true, 0, 0, 0, 0}, 600},
        {"a fixed hour", {60, 3600, FIXED, 0.2, true, 0, 0, 0, 0}, 60},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_pace_opts learn = {0};
        int64_t minutes = 20;
        struct outcome o = drive(cases[i].w, &learn, 7, minutes * 60 * TR_S);
        double ideal = cases[i].per_min * (double)minutes;
        /* A large window may be served faster until its kind is clear. */
        if ((double)o.served < 0.95 * ideal - 4 ||
            (double)o.served > 1.05 * ideal + 100 || o.refused > 5)
            fail_msg("%s: served %lld of %.0f, refused %lld", cases[i].what,
                     (long long)o.served, ideal, (long long)o.refused);
    }
}

static void the_users_ceiling_stands_above_all(void **state)
{
    struct world w = {.per_min = 6000, .burst_s = 60, .style = PER_MINUTE,
                      .latency_s = 0.1};
    struct tr_pace_opts opts = {.rpm = 300};
    struct outcome o;
    (void)state;

    o = drive(w, &opts, 3, 120 * TR_S);
    assert_in_range(o.served, 580, 602);
    assert_in_range(o.most_in_second, 1, 7);
    w.style = NO_HEADERS;
    o = drive(w, &opts, 3, 120 * TR_S);
    assert_in_range(o.served, 580, 602);
}

static void without_headers_refusals_teach(void **state)
{
    /* 50/s, burst 1 s, nothing told: sawtooth around the limit. */
    struct world w = {.per_min = 3000, .burst_s = 1, .style = NO_HEADERS,
                      .latency_s = 0.5, .retry_after = true};
    struct tr_pace_opts learn = {0};
    struct outcome o = drive(w, &learn, 5, 300 * TR_S);
    (void)state;

    assert_true(o.served > 50 * 300 * 60 / 100);
    assert_true(o.refused * 50 < o.served);
}

/* ---- one decision each ------------------------------- */

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

    while (n < 10000 && tr_pace_wait(p, 0, now) == 0) {
        tr_pace_sent(p, 0, now);
        n++;
    }
    return n;
}

static void the_window_grows_by_one_a_round_trip_and_halves(void **state)
{
    struct tr_pace_opts opts = {0};
    struct tr_pace p;
    int64_t now = START;
    (void)state;

    tr_pace_init(&p, &opts, now);
    assert_int_equal(fill(&p, now), 4);
    assert_true(tr_pace_wait(&p, 0, now) == TR_PACE_FULL);
    for (int round = 0; round < 4; round++) {
        int n = p.in_flight;

        for (int i = 0; i < n; i++) {
            reply(&p, TR_OUT_OK, now, -1, now + TR_S);
            fill(&p, now + TR_S);
        }
        now += TR_S;
    }
    assert_in_range(p.in_flight, 7, 8);

    /* Eight echoes of one refusal halve once. */
    int before = (int)p.window, n = p.in_flight;

    for (int i = 0; i < n; i++)
        reply(&p, TR_OUT_THROTTLED, now, 0, now + TR_S);
    assert_in_range((int)p.window, before / 2, before / 2 + 1);
    /* One that left later halves again. */
    tr_pace_sent(&p, 0, now + 2 * TR_S);
    reply(&p, TR_OUT_THROTTLED, now + 2 * TR_S, 0, now + 3 * TR_S);
    assert_in_range((int)p.window, before / 4, before / 4 + 1);
    /* An unused window does not grow. */
    double window = p.window;

    for (int i = 0; i < 20; i++) {
        now += 10 * TR_S;
        tr_pace_sent(&p, 0, now);
        if (p.in_flight < (int)p.window)
            reply(&p, TR_OUT_OK, now, -1, now + TR_S);
        else
            break;
    }
    assert_true(p.window <= window + 1);
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
        {0, 0, 60},
        {1, 1, 60},
        {1500, 1500, 1500 * 11 / 10 + 60},
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
        wait = tr_pace_wait(&p, 0, START) / TR_MS;
        assert_in_range(wait, cases[i].at_least_ms, cases[i].at_most_ms);
        /* A success of a request already out does not lift it. */
        reply(&p, TR_OUT_OK, START, -1, START);
        assert_true(tr_pace_wait(&p, 0, START) / TR_MS >= wait);
    }
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
    wait = tr_pace_wait(&p, 2000, START);
    assert_in_range(wait, 1890 * TR_MS, 2000 * TR_MS);
    tr_pace_reply(&p, &news, START); /* it was a quarter of that */
    assert_in_range(tr_pace_wait(&p, 2000, START), 390 * TR_MS, 500 * TR_MS);
    news.tokens_true = 4000;
    news.sent_at = START + 2 * TR_S;
    tr_pace_sent(&p, 2000, START + 2 * TR_S);
    tr_pace_reply(&p, &news, START + 2 * TR_S); /* twice that */
    assert_in_range(tr_pace_wait(&p, 2000, START + 2 * TR_S), 3890 * TR_MS,
                    4000 * TR_MS);
    /* Larger than a whole minute: leaves, and is paid off afterwards. */
    tr_pace_init(&p, &opts, START);
    assert_int_equal(tr_pace_wait(&p, 1000000, START), 0);
    tr_pace_sent(&p, 1000000, START);
    assert_in_range(tr_pace_wait(&p, 1, START), 999 * TR_S, 1000 * TR_S);
}

static void what_never_left_costs_no_pace(void **state)
{
    struct tr_pace_opts opts = {.rpm = 60};
    struct tr_pace p;
    (void)state;

    tr_pace_init(&p, &opts, START);
    fill(&p, START);
    assert_true(tr_pace_wait(&p, 0, START) > 0);
    reply(&p, TR_OUT_UNREACHED, START, -1, START);
    assert_int_equal(tr_pace_wait(&p, 0, START), 0);
}

static void nonsense_does_not_stop_the_lane(void **state)
{
    static const struct tr_limit limits[] = {
        {0, 0, 0}, {-5, 3, 10}, {10, 20, 0}, {10, -1, -1}, {-1, 5, 1000},
        {INT64_MAX, INT64_MAX, INT64_MAX}, {1, 0, INT64_MAX},
        {INT64_MAX, 0, 1}, {1, 1, 0},
    };
    struct tr_pace_opts opts = {.rpm = 600};
    (void)state;

    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct tr_pace p;
        int64_t now = START;

        tr_pace_init(&p, &opts, now);
        for (int k = 0; k < 20; k++) {
            struct tr_limits l = {limits[i], limits[i]};
            struct tr_pace_news news = {
                .outcome = TR_OUT_OK, .sent_at = now, .limits = &l,
                .tokens_estimate = INT64_MAX, .tokens_true = INT64_MAX,
                .retry_after_ms = -1};
            int64_t wait = tr_pace_wait(&p, INT64_MAX, now);

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
    assert_in_range(tr_pace_wait(&p, 0, START), 1, 4 * TR_S);
    /* and with nothing in flight */
    tr_pace_init(&p, &opts, far);
    assert_int_equal(tr_pace_wait(&p, 0, START), 0);
    tr_pace_sent(&p, 0, START);
    assert_in_range(tr_pace_wait(&p, 0, START), 0, 2 * TR_S);
    /* the end of time */
    tr_pace_init(&p, &opts, INT64_MAX - 1);
    tr_pace_sent(&p, 0, INT64_MAX - 1);
    reply(&p, TR_OUT_THROTTLED, INT64_MAX - 1, INT64_MAX, INT64_MAX - 1);
    assert_true(tr_pace_wait(&p, 0, INT64_MAX - 1) >= 0);
}

static void limits_that_change_are_followed(void **state)
{
    struct tr_pace_opts opts = {.concurrency = 1};
    struct tr_pace p;
    struct tr_limits l = {{600, 600, 0}, {-1, -1, -1}};
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
    l.requests = (struct tr_limit){60, 0, 60000};
    tr_pace_sent(&p, 0, START + 6 * TR_S);
    news.sent_at = START + 6 * TR_S;
    tr_pace_reply(&p, &news, START + 6 * TR_S);
    assert_in_range(tr_pace_rpm(&p), 29, 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_limits_are_used_and_not_passed),
        cmocka_unit_test(the_window_of_a_limit_is_found),
        cmocka_unit_test(the_users_ceiling_stands_above_all),
        cmocka_unit_test(without_headers_refusals_teach),
        cmocka_unit_test(the_window_grows_by_one_a_round_trip_and_halves),
        cmocka_unit_test(explicit_concurrency_is_start_and_ceiling),
        cmocka_unit_test(retry_after_holds_the_whole_lane),
        cmocka_unit_test(tokens_are_paced_and_settled),
        cmocka_unit_test(what_never_left_costs_no_pace),
        cmocka_unit_test(nonsense_does_not_stop_the_lane),
        cmocka_unit_test(a_clock_that_steps_back_costs_nothing),
        cmocka_unit_test(limits_that_change_are_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
