/* bench_pace.c - how much of a provider's limit is used, and at what price in
 * refusals, in virtual time: our pace, AIMD, and a fixed share of the limit.
 *
 *     bench_pace                     the whole table, some minutes
 *     bench_pace ours                without the others
 *     bench_pace steady RATE BURST [STYLE]
 *     bench_pace change RATE BURST FACTOR [STYLE]
 *     bench_pace window RATE PHASE
 *     bench_pace noise               refusals that no limit explains
 *     bench_pace slots N             one cell
 *     -r MS   round trip of a refusal (50)     -v   second by second
 *
 * STYLE: 0 limit a minute, 1 size of the bucket, 2 a smaller bucket is hidden,
 * 3 only what remains, 4 no headers (default).
 *
 * SPDX-License-Identifier: MIT */
#include "../tests/unit/plan/pace_world.h"

#include <stdio.h>
#include <string.h>

#define LATENCY_S 0.7
#define ROOM 32768

static bool verbose;
static uint64_t seed = 11;
static double refusal_s = 0.05;

/* ---- the others ------------------------------- */

/* A window that grows by one a round trip and halves on a refusal. */
struct aimd {
    double window;
    bool slow_start;
    int in_flight;
    int64_t cut_at;
};

static int64_t aimd_wait(void *ctx, int64_t tokens, int64_t now)
{
    struct aimd *a = ctx;
    (void)tokens;
    (void)now;

    return a->in_flight < (int)a->window ? 0 : TR_PACE_FULL;
}

static void aimd_sent(void *ctx, int64_t tokens, int64_t now)
{
    (void)tokens;
    (void)now;
    ((struct aimd *)ctx)->in_flight++;
}

static void aimd_reply(void *ctx, const struct tr_pace_news *news, int64_t now)
{
    struct aimd *a = ctx;

    a->in_flight--;
    if (news->outcome == TR_OUT_OK) {
        a->window += a->slow_start ? 1 : 1 / a->window;
    } else if (news->sent_at >= a->cut_at) {
        a->cut_at = now;
        a->slow_start = false;
        a->window = fmax(1, a->window / 2);
    }
}

/* Three quarters of the limit as it was when the program began. */
struct fixed_share {
    double rate;
    int64_t due_at;
};

static int64_t fixed_wait(void *ctx, int64_t tokens, int64_t now)
{
    struct fixed_share *f = ctx;
    (void)tokens;

    return f->due_at > now ? f->due_at - now : 0;
}

static void fixed_sent(void *ctx, int64_t tokens, int64_t now)
{
    struct fixed_share *f = ctx;
    (void)tokens;

    f->due_at = now + (int64_t)(TR_S / f->rate);
}

static void fixed_reply(void *ctx, const struct tr_pace_news *news, int64_t now)
{
    (void)ctx;
    (void)news;
    (void)now;
}

/* ---- cells ------------------------------- */

enum who { OURS, AIMD, FIXED, WHO };
static const char *const names[WHO] = {"trommel", "AIMD", "75 %"};

static void run(struct world_result *r, const struct world *w, enum who who,
                double length_s)
{
    static struct tr_pace pace;
    struct aimd aimd = {.window = 4, .slow_start = true};
    struct fixed_share fixed = {.rate = 0.75 * w->rate};
    struct world_client c;
    struct tr_pace_opts opts = {.room = ROOM};

    tr_pace_init(&pace, &opts, WORLD_START);
    c = world_pace(&pace);
    if (who == AIMD)
        c = (struct world_client){&aimd, aimd_wait, aimd_sent, aimd_reply};
    if (who == FIXED)
        c = (struct world_client){&fixed, fixed_wait, fixed_sent, fixed_reply};
    world_run(r, w, &c, seed, length_s);
    for (int i = 0; verbose && i < r->seconds; i++)
        printf("%4d served %6.0f refused %4d\n", i, r->served[i],
               r->refused[i]);
}

static int missed;

static const char *mark(bool ok)
{
    missed += !ok;
    return ok ? " " : "*";
}

static const double limits[] = {1, 5, 50, 500, 5000};
static const double bursts[] = {1, 10, 60};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct world_result result;

static void steady(double rate, double burst_s, enum world_style style,
                   enum who who)
{
    struct world w = {.rate = rate, .burst_s = burst_s, .style = style,
                      .latency_s = LATENCY_S, .refusal_s = refusal_s};
    double first, later;
    int64_t refusals, allowed;
    bool told = style != WORLD_SILENT;
    bool ours = who == OURS && style != WORLD_REMAINING;

