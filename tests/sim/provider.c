/* provider.c - a provider that answers from the gold labels, misbehaves as
 * told, and keeps its own bill.
 *
 * It knows nothing of the engine: it reads the bytes of a request, as a server
 * would, and all it decides comes from them, the world's generator and its
 * own counters.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memmem */
#include "sim.h"

#include "engine/engine.h"
#include "fake/gullible.h"

#include <inttypes.h>
#include <stdio.h>
#include <yyjson.h>

enum {
    ITEMS_MAX = 512, FLIGHTS_MAX = 2100, LABEL_BYTES = 16,
    LONG_WAIT_S = 900, /* as wire/reply.c has it */
    TOLD_OFF_MOST = 20 /* in one world */
};

static struct sim_provider *provider_of(struct tr_transport *t)
{
    return (struct sim_provider *)t;
}

static struct sim_flight *flights_end(struct sim *w)
{
    while (w->flight_end && w->flights[w->flight_end - 1].stage == FREE)
        w->flight_end--;
    return w->flights + w->flight_end;
}

void sim_flight_free(struct sim_flight *f)
{
    tr_free(f->items);
    tr_free(f->headers);
    tr_free(f->body);
    *f = (struct sim_flight){0};
}

/* ---- reading the request ------------------------------- */

static void read_items(struct sim *w, struct sim_flight *f, struct tr_str user)
{
    f->items = tr_array(ITEMS_MAX, sizeof *f->items);
    while (user.n) {
        const char *end = memchr(user.p, '\n', user.n);
        size_t n = end ? (size_t)(end - user.p) : user.n;
        yyjson_doc *doc = NULL;
        yyjson_val *id, *text;

        if (n > 2 && user.p[0] == '[' && f->n < ITEMS_MAX)
            doc = yyjson_read(user.p, n, 0);
        if (doc) {
            struct sim_text *t;
            struct sim_item *it = &f->items[f->n];

            id = yyjson_arr_get(yyjson_doc_get_root(doc), 0);
            text = yyjson_arr_get(yyjson_doc_get_root(doc), 1);
            t = sim_text_find(w, tr_str(yyjson_get_str(text),
                                        yyjson_get_len(text)));
            if (t) {
                *it = (struct sim_item){.text = (int)(t - w->texts),
                                    .id = (uint32_t)yyjson_get_uint(id)};
                f->n++;
            } else {
                sim_fail(w, "request", "a text was sent that no row has");
            }
            yyjson_doc_free(doc);
        }
        user = tr_str(user.p + n + (end != NULL), user.n - n - (end != NULL));
    }
    if (f->n == 0)
        sim_fail(w, "request", "a request without items");
}

void sim_read_request(struct sim *w, struct sim_flight *f, struct tr_str body)
{
    yyjson_doc *doc = yyjson_read(body.p, body.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc), *message, *cap;
    size_t i, max;

    if (!doc) {
        sim_fail(w, "request", "the body is not JSON");
        return;
    }
    f->content_bytes += (int64_t)yyjson_get_len(yyjson_obj_get(root, "system"));
    yyjson_arr_foreach(yyjson_obj_get(root, "system"), i, max, message)
        f->content_bytes +=
            (int64_t)yyjson_get_len(yyjson_obj_get(message, "text"));
    yyjson_arr_foreach(yyjson_obj_get(root, "messages"), i, max, message) {
        yyjson_val *content = yyjson_obj_get(message, "content");
        struct tr_str s =
            tr_str(yyjson_get_str(content), yyjson_get_len(content));

        f->content_bytes += (int64_t)s.n;
        if (yyjson_equals_str(yyjson_obj_get(message, "role"), "user")) {
            read_items(w, f, s);
            f->json = s.n > 9 && memmem(s.p, s.n, ", as JSON", 9) != NULL;
        }
    }
    cap = yyjson_obj_get(root, "max_completion_tokens");
    f->sends_new_cap = cap != NULL;
    if (!cap)
        cap = yyjson_obj_get(root, "max_tokens");
    f->cap = yyjson_get_sint(cap);
    yyjson_doc_free(doc);
}

/* ---- answering ------------------------------- */

static void reply(struct sim_flight *f, int status, const char *body)
{
    f->net = TR_NET_OK;
    f->sent = true;
    f->status = status;
    f->body_n = strlen(body);
    f->body = tr_dup(body, f->body_n);
}

static void refuse(struct sim_flight *f, int status, const char *type,
                   const char *code, const char *message)
{
    char body[400];

    snprintf(body, sizeof body,
             "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,"
             "\"code\":\"%s\"}}", message, type, code);
    reply(f, status, body);
}

static void state_one(struct sim *w, struct tr_buf *out,
                      const struct sim_flight *f, uint32_t id, uint32_t mask,
                      bool nonsense, bool upper)
{
    char label[SIM_LABELS_MAX * LABEL_BYTES + 1] = "";
    size_t n = 0;
    const char *between = f->json ? "\",\"" : "|";

    for (int l = 0; l < w->o.labels; l++)
        if (mask & 1u << l)
            n += (size_t)snprintf(label + n, sizeof label - n, "%s%s",
                                  n ? between : "", w->label_names[l]);
    if (nonsense)
        snprintf(label, sizeof label, "no such label");
    else if (n == 0)
        snprintf(label, sizeof label, "-");
    for (char *c = label; upper && *c; c++)
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
    if (f->json)
        tr_buf_addf(out, "%s[%u,\"%s\"]", out->n > 6 ? "," : "", id, label);
    else
        tr_buf_addf(out, "%u %s\n", id, label);
}

static uint32_t another(struct sim *w, uint32_t mask)
{
    uint32_t all = 1u << w->o.labels, other;

    do
        other = w->o.multiple ? (uint32_t)tr_rng_below(&w->rng, all)
                              : 1u << tr_rng_below(&w->rng,
                                                   (uint64_t)w->o.labels);
    while (other == mask);
    return other;
}

static uint32_t unused_id(struct sim *w, const struct sim_flight *f)
{
    for (;;) {
        uint32_t id = 100 + (uint32_t)tr_rng_below(&w->rng, 900);
        int i = 0;

        while (i < f->n && f->items[i].id != id)
            i++;
        if (i == f->n)
            return id;
    }
}

static bool strikes(struct sim *w, enum sim_site fault)
{
    int rate = (int)fault < RATES ? w->o.rate[fault]
                             : w->o.batch_rate[fault - B_UNREACHED];

    return sim_strike(w, fault, rate * 1000, 1) != 0;
}

