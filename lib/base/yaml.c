/* yaml.c - YAML text as a small tree: the only door to libyaml.
 * SPDX-License-Identifier: MIT */
#include "base/yaml.h"

#include "base/bounds.h"
#include "base/mem.h"

#include <yaml.h>

#include <stdio.h>

struct parse {
    struct tr_arena *arena;
    struct tr_str text;
    const char *file;
    struct tr_err *err;
    uint32_t nodes;
    /* libyaml counts characters, we want bytes. Marks come in rising order
     * but for a block's end, so one cursor walks along. */
    size_t chars, bytes;
};

/* An open map or list. */
struct level {
    struct tr_yaml *node;
    struct tr_yaml **tail; /* where the next child is linked */
    struct tr_str key;     /* key waiting for its value */
    int key_line, key_column;
    bool has_key;
};

/* What libyaml says, and what a person understands. */
static const struct {
    const char *theirs, *ours;
} SENTENCES[] = {
    {"found character that cannot start any token",
     "this character cannot begin a value (indent with spaces, never with "
     "TAB; put the value in quotes)"},
    {"found a tab character that violates indentation",
     "a TAB stands in the indentation; use spaces"},
    {"found a tab character where an indentation space is expected",
     "a TAB stands in the indentation; use spaces"},
    {"mapping values are not allowed in this context",
     "a ': ' stands where none may be; put the whole value in quotes, or "
     "check the indentation"},
    {"did not find expected key",
     "no 'key: value' here; check the indentation and the quotes above"},
    {"could not find expected ':'",
     "no ':' after this key; check the indentation and the quotes"},
    {"did not find expected '-' indicator",
     "no '- ' here; check the indentation of the list"},
    {"did not find expected ',' or ']'",
     "a ',' or ']' is missing in the list"},
    {"did not find expected ',' or '}'",
     "a ',' or '}' is missing in the map"},
    {"found unexpected end of stream", "the text ends inside a quote"},
    {"found unknown escape character",
     "unknown escape after '\\'; use '...' quotes for text with backslashes"},
    {"did not find expected <document start>",
     "text after the end of the document"},
    {"block sequence entries are not allowed in this context",
     "a '- ' stands where no list may begin; put it on a line of its own"},
    {"control characters are not allowed",
     "a control character stands in the text; remove it"},
};

static int fail_at(struct parse *p, int code, int line, int column,
                   const char *what)
{
    return tr_fail(p->err, code, "%s:%d:%d: %s", p->file, line, column, what);
}

static int line_of(yaml_mark_t m) { return (int)m.line + 1; }
static int column_of(yaml_mark_t m) { return (int)m.column + 1; }

static int fail_mark(struct parse *p, yaml_mark_t m, const char *what)
{
    return fail_at(p, TR_CONFIG, line_of(m), column_of(m), what);
}

static int no_memory(struct parse *p)
{
    return tr_fail(p->err, TR_NOMEM, "%s: out of memory", p->file);
}

