/* http.c - requests over libcurl: the only door to it.
 *
 * One multi handle per lane, driven by curl_multi_socket_action() and epoll:
 * the work per wake-up is that of the sockets which are ready, while
 * curl_multi_perform() asks every request in flight (one system call each).
 * Easy handles are set up once by new_easy() and used again; a request sets
 * its body and nothing else. Connections are shared by one origin, one key
 * and one set of TLS rules only, since a multi handle belongs to one lane.
 *
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/secret.h"
#include "wire/reach.h"
#include "wire/transport.h"

#include <curl/curl.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#if LIBCURL_VERSION_NUM < 0x075500
#error "libcurl 7.85 or later is needed (CURLOPT_PROTOCOLS_STR)"
#endif

#define CONNECT_TIMEOUT_MS 10000
#define PROD_MS 500 /* see prod() */
/* All bodies that are being received at once; one may be
 * TR_REPLY_BYTES_MAX. */
#define REPLIES_BYTES_MAX (2 * (size_t)TR_REPLY_BYTES_MAX)
#define KEEP_BYTES ((size_t)64 << 10) /* buffer kept for the next reply */
#define OWN_DEADLINE_NS (200 * TR_MS) /* how long libcurl may be late */
#define LOOK_AGAIN_NS INT64_C(20000)  /* before a request leaves */
#define FRAME_TROUBLES_MAX 3 /* then a lane speaks HTTP/1.1 */
#define READS_AHEAD 0x080f00 /* libcurl: see look_behind() */
#define EVENTS 64

struct http;

struct slot {
    struct http *h;
    CURL *easy;
    uint64_t tag;
    int64_t began_ns, deadline_ns;
    long timeout_ms;      /* what easy is set to */
    bool old_version;     /* and that it speaks HTTP/1.1 */
    struct tr_buf headers, body;
    size_t header_bytes;  /* of all responses, trailers and names included */
    bool active;          /* in the multi handle */
    bool too_big, no_memory; /* why the response was not taken */
    bool headers_end;     /* the blank line behind them was there */
    bool resent;          /* libcurl wanted to send it a second time */
    bool refused;         /* the server said that it did not work on it */
    bool stale;           /* a refusal that libcurl remembers may be old... */
    bool forgot;          /* ...until it tells it */
    int port;             /* of our side: names its connection; 0: none */
    int64_t stream;       /* of HTTP/2, 0: none */
    int tries;            /* connections it was given to; 0: nothing left */
    CURLcode code;
    struct asked {        /* what an ask needs beyond a request */
        CURLU *address;   /* NULL: no ask */
        curl_mime *form;
        int file_fd, save_fd; /* save_fd -1: to memory */
        int64_t file_bytes, file_at, save_max, saved;
        bool disk;        /* the file could not be written */
    } ask;
    struct slot *next;    /* in the free or done list */
    char error[CURL_ERROR_SIZE];
};

/* What epoll knows of a file descriptor, and what libcurl wants. They differ
 * on purpose: see socket_changed(). */
struct watch {
    unsigned char wanted, known; /* CURL_POLL_IN | CURL_POLL_OUT */
    bool ours;                   /* from open_socket(): we close it, too */
};

struct http {
    struct tr_transport t; /* first: the two are cast to each other */
    CURLM *multi;
    struct curl_slist *headers, *plain; /* plain: without a content type */
    char *url, *proxy, *ca_file;
    CURLU *address;       /* url, parsed once for all requests */
    bool secure, allow_http, allow_link_local;
    bool reads_ahead;     /* libcurl: see look_behind() */
    long connect_timeout_ms, conn_idle_s, conn_life_s;
    int epoll, wake;      /* file descriptors, -1: not open */
    struct watch *watches;
    size_t watch_count;
    struct slot **slots;  /* owned */
    size_t slot_count, slot_cap, active;
    size_t unconnected;   /* of the active ones */
    int64_t prodded_at;   /* ns */
    struct slot *unused;
    struct slot *done, **done_end;
    struct slot *shown;   /* its buffers are the caller's until next() */
    int running;          /* as libcurl counts */
    int64_t due_ns;       /* libcurl's timer, -1: none */
    int64_t earliest_ns;  /* no deadline before this */
    size_t held_bytes;    /* in all bodies */
    bool drove;           /* wait() has just looked at the sockets */
    bool frames;          /* the server has answered in HTTP/2 */
    bool old_version;     /* it cannot be trusted with it: HTTP/1.1 */
    int frame_troubles;   /* without an answer in between */
    int64_t trouble_at;   /* the last of them, ns */
    int64_t looked_at;    /* at the sockets, ns */
    int64_t asleep_ns;    /* what the machine had slept when a request left */
    char refused[120];    /* why open_socket() refused, for the message */
    int no_socket;        /* errno of the last one; 0: there was one */
};

