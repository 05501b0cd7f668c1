/* main.c - sim --seeds N --from S: many small worlds, every promise checked.
 *
 * SPDX-License-Identifier: MIT */
#include "sim.h"

#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Every mark must be met in a thousand worlds, and in a million a hundred
 * times: a fault that never strikes proves nothing. */
static bool marks_met(const int64_t *marks, uint64_t seeds)
{
    const int64_t least = seeds >= 1000000 ? 100 : seeds >= 1000;
    static const char *const others[] = {
#define X(id, name) #name,
        SIM_MARKS(X)
#undef X
    };
    char rare[600] = "";
    size_t n = 0;

    for (int i = 0; i < M_COUNT; i++) {
        const char *name = i < SIM_SITES ? sim_site_name((enum sim_site)i)
                                         : others[i - SIM_SITES];

        printf("%s%s %lld", i ? ", " : "marks: ", name, (long long)marks[i]);
        if (marks[i] < least && n + 24 < sizeof rare)
            n += (size_t)snprintf(rare + n, sizeof rare - n, " %.22s", name);
    }
    printf("\n");
    if (n)
        printf("sim: not met, or not often:%s\n", rare);
    return !n;
}

/* ---- every cap there can be (O7) ------------------------------- */

static bool capped(const struct sim_options *base, int purse, int64_t cap,
                   bool may_stop, bool *stopped)
{
    struct sim_options o = *base;
    static struct sim w;
    bool ok;

    if (cap <= 0)
        return true;
    o.budget_exact[purse] = cap;
    ok = sim_run(&w, &o, NULL, false);
    *stopped = *stopped || w.marks[M_BUDGET + purse];
    if (ok && !may_stop && w.marks[M_BUDGET + purse]) {
        printf("cap %" PRId64 " of purse %d is never reached, but stopped the "
               "run\n", cap, purse);
        ok = false;
    }
    if (!ok)
        printf("cap %" PRId64 " of purse %d: %s\n", cap, purse, w.failure);
    return ok;
}

/* A job without faults, and everything it ever held at an instant: each such
 * sum, one less and one more, is a place where a cap may cut. */
static int every_cap(uint64_t seed)
{
    static struct sim w;
    struct sim_options o = {
        .seed = seed, .rows = 200, .labels = 3, .pack = 3, .concurrency = 3,
        .priced = true, .faulty_runs = 1, .lanes = 1,
        .lane = {{.latency_ms = 50, .price_pct = 100}},
    };
    int caps = 0, failed = 0, purses = 0;

    sim_begin(&w, &o, NULL, false, NULL);
    w.held_count = 0;
    while (sim_step(&w))
        ;
    sim_end(&w);
    if (w.failure[0]) {
        printf("without a cap: %s\n", w.failure);
        return 1;
    }
    for (int p = 0; p < TR_PURSES; p++) {
        int64_t most = 0;
        bool stopped = false;

        for (int i = 0; i < w.held_count; i++)
            if (w.held_seen[i][p] > most)
                most = w.held_seen[i][p];
        for (int i = 0; i < w.held_count; i++) {
            int64_t v = w.held_seen[i][p];
            int k = 0;

            while (k < i && w.held_seen[k][p] != v)
                k++;
            for (int d = -1; k == i && d <= 1; d++, caps++)
                failed += !capped(&o, p, v + d, v + d < most,
                                  &stopped);
        }
        purses += stopped;
    }
    printf("sim: %d caps on %d sums of a job of 200 rows, %d failed\n", caps,
           w.held_count, failed);
    if (purses < TR_PURSES)
        printf("only %d of %d purses ever stopped a run\n", purses, TR_PURSES);
    return failed || caps < 200 || purses < TR_PURSES;
}

/* ---- two stores, one budget ------------------------------- */

static bool within(struct sim *w, int64_t *budget)
{
    for (int p = 0; p < TR_PURSES; p++)
        if (budget[p] >= 0 && w[0].bill[p] + w[1].bill[p] > budget[p]) {
            sim_fail(&w[0], "I5", "two stores together: %" PRId64 " + %" PRId64
                     " billed of purse %d, the budget is %" PRId64,
                     w[0].bill[p], w[1].bill[p], p, budget[p]);
            return false;
        }
    return true;
}

