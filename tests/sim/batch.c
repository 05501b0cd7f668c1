/* batch.c - a provider's batches: how they are made, worked on and end, with
 * results in any order, in part, or not at all.
 *
 * A batch outlives the processes that know of it: what its requests cost is
 * billed when they are worked on, whoever hears of it.
 *
 * SPDX-License-Identifier: MIT */
#include "batch.h"

#include "wire/batch.h"

#include <inttypes.h>
#include <stdlib.h>
#include <yyjson.h>

/* ---- batches ------------------------------- */

struct batch *sim_batch_named(struct sim_batches *b, const char *name)
{
    for (size_t i = b->all_n; i--; )
        if (b->all[i]->name[0] && strcmp(b->all[i]->name, name) == 0)
            return b->all[i];
    return NULL;
}

void sim_batch_land(struct sim *w, struct batch *b)
{
    for (int i = 0; i < b->n; i++)
        sim_land(w, &b->lines[i].f);
}

void sim_batch_free(struct batch *b)
{
    for (int i = 0; i < b->n; i++)
        sim_flight_free(&b->lines[i].f);
    tr_free(b->lines);
    tr_buf_release(&b->results[0]);
    tr_buf_release(&b->results[1]);
    tr_free(b);
}

/* "t" mark "-" attempt, as ids are ours. */
static uint64_t attempt_of(const char *id)
{
    const char *dash = strrchr(id, '-');

    return dash ? strtoull(dash + 1, NULL, 10) : 0;
}

static void add_line(struct sim *w, struct batch *b, yyjson_val *request)
{
    struct sim_batches *all = w->batches;
    yyjson_val *body = yyjson_obj_get(request,
                                      is_openai(w) ? "body" : "params");
    const char *id = yyjson_get_str(yyjson_obj_get(request, "custom_id"));
    struct line *l = &b->lines[b->n++];
    uint64_t attempt = attempt_of(id ? id : "");
    size_t n = 0;
    char *text = yyjson_val_write(body, 0, &n);

    *l = (struct line){.f = {
        .p = b->p, .run = w->run_number, .pct = w->o.batch_pct == 50 ? 50 : 100,
        .net = TR_NET_OK, .sent_at = w->now, .sent = true,
        .period = all->owners[attempt % OWNERS].period,
        .account = all->owners[attempt % OWNERS].account,
    }};
    snprintf(l->id, sizeof l->id, "%s", id ? id : "");
    if (!id || !text || all->owners[attempt % OWNERS].attempt != attempt)
        sim_fail(w, "request", "a request in a batch, and the lane was not "
                 "handed it: %s", id ? id : "no id");
    for (int i = 0; i + 1 < b->n; i++)
        if (strcmp(b->lines[i].id, l->id) == 0)
            sim_fail(w, "request", "the id %s is twice in a batch", l->id);
    if (text)
        sim_read_request(w, &l->f, tr_str(text, n));
    free(text);
    b->tokens += l->f.content_bytes / 4;
    sim_audit_making(w, b->mark, attempt);
    sim_leave(w, &l->f);
}

/* Whoever does not hear of a request's end counts it, worked on or not. */
void sim_batch_slack(struct sim *w, const struct batch *b, int by)
{
    for (int i = 0; i < b->n; i++)
        w->handed_in[b->lines[i].f.account] += by;
}

/* What is on its way to be made: its rows are in flight from now on. */
struct batch *sim_batch_new(struct sim *w, struct sim_provider *p,
                            struct tr_str requests, const char *mark)
{
    struct sim_batches *all = w->batches;
    struct batch *b = tr_alloc(sizeof *b);
    yyjson_doc *doc;
    yyjson_val *list, *v;
    size_t i, n;

