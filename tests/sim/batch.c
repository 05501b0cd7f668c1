/* batch.c - a provider's batches: files, objects, lists, and results that come
 * within a day, in any order, in part, or not at all.
 *
 * The lane in batches is the real one (wire/batch.c); here is what is behind
 * its transport. A batch outlives the processes that know of it: what its
 * requests cost is billed when they are worked on, whoever hears of it. Both
 * vendors' words are spoken.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include "base/err.h"
#include "wire/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

enum {
    OWNERS = 4096,      /* attempts whose payer is known, by number */
    LATE_MOST = 7       /* questions until late results are there */
};
#define HOST "sim"
#define BASE "https://" HOST "/v1"
#define RETRY_MOST_S 300
#define MADE_IN_VAIN 100 /* batches; more than were gathered by then */

/* One request of a batch. */
struct line {
    struct sim_flight f;
    char id[80];
    bool done;          /* worked on: it has a status and a body */
    bool named;         /* stands in the results, under its own id, readable */
    bool is_error;      /* in the file of errors */
    size_t end;         /* of it in its file */
};

enum state { ON_ITS_WAY, NEVER_MADE, RUNNING, ENDED, FAILED };

struct batch {
    struct sim_provider *p;
    enum state state;
    char name[32], mark[48];
    int64_t wall_s;             /* when it was made, by the provider's clock */
    int64_t shown_at, ends_at;  /* in lists from then on; ns */
    bool expires, stuck, cancelled;
    bool odd;                   /* last told of in a word that nobody knows */
    bool known, told;           /* its name, by whomever; and its sender
                                   keeps it */
    int late;                   /* questions until the results are there */
    int64_t tokens, completed, errored, takes;
    int64_t clock;              /* how wrong that of its sender was, s */
    int late_was, heard_run;    /* of its end; 0: not yet */
    const char *failure;
    struct line *lines;
    int n;
    struct tr_buf results[2];   /* and errors */
};

enum kind { UPLOAD, CREATE, LIST, POLL, CANCEL, FETCH };

struct ask {
    enum sim_stage stage;
    enum kind kind;
    uint64_t tag;
    bool forgotten;
    int64_t arrive_at, back_at, deadline_at;
    char name[40], after[40];   /* of a batch or file */
    struct tr_buf body;         /* a file, or what makes a batch */
    int save_fd;
    struct batch *batch;        /* that it makes, polls or fetches */
    int errors;                 /* FETCH: of the file of errors */
    enum tr_net net;
    bool repeats, nonsense;
    int status;
    struct tr_buf headers, reply;
};

struct file {
    char name[32];
    struct tr_buf text;
};

struct sim_batches {
    struct ask **asks;
    struct batch **all;         /* oldest first */
    struct file *files;
    size_t ask_n, ask_cap, all_n, all_cap, file_n, file_cap;
    struct tr_buf headers, reply; /* of the result that was taken last */
    int names;
    int used_up_run, since;     /* a run that heard "insufficient_quota", and
                                   how often it made a batch since then */
    /* by attempt, modulo: who asked it, when it was handed to the lane */
    struct { uint64_t attempt; int period, account; } owners[OWNERS];
};

static bool strikes(struct sim *w, enum sim_site fault)
{
    return sim_strike(w, fault, w->o.batch_rate[fault - B_UNREACHED] * 1000,
                      1) != 0;
}

static void grow(void **array, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return;
    *cap = *cap ? *cap * 2 : 16;
    *array = tr_resize(*array, *cap * size);
    TR_ASSERT(*array);
}

static bool is_openai(const struct sim *w)
{
    return w->o.batch == SIM_OPENAI;
}

static int64_t draw_s(struct sim *w, int64_t most)
{
    return 1 + (int64_t)tr_rng_below(&w->rng, (uint64_t)most);
}

/* ---- batches ------------------------------- */

static struct batch *batch_by_name(struct sim_batches *b, const char *name)
{
    for (size_t i = b->all_n; i--; )
        if (b->all[i]->name[0] && strcmp(b->all[i]->name, name) == 0)
            return b->all[i];
    return NULL;
}

