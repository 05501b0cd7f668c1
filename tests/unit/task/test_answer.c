/* test_answer.c - answers as models give them: what counts, what is asked
 * again, what voids everything. A label must never go to the wrong text.
 * SPDX-License-Identifier: MIT */
#include "task/answer.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define PACK_MAX 8

/* "417=refund 230=? 118=-": OK, invalid, missing; multiple: a+b, 0 nothing;
 * a '~' after the label: forgiven. Or "void". */
static void show(struct tr_buf *b, struct tr_task *task,
                 const struct tr_answer *answer,
                 const struct tr_item_answer *out,
                 const struct tr_item *items, size_t n)
{
    if (answer->is_void) {
        tr_buf_addz(b, "void");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        tr_buf_addf(b, "%s%u=", i ? " " : "", items[i].id);
        if (out[i].result == TR_ITEM_MISSING)
            tr_buf_addc(b, '-');
        else if (out[i].result == TR_ITEM_INVALID)
            tr_buf_addc(b, '?');
        else if (out[i].set == TR_SET_NOTHING)
            tr_buf_addc(b, '0');
        else
            tr_task_set_text(task, out[i].set, b);
    }
    if (answer->forgiven)
        tr_buf_addf(b, " ~%u", answer->forgiven);
}

struct example {
    const char *text, *want;
};

static void check(struct tr_task *task, const struct tr_item *items, size_t n,
                  const struct example *cases, size_t count, bool truncated)
{
    for (size_t i = 0; i < count; i++) {
        struct tr_answer answer;
        struct tr_item_answer out[PACK_MAX];
        struct tr_err err = {0};
        struct tr_buf b;

        tr_buf_init(&b, 0);
        assert_int_equal(tr_answer_read(&answer, out, task, items, n,
                                        tr_str_c(cases[i].text), truncated,
                                        &err), 0);
        assert_int_equal(answer.ok + answer.missing + answer.invalid, n);
        show(&b, task, &answer, out, items, n);
        if (strcmp(b.p, cases[i].want) != 0)
            fail_msg("case %zu, answer\n%s\ngives \"%s\"%s%s, not \"%s\"", i,
                     cases[i].text, b.p, answer.is_void ? ": " : "",
                     answer.is_void ? answer.void_why : "", cases[i].want);
        tr_buf_release(&b);
    }
}

static const struct tr_item two[] = {{{"I want money", 12}, 417},
                                     {{"It crashes", 10}, 230}};

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define BOTH "417=refund 230=bug"

