/* openai.c - the dialect of Chat Completions, as OpenAI and others speak it.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <stdio.h>

/* A server that refuses the same field in that many replies in a row, though
 * it is not sent any more, means something else. */
#define STALE_MAX 256

/* ---- names ------------------------------------------------------------ */

static const char *const effort_names[] = {
#define X(name) #name,
    TR_EFFORTS(X)
#undef X
};

const char *tr_effort_name(int effort)
{
    return effort >= 0 && effort < TR_EFFORT_COUNT ? effort_names[effort] : "";
}

int tr_effort_find(struct tr_str name)
{
    for (int i = 0; i < TR_EFFORT_COUNT; i++) {
        if (tr_str_eq_c(name, effort_names[i]))
            return i;
    }
    return -1;
}

/* ---- request ---------------------------------------------------------- */

static void add_effort(const struct tr_quirks *q, struct tr_buf *b)
{
    bool off = q->effort == TR_EFFORT_none;

    if (q->effort < 0)
        return;
    switch ((enum tr_effort_style)q->effort_style) {
    case TR_STYLE_omit:
    case TR_STYLE_COUNT:
        return;
    case TR_STYLE_object:
        if (off)
            tr_buf_addz(b, ",\"reasoning\":{\"enabled\":false}");
        else
            tr_buf_addf(b, ",\"reasoning\":{\"effort\":\"%s\"}",
                        tr_effort_name(q->effort));
        return;
    case TR_STYLE_thinking:
        tr_buf_addf(b, ",\"thinking\":{\"type\":\"%s\"}",
                    off ? "disabled" : "enabled");
        return;
    case TR_STYLE_kwargs:
        if (off) {
            tr_buf_addz(b, ",\"chat_template_kwargs\":"
                           "{\"enable_thinking\":false}");
            return;
        }
        break;
    case TR_STYLE_field:
        break;
    }
    tr_buf_addf(b, ",\"reasoning_effort\":\"%s\"", tr_effort_name(q->effort));
}

static int encode(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *b,
                  struct tr_err *err)
{
    tr_buf_addz(b, "{\"model\":");
    tr_buf_add_json(b, tr_str_c(model));
    tr_buf_addz(b, ",\"messages\":[");
    if (call->system.n) {
        tr_buf_addz(b, "{\"role\":\"system\",\"content\":");
        tr_buf_add_json(b, call->system);
        tr_buf_addz(b, "},");
    }
    tr_buf_addz(b, "{\"role\":\"user\",\"content\":");
    tr_buf_add_json(b, call->user);
    tr_buf_addz(b, "}]");
    if (call->cap_tokens > 0)
        tr_buf_addf(b, ",\"%s\":%lld",
                    q->old_cap ? "max_tokens" : "max_completion_tokens",
                    (long long)call->cap_tokens);
    add_effort(q, b);
    if (q->zero_temperature)
        tr_buf_addz(b, ",\"temperature\":0");
    if (call->schema.n && !q->no_schema) {
        tr_buf_addz(b, ",\"response_format\":{\"type\":\"json_schema\","
                       "\"json_schema\":{\"name\":\"answer\",\"strict\":true,"
                       "\"schema\":");
        tr_buf_adds(b, call->schema);
        tr_buf_addz(b, "}}");
        if (q->require_parameters)
            tr_buf_addz(b, ",\"provider\":{\"require_parameters\":true}");
    }
    tr_buf_addc(b, '}');
    if (!tr_buf_ok(b))
        return tr_fail(err, TR_NOMEM, "no room for a request body");
    return TR_OK;
}

/* ---- learning from a 400 ---------------------------------------------- */

static bool holds(const char *text, const char *word)
{
    return strstr(text, word) != NULL;
}

