/* batch_ask.c - what a provider is asked about batches, and what it says.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/group.h"

#include "base/mem.h"

#include <stdio.h>
#include <unistd.h>

enum {
    PAGES = 10,         /* of a list that are looked through */
    EMPTY_POLLS = 5,    /* ended, but its results are not there yet */
    ASK_MS = 60000,     /* time of a small request */
    FILE_MS = 30 * 60000 /* time of a large one */
};
#define WINDOW_S (24 * 3600)      /* the provider's promise */
#define MARGIN_S (2 * 3600)       /* after that it is cancelled */
#define GIVE_UP_NS (3600 * TR_S)  /* and this much later it is lost */
#define UNHEARD_NS (WINDOW_S * TR_S) /* or when nobody hears of that */
#define RESULT_BYTES_MAX ((int64_t)4 << 30)

static double unit(void)
{
    uint32_t r;

    tr_random_fill(&r, sizeof r);
    return r / 4294967296.0;
}

static void classify(const struct tr_http_result *r, struct tr_reply *reply)
{
    struct tr_wire_error e;
    struct tr_limits limits;

    tr_group_blank(reply, TR_OUT_GARBLED, TR_BILL_NONE);
    reply->status = r->status;
    tr_wire_limits(r->headers, tr_clock_wall_s(), &limits,
                   &reply->retry_after_ms);
    tr_wire_error_read(&e, r->body);
    tr_wire_classify(r, &e, reply);
}

static bool is_success(const struct tr_http_result *r)
{
    return r->net == TR_NET_OK && r->status >= 200 && r->status < 300;
}

/* Refused for good, or only for now? */
static bool is_final(enum tr_outcome outcome)
{
    return outcome == TR_OUT_FATAL || outcome == TR_OUT_EXHAUSTED ||
           outcome == TR_OUT_BAD_REQUEST || outcome == TR_OUT_ADAPT ||
           outcome == TR_OUT_TOO_BIG || outcome == TR_OUT_REFUSED;
}

/* The quota is used up: what has been gathered by now need not find that out
 * batch by batch. What is begun later is meant to. */
static void give_up_unmade(struct tr_batch_lane *l, const struct tr_reply *reply)
{
    for (size_t i = 0; i < l->group_count; i++) {
        struct tr_group *g = l->groups[i];

        if (g->step <= TR_GROUP_CLOSED)
            tr_group_fail(g, reply);
        g->in_vain = g->step == TR_GROUP_UPLOADING;
        if (g->in_vain)
            g->fail = *reply;
    }
    l->filling = NULL;
}

/* Nothing was made: the attempts go back, and nobody is charged. What is said
 * is about the batch, not about a row of it. */
static void refuse_group(struct tr_batch_lane *l, struct tr_group *g,
                         struct tr_reply *reply)
{
    reply->billing = TR_BILL_NONE;
    reply->unsent = true;
    if (reply->outcome == TR_OUT_TOO_BIG && g->n > 1) {
        l->bytes_max = g->spool_bytes / 2;
        reply->outcome = TR_OUT_UNREACHED;
    } else if (is_final(reply->outcome) && reply->outcome != TR_OUT_EXHAUSTED)
        reply->outcome = TR_OUT_FATAL;
    else if (!is_final(reply->outcome) && reply->outcome != TR_OUT_THROTTLED)
        reply->outcome = TR_OUT_UNREACHED;
    tr_group_fail(g, reply);
    if (reply->outcome == TR_OUT_EXHAUSTED)
        give_up_unmade(l, reply);
}

/* ---- asking ------------------------------------------------------------ */

static void again_in(struct tr_group *g, int64_t ms)
{
    g->due_at = tr_clock_mono_ns() + ms * TR_MS;
}

void tr_group_poll_later(struct tr_batch_lane *l, struct tr_group *g,
                         int64_t floor_ms)
{
    again_in(g, tr_batch_poll_ms(g->polls++, l->poll_ms, floor_ms, unit()));
}

