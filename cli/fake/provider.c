/* provider.c - limits, faults and answers, in the order of a real provider:
 * key, parameters, credit, context, limits; only then the model is asked.
 *
 * All chance is drawn from the seed, the texts of the request and how often
 * they were asked before: the same run meets the same faults whatever the
 * order in which its requests arrive.
 *
 * SPDX-License-Identifier: MIT */
#include "fake/provider.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

int fake_provider_open(struct fake_provider *p, const struct fake_options *o,
                       int64_t now_ns, struct tr_err *err)
{
    *p = (struct fake_provider){.options = o};
    fake_bill_init(&p->bill);
    fake_limit_init(&p->requests, o->rpm, o->bucket_s, o->window_s, now_ns);
    fake_limit_init(&p->tokens, o->tpm, o->bucket_s, o->window_s, now_ns);
    return fake_texts_open(&p->texts, o->gold, o->text, o->label, o->labels,
                           err);
}

void fake_provider_close(struct fake_provider *p)
{
    fake_texts_close(&p->texts);
    fake_bill_release(&p->bill);
    fake_request_release(&p->request);
    tr_free(p->said);
    tr_free(p->obeyed);
    tr_buf_release(&p->content);
    tr_buf_release(&p->odd);
    fake_cache_release(&p->cache);
}

/* ---- errors ----------------------------------------------------------- */

/* As OpenAI says it; other dialects have rows of their own in speech.c. */
static const struct fake_error errors[] = {
    {FAKE_END_429, 429, "requests", NULL, "rate_limit_exceeded",
     "Rate limit reached for requests."},
    {FAKE_END_QUOTA, 429, "insufficient_quota", NULL, "insufficient_quota",
     "You exceeded your current quota, please check your plan and billing "
     "details."},
    {FAKE_END_RETIRED, 404, "invalid_request_error", NULL, "model_not_found",
     "The model does not exist or you do not have access to it."},
    {FAKE_END_500, 500, "server_error", NULL, NULL,
     "The server had an error while processing your request. Sorry about "
     "that!"},
    {FAKE_END_503, 503, "server_error", NULL, NULL,
     "The engine is currently overloaded, please try again later."},
    {FAKE_END_SLOW_DOWN, 503, "server_error", NULL, NULL, "Slow Down"},
    {FAKE_END_UNAUTHORIZED, 401, "invalid_request_error", NULL,
     "invalid_api_key", "Incorrect API key provided."},
    {0},
};

static const struct fake_error *error_at(const struct fake_error *e,
                                         enum fake_end end)
{
    while (e && e->status && e->end != end)
        e++;
    return e && e->status ? e : NULL;
}

/* In the words of the dialect; words it has none of its own for are e's. */
static void refuse(struct fake_provider *p, struct fake_reply *reply,
                   const struct fake_error *e)
{
    const struct fake_error *own = error_at(reply->dialect->errors, e->end);
    struct fake_error said = own ? *own : *e;

    if (!said.message)
        said.message = e->message;
    if (!said.param)
        said.param = e->param;
    p->bill.ends[e->end]++;
    reply->status = said.status;
    reply->dialect->refuse(&reply->body, &said,
                           p->options->retry_after == FAKE_RETRY_NONE
                               ? -1 : reply->retry_ns);
}

static void refuse_as(struct fake_provider *p, struct fake_reply *reply,
                      enum fake_end end)
{
    refuse(p, reply, error_at(errors, end));
}

static void refuse_html(struct fake_provider *p, struct fake_reply *reply)
{
    p->bill.ends[FAKE_END_502]++;
    reply->status = 502;
    reply->is_html = true;
    tr_buf_addz(&reply->body,
                "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
                "<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
                "</body>\r\n</html>\r\n");
}

/* ---- before the model ------------------------------------------------- */

/* Is word one of the comma-separated list? */
static bool is_in_list(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (!strncmp(at, word, n) && (!at[n] || at[n] == ','))
            return true;
    }
    return false;
}

