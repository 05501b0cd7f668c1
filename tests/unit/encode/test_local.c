/* test_local.c - the local lane as the engine uses it.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "encode/local.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static char model[1024];

/* A tr_str as a constant. */
#define S(literal) {(literal), sizeof(literal) - 1}

static const struct tr_local_label labels[] = {
    {S("sports"), S("matches, players, teams"), NULL, 0},
    {S("cooking"), S("recipes, kitchens, meals"), NULL, 0},
    {S("money"), S("banks, prices, shares, taxes"), NULL, 0},
};

static const struct tr_str texts[] = {
    S("The goalkeeper saved two penalties in the final."),
    S("Stir the sauce until it thickens, then add basil."),
    S("Interest rates rose by a quarter of a point."),
    S("The goalkeeper saved two penalties in the final."),
    S("Bake the bread for forty minutes."),
};
static const uint32_t gold[] = {0, 1, 2, 0, 1};
#define TEXTS (sizeof texts / sizeof *texts)

static struct tr_lane *open_lane(const struct tr_local_label *with, size_t n)
{
    struct tr_local_opts o = {.threads = 2, .labels = with, .label_count = n};
    struct tr_lane *lane;
    struct tr_err err;

    if (!*model)
        skip(); /* built without the local model */
    if (tr_local_lane_open(&lane, &o, &err) != TR_OK)
        fail_msg("%s", err.text);
    assert_true(lane->wants_sample && lane->is_local);
    assert_null(lane->vt->encode);
    return lane;
}

/* Fits until done; returns the number of calls it took. */
static int fit(struct tr_lane *lane, const struct tr_str *sample, size_t n,
               struct tr_str fitted, struct tr_buf *out)
{
    struct tr_err err;
    int rc, calls = 0;

    do {
        rc = lane->vt->fit(lane, sample, n, fitted, out, &err);
        calls++;
    } while (rc == TR_FIT_MORE);
    if (rc != TR_OK)
        fail_msg("%s", err.text);
    return calls;
}

static void start(struct tr_lane *lane, uint64_t tag, size_t n)
{
    struct tr_shot shot = {.tag = tag, .deadline_ms = 60000, .texts = texts,
                           .text_count = n};

    assert_int_equal(lane->vt->start(lane, &shot, NULL), TR_OK);
}

static void take(struct tr_lane *lane, struct tr_reply *reply)
{
    int64_t end_ns = tr_clock_mono_ns() + 60 * TR_S;

    while (!lane->vt->next(lane, reply)) {
        assert_true(tr_clock_mono_ns() < end_ns);
        lane->vt->wait(lane, 1000, -1);
    }
}

static void packs_come_back_scored_in_order(void **state)
{
    struct tr_lane *lane = open_lane(labels, 3);
    struct tr_reply reply;
    struct tr_buf kept;

    (void)state;
    tr_buf_init(&kept, 0);
    fit(lane, texts, TEXTS, TR_STR(""), &kept);
    for (uint64_t tag = 1; tag <= 3; tag++)
        start(lane, tag, TEXTS);
    for (uint64_t tag = 1; tag <= 3; tag++) {
        take(lane, &reply);
        assert_int_equal(reply.tag, tag);
        assert_int_equal(reply.outcome, TR_OUT_OK);
        assert_int_equal(reply.billing, TR_BILL_NONE);
        assert_int_equal(reply.usage.in, -1);
        assert_string_equal(reply.served, "all-MiniLM-L6-v2");
        for (size_t i = 0; i < TEXTS; i++) {
            assert_int_equal(reply.scores[i].label, gold[i]);
            assert_in_range(reply.scores[i].confidence, 3334, 10000);
            assert_int_equal(reply.scores[i].cut, 0);
        }
        assert_int_equal(reply.scores[0].confidence,
                         reply.scores[3].confidence);
    }
    assert_int_equal(lane->vt->next(lane, &reply), 0);
    tr_buf_release(&kept);
    lane->vt->close(lane);
}

