/* test_http.c - the transport against a server that misbehaves on request.
 *
 * The server is a child process on loopback; the first word of a request's
 * body says what it does. It counts connections and requests in shared
 * memory, so that tests see what really arrived.
 *
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "base/clock.h"
#include "base/mem.h"
#include "wire/transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <curl/curl.h>

struct seen {
    atomic_int connections, requests, keys;
    atomic_int mixed; /* requests with another key than the first of their
                         connection had */
};
static struct seen *seen, *elsewhere; /* the two servers */
static int port, other_port;
static pid_t children[2];

/* ---- the server ------------------------------------------------------- */

static void put(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        return;
}

static void put_ok(int fd, const char *extra, const char *body)
{
    char text[600];

    snprintf(text, sizeof text,
             "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%.99s"
             "Content-Length: %zu\r\n\r\n%.300s",
             extra, strlen(body), body);
    put(fd, text);
}

static void endless(int fd, const char *head, const char *piece)
{
    put(fd, head);
    while (send(fd, piece, strlen(piece), MSG_NOSIGNAL) > 0)
        ;
}

/* Returns whether the connection stays. */
static int act(int fd, const char *what, int nth)
{
    char text[300];

    if (strncmp(what, "ok", 2) == 0) {
        put_ok(fd, "X-RateLimit-Remaining-Requests: 7\r\nServer: nobody\r\n",
               what);
        return 1;
    }
    if (strncmp(what, "meet", 4) == 0) { /* once there are four connections */
        for (int ms = 0; seen->connections < 4 && ms < 4000; ms++)
            usleep(1000);
        put_ok(fd, "", what);
        return 1;
    }
    if (strncmp(what, "stale", 5) == 0) {
        if (nth == 1)
            put_ok(fd, "", "once");
        return nth == 1;
    }
    if (strncmp(what, "continue", 8) == 0) {
        put(fd, "HTTP/1.1 103 Early Hints\r\nRetry-After: 99\r\n\r\n");
        put_ok(fd, "Retry-After: 3\r\n", "after hints");
        return 1;
    }
    if (strncmp(what, "redirect", 8) == 0) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:%d/x\r\n"
                 "Content-Length: 0\r\n\r\n",
                 other_port);
        put(fd, text);
        return 1;
    }
    if (strncmp(what, "cut", 3) == 0)
        put(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of");
    else if (strncmp(what, "garbage", 7) == 0)
        put(fd, "\x01\x02 this is no HTTP\r\n\r\n");
    else if (strncmp(what, "hang", 4) == 0)
        sleep(30);
    else if (strncmp(what, "big", 3) == 0)
        endless(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "10\r\n0123456789abcdef\r\n10\r\n0123456789abcdef\r\n");
    else if (strncmp(what, "heads", 5) == 0)
        endless(fd, "HTTP/1.1 200 OK\r\n", "X-RateLimit-Foo: 0123456789\r\n");
    else if (strncmp(what, "drip", 4) == 0) {
        put(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        for (int i = 0; i < 1000; i++) {
            if (send(fd, "x", 1, MSG_NOSIGNAL) < 0)
                break;
            usleep(20000);
        }
    }
    return 0; /* "early": closes without a word */
}

static void *talk(void *arg)
{
    int fd = (int)(intptr_t)arg, nth = 0;
    char in[20000], first[40] = "", key[40];

    for (;;) {
        size_t n = 0, body_n;
        char *end = NULL, *length;
        ssize_t got;

        while (!end) {
            got = recv(fd, in + n, sizeof in - 1 - n, 0);
            if (got <= 0)
                goto out;
            n += (size_t)got;
            in[n] = '\0';
            end = strstr(in, "\r\n\r\n");
        }
        length = strstr(in, "Content-Length: ");
        body_n = length ? strtoul(length + 16, NULL, 10) : 0;
        while (n < (size_t)(end + 4 - in) + body_n) {
            got = recv(fd, in + n, sizeof in - 1 - n, 0);
            if (got <= 0)
                goto out;
            n += (size_t)got;
        }
        in[n] = '\0';
        seen->requests++;
        if (strstr(in, "canary"))
            seen->keys++;
        length = strstr(in, "X-Api-Key: ");
        snprintf(key, sizeof key, "%.*s", length ? 25 : 0,
                 length ? length : "");
        if (nth == 0)
            memcpy(first, key, sizeof first);
        else if (strcmp(first, key) != 0)
            seen->mixed++;
        if (!act(fd, end + 4, ++nth))
            break;
    }
out:
    shutdown(fd, SHUT_RDWR);
    close(fd);
    return NULL;
}

static int listen_on(int *at)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(fd, 128), 0);
    getsockname(fd, (struct sockaddr *)&a, &n);
    *at = ntohs(a.sin_port);
    return fd;
}

