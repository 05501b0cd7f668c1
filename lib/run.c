/* run.c - the engine: one step of five verbs.
 *
 *   fill     read rows, look them up, join equal ones
 *   receive  take replies, check answers, settle money, learn
 *   plan     form packs, reserve money, decide retries
 *   commit   one transaction: verdicts, outcomes, new intents
 *   act      start what is committed, write what is committed
 *
 * The order is the promise. Commit stands before act: nothing leaves before
 * its intent is durable, and no row shows before its verdict is. Whatever
 * instruction the process dies at, the store knows all that was answered and
 * which requests may have been paid without an answer.
 *
 * SPDX-License-Identifier: MIT */
#include "run.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "base/keymap.h"
#include "base/mem.h"
#include "base/rng.h"
#include "plan/pack.h"
#include "plan/retry.h"
#include "task/answer.h"
#include "task/prompt.h"
#include "window.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    FILL_ROWS = 4096,   /* rows read in one step: a step stays short */
    WRITE_ROWS = 8192,  /* rows written in one step */
    PACKS_MAX = 2048,   /* packs alive: planned, waiting to go again, sent */
    REDO_WORTH = 8,     /* invalid items that make a pack of their own */
    BAD_REQUESTS = 3,   /* 400s in a row before the first success: stop */
    LOCAL_PACK = 64,    /* texts per call of a local lane */
    LOCAL_SAMPLE = 2000 /* rows a local lane is fitted to, at most */
};
#define REDO_AGE (2 * TR_S) /* an invalid item waits this long for company */

/* A pack's way:  ASIDE -> PLANNED -> READY -> SENT -> gone, or back to ASIDE.
 * PLANNED: the request is built and its money reserved; READY: its intent is
 * durable. */
enum pack_state { PACK_ASIDE, PACK_PLANNED, PACK_READY, PACK_SENT };

struct pack {
    enum pack_state state;
    uint32_t n;                /* rows */
    uint32_t slot;             /* own index in run->packs */
    struct tr_row **rows;      /* n, in the order of the queue */
    struct tr_item *items;     /* n, in the order sent */
    uint16_t *order;           /* item i is rows[order[i]] */
    struct tr_str *texts;      /* local lanes */
    uint64_t attempt;
    int64_t bound;             /* money reserved */
    int64_t tokens;            /* estimate, for pace */
    int64_t cap;               /* output cap sent */
    size_t content_bytes;      /* system, user and schema */
    enum tr_form form;
    struct tr_buf body;
    int64_t sent_at, due_at;
    uint32_t tries;            /* attempts without success, for back-off */
    uint32_t lane_tries;       /* of those, charged to the lane */
    int64_t lane_tries_since;  /* run->successes when the first happened */
    struct pack *next;         /* queue link */
};

struct queue {
    struct pack *head, *tail;
    uint32_t n;
};

struct rows {
    struct tr_row *head, *tail;
    uint32_t n;
};

struct tr_run {
    const struct tr_env *env;
    struct tr_run_opts opts;
    struct tr_task *task;
    struct tr_store *store;
    struct tr_lane *lane;

    struct tr_window window;
    struct tr_keymap open_keys; /* key -> first unsettled row with it */
    struct tr_key salt;         /* model and effort, part of every key */
    struct tr_store_find find;
    size_t text_max;            /* --truncate: bytes a text is cut to */
    bool input_ended, input_waits, new_block;

    struct rows fresh, redo;    /* WAITING: never asked; to be asked again */
    struct queue aside;         /* packs to go again, by due_at */
    struct queue planned, ready, sent;
    struct pack *packs[PACKS_MAX]; /* by slot; a tag names slot and attempt */
    uint32_t free_slots[PACKS_MAX], free_slot_count;
    size_t body_bytes;          /* of all packs alive */

    struct tr_buf system, schema; /* stable parts, per form */
    enum tr_form form_built;
    bool form_ready;
    struct tr_form_choice form;
    struct tr_meter meter;
    struct tr_pace pace;
    struct tr_retry_budget retries;
    struct tr_flush flush;
    struct tr_money money;
    struct tr_rng rng;

    /* what the next commit makes durable */
    struct rows answered;
    struct tr_store_put *puts;
    size_t put_cap;
    struct tr_store_intent *intents;
    size_t intent_cap;
    struct tr_store_outcome *outs;
    size_t out_count, out_cap;

    uint16_t origin;            /* of the last served model */
    char origin_served[96];
    bool origin_known;
    bool fitted;
    bool money_waits;           /* no room for the next bound until a reply */

    int64_t successes, bad_requests, sends_since_commit, sends_last;
    int64_t last_success_at, opened_at, wait_since;
    int64_t run_at;             /* Unix s */
    char last_trouble[320];

    int stopping;               /* 0 no, 1 nothing leaves, 2 at once */
    int64_t stop_at;
    int exit_code;
    char sentence[1200];
    bool ended;

    struct tr_counts counts;
    int64_t *label_counts;
    struct tr_preview preview;
    struct tr_buf preview_body;
};

/* ---- small words ------------------------------------------------------ */

static int64_t now_of(const struct tr_run *run)
{
    return run->env->now_ns(run->env->ctx);
}

static void say(const struct tr_run *run, int level, const char *line)
{
    if (run->env->say)
        run->env->say(run->env->ctx, level, line);
}

static void rows_add(struct rows *q, struct tr_row *row)
{
    row->next = NULL;
    if (q->tail)
        q->tail->next = row;
    else
        q->head = row;
    q->tail = row;
    q->n++;
}

static struct tr_row *rows_take(struct rows *q)
{
    struct tr_row *row = q->head;

    q->head = row->next;
    if (!q->head)
        q->tail = NULL;
    q->n--;
    row->next = NULL;
    return row;
}

/* Rows go back to where they came from, in front: they are the oldest. */
static void rows_push(struct rows *q, struct tr_row *row)
{
    row->next = q->head;
    q->head = row;
    if (!q->tail)
        q->tail = row;
    q->n++;
}

static void queue_add(struct queue *q, struct pack *p)
{
    p->next = NULL;
    if (q->tail)
        q->tail->next = p;
    else
        q->head = p;
    q->tail = p;
    q->n++;
}

static void queue_add_due(struct queue *q, struct pack *p)
{
    struct pack **at = &q->head;

    while (*at && (*at)->due_at <= p->due_at)
        at = &(*at)->next;
    p->next = *at;
    *at = p;
    if (!p->next)
        q->tail = p;
    q->n++;
}

static struct pack *queue_take(struct queue *q)
{
    struct pack *p = q->head;

    if (!p)
        return NULL;
    q->head = p->next;
    if (!q->head)
        q->tail = NULL;
    q->n--;
    p->next = NULL;
    return p;
}

static void queue_remove(struct queue *q, struct pack *p)
{
    struct pack **at = &q->head, *before = NULL;

    while (*at != p) {
        before = *at;
        at = &before->next;
    }
    *at = p->next;
    if (q->tail == p)
        q->tail = before;
    q->n--;
    p->next = NULL;
}

static int grow(void **array, size_t *cap, size_t need, size_t size,
                struct tr_err *err)
{
    size_t next = *cap ? *cap : 64;
    void *p;

    if (need <= *cap)
        return TR_OK;
    while (next < need)
        next *= 2;
    p = tr_resize(*array, next * size);
    if (!p)
        return tr_fail(err, TR_NOMEM, "out of memory; run the same command "
                       "again, nothing that was paid for is lost");
    *array = p;
    *cap = next;
    return TR_OK;
}

