/* test_adopt.c - the engine over a lane in batches that dies at any moment.
 *
 * A seed is a job: rows, a provider whose batches take their time and answer
 * in part, and processes that are killed between two steps, after a batch was
 * made durable or made, and stopped. The provider decides once what comes of
 * an attempt and tells it to whoever asks, as often as they ask.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "rows/source.h"
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { ROWS = 60, ITEMS = 8, ASKS = 4000, SEEDS = 400 };

enum fate { ANSWERED, PARTLY, FAILED, EXPIRED, FATES };

/* An attempt as the provider has it, or as it waits in the lane. */
struct asked {
    uint64_t attempt, tag; /* tag 0: nobody alive waits for it */
    int batch;             /* index; -1: it waits in the lane */
    uint32_t n, ids[ITEMS];
    int texts[ITEMS];
    enum fate fate;
    bool told;             /* to the living process */
};

struct made {
    struct tr_batch batch;
    bool exists;           /* at the provider */
    bool known;            /* to the living process */
    int64_t due;
};

struct world {
    struct tr_lane lane; /* first */
    struct tr_rng rng, env_rng;
    struct tr_store *store;
    int64_t now, bill, tokens;
    int rounds;            /* runs that finished, and one */
    struct asked asked[ASKS];
    int asked_n;
    struct made made[ASKS];
    int made_n;
    int good[ROWS];        /* usable answers that were billed, by text */
    int open[ROWS];        /* attempts under way that hold it */
    int read_next, rows;
    int labels[ROWS];      /* written by this run; -1: not yet */
    bool settled[ASKS];
    bool dying, deaths_on;
    bool hopeless;         /* nothing is ever answered, each after hours */
};

static struct world *the;

static bool chance(int percent)
{
    return (int)tr_rng_below(&the->rng, 100) < percent;
}

/* ---- what came of it, once and for all ---------------------------------- */

/* The provider's side of an attempt's end, once. */
static void settle(struct world *w, struct asked *a)
{
    bool billed = w->made[a->batch].exists && a->fate <= PARTLY;

    for (uint32_t i = 0; i < a->n; i++) {
        w->open[a->texts[i]]--;
        w->good[a->texts[i]] += billed && (a->fate == ANSWERED || i % 2);
    }
    if (billed) {
        w->bill += 10 * (int64_t)a->n * 1000 + (int64_t)a->n * 5000;
        w->tokens += 11 * (int64_t)a->n;
    }
}

struct ends {
    struct world *w;
    bool open[ASKS];
};

static int see_open(void *ctx, const struct tr_store_item *item,
                    struct tr_err *err)
{
    struct ends *e = ctx;
    (void)err;

    for (int i = 0; i < e->w->asked_n; i++)
        e->open[i] |= e->w->asked[i].attempt == item->attempt;
    return TR_OK;
}