static void ask(struct tr_batch_lane *l, struct tr_group *g,
                const struct tr_http_ask *a, int64_t deadline_ms)
{
    struct tr_transport *t = tr_group_transport(l);
    struct tr_err err;

    g->id = ++l->next_id; /* an answer that comes again is to nobody */
    g->asked_at = tr_clock_mono_ns();
    if (t->ask(t, g->id, a, deadline_ms, &err) == TR_OK) {
        g->asked = true;
        return;
    }
    tr_group_stop_with(l, err.text);
}

static void get(struct tr_batch_lane *l, struct tr_group *g, const char *url)
{
    ask(l, g, &(struct tr_http_ask){.url = url}, ASK_MS);
}

void tr_group_upload(struct tr_batch_lane *l, struct tr_group *g)
{
    static const char *const fields[] = {"purpose", "batch", NULL};
    char url[800], name[64];

    g->step = TR_GROUP_UPLOADING;
    snprintf(url, sizeof url, "%s%s", l->base, l->form->files);
    snprintf(name, sizeof name, "trommel-%s.jsonl", g->batch.mark);
    ask(l, g, &(struct tr_http_ask){
        .url = url, .post = true, .fields = fields, .file_fd = g->spool,
        .file_bytes = g->spool_bytes, .file_name = name}, FILE_MS);
}

static int keep_creating(struct tr_batch_lane *l, struct tr_group *g,
                         struct tr_err *err)
{
    uint64_t *attempts = tr_array(g->n, sizeof *attempts);
    int rc;

    if (!attempts)
        return tr_fail(err, TR_NOMEM, "out of memory for a batch");
    for (size_t i = 0; i < g->n; i++)
        attempts[i] = g->entries[i].attempt;
    g->batch.created_at = tr_clock_wall_s();
    g->made_at = g->known_at = tr_clock_mono_ns();
    rc = l->keep.creating(l->keep.ctx, &g->batch, attempts, g->n, err);
    tr_free(attempts);
    return rc;
}

void tr_group_create(struct tr_batch_lane *l, struct tr_group *g)
{
    struct tr_http_ask a = {.post = true};
    char url[800];
    struct tr_err err;

    if (keep_creating(l, g, &err) != TR_OK) {
        tr_group_stop_with(l, err.text);
        return;
    }
    g->step = TR_GROUP_CREATING;
    snprintf(url, sizeof url, "%s%s", l->base, l->form->batches);
    a.url = url;
    tr_buf_clear(&g->body);
    if (l->form->create) {
        l->form->create(&g->body, g->batch.file, g->batch.mark);
        if (!tr_buf_ok(&g->body)) {
            tr_group_stop_with(l, "out of memory for a batch");
            return;
        }
        a.body = tr_buf_str(&g->body);
    } else {
        a.file_fd = g->spool;
        a.file_bytes = g->spool_bytes;
    }
    ask(l, g, &a, l->form->create ? ASK_MS : FILE_MS);
}

void tr_group_look(struct tr_batch_lane *l, struct tr_group *g)
{
    char url[1000];

    snprintf(url, sizeof url, "%s%s?limit=100%s%s%s%s", l->base,
             l->form->batches, g->next[0] ? "&" : "",
             g->next[0] ? l->form->after : "", g->next[0] ? "=" : "",
             g->next);
    get(l, g, url);
}

/* Since it was made, or since we know of it when our clock was set back. */
static int64_t age_s(const struct tr_group *g)
{
    int64_t wall = tr_clock_wall_s() - g->batch.created_at;
    int64_t known = (tr_clock_mono_ns() - g->known_at) / TR_S;

    return wall > known ? wall : known;
}

/* One that was guessed may be another's, who alone may cancel it in time. */
static bool has_aged(const struct tr_group *g, const struct tr_batch_news *news,
                     const struct tr_http_result *r)
{
    int64_t now = tr_wire_date_s(tr_wire_header(r->headers, "date"));
    int64_t known = (tr_clock_mono_ns() - g->known_at) / TR_S;

    if (now < 0)
        now = tr_clock_wall_s();
    return (news->created_at < 0 ? known : now - news->created_at) >
           WINDOW_S + MARGIN_S;
}

/* It was to be cancelled, and whoever was told so has had his time; with
 * nobody to say how it is doing, more of it. Time is up when the question was
 * asked later: what is said while a machine sleeps is heard when it wakes. */