/* What the model thinks that was put in the place of the first one. */
static uint32_t second_opinion(const struct sim *w, int text)
{
    struct tr_rng rng = {sim_stream(w->o.seed, 1000000 + (uint64_t)text)};
    uint32_t mask = w->texts[text].gold;

    if ((int)tr_rng_below(&rng, 100) >= w->o.swap_pct)
        return mask;
    do /* of several labels it says one */
        mask = 1u << tr_rng_below(&rng, (uint64_t)w->o.labels);
    while (mask == w->texts[text].gold);
    return mask;
}

/* What it thinks of each text, and what the texts make of that. */
static int think(struct sim *w, const struct sim_flight *f, uint32_t *masks,
                 bool *dropped, uint32_t *more_ids, uint32_t *more_masks)
{
    int texts[ITEMS_MAX];
    uint32_t ids[ITEMS_MAX];

    for (int i = 0; i < f->n; i++) {
        const struct sim_text *t = &w->texts[f->items[i].text];

        texts[i] = f->items[i].text;
        ids[i] = f->items[i].id;
        dropped[i] = false;
        masks[i] = t->moody && sim_chance(w, 300) ? another(w, t->gold)
                                                  : t->gold;
        if (w->swapped_at)
            masks[i] = second_opinion(w, texts[i]);
    }
    w->judged += f->n;
    if (w->o.swap_after && w->judged >= w->o.swap_after && !w->swapped_at)
        w->swapped_at = sim_settled(w);
    return w->o.hostile ? sim_obey(w, texts, ids, f->n, masks, dropped,
                                   more_ids, more_masks) : 0;
}

/* The words of the answer, and what of them may be believed. */
static void answer(struct sim *w, struct sim_flight *f, struct tr_buf *out,
                   bool *cut)
{
    int order[ITEMS_MAX];
    bool reorder = strikes(w, F_REORDER), prose = strikes(w, F_PROSE);
    bool upper = strikes(w, F_CASE), foreign = strikes(w, F_FOREIGN);
    bool doubles = strikes(w, F_DOUBLE), missing = strikes(w, F_MISSING);
    bool bad = strikes(w, F_BAD_LABEL), mislabel = strikes(w, F_MISLABEL);
    bool voided = false; /* what it says twice or of others spoils it all */
    int hit = (int)tr_rng_below(&w->rng, (uint64_t)f->n);
    size_t keep, cap_bytes = (size_t)(f->cap > 0 ? f->cap : 100000) * 3;
    uint32_t masks[ITEMS_MAX], more_ids[GULLIBLE_ORDERS];
    uint32_t more_masks[GULLIBLE_ORDERS];
    bool dropped[ITEMS_MAX];
    int more = think(w, f, masks, dropped, more_ids, more_masks);

    *cut = strikes(w, F_TRUNCATE);
    if (*cut)
        prose = foreign = doubles = false;
    if (*cut)
        more = 0;
    for (int i = 0; i < f->n; i++)
        order[i] = i;
    for (int i = 0; reorder && i + 1 < f->n; i++) {
        int k = i + (int)tr_rng_below(&w->rng, (uint64_t)(f->n - i));
        int t = order[i];

        order[i] = order[k];
        order[k] = t;
    }
    if (f->json)
        tr_buf_addz(out, "{\"a\":[");
    for (int k = 0; k < f->n; k++) {
        struct sim_item *it = &f->items[order[k]];
        bool here = order[k] == hit || (missing && sim_chance(w, 200));
        bool nonsense = (here && bad) || w->texts[it->text].at[f->p->place]
                                                 .kind == K_CONFUSING;

        it->mask = masks[order[k]];
        it->states = it->usable = true;
        if ((here && missing) || dropped[order[k]]) {
            it->states = it->usable = false;
            it->silent = true;
            continue;
        }
        if (here && mislabel)
            it->mask = another(w, it->mask);
        state_one(w, out, f, it->id, it->mask, nonsense, upper);
        if (nonsense) {
            it->states = it->usable = false;
        } else if (here && doubles) {
            state_one(w, out, f, it->id, another(w, it->mask), false, false);
            voided = true;
        }
        if (upper || prose)
            it->usable = false; /* may be taken, may be asked again */
    }
    for (int k = 0; k < more; k++) {
        struct sim_item *same = NULL;

        for (int i = 0; i < f->n; i++)
            if (f->items[i].id == more_ids[k])
                same = &f->items[i];
        state_one(w, out, f, more_ids[k], more_masks[k], false, false);
        /* Said twice alike is fine; of others, or otherwise, is not. After
         * nonsense it counts for nothing; for want of more it is the answer. */
        if (!same) {
            voided = true;
        } else if (same->silent) {
            same->silent = false;
            same->mask = more_masks[k];
            same->states = true;
        } else if (same->states) {
            voided = voided || same->mask != more_masks[k];
        }
    }
    if (foreign) {
        state_one(w, out, f, unused_id(w, f), 1, false, false);
        voided = true;
    }
    if (f->json)
        tr_buf_addz(out, "]}");
    if (voided)
        for (int i = 0; i < f->n; i++)
            f->items[i].states = f->items[i].usable = false;

    keep = *cut ? (size_t)tr_rng_below(&w->rng, out->n + 1) : out->n;
    if (keep > cap_bytes) {
        keep = cap_bytes;
        *cut = true;
    }
    if (!*cut) {
        struct tr_buf framed;

        if (!prose)
            return;
        tr_buf_init(&framed, 0);
        tr_buf_addz(&framed, "Here are the labels:\n\n");
        if (f->json)
            tr_buf_addz(&framed, "```json\n");
        tr_buf_adds(&framed, tr_buf_str(out));
        tr_buf_addz(&framed, f->json ? "\n```\n" : "\n");
        tr_buf_addz(&framed, "Let me know if I can help with more.\n");
        tr_buf_clear(out);
        tr_buf_adds(out, tr_buf_str(&framed));
        tr_buf_release(&framed);
        return;
    }
    /* What stands whole before the cut is true; a cut pair is nothing. */
    out->n = keep;
    for (int i = 0; i < f->n; i++) {
        struct sim_item *it = &f->items[i];
        char start[16];
        const char *at, *end;
        int n = snprintf(start, sizeof start, f->json ? "[%u," : "%u ",
                         it->id);

        at = out->n ? memmem(out->p, out->n, start, (size_t)n) : NULL;
        end = at ? memchr(at, f->json ? ']' : '\n',
                          out->n - (size_t)(at - out->p))
                 : NULL;
        if (!end)
            it->states = it->usable = false;
        if (f->json)
            it->usable = false;
    }
}

