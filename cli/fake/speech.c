/* speech.c - answers and errors in the words of each dialect.
 * SPDX-License-Identifier: MIT */
#include "fake/dialect.h"

#include "base/clock.h"
#include "fake/limits.h"

/* ---- the answer ------------------------------------------------------- */

/* "a","b" of a|b. */
static void say_labels(struct tr_buf *out, struct tr_str labels)
{
    for (;;) {
        const char *end = memchr(labels.p, '|', labels.n);
        size_t n = end ? (size_t)(end - labels.p) : labels.n;

        tr_buf_add_json(out, tr_str(labels.p, n));
        if (!end)
            return;
        tr_buf_addc(out, ',');
        labels = tr_str(end + 1, labels.n - n - 1);
    }
}

static void add_number(struct tr_buf *out, int64_t v)
{
    char text[24], *p = text + sizeof text;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do
        *--p = (char)('0' + u % 10);
    while (u /= 10);
    if (v < 0)
        *--p = '-';
    tr_buf_add(out, p, (size_t)(text + sizeof text - p));
}

static void say_line(struct tr_buf *out, const struct fake_said *said)
{
    add_number(out, said->id);
    tr_buf_addc(out, ' ');
    tr_buf_adds(out, said->label.n ? said->label : TR_STR("-"));
    tr_buf_addc(out, '\n');
}

static void say_pair(struct tr_buf *out, const struct fake_request *r,
                     const struct fake_said *said, bool is_first)
{
    tr_buf_addz(out, is_first ? "[" : ",[");
    add_number(out, said->id);
    tr_buf_addc(out, ',');
    if (r->is_nested)
        tr_buf_addc(out, '[');
    if (said->label.n)
        say_labels(out, said->label);
    else if (!r->is_nested)
        tr_buf_addz(out, "\"-\"");
    if (r->is_nested)
        tr_buf_addc(out, ']');
    tr_buf_addc(out, ']');
}

void fake_say(struct tr_buf *out, const struct fake_request *r,
              struct fake_said *said, size_t n)
{
    if (r->has_schema)
        tr_buf_addz(out, "{\"a\":[");
    for (size_t i = 0; i < n; i++) {
        if (r->has_schema)
            say_pair(out, r, &said[i], i == 0);
        else
            say_line(out, &said[i]);
        said[i].end = out->n;
    }
    if (r->has_schema)
        tr_buf_addz(out, "]}");
}

static void add_member(struct tr_buf *out, const char *name, int64_t v)
{
    tr_buf_addz(out, name);
    add_number(out, v);
}

/* ---- OpenAI ----------------------------------------------------------- */

void fake_complete_openai(struct tr_buf *out, const struct fake_request *r,
                          const struct fake_completion *c)
{
    add_member(out, "{\"id\":\"chatcmpl-fake", (int64_t)c->number);
    add_member(out, "\",\"object\":\"chat.completion\",\"created\":",
               c->created_s);
    tr_buf_addz(out, ",\"model\":");
    tr_buf_add_json(out, tr_str_c(r->model));
    tr_buf_addz(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                     "\"assistant\",\"content\":");
    if (c->is_refusal)
        tr_buf_addz(out, "null,\"refusal\":");
    tr_buf_add_json(out, c->content);
    if (!c->is_refusal)
        tr_buf_addz(out, ",\"refusal\":null");
    tr_buf_addz(out, ",\"annotations\":[]},\"logprobs\":null,"
                     "\"finish_reason\":\"");
    tr_buf_addz(out, c->finish);
    add_member(out, "\"}],\"usage\":{\"prompt_tokens\":", c->prompt_tokens);
    add_member(out, ",\"completion_tokens\":", c->completion_tokens);
    add_member(out, ",\"total_tokens\":",
               c->prompt_tokens + c->completion_tokens);
    tr_buf_addz(out, ",\"prompt_tokens_details\":{\"cached_tokens\":0,"
                     "\"audio_tokens\":0}");
    add_member(out, ",\"completion_tokens_details\":{\"reasoning_tokens\":",
               c->reasoning_tokens);
    tr_buf_addz(out, ",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
                     "\"rejected_prediction_tokens\":0}},"
                     "\"service_tier\":\"default\","
                     "\"system_fingerprint\":\"fp_fake\"}\n");
}

static void add_text_or_null(struct tr_buf *out, const char *name,
                             const char *text)
{
    tr_buf_addz(out, name);
    if (text)
        tr_buf_add_json(out, tr_str_c(text));
    else
        tr_buf_addz(out, "null");
}

