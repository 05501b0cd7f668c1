/* test_openai.c - request bytes exactly, and learning from refusals.
 * SPDX-License-Identifier: MIT */
#include "wire/provider.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static const struct tr_quirks plain = {.effort = -1};

static void expect_body(const struct tr_quirks *q, const struct tr_call *call,
                        const char *want)
{
    struct tr_buf b;

    tr_buf_init(&b, 0);
    assert_int_equal(tr_openai.encode("m", q, call, &b, NULL), TR_OK);
    assert_string_equal(b.p, want);
    tr_buf_release(&b);
}

#define HEAD                                                                   \
    "{\"model\":\"m\",\"messages\":["                                          \
    "{\"role\":\"system\",\"content\":\"Label.\"},"                            \
    "{\"role\":\"user\",\"content\":\"[417, \\\"a\\\\nb\\\"]\"}]"

static const struct tr_call call = {
    .system = {"Label.", 6}, .user = {"[417, \"a\\nb\"]", 13},
    .schema = {"{\"type\":\"object\"}", 17}, .cap_tokens = 40};

/* Text is escaped once; every field a quirk decides stands as it should. */
static void requests_byte_by_byte(void **state)
{
    static const struct {
        struct tr_quirks q;
        const char *tail;
    } cases[] = {
        {{.effort = -1, .no_schema = true},
         ",\"max_completion_tokens\":40}"},
        {{.effort = -1, .no_schema = true, .old_cap = true},
         ",\"max_tokens\":40}"},
        {{.effort = -1},
         ",\"max_completion_tokens\":40,\"response_format\":{\"type\":"
         "\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true,"
         "\"schema\":{\"type\":\"object\"}}}}"},
        {{.effort = TR_EFFORT_none, .effort_style = TR_STYLE_field,
          .no_schema = true, .zero_temperature = true},
         ",\"max_completion_tokens\":40,\"reasoning_effort\":\"none\","
         "\"temperature\":0}"},
        {{.effort = TR_EFFORT_none, .effort_style = TR_STYLE_kwargs,
          .no_schema = true},
         ",\"max_completion_tokens\":40,\"chat_template_kwargs\":"
         "{\"enable_thinking\":false}}"},
        {{.effort = TR_EFFORT_low, .effort_style = TR_STYLE_kwargs,
          .no_schema = true},
         ",\"max_completion_tokens\":40,\"reasoning_effort\":\"low\"}"},
        {{.effort = TR_EFFORT_none, .effort_style = TR_STYLE_object,
          .no_schema = true},
         ",\"max_completion_tokens\":40,\"reasoning\":{\"enabled\":false}}"},
        {{.effort = TR_EFFORT_high, .effort_style = TR_STYLE_object,
          .no_schema = true},
         ",\"max_completion_tokens\":40,\"reasoning\":{\"effort\":\"high\"}}"},
        {{.effort = TR_EFFORT_none, .effort_style = TR_STYLE_thinking,
          .no_schema = true},
         ",\"max_completion_tokens\":40,\"thinking\":{\"type\":\"disabled\"}}"},
        {{.effort = TR_EFFORT_none, .effort_style = TR_STYLE_omit,
          .no_schema = true},
         ",\"max_completion_tokens\":40}"},
        {{.effort = -1, .require_parameters = true},
         ",\"max_completion_tokens\":40,\"response_format\":{\"type\":"
         "\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true,"
         "\"schema\":{\"type\":\"object\"}}},\"provider\":"
         "{\"require_parameters\":true}}"},
    };
    char want[1000];
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(want, sizeof want, "%s%s", HEAD, cases[i].tail);
        expect_body(&cases[i].q, &call, want);
    }
}

/* Models that charge for keeping are told what to keep, others only by which
 * key, and who has refused that is asked without it. */
static void the_cache_is_told_what_to_keep(void **state)
{
    static const struct {
        struct tr_quirks q;
        bool pays;
        const char *system, *tail;
    } cases[] = {
        {{.effort = -1, .cache_keys = true}, true, "\"S\"",
         ",\"prompt_cache_key\":\"k-0\""},
        {{.effort = -1, .cache_keys = true, .cache_marks = true}, true,
         "[{\"type\":\"text\",\"text\":\"S\",\"prompt_cache_breakpoint\":"
         "{\"mode\":\"explicit\"}}]",
         ",\"prompt_cache_options\":{\"mode\":\"explicit\"},"
         "\"prompt_cache_key\":\"k-0\""},
        {{.effort = -1, .cache_keys = true, .cache_marks = true}, false,
         "\"S\"", ",\"prompt_cache_options\":{\"mode\":\"explicit\"}"},
        {{.effort = -1, .cache_keys = true, .cache_marks = true,
          .no_cache = true}, true, "\"S\"", ""},
        {{.effort = -1}, true, "\"S\"", ""},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tr_call c = {
            .system = TR_STR("S"), .user = TR_STR("U"),
            .cache = cases[i].pays,
            .cache_key = cases[i].pays ? TR_STR("k-0") : TR_STR(""),
        };
        char want[400];

        snprintf(want, sizeof want,
                 "{\"model\":\"m\",\"messages\":[{\"role\":\"system\","
                 "\"content\":%s},{\"role\":\"user\",\"content\":\"U\"}]%s}",
                 cases[i].system, cases[i].tail);
        expect_body(&cases[i].q, &c, want);
    }
}

