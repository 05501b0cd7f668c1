#!/usr/bin/env python3
"""A run ends in one of several ways, the input changes, the command is given
again: every pair of the two.

    resume.py TROMMEL --module FAULT.so [--preload LIB] [--only WORD]

Whose rows they are is told by their text alone (docs/internals/store.md), so
nothing that an input can become needs a word or an option. Oracles: the second
run labels the input of today, in its order, with the gold labels; it asks for
no text that was answered before, but for those in flight when a run died; a
third run asks for nothing.
SPDX-License-Identifier: MIT
"""
import argparse, csv, random, sys

from world import World

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--module", required=True)
ap.add_argument("--preload", default="")
ap.add_argument("--only", default="")
args = ap.parse_args()


def by_signal(job):
    return job.run("c:INT:15")


def by_budget(job):
    job.options += ["--budget-requests", "5"]
    code = job.run()
    del job.options[-2:]
    return code


def by_full_disk(job):
    """No write at all works any more, that of the rescue file neither."""
    job.kills += 1  # as bad, for what is in flight
    return job.run("w:ENOSPC:50+")


def by_kill(job):
    return job.run("c:kill:40")


# how the first run ends, and with which exit code
ENDS = {
    "done": (lambda job: job.run(), 0),
    "killed": (by_kill, -9),
    "interrupted": (by_signal, 130),
    "out of budget": (by_budget, 75),
    "disk full": (by_full_disk, 74),
    "store lost": (lambda job: job.run("s:EIO:9+"), 74),
}

# what is in the file when the command is given again; 40 rows before
CHANGES = {
    "nothing": lambda rows: rows[:40],
    "reordered": lambda rows: random.Random(1).sample(rows[:40], 40),
    "appended": lambda rows: rows,
    "shrunk": lambda rows: rows[:15],
    "edited": lambda rows: rows[:20] + rows[40:45] + rows[25:40],
    "doubled": lambda rows: rows[:40] + rows[:40],
}


def write(path, head, rows):
    with open(path, "w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(head)
        out.writerows(rows)


def texts(rows):
    return {row[1] for row in rows}


def play(world, head, rows, end, change):
    """A first run that ends, another input, and the command again."""
    first, second = rows[:40], CHANGES[change](rows)
    world.input = world.path("input.csv")
    write(world.input, head, first)
    job, bad = world.job(pack=1, flight=2), []
    how, code = ENDS[end]
    ended = how(job)
    if ended != code:
        return [f"the first run ended with {ended}, not {code}: {job.said()}"]
    before = world.bill()
    write(world.input, head, second)
    bad += job.problems(job.run(), None)
    bill = world.bill()
    written = [row[:3] for row in csv.reader(open(job.out, newline=""))][1:]
    if written != second:
        bad.append("the output is not the input of today, in its order")
    known = len(texts(first) | texts(second))
    if bill["texts"] > known:
        bad.append(f"{bill['texts']} texts asked of {known}")
    new = len(texts(second) - texts(first))
    if end == "done" and bill["asked_items"] - before["asked_items"] != new:
        bad.append(f"{bill['asked_items'] - before['asked_items']} asked "
                   f"again, {new} are new")
    job.close()
    return bad


world = World(args.trommel, "--latency", "3", rows=60, module=args.module,
              preload=args.preload)
problems = pairs = 0
try:
    head, *rows = list(csv.reader(open(world.input, newline="")))
    for end in ENDS:
        for change in CHANGES:
            if args.only not in f"{end}, {change}":
                continue
            pairs += 1
            for p in play(world, head, rows, end, change):
                problems += 1
                print(f"FAILED: {end}, then {change}: {p}", flush=True)
finally:
    for p in world.close():
        problems += 1
        print("FAILED:", p, flush=True)
print(f"{pairs} pairs, {problems} problems")
sys.exit(1 if problems else 0)
