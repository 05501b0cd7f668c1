/* chain.c - which lane takes a row, how lanes close and open, how rows go on.
 *
 * Rows wait at the first lane they may be asked by (row->lane). Who takes them
 * is the first lane from there on that is open. A row that was sent by a lane
 * never goes back before it, and one that ends badly goes on to the next: so
 * no row can go in circles.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <inttypes.h>
#include <stdio.h>

static bool leads_on(const struct tr_run *run, int trigger)
{
    return trigger >= 0 && (run->opts.fallback_on & 1u << trigger);
}

/* Rows that wait at l may be taken by the next lane now. */
static bool passes(const struct tr_run *run, const struct tr_run_lane *l)
{
    return leads_on(run, tr_trigger_of_state(l->health.state));
}

/* The first open lane from `from` on, or NULL. */
static struct tr_run_lane *taker(struct tr_run *run, uint32_t from)
{
    for (uint32_t i = from; i < run->lane_count; i++) {
        struct tr_run_lane *l = &run->lanes[i];

        if (l->health.state == TR_LANE_OPEN)
            return l;
        if (!passes(run, l))
            break;
    }
    return NULL;
}

bool tr_chain_hopes(const struct tr_run *run, const struct tr_run_lane *l)
{
    return tr_health_hopes(&l->health, run->opts.wait_for_quota,
                           run->opts.max_wait_ms * TR_MS, run->now);
}

/* Rows that wait at `from` have somebody to wait for. */
static bool hopes(const struct tr_run *run, uint32_t from)
{
    for (uint32_t i = from; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];

        if (tr_chain_hopes(run, l))
            return true;
        if (!passes(run, l))
            break;
    }
    return false;
}

uint32_t tr_chain_from(const struct tr_run *run, const struct tr_run_lane *l)
{
    uint32_t from = l->place;

    while (from > 0 && passes(run, &run->lanes[from - 1]))
        from--;
    return from;
}

uint32_t tr_chain_waiting(const struct tr_run *run,
                          const struct tr_run_lane *l)
{
    uint32_t n = 0;

    for (uint32_t i = tr_chain_from(run, l); i <= l->place; i++)
        n += run->lanes[i].fresh.n + run->lanes[i].redo.n;
    return n;
}

bool tr_chain_has_work(const struct tr_run *run, const struct tr_run_lane *l)
{
    return l->planned.n || l->ready.n || l->sent.n || tr_chain_waiting(run, l);
}

/* ---- rows go on ------------------------------------------------------- */

struct tr_key tr_chain_key(const struct tr_run_lane *l,
                           const struct tr_row *row)
{
    return l->place ? tr_run_key(l, row) : row->key;
}

struct tr_verdict tr_chain_failure(struct tr_run *run, struct tr_run_lane *l,
                                   enum tr_why why)
{
    struct tr_verdict verdict = {
        .why = (uint16_t)why,
        .origin = TR_NO_ORIGIN,
        .confidence = TR_NO_CONFIDENCE,
    };
    struct tr_err err; /* then it is asked again once too often */

    if (l->origin_known)
        verdict.origin = l->origin;
    else if (tr_why_stored(why) && !run->opts.dry_run &&
             tr_run_origin(run, l, "", &verdict.origin, &err) != TR_OK)
        verdict.origin = TR_NO_ORIGIN;
    return verdict;
}

/* The lane's failure is stored as if the row had ended there: no later run,
 * and no equal row, asks this lane again. False: no memory. */
static bool keep_failure(struct tr_run *run, struct tr_run_lane *l,
                         const struct tr_row *row, enum tr_why why)
{
    struct tr_err err;

    if (!tr_why_stored(why) || run->opts.dry_run)
        return true;
    if (tr_run_grow((void **)&run->passed, &run->passed_cap,
                    run->passed_count + 1, sizeof *run->passed, &err) != TR_OK)
        return false;
    run->passed[run->passed_count++] = (struct tr_store_put){
        tr_chain_key(l, row), tr_chain_failure(run, l, why)};
    if (!run->flush.oldest_at)
        run->flush.oldest_at = run->now;
    return true;
}

/* The lane that doubted the pack of a row will not hear of the row again: for
 * all it knows, nothing has changed. A doubt that never ends would keep
 * canaries from their packs. */
static void end_doubt(struct tr_run *run, struct tr_row *row)
{
    if (row->wary)
        tr_guard_reask(&run->lanes[row->lane].guard, row->verdict.spare, false);
    row->verdict.spare = 0;
}

/* A row that would end so at l goes on to the next lane; false: it ends. */
static bool next_row(struct tr_run *run, struct tr_run_lane *l,
                     struct tr_row *row, enum tr_why why)
{
    int trigger = tr_trigger_of_why(why);

