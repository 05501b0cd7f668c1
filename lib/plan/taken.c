/* taken.c - what was sent and not refused until a time, from two rings of
 * marks: a fine one of the last sends, a coarse one of the last two minutes.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/taken.h"

#include "base/clock.h"

#define FINE_STEP (2 * TR_MS)
#define COARSE_STEP (2 * TR_S)

static void mark(struct tr_mark *ring, int size, int *n, int *newest,
                 int64_t step, int64_t at, double sum)
{
    /* A mark moves until the one before it is `step` away. */
    if (*n >= 2 && at - ring[(*newest + size - 1) % size].at < step) {
        ring[*newest] = (struct tr_mark){at, sum};
        return;
    }
    *newest = *n ? (*newest + 1) % size : 0;
    ring[*newest] = (struct tr_mark){at, sum};
    if (*n < size)
        ++*n;
}

/* Sum at a time, by the marks of one ring; false: older than all of them. */
static bool look(const struct tr_mark *ring, int size, int n, int newest,
                 int64_t at, double now_sum, double *sum)
{
    struct tr_mark after = {INT64_MAX, now_sum};

    for (int k = 0; k < n; k++) {
        struct tr_mark m = ring[(newest + size - k) % size];

        if (m.at <= at) {
            double share = after.at == INT64_MAX || after.at <= m.at
                               ? 0
                               : (double)(at - m.at) /
                                     (double)(after.at - m.at);

            *sum = m.sum + (k ? share * (after.sum - m.sum) : 0);
            return true;
        }
        after = m;
    }
    return false;
}

double tr_taken_at(const struct tr_taken *t, int64_t at)
{
    double sum = 0;

    if (look(t->recent, TR_TAKEN_RECENT, t->recent_n, t->recent_at, at, t->sum,
             &sum) ||
        look(t->past, TR_TAKEN_PAST, t->past_n, t->past_at, at, t->sum, &sum))
        return sum;
    return t->past_n == TR_TAKEN_PAST
               ? t->past[(t->past_at + 1) % TR_TAKEN_PAST].sum : 0;
}

static void mark_recent(struct tr_taken *t, int64_t at)
{
    mark(t->recent, TR_TAKEN_RECENT, &t->recent_n, &t->recent_at, FINE_STEP, at,
         t->sum);
}

static void mark_past(struct tr_taken *t, int64_t at)
{
    mark(t->past, TR_TAKEN_PAST, &t->past_n, &t->past_at, COARSE_STEP, at,
         t->sum);
}

void tr_taken_add(struct tr_taken *t, double units, int64_t now)
{
    t->sum += units;
    mark_recent(t, now);
    mark_past(t, now);
}

void tr_taken_drop(struct tr_taken *t, double units, int64_t sent_at)
{
    t->sum -= units;
    for (int i = 0; i < t->recent_n; i++)
        if (t->recent[i].at >= sent_at)
            t->recent[i].sum -= units;
    for (int i = 0; i < t->past_n; i++)
        if (t->past[i].at >= sent_at)
            t->past[i].sum -= units;
}

/* Of so many marks, oldest first: what was taken at most from one to a later
 * one, both included, that is no further away. The first only tells what was
 * before the second. */
static double most_in(const struct tr_mark *m, int n, int64_t span)
{
    double most = 0;

    for (int i = 1, from = 1; i < n; i++) {
        while (m[i].at - m[from].at > span)
            from++;
        if (m[i].sum - m[from - 1].sum > most)
            most = m[i].sum - m[from - 1].sum;
    }
    return most;
}

static bool bore(const struct tr_mark *ring, int size, int n, int newest,
                 int64_t sent_at, int64_t served_at)
{
    struct tr_mark m[TR_TAKEN_RECENT];
    int count = 0, served = 0, last;

    for (int k = n - 1; k >= 0; k--) {
        struct tr_mark at = ring[(newest + size - k) % size];

        if (at.at <= sent_at)
            m[count++] = at;
        if (at.at < sent_at && at.at <= served_at)
            served = count;
    }
    last = count - 1;
    /* Times that end there and begin with a send; of the longer ones some. */
    for (int from = last; from > 0; from -= 1 + (last - from) / 2)
        if (m[last].sum - m[from - 1].sum >
            most_in(m, served, m[last].at - m[from].at))
            return false;
    return last > 0;
}

bool tr_taken_bore(const struct tr_taken *t, int64_t sent_at, int64_t served_at)
{
    return bore(t->recent, TR_TAKEN_RECENT, t->recent_n, t->recent_at,
                sent_at, served_at) &&
           bore(t->past, TR_TAKEN_PAST, t->past_n, t->past_at, sent_at,
                served_at);
}

void tr_marks_spread(struct tr_mark *m, int n, double units, int64_t from,
                     int64_t to)
{
    for (int i = 0; i < n; i++)
        if (m[i].at >= to)
            m[i].sum += units;
        else if (m[i].at > from)
            m[i].sum += units * (double)(m[i].at - from) / (double)(to - from);
}

void tr_taken_spread(struct tr_taken *t, double units, int64_t from, int64_t to)
{
    tr_marks_spread(t->recent, t->recent_n, units, from, to);
    tr_marks_spread(t->past, t->past_n, units, from, to);
    t->sum += units;
    if (!t->recent_n || t->recent[t->recent_at].at < to)
        mark_recent(t, to);
    if (!t->past_n || t->past[t->past_at].at < to)
        mark_past(t, to);
}

void tr_taken_shift(struct tr_taken *t, int64_t back)
{
    for (int i = 0; i < t->recent_n; i++)
        t->recent[i].at -= back;
    for (int i = 0; i < t->past_n; i++)
        t->past[i].at -= back;
}
