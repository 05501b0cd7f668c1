/* test_task.c - task files: what they mean, and the sentence for each fault.
 * SPDX-License-Identifier: MIT */
#include "task/task.h"

#include "base/bounds.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/near.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const char *const OPTIONS[] = {"model", "base-url", "budget", "text",
                                      "max-wait"};

static int read_text(struct tr_task *task, const char *text,
                     struct tr_err *err)
{
    return tr_task_from_text(task, tr_str_c(text), "dir/t.yaml", OPTIONS,
                             COUNT(OPTIONS), err);
}

static void labels_from_the_command_line(void **state)
{
    static const struct {
        const char *labels, *want;
    } faults[] = {
        {"", "--labels: the label '' is empty"},
        {"a", "--labels: only one label; give at least two, in one word with "
         "commas between: --labels refund,bug,question"},
        {"a,,b", "--labels: the label '' is empty"},
        {"a,b,a", "--labels: the label 'a' stands twice"},
        {"a,b,A", "--labels: the label 'A' and another differ only by case"},
        {"a b,c,a\xc2\xa0" "B", "--labels: the label 'a\xc2\xa0" "B' and "
         "another differ only by case or blanks"},
        {"a,b|c", "--labels: the label 'b|c' has a '|' in it"},
        {"a,-", "--labels: the label '-' is '-'"},
        {"a,=1+1", "--labels: the label '=1+1' begins with = + or @"},
        {"a,b\nc", "--labels: the label 'b?c' has a line break"},
        {"a,\xff", "--labels: the label '?' is not valid UTF-8"},
        {"a,\xed\xa0\x80", "--labels: the label '?" "?" "?' is not valid"},
    };
    struct tr_task task;
    struct tr_err err;

    (void)state;
    assert_int_equal(
        tr_task_from_labels(&task, "refund, bug ,gr\xc3\xbc\xc3\x9f" "e", &err),
        0);
    assert_int_equal(task.label_count, 3);
    assert_string_equal(task.labels[1].name.p, "bug");
    assert_int_equal(tr_task_label(&task, TR_STR("bug")), 1);
    assert_int_equal(tr_task_label(&task, TR_STR("Bug")), -1);
    assert_int_equal(tr_task_label_like(&task, TR_STR("Bug")), 1);
    assert_int_equal(tr_task_label_like(&task, TR_STR("bu")), -1);
    assert_int_equal(task.none, -1);
    tr_task_release(&task);
    for (size_t i = 0; i < COUNT(faults); i++) {
        assert_int_equal(tr_task_from_labels(&task, faults[i].labels, &err),
                         TR_CONFIG);
        if (strncmp(err.text, faults[i].want, strlen(faults[i].want)) != 0)
            fail_msg("%s: \"%s\"", faults[i].labels, err.text);
    }
}

static void a_whole_file(void **state)
{
    static const char text[] =
        "instruction: >\n"
        "  Sort customer messages\n"
        "  by what the customer needs.\n"
        "labels:\n"
        "  refund: wants money back\n"
        "  bug:\n"
        "  question: >\n"
        "    asks how\n"
        "    to do something\n"
        "examples:\n"
        "  - {text: \"I was charged twice\", label: refund}\n"
        "  - text: |\n"
        "      Hello,\n"
        "      what now?\n"
        "    label: other\n"
        "examples_file: more.csv\n"
        "none: other\n"
        "model: openai/x\n"
        "base_url: http://localhost:1/v1\n"
        "text: [title, body]\n"
        "budget: 5.00\n"
        "providers:\n"
        "  mine: {url: x}\n";
    struct tr_task task;
    struct tr_err err = {0};

    (void)state;
    if (read_text(&task, text, &err) != 0)
        fail_msg("%s", err.text);
    assert_string_equal(task.instruction.p,
                        "Sort customer messages by what the customer needs.");
    assert_int_equal(task.label_count, 4);
    assert_string_equal(task.labels[0].description.p, "wants money back");
    assert_int_equal(task.labels[1].description.n, 0);
    assert_string_equal(task.labels[2].description.p,
                        "asks how to do something");
    assert_string_equal(task.labels[3].name.p, "other");
    assert_int_equal(task.none, 3);
    assert_int_equal(task.example_count, 2);
    assert_string_equal(task.examples[1].text.p, "Hello,\nwhat now?\n");
    assert_int_equal(task.examples[1].set, 3);
    assert_string_equal(task.examples_file.path.p, "dir/more.csv");
    assert_string_equal(task.examples_file.label_column.p, "label");
    assert_int_equal(task.option_count, 4);
    assert_string_equal(task.options[1].name.p, "base-url");
    assert_string_equal(task.options[2].value.p, "title,body");
    assert_string_equal(task.options[3].value.p, "5.00");
    assert_int_equal(task.options[3].line, 21);
    assert_non_null(strstr(task.providers_yaml.p, "mine: {url: x}"));
    tr_task_release(&task);
}

