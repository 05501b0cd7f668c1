/* batch_form.c - batches as OpenAI and Anthropic speak of them.
 * SPDX-License-Identifier: MIT */
#include "wire/batch.h"

#include "base/buf.h"

#include <yyjson.h>

#include "wire/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A string whole; with a NUL inside, none: "id\0more" is not "id". */
static void copy(char *to, size_t size, yyjson_val *v)
{
    const char *text = yyjson_get_str(v);

    snprintf(to, size, "%s",
             text && strlen(text) == yyjson_get_len(v) ? text : "");
}

/* A name goes into an address: letters, digits and a few signs; dots alone
 * would lead elsewhere. */
static void copy_name(char *to, size_t size, yyjson_val *v)
{
    copy(to, size, v);
    if (strspn(to, ".") == strlen(to))
        to[0] = '\0';
    for (const char *p = to; *p; p++) {
        bool plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
                     (*p >= 'A' && *p <= 'Z') || strchr("-_.:", *p);

        if (!plain)
            to[0] = '\0';
    }
}

static int64_t count_of(yyjson_val *object, const char *name)
{
    yyjson_val *v = yyjson_obj_get(object, name);

    return yyjson_is_uint(v) && yyjson_get_uint(v) < (uint64_t)1 << 40
               ? (int64_t)yyjson_get_uint(v) : -1;
}

