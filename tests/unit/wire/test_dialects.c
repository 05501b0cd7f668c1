/* test_dialects.c - one request of each dialect byte by byte, the parts of a
 * schema each vendor takes, decisions put together, and broken answers.
 *
 * test_openai.c has the variants of OpenAI's own; tests/replies/ what comes
 * back.
 *
 * SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "wire/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- requests --------------------------------------------------------- */

#define USER "[417,\"a\\nb\"]\n[203,\"c\"]\n\nAnswer 2 lines: ID label"
#define USER_JSON                                                              \
    "\"[417,\\\"a\\\\nb\\\"]\\n[203,\\\"c\\\"]\\n\\nAnswer 2 lines: ID label\""
#define SCHEMA "{\"type\":\"object\"}"

static const struct tr_label labels[] = {
    {{"refund", 6}, {"wants \"money\"", 13}},
    {{"bug", 3}, {NULL, 0}},
    {{"other", 5}, {NULL, 0}},
};
static const struct tr_item items[] = {
    {{"a\nb", 3}, 417},
    {{"c", 1}, 203},
};
static const struct tr_question one_label = {{"Sort.", 5}, labels, 2, -1, false};
static const struct tr_question many = {{"Sort.", 5}, labels, 3, -1, true};
static const struct tr_question many_none = {{"Sort.", 5}, labels, 3, 2, true};

static const struct tr_call words = {
    .system = {"Label.", 6}, .user = {USER, sizeof USER - 1},
    .cap_tokens = 40};
static const struct tr_call strict = {
    .system = {"Label.", 6}, .user = {USER, sizeof USER - 1},
    .schema = {SCHEMA, sizeof SCHEMA - 1}, .cap_tokens = 40, .cache = true};
static const struct tr_call choice = {
    .question = &one_label, .items = items, .item_count = 1};
static const struct tr_call choices = {
    .question = &one_label, .items = items, .item_count = 2};
static const struct tr_call yes_or_no = {
    .question = &many_none, .items = items, .item_count = 2};

#define LINES "\\n\\n[417,\\\"a\\\\nb\\\"]\\n[203,\\\"c\\\"]\""
#define DOES                                                                   \
    "\"Does the label \\\"refund\\\" (wants \\\"money\\\") apply to the text "  \
    "with the ID "

