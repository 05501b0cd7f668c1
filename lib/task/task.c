/* task.c - what the user decides: labels, instruction, examples; its digest.
 * SPDX-License-Identifier: MIT */
#include "task/task.h"

#include "base/bounds.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/utf8.h"
#include "base/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define NONE_DESCRIPTION "none of the other labels fits"

static int no_memory(struct tr_err *err)
{
    return tr_fail(err, TR_NOMEM, "out of memory for the task");
}

/* ---- names -------------------------------------------------------------- */

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static int cmp_nocase(struct tr_str a, struct tr_str b)
{
    for (size_t i = 0; i < a.n && i < b.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return lower(a.p[i]) < lower(b.p[i]) ? -1 : 1;
    return (a.n > b.n) - (a.n < b.n);
}

int32_t tr_task_label_nocase(const struct tr_task *task, struct tr_str name)
{
    uint32_t from = 0, to = task->label_count;

    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        uint32_t i = task->label_index[mid];
        int c = cmp_nocase(name, task->labels[i].name);

        if (c == 0)
            return (int32_t)i;
        if (c < 0)
            to = mid;
        else
            from = mid + 1;
    }
    return -1;
}

int32_t tr_task_label(const struct tr_task *task, struct tr_str name)
{
    int32_t i = tr_task_label_nocase(task, name);

    return i >= 0 && tr_str_eq(task->labels[i].name, name) ? i : -1;
}

static const char *nearest_label(const struct tr_task *task,
                                 struct tr_str name)
{
    const char **names = tr_array(task->label_count, sizeof(*names));
    const char *best = NULL;

    if (!names)
        return NULL; /* a suggestion is not worth an error of its own */
    for (uint32_t i = 0; i < task->label_count; i++)
        names[i] = task->labels[i].name.p;
    best = tr_nearest(name, names, task->label_count);
    tr_free(names);
    return best;
}

/* " (did you mean 'x'?)" or nothing. */
static const char *did_you_mean(char *out, size_t n, const char *name)
{
    out[0] = 0;
    if (name)
        snprintf(out, n, " (did you mean '%.80s'?)", name);
    return out;
}

/* C0, DEL, C1, and the line and paragraph separators of Unicode. */
static bool has_control(struct tr_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char *u = (const unsigned char *)s.p + i;
        size_t left = s.n - i;

        if (u[0] < 0x20 || u[0] == 0x7f ||
            (left > 1 && u[0] == 0xc2 && u[1] < 0xa0) ||
            (left > 2 && u[0] == 0xe2 && u[1] == 0x80 && (u[2] & 0xfe) == 0xa8))
            return true;
    }
    return false;
}

/* What is wrong with a label's name, or NULL. The rules keep a name safe in
 * answers (one line, '|' between several, '-' for none) and in the result
 * (a spreadsheet runs cells that begin with = + or @). */
static const char *label_fault(struct tr_str name)
{
    if (name.n == 0)
        return "is empty";
    if (name.n > TR_LABEL_BYTES_MAX)
        return "is longer than 200 bytes; use a short name and put the rest "
               "into its description";
    if (tr_utf8_valid(name) < name.n)
        return "is not valid UTF-8";
    if (has_control(name))
        return "has a line break, TAB or control character in it";
    if (tr_str_trim(name).n != name.n)
        return "has blanks around it";
    if (memchr(name.p, '|', name.n))
        return "has a '|' in it, which separates several labels";
    if (tr_str_eq_c(name, "-"))
        return "is '-', which stands for no label";
    if (strchr("=+@", name.p[0]))
        return "begins with = + or @, which a spreadsheet would run as a "
               "formula";
    return NULL;
}

/* ---- building ----------------------------------------------------------- */

/* Where in the file an error sentence points to. */
struct place {
    const char *file;
    int line, column; /* 0: no place in a file */
};