/* Of two numbers, as far as they are said; -1: neither is. */
static int64_t sum_of(yyjson_val *object, const char *one, const char *other)
{
    int64_t a = count_of(object, one), b = count_of(object, other);

    return a < 0 ? b : b < 0 ? a : a + b;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

/* The text of a value, into scratch. */
static bool keep_body(struct tr_batch_line *line, yyjson_val *v,
                      struct tr_buf *scratch)
{
    size_t n = 0;
    char *text = yyjson_val_write(v, 0, &n);

    tr_buf_clear(scratch);
    if (!text)
        return false;
    tr_buf_add(scratch, text, n);
    free(text);
    line->body = tr_buf_str(scratch);
    return tr_buf_ok(scratch);
}

bool tr_batch_file_read(char *name, size_t size, struct tr_str body)
{
    yyjson_doc *doc = tr_json_read(body);

    copy_name(name, size, yyjson_obj_get(yyjson_doc_get_root(doc), "id"));
    yyjson_doc_free(doc);
    return name[0] != '\0';
}

/* ---- OpenAI ----------------------------------------------------------- */

#define ENDPOINT "/v1/chat/completions"

static void openai_request(struct tr_buf *out, const char *id,
                           struct tr_str body)
{
    tr_buf_addf(out, "{\"custom_id\":\"%s\",\"method\":\"POST\",\"url\":\""
                ENDPOINT "\",\"body\":", id);
    tr_buf_adds(out, body);
    tr_buf_addc(out, '}');
}

static void openai_create(struct tr_buf *out, const char *file,
                          const char *mark)
{
    tr_buf_addf(out, "{\"input_file_id\":\"%s\",\"endpoint\":\"" ENDPOINT
                "\",\"completion_window\":\"24h\","
                "\"metadata\":{\"trommel\":\"%s\"}}", file, mark);
}

static bool openai_object(struct tr_batch_news *news, yyjson_val *o)
{
    static const char *const ended[] = {"completed", "expired", "cancelled",
                                        NULL};
    yyjson_val *errors = yyjson_obj_get(yyjson_obj_get(o, "errors"), "data");

    *news = (struct tr_batch_news){.stage = TR_STAGE_RUNNING, .created_at = -1};
    copy_name(news->name, sizeof news->name, yyjson_obj_get(o, "id"));
    copy(news->status, sizeof news->status, yyjson_obj_get(o, "status"));
    copy_name(news->output, sizeof news->output,
              yyjson_obj_get(o, "output_file_id"));
    copy_name(news->errors, sizeof news->errors,
              yyjson_obj_get(o, "error_file_id"));
    news->worked = sum_of(yyjson_obj_get(o, "request_counts"), "completed",
                          "failed");
    if (is_one_of(news->status, ended))
        news->stage = TR_STAGE_ENDED;
    if (strcmp(news->status, "failed") == 0 && news->worked > 0) {
        news->stage = TR_STAGE_ENDED; /* what is done is paid for */
    } else if (strcmp(news->status, "failed") == 0) {
        news->stage = TR_STAGE_FAILED;
        tr_wire_error_value(&news->error, yyjson_arr_get_first(errors));
    }
    return news->name[0] != '\0';
}

static bool openai_read(struct tr_batch_news *news, struct tr_str body)
{
    yyjson_doc *doc = tr_json_read(body);
    bool is_batch = openai_object(news, yyjson_doc_get_root(doc));

    yyjson_doc_free(doc);
    return is_batch;
}

static bool openai_find(struct tr_batch_news *news,
                        struct tr_batch_wanted *wanted, struct tr_str body,
                        char *next, size_t next_n, bool *valid)
{
    yyjson_doc *doc = tr_json_read(body);
    yyjson_val *root = yyjson_doc_get_root(doc), *o;
    yyjson_val *data = yyjson_obj_get(root, "data");
    bool found = false;
    size_t i, n;

    next[0] = '\0';
    *valid = yyjson_is_arr(data);
    yyjson_arr_foreach(data, i, n, o) {
        yyjson_val *mark =
            yyjson_obj_get(yyjson_obj_get(o, "metadata"), "trommel");

        if (!yyjson_equals_str(mark, wanted->batch->mark))
            continue;
        found = openai_object(news, o);
        break;
    }
    if (yyjson_is_true(yyjson_obj_get(root, "has_more"))) {
        copy_name(next, next_n, yyjson_obj_get(yyjson_arr_get_last(data),
                                               "id"));
        *valid = next[0] != '\0';
    }
    yyjson_doc_free(doc);
    return found;
}

static bool openai_line(struct tr_batch_line *line, struct tr_str text,
                        struct tr_buf *scratch)
{
    static const char *const untouched[] = {"batch_expired", "batch_cancelled",
                                            NULL};
    yyjson_doc *doc = tr_json_read(text);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *response = yyjson_obj_get(root, "response");
    yyjson_val *error = yyjson_obj_get(root, "error");
    int64_t status = count_of(response, "status_code");
    bool ok = true;

    *line = (struct tr_batch_line){0};
    copy(line->id, sizeof line->id, yyjson_obj_get(root, "custom_id"));
    copy(line->request_id, sizeof line->request_id,
         yyjson_obj_get(response, "request_id"));
    line->done = yyjson_is_obj(response) && status > 0;
    if (line->done) {
        line->status = status < 1000 ? (int)status : 500;
        ok = keep_body(line, yyjson_obj_get(response, "body"), scratch);
    } else {
        tr_wire_error_value(&line->error, error);
        line->untouched = is_one_of(line->error.code, untouched);
    }
    ok = ok && line->id[0];
    yyjson_doc_free(doc);
    return ok;
}

/* ---- Anthropic -------------------------------------------------------- */

static void anthropic_request(struct tr_buf *out, const char *id,
                              struct tr_str body)
{
    tr_buf_addf(out, "{\"custom_id\":\"%s\",\"params\":", id);
    tr_buf_adds(out, body);
    tr_buf_addc(out, '}');
}

static bool anthropic_object(struct tr_batch_news *news, yyjson_val *o)
{
    yyjson_val *counts = yyjson_obj_get(o, "request_counts");
    const char *at = yyjson_get_str(yyjson_obj_get(o, "created_at"));

    *news = (struct tr_batch_news){.stage = TR_STAGE_RUNNING};
    news->created_at = at ? tr_wire_date_s(tr_str_c(at)) : -1;
    copy_name(news->name, sizeof news->name, yyjson_obj_get(o, "id"));
    copy(news->status, sizeof news->status,
         yyjson_obj_get(o, "processing_status"));
    copy(news->output, sizeof news->output, yyjson_obj_get(o, "results_url"));
    news->worked = sum_of(counts, "succeeded", "errored");
    if (strcmp(news->status, "ended") == 0)
        news->stage = TR_STAGE_ENDED;
    return news->name[0] != '\0';
}

static bool anthropic_read(struct tr_batch_news *news, struct tr_str body)
{
    yyjson_doc *doc = tr_json_read(body);
    bool is_batch = anthropic_object(news, yyjson_doc_get_root(doc));

    yyjson_doc_free(doc);
    return is_batch;
}

/* There is no mark in it: the time and the number of requests must do; the
 * custom_ids of its results tell for certain. With another time it may still be
 * it: clocks are set. */
static bool anthropic_find(struct tr_batch_news *news,
                           struct tr_batch_wanted *wanted, struct tr_str body,
                           char *next, size_t next_n, bool *valid)
{
    static const char *const kinds[] = {"processing", "succeeded", "errored",
                                        "canceled", "expired"};
    yyjson_doc *doc = tr_json_read(body);
    yyjson_val *root = yyjson_doc_get_root(doc), *o;
    yyjson_val *data = yyjson_obj_get(root, "data");
    bool found = false;
    size_t i, n;

    next[0] = '\0';
    *valid = yyjson_is_arr(data);
    yyjson_arr_foreach(data, i, n, o) {
        yyjson_val *counts = yyjson_obj_get(o, "request_counts");
        struct tr_batch_news one;
        int64_t requests = 0;

        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            int64_t c = count_of(counts, kinds[k]);

            requests += c > 0 ? c : 0;
        }
        if (requests != wanted->batch->requests ||
            !anthropic_object(&one, o) ||
            !yyjson_is_str(yyjson_obj_get(o, "created_at")) ||
            (wanted->is_other && wanted->is_other(wanted->ctx, one.name)))
            continue;
        wanted->maybe = true;
        if (one.created_at < wanted->created_at - 60)
            continue;
        *news = one;
        found = true;
        break;
    }
    if (yyjson_is_true(yyjson_obj_get(root, "has_more"))) {
        copy_name(next, next_n, yyjson_obj_get(root, "last_id"));
        *valid = next[0] != '\0';
    }
    yyjson_doc_free(doc);
    return found;
}

