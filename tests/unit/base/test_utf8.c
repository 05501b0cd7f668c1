/* test_utf8.c - valid, invalid, and what it looks like.
 * SPDX-License-Identifier: MIT */
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void valid_prefixes(void **state)
{
    static const struct {
        const char *in;
        size_t valid;
    } table[] = {
        {"", 0},
        {"plain ascii, longer than a word", 31},
        {"\x7f\xc2\x80\xdf\xbf", 5},
        {"\xe0\xa0\x80\xef\xbf\xbf", 6},
        {"\xed\x9f\xbf\xee\x80\x80", 6},
        {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8},
        {"\xc0\x80", 0},         /* overlong */
        {"\xc1\xbf", 0},
        {"\xe0\x9f\xbf", 0},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xed\xa0\x80", 0},     /* surrogate */
        {"\xf4\x90\x80\x80", 0}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
        {"a\x80", 1},            /* continuation alone */
        {"abcdefgh\xc3", 8},     /* cut */
        {"abc\xe6\x9c", 3},
        {"abc\xf0\x9f\x98", 3},
        {"\xc3\xa9\xc3(", 2},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_int_equal(tr_utf8_valid(tr_str_c(table[i].in)), table[i].valid);
}

/* Every code point and every pair of bytes, against the definition. */
static void all_pairs(void **state)
{
    (void)state;

    for (unsigned a = 0; a < 256; a++) {
        for (unsigned b = 0; b < 256; b++) {
            char pair[2] = {(char)a, (char)b};
            bool valid = (a < 0x80 && b < 0x80) ||
                         (a >= 0xc2 && a <= 0xdf && (b & 0xc0) == 0x80);

            assert_int_equal(tr_utf8_valid(tr_str(pair, 2)) == 2, valid);
        }
    }
}

static void looks(void **state)
{
    (void)state;

    assert_true(tr_utf8_looks_1252(TR_STR("caf\xe9 \x93quoted\x94 \x80")));
    assert_false(tr_utf8_looks_1252(TR_STR("plain")));
    assert_false(tr_utf8_looks_1252(TR_STR("caf\xc3\xa9 and \xe9")));
    assert_false(tr_utf8_looks_1252(TR_STR("caf\xe9 \x81")));
}

static void counts_and_cuts(void **state)
{
    (void)state;

    assert_int_equal(tr_utf8_count(TR_STR("a\xc3\xa9\xe6\x9c\x80")), 3);
    assert_int_equal(tr_utf8_count(TR_STR("a\xe9" "b\x80")), 4);
    assert_int_equal(tr_utf8_cut(TR_STR("a\xc3\xa9z"), 2), 1);
    assert_int_equal(tr_utf8_cut(TR_STR("a\xc3\xa9z"), 3), 3);
    assert_int_equal(tr_utf8_cut(TR_STR("abc"), 9), 3);
    assert_int_equal(tr_utf8_cut(TR_STR("\xf0\x9f\x98\x80z"), 3), 0);
    assert_int_equal(tr_utf8_cut(TR_STR("\x80\x80\x80\x80\x80\x80"), 5), 5);
}

static void what_is_shown_is_tame(void **state)
{
    static const struct {
        const char *in, *out;
    } table[] = {
        {"caf\xc3\xa9 \xe6\x9c\x80 \xf0\x9f\x98\x80", NULL},
        {"a\x1b[31mred\x07", "a?[31mred?"},
        {"one\r\ntwo\ttab\x7f", "one??two?tab?"},
        {"\xc2\x9b" "31m", "??31m"},          /* C1: CSI in one character */
        {"x\xed\xa0\x80y", "x???y"},         /* surrogate */
        {"lone \xff and \x80", "lone ? and ?"},
        {"cut caf\xc3", "cut caf"},           /* by the size of a buffer */
        {"cut \xf0\x9f\x98", "cut "},
        {"", NULL},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[64];

        memcpy(text, table[i].in, strlen(table[i].in) + 1);
        tr_utf8_tame(text);
        assert_string_equal(text, table[i].out ? table[i].out : table[i].in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_prefixes),
        cmocka_unit_test(all_pairs),
        cmocka_unit_test(looks),
        cmocka_unit_test(counts_and_cuts),
        cmocka_unit_test(what_is_shown_is_tame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
