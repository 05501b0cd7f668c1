/* test_http_options.c - every option that libcurl is given, read where it is
 * given: the linker puts this file between http_*.c and curl_easy_setopt().
 *
 * A handle is made once, with all that protects; later calls set what differs
 * from request to request. An option that is in neither table fails the test,
 * so that a new one is thought about.
 *
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "wire/transport.h"

#include <curl/curl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Kinds of options, as curl.h numbers them; all others are pointers. */
enum { LONG = 0, OFFSET = 3 };

static struct {
    CURLoption option;
    long number;
    const char *text; /* for strings that stay: what it points at */
} calls[300];
static size_t call_count;

/* These two names are the linker's. */
CURLcode __real_curl_easy_setopt(CURL *e, CURLoption option, ...);
CURLcode __wrap_curl_easy_setopt(CURL *e, CURLoption option, ...);

CURLcode __wrap_curl_easy_setopt(CURL *e, CURLoption option, ...)
{
    va_list args;
    CURLcode code;
    int kind = option / 10000;

    assert_true(call_count < sizeof calls / sizeof *calls);
    calls[call_count].option = option;
    va_start(args, option);
    if (kind == LONG) {
        long n = va_arg(args, long);

        calls[call_count].number = n;
        code = __real_curl_easy_setopt(e, option, n);
    } else if (kind == OFFSET) {
        code = __real_curl_easy_setopt(e, option, va_arg(args, curl_off_t));
    } else {
        void *p = va_arg(args, void *);

        calls[call_count].text = p;
        code = __real_curl_easy_setopt(e, option, p);
    }
    va_end(args);
    call_count++;
    return code;
}

#define TEXT(option, value) {option, #option, value, 0}
#define NUMBER(option, value) {option, #option, NULL, value}
static const struct {
    CURLoption option;
    const char *name, *text; /* text NULL: number counts */
    long number;
} always[] = {
    TEXT(CURLOPT_PROTOCOLS_STR, "https"),
    TEXT(CURLOPT_REDIR_PROTOCOLS_STR, "https"),
    NUMBER(CURLOPT_FOLLOWLOCATION, 0),
    NUMBER(CURLOPT_MAXREDIRS, 0),
    NUMBER(CURLOPT_UNRESTRICTED_AUTH, 0),
    NUMBER(CURLOPT_NETRC, CURL_NETRC_IGNORED),
    NUMBER(CURLOPT_HEADEROPT, CURLHEADER_SEPARATE),
    NUMBER(CURLOPT_NOSIGNAL, 1),
    NUMBER(CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2),
    TEXT(CURLOPT_SSL_CIPHER_LIST, "DEFAULT:@SECLEVEL=2"),
    NUMBER(CURLOPT_SSL_VERIFYPEER, 1),
    NUMBER(CURLOPT_SSL_VERIFYHOST, 2),
    TEXT(CURLOPT_PROXY, ""),
    NUMBER(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1),
    NUMBER(CURLOPT_TCP_KEEPALIVE, 1),
    NUMBER(CURLOPT_TCP_KEEPIDLE, TR_CONN_PROBE_S),
    NUMBER(CURLOPT_TCP_KEEPINTVL, TR_CONN_PROBES_S),
    NUMBER(CURLOPT_DNS_CACHE_TIMEOUT, TR_NAME_S),
    NUMBER(CURLOPT_MAXAGE_CONN, TR_CONN_IDLE_S),
    NUMBER(CURLOPT_MAXLIFETIME_CONN, TR_CONN_LIFE_S),
};

/* At birth, with values that are no matter of protection. */
static const CURLoption others[] = {
    CURLOPT_CURLU, CURLOPT_HTTPHEADER, CURLOPT_POST, CURLOPT_NOPROGRESS,
    CURLOPT_TCP_NODELAY, CURLOPT_CONNECTTIMEOUT_MS,
    CURLOPT_HTTP_VERSION, CURLOPT_PIPEWAIT, CURLOPT_HEADERFUNCTION,
    CURLOPT_HEADERDATA, CURLOPT_WRITEFUNCTION, CURLOPT_WRITEDATA,
    CURLOPT_PREREQFUNCTION, CURLOPT_PREREQDATA, CURLOPT_OPENSOCKETFUNCTION,
    CURLOPT_OPENSOCKETDATA, CURLOPT_CLOSESOCKETFUNCTION,
    CURLOPT_CLOSESOCKETDATA, CURLOPT_ERRORBUFFER, CURLOPT_PRIVATE,
    CURLOPT_QUICK_EXIT, CURLOPT_DEBUGFUNCTION, CURLOPT_DEBUGDATA,
    CURLOPT_VERBOSE,
};

