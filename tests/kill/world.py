"""world - a provider on loopback, rows with known labels, and one job at a
time of the real program, for the tests that hurt it.

SPDX-License-Identifier: MIT
"""
import csv, json, os, random, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True  # the source folder stays as it is
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import canary
from provider import CRASH, Fake

# Who starts the tests in the background has Ctrl-C ignored, and all below.
signal.signal(signal.SIGINT, signal.default_int_handler)

LABELS = ["refund", "bug", "question", "praise"]


def memory_folder():
    """Kills and errors need no disk: what is synced survives them anyway. A
    container's memory may be too small for stores."""
    if not os.access("/dev/shm", os.W_OK):
        return None
    there = os.statvfs("/dev/shm")
    return "/dev/shm" if there.f_bavail * there.f_frsize >= 1 << 30 else None


class World:
    """The provider and the inputs. Jobs get folders of their own."""

    def __init__(self, trommel, *options, rows=40, seed=1, batch=False,
                 preload="", module=""):
        self.trommel, self.module = os.path.abspath(trommel), module
        self.preload = " ".join(filter(None, [preload, module]))
        self.here = tempfile.mkdtemp(prefix="trommel-kill-",
                                     dir=memory_folder())
        self.jobs, self.rng = 0, random.Random(seed)
        self.input = self.path("in.csv")
        with open(self.input, "w", newline="") as f:
            out = csv.writer(f, lineterminator="\n")
            out.writerow(["id", "text", "gold"])
            told = []
            for i in range(rows):
                if i % 10 == 9: # an equal text
                    text, label = told[-3]
                else:
                    text = f"message {i} says \"{self.rng.random()}\", and\nmore"
                    label = self.rng.choice(LABELS)
                told.append((text, label))
                out.writerow([i, text, label])
        os.makedirs(self.path("config/trommel"))
        with open(self.path("config/trommel/models.yaml"), "w") as f:
            f.write("as_of: 2026-11-24\nmodels:\n"
                    "  openai/fake: {input: 1, output: 5, batch: 0.5}\n")
        self.fake = Fake(self.trommel, self.here, "--gold", self.input,
                         "--label", "gold", "--seed", str(seed), "--prices",
                         "1:5", *options)
        self.url, self.bill = self.fake.url, self.fake.bill

    def path(self, *names):
        return os.path.join(self.here, *names)

    def until_asked(self, n, seconds=60):
        until = time.monotonic() + seconds
        while self.bill()["requests"]["total"] < n:
            if time.monotonic() > until:
                raise RuntimeError(f"{n} requests never came")
            time.sleep(0.005)

    def job(self, *options, pack=4, flight=4, keep_bill=False):
        self.jobs += 1
        if not keep_bill:
            self.bill(reset=True)
        return Job(self, f"job{self.jobs}", pack, flight, options)

    def close(self):
        """What is wrong with how the provider ended."""
        bad = self.fake.end()
        shutil.rmtree(self.here, ignore_errors=True)
        return bad


