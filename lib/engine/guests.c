/* guests.c - items that are no rows: canaries and audits among the rows of a
 * pack, and what their answers mean for it. plan/guard.c decides.
 *
 * Guests have no row, no key in the store and no place in the output; what
 * they cost is part of the pack's bytes, cap and bound like any item.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "plan/suspect.h"

#include <stdio.h>

/* The first packs wait so long for texts that become canaries; strict ones as
 * long as it takes: the other way would be to ask all rows alone. */
#define SCOUT_WAIT (10 * TR_S)

static bool is_on(const struct tr_run_lane *l)
{
    return l->guard.mode != TR_GUARD_OFF;
}

void tr_guests_open(struct tr_run *run, struct tr_run_lane *l)
{
    const struct tr_task *task = run->task;
    /* Where no text shares a request there is nobody to steer. */
    bool packs = !l->lane->is_local && !l->lane->decides &&
                 !run->opts.isolate && run->opts.pack != 1;

    tr_guard_init(&l->guard, packs ? run->opts.guard : TR_GUARD_OFF,
                  run->opts.guard_from);
    l->guard.strangers = run->opts.apart;
    /* Batches are made at once: no reply comes before the last one leaves. */
    l->guard.unlimited = l->guard.unlimited || l->lane->in_batches;
    for (uint32_t i = 0; i < task->example_count; i++)
        if (!tr_suspect(task->examples[i].text, task->labels,
                        task->label_count))
            tr_guard_admit(&l->guard, task->examples[i].text,
                           task->examples[i].set, true);
}

/* ---- before a pack is made -------------------------------------------- */

/* Brings the first of n rows to the front that is short enough: every pack that
 * it is in later pays for its length. */
static bool bring_shorter(const struct tr_run_lane *l, struct tr_rows *q,
                          uint32_t n, size_t most)
{
    struct tr_row *r = q->head, *before = NULL;

    for (uint32_t i = 0; i < n; i++, before = r, r = r->next) {
        size_t own = tr_run_text(l, r).n;

        if (own > TR_GUEST_BYTES || own > most || r->company || r->watched)
            continue;
        if (before) {
            before->next = r->next;
            if (q->tail == r)
                q->tail = before;
            r->next = q->head;
            q->head = r;
        }
        return true;
    }
    return false;
}

static bool bring_scout(const struct tr_run_lane *l, struct tr_rows *q,
                        uint32_t n)
{
    const struct tr_row *r = q->head;
    size_t mean = 0;

    for (uint32_t i = 0; i < n; i++, r = r->next)
        mean += tr_run_text(l, r).n;
    mean /= n;
    return bring_shorter(l, q, n, mean * 3 / 4) ||
           bring_shorter(l, q, n, mean);
}

/* Something is under way whose reply may bring or free canaries. */
static bool may_wait(const struct tr_run *run, const struct tr_run_lane *l)
{
    const struct tr_guard *g = &l->guard;

    if (l->lane->in_batches || !tr_guard_will_be(g) ||
        !(l->planned.n || l->ready.n || l->sent.n))
        return false;
    return !g->scouting || g->mode == TR_GUARD_STRICT ||
           run->now < l->scout_at + SCOUT_WAIT;
}

uint32_t tr_guests_fit(struct tr_run *run, struct tr_run_lane *l,
                       struct tr_rows *q, uint32_t n, bool *scout)
{
    struct tr_guard *g = &l->guard;
    const struct tr_row *r = q->head;
    bool wary = tr_guard_alarmed(g), watched = false;
    uint32_t want;

    *scout = false;
    if (!is_on(l) || n < 2 || run->opts.dry_run)
        return n;
    for (uint32_t i = 0; i < n; i++, r = r->next) {
        wary = wary || r->wary;
        watched = watched || r->watched;
    }
    want = tr_guard_want(g, n, watched);
    if (tr_guard_wants_scout(g, tr_chain_waiting(run, l)) &&
        bring_scout(l, q, n)) {
        *scout = true;
        l->scout_at = run->now;
        return 1;
    }
    if (!want)
        return n;
    if (tr_guard_is_short(g, want) && may_wait(run, l))
        return 0;
    if (tr_guard_free(g) >= 2)
        return n + want <= TR_PACK_MAX ? n : TR_PACK_MAX - want;
    return wary || g->mode == TR_GUARD_STRICT ? 1 : n;
}

