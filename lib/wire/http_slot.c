/* http_slot.c - one request at a time: its handle and every option of it, and
 * what it takes of the response.
 *
 * SPDX-License-Identifier: MIT */
#include "wire/http.h"

#include "base/mem.h"

#include <errno.h>
#include <unistd.h>

/* All bodies that are being received at once; one may be
 * TR_REPLY_BYTES_MAX. */
#define REPLIES_BYTES_MAX (2 * (size_t)TR_REPLY_BYTES_MAX)
#define KEEP_BYTES ((size_t)64 << 10) /* buffer kept for the next reply */

static bool starts(const char *p, size_t n, const char *word)
{
    size_t i = 0;

    for (; word[i]; i++) {
        if (i >= n || (p[i] | 0x20) != word[i])
            return false;
    }
    return true;
}

static bool holds(const char *p, size_t n, const char *word)
{
    for (; n; p++, n--) {
        if (starts(p, n, word))
            return true;
    }
    return false;
}

/* Whether a header says anything to us. Called for each of some twenty, so
 * the first letter decides most. */
static bool is_interesting(const char *name, size_t n)
{
    switch (name[0] | 0x20) {
    case 'x':
        return holds(name, n, "ratelimit") || holds(name, n, "tokenlimit") ||
               starts(name, n, "x-should-retry:") ||
               starts(name, n, "x-request-id:") ||
               starts(name, n, "x-typesafe-request-id:");
    case 'r':
        return starts(name, n, "retry-after") ||
               starts(name, n, "request-id:") || starts(name, n, "ratelimit");
    case 'a':
        return starts(name, n, "anthropic-ratelimit");
    case 'c':
        return starts(name, n, "content-type:");
    case 'd':
        return starts(name, n, "date:");
    case 'l':
        return starts(name, n, "location:");
    }
    return false;
}

/* Whether all was kept; if not, for which of two reasons: a server that says
 * too much is at fault, and so may be a row; want of memory is ours. */
static bool kept(struct tr_slot *s, const struct tr_buf *b)
{
    if (tr_buf_ok(b))
        return true;
    if (b->full)
        s->too_big = true;
    else
        s->no_memory = true;
    return false;
}

static size_t take_header(char *p, size_t size, size_t n, void *user)
{
    struct tr_slot *s = user;
    const char *colon;
    size_t name_n;
    struct tr_str value;

    (void)size;
    s->header_bytes += n; /* libcurl keeps them all, trailers without end */
    if (s->header_bytes > TR_HEADER_BYTES_MAX) {
        s->too_big = true;
        return 0;
    }
    if (s->headers_end) /* a trailer: it may not say what a header may */
        return n;
    if (starts(p, n, "http/")) { /* a new response, maybe after a 1xx */
        const char *blank = memchr(p, ' ', n);

        tr_buf_clear(&s->headers);
        s->interim = blank && blank + 1 < p + n && blank[1] == '1';
        return n;
    }
    if (n && (p[0] == '\r' || p[0] == '\n'))
        s->headers_end = !s->interim;
    if (s->interim) /* nor do these speak of the answer */
        return n;
    colon = n ? memchr(p, ':', n) : NULL;
    if (!colon || colon == p)
        return n;
    name_n = (size_t)(colon - p);
    if (!is_interesting(p, name_n + 1))
        return n;
    value = tr_str_trim(tr_str(colon + 1, n - name_n - 1));
    for (size_t i = 0; i < name_n; i++) {
        bool upper = p[i] >= 'A' && p[i] <= 'Z';

        tr_buf_addc(&s->headers, upper ? (char)(p[i] | 0x20) : p[i]);
    }
    tr_buf_add(&s->headers, ": ", 2);
    tr_buf_adds(&s->headers, value);
    tr_buf_addc(&s->headers, '\n');
    return kept(s, &s->headers) ? n : 0;
}

/* The body of an ask that is to be saved; refusals are read, not saved. */
static bool is_saved(struct tr_slot *s)
{
    long status = 0;

    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    return s->ask.address && s->ask.save_fd >= 0 && status / 100 == 2;
}

