"""The summary's line about the shadow sample, to the letter: its counts are drawn, the interval follows from them."""
import math
import re
import sys

line = sys.stdin.read()
part = re.fullmatch(r".*; (shadow: (\d+) rows? asked again, (\d+) labelled "
                    r"otherwise \([^)]*\)); [\d.]+ k tokens\n", line)
if not part:
    sys.exit(f"no such line: {line!r}")
n, differ = int(part[2]), int(part[3])
z, p = 1.96, differ / n  # Wilson, 1927
middle = p + z * z / (2 * n)
reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
low = (middle - reach) / (1 + z * z / n) if differ else 0
high = (middle + reach) / (1 + z * z / n) if differ < n else 1
wanted = (f"shadow: {n} {'row' if n == 1 else 'rows'} asked again, {differ} "
          f"labelled otherwise ({100 * low:.1f}-{100 * high:.1f} %)")
print("shadow as it should be" if part[1] == wanted
      else f"{part[1]!r} instead of {wanted!r}")
