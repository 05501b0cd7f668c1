/* test_ledger.c - one budget over several stores, processes, deaths and days.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/ledger.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* A store with its run: sums of the round, what it may still spend. */
struct store {
    struct tr_key key;
    int64_t round, spent, open, given; /* given: claimed and not reserved */
    int64_t unknown;
    int64_t commits;                   /* one before each question: 0, none */
    int64_t total;                     /* of the period, all rounds */
    bool alive, done;
};

static struct store named(const char *name)
{
    return (struct store){.key = tr_digest(NULL, tr_str_c(name)), .round = 1};
}

static struct tr_ledger_ask ask(enum tr_ledger_op op, const struct store *s,
                                int64_t cap)
{
    return (struct tr_ledger_ask){
        .op = op, .round = s->round, .spent = {s->spent, 0, 0},
        .commits = s->commits, .opened = op == TR_LEDGER_JOIN && s->commits,
        .unknown = {s->unknown, 0, 0}, .open = {s->open, 0, 0},
        .cap = {cap, -1, -1}};
}

static void tell(struct tr_ledger *l, const struct store *stores, int n)
{
    for (uint32_t i = 0; i < l->n; i++)
        for (int k = 0; k < n; k++)
            if (tr_key_cmp(&l->shares[i].store, &stores[k].key) == 0)
                l->shares[i].alive = stores[k].alive;
}

static void rewrite(struct tr_ledger *l)
{
    struct tr_buf b;
    struct tr_err err;

    tr_buf_init(&b, 0);
    tr_ledger_write(l, &b);
    assert_int_equal(tr_ledger_read(l, tr_buf_str(&b), "l", &err), TR_OK);
    tr_buf_release(&b);
}

/* Three stores that run, spend, die and come back in any order. Whatever they
 * do, all that was spent or may be on its way stays within the budget. */
static void the_budget_holds_whatever_happens(void **state)
{
    struct tr_rng rng = {11};
    int64_t claims = 0, refusals = 0, deaths = 0;
    (void)state;

    for (int world = 0; world < 1000; world++) {
        struct store st[3] = {0};
        struct tr_ledger l = {0};
        int64_t cap = 50 + (int64_t)tr_rng_below(&rng, 5000);
        bool all_done = false;

        for (int i = 0; i < 3; i++) {
            char name[16];

            snprintf(name, sizeof name, "s%d", i);
            st[i].key = tr_digest(NULL, tr_str_c(name));
            st[i].round = 1;
        }
        for (int step = 0; step < 400 && !all_done; step++) {
            struct store *s = &st[tr_rng_below(&rng, 3)];
            struct tr_ledger_ask a;
            struct tr_err err;
            int64_t sum = 0, v;

            if (step % 8 == 0)
                rewrite(&l);
            tell(&l, st, 3);
            if (s->done) {
                continue;
            } else if (!s->alive) {
                a = ask(TR_LEDGER_JOIN, s, cap);
                s->alive = true;
                assert_int_equal(tr_ledger_apply(&l, &s->key, &a, &err), TR_OK);
                s->given = 0;
            } else {
                switch (tr_rng_below(&rng, 5)) {
                case 0: /* wants to send */
                    v = 1 + (int64_t)tr_rng_below(&rng, 40);
                    if (v > s->given) {
                        a = ask(TR_LEDGER_CLAIM, s, cap);
                        a.want[0] = v - s->given;
                        assert_int_equal(
                            tr_ledger_apply(&l, &s->key, &a, &err), TR_OK);
                        s->given += a.more[0];
                        claims += a.granted;
                        refusals += !a.granted;
                    }
                    if (v <= s->given) {
                        s->given -= v;
                        s->open += v;
                    }
                    break;
                case 1: /* a reply: less than the bound */
                    v = s->open ? 1 + (int64_t)tr_rng_below(
                            &rng, (uint64_t)s->open) : 0;
                    s->open -= v;
                    s->spent += v / 3;
                    s->given += v - v / 3;
                    break;
                case 2: /* dies: what is open is unknown now */
                    if (tr_rng_below(&rng, 4) == 0) {
                        s->alive = false;
                        deaths++;
                    }
                    break;
                case 3: /* stops in good order */
                    if (tr_rng_below(&rng, 8) == 0) {
                        a = ask(TR_LEDGER_LEAVE, s, cap);
                        tr_ledger_apply(&l, &s->key, &a, &err);
                        s->alive = false;
                    }
                    break;
                default: /* done */
                    if (tr_rng_below(&rng, 40) == 0) {
                        a = ask(TR_LEDGER_LEAVE, s, cap);
                        a.finished = true;
                        tr_ledger_apply(&l, &s->key, &a, &err);
                        s->alive = false;
                        s->done = true;
                    }
                }
            }
            for (int i = 0; i < 3; i++)
                sum += st[i].spent + st[i].open;
            assert_true(sum <= cap);
            sum = 0;
            for (uint32_t i = 0; i < l.n; i++)
                sum += l.shares[i].held[0];
            assert_true(sum <= cap);
            all_done = st[0].done && st[1].done && st[2].done;
        }
    }
    assert_true(claims > 1000);
    assert_true(refusals > 1000);
    assert_true(deaths > 1000);
}

