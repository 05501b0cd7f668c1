/* reply.c - what a reply that is no answer means: read, classify, redact.
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "base/utf8.h"
#include "wire/provider.h"

#include <yyjson.h>

#include "wire/json.h"

#include <limits.h>
#include <stdio.h>

#define RAW_BYTES_MAX 500 /* of a body that is not JSON */
#define LONG_WAIT_MS INT64_C(900000)    /* a day's limit that frees itself in
                                           less is an ordinary throttle */
#define UNKNOWN_DAY_MS INT64_C(3600000) /* a day's limit without a wait */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Case-insensitive; word is lower-case. */
static bool begins(const char *text, const char *word)
{
    for (; *word; text++, word++) {
        if (lower(*text) != *word)
            return false;
    }
    return true;
}

static bool holds(const char *text, const char *word)
{
    for (; *text; text++) {
        if (begins(text, word))
            return true;
    }
    return false;
}

/* ---- redaction -------------------------------------------------------- */

static bool in_key(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (c != '\0' && strchr("-_.*+/=~", c));
}

/* Before a key: what it is called, and how many characters make one. Words
 * that begin keys stay out of the result; names stay. */
static const struct {
    const char *word;
    size_t length_min;
    bool is_name;
} marks[] = {
    {"sk-", 8, false},        {"pk-", 16, false},   {"gsk_", 8, false},
    {"xai-", 8, false},       {"csk-", 8, false},   {"aiza", 16, false},
    {"bearer ", 1, true},     {"key=", 1, true},    {"token=", 1, true},
    {"api_key: ", 1, true},   {"api key: ", 1, true},
    {"key provided: ", 1, true},
};

/* Length of the secret at p (0: none) and of the name before it. Every word is
 * gone through once, where it begins: servers choose how long it is. */
static size_t secret_at(const char *text, const char *p, size_t *name_n)
{
    bool begins_word = p == text || !in_key(p[-1]);
    bool fresh = begins_word || p[-1] == '=';
    size_t n = 0;

    *name_n = 0;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        size_t skip = strlen(marks[i].word);

        if (!begins(p, marks[i].word) ||
            (!marks[i].is_name && !fresh))
            continue;
        for (n = 0; in_key(p[skip + n]); n++)
            ;
        if (n < marks[i].length_min)
            continue;
        *name_n = marks[i].is_name ? skip : 0;
        return marks[i].is_name ? n : skip + n;
    }
    if (!begins_word)
        return 0;
    for (n = 0; in_key(p[n]); n++) /* sk-ab***yz in anyone's spelling */
        ;
    for (size_t i = 0; i + 3 <= n; i++) {
        if (memcmp(p + i, "***", 3) == 0)
            return n;
    }
    return 0;
}

/* Escape sequences for some terminals. */
static bool is_c1(const char *p, size_t n)
{
    return n == 2 && (unsigned char)p[0] == 0xc2 && (unsigned char)p[1] < 0xa0;
}

void tr_wire_redact(char *text, size_t size)
{
    struct tr_buf out;
    const char *p = text, *end;
    size_t n;

    if (!size)
        return;
    end = text + strlen(text);
    tr_buf_init(&out, 0);
    while (*p) {
        size_t name_n, secret_n = secret_at(text, p, &name_n);

        if (secret_n) {
            tr_buf_add(&out, p, name_n);
            tr_buf_addz(&out, "[key]");
            p += name_n + secret_n;
            continue;
        }
        n = tr_utf8_first(tr_str(p, (size_t)(end - p)));
        n = is_c1(p, n) ? 0 : n;
        if (n == 1 && ((unsigned char)*p < 0x20 || *p == 0x7f)) {
            if (out.n && out.p[out.n - 1] != ' ')
                tr_buf_addc(&out, ' ');
        } else if (n) {
            tr_buf_add(&out, p, n);
        } else {
            tr_buf_addc(&out, '?');
        }
        p += n ? n : 1;
    }
    n = tr_buf_ok(&out) ? out.n : 0; /* no memory: better nothing than a key */
    if (n >= size) {
        n = size - 1;
        while (n && ((unsigned char)out.p[n] & 0xc0) == 0x80)
            n--;
    }
    while (n && out.p[n - 1] == ' ')
        n--;
    if (n)
        memcpy(text, out.p, n);
    text[n] = '\0';
    tr_buf_release(&out);
}

