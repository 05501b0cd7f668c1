/* test_prototypes.c - phrasings of labels, and the arithmetic of the fit.
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "encode/local.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void labels_become_sentences(void **state)
{
    static const struct {
        const char *name, *description;
        size_t i;
        const char *want; /* NULL: there are no more */
    } cases[] = {
        {"card_arrival", "", 0, "card arrival"},
        {"card_arrival", "", 1, "This text is about card arrival."},
        {"card_arrival", "", 2, NULL},
        {"CardArrival", "", 0, "Card Arrival"},
        {"USB", "", 0, "USB"},
        {"pre-sales", "", 0, "pre sales"},
        {"Sci/Tech", "", 0, "Sci / Tech"},
        {"bug", "does not work.", 2, "does not work"},
        {"bug", " does not work ", 3, "bug: does not work"},
        {"bug", "does not work", 4, "This text is about does not work."},
        {"bug", "does not work", 5, NULL},
        {"bug", "...", 2, NULL},
        {"<d>", "<n>", 3, "<d>: <n>"},
    };
    struct tr_buf out;

    (void)state;
    tr_buf_init(&out, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool more = tr_phrasing(cases[i].i, tr_str_c(cases[i].name),
                                tr_str_c(cases[i].description), &out);

        assert_int_equal(more, cases[i].want != NULL);
        if (more)
            assert_string_equal(out.p, cases[i].want);
    }
    tr_buf_release(&out);
}

static void nearest_label_wins_with_its_softmax(void **state)
{
    /* Two labels at right angles, texts between them: cosines a and b give
     * 1 / (1 + exp((b - a) / 0.05)). */
    static const float labels[] = {1, 0, 0, 1};
    static const struct {
        float x[2];
        uint32_t label;
        int confidence;
    } cases[] = {
        {{1, 0}, 0, 10000},           /* e^-20 is nothing */
        {{0, 1}, 1, 10000},
        {{0.7071068f, 0.7071068f}, 0, 5000}, /* a tie: the first */
        {{0.72f, 0.69397f}, 0, 6274}, /* 0.02603 / 0.05 */
        {{0.69397f, 0.72f}, 1, 6274},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_score s = tr_prototypes_score(labels, 2, 2, cases[i].x);

        assert_int_equal(s.label, cases[i].label);
        assert_in_range(s.confidence, cases[i].confidence - 2,
                        cases[i].confidence + 2);
        assert_int_equal(s.cut, 0);
    }
}

static void assert_vector(const float *v, float x, float y)
{
    assert_true(fabsf(v[0] - x) < 1e-5f);
    assert_true(fabsf(v[1] - y) < 1e-5f);
}

static void without_sample_and_examples_a_label_is_its_text(void **state)
{
    static const float c[] = {1, 0, 0, 1};
    float m[4];

    (void)state;
    assert_int_equal(tr_prototypes_fit(m, 2, 2, c, NULL, NULL, 0, NULL, 0), 0);
    assert_vector(m, 1, 0);
    assert_vector(m + 2, 0, 1);
}

static void an_example_weighs_as_much_as_the_text(void **state)
{
    static const float c[] = {1, 0, 0, 1}, e[] = {0, 1};
    static const uint32_t of[] = {0};
    float m[4];

    (void)state;
    assert_int_equal(tr_prototypes_fit(m, 2, 2, c, e, of, 1, NULL, 0), 0);
    assert_vector(m, 0.7071068f, 0.7071068f);
    assert_vector(m + 2, 0, 1);
}

static void three_sure_texts_weigh_as_much_as_the_label(void **state)
{
    static const float c[] = {1, 0, 0, 1};
    /* cosines 0.96 and 0.28: all but e^-13.6 goes to the first label */
    static const float x[] = {.96f, .28f, .96f, .28f, .96f, .28f};
    float m[4], n = sqrtf(1.96f * 1.96f + .28f * .28f);

    (void)state;
    assert_int_equal(tr_prototypes_fit(m, 2, 2, c, NULL, NULL, 0, x, 3), 0);
    assert_vector(m, 1.96f / n, .28f / n);
    assert_vector(m + 2, 0, 1);
}

static void the_sample_is_shared_by_the_vectors_before_the_step(void **state)
{
    /* Two equal texts in the middle: each gives half to either label, also
     * the second, though by then the sum has moved. */
    static const float c[] = {1, 0, 0, 1};
    static const float x[] = {.7071068f, .7071068f, .7071068f, .7071068f};
    float m[4], a = 3 + .7071068f, b = .7071068f, n = sqrtf(a * a + b * b);

    (void)state;
    assert_int_equal(tr_prototypes_fit(m, 2, 2, c, NULL, NULL, 0, x, 2), 0);
    assert_vector(m, a / n, b / n);
    assert_vector(m + 2, b / n, a / n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_become_sentences),
        cmocka_unit_test(nearest_label_wins_with_its_softmax),
        cmocka_unit_test(without_sample_and_examples_a_label_is_its_text),
        cmocka_unit_test(an_example_weighs_as_much_as_the_text),
        cmocka_unit_test(three_sure_texts_weigh_as_much_as_the_label),
        cmocka_unit_test(the_sample_is_shared_by_the_vectors_before_the_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