static void single_labels(void **state)
{
    static const struct example cases[] = {
        /* the form asked for */
        {"417 refund\n230 bug\n", BOTH},
        {"230 bug\n417 refund", BOTH},
        {"417 refund\r\n230 bug\r\n", BOTH},
        {"\n\n417 refund  \n\n  230\tbug\n\n", BOTH},
        {"417 refund\n230 bug\n417 refund\n", BOTH},
        {"417\xc2\xa0refund\n230 bug\xc2\xa0\n", BOTH},
        /* near it */
        {"417: refund\n230 - bug\n", BOTH},
        /* colon, comma and stop of Chinese and Japanese */
        {"417\xef\xbc\x9a" "refund\n230\xef\xbc\x8c" "bug\xe3\x80\x82\n",
         BOTH " ~1"},
        {"417,refund\n230 = bug\n", BOTH},
        {"417 -> refund\n230 \xe2\x86\x92 bug\n", BOTH},
        {"- 417 refund\n* 230 bug\n", BOTH},
        {"1. 417 refund\n2. 230 bug\n", BOTH},
        {"1) 417: refund\n2) 230: bug\n", BOTH},
        {"#417 refund\n(230) bug\n", BOTH},
        {"[417] refund\n[230]: bug\n", BOTH},
        {"[417, refund]\n[230, bug],\n", BOTH},
        {"ID 417: refund\nid 230: bug\n", BOTH},
        {"| 417 | refund |\n| 230 | bug |\n", BOTH},
        {"| ID | Label |\n|---|---|\n| 417 | refund |\n| 230 | bug |", BOTH},
        {"417. refund\n230. bug\n", BOTH},
        {"417) refund\n230) bug\n", BOTH},
        /* forgiven: quotes, marks, case, a final stop */
        {"417 \"refund\"\n230 'bug'\n", BOTH " ~2"},
        {"417 Refund\n230 BUG.\n", BOTH " ~2"},
        {"**417**: refund\n**230**: **bug**\n", BOTH " ~1"},
        {"**417: refund**\n`230 bug`\n", BOTH " ~2"},
        {"417: \xe2\x80\x9crefund\xe2\x80\x9d\n230 bug", BOTH " ~1"},
        {"417 Refund\n417 refund\n230 bug\n", BOTH},
        /* prose and fences around */
        {"Here are the labels:\n\n417 refund\n230 bug\n\nI hope this helps!",
         BOTH},
        {"```\n417 refund\n230 bug\n```\n", BOTH},
        {"Here are the 2 labels for your 2 texts:\n417 refund\n230 bug", BOTH},
        {"2 texts were given.\n417 refund\n230 bug", BOTH},
        {"Text 417 asks for money and 230 is a bug.\n\n417 refund\n230 bug",
         BOTH},
        {"<think>\n417 bug? no, 999 refund\n</think>\n417 refund\n230 bug",
         BOTH},
        {"<think>\n417 refund\n230 bug", "417=- 230=-"},
        {"417: maybe a bug, no\n</think>\n\n417 refund\n230 bug", BOTH},
        {"417 bug\n</think> Hm.\n</think>\n417 refund\n230 bug", BOTH},
        /* JSON though lines were asked for */
        {"{\"a\":[[417,\"refund\"],[230,\"bug\"]]}", BOTH},
        {"```json\n{\"a\": [\n  [417, \"refund\"],\n  [230, \"bug\"]\n]}\n```",
         BOTH},
        {"```json {\"a\":[[417,\"refund\"],[230,\"bug\"]]}```", BOTH},
        {"Here it is: {\"a\":[[417,\"refund\"],[230,\"bug\"]]} Done.", BOTH},
        {"[417,\"refund\"]\n[230,\"bug\"]\n", BOTH},
        {"[417,\"refund\"],\n[230,\"bug\"],\n", BOTH},
        {"[417,\"refund\"], [230,\"bug\"]\n", BOTH},
        {"[[417,\"refund\"],[230,\"bug\"]]", BOTH},
        {"[[\"417\",\"refund\"],[\"230\",\"bug\"]]", BOTH},
        {"[\n [\n  417,\n  \"refund\"\n ],\n [\n  230,\n  \"bug\"\n ]\n]", BOTH},
        {"{\"417\":\"refund\",\"230\":\"bug\"}", BOTH},
        {"{\n  \"417\": \"refund\",\n  \"230\": \"bug\"\n}\n", BOTH},
        {"\"417\": \"refund\",\n\"230\": \"bug\",\n", BOTH " ~2"},
        {"[{\"id\":417,\"label\":\"refund\"},{\"id\":230,\"label\":\"bug\"}]",
         BOTH},
        {"{\"id\":417,\"label\":\"refund\"}\n{\"label\":\"bug\",\"id\":\"230\"}",
         BOTH},
        {"{\"labels\":{\"417\":\"refund\",\"230\":\"bug\"}}", BOTH},
        {"{\"labels\":[{\"id\":417,\"labels\":[\"refund\"]},"
         "{\"id\":230,\"labels\":[\"bug\"]}],\"count\":2,\"note\":\"x\"}",
         BOTH},
        {"{\"417\":{\"label\":\"refund\"},\"230\":[\"bug\"]}", BOTH},
        {"{\"a\":[[417,\"Refund\"],[230,\" bug \"]]}", BOTH " ~1"},
        {"{\"a\":[[417,\"ref\\u0075nd\"],[230,\"bug\"]]}", BOTH},
        /* broken JSON: what is closed counts */
        {"{\"a\":[[417,\"refund\"],[230,\"bug\"]", BOTH},
        {"{\"a\":[[417,\"refund\"],[230,\"bu\"g\"]]}", "417=refund 230=-"},
        {"{\"a\":[\n[417,\"refund\"],\n[230,bug]\n]}", BOTH},
        /* missing and invalid items */
        {"417 refund\n", "417=refund 230=-"},
        {"", "417=- 230=-"},
        {"I cannot help with that.", "417=- 230=-"},
        {"417 refund\n230 banana\n", "417=refund 230=?"},
        {"417 refund\n230\n", "417=refund 230=?"},
        {"417\nrefund\n230\nbug\n", "417=? 230=?"},
        {"417 refund or bug\n230 bug", "417=? 230=bug"},
        {"417 refund (wants money)\n230 bug", "417=? 230=bug"},
        {"417 refund, 230 bug\n", "417=? 230=-"},
        {"417, 230: bug\n", "417=? 230=-"},
        {"417-230 bug\n", "417=? 230=-"},
        {"417 refund\n417 banana\n230 bug", "417=? 230=bug"},
        {"417 refund|bug\n230 bug", "417=? 230=bug"},
        {"417 -\n230 bug", "417=? 230=bug"},
        {"[417,\"refund\"] or \"bug\"\n230 bug", "417=? 230=bug"},
        {"{\"a\":[[417,\"refund\",\"bug\"],[230,\"bug\"]]}", "417=? 230=bug"},
        {"{\"a\":[417,\"refund\",230,\"bug\"]}", "417=? 230=-"},
        {"{\"a\":[[417],[230,null]]}", "417=? 230=?"},
        {"{\"id\":417}\n{\"id\":230,\"label\":\"bug\"}", "417=? 230=bug"},
        {"{\"id\":417,\"text\":230,\"label\":\"bug\"}\n", "417=- 230=-"},
        {"{\"id\":417,\"n\":3,\"why\":\"x\",\"label\":\"bug\"}\n",
         "417=bug 230=-"},
        {"417 refund\n230 bug\nCorrection: 417 should be bug.\n",
         "417=? 230=bug"},
        {"417 refund\n230 bug\n"
         "Sorry: 417 should be \xe2\x80\x9c" "bug\xe2\x80\x9d.\n",
         "417=? 230=bug"},
        {"417 refund\n230 bug\n"
         "\xe2\x80\x9c" "417\xe2\x80\x9d\xe2\x86\x92" "bug!\n",
         "417=? 230=bug"},
        {"417 refund\n230 bug\nSo 417 debugs \xc3\xa9" "bug, 1bug, bugs.\n",
         "417=refund 230=bug"},
        {"417 refund\n230 bug\n" /* Chinese: no blanks between words */
         "\xe6\x9b\xb4\xe6\xad\xa3\xef\xbc\x9a" "417"
         "\xe5\xba\x94\xe8\xaf\xa5\xe6\x98\xaf" "bug\xe3\x80\x82\n",
         "417=? 230=bug"},
        {"417refund\n230 bug", "417=- 230=bug"},
        {"refund 417\n230 bug", "417=- 230=bug"},
        /* labels without ids are never taken by their place */
        {"refund\nbug\n", "417=- 230=-"},
        {"[\"refund\",\"bug\"]", "417=- 230=-"},
        {"{\"labels\":[\"refund\",\"bug\"]}", "417=- 230=-"},
        {"- refund\n- bug\n", "417=- 230=-"},
        /* void */
        {"417 refund\n230 bug\n555 bug\n", "void"},
        {"417 refund\n230 bug\n555 banana\n", "void"},
        {"417 refund\n417 bug\n230 bug\n", "void"},
        {"1 refund\n2 bug\n", "void"},
        {"1. refund\n2. bug\n", "void"},
        {"417 refund\n0230 bug\n", "void"},
        {"417 refund\n2300 bug\n", "void"},
        {"{\"a\":[[417,\"refund\"],[231,\"bug\"]]}", "void"},
        {"{\"417\":\"refund\",\"417\":\"bug\"}", "void"},
        {"{\"a\":[[417,\"refund\"]]}\n417 bug\n", "void"},
        {"{\"id\":417,\"label\":\"refund\"},{\"id\":999,\"label\":\"bug\"}",
         "void"},
        {"417. 230 bug\n", "void"},
        /* the model repeats the data */
        {"[417,\"I want money\"]\n[230,\"It crashes\"]\n\n417 refund\n230 bug",
         BOTH},
        {"[417,\"I want money\"]\n", "417=- 230=-"},
    };
    struct tr_task task;

    (void)state;
    assert_int_equal(tr_task_from_labels(&task, "refund,bug,question", NULL),
                     0);
    check(&task, two, 2, cases, COUNT(cases), false);
    assert_int_equal(task.set_count, 0);
    tr_task_release(&task);
}