/* In the order in which they are looked for when a message names several. */
static const struct {
    const char *word;
    unsigned field;
} fields[] = {
    {"max_completion_tokens", TR_FIELD_NEW_CAP},
    {"max_tokens", TR_FIELD_OLD_CAP},
    {"response_format", TR_FIELD_SCHEMA},
    {"json_schema", TR_FIELD_SCHEMA},
    {"requested parameters", TR_FIELD_SCHEMA}, /* OpenRouter, no provider */
    {"reasoning", TR_FIELD_EFFORT},
    {"thinking", TR_FIELD_EFFORT},
    {"chat_template_kwargs", TR_FIELD_EFFORT},
    {"temperature", TR_FIELD_TEMPERATURE},
};

/* "Extra inputs are not permitted", "Unsupported parameter", ... as opposed to
 * "max_tokens is too large". */
static bool is_unknown_field(const struct tr_wire_error *e)
{
    static const char *const words[] = {
        "nsupported",     "not supported", "ot support",  "nknown",
        "nrecognized",    "xtra inputs",   "not permitted",
        "extra_forbidden", "nexpected",    "not allowed",
    };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (holds(e->message, words[i]) || holds(e->code, words[i]) ||
            holds(e->type, words[i]))
            return true;
    }
    return false;
}

/* The field that is meant: by param, else the first one in the message. */
static unsigned field_of(const struct tr_wire_error *e)
{
    const char *first = NULL;
    unsigned field = 0;

    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *at = strstr(e->message, fields[i].word);

        if (holds(e->param, fields[i].word))
            return fields[i].field;
        if (at && (!first || at < first)) {
            first = at;
            field = fields[i].field;
        }
    }
    return first ? field : 0;
}

/* The efforts in quotes after p, as a mask. */
static unsigned efforts_in(const char *p)
{
    unsigned mask = 0;
    char quoted[16];

    for (int i = 0; i < TR_EFFORT_COUNT; i++) {
        for (const char *q = "'\"`"; *q; q++) {
            snprintf(quoted, sizeof quoted, "%c%s%c", *q, effort_names[i], *q);
            if (holds(p, quoted))
                mask |= 1u << i;
        }
    }
    return mask;
}

static int lowest(unsigned mask)
{
    for (int i = 0; i < TR_EFFORT_COUNT; i++) {
        if (mask >> i & 1)
            return i;
    }
    return -1;
}

/* The next effort worth trying after a refusal; true when q changed. */
static bool adapt_effort(struct tr_quirks *q, const struct tr_wire_error *e)
{
    const char *list = strstr(e->message, "values are");
    unsigned named = efforts_in(e->message), taken;
    int before = q->effort;

    if (!list)
        list = strstr(e->message, "one of");
    taken = list ? efforts_in(list) : 0;
    if (before < 0 || q->effort_style == TR_STYLE_omit)
        return false;
    if (!taken && named && !(named >> before & 1))
        return false; /* about a value that is not sent any more */
    if (taken)
        q->efforts = taken;
    else if (q->effort_style == TR_STYLE_field &&
             (named || strcmp(e->code, "unsupported_value") == 0))
        q->efforts &= ~(1u << before);
    else
        q->efforts = 0; /* the field itself is refused */
    q->effort = lowest(q->efforts);
    if (q->effort != before)
        q->refused |= TR_FIELD_EFFORT;
    return q->effort != before;
}

static bool adapt_cap(struct tr_quirks *q, unsigned field)
{
    bool old = field == TR_FIELD_NEW_CAP;
    unsigned other = old ? TR_FIELD_OLD_CAP : TR_FIELD_NEW_CAP;

    if (q->old_cap == old || q->refused & other)
        return false;
    q->refused |= field;
    q->old_cap = old;
    return true;
}

/* Whether a request written with q as it is now would send the field. */
static bool is_sent(const struct tr_quirks *q, unsigned field)
{
    switch (field) {
    case TR_FIELD_NEW_CAP: return !q->old_cap;
    case TR_FIELD_OLD_CAP: return q->old_cap;
    case TR_FIELD_SCHEMA: return !q->no_schema;
    case TR_FIELD_EFFORT: return q->effort >= 0;
    case TR_FIELD_TEMPERATURE: return q->zero_temperature;
    }
    return false;
}