/* A run of a store alone, all at once: what it could spend. */
static int64_t could_spend(struct tr_ledger *l, struct store *s, int64_t cap)
{
    struct tr_ledger_ask a = ask(TR_LEDGER_JOIN, s, cap);
    struct tr_err err;
    int64_t got = 0;

    tell(l, s, 0);
    tr_ledger_apply(l, &s->key, &a, &err);
    do {
        a = ask(TR_LEDGER_CLAIM, s, cap);
        a.want[0] = 1;
        tr_ledger_apply(l, &s->key, &a, &err);
        got += a.more[0];
    } while (a.granted);
    s->spent += got;
    return got;
}

static void leave(struct tr_ledger *l, struct store *s, bool finished)
{
    struct tr_ledger_ask a = ask(TR_LEDGER_LEAVE, s, 100);
    struct tr_err err;

    a.finished = finished;
    tr_ledger_apply(l, &s->key, &a, &err);
    for (uint32_t i = 0; i < l->n; i++)
        l->shares[i].alive = false;
    if (finished) {
        s->round++;
        s->spent = 0;
    }
}

static void a_period_ends_when_the_job_does(void **state)
{
    struct store a = named("a"), b = named("b");
    struct tr_ledger l = {0};
    (void)state;

    assert_int_equal(could_spend(&l, &a, 100), 100);
    leave(&l, &a, false);
    assert_int_equal(could_spend(&l, &a, 100), 0); /* stopped: the same job */
    leave(&l, &a, false);
    assert_int_equal(could_spend(&l, &b, 150), 50); /* the task was changed */
    leave(&l, &b, true);
    assert_int_equal(could_spend(&l, &b, 100), 100); /* done: begins anew */
    leave(&l, &b, true);
    assert_int_equal(could_spend(&l, &a, 300), 300); /* and for others too */
    leave(&l, &a, false);
}

static void a_finished_one_counts_while_others_work(void **state)
{
    struct store a = named("a"), b = named("b");
    struct tr_ledger l = {0};
    struct tr_ledger_ask q;
    struct tr_err err;
    (void)state;

    q = ask(TR_LEDGER_JOIN, &b, 100);
    tr_ledger_apply(&l, &b.key, &q, &err);
    q = ask(TR_LEDGER_JOIN, &a, 100);
    tr_ledger_apply(&l, &a.key, &q, &err);
    q = ask(TR_LEDGER_CLAIM, &a, 100);
    q.want[0] = 60;
    tr_ledger_apply(&l, &a.key, &q, &err);
    assert_true(q.granted);
    a.spent = 60;
    q = ask(TR_LEDGER_LEAVE, &a, 100);
    q.finished = true;
    tr_ledger_apply(&l, &a.key, &q, &err);
    a.round++;
    a.spent = 0;
    /* a again, while b is at work: the same period */
    q = ask(TR_LEDGER_JOIN, &a, 100);
    tr_ledger_apply(&l, &a.key, &q, &err);
    assert_int_equal(q.earlier[0], -60);
    q = ask(TR_LEDGER_CLAIM, &b, 100);
    q.want[0] = 41;
    tr_ledger_apply(&l, &b.key, &q, &err);
    assert_false(q.granted);
    assert_int_equal(q.lacking, TR_PURSE_NANO);
    assert_int_equal(q.elsewhere[0], 60);
}

/* What a run gets that is opened on that day and wants so much. */
static int64_t on_day(struct tr_ledger *l, struct store *s, int64_t day,
                      int64_t want)
{
    struct tr_ledger_ask a = ask(TR_LEDGER_JOIN, s, 100);
    struct tr_err err;

    a.per_day = true;
    a.day = day;
    tr_ledger_apply(l, &s->key, &a, &err);
    a = ask(TR_LEDGER_CLAIM, s, 100);
    a.per_day = true;
    a.day = day;
    a.want[0] = want;
    tr_ledger_apply(l, &s->key, &a, &err);
    s->spent += a.more[0];
    return a.more[0];
}