static pid_t serve(int fd, struct seen *count)
{
    pid_t pid = fork();

    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    seen = count;
    for (;;) {
        int client = accept(fd, NULL, NULL);
        pthread_t thread;

        count->connections++;
        pthread_create(&thread, NULL, talk, (void *)(intptr_t)client);
        pthread_detach(thread);
    }
}

static int start_servers(void **state)
{
    int fd, other_fd;
    (void)state;

    seen = mmap(NULL, 2 * sizeof *seen, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    elsewhere = seen + 1;
    fd = listen_on(&port);
    other_fd = listen_on(&other_port);
    children[0] = serve(fd, seen);
    children[1] = serve(other_fd, elsewhere);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    return 0;
}

/* ---- the client ------------------------------------------------------- */

static struct tr_transport *open_to(int to, const struct tr_http_opts *more)
{
    static const char *const headers[] = {"Authorization: Bearer canary",
                                          "X-Api-Key: canary", NULL};
    struct tr_http_opts o = more ? *more : (struct tr_http_opts){0};
    struct tr_transport *t;
    struct tr_err err;
    char url[100];

    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/chat/completions", to);
    if (!o.url)
        o.url = url;
    o.headers = headers;
    if (tr_http_open(&t, &o, &err) != TR_OK)
        fail_msg("%s", err.text);
    seen->connections = seen->requests = seen->keys = 0;
    elsewhere->connections = elsewhere->requests = elsewhere->keys = 0;
    return t;
}

static void ask(struct tr_transport *t, uint64_t tag, const char *what,
                int64_t deadline_ms)
{
    assert_int_equal(t->start(t, tag, tr_str_c(what), deadline_ms, NULL),
                     TR_OK);
}

static struct tr_http_result answer(struct tr_transport *t)
{
    struct tr_http_result r;
    int64_t until = tr_clock_mono_ns() + 10 * TR_S;

    while (!t->next(t, &r)) {
        assert_true(tr_clock_mono_ns() < until);
        t->wait(t, 1000, -1);
    }
    return r;
}

static void answers_arrive_over_kept_connections(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    uint64_t tags = 0;
    (void)state;

    for (int round = 0; round < 50; round++) {
        /* All are under way before the first is answered, on any machine. */
        const char *what = round ? "ok one" : "meet";

        for (uint64_t i = 0; i < 4; i++)
            ask(t, i, what, 5000);
        tags = 0;
        for (int i = 0; i < 4; i++) {
            r = answer(t);
            assert_int_equal(r.net, TR_NET_OK);
            assert_int_equal(r.status, 200);
            assert_true(r.sent);
            assert_true(tr_str_eq_c(r.body, what));
            tags |= 1u << r.tag;
        }
        assert_int_equal(tags, 15);
        assert_int_equal(t->next(t, &r), 0);
    }
    assert_int_equal(seen->requests, 200);
    assert_int_equal(seen->connections, 4);
    t->close(t);
}

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t n = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &n), 0);
    return value;
}

/* Our connections to the server, all of which probe whether it is there. */
static int probing_connections(void)
{
    int count = 0;

    for (int fd = 3; fd < 200; fd++) {
        struct sockaddr_in peer = {0};
        socklen_t n = sizeof peer;

        if (getpeername(fd, (struct sockaddr *)(void *)&peer, &n) < 0 ||
            peer.sin_family != AF_INET || ntohs(peer.sin_port) != port)
            continue;
        assert_int_equal(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
        assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPIDLE),
                         TR_CONN_PROBE_S);
        assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_KEEPINTVL),
                         TR_CONN_PROBES_S);
        count++;
    }
    return count;
}

/* libcurl counts whole seconds, and more than the maximum. */
static void connections_age(void **state)
{
    static const struct tr_http_opts limits[] = {
        {0}, {.conn_idle_s = 1}, {.conn_life_s = 1}};
    struct tr_transport *t[3];
    (void)state;

    for (int i = 0; i < 3; i++) {
        t[i] = open_to(port, &limits[i]);
        ask(t[i], 1, "ok one", 5000);
        assert_int_equal(answer(t[i]).net, TR_NET_OK);
    }
    assert_int_equal(probing_connections(), 3);
    usleep(2100000);
    for (int i = 0; i < 3; i++) {
        seen->connections = 0;
        ask(t[i], 2, "ok two", 5000);
        assert_int_equal(answer(t[i]).net, TR_NET_OK);
        assert_int_equal(seen->connections, i ? 1 : 0);
        t[i]->close(t[i]);
    }
}

