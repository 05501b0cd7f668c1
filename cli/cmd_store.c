/* cmd_store.c - trommel store: what has been answered and paid for.
 * SPDX-License-Identifier: MIT */
#include "commands.h"
#include "format.h"
#include "term.h"

#include "base/mem.h"
#include "config.h"
#include "store/store.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_BYTES = 160, LOSS_BYTES = 500 };

static const char usage[] =
    "Usage: trommel store ls [--json]\n"
    "       trommel store show NAME...\n"
    "       trommel store rm NAME... | --all [--yes]\n"
    "       trommel store forgive NAME... [--yes]\n"
    "\n"
    "A store holds the answers to one task: no row text, only digests, labels,\n"
    "who said them, and money. NAME is what ls shows first, or the beginning of\n"
    "it, or a path.\n"
    "\n"
    "  ls        every store: task, answers, failures, money, last use\n"
    "  show      one store: its answers by model, its open batches\n"
    "  rm        removes stores; their answers would have to be paid again, and\n"
    "            those of open batches are lost\n"
    "  forgive   releases the money reserved for requests whose outcome is\n"
    "            unknown, when you know that they were not charged; gives up\n"
    "            open batches, whose answers are paid for all the same, when\n"
    "            you say yes\n"
    "\n"
    "  --store DIR   the folder (default: TROMMEL_STORE, store: of config.yaml,\n"
    "                $XDG_STATE_HOME/trommel)\n"
    "  --json        ls: one JSON object a line, money in nano-dollars\n"
    "  --yes         rm, forgive: do not ask\n";

struct args {
    const char *verb;
    const char *folder;
    const char **names;
    int name_count;
    int json, yes, all;
};

static int complain(const struct tr_err *err)
{
    struct tr_err plain = *err;

    fprintf(stderr, "trommel: %s\n", term_plain(plain.text));
    return tr_exit_code(err->code);
}

/* The first eight digits of the digest name a store. */
static const char *name_of(const struct tr_store_info *s)
{
    const char *slash = strrchr(s->path, '/');

    return slash ? slash + 1 : s->path;
}

/* Local time, as far as form goes; "-" when it never was. */
static const char *moment(char *out, const char *form, int64_t at)
{
    time_t t = (time_t)at;
    struct tm tm;

    if (!at || !localtime_r(&t, &tm) || !strftime(out, FORMAT_BYTES, form, &tm))
        snprintf(out, FORMAT_BYTES, "-");
    return out;
}

static const char *day(char *out, int64_t at)
{
    return moment(out, "%Y-%m-%d", at);
}

static const char *minute(char *out, int64_t at)
{
    return moment(out, "%Y-%m-%d %H:%M", at);
}

/* 12 kB, 640 MB. */
static const char *size_text(char *out, int64_t bytes)
{
    char number[FORMAT_BYTES];

    snprintf(out, FORMAT_BYTES, bytes < 1000 ? "%s B" : "%sB",
             format_short(number, bytes));
    return out;
}

static void print_json(const struct tr_store_info *s)
{
    struct tr_buf b;

    tr_buf_init(&b, 0);
    tr_buf_addf(&b, "{\"name\":\"%.8s\",\"path\":", name_of(s));
    tr_buf_add_json(&b, tr_str_c(s->path));
    tr_buf_addz(&b, ",\"task\":");
    tr_buf_add_json(&b, tr_str_c(s->task_name));
    tr_buf_addf(&b, ",\"bytes\":%" PRId64 ",\"answers\":%" PRId64
                ",\"failures\":%" PRId64 ",\"spent_nanousd\":%" PRId64
                ",\"unknown_requests\":%" PRId64 ",\"unknown_nanousd\":%" PRId64
                ",\"batches\":%" PRId64 ",\"batch_requests\":%" PRId64
                ",\"batch_nanousd\":%" PRId64
                ",\"first_at\":%" PRId64 ",\"last_at\":%" PRId64
                ",\"in_use\":%s,\"pid\":%ld,\"trouble\":",
                s->bytes, s->verdicts, s->failures, s->spent_nano,
                s->unknown_count, s->unknown_nano, s->batches,
                s->batch_requests, s->batch_nano, s->first_at, s->last_at,
                s->in_use ? "true" : "false", s->pid);
    tr_buf_add_json(&b, tr_str_c(s->trouble));
    tr_buf_addc(&b, '}');
    if (tr_buf_ok(&b))
        puts(b.p);
    tr_buf_release(&b);
}