/* Nobody will hear of what is not heard by now: its rows may be asked anew. */
static void land_all(struct sim *w, struct batch *b)
{
    for (int i = 0; i < b->n; i++)
        sim_land(w, &b->lines[i].f);
}

static void free_batch(struct batch *b)
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
static void slack(struct sim *w, const struct batch *b, int by)
{
    for (int i = 0; i < b->n; i++)
        w->handed_in[b->lines[i].f.account] += by;
}

/* What is on its way to be made: its rows are in flight from now on. */
static struct batch *new_batch(struct sim *w, struct sim_provider *p,
                               struct tr_str requests, const char *mark)
{
    struct sim_batches *all = w->batches;
    struct batch *b = tr_alloc(sizeof *b);
    yyjson_doc *doc;
    yyjson_val *list, *v;
    size_t i, n;

    grow((void **)&all->all, all->all_n, &all->all_cap, sizeof *all->all);
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
    slack(w, b, 1);
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

static void end_batch(struct sim *w, struct batch *b)
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

static void make(struct sim *w, struct batch *b)
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

    grow((void **)&all->files, all->file_n, &all->file_cap,
         sizeof *all->files);
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
        make(w, b);
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
        land_all(w, b);
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

/* P4: whoever has heard that the quota is used up makes what it has gathered,
 * and then no more. */
static void check_quota(struct sim *w)
{
    struct sim_batches *all = w->batches;

    if (all->used_up_run == w->run_number && !w->o.wait_for_quota &&
        !w->providers[0].o->quota_is_day && ++all->since > MADE_IN_VAIN)
        sim_fail(w, "P4", "the %dth batch is made after the word that the "
                 "quota is used up", all->since);
}

/* It has arrived: is it done, and what is said about that? */
static void arrive(struct sim *w, struct ask *a)
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
        land_all(w, a->batch);
    sim_trace(w, "asked %d %s: net %d status %d %.*s", (int)a->kind, a->name,
              (int)a->net, a->status, a->reply.n < 160 ? (int)a->reply.n : 160,
              a->reply.n ? a->reply.p : "");
    sim_event(w, 'a', (int64_t)a->kind << 20 | a->status, (int64_t)a->reply.n);
}

/* ---- the transport ------------------------------- */

static void copy(char *out, size_t size, const char *text, size_t n)
{
    snprintf(out, size, "%.*s", (int)n, text);
}

/* What an address asks for. */
static bool read_url(struct sim *w, struct ask *a, const char *url, bool post)
{
    const char *batches = is_openai(w) ? BASE "/batches"
                                       : BASE "/messages/batches";
    const char *files = BASE "/files", *after;
    size_t n = strlen(batches);

    if (is_openai(w) && strcmp(url, files) == 0 && post) {
        a->kind = UPLOAD;
        return true;
    }
    if (is_openai(w) && strncmp(url, files, strlen(files)) == 0) {
        const char *name = url + strlen(files) + 1 + strlen("file-");

        a->kind = FETCH;
        n = strcspn(name, "-");
        copy(a->name, sizeof a->name, name, n);
        a->errors = name[n] == '-' && name[n + 1] == '1';
        return strcmp(name + n + 2, "/content") == 0;
    }
    if (strncmp(url, batches, n) != 0)
        return false;
    url += n;
    if (!*url && post) {
        a->kind = CREATE;
    } else if (*url == '?') {
        a->kind = LIST;
        after = strstr(url, is_openai(w) ? "&after=" : "&after_id=");
        if (after)
            snprintf(a->after, sizeof a->after, "%s", strchr(after, '=') + 1);
    } else {
        n = strcspn(url + 1, "/");
        copy(a->name, sizeof a->name, url + 1, n);
        url += 1 + n;
        a->kind = strcmp(url, "/cancel") == 0 ? CANCEL
                  : strcmp(url, "/results") == 0 ? FETCH : POLL;
        return a->kind != POLL || !*url;
    }
    return true;
}

