/* fuzz_decode.c - a dialect reads what a server sent: an outcome of the
 * table, sane usage, a message that may be shown, the same when read again;
 * and whatever it learned, its next request is JSON. What a server of the
 * dialect says in a sound reply is what is heard (said.h).
 *
 * One target for each dialect: FUZZ_DIALECT names it. Input: as the files of
 * tests/replies: lines that begin with '#', status line, headers, blank line,
 * body. A status of 1000 and more stands for a failed transfer: 4000 of kind
 * 4 without a status, 14200 of the same kind before anything was sent. The
 * digit in HTTP/1.1 says how the lane begins.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "said.h"

#define LEARN_MAX 600 /* replies after which a lane has stopped learning */

static const struct tr_label labels[] = {
    {{"refund", 6}, {"money back", 10}}, {{"bug", 3}, {NULL, 0}},
    {{"caf\xc3\xa9", 5}, {NULL, 0}}};

static const struct tr_question questions[] = {
    {.instruction = {"Which?", 6}, .labels = labels, .label_count = 3,
     .none = -1},
    {.instruction = {"Which?", 6}, .labels = labels, .label_count = 3,
     .none = 1, .multiple = true},
};

static struct tr_str take_line(struct tr_str *s)
{
    const char *end = s->n ? memchr(s->p, '\n', s->n) : NULL;
    size_t n = end ? (size_t)(end - s->p) : s->n;
    struct tr_str line = tr_str(s->p, n);

    *s = tr_str(s->p + n + (end != NULL), s->n - n - (end != NULL));
    return line;
}

/* The headers as the transport hands them on: lower-case names. */
static void read_result(struct tr_http_result *r, struct tr_str s,
                        struct tr_buf *headers, size_t *lane)
{
    struct tr_str line = take_line(&s);
    long number = 0;

    while (line.n && line.p[0] == '#')
        line = take_line(&s);
    *lane = line.n > 7 ? (size_t)line.p[7] & 3 : 0;
    for (size_t i = 9; i < line.n && line.p[i] >= '0' && line.p[i] <= '9' &&
                       number < 100000;
         i++)
        number = 10 * number + (line.p[i] - '0');
    *r = (struct tr_http_result){
        .net = (enum tr_net)(number / 1000 % (TR_NET_OTHER + 1)),
        .sent = number < 10000, .status = (int)(number % 1000)};
    if (r->net != TR_NET_OK)
        snprintf(r->message, sizeof r->message, "%.150s", "broken off");
    while ((line = take_line(&s)).n) {
        const char *colon = memchr(line.p, ':', line.n);

        for (size_t i = 0; colon && i < line.n; i++) {
            char c = line.p[i];
            bool name = line.p + i < colon;

            tr_buf_addc(headers, name && c >= 'A' && c <= 'Z' ? (char)(c | 32)
                                                              : c);
        }
        if (colon)
            tr_buf_addc(headers, '\n');
    }
    r->headers = tr_buf_str(headers);
    r->body = s;
}

/* As the lane does before it lets the dialect read. */
static void decode(struct tr_quirks *q, const struct tr_question *asked,
                   const struct tr_http_result *r, struct tr_buf *scratch,
                   struct tr_reply *reply)
{
    memset(reply, 0, sizeof *reply);
    reply->outcome = TR_OUT_COUNT;
    reply->status = r->status;
    tr_wire_limits(r->headers, 1764500000, &reply->limits,
                   &reply->retry_after_ms);
    FUZZ_DIALECT.decode(q, asked, r, scratch, reply);
}

static void check_part(int64_t part, int64_t whole)
{
    CHECK(part >= -1 && part <= whole);
}

static void check_reply(const struct tr_reply *reply,
                        const struct tr_question *asked)
{
    const struct tr_usage *u = &reply->usage;
    const int64_t most = INT64_C(1) << 44; /* sums of a few counts */

    CHECK(reply->outcome >= TR_OUT_OK && reply->outcome < TR_OUT_COUNT);
    CHECK(reply->billing <= TR_BILL_UNKNOWN);
    CHECK(fuzz_is_plain(reply->message) && fuzz_is_plain(reply->served) &&
          fuzz_is_plain(reply->request_id));
    CHECK(u->in >= -1 && u->in <= most && u->out >= -1 && u->out <= most);
    check_part(u->cached, u->in);
    check_part(u->cache_write, u->in);
    check_part(u->reasoning, u->out);
    CHECK(reply->retry_after_ms >= -1 && reply->retry_after_ms <= 86400000);
    if (reply->text.n)
        CHECK(fuzz_utf8_valid(reply->text) == reply->text.n);
    if (reply->outcome == TR_OUT_OK)
        CHECK(reply->billing == TR_BILL_USAGE);
    if (reply->status >= 400 && reply->status < 500)
        CHECK(reply->outcome != TR_OUT_OK && reply->outcome != TR_OUT_GARBLED);
    for (size_t i = 0; i < reply->sure_count; i++)
        CHECK(reply->sure[i].confidence <= 10000 ||
              (reply->sure[i].confidence == TR_NO_CONFIDENCE &&
               !(asked && asked->multiple)));
    if (FUZZ_DIALECT.decides && reply->text.n) {
        yyjson_doc *doc = yyjson_read(reply->text.p, reply->text.n, 0);

        CHECK(doc && yyjson_arr_size(yyjson_obj_get(yyjson_doc_get_root(doc),
                                                    "a")) ==
                         reply->sure_count);
        yyjson_doc_free(doc);
    }
}