/* Both have been there before: a store that comes when another has finished
 * would begin the job anew, and rightly so. */
static void meet(const struct sim *w, struct tr_ledger *ledger)
{
    struct tr_ledger_ask ask = {.op = TR_LEDGER_JOIN, .round = 1};
    struct tr_key store = sim_store_key(w);
    struct tr_err err;

    tr_ledger_apply(ledger, &store, &ask, &err);
    ledger->shares[ledger->n - 1].alive = false;
}

static int twins(uint64_t from, uint64_t seeds, bool verbose)
{
    static struct sim w[2];
    uint64_t failed = 0;
    int64_t stopped = 0, crashes = 0;

    for (uint64_t seed = from; seed < from + seeds; seed++) {
        struct tr_rng rng = {sim_stream(seed, 9)};
        struct tr_ledger ledger = {0};
        struct sim_options o[2];
        int64_t budget[TR_PURSES];
        bool going[2] = {true, true};

        for (int i = 0; i < 2; i++) {
            sim_options_draw(&o[i], seed + (uint64_t)i * 1000003);
            o[i].priced = true;
            o[i].budget_per = TR_PER_JOB;
            o[i].clock_jumps_pct = 0;
            o[i].again = false; /* that would be a new job */
            o[i].batch_other_pct = 0;
            sim_begin(&w[i], &o[i], NULL, verbose, &ledger);
            w[i].hopeful = false;
            meet(&w[i], &ledger);
        }
        for (int p = 0; p < TR_PURSES; p++) {
            int64_t pct = 20 + (int64_t)tr_rng_below(&rng, 300);

            budget[p] = tr_rng_below(&rng, 3) == 0 ? -1
                : sim_expected(&w[0], p) * pct / 100;
            w[0].budget[p] = w[1].budget[p] = budget[p];
        }
        while ((going[0] || going[1]) && within(w, budget)) {
            int i = (int)tr_rng_below(&rng, 2);

            for (int n = (int)tr_rng_below(&rng, 30); going[i] && n > 0; n--)
                going[i] = sim_step(&w[i]);
        }
        for (int i = 0; i < 2; i++) {
            while (w[0].failure[0] && going[i] && sim_step(&w[i]))
                ;
            for (int p = 0; p < TR_PURSES; p++)
                stopped += w[i].marks[M_BUDGET + p];
            crashes += w[i].marks[M_CRASH];
            if (w[i].failure[0]) {
                failed++;
                printf("twins, seed %" PRIu64 ": %s\n", seed, w[i].failure);
            }
            sim_end(&w[i]);
        }
        if (failed >= 20)
            break;
    }
    printf("sim: %" PRIu64 " pairs of stores with one budget: %" PRId64
           " budget stops, %" PRId64 " crashes, %" PRIu64 " failed\n", seeds,
           stopped, crashes, failed);
    return failed || (seeds >= 100 && (stopped < 10 || crashes < 10));
}

/* ---- every call there is (S1, S2, S3, X2) ------------------------------- */

/* Jobs that have something else to lose, each. */
static const struct called {
    const char *name;
    const char *sets[12];
} called[] = {
    {"one model", {"rows=10", "pack=3", "multiple=1", "again=1"}},
    {"a chain and a budget",
     {"rows=8", "pack=2", "lanes=2", "fallback_on=63", "quota_after=2",
      "quota_for_s=40", "budget_pct=130", "budget_requests_pct=150"}},
    {"batches",
     {"rows=6", "pack=2", "batch=1", "batch_requests=2",
      "budget_tokens_pct=150"}},
    {"guarded packs", {"rows=20", "pack=4", "guard=2", "hostile=150"}},
};
enum { CALLED = sizeof called / sizeof *called };

struct every {
    struct sim_options o;
    int set, cuts; /* its place in the table; power cuts at each call */
    bool whole;    /* every call, not only its share of the numbers */
    int runs, failed;
};

