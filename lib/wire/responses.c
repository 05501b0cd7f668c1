/* responses.c - the dialect of OpenAI's Responses.
 *
 * Chat Completions is enough for labels and spoken by everybody; this is for
 * models and gateways that have only this one. Nothing is stored there.
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <stdio.h>

enum { CAP_MIN = 16 }; /* the least cap it takes */

/* ---- request ---------------------------------------------------------- */

static int encode(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *b,
                  struct tr_err *err)
{
    int64_t cap = call->cap_tokens;

    tr_buf_addz(b, "{\"model\":");
    tr_buf_add_json(b, tr_str_c(model));
    tr_buf_addz(b, ",\"store\":false");
    if (tr_wire_marks(q, call)) { /* "instructions" has no place for a mark */
        tr_buf_addz(b, ",\"input\":[{\"role\":\"system\",\"content\":");
        tr_wire_marked(call, "input_text", b);
        tr_buf_addz(b, "},{\"role\":\"user\",\"content\":");
        tr_buf_add_json(b, call->user);
        tr_buf_addz(b, "}]");
    } else {
        if (call->system.n) {
            tr_buf_addz(b, ",\"instructions\":");
            tr_buf_add_json(b, call->system);
        }
        tr_buf_addz(b, ",\"input\":");
        tr_buf_add_json(b, call->user);
    }
    if (cap > 0)
        tr_buf_addf(b, ",\"max_output_tokens\":%lld",
                    (long long)(cap < CAP_MIN ? CAP_MIN : cap));
    if (q->effort >= 0 && q->effort_style != TR_STYLE_omit)
        tr_buf_addf(b, ",\"reasoning\":{\"effort\":\"%s\"}",
                    tr_effort_name(q->effort));
    tr_wire_cache(q, call, b);
    if (q->zero_temperature)
        tr_buf_addz(b, ",\"temperature\":0");
    if (call->schema.n && !q->no_schema) {
        tr_buf_addz(b, ",\"text\":{\"format\":{\"type\":\"json_schema\","
                       "\"name\":\"answer\",\"strict\":true,\"schema\":");
        tr_buf_adds(b, call->schema);
        tr_buf_addz(b, "}}");
    }
    tr_buf_addc(b, '}');
    return tr_body_encoded(b, err);
}

/* ---- response --------------------------------------------------------- */

/* In the order in which they are looked for when a message names several. */
static const struct tr_field_word fields[] = {
    {"text.format", TR_FIELD_SCHEMA},
    {"json_schema", TR_FIELD_SCHEMA},
    {"easoning is mandatory", TR_FIELD_OFF}, /* OpenRouter: "Reasoning ..." */
    {"easoning", TR_FIELD_EFFORT},
    {"temperature", TR_FIELD_TEMPERATURE},
    {"prompt_cache", TR_FIELD_CACHE},
    {NULL, 0},
};

static const struct tr_finish finishes[] = {
    {"completed", TR_OUT_OK},
    {"max_output_tokens", TR_OUT_CUT_SHORT},
    {"content_filter", TR_OUT_REFUSED},
    {"failed", TR_OUT_TRANSIENT},
    {"cancelled", TR_OUT_TRANSIENT},
    {"queued", TR_OUT_TRANSIENT},
    {"in_progress", TR_OUT_TRANSIENT},
    {NULL, TR_OUT_OK},
};

/* One item of the output; what it is says its type, not its place. */
static void read_item(struct tr_buf *to, yyjson_val *item, bool *has_reasoning,
                      bool *has_refusal)
{
    yyjson_val *part;
    size_t i, n;

    if (yyjson_equals_str(yyjson_obj_get(item, "type"), "reasoning"))
        *has_reasoning = true;
    if (!yyjson_equals_str(yyjson_obj_get(item, "type"), "message"))
        return;
    yyjson_arr_foreach(yyjson_obj_get(item, "content"), i, n, part) {
        yyjson_val *type = yyjson_obj_get(part, "type");
        yyjson_val *text = yyjson_obj_get(part, "text");

        if (yyjson_equals_str(type, "refusal"))
            *has_refusal = true;
        if (yyjson_equals_str(type, "output_text") && yyjson_is_str(text))
            tr_buf_add(to, yyjson_get_str(text), yyjson_get_len(text));
    }
}

static void read_output(yyjson_val *root, struct tr_buf *scratch,
                        struct tr_reply *reply)
{
    yyjson_val *why = yyjson_obj_get(
        yyjson_obj_get(root, "incomplete_details"), "reason");
    yyjson_val *item;
    bool has_reasoning = false, has_refusal = false;
    size_t i, n;

    yyjson_arr_foreach(yyjson_obj_get(root, "output"), i, n, item)
        read_item(scratch, item, &has_reasoning, &has_refusal);
    tr_reply_say(reply, scratch,
                 tr_finish_outcome(finishes, why ? why : yyjson_obj_get(
                                                             root, "status")),
                 has_reasoning);
    if (has_refusal)
        tr_reply_set(reply, TR_OUT_REFUSED, "the model refused to answer");
}

static bool read_answer(yyjson_val *root, const struct tr_http_result *r,
                        struct tr_buf *scratch, struct tr_reply *reply)
{
    (void)r;
    if (!yyjson_is_arr(yyjson_obj_get(root, "output")))
        return false;
    read_output(root, scratch, reply);
    return true;
}

static const struct tr_body_form form = {
    .what = "a response",
    .model = "model",
    .id = "id",
    .usage = "usage",
    .read_usage = tr_usage_of_responses,
    .read = read_answer,
};

static void decode(struct tr_quirks *q, const struct tr_question *asked,
                   const struct tr_http_result *r, struct tr_buf *scratch,
                   struct tr_reply *reply)
{
    struct tr_wire_error e;

    (void)asked;
    if (tr_reply_read(&form, q, r, scratch, reply))
        return;
    tr_reply_error(r, &e, reply);
    if (reply->outcome == TR_OUT_BAD_REQUEST)
        tr_wire_adapt(q, fields, &e, reply);
}

const struct tr_dialect tr_responses = {
    .name = "responses",
    .path = "/responses",
    .key_header = "authorization",
    .encode = encode,
    .decode = decode,
};
