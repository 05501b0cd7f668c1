/* lane.c - a lane over HTTP: dialect above, transport below.
 * SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/bounds.h"
#include "base/secret.h"
#include "wire/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct http_lane {
    struct tr_lane lane; /* first: the two are cast to each other */
    struct tr_lane_vt vt;
    const struct tr_dialect *dialect;
    struct tr_transport *transport;
    struct tr_quirks quirks;
    const struct tr_question *asked; /* of the last call; the engine's */
    struct tr_buf scratch;  /* owns reply->text */
    char wire_model[160];   /* the model as the server calls it */
    /* Taken out of messages: the key, the values of the row's headers. */
    struct tr_secret *secrets[1 + TR_ROW_HEADERS_MAX];
    size_t secret_count;
    char key_from[160];     /* for a refused key: where it came from */
};

static int lane_encode(struct tr_lane *lane, const struct tr_call *call,
                       struct tr_buf *body, struct tr_err *err)
{
    struct http_lane *l = (struct http_lane *)lane;

    l->asked = call->question;
    return l->dialect->encode(l->wire_model, &l->quirks, call, body, err);
}

static int lane_start(struct tr_lane *lane, const struct tr_shot *shot,
                      struct tr_err *err)
{
    struct http_lane *l = (struct http_lane *)lane;

    return l->transport->start(l->transport, shot->tag, shot->body,
                               shot->deadline_ms, err);
}

static void add_words(char *text, size_t size, const char *words)
{
    size_t n = strlen(text);

    if (n < size)
        snprintf(text + n, size - n, "%s", words);
}

static void request_id_of(const struct tr_http_result *r,
                          struct tr_reply *reply)
{
    struct tr_str id = tr_wire_header(r->headers, "x-request-id");

    if (!id.n)
        id = tr_wire_header(r->headers, "request-id");
    if (!id.n)
        id = tr_wire_header(r->headers, "x-typesafe-request-id");
    snprintf(reply->request_id, sizeof reply->request_id, "%.*s",
             id.n > 79 ? 79 : (int)id.n, id.n ? id.p : "");
    tr_wire_redact(reply->request_id, sizeof reply->request_id);
}

void tr_lane_hide_key(const struct tr_lane *lane, struct tr_reply *reply)
{
    const struct http_lane *l = (const struct http_lane *)lane;

    for (size_t i = 0; i < l->secret_count; i++) {
        const struct tr_secret *s = l->secrets[i];

        tr_secret_hide(s, reply->message, sizeof reply->message);
        tr_secret_hide(s, reply->served, sizeof reply->served);
        tr_secret_hide(s, reply->request_id, sizeof reply->request_id);
    }
}

void tr_lane_decode(struct tr_lane *lane, const struct tr_http_result *r,
                    struct tr_reply *reply)
{
    struct http_lane *l = (struct http_lane *)lane;

    l->dialect->decode(&l->quirks, l->asked, r, &l->scratch, reply);
    lane->no_schema = l->quirks.no_schema;
    tr_lane_hide_key(lane, reply);
    if (reply->message[0] && r->status == 401)
        add_words(reply->message, sizeof reply->message, l->key_from);
}

unsigned tr_lane_refused_fields(const struct tr_lane *lane)
{
    return ((const struct http_lane *)lane)->quirks.refused;
}

void tr_lane_written_before(struct tr_lane *lane)
{
    ((struct http_lane *)lane)->quirks.stale = 0;
}

struct tr_transport *tr_lane_transport(struct tr_lane *lane)
{
    return ((struct http_lane *)lane)->transport;
}

static int lane_next(struct tr_lane *lane, struct tr_reply *reply)
{
    struct http_lane *l = (struct http_lane *)lane;
    struct tr_transport *t = l->transport;
    struct tr_http_result r;

    if (!t->next(t, &r))
        return 0;
    reply->tag = r.tag;
    reply->status = r.status;
    reply->scores = NULL;
    reply->latency_ms = r.latency_ms;
    reply->served[0] = reply->message[0] = '\0';
    tr_wire_limits(r.headers, t->wall_s ? t->wall_s(t) : tr_clock_wall_s(),
                   &reply->limits, &reply->retry_after_ms);
    request_id_of(&r, reply);
    tr_lane_decode(lane, &r, reply);
    return 1;
}