static void absent_parts_are_left_out(void **state)
{
    (void)state;
    expect_body(&plain, &(struct tr_call){.user = TR_STR("x")},
                "{\"model\":\"m\",\"messages\":[{\"role\":\"user\","
                "\"content\":\"x\"}]}");
}

static void a_body_that_does_not_fit_is_an_error(void **state)
{
    struct tr_buf b;
    struct tr_err err;
    (void)state;

    tr_buf_init(&b, 20);
    assert_int_equal(tr_openai.encode("m", &plain, &call, &b, &err), TR_NOMEM);
    tr_buf_release(&b);
}

/* ---- learning --------------------------------------------------------- */

static enum tr_outcome refuse(struct tr_quirks *q, int status,
                              const char *param, const char *code,
                              const char *message)
{
    char body[1000];
    struct tr_reply reply = {.retry_after_ms = -1};
    struct tr_http_result r = {.status = status, .sent = true};
    struct tr_buf scratch;

    snprintf(body, sizeof body,
             "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\","
             "\"param\":%s,\"code\":%s}}",
             message, param, code);
    r.body = tr_str_c(body);
    tr_buf_init(&scratch, 0);
    tr_openai.decode(q, NULL, &r, &scratch, &reply);
    tr_buf_release(&scratch);
    assert_int_equal(reply.billing, TR_BILL_NONE);
    return reply.outcome;
}

static void a_refused_cap_is_renamed_once(void **state)
{
    struct tr_quirks q = plain;
    const char *m = "Unsupported parameter: 'max_completion_tokens'";
    (void)state;

    assert_int_equal(refuse(&q, 400, "\"max_completion_tokens\"",
                            "\"unsupported_parameter\"", m),
                     TR_OUT_ADAPT);
    assert_true(q.old_cap);
    /* requests that were in flight come back with the same words */
    assert_int_equal(refuse(&q, 400, "\"max_completion_tokens\"",
                            "\"unsupported_parameter\"", m),
                     TR_OUT_ADAPT);
    assert_true(q.old_cap);
    /* a server that refuses both names is not adapted to for ever */
    assert_int_equal(refuse(&q, 400, "\"max_tokens\"",
                            "\"unsupported_parameter\"",
                            "Unsupported parameter: 'max_tokens'"),
                     TR_OUT_BAD_REQUEST);
    assert_true(q.old_cap);
}

static void the_effort_climbs_until_it_is_taken(void **state)
{
    static const struct {
        const char *code, *message;
        enum tr_outcome outcome;
        int effort;
    } steps[] = {
        {"\"unsupported_value\"", "'none' is not supported", TR_OUT_ADAPT,
         TR_EFFORT_minimal},
        {"\"unsupported_value\"", "'none' is not supported", TR_OUT_ADAPT,
         TR_EFFORT_minimal}, /* written before */
        {"\"unsupported_value\"", "'minimal' is not supported", TR_OUT_ADAPT,
         TR_EFFORT_low},
        {"\"unsupported_value\"",
         "'low' is not supported. Supported values are: 'high' and 'max'.",
         TR_OUT_ADAPT, TR_EFFORT_high},
        {"\"unsupported_parameter\"", "no such parameter", TR_OUT_ADAPT, -1},
        {"\"unsupported_parameter\"", "no such parameter", TR_OUT_ADAPT, -1},
    };
    struct tr_quirks q = {.effort = TR_EFFORT_none, .efforts = 0x7f,
                          .effort_style = TR_STYLE_field};
    (void)state;

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        enum tr_outcome got = refuse(&q, 400, "\"reasoning_effort\"",
                                     steps[i].code, steps[i].message);

        if (got != steps[i].outcome || q.effort != steps[i].effort)
            fail_msg("step %zu: outcome %s, effort %d", i,
                     tr_outcome_word(got), q.effort);
    }
}

/* OpenRouter's words: not the field is refused but its value. */
static void who_must_reason_does_so_as_little_as_may_be(void **state)
{
    struct tr_quirks q = {.effort = TR_EFFORT_none, .efforts = 0x7f,
                          .effort_style = TR_STYLE_object};
    (void)state;

    assert_int_equal(refuse(&q, 400, "null", "400", "Reasoning is mandatory "
                            "for this endpoint and cannot be disabled."),
                     TR_OUT_ADAPT);
    assert_int_equal(q.effort, TR_EFFORT_minimal);
}

