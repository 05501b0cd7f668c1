/* batch_server.c - what the provider says of its batches: objects, lists in
 * pages, files and results, in both vendors' words, and faults of all of them.
 *
 * SPDX-License-Identifier: MIT */
#include "batch.h"

#include <inttypes.h>
#include <stdio.h>

#define RETRY_MOST_S 300

/* ---- replies ------------------------------- */

static void say(struct ask *a, int status, const char *text)
{
    a->status = status;
    tr_buf_clear(&a->reply);
    tr_buf_addz(&a->reply, text);
}

static void refuse(struct ask *a, int status, const char *type,
                   const char *code)
{
    say(a, status, "");
    tr_buf_addf(&a->reply, "{\"type\":\"error\",\"error\":{\"type\":\"%s\","
                "\"code\":\"%s\",\"message\":\"No: %s.\"}}", type, code, code);
}

static void date(struct tr_buf *out, int64_t wall_s)
{
    int64_t days = wall_s / 86400, s = wall_s % 86400, y = 1970, m = 0;
    static const int months[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
                                 31};

    for (;; y++) {
        int64_t n = 365 + (y % 4 == 0);

        if (days < n)
            break;
        days -= n;
    }
    for (;; m++) {
        int64_t n = months[m] + (m == 1 && y % 4 == 0);

        if (days < n)
            break;
        days -= n;
    }
    tr_buf_addf(out, "%04d-%02d-%02dT%02d:%02d:%02dZ", (int)y, (int)m + 1,
                (int)days + 1, (int)(s / 3600), (int)(s / 60 % 60),
                (int)(s % 60));
}

/* The object of a batch. */
static void describe(struct sim *w, struct batch *b, struct tr_buf *out,
                     bool polled)
{
    bool there = b->state == ENDED;
    const char *status = b->state == FAILED ? "failed"
                         : !there ? b->cancelled ? "cancelling" : "in_progress"
                         : b->cancelled ? "cancelled"
                         : b->expires ? "expired" : "completed";

    if (polled)
        b->odd = strikes(w, B_STATUS);
    if (polled && b->odd)
        status = "pondering", there = false;
    else if (there && polled && b->late)
        there = --b->late == 0;
    else
        there = there && !b->late;
    if (!is_openai(w)) {
        bool ended = b->state == ENDED;

        tr_buf_addf(out, "{\"id\":\"%s\",\"type\":\"message_batch\","
                    "\"processing_status\":\"%s\",\"request_counts\":{"
                    "\"processing\":%d,\"succeeded\":%d,\"errored\":%d,"
                    "\"canceled\":0,\"expired\":%d},\"created_at\":\"", b->name,
                    strcmp(status, "pondering") == 0 ? status
                    : ended ? "ended" : b->cancelled ? "canceling"
                                                     : "in_progress",
                    ended ? 0 : b->n, (int)b->completed,
                    (int)b->errored,
                    ended ? b->n - (int)(b->completed + b->errored) : 0);
        date(out, b->wall_s);
        tr_buf_addz(out, "\",\"results_url\":");
        if (there)
            tr_buf_addf(out, "\"" BASE "/messages/batches/%s/results\"}",
                        b->name);
        else
            tr_buf_addz(out, "null}");
        return;
    }
    tr_buf_addf(out, "{\"id\":\"%s\",\"object\":\"batch\",\"status\":\"%s\","
                "\"created_at\":%" PRId64 ",\"metadata\":{\"trommel\":\"%s\"},"
                "\"request_counts\":{\"total\":%d,\"completed\":%d,"
                "\"failed\":%d}", b->name, status, b->wall_s, b->mark, b->n,
                (int)b->completed, (int)b->errored);
    if (there && b->results[0].n)
        tr_buf_addf(out, ",\"output_file_id\":\"file-%s-0\"", b->name);
    if (there && b->results[1].n)
        tr_buf_addf(out, ",\"error_file_id\":\"file-%s-1\"", b->name);
    if (b->state == FAILED)
        tr_buf_addf(out, ",\"errors\":{\"data\":[{\"code\":\"%s\","
                    "\"message\":\"It failed: %s.\"}]}", b->failure,
                    b->failure);
    tr_buf_addz(out, "}");
}

