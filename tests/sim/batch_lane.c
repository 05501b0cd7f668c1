/* batch_lane.c - the lane in batches is the real one (lib/wire/batch.c); here
 * is the transport under it, and what a process has heard through it by now.
 *
 * SPDX-License-Identifier: MIT */
#include "batch.h"

#include "base/err.h"
#include "wire/batch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#define MANY 200  /* batches: whoever guesses gives up after 256 */
#define LOOKS 2.5 /* poll intervals, for all looks: tr_batch_look_ms() */

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
        a->batch = sim_batch_new(w, p, requests, a->name);
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
    a->batch = sim_batch_new(w, p, requests, mark ? mark : "");
    yyjson_doc_free(doc);
}

/* P4: whoever has heard that the quota is used up makes no more batches, not
 * even those that it has gathered. */
static void check_quota(struct sim *w)
{
    if (w->batches->used_up_run == w->run_number && !w->o.wait_for_quota &&
        !w->providers[0].o->quota_is_day)
        sim_fail(w, "P4", "a batch is made after the word that the quota is "
                 "used up");
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
    for (size_t i = 0; i < all->ask_n && a->save_fd >= 0; i++)
        if (all->asks[i]->save_fd == a->save_fd && !all->asks[i]->forgotten)
            sim_fail(w, "request", "two results are written into one file");
    TR_ASSERT(tr_grow((void **)&all->asks, &all->ask_cap, all->ask_n + 1,
                      sizeof *all->asks));
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
        a->batch = sim_batch_named(all, a->name);
    if (a->kind == POLL)
        sim_audit_poll(w, a->name);
    if (a->kind == LIST)
        all->looked_run = w->run_number;
    if (strikes(w, B_UNREACHED)) {
        a->stage = ON_WAY_BACK;
        a->net = TR_NET_CONNECT;
        a->back_at = a->arrive_at;
        if (a->kind == CREATE) {
            a->batch->state = NEVER_MADE;
            sim_batch_land(w, a->batch);
        }
    }
    if (sim_point(w))
        return tr_fail(err, TR_BUG, "the process died after a question");
    return TR_OK;
}

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

/* Its results are here, or those that are left of them. */
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
    /* A page in the place of results says nothing of them: whoever gives them
     * up has asked three times. */
    if (!last || (a->nonsense && is_openai(w) && ++b->pages < 3))
        return;
    sim_batch_land(w, b);
    b->heard_run = w->run_number;
}

/* What the process now knows. */
static void heard(struct sim *w, const struct ask *a, size_t saved)
{
    struct sim_batches *all = w->batches;
    bool ok = a->net == TR_NET_OK && a->status == 200 && !a->nonsense;
    bool told = a->kind == POLL || (a->kind == CANCEL && ok); /* how it is */
    bool guesses = !is_openai(w), lost;
    struct batch *b = a->batch;

    if (a->kind == FETCH && (ok || a->nonsense) && b)
        fetched(w, a, ok ? saved : 0);
    if (a->kind == FETCH && a->status == 404 && b)
        sim_batch_land(w, b); /* nobody will ever see them */
    if (told && ok && b && b->state == FAILED)
        sim_batch_land(w, b);
    if (told && b && b->state == ENDED && b->late &&
        (b->late_was > 4 || !(b->completed + b->errored)))
        sim_batch_land(w, b); /* somebody will give up */
    if (a->kind == POLL && ok && b && b->state == ENDED && b->cancelled &&
        b->odd)
        sim_batch_land(w, b); /* and who cancelled it may, without its end */
    if (told && ok && b && b->state == ENDED && is_openai(w) &&
        !b->results[0].n && !b->results[1].n)
        sim_batch_land(w, b); /* there is nothing to fetch */
    if (told && ok && b && b->state == FAILED) {
        if (!b->heard_run)
            sim_batch_slack(w, b, -1);
        b->heard_run = w->run_number;
        b->p->refused |= strstr(b->failure, "billing") != NULL;
    }
    if (a->kind == CREATE && ok && b->name[0])
        b->known = true;
    if (a->kind == CREATE && a->net == TR_NET_OK && a->status == 429 &&
        strstr(a->reply.p, "insufficient_quota"))
        all->used_up_run = w->run_number;
    if (a->kind == CREATE && b->state == NEVER_MADE && !b->known &&
        (a->net == TR_NET_CONNECT || (a->status >= 400 && a->status < 500))) {
        b->known = b->told = true;
        sim_batch_slack(w, b, -1);
    }
    if (a->kind == POLL && b) {
        w->marks[M_B_FOUND] += !b->known;
        b->known = true;
    }
    w->marks[M_B_IN_VAIN] += a->kind == LIST && ok && !b;
    /* Whether it was made cannot be known, nor which one it is with a clock
     * that was set, or among so many; and one that was guessed may be stuck. */
    lost = a->kind == LIST &&
           (is_murky(w) || a->status == 404 ||
            (guesses && (all->strange || all->all_n >= MANY)));
    lost = lost || (a->kind == POLL && guesses && b && b->stuck);
    for (size_t i = 0; i < all->all_n; i++)
        if (!all->all[i]->told &&
            (lost || (a->kind == LIST && ok && guesses &&
                      all->all[i]->clock != w->wall_shift)))
            sim_batch_land(w, all->all[i]);
}

void sim_batches_opened(struct sim *w, const struct tr_batch *batch)
{
    struct batch *b = sim_batch_named(w->batches, batch->name);

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
        a->save_fd = -1; /* it is written once */
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

static void drop(struct tr_transport *t, uint64_t tag)
{
    struct sim_batches *all = ((struct sim_provider *)t)->w->batches;

    for (size_t i = 0; i < all->ask_n; i++)
        if (all->asks[i]->tag == tag)
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
        .start = start, .ask = ask, .drop = drop, .next = next,
        .wait = wait, .watch = watch, .wakeup = wakeup, .cancel = cancel,
        .close = cancel,
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
        sim_batch_free(all->all[--all->all_n]);
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
            sim_batch_end(w, all->all[i]);
    for (size_t i = 0; all && i < all->ask_n; ) {
        struct ask *a = all->asks[i];

        if (a->stage == ON_WIRE && a->arrive_at <= w->now)
            sim_batch_arrive(w, a);
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
    /* What an earlier run knew of it may be lost. */
    if (all && all->looked_run == w->run_number)
        allowed += 200 + LOOKS * poll_s;
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
