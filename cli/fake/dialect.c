/* dialect.c - requests of every dialect, read from the other side of the wire.
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

static const char no_memory[] = "The server ran out of memory.";

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

/* The schema costs prompt tokens, as it does with the real ones. */
static void read_schema(struct fake_request *r, yyjson_val *schema)
{
    size_t size = 0;
    char *text;

    if (!schema)
        return;
    text = yyjson_val_write(schema, 0, &size);
    free(text);
    r->has_schema = true;
    r->prompt_tokens += fake_tokens(size);
    walk_schema(r, schema, 0, 0);
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
    if (needles->orders)
        gullible_hear(&r->orders, r->item_count, text);
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

/* ---- OpenAI ----------------------------------------------------------- */

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
        fake_prefix_add(&r->prefix, s);
        return has_items ? read_items(r, s, needles) : TR_OK;
    }
    yyjson_arr_foreach(content, i, n, part) {
        yyjson_val *text = yyjson_obj_get(part, "text");

        if (yyjson_is_str(text) &&
            read_content(r, text, has_items, needles, bytes) != TR_OK)
            return TR_NOMEM;
        if (yyjson_is_obj(yyjson_obj_get(part, "prompt_cache_breakpoint")) ||
            yyjson_is_obj(yyjson_obj_get(part, "cache_control"))) {
            r->marked_tokens = fake_tokens(r->prefix.bytes);
            r->marked_hash = r->prefix.hash;
        }
    }
    return TR_OK;
}

/* bytes: said elsewhere, in a system part that is no message. */
static const char *read_messages(struct fake_request *r, yyjson_val *messages,
                                 const struct fake_needles *needles,
                                 size_t bytes)
{
    yyjson_val *message;
    size_t i, n, last = yyjson_arr_size(messages);

    if (!last)
        return "Missing required parameter: 'messages'.";
    /* Examples may stand in earlier turns; the data are in the last one. */
    yyjson_arr_foreach(messages, i, n, message) {
        yyjson_val *content = yyjson_obj_get(message, "content");
        bool is_data = i + 1 == last;

        if (!yyjson_is_str(yyjson_obj_get(message, "role")) || !content)
            return "Invalid 'messages': each needs 'role' and 'content'.";
        if (read_content(r, content, is_data, needles, &bytes) != TR_OK)
            return no_memory;
    }
    r->prompt_tokens += fake_tokens(bytes) + 3 * (int64_t)last + 3;
    return NULL;
}