static void faults_have_a_place(void **state)
{
    static const struct {
        const char *text, *want;
    } faults[] = {
        {"[a, b]", "dir/t.yaml:1:1: a task file is a map of keys"},
        {"model: x\n", "dir/t.yaml:1:1: no 'labels:'"},
        {"label: [a, b]\n",
         "dir/t.yaml:1:1: unknown key 'label' (did you mean 'labels'?)"},
        {"labels: [a, b]\nmodle: x\n",
         "dir/t.yaml:2:1: unknown key 'modle' (did you mean 'model'?)"},
        {"labels: [a, b]\nbase_ulr: x\n",
         "dir/t.yaml:2:1: unknown key 'base_ulr' (did you mean 'base-url'?)"},
        {"labels: [a, b]\nzebra: x\n", "dir/t.yaml:2:1: unknown key 'zebra'"},
        {"labels: [a, b]\nmodel:\n", "dir/t.yaml:2:1: 'model:' has no value"},
        {"labels: [a, b]\nmodel: {a: b}\n",
         "dir/t.yaml:2:8: 'model:' needs one text, not a map"},
        {"labels: [a, b]\nmax-wait: 1\nmax_wait: 2\n",
         "dir/t.yaml:3:1: 'max-wait' stands twice"},
        {"labels: a, b\n", "dir/t.yaml:1:1: 'labels:' needs a list of names"},
        {"labels: []\n", "dir/t.yaml:1:1: no labels; give at least two"},
        {"labels: [a]\n", "dir/t.yaml:1:1: only one label"},
        {"labels:\n  - a: x\n  - b: y\n",
         "dir/t.yaml:2:5: in a list a label has no description"},
        {"labels:\n  a: x\n  b: [c]\n",
         "dir/t.yaml:3:6: the description of a label is one text"},
        {"labels:\n  - a\n  - '@b'\n",
         "dir/t.yaml:3:5: the label '@b' begins with"},
        {"labels:\n  a: x\n  ' b': y\n",
         "dir/t.yaml:3:3: the label ' b' has blanks around it"},
        {"labels:\n  a: x\n  \"b\xc2\xa0\": y\n",
         "dir/t.yaml:3:3: the label 'b\xc2\xa0' has an invisible character"},
        {"labels:\n  a: x\n  \"\xe2\x80\x8b" "b\": y\n",
         "dir/t.yaml:3:3: the label '\xe2\x80\x8b" "b' has an invisible"},
        {"labels:\n  a: x\n  A: y\n",
         "dir/t.yaml:1:1: the label 'A' and another differ only by case"},
        {"labels: [a, b]\nmultiple: maybe\n",
         "dir/t.yaml:2:11: 'multiple:' is true or false"},
        {"labels: [a, b]\nnone: true\n",
         "dir/t.yaml:2:7: 'none:' is the name of the label"},
        {"labels: [a, b]\nnone: B\n",
         "dir/t.yaml:1:1: the label 'B' and another differ only by case"},
        {"labels: [a, b]\nexamples: x.csv\n",
         "dir/t.yaml:2:11: 'examples:' is a list of {text"},
        {"labels: [a, b]\nexamples: [x]\n",
         "dir/t.yaml:2:12: an example is a map with 'text' and 'label'"},
        {"labels: [a, b]\nexamples:\n- {text: x, lable: a}\n",
         "dir/t.yaml:3:13: unknown key 'lable' in an example (did you mean "
         "'label'?)"},
        {"labels: [a, b]\nexamples:\n- {text: x}\n",
         "dir/t.yaml:3:3: this example has no 'label'"},
        {"labels: [refund, bug]\nexamples:\n- {text: x, label: refnud}\n",
         "dir/t.yaml:3:20: unknown label 'refnud' (did you mean 'refund'?)"},
        {"labels: [a, b]\nexamples:\n- {text: ' ', label: a}\n",
         "dir/t.yaml:3:10: the text of this example is empty"},
        {"labels: [a, b]\nexamples:\n- {text: x, label: [a, b]}\n",
         "dir/t.yaml:3:20: several labels for one text need 'multiple: true'"},
        {"labels: [a, b]\nexamples:\n- {text: x, label: []}\n",
         "dir/t.yaml:3:20: no label"},
        {"labels: [a, b]\nmultiple: true\nnone: c\n"
         "examples:\n- {text: x, label: a|c}\n",
         "dir/t.yaml:5:20: 'c' cannot stand beside other labels"},
        {"labels: [a, b]\nexamples_file: {fiel: x}\n",
         "dir/t.yaml:2:17: unknown key 'fiel' in 'examples_file:' (did you "
         "mean 'file'?)"},
        {"labels: [a, b]\nproviders: x\n",
         "dir/t.yaml:2:1: 'providers:' is a map"},
        {"labels: [a, b]\ninstruction: [x]\n",
         "dir/t.yaml:2:14: 'instruction:' needs one text, not a list"},
    };
    struct tr_task task;
    struct tr_err err;

    (void)state;
    for (size_t i = 0; i < COUNT(faults); i++) {
        assert_int_equal(read_text(&task, faults[i].text, &err), TR_CONFIG);
        if (strncmp(err.text, faults[i].want, strlen(faults[i].want)) != 0)
            fail_msg("case %zu: \"%s\"", i, err.text);
    }
    assert_int_equal(tr_task_from_file(&task, "no/such.yaml", NULL, 0, &err),
                     TR_NOINPUT);
    assert_non_null(strstr(err.text, "no/such.yaml: No such file"));
    assert_int_equal(tr_task_from_file(&task, "/", NULL, 0, &err),
                     TR_NOINPUT);
}

