/* anthropic.c - the dialect of Anthropic's Messages.
 *
 * Unlike others: the system part is no message, the total of the input is the
 * sum of three counters, a cache is used only where a mark asks for it, and
 * reasoning is adaptive unless it is switched off.
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <stdio.h>

/* ---- request ---------------------------------------------------------- */

static void add_system(const struct tr_quirks *q, const struct tr_call *call,
                       struct tr_buf *b)
{
    if (!call->system.n)
        return;
    if (!call->cache || q->no_cache) {
        tr_buf_addz(b, ",\"system\":");
        tr_buf_add_json(b, call->system);
        return;
    }
    tr_buf_addz(b, ",\"system\":[{\"type\":\"text\",\"text\":");
    tr_buf_add_json(b, call->system);
    tr_buf_addz(b, ",\"cache_control\":{\"type\":\"ephemeral\"}}]");
}

/* Effort and schema share one object. Where reasoning is switched off the
 * effort is low besides: some models allow one only with the other. */
static void add_output_config(const struct tr_quirks *q,
                              const struct tr_call *call, struct tr_buf *b)
{
    bool has_effort = q->effort >= 0 && q->effort_style != TR_STYLE_omit;
    bool has_schema = call->schema.n && !q->no_schema;
    int effort = q->effort <= TR_EFFORT_minimal ? TR_EFFORT_low : q->effort;

    if (has_effort && q->effort == TR_EFFORT_none)
        tr_buf_addz(b, ",\"thinking\":{\"type\":\"disabled\"}");
    if (!has_effort && !has_schema)
        return;
    tr_buf_addz(b, ",\"output_config\":{");
    if (has_effort)
        tr_buf_addf(b, "\"effort\":\"%s\"%s", tr_effort_name(effort),
                    has_schema ? "," : "");
    if (has_schema) {
        tr_buf_addz(b, "\"format\":{\"type\":\"json_schema\",\"schema\":");
        tr_buf_adds(b, call->schema);
        tr_buf_addc(b, '}');
    }
    tr_buf_addc(b, '}');
}

static int encode(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *b,
                  struct tr_err *err)
{
    tr_buf_addz(b, "{\"model\":");
    tr_buf_add_json(b, tr_str_c(model));
    tr_buf_addf(b, ",\"max_tokens\":%lld",
                (long long)(call->cap_tokens > 0 ? call->cap_tokens : 1024));
    add_output_config(q, call, b);
    if (q->zero_temperature)
        tr_buf_addz(b, ",\"temperature\":0");
    add_system(q, call, b);
    tr_buf_addz(b, ",\"messages\":[{\"role\":\"user\",\"content\":");
    tr_buf_add_json(b, call->user);
    tr_buf_addz(b, "}]}");
    return tr_body_encoded(b, err);
}

/* ---- response --------------------------------------------------------- */

/* In the order in which they are looked for when a message names several. */
static const struct tr_field_word fields[] = {
    {"output_config.format", TR_FIELD_SCHEMA},
    {"output_format", TR_FIELD_SCHEMA},
    {"json_schema", TR_FIELD_SCHEMA},
    {"chema is too complex", TR_FIELD_SCHEMA},
    {"tructured output", TR_FIELD_SCHEMA},
    {"cache_control", TR_FIELD_CACHE},
    {"thinking", TR_FIELD_OFF},
    {"effort", TR_FIELD_EFFORT},
    {"output_config", TR_FIELD_EFFORT},
    {"temperature", TR_FIELD_TEMPERATURE},
    {NULL, 0},
};

static const struct tr_finish finishes[] = {
    {"end_turn", TR_OUT_OK},
    {"max_tokens", TR_OUT_CUT_SHORT},
    {"model_context_window_exceeded", TR_OUT_CUT_SHORT},
    {"refusal", TR_OUT_REFUSED},
    {"pause_turn", TR_OUT_TRANSIENT},
    {NULL, TR_OUT_OK},
};

static int64_t or_zero(int64_t n)
{
    return n > 0 ? n : 0;
}

static void read_usage(struct tr_usage *u, yyjson_val *usage)
{
    yyjson_val *out = yyjson_obj_get(usage, "output_tokens_details");
    int64_t in = tr_json_count(usage, "input_tokens");

    u->cached = tr_json_count(usage, "cache_read_input_tokens");
    u->cache_write = tr_json_count(usage, "cache_creation_input_tokens");
    u->in = in < 0 ? -1 : in + or_zero(u->cached) + or_zero(u->cache_write);
    u->out = tr_json_count(usage, "output_tokens");
    u->reasoning = tr_json_count(out, "thinking_tokens");
    if (u->reasoning < 0)
        u->reasoning = tr_json_count(out, "reasoning_tokens");
    tr_usage_check(u);
}

/* Blocks by their type: the first one is often reasoning. */
static bool read_content(struct tr_buf *to, yyjson_val *content)
{
    bool has_thinking = false;
    yyjson_val *block;
    size_t i, n;

    yyjson_arr_foreach(content, i, n, block) {
        yyjson_val *type = yyjson_obj_get(block, "type");
        yyjson_val *text = yyjson_obj_get(block, "text");

        if (yyjson_equals_str(type, "text") && yyjson_is_str(text))
            tr_buf_add(to, yyjson_get_str(text), yyjson_get_len(text));
        has_thinking = has_thinking || yyjson_equals_str(type, "thinking") ||
                       yyjson_equals_str(type, "redacted_thinking");
    }
    return has_thinking;
}

static void read_message(yyjson_val *root, struct tr_buf *scratch,
                         struct tr_reply *reply)
{
    yyjson_val *stop = yyjson_obj_get(root, "stop_reason");
    bool has_thinking =
        read_content(scratch, yyjson_obj_get(root, "content"));

    tr_reply_say(reply, scratch, tr_finish_outcome(finishes, stop),
                 has_thinking);
    if (yyjson_equals_str(stop, "refusal"))
        tr_reply_set(reply, TR_OUT_REFUSED, "the model refused to answer");
}

static bool read_answer(yyjson_val *root, const struct tr_http_result *r,
                        struct tr_buf *scratch, struct tr_reply *reply)
{
    (void)r;
    if (!yyjson_is_arr(yyjson_obj_get(root, "content")))
        return false;
    read_message(root, scratch, reply);
    return true;
}

static const struct tr_body_form form = {
    .what = "a message",
    .model = "model",
    .id = "id",
    .usage = "usage",
    .read_usage = read_usage,
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

const struct tr_dialect tr_anthropic = {
    .name = "anthropic",
    .path = "/v1/messages",
    .key_header = "x-api-key",
    .headers = {"anthropic-version: 2023-06-01"},
    .encode = encode,
    .decode = decode,
};
