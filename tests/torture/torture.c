/* torture.c - the library with every allocation and every call to the system
 * failing in turn.
 *
 *     torture TROMMEL [--scene NAME] [--series NAME] [--step N] [--at N]
 *             [--from N]
 *
 * A scene is a use of the library. It is played again and again, and the n-th
 * call of a series fails, once or from there on, for every n until the scene
 * no longer reaches that many. After each time, with nothing failing any more,
 * the same scene must end well in the same folder.
 *
 * What is checked each time: a result is right or an error with a sentence;
 * a named output is whole or not there; no memory and no descriptor is left
 * (memory only where the leak sanitizer is); the books of the store cover the
 * provider's bill, and what was paid twice was in flight.
 *
 * Time runs faster than usual, so that a play waits little.
 *
 * --step plays every N-th allocation of the long scenes (whole runs), and
 * every N/16-th call to the system; --at says where that begins. The others are
 * always complete. --from begins at that call: to see one again.
 * A process plays a stretch of calls, so that a crash names the one at fault.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "fault.h"

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "rows/source.h"
#include "rows/spill.h"
#include "store/store.h"
#include "task/task.h"

#include <trommel.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#else
static int __lsan_do_recoverable_leak_check(void)
{
    return 0;
}
#endif

enum {
    ROWS = 24, PACK = 4, FLIGHT = 3,
    RESULT_BYTES = 1 << 16,
    STRETCH = 40,      /* plays of one process */
    PLAY_S = 240,      /* a play that takes longer hangs */
    COMPLAINTS = 25    /* then it ends */
};

static char here[64];      /* of everything */
#define KEY "canary.Zq8/Xw+K3v~T7=mR2pLd5" /* that of tests/canary.py */
static char config[100];
static int port;           /* of the fake */
static int hook_port;      /* of who takes alerts */
static int tls_port;       /* of the fake behind TLS, 0: there is no TLS */
static const char *trommel;
static const char *patience = "20m"; /* --max-wait */

/* What one play of a scene says. Nothing of it is allocated. */
struct play {
    char folder[200];
    int code;              /* TR_OK or why not */
    char error[1200];
    char result[RESULT_BYTES];
    size_t n;
};

static void say(struct play *p, const char *text, size_t n)
{
    if (n > sizeof p->result - p->n)
        n = sizeof p->result - p->n;
    memcpy(p->result + p->n, text, n);
    p->n += n;
}

static void say_number(struct play *p, int64_t number)
{
    char text[32];

    say(p, text, (size_t)snprintf(text, sizeof text, "%" PRId64 "\n", number));
}

static int fail(struct play *p, int code, const char *why)
{
    p->code = code;
    snprintf(p->error, sizeof p->error, "%s", why);
    return code;
}

static const char *in_folder(struct play *p, const char *name, char *out)
{
    snprintf(out, 300, "%s/%s", p->folder, name);
    return out;
}

/* ---- scenes of the parts ---------------------------------------------- */

static void task(struct play *p)
{
    static const char *const options[] = {"model", "text", "pack"};
    struct tr_task t;
    struct tr_err err = {0};
    char path[300];
    uint64_t set;
    uint32_t pair[2] = {0, 2};
    int rc;

    snprintf(path, sizeof path, "%s/task.yaml", here);
    rc = tr_task_from_file(&t, path, options, 3, &err);
    if (rc == TR_OK)
        rc = tr_task_set(&t, pair, 2, &set, &err);
    if (rc == TR_OK) {
        struct tr_buf text;

        tr_buf_init(&text, 0);
        tr_task_set_text(&t, set, &text);
        if (tr_buf_ok(&text))
            rc = tr_task_set_restore(&t, tr_buf_str(&text), &err);
        else
            rc = tr_fail(&err, TR_NOMEM, "no memory for the name of a set");
        tr_buf_release(&text);
    }
    if (rc == TR_OK) {
        say_number(p, t.label_count);
        say_number(p, t.example_count);
        say_number(p, (int64_t)set);
        say(p, (const char *)t.digest.b, sizeof t.digest.b);
    } else {
        fail(p, rc, err.text);
    }
    tr_task_release(&t);
}

static void settings(struct play *p)
{
    static const char *const names[] = {"model", "pack", "max-wait", "budget",
                                        "store", "fallback"};
    trommel_config *cfg = trommel_config_new();
    int rc;

    if (!cfg) {
        fail(p, TROMMEL_ENOMEM, "out of memory");
        return;
    }
    rc = trommel_config_set(cfg, "model", "openai/fake");
    if (rc == 0)
        rc = trommel_config_set(cfg, "input", "a.csv");
    if (rc == 0)
        rc = trommel_config_set(cfg, "input", "b.csv");
    if (rc == 0)
        rc = trommel_config_load(cfg);
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++) {
        const char *value = trommel_config_get(cfg, names[i]);

        say(p, value ? value : "-", value ? strlen(value) : 1);
    }
    if (rc != 0)
        fail(p, rc, trommel_config_error(cfg));
    trommel_config_free(cfg);
}

static void read_file(struct play *p, const char *name)
{
    char path[300];
    const char *paths[1] = {path};
    struct tr_source_opts o = {.paths = paths, .path_count = 1,
                               .text = "text", .label = "id", .as = "label"};
    struct tr_source *src = NULL;
    struct tr_block *block = NULL;
    struct tr_buf line;
    struct tr_err err = {0};
    int rc;

    snprintf(path, sizeof path, "%s/%s", here, name);
    tr_buf_init(&line, 0);
    TRY(tr_source_open(&src, &o, &err));
    block = tr_block_new(8, 2000);
    if (!block)
        TRY(tr_fail(&err, TR_NOMEM, "no memory for a block"));
    tr_source_head(src, &line);
    for (;;) {
        struct tr_companions c = {.by = tr_str_c("me"), .label_count = 0};

        rc = tr_source_next(src, block, &err);
        if (rc == TR_SOURCE_ROW)
            continue;
        if (rc < 0)
            goto out;
        for (uint32_t i = 0; i < block->row_count; i++)
            tr_source_render(src, block, &block->rows[i], &c, &line);
        block->row_count = 0;
        block->bytes_n = 0;
        if (rc == TR_SOURCE_END)
            break;
    }
    rc = TR_OK;
    if (!tr_buf_ok(&line))
        TRY(tr_fail(&err, TR_NOMEM, "no memory for a record"));
    say(p, line.p, line.n);
out:
    tr_buf_release(&line);
    tr_block_free(block);
    tr_source_close(src);
    if (rc != TR_OK)
        fail(p, rc, err.text);
}

