/* cmd_store.c - trommel store: what has been answered and paid for.
 * SPDX-License-Identifier: MIT */
#include "commands.h"
#include "format.h"

#include "base/mem.h"
#include "store/store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "Usage: trommel store ls [--json]\n"
    "       trommel store show NAME\n"
    "       trommel store rm NAME... | --all [--yes]\n"
    "       trommel store forgive NAME\n"
    "\n"
    "A store holds the answers to one task: no row text, only digests, labels,\n"
    "who said them, and money. NAME is what ls shows first, or the beginning of\n"
    "it, or a path.\n"
    "\n"
    "  ls        every store: task, answers, failures, money, last use\n"
    "  show      one store: its answers by model\n"
    "  rm        removes stores; their answers would have to be paid again\n"
    "  forgive   releases the money reserved for requests whose outcome is\n"
    "            unknown, when you know that they were not charged\n"
    "\n"
    "  --store DIR   the folder (default: $XDG_STATE_HOME/trommel)\n"
    "  --json        ls: one JSON object a line\n"
    "  --yes         rm: do not ask\n";

struct args {
    const char *verb;
    const char *folder;
    const char **names;
    int name_count;
    int json, yes, all;
    struct tr_buf own_folder;
};

static int complain(const struct tr_err *err)
{
    fprintf(stderr, "trommel: %s\n", err->text);
    return tr_exit_code(err->code);
}

/* The first eight digits of the digest name a store. */
static const char *name_of(const struct tr_store_info *s)
{
    const char *slash = strrchr(s->path, '/');

    return slash ? slash + 1 : s->path;
}

static void day(char *out, size_t size, int64_t at)
{
    time_t t = (time_t)at;
    struct tm tm;

    out[0] = '\0';
    if (at && localtime_r(&t, &tm))
        strftime(out, size, "%Y-%m-%d %H:%M", &tm);
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
                ",\"first_at\":%" PRId64 ",\"last_at\":%" PRId64
                ",\"in_use\":%s,\"pid\":%ld}",
                s->bytes, s->verdicts, s->failures, s->spent_nano,
                s->unknown_count, s->unknown_nano, s->first_at, s->last_at,
                s->in_use ? "true" : "false", s->pid);
    if (tr_buf_ok(&b))
        puts(b.p);
    tr_buf_release(&b);
}

static void print_row(const struct tr_store_info *s)
{
    char count[FORMAT_BYTES], fails[FORMAT_BYTES], spent[FORMAT_BYTES];
    char unknown[FORMAT_BYTES], last[32];

    day(last, sizeof last, s->last_at);
    if (s->in_use) {
        printf("%.8s  %10s  %8s  %10s  %10s  %-16s  %s (in use by process "
               "%ld)\n", name_of(s), "-", "-", "-", "-", last,
               s->task_name[0] ? s->task_name : "-", s->pid);
        return;
    }
    printf("%.8s  %10s  %8s  %10s  %10s  %-16s  %s\n", name_of(s),
           format_count(count, s->verdicts), format_count(fails, s->failures),
           format_money(spent, s->spent_nano),
           format_money(unknown, s->unknown_nano), last, s->task_name);
}

static int list(const struct args *a)
{
    struct tr_store_info *all;
    struct tr_err err;
    size_t n;

    if (tr_store_list(a->folder, &all, &n, &err) != TR_OK)
        return complain(&err);
    if (!a->json) {
        if (!n)
            printf("no answers are stored in %s\n", a->folder);
        else
            printf("%-8s  %10s  %8s  %10s  %10s  %-16s  %s\n", "name",
                   "answers", "failures", "spent", "unknown", "last use",
                   "task");
    }
    for (size_t i = 0; i < n; i++)
        (a->json ? print_json : print_row)(&all[i]);
    tr_free(all);
    return 0;
}

/* The one store a name means; NULL after saying why not. */
static struct tr_store_info *choose(struct tr_store_info *all, size_t n,
                                    const char *name, const char *folder)
{
    struct tr_store_info *hit = NULL;
    size_t hits = 0;

    for (size_t i = 0; i < n; i++)
        if (strcmp(all[i].path, name) == 0 ||
            strncmp(name_of(&all[i]), name, strlen(name)) == 0) {
            hit = &all[i];
            hits++;
        }
    if (hits == 1 && *name)
        return hit;
    if (hits)
        fprintf(stderr, "trommel: store %s: %zu stores begin so; give more "
                "of the name\n", name, hits);
    else
        fprintf(stderr, "trommel: store %s: not found in %s "
                "(trommel store ls shows what is there)\n", name, folder);
    return NULL;
}

