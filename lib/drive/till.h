/* till.h - the ledger of a job as a file beside its stores: tr_env.ledger.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TR_TILL_H
#define TR_TILL_H

#include "plan/ledger.h"

struct tr_till {
    char *folder;        /* owned; NULL: no store, nobody to share with */
    char name[64];       /* of the file */
    struct tr_key store; /* whose share is ours: the task's digest */
    bool has_budget;     /* of the job or the day; else the file is only kept
                            right if it is there */
};

int tr_till_open(struct tr_till *t, const char *folder,
                 const struct tr_key *task, const char *job, bool per_day,
                 bool has_budget, struct tr_err *err);
int tr_till_ask(struct tr_till *t, struct tr_ledger_ask *ask,
                struct tr_err *err);
void tr_till_release(struct tr_till *t);

#endif
