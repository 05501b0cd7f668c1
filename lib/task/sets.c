/* sets.c - label sets: many labels on one text become one number.
 *
 * SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "task/task.h"

static int no_memory(struct tr_err *err)
{
    return tr_fail(err, TR_NOMEM, "out of memory for label sets");
}

static int up(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

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
    if (task->set_count == task->set_cap) {
        uint32_t cap = task->set_cap ? task->set_cap * 2 : 64;
        struct tr_set *sets;

        if (cap > 1u << 28)
            return no_memory(err);
        sets = tr_resize(task->sets, cap * sizeof *sets);
        if (!sets)
            return no_memory(err);
        task->sets = sets;
        task->set_cap = cap;
    }
    if (task->set_bucket_count < 2 * (task->set_count + 1)) {
        uint32_t n = task->set_bucket_count ? task->set_bucket_count * 2 : 256;
        uint32_t *buckets = tr_array(n, sizeof *buckets);

        if (!buckets)
            return no_memory(err);
        tr_free(task->set_buckets);
        task->set_buckets = buckets;
        task->set_bucket_count = n;
        for (uint32_t i = 0; i < task->set_count; i++)
            *find(task, task->sets[i].labels, task->sets[i].count) = i + 1;
    }
    return TR_OK;
}

static int intern(struct tr_task *task, const uint32_t *sorted, uint32_t count,
                  uint32_t *set, struct tr_err *err)
{
    uint32_t *slot, *copy;
    int rc;

    rc = grow(task, err);
    if (rc != TR_OK)
        return rc;
    slot = find(task, sorted, count);
    if (*slot == 0) {
        copy = tr_arena_alloc(&task->arena, count * sizeof *copy);
        if (!copy)
            return no_memory(err);
        memcpy(copy, sorted, count * sizeof *copy);
        task->sets[task->set_count] = (struct tr_set){copy, count};
        *slot = ++task->set_count;
    }
    *set = task->label_count + *slot - 1;
    return TR_OK;
}

int tr_task_set(struct tr_task *task, const uint32_t *labels, uint32_t count,
                uint32_t *set, struct tr_err *err)
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
    if (n == 0)
        *set = TR_SET_NOTHING;
    else if (n == 1)
        *set = sorted[0];
    else
        rc = intern(task, sorted, n, set, err);
    if (sorted != small)
        tr_free(sorted);
    return rc;
}

int tr_task_set_parse(struct tr_task *task, struct tr_str text, uint32_t *set,
                      struct tr_err *err)
{
    uint32_t *labels, n = 0;
    size_t bars = 0;
    int rc = TR_OK;

    for (size_t i = 0; i < text.n; i++)
        bars += text.p[i] == '|';
    labels = tr_array(bars + 1, sizeof *labels);
    if (!labels)
        return no_memory(err);
    for (bool nothing = tr_str_eq_c(text, "-"); !nothing && n <= bars; n++) {
        const char *bar = text.n ? memchr(text.p, '|', text.n) : NULL;
        size_t len = bar ? (size_t)(bar - text.p) : text.n;
        int32_t label = tr_task_label(task, tr_str(text.p, len));

        if (label < 0)
            TRY(tr_fail(err, TR_CONFIG, "no label set of this task: a label "
                        "is unknown"));
        labels[n] = (uint32_t)label;
        text = bar ? tr_str(bar + 1, text.n - len - 1) : text;
    }
    rc = tr_task_set(task, labels, n, set, err);
out:
    tr_free(labels);
    return rc;
}

uint32_t tr_task_set_labels(const struct tr_task *task, uint32_t set,
                            const uint32_t **labels)
{
    *labels = task->singles;
    if (set == TR_SET_NOTHING)
        return 0;
    if (set < task->label_count) {
        *labels = &task->singles[set];
        return 1;
    }
    TR_ASSERT(set - task->label_count < task->set_count);
    *labels = task->sets[set - task->label_count].labels;
    return task->sets[set - task->label_count].count;
}

void tr_task_set_text(const struct tr_task *task, uint32_t set,
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
