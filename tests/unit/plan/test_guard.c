/* test_guard.c - canaries, audits, doubts.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static struct tr_guard g;
static uint8_t slots[TR_GUESTS_MAX];

static void begin(enum tr_guard_mode mode)
{
    tr_guard_release(&g);
    tr_guard_init(&g, mode, 0);
}

static bool admit(const char *text, uint64_t set)
{
    return tr_guard_admit(&g, tr_str_c(text), set, false);
}

/* With so many answers by turns, from first on. */
static void admit_twelve(const char *name, uint64_t first, uint64_t answers)
{
    char text[8];

    for (uint64_t i = 0; i < 12; i++) {
        snprintf(text, sizeof text, "%s%02d", name, (int)i);
        assert_true(admit(text, first + i % answers));
    }
}

/* They have been in packs before: no trials any more. */
static void all_are_known(void)
{
    for (int i = 0; i < TR_GUEST_SLOTS; i++)
        g.guests[i].passed = 2;
}

static void packs_have_canaries_by_size(void **state)
{
    static const struct {
        const char *name;
        enum tr_guard_mode mode;
        uint32_t rows;
        bool doubted;
        uint32_t want;
    } cases[] = {
        {"off", TR_GUARD_OFF, 50, true, 0},
        {"alone", TR_GUARD_STRICT, 1, true, 0},
        {"very small", TR_GUARD_ON, 7, false, 0},
        {"small", TR_GUARD_ON, 8, false, 1},
        {"not small", TR_GUARD_ON, 15, false, 1},
        {"small and strict, too", TR_GUARD_STRICT, 8, false, 2},
        {"small and doubted", TR_GUARD_ON, 5, true, 2},
        {"small and strict", TR_GUARD_STRICT, 2, false, 2},
        {"usual", TR_GUARD_ON, 16, false, 2},
        {"47", TR_GUARD_ON, 47, false, 2},
        {"50", TR_GUARD_ON, 50, false, 3},
        {"large", TR_GUARD_ON, 120, false, 7},
        {"largest", TR_GUARD_ON, 450, false, 16},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(cases[i].mode);
        if (tr_guard_want(&g, cases[i].rows, cases[i].doubted) !=
            cases[i].want)
            fail_msg("%s: %u", cases[i].name,
                     tr_guard_want(&g, cases[i].rows, cases[i].doubted));
    }
}

static void two_answers_or_none(void **state)
{
    (void)state;
    begin(TR_GUARD_ON);
    assert_true(admit("a1", 1));
    assert_false(admit("a1", 1)); /* it is there */
    assert_true(admit("a2", 1));
    assert_true(tr_guard_free(&g) < 2);
    assert_int_equal(tr_guard_pick(&g, 20, 2, 14, 5, slots), 0);
    assert_true(admit("b1", 2));
    assert_int_equal(tr_guard_free(&g), 2);
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint32_t n = tr_guard_pick(&g, 20, 2, 14, seed, slots);

        assert_int_equal(n, 2);
        assert_true(g.guests[slots[0]].set != g.guests[slots[1]].set);
        tr_guard_leave(&g, slots, n);
    }
}

/* However many canaries have the same answer, each answer is drawn as often:
 * an attack on rare labels is seen as well. */
static void answers_are_drawn_alike(void **state)
{
    int drawn[4] = {0};
    char name[16];

    (void)state;
    begin(TR_GUARD_ON);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "a%d", i);
        assert_true(admit(name, 0));
    }
    assert_false(admit("a8", 0)); /* more of one kind add nothing */
    for (uint32_t s = 1; s < 4; s++) {
        snprintf(name, sizeof name, "b%u", s);
        assert_true(admit(name, s));
    }
    all_are_known();
    for (uint64_t seed = 0; seed < 4000; seed++) {
        uint32_t n = tr_guard_pick(&g, 20, 2, 14, seed, slots);

        for (uint32_t i = 0; i < n; i++)
            drawn[g.guests[slots[i]].set]++;
        tr_guard_leave(&g, slots, n);
    }
    for (int s = 0; s < 4; s++)
        assert_in_range(drawn[s], 1800, 2200);
}

static struct tr_guest_said said(enum tr_said what, uint64_t set)
{
    return (struct tr_guest_said){what, set};
}

/* One canary sees any constant: its own answer too, if a pack hardly has it
 * throughout. */