void sim_charge(struct sim *w, const struct sim_flight *f, int purse,
                int64_t n)
{
    w->bill[purse] += n;
    w->account_bill[f->account][purse] += n;
    w->period_bill[f->period][purse] += n;
    sim_check_bill(w, f->period);
}

static void bill(struct sim_provider *p, const struct sim_flight *f,
                 int64_t in, int64_t out)
{
    int64_t pico = in * p->facts.price_in + out * p->facts.price_out;

    pico = pico * f->pct / 100;
    if (p->w->o.priced)
        sim_charge(p->w, f, TR_PURSE_NANO, (pico + 999) / 1000);
    sim_charge(p->w, f, TR_PURSE_TOKENS, in + out);
}

/* The same in another vendor's words. */
static void complete_anthropic(struct sim *w, struct sim_flight *f,
                               struct tr_str text, const char *finish,
                               int64_t in, int64_t out)
{
    const char *stop = strcmp(finish, "stop") == 0 ? "end_turn"
                       : strcmp(finish, "length") == 0 ? "max_tokens"
                                                       : "refusal";
    struct tr_buf b;

    tr_buf_init(&b, 0);
    tr_buf_addz(&b, "{\"id\":\"msg_1\",\"type\":\"message\","
                    "\"role\":\"assistant\",\"model\":\"sim-1-2026\","
                    "\"stop_reason\":");
    tr_buf_add_json(&b, tr_str_c(stop));
    tr_buf_addz(&b, ",\"content\":[{\"type\":\"text\",\"text\":");
    tr_buf_add_json(&b, text);
    tr_buf_addz(&b, "}]");
    if (!strikes(w, F_NO_USAGE))
        tr_buf_addf(&b, ",\"usage\":{\"input_tokens\":%" PRId64
                        ",\"output_tokens\":%" PRId64 "}", in, out);
    tr_buf_addz(&b, "}");
    reply(f, 200, b.p);
    tr_buf_release(&b);
}

static bool in_batch(const struct sim_flight *f)
{
    return f->p->w->o.batch && f->p->place == 0;
}

static void complete(struct sim *w, struct sim_flight *f, struct tr_str text,
                     const char *finish, int64_t in, int64_t out)
{
    struct tr_buf b;

    if (in_batch(f) && w->o.batch == SIM_ANTHROPIC) {
        complete_anthropic(w, f, text, finish, in, out);
        return;
    }
    tr_buf_init(&b, 0);
    tr_buf_addz(&b, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\","
                    "\"model\":\"sim-1-2026\",\"choices\":[{\"index\":0,"
                    "\"finish_reason\":");
    tr_buf_add_json(&b, tr_str_c(finish));
    tr_buf_addz(&b, ",\"message\":{\"role\":\"assistant\",\"content\":");
    tr_buf_add_json(&b, text);
    tr_buf_addz(&b, "}}]");
    f->usage = strikes(w, F_NO_USAGE) ? -1 : in + out;
    if (f->usage >= 0)
        tr_buf_addf(&b, ",\"usage\":{\"prompt_tokens\":%" PRId64
                        ",\"completion_tokens\":%" PRId64
                        ",\"total_tokens\":%" PRId64 "}", in, out, in + out);
    tr_buf_addz(&b, "}");
    reply(f, 200, b.p);
    tr_buf_release(&b);
}

static enum sim_kind worst(const struct sim *w, const struct sim_flight *f)
{
    enum sim_kind found = K_PLAIN;

    for (int i = 0; i < f->n; i++) {
        enum sim_kind kind = w->texts[f->items[i].text].at[f->p->place].kind;

        if (kind == K_CRASHER && !w->faults_on)
            continue; /* the server was mended */
        if (kind >= K_BLOCKED && kind > found)
            found = kind;
    }
    return found;
}

/* Its own limit: a bucket. False: not now. */
static bool admit(struct sim_provider *p, struct tr_buf *headers)
{
    const struct sim_lane_options *o = p->o;
    double rate = o->hidden_rpm / 60, size = rate * o->hidden_burst_s;
    int64_t now = p->w->now;
    bool ok;

    if (rate <= 0)
        return true;
    if (o->lowered_pct && now - SIM_START >= o->lowered_at_s * TR_S) {
        rate *= o->lowered_pct / 100.0;
        size *= o->lowered_pct / 100.0;
    }
    if (size < 1)
        size = 1;
    if (o->frame_s) {
        int64_t frame = (now - SIM_START) / (o->frame_s * TR_S) + 1;

        if (frame != p->frame)
            p->hidden_level = rate * o->frame_s;
        p->frame = frame;
        p->hidden_level -= p->hidden_level >= 1;
        return p->hidden_level >= 1;
    }
    p->hidden_level += rate * (double)(now - p->hidden_at) / TR_S;
    if (p->hidden_level > size)
        p->hidden_level = size;
    p->hidden_at = now;
    ok = p->hidden_level >= 1;
    if (ok)
        p->hidden_level -= 1;
    if (p->o->headers) {
        tr_buf_addf(headers, "x-ratelimit-limit-requests: %d\n",
                    (int)p->o->hidden_rpm);
        tr_buf_addf(headers, "x-ratelimit-remaining-requests: %d\n",
                    (int)(p->o->hidden_rpm - size + p->hidden_level));
        tr_buf_addf(headers, "x-ratelimit-reset-requests: %dms\n",
                    (int)((size - p->hidden_level) / rate * 1000));
    }
    if (!ok && p->o->retry_after)
        tr_buf_addf(headers, "retry-after: %.3f\n",
                    (1 - p->hidden_level) / rate);
    return ok;
}

/* Its limit of tokens, in a bucket as well. A request counts with all that it
 * may answer, but never more than the bucket holds. */
static bool admit_tokens(struct sim_provider *p, const struct sim_flight *f,
                         struct tr_buf *headers)
{
    const struct sim_lane_options *o = p->o;
    double rate = o->hidden_tpm / 60, size = rate * o->hidden_burst_s;
    double cost = (double)(sim_tokens_in(f) + f->cap);
    bool ok;

