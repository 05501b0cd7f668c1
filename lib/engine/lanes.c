/* lanes.c - what belongs to one lane of a run: opened, remembered.
 *
 * A run may have several lanes; each has its own pace, meter, prompt, keys and
 * queues (struct tr_run_lane). What they share (rows, store, money, time) is
 * the run's.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/bounds.h"

#include <stdio.h>

/* The questions of one request cost by the byte, as a prompt does; the body
 * tells exactly, this tells before there is one. */
static void make_question(const struct tr_task *task, struct tr_run_lane *l)
{
    enum { QUESTION_BYTES = 100, OPTION_BYTES = 40 };
    size_t each = task->multiple ? QUESTION_BYTES : OPTION_BYTES;

    l->question = (struct tr_question){
        .instruction = tr_buf_str(&l->system),
        .labels = task->labels,
        .label_count = task->label_count,
        .none = task->none,
        .multiple = task->multiple,
    };
    l->question_bytes = task->multiple ? 0 : QUESTION_BYTES + l->system.n;
    for (uint32_t i = 0; i < task->label_count; i++)
        l->question_bytes += task->labels[i].name.n +
                             task->labels[i].description.n + each;
}

int64_t tr_run_cap(const struct tr_run *run, const struct tr_run_lane *l,
                   enum tr_form form, uint32_t n)
{
    return l->lane->decides ? 0 : tr_prompt_cap(run->task, form, n);
}

int tr_run_stable_parts(struct tr_run *run, struct tr_run_lane *l,
                        enum tr_form form, struct tr_err *err)
{
    if (l->form_ready && (l->form_built == form || l->lane->decides))
        return TR_OK;
    tr_buf_clear(&l->system);
    tr_buf_clear(&l->schema);
    if (l->lane->decides)
        tr_prompt_question(&l->system, run->task);
    else
        tr_prompt_system(&l->system, run->task, form);
    if (form == TR_FORM_SCHEMA && !l->lane->decides)
        tr_prompt_schema(&l->schema, run->task);
    if (l->lane->decides)
        make_question(run->task, l);
    if (!tr_buf_ok(&l->system) || !tr_buf_ok(&l->schema))
        return tr_fail(err, TR_NOMEM, "out of memory for the prompt");
    l->form_built = form;
    l->form_ready = true;
    return TR_OK;
}

/* Before the sends: a process that was stopped for a while holds no part any
 * more, and must not draw on it. */
void tr_run_meet_peers(struct tr_run *run, int64_t *wake)
{
    TR_EACH_LANE(run, l) {
        int64_t in;

        if (!run->env->meet || run->opts.dry_run || l->meet_at == INT64_MAX ||
            !(l->ready.n || l->planned.n || l->sent.n))
            continue;
        if (run->now >= l->meet_at) {
            tr_fair_look(&l->fair, &l->pace, run->now);
            in = run->env->meet(run->env->ctx, l->lane, &l->fair, &l->pace,
                                run->now);
            l->meet_at = in < 0 ? INT64_MAX : run->now + in;
        }
        if (l->ready.n && l->meet_at < *wake)
            *wake = l->meet_at;
    }
}

/* What answered for this model in the last run of this store: `served` if it
 * did too, or if nobody knows. */
static const char *answered_before(const struct tr_run *run,
                                   const struct tr_run_lane *l,
                                   const char *served)
{
    const struct tr_origin *o, *last = NULL;

    for (uint16_t i = 0; (o = tr_store_origin_at(run->store, i)); i++) {
        if (!o->served[0] || o->run_at >= run->run_at ||
            strcmp(o->by, l->lane->model) != 0)
            continue;
        if (!last || o->run_at > last->run_at ||
            (o->run_at == last->run_at && strcmp(o->served, served) == 0))
            last = o;
    }
    return last ? last->served : served;
}

/* A name may be moved to another model, and labels differ from then on. Told
 * once: some providers spread a name over several models. */