static bool is_overdue(const struct tr_group *g, bool heard)
{
    return g->cancel_from && !g->ended &&
           (g->asked_at > g->cancel_from + UNHEARD_NS ||
            (heard && g->cancelled_at &&
             g->asked_at > g->cancelled_at + GIVE_UP_NS));
}

void tr_group_poll(struct tr_batch_lane *l, struct tr_group *g)
{
    char url[1000];

    /* A clock that was set forward cancels too early, which loses time, never
     * an answer. */
    if (age_s(g) > WINDOW_S + MARGIN_S && !g->cancel_from &&
        (!g->guessed || g->aged)) {
        g->cancel_from = tr_clock_mono_ns();
        g->cancel_next = true;
    }
    if (g->cancel_next && !g->ended) {
        g->step = TR_GROUP_CANCELLING;
        g->cancel_next = false;
        g->polls = 0;
        snprintf(url, sizeof url, "%s%s/%s/cancel", l->base, l->form->batches,
                 g->batch.name);
        ask(l, g, &(struct tr_http_ask){.url = url, .post = true}, ASK_MS);
        return;
    }
    g->step = TR_GROUP_POLLING;
    snprintf(url, sizeof url, "%s%s/%s", l->base, l->form->batches,
             g->batch.name);
    get(l, g, url);
}

/* Of the lane's own server, letter by letter. */
static bool is_ours(const struct tr_batch_lane *l, const char *url)
{
    const char *host = strstr(l->base, "://");
    size_t n = host ? (size_t)(host + 3 - l->base) : 0;

    n += strcspn(l->base + n, "/");
    return strncmp(url, l->base, n) == 0 && url[n] == '/';
}

/* Where results are: a file; or what the provider says, unless that is another
 * server (a gateway passes it through), who gets no key. */
static void results_url(const struct tr_batch_lane *l, const struct tr_group *g,
                        char *url, size_t size)
{
    const struct tr_batch_form *form = l->form;

    if (form->content)
        snprintf(url, size, "%s%s/%s%s", l->base, form->files, g->next,
                 form->content);
    else if (is_ours(l, g->next))
        snprintf(url, size, "%s", g->next);
    else
        snprintf(url, size, "%s%s/%s%s", l->base, form->batches,
                 g->batch.name, form->results);
}

void tr_group_fetch(struct tr_batch_lane *l, struct tr_group *g)
{
    struct tr_err err;
    char url[1000];

    g->step = TR_GROUP_FETCHING;
    if (g->results < 0 && tr_group_file(l, &g->results, &err) != TR_OK) {
        tr_group_stop_with(l, err.text);
        return;
    }
    if (ftruncate(g->results, 0) != 0)
        g->result_bytes = 0; /* what was there is written over */
    results_url(l, g, url, sizeof url);
    ask(l, g, &(struct tr_http_ask){
        .url = url, .save = true, .save_fd = g->results,
        .save_bytes_max = RESULT_BYTES_MAX}, FILE_MS);
}

/* ---- what comes back --------------------------------------------------- */

static void on_uploaded(struct tr_batch_lane *l, struct tr_group *g,
                        const struct tr_http_result *r)
{
    struct tr_reply reply;

    if (g->in_vain) {
        tr_group_fail(g, &g->fail);
        return;
    }
    if (is_success(r) && tr_batch_file_read(g->batch.file,
                                            sizeof g->batch.file, r->body)) {
        tr_group_create(l, g);
        return;
    }
    classify(r, &reply);
    refuse_group(l, g, &reply);
}

void tr_group_opened(struct tr_batch_lane *l, struct tr_group *g,
                     const struct tr_batch_news *news)
{
    struct tr_err err;

    snprintf(g->batch.name, sizeof g->batch.name, "%s", news->name);
    g->batch.state = TR_BATCH_OPEN;
    if (l->keep.opened(l->keep.ctx, &g->batch, &err) != TR_OK) {
        tr_group_stop_with(l, err.text);
        return;
    }
    if (g->spool >= 0)
        close(g->spool);
    g->spool = -1;
    tr_buf_release(&g->body);
    g->step = TR_GROUP_OPEN;
    g->polls = g->empty = g->rereads = 0; /* it may have had another's name */
    g->cancel_from = g->cancelled_at = 0;
    g->aged = false;
    g->ended = false;
    tr_group_poll_later(l, g, -1);
}

