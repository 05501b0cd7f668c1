/* fuzz_task.c - a task file: an error that names a place in it, or a task
 * that, written out in one plain form, is the same task again.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "base/buf.h"
#include "task/prompt.h"

static const char *const options[] = {"model", "budget", "max-wait", "text"};

/* A scalar in double quotes, all but plain ASCII escaped. */
static void put(struct tr_buf *b, struct tr_str s)
{
    CHECK(fuzz_utf8_valid(s) == s.n);
    tr_buf_addc(b, '"');
    for (size_t i = 0; i < s.n;) {
        const unsigned char *u = (const unsigned char *)s.p + i;
        size_t n = u[0] < 0x80 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
        uint32_t point = n == 1 ? u[0] : u[0] & (0xffu >> (n + 1));

        for (size_t k = 1; k < n; k++)
            point = point << 6 | (u[k] & 0x3f);
        if (point >= 0x20 && point < 0x7f && point != '"' && point != '\\')
            tr_buf_addc(b, (char)point);
        else
            tr_buf_addf(b, "\\U%08X", (unsigned)point);
        i += n;
    }
    tr_buf_addc(b, '"');
}

static void write_plainly(struct tr_buf *b, const struct tr_task *t)
{
    tr_buf_addz(b, "labels:\n");
    for (uint32_t i = 0; i < t->label_count; i++) {
        tr_buf_addz(b, "  ? ");
        put(b, t->labels[i].name);
        tr_buf_addz(b, "\n  : ");
        put(b, t->labels[i].description);
        tr_buf_addz(b, "\n");
    }
    tr_buf_addf(b, "multiple: %s\n", t->multiple ? "true" : "false");
    if (t->none >= 0) {
        tr_buf_addz(b, "none: ");
        put(b, t->labels[t->none].name);
        tr_buf_addz(b, "\n");
    }
    tr_buf_addz(b, "instruction: ");
    put(b, t->instruction);
    tr_buf_addz(b, "\nexamples:\n");
    for (uint32_t i = 0; i < t->example_count; i++) {
        struct tr_buf set;

        tr_buf_init(&set, 0);
        tr_task_set_text(t, t->examples[i].set, &set);
        tr_buf_addz(b, "- text: ");
        put(b, t->examples[i].text);
        tr_buf_addz(b, "\n  label: ");
        put(b, tr_buf_str(&set));
        tr_buf_addz(b, "\n");
        tr_buf_release(&set);
    }
}

static void check_labels(const struct tr_task *t)
{
    CHECK(t->label_count >= 2 && t->none < (int32_t)t->label_count);
    for (uint32_t i = 0; i < t->label_count; i++) {
        struct tr_str name = t->labels[i].name;
        struct tr_buf text;

        CHECK(name.n && name.n <= TR_LABEL_BYTES_MAX);
        CHECK(fuzz_is_plain(name.p) && !memchr(name.p, '|', name.n));
        CHECK(!memchr(t->labels[i].description.p, '\n',
                      t->labels[i].description.n));
        CHECK(tr_task_label(t, name) == (int32_t)i);
        CHECK(tr_task_label_like(t, name) == (int32_t)i);
        tr_buf_init(&text, 0);
        tr_task_set_text(t, i, &text);
        CHECK(tr_str_eq(tr_buf_str(&text), name));
        tr_buf_release(&text);
    }
}

static void check_prompt(const struct tr_task *t)
{
    static const struct tr_item items[] = {{{"a\nb\x1b", 4}, 417},
                                           {{"", 0}, 230}};
    struct tr_buf b;

    for (int form = TR_FORM_LINES; form <= TR_FORM_SCHEMA; form++) {
        tr_buf_init(&b, 0);
        tr_prompt_system(&b, t, (enum tr_form)form);
        CHECK(tr_buf_ok(&b) && fuzz_utf8_valid(tr_buf_str(&b)) == b.n);
        tr_buf_clear(&b);
        tr_prompt_user(&b, t, (enum tr_form)form, items, 2);
        CHECK(tr_buf_ok(&b) && fuzz_utf8_valid(tr_buf_str(&b)) == b.n);
        CHECK(tr_prompt_cap(t, (enum tr_form)form, 2) > 0);
        tr_buf_release(&b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const size_t option_count = sizeof options / sizeof *options;
    struct tr_str text = tr_str((const char *)data, n);
    struct tr_task task, again;
    struct tr_err err = {0};
    struct tr_buf plain;
    int rc = tr_task_from_text(&task, text, "d/task.yaml", options,
                               option_count, &err);

    if (rc != TR_OK) {
        fuzz_check_error(&err, rc, "d/task.yaml", text);
        return 0;
    }
    check_labels(&task);
    check_prompt(&task);
    for (uint32_t i = 0; i < task.option_count; i++)
        CHECK(task.options[i].line >= 1 &&
              (size_t)task.options[i].line <= fuzz_lines(text));
    tr_buf_init(&plain, 0);
    write_plainly(&plain, &task);
    rc = tr_task_from_text(&again, tr_buf_str(&plain), "plain", NULL, 0, &err);
    CHECK(rc == TR_OK);
    CHECK(memcmp(&task.digest, &again.digest, sizeof task.digest) == 0);
    CHECK(again.example_count == task.example_count);
    CHECK(again.set_count <= task.set_count);
    tr_task_release(&again);
    tr_task_release(&task);
    tr_buf_release(&plain);
    return 0;
}
