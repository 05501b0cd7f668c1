/* bill.h - what the provider charged, and what it saw.
 * SPDX-License-Identifier: MIT */
#ifndef TR_FAKE_BILL_H
#define TR_FAKE_BILL_H

#include "base/buf.h"
#include "fake/texts.h"

/* How a request ended: id, name in /bill, whether the work was charged */
#define FAKE_ENDS(X)                                                           \
    X(FAKE_END_ANSWERED, "answered", 1)                                        \
    X(FAKE_END_TRUNCATED, "truncated", 1)                                      \
    X(FAKE_END_REFUSED, "refused", 1)                                          \
    X(FAKE_END_FILTERED, "filtered", 1)                                        \
    X(FAKE_END_CUT, "cut", 1)                                                  \
    X(FAKE_END_CUT_MID, "cut_mid", 1)                                          \
    X(FAKE_END_HUNG, "hung", 1)                                                \
    X(FAKE_END_LIMITED, "limited", 0)                                          \
    X(FAKE_END_TOO_LARGE, "too_large", 0)                                      \
    X(FAKE_END_429, "429", 0)                                                  \
    X(FAKE_END_QUOTA, "quota", 0)                                              \
    X(FAKE_END_DAILY, "daily", 0)                                              \
    X(FAKE_END_RETIRED, "retired", 0)                                          \
    X(FAKE_END_500, "500", 0)                                                  \
    X(FAKE_END_502, "502", 0)                                                  \
    X(FAKE_END_503, "503", 0)                                                  \
    X(FAKE_END_SLOW_DOWN, "slow_down", 0)                                      \
    X(FAKE_END_TOO_LONG, "too_long", 0)                                        \
    X(FAKE_END_UNSUPPORTED, "unsupported", 0)                                  \
    X(FAKE_END_BAD_REQUEST, "bad_request", 0)                                  \
    X(FAKE_END_UNAUTHORIZED, "unauthorized", 0)

enum fake_end {
#define X(id, name, charged) id,
    FAKE_ENDS(X)
#undef X
    FAKE_END_COUNT
};
bool fake_end_is_charged(enum fake_end end);

/* The most events seen in any stretch of time: a queue of their times. */
struct fake_peak {
    int64_t *at_ns;  /* ring; owned */
    size_t cap, first, n;
    int64_t span_ns;
    size_t max;
};

struct fake_bill {
    uint64_t requests, ends[FAKE_END_COUNT];
    uint64_t prompt_tokens, completion_tokens, reasoning_tokens;
    uint64_t items_asked, items_answered; /* answered: and charged */
    uint64_t texts, paid_twice, paid_again;
    uint64_t pico_usd;
    uint64_t batches, batch_requests;     /* made; charged requests in them */
    int64_t first_ms, last_ms;            /* Unix; 0: none yet */
    uint64_t in_flight, in_flight_max;
    struct fake_peak second, minute;          /* requests that came */
    struct fake_peak passed_second, passed_minute; /* and passed the limits */
};

void fake_bill_init(struct fake_bill *b);
void fake_bill_release(struct fake_bill *b);
/* Forgets everything but the requests in flight. */
void fake_bill_clear(struct fake_bill *b);
void fake_bill_come(struct fake_bill *b, int64_t now_ns, int64_t wall_ms);
void fake_bill_pass(struct fake_bill *b, int64_t now_ns);
/* One charged answer for this text. */
void fake_bill_text(struct fake_bill *b, struct fake_text *text);
void fake_bill_write(struct tr_buf *out, const struct fake_bill *b);

#endif
