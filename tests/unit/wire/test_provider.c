/* test_provider.c - waits, redaction, classes, and who gets which key.
 * SPDX-License-Identifier: MIT */
#include "wire/provider.h"

#include "base/mem.h"
#include "wire/layer.h"

#include <fcntl.h>
#include <setjmp.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* TR_STR() is no constant expression to a strict compiler. */
#define YAML(text) {(text), sizeof(text) - 1}

#define NOW INT64_C(1795514400) /* 2026-11-24T10:00:00Z */

/* ---- waits ------------------------------------------------------------ */

static void durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"6m0s", 360000}, {"120ms", 120}, {"1h12m0s", 4320000},
        {"8.64s", 8640}, {"2m59.56s", 179560}, {"0s", 0}, {"3.5", 3500},
        {"20", 20000}, {" 7 ", 7000}, {"0", 0}, {"1.5ms", 2}, {"900us", 1},
        {"900\xc2\xb5s", 1}, {"5ns", 1}, {"0.0001", 1},
        {"48h", 86400000}, {"99999999999h", 86400000},
        {"99999999999999999999999999s", 86400000}, {"86401", 86400000},
        {"2026-11-24T10:00:30Z", 30000}, {"2026-11-24T12:00:30+02:00", 30000},
        {"2026-11-24T10:00:30.123Z", 30000}, {"2026-11-24T09:00:00Z", 0},
        {"Tue, 24 Nov 2026 10:01:00 GMT", 60000},
        {"Tuesday, 24-Nov-26 10:01:00 GMT", 60000},
        {"Tue Nov 24 10:01:00 2026", 60000},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 0},
        {"1795514430", 30000}, {"1795514430000", 30000},
        {"", -1}, {"-1", -1}, {"NaN", -1}, {"inf", -1}, {"1e9", -1},
        {"soon", -1}, {"5 parsecs", -1}, {"1h and more", -1}, {"s", -1},
        {"2026-13-01T00:00:00Z", -1}, {"2026-11-24T25:00:00Z", -1},
        {"Tue, 24 Foo 2026 10:01:00 GMT", -1}, {"\xff\xfe", -1},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ms = tr_wire_duration_ms(tr_str_c(cases[i].text), NOW);

        if (ms != cases[i].ms)
            fail_msg("%s: %lld, not %lld", cases[i].text, (long long)ms,
                     (long long)cases[i].ms);
    }
    /* no time of ours, and no offset of any zone */
    assert_int_equal(tr_wire_date_s(TR_STR("1970-01-01T00:00:00+01:00")), -1);
    assert_int_equal(tr_wire_date_s(TR_STR("2026-05-29T13:15:17+99:99")), -1);
    assert_int_equal(tr_wire_date_s(TR_STR("Sun, 06 Nov 1994 08:49:37 GMT")),
                     784111777);
}

static void try_again(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"Please try again in 84ms.", 84},
        {"Please try again in 1.146s. Visit x", 1146},
        {"Please try again in 6m0s.", 360000},
        {"Try again in 60 seconds. Passed model=x", 60000},
        {"try again in 2 minutes", 120000},
        {"try again in 9", 9000},
        {"Please try again in 2 days.", 86400000}, /* no wait is longer */
        {"Please try again in 0.25 days.", 21600000},
        {"try again in 0.999999999d", 86400000},
        {"try again in 0.999999999h", 3600000},
        {"Please retry after 3s", 3000},
        {"please try again later", -1},
        {"try again in a while", -1},
        {"", -1},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(tr_wire_try_again_ms(tr_str_c(cases[i].text)),
                         cases[i].ms);
}

/* Whatever bytes a server puts into Retry-After, the wait is sane. */
static void any_retry_after_is_bounded(void **state)
{
    uint32_t seed = 1;
    (void)state;

    for (int i = 0; i < 200000; i++) {
        static const char letters[] = "0123456789.:hmsun -+TZGMTNovTue,eE";
        char text[24], headers[64];
        struct tr_limits limits;
        size_t n;
        int64_t ms;

        for (n = 0; n < sizeof text - 1; n++) {
            seed = seed * 1664525 + 1013904223;
            if ((seed >> 28) == 0)
                break;
            text[n] = letters[(seed >> 16) % (sizeof letters - 1)];
        }
        text[n] = '\0';
        snprintf(headers, sizeof headers, "retry-after%s: %s\n",
                 i & 1 ? "-ms" : "", text);
        tr_wire_limits(tr_str_c(headers), NOW, &limits, &ms);
        assert_in_range(ms + 1, 0, 86400001);
    }
}

/* What every family of headers says: limit, remaining, reset in ms, window in
 * ms where it is stated. */
static void limits_of_every_family(void **state)
{
#define NOTHING {-1, -1, -1, 0}
    static const struct {
        const char *headers;
        struct tr_limits limits;
    } cases[] = {
        {"x-ratelimit-limit-requests: 500\n" /* OpenAI */
         "x-ratelimit-remaining-requests: 499\n"
         "x-ratelimit-reset-requests: 120ms\n"
         "x-ratelimit-limit-tokens: 200000\n"
         "x-ratelimit-remaining-tokens: 195588\n"
         "x-ratelimit-reset-tokens: 6m0s\n",
         {{500, 499, 120, 0}, {200000, 195588, 360000, 0}, NOTHING, NOTHING}},
        {"x-ratelimit-remaining-requests: 17\n" /* Azure */
         "x-ratelimit-remaining-tokens: 5031\n",
         {{-1, 17, -1, 0}, {-1, 5031, -1, 0}, NOTHING, NOTHING}},
        {"date: Tue, 24 Nov 2026 10:00:00 GMT\n" /* Anthropic */
         "anthropic-ratelimit-requests-limit: 4000\n"
         "anthropic-ratelimit-requests-remaining: 3999\n"
         "anthropic-ratelimit-requests-reset: 2026-11-24T10:00:01Z\n"
         "anthropic-ratelimit-input-tokens-limit: 2000000\n"
         "anthropic-ratelimit-input-tokens-remaining: 1990000\n"
         "anthropic-ratelimit-input-tokens-reset: 2026-11-24T10:00:02Z\n"
         "anthropic-ratelimit-output-tokens-limit: 400000\n"
         "anthropic-ratelimit-output-tokens-remaining: 399000\n"
         "anthropic-ratelimit-output-tokens-reset: 2026-11-24T10:00:00Z\n"
         "anthropic-ratelimit-tokens-limit: 2400000\n"
         "anthropic-ratelimit-tokens-remaining: 2389000\n"
         "anthropic-ratelimit-tokens-reset: 2026-11-24T10:00:02Z\n",
         {{4000, 3999, 1000, 60000}, NOTHING, {2000000, 1990000, 2000, 60000},
          {400000, 399000, 0, 60000}}},
        {"anthropic-ratelimit-tokens-limit: 50000\n" /* older Anthropic */
         "anthropic-ratelimit-tokens-remaining: 41000\n",
         {NOTHING, {50000, 41000, -1, 60000}, NOTHING, NOTHING}},
        {"x-ratelimit-limit-requests: 14400\n" /* Groq: a day, a minute */
         "x-ratelimit-remaining-requests: 14370\n"
         "x-ratelimit-reset-requests: 2m59.56s\n"
         "x-ratelimit-limit-tokens: 18000\n"
         "x-ratelimit-remaining-tokens: 17997\n"
         "x-ratelimit-reset-tokens: 7.66s\n",
         {{14400, 14370, 179560, 0}, {18000, 17997, 7660, 0}, NOTHING,
          NOTHING}},
        {"x-ratelimit-limit-req-second: 6\n" /* Mistral */
         "x-ratelimit-remaining-req-second: 5\n"
         "x-ratelimit-limit-tokens-minute: 500000\n"
         "x-ratelimit-remaining-tokens-minute: 499000\n",
         {{6, 5, -1, 1000}, {500000, 499000, -1, 60000}, NOTHING, NOTHING}},
        {"x-ratelimit-limit: 20\n" /* OpenRouter, on 429 only */
         "x-ratelimit-remaining: 0\n"
         "x-ratelimit-reset: 1795514430000\n",
         {{20, 0, 30000, 0}, NOTHING, NOTHING, NOTHING}},
        {"x-ratelimit-limit-requests-minute: 30\n" /* Cerebras */
         "x-ratelimit-remaining-requests-minute: 29\n"
         "x-ratelimit-limit-requests-day: 900\n"
         "x-ratelimit-remaining-requests-day: 12\n",
         {{30, 29, -1, 60000}, NOTHING, NOTHING, NOTHING}},
        {"x-ratelimit-limit-requests-minute: 30\n" /* the day is used up */
         "x-ratelimit-remaining-requests-minute: 29\n"
         "x-ratelimit-limit-requests-day: 900\n"
         "x-ratelimit-remaining-requests-day: 0\n"
         "x-ratelimit-reset-requests-day: 33011.38\n",
         {{900, 0, 33011380, 86400000}, NOTHING, NOTHING, NOTHING}},
        {"ratelimit-limit: 100, 100;w=60\n" /* the IETF's draft */
         "ratelimit-remaining: 40\n"
         "ratelimit-reset: 12\n",
         {{100, 40, 12000, 60000}, NOTHING, NOTHING, NOTHING}},
        {"x-ratelimit-limit-requests: many\n"
         "x-ratelimit-remaining-requests: -3\n"
         "x-ratelimit-reset-requests: soon\n",
         {NOTHING, NOTHING, NOTHING, NOTHING}},
        {"", {NOTHING, NOTHING, NOTHING, NOTHING}},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_limits l;
        int64_t wait_ms;

        tr_wire_limits(tr_str_c(cases[i].headers), NOW, &l, &wait_ms);
        if (memcmp(&l, &cases[i].limits, sizeof l) != 0)
            fail_msg("%s: requests %lld %lld %lld %lld tokens %lld %lld %lld "
                     "%lld", cases[i].headers, (long long)l.requests.limit,
                     (long long)l.requests.remaining,
                     (long long)l.requests.reset_ms,
                     (long long)l.requests.window_ms,
                     (long long)l.tokens.limit, (long long)l.tokens.remaining,
                     (long long)l.tokens.reset_ms,
                     (long long)l.tokens.window_ms);
        assert_int_equal(wait_ms, -1);
    }
#undef NOTHING
}