/* "3 requests are in a batch and may cost at most $0.0044" */
static const char *batch_text(char *out, size_t size,
                              const struct tr_store_info *s)
{
    char count[FORMAT_BYTES], money[FORMAT_BYTES];

    snprintf(out, size, "%s request%s in %s and may cost %s%s",
             format_count(count, s->batch_requests),
             s->batch_requests == 1 ? " is" : "s are",
             s->batches == 1 ? "a batch" : "batches",
             s->batch_nano < 0 ? "a sum that is not known" : "at most ",
             s->batch_nano < 0 ? "" : format_money(money, s->batch_nano));
    return out;
}

static void print_head(void)
{
    printf("%-8s  %10s  %8s  %8s  %9s  %9s  %-10s  %-10s  %s\n", "name",
           "answers", "failures", "size", "spent", "unknown", "first use",
           "last use", "task");
}

static void print_row(const struct tr_store_info *s)
{
    char t[7][FORMAT_BYTES], batch[BATCH_BYTES];

    if (s->in_use)
        printf("%.8s  %10s  %8s  %8s  %9s  %9s  %-10s  %-10s  %s (in use by "
               "process %ld)\n", name_of(s), "-", "-",
               size_text(t[0], s->bytes), "-", "-", "-",
               day(t[1], s->last_at), s->task_name, s->pid);
    else if (s->trouble[0])
        printf("%.8s  %s\n", name_of(s), s->trouble);
    else
        printf("%.8s  %10s  %8s  %8s  %9s  %9s  %-10s  %-10s  %s\n",
               name_of(s), format_count(t[0], s->verdicts),
               format_count(t[1], s->failures), size_text(t[2], s->bytes),
               format_money(t[3], s->spent_nano),
               format_money(t[4], s->unknown_nano), day(t[5], s->first_at),
               day(t[6], s->last_at), s->task_name);
    if (s->batches)
        printf("          %s; the same command picks %s up\n",
               batch_text(batch, sizeof batch, s),
               s->batches == 1 ? "it" : "them");
}

/* The stores of a folder, with nothing in them that a terminal would obey. */
static int look(const char *folder, struct tr_store_info **all, size_t *n)
{
    struct tr_err err;

    if (tr_store_list(folder, all, n, &err) != TR_OK)
        return complain(&err);
    for (size_t i = 0; i < *n; i++) {
        term_plain((*all)[i].task_name);
        term_plain((*all)[i].trouble);
    }
    return 0;
}

/* The one store that a name or path means: 0 and *s, or the exit code after
 * saying why not. */
static int choose(const struct args *a, const char *name,
                  struct tr_store_info *s)
{
    const char *slash = strrchr(name, '/');
    const char *prefix = slash ? slash + 1 : name;
    size_t folder_n = !slash ? 0 : slash == name ? 1 : (size_t)(slash - name);
    char *own = slash ? tr_dup(name, folder_n) : NULL;
    const char *folder = own ? own : a->folder;
    struct tr_store_info *all = NULL;
    size_t n = 0, hits = 0;
    int rc = look(folder, &all, &n);

    for (size_t i = 0; i < n && *prefix; i++)
        if (strncmp(name_of(&all[i]), prefix, strlen(prefix)) == 0) {
            *s = all[i];
            hits++;
        }
    if (!rc && hits > 1) {
        fprintf(stderr, "trommel: store %s: %zu stores begin so; give more "
                "of the name\n", name, hits);
    } else if (!rc && !hits) {
        fputs("trommel: store \"", stderr);
        term_put(stderr, prefix);
        fputs("\": not found in ", stderr);
        term_put(stderr, folder);
        fputs(" (trommel store ls shows what is there)\n", stderr);
    }
    tr_free(all);
    tr_free(own);
    return rc ? rc : hits == 1 ? 0 : tr_exit_code(TR_NOINPUT);
}

