/* fuzz_batch.c - results of a batch, whatever the provider sends: one reply
 * for each request, none for what was not asked, each by its own id, in
 * whatever order the lines come; and the objects that speak of batches.
 *
 * Input: a byte for the vendor (0 openai, 1 anthropic), one for what is
 * garbled (0 the results, 1 the batch object, 2 both, 3 an error instead of
 * the object, after a byte for its status), then, up to an empty line, the
 * object, and the results.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "../wrapped_clock.h"
#include "base/buf.h"
#include "base/mem.h"
#include "wire/batch.h"

#include <unistd.h>
#include <yyjson.h>

enum { REQUESTS = 4, ROUNDS = 40 };

#define MARK "00112233aabbccdd"
#define ORIGIN "https://127.0.0.1"
#define RESULTS_URL ORIGIN "/v1/results"

/* ---- transport -------------------------------------------------------- */

struct canned {
    struct tr_transport t;
    const char *results_url; /* the provider's, which the transport checks */
    struct tr_str object, results;
    int status; /* of the object */
    struct tr_http_result result;
    bool has_result;
};

static int canned_start(struct tr_transport *t, uint64_t tag,
                        struct tr_str body, int64_t deadline_ms,
                        struct tr_err *err)
{
    (void)t, (void)tag, (void)body, (void)deadline_ms, (void)err;
    fuzz_failed("no request of its own", __FILE__, __LINE__);
}

/* An address with nothing in it that could lead to another place. */
static void check_url(const char *url)
{
    for (const char *p = url; *p; p++)
        CHECK((unsigned char)*p > 0x20 && (unsigned char)*p < 0x7f);
    CHECK(!strstr(url, "/../") && !strstr(url, "/./"));
}

static int canned_ask(struct tr_transport *t, uint64_t tag,
                      const struct tr_http_ask *ask, int64_t deadline_ms,
                      struct tr_err *err)
{
    struct canned *c = (struct canned *)t;

    (void)deadline_ms;
    (void)err;
    CHECK(!c->has_result);
    c->has_result = true;
    c->result = (struct tr_http_result){
        .tag = tag, .sent = true, .status = 200};
    CHECK(strncmp(ask->url, ORIGIN "/", strlen(ORIGIN "/")) == 0);
    if (strcmp(ask->url, c->results_url) != 0)
        check_url(ask->url);
    if (ask->save) {
        CHECK(pwrite(ask->save_fd, c->results.p, c->results.n, 0) ==
              (ssize_t)c->results.n);
        c->result.saved_bytes = (int64_t)c->results.n;
    } else {
        c->result.body = c->object;
        c->result.status = c->status;
    }
    return TR_OK;
}

static int canned_next(struct tr_transport *t, struct tr_http_result *result)
{
    struct canned *c = (struct canned *)t;

    if (!c->has_result)
        return 0;
    c->has_result = false;
    *result = c->result;
    return 1;
}

static void canned_drop(struct tr_transport *t, uint64_t tag)
{
    struct canned *c = (struct canned *)t;

    c->has_result = c->has_result && c->result.tag != tag;
}

static void canned_cancel(struct tr_transport *t)
{
    ((struct canned *)t)->has_result = false;
}

static void canned_close(struct tr_transport *t)
{
    (void)t;
}

/* ---- a batch of an earlier run, read to its end ----------------------- */

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

struct heard {
    enum tr_outcome outcome;
    enum tr_billing billing;
    struct tr_buf text;
    bool came;
};

static const uint64_t attempts[REQUESTS] = {7, 8, 70, UINT64_MAX};
static const uint64_t tags[REQUESTS] = {101, 102, 103, 104};

static void hear(struct heard *heard, const struct tr_reply *reply)
{
    size_t i = 0;

    CHECK(fuzz_is_plain(reply->message) && fuzz_is_plain(reply->request_id));
    CHECK(reply->outcome >= 0 && reply->outcome < TR_OUT_COUNT);
    if (!reply->tag)
        return; /* the lane stops: about no request */
    while (i < REQUESTS && tags[i] != reply->tag)
        i++;
    CHECK(i < REQUESTS && !heard[i].came);
    heard[i].came = true;
    heard[i].outcome = reply->outcome;
    heard[i].billing = reply->billing;
    if (reply->outcome == TR_OUT_OK)
        CHECK(reply->billing == TR_BILL_USAGE);
    tr_buf_adds(&heard[i].text, reply->text);
}