static void read_effort(struct fake_request *r, yyjson_val *effort)
{
    if (!yyjson_is_str(effort))
        return;
    copy(r->effort, sizeof r->effort, effort);
    for (char *c = r->effort; *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    r->has_effort = r->effort[0] != 0;
}

static void read_cap(struct fake_request *r, yyjson_val *cap, bool *has)
{
    *has = yyjson_is_int(cap);
    if (*has)
        r->cap_tokens = yyjson_get_sint(cap);
}

/* A key of its own leads to another machine, which knows nothing. */
static void read_cache(struct fake_request *r, yyjson_val *root)
{
    yyjson_val *key = yyjson_obj_get(root, "prompt_cache_key");
    yyjson_val *mode = yyjson_obj_get(
        yyjson_obj_get(root, "prompt_cache_options"), "mode");

    fake_prefix_begin(&r->prefix, tr_str(yyjson_get_str(key),
                                         yyjson_get_len(key)));
    r->has_cache = yyjson_obj_get(root, "prompt_cache_options") != NULL;
    r->is_explicit = yyjson_equals_str(mode, "explicit");
}

static const char *read_openai(struct fake_request *r, yyjson_val *root,
                               const struct fake_needles *needles)
{
    yyjson_val *format = yyjson_obj_get(root, "response_format");

    read_effort(r, yyjson_obj_get(root, "reasoning_effort"));
    read_cache(r, root);
    r->is_stream = yyjson_is_true(yyjson_obj_get(root, "stream"));
    read_cap(r, yyjson_obj_get(root, "max_tokens"), &r->has_max_tokens);
    read_cap(r, yyjson_obj_get(root, "max_completion_tokens"),
             &r->has_max_completion_tokens);
    if (yyjson_equals_str(yyjson_obj_get(format, "type"), "json_schema"))
        read_schema(r, yyjson_obj_get(yyjson_obj_get(format, "json_schema"),
                                      "schema"));
    return read_messages(r, yyjson_obj_get(root, "messages"), needles, 0);
}

/* ---- Anthropic -------------------------------------------------------- */

static const char *read_anthropic(struct fake_request *r, yyjson_val *root,
                                  const struct fake_needles *needles)
{
    yyjson_val *config = yyjson_obj_get(root, "output_config");
    yyjson_val *format = yyjson_obj_get(config, "format");
    yyjson_val *thinking = yyjson_obj_get(root, "thinking");
    yyjson_val *system = yyjson_obj_get(root, "system");
    yyjson_val *message = yyjson_arr_get_first(yyjson_obj_get(root,
                                                              "messages"));
    size_t bytes = 0;
    bool has_cap;

    read_cap(r, yyjson_obj_get(root, "max_tokens"), &has_cap);
    if (!has_cap)
        return "max_tokens: Field required";
    if (yyjson_equals_str(yyjson_obj_get(message, "role"), "system"))
        return "messages: Unexpected role \"system\".";
    if (yyjson_obj_get(root, "reasoning_effort") ||
        yyjson_obj_get(root, "response_format"))
        return "response_format: Extra inputs are not permitted";
    read_effort(r, yyjson_obj_get(config, "effort"));
    if (yyjson_equals_str(yyjson_obj_get(thinking, "type"), "disabled")) {
        snprintf(r->effort, sizeof r->effort, "none");
        r->has_effort = true;
    }
    if (yyjson_equals_str(yyjson_obj_get(format, "type"), "json_schema"))
        read_schema(r, yyjson_obj_get(format, "schema"));
    if (system && read_content(r, system, false, needles, &bytes) != TR_OK)
        return no_memory;
    r->is_explicit = true;
    return read_messages(r, yyjson_obj_get(root, "messages"), needles, bytes);
}

/* ---- Responses -------------------------------------------------------- */

static const char *read_responses(struct fake_request *r, yyjson_val *root,
                                  const struct fake_needles *needles)
{
    yyjson_val *format = yyjson_obj_get(yyjson_obj_get(root, "text"),
                                        "format");
    yyjson_val *reasoning = yyjson_obj_get(root, "reasoning");
    yyjson_val *system = yyjson_obj_get(root, "instructions");
    yyjson_val *input = yyjson_obj_get(root, "input");
    size_t bytes = 0;
    bool has_cap;

    read_cache(r, root);
    if (yyjson_obj_get(root, "messages"))
        return "Unsupported parameter: 'messages'. In the Responses API, this "
               "parameter has moved to 'input'.";
    read_cap(r, yyjson_obj_get(root, "max_output_tokens"), &has_cap);
    if (has_cap && r->cap_tokens < 16)
        return "Invalid 'max_output_tokens': integer below minimum value. "
               "Expected a value >= 16.";
    read_effort(r, yyjson_obj_get(reasoning, "effort"));
    if (yyjson_equals_str(yyjson_obj_get(format, "type"), "json_schema"))
        read_schema(r, yyjson_obj_get(format, "schema"));
    if (!yyjson_is_str(input) && !yyjson_arr_size(input))
        return "Missing required parameter: 'input'.";
    if (system && read_content(r, system, false, needles, &bytes) != TR_OK)
        return no_memory;
    if (yyjson_is_arr(input))
        return read_messages(r, input, needles, bytes);
    if (read_content(r, input, true, needles, &bytes) != TR_OK)
        return no_memory;
    r->prompt_tokens += fake_tokens(bytes) + 6;
    return NULL;
}

/* ---- Gemini ----------------------------------------------------------- */

static const char *read_gemini(struct fake_request *r, yyjson_val *root,
                               const struct fake_needles *needles)
{
    yyjson_val *config = yyjson_obj_get(root, "generationConfig");
    yyjson_val *thinking = yyjson_obj_get(config, "thinkingConfig");
    yyjson_val *system = yyjson_obj_get(
        yyjson_obj_get(root, "systemInstruction"), "parts");
    yyjson_val *last = yyjson_arr_get_last(yyjson_obj_get(root, "contents"));
    yyjson_val *schema = yyjson_obj_get(config, "responseJsonSchema");
    size_t bytes = 0;
    bool has_cap;

    if (!last)
        return "* GenerateContentRequest.contents: contents is not specified";
    if (yyjson_obj_get(root, "model") || yyjson_obj_get(root, "messages"))
        return "Invalid JSON payload received. Unknown name \"model\" or "
               "\"messages\": Cannot find field.";
    if (schema && !yyjson_equals_str(
                      yyjson_obj_get(config, "responseMimeType"),
                      "application/json"))
        return "responseJsonSchema needs responseMimeType application/json";
    read_cap(r, yyjson_obj_get(config, "maxOutputTokens"), &has_cap);
    read_effort(r, yyjson_obj_get(thinking, "thinkingLevel"));
    if (yyjson_is_int(yyjson_obj_get(thinking, "thinkingBudget"))) {
        snprintf(r->effort, sizeof r->effort, "budget");
        r->has_effort = true;
    }
    read_schema(r, schema);
    if ((system && read_content(r, system, false, needles, &bytes) != TR_OK) ||
        read_content(r, yyjson_obj_get(last, "parts"), true, needles,
                     &bytes) != TR_OK)
        return no_memory;
    r->prompt_tokens += fake_tokens(bytes) + 6;
    return NULL;
}

/* ---- decisions -------------------------------------------------------- */

static int add_question(struct fake_request *r, const struct fake_question *q)
{
    if (r->question_count == r->question_cap) {
        size_t cap = r->question_cap ? r->question_cap * 2 : 64;
        struct fake_question *all = tr_resize(r->questions, cap * sizeof *all);

        if (!all)
            return TR_NOMEM;
        r->questions = all;
        r->question_cap = cap;
    }
    r->questions[r->question_count++] = *q;
    return TR_OK;
}

/* The label that a yes-or-no question is about: the first text in quotes. */
static uint64_t asked_label(yyjson_val *instructions)
{
    const char *at = yyjson_is_str(instructions)
                         ? strchr(yyjson_get_str(instructions), '"') : NULL;
    yyjson_doc *doc = at ? yyjson_read(at, strlen(at),
                                       YYJSON_READ_STOP_WHEN_DONE) : NULL;
    yyjson_val *label = yyjson_doc_get_root(doc);
    uint64_t hash = yyjson_is_str(label)
                        ? fake_hash(tr_str(yyjson_get_str(label),
                                           yyjson_get_len(label)))
                        : 0;

    yyjson_doc_free(doc);
    return hash;
}

/* One question under its name; options: of a choice, an array or a map. */
static const char *read_question(struct fake_request *r, yyjson_val *one,
                                 const char *name, const char *yes_or_no,
                                 yyjson_val *options)
{
    yyjson_val *type = yyjson_obj_get(one, "type");
    struct fake_question q = {
        .is_choice = yyjson_equals_str(type, "choice"),
        .label = asked_label(yyjson_obj_get(one, "instructions"))};
    size_t n = yyjson_is_arr(options) ? yyjson_arr_size(options)
                                      : yyjson_obj_size(options);

    if (!name || strlen(name) >= sizeof q.name)
        return "a question has no name, or a long one";
    if (!q.is_choice && (!yyjson_equals_str(type, yes_or_no) || !q.label))
        return "a question has a type that is not known, or no label";
    if (q.is_choice && (n < 2 || n > 255))
        return "a choice has 2 to 255 options";
    memcpy(q.name, name, strlen(name) + 1);
    q.id = strtoll(name, NULL, 10);
    return add_question(r, &q) == TR_OK ? NULL : no_memory;
}

/* The texts: alone and as it is where one choice is asked, else in lines. */
static const char *read_texts(struct fake_request *r, yyjson_val *root,
                              yyjson_val *input,
                              const struct fake_needles *needles)
{
    struct tr_str text = tr_str(yyjson_get_str(input), yyjson_get_len(input));
    size_t size = 0;
    char *whole = yyjson_val_write(root, 0, &size);
    int rc;

    free(whole);
    r->prompt_tokens = fake_tokens(size);
    if (!yyjson_is_str(input))
        return "a text is expected";
    if (!r->question_count || r->question_count > 200)
        return "1 to 200 questions are expected";
    rc = r->question_count == 1 && r->questions[0].is_choice
             ? add_item(r, r->questions[0].id, text, needles)
             : read_items(r, text, needles);
    return rc == TR_OK ? NULL : no_memory;
}

static const char *read_decisions(struct fake_request *r, yyjson_val *root,
                                  const struct fake_needles *needles)
{
    const char *why = NULL;
    yyjson_val *one;
    size_t i, n;

    yyjson_arr_foreach(yyjson_obj_get(root, "questions"), i, n, one) {
        why = read_question(r, one, yyjson_get_str(yyjson_obj_get(one, "name")),
                            "predicate", yyjson_obj_get(one, "choices"));
        if (why)
            return why;
    }
    return read_texts(r, root, yyjson_obj_get(root, "input"), needles);
}

static const char *read_systemone(struct fake_request *r, yyjson_val *root,
                                  const struct fake_needles *needles)
{
    const char *why = NULL;
    yyjson_val *name, *one;
    size_t i, n;

    yyjson_obj_foreach(yyjson_obj_get(root, "questions"), i, n, name, one) {
        why = read_question(r, one, yyjson_get_str(name), "noul",
                            yyjson_obj_get(one, "criteria"));
        if (why)
            return why;
    }
    return read_texts(r, root, yyjson_obj_get(root, "state"), needles);
}

/* ---- the table -------------------------------------------------------- */

/* OpenAI's dialect behind Azure's addresses, keys and headers. */
#define AZURE                                                                  \
    .key_header = "api-key", .id_header = "x-request-id",                      \
    .limits = FAKE_LIMITS_REMAINING, .charges_cap = true,                      \
    .effort_name = "reasoning_effort", .schema_name = "response_format",       \
    .read = read_openai, .complete = fake_complete_openai,                     \
    .refuse = fake_refuse_openai, .errors = fake_azure_errors

static const struct fake_dialect dialects[] = {
    {.path = "/v1/chat/completions", .key_header = "authorization",
     .id_header = "x-request-id", .limits = FAKE_LIMITS_OPENAI,
     .charges_cap = true, .effort_name = "reasoning_effort",
     .schema_name = "response_format", .read = read_openai,
     .complete = fake_complete_openai, .refuse = fake_refuse_openai},
    {.path = "/v1/messages", .key_header = "x-api-key",
     .must_header = "anthropic-version", .id_header = "request-id",
     .limits = FAKE_LIMITS_ANTHROPIC, .effort_name = "output_config.effort",
     .schema_name = "output_config.format", .read = read_anthropic,
     .complete = fake_complete_anthropic, .refuse = fake_refuse_anthropic,
     .errors = fake_anthropic_errors},
    {.path = "/v1beta/models/*:generateContent",
     .key_header = "x-goog-api-key", .limits = FAKE_LIMITS_NONE,
     .effort_name = "thinkingConfig", .schema_name = "responseJsonSchema",
     .read = read_gemini, .complete = fake_complete_gemini,
     .refuse = fake_refuse_gemini, .errors = fake_gemini_errors},
    {.path = "/v1/responses", .key_header = "authorization",
     .id_header = "x-request-id", .limits = FAKE_LIMITS_OPENAI,
     .charges_cap = true, .effort_name = "reasoning.effort",
     .schema_name = "text.format", .read = read_responses,
     .complete = fake_complete_responses, .refuse = fake_refuse_openai},
    {.path = "/v1/decisions", .key_header = "authorization",
     .id_header = "x-request-id", .limits = FAKE_LIMITS_OPENAI,
     .decides = true, .read = read_decisions,
     .complete = fake_complete_decisions, .refuse = fake_refuse_openai},
    {.path = "/v1/systemone", .key_header = "authorization",
     .id_header = "x-typesafe-request-id", .limits = FAKE_LIMITS_NONE,
     .decides = true, .read = read_systemone,
     .complete = fake_complete_systemone, .refuse = fake_refuse_systemone,
     .errors = fake_systemone_errors},
    {.path = "/openai/v1/chat/completions", AZURE},
    {.path = "/openai/deployments/*/chat/completions", AZURE},
};
#define DIALECT_COUNT (sizeof dialects / sizeof *dialects)

static bool is_at(const char *pattern, const char *path, char *model,
                  size_t size)
{
    size_t n = strcspn(pattern, "*"), tail = 0, path_n = strlen(path);

    model[0] = '\0';
    if (!pattern[n])
        return strcmp(pattern, path) == 0;
    tail = strlen(pattern + n + 1);
    if (path_n <= n + tail || strncmp(path, pattern, n) != 0 ||
        strcmp(path + path_n - tail, pattern + n + 1) != 0)
        return false;
    snprintf(model, size, "%.*s", (int)(path_n - n - tail), path + n);
    return true;
}

const struct fake_dialect *fake_dialect_at(const char *path, char *model,
                                           size_t size)
{
    for (size_t i = 0; i < DIALECT_COUNT; i++) {
        if (is_at(dialects[i].path, path, model, size))
            return &dialects[i];
    }
    return NULL;
}

void fake_dialect_paths(struct tr_buf *out)
{
    for (size_t i = 0; i < DIALECT_COUNT; i++)
        tr_buf_addf(out, "%s%s", i ? ", " : "", dialects[i].path);
}

/* ---- a request -------------------------------------------------------- */

const char *fake_request_read(struct fake_request *r,
                              const struct fake_dialect *dialect,
                              const char *model, char *body, size_t n,
                              const struct fake_needles *needles)
{
    const char *why = NULL;
    yyjson_val *root;
    yyjson_doc *doc;

    *r = (struct fake_request){
        .dialect = dialect, .cap_tokens = -1, .items = r->items,
        .item_cap = r->item_cap, .questions = r->questions,
        .question_cap = r->question_cap, .scratch = r->scratch};
    fake_prefix_begin(&r->prefix, TR_STR(""));
    memset(body + n, 0, YYJSON_PADDING_SIZE);
    doc = yyjson_read_opts(body, n, YYJSON_READ_INSITU, NULL, NULL);
    root = yyjson_doc_get_root(doc);
    if (!yyjson_is_obj(root)) {
        yyjson_doc_free(doc);
        return "We could not parse the JSON body of your request.";
    }
    copy(r->model, sizeof r->model, yyjson_obj_get(root, "model"));
    if (model[0])
        snprintf(r->model, sizeof r->model, "%s", model);
    if (!r->model[0])
        why = "you must provide a model parameter";
    if (!why)
        why = dialect->read(r, root, needles);
    yyjson_doc_free(doc);
    return why;
}

void fake_request_release(struct fake_request *r)
{
    tr_free(r->items);
    tr_free(r->questions);
    tr_buf_release(&r->scratch);
    *r = (struct fake_request){0};
}