/* From request to request. */
static const CURLoption later[] = {
    CURLOPT_CURLU, CURLOPT_HTTPHEADER, CURLOPT_POST, CURLOPT_HTTPGET,
    CURLOPT_POSTFIELDS, CURLOPT_POSTFIELDSIZE_LARGE, CURLOPT_TIMEOUT_MS,
    CURLOPT_MIMEPOST, CURLOPT_READFUNCTION, CURLOPT_READDATA,
    CURLOPT_SEEKFUNCTION, CURLOPT_SEEKDATA, CURLOPT_HTTP_VERSION,
    CURLOPT_VERBOSE,
};

static bool is_in(CURLoption option, const CURLoption *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i] == option)
            return true;
    }
    return false;
}
#define IS_IN(option, list) is_in(option, list, sizeof(list) / sizeof *(list))

static size_t find_always(CURLoption option)
{
    size_t i = 0;

    while (i < sizeof always / sizeof *always && always[i].option != option)
        i++;
    return i;
}

static const char *name_of(CURLoption option)
{
    const struct curl_easyoption *o = curl_easy_option_by_id(option);

    return o ? o->name : "?";
}

static struct tr_transport *open_lane(void)
{
    static const char *const headers[] = {"Content-Type: application/json",
                                          "X-Key: canary", NULL};
    struct tr_transport *t;

    assert_int_equal(tr_http_open(&t,
                                  &(struct tr_http_opts){
                                      .url = "https://127.0.0.1:1/v1",
                                      .headers = headers}, NULL), TR_OK);
    call_count = 0;
    return t;
}

static void a_handle_is_made_with_all_that_protects(void **state)
{
    unsigned seen = 0;
    struct tr_transport *t = open_lane();
    (void)state;

    assert_int_equal(t->start(t, 1, TR_STR("body"), 1000, NULL), TR_OK);
    for (size_t i = 0; i < call_count; i++) {
        CURLoption option = calls[i].option;
        size_t k = find_always(option);

        if (k < sizeof always / sizeof *always) {
            seen |= 1u << k;
            if (always[k].text)
                assert_string_equal(calls[i].text, always[k].text);
            else if (calls[i].number != always[k].number)
                fail_msg("%s is %ld", always[k].name, calls[i].number);
        } else if (!IS_IN(option, others) && !IS_IN(option, later)) {
            fail_msg("CURLOPT_%s is new: which table does it belong to?",
                     name_of(option));
        }
    }
    for (size_t k = 0; k < sizeof always / sizeof *always; k++) {
        if (!(seen >> k & 1))
            fail_msg("%s is not set", always[k].name);
    }
    t->close(t);
}

/* Nothing that protects is ever set again. */
static void requests_change_what_they_must(void **state)
{
    struct tr_transport *t = open_lane();
    const char *const fields[] = {"purpose", "batch", NULL};
    const struct tr_http_ask asks[] = {
        {.url = "https://127.0.0.1:1/v1/x"},
        {.url = "https://127.0.0.1:1/v1/x", .post = true,
         .body = TR_STR("{}")},
        {.url = "https://127.0.0.1:1/v1/x", .post = true, .fields = fields,
         .file_name = "a.jsonl", .file_fd = 0, .file_bytes = 4},
        {.url = "https://127.0.0.1:1/v1/x", .post = true, .file_fd = 0,
         .file_bytes = 4},
    };
    size_t before;
    (void)state;

    assert_int_equal(t->start(t, 1, TR_STR("body"), 1000, NULL), TR_OK);
    t->cancel(t); /* the handle is free for the next one */
    before = call_count;
    assert_int_equal(t->start(t, 2, TR_STR("body"), 2000, NULL), TR_OK);
    t->cancel(t);
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        assert_int_equal(t->ask(t, 3 + i, &asks[i], 1000, NULL), TR_OK);
        t->cancel(t);
    }
    assert_true(call_count > before);
    for (size_t i = before; i < call_count; i++) {
        if (!IS_IN(calls[i].option, later))
            fail_msg("CURLOPT_%s is set after the handle was made",
                     name_of(calls[i].option));
    }
    t->close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handle_is_made_with_all_that_protects),
        cmocka_unit_test(requests_change_what_they_must),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