static void cut_answers(void **state)
{
    static const struct example cases[] = {
        {"417 refund\n230 bug\n", BOTH},
        {"417 refund\n230 bug", "417=refund 230=-"},
        {"417 refund\n230 b", "417=refund 230=-"},
        {"417 refund\n23", "417=refund 230=-"},
        {"{\"a\":[[417,\"refund\"],[230,\"bug\"]", BOTH},
        {"{\"a\":[[417,\"refund\"],[230,\"bug\"", "417=refund 230=-"},
        {"{\"a\":[[417,\"refund\"],[230,\"bu", "417=refund 230=-"},
        {"{\"a\":[[417,\"refund\"],[23", "417=refund 230=-"},
        {"{\"417\":\"refund\",\"230\":\"bug\"", BOTH},
        {"{\"417\":\"refund\",\"230\":\"bug", "417=refund 230=-"},
        {"[{\"id\":417,\"label\":\"refund\"},{\"id\":230,\"label\":\"bug\"",
         "417=refund 230=-"},
        {"```json\n[\n[417,\"refund\"],\n[230", "417=refund 230=-"},
    };
    struct tr_task task;

    (void)state;
    assert_int_equal(tr_task_from_labels(&task, "refund,bug,question", NULL),
                     0);
    check(&task, two, 2, cases, COUNT(cases), true);
    tr_task_release(&task);
}

static void several_labels(void **state)
{
    static const struct example free_cases[] = {
        {"417 a|b\n230 -\n", "417=a|b 230=-"},
        {"417 b|a|b\n230 c d\n", "417=a|b 230=c d"},
        {"417: a | b\n230: -\n", "417=a|b 230=-"},
        {"417 a, b\n230 C D\n", "417=a|b 230=c d ~2"},
        {"417 a|x\n230 c d", "417=? 230=c d"},
        {"417 a||b\n230 c d", "417=? 230=c d"},
        {"{\"a\":[[417,\"a\",\"b\"],[230,\"-\"]]}", "417=a|b 230=-"},
        {"{\"a\":[[417,[\"b\",\"a\"]],[230,[]]]}", "417=a|b 230=-"},
        {"{\"417\":[\"a\",\"b\"],\"230\":[]}", "417=a|b 230=-"},
        {"{\"417\":\"a|b\",\"230\":\"c d\"}", "417=a|b 230=c d"},
        {"417 a|b\n417 b|a\n230 -", "417=a|b 230=-"},
        {"417 a|b\n417 a\n230 -", "void"},
    };
    static const struct example none_cases[] = {
        {"417 a|b\n230 other\n", "417=a|b 230=other"},
        {"417 a|other\n230 -\n", "417=? 230=other"},
        {"{\"a\":[[417,\"a\",\"other\"],[230]]}", "417=? 230=?"},
    };
    struct tr_task task;
    struct tr_answer answer;
    struct tr_item_answer out[2];

    (void)state;
    assert_int_equal(
        tr_task_from_text(&task,
                          TR_STR("labels: [a, b, c d]\nmultiple: true\n"),
                          "t", NULL, 0, NULL), 0);
    /* "-" in the table above stands for missing and for nothing: here the
     * difference. */
    assert_int_equal(tr_answer_read(&answer, out, &task, two, 2,
                                    TR_STR("230 -\n"), false, NULL), 0);
    assert_int_equal(out[0].result, TR_ITEM_MISSING);
    assert_int_equal(out[1].result, TR_ITEM_OK);
    assert_true(out[1].set == TR_SET_NOTHING);
    for (size_t i = 0; i < COUNT(free_cases); i++) {
        struct example e = free_cases[i];
        char want[64];
        size_t n = strlen(e.want);

        snprintf(want, sizeof want, "%s", e.want);
        if (n > 5 && strcmp(want + n - 5, "230=-") == 0)
            want[n - 1] = '0';
        e.want = want;
        check(&task, two, 2, &e, 1, false);
    }
    tr_task_release(&task);
    assert_int_equal(
        tr_task_from_text(&task,
                          TR_STR("labels: [a, b]\nmultiple: yes\nnone: other"),
                          "t", NULL, 0, NULL), 0);
    check(&task, two, 2, none_cases, COUNT(none_cases), false);
    assert_int_equal(task.set_count, 0);
    tr_task_release(&task);
}