static void mind_name(const struct tr_run *run, struct tr_run_lane *l,
                      const char *served)
{
    bool in_run = l->origin_served[0] != '\0';
    const char *before;
    char line[600];

    if (l->renamed || !served[0] || l->lane->is_local ||
        (!in_run && tr_store_origins_scarce(run->store)))
        return;
    before = in_run ? l->origin_served : answered_before(run, l, served);
    if (strcmp(before, served) == 0)
        return;
    l->renamed = true;
    snprintf(line, sizeof line, "%s: %s answers, and %s it was %s: labels may "
             "differ. The store keeps which one gave each; name a dated model "
             "to stay with one, and --fresh asks all rows again",
             l->lane->model, served, in_run ? "before in this run"
                                            : "in the last run", before);
    tr_run_say(run, 1, line);
    tr_run_event(run, TR_EVENT_MODEL, l->lane, -1);
}

int tr_run_origin(struct tr_run *run, struct tr_run_lane *l,
                  const char *served, uint16_t *origin, struct tr_err *err)
{
    struct tr_origin o = {
        .prompt_version = TR_PROMPT_VERSION, .run_at = run->run_at,
    };
    int rc;

    if (l->origin_known && strcmp(l->origin_served, served) == 0) {
        *origin = l->origin;
        return TR_OK;
    }
    mind_name(run, l, served);
    snprintf(o.by, sizeof o.by, "%s", l->lane->model);
    snprintf(o.served, sizeof o.served, "%s", served);
    snprintf(o.effort, sizeof o.effort, "%s", l->lane->effort);
    rc = tr_store_origin(run->store, &o, run->origins_since, &l->origin, err);
    if (rc != TR_OK)
        return rc;
    snprintf(l->origin_served, sizeof l->origin_served, "%s", served);
    l->origin_known = true;
    *origin = l->origin;
    return TR_OK;
}

/* An answer without one could not be kept, and it would be paid for by then. */
int tr_run_number_lanes(struct tr_run *run, struct tr_err *err)
{
    uint16_t origin;
    int rc = TR_OK;

    if (run->opts.dry_run || run->opts.offline ||
        !tr_store_origins_scarce(run->store))
        return TR_OK;
    TR_EACH_LANE(run, l)
        TRY(tr_run_origin(run, l, "", &origin, err));
out:
    return rc;
}

/* 0: nobody has said a limit. What pace feels its way up to is none. */
static double stated_rpm(const struct tr_run_lane *l)
{
    const struct tr_bucket *b = &l->pace.buckets[TR_PACE_REQUESTS];

    return b->learned > 0 || b->ceiling > 0 ? tr_pace_rpm(&l->pace) : 0;
}

void tr_run_plan_cache(struct tr_run *run, struct tr_run_lane *l)
{
    int64_t rows = run->env->rows_expected
        ? run->env->rows_expected(run->env->ctx) : -1;
    uint32_t pack = run->opts.isolate ? 1
                    : run->opts.pack ? run->opts.pack
                    : l->lane->pack_auto ? l->lane->pack_auto : 16;
    struct tr_cache_case c = {
        .stable_tokens =
            tr_meter_estimate(&l->meter, l->system.n + l->schema.n),
        .rpm = stated_rpm(l),
        .at_once = (int)l->pace.window,
        .has_keys = l->lane->has_cache_keys,
    };
    struct tr_key key;

    l->cache_known = true;
    if (l->lane->is_local || l->lane->decides)
        return;
    rows -= rows < 0 ? 0 : run->counts.rows_stored + run->counts.rows_twin;
    c.requests = rows < 0 ? -1 : (rows + pack - 1) / pack;
    tr_cache_choose(&l->cache, &c, &l->lane->facts);
    l->warming = l->cache.warms && !run->opts.dry_run;
    key = tr_digest(&l->salt, tr_str((const char *)run->task->digest.b,
                                     sizeof run->task->digest.b));
    tr_key_hex(&key, 16, l->cache_key);
}

/* ---- from run to run -------------------------------------------------- */