static void list(struct sim *w, struct ask *a)
{
    struct sim_batches *all = w->batches;
    size_t page = all->all_n / 8 + 2, at = all->all_n, n = 0;
    const struct batch *last = NULL;

    for (size_t i = 0; a->after[0] && i < all->all_n; i++)
        if (strcmp(all->all[i]->name, a->after) == 0)
            at = i;
    say(a, 200, "{\"object\":\"list\",\"data\":[");
    while (at && n < page) {
        struct batch *b = all->all[--at];

        if (b->state == ON_ITS_WAY || b->state == NEVER_MADE ||
            b->shown_at > w->now)
            continue;
        tr_buf_addz(&a->reply, n++ ? "," : "");
        describe(w, b, &a->reply, false);
        last = b;
    }
    tr_buf_addf(&a->reply, "],\"has_more\":%s", at && n ? "true" : "false");
    if (last)
        tr_buf_addf(&a->reply, ",\"last_id\":\"%s\"", last->name);
    tr_buf_addz(&a->reply, "}");
}

static void upload(struct sim *w, struct ask *a)
{
    struct sim_batches *all = w->batches;
    struct file *f;

    TR_ASSERT(tr_grow((void **)&all->files, &all->file_cap, all->file_n + 1,
                      sizeof *all->files));
    f = &all->files[all->file_n++];
    *f = (struct file){.text = a->body};
    tr_buf_init(&a->body, 0);
    snprintf(f->name, sizeof f->name, "file-in-%d", ++all->names);
    say(a, 200, "");
    tr_buf_addf(&a->reply, "{\"id\":\"%s\",\"object\":\"file\"}", f->name);
}

static void create(struct sim *w, struct ask *a)
{
    struct batch *b = a->batch;
    struct sim_provider *p = b->p;

    p->requests += b->n;
    if (p->o->gone_after && p->requests > p->o->gone_after && w->faults_on)
        p->model_gone = true;
    if (p->model_gone) {
        refuse(a, 404, "invalid_request_error", "model_not_found");
    } else if (sim_quota_is_gone(p)) {
        refuse(a, 429, "insufficient_quota", "insufficient_quota");
    } else if (b->n > 1 && strikes(w, B_TOO_BIG)) {
        refuse(a, 413, "request_too_large", "too large");
    } else {
        sim_batch_make(w, b);
        say(a, 200, "");
        describe(w, b, &a->reply, false);
        return;
    }
    b->state = NEVER_MADE;
}

static void cancel_batch(struct sim *w, struct ask *a)
{
    struct batch *b = a->batch;

    if (!b) {
        refuse(a, 404, "not_found_error", "not_found");
        return;
    }
    if (b->state == RUNNING && !b->stuck && !b->cancelled) {
        b->cancelled = true;
        w->marks[M_B_CANCELLED]++;
        if (b->ends_at > w->now + 600 * TR_S)
            b->ends_at = w->now + draw_s(w, 600) * TR_S;
    }
    if (b->stuck) /* whoever gives it up may ask its rows again */
        sim_batch_land(w, b);
    say(a, 200, "");
    describe(w, b, &a->reply, false);
}

static void content(struct sim *w, struct ask *a)
{
    struct batch *b = a->batch;
    struct tr_str text = b ? tr_buf_str(&b->results[a->errors]) : TR_STR("");

    if (!b || b->state != ENDED || (!text.n && is_openai(w)) ||
        strikes(w, B_GONE)) {
        refuse(a, 404, "not_found_error", "not_found");
        return;
    }
    say(a, 200, "");
    if (strikes(w, B_SHORT) && text.n) {
        bool at_line = tr_rng_below(&w->rng, 2);

        text.n = (size_t)tr_rng_below(&w->rng, text.n);
        while (at_line && text.n && text.p[text.n - 1] != '\n')
            text.n--;
    }
    tr_buf_adds(&a->reply, text);
}

