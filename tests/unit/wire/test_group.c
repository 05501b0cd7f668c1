/* test_group.c - batches on their way, over a provider that says what each
 * case wants it to: what is asked, where, and what is learned.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/batch.h"

#include "../../wrapped_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

enum { ASKS = 60, HAND_IN = 4, OURS = 3000 }; /* requests that are handed in at
                                                 a time, and tokens of each */

#define MARK "00112233aabbccdd"
#define BASE "https://127.0.0.1/v1"

/* ---- transport --------------------------------------------------------- */

struct asked {
    uint64_t tag;
    char url[300];
    bool post;
    int save_fd;
    bool over;      /* answered or dropped: nothing is written any more */
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
    for (struct asked *b = wire.asked; b < a && a->save_fd >= 0; b++)
        assert_true(b->over || b->save_fd != a->save_fd);
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

static void wire_drop(struct tr_transport *t, uint64_t tag)
{
    (void)t;

    for (size_t i = 0; i < wire.n; i++)
        wire.asked[i].over |= wire.asked[i].tag == tag;
}

static void wire_cancel(struct tr_transport *t)
{
    (void)t;
}

/* ---- a lane and its batches -------------------------------------------- */

static size_t made[ASKS], made_n; /* requests in each batch */
static char last_mark[24];        /* of the last one */
static char opened[120];          /* the last name that was kept */

static int keep_creating(void *ctx, struct tr_batch *batch,
                         const uint64_t *attempts, size_t n,
                         struct tr_err *err)
{
    (void)ctx, (void)attempts, (void)err;
    assert_int_equal(batch->tokens, (int64_t)n * OURS); /* durable with it */
    made[made_n++] = n;
    snprintf(last_mark, sizeof last_mark, "%s", batch->mark);
    return TR_OK;
}

static int keep_opened(void *ctx, const struct tr_batch *batch,
                       struct tr_err *err)
{
    (void)ctx, (void)err;
    snprintf(opened, sizeof opened, "%s", batch->name);
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

    now_ns = TR_S;
    asleep_s = 0;
    made_n = 0;
    wire = (struct wire){.t = {.ask = wire_ask, .next = wire_next,
                               .drop = wire_drop, .cancel = wire_cancel,
                               .close = wire_cancel}};
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

static void hand_in(struct tr_lane *lane)
{
    struct tr_shot shot = {.tokens = OURS, .body = TR_STR("{}")};
    struct tr_err err;

    for (uint64_t i = 1; i <= HAND_IN; i++) {
        shot.tag = shot.attempt = i;
        assert_int_equal(lane->vt->start(lane, &shot, &err), TR_OK);
    }
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

    for (int i = 0; wire.n == before; i++, now_ns += TR_S / 10) {
        assert_in_range(i, 0, 10000);
        assert_false(next(lane, &reply));
    }
    return &wire.asked[before];
}

/* What comes of it; a file is written as the transport writes it. */
static bool answer_with(struct tr_lane *lane, struct asked *a, int status,
                        const char *headers, const char *body,
                        struct tr_reply *reply)
{
    a->over = true;
    wire.result = (struct tr_http_result){.tag = a->tag, .sent = true,
                                          .status = status,
                                          .headers = tr_str_c(headers)};
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

static bool answer(struct tr_lane *lane, struct asked *a, int status,
                   const char *body, struct tr_reply *reply)
{
    return answer_with(lane, a, status, "", body, reply);
}

/* What a server says about an address that ends or goes on so. */
struct says {
    const char *url, *body; /* url NULL: the end of the list */
    int status;             /* 0: 200 */
    const char *headers;    /* NULL: none */
    int times;              /* it was asked */
};

/* Until a reply comes; false: none did for so long. */
static bool serve_until(struct tr_lane *lane, struct says *says, int64_t most_s,
                        struct tr_reply *reply)
{
    int64_t step = most_s > 3600 ? 60 * TR_S : TR_S / 10;