static void name_of(char *out, size_t size, const char *what,
                    const struct tr_lane *lane)
{
    snprintf(out, size, "%s:%s@%s", what, lane->model, lane->host);
}

static int recall(struct tr_run *run, struct tr_run_lane *l,
                  struct tr_buf *line, struct tr_err *err)
{
    char name[340];
    bool found;
    int rc = TR_OK;

    if (l->lane->is_local)
        return TR_OK;
    tr_buf_clear(line);
    name_of(name, sizeof name, "meter", l->lane);
    TRY(tr_store_get(run->store, name, line, &found, err));
    if (found)
        tr_meter_read(&l->meter, tr_buf_str(line));
    tr_buf_clear(line);
    if (l->lane->vt->teach) {
        name_of(name, sizeof name, "lane", l->lane);
        TRY(tr_store_get(run->store, name, line, &found, err));
        if (found)
            l->lane->vt->teach(l->lane, tr_buf_str(line));
    }
    if (l->form.forced < 0) {
        name_of(name, sizeof name, "form", l->lane);
        tr_buf_clear(line);
        TRY(tr_store_get(run->store, name, line, &found, err));
        if (found && tr_str_eq_c(tr_buf_str(line), "1"))
            l->form.form = TR_FORM_SCHEMA;
        if (l->lane->no_schema)
            tr_form_refused(&l->form);
    }
out:
    return rc;
}

int tr_run_recall(struct tr_run *run, struct tr_err *err)
{
    struct tr_buf line;
    int rc = TR_OK;

    tr_buf_init(&line, 0);
    TR_EACH_LANE(run, l)
        TRY(recall(run, l, &line, err));
out:
    tr_buf_release(&line);
    return rc;
}

/* What the provider stated, for the time a later run will take. */
static void note_limits(struct tr_run_lane *l)
{
    const struct tr_bucket *requests = &l->pace.buckets[TR_PACE_REQUESTS];
    const struct tr_bucket *tokens = &l->pace.buckets[TR_PACE_TOKENS];

    if (requests->learned > 0)
        l->meter.rpm = requests->learned * 60;
    if (tokens->learned > 0)
        l->meter.tpm = tokens->learned * 60;
}

static int remember(struct tr_run *run, struct tr_run_lane *l,
                    struct tr_buf *line, struct tr_err *err)
{
    char name[340];
    int rc = TR_OK;

    if (l->lane->is_local || !l->lane->vt->learned)
        return TR_OK;
    if (l->meter.seen) {
        note_limits(l);
        tr_buf_clear(line);
        tr_meter_write(&l->meter, line);
        name_of(name, sizeof name, "meter", l->lane);
        TRY(tr_store_set(run->store, name, tr_buf_str(line), err));
    }
    tr_buf_clear(line);
    l->lane->vt->learned(l->lane, line);
    if (tr_buf_ok(line) && line->n) {
        name_of(name, sizeof name, "lane", l->lane);
        TRY(tr_store_set(run->store, name, tr_buf_str(line), err));
    }
    if (l->form.forced < 0) {
        name_of(name, sizeof name, "form", l->lane);
        TRY(tr_store_set(run->store, name,
                         l->form.form ? TR_STR("1") : TR_STR("0"), err));
    }
out:
    return rc;
}

int tr_run_remember(struct tr_run *run, struct tr_err *err)
{
    struct tr_buf line;
    int rc = TR_OK;

    if (run->opts.dry_run)
        return TR_OK;
    tr_buf_init(&line, 0);
    TR_EACH_LANE(run, l)
        TRY(remember(run, l, &line, err));
out:
    tr_buf_release(&line);
    return rc;
}

/* ---- open and close --------------------------------------------------- */

/* --truncate cuts at a length that depends on task and model alone, never on
 * what a run learns: the cut text is part of a verdict's key. Two bytes a
 * token is less than most languages have. */
static int choose_cut(struct tr_run *run, struct tr_run_lane *l,
                      struct tr_err *err)
{
    int64_t context = l->lane->facts.context, room;
    char line[300];
    int rc;

