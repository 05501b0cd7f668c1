/* fuzz_verdict.c - a verdict as the store keeps it: two integers that give it
 * back, and nothing else does.
 *
 * Input: 16 bytes of key, then a verdict, then two integers of any kind.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "store/verdict.h"

static uint64_t take_number(struct fuzz_in *in, int bytes)
{
    uint64_t n = 0;

    while (bytes--)
        n = n << 8 | fuzz_byte(in);
    return n;
}

static void check_same(const struct tr_verdict *a, const struct tr_verdict *b)
{
    CHECK(a->why == b->why && a->origin == b->origin);
    CHECK(a->set == (b->why == TR_WHY_NONE ? b->set : 0));
    CHECK(a->confidence == b->confidence && a->pack_size == b->pack_size);
    CHECK(a->position == b->position);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_in in = fuzz_begin(data, n);
    struct tr_key key = {{0}};
    struct tr_verdict v, back;
    int64_t what, bits;

    for (int i = 0; i < 16; i++)
        key.b[i] = (unsigned char)fuzz_byte(&in);
    v = (struct tr_verdict){
        .why = (uint16_t)(fuzz_byte(&in) % TR_WHY_COUNT),
        .set = take_number(&in, 7),
        .origin = (uint16_t)take_number(&in, 2),
        .confidence = (uint16_t)(take_number(&in, 2) % 10002),
        .pack_size = (uint16_t)(take_number(&in, 2) & TR_PLACE_MAX),
        .position = (uint16_t)(take_number(&in, 2) & TR_PLACE_MAX)};
    if (v.confidence == 10001)
        v.confidence = TR_NO_CONFIDENCE;
    tr_verdict_pack(&key, &v, &what, &bits);
    CHECK(tr_verdict_unpack(&key, what, bits, &back));
    check_same(&back, &v);

    /* Whatever is taken for a verdict is in range, and is packed as it was. */
    what = (int64_t)take_number(&in, 8);
    bits = (int64_t)take_number(&in, 8);
    if (fuzz_byte(&in) & 1) { /* a check that fits, on anything */
        bits &= ~((int64_t)TR_CHECK_MAX << TR_CHECK_AT);
        bits |= tr_verdict_check(&key, what, bits) << TR_CHECK_AT;
    }
    if (tr_verdict_unpack(&key, what, bits, &back)) {
        int64_t what2, bits2;

        CHECK(back.why < TR_WHY_COUNT && back.set < TR_SETS_END);
        CHECK(back.confidence <= 10000 || back.confidence == TR_NO_CONFIDENCE);
        CHECK(back.pack_size <= TR_PLACE_MAX && back.position <= TR_PLACE_MAX);
        tr_verdict_pack(&key, &back, &what2, &bits2);
        CHECK(what2 == what && bits2 == bits);
    }
    return 0;
}
