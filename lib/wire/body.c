/* body.c - pieces of a 2xx body that every dialect reads alike.
 * SPDX-License-Identifier: MIT */
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <stdio.h>
#include <stdlib.h>

int64_t tr_json_count(yyjson_val *object, const char *name)
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

bool tr_json_is_something(yyjson_val *v)
{
    return (yyjson_is_str(v) && yyjson_get_len(v)) ||
           (yyjson_is_obj(v) && yyjson_obj_size(v));
}

void tr_json_copy(char *to, size_t size, yyjson_val *v)
{
    snprintf(to, size, "%s", yyjson_is_str(v) ? yyjson_get_str(v) : "");
    tr_wire_redact(to, size);
}

void tr_reply_set(struct tr_reply *reply, enum tr_outcome outcome,
                  const char *message)
{
    reply->outcome = outcome;
    reply->billing = TR_BILL_USAGE;
    snprintf(reply->message, sizeof reply->message, "%s", message);
}

/* What cannot be: a part larger than its whole. */
void tr_usage_check(struct tr_usage *u)
{
    if (u->cached > u->in)
        u->cached = -1;
    if (u->cache_write > u->in)
        u->cache_write = -1;
    if (u->reasoning > u->out)
        u->reasoning = -1;
}

void tr_usage_of_responses(struct tr_usage *u, yyjson_val *usage)
{
    yyjson_val *in = yyjson_obj_get(usage, "input_tokens_details");
    yyjson_val *out = yyjson_obj_get(usage, "output_tokens_details");

    u->in = tr_json_count(usage, "input_tokens");
    u->out = tr_json_count(usage, "output_tokens");
    u->cached = tr_json_count(in, "cached_tokens");
    u->cache_write = tr_json_count(in, "cache_write_tokens");
    u->reasoning = tr_json_count(out, "reasoning_tokens");
    tr_usage_check(u);
}

enum tr_outcome tr_finish_outcome(const struct tr_finish *known, yyjson_val *v)
{
    for (; known->word; known++) {
        if (yyjson_equals_str(v, known->word))
            return known->outcome;
    }
    return TR_OUT_OK;
}

bool tr_reply_begin(const struct tr_http_result *r, struct tr_buf *scratch,
                    struct tr_reply *reply)
{
    tr_buf_clear(scratch);
    reply->text = (struct tr_str){0};
    reply->sure = NULL;
    reply->sure_count = 0;
    reply->ours = false;
    reply->usage = (struct tr_usage){-1, -1, -1, -1, -1};
    return r->net == TR_NET_OK && r->status >= 200 && r->status < 300;
}

void tr_reply_error(const struct tr_http_result *r, struct tr_wire_error *e,
                    struct tr_reply *reply)
{
    tr_wire_error_read(e, r->body);
    tr_wire_classify(r, e, reply);
}

/* Reasoning that stands in the text, and goes on to its end? */
static bool is_thought(struct tr_str text)
{
    return tr_str_begins(tr_str_trim(text), "<think>") &&
           tr_str_find(text, "</think>") == text.n;
}

void tr_reply_say(struct tr_reply *reply, const struct tr_buf *scratch,
                  enum tr_outcome outcome, bool has_reasoning)
{
    const char *message = "";

    if (!tr_buf_ok(scratch)) {
        tr_reply_set(reply, TR_OUT_GARBLED, "no memory for the answer");
        return;
    }
    reply->text = tr_buf_str(scratch);
    if (outcome == TR_OUT_CUT_SHORT)
        message = "the answer was cut at the output cap";
    else if (outcome == TR_OUT_REFUSED)
        message = "the provider's content filter stopped the answer";
    else if (outcome == TR_OUT_TRANSIENT)
        message = "the server broke the answer off";
    else if (outcome != TR_OUT_OK)
        message = "the answer ended in a way that is not known";
    else if (!tr_str_trim(reply->text).n) /* an answer that answers nothing */
        message = has_reasoning ? "the answer holds reasoning and no content"
                                : "the answer is empty";
    tr_reply_set(reply, outcome, message);
    /* Nothing but reasoning came: the usage need not say so. */
    if (reply->usage.reasoning < 0 &&
        ((has_reasoning && !tr_str_trim(reply->text).n) ||
         (outcome == TR_OUT_CUT_SHORT && is_thought(reply->text))))
        reply->usage.reasoning = reply->usage.out;
}