/* ---- stopping --------------------------------------------------------- */

/* Nothing more leaves; what is in flight is awaited. The first reason wins. */
static void stop_with(struct tr_run *run, int exit_code, const char *sentence)
{
    if (!run->stopping) {
        run->stopping = 1;
        run->stop_at = now_of(run);
        run->exit_code = exit_code;
        snprintf(run->sentence, sizeof run->sentence, "%s", sentence);
    }
}

void tr_run_stop(struct tr_run *run, int exit_code)
{
    if (run->stopping)
        run->stopping = 2;
    else
        stop_with(run, exit_code, "stopped on request");
}

/* ---- rows come to rest ------------------------------------------------ */

static void count_settled(struct tr_run *run, const struct tr_row *row)
{
    const struct tr_verdict *v = &row->verdict;
    struct tr_counts *c = &run->counts;

    c->rows_settled++;
    if (v->why != TR_WHY_NONE) {
        c->rows_failed++;
        c->fails[v->why]++;
        if (!c->fail_example[v->why])
            c->fail_example[v->why] =
                (int64_t)(row->block->first + (uint64_t)(row - row->block->rows))
                + 1;
        return;
    }
    const uint32_t *labels;
    uint32_t n = tr_task_set_labels(run->task, v->set, &labels);

    for (uint32_t i = 0; i < n; i++)
        run->label_counts[labels[i]]++;
    if (n == 0 || (n == 1 && (int32_t)labels[0] == run->task->none))
        c->none_answers++;
}

static void settle(struct tr_run *run, struct tr_row *row)
{
    tr_window_settled(&run->window, row);
    count_settled(run, row);
}

/* The row and all equal ones got their verdict and it is durable. */
static void settle_all(struct tr_run *run, struct tr_row *row)
{
    struct tr_row *twin = row->twin;

    tr_keymap_remove(&run->open_keys, &row->key);
    row->twin = NULL;
    while (twin) {
        struct tr_row *next = twin->twin;

        twin->verdict = row->verdict;
        twin->twin = NULL;
        settle(run, twin);
        twin = next;
    }
    settle(run, row);
}

/* A verdict is known; it shows after the next commit. */
static void answer(struct tr_run *run, struct tr_row *row,
                   struct tr_verdict verdict)
{
    TR_ASSERT(row->state == TR_ROW_PACKED || row->state == TR_ROW_WAITING);
    row->verdict = verdict;
    row->state = TR_ROW_ANSWERED;
    rows_add(&run->answered, row);
    if (!run->flush.oldest_at)
        run->flush.oldest_at = now_of(run);
}

static void fail_row(struct tr_run *run, struct tr_row *row, enum tr_why why)
{
    answer(run, row, (struct tr_verdict){
        .why = (uint16_t)why,
        .origin = run->origin_known ? run->origin : 0,
        .confidence = TR_NO_CONFIDENCE,
    });
}

static void wait_again(struct tr_run *run, struct tr_row *row, uint16_t company)
{
    row->state = TR_ROW_WAITING;
    row->company = company;
    row->since = now_of(run);
    rows_add(&run->redo, row);
}

/* ---- fill ------------------------------------------------------------- */

static struct tr_str text_as_sent(const struct tr_run *run,
                                  const struct tr_row *row)
{
    struct tr_str text = tr_row_text(row->block, row);

    if (run->text_max && text.n > run->text_max) {
        text.n = run->text_max;
        while (text.n && ((unsigned char)text.p[text.n] & 0xc0) == 0x80)
            text.n--; /* never inside a character */
    }
    return text;
}

/* Rows just read: known ones settle, equal ones join, the rest waits. */
static int look_up(struct tr_run *run, struct tr_row **rows, size_t n,
                   struct tr_err *err)
{
    static const struct tr_verdict unasked = {
        .why = TR_WHY_NOT_ASKED, .confidence = TR_NO_CONFIDENCE,
    };
    struct tr_key keys[FILL_ROWS];
    struct tr_verdict verdicts[FILL_ROWS];
    bool found[FILL_ROWS];
    size_t asked = 0;
    int rc;

    for (size_t i = 0; i < n; i++) {
        struct tr_row *row = rows[i], *first;

        if (row->state == TR_ROW_SETTLED) { /* bad or empty: the source said */
            settle(run, row);
            continue;
        }
        row->key = tr_digest(&run->salt, text_as_sent(run, row));
        first = tr_keymap_find(&run->open_keys, &row->key);
        if (first) {
            row->state = TR_ROW_TWIN;
            row->twin = first->twin;
            first->twin = row;
            run->counts.rows_twin++;
            continue;
        }
        if (!tr_keymap_add(&run->open_keys, &row->key, row))
            return tr_fail(err, TR_NOMEM, "out of memory while reading rows");
        keys[asked] = row->key;
        rows[asked++] = row;
    }
    rc = tr_store_find(run->store, &run->find, keys, asked, verdicts, found,
                       err);
    if (rc != TR_OK)
        return rc;
    for (size_t i = 0; i < asked; i++) {
        struct tr_row *row = rows[i];

        if (found[i]) {
            row->verdict = verdicts[i];
            run->counts.rows_stored++;
            settle_all(run, row);
        } else if (run->opts.offline) {
            row->verdict = unasked;
            settle_all(run, row);
        } else {
            row->state = TR_ROW_WAITING;
            rows_add(&run->fresh, row);
        }
    }
    return TR_OK;
}

static int fill(struct tr_run *run, bool *moved, struct tr_err *err)
{
    struct tr_row *rows[FILL_ROWS];
    size_t n = 0;
    int rc = TR_OK;

    run->input_waits = false;
    if (run->stopping && !run->opts.offline)
        return TR_OK;
    while (!run->input_ended && n < FILL_ROWS) {
        struct tr_block *b = tr_window_room(&run->window, run->new_block, err);

        run->new_block = false;
        if (!b) {
            rc = err->code;
            break;
        }
        rc = run->env->read(run->env->ctx, b, err);
        if (rc == TR_FILL_ROW) {
            rows[n++] = tr_window_added(&run->window, b);
            run->counts.rows_read++;
        } else if (rc == TR_FILL_FULL) {
            run->new_block = true;
        } else if (rc == TR_FILL_WAIT) {
            run->input_waits = true;
            break;
        } else if (rc == TR_FILL_END) {
            run->input_ended = run->counts.input_ended = true;
        } else {
            break;
        }
    }
    if (n) {
        struct tr_err again;
        int looked = look_up(run, rows, n, &again);

        *moved = true;
        if (looked != TR_OK) {
            *err = again;
            return looked;
        }
    }
    return rc < 0 ? rc : TR_OK;
}

/* ---- packs ------------------------------------------------------------ */

static struct pack *pack_new(struct tr_run *run, uint32_t n, struct tr_err *err)
{
    struct pack *p;
    char *space;
    size_t bytes = sizeof *p + n * (sizeof *p->rows + sizeof *p->items +
                                    sizeof *p->texts + sizeof *p->order);

    if (!run->free_slot_count) {
        tr_fail(err, TR_BUG, "no free slot for a pack");
        return NULL;
    }
    p = tr_alloc(bytes);
    if (!p) {
        tr_fail(err, TR_NOMEM, "out of memory for a request of %u texts",
                (unsigned)n);
        return NULL;
    }
    space = (char *)(p + 1);
    p->rows = (void *)space;
    space += n * sizeof *p->rows;
    p->items = (void *)space;
    space += n * sizeof *p->items;
    p->texts = (void *)space;
    space += n * sizeof *p->texts;
    p->order = (void *)space;
    p->n = n;
    p->slot = run->free_slots[--run->free_slot_count];
    run->packs[p->slot] = p;
    tr_buf_init(&p->body, TR_BODIES_BYTES);
    return p;
}