    if (rate <= 0)
        return true;
    if (cost > size)
        cost = size;
    p->tokens_level += rate * (double)(p->w->now - p->tokens_at) / TR_S;
    if (p->tokens_level > size)
        p->tokens_level = size;
    p->tokens_at = p->w->now;
    ok = p->tokens_level >= cost;
    if (ok)
        p->tokens_level -= cost;
    if (o->headers) {
        tr_buf_addf(headers, "x-ratelimit-limit-tokens: %d\n",
                    (int)o->hidden_tpm);
        tr_buf_addf(headers, "x-ratelimit-remaining-tokens: %d\n",
                    (int)(o->hidden_tpm - size + p->tokens_level));
        tr_buf_addf(headers, "x-ratelimit-reset-tokens: %dms\n",
                    (int)((size - p->tokens_level) / rate * 1000));
    }
    if (!ok && o->retry_after)
        tr_buf_addf(headers, "retry-after: %.3f\n",
                    (cost - p->tokens_level) / rate);
    p->w->marks[M_TOKENS_REFUSED] += !ok;
    return ok;
}

/* Its credit, or its day: used up for some time, or until a person pays. */
bool sim_quota_is_gone(struct sim_provider *p)
{
    struct sim *w = p->w;
    const struct sim_lane_options *o = p->o;

    if (p->quota_gone && w->now >= p->quota_back_at) {
        p->quota_gone = false;
        p->requests = 0;
    }
    if (o->quota_after && p->requests > o->quota_after && w->faults_on &&
        !p->quota_gone) {
        p->quota_gone = true;
        p->quota_back_at = o->quota_for_s ? w->now + o->quota_for_s * TR_S
                                          : TR_NEVER;
    }
    return p->quota_gone;
}

static void refuse_quota(struct sim_provider *p, struct sim_flight *f,
                         struct tr_buf *headers)
{
    /* A day that ends soon is no more than a pause. */
    f->quota = !p->o->quota_is_day || p->quota_back_at == TR_NEVER ||
               (p->quota_back_at - p->w->now) / TR_S + 1 >= LONG_WAIT_S;
    f->excused = true;
    if (!p->o->quota_is_day && p->o->says_402) {
        p->w->marks[M_UNPAID]++;
        refuse(f, 402, "billing_error", "payment_required",
               "Your account has no credit left.");
        return;
    }
    if (!p->o->quota_is_day) {
        refuse(f, 429, "insufficient_quota", "insufficient_quota",
               "You exceeded your current quota, please check your plan and "
               "billing details.");
        return;
    }
    if (p->quota_back_at != TR_NEVER)
        tr_buf_addf(headers, "retry-after: %" PRId64 "\n",
                    (p->quota_back_at - p->w->now) / TR_S + 1);
    refuse(f, 429, "requests", "rate_limit_exceeded",
           "Rate limit reached for requests per day (RPD)");
}

/* Up to twenty minutes, a day, or ten days and more; not for ever. */
static bool tells_off(struct sim *w, struct sim_flight *f,
                      struct tr_buf *headers)
{
    static const int64_t spans[] = {1200, 86400, 1000000};
    int64_t s = sim_strike(w, S_TOLD_OFF, w->o.long_retry_after * 1000,
                           1000000);

    if (!s || w->told_off >= TOLD_OFF_MOST)
        return false;
    w->told_off++;
    f->wait_s = 60 + s % spans[s % 3];
    f->excused = true;
    tr_buf_addf(headers, "retry-after: %" PRId64 "\n", f->wait_s);
    refuse(f, 429, "requests", "rate_limit_exceeded",
           "Rate limit reached for requests");
    return true;
}

/* The key: revoked, or taken for another for once. */
static bool refuse_key(struct sim_provider *p, struct sim_flight *f)
{
    struct sim *w = p->w;
    bool stray;

    if (p->o->key_refused_after && p->requests > p->o->key_refused_after &&
        w->faults_on)
        p->key_refused = true;
    stray = sim_strike(w, S_STRAY, w->o.stray_refusal * 1000, 1) != 0;
    if (!stray && !p->key_refused)
        return false;
    f->excused = true;
    if (p->requests % 2)
        refuse(f, 401, "invalid_request_error", "invalid_api_key",
               "Incorrect API key provided.");
    else
        refuse(f, 403, "permission_error", "forbidden",
               "This key may not use this model.");
    return true;
}

/* Whether it is refused for what it is, wherever it came from. */
static bool refuse_request(struct sim *w, struct sim_flight *f, int64_t in,
                           enum sim_kind poison)
{
    const struct sim_lane_options *o = f->p->o;

    if (o->old_cap && f->sends_new_cap) {
        w->marks[M_ADAPTED]++;
        f->excused = true;
        reply(f, 400,
              "{\"error\":{\"message\":\"Unsupported parameter: "
              "'max_completion_tokens' is not supported with this model. Use "
              "'max_tokens' instead.\",\"type\":\"invalid_request_error\","
              "\"param\":\"max_completion_tokens\","
              "\"code\":\"unsupported_parameter\"}}");
    } else if (o->context && in + f->cap > o->context) {
        w->marks[M_TOO_BIG]++;
        refuse(f, 400, "invalid_request_error", "context_length_exceeded",
               "This model's maximum context length is exceeded.");
    } else if (poison == K_REJECTED) {
        refuse(f, 400, "invalid_request_error", "invalid_value",
               "Invalid content in the request.");
    } else {
        return false;
    }
    return true;
}

static void answer_blocked(struct sim *w, struct sim_flight *f, int64_t in)
{
    bill(f->p, f, in, 1);
    f->blocked = f->judged = true;
    complete(w, f, TR_STR(""), "content_filter", in, 1);
}

static void answer_whole(struct sim *w, struct sim_flight *f,
                         struct tr_buf *text, int64_t in)
{
    bool cut = false;
    int64_t out;

    answer(w, f, text, &cut);
    f->judged = !cut;
    out = (int64_t)text->n / 3 + 1;
    if (f->cap > 0 && out > f->cap)
        out = f->cap;
    bill(f->p, f, in, out);
    complete(w, f, tr_buf_str(text), cut ? "length" : "stop", in, out);
}

static void say_nothing(struct sim_flight *f)
{
    for (int i = 0; i < f->n; i++)
        f->items[i].states = f->items[i].usable = false;
}