/* OpenRouter's and the Responses' words for a status. */
static const struct {
    const char *word;
    int status;
} types[] = {
    {"rate_limit", 429},       {"overloaded", 503},
    {"authentication", 401},   {"payment_required", 402},
    {"permission", 403},       {"not_found", 404},
    {"content_policy", 400},   {"refusal", 400},
    {"too_long", 400},         {"exceeded", 400},
    {"invalid_prompt", 400},   {"bio_policy", 400},
    {"data_residency", 403},
};

void tr_reply_error_in_200(const struct tr_http_result *r, yyjson_val *holder,
                           struct tr_reply *reply)
{
    struct tr_http_result as_if = *r;
    struct tr_wire_error e;

    tr_wire_error_value(&e, holder);
    as_if.status = 500;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strstr(e.type, types[i].word) || strstr(e.code, types[i].word)) {
            as_if.status = types[i].status;
            break;
        }
    }
    if ((e.code[0] == '4' || e.code[0] == '5') && strlen(e.code) == 3 &&
        strspn(e.code, "0123456789") == 3)
        as_if.status = (int)strtol(e.code, NULL, 10);
    tr_wire_classify(&as_if, &e, reply);
    reply->billing = TR_BILL_USAGE;
}

struct tr_str tr_reply_body(struct tr_str s)
{
    for (s = tr_str_trim(s); s.n && s.p[0] == ':'; s = tr_str_trim(s)) {
        const char *end = memchr(s.p, '\n', s.n);

        s = end ? tr_str(end, s.n - (size_t)(end - s.p)) : tr_str(s.p, 0);
    }
    return s;
}

void tr_reply_garbled(struct tr_str body, const char *what,
                      struct tr_reply *reply)
{
    struct tr_wire_error e;

    tr_wire_error_read(&e, tr_str(body.p, body.n < 200 ? body.n : 200));
    tr_reply_set(reply, TR_OUT_GARBLED, "");
    if (!body.n)
        tr_reply_set(reply, TR_OUT_GARBLED, "an empty body with status 200");
    else if (body.p[0] == '<')
        snprintf(reply->message, sizeof reply->message,
                 "a web page instead of an answer: %.200s", e.message);
    else
        snprintf(reply->message, sizeof reply->message, "not the JSON of %s",
                 what);
}

/* ---- a whole reply ---------------------------------------------------- */

static void read_body(const struct tr_body_form *form, struct tr_quirks *q,
                      const struct tr_http_result *r, struct tr_buf *scratch,
                      struct tr_reply *reply)
{
    struct tr_str body = tr_reply_body(r->body);
    yyjson_doc *doc = tr_json_read(body);
    yyjson_val *root = yyjson_doc_get_root(doc);

    if (yyjson_is_obj(root)) {
        form->read_usage(&reply->usage, yyjson_obj_get(root, form->usage));
        tr_json_copy(reply->served, sizeof reply->served,
                     yyjson_obj_get(root, form->model));
        if (!reply->request_id[0])
            tr_json_copy(reply->request_id, sizeof reply->request_id,
                         yyjson_obj_get(root, form->id));
    }
    if (tr_json_is_something(yyjson_obj_get(root, "error")))
        tr_reply_error_in_200(r, root, reply);
    else if (!form->read(root, r, scratch, reply))
        tr_reply_garbled(body, form->what, reply);
    if (reply->outcome == TR_OUT_OK)
        q->stale = 0;
    yyjson_doc_free(doc);
}

bool tr_reply_read(const struct tr_body_form *form, struct tr_quirks *q,
                   const struct tr_http_result *r, struct tr_buf *scratch,
                   struct tr_reply *reply)
{
    if (!tr_reply_begin(r, scratch, reply))
        return false;
    read_body(form, q, r, scratch, reply);
    return true;
}

int tr_body_encoded(const struct tr_buf *b, struct tr_err *err)
{
    return tr_buf_ok(b) ? TR_OK
                        : tr_fail(err, TR_NOMEM, "no room for a request body");
}