#ifndef CURL_IGNORE_DEPRECATION /* headers before 7.87 */
#define CURL_IGNORE_DEPRECATION(statements) statements
#endif

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

/* ---- callbacks of libcurl --------------------------------------------- */

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
static bool kept(struct slot *s, const struct tr_buf *b)
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
    struct slot *s = user;
    const char *colon;
    size_t name_n;
    struct tr_str value;

    (void)size;
    s->header_bytes += n; /* libcurl keeps them all, trailers without end */
    if (s->header_bytes > TR_HEADER_BYTES_MAX) {
        s->too_big = true;
        return 0;
    }
    if (starts(p, n, "http/")) { /* a new response, maybe after a 1xx */
        tr_buf_clear(&s->headers);
        s->headers_end = false;
        return n;
    }
    if (n && (p[0] == '\r' || p[0] == '\n'))
        s->headers_end = true;
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
static bool is_saved(struct slot *s)
{
    long status = 0;

    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    return s->ask.address && s->ask.save_fd >= 0 && status / 100 == 2;
}

static size_t save_body(struct slot *s, const char *p, size_t n)
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
    struct slot *s = user;

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
    struct slot *s = user;
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

/* ---- what libcurl says of HTTP/2 -------------------------------------- */

/* A stream that was refused (REFUSED_STREAM), or is above the last one of a
 * GOAWAY, was not worked on (RFC 9113, 6.8 and 8.7). libcurl answers both by
 * sending the request again, as it does when a kept connection died; what it
 * was stands in its debug messages alone. These are the ones that prove it,
 * from 7.88 to 8.21. What is not said in these words stays unknown. */
static const struct word {
    const char *begins;
    enum { OPENED, GOODBYE, REFUSED, RETRIED_REFUSED, AGAIN } means;
    const char *number; /* stands before the number it tells; NULL: none */
} words[] = {
    {"Using Stream ID: ", OPENED, "ID: "},                   /* before 8.3 */
    {"[HTTP/2] [", OPENED, "] ["},                           /* since */
    {"recveived GOAWAY, error=", GOODBYE, ", last_stream="}, /* before 8.1 */
    {"received GOAWAY, error=", GOODBYE, ", last_stream="},
    {"HTTP/2 stream ", REFUSED, NULL},                       /* since 8.20 */
    /* Only of a connection that no other request was ever on. Else libcurl
     * remembers it beyond the request: see stale. */
    {"REFUSED_STREAM, retrying a fresh connect", RETRIED_REFUSED, NULL},
    {"Connection died, ", AGAIN, NULL},
    {"Downgrades to HTTP/1.1", AGAIN, NULL},
};

static bool begins(const char *p, size_t n, const char *word)
{
    size_t length = strlen(word);

    return n >= length && memcmp(p, word, length) == 0;
}

/* Where word stands; NULL: nowhere. */
static const char *find(const char *p, size_t n, const char *word)
{
    for (; n; p++, n--) {
        if (begins(p, n, word))
            return p;
    }
    return NULL;
}

/* -1: none. */
static int64_t number_behind(const char *p, size_t n, const char *word)
{
    const char *end = p + n, *at = word ? find(p, n, word) : NULL;
    int64_t number = -1;

    if (!at)
        return -1;
    for (at += strlen(word); at < end && *at >= '0' && *at <= '9'; at++) {
        number = (number < 0 ? 0 : number) * 10 + (*at - '0');
        if (number > INT32_MAX) /* no stream has a larger one */
            return -1;
    }
    return number;
}

/* The connection of s ends with the stream last: what is above it was never
 * looked at. */
static void note_goodbye(const struct slot *s, int64_t last)
{
    const struct http *h = s->h;

    if (!s->port || !s->stream || last < 0)
        return; /* it looks at a connection that it is not on */
    for (size_t i = 0; i < h->slot_count; i++) {
        struct slot *other = h->slots[i];

        if (other->active && other->port == s->port && other->stream > last)
            other->refused = true;
    }
}

static int take_words(CURL *easy, curl_infotype type, char *p, size_t n,
                      void *user)
{
    struct slot *s = user;
    const struct word *w = words, *end = words + sizeof words / sizeof *words;
    int64_t number;

    (void)easy;
    if (type != CURLINFO_TEXT)
        return 0;
    while (w < end && !begins(p, n, w->begins))
        w++;
    if (w == end)
        return 0;
    number = number_behind(p, n, w->number);
    switch (w->means) {
    case OPENED:
        if (number > 0)
            s->stream = number;
        break;
    case GOODBYE:
        note_goodbye(s, number);
        break;
    case REFUSED:
        s->refused |= find(p, n, " refused by server, ") != NULL;
        break;
    case RETRIED_REFUSED:
        s->refused |= !s->stale;
        s->forgot = true;
        break;
    case AGAIN:
        s->port = 0;
        s->stream = 0;
        break;
    }
    return 0;
}