class Job:
    """One command, run as often as it takes; its store, output and bill."""

    def __init__(self, world, name, pack, flight, options):
        self.world, self.pack, self.flight = world, pack, flight
        self.options, self.kills = list(options), 0
        self.task = ["--labels", ",".join(LABELS)]
        self.here = world.path(name)
        self.model = ["--model", "openai/fake", "--base-url", world.url + "/v1"]
        os.makedirs(self.here)
        self.store, self.out = self.path("store"), self.path("out.csv")

    def path(self, *names):
        return os.path.join(self.here, *names)

    def command(self):
        w = self.world
        return [w.trommel, "classify", w.input, *self.task,
                "--text", "text", *self.model, "--pack", str(self.pack),
                "--concurrency", str(self.flight), "--store", self.store,
                "-o", self.out,
                "--progress", "json", "--guard", "off", # canaries are paid often
                *self.options]

    def environment(self, fault=None, count=False, storm=None):
        w = self.world
        env = {"PATH": os.environ["PATH"], "HOME": self.here,
               "XDG_CONFIG_HOME": w.path("config"), "TMPDIR": self.here,
               "XDG_STATE_HOME": self.path("state"),
               "XDG_RUNTIME_DIR": self.here,
               "OPENAI_API_KEY": canary.KEY,
               "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
        if fault or count or storm:
            env["LD_PRELOAD"] = w.preload
        if fault:
            env["TROMMEL_FAULT"] = fault
        if count:
            env["TROMMEL_FAULT_COUNT"] = self.path("count")
        if storm:
            env["TROMMEL_FAULT_STORM"] = str(storm)
        return env

    def start(self, fault=None, count=False, storm=None, stdout=None,
              stdin=subprocess.DEVNULL, **more):
        self.log = open(self.path("log"), "w+")
        return subprocess.Popen(
            self.command(), env=self.environment(fault, count, storm),
            stdin=stdin, stderr=self.log,
            stdout=subprocess.DEVNULL if stdout is None else stdout, **more)

    def run(self, *args, kill_after=None, limit=120, **more):
        """The exit code; -9 when it was killed. After limit it hangs."""
        run = self.start(*args, **more)
        try:
            run.wait(limit if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            if kill_after is None:
                raise RuntimeError(f"still at work after {limit} s: "
                                   f"{more or args}")
        self.kills += run.returncode == -9
        return run.returncode

    def said(self):
        return open(self.path("log"), errors="replace").read()

    def sentences(self):
        """What it says of errors, and whatever is no JSON."""
        said = []
        for line in self.said().splitlines():
            try:
                told = json.loads(line)
                if told.get("level") == "error":
                    said.append(told["message"])
            except ValueError:
                said.append(line)
        return said

    def numbers(self):
        lines = [json.loads(line) for line in self.said().splitlines()
                 if line.startswith('{"model')]
        return lines[-1] if lines else {}

    def books(self):
        """What the store says of all runs together."""
        done = subprocess.run(
            [self.world.trommel, "store", "ls", "--json", "--store",
             self.store], env=self.environment(), capture_output=True,
            text=True)
        books = [json.loads(line) for line in done.stdout.splitlines()]
        if len(books) != 1 or books[0]["trouble"]:
            raise RuntimeError(f"store ls: {done.stdout} {done.stderr}")
        return books[0]

    def output(self):
        return open(self.out, "rb").read()

    def problems(self, code, calm, again=True):
        """After the last run of the job: what is wrong, from outside."""
        w = self.world
        bad = canary.search(self.here)
        if code != 0:
            return [f"the last run ended with {code}: {self.said()}"]
        bill, own = w.bill(), self.numbers()
        if calm is not None and self.output() != calm:
            bad.append("the output differs from an undisturbed run's")
        rows = list(csv.DictReader(open(self.out, newline="")))
        given = sum(1 for _ in csv.reader(open(w.input, newline=""))) - 1
        if len(rows) != given:
            bad.append(f"{len(rows)} rows of {given}")
        for row in rows:
            if row["label"] != row["gold"]:
                bad.append(f"row {row['id']}: {row['label']} instead of "
                           f"{row['gold']}")
        limit = self.kills * self.pack * self.flight
        if bill["paid_twice"] > limit:
            bad.append(f"{bill['paid_twice']} texts paid twice, more than the "
                       f"{limit} that were in flight")
        books = self.books()
        if books["spent_nanousd"] + books["unknown_nanousd"] < bill["nanousd"]:
            bad.append(f"the store says {books}, the bill says "
                       f"{bill['nanousd']}")
        if books["spent_nanousd"] > bill["nanousd"] + \
                bill["requests"]["total"]: # each is rounded up by itself
            bad.append(f"the store knows of {books['spent_nanousd']}, the bill "
                       f"says {bill['nanousd']}")
        if own["spent_nanousd"] > books["spent_nanousd"] + \
                books["unknown_nanousd"]:
            bad.append(f"the run says {own['spent_nanousd']}, its store "
                       f"{books}")
        if again:
            code = self.run()
            if code != 0 or (calm is not None and self.output() != calm):
                bad.append(f"the same command again ended with {code}, or "
                           "wrote something else")
            if w.bill()["requests"]["total"] != bill["requests"]["total"]:
                bad.append("a run over a full store sent requests")
        return bad

    def close(self):
        shutil.rmtree(self.here, ignore_errors=True)
