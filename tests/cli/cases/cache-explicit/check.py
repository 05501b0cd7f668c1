import json
import os
import urllib.request

url = os.environ["FAKE_URL"].replace("/v1", "/bill?reset=1")
bill = json.load(urllib.request.urlopen(url))
plain = bill["prompt_tokens"] * 100 + bill["completion_tokens"] * 500
ok = bill["requests"]["ok"]
# One request wrote, all others read; nobody else paid for keeping.
read, wrote = bill["cached_tokens"], bill["cache_write_tokens"]
print("written once", wrote * (ok - 1) == read, wrote >= 1024)
print("share", round(100 * read / bill["prompt_tokens"]))
print("saved more than half of the input",
      plain - bill["nanousd"] > bill["prompt_tokens"] * 50)