/* ---- sockets ---------------------------------------------------------- */

static struct watch *watch_of(struct http *h, curl_socket_t fd);

/* The last word on where bytes may go, after the name was resolved. */
static curl_socket_t open_socket(void *user, curlsocktype purpose,
                                 struct curl_sockaddr *address)
{
    struct http *h = user;
    enum tr_reach reach = tr_reach_of(&address->addr);
    struct watch *w;
    int fd;

    (void)purpose;
    if (!h->proxy && !h->allow_link_local && reach == TR_REACH_LINK_LOCAL) {
        snprintf(h->refused, sizeof h->refused,
                 "its address is link-local or a cloud's metadata; "
                 "--allow-link-local permits it");
        return CURL_SOCKET_BAD;
    }
    if (!h->proxy && !h->secure && !h->allow_http &&
        reach != TR_REACH_LOOPBACK) {
        snprintf(h->refused, sizeof h->refused,
                 "plain http may go to loopback only; --allow-http permits "
                 "more");
        return CURL_SOCKET_BAD;
    }
    fd = socket(address->family, address->socktype | SOCK_CLOEXEC,
                address->protocol);
    h->no_socket = fd < 0 ? errno : 0;
    w = watch_of(h, fd);
    if (w)
        *w = (struct watch){.ours = true};
    return fd;
}

static struct watch *watch_of(struct http *h, curl_socket_t fd)
{
    if (fd < 0)
        return NULL;
    if ((size_t)fd >= h->watch_count) {
        size_t count = h->watch_count ? h->watch_count : 64;
        struct watch *grown;

        while (count <= (size_t)fd)
            count *= 2;
        grown = tr_resize(h->watches, count * sizeof *grown);
        if (!grown)
            return NULL;
        memset(grown + h->watch_count, 0,
               (count - h->watch_count) * sizeof *grown);
        h->watches = grown;
        h->watch_count = count;
    }
    return &h->watches[fd];
}

static void tell_epoll(struct http *h, curl_socket_t fd, struct watch *w,
                       unsigned char bits)
{
    struct epoll_event e = {.data.fd = fd};
    int op = !bits       ? EPOLL_CTL_DEL
             : w->known ? EPOLL_CTL_MOD
                         : EPOLL_CTL_ADD;

    if (bits & CURL_POLL_IN)
        e.events |= EPOLLIN;
    if (bits & CURL_POLL_OUT)
        e.events |= EPOLLOUT;
    /* Not every close() of libcurl passes by close_socket(): then the number
     * is another socket's by now, of which epoll knows nothing. */
    if (epoll_ctl(h->epoll, op, fd, &e) < 0 && op == EPOLL_CTL_MOD &&
        errno == ENOENT)
        epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &e);
    w->known = bits;
}

/* libcurl takes a socket back after each answer and hands it out again with
 * the next request. Telling epoll both times would cost two system calls a
 * request; so an idle socket stays known until it speaks (look_at()). That
 * goes for connections only: the descriptors of a name look-up are closed
 * without a word, and the connection gets the same number. */
static int socket_changed(CURL *easy, curl_socket_t fd, int what, void *user,
                          void *socket_user)
{
    struct http *h = user;
    struct watch *w = watch_of(h, fd);

    (void)easy;
    (void)socket_user;
    if (!w)
        return -1;
    w->wanted = what == CURL_POLL_REMOVE ? 0 : (unsigned char)what;
    if (w->wanted != w->known && (w->wanted || !w->ours))
        tell_epoll(h, fd, w, w->wanted);
    return 0;
}

static int close_socket(void *user, curl_socket_t fd)
{
    struct http *h = user;

    if (fd >= 0 && (size_t)fd < h->watch_count)
        h->watches[fd] = (struct watch){0}; /* epoll forgets it by itself */
    return close(fd);
}

static int timer_changed(CURLM *multi, long timeout_ms, void *user)
{
    struct http *h = user;

    (void)multi;
    h->due_ns = timeout_ms < 0 ? -1
                               : tr_clock_mono_ns() + timeout_ms * TR_MS;
    return 0;
}

/* ---- slots ------------------------------------------------------------ */

static bool speaks_openssl(void)
{
    const char *tls = curl_version_info(CURLVERSION_NOW)->ssl_version;

    return tls && strncmp(tls, "OpenSSL/", 8) == 0;
}

/* Every option of every request is set here and nowhere else (but body and
 * time limit, in start()). */
static CURL *new_easy(struct http *h, struct slot *s)
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
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, h);
    SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    SET(CURLOPT_CLOSESOCKETDATA, h);
    SET(CURLOPT_DEBUGFUNCTION, take_words); /* or they go to a stream */
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