/* Parameters that this server does not know; true: refused. */
static bool check_parameters(struct fake_provider *p, struct fake_reply *reply)
{
    const struct fake_options *o = p->options;
    const struct fake_request *r = &p->request;
    const struct fake_dialect *d = r->dialect;
    bool is_value = o->efforts && r->has_effort &&
                    !is_in_list(o->efforts, r->effort);
    const char *param =
        o->no_max_completion_tokens && r->has_max_completion_tokens
            ? "max_completion_tokens"
        : o->no_max_tokens && r->has_max_tokens ? "max_tokens"
        : o->no_schema && r->has_schema         ? d->schema_name
        : r->has_effort && (o->no_effort || is_value) ? d->effort_name
        : r->has_cache && o->no_cache_options   ? "prompt_cache_options"
        : r->is_stream                          ? "stream"
                                                : NULL;
    char message[200];

    if (!param)
        return false;
    is_value = is_value && !o->no_effort && param == d->effort_name;
    if (is_value)
        snprintf(message, sizeof message, "Unsupported value: '%s' does not "
                 "support '%s' with this model.", param, r->effort);
    else
        snprintf(message, sizeof message, "Unsupported parameter: '%s' is not "
                 "supported with this model.", param);
    refuse(p, reply, &(struct fake_error){FAKE_END_UNSUPPORTED, 400,
           "invalid_request_error", param,
           is_value ? "unsupported_value" : "unsupported_parameter", message});
    return true;
}

static void refuse_limit(struct fake_provider *p, struct fake_reply *reply,
                         bool is_tokens, enum fake_end end, double amount,
                         int64_t wait_ns, const char *span)
{
    const struct fake_limit *l = is_tokens ? &p->tokens : &p->requests;
    char message[320], wait[48], again[80] = "";

    reply->retry_ns = wait_ns;
    if (wait_ns >= 0 && p->options->retry_after != FAKE_RETRY_NONE) {
        fake_duration(wait, sizeof wait, wait_ns);
        snprintf(again, sizeof again, " Please try again in %s.", wait);
    }
    snprintf(message, sizeof message,
             "%s for %s in organization org-fake on %s per %s (%cP%c): Limit "
             "%.0f, Used %.0f, Requested %.0f.%s",
             end == FAKE_END_TOO_LARGE ? "Request too large"
                                       : "Rate limit reached",
             p->request.model, is_tokens ? "tokens" : "requests", span,
             is_tokens ? 'T' : 'R', *span == 'm' ? 'M' : 'D',
             fmax(l->per_minute, l->cap), l->used, amount, again);
    refuse(p, reply, &(struct fake_error){end, 429,
           is_tokens ? "tokens" : "requests", NULL, "rate_limit_exceeded", message});
}

/* Takes from both limits, or refuses; true: refused. */
static bool check_limits(struct fake_provider *p, struct fake_reply *reply,
                         int64_t now_ns)
{
    const struct fake_request *r = &p->request;
    /* At admission a provider knows the cap, not what will be used of it. */
    double tokens = (double)(r->dialect->charges_cap &&
                                     r->cap_tokens > r->prompt_tokens
                                 ? r->cap_tokens : r->prompt_tokens);
    int64_t wait_requests, wait_tokens;

    if (fake_limit_is_too_large(&p->tokens, tokens)) {
        refuse_limit(p, reply, true, FAKE_END_TOO_LARGE, tokens, -1, "min");
        return true;
    }
    wait_requests = fake_limit_wait_ns(&p->requests, 1, now_ns);
    wait_tokens = fake_limit_wait_ns(&p->tokens, tokens, now_ns);
    if (wait_requests > 0 || wait_tokens > 0) {
        bool is_tokens = wait_tokens > wait_requests;

        refuse_limit(p, reply, is_tokens, FAKE_END_LIMITED,
                     is_tokens ? tokens : 1,
                     is_tokens ? wait_tokens : wait_requests, "min");
        if (!p->options->charge_refused)
            return true;
    }
    fake_limit_take(&p->requests, 1, now_ns);
    fake_limit_take(&p->tokens, tokens, now_ns);
    return wait_requests > 0 || wait_tokens > 0;
}

