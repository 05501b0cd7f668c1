/* embed.c - the library in a program of your own: 10,000 texts, two runs.
 *
 *     trommel fake --port 8080 --labels red,green,blue &
 *     embed http://127.0.0.1:8080/v1
 *
 * The first run takes its results in input order, the second as they are
 * completed, while another thread wakes it up: trommel_run_wakeup() is one of
 * two functions that any thread may call.
 *
 * SPDX-License-Identifier: MIT */
#include <trommel.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXTS = 10000 };

struct waker {
    trommel_run *run;
    pthread_mutex_t lock;
    int over;
};

static void *wake(void *arg)
{
    struct waker *w = arg;
    struct timespec pause = {0, 2000000};

    for (;;) {
        pthread_mutex_lock(&w->lock);
        if (w->over) {
            pthread_mutex_unlock(&w->lock);
            return NULL;
        }
        trommel_run_wakeup(w->run);
        pthread_mutex_unlock(&w->lock);
        nanosleep(&pause, NULL);
    }
}

/* Takes the results that are there; 0, or -1 after a complaint. */
static int take(trommel_run *run, int in_order, char *seen, long *taken)
{
    const trommel_result *r;

    while ((r = trommel_run_next(run)) != NULL) {
        int64_t row = trommel_result_row(r);

        if (row < 0 || row >= TEXTS || seen[row]) {
            fprintf(stderr, "row %lld came twice or never went in\n",
                    (long long)row);
            return -1;
        }
        if (in_order && row != *taken) {
            fprintf(stderr, "row %lld came in place of row %ld\n",
                    (long long)row, *taken);
            return -1;
        }
        if (trommel_result_label_count(r) != 1) {
            fprintf(stderr, "row %lld: %s\n", (long long)row,
                    trommel_result_error(r));
            return -1;
        }
        seen[row] = 1;
        (*taken)++;
    }
    return 0;
}

/* The loop of every embedding: push until FULL, step, take. */
static int feed(trommel_run *run, int in_order, long *taken)
{
    char *seen = calloc(TEXTS, 1);
    int pushed = 0, finished = 0, state = TROMMEL_MORE, rc = -1;

    while (seen && state == TROMMEL_MORE) {
        char text[80];

        while (pushed < TEXTS) {
            int n = snprintf(text, sizeof text,
                             "text number %d, about nothing", pushed);
            int push = trommel_run_push(run, NULL, text, (size_t)n);

            if (push == TROMMEL_FULL)
                break;
            if (push < 0)
                goto out;
            pushed++;
        }
        if (pushed == TEXTS && !finished) {
            if (trommel_run_finish(run) < 0)
                goto out;
            finished = 1;
        }
        state = trommel_run_step(run, 100);
        if (state < 0 || take(run, in_order, seen, taken) != 0)
            goto out;
    }
    rc = seen && *taken == TEXTS ? 0 : -1;
out:
    free(seen);
    return rc;
}

static int label_all(const char *url, int in_order)
{
    static const char *const settings[][2] = {
        {"labels", "red,green,blue"}, {"model", "openai/example"},
        {"store", "none"},            {"concurrency", "16"},
    };
    trommel_config *cfg = trommel_config_new();
    trommel_run *run = NULL;
    struct waker waker = {NULL, PTHREAD_MUTEX_INITIALIZER, 0};
    pthread_t thread;
    long taken = 0;
    int rc = cfg ? 0 : -1;

    for (size_t i = 0; rc == 0 && i < sizeof settings / sizeof settings[0]; i++)
        rc = trommel_config_set(cfg, settings[i][0], settings[i][1]);
    if (rc == 0)
        rc = trommel_config_set(cfg, "base-url", url);
    if (rc == 0)
        rc = trommel_config_set(cfg, "order", in_order ? "input" : "completed");
    if (rc != 0) {
        fprintf(stderr, "%s\n", cfg ? trommel_config_error(cfg) : "no memory");
        trommel_config_free(cfg);
        return -1;
    }
    rc = trommel_run_open(&run, cfg);
    trommel_config_free(cfg); /* the run keeps its own copy */
    if (rc == 0) {
        waker.run = run;
        if (pthread_create(&thread, NULL, wake, &waker) != 0) {
            trommel_run_close(run);
            return -1;
        }
        rc = feed(run, in_order, &taken);
        pthread_mutex_lock(&waker.lock);
        waker.over = 1;
        pthread_mutex_unlock(&waker.lock);
        pthread_join(thread, NULL);
    }
    printf("%s: %ld of %d texts labelled, %lld requests%s%s\n",
           in_order ? "in order" : "as completed", taken, TEXTS,
           (long long)trommel_run_count(run, TROMMEL_REQUESTS),
           rc ? ": " : "", rc ? trommel_run_error(run) : "");
    trommel_run_close(run);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: embed URL\n");
        return 2;
    }
    return label_all(argv[1], 1) || label_all(argv[1], 0);
}
