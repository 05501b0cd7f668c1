/* test_fair.c - one limit, several processes: together they use it, each has
 * its part, and a dead one's part comes back. Real paces, simulated provider.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/rng.h"
#include "plan/fair.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define START (5 * TR_S)

static const struct tr_limits silent = {
    .requests = {.limit = -1, .remaining = -1, .reset_ms = -1},
    .tokens = {.limit = -1, .remaining = -1, .reset_ms = -1},
    .input = {.limit = -1, .remaining = -1, .reset_ms = -1},
    .output = {.limit = -1, .remaining = -1, .reset_ms = -1}};
#define MEMBERS 8

/* ---- the rule ------------------------------- */

static void nobody_gets_more_than_an_equal_part_while_others_want(void **state)
{
    static const struct {
        uint32_t n;
        double want[4], part[4];
    } cases[] = {
        {1, {1}, {1}},
        {1, {0.2}, {1}},
        {2, {1, 1}, {0.5, 0.5}},
        {2, {0.1, 1}, {0.1, 0.9}},
        {2, {0, 1}, {0, 1}},
        {3, {0.5, 0.4, 0.1}, {0.5, 0.4, 0.1}},
        {3, {1, 0.4, 0.1}, {0.5, 0.4, 0.1}},
        {4, {1, 1, 0.1, 1}, {0.3, 0.3, 0.1, 0.3}},
        {4, {0, 0, 0, 0}, {0.25, 0.25, 0.25, 0.25}},
        {2, {0.1, 0.3}, {0.4, 0.6}}, /* the rest is room for both */
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double part[4];

        tr_fair_divide(cases[i].want, part, cases[i].n);
        for (uint32_t k = 0; k < cases[i].n; k++)
            if (fabs(part[k] - cases[i].part[k]) > 1e-9)
                fail_msg("case %zu: part %u is %g, not %g", i, k, part[k],
                         cases[i].part[k]);
    }
}

static void all_is_divided_whatever_is_wanted(void **state)
{
    struct tr_rng rng = {3};
    (void)state;

    for (int round = 0; round < 3000; round++) {
        double want[TR_FAIR_MAX + 1], part[TR_FAIR_MAX + 1], sum = 0;
        uint32_t n = 1 + (uint32_t)tr_rng_below(&rng, TR_FAIR_MAX + 1);

        for (uint32_t i = 0; i < n; i++)
            want[i] = tr_rng_below(&rng, 3) ? tr_rng_unit(&rng) : 1;
        tr_fair_divide(want, part, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(part[i] >= 0);
            /* Less than wanted: nobody has more than that. */
            for (uint32_t k = 0; k < n && part[i] < want[i] - 1e-9; k++)
                assert_true(part[k] <= part[i] + 1e-9);
            sum += part[i];
        }
        assert_true(fabs(sum - 1) < 1e-9);
    }
}

/* In any order, with anything in the table: never more than the whole. */
static void parts_never_add_to_more_than_one(void **state)
{
    struct tr_rng rng = {5};
    struct tr_lease table[9] = {0};
    struct tr_fair fair[8];
    struct tr_pace pace[8];
    int64_t now = START;
    (void)state;

    for (int i = 0; i < 8; i++) {
        tr_pace_init(&pace[i], &(struct tr_pace_opts){.rpm = 600}, now);
        tr_fair_init(&fair[i], now);
    }
    /* Nonsense in the file, alive for as long as its time is thought to be. */
    table[8] = (struct tr_lease){
        .beat_at = now, .want = {NAN, 1e300}, .part = {-1e300, NAN},
        .rate = {NAN, INFINITY}, .rate_at = INT64_MAX, .refused_at = now + 5,
        .refused_sent_at = now + 6, .hold_until = INT64_MAX};
    for (int round = 0; round < 20000; round++) {
        int i = (int)tr_rng_below(&rng, 8);
        struct tr_lease others[9];
        double held = 0;

        now += (int64_t)tr_rng_below(&rng, 40 * TR_MS);
        if (tr_rng_below(&rng, 2000) == 0) /* all are stopped for a while */
            now += 10 * TR_S;
        memcpy(others, table, sizeof others);
        others[i] = others[8]; /* any order */
        if (tr_rng_below(&rng, 2)) {
            if (tr_pace_wait(&pace[i], now) == 0)
                tr_pace_sent(&pace[i], 0, now);
            tr_fair_kept_back(&fair[i], &pace[i], now);
        }
        tr_fair_look(&fair[i], &pace[i], now);
        tr_fair_take(&fair[i], others, 8, now);
        table[i] = fair[i].mine;
        for (int k = 0; k < 8; k++)
            if (tr_lease_is_live(&table[k], now))
                held += table[k].part[0];
        assert_true(held < 1 + 1e-9);
        assert_true(table[i].part[0] >= 0 && table[i].part[0] <= 1);
        tr_fair_tell(&fair[i], &pace[i], others, 8, now);
        assert_true(tr_pace_key_rate(&pace[i], 0, now) > 0);
    }
}