/* Letters and digits of a run, by kind. */
struct kinds {
    size_t upper, lower, digits, n;
};

static void count_kind(struct kinds *k, char c)
{
    k->upper += c >= 'A' && c <= 'Z';
    k->lower += c >= 'a' && c <= 'z';
    k->digits += c >= '0' && c <= '9';
    k->n++;
}

bool tr_wire_is_variable(const char *name)
{
    enum { LENGTH_MAX = 64, DIGITS_MAX = 4 };
    struct kinds k = {0};
    size_t named;

    for (const char *c = name; *c; c++) {
        if (*c != '_' && (!in_key(*c) || strchr("-.*+/=~", *c)))
            return false;
        count_kind(&k, *c);
    }
    return k.n && k.n <= LENGTH_MAX && (name[0] < '0' || name[0] > '9') &&
           k.digits <= DIGITS_MAX && !(k.upper && k.lower) &&
           !secret_at(name, name, &named);
}

bool tr_wire_is_key(const char *path)
{
    enum { RUN_MIN = 16, DIGITS_MIN = 5 };
    struct kinds part = {0}, word = {0}; /* up to a slash; to a separator */

    for (const char *c = path; *c; c++) {
        size_t named;

        if (*c == '/')
            part = (struct kinds){0};
        else
            count_kind(&part, *c);
        if (strchr("/-_.~+= ", *c))
            word = (struct kinds){0};
        else
            count_kind(&word, *c);
        if ((part.n >= RUN_MIN && part.upper && part.lower && part.digits) ||
            (word.n >= RUN_MIN && word.digits >= DIGITS_MIN) ||
            secret_at(path, c, &named))
            return true;
    }
    return false;
}

/* ---- reading errors --------------------------------------------------- */

/* Keeps as much of s as fits in to, redacted; a NUL inside becomes a blank.
 * Redaction comes before the cut, so that no half of a key remains. */
static void keep(char *to, size_t size, struct tr_str s)
{
    char whole[2000];
    size_t n = s.n < sizeof whole - 1 ? s.n : sizeof whole - 1;

    if (n)
        memcpy(whole, s.p, n);
    for (size_t i = 0; i < n; i++) {
        if (!whole[i])
            whole[i] = ' ';
    }
    whole[n] = '\0';
    tr_wire_redact(whole, sizeof whole);
    if (strcmp(whole, "None") == 0 || strcmp(whole, "null") == 0)
        whole[0] = '\0'; /* Python's nothing, as text (LiteLLM) */
    snprintf(to, size, "%.*s", (int)size - 1, whole);
    tr_wire_redact(to, size); /* the cut may have halved a character */
}

static struct tr_str string_of(yyjson_val *v)
{
    return yyjson_is_str(v) ? tr_str(yyjson_get_str(v), yyjson_get_len(v))
                            : (struct tr_str){0};
}

static void keep_field(char *to, size_t size, yyjson_val *object,
                       const char *name)
{
    yyjson_val *v = yyjson_obj_get(object, name);

    if (to[0])
        return;
    if (yyjson_is_int(v))
        snprintf(to, size, "%lld", (long long)yyjson_get_sint(v));
    else
        keep(to, size, string_of(v));
}

