/* claim.c - an answer says: this id has these labels. What that does.
 *
 * Lines (answer.c) and JSON (pairs.c) both end here, so that what is void,
 * invalid or forgiven is decided once.
 *
 * SPDX-License-Identifier: MIT */
#include "task/reading.h"

ptrdiff_t tr_find_item(const struct tr_reading *r, uint64_t id)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->items[i].id == id)
            return (ptrdiff_t)i;
    return -1;
}

void tr_claim(struct tr_reading *r, uint64_t id, enum tr_match match,
              uint64_t set)
{
    ptrdiff_t i = tr_find_item(r, id);
    struct tr_said *said;

    r->claims++;
    if (i < 0) {
        r->void_why = "an id that was not asked about";
        return;
    }
    said = &r->said[i];
    if (match == TR_MATCH_NOT) {
        /* Even beside a good line: what it means to say is unclear. */
        said->result = TR_ITEM_INVALID;
        return;
    }
    if (said->result == TR_ITEM_INVALID)
        return;
    if (said->result == TR_ITEM_OK && said->set != set) {
        r->void_why = "two different labels for one id";
        return;
    }
    said->forgiven = match == TR_MATCH_FORGIVEN &&
                     (said->forgiven || said->result != TR_ITEM_OK);
    said->result = TR_ITEM_OK;
    said->set = set;
}
