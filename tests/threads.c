/* threads.c - runs of one process, each on a thread of its own, and one thread
 * more that wakes all of them and asks what they do. tests/cli runs it; the
 * preset tsan says whether they meet.
 *
 *   threads URL
 *
 * SPDX-License-Identifier: MIT */
#include <trommel.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TEXTS = 400, SETTINGS = 6 };

static struct job {
    const char *settings[SETTINGS][2];
    trommel_run *run; /* under lock, as are the next two */
    int over, asked;
    long taken;
    int rc;
} jobs[] = {
    /* Two with one key, which share its limits, and two stores. */
    {.settings = {{"model", "openai/m"}, {"key-env", "OPENAI_API_KEY"},
                  {"store", "one"}, {"share-limits", "yes"}}},
    {.settings = {{"model", "openai/m"}, {"key-env", "OPENAI_API_KEY"},
                  {"store", "two"}, {"share-limits", "yes"}}},
    /* Two with worker threads of their own. */
    {.settings = {{"model", "local"}, {"store", "three"}}},
    {.settings = {{"model", "local"}, {"store", "none"}}},
};
enum { JOBS = sizeof jobs / sizeof *jobs };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *url;

static int push_all(trommel_run *run, int *pushed)
{
    char text[80];

    for (; *pushed < TEXTS; ++*pushed) {
        int n = snprintf(text, sizeof text, "text %d about nothing", *pushed);
        int rc = trommel_run_push(run, NULL, text, (size_t)n);

        if (rc == TROMMEL_FULL)
            return 0;
        if (rc < 0)
            return rc;
    }
    return trommel_run_finish(run);
}

static int feed(struct job *job, trommel_run *run)
{
    const trommel_result *r;
    int pushed = 0, state = TROMMEL_MORE, level;

    while (state == TROMMEL_MORE) {
        if (pushed < TEXTS && push_all(run, &pushed) < 0)
            return -1;
        state = trommel_run_step(run, 100);
        while ((r = trommel_run_next(run)))
            job->taken += trommel_result_label_count(r) == 1;
        while (trommel_run_message(run, &level))
            ;
        if (!*trommel_run_stats_json(run) || !*trommel_run_metrics(run))
            return -1;
    }
    return state;
}

static int open_run(struct job *job, trommel_run **run)
{
    trommel_config *cfg = trommel_config_new();
    int rc = cfg ? trommel_config_set(cfg, "labels", "red,green,blue") : -1;

    for (int i = 0; rc == 0 && i < SETTINGS && job->settings[i][0]; i++)
        rc = trommel_config_set(cfg, job->settings[i][0], job->settings[i][1]);
    if (rc == 0 && strcmp(job->settings[0][1], "local") != 0)
        rc = trommel_config_set(cfg, "base-url", url);
    if (rc == 0)
        rc = trommel_config_load(cfg);
    if (rc == 0)
        rc = trommel_run_open(run, cfg);
    else
        fprintf(stderr, "%s\n", cfg ? trommel_config_error(cfg) : "no memory");
    trommel_config_free(cfg);
    return rc;
}

static void *work(void *arg)
{
    struct job *job = arg;
    trommel_run *run = NULL;

    job->rc = open_run(job, &run);
    pthread_mutex_lock(&lock);
    job->run = job->rc ? NULL : run;
    pthread_mutex_unlock(&lock);
    if (!job->rc)
        job->rc = feed(job, run);
    pthread_mutex_lock(&lock);
    job->run = NULL;
    job->over = 1;
    pthread_mutex_unlock(&lock);
    if (job->rc)
        fprintf(stderr, "%s\n", trommel_run_error(run));
    trommel_run_close(run);
    return NULL;
}

static int all_over(void)
{
    int over = 0;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < JOBS; i++) {
        over += jobs[i].over;
        if (!jobs[i].run)
            continue;
        trommel_run_wakeup(jobs[i].run);
        jobs[i].asked += trommel_run_doing(jobs[i].run) != NULL;
    }
    pthread_mutex_unlock(&lock);
    return over == JOBS;
}

int main(int argc, char **argv)
{
    struct timespec pause = {0, 500000};
    pthread_t threads[JOBS];

    if (argc != 2) {
        fprintf(stderr, "usage: threads URL\n");
        return 2;
    }
    url = argv[1];
    for (int i = 0; i < JOBS; i++)
        if (pthread_create(&threads[i], NULL, work, &jobs[i]) != 0)
            return 1;
    while (!all_over())
        nanosleep(&pause, NULL);
    for (int i = 0; i < JOBS; i++) {
        pthread_join(threads[i], NULL);
        printf("%s: %ld of %d texts labelled%s\n", jobs[i].settings[0][1],
               jobs[i].taken, TEXTS,
               jobs[i].asked ? "" : ", and nobody knew what it did");
    }
    return 0;
}