static int fail_at(struct tr_err *err, struct place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_at(struct tr_err *err, struct place at, const char *fmt, ...)
{
    char what[800];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (at.line == 0)
        return tr_fail(err, TR_CONFIG, "%s: %s", at.file, what);
    return tr_fail(err, TR_CONFIG, "%s:%d:%d: %s", at.file, at.line, at.column,
                   what);
}

static void init(struct tr_task *task)
{
    *task = (struct tr_task){.none = -1};
    tr_arena_init(&task->arena);
}

static int keep(struct tr_task *task, struct tr_str *out, struct tr_str s,
                struct tr_err *err)
{
    *out = tr_arena_dup(&task->arena, s);
    return out->p ? TR_OK : no_memory(err);
}

/* A text of the prompt that must stay on one line: every run of blanks and
 * line breaks becomes one space. */
static int keep_line(struct tr_task *task, struct tr_str *out, struct tr_str s,
                     struct tr_err *err)
{
    char *p;
    size_t n = 0;
    int rc = keep(task, out, tr_str_trim(s), err);

    if (rc != TR_OK)
        return rc;
    p = (char *)out->p; /* ours since a moment ago */
    for (size_t i = 0; i < out->n; i++) {
        bool blank = p[i] == '\n' || p[i] == '\r' || p[i] == '\t' ||
                     p[i] == ' ';

        if (!blank)
            p[n++] = p[i];
        else if (p[n - 1] != ' ')
            p[n++] = ' ';
    }
    p[n] = 0;
    out->n = n;
    return TR_OK;
}

/* Room for n labels and the one that `none:` may add. */
static int make_labels(struct tr_task *task, size_t n, struct place at,
                       struct tr_err *err)
{
    if (n > TR_LABELS_MAX)
        return fail_at(err, at, "%zu labels; at most %u are possible", n,
                       TR_LABELS_MAX);
    task->labels = tr_arena_alloc(&task->arena, (n + 1) * sizeof *task->labels);
    return task->labels ? TR_OK : no_memory(err);
}

static int add_label(struct tr_task *task, struct tr_str name,
                     struct tr_str description, struct place at,
                     struct tr_err *err)
{
    struct tr_label *l = &task->labels[task->label_count];
    const char *fault = label_fault(name);
    int rc;

    if (fault)
        return fail_at(err, at, "the label '%.*s' %s",
                       (int)(name.n < 60 ? name.n : 60), name.n ? name.p : "",
                       fault);
    TRY(keep(task, &l->name, name, err));
    TRY(keep_line(task, &l->description, description, err));
    task->label_count++;
out:
    return rc;
}

static int by_name(const void *a, const void *b)
{
    const struct tr_label *x = *(const struct tr_label *const *)a;
    const struct tr_label *y = *(const struct tr_label *const *)b;
    int c = cmp_nocase(x->name, y->name);

    return c ? c : (x > y) - (x < y);
}

/* Sorts the names for look-ups and refuses equal ones. */
static int index_labels(struct tr_task *task, struct place at,
                        struct tr_err *err)
{
    const struct tr_label **sorted;
    uint32_t n = task->label_count;
    int rc = TR_OK;

    if (n < 2)
        return fail_at(err, at,
                       "%s; give at least two labels to choose from",
                       n ? "only one label" : "no labels");
    sorted = tr_array(n, sizeof(*sorted));
    task->label_index =
        tr_arena_alloc(&task->arena, n * sizeof *task->label_index);
    task->singles = tr_arena_alloc(&task->arena, n * sizeof *task->singles);
    if (!sorted || !task->label_index || !task->singles) {
        rc = no_memory(err);
        goto out;
    }
    for (uint32_t i = 0; i < n; i++)
        sorted[i] = &task->labels[i];
    qsort(sorted, n, sizeof(*sorted), by_name);
    for (uint32_t i = 0; i < n; i++) {
        task->singles[i] = i;
        task->label_index[i] = (uint32_t)(sorted[i] - task->labels);
        if (i == 0 || cmp_nocase(sorted[i - 1]->name, sorted[i]->name) != 0)
            continue;
        rc = fail_at(err, at,
                     tr_str_eq(sorted[i - 1]->name, sorted[i]->name)
                         ? "the label '%s' stands twice"
                         : "the label '%s' and another differ only by case",
                     sorted[i]->name.p);
        goto out;
    }
out:
    tr_free(sorted);
    return rc;
}

/* ---- digest ------------------------------------------------------------- */

/* Every part with its length before it, so that no two tasks look alike. */
static void put(struct tr_buf *b, struct tr_str s)
{
    tr_buf_addf(b, "%zu:", s.n);
    tr_buf_adds(b, s);
    tr_buf_addc(b, ',');
}

/* Of all but the examples, which tr_task_add_example() chains on. */
static int first_digest(struct tr_task *task, struct tr_err *err)
{
    static const struct tr_key no_salt;
    struct tr_buf b;
    int rc = TR_OK;

    tr_buf_init(&b, 2 * TR_TASK_BYTES_MAX);
    tr_buf_addf(&b, "trommel task 1\nmultiple %d none %d labels %u\n",
                task->multiple, (int)task->none, task->label_count);
    put(&b, task->instruction);
    for (uint32_t i = 0; i < task->label_count; i++) {
        put(&b, task->labels[i].name);
        put(&b, task->labels[i].description);
    }
    if (tr_buf_ok(&b))
        task->digest = tr_digest(&no_salt, tr_buf_str(&b));
    else
        rc = no_memory(err);
    tr_buf_release(&b);
    return rc;
}

/* ---- examples ----------------------------------------------------------- */

static int unknown_label(const struct tr_task *task, struct tr_str name,
                         struct place at, struct tr_err *err)
{
    char near[100];

    return fail_at(err, at, "unknown label '%.*s'%s",
                   (int)(name.n < 80 ? name.n : 80), name.p,
                   did_you_mean(near, sizeof near, nearest_label(task, name)));
}

/* Collects label indices of one text. */
struct chosen {
    uint32_t *labels;
    uint32_t count, cap;
};

static int choose(const struct tr_task *task, struct chosen *c,
                  struct tr_str name, struct place at, struct tr_err *err)
{
    int32_t i = tr_task_label(task, name);

    if (i < 0)
        return unknown_label(task, name, at, err);
    if (c->count == c->cap) {
        uint32_t cap = c->cap ? c->cap * 2 : 8;
        uint32_t *labels = tr_resize(c->labels, cap * sizeof *labels);

        if (!labels)
            return no_memory(err);
        c->labels = labels;
        c->cap = cap;
    }
    c->labels[c->count++] = (uint32_t)i;
    return TR_OK;
}

/* Names joined by '|' where several are allowed. '-' is no label, which the
 * task's none label stands for where it has one. */
static int choose_joined(const struct tr_task *task, struct chosen *c,
                         struct tr_str joined, struct place at,
                         struct tr_err *err)
{
    struct tr_str rest = tr_str_trim(joined);
    bool more = true;
    int rc = TR_OK;

    if (task->multiple && tr_str_eq_c(rest, "-"))
        return TR_OK;
    while (more && rc == TR_OK) {
        const char *bar =
            task->multiple && rest.n ? memchr(rest.p, '|', rest.n) : NULL;
        size_t n = bar ? (size_t)(bar - rest.p) : rest.n;

        rc = choose(task, c, tr_str_trim(tr_str(rest.p, n)), at, err);
        more = bar != NULL;
        if (more)
            rest = tr_str(bar + 1, rest.n - n - 1);
    }
    return rc;
}

/* The set of what was chosen, if it makes sense. */
static int close_choice(struct tr_task *task, struct chosen *c, uint32_t *set,
                        struct place at, struct tr_err *err)
{
    int rc = TR_OK;

    if (c->count == 0 && task->none >= 0)
        rc = choose(task, c, task->labels[task->none].name, at, err);
    if (rc == TR_OK)
        rc = tr_task_set(task, c->labels, c->count, set, err);
    if (rc != TR_OK)
        return rc;
    if (*set == TR_SET_NOTHING && !task->multiple)
        return fail_at(err, at, "no label");
    if (*set == TR_SET_NOTHING || *set < task->label_count)
        return TR_OK;
    if (!task->multiple)
        return fail_at(err, at,
                       "several labels for one text need 'multiple: true'");
    for (uint32_t i = 0; i < c->count; i++)
        if (c->labels[i] == (uint32_t)task->none)
            return fail_at(err, at, "'%s' cannot stand beside other labels",
                           task->labels[task->none].name.p);
    return TR_OK;
}

int tr_task_set_parse(struct tr_task *task, struct tr_str text, uint32_t *set,
                      struct tr_err *err)
{
    struct place at = {"label set", 0, 0};
    struct chosen c = {0};
    int rc;

    TRY(choose_joined(task, &c, text, at, err));
    TRY(close_choice(task, &c, set, at, err));
out:
    tr_free(c.labels);
    return rc;
}

static int push_example(struct tr_task *task, struct tr_str text, uint32_t set,
                        struct place at, struct tr_err *err)
{
    struct tr_example *e;
    struct tr_buf b;
    int rc = TR_OK;

    if (tr_str_trim(text).n == 0)
        return fail_at(err, at, "the text of this example is empty");
    if (text.n > TR_TASK_BYTES_MAX ||
        task->arena.bytes > 3 * (size_t)TR_TASK_BYTES_MAX)
        return fail_at(err, at, "the examples are larger than %u MiB",
                       TR_TASK_BYTES_MAX >> 20);
    if (task->example_count == task->example_cap) {
        uint32_t cap = task->example_cap ? task->example_cap * 2 : 32;

        e = tr_resize(task->examples, cap * sizeof *e);
        if (!e)
            return no_memory(err);
        task->examples = e;
        task->example_cap = cap;
    }
    e = &task->examples[task->example_count];
    e->set = set;
    rc = keep(task, &e->text, text, err);
    if (rc != TR_OK)
        return rc;
    tr_buf_init(&b, 2 * TR_TASK_BYTES_MAX);
    tr_buf_addz(&b, "example\n");
    put(&b, text);
    tr_task_set_text(task, set, &b);
    if (tr_buf_ok(&b)) {
        task->digest = tr_digest(&task->digest, tr_buf_str(&b));
        task->example_count++;
    } else {
        rc = no_memory(err);
    }
    tr_buf_release(&b);
    return rc;
}

int tr_task_add_example(struct tr_task *task, struct tr_str text,
                        struct tr_str label, const char *where,
                        struct tr_err *err)
{
    struct place at = {where, 0, 0};
    struct chosen c = {0};
    uint32_t set;
    int rc;

    TRY(choose_joined(task, &c, label, at, err));
    TRY(close_choice(task, &c, &set, at, err));
    TRY(push_example(task, text, set, at, err));
out:
    tr_free(c.labels);
    return rc;
}

/* ---- the file ----------------------------------------------------------- */

struct reader {
    struct tr_task *task;
    struct tr_str text; /* of the whole file */
    const char *file;
    const char *const *option_names;
    size_t option_count;
    const struct tr_yaml *root;
    struct tr_err *err;
};

static struct place at_node(const struct reader *r, const struct tr_yaml *n)
{
    return (struct place){r->file, n->line, n->column};
}

static struct place at_key(const struct reader *r, const struct tr_yaml *n)
{
    return (struct place){r->file, n->key_line, n->key_column};
}

/* The scalar a key needs. */
static int need_text(struct reader *r, const struct tr_yaml *n,
                     struct tr_str *out)
{
    if (n->kind != TR_YAML_SCALAR)
        return fail_at(r->err, at_node(r, n),
                       "'%s:' needs one text, not a %s", n->key.p,
                       n->kind == TR_YAML_MAP ? "map" : "list");
    if (tr_yaml_is_null(n))
        return fail_at(r->err, at_key(r, n), "'%s:' has no value", n->key.p);
    *out = n->value;
    return TR_OK;
}

static int take_labels(struct reader *r, const struct tr_yaml *n)
{
    int rc;

    if (n->kind == TR_YAML_SCALAR)
        return fail_at(r->err, at_key(r, n),
                       "'labels:' needs a list of names, or a map of names "
                       "to descriptions, one a line");
    TRY(make_labels(r->task, n->count, at_key(r, n), r->err));
    for (const struct tr_yaml *c = n->first; c; c = c->next) {
        struct tr_str about = {0};

        if (c->kind == TR_YAML_MAP && c->count == 1 &&
            n->kind == TR_YAML_LIST) {
            rc = fail_at(r->err, at_node(r, c),
                         "in a list a label has no description; remove the "
                         "'- ' before every label, or the ':' and what "
                         "follows");
            goto out;
        }
        if (c->kind != TR_YAML_SCALAR) {
            rc = fail_at(r->err, at_node(r, c),
                         n->kind == TR_YAML_MAP
                             ? "the description of a label is one text"
                             : "a label is one name");
            goto out;
        }
        if (n->kind == TR_YAML_MAP && !tr_yaml_is_null(c))
            about = c->value;
        if (n->kind == TR_YAML_MAP)
            TRY(add_label(r->task, c->key, about, at_key(r, c), r->err));
        else
            TRY(add_label(r->task, c->value, about, at_node(r, c), r->err));
    }
out:
    return rc;
}

static int take_multiple(struct reader *r, const struct tr_yaml *n)
{
    if (!tr_yaml_bool(n, &r->task->multiple))
        return fail_at(r->err, at_node(r, n),
                       "'multiple:' is true or false");
    return TR_OK;
}

/* Comes after labels: one of them, or one more. */
static int take_none(struct reader *r, const struct tr_yaml *n)
{
    struct tr_task *t = r->task;
    struct tr_str name;
    bool word;
    int rc;

    if (tr_yaml_is_null(n))
        return TR_OK;
    rc = need_text(r, n, &name);
    if (rc != TR_OK)
        return rc;
    for (uint32_t i = 0; i < t->label_count; i++) {
        if (tr_str_eq(t->labels[i].name, name)) {
            t->none = (int32_t)i;
            return TR_OK;
        }
    }
    if (tr_yaml_bool(n, &word)) {
        if (!word)
            return TR_OK;
        return fail_at(r->err, at_node(r, n),
                       "'none:' is the name of the label for texts that no "
                       "other label fits, such as 'none: other'");
    }
    t->none = (int32_t)t->label_count;
    return add_label(t, name, TR_STR(NONE_DESCRIPTION), at_node(r, n), r->err);
}

static int take_instruction(struct reader *r, const struct tr_yaml *n)
{
    struct tr_str text;
    int rc;

    TRY(need_text(r, n, &text));
    TRY(keep(r->task, &r->task->instruction, tr_str_trim(text), r->err));
out:
    return rc;
}

static int take_example(struct reader *r, const struct tr_yaml *n)
{
    static const char *const keys[] = {"text", "label"};
    const struct tr_yaml *text = tr_yaml_get(n, "text");
    const struct tr_yaml *label = tr_yaml_get(n, "label");
    struct tr_str name;
    struct chosen c = {0};
    char near[100];
    uint32_t set;
    int rc = TR_OK;

    if (!text && !label)
        return fail_at(r->err, at_node(r, n),
                       "an example is a map with 'text' and 'label'");
    for (const struct tr_yaml *m = n->first; m; m = m->next)
        if (m != text && m != label)
            return fail_at(r->err, at_key(r, m),
                           "unknown key '%.60s' in an example%s", m->key.p,
                           did_you_mean(near, sizeof near,
                                        tr_nearest(m->key, keys, 2)));
    if (!text || !label)
        return fail_at(r->err, at_node(r, n), "this example has no '%s'",
                       text ? "label" : "text");
    if (text->kind != TR_YAML_SCALAR)
        return fail_at(r->err, at_node(r, text),
                       "the text of an example is one text");
    if (label->kind == TR_YAML_LIST) {
        for (const struct tr_yaml *m = label->first; m && rc == TR_OK;
             m = m->next)
            rc = m->kind == TR_YAML_SCALAR
                     ? choose(r->task, &c, m->value, at_node(r, m), r->err)
                     : fail_at(r->err, at_node(r, m), "a label is one name");
        TRY(rc);
    } else {
        TRY(need_text(r, label, &name));
        TRY(choose_joined(r->task, &c, name, at_node(r, label), r->err));
    }
    TRY(close_choice(r->task, &c, &set, at_node(r, label), r->err));
    TRY(push_example(r->task, text->value, set, at_node(r, text), r->err));
out:
    tr_free(c.labels);
    return rc;
}

static int take_examples(struct reader *r, const struct tr_yaml *n)
{
    int rc = TR_OK;

    if (tr_yaml_is_null(n))
        return TR_OK;
    if (n->kind != TR_YAML_LIST)
        return fail_at(r->err, at_node(r, n),
                       "'examples:' is a list of {text: ..., label: ...}; "
                       "for a file write 'examples_file: FILE'");
    for (const struct tr_yaml *c = n->first; c && rc == TR_OK; c = c->next)
        rc = take_example(r, c);
    return rc;
}

/* A path in a task file is beside the task file. */
static int keep_path(struct reader *r, struct tr_str path, struct tr_str *out)
{
    const char *slash = strrchr(r->file, '/');
    size_t folder = slash ? (size_t)(slash - r->file) + 1 : 0;
    char *p;

    if (path.n && path.p[0] == '/')
        folder = 0;
    p = tr_arena_alloc(&r->task->arena, folder + path.n + 1);
    if (!p)
        return no_memory(r->err);
    memcpy(p, r->file, folder);
    memcpy(p + folder, path.p, path.n);
    *out = tr_str(p, folder + path.n);
    return TR_OK;
}

static int take_examples_file(struct reader *r, const struct tr_yaml *n)
{
    static const char *const keys[] = {"file", "text", "label"};
    struct tr_task_examples_file *f = &r->task->examples_file;
    struct tr_str value[3] = {{0}, TR_STR("text"), TR_STR("label")};
    char near[100];
    int rc;

    if (n->kind == TR_YAML_MAP) {
        for (const struct tr_yaml *m = n->first; m; m = m->next) {
            size_t i = 0;

            while (i < 3 && !tr_str_eq_c(m->key, keys[i]))
                i++;
            if (i == 3) {
                rc = fail_at(r->err, at_key(r, m),
                             "unknown key '%.60s' in 'examples_file:'%s",
                             m->key.p,
                             did_you_mean(near, sizeof near,
                                          tr_nearest(m->key, keys, 3)));
                goto out;
            }
            TRY(need_text(r, m, &value[i]));
        }
    } else {
        TRY(need_text(r, n, &value[0]));
    }
    if (value[0].n == 0) {
        rc = fail_at(r->err, at_node(r, n), "'examples_file:' names no file");
        goto out;
    }
    TRY(keep_path(r, value[0], &f->path));
    TRY(keep(r->task, &f->text_column, value[1], r->err));
    TRY(keep(r->task, &f->label_column, value[2], r->err));
    f->line = n->line;
    f->column = n->column;
out:
    return rc;
}

static int take_providers(struct reader *r, const struct tr_yaml *n)
{
    if (n->kind != TR_YAML_MAP)
        return fail_at(r->err, at_key(r, n),
                       "'providers:' is a map of names to their settings");
    r->task->providers_yaml = tr_yaml_text(&r->task->arena, r->text, n);
    return r->task->providers_yaml.p ? TR_OK : no_memory(r->err);
}

/* The keys of the task itself, in the order in which they are read. */
static const struct {
    const char *name;
    int (*take)(struct reader *r, const struct tr_yaml *n);
} KEYS[] = {
    {"labels", take_labels},
    {"multiple", take_multiple},
    {"none", take_none},
    {"instruction", take_instruction},
    {"examples", take_examples},
    {"examples_file", take_examples_file},
    {"providers", take_providers},
};
#define KEY_COUNT (sizeof KEYS / sizeof *KEYS)

static bool same_but_dash(struct tr_str a, const char *b)
{
    if (a.n != strlen(b))
        return false;
    for (size_t i = 0; i < a.n; i++)
        if ((a.p[i] == '_' ? '-' : a.p[i]) != (b[i] == '_' ? '-' : b[i]))
            return false;
    return true;
}

static int unknown_key(struct reader *r, const struct tr_yaml *n)
{
    size_t count = KEY_COUNT + r->option_count;
    const char **names = tr_array(count, sizeof(*names));
    char near[100];
    int rc;

    if (!names)
        return no_memory(r->err);
    for (size_t i = 0; i < count; i++)
        names[i] = i < KEY_COUNT ? KEYS[i].name
                                 : r->option_names[i - KEY_COUNT];
    rc = fail_at(r->err, at_key(r, n), "unknown key '%.60s'%s", n->key.p,
                 did_you_mean(near, sizeof near,
                              tr_nearest(n->key, names, count)));
    tr_free(names);
    return rc;
}

/* A scalar, or a list joined by commas. */
static int take_option(struct reader *r, const struct tr_yaml *n,
                       const char *name)
{
    struct tr_task_option *o = &r->task->options[r->task->option_count];
    struct tr_buf b;
    int rc = TR_OK;

    for (uint32_t i = 0; i < r->task->option_count; i++)
        if (tr_str_eq_c(r->task->options[i].name, name))
            return fail_at(r->err, at_key(r, n), "'%s' stands twice", name);
    tr_buf_init(&b, TR_TASK_BYTES_MAX);
    if (n->kind == TR_YAML_LIST) {
        for (const struct tr_yaml *c = n->first; c; c = c->next) {
            if (c->kind != TR_YAML_SCALAR) {
                rc = fail_at(r->err, at_node(r, c),
                             "'%s:' is a value, or a list of values", name);
                goto out;
            }
            if (c != n->first)
                tr_buf_addc(&b, ',');
            tr_buf_adds(&b, c->value);
        }
    } else {
        struct tr_str value;

        TRY(need_text(r, n, &value));
        tr_buf_adds(&b, value);
    }
    if (!tr_buf_ok(&b)) {
        rc = no_memory(r->err);
        goto out;
    }
    TRY(keep(r->task, &o->value, tr_buf_str(&b), r->err));
    TRY(keep(r->task, &o->name, tr_str_c(name), r->err));
    o->line = n->line;
    o->column = n->column;
    r->task->option_count++;
out:
    tr_buf_release(&b);
    return rc;
}

/* All keys but the task's own. */
static int take_options(struct reader *r)
{
    struct tr_task *t = r->task;
    int rc = TR_OK;

    t->options = tr_arena_alloc(&t->arena,
                                (r->root->count + 1) * sizeof *t->options);
    if (!t->options)
        return no_memory(r->err);
    for (const struct tr_yaml *n = r->root->first; n && rc == TR_OK;
         n = n->next) {
        size_t i = 0;

        while (i < KEY_COUNT && !tr_str_eq_c(n->key, KEYS[i].name))
            i++;
        if (i < KEY_COUNT)
            continue;
        for (i = 0; i < r->option_count; i++)
            if (same_but_dash(n->key, r->option_names[i]))
                break;
        rc = i < r->option_count ? take_option(r, n, r->option_names[i])
                                 : unknown_key(r, n);
    }
    return rc;
}

static int read_root(struct reader *r)
{
    static const char hint[] =
        "a task file is a map of keys; the least is 'labels: [yes, no]'";
    const struct tr_yaml *labels;
    int rc;

    if (r->root->kind != TR_YAML_MAP)
        return fail_at(r->err, at_node(r, r->root), "%s", hint);
    TRY(take_options(r)); /* first: a misspelt 'labels' is an unknown key */
    labels = tr_yaml_get(r->root, "labels");
    if (!labels)
        return fail_at(r->err, at_node(r, r->root), "no 'labels:'; %s", hint);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct tr_yaml *n = tr_yaml_get(r->root, KEYS[i].name);

        if (KEYS[i].take == take_examples) {
            TRY(index_labels(r->task, at_key(r, labels), r->err));
            TRY(first_digest(r->task, r->err));
        }
        if (n)
            TRY(KEYS[i].take(r, n));
    }
out:
    return rc;
}