/* ---- processes and a provider ------------------------------- */

struct member {
    struct tr_pace pace;
    struct tr_fair fair;
    int64_t from, until;       /* lives */
    double at_most;            /* requests per second it has work for; 0: any */
    int64_t next_work, next_beat;
    int64_t served_at[2];      /* by half of the time looked at */
    int64_t served, refused;
};

struct flight {
    int64_t sent_at, back_at, wait_ms;
    int who;
    bool refused;
    struct tr_limits limits;
};

struct world {
    double per_s, burst_s, latency_s;
    bool headers, retry_after;
    int members;
    struct tr_pace_opts opts;
    double weight;             /* tokens of a request */
    bool limits_tokens;
    int64_t look_from;         /* counts begin */
    struct member m[MEMBERS];
    struct tr_lease table[MEMBERS];
    double level;
    int64_t level_at;
    int64_t refused;
};

static void ask(struct world *w, struct flight *f, int64_t now)
{
    double cost = w->limits_tokens ? 100 : 1, size = w->per_s * w->burst_s;
    struct tr_limit said;

    w->level = fmin(size, w->level + w->per_s *
                                         (double)(now - w->level_at) / TR_S);
    w->level_at = now;
    f->refused = w->level < cost;
    f->wait_ms = -1;
    f->limits = silent;
    if (!f->refused)
        w->level -= cost;
    else if (w->retry_after)
        f->wait_ms = 1 + (int64_t)((cost - w->level) / w->per_s * 1000);
    said = (struct tr_limit){
        .limit = (int64_t)(w->per_s * 60),
        .remaining = (int64_t)(w->per_s * 60 - size + w->level),
        .reset_ms = (int64_t)((size - w->level) / w->per_s * 1000)};
    if (w->headers && w->limits_tokens)
        f->limits.tokens = said;
    else if (w->headers)
        f->limits.requests = said;
}

static void beat(struct world *w, int i, struct tr_rng *rng, int64_t now)
{
    struct member *m = &w->m[i];
    struct tr_lease others[MEMBERS];
    uint32_t n = 0;

    for (int k = 0; k < w->members; k++)
        if (k != i)
            others[n++] = w->table[k];
    tr_fair_look(&m->fair, &m->pace, now);
    tr_fair_take(&m->fair, others, n, now);
    w->table[i] = m->fair.mine;
    tr_fair_tell(&m->fair, &m->pace, others, n, now);
    m->next_beat = now + TR_FAIR_EVERY_NS +
                   (int64_t)tr_rng_below(rng, TR_FAIR_EVERY_NS / 4);
}

#define FLIGHTS 4096