static void say_empty(const struct args *a)
{
    fputs("no answers are stored in ", stdout);
    term_put(stdout, a->folder);
    putchar('\n');
}

static int list(const struct args *a)
{
    struct tr_store_info *all;
    size_t n;
    int rc = look(a->folder, &all, &n);

    if (rc)
        return rc;
    if (!a->json && n) {
        print_head();
    } else if (!a->json) {
        say_empty(a);
    }
    for (size_t i = 0; i < n; i++)
        (a->json ? print_json : print_row)(&all[i]);
    tr_free(all);
    return 0;
}

static void print_origin(void *ctx, const struct tr_origin *o, int64_t verdicts)
{
    char count[FORMAT_BYTES], at[FORMAT_BYTES];

    struct tr_origin plain;

    (void)ctx;
    if (!o) {
        printf("  %10s  no model answered\n", format_count(count, verdicts));
        return;
    }
    plain = *o;
    printf("  %10s  %-16s  %s", format_count(count, verdicts),
           minute(at, o->run_at), term_plain(plain.by));
    if (o->served[0])
        printf(" (served by %s)", term_plain(plain.served));
    if (o->effort[0])
        printf(", effort %s", term_plain(plain.effort));
    printf(", prompt version %d\n", (int)o->prompt_version);
}

/* What goes on at a provider without us. */
static int print_batches(struct tr_store *st, struct tr_err *err)
{
    struct tr_batch *list;
    size_t n;
    char t[3][FORMAT_BYTES];
    int rc = tr_store_batches(st, &list, &n, err);

    for (size_t i = 0; rc == TR_OK && i < n; i++) {
        term_plain(list[i].name);
        term_plain(list[i].mark);
        term_plain(list[i].lane);
        printf("batch     %s: %s request%s to %s since %s, %s%s%s\n",
               list[i].name[0] ? list[i].name : list[i].mark,
               format_count(t[0], list[i].requests),
               list[i].requests == 1 ? "" : "s", list[i].lane,
               minute(t[1], list[i].created_at),
               list[i].bound_nano < 0 ? "price not known" : "at most ",
               list[i].bound_nano < 0
                   ? "" : format_money(t[2], list[i].bound_nano),
               list[i].name[0] ? "" : " (whether it was made is looked up)");
    }
    if (rc == TR_OK && n)
        printf("          the same command takes the answers; trommel store "
               "forgive gives them up\n");
    tr_free(list);
    return rc;
}

static int show(const struct args *a, const struct tr_store_info *s)
{
    struct tr_store *st;
    struct tr_err err;
    char t[2][FORMAT_BYTES];
    int rc;

    (void)a;
    if (tr_store_open_path(&st, s->path, true, &err) != TR_OK)
        return complain(&err);
    fputs("file      ", stdout);
    term_put(stdout, s->path);
    printf(" (%s)\n", size_text(t[0], s->bytes));
    printf("task      %s\n", s->task_name);
    printf("used      %s to %s\n", minute(t[0], s->first_at),
           minute(t[1], s->last_at));
    printf("spent     %s%s\n", format_money(t[0], s->spent_nano),
           s->spent_nano || !s->verdicts
               ? "" : " (a model without a known price counts as free here)");
    if (s->unknown_count)
        printf("unknown   at most %s for %" PRId64 " request%s whose outcome is "
               "unknown; trommel store forgive %.8s\n"
               "          releases it when you know that they were not "
               "charged\n", format_money(t[0], s->unknown_nano),
               s->unknown_count, s->unknown_count == 1 ? "" : "s", name_of(s));
    printf("answers   %s", format_count(t[0], s->verdicts));
    if (s->failures)
        printf(", of them %s failure%s (--retry-failed asks again)",
               format_count(t[0], s->failures), s->failures == 1 ? "" : "s");
    putchar('\n');
    tr_store_origins(st, print_origin, NULL);
    rc = print_batches(st, &err);
    tr_store_close(st);
    return rc == TR_OK ? 0 : complain(&err);
}

