/* fuzz_utf8.c - the UTF-8 checker against one that works another way.
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_in in = fuzz_begin(data, n);
    struct tr_str s = fuzz_rest(&in);
    size_t valid = fuzz_utf8_valid(s), stray = 0, characters = 0, cut;

    CHECK(tr_utf8_valid(s) == valid);
    /* A prefix of valid text is valid up to its last whole character. */
    cut = fuzz_draw(&in, valid + 1);
    CHECK(tr_utf8_valid(tr_str(s.p, cut)) + 3 >= cut);
    CHECK(tr_utf8_valid(tr_str(s.p, cut)) <= cut);

    for (size_t i = 0; i < valid; i++)
        characters += (data[i] & 0xc0) != 0x80;
    CHECK(tr_utf8_count(tr_str(s.p, valid)) == characters);
    stray = tr_utf8_count(s);
    CHECK(stray >= characters && stray <= characters + (s.n - valid));

    cut = fuzz_draw(&in, n + 2);
    CHECK(tr_utf8_cut(s, cut) <= cut && tr_utf8_cut(s, cut) <= n);
    if (cut <= valid) {
        size_t got = tr_utf8_cut(tr_str(s.p, valid), cut);

        CHECK(got <= cut && got + 3 >= cut);
        CHECK(fuzz_utf8_valid(tr_str(s.p, got)) == got);
    }
    if (valid == n)
        CHECK(!tr_utf8_looks_1252(s));
    else
        tr_utf8_looks_1252(s);
    return 0;
}