static bool check_too_long(struct fake_provider *p, struct fake_reply *reply)
{
    int64_t max = p->options->too_long_tokens;
    char message[200];

    if (!max || p->request.prompt_tokens <= max)
        return false;
    snprintf(message, sizeof message,
             "This model's maximum context length is %lld tokens. However, "
             "your messages resulted in %lld tokens. Please reduce the length "
             "of the messages.", (long long)max,
             (long long)p->request.prompt_tokens);
    refuse(p, reply, &(struct fake_error){FAKE_END_TOO_LONG, 400,
           "invalid_request_error", "messages", "context_length_exceeded",
           message});
    return true;
}

static bool has_key(const struct fake_options *o, const struct fake_ask *ask)
{
    const char *key = ask->key;

    if (!o->key || !key)
        return !o->key;
    if (!strcmp(ask->dialect->key_header, "authorization")) {
        if (strncmp(key, "Bearer ", 7))
            return false;
        key += 7;
    }
    return !strcmp(key, o->key);
}

bool fake_provider_knows(const struct fake_provider *p,
                         const struct fake_dialect *dialect, const char *key)
{
    return has_key(p->options,
                   &(struct fake_ask){.dialect = dialect, .key = key});
}

/* ---- what the model says ---------------------------------------------- */

/* Counts the request in for each of its texts; the sum draws its chance. */
static uint64_t meet_texts(struct fake_provider *p)
{
    const struct fake_request *r = &p->request;
    uint64_t sum = r->item_count;

    for (size_t i = 0; i < r->item_count; i++) {
        struct fake_text *text = fake_texts_at(&p->texts, r->items[i].hash);

        sum += r->items[i].hash;
        if (text)
            sum += 0x9e3779b97f4a7c15u * ++text->asked;
    }
    p->bill.items_asked += r->item_count;
    return r->item_count ? sum : p->bill.requests;
}

static struct tr_str label_of(const struct fake_provider *p, uint64_t hash,
                              uint32_t answer)
{
    const struct fake_words *labels = &p->texts.labels;

    return tr_str_c(answer ? p->texts.answers.p[answer - 1]
                           : labels->p[(hash >> 20) % labels->n]);
}

static int make_room(struct fake_provider *p, size_t n)
{
    struct fake_said *said;

    if (n <= p->said_cap)
        return TR_OK;
    said = tr_resize(p->said, n * 2 * sizeof *said);
    if (!said)
        return TR_NOMEM;
    p->said = said;
    p->said_cap = n * 2;
    return TR_OK;
}

static bool is_label(const struct fake_provider *p, struct tr_str s)
{
    for (uint32_t i = 0; i < p->texts.labels.n; i++)
        if (tr_str_eq_c(s, p->texts.labels.p[i]))
            return true;
    return false;
}

/* A label of nobody: the right one and some x. */
static struct tr_str bad_label(struct fake_provider *p, struct tr_str label)
{
    tr_buf_clear(&p->odd);
    tr_buf_adds(&p->odd, label);
    do
        tr_buf_addc(&p->odd, 'x');
    while (tr_buf_ok(&p->odd) && is_label(p, tr_buf_str(&p->odd)));
    return tr_buf_str(&p->odd);
}

static struct tr_str other_label(struct fake_provider *p, struct tr_str label,
                                 struct tr_rng *rng)
{
    const struct fake_words *labels = &p->texts.labels;
    uint64_t at = tr_rng_below(rng, labels->n);

    for (uint32_t i = 0; i < labels->n; i++) {
        const char *one = labels->p[(at + i) % labels->n];

        if (!tr_str_eq_c(label, one))
            return tr_str_c(one);
    }
    return bad_label(p, label);
}

