/* SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void json_escapes_what_json_must(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "\"plain\""},
        {"a\"b\\c", "\"a\\\"b\\\\c\""},
        {"line\nbreak\ttab\r", "\"line\\nbreak\\ttab\\r\""},
        {"\x01\x7f", "\"\\u0001\\u007f\""},
        {"\xe2\x80\xa8\xe2\x80\xa9x", "\"\\u2028\\u2029x\""},
        {"caf\xc3\xa9", "\"caf\xc3\xa9\""},
        {"", "\"\""},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_buf b;

        tr_buf_init(&b, 0);
        tr_buf_add_json(&b, tr_str_c(cases[i].in));
        assert_string_equal(b.p, cases[i].out);
        tr_buf_release(&b);
    }
}

/* Long texts are looked at by the stretch: every byte must be seen at every
 * place of one, and what stands around it must stay. */
static void json_sees_every_byte_at_every_place(void **state)
{
    enum { LONG = 40 };
    (void)state;

    for (int c = 0; c < 256; c++)
        for (size_t at = 0; at + 2 <= LONG; at++) {
            char text[LONG], two[2] = {(char)c, '"'};
            struct tr_buf got, want;

            memset(text, 'a', LONG);
            memcpy(text + at, two, 2);
            tr_buf_init(&got, 0);
            tr_buf_init(&want, 0);
            tr_buf_add_json(&got, tr_str(text, LONG));
            tr_buf_add_json(&want, tr_str(two, 2)); /* byte by byte */
            assert_int_equal(got.n, want.n + LONG - 2);
            assert_memory_equal(got.p + 1 + at, want.p + 1, want.n - 2);
            for (size_t i = 1; i < got.n - 1; i++)
                if (i < 1 + at || i >= 1 + at + want.n - 2)
                    assert_int_equal(got.p[i], 'a');
            tr_buf_release(&got);
            tr_buf_release(&want);
        }
}

static void failure_is_remembered(void **state)
{
    struct tr_buf b;
    (void)state;

    tr_buf_init(&b, 8);
    tr_buf_addz(&b, "1234567");
    assert_true(tr_buf_ok(&b));
    tr_buf_addz(&b, "89");
    assert_false(tr_buf_ok(&b));
    tr_buf_addz(&b, "x");
    assert_int_equal(b.n, 7);
    tr_buf_release(&b);

    tr_buf_init(&b, 0);
    tr_mem_fail_at(1, 0);
    tr_buf_addz(&b, "x");
    tr_mem_fail_at(0, 0);
    assert_false(tr_buf_ok(&b));
    tr_buf_release(&b);
}

static void formats_of_any_length(void **state)
{
    struct tr_buf b;
    (void)state;

    tr_buf_init(&b, 0);
    tr_buf_addf(&b, "%s-%d", "x", 7);
    assert_string_equal(b.p, "x-7");
    tr_buf_clear(&b);
    tr_buf_addf(&b, "%0500d", 7);
    assert_int_equal(b.n, 500);
    assert_int_equal(b.p[499], '7');
    tr_buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_escapes_what_json_must),
        cmocka_unit_test(json_sees_every_byte_at_every_place),
        cmocka_unit_test(failure_is_remembered),
        cmocka_unit_test(formats_of_any_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
