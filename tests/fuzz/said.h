/* said.h - a reply as a server of each dialect writes it, made from what it is
 * to say: the decoder must find that and nothing else.
 *
 * Written from what providers document, not from what the decoders read. All
 * around the answer stands what must not be taken for it: other choices,
 * reasoning, what else was possible. No two counts are equal, so that none
 * passes for another.
 *
 * SPDX-License-Identifier: MIT */
#ifndef FUZZ_SAID_H
#define FUZZ_SAID_H

#include "fuzz.h"

#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#define SAID_TEXT_BYTES 200
#define SAID_ITEMS 3
#define SAID_DECOY "not the answer"

struct said {
    struct tr_str text;        /* parts of it: up to cut, and from there */
    size_t cut;
    struct tr_usage usage;     /* -1: left out */
    char model[24], id[24];
    const char *finish;
    enum tr_outcome outcome;
    bool thinks;               /* its reasoning is told before the answer */
    bool in_parts;
    bool other_sum;            /* reasoning is in the total only, or added */
    /* Of dialects that decide. */
    const struct tr_question *asked;
    size_t items;
    uint32_t ids[SAID_ITEMS];
    struct tr_str values[SAID_ITEMS];
    unsigned p[SAID_ITEMS][3]; /* of 10000: the choice's, or each label's */
};

/* ---- JSON ------------------------------------------------------------- */

static void said_comma(struct tr_buf *b)
{
    if (!strchr("{[:,", b->p[b->n - 1]))
        tr_buf_addc(b, ',');
}

static void said_string(struct tr_buf *b, const char *name, struct tr_str s)
{
    said_comma(b);
    tr_buf_addf(b, "\"%s\":", name);
    tr_buf_add_json(b, s);
}

static void said_count(struct tr_buf *b, const char *name, int64_t count)
{
    if (count < 0)
        return;
    said_comma(b);
    tr_buf_addf(b, "\"%s\":%lld", name, (long long)count);
}

static void said_raw(struct tr_buf *b, const char *json)
{
    tr_buf_addz(b, json);
}

/* The text as a list of parts, each between before and after. */
static void said_parts(struct tr_buf *b, const struct said *s,
                       const char *before, const char *after)
{
    size_t at[] = {0, s->in_parts ? s->cut : 0, s->text.n};

    for (size_t i = 0; i < 2; i++) {
        if (at[i] == at[i + 1])
            continue;
        said_comma(b);
        said_raw(b, before);
        tr_buf_add_json(b, tr_str(s->text.p + at[i], at[i + 1] - at[i]));
        said_raw(b, after);
    }
}

/* ---- the dialects ----------------------------------------------------- */

static void said_openai(struct tr_buf *b, const struct said *s)
{
    const struct tr_usage *u = &s->usage;
    int64_t hidden = s->other_sum && u->reasoning >= 0 ? u->reasoning : 0;

    said_string(b, "id", tr_str_c(s->id));
    said_string(b, "object", TR_STR("chat.completion"));
    said_string(b, "model", tr_str_c(s->model));
    said_raw(b, ",\"choices\":[{\"index\":0,\"message\":{");
    if (s->thinks)
        said_string(b, "reasoning_content", TR_STR(SAID_DECOY));
    said_string(b, "role", TR_STR("assistant"));
    if (s->in_parts) {
        said_raw(b, ",\"content\":[{\"type\":\"thinking\",\"thinking\":[{"
                    "\"type\":\"text\",\"text\":\"" SAID_DECOY "\"}]}");
        said_parts(b, s, "{\"type\":\"text\",\"text\":", "}");
        said_raw(b, "]");
    } else {
        said_string(b, "content", s->text);
    }
    said_raw(b, ",\"refusal\":null},\"logprobs\":null");
    said_string(b, "finish_reason", tr_str_c(s->finish));
    said_raw(b, "},{\"index\":1,\"message\":{\"role\":\"assistant\","
                "\"content\":\"" SAID_DECOY "\"},\"finish_reason\":"
                "\"content_filter\"}],\"usage\":{");
    said_count(b, "prompt_tokens", u->in);
    said_count(b, "completion_tokens", u->out - hidden);
    said_count(b, "total_tokens", u->in + u->out);
    said_raw(b, ",\"prompt_tokens_details\":{");
    said_count(b, "cached_tokens", u->cached);
    said_count(b, "cache_write_tokens", u->cache_write);
    said_count(b, "audio_tokens", 7);
    said_raw(b, "},\"completion_tokens_details\":{");
    said_count(b, "reasoning_tokens", u->reasoning);
    said_count(b, "audio_tokens", 8);
    said_raw(b, "}}");
}

