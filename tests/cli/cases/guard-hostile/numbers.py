import json
import sys

n = json.loads(sys.stdin.read())
print("canaries", n["guard_packs"] > 10, "none without", n["guard_bare"] == 0,
      "doubts", n["guard_doubts"] >= 4, "looks", n["rows_isolated"],
      "shadow", n["shadow_rows"] > 0,
      "tokens", 0 < n["guard_tokens"] < n["tokens_in"])