static void csv(struct play *p)
{
    read_file(p, "in.csv");
}

static void jsonl(struct play *p)
{
    read_file(p, "in.jsonl");
}

static void gzip(struct play *p)
{
    read_file(p, "in.csv.gz");
}

static void zstd(struct play *p)
{
    read_file(p, "in.csv.zst");
}

/* Two blocks out, and in again in another order. */
static void spill(struct play *p)
{
    struct tr_block *blocks[2] = {tr_block_new(2, 64), tr_block_new(3, 900)};
    struct tr_spill s;
    struct tr_err err = {0};
    int rc = TR_OK;

    tr_spill_init(&s, p->folder);
    for (size_t i = 0; i < 2; i++) {
        struct tr_block *b = blocks[i];

        if (!b)
            TRY(tr_fail(&err, TR_NOMEM, "no memory for a block"));
        b->row_count = b->row_cap;
        b->bytes_n = b->bytes_cap;
        memset(b->rows, 'r' + (int)i, b->row_count * sizeof *b->rows);
        memset(b->bytes, 'b' + (int)i, b->bytes_n);
        TRY(tr_spill_put(&s, b, &err));
    }
    for (size_t i = 2; i-- > 0;) {
        struct tr_block *b = blocks[i];

        memset(b->rows, 0, b->row_count * sizeof *b->rows);
        memset(b->bytes, 0, b->bytes_n);
        TRY(tr_spill_get(&s, b, &err));
        say(p, (const char *)b->rows, b->row_count * sizeof *b->rows);
        say(p, b->bytes, b->bytes_n);
    }
out:
    tr_spill_release(&s);
    for (size_t i = 0; i < 2; i++)
        tr_block_free(blocks[i]);
    if (rc != TR_OK)
        fail(p, rc, err.text);
}

static int no_item(void *ctx, const struct tr_store_item *item,
                   struct tr_err *err)
{
    (void)err;
    *(int64_t *)ctx += (int64_t)item->items;
    return TR_OK;
}

static int count_sets(void *ctx, struct tr_str names, struct tr_err *err)
{
    (void)names;
    (void)err;
    ++*(int *)ctx;
    return TR_OK;
}

static int use_store(struct tr_store *st, struct play *p, struct tr_err *err)
{
    struct tr_origin o = {.by = "openai/x", .served = "x-1",
                          .prompt_version = 1, .run_at = 77};
    struct tr_key keys[12];
    struct tr_store_put puts[12];
    struct tr_store_find any = {0};
    struct tr_verdict v[12];
    struct tr_batch batch = {.lane = "lane", .mark = "m", .name = "b-1",
                             .created_at = 1}, *list = NULL;
    struct tr_buf value;
    struct tr_job job;
    uint64_t attempts[3];
    int64_t items = 0;
    size_t n = 0;
    bool found[12], has;
    uint16_t origin;
    int rc, sets = 0;

    tr_buf_init(&value, 0);
    TRY(tr_store_job(st, "job", 100, 0, &job, err));
    TRY(tr_store_origin(st, &o, 0, &origin, err));
    TRY(tr_store_sets(st, count_sets, &sets, err));
    if (!sets)
        TRY(tr_store_set_add(st, tr_str_c("a|b"), err));
    for (size_t i = 0; i < 12; i++) {
        keys[i] = tr_digest(NULL, tr_str((const char *)&i, sizeof i));
        puts[i] = (struct tr_store_put){keys[i], {
            .set = (uint32_t)i % 3, .origin = origin, .pack_size = 4,
            .confidence = TR_NO_CONFIDENCE}};
    }
    for (size_t i = 0; i < 3; i++) {
        struct tr_store_intent in = {
            .attempt = attempts[i] = tr_store_next_attempt(st), .seed = i,
            .bound_nano = 1000, .items = 2, .bound_tokens = i ? 0 : 50,
            .keys = i == 2 ? keys : NULL};

        TRY(tr_store_commit(st, puts + 2 * i, 2, &in, 1, NULL, 0, err));
    }
    TRY(tr_store_batch_creating(st, &batch, attempts + 2, 1, err));
    TRY(tr_store_batch_opened(st, &batch, err));
    TRY(tr_store_batches(st, &list, &n, err));
    tr_free(list);
    TRY(tr_store_batch_items(st, batch.id, no_item, &items, err));
    TRY(tr_store_set(st, "fit", tr_str_c("a small value"), err));
    for (size_t i = 0; i < 2; i++) {
        struct tr_store_outcome out = {.attempt = attempts[i],
                                       .spent_nano = 10};

        TRY(tr_store_save(st, puts + 6 + 3 * i, 3, &out, 1, err));
    }
    {
        struct tr_store_outcome out = {.attempt = attempts[2],
                                       .in_batch = true, .spent_nano = 10};

        TRY(tr_store_commit(st, NULL, 0, NULL, 0, &out, 1, err));
    }
    TRY(tr_store_find(st, &any, keys, 12, v, found, err));
    TRY(tr_store_get(st, "fit", &value, &has, err));
    for (size_t i = 0; i < 12; i++)
        say_number(p, found[i] ? (int64_t)v[i].set : -1);
    say(p, value.p, value.n);
    say_number(p, items);
    TRY(tr_store_job_finish(st, err));
out:
    tr_buf_release(&value);
    return rc;
}

static struct tr_store *opened;

static int open_store(struct play *p, struct tr_err *err)
{
    char folder[300];
    struct tr_store_opts o = {.folder = in_folder(p, "store", folder),
                              .task_name = "a,b"};

    return tr_store_open(&opened, &o, err);
}

static void close_store(struct play *p, int rc, const struct tr_err *err)
{
    tr_store_close(opened);
    opened = NULL;
    if (rc != TR_OK)
        fail(p, rc, err->text);
}

/* Opening prepares all statements: thousands of allocations. */
static void before_store(struct play *p)
{
    struct tr_err err;

    if (open_store(p, &err) != TR_OK)
        fail(p, TR_BUG, err.text);
}

static void store(struct play *p)
{
    struct tr_err err = {0};

    close_store(p, p->code ? p->code : use_store(opened, p, &err), &err);
}

