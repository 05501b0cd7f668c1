/* inflight.h - how many requests may be under way at once. Pure.
 *
 * By Little's law a rate needs rate x latency requests under way; more wait in
 * the server's queue and only make every answer later. A server of one's own
 * refuses nothing, so its latency has to say when there are enough: when the
 * median grows beyond half again of what it is without a queue, the limit
 * shrinks in proportion (Netflix's Gradient2, with a median for the mean).
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_INFLIGHT_H
#define TR_PLAN_INFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

enum { TR_INFLIGHT_SAMPLES = 64 };

struct tr_inflight {
    double limit;          /* requests allowed under way */
    double most;           /* never more */
    bool plain;            /* somebody said how many: latency has no say */
    bool doubling;         /* no queue felt yet: twice as many a round trip */
    double safe;           /* below this, doubling is safe */
    double base_ns;        /* median latency without a queue; 0: not known */
    double median_ns;      /* of the last full set of samples */
    double samples[TR_INFLIGHT_SAMPLES];
    int n, want;
    int queued;            /* medians in a row that showed a queue */
    int64_t looked_at;     /* when the base was last looked at */
    int64_t look_from;     /* > 0: only requests sent since count */
};

void tr_inflight_init(struct tr_inflight *f, double start, double most,
                      int64_t now);
/* One answer. full: as many as allowed were under way. */
void tr_inflight_answer(struct tr_inflight *f, bool full, int64_t sent_at,
                        int64_t now);
/* The server is overloaded. */
void tr_inflight_halve(struct tr_inflight *f);

#endif