    if (!run->opts.truncate || l->lane->is_local)
        return TR_OK;
    if (!context) {
        snprintf(line, sizeof line, "--truncate: the context of %s is not "
                 "known, so nothing is cut; give it (context: N) in "
                 "models.yaml of trommel's configuration folder",
                 l->lane->model);
        tr_run_say(run, 1, line);
        return TR_OK;
    }
    rc = tr_run_stable_parts(run, l, TR_FORM_SCHEMA, err);
    if (rc != TR_OK)
        return rc;
    room = 2 * (context - tr_run_cap(run, l, TR_FORM_SCHEMA, 1)) -
           (int64_t)(l->system.n + l->schema.n + l->question_bytes) - 400;
    l->text_max = room > 64 ? (size_t)room : 64;
    return TR_OK;
}

/* A lane that decides takes so many labels and no more. */
static int check_question(const struct tr_task *task,
                          const struct tr_lane *lane, struct tr_err *err)
{
    uint32_t asked = task->label_count - (task->multiple && task->none >= 0);
    uint32_t max = task->multiple ? lane->questions_max : lane->options_max;

    if (!max || asked <= max)
        return TR_OK;
    return tr_fail(err, TR_CONFIG,
                   "%s takes %u labels at most%s, and the task has %u; use a "
                   "model that answers in words",
                   lane->model, max, task->multiple ? " when several may apply"
                                                    : "", asked);
}

int tr_run_lane_open(struct tr_run *run, struct tr_lane *lane,
                     struct tr_err *err)
{
    struct tr_run_lane *l = &run->lanes[run->lane_count];
    const struct tr_run_opts *o = &run->opts;
    struct tr_pace_opts pace = {
        .concurrency = o->concurrency,
        .concurrency_max = lane->concurrency_max,
    };
    char name[300];
    int rc;

    if (!lane->is_local) { /* which sends no requests */
        pace.rpm = o->rpm > 0 ? o->rpm : (double)lane->rpm;
        pace.tpm = o->tpm > 0 ? o->tpm : (double)lane->tpm;
    }
    l->lane = lane;
    l->place = run->lane_count++;
    /* What a stand-in says in a rehearsal is not the model's word; nor what
     * another file says that has the model's name. */
    snprintf(name, sizeof name, "%s\n%s%s%s", lane->model, lane->effort,
             lane->stands_in ? "\non this machine" : "", lane->fits);
    l->salt = tr_digest(NULL, tr_str_c(name));
    tr_buf_init(&l->system, 0);
    tr_buf_init(&l->schema, 0);
    tr_form_init(&l->form, o->answer_form);
    tr_meter_init(&l->meter);
    tr_pace_init(&l->pace, &pace, run->opened_at);
    tr_fair_init(&l->fair, run->opened_at);
    tr_retry_budget_init(&l->retries);
    if (o->budget_nano >= 0 && !lane->is_local && !tr_priced(&lane->facts))
        return tr_fail(err, TR_CONFIG,
                       "the price of %s is not known, so --budget cannot be "
                       "kept: add it to models.yaml in trommel's configuration "
                       "folder (input and output, USD per million tokens), or "
                       "leave --budget out", lane->model);
    /* A decision has no output cap, so paid output has no bound. */
    if (o->budget_nano >= 0 && lane->decides && lane->facts.price_out > 0)
        return tr_fail(err, TR_CONFIG,
                       "%s decides and has no output cap, so --budget cannot "
                       "be kept while models.yaml has a price for its output: "
                       "set output to 0 there, or leave --budget out",
                       lane->model);
    if (lane->decides && (rc = check_question(run->task, lane, err)) != TR_OK)
        return rc;
    return choose_cut(run, l, err);
}

void tr_run_lane_close(struct tr_run_lane *l)
{
    tr_buf_release(&l->system);
    tr_buf_release(&l->schema);
    tr_guard_release(&l->guard);
}