static void lane_wait(struct tr_lane *lane, int timeout_ms, int extra_fd)
{
    struct http_lane *l = (struct http_lane *)lane;

    l->transport->wait(l->transport, timeout_ms, extra_fd);
}

static int lane_watch(struct tr_lane *lane, int *timeout_ms)
{
    struct http_lane *l = (struct http_lane *)lane;

    return l->transport->watch(l->transport, timeout_ms);
}

static void lane_wakeup(struct tr_lane *lane)
{
    struct http_lane *l = (struct http_lane *)lane;

    if (l->transport->wakeup)
        l->transport->wakeup(l->transport);
}

static void lane_cancel(struct tr_lane *lane)
{
    struct http_lane *l = (struct http_lane *)lane;

    l->transport->cancel(l->transport);
}

/* ---- what is kept from run to run ------------------------------------- */

static void lane_learned(struct tr_lane *lane, struct tr_buf *out)
{
    const struct tr_quirks *q = &((struct http_lane *)lane)->quirks;

    if (!q->refused)
        return;
    tr_buf_addf(out, "old_cap=%d no_schema=%d zero_temperature=%d effort=%d "
                "efforts=%u refused=%u%s",
                q->old_cap, q->no_schema, q->zero_temperature, q->effort,
                q->efforts, q->refused, q->no_cache ? " no_cache=1" : "");
}

static bool read_number(struct tr_str text, const char *name, long *value)
{
    size_t n = strlen(name);

    for (size_t i = 0; i + n < text.n; i++) {
        char digits[12] = "";

        if ((i && text.p[i - 1] != ' ') || memcmp(text.p + i, name, n) != 0 ||
            text.p[i + n] != '=')
            continue;
        i += n + 1;
        for (size_t k = 0; k < sizeof digits - 1 && i < text.n &&
                           text.p[i] != ' ';
             k++, i++)
            digits[k] = text.p[i];
        *value = strtol(digits, NULL, 10);
        return true;
    }
    return false;
}

static void lane_teach(struct tr_lane *lane, struct tr_str text)
{
    struct tr_quirks *q = &((struct http_lane *)lane)->quirks;
    long n;

    if (!read_number(text, "refused", &n) || n <= 0 || n > 0xff)
        return;
    q->refused = (unsigned)n;
    if (read_number(text, "old_cap", &n))
        q->old_cap = n != 0;
    if (read_number(text, "no_schema", &n))
        lane->no_schema = q->no_schema = n != 0;
    if (read_number(text, "zero_temperature", &n))
        q->zero_temperature = n != 0;
    if (read_number(text, "no_cache", &n))
        q->no_cache = n != 0;
    if (q->effort_fixed)
        return;
    if (read_number(text, "effort", &n) && n >= -1 && n < TR_EFFORT_COUNT)
        q->effort = (int)n;
    if (read_number(text, "efforts", &n) && n >= 0)
        q->efforts = (unsigned)n & ((1u << TR_EFFORT_COUNT) - 1);
}

/* ---- open and close --------------------------------------------------- */

static void lane_close(struct tr_lane *lane)
{
    struct http_lane *l = (struct http_lane *)lane;

    if (!l)
        return;
    if (l->transport)
        l->transport->close(l->transport);
    tr_buf_release(&l->scratch);
    while (l->secret_count)
        tr_secret_free(l->secrets[--l->secret_count]);
    tr_free(l);
}

static const struct tr_lane_vt lane_vt = {
    .encode = lane_encode,
    .start = lane_start,
    .next = lane_next,
    .wait = lane_wait,
    .watch = lane_watch,
    .wakeup = lane_wakeup,
    .cancel = lane_cancel,
    .learned = lane_learned,
    .teach = lane_teach,
    .close = lane_close,
};

int tr_lane_over(struct tr_lane **out, const struct tr_dialect *dialect,
                 const char *model, const struct tr_model_facts *facts,
                 struct tr_transport *transport, struct tr_err *err)
{
    struct http_lane *l = tr_alloc(sizeof *l);
    const char *slash = strchr(model, '/');