/* Somebody may have the name that g is looking for. */
static bool is_guessing(const struct tr_batch_lane *l, const struct tr_group *g)
{
    for (size_t i = 0; i < l->group_count; i++)
        if (l->groups[i] != g && l->groups[i]->guessed)
            return true;
    return false;
}

void tr_group_search(struct tr_batch_lane *l, struct tr_group *g)
{
    int64_t ms = tr_batch_look_ms(g->looks++, l->poll_ms);

    g->step = TR_GROUP_LOOKING;
    g->next[0] = '\0';
    g->pages = 0;
    if (ms < 0 && is_guessing(l, g))
        tr_group_poll_later(l, g, -1);
    else if (ms < 0 && g->maybe)
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "whether the batch was made cannot be found out: it "
                         "may be another one of the list");
    else if (ms < 0)
        tr_group_fail_as(g, TR_OUT_UNREACHED, TR_BILL_NONE, "the provider does "
                         "not know the batch that was to be made");
    else
        again_in(g, ms);
}

void tr_group_look_on(struct tr_batch_lane *l, struct tr_group *g)
{
    g->batch.name[0] = '\0';
    g->guessed = g->found = false;
    g->looks = 0;
    if (++g->wrong < TR_BATCH_STRANGERS)
        tr_group_search(l, g);
    else
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "whether the batch was made cannot be found out: too "
                         "many of the same size are there");
}

/* What was found for g is gone, whosever it was: who looks next need not stop
 * at that. An adopted name is another matter, for then the key may be wrong. */
static bool is_gone(struct tr_batch_lane *l, struct tr_group *g,
                    const struct tr_http_result *r)
{
    char name[sizeof g->batch.name];
    struct tr_err err;

    if (r->status != 404 || !g->guessed || !g->found)
        return false;
    snprintf(name, sizeof name, "%s", g->batch.name);
    tr_group_look_on(l, g);
    tr_group_doubt(l);
    tr_group_stranger(l, name);
    g->batch.state = TR_BATCH_CREATING;
    if (l->keep.opened(l->keep.ctx, &g->batch, &err) != TR_OK)
        tr_group_stop_with(l, err.text);
    return true;
}

static void on_created(struct tr_batch_lane *l, struct tr_group *g,
                       const struct tr_http_result *r)
{
    struct tr_batch_news news;
    struct tr_reply reply;

    if (is_success(r) && l->form->read(&news, r->body)) {
        tr_group_opened(l, g, &news);
        return;
    }
    classify(r, &reply);
    if (!r->sent || (r->status >= 400 && r->status < 500 &&
                     r->status != 408 && r->status != 409))
        refuse_group(l, g, &reply);
    else
        tr_group_search(l, g); /* it may have been made */
}

/* Its results are there, and for a day nobody got them: a person is told. */
static bool is_unfetched(const struct tr_group *g)
{
    return g->ended && g->asked_at > g->unheard_from + UNHEARD_NS;
}

/* What was said, shortened, and what it means for the batch. */
static void add_remedy(struct tr_reply *reply, const struct tr_group *g,
                       const char *before, const char *after)
{
    size_t n = strlen(reply->message);

    n = n < 100 ? n : 100;
    snprintf(reply->message + n, sizeof reply->message - n,
             "; %s batch %.60s %s; to give it up: trommel store forgive",
             before, g->batch.name[0] ? g->batch.name : g->batch.mark, after);
}

/* A question that got no answer is asked again, as long as somebody may
 * answer; false: it was refused for good. */
static bool ask_again(struct tr_batch_lane *l, struct tr_group *g,
                      const struct tr_http_result *r)
{
    struct tr_reply reply;

    classify(r, &reply);
    if (g->ended && !g->unheard_from)
        g->unheard_from = tr_clock_mono_ns();
    if (r->status != 404 && !is_final(reply.outcome) && !is_unfetched(g)) {
        tr_group_poll_later(l, g, reply.retry_after_ms);
        return true;
    }
    if (r->status == 404) {
        add_remedy(&reply, g, "if", "was made with another key or project, "
                                    "use that");
        reply.outcome = TR_OUT_FATAL;
    } else if (!is_final(reply.outcome)) {
        add_remedy(&reply, g, "the results of", "could not be fetched for a "
                                                "day");
        reply.outcome = TR_OUT_LOST;
    }
    reply.billing = TR_BILL_NONE;
    tr_group_stop(l, &reply);
    return false;
}

