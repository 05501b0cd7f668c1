/* http.c - requests over libcurl, opened and closed: http.h has the parts.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/http.h"

#include "base/mem.h"
#include "base/secret.h"
#include "wire/provider.h"
#include "wire/reach.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#if LIBCURL_VERSION_NUM < 0x075500
#error "libcurl 7.85 or later is needed (CURLOPT_PROTOCOLS_STR)"
#endif

#define CONNECT_TIMEOUT_MS 10000
#define READS_AHEAD 0x080f00 /* libcurl: see tr_http_look_behind() */

static pthread_mutex_t global_lock = PTHREAD_MUTEX_INITIALIZER;
static bool global_done;

/* Once, but a start that failed for want of memory may be tried again. */
static CURLcode global_init(void)
{
    CURLcode code = CURLE_OK;

    pthread_mutex_lock(&global_lock);
    if (!global_done)
        code = curl_global_init(CURL_GLOBAL_DEFAULT);
    global_done = code == CURLE_OK;
    pthread_mutex_unlock(&global_lock);
    return code;
}

static int http_start(struct tr_transport *t, uint64_t tag, struct tr_str body,
                      int64_t deadline_ms, struct tr_err *err)
{
    struct tr_slot *s = tr_slot_take((struct tr_http *)t);

    if (!s)
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    tr_slot_set_body(s, body);
    return tr_http_leave(s, tag, deadline_ms, err);
}

static int http_next(struct tr_transport *t, struct tr_http_result *r)
{
    struct tr_http *h = (struct tr_http *)t;
    struct tr_slot *s;

    if (h->shown)
        tr_slot_give_back(h->shown);
    h->shown = NULL;
    if (!h->done) {
        if (!h->drove)
            tr_http_drive(h, 0);
        tr_http_look_behind(h);
        tr_http_check_deadlines(h, tr_clock_mono_ns());
    }
    s = h->done;
    if (!s) {
        h->drove = false;
        return 0;
    }
    h->done = s->next;
    if (!h->done)
        h->done_end = &h->done;
    h->shown = s;
    tr_http_show(s, r);
    return 1;
}

static void http_cancel(struct tr_transport *t)
{
    struct tr_http *h = (struct tr_http *)t;

    for (size_t i = 0; i < h->slot_count; i++) {
        struct tr_slot *s = h->slots[i];

        if (s->active) {
            tr_slot_stop(s);
            tr_slot_give_back(s);
        }
    }
    while (h->done) {
        struct tr_slot *s = h->done;

        h->done = s->next;
        tr_slot_give_back(s);
    }
    h->done_end = &h->done;
    h->running = 0;
}

/* ---- open and close --------------------------------------------------- */

static void free_headers(struct curl_slist *list)
{
    for (struct curl_slist *l = list; l; l = l->next)
        tr_wipe(l->data, strlen(l->data));
    curl_slist_free_all(list);
}

static void http_close(struct tr_transport *t)
{
    struct tr_http *h = (struct tr_http *)t;

    if (!h)
        return;
    if (h->shown)
        tr_slot_give_back(h->shown);
    http_cancel(t);
    for (size_t i = 0; i < h->slot_count; i++) {
        curl_easy_cleanup(h->slots[i]->easy);
        tr_buf_release(&h->slots[i]->headers);
        tr_buf_release(&h->slots[i]->body);
        tr_free(h->slots[i]);
    }
    if (h->multi)
        curl_multi_cleanup(h->multi); /* closes connections: callbacks */
    free_headers(h->headers);
    free_headers(h->plain);
    if (h->epoll >= 0)
        close(h->epoll);
    if (h->wake >= 0)
        close(h->wake);
    tr_free(h->slots);
    tr_free(h->watches);
    curl_url_cleanup(h->address);
    tr_free(h->url);
    tr_free(h->proxy);
    tr_free(h->ca_file);
    tr_free(h);
}

