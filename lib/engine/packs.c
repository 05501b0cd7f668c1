/* packs.c - plan: which rows go into the next requests, and their price.
 *
 * Packs are planned ahead of a free slot, so that their intents can be
 * committed in groups and durability never costs concurrency.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/bounds.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>

#define FIT_PATIENCE TR_S /* a stream that waits has no more for so long */

enum {
    REDO_WORTH = 8,      /* invalid items that make a pack of their own */
    LOCAL_PACK = 64,     /* texts per call of a local lane */
    LOCAL_SAMPLE = 2000, /* rows a local lane is fitted to, at most */
    PARTY_LOOK = 2048    /* rows looked at for company of one's own party */
};

/* Requests of one key find each other's beginning at the provider; too many a
 * minute would not, so they take turns over several. */
static struct tr_str cache_key(const struct tr_run_lane *l,
                               const struct tr_pack *p, char *out, size_t size)
{
    if (!l->cache.pays || !l->lane->has_cache_keys)
        return tr_str(out, 0);
    snprintf(out, size, "%.16s-%u", l->cache_key,
             (unsigned)(p->attempt % l->cache.keys));
    return tr_str_c(out);
}

/* Draws ids and order anew and writes the request: every attempt has its own,
 * so that no row's author can know a neighbour's id or place. Not fits: there
 * is more to say than a request body may hold. */
static int build(struct tr_run *run, struct tr_pack *p, bool *fits,
                 struct tr_err *err)
{
    struct tr_buf *user = &run->user;
    struct tr_run_lane *l = p->lane;
    uint16_t ids[TR_PACK_MAX];
    uint32_t n = tr_pack_items(p);
    struct tr_call call;
    char key[48];
    int rc = TR_OK;

    *fits = true;
    p->seed = run->env->random(run->env->ctx);
    tr_pack_draw(p->seed, n, p->order, ids);
    for (uint32_t i = 0; i < n; i++) {
        const struct tr_row *row = tr_pack_row(p, i);

        p->items[i].text = row ? tr_run_text(l, row)
                               : tr_guests_text(p, p->order[i] - p->n);
        p->items[i].id = ids[i];
    }
    for (uint32_t i = 0; i < n && l->lane->is_local; i++)
        p->texts[i] = p->items[i].text;
    p->attempt = tr_store_next_attempt(run->store);
    if (l->lane->is_local) {
        p->bound = p->tokens = 0;
        goto out;
    }
    p->form = (enum tr_form)l->form.form;
    TRY(tr_run_stable_parts(run, l, p->form, err));
    tr_buf_clear(user);
    if (!l->lane->decides)
        tr_prompt_user(user, run->task, p->form, p->items, n);
    p->content_bytes = l->system.n + user->n + l->schema.n;
    p->reasoning = l->meter.reasoning_max;
    p->cap = tr_pack_cap(&l->meter, tr_run_cap(run, l, p->form, n),
                         p->content_bytes, l->lane->facts.context,
                         l->lane->facts.max_output);
    call = (struct tr_call){
        .system = tr_buf_str(&l->system),
        .user = tr_buf_str(user),
        .schema = tr_buf_str(&l->schema),
        .cap_tokens = p->cap,
        .cache = l->cache.pays,
        .cache_key = cache_key(l, p, key, sizeof key),
        .question = l->lane->decides ? &l->question : NULL,
        .items = p->items,
        .item_count = n,
    };
    run->body_bytes -= p->body.cap;
    tr_buf_clear(&p->body);
    rc = l->lane->vt->encode(l->lane, &call, &p->body, err);
    run->body_bytes += p->body.cap;
    *fits = !user->full && !p->body.full;
    if (!*fits) /* whatever encode() made of it */
        return TR_OK;
    TRY(rc);
    if (!tr_buf_ok(user) || !tr_buf_ok(&p->body))
        TRY(tr_fail(err, TR_NOMEM, "out of memory for a request"));
    if (l->lane->decides) /* labels stand there once for every item */
        p->content_bytes = p->body.n;
    p->tokens = tr_meter_estimate(&l->meter, p->content_bytes) + p->cap;
    p->bound = 0;
    if (tr_priced(&l->lane->facts))
        p->bound = tr_cost_bound(&l->lane->facts,
                                 tr_meter_bound(&l->meter, p->content_bytes),
                                 p->cap);
out:
    return rc;
}