static const struct {
    const char *dialect;
    const struct tr_call *call;
    struct tr_quirks q;
    const char *body;
} requests[] = {
    {"openai", &words, {.effort = TR_EFFORT_none,
                        .effort_style = TR_STYLE_field},
     "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":"
     "\"Label.\"},{\"role\":\"user\",\"content\":" USER_JSON "}],"
     "\"max_completion_tokens\":40,\"reasoning_effort\":\"none\"}"},

    {"responses", &words, {.effort = -1},
     "{\"model\":\"m\",\"store\":false,\"instructions\":\"Label.\",\"input\":"
     USER_JSON ",\"max_output_tokens\":40}"},
    {"responses", &strict, {.effort = TR_EFFORT_low,
                            .effort_style = TR_STYLE_field},
     "{\"model\":\"m\",\"store\":false,\"instructions\":\"Label.\",\"input\":"
     USER_JSON ",\"max_output_tokens\":40,\"reasoning\":{\"effort\":\"low\"},"
     "\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"answer\","
     "\"strict\":true,\"schema\":" SCHEMA "}}}"},

    /* A mark stands in a block of a message only. */
    {"responses", &strict, {.effort = -1, .cache_marks = true,
                            .no_schema = true},
     "{\"model\":\"m\",\"store\":false,\"input\":[{\"role\":\"system\","
     "\"content\":[{\"type\":\"input_text\",\"text\":\"Label.\","
     "\"prompt_cache_breakpoint\":{\"mode\":\"explicit\"}}]},"
     "{\"role\":\"user\",\"content\":" USER_JSON "}],"
     "\"max_output_tokens\":40,"
     "\"prompt_cache_options\":{\"mode\":\"explicit\"}}"},
    {"responses", &strict, {.effort = -1, .cache_marks = true,
                            .no_schema = true, .no_cache = true},
     "{\"model\":\"m\",\"store\":false,\"instructions\":\"Label.\",\"input\":"
     USER_JSON ",\"max_output_tokens\":40}"},

    {"anthropic", &words, {.effort = -1},
     "{\"model\":\"m\",\"max_tokens\":40,\"system\":\"Label.\",\"messages\":"
     "[{\"role\":\"user\",\"content\":" USER_JSON "}]}"},
    {"anthropic", &words, {.effort = TR_EFFORT_none,
                           .effort_style = TR_STYLE_field},
     "{\"model\":\"m\",\"max_tokens\":40,\"thinking\":{\"type\":\"disabled\"},"
     "\"output_config\":{\"effort\":\"low\"},\"system\":\"Label.\","
     "\"messages\":[{\"role\":\"user\",\"content\":" USER_JSON "}]}"},
    {"anthropic", &strict, {.effort = TR_EFFORT_medium,
                            .effort_style = TR_STYLE_field},
     "{\"model\":\"m\",\"max_tokens\":40,\"output_config\":{\"effort\":"
     "\"medium\",\"format\":{\"type\":\"json_schema\",\"schema\":" SCHEMA "}},"
     "\"system\":[{\"type\":\"text\",\"text\":\"Label.\",\"cache_control\":"
     "{\"type\":\"ephemeral\"}}],\"messages\":[{\"role\":\"user\","
     "\"content\":" USER_JSON "}]}"},
    {"anthropic", &strict, {.effort = -1, .no_schema = true, .no_cache = true},
     "{\"model\":\"m\",\"max_tokens\":40,\"system\":\"Label.\",\"messages\":"
     "[{\"role\":\"user\",\"content\":" USER_JSON "}]}"},

    {"gemini", &words, {.effort = TR_EFFORT_minimal,
                        .effort_style = TR_STYLE_field},
     "{\"systemInstruction\":{\"parts\":[{\"text\":\"Label.\"}]},\"contents\":"
     "[{\"role\":\"user\",\"parts\":[{\"text\":" USER_JSON "}]}],"
     "\"generationConfig\":{\"candidateCount\":1,\"maxOutputTokens\":40,"
     "\"thinkingConfig\":{\"thinkingLevel\":\"MINIMAL\"}}}"},
    {"gemini", &strict, {.effort = TR_EFFORT_none,
                         .effort_style = TR_STYLE_budget},
     "{\"systemInstruction\":{\"parts\":[{\"text\":\"Label.\"}]},\"contents\":"
     "[{\"role\":\"user\",\"parts\":[{\"text\":" USER_JSON "}]}],"
     "\"generationConfig\":{\"candidateCount\":1,\"maxOutputTokens\":40,"
     "\"thinkingConfig\":{\"thinkingBudget\":0},\"responseMimeType\":"
     "\"application/json\",\"responseJsonSchema\":" SCHEMA "}}"},

    {"decisions", &choice, {.effort = -1},
     "{\"model\":\"m\",\"input\":\"a\\nb\",\"questions\":[{\"type\":"
     "\"choice\",\"name\":\"417\",\"instructions\":\"Sort.\",\"choices\":"
     "[{\"value\":\"refund\",\"description\":\"wants \\\"money\\\"\"},"
     "{\"value\":\"bug\"}]}]}"},
    {"decisions", &yes_or_no, {.effort = -1},
     "{\"model\":\"m\",\"input\":\"Sort." LINES ",\"questions\":["
     "{\"type\":\"predicate\",\"name\":\"417_0\",\"instructions\":" DOES
     "417?\"},{\"type\":\"predicate\",\"name\":\"417_1\",\"instructions\":"
     "\"Does the label \\\"bug\\\" apply to the text with the ID 417?\"},"
     "{\"type\":\"predicate\",\"name\":\"203_0\",\"instructions\":" DOES
     "203?\"},{\"type\":\"predicate\",\"name\":\"203_1\",\"instructions\":"
     "\"Does the label \\\"bug\\\" apply to the text with the ID 203?\"}]}"},

    {"systemone", &choices, {.effort = -1},
     "{\"model\":\"m\",\"state\":\"[417,\\\"a\\\\nb\\\"]\\n[203,\\\"c\\\"]\","
     "\"questions\":{\"417\":{\"type\":\"choice\",\"instructions\":\"Sort.\\n"
     "\\nDecide about the text with the ID 417 alone.\",\"criteria\":"
     "{\"refund\":\"wants \\\"money\\\"\",\"bug\":null}},\"203\":{\"type\":"
     "\"choice\",\"instructions\":\"Sort.\\n\\nDecide about the text with the "
     "ID 203 alone.\",\"criteria\":{\"refund\":\"wants \\\"money\\\"\","
     "\"bug\":null}}}}"},
};