/* Attempts that were told and are not in the store any more: over for good. */
static void settle_told(struct world *w)
{
    struct ends *e = tr_alloc(sizeof *e);
    struct tr_batch *list;
    struct tr_err err;
    size_t n;

    e->w = w;
    assert_int_equal(tr_store_batches(w->store, &list, &n, &err), TR_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(tr_store_batch_items(w->store, list[i].id, see_open,
                                              e, &err), TR_OK);
    tr_free(list);
    for (int i = 0; i < w->asked_n; i++)
        if (w->asked[i].batch >= 0 && !w->settled[i] && w->asked[i].told &&
            !e->open[i]) {
            settle(w, &w->asked[i]);
            w->settled[i] = true;
        }
    tr_free(e);
}

/* ---- the provider and its lane ---------------------------------------- */

static int encode(struct tr_lane *lane, const struct tr_call *call,
                  struct tr_buf *body, struct tr_err *err)
{
    (void)lane;
    (void)err;
    tr_buf_adds(body, call->user);
    return TR_OK;
}

static int start(struct tr_lane *lane, const struct tr_shot *shot,
                 struct tr_err *err)
{
    struct world *w = (struct world *)lane;
    struct asked *a = &w->asked[w->asked_n++];
    const char *p = shot->body.p, *end = p + shot->body.n;
    (void)err;

    assert_in_range(w->asked_n, 1, ASKS - 1);
    settle_told(w); /* what the commit before this has ended */
    *a = (struct asked){.attempt = shot->attempt, .tag = shot->tag,
                        .batch = -1, .fate = ANSWERED};
    while (p < end) { /* items are lines: [417, "t12"] */
        int id, text;

        if (sscanf(p, "[%d, \"t%d\"]", &id, &text) == 2 && text < ROWS) {
            a->ids[a->n] = (uint32_t)id;
            a->texts[a->n++] = text;
            /* The promise: it is neither answered nor under way. */
            assert_int_equal(w->good[text], 0);
            assert_int_equal(w->open[text], 0);
            w->open[text]++;
        }
        p = memchr(p, '\n', (size_t)(end - p));
        p = p ? p + 1 : end;
    }
    assert_in_range(a->n, 1, ITEMS);
    return TR_OK;
}

/* What waits leaves as one batch; the process may die around it. */
static void make_batch(struct world *w)
{
    struct made *m = &w->made[w->made_n];
    uint64_t attempts[ASKS];
    struct tr_err err;
    size_t n = 0;

    for (int i = 0; i < w->asked_n; i++)
        if (w->asked[i].batch < 0 && w->asked[i].tag) {
            attempts[n++] = w->asked[i].attempt;
            w->asked[i].batch = w->made_n;
            w->asked[i].fate = w->hopeless ? FAILED : chance(60) ? ANSWERED
                : (enum fate)tr_rng_below(&w->rng, FATES);
        }
    if (!n)
        return;
    *m = (struct made){.batch = {.lane = "sim/m@h", .created_at = 1},
                       .known = true,
                       .due = w->now + (int64_t)tr_rng_below(
                           &w->rng, w->hopeless ? 20000 : 50) * TR_S};
    snprintf(m->batch.mark, sizeof m->batch.mark, "mark%d", w->made_n);
    assert_int_equal(tr_store_batch_creating(w->store, &m->batch, attempts, n,
                                             &err), TR_OK);
    w->made_n++;
    w->dying |= w->deaths_on && chance(10);
    m->exists = !w->dying || chance(50);
    if (w->dying)
        return; /* before its name was known */
    snprintf(m->batch.name, sizeof m->batch.name, "name%d", w->made_n - 1);
    assert_int_equal(tr_store_batch_opened(w->store, &m->batch, &err), TR_OK);
}

static void reply_of(struct world *w, struct asked *a, struct tr_reply *r)
{
    static char text[400];
    bool billed = w->made[a->batch].exists && a->fate <= PARTLY;
    size_t n = 0;

    *r = (struct tr_reply){
        .tag = a->tag,
        .outcome = billed ? TR_OUT_OK
                 : a->fate == FAILED ? TR_OUT_TRANSIENT : TR_OUT_UNREACHED,
        .billing = billed ? TR_BILL_USAGE : TR_BILL_NONE,
        .usage = {billed ? 10 * (int64_t)a->n : -1,
                  billed ? (int64_t)a->n : -1, -1, -1, -1},
        .limits = TR_LIMITS_UNSAID,
    };
    for (uint32_t i = 0; i < a->n && billed; i++)
        if (a->fate == ANSWERED || i % 2)
            n += (size_t)snprintf(text + n, sizeof text - n, "%u %c\n",
                                  (unsigned)a->ids[i], 'a' + a->texts[i] % 3);
    r->text = tr_str(text, n);
}

static int next(struct tr_lane *lane, struct tr_reply *reply)
{
    struct world *w = (struct world *)lane;

    if (w->dying)
        return 0;
    if (chance(20))
        make_batch(w);
    for (int k = 0, from = (int)tr_rng_below(&w->rng, ASKS); k < w->asked_n;
         k++) {
        struct asked *a = &w->asked[(k + from) % w->asked_n];

        if (!a->tag || a->told || a->batch < 0 || !w->made[a->batch].known ||
            w->now < w->made[a->batch].due)
            continue;
        reply_of(w, a, reply);
        a->told = true;
        return 1;
    }
    return 0;
}

static void drop_waiting(struct world *w)
{
    for (int i = 0; i < w->asked_n; i++) {
        struct asked *a = &w->asked[i];

        if (a->batch >= 0 || !a->tag)
            continue;
        for (uint32_t k = 0; k < a->n; k++)
            w->open[a->texts[k]]--;
        a->tag = 0;
    }
}

static void cancel(struct tr_lane *lane)
{
    drop_waiting((struct world *)lane);
}

static bool waits(struct tr_lane *lane, uint64_t tag)
{
    struct world *w = (struct world *)lane;

    for (int i = 0; i < w->asked_n; i++)
        if (w->asked[i].tag == tag)
            return w->asked[i].batch < 0;
    return false;
}

static int adopt(struct tr_lane *lane, const struct tr_batch *batch,
                 const uint64_t *attempts, const uint64_t *tags, size_t n,
                 struct tr_err *err)
{
    struct world *w = (struct world *)lane;
    int at = atoi(batch->mark + 4);
    (void)err;

    w->made[at].known = true;
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < w->asked_n; k++)
            if (w->asked[k].attempt == attempts[i]) {
                assert_int_equal(w->asked[k].batch, at);
                w->asked[k].tag = tags[i];
            }
    return TR_OK;
}