void tr_guests_join(struct tr_run *run, struct tr_pack *p)
{
    struct tr_guard *g = &p->lane->guard;
    bool watched = false;

    g->scouting += p->scout;
    g->counts.scouts += p->scout;
    if (!is_on(p->lane) || p->n < 2)
        return;
    for (uint32_t i = 0; i < p->n; i++)
        watched = watched || p->rows[i]->watched;
    p->guest_count = tr_guard_pick(g, p->n, tr_guard_want(g, p->n, watched),
                                   TR_PACK_MAX - p->n, tr_rng_next(&run->rng),
                                   p->guests);
    for (uint32_t i = 0; i < p->guest_count; i++)
        p->guest_bytes += g->guests[p->guests[i]].n + 9;
}

struct tr_str tr_guests_text(const struct tr_pack *p, uint32_t guest)
{
    const struct tr_guest *t = &p->lane->guard.guests[p->guests[guest]];

    return tr_str(t->text, t->n);
}

int64_t tr_guests_bytes(const struct tr_run *run, const struct tr_run_lane *l,
                        uint32_t n)
{
    int64_t longest = 0, each;

    if (!is_on(l) || n < 2)
        return 0;
    for (int i = 0; i < TR_GUEST_SLOTS; i++)
        if (l->guard.guests[i].n > longest)
            longest = l->guard.guests[i].n;
    each = longest + 9 + tr_run_cap(run, l, (enum tr_form)l->form.form, 1);
    return longest ? each * (tr_guard_want(&l->guard, n, true) + 2) : 0;
}

int64_t tr_guests_foreseen(const struct tr_pack *p, int64_t *bytes)
{
    const struct tr_guard *g = &p->lane->guard;
    int64_t want = tr_guard_want(g, p->n, false), each = 0;

    *bytes = 0;
    if (!is_on(p->lane) || p->n < 2)
        return 0;
    for (uint32_t i = 0; i < p->n; i++)
        each += (int64_t)tr_run_text(p->lane, p->rows[i]).n;
    each = each / p->n + 9;
    if (want || tr_guard_free(g) < 2) /* else samples are in the packs */
        *bytes = each * tr_guard_chance_permille(g, p->n) / 1000;
    if (want <= p->guest_count)
        return 0;
    *bytes += each * (want - p->guest_count);
    return want - p->guest_count;
}

/* ---- after its reply -------------------------------------------------- */

/* What the provider counts it does not tell by item: by the bytes then, and a
 * scout's is what it costs more than in company. */
void tr_guests_book(struct tr_pack *p, const struct tr_usage *usage)
{
    struct tr_guard *g = &p->lane->guard;
    size_t own = p->guest_bytes;
    double share;

    if (!is_on(p->lane) || !p->content_bytes || usage->in <= 0)
        return;
    if (p->scout)
        own = p->content_bytes - p->items[0].text.n;
    share = (double)own / (double)p->content_bytes;
    g->counts.tokens += (int64_t)(share * (double)usage->in + 0.5);
    if (usage->out > 0)
        g->counts.tokens += usage->out * p->guest_count / tr_pack_items(p);
}

static void say_smaller(const struct tr_run *run, const struct tr_run_lane *l)
{
    char line[300];

    snprintf(line, sizeof line, "%s: texts asked again in other company are "
             "labelled otherwise too often (%lld of %lld): from now on at most "
             "%u texts a request", l->lane->model,
             (long long)l->guard.counts.differ,
             (long long)l->guard.counts.audits, (unsigned)l->guard.pack_cap);
    tr_run_say(run, 1, line);
}

/* The provider may have put another model behind the name. */
static void say_moved(const struct tr_run *run, struct tr_run_lane *l)
{
    char line[600];

    l->moved = true;
    snprintf(line, sizeof line, "%s: texts that it had labelled alike before, "
             "alone and in company, it labels otherwise now, in one request "
             "after the other: another model may answer under this name, and "
             "labels may differ. Name a dated model to stay with one; --fresh "
             "asks all rows again", l->lane->model);
    tr_run_say(run, 1, line);
    tr_run_event(run, TR_EVENT_MODEL, l->lane, -1);
}

/* Its rows are asked again among half of the company, with canaries, or
 * alone. */
static void doubt(struct tr_run *run, struct tr_pack *p, uint16_t id,
                  const struct tr_item_answer *got)
{
    struct tr_run_lane *l = p->lane;
    uint16_t company = p->n <= TR_GUARD_ALONE ? 1
                                              : (uint16_t)((p->n + 1) / 2);

    for (uint32_t i = 0; i < tr_pack_items(p); i++) {
        struct tr_row *row = tr_pack_row(p, i);

        if (!row)
            continue;
        if (row->wary)
            tr_guard_again(&l->guard, row->verdict.spare);
        row->wary = row->watched = true;
        row->verdict.spare = got[i].result == TR_ITEM_OK ? id : 0;
        row->verdict.set = got[i].set;
        tr_run_wait_again(run, l, row, company);
    }
    run->counts.items_reasked += p->n;
    tr_pack_free(run, p);
}