static const struct tr_dialect *dialect(const char *name)
{
    for (int i = 0; tr_dialects[i]; i++) {
        if (strcmp(tr_dialects[i]->name, name) == 0)
            return tr_dialects[i];
    }
    fail_msg("no dialect %s", name);
    return NULL;
}

static void requests_byte_by_byte(void **state)
{
    bool seen[16] = {false};
    (void)state;

    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        const struct tr_dialect *d = dialect(requests[i].dialect);
        struct tr_buf b;

        tr_buf_init(&b, 0);
        assert_int_equal(d->encode("m", &requests[i].q, requests[i].call, &b,
                                   NULL), TR_OK);
        if (strcmp(b.p, requests[i].body) != 0)
            fail_msg("%s:\n%s\nis not\n%s", d->name, b.p, requests[i].body);
        for (int k = 0; tr_dialects[k]; k++)
            seen[k] = seen[k] || tr_dialects[k] == d;
        tr_buf_release(&b);
    }
    for (int k = 0; tr_dialects[k]; k++)
        assert_true(seen[k]); /* every dialect there is stands above */
}

static void a_body_that_does_not_fit_is_an_error(void **state)
{
    struct tr_quirks q = {.effort = -1};
    (void)state;

    for (int i = 0; tr_dialects[i]; i++) {
        const struct tr_dialect *d = tr_dialects[i];
        struct tr_err err;
        struct tr_buf b;

        for (size_t max = 1; max < 90; max++) {
            tr_buf_init(&b, max);
            assert_int_equal(d->encode("m", &q, d->decides ? &choice : &strict,
                                       &b, &err), TR_NOMEM);
            tr_buf_release(&b);
        }
    }
}

/* ---- replies ---------------------------------------------------------- */

static void decode(const struct tr_dialect *d, const struct tr_question *asked,
                   const char *body, size_t n, struct tr_buf *scratch,
                   struct tr_reply *reply)
{
    struct tr_quirks q = {.effort = -1};
    struct tr_http_result r = {.status = 200, .sent = true};

    *reply = (struct tr_reply){.retry_after_ms = -1};
    r.body = tr_str(body, n);
    d->decode(&q, asked, &r, scratch, reply);
}

/* One good answer of each. */
static const struct {
    const char *dialect, *body, *text;
} answers[] = {
    {"openai", "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":"
               "{\"content\":\"417 bug\\n\"}}]}", "417 bug\n"},
    {"responses", "{\"status\":\"completed\",\"output\":[{\"type\":\"message\","
                  "\"content\":[{\"type\":\"output_text\",\"text\":"
                  "\"417 bug\\n\"}]}]}", "417 bug\n"},
    {"anthropic", "{\"content\":[{\"type\":\"text\",\"text\":\"417 bug\\n\"}],"
                  "\"stop_reason\":\"end_turn\",\"usage\":{\"input_tokens\":3,"
                  "\"output_tokens\":1}}", "417 bug\n"},
    {"gemini", "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":"
               "\"417 bug\\n\"}]},\"finishReason\":\"STOP\"}]}", "417 bug\n"},
    {"decisions", "{\"answers\":[{\"type\":\"choice\",\"name\":\"417\","
                  "\"choice\":\"bug\",\"probabilities\":[{\"value\":\"bug\","
                  "\"probability\":0.5}]}]}", "{\"a\":[[417,\"bug\"]]}"},
    {"systemone", "{\"answers\":{\"417\":{\"type\":\"choice\",\"choice\":"
                  "\"bug\",\"probabilities\":{\"bug\":0.5}}}}",
     "{\"a\":[[417,\"bug\"]]}"},
};

/* Every cut of a good answer is garbled, never a crash, and never text. */
static void every_cut_of_an_answer(void **state)
{
    struct tr_reply reply;
    struct tr_buf scratch;
    (void)state;

    tr_buf_init(&scratch, 0);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct tr_dialect *d = dialect(answers[i].dialect);
        size_t whole = strlen(answers[i].body);

        for (size_t n = 0; n <= whole; n++) {
            decode(d, &one_label, answers[i].body, n, &scratch, &reply);
            if (n < whole) {
                assert_int_equal(reply.outcome, TR_OUT_GARBLED);
                assert_int_equal(reply.text.n, 0);
            }
            assert_int_equal(reply.billing, TR_BILL_USAGE);
        }
        assert_int_equal(reply.outcome, TR_OUT_OK);
        assert_true(tr_str_eq_c(reply.text, answers[i].text));
    }
    tr_buf_release(&scratch);
}