static void said_details(struct tr_buf *b, const struct tr_usage *u)
{
    said_raw(b, ",\"usage\":{");
    said_count(b, "input_tokens", u->in);
    said_raw(b, ",\"input_tokens_details\":{");
    said_count(b, "cached_tokens", u->cached);
    said_count(b, "cache_write_tokens", u->cache_write);
    said_raw(b, "}");
    said_count(b, "output_tokens", u->out);
    said_raw(b, ",\"output_tokens_details\":{");
    said_count(b, "reasoning_tokens", u->reasoning);
    said_raw(b, "}");
    said_count(b, "total_tokens", u->in + u->out);
    said_raw(b, "}");
}

static void said_responses(struct tr_buf *b, const struct said *s)
{
    bool whole = !strchr(s->finish, '_'); /* else why it is incomplete */

    said_string(b, "id", tr_str_c(s->id));
    said_string(b, "status",
                whole ? tr_str_c(s->finish) : TR_STR("incomplete"));
    said_raw(b, ",\"error\":null,\"incomplete_details\":");
    if (whole) {
        said_raw(b, "null");
    } else {
        said_raw(b, "{");
        said_string(b, "reason", tr_str_c(s->finish));
        said_raw(b, "}");
    }
    said_string(b, "model", tr_str_c(s->model));
    said_raw(b, ",\"output\":[");
    if (s->thinks)
        said_raw(b, "{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[{"
                    "\"type\":\"summary_text\",\"text\":\"" SAID_DECOY
                    "\"}],\"content\":[{\"type\":\"output_text\","
                    "\"text\":\"" SAID_DECOY "\"}]}");
    said_comma(b);
    said_raw(b, "{\"id\":\"msg_1\",\"type\":\"message\",\"content\":[");
    said_parts(b, s, "{\"type\":\"output_text\",\"annotations\":[],\"text\":",
               "}");
    said_raw(b, "]}]");
    said_details(b, &s->usage);
}

static void said_anthropic(struct tr_buf *b, const struct said *s)
{
    const struct tr_usage *u = &s->usage;
    int64_t kept = (u->cached > 0 ? u->cached : 0) +
                   (u->cache_write > 0 ? u->cache_write : 0);

    said_string(b, "id", tr_str_c(s->id));
    said_string(b, "type", TR_STR("message"));
    said_string(b, "model", tr_str_c(s->model));
    said_raw(b, ",\"content\":[");
    if (s->thinks)
        said_raw(b, "{\"type\":\"thinking\",\"thinking\":\"" SAID_DECOY
                    "\",\"text\":\"" SAID_DECOY "\",\"signature\":\"Eq\"}");
    said_parts(b, s, "{\"type\":\"text\",\"text\":", "}");
    said_raw(b, "]");
    said_string(b, "stop_reason", tr_str_c(s->finish));
    said_raw(b, ",\"stop_sequence\":null,\"usage\":{");
    said_count(b, "input_tokens", u->in - kept);
    said_count(b, "cache_creation_input_tokens", u->cache_write);
    said_count(b, "cache_read_input_tokens", u->cached);
    said_count(b, "output_tokens", u->out);
    said_raw(b, ",\"output_tokens_details\":{");
    said_count(b, "thinking_tokens", u->reasoning);
    said_raw(b, "}}");
}

