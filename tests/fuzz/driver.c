/* driver.c - gives a fuzz target the files it is told to, without libFuzzer:
 * how every build replays the corpus.
 *
 *   fuzz_csv [-v] PATH...     files, or folders with all that is in them
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_BYTES_MAX (1 << 20) /* larger files are no seeds of ours */

/* A target without one needs none. */
#pragma weak LLVMFuzzerInitialize

static char current[4096]; /* for who reads of a check that failed */
static bool loud;
static long count;

static void say_which(int sig)
{
    static const char words[] = "while reading ";

    if (write(2, words, sizeof words - 1) < 0 ||
        write(2, current, strlen(current)) < 0 || write(2, "\n", 1) < 0)
        _exit(1);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void fail(const char *path)
{
    perror(path);
    exit(2);
}

/* In memory of exactly its size, so that a sanitizer sees a byte too far. */
static void give_file(const char *path, size_t size)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(size ? size : 1);

    if (!f || !data || fread(data, 1, size, f) != size)
        fail(path);
    fclose(f);
    snprintf(current, sizeof current, "%s", path);
    if (loud)
        fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    count++;
}

static void give(const char *path)
{
    struct dirent **entries;
    struct stat st;
    int n;

    if (stat(path, &st) < 0)
        fail(path);
    if (S_ISREG(st.st_mode)) {
        if (st.st_size <= INPUT_BYTES_MAX)
            give_file(path, (size_t)st.st_size);
        return;
    }
    n = scandir(path, &entries, NULL, alphasort);
    if (n < 0)
        fail(path);
    for (int i = 0; i < n; i++) {
        char inner[4096];

        snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            give(inner);
        free(entries[i]);
    }
    free(entries);
}

int main(int argc, char **argv)
{
    signal(SIGABRT, say_which);
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0)
            loud = true;
        else
            give(argv[i]);
    }
    printf("%ld inputs\n", count);
    return count ? 0 : 1; /* a corpus that is not there is no success */
}
