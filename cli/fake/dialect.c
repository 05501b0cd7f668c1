/* dialect.c - the OpenAI dialect from the other side of the wire.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memmem */
#include "fake/dialect.h"

#include "base/mem.h"
#include "fake/texts.h"

#include <stdio.h>
#include <yyjson.h>

/* A token is about 4 bytes of English; a message costs 3 more. */
int64_t fake_tokens(size_t bytes)
{
    return (int64_t)((bytes + 3) / 4);
}

static void copy(char *out, size_t size, yyjson_val *v)
{
    snprintf(out, size, "%s", yyjson_is_str(v) ? yyjson_get_str(v) : "");
}

/* ---- the schema ------------------------------------------------------- */

/* Finds the enum of labels, and how many arrays stand around it: two for
 * [id, label, label], three for [id, [label, label]]. */
static void walk_schema(struct fake_request *r, yyjson_val *v, int arrays,
                        int depth)
{
    yyjson_val *key, *child;
    size_t i, n;

    if (depth > 16)
        return;
    if (yyjson_is_arr(v)) {
        yyjson_arr_foreach(v, i, n, child)
            walk_schema(r, child, arrays, depth + 1);
        return;
    }
    yyjson_obj_foreach(v, i, n, key, child) {
        bool is_array = yyjson_equals_str(key, "items") ||
                        yyjson_equals_str(key, "prefixItems");

        if (yyjson_equals_str(key, "enum"))
            r->is_nested = arrays >= 3;
        else
            walk_schema(r, child, arrays + is_array, depth + 1);
    }
}

static void read_format(struct fake_request *r, yyjson_val *root)
{
    yyjson_val *format = yyjson_obj_get(root, "response_format"), *schema;

    if (!yyjson_equals_str(yyjson_obj_get(format, "type"), "json_schema"))
        return;
    r->has_schema = true;
    schema = yyjson_obj_get(format, "json_schema");
    walk_schema(r, yyjson_obj_get(schema, "schema"), 0, 0);
}

/* ---- the items -------------------------------------------------------- */

static bool has(struct tr_str s, const char *needle)
{
    return needle && *needle && memmem(s.p, s.n, needle, strlen(needle));
}

static int add_item(struct fake_request *r, int64_t id, struct tr_str text,
                    const struct fake_needles *needles)
{
    if (r->item_count == r->item_cap) {
        size_t cap = r->item_cap ? r->item_cap * 2 : 64;
        struct fake_item *items = tr_resize(r->items, cap * sizeof *items);

        if (!items)
            return TR_NOMEM;
        r->items = items;
        r->item_cap = cap;
    }
    r->items[r->item_count++] = (struct fake_item){id, fake_hash(text)};
    r->is_poisoned = r->is_poisoned || has(text, needles->poison);
    r->is_stuck = r->is_stuck || has(text, needles->stuck);
    return TR_OK;
}

/* A line that is no item is part of the instructions: skipped. */
static int read_line(struct fake_request *r, struct tr_str line,
                     const struct fake_needles *needles)
{
    size_t need = yyjson_read_max_memory_usage(line.n, 0);
    yyjson_val *id, *text;
    yyjson_alc pool;
    yyjson_doc *doc;
    char *room;

    tr_buf_clear(&r->scratch);
    room = tr_buf_room(&r->scratch, need);
    if (!room)
        return TR_NOMEM;
    yyjson_alc_pool_init(&pool, room, need);
    doc = yyjson_read_opts((char *)line.p, line.n, 0, &pool, NULL);
    if (!doc)
        return TR_OK;
    id = yyjson_arr_get(yyjson_doc_get_root(doc), 0);
    text = yyjson_arr_get(yyjson_doc_get_root(doc), 1);
    if (!yyjson_is_int(id) || !yyjson_is_str(text))
        return TR_OK;
    return add_item(r, yyjson_get_sint(id),
                    tr_str(yyjson_get_str(text), yyjson_get_len(text)),
                    needles);
}

static int read_items(struct fake_request *r, struct tr_str s,
                      const struct fake_needles *needles)
{
    while (s.n) {
        const char *end = memchr(s.p, '\n', s.n);
        size_t n = end ? (size_t)(end - s.p) : s.n;
        struct tr_str line = tr_str_trim(tr_str(s.p, n));

        if (line.n > 4 && line.p[0] == '[' && line.p[line.n - 1] == ']' &&
            read_line(r, line, needles) != TR_OK)
            return TR_NOMEM;
        n += end != NULL;
        s = tr_str(s.p + n, s.n - n);
    }
    return TR_OK;
}

