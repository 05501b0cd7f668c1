/* test_batch.c - batches as providers write them, and when to ask again.
 * SPDX-License-Identifier: MIT */
#include "wire/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

static const struct tr_batch_form *openai(void)
{
    return tr_batch_form_find("openai");
}

static struct tr_batch_news read_object(const char *form, const char *text)
{
    struct tr_batch_news news;

    assert_true(tr_batch_form_find(form)->read(&news, tr_str_c(text)));
    return news;
}

static void states_are_read_and_unknown_ones_go_on(void **state)
{
    static const struct {
        const char *form, *text;
        enum tr_batch_stage stage;
        const char *output, *errors;
        int64_t worked;
    } rows[] = {
        {"openai", "{\"id\":\"batch_1\",\"status\":\"validating\"}",
         TR_STAGE_RUNNING, "", "", -1},
        {"openai", "{\"id\":\"batch_1\",\"status\":\"in_progress\","
         "\"request_counts\":{\"completed\":3}}", TR_STAGE_RUNNING, "", "", 3},
        {"openai", "{\"id\":\"batch_1\",\"status\":\"contemplating\"}",
         TR_STAGE_RUNNING, "", "", -1},
        {"openai", "{\"id\":\"batch_1\"}", TR_STAGE_RUNNING, "", "", -1},
        {"openai", "{\"id\":\"batch_1\",\"status\":\"completed\","
         "\"output_file_id\":\"file-a\",\"error_file_id\":null}",
         TR_STAGE_ENDED, "file-a", "", -1},
        {"openai", "{\"id\":\"batch_1\",\"status\":\"expired\","
         "\"output_file_id\":\"file-a\",\"error_file_id\":\"file-b\"}",
         TR_STAGE_ENDED, "file-a", "file-b", -1},
        {"openai", "{\"id\":\"batch_1\",\"status\":\"cancelled\","
         "\"error_file_id\":\"file-b\"}", TR_STAGE_ENDED, "", "file-b", -1},
        /* a name goes into an address */
        {"openai", "{\"id\":\"batch_1\",\"status\":\"completed\","
         "\"output_file_id\":\"../../x?\"}", TR_STAGE_ENDED, "", "", -1},
        {"openai", "{\"id\":\"batch_1\",\"status\":\"completed\","
         "\"output_file_id\":\"..\"}", TR_STAGE_ENDED, "", "", -1},
        {"anthropic", "{\"id\":\"msgbatch_1\",\"processing_status\":"
         "\"in_progress\",\"results_url\":null}", TR_STAGE_RUNNING, "", "", -1},
        {"anthropic", "{\"id\":\"msgbatch_1\",\"processing_status\":\"ended\","
         "\"request_counts\":{\"succeeded\":7},"
         "\"results_url\":\"https://h/v1/r\"}", TR_STAGE_ENDED,
         "https://h/v1/r", "", 7},
    };
    struct tr_batch_news news;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        news = read_object(rows[i].form, rows[i].text);
        assert_int_equal(news.stage, rows[i].stage);
        assert_string_equal(news.output, rows[i].output);
        assert_string_equal(news.errors, rows[i].errors);
        assert_int_equal(news.worked, rows[i].worked);
    }
    assert_false(openai()->read(&news, TR_STR("<html>")));
    assert_false(openai()->read(&news, TR_STR("{\"error\":{}}")));
}

static void a_failure_says_what_it_means(void **state)
{
    struct tr_batch_news news = read_object("openai",
        "{\"id\":\"b\",\"status\":\"failed\",\"errors\":{\"data\":[{\"code\":"
        "\"token_limit_exceeded\",\"message\":\"Enqueued token limit\"}]}}");
    struct tr_wire_error e = {.message = "Line 3 is no JSON",
                              .code = "invalid_json_line"};
    (void)state;

    assert_int_equal(news.stage, TR_STAGE_FAILED);
    assert_int_equal(tr_batch_failure(&news.error), TR_OUT_THROTTLED);
    assert_int_equal(tr_batch_failure(&e), TR_OUT_FATAL);
    e = (struct tr_wire_error){.code = "billing_hard_limit_reached"};
    assert_int_equal(tr_batch_failure(&e), TR_OUT_EXHAUSTED);
}

