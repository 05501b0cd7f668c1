/* till.c - the ledger of a job as a file beside its stores.
 *
 * Read, decided and written under one lock: a moment each time, and seldom,
 * because a claim takes more than it needs while there is plenty.
 *
 * SPDX-License-Identifier: MIT */
#include "drive/till.h"

#include "base/mem.h"
#include "store/joint.h"

#include <stdio.h>
#include <string.h>

int tr_till_open(struct tr_till *t, const char *folder,
                 const struct tr_key *task, const char *job, bool per_day,
                 bool has_budget, struct tr_err *err)
{
    struct tr_key key = tr_digest(NULL, tr_str_c(job));
    char hex[33];

    *t = (struct tr_till){.store = *task, .has_budget = has_budget};
    t->folder = tr_dup(folder, strlen(folder));
    if (!t->folder)
        return tr_fail(err, TR_NOMEM, "out of memory");
    tr_key_hex(&key, 16, hex);
    snprintf(t->name, sizeof t->name, "%s-%s.ledger", per_day ? "day" : "job",
             hex);
    return TR_OK;
}

void tr_till_release(struct tr_till *t)
{
    tr_free(t->folder);
    t->folder = NULL;
}

/* Which stores have a process at work. Ours is not asked: it is us. */
static void look_around(const struct tr_till *t, struct tr_ledger *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (tr_key_cmp(&l->shares[i].store, &t->store) != 0)
            l->shares[i].alive = tr_store_in_use(t->folder,
                                                 &l->shares[i].store);
}

int tr_till_ask(struct tr_till *t, struct tr_ledger_ask *ask,
                struct tr_err *err)
{
    struct tr_ledger l;
    struct tr_joint j;
    struct tr_buf text;
    int rc = TR_OK;

    if (!t->has_budget && !tr_joint_exists(t->folder, t->name))
        return TR_OK; /* no budget, and none was ever set */
    tr_buf_init(&text, 0);
    TRY(tr_joint_open(&j, t->folder, t->name, &text, err));
    TRY(tr_ledger_read(&l, tr_buf_str(&text), j.path, err));
    look_around(t, &l);
    TRY(tr_ledger_apply(&l, &t->store, ask, err));
    if (ask->op == TR_LEDGER_CLAIM && !ask->granted)
        goto out; /* nothing changed */
    tr_buf_clear(&text);
    tr_ledger_write(&l, &text);
    if (!tr_buf_ok(&text))
        TRY(tr_fail(err, TR_NOMEM, "out of memory for the ledger"));
    TRY(tr_joint_write(&j, tr_buf_str(&text), err));
out:
    tr_joint_close(&j);
    tr_buf_release(&text);
    return rc;
}
