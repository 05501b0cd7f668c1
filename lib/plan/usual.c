/* usual.c - the share of refusals that no limit explains.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/usual.h"

#include <math.h>

#define USUAL_MEMORY 1000.0 /* requests */
#define USUAL_LEAST 0.005
#define USUAL_MOST 0.3     /* a larger share is a limit, whatever the rate */
#define USUAL_GONE 0.004   /* so few: every refusal tells of a limit again */
#define EXCESS 0.1         /* so much more than usual is looked for */

double tr_usual_share(const struct tr_usual *u)
{
    return fmin(USUAL_MOST,
                fmax(USUAL_LEAST, (u->refused + 1) / (u->tries + 10)));
}

void tr_usual_sent(struct tr_usual *u, bool learn)
{
    double p = tr_usual_share(u);

    if (learn) {
        u->tries = u->tries * (1 - 1 / USUAL_MEMORY) + 1;
        u->refused *= 1 - 1 / USUAL_MEMORY;
        if (u->refused < USUAL_GONE * u->tries)
            u->known = false;
    }
    u->score = fmax(0, u->score + log((1 - p - EXCESS) / (1 - p)));
}

bool tr_usual_refused(struct tr_usual *u, bool learn, double sure)
{
    double p = tr_usual_share(u);

    u->refused += learn;
    /* It was taken for accepted when it left. */
    u->score += log((p + EXCESS) / p) - log((1 - p - EXCESS) / (1 - p));
    if (u->score < sure)
        return false;
    u->score = 0;
    return true;
}