/* The machine slept so long, as the test says. */
static int64_t slept_ns;
int64_t __wrap_tr_clock_asleep_ns(void);

int64_t __wrap_tr_clock_asleep_ns(void)
{
    return slept_ns;
}

/* No clock that libcurl reads goes on while the machine sleeps; the server's
 * does. What was under way is awaited all the same. */
static void sleep_ends_idle_connections(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    (void)state;

    ask(t, 1, "ok one", 5000);
    assert_int_equal(answer(t).net, TR_NET_OK);
    seen->connections = 0;
    ask(t, 2, "ok awake", 5000);
    assert_int_equal(answer(t).net, TR_NET_OK);
    assert_int_equal(seen->connections, 0);
    ask(t, 3, "hang", 3000); /* it outlasts what follows */
    ask(t, 4, "ok beside it", 5000);
    assert_int_equal(answer(t).tag, 4);
    seen->connections = 0;
    slept_ns += 3600 * TR_S;
    ask(t, 5, "ok after", 5000);
    assert_int_equal(answer(t).tag, 5);
    assert_int_equal(seen->connections, 1);
    ask(t, 6, "ok again", 5000);
    assert_int_equal(answer(t).tag, 6);
    assert_int_equal(seen->connections, 1);
    assert_int_equal(answer(t).net, TR_NET_TIMEOUT);
    t->close(t);
}

/* Two lanes to one server: a connection that one used with its key is never
 * the other's. */
static void two_keys_share_no_connection(void **state)
{
    static const char *const others[] = {"X-Api-Key: another canary", NULL};
    struct tr_transport *t[2] = {open_to(port, NULL), NULL};
    char url[100];
    (void)state;

    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/chat/completions", port);
    assert_int_equal(tr_http_open(&t[1],
                                  &(struct tr_http_opts){.url = url,
                                                         .headers = others},
                                  NULL), TR_OK);
    seen->mixed = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 4; i++)
            ask(t[i & 1], (uint64_t)i, "ok", 5000);
        for (int i = 0; i < 4; i++)
            assert_int_equal(answer(t[i & 1]).status, 200);
    }
    assert_int_equal(seen->requests, 80);
    assert_int_equal(seen->connections, 4); /* they were kept */
    assert_int_equal(seen->mixed, 0);
    t[0]->close(t[0]);
    t[1]->close(t[1]);
}

static void only_telling_headers_are_kept(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    (void)state;

    ask(t, 1, "ok", 5000);
    r = answer(t);
    assert_true(tr_str_eq_c(r.headers,
                            "content-type: application/json\n"
                            "x-ratelimit-remaining-requests: 7\n"));
    ask(t, 2, "continue", 5000); /* the 103's header is not the answer's */
    r = answer(t);
    assert_true(tr_str_eq_c(r.body, "after hints"));
    assert_true(tr_str_eq_c(r.headers, "retry-after: 3\n"
                                       "content-type: application/json\n") ||
                tr_str_eq_c(r.headers, "content-type: application/json\n"
                                       "retry-after: 3\n"));
    t->close(t);
}

static void redirects_are_not_followed(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    (void)state;

    ask(t, 1, "redirect", 5000);
    r = answer(t);
    assert_int_equal(r.net, TR_NET_OK);
    assert_int_equal(r.status, 307);
    assert_non_null(r.headers.p);
    assert_memory_equal(r.headers.p, "location: http://127.0.0.1:", 27);
    assert_int_equal(seen->keys, 1);
    usleep(50000);
    assert_int_equal(elsewhere->connections, 0);
    t->close(t);
}

/* What came of each kind of trouble, and that it is told apart whether the
 * request may have been worked on. */
static void every_trouble_has_its_name(void **state)
{
    static const struct {
        const char *what;
        enum tr_net net;
        int status;
    } cases[] = {
        {"cut", TR_NET_CUT, 200},     {"early", TR_NET_CUT, 0},
        {"garbage", TR_NET_OTHER, 0}, {"big", TR_NET_TOO_BIG, 200},
        {"heads", TR_NET_TOO_BIG, 200},
    };
    struct tr_transport *t = open_to(port, NULL);
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_http_result r;

        ask(t, i, cases[i].what, 5000);
        r = answer(t);
        if (r.net != cases[i].net || r.status != cases[i].status)
            fail_msg("%s: net %d, status %d: %s", cases[i].what, r.net,
                     r.status, r.message);
        assert_true(r.sent);
        assert_int_equal(r.tag, i);
        assert_true(r.message[0] != '\0');
        assert_true(r.body.n <= TR_REPLY_BYTES_MAX);
        assert_true(r.headers.n <= TR_HEADER_BYTES_MAX);
    }
    ask(t, 99, "ok", 5000); /* and the lane still works */
    assert_int_equal(answer(t).status, 200);
    t->close(t);
}

