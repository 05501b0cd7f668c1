/* test_sample.c - the same texts whatever the order, and memory that does not
 * grow with the rows.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* Rows as lines: number i has text i % distinct, padded to so many bytes. */
struct input {
    int rows, distinct, bytes;
    bool backwards;
};

static void draw(struct tr_sample *s, size_t most, size_t text_max,
                 const struct input *in)
{
    char path[40];
    const char *paths[] = {path};
    struct tr_source_opts o = {
        .paths = paths, .path_count = 1, .format = TR_FMT_LINES,
    };
    struct tr_err err;
    FILE *f = tmpfile();
    int rc;

    assert_non_null(f);
    for (int i = 0; i < in->rows; i++) {
        int row = in->backwards ? in->rows - 1 - i : i;

        fprintf(f, "text %0*d\n", in->bytes - 5, row % in->distinct);
    }
    assert_int_equal(fflush(f), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(f));
    tr_sample_init(s);
    rc = tr_sample_draw(s, most, text_max, &o, &err);
    fclose(f);
    if (rc != TR_OK)
        fail_msg("%s", err.text);
}

static void memory_does_not_grow_with_the_rows(void **state)
{
    static const struct {
        const char *what;
        struct input in;
        size_t most, text_max, n, text_bytes, bytes_max;
    } cases[] = {
        {"repeats, fewer than wanted", {200000, 50, 40, false}, 2000, 0,
         50, 40, 8 << 10},
        {"repeats, more than wanted", {200000, 500, 40, false}, 100, 0,
         100, 40, 24 << 10},
        {"all are different", {200000, 200000, 40, false}, 100, 0,
         100, 40, 24 << 10},
        {"long ones, cut", {2000, 2000, 5000, false}, 50, 512,
         50, 512, 80 << 10},
        {"long ones, whole", {2000, 2000, 5000, false}, 50, 0,
         50, 5000, 700 << 10},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_sample s;

        draw(&s, cases[i].most, cases[i].text_max, &cases[i].in);
        if (s.n != cases[i].n || s.texts[0].n != cases[i].text_bytes ||
            s.arena.bytes > cases[i].bytes_max)
            fail_msg("%s: %zu texts of %zu bytes in %zu", cases[i].what, s.n,
                     s.texts[0].n, s.arena.bytes);
        tr_sample_release(&s);
    }
}

static int by_digest(const void *a, const void *b)
{
    const struct tr_str *x = a, *y = b;
    struct tr_key kx = tr_digest(NULL, *x), ky = tr_digest(NULL, *y);

    return tr_key_cmp(&kx, &ky);
}

static void the_smallest_digests_in_any_order(void **state)
{
    enum { DISTINCT = 1000, MOST = 60, BYTES = 40 };
    static char texts[DISTINCT][BYTES + 1];
    struct tr_str sorted[DISTINCT];
    (void)state;

    for (int i = 0; i < DISTINCT; i++) {
        snprintf(texts[i], sizeof texts[i], "text %0*d", BYTES - 5, i);
        sorted[i] = tr_str_c(texts[i]);
    }
    qsort(sorted, DISTINCT, sizeof *sorted, by_digest);
    for (int backwards = 0; backwards < 2; backwards++) {
        struct input in = {3 * DISTINCT, DISTINCT, BYTES, backwards};
        struct tr_sample s;

        draw(&s, MOST, 20, &in); /* it is the whole text that is looked at */
        assert_int_equal(s.n, MOST);
        for (size_t i = 0; i < s.n; i++)
            assert_true(tr_str_eq(s.texts[i], tr_str(sorted[i].p, 20)));
        tr_sample_release(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_does_not_grow_with_the_rows),
        cmocka_unit_test(the_smallest_digests_in_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
