/* format.c - numbers, money and time for people.
 * SPDX-License-Identifier: MIT */
#include "format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *format_count(char *out, int64_t n)
{
    char digits[24];
    size_t len, used = 0;

    snprintf(digits, sizeof digits, "%lld", (long long)(n < 0 ? 0 : n));
    len = strlen(digits);
    for (size_t i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = 0;
    return out;
}

const char *format_short(char *out, int64_t n)
{
    static const struct {
        double from, unit;
        const char *name;
    } units[] = {{999.5e6, 1e9, " G"}, {999.5e3, 1e6, " M"}, {1e3, 1e3, " k"}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        double x = (double)n / units[i].unit;

        if ((double)n >= units[i].from) {
            snprintf(out, FORMAT_BYTES, x < 9.95 ? "%.1f%s" : "%.0f%s", x,
                     units[i].name);
            return out;
        }
    }
    return format_count(out, n);
}

/* Two decimals, or two significant digits when that would say nothing. */
const char *format_money(char *out, int64_t nano)
{
    double usd = (double)nano / 1e9;
    int decimals = 2;

    for (double x = usd; x > 0 && x < 0.0995 && decimals < 9; x *= 10)
        decimals++;
    snprintf(out, FORMAT_BYTES, "$%.*f", decimals, usd);
    return out;
}

const char *format_span(char *out, double seconds)
{
    double most = 99999 * 3600.0 + 3599;
    int64_t s = seconds > 0 ? (int64_t)(fmin(seconds, most) + 0.5) : 0;
    int h = (int)(s / 3600), m = (int)(s / 60 % 60);

    if (h)
        snprintf(out, FORMAT_BYTES, "%d:%02d:%02d", h, m, (int)(s % 60));
    else
        snprintf(out, FORMAT_BYTES, "%d:%02d", m, (int)(s % 60));
    return out;
}

const char *format_rate(char *out, double per_s)
{
    if (per_s >= 9.95)
        return format_count(out, (int64_t)(per_s + 0.5));
    snprintf(out, FORMAT_BYTES, "%.1f", per_s);
    return out;
}
