"""Texts with 25 of 200 labels each, no two alike."""
import random

random.seed(1)
names = [f"l{i}" for i in range(200)]
with open("task.yaml", "w") as f:
    f.write(f"multiple: true\nlabels: [{', '.join(names)}]\n")
with open("in.csv", "w") as f, open("gold.csv", "w") as gold:
    f.write("text\n")
    gold.write("text,label\n")
    for row in range(28000):
        some = "|".join(random.sample(names, 25))
        f.write(f"text {row}\n")
        gold.write(f"text {row},{some}\n")