static void opening(struct play *p)
{
    struct tr_err err = {0};
    int rc = open_store(p, &err);

    if (rc == TR_OK) {
        say_number(p, tr_store_count(opened));
        rc = tr_store_commit(opened, NULL, 0, NULL, 0, NULL, 0, &err);
    }
    close_store(p, rc, &err);
}

/* Something is in it, the last answers only saved. */
static void before_listing(struct play *p)
{
    before_store(p);
    if (p->code == TR_OK)
        store(p);
    p->n = 0;
}

static void listing(struct play *p)
{
    char folder[300];
    struct tr_store_info *list = NULL;
    struct tr_err err = {0};
    size_t n;
    int rc = tr_store_list(in_folder(p, "store", folder), &list, &n, &err);

    /* What cannot be read is said of the store, not of the folder. */
    if (rc == TR_OK && n == 1 && list[0].trouble[0])
        rc = tr_fail(&err, strstr(list[0].trouble, "out of memory")
                               ? TR_NOMEM : TR_IO, "%s", list[0].trouble);
    else if (rc == TR_OK)
        say_number(p, n == 1 ? list[0].verdicts : -1);
    tr_free(list);
    if (rc != TR_OK)
        fail(p, rc, err.text);
}

/* ---- scenes of whole runs --------------------------------------------- */

static int set_all(trommel_config *cfg, const char *const (*options)[2])
{
    int rc = 0;

    for (; rc == 0 && (*options)[0]; options++)
        rc = trommel_config_set(cfg, (*options)[0], (*options)[1]);
    return rc;
}

/* As the program does: options, environment, config file. */
static int open_run(struct play *p, trommel_run **run,
                    const char *const (*options)[2])
{
    char input[300], output[300], folder[300], url[60];
    const char *const common[][2] = {
        {"model", "openai/fake"}, {"base-url", url}, {"store", folder},
        {"input", input}, {"output", output},
        {"pack", "4"}, {"concurrency", "3"}, {"max-wait", patience},
        {"text", "text"}, {NULL, NULL},
    };
    trommel_config *cfg = trommel_config_new();
    int rc;

    *run = NULL;
    if (!cfg)
        return fail(p, TROMMEL_ENOMEM, "out of memory");
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    snprintf(input, sizeof input, "%s/in.csv", here);
    in_folder(p, "out.csv", output);
    in_folder(p, "store", folder);
    rc = set_all(cfg, common);
    if (rc == 0)
        rc = set_all(cfg, options);
    if (rc == 0)
        rc = trommel_config_load(cfg);
    if (rc != 0) {
        fail(p, rc, trommel_config_error(cfg));
    } else {
        rc = trommel_run_open(run, cfg);
        if (rc != 0)
            fail(p, rc, trommel_run_error(*run));
    }
    trommel_config_free(cfg);
    return rc;
}

/* Everything that tells of a run is asked, too. */
static void look(trommel_run *run)
{
    const char *text;
    int64_t rows, example;
    int level;

    while (trommel_run_message(run, &level))
        ;
    trommel_run_stats_json(run);
    trommel_run_metrics(run);
    trommel_run_label(run, 0, &rows);
    trommel_run_failure(run, 0, &rows, &example, &text);
    for (int i = 0; i <= TROMMEL_IN_BATCHES; i++)
        trommel_run_count(run, (enum trommel_count)i);
}

static int code_of_exit(int exit_code)
{
    int code = TR_NOMEM; /* TR_BUG has its exit code, too, and no sentence */

    while (code > TR_BUG && tr_exit_code(code) != exit_code)
        code--;
    return code;
}

static void end_run(struct play *p, trommel_run *run, int rc)
{
    int64_t rows, example;
    const char *text;

    if (rc == TROMMEL_DONE && trommel_run_exit(run) > 1)
        fail(p, code_of_exit(trommel_run_exit(run)), trommel_run_error(run));
    else if (rc == TROMMEL_DONE && trommel_run_exit(run) == 1)
        fail(p, TROMMEL_EDATA, trommel_run_failure(run, 0, &rows, &example,
                                                   &text));
    else if (rc != TROMMEL_DONE)
        fail(p, rc, trommel_run_error(run));
    look(run);
    trommel_run_close(run);
}

static void classify(struct play *p, const char *const (*options)[2])
{
    trommel_run *run;
    int rc = open_run(p, &run, options);

    if (rc != 0) {
        trommel_run_close(run);
        return;
    }
    while ((rc = trommel_run_step(run, 100)) == TROMMEL_MORE)
        ;
    end_run(p, run, rc);
}

static void plain(struct play *p)
{
    static const char *const options[][2] = {
        {"labels", "refund,bug,question,praise"}, {"budget", "1"},
        {"key-env", "OPENAI_API_KEY"}, {NULL, NULL},
    };

    classify(p, options);
}

static void tasked(struct play *p)
{
    char task_file[300], key_file[300], trace[300], metrics[300];
    const char *const options[][2] = {
        {"task", task_file}, {"trace", trace}, {"metrics-file", metrics},
        {"verbose", "yes"}, {"key-file", key_file},
        {"rpm", "60000"}, {"answer", "schema"},
        {"guard", "off"}, /* canaries are texts that are paid again */
        {NULL, NULL},
    };

    snprintf(task_file, sizeof task_file, "%s/task.yaml", here);
    snprintf(key_file, sizeof key_file, "%s/key", here);
    in_folder(p, "trace.jsonl", trace);
    in_folder(p, "metrics.prom", metrics);
    classify(p, options);
}

/* The first model is not there: all rows go on to the second. */
static void chain(struct play *p)
{
    char nowhere[60];
    const char *const options[][2] = {
        {"labels", "refund,bug,question,praise"}, {"base-url", nowhere},
        {"key-env", "OPENAI_API_KEY"}, {"fallback", "openai/spare"},
        {NULL, NULL},
    };

    snprintf(nowhere, sizeof nowhere, "http://127.0.0.1:%d/nowhere", port);
    classify(p, options);
}

/* Over TLS, to a name that is looked up, on a thread: fault.c knows it. */
static void tls(struct play *p)
{
    char url[60];
    const char *const options[][2] = {
        {"labels", "refund,bug,question,praise"}, {"base-url", url},
        {"key-env", "OPENAI_API_KEY"}, {NULL, NULL},
    };

    snprintf(url, sizeof url, "https://torture.test:%d/v1", tls_port);
    classify(p, options);
}