/* ---- the request ------------------------------------------------------ */

/* content is a string, or parts of which those with text count. */
static int read_content(struct fake_request *r, yyjson_val *content,
                        bool has_items, const struct fake_needles *needles,
                        size_t *bytes)
{
    yyjson_val *part;
    size_t i, n;

    if (yyjson_is_str(content)) {
        struct tr_str s = tr_str(yyjson_get_str(content),
                                 yyjson_get_len(content));

        *bytes += s.n;
        return has_items ? read_items(r, s, needles) : TR_OK;
    }
    yyjson_arr_foreach(content, i, n, part) {
        yyjson_val *text = yyjson_obj_get(part, "text");

        if (yyjson_is_str(text) &&
            read_content(r, text, has_items, needles, bytes) != TR_OK)
            return TR_NOMEM;
    }
    return TR_OK;
}

static const char *read_messages(struct fake_request *r, yyjson_val *root,
                                 const struct fake_needles *needles)
{
    yyjson_val *messages = yyjson_obj_get(root, "messages"), *message;
    yyjson_val *format = yyjson_obj_get(root, "response_format");
    size_t i, n, last = yyjson_arr_size(messages), bytes = 0;

    if (!last)
        return "Missing required parameter: 'messages'.";
    /* Examples may stand in earlier turns; the data are in the last one. */
    yyjson_arr_foreach(messages, i, n, message) {
        yyjson_val *content = yyjson_obj_get(message, "content");
        bool is_data = i + 1 == last;

        if (!yyjson_is_str(yyjson_obj_get(message, "role")) || !content)
            return "Invalid 'messages': each needs 'role' and 'content'.";
        if (read_content(r, content, is_data, needles, &bytes) != TR_OK)
            return "The server ran out of memory.";
    }
    r->prompt_tokens = fake_tokens(bytes) + 3 * (int64_t)last + 3;
    if (format) {
        size_t size = 0;
        char *text = yyjson_val_write(format, 0, &size);

        r->prompt_tokens += fake_tokens(size);
        free(text);
    }
    return NULL;
}

const char *fake_request_read(struct fake_request *r, char *body, size_t n,
                              const struct fake_needles *needles)
{
    const char *why = NULL;
    yyjson_val *root, *cap;
    yyjson_doc *doc;

    r->item_count = 0;
    r->model[0] = r->effort[0] = 0;
    r->cap_tokens = -1;
    r->prompt_tokens = 0;
    r->has_max_tokens = r->has_max_completion_tokens = r->has_effort = false;
    r->has_schema = r->is_nested = r->is_stream = false;
    r->is_poisoned = r->is_stuck = false;

    memset(body + n, 0, YYJSON_PADDING_SIZE);
    doc = yyjson_read_opts(body, n, YYJSON_READ_INSITU, NULL, NULL);
    root = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(root)) {
        yyjson_doc_free(doc);
        return "We could not parse the JSON body of your request.";
    }
    copy(r->model, sizeof r->model, yyjson_obj_get(root, "model"));
    copy(r->effort, sizeof r->effort, yyjson_obj_get(root, "reasoning_effort"));
    r->has_effort = r->effort[0] != 0;
    r->is_stream = yyjson_is_true(yyjson_obj_get(root, "stream"));
    cap = yyjson_obj_get(root, "max_tokens");
    r->has_max_tokens = yyjson_is_int(cap);
    if (r->has_max_tokens)
        r->cap_tokens = yyjson_get_sint(cap);
    cap = yyjson_obj_get(root, "max_completion_tokens");
    r->has_max_completion_tokens = yyjson_is_int(cap);
    if (r->has_max_completion_tokens)
        r->cap_tokens = yyjson_get_sint(cap);
    read_format(r, root);
    if (!r->model[0])
        why = "you must provide a model parameter";
    if (!why)
        why = read_messages(r, root, needles);
    yyjson_doc_free(doc);
    return why;
}

void fake_request_release(struct fake_request *r)
{
    tr_free(r->items);
    tr_buf_release(&r->scratch);
    *r = (struct fake_request){0};
}

/* ---- the answer ------------------------------------------------------- */