void sim_work(struct sim *w, struct sim_flight *f)
{
    enum sim_kind poison = worst(w, f);
    struct tr_buf text;

    tr_buf_init(&text, 0);
    sim_charge(w, f, TR_PURSE_REQUESTS, 1);
    if (refuse_request(w, f, sim_tokens_in(f), poison)) {
        say_nothing(f);
    } else if (strikes(w, L_ERROR) || poison == K_CRASHER) {
        refuse(f, 500, "server_error", "internal_error",
               "The server had an error while processing your request.");
    } else if (strikes(w, L_EMPTY)) {
        sim_bill_some(w, f);
        reply(f, 200, "{}");
    } else if (poison) {
        answer_blocked(w, f, sim_tokens_in(f));
    } else {
        answer_whole(w, f, &text, sim_tokens_in(f));
    }
    tr_buf_release(&text);
}

void sim_bill_some(struct sim *w, struct sim_flight *f)
{
    if (tr_rng_below(&w->rng, 2))
        bill(f->p, f, sim_tokens_in(f), 1);
}

static int minute_of(const struct sim *w)
{
    int64_t minute = (w->now - SIM_START) / (60 * TR_S);

    if (minute < 0) /* a script that is played begins at 0 */
        return 0;
    return (int)(minute < SIM_MINUTES ? minute : SIM_MINUTES - 1);
}

/* A brown-out: some requests fail, whatever their texts and the pace. */
static bool is_brown(const struct sim_provider *p)
{
    const struct sim_lane_options *o = p->o;
    int64_t since = p->w->now - SIM_START - o->brown_at_s * TR_S;

    return o->brown_pct && since >= 0 && since < o->brown_s * TR_S &&
           sim_chance(p->w, o->brown_pct * 10);
}

/* The request has arrived: what becomes of it is decided at once. */
static void process(struct sim *w, struct sim_flight *f)
{
    int64_t in = sim_tokens_in(f), slow;
    enum sim_kind poison = worst(w, f);
    struct sim_provider *p = f->p;
    const struct sim_lane_options *o = p->o;
    struct tr_buf text, headers;
    bool outage;
    int64_t since = w->now - SIM_START;

    sim_door_note(p, f);
    tr_buf_init(&text, 0);
    tr_buf_init(&headers, 0);
    slow = (int64_t)(o->latency_ms * (0.5 + tr_rng_unit(&w->rng))) + 1;
    if (sim_chance(w, 20))
        slow *= 10;
    if (o->steady)
        slow = o->latency_ms;
    f->back_at = w->now + slow * TR_MS;
    p->requests++;
    w->asked[minute_of(w)]++;
    sim_charge(w, f, TR_PURSE_REQUESTS, 1);
    if (o->gone_after && p->requests > o->gone_after && w->faults_on)
        p->model_gone = true;
    outage = o->outage_at_s && w->faults_on &&
             since >= o->outage_at_s * TR_S &&
             since < (o->outage_at_s + o->outage_s) * TR_S;

    if (p->model_gone) {
        refuse(f, 404, "invalid_request_error", "model_not_found",
               "The model `sim` does not exist or you do not have access to "
               "it.");
    } else if (refuse_key(p, f)) {
        ;
    } else if (sim_quota_is_gone(p)) {
        refuse_quota(p, f, &headers);
    } else if (outage) {
        f->excused = true;
        refuse(f, 503, "server_error", "overloaded", "Service Unavailable");
    } else if (!admit(p, &headers)) {
        f->excused = true;
        w->marks[M_REFUSED_FOR_PACE]++;
        refuse(f, 429, "requests", "rate_limit_exceeded",
               "Rate limit reached for requests");
    } else if (!admit_tokens(p, f, &headers)) {
        f->excused = true;
        refuse(f, 429, "tokens", "rate_limit_exceeded",
               "Rate limit reached for tokens per min (TPM)");
    } else if (is_brown(p)) {
        f->excused = o->brown_status != 500;
        refuse(f, o->brown_status, "server_error", "overloaded",
               "The server is overloaded or not ready yet.");
    } else if (strikes(w, F_THROTTLE)) {
        f->excused = true;
        refuse(f, 429, "requests", "rate_limit_exceeded",
               "Rate limit reached for requests");
    } else if (strikes(w, F_ERROR_503)) {
        f->excused = true;
        refuse(f, 503, "server_error", "overloaded", "Service Unavailable");
    } else if (tells_off(w, f, &headers) || refuse_request(w, f, in, poison)) {
        ;
    } else if (strikes(w, F_ERROR_500) ||
               poison == K_CRASHER) {
        sim_bill_some(w, f);
        refuse(f, 500, "server_error", "internal_error",
               "The server had an error while processing your request.");
    } else if (strikes(w, F_HTML)) {
        sim_bill_some(w, f);
        reply(f, 200, "<html><body>Please sign in</body></html>");
    } else if (poison) {
        answer_blocked(w, f, in);
    } else {
        answer_whole(w, f, &text, in);
        if (strikes(w, F_CUT)) {
            f->net = TR_NET_CUT;
        } else if (strikes(w, F_HANG)) {
            f->back_at = INT64_MAX;
        }
    }
    if (o->steady && f->status == 429 && o->latency_ms > 50)
        f->back_at = w->now + 50 * TR_MS; /* that takes no thought */
    if (f->back_at > f->deadline_at) {
        f->net = TR_NET_TIMEOUT;
        f->back_at = f->deadline_at;
    }
    if (f->net != TR_NET_OK) {
        f->status = 0;
        f->body_n = 0;
        say_nothing(f);
    }
    f->headers = tr_dup(headers.p ? headers.p : "", headers.n);
    f->stage = ON_WAY_BACK;
    sim_event(w, 'P', f->status, f->n);
    sim_trace(w, "provider %d: %d items, cap %" PRId64 ", net %d status %d, back "
              "in %.1f ms%s%.*s", p->place, f->n, f->cap, (int)f->net, f->status,
              (double)(f->back_at - w->now) / TR_MS, text.n ? ": " : "",
              (int)(text.n < 60 ? text.n : 60), text.n ? text.p : "");
    tr_buf_release(&text);
    tr_buf_release(&headers);
}

/* ---- the transport ------------------------------- */

/* Where the beginning of a prompt is kept, the first request goes alone. */
static void check_first(struct sim *w)
{
    int64_t until = w->first_at + 10 * TR_S - w->o.coarse_ms * TR_MS;

    if (!w->o.cache || !w->o.priced || w->o.concurrency == 1 ||
        w->o.lanes > 1)
        return;
    if (!w->first_at)
        w->first_at = w->now;
    else if (!w->first_back && w->now < until)
        sim_fail(w, "warm-up", "a second request leaves %.3f s after the "
                 "first, which is not back", (double)(w->now - w->first_at) /
                 TR_S);
    else
        w->marks[M_WARMED]++;
}