/* Each alert goes to a server and to a program. */
static void alerts(struct play *p)
{
    char hook[60];
    const char *const options[][2] = {
        {"labels", "refund,bug,question,praise"}, {"budget", "1"},
        {"key-env", "OPENAI_API_KEY"}, {"alert-webhook", hook},
        {"alert-secret-env", "HOOK_SECRET"}, {"alert-command", "/bin/true"},
        {NULL, NULL},
    };

    snprintf(hook, sizeof hook, "http://127.0.0.1:%d/hook", hook_port);
    classify(p, options);
}

/* An earlier run was stopped by a disk that failed, and what it had paid for
 * lies beside the store. */
static const char *const kept_options[][2] = {
    {"labels", "refund,bug,question,praise"}, {"key-env", "OPENAI_API_KEY"},
    {NULL, NULL},
};

static bool is_rescued(struct play *p)
{
    char folder[300];
    DIR *dir = opendir(in_folder(p, "store", folder));
    struct dirent *e;
    bool found = false;

    while (dir && (e = readdir(dir)))
        found |= strstr(e->d_name, ".rescue") != NULL;
    if (dir)
        closedir(dir);
    return found;
}

static void remove_all(const char *folder);
static int64_t bill(const char *member, bool reset);

static struct play early; /* what runs before a play */

/* Whether nothing ran in the play's folder so far. */
static bool begin_early(struct play *p)
{
    char folder[300];

    memcpy(early.folder, p->folder, sizeof early.folder);
    early.code = TR_OK;
    return access(in_folder(p, "store", folder), F_OK) != 0;
}

static void before_rescued(struct play *p)
{
    char plan[40], folder[300];

    if (!begin_early(p))
        return;
    for (int n = 1; n < 40; n++) { /* which sync it takes */
        snprintf(plan, sizeof plan, "s:EIO:%d", n);
        fault_arm(plan);
        classify(&early, kept_options);
        fault_arm(NULL);
        if (is_rescued(p))
            return;
        remove_all(in_folder(p, "store", folder));
        remove(in_folder(p, "out.csv", folder));
        bill("nanousd", true);
    }
    fail(p, TR_BUG, "nothing lies beside the store");
}

static void rescued(struct play *p)
{
    classify(p, kept_options);
}

static const char *const batch_options[][2] = {
    {"labels", "refund,bug,question,praise"}, {"batch", "yes"},
    {"batch-poll", "1ms"}, {"key-env", "OPENAI_API_KEY"}, {NULL, NULL},
};

/* An earlier run has made a batch and was left. */
static void before_adopted(struct play *p)
{
    bool fresh = begin_early(p), made = false;
    trommel_run *run;
    int rc = open_run(&early, &run, batch_options);

    if (rc == 0)
        do {
            rc = trommel_run_step(run, 100);
            made = trommel_run_count(run, TROMMEL_IN_BATCHES) > 0;
        } while (rc == TROMMEL_MORE && !made);
    trommel_run_close(run);
    if (fresh && !made)
        fail(p, TR_BUG, "no batch was made");
}

static void batch(struct play *p)
{
    classify(p, batch_options);
}

/* Some rows are asked, and the estimate rests on them. */
static void sample(struct play *p)
{
    static const enum trommel_estimate sure[] = {
        TROMMEL_EST_ROWS, TROMMEL_EST_ROWS_KNOWN, TROMMEL_EST_DISTINCT,
    };
    const char *set[][2] = {
        {"labels", "refund,bug,question,praise"}, {"sample", "9"},
        {"key-env", "OPENAI_API_KEY"}, {NULL, NULL}, {NULL, NULL},
    };

    for (int dry_run = 0; dry_run < 2 && p->code == TR_OK; dry_run++) {
        trommel_run *run;
        int rc;

        if (dry_run) {
            set[3][0] = "dry-run";
            set[3][1] = "yes";
        }
        rc = open_run(p, &run, (const char *const(*)[2])set);
        if (rc != 0) {
            trommel_run_close(run);
            return;
        }
        while ((rc = trommel_run_step(run, 100)) == TROMMEL_MORE)
            ;
        for (size_t i = 0; dry_run && rc == TROMMEL_DONE &&
                           i < sizeof sure / sizeof *sure; i++)
            say_number(p, trommel_run_estimate(run, sure[i]));
        end_run(p, run, rc);
    }
}

static void dry(struct play *p)
{
    static const char *const options[][2] = {
        {"labels", "refund,bug,question,praise"}, {"dry-run", "yes"},
        {NULL, NULL},
    };
    trommel_run *run;
    int rc = open_run(p, &run, options);
    const char *preview;

    if (rc != 0) {
        trommel_run_close(run);
        return;
    }
    while ((rc = trommel_run_step(run, 100)) == TROMMEL_MORE)
        ;
    if (rc == TROMMEL_DONE && trommel_run_exit(run) == 0) {
        preview = trommel_run_preview(run);
        if (*preview)
            say_number(p, (int64_t)strlen(preview));
        else
            fail(p, TROMMEL_ENOMEM, "out of memory: no preview");
        say_number(p, trommel_run_estimate(run, TROMMEL_EST_REQUESTS));
    }
    end_run(p, run, rc);
}

static void text_of(int row, char *out, size_t size)
{
    if (row % 8 == 7)
        row -= 3; /* an equal one */
    snprintf(out, size, "text %d, \"quoted\" and\nmore", row);
}

static int take(struct play *p, trommel_run *run, char (*labels)[20])
{
    const trommel_result *r;
    int n = 0;

    (void)p;
    while ((r = trommel_run_next(run))) {
        int64_t row = trommel_result_row(r);

        if (trommel_result_label_count(r) == 1)
            snprintf(labels[row], sizeof *labels, "%s",
                     trommel_result_label(r, 0));
        n++;
    }
    return n;
}