static uint32_t pack_limit(const struct tr_run *run,
                           const struct tr_run_lane *l)
{
    uint32_t want = run->opts.pack ? run->opts.pack : l->lane->pack_auto;
    uint32_t each = 1, max = TR_PACK_MAX, most;

    if (l->health.state != TR_LANE_OPEN)
        return 1; /* a probe */
    if (l->lane->is_local)
        return LOCAL_PACK;
    if (run->opts.isolate)
        return 1;
    most = tr_guard_pack_most(&l->guard);
    if (most)
        max = most;
    if (l->lane->decides && l->lane->questions_max) {
        if (run->task->multiple)
            each = run->task->label_count - (run->task->none >= 0);
        max = l->lane->questions_max / each;
    }
    return want && want < max ? want : max ? max : 1;
}

/* Rows of the first one's party come to stand behind it, in their order; how
 * many stand there then. */
static uint32_t gather_party(struct tr_rows *q, uint32_t most)
{
    struct tr_row *end = q->head; /* the last of them so far */
    struct tr_row *before = end, *r = end->next;
    uint32_t n = 1;

    for (int looked = 0; r && n < most && looked < PARTY_LOOK; looked++) {
        struct tr_row *next = r->next;

        if (r->party != end->party) {
            before = r;
        } else if (before == end) { /* it stands there already */
            before = end = r;
            n++;
        } else {
            before->next = next;
            if (q->tail == r)
                q->tail = before;
            r->next = end->next;
            end->next = r;
            end = r;
            n++;
        }
        r = next;
    }
    return n;
}

/* How many of the first rows of q go together: 0 and *too_long when the first
 * one alone does not fit the model. */
static uint32_t take_count(struct tr_run *run, struct tr_run_lane *l,
                           struct tr_rows *q, bool *too_long)
{
    uint32_t bytes[TR_PACK_MAX], n = 0, limit = pack_limit(run, l);
    uint16_t company[TR_PACK_MAX];
    struct tr_pack_policy policy;

    *too_long = false;
    if (limit > TR_PACK_MAX)
        limit = TR_PACK_MAX;
    if (run->opts.apart && limit > 1)
        limit = gather_party(q, limit);
    for (const struct tr_row *r = q->head; r && n < limit; r = r->next) {
        if (n && tr_chain_withholds(run, l, r))
            break;
        bytes[n] = (uint32_t)tr_run_text(l, r).n;
        company[n++] = r->company;
    }
    if (l->lane->is_local)
        return n;
    policy = (struct tr_pack_policy){
        .pack = l->lane->decides ? limit : run->opts.pack,
        .context = l->lane->facts.context,
        .max_output = l->lane->facts.max_output,
        .fixed_bytes = (int64_t)(l->system.n + l->schema.n) + 200,
        .item_overhead_bytes = 9 + (int64_t)l->question_bytes,
        .guest_bytes = tr_guests_bytes(run, l, n),
        .tpm = (int64_t)l->pace.opts.tpm,
    };
    n = tr_pack_take(&policy, &l->meter, bytes, company, n,
                     tr_run_cap(run, l, (enum tr_form)l->form.form, 1));
    *too_long = n == 0;
    return n;
}

static bool has_room(struct tr_run *run, struct tr_run_lane *l,
                     struct tr_rows *q)
{
    bool too_long;

    take_count(run, l, q, &too_long);
    return !too_long;
}

/* Somebody behind l is open, within the row's way, and has room for the first
 * row of q. */
static bool goes_on(struct tr_run *run, const struct tr_run_lane *l,
                    struct tr_rows *q)
{
    uint32_t from = l->place + 1;

