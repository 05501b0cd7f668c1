/* play.c - the simulated provider plays the scripts of tests/hostile.
 *
 * What a script does to a request is worked out here from HTTP's rules alone,
 * without sockets and without libcurl: what a client must make of the bytes,
 * and of how they end. tests/hostile/hostile.py compares the outcomes with
 * those of real lanes; so the simulator's network cannot drift away from the
 * real one. faults.txt says what the steps are.
 *
 * SPDX-License-Identifier: MIT */
#include "base/bounds.h"
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    STEPS_MAX = 40, CONNECTIONS_MAX = 8, LINE_MAX_BYTES = 100000,
    PIECE = 256 << 10
};

struct step {
    char word[12];      /* "": data */
    struct tr_str data; /* in the script's arena */
};

struct sim_playbook {
    char name[40], expect[200];
    int64_t deadline_ms, pad;
    bool real;          /* not for us */
    struct step steps[CONNECTIONS_MAX][STEPS_MAX + 1];
    int connection_count;
    struct tr_buf text; /* of all data */
    /* while it plays */
    int connection, at; /* the one in use, its next step; -1: none yet */
    bool open;
    int64_t ms;         /* into the call */
    bool eof, reset;
    struct tr_buf in, body, headers;
    int status;
    size_t used;        /* of in, by the response */
    size_t header_bytes;
};

/* ---- reading responses ------------------------------------------------- */

enum found { MORE, WHOLE, BROKEN, TOO_BIG };