/* Its rows have been moved on before. */
static void pack_free(struct tr_run *run, struct pack *p)
{
    run->body_bytes -= p->body.cap;
    run->packs[p->slot] = NULL;
    run->free_slots[run->free_slot_count++] = p->slot;
    tr_buf_release(&p->body);
    tr_free(p);
}

static int stable_parts(struct tr_run *run, enum tr_form form,
                        struct tr_err *err)
{
    if (run->form_ready && run->form_built == form)
        return TR_OK;
    tr_buf_clear(&run->system);
    tr_buf_clear(&run->schema);
    tr_prompt_system(&run->system, run->task, form);
    if (form == TR_FORM_SCHEMA)
        tr_prompt_schema(&run->schema, run->task);
    if (!tr_buf_ok(&run->system) || !tr_buf_ok(&run->schema))
        return tr_fail(err, TR_NOMEM, "out of memory for the prompt");
    run->form_built = form;
    run->form_ready = true;
    return TR_OK;
}

/* Draws ids and order anew and writes the request: every attempt has its own,
 * so that no row's author can know a neighbour's id or place. */
static int build(struct tr_run *run, struct pack *p, struct tr_err *err)
{
    struct tr_buf user;
    uint16_t ids[TR_PACK_MAX];
    struct tr_call call;
    uint64_t seed = run->env->random(run->env->ctx);
    int rc = TR_OK;

    tr_buf_init(&user, TR_BODIES_BYTES);
    tr_pack_draw(seed, p->n, p->order, ids);
    for (uint32_t i = 0; i < p->n; i++) {
        p->items[i].text = text_as_sent(run, p->rows[p->order[i]]);
        p->items[i].id = ids[i];
        p->texts[i] = p->items[i].text;
    }
    p->attempt = tr_store_next_attempt(run->store);
    if (run->lane->is_local) {
        p->bound = p->tokens = 0;
        goto out;
    }
    p->form = (enum tr_form)run->form.form;
    TRY(stable_parts(run, p->form, err));
    tr_prompt_user(&user, run->task, p->form, p->items, p->n);
    p->cap = tr_prompt_cap(run->task, p->form, p->n) + run->meter.reasoning_max;
    if (run->lane->facts.max_output && p->cap > run->lane->facts.max_output)
        p->cap = run->lane->facts.max_output;
    p->content_bytes = run->system.n + user.n + run->schema.n;
    call = (struct tr_call){
        .system = tr_buf_str(&run->system),
        .user = tr_buf_str(&user),
        .schema = tr_buf_str(&run->schema),
        .cap_tokens = p->cap,
    };
    run->body_bytes -= p->body.cap;
    tr_buf_clear(&p->body);
    rc = run->lane->vt->encode(run->lane, &call, &p->body, err);
    run->body_bytes += p->body.cap;
    TRY(rc);
    if (!tr_buf_ok(&user) || !tr_buf_ok(&p->body))
        TRY(tr_fail(err, TR_NOMEM, "out of memory for a request"));
    p->tokens = tr_meter_estimate(&run->meter, p->content_bytes) + p->cap;
    p->bound = 0;
    if (tr_priced(&run->lane->facts))
        p->bound = tr_cost_bound(&run->lane->facts,
                                 tr_meter_bound(&run->meter, p->content_bytes),
                                 p->cap);
out:
    if (rc == TR_OK && run->intent_cap < run->planned.n + 1)
        rc = grow((void **)&run->intents, &run->intent_cap, run->planned.n + 1,
                  sizeof *run->intents, err);
    if (rc == TR_OK)
        run->intents[run->planned.n] = (struct tr_store_intent){
            p->attempt, seed, p->bound, p->n};
    tr_buf_release(&user);
    return rc;
}

/* ---- receive ---------------------------------------------------------- */

static int origin_of(struct tr_run *run, const char *served, uint16_t *origin,
                     struct tr_err *err)
{
    struct tr_origin o = {
        .prompt_version = TR_PROMPT_VERSION, .run_at = run->run_at,
    };
    int rc;

    if (run->origin_known && strcmp(run->origin_served, served) == 0) {
        *origin = run->origin;
        return TR_OK;
    }
    snprintf(o.by, sizeof o.by, "%s", run->lane->model);
    snprintf(o.served, sizeof o.served, "%s", served);
    snprintf(o.effort, sizeof o.effort, "%s", run->lane->effort);
    rc = tr_store_origin(run->store, &o, &run->origin, err);
    if (rc != TR_OK)
        return rc;
    snprintf(run->origin_served, sizeof run->origin_served, "%s", served);
    run->origin_known = true;
    *origin = run->origin;
    return TR_OK;
}

/* The pack goes again later, as it is. */
static void put_aside(struct tr_run *run, struct pack *p, int64_t wait)
{
    p->state = PACK_ASIDE;
    p->due_at = now_of(run) + wait;
    queue_add_due(&run->aside, p);
    run->counts.retries++;
}

static void again(struct tr_run *run, struct pack *p,
                  const struct tr_reply *reply)
{
    int64_t wait = tr_backoff_ns(p->tries++, reply->retry_after_ms,
                                 tr_rng_unit(&run->rng));

    /* An empty retry budget delays, it never fails a row. */
    if (!tr_retry_budget_take(&run->retries))
        wait += tr_backoff_ns(p->tries + 2, -1, tr_rng_unit(&run->rng));
    put_aside(run, p, wait);
}

/* The pack is at fault, or one row of it: halves find out which. A row alone
 * is charged with one of its tries and in the end fails with why. */
static void halve(struct tr_run *run, struct pack *p, enum tr_why why,
                  uint32_t tries_max)
{
    if (p->n > 1) {
        uint16_t company = (uint16_t)((p->n + 1) / 2);

        for (uint32_t i = 0; i < p->n; i++)
            wait_again(run, p->rows[i], company);
    } else if (++p->rows[0]->alone_tries >= tries_max) {
        fail_row(run, p->rows[0], why);
    } else {
        wait_again(run, p->rows[0], 1);
    }
    run->counts.items_reasked += p->n;
    pack_free(run, p);
}

/* How often a row may end alone in such an outcome before it fails. What is
 * certain to come again is not asked five times. */
static uint32_t tries_for(enum tr_outcome outcome)
{
    switch (outcome) {
    case TR_OUT_TOO_BIG:
    case TR_OUT_BAD_REQUEST:
        return 1;
    case TR_OUT_REFUSED:
        return 2;
    default:
        return TR_TRIES_ALONE;
    }
}

/* Rows of a pack that never left, or that the lane does not take any more. */
static void give_back(struct tr_run *run, struct pack *p)
{
    for (uint32_t i = p->n; i-- > 0; ) {
        p->rows[i]->state = TR_ROW_WAITING;
        rows_push(&run->fresh, p->rows[i]);
    }
    pack_free(run, p);
}

static void score_rows(struct tr_run *run, struct pack *p,
                       const struct tr_reply *reply, uint16_t origin)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const struct tr_score *s = &reply->scores[i];

        run->counts.cut_texts += s->cut;
        answer(run, p->rows[p->order[i]], (struct tr_verdict){
            .set = s->label,
            .origin = origin,
            .confidence = s->confidence,
            .pack_size = 1,
        });
    }
    pack_free(run, p);
}