static void awkward_labels(void **state)
{
    static const struct example stars[] = {
        {"417 5\n230 1\n", "417=5 230=1"},
        {"417: 5\n230. 1", "417=5 230=1"},
        {"{\"a\":[[417,5],[230,\"1\"]]}", "417=5 230=1"},
        {"1. 417 5\n2. 230 1\n", "417=5 230=1"},
        {"1 5\n2 1\n", "void"},
    };
    static const struct example signs[] = {
        {"417 :)\n230 :(\n", "417=:) 230=:("},
        {"417: :)\n230 - :(\n", "417=:) 230=:("},
        {"417 \"quoted\"\n230 -x", "417=\"quoted\" 230=-x"},
        {"417 Quoted\n230 x, y.", "417=? 230=x, y."},
        {"417 x, y\n230 ?", "417=? 230=?"},
    };
    /* A separator or a sign? Not the opposite of what was meant. */
    static const struct example feelings[] = {
        {"417 -1\n230 1\n", "417=-1 230=1"},
        {"417 \xe2\x80\x93" "1\n230 \xe2\x80\x94" "1\n", "417=? 230=?"},
        {"417-1\n230:-1\n", "417=? 230=-1"},
        {"417 - 1\n230 \xe2\x80\x93 -1\n", "417=1 230=-1"},
        {"417 \xe2\x80\x93" "0\n230-0\n", "417=0 230=0"},
    };
    static const struct example twins[] = {
        /* both "A." and "a" are labels; "A" fits a, "a." fits both */
        {"417 A.\n230 a\n", "417=A. 230=a"},
        {"417 a.\n230 A\n", "417=? 230=a ~1"},
    };
    static const struct example echoes[] = {
        {"[417,\"bug\"]\n", "417=bug 230=-"},
        {"[417,\"bug\"]\n[230,\"It crashes\"]\n230 bug\n", "417=- 230=bug"},
    };
    static const struct example cut_echoes[] = { /* others may have followed */
        {"[417,\"bug\"]\n", "417=- 230=-"},
        {"[417,\"bug\"]\n417 refund\n", "417=refund 230=-"},
    };
    static const struct tr_item echo_items[] = {{{"bug", 3}, 417},
                                                {{"It crashes", 10}, 230}};
    static const struct example lone[] = {
        {"bug", "417=bug ~1"},
        {" Bug.\n", "417=bug ~1"},
        {"```\nbug\n```", "417=bug ~1"},
        {"bug or refund", "417=-"},
        {"bug\nrefund", "417=-"},
        {"417 refund", "417=refund"},
    };
    static const struct example codes[] = { /* labels that look like ids */
        {"404", "417=404 ~1"},
        {"500.", "417=500 ~1"},
        {"417 404", "417=404"},
        {"405", "void"},
        {"404\n500", "void"},
        {"404\n417 500", "void"},
        {"417 404\n500", "void"},
    };
    /* As they are pasted from a page: models write plain blanks. */
    static const struct example pasted[] = {
        {"417 card arrival\n230 top up\n",
         "417=card\xc2\xa0" "arrival 230=top  up ~2"},
        {"417 Card\xe2\x80\xaf arrival.\n230 refund\n",
         "417=card\xc2\xa0" "arrival 230=re\xe2\x80\x8b" "fund ~2"},
        {"417 card\xc2\xa0" "arrival\n230 top  up\n",
         "417=card\xc2\xa0" "arrival 230=top  up"},
        {"417 cardarrival\n230 re fund\n", "417=? 230=?"},
        {"{\"a\":[[417,\"refund\\u0000\"],[230,\"refun\"]]}", "417=? 230=?"},
    };
    struct tr_task task;

    (void)state;
    assert_int_equal(
        tr_task_from_text(&task,
                          TR_STR("labels: ['card\xc2\xa0" "arrival', 'top  up',"
                                 " 're\xe2\x80\x8b" "fund']"),
                          "t", NULL, 0, NULL), 0);
    check(&task, two, 2, pasted, COUNT(pasted), false);
    tr_task_release(&task);
    assert_int_equal(tr_task_from_labels(&task, "100,404,500", NULL), 0);
    check(&task, two, 1, codes, COUNT(codes), false);
    tr_task_release(&task);
    assert_int_equal(tr_task_from_labels(&task, "1,2,3,4,5", NULL), 0);
    check(&task, two, 2, stars, COUNT(stars), false);
    tr_task_release(&task);
    assert_int_equal(
        tr_task_from_text(&task,
                          TR_STR("labels: [':)', ':(', '\"quoted\"', '-x', "
                                 "'x, y.', x]"),
                          "t", NULL, 0, NULL), 0);
    check(&task, two, 2, signs, 3, false);
    tr_task_release(&task);
    assert_int_equal(tr_task_from_labels(&task, "-1,0,1", NULL), 0);
    check(&task, two, 2, feelings, COUNT(feelings), false);
    tr_task_release(&task);
    assert_int_equal(
        tr_task_from_text(&task, TR_STR("labels: [a, A., b]"), "t", NULL, 0,
                          NULL), 0);
    check(&task, two, 2, twins, COUNT(twins), false);
    tr_task_release(&task);
    assert_int_equal(tr_task_from_labels(&task, "refund,bug", NULL), 0);
    check(&task, echo_items, 2, echoes, COUNT(echoes), false);
    check(&task, echo_items, 2, cut_echoes, COUNT(cut_echoes), true);
    check(&task, echo_items, 1, lone, COUNT(lone), false);
    tr_task_release(&task);
}