static void deadlines_hold(void **state)
{
    static const char *const whats[] = {"hang", "drip"};
    struct tr_transport *t = open_to(port, NULL);
    (void)state;

    for (int i = 0; i < 2; i++) {
        int64_t began = tr_clock_mono_ns();
        struct tr_http_result r;

        ask(t, 1, whats[i], 300);
        r = answer(t);
        assert_int_equal(r.net, TR_NET_TIMEOUT);
        assert_true(r.sent);
        /* A busy machine is late; without a deadline it hangs. */
        assert_in_range((tr_clock_mono_ns() - began) / TR_MS, 290, 5000);
        assert_in_range(r.latency_ms, 290, 5000);
    }
    t->close(t);
}

/* libcurl would send again by itself when a kept connection closes without
 * an answer: a second charge nobody decided. */
static void nothing_is_sent_twice_in_silence(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    (void)state;

    ask(t, 1, "stale", 5000);
    assert_int_equal(answer(t).status, 200);
    ask(t, 2, "stale", 5000);
    r = answer(t);
    assert_int_equal(r.net, TR_NET_CUT);
    assert_true(r.sent);
    assert_int_equal(seen->requests, 2);
    t->close(t);
}

static void a_refused_connection_was_not_sent(void **state)
{
    int free_port, fd = listen_on(&free_port);
    struct tr_transport *t;
    struct tr_http_result r;
    (void)state;

    close(fd);
    t = open_to(free_port, NULL);
    ask(t, 1, "ok", 5000);
    r = answer(t);
    assert_int_equal(r.net, TR_NET_CONNECT);
    assert_false(r.sent);
    t->close(t);
}

static void want_of_descriptors_is_named(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct rlimit whole, none;
    struct tr_http_result r;
    int next = dup(0);
    (void)state;

    assert_true(next > 0);
    close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &whole), 0);
    none = whole;
    none.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    ask(t, 1, "ok", 5000);
    r = answer(t);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &whole), 0);
    assert_int_equal(r.net, TR_NET_CONNECT);
    assert_false(r.sent);
    assert_true(r.ours);
    assert_non_null(strstr(r.message, "open files (ulimit -n)"));
    ask(t, 2, "ok", 5000); /* and is over when there are some */
    assert_int_equal(answer(t).net, TR_NET_OK);
    t->close(t);
}

static int watch_error;    /* errno of every epoll_ctl(); 0: it works */
static int watch_error_op; /* of this one only; 0: of all */

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *e)
{
    if (watch_error && (!watch_error_op || op == watch_error_op)) {
        errno = watch_error;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, epoll, op, fd, e);
}

/* A socket that nothing tells of brings no answer: nothing may be sent. */
static void a_socket_that_cannot_be_watched_sends_nothing(void **state)
{
    static const struct {
        int error;
        const char *words;
    } wants[] = {{ENOSPC, "fs.epoll.max_user_watches"},
                 {ENOMEM, "with more memory"}};
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    (void)state;

    for (size_t i = 0; i < sizeof wants / sizeof *wants; i++) {
        watch_error = wants[i].error;
        ask(t, 1, "ok", 2000);
        r = answer(t);
        watch_error = 0;
        assert_int_equal(r.net, TR_NET_CONNECT);
        assert_false(r.sent);
        assert_true(r.ours);
        assert_non_null(strstr(r.message, wants[i].words));
        assert_int_equal(seen->requests, 0);
    }
    ask(t, 2, "ok", 5000); /* and is over when it can */
    r = answer(t);
    assert_int_equal(r.net, TR_NET_OK);
    assert_false(r.ours);
    t->close(t);
}

/* It is watched, but not for what it waits for now: the answer is paid for by
 * then, and is read. */
static void a_watch_that_cannot_be_changed_costs_no_answer(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    (void)state;

    watch_error = EIO;
    watch_error_op = EPOLL_CTL_MOD;
    ask(t, 1, "ok", 5000);
    r = answer(t);
    assert_int_equal(r.net, TR_NET_OK);
    ask(t, 2, "ok", 5000);
    r = answer(t);
    watch_error = watch_error_op = 0;
    assert_int_equal(r.net, TR_NET_OK);
    t->close(t);
}