static void flip_case(struct tr_buf *out, struct tr_str label)
{
    tr_buf_clear(out);
    for (size_t i = 0; i < label.n; i++) {
        int c = (unsigned char)label.p[i];

        tr_buf_addc(out, (char)(islower(c) ? toupper(c) : tolower(c)));
    }
}

static int64_t unknown_id(const struct fake_request *r, struct tr_rng *rng)
{
    for (;;) {
        int64_t id = 100 + (int64_t)tr_rng_below(rng, 900 + r->item_count);
        size_t i = 0;

        while (i < r->item_count && r->items[i].id != id)
            i++;
        if (i == r->item_count)
            return id;
    }
}

static bool hits(const struct fake_provider *p, struct tr_rng *rng,
                 enum fake_fault fault)
{
    double share = p->options->p[fault];

    return share > 0 && tr_rng_unit(rng) < share;
}

/* Changes single items of what is said. bad_label and case share a buffer, so
 * only one of them happens. */
static void spoil_items(struct fake_provider *p, struct tr_rng *rng)
{
    struct fake_said *said = p->said, victim;
    const struct fake_request *r = &p->request;
    size_t whole = r->item_count < p->said_n ? r->item_count : p->said_n;
    bool is_odd;

    if (!p->said_n)
        return;
    is_odd = hits(p, rng, FAKE_BAD_LABEL);
    if (is_odd) {
        size_t at = tr_rng_below(rng, p->said_n);

        said[at].label = bad_label(p, said[at].label);
    }
    if (hits(p, rng, FAKE_CASE) && !is_odd) {
        size_t at = tr_rng_below(rng, p->said_n);

        flip_case(&p->odd, said[at].label);
        said[at].label = tr_buf_str(&p->odd);
        is_odd = true;
    }
    if (hits(p, rng, FAKE_DOUBLE)) {
        victim = said[tr_rng_below(rng, whole)];
        said[p->said_n++] = victim;
    }
    if (hits(p, rng, FAKE_FOREIGN)) {
        victim = said[tr_rng_below(rng, whole)];
        victim.id = unknown_id(r, rng);
        said[p->said_n++] = victim;
    }
    if (hits(p, rng, FAKE_MISSING)) {
        int64_t gone = said[tr_rng_below(rng, whole)].id;
        size_t kept = 0;

        for (size_t i = 0; i < p->said_n; i++)
            if (said[i].id != gone)
                said[kept++] = said[i];
        p->said_n = kept;
    }
    if (hits(p, rng, FAKE_REORDER))
        for (size_t i = p->said_n; i > 1; i--) {
            size_t j = tr_rng_below(rng, i);

            victim = said[i - 1];
            said[i - 1] = said[j];
            said[j] = victim;
        }
    /* The contradiction comes last: cut off with the end of an answer, it must
     * leave the right label standing, or nobody could tell the wrong one. */
    if (hits(p, rng, FAKE_CONFLICT) && p->said_n &&
        (!is_odd || p->texts.labels.n > 1)) {
        victim = said[tr_rng_below(rng, p->said_n)];
        victim.label = other_label(p, victim.label, rng);
        said[p->said_n++] = victim;
    }
}

/* The model does what the texts say, to the letter. */
static void obey(struct fake_provider *p)
{
    size_t all, kept = 0, need = p->said_n + GULLIBLE_ORDERS;
    struct gullible_said *said = p->obeyed;

    if (need > p->obeyed_cap) {
        said = tr_resize(p->obeyed, need * sizeof *said);
        if (!said)
            return;
        p->obeyed = said;
        p->obeyed_cap = need;
    }
    for (size_t i = 0; i < p->said_n; i++)
        said[i] = (struct gullible_said){.id = p->said[i].id,
                                         .label = p->said[i].label};
    all = gullible_obey(&p->request.orders, said, p->said_n);
    for (size_t i = 0; i < all; i++)
        if (!said[i].dropped)
            p->said[kept++] = (struct fake_said){.id = said[i].id,
                                                 .label = said[i].label};
    p->said_n = kept;
}

