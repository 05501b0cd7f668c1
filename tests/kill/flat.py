#!/usr/bin/env python3
"""Whether the real program needs more of the machine the longer it runs:
memory, open files, the store's log. And whether it leaves the key behind.

    flat.py TROMMEL [--rows N] [--only CASE]

The largest sizes in the first half of the rows and in the second are compared:
how fast the machine is changes nothing. Memory may grow until the rows that
wait and the pages of the store have reached their bounds (lib/base/bounds.h):
so nobody reads at first, and another job has filled the store before.
SPDX-License-Identifier: MIT
"""
import argparse, contextlib, glob, os, random, re, signal, subprocess, sys
import threading, time

from world import CRASH, World, canary

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--rows", type=int, default=300000)
ap.add_argument("--only")
args = ap.parse_args()
with open(args.trommel, "rb") as f:
    SANITIZED = re.search(rb"__[at]san_init", f.read()) is not None
ROWS = args.rows // 20 if SANITIZED else args.rows
MIB = 1 << 20
PROMISED, GROWTH = 64 * MIB, 8 * MIB # a busy machine keeps more under way
LOG = 49 * MIB # and the pages of one commit: docs/internals/store.md
problems = []
subprocess._USE_VFORK = False # or a child's peak begins at the largest of ours


def expect(what, good, more=""):
    if not good:
        problems.append(f"{what}: {more}")


def sizes(run):
    """Memory at its largest so far, and the number of open files."""
    status = open(f"/proc/{run.pid}/status").read()
    return (int(status.split("VmHWM:")[1].split()[0]) * 1024,
            len(os.listdir(f"/proc/{run.pid}/fd")))


def watch(name, job, rows=0, stop=None, **more):
    """Runs the job until it ends, or has written rows and gets the signal.
    Its exit code and the rows it wrote."""
    job.out, done, log, end, key = "-", 0, 0, b"\n", None
    first, second = (0, 0), (0, 0) # the largest sizes of both halves
    read_end, write_end = os.pipe()
    began = time.monotonic()
    run = job.start(stdout=write_end, **more)
    os.close(write_end)
    with open(read_end, "rb") as out:
        time.sleep(1 if rows else 0) # nobody reads: rows wait, all that may
        while chunk := out.read1(65536):
            key = key or canary.seen(end + chunk)
            done, end = done + chunk.count(b"\n"), chunk[-100:]
            if stop and done > rows:
                run.send_signal(stop)
                stop = None
            try:
                now = sizes(run)
            except (OSError, IndexError):
                continue # it has ended, and this was left in the pipe
            if done <= rows // 2:
                first = tuple(map(max, first, now))
            second = tuple(map(max, second, now))
            for path in glob.glob(os.path.join(job.store, "*.db-wal")):
                with contextlib.suppress(FileNotFoundError): # closed since
                    # A page more for each one that a commit puts.
                    log = max(log, os.path.getsize(path) -
                              os.path.getsize(path.removesuffix("-wal")))
    late = threading.Timer(60, run.kill)
    late.start()
    _, status, used = os.wait4(run.pid, 0)
    late.cancel()
    code = run.returncode = os.waitstatus_to_exitcode(status)
    peak = used.ru_maxrss * 1024 # also of one that ended before it was seen
    print(f"{name}: {done} rows, {time.monotonic() - began:.1f} s, "
          f"{peak / MIB:.1f} MiB, {second[1]} files", flush=True)
    expect(f"{name}: does not crash", not CRASH.search(job.said()), job.said())
    expect(f"{name}: the last row is whole", end[-1:] == b"\n")
    left = canary.search(job.here) + ([key] if key else [])
    expect(f"{name}: the key stands nowhere", not left, left)
    expect(f"{name}: the store's log is bounded", log <= LOG, log)
    expect(f"{name}: memory stays within the promise",
           SANITIZED or 0 < peak <= PROMISED, peak)
    expect(f"{name}: both halves were measured", not rows or
           first[0] and second[0], (first, second))
    expect(f"{name}: memory stays flat", SANITIZED or not rows or
           second[0] - first[0] < GROWTH, (first, second))
    # A connection more or less is no leak; there are thousands of requests.
    expect(f"{name}: files are closed", not rows or
           second[1] <= first[1] + 2, (first, second))
    return code, done


