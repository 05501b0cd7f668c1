/* SPDX-License-Identifier: MIT */
#include "base/keymap.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

/* Few distinct first bytes, so that probes collide and wrap around. */
static struct tr_key key_of(uint64_t v)
{
    struct tr_key key = {{0}};
    uint64_t h = (v % 7) | UINT64_C(0xfffffffffffffff8);

    memcpy(key.b, &h, 8);
    memcpy(key.b + 8, &v, 8);
    return key;
}

static void behaves_like_an_array(void **state)
{
    static char present[200];
    struct tr_keymap m;
    struct tr_rng rng = {7};
    (void)state;

    tr_keymap_init(&m);
    for (int step = 0; step < 100000; step++) {
        uint64_t v = tr_rng_below(&rng, 200);
        struct tr_key key = key_of(v);

        if (present[v]) {
            assert_ptr_equal(tr_keymap_find(&m, &key), &present[v]);
            tr_keymap_remove(&m, &key);
        } else {
            assert_null(tr_keymap_find(&m, &key));
            assert_true(tr_keymap_add(&m, &key, &present[v]));
        }
        present[v] = !present[v];
    }
    for (uint64_t v = 0; v < 200; v++) {
        struct tr_key key = key_of(v);

        assert_ptr_equal(tr_keymap_find(&m, &key),
                         present[v] ? &present[v] : NULL);
    }
    tr_keymap_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(behaves_like_an_array),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
