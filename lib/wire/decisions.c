/* decisions.c - the dialect of OpenAI's Decisions: questions with labels in,
 * probabilities out.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

static void add_question(struct tr_buf *b, const struct tr_call *call,
                         const struct tr_asked *a)
{
    const struct tr_question *q = call->question;

    tr_buf_addf(b, "{\"type\":\"%s\",\"name\":\"%s\",\"instructions\":",
                a->label ? "predicate" : "choice", a->name);
    tr_questions_words(b, call, a);
    if (!a->label) {
        tr_buf_addz(b, ",\"choices\":[");
        for (uint32_t i = 0; i < q->label_count; i++) {
            tr_buf_addz(b, i ? ",{\"value\":" : "{\"value\":");
            tr_buf_add_json(b, q->labels[i].name);
            if (q->labels[i].description.n) {
                tr_buf_addz(b, ",\"description\":");
                tr_buf_add_json(b, q->labels[i].description);
            }
            tr_buf_addc(b, '}');
        }
        tr_buf_addc(b, ']');
    }
    tr_buf_addc(b, '}');
}

static int encode(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *b,
                  struct tr_err *err)
{
    (void)q;
    return tr_questions_encode(model, call, "input", "[]", add_question, b,
                               err);
}

/* The probability of what was chosen: "confidence" says how spread they are,
 * which is something else. */
static yyjson_val *chosen(yyjson_val *answer)
{
    yyjson_val *choice = yyjson_obj_get(answer, "choice"), *one;
    size_t i, n;

    yyjson_arr_foreach(yyjson_obj_get(answer, "probabilities"), i, n, one) {
        if (yyjson_equals(yyjson_obj_get(one, "value"), choice))
            return yyjson_obj_get(one, "probability");
    }
    return NULL;
}

static void read_answers(struct tr_answers *all, yyjson_val *answers)
{
    yyjson_val *one;
    size_t i, n;

    yyjson_arr_foreach(answers, i, n, one) {
        yyjson_val *type = yyjson_obj_get(one, "type");
        yyjson_val *name = yyjson_obj_get(one, "name");
        yyjson_val *choice = yyjson_obj_get(one, "choice");

        if (yyjson_equals_str(type, "refusal"))
            all->refusals++;
        else
            tr_answers_add(all, tr_str(yyjson_get_str(name),
                                       yyjson_get_len(name)),
                           choice, choice ? chosen(one)
                                          : yyjson_obj_get(one, "probability"));
    }
}

static void decode(struct tr_quirks *q, const struct tr_question *asked,
                   const struct tr_http_result *r, struct tr_buf *scratch,
                   struct tr_reply *reply)
{
    (void)q;
    tr_reply_decide(asked, r, scratch, reply, YYJSON_TYPE_ARR, read_answers);
}

const struct tr_dialect tr_decisions = {
    .name = "decisions",
    .path = "/decisions",
    .key_header = "authorization",
    .decides = true,
    .questions_max = 200,
    .options_max = 255,
    .encode = encode,
    .decode = decode,
};
