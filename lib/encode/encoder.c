/* encoder.c - texts in, unit vectors out: the only door to llama.cpp.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* sched_getaffinity */

#include "encode/encoder.h"

#ifdef TROMMEL_LOCAL

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <gguf.h>
#include <llama.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A micro-batch is one walk through the model. llama.cpp compares every token
 * of a batch with every other, also across texts, so a large batch wastes
 * time; a small one reads the weights too often. */
#define BATCH_TOKENS 256
#define BATCH_TEXTS 64
/* Longest text read, whatever the model could: memory grows with its square. */
#define TEXT_TOKENS_MAX 2048
/* A word piece is seldom longer than this; more bytes than that per token we
 * can read need not be tokenized at all. */
#define BYTES_PER_TOKEN 64
#define THREADS_MAX 64
/* What the rest of the program may take while the model is there: the rows and
 * the store's pages of base/bounds.h, beside code and libraries. */
#define OTHERS_BYTES (56u << 20)

/* One core's own walk through the shared weights: no two threads ever wait
 * for each other inside a batch, which a busy machine rewards. */
struct walker {
    struct tr_encoder *e;
    struct llama_context *ctx;
    struct llama_batch batch;
    pthread_t thread;
};

struct tr_encoder {
    struct llama_model *model;
    const struct llama_vocab *vocab;
    char name[96];
    struct tr_key digest;
    int dim;
    size_t file_bytes, walker_bytes; /* memory of the weights, and of a core */
    int text_tokens;  /* a longer text is cut */
    int batch_tokens; /* of a micro-batch */
    bool has_end;     /* a text ends in a token that must survive the cut */
    struct walker *walkers;
    int walker_count;
    struct job *job; /* while tr_encoder_run() runs */
};

/* A text as tokens. */
struct piece {
    size_t at; /* in job->tokens */
    uint32_t n;
    uint32_t index; /* of the text */
};

struct job {
    struct piece *pieces; /* longest first */
    size_t count;
    llama_token *tokens;
    size_t *batches; /* batch b is pieces[batches[b] .. batches[b + 1]) */
    size_t batch_count;
    float *vectors;
    atomic_size_t next; /* batch nobody has taken */
    atomic_int rc;      /* once it is not TR_OK, nobody takes another */
};

/* ---- what the file says about itself ---------------------------------- */

static const char *meta_string(const struct gguf_context *g, const char *key)
{
    int64_t at = gguf_find_key(g, key);

    if (at < 0 || gguf_get_kv_type(g, at) != GGUF_TYPE_STRING)
        return NULL;
    return gguf_get_val_str(g, at);
}

static bool meta_false(const struct gguf_context *g, const char *key)
{
    int64_t at = gguf_find_key(g, key);

    return at >= 0 && gguf_get_kv_type(g, at) == GGUF_TYPE_BOOL &&
           !gguf_get_val_bool(g, at);
}

static int meta_u32(const struct gguf_context *g, const char *key, int without)
{
    int64_t at = gguf_find_key(g, key);

    if (at < 0 || gguf_get_kv_type(g, at) != GGUF_TYPE_UINT32)
        return without;
    return (int)gguf_get_val_u32(g, at);
}

/* A dimension of the model, from "bert.embedding_length" and the like. */
static size_t meta_size(const struct gguf_context *g, const char *arch,
                        const char *name, size_t without)
{
    char key[160];
    int n;

    snprintf(key, sizeof key, "%.90s.%s", arch, name);
    n = meta_u32(g, key, 0);
    return n > 0 && n <= 1 << 20 ? (size_t)n : without;
}

/* What one core's walk takes: all tokens compared with each other by each
 * head, before and after they become shares, and a layer's values in and out.
 * Models that read left to right keep those of every layer, too. */