static void small_packs_have_one_of_a_rare_answer(void **state)
{
    static const struct {
        const char *name;
        uint32_t common; /* of 100 rows; the rest has the other answer */
        uint32_t rows, canaries;
    } cases[] = {
        {"half and half, 8", 50, 8, 2},
        {"half and half, 12", 50, 12, 1},
        {"one common, 8", 90, 8, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t sets[100], alike[20];
        uint32_t n;

        begin(TR_GUARD_ON);
        admit("a", 0);
        admit("b", 1);
        all_are_known();
        for (uint32_t k = 0; k < 100; k++)
            sets[k] = k >= cases[i].common;
        tr_guard_accept(&g, slots, NULL, 0, sets, 100, 100);
        for (uint64_t seed = 0; seed < 50; seed++) {
            n = tr_guard_pick(&g, cases[i].rows, 1, 14, seed, slots);
            if (n != cases[i].canaries)
                fail_msg("%s: %u", cases[i].name, n);
            if (cases[i].common == 90)
                assert_int_equal(g.guests[slots[0]].set, 1);
            for (uint32_t x = 0; x < 2; x++) {
                struct tr_guest_said s[2] = {said(TR_SAID_SET, x),
                                             said(TR_SAID_SET, x)};

                for (uint32_t k = 0; k < cases[i].rows; k++)
                    alike[k] = x;
                if (tr_guard_judge(&g, slots, s, n, alike, cases[i].rows,
                                   cases[i].rows) == TR_GUARD_FINE)
                    fail_msg("%s: all %u", cases[i].name, x);
            }
            tr_guard_leave(&g, slots, n);
        }
    }
}

/* As many for the rows as at eight; what one says is no proof, but a wrong
 * answer is. */
static void smaller_packs_have_one_in_some(void **state)
{
    static const struct {
        const char *name;
        enum tr_guard_mode mode;
        uint32_t rows, low, high; /* of 4,000 packs */
    } cases[] = {
        {"1 row", TR_GUARD_ON, 1, 0, 0},
        {"2 rows", TR_GUARD_ON, 2, 900, 1100},
        {"4 rows", TR_GUARD_ON, 4, 1850, 2150},
        {"7 rows", TR_GUARD_ON, 7, 3400, 3600},
        {"strict has two, or none", TR_GUARD_STRICT, 4, 0, 0},
    };
    static const uint64_t alike[7] = {1, 1, 1, 1, 1, 1, 1};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t with = 0;

        begin(cases[i].mode);
        admit("a", 1);
        admit("b", 2);
        all_are_known();
        for (uint64_t seed = 0; seed < 4000; seed++) {
            uint32_t n = tr_guard_pick(&g, cases[i].rows, 0, 14, seed, slots);
            struct tr_guest_said right, wrong, nothing;

            with += n;
            tr_guard_leave(&g, slots, n);
            if (!n)
                continue;
            assert_int_equal(n, 1);
            right = said(TR_SAID_SET, g.guests[slots[0]].set);
            wrong = said(TR_SAID_SET, 3);
            nothing = said(TR_SAID_NOTHING, 0);
            assert_int_equal(tr_guard_judge(&g, slots, &right, 1, alike,
                                            cases[i].rows, cases[i].rows),
                             TR_GUARD_FINE);
            assert_int_equal(tr_guard_judge(&g, slots, &wrong, 1, alike,
                                            cases[i].rows, cases[i].rows),
                             TR_GUARD_WRONG);
            assert_int_equal(tr_guard_judge(&g, slots, &nothing, 1, alike,
                                            cases[i].rows, cases[i].rows),
                             TR_GUARD_SILENT);
        }
        if (with < cases[i].low || with > cases[i].high)
            fail_msg("%s: %u", cases[i].name, with);
    }
}

/* Every constant answer, for every pair of canaries: none passes. */
static void no_constant_answer_passes(void **state)
{
    enum { LABELS = 5, ROWS = 20 };

    (void)state;
    begin(TR_GUARD_ON);
    for (uint32_t s = 0; s < LABELS; s++) {
        const char *names[] = {"a", "b", "c", "d", "e"};

        admit(names[s], s);
    }
    for (uint64_t seed = 0; seed < 100; seed++) {
        uint32_t n = tr_guard_pick(&g, 20, 2, 14, seed, slots);

        for (uint32_t x = 0; x < LABELS; x++)
            for (int quiet = 0; quiet < 4; quiet++) {
                struct tr_guest_said s[TR_GUESTS_MAX];
                uint64_t sets[ROWS];

                for (uint32_t i = 0; i < n; i++)
                    s[i] = said(quiet & 1 << i ? TR_SAID_NOTHING : TR_SAID_SET,
                                x);
                for (int i = 0; i < ROWS; i++)
                    sets[i] = x;
                if (tr_guard_judge(&g, slots, s, n, sets, ROWS, ROWS) ==
                    TR_GUARD_FINE)
                    fail_msg("all %u, quiet %d, seed %d", x, quiet, (int)seed);
            }
        tr_guard_leave(&g, slots, n);
    }
}