/* What open batches would lose when so, or "" when there are none. */
static const char *batch_loss(char *out, size_t size,
                              const struct tr_store_info *s, const char *when)
{
    char batch[BATCH_BYTES];

    out[0] = '\0';
    if (s->batches)
        snprintf(out, size, "%s; the same command picks %s up, but %s the "
                 "answers are paid for and lost",
                 batch_text(batch, sizeof batch, s),
                 s->batches == 1 ? "it" : "them", when);
    return out;
}

/* What would have to be paid again, or "" when there is nothing. */
static const char *loss_text(char *out, size_t size,
                             const struct tr_store_info *s)
{
    char count[FORMAT_BYTES];
    int n = 0;

    if (s->verdicts || s->trouble[0])
        n = snprintf(out, size, "%s answer%s would have to be paid again%s",
                     s->trouble[0] ? "its unreadable"
                                   : format_count(count, s->verdicts),
                     s->verdicts == 1 && !s->trouble[0] ? "" : "s",
                     s->batches ? "; " : "");
    batch_loss(out + n, size - (size_t)n, s, "without the store");
    return out;
}

/* What is paid for is not thrown away without a yes. */
static bool sure(const struct args *a, const struct tr_store_info *s,
                 const char *loss, const char *deed)
{
    char answer[16];

    if (a->yes || !*loss)
        return true;
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "trommel: store %.8s: %s. Give --yes to %s all the "
                "same\n", name_of(s), loss, deed);
        return false;
    }
    fprintf(stderr, "store %.8s of \"%s\": %s. %c%s? [y/N] ",
            name_of(s), s->task_name, loss, toupper((unsigned char)*deed),
            deed + 1);
    return fgets(answer, sizeof answer, stdin) &&
           (answer[0] == 'y' || answer[0] == 'Y');
}

/* Asked while the store is ours: no run opens another batch meanwhile. */
static int forgive(const struct args *a, const struct tr_store_info *listed)
{
    struct tr_store_info s = *listed;
    struct tr_store *st;
    struct tr_err err;
    int64_t count, nano;
    char money[FORMAT_BYTES], loss[LOSS_BYTES];
    bool asked = true;
    int rc;

    if (tr_store_open_path(&st, s.path, false, &err) != TR_OK)
        return complain(&err);
    rc = tr_store_look(st, &s, &err);
    term_plain(s.task_name);
    if (rc == TR_OK)
        asked = sure(a, &s, batch_loss(loss, sizeof loss, &s, "once released"),
                     "release the money");
    if (rc == TR_OK && asked)
        rc = tr_store_forgive(st, &count, &nano, &err);
    tr_store_close(st);
    if (rc != TR_OK)
        return complain(&err);
    if (!asked)
        return 2;
    if (!count) {
        printf("nothing to release: store %.8s has no request with an unknown "
               "outcome\n", name_of(&s));
        return 0;
    }
    printf("released %s of %" PRId64 " request%s with an unknown outcome\n",
           format_money(money, nano), count, count == 1 ? "" : "s");
    return 0;
}

/* A store as it is now; false: a run is at work on it, as was said. */
static bool look_again(const char *path, struct tr_store_info *s)
{
    tr_store_describe(path, s);
    term_plain(s->task_name);
    term_plain(s->trouble);
    if (s->in_use)
        fprintf(stderr, "trommel: store %.8s is in use by process %ld, and "
                "was not removed: wait for it, or stop it\n", name_of(s),
                s->pid);
    return !s->in_use;
}

/* While a question waits, of this store or of one before it, a run may come and
 * go: what it paid for was not meant by the yes. */
static int remove_one(const struct args *a, const struct tr_store_info *listed)
{
    struct tr_store_info s, now;
    char asked[LOSS_BYTES], loss[LOSS_BYTES];
    struct tr_err err;

    if (!look_again(listed->path, &now))
        return tr_exit_code(TR_STOPPED);
    do {
        s = now;
        loss_text(asked, sizeof asked, &s);
        if (!sure(a, &s, asked, "remove the store"))
            return 2;
        if (!look_again(s.path, &now))
            return tr_exit_code(TR_STOPPED);
    } while (!a->yes &&
             strcmp(asked, loss_text(loss, sizeof loss, &now)) != 0);
    if (tr_store_remove(s.path, &err) != TR_OK)
        return complain(&err);
    printf("removed %.8s\n", name_of(&s));
    return 0;
}

