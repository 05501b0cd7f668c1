import json
import os
import sys
import urllib.request

url = os.environ["FAKE_URL"].replace("/v1", "/bill")
print(eval(sys.argv[1], json.load(urllib.request.urlopen(url))))