/* Its rows, if none of them was in a doubted pack before. */
static uint32_t fresh(const struct tr_pack *p)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (p->rows[i]->wary)
            return 0;
    return p->n;
}

/* A row that was asked alone. One of a doubted pack may be the hostile one:
 * taken only for an answer that no canary has, and soon among all of them. */
static void may_be_canary(struct tr_guard *g, const struct tr_row *row,
                          struct tr_str text, uint64_t set)
{
    bool lacks = row->wary && tr_guard_lacks(g, text, set);

    if (!row->watched || lacks)
        tr_guard_admit(g, text, set, lacks);
}

bool tr_guests_vouch(struct tr_run *run, struct tr_pack *p,
                     const struct tr_item_answer *got)
{
    struct tr_run_lane *l = p->lane;
    struct tr_guard *g = &l->guard;
    struct tr_guest_said said[TR_GUESTS_MAX] = {{TR_SAID_NOTHING, 0}};
    uint64_t sets[TR_PACK_MAX];
    uint32_t rows = 0;
    enum tr_guard_verdict verdict;

    if (!is_on(l))
        return true;
    for (uint32_t i = 0; i < tr_pack_items(p); i++) {
        bool ok = got[i].result == TR_ITEM_OK;

        if (p->order[i] < p->n && ok)
            sets[rows++] = got[i].set;
        else if (p->order[i] >= p->n)
            said[p->order[i] - p->n] = (struct tr_guest_said){
                ok ? TR_SAID_SET
                   : got[i].result == TR_ITEM_INVALID ? TR_SAID_NONSENSE
                                                      : TR_SAID_NOTHING,
                got[i].set};
    }
    verdict = p->n < 2 ? TR_GUARD_FINE
                       : tr_guard_judge(g, p->guests, said, p->guest_count,
                                        sets, rows, p->n);
    if (tr_guard_moved(g, p->guests, said, p->guest_count, sets, rows) &&
        !l->moved)
        say_moved(run, l);
    if (verdict != TR_GUARD_FINE) {
        doubt(run, p, tr_guard_doubt(g, verdict, p->guests, said,
                                     p->guest_count, rows, fresh(p)), got);
        return false;
    }
    if (tr_guard_accept(g, p->guests, said, p->guest_count, sets, rows, p->n))
        say_smaller(run, l);
    for (uint32_t i = 0; i < tr_pack_items(p); i++) {
        const struct tr_row *row = tr_pack_row(p, i);

        if (!row || row->apart || got[i].result != TR_ITEM_OK)
            continue;
        if (p->n == 1)
            may_be_canary(g, row, p->items[i].text, got[i].set);
        else if (p->n >= g->from && !row->watched)
            tr_guard_audit(g, p->items[i].text, got[i].set,
                           tr_rng_unit(&run->rng));
    }
    return true;
}

void tr_guests_answered(struct tr_run_lane *l, struct tr_row *row, uint64_t set)
{
    if (row->wary && row->verdict.spare)
        tr_guard_reask(&l->guard, row->verdict.spare, set != row->verdict.set);
}

/* ---- batches ---------------------------------------------------------- */

/* A batch outlives the run that knows its guests. No digest begins so. */
static const uint8_t guest_mark[8] = {'g', 'u', 'e', 's', 't', 0, 0xff, 0};
enum { SET_BYTES = 7 }; /* a number of more bytes is no set (combos.h) */

struct tr_key tr_guests_key(const struct tr_pack *p, uint32_t guest)
{
    const struct tr_guest *t = &p->lane->guard.guests[p->guests[guest]];
    struct tr_key key = {{0}};

    memcpy(key.b, guest_mark, sizeof guest_mark);
    key.b[8] = t->kind != TR_GUEST_AUDIT;
    for (int i = 0; i < SET_BYTES; i++)
        key.b[9 + i] = (uint8_t)(t->set >> 8 * i);
    return key;
}

bool tr_guests_is_key(const struct tr_key *key, bool *canary, uint64_t *set)
{
    if (memcmp(key->b, guest_mark, sizeof guest_mark) != 0)
        return false;
    *canary = key->b[8] != 0;
    *set = 0;
    for (int i = 0; i < SET_BYTES; i++)
        *set |= (uint64_t)key->b[9 + i] << 8 * i;
    return true;
}