/* ---- every order, omission and repetition ------------------------------- */

#define FOREIGN 555u

static const char *const NAMES[] = {"refund", "bug", "question"};

struct said {
    uint32_t id;
    int label; /* index into NAMES; 3: no label at all */
};

/* The contract in its plainest form. */
static void plain_reader(const struct said *said, size_t count,
                         const struct tr_item *items, size_t n, int *want,
                         bool *is_void)
{
    *is_void = false;
    for (size_t i = 0; i < n; i++) {
        bool bad = false;

        want[i] = -1;
        for (size_t k = 0; k < count; k++) {
            if (said[k].id != items[i].id)
                continue;
            if (said[k].label == 3)
                bad = true;
        }
        for (size_t k = 0; k < count && !bad; k++) {
            if (said[k].id != items[i].id)
                continue;
            if (want[i] >= 0 && want[i] != said[k].label)
                *is_void = true;
            want[i] = said[k].label;
        }
        if (bad)
            want[i] = -2;
    }
    for (size_t k = 0; k < count; k++)
        *is_void |= said[k].id == FOREIGN;
}

static void write_answer(struct tr_buf *b, const struct said *said,
                         size_t count, int form)
{
    static const char *const names[] = {"refund", "bug", "question", "pear"};

    tr_buf_clear(b);
    tr_buf_addz(b, form == 1 ? "{\"a\":[" : form == 2 ? "[" : "");
    for (size_t k = 0; k < count; k++) {
        if (form == 0)
            tr_buf_addf(b, "%u %s\n", said[k].id, names[said[k].label]);
        else if (form == 1)
            tr_buf_addf(b, "%s[%u,\"%s\"]", k ? "," : "", said[k].id,
                        names[said[k].label]);
        else
            tr_buf_addf(b, "%s{\"id\":%u,\"label\":\"%s\"}", k ? ",\n" : "",
                        said[k].id, names[said[k].label]);
    }
    tr_buf_addz(b, form == 1 ? "]}" : form == 2 ? "]" : "");
}

struct sweep {
    struct tr_task task;
    struct tr_item items[PACK_MAX];
    struct tr_buf b;
    size_t n;
    uint64_t tried;
};

static void try_one(struct sweep *s, const struct said *said, size_t count)
{
    for (int form = 0; form < 3; form++) {
        struct tr_item_answer out[PACK_MAX];
        struct tr_answer answer;
        int want[PACK_MAX];
        bool is_void, ambiguous = false;

        plain_reader(said, count, s->items, s->n, want, &is_void);
        /* Good, other good and bad about one id: void or invalid, by order;
         * either is safe. */
        for (size_t i = 0; i < s->n; i++)
            ambiguous |= want[i] == -2;
        write_answer(&s->b, said, count, form);
        assert_int_equal(tr_answer_read(&answer, out, &s->task, s->items,
                                        s->n, tr_buf_str(&s->b), false, NULL),
                         0);
        s->tried++;
        if (answer.is_void != is_void && !(ambiguous && answer.is_void))
            fail_msg("void %d, wanted %d:\n%s", answer.is_void, is_void,
                     s->b.p);
        for (size_t i = 0; i < s->n && !answer.is_void; i++) {
            int got = out[i].result == TR_ITEM_OK        ? (int)out[i].set
                      : out[i].result == TR_ITEM_INVALID ? -2
                                                         : -1;

            if (got != want[i])
                fail_msg("item %zu: %d, wanted %d:\n%s", i, got, want[i],
                         s->b.p);
        }
    }
}

/* Every sequence of up to `most` statements over all ids, a foreign one and
 * all labels. */
static void all_sequences(struct sweep *s, struct said *said, size_t count,
                          size_t most)
{
    try_one(s, said, count);
    if (count == most)
        return;
    for (size_t i = 0; i <= s->n; i++) {
        for (int label = 0; label < 4; label++) {
            said[count].id = i < s->n ? s->items[i].id : FOREIGN;
            said[count].label = label;
            all_sequences(s, said, count + 1, most);
        }
    }
}

/* Every order of every part of the pack, and each with one statement said
 * again somewhere, the same or another. */
