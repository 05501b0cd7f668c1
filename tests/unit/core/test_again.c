/* test_again.c - how soon the engine asks again what failed, while others are
 * served.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "rows/source.h"
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { ASKED = 64 };

/* The first row fails as it is told to, or all do; of the others one comes
 * every second and is answered at once. */
struct world {
    struct tr_lane lane;     /* first */
    struct tr_store *store;
    bool all;
    enum tr_outcome outcome; /* of the first row, ... */
    int64_t retry_after_ms;
    int fails;               /* ... so often; then it is answered */
    int asked;               /* it was, by now */
    int64_t now, answered_at;
    int rows, read, written, failed;
    struct {
        uint64_t tag;
        int id, text;
    } shots[ASKED];
    int begin, end;
    char answer[20];
};

/* ---- the lane ----------------------------------------------------------- */

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
    int at = w->end++ % ASKED;
    char body[400];
    const char *item;
    (void)err;

    assert_true(w->end - w->begin <= ASKED);
    snprintf(body, sizeof body, "%.*s", (int)shot->body.n, shot->body.p);
    item = strrchr(body, '[');
    assert_true(item && sscanf(item, "[%d, \"t%d\"]", &w->shots[at].id,
                               &w->shots[at].text) == 2);
    w->shots[at].tag = shot->tag;
    w->asked += w->shots[at].text == 0;
    return TR_OK;
}

static int next(struct tr_lane *lane, struct tr_reply *reply)
{
    struct world *w = (struct world *)lane;
    int at = w->begin % ASKED;
    bool fails = w->all;

    if (w->begin == w->end)
        return 0;
    w->begin++;
    fails |= w->shots[at].text == 0 && w->asked <= w->fails;
    if (w->shots[at].text == 0 && !fails)
        w->answered_at = w->now;
    snprintf(w->answer, sizeof w->answer, "%d a\n", w->shots[at].id);
    *reply = (struct tr_reply){
        .tag = w->shots[at].tag, .outcome = fails ? w->outcome : TR_OUT_OK,
        .billing = fails ? TR_BILL_NONE : TR_BILL_USAGE,
        .text = tr_str_c(fails ? "" : w->answer),
        .usage = {fails ? -1 : 10, fails ? -1 : 2, -1, -1, -1},
        .limits = TR_LIMITS_UNSAID,
        .retry_after_ms = fails ? w->retry_after_ms : -1,
    };
    return 1;
}

static void cancel(struct tr_lane *lane)
{
    (void)lane;
}

static bool waits(struct tr_lane *lane, uint64_t tag)
{
    (void)lane;
    (void)tag;
    return false;
}

static const struct tr_lane_vt lane_vt = {
    .encode = encode, .start = start, .next = next, .cancel = cancel,
    .waits = waits,
};

/* ---- the rest of the world ---------------------------------------------- */

static int64_t now_ns(void *ctx)
{
    return ((struct world *)ctx)->now;
}

static int64_t wall_s(void *ctx)
{
    return 1000 + ((struct world *)ctx)->now / TR_S;
}

static uint64_t random_u64(void *ctx)
{
    (void)ctx;
    return 7;
}

static int read_row(void *ctx, struct tr_block *b, struct tr_err *err)
{
    struct world *w = ctx;
    char text[20];
    int n = snprintf(text, sizeof text, "t%d", w->read);
    (void)err;

    if (w->read == w->rows)
        return TR_FILL_END;
    if (w->now < TR_S + w->read * TR_S)
        return TR_FILL_WAIT;
    if (!tr_block_add_row(b, tr_str(text, (size_t)n), false))
        return TR_FILL_FULL;
    w->read++;
    return TR_FILL_ROW;
}

static int write_row(void *ctx, const struct tr_block *b,
                     const struct tr_row *row, struct tr_err *err)
{
    (void)b;
    (void)err;
    ((struct world *)ctx)->written++;
    ((struct world *)ctx)->failed += row->verdict.why != 0;
    return 1;
}