/* A header goes out as it is, so it must be one line of visible text. */
static int add_header(struct tr_http *h, const char *line, struct tr_err *err)
{
    struct curl_slist *longer;

    for (const unsigned char *p = (const unsigned char *)line; *p; p++) {
        if (*p < 0x20 || *p > 0x7e)
            return tr_fail(err, TR_CONFIG,
                           "header %.*s holds a byte that is not visible "
                           "ASCII (a line end in the key?)",
                           (int)strcspn(line, ":"), line);
    }
    longer = curl_slist_append(h->headers, line);
    if (!longer)
        return tr_fail(err, TR_NOMEM, "out of memory");
    h->headers = longer;
    if (strncasecmp(line, "content-type:", 13) == 0)
        return TR_OK;
    longer = curl_slist_append(h->plain, line);
    if (!longer)
        return tr_fail(err, TR_NOMEM, "out of memory");
    h->plain = longer;
    return TR_OK;
}

static int check_scheme(struct tr_http *h, struct tr_err *err)
{
    if (strncmp(h->url, "https://", 8) == 0)
        h->secure = true;
    else if (strncmp(h->url, "http://", 7) != 0)
        return tr_fail(err, TR_CONFIG,
                       "%s: an address begins with https:// (or http:// for "
                       "a server on this machine)",
                       h->url);
    return TR_OK;
}

/* The value of the first of these variables that has one. */
static const char *env_of(const char *const *names)
{
    for (; *names; names++) {
        const char *value = getenv(*names);

        if (value && *value)
            return value;
    }
    return NULL;
}

/* Is it name, or in the domain of that name? Dots around name say nothing. */
static bool is_in(struct tr_str host, struct tr_str name)
{
    size_t rest;

    while (name.n && name.p[0] == '.')
        name = tr_str(name.p + 1, name.n - 1);
    while (name.n && name.p[name.n - 1] == '.')
        name.n--;
    if (!name.n || host.n < name.n)
        return false;
    rest = host.n - name.n;
    return strncasecmp(host.p + rest, name.p, name.n) == 0 &&
           (!rest || host.p[rest - 1] == '.');
}

/* Does NO_PROXY name the host, as libcurl reads it? */
static bool is_exception(const char *url)
{
    static const char *const names[] = {"no_proxy", "NO_PROXY", NULL};
    const char *list = env_of(names);
    struct tr_str host = tr_wire_host_of(url);

    if (host.n > 2 && host.p[0] == '[')
        host = tr_str(host.p + 1, host.n - 2);
    if (list && strcmp(list, "*") == 0)
        return true;
    while (list && *list) {
        size_t n = strcspn(list, ", \t");

        if (is_in(host, tr_str(list, n)) ||
            tr_reach_is_in(host, tr_str(list, n)))
            return true;
        list += n + (list[n] != '\0');
    }
    return false;
}

/* Where the environment sends an address to none, connections are our own, and
 * what may not be reached is looked at. */
static bool has_proxy(const char *url, const char *proxy)
{
    static const char *const plain[] = {"http_proxy", "all_proxy", "ALL_PROXY",
                                        NULL};
    static const char *const secure[] = {"https_proxy", "HTTPS_PROXY",
                                         "all_proxy", "ALL_PROXY", NULL};

    if (!proxy || strcmp(proxy, "env") != 0)
        return proxy && *proxy;
    return env_of(strncmp(url, "https:", 6) == 0 ? secure : plain) &&
           !is_exception(url);
}

static CURLUcode read_proxy(CURLU *parsed, const char *address)
{
    static const char *const schemes[] = {"http",   "https",  "socks",
                                          "socks4", "socks4a", "socks5",
                                          "socks5h"};
    char *scheme = NULL;
    CURLUcode bad = curl_url_set(parsed, CURLUPART_URL, address,
                                 CURLU_NON_SUPPORT_SCHEME |
                                     CURLU_GUESS_SCHEME);
    bool known = false;

    if (!bad)
        bad = curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0);
    if (bad)
        return bad;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        known = known || strcmp(scheme, schemes[i]) == 0;
    curl_free(scheme);
    return known ? CURLUE_OK : CURLUE_UNSUPPORTED_SCHEME;
}

/* libcurl would find it wrong with each request, and say the whole of it. What
 * is behind the last @ is no password. */