static void play(struct sim *w, struct sim_flight *f, int64_t deadline_ms)
{
    struct sim_played played;

    sim_playbook_play(w->playbook, deadline_ms, &played);
    f->stage = ON_WAY_BACK;
    f->net = played.net;
    f->status = played.status;
    f->back_at = w->now + played.ms * TR_MS;
    f->headers = tr_dup(played.headers.p ? played.headers.p : "",
                        played.headers.n);
    f->body_n = played.body.n;
    f->body = tr_dup(played.body.p ? played.body.p : "", played.body.n);
}

/* A text that was answered alone is there to be compared. */
static const struct sim_seen *canary(const struct sim_flight *f, int i)
{
    const struct sim *w = f->p->w;
    const struct sim_seen *seen =
        &w->texts[f->items[i].text].at[f->p->place];

    return f->items[i].guest && seen->alone_run == w->run_number ? seen : NULL;
}

/* The same for what comes back perhaps in another life. */
static bool knew(const struct sim_flight *f, int i, uint32_t *mask)
{
    const struct sim_item *it = &f->items[i];
    const struct sim_seen *seen = in_batch(f) ? NULL : canary(f, i);

    *mask = seen ? seen->alone_mask : it->canary_mask;
    return seen || it->canary;
}

/* Who shares a request: canaries have different answers, in a small pack one
 * may do; and who looks like an attack is alone. */
static void check_company(struct sim *w, const struct sim_flight *f)
{
    int canaries = 0, guests = 0, unknown = 0;
    int two_from = w->o.guard_from ? w->o.guard_from : TR_GUARD_PACK;
    bool differ = false;
    uint32_t first = 0;

    if (w->o.isolate && f->n > 1)
        sim_fail(w, "H1", "%d texts in a request, and each was to be alone",
                 f->n);
    for (int i = 0; i < f->n; i++) {
        const struct sim_item *it = &f->items[i];
        const struct sim_text *t = &w->texts[it->text];
        const struct sim_seen *seen;

        if (w->o.parties && sim_party(w, it->text) !=
                                sim_party(w, f->items[0].text))
            sim_fail(w, "H7", "texts %d and %d, of different parties, share a "
                     "request", f->items[0].text, it->text);
        if (f->n > 1 && w->o.guard && w->o.pack != 1 && t->hostile &&
            !w->o.sly)
            sim_fail(w, "H4", "text %d looks like an attack and is among %d",
                     it->text, f->n);
        guests += it->guest;
        unknown += !it->guest && t->maybe_run == w->run_number;
        seen = canary(f, i);
        if (!seen)
            continue;
        differ = differ || (canaries && seen->alone_mask != first);
        first = seen->alone_mask;
        canaries++;
    }
    if (canaries > (f->n - guests < two_from) && !differ && !unknown)
        sim_fail(w, "H3", "%d canaries in a request, all with one answer",
                 canaries);
    if (w->o.guard == TR_GUARD_STRICT && w->o.pack != 1 && f->n > 1 &&
        canaries + unknown < 2)
        sim_fail(w, "H5", "strict, and %d texts without canaries", f->n);
    if (guests > 18 + f->n / 16)
        sim_fail(w, "H6", "%d guests among %d texts", guests, f->n);
}

void sim_leave(struct sim *w, struct sim_flight *f)
{
    for (int i = 0; i < f->n; i++) {
        struct sim_item *it = &f->items[i];
        struct sim_text *text = &w->texts[it->text];
        const struct sim_seen *seen;

        it->guest = sim_check_guest(w, text, f->n);
        it->maybe = text->maybe_run == w->run_number;
        if (!it->guest) {
            sim_check_ask(w, f->p, text);
            text->in_flight++;
        } else if (in_batch(f) && (seen = canary(f, i))) {
            it->canary = true;
            it->canary_mask = seen->alone_mask;
        }
    }
    check_company(w, f);
}

/* The same texts leave again, in the same company. */
static void note_retry(struct sim *w, const struct sim_flight *f)
{
    const struct sim_text *first = &w->texts[f->items[0].text];

    if (first->failed_at && first->failed_n == f->n) {
        w->retries++;
        w->quick_retries += w->now - first->failed_at < TR_S / 2;
    }
    for (int i = 0; i < f->n; i++)
        w->texts[f->items[i].text].failed_at = 0;
}

static int start(struct tr_transport *t, uint64_t tag, struct tr_str body,
                 int64_t deadline_ms, struct tr_err *err)
{
    struct sim_provider *p = provider_of(t);
    struct sim *w = p->w;
    struct sim_flight *f = w->flights;

    if (w->dead || sim_point(w))
        return tr_fail(err, TR_BUG, "the process died before a send");
    while (f < w->flights + FLIGHTS_MAX && f->stage != FREE)
        f++;
    if (f == w->flights + FLIGHTS_MAX) {
        sim_fail(w, "I10", "more than %d requests in flight", FLIGHTS_MAX);
        return tr_fail(err, TR_BUG, "too many in flight");
    }
    if (f - w->flights >= w->flight_end)
        w->flight_end = (int)(f - w->flights) + 1;
    sim_tick(w);
    *f = (struct sim_flight){
        .period = w->job ? SIM_NO_PERIOD : w->period, .account = w->account, .pct = 100,
        .stage = ON_WIRE, .p = p, .tag = tag, .run = w->run_number,
        .sent_at = w->now,
        .arrive_at = w->now + TR_MS + (int64_t)tr_rng_below(&w->rng, 19) * TR_MS,
        .deadline_at = w->now + deadline_ms * TR_MS,
        .net = TR_NET_OK,
        .usage = -1,
    };
    if (w->playbook) {
        play(w, f, deadline_ms);
        return TR_OK;
    }
    sim_read_request(w, f, body);
    sim_event(w, 'S', (int64_t)tag, f->n);
    sim_check_send(w, p, f->n);
    sim_audit_send(w, tag / TR_SLOTS_MAX);
    f->told = p->told_exhausted;
    p->after_told += f->told;
    f->doubt = p->doubted;
    p->after_doubt += f->doubt;
    sim_leave(w, f);
    note_retry(w, f);
    check_first(w);
    if (strikes(w, F_UNREACHED)) {
        f->stage = ON_WAY_BACK;
        f->net = TR_NET_CONNECT;
        f->back_at = f->arrive_at;
        f->excused = true;
        f->headers = tr_dup("", 0);
        sim_door_note(p, f);
        sim_trace(w, "not reached: %d items", f->n);
    }
    if (sim_point(w))
        return tr_fail(err, TR_BUG, "the process died after a send");
    return TR_OK;
}