static void go(struct world *w, uint64_t seed, int64_t until)
{
    static struct flight flights[FLIGHTS];
    struct tr_rng rng = {seed};
    int64_t now = START, half = (w->look_from + until) / 2;
    int n = 0;

    w->level = w->per_s * w->burst_s;
    w->level_at = now;
    for (int i = 0; i < w->members; i++) {
        struct member *m = &w->m[i];

        tr_pace_init(&m->pace, &w->opts, m->from);
        tr_fair_init(&m->fair, m->from);
        m->fair.mine.id = (uint64_t)i + 1;
        m->next_work = m->next_beat = m->from;
    }
    while (now < until) {
        int64_t next = until;
        int first = -1;

        for (int k = 0; k < n; k++)
            if (flights[k].back_at < next)
                next = flights[first = k].back_at;
        for (int i = 0; i < w->members; i++) {
            struct member *m = &w->m[i];
            int64_t wait = 0;

            if (now < m->from || now >= m->until) {
                if (now < m->from && m->from < next)
                    next = m->from, first = -1;
                continue;
            }
            if (m->next_beat <= now)
                beat(w, i, &rng, now);
            while (m->next_work <= now &&
                   (wait = tr_pace_wait(&m->pace, now)) ==
                       0) {
                struct flight *f = &flights[n++];

                assert_true(n < FLIGHTS);
                *f = (struct flight){.sent_at = now, .who = i};
                tr_pace_sent(&m->pace, (int64_t)w->weight, now);
                ask(w, f, now);
                f->back_at = now + (int64_t)((0.9 + 0.2 * tr_rng_unit(&rng)) *
                                             w->latency_s * TR_S);
                if (m->at_most > 0)
                    m->next_work += (int64_t)(TR_S / m->at_most);
                if (f->back_at < next)
                    next = f->back_at, first = n - 1;
            }
            if (m->next_work <= now && wait != TR_PACE_FULL)
                tr_fair_kept_back(&m->fair, &m->pace, now);
            if (m->next_beat < next)
                next = m->next_beat, first = -1;
            if (m->next_work > now)
                wait = m->next_work - now;
            if (wait != TR_PACE_FULL && now + wait < next)
                next = now + wait, first = -1;
        }
        now = next;
        if (first >= 0) {
            struct flight f = flights[first];
            struct member *m = &w->m[f.who];
            struct tr_pace_news news = {
                .outcome = f.refused ? TR_OUT_THROTTLED : TR_OUT_OK,
                .sent_at = f.sent_at,
                .tokens_estimate = (int64_t)w->weight,
                .tokens_true = f.refused ? -1 : (int64_t)w->weight,
                .limits = &f.limits, .retry_after_ms = f.wait_ms,
                .unit = tr_rng_unit(&rng)};

            flights[first] = flights[--n];
            if (f.sent_at >= w->look_from && !f.refused) {
                m->served++;
                m->served_at[f.sent_at >= half]++;
            }
            if (f.refused) {
                m->refused++;
                w->refused++;
            }
            if (now < m->until) /* the dead hear nothing */
                tr_pace_reply(&m->pace, &news, now);
        }
    }
}

static struct world world(int members, double per_s, bool headers)
{
    struct world w = {.per_s = per_s, .burst_s = 5, .latency_s = 0.2,
                      .headers = headers, .retry_after = true,
                      .members = members, .weight = 100,
                      .look_from = START + 10 * TR_S};

    if (!headers)
        w.opts.rpm = per_s * 60;
    for (int i = 0; i < members; i++) {
        w.m[i].from = START + i * 300 * TR_MS;
        w.m[i].until = INT64_MAX;
    }
    return w;
}

static int64_t total(const struct world *w)
{
    int64_t sum = 0;

    for (int i = 0; i < w->members; i++)
        sum += w->m[i].served;
    return sum;
}

