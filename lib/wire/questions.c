/* questions.c - what the dialects that decide have in common: texts and labels
 * into questions, answers back into one decision per item.
 *
 * One label per text: one choice per item, named by the item's id. Several:
 * one yes-or-no per item and label, named ID_LABELNUMBER. A single text
 * travels as it is, several as lines [id,"text"].
 *
 * Decisions are handed on as the JSON form of an answer, so that they pass
 * the same checks (task/answer.c) as the words of any model; how sure they
 * are goes beside it.
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- out -------------------------------------------------------------- */

/* The instruction stands once before the texts where there are many questions
 * about each; else in the question. */
static void add_input(struct tr_buf *b, const struct tr_call *call)
{
    const struct tr_question *q = call->question;
    struct tr_buf lines;

    if (call->item_count == 1 && !q->multiple) {
        tr_buf_add_json(b, call->items[0].text);
        return;
    }
    tr_buf_init(&lines, b->max);
    if (q->multiple) {
        tr_buf_adds(&lines, q->instruction);
        tr_buf_addz(&lines, "\n\n");
    }
    for (size_t i = 0; i < call->item_count; i++) {
        tr_buf_addf(&lines, "%s[%u,", i ? "\n" : "", call->items[i].id);
        tr_buf_add_json(&lines, call->items[i].text);
        tr_buf_addc(&lines, ']');
    }
    tr_buf_add_json(b, tr_buf_str(&lines));
    b->failed = b->failed || lines.failed;
    tr_buf_release(&lines);
}

void tr_questions_words(struct tr_buf *b, const struct tr_call *call,
                        const struct tr_asked *a)
{
    struct tr_buf words;

    tr_buf_init(&words, b->max);
    if (a->label) {
        tr_buf_addz(&words, "Does the label ");
        tr_buf_add_json(&words, a->label->name);
        if (a->label->description.n) {
            tr_buf_addz(&words, " (");
            tr_buf_adds(&words, a->label->description);
            tr_buf_addc(&words, ')');
        }
        tr_buf_addf(&words, " apply to the text with the ID %u?", a->item->id);
    } else {
        tr_buf_adds(&words, call->question->instruction);
        if (call->item_count > 1)
            tr_buf_addf(&words, "\n\nDecide about the text with the ID %u "
                                "alone.", a->item->id);
    }
    tr_buf_add_json(b, tr_buf_str(&words));
    b->failed = b->failed || words.failed;
    tr_buf_release(&words);
}

static bool next_question(struct tr_asked *a, const struct tr_call *call)
{
    const struct tr_question *q = call->question;
    uint32_t each = q->multiple ? q->label_count : 1;

    for (; a->at < call->item_count; a->at++, a->next = 0) {
        /* The label for none of these follows from the others. */
        if (q->multiple && q->none >= 0 && a->next == (uint32_t)q->none)
            a->next++;
        if (a->next >= each)
            continue;
        a->item = &call->items[a->at];
        a->label = q->multiple ? &q->labels[a->next] : NULL;
        if (q->multiple)
            snprintf(a->name, sizeof a->name, "%u_%u", a->item->id, a->next);
        else
            snprintf(a->name, sizeof a->name, "%u", a->item->id);
        a->next++;
        return true;
    }
    return false;
}

int tr_questions_encode(const char *model, const struct tr_call *call,
                        const char *input, const char *brackets,
                        void (*add)(struct tr_buf *b,
                                    const struct tr_call *call,
                                    const struct tr_asked *a),
                        struct tr_buf *b, struct tr_err *err)
{
    struct tr_asked asked = {0};
    const char *comma = "";

    tr_buf_addz(b, "{\"model\":");
    tr_buf_add_json(b, tr_str_c(model));
    tr_buf_addf(b, ",\"%s\":", input);
    add_input(b, call);
    tr_buf_addf(b, ",\"questions\":%c", brackets[0]);
    while (next_question(&asked, call)) {
        tr_buf_addz(b, comma);
        add(b, call, &asked);
        comma = ",";
    }
    tr_buf_addf(b, "%c}", brackets[1]);
    return tr_body_encoded(b, err);
}

/* ---- back ------------------------------------------------------------- */

/* One answered question, until all are there. */
struct answered {
    uint32_t id, label;    /* label: its number; of a choice 0 */
    uint16_t probability;  /* 0..10000 */
    struct tr_str value;   /* of a choice: in the parsed body */
};

/* "417" and "417_3"; anything else is nobody's answer. */
static bool read_name(struct tr_str name, bool has_label, struct answered *a)
{
    uint64_t n[2] = {0, 0};
    int at = 0;
    bool digit = false;

    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '_' && has_label && at == 0 && digit) {
            at = 1;
            digit = false;
            continue;
        }
        if (name.p[i] < '0' || name.p[i] > '9' || n[at] > 99999999)
            return false;
        n[at] = 10 * n[at] + (uint64_t)(name.p[i] - '0');
        digit = true;
    }
    a->id = (uint32_t)n[0];
    a->label = (uint32_t)n[1];
    return digit && at == has_label;
}

static uint16_t confidence(yyjson_val *probability)
{
    double p = yyjson_is_num(probability) ? yyjson_get_num(probability) : -1;

    if (!(p >= 0))
        return TR_NO_CONFIDENCE;
    return (uint16_t)((p > 1 ? 1 : p) * 10000 + 0.5);
}

static void begin(struct tr_answers *all, const struct tr_question *asked)
{
    *all = (struct tr_answers){.asked = asked};
    tr_buf_init(&all->found, TR_JSON_TREE_BYTES);
}

