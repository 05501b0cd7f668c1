/* test_replies.c - every file of tests/replies/ means what it says.
 *
 * A file is one reply of one server: lines "# key: value" with what must come
 * of it, then status line, headers, blank line, body. The folder names the
 * provider whose row applies, unless "provider" or "model" says otherwise.
 *
 * SPDX-License-Identifier: MIT */
#include "base/mem.h"
#include "wire/provider.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* ---- a transport that hands out one canned reply ---------------------- */

struct canned {
    struct tr_transport t;
    struct tr_http_result result;
    int left;
};

static int canned_next(struct tr_transport *t, struct tr_http_result *r)
{
    struct canned *c = (struct canned *)t;

    if (!c->left)
        return 0;
    c->left--;
    *r = c->result;
    return 1;
}

static void canned_close(struct tr_transport *t)
{
    (void)t;
}

static int64_t canned_wall(struct tr_transport *t)
{
    (void)t;
    return 0;
}

/* ---- files ------------------------------------------------------------ */

enum { EXPECTATIONS = 20 };

struct file {
    char name[200];
    char server[40];
    char *bytes;
    size_t n;
    char *expectations[EXPECTATIONS]; /* "key: value", in bytes */
    int expectation_count;
    char headers[4000];
    struct tr_http_result result;
};

static const char *expected(const struct file *f, const char *key)
{
    size_t n = strlen(key);

    for (int i = 0; i < f->expectation_count; i++) {
        const char *e = f->expectations[i];

        if (strncmp(e, key, n) == 0 && e[n] == ':')
            return e[n + 1] ? e + n + 2 : e + n + 1;
    }
    return NULL;
}

/* A misspelt one would expect nothing. */
static void check_known(const struct file *f, const char *expectation)
{
    static const char *const keys[] = {
        "provider", "model", "outcome", "billing", "text", "sure", "served",
        "request_id", "usage", "requests", "tokens", "input", "output",
        "slow_down", "retry_after_ms", "message", "learned"};
    size_t n = strcspn(expectation, ":");

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i]) == n && strncmp(expectation, keys[i], n) == 0 &&
            expectation[n] == ':')
            return;
    fail_msg("%s: nothing looks at \"%s\"", f->name, expectation);
}

/* Takes one line off *p, ended by a NUL. */
static char *line_of(char **p)
{
    char *line = *p, *end = strchr(line, '\n');

    assert_non_null(end);
    *end = '\0';
    *p = end + 1;
    return line;
}

static void read_headers(struct file *f, char **p)
{
    size_t n = 0;

    for (;;) {
        char *line = line_of(p), *colon = strchr(line, ':');

        if (!*line)
            break;
        assert_non_null(colon);
        for (char *c = line; c < colon; c++) {
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c | 0x20);
        }
        n += (size_t)snprintf(f->headers + n, sizeof f->headers - n, "%s\n",
                              line);
    }
    f->result.headers = tr_str(f->headers, n);
}

static void read_reply(struct file *f, const char *path)
{
    FILE *in = fopen(path, "rb");
    char *p, *status;

    assert_non_null(in);
    f->bytes = tr_alloc(20000);
    f->n = fread(f->bytes, 1, 19999, in);
    fclose(in);
    p = f->bytes;
    while (*p == '#') {
        assert_true(f->expectation_count < EXPECTATIONS);
        f->expectations[f->expectation_count] = line_of(&p) + 2;
        check_known(f, f->expectations[f->expectation_count++]);
    }
    status = line_of(&p);
    assert_memory_equal(status, "HTTP/1.1 ", 9);
    f->result.status = (int)strtol(status + 9, NULL, 10);
    f->result.sent = true;
    read_headers(f, &p);
    f->result.body = tr_str(p, f->n - (size_t)(p - f->bytes));
}

/* ---- checks ----------------------------------------------------------- */

static const char *const billings[] = {"none", "usage", "unknown"};

static void check_text(const struct file *f, const char *key, const char *is)
{
    const char *want = expected(f, key);

    if (want && strcmp(want, is) != 0)
        fail_msg("%s: %s is \"%s\", not \"%s\"", f->name, key, is, want);
}

static void check_numbers(const struct file *f, const char *key, int n,
                          const int64_t *is)
{
    char text[200] = "";

    for (int i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld",
                 i ? " " : "", (long long)is[i]);
    check_text(f, key, text);
}

static void check_sure(const struct file *f, const struct tr_reply *r)
{
    int64_t n[20];
    int count = 0;

    for (size_t i = 0; i < r->sure_count && count < 19; i++) {
        n[count++] = r->sure[i].id;
        n[count++] = r->sure[i].confidence;
    }
    check_numbers(f, "sure", count, n);
}

static void escaped(struct tr_str text, char *out, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < text.n && n + 3 < size; i++) {
        if (text.p[i] == '\n')
            out[n++] = '\\';
        out[n++] = text.p[i] == '\n' ? 'n' : text.p[i];
    }
    out[n] = '\0';
}