struct others {
    const struct tr_batch_lane *lane;
    const struct tr_group *but;
};

static bool is_other(void *ctx, const char *name)
{
    const struct others *o = ctx;

    for (size_t i = 0; i < o->lane->group_count; i++)
        if (o->lane->groups[i] != o->but &&
            strcmp(o->lane->groups[i]->batch.name, name) == 0)
            return true;
    for (unsigned i = 0; i < TR_BATCH_STRANGERS &&
                         i < o->lane->stranger_count; i++)
        if (strcmp(o->lane->strangers[i], name) == 0)
            return true;
    return false;
}

/* When it was made, if it was: our clock may be wrong, and may have been set
 * since; the server says what its own shows. The earlier one of two: while the
 * machine sleeps only one clock goes on. */
static int64_t made_s(const struct tr_group *g, const struct tr_http_result *r)
{
    int64_t server = tr_wire_date_s(tr_wire_header(r->headers, "date"));
    int64_t ago = tr_clock_wall_s() - g->batch.created_at;
    int64_t awake = (tr_clock_mono_ns() - g->made_at) / TR_S;

    if (g->made_at && ago < awake)
        ago = awake;
    return server < 0 ? g->batch.created_at : server - ago;
}

static void on_looked(struct tr_batch_lane *l, struct tr_group *g,
                      const struct tr_http_result *r)
{
    struct others others = {l, g};
    struct tr_batch_wanted wanted = {
        .batch = &g->batch, .created_at = made_s(g, r), .is_other = is_other,
        .ctx = &others,
    };
    bool date = tr_wire_header(r->headers, "date").n > 0, valid = false;
    struct tr_batch_news news;

    if (is_success(r) && l->form->find(&news, &wanted, r->body, g->next,
                                       sizeof g->next, &valid)) {
        g->guessed = g->found = l->form->guesses;
        tr_group_opened(l, g, &news);
        return;
    }
    /* With its own clock the server tells when it was, unless it does not say,
     * or ours was set before we were. */
    g->maybe |= wanted.maybe && (!g->made_at || !date);
    if (valid)
        g->unheard_from = 0;
    else if (!g->unheard_from)
        g->unheard_from = tr_clock_mono_ns();
    if (r->status == 404 || r->status == 405 || r->status == 501 ||
        (!valid && g->asked_at > g->unheard_from + UNHEARD_NS))
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "whether the batch was made cannot be found out: the "
                         "server lists no batches");
    else if (!is_success(r))
        ask_again(l, g, r);
    else if (!valid)
        tr_group_poll_later(l, g, -1);
    else if (g->next[0] && ++g->pages < PAGES)
        g->due_at = 0;
    else {
        g->maybe |= g->next[0] != '\0'; /* it may be farther down */
        tr_group_search(l, g);
    }
}

static void on_failed(struct tr_batch_lane *l, struct tr_group *g,
                      const struct tr_batch_news *news)
{
    struct tr_reply reply;

    tr_group_blank(&reply, tr_batch_failure(&news->error), TR_BILL_NONE);
    reply.unsent = true;
    snprintf(reply.message, sizeof reply.message, "the batch failed: %.250s",
             news->error.message[0] ? news->error.message
                                    : news->error.code);
    if (reply.outcome == TR_OUT_THROTTLED) {
        tr_group_learn_full(l);
        reply.retry_after_ms = l->poll_ms;
    }
    tr_group_fail(g, &reply);
}

