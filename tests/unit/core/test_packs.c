/* test_packs.c - the engine over a local lane: when it is fitted, to what, and
 * that nothing holds it back.
 *
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "rows/source.h"
#include "run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

enum { SLICES = 5, SLICE_MS = 200, TEXTS = 64, ASKED = 64 };

struct world {
    struct tr_lane lane; /* first */
    int64_t now;
    int rows, read, written;
    int64_t every;       /* between two rows of the input; 0: all are there */
    bool ends;           /* the input does, after these rows */
    int slices;          /* of the fit so far */
    size_t fitted_to;    /* texts of its first one */
    int64_t fit_at;      /* when that was */
    uint64_t tags[ASKED];
    int tag_n, told;
};

/* ---- the lane ----------------------------------------------------------- */

static int fit(struct tr_lane *lane, const struct tr_str *texts, size_t n,
               struct tr_str fitted, struct tr_buf *out, struct tr_err *err)
{
    struct world *w = (struct world *)lane;
    (void)texts;
    (void)err;

    if (w->slices++ == 0) {
        w->fitted_to = n;
        w->fit_at = w->now;
    }
    w->now += SLICE_MS * TR_MS;
    if (!fitted.n && w->slices < SLICES)
        return TR_FIT_MORE;
    tr_buf_adds(out, TR_STR("vectors"));
    return TR_OK;
}

static int start(struct tr_lane *lane, const struct tr_shot *shot,
                 struct tr_err *err)
{
    struct world *w = (struct world *)lane;
    (void)err;

    assert_in_range(shot->text_count, 1, TEXTS);
    assert_true(w->tag_n < ASKED);
    w->tags[w->tag_n++] = shot->tag;
    return TR_OK;
}

static int next(struct tr_lane *lane, struct tr_reply *reply)
{
    static const struct tr_score scores[TEXTS];
    struct world *w = (struct world *)lane;

    if (w->told == w->tag_n)
        return 0;
    *reply = (struct tr_reply){
        .tag = w->tags[w->told++], .outcome = TR_OUT_OK,
        .billing = TR_BILL_NONE, .scores = scores,
        .usage = {-1, -1, -1, -1, -1}, .limits = TR_LIMITS_UNSAID,
        .retry_after_ms = -1,
    };
    return 1;
}

static void cancel(struct tr_lane *lane)
{
    (void)lane;
}

static const struct tr_lane_vt lane_vt = {
    .start = start, .next = next, .cancel = cancel, .fit = fit,
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
        return w->ends ? TR_FILL_END : TR_FILL_WAIT;
    if (w->now < TR_S + w->read * w->every)
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
    (void)row;
    (void)err;
    ((struct world *)ctx)->written++;
    return 1;
}

/* Steps until all rows are written or until so much time has passed; how much
 * had by then. */
static int64_t run_for(struct world *w, struct tr_store *store, double rpm,
                       int64_t most)
{
    const struct tr_env env = {
        .ctx = w, .now_ns = now_ns, .wall_s = wall_s, .random = random_u64,
        .read = read_row, .write = write_row,
    };
    const struct tr_run_opts opts = {
        .budget_nano = -1, .budget_tokens = -1, .budget_requests = -1,
        .rpm = rpm, .tpm = rpm, .max_wait_ms = 600000, .grace_ms = 1000,
        .request_timeout_ms = 1000, .job = "j",
    };
    struct tr_lane *lane = &w->lane;
    struct tr_task task;
    struct tr_run *run;
    struct tr_err err;
    int64_t began = w->now;

    assert_int_equal(tr_task_from_labels(&task, "a,b", &err), TR_OK);
    if (tr_run_open(&run, &env, &opts, &task, store, &lane, 1, &err) != TR_OK)
        fail_msg("%s", err.text);
    while (w->written < w->rows && w->now - began < most) {
        int slices = w->slices;
        int64_t wait;

        if (tr_run_step(run, &wait, &err) < 0)
            fail_msg("%s", err.text);
        /* There is more to fit: nothing is to be waited for. */
        if (w->slices > slices && w->slices < SLICES)
            assert_int_equal(wait, 0);
        w->now += wait ? wait : TR_MS / 10;
    }
    tr_run_close(run);
    tr_task_release(&task);
    return w->now - began;
}

static struct world world(int rows, bool ends)
{
    return (struct world){
        .lane = {.vt = &lane_vt, .model = "local/m", .host = "here",
                 .fits = "m", .wants_sample = true, .is_local = true},
        .now = TR_S, .rows = rows, .ends = ends,
    };
}

static bool is_stored(struct tr_store *store)
{
    struct tr_buf kept;
    struct tr_err err;
    bool found;

    tr_buf_init(&kept, 0);
    assert_int_equal(tr_store_get(store, "fit:m", &kept, &found, &err),
                     TR_OK);
    tr_buf_release(&kept);
    return found;
}

/* ---- what is promised --------------------------------------------------- */

static void fitting_is_not_slept_through(void **state)
{
    struct world w = world(100, true);
    struct tr_store *store;
    struct tr_err err;
    (void)state;

    assert_int_equal(tr_store_open_memory(&store, &err), TR_OK);
    assert_in_range(run_for(&w, store, 0, 60 * TR_S), 1,
                    (SLICES * SLICE_MS + 300) * TR_MS);
    assert_int_equal(w.fitted_to, 100);
    assert_true(is_stored(store));
    tr_store_close(store);
}

static void a_stream_is_fitted_to_what_is_there_after_a_second(void **state)
{
    static const struct {
        const char *what;
        int rows;
        int64_t every;
        size_t least, most; /* texts it is fitted to */
    } cases[] = {
        {"five, and silence", 5, 0, 5, 5},
        {"one every tenth of a second", 200, 100 * TR_MS, 10, 12},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world w = world(cases[i].rows, false);
        struct tr_store *store;
        struct tr_err err;
        int64_t all = cases[i].rows * cases[i].every, took;

        w.every = cases[i].every;
        assert_int_equal(tr_store_open_memory(&store, &err), TR_OK);
        took = run_for(&w, store, 0, 600 * TR_S);
        if (w.fitted_to < cases[i].least || w.fitted_to > cases[i].most)
            fail_msg("%s: fitted to %zu texts", cases[i].what, w.fitted_to);
        if (w.fit_at - TR_S > 1200 * TR_MS)
            fail_msg("%s: fitted after %lld ms", cases[i].what,
                     (long long)((w.fit_at - TR_S) / TR_MS));
        if (took > all + 3 * TR_S)
            fail_msg("%s: took %lld ms", cases[i].what,
                     (long long)(took / TR_MS));
        /* Few texts are no fit to be kept for later and longer inputs. */
        assert_false(is_stored(store));
        tr_store_close(store);
    }
}

static void limits_of_requests_are_not_the_local_models(void **state)
{
    struct world w = world(640, true);
    struct tr_store *store;
    struct tr_err err;
    (void)state;

    assert_int_equal(tr_store_open_memory(&store, &err), TR_OK);
    assert_in_range(run_for(&w, store, 6, 600 * TR_S), 1, 5 * TR_S);
    tr_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fitting_is_not_slept_through),
        cmocka_unit_test(a_stream_is_fitted_to_what_is_there_after_a_second),
        cmocka_unit_test(limits_of_requests_are_not_the_local_models),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