static size_t walker_bytes(const struct gguf_context *g, const char *arch)
{
    size_t tokens = meta_size(g, arch, "context_length", TEXT_TOKENS_MAX);
    size_t heads = meta_size(g, arch, "attention.head_count", 16);
    size_t wide = meta_size(g, arch, "embedding_length", 1024);
    size_t inner = meta_size(g, arch, "feed_forward_length", 4 * wide);
    size_t layers = strstr(arch, "bert")
                        ? 0 : meta_size(g, arch, "block_count", 32);

    if (tokens > TEXT_TOKENS_MAX)
        tokens = TEXT_TOKENS_MAX;
    if (tokens < BATCH_TOKENS)
        tokens = BATCH_TOKENS;
    return tokens * tokens * heads * 2 * sizeof(float) +
           tokens * (4 * wide + inner) * sizeof(float) +
           tokens * layers * wide * sizeof(float);
}

/* "all-MiniLM-L6-v2" from general.name, else from the path; bytes that would
 * look odd in a column become '-'. */
static void set_name(char *out, size_t size, const char *name, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n;

    if (!name || !*name)
        name = slash ? slash + 1 : path;
    snprintf(out, size, "%s", name);
    n = strlen(out);
    if (n > 5 && strcmp(out + n - 5, ".gguf") == 0)
        out[n - 5] = '\0';
    for (char *p = out; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
            *p = '-';
}

/* ---- memory ------------------------------------------------------------ */

/* llama.cpp ends the process when it gets no memory, or says that the file is
 * damaged. So what it will need is asked for, and given back, before. */
static bool room_for(size_t bytes)
{
    void *p = tr_alloc(bytes);

    tr_free(p);
    return p != NULL;
}

static size_t stack_bytes(void)
{
    pthread_attr_t attr;
    size_t n = 0;

    if (pthread_attr_init(&attr) == 0) {
        pthread_attr_getstacksize(&attr, &n);
        pthread_attr_destroy(&attr);
    }
    return n;
}

/* Lowers *threads until there is memory for them. */
static int fit_threads(const struct tr_encoder *e, const char *path,
                       int *threads, struct tr_err *err)
{
    size_t one = e->walker_bytes + stack_bytes();
    size_t rest = e->file_bytes + OTHERS_BYTES;

    while (*threads > 1 && !room_for(rest + one * (size_t)*threads))
        --*threads;
    if (room_for(rest + one * (size_t)*threads))
        return TR_OK;
    return tr_fail(err, TR_NOMEM, "out of memory for %s: at least %zu MB more "
                   "are needed; raise the limit (ulimit -v), or name a server's "
                   "model with --model", path, (rest + one) / 1000000);
}

/* ---- what the file says of its vectors --------------------------------- */

/* How the tokens of a text become one vector, or a refusal. A model that
 * states its pooling was made for vectors; one that does not, but reads both
 * ways, gets the mean; all others write text, and are not for us. */
static int read_meta(struct tr_encoder *e, const char *path,
                     enum llama_pooling_type *pooling, struct tr_err *err)
{
    struct gguf_init_params params = {.no_alloc = true};
    struct gguf_context *g;
    struct stat sb;
    const char *arch;
    char key[128];
    bool both_ways;
    int rc = TR_OK, one = 1;

    if (access(path, R_OK) != 0 || stat(path, &sb) != 0)
        return tr_fail(err, TR_NOINPUT, "%s: %s; local: needs the path of an "
                       "embedding model in GGUF form", path, strerror(errno));
    if (!S_ISREG(sb.st_mode)) /* a pipe would be waited for without end */
        return tr_fail(err, TR_CONFIG, "%s is no regular file; local: needs "
                       "the path of an embedding model in GGUF form", path);
    e->file_bytes = (size_t)sb.st_size;
    TRY(fit_threads(e, path, &one, err)); /* or it seems to be cut off */
    g = gguf_init_from_file(path, params);
    if (!g)
        return tr_fail(err, TR_CONFIG, "%s is not a GGUF file, or is cut off; "
                       "fetch it again", path);
    arch = meta_string(g, "general.architecture");
    if (!arch)
        arch = "unknown";
    e->walker_bytes = walker_bytes(g, arch);
    set_name(e->name, sizeof e->name, meta_string(g, "general.name"), path);

    snprintf(key, sizeof key, "%.90s.attention.causal", arch);
    both_ways = meta_false(g, key) || strstr(arch, "bert") != NULL ||
                strcmp(arch, "t5encoder") == 0;
    snprintf(key, sizeof key, "%.90s.pooling_type", arch);
    *pooling = (enum llama_pooling_type)meta_u32(g, key, 0);
    if (*pooling == LLAMA_POOLING_TYPE_RANK)
        rc = tr_fail(err, TR_CONFIG, "%s is a reranking model, it gives no "
                     "vectors; local: needs an embedding model", path);
    else if (*pooling == LLAMA_POOLING_TYPE_NONE && both_ways)
        *pooling = LLAMA_POOLING_TYPE_MEAN;
    else if (*pooling == LLAMA_POOLING_TYPE_NONE)
        rc = tr_fail(err, TR_CONFIG, "%s is a generative model (%s), and "
                     "local: runs embedding models only; serve it with "
                     "llama-server or Ollama and name that with --model",
                     path, arch);
    gguf_free(g);
out:
    return rc;
}

/* ---- which file it is -------------------------------------------------- */

#define SUM_BYTES ((size_t)128 << 10) /* of a read: stays in the cache */
enum { SUM_LANES = 8 };               /* independent, so that none waits */

/* Every byte counts: a step is a bijection of what was before, so one word
 * that differs is never lost. BLAKE2b over all of it would take as long as
 * loading the model three times. */
static void add_words(uint64_t *sums, const unsigned char *p, size_t n)
{
    uint64_t word;

    for (size_t i = 0; i + sizeof word <= n; i += sizeof word) {
        uint64_t *sum = &sums[i / sizeof word % SUM_LANES];

        memcpy(&word, p + i, sizeof word);
        *sum = (*sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        *sum ^= *sum >> 29;
    }
}

static int digest_file(struct tr_encoder *e, const char *path,
                       struct tr_err *err)
{
    struct {
        uint64_t bytes, sums[SUM_LANES];
    } all = {0};
    unsigned char *bytes = tr_alloc(SUM_BYTES);
    FILE *f = fopen(path, "rb");
    size_t n;
    int rc = TR_OK;

    if (!bytes || !f) {
        rc = !bytes ? tr_fail(err, TR_NOMEM, "out of memory for %s", path)
                    : tr_fail(err, TR_NOINPUT, "%s: %s; %s", path,
                              strerror(errno),
                              tr_errno_remedy(errno, "check its permissions"));
        goto out;
    }
    setbuf(f, NULL);
    while ((n = fread(bytes, 1, SUM_BYTES, f)) > 0) {
        size_t pad = (SUM_BYTES - n) % sizeof all.bytes; /* at the end */

        memset(bytes + n, 0, pad);
        add_words(all.sums, bytes, n + pad);
        all.bytes += n;
    }
    if (ferror(f))
        rc = tr_fail(err, TR_IO, "%s cannot be read: %s", path,
                     strerror(errno));
    e->digest = tr_digest(NULL, tr_str((const char *)&all, sizeof all));
out:
    if (f)
        fclose(f);
    tr_free(bytes);
    return rc;
}

/* ---- opening ----------------------------------------------------------- */

static void no_log(enum ggml_log_level level, const char *text, void *data)
{
    (void)level;
    (void)text;
    (void)data;
}

static void init_llama(void)
{
    llama_log_set(no_log, NULL);
    llama_backend_init();
}

/* The cores that this process may use: in a container or a batch job often
 * fewer than there are. */
static int core_count(void)
{
    cpu_set_t cores;

    if (sched_getaffinity(0, sizeof cores, &cores) == 0)
        return CPU_COUNT(&cores);
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

static int open_walker(struct tr_encoder *e, struct walker *w,
                       enum llama_pooling_type pooling)
{
    struct llama_context_params p = llama_context_default_params();

    p.n_ctx = p.n_batch = p.n_ubatch = (uint32_t)e->batch_tokens;
    p.n_seq_max = BATCH_TEXTS;
    p.n_threads = p.n_threads_batch = 1;
    p.pooling_type = pooling;
    p.embeddings = true;
    p.kv_unified = true;
    p.no_perf = true;
    w->e = e;
    w->ctx = llama_init_from_model(e->model, p);
    if (!w->ctx)
        return TR_NOMEM;
    w->batch = llama_batch_init(e->batch_tokens, 0, 1);
    return w->batch.token ? TR_OK : TR_NOMEM;
}

int tr_encoder_open(struct tr_encoder **out, const char *path, int threads,
                    struct tr_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct llama_model_params params = llama_model_default_params();
    enum llama_pooling_type pooling = LLAMA_POOLING_TYPE_NONE;
    struct tr_encoder *e = tr_alloc(sizeof *e);
    int rc;

    *out = NULL;
    if (!e)
        return tr_fail(err, TR_NOMEM, "out of memory for the local model");
    pthread_once(&once, init_llama);
    TRY(read_meta(e, path, &pooling, err));
    if (threads <= 0)
        threads = core_count();
    if (threads < 1)
        threads = 1;
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    TRY(fit_threads(e, path, &threads, err));
    TRY(digest_file(e, path, err));
    params.n_gpu_layers = 0;
    params.use_extra_bufts = false; /* repacked weights are a second copy */
    e->model = llama_model_load_from_file(path, params);
    if (!e->model) {
        rc = tr_fail(err, TR_CONFIG, "%s cannot be loaded: damaged, or of a "
                     "kind this version of llama.cpp does not know", path);
        goto out;
    }
    e->vocab = llama_model_get_vocab(e->model);
    e->dim = llama_model_n_embd_out(e->model);
    e->has_end = llama_vocab_get_add_sep(e->vocab) ||
                 llama_vocab_get_add_eos(e->vocab);
    e->text_tokens = llama_model_n_ctx_train(e->model);
    if (e->text_tokens > TEXT_TOKENS_MAX)
        e->text_tokens = TEXT_TOKENS_MAX;
    e->batch_tokens = e->text_tokens > BATCH_TOKENS ? e->text_tokens
                                                    : BATCH_TOKENS;

    e->walkers = tr_array((size_t)threads, sizeof *e->walkers);
    if (!e->walkers)
        rc = TR_NOMEM;
    while (rc == TR_OK && e->walker_count < threads)
        rc = open_walker(e, &e->walkers[e->walker_count++], pooling);
    if (rc != TR_OK)
        tr_fail(err, rc, "out of memory for %s", path);
out:
    if (rc != TR_OK) {
        tr_encoder_close(e);
        return rc;
    }
    *out = e;
    return TR_OK;
}

int tr_encoder_dim(const struct tr_encoder *e)
{
    return e->dim;
}

const char *tr_encoder_name(const struct tr_encoder *e)
{
    return e->name;
}

struct tr_key tr_encoder_digest(const struct tr_encoder *e)
{
    return e->digest;
}

int tr_encoder_threads(const struct tr_encoder *e)
{
    return e->walker_count;
}

void tr_encoder_close(struct tr_encoder *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->walker_count; i++) {
        if (e->walkers[i].batch.token)
            llama_batch_free(e->walkers[i].batch);
        if (e->walkers[i].ctx)
            llama_free(e->walkers[i].ctx);
    }
    tr_free(e->walkers);
    if (e->model)
        llama_model_free(e->model);
    tr_free(e);
}

/* ---- running ----------------------------------------------------------- */

/* Longest first: the last batches are small, so all cores end together. The
 * index makes the order, and so every vector, the same in every run. */
static int by_length(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    if (x->n != y->n)
        return x->n < y->n ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* A text's tokens into room, which is for the longest text; how many, or less
 * than 0. */
static int tokens_of(const struct tr_encoder *e, struct tr_str text,
                     llama_token *room, size_t room_n, bool *cut)
{
    int max = e->text_tokens, n;

    *cut = text.n > (size_t)max * BYTES_PER_TOKEN;
    if (*cut) {
        text.n = (size_t)max * BYTES_PER_TOKEN;
        while (text.n && ((unsigned char)text.p[text.n] & 0xc0) == 0x80)
            text.n--;
    }
    n = llama_tokenize(e->vocab, text.p ? text.p : "", (int32_t)text.n, room,
                       (int32_t)room_n, true, false);
    if (n > max) {
        *cut = true;
        if (e->has_end)
            room[max - 1] = room[n - 1];
        n = max;
    }
    return n;
}

/* Tokens that a text of so many bytes may be taken for. A byte can be more
 * than one (accents are taken apart). */
static size_t room_of(const struct tr_encoder *e, size_t bytes)
{
    size_t max = (size_t)e->text_tokens * BYTES_PER_TOKEN;

    return (bytes < max ? bytes : max) * 4 + 16;
}

/* Appends a text's tokens to job->tokens, which has room for text_tokens. */
static int add_piece(struct tr_encoder *e, struct job *job, size_t at,
                     struct tr_str text, llama_token *room, size_t room_n,
                     bool *cut)
{
    struct piece *piece = &job->pieces[job->count];
    int n = tokens_of(e, text, room, room_n, cut);

    if (n < 0)
        return TR_BUG;
    memcpy(job->tokens + at, room, (size_t)n * sizeof *room);
    *piece = (struct piece){at, (uint32_t)n, (uint32_t)job->count};
    job->count++;
    return TR_OK;
}

/* Cuts the sorted pieces into micro-batches. A text without tokens comes last
 * and is in none: its vector stays zero. */
static void make_batches(struct job *job)
{
    size_t tokens = 0, texts = 0, i;

    job->batch_count = 0;
    for (i = 0; i < job->count && job->pieces[i].n > 0; i++) {
        tokens += job->pieces[i].n;
        texts++;
        if (i == 0 || tokens > BATCH_TOKENS || texts > BATCH_TEXTS) {
            job->batches[job->batch_count++] = i;
            tokens = job->pieces[i].n;
            texts = 1;
        }
    }
    job->batches[job->batch_count] = i;
}

/* False: it has no direction, or is no number. Every label would be as near,
 * and the first would be taken. */
static bool unit(float *to, const float *from, int dim)
{
    double sum = 0;
    float scale;

    for (int i = 0; i < dim; i++)
        sum += (double)from[i] * (double)from[i];
    if (!(sum > 0) || !isfinite(sum))
        return false;
    scale = (float)(1 / sqrt(sum));
    for (int i = 0; i < dim; i++)
        to[i] = from[i] * scale;
    return true;
}

static int run_batch(struct walker *w, struct job *job, size_t b)
{
    const struct piece *pieces = job->pieces + job->batches[b];
    size_t count = job->batches[b + 1] - job->batches[b];
    struct llama_batch *batch = &w->batch;
    llama_memory_t memory = llama_get_memory(w->ctx);
    int dim = w->e->dim;

    batch->n_tokens = 0;
    for (size_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < pieces[i].n; k++) {
            int32_t at = batch->n_tokens++;

            batch->token[at] = job->tokens[pieces[i].at + k];
            batch->pos[at] = (llama_pos)k;
            batch->n_seq_id[at] = 1;
            batch->seq_id[at][0] = (llama_seq_id)i;
            batch->logits[at] = 1;
        }
    }
    if (memory)
        llama_memory_clear(memory, true);
    if (llama_decode(w->ctx, *batch) != 0)
        return TR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        const float *v = llama_get_embeddings_seq(w->ctx, (llama_seq_id)i);

        if (!v)
            return TR_NOMEM;
        if (!unit(job->vectors + (size_t)pieces[i].index * (size_t)dim, v, dim))
            return TR_CONFIG;
    }
    return TR_OK;
}

static void *walk(void *arg)
{
    struct walker *w = arg;
    struct job *job = w->e->job;
    size_t b;

    while (atomic_load(&job->rc) == TR_OK &&
           (b = atomic_fetch_add(&job->next, 1)) < job->batch_count) {
        int rc = run_batch(w, job, b);

        if (rc != TR_OK)
            atomic_store(&job->rc, rc);
    }
    return NULL;
}

/* All cores; when a thread cannot be had, fewer. */
static void run_batches(struct tr_encoder *e, struct job *job)
{
    sigset_t all, before;
    int helpers = 0;

    e->job = job;
    sigfillset(&all); /* signals stay with the caller's thread */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (helpers + 1 < e->walker_count &&
           (size_t)helpers + 1 < job->batch_count) {
        struct walker *w = &e->walkers[helpers + 1];

        if (pthread_create(&w->thread, NULL, walk, w) != 0)
            break;
        helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    walk(&e->walkers[0]);
    for (int i = 0; i < helpers; i++)
        pthread_join(e->walkers[i + 1].thread, NULL);
    e->job = NULL;
}

static int fail_run(const struct tr_encoder *e, int rc, struct tr_err *err)
{
    return tr_fail(err, rc, "%s: %s", e->name,
                   rc == TR_NOMEM
                       ? "out of memory; raise the limit (ulimit -v), or name "
                         "a server's model with --model"
                   : rc == TR_CONFIG
                       ? "the model gives no vector for a text: its file is "
                         "damaged; fetch it again"
                       : "a text could not be taken apart into tokens");
}

int tr_encoder_sum(struct tr_encoder *e, struct tr_str text, struct tr_key *sum,
                   struct tr_err *err)
{
    size_t room_n = room_of(e, text.n);
    llama_token *room = tr_array(room_n, sizeof *room);
    bool cut;
    int n = room ? tokens_of(e, text, room, room_n, &cut) : 0;

    if (room && n >= 0)
        *sum = tr_digest(sum, tr_str((const char *)room,
                                     (size_t)n * sizeof *room));
    tr_free(room);
    return room && n >= 0 ? TR_OK : fail_run(e, room ? TR_BUG : TR_NOMEM, err);
}

int tr_encoder_run(struct tr_encoder *e, const struct tr_str *texts, size_t n,
                   float *vectors, bool *cut, struct tr_err *err)
{
    size_t longest = 0, at = 0, room_n;
    llama_token *room = NULL;
    struct job job = {.vectors = vectors};
    int rc = TR_NOMEM;

    for (size_t i = 0; i < n; i++)
        if (texts[i].n > longest)
            longest = texts[i].n;
    room_n = room_of(e, longest);
    memset(vectors, 0, n * (size_t)e->dim * sizeof *vectors);
    room = tr_array(room_n, sizeof *room);
    job.pieces = tr_array(n + 1, sizeof *job.pieces);
    job.batches = tr_array(n + 1, sizeof *job.batches);
    job.tokens = tr_array(n * (size_t)e->text_tokens + 1, sizeof *job.tokens);
    if (!room || !job.pieces || !job.batches || !job.tokens)
        goto out;
    for (size_t i = 0; i < n; i++) {
        bool was_cut;

        TRY(add_piece(e, &job, at, texts[i], room, room_n, &was_cut));
        at += job.pieces[i].n;
        if (cut)
            cut[i] = was_cut;
    }
    qsort(job.pieces, job.count, sizeof *job.pieces, by_length);
    make_batches(&job);
    run_batches(e, &job);
    rc = atomic_load(&job.rc);
out:
    tr_free(room);
    tr_free(job.pieces);
    tr_free(job.batches);
    tr_free(job.tokens);
    return rc == TR_OK ? rc : fail_run(e, rc, err);
}

#else /* without llama.cpp */

int tr_encoder_open(struct tr_encoder **out, const char *path, int threads,
                    struct tr_err *err)
{
    (void)path;
    (void)threads;
    *out = NULL;
    return tr_fail(err, TR_CONFIG, "%s", TR_ENCODER_MISSING);
}

int tr_encoder_dim(const struct tr_encoder *e)
{
    (void)e;
    return 0;
}

const char *tr_encoder_name(const struct tr_encoder *e)
{
    (void)e;
    return "";
}

struct tr_key tr_encoder_digest(const struct tr_encoder *e)
{
    (void)e;
    return (struct tr_key){{0}};
}

int tr_encoder_threads(const struct tr_encoder *e)
{
    (void)e;
    return 1;
}

int tr_encoder_run(struct tr_encoder *e, const struct tr_str *texts, size_t n,
                   float *vectors, bool *cut, struct tr_err *err)
{
    (void)e;
    (void)texts;
    (void)n;
    (void)vectors;
    (void)cut;
    return tr_fail(err, TR_BUG, "no encoder");
}

int tr_encoder_sum(struct tr_encoder *e, struct tr_str text, struct tr_key *sum,
                   struct tr_err *err)
{
    (void)e;
    (void)text;
    (void)sum;
    return tr_fail(err, TR_BUG, "no encoder");
}

void tr_encoder_close(struct tr_encoder *e)
{
    (void)e;
}

#endif
