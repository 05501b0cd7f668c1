/* test_jsonl.c - what is a JSON object on a line, and what is not.
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "rows/jsonl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void sound_objects(void **state)
{
    static const struct {
        const char *line, *keys, *values; /* joined by | */
    } table[] = {
        {"{}", "", ""},
        {" { } ", "", ""},
        {"{\"a\":1}", "a", "1"},
        {"{ \"a\" : \"x\" , \"b c\" :null}", "a|b c", "\"x\"|null"},
        {"{\"\":0}", "", "0"},
        {"{\"a\\\"b\":-0.5e+10}", "a\\\"b", "-0.5e+10"},
        {"{\"a\":{\"b\":[1,{\"c\":[]},{}]},\"d\":[ ]}", "a|d",
         "{\"b\":[1,{\"c\":[]},{}]}|[ ]"},
        {"{\"a\":true,\"b\":false}\r", "a|b", "true|false"},
        {"{\"a\":123456789012345678901234567890.5}", "a",
         "123456789012345678901234567890.5"},
        {"{\"a\":\"\\u00e9\\n\\/}\"}", "a", "\"\\u00e9\\n\\/}\""},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_json_member m[8];
        struct tr_json_fault fault;
        struct tr_buf keys, values;
        size_t count;

        tr_buf_init(&keys, 0);
        tr_buf_init(&values, 0);
        assert_true(tr_json_object(tr_str_c(table[i].line), m, 8, &count,
                                   &fault));
        for (size_t k = 0; k < count; k++) {
            if (k) {
                tr_buf_addc(&keys, '|');
                tr_buf_addc(&values, '|');
            }
            tr_buf_adds(&keys, m[k].key);
            tr_buf_adds(&values, m[k].value);
        }
        assert_true(tr_str_eq_c(tr_buf_str(&keys), table[i].keys));
        assert_true(tr_str_eq_c(tr_buf_str(&values), table[i].values));
        tr_buf_release(&keys);
        tr_buf_release(&values);
    }
}

static void faults(void **state)
{
    static const struct {
        const char *line;
        size_t at;
        const char *what;
    } table[] = {
        {"", 0, "a JSON object in braces is expected"},
        {"[1]", 0, "a JSON object in braces is expected"},
        {"{", 1, "a member name in double quotes is expected"},
        {"{a:1}", 1, "a member name in double quotes is expected"},
        {"{'a':1}", 1, "a member name in double quotes is expected"},
        {"{\"a\" 1}", 5, "a ':' is expected"},
        {"{\"a\":}", 5, "a value is expected"},
        {"{\"a\":", 5, "a value is expected"},
        {"{\"a\":1,}", 7, "a member name in double quotes is expected"},
        {"{\"a\":1 \"b\":2}", 7, "a ',' or '}' is expected"},
        {"{\"a\":1", 6, "a ',' or '}' is expected"},
        {"{\"a\":[1,]}", 8, "a value is expected"},
        {"{\"a\":[1}", 7, "a ',' or ']' is expected"},
        {"{\"a\":{\"b\":1]}", 11, "a ',' or '}' is expected"},
        {"{\"a\":01}", 6, "a ',' or '}' is expected"},
        {"{\"a\":1.}", 7, "a digit is expected"},
        {"{\"a\":.5}", 5, "a value is expected"},
        {"{\"a\":+1}", 5, "a value is expected"},
        {"{\"a\":1e}", 7, "a digit is expected"},
        {"{\"a\":-}", 6, "a digit is expected"},
        {"{\"a\":tru}", 5, "a value is expected"},
        {"{\"a\":NaN}", 5, "a value is expected"},
        {"{\"a\":\"x}", 8, "a string is not closed on its line"},
        {"{\"a\":\"\\", 6, "a string is not closed on its line"},
        {"{\"a\":\"\\x\"}", 6, "an unknown escape follows the backslash"},
        {"{\"a\":\"\\u12g4\"}", 6, "\\u needs four hexadecimal digits"},
        {"{\"a\":\"\\u12", 6, "\\u needs four hexadecimal digits"},
        {"{\"a\":\"\t\"}", 6,
         "a control character must be written as \\u00xx"},
        {"{\"a\":1} {}", 8, "nothing may follow the object on its line"},
        {"{\"a\":1,\"b\":2,\"c\":3}", 13, "it has too many members"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_json_member m[2];
        struct tr_json_fault fault;
        size_t count;

        assert_false(tr_json_object(tr_str_c(table[i].line), m, 2, &count,
                                    &fault));
        assert_string_equal(fault.what, table[i].what);
        assert_int_equal(fault.at, table[i].at);
    }
}

static void depth_is_bounded(void **state)
{
    struct tr_json_member m[1];
    struct tr_json_fault fault;
    (void)state;

    for (int arrays = 1; arrays < 100000; arrays = arrays < 70 ? arrays + 1
                                                               : arrays * 7) {
        struct tr_buf b;
        size_t count;

        tr_buf_init(&b, 0);
        tr_buf_addz(&b, "{\"a\":");
        for (int i = 0; i < arrays; i++)
            tr_buf_addz(&b, i % 2 ? "{\"b\":" : "[");
        tr_buf_addc(&b, '1');
        for (int i = arrays; i-- > 0;)
            tr_buf_addz(&b, i % 2 ? "}" : "]");
        tr_buf_addc(&b, '}');
        assert_int_equal(tr_json_object(tr_buf_str(&b), m, 1, &count, &fault),
                         arrays + 1 <= TR_JSON_DEPTH_MAX);
        tr_buf_release(&b);
    }
}

static void strings_unescaped(void **state)
{
    static const struct {
        const char *body, *text; /* NULL: no such text */
    } table[] = {
        {"plain", "plain"},
        {"", ""},
        {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"},
        {"\\u0041\\u00e9\\u6700", "A\xc3\xa9\xe6\x9c\x80"},
        {"\\uD83D\\uDE00", "\xf0\x9f\x98\x80"},
        {"a\\ud83d", NULL},
        {"\\ud83dx\\ude00", NULL},
        {"\\ud83d\\u0041", NULL},
        {"\\ude00", NULL},
    };
    (void)state;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tr_buf b;
        bool ok;

        tr_buf_init(&b, 0);
        ok = tr_json_unescape(tr_str_c(table[i].body), &b);
        assert_int_equal(ok, table[i].text != NULL);
        if (ok)
            assert_true(tr_str_eq_c(tr_buf_str(&b), table[i].text));
        tr_buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_objects),
        cmocka_unit_test(faults),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(strings_unescaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
