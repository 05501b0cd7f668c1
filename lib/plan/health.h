/* health.h - may a lane be asked? One state machine, told what came of each
 * request and when; and what makes a row go on to the next lane. Pure.
 *
 *              quota or day used up
 *    ┌─ OPEN ─────────────────────────► EXHAUSTED ──┐
 *    │  │ ▲ ▲                            ▲    │     │
 *    │  │ │ └──── a probe was answered ──┼────┘     │ key or model
 *    │  │ └─ anything was answered ─┐    │          │ refused
 *    │  │                           │    │          ▼
 *    │  └─ failures, no success ─► DOWN ─┴───────► GONE
 *    │     or a wish to be left alone for long
 *    └──────────────────────────────────────────────▲
 *
 * OPEN: asked as the pace allows. EXHAUSTED, DOWN: nothing leaves but one
 * probe at a time, at growing intervals; EXHAUSTED without an end that the
 * server stated is probed only for who waits for it. DOWN by a wish: nothing
 * before that time, and only a probe tells that it is over. GONE: never asked
 * again in this run; but one that has served is `doubted` first: a single
 * refusal among answers may be a stray, so one probe tells. Requests in flight
 * are awaited in every state.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_HEALTH_H
#define TR_PLAN_HEALTH_H

#include "nouns.h"

enum tr_health_state {
    TR_LANE_OPEN,
    TR_LANE_EXHAUSTED,
    TR_LANE_DOWN,
    TR_LANE_GONE
};
const char *tr_health_word(enum tr_health_state state); /* "open", ... */

#define TR_NEVER INT64_MAX

struct tr_health {
    enum tr_health_state state;
    bool probing;          /* a probe is planned or under way */
    bool comes_back;       /* exhausted: a limit of the day, not the credit */
    uint32_t failures;     /* without a success between */
    int64_t failing_since; /* when the first of them was sent; 0: none */
    int64_t answered_at;   /* last request that was answered, well or not */
    uint32_t probes;       /* that failed since it closed */
    int64_t probe_at;      /* not before; TR_NEVER: no probe */
    int64_t closed_at;     /* probes that left before were for other trouble */
    int64_t wish_until;    /* the server wants nothing before; 0: no wish */
    bool doubted;          /* gone by one word, and a probe is to tell */
    bool refused;          /* exhausted, and that word came from one that was
                              in flight: the probe may bring the second */
};

struct tr_health_news {
    enum tr_outcome outcome;
    int status;              /* HTTP, 0: none */
    bool probe;              /* this request was one */
    int64_t sent_at;
    bool in_batch;           /* it was away for as long as its batch, and that
                                fails as a whole */
    int64_t retry_after_ms;  /* server's wish, -1: none */
    double unit;             /* uniform in [0,1): jitter */
    bool served;             /* it has answered in this run, and a request of
                                one text may find out whether it still does */
    bool replaced;           /* another lane would take over: a lane that is
                                all there is is never called down */
    int64_t patience_ns;     /* longest time of trouble without an answer */
    int64_t quota_probe_ns;  /* first wait for a used-up quota; 0: nobody
                                waits for it */
};

/* True: the state is another one now. */
bool tr_health_reply(struct tr_health *h, const struct tr_health_news *news,
                     int64_t now);
/* The server wants nothing before `until`, said to us or to another run that
 * uses the key. Longer than the user's patience it is trouble at once, whoever
 * could take over: nobody is to sit it out in silence. True: the lane is down
 * for it. */
bool tr_health_wish(struct tr_health *h, int64_t until, int64_t patience_ns,
                    int64_t now);
/* Nothing waits or is under way anywhere: failures until now and those to come
 * are not of one time without an answer. A lane that is closed stays so. */
void tr_health_rest(struct tr_health *h);
/* May a probe leave now? Its begin and, if it never left, its end. */
static inline bool tr_health_wants_probe(const struct tr_health *h, int64_t now)
{
    return h->state != TR_LANE_OPEN && !h->probing && h->probe_at <= now;
}
/* Is it worth waiting for? waits: also for a quota, and for whatever time the
 * server names. */
static inline bool tr_health_hopes(const struct tr_health *h, bool waits,
                                   int64_t patience_ns, int64_t now)
{
    return h->state == TR_LANE_OPEN ||
           ((h->state == TR_LANE_DOWN || h->doubted) &&
            (waits || h->wish_until - now <= patience_ns)) ||
           (h->state == TR_LANE_EXHAUSTED && waits);
}

/* ---- what makes a row go on to the next lane --------------------------- */

/* name, word of --fallback-on */
#define TR_TRIGGERS(X)                                                         \
    X(TR_ON_EXHAUSTED, "exhausted") /* quota or limit of the day used up */    \
    X(TR_ON_GONE, "gone")           /* key refused, model retired or unknown */\
    X(TR_ON_DOWN, "down")           /* failures without any success */         \
    X(TR_ON_BLOCKED, "blocked")     /* the text alone: filter, refusal, 400 */ \
    X(TR_ON_TOO_LONG, "too_long")   /* the text alone does not fit */          \
    X(TR_ON_INVALID, "invalid")     /* the text alone gets no valid answer */

enum tr_trigger {
#define X(name, word) name,
    TR_TRIGGERS(X)
#undef X
    TR_TRIGGER_COUNT
};
const char *tr_trigger_word(enum tr_trigger t);
/* A comma list of words as a mask; false: *bad is the first that is none. */
bool tr_triggers_parse(struct tr_str list, unsigned *mask, struct tr_str *bad);
/* Why rows leave a lane in that state; -1 when it is open. */
int tr_trigger_of_state(enum tr_health_state state);
/* Why a row that would end so may go on instead; -1: it may not. */
int tr_trigger_of_why(enum tr_why why);

#endif
