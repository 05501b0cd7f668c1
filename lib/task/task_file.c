/* task_file.c - a task from its YAML file, with a place for every error.
 * SPDX-License-Identifier: MIT */
#include "task/building.h"

#include "base/bounds.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/yaml.h"

#include <errno.h>
#include <stdio.h>

struct reader {
    struct tr_task *task;
    struct tr_str text; /* of the whole file */
    const char *file;
    const char *const *option_names;
    size_t option_count;
    const struct tr_yaml *root;
    struct tr_err *err;
};

static struct tr_place at_node(const struct reader *r, const struct tr_yaml *n)
{
    return (struct tr_place){r->file, n->line, n->column};
}

static struct tr_place at_key(const struct reader *r, const struct tr_yaml *n)
{
    return (struct tr_place){r->file, n->key_line, n->key_column};
}

/* The scalar a key needs. */
static int need_text(struct reader *r, const struct tr_yaml *n,
                     struct tr_str *out)
{
    if (n->kind != TR_YAML_SCALAR)
        return tr_fail_at(r->err, at_node(r, n),
                          "'%s:' needs one text, not a %s", n->key.p,
                          n->kind == TR_YAML_MAP ? "map" : "list");
    if (tr_yaml_is_null(n))
        return tr_fail_at(r->err, at_key(r, n), "'%s:' has no value", n->key.p);
    *out = n->value;
    return TR_OK;
}

static int take_labels(struct reader *r, const struct tr_yaml *n)
{
    int rc;

    if (n->kind == TR_YAML_SCALAR)
        return tr_fail_at(r->err, at_key(r, n),
                          "'labels:' needs a list of names, or a map of names "
                          "to descriptions, one a line");
    TRY(tr_task_make_labels(r->task, n->count, at_key(r, n), r->err));
    for (const struct tr_yaml *c = n->first; c; c = c->next) {
        struct tr_str about = {0};

        if (c->kind == TR_YAML_MAP && c->count == 1 &&
            n->kind == TR_YAML_LIST) {
            rc = tr_fail_at(r->err, at_node(r, c),
                            "in a list a label has no description; remove the "
                            "'- ' before every label, or the ':' and what "
                            "follows");
            goto out;
        }
        if (c->kind != TR_YAML_SCALAR) {
            rc = tr_fail_at(r->err, at_node(r, c),
                            n->kind == TR_YAML_MAP
                             ? "the description of a label is one text"
                             : "a label is one name");
            goto out;
        }
        if (n->kind == TR_YAML_MAP && !tr_yaml_is_null(c))
            about = c->value;
        if (n->kind == TR_YAML_MAP)
            TRY(tr_task_add(r->task, c->key, about, at_key(r, c), r->err));
        else
            TRY(tr_task_add(r->task, c->value, about, at_node(r, c), r->err));
    }
out:
    return rc;
}

static int take_multiple(struct reader *r, const struct tr_yaml *n)
{
    if (!tr_yaml_bool(n, &r->task->multiple))
        return tr_fail_at(r->err, at_node(r, n),
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
        return tr_fail_at(r->err, at_node(r, n),
                          "'none:' is the name of the label for texts that no "
                          "other label fits, such as 'none: other'");
    }
    t->none = (int32_t)t->label_count;
    return tr_task_add(t, name, TR_STR(TR_NONE_DESCRIPTION), at_node(r, n),
                       r->err);
}

static int take_instruction(struct reader *r, const struct tr_yaml *n)
{
    struct tr_str text;
    int rc;

    TRY(need_text(r, n, &text));
    TRY(tr_task_keep(r->task, &r->task->instruction, tr_str_trim(text),
                     r->err));
out:
    return rc;
}

