/* ledger.h - one budget over several stores and processes: who holds how much.
 *
 * A job may have several stores (a task file that changed, two tasks on one
 * input) and several processes at once. Each store has a share here. What a
 * share holds is never less than what its store has spent or may still spend;
 * the sum of what all hold never exceeds the budget. A run spends only what its
 * share holds and claims more when that is used up; a killed one leaves its
 * share as it was, until its store is opened again and says what it really
 * spent. One that has fewer commits than it was seen with is an older copy: it
 * does not know what was spent since, and takes nothing back. Pure;
 * store/joint.c keeps it in a file under a lock.
 *
 * A period is the job (until a run has finished and, nobody else being at work,
 * begins again, or a new store comes) or a day. The day never goes back: a
 * clock that is moved back grants no second budget.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_PLAN_LEDGER_H
#define TR_PLAN_LEDGER_H

#include "base/buf.h"
#include "base/err.h"
#include "nouns.h"

/* What a budget may be in: nano-dollars, tokens, requests. */
enum tr_purse { TR_PURSE_NANO, TR_PURSE_TOKENS, TR_PURSE_REQUESTS, TR_PURSES };

#define TR_SHARES_MAX 64 /* stores of one job */

struct tr_share {
    struct tr_key store;
    int64_t round;               /* of the store's own sums */
    int64_t period;              /* that the numbers are of */
    int64_t commits;             /* the store's, as last told; 0: unknown */
    int64_t since[TR_PURSES];    /* the round's sums when the period began */
    int64_t lost[TR_PURSES];     /* of unknown cost then, and still */
    int64_t carried[TR_PURSES];  /* used in this period and not in the sums
                                    since then: by earlier rounds, and before
                                    an older copy came */
    int64_t held[TR_PURSES];     /* used or claimed in this period */
    bool done;                   /* its run has finished in this period */
    bool alive;                  /* not kept: a process is at work on it */
};

struct tr_ledger {
    int64_t period;              /* a count, or the latest day ever seen */
    uint32_t n;
    struct tr_share shares[TR_SHARES_MAX];
};

/* What a run tells and asks. spent: settled sums of the store's round; unknown:
 * bounds of what nobody will hear of any more; open: of what is in flight. */
enum tr_ledger_op { TR_LEDGER_JOIN, TR_LEDGER_CLAIM, TR_LEDGER_LEAVE };
struct tr_ledger_ask {
    enum tr_ledger_op op;
    int64_t round;
    int64_t commits;             /* durable ones of the store, ever more */
    bool opened;                 /* JOIN: the store was opened just now, and
                                    has made one commit since */
    bool per_day;
    int64_t day;                 /* today, by the clock; days since 1970 */
    int64_t spent[TR_PURSES], unknown[TR_PURSES], open[TR_PURSES];
    int64_t cap[TR_PURSES];      /* -1: none */
    int64_t want[TR_PURSES];     /* CLAIM: wanted beyond what is held */
    bool finished;               /* LEAVE: the run has done all its rows */
    /* answers */
    int64_t period;              /* that the budget is of: per_day, the latest
                                    day ever seen */
    bool granted;                /* CLAIM: at least what was wanted */
    int lacking;                 /* CLAIM not granted: of which purse */
    int64_t more[TR_PURSES];     /* CLAIM: held from now on in addition */
    int64_t earlier[TR_PURSES];  /* JOIN: of spent and unknown, not used of
                                    this period's budget; negative where more
                                    is used than they say */
    int64_t elsewhere[TR_PURSES]; /* held by other stores of the job */
};

/* JOIN and LEAVE say what is true now; JOIN also when the day has changed.
 * TR_STOPPED: more stores than shares. */
int tr_ledger_apply(struct tr_ledger *l, const struct tr_key *store,
                    struct tr_ledger_ask *ask, struct tr_err *err);

/* As a few lines of text; TR_CONFIG when it is not one of ours: never taken for
 * an empty one, which would grant the budget again. */
void tr_ledger_write(const struct tr_ledger *l, struct tr_buf *out);
int tr_ledger_read(struct tr_ledger *l, struct tr_str text, const char *path,
                   struct tr_err *err);

#endif