    if (!tr_chain_goes_past(run, l, TR_WHY_TOO_LONG))
        return false;
    for (uint32_t i = from; i < run->lane_count; i++) {
        struct tr_run_lane *next = &run->lanes[i];

        if (next->health.state != TR_LANE_OPEN ||
            tr_chain_from(run, next) > from)
            continue;
        if (has_room(run, next, q))
            return true;
        from = i + 1; /* it goes on from there, too */
    }
    return false;
}

/* A lane before l that the first row of q may still be asked by, which has room
 * for it and is closed only for now. */
static struct tr_run_lane *who_had_room(struct tr_run *run,
                                        const struct tr_run_lane *l,
                                        struct tr_rows *q)
{
    for (uint32_t i = q->head->lane; i < l->place; i++)
        if (tr_chain_hopes(run, &run->lanes[i]) &&
            has_room(run, &run->lanes[i], q))
            return &run->lanes[i];
    return NULL;
}

/* The first row of q is too long for l: where nobody else has room now, an
 * outage of who has is no reason to fail. It waits there, out of l's reach. */
static int too_long_for(struct tr_run *run, struct tr_run_lane *l,
                        struct tr_rows *q, struct tr_err *err)
{
    struct tr_run_lane *other = goes_on(run, l, q) ? NULL
                                                   : who_had_room(run, l, q);
    struct tr_pack *p;

    if (!other) {
        tr_run_fail_row(run, l, tr_rows_take(q), TR_WHY_TOO_LONG);
        return TR_OK;
    }
    p = tr_pack_new(run, other, 1, err);
    if (!p)
        return err->code;
    p->rows[0] = tr_rows_take(q);
    p->rows[0]->state = TR_ROW_PACKED;
    p->due_at = run->now;
    tr_queue_add_due(&other->aside, p);
    return TR_OK;
}

/* A pack of rows from q, or NULL when none can be made now. */
static struct tr_pack *form_pack(struct tr_run *run, struct tr_run_lane *l,
                                 struct tr_rows *q, struct tr_err *err)
{
    struct tr_pack *p;
    bool too_long, scout;
    uint32_t n = 0;

    while (q->n && run->free_slot_count) {
        /* take_count() stops before it, so it comes to stand in front. */
        if (tr_chain_withholds(run, l, q->head)) {
            struct tr_run_lane *by = &run->lanes[q->head->lane];

            tr_run_fail_row(run, by, tr_rows_take(q), TR_WHY_BLOCKED);
            continue;
        }
        n = take_count(run, l, q, &too_long);
        if (!too_long)
            break;
        n = 0;
        if (too_long_for(run, l, q, err) != TR_OK)
            return NULL;
    }
    if (n)
        n = tr_guests_fit(run, l, q, n, &scout);
    if (!n)
        return NULL;
    p = tr_pack_new(run, l, n, err);
    if (!p)
        return NULL;
    p->scout = scout;
    for (uint32_t i = 0; i < n; i++) {
        p->rows[i] = tr_rows_take(q);
        p->rows[i]->state = TR_ROW_PACKED;
    }
    tr_guests_join(run, p);
    return p;
}

/* Packs planned and ready, beyond those in flight, that keep the lane busy
 * while a commit runs; a pace known to be slow needs few. */
static uint32_t ahead_wanted(const struct tr_run_lane *l)
{
    double rpm = tr_pace_rpm(&l->pace);
    int64_t free_slots = (int64_t)l->pace.window - l->pace.in_flight;
    int64_t want = 2 * l->sends_last;

    if (l->lane->is_local)
        return 2;
    if (l->lane->in_batches)
        return TR_PACKS_MAX / 4;
    if (want < free_slots)
        want = free_slots;
    if (rpm > 0 && want > (int64_t)(rpm / 60 / 4))
        want = (int64_t)(rpm / 60 / 4);
    if (want > TR_PACKS_MAX / 4)
        want = TR_PACKS_MAX / 4;
    return (uint32_t)(want < 1 ? 2 : want + 2);
}

/* Of a stream it is the rows that wait, many of them if they come soon. One
 * that has none now may have none for hours, and those who send them may wait
 * for the answers: what is there then has to do. */