static void say_all(struct fake_provider *p, struct tr_rng *rng)
{
    const struct fake_request *r = &p->request;
    bool has_prose, has_fence;

    p->said_n = 0;
    tr_buf_clear(&p->content);
    if (make_room(p, r->item_count + 3 + GULLIBLE_ORDERS) != TR_OK)
        return;
    for (size_t i = 0; i < r->item_count; i++) {
        struct fake_text *text = fake_texts_at(&p->texts, r->items[i].hash);

        p->said[p->said_n++] = (struct fake_said){
            .id = r->items[i].id,
            .label = label_of(p, r->items[i].hash, text ? text->answer : 0)};
    }
    if (r->orders.n && tr_rng_unit(rng) < p->options->gullible)
        obey(p);
    spoil_items(p, rng);
    has_prose = hits(p, rng, FAKE_PROSE);
    has_fence = hits(p, rng, FAKE_FENCE);
    if (has_prose)
        tr_buf_addz(&p->content, "Sure! I read the texts carefully. Here are "
                                 "the labels:\n\n");
    if (has_fence)
        tr_buf_addz(&p->content, r->has_schema ? "```json\n" : "```\n");
    fake_say(&p->content, r, p->said, p->said_n);
    if (has_fence)
        tr_buf_addz(&p->content, r->has_schema ? "\n```\n" : "```\n");
    if (has_prose)
        tr_buf_addz(&p->content, "\nLet me know if you need anything else.\n");
}

/* Charges an answer for every text that was answered within n bytes. */
static void charge_texts(struct fake_provider *p, size_t n)
{
    const struct fake_request *r = &p->request;
    const struct fake_said *said = p->said;

    for (size_t i = 0; i < r->item_count; i++) {
        struct fake_text *text = NULL;
        /* Nearly always in the order of the request. */
        size_t j = i < p->said_n && said[i].id == r->items[i].id ? i : 0;

        while (j < p->said_n && said[j].id != r->items[i].id)
            j++;
        if (j < p->said_n && said[j].end <= n)
            text = fake_texts_at(&p->texts, r->items[i].hash);
        if (text)
            fake_bill_text(&p->bill, text);
    }
}

static uint64_t price(const struct fake_provider *p, int64_t tokens,
                      int64_t pico)
{
    int64_t pct = p->is_batch ? p->options->batch_price : 100;

    return (uint64_t)tokens * (uint64_t)pico * (uint64_t)pct / 100;
}

static void charge(struct fake_provider *p, const struct fake_completion *c,
                   enum fake_end end)
{
    const struct fake_options *o = p->options;

    p->bill.ends[end]++;
    p->bill.prompt_tokens += (uint64_t)c->prompt_tokens;
    p->bill.completion_tokens += (uint64_t)c->completion_tokens;
    p->bill.reasoning_tokens += (uint64_t)c->reasoning_tokens;
    p->bill.cached_tokens += (uint64_t)c->cached_tokens;
    p->bill.cache_write_tokens += (uint64_t)c->cache_write_tokens;
    p->bill.pico_usd += price(p, c->prompt_tokens - c->cached_tokens -
                                     c->cache_write_tokens, o->price_in);
    p->bill.pico_usd += price(p, c->cached_tokens, o->price_cached < 0
                                     ? o->price_in : o->price_cached);
    p->bill.pico_usd += price(p, c->cache_write_tokens,
                              o->price_cache_write < 0
                                  ? o->price_in : o->price_cache_write);
    p->bill.pico_usd += price(p, c->completion_tokens, o->price_out);
    p->bill.batch_requests += p->is_batch;
}