static void push(struct play *p)
{
    static const char *const options[][2] = {
        {"labels", "refund,bug,question,praise"}, {"order", "completed"},
        {NULL, NULL},
    };
    char labels[ROWS][20] = {""}, url[60], folder[300], text[80];
    trommel_config *cfg = trommel_config_new();
    trommel_run *run = NULL;
    const char *const where[][2] = {
        {"model", "openai/fake"}, {"base-url", url}, {"store", folder},
        {"key-env", "OPENAI_API_KEY"}, {"pack", "4"}, {"concurrency", "3"},
        {"max-wait", patience}, {NULL, NULL},
    };
    int rc, next = 0;

    if (!cfg) {
        fail(p, TROMMEL_ENOMEM, "out of memory");
        return;
    }
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", port);
    in_folder(p, "store", folder);
    rc = set_all(cfg, where);
    if (rc == 0)
        rc = set_all(cfg, options);
    if (rc == 0)
        rc = trommel_config_load(cfg);
    if (rc != 0) {
        fail(p, rc, trommel_config_error(cfg));
        trommel_config_free(cfg);
        return;
    }
    rc = trommel_run_open(&run, cfg);
    trommel_config_free(cfg);
    if (rc != 0) {
        fail(p, rc, trommel_run_error(run));
        trommel_run_close(run);
        return;
    }
    do {
        while (next < ROWS && rc >= 0) {
            text_of(next, text, sizeof text);
            rc = trommel_run_push(run, NULL, text, strlen(text));
            if (rc == TROMMEL_FULL)
                break;
            next += rc == 0;
        }
        if (next == ROWS)
            trommel_run_finish(run);
        if (rc >= 0)
            rc = trommel_run_step(run, 100);
        take(p, run, labels);
    } while (rc == TROMMEL_MORE);
    if (rc == TROMMEL_DONE)
        for (int i = 0; i < ROWS; i++)
            say(p, labels[i], sizeof *labels);
    end_run(p, run, rc);
}

static const struct scene {
    const char *name;
    void (*play)(struct play *p);
    void (*before)(struct play *p); /* nothing fails yet; or NULL */
    bool is_long;       /* thousands of calls, so --step counts */
    bool asks;          /* the provider, and has books */
    bool is_cold;       /* a process of its own for each play */
    const char *output; /* file that it writes, or NULL */
} scenes[] = {
    {"task",     task,    NULL,           false, false, false, NULL     },
    {"settings", settings, NULL,          false, false, false, NULL     },
    {"csv",      csv,     NULL,           false, false, false, NULL     },
    {"jsonl",    jsonl,   NULL,           false, false, false, NULL     },
    {"gzip",     gzip,    NULL,           false, false, false, NULL     },
    {"zstd",     zstd,    NULL,           false, false, false, NULL     },
    {"store",    store,   before_store,   false, false, false, NULL     },
    {"spill",    spill,   NULL,           false, false, false, NULL     },
    {"opening",  opening, NULL,           true,  false, false, NULL     },
    {"listing",  listing, before_listing, true,  false, false, NULL     },
    {"dry",      dry,     NULL,           true,  false, false, NULL     },
    {"cold",     dry,     NULL,           true,  false, true,  NULL     },
    {"classify", plain,   NULL,           true,  true,  false, "out.csv"},
    {"tasked",   tasked,  NULL,           true,  true,  false, "out.csv"},
    {"push",     push,    NULL,           true,  true,  false, NULL     },
    {"batch",    batch,   NULL,           true,  true,  false, "out.csv"},
    {"adopted",  batch,   before_adopted, true,  true,  false, "out.csv"},
    {"rescued",  rescued, before_rescued, true,  true,  false, "out.csv"},
    {"chain",    chain,   NULL,           true,  true,  false, "out.csv"},
    {"tls",      tls,     NULL,           true,  true,  false, "out.csv"},
    {"alerts",   alerts,  NULL,           true,  true,  false, "out.csv"},
    {"sample",   sample,  NULL,           true,  true,  false, NULL     },
};


/* ---- what fails ------------------------------------------------------- */

static const char *const series[] = {
    "m:fail:", "w:EIO:", "w:ENOSPC:", "w:EINTR:", "w:short:", "s:EIO:",
    "s:ENOSPC:", "n:EIO:", "n:ENOSPC:", "n:EMFILE:", "n:EINTR:", "r:EIO:",
    "r:EINTR:", "r:short:", "c:ECONNRESET:", "c:EINTR:", "c:short:",
    "c:EMFILE:", "i:EIO:", "e:ENOSPC:", "e:EMFILE:",
    "l:EIO:",
};

/* ---- the provider ----------------------------------------------------- */

/* One number of its bill; reset clears it first. -1: it did not answer. */
static int64_t bill(const char *member, bool reset)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port)};
    char text[8192], name[40], *at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t n = 0;
    ssize_t got;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    n = (size_t)snprintf(text, sizeof text, "GET /bill%s HTTP/1.1\r\nHost: "
                         "localhost\r\nConnection: close\r\n\r\n",
                         reset ? "?reset=1" : "");
    if (send(fd, text, n, 0) != (ssize_t)n)
        n = 0;
    n = 0;
    while ((got = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0)
        n += (size_t)got;
    close(fd);
    text[n] = '\0';
    snprintf(name, sizeof name, "\"%s\":", member);
    at = strstr(text, name);
    return at ? strtoll(at + strlen(name), NULL, 10) : -1;
}

/* What a server of ours writes there when it listens; 0: it does not. */
static int read_port(const char *port_file, pid_t server)
{
    char text[20] = "";

    for (int i = 0; i < 3000; i++) {
        int fd = open(port_file, O_RDONLY | O_CLOEXEC);

        if (fd >= 0) {
            ssize_t n = read(fd, text, sizeof text - 1);

            text[n > 0 ? n : 0] = '\0';
            close(fd);
        }
        if (atoi(text) || waitpid(server, NULL, WNOHANG) == server)
            break;
        poll(NULL, 0, 10 * 20 /* HASTE */);
    }
    return atoi(text);
}

static pid_t start_fake(void)
{
    char port_file[100], gold[100];
    pid_t pid;

    snprintf(port_file, sizeof port_file, "%s/port", here);
    snprintf(gold, sizeof gold, "%s/gold.csv", here);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(open("/dev/null", O_WRONLY), 1);
        execl(trommel, "trommel", "fake", "--port", "0", "--port-file",
              port_file, "--gold", gold, "--labels", "refund,bug,question",
              "--prices", "1:5", "--batch-delay", "0.01", "--latency", "0",
              NULL);
        _exit(127);
    }
    port = read_port(port_file, pid);
    return pid;
}

