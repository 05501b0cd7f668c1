/* test_encoder.c - the encoder against vectors computed without llama.cpp,
 * and the files it refuses.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* sched_setaffinity */

#include "base/mem.h"
#include "encode/encoder.h"
#include "encode/local.h"

#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DIM 384
#define TEXTS 20
#define SCRATCH "test_encoder.gguf"

static char model[1024];

static double cosine(const float *a, const float *b)
{
    double sum = 0;

    for (int i = 0; i < DIM; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* A JSON string of the data file, whose only escapes are \n and \". */
static struct tr_str unescape(char *line)
{
    char *to = line;

    for (char *p = line + 1; *p && *p != '\n'; p++) {
        if (*p == '\\')
            p++, *to++ = *p == 'n' ? '\n' : *p;
        else
            *to++ = *p;
    }
    return tr_str(line, (size_t)(to - line) - 1); /* without the last quote */
}

static struct tr_encoder *open_model(int threads)
{
    struct tr_encoder *e = NULL;
    struct tr_err err;

    if (!*model)
        skip(); /* built without the local model */
    if (tr_encoder_open(&e, model, threads, &err) != TR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(tr_encoder_dim(e), DIM);
    return e;
}

static void vectors_equal_the_reference(void **state)
{
    static char lines[TEXTS][4096];
    static float want[TEXTS][DIM], got[TEXTS][DIM];
    struct tr_str texts[TEXTS];
    struct tr_encoder *e = open_model(2);
    FILE *f = fopen(TESTS_DIR "/data/minilm-vectors.txt", "r");
    int n = 0;

    (void)state;
    assert_non_null(f);
    while (n < TEXTS && fgets(lines[n], sizeof lines[n], f)) {
        double norm;

        if (lines[n][0] == '#')
            continue;
        texts[n] = unescape(lines[n]);
        for (int i = 0; i < DIM; i++)
            assert_int_equal(fscanf(f, "%f", &want[n][i]), 1);
        assert_int_equal(fgetc(f), '\n');
        norm = sqrt(cosine(want[n], want[n]));
        for (int i = 0; i < DIM; i++)
            want[n][i] = (float)(want[n][i] / norm);
        n++;
    }
    fclose(f);
    assert_int_equal(n, TEXTS);
    assert_int_equal(tr_encoder_run(e, texts, TEXTS, *got, NULL, NULL), TR_OK);
    for (int i = 0; i < TEXTS; i++) {
        assert_true(cosine(got[i], want[i]) >= 0.999);
        assert_true(fabs(cosine(got[i], got[i]) - 1) < 1e-5);
    }
    tr_encoder_close(e);
}

static void neighbours_do_not_change_a_vector(void **state)
{
    struct tr_encoder *e = open_model(2);
    struct tr_str texts[40];
    static float together[40][DIM], alone[DIM];
    char store[40][64];

    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(store[i], sizeof store[i], "Message %d %.*s", i, i,
                 "about the weather on a long walk by the sea");
        texts[i] = tr_str_c(store[i]);
    }
    assert_int_equal(tr_encoder_run(e, texts, 40, *together, NULL, NULL), 0);
    for (int i = 0; i < 40; i += 13) {
        assert_int_equal(tr_encoder_run(e, &texts[i], 1, alone, NULL, NULL), 0);
        assert_true(cosine(together[i], alone) > 0.99999);
    }
    tr_encoder_close(e);
}

static void the_same_run_gives_the_same_bits(void **state)
{
    struct tr_encoder *e = open_model(2);
    struct tr_str texts[] = {TR_STR("one text"), TR_STR("and another one"),
                             TR_STR("the third of them is a little longer")};
    static float a[3][DIM], b[3][DIM];

    (void)state;
    assert_int_equal(tr_encoder_run(e, texts, 3, *a, NULL, NULL), 0);
    assert_int_equal(tr_encoder_run(e, texts, 3, *b, NULL, NULL), 0);
    assert_memory_equal(a, b, sizeof a);
    tr_encoder_close(e);
}

static void long_texts_are_cut_and_say_so(void **state)
{
    enum { WORDS = 600, HUGE_BYTES = 1 << 20 };
    struct tr_encoder *e = open_model(1);
    struct tr_str texts[4];
    static float v[4][DIM];
    bool cut[4];
    char *many = tr_alloc(WORDS * 2), *huge = tr_alloc(HUGE_BYTES);

    (void)state;
    for (int i = 0; i < WORDS; i++)
        many[2 * i] = 'a', many[2 * i + 1] = ' ';
    memset(huge, ' ', HUGE_BYTES);
    memcpy(huge, "short", 5);
    texts[0] = tr_str(many, 2 * 510); /* 512 tokens with both ends: it fits */
    texts[1] = tr_str(many, 2 * 511);
    texts[2] = tr_str(huge, HUGE_BYTES);
    texts[3] = TR_STR("");
    assert_int_equal(tr_encoder_run(e, texts, 4, *v, cut, NULL), TR_OK);
    assert_false(cut[0]);
    assert_true(cut[1]);
    assert_true(cut[2]);
    assert_false(cut[3]);
    assert_true(cosine(v[0], v[1]) > 0.9999);
    tr_free(many);
    tr_free(huge);
    tr_encoder_close(e);
}

static void any_bytes_give_a_finite_vector(void **state)
{
    struct tr_encoder *e = open_model(1);
    struct tr_str texts[] = {TR_STR("\xff\xfe broken \xc3"), TR_STR("a\0b"),
                             TR_STR("\xe2\x80\x8b"), TR_STR("\r\n\t")};
    static float v[4][DIM];

    (void)state;
    assert_int_equal(tr_encoder_run(e, texts, 4, *v, NULL, NULL), TR_OK);
    for (int i = 0; i < 4; i++)
        assert_true(fabs(cosine(v[i], v[i]) - 1) < 1e-5);
    tr_encoder_close(e);
}

/* A GGUF file of metadata only: strings and one number. */
static void write_gguf(const char *arch, const char *key, uint32_t value)
{
    FILE *f = fopen(SCRATCH, "wb");
    const char *pair[] = {"general.architecture", arch};
    uint32_t head[] = {3, 0, 0, key ? 2 : 1, 0}, kind = 8;

    assert_non_null(f);
    fwrite("GGUF", 1, 4, f);
    fwrite(head, sizeof head, 1, f);
    for (int i = 0; i < 2; i++) {
        uint64_t n = strlen(pair[i]);

        fwrite(&n, sizeof n, 1, f);
        fwrite(pair[i], 1, n, f);
        if (i == 0)
            fwrite(&kind, sizeof kind, 1, f);
    }
    if (key) {
        uint64_t n = strlen(key);

        kind = 4;
        fwrite(&n, sizeof n, 1, f);
        fwrite(key, 1, n, f);
        fwrite(&kind, sizeof kind, 1, f);
        fwrite(&value, sizeof value, 1, f);
    }
    fclose(f);
}

static void refusals_say_what_to_do(void **state)
{
    static const struct {
        const char *arch, *key; /* arch NULL: not a GGUF file */
        uint32_t value;
        int code;
        const char *says[2];
    } cases[] = {
        {"llama", NULL, 0, TR_CONFIG, {"llama-server", "Ollama"}},
        {"qwen3", "qwen3.pooling_type", 0, TR_CONFIG, {"generative", "Ollama"}},
        {"bert", "bert.pooling_type", 4, TR_CONFIG, {"reranking", "embedding"}},
        {"bert", "bert.pooling_type", 1, TR_CONFIG, {"damaged", SCRATCH}},
        {"qwen3", "qwen3.pooling_type", 3, TR_CONFIG, {"damaged", SCRATCH}},
        {NULL, NULL, 0, TR_CONFIG, {"not a GGUF file", SCRATCH}},
    };
    struct tr_encoder *e;
    struct tr_err err;

    (void)state;
    if (!*model)
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (cases[i].arch) {
            write_gguf(cases[i].arch, cases[i].key, cases[i].value);
        } else {
            FILE *f = fopen(SCRATCH, "wb");

            assert_non_null(f);
            fputs("id,text,label\n", f);
            fclose(f);
        }
        assert_int_equal(tr_encoder_open(&e, SCRATCH, 1, &err), cases[i].code);
        assert_null(e);
        for (int k = 0; k < 2; k++)
            if (!strstr(err.text, cases[i].says[k]))
                fail_msg("case %zu: \"%s\" lacks \"%s\"", i, err.text,
                         cases[i].says[k]);
    }
    unlink(SCRATCH);
    assert_int_equal(tr_encoder_open(&e, "no/such.gguf", 1, &err), TR_NOINPUT);
    assert_non_null(strstr(err.text, "no/such.gguf"));
    assert_int_equal(mkfifo(SCRATCH, 0600), 0);
    assert_int_equal(tr_encoder_open(&e, SCRATCH, 1, &err), TR_CONFIG);
    assert_non_null(strstr(err.text, "no regular file"));
    unlink(SCRATCH);
}

/* A container, a batch system or taskset leaves a process some of the cores;
 * memory for all of them may be more than it is given. */
static void only_cores_that_may_be_used_are(void **state)
{
    struct tr_encoder *e;
    cpu_set_t all, one;
    int cpu = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    e = open_model(0);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(tr_encoder_threads(e), 1);
    tr_encoder_close(e);
}

/* As a download leaves it that broke off in a file of full size, and worse. */
static void a_file_without_weights_gives_no_vectors(void **state)
{
    static const int fill[] = {0, 0xff}; /* zeros; no numbers */
    static const struct tr_str text = {"one text", 8};
    static float v[DIM];
    char *bytes = tr_alloc(1 << 20);
    struct tr_encoder *e;
    struct tr_err err;
    long size, tail;
    FILE *in, *out;
    size_t n;

    (void)state;
    if (!*model)
        skip();
    for (int i = 0; i < 2; i++) {
        in = fopen(model, "rb");
        out = fopen(SCRATCH, "w+b");
        assert_true(in && out);
        while ((n = fread(bytes, 1, 1 << 20, in)) > 0)
            fwrite(bytes, 1, n, out);
        size = ftell(out);
        memset(bytes, fill[i], 1 << 20);
        for (tail = size / 10; tail > 0; tail -= 1 << 20) {
            fseek(out, -tail, SEEK_END);
            fwrite(bytes, 1, tail < 1 << 20 ? (size_t)tail : 1 << 20, out);
        }
        fclose(in);
        fclose(out);
        assert_int_equal(tr_encoder_open(&e, SCRATCH, 1, &err), TR_OK);
        assert_int_equal(tr_encoder_run(e, &text, 1, v, NULL, &err), TR_CONFIG);
        assert_non_null(strstr(err.text, "damaged"));
        tr_encoder_close(e);
    }
    tr_free(bytes);
    unlink(SCRATCH);
}

static void without_llama_it_says_how_to_get_it(void **state)
{
    struct tr_encoder *e;
    struct tr_err err;

    (void)state;
    if (tr_encoder_open(&e, "no/such.gguf", 1, &err) == TR_NOINPUT)
        skip(); /* this build has the local model */
    assert_int_equal(err.code, TR_CONFIG);
    assert_non_null(strstr(err.text, "TROMMEL_LOCAL"));
    assert_non_null(strstr(err.text, "--model"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_equal_the_reference),
        cmocka_unit_test(neighbours_do_not_change_a_vector),
        cmocka_unit_test(the_same_run_gives_the_same_bits),
        cmocka_unit_test(long_texts_are_cut_and_say_so),
        cmocka_unit_test(any_bytes_give_a_finite_vector),
        cmocka_unit_test(refusals_say_what_to_do),
        cmocka_unit_test(only_cores_that_may_be_used_are),
        cmocka_unit_test(a_file_without_weights_gives_no_vectors),
        cmocka_unit_test(without_llama_it_says_how_to_get_it),
    };

    if (!tr_local_find_model(model, sizeof model)) {
#ifdef TROMMEL_LOCAL /* it is built with its model: nothing may be skipped */
        fprintf(stderr, "the local model is not beside the program\n");
        return 1;
#endif
        model[0] = '\0';
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