/* ---- redaction -------------------------------------------------------- */

static void redaction(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"Incorrect API key provided: sk-proj-ab****wxyz. See x",
         "Incorrect API key provided: [key] See x"},
        {"bad key sk-abcdefgh1234", "bad key [key]"},
        {"Authorization: Bearer abc.def", "Authorization: Bearer [key]"},
        {"https://x/?key=AIzaSyA1&b=2", "https://x/?key=[key]&b=2"},
        {"gsk_1234567890", "[key]"},
        {"your key (xai-12345678) is", "your key ([key]) is"},
        {"key ab***yz was refused", "key [key] was refused"},
        {"task-force and risk-management", "task-force and risk-management"},
        {"max_tokens=5 is fine", "max_tokens=5 is fine"},
        {"two\r\nlines\x1b[31m\tred", "two lines [31m red"},
        {"caf\xc3\xa9 \xff\xfe \xc2\x9b" "31m", "caf\xc3\xa9 ?? ??31m"},
        {"", ""},
    };
    char small[9] = "ab\xc3\xa9\xc3\xa9\xc3\xa9";
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[300];

        snprintf(text, sizeof text, "%s", cases[i].in);
        tr_wire_redact(text, sizeof text);
        if (strcmp(text, cases[i].out) != 0)
            fail_msg("%s became %s", cases[i].in, text);
    }
    tr_wire_redact(small, 6); /* cut between characters */
    assert_string_equal(small, "ab\xc3\xa9");
}

/* A server that chooses the text must not choose how long we look at it: going
 * through this again from every sign would take hours. */
static void redaction_looks_at_a_text_once(void **state)
{
    size_t n = (size_t)2 << 20;
    char *text = tr_alloc(n + 1);
    (void)state;

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        text[i] = i % 2 ? 'a' : '=';
    tr_wire_redact(text, n + 1);
    assert_int_equal(strlen(text), n);
    tr_free(text);
}

/* ---- classes ---------------------------------------------------------- */

static void network_failures(void **state)
{
    static const struct {
        enum tr_net net;
        bool sent;
        int status;
        enum tr_outcome outcome;
        enum tr_billing billing;
    } cases[] = {
        {TR_NET_DNS, false, 0, TR_OUT_UNREACHED, TR_BILL_NONE},
        {TR_NET_CONNECT, false, 0, TR_OUT_UNREACHED, TR_BILL_NONE},
        {TR_NET_TLS, false, 0, TR_OUT_UNREACHED, TR_BILL_NONE},
        {TR_NET_REFUSED, false, 0, TR_OUT_FATAL, TR_BILL_NONE},
        {TR_NET_TIMEOUT, true, 0, TR_OUT_LOST, TR_BILL_UNKNOWN},
        {TR_NET_TIMEOUT, true, 200, TR_OUT_LOST, TR_BILL_UNKNOWN},
        {TR_NET_TIMEOUT, false, 0, TR_OUT_UNREACHED, TR_BILL_NONE},
        {TR_NET_CUT, true, 0, TR_OUT_LOST, TR_BILL_UNKNOWN},
        {TR_NET_CUT, true, 200, TR_OUT_LOST, TR_BILL_UNKNOWN},
        {TR_NET_CUT, true, 429, TR_OUT_THROTTLED, TR_BILL_NONE},
        {TR_NET_CUT, false, 0, TR_OUT_UNREACHED, TR_BILL_NONE},
        {TR_NET_TOO_BIG, true, 200, TR_OUT_GARBLED, TR_BILL_USAGE},
        {TR_NET_TOO_BIG, true, 500, TR_OUT_TRANSIENT, TR_BILL_UNKNOWN},
        {TR_NET_OTHER, true, 0, TR_OUT_LOST, TR_BILL_UNKNOWN},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_http_result r = {.net = cases[i].net, .sent = cases[i].sent,
                                   .status = cases[i].status};
        struct tr_wire_error e = {0};
        struct tr_reply reply = {.retry_after_ms = -1};

        tr_wire_classify(&r, &e, &reply);
        if (reply.outcome != cases[i].outcome ||
            reply.billing != cases[i].billing)
            fail_msg("case %zu: %s, billing %d", i,
                     tr_outcome_word(reply.outcome), reply.billing);
    }
}

