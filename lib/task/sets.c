/* sets.c - label sets: many labels on one text become one number.
 *
 * A combination of no more labels than combos.c can number says by itself what
 * is in it, and nothing is kept of it. Larger ones are listed and get the
 * number of their place; in stores of earlier versions all are, those of the
 * examples first. So the list begins with the examples, goes on as the store
 * has it, and only larger combinations are added. Those cost memory, and have
 * a bound.
 *
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "base/mem.h"
#include "task/task.h"

enum {
    LISTED_BYTES = 64 /* of a set in the list, labels apart, with its slots */
};

static int no_memory(struct tr_err *err)
{
    return tr_fail(err, TR_NOMEM, "out of memory for label sets");
}

/* ---- the list ----------------------------------------------------------- */

/* FNV-1a over the indices: spreads well enough for a table of our own data. */
static uint32_t hash(const uint32_t *labels, uint32_t count)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (uint32_t i = 0; i < count; i++)
        h = (h ^ labels[i]) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ (h >> 32));
}

/* Slot of the set, or the empty slot where it belongs. */
static uint32_t *find(const struct tr_task *task, const uint32_t *labels,
                      uint32_t count)
{
    uint32_t mask = task->set_bucket_count - 1;

    for (uint32_t i = hash(labels, count) & mask;; i = (i + 1) & mask) {
        uint32_t *slot = &task->set_buckets[i];
        const struct tr_set *s;

        if (*slot == 0)
            return slot;
        s = &task->sets[*slot - 1];
        if (s->count == count &&
            memcmp(s->labels, labels, count * sizeof *labels) == 0)
            return slot;
    }
}

/* Room for one more set; the table stays at most half full. */
static int grow(struct tr_task *task, struct tr_err *err)
{
    uint32_t n = task->set_bucket_count ? task->set_bucket_count * 2 : 256;
    uint32_t *buckets;

    if (!tr_grow((void **)&task->sets, &task->set_cap,
                 (size_t)task->set_count + 1, sizeof *task->sets))
        return no_memory(err);
    if (task->set_bucket_count >= 2 * (task->set_count + 1))
        return TR_OK;
    buckets = tr_array(n, sizeof *buckets);
    if (!buckets)
        return no_memory(err);
    tr_free(task->set_buckets);
    task->set_buckets = buckets;
    task->set_bucket_count = n;
    for (uint32_t i = 0; i < task->set_count; i++)
        if (task->sets[i].labels)
            *find(task, task->sets[i].labels, task->sets[i].count) = i + 1;
    return TR_OK;
}

static uint64_t combo(const struct tr_task *task, const uint32_t *sorted,
                      uint32_t count)
{
    return TR_SET_COMBINED + tr_combos_number(&task->combos, sorted, count);
}

/* As it stands in the list, where it comes to stand if need be. */
static int in_list(struct tr_task *task, const uint32_t *sorted,
                   uint32_t count, uint64_t *set, struct tr_err *err)
{
    struct tr_set *s;
    uint32_t *slot;
    int rc = TR_OK;

    TRY(grow(task, err));
    slot = find(task, sorted, count);
    s = &task->sets[*slot ? *slot - 1 : task->set_count];
    if (*slot == 0) {
        *s = (struct tr_set){.set = task->label_count + task->set_count,
                             .count = count};
        s->labels = tr_arena_alloc(&task->arena, count * sizeof *s->labels);
        if (!s->labels)
            TRY(no_memory(err));
        memcpy(s->labels, sorted, count * sizeof *s->labels);
        if (count <= task->combos.most)
            s->set = combo(task, sorted, count);
        *slot = ++task->set_count;
    }
    *set = s->set;
out:
    return rc;
}

/* ---- labels into a set -------------------------------------------------- */

