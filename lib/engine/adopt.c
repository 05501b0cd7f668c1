/* adopt.c - batches of an earlier run: their attempts find their rows again.
 *
 * A batch goes on at the provider when the run that made it is gone. The next
 * run takes its attempts over as packs that are under way, each with the keys
 * of its rows. A row that is read and has such a key takes its seat instead of
 * being asked. An answer for a row that has not been read (yet, or any more)
 * goes into the store by its key: it is paid for.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>

struct taking {
    struct tr_run *run;
    struct tr_run_lane *lane;
    uint64_t *attempts, *tags; /* of the batch so far */
    size_t n, attempt_cap, tag_cap;
};

static int take_item(void *ctx, const struct tr_store_item *item,
                     struct tr_err *err)
{
    struct taking *t = ctx;
    struct tr_run *run = t->run;
    uint16_t ids[TR_PACK_MAX];
    struct tr_pack *p;
    int rc = TR_OK;

    if (item->items > TR_PACK_MAX)
        return tr_fail(err, TR_CONFIG, "the store holds a batch of another "
                       "trommel (%u texts in a request): finish it with that",
                       (unsigned)item->items);
    TRY(tr_run_grow((void **)&t->attempts, &t->attempt_cap, t->n + 1,
                    sizeof *t->attempts, err));
    TRY(tr_run_grow((void **)&t->tags, &t->tag_cap, t->n + 1, sizeof *t->tags,
                    err));
    p = tr_pack_adopted(run, t->lane, item->items, err);
    if (!p)
        return err->code;
    p->seats = tr_array(item->items, sizeof *p->seats);
    if (!p->seats)
        TRY(tr_fail(err, TR_NOMEM, "out of memory for an open batch"));
    p->attempt = item->attempt;
    p->bound = item->bound_nano;
    p->token_bound = item->bound_tokens;
    p->of_other = !item->ours;
    p->seed = item->seed;
    p->sent_at = run->now;
    tr_pack_draw(item->seed, p->n, p->order, ids);
    for (uint32_t i = 0; i < p->n; i++) {
        struct tr_seat *seat = &p->seats[i];

        p->items[i] = (struct tr_item){.id = ids[i]};
        p->rows[i] = NULL;
        *seat = (struct tr_seat){.key = item->keys[i], .pack = p};
        if (tr_keymap_find(&run->seats, &seat->key))
            continue; /* asked twice: whoever hears first settles the row */
        if (!tr_keymap_add(&run->seats, &seat->key, seat))
            TRY(tr_fail(err, TR_NOMEM, "out of memory for an open batch"));
    }
    p->state = TR_PACK_SENT;
    tr_queue_add(&t->lane->sent, p);
    run->unseated++;
    if (!p->of_other) /* it is reserved already */
        tr_run_purse_adopt(run, p);
    t->attempts[t->n] = p->attempt;
    t->tags[t->n++] = tr_pack_tag(p);
out:
    return rc;
}

static struct tr_run_lane *lane_of(struct tr_run *run,
                                   const struct tr_batch *batch)
{
    char name[340];

    TR_EACH_LANE(run, l) {
        snprintf(name, sizeof name, "%s@%s", l->lane->model, l->lane->host);
        if (strcmp(name, batch->lane) == 0)
            return l;
    }
    return NULL;
}

static int take_batch(struct tr_run *run, struct tr_run_lane *l,
                      const struct tr_batch *batch, struct tr_err *err)
{
    struct taking t = {.run = run, .lane = l};
    int rc = TR_OK;

    TRY(tr_store_batch_items(run->store, batch->id, take_item, &t, err));
    TRY(l->lane->vt->adopt(l->lane, batch, t.attempts, t.tags, t.n, err));
out:
    tr_free(t.attempts);
    tr_free(t.tags);
    return rc;
}

/* A run that only plans: the keys of the rows are enough. */
static int foresee_item(void *ctx, const struct tr_store_item *item,
                        struct tr_err *err)
{
    struct tr_run *run = ctx;

    for (uint32_t i = 0; i < item->items; i++)
        if (!tr_keymap_find(&run->seats, &item->keys[i]) &&
            !tr_keymap_add(&run->seats, &item->keys[i], run))
            return tr_fail(err, TR_NOMEM, "out of memory for an open batch");
    return TR_OK;
}

static int foresee_batch(struct tr_run *run, const struct tr_batch *batch,
                         struct tr_err *err)
{
    struct tr_preview *v = &run->preview;

    tr_batch_add(&v->batch_requests, &v->batch_nano, batch);
    return tr_store_batch_items(run->store, batch->id, foresee_item, run, err);
}

/* Only the first model of a chain goes in batches. */
static int not_in_batches(const struct tr_batch *batch,
                          const struct tr_run_lane *l, struct tr_err *err)
{
    bool one = batch->requests == 1;

    return tr_fail(err, TR_CONFIG, "%" PRId64 " request%s to %s %s under way "
                   "in a batch (%s): run the command with %s%s%s--batch to "
                   "take its answers, or give it up with trommel store forgive",
                   batch->requests, one ? "" : "s", batch->lane,
                   one ? "is" : "are",
                   batch->name[0] ? batch->name : batch->mark,
                   l->place ? "--model " : "", l->place ? l->lane->model : "",
                   l->place ? " " : "");
}

int tr_run_adopt(struct tr_run *run, struct tr_err *err)
{
    struct tr_batch *list = NULL;
    int64_t requests = 0;
    size_t n = 0, taken = 0;
    char line[200];
    int rc = TR_OK;

    run->now = run->opened_at;
    TRY(tr_store_batches(run->store, &list, &n, err));
    for (size_t i = 0; i < n && !run->opts.offline; i++) {
        struct tr_run_lane *l = lane_of(run, &list[i]);

        if (!l)
            continue;
        if (run->opts.dry_run) {
            TRY(foresee_batch(run, &list[i], err));
            continue;
        }
        if (!l->lane->in_batches)
            TRY(not_in_batches(&list[i], l, err));
        TRY(take_batch(run, l, &list[i], err));
        requests += list[i].requests;
        taken++;
    }
    /* Batches of a model that this run does not ask: charged until heard. */
    tr_run_purse_unheard(run);
    if (taken) {
        snprintf(line, sizeof line, "%zu %s of an earlier run with %" PRId64
                 " request%s %s picked up", taken,
                 taken == 1 ? "batch" : "batches", requests,
                 requests == 1 ? "" : "s", taken == 1 ? "is" : "are");
        tr_run_say(run, 2, line);
    }
out:
    tr_free(list);
    return rc;
}