    run(&result, &w, who, 600);
    first = world_used(&result, &w, 0, 600);
    later = world_used(&result, &w, told ? 30 : 60, 600);
    refusals = world_refused(&result, 0, 600);
    allowed = (int64_t)fmax(5, 0.001 * (double)result.requests);
    printf("%-8s %6.0f/s %3.0f s  %7.2f%s %7.2f%s %6lld%s\n", names[who], rate,
           burst_s, 100 * first,
           ours && !told ? mark(first >= (rate > 500 ? 0.96 : 0.985)) : " ",
           100 * later,
           ours ? mark(later >= (told ? 0.995 : 0.997)) : " ",
           (long long)refusals,
           ours ? mark(refusals <= (told ? 5 : allowed)) : " ");
}

static void change(double rate, double burst_s, double factor,
                   enum world_style style, enum who who)
{
    struct world w = {.rate = rate, .burst_s = burst_s, .style = style,
                      .latency_s = LATENCY_S, .refusal_s = refusal_s,
                      .changes_at_s = 300, .factor = factor};
    int back;

    run(&result, &w, who, 600);
    back = world_back(&result, &w);
    printf("%-8s %6.0f/s %3.0f s  x%-5g %5d s%s  %7.2f   %6lld\n", names[who],
           rate, burst_s, factor, back,
           who == OURS ? mark(back >= 0 && back <= (factor < 1 ? 5 : 90)) : " ",
           100 * world_used(&result, &w, 300, 600),
           (long long)world_refused(&result, 300, 600));
}

static void window(double rate, double phase_s, enum who who)
{
    struct world w = {.rate = rate, .burst_s = 60, .style = WORLD_SILENT,
                      .fixed = true, .phase_s = phase_s,
                      .latency_s = LATENCY_S, .refusal_s = refusal_s};
    double used, few;
    int64_t refusals;

    run(&result, &w, who, 900);
    few = fmax(5, 0.009 * (double)result.requests);
    used = world_used(&result, &w, 0, 900);
    refusals = world_refused(&result, 0, 900);
    printf("%-8s %6.0f/s at %2.0f s  %7.2f%s %6lld (%.2f %%)%s\n", names[who],
           rate, phase_s, 100 * used, who == OURS ? mark(used >= 0.96) : " ",
           (long long)refusals,
           100 * (double)refusals / (double)result.requests,
           who == OURS ? mark((double)refusals <= few) : " ");
}

/* A server of one's own: it refuses nothing, it queues. */
static void own_server(int servers, enum who who)
{
    struct world w = {.rate = 1e9, .burst_s = 60, .style = WORLD_SILENT,
                      .latency_s = 0.5, .refusal_s = 0.001,
                      .servers = servers};
    double served = 0, ideal;

    run(&result, &w, who, 300);
    for (int i = 60; i < 300; i++)
        served += result.served[i];
    ideal = 240 * servers / (0.5 * exp(0.08)); /* mean of the log-normal */
    printf("%-8s %3d slots  %6.2f%s  mean latency %5.2f s (alone 0.54)  "
           "most in flight %d\n", names[who], servers, 100 * served / ideal,
           who == OURS ? mark(served >= 0.9 * ideal) : " ",
           result.latency_s, result.most_in_flight);
}

/* A share of all requests is refused, whatever their rate. */
static void noisy(struct world w, const char *what, enum who who)
{
    enum { SEEDS = 5 };
    double early = 0, later = 0, refused = 0, requests = 0, ideal;
    bool slots = w.servers > 0;

    ideal = slots ? w.servers / (w.latency_s * exp(0.08)) : w.rate;
    for (seed = 11; seed < 11 + SEEDS; seed++) {
        run(&result, &w, who, 600);
        for (int i = 0; i < 600; i++)
            *(i < 60 ? &early : &later) += result.served[i] / SEEDS / ideal;
        refused += (double)result.refusals;
        requests += (double)result.requests;
    }
    printf("%-8s %-22s %5.0f/s %3.0f s %3.0f %%  %7.2f %7.2f%s  %6.2f %%\n",
           names[who], what, ideal, slots ? 0 : w.burst_s, 100 * w.noise,
           100 * early / 60, 100 * later / 540,
           who == OURS ? mark(later >= 0.9 * 540) : " ",
           100 * refused / requests);
    seed = 11;
}

/* No limit but 32 at a time; then limits below that. */
static void noises(enum who who)
{
    static const double shares[] = {0.02, 0.07, 0.2};
    static const double rates[] = {5, 50, 500};
    struct world w = {.rate = 1e9, .burst_s = 60, .style = WORLD_SILENT,
                      .latency_s = 0.5, .refusal_s = 0.02, .servers = 32};

    for (size_t i = 0; i < COUNT(shares); i++) {
        w.noise = shares[i];
        noisy(w, "429", who);
        w.overloaded = true;
        noisy(w, "503", who);
        w.overloaded = false;
    }
    w.noise = 0.05;
    w.asks_s = 1;
    noisy(w, "429, Retry-After 1", who);
    w.asks_s = 0;
    w.latency_s = LATENCY_S;
    w.refusal_s = refusal_s;
    w.servers = 0;
    for (size_t r = 0; r < COUNT(rates); r++)
        for (size_t b = 0; b < COUNT(bursts); b++) {
            w.rate = rates[r];
            w.burst_s = bursts[b];
            noisy(w, "429 and a limit", who);
        }
    w.rate = 50;
    w.fixed = true;
    noisy(w, "429 and windows", who);
    w.fixed = false;
    w.burst_s = 10;
    w.overloaded = true;
    noisy(w, "503 and a limit", who);
    w.style = WORLD_PER_MINUTE;
    noisy(w, "503 and a stated limit", who);
    w.overloaded = false;
    noisy(w, "429 and a stated limit", who);
}