/* Reads an answer: what is right settles, what is not is asked again in
 * smaller company, never the whole pack. */
static int check(struct tr_run *run, struct pack *p,
                 const struct tr_reply *reply, uint16_t origin,
                 struct tr_err *err)
{
    struct tr_item_answer got[TR_PACK_MAX];
    struct tr_answer a;
    bool cut = reply->outcome == TR_OUT_CUT_SHORT;
    uint32_t sets = run->task->set_count;
    uint32_t bad;
    int rc = tr_answer_read(&a, got, run->task, p->items, p->n, reply->text,
                            cut, err);

    if (rc != TR_OK)
        return rc;
    for (uint32_t s = sets; s < run->task->set_count; s++) {
        struct tr_buf names;
        const uint32_t *labels;
        uint32_t n = tr_task_set_labels(run->task,
                                        run->task->label_count + s, &labels);

        tr_buf_init(&names, 0);
        for (uint32_t i = 0; i < n; i++) {
            if (i)
                tr_buf_addc(&names, '|');
            tr_buf_adds(&names, run->task->labels[labels[i]].name);
        }
        rc = tr_store_set_add(run->store, tr_buf_str(&names), err);
        tr_buf_release(&names);
        if (rc != TR_OK)
            return rc;
    }
    run->counts.forgiven += a.forgiven;
    bad = a.is_void ? p->n : a.missing + a.invalid;
    if (!cut) {
        int before = run->form.form;

        tr_form_learn(&run->form, p->n, bad);
        if (run->form.form != before)
            say(run, 2, "more than 2 % of the answers were invalid: asking "
                "for strict JSON from now on");
    }
    if (a.is_void) {
        run->counts.voided++;
        halve(run, p, TR_WHY_INVALID, TR_TRIES_ALONE);
        return TR_OK;
    }
    if (cut && a.ok == 0 &&
        tr_meter_more_reasoning(&run->meter, &reply->usage,
                                run->lane->facts.max_output)) {
        put_aside(run, p, 0); /* the cap was too small, not the pack too big */
        return TR_OK;
    }
    for (uint32_t i = 0; i < p->n; i++) {
        struct tr_row *row = p->rows[p->order[i]];

        if (got[i].result == TR_ITEM_OK) {
            answer(run, row, (struct tr_verdict){
                .set = got[i].set,
                .origin = origin,
                .confidence = TR_NO_CONFIDENCE,
                .pack_size = (uint16_t)p->n,
                .position = (uint16_t)i,
            });
            continue;
        }
        run->counts.items_reasked++;
        if (p->n == 1 && ++row->alone_tries >= TR_TRIES_ALONE)
            fail_row(run, row, cut ? TR_WHY_TRUNCATED : TR_WHY_INVALID);
        else
            wait_again(run, row, (uint16_t)((p->n + 3) / 4));
    }
    pack_free(run, p);
    return TR_OK;
}

/* Tries charged to the lane: the pack waits and goes again. One that fails
 * three times while the lane serves others is suspect itself. */
static void lane_trouble(struct tr_run *run, struct pack *p,
                         const struct tr_reply *reply, enum tr_why why)
{
    if (!p->lane_tries++)
        p->lane_tries_since = run->successes;
    if (p->lane_tries >= TR_LANE_TRIES_TOGETHER &&
        run->successes > p->lane_tries_since) {
        if (p->n > 1) {
            halve(run, p, why, TR_TRIES_ALONE);
            return;
        }
        p->lane_tries = 0;
        if (++p->rows[0]->alone_tries >= TR_TRIES_ALONE) {
            fail_row(run, p->rows[0], why);
            pack_free(run, p);
            return;
        }
    }
    again(run, p, reply);
}

static void lane_refuses(struct tr_run *run, const struct tr_reply *reply,
                         const struct tr_rule *rule)
{
    char text[1000];
    const char *what = reply->outcome == TR_OUT_EXHAUSTED
        ? "the quota of this key is used up: nothing more was sent. Add "
          "credit or wait for the reset, then run the same command again; "
          "every answer so far is safe"
        : "the provider refuses this key, model or request for good. Mend "
          "that, then run the same command again; every answer so far is safe";

    snprintf(text, sizeof text, "%s: %s (HTTP %d from %s: %s)",
             run->lane->model, what, reply->status, run->lane->host,
             reply->message);
    stop_with(run, tr_exit_code(rule->stop_code), text);
}

/* Money, tokens and pace of one attempt; its outcome joins the next commit. */
static int book(struct tr_run *run, struct pack *p,
                const struct tr_reply *reply, int64_t now, struct tr_err *err)
{
    const struct tr_usage *u = &reply->usage;
    struct tr_settled s;
    struct tr_pace_news news = {
        .outcome = reply->outcome,
        .sent_at = p->sent_at,
        .tokens_estimate = p->tokens,
        .tokens_true = u->in >= 0 && u->out >= 0 ? u->in + u->out : -1,
        .limits = &reply->limits,
        .retry_after_ms = reply->retry_after_ms,
        .unit = tr_rng_unit(&run->rng),
    };
    int rc;

    tr_pace_reply(&run->pace, &news, now);
    if (run->lane->is_local)
        return TR_OK;
    s = tr_money_settle(&run->money, p->bound, reply->billing,
                        &run->lane->facts, u);
    run->money_waits = false;
    if (reply->billing == TR_BILL_USAGE) {
        tr_meter_learn(&run->meter, p->content_bytes, p->n, u);
        run->counts.tokens_in += u->in > 0 ? u->in : 0;
        run->counts.tokens_out += u->out > 0 ? u->out : 0;
        run->counts.tokens_cached += u->cached > 0 ? u->cached : 0;
    }
    run->counts.unknown_attempts += reply->billing == TR_BILL_UNKNOWN;
    rc = grow((void **)&run->outs, &run->out_cap, run->out_count + 1,
              sizeof *run->outs, err);
    if (rc != TR_OK)
        return rc;
    run->outs[run->out_count++] = (struct tr_store_outcome){
        .attempt = p->attempt,
        .spent_nano = s.spent,
        .unknown_nano = s.unknown,
        .tokens_in = u->in > 0 ? u->in : 0,
        .tokens_out = u->out > 0 ? u->out : 0,
        .tokens_cached = u->cached > 0 ? u->cached : 0,
        .is_unknown = reply->billing == TR_BILL_UNKNOWN,
    };
    if (!run->flush.oldest_at)
        run->flush.oldest_at = now;
    return TR_OK;
}

static void log_reply(const struct tr_run *run, const struct pack *p,
                      const struct tr_reply *r)
{
    char line[640];

    if (!run->opts.verbose)
        return;
    snprintf(line, sizeof line,
             "attempt %" PRIu64 " %s: %u texts, HTTP %d %s, %" PRId64 " ms, "
             "%" PRId64 " tokens in, %" PRId64 " out%s%s%s%s",
             p->attempt, run->lane->model, (unsigned)p->n, r->status,
             tr_outcome_word(r->outcome), r->latency_ms, r->usage.in,
             r->usage.out, r->request_id[0] ? ", request " : "", r->request_id,
             r->message[0] ? ": " : "", r->message);
    say(run, 3, line);
}

