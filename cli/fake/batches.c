/* batches.c - the fake's batches: uploaded, made, worked on when their time
 * has come, and spoilt in the ways that real ones are.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memmem */
#include "fake/batches.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

void fake_batches_init(struct fake_batches *b, struct fake_provider *provider)
{
    *b = (struct fake_batches){.provider = provider};
}

void fake_batches_release(struct fake_batches *b)
{
    for (size_t i = 0; i < b->file_count; i++) {
        tr_buf_release(&b->files[i]->text);
        tr_free(b->files[i]);
    }
    for (size_t i = 0; i < b->batch_count; i++)
        tr_free(b->batches[i]);
    tr_free(b->files);
    tr_free(b->batches);
}

static bool grow(void ***list, size_t *cap, size_t n)
{
    void **grown;

    if (n < *cap)
        return true;
    grown = tr_resize(*list, (*cap ? 2 * *cap : 16) * sizeof *grown);
    if (!grown)
        return false;
    *cap = *cap ? 2 * *cap : 16;
    *list = grown;
    return true;
}

static struct fake_file *new_file(struct fake_batches *b)
{
    struct fake_file *f;

    if (!grow((void ***)&b->files, &b->file_cap, b->file_count))
        return NULL;
    f = tr_alloc(sizeof *f);
    if (!f)
        return NULL;
    snprintf(f->id, sizeof f->id, "file-fake%llu",
             (unsigned long long)++b->numbers);
    tr_buf_init(&f->text, 0);
    b->files[b->file_count++] = f;
    return f;
}

static struct fake_file *find_file(struct fake_batches *b, const char *id,
                                   size_t n)
{
    for (size_t i = 0; i < b->file_count; i++)
        if (strlen(b->files[i]->id) == n && !memcmp(b->files[i]->id, id, n))
            return b->files[i];
    return NULL;
}

static struct fake_batch *find_batch(struct fake_batches *b, const char *id,
                                     size_t n)
{
    for (size_t i = 0; i < b->batch_count; i++)
        if (strlen(b->batches[i]->id) == n && !memcmp(b->batches[i]->id, id, n))
            return b->batches[i];
    return NULL;
}

static void refuse(struct fake_reply *reply, int status, const char *message)
{
    reply->status = status;
    fake_write_error(&reply->body, message, "invalid_request_error", NULL,
                     NULL);
}

/* ---- files ------------------------------------------------------------ */

/* The part of a form that is the file. */
static bool find_part(struct tr_str body, const char *type, struct tr_str *part)
{
    const char *boundary = type ? strstr(type, "boundary=") : NULL;
    const char *at, *end;
    char mark[200];
    int n;

    if (!boundary)
        return false;
    boundary += strlen("boundary=");
    n = snprintf(mark, sizeof mark, "\r\n--%.*s",
                 (int)strcspn(boundary, "; \r\n"), boundary);
    at = memmem(body.p, body.n, "name=\"file\"", 11);
    if (at)
        at = memmem(at, (size_t)(body.p + body.n - at), "\r\n\r\n", 4);
    if (!at || n >= (int)sizeof mark)
        return false;
    at += 4;
    end = memmem(at, (size_t)(body.p + body.n - at), mark, (size_t)n);
    *part = tr_str(at, end ? (size_t)(end - at) : 0);
    return end != NULL;
}

static void upload(struct fake_batches *b, struct fake_reply *reply,
                   struct tr_str body, const char *type, int64_t wall_ms)
{
    struct tr_str part;
    struct fake_file *f;

    if (!find_part(body, type, &part) ||
        !memmem(body.p, body.n, "\r\n\r\nbatch\r\n", 11)) {
        refuse(reply, 400, "a form with purpose=batch and a file is expected");
        return;
    }
    f = new_file(b);
    if (f)
        tr_buf_adds(&f->text, part);
    if (!f || !tr_buf_ok(&f->text)) {
        refuse(reply, 500, "out of memory");
        return;
    }
    tr_buf_addf(&reply->body, "{\"id\":\"%s\",\"object\":\"file\",\"bytes\":%zu,"
                "\"created_at\":%lld,\"purpose\":\"batch\"}\n", f->id, part.n,
                (long long)(wall_ms / 1000));
}

/* ---- working on a batch ----------------------------------------------- */

static struct tr_str next_line(struct tr_str *text)
{
    const char *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    size_t n = end ? (size_t)(end - text->p) : text->n;
    struct tr_str line = tr_str(text->p, n);

    n += end != NULL;
    *text = tr_str(text->p + n, text->n - n);
    return line;
}