#define EACH(i, a) for (size_t i = 0; i < COUNT(a); i++)

/* A header tells the size of the bucket in whole requests. */
static bool is_whole(double size, enum world_style style)
{
    return style != WORLD_PER_BUCKET || (size >= 1 && size == floor(size));
}

static void table(bool ours_only)
{
    static const double factors[] = {0.25, 0.5, 2, 4};
    static const double window_rates[] = {1, 10, 50, 500};
    static const enum world_style told[] = {
        WORLD_PER_MINUTE, WORLD_PER_BUCKET, WORLD_HIDDEN, WORLD_REMAINING,
        WORLD_SILENT};
    static const char *const style_names[] = {
        "headers: limit a minute", "headers: size of the bucket",
        "headers: a smaller bucket is hidden",
        "headers: only what remains (no mark)", "no headers"};
    static const int slots[] = {4, 32, 128};
    enum who last = ours_only ? AIMD : WHO;

    EACH(s, told) {
        printf("\n%s, ten minutes\n%-8s %8s %5s  %8s %8s %7s\n",
               style_names[s], "", "limit", "burst", "all %",
               told[s] == WORLD_SILENT ? "60 s on" : "30 s on", "refused");
        for (enum who who = OURS; who < (s == 4 ? last : AIMD); who++)
            EACH(r, limits) EACH(b, bursts)
                steady(limits[r], bursts[b], told[s], who);
    }
    for (int s = 1; s <= 4; s += 3) {
        printf("\n%s, the limit changes after five minutes\n"
               "%-8s %8s %5s  %6s %8s %8s %8s\n", style_names[s], "", "limit",
               "burst", "change", "97 % in", "used %", "refused");
        for (enum who who = OURS; who < (s == 4 ? last : AIMD); who++)
            EACH(r, limits) EACH(b, bursts) EACH(f, factors)
                if (limits[r] * factors[f] <= 10000 &&
                    is_whole(limits[r] * factors[f] * bursts[b], told[s]))
                    change(limits[r], bursts[b], factors[f], told[s], who);
    }
    printf("\nno headers, fixed windows of a minute, a quarter of an hour\n");
    for (enum who who = OURS; who < last; who++)
        EACH(r, window_rates)
            for (double phase = 0; phase < 60; phase += 25)
                window(window_rates[r], phase, who);
    printf("\na server of one's own\n");
    for (enum who who = OURS; who < (ours_only ? AIMD : FIXED); who++)
        EACH(i, slots) own_server(slots[i], who);
    printf("\na share refused whatever the rate, ten minutes\n"
           "%-8s %-24s %7s %5s %5s  %7s %7s   %8s\n", "", "", "limit", "burst",
           "share", "60 s", "60 s on", "refused");
    for (enum who who = OURS; who < (ours_only ? AIMD : FIXED); who++)
        noises(who);
}

static double number(int argc, char **argv, int i, double otherwise)
{
    return i < argc ? atof(argv[i]) : otherwise;
}

static enum world_style style_at(int argc, char **argv, int i)
{
    return (enum world_style)number(argc, argv, i, WORLD_SILENT);
}

int main(int argc, char **argv)
{
    const char *what;

    for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
        if (!strcmp(argv[1], "-v")) {
            verbose = true;
        } else if (!strcmp(argv[1], "-r") && argc > 2) {
            refusal_s = atof(argv[2]) / 1000;
            argc--;
            argv++;
        }
    }
    what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "steady") && argc > 3)
        steady(atof(argv[2]), atof(argv[3]), style_at(argc, argv, 4), OURS);
    else if (!strcmp(what, "change") && argc > 4)
        change(atof(argv[2]), atof(argv[3]), atof(argv[4]),
               style_at(argc, argv, 5), OURS);
    else if (!strcmp(what, "window") && argc > 3)
        window(atof(argv[2]), atof(argv[3]), OURS);
    else if (!strcmp(what, "slots") && argc > 2)
        own_server(atoi(argv[2]), OURS);
    else if (!strcmp(what, "noise"))
        noises(OURS);
    else
        table(!strcmp(what, "ours"));
    printf("\n%d figures miss their mark (*)\n", missed);
    return 0;
}