static void a_kept_fit_gives_the_same_name_and_scores(void **state)
{
    struct tr_lane *first = open_lane(labels, 3);
    struct tr_lane *second = open_lane(labels, 3);
    struct tr_buf kept, again;
    struct tr_reply a, b;

    (void)state;
    tr_buf_init(&kept, 0);
    tr_buf_init(&again, 0);
    fit(first, texts, TEXTS, TR_STR(""), &kept);
    assert_int_equal(strlen(first->model), strlen("local/all-MiniLM-L6-v2+") + 6);
    /* Another sample would move the vectors, but the kept ones are taken. */
    assert_int_equal(fit(second, texts, 1, tr_buf_str(&kept), &again), 1);
    assert_string_equal(second->model, first->model);
    assert_true(tr_str_eq(tr_buf_str(&kept), tr_buf_str(&again)));
    start(first, 1, 1);
    start(second, 2, 1);
    take(first, &a);
    take(second, &b);
    assert_memory_equal(a.scores, b.scores, sizeof *a.scores);
    tr_buf_release(&kept);
    tr_buf_release(&again);
    first->vt->close(first);
    second->vt->close(second);
}

static void a_kept_fit_of_other_labels_is_not_taken(void **state)
{
    struct tr_lane *three = open_lane(labels, 3), *two = open_lane(labels, 2);
    struct tr_buf kept, own, fresh;
    struct tr_lane *same;

    (void)state;
    tr_buf_init(&kept, 0);
    tr_buf_init(&own, 0);
    tr_buf_init(&fresh, 0);
    fit(three, texts, TEXTS, TR_STR(""), &kept);
    assert_int_equal(two->vt->fit(two, NULL, 0, tr_buf_str(&kept), &own, NULL),
                     TR_FIT_OTHER);
    fit(two, texts, TEXTS, TR_STR(""), &own);
    same = open_lane(labels, 2);
    fit(same, texts, TEXTS, TR_STR(""), &fresh);
    assert_string_equal(two->model, same->model);
    assert_string_not_equal(two->model, three->model);
    tr_buf_release(&kept);
    tr_buf_release(&own);
    tr_buf_release(&fresh);
    three->vt->close(three);
    two->vt->close(two);
    same->vt->close(same);
}

static void a_long_fit_is_done_in_slices_and_duplicates_count_once(void **state)
{
    enum { N = 300 };
    static char store[N][80];
    struct tr_str sample[2 * N];
    struct tr_lane *once = open_lane(labels, 3), *twice = open_lane(labels, 3);
    struct tr_buf kept;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        snprintf(store[i], sizeof store[i], "Item %zu of the list: %s", i,
                 texts[i % 3].p);
        sample[i] = sample[N + i] = tr_str_c(store[i]);
    }
    tr_buf_init(&kept, 0);
    assert_true(fit(once, sample, N, TR_STR(""), &kept) > 1);
    fit(twice, sample, 2 * N, TR_STR(""), &kept);
    assert_string_equal(once->model, twice->model);
    tr_buf_release(&kept);
    once->vt->close(once);
    twice->vt->close(twice);
}

static void examples_pull_their_label(void **state)
{
    static const struct tr_str example[] = {
        S("Interest rates rose by half a point."),
        S("Interest rates fell by half a point.")};
    struct tr_local_label with[3];
    struct tr_lane *lane;
    struct tr_reply reply;
    struct tr_buf kept;

    (void)state;
    memcpy(with, labels, sizeof with);
    with[0].examples = example; /* perverse on purpose */
    with[0].example_count = 2;
    lane = open_lane(with, 3);
    tr_buf_init(&kept, 0);
    fit(lane, NULL, 0, TR_STR(""), &kept);
    start(lane, 1, TEXTS);
    take(lane, &reply);
    assert_int_equal(reply.scores[2].label, 0);
    assert_int_equal(reply.scores[1].label, 1);
    tr_buf_release(&kept);
    lane->vt->close(lane);
}

static void cancelled_packs_never_come_back(void **state)
{
    struct tr_lane *lane = open_lane(labels, 3);
    struct tr_reply reply;
    struct tr_buf kept;

    (void)state;
    tr_buf_init(&kept, 0);
    fit(lane, texts, TEXTS, TR_STR(""), &kept);
    for (uint64_t tag = 1; tag <= 20; tag++)
        start(lane, tag, TEXTS);
    lane->vt->cancel(lane);
    assert_int_equal(lane->vt->next(lane, &reply), 0);
    start(lane, 21, 1);
    take(lane, &reply);
    assert_int_equal(reply.tag, 21);
    start(lane, 22, TEXTS); /* closing with work in flight is allowed */
    tr_buf_release(&kept);
    lane->vt->close(lane);
}