static void read_text(struct tr_wire_error *e, struct tr_str s)
{
    static const char *const ends[] = {"</title>", "</h1>"};
    static const char *const begins_with[] = {"<title>", "<h1>"};
    char head[RAW_BYTES_MAX + 1];
    size_t n;

    s = tr_str_trim(s);
    n = s.n < RAW_BYTES_MAX ? s.n : RAW_BYTES_MAX;
    if (!n || s.p[0] != '<') {
        keep(e->message, sizeof e->message, tr_str(s.p, n));
        return;
    }
    memcpy(head, s.p, n);
    head[n] = '\0';
    for (int i = 0; i < 2; i++) {
        for (char *p = head; *p; p++) {
            char *from = p + strlen(begins_with[i]), *to = from;

            if (!begins(p, begins_with[i]))
                continue;
            while (*to && !begins(to, ends[i]))
                to++;
            *to = '\0';
            keep(e->message, sizeof e->message, tr_str_trim(tr_str_c(from)));
            return;
        }
    }
    keep(e->message, sizeof e->message, TR_STR("an HTML page"));
}

/* The wait stands at the end of long messages: it is read before the cut. */
static void keep_message(struct tr_wire_error *e, yyjson_val *object,
                         const char *name)
{
    if (e->message[0])
        return;
    keep_field(e->message, sizeof e->message, object, name);
    e->words_ms =
        tr_wire_try_again_ms(string_of(yyjson_obj_get(object, name)));
}

static void keep_detail(struct tr_wire_error *e, yyjson_val *object,
                        const char *name)
{
    char detail[sizeof e->detail] = "";

    keep_field(detail, sizeof detail, object, name);
    if (!e->detail[0] || holds(detail, "perday"))
        memcpy(e->detail, detail, sizeof detail);
}

/* Google's say in a list what kind of limit it is, and the wait. */
static void read_details(struct tr_wire_error *e, yyjson_val *details)
{
    yyjson_val *one, *v;
    size_t i, n, j, m;

    yyjson_arr_foreach(details, i, n, one) {
        struct tr_str delay = string_of(yyjson_obj_get(one, "retryDelay"));

        if (delay.n)
            e->detail_ms = tr_wire_duration_ms(delay, 0);
        yyjson_arr_foreach(yyjson_obj_get(one, "violations"), j, m, v)
            keep_detail(e, v, "quotaId");
        keep_detail(e, one, "reason");
    }
    /* The wait that is told with a day's limit is a minute's. */
    if (holds(e->detail, "perday") && e->detail_ms < UNKNOWN_DAY_MS)
        e->detail_ms = UNKNOWN_DAY_MS;
}

static void read_value(struct tr_wire_error *e, yyjson_val *v, int depth);

/* OpenRouter says "Provider returned error" and hides the words in raw. */
static void read_metadata(struct tr_wire_error *e, yyjson_val *error,
                          int depth)
{
    yyjson_val *meta = yyjson_obj_get(error, "metadata");
    struct tr_str raw = string_of(yyjson_obj_get(meta, "raw"));
    yyjson_doc *doc;

    keep_field(e->type, sizeof e->type, meta, "error_type");
    if (!raw.n || !holds(e->message, "provider returned error"))
        return;
    doc = tr_json_read(raw);
    if (doc) {
        struct tr_wire_error inner = {0};

        read_value(&inner, yyjson_doc_get_root(doc), depth + 1);
        if (inner.message[0])
            memcpy(e->message, inner.message, sizeof e->message);
        if (inner.code[0] && !strchr("0123456789", inner.code[0]))
            memcpy(e->code, inner.code, sizeof e->code);
        snprintf(e->detail, sizeof e->detail, "%s",
                 inner.detail[0] ? inner.detail : inner.type);
        e->detail_ms = inner.detail_ms;
        e->words_ms = inner.words_ms;
        yyjson_doc_free(doc);
    } else {
        keep(e->message, sizeof e->message, raw);
        e->words_ms = tr_wire_try_again_ms(raw);
    }
}

