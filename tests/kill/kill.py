#!/usr/bin/env python3
"""Kills the real program with SIGKILL, runs it again, and compares output and
bill with an undisturbed run.

    kill.py TROMMEL --module FAULT.so [--preload LIB] [--kills 200] [--seed N]
            [--only SCENE]

Many small jobs, each killed a few times: at a numbered call to the system
(before it, or in the middle of it), and every eighth time by the clock. The
numbers sweep over all calls of the scene; the seed, which is the day unless
said, moves where the sweep begins. How many kills hit does not depend on how
fast the machine is.

Oracles, all from outside the program: the final output equals the undisturbed
one byte for byte; every label is the gold label; what trommel says it spent is
never below the provider's bill, and what it knows of never above; texts paid
twice are at most the requests in flight at the kills; a further run asks
nothing.
SPDX-License-Identifier: MIT
"""
import argparse, concurrent.futures, datetime, glob, itertools, math, random
import sqlite3, sys, time

from world import World

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--module", required=True)
ap.add_argument("--preload", default="")
ap.add_argument("--kills", type=int, default=200)
ap.add_argument("--seed", type=int,
                default=datetime.date.today().toordinal())
ap.add_argument("--only")
args = ap.parse_args()
CLASSES = "wsnc"


def nothing(job):
    pass


def older(job):
    """A full store, as the first layout left it: its tables are to be made."""
    if job.run() != 0:
        raise RuntimeError("the first run failed: " + job.said())
    path, = glob.glob(job.path("store", "*.db"))
    db = sqlite3.connect(path)
    db.executescript("PRAGMA journal_mode = WAL; DROP TABLE fresh; DROP TABLE "
                     "batch; DROP TABLE in_batch; PRAGMA user_version = 1")
    db.close()


# name, options of the fake, options of the command, what comes first
SCENES = [
    ("plain", [], [], nothing),
    ("budget", [], ["--budget", "1"], nothing),
    ("garbled", ["--missing", "0.3", "--reorder", "0.3", "--case", "0.3",
                 "--429", "0.1", "--retry-after", "ms"], [], nothing),
    ("batch", ["--batch-delay", "0.02"], ["--batch", "--batch-poll", "50ms"],
     nothing),
    ("older", [], [], older),
]


class Scene:
    def __init__(self, name, fake, options, first):
        self.name, self.options, self.first = name, options, first
        self.rng = random.Random(f"{args.seed} {name}")
        self.world = World(args.trommel, "--latency", "2", *fake,
                           seed=args.seed, module=args.module,
                           preload=args.preload)
        self.killed = self.jobs = 0

    def calm_run(self):
        """What it writes and how many calls it makes when left alone."""
        job = self.world.job(*self.options)
        self.first(job)
        began = time.monotonic()
        code = job.run(f"{CLASSES}:kill:999999999", count=True)
        self.seconds = time.monotonic() - began
        problems = job.problems(code, None)
        if not problems:
            self.calm = job.output()
            self.calls = int(open(job.path("count")).read())
            self.at = self.rng.randrange(self.calls)
            # A stride that is prime to their number visits every call.
            self.stride = next(n for n in itertools.count(7)
                               if math.gcd(n, self.calls + 1) == 1)
        job.close()
        return [f"{self.name}, undisturbed: {p}" for p in problems]

    def one(self):
        """A job; its problems."""
        job, marks = self.world.job(*self.options), []
        self.jobs += 1
        self.first(job)
        job.kills = 0
        for _ in range(3):
            if self.rng.random() < 1 / 8:
                after = self.rng.uniform(0, self.seconds)
                marks.append(f"after {after:.3f} s")
                code = job.run(kill_after=after)
            else:
                self.at = (self.at + self.stride) % (self.calls + 1)
                marks.append(f"{CLASSES}:{self.rng.choice(['kill', 'tear'])}:"
                             f"{self.at + 1}")
                code = job.run(marks[-1])
            if code != -9:
                break
        if code == -9:
            code = job.run()
        problems = job.problems(code, self.calm, again=self.jobs % 4 == 0)
        self.killed += job.kills
        job.close()
        return [f"{self.name}, {', '.join(marks)}: {p}" for p in problems]


def play(row, share):
    """A whole scene with that many kills; its problems."""
    scene, began = Scene(*row), time.monotonic()
    try:
        problems = scene.calm_run()
        while not problems and scene.killed < share:
            problems = scene.one()
    finally:
        ended = scene.world.close()
    problems += [f"{scene.name}: {p}" for p in ended]
    if not problems:
        print(f"{scene.name}: {scene.killed} kills in {scene.jobs} jobs of "
              f"{scene.calls} calls, {time.monotonic() - began:.1f} s",
              flush=True)
    return problems


chosen = [s for s in SCENES if args.only in (None, s[0])]
shares = [args.kills // len(chosen) + (i < args.kills % len(chosen))
          for i in range(len(chosen))]
print(f"seed {args.seed}")
with concurrent.futures.ThreadPoolExecutor() as pool: # they mostly sleep
    problems = sum(pool.map(play, chosen, shares), [])
for p in problems:
    print("FAILED:", p)
sys.exit(1 if problems else 0)