/* Returns whether the batch came to its end. */
static bool run(const struct tr_batch_form *form, struct tr_str object,
                int status, struct tr_str results, struct heard *heard)
{
    static const struct tr_batch_keep keep = {NULL, keep_creating,
                                              keep_opened};
    const struct tr_batch_opts user = {.keep = &keep, .poll_ms = 1000};
    bool is_openai = form == tr_batch_form_find("openai");
    struct tr_batch_lane_opts o = {
        .form = form, .requests_max = 100, .bytes_max = 100000,
        .url = is_openai ? ORIGIN "/v1/chat/completions"
                         : ORIGIN "/v1/messages",
        .user = &user};
    static const struct tr_model_facts facts = {.price_in = 1};
    struct tr_batch batch = {.state = TR_BATCH_OPEN, .created_at = 1764500000,
                             .requests = REQUESTS, .mark = MARK,
                             .name = "batch_1"};
    struct canned c = {
        .t = {.start = canned_start, .ask = canned_ask, .drop = canned_drop,
              .next = canned_next, .cancel = canned_cancel,
              .close = canned_close},
        .object = object, .results = results, .results_url = "",
        .status = status};
    struct tr_batch_news news;
    struct tr_lane *inner, *lane;
    struct tr_reply reply;
    struct tr_err err;
    bool stopped = false, all = true;

    if (!is_openai && form->read(&news, object))
        c.results_url = news.output;
    now_ns = 1000;
    for (int i = 0; i < REQUESTS; i++) {
        heard[i].came = false;
        tr_buf_init(&heard[i].text, 0);
    }
    CHECK(tr_lane_over(&inner, is_openai ? &tr_openai : &tr_anthropic, "p/m",
                       &facts, &c.t, &err) == TR_OK);
    CHECK(tr_batch_lane_over(&lane, inner, &o, &err) == TR_OK);
    CHECK(lane->vt->adopt(lane, &batch, attempts, tags, REQUESTS, &err) ==
          TR_OK);
    for (int i = 0; i < ROUNDS && !stopped; i++, now_ns += 20000000000) {
        memset(&reply, 0, sizeof reply);
        while (lane->vt->next(lane, &reply) == 1) {
            hear(heard, &reply);
            stopped = stopped || !reply.tag;
        }
    }
    for (int i = 0; i < REQUESTS; i++)
        all = all && heard[i].came;
    lane->vt->close(lane);
    return all;
}

static void release(struct heard *heard)
{
    for (int i = 0; i < REQUESTS; i++)
        tr_buf_release(&heard[i].text);
}

/* ---- what the file says ----------------------------------------------- */

/* Lines that are about this request, to the letter. */
static int lines_about(struct tr_str s, const char *id)
{
    int count = 0;

    while (s.n) {
        const char *end = memchr(s.p, '\n', s.n);
        size_t n = end ? (size_t)(end - s.p) : s.n;
        yyjson_doc *doc = n ? yyjson_read(s.p, n, 0) : NULL;

        count += yyjson_equals_str(
            yyjson_obj_get(yyjson_doc_get_root(doc), "custom_id"), id);
        yyjson_doc_free(doc);
        s = tr_str(s.p + n + (end != NULL), s.n - n - (end != NULL));
    }
    return count;
}

static bool is_name(yyjson_val *v)
{
    size_t n = yyjson_get_len(v);

    return yyjson_is_str(v) && n && n < 60 && !memchr(yyjson_get_str(v), 0, n);
}

/* A line that names nobody, or whom we do not know, or that is nested too deeply
 * to be read, or lacks its answer: it may be anybody's, and was paid for. */
static bool has_nameless(const struct tr_batch_form *form, struct tr_str s)
{
    struct tr_batch_line line;
    struct tr_buf scratch;
    bool found = false;

    tr_buf_init(&scratch, 0);
    while (s.n && !found) {
        const char *end = memchr(s.p, '\n', s.n);
        size_t n = end ? (size_t)(end - s.p) : s.n, nested = 0;
        yyjson_doc *doc = n ? yyjson_read(s.p, n, 0) : NULL;
        yyjson_val *root = yyjson_doc_get_root(doc);

        for (size_t i = 0; i < n; i++)
            nested += s.p[i] == '[' || s.p[i] == '{';
        yyjson_val *id = yyjson_obj_get(root, "custom_id");
        uint64_t attempt;

        found = n && (nested > 60 || !is_name(id) ||
                      !tr_batch_id_read(yyjson_get_str(id), MARK, &attempt) ||
                      !form->line(&line, tr_str(s.p, n), &scratch));
        yyjson_doc_free(doc);
        s = tr_str(s.p + n + (end != NULL), s.n - n - (end != NULL));
    }
    tr_buf_release(&scratch);
    return found;
}