void fake_refuse_openai(struct tr_buf *out, const struct fake_error *e,
                        int64_t retry_ns)
{
    (void)retry_ns;
    add_text_or_null(out, "{\"error\":{\"message\":", e->message);
    add_text_or_null(out, ",\"type\":", e->type);
    add_text_or_null(out, ",\"param\":", e->param);
    add_text_or_null(out, ",\"code\":", e->code);
    tr_buf_addz(out, "}}\n");
}

/* ---- Anthropic -------------------------------------------------------- */

const struct fake_error fake_anthropic_errors[] = {
    {FAKE_END_429, 429, "rate_limit_error", NULL, NULL,
     "Number of requests has exceeded your per-minute rate limit."},
    {FAKE_END_LIMITED, 429, "rate_limit_error", NULL, NULL, NULL},
    {FAKE_END_DAILY, 429, "rate_limit_error", NULL, NULL, NULL},
    {FAKE_END_TOO_LARGE, 429, "rate_limit_error", NULL, NULL, NULL},
    {FAKE_END_QUOTA, 400, "invalid_request_error", NULL, NULL,
     "Your credit balance is too low to access the Anthropic API. Please go "
     "to Plans & Billing to upgrade or purchase credits."},
    {FAKE_END_500, 500, "api_error", NULL, NULL, "Internal server error"},
    {FAKE_END_503, 529, "overloaded_error", NULL, NULL, "Overloaded"},
    {FAKE_END_SLOW_DOWN, 429, "rate_limit_error", NULL, NULL,
     "This request would exceed your organization's acceleration limit. "
     "Please ramp up more slowly."},
    {FAKE_END_UNAUTHORIZED, 401, "authentication_error", NULL, NULL,
     "invalid x-api-key"},
    {FAKE_END_TOO_LONG, 400, "invalid_request_error", NULL, NULL, NULL},
    {FAKE_END_UNSUPPORTED, 400, "invalid_request_error", NULL, NULL, NULL},
    {FAKE_END_BAD_REQUEST, 400, "invalid_request_error", NULL, NULL, NULL},
    {0},
};

static const char *anthropic_stop(const struct fake_completion *c)
{
    if (c->is_refusal || c->finish[0] == 'c')
        return "refusal";
    return c->finish[0] == 'l' ? "max_tokens" : "end_turn";
}

void fake_complete_anthropic(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c)
{
    const char *stop = anthropic_stop(c);
    int64_t marked = r->marked_tokens;

    add_member(out, "{\"id\":\"msg_fake", (int64_t)c->number);
    tr_buf_addz(out, "\",\"type\":\"message\",\"role\":\"assistant\","
                     "\"model\":");
    tr_buf_add_json(out, tr_str_c(r->model));
    tr_buf_addz(out, ",\"content\":[");
    if (c->reasoning_tokens)
        tr_buf_addz(out, "{\"type\":\"thinking\",\"thinking\":\"Each text has "
                         "one label: 100 x\",\"signature\":\"fake\"}");
    if (c->content.n && stop[0] != 'r') {
        tr_buf_addz(out, c->reasoning_tokens ? "," : "");
        tr_buf_addz(out, "{\"type\":\"text\",\"text\":");
        tr_buf_add_json(out, c->content);
        tr_buf_addc(out, '}');
    }
    tr_buf_addf(out, "],\"stop_reason\":\"%s\",\"stop_sequence\":null,"
                     "\"stop_details\":%s,\"usage\":{\"input_tokens\":", stop,
                stop[0] == 'r' ? "{\"type\":\"refusal\",\"category\":null,"
                                 "\"explanation\":null}"
                               : "null");
    add_number(out, c->prompt_tokens - marked);
    add_member(out, ",\"cache_creation_input_tokens\":",
               c->is_cached ? 0 : marked);
    add_member(out, ",\"cache_read_input_tokens\":", c->is_cached ? marked : 0);
    add_member(out, ",\"output_tokens\":", c->completion_tokens);
    add_member(out, ",\"output_tokens_details\":{\"thinking_tokens\":",
               c->reasoning_tokens);
    tr_buf_addz(out, "},\"service_tier\":\"standard\"}}\n");
}

void fake_refuse_anthropic(struct tr_buf *out, const struct fake_error *e,
                           int64_t retry_ns)
{
    (void)retry_ns;
    add_text_or_null(out, "{\"type\":\"error\",\"error\":{\"type\":", e->type);
    add_text_or_null(out, ",\"message\":", e->message);
    tr_buf_addz(out, "},\"request_id\":\"req_fake\"}\n");
}

/* ---- Azure: OpenAI's words, other codes ------------------------------- */