/* Cuts the answer where the cap ends; false: it fits. */
static bool cut_at_cap(const struct fake_request *r, struct fake_completion *c)
{
    int64_t left;

    if (r->cap_tokens < 0 || c->completion_tokens <= r->cap_tokens)
        return false;
    if (c->reasoning_tokens > r->cap_tokens)
        c->reasoning_tokens = r->cap_tokens;
    left = r->cap_tokens - c->reasoning_tokens;
    c->content.n = tr_utf8_cut(c->content, (size_t)left * 4);
    c->completion_tokens = r->cap_tokens;
    return true;
}

/* The middle of a line: between the second and the last byte of one, and not
 * inside of a character. */
static void cut_in_line(struct fake_completion *c)
{
    size_t n = c->content.n / 2;

    while (n > 1 && (c->content.p[n - 1] == '\n' || c->content.p[n] == '\n' ||
                     tr_utf8_cut(c->content, n) < n))
        n--;
    n = tr_utf8_cut(c->content, n);
    c->content.n = n;
    c->completion_tokens = c->reasoning_tokens + fake_tokens(n);
}

/* Decisions have no words, so nothing of them is cut or charged. */
static void decide_only(struct fake_provider *p, struct fake_completion *c,
                        enum fake_end *end)
{
    if (*end == FAKE_END_TRUNCATED)
        *end = FAKE_END_ANSWERED;
    for (size_t i = 0; i < p->said_n; i++)
        p->said[i].end = 0;
    c->content.n = 0;
    c->completion_tokens = c->reasoning_tokens = 0;
    c->said = p->said;
    c->said_n = p->said_n;
}

/* What of the prompt is there, and what is kept of it. */
static void look_in_cache(struct fake_provider *p, struct fake_completion *c,
                          int64_t answer_ns)
{
    const struct fake_request *r = &p->request;
    const struct fake_options *o = p->options;
    const struct fake_prefix *x = &r->prefix;
    size_t steps = 0;

    c->says_writes = o->price_cache_write >= 0;
    if (r->marked_tokens && r->marked_tokens >= o->cache) {
        if (fake_cache_has(&p->cache, r->marked_hash, p->now_ns))
            c->cached_tokens = r->marked_tokens;
        else
            c->cache_write_tokens = r->marked_tokens;
        fake_cache_keep(&p->cache, r->marked_hash, answer_ns);
    }
    if (r->is_explicit || r->marked_tokens || o->cache < 0 ||
        r->prompt_tokens < o->cache)
        return;
    while (steps < x->step_count &&
           fake_cache_has(&p->cache, x->steps[steps], p->now_ns))
        steps++;
    c->cached_tokens = (int64_t)steps * FAKE_STEP_TOKENS;
    if (c->cached_tokens < o->cache)
        c->cached_tokens = 0;
    if (c->says_writes) /* all of it is kept, and paid for */
        c->cache_write_tokens = r->prompt_tokens - c->cached_tokens;
    for (size_t i = 0; i < x->step_count; i++)
        fake_cache_keep(&p->cache, x->steps[i], answer_ns);
}

static void complete(struct fake_provider *p, struct fake_reply *reply,
                     enum fake_end end, struct tr_rng *rng, int64_t wall_ms)
{
    const struct fake_request *r = &p->request;
    struct fake_completion c = {
        .number = reply->number, .created_s = wall_ms / 1000, .finish = "stop",
        .prompt_tokens = r->prompt_tokens,
        .reasoning_tokens = p->options->reasoning};

