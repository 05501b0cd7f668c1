import json
import os
import urllib.request

url = os.environ["FAKE_URL"].replace("/v1", "/bill")
bill = json.load(urllib.request.urlopen(url))
run = json.loads(open("run.jsonl").read().splitlines()[-1])
IN, OUT, READ, WRITE = 100, 500, 10, 125
plain = bill["prompt_tokens"] * IN + bill["completion_tokens"] * OUT
n = bill["requests"]["ok"]
# To the nano-dollar, rounded up for each request.
print("bill", 0 <= run["spent_nanousd"] - bill["nanousd"] <= n)
print("saved", abs(run["cache_saved_nanousd"] - (plain - bill["nanousd"])) <= n)
print("tokens", run["tokens_cached"] == bill["cached_tokens"],
      run["tokens_cache_write"] == bill["cache_write_tokens"])
print("unsupported", bill["requests"]["unsupported"] >= 1)
print("read", bill["cached_tokens"] > bill["prompt_tokens"] // 2)