#define AZURE_LIMIT                                                            \
    "Requests to the ChatCompletions_Create Operation have exceeded the rate " \
    "limit of your current pricing tier. Please retry after 1 second."

const struct fake_error fake_azure_errors[] = {
    {FAKE_END_429, 429, NULL, NULL, "429", AZURE_LIMIT},
    {FAKE_END_LIMITED, 429, NULL, NULL, "429", NULL},
    {FAKE_END_UNAUTHORIZED, 401, NULL, NULL, "401",
     "Access denied due to invalid subscription key or wrong API endpoint."},
    {0},
};

/* ---- Responses -------------------------------------------------------- */

void fake_complete_responses(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c)
{
    bool is_short = c->finish[0] == 'l', is_filtered = c->finish[0] == 'c';

    add_member(out, "{\"id\":\"resp_fake", (int64_t)c->number);
    add_member(out, "\",\"object\":\"response\",\"created_at\":", c->created_s);
    tr_buf_addf(out, ",\"status\":\"%s\",\"error\":null,"
                     "\"incomplete_details\":",
                is_short || is_filtered ? "incomplete" : "completed");
    tr_buf_addz(out, is_short ? "{\"reason\":\"max_output_tokens\"}"
                     : is_filtered ? "{\"reason\":\"content_filter\"}"
                                   : "null");
    tr_buf_addz(out, ",\"model\":");
    tr_buf_add_json(out, tr_str_c(r->model));
    tr_buf_addz(out, ",\"output\":[");
    if (c->reasoning_tokens)
        tr_buf_addz(out, "{\"id\":\"rs_fake\",\"type\":\"reasoning\","
                         "\"summary\":[]}");
    if (c->content.n) {
        tr_buf_addz(out, c->reasoning_tokens ? "," : "");
        tr_buf_addf(out, "{\"id\":\"msg_fake\",\"type\":\"message\",\"role\":"
                         "\"assistant\",\"status\":\"completed\",\"content\":"
                         "[{\"type\":\"%s\":",
                    c->is_refusal ? "refusal\",\"refusal"
                                  : "output_text\",\"annotations\":[],"
                                    "\"logprobs\":[],\"text");
        tr_buf_add_json(out, c->content);
        tr_buf_addz(out, "}]}");
    }
    add_member(out, "],\"usage\":{\"input_tokens\":", c->prompt_tokens);
    add_member(out, ",\"input_tokens_details\":{\"cached_tokens\":0,"
                    "\"cache_write_tokens\":0},\"output_tokens\":",
               c->completion_tokens);
    add_member(out, ",\"output_tokens_details\":{\"reasoning_tokens\":",
               c->reasoning_tokens);
    add_member(out, "},\"total_tokens\":",
               c->prompt_tokens + c->completion_tokens);
    tr_buf_addz(out, "},\"service_tier\":\"default\"}\n");
}

/* ---- Gemini ----------------------------------------------------------- */

#define GEMINI_QUOTA                                                           \
    "You exceeded your current quota, please check your plan and billing "     \
    "details."

/* code: the quota that is used up, or the reason of a refusal. */
const struct fake_error fake_gemini_errors[] = {
    {FAKE_END_429, 429, "RESOURCE_EXHAUSTED", NULL,
     "GenerateRequestsPerMinutePerProjectPerModel", GEMINI_QUOTA},
    {FAKE_END_LIMITED, 429, "RESOURCE_EXHAUSTED", NULL,
     "GenerateContentInputTokensPerModelPerMinute", GEMINI_QUOTA},
    {FAKE_END_DAILY, 429, "RESOURCE_EXHAUSTED", NULL,
     "GenerateRequestsPerDayPerProjectPerModel", GEMINI_QUOTA},
    {FAKE_END_QUOTA, 429, "RESOURCE_EXHAUSTED", NULL, NULL,
     "Your prepayment credits are depleted. Please add credit."},
    {FAKE_END_TOO_LARGE, 429, "RESOURCE_EXHAUSTED", NULL, NULL, NULL},
    {FAKE_END_500, 500, "INTERNAL", NULL, NULL,
     "An internal error has occurred. Please retry."},
    {FAKE_END_503, 503, "UNAVAILABLE", NULL, NULL,
     "The model is overloaded. Please try again later."},
    {FAKE_END_SLOW_DOWN, 503, "UNAVAILABLE", NULL, NULL,
     "This model is currently experiencing high demand."},
    {FAKE_END_UNAUTHORIZED, 400, "INVALID_ARGUMENT", NULL, "API_KEY_INVALID",
     "API key not valid. Please pass a valid API key."},
    {FAKE_END_TOO_LONG, 400, "INVALID_ARGUMENT", NULL, NULL,
     "The input token count exceeds the maximum number of tokens allowed."},
    {FAKE_END_UNSUPPORTED, 400, "INVALID_ARGUMENT", NULL, NULL, NULL},
    {FAKE_END_BAD_REQUEST, 400, "INVALID_ARGUMENT", NULL, NULL, NULL},
    {0},
};