/* Without openssl or Python there is none, and its scene is left out. */
static pid_t start_tls(void)
{
    char port_file[100], behind[20], trusted[100];
    pid_t pid;

    if (system("openssl version >/dev/null 2>&1 && "
               "python3 --version >/dev/null 2>&1") != 0)
        return 0;
    snprintf(port_file, sizeof port_file, "%s/tls-port", here);
    snprintf(trusted, sizeof trusted, "%s/tls.crt", here);
    snprintf(behind, sizeof behind, "%d", port);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execl(TLS_PY, "tls.py", here, behind, NULL);
        _exit(127);
    }
    tls_port = read_port(port_file, pid);
    if (!tls_port) {
        fprintf(stderr, "torture: %s did not start\n", TLS_PY);
        exit(2);
    }
    setenv("SSL_CERT_FILE", trusted, 1);
    return pid;
}

/* Takes every alert. */
static pid_t start_hook(void)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
                             "Connection: close\r\n\r\n";
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t at_n = sizeof at;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[4096];
    pid_t pid;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(server, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(server, 16) != 0 ||
        getsockname(server, (struct sockaddr *)&at, &at_n) != 0)
        exit(2);
    hook_port = ntohs(at.sin_port);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        for (;;) {
            int fd = accept(server, NULL, NULL);
            bool whole = false;

            for (ssize_t n; !whole && (n = recv(fd, text, sizeof text, 0)) > 0;)
                whole = text[n - 1] == '}' || text[n - 1] == '\n';
            if (send(fd, ok, sizeof ok - 1, MSG_NOSIGNAL) < 0)
                perror("hook");
            close(fd);
        }
    }
    close(server);
    return pid;
}

/* ---- time ------------------------------------------------------------- */

/* A batch waits a second for more rows, a retry for its turn: time runs HASTE
 * times as fast, for everything that is linked. */
enum { HASTE = 20 };

#pragma GCC visibility push(default)
int clock_gettime(clockid_t which, struct timespec *ts)
{
    static int (*next)(clockid_t, struct timespec *);
    int64_t ns;
    int rc;

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
    rc = next(which, ts);
    if (which == CLOCK_REALTIME)
        return rc;
    ns = (ts->tv_sec * INT64_C(1000000000) + ts->tv_nsec) * HASTE;
    ts->tv_sec = ns / 1000000000;
    ts->tv_nsec = ns % 1000000000;
    return rc;
}

int epoll_wait(int fd, struct epoll_event *events, int n, int ms)
{
    static int (*next)(int, struct epoll_event *, int, int);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "epoll_wait");
    return next(fd, events, n, ms > 0 ? (ms + HASTE - 1) / HASTE : ms);
}

/* SQLite's, which waits ten seconds for a lock that fails. */
int usleep(useconds_t us)
{
    static int (*next)(useconds_t);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "usleep");
    return next((us + HASTE - 1) / HASTE);
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
    static int (*next)(struct pollfd *, nfds_t, int);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "poll");
    return next(fds, n, ms > 0 ? (ms + HASTE - 1) / HASTE : ms);
}
#pragma GCC visibility pop

