/* local.c - the local lane: packs of texts to a worker thread, scores back.
 *
 * SPDX-License-Identifier: MIT */
#include "encode/local.h"

#include "base/arena.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/keymap.h"
#include "base/mem.h"
#include "encode/encoder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define DEFAULT_MODEL "all-MiniLM-L6-v2.gguf"
#define IN_FLIGHT 2      /* one pack is computed, one waits behind it */
#define JOBS_MAX 64      /* more is a mistake of the caller */
#define SLICE_BYTES 4096 /* of text, per core: about 0.2 s of work, after which
                            a cancel is seen */
#define TEXT_BYTES 2048  /* what a longer text counts as: it will be cut */
#define SAMPLE_BYTES 8192 /* of a sample text that are kept while fitting */

/* ---- a pack ------------------------------------------------------------ */

struct item {
    struct tr_str text;
    size_t index; /* place in the pack */
};

struct job {
    struct job *next;
    struct tr_arena memory; /* owns all below */
    uint64_t tag;
    struct item *items; /* longest first, equal texts side by side */
    struct tr_score *scores;
    size_t count;
    int64_t started_ns;
    int64_t latency_ms;
    int rc;
    char message[300];
};

struct queue {
    struct job *first, **end;
};

/* ---- the lane ---------------------------------------------------------- */

struct local {
    struct tr_lane lane; /* first: a tr_lane * is a struct local * */
    struct tr_encoder *encoder;
    size_t dim;
    struct tr_arena memory; /* owns labels and their texts */
    struct tr_local_label *labels;
    size_t label_count;
    float *prototypes; /* label vectors; NULL until fitted */
    struct fit *fit;   /* while fit() has more to do */
    struct job *shown; /* whose scores the last next() lent out */

    pthread_t worker;
    bool has_worker;
    int bell[2]; /* a pipe: a byte is written when wait() must return */
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct queue waiting, done; /* these and below: under lock */
    size_t job_count;
    bool running, drop_running, stop;
};

static void queue_push(struct queue *q, struct job *job)
{
    job->next = NULL;
    *q->end = job;
    q->end = &job->next;
}

static struct job *queue_take(struct queue *q)
{
    struct job *job = q->first;

    if (job) {
        q->first = job->next;
        if (!q->first)
            q->end = &q->first;
    }
    return job;
}

static void job_free(struct job *job)
{
    if (!job)
        return;
    tr_arena_release(&job->memory);
    tr_free(job);
}

static void ring(struct local *l)
{
    char byte = 1;

    /* A full pipe rings already. */
    while (write(l->bell[1], &byte, 1) < 0 && errno == EINTR)
        ;
}

/* How many items from i on make one slice of work. */
static size_t slice(const struct local *l, const struct item *items, size_t i,
                    size_t count)
{
    size_t room = (size_t)tr_encoder_threads(l->encoder) * SLICE_BYTES;
    size_t bytes = 0, n = 0;

    while (i + n < count) {
        size_t size = items[i + n].text.n;

        bytes += size < TEXT_BYTES ? size : TEXT_BYTES;
        if (n > 0 && bytes > room)
            break;
        n++;
    }
    return n;
}