static void all_orders(struct sweep *s, struct said *said, size_t count,
                       unsigned used)
{
    try_one(s, said, count);
    for (size_t k = 0; k < count; k++) {
        struct said more[PACK_MAX + 1];

        for (size_t at = 0; at <= count; at++) {
            for (int label = 0; label < 4; label++) {
                memcpy(more, said, at * sizeof *said);
                more[at] = (struct said){said[k].id, label};
                memcpy(more + at + 1, said + at,
                       (count - at) * sizeof *said);
                try_one(s, more, count + 1);
            }
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        if (used & (1u << i))
            continue;
        said[count] = (struct said){s->items[i].id, (int)(i % 3)};
        all_orders(s, said, count + 1, used | 1u << i);
    }
}

static void every_order_and_omission(void **state)
{
    static const uint32_t ids[] = {417, 230, 118, 902, 641, 305};
    struct sweep s = {0};
    struct said said[PACK_MAX + 1];

    (void)state;
    assert_int_equal(tr_task_from_labels(&s.task, "refund,bug,question", NULL),
                     0);
    tr_buf_init(&s.b, 0);
    for (size_t i = 0; i < COUNT(ids); i++)
        s.items[i] = (struct tr_item){{"x", 1}, ids[i]};
    for (s.n = 1; s.n <= 3; s.n++)
        all_sequences(&s, said, 0, s.n < 3 ? 4 : 3);
    for (s.n = 4; s.n <= 6; s.n++)
        all_orders(&s, said, 0, 0);
    print_message("%llu answers\n", (unsigned long long)s.tried);
    tr_buf_release(&s.b);
    tr_task_release(&s.task);
}

/* ---- every order, in every form ------------------------------------------ */

/* '#': the id, '@': the label. */
static const struct form {
    const char *before, *one, *between, *after;
} forms[] = {
    {"", "# @", "\n", "\n"},
    {"Here they are:\n", "- #: @", "\n", "\n\nAnything else?"},
    {"| ID | Label |\n|---|---|\n", "| # | @ |", "\n", ""},
    {"{\"a\":[", "[#,\"@\"]", ",", "]}"},
    {"```json\n", "[#,\"@\"]", ",\n", "\n```"},
    {"{", "\"#\":\"@\"", ",", "}"},
    {"[", "{\"id\":#,\"label\":\"@\"}", ", ", "]"},
    {"{\"answers\":[", "{\"label\":\"@\",\"id\":\"#\"}", ",\n", "]}"},
};

static const char *const ITEM_LABELS[] = {"cherry", "apple", "fig",
                                          "elder",  "berry", "date"};

static void write_in_form(struct tr_buf *b, const struct form *f,
                          const struct tr_item *items, const size_t *order,
                          size_t n)
{
    tr_buf_clear(b);
    tr_buf_addz(b, f->before);
    for (size_t k = 0; k < n; k++) {
        tr_buf_addz(b, k ? f->between : "");
        for (const char *c = f->one; *c; c++) {
            if (*c == '#')
                tr_buf_addf(b, "%u", items[order[k]].id);
            else if (*c == '@')
                tr_buf_addz(b, ITEM_LABELS[order[k]]);
            else
                tr_buf_addc(b, *c);
        }
    }
    tr_buf_addz(b, f->after);
}

/* The answers are named in every order: order[0..count) so far. */
static void permute(struct sweep *s, size_t *order, size_t count)
{
    struct tr_item_answer out[PACK_MAX];
    struct tr_answer answer;

    for (size_t i = 0; i < s->n; i++) {
        bool used = false;

        for (size_t k = 0; k < count; k++)
            used = used || order[k] == i;
        if (used)
            continue;
        order[count] = i;
        permute(s, order, count + 1);
    }
    for (size_t f = 0; count == s->n && f < COUNT(forms); f++) {
        write_in_form(&s->b, &forms[f], s->items, order, s->n);
        assert_int_equal(tr_answer_read(&answer, out, &s->task, s->items, s->n,
                                        tr_buf_str(&s->b), false, NULL), 0);
        s->tried++;
        if (answer.is_void || answer.ok != s->n)
            fail_msg("%u of %zu:\n%s", answer.ok, s->n, s->b.p);
        for (size_t i = 0; i < s->n; i++)
            if (!tr_str_eq_c(s->task.labels[out[i].set].name, ITEM_LABELS[i]))
                fail_msg("text %zu is not %s:\n%s", i, ITEM_LABELS[i],
                         s->b.p);
    }
}

/* No two texts have the same label, so none may stand at another's place. */
static void every_permutation_in_every_form(void **state)
{
    static const uint32_t ids[] = {417, 230, 118, 902, 641, 305};
    struct sweep s = {0};
    size_t order[COUNT(ids)];

    (void)state;
    assert_int_equal(tr_task_from_labels(&s.task, "apple,berry,cherry,date,"
                                         "elder,fig", NULL), 0);
    tr_buf_init(&s.b, 0);
    for (size_t i = 0; i < COUNT(ids); i++)
        s.items[i] = (struct tr_item){{"x", 1}, ids[i]};
    for (s.n = 1; s.n <= COUNT(ids); s.n++)
        permute(&s, order, 0);
    assert_int_equal(s.tried, COUNT(forms) * (1 + 2 + 6 + 24 + 120 + 720));
    tr_buf_release(&s.b);
    tr_task_release(&s.task);
}

/* ---- mutations ----------------------------------------------------------- */

static bool word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80;
}

static bool same_word(const char *p, const char *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((p[i] | 0x20) != name[i])
            return false;
    return true;
}

/* Is there a place that says "id ... label" with nothing but marks, blanks
 * and the word label between? Knows nothing of the reader. */
static bool literally_says(const char *t, size_t n, uint32_t id,
                           const char *name)
{
    char digits[16];
    size_t d = (size_t)snprintf(digits, sizeof digits, "%u", id);
    size_t m = strlen(name);

    for (size_t i = 0; i + d <= n; i++) {
        size_t k = i + d;

        if (memcmp(t + i, digits, d) != 0 ||
            (i > 0 && t[i - 1] >= '0' && t[i - 1] <= '9'))
            continue;
        while (k < n && k < i + d + 24) {
            if (k + m <= n && same_word(t + k, name, m) &&
                (k + m == n || !word(t[k + m]) ||
                 (unsigned char)t[k + m] >= 0x80)) /* a wide blank */
                return true;
            if (k + 5 <= n && same_word(t + k, "label", 5))
                k += 5;
            else if (t[k] == (char)0xc2 || t[k] == (char)0xa0 ||
                     t[k] == (char)0xe2 || t[k] == (char)0x80 ||
                     t[k] == (char)0x86 || t[k] == (char)0x92 || !word(t[k]))
                k++;
            else
                break;
        }
    }
    return false;
}