static const char *gemini_finish(const struct fake_completion *c)
{
    if (c->is_refusal || c->finish[0] == 'c')
        return "SAFETY";
    return c->finish[0] == 'l' ? "MAX_TOKENS" : "STOP";
}

void fake_complete_gemini(struct tr_buf *out, const struct fake_request *r,
                          const struct fake_completion *c)
{
    const char *finish = gemini_finish(c);
    bool has_words = c->content.n && finish[1] != 'A';

    /* A filter looks at the prompt, and then there is no candidate; a model
     * that refuses leaves one without words. */
    if (c->finish[0] == 'c' && !c->is_refusal) {
        tr_buf_addz(out, "{\"promptFeedback\":{\"blockReason\":"
                         "\"PROHIBITED_CONTENT\"}");
    } else {
        tr_buf_addz(out, "{\"candidates\":[{\"content\":{\"role\":\"model\"");
        if (has_words || finish[0] == 'M') {
            tr_buf_addz(out, c->content.n ? ",\"parts\":[{\"text\":" : "");
            if (c->content.n) {
                tr_buf_add_json(out, c->content);
                tr_buf_addz(out, "}]");
            }
        }
        tr_buf_addf(out, "},\"finishReason\":\"%s\",\"index\":0}]", finish);
    }
    add_member(out, ",\"usageMetadata\":{\"promptTokenCount\":",
               c->prompt_tokens);
    add_member(out, ",\"candidatesTokenCount\":",
               c->completion_tokens - c->reasoning_tokens);
    if (c->reasoning_tokens)
        add_member(out, ",\"thoughtsTokenCount\":", c->reasoning_tokens);
    add_member(out, ",\"totalTokenCount\":",
               c->prompt_tokens + c->completion_tokens);
    tr_buf_addz(out, "},\"modelVersion\":");
    tr_buf_add_json(out, tr_str_c(r->model));
    add_member(out, ",\"responseId\":\"rsp-fake", (int64_t)c->number);
    tr_buf_addz(out, "\"}\n");
}

void fake_refuse_gemini(struct tr_buf *out, const struct fake_error *e,
                        int64_t retry_ns)
{
    static const char at[] = "{\"@type\":\"type.googleapis.com/google.rpc.";
    bool is_quota = e->code && e->status == 429;

    add_member(out, "{\"error\":{\"code\":", e->status);
    add_text_or_null(out, ",\"message\":", e->message);
    add_text_or_null(out, ",\"status\":", e->type);
    tr_buf_addz(out, ",\"details\":[");
    if (is_quota)
        tr_buf_addf(out, "%sQuotaFailure\",\"violations\":[{\"quotaMetric\":"
                         "\"generativelanguage.googleapis.com/x\",\"quotaId\":"
                         "\"%s\",\"quotaValue\":\"10\"}]}", at, e->code);
    else if (e->code && e->status == 400 && e->code[0] == 'A')
        tr_buf_addf(out, "%sErrorInfo\",\"reason\":\"%s\"}", at, e->code);
    if (retry_ns >= 0)
        tr_buf_addf(out, "%s%sRetryInfo\",\"retryDelay\":\"%.3fs\"}",
                    is_quota ? "," : "", at, (double)retry_ns / TR_S);
    tr_buf_addz(out, "]}}\n");
}

/* ---- decisions -------------------------------------------------------- */

/* What is said about the item of a question; NULL: nothing. */
static const struct fake_said *said_of(const struct fake_completion *c,
                                       const struct fake_question *q)
{
    for (size_t i = 0; i < c->said_n && !c->is_refusal; i++) {
        if (c->said[i].id == q->id)
            return &c->said[i];
    }
    return NULL;
}

/* Hundredths from 55 to 99, always the same for a question. */
static unsigned sureness(const struct fake_question *q, struct tr_str label)
{
    return 55 + (unsigned)((fake_hash(label) ^ q->label) % 45);
}

/* Yes or no, in hundredths. */
static unsigned chance_of(const struct fake_question *q, struct tr_str labels)
{
    struct tr_str rest = labels;

    while (rest.n) {
        const char *end = memchr(rest.p, '|', rest.n);
        size_t n = end ? (size_t)(end - rest.p) : rest.n;

        if (fake_hash(tr_str(rest.p, n)) == q->label)
            return sureness(q, labels);
        n += end != NULL;
        rest = tr_str(rest.p + n, rest.n - n);
    }
    return 100 - sureness(q, labels);
}