/* {"detail":[{"loc":["body","max_completion_tokens"],"msg":...}]} */
static void read_detail(struct tr_wire_error *e, yyjson_val *detail)
{
    yyjson_val *one = yyjson_arr_get_first(detail);
    yyjson_val *loc = yyjson_obj_get(one ? one : detail, "loc");

    if (!one)
        one = detail;
    keep_field(e->message, sizeof e->message, one, "msg");
    keep_field(e->message, sizeof e->message, one, "message");
    keep_field(e->type, sizeof e->type, one, "error_type");
    keep_field(e->type, sizeof e->type, one, "type");
    if (yyjson_is_arr(loc))
        keep(e->param, sizeof e->param, string_of(yyjson_arr_get_last(loc)));
}

static void read_value(struct tr_wire_error *e, yyjson_val *v, int depth)
{
    yyjson_val *error, *detail;

    if (depth > 2)
        return;
    if (yyjson_is_arr(v))
        v = yyjson_arr_get_first(v);
    if (!yyjson_is_obj(v))
        return;
    error = yyjson_obj_get(v, "error");
    detail = yyjson_obj_get(v, "detail");
    if (yyjson_is_obj(error)) {
        read_value(e, yyjson_obj_get(error, "message"), depth + 1);
        keep_message(e, error, "message");
        keep_field(e->code, sizeof e->code, error, "code");
        keep_field(e->code, sizeof e->code, yyjson_obj_get(error, "details"),
                   "error_code"); /* Anthropic */
        read_details(e, yyjson_obj_get(error, "details"));
        keep_field(e->type, sizeof e->type, error, "type");
        keep_field(e->type, sizeof e->type, error, "status");
        keep_field(e->param, sizeof e->param, error, "param");
        read_metadata(e, error, depth);
    }
    /* An object where text belongs: an error inside the error. */
    read_value(e, yyjson_obj_get(v, "message"), depth + 1);
    keep_message(e, v, "message");
    keep_message(e, v, "detail");
    keep_message(e, v, "error");
    if (yyjson_is_arr(detail) || yyjson_is_obj(detail))
        read_detail(e, detail);
    keep_field(e->code, sizeof e->code, v, "code");
    keep_field(e->type, sizeof e->type, v, "error_type");
    keep_field(e->type, sizeof e->type, v, "type");
    keep_field(e->param, sizeof e->param, v, "param");
}

void tr_wire_error_value(struct tr_wire_error *e, yyjson_val *v)
{
    memset(e, 0, sizeof *e);
    read_value(e, v, 0);
}

void tr_wire_error_read(struct tr_wire_error *e, struct tr_str body)
{
    yyjson_doc *doc;

    memset(e, 0, sizeof *e);
    body = tr_str_trim(body);
    if (!body.n)
        return;
    doc = body.p[0] == '{' || body.p[0] == '[' ? tr_json_read(body) : NULL;
    if (doc)
        read_value(e, yyjson_doc_get_root(doc), 0);
    if (!e->message[0] && !e->code[0] && !e->type[0])
        read_text(e, body);
    yyjson_doc_free(doc);
}

/* ---- classification --------------------------------------------------- */

/* Words that leave it to the wait that is told. */
enum undecided {
    A_DAY = TR_OUT_COUNT, /* a short one: an ordinary throttle */
    A_QUOTA               /* any: an ordinary throttle; none: money */
};

/* Read top to bottom, the first row that fits decides. Status first, words
 * last; a word is looked for in code, type, detail and message, case
 * ignored. */
