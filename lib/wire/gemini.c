/* gemini.c - the dialect of Google's generateContent.
 *
 * Unlike others: the model stands in the path, the wish to wait in the body
 * of a 429 (reply.c), a refused key is a 400, a blocked prompt a 200 without an
 * answer.
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <stdio.h>

/* ---- request ---------------------------------------------------------- */

/* Gemini 2.5 takes a number of tokens, Gemini 3 a level. */
static const struct {
    const char *level;
    int budget;
} efforts[TR_EFFORT_COUNT] = {
    [TR_EFFORT_none] = {"MINIMAL", 0},
    [TR_EFFORT_minimal] = {"MINIMAL", 512},
    [TR_EFFORT_low] = {"LOW", 1024},
    [TR_EFFORT_medium] = {"MEDIUM", 8192},
    [TR_EFFORT_high] = {"HIGH", 24576},
    [TR_EFFORT_xhigh] = {"HIGH", 24576},
    [TR_EFFORT_max] = {"HIGH", 24576},
};

static void add_thinking(const struct tr_quirks *q, struct tr_buf *b)
{
    if (q->effort < 0 || q->effort_style == TR_STYLE_omit)
        return;
    if (q->effort_style == TR_STYLE_budget)
        tr_buf_addf(b, ",\"thinkingConfig\":{\"thinkingBudget\":%d}",
                    efforts[q->effort].budget);
    else
        tr_buf_addf(b, ",\"thinkingConfig\":{\"thinkingLevel\":\"%s\"}",
                    efforts[q->effort].level);
}

static int encode(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *b,
                  struct tr_err *err)
{
    (void)model; /* it stands in the path */
    tr_buf_addc(b, '{');
    if (call->system.n) {
        tr_buf_addz(b, "\"systemInstruction\":{\"parts\":[{\"text\":");
        tr_buf_add_json(b, call->system);
        tr_buf_addz(b, "}]},");
    }
    tr_buf_addz(b, "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":");
    tr_buf_add_json(b, call->user);
    tr_buf_addz(b, "}]}],\"generationConfig\":{\"candidateCount\":1");
    if (call->cap_tokens > 0)
        tr_buf_addf(b, ",\"maxOutputTokens\":%lld",
                    (long long)call->cap_tokens);
    add_thinking(q, b);
    if (q->zero_temperature)
        tr_buf_addz(b, ",\"temperature\":0");
    if (call->schema.n && !q->no_schema) {
        tr_buf_addz(b, ",\"responseMimeType\":\"application/json\","
                       "\"responseJsonSchema\":");
        tr_buf_adds(b, call->schema);
    }
    tr_buf_addz(b, "}}");
    return tr_body_encoded(b, err);
}

/* ---- errors ----------------------------------------------------------- */

/* In the order in which they are looked for when a message names several. */
static const struct tr_field_word fields[] = {
    {"esponseJsonSchema", TR_FIELD_SCHEMA},
    {"response_json_schema", TR_FIELD_SCHEMA},
    {"response_schema", TR_FIELD_SCHEMA},
    {"esponseMimeType", TR_FIELD_SCHEMA},
    {"response_mime_type", TR_FIELD_SCHEMA},
    {"response mime type", TR_FIELD_SCHEMA},
    {"JSON mode", TR_FIELD_SCHEMA},
    {"too many states", TR_FIELD_SCHEMA},
    {"thinking", TR_FIELD_EFFORT},
    {"Thinking", TR_FIELD_EFFORT},
    {"Budget", TR_FIELD_EFFORT},
    {"temperature", TR_FIELD_TEMPERATURE},
    {NULL, 0},
};

/* ---- response --------------------------------------------------------- */

static const struct tr_finish finishes[] = {
    {"STOP", TR_OUT_OK},
    {"MAX_TOKENS", TR_OUT_CUT_SHORT},
    {"SAFETY", TR_OUT_REFUSED},
    {"RECITATION", TR_OUT_REFUSED},
    {"LANGUAGE", TR_OUT_REFUSED},
    {"BLOCKLIST", TR_OUT_REFUSED},
    {"PROHIBITED_CONTENT", TR_OUT_REFUSED},
    {"SPII", TR_OUT_REFUSED},
    {"OTHER", TR_OUT_TRANSIENT},
    {"MALFORMED_FUNCTION_CALL", TR_OUT_TRANSIENT},
    {"MALFORMED_RESPONSE", TR_OUT_TRANSIENT},
    {NULL, TR_OUT_OK},
};

static void read_usage(struct tr_usage *u, yyjson_val *usage)
{
    int64_t words = tr_json_count(usage, "candidatesTokenCount");
    int64_t total = tr_json_count(usage, "totalTokenCount");

    u->in = tr_json_count(usage, "promptTokenCount");
    u->cached = tr_json_count(usage, "cachedContentTokenCount");
    u->reasoning = tr_json_count(usage, "thoughtsTokenCount");
    /* Without an answer the count of its tokens is left out. */
    u->out = u->in < 0 ? -1
                       : (words > 0 ? words : 0) +
                             (u->reasoning > 0 ? u->reasoning : 0);
    if (u->in >= 0 && total > u->in + u->out)
        u->out = total - u->in;
    tr_usage_check(u);
}

static bool read_parts(struct tr_buf *to, yyjson_val *parts)
{
    bool has_thought = false;
    yyjson_val *part;
    size_t i, n;

    yyjson_arr_foreach(parts, i, n, part) {
        yyjson_val *text = yyjson_obj_get(part, "text");
        bool is_thought = yyjson_is_true(yyjson_obj_get(part, "thought"));

        has_thought = has_thought || is_thought;
        if (!is_thought && yyjson_is_str(text))
            tr_buf_add(to, yyjson_get_str(text), yyjson_get_len(text));
    }
    return has_thought;
}

static void read_candidate(yyjson_val *candidate, struct tr_buf *scratch,
                           struct tr_reply *reply)
{
    yyjson_val *content = yyjson_obj_get(candidate, "content");
    bool has_thought = read_parts(scratch, yyjson_obj_get(content, "parts"));
    yyjson_val *finish = yyjson_obj_get(candidate, "finishReason");

    tr_reply_say(reply, scratch, tr_finish_outcome(finishes, finish),
                 has_thought || reply->usage.reasoning > 0);
}

static void blocked(yyjson_val *reason, struct tr_reply *reply)
{
    char word[40];

    tr_json_copy(word, sizeof word, reason);
    tr_reply_set(reply, TR_OUT_REFUSED, "");
    snprintf(reply->message, sizeof reply->message,
             "the provider's filter blocked the prompt (%s)", word);
}

static bool read_answer(yyjson_val *root, const struct tr_http_result *r,
                        struct tr_buf *scratch, struct tr_reply *reply)
{
    yyjson_val *candidate =
        yyjson_arr_get_first(yyjson_obj_get(root, "candidates"));
    yyjson_val *reason = yyjson_obj_get(
        yyjson_obj_get(root, "promptFeedback"), "blockReason");

    (void)r;
    if (!candidate && yyjson_is_str(reason))
        blocked(reason, reply);
    else if (yyjson_is_obj(candidate))
        read_candidate(candidate, scratch, reply);
    else
        return false;
    return true;
}

static const struct tr_body_form form = {
    .what = "generated content",
    .model = "modelVersion",
    .id = "responseId",
    .usage = "usageMetadata",
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

const struct tr_dialect tr_gemini = {
    .name = "gemini",
    .path = "/v1beta/models/{model}:generateContent",
    .key_header = "x-goog-api-key",
    .encode = encode,
    .decode = decode,
};