    *out = NULL;
    if (!l)
        return tr_fail(err, TR_NOMEM, "out of memory");
    l->vt = lane_vt;
    if (!transport->wait)
        l->vt.wait = NULL;
    if (!transport->watch)
        l->vt.watch = NULL;
    l->lane.vt = &l->vt;
    l->lane.facts = *facts;
    l->lane.decides = dialect->decides;
    l->lane.pack_auto = dialect->decides ? 1 : 0;
    l->lane.questions_max = dialect->questions_max;
    l->lane.options_max = dialect->options_max;
    l->dialect = dialect;
    l->transport = transport;
    l->quirks.effort = -1;
    tr_buf_init(&l->scratch, TR_REPLY_BYTES_MAX);
    snprintf(l->lane.model, sizeof l->lane.model, "%s", model);
    snprintf(l->wire_model, sizeof l->wire_model, "%s",
             slash ? slash + 1 : model);
    *out = &l->lane;
    return TR_OK;
}

void tr_lane_quirks(struct tr_lane *lane, const struct tr_quirks *quirks)
{
    ((struct http_lane *)lane)->quirks = *quirks;
    lane->no_schema = quirks->no_schema;
}

static void describe_key(struct http_lane *l, const struct tr_lane_opts *o,
                         const struct tr_provider *p)
{
    const char *from = o->key_file  ? o->key_file
                       : o->key_env ? o->key_env
                       : p->key_file ? p->key_file
                                     : p->key_env;

    if (l->lane.has_key)
        snprintf(l->key_from, sizeof l->key_from,
                 " (the key came from %.100s)", from ? from : "the options");
    else
        snprintf(l->key_from, sizeof l->key_from,
                 " (no key was sent: --key-env NAME or --key-file FILE "
                 "gives one)");
}

/* Digests of a key cannot be turned back; the salt keeps them apart from all
 * other digests. */
static void describe_account(struct http_lane *l, const struct tr_target *t)
{
    char text[sizeof t->url + sizeof t->key + sizeof t->model + 3];
    struct tr_key salt = tr_digest(NULL, tr_str_c("trommel account")), key;

    snprintf(text, sizeof text, "%s\n%s\n%s", t->url, t->key, t->model);
    key = tr_digest(&salt, tr_str_c(text));
    tr_key_hex(&key, sizeof key.b, l->lane.account);
    tr_wipe(text, sizeof text);
}

static const char *env_of_process(const char *name)
{
    return getenv(name);
}

/* Three of our own, the row's, the dialect's, the key. */
#define HEADERS_MAX (3 + TR_ROW_HEADERS_MAX + 2 + 1)

/* Adds to headers, which holds three; a row's header replaces the dialect's
 * of the same name. line keeps the one with the key. */
static void add_headers(const char **headers, const struct tr_target *t,
                        char *line, size_t size)
{
    const char(*row)[sizeof t->headers[0]] = t->headers;
    size_t n = 3;

    for (size_t i = 0; row[i][0]; i++)
        headers[n++] = row[i];
    for (size_t i = 0; i < 2 && t->dialect->headers[i]; i++) {
        const char *ours = t->dialect->headers[i];
        size_t k = 0;

        while (row[k][0] &&
               strncasecmp(row[k], ours, strcspn(ours, ":") + 1) != 0)
            k++;
        if (!row[k][0])
            headers[n++] = ours;
    }
    if (!t->key[0])
        return;
    if (strcasecmp(t->key_header, "authorization") == 0)
        snprintf(line, size, "Authorization: Bearer %s", t->key);
    else
        snprintf(line, size, "%.100s: %s", t->key_header, t->key);
    headers[n++] = line;
}

/* Of a header's line what a server would have to say back to give a secret
 * away: the value, without a scheme such as Bearer. */
static const char *secret_of(const char *line)
{
    const char *value = strchr(line, ':') + 2, *blank = strchr(value, ' ');

    return blank && !strchr(blank + 1, ' ') ? blank + 1 : value;
}

/* No name tells for certain which header is a secret, so all values are kept
 * out of messages, but for such as "true" and "beta", which are words there. */
static bool keep_secrets(struct http_lane *l, const struct tr_target *t)
{
    enum { WORD_MAX = 7 };
    const char *texts[1 + TR_ROW_HEADERS_MAX];
    size_t n = 0;

    if (t->key[0])
        texts[n++] = t->key;
    for (size_t i = 0; t->headers[i][0]; i++) {
        if (strlen(secret_of(t->headers[i])) > WORD_MAX)
            texts[n++] = secret_of(t->headers[i]);
    }
    for (size_t i = 0; i < n; i++) {
        struct tr_secret *s = tr_secret_new(tr_str_c(texts[i]));

        if (!s)
            return false;
        l->secrets[l->secret_count++] = s;
    }
    return true;
}

