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
#include <time.h>
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

static void refuse(const struct fake_batch_ask *ask, struct fake_reply *reply,
                   int status, const char *message)
{
    reply->status = status;
    ask->dialect->refuse(&reply->body, &(struct fake_error){
        .type = status == 404 ? "not_found_error" : "invalid_request_error",
        .message = message}, -1);
}

static bool is_anthropic(const struct fake_dialect *dialect)
{
    return !strcmp(dialect->path, "/v1/messages");
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
                   const struct fake_batch_ask *ask, int64_t wall_ms)
{
    struct tr_str body = ask->body;
    struct tr_str part;
    struct fake_file *f;

    if (!find_part(body, ask->type, &part) ||
        !memmem(body.p, body.n, "\r\n\r\nbatch\r\n", 11)) {
        refuse(ask, reply, 400,
               "a form with purpose=batch and a file is expected");
        return;
    }
    f = new_file(b);
    if (f)
        tr_buf_adds(&f->text, part);
    if (!f || !tr_buf_ok(&f->text)) {
        refuse(ask, reply, 500, "out of memory");
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

static void write_id(struct tr_buf *out, const char *custom_id)
{
    tr_buf_addz(out, "\"custom_id\":");
    tr_buf_add_json(out, tr_str_c(custom_id));
}

static void write_openai(struct tr_buf *out, const char *custom_id,
                         const struct fake_reply *reply)
{
    tr_buf_addf(out, "{\"id\":\"batch_req_%llu\",",
                (unsigned long long)reply->number);
    write_id(out, custom_id);
    tr_buf_addf(out, ",\"response\":{\"status_code\":%d,\"request_id\":"
                "\"req_%llu\",\"body\":", reply->status,
                (unsigned long long)reply->number);
    if (reply->is_html)
        tr_buf_addz(out, "{\"error\":{\"message\":\"Bad Gateway\"}}");
    else
        tr_buf_adds(out, tr_str_trim(tr_buf_str(&reply->body)));
    tr_buf_addz(out, "},\"error\":null}\n");
}

static void write_anthropic(struct tr_buf *out, const char *custom_id,
                            const struct fake_reply *reply)
{
    bool good = reply->status == 200;

    tr_buf_addc(out, '{');
    write_id(out, custom_id);
    tr_buf_addf(out, ",\"result\":{\"type\":\"%s\",\"%s\":",
                good ? "succeeded" : "errored", good ? "message" : "error");
    if (reply->is_html)
        tr_buf_addz(out, "{\"type\":\"error\",\"error\":{\"type\":"
                         "\"api_error\",\"message\":\"Bad Gateway\"}}");
    else
        tr_buf_adds(out, tr_str_trim(tr_buf_str(&reply->body)));
    tr_buf_addz(out, "}}\n");
}

static void write_untouched(struct tr_buf *out, const struct fake_batch *batch,
                            const char *custom_id)
{
    tr_buf_addc(out, '{');
    write_id(out, custom_id);
    if (is_anthropic(batch->dialect))
        tr_buf_addf(out, ",\"result\":{\"type\":\"%s\"}}\n",
                    batch->is_cancelled ? "canceled" : "expired");
    else
        tr_buf_addf(out, ",\"response\":null,\"error\":{\"code\":\"%s\","
                    "\"message\":\"This request could not be executed before "
                    "the completion window expired.\"}}\n",
                    batch->is_cancelled ? "batch_cancelled" : "batch_expired");
}

/* Results and refusals: two files with OpenAI, one with Anthropic. */
struct results {
    struct tr_buf output, errors;
};

static void write_result(struct results *r, const struct fake_batch *batch,
                         const char *id, const struct fake_reply *reply,
                         bool is_error)
{
    if (is_anthropic(batch->dialect))
        write_anthropic(&r->output, id, reply);
    else
        write_openai(is_error ? &r->errors : &r->output, id, reply);
}

/* Asked as any request is, at the price of batches. */
static void ask_one(struct fake_batches *b, struct fake_batch *batch,
                    struct fake_reply *reply, yyjson_val *request,
                    int64_t now_ns, int64_t wall_ms)
{
    const struct fake_options *o = b->provider->options;
    bool bearer = !strcmp(batch->dialect->key_header, "authorization");
    struct fake_ask ask = {.dialect = batch->dialect, .model = ""};
    struct tr_buf roomy;
    char key[600];
    size_t n = 0;
    char *body = yyjson_val_write(request, 0, &n);

    tr_buf_init(&roomy, 0);
    tr_buf_add(&roomy, body ? body : "", body ? n : 0);
    free(body);
    snprintf(key, sizeof key, "%s%s", bearer ? "Bearer " : "",
             o->key ? o->key : "");
    ask.n = roomy.n;
    ask.key = key;
    if (tr_buf_room(&roomy, 16)) {
        ask.body = roomy.p;
        b->provider->is_batch = true;
        fake_provider_ask(b->provider, reply, &ask, now_ns, wall_ms);
        b->provider->is_batch = false;
    }
    tr_buf_release(&roomy);
}

static void work_one(struct fake_batches *b, struct fake_batch *batch,
                     yyjson_val *line, struct tr_rng *rng, struct results *r,
                     int64_t now_ns, int64_t wall_ms)
{
    const struct fake_options *o = b->provider->options;
    bool single = is_anthropic(batch->dialect);
    const char *id = yyjson_get_str(yyjson_obj_get(line, "custom_id"));
    struct fake_reply reply = {0};

    if (!id)
        return;
    tr_buf_init(&reply.body, 0);
    if (batch->is_cancelled || tr_rng_unit(rng) < o->batch_expire) {
        write_untouched(single ? &r->output : &r->errors, batch, id);
        batch->end = batch->is_cancelled ? FAKE_BATCH_CANCELLED
                                         : FAKE_BATCH_EXPIRED;
    } else if (tr_rng_unit(rng) < o->batch_fail) {
        reply.status = 500;
        batch->dialect->refuse(&reply.body, &(struct fake_error){
            .type = single ? "api_error" : "server_error",
            .message = "The server had an error while processing your "
                       "request."}, -1);
        write_result(r, batch, id, &reply, true);
        batch->failed++;
    } else if (tr_rng_unit(rng) >= o->batch_drop) {
        size_t before = r->output.n;

        ask_one(b, batch, &reply, yyjson_obj_get(line, single ? "params"
                                                              : "body"),
                now_ns, wall_ms);
        /* A refusal may stand in either file. */
        write_result(r, batch, id, &reply,
                     reply.status != 200 && batch->completed % 2 == 0);
        /* Its first byte, so that the line is no JSON any more. */
        if (reply.status == 200 && o->batch_garble > 0 &&
            tr_rng_unit(rng) < o->batch_garble)
            r->output.p[before] = '#';
        batch->completed++;
    }
    tr_buf_release(&reply.body);
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
    struct results r;

    tr_buf_init(&r.output, 0);
    tr_buf_init(&r.errors, 0);
    batch->end = FAKE_BATCH_COMPLETED;
    if (is_anthropic(batch->dialect)) {
        yyjson_doc *doc = yyjson_read(rest.p, rest.n, 0);
        yyjson_val *all = yyjson_obj_get(yyjson_doc_get_root(doc), "requests");
        yyjson_val *one;
        size_t i, n;

        yyjson_arr_foreach(all, i, n, one)
            work_one(b, batch, one, &rng, &r, now_ns, wall_ms);
        yyjson_doc_free(doc);
        rest.n = 0;
    }
    while (rest.n) {
        struct tr_str line = next_line(&rest);
        yyjson_doc *doc = yyjson_read(line.p, line.n, 0);

        work_one(b, batch, yyjson_doc_get_root(doc), &rng, &r, now_ns, wall_ms);
        yyjson_doc_free(doc);
    }
    shuffle(&r.output, &rng);
    keep_file(b, &r.output, batch->output);
    keep_file(b, &r.errors, batch->errors);
}

/* ---- batches ---------------------------------------------------------- */

static void write_message_batch(struct tr_buf *out,
                                const struct fake_batch *batch,
                                const char *host)
{
    bool runs = batch->end == FAKE_BATCH_RUNS;
    time_t at = (time_t)batch->created_s;
    char when[40] = "";
    struct tm tm;

    if (gmtime_r(&at, &tm))
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    tr_buf_addf(out, "{\"id\":\"%s\",\"type\":\"message_batch\","
                "\"processing_status\":\"%s\",\"request_counts\":{"
                "\"processing\":%llu,\"succeeded\":%llu,\"errored\":%llu,"
                "\"canceled\":0,\"expired\":%llu},\"created_at\":\"%s\","
                "\"results_url\":", batch->id,
                !runs ? "ended" : batch->is_cancelled ? "canceling"
                                                      : "in_progress",
                (unsigned long long)(runs ? batch->total : 0),
                (unsigned long long)batch->completed,
                (unsigned long long)batch->failed,
                (unsigned long long)(runs ? 0 : batch->total -
                                     batch->completed - batch->failed), when);
    if (runs)
        tr_buf_addz(out, "null}");
    else
        tr_buf_addf(out, "\"http://%s/v1/messages/batches/%s/results\"}",
                    host ? host : "127.0.0.1", batch->id);
}

static void write_file_batch(struct tr_buf *out, const struct fake_batch *batch)
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

static void write_batch(struct tr_buf *out, const struct fake_batch *batch,
                        const char *host)
{
    if (is_anthropic(batch->dialect))
        write_message_batch(out, batch, host);
    else
        write_file_batch(out, batch);
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

/* The input of a batch: a file that was uploaded, or the body itself. */
static struct fake_file *input_of(struct fake_batches *b,
                                  const struct fake_batch_ask *ask,
                                  yyjson_val *root)
{
    const char *id = yyjson_get_str(yyjson_obj_get(root, "input_file_id"));
    struct fake_file *f;

    if (!is_anthropic(ask->dialect))
        return id ? find_file(b, id, strlen(id)) : NULL;
    if (!yyjson_arr_size(yyjson_obj_get(root, "requests")))
        return NULL;
    f = new_file(b);
    if (f)
        tr_buf_adds(&f->text, ask->body);
    return f;
}

static struct fake_batch *new_batch(struct fake_batches *b,
                                    const struct fake_batch_ask *ask,
                                    yyjson_val *root)
{
    const char *mark = yyjson_get_str(
        yyjson_obj_get(yyjson_obj_get(root, "metadata"), "trommel"));
    struct fake_file *f = input_of(b, ask, root);
    struct fake_batch *batch;

    if (!f || !grow((void ***)&b->batches, &b->batch_cap, b->batch_count))
        return NULL;
    batch = tr_alloc(sizeof *batch);
    if (!batch)
        return NULL;
    batch->dialect = ask->dialect;
    snprintf(batch->id, sizeof batch->id, "%sbatch_fake%llu",
             is_anthropic(ask->dialect) ? "msg" : "",
             (unsigned long long)++b->numbers);
    snprintf(batch->input, sizeof batch->input, "%s", f->id);
    snprintf(batch->mark, sizeof batch->mark, "%s", mark ? mark : "");
    batch->total = is_anthropic(ask->dialect)
        ? yyjson_arr_size(yyjson_obj_get(root, "requests")) : lines_of(f);
    batch->tokens = fake_tokens(f->text.n);
    b->batches[b->batch_count++] = batch;
    return batch;
}

static void make(struct fake_batches *b, struct fake_reply *reply,
                 const struct fake_batch_ask *ask, int64_t now_ns,
                 int64_t wall_ms)
{
    const struct fake_options *o = b->provider->options;
    yyjson_doc *doc = yyjson_read(ask->body.p ? ask->body.p : "", ask->body.n,
                                  0);
    int64_t before = enqueued(b);
    struct fake_batch *batch = new_batch(b, ask, yyjson_doc_get_root(doc));

    yyjson_doc_free(doc);
    if (!batch) {
        refuse(ask, reply, 400, "there is no such input");
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
    write_batch(&reply->body, batch, ask->host);
}

/* The newest first, 20 at a time. */
static void list(struct fake_batches *b, struct fake_reply *reply,
                 const struct fake_batch_ask *ask)
{
    size_t from = b->batch_count, n = 0;
    const char *last = "";

    while (ask->after && from && strcmp(b->batches[from - 1]->id, ask->after))
        from--;
    if (ask->after && from)
        from--;
    tr_buf_addz(&reply->body, "{\"object\":\"list\",\"data\":[");
    for (; from && n < 20; from--) {
        if (b->batches[from - 1]->dialect != ask->dialect)
            continue;
        if (n++)
            tr_buf_addc(&reply->body, ',');
        write_batch(&reply->body, b->batches[from - 1], ask->host);
        last = b->batches[from - 1]->id;
    }
    tr_buf_addf(&reply->body, "],\"has_more\":%s,\"last_id\":\"%s\"}\n",
                from ? "true" : "false", last);
}

static bool starts(const char *path, const char *with, const char **rest)
{
    size_t n = strlen(with);

    *rest = path + n;
    return !strncmp(path, with, n);
}

static void send_file(struct fake_batches *b, struct fake_reply *reply,
                      const struct fake_batch_ask *ask, const char *id,
                      size_t n)
{
    struct fake_file *f = find_file(b, id, n);

    if (f)
        tr_buf_adds(&reply->body, tr_buf_str(&f->text));
    else
        refuse(ask, reply, 404, "No such File object.");
}

/* ID, ID/cancel and ID/results */
static void one_batch(struct fake_batches *b, struct fake_reply *reply,
                      const struct fake_batch_ask *ask, const char *id,
                      int64_t now_ns, int64_t wall_ms)
{
    size_t n = strcspn(id, "/");
    struct fake_batch *batch = find_batch(b, id, n);

    if (!batch || batch->dialect != ask->dialect) {
        refuse(ask, reply, 404, "No batch found with that id.");
        return;
    }
    batch->is_cancelled |= !strcmp(id + n, "/cancel") &&
                           !strcmp(ask->method, "POST");
    if (batch->end == FAKE_BATCH_RUNS &&
        (now_ns >= batch->due_ns || batch->is_cancelled))
        work(b, batch, now_ns, wall_ms);
    if (!strcmp(id + n, "/results"))
        send_file(b, reply, ask, batch->output, strlen(batch->output));
    else
        write_batch(&reply->body, batch, ask->host);
}

const struct fake_dialect *fake_batches_at(const char *path)
{
    char model[8];
    const char *rest;

    if (starts(path, "/v1/messages/batches", &rest))
        return fake_dialect_at("/v1/messages", model, sizeof model);
    if (starts(path, "/v1/files", &rest) || starts(path, "/v1/batches", &rest))
        return fake_dialect_at("/v1/chat/completions", model, sizeof model);
    return NULL;
}

void fake_batches_serve(struct fake_batches *b, struct fake_reply *reply,
                        const struct fake_batch_ask *ask, int64_t now_ns,
                        int64_t wall_ms)
{
    const char *at = is_anthropic(ask->dialect) ? "/v1/messages/batches"
                                                : "/v1/batches";
    bool is_post = !strcmp(ask->method, "POST");
    const char *id;

    reply->status = 200;
    reply->manner = FAKE_SEND;
    reply->is_html = reply->has_requests = reply->has_tokens = false;
    reply->retry_ns = -1;
    reply->number = ++b->numbers;
    tr_buf_clear(&reply->body);
    if (!fake_provider_knows(b->provider, ask->dialect, ask->key))
        refuse(ask, reply, 401, "Incorrect API key provided.");
    else if (is_post && !strcmp(ask->path, "/v1/files"))
        upload(b, reply, ask, wall_ms);
    else if (!strcmp(ask->path, at) && is_post)
        make(b, reply, ask, now_ns, wall_ms);
    else if (!strcmp(ask->path, at))
        list(b, reply, ask);
    else if (starts(ask->path, "/v1/files/", &id))
        send_file(b, reply, ask, id, strcspn(id, "/"));
    else if (starts(ask->path, at, &id) && *id == '/')
        one_batch(b, reply, ask, id + 1, now_ns, wall_ms);
    else
        refuse(ask, reply, 404, "Unknown request URL.");
}
