/* bare_loop.c - the floor: N equal requests through one curl_multi loop, C at
 * a time, and nothing else. What a request costs more than here is ours.
 *
 * usage: bare_loop URL REQUESTS IN_FLIGHT BODY_FILE
 * prints one JSON object: requests, failed, seconds, per_second, cpu_us
 *
 * SPDX-License-Identifier: MIT */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static size_t drop(char *p, size_t size, size_t n, void *closure)
{
    (void)p;
    *(size_t *)closure += size * n;
    return size * n;
}

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    size_t cap = 1u << 20;
    char *p = f ? malloc(cap) : NULL;

    if (p)
        *n = fread(p, 1, cap, f);
    if (f)
        fclose(f);
    return p;
}

static CURL *request_new(const char *url, const char *body, size_t n,
                         struct curl_slist *headers, size_t *bytes)
{
    CURL *easy = curl_easy_init();

    if (!easy)
        return NULL;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)n);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, bytes);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    return easy;
}

struct loop {
    CURLM *multi;
    long left;    /* not started yet */
    long failed;
    int running;
};

/* Handles that are done start over while requests are left. */
static void take_finished(struct loop *l)
{
    CURLMsg *message;
    int queued;

    while ((message = curl_multi_info_read(l->multi, &queued)) != NULL) {
        CURL *easy = message->easy_handle;
        long status = 0;

        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        l->failed += message->data.result != CURLE_OK || status != 200;
        curl_multi_remove_handle(l->multi, easy);
        if (l->left > 0) {
            l->left--;
            curl_multi_add_handle(l->multi, easy);
            l->running = 1;
        } else {
            curl_easy_cleanup(easy);
        }
    }
}

int main(int argc, char **argv)
{
    struct curl_slist *headers = NULL;
    size_t body_n = 0, bytes = 0;
    struct loop l = {0};
    double wall, cpu;
    long total, in_flight;
    char *body;

    if (argc != 5) {
        fputs("usage: bare_loop URL REQUESTS IN_FLIGHT BODY_FILE\n", stderr);
        return 2;
    }
    total = strtol(argv[2], NULL, 10);
    in_flight = strtol(argv[3], NULL, 10);
    body = read_file(argv[4], &body_n);
    if (!body || total < 1 || in_flight < 1) {
        fputs("bare_loop: wrong number, or the body cannot be read\n", stderr);
        return 2;
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    l.multi = curl_multi_init();
    curl_multi_setopt(l.multi, CURLMOPT_MAXCONNECTS, in_flight);
    l.left = total;
    wall = seconds();
    cpu = cpu_seconds();
    for (long i = 0; i < in_flight && l.left > 0; i++, l.left--)
        curl_multi_add_handle(l.multi, request_new(argv[1], body, body_n,
                                                   headers, &bytes));
    l.running = 1;
    while (l.running) {
        curl_multi_perform(l.multi, &l.running);
        take_finished(&l);
        if (l.running)
            curl_multi_poll(l.multi, NULL, 0, 1000, NULL);
    }
    wall = seconds() - wall;
    cpu = cpu_seconds() - cpu;
    printf("{\"requests\": %ld, \"failed\": %ld, \"seconds\": %.3f, "
           "\"per_second\": %.0f, \"cpu_us\": %.2f}\n",
           total, l.failed, wall, (double)total / wall,
           cpu * 1e6 / (double)total);
    curl_multi_cleanup(l.multi);
    curl_slist_free_all(headers);
    curl_global_cleanup();
    free(body);
    return l.failed ? 1 : 0;
}
