/* pace.h - when the next request may leave. Pure: time is a parameter.
 *
 * Controllers for requests and tokens, each a smooth pacer (GCRA, a fraction
 * of a second of burst, never a full minute) under a rate that comes from the
 * user's ceilings, from the provider's headers, or, where there are none, from
 * its refusals (estimate.h); and a limit on requests in flight (inflight.h). A
 * server's Retry-After is a floor for the whole lane, with jitter behind it.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_PACE_H
#define TR_PLAN_PACE_H

#include "nouns.h"
#include "plan/bucket.h"
#include "plan/inflight.h"

/* Anthropic limits input and output apart; TOKENS is both together. Only
 * requests and tokens are estimated: the parts have limits by headers alone. */
enum tr_pace_unit {
    TR_PACE_REQUESTS,
    TR_PACE_TOKENS,
    TR_PACE_INPUT,
    TR_PACE_OUTPUT,
    TR_PACE_UNITS
};

struct tr_pace_opts {
    int concurrency;     /* user's ceiling, also the start; 0: learn, start 4 */
    int concurrency_max; /* never more (lane); 0: none of its own */
    int room;            /* what the caller can hold; 0: TR_CONCURRENCY_MAX */
    double rpm, tpm;     /* ceilings per minute; 0: none */
};

struct tr_pace {
    struct tr_pace_opts opts;
    struct tr_bucket buckets[TR_PACE_UNITS];
    struct tr_inflight flight;
    double window;        /* requests allowed in flight */
    int in_flight;
    int64_t hold_until;   /* nothing leaves before (Retry-After, back-off) */
    int64_t wished_until; /* of it, what the server itself asked for */
    int64_t used_up_until; /* the same, where its headers alone said so */
    int64_t pressed_until; /* an overload: the window alone decides */
    int64_t cut_at;       /* last cut: refusals of requests sent before it
                             are echoes and do not cut again */
    int64_t refused_in_row; /* fresh refusals without a success between */
    int stuck;            /* of those in flight */
    double doubts;        /* refusals that no limit explains, lately */
    int whose;            /* refusals that only a limit of requests explains,
                             less those that only one of tokens does, from 0 */
    int64_t served_at;    /* when the last request left that was served */
    struct tr_usual usual; /* overloads, however few are under way */
    int persists;         /* of them in a row while fewer were under way */
    double cut_flight;    /* so many were under way at the cut */
    double share[TR_PACE_UNITS]; /* units per token of the estimate */
    double trust;         /* 0.1..1 of the learned rate: falls on refusals
                             that the headers do not explain */
    int64_t trust_at;
    int64_t lowered_at;   /* when headers last told of a lower limit */
    int64_t headers_at;   /* when the newest request with headers left */
    int64_t seen_at;      /* latest time seen: the clock may step back */
    bool saw_headers;
    /* "Slow Down": the rate of before, kept, then raised in steps */
    double eased;         /* requests per second; 0: not told to */
    double latency_ns;    /* of answers, smoothed; 0: none yet */
    int64_t eased_at;
    int64_t minute_at;    /* sends in this minute, the rates of those before */
    double minute_sent, minute_rate[3];
    /* Of several processes with one key (fair.h): the part of each rate that
     * is ours, and what the others want to know. */
    double part[TR_LIMIT_KINDS];
    double sent[TR_LIMIT_KINDS];  /* units sent and not refused */
    int64_t rate_at;              /* replies last spoke about the rate */
    int64_t refused_at, refused_sent_at; /* the last refusal; 0: none */
    int64_t asked_until;          /* hold the server asked for with it */
};

#define TR_CONCURRENCY_MAX 512

void tr_pace_init(struct tr_pace *p, const struct tr_pace_opts *opts,
                  int64_t now);

#define TR_PACE_FULL INT64_MAX /* wait for a reply, not for time */

/* 0: a request may leave now, whatever its size: what it takes is paid for by a
 * wait after it; TR_PACE_FULL: as many as allowed are in flight; else
 * nanoseconds to wait. */
int64_t tr_pace_wait(const struct tr_pace *p, int64_t now);
/* The same for the one request that finds out whether a closed lane answers
 * again: windows and gaps that are only estimated do not hold it back. */
int64_t tr_pace_probe_wait(const struct tr_pace *p, int64_t now);
/* A request under way for so long hangs, probably. */
int64_t tr_pace_patience(const struct tr_pace *p);
/* So many hang now: they keep no place, but no more than the window holds may
 * leave on top of them, and never more than the user or the lane allow. */
void tr_pace_stuck(struct tr_pace *p, int n);
void tr_pace_sent(struct tr_pace *p, int64_t tokens, int64_t now);

/* One reply (or loss) of a request that left at sent_at with that estimate.
 * unit is uniform in [0,1) for the jitter. */
struct tr_pace_news {
    enum tr_outcome outcome;
    int64_t sent_at;
    int64_t tokens_estimate, tokens_true; /* true -1: unknown */
    int64_t in_true, out_true;            /* parts of it; <= 0: unknown */
    int status;                           /* of HTTP; 0: none */
    bool slow_down;                       /* told to go back to an older rate */
    const struct tr_limits *limits;       /* may be NULL */
    int64_t retry_after_ms;               /* -1: none */
    double unit;
};
void tr_pace_reply(struct tr_pace *p, const struct tr_pace_news *news,
                   int64_t now);

/* ---- one key, several processes --------------------------------------- */

/* From now on these parts of the key's rates are ours, 0..1. */
void tr_pace_part(struct tr_pace *p, const double *part, int64_t now);
/* What the others take the key to allow, units per second, 0: unknown: in
 * force until our own replies say; with follows, until our own headers say. */
void tr_pace_told(struct tr_pace *p, const double *rate, const bool *follows,
                  int64_t now);
/* Another process sent so many units from..to. */
void tr_pace_sent_elsewhere(struct tr_pace *p, const double *units,
                            int64_t from, int64_t to);
/* Another process was refused at refused_at a request that left at sent_at,
 * and nothing that it knew explained it. */
void tr_pace_refused_elsewhere(struct tr_pace *p, int64_t sent_at,
                               int64_t hold_until, int64_t refused_at,
                               int64_t now);
/* Units per second aimed at for the whole key, and without the user's ceiling
 * (as replies taught it); 0: unknown. kind: TR_LIMIT_... */
double tr_pace_key_rate(const struct tr_pace *p, int kind, int64_t now);
double tr_pace_learned_rate(const struct tr_pace *p, int kind, int64_t now);
/* Is it this limit that lets nothing leave now? */
bool tr_pace_is_short(const struct tr_pace *p, int kind, int64_t now);

/* For people and progress: requests per minute now aimed at, 0 unknown. */
double tr_pace_rpm(const struct tr_pace *p);

/* The lower of two limits; 0: no limit. */
static inline double tr_pace_lower(double a, double b)
{
    return a <= 0 || (b > 0 && b < a) ? b : a;
}

#endif
