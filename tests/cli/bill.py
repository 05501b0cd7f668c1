"""bill - the bill of a case's fake: all of it, or an expression of its members.

usage: python3 -m bill [EXPRESSION]

SPDX-License-Identifier: MIT
"""
import json
import os
import sys
import urllib.request

url = os.environ["FAKE_URL"].replace("/v1", "/bill")
bill = urllib.request.urlopen(url).read().decode()
if sys.argv[1:]:
    print(eval(sys.argv[1], json.loads(bill)))
else:
    print(bill, end="")