static int open_over_http(struct tr_lane **out, const struct tr_target *target,
                          const struct tr_lane_opts *o, struct tr_err *err)
{
    const struct tr_model_facts facts =
        tr_catalog_cost(target->facts, target->is_free);
    const char *headers[HEADERS_MAX + 1] = {"Content-Type: application/json",
                                            "Accept: application/json",
                                            "User-Agent: trommel/0.1"};
    char key_line[700] = "";
    /* Not read by libcurl itself, but by everything else that speaks TLS;
     * who has an authority of their own sets it. */
    const char *ca_file = (o->env ? o->env : env_of_process)("SSL_CERT_FILE");
    struct tr_transport *transport = NULL;
    struct http_lane *l;
    int rc = TR_OK;

    if (ca_file && !ca_file[0])
        ca_file = NULL;
    add_headers(headers, target, key_line, sizeof key_line);
    TRY(tr_http_open(&transport,
                     &(struct tr_http_opts){.url = target->url,
                                            .headers = headers,
                                            .allow_http = o->allow_http,
                                            .allow_link_local =
                                                o->allow_link_local,
                                            .proxy = o->proxy,
                                            .ca_file = ca_file},
                     err));
    rc = tr_lane_over(out, target->dialect, o->model, &facts, transport, err);
    if (rc != TR_OK) {
        transport->close(transport);
        goto out;
    }
    l = (struct http_lane *)*out;
    tr_lane_quirks(*out, &target->quirks);
    snprintf(l->lane.host, sizeof l->lane.host, "%s", target->host);
    snprintf(l->lane.effort, sizeof l->lane.effort, "%s",
             o->effort ? o->effort : "");
    if (!keep_secrets(l, target)) {
        (*out)->vt->close(*out);
        *out = NULL;
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    }
    l->lane.has_key = target->key[0] != '\0';
    describe_key(l, o, target->provider);
    describe_account(l, target);
    if (target->provider->pack)
        l->lane.pack_auto = (uint32_t)target->provider->pack;
    if (target->provider->questions)
        l->lane.questions_max = (uint32_t)target->provider->questions;
    if (target->provider->options)
        l->lane.options_max = (uint32_t)target->provider->options;
    l->lane.concurrency_max = target->provider->concurrency;
    l->lane.rpm = target->provider->rpm;
    l->lane.tpm = target->provider->tpm;
    l->lane.has_cache_keys = target->quirks.cache_keys;
    l->lane.stands_in = target->stands_in;
    if (target->facts && target->facts->shutdown)
        snprintf(l->lane.shutdown, sizeof l->lane.shutdown, "%s",
                 target->facts->shutdown);
out:
    tr_wipe(key_line, sizeof key_line);
    return rc;
}

/* The same lane, but its requests go in batches. */
static int put_in_batches(struct tr_lane **lane, const struct tr_target *target,
                          const struct tr_lane_opts *o, struct tr_err *err)
{
    const struct tr_provider *p = target->provider;
    struct tr_lane *inner = *lane;
    struct tr_batch_lane_opts batch = {
        .url = target->url,
        .requests_max = p->batch_requests ? p->batch_requests : 10000,
        .bytes_max = (p->batch_mb ? p->batch_mb : 20) * 1000000,
        .price_pct = target->facts ? target->facts->batch_pct : 0,
        .user = o->batch,
    };

    *lane = NULL;
    if (!p->batch) {
        inner->vt->close(inner);
        return tr_fail(err, TR_CONFIG, "--batch: trommel knows no batches of "
                       "provider %s; leave --batch out, or give the provider "
                       "a row with batch: openai in config.yaml", p->name);
    }
    batch.form = tr_batch_form_find(p->batch);
    return tr_batch_lane_over(lane, inner, &batch, err);
}

int tr_http_lane_open(struct tr_lane **out, const struct tr_lane_opts *o,
                      struct tr_err *err)
{
    struct tr_catalog *catalog = NULL;
    struct tr_target target;
    int rc = TR_OK;

    *out = NULL;
    TRY(tr_catalog_open(&catalog, o, err));
    TRY(tr_target_find(&target, catalog, o, err));
    rc = open_over_http(out, &target, o, err);
    if (rc == TR_OK && o->batch)
        rc = put_in_batches(out, &target, o, err);
out:
    tr_wipe(&target, sizeof target);
    tr_catalog_close(catalog);
    return rc;
}
