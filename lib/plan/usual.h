/* usual.h - refusals that come whatever the rate is: their share, and whether
 * there are more of them than that. Pure.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_USUAL_H
#define TR_PLAN_USUAL_H

#include <stdbool.h>

/* The share of all that is refused whatever we do, and whether more is refused
 * now: Page's test for a share that is higher by a tenth. */
struct tr_usual {
    bool known;             /* there is one */
    double tries, refused;  /* of the last thousand */
    double score;           /* log-likelihood ratio since it was last 0 */
};

#define TR_USUAL_SURE 6.0   /* a score: in vain once in some thousand requests */

/* learn: does this one tell what is usual? */
void tr_usual_sent(struct tr_usual *u, bool learn);
/* More than usual? sure: the score that says so. */
bool tr_usual_refused(struct tr_usual *u, bool learn, double sure);
double tr_usual_share(const struct tr_usual *u);

#endif
