/* lane.c - real HTTP lanes on a leash: commands in, outcomes out.
 *
 *   open N URL KEY PROXY   lane N (0..7) to the base address URL; PROXY "-":
 *                          none
 *   call N COUNT MS PAD    COUNT requests at once, each with PAD bytes of text
 *                          more and MS milliseconds of time
 *   close N
 *
 * A call is answered by COUNT lines, in the order of their ends, and "done":
 *   OUTCOME BILLING STATUS MS GROWN AFTER MESSAGE
 * MS: what it took by our clock. GROWN: by how many KiB the process was
 * larger, at its largest, than before the call. AFTER: for how many ms the
 * server asked to wait, -1: it did not.
 *
 * getaddrinfo() is ours here, since name servers are far: names that end in
 * .test say what becomes of them, all others fail.
 *
 * SPDX-License-Identifier: MIT */
#include "base/buf.h"
#include "base/clock.h"
#include "wire/provider.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LANES = 8, LINE = 1000 };

static struct tr_lane *lanes[LANES];
static char key[200];

/* ---- names ------------------------------------------------------------ */

#define SHOWN __attribute__((visibility("default")))

SHOWN int getaddrinfo(const char *restrict node, const char *restrict service,
                      const struct addrinfo *restrict hints,
                      struct addrinfo **restrict out);
SHOWN void freeaddrinfo(struct addrinfo *list);

/* a and b: its addresses in this order; those that move have b alone from the
 * second time on. NULL: not known. */
static struct name {
    const char *name, *a, *b;
    bool moves;
    int times;
} names[] = {
    {"here.test", "127.0.0.1", NULL, false, 0},
    {"localhost", "127.0.0.1", NULL, false, 0},
    {"slow.test", "127.0.0.1", NULL, false, 0},
    {"metadata.test", "169.254.169.254", NULL, false, 0},
    {"partly.test", "169.254.169.254", "127.0.0.1", false, 0},
    {"far.test", "192.0.2.1", NULL, false, 0},
    {"six.test", "::1", "127.0.0.1", false, 0},
    {"four.test", "127.0.0.2", "127.0.0.1", false, 0},
    {"flip.test", NULL, "127.0.0.1", true, 0},
    {"moved.test", "127.0.0.1", "127.0.0.2", true, 0},
};

/* Puts ip before what is in *list. */
static void add(struct addrinfo **list, const char *ip, const char *service)
{
    struct entry {
        struct addrinfo info; /* first: freed as such */
        union {
            struct sockaddr any;
            struct sockaddr_in v4;
            struct sockaddr_in6 v6;
        } to;
    } *e = calloc(1, sizeof *e);
    in_port_t port = htons((uint16_t)(service ? atoi(service) : 0));

    if (!e)
        abort();
    if (inet_pton(AF_INET, ip, &e->to.v4.sin_addr) == 1) {
        e->to.v4.sin_port = port;
        e->info.ai_addrlen = sizeof e->to.v4;
        e->info.ai_family = AF_INET;
    } else {
        inet_pton(AF_INET6, ip, &e->to.v6.sin6_addr);
        e->to.v6.sin6_port = port;
        e->info.ai_addrlen = sizeof e->to.v6;
        e->info.ai_family = AF_INET6;
    }
    e->to.any.sa_family = (sa_family_t)e->info.ai_family;
    e->info.ai_socktype = SOCK_STREAM;
    e->info.ai_addr = &e->to.any;
    e->info.ai_next = *list;
    *list = &e->info;
}

int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints,
                struct addrinfo **restrict out)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct name number = {NULL, node ? node : "127.0.0.1", NULL, false, 0};
    struct name *n = NULL;
    struct in6_addr any;
    bool later;

    (void)hints;
    *out = NULL;
    if (inet_pton(AF_INET, number.a, &any) || inet_pton(AF_INET6, number.a, &any))
        n = &number;
    for (size_t i = 0; !n && i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, node) == 0)
            n = &names[i];
    if (!n)
        return EAI_NONAME;
    if (n->name && strcmp(n->name, "slow.test") == 0)
        sleep(3);
    pthread_mutex_lock(&lock);
    later = n->moves && n->times++ > 0;
    pthread_mutex_unlock(&lock);
    if (n->b && (!n->moves || later))
        add(out, n->b, service);
    if (n->a && !later)
        add(out, n->a, service);
    return *out ? 0 : EAI_NONAME;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;

        free(list);
        list = next;
    }
}