static void a_server_without_tls_gets_no_request(void **state)
{
    char url[60];
    struct tr_transport *t;
    struct tr_http_result r;
    (void)state;

    snprintf(url, sizeof url, "https://127.0.0.1:%d/", port);
    t = open_to(port, &(struct tr_http_opts){.url = url});
    ask(t, 1, "ok", 1000);
    r = answer(t);
    assert_false(r.sent);
    assert_int_equal(r.status, 0);
    assert_int_equal(seen->requests, 0);
    t->close(t);
}

static void forbidden_addresses_get_no_connection(void **state)
{
    static const struct {
        const char *url;
        bool allow_http;
        const char *proxy;
    } cases[] = {
        {"http://169.254.169.254/v1", true, NULL},
        {"http://169.254.169.254/v1", true, "env"}, /* which names none */
        {"http://0251.0376.0251.0376/v1", true, NULL}, /* in octal */
        {"http://169.16689662/v1", true, NULL},        /* in two parts */
        {"http://[::169.254.169.254]/v1", true, NULL},
        {"http://[::ffff:0:169.254.169.254]/v1", true, NULL},
        {"http://[64:ff9b::169.254.169.254]/v1", true, NULL}, /* NAT64 */
        {"http://[2002:a9fe:a9fe::1]/v1", true, NULL},        /* 6to4 */
        {"http://[fe80::1]/v1", true, NULL},
        {"http://[fd00:ec2::254]/v1", true, NULL},   /* clouds' own places */
        {"http://[fd20:ce::254]/v1", true, NULL},
        {"https://100.100.100.200/v1", true, NULL},
        {"https://168.63.129.16/v1", true, NULL},
        {"https://192.0.0.192/v1", true, NULL},
        {"http://0xa9fea9fe/v1", true, NULL},      /* the same, spelt in hex */
        {"http://2852039166/v1", true, NULL},      /* and in decimal */
        {"http://[::ffff:169.254.169.254]/v1", true, NULL},
        {"http://192.0.2.1/v1", false, NULL},    /* plain http, not loopback */
        {"https://169.254.169.254/v1", false, NULL},
    };
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY",
                                        "http_proxy", "all_proxy",
                                        "ALL_PROXY"};
    (void)state;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_transport *t =
            open_to(port, &(struct tr_http_opts){
                              .url = cases[i].url,
                              .allow_http = cases[i].allow_http,
                              .proxy = cases[i].proxy});
        struct tr_http_result r;

        ask(t, 1, "ok", 2000);
        r = answer(t);
        if (r.net != TR_NET_REFUSED || r.sent)
            fail_msg("%s: net %d: %s", cases[i].url, r.net, r.message);
        t->close(t);
    }
}

/* Without a zone the kernel knows no way there, so nothing leaves: what is
 * tested is that it was asked. */
static void link_local_addresses_can_be_allowed(void **state)
{
    struct tr_transport *t =
        open_to(port, &(struct tr_http_opts){.url = "http://[fe80::1]/v1",
                                             .allow_http = true,
                                             .allow_link_local = true});
    struct tr_http_result r;
    (void)state;

    ask(t, 1, "ok", 2000);
    r = answer(t);
    if (r.net == TR_NET_REFUSED || r.net == TR_NET_OK)
        fail_msg("net %d: %s", r.net, r.message);
    t->close(t);
}

/* The environment's proxy is used only when asked for. */
static void a_proxy_is_used_on_request_only(void **state)
{
    static const struct {
        const char *proxy;
        int requests_elsewhere;
    } cases[] = {{NULL, 0}, {"env", 1}};
    char address[60];
    (void)state;

    snprintf(address, sizeof address, "http://127.0.0.1:%d", other_port);
    setenv("http_proxy", address, 1);
    unsetenv("no_proxy");
    unsetenv("NO_PROXY");
    for (size_t i = 0; i < 2; i++) {
        struct tr_transport *t = open_to(
            port, &(struct tr_http_opts){.proxy = cases[i].proxy});

        ask(t, 1, "ok", 2000);
        assert_int_equal(answer(t).status, 200);
        assert_int_equal(elsewhere->requests, cases[i].requests_elsewhere);
        t->close(t);
    }
    unsetenv("http_proxy");
}

/* What the environment does not send to its proxy goes out by itself, and is
 * looked at like all that does. (The kernel knows no way to this address.) */