static void equal_ones_share_all_of_it(void **state)
{
    static const int members[] = {1, 2, 8};
    static const double rates[] = {2, 10, 100, 500};
    static struct world w;
    int failed = 0;
    (void)state;

    for (int headers = 0; headers < 2; headers++)
    for (size_t n = 0; n < 3; n++)
    for (size_t r = 0; r < 4; r++)
    for (int tokens = 0; tokens < 2; tokens++)
    for (int retry_after = 0; retry_after < 2; retry_after++) {
        int64_t least = INT64_MAX, sum;
        double ideal = rates[r] * 60;

        w = world(members[n], rates[r], headers);
        w.retry_after = retry_after;
        if (tokens) { /* a request is 100 of them */
            w.limits_tokens = true;
            w.per_s *= 100;
            w.opts.tpm = 100 * w.opts.rpm;
            w.opts.rpm = 0;
        }
        go(&w, 1 + n, START + 70 * TR_S);
        sum = total(&w);
        for (int i = 0; i < w.members; i++)
            if (w.m[i].served < least)
                least = w.m[i].served;
        if ((double)sum < 0.97 * ideal - 2 ||
            (double)least < 0.7 * ideal / members[n] - 2 ||
            w.refused > 5 + 3 * members[n]) {
            print_error("%d members, %g/s, headers %d, tokens %d: %lld of %g, "
                        "least %lld, refused %lld\n", members[n], rates[r],
                        headers, tokens, (long long)sum, ideal,
                        (long long)least, (long long)w.refused);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
}

/* The limit is told by nobody: refusals of all teach all. */
static void an_untold_limit_is_found_together(void **state)
{
    static const int members[] = {1, 2, 8};
    static const double rates[] = {100, 500};
    static struct world w;
    int failed = 0;
    (void)state;

    for (int retry_after = 0; retry_after < 2; retry_after++)
    for (size_t n = 0; n < 3; n++)
    for (size_t r = 0; r < 2; r++) {
        int64_t least = INT64_MAX, sum;
        double ideal = rates[r] * 120;

        w = world(members[n], rates[r], false);
        w.retry_after = retry_after;
        w.opts = (struct tr_pace_opts){0};
        w.look_from = START + 60 * TR_S;
        go(&w, 1 + n, START + 180 * TR_S);
        sum = total(&w);
        for (int i = 0; i < w.members; i++)
            if (w.m[i].served < least)
                least = w.m[i].served;
        if ((double)sum < 0.95 * ideal - 2 ||
            (double)least < 0.7 * ideal / members[n] - 2) {
            print_error("%d members, %g/s, retry-after %d: %lld of %g (%.1f "
                        "%%), least %.2f, refused %lld\n", members[n],
                        rates[r], retry_after, (long long)sum, ideal,
                        100 * (double)sum / ideal,
                        (double)least * members[n] / ideal,
                        (long long)w.refused);
            failed++;
        }
    }
    assert_int_equal(failed, 0);
}

/* 100/s for four: one dies at the middle of what is looked at, another has
 * little to do, and a third comes late. */
static void a_killed_ones_part_comes_back(void **state)
{
    static struct world w;
    int64_t dies = START + 40 * TR_S;
    (void)state;

    for (int headers = 0; headers < 2; headers++) {
        w = world(2, 100, headers);
        w.m[0].until = dies;
        w.look_from = dies + 5 * TR_S; /* from then on all is the other's */
        go(&w, 9, dies + 35 * TR_S);
        assert_int_equal(w.m[0].served, 0);
        if (w.m[1].served < 97 * 30)
            fail_msg("headers %d: %lld of 3000 after the other's death",
                     headers, (long long)w.m[1].served);
    }
}

static void one_with_little_to_do_leaves_the_rest(void **state)
{
    static struct world w;
    (void)state;

    w = world(3, 100, true);
    w.m[1].at_most = 5;
    go(&w, 4, START + 70 * TR_S);
    assert_in_range(w.m[1].served, 290, 301);
    assert_true(total(&w) > 97 * 60);
    assert_true(w.m[0].served > 2500 && w.m[2].served > 2500);
}

static void a_late_one_gets_its_part(void **state)
{
    static struct world w;
    (void)state;

    w = world(3, 100, true);
    w.m[2].from = START + 38 * TR_S;
    w.look_from = START + 40 * TR_S;
    go(&w, 4, START + 70 * TR_S);
    assert_true(total(&w) > 97 * 30);
    for (int i = 0; i < 3; i++)
        assert_in_range(w.m[i].served, 900, 1100);
}

/* ---- what one tells the other ------------------------------- */

static const double halves[] = {0.5, 0.5};

static void anothers_refusal_is_not_met_twice(void **state)
{
    struct tr_pace p;
    double before;
    (void)state;

    tr_pace_init(&p, &(struct tr_pace_opts){.rpm = 600}, START);
    tr_pace_part(&p, halves, START);
    before = tr_pace_rpm(&p);
    assert_true(fabs(before - 300) < 1e-6);
    tr_pace_sent(&p, 0, START + 3 * TR_S / 2);
    /* Refused elsewhere at 2 s, sent at 1 s: believed, once. */
    tr_pace_refused_elsewhere(&p, START + TR_S, 0, START + 2 * TR_S,
                              START + 2 * TR_S);
    assert_true(tr_pace_rpm(&p) < before);
    before = tr_pace_rpm(&p);
    tr_pace_refused_elsewhere(&p, START + TR_S, 0, START + 3 * TR_S,
                              START + 3 * TR_S);
    assert_true(tr_pace_rpm(&p) == before);
    /* Our own refusal of a request that left before is an echo as well. */
    tr_pace_reply(&p, &(struct tr_pace_news){
        .outcome = TR_OUT_THROTTLED, .sent_at = START + 3 * TR_S / 2,
        .tokens_true = -1, .retry_after_ms = -1}, START + 4 * TR_S);
    assert_true(tr_pace_rpm(&p) == before);
    /* What the server asked the other to wait, we wait too. */
    tr_pace_refused_elsewhere(&p, START, START + 9 * TR_S, START + 5 * TR_S,
                              START + 5 * TR_S);
    assert_true(tr_pace_wait(&p, START + 5 * TR_S) == 4 * TR_S);
}

static void what_others_learned_is_a_beginning(void **state)
{
    struct tr_limits said = silent;
    double rate[] = {7, 0};
    bool follows[] = {false, false};
    struct tr_pace p;
    (void)state;

    said.requests.limit = said.requests.remaining = 1200;
    said.requests.reset_ms = 50;
    tr_pace_init(&p, &(struct tr_pace_opts){0}, START);
    tr_pace_told(&p, rate, follows, START);
    tr_pace_part(&p, halves, START);
    assert_true(fabs(tr_pace_rpm(&p) - 210) < 1e-6);
    tr_pace_sent(&p, 0, START);
    tr_pace_reply(&p, &(struct tr_pace_news){
        .outcome = TR_OUT_OK, .sent_at = START, .tokens_true = -1,
        .limits = &said, .retry_after_ms = -1}, START + TR_S);
    assert_true(fabs(tr_pace_rpm(&p) - 600) < 6); /* our own eyes */
}

/* Something else than the limit holds all requests back, and half of them are
 * refused: the rate that is felt for grows and grows. A lease with a number
 * that cannot be would not count, as if nobody shared the key. */
static void what_is_told_can_be_believed(void **state)
{
    struct tr_pace_news news = {
        .tokens_estimate = 1000, .tokens_true = -1, .limits = &silent,
        .retry_after_ms = -1, .unit = 0.5};
    int64_t now = START;
    struct tr_fair f;
    struct tr_pace p;
    (void)state;

    tr_pace_init(&p, &(struct tr_pace_opts){.rpm = 2}, now);
    tr_fair_init(&f, now);
    for (int i = 0; i < 60; i++) {
        now += tr_pace_wait(&p, now);
        tr_pace_sent(&p, 1000, now);
        news.outcome = i & 1 ? TR_OUT_THROTTLED : TR_OUT_OK;
        news.status = i & 1 ? 429 : 200;
        news.sent_at = now;
        now += TR_S / 3;
        tr_pace_reply(&p, &news, now);
        tr_fair_look(&f, &p, now);
        for (int k = 0; k < TR_LIMIT_KINDS; k++)
            if (!(f.mine.rate[k] <= TR_LEASE_UNITS_MAX))
                fail_msg("request %d: kind %d at %g a second", i, k,
                         f.mine.rate[k]);
    }
    /* Nor what a provider without a limit may state for one. */
    news.limits = &(struct tr_limits){
        .requests = {INT64_MAX, INT64_MAX, 0, 1}, .tokens = silent.tokens,
        .input = silent.input, .output = silent.output};
    news.outcome = TR_OUT_OK;
    tr_pace_reply(&p, &news, now);
    tr_fair_look(&f, &p, now);
    assert_true(f.mine.rate[TR_LIMIT_REQUESTS] <= TR_LEASE_UNITS_MAX);
}

/* Debts are time: they stretch and shrink with the part. */
static void a_debt_follows_the_part(void **state)
{
    static const double all[] = {1, 1}, none[] = {0, 0};
    struct tr_pace p;
    int64_t wait;
    (void)state;

    tr_pace_init(&p, &(struct tr_pace_opts){.tpm = 600}, START);
    tr_pace_sent(&p, 100, START); /* ten seconds' worth */
    wait = tr_pace_wait(&p, START);
    assert_true(wait > 9 * TR_S && wait <= 10 * TR_S);
    tr_pace_part(&p, halves, START);
    wait = tr_pace_wait(&p, START);
    assert_true(wait > 19 * TR_S && wait <= 20 * TR_S);
    tr_pace_part(&p, none, START);
    tr_pace_part(&p, all, START);
    wait = tr_pace_wait(&p, START);
    assert_true(wait > 9 * TR_S && wait <= 10 * TR_S);
    assert_true(tr_pace_is_short(&p, TR_LIMIT_TOKENS, START));
    assert_false(tr_pace_is_short(&p, TR_LIMIT_REQUESTS, START));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            nobody_gets_more_than_an_equal_part_while_others_want),
        cmocka_unit_test(all_is_divided_whatever_is_wanted),
        cmocka_unit_test(parts_never_add_to_more_than_one),
        cmocka_unit_test(equal_ones_share_all_of_it),
        cmocka_unit_test(an_untold_limit_is_found_together),
        cmocka_unit_test(a_killed_ones_part_comes_back),
        cmocka_unit_test(one_with_little_to_do_leaves_the_rest),
        cmocka_unit_test(a_late_one_gets_its_part),
        cmocka_unit_test(anothers_refusal_is_not_met_twice),
        cmocka_unit_test(what_others_learned_is_a_beginning),
        cmocka_unit_test(what_is_told_can_be_believed),
        cmocka_unit_test(a_debt_follows_the_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