static void a_chosen_effort_is_never_changed(void **state)
{
    struct tr_quirks q = {.effort = TR_EFFORT_max, .efforts = 0x7f,
                          .effort_fixed = true,
                          .effort_style = TR_STYLE_field};
    (void)state;

    assert_int_equal(refuse(&q, 400, "\"reasoning_effort\"",
                            "\"unsupported_value\"", "'max' is too much"),
                     TR_OUT_FATAL);
    assert_int_equal(q.effort, TR_EFFORT_max);
}

/* A server that keeps naming a field which is not sent any more. */
static void stale_refusals_end(void **state)
{
    struct tr_quirks q = plain;
    int adapted = 0;
    (void)state;

    while (refuse(&q, 400, "\"response_format\"", "null", "unsupported") ==
           TR_OUT_ADAPT) {
        adapted++;
        assert_true(adapted < 1000);
    }
    assert_true(adapted > 100);
}

static void other_refusals_teach_nothing(void **state)
{
    static const struct {
        int status;
        const char *param, *code, *message;
        enum tr_outcome outcome;
    } cases[] = {
        {400, "\"max_completion_tokens\"", "\"invalid_value\"",
         "max_tokens is too large: 9. At most 8 are supported.",
         TR_OUT_BAD_REQUEST},
        {400, "\"messages\"", "null", "messages: unsupported role",
         TR_OUT_BAD_REQUEST},
        {400, "null", "null", "the thinking of this model is odd",
         TR_OUT_BAD_REQUEST}, /* no effort was sent */
        {400, "null", "\"context_length_exceeded\"",
         "maximum context length is 8 tokens (max_tokens unsupported)",
         TR_OUT_TOO_BIG},
        {401, "\"max_tokens\"", "\"unsupported_parameter\"", "x",
         TR_OUT_FATAL},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_quirks q = plain;
        enum tr_outcome got = refuse(&q, cases[i].status, cases[i].param,
                                     cases[i].code, cases[i].message);

        if (got != cases[i].outcome || q.refused || q.old_cap)
            fail_msg("case %zu: %s", i, tr_outcome_word(got));
    }
}

/* ---- hostile bodies --------------------------------------------------- */

static void deep_nesting_is_bounded(void **state)
{
    size_t n = (size_t)6 << 20;
    struct tr_buf body, scratch;
    struct tr_quirks q = plain;
    struct tr_reply reply = {0};
    (void)state;

    tr_buf_init(&body, 0);
    tr_buf_init(&scratch, 0);
    tr_buf_addz(&body, "{\"choices\":");
    for (size_t i = 0; i < n; i++)
        tr_buf_addc(&body, '[');
    tr_openai.decode(&q, NULL,
                     &(struct tr_http_result){.status = 200, .sent = true,
                                              .body = tr_buf_str(&body)},
                     &scratch, &reply);
    assert_int_equal(reply.outcome, TR_OUT_GARBLED);
    assert_int_equal(reply.billing, TR_BILL_USAGE);
    tr_buf_release(&body);
    tr_buf_release(&scratch);
}

/* Every cut of a good answer is garbled or fine, never a crash, and never
 * text from an incomplete body. */
static void every_cut_of_an_answer(void **state)
{
    static const char good[] =
        "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":"
        "\"417 \\u00e9\\n\"}}],\"usage\":{\"prompt_tokens\":1,"
        "\"completion_tokens\":2}}";
    struct tr_buf scratch;
    (void)state;

    tr_buf_init(&scratch, 0);
    for (size_t n = 0; n < sizeof good; n++) {
        struct tr_quirks q = plain;
        struct tr_reply reply = {0};
        struct tr_http_result r = {.status = 200, .sent = true};

        r.body = tr_str(good, n);
        tr_openai.decode(&q, NULL, &r, &scratch, &reply);
        assert_int_equal(reply.outcome, n == sizeof good - 1 ? TR_OUT_OK
                                                             : TR_OUT_GARBLED);
        assert_int_equal(reply.text.n, n == sizeof good - 1 ? 7 : 0);
    }
    tr_buf_release(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_byte_by_byte),
        cmocka_unit_test(the_cache_is_told_what_to_keep),
        cmocka_unit_test(absent_parts_are_left_out),
        cmocka_unit_test(a_body_that_does_not_fit_is_an_error),
        cmocka_unit_test(a_refused_cap_is_renamed_once),
        cmocka_unit_test(the_effort_climbs_until_it_is_taken),
        cmocka_unit_test(who_must_reason_does_so_as_little_as_may_be),
        cmocka_unit_test(a_chosen_effort_is_never_changed),
        cmocka_unit_test(stale_refusals_end),
        cmocka_unit_test(other_refusals_teach_nothing),
        cmocka_unit_test(deep_nesting_is_bounded),
        cmocka_unit_test(every_cut_of_an_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