/* What a request of its own would have been refused with, by type of error:
 * lines have no status. Types that nobody knows are asked again. */
static const struct {
    const char *type;
    int status;
} anthropic_errors[] = {
    {"invalid_request_error", 400},
    {"authentication_error", 401},
    {"billing_error", 402},
    {"permission_error", 403},
    {"not_found_error", 404},
    {"conflict_error", 409},
    {"request_too_large", 413},
    {"rate_limit_error", 429},
    {"api_error", 500},
    {"timeout_error", 504},
    {"overloaded_error", 529},
};

/* 0: not known. */
static int anthropic_status(const char *type)
{
    for (size_t i = 0; i < sizeof anthropic_errors / sizeof *anthropic_errors;
         i++)
        if (strcmp(anthropic_errors[i].type, type) == 0)
            return anthropic_errors[i].status;
    return 0;
}

static bool anthropic_line(struct tr_batch_line *line, struct tr_str text,
                           struct tr_buf *scratch)
{
    static const char *const untouched[] = {"expired", "canceled", NULL};
    yyjson_doc *doc = tr_json_read(text);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *result = yyjson_obj_get(root, "result");
    yyjson_val *message = yyjson_obj_get(result, "message");
    char type[20];
    bool ok = true;

    *line = (struct tr_batch_line){0};
    copy(line->id, sizeof line->id, yyjson_obj_get(root, "custom_id"));
    copy(type, sizeof type, yyjson_obj_get(result, "type"));
    line->untouched = is_one_of(type, untouched);
    line->done = strcmp(type, "succeeded") == 0;
    if (line->done) {
        line->status = 200;
        ok = keep_body(line, message, scratch);
    } else if (!line->untouched) {
        yyjson_val *error = yyjson_obj_get(result, "error");

        tr_wire_error_value(&line->error, error);
        line->status = anthropic_status(line->error.type);
        line->done = line->status != 0;
        if (line->done)
            ok = keep_body(line, error, scratch);
    }
    ok = ok && line->id[0];
    yyjson_doc_free(doc);
    return ok;
}