static bool sample_is_there(const struct tr_run *run, struct tr_run_lane *l,
                            uint32_t waiting)
{
    if (l->fitting || waiting >= LOCAL_SAMPLE || run->input_ended ||
        run->window.bytes >= run->window.bytes_max / 2)
        return true;
    if (run->input_waits && !l->fit_at)
        l->fit_at = run->now + FIT_PATIENCE;
    l->fit_short = run->input_waits && run->now >= l->fit_at;
    return l->fit_short;
}

/* The texts a lane is fitted to: spread over the input, or those that wait, in
 * *own. Not enough of them: more rows first. */
static int draw_sample(struct tr_run *run, struct tr_run_lane *l,
                       const struct tr_str **texts, size_t *n,
                       struct tr_str **own, bool *enough, struct tr_err *err)
{
    uint32_t waiting = tr_chain_waiting(run, l);

    *enough = true;
    if (run->env->sample && run->env->sample(run->env->ctx, texts, n))
        return TR_OK;
    *enough = sample_is_there(run, l, waiting);
    if (!*enough)
        return TR_OK;
    *n = 0;
    *texts = *own = tr_array(LOCAL_SAMPLE, sizeof **own);
    if (!*own)
        return tr_fail(err, TR_NOMEM, "out of memory for the sample");
    /* What waits for other models is of the same input. */
    for (uint32_t i = 0; i <= l->place; i++)
        for (struct tr_row *r = run->lanes[i].fresh.head;
             r && *n < LOCAL_SAMPLE; r = r->next)
            (*own)[(*n)++] = tr_run_text(l, r);
    return TR_OK;
}

/* Fits a lane that wants it; false while that goes on. What the store keeps of
 * another model is no fit: it is made anew and takes its place. */
static int fit(struct tr_run *run, struct tr_run_lane *l, bool *ready,
               bool *moved, struct tr_err *err)
{
    struct tr_lane *lane = l->lane;
    struct tr_buf kept, out;
    const struct tr_str *texts = NULL;
    struct tr_str *own = NULL;
    size_t n = 0;
    char name[60];
    bool found = false, enough;
    int rc = TR_OK;

    *ready = l->fitted || !lane->wants_sample;
    if (*ready)
        return TR_OK;
    tr_buf_init(&kept, 0);
    tr_buf_init(&out, 0);
    snprintf(name, sizeof name, "fit:%s", lane->fits);
    if (!run->opts.fresh)
        TRY(tr_store_get(run->store, name, &kept, &found, err));
    rc = found ? lane->vt->fit(lane, NULL, 0, tr_buf_str(&kept), &out, err)
               : TR_FIT_OTHER;
    if (rc == TR_FIT_OTHER) {
        TRY(draw_sample(run, l, &texts, &n, &own, &enough, err));
        if (!enough)
            goto out;
        rc = lane->vt->fit(lane, texts, n, tr_str(NULL, 0), &out, err);
    }
    if (rc == TR_FIT_MORE) {
        l->fitting = *moved = true;
        rc = TR_OK;
        goto out;
    }
    TRY(rc);
    /* Few texts are no fit for longer inputs. */
    if (!l->fit_short && !tr_str_eq(tr_buf_str(&kept), tr_buf_str(&out)))
        TRY(tr_store_set(run->store, name, tr_buf_str(&out), err));
    l->fitted = *ready = true;
out:
    tr_free(own);
    tr_buf_release(&kept);
    tr_buf_release(&out);
    return rc;
}

static bool redo_is_due(const struct tr_run *run, const struct tr_run_lane *l)
{
    return l->redo.n &&
           (l->redo.n >= REDO_WORTH || l->redo.head->company == 1 ||
            !l->fresh.n || run->now - l->redo.head->since >= TR_REDO_AGE);
}

/* The rows of the next pack: packs that are due again first, then items that
 * came back invalid, then the oldest rows never asked; those that a closed
 * lane left behind before the lane's own. */
