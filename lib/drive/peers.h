/* peers.h - other runs of this machine that use the same key: joins their
 * leases (share/) with the rule that divides a limit (plan/fair.h).
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PEERS_H
#define TR_PEERS_H

#include "plan/fair.h"
#include "run.h"
#include "share/share.h"

struct tr_peers {
    bool wanted;             /* limits are shared */
    bool limited;            /* the user set ceilings for all lanes */
    struct tr_buf folder;
    struct {
        const struct tr_lane *lane;
        struct tr_share *share;
        bool failed, seen, crowded; /* each is said once */
    } lanes[TR_LANES_MAX];
    uint32_t lane_count;
};

void tr_peers_init(struct tr_peers *p);
/* From now on, in this folder. limited: the user gave limits, so that lanes
 * without a key have something to share as well. */
void tr_peers_share(struct tr_peers *p, const char *folder, bool limited);
void tr_peers_release(struct tr_peers *p);

/* One exchange for a lane. TR_PEERS_MET; TR_PEERS_BUSY: again in a moment;
 * TR_PEERS_NONE: this lane shares with nobody, do not ask again. line: what
 * people should know of it, "" mostly. */
enum { TR_PEERS_MET, TR_PEERS_BUSY, TR_PEERS_NONE };
int tr_peers_meet(struct tr_peers *p, const struct tr_lane *lane,
                  struct tr_fair *fair, struct tr_pace *pace, int64_t now,
                  char *line, size_t size);

#endif