static void a_clock_moved_back_grants_no_second_day(void **state)
{
    struct store s = {.round = 1};
    struct tr_ledger l = {0};
    (void)state;

    s.key = tr_digest(NULL, TR_STR("s"));
    assert_int_equal(on_day(&l, &s, 20000, 100), 100);
    assert_int_equal(on_day(&l, &s, 20000, 100), 0);
    assert_int_equal(on_day(&l, &s, 20001, 100), 100);
    assert_int_equal(on_day(&l, &s, 20000, 100), 0); /* moved back */
    assert_int_equal(on_day(&l, &s, 19000, 100), 0);
    assert_int_equal(on_day(&l, &s, 20001, 100), 0);
    assert_int_equal(on_day(&l, &s, 20002, 100), 100);
}

/* Unknown costs count for the day in which they were lost, and what is in
 * flight at midnight for both. */
static void unknown_costs_stay_in_their_day(void **state)
{
    struct store s = {.round = 1};
    struct tr_ledger l = {0};
    (void)state;

    s.key = tr_digest(NULL, TR_STR("s"));
    s.unknown = 90;
    assert_int_equal(on_day(&l, &s, 20000, 10), 10);
    assert_int_equal(on_day(&l, &s, 20000, 1), 0);
    s.open = 30;
    assert_int_equal(on_day(&l, &s, 20001, 71), 0);
    assert_int_equal(on_day(&l, &s, 20001, 50), 50);
    s.open = 0;
    s.unknown += 30; /* it was lost today */
    assert_int_equal(on_day(&l, &s, 20001, 21), 0);
    assert_int_equal(on_day(&l, &s, 20001, 10), 10);
    assert_int_equal(on_day(&l, &s, 20002, 100), 100);
}

/* Then what is spent and lost in the day counts all the same. */
static void forgiving_grants_no_more_than_was_unknown(void **state)
{
    struct store s = {.round = 1, .unknown = 90};
    struct tr_ledger l = {0};
    (void)state;

    s.key = tr_digest(NULL, TR_STR("s"));
    assert_int_equal(on_day(&l, &s, 20000, 10), 10);
    assert_int_equal(on_day(&l, &s, 20001, 60), 60);
    s.unknown = 0;
    assert_int_equal(on_day(&l, &s, 20001, 41), 0);
    s.unknown = 30;
    assert_int_equal(on_day(&l, &s, 20001, 11), 0);
    assert_int_equal(on_day(&l, &s, 20001, 10), 10);
}

/* The run of a store that was just opened, until it stops or is killed. */
static int64_t work(struct tr_ledger *l, struct store *s, int64_t cap,
                    int64_t want, bool killed)
{
    struct tr_ledger_ask a;
    struct tr_err err;

    s->commits++; /* that it begins */
    a = ask(TR_LEDGER_JOIN, s, cap);
    assert_int_equal(tr_ledger_apply(l, &s->key, &a, &err), TR_OK);
    a = ask(TR_LEDGER_CLAIM, s, cap);
    a.want[0] = want;
    tr_ledger_apply(l, &s->key, &a, &err);
    rewrite(l);
    if (!a.granted)
        return 0;
    s->commits++; /* what is sent, and its answer */
    s->spent += want;
    if (!killed) {
        s->commits++;
        leave(l, s, false);
    }
    return want;
}

/* A store that is put back from a copy does not know what was spent since. What
 * a killed run has claimed and not used is free again all the same. */
static void an_older_copy_takes_nothing_back(void **state)
{
    (void)state;

    for (int killed = 0; killed < 2; killed++) {
        struct store s = named("s"), other = named("o"), copy;
        struct tr_ledger l = {0};

        assert_int_equal(work(&l, &s, 100, 20, false), 20);
        copy = s;
        assert_int_equal(work(&l, &s, 100, 30, killed), 30);
        for (int again = 0; again < 3; again++) {
            struct store restored = copy;

            assert_int_equal(work(&l, &restored, 100, 51, true), 0);
        }
        /* Nor does what the copy calls unknown go twice, or come back. */
        copy.unknown = 15;
        assert_int_equal(work(&l, &copy, 100, 51, true), 0);
        copy.unknown = 0;
        assert_int_equal(work(&l, &copy, 100, 51, true), 0);
        assert_int_equal(work(&l, &other, 100, 51, true), 0);
        assert_int_equal(work(&l, &copy, 100, 50, true), 50);
        /* It goes on with what it has used itself. */
        assert_int_equal(work(&l, &copy, 150, 51, true), 0);
        assert_int_equal(work(&l, &copy, 150, 50, true), 50);
    }
}