static void bare_statuses(void **state)
{
    static const struct {
        int status;
        enum tr_outcome outcome;
        enum tr_billing billing;
    } cases[] = {
        {301, TR_OUT_FATAL, TR_BILL_NONE},
        {308, TR_OUT_FATAL, TR_BILL_NONE},
        {400, TR_OUT_BAD_REQUEST, TR_BILL_NONE},
        {401, TR_OUT_FATAL, TR_BILL_NONE},
        {402, TR_OUT_EXHAUSTED, TR_BILL_NONE},
        {403, TR_OUT_FATAL, TR_BILL_NONE},
        {404, TR_OUT_FATAL, TR_BILL_NONE},
        {407, TR_OUT_FATAL, TR_BILL_NONE},
        {408, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {409, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {413, TR_OUT_TOO_BIG, TR_BILL_NONE},
        {412, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {418, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {421, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {422, TR_OUT_BAD_REQUEST, TR_BILL_NONE},
        {424, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {425, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {429, TR_OUT_THROTTLED, TR_BILL_NONE},
        {498, TR_OUT_THROTTLED, TR_BILL_NONE},
        {499, TR_OUT_TRANSIENT, TR_BILL_NONE},
        {500, TR_OUT_TRANSIENT, TR_BILL_UNKNOWN},
        {502, TR_OUT_TRANSIENT, TR_BILL_UNKNOWN},
        {503, TR_OUT_THROTTLED, TR_BILL_NONE},
        {504, TR_OUT_TRANSIENT, TR_BILL_UNKNOWN},
        {524, TR_OUT_TRANSIENT, TR_BILL_UNKNOWN},
        {529, TR_OUT_THROTTLED, TR_BILL_NONE},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_http_result r = {.sent = true, .status = cases[i].status};
        struct tr_wire_error e = {0};
        struct tr_reply reply = {.retry_after_ms = -1};

        tr_wire_classify(&r, &e, &reply);
        if (reply.outcome != cases[i].outcome ||
            reply.billing != cases[i].billing || !reply.message[0])
            fail_msg("%d: %s, billing %d", cases[i].status,
                     tr_outcome_word(reply.outcome), reply.billing);
    }
}

/* As providers word what is no fault of the key, the model or the server. */
static void words_decide(void **state)
{
    static const struct {
        int status;
        const char *message;
        enum tr_outcome outcome;
    } cases[] = {
        {403, "Content violates usage guidelines. Failed check: "
         "SAFETY_CHECK_TYPE_BIO", TR_OUT_REFUSED},
        {403, "input tokens and max_tokens exceed the model's context length",
         TR_OUT_TOO_BIG},
        {403, "Your team lacks access to this model", TR_OUT_FATAL},
        {400, "Output blocked by content filtering policy", TR_OUT_REFUSED},
        {400, "Content Exists Risk", TR_OUT_REFUSED},
        {400, "input length and `max_tokens` exceed context limit: 199 + 10 > "
         "200", TR_OUT_TOO_BIG},
        {400, "This model's maximum prompt length is 131072", TR_OUT_TOO_BIG},
        {422, "`inputs` tokens + `max_new_tokens` must be <= 8193",
         TR_OUT_BAD_REQUEST}, /* the sum stands in no known words */
        {422, "max_new_tokens must be <= 8193", TR_OUT_TOO_BIG},
        {400, "Could not finish the message because max_tokens or model output "
         "limit was reached. Please try again with higher max_tokens.",
         TR_OUT_CUT_SHORT},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_http_result r = {.sent = true, .status = cases[i].status};
        struct tr_wire_error e = {0};
        struct tr_reply reply = {.retry_after_ms = -1,
                                 .usage = {-1, -1, -1, -1, -1}};

        snprintf(e.message, sizeof e.message, "%s", cases[i].message);
        tr_wire_classify(&r, &e, &reply);
        if (reply.outcome != cases[i].outcome ||
            reply.billing != TR_BILL_NONE ||
            (reply.usage.reasoning > 0) != (reply.outcome == TR_OUT_CUT_SHORT))
            fail_msg("%s: %s", cases[i].message,
                     tr_outcome_word(reply.outcome));
    }
}

static void the_server_may_ask_for_another_try(void **state)
{
    struct tr_http_result r = {.sent = true, .status = 400,
                               .headers = TR_STR("x-should-retry: true\n")};
    struct tr_wire_error e = {0};
    struct tr_reply reply = {.retry_after_ms = -1};
    (void)state;

    tr_wire_classify(&r, &e, &reply);
    assert_int_equal(reply.outcome, TR_OUT_TRANSIENT);
}

/* ---- keys and addresses ----------------------------------------------- */

static char config_dir[64];
static const char house[] = "rpm: 10\nproviders:\n  house:\n    base_url: "
                            "https://llm.example/v1\n    key_env: OTHER_KEY\n"
                            "    rpm: 60\n";

static const char *some_env(const char *name)
{
    static const struct {
        const char *name, *value;
    } vars[] = {
        {"OPENAI_API_KEY", "sk-openai-canary"},
        {"OTHER_KEY", "other-canary"},
        {"GROQ_BASE_URL", "https://gateway.example/groq/v1/"},
        {"GROQ_API_KEY", "gsk-canary"},
        {"BAD_KEY", "line\nend"},
        {"EMPTY_KEY", ""},
        {"ANTHROPIC_API_KEY", "sk-ant-canary"},
        {"GEMINI_API_KEY", "AIza-canary"},
        {"AZURE_OPENAI_API_KEY", "azure-canary"},
        {"AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/"},
        {"XAI_API_KEY", "x"},
        {"GATE", " Bearer canary gate\n"},
        {"XAI_BASE_URL", "http://203.0.113.5/v1"},
    };

    for (size_t i = 0; i < sizeof vars / sizeof *vars; i++) {
        if (strcmp(vars[i].name, name) == 0)
            return vars[i].value;
    }
    return NULL;
}

static int target(struct tr_target *t, struct tr_lane_opts o,
                  struct tr_err *err)
{
    struct tr_catalog *c = NULL;
    int rc;

    o.env = some_env;
    o.config_dir = config_dir;
    rc = tr_catalog_open(&c, &o, err);
    if (rc == TR_OK)
        rc = tr_target_find(t, c, &o, err);
    t->provider = NULL; /* gone with the catalog */
    t->facts = NULL;
    tr_catalog_close(c);
    return rc;
}

static void find(struct tr_target *t, struct tr_lane_opts o, size_t i)
{
    struct tr_err err = {0};

    if (target(t, o, &err) != TR_OK)
        fail_msg("case %zu: %s", i, err.text);
}

static void keys_go_to_their_own_origin(void **state)
{
    static const struct {
        struct tr_lane_opts o;
        const char *url, *key, *model;
    } cases[] = {
        {{.model = "openai/gpt-6-luna"},
         "https://api.openai.com/v1/chat/completions", "sk-openai-canary",
         "gpt-6-luna"},
        {{.model = "openai/gpt-6-luna",
          .base_url = "https://evil.example/v1"},
         "https://evil.example/v1/chat/completions", "", "gpt-6-luna"},
        {{.model = "openai/x", .base_url = "http://127.0.0.1:9/v1/",
          .key_env = "OTHER_KEY"},
         "http://127.0.0.1:9/v1/chat/completions", "other-canary", "x"},
        {{.model = "openai/x",
          .base_url = "http://localhost:9/v1/chat/completions"},
         "http://localhost:9/v1/chat/completions", "", "x"},
        {{.model = "openai/x", .base_url = "http://[::1]:9/v1"},
         "http://[::1]:9/v1/chat/completions", "", "x"},
        {{.model = "openai/x", .base_url = "http://10.0.0.5:9/v1",
          .allow_http = true},
         "http://10.0.0.5:9/v1/chat/completions", "", "x"},
        {{.model = "groq/openai/gpt-oss-20b"},
         "https://gateway.example/groq/v1/chat/completions", "gsk-canary",
         "openai/gpt-oss-20b"},
        {{.model = "ollama/llama3.2:1b"},
         "http://127.0.0.1:11434/v1/chat/completions", "", "llama3.2:1b"},
        {{.model = "llamacpp/m"},
         "http://127.0.0.1:8080/v1/chat/completions", "", "m"},
        {{.model = "mine/m",
          .providers_yaml = YAML("mine: {base_url: "
                                   "\"http://127.0.0.1:8000/v1\", key_env: "
                                   "OTHER_KEY, rpm: 600}")},
         "http://127.0.0.1:8000/v1/chat/completions", "other-canary", "m"},
        {{.model = "house/m"}, /* from config.yaml */
         "https://llm.example/v1/chat/completions", "other-canary", "m"},
        {{.model = "openai/m", .key_env = "OPENAI_API_KEY",
          .task_says_key = true},
         "https://api.openai.com/v1/chat/completions", "sk-openai-canary",
         "m"},
        {{.model = "openai/m", .base_url = "https://gateway.example/v1",
          .task_says_url = true, .key_env = "OPENAI_API_KEY",
          .key_is_meant = true},
         "https://gateway.example/v1/chat/completions", "sk-openai-canary",
         "m"},
        {{.model = "mine/m", .key_env = "OTHER_KEY", .key_is_meant = true,
          .providers_yaml = YAML("mine: {base_url: "
                                   "\"https://gateway.example/v1\"}")},
         "https://gateway.example/v1/chat/completions", "other-canary", "m"},
        {{.model = "openai/m", /* who moves the origin leaves the key */
          .providers_yaml = YAML("openai: {base_url: "
                                   "\"https://evil.example/v1\"}")},
         "https://evil.example/v1/chat/completions", "", "m"},
        {{.model = "mine/m", /* also when a row is copied */
          .providers_yaml = YAML("mine: {like: openai, base_url: "
                                   "\"https://evil.example/v1\"}")},
         "https://evil.example/v1/chat/completions", "", "m"},
        {{.model = "anthropic/claude-haiku-5-5"},
         "https://api.anthropic.com/v1/messages", "sk-ant-canary",
         "claude-haiku-5-5"},
        {{.model = "anthropic/m", .base_url = "http://127.0.0.1:9"},
         "http://127.0.0.1:9/v1/messages", "", "m"},
        {{.model = "anthropic/m", .base_url = "http://127.0.0.1:9/x/v1/"},
         "http://127.0.0.1:9/x/v1/messages", "", "m"},
        {{.model = "anthropic/m",
          .base_url = "http://127.0.0.1:9/v1/messages"},
         "http://127.0.0.1:9/v1/messages", "", "m"},
        {{.model = "openai/m", /* a host that is called as a path begins */
          .base_url = "https://chat"},
         "https://chat/chat/completions", "", "m"},
        {{.model = "gemini/gemini-3.8-flash"},
         "https://generativelanguage.googleapis.com/v1beta/models/"
         "gemini-3.8-flash:generateContent", "AIza-canary",
         "gemini-3.8-flash"},
        {{.model = "gemini/../x?key=1#", .base_url = "http://127.0.0.1:9"},
         "http://127.0.0.1:9/v1beta/models/..%2Fx%3Fkey%3D1%23:generateContent",
         "", "../x?key=1#"},
        {{.model = "azure/my-gpt"},
         "https://me.openai.azure.com/openai/v1/chat/completions",
         "azure-canary", "my-gpt"},
        {{.model = "azure-classic/my-gpt"},
         "https://me.openai.azure.com/openai/deployments/my-gpt/chat/"
         "completions?api-version=2024-10-21", "azure-canary", "my-gpt"},
        {{.model = "azure/g", /* as Azure's portal shows it */
          .base_url = "https://me.openai.azure.com/openai/v1/"},
         "https://me.openai.azure.com/openai/v1/chat/completions", "", "g"},
        {{.model = "openai-responses/gpt-6-luna"},
         "https://api.openai.com/v1/responses", "sk-openai-canary",
         "gpt-6-luna"},
        {{.model = "openai-decisions/gpt-6-luna"},
         "https://api.openai.com/v1/decisions", "sk-openai-canary",
         "gpt-6-luna"},
        {{.model = "fireworks-decisions/m", .key_env = "OTHER_KEY"},
         "https://api.fireworks.ai/inference/v1/systemone", "other-canary",
         "m"},
        {{.model = "llama-server-messages/m"},
         "http://127.0.0.1:8080/v1/messages", "", "m"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_target t;

        find(&t, cases[i].o, i);
        assert_string_equal(t.url, cases[i].url);
        assert_string_equal(t.key, cases[i].key);
        assert_string_equal(t.model, cases[i].model);
    }
}

static void what_is_refused_and_in_which_words(void **state)
{
    static const struct {
        struct tr_lane_opts o;
        const char *words;
    } cases[] = {
        {{.model = "mistral/m"}, "set MISTRAL_API_KEY"},
        {{.model = "opneai/m"}, "did you mean openai"},
        {{.model = "gpt-6-luna"}, "did you mean openai/gpt-6-luna?"},
        {{.model = "nonsense"}, "provider/model"},
        {{.model = "openai/"}, "empty"},
        {{.model = ""}, "provider/model"},
        {{.model = "openai/x", .key_env = "NO_SUCH"}, "NO_SUCH"},
        {{.model = "openai/x", .key_env = "EMPTY_KEY"}, "not set"},
        {{.model = "openai/x", .key_env = "BAD_KEY"}, "line end"},
        {{.model = "openai/x", .key_env = "sk-proj-canary01"}, "the NAME"},
        {{.model = "openai/x", .key_env = "9f8canary36a7f"}, "the NAME"},
        {{.model = "openai/x", .key_env = "canaryQ7"}, "the NAME"},
        {{.model = "openai/x", .key_env = "my_key_2"}, "my_key_2"},
        {{.model = "openai/x", .key_file = "sk-proj-canary01"}, "its NAME"},
        {{.model = "openai/x", .key_file = "keys/Aq7canaryZx81Kp4"},
         "its NAME"},
        {{.model = "openai/x", .key_file = "canary8f6e2d1c7b9a"},
         "its NAME"},
        {{.model = "openai/x", .key_file = "/home/me/openai-2026-11-30.key"},
         "openai-2026-11-30.key"},
        {{.model = "openai/x", .key_file = "/nonexistent/key"},
         "No such file"},
        {{.model = "openai/x", .base_url = "http://10.0.0.5/v1"},
         "--allow-http"},
        {{.model = "openai/x", .base_url = "http://127.0.0.1.evil.example/"},
         "--allow-http"},
        {{.model = "openai/x", .base_url = "http://localhost.evil.example/"},
         "--allow-http"},
        {{.model = "openai/x", .base_url = "http://2130706433/v1"},
         "--allow-http"},
        {{.model = "openai/x", .base_url = "http://127.0.0.1@evil.example/"},
         "user name"},
        {{.model = "openai/x", .base_url = "https://x.example/v1?key=1"},
         "?"},
        {{.model = "openai/x", .base_url = "https://x.example/\r\nX: 1"},
         "blanks"},
        {{.model = "openai/x", .base_url = "file:///etc/passwd"}, "address"},
        {{.model = "openai/x", .base_url = "https:///v1"}, "no host"},
        {{.model = "xai/x"}, "XAI_BASE_URL"},
        {{.model = "openai/x", .effort = "lots"}, "efforts are"},
        {{.model = "openai/gpt-5-mini", .effort = "none"},
         "does not take --effort none"},
        {{.model = "m/x", .providers_yaml = YAML("m: {bas_url: x}")},
         "did you mean base_url?"},
        {{.model = "m/x", .providers_yaml = YAML("m: {dialect: gopher, "
                                                   "base_url: "
                                                   "\"https://x.example\"}")},
         "gopher"},
        {{.model = "m/x", .providers_yaml = YAML("m: {dialect: antropic, "
                                                   "base_url: "
                                                   "\"https://x.example\"}")},
         "did you mean anthropic?"},
        {{.model = "m/x", .providers_yaml = YAML("m: {path: v1/messages}")},
         "a path such as"},
        {{.model = "m/x", .providers_yaml = YAML("m: {key_header: \"a:b\"}")},
         "name of a header"},
        {{.model = "m/x", .providers_yaml = YAML("m: {headers: {x-a: b}}")},
         "may not name headers"},
        {{.model = "m/x",
          .providers_yaml = YAML("m: {like: azure, base_url_env: NO_SUCH, "
                                 "base_url: \"https://evil.example\", "
                                 "key_env: AZURE_OPENAI_API_KEY}")},
         "may not send it elsewhere"},
        {{.model = "m/x",
          .providers_yaml = YAML("m: {like: azure, base_url_env: "
                                 "XAI_BASE_URL}")},
         "may not send it elsewhere"},
        {{.model = "m/x", /* a row that was moved is its key's home no more */
          .providers_yaml = YAML("xai: {base_url: \"https://evil.example\"}\n"
                                 "m: {base_url: \"https://evil.example\", "
                                 "key_env: XAI_API_KEY}")},
         "may not send it elsewhere"},
        {{.model = "openai/x", .base_url = "https://evil.example/v1",
          .key_env = "OPENAI_API_KEY", .task_says_url = true,
          .task_says_key = true},
         "OPENAI_API_KEY is the key of openai"},
        {{.model = "groq/x", .key_env = "OPENAI_API_KEY",
          .task_says_key = true},
         "OPENAI_API_KEY is the key of openai"},
        {{.model = "openai/x", .base_url = "https://evil.example/v1",
          .key_env = "OTHER_KEY", .task_says_url = true},
         "the task file's word"},
        {{.model = "m/x", .key_file = "k",
          .providers_yaml = YAML("m: {base_url: \"https://evil.example\"}")},
         "the task file's word"},
        {{.model = "m/x", .providers_yaml = YAML("m: {key_file: /k}")},
         "key file"},
        {{.model = "m/gpt-6-luna", /* whose output would cost nothing */
          .providers_yaml = YAML("m: {like: openai, models: "
                                 "openai-decisions}")},
         "prices hang on them"},
        {{.model = "openai-decisions/gpt-6-luna",
          .providers_yaml = YAML("openai-decisions: {dialect: openai}")},
         "prices hang on them"},
        {{.model = "m/gpt-6-luna", /* at the address that it has anyway */
          .providers_yaml = YAML("m: {base_url: \"https://api.openai.com/v1\", "
                                 "key_env: OPENAI_API_KEY, models: "
                                 "openai-decisions}")},
         "prices hang on them"},
        {{.model = "gemini/gemini-2.5-flash-lite", /* counted, not asked */
          .providers_yaml = YAML("gemini: {path: \"/v1beta/models/"
                                 "gemini-3.1-pro-preview:generateContent\"}")},
         "prices hang on them"},
        {{.model = "m/x", .providers_yaml = YAML("openai: {free: true}")},
         "may call free"},
        {{.model = "m/x", /* the key of one that is paid */
          .providers_yaml = YAML("litellm: {free: true}")},
         "may call free"},
        {{.model = "m/x",
          .providers_yaml = YAML("m: {base_url: \"https://x.example\", "
                                 "free: true}")},
         "may call free"},
        {{.model = "m/x", /* which may be anywhere */
          .providers_yaml = YAML("m: {base_url: \"http://127.0.0.1:8000\", "
                                 "base_url_env: MY_PLACE, free: true}")},
         "may call free"},
        {{.model = "m/x",
          .providers_yaml = YAML("house: {free: true}")}, /* config.yaml */
         "may call free"},
        {{.model = "m/x", .providers_yaml = YAML("m: {rpm: many}")},
         "1:10"},
        {{.model = "m/x",
          .providers_yaml = YAML("m: {base_url: \"https://evil.example\", "
                                   "key_env: OPENAI_API_KEY}")},
         "may not send it elsewhere"},
        {{.model = "m/x",
          .providers_yaml = YAML("openai: {base_url: "
                                   "\"https://evil.example\", "
                                   "key_env: OPENAI_API_KEY}")},
         "may not send it elsewhere"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_target t;
        struct tr_err err = {0};

        if (target(&t, cases[i].o, &err) == TR_OK)
            fail_msg("%s: accepted as %s", cases[i].words, t.url);
        if (!strstr(err.text, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].words);
        assert_null(strstr(err.text, "canary"));
    }
}

static void write_config(const char *name, const char *text)
{
    char path[100];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", config_dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* What a row may send, and what of it stands in a file: a name that is that of
 * a secret has its value in the environment. Nothing that is refused is said
 * again. */
static void headers_hold_no_secrets(void **state)
{
    static const struct {
        const char *name, *value;
        const char *sent;  /* the line; NULL: refused, */
        const char *words; /* with these */
    } cases[] = {
        {"x-team", "support", "x-team: support", NULL},
        {"anthropic-version", "2023-06-01", "anthropic-version: 2023-06-01",
         NULL},
        {"anthropic-beta", "a-1,b-2", "anthropic-beta: a-1,b-2", NULL},
        {"openai-organization", "org-1", "openai-organization: org-1", NULL},
        {"HTTP-Referer", "https://x.example", "HTTP-Referer: https://x.example",
         NULL},
        {"x-title", "a $mall one", "x-title: a $mall one", NULL},
        {"x-gateway-api-key", "$OTHER_KEY", "x-gateway-api-key: other-canary",
         NULL},
        {"x-auth", "$GATE", "x-auth: Bearer canary gate", NULL},
        {"x-team", "$OTHER_KEY", "x-team: other-canary", NULL},
        {"x-gateway-api-key", "canary", NULL, "config.yaml:1:"},
        {"x-gateway-api-key", "canary", NULL, "write $NAME"},
        {"Ocp-Apim-Subscription-Key", "canary", NULL, "write $NAME"},
        {"X-TOKEN", "canary", NULL, "write $NAME"},
        {"x-my-secret-2", "canary", NULL, "write $NAME"},
        {"x_password", "canary", NULL, "write $NAME"},
        {"x-authentication", "canary", NULL, "write $NAME"},
        {"X-Goog-User-Credentials", "canary", NULL, "write $NAME"},
        {"x-cookies", "canary", NULL, "write $NAME"},
        {"x-key", "a$canary", NULL, "write $NAME"},
        {"x-key", "$sk-canary-1", NULL, "the NAME"},
        {"x-key", "$canaryA7f3", NULL, "the NAME"},
        {"x-key", "$", NULL, "the NAME"},
        {"x-key", "$NO_SUCH", NULL, "x-key: the variable NO_SUCH is not set"},
        {"x-key", "$EMPTY_KEY", NULL, "EMPTY_KEY is not set"},
        {"x-key", "$BAD_KEY", NULL, "line end"},
        {"Authorization", "$OTHER_KEY", NULL, "key_env or key_file"},
        {"cookie", "$OTHER_KEY", NULL, "key_env or key_file"},
        {"X-API-Key", "canary", NULL, "key_env or key_file"},
        {"proxy-authorization", "canary", NULL, "key_env or key_file"},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_target t;
        struct tr_err err = {0};
        char row[300];
        int rc;

        snprintf(row, sizeof row, "providers: {m: {base_url: "
                 "\"https://x.example/v1\", headers: {%s: \"%s\"}}}\n",
                 cases[i].name, cases[i].value);
        write_config("config.yaml", row);
        rc = target(&t, (struct tr_lane_opts){.model = "m/x"}, &err);
        if ((rc == TR_OK) != !!cases[i].sent)
            fail_msg("%s: %s: %s", cases[i].name, cases[i].value, err.text);
        if (cases[i].sent)
            assert_string_equal(t.headers[0], cases[i].sent);
        else if (!strstr(err.text, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].words);
        assert_null(strstr(err.text, "canary"));
    }
    write_config("config.yaml", house);
}

/* Nor do they go to another server than the row's. */
static void headers_go_to_their_own_origin(void **state)
{
    static const struct {
        struct tr_lane_opts o;
        const char *sent[2];
    } cases[] = {
        {{.model = "m/x"}, {"x-team: support", "x-key: other-canary"}},
        {{.model = "like/x"}, {"x-team: support", "x-key: other-canary"}},
        {{.model = "moved/x"}, {"", ""}},
        {{.model = "m/x", .keyless = true}, {"x-team: support", ""}},
        {{.model = "m/x", .base_url = "https://other.example"},
         {"x-team: support", ""}},
        {{.model = "m/x", .providers_yaml = YAML("m: {base_url: "
                                                 "\"https://other.example\"}")},
         {"", ""}},
        {{.model = "n/x", .providers_yaml = YAML("n: {like: m, base_url: "
                                                 "\"https://other.example\"}")},
         {"", ""}},
        {{.model = "m/x", .providers_yaml = YAML("m: {base_url_env: "
                                                 "XAI_BASE_URL}"),
          .allow_http = true}, {"", ""}},
    };
    (void)state;

    write_config("config.yaml",
                 "providers:\n"
                 "  m: {base_url: \"https://x.example/v1\", headers: "
                 "{x-team: support, x-key: $OTHER_KEY}}\n"
                 "  like: {like: m}\n"
                 "  moved: {like: m, base_url: \"https://y.example\"}\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_target t;

        find(&t, cases[i].o, i);
        for (size_t k = 0; k < 2; k++)
            if (strcmp(t.headers[k], cases[i].sent[k]) != 0)
                fail_msg("case %zu: header %zu is \"%s\"", i, k,
                         t.headers[k]);
    }
    write_config("config.yaml", house);
}

/* A budget that a task file switches off is none. */
static void what_is_free_stands_on_this_machine(void **state)
{
    static const struct {
        const char *model;
        struct tr_str task;
        bool known; /* to cost nothing */
    } cases[] = {
        {"ollama/x", YAML(""), true},
        {"ollama/x", YAML("ollama: {free: true}"), true},
        {"ollama/x", YAML("ollama: {base_url: \"http://[::1]:9/v1\"}"), true},
        {"ollama/x", YAML("ollama: {base_url: \"https://x.example\"}"), false},
        {"ollama/x", YAML("ollama: {base_url_env: MY_PLACE}"), false},
        {"m/x", YAML("m: {like: ollama}"), true},
        {"m/x", YAML("m: {like: ollama, base_url: \"https://x.example\", "
                     "key_env: MINE}"), false},
        {"m/x", YAML("m: {base_url: \"http://127.0.0.1:8/v1\", free: true}"),
         true},
        {"m/x", YAML("m: {base_url: \"http://127.0.0.1:8/v1\", key_env: MINE, "
                     "free: true}"), true},
        {"m/x", YAML("m: {base_url: \"http://127.0.0.1:8/v1\"}"), false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_lane_opts o = {.config_dir = config_dir, .env = some_env,
                                 .providers_yaml = cases[i].task};
        struct tr_model_facts facts;
        char as_of[20];

        if (tr_model_find(&o, cases[i].model, &facts, as_of, sizeof as_of) !=
            cases[i].known)
            fail_msg("%s", cases[i].task.p);
    }
}

/* Nor is a server that --base-url names what its provider's name says. */
static void what_is_free_is_so_at_its_own_address(void **state)
{
    static const char openai[] = "https://api.openai.com/v1";
    static const struct {
        struct tr_lane_opts o;
        bool is_free;
    } cases[] = {
        {{.model = "ollama/x"}, true},
        {{.model = "ollama/x", .base_url = "http://127.0.0.1:8/v1",
          .task_says_url = true}, true},
        {{.model = "vllm/x", .base_url = "https://gpu.example/v1",
          .key_env = "OTHER_KEY"}, true}, /* the user's word */
        {{.model = "ollama/x", .base_url = "https://gpu.example/v1",
          .task_says_url = true}, false},
        {{.model = "ollama/x", .base_url = openai, .task_says_url = true,
          .key_env = "OPENAI_API_KEY", .task_says_key = true}, false},
        {{.model = "ollama/x", .base_url = openai,
          .key_env = "OPENAI_API_KEY"}, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_target t;

        find(&t, cases[i].o, i);
        if (t.is_free != cases[i].is_free)
            fail_msg("case %zu: %d", i, t.is_free);
    }
}

static void key_files_are_private(void **state)
{
    static const struct {
        mode_t mode;
        const char *text;
        const char *words; /* NULL: accepted */
        bool another;      /* user has it; only root can make that so */
    } cases[] = {
        {0600, "file-canary\n", NULL, false},
        {0400, "file-canary", NULL, false},
        {0640, "file-canary\n", "chmod 600", false},
        {0604, "file-canary\n", "chmod", false},
        {0600, "file-canary\n", "another user", true},
        {0600, "", "1 to", false},
        {0600, "two words\n", "blank", false},
    };
    char path[100];
    (void)state;

    snprintf(path, sizeof path, "%s/key", config_dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_target t;
        struct tr_err err = {0};
        int fd, rc;

        unlink(path);
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        if (cases[i].another &&
            (geteuid() != 0 || fchown(fd, 65534, 65534) != 0)) {
            print_message("skipped: only root can give a file away\n");
            close(fd);
            continue;
        }
        assert_int_equal(write(fd, cases[i].text, strlen(cases[i].text)),
                         strlen(cases[i].text));
        fchmod(fd, cases[i].mode);
        close(fd);
        rc = target(&t, (struct tr_lane_opts){.model = "openai/x",
                                              .key_file = path}, &err);
        if (!cases[i].words) {
            assert_int_equal(rc, TR_OK);
            assert_string_equal(t.key, "file-canary");
        } else if (rc == TR_OK || !strstr(err.text, cases[i].words)) {
            fail_msg("mode %o: %s", cases[i].mode, err.text);
        }
    }
}

/* ---- models ----------------------------------------------------------- */

static void prices_are_exact(void **state)
{
    static const struct {
        const char *model;
        bool known;
        int64_t in, out, cached, cache_write, context;
    } cases[] = {
        {"openai/gpt-6-luna", true, 100000, 500000, 10000, 125000, 1050000},
        {"openai/gpt-5-nano", true, 50000, 400000, 5000, 50000, 400000},
        {"openai/gpt-4o-mini-2024-07-18", true, 150000, 600000, 75000, 150000,
         128000},
        {"deepseek/deepseek-v4-pro", true, 1740000, 3480000, 145000, 1740000,
         0},
        {"openai-responses/gpt-6-luna", true, 100000, 500000, 10000, 125000,
         1050000}, /* the prices of another row */
        {"azure/gpt-6-luna", true, 100000, 500000, 10000, 125000, 1050000},
        {"anthropic/claude-haiku-4-5-20251001", true, 1000000, 5000000, 100000,
         1250000, 200000},
        {"typesafe/jev-1.13.0", true, 42000, 0, 42000, 42000, 32000},
        {"openai/gpt-4o-mini-latest", false, -1, -1, -1, -1, 0},
        {"openai/unheard-of", false, -1, -1, -1, -1, 0},
        {"ollama/anything", true, 0, 0, 0, 0, 0}, /* the user's own machine */
        {"ollama/told", true, 0, 0, 0, 0, 8192},  /* a row that names no price */
        {"openai/newer", true, 2000001, 8000000, 200000, 2500002, 0},
        {"openai/as-told", true, 2000000, 8000000, 200000, 2000000, 0},
        {"openai/uncached", true, 2000000, 8000000, 2000000, 2000000, 0},
        {"openai/gpt-5.6-luna", true, 400000, 1200000, 20000, 500000, 0},
        {"anthropic/newer", true, 3000000, 15000000, 300000, 3750000, 0},
        {"house/cached", true, 1000000, 2000000, 100000, 1000000, 0},
        {"ollama/paid", true, 10000, 20000, 10000, 10000, 0},
        {"house/m", true, 250000, 1500000, 250000, 250000, 32768},
    };
    struct tr_lane_opts o = {.config_dir = config_dir, .env = some_env};
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_model_facts f;
        char as_of[20];
        bool known = tr_model_find(&o, cases[i].model, &f, as_of, sizeof as_of);

        if (known != cases[i].known || f.price_in != cases[i].in ||
            f.price_out != cases[i].out || f.price_cached != cases[i].cached ||
            f.price_cache_write != cases[i].cache_write ||
            f.context != cases[i].context)
            fail_msg("%s: %lld %lld %lld %lld %lld", cases[i].model,
                     (long long)f.price_in, (long long)f.price_out,
                     (long long)f.price_cached, (long long)f.price_cache_write,
                     (long long)f.context);
    }
}

/* Of gemini-3.8-flash as the built-in row has it: twice as much from
 * 2027-01-01 (day 20,819); the day before the dearer counts already. */
static void prices_of_a_later_day_hold_from_then_on(void **state)
{
    static const struct { int64_t day, in, out, cached; } cases[] = {
        {20786, 750000, 3750000, 75000},
        {20817, 750000, 3750000, 75000},
        {20818, 1500000, 7500000, 150000},
        {20819, 1500000, 7500000, 150000},
        {30000, 1500000, 7500000, 150000},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_lane_opts o = {.env = some_env,
                                 .today_s = cases[i].day * 86400 + 86399};
        struct tr_model_facts f;
        char as_of[20];

        assert_true(tr_model_find(&o, "gemini/gemini-3.8-flash", &f, as_of,
                                  sizeof as_of));
        if (f.price_in != cases[i].in || f.price_out != cases[i].out ||
            f.price_cached != cases[i].cached)
            fail_msg("day %lld: %lld %lld %lld", (long long)cases[i].day,
                     (long long)f.price_in, (long long)f.price_out,
                     (long long)f.price_cached);
    }
}

/* A price per token would make every bill a millionth, and keep a budget so. */
static void a_price_in_another_unit_is_refused(void **state)
{
    static const struct {
        const char *row;
        bool taken;
    } cases[] = {
        {"{input: 0.000001, output: 0.000005}", false}, /* per token */
        {"{input: 1, output: 0.000005}", false},
        {"{input: 0.00000015, output: 0.0000006}", false},
        {"{input: 1.5e-07, output: 6e-07}", false},
        {"{input: 1, output: [2]}", false},
        {"{input: 1, output: 2, cached: 0.0009}", false},
        {"{input: 1, output: 2, cache_write: 0.0009}", false},
        {"{input: 0.000999, output: 2}", false},
        {"{input: 0.001, output: 10000}", true},
        {"{input: 1, output: 10000.000001}", false},
        {"{input: 1000000, output: 5000000}", false}, /* per mega-mistake */
        {"{input: 0, output: 0}", true},              /* free */
        {"{odd_price: true, input: 0.0001, output: 20000}", true},
        {"{input: 0.0001, output: 0.5, odd_price: true}", true},
        {"{input: 0.0001, output: 0.5, odd_price: false}", false},
        {"{input: 0.0001, output: 0.5, odd_price: perhaps}", false},
        {"{input: 1, output: 2, then: {from: 2099-01-01, input: 0.000001}}",
         false},
        {"{input: 1, output: 2, odd_price: true, "
         "then: {from: 2099-01-01, input: 0.000001}}", true},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_catalog c;
        struct tr_err err = {0};
        struct tr_layer s = {.c = &c, .file = "models.yaml", .bare = true,
                             .writer = TR_BY_USER, .err = &err};
        char text[200];
        int rc;

        c = (struct tr_catalog){0};
        tr_arena_init(&c.arena);
        snprintf(text, sizeof text, "mine/m: %s\n", cases[i].row);
        rc = tr_layer_take(&s, tr_str_c(text));
        if ((rc == TR_OK) != cases[i].taken)
            fail_msg("%s: %d %s", cases[i].row, rc, err.text);
        if (rc != TR_OK && !strstr(cases[i].row, "perhaps") &&
            (!strstr(err.text, "models.yaml:1:") ||
             !strstr(err.text, "mine/m: ") ||
             !strstr(err.text, "USD per million tokens") ||
             !strstr(err.text, "odd_price: true")))
            fail_msg("%s: %s", cases[i].row, err.text);
        tr_free(c.models);
        tr_arena_release(&c.arena);
    }
}

static void long_requests_cost_more(void **state)
{
    struct tr_lane_opts o = {.env = some_env};
    struct tr_model_facts f;
    char as_of[20];
    (void)state;

    assert_true(tr_model_find(&o, "openai/gpt-6-luna", &f, as_of,
                              sizeof as_of));
    assert_int_equal(f.long_from, 272000);
    assert_int_equal(f.long_in_pct, 200);
    assert_int_equal(f.long_out_pct, 150);
    assert_string_equal(as_of, "2026-11-24");
}

static void efforts_start_at_the_lowest(void **state)
{
    static const struct {
        struct tr_lane_opts o;
        int effort, style;
        bool fixed;
    } cases[] = {
        {{.model = "openai/gpt-6-luna"}, TR_EFFORT_none, TR_STYLE_field,
         false},
        {{.model = "openai/gpt-5-mini"}, TR_EFFORT_minimal, TR_STYLE_field,
         false},
        {{.model = "openai/gpt-4o-mini"}, -1, TR_STYLE_field, false},
        {{.model = "openai/unheard-of"}, TR_EFFORT_none, TR_STYLE_field,
         false},
        {{.model = "groq/openai/gpt-oss-20b"}, TR_EFFORT_low, TR_STYLE_field,
         false},
        {{.model = "groq/llama"}, -1, TR_STYLE_field, false},
        {{.model = "vllm/qwen"}, TR_EFFORT_none, TR_STYLE_kwargs, false},
        {{.model = "openai/gpt-6-luna", .effort = "high"}, TR_EFFORT_high,
         TR_STYLE_field, true},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_target t;
        struct tr_err err = {0};

        if (target(&t, cases[i].o, &err) != TR_OK)
            fail_msg("%s", err.text);
        assert_int_equal(t.quirks.effort, cases[i].effort);
        assert_int_equal(t.quirks.effort_style, cases[i].style);
        assert_int_equal(t.quirks.effort_fixed, cases[i].fixed);
    }
}

/* ---- lane ------------------------------------------------------------- */

static void a_lane_opens_without_a_connection(void **state)
{
    struct tr_lane_opts o = {.model = "house/m", .env = some_env,
                             .config_dir = config_dir};
    struct tr_lane *lane;
    struct tr_err err = {0};
    struct tr_buf learned;
    (void)state;

    if (tr_http_lane_open(&lane, &o, &err) != TR_OK)
        fail_msg("%s", err.text);
    assert_string_equal(lane->model, "house/m");
    assert_string_equal(lane->host, "llm.example");
    assert_string_equal(lane->effort, "");
    assert_int_equal(lane->rpm, 60);
    assert_int_equal(lane->facts.price_in, 250000);
    tr_buf_init(&learned, 0);
    lane->vt->learned(lane, &learned);
    assert_int_equal(learned.n, 0); /* nothing yet */
    lane->vt->teach(lane, TR_STR("old_cap=1 no_schema=1 zero_temperature=0 "
                                 "effort=2 efforts=14 refused=5"));
    lane->vt->learned(lane, &learned);
    assert_string_equal(learned.p, "old_cap=1 no_schema=1 zero_temperature=0 "
                                   "effort=2 efforts=14 refused=5");
    tr_buf_clear(&learned);
    lane->vt->teach(lane, TR_STR("refused=99999999999999999999 effort=77"));
    lane->vt->learned(lane, &learned);
    assert_non_null(strstr(learned.p, "effort=2 "));
    tr_buf_release(&learned);
    lane->vt->close(lane);
}

/* A row of models.yaml without a price says nothing of what another address
 * costs. */
static void a_row_without_a_price_is_free_where_its_provider_is(void **state)
{
    static const struct {
        struct tr_lane_opts o;
        int64_t price;
    } cases[] = {
        {{.model = "ollama/told"}, 0},
        {{.model = "ollama/told", .base_url = "https://gpu.example/v1",
          .key_env = "OTHER_KEY"}, 0}, /* the user's word */
        {{.model = "ollama/told", .base_url = "https://gpu.example/v1",
          .key_env = "OTHER_KEY", .task_says_url = true,
          .task_says_key = true}, -1},
        {{.model = "ollama/told", .base_url = "https://gpu.example/v1",
          .key_env = "OPENAI_API_KEY"}, -1},
        {{.model = "m/told", .providers_yaml =
              YAML("m: {base_url: \"https://gpu.example/v1\", key_env: "
                   "OTHER_KEY, models: ollama}")}, -1},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_lane_opts o = cases[i].o;
        struct tr_lane *lane;
        struct tr_err err = {0};

        o.env = some_env;
        o.config_dir = config_dir;
        if (tr_http_lane_open(&lane, &o, &err) != TR_OK)
            fail_msg("case %zu: %s", i, err.text);
        if (lane->facts.price_in != cases[i].price ||
            lane->facts.price_cache_write != cases[i].price ||
            lane->facts.context != 8192)
            fail_msg("case %zu: %d", i, (int)lane->facts.price_in);
        lane->vt->close(lane);
    }
}

/* Who shares address, key and model shares limits; the key cannot be read. */
static void an_account_is_address_key_and_model(void **state)
{
    static const char *const models[] = {"openai/m", "openai/m", "openai/n"};
    static const char *const keys[] = {"OTHER_KEY", "GROQ_API_KEY", "OTHER_KEY"};
    char account[3][33];
    struct tr_err err = {0};
    (void)state;

    for (int i = 0; i < 3; i++) {
        struct tr_lane_opts o = {.model = models[i], .key_env = keys[i],
                                 .base_url = "https://llm.example/v1",
                                 .env = some_env, .config_dir = config_dir};
        struct tr_lane *lane;

        for (int again = 0; again < 2; again++) {
            if (tr_http_lane_open(&lane, &o, &err) != TR_OK)
                fail_msg("%s", err.text);
            if (again)
                assert_string_equal(lane->account, account[i]);
            strcpy(account[i], lane->account);
            assert_true(lane->has_key);
            lane->vt->close(lane);
        }
        assert_int_equal(strlen(account[i]), 32);
        assert_int_equal(strspn(account[i], "0123456789abcdef"), 32);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(account[i], account[k]);
    }
}

static int set_up(void **state)
{
    (void)state;
    snprintf(config_dir, sizeof config_dir, "/tmp/test_provider.XXXXXX");
    assert_non_null(mkdtemp(config_dir));
    write_config("config.yaml", house);
    write_config("models.yaml", "ollama/told: {context: 8192}\n"
                 "ollama/paid: {input: 0.01, output: 0.02}\n"
                 "openai/newer: {input: 2.000001, cached: 0.2, output: 8}\n"
                 "openai/as-told: {input: 2, cached: 0.2, cache_write: 2, "
                                  "output: 8}\n"
                 "openai/uncached: {input: 2, output: 8}\n"
                 "openai/gpt-5.6-luna: {input: 0.40}\n" /* it rose */
                 "anthropic/newer: {input: 3, cached: 0.3, output: 15}\n"
                 "house/cached: {input: 1, cached: 0.1, output: 2}\n"
                 "house/m: {input: 0.25, output: 1.5, "
                                "context: 32768}\n");
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"config.yaml", "models.yaml", "key"};
    char path[100];
    (void)state;

    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", config_dir, names[i]);
        unlink(path);
    }
    return rmdir(config_dir);
}

static void days_until_a_date_are_counted_by_the_calendar(void **state)
{
    static const struct {
        const char *date;
        int64_t now_s;
        int days;
    } cases[] = {
        {"1970-01-01", 0, 0}, {"1970-01-02", 86399, 1},
        {"2026-12-11", 1795564800, 16}, /* 2026-11-25 */
        {"2024-03-01", 1709078400, 2},  /* 2024-02-28, a leap year */
        {"2000-01-01", 1795564800, -9825},
        {"", 0, INT_MAX}, {"soon", 0, INT_MAX}, {"2026-13-01", 0, INT_MAX},
        {"2026-12-1", 0, INT_MAX}, {"2026-12-11x", 0, INT_MAX},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (tr_days_until(cases[i].date, cases[i].now_s) != cases[i].days)
            fail_msg("%s: %d", cases[i].date,
                     tr_days_until(cases[i].date, cases[i].now_s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(days_until_a_date_are_counted_by_the_calendar),
        cmocka_unit_test(durations),
        cmocka_unit_test(try_again),
        cmocka_unit_test(words_decide),
        cmocka_unit_test(any_retry_after_is_bounded),
        cmocka_unit_test(limits_of_every_family),
        cmocka_unit_test(redaction),
        cmocka_unit_test(redaction_looks_at_a_text_once),
        cmocka_unit_test(network_failures),
        cmocka_unit_test(bare_statuses),
        cmocka_unit_test(the_server_may_ask_for_another_try),
        cmocka_unit_test(keys_go_to_their_own_origin),
        cmocka_unit_test(what_is_refused_and_in_which_words),
        cmocka_unit_test(headers_hold_no_secrets),
        cmocka_unit_test(headers_go_to_their_own_origin),
        cmocka_unit_test(what_is_free_stands_on_this_machine),
        cmocka_unit_test(what_is_free_is_so_at_its_own_address),
        cmocka_unit_test(a_row_without_a_price_is_free_where_its_provider_is),
        cmocka_unit_test(key_files_are_private),
        cmocka_unit_test(prices_are_exact),
        cmocka_unit_test(prices_of_a_later_day_hold_from_then_on),
        cmocka_unit_test(a_price_in_another_unit_is_refused),
        cmocka_unit_test(long_requests_cost_more),
        cmocka_unit_test(efforts_start_at_the_lowest),
        cmocka_unit_test(a_lane_opens_without_a_connection),
        cmocka_unit_test(an_account_is_address_key_and_model),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
