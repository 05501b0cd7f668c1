/* share.h - leases of the processes of this machine that use the same key.
 *
 * A small file for each account (address, key and model) and boot, in which
 * every process has a record of its own: what it wants of the key's limits,
 * what it holds, what it learned. Who holds what is decided elsewhere
 * (plan/fair.h); this module only keeps the records, so that a process killed
 * at any moment leaves nothing behind that holds the others up.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_SHARE_SHARE_H
#define TR_SHARE_SHARE_H

#include "base/err.h"
#include "nouns.h"

#define TR_SHARE_SLOTS 128 /* processes with one key; more must wait */

struct tr_share;

struct tr_share_opts {
    const char *folder;  /* made with mode 0700 if missing */
    const char *account; /* tr_lane.account */
    int64_t stuck_ns;    /* a lock held so long is left behind; 0: 10 s */
};
int tr_share_open(struct tr_share **out, const struct tr_share_opts *opts,
                  struct tr_err *err);
/* Ours in the table. */
uint64_t tr_share_id(const struct tr_share *s);
/* Our lease ends now, and not only when its time is over. Accepts NULL. */
void tr_share_close(struct tr_share *s);

#define TR_SHARE_BUSY 1 /* somebody else is at it: again in a moment */

/* The leases of all others, dead ones too; all has room for TR_SHARE_SLOTS.
 * TR_OK: nobody else reads or writes until tr_share_put(), which must follow
 * at once. */
int tr_share_get(struct tr_share *s, struct tr_lease *all, uint32_t *n,
                 struct tr_err *err);
/* Writes ours over our own last one, or over one that is dead: older than
 * live_ns. With no place left, TR_OK and *no_place. */
int tr_share_put(struct tr_share *s, const struct tr_lease *mine,
                 int64_t live_ns, bool *no_place, struct tr_err *err);

#endif