/* "a","b" of a|b. */
static void say_labels(struct tr_buf *out, struct tr_str labels)
{
    for (;;) {
        const char *end = memchr(labels.p, '|', labels.n);
        size_t n = end ? (size_t)(end - labels.p) : labels.n;

        tr_buf_add_json(out, tr_str(labels.p, n));
        if (!end)
            return;
        tr_buf_addc(out, ',');
        labels = tr_str(end + 1, labels.n - n - 1);
    }
}

static void add_number(struct tr_buf *out, int64_t v)
{
    char text[24], *p = text + sizeof text;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

    do
        *--p = (char)('0' + u % 10);
    while (u /= 10);
    if (v < 0)
        *--p = '-';
    tr_buf_add(out, p, (size_t)(text + sizeof text - p));
}

static void say_line(struct tr_buf *out, const struct fake_said *said)
{
    add_number(out, said->id);
    tr_buf_addc(out, ' ');
    tr_buf_adds(out, said->label.n ? said->label : TR_STR("-"));
    tr_buf_addc(out, '\n');
}

static void say_pair(struct tr_buf *out, const struct fake_request *r,
                     const struct fake_said *said, bool is_first)
{
    tr_buf_addz(out, is_first ? "[" : ",[");
    add_number(out, said->id);
    tr_buf_addc(out, ',');
    if (r->is_nested)
        tr_buf_addc(out, '[');
    if (said->label.n)
        say_labels(out, said->label);
    else if (!r->is_nested)
        tr_buf_addz(out, "\"-\"");
    if (r->is_nested)
        tr_buf_addc(out, ']');
    tr_buf_addc(out, ']');
}

void fake_say(struct tr_buf *out, const struct fake_request *r,
              struct fake_said *said, size_t n)
{
    if (r->has_schema)
        tr_buf_addz(out, "{\"a\":[");
    for (size_t i = 0; i < n; i++) {
        if (r->has_schema)
            say_pair(out, r, &said[i], i == 0);
        else
            say_line(out, &said[i]);
        said[i].end = out->n;
    }
    if (r->has_schema)
        tr_buf_addz(out, "]}");
}

static void add_member(struct tr_buf *out, const char *name, int64_t v)
{
    tr_buf_addz(out, name);
    add_number(out, v);
}

void fake_write_completion(struct tr_buf *out, const struct fake_request *r,
                           const struct fake_completion *c)
{
    add_member(out, "{\"id\":\"chatcmpl-fake", (int64_t)c->number);
    add_member(out, "\",\"object\":\"chat.completion\",\"created\":",
               c->created_s);
    tr_buf_addz(out, ",\"model\":");
    tr_buf_add_json(out, tr_str_c(r->model));
    tr_buf_addz(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                     "\"assistant\",\"content\":");
    if (c->is_refusal)
        tr_buf_addz(out, "null,\"refusal\":");
    tr_buf_add_json(out, c->content);
    if (!c->is_refusal)
        tr_buf_addz(out, ",\"refusal\":null");
    tr_buf_addz(out, ",\"annotations\":[]},\"logprobs\":null,"
                     "\"finish_reason\":\"");
    tr_buf_addz(out, c->finish);
    add_member(out, "\"}],\"usage\":{\"prompt_tokens\":", c->prompt_tokens);
    add_member(out, ",\"completion_tokens\":", c->completion_tokens);
    add_member(out, ",\"total_tokens\":",
               c->prompt_tokens + c->completion_tokens);
    tr_buf_addz(out, ",\"prompt_tokens_details\":{\"cached_tokens\":0,"
                     "\"audio_tokens\":0}");
    add_member(out, ",\"completion_tokens_details\":{\"reasoning_tokens\":",
               c->reasoning_tokens);
    tr_buf_addz(out, ",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
                     "\"rejected_prediction_tokens\":0}},"
                     "\"service_tier\":\"default\","
                     "\"system_fingerprint\":\"fp_fake\"}\n");
}

static void add_text_or_null(struct tr_buf *out, const char *name,
                             const char *text)
{
    tr_buf_addz(out, name);
    if (text)
        tr_buf_add_json(out, tr_str_c(text));
    else
        tr_buf_addz(out, "null");
}

void fake_write_error(struct tr_buf *out, const char *message,
                      const char *type, const char *param, const char *code)
{
    add_text_or_null(out, "{\"error\":{\"message\":", message);
    add_text_or_null(out, ",\"type\":", type);
    add_text_or_null(out, ",\"param\":", param);
    add_text_or_null(out, ",\"code\":", code);
    tr_buf_addz(out, "}}\n");
}