/* The job with these strikes and no others. */
static void with(struct every *e, struct sim_strike *strikes, size_t n)
{
    static struct sim w;
    struct sim_script s = {.o = e->o, .strikes = strikes, .n = n};

    e->runs++;
    if (sim_run(&w, &s.o, &s, false))
        return;
    if (++e->failed <= 20) {
        printf("%s\n", w.failure);
        sim_script_write(&s, stdout);
    }
}

static bool is_ours(const struct every *e, int64_t k)
{
    return e->whole || k % CALLED == e->set;
}

/* It strikes once, the first to the n-th time; then the power goes as well, in
 * so many ways. */
static void each_time(struct every *e, enum sim_site site, bool in_value,
                      int64_t n, int cuts)
{
    for (int64_t k = 1; k <= n; k++)
        for (int cut = 0; cut <= cuts && is_ours(e, k); cut++) {
            struct sim_strike s[] = {{site, in_value ? 1 : k, in_value ? k : 1},
                                     {S_POWER, 1, cut}};

            with(e, s, cut ? 2 : 1);
        }
}

/* A sync fails, and the power goes at any call of the next life. */
static void each_sync(struct every *e, const struct sim *w)
{
    for (int64_t n = 1; n <= w->calls[D_SYNC]; n++)
        for (int64_t k = 1; k <= w->disk_calls; k++) {
            struct sim_strike s[] = {{D_SYNC, n, 1}, {S_DISK_CRASH, 2, k},
                                     {S_POWER, 1, 1}};

            with(e, s, 3);
        }
}

/* A small job, and a death, an error or a signal at every call and step of
 * it. */
static int every_call_of(struct every *e)
{
    static struct sim w;
    const struct sim_script nothing = {.n = 0};
    const struct called *job = &called[e->set];
    int deaths, errors;

    for (int i = 0; job->sets[i]; i++)
        TR_ASSERT(sim_options_set(&e->o, job->sets[i]));
    if (!sim_run(&w, &e->o, &nothing, false)) {
        printf("%s, without a strike: %s\n", job->name, w.failure);
        return 1;
    }
    each_time(e, S_DISK_CRASH, true, w.disk_calls, e->cuts);
    each_time(e, S_CRASH, true, w.points, 1);
    deaths = e->runs;
    for (int site = D_OPEN; site < T_CLOCK; site++)
        each_time(e, (enum sim_site)site, false, w.calls[site], 0);
    if (e->whole)
        each_sync(e, &w);
    errors = e->runs - deaths;
    each_time(e, S_STOP, true, 3 * w.most_steps, 0);
    printf("sim: %s: a job of %d rows, %" PRId64 " calls to the disk: %d "
           "deaths, %d errors, %d signals, %d failed\n", job->name, e->o.rows,
           w.disk_calls, deaths, errors, e->runs - deaths - errors, e->failed);
    return e->failed || w.disk_calls < 100;
}

/* With few power cuts the jobs share the numbers of the calls. Each process
 * takes every processes-th job. */
static int every_call(uint64_t seed, int cuts, int first, int processes)
{
    int rc = 0;

    for (int i = first; i < CALLED; i += processes) {
        struct every e = {.set = i, .cuts = cuts, .whole = cuts >= 100};

        sim_options_none(&e.o);
        e.o.seed = seed;
        e.o.concurrency = 2;
        e.o.priced = true;
        e.o.wal_pages = 9;
        e.o.cache_pages = 4;
        e.o.audit_pct = 100;
        e.o.faulty_runs = 3;
        rc |= every_call_of(&e);
    }
    return rc;
}

static int every_call_at_once(uint64_t seed, int cuts, int processes)
{
    int rc = 0, status;

    for (int i = 1; i < processes; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            rc = every_call(seed, cuts, i, processes);
            fflush(stdout);
            _exit(rc);
        }
        rc |= pid < 0;
    }
    rc |= every_call(seed, cuts, 0, processes);
    while (wait(&status) > 0)
        rc |= status != 0;
    return rc;
}

/* ---- scripts ------------------------------- */

static int replay(const char *path, bool verbose)
{
    static struct sim w;
    struct sim_script script;
    bool ok;

    if (!sim_script_read(&script, path))
        return 2;
    ok = sim_run(&w, &script.o, &script, verbose);
    printf("%s: %s\n", path, ok ? "ok" : w.failure);
    sim_script_release(&script);
    return !ok;
}