static void said_gemini(struct tr_buf *b, const struct said *s)
{
    const struct tr_usage *u = &s->usage;
    int64_t thoughts = u->reasoning >= 0 ? u->reasoning : 0;

    said_raw(b, "\"candidates\":[{\"content\":{\"role\":\"model\","
                "\"parts\":[");
    if (s->thinks)
        said_raw(b, "{\"text\":\"" SAID_DECOY "\",\"thought\":true}");
    said_parts(b, s, "{\"text\":", "}");
    said_raw(b, "]}");
    said_string(b, "finishReason", tr_str_c(s->finish));
    said_raw(b, ",\"index\":0},{\"content\":{\"parts\":[{\"text\":\""
                SAID_DECOY "\"}]},\"finishReason\":\"SAFETY\",\"index\":1}],"
                "\"usageMetadata\":{");
    said_count(b, "promptTokenCount", u->in);
    said_count(b, "cachedContentTokenCount", u->cached);
    said_count(b, "candidatesTokenCount", u->out - thoughts);
    said_count(b, "thoughtsTokenCount", u->reasoning);
    said_count(b, "totalTokenCount", u->in + u->out);
    said_raw(b, "}");
    said_string(b, "modelVersion", tr_str_c(s->model));
    said_string(b, "responseId", tr_str_c(s->id));
}

/* Each question of the call once: by item, and by label where several may
 * apply; the label for none of these is not asked about. */
static void said_answers(struct tr_buf *b, const struct said *s,
                         void (*say)(struct tr_buf *b, const struct said *s,
                                     size_t item, int label))
{
    bool multiple = s->asked && s->asked->multiple;

    for (size_t i = s->items; i-- > 0;)
        for (int label = 0; label < (multiple ? 3 : 1); label++)
            if (!multiple || label != s->asked->none)
                say(b, s, i, multiple ? label : -1);
}

static void said_decision(struct tr_buf *b, const struct said *s, size_t i,
                          int label)
{
    unsigned p = s->p[i][label < 0 ? 0 : label];

    said_comma(b);
    if (label >= 0) {
        tr_buf_addf(b, "{\"type\":\"predicate\",\"name\":\"%u_%d\","
                       "\"probability\":%u.%04u}",
                    s->ids[i], label, p / 10000, p % 10000);
        return;
    }
    tr_buf_addf(b, "{\"type\":\"choice\",\"name\":\"%u\"", s->ids[i]);
    said_string(b, "choice", s->values[i]);
    said_raw(b, ",\"confidence\":0.55555,\"probabilities\":[{\"value\":\""
                SAID_DECOY "\",\"probability\":0.44444},{");
    said_string(b, "value", s->values[i]);
    tr_buf_addf(b, ",\"probability\":%u.%04u}]}", p / 10000, p % 10000);
}

static void said_decisions(struct tr_buf *b, const struct said *s)
{
    said_string(b, "model", tr_str_c(s->model));
    said_raw(b, ",\"answers\":[");
    said_answers(b, s, said_decision);
    said_raw(b, "]");
    said_details(b, &s->usage);
}

static void said_noul(struct tr_buf *b, const struct said *s, size_t i,
                      int label)
{
    unsigned p = s->p[i][label < 0 ? 0 : label];

    said_comma(b);
    if (label >= 0) {
        tr_buf_addf(b, "\"%u_%d\":{\"type\":\"noul\",\"noul\":%u.%04u}",
                    s->ids[i], label, p / 10000, p % 10000);
        return;
    }
    tr_buf_addf(b, "\"%u\":{\"type\":\"choice\"", s->ids[i]);
    said_string(b, "choice", s->values[i]);
    said_raw(b, ",\"confidence\":0.55555,\"probabilities\":{\"" SAID_DECOY
                "\":0.44444,");
    tr_buf_add_json(b, s->values[i]);
    tr_buf_addf(b, ":%u.%04u}}", p / 10000, p % 10000);
}