    p->said_n = 0;
    look_in_cache(p, &c, p->now_ns + reply->delay_ns);
    if (end == FAKE_END_REFUSED) {
        c.content = TR_STR("I'm sorry, but I can't help with that request.");
        c.is_refusal = true;
    } else if (end == FAKE_END_FILTERED) {
        c.finish = "content_filter";
    } else {
        say_all(p, rng);
        c.content = tr_buf_str(&p->content);
    }
    c.completion_tokens = c.reasoning_tokens + fake_tokens(c.content.n);
    if (end == FAKE_END_ANSWERED && c.content.n > 3 &&
        hits(p, rng, FAKE_TRUNCATE)) {
        cut_in_line(&c);
        end = FAKE_END_TRUNCATED;
    }
    if (cut_at_cap(r, &c) && end == FAKE_END_ANSWERED)
        end = FAKE_END_TRUNCATED;
    if (end == FAKE_END_TRUNCATED)
        c.finish = "length";
    if (r->dialect->decides)
        decide_only(p, &c, &end);
    charge_texts(p, c.content.n);
    charge(p, &c, end);
    r->dialect->complete(&reply->body, r, &c);
}

/* ---- one request ------------------------------------------------------ */

static enum fake_fault draw_replacing(const struct fake_options *o,
                                      struct tr_rng *rng)
{
    double at = tr_rng_unit(rng);

    for (int i = 0; i < FAKE_FAULT_REPLACING; i++) {
        if (at < o->p[i])
            return (enum fake_fault)i;
        at -= o->p[i];
    }
    return FAKE_FAULT_COUNT;
}

static int64_t draw_delay(const struct fake_provider *p, struct tr_rng *rng)
{
    const struct fake_options *o = p->options;
    double ms = o->latency_ms;

    if (o->latency_sigma > 0) {
        double u = 1 - tr_rng_unit(rng), v = tr_rng_unit(rng);

        /* Box and Muller; u is never 0. */
        ms *= exp(o->latency_sigma * sqrt(-2 * log(u)) *
                  cos(6.283185307179586 * v));
    }
    if (p->request.is_stuck)
        ms = o->stuck_s * 1000;
    return (int64_t)(fmin(ms, 86400e3) * TR_MS);
}

/* What happens to a request that passed all limits. */
static void serve(struct fake_provider *p, struct fake_reply *reply,
                  struct tr_rng *rng, int64_t wall_ms)
{
    switch (draw_replacing(p->options, rng)) {
    case FAKE_429:
        reply->retry_ns = 200 * TR_MS;
        reply->delay_ns = 0;
        refuse_as(p, reply, FAKE_END_429);
        return;
    case FAKE_500:
        refuse_as(p, reply, FAKE_END_500);
        return;
    case FAKE_502:
        refuse_html(p, reply);
        return;
    case FAKE_503:
        refuse_as(p, reply, FAKE_END_503);
        return;
    case FAKE_SLOW_DOWN:
        refuse_as(p, reply, FAKE_END_SLOW_DOWN);
        return;
    case FAKE_CUT:
        reply->manner = FAKE_CLOSE;
        complete(p, reply, FAKE_END_CUT, rng, wall_ms);
        return;
    case FAKE_CUT_MID:
        reply->manner = FAKE_SEND_HALF;
        complete(p, reply, FAKE_END_CUT_MID, rng, wall_ms);
        return;
    case FAKE_HANG:
        reply->manner = FAKE_SILENT;
        complete(p, reply, FAKE_END_HUNG, rng, wall_ms);
        return;
    case FAKE_REFUSE:
        complete(p, reply, FAKE_END_REFUSED, rng, wall_ms);
        return;
    case FAKE_FILTER:
        complete(p, reply, FAKE_END_FILTERED, rng, wall_ms);
        return;
    default:
        complete(p, reply, p->request.is_poisoned ? FAKE_END_FILTERED
                                                  : FAKE_END_ANSWERED,
                 rng, wall_ms);
    }
}

void fake_provider_reset(struct fake_provider *p)
{
    fake_bill_clear(&p->bill);
    fake_texts_clear(&p->texts);
    p->quota_since_ns = p->down_since_ns = p->key_since_ns = 0;
}