static void a_request_becomes_a_line(void **state)
{
    struct tr_buf b;
    char id[64];
    (void)state;

    tr_buf_init(&b, 0);
    tr_batch_id_write(id, "00ff", UINT64_MAX);
    assert_string_equal(id, "t00ff-18446744073709551615");
    openai()->request(&b, id, TR_STR("{\"model\":\"m\"}"));
    assert_string_equal(b.p, "{\"custom_id\":\"t00ff-18446744073709551615\","
                        "\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
                        "\"body\":{\"model\":\"m\"}}");
    tr_buf_clear(&b);
    tr_batch_form_find("anthropic")->request(&b, "t1-2", TR_STR("{}"));
    assert_string_equal(b.p, "{\"custom_id\":\"t1-2\",\"params\":{}}");
    tr_buf_release(&b);
}

static void only_our_own_ids_count(void **state)
{
    static const char *const foreign[] = {
        "", "t", "t00ff-", "t00ff-x", "t00ff-7x", "t00ff-07", "t00fe-7",
        "t00ff7", "00ff-7", "t00ff--7", "t00ff- 7", "request-7",
    };
    uint64_t attempt;
    (void)state;

    assert_true(tr_batch_id_read("t00ff-7", "00ff", &attempt));
    assert_int_equal(attempt, 7);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        assert_false(tr_batch_id_read(foreign[i], "00ff", &attempt));
}

/* Each line is judged on its own, wherever it stands. */
static void lines_of_results(void **state)
{
    static const struct {
        const char *form, *text;
        int status;
        bool done, untouched;
        const char *body, *message;
    } rows[] = {
        {"openai", "{\"custom_id\":\"t1-2\",\"response\":{\"status_code\":200,"
         "\"request_id\":\"r\",\"body\":{\"a\":1}},\"error\":null}",
         200, true, false, "{\"a\":1}", ""},
        {"openai", "{\"custom_id\":\"t1-2\",\"response\":{\"status_code\":400,"
         "\"body\":{\"error\":{}}},\"error\":null}",
         400, true, false, "{\"error\":{}}", ""},
        {"openai", "{\"custom_id\":\"t1-2\",\"response\":{\"status_code\":0,"
         "\"body\":{}},\"error\":null}", 0, false, false, "", ""},
        {"openai", "{\"custom_id\":\"t1-2\",\"response\":null,\"error\":"
         "{\"code\":\"batch_expired\",\"message\":\"m\"}}",
         0, false, true, "", "m"},
        {"openai", "{\"custom_id\":\"t1-2\",\"response\":null,\"error\":"
         "{\"code\":\"odd\",\"message\":\"m\"}}", 0, false, false, "", "m"},
        {"anthropic", "{\"custom_id\":\"t1-2\",\"result\":{\"type\":"
         "\"succeeded\",\"message\":{\"a\":1}}}", 200, true, false,
         "{\"a\":1}", ""},
        {"anthropic", "{\"custom_id\":\"t1-2\",\"result\":{\"type\":"
         "\"expired\"}}", 0, false, true, "", ""},
        {"anthropic", "{\"custom_id\":\"t1-2\",\"result\":{\"type\":"
         "\"errored\",\"error\":{\"type\":\"error\",\"error\":{\"type\":"
         "\"invalid_request_error\",\"message\":\"m\"}}}}", 400, true, false,
         "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\","
         "\"message\":\"m\"}}", "m"},
        {"anthropic", "{\"custom_id\":\"t1-2\",\"result\":{\"type\":"
         "\"errored\",\"error\":{\"type\":\"error\",\"error\":{\"type\":"
         "\"odd_error\",\"message\":\"m\"}}}}", 0, false, false, "", "m"},
    };
    struct tr_batch_line line;
    struct tr_buf scratch;
    (void)state;

    tr_buf_init(&scratch, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct tr_batch_form *form = tr_batch_form_find(rows[i].form);

        assert_true(form->line(&line, tr_str_c(rows[i].text), &scratch));
        assert_string_equal(line.id, "t1-2");
        assert_int_equal(line.status, rows[i].status);
        assert_int_equal(line.done, rows[i].done);
        assert_int_equal(line.untouched, rows[i].untouched);
        assert_true(tr_str_eq_c(line.body, rows[i].body));
        assert_string_equal(line.error.message, rows[i].message);
    }
    assert_false(openai()->line(&line, TR_STR("{\"custom_id\":\"t1"), &scratch));
    assert_false(openai()->line(&line, TR_STR("{}"), &scratch));
    assert_false(openai()->line(&line, TR_STR("{\"custom_id\":"
                                              "\"t1-2\\u0000x\"}"), &scratch));
    tr_buf_release(&scratch);
}