static int on_reply(struct tr_run *run, const struct tr_reply *reply,
                    struct tr_err *err)
{
    uint32_t slot = (uint32_t)(reply->tag % PACKS_MAX);
    struct pack *p = run->packs[slot];
    const struct tr_rule *rule = tr_rule(reply->outcome);
    int64_t now = now_of(run);
    uint16_t origin;
    int rc;

    /* A reply for a pack that is gone has nobody to be told to. */
    if (!p || p->state != PACK_SENT || p->attempt != reply->tag / PACKS_MAX)
        return TR_OK;
    queue_remove(&run->sent, p);
    log_reply(run, p, reply);
    rc = book(run, p, reply, now, err);
    if (rc != TR_OK)
        return rc;
    if (rule->action == TR_DO_CHECK) {
        run->successes++;
        run->bad_requests = 0;
        run->last_success_at = now;
        tr_retry_budget_earn(&run->retries);
    } else {
        snprintf(run->last_trouble, sizeof run->last_trouble, "%s%s%s",
                 tr_outcome_word(reply->outcome),
                 reply->message[0] ? ": " : "", reply->message);
        if (reply->outcome == TR_OUT_THROTTLED)
            run->counts.throttled++;
    }

    switch (rule->action) {
    case TR_DO_CHECK:
        rc = origin_of(run, reply->served, &origin, err);
        if (rc != TR_OK)
            return rc;
        if (run->lane->is_local) {
            score_rows(run, p, reply, origin);
            return TR_OK;
        }
        return check(run, p, reply, origin, err);
    case TR_DO_NOW:
        if (p->tries++ < 8) {
            put_aside(run, p, 0);
            return TR_OK;
        }
        again(run, p, reply); /* it keeps learning the same: slow down */
        return TR_OK;
    case TR_DO_STOP:
        give_back(run, p);
        lane_refuses(run, reply, rule);
        return TR_OK;
    case TR_DO_HALVE:
        if (reply->outcome == TR_OUT_BAD_REQUEST && !run->successes &&
            ++run->bad_requests >= BAD_REQUESTS) {
            give_back(run, p);
            lane_refuses(run, reply, tr_rule(TR_OUT_FATAL));
            return TR_OK;
        }
        if (rule->charge == TR_CHARGE_LANE)
            lane_trouble(run, p, reply, rule->why);
        else
            halve(run, p, rule->why, tries_for(reply->outcome));
        return TR_OK;
    case TR_DO_AGAIN:
        lane_trouble(run, p, reply, rule->why);
        return TR_OK;
    }
    return TR_OK;
}

static int receive(struct tr_run *run, bool *moved, struct tr_err *err)
{
    struct tr_reply reply;
    int rc = TR_OK;

    while (rc == TR_OK && run->lane->vt->next(run->lane, &reply)) {
        *moved = true;
        rc = on_reply(run, &reply, err);
    }
    return rc;
}

/* ---- plan ------------------------------------------------------------- */

static uint32_t pack_limit(const struct tr_run *run)
{
    if (run->lane->is_local)
        return LOCAL_PACK;
    return run->opts.pack ? run->opts.pack : TR_PACK_MAX;
}

/* How many of the first rows of q go together: 0 and *too_long when the first
 * one alone does not fit the model. */
static uint32_t take_count(struct tr_run *run, const struct rows *q,
                           bool *too_long)
{
    uint32_t bytes[TR_PACK_MAX], n = 0, limit = pack_limit(run);
    uint16_t company[TR_PACK_MAX];
    struct tr_pack_policy policy;

    *too_long = false;
    if (limit > TR_PACK_MAX)
        limit = TR_PACK_MAX;
    for (const struct tr_row *r = q->head; r && n < limit; r = r->next) {
        bytes[n] = (uint32_t)text_as_sent(run, r).n;
        company[n++] = r->company;
    }
    if (run->lane->is_local)
        return n;
    policy = (struct tr_pack_policy){
        .pack = run->opts.pack,
        .context = run->lane->facts.context,
        .fixed_bytes = (int64_t)(run->system.n + run->schema.n) + 200,
        .item_overhead_bytes = 9,
        .tpm = (int64_t)run->pace.opts.tpm,
    };
    n = tr_pack_take(&policy, &run->meter, bytes, company, n,
                     tr_prompt_cap(run->task, (enum tr_form)run->form.form, 1));
    *too_long = n == 0;
    return n;
}

/* A pack of rows from q, or NULL when none can be made now. */
static struct pack *form_pack(struct tr_run *run, struct rows *q,
                              struct tr_err *err)
{
    struct pack *p;
    bool too_long;
    uint32_t n;

    while (q->n) {
        n = take_count(run, q, &too_long);
        if (!too_long)
            break;
        fail_row(run, rows_take(q), TR_WHY_TOO_LONG);
    }
    if (!q->n)
        return NULL;
    p = pack_new(run, n, err);
    if (!p)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        p->rows[i] = rows_take(q);
        p->rows[i]->state = TR_ROW_PACKED;
    }
    return p;
}

/* Packs planned and ready, beyond those in flight, that keep the lane busy
 * while a commit runs; a pace known to be slow needs few. */
static uint32_t ahead_wanted(const struct tr_run *run)
{
    double rpm = tr_pace_rpm(&run->pace);
    int64_t free_slots = (int64_t)run->pace.window - run->pace.in_flight;
    int64_t want = 2 * run->sends_last;

    if (run->lane->is_local)
        return 2;
    if (want < free_slots)
        want = free_slots;
    if (rpm > 0 && want > (int64_t)(rpm / 60 / 4))
        want = (int64_t)(rpm / 60 / 4);
    if (want > PACKS_MAX / 4)
        want = PACKS_MAX / 4;
    return (uint32_t)(want < 1 ? 2 : want + 2);
}

/* Fits a lane that wants it; false while that goes on. */
static int fit(struct tr_run *run, bool *ready, struct tr_err *err)
{
    struct tr_lane *lane = run->lane;
    struct tr_buf kept, out;
    const struct tr_str *texts = NULL;
    struct tr_str *own = NULL;
    size_t n = 0;
    char name[200];
    bool found = false;
    int rc = TR_OK;

    *ready = run->fitted || !lane->wants_sample;
    if (*ready)
        return TR_OK;
    tr_buf_init(&kept, 0);
    tr_buf_init(&out, 0);
    snprintf(name, sizeof name, "fit:%.*s", (int)strcspn(lane->model, "+"),
             lane->model);
    if (!run->opts.fresh)
        TRY(tr_store_get(run->store, name, &kept, &found, err));
    if (!found && !(run->env->sample &&
                    run->env->sample(run->env->ctx, &texts, &n))) {
        if (run->fresh.n < LOCAL_SAMPLE && !run->input_ended &&
            run->window.bytes < run->window.bytes_max / 2)
            goto out; /* more rows first */
        own = tr_array(run->fresh.n, sizeof *own);
        if (!own)
            TRY(tr_fail(err, TR_NOMEM, "out of memory for the sample"));
        for (struct tr_row *r = run->fresh.head; r && n < LOCAL_SAMPLE;
             r = r->next)
            own[n++] = text_as_sent(run, r);
        texts = own;
    }
    rc = lane->vt->fit(lane, texts, n, tr_buf_str(&kept), &out, err);
    if (rc == TR_RUN_MORE) {
        rc = TR_OK;
        goto out;
    }
    TRY(rc);
    if (!found)
        TRY(tr_store_set(run->store, name, tr_buf_str(&out), err));
    run->fitted = *ready = true;
out:
    tr_free(own);
    tr_buf_release(&kept);
    tr_buf_release(&out);
    return rc;
}