static bool adapt_field(struct tr_quirks *q, const struct tr_wire_error *e,
                        unsigned field)
{
    switch (field) {
    case TR_FIELD_NEW_CAP:
    case TR_FIELD_OLD_CAP:
        return is_unknown_field(e) && adapt_cap(q, field);
    case TR_FIELD_SCHEMA:
        q->no_schema = true;
        break;
    case TR_FIELD_TEMPERATURE:
        q->zero_temperature = false;
        break;
    case TR_FIELD_EFFORT:
        return adapt_effort(q, e);
    }
    q->refused |= field;
    return true;
}

static void adapt(struct tr_quirks *q, const struct tr_wire_error *e,
                  struct tr_reply *reply)
{
    unsigned field = field_of(e);
    bool sent = is_sent(q, field);

    if (!field)
        return;
    if (field == TR_FIELD_EFFORT && q->effort_fixed) {
        reply->outcome = TR_OUT_FATAL;
        snprintf(reply->message, sizeof reply->message,
                 "this model does not take --effort %s: %.220s",
                 tr_effort_name(q->effort), e->message);
        return;
    }
    if (sent && adapt_field(q, e, field)) {
        q->stale = 0;
        reply->outcome = TR_OUT_ADAPT;
    } else if (q->refused & field && q->stale++ < STALE_MAX) {
        reply->outcome = TR_OUT_ADAPT; /* written before we learned */
    }
}

/* ---- response --------------------------------------------------------- */

/* A count of tokens, -1 when absent or absurd. */
static int64_t count_of(yyjson_val *object, const char *name)
{
    yyjson_val *v = yyjson_obj_get(object, name);
    double real;

    if (yyjson_is_uint(v))
        return yyjson_get_uint(v) < (uint64_t)1 << 40
                   ? (int64_t)yyjson_get_uint(v)
                   : -1;
    real = yyjson_is_real(v) ? yyjson_get_real(v) : -1;
    return real >= 0 && real < 1e12 ? (int64_t)real : -1;
}

static int64_t first_count(int64_t a, int64_t b)
{
    return a >= 0 ? a : b;
}

static void read_usage(struct tr_usage *u, yyjson_val *usage)
{
    yyjson_val *in = yyjson_obj_get(usage, "prompt_tokens_details");
    yyjson_val *out = yyjson_obj_get(usage, "completion_tokens_details");
    int64_t total = count_of(usage, "total_tokens");

    u->in = count_of(usage, "prompt_tokens");
    u->out = count_of(usage, "completion_tokens");
    u->cached = first_count(
        count_of(in, "cached_tokens"),
        first_count(count_of(usage, "prompt_cache_hit_tokens"), /* DeepSeek */
                    count_of(usage, "num_cached_tokens"))); /* Mistral */
    u->cache_write = count_of(in, "cache_write_tokens");
    u->reasoning = first_count(count_of(out, "reasoning_tokens"),
                               count_of(usage, "reasoning_tokens")); /*SGLang*/
    /* xAI counts reasoning in the total only; what is paid is the total. */
    if (u->in >= 0 && u->out >= 0 && total > u->in + u->out)
        u->out = total - u->in;
    if (u->cached > u->in)
        u->cached = -1;
    if (u->cache_write > u->in)
        u->cache_write = -1;
    if (u->reasoning > u->out)
        u->reasoning = -1;
}

static const struct {
    const char *word;
    enum tr_outcome outcome;
} finishes[] = {
    {"stop", TR_OUT_OK},
    {"length", TR_OUT_CUT_SHORT},
    {"max_tokens", TR_OUT_CUT_SHORT},
    {"MAX_TOKENS", TR_OUT_CUT_SHORT},
    {"model_length", TR_OUT_CUT_SHORT}, /* Mistral */
    {"content_filter", TR_OUT_REFUSED},
    {"refusal", TR_OUT_REFUSED},
    {"SAFETY", TR_OUT_REFUSED},
    {"error", TR_OUT_TRANSIENT}, /* Mistral, OpenRouter */
    {"abort", TR_OUT_TRANSIENT}, /* SGLang */
    {"insufficient_system_resource", TR_OUT_TRANSIENT}, /* DeepSeek */
};