static struct tr_pack *next_pack(struct tr_run *run, struct tr_run_lane *l,
                                 struct tr_err *err)
{
    if (l->aside.head && l->aside.head->due_at <= run->now)
        return tr_queue_take(&l->aside);
    if (run->free_slot_count == 0 || run->body_bytes > TR_BODIES_BYTES)
        return NULL;
    for (uint32_t i = tr_chain_from(run, l); i <= l->place; i++) {
        struct tr_run_lane *at = &run->lanes[i];
        struct tr_rows *q = redo_is_due(run, at) ? &at->redo : &at->fresh;
        struct tr_pack *p = form_pack(run, l, q, err);

        if (p || err->code != TR_OK)
            return p;
    }
    return NULL;
}

static int64_t bound_of(const struct tr_run *run, const struct tr_run_lane *l,
                        size_t bytes, uint32_t items)
{
    return tr_cost_bound(&l->lane->facts, tr_meter_bound(&l->meter, bytes),
                         tr_run_cap(run, l, (enum tr_form)l->form.form, items));
}

/* Before the first paid request: what a row will cost, from n that wait now
 * with so many bytes in their request. */
static void note_estimate(struct tr_run *run, const struct tr_run_lane *l,
                          uint32_t n, uint32_t guests, size_t bytes)
{
    struct tr_forecast f = {
        .texts = n, .requests = 1, .guests = guests, .bytes = (int64_t)bytes,
        .cap = tr_run_cap(run, l, (enum tr_form)l->form.form, n + guests),
    };
    struct tr_quote q;

    tr_quote(&q, &f, &l->meter, &l->lane->facts);
    run->counts.row_estimate = (double)q.nano.mean / n;
}

/* Before the first paid request: what the whole run may cost at most, from
 * the rows that wait now. */
static void say_bound(struct tr_run *run, struct tr_run_lane *l)
{
    const struct tr_row *r = l->fresh.head;
    int64_t expected = run->env->rows_expected
        ? run->env->rows_expected(run->env->ctx) : -1;
    char line[400], cost[32], cap[32], like[64] = "";
    size_t bytes = l->system.n + l->schema.n + 200;
    size_t data = 0;
    bool too_long;
    uint32_t n, guests;
    double rows, bound, more;

    run->bound_said = true;
    if (!r || l->lane->is_local || !tr_priced(&l->lane->facts) ||
        run->opts.dry_run)
        return;
    n = take_count(run, l, &l->fresh, &too_long);
    if (!n)
        return;
    for (uint32_t i = 0; i < n; i++, r = r->next)
        data += tr_run_text(l, r).n + 9 + l->question_bytes;
    guests = tr_guard_usual(&l->guard, n);
    guests += guests > 0; /* an audit */
    note_estimate(run, l, n, guests, bytes + data + data / n * guests);
    if (expected < 0)
        return;
    rows = (double)(expected - run->counts.rows_stored - run->counts.rows_twin);
    more = (double)tr_guard_scouts(&l->guard, (int64_t)rows) *
           (double)bound_of(run, l, bytes + data / n, 1);
    bound = (double)bound_of(run, l, bytes + data + data / n * guests,
                             n + guests);
    more += (double)tr_guard_first(&l->guard, n, (int64_t)rows) *
             (bound / (n + guests));
    if (!guests) /* samples of small packs, counted as rows */
        bound *= 1 + (double)tr_guard_chance_permille(&l->guard, n) / 1000 / n;
    tr_money_text((int64_t)(rows / n * bound + more), cost, sizeof cost);
    if (rows > n)
        snprintf(like, sizeof like, "they are as long as the first %" PRIu32
                 " and ", n);
    snprintf(line, sizeof line, "%s: about %.0f row%s to ask cost%s at most "
             "%s if %snothing has to be asked again%s%s", l->lane->model, rows,
             rows == 1 ? "" : "s", rows == 1 ? "s" : "", cost, like,
             run->opts.budget_nano >= 0 ? ", the budget is " : "",
             run->opts.budget_nano >= 0
                 ? tr_money_text(run->opts.budget_nano, cap, sizeof cap) : "");
    tr_run_say(run, 2, line);
}

/* Another lane is open and has something to do. */
static bool others_work(const struct tr_run *run, const struct tr_run_lane *l)
{
    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *o = &run->lanes[i];

        if (o != l && o->health.state == TR_LANE_OPEN &&
            (o->aside.n || tr_chain_has_work(run, o)))
            return true;
    }
    return false;
}

