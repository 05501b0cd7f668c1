/* task.c - what the user decides: labels, instruction, examples; its digest.
 * SPDX-License-Identifier: MIT */
#include "task/building.h"

#include "base/bounds.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>

int tr_task_no_memory(struct tr_err *err)
{
    return tr_fail(err, TR_NOMEM, "out of memory for the task");
}

/* ---- names -------------------------------------------------------------- */

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

/* The next byte of a name as it counts, or END: ASCII case does not, nor how
 * many blanks there are, and of which kind. */
static int next_folded(struct tr_str *s)
{
    enum { END = -1 };
    bool blank = false, wide;
    size_t n;

    while ((n = tr_utf8_blank(*s, &wide)) > 0) {
        blank = blank || wide;
        *s = tr_str(s->p + n, s->n - n);
    }
    if (blank)
        return ' ';
    if (!s->n)
        return END;
    *s = tr_str(s->p + 1, s->n - 1);
    return lower(s->p[-1]);
}

static int cmp_folded(struct tr_str a, struct tr_str b)
{
    int x, y;

    do {
        x = next_folded(&a);
        y = next_folded(&b);
    } while (x == y && x >= 0);
    return (x > y) - (x < y);
}

int32_t tr_task_label_like(const struct tr_task *task, struct tr_str name)
{
    uint32_t from = 0, to = task->label_count;

    while (from < to) {
        uint32_t mid = from + (to - from) / 2;
        uint32_t i = task->label_index[mid];
        int c = cmp_folded(name, task->labels[i].name);

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
    int32_t i = tr_task_label_like(task, name);

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

const char *tr_task_meant(char *out, size_t n, const char *name)
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
    if (tr_utf8_trim(name).n != name.n)
        return "has an invisible character at its beginning or end (a "
               "non-breaking space, say)";
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

int tr_fail_at(struct tr_err *err, struct tr_place at, const char *fmt, ...)
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

void tr_task_init(struct tr_task *task)
{
    *task = (struct tr_task){.none = -1, .combo_most = UINT32_MAX};
    tr_arena_init(&task->arena);
}

int tr_task_keep(struct tr_task *task, struct tr_str *out, struct tr_str s,
                 struct tr_err *err)
{
    *out = tr_arena_dup(&task->arena, s);
    return out->p ? TR_OK : tr_task_no_memory(err);
}

/* A text of the prompt that must stay on one line: every run of blanks and
 * line breaks becomes one space. */
static int keep_line(struct tr_task *task, struct tr_str *out, struct tr_str s,
                     struct tr_err *err)
{
    char *p;
    size_t n = 0;
    int rc = tr_task_keep(task, out, tr_str_trim(s), err);

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

int tr_task_make_labels(struct tr_task *task, size_t n, struct tr_place at,
                        struct tr_err *err)
{
    if (n > TR_LABELS_MAX)
        return tr_fail_at(err, at, "%zu labels; at most %u are possible", n,
                          TR_LABELS_MAX);
    task->labels = tr_arena_alloc(&task->arena, (n + 1) * sizeof *task->labels);
    return task->labels ? TR_OK : tr_task_no_memory(err);
}

int tr_task_add(struct tr_task *task, struct tr_str name,
                struct tr_str description, struct tr_place at,
                struct tr_err *err)
{
    struct tr_label *l = &task->labels[task->label_count];
    const char *fault = label_fault(name);
    int rc;

    if (fault)
        return tr_fail_at(err, at, "the label '%.*s' %s",
                          (int)(name.n < 60 ? name.n : 60),
                           name.n ? name.p : "",
                          fault);
    TRY(tr_task_keep(task, &l->name, name, err));
    TRY(keep_line(task, &l->description, description, err));
    task->label_count++;
out:
    return rc;
}

static int by_name(const void *a, const void *b)
{
    const struct tr_label *x = *(const struct tr_label *const *)a;
    const struct tr_label *y = *(const struct tr_label *const *)b;
    int c = cmp_folded(x->name, y->name);

    return c ? c : (x > y) - (x < y);
}

int tr_task_index(struct tr_task *task, struct tr_place at,
                  struct tr_err *err)
{
    const struct tr_label **sorted;
    uint32_t n = task->label_count;
    int rc = TR_OK;

    if (n < 2)
        return tr_fail_at(err, at,
                          "%s; give at least two labels to choose from",
                          n ? "only one label" : "no labels");
    sorted = tr_array(n, sizeof(*sorted));
    task->label_index =
        tr_arena_alloc(&task->arena, n * sizeof *task->label_index);
    task->singles = tr_arena_alloc(&task->arena, n * sizeof *task->singles);
    if (!sorted || !task->label_index || !task->singles) {
        rc = tr_task_no_memory(err);
        goto out;
    }
    for (uint32_t i = 0; i < n; i++)
        sorted[i] = &task->labels[i];
    qsort(sorted, n, sizeof(*sorted), by_name);
    for (uint32_t i = 0; i < n; i++) {
        task->singles[i] = i;
        task->label_index[i] = (uint32_t)(sorted[i] - task->labels);
        if (i == 0 || cmp_folded(sorted[i - 1]->name, sorted[i]->name) != 0)
            continue;
        rc = tr_fail_at(err, at,
                        tr_str_eq(sorted[i - 1]->name, sorted[i]->name)
                         ? "the label '%s' stands twice"
                         : "the label '%s' and another differ only by case "
                           "or blanks",
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

int tr_task_first_digest(struct tr_task *task, struct tr_err *err)
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
        rc = tr_task_no_memory(err);
    tr_buf_release(&b);
    return rc;
}

/* ---- examples ----------------------------------------------------------- */

static int unknown_label(const struct tr_task *task, struct tr_str name,
                         struct tr_place at, struct tr_err *err)
{
    char near[100];

    return tr_fail_at(err, at, "unknown label '%.*s'%s",
                      (int)(name.n < 80 ? name.n : 80), name.p,
                      tr_task_meant(near, sizeof near,
                                     nearest_label(task, name)));
}

/* Collects label indices of one text. */
int tr_task_choose(const struct tr_task *task, struct tr_chosen *c,
                   struct tr_str name, struct tr_place at, struct tr_err *err)
{
    int32_t i = tr_task_label(task, name);

    if (i < 0)
        return unknown_label(task, name, at, err);
    if (c->count == c->cap) {
        uint32_t cap = c->cap ? c->cap * 2 : 8;
        uint32_t *labels = tr_resize(c->labels, cap * sizeof *labels);

        if (!labels)
            return tr_task_no_memory(err);
        c->labels = labels;
        c->cap = cap;
    }
    c->labels[c->count++] = (uint32_t)i;
    return TR_OK;
}

int tr_task_choose_all(const struct tr_task *task, struct tr_chosen *c,
                       struct tr_str joined, struct tr_place at,
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

        rc = tr_task_choose(task, c, tr_str_trim(tr_str(rest.p, n)), at, err);
        more = bar != NULL;
        if (more)
            rest = tr_str(bar + 1, rest.n - n - 1);
    }
    return rc;
}

int tr_task_close(struct tr_task *task, struct tr_chosen *c, uint64_t *set,
                  struct tr_place at, struct tr_err *err)
{
    int rc = TR_OK;

    if (c->count == 0 && task->none >= 0)
        rc = tr_task_choose(task, c, task->labels[task->none].name, at, err);
    if (rc == TR_OK)
        rc = tr_task_set_of_example(task, c->labels, c->count, set, err);
    if (rc != TR_OK)
        return rc;
    if (*set == TR_SET_NOTHING && !task->multiple)
        return tr_fail_at(err, at, "no label");
    if (*set == TR_SET_NOTHING || *set < task->label_count)
        return TR_OK;
    if (!task->multiple)
        return tr_fail_at(err, at,
                          "several labels for one text need 'multiple: true'");
    for (uint32_t i = 0; i < c->count; i++)
        if (c->labels[i] == (uint32_t)task->none)
            return tr_fail_at(err, at, "'%s' cannot stand beside other labels",
                              task->labels[task->none].name.p);
    return TR_OK;
}

int tr_task_push(struct tr_task *task, struct tr_str text, uint64_t set,
                 struct tr_place at, struct tr_err *err)
{
    struct tr_example *e;
    struct tr_buf b;
    int rc = TR_OK;

    if (tr_str_trim(text).n == 0)
        return tr_fail_at(err, at, "the text of this example is empty");
    if (text.n > TR_TASK_BYTES_MAX ||
        task->arena.bytes > 3 * (size_t)TR_TASK_BYTES_MAX)
        return tr_fail_at(err, at, "the examples are larger than %u MiB",
                          TR_TASK_BYTES_MAX >> 20);
    if (task->example_count == task->example_cap) {
        uint32_t cap = task->example_cap ? task->example_cap * 2 : 32;

        e = tr_resize(task->examples, cap * sizeof *e);
        if (!e)
            return tr_task_no_memory(err);
        task->examples = e;
        task->example_cap = cap;
    }
    e = &task->examples[task->example_count];
    e->set = set;
    rc = tr_task_keep(task, &e->text, text, err);
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
        rc = tr_task_no_memory(err);
    }
    tr_buf_release(&b);
    return rc;
}

int tr_task_add_example(struct tr_task *task, struct tr_str text,
                        struct tr_str label, const char *where,
                        struct tr_err *err)
{
    struct tr_place at = {where, 0, 0};
    struct tr_chosen c = {0};
    uint64_t set;
    int rc;

    TRY(tr_task_choose_all(task, &c, label, at, err));
    TRY(tr_task_close(task, &c, &set, at, err));
    TRY(tr_task_push(task, text, set, at, err));
out:
    tr_free(c.labels);
    return rc;
}

/* ---- labels alone ------------------------------------------------------- */

int tr_task_from_labels(struct tr_task *task, const char *labels,
                        struct tr_err *err)
{
    struct tr_place at = {"--labels", 0, 0};
    size_t n = 1;
    int rc;

    tr_task_init(task);
    for (const char *p = labels; *p; p++)
        n += *p == ',';
    if (n == 1 && *labels)
        TRY(tr_fail_at(err, at, "only one label; give at least two, in one "
                       "word with commas between: --labels "
                       "refund,bug,question"));
    TRY(tr_task_make_labels(task, n, at, err));
    for (const char *p = labels; p;) {
        const char *comma = strchr(p, ',');
        struct tr_str name = comma ? tr_str(p, (size_t)(comma - p))
                                   : tr_str_c(p);

        TRY(tr_task_add(task, tr_str_trim(name), (struct tr_str){0}, at, err));
        p = comma ? comma + 1 : NULL;
    }
    TRY(tr_task_index(task, at, err));
    TRY(tr_task_first_digest(task, err));
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
    tr_task_init(task);
}