/* What changes the digest, and what does not. */
static void digest_is_of_the_decision(void **state)
{
    static const struct {
        const char *text;
        bool same;
    } cases[] = {
        {"labels: [a, b]\ninstruction: do\n", true},
        {"instruction: 'do'\nlabels:\n  a: ''\n  b:\nmodel: x\n", true},
        {"labels: [b, a]\ninstruction: do\n", false},
        {"labels: [a, b]\ninstruction: did\n", false},
        {"labels: [a, b]\n", false},
        {"labels: {a: x, b: }\ninstruction: do\n", false},
        {"labels: [a, b]\ninstruction: do\nmultiple: true\n", false},
        {"labels: [a, b]\ninstruction: do\nnone: b\n", false},
        {"labels: [a, b]\ninstruction: do\nnone: c\n", false},
        {"labels: [a, b]\ninstruction: do\nexamples: [{text: x, label: a}]",
         false},
        {"labels: [a, b]\ninstruction: do\nexamples: [{text: x, label: b}]",
         false},
        {"labels: [a, b]\ninstruction: do\nexamples: [{text: y, label: b}]",
         false},
    };
    struct tr_key seen[COUNT(cases)];
    struct tr_task task, other;
    struct tr_err err;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (read_text(&task, cases[i].text, &err) != 0)
            fail_msg("%s", err.text);
        seen[i] = task.digest;
        tr_task_release(&task);
        for (size_t k = 0; k < i; k++) {
            bool same = tr_key_cmp(&seen[i], &seen[k]) == 0;

            if (same != (cases[i].same && cases[k].same))
                fail_msg("cases %zu and %zu", i, k);
        }
    }
    /* An example is the same wherever it comes from. */
    assert_int_equal(read_text(&task, cases[9].text, &err), 0);
    assert_int_equal(read_text(&other, cases[0].text, &err), 0);
    assert_int_equal(tr_task_add_example(&other, TR_STR("x"), TR_STR("a"),
                                         "f.csv:2", &err), 0);
    assert_int_equal(tr_key_cmp(&task.digest, &other.digest), 0);
    assert_int_equal(tr_task_add_example(&other, TR_STR("x"), TR_STR("c"),
                                         "f.csv:3", &err), TR_CONFIG);
    assert_string_equal(err.text,
                        "f.csv:3: unknown label 'c' (did you mean 'a'?)");
    assert_int_equal(tr_key_cmp(&task.digest, &other.digest), 0);
    tr_task_release(&task);
    tr_task_release(&other);
}