/* What makes a batch: of a file that was uploaded, or of what comes along. */
static void prepare(struct sim *w, struct ask *a)
{
    struct sim_provider *p = &w->providers[0];
    struct tr_str requests = tr_buf_str(&a->body);
    yyjson_doc *doc;
    yyjson_val *root;
    const char *file, *mark;

    if (!is_openai(w)) {
        const char *id = requests.n > 32 ? strstr(requests.p, "\"t") : NULL;

        copy(a->name, sizeof a->name, id ? id + 2 : "", 16);
        a->batch = new_batch(w, p, requests, a->name);
        return;
    }
    doc = yyjson_read(requests.p, requests.n, 0);
    root = yyjson_doc_get_root(doc);
    file = yyjson_get_str(yyjson_obj_get(root, "input_file_id"));
    mark = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(root, "metadata"),
                                         "trommel"));
    requests = TR_STR("");
    for (size_t i = 0; file && i < w->batches->file_n; i++)
        if (strcmp(w->batches->files[i].name, file) == 0)
            requests = tr_buf_str(&w->batches->files[i].text);
    a->batch = new_batch(w, p, requests, mark ? mark : "");
    yyjson_doc_free(doc);
}

static int ask(struct tr_transport *t, uint64_t tag,
               const struct tr_http_ask *what, int64_t deadline_ms,
               struct tr_err *err)
{
    struct sim_provider *p = (struct sim_provider *)t;
    struct sim *w = p->w;
    struct sim_batches *all = w->batches;
    struct ask *a;

    if (w->dead || sim_point(w))
        return tr_fail(err, TR_BUG, "the process died before a question");
    a = tr_alloc(sizeof *a);
    tr_buf_init(&a->body, 0);
    tr_buf_init(&a->headers, 0);
    tr_buf_init(&a->reply, 0);
    a->save_fd = what->save ? what->save_fd : -1;
    grow((void **)&all->asks, all->ask_n, &all->ask_cap, sizeof *all->asks);
    all->asks[all->ask_n++] = a;
    if (!read_url(w, a, what->url, what->post))
        sim_fail(w, "request", "nobody knows the address %s", what->url);
    if (what->file_bytes)
        tr_buf_adds(&a->body, sim_temp_read(what->file_fd));
    else
        tr_buf_adds(&a->body, what->body);
    if (what->file_bytes && (int64_t)a->body.n != what->file_bytes)
        sim_fail(w, "request", "a file of %zu bytes, and %" PRId64
                 " are to be sent", a->body.n, what->file_bytes);
    tr_buf_addc(&a->body, '\0');
    a->body.n--;
    sim_tick(w);
    sim_event(w, 'A', a->kind, (int64_t)a->body.n);
    sim_trace(w, "asks %d %s%s", (int)a->kind, a->name, a->after);
    a->tag = tag;
    a->stage = ON_WIRE;
    a->arrive_at = w->now + TR_MS + (int64_t)tr_rng_below(&w->rng, 19) * TR_MS;
    a->deadline_at = w->now + deadline_ms * TR_MS;
    if (a->kind == CREATE) {
        check_quota(w);
        prepare(w, a);
    }
    else if (a->name[0])
        a->batch = batch_by_name(all, a->name);
    if (a->kind == POLL)
        sim_audit_poll(w, a->name);
    if (strikes(w, B_UNREACHED)) {
        a->stage = ON_WAY_BACK;
        a->net = TR_NET_CONNECT;
        a->back_at = a->arrive_at;
        if (a->kind == CREATE) {
            a->batch->state = NEVER_MADE;
            land_all(w, a->batch);
        }
    }
    if (sim_point(w))
        return tr_fail(err, TR_BUG, "the process died after a question");
    return TR_OK;
}

/* Its results are here, or those that are left of them. */
/* Where lists show no mark, who has lost the reply guesses which batch is his,
 * and the ids in the results tell, if they can be read. */
static bool is_murky(const struct sim *w)
{
    static const enum sim_site sites[] = SIM_UNCLEAR;
    bool any = false;

    for (size_t i = 0; i < sizeof sites / sizeof *sites; i++)
        any = any || w->o.batch_rate[sites[i] - B_UNREACHED];
    return any && !is_openai(w);
}