static struct slot *take_slot(struct http *h)
{
    struct slot *s = h->unused;

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
static void end_ask(struct slot *s)
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
    s->ask = (struct asked){.file_fd = -1, .save_fd = -1};
}

static void give_back(struct slot *s)
{
    struct http *h = s->h;

    end_ask(s);

    h->held_bytes -= s->body.n;
    if (s->body.cap > KEEP_BYTES)
        tr_buf_release(&s->body);
    tr_buf_clear(&s->body);
    tr_buf_clear(&s->headers);
    s->next = h->unused;
    h->unused = s;
}

static void stop(struct slot *s)
{
    if (!s->active)
        return;
    curl_multi_remove_handle(s->h->multi, s->easy);
    s->active = false;
    s->h->active--;
    s->h->unconnected -= s->tries == 0;
}

static void finish(struct slot *s, CURLcode code)
{
    struct http *h = s->h;

    s->code = code;
    stop(s);
    s->next = NULL;
    *h->done_end = s;
    h->done_end = &s->next;
}

/* ---- the loop --------------------------------------------------------- */

static bool new_multi(struct http *h)
{
    h->multi = curl_multi_init();
    if (!h->multi)
        return false;
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, socket_changed);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, timer_changed);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    if (h->slot_cap)
        curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)h->slot_cap);
    return true;
}

/* libcurl keeps deadlines too, but ours must hold even if it does not. */
static void check_deadlines(struct http *h, int64_t now)
{
    if (!h->active || now < h->earliest_ns)
        return;
    h->earliest_ns = INT64_MAX;
    for (size_t i = 0; i < h->slot_count; i++) {
        struct slot *s = h->slots[i];

        if (!s->active)
            continue;
        if (now >= s->deadline_ns)
            finish(s, CURLE_OPERATION_TIMEDOUT);
        else if (s->deadline_ns < h->earliest_ns)
            h->earliest_ns = s->deadline_ns;
    }
}

/* Whether any request has ended. */
static bool collect(struct http *h)
{
    bool any = false;
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(h->multi, &left))) {
        CURLcode code = m->data.result;
        struct slot *s = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        finish(s, code);
        any = true;
    }
    return any;
}

/* Lets libcurl work. Once it fails, for want of memory, its handle serves
 * nobody any more, and 7.88 divides by zero when it is used: whatever was under
 * way ends, and a new one takes over. */
static void take_code(struct http *h, CURLMcode code)
{
    if (code == CURLM_OK)
        return;
    collect(h); /* what it had completed before */
    for (size_t i = 0; i < h->slot_count; i++)
        if (h->slots[i]->active)
            finish(h->slots[i], CURLE_OUT_OF_MEMORY);
    curl_multi_cleanup(h->multi);
    h->running = 0;
    h->due_ns = -1;
    new_multi(h); /* else leave() tries again */
}

static void act(struct http *h, curl_socket_t fd, int bits)
{
    if (h->multi)
        take_code(h, curl_multi_socket_action(h->multi, fd, bits,
                                              &h->running));
}

/* When one address of a name does not answer, libcurl (7.88) closes the socket
 * and tries the next one when it is called again. It sets no timer for that,
 * and of the socket nobody hears any more; only a call for all requests reaches
 * this one. */
static void prod(struct http *h)
{
    int64_t now = tr_clock_mono_ns();

    if (!h->multi || !h->unconnected || now < h->prodded_at + PROD_MS * TR_MS)
        return;
    h->prodded_at = now;
    CURL_IGNORE_DEPRECATION(
        take_code(h, curl_multi_socket_all(h->multi, &h->running));
    )
    /* A request may have gone out and come back in this one call: what libcurl
     * no longer wants to write to is not what speaks unasked. */
    for (size_t fd = 0; fd < h->watch_count; fd++) {
        struct watch *w = &h->watches[fd];

        if (w->ours && !w->wanted && w->known & CURL_POLL_OUT)
            tell_epoll(h, (curl_socket_t)fd, w, CURL_POLL_IN);
    }
}

/* From 8.15 on libcurl takes all that a socket has and decrypts it piece by
 * piece, until the request that it does it for has ended. Answers to others on
 * the same connection then wait for a socket that says nothing more. */
static void look_behind(struct http *h)
{
    while (h->reads_ahead && h->active && collect(h)) {
        for (size_t fd = 0; fd < h->watch_count; fd++) {
            if (h->watches[fd].ours && h->watches[fd].wanted & CURL_POLL_IN)
                act(h, (curl_socket_t)fd, CURL_CSELECT_IN);
        }
    }
    collect(h);
}

static void run_timer(struct http *h)
{
    /* A timer of 0 ms is set again and again while handles are new. */
    for (int i = 0; i < 8 && h->due_ns >= 0; i++) {
        if (h->due_ns > tr_clock_mono_ns())
            return;
        h->due_ns = -1;
        act(h, CURL_SOCKET_TIMEOUT, 0);
    }
}