static bool continues(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

/* Byte offset of the character with this number. */
static size_t byte_of(struct parse *p, size_t chars)
{
    while (p->chars > chars) {
        do
            p->bytes--;
        while (p->bytes > 0 && continues(p->text.p[p->bytes]));
        p->chars--;
    }
    while (p->chars < chars && p->bytes < p->text.n) {
        do
            p->bytes++;
        while (p->bytes < p->text.n && continues(p->text.p[p->bytes]));
        p->chars++;
    }
    return p->bytes;
}

/* libyaml's own complaint. */
static int fail_syntax(struct parse *p, const yaml_parser_t *parser)
{
    const char *what = parser->problem ? parser->problem : "cannot be read";
    yaml_mark_t mark = parser->problem_mark;

    if (parser->error == YAML_MEMORY_ERROR)
        return no_memory(p);
    if (parser->error == YAML_READER_ERROR) {
        /* The reader knows a byte offset only. */
        size_t at = parser->problem_offset;
        int line = 1, column = 1;
        bool utf8 = strstr(what, "UTF-8") != NULL;

        for (size_t i = 0; i < at && i < p->text.n; i++) {
            column = p->text.p[i] == '\n' ? 1 : column + !continues(p->text.p[i]);
            line += p->text.p[i] == '\n';
        }
        return fail_at(p, TR_CONFIG, line, column,
                       utf8 ? "the text is not valid UTF-8; save the file as "
                              "UTF-8"
                            : "a control character stands in the text; "
                              "remove it");
    }
    /* Where it began is more use than the end of the file. */
    if (strcmp(what, "found unexpected end of stream") == 0)
        mark = parser->context_mark;
    for (size_t i = 0; i < sizeof SENTENCES / sizeof *SENTENCES; i++)
        if (strcmp(SENTENCES[i].theirs, what) == 0)
            what = SENTENCES[i].ours;
    return fail_mark(p, mark, what);
}

static int by_key(const void *a, const void *b)
{
    const struct tr_yaml *x = *(struct tr_yaml *const *)a;
    const struct tr_yaml *y = *(struct tr_yaml *const *)b;
    size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
    int c = n ? memcmp(x->key.p, y->key.p, n) : 0;

    if (c == 0)
        c = (x->key.n > y->key.n) - (x->key.n < y->key.n);
    return c ? c : (x->from > y->from) - (x->from < y->from);
}

static int check_duplicates(struct parse *p, const struct tr_yaml *map)
{
    struct tr_yaml **all;
    const struct tr_yaml *bad = NULL, *before = NULL;
    size_t n = 0;

    if (map->count < 2)
        return TR_OK;
    all = tr_array(map->count, sizeof(*all));
    if (!all)
        return no_memory(p);
    for (struct tr_yaml *c = map->first; c; c = c->next)
        all[n++] = c;
    qsort(all, n, sizeof(*all), by_key);
    for (size_t i = 1; i < n; i++) {
        if (!tr_str_eq(all[i]->key, all[i - 1]->key))
            continue;
        if (!bad || all[i]->from < bad->from) {
            bad = all[i];
            before = all[i - 1];
        }
    }
    tr_free(all);
    if (!bad)
        return TR_OK;
    return tr_fail(p->err, TR_CONFIG,
                   "%s:%d:%d: the key '%.60s' stands twice (first in line "
                   "%d); remove one of them",
                   p->file, bad->key_line, bad->key_column, bad->key.p,
                   before->key_line);
}

static int new_node(struct parse *p, const yaml_event_t *e,
                    enum tr_yaml_kind kind, struct tr_yaml **out)
{
    struct tr_yaml *n;

    if (++p->nodes > TR_YAML_NODES_MAX)
        return fail_mark(p, e->start_mark,
                         "too many values in one file; put examples into a "
                         "file of their own (examples_file:)");
    n = tr_arena_alloc(p->arena, sizeof *n);
    if (!n)
        return no_memory(p);
    n->kind = kind;
    n->line = line_of(e->start_mark);
    n->column = column_of(e->start_mark);
    n->from = byte_of(p, e->start_mark.index);
    n->to = byte_of(p, e->end_mark.index);
    *out = n;
    return TR_OK;
}

static int check_decorations(struct parse *p, const yaml_event_t *e,
                             const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor)
        return fail_mark(p, e->start_mark,
                         "anchors (&) and aliases (*) are not supported; "
                         "write the value out, or put it in quotes");
    if (tag && strcmp((const char *)tag, YAML_STR_TAG) != 0 &&
        strcmp((const char *)tag, "!") != 0)
        return fail_mark(p, e->start_mark,
                         "tags (!) are not supported; remove it, or put the "
                         "value in quotes");
    return TR_OK;
}

/* A key is kept in its level; any value is linked below it. */
static int add_scalar(struct parse *p, const yaml_event_t *e,
                      struct level *top, struct tr_yaml **out)
{
    struct tr_str text = tr_str((const char *)e->data.scalar.value,
                                e->data.scalar.length);
    struct tr_str copy;
    struct tr_yaml *n;
    int rc;