static const struct tr_lane_vt lane_vt = {
    .encode = encode, .start = start, .next = next, .cancel = cancel,
    .waits = waits, .adopt = adopt,
};

/* ---- the rest of the world -------------------------------------------- */

/* Everything takes its time, commits too: not each is due at once. */
static int64_t now_ns(void *ctx)
{
    struct world *w = ctx;

    w->now += (int64_t)tr_rng_below(&w->env_rng, 20) * TR_MS;
    return w->now;
}

static int64_t wall_s(void *ctx)
{
    return 1000 + ((struct world *)ctx)->now / TR_S;
}

static uint64_t random_u64(void *ctx)
{
    return tr_rng_next(&((struct world *)ctx)->env_rng);
}

static int read_row(void *ctx, struct tr_block *b, struct tr_err *err)
{
    struct world *w = ctx;
    char text[20];
    int n = snprintf(text, sizeof text, "t%d", w->read_next);
    (void)err;

    if (w->read_next >= w->rows)
        return TR_FILL_END;
    if (chance(30))
        return TR_FILL_WAIT;
    if (!tr_block_add_row(b, tr_str(text, (size_t)n), false))
        return TR_FILL_FULL;
    w->read_next++;
    return TR_FILL_ROW;
}

static int write_row(void *ctx, const struct tr_block *b,
                     const struct tr_row *row, struct tr_err *err)
{
    struct world *w = ctx;
    (void)err;

    w->labels[b->first + (uint64_t)(row - b->rows)] =
        row->verdict.why ? 100 + row->verdict.why : (int)row->verdict.set;
    return 1;
}

/* What the process knew is gone; what waited has never left. */
static void burial(struct world *w)
{
    struct tr_err err;

    assert_int_equal(tr_store_crash(w->store, &err), TR_OK);
    drop_waiting(w);
    for (int i = 0; i < w->asked_n; i++) {
        w->asked[i].tag = 0;
        w->asked[i].told = false;
    }
    for (int i = 0; i < w->made_n; i++)
        w->made[i].known = false;
}

/* What is charged is never less than the provider's bill of this round. What
 * ends in a later round is not of this job's budget any more. */
static void check_purses(struct world *w, const struct tr_money *purses)
{
    for (int i = 0; i < TR_PURSES; i++) {
        int64_t charged = purses[i].spent + purses[i].unknown;

        assert_true(purses[i].reserved >= 0);
        assert_true(charged + purses[i].reserved <= purses[i].cap);
        if (w->rounds == 1 && i == TR_PURSE_TOKENS)
            assert_true(charged + purses[i].reserved >= w->tokens);
    }
}