/* What begins behind so many requests, and ends after so many seconds. */
static bool lasts(const struct fake_provider *p, int64_t after, double for_s,
                  int64_t *since_ns, int64_t now_ns)
{
    if (after < 0 || (!*since_ns && p->bill.requests <= (uint64_t)after))
        return false;
    if (!*since_ns)
        *since_ns = now_ns;
    return for_s <= 0 || (double)(now_ns - *since_ns) < for_s * TR_S;
}

static void decide(struct fake_provider *p, struct fake_reply *reply,
                   const struct fake_ask *ask, int64_t now_ns, int64_t wall_ms)
{
    const struct fake_options *o = p->options;
    const struct fake_needles needles = {o->poison, o->stuck, o->gullible > 0};
    struct tr_rng rng;
    const char *why;

    if (!has_key(o, ask) ||
        lasts(p, o->key_after, o->key_for_s, &p->key_since_ns, now_ns)) {
        refuse_as(p, reply, FAKE_END_UNAUTHORIZED);
        return;
    }
    why = ask->lacks_header;
    if (!why)
        why = fake_request_read(&p->request, ask->dialect, ask->model,
                                ask->body, ask->n, &needles);
    if (why) {
        refuse(p, reply, &(struct fake_error){FAKE_END_BAD_REQUEST, 400,
               "invalid_request_error", NULL, NULL, why});
        return;
    }
    if (check_parameters(p, reply))
        return;
    if (lasts(p, o->down_after, o->down_for_s, &p->down_since_ns, now_ns)) {
        refuse_as(p, reply, FAKE_END_500);
        return;
    }
    if (o->renamed_after >= 0 &&
        p->bill.requests > (uint64_t)o->renamed_after)
        strncat(p->request.model, "-next",
                sizeof p->request.model - strlen(p->request.model) - 1);
    if (o->retired_after >= 0 &&
        p->bill.requests > (uint64_t)o->retired_after) {
        refuse_as(p, reply, FAKE_END_RETIRED);
        return;
    }
    if (lasts(p, o->quota_after, o->quota_for_s, &p->quota_since_ns, now_ns)) {
        refuse_as(p, reply, FAKE_END_QUOTA);
        return;
    }
    if (o->daily_after >= 0 && p->bill.requests > (uint64_t)o->daily_after) {
        refuse_limit(p, reply, false, FAKE_END_DAILY, 1, 7200 * TR_S, "day");
        return;
    }
    if (o->told_off_at >= 0 && p->bill.requests == (uint64_t)o->told_off_at) {
        reply->retry_ns = (int64_t)(fmin(o->told_off_for_s, 1e9) * TR_S);
        refuse_as(p, reply, FAKE_END_429);
        return;
    }
    if (check_too_long(p, reply) ||
        (!p->is_batch && check_limits(p, reply, now_ns)))
        return;
    fake_bill_pass(&p->bill, now_ns);
    rng.state = (uint64_t)o->seed * 0xd1342543de82ef95u ^ meet_texts(p);
    reply->delay_ns = draw_delay(p, &rng);
    serve(p, reply, &rng, wall_ms);
}

void fake_provider_ask(struct fake_provider *p, struct fake_reply *reply,
                       const struct fake_ask *ask, int64_t now_ns,
                       int64_t wall_ms)
{
    p->now_ns = now_ns;
    fake_bill_come(&p->bill, now_ns, wall_ms);
    reply->dialect = ask->dialect;
    reply->status = 200;
    reply->manner = FAKE_SEND;
    reply->is_html = false;
    reply->retry_ns = -1;
    reply->delay_ns = 0;
    reply->number = p->bill.requests;
    tr_buf_clear(&reply->body);
    decide(p, reply, ask, now_ns, wall_ms);
    reply->has_requests = p->options->headers && p->requests.per_minute > 0;
    reply->has_tokens = p->options->headers && p->tokens.per_minute > 0;
    if (reply->has_requests)
        reply->requests = fake_limit_view(&p->requests, now_ns);
    if (reply->has_tokens)
        reply->tokens = fake_limit_view(&p->tokens, now_ns);
}