static void write_result(struct tr_buf *out, const char *custom_id,
                         const struct fake_reply *reply)
{
    struct tr_str body = tr_str_trim(tr_buf_str(&reply->body));

    tr_buf_addf(out, "{\"id\":\"batch_req_%llu\",\"custom_id\":",
                (unsigned long long)reply->number);
    tr_buf_add_json(out, tr_str_c(custom_id));
    tr_buf_addf(out, ",\"response\":{\"status_code\":%d,\"request_id\":"
                "\"req_%llu\",\"body\":", reply->status,
                (unsigned long long)reply->number);
    if (reply->is_html)
        tr_buf_addz(out, "{\"error\":{\"message\":\"Bad Gateway\"}}");
    else
        tr_buf_adds(out, body);
    tr_buf_addz(out, "},\"error\":null}\n");
}

static void write_untouched(struct tr_buf *out, const char *custom_id,
                            const char *code)
{
    tr_buf_addz(out, "{\"id\":\"batch_req_x\",\"custom_id\":");
    tr_buf_add_json(out, tr_str_c(custom_id));
    tr_buf_addf(out, ",\"response\":null,\"error\":{\"code\":\"%s\","
                "\"message\":\"This request could not be executed before the "
                "completion window expired.\"}}\n", code);
}

/* One line, asked as any request is, at the price of batches. */
static void work_line(struct fake_batches *b, struct fake_batch *batch,
                      struct tr_str line, struct tr_rng *rng,
                      struct tr_buf *output, struct tr_buf *errors,
                      int64_t now_ns, int64_t wall_ms)
{
    const struct fake_options *o = b->provider->options;
    yyjson_doc *doc = yyjson_read(line.p, line.n, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    const char *id = yyjson_get_str(yyjson_obj_get(root, "custom_id"));
    struct fake_reply reply = {0};
    char key[600];
    size_t n = 0;
    char *body = yyjson_val_write(yyjson_obj_get(root, "body"), 0, &n);
    struct tr_buf roomy;

    tr_buf_init(&roomy, 0);
    tr_buf_init(&reply.body, 0);
    tr_buf_add(&roomy, body ? body : "", body ? n : 0);
    free(body);
    if (!id || !tr_buf_room(&roomy, 16)) {
        yyjson_doc_free(doc);
        return;
    }
    snprintf(key, sizeof key, "Bearer %s", o->key ? o->key : "");
    if (batch->is_cancelled || tr_rng_unit(rng) < o->batch_expire) {
        write_untouched(errors, id, batch->is_cancelled ? "batch_cancelled"
                                                        : "batch_expired");
        batch->end = batch->is_cancelled ? FAKE_BATCH_CANCELLED
                                         : FAKE_BATCH_EXPIRED;
    } else if (tr_rng_unit(rng) < o->batch_fail) {
        reply.status = 500;
        fake_write_error(&reply.body, "The server had an error while "
                         "processing your request.", "server_error", NULL,
                         NULL);
        write_result(errors, id, &reply);
        batch->failed++;
    } else if (tr_rng_unit(rng) >= o->batch_drop) {
        b->provider->is_batch = true;
        fake_provider_ask(b->provider, &reply, roomy.p, n, key, now_ns,
                          wall_ms);
        b->provider->is_batch = false;
        /* A refusal may stand in either file. */
        write_result(reply.status == 200 || batch->completed % 2
                         ? output : errors, id, &reply);
        batch->completed++;
    }
    tr_buf_release(&reply.body);
    tr_buf_release(&roomy);
    yyjson_doc_free(doc);
}

/* Lines in another order than they were asked in. */
static void shuffle(struct tr_buf *text, struct tr_rng *rng)
{
    struct tr_str rest = tr_buf_str(text), *lines;
    struct tr_buf out;
    size_t n = 0, cap = 0;

    for (size_t i = 0; i < text->n; i++)
        cap += text->p[i] == '\n';
    lines = tr_array(cap ? cap : 1, sizeof *lines);
    if (!lines)
        return;
    while (rest.n && n < cap)
        lines[n++] = next_line(&rest);
    tr_buf_init(&out, 0);
    for (size_t i = n; i > 0; i--) {
        size_t j = tr_rng_below(rng, i);

        tr_buf_adds(&out, lines[j]);
        tr_buf_addc(&out, '\n');
        lines[j] = lines[i - 1];
    }
    tr_free(lines);
    tr_buf_release(text);
    *text = out;
}

static void keep_file(struct fake_batches *b, struct tr_buf *text, char *id)
{
    struct fake_file *f = text->n ? new_file(b) : NULL;

    if (!f) {
        tr_buf_release(text);
        return;
    }
    f->text = *text;
    snprintf(id, sizeof f->id, "%s", f->id);
}

static void work(struct fake_batches *b, struct fake_batch *batch,
                 int64_t now_ns, int64_t wall_ms)
{
    struct fake_file *input = find_file(b, batch->input, strlen(batch->input));
    struct tr_rng rng = {(uint64_t)b->provider->options->seed * 977 +
                         batch->nth};
    struct tr_str rest = input ? tr_buf_str(&input->text) : TR_STR("");
    struct tr_buf output, errors;

    tr_buf_init(&output, 0);
    tr_buf_init(&errors, 0);
    batch->end = FAKE_BATCH_COMPLETED;
    while (rest.n) {
        struct tr_str line = next_line(&rest);

        if (line.n)
            work_line(b, batch, line, &rng, &output, &errors, now_ns, wall_ms);
    }
    shuffle(&output, &rng);
    keep_file(b, &output, batch->output);
    keep_file(b, &errors, batch->errors);
}

/* ---- batches ---------------------------------------------------------- */

static void write_batch(struct tr_buf *out, const struct fake_batch *batch)
{
    static const char *const words[] = {"in_progress", "completed", "expired",
                                        "failed", "cancelled"};
    bool is_failed = batch->end == FAKE_BATCH_FAILED;

    tr_buf_addf(out, "{\"id\":\"%s\",\"object\":\"batch\",\"endpoint\":"
                "\"/v1/chat/completions\",\"errors\":", batch->id);
    if (is_failed)
        tr_buf_addz(out, "{\"object\":\"list\",\"data\":[{\"code\":"
                    "\"token_limit_exceeded\",\"message\":\"Enqueued token "
                    "limit reached for fake in organization org-fake.\","
                    "\"param\":null,\"line\":null}]}");
    else
        tr_buf_addz(out, "null");
    tr_buf_addf(out, ",\"input_file_id\":\"%s\",\"completion_window\":\"24h\","
                "\"status\":\"%s\",\"output_file_id\":", batch->input,
                batch->is_cancelled && batch->end == FAKE_BATCH_RUNS
                    ? "cancelling" : words[batch->end]);
    if (batch->output[0])
        tr_buf_add_json(out, tr_str_c(batch->output));
    else
        tr_buf_addz(out, "null");
    tr_buf_addz(out, ",\"error_file_id\":");
    if (batch->errors[0])
        tr_buf_add_json(out, tr_str_c(batch->errors));
    else
        tr_buf_addz(out, "null");
    tr_buf_addf(out, ",\"created_at\":%lld,\"request_counts\":{\"total\":%llu,"
                "\"completed\":%llu,\"failed\":%llu},\"metadata\":{\"trommel\":",
                (long long)batch->created_s, (unsigned long long)batch->total,
                (unsigned long long)batch->completed,
                (unsigned long long)batch->failed);
    tr_buf_add_json(out, tr_str_c(batch->mark));
    tr_buf_addz(out, "}}");
}

static int64_t tokens_of(const struct fake_file *f)
{
    return fake_tokens(f->text.n);
}

static uint64_t lines_of(const struct fake_file *f)
{
    uint64_t n = 0;

    for (size_t i = 0; i < f->text.n; i++)
        n += f->text.p[i] == '\n';
    return n;
}

static int64_t enqueued(const struct fake_batches *b)
{
    int64_t sum = 0;

    for (size_t i = 0; i < b->batch_count; i++)
        if (b->batches[i]->end == FAKE_BATCH_RUNS)
            sum += b->batches[i]->tokens;
    return sum;
}

static struct fake_batch *new_batch(struct fake_batches *b, yyjson_val *root)
{
    const char *input = yyjson_get_str(yyjson_obj_get(root, "input_file_id"));
    const char *mark = yyjson_get_str(
        yyjson_obj_get(yyjson_obj_get(root, "metadata"), "trommel"));
    struct fake_file *f = input ? find_file(b, input, strlen(input)) : NULL;
    struct fake_batch *batch;

    if (!f || !grow((void ***)&b->batches, &b->batch_cap, b->batch_count))
        return NULL;
    batch = tr_alloc(sizeof *batch);
    if (!batch)
        return NULL;
    snprintf(batch->id, sizeof batch->id, "batch_fake%llu",
             (unsigned long long)++b->numbers);
    snprintf(batch->input, sizeof batch->input, "%s", f->id);
    snprintf(batch->mark, sizeof batch->mark, "%s", mark ? mark : "");
    batch->total = lines_of(f);
    batch->tokens = tokens_of(f);
    b->batches[b->batch_count++] = batch;
    return batch;
}

static void make(struct fake_batches *b, struct fake_reply *reply,
                 struct tr_str body, int64_t now_ns, int64_t wall_ms)
{
    const struct fake_options *o = b->provider->options;
    yyjson_doc *doc = yyjson_read(body.p ? body.p : "", body.n, 0);
    int64_t before = enqueued(b);
    struct fake_batch *batch = new_batch(b, yyjson_doc_get_root(doc));

    yyjson_doc_free(doc);
    if (!batch) {
        refuse(reply, 400, "there is no such input file");
        return;
    }
    batch->created_s = wall_ms / 1000;
    batch->due_ns = now_ns + (int64_t)(o->batch_delay_s * (double)TR_S);
    if (o->batch_queue && before + batch->tokens > o->batch_queue)
        batch->end = FAKE_BATCH_FAILED;
    b->provider->bill.batches++;
    batch->nth = b->made++;
    if (batch->nth < (uint64_t)o->batch_lose)
        reply->manner = FAKE_CLOSE; /* made, and nobody is told */
    write_batch(&reply->body, batch);
}

static void list(struct fake_batches *b, struct fake_reply *reply,
                 const char *after)
{
    size_t from = b->batch_count, to;

    while (after && from && strcmp(b->batches[from - 1]->id, after))
        from--;
    if (after && from)
        from--;
    to = from > 20 ? from - 20 : 0;
    tr_buf_addz(&reply->body, "{\"object\":\"list\",\"data\":[");
    for (size_t i = from; i-- > to; ) {
        write_batch(&reply->body, b->batches[i]);
        if (i > to)
            tr_buf_addc(&reply->body, ',');
    }
    tr_buf_addf(&reply->body, "],\"has_more\":%s}\n", to ? "true" : "false");
}

static void show(struct fake_batches *b, struct fake_reply *reply,
                 struct fake_batch *batch, int64_t now_ns, int64_t wall_ms)
{
    if (batch->end == FAKE_BATCH_RUNS &&
        (now_ns >= batch->due_ns || batch->is_cancelled))
        work(b, batch, now_ns, wall_ms);
    write_batch(&reply->body, batch);
}

static bool starts(const char *path, const char *with, const char **rest)
{
    size_t n = strlen(with);

    *rest = path + n;
    return !strncmp(path, with, n);
}

/* /v1/batches/ID and /v1/batches/ID/cancel */
static void one_batch(struct fake_batches *b, struct fake_reply *reply,
                      const char *id, bool is_post, int64_t now_ns,
                      int64_t wall_ms)
{
    size_t n = strcspn(id, "/");
    struct fake_batch *batch = find_batch(b, id, n);

    if (!batch || (id[n] && strcmp(id + n, "/cancel"))) {
        refuse(reply, 404, "No batch found with that id.");
        return;
    }
    if (is_post && id[n])
        batch->is_cancelled = true;
    show(b, reply, batch, now_ns, wall_ms);
}

static void one_file(struct fake_batches *b, struct fake_reply *reply,
                     const char *id)
{
    size_t n = strcspn(id, "/");
    struct fake_file *f = find_file(b, id, n);

    if (!f || strcmp(id + n, "/content"))
        refuse(reply, 404, "No such File object.");
    else
        tr_buf_adds(&reply->body, tr_buf_str(&f->text));
}

void fake_batches_serve(struct fake_batches *b, struct fake_reply *reply,
                        const char *method, const char *path,
                        struct tr_str body, const char *type,
                        const char *after, const char *authorization,
                        int64_t now_ns, int64_t wall_ms)
{
    bool is_post = !strcmp(method, "POST");
    const char *id;

    reply->status = 200;
    reply->manner = FAKE_SEND;
    reply->is_html = reply->has_requests = reply->has_tokens = false;
    reply->retry_ns = -1;
    reply->number = ++b->numbers;
    tr_buf_clear(&reply->body);
    if (!fake_provider_knows(b->provider, authorization))
        refuse(reply, 401, "Incorrect API key provided.");
    else if (is_post && !strcmp(path, "/v1/files"))
        upload(b, reply, body, type, wall_ms);
    else if (is_post && !strcmp(path, "/v1/batches"))
        make(b, reply, body, now_ns, wall_ms);
    else if (!strcmp(path, "/v1/batches"))
        list(b, reply, after);
    else if (starts(path, "/v1/batches/", &id))
        one_batch(b, reply, id, is_post, now_ns, wall_ms);
    else if (starts(path, "/v1/files/", &id))
        one_file(b, reply, id);
    else
        refuse(reply, 404, "Unknown request URL.");
}