/* Key or model: who never served is gone at the first word; who did, when one
 * text that was sent to find out hears the same. */
static void note_doubt(struct sim *w, const struct sim_flight *f)
{
    struct sim_provider *p = f->p;
    bool refused = f->status == 401 || f->status == 403 || f->status == 404;
    bool probe = f->doubt && p->doubted;
    /* A page of whoever stands between says nothing of the key. */
    bool says = f->net == TR_NET_OK && f->status == 200 && f->body[0] == '{';

    p->after_doubt -= f->doubt;
    if (f->net == TR_NET_OK && f->quota) { /* a key that has one is known */
        p->doubted = false;
    } else if (f->net == TR_NET_OK && refused && (probe || !p->served)) {
        p->told_gone = true;
        w->marks[M_KEY_GONE] += probe && f->status != 404;
    } else if (f->net == TR_NET_OK && refused && !p->doubted) {
        p->doubted = true;
        p->doubted_at = w->now;
    } else if (probe && (says || (f->net == TR_NET_OK && f->status == 400))) {
        w->marks[M_KEY_BACK]++;
        p->doubted = false;
    } else if (probe) {
        p->doubted_at = w->now;
    }
    p->served = p->served || (says && !f->blocked);
}

/* Whether the process now knows that it may not ask, or may again. */
static void note_health(struct sim *w, const struct sim_flight *f)
{
    struct sim_provider *p = f->p;
    bool quota = f->net == TR_NET_OK && f->quota &&
                 (f->status == 429 || f->status == 402);
    int64_t wait_s = f->net != TR_NET_OK ? 0 : f->wait_s < 86400 ? f->wait_s
                                                                 : 86400;

    if (wait_s && w->now + wait_s * TR_S > p->wait_until)
        p->wait_until = w->now + wait_s * TR_S;

    p->after_told -= f->told;
    note_doubt(w, f);
    if (quota) {
        if (!p->told_exhausted || f->told) {
            p->told_at = w->now;
            p->told_until = p->o->quota_is_day && p->quota_back_at != TR_NEVER
                                ? p->quota_back_at : 0;
        }
        p->told_exhausted = true;
    } else if (f->told && f->net == TR_NET_OK &&
               (f->status == 200 || f->status == 400)) {
        w->marks[M_QUOTA_WAITED] += w->o.wait_for_quota;
        p->told_exhausted = false;
        p->recovered = true;
    }
}

/* When its answer differs, nothing said in its company may be believed. */
static void compare(struct sim *w, struct sim_flight *f)
{
    bool refuted = false, doubtful, vouched = false, audited = false;

    /* Labels far from the usual may be asked for again, without canaries. */
    doubtful = w->o.guard && f->n >= 8;
    for (int i = 0; i < f->n; i++) {
        const struct sim_item *it = &f->items[i];
        uint32_t mask;
        bool known = knew(f, i, &mask);

        doubtful = doubtful || it->guest || it->maybe ||
                   w->texts[it->text].maybe_run == w->run_number;
        audited = audited || (it->guest && !known);
        vouched = vouched || (known && it->states);
        refuted = refuted || (known && it->states && it->mask != mask);
    }
    w->marks[M_REFUTED] += refuted;
    w->marks[M_VOUCHED] += vouched && !refuted;
    w->marks[M_AUDITED] += audited;
    for (int i = 0; i < f->n && f->n > 1; i++) {
        f->items[i].usable = f->items[i].usable && !doubtful;
        f->items[i].states = f->items[i].states && !refuted;
    }
}

void sim_land(struct sim *w, struct sim_flight *f)
{
    for (int i = 0; i < f->n && !f->landed; i++) {
        w->texts[f->items[i].text].in_flight -= !f->items[i].guest;
        /* Lost on its way it counts as a try. */
        w->texts[f->items[i].text].at[f->p->place].alone_bad +=
            in_batch(f) && f->n == 1 && !f->heard;
    }
    f->landed = true;
}

/* A text alone was answered, to the run that asked: what a batch of an earlier
 * one brings is no try. */
static void count_try(const struct sim_flight *f, struct sim_seen *seen)
{
    const struct sim *w = f->p->w;

    if (f->run != w->run_number)
        return;
    if (seen->tries_run != w->run_number)
        seen->tries = seen->refused = seen->rejected = 0;
    seen->tries_run = w->run_number;
    seen->tries += f->net == TR_NET_OK && f->judged;
    seen->refused += f->net == TR_NET_OK && f->blocked;
    /* Before anybody is served every request may be bad. */
    seen->rejected += f->net == TR_NET_OK && f->status == 400 && !f->excused &&
                      f->p->served_run == w->run_number;
}

/* What the process now knows for certain. A result of a batch may be heard
 * again, by another life or when all batches are read to find one that is
 * missing: then it may be no news, and say nothing of a row that is new. */
void sim_hear(struct sim *w, struct sim_flight *f)
{
    bool again = f->heard;

    if (w->o.guard && !again)
        compare(w, f);
    f->heard = true;
    sim_land(w, f);
    w->answers[minute_of(w)] += f->net == TR_NET_OK && f->status == 200;
    if (f->net == TR_NET_OK && f->status == 400 && !f->excused) {
        f->p->bad_first = f->p->bad_run == w->run_number ? f->p->bad_first : 0;
        f->p->bad_first += f->p->taken_run != w->run_number;
        f->p->bad_run = w->run_number;
    }
    if (f->net == TR_NET_OK && f->status == 200 && !again)
        f->p->taken_run = w->run_number;
    for (int i = 0; i < f->n; i++) {
        const struct sim_item *it = &f->items[i];
        struct sim_text *t = &w->texts[it->text];
        struct sim_seen *seen = &t->at[f->p->place];
        int k = 0;

        if (it->guest)
            continue;
        if (it->states) {
            t->maybe_run = w->run_number;
            if (f->n == 1) {
                seen->alone_run = w->run_number;
                seen->alone_mask = it->mask;
            }
            while (k < seen->said_count && seen->said[k] != it->mask)
                k++;
            if (k == seen->said_count && k < SIM_SAID_MAX)
                seen->said[seen->said_count++] = it->mask;
        }
        if (f->n == 1 && !again)
            count_try(f, seen);
        if (f->net == TR_NET_OK && f->status == 500) {
            t->failed_at = w->now;
            t->failed_n = f->n;
        }
        if (it->usable) {
            w->served[minute_of(w)]++;
            if (!again)
                f->p->served_run = w->run_number;
            t->answered_at = sim_awake(w);
            t->answered_run = w->run_number;
        } else if (f->n == 1 && !f->excused && !again) {
            seen->alone_bad++;
        }
        if (f->blocked && f->n == 1 && f->net == TR_NET_OK && !again)
            seen->blocked_run = w->run_number;
    }
}

