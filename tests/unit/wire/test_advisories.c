/* test_advisories.c - which advisories are said of which libcurl.
 * SPDX-License-Identifier: MIT */
#include "wire/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define DATA                                                                   \
    "as_of: 2026-08-22\n"                                                      \
    "advisories:\n"                                                            \
    "  CVE-1: {first: 7.85.0, last: 8.3.0, severity: medium, what: one}\n"     \
    "  CVE-2: {first: 7.9.1, last: 7.88.1, with: proxy, severity: high, "      \
    "what: two}\n"

static void versions_are_compared_as_numbers(void **state)
{
    static const struct {
        const char *version;
        bool proxy;
        const char *line;
        bool grave;
    } cases[] = {
        {"7.85.0", false, "CVE-1 (one); as of 2026-08-22", false},
        {"8.3.0", false, "CVE-1 (one); as of 2026-08-22", false},
        {"8.3.1", false, "", false},
        {"8.10.0", true, "", false},
        {"7.84.9", false, "", false},
        {"7.88.1", true, "CVE-1 (one), CVE-2 (two); as of 2026-08-22", true},
        {"7.88.1", false, "CVE-1 (one); as of 2026-08-22", false},
        {"7.9.0", true, "", false},
        {"7.10.8-DEV", true, "CVE-2 (two); as of 2026-08-22", true},
        {"nonsense", true, "", false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_buf out;
        struct tr_err err;
        bool grave;

        tr_buf_init(&out, 0);
        assert_int_equal(tr_wire_advisories(TR_STR(DATA), cases[i].version,
                                            cases[i].proxy, &out, &grave,
                                            &err), TR_OK);
        tr_buf_addc(&out, '\0');
        assert_string_equal(out.p, cases[i].line);
        assert_int_equal(grave, cases[i].grave);
        tr_buf_release(&out);
    }
}

/* The rows that come along are readable: each says from when to when, and of
 * what severity. */
static void our_own_rows_are_whole(void **state)
{
    static const struct {
        const char *version, *named;
        bool grave;
    } cases[] = {{"7.85.0", "CVE-2022-42915", true},
                 {"8.3.0", "CVE-2023-38545", true},
                 {"8.20.0", NULL, false}};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_buf out;
        struct tr_err err;
        bool grave;

        tr_buf_init(&out, 0);
        assert_int_equal(tr_wire_advisories(tr_str_c(NULL), cases[i].version,
                                            true, &out, &grave, &err), TR_OK);
        tr_buf_addc(&out, '\0');
        assert_int_equal(grave, cases[i].grave);
        if (cases[i].named)
            assert_non_null(strstr(out.p, cases[i].named));
        else
            assert_string_equal(out.p, "");
        tr_buf_release(&out);
    }
    assert_true(tr_http_version()[0] >= '7');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_compared_as_numbers),
        cmocka_unit_test(our_own_rows_are_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