int tr_task_from_text(struct tr_task *task, struct tr_str text,
                      const char *name, const char *const *option_names,
                      size_t option_count, struct tr_err *err)
{
    struct reader r = {.task = task,
                       .text = text,
                       .file = name,
                       .option_names = option_names,
                       .option_count = option_count,
                       .err = err};
    struct tr_arena tree;
    struct tr_yaml *root;
    int rc;

    init(task);
    tr_arena_init(&tree);
    TRY(tr_yaml_parse(&root, &tree, text, name, err));
    r.root = root;
    TRY(read_root(&r));
out:
    tr_arena_release(&tree);
    if (rc != TR_OK)
        tr_task_release(task);
    return rc;
}

static int read_file(const char *path, struct tr_buf *b, struct tr_err *err)
{
    FILE *f = fopen(path, "rb");
    size_t n = 1;
    int rc = TR_OK;

    if (!f)
        return tr_fail(err, tr_errno_code(errno, TR_NOINPUT),
                       "the task file %s: %s; %s", path, strerror(errno),
                       tr_errno_remedy(errno,
                                       "check the name and its permissions"));
    while (n > 0 && b->n <= TR_TASK_BYTES_MAX) {
        char *p = tr_buf_room(b, 65536);

        if (!p) {
            rc = no_memory(err);
            break;
        }
        n = fread(p, 1, 65536, f);
        b->n += n;
    }
    if (rc == TR_OK && ferror(f))
        rc = tr_fail(err, TR_NOINPUT, "the task file %s: %s", path,
                     strerror(errno));
    fclose(f);
    return rc;
}