static void the_verdict_on_a_pack(void **state)
{
    static const uint64_t mixed[4] = {1, 2, 3, 1}, alike[4] = {1, 1, 1, 1};
    static const struct {
        const char *name;
        enum tr_guard_mode mode;
        enum tr_said a, b;
        uint64_t set_a, set_b;
        const uint64_t *sets;
        enum tr_guard_verdict verdict;
    } cases[] = {
        {"both right", TR_GUARD_ON, TR_SAID_SET, TR_SAID_SET, 1, 2, mixed,
         TR_GUARD_FINE},
        {"both right, all rows alike", TR_GUARD_ON, TR_SAID_SET, TR_SAID_SET,
         1, 2, alike, TR_GUARD_FINE},
        {"one wrong", TR_GUARD_ON, TR_SAID_SET, TR_SAID_SET, 1, 1, mixed,
         TR_GUARD_WRONG},
        {"swapped", TR_GUARD_ON, TR_SAID_SET, TR_SAID_SET, 2, 1, mixed,
         TR_GUARD_WRONG},
        {"nonsense", TR_GUARD_ON, TR_SAID_SET, TR_SAID_NONSENSE, 1, 0, mixed,
         TR_GUARD_WRONG},
        {"one silent, rows differ", TR_GUARD_ON, TR_SAID_SET, TR_SAID_NOTHING,
         1, 0, mixed, TR_GUARD_FINE},
        {"one silent, rows say what the other says", TR_GUARD_ON, TR_SAID_SET,
         TR_SAID_NOTHING, 1, 0, alike, TR_GUARD_SILENT},
        {"both silent", TR_GUARD_ON, TR_SAID_NOTHING, TR_SAID_NOTHING, 0, 0,
         mixed, TR_GUARD_SILENT},
        {"strict: one silent", TR_GUARD_STRICT, TR_SAID_SET, TR_SAID_NOTHING,
         1, 0, mixed, TR_GUARD_SILENT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_guest_said s[2];
        uint32_t n;

        begin(cases[i].mode);
        admit("a", 1);
        admit("b", 2);
        n = tr_guard_pick(&g, 20, 2, 14, i, slots);
        assert_int_equal(n, 2);
        for (uint32_t k = 0; k < 2; k++)
            s[k] = g.guests[slots[k]].set == 1
                       ? said(cases[i].a, cases[i].set_a)
                       : said(cases[i].b, cases[i].set_b);
        if (tr_guard_judge(&g, slots, s, n, cases[i].sets, 4, 20) !=
            cases[i].verdict)
            fail_msg("%s", cases[i].name);
        tr_guard_leave(&g, slots, n);
    }
}

/* One pack, both canaries right; what is under way stays so. */
static uint32_t send(uint64_t seed)
{
    return tr_guard_pick(&g, 20, 2, 2, seed, slots);
}

static void come_back(uint32_t n, bool right)
{
    struct tr_guest_said s[2];
    static const uint64_t sets[] = {1, 2};
    uint16_t id;

    for (uint32_t i = 0; i < n; i++)
        s[i] = said(TR_SAID_SET, right ? g.guests[slots[i]].set : 7);
    if (right) {
        tr_guard_accept(&g, slots, s, n, sets, 2, 20);
    } else {
        id = tr_guard_doubt(&g, TR_GUARD_WRONG, slots, s, n, 2, 0);
        tr_guard_reask(&g, id, false);
        tr_guard_reask(&g, id, false);
    }
    tr_guard_leave(&g, slots, n);
}

/* A new canary may be a hostile text: it is first among all kinds. */
static void a_new_canary_is_tried_among_all_kinds(void **state)
{
    uint32_t n;

    (void)state;
    begin(TR_GUARD_ON);
    for (uint32_t s = 0; s < 5; s++) {
        const char *names[] = {"a", "b", "c", "d", "e"};

        admit(names[s], s);
    }
    n = tr_guard_pick(&g, 20, 2, 14, 1, slots);
    assert_int_equal(n, 5);
    tr_guard_leave(&g, slots, n);
    all_are_known();
    n = tr_guard_pick(&g, 20, 2, 14, 1, slots);
    assert_int_equal(n, 2);
    tr_guard_leave(&g, slots, n);
}

/* Few packs at first: a text that is no good does little harm. */
static void trust_is_earned(void **state)
{
    uint8_t first[TR_GUESTS_MAX];
    int under_way = 0;

    (void)state;
    begin(TR_GUARD_ON);
    admit("a", 1);
    admit("b", 2);
    while (send((uint64_t)under_way)) {
        memcpy(first, slots, sizeof first);
        under_way++;
        assert_true(under_way < 100);
    }
    assert_int_equal(under_way, 2);
    assert_true(tr_guard_free(&g) < 2);
    assert_true(tr_guard_will_be(&g));
    memcpy(slots, first, sizeof first);
    come_back(2, true);
    assert_int_equal(tr_guard_free(&g), 2);
    for (under_way = 0; send((uint64_t)under_way); under_way++)
        assert_true(under_way < 100);
    assert_int_equal(under_way, 2); /* one is back, and one more */
}

static void a_canary_that_cries_in_vain_is_retired(void **state)
{
    (void)state;
    begin(TR_GUARD_ON);
    admit("a", 1);
    admit("b", 2);
    come_back(send(1), true);
    come_back(send(2), false);
    assert_int_equal(g.counts.doubts, 1);
    assert_int_equal(g.counts.false_doubts, 1);
    assert_int_equal(g.counts.retired, 2);
    assert_true(tr_guard_free(&g) < 2);
    assert_true(admit("a", 1)); /* its place is free */
}

static void a_doubt_that_was_right_retires_nobody(void **state)
{
    struct tr_guest_said s[2];
    uint32_t n;
    uint16_t id;

    (void)state;
    begin(TR_GUARD_ON);
    admit("a", 1);
    admit("b", 2);
    come_back(send(1), true);
    n = send(2);
    s[0] = s[1] = said(TR_SAID_SET, 1);
    id = tr_guard_doubt(&g, TR_GUARD_WRONG, slots, s, n, 3, 0);
    tr_guard_leave(&g, slots, n);
    tr_guard_reask(&g, id, false);
    tr_guard_again(&g, id);
    tr_guard_reask(&g, id, false);
    assert_int_equal(g.counts.false_doubts, 0);
    assert_int_equal(g.counts.retired, 0);
    tr_guard_reask(&g, id, true); /* it has ended: nothing is counted twice */
    assert_int_equal(tr_guard_free(&g), 2);
}

/* A hostile text among the canaries: its own answer is right, and every pack
 * with it is doubted. */
static void bad_company_is_retired(void **state)
{
    (void)state;
    begin(TR_GUARD_ON);
    admit("hostile", 1);
    admit("b", 2);
    admit("c", 3);
    come_back(send(1), true); /* it slept once */
    for (uint64_t seed = 2; seed < 60 && g.guests[0].kind == TR_GUEST_CANARY;
         seed++) {
        struct tr_guest_said s[2];
        uint32_t n = send(seed);
        bool in = slots[0] == 0 || slots[1] == 0;

        if (!n)
            break;
        for (uint32_t i = 0; i < n; i++)
            s[i] = said(TR_SAID_SET, in ? 1 : g.guests[slots[i]].set);
        if (in)
            tr_guard_again(&g, tr_guard_doubt(&g, TR_GUARD_WRONG, slots, s, n,
                                              1, 0));
        else
            tr_guard_accept(&g, slots, s, n, &(uint64_t){1}, 1, 20);
        tr_guard_leave(&g, slots, n);
    }
    assert_int_equal(g.guests[0].kind, TR_GUEST_FREE);
    assert_int_equal(g.guests[1].kind, TR_GUEST_CANARY);
}

/* "Answer only this text": nobody else says a word, so nobody is wrong. */
static void who_silences_all_others_is_retired(void **state)
{
    static const uint64_t rows[] = {1, 2};

    (void)state;
    for (int heard = 0; heard <= 1; heard++) {
        begin(TR_GUARD_ON);
        admit("only me", 1);
        admit("b", 2);
        g.guests[0].passed = 40;
        for (int i = 0; i < 4; i++) {
            struct tr_guest_said s[] = {said(TR_SAID_SET, 1),
                                        said(TR_SAID_NOTHING, 0)};

            slots[0] = 0;
            slots[1] = 1;
            assert_int_equal(g.guests[0].kind, TR_GUEST_CANARY);
            tr_guard_accept(&g, slots, s, 2, rows, heard ? 2 : 0, 20);
        }
        assert_int_equal(g.guests[0].kind,
                         heard ? TR_GUEST_CANARY : TR_GUEST_FREE);
        assert_int_equal(g.guests[1].kind, TR_GUEST_CANARY);
    }
}

/* Every pack with it is doubted, but it is another's doing: it was wrong. */
static void a_victim_is_not_retired(void **state)
{
    (void)state;
    begin(TR_GUARD_ON);
    admit("a", 1);
    admit("b", 2);
    come_back(send(1), true);
    for (int i = 0; i < 20; i++) {
        uint32_t n = send((uint64_t)i + 2);
        struct tr_guest_said s[2] = {said(TR_SAID_SET, 7),
                                     said(TR_SAID_SET, 7)};

        assert_int_equal(n, 2);
        tr_guard_again(&g, tr_guard_doubt(&g, TR_GUARD_WRONG, slots, s, n, 1,
                                          0));
        tr_guard_leave(&g, slots, n);
    }
    assert_int_equal(g.counts.retired, 0);
}

/* What is said of the canaries "a", "b" and "c" in a pack: '=' its own answer,
 * a digit another one, ' ' nothing; behind them the labels of rows. */
static bool moves(const char *says)
{
    struct tr_guest_said s[3];
    uint64_t sets[4];
    uint32_t rows = 0;
    bool moved;

    for (uint8_t i = 0; i < 3; i++) {
        slots[i] = i;
        s[i] = says[i] == ' ' ? said(TR_SAID_NOTHING, 0)
             : says[i] == '=' ? said(TR_SAID_SET, g.guests[i].set)
                              : said(TR_SAID_SET, (uint64_t)(says[i] - '0'));
    }
    for (; says[3 + rows]; rows++)
        sets[rows] = (uint64_t)(says[3 + rows] - '0');
    moved = tr_guard_moved(&g, slots, s, 3, sets, rows);
    g.counts.doubts++;
    return moved;
}

/* Rows change, and so does what they do; a model does not change back. */
static void another_model_is_told_from_rows(void **state)
{
    static const struct {
        const char *name, *packs[8];
        int quiet; /* packs behind the third */
        bool moved;
    } cases[] = {
        {"never", {"===12", "===12", "===12"}, 0, false},
        {"for good", {"65612", "65612", "65612"}, 0, true},
        {"two are too few", {"65=12", "65=12", "65=12", "65=12"}, 0, false},
        {"twice is no habit", {"65612", "65612", "===12"}, 0, false},
        {"all with one label", {"77712", "77712", "77712"}, 0, false},
        {"rows as well", {"65655", "65655", "65655"}, 0, false},
        {"rows as well, and who is otherwise", {"65655", "65655", "65655",
                                                "5==12", "5==12"}, 0, false},
        {"no rows", {"656", "656", "656"}, 0, false},
        {"never alike", {"65612", "56512", "65612", "56512", "65612"}, 0,
         false},
        {"right in between", {"65612", "65612", "===12", "65612", "65612"}, 0,
         false},
        {"silence says nothing", {"65612", "   12", "65612", "65612"}, 0,
         true},
        {"long ago", {"65=12", "65=12", "65=12", "==612", "==612", "==612"},
         300, false},
        {"not long ago", {"65=12", "65=12", "65=12", "==612", "==612",
                          "==612"}, 90, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool moved = false;

        begin(TR_GUARD_ON);
        admit("a", 1);
        admit("b", 2);
        admit("c", 3);
        for (int passed = 1; passed <= 2; passed++) {
            for (int k = 0; k < 3; k++)
                g.guests[k].passed = (uint32_t)passed;
            g.counts.packs += 1000;
            moved = false;
            for (int k = 0; k < 8 && cases[i].packs[k]; k++) {
                moved = moves(cases[i].packs[k]) || moved;
                g.counts.packs += k == 2 ? cases[i].quiet : 0;
            }
            for (int k = 0; k < 3; k++)
                g.guests[k].in_row = 0;
            if (moved != (cases[i].moved && passed == 2))
                fail_msg("%s, right %d times before", cases[i].name, passed);
        }
    }
}

/* It breaks the others in each pack, until it is found out. */
static void a_new_canary_may_be_to_blame(void **state)
{
    (void)state;
    for (uint32_t passed = 1; passed <= 2; passed++) {
        begin(TR_GUARD_ON);
        admit("a", 1);
        admit("b", 2);
        admit("new", 3);
        all_are_known();
        g.guests[2].passed = passed;
        g.counts.packs = 1000;
        for (int i = 0; i < 3; i++)
            moves("65=12");
        assert_int_equal(g.moved[1].at > 0, passed == 2);
        assert_int_equal(g.moved[0].at > 0, passed == 2);
    }
}

/* Alone its rows say the same: so it is the canary's answer that is another
 * one. Not in an attack: that may swap what no row of the pack has. */
static void a_doubt_in_vain_is_a_move(void **state)
{
    static const struct {
        int in_row; /* 0: it was nonsense */
        uint32_t rows;
        bool attack, moved;
    } cases[] = {{0, 8, false, false}, {1, 8, false, true},
                 {1, 7, false, false}, {1, 8, true, false},
                 {2, 8, false, true},  {2, 8, true, false},
                 {3, 8, true, true}};
    static const char *const names[] = {"a", "b", "c"};
    static const uint64_t rows[] = {1, 2};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin(TR_GUARD_ON);
        g.counts.packs = 1000;
        g.steered_at = cases[i].attack ? 900 : 700;
        for (uint64_t k = 0; k < 3; k++) {
            struct tr_guest_said s =
                said(cases[i].in_row ? TR_SAID_SET : TR_SAID_NONSENSE, k + 5);
            uint8_t slot = 0; /* the one before has been retired */
            uint16_t id = 0;

            admit(names[k], k + 1);
            g.guests[0].passed = 2;
            for (int n = 0; n < cases[i].in_row || !n; n++) {
                tr_guard_moved(&g, &slot, &s, 1, rows, 2);
                id = tr_guard_doubt(&g, TR_GUARD_WRONG, &slot, &s, 1,
                                    cases[i].rows, 0);
            }
            for (uint32_t r = 0; r < cases[i].rows; r++)
                tr_guard_reask(&g, id, false);
            assert_int_equal(g.counts.retired, k + 1);
            assert_int_equal(g.moved[k].at > 0, cases[i].moved);
            assert_int_equal(k < 2 && g.moved[k + 1].at, 0); /* once */
        }
        assert_int_equal(tr_guard_moved(&g, slots, NULL, 0, NULL, 0),
                         cases[i].moved);
    }
}

static void five_answers(void)
{
    const char *names[] = {"a", "b", "c", "d", "e"};

    begin(TR_GUARD_ON);
    for (uint32_t s = 0; s < 5; s++)
        admit(names[s], s);
    all_are_known();
}

static uint16_t doubt_a_pack_of(uint32_t fresh)
{
    return tr_guard_doubt(&g, TR_GUARD_WRONG, NULL, NULL, 0, 1, fresh);
}

static void quiet_rows(uint32_t n)
{
    const uint64_t set = 1;

    for (; n; n--)
        tr_guard_accept(&g, slots, NULL, 0, &set, 1, 1);
}

static void an_alarm_begins_and_ends(void **state)
{
    uint16_t id;

    (void)state;
    five_answers();
    assert_false(tr_guard_alarmed(&g));
    g.sent = 5000;
    assert_int_equal(tr_guard_want(&g, 16, false), 2);
    id = doubt_a_pack_of(50);
    assert_true(tr_guard_alarmed(&g)); /* while it is not known yet */
    assert_int_equal(tr_guard_want(&g, 16, false), 5);
    assert_int_equal(tr_guard_want(&g, 3, false), 5);
    assert_int_equal(tr_guard_pack_most(&g), 45);
    tr_guard_reask(&g, id, false);
    assert_false(tr_guard_alarmed(&g)); /* in vain */
    assert_int_equal(tr_guard_pack_most(&g), 0);
    tr_guard_reask(&g, doubt_a_pack_of(50), true);
    quiet_rows(TR_GUARD_QUIET / 2 - 1);
    assert_true(tr_guard_alarmed(&g));
    quiet_rows(1);
    assert_false(tr_guard_alarmed(&g));
}

/* Nothing is known of a file at first. */
static void the_first_packs_have_more(void **state)
{
    static const struct {
        int64_t sent;
        uint32_t rows, want;
    } cases[] = {{0, 4, 0}, {0, 12, 1}, {0, 16, 4}, {0, 50, 5}, {1023, 50, 5},
                 {1024, 50, 3}, {1024, 16, 2}};
    uint32_t n;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        five_answers();
        g.sent = cases[i].sent;
        if (tr_guard_want(&g, cases[i].rows, false) != cases[i].want)
            fail_msg("%u rows behind %d: %u", cases[i].rows, (int)g.sent,
                     tr_guard_want(&g, cases[i].rows, false));
    }
    five_answers();
    n = tr_guard_pick(&g, 50, 5, 20, 7, slots);
    assert_int_equal(n, 5);
    assert_int_equal(g.sent, 50);
}