/* Any byte replaced by any of some: an outcome and bounded text, no crash. */
static void spoilt_answers(void **state)
{
    static const char bytes[] = "\"{}[]:,0x\\\n\xff";
    struct tr_reply reply;
    struct tr_buf scratch;
    char body[400];
    (void)state;

    tr_buf_init(&scratch, 0);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct tr_dialect *d = dialect(answers[i].dialect);
        size_t n = strlen(answers[i].body);

        for (size_t at = 0; at < n; at++) {
            for (const char *c = bytes; *c; c++) {
                memcpy(body, answers[i].body, n);
                body[at] = *c;
                decode(d, at & 1 ? &one_label : &many, body, n, &scratch,
                       &reply);
                assert_in_range(reply.outcome, 0, TR_OUT_COUNT - 1);
                assert_true(reply.text.n <= n + 10);
                assert_int_equal(reply.billing, TR_BILL_USAGE);
            }
        }
    }
    tr_buf_release(&scratch);
}

/* Memory that runs out at any point: an error, or the whole thing. */
static void memory_runs_out(void **state)
{
    struct tr_reply reply;
    struct tr_buf b;
    (void)state;

    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        const struct tr_dialect *d = dialect(requests[i].dialect);
        int rc = TR_NOMEM;

        for (long nth = 1; rc != TR_OK; nth++) {
            tr_buf_init(&b, 0);
            tr_mem_fail_at(nth, 0);
            rc = d->encode("m", &requests[i].q, requests[i].call, &b, NULL);
            tr_mem_fail_at(0, 0);
            if (rc == TR_OK)
                assert_string_equal(b.p, requests[i].body);
            tr_buf_release(&b);
            assert_true(nth < 100);
        }
    }
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct tr_dialect *d = dialect(answers[i].dialect);

        reply.outcome = TR_OUT_GARBLED;
        for (long nth = 1; reply.outcome != TR_OUT_OK; nth++) {
            tr_buf_init(&b, 0);
            tr_mem_fail_at(nth, 0);
            decode(d, &one_label, answers[i].body, strlen(answers[i].body), &b,
                   &reply);
            tr_mem_fail_at(0, 0);
            if (reply.outcome == TR_OUT_OK)
                assert_true(tr_str_eq_c(reply.text, answers[i].text));
            else
                assert_int_equal(reply.text.n, 0);
            tr_buf_release(&b);
            assert_true(nth < 100);
        }
    }
}

/* An answer may be longer than its body: a byte becomes six where it is
 * escaped. Whatever the room is, it ends. */
static void room_runs_out(void **state)
{
    struct tr_reply reply;
    struct tr_buf b;
    (void)state;

    alarm(60);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        const struct tr_dialect *d = dialect(answers[i].dialect);
        size_t room = 1;

        for (reply.outcome = TR_OUT_GARBLED; reply.outcome != TR_OUT_OK;
             room++) {
            tr_buf_init(&b, room);
            decode(d, &one_label, answers[i].body, strlen(answers[i].body), &b,
                   &reply);
            if (reply.outcome == TR_OUT_OK)
                assert_true(tr_str_eq_c(reply.text, answers[i].text));
            else
                assert_int_equal(reply.text.n, 0);
            tr_buf_release(&b);
            assert_true(room < 400);
        }
    }
    alarm(0);
}