static void wait_ends_by_wakeup_and_by_time(void **state)
{
    struct tr_lane *lane = open_lane(labels, 3);
    int64_t before_ns = tr_clock_mono_ns();

    (void)state;
    lane->vt->wakeup(lane);
    lane->vt->wait(lane, 60000, -1);
    lane->vt->wait(lane, 20, -1);
    assert_in_range(tr_clock_mono_ns() - before_ns, 19 * TR_MS, 30 * TR_S);
    lane->vt->close(lane);
}

static void what_it_cannot_do_is_refused(void **state)
{
    static const struct {
        bool multiple, none;
        size_t label_count;
        const char *says;
    } cases[] = {
        {true, false, 3, "multiple"},
        {false, true, 3, "none"},
        {false, false, 1, "two labels"},
    };
    struct tr_lane *lane;
    struct tr_err err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_local_opts o = {.labels = labels,
                                  .label_count = cases[i].label_count,
                                  .multiple = cases[i].multiple,
                                  .none = cases[i].none};

        assert_int_equal(tr_local_lane_open(&lane, &o, &err), TR_CONFIG);
        assert_null(lane);
        assert_non_null(strstr(err.text, cases[i].says));
    }
}

/* Whatever the text, the first of two such labels would win. */
static void labels_that_read_the_same_are_refused(void **state)
{
    static const struct tr_str example[] = {S("My card has come.")};
    static const struct {
        struct tr_local_label with[3];
        const char *says; /* NULL: they differ */
    } cases[] = {
        {{{S("money"), S(""), NULL, 0},
          {S("card_arrival"), S(""), NULL, 0},
          {S("card-arrival"), S(""), NULL, 0}},
         "'card_arrival' and 'card-arrival'"},
        {{{S("money"), S(""), NULL, 0},
          {S("\xf0\x9f\x91\x8d"), S(""), NULL, 0}, /* thumbs up, down */
          {S("\xf0\x9f\x91\x8e"), S(""), NULL, 0}},
         "'\xf0\x9f\x91\x8d' and '\xf0\x9f\x91\x8e'"},
        {{{S("A_b"), S("Banks."), NULL, 0},
          {S("money"), S("Banks"), NULL, 0},
          {S("a-B"), S("banks"), NULL, 0}},
         "'A_b' and 'a-B'"},
        {{{S("A_b"), S("banks"), NULL, 0},
          {S("a-B"), S("shares"), NULL, 0},
          {S("money"), S("banks"), NULL, 0}},
         NULL},
        {{{S("card_arrival"), S(""), example, 1},
          {S("card-arrival"), S(""), NULL, 0},
          {S("card arrivals"), S(""), NULL, 0}},
         NULL},
    };

    (void)state;
    if (!*model)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_local_opts o = {.threads = 1, .labels = cases[i].with,
                                  .label_count = 3};
        struct tr_lane *lane;
        struct tr_err err = {0};
        int rc = tr_local_lane_open(&lane, &o, &err);

        if (rc == TR_OK)
            lane->vt->close(lane);
        assert_int_equal(rc, cases[i].says ? TR_CONFIG : TR_OK);
        if (cases[i].says && !strstr(err.text, cases[i].says))
            fail_msg("case %zu: \"%s\"", i, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_come_back_scored_in_order),
        cmocka_unit_test(a_kept_fit_gives_the_same_name_and_scores),
        cmocka_unit_test(a_kept_fit_of_other_labels_is_not_taken),
        cmocka_unit_test(a_long_fit_is_done_in_slices_and_duplicates_count_once),
        cmocka_unit_test(examples_pull_their_label),
        cmocka_unit_test(cancelled_packs_never_come_back),
        cmocka_unit_test(wait_ends_by_wakeup_and_by_time),
        cmocka_unit_test(what_it_cannot_do_is_refused),
        cmocka_unit_test(labels_that_read_the_same_are_refused),
    };

    if (!tr_local_find_model(model, sizeof model)) {
#ifdef TROMMEL_LOCAL /* it is built with its model: nothing may be skipped */
        fprintf(stderr, "the local model is not beside the program\n");
        return 1;
#endif
        model[0] = '\0';
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