static size_t save_body(struct tr_slot *s, const char *p, size_t n)
{
    size_t left = n;

    if (s->ask.saved + (int64_t)n > s->ask.save_max) {
        s->too_big = true;
        return 0;
    }
    while (left) {
        ssize_t done = pwrite(s->ask.save_fd, p, left, s->ask.saved);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            s->ask.disk = true;
            return 0;
        }
        p += done;
        left -= (size_t)done;
        s->ask.saved += done;
    }
    return n;
}

static size_t take_body(char *p, size_t size, size_t n, void *user)
{
    struct tr_slot *s = user;

    (void)size;
    if (is_saved(s))
        return save_body(s, p, n);
    if (s->h->held_bytes + n > REPLIES_BYTES_MAX) {
        s->too_big = true;
        return 0;
    }
    tr_buf_add(&s->body, p, n);
    if (!kept(s, &s->body))
        return 0;
    s->h->held_bytes += n;
    return n;
}

/* Called before a request goes out on a connection. When a kept connection
 * dies without an answer libcurl would send the request again by itself; it
 * may have been worked on and charged, so that is the engine's decision. */
static int before_request(void *user, char *ip, char *local_ip, int port,
                          int local_port)
{
    struct tr_slot *s = user;
    long sent = 0;

    (void)ip;
    (void)local_ip;
    (void)port;
    s->port = local_port;
    s->stream = 0;
    if (s->tries++ == 0) {
        s->h->unconnected--;
        return CURL_PREREQFUNC_OK;
    }
    curl_easy_getinfo(s->easy, CURLINFO_REQUEST_SIZE, &sent);
    if (sent == 0)
        return CURL_PREREQFUNC_OK;
    s->resent = true;
    return CURL_PREREQFUNC_ABORT;
}

static bool speaks_openssl(void)
{
    const char *tls = curl_version_info(CURLVERSION_NOW)->ssl_version;

    return tls && strncmp(tls, "OpenSSL/", 8) == 0;
}

/* Every option of every request is set here and nowhere else (but body and
 * time limit, and what an ask needs beyond: tr_http_leave(), http_ask.c). */