static int take_example(struct reader *r, const struct tr_yaml *n)
{
    static const char *const keys[] = {"text", "label"};
    const struct tr_yaml *text = tr_yaml_get(n, "text");
    const struct tr_yaml *label = tr_yaml_get(n, "label");
    struct tr_str name;
    struct tr_chosen c = {0};
    char near[100];
    uint64_t set;
    int rc = TR_OK;

    if (!text && !label)
        return tr_fail_at(r->err, at_node(r, n),
                          "an example is a map with 'text' and 'label'");
    for (const struct tr_yaml *m = n->first; m; m = m->next)
        if (m != text && m != label)
            return tr_fail_at(r->err, at_key(r, m),
                              "unknown key '%.60s' in an example%s", m->key.p,
                              tr_task_meant(near, sizeof near,
                                            tr_nearest(m->key, keys, 2)));
    if (!text || !label)
        return tr_fail_at(r->err, at_node(r, n), "this example has no '%s'",
                          text ? "label" : "text");
    if (text->kind != TR_YAML_SCALAR)
        return tr_fail_at(r->err, at_node(r, text),
                          "the text of an example is one text");
    if (label->kind == TR_YAML_LIST) {
        for (const struct tr_yaml *m = label->first; m && rc == TR_OK;
             m = m->next)
            rc = m->kind == TR_YAML_SCALAR
                     ? tr_task_choose(r->task, &c, m->value, at_node(r, m),
                                      r->err)
                     : tr_fail_at(r->err, at_node(r, m), "a label is one name");
        TRY(rc);
    } else {
        TRY(need_text(r, label, &name));
        TRY(tr_task_choose_all(r->task, &c, name, at_node(r, label), r->err));
    }
    TRY(tr_task_close(r->task, &c, &set, at_node(r, label), r->err));
    TRY(tr_task_push(r->task, text->value, set, at_node(r, text), r->err));
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
        return tr_fail_at(r->err, at_node(r, n),
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
        return tr_task_no_memory(r->err);
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
                rc = tr_fail_at(r->err, at_key(r, m),
                                "unknown key '%.60s' in 'examples_file:'%s",
                                m->key.p,
                                tr_task_meant(near, sizeof near,
                                              tr_nearest(m->key, keys, 3)));
                goto out;
            }
            TRY(need_text(r, m, &value[i]));
        }
    } else {
        TRY(need_text(r, n, &value[0]));
    }
    if (value[0].n == 0) {
        rc = tr_fail_at(r->err, at_node(r, n),
                        "'examples_file:' names no file");
        goto out;
    }
    TRY(keep_path(r, value[0], &f->path));
    TRY(tr_task_keep(r->task, &f->text_column, value[1], r->err));
    TRY(tr_task_keep(r->task, &f->label_column, value[2], r->err));
    f->line = n->line;
    f->column = n->column;
out:
    return rc;
}

static int take_providers(struct reader *r, const struct tr_yaml *n)
{
    if (n->kind != TR_YAML_MAP)
        return tr_fail_at(r->err, at_key(r, n),
                          "'providers:' is a map of names to their settings");
    for (const struct tr_yaml *row = n->first; row; row = row->next)
        r->task->names_servers |= tr_yaml_get(row, "base_url") ||
                                  tr_yaml_get(row, "base_url_env");
    r->task->providers_yaml = tr_yaml_text(&r->task->arena, r->text, n);
    return r->task->providers_yaml.p ? TR_OK : tr_task_no_memory(r->err);
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
        return tr_task_no_memory(r->err);
    for (size_t i = 0; i < count; i++)
        names[i] = i < KEY_COUNT ? KEYS[i].name
                                 : r->option_names[i - KEY_COUNT];
    rc = tr_fail_at(r->err, at_key(r, n), "unknown key '%.60s'%s", n->key.p,
                    tr_task_meant(near, sizeof near,
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
            return tr_fail_at(r->err, at_key(r, n), "'%s' stands twice", name);
    tr_buf_init(&b, TR_TASK_BYTES_MAX);
    if (n->kind == TR_YAML_LIST) {
        for (const struct tr_yaml *c = n->first; c; c = c->next) {
            if (c->kind != TR_YAML_SCALAR) {
                rc = tr_fail_at(r->err, at_node(r, c),
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
        rc = tr_task_no_memory(r->err);
        goto out;
    }
    TRY(tr_task_keep(r->task, &o->value, tr_buf_str(&b), r->err));
    TRY(tr_task_keep(r->task, &o->name, tr_str_c(name), r->err));
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
        return tr_task_no_memory(r->err);
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
        return tr_fail_at(r->err, at_node(r, r->root), "%s", hint);
    TRY(take_options(r)); /* first: a misspelt 'labels' is an unknown key */
    labels = tr_yaml_get(r->root, "labels");
    if (!labels)
        return tr_fail_at(r->err, at_node(r, r->root), "no 'labels:'; %s",
                          hint);
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct tr_yaml *n = tr_yaml_get(r->root, KEYS[i].name);

        if (KEYS[i].take == take_examples) {
            TRY(tr_task_index(r->task, at_key(r, labels), r->err));
            TRY(tr_task_first_digest(r->task, r->err));
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

    tr_task_init(task);
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
            rc = tr_task_no_memory(err);
            break;
        }
        n = fread(p, 1, 65536, f);
        b->n += n;
    }
    if (rc == TR_OK && ferror(f))
        rc = tr_fail(err, TR_NOINPUT, "the task file %s cannot be read: %s; "
                     "check the file and its disk", path, strerror(errno));
    fclose(f);
    return rc;
}

int tr_task_from_file(struct tr_task *task, const char *path,
                      const char *const *option_names, size_t option_count,
                      struct tr_err *err)
{
    struct tr_buf b;
    int rc;

    tr_task_init(task);
    tr_buf_init(&b, TR_TASK_BYTES_MAX + (1u << 20));
    TRY(read_file(path, &b, err));
    TRY(tr_task_from_text(task, tr_buf_str(&b), path, option_names,
                          option_count, err));
out:
    tr_buf_release(&b);
    return rc;
}