/* The lines of s, the last one first. */
static void turn_around(struct tr_str s, struct tr_buf *out)
{
    while (s.n) {
        size_t from = s.n - 1;

        while (from && s.p[from - 1] != '\n')
            from--;
        tr_buf_add(out, s.p + from, s.n - from);
        if (s.p[s.n - 1] != '\n')
            tr_buf_addc(out, '\n');
        s.n = from;
    }
}

static void check_results(const struct tr_batch_form *form,
                          struct tr_str object, struct tr_str results)
{
    struct heard one[REQUESTS], two[REQUESTS];
    struct tr_buf turned;
    bool distinct = true;

    /* Where lists show no mark, another's results are no reason to end. */
    if (!run(form, object, 200, results, one)) {
        CHECK(form->guesses && has_nameless(form, results));
        release(one);
        return;
    }
    for (int i = 0; i < REQUESTS; i++) {
        char id[64];
        int lines;

        tr_batch_id_write(id, MARK, attempts[i]);
        lines = lines_about(results, id);
        CHECK(lines || one[i].outcome == TR_OUT_UNREACHED ||
              (one[i].outcome == TR_OUT_LOST &&
               (form->guesses || has_nameless(form, results))));
        distinct = distinct && lines <= 1;
    }
    if (distinct) {
        tr_buf_init(&turned, 0);
        turn_around(results, &turned);
        CHECK(run(form, object, 200, tr_buf_str(&turned), two));
        for (int i = 0; i < REQUESTS; i++) {
            CHECK(one[i].outcome == two[i].outcome);
            CHECK(one[i].billing == two[i].billing);
            CHECK(tr_str_eq(tr_buf_str(&one[i].text),
                            tr_buf_str(&two[i].text)));
        }
        release(two);
        tr_buf_release(&turned);
    }
    release(one);
}

/* A name goes into an address, and is a name. */
static void check_name(const char *name)
{
    CHECK(strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz"
                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:") == strlen(name));
    CHECK(!name[0] || strspn(name, ".") < strlen(name));
}

static void check_object(const struct tr_batch_form *form, struct tr_str s)
{
    struct tr_batch batch = {.mark = MARK, .requests = REQUESTS,
                             .created_at = 1764500000};
    struct tr_batch_wanted wanted = {.batch = &batch,
                                     .created_at = batch.created_at};
    struct tr_batch_news news;
    char next[120], file[120];
    bool valid;

    if (form->read(&news, s)) {
        CHECK(news.name[0] && news.stage <= TR_STAGE_FAILED);
        check_name(news.name);
        CHECK(news.worked >= -1);
        CHECK(fuzz_is_plain(news.error.message));
    }
    if (form->find(&news, &wanted, s, next, sizeof next, &valid)) {
        CHECK(valid);
        check_name(news.name);
    }
    check_name(next);
    if (tr_batch_file_read(file, sizeof file, s))
        CHECK(file[0]);
    check_name(file);
}

/* ---- the input -------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const names[] = {"openai", "anthropic"};
    static const struct tr_str ended[] = {
        {"{\"id\":\"batch_1\",\"status\":\"completed\","
         "\"output_file_id\":\"f\"}", 59},
        {"{\"id\":\"batch_1\",\"processing_status\":\"ended\","
         "\"results_url\":\"" RESULTS_URL "\"}", 89}};
    struct fuzz_in in = fuzz_begin(data, n);
    unsigned vendor = fuzz_byte(&in) & 1, what = fuzz_byte(&in) & 3;
    const struct tr_batch_form *form = tr_batch_form_find(names[vendor]);
    struct tr_str rest = fuzz_rest(&in), object = ended[vendor];
    static const int statuses[] = {404, 429, 400, 403, 500, 503, 401, 302};
    struct heard heard[REQUESTS];
    int status = 200;

    object.n = strlen(object.p);
    check_object(form, rest);
    if (what == 0) {
        check_results(form, object, rest);
        return 0;
    }
    if (what == 2) {
        size_t i = 0;

        while (i + 1 < rest.n && memcmp(rest.p + i, "\n\n", 2) != 0)
            i++;
        object = tr_str(rest.p, i);
        rest = i + 2 < rest.n ? tr_str(rest.p + i + 2, rest.n - i - 2)
                              : tr_str("", 0);
    } else {
        if (what == 3) {
            status = statuses[fuzz_byte(&in) & 7];
            rest = fuzz_rest(&in);
        }
        object = rest;
    }
    run(form, object, status, rest, heard);
    release(heard);
    return 0;
}