def large(world, name):
    """An input of other texts than those of every other name."""
    path, rng = world.path(name), random.Random(name)
    with open(path, "w") as f:
        f.write("id,text,gold\n")
        for i in range(ROWS):
            f.write(f"{i},{name} {i} of some words in a row {rng.random()},\n")
    return path


def rows(world):
    """Many rows; the same again, when all of them are known."""
    world.input = large(world, "first")
    job = world.job(pack=200)
    watch("a job before", job)
    world.input = large(world, "second")
    for name in ("rows", "rows that are known"):
        code, done = watch(name, job, ROWS)
        expect(f"{name}: it ends well", code == 0, job.said())
        expect(f"{name}: all rows", done == ROWS + 1, done)


def combinations(world):
    """Several labels a row, in ever new combinations: the first half is a job
    before, so that the store is as full as it gets."""
    rng, names = random.Random(1), [f"label {i}" for i in range(200)]
    inputs = [world.path("first"), world.path("second")]
    with open(world.path("task.yaml"), "w") as f:
        f.write(f"multiple: true\nlabels: [{', '.join(names)}]\n")
    with open(world.path("many.csv"), "w") as gold:
        gold.write("text,gold\n")
        for path in inputs:
            with open(path, "w") as f:
                f.write("text\n")
                for i in range(ROWS):
                    text = f"{path[-6:]} {i} of some words {rng.random()}"
                    f.write(text + "\n")
                    gold.write(f"{text},{'|'.join(rng.sample(names, 3))}\n")
    many = World(args.trommel, "--gold", world.path("many.csv"))
    many.input = inputs[0]
    job = many.job(pack=200)
    job.task = ["--task", world.path("task.yaml")]
    watch("a job before", job)
    many.input = inputs[1]
    code, done = watch("combinations", job, ROWS)
    expect("combinations: it ends well", code == 0, job.said())
    expect("combinations: all rows", done == ROWS + 1, done)
    problems.extend(many.close())


def record(world):
    """One that is larger than any may be: 8 MiB of it, or a sentence."""
    world.input = "-"
    for size, word, code in ((9, "stop", 65), (9, "fail", 1), (200, "fail", 1)):
        name = f"a record of {size} MiB, {word}"
        job = world.job("--on-bad-row", word, "--format", "lines")
        feed = subprocess.Popen(["head", "-c", str(size * MIB), "/dev/zero"],
                                stdout=subprocess.PIPE)
        text = subprocess.Popen(["tr", "\\0", "x"], stdin=feed.stdout,
                                stdout=subprocess.PIPE)
        feed.stdout.close()
        ended, done = watch(name, job, stdin=text.stdout)
        text.stdout.close()
        expect(f"{name}: ends with {code}", ended == code, job.said())
        expect(f"{name}: says so", "the record is longer than 8 MiB" in
               "".join(job.sentences()) if code == 65 else
               "over_long_record" in job.numbers()["failures"], job.said())
        expect(f"{name}: the row is there", code == 65 or done == 2, done)
        text.wait(), feed.wait()


def endless(world):
    """Rows that never end, until Ctrl-C."""
    world.input = "-"
    job = world.job("--format", "lines")
    yes = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    code, done = watch("endless", job, 5 * ROWS, signal.SIGINT,
                       stdin=yes.stdout)
    yes.stdout.close()
    yes.wait()
    expect("endless: Ctrl-C ends it", code == 130, f"{code} {job.said()}")
    expect("endless: in one sentence", len(job.sentences()) == 1, job.said())


for case in (rows, combinations, record, endless):
    if args.only in (None, case.__name__):
        world = World(args.trommel)
        try:
            case(world)
        finally:
            problems += world.close()
for problem in problems:
    print("FAILED:", problem[:1500])
sys.exit(1 if problems else 0)
