/* inflight.c - how many requests may be under way: a latency gradient.
 *
 * SPDX-License-Identifier: MIT */
#include "plan/inflight.h"

#include "base/clock.h"

#include <math.h>
#include <stdlib.h>

#define TOLERANCE 1.5     /* a median that much above the base is no queue */
#define GRADIENT_LEAST 0.5
#define SMOOTH 0.3
#define ROOM 4.0          /* added each time: finds out whether more help; */
#define ROOM_SHARE 0.125  /* or this share of the limit */
#define LOOK_EVERY (20 * TR_S)
#define LEAST_SAMPLES 12
#define FIRST_SAMPLES 6   /* the first see the shortest queue */
#define SURE_QUEUE 0.75
#define LEAST 4.0         /* after an overload */
#define QUEUE 1.3         /* a median above that many bases: a queue */
#define QUEUES 2          /* medians in a row that end the doubling */

void tr_inflight_init(struct tr_inflight *f, double start, double most,
                      int64_t now)
{
    *f = (struct tr_inflight){.limit = fmin(start, most), .most = most,
                              .doubling = true, .looked_at = now};
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double gradient(const struct tr_inflight *f)
{
    return fmin(1, fmax(GRADIENT_LEAST,
                        TOLERANCE * f->base_ns / f->median_ns));
}

static void set(struct tr_inflight *f, double limit)
{
    f->limit = fmin(f->most, fmax(1, limit));
}

/* The samples of one round begin; so many of them make a median. */
static void again(struct tr_inflight *f)
{
    f->n = 0;
    f->want = f->base_ns <= 0              ? FIRST_SAMPLES
              : f->limit < LEAST_SAMPLES   ? LEAST_SAMPLES
              : f->limit < TR_INFLIGHT_SAMPLES ? (int)f->limit
                                               : TR_INFLIGHT_SAMPLES;
}

/* A queue of our own making hides the base: with as many under way as the rate
 * needs without one it shows again. Still a queue: fewer yet. */
static void look(struct tr_inflight *f, int64_t now)
{
    f->look_from = now;
    set(f, f->limit * fmin(0.5, f->base_ns / f->median_ns));
}

static void looked(struct tr_inflight *f, int64_t now)
{
    if (f->median_ns > QUEUE * f->base_ns && f->limit >= 2) {
        look(f, now);
        return;
    }
    f->base_ns = f->median_ns;
    f->look_from = 0;
    f->looked_at = now;
    set(f, 2 * f->limit + ROOM);
}

static void follow_base(struct tr_inflight *f, double first)
{
    if (f->base_ns <= 0)
        f->base_ns = f->median_ns = first;
    else if (f->median_ns < f->base_ns) /* few samples may be low by chance */
        f->base_ns += (f->median_ns - f->base_ns) / 2;
    else if (f->median_ns < QUEUE * f->base_ns)
        f->base_ns += (f->median_ns - f->base_ns) / 50;
}

static void sampled(struct tr_inflight *f, bool full, int64_t now)
{
    double g, room = full ? fmax(ROOM, ROOM_SHARE * f->limit) : 0;

    qsort(f->samples, (size_t)f->n, sizeof *f->samples, by_size);
    f->median_ns = fmax(1, f->samples[f->n / 2]);
    if (f->look_from > 0) {
        looked(f, now);
        return;
    }
    follow_base(f, fmax(1, f->samples[f->n / 4]));
    g = gradient(f);
    f->queued = g <= SURE_QUEUE ? f->queued + 1 : 0;
    if (f->queued >= QUEUES || g <= GRADIENT_LEAST)
        f->doubling = false;
    if (g < 1 || full)
        set(f, f->limit + SMOOTH * (f->limit * (g - 1) + room));
    if (now - f->looked_at >= LOOK_EVERY) {
        f->looked_at = now;
        if (f->median_ns > QUEUE * f->base_ns && f->limit >= 2)
            look(f, now);
    }
}

void tr_inflight_answer(struct tr_inflight *f, bool full, int64_t sent_at,
                        int64_t now)
{
    if (f->plain) { /* back to it after an overload, one a round trip */
        set(f, f->limit + 1 / fmax(1, f->limit));
        return;
    }
    if ((f->doubling || f->limit < f->safe) && full && f->look_from <= 0)
        set(f, f->limit + 1);
    /* Of requests sent since the look began the quickest come back first:
     * wait until the mix is fair. */
    if (now < sent_at || sent_at < f->look_from ||
        (f->look_from > 0 &&
         (double)(now - f->look_from) < 2.5 * f->base_ns))
        return;
    if (f->n == 0)
        again(f);
    f->samples[f->n++] = (double)(now - sent_at);
    if (f->n >= f->want) {
        sampled(f, full, now);
        f->n = 0;
    }
}

/* After an overload the half of what went well before is safe to go back to
 * quickly, unless that is refused as well. Never fewer than LEAST: of so few
 * some may hang until their deadline, and one alone would hold up everything;
 * pauses do the rest. */
void tr_inflight_halve(struct tr_inflight *f)
{
    f->safe = f->limit < f->safe ? f->limit : f->limit / 2;
    f->doubling = false;
    f->look_from = 0;
    f->n = 0;
    set(f, fmin(f->limit, fmax(LEAST, f->limit / 2)));
}