/* A connection speaks while no request is on it: it says good-bye, or the
 * server talks of something that was not asked ("408 Request Timeout"), which
 * libcurl before 8.0 takes for the answer to the next request; and a TLS
 * good-bye it does not see at all. Emptied and closed for reading it is
 * dead for every libcurl. In HTTP/2 there are frames at any time. */
static void hang_up(int fd)
{
    char unread[4096];

    shutdown(fd, SHUT_RD);
    for (int i = 0; i < 64; i++) {
        if (recv(fd, unread, sizeof unread, MSG_DONTWAIT) <= 0)
            return;
    }
}

/* While the machine slept no connection aged, and the server or a middlebox
 * has forgotten them: idle ones are not used again. */
static void mind_sleep(struct http *h)
{
    int64_t asleep = tr_clock_asleep_ns();
    bool woke = asleep - h->asleep_ns > TR_S;

    h->asleep_ns = asleep;
    for (size_t fd = 0; woke && fd < h->watch_count; fd++) {
        if (h->watches[fd].ours && !h->watches[fd].wanted)
            hang_up((int)fd);
    }
}

static void look_at(struct http *h, const struct epoll_event *e)
{
    int fd = e->data.fd, bits = 0;
    uint64_t count;

    if (fd == h->wake) {
        if (read(fd, &count, sizeof count) < 0 && errno != EAGAIN)
            return;
        return;
    }
    if (!h->watches[fd].wanted) {
        tell_epoll(h, fd, &h->watches[fd], 0);
        if (h->watches[fd].ours && !h->frames)
            hang_up(fd);
        return;
    }
    if (e->events & EPOLLIN)
        bits |= CURL_CSELECT_IN;
    if (e->events & EPOLLOUT)
        bits |= CURL_CSELECT_OUT;
    if (e->events & (EPOLLERR | EPOLLHUP))
        bits |= CURL_CSELECT_ERR;
    act(h, fd, bits);
}

static void drive(struct http *h, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(h->epoll, events, EVENTS, timeout_ms);

    for (int i = 0; i < n; i++)
        look_at(h, &events[i]);
    h->looked_at = tr_clock_mono_ns();
    run_timer(h);
    prod(h);
}