/* Or an object with the id as "id", and the name in it? */
static bool object_says(const char *t, size_t n, uint32_t id,
                        const char *name)
{
    struct tr_buf b;
    char member[24];
    bool found = false;

    snprintf(member, sizeof member, "\"id\":%u,", id);
    tr_buf_init(&b, 0);
    for (size_t i = 0, from = 0; i < n && !found; i++) {
        if (t[i] == '{')
            from = i;
        if (t[i] != '}' || t[from] != '{')
            continue;
        tr_buf_clear(&b); /* without blanks, in lower case */
        for (size_t k = from; k <= i; k++)
            if (t[k] && !strchr(" \t\r\n", t[k]))
                tr_buf_addc(&b, t[k] >= 'A' && t[k] <= 'Z'
                                    ? (char)(t[k] + 32)
                                    : t[k]);
        found = strstr(b.p, member) && strstr(b.p, "\"label") &&
                strstr(b.p, name);
    }
    tr_buf_release(&b);
    return found;
}

static void mutate(struct tr_rng *rng, struct tr_buf *b)
{
    static const char *const bits[] = {
        "\n", " ", "417", "230", "118", "902", "555", "refund", "bug",
        "question", "\"", "[", "]", "{", "}", ",", ":", "|", "-", "1. ",
        "```\n", "\xc2\xa0", "\\", "417 bug\n", "[230,\"refund\"]", "0",
        "Refund", "\r", "\xff", "id", "label"};
    size_t times = 1 + tr_rng_below(rng, 4);

    while (times--) {
        size_t at = b->n ? tr_rng_below(rng, b->n) : 0, len;
        const char *bit = bits[tr_rng_below(rng, COUNT(bits))];
        char copy[64];

        switch (tr_rng_below(rng, 6)) {
        case 0: /* another byte */
            if (b->n)
                b->p[at] = (char)(1 + tr_rng_below(rng, 255));
            break;
        case 1: /* a byte less, or a few */
            len = 1 + tr_rng_below(rng, 12);
            len = len > b->n - at ? b->n - at : len;
            memmove(b->p + at, b->p + at + len, b->n - at - len);
            b->n -= len;
            break;
        case 2: /* something that belongs to answers */
        case 3:
            len = strlen(bit);
            if (!tr_buf_room(b, len))
                break;
            memmove(b->p + at + len, b->p + at, b->n - at);
            memcpy(b->p + at, bit, len);
            b->n += len;
            break;
        case 4: /* a piece moved elsewhere */
            len = 1 + tr_rng_below(rng, sizeof copy - 1);
            len = len > b->n - at ? b->n - at : len;
            memcpy(copy, b->p + at, len);
            memmove(b->p + at, b->p + at + len, b->n - at - len);
            at = b->n > len ? tr_rng_below(rng, b->n - len) : 0;
            memmove(b->p + at + len, b->p + at, b->n - len - at);
            memcpy(b->p + at, copy, len);
            break;
        default: /* cut */
            b->n = at;
            break;
        }
    }
}

static void mutated_answers(void **state)
{
    static const uint32_t ids[] = {417, 230, 118, 902};
    static const char *const seeds[] = {
        "417 refund\n230 bug\n118 question\n902 bug\n",
        "417: refund\n230 - bug\n118,question\n- 902 bug\n",
        "{\"a\":[[417,\"refund\"],[230,\"bug\"],[118,\"question\"],"
        "[902,\"bug\"]]}",
        "Here you are:\n```json\n{\n\"417\": \"refund\",\n\"230\": \"bug\",\n"
        "\"118\": \"question\",\n\"902\": \"bug\"\n}\n```\n",
        "[{\"id\":417,\"label\":\"refund\"},{\"id\":230,\"label\":\"bug\"}]\n"
        "[118,\"question\"]\n**902**: bug\n",
        "1. 417 refund\n2. 230 bug\n| 118 | question |\n[902] bug",
    };
    struct tr_task task;
    struct tr_item items[4];
    struct tr_rng rng = {20261124};
    struct tr_buf b;
    uint64_t voids = 0, ok = 0;

    (void)state;
    assert_int_equal(tr_task_from_labels(&task, "refund,bug,question", NULL),
                     0);
    tr_buf_init(&b, 0);
    for (size_t i = 0; i < 4; i++)
        items[i] = (struct tr_item){{"x", 1}, ids[i]};
    for (int round = 0; round < 300000; round++) {
        struct tr_item_answer out[4];
        struct tr_answer answer;

        tr_buf_clear(&b);
        tr_buf_addz(&b, seeds[tr_rng_below(&rng, COUNT(seeds))]);
        mutate(&rng, &b);
        assert_int_equal(tr_answer_read(&answer, out, &task, items, 4,
                                        tr_buf_str(&b), round & 1, NULL), 0);
        voids += answer.is_void;
        ok += answer.ok;
        for (size_t i = 0; i < 4; i++) {
            if (out[i].result != TR_ITEM_OK)
                continue;
            assert_false(answer.is_void);
            if (!literally_says(b.p, b.n, ids[i], NAMES[out[i].set]) &&
                !object_says(b.p, b.n, ids[i], NAMES[out[i].set]))
                fail_msg("round %d: %u is not said to be %s:\n%.*s", round,
                         ids[i], NAMES[out[i].set], (int)b.n, b.p);
        }
    }
    print_message("300000 mutated answers: %llu void, %llu labels taken\n",
                  (unsigned long long)voids, (unsigned long long)ok);
    assert_true(voids > 1000 && ok > 100000); /* the test has teeth */
    tr_buf_release(&b);
    tr_task_release(&task);
}