static CURL *new_easy(struct tr_http *h, struct tr_slot *s)
{
    CURL *e = curl_easy_init();
    CURLcode bad = CURLE_OK;

    if (!e)
        return NULL;
#define SET(option, value)                                                     \
    do {                                                                       \
        if (!bad)                                                              \
            bad = curl_easy_setopt(e, option, value);                          \
    } while (0)
    SET(CURLOPT_CURLU, h->address);
    SET(CURLOPT_PROTOCOLS_STR, h->secure ? "https" : "http");
    SET(CURLOPT_REDIR_PROTOCOLS_STR, "https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_MAXREDIRS, 0L);
    SET(CURLOPT_UNRESTRICTED_AUTH, 0L);
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_HTTPHEADER, h->headers);
    SET(CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TCP_KEEPIDLE, (long)TR_CONN_PROBE_S);
    SET(CURLOPT_TCP_KEEPINTVL, (long)TR_CONN_PROBES_S);
    SET(CURLOPT_MAXAGE_CONN, h->conn_idle_s);
    SET(CURLOPT_MAXLIFETIME_CONN, h->conn_life_s);
    SET(CURLOPT_DNS_CACHE_TIMEOUT, (long)TR_NAME_S);
    SET(CURLOPT_CONNECTTIMEOUT_MS, h->connect_timeout_ms);
    SET(CURLOPT_HTTP_VERSION,
        (long)(h->secure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
    /* Requests wait to learn whether a connection can be shared. */
    SET(CURLOPT_PIPEWAIT, h->secure ? 1L : 0L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* No keys and signatures of less than 112 bits, whatever this machine's
     * settings allow. The words are OpenSSL's alone. */
    if (speaks_openssl())
        SET(CURLOPT_SSL_CIPHER_LIST, "DEFAULT:@SECLEVEL=2");
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (h->ca_file)
        SET(CURLOPT_CAINFO, h->ca_file);
    if (!h->proxy)
        SET(CURLOPT_PROXY, "");
    else if (strcmp(h->proxy, "env") != 0) {
        SET(CURLOPT_PROXY, h->proxy);
        SET(CURLOPT_NOPROXY, ""); /* or the environment's would count */
    }
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_HEADERFUNCTION, take_header);
    SET(CURLOPT_HEADERDATA, s);
    SET(CURLOPT_WRITEFUNCTION, take_body);
    SET(CURLOPT_WRITEDATA, s);
    SET(CURLOPT_PREREQFUNCTION, before_request);
    SET(CURLOPT_PREREQDATA, s);
    SET(CURLOPT_OPENSOCKETFUNCTION, tr_http_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, s);
    SET(CURLOPT_CLOSESOCKETFUNCTION, tr_http_close_socket);
    SET(CURLOPT_CLOSESOCKETDATA, h);
    SET(CURLOPT_DEBUGFUNCTION, tr_http_take_words); /* or they go to a stream */
    SET(CURLOPT_DEBUGDATA, s);
    SET(CURLOPT_VERBOSE, h->secure ? 1L : 0L); /* where HTTP/2 may be */
    SET(CURLOPT_ERRORBUFFER, s->error);
    SET(CURLOPT_PRIVATE, s);
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Dropping a request never waits for a name server's answer. */
    SET(CURLOPT_QUICK_EXIT, 1L);
#endif
#undef SET
    if (bad) {
        curl_easy_cleanup(e);
        return NULL;
    }
    return e;
}

struct tr_slot *tr_slot_take(struct tr_http *h)
{
    struct tr_slot *s = h->unused;

    if (s) {
        h->unused = s->next;
        return s;
    }
    if (!tr_grow((void **)&h->slots, &h->slot_cap, h->slot_count + 1,
                 sizeof *h->slots))
        return NULL;
    /* As many kept connections as requests, or each would reconnect. */
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)h->slot_cap);
    s = tr_alloc(sizeof *s);
    if (!s)
        return NULL;
    s->h = h;
    tr_buf_init(&s->headers, TR_HEADER_BYTES_MAX);
    tr_buf_init(&s->body, TR_REPLY_BYTES_MAX);
    s->easy = new_easy(h, s);
    if (!s->easy) {
        tr_free(s);
        return NULL;
    }
    h->slots[h->slot_count++] = s;
    return s;
}

/* Makes the handle one for requests again. */
static void end_ask(struct tr_slot *s)
{
    if (!s->ask.address)
        return;
    curl_easy_setopt(s->easy, CURLOPT_MIMEPOST, NULL);
    curl_easy_setopt(s->easy, CURLOPT_READFUNCTION, NULL);
    curl_easy_setopt(s->easy, CURLOPT_SEEKFUNCTION, NULL);
    curl_easy_setopt(s->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->h->headers);
    curl_easy_setopt(s->easy, CURLOPT_CURLU, s->h->address);
    curl_mime_free(s->ask.form);
    curl_url_cleanup(s->ask.address);
    s->ask = (struct tr_asked){.file_fd = -1, .save_fd = -1};
}

void tr_slot_give_back(struct tr_slot *s)
{
    struct tr_http *h = s->h;

    end_ask(s);

    h->held_bytes -= s->body.n;
    if (s->body.cap > KEEP_BYTES)
        tr_buf_release(&s->body);
    tr_buf_clear(&s->body);
    tr_buf_clear(&s->headers);
    s->next = h->unused;
    h->unused = s;
}

void tr_slot_stop(struct tr_slot *s)
{
    if (!s->active)
        return;
    curl_multi_remove_handle(s->h->multi, s->easy);
    s->active = false;
    s->h->active--;
    s->h->unconnected -= s->tries == 0;
}

void tr_slot_finish(struct tr_slot *s, CURLcode code)
{
    struct tr_http *h = s->h;

    s->code = code;
    tr_slot_stop(s);
    s->next = NULL;
    *h->done_end = s;
    h->done_end = &s->next;
}

void tr_slot_set_body(struct tr_slot *s, struct tr_str body)
{
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, body.p ? body.p : "");
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
}
