/* fuzz_answer.c - a model's answer: no label for a text whose id was not
 * echoed, none outside the set, the same whatever the order of the texts; a
 * cut answer never says what the whole does not; and answers in plain lines
 * mean what a simple reader finds.
 *
 * Input: a byte for the task, one for the number of texts, one whose lowest
 * bit says that the answer was cut, then the answer.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "base/buf.h"
#include "task/answer.h"

enum { ITEMS = 6, TASKS = 4, CUTS = 8 };

static struct tr_task tasks[TASKS];

static const struct tr_item items[ITEMS] = {
    {{"my card was charged twice", 25}, 417}, {{"it crashes", 10}, 230},
    {{"refund", 6}, 118}, {{"", 0}, 905}, {{"417 bug", 7}, 555},
    {{"caf\xc3\xa9\n\"x\"", 9}, 999}};

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const yaml[TASKS] = {
        "labels: [refund, bug, Question]\n",
        "labels: [refund, bug, Question]\nmultiple: true\n",
        "labels: [refund, bug, 'caf\xc3\xa9 au lait', \"a,b\"]\nnone: other\n"
        "multiple: true\n",
        /* Labels that look like something else. */
        "labels: ['417', 'A', 'A.', '\"q\"', '- x', 'id', 'none: 230', "
        "'[1]', 'json', '1. bug']\n"};
    struct tr_err err;

    (void)argc;
    (void)argv;
    for (int i = 0; i < TASKS; i++)
        CHECK(tr_task_from_text(&tasks[i], tr_str_c(yaml[i]), "t", NULL, 0,
                                &err) == TR_OK);
    return 0;
}

struct read {
    struct tr_answer answer;
    struct tr_item_answer out[ITEMS];
};

static struct read read_answer(struct tr_task *task, const struct tr_item *it,
                               size_t n, struct tr_str text, bool cut)
{
    struct read r;
    struct tr_err err;

    memset(&r, 0xa5, sizeof r);
    CHECK(tr_answer_read(&r.answer, r.out, task, it, n, text, cut, &err) ==
          TR_OK);
    CHECK(r.answer.ok + r.answer.missing + r.answer.invalid == n);
    CHECK(r.answer.forgiven <= r.answer.ok);
    CHECK(r.answer.is_void == (r.answer.void_why != NULL));
    for (size_t i = 0; i < n; i++) {
        if (r.answer.is_void)
            CHECK(r.out[i].result == TR_ITEM_MISSING);
        CHECK(r.out[i].result <= TR_ITEM_OK);
    }
    return r;
}

/* ---- what was said ---------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The text with its JSON escapes taken for what they mean, whatever they
 * stand in: more is said in it than in the text, never less. */
static void plain_text(struct tr_str s, struct tr_buf *out)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned point = 0;
        int k = 2;

        if (s.p[i] != '\\' || i + 1 == s.n) {
            tr_buf_addc(out, s.p[i]);
            continue;
        }
        if (s.p[i + 1] != 'u') {
            tr_buf_addc(out, s.p[++i]);
            continue;
        }
        while (k < 6 && i + (size_t)k < s.n && hex(s.p[i + (size_t)k]) >= 0)
            point = point << 4 | (unsigned)hex(s.p[i + (size_t)k++]);
        if (point < 0x80) {
            tr_buf_addc(out, (char)point);
        } else if (point < 0x800) {
            tr_buf_addc(out, (char)(0xc0 | point >> 6));
            tr_buf_addc(out, (char)(0x80 | (point & 0x3f)));
        } else {
            tr_buf_addc(out, (char)(0xe0 | point >> 12));
            tr_buf_addc(out, (char)(0x80 | (point >> 6 & 0x3f)));
            tr_buf_addc(out, (char)(0x80 | (point & 0x3f)));
        }
        i += (size_t)k - 1;
    }
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static bool says(struct tr_str text, struct tr_str word)
{
    for (size_t i = 0; i + word.n <= text.n; i++) {
        size_t k = 0;

        while (k < word.n && lower(text.p[i + k]) == lower(word.p[k]))
            k++;
        if (k == word.n)
            return true;
    }
    return false;
}

static bool says_z(struct tr_str text, const char *word)
{
    return says(text, tr_str_c(word));
}

