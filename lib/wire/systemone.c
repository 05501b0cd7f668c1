/* systemone.c - the dialect of System One: like Decisions, with a map of
 * questions and other words. Local servers and gateways speak it as well.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

static void add_question(struct tr_buf *b, const struct tr_call *call,
                         const struct tr_asked *a)
{
    const struct tr_question *q = call->question;

    tr_buf_addf(b, "\"%s\":{\"type\":\"%s\",\"instructions\":", a->name,
                a->label ? "noul" : "choice");
    tr_questions_words(b, call, a);
    if (!a->label) {
        tr_buf_addz(b, ",\"criteria\":{");
        for (uint32_t i = 0; i < q->label_count; i++) {
            tr_buf_addz(b, i ? "," : "");
            tr_buf_add_json(b, q->labels[i].name);
            tr_buf_addc(b, ':');
            if (q->labels[i].description.n)
                tr_buf_add_json(b, q->labels[i].description);
            else
                tr_buf_addz(b, "null");
        }
        tr_buf_addc(b, '}');
    }
    tr_buf_addc(b, '}');
}

static int encode(const char *model, const struct tr_quirks *q,
                  const struct tr_call *call, struct tr_buf *b,
                  struct tr_err *err)
{
    (void)q;
    return tr_questions_encode(model, call, "state", "{}", add_question, b,
                               err);
}

static void read_answers(struct tr_answers *all, yyjson_val *answers)
{
    yyjson_val *name, *one;
    size_t i, n;

    yyjson_obj_foreach(answers, i, n, name, one) {
        yyjson_val *choice = yyjson_obj_get(one, "choice");
        yyjson_val *p = yyjson_obj_get(one, "probabilities");

        if (yyjson_equals_str(yyjson_obj_get(one, "type"), "refusal")) {
            all->refusals++;
            continue;
        }
        /* "confidence" says how spread they are, which is something else. */
        p = choice ? yyjson_obj_getn(p, yyjson_get_str(choice),
                                     yyjson_get_len(choice))
                   : yyjson_obj_get(one, "noul");
        tr_answers_add(all, tr_str(yyjson_get_str(name), yyjson_get_len(name)),
                       choice, p);
    }
}

static void decode(struct tr_quirks *q, const struct tr_question *asked,
                   const struct tr_http_result *r, struct tr_buf *scratch,
                   struct tr_reply *reply)
{
    (void)q;
    tr_reply_decide(asked, r, scratch, reply, YYJSON_TYPE_OBJ, read_answers);
}

const struct tr_dialect tr_systemone = {
    .name = "systemone",
    .path = "/systemone",
    .key_header = "authorization",
    .decides = true,
    .questions_max = 200,
    .options_max = 255,
    .encode = encode,
    .decode = decode,
};