/* Depth and size do not matter: time stays in proportion. */
static void hostile_shapes(void **state)
{
    static const char *const pieces[] = {
        "[", "{\"a\":", "[1,\n", "[[417,\"x", "417 ", "{\"id\":417,", "| ",
        "[[],\n", "\"", "``", "1. ", "[417,[\n", "a 417 bug\n",
    };
    struct tr_task task;
    struct tr_buf b;

    (void)state;
    assert_int_equal(tr_task_from_labels(&task, "refund,bug", NULL), 0);
    tr_buf_init(&b, 0);
    for (size_t i = 0; i < COUNT(pieces); i++) {
        struct tr_item_answer out[2];
        struct tr_answer answer;

        tr_buf_clear(&b);
        while (b.n < 1u << 20)
            tr_buf_addz(&b, pieces[i]);
        assert_int_equal(tr_answer_read(&answer, out, &task, two, 2,
                                        tr_buf_str(&b), i & 1, NULL), 0);
        assert_int_equal(answer.ok, 0);
    }
    tr_buf_release(&b);
    tr_task_release(&task);
}

static void out_of_memory(void **state)
{
    static const char text[] = "417 a|b\n{\"a\":[[230,\"a\",\"b\"]]}\n";
    struct tr_task task;
    struct tr_item_answer out[2];
    struct tr_answer answer;
    long nth;

    (void)state;
    for (nth = 1; nth < 100; nth++) {
        int rc;

        assert_int_equal(
            tr_task_from_text(&task,
                              TR_STR("labels: [a, b, c]\nmultiple: true"),
                              "t", NULL, 0, NULL), 0);
        tr_mem_fail_at(nth, 0);
        rc = tr_answer_read(&answer, out, &task, two, 2, TR_STR(text), false,
                            NULL);
        tr_mem_fail_at(0, 0);
        tr_task_release(&task);
        if (rc == TR_OK)
            break;
        assert_int_equal(rc, TR_NOMEM);
    }
    assert_true(nth > 5 && nth < 100);
    assert_int_equal(answer.ok, 2);
}

/* ---- memory ------------------------------------------------------------- */

static size_t largest; /* piece of memory that was asked for */

void *__real_tr_alloc(size_t size);
void *__real_tr_resize(void *p, size_t size);
void *__wrap_tr_alloc(size_t size);
void *__wrap_tr_resize(void *p, size_t size);

void *__wrap_tr_alloc(size_t size)
{
    largest = size > largest ? size : largest;
    return __real_tr_alloc(size);
}

void *__wrap_tr_resize(void *p, size_t size)
{
    largest = size > largest ? size : largest;
    return __real_tr_resize(p, size);
}

/* The longest text of a reply, all of it one pair: no label, and no tree of
 * many times its size. */
static void a_pair_without_end_takes_no_memory(void **state)
{
    static const char *const starts[] = {"[417", "{\"417\":[0"};
    static char text[8 << 20];
    struct tr_item item = {TR_STR("x"), 417};
    struct tr_item_answer out;
    struct tr_answer answer;
    struct tr_task task;
    struct tr_err err = {0};
    (void)state;

    assert_int_equal(tr_task_from_labels(&task, "a,b", &err), TR_OK);
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(starts[i]);

        memcpy(text, starts[i], n);
        for (; n + 4 < sizeof text; n += 2)
            memcpy(text + n, ",0", 2);
        memcpy(text + n, "]}", 2);
        largest = 0;
        assert_int_equal(tr_answer_read(&answer, &out, &task, &item, 1,
                                        tr_str(text, n + 2), false, &err),
                         TR_OK);
        assert_false(answer.ok);
        assert_in_range(largest, 1, 24 << 20);
    }
    tr_task_release(&task);
}

/* All labels are looked for in a line about an item that has its answer: a
 * remark is read, a treatise voids the answer. */
static void long_prose_is_no_answer(void **state)
{
    static char text[20000];
    struct tr_item item = {TR_STR("x"), 417};
    struct tr_task task;
    (void)state;

    assert_int_equal(tr_task_from_labels(&task, "refund,bug", NULL), TR_OK);
    for (int words = 100; words <= 3000; words += 2900) {
        struct example e = {text, words > 1000 ? "void" : "417=refund"};
        int n = snprintf(text, sizeof text, "417 refund\nAnd 417, I think,");

        for (int i = 0; i < words; i++)
            n += snprintf(text + n, sizeof text - (size_t)n, " so");
        check(&task, &item, 1, &e, 1, false);
    }
    tr_task_release(&task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pair_without_end_takes_no_memory),
        cmocka_unit_test(long_prose_is_no_answer),
        cmocka_unit_test(single_labels),
        cmocka_unit_test(cut_answers),
        cmocka_unit_test(several_labels),
        cmocka_unit_test(awkward_labels),
        cmocka_unit_test(every_order_and_omission),
        cmocka_unit_test(every_permutation_in_every_form),
        cmocka_unit_test(mutated_answers),
        cmocka_unit_test(hostile_shapes),
        cmocka_unit_test(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