/* The rows of a pack that no request body holds: only writing it tells, since
 * escapes make bytes of a text several times as many. Halves are tried then,
 * and a row alone is too long. Nothing is reserved for it yet. */
static void split(struct tr_run *run, struct tr_pack *p)
{
    uint16_t company = (uint16_t)((p->n + 1) / 2);

    if (p->probe)
        p->lane->health.probing = false;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->n > 1)
            tr_run_wait_again(run, p->lane, p->rows[i], company);
        else
            tr_run_fail_row(run, p->lane, p->rows[i], TR_WHY_TOO_LONG);
    }
    tr_pack_free(run, p);
}

static int plan_for(struct tr_run *run, struct tr_run_lane *l, bool *moved,
                    struct tr_err *err)
{
    bool local = l->lane->is_local;
    bool open = l->health.state == TR_LANE_OPEN;
    uint32_t want = open ? ahead_wanted(l) : 1;
    struct tr_pack *p;
    bool ready, fits, reserved;
    int rc;

    if ((!open && !tr_health_wants_probe(&l->health, run->now)) ||
        (!l->aside.n && !tr_chain_waiting(run, l)))
        return TR_OK;
    if (!local) {
        rc = tr_run_stable_parts(run, l, (enum tr_form)l->form.form, err);
        if (rc != TR_OK)
            return rc;
    }
    if (!run->opts.dry_run) {
        rc = fit(run, l, &ready, moved, err);
        if (rc != TR_OK || !ready)
            return rc;
    }
    if (!run->bound_said)
        say_bound(run, l);
    if (!l->cache_known)
        tr_run_plan_cache(run, l);
    while (l->planned.n + l->ready.n < want || run->opts.dry_run) {
        if (run->opts.dry_run && tr_run_preview_waits(run, l))
            return TR_OK;
        err->code = TR_OK;
        p = next_pack(run, l, err);
        if (!p)
            return err->code;
        p->probe = !open;
        if (p->probe)
            l->health.probing = true;
        rc = build(run, p, &fits, err);
        if (rc != TR_OK) {
            tr_run_give_back(run, p);
            return rc;
        }
        *moved = true;
        if (!fits) {
            split(run, p);
            continue;
        }
        if (run->opts.dry_run) {
            rc = tr_run_preview_pack(run, p, err);
            if (rc != TR_OK)
                return rc;
            continue;
        }
        reserved = local;
        if (!local)
            rc = tr_run_reserve(run, p, open || !others_work(run, l),
                                &reserved, err);
        if (rc != TR_OK)
            tr_run_give_back(run, p);
        if (rc != TR_OK || !reserved)
            return rc;
        p->state = local ? TR_PACK_READY : TR_PACK_PLANNED;
        tr_queue_add(local ? &l->ready : &l->planned, p);
        if (!run->flush.oldest_at && !local)
            run->flush.oldest_at = run->now;
    }
    return TR_OK;
}

/* An answer whose labels cannot be listed any more would be paid for in vain:
 * what is under way still has room. */
static void mind_sets(struct tr_run *run)
{
    struct tr_run_load load = tr_run_load(run);
    char text[400];

    if (run->stopping || run->opts.dry_run || !tr_task_sets_full(run->task) ||
        !(load.waiting || load.aside || load.planned || load.ready))
        return;
    snprintf(text, sizeof text, "this store has no room for more combinations "
             "of more than %u labels (%u MiB are full of them). What is "
             "answered is kept; label the rows that are left with another "
             "--store, or with fewer labels",
             (unsigned)run->task->combos.most, TR_SETS_BYTES >> 21);
    tr_run_stop_with(run, tr_exit_code(TR_CONFIG), text);
}

int tr_run_plan(struct tr_run *run, bool *moved, struct tr_err *err)
{
    int rc = TR_OK;

    mind_sets(run);
    TR_EACH_LANE(run, l) {
        if (run->stopping || run->opts.offline || run->money_waits)
            break;
        TRY(plan_for(run, l, moved, err));
    }
out:
    return rc;
}