static void fetched(struct sim *w, const struct ask *a, size_t n)
{
    struct batch *b = a->batch;
    bool again = false, last = a->errors || !b->results[1].n;

    for (int i = 0; i < b->n; i++) {
        struct line *l = &b->lines[i];

        if (!l->named || l->is_error != a->errors || l->end > n + 1)
            continue; /* the last one may do without its end of line */
        again = again || l->f.heard;
        w->marks[M_B_OTHER] += l->f.account != w->account;
        /* Whoever guesses whose it is may have given it up. */
        if (!is_openai(w) && (!b->told || (l->f.landed && !l->f.heard))) {
            l->f.blocked = false;
            for (int k = 0; k < l->f.n; k++)
                l->f.items[k].usable = false;
        }
        if (l->done)
            sim_hear(w, &l->f);
        else
            sim_land(w, &l->f);
        for (int k = 0; k < l->f.n; k++)
            sim_trace(w, "heard %s: text %d%s%s", l->id, l->f.items[k].text,
                      l->f.items[k].states ? ", stated" : "",
                      l->f.items[k].usable ? ", usable" : "");
    }
    w->marks[M_B_AGAIN] += again;
    if (last) {
        land_all(w, b);
        b->heard_run = w->run_number;
    }
}

/* What the process now knows. */
static void heard(struct sim *w, const struct ask *a, size_t saved)
{
    struct sim_batches *all = w->batches;
    bool ok = a->net == TR_NET_OK && a->status == 200 && !a->nonsense;
    struct batch *b = a->batch;

    if (a->kind == FETCH && (ok || a->nonsense) && b)
        fetched(w, a, ok ? saved : 0);
    if (a->kind == FETCH && a->status == 404 && b)
        land_all(w, b); /* nobody will ever see them */
    if (a->kind == POLL && ok && b && b->state == FAILED)
        land_all(w, b);
    if (a->kind == POLL && b && b->state == ENDED && b->late &&
        (b->late_was > 4 || !(b->completed + b->errored)))
        land_all(w, b); /* somebody will give up */
    if (a->kind == POLL && ok && b && b->state == ENDED && b->cancelled &&
        b->odd)
        land_all(w, b); /* and who cancelled it may, without its end */
    if (a->kind == POLL && ok && b && b->state == ENDED && is_openai(w) &&
        !b->results[0].n && !b->results[1].n)
        land_all(w, b); /* there is nothing to fetch */
    if (a->kind == POLL && ok && b && b->state == FAILED) {
        if (!b->heard_run)
            slack(w, b, -1);
        b->heard_run = w->run_number;
        b->p->refused |= strstr(b->failure, "billing") != NULL;
    }
    if (a->kind == CREATE && ok && b->name[0])
        b->known = true;
    if (a->kind == CREATE && a->net == TR_NET_OK && a->status == 429 &&
        strstr(a->reply.p, "insufficient_quota") &&
        all->used_up_run != w->run_number) {
        all->used_up_run = w->run_number;
        all->since = 0;
    }
    if (a->kind == CREATE && b->state == NEVER_MADE && !b->known &&
        (a->net == TR_NET_CONNECT || (a->status >= 400 && a->status < 500))) {
        b->known = b->told = true;
        slack(w, b, -1);
    }
    if (a->kind == POLL && b) {
        w->marks[M_B_FOUND] += !b->known;
        b->known = true;
    }
    w->marks[M_B_IN_VAIN] += a->kind == LIST && ok && !b;
    /* Whether it was made cannot be known, nor which one it is with a clock
     * that was set. */
    for (size_t i = 0; a->kind == LIST && i < all->all_n; i++)
        if (!all->all[i]->told &&
            (is_murky(w) || a->status == 404 ||
             (ok && !is_openai(w) && all->all[i]->clock != w->wall_shift)))
            land_all(w, all->all[i]);
}

void sim_batches_opened(struct sim *w, const struct tr_batch *batch)
{
    struct batch *b = batch_by_name(w->batches, batch->name);

    if (b && strncmp(b->mark, batch->mark, 16) == 0)
        b->told = true;
}

static void free_ask(struct sim_batches *all, size_t i)
{
    struct ask *a = all->asks[i];

    all->asks[i] = all->asks[--all->ask_n];
    tr_buf_release(&a->body);
    tr_buf_release(&a->headers);
    tr_buf_release(&a->reply);
    tr_free(a);
}