static const struct verb {
    const char *name;
    int (*each)(const struct args *a, const struct tr_store_info *s);
} verbs[] = {{"show", show}, {"rm", remove_one}, {"forgive", forgive}};

static const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* Goes on after a store that could not be treated; the first trouble is the
 * exit code. */
static int remove_all(const struct args *a)
{
    struct tr_store_info *all;
    size_t n;
    int first = look(a->folder, &all, &n);

    if (!first && !n) /* perhaps another folder was meant */
        say_empty(a);
    for (size_t i = 0; i < n; i++) {
        int rc = remove_one(a, &all[i]);

        first = first ? first : rc;
    }
    tr_free(all);
    return first;
}

static int each_named(const struct args *a, const struct verb *verb)
{
    int first = 0;

    for (int i = 0; i < a->name_count; i++) {
        struct tr_store_info s;
        int rc = choose(a, a->names[i], &s);

        if (!rc)
            rc = verb->each(a, &s);
        first = first ? first : rc;
    }
    return first;
}

static int wrong(const char *what, const char *word)
{
    fprintf(stderr, "trommel: store: %s %s; see trommel store --help\n", what,
            word);
    return 2;
}

/* --store, else what a run would take. */
static int choose_folder(struct args *a, struct tr_buf *own)
{
    struct tr_config *cfg = tr_config_new();
    struct tr_err err = {0};
    const char *set;
    int rc;

    if (!cfg)
        return complain(&(struct tr_err){TR_NOMEM, "out of memory"});
    rc = a->folder ? TR_OK : tr_config_load(cfg, NULL, &err);
    if (rc == TR_OK && !a->folder) {
        set = tr_config_text(cfg, "store");
        if (set && *set && strcmp(set, "none") != 0)
            tr_buf_addz(own, set);
        else
            rc = tr_store_default_folder(own, &err);
        a->folder = own->p;
    }
    tr_config_free(cfg);
    return rc == TR_OK && a->folder ? 0 : complain(&err);
}

int cmd_store(int argc, char **argv)
{
    struct args a = {.names = (const char **)argv};
    const struct verb *verb;
    struct tr_buf own;
    int rc;

    for (int i = 1; i < argc; i++) {
        const char *w = argv[i];

        if (strcmp(w, "--help") == 0 || strcmp(w, "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        } else if (strcmp(w, "--json") == 0) {
            a.json = 1;
        } else if (strcmp(w, "--yes") == 0) {
            a.yes = 1;
        } else if (strcmp(w, "--all") == 0) {
            a.all = 1;
        } else if (strcmp(w, "--store") == 0 && i + 1 < argc) {
            a.folder = argv[++i];
        } else if (strncmp(w, "--store=", 8) == 0) {
            a.folder = w + 8;
        } else if (strcmp(w, "--store") == 0) {
            return wrong("which folder? A name is missing after", w);
        } else if (w[0] == '-' && w[1]) {
            return wrong("unknown option", w);
        } else if (!a.verb) {
            a.verb = w;
        } else {
            a.names[a.name_count++] = w; /* never ahead of argv[i] */
        }
    }
    if (!a.verb) {
        fputs(usage, stderr);
        return 2;
    }
    verb = verb_find(a.verb);
    if (!verb && strcmp(a.verb, "ls") != 0)
        return wrong("unknown word", a.verb);
    if (!verb && a.name_count)
        return wrong("ls takes no names:", a.names[0]);
    if (a.all && (!verb || verb->each != remove_one || a.name_count))
        return wrong("--all belongs to rm, without names:", a.verb);
    if (verb && !a.all && !a.name_count)
        return wrong("which store? A name is missing after", a.verb);
    tr_buf_init(&own, 0);
    rc = choose_folder(&a, &own);
    if (!rc)
        rc = !verb ? list(&a) : a.all ? remove_all(&a) : each_named(&a, verb);
    tr_buf_release(&own);
    return rc;
}