/* The rows of the next pack: packs that are due again first, then items that
 * came back invalid, then the oldest rows never asked. */
static struct pack *next_pack(struct tr_run *run, int64_t now,
                              struct tr_err *err)
{
    if (run->aside.head && run->aside.head->due_at <= now)
        return queue_take(&run->aside);
    if (run->free_slot_count == 0 || run->body_bytes > TR_BODIES_BYTES)
        return NULL;
    if (run->redo.n &&
        (run->redo.n >= REDO_WORTH || run->redo.head->company == 1 ||
         !run->fresh.n || now - run->redo.head->since >= REDO_AGE))
        return form_pack(run, &run->redo, err);
    return run->fresh.n ? form_pack(run, &run->fresh, err) : NULL;
}

static void no_money(struct tr_run *run, struct pack *p)
{
    char need[32], left[32], text[400];

    p->state = PACK_ASIDE;
    p->due_at = 0;
    queue_add_due(&run->aside, p);
    run->money_waits = true;
    if (run->sent.n || run->ready.n || run->planned.n || run->money.reserved)
        return; /* replies give money back */
    snprintf(text, sizeof text,
             "the budget is reached: the next request could cost %s and %s is "
             "left. Raise --budget and run the same command again; every "
             "answer so far is safe",
             tr_money_text(p->bound, need, sizeof need),
             tr_money_text(tr_money_left(&run->money), left, sizeof left));
    stop_with(run, tr_exit_code(TR_STOPPED), text);
}

/* --dry-run: the pack is counted and forgotten. */
static void preview(struct tr_run *run, struct pack *p)
{
    struct tr_preview *v = &run->preview;

    if (!v->requests)
        tr_buf_adds(&run->preview_body, tr_buf_str(&p->body));
    v->requests++;
    v->texts += p->n;
    v->tokens_in += tr_meter_estimate(&run->meter, p->content_bytes);
    v->tokens_out += 4 * (int64_t)p->n;
    if (!tr_priced(&run->lane->facts) || v->bound_nano < 0)
        v->bound_nano = -1;
    else
        v->bound_nano += p->bound;
    for (uint32_t i = 0; i < p->n; i++) {
        p->rows[i]->verdict = (struct tr_verdict){
            .why = TR_WHY_NOT_ASKED, .confidence = TR_NO_CONFIDENCE};
        settle_all(run, p->rows[i]);
    }
    pack_free(run, p);
}

static int plan(struct tr_run *run, bool *moved, struct tr_err *err)
{
    int64_t now = now_of(run);
    uint32_t want = ahead_wanted(run);
    struct pack *p;
    bool ready;
    int rc;

    if (run->stopping || run->opts.offline || run->money_waits ||
        !(run->fresh.n || run->redo.n || run->aside.n))
        return TR_OK;
    if (!run->lane->is_local) {
        rc = stable_parts(run, (enum tr_form)run->form.form, err);
        if (rc != TR_OK)
            return rc;
    }
    if (!run->opts.dry_run) {
        rc = fit(run, &ready, err);
        if (rc != TR_OK || !ready)
            return rc;
    }
    while (run->planned.n + run->ready.n < want || run->opts.dry_run) {
        err->code = TR_OK;
        p = next_pack(run, now, err);
        if (!p)
            return err->code;
        rc = build(run, p, err);
        if (rc != TR_OK)
            return rc;
        *moved = true;
        if (run->opts.dry_run) {
            preview(run, p);
            continue;
        }
        if (!run->lane->is_local && !tr_money_reserve(&run->money, p->bound)) {
            no_money(run, p);
            return TR_OK;
        }
        p->state = run->lane->is_local ? PACK_READY : PACK_PLANNED;
        queue_add(run->lane->is_local ? &run->ready : &run->planned, p);
        if (!run->flush.oldest_at && !run->lane->is_local)
            run->flush.oldest_at = now;
    }
    return TR_OK;
}

/* ---- commit ----------------------------------------------------------- */

static int commit(struct tr_run *run, bool now_please, bool *moved,
                  struct tr_err *err)
{
    uint32_t pending = run->answered.n + (uint32_t)run->out_count +
                       run->planned.n;
    int64_t began = now_of(run);
    size_t puts = 0;
    bool starved = run->planned.n && !run->ready.n &&
                   run->pace.in_flight < (int)run->pace.window;
    int rc;

    if (!pending)
        return TR_OK;
    if (!now_please && !tr_flush_due(&run->flush, starved, pending, began))
        return TR_OK;
    rc = grow((void **)&run->puts, &run->put_cap, run->answered.n,
              sizeof *run->puts, err);
    if (rc != TR_OK)
        return rc;
    for (struct tr_row *r = run->answered.head; r; r = r->next)
        if (r->verdict.why == TR_WHY_NONE ||
            tr_why_stored((enum tr_why)r->verdict.why))
            run->puts[puts++] = (struct tr_store_put){r->key, r->verdict};
    rc = tr_store_commit(run->store, run->puts, puts, run->intents,
                         run->planned.n, run->outs, run->out_count, err);
    if (rc != TR_OK)
        return rc;
    tr_flush_done(&run->flush, began, now_of(run));
    run->flush.oldest_at = 0;
    run->out_count = 0;
    run->sends_last = run->sends_since_commit;
    run->sends_since_commit = 0;
    while (run->answered.n)
        settle_all(run, rows_take(&run->answered));
    while (run->planned.n) {
        struct pack *p = queue_take(&run->planned);

        p->state = PACK_READY;
        queue_add(&run->ready, p);
    }
    *moved = true;
    return TR_OK;
}

/* ---- act -------------------------------------------------------------- */

static int send_ready(struct tr_run *run, int64_t *wake, bool *moved,
                      struct tr_err *err)
{
    while (run->ready.n && !run->stopping) {
        struct pack *p = run->ready.head;
        int64_t now = now_of(run);
        int64_t wait = tr_pace_wait(&run->pace, p->tokens, now);
        struct tr_shot shot;
        int rc;

        if (wait == TR_PACE_FULL)
            break;
        if (wait > 0) {
            if (!run->wait_since)
                run->wait_since = now;
            if (now + wait < *wake)
                *wake = now + wait;
            return TR_OK;
        }
        if (run->wait_since) {
            run->counts.wait_limits_ns += now - run->wait_since;
            run->wait_since = 0;
        }
        queue_take(&run->ready);
        shot = (struct tr_shot){
            .tag = p->attempt * PACKS_MAX + p->slot,
            .deadline_ms = run->opts.request_timeout_ms,
            .body = tr_buf_str(&p->body),
            .texts = p->texts,
            .text_count = p->n,
        };
        p->state = PACK_SENT;
        p->sent_at = now;
        queue_add(&run->sent, p);
        tr_pace_sent(&run->pace, p->tokens, now);
        rc = run->lane->vt->start(run->lane, &shot, err);
        if (rc != TR_OK)
            return rc;
        run->counts.requests++;
        run->sends_since_commit++;
        *moved = true;
    }
    run->wait_since = 0;
    return TR_OK;
}

static int write_settled(struct tr_run *run, bool *moved, struct tr_err *err)
{
    for (int i = 0; i < WRITE_ROWS; i++) {
        struct tr_row *row;
        int rc = tr_window_next(&run->window, &row, err);

        if (rc != TR_OK || !row)
            return rc;
        rc = run->env->write(run->env->ctx, row->block, row, err);
        if (rc <= 0)
            return rc;
        tr_window_wrote(&run->window, row);
        run->counts.rows_written++;
        *moved = true;
    }
    return TR_OK;
}

