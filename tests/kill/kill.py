#!/usr/bin/env python3
"""Kills the real program with SIGKILL at random moments, runs it again, and
compares the output and the provider's bill with an undisturbed run.

    kill.py TROMMEL [--kills 10] [--rows 2000] [--seed 1]

Oracles, all from outside the program: the final output equals the undisturbed
one byte for byte; every label is the gold label; what trommel says it spent is
never below the provider's bill; texts answered twice are at most the requests
in flight at the kills.
SPDX-License-Identifier: MIT
"""
import argparse, csv, json, os, random, shutil, signal, subprocess, sys
import tempfile, time, urllib.request

sys.dont_write_bytecode = True  # the source folder stays as it is
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import canary

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--kills", type=int, default=10)
ap.add_argument("--rows", type=int, default=2000)
ap.add_argument("--seed", type=int, default=1)
ap.add_argument("--pack", type=int, default=4)
ap.add_argument("--flight", type=int, default=16)
args = ap.parse_args()
rng = random.Random(args.seed)
here = tempfile.mkdtemp(prefix="trommel-kill-")
labels = ["refund", "bug", "question", "praise"]


def path(name):
    return os.path.join(here, name)


with open(path("in.csv"), "w", newline="") as f:
    out = csv.writer(f, lineterminator="\n")
    out.writerow(["id", "text", "gold"])
    for i in range(args.rows):
        out.writerow([i, f"message {i} says \"{rng.random()}\", and\nmore",
                      rng.choice(labels)])

fake = subprocess.Popen(
    [args.trommel, "fake", "--port", "0", "--port-file", path("port"),
     "--gold", path("in.csv"), "--text", "text", "--label", "gold",
     "--latency", "15", "--seed", str(args.seed), "--prices", "1:5"],
    stdout=subprocess.DEVNULL)
try:
    for _ in range(200):
        if os.path.exists(path("port")) and open(path("port")).read().strip():
            break
        time.sleep(0.02)
    url = f"http://127.0.0.1:{open(path('port')).read().strip()}"
    os.makedirs(path("config/trommel"))
    with open(path("config/trommel/models.yaml"), "w") as f:
        f.write("as_of: 2026-11-24\nmodels:\n"
                "  openai/fake: {input: 1, output: 5}\n")
    env = {"PATH": os.environ["PATH"], "HOME": here,
           "XDG_CONFIG_HOME": path("config"), "XDG_STATE_HOME": path("state"),
           "OPENAI_API_KEY": canary.KEY,
           "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}

    def command(output, store):
        return [args.trommel, "classify", path("in.csv"), "--labels",
                ",".join(labels), "--model", "openai/fake", "--base-url",
                url + "/v1", "--key-env", "OPENAI_API_KEY", "--trace",
                path("trace"), "--pack", str(args.pack), "--concurrency",
                str(args.flight), "--store", path(store), "-o", path(output),
                "--progress", "json", "--budget", "100"]

    def bill(reset=False):
        with urllib.request.urlopen(
                url + "/bill" + ("?reset=1" if reset else "")) as r:
            return json.load(r)

    def start(output, store):
        log = open(path("log"), "w")
        return subprocess.Popen(command(output, store), env=env, stderr=log,
                                stdout=subprocess.DEVNULL)

    killed = 0
    while True: # the last run is left alone
        run = start("out.csv", "store")
        try:
            run.wait(rng.uniform(0.02, 0.15) if killed < args.kills else 120)
            break
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed += 1
        if canary.seen(open(path("log")).read()):
            sys.exit("FAILED: the key stands in what a killed run said")
    last = open(path("log")).read()
    disturbed = bill()
    again = subprocess.run(command("again.csv", "store"), env=env,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    repeated = bill()
    bill(reset=True)
    subprocess.run(command("calm.csv", "calm"), env=env,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    problems = []
    if run.returncode != 0:
        problems.append(f"last run ended with {run.returncode}: {last}")
    read = lambda name: open(path(name), "rb").read()
    if not problems and read("out.csv") != read("calm.csv"):
        problems.append("the output differs from an undisturbed run's")
    if not problems and read("out.csv") != read("again.csv"):
        problems.append("the same command again wrote something else")
    if not problems:
        for row in csv.DictReader(open(path("out.csv"), newline="")):
            if row["label"] != row["gold"]:
                problems.append(f"row {row['id']}: {row['label']} instead of "
                                f"{row['gold']}")
                break
    if repeated["requests"]["total"] != disturbed["requests"]["total"]:
        problems.append("a run over a full store sent requests")
    limit = killed * args.pack * args.flight
    if disturbed["paid_twice"] > limit:
        problems.append(f"{disturbed['paid_twice']} texts paid twice, more "
                        f"than the {limit} that were in flight")
    stats = [json.loads(l) for l in last.splitlines()
             if l.startswith('{"model')]
    if stats and stats[-1]["spent_nanousd"] < disturbed["nanousd"]:
        problems.append(f"trommel says {stats[-1]['spent_nanousd']}, the bill "
                        f"says {disturbed['nanousd']}")
    print(f"{killed} kills, {args.rows} rows: paid twice "
          f"{disturbed['paid_twice']}, bill {disturbed['nanousd']} nano-USD, "
          f"trommel's own count "
          f"{stats[-1]['spent_nanousd'] if stats else 'unknown'}")
    problems += canary.search(here, again.stderr)
    for p in problems:
        print("FAILED:", p)
    sys.exit(1 if problems else 0)
finally:
    fake.terminate()
    fake.wait()
    shutil.rmtree(here, ignore_errors=True)