/* ---- files ------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static void remove_all(const char *folder)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void write_file(const char *name, const char *text, size_t n)
{
    char path[200];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", here, name);
    f = fopen(path, "wb");
    if (!f || fwrite(text, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(2);
    }
}

static void shell(const char *format)
{
    char command[400];

    snprintf(command, sizeof command, format, here, here);
    if (system(command) != 0) {
        fprintf(stderr, "torture: failed: %s\n", command);
        exit(2);
    }
}

static void make_files(void)
{
    static const char task_yaml[] =
        "multiple: true\n"
        "instruction: What is the message about?\n"
        "labels:\n"
        "  refund: wants money back\n"
        "  bug: something is broken\n"
        "  question: asks for something\n"
        "  praise: is happy\n"
        "examples:\n"
        "  - text: my card was charged twice\n"
        "    label: refund\n"
        "  - text: \"it crashes at night: \\u00e9\"\n"
        "    label: bug\n";
    static const char models[] =
        "as_of: 2026-11-24\nmodels:\n"
        "  openai/fake: {input: 1, output: 5, batch: 0.5}\n"
        "  openai/spare: {input: 1, output: 5}\n";
    static const char settings_yaml[] =
        "quota-probe: 10s\nfallback-on: [down, gone]\n";
    static const char *const labels[] = {"refund", "bug", "question"};
    static char rows[16384], json[16384], gold[16384];
    size_t n = 0, j = 0, g = 0;
    char text[80];

    n += (size_t)snprintf(rows, sizeof rows, "id,text\n");
    g += (size_t)snprintf(gold, sizeof gold, "text,label\n");
    for (int i = 0; i < ROWS; i++) {
        int of = i % 8 == 7 ? i - 3 : i;

        snprintf(text, sizeof text, "text %d, \"\"quoted\"\" and\nmore", of);
        n += (size_t)snprintf(rows + n, sizeof rows - n, "%d,\"%s\"\n", i,
                              text);
        g += (size_t)snprintf(gold + g, sizeof gold - g, "\"%s\",%s\n", text,
                              labels[of % 3]);
        j += (size_t)snprintf(json + j, sizeof json - j,
                              "{\"id\": %d, \"text\": \"t\\u00e9xt %d\", "
                              "\"more\": [1, {\"a\": null}]}\n", i, of);
    }
    write_file("in.csv", rows, n);
    write_file("in.jsonl", json, j);
    write_file("gold.csv", gold, g);
    write_file("key", KEY "\n", sizeof KEY);
    shell("chmod 600 %s/key");
    write_file("task.yaml", task_yaml, sizeof task_yaml - 1);
    shell("mkdir -p %s/config/trommel");
    write_file("config/trommel/config.yaml", settings_yaml,
               sizeof settings_yaml - 1);
    write_file("config/trommel/models.yaml", models, sizeof models - 1);
    shell("gzip -k %s/in.csv");
    shell("zstd -q %s/in.csv");
}

/* What stands in the scene's output file, after its own words. */
static bool read_output(struct play *p, const struct scene *s)
{
    char path[300];
    ssize_t n;
    int fd;

    if (!s->output)
        return true;
    fd = open(in_folder(p, s->output, path), O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while ((n = read(fd, p->result + p->n, sizeof p->result - p->n)) > 0)
        p->n += (size_t)n;
    close(fd);
    return true;
}

static int descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (dir && readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* ---- one play --------------------------------------------------------- */

/* Shared by all processes. */
static struct {
    struct play calm;      /* as it is when nothing fails */
    long n;                /* the call that fails now */
    long calls;            /* that the last play made */
    bool over;             /* the scene has no n-th call */
    long plays, absorbed;  /* faults of which nothing was seen */
    long complaints;
} *all;
static char what[200];     /* scene, series and call of this play */
static struct play first, second;

static void complain(const char *format, const char *more)
{
    fprintf(stderr, "FAILED %s: ", what);
    fprintf(stderr, format, more);
    fputc('\n', stderr);
    all->complaints++;
}

/* What a play leaves behind does not tell the key. */
static int search_one(const char *path, const struct stat *sb, int kind,
                      struct FTW *at)
{
    static char bytes[1 << 20];
    FILE *f = kind == FTW_F ? fopen(path, "rb") : NULL;
    size_t n = f ? fread(bytes, 1, sizeof bytes, f) : 0;

    (void)sb;
    (void)at;
    if (f)
        fclose(f);
    if (n && memmem(bytes, n, KEY, sizeof KEY - 1))
        complain("the key stands in %s", path);
    return 0;
}

static void play(const struct scene *s, struct play *p, const char *plan)
{
    p->code = TR_OK;
    p->n = 0;
    p->error[0] = '\0';
    if (s->before)
        s->before(p);
    fault_arm(plan);
    s->play(p);
    fault_arm(NULL);
}

static bool same(const struct play *p)
{
    return p->n == all->calm.n &&
           memcmp(p->result, all->calm.result, p->n) == 0;
}

/* Spent and unknown of the store together cover the bill. */
static void check_money(struct play *p)
{
    char folder[300], text[200];
    struct tr_store_info *list;
    struct tr_err err;
    int64_t known, unknown, billed = bill("nanousd", false);
    int64_t twice = bill("paid_twice", false);
    size_t n;

    if (tr_store_list(in_folder(p, "store", folder), &list, &n, &err) !=
            TR_OK || n != 1) {
        complain("the store cannot be listed: %s", err.text);
        return;
    }
    known = list[0].spent_nano;
    unknown = list[0].unknown_nano;
    tr_free(list);
    snprintf(text, sizeof text, "%" PRId64 " and %" PRId64 " unknown, bill %"
             PRId64, known, unknown, billed);
    if (known + unknown < billed)
        complain("the books are below the bill: %s", text);
    if (known > billed + 100) /* each request is rounded up by itself */
        complain("the books are above the bill: %s", text);
    snprintf(text, sizeof text, "%" PRId64, twice);
    if (twice > (strcmp(all->calm.error, "batch") &&
                         strcmp(all->calm.error, "adopted")
                     ? PACK * FLIGHT : ROWS))
        complain("%s texts were paid twice", text);
}

/* Whether the scene has an n-th call. */
static bool torment(const struct scene *s, const char *kind, const char *plus,
                    long n, int descriptors_before)
{
    char plan[60];
    bool reached, whole;
    int left;

    snprintf(plan, sizeof plan, "%s%ld%s", kind, n, plus);
    snprintf(what, sizeof what, "%s %s", s->name, plan);
    snprintf(first.folder, sizeof first.folder, "%s/play", here);
    memcpy(second.folder, first.folder, sizeof second.folder);
    remove_all(first.folder);
    mkdir(first.folder, 0700);
    if (s->asks)
        bill("nanousd", true);
    alarm(PLAY_S);
    /* What fails for good is waited for in vain: not long. In peace a busy
     * machine must not look like an outage; nor where a single allocation
     * fails, as then the sentence has to speak of memory. */
    patience = kind[0] == 'm' ? "60s" : strchr("cerl", kind[0]) ? "10s" : "20m";
    play(s, &first, plan);
    patience = "20m";
    all->calls = fault_count();
    reached = all->calls >= n;
    whole = read_output(&first, s);
    all->plays += reached;
    if (first.code == TR_OK && (!whole || !same(&first)))
        complain("it ended well with another result%s", "");
    if (first.code != TR_OK && s->output && whole && !same(&first))
        complain("it failed (%s) and left another output", first.error);
    if (first.code != TR_OK && !first.error[0])
        complain("an error without a word%s", "");
    if (first.code < TR_BUG || first.code > 0 || first.code == TR_BUG)
        complain("not a proper code: %s", first.error);
    if (first.code != TR_OK && first.code != TR_NOMEM && kind[0] == 'm' &&
        !strstr(first.error, "emory")) /* libcurl's: like a lost connection */
        complain("it was no memory, but it says: %s", first.error);
    if (first.code == TR_NOMEM && kind[0] != 'm')
        complain("it was not memory, but it says: %s", first.error);
    all->absorbed += reached && first.code == TR_OK;
    left = descriptors();
    if (left > descriptors_before)
        complain("a descriptor is left (%s)", first.error);
    play(s, &second, NULL);
    if (second.code != TR_OK)
        complain("it cannot be repeated: %s", second.error);
    else if (!read_output(&second, s) || !same(&second))
        complain("repeated, it ends with another result%s", "");
    else if (s->asks)
        check_money(&second);
    if (strstr(first.error, KEY) || strstr(second.error, KEY))
        complain("the key stands in %s", "an error");
    nftw(first.folder, search_one, 8, FTW_PHYS);
    alarm(0);
    return reached;
}

/* A child's work: plays from n on. */
static void stretch(const struct scene *s, const char *kind, const char *plus,
                    long n, long step, int plays)
{
    int before = INT_MAX;

    snprintf(first.folder, sizeof first.folder, "%s/warm", here);
    remove_all(first.folder);
    mkdir(first.folder, 0700);
    if (!s->is_cold) {
        play(s, &first, NULL); /* what libraries keep for ever, they keep now */
        before = descriptors();
    }
    for (int i = 0; i < plays && all->complaints < COMPLAINTS; i++, n += step) {
        all->n = n;
        if (!torment(s, kind, plus, n, before)) {
            all->over = true;
            break;
        }
    }
    _exit(__lsan_do_recoverable_leak_check() ? 3 : 0);
}

static int in_child(const struct scene *s, const char *kind, const char *plus,
                    long n, long step, int plays)
{
    pid_t pid;
    int status;

    all->over = false;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        stretch(s, kind, plus, n, step, plays);
    waitpid(pid, &status, 0);
    return status;
}

static void calm_down(const struct scene *s)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        snprintf(all->calm.folder, sizeof all->calm.folder, "%s/calm", here);
        remove_all(all->calm.folder);
        mkdir(all->calm.folder, 0700);
        play(s, &all->calm, NULL);
        _exit(all->calm.code != TR_OK || !read_output(&all->calm, s) ||
              !all->calm.n);
    }
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status)) {
        fprintf(stderr, "torture: %s fails by itself: %s\n", s->name,
                all->calm.code == TR_OK ? "it crashed, or wrote nothing"
                                        : all->calm.error);
        exit(2);
    }
    snprintf(all->calm.error, sizeof all->calm.error, "%s", s->name);
}