static int live(struct world *w)
{
    const struct tr_env env = {
        .ctx = w, .now_ns = now_ns, .wall_s = wall_s, .random = random_u64,
        .read = read_row, .write = write_row,
    };
    const struct tr_run_opts opts = {
        .pack = 1 + (uint32_t)tr_rng_below(&w->rng, ITEMS), .answer_form = 0,
        .budget_nano = 1000000000, .budget_tokens = 1000000000,
        .budget_requests = 1000000,
        .max_wait_ms = w->hopeless ? 600000 : 100000000, .grace_ms = 1000,
        .request_timeout_ms = 1000, .job = "j",
    };
    struct tr_lane *lane = &w->lane;
    struct tr_task task;
    struct tr_run *run;
    struct tr_money purses[TR_PURSES];
    struct tr_err err;
    const char *sentence;
    int code = -1, rc;

    w->read_next = 0;
    w->dying = false;
    for (int i = 0; i < ROWS; i++)
        w->labels[i] = -1;
    assert_int_equal(tr_task_from_labels(&task, "a,b,c", &err), TR_OK);
    rc = tr_run_open(&run, &env, &opts, &task, w->store, &lane, 1, &err);
    if (rc != TR_OK)
        fail_msg("%s", err.text);
    for (int steps = 0; ; steps++) {
        int64_t wait;

        assert_in_range(steps, 0, 20000);
        rc = tr_run_step(run, &wait, &err);
        if (rc < 0)
            fail_msg("%s", err.text);
        settle_told(w);
        tr_run_purses(run, purses);
        check_purses(w, purses);
        if (rc == TR_RUN_DONE) {
            code = tr_run_exit(run, &sentence);
            break;
        }
        w->dying |= w->deaths_on && chance(1);
        if (w->dying)
            break;
        if (w->deaths_on && chance(1))
            tr_run_stop(run, 130);
        w->now += wait && wait < TR_S ? wait
                  : wait ? (w->hopeless ? 100 : 1) * TR_S : 1000;
    }
    tr_run_close(run);
    tr_task_release(&task);
    burial(w);
    return code;
}

static void begin(struct world *w, uint64_t seed, uint64_t env_seed)
{
    struct tr_err err;

    *w = (struct world){
        .lane = {.vt = &lane_vt, .model = "sim/m", .host = "h",
                 .in_batches = true,
                 .facts = {.price_in = 1000000, .price_out = 5000000,
                           .price_cached = -1, .price_cache_write = -1}},
        .rng = {seed}, .env_rng = {env_seed}, .now = TR_S, .rounds = 1,
    };
    the = w;
    assert_int_equal(tr_store_open_memory(&w->store, &err), TR_OK);
}

/* Batches overlap, so that one is always under way, and each brings nothing but
 * failures: that is no batch to wait for, but an outage, after a day. */
static void failures_for_a_day_end_the_run(void **state)
{
    static struct world w;
    (void)state;

    begin(&w, 7, 8);
    w.rows = 20;
    w.hopeless = true;
    assert_int_equal(live(&w), 69);
    assert_in_range(w.now / TR_S, 24 * 3600, 3 * 24 * 3600);
    tr_store_close(w.store);
}

/* Another input's requests are under way, more than a run has at once: this one
 * asks its rows beside them, and does not wait for theirs. */
static void a_full_batch_of_another_input_is_in_nobodys_way(void **state)
{
    enum { OPEN = 9000 };
    static struct world w;
    static struct tr_store_intent intents[OPEN];
    static uint64_t attempts[OPEN];
    static struct tr_key keys[OPEN];
    struct made *m = &w.made[0];
    struct tr_job job;
    struct tr_err err;
    (void)state;

    begin(&w, 7, 8);
    w.rows = 20;
    w.made_n = 1;
    *m = (struct made){.batch = {.lane = "sim/m@h", .mark = "mark0",
                                 .name = "name0", .created_at = 1},
                       .exists = true, .due = INT64_MAX};
    assert_int_equal(tr_store_job(w.store, "other", 1000, 0, &job, &err),
                     TR_OK);
    for (int i = 0; i < OPEN; i++) {
        keys[i] = tr_digest(NULL, tr_str((const char *)&i, sizeof i));
        attempts[i] = tr_store_next_attempt(w.store);
        intents[i] = (struct tr_store_intent){attempts[i], 1, 0, 1, 0,
                                              &keys[i]};
    }
    assert_int_equal(tr_store_commit(w.store, NULL, 0, intents, OPEN, NULL, 0,
                                     &err), TR_OK);
    assert_int_equal(tr_store_batch_creating(w.store, &m->batch, attempts,
                                             OPEN, &err), TR_OK);
    assert_int_equal(tr_store_batch_opened(w.store, &m->batch, &err), TR_OK);
    assert_int_equal(live(&w), 0);
    for (int i = 0; i < w.rows; i++)
        assert_int_equal(w.labels[i], i % 3);
    tr_store_close(w.store);
}