static void said_systemone(struct tr_buf *b, const struct said *s)
{
    said_string(b, "model", tr_str_c(s->model));
    said_raw(b, ",\"answers\":{");
    said_answers(b, s, said_noul);
    said_raw(b, "}");
    said_details(b, &s->usage);
}

/* How each of them writes, and its words for the end of an answer. */
static const struct said_form {
    const struct tr_dialect *dialect;
    void (*write)(struct tr_buf *b, const struct said *s);
    bool has_id, has_cache_write;
    struct {
        const char *word;
        enum tr_outcome outcome;
    } finishes[8];
} said_forms[] = {
    {&tr_openai, said_openai, true, true,
     {{"stop", TR_OUT_OK},
      {"length", TR_OUT_CUT_SHORT},
      {"content_filter", TR_OUT_REFUSED},
      {"error", TR_OUT_TRANSIENT}}},
    {&tr_responses, said_responses, true, true,
     {{"completed", TR_OUT_OK},
      {"max_output_tokens", TR_OUT_CUT_SHORT},
      {"content_filter", TR_OUT_REFUSED},
      {"cancelled", TR_OUT_TRANSIENT}}},
    {&tr_anthropic, said_anthropic, true, true,
     {{"end_turn", TR_OUT_OK},
      {"max_tokens", TR_OUT_CUT_SHORT},
      {"model_context_window_exceeded", TR_OUT_CUT_SHORT},
      {"refusal", TR_OUT_REFUSED},
      {"pause_turn", TR_OUT_TRANSIENT}}},
    {&tr_gemini, said_gemini, true, false,
     {{"STOP", TR_OUT_OK},
      {"MAX_TOKENS", TR_OUT_CUT_SHORT},
      {"SAFETY", TR_OUT_REFUSED},
      {"RECITATION", TR_OUT_REFUSED},
      {"PROHIBITED_CONTENT", TR_OUT_REFUSED},
      {"OTHER", TR_OUT_TRANSIENT}}},
    {&tr_decisions, said_decisions, false, true, {{"", TR_OUT_OK}}},
    {&tr_systemone, said_systemone, false, true, {{"", TR_OUT_OK}}},
};

/* ---- what is to be said ------------------------------------------------ */

/* All that is text of the input, other bytes as '?'; never blank. */
static void said_text(struct tr_buf *to, struct tr_str s)
{
    tr_buf_addz(to, "T");
    while (s.n && to->n < SAID_TEXT_BYTES) {
        size_t n = fuzz_utf8_valid(
            tr_str(s.p, s.n < SAID_TEXT_BYTES ? s.n : SAID_TEXT_BYTES));

        tr_buf_add(to, s.p, n);
        if (n < s.n)
            tr_buf_addc(to, '?');
        n += n < s.n;
        s = tr_str(s.p + n, s.n - n);
    }
}

/* No letters of which a key could be made: those are redacted. */
static void said_name(struct fuzz_in *in, char *to, const char *begin)
{
    size_t n = strlen(begin), more = 1 + fuzz_draw(in, 12);

    memcpy(to, begin, n);
    while (more--)
        to[n++] = "abcdefgh.-"[fuzz_draw(in, 10)];
    to[n] = '\0';
}

static int64_t said_some(struct fuzz_in *in, int64_t from, size_t span)
{
    int64_t n = from + (int64_t)fuzz_draw(in, span);

    return fuzz_draw(in, 4) ? n : -1;
}

static void said_draw(struct fuzz_in *in, const struct said_form *form,
                      const struct tr_question *asked, struct tr_buf *memory,
                      struct said *s)
{
    size_t ends = 0, finish;
    struct tr_usage *u = &s->usage;