/* The same store, killed: what it claimed and did not use is free again. */
static void a_killed_run_is_no_older_copy(void **state)
{
    struct store s = named("s");
    struct tr_ledger l = {0};
    (void)state;

    for (int i = 0; i < 20; i++) {
        struct tr_ledger_ask a;
        struct tr_err err;

        assert_int_equal(work(&l, &s, 100, 4, true), 4);
        assert_true(l.shares[0].held[0] >= s.spent);
        a = ask(TR_LEDGER_JOIN, &s, 100); /* killed before it claims */
        a.commits = ++s.commits;
        tr_ledger_apply(&l, &s.key, &a, &err);
        assert_int_equal(l.shares[0].held[0], s.spent);
    }
}

/* Midnight comes to a run that has committed nothing since it asked. */
static void a_new_day_makes_no_older_copy(void **state)
{
    struct store s = named("s");
    struct tr_ledger l = {0};
    struct tr_ledger_ask a;
    struct tr_err err;
    (void)state;

    s.commits = 7;
    assert_int_equal(on_day(&l, &s, 20001, 3), 6);
    s.spent = 2;
    a = ask(TR_LEDGER_JOIN, &s, 100); /* its own clock is behind */
    a.per_day = true;
    a.day = 20000;
    a.opened = false;
    tr_ledger_apply(&l, &s.key, &a, &err);
    assert_int_equal(l.shares[0].held[0], 2);
}

/* As the second programs wrote it: which copy it is nobody knows. */
static void a_ledger_of_the_second_form_is_read(void **state)
{
    char text[400];
    struct store s = named("s");
    struct tr_ledger l;
    struct tr_err err;
    struct tr_key sum;
    char hex[33];
    int n;
    (void)state;

    tr_key_hex(&s.key, 16, hex);
    n = snprintf(text, sizeof text, "trommel ledger 2\nperiod 4 1\n"
                 "%s 1 4 0 1 2 3 4 5 6 7 8 9 10 11 12\n", hex);
    sum = tr_digest(NULL, tr_str(text, (size_t)n));
    tr_key_hex(&sum, 8, hex);
    snprintf(text + n, sizeof text - (size_t)n, "end %s\n", hex);
    assert_int_equal(tr_ledger_read(&l, tr_str_c(text), "l", &err), TR_OK);
    assert_int_equal(l.shares[0].commits, 0);
    assert_int_equal(l.shares[0].since[2], 3);
    assert_int_equal(l.shares[0].lost[0], 4);
    assert_int_equal(l.shares[0].held[2], 12);
    rewrite(&l);
    assert_int_equal(l.shares[0].held[2], 12);
    assert_int_equal(work(&l, &s, 100, 20, true), 20);
    assert_int_equal(l.shares[0].carried[0], 7);
}

/* As the first programs wrote it. */
static void a_ledger_of_the_first_form_is_read(void **state)
{
    char text[400];
    struct tr_ledger l;
    struct tr_err err;
    struct tr_key sum;
    char hex[17];
    int n = snprintf(text, sizeof text, "trommel ledger 1\nperiod 4 1\n"
                     "00112233445566778899aabbccddeeff 2 4 0 "
                     "1 2 3 4 5 6 7 8 9\n");
    (void)state;

    sum = tr_digest(NULL, tr_str(text, (size_t)n));
    tr_key_hex(&sum, 8, hex);
    snprintf(text + n, sizeof text - (size_t)n, "end %s\n", hex);
    assert_int_equal(tr_ledger_read(&l, tr_str_c(text), "l", &err), TR_OK);
    assert_int_equal(l.period, 4);
    assert_int_equal(l.shares[0].since[2], 3);
    assert_int_equal(l.shares[0].carried[0], 4);
    assert_int_equal(l.shares[0].held[2], 9);
    assert_int_equal(l.shares[0].lost[0], 0);
}

/* The clock of another process is ahead: what this one holds counts on, and for
 * its own claims too. */
