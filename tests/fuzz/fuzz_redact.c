/* fuzz_redact.c - what a server says is made fit to be shown: no key that
 * stood in it is left, no control bytes, valid UTF-8, not longer than it may
 * be.
 *
 * Input: a byte for the kind of key, one for the size, one for the place of
 * the key, then the text around it.
 *
 * SPDX-License-Identifier: MIT */
#include "fuzz.h"

#include "wire/provider.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const begins[] = {
        "sk-", "Bearer ", "gsk_", "xai-", "api_key: ", "AIza", "key=",
        "csk-", "SK-", "token=", "key provided: ", "pk-"};
    static const char key[] = "Zx9Qw8Er7Ty6Ui5Op4As";
    struct fuzz_in in = fuzz_begin(data, n);
    const char *begin = begins[fuzz_byte(&in) % (sizeof begins /
                                                 sizeof *begins)];
    size_t size = fuzz_byte(&in), at = fuzz_byte(&in);
    struct tr_str s = fuzz_rest(&in);
    size_t cap = s.n + 100;
    char *text = malloc(cap), *again = malloc(cap);
    size_t used = 0;
    bool plain; /* the key also stands where nothing gives it away */

    CHECK(text && again);
    at = at < s.n ? at : s.n;
    for (size_t i = 0; i <= s.n; i++) {
        if (i == at) { /* blanks: a word of its own, whatever is around */
            memcpy(text + used, " ", 1);
            memcpy(text + used + 1, begin, strlen(begin));
            used += 1 + strlen(begin);
            memcpy(text + used, key, sizeof key - 1);
            used += sizeof key - 1;
            text[used++] = ' ';
        }
        if (i < s.n && s.p[i])
            text[used++] = s.p[i];
    }
    text[used] = '\0';
    plain = strstr(strstr(text, key) + 1, key) != NULL;
    tr_wire_redact(text, cap);
    CHECK(strlen(text) < cap && fuzz_is_plain(text));
    CHECK(plain || !strstr(text, key));
    memcpy(again, text, cap);
    tr_wire_redact(again, cap);
    CHECK(strcmp(text, again) == 0);
    if (size && size < cap) {
        tr_wire_redact(again, size);
        CHECK(strlen(again) < size && fuzz_is_plain(again));
        CHECK(strncmp(again, text, strlen(again)) == 0);
    }
    free(text);
    free(again);
    return 0;
}