/* ---- the end ---------------------------------------------------------- */

/* Intents of packs that never left are taken back: they cost nothing. */
static int unplan(struct tr_run *run, struct queue *q, bool had_intent,
                  struct tr_err *err)
{
    struct pack *p;

    while ((p = queue_take(q))) {
        if (!run->lane->is_local) {
            tr_money_unreserve(&run->money, p->bound);
            if (had_intent) {
                int rc = grow((void **)&run->outs, &run->out_cap,
                              run->out_count + 1, sizeof *run->outs, err);

                if (rc != TR_OK)
                    return rc;
                run->outs[run->out_count++] =
                    (struct tr_store_outcome){.attempt = p->attempt};
            }
        }
        give_back(run, p);
    }
    return TR_OK;
}

/* Requests whose answers nobody awaits any more: their outcome is unknown. */
static int abandon(struct tr_run *run, struct tr_err *err)
{
    static const struct tr_usage unheard = {-1, -1, -1, -1, -1};
    struct pack *p;

    run->lane->vt->cancel(run->lane);
    while ((p = run->sent.head)) {
        struct tr_reply lost = {
            .outcome = TR_OUT_LOST, .billing = TR_BILL_UNKNOWN,
            .usage = unheard, .retry_after_ms = -1,
            .limits = {{-1, -1, -1}, {-1, -1, -1}},
        };
        int rc = book(run, p, &lost, now_of(run), err);

        if (rc != TR_OK)
            return rc;
        queue_take(&run->sent);
        give_back(run, p);
    }
    return TR_OK;
}

static int keep_learned(struct tr_run *run, struct tr_err *err)
{
    struct tr_buf line;
    char name[340];
    int rc = TR_OK;

    if (!run->lane->vt->learned || run->opts.dry_run)
        return TR_OK;
    tr_buf_init(&line, 0);
    run->lane->vt->learned(run->lane, &line);
    if (tr_buf_ok(&line) && line.n) {
        snprintf(name, sizeof name, "lane:%s@%s", run->lane->model,
                 run->lane->host);
        rc = tr_store_set(run->store, name, tr_buf_str(&line), err);
    }
    if (rc == TR_OK && run->form.forced < 0) {
        snprintf(name, sizeof name, "form:%s@%s", run->lane->model,
                 run->lane->host);
        rc = tr_store_set(run->store, name,
                          run->form.form ? TR_STR("1") : TR_STR("0"), err);
    }
    tr_buf_release(&line);
    return rc;
}

static int finish(struct tr_run *run, struct tr_err *err)
{
    bool moved = false;
    int rc;

    rc = keep_learned(run, err);
    if (rc == TR_OK)
        rc = commit(run, true, &moved, err);
    if (rc == TR_OK && !run->stopping && !run->opts.offline &&
        !run->opts.dry_run)
        rc = tr_store_job_finish(run->store, err);
    if (rc != TR_OK)
        return rc;
    if (!run->stopping)
        run->exit_code = run->counts.rows_failed && !run->opts.dry_run ? 1 : 0;
    run->ended = true;
    return TR_OK;
}

/* The way out: nothing leaves, replies are awaited up to the grace, then all
 * that is known is made durable and written. */
static int wind_down(struct tr_run *run, int64_t *wake, bool *moved,
                     struct tr_err *err)
{
    int64_t give_up = run->stop_at + run->opts.grace_ms * TR_MS;
    int64_t now = now_of(run);
    int rc;

    rc = unplan(run, &run->planned, false, err);
    if (rc == TR_OK)
        rc = unplan(run, &run->ready, true, err);
    if (rc != TR_OK)
        return rc;
    if (run->sent.n && run->stopping == 1 && now < give_up) {
        if (give_up < *wake)
            *wake = give_up;
        return TR_OK;
    }
    if (run->sent.n) {
        rc = abandon(run, err);
        if (rc != TR_OK)
            return rc;
    }
    rc = commit(run, true, moved, err);
    if (rc == TR_OK)
        rc = write_settled(run, moved, err);
    if (rc == TR_OK && !*moved)
        rc = finish(run, err);
    return rc;
}

/* Too long without any success: an outage ends the run, never the rows. */
static void mind_outage(struct tr_run *run, int64_t *wake)
{
    int64_t now = now_of(run);
    int64_t limit = run->last_success_at + run->opts.max_wait_ms * TR_MS;
    char text[900];

    if (!run->sent.n && !run->aside.n) {
        run->last_success_at = now; /* nothing is being asked */
        return;
    }
    if (now < limit) {
        if (limit < *wake)
            *wake = limit;
        return;
    }
    snprintf(text, sizeof text,
             "%s: no answer for %" PRId64 " s (%s). Nothing is lost: run the "
             "same command again when the provider is back; --max-wait sets "
             "how long to go on",
             run->lane->host, run->opts.max_wait_ms / 1000,
             run->last_trouble[0] ? run->last_trouble : "no reply");
    stop_with(run, tr_exit_code(run->successes ? TR_STOPPED : TR_UNAVAILABLE),
              text);
}

int tr_run_step(struct tr_run *run, int64_t *wait_ns, struct tr_err *err)
{
    int64_t wake = INT64_MAX, now;
    bool moved = false;
    int rc = TR_OK;

    *wait_ns = 0;
    if (run->ended)
        return TR_RUN_DONE;
    TRY(fill(run, &moved, err));
    TRY(receive(run, &moved, err));
    TRY(plan(run, &moved, err));
    TRY(commit(run, false, &moved, err));
    if (run->stopping) {
        TRY(wind_down(run, &wake, &moved, err));
    } else {
        TRY(send_ready(run, &wake, &moved, err));
        TRY(write_settled(run, &moved, err));
        mind_outage(run, &wake);
        if (run->input_ended && !run->fresh.n && !run->redo.n &&
            !run->aside.n && !run->planned.n && !run->ready.n &&
            !run->sent.n) {
            TRY(commit(run, true, &moved, err));
            TRY(write_settled(run, &moved, err));
            if (tr_window_empty(&run->window))
                TRY(finish(run, err));
        }
    }
    if (run->ended)
        return TR_RUN_DONE;
    if (moved || run->stopping)
        return TR_RUN_MORE;
    now = now_of(run);
    if (run->aside.head && !run->money_waits && run->aside.head->due_at < wake)
        wake = run->aside.head->due_at;
    if (run->redo.n && run->redo.head->since + REDO_AGE < wake)
        wake = run->redo.head->since + REDO_AGE;
    if (run->flush.oldest_at && tr_flush_wake(&run->flush) < wake)
        wake = tr_flush_wake(&run->flush);
    *wait_ns = wake == INT64_MAX ? TR_S : wake > now ? wake - now : 0;
    return TR_RUN_MORE;
out:
    return rc;
}

/* ---- open, close, look ------------------------------------------------ */