/* Anthropic's lines have no status: the type tells what it would have been. */
static void an_errored_line_has_a_status(void **state)
{
    static const struct {
        const char *type;
        int status;
    } rows[] = {
        {"invalid_request_error", 400}, {"authentication_error", 401},
        {"billing_error", 402},         {"permission_error", 403},
        {"not_found_error", 404},       {"conflict_error", 409},
        {"request_too_large", 413},     {"rate_limit_error", 429},
        {"api_error", 500},             {"timeout_error", 504},
        {"overloaded_error", 529},      {"api_error2", 0},
    };
    struct tr_batch_line line;
    struct tr_buf scratch;
    char text[200];
    (void)state;

    tr_buf_init(&scratch, 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(text, sizeof text, "{\"custom_id\":\"t1-2\",\"result\":{"
                 "\"type\":\"errored\",\"error\":{\"error\":{\"type\":\"%s\"}}"
                 "}}", rows[i].type);
        assert_true(tr_batch_form_find("anthropic")->line(
            &line, tr_str_c(text), &scratch));
        assert_int_equal(line.status, rows[i].status);
        assert_int_equal(line.done, rows[i].status != 0);
        assert_true((line.body.n > 0) == line.done);
    }
    tr_buf_release(&scratch);
}

static void a_lost_batch_is_found_by_its_mark(void **state)
{
    static const char page[] =
        "{\"data\":[{\"id\":\"batch_9\",\"status\":\"in_progress\","
        "\"metadata\":null},{\"id\":\"batch_8\",\"status\":\"in_progress\","
        "\"metadata\":{\"trommel\":\"ab\"}}],\"has_more\":true}";
    struct tr_batch batch = {.mark = "ab"};
    struct tr_batch_wanted wanted = {.batch = &batch};
    struct tr_batch_news news;
    char next[40];
    bool valid;
    (void)state;

    assert_true(openai()->find(&news, &wanted, TR_STR(page), next, sizeof next,
                               &valid));
    assert_string_equal(news.name, "batch_8");
    batch.mark[0] = 'x';
    assert_false(openai()->find(&news, &wanted, TR_STR(page), next,
                                sizeof next, &valid));
    assert_true(valid);
    assert_string_equal(next, "batch_8"); /* the next page comes after it */
    assert_false(openai()->find(&news, &wanted, TR_STR("{}"), next,
                                sizeof next, &valid));
    assert_false(valid);
}

static void questions_become_rarer(void **state)
{
    int64_t last = 0;
    (void)state;

    for (unsigned i = 0; i < 12; i++) {
        int64_t ms = tr_batch_poll_ms(i, 30000, -1, 0.5);

        assert_true(ms >= last && ms >= 30000 && ms <= 300000);
        last = ms;
    }
    assert_int_equal(last, 300000);
    assert_int_equal(tr_batch_poll_ms(0, 30000, 700000, 0.5), 700000);
    assert_true(tr_batch_poll_ms(0, 30000, -1, 0) <
                tr_batch_poll_ms(0, 30000, -1, 0.99));
    assert_int_equal(tr_batch_look_ms(0, 30000), 2100);
    assert_int_equal(tr_batch_look_ms(2, 30000), 60000);
    assert_int_equal(tr_batch_look_ms(3, 30000), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_are_read_and_unknown_ones_go_on),
        cmocka_unit_test(a_failure_says_what_it_means),
        cmocka_unit_test(a_request_becomes_a_line),
        cmocka_unit_test(only_our_own_ids_count),
        cmocka_unit_test(lines_of_results),
        cmocka_unit_test(an_errored_line_has_a_status),
        cmocka_unit_test(a_lost_batch_is_found_by_its_mark),
        cmocka_unit_test(questions_become_rarer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