/* The exit code; -1: it would have gone on. */
static int run_for(struct world *w, int64_t most)
{
    const struct tr_env env = {
        .ctx = w, .now_ns = now_ns, .wall_s = wall_s, .random = random_u64,
        .read = read_row, .write = write_row,
    };
    const struct tr_run_opts opts = {
        .pack = 1, .budget_nano = -1, .budget_tokens = -1,
        .budget_requests = -1, .max_wait_ms = 24 * 3600 * 1000,
        .grace_ms = 1000, .request_timeout_ms = 1000, .job = "j",
    };
    struct tr_lane *lane = &w->lane;
    struct tr_task task;
    struct tr_run *run;
    struct tr_err err;
    int64_t until = w->now + most;
    const char *sentence;
    int code = -1;

    if (!w->store)
        assert_int_equal(tr_store_open_memory(&w->store, &err), TR_OK);
    w->read = w->written = w->failed = 0;
    assert_int_equal(tr_task_from_labels(&task, "a,b", &err), TR_OK);
    if (tr_run_open(&run, &env, &opts, &task, w->store, &lane, 1, &err) != TR_OK)
        fail_msg("%s", err.text);
    while (code < 0 && w->now < until) {
        int64_t wait;
        int rc = tr_run_step(run, &wait, &err);

        if (rc < 0)
            fail_msg("%s", err.text);
        if (rc == TR_RUN_DONE)
            code = tr_run_exit(run, &sentence);
        w->now += wait && wait < TR_S ? wait : wait ? TR_S : TR_MS / 10;
    }
    tr_run_close(run);
    tr_task_release(&task);
    return code;
}

static struct world world(bool in_batches)
{
    return (struct world){
        .lane = {.vt = &lane_vt, .model = "sim/m", .host = "h",
                 .in_batches = in_batches, .facts = {.price_in = 1000000,
                 .price_out = 5000000, .price_cached = -1,
                 .price_cache_write = -1}},
        .now = TR_S, .rows = 2000,
    };
}

/* ---- what is promised --------------------------------------------------- */

/* What had no luck in its batch goes into the next one. What never has any
 * does not go into each. */
static void a_text_that_fails_in_batches_waits_longer_and_longer(void **state)
{
    struct world w = world(true);
    (void)state;

    w.outcome = TR_OUT_TRANSIENT;
    w.fails = 1 << 20;
    run_for(&w, 1800 * TR_S);
    assert_in_range(w.asked, 10, 30);
    tr_store_close(w.store);
}

/* A server that is full says so to this row twenty times, and answers the
 * others: the row's turn comes, whoever had one before. */
static void a_refusal_for_pace_waits_as_long_as_refusals_do(void **state)
{
    struct world w = world(false);
    (void)state;

    w.outcome = TR_OUT_THROTTLED;
    w.retry_after_ms = 1000;
    w.fails = 20;
    run_for(&w, 1800 * TR_S);
    assert_int_equal(w.asked, 21);
    assert_in_range(w.answered_at / TR_S, 20, 200);
    tr_store_close(w.store);
}

/* A wrong setting, say: it is no row's fault, and later it is mended. */
static void whoever_takes_nothing_fails_no_row(void **state)
{
    (void)state;

    for (int in_batches = 0; in_batches < 2; in_batches++) {
        struct world w = world(in_batches);

        w.rows = 10;
        w.all = true;
        w.outcome = TR_OUT_BAD_REQUEST;
        w.retry_after_ms = -1;
        assert_int_equal(run_for(&w, 3600 * TR_S), 77);
        w.all = false;
        assert_int_equal(run_for(&w, 3600 * TR_S), 0);
        assert_int_equal(w.written, 10);
        assert_int_equal(w.failed, 0);
        tr_store_close(w.store);
    }
}

/* A field was refused and learned; a text whose refusal names it, too, goes
 * back a few times and fails. */
static void what_brings_the_same_lesson_each_time_fails(void **state)
{
    struct world w = world(false);
    (void)state;

    w.rows = 10;
    w.outcome = TR_OUT_ADAPT;
    w.retry_after_ms = -1;
    w.fails = 1 << 20;
    assert_int_equal(run_for(&w, 3600 * TR_S), 1);
    assert_int_equal(w.written, 10);
    assert_int_equal(w.failed, 1);
    assert_in_range(w.asked, 2, 20);
    tr_store_close(w.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_that_fails_in_batches_waits_longer_and_longer),
        cmocka_unit_test(a_refusal_for_pace_waits_as_long_as_refusals_do),
        cmocka_unit_test(whoever_takes_nothing_fails_no_row),
        cmocka_unit_test(what_brings_the_same_lesson_each_time_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