static int restore(struct tr_run *run, struct tr_err *err)
{
    struct tr_buf line;
    char name[340];
    bool found;
    int rc = TR_OK;

    tr_buf_init(&line, 0);
    if (run->lane->vt->teach) {
        snprintf(name, sizeof name, "lane:%s@%s", run->lane->model,
                 run->lane->host);
        TRY(tr_store_get(run->store, name, &line, &found, err));
        if (found)
            run->lane->vt->teach(run->lane, tr_buf_str(&line));
    }
    if (run->form.forced < 0) {
        snprintf(name, sizeof name, "form:%s@%s", run->lane->model,
                 run->lane->host);
        tr_buf_clear(&line);
        TRY(tr_store_get(run->store, name, &line, &found, err));
        if (found && tr_str_eq_c(tr_buf_str(&line), "1"))
            run->form.form = TR_FORM_SCHEMA;
    }
    /* Label sets get the numbers they had when the verdicts were stored. */
    for (uint32_t i = 0; i < tr_store_set_count(run->store); i++) {
        struct tr_str names = tr_store_set_at(run->store, i);
        uint32_t labels[64], n = 0, set;

        while (n < 64) {
            const char *bar = names.n ? memchr(names.p, '|', names.n) : NULL;
            size_t len = bar ? (size_t)(bar - names.p) : names.n;
            int32_t label = tr_task_label(run->task, tr_str(names.p, len));

            if (label < 0)
                TRY(tr_fail(err, TR_CONFIG,
                            "%s holds a label this task does not have; the "
                            "store is damaged: move it away and run again",
                            tr_store_path(run->store)));
            labels[n++] = (uint32_t)label;
            if (!bar)
                break;
            names = tr_str(bar + 1, names.n - len - 1);
        }
        TRY(tr_task_set(run->task, labels, n, &set, err));
        TR_ASSERT(set == run->task->label_count + i);
    }
out:
    tr_buf_release(&line);
    return rc;
}

static int open_job(struct tr_run *run, struct tr_err *err)
{
    struct tr_job job = {0};
    int rc;

    run->money.cap = run->opts.budget_nano;
    if (run->opts.dry_run)
        return TR_OK;
    rc = tr_store_job(run->store, run->opts.job, run->run_at, run->opts.fresh,
                      &job, err);
    if (rc != TR_OK)
        return rc;
    run->money.spent = job.spent_nano;
    run->money.unknown = job.unknown_nano;
    if (run->opts.fresh)
        run->find.not_before = job.started_at;
    if (run->opts.retry_failed)
        run->find.failures_not_before = job.started_at;
    if (job.unknown_count) {
        char text[300], money[32];

        snprintf(text, sizeof text,
                 "%" PRId64 " requests of this job have an unknown outcome "
                 "(the process died or the connection was lost); at most %s "
                 "may have been charged for them and counts as spent "
                 "(trommel store forgive releases it)",
                 job.unknown_count,
                 tr_money_text(job.unknown_nano, money, sizeof money));
        say(run, 2, text);
    }
    return TR_OK;
}

int tr_run_open(struct tr_run **out, const struct tr_env *env,
                const struct tr_run_opts *opts, struct tr_task *task,
                struct tr_store *store, struct tr_lane *lane,
                struct tr_err *err)
{
    struct tr_run *run = tr_alloc(sizeof *run);
    struct tr_pace_opts pace = {
        .concurrency = opts->concurrency,
        .concurrency_max = lane->concurrency_max,
        .rpm = opts->rpm > 0 ? opts->rpm : (double)lane->rpm,
        .tpm = opts->tpm > 0 ? opts->tpm : (double)lane->tpm,
    };
    char name[200];
    int rc = TR_OK;

    *out = NULL;
    if (!run)
        return tr_fail(err, TR_NOMEM, "out of memory");
    run->env = env;
    run->opts = *opts;
    run->task = task;
    run->store = store;
    run->lane = lane;
    run->run_at = env->wall_s(env->ctx);
    run->opened_at = run->last_success_at = env->now_ns(env->ctx);
    run->rng.state = env->random(env->ctx);
    run->find.min_prompt = opts->min_prompt;
    snprintf(name, sizeof name, "%s\n%s", lane->model, lane->effort);
    run->salt = tr_digest(NULL, tr_str_c(name));
    if (opts->truncate && lane->facts.context)
        run->text_max = (size_t)lane->facts.context * 2;
    tr_window_init(&run->window, env,
                   opts->window_bytes ? opts->window_bytes : TR_WINDOW_BYTES,
                   opts->as_completed);
    tr_keymap_init(&run->open_keys);
    tr_buf_init(&run->system, 0);
    tr_buf_init(&run->schema, 0);
    tr_buf_init(&run->preview_body, 0);
    tr_form_init(&run->form, opts->answer_form);
    tr_meter_init(&run->meter);
    tr_pace_init(&run->pace, &pace, run->opened_at);
    tr_retry_budget_init(&run->retries);
    for (uint32_t i = 0; i < PACKS_MAX; i++)
        run->free_slots[run->free_slot_count++] = PACKS_MAX - 1 - i;
    run->label_counts = tr_array(task->label_count, sizeof(int64_t));
    if (!run->label_counts)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    if (opts->budget_nano >= 0 && !lane->is_local && !tr_priced(&lane->facts))
        TRY(tr_fail(err, TR_CONFIG,
                    "the price of %s is not known, so --budget cannot be "
                    "kept: add it to models.yaml in trommel's configuration "
                    "folder (input and output, USD per million tokens), or "
                    "leave --budget out", lane->model));
    TRY(restore(run, err));
    TRY(open_job(run, err));

    *out = run;
    run = NULL;
out:
    tr_run_close(run);
    return rc;
}

void tr_run_close(struct tr_run *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; i < PACKS_MAX; i++)
        if (run->packs[i])
            pack_free(run, run->packs[i]);
    tr_window_release(&run->window);
    tr_keymap_release(&run->open_keys);
    tr_buf_release(&run->system);
    tr_buf_release(&run->schema);
    tr_buf_release(&run->preview_body);
    tr_free(run->puts);
    tr_free(run->intents);
    tr_free(run->outs);
    tr_free(run->label_counts);
    tr_free(run);
}

int tr_run_exit(const struct tr_run *run, const char **sentence)
{
    *sentence = run->sentence;
    return run->exit_code;
}

void tr_run_counts(const struct tr_run *run, struct tr_counts *counts)
{
    *counts = run->counts;
    counts->in_flight = run->sent.n;
    counts->waiting = run->wait_since ? run->ready.n : 0;
}

void tr_run_money(const struct tr_run *run, struct tr_money *money)
{
    *money = run->money;
}

const int64_t *tr_run_label_counts(const struct tr_run *run)
{
    return run->label_counts;
}

void tr_run_preview(const struct tr_run *run, struct tr_preview *preview)
{
    *preview = run->preview;
    preview->first = tr_buf_str(&run->preview_body);
    preview->rows = run->counts.rows_read;
}

int64_t tr_run_bound_per_row(struct tr_run *run)
{
    const struct tr_row *r = run->fresh.head;
    struct tr_err err;
    bool too_long;
    uint32_t n;
    size_t bytes;

    if (!r || run->lane->is_local || !tr_priced(&run->lane->facts) ||
        stable_parts(run, (enum tr_form)run->form.form, &err) != TR_OK)
        return -1;
    n = take_count(run, &run->fresh, &too_long);
    if (!n)
        return -1;
    bytes = run->system.n + run->schema.n + 200;
    for (uint32_t i = 0; i < n; i++, r = r->next)
        bytes += text_as_sent(run, r).n + 9;
    return tr_cost_bound(&run->lane->facts,
                         tr_meter_bound(&run->meter, bytes),
                         tr_prompt_cap(run->task,
                                       (enum tr_form)run->form.form, n)) / n;
}