static const struct rule {
    int from, to;        /* status */
    const char *word;    /* NULL: any */
    int outcome;         /* enum tr_outcome or undecided */
} rules[] = {
    /* money and quota, under whichever status */
    {400, 599, "insufficient_quota", TR_OUT_EXHAUSTED},
    {400, 428, "exceeded your current quota", TR_OUT_EXHAUSTED},
    {400, 499, "budget_exceeded", TR_OUT_EXHAUSTED},
    {400, 499, "billing_hard_limit", TR_OUT_EXHAUSTED},
    {400, 499, "billing_not_active", TR_OUT_EXHAUSTED},
    {400, 499, "credit balance", TR_OUT_EXHAUSTED},
    {400, 499, "insufficient balance", TR_OUT_EXHAUSTED},
    {400, 499, "insufficient credit", TR_OUT_EXHAUSTED},
    {400, 499, "specified api usage limits", TR_OUT_EXHAUSTED}, /* Anthropic */
    {400, 499, "spend_limit_reached", TR_OUT_EXHAUSTED},
    {400, 499, "blocked_api_access", TR_OUT_EXHAUSTED}, /* Groq */
    {412, 412, "suspended", TR_OUT_EXHAUSTED}, /* Fireworks */
    {412, 412, "spending limit", TR_OUT_EXHAUSTED},
    {403, 403, "out of call volume quota", TR_OUT_EXHAUSTED}, /* Azure */
    {402, 402, NULL, TR_OUT_EXHAUSTED},
    /* the key */
    {401, 401, NULL, TR_OUT_FATAL},
    {407, 407, NULL, TR_OUT_FATAL}, /* a proxy's */
    {400, 400, "api_key_invalid", TR_OUT_FATAL},
    {400, 400, "api key not valid", TR_OUT_FATAL},
    {400, 400, "invalid_api_key", TR_OUT_FATAL},
    /* the content */
    {400, 422, "content_filter", TR_OUT_REFUSED},
    {400, 422, "content_policy", TR_OUT_REFUSED},
    {400, 422, "content management policy", TR_OUT_REFUSED},
    {400, 422, "invalid_prompt", TR_OUT_REFUSED},
    {400, 422, "bio_policy", TR_OUT_REFUSED},
    {400, 403, "moderation", TR_OUT_REFUSED},
    {400, 403, "flagged", TR_OUT_REFUSED},
    {400, 400, "refusal", TR_OUT_REFUSED},
    {400, 422, "content filtering policy", TR_OUT_REFUSED}, /* Anthropic */
    {400, 422, "content exists risk", TR_OUT_REFUSED}, /* DeepSeek */
    {400, 403, "usage guidelines", TR_OUT_REFUSED}, /* xAI */
    {400, 403, "safety_check", TR_OUT_REFUSED},
    /* size, some with 403 (Together) */
    {413, 413, NULL, TR_OUT_TOO_BIG},
    {400, 422, "context_length_exceeded", TR_OUT_TOO_BIG},
    {400, 422, "exceed_context_size", TR_OUT_TOO_BIG},
    {400, 422, "maximum context length", TR_OUT_TOO_BIG},
    {400, 422, "context length", TR_OUT_TOO_BIG},
    {400, 422, "context window", TR_OUT_TOO_BIG},
    {400, 422, "context size", TR_OUT_TOO_BIG},
    {400, 422, "contextwindowexceeded", TR_OUT_TOO_BIG},
    {400, 422, "prompt is too long", TR_OUT_TOO_BIG},
    {400, 422, "maximum number of tokens", TR_OUT_TOO_BIG}, /* Gemini */
    {400, 422, "string_too_long", TR_OUT_TOO_BIG},
    {400, 422, "max_tokens_exceeded", TR_OUT_TOO_BIG},
    {400, 422, "token_limit_exceeded", TR_OUT_TOO_BIG},
    {400, 422, "too large for model", TR_OUT_TOO_BIG},
    {400, 422, "exceed context limit", TR_OUT_TOO_BIG}, /* Anthropic */
    {400, 422, "maximum prompt length", TR_OUT_TOO_BIG}, /* xAI */
    {400, 422, "max_new_tokens must be", TR_OUT_TOO_BIG}, /* TGI, Together */
    {429, 429, "request too large", TR_OUT_TOO_BIG},
    /* permission and address */
    {403, 403, NULL, TR_OUT_FATAL},
    {404, 405, NULL, TR_OUT_FATAL},
    {410, 410, NULL, TR_OUT_FATAL},
    {400, 400, "model_not_found", TR_OUT_FATAL},
    {400, 400, "invalid model", TR_OUT_FATAL},
    {400, 400, "failed_precondition", TR_OUT_FATAL}, /* Gemini: region */
    {300, 399, NULL, TR_OUT_FATAL}, /* redirects are not followed */
    /* a day or month used up */
    {429, 429, "perday", A_DAY},
    {429, 429, "per day", A_DAY},
    {429, 429, "per-day", A_DAY},
    {429, 429, "(rpd)", A_DAY},
    {429, 429, "(tpd)", A_DAY},
    {429, 429, "daily", A_DAY},
    {429, 429, "per month", A_DAY},
    /* Google says "exceeded your current quota" of every limit there is */
    {429, 429, "depleted", TR_OUT_EXHAUSTED},
    {429, 429, "resource_exhausted", TR_OUT_THROTTLED},
    {429, 429, "exceeded your current quota", A_QUOTA},
    {429, 429, "spend", A_QUOTA}, /* Anthropic: a limit, and no word on when */
    /* slow down */
    {429, 429, NULL, TR_OUT_THROTTLED},
    {498, 498, NULL, TR_OUT_THROTTLED},
    {503, 503, NULL, TR_OUT_THROTTLED},
    {529, 529, NULL, TR_OUT_THROTTLED},
    /* OpenAI, where nothing but reasoning fitted under the cap */
    {400, 400, "output limit was reached", TR_OUT_CUT_SHORT},
    /* try again */
    {400, 400, "json_validate_failed", TR_OUT_TRANSIENT},
    {501, 501, NULL, TR_OUT_FATAL}, /* the server has no such endpoint */
    {500, 599, NULL, TR_OUT_TRANSIENT},
    {400, 400, NULL, TR_OUT_BAD_REQUEST},
    {422, 422, NULL, TR_OUT_BAD_REQUEST},
    {400, 499, NULL, TR_OUT_TRANSIENT}, /* 408, 421, 424: not of the texts */
    {INT_MIN, INT_MAX, NULL, TR_OUT_GARBLED}, /* the search ends here */
};