static int until_ms(int64_t then_ns, int64_t now_ns)
{
    int64_t ms = (then_ns - now_ns + TR_MS - 1) / TR_MS;

    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

/* How long it may sleep, at most timeout_ms. */
static int sleep_ms(struct http *h, int timeout_ms)
{
    int64_t now;

    run_timer(h); /* what start() added leaves before we sleep */
    if (h->done || (size_t)h->running < h->active)
        return 0;
    now = tr_clock_mono_ns();
    if (h->due_ns >= 0 && until_ms(h->due_ns, now) < timeout_ms)
        timeout_ms = until_ms(h->due_ns, now);
    if (h->active && until_ms(h->earliest_ns, now) < timeout_ms)
        timeout_ms = until_ms(h->earliest_ns, now);
    if (h->unconnected && timeout_ms > PROD_MS)
        timeout_ms = PROD_MS;
    return timeout_ms;
}

static int http_watch(struct tr_transport *t, int *timeout_ms)
{
    struct http *h = (struct http *)t;

    *timeout_ms = sleep_ms(h, *timeout_ms);
    return h->epoll;
}

static void http_wait(struct tr_transport *t, int timeout_ms, int extra_fd)
{
    struct http *h = (struct http *)t;

    timeout_ms = sleep_ms(h, timeout_ms);
    h->drove = true;
    if (extra_fd >= 0) { /* may be a kind of file that epoll does not take */
        struct pollfd both[2] = {{h->epoll, POLLIN, 0}, {extra_fd, POLLIN, 0}};

        poll(both, 2, timeout_ms);
        timeout_ms = 0;
    }
    drive(h, timeout_ms);
}

static void http_wakeup(struct tr_transport *t)
{
    struct http *h = (struct http *)t;
    uint64_t one = 1;

    if (write(h->wake, &one, sizeof one) < 0)
        return; /* full: it wakes anyway */
}

/* Body, address and all are set: off it goes. */
static int leave(struct slot *s, uint64_t tag, int64_t deadline_ms,
                 struct tr_err *err)
{
    struct http *h = s->h;
    CURLMcode bad;

    mind_sleep(h);
    /* Kept connections may have ended. Without memory libcurl may, too. */
    if (h->multi && tr_clock_mono_ns() - h->looked_at > LOOK_AGAIN_NS)
        drive(h, 0);
    if (!h->multi && !new_multi(h)) {
        give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    }
    if (deadline_ms < 1)
        deadline_ms = 1;
    if (deadline_ms > 24 * 3600 * 1000)
        deadline_ms = 24 * 3600 * 1000;
    if (s->timeout_ms != deadline_ms) {
        curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, (long)deadline_ms);
        s->timeout_ms = (long)deadline_ms;
    }
    if (s->old_version != h->old_version) {
        curl_easy_setopt(s->easy, CURLOPT_HTTP_VERSION,
                         (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(s->easy, CURLOPT_VERBOSE, 0L);
        s->old_version = h->old_version;
    }
    s->tag = tag;
    s->tries = s->port = 0;
    s->stream = 0;
    s->header_bytes = 0;
    s->too_big = s->no_memory = s->headers_end = s->resent = false;
    s->refused = s->forgot = false;
    s->error[0] = '\0';
    s->began_ns = tr_clock_mono_ns();
    s->deadline_ns = s->began_ns + deadline_ms * TR_MS + OWN_DEADLINE_NS;
    bad = curl_multi_add_handle(h->multi, s->easy);
    if (bad) {
        give_back(s);
        return tr_fail(err, bad == CURLM_OUT_OF_MEMORY ? TR_NOMEM : TR_BUG,
                       "libcurl did not take a request: %s",
                       curl_multi_strerror(bad));
    }
    if (!h->active || s->deadline_ns < h->earliest_ns)
        h->earliest_ns = s->deadline_ns;
    s->active = true;
    h->active++;
    if (h->unconnected++ == 0)
        h->prodded_at = s->began_ns;
    h->running++; /* until libcurl counts it */
    return TR_OK;
}

static void set_body(struct slot *s, struct tr_str body)
{
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, body.p ? body.p : "");
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
}

static int http_start(struct tr_transport *t, uint64_t tag, struct tr_str body,
                      int64_t deadline_ms, struct tr_err *err)
{
    struct slot *s = take_slot((struct http *)t);

    if (!s)
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    set_body(s, body);
    return leave(s, tag, deadline_ms, err);
}

/* ---- other requests --------------------------------------------------- */

static size_t read_file(char *out, size_t size, size_t n, void *user)
{
    struct slot *s = user;
    ssize_t got;

    n *= size;
    if ((int64_t)n > s->ask.file_bytes - s->ask.file_at)
        n = (size_t)(s->ask.file_bytes - s->ask.file_at);
    do
        got = pread(s->ask.file_fd, out, n, s->ask.file_at);
    while (got < 0 && errno == EINTR);
    if (got < 0 || (n && !got))
        return CURL_READFUNC_ABORT;
    s->ask.file_at += got;
    return (size_t)got;
}

static int seek_file(void *user, curl_off_t offset, int origin)
{
    struct slot *s = user;

    if (origin != SEEK_SET)
        return CURL_SEEKFUNC_CANTSEEK;
    s->ask.file_at = offset;
    return CURL_SEEKFUNC_OK;
}

/* A body that is not in memory. */
static void set_file_body(struct slot *s)
{
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     (curl_off_t)s->ask.file_bytes);
    curl_easy_setopt(s->easy, CURLOPT_READFUNCTION, read_file);
    curl_easy_setopt(s->easy, CURLOPT_READDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_SEEKFUNCTION, seek_file);
    curl_easy_setopt(s->easy, CURLOPT_SEEKDATA, s);
}

static bool fill_form(struct slot *s, const struct tr_http_ask *ask)
{
    curl_mime *form = s->ask.form = curl_mime_init(s->easy);
    curl_mimepart *part;
    bool bad = !form;

    for (size_t i = 0; !bad && ask->fields[i]; i += 2) {
        part = curl_mime_addpart(form);
        bad = !part || curl_mime_name(part, ask->fields[i]) ||
              curl_mime_data(part, ask->fields[i + 1], CURL_ZERO_TERMINATED);
    }
    if (bad)
        return false;
    part = curl_mime_addpart(form);
    return part && !curl_mime_name(part, "file") &&
           !curl_mime_filename(part, ask->file_name) &&
           !curl_mime_type(part, "application/jsonl") &&
           !curl_mime_data_cb(part, ask->file_bytes, read_file, seek_file,
                              NULL, s) &&
           !curl_easy_setopt(s->easy, CURLOPT_MIMEPOST, form);
}

/* CURLUE_OK: the same. */
static CURLUcode same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    CURLUcode bad = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT);

    if (!bad)
        bad = curl_url_get(b, part, &y, CURLU_DEFAULT_PORT);
    if (!bad && strcmp(x, y) != 0)
        bad = CURLUE_BAD_HOSTNAME;
    curl_free(x);
    curl_free(y);
    return bad;
}

/* The key is in the headers: it goes nowhere else, whoever gave the url. */
static CURLUcode same_origin(CURLU *a, CURLU *b)
{
    CURLUcode bad = same_part(a, b, CURLUPART_SCHEME);

    if (!bad)
        bad = same_part(a, b, CURLUPART_HOST);
    return bad ? bad : same_part(a, b, CURLUPART_PORT);
}

