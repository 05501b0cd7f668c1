/* taken.h - what was sent and not refused, until any time of the last two
 * minutes. Pure.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_TAKEN_H
#define TR_PLAN_TAKEN_H

#include <stdbool.h>
#include <stdint.h>

enum { TR_TAKEN_RECENT = 1024, TR_TAKEN_PAST = 64 };

/* Units sent and not refused until a time. */
struct tr_mark {
    int64_t at;
    double sum;
};

/* Zeroed it is empty. */
struct tr_taken {
    double sum;                             /* of all */
    struct tr_mark recent[TR_TAKEN_RECENT]; /* every send, or every 2 ms */
    struct tr_mark past[TR_TAKEN_PAST];     /* every 2 s */
    int recent_n, recent_at, past_n, past_at;
};

void tr_taken_add(struct tr_taken *t, double units, int64_t now);
double tr_taken_at(const struct tr_taken *t, int64_t at);
/* What was sent then was refused. */
void tr_taken_drop(struct tr_taken *t, double units, int64_t sent_at);
/* Was as much as what left then, and was refused, taken before? For each time up
 * to that one as much was taken in one as long, and served (the last that was
 * left at served_at): no bucket that is as it was refuses that, whatever it holds
 * and however it fills. */
bool tr_taken_bore(const struct tr_taken *t, int64_t sent_at,
                   int64_t served_at);
/* Sent by others, evenly from..to. */
void tr_taken_spread(struct tr_taken *t, double units, int64_t from,
                     int64_t to);
void tr_marks_spread(struct tr_mark *m, int n, double units, int64_t from,
                     int64_t to);
/* The clock stepped back. */
void tr_taken_shift(struct tr_taken *t, int64_t back);

#endif