static int shrink(const struct sim_options *o, const char *to)
{
    struct sim_script script;
    FILE *f = to ? fopen(to, "w") : stdout;

    if (!f) {
        fprintf(stderr, "sim: %s cannot be written\n", to);
        return 2;
    }
    if (!sim_shrink(&script, o)) {
        fprintf(stderr, "sim: seed %" PRIu64 " keeps all promises\n", o->seed);
        return 1;
    }
    sim_script_write(&script, f);
    sim_script_release(&script);
    return to && fclose(f) != 0;
}

/* The next world in which a disk that lies is found, as a script. */
static bool next_lie(struct sim_script *script, uint64_t *seed)
{
    static struct sim w;
    struct sim_options o;

    do {
        sim_options_draw(&o, ++*seed);
        o.disk_lies = true;
        o.audit_pct = 0; /* it takes a power cut to see it */
        o.guard = TR_GUARD_OFF; /* and few rows */
        o.isolate = false;
        o.hostile = o.moody = o.slots = o.stale = 0;
    } while (sim_run(&w, &o, NULL, false) && *seed < 1000);
    return w.failure[0] && sim_shrink(script, &o);
}

static bool is_short(const struct sim_script *script)
{
    return script->o.rows <= 5 && script->n <= 8;
}

/* Does the alarm sound, and does the shrinker shrink? A disk that says that it
 * synced and did not must be found, and a short script must show it: of the
 * first three, since some depend on how long all that came before took. */
static int canary(const char *to)
{
    static struct sim w;
    struct sim_script script = {.o.rows = INT_MAX};
    FILE *f;
    uint64_t seed = 0;
    bool lied, honest;

    for (int tries = 0; tries < 3 && !is_short(&script); tries++) {
        sim_script_release(&script);
        if (!next_lie(&script, &seed)) {
            printf("sim: a disk that does not sync is not found\n");
            return 1;
        }
    }
    f = fopen(to, "w");
    if (f)
        sim_script_write(&script, f);
    sim_script_release(&script);
    if (!f || fclose(f) != 0 || !sim_script_read(&script, to))
        return 2;
    lied = !sim_run(&w, &script.o, &script, false);
    script.o.disk_lies = false;
    honest = sim_run(&w, &script.o, &script, false);
    printf("sim: a disk that does not sync: seed %" PRIu64 ", %d rows and %zu "
           "strikes are left of it; %s, and %s on a disk that does\n", seed,
           script.o.rows, script.n, lied ? "red" : "NOT RED",
           honest ? "green" : "NOT GREEN");
    lied = lied && honest && is_short(&script);
    sim_script_release(&script);
    return !lied;
}

/* ---- the command line ------------------------------- */

static int usage(void)
{
    fputs("usage: sim [--seeds N] [--from S] [-v] [--set NAME=VALUE]...\n"
          "       sim --script FILE...\n"
          "       sim --shrink SEED [--to FILE] [--set NAME=VALUE]...\n"
          "  --seeds N   worlds to run (1000)\n"
          "  --from S    first seed (1)\n"
          "  --jobs N    processes that share the seeds or small jobs (1)\n"
          "  --calls N   four small jobs that die at each call to the disk, in\n"
          "              N ways, fail at each, and are told to stop; below\n"
          "              100 they share the calls\n"
          "  --caps      a job of 200 rows under every cap there can be\n"
          "  --twins     two stores at a time, one budget, N pairs\n"
          "  --files     a ledger and an output that die and fail at each call,\n"
          "              with N power cuts each\n"
          "  --play FILE outcomes of scripts (tests/hostile/faults.txt)\n"
          "  --brownout  a provider that fails for ten minutes, in N ways\n"
          "  --limits    limits that nobody states, of N providers\n"
          "  --hostile   figures about rows that steer others, of N jobs (8)\n"
          "  --first     stop at the first failure\n"
          "  --script    worlds in which happens what the file says\n"
          "  --shrink    a seed that fails becomes a short script\n"
          "  --canary FILE  a disk that lies must be found; its script\n"
          "  -v          trace of every event\n"
          "  --set       overrides an option of every seed; faults=0 ends\n"
          "              all faults; see the options a failing seed prints\n",
          stderr);
    return 2;
}