/* A task with labels l0, l1 and so on, and what more a task file may say. */
static void many_labels(struct tr_task *task, int n, const char *more)
{
    struct tr_buf text;

    tr_buf_init(&text, 0);
    tr_buf_addz(&text, "multiple: true\nlabels:\n");
    for (int i = 0; i < n; i++)
        tr_buf_addf(&text, "- l%d\n", i);
    tr_buf_addz(&text, more);
    assert_int_equal(read_text(task, text.p, NULL), 0);
    tr_buf_release(&text);
}

/* The labels from first on, count of them. */
static int set_from(struct tr_task *task, uint32_t first, uint32_t count,
                    uint64_t *set)
{
    uint32_t labels[200];

    for (uint32_t i = 0; i < count; i++)
        labels[i] = first + count - 1 - i;
    return tr_task_set(task, labels, count, set, NULL);
}

static void is_text(const struct tr_task *task, uint64_t set, const char *is)
{
    struct tr_buf text;

    tr_buf_init(&text, 0);
    tr_task_set_text(task, set, &text);
    assert_string_equal(text.p, is);
    tr_buf_release(&text);
}

static void sets_say_their_labels(void **state)
{
    struct tr_task task;
    uint64_t set, again;
    const uint32_t *labels;

    (void)state;
    many_labels(&task, 100, "");
    assert_int_equal(tr_task_set(&task, NULL, 0, &set, NULL), 0);
    assert_true(set == TR_SET_NOTHING);
    is_text(&task, set, "-");
    assert_int_equal(tr_task_set(&task, (uint32_t[]){7, 7}, 2, &set, NULL), 0);
    assert_int_equal(set, 7);
    assert_int_equal(tr_task_set_labels(&task, 7, &labels), 1);
    assert_int_equal(labels[0], 7);
    /* all pairs, in both orders */
    for (uint32_t i = 0; i < 100; i++) {
        for (uint32_t k = i + 1; k < 100; k++) {
            uint32_t one[] = {i, k, i}, other[] = {k, i};

            assert_int_equal(tr_task_set(&task, one, 3, &set, NULL), 0);
            assert_int_equal(tr_task_set(&task, other, 2, &again, NULL), 0);
            assert_true(set >= TR_SET_COMBINED && set == again);
            assert_int_equal(tr_task_set_labels(&task, set, &labels), 2);
            assert_true(labels[0] == i && labels[1] == k);
            assert_int_equal(tr_task_set_stored(&task, &again, NULL), 0);
            assert_true(set == again);
        }
    }
    is_text(&task, set, "l98|l99");
    assert_int_equal(task.set_count, 0); /* nothing is kept */
    tr_task_release(&task);
}

/* Examples first, as they come; then what the store has; then new ones. */
static void large_sets_are_listed(void **state)
{
    static const char examples[] =
        "examples:\n"
        "- {text: x, label: [l1, l0]}\n"
        "- {text: y, label: [l0, l1]}\n"
        "- {text: z, label: [l0, l1, l2, l3]}\n";
    struct tr_task task;
    uint64_t set;

    (void)state;
    many_labels(&task, 100, examples);
    assert_int_equal(task.combos.most, 14);
    assert_int_equal(task.set_count, 2);
    assert_int_equal(tr_task_set_restore(&task, TR_STR("l5|l6"), NULL), 0);
    assert_int_equal(tr_task_set_restore(&task, TR_STR(
        "l20|l21|l22|l23|l24|l25|l26|l27|l28|l29|l30|l31|l32|l33|l34"), NULL),
        0);
    assert_int_equal(task.set_count, 4);
    /* what the store says: examples, a combination, a larger one */
    for (uint64_t i = 0; i < 4; i++) {
        static const char *const names[] = {
            "l0|l1", "l0|l1|l2|l3", "l5|l6",
            "l20|l21|l22|l23|l24|l25|l26|l27|l28|l29|l30|l31|l32|l33|l34"};

        set = 100 + i;
        assert_int_equal(tr_task_set_stored(&task, &set, NULL), 0);
        is_text(&task, set, names[i]);
        assert_int_equal(set < TR_SET_COMBINED, i == 3);
    }
    assert_int_equal(set_from(&task, 20, 15, &set), 0);
    assert_int_equal(set, 103); /* it is the one that was stored */
    assert_int_equal(set_from(&task, 20, 14, &set), 0);
    assert_true(set >= TR_SET_COMBINED);
    assert_int_equal(set_from(&task, 0, 15, &set), 0);
    assert_int_equal(set, 104);
    assert_int_equal(task.set_count, 5);
    /* no set of this task */
    for (uint64_t i = 0; i < 3; i++) {
        set = i == 0 ? 105 : TR_SET_COMBINED + task.combos.count + i - 1;
        assert_int_equal(tr_task_set_stored(&task, &set, NULL), TR_CONFIG);
    }
    assert_int_equal(tr_task_set_restore(&task, TR_STR("l1|x"), NULL),
                     TR_CONFIG);
    assert_int_equal(tr_task_set_restore(&task, TR_STR("l1"), NULL),
                     TR_CONFIG);
    tr_task_release(&task);
}

