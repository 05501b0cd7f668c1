/* estimate.h - what refusals say about a limit that nobody states. Pure.
 *
 * A refusal says that the provider's bucket holds less than one request. So
 * between two refusals all that was accepted is what flowed in: the rate is
 * known to one request in as many as were accepted, whatever the size of the
 * bucket. The estimator aims just below what is certain, and now and then a
 * little above it, which costs one refusal and finds a limit that was raised.
 *
 *          refused         bounds agree
 *   START ─────────▶ FIND ──────────────▶ CRUISE
 *                     ▲ │ ◀── bounds wide ── │
 *             refused │ │                    │ more accepted than
 *              RAMP ──┘ │                    │ the bounds allow
 *                ▲      │                    │
 *                └──────┼────────────────────┘
 *                       │ nothing accepted for long
 *                       ▼   a window began
 *                      DARK ──────────────▶ WINDOW
 *                        ◀── quota used up ── │
 *
 * DARK ends with the first request that is accepted: a window began, and
 * WINDOW spreads its quota over all of it. A limit that was cut shows as bounds
 * that do not agree: the older ones are forgotten. Refusals that no limit
 * explains have a share of their own (usual): once that is known only more of
 * them than usual are a limit, found from what was accepted meanwhile.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_ESTIMATE_H
#define TR_PLAN_ESTIMATE_H

#include "plan/taken.h"
#include "plan/usual.h"

#include <stdbool.h>
#include <stdint.h>

enum tr_estimate_phase {
    TR_EST_START,  /* no refusal yet: faster and faster */
    TR_EST_FIND,   /* limit passed: somewhere between the bounds */
    TR_EST_CRUISE, /* known to a few percent or better */
    TR_EST_RAMP,   /* the limit was raised: how far? */
    TR_EST_DARK,   /* nothing is accepted: wait for the window's end */
    TR_EST_WINDOW  /* fixed windows: quota and boundary known */
};

enum { TR_EST_ANCHORS = 12 };

struct tr_estimate {
    enum tr_estimate_phase phase;
    double base;            /* rate the phase began with, units per second */
    double low, high;       /* the limit lies between; 0: not known */
    double passed;          /* rate that was refused */
    double trusted;         /* rate before the refusals of DARK */
    int64_t since;          /* growth counts from here */
    int64_t hold_s_ns;      /* CRUISE: how long the base is kept */
    int64_t hold_until;     /* nothing leaves before: echoes, gaps, windows */
    int64_t reacted_at;     /* refusals of older requests are echoes */
    int64_t last_at;        /* last send */
    int64_t woke_at;        /* the last time a refusal was heard after sleep */
    int64_t idle_ns;        /* since the last anchor nothing held us so long */
    int64_t began_at;
    int64_t turn;           /* a refusal's round trip */
    int64_t probe_at;       /* one request tries since then; 0: none */
    int misses;             /* refusals in a row */
    double latency_s;       /* of the first answer; 0: none yet */
    bool blank;             /* several misses, and nothing accepted since */
    double size;            /* accepted until the first refusal */
    bool suspected;         /* may be tight: anchors are kept */
    double bar;             /* bound that a suspect passed */
    bool cleared;           /* was suspected, and is not */
    bool tuned;             /* a tight bucket's rate was met from above */
    double cut;             /* of the last refusal of a tight bucket */
    double run;             /* rate that it bore for some time */
    double ramp_from;       /* sum when RAMP began */
    double most;            /* size of a large request, units */
    double others;          /* part of what is sent that others send */
    struct tr_usual usual;  /* refusals that no limit explains */
    double left;            /* least level at the last refusal */
    /* refusals that speak about the limit in force, oldest first; usual.known:
     * the first of those that may be more than usual */
    struct tr_mark anchors[TR_EST_ANCHORS];
    int anchor_count;
    /* fixed windows */
    int64_t dark_from;      /* first refusal of DARK */
    int64_t dark_last;      /* last refusal of it */
    int64_t boundary;       /* a window began here, */
    int64_t slack;          /* or so much earlier */
    double window_s, quota;
    bool measuring;         /* the length of windows is not known yet */
    struct tr_taken taken;  /* units sent and not refused */
};

void tr_estimate_init(struct tr_estimate *e, int64_t now);
/* Units per second now aimed at; 0: no limit felt (yet). slow_start: bounded
 * from the first request; else unbounded until something is refused. */
double tr_estimate_rate(const struct tr_estimate *e, bool slow_start,
                        int64_t now);
/* held: the request waited for this limit and for nothing else. */
void tr_estimate_sent(struct tr_estimate *e, double units, bool held,
                      int64_t now);
void tr_estimate_accepted(struct tr_estimate *e, int64_t sent_at, int64_t now);
/* wait_s: what the server asked to wait, < 0: nothing. */
void tr_estimate_refused(struct tr_estimate *e, double units, double wait_s,
                         int64_t sent_at, int64_t now);
/* Is a refusal, not yet told, one that the limit as it is known cannot explain?
 * > 0: yes, 1 for sure; < 0: it was looked for; 0: that cannot be said. */
double tr_estimate_surprise(const struct tr_estimate *e, double units,
                            int64_t sent_at);
/* Refusals come whatever the rate is: from now on only more of them than usual
 * are a limit. rate: the one to go back to, if it is higher. */
void tr_estimate_tolerate(struct tr_estimate *e, double rate, int64_t now);
/* A request did not count after all: refused for another reason, or never
 * sent. */
void tr_estimate_uncount(struct tr_estimate *e, double units, int64_t sent_at);
/* No limit is felt (any more); what was taken is kept. */
void tr_estimate_forget(struct tr_estimate *e, int64_t now);
/* Other processes sent these against the same limit, evenly from..to. */
void tr_estimate_others(struct tr_estimate *e, double units, int64_t from,
                        int64_t to);
/* Units sent until then and not refused, since the beginning. */
double tr_estimate_taken(const struct tr_estimate *e, int64_t at);
/* Would this refusal be no surprise: is the level known to be near nothing? */
bool tr_estimate_explains(const struct tr_estimate *e, int64_t sent_at);
/* Does the bucket seem to hold only one to three requests? */
bool tr_estimate_is_tight(const struct tr_estimate *e);
/* A monotonic clock stepped back. */
void tr_estimate_shift(struct tr_estimate *e, int64_t back);

#endif
