/* strict.c - trommel.h compiles as strict C99, alone and twice.
 * SPDX-License-Identifier: MIT */
#include <trommel.h>
#include <trommel.h>

int main(void)
{
    trommel_config *cfg = trommel_config_new();
    int bad = !cfg || trommel_config_set(cfg, "labels", "a,b") != 0 ||
              trommel_config_set(cfg, "no-such-option", "x") !=
                  TROMMEL_EUSAGE;

    trommel_config_free(cfg);
    return bad;
}
