/* openai.c - the dialect of Chat Completions, as OpenAI and others speak it.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <stdio.h>

/* ---- request ---------------------------------------------------------- */

static void add_effort(const struct tr_quirks *q, struct tr_buf *b)
{
    bool off = q->effort == TR_EFFORT_none;

    if (q->effort < 0)
        return;
    switch ((enum tr_effort_style)q->effort_style) {
    case TR_STYLE_omit:
    case TR_STYLE_budget: /* Gemini knows it, nobody else */
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

void tr_wire_marked(const struct tr_call *call, const char *type,
                    struct tr_buf *b)
{
    tr_buf_addf(b, "[{\"type\":\"%s\",\"text\":", type);
    tr_buf_add_json(b, call->system);
    tr_buf_addz(b, ",\"prompt_cache_breakpoint\":{\"mode\":\"explicit\"}}]");
}

/* Models that take marks put one behind the data by themselves unless told
 * otherwise, and charge for keeping what never comes again. */
void tr_wire_cache(const struct tr_quirks *q, const struct tr_call *call,
                   struct tr_buf *b)
{
    if (q->no_cache)
        return;
    if (q->cache_marks)
        tr_buf_addz(b, ",\"prompt_cache_options\":{\"mode\":\"explicit\"}");
    if (q->cache_keys && call->cache_key.n) {
        tr_buf_addz(b, ",\"prompt_cache_key\":");
        tr_buf_add_json(b, call->cache_key);
    }
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
        if (tr_wire_marks(q, call))
            tr_wire_marked(call, "text", b);
        else
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
    tr_wire_cache(q, call, b);
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
    return tr_body_encoded(b, err);
}

/* ---- response --------------------------------------------------------- */

/* In the order in which they are looked for when a message names several. */
static const struct tr_field_word fields[] = {
    {"max_completion_tokens", TR_FIELD_NEW_CAP},
    {"max_tokens", TR_FIELD_OLD_CAP},
    {"response_format", TR_FIELD_SCHEMA},
    {"json_schema", TR_FIELD_SCHEMA},
    {"requested parameters", TR_FIELD_SCHEMA}, /* OpenRouter, no provider */
    {"easoning is mandatory", TR_FIELD_OFF}, /* OpenRouter: "Reasoning ..." */
    {"easoning", TR_FIELD_EFFORT},
    {"thinking", TR_FIELD_EFFORT},
    {"chat_template_kwargs", TR_FIELD_EFFORT},
    {"temperature", TR_FIELD_TEMPERATURE},
    {"prompt_cache", TR_FIELD_CACHE},
    {NULL, 0},
};

static int64_t first_count(int64_t a, int64_t b)
{
    return a >= 0 ? a : b;
}

static void read_usage(struct tr_usage *u, yyjson_val *usage)
{
    yyjson_val *in = yyjson_obj_get(usage, "prompt_tokens_details");
    yyjson_val *out = yyjson_obj_get(usage, "completion_tokens_details");
    int64_t total = tr_json_count(usage, "total_tokens");

    u->in = tr_json_count(usage, "prompt_tokens");
    u->out = tr_json_count(usage, "completion_tokens");
    u->cached = first_count( /* OpenAI, DeepSeek, Mistral */
        tr_json_count(in, "cached_tokens"),
        first_count(tr_json_count(usage, "prompt_cache_hit_tokens"),
                    tr_json_count(usage, "num_cached_tokens")));
    u->cache_write = tr_json_count(in, "cache_write_tokens");
    u->reasoning = first_count( /* OpenAI, SGLang */
        tr_json_count(out, "reasoning_tokens"),
        tr_json_count(usage, "reasoning_tokens"));
    /* xAI counts reasoning in the total only; what is paid is the total. */
    if (u->in >= 0 && u->out >= 0 && total > u->in + u->out)
        u->out = total - u->in;
    tr_usage_check(u);
}

static const struct tr_finish finishes[] = {
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
    {NULL, TR_OUT_OK},
};

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

static void read_choice(yyjson_val *choice, struct tr_buf *scratch,
                        struct tr_reply *reply)
{
    yyjson_val *message = yyjson_obj_get(choice, "message");
    bool has_reasoning =
        tr_json_is_something(yyjson_obj_get(message, "reasoning_content")) ||
        tr_json_is_something(yyjson_obj_get(message, "reasoning"));

    read_content(scratch, yyjson_obj_get(message, "content"));
    tr_reply_say(reply, scratch,
                 tr_finish_outcome(finishes,
                                   yyjson_obj_get(choice, "finish_reason")),
                 has_reasoning);
    if (tr_json_is_something(yyjson_obj_get(message, "refusal")))
        tr_reply_set(reply, TR_OUT_REFUSED, "the model refused to answer");
}

static bool read_answer(yyjson_val *root, const struct tr_http_result *r,
                        struct tr_buf *scratch, struct tr_reply *reply)
{
    yyjson_val *choice = yyjson_arr_get_first(yyjson_obj_get(root, "choices"));

    if (tr_json_is_something(yyjson_obj_get(choice, "error")))
        tr_reply_error_in_200(r, choice, reply);
    else if (yyjson_is_obj(yyjson_obj_get(choice, "message")))
        read_choice(choice, scratch, reply);
    else
        return false;
    return true;
}

static const struct tr_body_form form = {
    .what = "a chat completion",
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
    if (reply->outcome == TR_OUT_BAD_REQUEST ||
        (r->status == 404 && strstr(e.message, "requested parameters")))
        tr_wire_adapt(q, fields, &e, reply);
}

const struct tr_dialect tr_openai = {
    .name = "openai",
    .path = "/chat/completions",
    .key_header = "authorization",
    .encode = encode,
    .decode = decode,
};
