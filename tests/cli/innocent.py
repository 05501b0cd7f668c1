"""innocent - has every row that is not hostile, in gold.csv, its own label?

usage: python3 -m innocent OUT.csv

SPDX-License-Identifier: MIT
"""
import csv
import sys

gold = list(csv.DictReader(open("gold.csv", newline="")))
out = list(csv.DictReader(open(sys.argv[1], newline="")))
wrong = sum(g["label"] != o["label"] for g, o in zip(gold, out)
            if g["hostile"] == "0")
print(len(out), "rows,", "some innocent ones wrong" if wrong else "none wrong")