enum mode {
    SEEDS, CALLS, CAPS, TWINS, FILES, HOSTILE, BROWNOUT, LIMITS, SHRINK
};

struct command {
    enum mode mode;
    uint64_t seeds, from;
    int jobs, cuts;
    const char *sets[64];
    int set_count;
    bool verbose, first_only;
    const char *to;
};

/* ---- many seeds ------------------------------- */

/* What came of some seeds. */
struct sums {
    uint64_t seeds, rows, events, failed, history;
    uint64_t slowest; /* the seed that took most of its process's time, */
    double slowest_s; /* so long: a few such may cost more than all others */
    int64_t marks[M_COUNT];
};

static double seconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void note_time(struct sums *s, uint64_t seed, double took)
{
    if (took <= s->slowest_s)
        return;
    s->slowest = seed;
    s->slowest_s = took;
}

static bool draw(const struct command *c, uint64_t seed, struct sim_options *o)
{
    sim_options_draw(o, seed);
    for (int i = 0; i < c->set_count; i++)
        if (!sim_options_set(o, c->sets[i]))
            return false;
    return true;
}

static bool one_seed(const struct command *c, uint64_t seed, struct sums *s)
{
    static struct sim w;
    struct sim_options o;
    double began = seconds(CLOCK_PROCESS_CPUTIME_ID);
    bool ok;

    if (!draw(c, seed, &o))
        exit(usage());
    if (c->verbose)
        sim_options_print(&o);
    ok = sim_run(&w, &o, NULL, c->verbose);
    s->seeds++;
    s->events += w.events;
    s->rows += (uint64_t)o.rows;
    s->history += sim_stream(seed, w.hash);
    for (int i = 0; i < M_COUNT; i++)
        s->marks[i] += w.marks[i];
    /* Equal seeds are equal worlds: else no failure could be repeated. */
    if (ok && seed % 100 == 0) {
        uint64_t hash = w.hash;

        ok = sim_run(&w, &o, NULL, false);
        if (w.hash != hash)
            sim_fail(&w, "determinism", "another history on a repeat");
        ok = ok && w.hash == hash;
    }
    note_time(s, seed, seconds(CLOCK_PROCESS_CPUTIME_ID) - began);
    if (!ok) {
        s->failed++;
        sim_options_print(&o);
        printf("seed %" PRIu64 ": %s\n", seed, w.failure);
        fflush(stdout);
    }
    return ok || (s->failed < 20 && !c->first_only);
}

/* Every jobs-th seed, beginning with the job's. */
static void some_seeds(const struct command *c, int job, struct sums *s)
{
    for (uint64_t i = (uint64_t)job; i < c->seeds; i += (uint64_t)c->jobs)
        if (!one_seed(c, c->from + i, s))
            break;
}

static void add(struct sums *to, const struct sums *s)
{
    to->seeds += s->seeds;
    to->rows += s->rows;
    to->events += s->events;
    to->failed += s->failed;
    to->history += s->history;
    note_time(to, s->slowest, s->slowest_s);
    for (int i = 0; i < M_COUNT; i++)
        to->marks[i] += s->marks[i];
}

/* Worlds have nothing in common but static variables: processes, not threads.
 * A job that crashes has failed. */
static void all_seeds(const struct command *c, struct sums *s)
{
    int *pipes = tr_array((size_t)c->jobs, 2 * sizeof *pipes);

    for (int job = 0; job < c->jobs; job++) {
        pid_t pid = pipe(&pipes[2 * job]) == 0 ? fork() : -1;

        if (pid == 0) {
            static struct sums own;

            some_seeds(c, job, &own);
            fflush(stdout);
            _exit(write(pipes[2 * job + 1], &own, sizeof own) !=
                  (ssize_t)sizeof own);
        }
        close(pipes[2 * job + 1]);
        if (pid < 0)
            s->failed++;
    }
    for (int job = 0; job < c->jobs; job++) {
        static struct sums own;
        size_t n = 0;
        ssize_t got = 1;

        while (n < sizeof own && got > 0) {
            got = read(pipes[2 * job], (char *)&own + n, sizeof own - n);
            n += got > 0 ? (size_t)got : 0;
        }
        close(pipes[2 * job]);
        if (n == sizeof own) {
            add(s, &own);
        } else {
            printf("sim: job %d died\n", job);
            s->failed++;
        }
    }
    while (wait(NULL) > 0)
        ;
    tr_free(pipes);
}