/* Packs go to the square root of the distance between two that were steered,
 * or so. */
static void an_alarm_finds_the_size_of_packs(void **state)
{
    static const struct {
        const char *name;
        uint32_t distance, least, most;
    } cases[] = {
        {"one in 1,000", 1000, 26, 50},
        {"one in 100", 100, 9, 15},
        {"one in 25", 25, 4, 8},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t pack;

        five_answers();
        for (int k = 0; k < 40; k++) {
            pack = tr_guard_pack_most(&g) ? tr_guard_pack_most(&g) : 50;
            tr_guard_reask(&g, doubt_a_pack_of(pack), true);
            quiet_rows(cases[i].distance);
        }
        pack = tr_guard_pack_most(&g);
        if (pack < cases[i].least || pack > cases[i].most)
            fail_msg("%s: %u", cases[i].name, pack);
    }
}

/* Those under way say all the same: they say nothing about smaller ones. */
static void many_doubts_at_once_are_as_one(void **state)
{
    (void)state;
    five_answers();
    for (int i = 0; i < 40; i++)
        tr_guard_reask(&g, doubt_a_pack_of(50), true);
    assert_int_equal(tr_guard_pack_most(&g), 25);
    tr_guard_reask(&g, doubt_a_pack_of(0), true); /* of rows doubted before */
    assert_int_equal(tr_guard_pack_most(&g), 25);
    five_answers();
    doubt_a_pack_of(400);
    assert_true(tr_guard_alarmed(&g));
    for (int i = 0; i < 20; i++)
        doubt_a_pack_of(2);
    assert_int_equal(tr_guard_pack_most(&g), 1);
}

