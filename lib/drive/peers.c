/* peers.c - other runs of this machine that use the same key.
 *
 * A file that cannot be opened or breaks later ends the sharing of that lane:
 * it keeps the part it last held, so that those who still share lose nothing.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/peers.h"

#include <stdio.h>

_Static_assert(TR_FAIR_MAX == TR_SHARE_SLOTS, "the rule takes the whole table");

void tr_peers_init(struct tr_peers *p)
{
    *p = (struct tr_peers){0};
    tr_buf_init(&p->folder, 0);
}

void tr_peers_share(struct tr_peers *p, const char *folder, bool limited)
{
    p->limited = limited;
    tr_buf_clear(&p->folder);
    tr_buf_addz(&p->folder, folder);
    p->wanted = tr_buf_ok(&p->folder);
}

void tr_peers_release(struct tr_peers *p)
{
    for (uint32_t i = 0; i < p->lane_count; i++)
        tr_share_close(p->lanes[i].share);
    p->lane_count = 0;
    tr_buf_release(&p->folder);
}

static int give_up(struct tr_peers *p, uint32_t at, const struct tr_err *err,
                   char *line, size_t size)
{
    p->lanes[at].failed = true;
    tr_share_close(p->lanes[at].share);
    p->lanes[at].share = NULL;
    snprintf(line, size, "%s: its limits are not shared with other runs: %s",
             p->lanes[at].lane->model, err->text);
    return TR_PEERS_NONE;
}

static uint32_t place_of(struct tr_peers *p, const struct tr_lane *lane)
{
    uint32_t i = 0;

    while (i < p->lane_count && p->lanes[i].lane != lane)
        i++;
    if (i == p->lane_count && i < TR_LANES_MAX)
        p->lanes[p->lane_count++].lane = lane;
    return i;
}

/* What people see of it: once that there are others, once that there are too
 * many. */
static void remark(struct tr_peers *p, uint32_t at, const struct tr_fair *fair,
                   bool no_place, char *line, size_t size)
{
    const char *model = p->lanes[at].lane->model;

    if (no_place && !p->lanes[at].crowded) {
        p->lanes[at].crowded = true;
        snprintf(line, size, "%s: %d other runs use the same key; this one "
                 "goes on slowly until one of them ends", model,
                 TR_SHARE_SLOTS);
    } else if (fair->others && !p->lanes[at].seen) {
        p->lanes[at].seen = true;
        snprintf(line, size, "%s: %u other run%s on this machine use%s the "
                 "same key: they share its limits (--share-limits no: each "
                 "for itself)", model, (unsigned)fair->others,
                 fair->others == 1 ? "" : "s", fair->others == 1 ? "s" : "");
    }
}

int tr_peers_meet(struct tr_peers *p, const struct tr_lane *lane,
                  struct tr_fair *fair, struct tr_pace *pace, int64_t now,
                  char *line, size_t size)
{
    struct tr_lease all[TR_SHARE_SLOTS];
    uint32_t at = place_of(p, lane), n;
    struct tr_err err;
    bool no_place;
    int rc;

    line[0] = '\0';
    if (!p->wanted || at == TR_LANES_MAX || p->lanes[at].failed ||
        !lane->account[0] ||
        !(lane->has_key || lane->rpm || lane->tpm || p->limited))
        return TR_PEERS_NONE;
    if (!p->lanes[at].share) {
        struct tr_share_opts o = {.folder = p->folder.p,
                                  .account = lane->account};

        rc = tr_share_open(&p->lanes[at].share, &o, &err);
        if (rc != TR_OK)
            return give_up(p, at, &err, line, size);
    }
    rc = tr_share_get(p->lanes[at].share, all, &n, &err);
    if (rc == TR_SHARE_BUSY)
        return TR_PEERS_BUSY;
    if (rc == TR_OK) {
        fair->mine.id = tr_share_id(p->lanes[at].share);
        tr_fair_take(fair, all, n, now);
        rc = tr_share_put(p->lanes[at].share, &fair->mine, TR_FAIR_LIVE_NS,
                          &no_place, &err);
    }
    if (rc != TR_OK)
        return give_up(p, at, &err, line, size);
    if (no_place) /* nobody would know of our part */
        for (int k = 0; k < TR_LIMIT_KINDS; k++)
            fair->mine.part[k] = 0;
    tr_fair_tell(fair, pace, all, n, now);
    remark(p, at, fair, no_place, line, size);
    return TR_PEERS_MET;
}