static void a_proxy_of_others_hides_no_address(void **state)
{
    static const struct {
        const char *url, *proxy_name, *exceptions;
        bool through; /* the proxy, which is asked */
    } cases[] = {
        {"http://[fe80::1]/v1", "https_proxy", NULL, false},
        {"http://[fe80::1]/v1", "http_proxy", "*", false},
        {"http://[fe80::1]/v1", "http_proxy", "example.org, fe80::1",
         false},
        {"http://[fe80::1]/v1", "http_proxy", "10.0.0.0/8,fe80::/10", false},
        {"http://[fe80::1]/v1", "http_proxy", "::/0", false},
        {"http://a.Example.org:81/v1", "all_proxy", ".example.org.", false},
        {"http://[fe80::1]/v1", "http_proxy", "example.org", true},
        {"http://[fe80::1]/v1", "http_proxy", "fec0::/10,0.0.0.0/0", true},
        {"http://badexample.org/v1", "all_proxy", "example.org,", true},
    };
    char address[60];
    (void)state;

    snprintf(address, sizeof address, "http://127.0.0.1:%d", other_port);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tr_transport *t;
        struct tr_http_result r;

        setenv(cases[i].proxy_name, address, 1);
        unsetenv("no_proxy");
        if (cases[i].exceptions)
            setenv("no_proxy", cases[i].exceptions, 1);
        t = open_to(port, &(struct tr_http_opts){
                              .url = cases[i].url, .proxy = "env",
                              .allow_http = cases[i].url[7] != 'a'});
        ask(t, 1, "ok", 2000);
        r = answer(t);
        if (cases[i].through != (r.net == TR_NET_OK) ||
            elsewhere->requests != cases[i].through)
            fail_msg("%s: net %d: %s", cases[i].url, r.net, r.message);
        if (cases[i].url[7] != 'a' && !cases[i].through)
            assert_int_equal(r.net, TR_NET_REFUSED);
        t->close(t);
        unsetenv(cases[i].proxy_name);
    }
    unsetenv("no_proxy");
}

static void headers_are_one_line(void **state)
{
    const char *const lines[] = {"Authorization: Bearer a\r\nX-Evil: 1", NULL};
    struct tr_transport *t;
    struct tr_err err;
    (void)state;

    assert_int_equal(tr_http_open(&t,
                                  &(struct tr_http_opts){
                                      .url = "https://example.invalid/",
                                      .headers = lines},
                                  &err),
                     TR_CONFIG);
    assert_null(t);
    assert_null(strstr(err.text, "Bearer"));
    for (int c = 1; c < 256; c++) {
        char line[] = "X-Name: value";
        const char *const one[] = {line, NULL};
        bool visible = c >= 0x20 && c <= 0x7e;

        line[10] = (char)c;
        assert_int_equal(tr_http_open(&t,
                                      &(struct tr_http_opts){
                                          .url = "https://example.invalid/",
                                          .headers = one},
                                      &err),
                         visible ? TR_OK : TR_CONFIG);
        assert_int_equal(t != NULL, visible);
        if (t)
            t->close(t);
    }
}

static void cancel_drops_what_is_in_flight(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    (void)state;

    for (uint64_t i = 0; i < 8; i++)
        ask(t, i, "hang", 20000);
    t->wait(t, 50, -1);
    t->cancel(t);
    assert_int_equal(t->next(t, &r), 0);
    ask(t, 42, "ok", 5000);
    r = answer(t);
    assert_int_equal(r.tag, 42);
    assert_int_equal(t->next(t, &r), 0);
    t->close(t);
}

static void *wake(void *arg)
{
    struct tr_transport *t = arg;

    usleep(50000);
    t->wakeup(t);
    return NULL;
}

static void wait_ends_early(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    int64_t began = tr_clock_mono_ns();
    pthread_t thread;
    int fds[2];
    (void)state;

    pthread_create(&thread, NULL, wake, t);
    t->wait(t, 5000, -1);
    pthread_join(thread, NULL);
    assert_in_range((tr_clock_mono_ns() - began) / TR_MS, 30, 1000);

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    began = tr_clock_mono_ns();
    t->wait(t, 5000, fds[0]);
    assert_in_range((tr_clock_mono_ns() - began) / TR_MS, 0, 1000);
    close(fds[0]);
    close(fds[1]);
    t->close(t);
}

/* ---- other requests ---------------------------------------------------- */