    for (int64_t t = 0; t < most_s * TR_S; t += step, now_ns += step) {
        bool got = next(lane, reply);
        size_t open = 0;

        for (size_t k = 0; k < wire.n && !got; k++) {
            struct asked *a = &wire.asked[k];
            struct says *said = says;

            if (a->over)
                continue;
            while (said->url && !strstr(a->url, said->url))
                said++;
            if (!said->url)
                fail_msg("nobody knows %s", a->url);
            said->times++;
            got = answer_with(lane, a, said->status ? said->status : 200,
                              said->headers ? said->headers : "", said->body,
                              reply);
        }
        if (got)
            return true;
        for (size_t k = 0; k < wire.n; k++)
            if (!wire.asked[k].over)
                wire.asked[open++] = wire.asked[k];
        wire.n = open;
    }
    return false;
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

/* ---- two batches with one another's names ------------------------------ */

#define OTHER "ffeeddccbbaa0099"
#define OBJECT(n)                                                              \
    "{\"id\":\"msgbatch_" n "\",\"processing_status\":\"ended\","              \
    "\"created_at\":\"2025-11-30T10:53:20Z\",\"request_counts\":"             \
    "{\"succeeded\":1},\"results_url\":\"" BASE                               \
    "/messages/batches/msgbatch_" n "/results\"}"
#define LINE(id)                                                               \
    "{\"custom_id\":\"t" id "\",\"result\":{\"type\":\"errored\",\"error\":{"  \
    "\"error\":{\"type\":\"not_found_error\",\"message\":\"" id "\"}}}}\n"

/* What an Anthropic server says that has two batches of one request. */
static const char *two_batches(const char *url)
{
    static const struct {
        const char *end, *body;
    } says[] = {
        {"?limit=100", "{\"data\":[" OBJECT("2") "," OBJECT("1") "]}"},
        {"/msgbatch_1", OBJECT("1")},
        {"/msgbatch_2", OBJECT("2")},
        {"/msgbatch_1/results", LINE(MARK "-7")},
        {"/msgbatch_2/results", LINE(OTHER "-8")},
    };
    size_t n = strlen(url);

    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        size_t end = strlen(says[i].end);

        if (n > end && strcmp(url + n - end, says[i].end) == 0)
            return says[i].body;
    }
    fail_msg("nobody knows %s", url);
    return NULL;
}

/* Each has the other's name, and the first results to come show it. Whoever
 * was fetching the others gets them no more: they would be written into the
 * file that his own are written into. */
static void a_name_comes_while_the_wrong_results_do(void **state)
{
    struct tr_lane *lane = open_lane("anthropic");
    struct asked *stalled = NULL;
    struct tr_reply reply;
    int heard = 0;
    (void)state;

    adopt(lane, (struct tr_batch){.state = TR_BATCH_CREATING, .mark = MARK}, 7);
    adopt(lane, (struct tr_batch){.state = TR_BATCH_CREATING, .mark = OTHER},
          8);
    for (int i = 0; heard != (1 << 7 | 1 << 8); i++, now_ns += TR_S / 10) {
        assert_in_range(i, 0, 10000);
        if (next(lane, &reply))
            heard |= 1 << reply.tag;
        for (struct asked *a = wire.asked; a < wire.asked + wire.n; a++) {
            if (!stalled && strstr(a->url, "msgbatch_2/results"))
                stalled = a;
            if (a->over || a == stalled || (a->save_fd >= 0 && !stalled) ||
                !answer(lane, a, 200, two_batches(a->url), &reply))
                continue;
            assert_int_equal(reply.status, 404);
            assert_string_equal(reply.message, reply.tag == 7 ? MARK "-7"
                                                              : OTHER "-8");
            heard |= 1 << reply.tag;
        }
    }
    assert_true(stalled && stalled->over);
    lane->vt->close(lane);
}

/* One batch is there, what it brought cannot be read, and two look for theirs.
 * Whoever found it first gives up while the other turns the list's last page:
 * it may have been his. */
static void whoever_guessed_in_vain_leaves_a_doubt(void **state)
{
    static const char pages[] = "{\"data\":[" OBJECT("2") "],\"has_more\":true,"
                                "\"last_id\":\"msgbatch_2\"}";
    struct tr_lane *lane = open_lane("anthropic");
    struct tr_reply reply;
    int turned = 0, heard = 0;
    (void)state;

    adopt(lane, (struct tr_batch){.state = TR_BATCH_CREATING, .mark = MARK}, 7);
    adopt(lane, (struct tr_batch){.state = TR_BATCH_CREATING, .mark = OTHER},
          8);
    for (int i = 0; heard != (1 << 7 | 1 << 8); i++, now_ns += TR_S / 10) {
        bool got = next(lane, &reply);

        assert_in_range(i, 0, 10000);
        for (size_t k = 0; k < wire.n && !got; k++) {
            struct asked *a = &wire.asked[k];
            bool last = strstr(a->url, "after") != NULL;
            const char *body = last ? "{\"data\":[]}" : a->save_fd >= 0 ? "{"
                             : strstr(a->url, "msgbatch_2") ? OBJECT("2")
                             : pages;

            turned += last && !a->over;
            if (a->over || (last && turned > 5 && !heard) ||
                (a->save_fd >= 0 && turned <= 5))
                continue;
            got = answer(lane, a, 200, body, &reply);
        }
        if (!got)
            continue;
        assert_int_equal(reply.outcome, TR_OUT_LOST);
        assert_int_equal(reply.billing, TR_BILL_UNKNOWN);
        assert_int_equal(reply.tag, heard ? 8 : 7);
        heard |= 1 << reply.tag;
    }
    lane->vt->close(lane);
}

/* ---- was it made? ------------------------------------------------------ */

#define RUNNING(n, at, count)                                                  \
    "{\"id\":\"msgbatch_" n "\",\"processing_status\":\"in_progress\","         \
    "\"created_at\":\"2025-1" at "Z\",\"request_counts\":{"                     \
    "\"processing\":" count "}}"
#define LIST(items) "{\"data\":[" items "]}"

static void adopt_lost(struct tr_lane *lane)
{
    adopt(lane, (struct tr_batch){.state = TR_BATCH_CREATING, .mark = MARK}, 7);
}

/* Made at 10:53:21 by our clock, and nobody heard of it. */
static void a_batch_is_found_by_its_time(void **state)
{
    static const struct {
        const char *what;
        int64_t asleep_s; /* before the list is asked for */
        const char *date, *made_at;
        bool found;
    } rows[] = {
        {"at once", 0, "date: Sun, 30 Nov 2025 10:53:30 GMT\n", "1-30T10:53:22",
         true},
        {"the machine slept", 3 * 3600,
         "date: Sun, 30 Nov 2025 13:53:30 GMT\n", "1-30T10:53:22", true},
        {"our clock is fast", 0, "date: Sun, 30 Nov 2025 10:51:30 GMT\n",
         "1-30T10:51:22", true},
        {"our clock is fast, and the server does not say", 0, "", "1-30T10:51:22",
         false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_lane *lane = open_lane("anthropic");
        struct says says[] = {
            {.url = "?limit", .headers = rows[i].date},
            {.url = "/msgbatch_1", .body = RUNNING("1", "1-30T10:53:22", "4")},
            {0},
        };
        struct tr_reply reply;
        char list[300];

        snprintf(list, sizeof list, LIST(RUNNING("1", "%s", "4")),
                 rows[i].made_at);
        says[0].body = list;
        hand_in(lane);
        assert_false(answer(lane, await(lane), 0, "", &reply));
        asleep_s = rows[i].asleep_s;
        if (serve_until(lane, says, 300, &reply) == rows[i].found ||
            !says[1].times == rows[i].found)
            fail_msg("%s", rows[i].what);
        if (!rows[i].found)
            assert_int_equal(reply.billing, TR_BILL_UNKNOWN);
        lane->vt->close(lane);
    }
}

/* Two days later somebody's batch has as many requests. It may be cancelled by
 * him alone. */
static void nobody_elses_batch_is_cancelled(void **state)
{
    struct tr_lane *lane = open_lane("anthropic");
    struct says says[] = {
        {.url = "?limit", .body = LIST(RUNNING("9", "2-02T10:50:00", "1"))},
        {.url = "/cancel", .body = RUNNING("9", "2-02T10:50:00", "1")},
        {.url = "/msgbatch_9", .body = RUNNING("9", "2-02T10:50:00", "1")},
        {0},
    };
    struct tr_reply reply;
    (void)state;

    asleep_s = 48 * 3600;
    adopt_lost(lane);
    assert_false(serve_until(lane, says, 300, &reply));
    assert_true(says[2].times > 0);
    assert_int_equal(says[1].times, 0);
    lane->vt->close(lane);
}

/* Then it may have been made and may have been paid for. */
static void what_no_list_tells_is_in_doubt(void **state)
{
    static const struct {
        const char *what, *list;
        int status;
        int64_t within_s;
    } rows[] = {
        {"more than we turn over",
         "{\"data\":[{\"id\":\"a\"}],\"last_id\":\"a\",\"has_more\":true}", 200,
         300},
        {"more, and no word where", "{\"data\":[],\"has_more\":true}", 200,
         25 * 3600},
        {"no list", "[]", 200, 25 * 3600},
        {"trouble", "", 503, 25 * 3600},
        {"no such address", "{}", 404, 300},
        {"no such method", "{}", 501, 300},
    };
    (void)state;

    for (size_t i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
        struct tr_lane *lane = open_lane(i % 2 ? "openai" : "anthropic");
        struct says says[] = {
            {.url = "?limit", .status = rows[i / 2].status,
             .body = rows[i / 2].list},
            {0},
        };
        struct tr_reply reply;

        adopt_lost(lane);
        if (!serve_until(lane, says, rows[i / 2].within_s, &reply) ||
            reply.outcome != TR_OUT_LOST || reply.billing != TR_BILL_UNKNOWN)
            fail_msg("%s: %s", rows[i / 2].what, reply.message);
        lane->vt->close(lane);
    }
}

/* Somebody's batch of the same size was found first, and he deletes it. */
static void a_guess_that_is_gone_is_looked_past(void **state)
{
    (void)state;

    for (int results = 0; results < 2; results++) {
        struct tr_lane *lane = open_lane("anthropic");
        struct says says[] = {
            {.url = "?limit", .body = LIST(OBJECT("9") "," OBJECT("1"))},
            {.url = "/msgbatch_9/results", .body = "{}", .status = 404},
            {.url = "/msgbatch_9", .body = results ? OBJECT("9") : "{}",
             .status = results ? 200 : 404},
            {.url = "/msgbatch_1/results", .body = LINE(MARK "-7")},
            {.url = "/msgbatch_1", .body = OBJECT("1")},
            {0},
        };
        struct tr_reply reply;

        adopt_lost(lane);
        assert_true(serve_until(lane, says, 300, &reply));
        assert_string_equal(reply.message, MARK "-7");
        assert_int_equal(says[1].times + says[2].times, 1 + results);
        assert_string_equal(opened, "msgbatch_1");
        lane->vt->close(lane);
    }
}

/* The next process does not ask for what is gone, either. */
static void a_guess_that_is_gone_is_forgotten(void **state)
{
    struct tr_lane *lane = open_lane("anthropic");
    struct says says[] = {
        {.url = "?limit", .body = LIST(OBJECT("9"))},
        {.url = "/msgbatch_9", .body = "{}", .status = 404},
        {0},
    };
    struct tr_reply reply;
    (void)state;

    adopt_lost(lane);
    assert_true(serve_until(lane, says, 300, &reply));
    assert_string_equal(opened, "");
    assert_int_equal(reply.outcome, TR_OUT_LOST); /* it may have been ours */
    lane->vt->close(lane);
}

/* A gateway made a batch of ours twice; its second name is nobody's. */
static void a_batch_made_twice_is_looked_past(void **state)
{
    struct tr_lane *lane = open_lane("anthropic");
    char line[400];
    struct says says[] = {
        {.url = "?limit", .body = LIST(OBJECT("9") "," OBJECT("1"))},
        {.url = "/msgbatch_9/results", .body = line},
        {.url = "/msgbatch_9", .body = OBJECT("9")},
        {.url = "/msgbatch_1/results", .body = LINE(MARK "-7")},
        {.url = "/msgbatch_1", .body = OBJECT("1")},
        {.url = "/msgbatch_5", .body = RUNNING("5", "1-30T10:53:22", "4")},
        {0},
    };
    struct tr_reply reply;
    (void)state;

    hand_in(lane);
    assert_false(answer(lane, await(lane), 200, says[5].body, &reply));
    snprintf(line, sizeof line, LINE("%s-1"), last_mark, last_mark);
    adopt_lost(lane);
    assert_true(serve_until(lane, says, 300, &reply));
    assert_string_equal(reply.message, MARK "-7");
    assert_int_equal(says[1].times, 1);
    lane->vt->close(lane);
}

/* ---- how it ended ------------------------------------------------------ */

/* What was worked on may be paid for, whatever the server calls the end. */
static void what_was_worked_on_counts(void **state)
{
    static const char line[] = "{\"custom_id\":\"t" MARK "-7\",\"response\":{"
        "\"status_code\":400,\"body\":{\"error\":{\"message\":\"x\"}}}}\n";
    static const struct {
        const char *what, *object;
        enum tr_outcome outcome;
        enum tr_billing billing;
    } rows[] = {
        {"failed, and one is done", "{\"id\":\"batch_1\",\"status\":\"failed\","
         "\"output_file_id\":\"file-2\",\"request_counts\":{\"completed\":1}}",
         TR_OUT_BAD_REQUEST, TR_BILL_NONE},
        {"failed", "{\"id\":\"batch_1\",\"status\":\"failed\","
         "\"request_counts\":{\"completed\":0}}", TR_OUT_FATAL,
         TR_BILL_NONE},
        {"done, and nobody says how much", "{\"id\":\"batch_1\",\"status\":"
         "\"completed\"}", TR_OUT_LOST, TR_BILL_UNKNOWN},
        {"ended before its turn", "{\"id\":\"batch_1\",\"status\":\"expired\","
         "\"request_counts\":{\"completed\":0,\"failed\":0}}",
         TR_OUT_UNREACHED, TR_BILL_NONE},
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_lane *lane = open_lane("openai");
        struct says says[] = {
            {.url = "/batches/batch_1", .body = rows[i].object},
            {.url = "/files/file-2/content", .body = line},
            {0},
        };
        struct tr_reply reply;

        adopt(lane, (struct tr_batch){.state = TR_BATCH_OPEN, .mark = MARK,
                                      .name = "batch_1"}, 7);
        if (!serve_until(lane, says, 3600, &reply))
            fail_msg("%s: nothing came", rows[i].what);
        if (reply.outcome != rows[i].outcome ||
            reply.billing != rows[i].billing)
            fail_msg("%s: %s, %s", rows[i].what, tr_outcome_word(reply.outcome),
                     reply.message);
        lane->vt->close(lane);
    }
}

/* What refuses a batch is read as what refuses a request: a spend limit ends
 * the lane, where waiting for money would take all of --max-wait. */
static void a_spend_limit_is_no_pace(void **state)
{
    static const struct {
        const char *headers, *body;
        enum tr_outcome outcome;
    } rows[] = {
        {"", "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
         "\"message\":\"Your organization has reached its monthly spend "
         "limit.\"}}", TR_OUT_EXHAUSTED},
        {"retry-after: 30\n", "{\"type\":\"error\",\"error\":{\"type\":"
         "\"rate_limit_error\",\"message\":\"You spend too fast.\"}}",
         TR_OUT_THROTTLED},
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_lane *lane = open_lane("anthropic");
        struct tr_reply reply;

        hand_in(lane);
        assert_true(answer_with(lane, await(lane), 429, rows[i].headers,
                                rows[i].body, &reply));
        if (reply.outcome != rows[i].outcome ||
            reply.billing != TR_BILL_NONE || !reply.unsent)
            fail_msg("row %zu: %s", i, tr_outcome_word(reply.outcome));
        lane->vt->close(lane);
    }
}

/* Nobody gives up what is paid for, and nobody waits for ever: after a day in
 * which the results could not be read the run ends, and the next one asks
 * again. */
static void results_that_never_come_end_the_run(void **state)
{
    static const char ended[] = "{\"id\":\"batch_1\",\"status\":\"completed\","
        "\"output_file_id\":\"f\",\"request_counts\":{\"completed\":1}}";
    static const char line[] = "{\"custom_id\":\"t" MARK "-7\",\"response\":{"
        "\"status_code\":400,\"body\":{\"error\":{\"message\":\"x\"}}}}\n";
    enum { HOUR = 3600 };
    (void)state;

    for (int polls_fail = 0; polls_fail < 2; polls_fail++) {
        struct tr_lane *lane = open_lane("openai");
        struct says says[] = {
            {.url = "/batches/batch_1", .body = ended},
            {.url = "/files/f/content", .body = "{}", .status = 500},
            {0},
        };
        struct tr_reply reply;

        adopt(lane, (struct tr_batch){.state = TR_BATCH_OPEN, .mark = MARK,
                                      .name = "batch_1"}, 7);
        assert_false(serve_until(lane, says, 2 * HOUR, &reply));
        says[0].status = polls_fail ? 503 : 200;
        assert_false(serve_until(lane, says, 21 * HOUR, &reply));
        assert_true(serve_until(lane, says, 3 * HOUR, &reply));
        assert_int_equal(reply.tag, 0);
        assert_int_equal(reply.outcome, TR_OUT_LOST);
        assert_int_equal(reply.billing, TR_BILL_NONE);
        assert_non_null(strstr(reply.message, "batch batch_1 could not be "
                                              "fetched for a day"));
        lane->vt->close(lane);

        lane = open_lane("openai"); /* they come in time */
        says[0].status = 200;
        says[1].status = 500;
        adopt(lane, (struct tr_batch){.state = TR_BATCH_OPEN, .mark = MARK,
                                      .name = "batch_1"}, 7);
        assert_false(serve_until(lane, says, 23 * HOUR, &reply));
        says[1] = (struct says){.url = "/files/f/content", .body = line};
        assert_true(serve_until(lane, says, 2 * HOUR, &reply));
        assert_int_equal(reply.tag, 7);
        lane->vt->close(lane);
    }
}

/* ---- room in the provider's queue -------------------------------------- */

/* An OpenAI server that fails what exceeds its queue; the rest ends without an
 * answer after a minute, batch_0 (of an earlier run) when it is told to. */
struct queue {
    int64_t most, others, tokens[ASKS], since[ASKS];
    bool fails_0, ends_0;
    int back; /* requests of ours that are */
};

static void queue_says(struct queue *q, const struct asked *a, char *out,
                       size_t size)
{
    const char *name = strstr(a->url, "batch_"), *status = "in_progress";
    int i = name ? atoi(name + 6) : (int)made_n;
    int64_t sum = q->others;

    if (!name && !strstr(a->url, "/batches")) {
        snprintf(out, size, "{\"id\":\"file-1\"}");
        return;
    }
    if (!name) {
        q->tokens[i] = OURS * (int64_t)made[i - 1];
        q->since[i] = now_ns;
    }
    for (int k = 0; k <= (int)made_n; k++)
        sum += q->tokens[k];
    if (i == 0 ? q->fails_0 : q->tokens[i] && sum > q->most)
        status = "failed";
    else if (i == 0 ? q->ends_0 : now_ns - q->since[i] > 60 * TR_S)
        status = "expired";
    if (name && strcmp(status, "in_progress") != 0)
        q->tokens[i] = 0;
    snprintf(out, size, "{\"id\":\"batch_%d\",\"status\":\"%s\",\"errors\":{"
             "\"data\":[{\"code\":\"token_limit_exceeded\"}]}}", i, status);
}

/* All that came back is handed in again. */
static void hear(struct tr_lane *lane, struct queue *q,
                 const struct tr_reply *reply)
{
    q->back += reply->tag <= HAND_IN;
    if (q->back < HAND_IN)
        return;
    q->back = 0;
    hand_in(lane);
}

/* For so long, at most. True when so many batches are made. */
static bool serve(struct tr_lane *lane, struct queue *q, size_t batches,
                  int seconds)
{
    struct tr_reply reply;
    char says[300];

    for (int i = 0; i < 10 * seconds && made_n < batches; i++) {
        for (struct asked *a = wire.asked; a < wire.asked + wire.n; a++) {
            if (a->over)
                continue;
            queue_says(q, a, says, sizeof says);
            if (answer(lane, a, 200, says, &reply))
                hear(lane, q, &reply);
        }
        if (wire.n > ASKS / 2) /* they are all over */
            wire.n = 0;
        while (next(lane, &reply))
            hear(lane, q, &reply);
        now_ns += TR_S / 10;
    }
    return made_n >= batches;
}

/* What an earlier run's batch holds is known, if that run said so. */
static void an_adopted_batch_counts(void **state)
{
    static const struct {
        int64_t tokens;
        bool fails;
        size_t made; /* the first batch of four that are handed in */
    } rows[] = {
        {9000, true, 2},  /* 9000 were too much: 7196 at a time */
        {0, true, 4},     /* so many, or so few, that nobody can tell */
        {9000, false, 4},
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tr_lane *lane = open_lane("openai");
        struct queue q = {.most = INT64_MAX, .fails_0 = rows[i].fails};

        adopt(lane, (struct tr_batch){.state = TR_BATCH_OPEN, .mark = MARK,
                                      .tokens = rows[i].tokens,
                                      .name = "batch_0"}, 100);
        assert_false(serve(lane, &q, 1, 20));
        hand_in(lane);
        assert_true(serve(lane, &q, 1, 20));
        assert_int_equal(made[0], rows[i].made);
        lane->vt->close(lane);
    }
}

/* It fills the queue: the next batch fails once, and then waits for it. */
static void whoever_fills_the_queue_is_awaited(void **state)
{
    struct tr_lane *lane = open_lane("openai");
    struct queue q = {.most = 12000, .tokens = {9000}};
    (void)state;

    adopt(lane, (struct tr_batch){.state = TR_BATCH_OPEN, .mark = MARK,
                                  .tokens = 9000, .name = "batch_0"}, 100);
    hand_in(lane);
    assert_true(serve(lane, &q, 1, 60));
    assert_false(serve(lane, &q, 2, 600));
    q.ends_0 = true;
    assert_true(serve(lane, &q, 2, 60));
    assert_int_equal(made[1], HAND_IN);
    lane->vt->close(lane);
}

/* Of others nobody knows: what is refused beside them shrinks, and grows when
 * they are gone. */
static void room_comes_back(void **state)
{
    struct tr_lane *lane = open_lane("openai");
    struct queue q = {.most = 12000, .others = 8500};
    size_t before;
    (void)state;

    hand_in(lane);
    assert_true(serve(lane, &q, 6, 600));
    assert_int_equal(made[0], HAND_IN);
    assert_int_equal(made[5], 1); /* 3000 fit */
    q.others = 0;
    before = made_n;
    assert_true(serve(lane, &q, before + 20, 6000));
    assert_int_equal(made[made_n - 1], HAND_IN);
    lane->vt->close(lane);
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
        cmocka_unit_test(a_name_comes_while_the_wrong_results_do),
        cmocka_unit_test(whoever_guessed_in_vain_leaves_a_doubt),
        cmocka_unit_test(a_batch_is_found_by_its_time),
        cmocka_unit_test(nobody_elses_batch_is_cancelled),
        cmocka_unit_test(what_no_list_tells_is_in_doubt),
        cmocka_unit_test(a_guess_that_is_gone_is_looked_past),
        cmocka_unit_test(a_guess_that_is_gone_is_forgotten),
        cmocka_unit_test(a_batch_made_twice_is_looked_past),
        cmocka_unit_test(what_was_worked_on_counts),
        cmocka_unit_test(a_spend_limit_is_no_pace),
        cmocka_unit_test(results_that_never_come_end_the_run),
        cmocka_unit_test(an_adopted_batch_counts),
        cmocka_unit_test(whoever_fills_the_queue_is_awaited),
        cmocka_unit_test(room_comes_back),
        cmocka_unit_test(a_refused_schema_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