    if (!leads_on(run, trigger) || !hopes(run, l->place + 1) ||
        !keep_failure(run, l, row, why))
        return false;
    l->counts.moved[trigger]++;
    row->lane = (uint8_t)(l->place + 1);
    row->went_on = true;
    row->refused = false;
    row->alone_tries = 0;
    row->company = 0;
    tr_run_wait(run, row);
    return true;
}

void tr_run_fail_row(struct tr_run *run, struct tr_run_lane *l,
                     struct tr_row *row, enum tr_why why)
{
    struct tr_verdict verdict;

    /* A later failure of another kind is no way around a refusal, neither in
     * this run nor, from the store, in the next. */
    if (row->refused && row->lane == l->place &&
        !leads_on(run, TR_ON_BLOCKED))
        why = TR_WHY_BLOCKED;
    end_doubt(run, row);
    if (next_row(run, l, row, why))
        return;
    verdict = tr_chain_failure(run, l, why);
    row->lane = (uint8_t)l->place;
    if (!run->opts.dry_run) {
        tr_run_answer(run, row, verdict);
        return;
    }
    row->verdict = verdict; /* nothing is kept: no commit to wait for */
    tr_run_settle_all(run, row);
}

bool tr_chain_goes_past(const struct tr_run *run, const struct tr_run_lane *l,
                        enum tr_why why)
{
    return l->place + 1 < run->lane_count &&
           leads_on(run, tr_trigger_of_why(why));
}

bool tr_chain_withholds(const struct tr_run *run, const struct tr_run_lane *l,
                        const struct tr_row *row)
{
    return row->refused && row->lane != l->place &&
           !leads_on(run, TR_ON_BLOCKED);
}

void tr_chain_sends(struct tr_run *run, const struct tr_pack *p)
{
    struct tr_run_lane *l = p->lane;

    for (uint32_t i = 0; i < p->n; i++) {
        struct tr_row *row = p->rows[i];
        struct tr_run_lane *left = &run->lanes[row->lane];

        if (left == l)
            continue;
        if (left->health.state != TR_LANE_OPEN)
            left->counts.moved[tr_trigger_of_state(left->health.state)]++;
        end_doubt(run, row);
        row->lane = (uint8_t)l->place;
        row->refused = false; /* another lane's word */
        row->alone_tries = 0;
    }
}

/* ---- lanes close and open --------------------------------------------- */

/* All that has not left goes back to where it waited. */
static int clear(struct tr_run *run, struct tr_run_lane *l, struct tr_err *err)
{
    struct tr_pack *p;
    int rc = TR_OK;

    /* The oldest last: it comes to stand in front. */
    TRY(tr_run_unplan(run, &l->planned, false, err));
    TRY(tr_run_unplan(run, &l->ready, true, err));
    tr_queue_reverse(&l->aside);
    while ((p = tr_queue_take(&l->aside)))
        tr_run_give_back(run, p);
out:
    return rc;
}

/* A lane opens: what stands aside for one that is closed may be for it. */
static int call_back(struct tr_run *run, struct tr_err *err)
{
    int rc = TR_OK;

    TR_EACH_LANE(run, l)
        if (l->aside.n && l->health.state != TR_LANE_OPEN)
            TRY(clear(run, l, err));
out:
    return rc;
}

static const char *span_text(int64_t s, char *out, size_t size)
{
    snprintf(out, size, "%" PRId64 "%s", s < 90 ? s : (s + 59) / 60,
             s < 90 ? " s" : " min");
    return out;
}

/* "; rows go to X", "; ... again in about 2 min" or nothing. */
static void say_next(struct tr_run *run, const struct tr_run_lane *l,
                     char *out, size_t size)
{
    const struct tr_run_lane *next = passes(run, l) ? taker(run, l->place)
                                                    : NULL;
    int64_t s = (l->health.probe_at - run->now + TR_S / 2) / TR_S;
    char span[32];
    int n = 0;

    out[0] = '\0';
    if (next)
        n = snprintf(out, size, "; rows go to %s", next->lane->model);
    if (l->health.probe_at == TR_NEVER || n < 0 || (size_t)n >= size)
        return;
    snprintf(out + n, size - (size_t)n, "; it is tried again in %s",
             span_text(s, span, sizeof span));
}