void fake_complete_decisions(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c)
{
    tr_buf_addz(out, "{\"model\":");
    tr_buf_add_json(out, tr_str_c(r->model));
    tr_buf_addz(out, ",\"answers\":[");
    for (size_t i = 0; i < r->question_count; i++) {
        const struct fake_question *q = &r->questions[i];
        const struct fake_said *said = said_of(c, q);

        tr_buf_addf(out, "%s{\"type\":\"%s\",\"name\":\"%s\"", i ? "," : "",
                    !said ? "refusal" : q->is_choice ? "choice" : "predicate",
                    q->name);
        if (said && q->is_choice) {
            tr_buf_addz(out, ",\"choice\":");
            tr_buf_add_json(out, said->label);
            tr_buf_addz(out, ",\"confidence\":0.5,\"probabilities\":["
                             "{\"value\":");
            tr_buf_add_json(out, said->label);
            tr_buf_addf(out, ",\"probability\":0.%02u}]",
                        sureness(q, said->label));
        } else if (said) {
            tr_buf_addf(out, ",\"probability\":0.%02u",
                        chance_of(q, said->label));
        }
        tr_buf_addc(out, '}');
    }
    add_member(out, "],\"usage\":{\"input_tokens\":", c->prompt_tokens);
    add_member(out, ",\"output_tokens\":0,\"total_tokens\":", c->prompt_tokens);
    tr_buf_addz(out, "}}\n");
}

void fake_complete_systemone(struct tr_buf *out, const struct fake_request *r,
                             const struct fake_completion *c)
{
    const char *comma = "";

    tr_buf_addz(out, "{\"model\":");
    tr_buf_add_json(out, tr_str_c(r->model));
    tr_buf_addz(out, ",\"answers\":{");
    for (size_t i = 0; i < r->question_count; i++) {
        const struct fake_question *q = &r->questions[i];
        const struct fake_said *said = said_of(c, q);

        if (!said)
            continue;
        tr_buf_addf(out, "%s\"%s\":{\"type\":\"%s\",", comma, q->name,
                    q->is_choice ? "choice" : "noul");
        comma = ",";
        if (q->is_choice) {
            tr_buf_addz(out, "\"choice\":");
            tr_buf_add_json(out, said->label);
            tr_buf_addz(out, ",\"probabilities\":{");
            tr_buf_add_json(out, said->label);
            tr_buf_addf(out, ":0.%02u},\"confidence\":0.5}",
                        sureness(q, said->label));
        } else {
            tr_buf_addf(out, "\"noul\":0.%02u}", chance_of(q, said->label));
        }
    }
    add_member(out, "},\"usage\":{\"input_tokens\":", c->prompt_tokens);
    tr_buf_addz(out, ",\"output_tokens\":0}}\n");
}

/* type: of the detail, where it has one. */
const struct fake_error fake_systemone_errors[] = {
    {FAKE_END_429, 429, NULL, NULL, NULL, "Too many requests"},
    {FAKE_END_LIMITED, 429, NULL, NULL, NULL, NULL},
    {FAKE_END_TOO_LARGE, 429, NULL, NULL, NULL, NULL},
    {FAKE_END_DAILY, 429, NULL, NULL, NULL, NULL},
    {FAKE_END_QUOTA, 402, NULL, NULL, NULL, "Insufficient credit"},
    {FAKE_END_500, 500, NULL, NULL, NULL, "Internal server error"},
    {FAKE_END_503, 529, NULL, NULL, NULL, "Overloaded"},
    {FAKE_END_SLOW_DOWN, 529, NULL, NULL, NULL, "Overloaded"},
    {FAKE_END_UNAUTHORIZED, 401, NULL, NULL, NULL, "Invalid API key"},
    {FAKE_END_TOO_LONG, 400, "max_tokens_exceeded", NULL, NULL, NULL},
    {FAKE_END_UNSUPPORTED, 422, NULL, NULL, NULL, NULL},
    {FAKE_END_BAD_REQUEST, 422, NULL, NULL, NULL, NULL},
    {0},
};

void fake_refuse_systemone(struct tr_buf *out, const struct fake_error *e,
                           int64_t retry_ns)
{
    (void)retry_ns;
    if (e->type) {
        add_text_or_null(out, "{\"detail\":{\"error_type\":", e->type);
        tr_buf_addz(out, "}}\n");
        return;
    }
    add_text_or_null(out, "{\"detail\":", e->message);
    tr_buf_addz(out, "}\n");
}
