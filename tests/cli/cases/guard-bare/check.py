import csv
import sys

gold = list(csv.DictReader(open("gold.csv", newline="")))
out = list(csv.DictReader(open(sys.argv[1], newline="")))
wrong = sum(g["label"] != o["label"] for g, o in zip(gold, out)
            if g["hostile"] == "0")
print(len(out), "rows,", "some innocent ones wrong" if wrong else "none wrong")