/* ---- memory ----------------------------------------------------------- */

static void die(const char *what);

static long status_kb(const char *name)
{
    FILE *f = fopen("/proc/self/status", "r");
    size_t n = strlen(name);
    char line[200];
    long kb = 0;

    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, name, n) == 0)
            kb = atol(line + n);
    }
    if (f)
        fclose(f);
    if (kb <= 0)
        die("/proc/self/status does not tell how much memory it has");
    return kb;
}

static void forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");

    if (f) {
        fputs("5", f);
        fclose(f);
    }
}

/* ---- calls ------------------------------------------------------------ */

static void die(const char *what)
{
    printf("error %s\n", what);
    fflush(stdout);
    exit(1);
}

static const char *env(const char *name)
{
    return strcmp(name, "HOSTILE_KEY") == 0 ? key : getenv(name);
}

static void open_lane(int n, const char *url, const char *proxy)
{
    struct tr_err err;
    int rc = tr_http_lane_open(&lanes[n],
                               &(struct tr_lane_opts){
                                   .model = "openai/hostile",
                                   .base_url = url,
                                   .key_env = "HOSTILE_KEY",
                                   .proxy = *proxy == '-' ? NULL : proxy,
                                   .env = env,
                               },
                               &err);

    if (rc != TR_OK)
        printf("error %s\n", err.text);
    else
        printf("done\n");
}

static void encode(struct tr_lane *lane, size_t pad, struct tr_buf *body)
{
    struct tr_buf user;
    struct tr_err err;

    tr_buf_init(&user, 0);
    tr_buf_addz(&user, "[101,\"a text\"]\n");
    while (pad--)
        tr_buf_addc(&user, 'x');
    if (lane->vt->encode(lane,
                         &(struct tr_call){.system = TR_STR("label it"),
                                           .user = tr_buf_str(&user),
                                           .cap_tokens = 50},
                         body, &err) != TR_OK)
        die(err.text);
    tr_buf_release(&user);
}

static void say(const struct tr_reply *r, int64_t began, long before)
{
    static const char *const billing[] = {"none", "usage", "unknown"};

    printf("%s %s %d %lld %ld %lld %s\n", tr_outcome_word(r->outcome),
           billing[r->billing], r->status,
           (long long)((tr_clock_mono_ns() - began) / TR_MS),
           status_kb("VmHWM:") - before, (long long)r->retry_after_ms,
           r->message);
}

static void call(struct tr_lane *lane, int count, int64_t ms, size_t pad)
{
    int64_t began = tr_clock_mono_ns();
    struct tr_buf body;
    long before;
    int left = count;

    tr_buf_init(&body, 0);
    encode(lane, pad, &body);
    forget_peak();
    before = status_kb("VmRSS:");
    for (int i = 0; i < count; i++) {
        struct tr_err err;

        if (lane->vt->start(lane,
                            &(struct tr_shot){.tag = (uint64_t)i + 1,
                                              .deadline_ms = ms,
                                              .body = tr_buf_str(&body)},
                            &err) != TR_OK)
            die(err.text);
    }
    while (left) {
        struct tr_reply r = {0};

        if (!lane->vt->next(lane, &r))
            lane->vt->wait(lane, 1000, -1);
        else
            left--, say(&r, began, before);
        if ((tr_clock_mono_ns() - began) / TR_MS > ms + 60000)
            die("a minute late");
    }
    tr_buf_release(&body);
    printf("done\n");
}

int main(void)
{
    char line[LINE], url[LINE], proxy[LINE];
    long pad, ms;
    int n, count;

    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "open %d %999s %199s %999s", &n, url, key, proxy) == 4)
            open_lane(n, url, proxy);
        else if (sscanf(line, "call %d %d %ld %ld", &n, &count, &ms, &pad) == 4)
            call(lanes[n], count, ms, (size_t)pad);
        else if (sscanf(line, "close %d", &n) == 1) {
            lanes[n]->vt->close(lanes[n]);
            lanes[n] = NULL;
            printf("done\n");
        } else {
            die("not understood");
        }
        fflush(stdout);
    }
    for (n = 0; n < LANES; n++)
        if (lanes[n])
            lanes[n]->vt->close(lanes[n]);
    return 0;
}