/* Longest first: slices then hold texts of about one length. */
static int by_text(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order;

    if (x->text.n != y->text.n)
        return x->text.n < y->text.n ? 1 : -1;
    order = x->text.n ? memcmp(x->text.p, y->text.p, x->text.n) : 0;
    if (order)
        return order;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* ---- worker ------------------------------------------------------------ */

static bool dropped(struct local *l)
{
    bool is;

    pthread_mutex_lock(&l->lock);
    is = l->drop_running;
    pthread_mutex_unlock(&l->lock);
    return is;
}

/* Scores items[0 .. n), which are distinct, into scores. */
static int score_slice(struct local *l, const struct item *items, size_t n,
                       struct tr_score *scores, struct tr_err *err)
{
    struct tr_str *texts = tr_array(n, sizeof *texts);
    float *vectors = tr_array(n * l->dim, sizeof *vectors);
    bool *cut = tr_array(n, sizeof *cut);
    int rc = TR_OK;

    if (!texts || !vectors || !cut) {
        rc = tr_fail(err, TR_NOMEM, "out of memory for %zu texts", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        texts[i] = items[i].text;
    TRY(tr_encoder_run(l->encoder, texts, n, vectors, cut, err));
    for (size_t i = 0; i < n; i++) {
        struct tr_score *score = &scores[items[i].index];

        *score = tr_prototypes_score(l->prototypes, l->label_count, l->dim,
                                     vectors + i * l->dim);
        score->cut = cut[i];
    }
out:
    tr_free(texts);
    tr_free(vectors);
    tr_free(cut);
    return rc;
}

/* Exact duplicates inside a pack are computed once: items are sorted, so the
 * first of each run of equal texts moves to the front and answers for all. */
static void run_job(struct local *l, struct job *job)
{
    struct item *distinct = tr_arena_alloc(&job->memory,
                                           job->count * sizeof *distinct);
    struct tr_err err = {0};
    size_t n = 0, first = 0;

    if (!distinct) {
        job->rc = tr_fail(&err, TR_NOMEM, "out of memory");
    } else {
        for (size_t i = 0; i < job->count; i++)
            if (i == 0 || !tr_str_eq(job->items[i].text,
                                     job->items[i - 1].text))
                distinct[n++] = job->items[i];
        for (size_t i = 0, k; i < n && job->rc == TR_OK && !dropped(l);
             i += k) {
            k = slice(l, distinct, i, n);
            job->rc = score_slice(l, distinct + i, k, job->scores, &err);
        }
        for (size_t i = 1; i < job->count; i++) {
            if (!tr_str_eq(job->items[i].text, job->items[first].text))
                first = i;
            job->scores[job->items[i].index] =
                job->scores[job->items[first].index];
        }
    }
    snprintf(job->message, sizeof job->message, "%.299s", err.text);
    job->latency_ms = (tr_clock_mono_ns() - job->started_ns) / TR_MS;
}

static void *work(void *arg)
{
    struct local *l = arg;

    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        struct job *job = queue_take(&l->waiting);

        if (!job) {
            pthread_cond_wait(&l->news, &l->lock);
            continue;
        }
        l->running = true;
        l->drop_running = false;
        pthread_mutex_unlock(&l->lock);
        run_job(l, job);
        pthread_mutex_lock(&l->lock);
        l->running = false;
        if (l->drop_running) {
            job_free(job);
            l->job_count--;
        } else {
            queue_push(&l->done, job);
        }
        ring(l);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals are the program's business; the worker gets none. */
static int start_worker(struct local *l, struct tr_err *err)
{
    sigset_t all, before;
    int failed;

    if (l->has_worker)
        return TR_OK;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&l->worker, NULL, work, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return tr_fail(err, TR_NOMEM, "no thread for the local model: %s; "
                       "raise the limit of processes (ulimit -u) or of memory "
                       "(ulimit -v)", strerror(failed));
    l->has_worker = true;
    return TR_OK;
}

/* ---- attempts ---------------------------------------------------------- */

static struct job *job_new(const struct tr_shot *shot)
{
    struct job *job = tr_alloc(sizeof *job);
    size_t n = shot->text_count;

    if (!job)
        return NULL;
    tr_arena_init(&job->memory);
    job->tag = shot->tag;
    job->count = n;
    job->started_ns = tr_clock_mono_ns();
    job->items = tr_arena_alloc(&job->memory, n * sizeof *job->items + 1);
    job->scores = tr_arena_alloc(&job->memory, n * sizeof *job->scores + 1);
    if (!job->items || !job->scores)
        goto fail;
    for (size_t i = 0; i < n; i++) {
        job->items[i].index = i;
        job->items[i].text = tr_arena_dup(&job->memory, shot->texts[i]);
        if (!job->items[i].text.p)
            goto fail;
    }
    qsort(job->items, n, sizeof *job->items, by_text);
    return job;
fail:
    job_free(job);
    return NULL;
}

static int local_start(struct tr_lane *lane, const struct tr_shot *shot,
                       struct tr_err *err)
{
    struct local *l = (struct local *)lane;
    struct job *job = NULL;
    int rc = TR_OK;

    if (!l->prototypes)
        return tr_fail(err, TR_BUG, "start() before fit()");
    TRY(start_worker(l, err));
    job = job_new(shot);
    if (!job)
        return tr_fail(err, TR_NOMEM, "out of memory for a pack of %zu texts",
                       shot->text_count);
    pthread_mutex_lock(&l->lock);
    if (l->job_count >= JOBS_MAX) {
        rc = tr_fail(err, TR_BUG, "more than %d packs wait for the local model",
                     JOBS_MAX);
    } else {
        l->job_count++;
        queue_push(&l->waiting, job);
        job = NULL;
        pthread_cond_signal(&l->news);
    }
    pthread_mutex_unlock(&l->lock);
    job_free(job);
out:
    return rc;
}

static int local_next(struct tr_lane *lane, struct tr_reply *reply)
{
    struct local *l = (struct local *)lane;
    struct job *job;

    pthread_mutex_lock(&l->lock);
    job = queue_take(&l->done);
    if (job)
        l->job_count--;
    pthread_mutex_unlock(&l->lock);
    if (!job)
        return 0;
    job_free(l->shown);
    l->shown = job;

    memset(reply, 0, sizeof *reply);
    reply->tag = job->tag;
    reply->outcome = job->rc == TR_OK ? TR_OUT_OK : TR_OUT_FATAL;
    reply->billing = TR_BILL_NONE;
    reply->scores = job->scores;
    reply->usage = (struct tr_usage){-1, -1, -1, -1, -1};
    reply->limits.requests = (struct tr_limit){-1, -1, -1, 0};
    reply->limits.tokens = reply->limits.input = reply->limits.output =
        reply->limits.requests;
    reply->retry_after_ms = -1;
    reply->latency_ms = job->latency_ms;
    snprintf(reply->served, sizeof reply->served, "%s",
             tr_encoder_name(l->encoder));
    snprintf(reply->message, sizeof reply->message, "%s", job->message);
    return 1;
}

static int local_watch(struct tr_lane *lane, int *timeout_ms)
{
    struct local *l = (struct local *)lane;

    pthread_mutex_lock(&l->lock);
    if (l->done.first)
        *timeout_ms = 0;
    pthread_mutex_unlock(&l->lock);
    return l->bell[0];
}

static void local_wait(struct tr_lane *lane, int timeout_ms, int extra_fd)
{
    struct local *l = (struct local *)lane;
    struct pollfd fds[2] = {{local_watch(lane, &timeout_ms), POLLIN, 0},
                            {extra_fd, POLLIN, 0}};
    char bytes[64];

    /* A signal ends the sleep early, which the engine wants. */
    poll(fds, 2, timeout_ms);
    while (read(l->bell[0], bytes, sizeof bytes) > 0)
        ;
}

static void local_wakeup(struct tr_lane *lane)
{
    ring((struct local *)lane);
}

static void local_cancel(struct tr_lane *lane)
{
    struct local *l = (struct local *)lane;
    struct job *job;

    pthread_mutex_lock(&l->lock);
    while ((job = queue_take(&l->waiting)) || (job = queue_take(&l->done))) {
        job_free(job);
        l->job_count--;
    }
    l->drop_running = l->running;
    pthread_mutex_unlock(&l->lock);
}

/* ---- fit --------------------------------------------------------------- */

/* Everything whose vector the fit needs: phrasings of labels, their examples,
 * the input's sample. One list, encoded slice by slice, longest first. */
enum part { PART_CLASS, PART_EXAMPLE, PART_SAMPLE };

struct fit {
    struct tr_arena memory; /* phrasings and the arrays */
    struct item *items;     /* index: into who[] */
    size_t count, at;       /* at: next to encode */
    struct {
        enum part part;
        size_t place; /* label, example, or place in the sample */
    } *who;
    float *class_vectors, *examples, *sample;
    uint32_t *examples_of;
    size_t example_count, sample_count;
};

static void fit_free(struct fit *f)
{
    if (!f)
        return;
    tr_arena_release(&f->memory);
    tr_free(f);
}

static void fit_add(struct fit *f, struct tr_str text, enum part part,
                    size_t place)
{
    f->items[f->count] = (struct item){text, f->count};
    f->who[f->count].part = part;
    f->who[f->count].place = place;
    f->count++;
}

static int fit_add_label(struct local *l, struct fit *f, size_t k,
                         struct tr_buf *scratch)
{
    const struct tr_local_label *label = &l->labels[k];

    for (size_t i = 0;
         tr_phrasing(i, label->name, label->description, scratch); i++) {
        struct tr_str copy = tr_arena_dup(&f->memory, tr_buf_str(scratch));

        if (!copy.p || !tr_buf_ok(scratch))
            return TR_NOMEM;
        fit_add(f, copy, PART_CLASS, k);
    }
    for (size_t i = 0; i < label->example_count; i++) {
        f->examples_of[f->example_count] = (uint32_t)k;
        fit_add(f, label->examples[i], PART_EXAMPLE, f->example_count++);
    }
    return TR_OK;
}

/* The first TR_LOCAL_SAMPLE_MAX distinct texts, copied: the caller's rows may
 * have moved when the next slice is due. */
static int fit_add_sample(struct fit *f, const struct tr_str *texts, size_t n)
{
    struct item *sorted = tr_array(n + 1, sizeof *sorted);
    bool *again = tr_array(n + 1, sizeof *again);
    int rc = TR_OK;

    if (!sorted || !again) {
        tr_free(sorted);
        tr_free(again);
        return TR_NOMEM;
    }
    for (size_t i = 0; i < n; i++)
        sorted[i] = (struct item){texts[i], i};
    qsort(sorted, n, sizeof *sorted, by_text);
    for (size_t i = 1; i < n; i++)
        again[sorted[i].index] = tr_str_eq(sorted[i].text, sorted[i - 1].text);
    for (size_t i = 0; i < n && f->sample_count < TR_LOCAL_SAMPLE_MAX; i++) {
        struct tr_str text = texts[i];

        if (again[i])
            continue;
        if (text.n > SAMPLE_BYTES)
            text.n = SAMPLE_BYTES;
        text = tr_arena_dup(&f->memory, text);
        if (!text.p) {
            rc = TR_NOMEM;
            break;
        }
        fit_add(f, text, PART_SAMPLE, f->sample_count++);
    }
    tr_free(sorted);
    tr_free(again);
    return rc;
}

static int fit_begin(struct local *l, const struct tr_str *texts, size_t n,
                     struct tr_err *err)
{
    struct fit *f = tr_alloc(sizeof *f);
    struct tr_buf scratch;
    size_t examples = 0, max, samples;
    int rc = TR_NOMEM;

    tr_buf_init(&scratch, TR_TASK_BYTES_MAX);
    if (!f)
        goto out;
    tr_arena_init(&f->memory);
    for (size_t k = 0; k < l->label_count; k++)
        examples += l->labels[k].example_count;
    samples = n < TR_LOCAL_SAMPLE_MAX ? n : TR_LOCAL_SAMPLE_MAX;
    max = l->label_count * 8 + examples + samples;
    f->items = tr_arena_alloc(&f->memory, max * sizeof *f->items);
    f->who = tr_arena_alloc(&f->memory, max * sizeof *f->who);
    f->examples_of = tr_arena_alloc(&f->memory,
                                    (examples + 1) * sizeof *f->examples_of);
    f->class_vectors = tr_arena_alloc(&f->memory, l->label_count * l->dim *
                                                      sizeof(float));
    f->examples = tr_arena_alloc(&f->memory,
                                 (examples * l->dim + 1) * sizeof(float));
    f->sample = tr_arena_alloc(&f->memory,
                               (samples * l->dim + 1) * sizeof(float));
    if (!f->items || !f->who || !f->examples_of || !f->class_vectors ||
        !f->examples || !f->sample)
        goto out;
    for (size_t k = 0; k < l->label_count; k++)
        TRY(fit_add_label(l, f, k, &scratch));
    TRY(fit_add_sample(f, texts, n));
    qsort(f->items, f->count, sizeof *f->items, by_text);
    l->fit = f;
    f = NULL;
    rc = TR_OK;
out:
    fit_free(f);
    tr_buf_release(&scratch);
    if (rc == TR_NOMEM)
        tr_fail(err, rc, "out of memory while fitting the local model");
    return rc;
}

/* Puts a vector where it belongs; a label's phrasings are summed up. */
static void fit_place(struct local *l, struct fit *f, const struct item *item,
                      const float *v)
{
    size_t place = f->who[item->index].place;
    float *to;

    switch (f->who[item->index].part) {
    case PART_CLASS:
        to = f->class_vectors + place * l->dim;
        for (size_t i = 0; i < l->dim; i++)
            to[i] += v[i];
        return;
    case PART_EXAMPLE:
        memcpy(f->examples + place * l->dim, v, l->dim * sizeof *v);
        return;
    case PART_SAMPLE:
        memcpy(f->sample + place * l->dim, v, l->dim * sizeof *v);
        return;
    }
}

static int fit_slice(struct local *l, struct tr_err *err)
{
    struct fit *f = l->fit;
    size_t n = slice(l, f->items, f->at, f->count);
    struct tr_str *texts = tr_array(n + 1, sizeof *texts);
    float *vectors = tr_array(n * l->dim + 1, sizeof *vectors);
    int rc = TR_OK;

    if (!texts || !vectors) {
        rc = tr_fail(err, TR_NOMEM, "out of memory for %zu texts", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        texts[i] = f->items[f->at + i].text;
    TRY(tr_encoder_run(l->encoder, texts, n, vectors, NULL, err));
    for (size_t i = 0; i < n; i++)
        fit_place(l, f, &f->items[f->at + i], vectors + i * l->dim);
    f->at += n;
out:
    tr_free(texts);
    tr_free(vectors);
    return rc;
}

static int fit_end(struct local *l, struct tr_err *err)
{
    struct fit *f = l->fit;
    float *prototypes = tr_array(l->label_count * l->dim, sizeof *prototypes);
    int rc = TR_NOMEM;

    if (prototypes) {
        tr_unit_vectors(f->class_vectors, l->label_count, l->dim);
        rc = tr_prototypes_fit(prototypes, l->label_count, l->dim,
                               f->class_vectors, f->examples, f->examples_of,
                               f->example_count, f->sample, f->sample_count);
    }
    if (rc != TR_OK) {
        tr_free(prototypes);
        return tr_fail(err, rc, "out of memory for %zu label vectors",
                       l->label_count);
    }
    l->prototypes = prototypes;
    return TR_OK;
}

/* What the store keeps: one line that says what the vectors belong to, then
 * the vectors as they lie in memory. */
static void fit_header(const struct local *l, char *out, size_t size)
{
    snprintf(out, size, "trommel-fit 2 %.100s %s %zu labels %zu dimensions\n",
             tr_encoder_name(l->encoder), l->lane.fits, l->label_count, l->dim);
}

static size_t prototype_bytes(const struct local *l)
{
    return l->label_count * l->dim * sizeof *l->prototypes;
}

static int fit_restore(struct local *l, struct tr_str fitted,
                       struct tr_err *err)
{
    char header[200];
    size_t n;

    fit_header(l, header, sizeof header);
    n = strlen(header);
    if (fitted.n != n + prototype_bytes(l) || memcmp(fitted.p, header, n) != 0)
        return fitted.n ? TR_FIT_OTHER : TR_OK;
    l->prototypes = tr_alloc(prototype_bytes(l));
    if (!l->prototypes)
        return tr_fail(err, TR_NOMEM, "out of memory for %zu label vectors",
                       l->label_count);
    memcpy(l->prototypes, fitted.p + n, prototype_bytes(l));
    return TR_OK;
}

/* Keeps the vectors in out, and their digest in the model's name: equal names
 * mean equal label vectors of the same model. */
static int fit_publish(struct local *l, struct tr_buf *out, struct tr_err *err)
{
    struct tr_str bytes = tr_str((const char *)l->prototypes,
                                 prototype_bytes(l));
    struct tr_key salt = tr_encoder_digest(l->encoder);
    struct tr_key key = tr_digest(&salt, bytes);
    char header[200], hex[7];

    tr_key_hex(&key, 3, hex);
    snprintf(l->lane.model, sizeof l->lane.model, "local/%s+%s",
             tr_encoder_name(l->encoder), hex);
    fit_header(l, header, sizeof header);
    tr_buf_clear(out);
    tr_buf_addz(out, header);
    tr_buf_adds(out, bytes);
    if (!tr_buf_ok(out))
        return tr_fail(err, TR_NOMEM, "out of memory for %zu label vectors",
                       l->label_count);
    return TR_OK;
}

static int local_fit(struct tr_lane *lane, const struct tr_str *texts, size_t n,
                     struct tr_str fitted, struct tr_buf *out,
                     struct tr_err *err)
{
    struct local *l = (struct local *)lane;
    int rc = TR_OK;

    if (!l->prototypes && !l->fit) {
        TRY(fit_restore(l, fitted, err));
        if (!l->prototypes)
            TRY(fit_begin(l, texts, n, err));
    }
    if (l->fit) {
        TRY(fit_slice(l, err));
        if (l->fit->at < l->fit->count)
            return TR_FIT_MORE;
        TRY(fit_end(l, err));
        fit_free(l->fit);
        l->fit = NULL;
    }
    TRY(fit_publish(l, out, err));
out:
    return rc;
}

/* ---- opening and closing ----------------------------------------------- */

static void local_close(struct tr_lane *lane)
{
    struct local *l = (struct local *)lane;

    if (!l)
        return;
    local_cancel(lane);
    if (l->has_worker) {
        pthread_mutex_lock(&l->lock);
        l->stop = true;
        pthread_cond_signal(&l->news);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->worker, NULL);
    }
    for (int i = 0; i < 2; i++)
        if (l->bell[i] >= 0)
            close(l->bell[i]);
    job_free(l->shown);
    fit_free(l->fit);
    tr_free(l->prototypes);
    tr_arena_release(&l->memory);
    tr_encoder_close(l->encoder);
    pthread_cond_destroy(&l->news);
    pthread_mutex_destroy(&l->lock);
    tr_free(l);
}

static const struct tr_lane_vt local_vt = {
    .start = local_start,
    .next = local_next,
    .wait = local_wait,
    .watch = local_watch,
    .wakeup = local_wakeup,
    .cancel = local_cancel,
    .fit = local_fit,
    .close = local_close,
};

static int copy_labels(struct local *l, const struct tr_local_opts *o)
{
    l->label_count = o->label_count;
    l->labels = tr_arena_alloc(&l->memory, o->label_count * sizeof *l->labels);
    if (!l->labels)
        return TR_NOMEM;
    for (size_t k = 0; k < o->label_count; k++) {
        const struct tr_local_label *from = &o->labels[k];
        struct tr_local_label *to = &l->labels[k];
        struct tr_str *examples;

        to->name = tr_arena_dup(&l->memory, from->name);
        to->description = tr_arena_dup(&l->memory, from->description);
        to->example_count = from->example_count;
        to->examples = examples = tr_arena_alloc(
            &l->memory, (from->example_count + 1) * sizeof *examples);
        if (!to->name.p || !to->description.p || !examples)
            return TR_NOMEM;
        for (size_t i = 0; i < from->example_count; i++) {
            examples[i] = tr_arena_dup(&l->memory, from->examples[i]);
            if (!examples[i].p)
                return TR_NOMEM;
        }
    }
    return TR_OK;
}

/* Digest of all that a label's own vector is made of. */
static int label_sum(struct local *l, const struct tr_local_label *label,
                     struct tr_buf *scratch, struct tr_key *sum,
                     struct tr_err *err)
{
    int rc = TR_OK;

    *sum = (struct tr_key){{0}};
    for (size_t i = 0;
         tr_phrasing(i, label->name, label->description, scratch); i++) {
        if (!tr_buf_ok(scratch))
            return tr_fail(err, TR_NOMEM, "out of memory for the labels");
        TRY(tr_encoder_sum(l->encoder, tr_buf_str(scratch), sum, err));
    }
out:
    return rc;
}

/* Of two labels that the model reads as the same, the first would get every
 * text. Examples make a difference. */
static int check_labels(struct local *l, struct tr_err *err)
{
    struct tr_keymap seen;
    struct tr_buf scratch;
    int rc = TR_OK;

    tr_keymap_init(&seen);
    tr_buf_init(&scratch, TR_TASK_BYTES_MAX);
    for (size_t k = 0; k < l->label_count; k++) {
        struct tr_local_label *label = &l->labels[k];
        const struct tr_local_label *other;
        struct tr_key sum;

        if (label->example_count)
            continue;
        TRY(label_sum(l, label, &scratch, &sum, err));
        other = tr_keymap_find(&seen, &sum);
        if (other)
            TRY(tr_fail(err, TR_CONFIG, "the local model reads the labels "
                        "'%.*s' and '%.*s' as the same; describe them in "
                        "English in a task file (--task), or name a language "
                        "model with --model", (int)other->name.n,
                        other->name.p, (int)label->name.n, label->name.p));
        if (!tr_keymap_add(&seen, &sum, label))
            TRY(tr_fail(err, TR_NOMEM, "out of memory for the labels"));
    }
out:
    tr_keymap_release(&seen);
    tr_buf_release(&scratch);
    return rc;
}

static int open_bell(struct local *l)
{
    if (pipe(l->bell) != 0) {
        l->bell[0] = l->bell[1] = -1;
        return TR_IO;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(l->bell[i], F_SETFL, O_NONBLOCK);
        fcntl(l->bell[i], F_SETFD, FD_CLOEXEC);
    }
    return TR_OK;
}

#ifdef TROMMEL_LOCAL
#define NO_MODEL                                                               \
    "the local model " DEFAULT_MODEL " is not installed; run make install "    \
    "again, or set TROMMEL_MODEL_DIR to the folder it is in"
#else
#define NO_MODEL TR_ENCODER_MISSING
#define TROMMEL_MODEL_DIR_INSTALLED ""
#endif

bool tr_local_find_model(char *path, size_t size)
{
    char self[512] = "", shared[512 + 40] = "";
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *dirs[] = {getenv("TROMMEL_MODEL_DIR"), shared,
                          TROMMEL_MODEL_DIR_INSTALLED, self};

    self[n > 0 ? n : 0] = '\0';
    if (strrchr(self, '/')) {
        *strrchr(self, '/') = '\0';
        snprintf(shared, sizeof shared, "%s/../share/trommel", self);
    }
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        if (!dirs[i] || !*dirs[i])
            continue;
        snprintf(path, size, "%s/" DEFAULT_MODEL, dirs[i]);
        if (access(path, R_OK) == 0)
            return true;
    }
    return false;
}

int tr_local_lane_open(struct tr_lane **out, const struct tr_local_opts *o,
                       struct tr_err *err)
{
    struct tr_key digest;
    char path[1024];
    struct local *l;
    int rc;

    *out = NULL;
    if (o->multiple || o->none)
        return tr_fail(err, TR_CONFIG, "the local model gives exactly one "
                       "label, and the task has %s; remove that, or name a "
                       "language model with --model",
                       o->multiple ? "multiple: true" : "none:");
    if (o->label_count < 2)
        return tr_fail(err, TR_CONFIG, "the local model needs two labels or "
                       "more to choose from");
    if (!o->path && !tr_local_find_model(path, sizeof path))
        return tr_fail(err, TR_CONFIG, "%s", NO_MODEL);
    l = tr_alloc(sizeof *l);
    if (!l)
        return tr_fail(err, TR_NOMEM, "out of memory for the local model");
    l->lane.vt = &local_vt;
    l->bell[0] = l->bell[1] = -1;
    l->waiting.end = &l->waiting.first;
    l->done.end = &l->done.first;
    tr_arena_init(&l->memory);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->news, NULL);
    TRY(tr_encoder_open(&l->encoder, o->path ? o->path : path, o->threads,
                        err));
    l->dim = (size_t)tr_encoder_dim(l->encoder);
    rc = open_bell(l);
    if (rc == TR_OK)
        rc = copy_labels(l, o);
    if (rc != TR_OK) {
        tr_fail(err, rc, "the local model cannot start: %s",
                rc == TR_IO ? strerror(errno) : "out of memory");
        goto out;
    }
    TRY(check_labels(l, err));
    snprintf(l->lane.model, sizeof l->lane.model, "local/%s",
             tr_encoder_name(l->encoder));
    digest = tr_encoder_digest(l->encoder);
    tr_key_hex(&digest, sizeof digest.b, l->lane.fits);
    snprintf(l->lane.host, sizeof l->lane.host, "this machine");
    l->lane.facts = (struct tr_model_facts){0};
    l->lane.wants_sample = true;
    l->lane.is_local = true;
    l->lane.concurrency_max = IN_FLIGHT;
    *out = &l->lane;
    return TR_OK;
out:
    local_close(&l->lane);
    return rc;
}