static struct tr_http_result ask_for(struct tr_transport *t, const char *path,
                                     struct tr_http_ask *a)
{
    char url[200];
    struct tr_err err;

    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    a->url = url;
    if (t->ask(t, 9, a, 5000, &err) != TR_OK)
        fail_msg("%s", err.text);
    return answer(t);
}

/* Atomic: where an address cannot be read, libcurl has it looked up by a thread
 * of its own. */
static atomic_long curl_allocations, curl_fails_at; /* 0: never */

static bool curl_may(void)
{
    return ++curl_allocations != curl_fails_at;
}

static void *curl_malloc(size_t n)
{
    return curl_may() ? malloc(n) : NULL;
}

static void *curl_realloc(void *p, size_t n)
{
    return curl_may() ? realloc(p, n) : NULL;
}

static void *curl_calloc(size_t count, size_t n)
{
    return curl_may() ? calloc(count, n) : NULL;
}

static char *curl_strdup(const char *text)
{
    return curl_may() ? strdup(text) : NULL;
}

/* Its multi handle is of no use after that, libcurl 7.88 divided by zero, and a
 * socket that it closed behind our back was watched no more. */
static void libcurl_without_memory_costs_a_request(void **state)
{
    bool over = false;
    (void)state;

    for (long n = 1; !over; n++) {
        struct tr_transport *t = open_to(port, NULL);
        struct tr_http_result r;
        struct tr_err err = {0};
        int rc;

        curl_allocations = 0;
        curl_fails_at = n;
        rc = t->start(t, 1, tr_str_c("ok"), 5000, &err);
        if (rc == TR_OK)
            r = answer(t);
        over = curl_allocations < n;
        curl_fails_at = 0;
        if (rc != TR_OK)
            assert_int_equal(rc, TR_NOMEM);
        else if (r.net != TR_NET_OK)
            assert_true(r.message[0] != '\0');
        if (rc == TR_OK && r.net == TR_NET_TIMEOUT)
            fail_msg("allocation %ld: it waited for nothing", n);
        ask(t, 2, "ok again", 5000);
        r = answer(t);
        if (r.status != 200)
            fail_msg("allocation %ld: the next one: %s", n, r.message);
        t->close(t);
    }
}

/* Nor is an address called wrong, or another's, for want of memory. */
static void an_address_without_memory_is_no_bad_one(void **state)
{
    struct tr_http_ask body = {.post = true, .body = tr_str_c("ok")};
    char url[60];
    bool over = false;
    (void)state;

    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/x", port);
    body.url = url;
    for (long n = 1; !over; n++) {
        struct tr_http_opts o = {.url = url};
        struct tr_transport *t;
        struct tr_err err = {0};
        int rc;

        curl_allocations = 0;
        curl_fails_at = n;
        rc = tr_http_open(&t, &o, &err);
        if (rc == TR_OK)
            rc = t->ask(t, 1, &body, 5000, &err);
        over = curl_allocations < n;
        curl_fails_at = 0;
        if (rc != TR_OK && rc != TR_NOMEM)
            fail_msg("allocation %ld: %s", n, err.text);
        if (t)
            t->close(t);
    }
}

/* A response for which we have no memory is no fault of server or row. */
static void want_of_memory_is_not_called_too_big(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    struct tr_http_result r;
    (void)state;

    ask(t, 1, "ok", 5000); /* what the first request sets up is there */
    assert_int_equal(answer(t).status, 200);
    ask(t, 2, "big", 5000);
    tr_mem_fail_at(1, 1);
    r = answer(t);
    tr_mem_fail_at(0, 0);
    assert_int_equal(r.net, TR_NET_OTHER);
    assert_string_equal(r.message, "out of memory for the response");
    t->close(t);
}

static int file_of(const char *text)
{
    char path[] = "/tmp/trommel-http-XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    unlink(path);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    return fd;
}

static void files_go_out_and_come_in(void **state)
{
    static const char *const fields[] = {"purpose", "batch", NULL};
    struct tr_transport *t = open_to(port, NULL);
    int out = file_of("ok from a file"), in = file_of("");
    struct tr_http_ask form = {.post = true, .fields = fields, .file_fd = out,
                               .file_bytes = 14, .file_name = "a.jsonl"};
    struct tr_http_ask body = {.post = true, .file_fd = out, .file_bytes = 14,
                               .save = true, .save_fd = in,
                               .save_bytes_max = 100};
    struct tr_http_result r;
    char text[40] = "";
    (void)state;

    r = ask_for(t, "/files", &form);
    assert_int_equal(r.tag, 9);
    assert_true(r.sent); /* the server knows no form and closes */
    r = ask_for(t, "/raw", &body);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.body.n, 0);
    assert_int_equal(r.saved_bytes, 14);
    assert_int_equal(pread(in, text, sizeof text, 0), 14);
    assert_string_equal(text, "ok from a file");
    body.save_bytes_max = 5;
    r = ask_for(t, "/raw", &body);
    assert_int_equal(r.net, TR_NET_TOO_BIG);
    ask(t, 1, "ok again", 5000); /* the handle is one for requests again */
    r = answer(t);
    assert_true(tr_str_eq_c(r.body, "ok again"));
    assert_int_equal(seen->keys, 4);
    close(out);
    close(in);
    t->close(t);
}