static void on_ended(struct tr_batch_lane *l, struct tr_group *g,
                     const struct tr_batch_news *news)
{
    if (!g->ended) {
        tr_group_learn_room(l, g);
        g->unheard_from = 0;
    }
    g->ended = true;
    if (!news->output[0] && !news->errors[0]) {
        bool any = news->worked != 0 || g->guessed; /* -1: nobody says */

        if (any && ++g->empty < EMPTY_POLLS) {
            tr_group_poll_later(l, g, -1); /* the results come a little later */
            return;
        }
        if (any)
            tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                             "the batch ended, and its results are not there");
        else
            tr_group_untouched(g);
        return;
    }
    g->worked = news->worked;
    g->seen = 0;
    g->fetches++;
    g->unread = g->any_ours = false;
    g->stranger[0] = '\0';
    snprintf(g->errors, sizeof g->errors, "%s", news->errors);
    g->errors_next = news->output[0] && news->errors[0];
    snprintf(g->next, sizeof g->next, "%s",
             news->output[0] ? news->output : news->errors);
    tr_group_fetch(l, g);
}

static bool is_over(const struct tr_batch_news *news)
{
    return news->stage != TR_STAGE_RUNNING;
}

static void on_over(struct tr_batch_lane *l, struct tr_group *g,
                    const struct tr_batch_news *news)
{
    if (news->stage == TR_STAGE_FAILED)
        on_failed(l, g, news);
    else
        on_ended(l, g, news);
}

static void on_polled(struct tr_batch_lane *l, struct tr_group *g,
                      const struct tr_http_result *r)
{
    struct tr_batch_news news;
    bool heard = is_success(r) && l->form->read(&news, r->body);

    g->step = TR_GROUP_OPEN;
    if (heard && is_over(&news)) {
        on_over(l, g, &news);
    } else if (is_overdue(g, heard)) {
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "the batch did not end within its time");
    } else if (!is_success(r)) {
        if (!is_gone(l, g, r))
            ask_again(l, g, r);
    } else {
        g->aged = has_aged(g, &news, r);
        g->cancel_next = g->cancel_from && !g->cancelled_at;
        tr_group_poll_later(l, g, -1);
    }
}

void tr_group_read(struct tr_group *g)
{
    g->step = TR_GROUP_READING;
    g->result_at = 0;
    tr_buf_clear(&g->buf);
    g->buf_at = 0;
}

static void on_fetched(struct tr_batch_lane *l, struct tr_group *g,
                       const struct tr_http_result *r)
{
    if (is_success(r)) {
        g->unheard_from = 0;
        g->result_bytes = r->saved_bytes;
        g->held_back = g->second = false;
        tr_group_read(g);
        return;
    }
    g->step = TR_GROUP_OPEN; /* ask for the batch, then for the file again */
    if (r->unsaved) /* asking again would fill a day; the results wait */
        tr_group_stop_with(l, "the results of a batch cannot be written to a "
                           "temporary file; free space or set TMPDIR to a "
                           "larger disk, then run the same command again");
    else if (is_gone(l, g, r))
        return;
    else if (r->status == 404)
        tr_group_fail_as(g, TR_OUT_LOST, TR_BILL_UNKNOWN,
                         "the results of the batch are not there any more");
    else
        ask_again(l, g, r);
}

/* Refused for now, or not heard: once more, after the next question. */
static void on_cancelled(struct tr_batch_lane *l, struct tr_group *g,
                         const struct tr_http_result *r)
{
    struct tr_batch_news news;
    struct tr_reply reply;
    bool heard = is_success(r) && l->form->read(&news, r->body);

    g->step = TR_GROUP_OPEN;
    if (heard && is_over(&news)) { /* it had ended before */
        on_over(l, g, &news);
        return;
    }
    classify(r, &reply);
    if (heard || (!is_success(r) && is_final(reply.outcome)))
        g->cancelled_at = tr_clock_mono_ns();
    tr_group_poll_later(l, g, heard ? -1 : reply.retry_after_ms);
}

void tr_group_on_result(struct tr_batch_lane *l, struct tr_group *g,
                        const struct tr_http_result *r)
{
    g->asked = false;
    switch (g->step) {
    case TR_GROUP_UPLOADING:
        on_uploaded(l, g, r);
        return;
    case TR_GROUP_CREATING:
        on_created(l, g, r);
        return;
    case TR_GROUP_LOOKING:
        on_looked(l, g, r);
        return;
    case TR_GROUP_POLLING:
        on_polled(l, g, r);
        return;
    case TR_GROUP_CANCELLING:
        on_cancelled(l, g, r);
        return;
    case TR_GROUP_FETCHING:
        on_fetched(l, g, r);
        return;
    default:
        return;
    }
}