static void check(const struct file *f, const struct tr_reply *r,
                  const char *learned)
{
    const struct tr_limit *req = &r->limits.requests, *tok = &r->limits.tokens;
    const char *message = expected(f, "message");
    const char *lesson = expected(f, "learned");
    char text[500];

    if (!expected(f, "outcome"))
        fail_msg("%s: no outcome is expected", f->name);
    check_text(f, "outcome", tr_outcome_word(r->outcome));
    check_text(f, "billing", billings[r->billing]);
    escaped(r->text, text, sizeof text);
    check_text(f, "text", text);
    if (expected(f, "sure"))
        check_sure(f, r);
    check_text(f, "served", r->served);
    check_text(f, "request_id", r->request_id);
    check_numbers(f, "usage", 5,
                  (int64_t[]){r->usage.in, r->usage.out, r->usage.cached,
                              r->usage.cache_write, r->usage.reasoning});
    check_numbers(f, "requests", 3,
                  (int64_t[]){req->limit, req->remaining, req->reset_ms});
    check_numbers(f, "tokens", 3,
                  (int64_t[]){tok->limit, tok->remaining, tok->reset_ms});
    check_numbers(f, "input", 3,
                  (int64_t[]){r->limits.input.limit, r->limits.input.remaining,
                              r->limits.input.reset_ms});
    check_numbers(f, "output", 3,
                  (int64_t[]){r->limits.output.limit,
                              r->limits.output.remaining,
                              r->limits.output.reset_ms});
    check_numbers(f, "slow_down", 1, (int64_t[]){r->slow_down});
    check_numbers(f, "retry_after_ms", 1, &r->retry_after_ms);
    if (message && !strstr(r->message, message))
        fail_msg("%s: message is \"%s\"", f->name, r->message);
    if ((lesson && !strstr(learned, lesson)) || (!lesson && learned[0]))
        fail_msg("%s: learned \"%s\"", f->name, learned);
    if (r->outcome != TR_OUT_OK && !r->message[0])
        fail_msg("%s: no message", f->name);
    if (strstr(r->message, "a row of the user"))
        fail_msg("%s: row text in the message", f->name);
}

static const char *any_key(const char *name)
{
    return strstr(name, "KEY")        ? "canary-canary"
           : strstr(name, "ENDPOINT") ? "https://me.openai.azure.com"
                                      : NULL;
}

static void run(struct file *f)
{
    const char *provider = expected(f, "provider");
    const char *model = expected(f, "model");
    struct canned c = {.t = {.next = canned_next, .close = canned_close,
                             .wall_s = canned_wall},
                       .result = f->result,
                       .left = 1};
    struct tr_model_facts facts = {0};
    struct tr_lane_opts o = {.env = any_key};
    struct tr_quirks quirks;
    struct tr_catalog *catalog;
    struct tr_target target;
    struct tr_lane *lane;
    struct tr_reply reply;
    struct tr_buf learned;
    char name[100];

    snprintf(name, sizeof name, "%s/m", provider ? provider : f->server);
    o.model = model ? model : name;
    assert_int_equal(tr_catalog_open(&catalog, &o, NULL), TR_OK);
    assert_int_equal(tr_target_find(&target, catalog, &o, NULL), TR_OK);
    quirks = target.quirks;
    assert_int_equal(tr_lane_over(&lane, target.dialect, o.model, &facts,
                                  &c.t, NULL),
                     TR_OK);
    tr_lane_quirks(lane, &quirks);
    assert_null(lane->vt->wait);
    assert_int_equal(lane->vt->next(lane, &reply), 1);
    tr_buf_init(&learned, 1000);
    lane->vt->learned(lane, &learned);
    check(f, &reply, learned.p ? learned.p : "");
    assert_int_equal(lane->vt->next(lane, &reply), 0);
    tr_buf_release(&learned);
    lane->vt->close(lane);
    tr_catalog_close(catalog);
}

static int run_folder(const char *server)
{
    char path[600];
    struct dirent *e;
    int count = 0;
    DIR *dir;

    snprintf(path, sizeof path, TESTS_DIR "/replies/%s", server);
    dir = opendir(path);
    assert_non_null(dir);
    while ((e = readdir(dir))) {
        struct file f = {0};

        if (!strstr(e->d_name, ".http"))
            continue;
        snprintf(f.name, sizeof f.name, "%.80s/%.100s", server, e->d_name);
        snprintf(f.server, sizeof f.server, "%.39s", server);
        snprintf(path, sizeof path, TESTS_DIR "/replies/%s", f.name);
        read_reply(&f, path);
        run(&f);
        tr_free(f.bytes);
        count++;
    }
    closedir(dir);
    return count;
}

static void replies_mean_what_they_say(void **state)
{
    static const char *const servers[] = {
        "openai", "ollama", "llama-server", "vllm", "sglang", "litellm",
        "openrouter", "groq", "together", "deepseek", "mistral", "anthropic",
        "gemini", "azure", "openai-responses", "openai-decisions", "typesafe"};
    (void)state;

    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++) {
        int count = run_folder(servers[i]);

        print_message("%s: %d replies\n", servers[i], count);
        assert_true(count >= 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_mean_what_they_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