static int up(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* The combinations of this task can be numbered. */
static int ready(struct tr_task *task, struct tr_err *err)
{
    int rc = TR_OK;

    if (task->combined)
        return TR_OK;
    TRY(tr_combos_init(&task->combos, &task->arena, task->label_count,
                       task->combo_most, err));
    task->combined = tr_arena_alloc(&task->arena, task->combos.most *
                                                  sizeof *task->combined);
    if (!task->combined)
        rc = no_memory(err);
out:
    return rc;
}

/* What several labels are, sorted and each once. */
typedef int several(struct tr_task *task, const uint32_t *sorted,
                    uint32_t count, uint64_t *set, struct tr_err *err);

static int make_set(struct tr_task *task, const uint32_t *labels,
                    uint32_t count, several *make, uint64_t *set,
                    struct tr_err *err)
{
    uint32_t small[16], *sorted = small, n = 0;
    int rc = TR_OK;

    if (count > sizeof small / sizeof *small) {
        sorted = tr_array(count, sizeof *sorted);
        if (!sorted)
            return no_memory(err);
    }
    for (uint32_t i = 0; i < count; i++) {
        TR_ASSERT(labels[i] < task->label_count);
        sorted[i] = labels[i];
    }
    if (count > 1)
        qsort(sorted, count, sizeof *sorted, up);
    for (uint32_t i = 0; i < count; i++)
        if (n == 0 || sorted[n - 1] != sorted[i])
            sorted[n++] = sorted[i];
    *set = n ? sorted[0] : TR_SET_NOTHING;
    if (n > 1) {
        TRY(ready(task, err));
        TRY(make(task, sorted, n, set, err));
    }
out:
    if (sorted != small)
        tr_free(sorted);
    return rc;
}

/* What a larger one costs counts for the bound. */
static int in_list_counted(struct tr_task *task, const uint32_t *sorted,
                           uint32_t count, uint64_t *set, struct tr_err *err)
{
    uint32_t before = task->set_count;
    int rc = in_list(task, sorted, count, set, err);

    if (rc == TR_OK && task->set_count > before)
        task->set_bytes += LISTED_BYTES + count * sizeof *sorted;
    return rc;
}

static int answered(struct tr_task *task, const uint32_t *sorted,
                    uint32_t count, uint64_t *set, struct tr_err *err)
{
    if (count <= task->combos.most) {
        *set = combo(task, sorted, count);
        return TR_OK;
    }
    if (task->set_bytes >= TR_SETS_BYTES)
        return tr_fail(err, TR_CONFIG, "too many combinations of more than %u "
                       "labels", (unsigned)task->combos.most);
    return in_list_counted(task, sorted, count, set, err);
}

int tr_task_set(struct tr_task *task, const uint32_t *labels, uint32_t count,
                uint64_t *set, struct tr_err *err)
{
    return make_set(task, labels, count, answered, set, err);
}

int tr_task_set_of_example(struct tr_task *task, const uint32_t *labels,
                           uint32_t count, uint64_t *set, struct tr_err *err)
{
    return make_set(task, labels, count, in_list, set, err);
}

bool tr_task_sets_full(const struct tr_task *task)
{
    return task->set_bytes >= TR_SETS_BYTES / 2;
}

/* ---- as the store has them ---------------------------------------------- */

/* The next place of the list is taken in any case. */
static int restored(struct tr_task *task, const uint32_t *sorted,
                    uint32_t count, uint64_t *set, struct tr_err *err)
{
    uint32_t place = task->set_count;
    int rc = TR_OK;

    TRY(grow(task, err));
    if (count > task->combos.most)
        TRY(in_list_counted(task, sorted, count, set, err));
    else
        *set = combo(task, sorted, count);
    if (task->set_count == place)
        task->sets[task->set_count++] = (struct tr_set){.set = *set};
out:
    return rc;
}

int tr_task_set_restore(struct tr_task *task, struct tr_str names,
                        struct tr_err *err)
{
    uint32_t *labels, n = 0, place = task->set_count;
    size_t bars = 0;
    uint64_t set;
    int rc = TR_OK;

    for (size_t i = 0; i < names.n; i++)
        bars += names.p[i] == '|';
    labels = tr_array(bars + 1, sizeof *labels);
    if (!labels)
        return no_memory(err);
    while (n <= bars) {
        const char *bar = names.n ? memchr(names.p, '|', names.n) : NULL;
        size_t len = bar ? (size_t)(bar - names.p) : names.n;
        int32_t label = tr_task_label(task, tr_str(names.p, len));

        if (label < 0)
            break;
        labels[n++] = (uint32_t)label;
        names = bar ? tr_str(bar + 1, names.n - len - 1) : names;
    }
    if (n > bars)
        TRY(make_set(task, labels, n, restored, &set, err));
    if (task->set_count == place)
        rc = tr_fail(err, TR_CONFIG, "the store lists labels that this task "
                     "does not have: choose another with --store");
out:
    tr_free(labels);
    return rc;
}

int tr_task_set_stored(struct tr_task *task, uint64_t *set, struct tr_err *err)
{
    uint64_t place = *set - task->label_count;
    int rc = TR_OK;

    if (*set < task->label_count || *set == TR_SET_NOTHING)
        return TR_OK;
    TRY(ready(task, err));
    if (*set >= TR_SET_COMBINED && *set - TR_SET_COMBINED < task->combos.count)
        return TR_OK;
    if (*set >= TR_SET_COMBINED || place >= task->set_count)
        TRY(tr_fail(err, TR_CONFIG, "an answer in the store has labels that "
                    "this task does not have: the file was changed or damaged; "
                    "restore it, or move it away to begin anew"));
    *set = task->sets[place].set;
out:
    return rc;
}

/* ---- a set into labels -------------------------------------------------- */

uint32_t tr_task_set_labels(const struct tr_task *task, uint64_t set,
                            const uint32_t **labels)
{
    *labels = task->singles;
    if (set == TR_SET_NOTHING)
        return 0;
    if (set < task->label_count) {
        *labels = &task->singles[set];
        return 1;
    }
    *labels = task->combined;
    if (set >= TR_SET_COMBINED)
        return tr_combos_labels(&task->combos, set - TR_SET_COMBINED,
                                task->combined);
    set -= task->label_count;
    TR_ASSERT(set < task->set_count && task->sets[set].labels);
    *labels = task->sets[set].labels;
    return task->sets[set].count;
}

void tr_task_set_text(const struct tr_task *task, uint64_t set,
                      struct tr_buf *out)
{
    const uint32_t *labels;
    uint32_t n = tr_task_set_labels(task, set, &labels);

    if (n == 0)
        tr_buf_addc(out, '-');
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            tr_buf_addc(out, '|');
        tr_buf_adds(out, task->labels[labels[i]].name);
    }
}