/* What cannot have a number costs memory: there is an end to it. */
static void the_list_of_large_sets_has_a_bound(void **state)
{
    struct tr_task task;
    struct tr_err err;
    uint64_t set, last = 0;
    uint32_t labels[150], n = 0;
    struct tr_rng rng = {1};

    (void)state;
    many_labels(&task, 200, "");
    for (bool full = false;; n++) {
        for (int i = 0; i < 150; i++)
            labels[i] = (uint32_t)tr_rng_below(&rng, 200);
        full = full || tr_task_sets_full(&task);
        if (tr_task_set(&task, labels, 150, &set, &err) != TR_OK)
            break;
        assert_int_equal(set, 200 + n);
        last = set;
        assert_true(full || task.set_bytes < TR_SETS_BYTES / 2 + 1000);
    }
    assert_in_range(n, 10000, 30000);
    assert_true(tr_task_sets_full(&task));
    assert_true(task.arena.bytes < 2 * TR_SETS_BYTES);
    assert_string_equal(err.text,
                        "too many combinations of more than 10 labels");
    /* those that say their labels go on, and so do those that are listed */
    assert_int_equal(set_from(&task, 100, 10, &set), 0);
    assert_true(set >= TR_SET_COMBINED);
    assert_true(tr_task_set_labels(&task, last,
                                   &(const uint32_t *){NULL}) > 10);
    tr_task_release(&task);
}

static void nearest_names(void **state)
{
    static const char *const names[] = {"refund", "bug", "question",
                                        "cancel", "examples_file"};
    static const struct {
        const char *word, *want;
    } cases[] = {
        {"refnud", "refund"}, {"Refund", "refund"},   {"bgu", "bug"},
        {"quesiton", "question"}, {"cancle", "cancel"}, {"zebra", NULL},
        {"", NULL}, {"example_file", "examples_file"}, {"x", NULL},
        {"bu", "bug"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *got = tr_nearest(tr_str_c(cases[i].word), names,
                                     COUNT(names));

        if (cases[i].want)
            assert_string_equal(got ? got : "nothing", cases[i].want);
        else
            assert_null(got);
    }
}

/* Every allocation may fail; nothing leaks, nothing is half done. */
static void out_of_memory(void **state)
{
    static const char text[] = "labels: {a: x, b: y}\nmultiple: true\n"
                               "examples: [{text: x, label: a|b}]\n"
                               "model: m\nproviders: {p: {}}\n";
    struct tr_task task;
    struct tr_err err;
    long nth;
    int rc;

    (void)state;
    for (nth = 1; nth < 1000; nth++) {
        tr_mem_fail_at(nth, 0);
        rc = read_text(&task, text, &err);
        tr_mem_fail_at(0, 0);
        if (rc == TR_OK)
            break;
        assert_int_equal(rc, TR_NOMEM);
    }
    assert_true(nth > 5 && nth < 1000);
    tr_task_release(&task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_from_the_command_line),
        cmocka_unit_test(a_whole_file),
        cmocka_unit_test(faults_have_a_place),
        cmocka_unit_test(digest_is_of_the_decision),
        cmocka_unit_test(sets_say_their_labels),
        cmocka_unit_test(large_sets_are_listed),
        cmocka_unit_test(the_list_of_large_sets_has_a_bound),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