/* A server that knows only other words ("eos") ended in its own way. */
static enum tr_outcome outcome_of(yyjson_val *finish)
{
    for (size_t i = 0; i < sizeof finishes / sizeof *finishes; i++) {
        if (yyjson_equals_str(finish, finishes[i].word))
            return finishes[i].outcome;
    }
    return TR_OUT_OK;
}

/* A string, or parts of which those of type text count. */
static void read_content(struct tr_buf *to, yyjson_val *content)
{
    yyjson_val *part;
    size_t i, n;

    if (yyjson_is_str(content)) {
        tr_buf_add(to, yyjson_get_str(content), yyjson_get_len(content));
        return;
    }
    yyjson_arr_foreach(content, i, n, part) {
        yyjson_val *text = yyjson_obj_get(part, "text");

        if (yyjson_is_str(text) &&
            yyjson_equals_str(yyjson_obj_get(part, "type"), "text"))
            tr_buf_add(to, yyjson_get_str(text), yyjson_get_len(text));
    }
}

static bool is_something(yyjson_val *v)
{
    return (yyjson_is_str(v) && yyjson_get_len(v)) ||
           (yyjson_is_obj(v) && yyjson_obj_size(v));
}

static void set(struct tr_reply *reply, enum tr_outcome outcome,
                const char *message)
{
    reply->outcome = outcome;
    reply->billing = TR_BILL_USAGE;
    snprintf(reply->message, sizeof reply->message, "%s", message);
}

static void copy(char *to, size_t size, yyjson_val *v)
{
    snprintf(to, size, "%s", yyjson_is_str(v) ? yyjson_get_str(v) : "");
    tr_wire_redact(to, size);
}

/* OpenRouter's words for a status. */
static const struct {
    const char *word;
    int status;
} types[] = {
    {"rate_limit", 429},       {"overloaded", 503},
    {"authentication", 401},   {"payment_required", 402},
    {"permission", 403},       {"not_found", 404},
    {"content_policy", 400},   {"refusal", 400},
    {"too_long", 400},         {"exceeded", 400},
};

/* An error in a 200: as if its code were the status. It may have cost what
 * a 200 costs, though. */
static void error_in_200(const struct tr_http_result *r, yyjson_val *holder,
                         struct tr_reply *reply)
{
    struct tr_http_result as_if = *r;
    struct tr_wire_error e;
    struct tr_str code;

    tr_wire_error_value(&e, holder);
    as_if.status = 500;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (holds(e.type, types[i].word) || holds(e.code, types[i].word)) {
            as_if.status = types[i].status;
            break;
        }
    }
    code = tr_str_c(e.code);
    if (code.n == 3 && code.p[0] >= '4' && code.p[0] <= '5')
        as_if.status = 100 * (code.p[0] - '0') + 10 * (code.p[1] - '0') +
                       (code.p[2] - '0');
    tr_wire_classify(&as_if, &e, reply);
    reply->billing = TR_BILL_USAGE;
}

static void read_choice(yyjson_val *choice, struct tr_buf *scratch,
                        struct tr_reply *reply)
{
    yyjson_val *message = yyjson_obj_get(choice, "message");
    yyjson_val *refusal = yyjson_obj_get(message, "refusal");
    yyjson_val *finish = yyjson_obj_get(choice, "finish_reason");
    enum tr_outcome outcome = outcome_of(finish);