void tr_answers_add(struct tr_answers *all, struct tr_str name,
                    yyjson_val *value, yyjson_val *probability)
{
    bool multiple = all->asked && all->asked->multiple;
    struct answered a = {.probability = confidence(probability)};

    if (!read_name(name, multiple, &a))
        return;
    if (multiple && a.probability == TR_NO_CONFIDENCE)
        return;
    if (!multiple && !yyjson_is_str(value))
        return;
    if (!multiple)
        a.value = tr_str(yyjson_get_str(value), yyjson_get_len(value));
    tr_buf_add(&all->found, &a, sizeof a);
}

static int by_item(const void *a, const void *b)
{
    const struct answered *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->label < y->label ? -1 : x->label > y->label;
}

static void say_choice(struct tr_buf *text, struct tr_buf *sure,
                       const struct answered *a)
{
    struct tr_sure s = {a->id, a->probability};

    tr_buf_addf(text, "%s[%u,", sure->n ? "," : "", a->id);
    tr_buf_add_json(text, a->value);
    tr_buf_addc(text, ']');
    tr_buf_add(sure, &s, sizeof s);
}

/* n answers about one item; with one of them missing it has no answer. The
 * decision is as sure as its least sure part. */
static void say_set(struct tr_buf *text, struct tr_buf *sure,
                    const struct tr_question *q, const struct answered *a,
                    size_t n)
{
    uint32_t label = 0, yes = 0;
    struct tr_sure s = {a->id, 10000};

    for (size_t i = 0; i < n; i++, label++) {
        label += q->none >= 0 && label == (uint32_t)q->none;
        if (a[i].label != label)
            return;
    }
    label += q->none >= 0 && label == (uint32_t)q->none;
    if (label != q->label_count)
        return;
    tr_buf_addf(text, "%s[%u", sure->n ? "," : "", a->id);
    for (size_t i = 0; i < n; i++) {
        uint16_t p = a[i].probability;

        if (p >= 5000) {
            tr_buf_addc(text, ',');
            tr_buf_add_json(text, q->labels[a[i].label].name);
            yes++;
        }
        p = p >= 5000 ? p : (uint16_t)(10000 - p);
        s.confidence = p < s.confidence ? p : s.confidence;
    }
    if (!yes) {
        tr_buf_addc(text, ',');
        tr_buf_add_json(text, q->none >= 0 ? q->labels[q->none].name
                                           : TR_STR("-"));
    }
    tr_buf_addc(text, ']');
    tr_buf_add(sure, &s, sizeof s);
}

static void end(struct tr_answers *all, struct tr_buf *scratch,
                struct tr_reply *reply)
{
    const struct tr_question *q = all->asked;
    struct answered *a = (struct answered *)(void *)all->found.p;
    size_t n = all->found.n / sizeof *a, same;
    struct tr_buf sure;
    size_t text_n;

    tr_buf_init(&sure, TR_JSON_TREE_BYTES);
    if (n)
        qsort(a, n, sizeof *a, by_item);
    tr_buf_addz(scratch, "{\"a\":[");
    for (size_t i = 0; i < n; i += same) {
        for (same = 1; i + same < n && a[i + same].id == a[i].id; same++)
            ;
        if (q && q->multiple) {
            say_set(scratch, &sure, q, a + i, same);
            continue;
        }
        for (size_t k = 0; k < same; k++)
            say_choice(scratch, &sure, &a[i + k]);
    }
    tr_buf_addz(scratch, "]}");
    text_n = scratch->n;
    /* Behind the text, where its alignment is right. */
    while (tr_buf_ok(scratch) && scratch->n % sizeof(struct tr_sure))
        tr_buf_addc(scratch, ' ');
    tr_buf_add(scratch, sure.p, sure.n);
    if (!tr_buf_ok(scratch) || !tr_buf_ok(&sure) || !tr_buf_ok(&all->found)) {
        tr_reply_set(reply, TR_OUT_GARBLED, "no memory for the answers");
    } else if (!sure.n && all->refusals) {
        tr_reply_set(reply, TR_OUT_REFUSED, "the model refused to decide");
    } else {
        tr_reply_set(reply, TR_OUT_OK, sure.n ? "" : "no question is answered");
        reply->text = tr_str(scratch->p, text_n);
        reply->sure_count = sure.n / sizeof(struct tr_sure);
        reply->sure = (const struct tr_sure *)(const void *)(
            scratch->p + scratch->n - sure.n);
    }
    tr_buf_release(&sure);
    tr_buf_release(&all->found);
}

void tr_reply_decide(const struct tr_question *asked,
                     const struct tr_http_result *r, struct tr_buf *scratch,
                     struct tr_reply *reply, yyjson_type type,
                     void (*read)(struct tr_answers *all, yyjson_val *answers))
{
    struct tr_str body = tr_reply_body(r->body);
    struct tr_answers all;
    struct tr_wire_error e;
    yyjson_val *root, *answers;
    yyjson_doc *doc;

    if (!tr_reply_begin(r, scratch, reply)) {
        tr_reply_error(r, &e, reply);
        return;
    }
    doc = tr_json_read(body);
    root = yyjson_doc_get_root(doc);
    answers = yyjson_obj_get(root, "answers");
    if (yyjson_is_obj(root)) {
        tr_usage_of_responses(&reply->usage, yyjson_obj_get(root, "usage"));
        tr_json_copy(reply->served, sizeof reply->served,
                     yyjson_obj_get(root, "model"));
    }
    if (tr_json_is_something(yyjson_obj_get(root, "error"))) {
        tr_reply_error_in_200(r, root, reply);
    } else if (yyjson_get_type(answers) != type) {
        tr_reply_garbled(body, "decisions", reply);
    } else {
        begin(&all, asked);
        read(&all, answers);
        end(&all, scratch, reply);
    }
    yyjson_doc_free(doc);
}
