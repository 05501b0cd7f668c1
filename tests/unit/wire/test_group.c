/* test_group.c - batches on their way, over a provider that says what each
 * case wants it to: what is asked, where, and what is learned.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

enum { ASKS = 60 };

#define MARK "00112233aabbccdd"
#define BASE "https://127.0.0.1/v1"
#define S INT64_C(1000000000)

/* ---- time and transport ------------------------------------------------ */

static int64_t now_ns; /* instead of the clock: base/clock.h is wrapped */

int64_t __wrap_tr_clock_mono_ns(void);
int64_t __wrap_tr_clock_wall_s(void);

int64_t __wrap_tr_clock_mono_ns(void)
{
    return now_ns;
}

int64_t __wrap_tr_clock_wall_s(void)
{
    return 1764500000 + now_ns / S;
}

struct asked {
    uint64_t tag;
    char url[300];
    bool post;
    int save_fd;
};

static struct wire {
    struct tr_transport t; /* first */
    struct asked asked[ASKS];
    size_t n;
    struct tr_http_result result;
    bool has_result;
} wire;

static int wire_ask(struct tr_transport *t, uint64_t tag,
                    const struct tr_http_ask *ask, int64_t deadline_ms,
                    struct tr_err *err)
{
    struct asked *a = &wire.asked[wire.n++];
    (void)t, (void)deadline_ms, (void)err;

    assert_in_range(wire.n, 1, ASKS - 1);
    *a = (struct asked){.tag = tag, .post = ask->post,
                        .save_fd = ask->save ? ask->save_fd : -1};
    snprintf(a->url, sizeof a->url, "%s", ask->url);
    return TR_OK;
}

static int wire_next(struct tr_transport *t, struct tr_http_result *result)
{
    bool has = wire.has_result;
    (void)t;

    *result = wire.result;
    wire.has_result = false;
    return has;
}

static void wire_cancel(struct tr_transport *t)
{
    (void)t;
}

/* ---- a lane and its batches -------------------------------------------- */

static int keep_creating(void *ctx, struct tr_batch *batch,
                         const uint64_t *attempts, size_t n,
                         struct tr_err *err)
{
    (void)ctx, (void)batch, (void)attempts, (void)n, (void)err;
    return TR_OK;
}

static int keep_opened(void *ctx, const struct tr_batch *batch,
                       struct tr_err *err)
{
    (void)ctx, (void)batch, (void)err;
    return TR_OK;
}

static struct tr_lane *open_lane(const char *form)
{
    static const struct tr_batch_keep keep = {NULL, keep_creating,
                                              keep_opened};
    static const struct tr_batch_opts user = {.keep = &keep, .poll_ms = 1000};
    static const struct tr_model_facts facts = {.price_in = 1};
    bool is_openai = strcmp(form, "openai") == 0;
    struct tr_batch_lane_opts o = {
        .form = tr_batch_form_find(form), .requests_max = 100,
        .bytes_max = 100000, .user = &user,
        .url = is_openai ? BASE "/chat/completions" : BASE "/messages",
    };
    struct tr_lane *inner, *lane;
    struct tr_err err;

    now_ns = S;
    wire = (struct wire){.t = {.ask = wire_ask, .next = wire_next,
                               .cancel = wire_cancel, .close = wire_cancel}};
    assert_int_equal(tr_lane_over(&inner, is_openai ? &tr_openai
                                                    : &tr_anthropic,
                                  "p/m", &facts, &wire.t, &err), TR_OK);
    assert_int_equal(tr_batch_lane_over(&lane, inner, &o, &err), TR_OK);
    return lane;
}

static void adopt(struct tr_lane *lane, struct tr_batch batch,
                  uint64_t attempt)
{
    struct tr_err err;

    batch.requests = 1;
    batch.created_at = 1764500000;
    assert_int_equal(lane->vt->adopt(lane, &batch, &attempt, &attempt, 1,
                                     &err), TR_OK);
}

static bool next(struct tr_lane *lane, struct tr_reply *reply)
{
    memset(reply, 0, sizeof *reply);
    return lane->vt->next(lane, reply) == 1;
}