static int many(const struct command *c)
{
    static struct sums s;
    double began = seconds(CLOCK_MONOTONIC), took;

    if (c->jobs > 1)
        all_seeds(c, &s);
    else
        some_seeds(c, 0, &s);
    took = seconds(CLOCK_MONOTONIC) - began;
    printf("sim: %" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " rows, %" PRIu64
           " events, %" PRIu64 " failed, history %016" PRIx64 "\n", s.seeds,
           c->from, s.rows, s.events, s.failed, s.history);
    fprintf(stderr, "sim: %.0f s, %.0f worlds a second; the slowest, seed %"
            PRIu64 ", took %.1f s\n", took, (double)s.seeds / took, s.slowest,
            s.slowest_s);
    return !s.failed && (c->set_count || marks_met(s.marks, c->seeds)) ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct command c = {.seeds = 1000, .from = 1, .jobs = 1};
    struct sim_options o;
    int rc = 0;

    /* Worlds take and release the same megabytes: they need not go back to the
     * kernel each time, which took a third of all time. */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    sim_vfs_init();
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(a, "-v") == 0)
            c.verbose = true;
        else if (strcmp(a, "--first") == 0)
            c.first_only = true;
        else if (strcmp(a, "--twins") == 0)
            c.mode = TWINS;
        else if (strcmp(a, "--files") == 0)
            c.mode = FILES;
        else if (strcmp(a, "--caps") == 0)
            c.mode = CAPS;
        else if (strcmp(a, "--hostile") == 0)
            c.mode = HOSTILE;
        else if (strcmp(a, "--brownout") == 0)
            c.mode = BROWNOUT;
        else if (strcmp(a, "--limits") == 0)
            c.mode = LIMITS;
        else if (strcmp(a, "--script") == 0 && value) {
            while (++i < argc)
                rc |= replay(argv[i], c.verbose);
            return rc;
        } else if (!value || i++ == argc)
            return usage();
        else if (strcmp(a, "--canary") == 0)
            return canary(value);
        else if (strcmp(a, "--play") == 0)
            return sim_playbook_table(value);
        else if (strcmp(a, "--calls") == 0)
            c.mode = CALLS, c.cuts = atoi(value);
        else if (strcmp(a, "--seeds") == 0)
            c.seeds = strtoull(value, NULL, 10);
        else if (strcmp(a, "--from") == 0)
            c.from = strtoull(value, NULL, 10);
        else if (strcmp(a, "--jobs") == 0 && atoi(value) > 0)
            c.jobs = atoi(value);
        else if (strcmp(a, "--to") == 0)
            c.to = value;
        else if (strcmp(a, "--shrink") == 0) {
            c.mode = SHRINK;
            c.from = strtoull(value, NULL, 10);
        } else if (strcmp(a, "--set") == 0 && c.set_count < 64)
            c.sets[c.set_count++] = value;
        else
            return usage();
    }
    switch (c.mode) {
    case CALLS:
        return every_call_at_once(c.from, c.cuts, c.jobs);
    case CAPS:
        return every_cap(c.from);
    case TWINS:
        return twins(c.from, c.seeds, c.verbose);
    case FILES:
        return sim_files(c.from, c.seeds);
    case HOSTILE:
        return sim_hostile_figures(c.from, c.seeds);
    case BROWNOUT:
        return sim_brownouts(c.from, c.seeds, c.first_only, c.verbose);
    case LIMITS:
        return sim_limits(c.from, c.seeds, c.first_only, c.verbose);
    case SHRINK:
        return draw(&c, c.from, &o) ? shrink(&o, c.to) : usage();
    case SEEDS:
        break;
    }
    return many(&c);
}