static void say_state(struct tr_run *run, struct tr_run_lane *l,
                      const struct tr_reply *reply)
{
    const char *what = "";
    char line[1100], next[300], status[TR_STATUS_TEXT];

    say_next(run, l, next, sizeof next);
    switch (l->health.state) {
    case TR_LANE_OPEN:
        snprintf(line, sizeof line, "%s answers again", l->lane->model);
        tr_run_say(run, 2, line);
        return;
    case TR_LANE_EXHAUSTED:
        what = l->health.comes_back ? "the limit of the day is reached"
                                    : "the quota of this key is used up";
        break;
    case TR_LANE_GONE:
        what = l->health.doubted
                   ? "the provider refuses this key or model, which it took "
                     "before"
               : !reply->status
                   ? "nothing can be asked there"
                   : "the provider refuses this key, model or request for good";
        break;
    case TR_LANE_DOWN:
        what = "requests fail, and none succeeds";
        break;
    }
    snprintf(line, sizeof line, "%s: %s%s (%s%s: %s)", l->lane->model, what,
             next, tr_run_status_text(reply, status), l->lane->host,
             reply->message[0] ? reply->message
                               : tr_outcome_word(reply->outcome));
    tr_run_say(run, 1, line);
}

/* What a chain of one says when it ends by it, and a longer one at its end. */
static void keep_refusal(const struct tr_run *run, struct tr_run_lane *l,
                         const struct tr_reply *reply)
{
    char when[60] = "", status[TR_STATUS_TEXT];
    bool gone = l->health.state == TR_LANE_EXHAUSTED;
    const char *what = gone && l->health.comes_back
        ? "the limit of the day is reached: nothing more was sent. Run the "
          "same command again when it has been reset"
        : gone ? "the quota of this key is used up: nothing more was sent. Add "
                 "credit, then run the same command again"
        : reply->status
            ? "the provider refuses this key, model or request for good. Mend "
              "that, then run the same command again"
            : "nothing can be asked there. Mend that, then run the same "
              "command again";

    if (gone && reply->retry_after_ms > 0)
        snprintf(when, sizeof when, " (in %" PRId64 " min)",
                 (reply->retry_after_ms + 59999) / 60000);
    snprintf(l->refusal, sizeof l->refusal, "%s: %s%s; %s (%s%s: %s)",
             l->lane->model, what, when, tr_run_kept(run),
             tr_run_status_text(reply, status), l->lane->host, reply->message);
}

static void raise_event(const struct tr_run *run, const struct tr_run_lane *l,
                        const struct tr_reply *reply)
{
    static const enum tr_event_kind kinds[] = {
        [TR_LANE_OPEN] = TR_EVENT_LANE_UP,
        [TR_LANE_EXHAUSTED] = TR_EVENT_QUOTA,
        [TR_LANE_DOWN] = TR_EVENT_LANE_DOWN,
        [TR_LANE_GONE] = TR_EVENT_LANE_DOWN,
    };
    int64_t ms = reply->retry_after_ms;

    tr_run_event(run, kinds[l->health.state], l->lane,
                 ms >= 0 ? (ms + 999) / 1000 : -1);
}

int tr_chain_reply(struct tr_run *run, struct tr_run_lane *l,
                   const struct tr_reply *reply, int64_t sent_at, bool probe,
                   struct tr_err *err)
{
    struct tr_health_news news = {
        .outcome = reply->outcome,
        .status = reply->status,
        .probe = probe,
        .sent_at = sent_at,
        .in_batch = l->lane->in_batches,
        .retry_after_ms = reply->retry_after_ms,
        .unit = tr_rng_unit(&run->rng),
        .served = l->successes > 0 && !l->lane->in_batches,
        .replaced = leads_on(run, TR_ON_DOWN) && taker(run, l->place + 1),
        .patience_ns = run->opts.max_wait_ms * TR_MS,
        .quota_probe_ns =
            run->opts.wait_for_quota ? run->opts.quota_probe_ms * TR_MS : 0,
    };
    bool closed;

    if (!tr_health_reply(&l->health, &news, run->now))
        return TR_OK;
    raise_event(run, l, reply);
    closed = l->health.state != TR_LANE_OPEN;
    if (l->health.state == TR_LANE_EXHAUSTED || l->health.state == TR_LANE_GONE)
        keep_refusal(run, l, reply);
    if (!closed || hopes(run, l->place))
        say_state(run, l, reply); /* else the run's last sentence says it */
    return closed ? clear(run, l, err) : call_back(run, err);
}

/* ---- nobody left ------------------------------------------------------ */

static void add(char *text, size_t size, const char *a, const char *b)
{
    size_t n = strlen(text);

    if (n < size)
        snprintf(text + n, size - n, "%s%s", a, b);
}