/* Its file is the caller's again at once. */
static void an_ask_that_is_dropped_writes_no_more(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    int out = file_of("drip"), in = file_of("");
    char url[100], text[4];
    struct tr_http_result r;
    (void)state;

    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1/x", port);
    assert_int_equal(t->ask(t, 5, &(struct tr_http_ask){
        .url = url, .post = true, .file_fd = out, .file_bytes = 4,
        .save = true, .save_fd = in, .save_bytes_max = 1000}, 20000, NULL),
        TR_OK);
    ask(t, 6, "hang", 20000);
    while (pread(in, text, 1, 0) == 0) {
        assert_int_equal(t->next(t, &r), 0);
        t->wait(t, 50, -1);
    }
    t->drop(t, 5);
    t->drop(t, 7); /* there is none */
    assert_int_equal(ftruncate(in, 0), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(t->next(t, &r), 0);
        t->wait(t, 30, -1);
    }
    assert_int_equal(pread(in, text, 1, 0), 0);
    ask(t, 8, "ok", 5000);
    r = answer(t);
    assert_int_equal(r.tag, 8);
    close(out);
    close(in);
    t->close(t);
}

static void the_key_goes_to_its_origin_only(void **state)
{
    struct tr_transport *t = open_to(port, NULL);
    char url[100];
    struct tr_err err;
    (void)state;

    snprintf(url, sizeof url, "http://127.0.0.1:%d/results", other_port);
    assert_int_equal(t->ask(t, 1, &(struct tr_http_ask){.url = url}, 1000,
                            &err), TR_CONFIG);
    assert_int_equal(t->ask(t, 1, &(struct tr_http_ask){
        .url = "http://localhost/x"}, 1000, &err), TR_CONFIG);
    assert_int_equal(t->ask(t, 1, &(struct tr_http_ask){
        .url = "file:///etc/passwd"}, 1000, &err), TR_CONFIG);
    assert_int_equal(elsewhere->connections, 0);
    t->close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_arrive_over_kept_connections),
        cmocka_unit_test(connections_age),
        cmocka_unit_test(sleep_ends_idle_connections),
        cmocka_unit_test(two_keys_share_no_connection),
        cmocka_unit_test(only_telling_headers_are_kept),
        cmocka_unit_test(redirects_are_not_followed),
        cmocka_unit_test(every_trouble_has_its_name),
        cmocka_unit_test(deadlines_hold),
        cmocka_unit_test(nothing_is_sent_twice_in_silence),
        cmocka_unit_test(a_refused_connection_was_not_sent),
        cmocka_unit_test(want_of_descriptors_is_named),
        cmocka_unit_test(a_socket_that_cannot_be_watched_sends_nothing),
        cmocka_unit_test(a_watch_that_cannot_be_changed_costs_no_answer),
        cmocka_unit_test(a_server_without_tls_gets_no_request),
        cmocka_unit_test(forbidden_addresses_get_no_connection),
        cmocka_unit_test(link_local_addresses_can_be_allowed),
        cmocka_unit_test(a_proxy_is_used_on_request_only),
        cmocka_unit_test(a_proxy_of_others_hides_no_address),
        cmocka_unit_test(headers_are_one_line),
        cmocka_unit_test(cancel_drops_what_is_in_flight),
        cmocka_unit_test(wait_ends_early),
        cmocka_unit_test(libcurl_without_memory_costs_a_request),
        cmocka_unit_test(an_address_without_memory_is_no_bad_one),
        cmocka_unit_test(want_of_memory_is_not_called_too_big),
        cmocka_unit_test(files_go_out_and_come_in),
        cmocka_unit_test(an_ask_that_is_dropped_writes_no_more),
        cmocka_unit_test(the_key_goes_to_its_origin_only),
    };

    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_malloc, free,
                             curl_realloc, curl_strdup, curl_calloc))
        return 1;
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