static const struct {
    enum tr_net net;
    enum tr_outcome sent, unsent;
} nets[] = {
    {TR_NET_DNS, TR_OUT_UNREACHED, TR_OUT_UNREACHED},
    {TR_NET_CONNECT, TR_OUT_LOST, TR_OUT_UNREACHED},
    {TR_NET_TLS, TR_OUT_LOST, TR_OUT_UNREACHED},
    {TR_NET_REFUSED, TR_OUT_FATAL, TR_OUT_FATAL},
    {TR_NET_TIMEOUT, TR_OUT_LOST, TR_OUT_UNREACHED},
    {TR_NET_CUT, TR_OUT_LOST, TR_OUT_UNREACHED},
    {TR_NET_TOO_BIG, TR_OUT_GARBLED, TR_OUT_GARBLED},
    {TR_NET_OTHER, TR_OUT_LOST, TR_OUT_UNREACHED},
};

static enum tr_billing billing_of(int status)
{
    if (status >= 200 && status < 300)
        return TR_BILL_USAGE;
    if (status < 200) /* hints, or nothing: it may be at work */
        return TR_BILL_UNKNOWN;
    if (status < 500 || status == 501 || status == 503 || status == 529)
        return TR_BILL_NONE;
    return TR_BILL_UNKNOWN;
}

static void classify_net(const struct tr_http_result *r,
                         struct tr_reply *reply)
{
    reply->outcome = TR_OUT_LOST;
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        if (nets[i].net == r->net)
            reply->outcome = r->sent ? nets[i].sent : nets[i].unsent;
    }
    reply->billing = !r->sent                      ? TR_BILL_NONE
                     : r->net == TR_NET_TOO_BIG ? billing_of(r->status)
                                                   : TR_BILL_UNKNOWN;
    snprintf(reply->message, sizeof reply->message, "%s", r->message);
    tr_wire_redact(reply->message, sizeof reply->message);
}