static int http_ask(struct tr_transport *t, uint64_t tag,
                    const struct tr_http_ask *ask, int64_t deadline_ms,
                    struct tr_err *err)
{
    struct http *h = (struct http *)t;
    struct slot *s = take_slot(h);
    bool json = ask->post && !ask->fields;
    CURLUcode bad;

    if (!s)
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    s->ask = (struct asked){
        .address = curl_url(),
        .file_fd = ask->file_fd,
        .file_bytes = ask->file_bytes,
        .save_fd = ask->save ? ask->save_fd : -1,
        .save_max = ask->save_bytes_max,
    };
    if (!s->ask.address) {
        give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    }
    bad = curl_url_set(s->ask.address, CURLUPART_URL, ask->url, 0);
    if (!bad)
        bad = same_origin(s->ask.address, h->address);
    if (bad == CURLUE_OUT_OF_MEMORY) {
        give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a request");
    }
    if (bad) {
        give_back(s);
        return tr_fail(err, TR_CONFIG, "%.200s: not an address of %.200s, and "
                       "the key goes nowhere else", ask->url, h->url);
    }
    curl_easy_setopt(s->easy, CURLOPT_CURLU, s->ask.address);
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, json ? h->headers : h->plain);
    if (json && ask->file_bytes)
        set_file_body(s);
    else if (json)
        set_body(s, ask->body);
    else if (!ask->post)
        curl_easy_setopt(s->easy, CURLOPT_HTTPGET, 1L);
    else if (!fill_form(s, ask)) {
        give_back(s);
        return tr_fail(err, TR_NOMEM, "out of memory for a file");
    }
    return leave(s, tag, deadline_ms, err);
}

/* ---- results ---------------------------------------------------------- */

static const struct {
    CURLcode code;
    enum tr_net net;
} nets[] = {
    {CURLE_OK, TR_NET_OK},
    {CURLE_COULDNT_RESOLVE_HOST, TR_NET_DNS},
    {CURLE_COULDNT_RESOLVE_PROXY, TR_NET_DNS},
    {CURLE_COULDNT_CONNECT, TR_NET_CONNECT},
    {CURLE_SSL_CONNECT_ERROR, TR_NET_TLS},
    {CURLE_SSL_CIPHER, TR_NET_TLS},
    {CURLE_PEER_FAILED_VERIFICATION, TR_NET_REFUSED},
    {CURLE_SSL_CACERT_BADFILE, TR_NET_REFUSED},
    {CURLE_SSL_ISSUER_ERROR, TR_NET_REFUSED},
    {CURLE_OPERATION_TIMEDOUT, TR_NET_TIMEOUT},
    {CURLE_SEND_ERROR, TR_NET_CUT},
    {CURLE_RECV_ERROR, TR_NET_CUT},
    {CURLE_GOT_NOTHING, TR_NET_CUT},
    {CURLE_PARTIAL_FILE, TR_NET_CUT},
    {CURLE_HTTP2, TR_NET_CUT},
    {CURLE_HTTP2_STREAM, TR_NET_CUT},
};

static enum tr_net net_of(const struct slot *s, bool sent)
{
    enum tr_net net = TR_NET_OTHER;

    if (s->too_big)
        return TR_NET_TOO_BIG;
    if (s->resent)
        return TR_NET_CUT;
    if (s->code == CURLE_OK && !s->headers_end)
        return TR_NET_CUT; /* among the headers, and libcurl is content */
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
        if (nets[i].code == s->code)
            net = nets[i].net;
    }
    if (net == TR_NET_CONNECT && s->h->refused[0])
        return TR_NET_REFUSED;
    if (net == TR_NET_TIMEOUT && !sent)
        return TR_NET_CONNECT;
    return net;
}

/* A server, or what stands before it, may be bad at HTTP/2 only. A connection
 * that takes many requests with it counts once. */
static void note_frames(struct slot *s, long status,
                        const struct tr_http_result *r)
{
    struct http *h = s->h;
    long version = 0;

    if (!h->secure || h->old_version)
        return;
    curl_easy_getinfo(s->easy, CURLINFO_HTTP_VERSION, &version);
    if (r->net == TR_NET_OK)
        h->frames = version == CURL_HTTP_VERSION_2_0;
    if (status) {
        h->frame_troubles = 0;
    } else if ((r->sent || s->refused) && s->began_ns > h->trouble_at &&
               (s->refused || s->code == CURLE_HTTP2 ||
                s->code == CURLE_HTTP2_STREAM ||
                (!h->frames && s->code != CURLE_OPERATION_TIMEDOUT))) {
        h->trouble_at = tr_clock_mono_ns();
        h->old_version = ++h->frame_troubles == FRAME_TROUBLES_MAX;
    }
}