int tr_task_from_file(struct tr_task *task, const char *path,
                      const char *const *option_names, size_t option_count,
                      struct tr_err *err)
{
    struct tr_buf b;
    int rc;

    init(task);
    tr_buf_init(&b, TR_TASK_BYTES_MAX + (1u << 20));
    TRY(read_file(path, &b, err));
    TRY(tr_task_from_text(task, tr_buf_str(&b), path, option_names,
                          option_count, err));
out:
    tr_buf_release(&b);
    return rc;
}

int tr_task_from_labels(struct tr_task *task, const char *labels,
                        struct tr_err *err)
{
    struct place at = {"--labels", 0, 0};
    size_t n = 1;
    int rc;

    init(task);
    for (const char *p = labels; *p; p++)
        n += *p == ',';
    TRY(make_labels(task, n, at, err));
    for (const char *p = labels; p;) {
        const char *comma = strchr(p, ',');
        struct tr_str name = comma ? tr_str(p, (size_t)(comma - p))
                                   : tr_str_c(p);

        TRY(add_label(task, tr_str_trim(name), (struct tr_str){0}, at, err));
        p = comma ? comma + 1 : NULL;
    }
    TRY(index_labels(task, at, err));
    TRY(first_digest(task, err));
out:
    if (rc != TR_OK)
        tr_task_release(task);
    return rc;
}

void tr_task_release(struct tr_task *task)
{
    tr_free(task->examples);
    tr_free(task->sets);
    tr_free(task->set_buckets);
    tr_arena_release(&task->arena);
    init(task);
}