static void check_same(const struct tr_reply *a, const struct tr_reply *b)
{
    CHECK(a->outcome == b->outcome && a->billing == b->billing);
    CHECK(tr_str_eq(a->text, b->text) && a->sure_count == b->sure_count);
    CHECK(memcmp(&a->usage, &b->usage, sizeof a->usage) == 0);
    CHECK(a->retry_after_ms == b->retry_after_ms);
    CHECK(strcmp(a->message, b->message) == 0);
    CHECK(strcmp(a->served, b->served) == 0);
    CHECK(strcmp(a->request_id, b->request_id) == 0);
}

static void check_request(const struct tr_quirks *q,
                          const struct tr_question *asked)
{
    static const struct tr_item items[] = {{{"a \"b\"\n", 6}, 417},
                                           {{"", 0}, 230}};
    struct tr_call call = {
        .system = {"s", 1}, .user = {"u\n", 2}, .cap_tokens = 100,
        .schema = {"{\"type\":\"object\"}", 17}, .cache = true,
        .cache_key = {"k", 1}, .question = asked ? asked : &questions[0],
        .items = items, .item_count = 2};
    struct tr_buf body;
    struct tr_err err;
    yyjson_doc *doc;

    tr_buf_init(&body, 0);
    CHECK(FUZZ_DIALECT.encode("m/\"1\"", q, &call, &body, &err) == TR_OK);
    doc = yyjson_read(body.p, body.n, 0);
    CHECK(yyjson_is_obj(yyjson_doc_get_root(doc)));
    yyjson_doc_free(doc);
    tr_buf_release(&body);
}

static void check_quirks(const struct tr_quirks *q)
{
    CHECK(q->effort >= -1 && q->effort < TR_EFFORT_COUNT);
    CHECK(q->efforts < 1u << TR_EFFORT_COUNT);
    CHECK(q->effort_style >= 0 && q->effort_style < TR_STYLE_COUNT);
    CHECK(q->refused <= 0x7f);
}

static void check_dialect(const struct tr_http_result *r,
                          const struct tr_question *asked,
                          const struct tr_quirks *begin, bool learn)
{
    struct tr_quirks q = *begin, again = *begin;
    struct tr_buf one, two;
    struct tr_reply a, b;
    int steps = 0;

    tr_buf_init(&one, 1 << 22);
    tr_buf_init(&two, 1 << 22);
    decode(&q, asked, r, &one, &a);
    check_reply(&a, asked);
    decode(&again, asked, r, &two, &b);
    check_same(&a, &b);
    check_quirks(&q);
    check_request(&q, asked);
    while (learn && b.outcome == TR_OUT_ADAPT) {
        CHECK(++steps < LEARN_MAX);
        decode(&again, asked, r, &two, &b);
        check_quirks(&again);
    }
    tr_buf_release(&one);
    tr_buf_release(&two);
}

static void check_said(struct fuzz_in *in, const struct tr_question *asked,
                       const struct tr_quirks *begin)
{
    const struct said_form *form = said_forms;
    struct tr_http_result r = {.net = TR_NET_OK, .sent = true, .status = 200};
    struct tr_quirks q = *begin;
    struct tr_buf memory, body, scratch;
    struct tr_reply reply;
    struct said said;

    while (form->dialect != &FUZZ_DIALECT)
        form++;
    tr_buf_init(&memory, 0);
    tr_buf_init(&body, 0);
    tr_buf_init(&scratch, 0);
    said_draw(in, form, asked, &memory, &said);
    /* Lines that keep a connection alive come before some. */
    tr_buf_addz(&body, fuzz_draw(in, 4) ? "{" : "\n\n: PROCESSING\n\n{");
    form->write(&body, &said);
    tr_buf_addc(&body, '}');
    r.body = tr_buf_str(&body);
    decode(&q, asked, &r, &scratch, &reply);
    said_check(&said, form, &reply);
    tr_buf_release(&memory);
    tr_buf_release(&body);
    tr_buf_release(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct tr_quirks begins[] = {
        {.effort = -1, .efforts = 0x7f},
        {.effort = TR_EFFORT_none, .effort_style = TR_STYLE_field,
         .efforts = 0x7f, .zero_temperature = true, .cache_keys = true,
         .cache_marks = true},
        {.effort = TR_EFFORT_low, .effort_style = TR_STYLE_budget,
         .efforts = 0x7f},
        {.effort = TR_EFFORT_high, .effort_style = TR_STYLE_field,
         .efforts = 0x7f, .effort_fixed = true, .old_cap = true},
    };
    struct fuzz_in in = fuzz_begin(data, n);
    struct tr_http_result r;
    struct tr_buf headers;
    size_t lane;

    tr_buf_init(&headers, 0);
    read_result(&r, fuzz_rest(&in), &headers, &lane);
    /* Learning is many replies long: only now and then. */
    check_dialect(&r, NULL, &begins[lane], fuzz_draw(&in, 64) == 0);
    check_said(&in, NULL, &begins[lane]);
    for (size_t i = 0; FUZZ_DIALECT.decides && i < 2; i++) {
        check_dialect(&r, &questions[i], &begins[lane], false);
        check_said(&in, &questions[i], &begins[lane]);
    }
    tr_buf_release(&headers);
    return 0;
}
