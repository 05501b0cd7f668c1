/* test_progress.c - what the progress line says, and numbers for people.
 * SPDX-License-Identifier: MIT */
#include "format.h"
#include "progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define FULL "\xe2\x96\x88"
#define REST "\xe2\x96\x91"

static void test_lines(void **state)
{
    static const struct progress_view busy = {
        .done = 2310, .total = 7600, .failed = 3, .in_flight = 12,
        .retries = 4, .tokens = 1234567, .nano = 12300000, .limits = true,
        .rate = 617, .eta_s = 8.4,
    };
    static const struct progress_view pipe = {
        .done = 12, .total = -1, .nano = -1, .rate = -1, .eta_s = -1,
    };
    static const struct progress_view guess = {
        .done = 999, .total = 1000, .estimated = true, .rate = 0.44,
        .eta_s = 4000,
    };
    static const struct progress_view one = {
        .done = 0, .total = 1, .retries = 1, .rate = -1, .eta_s = -1,
    };
    static const struct progress_view whole = {
        .done = 400, .total = 400, .rate = 20, .eta_s = 0,
    };
    static const struct {
        const char *name;
        const struct progress_view *view;
        int columns;
        bool bar, utf8;
        const char *line;
    } cases[] = {
        {"all of it", &busy, 200, true, false,
         "  2,310 / 7,600 rows  30%  ###.......  617 rows/s  ETA 0:08  "
         "12 in flight  waiting for limits  4 retries  3 failed  1.2 M tokens  "
         "$0.012"},
        {"80 columns", &busy, 79, true, true,
         "  2,310 / 7,600 rows  30%  617 rows/s  ETA 0:08  3 failed  $0.012"},
        {"narrow", &busy, 45, true, true,
         "  2,310 / 7,600 rows  30%  3 failed  $0.012"},
        {"very narrow", &busy, 20, true, true, "  2,310 / 7,600 rows"},
        {"too narrow", &busy, 10, true, true, "  2,310 / "},
        {"a pipe", &pipe, 79, true, true, "  12 rows  0 failed"},
        {"a guess", &guess, 79, false, true,
         "  999 / ~1,000 rows  99%  0.4 rows/s  ETA 1:06:40  0 failed  $0.00"},
        {"one row", &one, 79, false, true,
         "  0 / 1 row  0%  1 retry  0 failed  $0.00"},
        {"the end", &whole, 79, true, true,
         "  400 / 400 rows  " FULL FULL FULL FULL FULL FULL FULL FULL FULL FULL
         "  20 rows/s  0 failed  $0.00"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[600];

        progress_line(line, sizeof line, cases[i].view, cases[i].columns,
                      cases[i].bar, cases[i].utf8);
        if (strcmp(line, cases[i].line) != 0)
            fail_msg("%s: \"%s\", not \"%s\"", cases[i].name, line,
                     cases[i].line);
    }
}

/* At every width the line fits: it is drawn again in its place. */
static void test_widths(void **state)
{
    static const struct progress_view view = {
        .done = 123456789, .total = 987654321, .failed = 5555,
        .in_flight = 1000, .retries = 99, .tokens = INT64_C(123456789012),
        .nano = INT64_C(1234567890123), .limits = true, .rate = 98765,
        .eta_s = 360000,
    };

    (void)state;
    for (int columns = 0; columns < 200; columns++) {
        char line[600];

        progress_line(line, sizeof line, &view, columns, true, false);
        assert_true(strlen(line) <= (size_t)columns);
    }
}

/* A run that waits moves at a rate that fades: no end is read out of it. */
static void test_foresight(void **state)
{
    static const struct {
        const char *name;
        struct progress p;
        struct progress_view v;
        double rate, eta_s;
    } cases[] = {
        {"at work", {.rows_new = 6000, .seconds = 10},
         {.done = 1000, .total = 7000}, 600, 10},
        {"one row a minute", {.rows_all = 0.17, .seconds = 10},
         {.done = 3, .total = 20}, 0.017, 1000},
        {"known rows only", {.rows_all = 500, .seconds = 10},
         {.done = 500, .total = 600}, 50, 2},
        {"idle for ten minutes", {.rows_new = 5e-23, .rows_all = 5e-23,
                                  .seconds = 10},
         {.done = 1000, .total = 7000}, 0, -1},
        {"more than a year", {.rows_new = 10, .seconds = 10},
         {.done = 1, .total = INT64_C(40000000)}, 1, -1},
        {"no total", {.rows_new = 10, .seconds = 10}, {.total = -1}, 1, -1},
        {"nothing seen", {.seconds = 0}, {.total = 20}, -1, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct progress_view v = cases[i].v;

        progress_foresee(&v, &cases[i].p);
        if (v.rate < cases[i].rate - 1e-9 || v.rate > cases[i].rate + 1e-9 ||
            v.eta_s < cases[i].eta_s - 1e-6 || v.eta_s > cases[i].eta_s + 1e-6)
            fail_msg("%s: %g rows/s, %g s", cases[i].name, v.rate, v.eta_s);
    }
}

static void test_mode(void **state)
{
    static const struct term tty = {.tty = true}, file = {.tty = false},
                             quiet = {.tty = true, .quiet = true};

    (void)state;
    assert_int_equal(progress_choose("auto", &tty, false), PROGRESS_LIVE);
    assert_int_equal(progress_choose("auto", &tty, true), PROGRESS_PLAIN);
    assert_int_equal(progress_choose("auto", &file, false), PROGRESS_PLAIN);
    assert_int_equal(progress_choose("plain", &tty, false), PROGRESS_PLAIN);
    assert_int_equal(progress_choose("json", &file, false), PROGRESS_JSON);
    assert_int_equal(progress_choose("none", &tty, false), PROGRESS_NONE);
    assert_int_equal(progress_choose("auto", &quiet, false), PROGRESS_NONE);
}

static void test_numbers(void **state)
{
    static const struct {
        int64_t n;
        const char *count, *small;
    } counts[] = {
        {0, "0", "0"},
        {999, "999", "999"},
        {1000, "1,000", "1.0 k"},
        {9949, "9,949", "9.9 k"},
        {81234, "81,234", "81 k"},
        {999499, "999,499", "999 k"},
        {999500, "999,500", "1.0 M"},
        {1234567, "1,234,567", "1.2 M"},
        {INT64_C(2500000000), "2,500,000,000", "2.5 G"},
        {-1, "0", NULL},
    };
    static const struct {
        int64_t nano;
        const char *text;
    } money[] = {
        {0, "$0.00"},           {4200000, "$0.0042"},
        {12300000000, "$12.30"}, {100000000, "$0.10"},
        {99000000, "$0.099"},   {1, "$0.000000001"},
        {999999999, "$1.00"},   {12345, "$0.000012"},
    };
    static const struct {
        double seconds;
        const char *text;
    } spans[] = {
        {0, "0:00"}, {8.4, "0:08"}, {59.6, "1:00"}, {3600, "1:00:00"},
        {3723, "1:02:03"}, {-5, "0:00"}, {86400 * 365, "8760:00:00"},
        {359999999, "99999:59:59"}, {1e30, "99999:59:59"},
    };
    char out[FORMAT_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        assert_string_equal(format_count(out, counts[i].n), counts[i].count);
        if (counts[i].small)
            assert_string_equal(format_short(out, counts[i].n),
                                counts[i].small);
    }
    for (size_t i = 0; i < sizeof money / sizeof money[0]; i++)
        assert_string_equal(format_money(out, money[i].nano), money[i].text);
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++)
        assert_string_equal(format_span(out, spans[i].seconds), spans[i].text);
    assert_string_equal(format_rate(out, 0.44), "0.4");
    assert_string_equal(format_rate(out, 4999.6), "5,000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_foresight),
        cmocka_unit_test(test_mode),
        cmocka_unit_test(test_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
