/* test_digest.c - signatures against RFC 4231.
 * SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static void signatures_are_those_of_rfc_4231(void **state)
{
    static char long_key[131];
    const struct {
        struct tr_str key, text;
        const char *mac;
    } cases[] = {
        {TR_STR("Jefe"), TR_STR("what do ya want for nothing?"),
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {TR_STR("\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"
                "\x0b\x0b\x0b\x0b\x0b"), TR_STR("Hi There"),
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {tr_str(long_key, sizeof long_key),
         TR_STR("Test Using Larger Than Block-Size Key - Hash Key First"),
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    };
    char mac[65];
    (void)state;

    memset(long_key, 0xaa, sizeof long_key);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tr_sign(cases[i].key, cases[i].text, mac);
        assert_string_equal(mac, cases[i].mac);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_are_those_of_rfc_4231),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
