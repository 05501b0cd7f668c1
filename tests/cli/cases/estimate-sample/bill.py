import os
import urllib.request

url = os.environ["FAKE_URL"].replace("/v1", "/bill")
print(urllib.request.urlopen(url).read().decode(), end="")