static int check_proxy(const char *address, struct tr_err *err)
{
    const char *at = strrchr(address, '@');
    CURLUcode bad = CURLUE_OUT_OF_MEMORY;
    CURLU *parsed;

    if (!address[0] || strcmp(address, "env") == 0)
        return TR_OK;
    parsed = curl_url();
    if (parsed)
        bad = read_proxy(parsed, address);
    curl_url_cleanup(parsed);
    if (bad == CURLUE_OUT_OF_MEMORY)
        return tr_fail(err, TR_NOMEM, "out of memory");
    if (bad)
        return tr_fail(err, TR_CONFIG,
                       "--proxy: no valid address%s%.100s; it is "
                       "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, "
                       "where %%20 stands for a blank and %%40 for an @",
                       at ? ", at " : "", at ? at + 1 : "");
    return TR_OK;
}

static int check_library(struct tr_err *err)
{
    const curl_version_info_data *v;
    CURLcode code = global_init();

    if (code) /* nothing else than memory can be what it lacks */
        return tr_fail(err, TR_NOMEM, "libcurl does not start: %s",
                       curl_easy_strerror(code));
    v = curl_version_info(CURLVERSION_NOW);
    if (v->version_num < 0x075500)
        return tr_fail(err, TR_CONFIG, "libcurl %s is loaded, and 7.85 or "
                       "later is needed", v->version);
    if (!(v->features & CURL_VERSION_ASYNCHDNS))
        return tr_fail(err, TR_CONFIG,
                       "this libcurl (%s) waits for name servers without a "
                       "time limit; install one with an asynchronous "
                       "resolver",
                       v->version);
    return TR_OK;
}

const char *tr_http_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}

int tr_http_open(struct tr_transport **out, const struct tr_http_opts *o,
                 struct tr_err *err)
{
    struct tr_http *h = tr_alloc(sizeof *h);
    struct epoll_event e = {.events = EPOLLIN};
    bool proxied = has_proxy(o->url, o->proxy);
    CURLUcode bad;
    int rc = TR_OK;

    *out = NULL;
    if (!h)
        return tr_fail(err, TR_NOMEM, "out of memory");
    h->t = (struct tr_transport){.start = http_start, .ask = tr_http_ask,
                                 .drop = tr_http_drop,
                                 .next = http_next, .wait = tr_http_wait,
                                 .watch = tr_http_watch,
                                 .wakeup = tr_http_wakeup,
                                 .cancel = http_cancel, .close = http_close};
    h->epoll = h->wake = -1;
    h->due_ns = -1;
    h->done_end = &h->done;
    h->allow_http = o->allow_http;
    h->allow_link_local = o->allow_link_local;
    h->connect_timeout_ms =
        o->connect_timeout_ms ? o->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    h->conn_idle_s = o->conn_idle_s ? o->conn_idle_s : TR_CONN_IDLE_S;
    h->conn_life_s = o->conn_life_s ? o->conn_life_s : TR_CONN_LIFE_S;
    TRY(check_library(err));
    h->url = tr_dup(o->url, strlen(o->url));
    if (proxied)
        h->proxy = tr_dup(o->proxy, strlen(o->proxy));
    if (o->ca_file)
        h->ca_file = tr_dup(o->ca_file, strlen(o->ca_file));
    h->address = curl_url();
    if (!h->url || (proxied && !h->proxy) || (o->ca_file && !h->ca_file) ||
        !h->address || !tr_http_new_multi(h))
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    TRY(check_scheme(h, err));
    if (h->proxy)
        TRY(check_proxy(h->proxy, err));
    h->reads_ahead = h->secure && READS_AHEAD <=
                     curl_version_info(CURLVERSION_NOW)->version_num;
    bad = curl_url_set(h->address, CURLUPART_URL, h->url, 0);
    if (bad == CURLUE_OUT_OF_MEMORY)
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    if (bad)
        TRY(tr_fail(err, TR_CONFIG, "%s: this is no valid address", h->url));
    TRY(add_header(h, "Expect:", err)); /* no 100-continue round trip */
    for (size_t i = 0; o->headers && o->headers[i]; i++)
        TRY(add_header(h, o->headers[i], err));
    h->epoll = epoll_create1(EPOLL_CLOEXEC);
    h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    e.data.fd = h->wake;
    if (h->epoll < 0 || h->wake < 0 ||
        epoll_ctl(h->epoll, EPOLL_CTL_ADD, h->wake, &e) < 0)
        TRY(tr_fail(err, TR_IO, "no event queue: %s; %s", strerror(errno),
                    tr_http_watch_remedy(errno)));
    *out = &h->t;
    return TR_OK;
out:
    http_close(&h->t);
    return rc;
}