static bool says(const struct tr_wire_error *e, const char *word)
{
    return holds(e->code, word) || holds(e->type, word) ||
           holds(e->detail, word) || holds(e->message, word);
}

static void wait_from_words(const struct tr_wire_error *e,
                            struct tr_reply *reply)
{
    const struct tr_limit *const limits[] = {
        &reply->limits.requests, &reply->limits.tokens, &reply->limits.input,
        &reply->limits.output};

    if (reply->retry_after_ms < 0)
        reply->retry_after_ms = tr_wire_try_again_ms(tr_str_c(e->message));
    if (reply->retry_after_ms < 0 && e->words_ms > 0)
        reply->retry_after_ms = e->words_ms;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (reply->retry_after_ms < 0 && limits[i]->remaining == 0)
            reply->retry_after_ms = limits[i]->reset_ms;
}

static enum tr_outcome decide(int outcome, struct tr_reply *reply)
{
    if (outcome == TR_OUT_EXHAUSTED)
        reply->retry_after_ms = -1; /* money does not come by waiting */
    if (outcome < TR_OUT_COUNT)
        return (enum tr_outcome)outcome;
    if (outcome == A_DAY && reply->retry_after_ms < 0)
        reply->retry_after_ms = UNKNOWN_DAY_MS;
    return reply->retry_after_ms < 0 ||
                   (outcome == A_DAY && reply->retry_after_ms >= LONG_WAIT_MS)
               ? TR_OUT_EXHAUSTED
               : TR_OUT_THROTTLED;
}

static void say(const struct tr_http_result *r, const struct tr_wire_error *e,
                struct tr_reply *reply)
{
    struct tr_str to = tr_wire_header(r->headers, "location");

    if (r->status >= 300 && r->status < 400 && to.n)
        snprintf(reply->message, sizeof reply->message,
                 "the server redirects to %.*s; redirects are never "
                 "followed: give the final address with --base-url",
                 to.n > 150 ? 150 : (int)to.n, to.p);
    else if (e->message[0])
        snprintf(reply->message, sizeof reply->message, "%s", e->message);
    else
        snprintf(reply->message, sizeof reply->message, "HTTP %d %s%s%s",
                 r->status, e->type, e->type[0] && e->code[0] ? " " : "",
                 e->code);
    tr_wire_redact(reply->message, sizeof reply->message);
}

void tr_wire_classify(const struct tr_http_result *r,
                      const struct tr_wire_error *e, struct tr_reply *reply)
{
    const struct rule *rule = rules;

    /* A refusal whose body broke off is still a refusal, and free. */
    reply->ours = r->ours;
    if (r->net != TR_NET_OK && r->status < 400) {
        classify_net(r, reply);
        return;
    }
    while (r->status < rule->from || r->status > rule->to ||
           (rule->word && !says(e, rule->word)))
        rule++;
    reply->billing = billing_of(r->status);
    if (e->detail_ms > 0)
        reply->retry_after_ms = e->detail_ms;
    if (r->status == 429 || r->status == 503 || r->status == 529 ||
        r->status == 498)
        wait_from_words(e, reply);
    reply->slow_down = r->status == 503 && says(e, "slow down");
    reply->outcome = decide(rule->outcome, reply);
    if (reply->outcome == TR_OUT_BAD_REQUEST &&
        tr_str_eq_c(tr_wire_header(r->headers, "x-should-retry"), "true"))
        reply->outcome = TR_OUT_TRANSIENT;
    if (reply->outcome == TR_OUT_CUT_SHORT)
        reply->usage.reasoning = 1; /* some, and no word of the answer */
    say(r, e, reply);
}