static void stop(struct tr_run *run)
{
    char text[1200] = "no model is left to ask: ";
    const struct tr_run_lane *last = NULL;
    bool comes_back = false;

    TR_EACH_LANE(run, l) {
        if (tr_chain_hopes(run, l))
            continue;
        comes_back = comes_back || l->health.state == TR_LANE_DOWN ||
                     l->health.doubted ||
                     (l->health.state == TR_LANE_EXHAUSTED &&
                      l->health.comes_back);
        add(text, sizeof text, last ? ", " : "", l->lane->model);
        add(text, sizeof text, " is ", tr_health_word(l->health.state));
        last = l;
    }
    TR_ASSERT(last);
    add(text, sizeof text, ". Last: ", last->refusal);
    tr_run_stop_with(run, tr_exit_code(comes_back ? TR_STOPPED : TR_NOPERM),
                     run->lane_count == 1 ? last->refusal : text);
}

/* ---- the server asks to be left alone --------------------------------- */

#define TOLD_FROM_NS (60 * TR_S) /* a shorter wait is nobody's news */

/* What it said, or that it was said to another run. */
static const char *who_said(const struct tr_run *run,
                            const struct tr_run_lane *l)
{
    if (l->pace.used_up_until >= l->pace.wished_until)
        return "the limit that it states is used up";
    return run->trouble_lane == l && run->last_trouble[0]
               ? run->last_trouble : "said to another run with this key";
}

/* The time until then is no trouble, but it ends none: what there was of it goes
 * on counting afterwards. */
static void spare_trouble(struct tr_run *run, int64_t until)
{
    int64_t since = run->trouble_since;
    int64_t had = run->now > since ? run->now - since : 0;

    if (since && until - had > since)
        run->trouble_since = until - had;
}

/* Long, and the user waits for less: the lane is left alone at once, and what
 * its own requests in flight bring changes nothing. Long, and he does wait:
 * that is told, once. */
static int heed_wish(struct tr_run *run, struct tr_run_lane *l,
                     struct tr_err *err)
{
    int64_t until = l->pace.wished_until, before = l->health.wish_until;
    int64_t patience = run->opts.max_wait_ms * TR_MS, s;
    char line[900], next[300], span[32];
    bool closed;

    if (l->lane->in_batches || until <= run->now || until <= before)
        return TR_OK;
    s = (until - run->now + TR_S - 1) / TR_S;
    span_text(s, span, sizeof span);
    closed = tr_health_wish(&l->health, until, patience, run->now);
    if ((l->health.state == TR_LANE_DOWN || l->health.doubted) &&
        until - run->now > patience) {
        snprintf(l->refusal, sizeof l->refusal,
                 "%s: %s asks not to be asked again for %s, and --max-wait is "
                 "%" PRId64 " s: nothing more was sent. Run the same command "
                 "again then, or give it a longer --max-wait; %s (%s)",
                 l->lane->model, l->lane->host, span,
                 run->opts.max_wait_ms / 1000, tr_run_kept(run),
                 who_said(run, l));
        if (run->trouble_lane == l)
            spare_trouble(run, until);
    }
    if (closed)
        tr_run_event(run, TR_EVENT_LANE_DOWN, l->lane, s);
    if (closed ? hopes(run, l->place)
               : l->health.state == TR_LANE_OPEN &&
                     until - (before > run->now ? before : run->now) >=
                         TOLD_FROM_NS) {
        say_next(run, l, next, sizeof next);
        snprintf(line, sizeof line, "%s: %s asks not to be asked again for "
                 "%s%s (%s)", l->lane->model, l->lane->host, span,
                 closed ? next : "; nothing is sent to it until then",
                 who_said(run, l));
        tr_run_say(run, 1, line);
    }
    return closed ? clear(run, l, err) : TR_OK;
}

/* The first lane gets rows, now or when there is room for them: what is
 * answered leaves. */
static bool has_input(const struct tr_run *run)
{
    return !run->input_ended && (!run->window_full || run->answered.n ||
                                 tr_window_moves(&run->window));
}

int tr_chain_mind(struct tr_run *run, struct tr_err *err)
{
    bool stuck = false, any_hope = false, busy = false;
    int rc = TR_OK;

    TR_EACH_LANE(run, l) {
        TRY(heed_wish(run, l, err));
        /* Rows for which the others have no room wait in vain now. */
        if (l->aside.n && !tr_chain_hopes(run, l))
            TRY(clear(run, l, err));
    }
    for (uint32_t i = 0; i < run->lane_count; i++) {
        const struct tr_run_lane *l = &run->lanes[i];
        bool work = l->fresh.n || l->redo.n || (i == 0 && has_input(run));
        bool hope = hopes(run, i);

        stuck = stuck || (work && !hope);
        any_hope = any_hope || hope;
        busy = busy || (work && hope) || l->aside.n || l->planned.n ||
               l->ready.n || l->sent.n;
    }
    if (stuck && !run->stopping && !run->opts.offline && !(any_hope && busy))
        stop(run);
out:
    return rc;
}