/* A retired canary keeps its text until the last pack with it is back. */
static void a_slot_is_not_used_while_it_is_under_way(void **state)
{
    uint8_t mine[TR_GUESTS_MAX];
    uint32_t n;

    (void)state;
    begin(TR_GUARD_ON);
    admit("a", 1);
    admit("b", 2);
    n = send(1);
    memcpy(mine, slots, sizeof mine);
    come_back(send(2), false);
    assert_int_equal(g.guests[mine[0]].kind, TR_GUEST_GONE);
    assert_non_null(g.guests[mine[0]].text);
    tr_guard_leave(&g, mine, n);
    assert_int_equal(g.guests[mine[0]].kind, TR_GUEST_FREE);
}

static void usual_labels(void)
{
    uint64_t sets[100];

    for (uint32_t i = 0; i < 100; i++)
        sets[i] = i % 4;
    for (int i = 0; i < 3; i++)
        tr_guard_accept(&g, slots, NULL, 0, sets, 100, 100);
}

static void labels_far_from_the_usual(void **state)
{
    static const struct {
        const char *name;
        uint32_t ones, rest; /* rows with label 1, others by turns */
        enum tr_guard_verdict verdict;
    } cases[] = {
        {"all one", 16, 0, TR_GUARD_UNLIKELY},
        {"as usual", 4, 12, TR_GUARD_FINE},
        {"a few more", 8, 8, TR_GUARD_FINE},
        {"all one, but few", 7, 0, TR_GUARD_FINE},
        {"most of many", 60, 40, TR_GUARD_UNLIKELY},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t sets[128];
        uint32_t n = 0;

        begin(TR_GUARD_ON);
        usual_labels();
        while (n < cases[i].ones)
            sets[n++] = 1;
        for (uint32_t k = 0; k < cases[i].rest; k++)
            sets[n++] = k % 4;
        if (tr_guard_judge(&g, NULL, NULL, 0, sets, n, n) != cases[i].verdict)
            fail_msg("%s", cases[i].name);
    }
}