static void serve(struct sim *w, struct ask *a)
{
    switch (a->kind) {
    case UPLOAD:
        upload(w, a);
        break;
    case CREATE:
        create(w, a);
        break;
    case LIST:
        if (strikes(w, B_NO_LIST))
            refuse(a, 404, "not_found_error", "not_found");
        else
            list(w, a);
        break;
    case POLL:
        if (!a->batch) {
            refuse(a, 404, "not_found_error", "not_found");
            break;
        }
        say(a, 200, "");
        describe(w, a->batch, &a->reply, true);
        break;
    case CANCEL:
        cancel_batch(w, a);
        break;
    case FETCH:
        content(w, a);
        break;
    }
}

/* It has arrived: is it done, and what is said about that? */
void sim_batch_arrive(struct sim *w, struct ask *a)
{
    struct sim_provider *p = &w->providers[0];
    const struct sim_lane_options *o = p->o;
    int64_t since = w->now - TR_S;
    bool outage = o->outage_at_s && w->faults_on &&
                  since >= o->outage_at_s * TR_S &&
                  since < (o->outage_at_s + o->outage_s) * TR_S;
    bool done = true;

    tr_buf_addz(&a->headers, "date: ");
    date(&a->headers, sim_wall_s(w));
    tr_buf_addc(&a->headers, '\n');
    a->stage = ON_WAY_BACK;
    a->back_at = w->now + TR_MS + (int64_t)(o->latency_ms *
                 (0.5 + tr_rng_unit(&w->rng))) * TR_MS;
    if (strikes(w, B_KEY))
        p->key_refused = true;
    if (p->key_refused) {
        refuse(a, 401, "authentication_error", "invalid_api_key");
        done = false;
    } else if (outage) {
        refuse(a, 503, "overloaded_error", "overloaded");
        done = false;
    } else if (strikes(w, B_THROTTLE)) {
        refuse(a, 429, "rate_limit_error", "rate_limit_exceeded");
        if (o->retry_after)
            tr_buf_addf(&a->headers, "retry-after: %d\n",
                        (int)draw_s(w, RETRY_MOST_S));
        done = false;
    } else if (strikes(w, B_ERROR)) {
        if ((done = tr_rng_below(&w->rng, 2) != 0))
            serve(w, a);
        refuse(a, 500, "api_error", "internal_error");
    } else if (strikes(w, B_NONSENSE)) {
        if ((done = tr_rng_below(&w->rng, 2) != 0))
            serve(w, a);
        say(a, 200, "<html><body>Please sign in</body></html>");
        a->nonsense = true;
    } else {
        serve(w, a);
        if (strikes(w, B_CUT)) {
            a->net = TR_NET_CUT;
        } else if (strikes(w, B_HANG)) {
            a->net = TR_NET_TIMEOUT;
            a->back_at = a->deadline_at;
        } else {
            a->repeats = a->kind == CREATE && strikes(w, B_REPEATED);
        }
    }
    if (a->net != TR_NET_OK)
        say(a, 0, "");
    if (!done && a->kind == CREATE)
        a->batch->state = NEVER_MADE;
    if (a->kind == CREATE && a->batch->state == NEVER_MADE)
        sim_batch_land(w, a->batch);
    sim_trace(w, "asked %d %s: net %d status %d %.*s", (int)a->kind, a->name,
              (int)a->net, a->status, a->reply.n < 160 ? (int)a->reply.n : 160,
              a->reply.n ? a->reply.p : "");
    sim_event(w, 'a', (int64_t)a->kind << 20 | a->status, (int64_t)a->reply.n);
}