/* Only the first model goes in batches: where another one's are under way, it
 * has to be the first. */
static void who_would_ask_again_is_told_how_to_take_a_batch(void **state)
{
    static const struct {
        bool is_first, batch;
        const char *advice;
    } cases[] = {
        {true,  false, "with --batch to take"},
        {false, false, "with --model sim/m --batch to take"},
        {false, true,  "with --model sim/m --batch to take"},
    };
    static struct world w;
    struct tr_batch batch = {.lane = "sim/m@h", .mark = "mark0",
                             .created_at = 1};
    struct tr_key key = tr_digest(NULL, TR_STR("t"));
    const struct tr_env env = {
        .ctx = &w, .now_ns = now_ns, .wall_s = wall_s, .random = random_u64,
    };
    const struct tr_run_opts opts = {.budget_nano = -1, .budget_tokens = -1,
                                     .budget_requests = -1, .job = "j"};
    struct tr_store_intent intent;
    struct tr_job job;
    struct tr_task task;
    struct tr_err err;
    (void)state;

    begin(&w, 7, 8);
    assert_int_equal(tr_store_job(w.store, "j", 1000, 0, &job, &err), TR_OK);
    intent = (struct tr_store_intent){tr_store_next_attempt(w.store), 1, 0, 1,
                                      0, &key};
    assert_int_equal(tr_store_commit(w.store, NULL, 0, &intent, 1, NULL, 0,
                                     &err), TR_OK);
    assert_int_equal(tr_store_batch_creating(w.store, &batch, &intent.attempt,
                                             1, &err), TR_OK);
    assert_int_equal(tr_task_from_labels(&task, "a,b", &err), TR_OK);
    w.lane.in_batches = false;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_lane other = w.lane;
        struct tr_lane *lanes[] = {&other, &w.lane};
        struct tr_run *run;

        snprintf(other.model, sizeof other.model, "sim/other");
        other.in_batches = cases[i].batch;
        assert_int_equal(tr_run_open(&run, &env, &opts, &task, w.store,
                                     lanes + cases[i].is_first,
                                     2 - cases[i].is_first, &err), TR_CONFIG);
        if (!strstr(err.text, cases[i].advice))
            fail_msg("case %zu: %s", i, err.text);
    }
    tr_task_release(&task);
    tr_store_close(w.store);
}

static void one_job(uint64_t seed)
{
    static struct world w;
    struct tr_store_info info = {0};
    struct tr_err err;
    int code = -1;

    begin(&w, seed * 77 + 1, seed * 99 + 5);
    for (int run = 0; run < 40; run++) {
        w.deaths_on = run < 12;
        /* Sometimes another, shorter input; in the end the whole one. */
        w.rows = w.deaths_on && chance(40) ? (int)tr_rng_below(&w.rng, ROWS)
                                           : ROWS;
        w.rounds += code == 0;
        code = live(&w);
        if (code == 0 && w.rows == ROWS)
            break;
        w.now += (int64_t)tr_rng_below(&w.rng, 20) * TR_S;
    }
    assert_int_equal(code, 0);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(w.labels[i], i % 3);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(w.good[i], 1); /* paid once, for good */
    assert_int_equal(tr_store_look(w.store, &info, &err), TR_OK);
    assert_int_equal(info.spent_nano, w.bill);
    assert_int_equal(info.unknown_count, 0);
    tr_store_close(w.store);
}

static void nothing_is_asked_twice_whenever_it_dies(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        one_job(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_for_a_day_end_the_run),
        cmocka_unit_test(a_full_batch_of_another_input_is_in_nobodys_way),
        cmocka_unit_test(who_would_ask_again_is_told_how_to_take_a_batch),
        cmocka_unit_test(nothing_is_asked_twice_whenever_it_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