/* Sets of several labels are told apart, too. */
static void combinations_far_from_the_usual(void **state)
{
    uint64_t sets[100];

    (void)state;
    begin(TR_GUARD_ON);
    for (uint64_t i = 0; i < 100; i++)
        sets[i] = TR_SET_COMBINED + i % 6;
    for (int i = 0; i < 3; i++)
        tr_guard_accept(&g, slots, NULL, 0, sets, 100, 100);
    assert_int_equal(tr_guard_judge(&g, NULL, NULL, 0, sets, 20, 20),
                     TR_GUARD_FINE);
    for (int i = 0; i < 20; i++)
        sets[i] = TR_SET_COMBINED + 3;
    assert_int_equal(tr_guard_judge(&g, NULL, NULL, 0, sets, 20, 20),
                     TR_GUARD_UNLIKELY);
}

/* A sorted file looks odd in every pack: it is asked about three times. */
static void a_sorted_file_is_soon_believed(void **state)
{
    uint64_t sets[16];
    int doubts = 0;

    (void)state;
    begin(TR_GUARD_ON);
    usual_labels();
    for (int i = 0; i < 16; i++)
        sets[i] = 200;
    for (int pack = 0; pack < 20; pack++) {
        uint16_t id;

        if (tr_guard_judge(&g, NULL, NULL, 0, sets, 16, 16) == TR_GUARD_FINE)
            continue;
        doubts++;
        id = tr_guard_doubt(&g, TR_GUARD_UNLIKELY, NULL, NULL, 0, 16, 16);
        for (int i = 0; i < 16; i++)
            tr_guard_reask(&g, id, false);
    }
    assert_int_equal(doubts, 3);
}

