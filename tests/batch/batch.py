#!/usr/bin/env python3
"""Runs the real program with --batch against a provider whose batches go
wrong, kills it, and compares output, bill and its own account.

    batch.py TROMMEL [--only NAME] [--seed N]

Oracles, all from outside the program: every label is the gold label; no text
is paid twice; the number of batches at the provider; what trommel says it
spent is the provider's bill, at the price of batches.
SPDX-License-Identifier: MIT
"""
import argparse, concurrent.futures, contextlib, csv, glob, json, os, random
import shutil, signal, sqlite3, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True  # the source folder stays as it is
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import canary
from provider import Fake

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--only")
ap.add_argument("--seed", type=int, default=1)
args = ap.parse_args()
LABELS = ["refund", "bug", "question", "praise"]
# Many requests; a canary among them would be a text that is paid again.
SMALL = ("--pack", "4", "--guard", "off")
problems = []


class World:
    """A provider, an input and a store for one case."""

    def __init__(self, name, *options, rows=300):
        self.provider = "anthropic" if "anthropic" in name else "openai"
        self.name, self.rng = name, random.Random(f"{args.seed} {name}")
        self.rows, self.rounds, self.said = rows, 1, []
        self.here = tempfile.mkdtemp(prefix="trommel-batch-")
        with open(self.path("in.csv"), "w", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(["id", "text", "gold"])
            for i in range(rows):
                out.writerow([i, f"message {i} says \"{self.rng.random()}\"",
                              self.rng.choice(LABELS)])
        os.makedirs(self.path("config/trommel"))
        with open(self.path("config/trommel/models.yaml"), "w") as f:
            f.write("as_of: 2026-11-24\nmodels:\n"
                    f"  {self.provider}/fake: {{input: 1, output: 5, "
                    "batch: 0.5}\n")
        self.env = {"PATH": os.environ["PATH"], "HOME": self.here,
                    "XDG_CONFIG_HOME": self.path("config"),
                    "XDG_STATE_HOME": self.path("state"),
                    "OPENAI_API_KEY": canary.KEY,
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
        self.fake = Fake(
            args.trommel, self.here, "--gold", self.path("in.csv"), "--label",
            "gold", "--prices", "1:5", "--seed", str(args.seed), *options)
        self.url, self.bill = self.fake.url, self.fake.bill

    def path(self, name):
        return os.path.join(self.here, name)

    def start(self, *options, output="out.csv", batch=True):
        command = [args.trommel, "classify", self.path("in.csv"), "--labels",
                   ",".join(LABELS), "--model", self.provider + "/fake",
                   "--base-url", self.url + (
                       "" if self.provider == "anthropic" else "/v1"),
                   "--key-env", "OPENAI_API_KEY",
                   "--text", "text", "--progress", "json", "-o",
                   self.path(output), *options]
        if batch:
            command += ["--batch", "--batch-poll", "200ms"]
        return subprocess.Popen(command, env=self.env, stderr=subprocess.PIPE,
                                stdout=subprocess.DEVNULL, text=True)

    def run(self, *options, **more):
        """Exit code, last numbers and what was said."""
        done = self.start(*options, **more)
        said = done.communicate(timeout=120)[1]
        self.said.append(said)
        numbers = [json.loads(line) for line in said.splitlines()
                   if line.startswith('{"model')]
        return done.returncode, numbers[-1] if numbers else {}, said

    def until_made(self):
        """Waits until the provider has a batch."""
        until = time.monotonic() + 60
        while not self.bill()["batches"] and time.monotonic() < until:
            time.sleep(0.01)

    def stores(self):
        return glob.glob(self.path("state/trommel/**/*.db"), recursive=True)

    def store(self, verb="show"):
        ls = subprocess.run([args.trommel, "store", "ls", "--json"],
                            env=self.env, capture_output=True, text=True)
        name = json.loads(ls.stdout.splitlines()[0])["name"]
        return subprocess.run([args.trommel, "store", verb, name],
                              env=self.env, capture_output=True, text=True)

    def expect(self, what, good, more=""):
        if not good:
            problems.append(f"{self.name}: {what} {more}")

    def check(self, code, numbers, said):
        """The end of a job in which everything is labelled."""
        bill = self.bill()
        self.expect("the last run ended well", code == 0, said)
        if code != 0:
            return bill
        rows = list(csv.DictReader(open(self.path("out.csv"), newline="")))
        self.expect("every row is there", len(rows) == self.rows, len(rows))
        for row in rows:
            if row["label"] != row["gold"]:
                self.expect(f"row {row['id']} has its label", False, row)
                break
        self.expect("nothing is paid twice", bill["paid_twice"] == 0, bill)
        self.expect("what was spent is the bill", self.rounds > 1 or
                    abs(numbers["spent_nanousd"] - bill["nanousd"]) <=
                    numbers["requests"] + 1000, (numbers, bill))
        return bill

    def close(self):
        for line in self.fake.end() + canary.search(self.here, *self.said):
            problems.append(f"{self.name}: {line}")
        shutil.rmtree(self.here, ignore_errors=True)


def plain(w):
    bill = w.check(*w.run())
    w.expect("one batch was made", bill["batches"] == 1, bill)


def killed_before_it_leaves(w):
    """Whether it was, in the second in which it waits for company: a busy
    machine may have slept through that. Then all is as before."""
    run = w.start()
    until = time.monotonic() + 60
    while not w.stores() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    if not w.bill()["batches"]:
        return True
    shutil.rmtree(w.path("state"))
    w.bill(reset=True)
    return False


def killed_twice(w):
    # Before anything has left, and while the provider works.
    w.expect("it is killed before anything leaves",
             any(killed_before_it_leaves(w) for _ in range(9)))
    run = w.start()
    w.until_made()
    time.sleep(0.3)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    w.expect("the batch goes on", "\nbatch     " in w.store().stdout,
             w.store().stdout)
    bill = w.check(*w.run())
    w.expect("one batch was made", bill["batches"] == 1, bill)


def killed_anywhere(w):
    kills = 0
    while True:
        run = w.start("--budget", "1")
        try:
            said = run.communicate(timeout=w.rng.uniform(0.1, 3.2)
                                   if kills < 8 else 120)[1]
            break
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.communicate()
            kills += 1
    numbers = [json.loads(line) for line in said.splitlines()
               if line.startswith('{"model')]
    w.check(run.returncode, numbers[-1], said)


def stopped(w):
    run = w.start()
    w.until_made()
    time.sleep(0.3)
    began = time.monotonic()
    run.send_signal(signal.SIGINT)
    said = run.communicate()[1]
    w.expect("a stop does not wait", time.monotonic() - began < 15)
    w.expect("it is code 130", run.returncode == 130, run.returncode)
    w.expect("it says that the batch goes on",
             "which goes on; the same command picks it up" in said, said)
    code, _, said = w.run(batch=False)
    w.expect("without --batch it is not asked again", code == 78 and
             "run the command with --batch" in said, said)
    bill = w.check(*w.run())
    w.expect("one batch was made", bill["batches"] == 1, bill)


def partly(w):
    bill = w.check(*w.run(*SMALL))
    w.expect("the rest was asked again", bill["batches"] > 1, bill)


def unreadable(w):
    """Nobody knows whose line it was, but it is billed: it is charged at its
    bound, not taken for one that never had its turn."""
    code, numbers, said = w.run(*SMALL)
    w.expect("all is labelled in the end", code == 0, said)
    bill = w.bill()
    w.expect("there were such lines", bill["paid_twice"] > 0, bill)
    w.expect("what was spent covers the bill",
             numbers["spent_nanousd"] >= bill["nanousd"], (numbers, bill))
    w.expect("and the unknown is told", numbers["unknown_requests"] > 0,
             numbers)


def only_errors(w):
    code, numbers, said = w.run("--max-wait", "1s")
    w.expect("nothing but errors ends the run", code in (69, 75), said)
    w.expect("and costs nothing", numbers["spent_nanousd"] == 0, numbers)


def reply_lost(w):
    bill = w.check(*w.run())
    w.expect("it was found, not made again", bill["batches"] == 1, bill)


def killed_while_reply_lost(w):
    run = w.start()
    w.until_made()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    bill = w.check(*w.run())
    w.expect("it was found, not made again", bill["batches"] == 1, bill)


def queue_full(w):
    code, numbers, said = w.run(*SMALL)
    w.check(code, numbers, said)
    w.expect("a batch was too large", numbers["throttled"] > 0, numbers)


def queue_known(w):
    code, numbers, said = w.run(*SMALL, "--batch-tokens", "6000")
    bill = w.check(code, numbers, said)
    w.expect("no batch was too large", numbers["throttled"] == 0, numbers)
    w.expect("there are several", bill["batches"] > 2, bill)


def quirk(w):
    bill = w.check(*w.run())
    w.expect("a refused field is left out of the next batch",
             bill["batches"] == 2, bill)


def down(w):
    w.expect("the provider ends well", not (bad := w.fake.end()), bad)
    code, numbers, said = w.run("--max-wait", "2s")
    w.expect("nobody there ends the run", code == 69, said)


def key_wrong(w):
    code, numbers, said = w.run()
    w.expect("a wrong key stops the run", code == 77, said)
    w.expect("and costs nothing", numbers["spent_nanousd"] == 0, numbers)


def budget(w):
    code, numbers, said = w.run("--budget", "0.003", *SMALL)
    bill = w.bill()
    w.expect("the budget stops the run", code == 75, said)
    w.expect("and holds", bill["nanousd"] <= 3000000, bill)
    w.expect("and is used", bill["nanousd"] > 1000000, bill)


def other_input(w):
    """A batch whose rows are not in the input is left; its answers count."""
    run = w.start("--head", "200")
    w.until_made()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    w.rounds = 2 # each with its own account
    code, _, said = w.run("--head", "100", output="part.csv")
    w.expect("the first half is labelled", code == 0, said)
    bill = w.check(*w.run())
    w.expect("two batches were made", bill["batches"] == 2, bill)


def overdue(w):
    """Two hours after the provider's promise a batch is cancelled, and what
    was not worked on goes into the next one."""
    run = w.start()
    w.until_made()
    # Not killed: SQLite merges the log of whoever was, as we close the store
    # here, and without it a commit that was not yet counted looks like a copy.
    run.send_signal(signal.SIGINT)
    run.communicate()
    files = w.stores()
    for hours, batches in ((25, 1), (2, 2)): # 25 h are in time, 27 are not
        with contextlib.closing(sqlite3.connect(files[0])) as db, db:
            db.execute("UPDATE batch SET created_at = created_at - ?",
                       (hours * 3600,))
        run = w.start()
        if batches == 1:
            time.sleep(2)
        until = time.monotonic() + 60
        while w.bill()["batches"] < batches and time.monotonic() < until:
            time.sleep(0.05)
        w.expect(f"{batches} batches after {hours} h more",
                 w.bill()["batches"] == batches, w.bill())
        run.send_signal(signal.SIGINT)
        run.communicate()
    w.expect("a cancelled batch costs nothing", w.bill()["nanousd"] == 0,
             w.bill())


def anthropic(w):
    plain(w)


def anthropic_killed_twice(w):
    killed_twice(w)


def anthropic_partly(w):
    partly(w)


def anthropic_reply_lost(w):
    reply_lost(w)


CASES = [
    (anthropic, []),
    (anthropic_killed_twice, ["--batch-delay", "3"]),
    (anthropic_partly, ["--batch-fail", "0.2", "--batch-expire", "0.2",
                        "--batch-drop", "0.1", "--batch-delay", "0.3"]),
    (anthropic_reply_lost, ["--batch-lose", "1"]),
    (plain, []),
    (killed_twice, ["--batch-delay", "3"]),
    (killed_anywhere, ["--batch-delay", "1", "--batch-fail", "0.1"]),
    (stopped, ["--batch-delay", "4"]),
    (partly, ["--batch-fail", "0.2", "--batch-expire", "0.2", "--batch-drop",
              "0.1", "--batch-delay", "0.3"]),
    (unreadable, ["--batch-garble", "0.1", "--batch-delay", "0.3"]),
    (only_errors, ["--batch-fail", "1"]),
    (reply_lost, ["--batch-lose", "1"]),
    (killed_while_reply_lost, ["--batch-lose", "1"]),
    (queue_full, ["--batch-queue", "12000"]),
    (queue_known, ["--batch-queue", "12000"]),
    (quirk, ["--no-max-completion-tokens"]),
    (down, []),
    (key_wrong, ["--key", "another-key"]),
    (budget, ["--batch-delay", "0.1"]),
    (other_input, ["--batch-delay", "2"]),
    (overdue, ["--batch-delay", "900"]),
]


def one(case):
    case, options = case
    world, began = World(case.__name__, *options), time.monotonic()
    try:
        case(world)
    except Exception as error:
        problems.append(f"{case.__name__}: {error!r}")
    finally:
        world.close()
    print(f"{case.__name__}: {time.monotonic() - began:.1f} s", flush=True)


chosen = [c for c in CASES if args.only in (None, c[0].__name__)]
with concurrent.futures.ThreadPoolExecutor(4) as pool: # they mostly sleep
    list(pool.map(one, chosen))
print(f"{len(chosen)} cases of batches")
for problem in problems:
    print("FAILED:", problem)
sys.exit(1 if problems else 0)