    TR_ASSERT(tr_grow((void **)&all->all, &all->all_cap, all->all_n + 1,
                      sizeof *all->all));
    all->all[all->all_n++] = b;
    b->p = p;
    snprintf(b->mark, sizeof b->mark, "%s", mark);
    tr_buf_init(&b->results[0], 0);
    tr_buf_init(&b->results[1], 0);
    b->lines = tr_array(1 + requests.n / 20, sizeof *b->lines);
    if (is_openai(w)) {
        while (requests.n) {
            const char *end = memchr(requests.p, '\n', requests.n);

            n = end ? (size_t)(end - requests.p) : requests.n;
            doc = yyjson_read(requests.p, n, 0);
            if (doc)
                add_line(w, b, yyjson_doc_get_root(doc));
            else
                sim_fail(w, "request", "a line of a batch is not JSON");
            yyjson_doc_free(doc);
            n += end != NULL;
            requests = tr_str(requests.p + n, requests.n - n);
        }
    } else {
        doc = yyjson_read(requests.p, requests.n, 0);
        list = yyjson_obj_get(yyjson_doc_get_root(doc), "requests");
        yyjson_arr_foreach(list, i, n, v)
            add_line(w, b, v);
        yyjson_doc_free(doc);
    }
    if (!b->n)
        sim_fail(w, "request", "a batch without requests");
    b->clock = w->wall_shift;
    sim_batch_slack(w, b, 1);
    w->marks[M_B_ANTHROPIC] += !is_openai(w);
    return b;
}

/* ---- results ------------------------------- */

static void add_result(const struct sim *w, struct tr_buf *out,
                       const struct line *l, const char *id)
{
    const char *inner = l->f.body ? l->f.body : "{}";
    int n = l->f.body ? (int)l->f.body_n : 2;

    if (is_openai(w)) {
        tr_buf_addf(out, "{\"id\":\"r\",\"custom_id\":\"%s\",\"response\":", id);
        if (l->done)
            tr_buf_addf(out, "{\"status_code\":%d,\"request_id\":\"q\","
                        "\"body\":%.*s},\"error\":null}\n", l->f.status, n,
                        inner);
        else
            tr_buf_addz(out, "null,\"error\":{\"code\":\"batch_expired\","
                        "\"message\":\"This request could not be executed "
                        "before the completion window expired.\"}}\n");
        return;
    }
    tr_buf_addf(out, "{\"custom_id\":\"%s\",\"result\":", id);
    if (!l->done)
        tr_buf_addz(out, "{\"type\":\"expired\"}}\n");
    else if (l->f.status == 200)
        tr_buf_addf(out, "{\"type\":\"succeeded\",\"message\":%.*s}}\n", n,
                    inner);
    else
        tr_buf_addf(out, "{\"type\":\"errored\",\"error\":{\"type\":\"error\","
                    "%.*s}}\n", n > 1 ? n - 1 : n, inner + (n > 1));
}

/* One line, and what happens to it on the way to its file. */
static void write_line(struct sim *w, struct batch *b, struct line *l)
{
    struct tr_buf *out;
    char other[100];

    l->is_error = is_openai(w) && (!l->done || l->f.status != 200);
    out = &b->results[l->is_error];
    if (strikes(w, L_FOREIGN)) {
        w->batches->strange = true;
        snprintf(other, sizeof other, "t0123456789abcdef-%d",
                 (int)tr_rng_below(&w->rng, 20));
        add_result(w, out, l, other);
    }
    l->named = true;
    if (strikes(w, L_RENAMED)) {
        snprintf(other, sizeof other, "x%s", l->id);
        l->named = false;
        add_result(w, out, l, other);
    } else {
        add_result(w, out, l, l->id);
        if (strikes(w, L_UNREADABLE)) {
            out->p[out->n - 2] = ' ';
            l->named = false;
        } else if (strikes(w, L_TWICE)) {
            l->end = out->n;
            add_result(w, out, l, l->id);
            return;
        }
    }
    l->end = out->n;
}

