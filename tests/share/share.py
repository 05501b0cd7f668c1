#!/usr/bin/env python3
"""Several real processes with one key against one limit: together they use it,
each has its part, and the part of one that is killed comes back.

    share.py TROMMEL [--runs 3] [--rpm 1200] [--settle 4] [--look 5]
             [--no-headers | --blind] [--pause] [--loose]

The limit is a bucket of `trommel fake`; --no-headers tells it to the runs as
--rpm, --blind tells nobody. Every run labels its own rows into its own store.
Prints what the provider served as a share of the limit, each run's share of
its fair part, the same after one was killed, and the refusals. --loose is the test:
it looks again and again, for a machine may be too busy for a while, and ends
with 1 when a bound is not met once in a minute.
SPDX-License-Identifier: MIT
"""
import argparse, csv, json, os, shutil, signal, subprocess, sys, tempfile
import threading, time

sys.dont_write_bytecode = True  # the source folder stays as it is
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import canary
from provider import Fake

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--runs", type=int, default=3)
ap.add_argument("--rpm", type=int, default=1200)
ap.add_argument("--bucket", type=int, default=5)
ap.add_argument("--latency", default="100")
ap.add_argument("--settle", type=float, default=4)
ap.add_argument("--look", type=float, default=5)
ap.add_argument("--back", type=float, default=5)
ap.add_argument("--apart", action="store_true", help="limits are not shared")
ap.add_argument("--pause", action="store_true", help="one is stopped first")
ap.add_argument("--no-headers", action="store_true")
ap.add_argument("--blind", action="store_true")
ap.add_argument("--loose", action="store_true")
args = ap.parse_args()
here = tempfile.mkdtemp(prefix="trommel-share-")
env = {"PATH": os.environ["PATH"], "HOME": here, "OPENAI_API_KEY": canary.KEY,
       "XDG_STATE_HOME": os.path.join(here, "state"),
       "XDG_CONFIG_HOME": os.path.join(here, "config"),
       "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}


def path(name):
    return os.path.join(here, name)


class Run:
    """One process; where() is how many of its requests were answered."""

    def __init__(self, url, number):
        command = [args.trommel, "classify", path("in.csv"), "--labels", "a,b",
                   "--model", "openai/fake", "--base-url", url, "--key-env",
                   "OPENAI_API_KEY", "--pack", "1", "--store",
                   path(f"store-{number}"), "-o", path(f"out-{number}.csv"),
                   "--progress", "json"]
        if args.no_headers:
            command += ["--rpm", str(args.rpm)]
        if args.apart:
            command += ["--share-limits", "no"]
        self.process = subprocess.Popen(command, env=env,
                                        stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True)
        self.seen = []  # (time, requests answered)
        self.notes = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stderr:
            if '"requests"' in line:
                s = json.loads(line)
                self.seen.append((time.monotonic(), s["requests"] -
                                  s["throttled"] - s["in_flight"]))
            else:
                self.notes.append(line)

    def rate(self, since, until):
        """Answers per second by the lines it wrote in that time."""
        inside = [p for p in self.seen if since <= p[0] <= until]
        if len(inside) < 2:
            return 0.0
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])

    def kill(self):
        self.process.kill()
        self.process.wait()


def look(seconds):
    """Answers per second as the provider counts them, and when it looked."""
    def served():
        bill = fake.bill()
        return time.monotonic(), bill["requests"]["ok"], bill

    t0, n0, _ = served()
    time.sleep(seconds)
    t1, n1, bill = served()
    return (n1 - n0) / (t1 - t0), t0, t1, bill["refused_by_limit"]


limit = args.rpm / 60
looks = 12 if args.loose else 1
fake, runs, bad = None, [], []
try:
    total_s = args.settle + 3 * looks * args.look + args.back + args.runs
    with open(path("in.csv"), "w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["text"])
        for i in range(int(limit * total_s * 2) + 1000):
            out.writerow([f"text number {i}"])
    fake = Fake(args.trommel, here, "--labels", "a,b", "--rpm", str(args.rpm),
                "--bucket", str(args.bucket), "--latency", args.latency,
                "--headers", "off" if args.no_headers or args.blind else "on")

    for i in range(args.runs):
        runs.append(Run(fake.url + "/v1", i))
    time.sleep(args.settle)
    for _ in range(looks):
        rate, since, until, refused = look(args.look)
        parts = [r.rate(since, until) / (limit / args.runs) for r in runs]
        all_used = rate / limit
        if 0.85 <= all_used <= 1.15 and min(parts) >= 0.5:
            break

    if args.pause: # what it holds goes to the others, and no burst comes after
        runs[0].process.send_signal(signal.SIGSTOP)
        time.sleep(args.back)
        for _ in range(looks):
            rate, _, _, refused = look(args.look)
            paused_used = rate / limit
            if 0.85 <= paused_used <= 1.15:
                break
        runs[0].process.send_signal(signal.SIGCONT)
        print(f"{100 * paused_used:.1f} % while one was stopped")
        time.sleep(2)

    runs[0].kill()
    time.sleep(args.back)
    for _ in range(looks):
        rate, _, _, refused_later = look(args.look)
        used_again = rate / limit
        if 0.85 <= used_again <= 1.15:
            break

    print(f"{args.runs} runs: {100 * all_used:.1f} % of the limit, the least "
          f"{min(parts):.2f} and the most {max(parts):.2f} of its fair part, "
          f"{refused} refusals; {args.back:g} s after one was killed "
          f"{100 * used_again:.1f} %, {refused_later - refused} more refusals")
    sys.stdout.flush()
    if any(r.process.poll() is not None for r in runs[1:]):
        bad.append("a run ended by itself: " + "".join(runs[1].notes))
    if args.loose:
        if not 0.85 <= all_used <= 1.15:
            bad.append(f"{100 * all_used:.1f} % of the limit was used")
        if min(parts) < 0.5:
            bad.append(f"one had {min(parts):.2f} of its fair part")
        if args.pause and not 0.85 <= paused_used <= 1.15:
            bad.append(f"{100 * paused_used:.1f} % while one was stopped")
        if not 0.85 <= used_again <= 1.15:
            bad.append(f"{100 * used_again:.1f} % after the death of one")
        if refused_later > 5:
            bad.append(f"{refused_later} refusals")
        if not any("share its limits" in n for r in runs for n in r.notes):
            bad.append("nobody was told that the limit is shared")
finally:
    for r in runs:
        r.kill()
    if fake:
        bad += fake.end()
    bad += canary.search(here, *("".join(r.notes) for r in runs))
    shutil.rmtree(here, ignore_errors=True)
for b in bad:
    print("FAILED:", b)
sys.exit(1 if bad else 0)
