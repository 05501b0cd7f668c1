/* verdict.c - a verdict as two integers, with a check of its own bits.
 *
 * SPDX-License-Identifier: MIT */
#include "store/verdict.h"

#include "base/err.h"

enum { ORIGIN_AT = 31, CONFIDENCE_AT = 47 };

uint64_t tr_little_endian(const unsigned char *b)
{
    uint64_t n = 0;

    for (int i = 8; i-- > 0; )
        n = n << 8 | b[i];
    return n;
}

/* 13 bits over everything else of the row: the highest of a product, as only
 * they depend on all bits of v. */
int64_t tr_verdict_check(const struct tr_key *key, int64_t what, int64_t v)
{
    uint64_t h = (uint64_t)what * 0x9e3779b97f4a7c15u;

    h = (h ^ h >> 29 ^ tr_little_endian(key->b)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 32 ^ tr_little_endian(key->b + 8)) * 0x94d049bb133111ebu;
    h = (h ^ h >> 31 ^ (uint64_t)v) * 0xd6e8feb86659fd93u;
    return (int64_t)(h >> 51);
}

void tr_verdict_pack(const struct tr_key *key, const struct tr_verdict *in,
                     int64_t *what, int64_t *v)
{
    int64_t confidence =
        in->confidence == TR_NO_CONFIDENCE ? 0 : in->confidence + 1;

    TR_ASSERT(in->position <= TR_PLACE_MAX && in->pack_size <= TR_PLACE_MAX &&
              confidence <= 10001 && in->why < TR_WHY_COUNT &&
              in->set < TR_SETS_END);
    *what = in->why != TR_WHY_NONE ? -(int64_t)in->why
        : in->set == TR_SET_NOTHING ? 0 : (int64_t)in->set + 1;
    *v = in->position | (int64_t)in->pack_size << 9 |
         (int64_t)in->origin << ORIGIN_AT | confidence << CONFIDENCE_AT;
    *v |= tr_verdict_check(key, *what, *v) << TR_CHECK_AT;
}

bool tr_verdict_unpack(const struct tr_key *key, int64_t what, int64_t v,
                       struct tr_verdict *out)
{
    int64_t check = v >> TR_CHECK_AT & TR_CHECK_MAX;
    int64_t confidence = v >> CONFIDENCE_AT;

    v &= ~((int64_t)TR_CHECK_MAX << TR_CHECK_AT);
    if (check != tr_verdict_check(key, what, v) || confidence < 0 ||
        confidence > 10001 || what <= -TR_WHY_COUNT ||
        what == (int64_t)TR_SET_NOTHING + 1 || what > (int64_t)TR_SETS_END)
        return false;
    *out = (struct tr_verdict){
        .set = what < 0 ? 0 : what ? (uint64_t)(what - 1) : TR_SET_NOTHING,
        .why = (uint16_t)(what < 0 ? -what : TR_WHY_NONE),
        .position = (uint16_t)(v & TR_PLACE_MAX),
        .pack_size = (uint16_t)(v >> 9 & TR_PLACE_MAX),
        .origin = (uint16_t)(v >> ORIGIN_AT),
        .confidence = (uint16_t)(confidence ? confidence - 1
                                            : TR_NO_CONFIDENCE),
    };
    return true;
}