    *out = NULL;
    rc = check_decorations(p, e, e->data.scalar.anchor, e->data.scalar.tag);
    if (rc != TR_OK)
        return rc;
    if (text.n && memchr(text.p, 0, text.n))
        return fail_mark(p, e->start_mark, "a NUL character in a value");
    copy = tr_arena_dup(p->arena, text);
    if (!copy.p)
        return no_memory(p);
    if (top && top->node->kind == TR_YAML_MAP && !top->has_key) {
        if (tr_str_eq_c(copy, "<<") &&
            e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
            return fail_mark(p, e->start_mark,
                             "merge keys (<<) are not supported; a key of "
                             "that name stands in quotes");
        top->key = copy;
        top->key_line = line_of(e->start_mark);
        top->key_column = column_of(e->start_mark);
        top->has_key = true;
        return TR_OK;
    }
    rc = new_node(p, e, TR_YAML_SCALAR, &n);
    if (rc != TR_OK)
        return rc;
    n->value = copy;
    n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE ||
                e->data.scalar.tag != NULL;
    *out = n;
    return TR_OK;
}

static void link_child(struct level *top, struct tr_yaml *n)
{
    if (top->node->kind == TR_YAML_MAP) {
        n->key = top->key;
        n->key_line = top->key_line;
        n->key_column = top->key_column;
        top->has_key = false;
    }
    *top->tail = n;
    top->tail = &n->next;
    top->node->count++;
}

/* One event into the tree. */
static int take(struct parse *p, const yaml_event_t *e, struct level *levels,
                int *depth, struct tr_yaml **root)
{
    struct level *top = *depth ? &levels[*depth - 1] : NULL;
    struct tr_yaml *n = NULL;
    bool map = e->type == YAML_MAPPING_START_EVENT;
    int rc = TR_OK;

    switch (e->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (*root)
            return fail_mark(p, e->start_mark,
                             "a second document begins; one file holds one");
        return TR_OK;
    case YAML_ALIAS_EVENT:
        return fail_mark(p, e->start_mark,
                         "aliases (*) are not supported; write the value "
                         "out, or put it in quotes");
    case YAML_SCALAR_EVENT:
        rc = add_scalar(p, e, top, &n);
        if (rc != TR_OK || !n)
            return rc;
        break;
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        rc = map ? check_decorations(p, e, e->data.mapping_start.anchor,
                                     e->data.mapping_start.tag)
                 : check_decorations(p, e, e->data.sequence_start.anchor,
                                     e->data.sequence_start.tag);
        if (rc != TR_OK)
            return rc;
        if (top && top->node->kind == TR_YAML_MAP && !top->has_key)
            return fail_mark(p, e->start_mark,
                             "a key must be a plain word, not a list or map");
        if (*depth == TR_YAML_DEPTH_MAX)
            return fail_mark(p, e->start_mark, "nested too deeply");
        rc = new_node(p, e, map ? TR_YAML_MAP : TR_YAML_LIST, &n);
        if (rc != TR_OK)
            return rc;
        levels[(*depth)++] = (struct level){.node = n, .tail = &n->first};
        break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        top->node->to = byte_of(p, e->end_mark.index);
        (*depth)--;
        return top->node->kind == TR_YAML_MAP ? check_duplicates(p, top->node)
                                              : TR_OK;
    default:
        return TR_OK;
    }
    if (top)
        link_child(top, n);
    else
        *root = n;
    return TR_OK;
}

/* libyaml reads UTF-16 too; we do not, so that bytes remain bytes. */
static struct tr_str without_bom(struct tr_str s)
{
    if (s.n >= 3 && memcmp(s.p, "\xef\xbb\xbf", 3) == 0)
        return tr_str(s.p + 3, s.n - 3);
    return s;
}

int tr_yaml_parse(struct tr_yaml **root, struct tr_arena *a,
                  struct tr_str text, const char *file, struct tr_err *err)
{
    struct parse p = {.arena = a, .file = file, .err = err};
    struct level levels[TR_YAML_DEPTH_MAX];
    yaml_parser_t parser;
    bool end = false;
    int depth = 0, rc = TR_OK;

    *root = NULL;
    p.text = without_bom(text);
    if (text.n > TR_TASK_BYTES_MAX)
        return tr_fail(err, TR_CONFIG,
                       "%s: larger than %u MiB; put examples into a file of "
                       "their own (examples_file:)",
                       file, TR_TASK_BYTES_MAX >> 20);
    if (!yaml_parser_initialize(&parser))
        return no_memory(&p);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(
        &parser, (const unsigned char *)(p.text.n ? p.text.p : ""), p.text.n);
    while (rc == TR_OK && !end) {
        yaml_event_t event;

        if (!yaml_parser_parse(&parser, &event)) {
            rc = fail_syntax(&p, &parser);
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        rc = take(&p, &event, levels, &depth, root);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (rc == TR_OK && !*root)
        rc = tr_fail(err, TR_CONFIG, "%s: the file is empty", file);
    if (rc != TR_OK)
        *root = NULL;
    return rc;
}

const struct tr_yaml *tr_yaml_get(const struct tr_yaml *map, const char *key)
{
    if (!map || map->kind != TR_YAML_MAP)
        return NULL;
    for (const struct tr_yaml *c = map->first; c; c = c->next)
        if (tr_str_eq_c(c->key, key))
            return c;
    return NULL;
}

bool tr_yaml_is_null(const struct tr_yaml *node)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};

    if (node->kind != TR_YAML_SCALAR || node->quoted)
        return false;
    for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
        if (tr_str_eq_c(node->value, nulls[i]))
            return true;
    return false;
}

bool tr_yaml_bool(const struct tr_yaml *node, bool *value)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"true", true}, {"false", false}, {"yes", true},
                 {"no", false},  {"on", true},     {"off", false},
                 {"True", true}, {"False", false}, {"TRUE", true},
                 {"FALSE", false}};

    if (node->kind != TR_YAML_SCALAR || node->quoted)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (tr_str_eq_c(node->value, words[i].word)) {
            *value = words[i].value;
            return true;
        }
    }
    return false;
}

struct tr_str tr_yaml_text(struct tr_arena *a, struct tr_str text,
                           const struct tr_yaml *node)
{
    size_t lines = (size_t)node->line - 1, spaces = (size_t)node->column - 1;
    struct tr_str body;
    char *p;

    text = without_bom(text);
    TR_ASSERT(node->from <= node->to && node->to <= text.n);
    body = tr_str(text.p + node->from, node->to - node->from);
    p = tr_arena_alloc(a, lines + spaces + body.n + 1);
    if (!p)
        return tr_str(NULL, 0);
    memset(p, '\n', lines);
    memset(p + lines, ' ', spaces);
    if (body.n)
        memcpy(p + lines + spaces, body.p, body.n);
    /* No line end of ours: a literal text at the end would have one more. */
    return tr_str(p, lines + spaces + body.n);
}