static void show(struct slot *s, struct tr_http_result *r)
{
    struct http *h = s->h;
    long status = 0, request_bytes = 0;
    curl_off_t upload_bytes = 0;

    curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(s->easy, CURLINFO_REQUEST_SIZE, &request_bytes);
    curl_easy_getinfo(s->easy, CURLINFO_SIZE_UPLOAD_T, &upload_bytes);
    r->tag = s->tag;
    /* libcurl counts what it says to a proxy, too; so tries. */
    r->sent = s->tries && (status || (!s->refused && (request_bytes > 0 ||
                                                      upload_bytes > 0 ||
                                                      s->resent)));
    s->stale = !s->forgot && (s->stale || s->code != CURLE_OK || s->tries > 1);
    r->net = net_of(s, r->sent);
    r->status = (int)status;
    r->headers = tr_buf_str(&s->headers);
    r->body = tr_buf_str(&s->body);
    r->saved_bytes = s->ask.saved;
    r->unsaved = s->ask.disk;
    r->latency_ms = (tr_clock_mono_ns() - s->began_ns) / TR_MS;
    r->message[0] = '\0';
    if (status)
        h->refused[0] = '\0'; /* another of its addresses works */
    note_frames(s, status, r);
    if (r->net == TR_NET_OK)
        return;
    if (r->net == TR_NET_CONNECT && h->no_socket) {
        snprintf(r->message, sizeof r->message, "no socket: %s; %s",
                 strerror(h->no_socket),
                 tr_errno_remedy(h->no_socket, "run the same command again"));
        return;
    }
    snprintf(r->message, sizeof r->message, "%.199s",
             s->ask.disk ? "the response cannot be written to a temporary "
                           "file; is the disk full?"
             : r->net == TR_NET_TOO_BIG ? "the response is larger than 8 MiB, "
                                        "or its headers than 64 KiB"
             : s->no_memory ? "out of memory for the response"
             : s->refused && !r->sent
                 ? "the server did not take the request (HTTP/2)"
             : s->resent ? "the connection was closed without an answer"
             : r->net == TR_NET_CUT && s->code == CURLE_OK
                 ? "the connection was closed among the headers"
             : r->net == TR_NET_REFUSED && h->refused[0]
                 ? h->refused
             : s->error[0] ? s->error
                           : curl_easy_strerror(s->code));
}

static int http_next(struct tr_transport *t, struct tr_http_result *r)
{
    struct http *h = (struct http *)t;
    struct slot *s;

    if (h->shown)
        give_back(h->shown);
    h->shown = NULL;
    if (!h->done) {
        if (!h->drove)
            drive(h, 0);
        look_behind(h);
        check_deadlines(h, tr_clock_mono_ns());
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
    show(s, r);
    return 1;
}

static void http_cancel(struct tr_transport *t)
{
    struct http *h = (struct http *)t;

    for (size_t i = 0; i < h->slot_count; i++) {
        struct slot *s = h->slots[i];

        if (s->active) {
            stop(s);
            give_back(s);
        }
    }
    while (h->done) {
        struct slot *s = h->done;

        h->done = s->next;
        give_back(s);
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
    struct http *h = (struct http *)t;

    if (!h)
        return;
    if (h->shown)
        give_back(h->shown);
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
static int add_header(struct http *h, const char *line, struct tr_err *err)
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
    if (starts(line, strlen(line), "content-type:"))
        return TR_OK;
    longer = curl_slist_append(h->plain, line);
    if (!longer)
        return tr_fail(err, TR_NOMEM, "out of memory");
    h->plain = longer;
    return TR_OK;
}

static int check_scheme(struct http *h, struct tr_err *err)
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
    struct http *h = tr_alloc(sizeof *h);
    struct epoll_event e = {.events = EPOLLIN};
    CURLUcode bad;
    int rc = TR_OK;

    *out = NULL;
    if (!h)
        return tr_fail(err, TR_NOMEM, "out of memory");
    h->t = (struct tr_transport){.start = http_start, .ask = http_ask,
                                 .next = http_next, .wait = http_wait,
                                 .watch = http_watch,
                                 .wakeup = http_wakeup,
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
    if (o->proxy)
        h->proxy = tr_dup(o->proxy, strlen(o->proxy));
    if (o->ca_file)
        h->ca_file = tr_dup(o->ca_file, strlen(o->ca_file));
    h->address = curl_url();
    if (!h->url || (o->proxy && !h->proxy) || (o->ca_file && !h->ca_file) ||
        !h->address || !new_multi(h))
        TRY(tr_fail(err, TR_NOMEM, "out of memory"));
    TRY(check_scheme(h, err));
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
                    tr_errno_remedy(errno, "run the same command again")));
    *out = &h->t;
    return TR_OK;
out:
    http_close(&h->t);
    return rc;
}