static int next(struct tr_transport *t, struct tr_http_result *r)
{
    struct sim_provider *p = provider_of(t);
    struct sim *w = p->w;
    struct sim_flight *found = NULL, *end = flights_end(w);

    if (w->dead || sim_point(w))
        return 0;
    for (struct sim_flight *f = w->flights; f < end; f++)
        if (f->stage == ON_WAY_BACK && f->p == p && !f->forgotten && f->back_at <= w->now &&
            (!found || f->back_at < found->back_at))
            found = f;
    if (!found)
        return 0;
    tr_buf_clear(&w->reply_headers);
    tr_buf_clear(&w->reply_body);
    tr_buf_addz(&w->reply_headers, found->headers);
    tr_buf_add(&w->reply_body, found->body ? found->body : "", found->body_n);
    *r = (struct tr_http_result){
        .tag = found->tag,
        .net = found->net,
        .sent = found->net != TR_NET_CONNECT,
        .status = found->status,
        .headers = tr_buf_str(&w->reply_headers),
        .body = tr_buf_str(&w->reply_body),
        .latency_ms = (w->now - found->sent_at) / TR_MS,
    };
    if (found->net != TR_NET_OK)
        snprintf(r->message, sizeof r->message, "connection trouble");
    if (found->stale) {
        sim_event(w, 'r', (int64_t)found->tag, found->status);
        sim_trace(w, "reply again: status %d, %d items", found->status,
                  found->n);
        sim_flight_free(found);
        return 1;
    }
    sim_event(w, 'R', (int64_t)found->tag, found->status);
    sim_trace(w, "reply: net %d status %d, %d items", (int)found->net,
              found->status, found->n);
    w->first_back = true;
    sim_door_heard(w, found);
    sim_hear(w, found);
    note_health(w, found);
    if (found->net != TR_NET_CONNECT &&
        sim_strike(w, S_STALE, w->o.stale * 1000, 1)) {
        found->told = found->doubt = false; /* counted once */
        found->stale = true;
        found->back_at = w->now + (int64_t)tr_rng_below(&w->env_rng, 20000) *
                                      TR_MS;
    } else {
        sim_flight_free(found);
    }
    return 1;
}

/* The process is gone or looks away: what is on the wire arrives all the
 * same, and is billed. */
static void forget(struct sim *w, const struct sim_provider *p)
{
    struct sim_flight *end = flights_end(w);

    for (struct sim_flight *f = w->flights; f < end; f++) {
        if (f->stage == FREE || f->forgotten || (p && f->p != p))
            continue;
        f->forgotten = true;
        w->unheard += f->net == TR_NET_CONNECT; /* nobody will ever know */
        f->p->after_told -= f->told;
        f->p->after_doubt -= f->doubt;
        sim_land(w, f);
    }
}

void sim_provider_forget(struct sim *w)
{
    forget(w, NULL);
    sim_batches_forget(w);
}

static void cancel(struct tr_transport *t)
{
    forget(provider_of(t)->w, provider_of(t));
}

static void wakeup(struct tr_transport *t)
{
    (void)t;
}

static void close_transport(struct tr_transport *t)
{
    cancel(t);
}

/* ---- time ------------------------------- */

void sim_provider_init(struct sim *w)
{
    for (int i = 0; i < w->o.lanes; i++) {
        struct sim_provider *p = &w->providers[i];
        int64_t pct;

        p->transport = (struct tr_transport){
            .start = start, .next = next, .cancel = cancel, .wakeup = wakeup,
            .close = close_transport,
        };
        p->w = w;
        p->place = i;
        p->o = &w->o.lane[i];
        pct = p->o->price_pct;
        p->hidden_level = p->o->hidden_rpm / 60 * p->o->hidden_burst_s;
        p->tokens_level = p->o->hidden_tpm / 60 * p->o->hidden_burst_s;
        p->hidden_at = p->tokens_at = w->now;
        p->facts = (struct tr_model_facts){
            .price_in = w->o.priced ? 10000 * pct : -1,
            .price_out = w->o.priced ? 50000 * pct : -1,
            .price_cached = w->o.priced && w->o.cache ? 1000 * pct : -1,
            .price_cache_write = w->o.priced && w->o.cache ? 12500 * pct : -1,
            .cache_min = 20,
            .context = p->o->context,
        };
    }
    w->flights = tr_array(FLIGHTS_MAX, sizeof *w->flights);
    sim_batches_init(w);
    tr_buf_init(&w->reply_body, 0);
    tr_buf_init(&w->reply_headers, 0);
}

void sim_provider_release(struct sim *w)
{
    for (int i = 0; w->flights && i < FLIGHTS_MAX; i++)
        sim_flight_free(&w->flights[i]);
    tr_free(w->flights);
    sim_batches_release(w);
    for (int i = 0; i < w->o.lanes; i++)
        tr_free(w->providers[i].receipts);
    tr_buf_release(&w->reply_body);
    tr_buf_release(&w->reply_headers);
}

int64_t sim_provider_forgotten(const struct sim *w)
{
    int64_t n = w->unheard;

    for (int i = 0; i < w->flight_end; i++)
        n += w->flights[i].stage == ON_WIRE && w->flights[i].forgotten;
    return n;
}

int64_t sim_provider_next(const struct sim *w)
{
    int64_t at = sim_batches_next(w);

    for (const struct sim_flight *f = w->flights;
         f < w->flights + w->flight_end; f++) {
        if (f->stage == ON_WIRE && f->arrive_at < at)
            at = f->arrive_at;
        if (f->stage == ON_WAY_BACK && !f->forgotten && f->back_at < at)
            at = f->back_at;
    }
    return at;
}

void sim_provider_advance(struct sim *w)
{
    struct sim_flight *end = flights_end(w);

    sim_batches_advance(w);
    for (struct sim_flight *f = w->flights; f < end; f++) {
        if (f->stage == ON_WIRE && f->arrive_at <= w->now)
            process(w, f);
        if (f->stage == ON_WAY_BACK && f->forgotten)
            sim_flight_free(f);
    }
}