static void suffer(const struct scene *s, const char *kind, const char *plus,
                   long from, long step)
{
    long n = from;

    do {
        int status = in_child(s, kind, plus, n, step,
                              s->is_cold ? 1 : STRETCH);

        if (WIFSIGNALED(status) || (WIFEXITED(status) &&
            WEXITSTATUS(status) && WEXITSTATUS(status) != 3)) {
            snprintf(what, sizeof what, "%s %s%ld%s", s->name, kind, all->n,
                     plus);
            complain(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
                     ? "it hangs%s" : "it crashed%s", "");
        } else if (WIFEXITED(status) && WEXITSTATUS(status) == 3) {
            long last = all->n;
            bool over = all->over;

            for (long i = n; i <= last && all->complaints < COMPLAINTS;
                 i += step) {
                status = in_child(s, kind, plus, i, step, 1);
                if (!WIFEXITED(status) || !WEXITSTATUS(status))
                    continue;
                snprintf(what, sizeof what, "%s %s%ld%s", s->name, kind, i,
                         plus);
                complain("memory is left%s", "");
            }
            all->n = last;
            all->over = over;
        }
        n = all->n + step;
        /* Fewer calls than where it begins: else none of them would fail. */
        if (all->over && all->n == from && all->calls > 0 && from <= step) {
            from = n = 1 + from % all->calls;
            all->over = false;
        }
    } while (!all->over && all->complaints < COMPLAINTS);
}

/* A proxy of who runs this, or settings, are not the scenes'. */
static void forget_environment(void)
{
    for (char **e = environ; *e;) {
        size_t n = strcspn(*e, "=");
        char name[100];

        snprintf(name, sizeof name, "%.*s", (int)n, *e);
        if (!strncmp(name, "TROMMEL_", 8) ||
            (n > 6 && !strcasecmp(name + n - 6, "_proxy"))) {
            unsetenv(name);
            e = environ; /* it has moved */
        } else {
            e++;
        }
    }
}

int main(int argc, char **argv)
{
    const char *only = NULL, *kind = "";
    long step = 1, at = time(NULL) / 86400, from = 0;
    long played[sizeof series / sizeof *series] = {0};
    pid_t fake, hook, proxy;
    char spare[60];
    int status;

    for (int i = 2; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--scene"))
            only = argv[i + 1];
        else if (!strcmp(argv[i], "--series"))
            kind = argv[i + 1];
        else if (!strcmp(argv[i], "--step"))
            step = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--from"))
            from = atol(argv[i + 1]);
        else if (!strcmp(argv[i], "--at"))
            at = atol(argv[i + 1]);
    }
    if (argc < 2 || step < 1) {
        fprintf(stderr, "usage: torture TROMMEL [--scene NAME] "
                        "[--series w:EIO:] [--step N] [--at N] "
                        "[--from N]\n");
        return 2;
    }
    trommel = argv[1];
    snprintf(here, sizeof here, "%s/trommel-torture-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(here))
        return 2;
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(config, sizeof config, "%s/config", here);
    forget_environment();
    setenv("XDG_CONFIG_HOME", config, 1);
    setenv("XDG_STATE_HOME", here, 1);
    setenv("XDG_RUNTIME_DIR", here, 1);
    setenv("HOME", here, 1);
    setenv("TMPDIR", here, 1);
    setenv("OPENAI_API_KEY", KEY, 1);
    signal(SIGPIPE, SIG_IGN);
    make_files();
    fake = start_fake();
    hook = start_hook();
    proxy = start_tls();
    snprintf(spare, sizeof spare, "http://127.0.0.1:%d/v1", port);
    setenv("OPENAI_BASE_URL", spare, 1);
    setenv("HOOK_SECRET", "of the hook, not a key", 1);
    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        const struct scene *s = &scenes[i];
        if (only && strcmp(only, s->name) != 0)
            continue;
        if (s->play == tls && !tls_port) {
            printf("tls: skipped: openssl or python3 is missing\n");
            continue;
        }
        all->plays = all->absorbed = 0;
        calm_down(s);
        for (size_t k = 0; k < sizeof series / sizeof *series; k++) {
            long every = s->is_long ? step : 1, before = all->plays;

            if (strncmp(series[k], kind, strlen(kind)) != 0)
                continue;
            if (series[k][0] != 'm') /* a hundred calls, not ten thousand */
                every = (every + 15) / 16;
            if (series[k][0] == 'l') /* one or two */
                every = 1;
            if (from)
                every = step;
            suffer(s, series[k], "", from ? from : 1 + at % every, every);
            /* A batch that is under way waits a day for its network. */
            if (!strchr("ce", series[k][0]) || s->play != batch)
                suffer(s, series[k], "+", from ? from : 1 + at % every, every);
            played[k] += all->plays - before;
        }
        if (!all->plays && !from && !*kind) {
            snprintf(what, sizeof what, "%s", s->name);
            complain("nothing failed in it%s", "");
        }
        printf("%s: %ld faults, %ld of them without effect\n", s->name,
               all->plays, all->absorbed);
        fflush(stdout);
    }
    for (size_t k = 0; !only && !from && k < sizeof series / sizeof *series;
         k++) {
        /* Only what goes over TLS looks a name up. */
        if (played[k] || strncmp(series[k], kind, strlen(kind)) != 0 ||
            (series[k][0] == 'l' && !tls_port))
            continue;
        snprintf(what, sizeof what, "%s", series[k]);
        complain("no scene has such a call%s", "");
    }
    kill(fake, SIGTERM);
    kill(hook, SIGTERM);
    if (proxy && kill(proxy, SIGTERM) == 0)
        waitpid(proxy, NULL, 0);
    snprintf(what, sizeof what, "trommel fake");
    if (waitpid(fake, &status, 0) != fake || !WIFEXITED(status) ||
        WEXITSTATUS(status))
        complain("it did not end well%s", "");
    waitpid(hook, NULL, 0);
    remove_all(here);
    if (step > 1)
        printf("every %ld calls of long scenes (--step), --at %ld\n", step, at);
    if (all->complaints)
        printf("%ld complaints\n", all->complaints);
    return all->complaints != 0;
}