/* Opens the store behind info for reading or writing. */
static int open_store(struct tr_store **st, const struct tr_store_info *info,
                      int read_only, struct tr_err *err)
{
    struct tr_store_opts o = {.read_only = read_only};
    char folder[4096];
    const char *hex = name_of(info);

    snprintf(folder, sizeof folder, "%.*s", (int)(hex - info->path - 1),
             info->path);
    o.folder = folder;
    for (size_t i = 0; i < sizeof o.task.b; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        o.task.b[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return tr_store_open(st, &o, err);
}

static void print_origin(void *ctx, const struct tr_origin *o, int64_t verdicts)
{
    char count[FORMAT_BYTES], at[32];

    (void)ctx;
    day(at, sizeof at, o->run_at);
    printf("  %10s  %-16s  %s%s%s%s\n", format_count(count, verdicts), at,
           o->by, o->served[0] ? " (served by " : "", o->served,
           o->served[0] ? ")" : "");
}

static int show(const struct tr_store_info *s)
{
    struct tr_store *st;
    struct tr_err err;
    char at[32], money[FORMAT_BYTES], unknown[FORMAT_BYTES];
    char count[FORMAT_BYTES];
    int rc;

    if (s->in_use) {
        printf("%s is in use by process %ld\n", s->path, s->pid);
        return 75;
    }
    if (open_store(&st, s, 1, &err) != TR_OK)
        return complain(&err);
    printf("file      %s (%s bytes)\n", s->path,
           format_count(count, s->bytes));
    printf("task      %s\n", s->task_name);
    day(at, sizeof at, s->first_at);
    printf("since     %s\n", at);
    printf("spent     %s, and at most %s for %" PRId64 " requests whose "
           "outcome is unknown\n", format_money(money, s->spent_nano),
           format_money(unknown, s->unknown_nano), s->unknown_count);
    printf("answers   %s", format_count(count, s->verdicts));
    printf(", of them %s failures\n", format_count(count, s->failures));
    rc = tr_store_origins(st, print_origin, NULL, &err);
    tr_store_close(st);
    return rc == TR_OK ? 0 : complain(&err);
}

static int forgive(const struct tr_store_info *s)
{
    struct tr_store *st;
    struct tr_err err;
    int64_t count, nano;
    char money[FORMAT_BYTES];
    int rc;

    if (open_store(&st, s, 0, &err) != TR_OK)
        return complain(&err);
    rc = tr_store_forgive(st, &count, &nano, &err);
    tr_store_close(st);
    if (rc != TR_OK)
        return complain(&err);
    printf("released %s of %" PRId64 " requests with an unknown outcome\n",
           format_money(money, nano), count);
    return 0;
}

/* Paid answers are not thrown away without a yes. */
static int sure(const struct args *a, const struct tr_store_info *s)
{
    char count[FORMAT_BYTES], answer[16];

    if (a->yes || !s->verdicts)
        return 1;
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "trommel: store %.8s holds %s answers: give --yes to "
                "remove it\n", name_of(s), format_count(count, s->verdicts));
        return 0;
    }
    fprintf(stderr, "remove %s answers of \"%s\"? [y/N] ",
            format_count(count, s->verdicts), s->task_name);
    return fgets(answer, sizeof answer, stdin) &&
           (answer[0] == 'y' || answer[0] == 'Y');
}

static int remove_one(const struct args *a, const struct tr_store_info *s)
{
    struct tr_err err;

    if (!sure(a, s))
        return 2;
    if (tr_store_remove(s->path, &err) != TR_OK)
        return complain(&err);
    printf("removed %.8s\n", name_of(s));
    return 0;
}

static int each_named(const struct args *a)
{
    struct tr_store_info *all;
    struct tr_err err;
    size_t n;
    int rc = 0;

    if (tr_store_list(a->folder, &all, &n, &err) != TR_OK)
        return complain(&err);
    if (a->all)
        for (size_t i = 0; i < n && !rc; i++)
            rc = remove_one(a, &all[i]);
    for (int i = 0; i < a->name_count && !rc; i++) {
        const struct tr_store_info *s = choose(all, n, a->names[i], a->folder);

        if (!s)
            rc = 66;
        else if (strcmp(a->verb, "show") == 0)
            rc = show(s);
        else if (strcmp(a->verb, "forgive") == 0)
            rc = forgive(s);
        else
            rc = remove_one(a, s);
    }
    tr_free(all);
    return rc;
}

static int wrong(const char *what, const char *word)
{
    fprintf(stderr, "trommel: store: %s %s; see trommel store --help\n", what,
            word);
    return 2;
}

int cmd_store(int argc, char **argv)
{
    struct args a = {.names = (const char **)argv};
    struct tr_err err;
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
    tr_buf_init(&a.own_folder, 0);
    if (!a.folder) {
        a.folder = getenv("TROMMEL_STORE");
        if (!a.folder || !*a.folder) {
            if (tr_store_default_folder(&a.own_folder, &err) != TR_OK)
                return complain(&err);
            a.folder = a.own_folder.p;
        }
    }
    if (strcmp(a.verb, "ls") == 0)
        rc = list(&a);
    else if (strcmp(a.verb, "show") != 0 && strcmp(a.verb, "rm") != 0 &&
             strcmp(a.verb, "forgive") != 0)
        rc = wrong("unknown word", a.verb);
    else if (!a.name_count && !(a.all && strcmp(a.verb, "rm") == 0))
        rc = wrong("which store? A name is missing after", a.verb);
    else
        rc = each_named(&a);
    tr_buf_release(&a.own_folder);
    return rc;
}