static int next(struct tr_transport *t, struct tr_http_result *r)
{
    struct sim_provider *p = (struct sim_provider *)t;
    struct sim *w = p->w;
    struct sim_batches *all = w->batches;
    size_t found = SIZE_MAX;
    struct ask *a;

    if (w->dead || sim_point(w))
        return 0;
    for (size_t i = 0; i < all->ask_n; i++) {
        a = all->asks[i];
        if (a->stage == ON_WAY_BACK && !a->forgotten && a->back_at <= w->now &&
            (found == SIZE_MAX || a->back_at < all->asks[found]->back_at))
            found = i;
    }
    if (found == SIZE_MAX)
        return 0;
    a = all->asks[found];
    tr_buf_clear(&all->headers);
    tr_buf_clear(&all->reply);
    tr_buf_adds(&all->headers, tr_buf_str(&a->headers));
    tr_buf_adds(&all->reply, tr_buf_str(&a->reply));
    *r = (struct tr_http_result){
        .tag = a->tag,
        .net = a->net,
        .sent = a->net != TR_NET_CONNECT,
        .status = a->status,
        .headers = tr_buf_str(&all->headers),
        .body = tr_buf_str(&all->reply),
    };
    if (a->net != TR_NET_OK)
        snprintf(r->message, sizeof r->message, "connection trouble");
    if (a->save_fd >= 0 && a->net == TR_NET_OK && a->status == 200) {
        r->body = TR_STR("");
        r->saved_bytes = (int64_t)all->reply.n;
        if (!sim_temp_write(a->save_fd, tr_buf_str(&all->reply))) {
            r->unsaved = true;
            r->net = a->net = TR_NET_OTHER;
            snprintf(r->message, sizeof r->message, "cannot be saved");
        }
    }
    sim_event(w, 'r', (int64_t)a->tag, a->status);
    heard(w, a, all->reply.n);
    if (a->repeats) {
        a->repeats = false;
        a->back_at = w->now + draw_s(w, 60) * TR_S;
    } else {
        free_ask(all, found);
    }
    return 1;
}

void sim_batches_forget(struct sim *w)
{
    struct sim_batches *all = w->batches;

    for (size_t i = 0; all && i < all->ask_n; i++)
        all->asks[i]->forgotten = true;
}

static void cancel(struct tr_transport *t)
{
    sim_batches_forget(((struct sim_provider *)t)->w);
}

static void wait(struct tr_transport *t, int timeout_ms, int extra_fd)
{
    (void)t, (void)timeout_ms, (void)extra_fd;
}

static int watch(struct tr_transport *t, int *timeout_ms)
{
    (void)t, (void)timeout_ms;
    return -1;
}

static void wakeup(struct tr_transport *t)
{
    (void)t;
}

static int start(struct tr_transport *t, uint64_t tag, struct tr_str body,
                 int64_t deadline_ms, struct tr_err *err)
{
    (void)tag, (void)body, (void)deadline_ms;
    sim_fail(((struct sim_provider *)t)->w, "request",
             "a lane in batches asks at once");
    return tr_fail(err, TR_BUG, "not in a batch");
}

/* ---- the lane ------------------------------- */

/* A request is handed to the lane: whoever reserved it pays for it. */
static int lane_start(struct tr_lane *lane, const struct tr_shot *shot,
                      struct tr_err *err)
{
    struct sim *w = sim_living();
    struct sim_batches *all = w->batches;
    size_t at = shot->attempt % OWNERS;

    if (w->dead || sim_point(w))
        return tr_fail(err, TR_BUG, "the process died before a batch");
    all->owners[at].attempt = shot->attempt;
    all->owners[at].period = w->job ? SIM_NO_PERIOD : w->period;
    all->owners[at].account = w->account;
    return w->batch_start(lane, shot, err);
}