/* Time passes until something is asked. */
static struct asked *await(struct tr_lane *lane)
{
    size_t before = wire.n;
    struct tr_reply reply;

    for (int i = 0; wire.n == before; i++, now_ns += S / 10) {
        assert_in_range(i, 0, 10000);
        assert_false(next(lane, &reply));
    }
    return &wire.asked[before];
}

/* What comes of it; a file is written as the transport writes it. */
static bool answer(struct tr_lane *lane, const struct asked *a, int status,
                   const char *body, struct tr_reply *reply)
{
    wire.result = (struct tr_http_result){.tag = a->tag, .sent = true,
                                          .status = status};
    wire.has_result = true;
    if (a->save_fd >= 0 && status == 200) {
        wire.result.saved_bytes = (int64_t)strlen(body);
        assert_int_equal(pwrite(a->save_fd, body, strlen(body), 0),
                         strlen(body));
    } else {
        wire.result.body = tr_str_c(body);
    }
    return next(lane, reply);
}

/* ---- where results are ------------------------------------------------- */

/* A gateway may pass the provider's own address through. The key goes to
 * nobody but the lane's server. */
static void results_are_fetched_from_the_lanes_server(void **state)
{
    static const char own[] = BASE "/messages/batches/msgbatch_1/results";
    static const struct {
        const char *said, *asked;
    } rows[] = {
        {BASE "/messages/batches/msgbatch_1/results", own},
        {BASE "/elsewhere", BASE "/elsewhere"},
        {"https://127.0.0.1/r", "https://127.0.0.1/r"},
        {"https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
         own},
        {"https://127.0.0.1.h/r", own},
        {"https://127.0.0.1@h/r", own},
        {"https://127.0.0.1:8/r", own},
        {"http://127.0.0.1/r", own},
        {"https://", own},
        {"/v1/r", own},
    };
    struct tr_reply reply;
    char object[300];
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_lane *lane = open_lane("anthropic");

        adopt(lane, (struct tr_batch){.state = TR_BATCH_OPEN, .mark = MARK,
                                      .name = "msgbatch_1"}, 7);
        snprintf(object, sizeof object, "{\"id\":\"msgbatch_1\","
                 "\"processing_status\":\"ended\",\"results_url\":\"%s\"}",
                 rows[i].said);
        assert_false(answer(lane, await(lane), 200, object, &reply));
        assert_int_equal(wire.n, 2);
        assert_string_equal(wire.asked[1].url, rows[i].asked);
        lane->vt->close(lane);
    }
}

/* ---- what is learned --------------------------------------------------- */

/* The engine looks at the lane that it has, not at the one inside of it. */
static void a_refused_schema_is_known(void **state)
{
    static const char refused[] =
        "{\"custom_id\":\"t" MARK "-7\",\"response\":{\"status_code\":400,"
        "\"body\":{\"error\":{\"message\":\"Invalid parameter: "
        "'response_format' of type 'json_schema' is not supported with this "
        "model.\",\"param\":\"response_format\"}}},\"error\":null}\n";
    static const char object[] = "{\"id\":\"batch_1\",\"status\":"
                                 "\"completed\",\"error_file_id\":\"f\"}";
    struct tr_lane *lane = open_lane("openai");
    struct tr_reply reply;
    (void)state;

    adopt(lane, (struct tr_batch){.state = TR_BATCH_OPEN, .mark = MARK,
                                  .name = "batch_1"}, 7);
    assert_false(answer(lane, await(lane), 200, object, &reply));
    assert_false(lane->no_schema);
    assert_true(answer(lane, &wire.asked[1], 200, refused, &reply));
    assert_int_equal(reply.outcome, TR_OUT_ADAPT);
    assert_true(lane->no_schema);
    lane->vt->close(lane);

    lane = open_lane("openai"); /* and the next run is taught */
    lane->vt->teach(lane, TR_STR("refused=1 no_schema=1"));
    assert_true(lane->no_schema);
    lane->vt->close(lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_are_fetched_from_the_lanes_server),
        cmocka_unit_test(a_refused_schema_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