static void check_said(const struct tr_task *task, const struct tr_item *item,
                       uint64_t set, struct tr_str raw, struct tr_str plain,
                       size_t n)
{
    const uint32_t *labels;
    uint32_t count = tr_task_set_labels(task, set, &labels);
    char id[12];

    snprintf(id, sizeof id, "%u", item->id);
    CHECK(n == 1 || says_z(raw, id) || says_z(plain, id));
    CHECK(task->multiple ? set != TR_SET_NOTHING || task->none < 0
                         : set < task->label_count);
    if (set != TR_SET_NOTHING)
        CHECK(count >= 1);
    for (uint32_t i = 0; i < count; i++) {
        struct tr_str name = task->labels[labels[i]].name;

        CHECK(labels[i] < task->label_count);
        CHECK(i == 0 || labels[i - 1] < labels[i]);
        CHECK(count == 1 || (int32_t)labels[i] != task->none);
        CHECK(says(raw, name) || says(plain, name) ||
              ((int32_t)labels[i] == task->none &&
               (says_z(plain, "-") || says_z(plain, "\xe2\x80\x93") ||
                says_z(plain, "\xe2\x80\x94") || says_z(plain, "["))));
    }
}

/* What the beginning of an answer says is not another label than that of the
 * whole. */
static void check_cut(struct tr_task *task, size_t n, const struct read *whole,
                      struct tr_str begin)
{
    struct read r = read_answer(task, items, n, begin, true);

    for (size_t i = 0; i < n; i++)
        if (r.out[i].result == TR_ITEM_OK &&
            whole->out[i].result == TR_ITEM_OK)
            CHECK(r.out[i].set == whole->out[i].set);
}

/* ---- plain lines ------------------------------------------------------ */

/* Every line "ID LABEL", ID drawn or not, LABEL as it stands in the set. */
static bool read_simply(const struct tr_task *task, size_t n,
                        struct tr_str text, uint32_t *sets, bool *is_void)
{
    *is_void = false;
    for (size_t i = 0; i < n; i++)
        sets[i] = UINT32_MAX;
    while (text.n) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t len = end ? (size_t)(end - text.p) : text.n, item = 0;
        struct tr_str line = tr_str(text.p, len);
        uint32_t label = 0, id = 0;

        if (!end || len < 5 || line.p[3] != ' ')
            return false;
        for (int i = 0; i < 3; i++) {
            if (line.p[i] < '0' + (i == 0) || line.p[i] > '9')
                return false;
            id = 10 * id + (uint32_t)(line.p[i] - '0');
        }
        line = tr_str(line.p + 4, len - 4);
        while (label < task->label_count &&
               !tr_str_eq(task->labels[label].name, line))
            label++;
        if (label == task->label_count)
            return false;
        while (item < n && items[item].id != id)
            item++;
        if (item == n || (sets[item] != UINT32_MAX && sets[item] != label))
            *is_void = true;
        else
            sets[item] = label;
        text = tr_str(end + 1, text.n - len - 1);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    struct tr_task *task = &tasks[fuzz_byte(&in) & (TASKS - 1)];
    size_t n = 1 + fuzz_byte(&in) % ITEMS, shift;
    bool cut = fuzz_byte(&in) & 1, is_void;
    struct tr_str text = fuzz_rest(&in);
    struct read whole = read_answer(task, items, n, text, cut), other;
    struct tr_item shuffled[ITEMS];
    uint32_t sets[ITEMS];
    struct tr_buf plain;

    tr_buf_init(&plain, 0);
    plain_text(text, &plain);
    for (size_t i = 0; i < n; i++)
        if (whole.out[i].result == TR_ITEM_OK)
            check_said(task, &items[i], whole.out[i].set, text,
                       tr_buf_str(&plain), n);
    tr_buf_release(&plain);

    shift = fuzz_draw(&in, n);
    for (size_t i = 0; i < n; i++)
        shuffled[(i + shift) % n] = items[i];
    other = read_answer(task, shuffled, n, text, cut);
    CHECK(other.answer.is_void == whole.answer.is_void);
    CHECK(other.answer.forgiven == whole.answer.forgiven);
    for (size_t i = 0; i < n; i++) {
        CHECK(other.out[(i + shift) % n].result == whole.out[i].result);
        if (whole.out[i].result == TR_ITEM_OK)
            CHECK(other.out[(i + shift) % n].set == whole.out[i].set);
    }

    check_cut(task, n, &whole, tr_str(text.p, fuzz_draw(&in, text.n + 1)));
    for (size_t i = 0, lines = 0; i < text.n && lines < CUTS; i++)
        if (text.p[i] == '\n') {
            check_cut(task, n, &whole, tr_str(text.p, i + 1));
            lines++;
        }

    /* The strange labels of the last task have lines of two meanings. */
    if (task != &tasks[TASKS - 1] &&
        read_simply(task, n, text, sets, &is_void)) {
        CHECK(whole.answer.is_void == is_void);
        for (size_t i = 0; i < n && !is_void; i++) {
            CHECK((whole.out[i].result == TR_ITEM_OK) ==
                  (sets[i] != UINT32_MAX));
            if (sets[i] != UINT32_MAX)
                CHECK(whole.out[i].set == sets[i]);
        }
    }
    return 0;
}