int sim_batches_lane(struct sim *w, struct tr_lane **lane, struct tr_err *err)
{
    struct tr_batch_opts user = {
        .keep = &w->keep, .folder = SIM_FOLDER,
        .tokens_max = w->o.batch_tokens, .poll_ms = w->o.batch_poll_ms,
    };
    struct tr_batch_lane_opts o = {
        .form = tr_batch_form_find(is_openai(w) ? "openai" : "anthropic"),
        .url = is_openai(w) ? BASE "/chat/completions" : BASE "/messages",
        .requests_max = w->o.batch_requests ? w->o.batch_requests : 10000,
        .bytes_max = w->o.batch_kib ? w->o.batch_kib << 10 : 20000000,
        .price_pct = w->o.batch_pct, .user = &user,
    };
    int rc;

    snprintf((*lane)->host, sizeof (*lane)->host, HOST);
    rc = tr_batch_lane_over(lane, *lane, &o, err);
    if (rc != TR_OK)
        return rc;
    w->batch_vt = *(*lane)->vt;
    w->batch_start = w->batch_vt.start;
    w->batch_vt.start = lane_start;
    (*lane)->vt = &w->batch_vt;
    return TR_OK;
}

void sim_batches_init(struct sim *w)
{
    if (!w->o.batch)
        return;
    w->batches = tr_alloc(sizeof *w->batches);
    tr_buf_init(&w->batches->headers, 0);
    tr_buf_init(&w->batches->reply, 0);
    w->providers[0].transport = (struct tr_transport){
        .start = start, .ask = ask, .next = next, .wait = wait, .watch = watch,
        .wakeup = wakeup, .cancel = cancel, .close = cancel,
    };
}

void sim_batches_release(struct sim *w)
{
    struct sim_batches *all = w->batches;

    if (!all)
        return;
    while (all->ask_n)
        free_ask(all, all->ask_n - 1);
    while (all->all_n)
        free_batch(all->all[--all->all_n]);
    while (all->file_n)
        tr_buf_release(&all->files[--all->file_n].text);
    tr_free(all->asks);
    tr_free(all->all);
    tr_free(all->files);
    tr_buf_release(&all->headers);
    tr_buf_release(&all->reply);
    tr_free(all);
    w->batches = NULL;
}

/* ---- time ------------------------------- */

int64_t sim_batches_next(const struct sim *w)
{
    const struct sim_batches *all = w->batches;
    int64_t at = INT64_MAX;

    for (size_t i = 0; all && i < all->ask_n; i++) {
        const struct ask *a = all->asks[i];
        int64_t due = a->stage == ON_WIRE ? a->arrive_at : a->back_at;

        if (due < at && (a->stage == ON_WIRE || !a->forgotten))
            at = due;
    }
    for (size_t i = 0; all && i < all->all_n; i++)
        if (all->all[i]->state == RUNNING && all->all[i]->ends_at < at)
            at = all->all[i]->ends_at;
    return at;
}

void sim_batches_advance(struct sim *w)
{
    struct sim_batches *all = w->batches;

    for (size_t i = 0; all && i < all->all_n; i++)
        if (all->all[i]->state == RUNNING && all->all[i]->ends_at <= w->now)
            end_batch(w, all->all[i]);
    for (size_t i = 0; all && i < all->ask_n; ) {
        struct ask *a = all->asks[i];

        if (a->stage == ON_WIRE && a->arrive_at <= w->now)
            arrive(w, a);
        if (a->stage == ON_WAY_BACK && a->forgotten)
            free_ask(all, i);
        else
            i++;
    }
}

double sim_batches_patience_s(const struct sim *w)
{
    const struct sim_batches *all = w->batches;
    double poll_s = 11e-3 * w->o.batch_poll_ms, allowed = 0;

    for (size_t i = 0; all && i < all->all_n; i++) {
        const struct batch *b = all->all[i];

        if (!b->heard_run || b->heard_run == w->run_number)
            allowed += 200 + (LATE_MOST + 3) * poll_s +
                       (double)(b->stuck ? 28 * 3600 : b->takes);
    }
    return allowed;
}

const char *sim_batches_with(const struct sim *w, int text)
{
    const struct sim_batches *all = w->batches;

    for (size_t i = 0; all && i < all->all_n; i++)
        for (int k = 0; k < all->all[i]->n; k++) {
            const struct sim_flight *f = &all->all[i]->lines[k].f;

            for (int j = 0; j < f->n && !f->landed; j++)
                if (f->items[j].text == text && !f->items[j].guest)
                    return all->all[i]->name[0] ? all->all[i]->name
                                                : "one without a name";
        }
    return "";
}