static const struct tr_batch_form forms[] = {
    {
        .name = "openai",
        .lane_path = "/chat/completions",
        .batches = "/batches",
        .files = "/files",
        .content = "/content",
        .after = "after",
        .head = "", .between = "\n", .tail = "\n",
        .request = openai_request,
        .create = openai_create,
        .read = openai_read,
        .find = openai_find,
        .line = openai_line,
    },
    {
        .name = "anthropic",
        .lane_path = "/messages",
        .batches = "/messages/batches",
        .results = "/results",
        .after = "after_id",
        .guesses = true,
        .head = "{\"requests\":[", .between = ",\n", .tail = "]}",
        .request = anthropic_request,
        .read = anthropic_read,
        .find = anthropic_find,
        .line = anthropic_line,
    },
};

const struct tr_batch_form *tr_batch_form_find(const char *name)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(forms[i].name, name) == 0)
            return &forms[i];
    return NULL;
}

/* ---- what all share --------------------------------------------------- */

/* Word in the code or the message of a failure, and what it means. */
static const struct {
    const char *word;
    enum tr_outcome outcome;
} failures[] = {
    {"token_limit_exceeded", TR_OUT_THROTTLED}, /* too much is enqueued */
    {"nqueued", TR_OUT_THROTTLED},
    {"rate_limit", TR_OUT_THROTTLED},
    {"hard_limit", TR_OUT_EXHAUSTED},
    {"insufficient_quota", TR_OUT_EXHAUSTED},
    {"server_error", TR_OUT_UNREACHED},
    {"internal", TR_OUT_UNREACHED},
};

enum tr_outcome tr_batch_failure(const struct tr_wire_error *e)
{
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        if (strstr(e->code, failures[i].word) ||
            strstr(e->type, failures[i].word) ||
            strstr(e->message, failures[i].word))
            return failures[i].outcome;
    return TR_OUT_FATAL;
}

void tr_batch_id_write(char *out, const char *mark, uint64_t attempt)
{
    snprintf(out, 64, "t%.24s-%" PRIu64, mark, attempt);
}

bool tr_batch_id_read(const char *id, const char *mark, uint64_t *attempt)
{
    size_t n = strlen(mark);
    char again[64];

    if (id[0] != 't' || strncmp(id + 1, mark, n) != 0 || id[1 + n] != '-')
        return false;
    *attempt = strtoull(id + n + 2, NULL, 10);
    tr_batch_id_write(again, mark, *attempt);
    return strcmp(id, again) == 0;
}

int64_t tr_batch_poll_ms(unsigned asked, int64_t first_ms, int64_t floor_ms,
                         double unit)
{
    double ms = (double)first_ms, most = 10.0 * (double)first_ms;

    while (asked-- && ms < most)
        ms *= 1.5;
    ms = (ms < most ? ms : most) * (0.95 + 0.1 * unit);
    return floor_ms > (int64_t)ms ? floor_ms : (int64_t)ms;
}

int64_t tr_batch_look_ms(unsigned looked, int64_t first_ms)
{
    static const int percent[] = {7, 33, 200};

    return looked < sizeof percent / sizeof *percent
        ? first_ms * percent[looked] / 100 : -1;
}