/* The line at *p, without its end; false: not whole yet. */
static bool take_line(struct tr_str *p, struct tr_str *line)
{
    const char *end = p->n ? memchr(p->p, '\n', p->n) : NULL;

    if (!end)
        return false;
    *line = tr_str(p->p, (size_t)(end - p->p));
    *p = tr_str(end + 1, p->n - line->n - 1);
    if (line->n && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

static bool is_named(struct tr_str line, const char *name, struct tr_str *value)
{
    size_t n = strlen(name);

    if (line.n <= n || line.p[n] != ':')
        return false;
    for (size_t i = 0; i < n; i++)
        if ((line.p[i] | 0x20) != name[i])
            return false;
    *value = tr_str_trim(tr_str(line.p + n + 1, line.n - n - 1));
    return true;
}

struct framing {
    int64_t length; /* -1: to the end */
    bool chunked;
};

static enum found take_length(struct framing *f, struct tr_str value)
{
    f->length = 0;
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return BROKEN;
        if (f->length > INT64_MAX / 10 - 9) {
            f->length = -1; /* no number we know: to the end */
            return WHOLE;
        }
        f->length = f->length * 10 + (value.p[i] - '0');
    }
    return WHOLE;
}

static enum found count_headers(struct sim_playbook *s, struct tr_str line)
{
    s->header_bytes += line.n + 2;
    if (s->header_bytes > TR_HEADER_BYTES_MAX)
        return TOO_BIG;
    return line.n && memchr(line.p, '\0', line.n) ? BROKEN : WHOLE;
}

/* As a transport hands it on: the name in small letters, and only what the
 * final response says. */
static void keep_header(struct sim_playbook *s, struct tr_str line)
{
    size_t name_n = (size_t)((const char *)memchr(line.p, ':', line.n) -
                             line.p);

    if (s->status < 200)
        return;
    for (size_t i = 0; i < name_n; i++) {
        bool upper = line.p[i] >= 'A' && line.p[i] <= 'Z';

        tr_buf_addc(&s->headers, upper ? (char)(line.p[i] | 0x20) : line.p[i]);
    }
    tr_buf_addz(&s->headers, ": ");
    tr_buf_adds(&s->headers, tr_str_trim(tr_str(line.p + name_n + 1,
                                                line.n - name_n - 1)));
    tr_buf_addc(&s->headers, '\n');
}

static enum found read_headers(struct sim_playbook *s, struct tr_str *p,
                               struct framing *f)
{
    struct tr_str line, value;
    enum found found;

    *f = (struct framing){.length = -1};
    while (take_line(p, &line)) {
        found = count_headers(s, line);
        if (found != WHOLE || !line.n)
            return found;
        if (line.p[0] == ' ' || line.p[0] == '\t')
            continue;
        if (!memchr(line.p, ':', line.n))
            return BROKEN;
        if (is_named(line, "content-length", &value) &&
            take_length(f, value) == BROKEN)
            return BROKEN;
        if (is_named(line, "transfer-encoding", &value))
            f->chunked = tr_str_eq_c(value, "chunked");
        keep_header(s, line);
    }
    return p->n > LINE_MAX_BYTES ? BROKEN : MORE;
}

static enum found read_status(struct sim_playbook *s, struct tr_str *p)
{
    struct tr_str line = *p;

    if (memcmp(p->p, "HTTP/", p->n < 5 ? p->n : 5) != 0)
        return BROKEN;
    if (!take_line(p, &line))
        return p->n > LINE_MAX_BYTES ? BROKEN : MORE;
    if (line.n < 12 || memcmp(line.p, "HTTP/1.", 7) != 0 ||
        (line.n > 12 && line.p[12] != ' '))
        return BROKEN;
    s->status = 0;
    for (int i = 9; i < 12; i++) {
        if (line.p[i] < '0' || line.p[i] > '9')
            return BROKEN;
        s->status = s->status * 10 + (line.p[i] - '0');
    }
    return s->status < 100 || s->status == 101 ? BROKEN : WHOLE;
}

static enum found read_chunks(struct sim_playbook *s, struct tr_str *p)
{
    struct tr_str line;

    for (;;) {
        size_t n = 0, digits = 0;

        if (!take_line(p, &line))
            return MORE;
        for (; digits < line.n; digits++) {
            const char *hex = "0123456789abcdef";
            const char *at = memchr(hex, line.p[digits] | 0x20, 16);

            if (!at)
                break;
            n = n * 16 + (size_t)(at - hex);
        }
        if (!digits || digits > 15)
            return BROKEN;
        if (!n)
            break;
        if (s->body.n + (p->n < n ? p->n : n) > TR_REPLY_BYTES_MAX)
            return TOO_BIG;
        if (p->n < n + 2)
            return MORE;
        tr_buf_add(&s->body, p->p, n);
        if (p->p[n] != '\r' || p->p[n + 1] != '\n')
            return BROKEN;
        *p = tr_str(p->p + n + 2, p->n - n - 2);
    }
    while (take_line(p, &line)) {
        enum found found = count_headers(s, line);

        if (found != WHOLE || !line.n)
            return found;
    }
    return MORE;
}

static enum found read_body(struct sim_playbook *s, struct tr_str *p,
                            const struct framing *f)
{
    size_t n = p->n;

    if (s->status == 204 || s->status == 304)
        return WHOLE;
    if (f->chunked)
        return read_chunks(s, p);
    if (f->length >= 0 && n > (size_t)f->length)
        n = (size_t)f->length;
    if (n > TR_REPLY_BYTES_MAX)
        return TOO_BIG;
    if (f->length >= 0 ? n < (size_t)f->length : !s->eof)
        return MORE;
    tr_buf_add(&s->body, p->p, n);
    *p = tr_str(p->p + n, p->n - n);
    return WHOLE;
}

/* What came so far, from its beginning. */
static enum found read_response(struct sim_playbook *s)
{
    struct tr_str p = tr_buf_str(&s->in);
    struct framing framing;
    enum found found;

    tr_buf_clear(&s->body);
    s->header_bytes = 0;
    s->status = 0;
    do {
        tr_buf_clear(&s->headers);
        if (!p.n)
            return MORE;
        found = read_status(s, &p);
        if (found == WHOLE)
            found = read_headers(s, &p, &framing);
        if (found != WHOLE)
            return found;
    } while (s->status < 200);
    found = read_body(s, &p, &framing);
    s->used = s->in.n - p.n;
    if (found == WHOLE && !framing.chunked && framing.length < 0 &&
        s->status != 204 && s->status != 304)
        s->open = false;
    return found;
}

/* ---- playing ----------------------------------------------------------- */

static bool is(const struct step *step, const char *word)
{
    return strcmp(step->word, word) == 0;
}

static struct tr_str data_of(struct step **step)
{
    return (++*step)->data;
}

/* n times the data, or until the client has seen enough. */
static enum found hear(struct sim_playbook *s, struct tr_str data, int64_t n,
                       int64_t pause_ms)
{
    enum found found = MORE;

    while (n > 0 && found == MORE && s->ms <= s->deadline_ms) {
        for (size_t had = s->in.n; n > 0 && s->in.n - had < PIECE; n--) {
            tr_buf_adds(&s->in, data);
            s->ms += pause_ms;
            if (pause_ms || !tr_buf_ok(&s->in))
                break;
        }
        if (!tr_buf_ok(&s->in)) /* a line that never ends */
            s->ms = s->deadline_ms + 1;
        else
            found = read_response(s);
    }
    return found;
}

static void add_answer(struct sim_playbook *s)
{
    tr_buf_addf(&s->in, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                s->text.n);
    tr_buf_add(&s->in, s->text.p, s->text.n);
}

/* One step; MORE: go on. */
static enum found play_step(struct sim_playbook *s, struct step **step)
{
    const char *word = (*step)->word;
    struct tr_str data;
    int64_t n;

    if (strcmp(word, "send") == 0)
        return hear(s, data_of(step), 1, 0);
    if (strcmp(word, "chunk") == 0) {
        data = data_of(step);
        tr_buf_addf(&s->in, "%zx\r\n", data.n);
        tr_buf_adds(&s->in, data);
        return hear(s, TR_STR("\r\n"), 1, 0);
    }
    if (strcmp(word, "answer") == 0) {
        add_answer(s);
        return read_response(s);
    }
    if (strcmp(word, "forever") == 0)
        return hear(s, data_of(step), INT64_MAX, 0);
    if (strcmp(word, "times") == 0 || strcmp(word, "drip") == 0) {
        n = atoll((++*step)->word);
        data = data_of(step);
        return word[0] == 't' ? hear(s, data, n, 0)
                              : hear(s, data, INT64_MAX, n);
    }
    if (strcmp(word, "wait") == 0)
        s->ms += atoll((++*step)->word);
    else if (strcmp(word, "upto") == 0)
        ++*step;
    else if (strcmp(word, "hang") == 0)
        s->ms = s->deadline_ms + 1;
    else if (strcmp(word, "rst") == 0)
        s->reset = true;
    else if (strcmp(word, "fin") == 0 || word[0] == '\0') {
        s->eof = true;
        return read_response(s);
    }
    return MORE; /* read, line: it is all there */
}

static bool waits_for_us(const struct step *step)
{
    return is(step, "read") || is(step, "line") || is(step, "upto") ||
           is(step, "hang");
}

/* What the server does before it waits for us again: a connection with
 * anything on it, or its end, is used no more. */
static void look_after(struct sim_playbook *s, struct step *step)
{
    if (s->used < s->in.n)
        s->open = false;
    while (is(step, "wait"))
        step += 2;
    if (!waits_for_us(step))
        s->open = false;
    s->at = (int)(step - s->steps[s->connection]);
}

void sim_playbook_play(struct sim_playbook *s, int64_t deadline_ms,
                     struct sim_played *out)
{
    struct step *step;
    enum found found = MORE;

    if (!s->open) {
        s->at = 0;
        if (s->connection < s->connection_count - 1)
            s->connection++;
    }
    step = &s->steps[s->connection][s->at];
    *out = (struct sim_played){.net = TR_NET_CONNECT};
    s->deadline_ms = deadline_ms;
    s->ms = 0;
    if (is(step, "full"))
        out->ms = deadline_ms;
    if (is(step, "full") || is(step, "closed"))
        return;
    s->open = true;
    s->eof = s->reset = false;
    tr_buf_clear(&s->in);
    read_response(s);
    while (found == MORE && !s->eof && !s->reset && s->ms <= deadline_ms) {
        found = play_step(s, &step);
        step++;
    }
    out->net = found == WHOLE     ? TR_NET_OK
               : found == BROKEN  ? TR_NET_OTHER
               : found == TOO_BIG ? TR_NET_TOO_BIG
               : s->eof || s->reset ? TR_NET_CUT
                                    : TR_NET_TIMEOUT;
    if (out->net == TR_NET_OK)
        look_after(s, step);
    else
        s->open = false;
    out->ms = s->ms < deadline_ms ? s->ms : deadline_ms;
    out->status = s->status;
    out->headers = tr_buf_str(&s->headers);
    out->body = tr_buf_str(&s->body);
}

/* ---- the table --------------------------------------------------------- */

/* Adds a quoted string to text, as server.py does. */
static struct tr_str unquote(struct sim_playbook *s, struct tr_str q)
{
    size_t from = s->text.n, body_n = 0;
    struct tr_str body = tr_str(s->text.p, s->used);

    body_n = body.n;
    for (size_t i = 0; i < q.n; i++) {
        char c = q.p[i], hex[3] = "";

        if (c != '\\' && c != '%') {
            tr_buf_addc(&s->text, c);
            continue;
        }
        c = q.p[++i];
        if (q.p[i - 1] == '%' && c == 'n')
            tr_buf_addf(&s->text, "%zu", body_n);
        else if (q.p[i - 1] == '%' && c == 'b')
            tr_buf_add(&s->text, s->text.p, body_n);
        else if (q.p[i - 1] == '%')
            tr_buf_addc(&s->text, c == 'o' ? '1' : c == '%' ? '%' : '\x1f');
        else if (c == 'x' && i + 2 < q.n + 0) {
            memcpy(hex, q.p + i + 1, 2);
            tr_buf_addc(&s->text, (char)strtol(hex, NULL, 16));
            i += 2;
        } else
            tr_buf_addc(&s->text, c == 'r'   ? '\r'
                                  : c == 'n' ? '\n'
                                  : c == 't' ? '\t'
                                  : c == '0' ? '\0'
                                             : c);
    }
    return tr_str(s->text.p + from, s->text.n - from);
}

static void read_options(struct sim_playbook *s, char *text)
{
    for (char *o = strtok(text, ","); o; o = strtok(NULL, ",")) {
        s->real = s->real || strcmp(o, "real") == 0;
        if (strncmp(o, "deadline=", 9) == 0)
            s->deadline_ms = atoll(o + 9);
    }
}

static bool read_step(struct sim_playbook *s, const char **p, int *at)
{
    struct step *step;
    const char *from;

    *p += strspn(*p, " ");
    if (!**p || *at == STEPS_MAX)
        return false;
    step = &s->steps[s->connection_count - 1][*at];
    from = *p;
    if (*from == '"') {
        const char *end = ++from;

        while (*end && *end != '"')
            end += *end == '\\' && end[1] ? 2 : 1;
        *p = *end ? end + 1 : end;
        step->data = unquote(s, tr_str(from, (size_t)(end - from)));
        ++*at;
        return true;
    }
    *p += strcspn(*p, " ");
    if (*from == '/' && *p == from + 1) {
        s->connection_count++;
        *at = 0;
        return s->connection_count <= CONNECTIONS_MAX;
    }
    snprintf(step->word, sizeof step->word, "%.*s", (int)(*p - from), from);
    ++*at;
    return true;
}

/* NAME EXPECT OPTIONS : STEPS */
static bool read_script(struct sim_playbook *s, const char *line,
                        struct tr_str body)
{
    char options[200];
    const char *steps = strstr(line, " : ");
    int at = 0;

    if (!steps || sscanf(line, "%39s %199s %199s", s->name, s->expect,
                         options) != 3)
        return false;
    tr_buf_init(&s->text, 0);
    tr_buf_init(&s->in, 2 * TR_REPLY_BYTES_MAX);
    tr_buf_init(&s->body, 2 * TR_REPLY_BYTES_MAX);
    tr_buf_init(&s->headers, 0);
    /* Room for all: what data points at must not move. */
    tr_buf_adds(&s->text, body);
    for (const char *c = steps; *c; c++)
        tr_buf_adds(&s->text, *c == '%' ? body : TR_STR("."));
    s->text.n = s->used = body.n;
    s->deadline_ms = 5000;
    s->connection_count = 1;
    s->connection = -1;
    read_options(s, options);
    for (const char *p = steps + 3; read_step(s, &p, &at);)
        ;
    s->text.n = body.n; /* the rest is where steps point */
    return true;
}

static void release(struct sim_playbook *s)
{
    tr_buf_release(&s->text);
    tr_buf_release(&s->in);
    tr_buf_release(&s->body);
    tr_buf_release(&s->headers);
}

/* ---- all of it --------------------------------------------------------- */

static void ask(struct sim *w, struct tr_lane *lane, struct tr_buf *body,
                int64_t deadline_ms)
{
    static const char *const billing[] = {"none", "usage", "unknown"};
    struct tr_reply reply = {0};
    struct tr_err err;

    if (lane->vt->start(lane,
                        &(struct tr_shot){.tag = 1, .body = tr_buf_str(body),
                                          .deadline_ms = deadline_ms},
                        &err) != TR_OK) {
        printf("%s", err.text);
        return;
    }
    w->now = sim_provider_next(w);
    if (!lane->vt->next(lane, &reply)) {
        printf("nothing");
        return;
    }
    printf("%s/%s", tr_outcome_word(reply.outcome), billing[reply.billing]);
    if (reply.retry_after_ms >= 0)
        printf("/%lld", (long long)reply.retry_after_ms);
}

static void play_all(struct sim *w, struct sim_playbook *s)
{
    const struct tr_model_facts facts = {0};
    int64_t deadline_ms = s->deadline_ms;
    struct tr_lane *lane = NULL;
    struct tr_buf body;
    struct tr_err err;

    memset(w, 0, sizeof *w);
    w->o.lanes = 1;
    w->playbook = s;
    tr_buf_init(&body, 0);
    sim_provider_init(w);
    printf("%s ", s->name);
    if (tr_lane_over(&lane, &tr_openai, "openai/hostile", &facts,
                     &w->providers[0].transport, &err) == TR_OK &&
        lane->vt->encode(lane,
                         &(struct tr_call){.user = TR_STR("[101,\"x\"]"),
                                           .cap_tokens = 50},
                         &body, &err) == TR_OK) {
        for (const char *c = s->expect; c; c = strchr(c, ',')) {
            if (*c == ',')
                printf("%c", *c++);
            ask(w, lane, &body, deadline_ms);
        }
    }
    printf("\n");
    if (lane)
        lane->vt->close(lane);
    sim_provider_release(w);
    tr_buf_release(&body);
}

int sim_playbook_table(const char *path)
{
    static struct sim w;
    static struct sim_playbook s;
    static char line[64 << 10];
    FILE *f = fopen(path, "r");
    struct tr_buf body;

    if (!f) {
        fprintf(stderr, "sim: %s cannot be read\n", path);
        return 2;
    }
    tr_buf_init(&body, 0);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "body ", 5) == 0)
            tr_buf_addz(&body, line + 5);
        if (!line[0] || line[0] == '#' || strncmp(line, "body ", 5) == 0)
            continue;
        memset(&s, 0, sizeof s);
        if (!read_script(&s, line, tr_buf_str(&body)))
            printf("not understood: %s\n", line);
        else if (!s.real)
            play_all(&w, &s);
        release(&s);
    }
    tr_buf_release(&body);
    fclose(f);
    return 0;
}