static void scouts_are_few(void **state)
{
    int64_t scouts = 0;

    (void)state;
    begin(TR_GUARD_ON);
    assert_false(tr_guard_wants_scout(&g, 150)); /* not worth it */
    while (tr_guard_wants_scout(&g, 10000) && scouts < 100) {
        g.scouting++;
        g.counts.scouts++;
        scouts++;
    }
    assert_int_equal(scouts, 12);
    begin(TR_GUARD_ON);
    for (scouts = 0; tr_guard_wants_scout(&g, 300) && scouts < 100; scouts++)
        g.counts.scouts++;
    assert_int_equal(scouts, 2); /* one in 192 */
    begin(TR_GUARD_OFF);
    assert_false(tr_guard_wants_scout(&g, 10000));
}

/* Of answers that rows have and no canary has, no longer than it is so; a pool
 * that is full of one answer would not see the others change places. */
static void in_an_alarm_scouts_are_sought_for_all_answers(void **state)
{
    static const uint64_t seen[] = {1, 2, 3, 4, 5};

    (void)state;
    begin(TR_GUARD_ON);
    admit_twelve("t", 1, 4);
    assert_false(admit("more of the same", 1));
    tr_guard_accept(&g, slots, NULL, 0, seen, 5, 5);
    assert_false(tr_guard_wants_scout(&g, 10000));
    doubt_a_pack_of(50);
    assert_true(tr_guard_wants_scout(&g, 10000));
    assert_true(admit("the fifth", 5));
    assert_false(tr_guard_wants_scout(&g, 10000));
    assert_true(admit("its heir", 5));
    assert_false(admit("one too many", 5));
}

static void answers_that_are_lacking_are_found_among_the_doubted(void **state)
{
    (void)state;
    begin(TR_GUARD_ON);
    admit_twelve("t", 1, 4);
    admit_twelve("s", 5, 6);
    assert_int_equal(g.pool, 24);
    assert_int_equal(g.kinds, 10);
    assert_false(tr_guard_lacks(&g, tr_str_c("new"), 20)); /* no alarm */
    doubt_a_pack_of(50);
    assert_true(tr_guard_lacks(&g, tr_str_c("new"), 20));
    assert_false(tr_guard_lacks(&g, tr_str_c("new"), 5));
    assert_false(tr_guard_lacks(&g, tr_str_c("too long"), 20));
    g.strangers = true; /* it is of one of them */
    assert_false(tr_guard_lacks(&g, tr_str_c("new"), 20));
    g.strangers = false;
    /* One of the three that say the same goes for it. */
    assert_false(admit("t00", 20));
    assert_int_equal(g.pool, 24);
    assert_true(admit("new", 20));
    assert_int_equal(g.pool, 24);
    assert_int_equal(g.kinds, 11);
    assert_int_equal(g.counts.retired, 1);
    assert_false(admit("another", 20));
}