static void who_is_a_day_behind_counts_himself(void **state)
{
    struct store a = named("a"), b = named("b");
    struct tr_ledger l = {0};
    struct tr_ledger_ask q;
    struct tr_err err;
    (void)state;

    a.alive = true;
    q = ask(TR_LEDGER_JOIN, &a, 100);
    q.per_day = true;
    q.day = 20000;
    tr_ledger_apply(&l, &a.key, &q, &err);
    q.op = TR_LEDGER_CLAIM;
    q.want[0] = 60;
    tr_ledger_apply(&l, &a.key, &q, &err);
    assert_true(q.granted);
    rewrite(&l);
    tell(&l, &a, 1);
    assert_int_equal(on_day(&l, &b, 20001, 100), 0); /* 100 are not left */
    q.want[0] = 40;
    tr_ledger_apply(&l, &b.key, &q, &err);
    assert_true(q.granted);
    rewrite(&l);
    tell(&l, &b, 1); /* nobody asks about himself */
    q.want[0] = 1;
    tr_ledger_apply(&l, &a.key, &q, &err);
    assert_false(q.granted);
}

static void a_damaged_ledger_is_never_an_empty_one(void **state)
{
    struct store s = {.round = 3, .spent = 70};
    struct tr_ledger l = {0}, back;
    struct tr_ledger_ask a = ask(TR_LEDGER_JOIN, &s, 100);
    struct tr_err err;
    struct tr_buf b;
    size_t taken = 0;
    (void)state;

    tr_ledger_apply(&l, &s.key, &a, &err);
    tr_buf_init(&b, 0);
    tr_ledger_write(&l, &b);
    for (size_t cut = 1; cut + 1 < b.n; cut++) /* the last line end may miss */
        assert_int_equal(tr_ledger_read(&back, tr_str(b.p, cut), "l", &err),
                         TR_CONFIG);
    for (size_t i = 0; i < b.n; i++)
        for (int bit = 0; bit < 8; bit++) {
            b.p[i] = (char)(b.p[i] ^ 1 << bit);
            taken += tr_ledger_read(&back, tr_buf_str(&b), "l",
                                    &err) == TR_OK &&
                     back.shares[0].held[0] != 70;
            b.p[i] = (char)(b.p[i] ^ 1 << bit);
        }
    assert_int_equal(taken, 0);
    assert_int_equal(tr_ledger_read(&back, TR_STR(""), "l", &err), TR_OK);
    assert_int_equal(back.n, 0);
    tr_buf_release(&b);
}

/* Whoever removes it, as for a damaged one, has the budget a second time. */
static void a_ledger_of_a_newer_program_is_left_alone(void **state)
{
    static const struct {
        const char *text;
        bool newer;
    } cases[] = {
        {"trommel ledger 4\nperiod 4 0\nend 0011223344556677\n", true},
        {"trommel ledger 12 and more\n", true},
        {"trommel ledger 3\nperiod 4 0\nend 0011223344556677\n", false},
        {"trommel ledger 2\nperiod 4 0\nend 0011223344556677\n", false},
        {"trommel ledger x\n", false},
        {"trommel ledger", false},
    };
    struct tr_ledger l;
    struct tr_err err;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(tr_ledger_read(&l, tr_str_c(cases[i].text), "l",
                                        &err), TR_CONFIG);
        if (!strstr(err.text, "newer trommel") != !cases[i].newer ||
            !strstr(err.text, "Remove the file") != cases[i].newer)
            fail_msg("%s: %s", cases[i].text, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_holds_whatever_happens),
        cmocka_unit_test(a_period_ends_when_the_job_does),
        cmocka_unit_test(a_finished_one_counts_while_others_work),
        cmocka_unit_test(a_clock_moved_back_grants_no_second_day),
        cmocka_unit_test(unknown_costs_stay_in_their_day),
        cmocka_unit_test(forgiving_grants_no_more_than_was_unknown),
        cmocka_unit_test(an_older_copy_takes_nothing_back),
        cmocka_unit_test(a_killed_run_is_no_older_copy),
        cmocka_unit_test(a_new_day_makes_no_older_copy),
        cmocka_unit_test(a_ledger_of_the_first_form_is_read),
        cmocka_unit_test(a_ledger_of_the_second_form_is_read),
        cmocka_unit_test(who_is_a_day_behind_counts_himself),
        cmocka_unit_test(a_damaged_ledger_is_never_an_empty_one),
        cmocka_unit_test(a_ledger_of_a_newer_program_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