    *s = (struct said){.asked = asked};
    said_text(memory, fuzz_rest(in));
    s->text = tr_buf_str(memory);
    s->cut = fuzz_draw(in, s->text.n + 1);
    while (s->cut < s->text.n && ((unsigned char)s->text.p[s->cut] >> 6) == 2)
        s->cut++;
    u->cached = said_some(in, 1, 1000);
    u->cache_write = form->has_cache_write ? said_some(in, 2000, 1000) : -1;
    u->reasoning = said_some(in, 10000, 1000);
    u->in = 20000 + (int64_t)fuzz_draw(in, 100000);
    u->out = 200000 + (int64_t)fuzz_draw(in, (size_t)1 << 38);
    said_name(in, s->model, "m-");
    said_name(in, s->id, "r_");
    while (form->finishes[ends].word)
        ends++;
    finish = fuzz_draw(in, ends);
    s->finish = form->finishes[finish].word;
    s->outcome = form->finishes[finish].outcome;
    s->thinks = fuzz_draw(in, 2);
    s->in_parts = fuzz_draw(in, 2);
    s->other_sum = fuzz_draw(in, 2);
    s->items = 1 + fuzz_draw(in, SAID_ITEMS);
    for (size_t i = 0; i < s->items; i++) {
        s->ids[i] = (uint32_t)(100 + 300 * i + fuzz_draw(in, 300));
        s->values[i] = tr_str(s->text.p, i % 2 ? s->cut : s->text.n);
        for (size_t k = 0; k < 3; k++)
            s->p[i][k] = (unsigned)fuzz_draw(in, 10001);
    }
}

/* ---- and what was heard ------------------------------------------------ */

/* [417,"refund"], or the labels that are likelier than not. */
static void said_check_item(const struct said *s, size_t i, yyjson_val *one,
                            const struct tr_sure *sure)
{
    const struct tr_question *q = s->asked;
    bool multiple = q && q->multiple;
    unsigned least = multiple ? 10000 : s->p[i][0];
    size_t at = 1;

    CHECK(sure->id == s->ids[i]);
    CHECK(yyjson_get_uint(yyjson_arr_get_first(one)) == s->ids[i]);
    if (!multiple) {
        yyjson_val *value = yyjson_arr_get(one, at++);

        CHECK(tr_str_eq(tr_str(yyjson_get_str(value), yyjson_get_len(value)),
                        s->values[i]));
    }
    for (int k = 0; multiple && k < 3; k++) {
        unsigned p = s->p[i][k];

        if (k == q->none)
            continue;
        if (p >= 5000)
            CHECK(yyjson_equals_strn(yyjson_arr_get(one, at++),
                                     q->labels[k].name.p,
                                     q->labels[k].name.n));
        p = p >= 5000 ? p : 10000 - p;
        least = p < least ? p : least;
    }
    if (multiple && at == 1)
        CHECK(yyjson_equals_strn(yyjson_arr_get(one, at++),
                                 q->labels[q->none].name.p,
                                 q->labels[q->none].name.n));
    CHECK(yyjson_arr_size(one) == at);
    CHECK(sure->confidence == least);
}

static void said_check_items(const struct said *s, const struct tr_reply *reply)
{
    yyjson_doc *doc = yyjson_read(reply->text.p, reply->text.n, 0);
    yyjson_val *all = yyjson_obj_get(yyjson_doc_get_root(doc), "a");

    CHECK(yyjson_arr_size(all) == s->items && reply->sure_count == s->items);
    for (size_t i = 0; i < s->items; i++)
        said_check_item(s, i, yyjson_arr_get(all, i), &reply->sure[i]);
    yyjson_doc_free(doc);
}

static void said_check(const struct said *s, const struct said_form *form,
                       const struct tr_reply *reply)
{
    CHECK(reply->outcome == s->outcome && reply->billing == TR_BILL_USAGE);
    CHECK(memcmp(&reply->usage, &s->usage, sizeof s->usage) == 0);
    CHECK(strcmp(reply->served, s->model) == 0);
    CHECK(strcmp(reply->request_id, form->has_id ? s->id : "") == 0);
    if (form->dialect->decides)
        said_check_items(s, reply);
    else
        CHECK(tr_str_eq(reply->text, s->text));
}

#endif