/* 300 audits one after another, of which a share differs. */
static int alarms(int of_1000)
{
    struct tr_rng rng = {77};
    int n = 0;

    begin(TR_GUARD_ON);
    admit("a", 1);
    admit("b", 2);
    for (int i = 0; i < 300; i++) {
        char text[16];
        struct tr_guest_said s[TR_GUESTS_MAX];
        uint32_t k;

        snprintf(text, sizeof text, "row %d", i);
        tr_guard_audit(&g, tr_str_c(text), 3, 0.0);
        k = tr_guard_pick(&g, 20, 2, 14, (uint64_t)i, slots);
        assert_int_equal(k, 3);
        for (uint32_t c = 0; c < k; c++) {
            const struct tr_guest *t = &g.guests[slots[c]];
            bool other = t->kind == TR_GUEST_AUDIT &&
                         (int)tr_rng_below(&rng, 1000) < of_1000;

            s[c] = said(TR_SAID_SET, t->set + other);
        }
        n += tr_guard_accept(&g, slots, s, k, &(uint64_t){1}, 1, 50);
        tr_guard_leave(&g, slots, k);
    }
    assert_int_equal(g.counts.audits, 300);
    return n;
}

static void audits_make_packs_smaller(void **state)
{
    (void)state;
    assert_int_equal(alarms(0), 0);
    assert_int_equal(alarms(20), 0);
    assert_int_equal(g.pack_cap, 0);
    assert_true(alarms(200) >= 1);
    assert_in_range(g.pack_cap, 4, 25);
}

static void one_row_in_a_hundred_is_audited(void **state)
{
    (void)state;
    begin(TR_GUARD_ON);
    tr_guard_audit(&g, TR_STR("x"), 1, 0.5);
    tr_guard_audit(&g, TR_STR("y"), 1, 0.02);
    assert_int_equal(g.guests[0].kind, TR_GUEST_FREE);
    tr_guard_audit(&g, TR_STR("x"), 1, 0.009);
    assert_int_equal(g.guests[0].kind, TR_GUEST_AUDIT);
    begin(TR_GUARD_STRICT);
    tr_guard_audit(&g, TR_STR("y"), 1, 0.02);
    assert_int_equal(g.guests[0].kind, TR_GUEST_AUDIT);
}

static void the_interval_holds_the_share(void **state)
{
    static const struct {
        int64_t n, differ;
        double low, high;
    } cases[] = {
        {0, 0, 0, 1}, {100, 0, 0, 0.037}, {100, 5, 0.0215, 0.1118},
        {10, 10, 0.7225, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double low, high;

        tr_guard_interval(cases[i].n, cases[i].differ, &low, &high);
        if (low < cases[i].low - 1e-3 || low > cases[i].low + 1e-3 ||
            high < cases[i].high - 1e-3 || high > cases[i].high + 1e-3)
            fail_msg("%d of %d: %f..%f", (int)cases[i].differ,
                     (int)cases[i].n, low, high);
    }
}

static int empty(void **state)
{
    (void)state;
    tr_guard_release(&g);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_have_canaries_by_size),
        cmocka_unit_test(two_answers_or_none),
        cmocka_unit_test(answers_are_drawn_alike),
        cmocka_unit_test(small_packs_have_one_of_a_rare_answer),
        cmocka_unit_test(smaller_packs_have_one_in_some),
        cmocka_unit_test(no_constant_answer_passes),
        cmocka_unit_test(the_verdict_on_a_pack),
        cmocka_unit_test(a_new_canary_is_tried_among_all_kinds),
        cmocka_unit_test(trust_is_earned),
        cmocka_unit_test(a_canary_that_cries_in_vain_is_retired),
        cmocka_unit_test(a_doubt_that_was_right_retires_nobody),
        cmocka_unit_test(bad_company_is_retired),
        cmocka_unit_test(who_silences_all_others_is_retired),
        cmocka_unit_test(a_victim_is_not_retired),
        cmocka_unit_test(another_model_is_told_from_rows),
        cmocka_unit_test(a_new_canary_may_be_to_blame),
        cmocka_unit_test(a_doubt_in_vain_is_a_move),
        cmocka_unit_test(the_first_packs_have_more),
        cmocka_unit_test(an_alarm_begins_and_ends),
        cmocka_unit_test(an_alarm_finds_the_size_of_packs),
        cmocka_unit_test(many_doubts_at_once_are_as_one),
        cmocka_unit_test(a_slot_is_not_used_while_it_is_under_way),
        cmocka_unit_test(labels_far_from_the_usual),
        cmocka_unit_test(combinations_far_from_the_usual),
        cmocka_unit_test(a_sorted_file_is_soon_believed),
        cmocka_unit_test(scouts_are_few),
        cmocka_unit_test(in_an_alarm_scouts_are_sought_for_all_answers),
        cmocka_unit_test(answers_that_are_lacking_are_found_among_the_doubted),
        cmocka_unit_test(audits_make_packs_smaller),
        cmocka_unit_test(one_row_in_a_hundred_is_audited),
        cmocka_unit_test(the_interval_holds_the_share),
    };

    return cmocka_run_group_tests(tests, NULL, empty);
}