/* Yes and no to each label become one set, as sure as its least sure part. */
static void yes_and_no_become_a_set(void **state)
{
    static const struct {
        const struct tr_question *asked;
        const char *answers; /* of System One */
        const char *text;
        int id, confidence; /* of the first; 0: none */
    } cases[] = {
        {&many, "\"417_0\":{\"noul\":0.97},\"417_1\":{\"noul\":0.9},"
                "\"417_2\":{\"noul\":0.2}",
         "{\"a\":[[417,\"refund\",\"bug\"]]}", 417, 8000},
        {&many, "\"417_2\":{\"noul\":0.5},\"417_0\":{\"noul\":0},"
                "\"417_1\":{\"noul\":0.1}",
         "{\"a\":[[417,\"other\"]]}", 417, 5000},
        {&many, "\"417_0\":{\"noul\":0.01},\"417_1\":{\"noul\":0.02},"
                "\"417_2\":{\"noul\":0.03}",
         "{\"a\":[[417,\"-\"]]}", 417, 9700},
        {&many_none, "\"417_0\":{\"noul\":0.01},\"417_1\":{\"noul\":0.02}",
         "{\"a\":[[417,\"other\"]]}", 417, 9800},
        {&many_none, "\"417_0\":{\"noul\":0.01},\"417_1\":{\"noul\":0.6},"
                     "\"203_1\":{\"noul\":0},\"203_0\":{\"noul\":1}",
         "{\"a\":[[203,\"refund\"],[417,\"bug\"]]}", 203, 10000},
        /* one part is missing, twice there, foreign, or no number */
        {&many, "\"417_0\":{\"noul\":0.97},\"417_1\":{\"noul\":0.9}",
         "{\"a\":[]}", 0, 0},
        {&many_none, "\"417_0\":{\"noul\":0.9},\"417_0\":{\"noul\":0.1},"
                     "\"417_1\":{\"noul\":0.1}", "{\"a\":[]}", 0, 0},
        {&many_none, "\"417_0\":{\"noul\":0.9},\"417_1\":{\"noul\":0.1},"
                     "\"417_7\":{\"noul\":0.1}", "{\"a\":[]}", 0, 0},
        {&many_none, "\"417_0\":{\"noul\":0.9},\"417_1\":{\"noul\":\"no\"}",
         "{\"a\":[]}", 0, 0},
        {&many_none, "\"417_0\":{\"noul\":0.9},\"417_1\":{\"noul\":-1}",
         "{\"a\":[]}", 0, 0},
        {&many_none, "\"417_99999999999\":{\"noul\":0.9},\"_1\":{\"noul\":1},"
                     "\"417\":{\"noul\":1}", "{\"a\":[]}", 0, 0},
    };
    const struct tr_dialect *d = dialect("systemone");
    struct tr_reply reply;
    struct tr_buf scratch;
    char body[400];
    (void)state;

    tr_buf_init(&scratch, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = snprintf(body, sizeof body, "{\"answers\":{%s}}",
                         cases[i].answers);

        decode(d, cases[i].asked, body, (size_t)n, &scratch, &reply);
        assert_int_equal(reply.outcome, TR_OUT_OK);
        if (!tr_str_eq_c(reply.text, cases[i].text))
            fail_msg("case %zu: %.*s", i, (int)reply.text.n, reply.text.p);
        assert_int_equal(reply.sure_count ? reply.sure[0].id : 0, cases[i].id);
        assert_int_equal(reply.sure_count ? reply.sure[0].confidence : 0,
                         cases[i].confidence);
    }
    tr_buf_release(&scratch);
}

/* What all packs have in common stands in front, in every dialect: otherwise no
 * provider could keep it. */
static void the_stable_part_comes_first(void **state)
{
    static const struct tr_quirks q = {.effort = -1, .cache_keys = true,
                                       .cache_marks = true};
    struct tr_call a = {
        .system = TR_STR("The labels are these."), .user = TR_STR("[101,one]"),
        .cap_tokens = 100, .cache = true, .cache_key = TR_STR("k-0")};
    struct tr_call b = a;
    (void)state;

    b.user = TR_STR("[902,two]");
    for (size_t i = 0; tr_dialects[i]; i++) {
        struct tr_buf first, second;
        const char *system, *user;
        size_t same = 0;

        if (tr_dialects[i]->decides)
            continue;
        tr_buf_init(&first, 0);
        tr_buf_init(&second, 0);
        assert_int_equal(tr_dialects[i]->encode("m", &q, &a, &first, NULL),
                         TR_OK);
        assert_int_equal(tr_dialects[i]->encode("m", &q, &b, &second, NULL),
                         TR_OK);
        while (same < first.n && first.p[same] == second.p[same])
            same++;
        system = strstr(first.p, "The labels are these.");
        user = strstr(first.p, "[101,one]");
        assert_non_null(system);
        assert_non_null(user);
        if (system > user || first.p + same < system + a.system.n)
            fail_msg("%s: %s", tr_dialects[i]->name, first.p);
        tr_buf_release(&first);
        tr_buf_release(&second);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stable_part_comes_first),
        cmocka_unit_test(requests_byte_by_byte),
        cmocka_unit_test(a_body_that_does_not_fit_is_an_error),
        cmocka_unit_test(every_cut_of_an_answer),
        cmocka_unit_test(spoilt_answers),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(room_runs_out),
        cmocka_unit_test(yes_and_no_become_a_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