    read_content(scratch, yyjson_obj_get(message, "content"));
    if (!tr_buf_ok(scratch)) {
        set(reply, TR_OUT_GARBLED, "no memory for the answer");
        return;
    }
    reply->text = tr_buf_str(scratch);
    if (is_something(refusal))
        set(reply, TR_OUT_REFUSED, "the model refused to answer");
    else if (outcome == TR_OUT_CUT_SHORT)
        set(reply, outcome, "the answer was cut at the output cap");
    else if (outcome == TR_OUT_REFUSED)
        set(reply, outcome, "the provider's content filter stopped the "
                            "answer");
    else if (outcome == TR_OUT_TRANSIENT)
        set(reply, outcome, "the server broke the answer off");
    else if (!tr_str_trim(reply->text).n) /* an answer that answers nothing */
        set(reply, outcome,
            is_something(yyjson_obj_get(message, "reasoning_content")) ||
                    is_something(yyjson_obj_get(message, "reasoning"))
                ? "the answer holds reasoning and no content"
                : "the answer is empty");
    else
        set(reply, outcome, "");
}

/* Blank lines and comment lines before the JSON: DeepSeek and OpenRouter
 * keep the connection alive with them. */
static struct tr_str skip_keep_alive(struct tr_str s)
{
    for (s = tr_str_trim(s); s.n && s.p[0] == ':'; s = tr_str_trim(s)) {
        const char *end = memchr(s.p, '\n', s.n);

        s = end ? tr_str(end, s.n - (size_t)(end - s.p)) : tr_str(s.p, 0);
    }
    return s;
}

static void garbled(struct tr_str body, struct tr_reply *reply)
{
    struct tr_wire_error e;

    tr_wire_error_read(&e, tr_str(body.p, body.n < 200 ? body.n : 200));
    set(reply, TR_OUT_GARBLED, "");
    if (!body.n)
        set(reply, TR_OUT_GARBLED, "an empty body with status 200");
    else if (body.p[0] == '<')
        snprintf(reply->message, sizeof reply->message,
                 "a web page instead of an answer: %.200s", e.message);
    else
        set(reply, TR_OUT_GARBLED, "not the JSON of a chat completion");
}

static void read_answer(struct tr_quirks *q, const struct tr_http_result *r,
                        struct tr_buf *scratch, struct tr_reply *reply)
{
    struct tr_str body = skip_keep_alive(r->body);
    yyjson_doc *doc = tr_json_read(body);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *choice =
        yyjson_arr_get_first(yyjson_obj_get(root, "choices"));

    if (yyjson_is_obj(root)) {
        read_usage(&reply->usage, yyjson_obj_get(root, "usage"));
        copy(reply->served, sizeof reply->served,
             yyjson_obj_get(root, "model"));
        if (!reply->request_id[0])
            copy(reply->request_id, sizeof reply->request_id,
                 yyjson_obj_get(root, "id"));
    }
    if (is_something(yyjson_obj_get(root, "error")))
        error_in_200(r, root, reply);
    else if (is_something(yyjson_obj_get(choice, "error")))
        error_in_200(r, choice, reply);
    else if (!yyjson_is_obj(yyjson_obj_get(choice, "message")))
        garbled(body, reply);
    else
        read_choice(choice, scratch, reply);
    if (reply->outcome == TR_OUT_OK)
        q->stale = 0;
    yyjson_doc_free(doc);
}

static void decode(struct tr_quirks *q, const struct tr_http_result *r,
                   struct tr_buf *scratch, struct tr_reply *reply)
{
    struct tr_wire_error e;

    tr_buf_clear(scratch);
    reply->text = (struct tr_str){0};
    reply->usage = (struct tr_usage){-1, -1, -1, -1, -1};
    if (r->net == TR_NET_OK && r->status >= 200 && r->status < 300) {
        read_answer(q, r, scratch, reply);
        return;
    }
    tr_wire_error_read(&e, r->body);
    tr_wire_classify(r, &e, reply);
    if (reply->outcome == TR_OUT_BAD_REQUEST ||
        (r->status == 404 && holds(e.message, "requested parameters")))
        adapt(q, &e, reply);
}

const struct tr_dialect tr_openai = {"openai", "/chat/completions", encode,
                                     decode};