/* All its requests are worked on at once, in any order. */
static void finish(struct sim *w, struct batch *b)
{
    bool partly = b->expires || b->cancelled;
    int *order = tr_array((size_t)b->n, sizeof *order);

    for (int i = 0; i < b->n; i++) {
        int k = (int)tr_rng_below(&w->rng, (uint64_t)i + 1);

        order[i] = order[k];
        order[k] = i;
    }
    for (int i = 0; i < b->n; i++) {
        struct line *l = &b->lines[order[i]];

        if ((partly && tr_rng_below(&w->rng, 2)) || strikes(w, L_MISSING)) {
            w->marks[M_B_HALF]++;
            if (!partly)
                continue; /* as if nobody had asked */
        } else {
            l->done = true;
            sim_work(w, &l->f);
            b->completed += l->f.status == 200;
            b->errored += l->f.status != 200;
        }
        write_line(w, b, l);
    }
    tr_free(order);
    b->state = ENDED;
    sim_trace(w, "batch %s has ended: %d of %d done", b->name,
              (int)b->completed, b->n);
    sim_event(w, 'E', b->n, b->completed);
}

/* In a batch that never ends something is done all the same. */
static void work_in_vain(struct sim *w, struct batch *b)
{
    for (int i = 0; i < b->n; i++)
        if (tr_rng_below(&w->rng, 2)) {
            b->lines[i].done = true;
            sim_work(w, &b->lines[i].f);
        }
}

void sim_batch_end(struct sim *w, struct batch *b)
{
    b->ends_at = INT64_MAX;
    if (b->failure) {
        b->state = FAILED;
        sim_trace(w, "batch %s fails: %s", b->name, b->failure);
        sim_event(w, 'F', b->n, 0);
    } else if (b->stuck) {
        work_in_vain(w, b);
    } else {
        finish(w, b);
    }
}

/* ---- making one ------------------------------- */

static int64_t tokens_under_way(const struct sim *w)
{
    int64_t sum = 0;

    for (size_t i = 0; i < w->batches->all_n; i++)
        if (w->batches->all[i]->state == RUNNING)
            sum += w->batches->all[i]->tokens;
    return sum;
}

/* What keeps it from being worked on, or NULL. */
static const char *failure_of(struct sim *w, struct batch *b)
{
    static const char *const failures[] = {"server_error", "internal_error",
                                           "rate_limit_exceeded",
                                           "billing_hard_limit_reached"};

    if (!is_openai(w) || !w->faults_on)
        return NULL;
    if (w->o.batch_room && tokens_under_way(w) + b->tokens > w->o.batch_room &&
        (b->n > 1 || tokens_under_way(w))) {
        w->marks[M_B_FULL]++;
        return "token_limit_exceeded";
    }
    if (!strikes(w, B_INVALID))
        return NULL;
    return failures[tr_rng_below(&w->rng, 4)];
}

void sim_batch_make(struct sim *w, struct batch *b)
{
    int64_t takes = draw_s(w, 120);

    snprintf(b->name, sizeof b->name, "%s_%d",
             is_openai(w) ? "batch" : "msgbatch", ++w->batches->names);
    b->wall_s = sim_wall_s(w);
    b->shown_at = w->now;
    if (strikes(w, B_LAG)) /* less than what the lane's last look waits */
        b->shown_at += w->o.batch_poll_ms * (1 + (int64_t)tr_rng_below(
                           &w->rng, 190)) / 100 * TR_MS;
    b->failure = failure_of(w, b);
    b->expires = strikes(w, B_EXPIRES);
    b->stuck = !b->expires && strikes(w, B_STUCK);
    if (strikes(w, B_LONG))
        takes = draw_s(w, tr_rng_below(&w->rng, 3) ? 3600 : 86400);
    if (strikes(w, B_LATE))
        b->late = b->late_was = 1 + (int)tr_rng_below(&w->rng, LATE_MOST);
    b->takes = takes;
    b->state = RUNNING;
    b->ends_at = w->now + (b->failure ? takes / 10 + 1 : takes) * TR_S;
    w->marks[M_B_MADE]++;
    sim_trace(w, "batch %s is made: %d requests from %s on, %" PRId64 " s%s%s",
              b->name, b->n, b->lines[0].id, takes, b->stuck ? ", stuck" : "",
              b->expires ? ", expires" : "");
    sim_event(w, 'M', b->n, takes);
}
