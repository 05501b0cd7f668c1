#!/usr/bin/env python3
"""What a run tells of itself, seen from outside: alerts by webhook and by
command, metrics, the trace. The real program, `trommel fake`, and a receiver
of our own.

    watch.py TROMMEL [TEST...]

Nothing here depends on speed: what must come, comes in the end; what must not,
is looked for at the end.
SPDX-License-Identifier: MIT
"""
import concurrent.futures, csv, hashlib, hmac, http.server, json, os, pathlib
import re, shutil, signal, socket, subprocess, sys, tempfile, threading, time
import traceback, urllib.error, urllib.request

sys.dont_write_bytecode = True  # the source folder stays as it is
import promtext
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import canary
from provider import Fake

TROMMEL = str(pathlib.Path(sys.argv[1]).resolve())
KEY = canary.KEY
SECRET = "whsec-canary-9876"
ROW = "canaryrow"
LABELS = ["refund", "bug", "question"]


# ---- scenery ---------------------------------------------------------------

class Receiver:
    """A webhook's server: keeps what it gets, answers as told. Nothing that
    it gets gives away a key, the secret or a text."""

    def __init__(self, status=200, hang=False, location=None):
        self.got, self.ever, self.hold = [], [], threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers), body))
                outer.ever.append(repr(outer.got[-1]))
                if hang:
                    outer.hold.wait(60)
                code = status(len(outer.got)) if callable(status) else status
                self.send_response(code)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                      Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/s3cr3t"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self, kind=None):
        all_of_it = [json.loads(body) for _, body in self.got]
        return [e for e in all_of_it if kind in (None, e["event"])]

    def close(self):
        self.hold.set()
        self.server.shutdown()
        self.server.server_close()
        for told in self.ever:
            assert not canary.seen(told), told
            assert SECRET not in told and ROW not in told, told


class Place:
    """A folder with rows, a fake and an environment."""

    def __init__(self, rows, *fake, price="{input: 1, output: 5}"):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="trommel-watch-"))
        self.rows = rows
        with open(self.dir / "in.csv", "w", newline="") as f:
            out = csv.writer(f)
            out.writerow(["text", "gold"])
            for i in range(rows):
                out.writerow([f"message {i} {ROW}{i}", LABELS[i % 3]])
        (self.dir / "config/trommel").mkdir(parents=True)
        (self.dir / "config/trommel/models.yaml").write_text(
            f"as_of: 2026-11-24\nmodels:\n  openai/m: {price}\n")
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.dir),
                    "XDG_CONFIG_HOME": str(self.dir / "config"),
                    "XDG_STATE_HOME": str(self.dir / "state"),
                    "OPENAI_API_KEY": KEY, "HOOK_SECRET": SECRET,
                    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", ""),
                    "UBSAN_OPTIONS": os.environ.get("UBSAN_OPTIONS", "")}
        self.fake = Fake(TROMMEL, self.dir, "--gold", self.path("in.csv"),
                         "--label", "gold", "--prices", "1:5", *fake)
        self.url, self.bill = self.fake.url, self.fake.bill

    def path(self, name):
        return str(self.dir / name)

    def command(self, *options):
        return [TROMMEL, "classify", self.path("in.csv"), "--text", "text",
                "--labels", ",".join(LABELS), "--model", "openai/m",
                "--base-url", self.url + "/v1", "--key-env", "OPENAI_API_KEY",
                "--progress", "none", "-o", self.path("out.csv"), *options]

    def start(self, *options, **env):
        return subprocess.Popen(
            self.command(*options), env={**self.env, **env},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True)

    def run(self, *options, **env):
        done = self.start(*options, **env)
        _, stderr = done.communicate(timeout=120)
        assert not canary.seen(stderr), stderr
        return done.returncode, stderr

    def requests(self):
        return self.bill()["requests"]["total"]

    def labelled(self):
        with open(self.path("out.csv"), newline="") as f:
            rows = list(csv.DictReader(f))
        return [r["label"] for r in rows] == [r["gold"] for r in rows] and \
            len(rows) == self.rows

    def script(self, name, text):
        path = self.dir / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        return str(path)

    def close(self):
        bad = self.fake.end() + canary.search(self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not bad, bad


class Spare:
    """A second provider beside the one of a place."""

    def __init__(self, place):
        self.place = place

    def __enter__(self):
        self.fake = Fake(TROMMEL, self.place.dir, "--gold",
                         self.place.path("in.csv"), "--label", "gold",
                         name="spare")
        return self.fake.url

    def __exit__(self, *_):
        same(self.fake.end(), [])


def wait_for(what, name, seconds=60):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, f"{name} did not come"
        time.sleep(0.02)


def get(url, method="GET", data=None):
    try:
        request = urllib.request.Request(url, method=method, data=data)
        with urllib.request.urlopen(request, timeout=10) as r:
            return r.status, r.headers, r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def same(got, wanted, what=""):
    assert got == wanted, f"{what}: {got!r} instead of {wanted!r}"


# ---- alerts ----------------------------------------------------------------

def budget_thresholds(place, hook):
    """50, 80 and 95 % exactly once each, signed, without a key or a text; over
    two runs of the job, too."""
    options = ["--alert-webhook", hook.url, "--alert-secret-env",
               "HOOK_SECRET", "--pack", "1", "--concurrency", "2", "--job",
               "nightly"]
    code, err = place.run("--budget", "0.04", *options)
    same(code, 75, err)
    kinds = [(e["event"], e["limit"]) for e in hook.events()]
    same([k for k in kinds if k[0] == "budget"],
         [("budget", 50), ("budget", 80), ("budget", 95)])
    same(len(hook.events("run_finished")), 1)
    same(hook.events("run_finished")[0]["value"], 75)
    for headers, body in hook.got:
        mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        same(headers["X-Trommel-Signature"], "sha256=" + mac)
        same(headers["Content-Type"], "application/json")
        assert "Authorization" not in headers, headers
        event = json.loads(body)
        assert event["text"].startswith("trommel nightly: "), event
        same(event["job"], "nightly")
        assert event["severity"] in ("info", "warning", "critical"), event
        assert event["run"]["budget_nanousd"] == 40_000_000, event
    same(len({e["id"] for e in hook.events()}), len(hook.got), "ids")
    # The next run of the job is over its budget from the first moment on:
    # an earlier one has told so.
    hook.got.clear()
    code, err = place.run("--budget", "0.04", *options)
    same(code, 75, err)
    same([e["event"] for e in hook.events()], ["run_finished"])
    # A higher ceiling has shares of its own.
    hook.got.clear()
    code, err = place.run("--budget", "0.08", *options)
    same(code, 0, err)
    same([e["limit"] for e in hook.events("budget")], [50])
    assert place.labelled()


budget_thresholds.place = (400, "--latency", "2")


def budget_of_its_time(place, hook):
    """What a run tells is of the budget as it was said, and of what it covers:
    this run, or the job that began when the one before was done."""
    path = place.dir / "m.prom"

    def tells(code, budget, shares, *options):
        hook.got.clear()
        ended, err = place.run(
            "--alert-webhook", hook.url, "--metrics-file", str(path),
            "--pack", "1", "--concurrency", "2", "--budget", str(budget),
            *options)
        same(ended, code, err)
        nano = round(budget * 1e9)
        for e in hook.events():
            same(e["run"]["budget_nanousd"], nano)
            assert 0 <= e["run"]["budget_used_nanousd"] <= nano, e
        told = hook.events("budget")
        same([e["limit"] for e in told], shares)
        for e in told:
            assert e["limit"] <= e["value"] <= 100, e
            assert re.search(rf"\(\S+ of \${budget}0?\)", e["text"]), e
        families = promtext.parse(path.read_text())
        same(promtext.total(families, "trommel_budget_usd"), budget)
        used = promtext.total(families, "trommel_budget_used_usd")
        assert shares[-1] / 100 * budget <= used <= budget, used

    for _ in range(3):  # the bound of a request does not fit into the rest
        tells(75, 0.008, [50, 80], "--budget-per", "run")
    tells(0, 0.08, [50])
    tells(0, 0.08, [50], "--fresh")
    assert place.labelled()


budget_of_its_time.place = (400, "--latency", "2")


def quota_exhausted(place, hook):
    """Many answers say so, one alert goes out."""
    code, err = place.run("--alert-webhook", hook.url, "--pack", "1",
                          "--concurrency", "16", "--alert-errors", "0")
    same(code, 77, err)
    same([e["event"] for e in hook.events()],
         ["quota_exhausted", "run_finished"])
    quota, end = hook.events()
    same(quota["model"], "openai/m")
    same(quota["severity"], "critical")
    same((end["value"], end["severity"]), (77, "critical"))


quota_exhausted.place = (200, "--quota-after", "100", "--latency", "30")


def fallback(place, hook):
    """The next model goes on: the alert is about the lane, the run is well."""
    path = place.dir / "m.prom"
    with Spare(place) as url:
        (place.dir / "config/trommel/config.yaml").write_text(
            "providers:\n  spare: {dialect: openai, base_url: "
            f"\"{url}/v1\"}}\n")
        code, err = place.run("--alert-webhook", hook.url, "--pack", "1",
                              "--fallback", "spare/n", "--metrics-file",
                              str(path), "--alert-errors", "0")
    same(code, 0, err)
    same([(e["event"], e["model"]) for e in hook.events()],
         [("quota_exhausted", "openai/m"), ("run_finished", "")])
    families = promtext.parse(path.read_text())
    for model, outcome in (("m", "ok"), ("m", "exhausted"), ("n", "ok")):
        assert promtext.total(families, "trommel_requests_total", model=model,
                              outcome=outcome) > 0, (model, outcome)
    assert place.labelled()


fallback.place = (60, "--quota-after", "20", "--latency", "10")


def key_refused(place, hook):
    code, err = place.run("--alert-webhook", hook.url)
    same(code, 77, err)
    same([e["event"] for e in hook.events()], ["lane_down", "run_finished"])


key_refused.place = (50, "--key", "another")


def outage(place, hook):
    same(place.fake.end(), [])
    code, err = place.run("--alert-webhook", hook.url, "--max-wait", "1s")
    same(code, 69, err)
    same(len(hook.events("lane_down")), 1)
    same(hook.events()[-1]["event"], "run_finished")


outage.place = (50,)


def stall(place, hook):
    """One request hangs behind all others: one alert, then the end."""
    code, err = place.run("--alert-webhook", hook.url, "--alert-stall", "3s",
                          "--pack", "1")
    same(code, 0, err)
    same([e["event"] for e in hook.events()], ["stall", "run_finished"])
    assert hook.events("stall")[0]["value"] >= 3
    assert place.labelled()


stall.place = (40, "--stuck", f"{ROW}39:8")


def error_rate(place, hook):
    code, err = place.run("--alert-webhook", hook.url, "--pack", "1",
                          "--alert-errors", "20")
    same(code, 0, err)
    same([e["event"] for e in hook.events()], ["error_rate", "run_finished"])
    event = hook.events("error_rate")[0]
    assert event["value"] >= event["limit"] == 20, event


error_rate.place = (50, "--500", "0.4")


def failed_rows(place, hook):
    code, err = place.run("--alert-webhook", hook.url, "--pack", "1")
    same(code, 1, err)
    same(len(hook.events("failed_rows")), 1)
    same(hook.events("run_finished")[0]["severity"], "warning")


failed_rows.place = (60, "--poison", "message")


def plan_does_not_fit(place, hook):
    """It is told before the money is gone, not only when it is."""
    code, err = place.run("--alert-webhook", hook.url, "--pack", "1",
                          "--budget", "0.04", "--concurrency", "2")
    same(code, 75, err)
    kinds = [(e["event"], e["limit"]) for e in hook.events()]
    same(len(hook.events("spend_rate")), 1)
    assert kinds.index(("spend_rate", 40_000_000)) < \
        kinds.index(("budget", 80)), kinds


plan_does_not_fit.place = (2000, "--latency", "20")


def rows_cost_twice_the_estimate(place, hook):
    """Reasoning that is billed, and that nobody counted on."""
    code, err = place.run("--alert-webhook", hook.url, "--pack", "4")
    same(code, 0, err)
    told = hook.events("spend_rate")
    same(len(told), 1)
    assert told[0]["value"] > told[0]["limit"] > 0, told
    assert "the estimate at the start was $" in told[0]["text"], told


rows_cost_twice_the_estimate.place = (800, "--latency", "20",
                                      "--reasoning", "300")


def retried_and_refused(place, hook):
    """A webhook that fails twice gets its alert on the third try; one that
    moved is not followed."""
    other = Receiver()
    shy = Receiver(status=lambda n: 503 if n <= 2 else 204)
    moved = Receiver(status=307, location=other.url)
    try:
        code, err = place.run("--alert-webhook", shy.url, "--alert-stall",
                              "2s", "--pack", "1")
        same(code, 0, err)
        same([e["event"] for e in shy.events()],
             ["stall"] * 3 + ["run_finished"])
        same(len({e["id"] for e in shy.events("stall")}), 1)
        assert "not delivered" not in err, err
        code, err = place.run("--alert-webhook", moved.url, "--fresh",
                              "--alert-stall", "2s", "--pack", "1")
        same(code, 0, err)
        same(len(moved.got), 2)
        same(other.got, [])
        same(err.count("not delivered: HTTP 307"), 1, err)
        assert "s3cr3t" not in err, err  # the address is a secret
    finally:
        for r in (other, shy, moved):
            r.close()


retried_and_refused.place = (30, "--stuck", f"{ROW}29:11")


def dead_webhook(place, _):
    """A server that takes alerts and never answers: the output is there
    before it is given up, the exit code is that of the run, and Ctrl-C goes
    without it."""
    deaf = Receiver(hang=True)
    try:
        run = place.start("--alert-webhook", deaf.url, "--budget", "0.09",
                          "--pack", "1")
        # Its first alert waits for its answer until long after the end.
        wait_for(lambda: (place.dir / "out.csv").exists(), "the output")
        wait_for(lambda: deaf.got, "the first delivery")
        same(run.poll(), None, "the run waits for the last alert")
        assert place.labelled()
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        same(run.returncode, 0, err)
        assert "400 rows" in err, err
    finally:
        deaf.close()


dead_webhook.place = (400, "--latency", "2")


def refusing_webhook(place, _):
    """Nobody listens: said once, and the run is whole."""
    with socket.socket() as s:  # a port that nobody has
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        code, err = place.run("--alert-webhook", f"http://127.0.0.1:{port}/x",
                              "--budget", "0.09", "--pack", "1")
    same(code, 0, err)
    same(err.count("alert webhook 127.0.0.1"), 1, err)
    assert place.labelled()


refusing_webhook.place = (400,)


# ---- the command -----------------------------------------------------------

def command(place, _):
    """JSON on standard input; no key, no descriptor of ours, a group of its
    own; labels and names are never words of a shell."""
    seen = place.path("seen")
    hook = place.script("hook", f"""
exec >> {seen} 2>&1
echo "== $TROMMEL_EVENT $#"
env
ls /proc/self/fd
echo "group $(cut -d' ' -f5 /proc/$$/stat) $$"
cat
""")
    with open(place.path("held"), "w") as held:  # not close-on-exec
        os.set_inheritable(held.fileno(), True)
        run = subprocess.Popen(
            place.command("--alert-command", hook, "--budget", "0.09",
                          "--pack", "1", "--job", "$(touch pwned) `id` ;'\"",
                          "--alert-webhook", "http://127.0.0.1:9/none",
                          "--alert-secret-env", "HOOK_SECRET"),
            env=place.env, stdin=subprocess.DEVNULL, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        _, err = run.communicate(timeout=120)
    same(run.returncode, 0, err)
    text = pathlib.Path(seen).read_text()
    parts = text.split("== ")[1:]
    kinds = [part.split()[0] for part in parts]
    same(kinds[-1], "run_finished", text)
    assert len(kinds) > 1, kinds
    for secret in (KEY, SECRET, ROW, "s3cr3t", "OPENAI", "HOOK_SECRET"):
        assert secret not in text, secret
    for part in parts:
        lines = part.splitlines()
        same(lines[0].split()[1], "0", "arguments")
        event = json.loads(next(l for l in lines if l.startswith("{")))
        same(event["event"], lines[0].split()[0])
        same(event["job"], "$(touch pwned) `id` ;'\"")
        group, me = next(l for l in lines if l.startswith("group ")).split()[1:]
        same(group, me, "its own group")
        fds = sorted(int(l) for l in lines if l.isdigit())
        assert fds[:3] == [0, 1, 2] and len(fds) == 4, fds  # and ls's own
        names = {l.split("=")[0] for l in lines if "=" in l and
                 not l.startswith("{")}
        assert names <= {"PATH", "HOME", "TROMMEL_EVENT", "PWD", "SHLVL", "_",
                         "OLDPWD", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER",
                         "LOGNAME", "TMPDIR"}, names
    assert not os.path.exists("pwned") and not (place.dir / "pwned").exists()


command.place = (400,)


def file_name_of_another_alphabet(place, hook):
    """A file's name is any bytes, and JSON is UTF-8: its reader is strict."""
    odd = os.fsdecode(b"caf\xe9.csv")
    shutil.copy(place.path("in.csv"), place.path(odd))
    command = place.command("--alert-webhook", hook.url)
    command[command.index(place.path("in.csv"))] = place.path(odd)
    done = subprocess.run(command, env=place.env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=120)
    same(done.returncode, 0, done.stderr)
    event, = (json.loads(body.decode()) for _, body in hook.got)
    same(event["event"], "run_finished")
    assert event["job"].endswith("/caf?.csv"), event["job"]


file_name_of_another_alphabet.place = (5,)


def hanging_command(place, _):
    """It hangs, floods its output and leaves children: killed with all of
    them after its time, said once; the output was there long before."""
    pids = place.path("pids")
    hook = place.script("hook", f"""
echo $$ >> {pids}
(trap '' TERM HUP; yes & echo $! >> {pids}; exec sleep 1000) &
echo $! >> {pids}
yes
""")
    run = place.start("--alert-command", hook, "--budget", "0.09", "--pack",
                      "1")
    wait_for(lambda: (place.dir / "out.csv").exists(), "the output")
    same(run.poll(), None, "the run waits for its last alert")
    assert place.labelled()
    _, err = run.communicate(timeout=120)
    same(run.returncode, 0, err)
    same(err.count("alert command"), 1, err)
    known = [int(line) for line in open(pids)]
    assert len(known) >= 3, known
    wait_for(lambda: not any(is_alive(p) for p in known), "their end")


hanging_command.place = (400,)


def command_that_forks_away(place, _):
    """What a command leaves running ends with it."""
    hook = place.script("hook", f"sleep 1000 & echo $! >> {place.path('p')}\n")
    code, err = place.run("--alert-command", hook)
    same(code, 0, err)
    known = [int(line) for line in open(place.path("p"))]
    wait_for(lambda: not any(is_alive(p) for p in known), "their end")


command_that_forks_away.place = (10,)


def command_in_another_group(place, _):
    """One that leaves its process group is killed all the same, and the
    program does not wait for it for ever."""
    place.script("hook", f"""
echo $$ > {place.path('p')}
exec {sys.executable} -c '
import os, time
os.setpgid(0, os.getpgid(os.getppid()))
time.sleep(1000)'
""")
    run = place.start("--alert-command", place.path("hook"))
    try:
        _, err = run.communicate(timeout=120)
    finally:
        run.kill()
    same(run.returncode, 0, err)
    known = int(open(place.path("p")).read())
    wait_for(lambda: not is_alive(known), "its end")


command_in_another_group.place = (10,)


def slow_reader(place, _):
    """Whoever reads the output may take hours for what the run wrote last:
    alerts do not wait for him."""
    hook = place.script("hook", f"echo $TROMMEL_EVENT >> {place.path('seen')}; "
                                "sleep 1\n")
    pathlib.Path(place.path("seen")).touch()
    told = lambda: open(place.path("seen")).read().split()
    options = ["--pack", "1", "--concurrency", "4", "-o", "-"]
    cost = json.loads(subprocess.run(
        place.command(*options, "--progress", "json", "--store", "none"),
        env=place.env, stdin=subprocess.DEVNULL, capture_output=True,
        text=True).stderr.splitlines()[-1])["spent_nanousd"]
    run = subprocess.Popen(
        place.command(*options, "--budget", f"{cost * 1.02 / 1e9:.9f}",
                      "--alert-command", hook),
        env=place.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: told().count("budget") == 3, "all three")
        same(run.poll(), None, "the output waits for its reader")
        same(run.stdout.read().count(b"\n"), place.rows + 1)
        same(run.wait(60), 0)
        same(told()[-1], "run_finished")
    finally:
        run.kill()


slow_reader.place = (1500,)


def library(place, _):
    """The same for a program around the library."""
    found = sorted(pathlib.Path(TROMMEL).parent.glob("libtrommel.so*"))
    assert found, "libtrommel.so was not built beside the program"
    if re.search(rb"__[at]san_init", found[0].read_bytes()):
        return  # sanitizers must be linked to the program itself
    place.script("hook", f"cat >> {place.path('seen')}\n")
    for how in ("default", "ignore"):
        done = subprocess.run(
            [sys.executable, str(pathlib.Path(__file__).with_name("library.py")),
             str(found[0]), str(place.dir), how, place.url + "/v1"],
            env=place.env, capture_output=True, text=True, timeout=120)
        same(done.returncode, 0, done.stderr)
    wait_for(lambda: (place.dir / "seen").read_text().count("\n") == 2,
             "both alerts")


library.place = (20,)


# ---- metrics ---------------------------------------------------------------

def lint(text):
    """promtool, where it is installed."""
    if shutil.which("promtool"):
        done = subprocess.run(["promtool", "check", "metrics"], text=True,
                              input=text, capture_output=True)
        same((done.returncode, done.stderr), (0, ""), "promtool")


def metrics(place, _):
    """Scraped while the run goes, and in a file at its end."""
    prom = place.dir / "m.prom"
    run = place.start("--metrics", ":0", "--metrics-file", str(prom),
                      "--pack", "1", "--concurrency", "4", "--budget", "1")
    url = None
    for line in run.stderr:
        if line.startswith("metrics: "):
            url = line.split()[1]
            break
    assert url and url.startswith("http://127.0.0.1:"), url
    base = url.rsplit("/", 1)[0]
    wait_for(lambda: get(url)[0] == 200, "a snapshot")
    before, scrapes, going = {}, 0, 0
    while run.poll() is None:
        try:
            status, headers, text = get(url)
        except OSError:
            break  # the run is over
        same(status, 200)
        same(headers["Content-Type"],
             "text/plain; version=0.0.4; charset=utf-8")
        families = promtext.parse(text)
        lint(text)
        for name, (kind, samples) in families.items():
            if kind == "gauge":
                continue
            for key, value in [((s, k), v) for s, m in samples.items()
                               for k, v in m.items()]:
                assert value >= before.get(key, 0), (key, value)
                before[key] = value
        scrapes += 1
        done = promtext.total(families, "trommel_items_total")
        going += 0 < done < place.rows
        time.sleep(0.1)
        if scrapes == 3:
            same(get(base + "/nothing")[0], 404)
            same(get(url, "POST", b"x" * 1000)[0], 405)
            same(get(url, "PUT", b"x")[0], 405)
            same(get(url, "HEAD")[0::2], (200, ""))
            status, headers, text = get(base + "/status.json")
            same((status, headers["Content-Type"]),
                 (200, "application/json"))
            assert json.loads(text)["rows_read"] > 0, text
    _, err = run.communicate(timeout=120)
    same(run.returncode, 0, err)
    assert going >= 2, f"{scrapes} scrapes, {going} of them in the middle"
    text = prom.read_text()
    assert ROW not in text and KEY not in text
    lint(text)
    families = promtext.parse(text)
    total = promtext.total
    same(total(families, "trommel_items_total", outcome="labelled"),
         place.rows)
    same(total(families, "trommel_requests_total"), place.requests())
    assert total(families, "trommel_requests_total", outcome="transient") > 0
    assert total(families, "trommel_retries_total", reason="transient") > 0
    counts = families["trommel_request_duration_seconds"][1]
    for labels, n in counts["trommel_request_duration_seconds_count"].items():
        same(n, total(families, "trommel_requests_total", **dict(labels)))
    bill = place.bill()
    tokens = {t: total(families, "trommel_tokens_total", type=t) for t in
              ("input", "cached", "cache_write", "output", "reasoning")}
    same(tokens["input"] + tokens["cached"], bill["prompt_tokens"])
    same(tokens["output"] + tokens["reasoning"], bill["completion_tokens"])
    assert tokens["reasoning"] == bill["reasoning_tokens"] > 0, tokens
    same(round(total(families, "trommel_cost_usd_total") * 1e9),
         bill["nanousd"])
    same(total(families, "trommel_finished"), 1)
    same(total(families, "trommel_exit_code"), 0)
    same(total(families, "trommel_alerts_total", kind="run_finished"), 1)
    assert not list(place.dir.glob("*.tmp")), list(place.dir.iterdir())
    same(prom.stat().st_mode & 0o444, 0o444, "others may read it")


metrics.place = (600, "--latency", "20", "--500", "0.05", "--reasoning", "7")


def strange_model_names(place, _):
    """A model's name is text of the user: escaped, never a line of its own."""
    prom = place.dir / "m.prom"
    code, err = place.run("--model", 'openai/a"b\\c', "--metrics-file",
                          str(prom))
    same(code, 0, err)
    families = promtext.parse(prom.read_text())
    same(promtext.total(families, "trommel_requests_total",
                        model='a\\"b\\\\c'), place.requests())
    assert "trommel_cost_usd_total" not in families  # no price, no cost


strange_model_names.place = (20,)


def metrics_file_fails(place, _):
    code, err = place.run("--metrics-file", place.path("none/m.prom"))
    same(code, 0, err)
    same(err.count("--metrics-file"), 1, err)
    assert place.labelled()


metrics_file_fails.place = (20,)


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def metrics_that_cannot_listen(place, _):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        where = f"127.0.0.1:{s.getsockname()[1]}"
        code, err = place.run("--metrics", where)
        same(code, 78, err)
        assert f"{where} cannot be listened on: it is in use" in err, err
    code, err = place.run("--metrics", "192.0.2.1:0")
    same(code, 78, err)
    assert "no address of this machine" in err, err
    for bad in ("9464", "here:1", ":x", ":70000", "127.0.0.1:", "[::1]"):
        code, err = place.run("--metrics", bad)
        same(code, 2, (bad, err))
    same(place.requests(), 0)
    code, err = place.run("--metrics", "0.0.0.0:0")
    same(code, 0, err)
    assert "other machines can read it" in err, err
    for where in ("::1:0", "[::1]:0") if has_ipv6() else ():
        code, err = place.run("--metrics", where)
        same(code, 0, err)
        assert "metrics: http://[::1]:" in err, err


metrics_that_cannot_listen.place = (5,)


# ---- the trace -------------------------------------------------------------

def trace(place, _):
    """As many lines as requests, names as the conventions have them, no text,
    no answer, no key."""
    path = place.path("trace.jsonl")
    code, err = place.run("--trace", path, "--pack", "2", "--timeout", "2s")
    assert code in (0, 1), err
    text = pathlib.Path(path).read_text()
    same(text.count("\n"), place.requests())
    for secret in (KEY, ROW, *LABELS):
        assert secret not in text, secret
    spans = [json.loads(line) for line in text.splitlines()]
    same(len({s["span_id"] for s in spans}), len(spans))
    same(len({s["trace_id"] for s in spans}), 1)
    outcomes = set()
    for span in spans:
        a = span["attributes"]
        same(span["name"], "chat m")
        assert span["start_time_unix_nano"] <= span["end_time_unix_nano"]
        assert abs(span["end_time_unix_nano"] / 1e9 - time.time()) < 600
        same(a["gen_ai.operation.name"], "chat")
        same(a["gen_ai.provider.name"], "openai")
        same(a["gen_ai.request.model"], "m")
        same(f"http://{a['server.address']}:{a['server.port']}", place.url)
        outcome = a["trommel.outcome"]
        outcomes.add(outcome)
        if outcome == "ok":
            assert "error.type" not in a, a
            assert a["gen_ai.usage.input_tokens"] > 0, a
            assert a["gen_ai.usage.output_tokens"] > 0, a
        elif outcome != "truncated":
            same(a["error.type"], outcome)
    assert {"ok", "transient", "lost"} <= outcomes, outcomes
    paid = sum(s["attributes"].get("trommel.cost_nano_usd", 0) for s in spans)
    assert paid > 0
    # The next run adds; a line that a killed run left half is ended first.
    with open(path, "a") as f:
        f.write('{"name":"chat m","tra')
    before = place.requests()
    code, err = place.run("--trace", path, "--fresh", "--timeout", "2s")
    assert code in (0, 1), err
    lines = pathlib.Path(path).read_text().splitlines()
    same(len(lines), place.requests() + 1)
    same(lines[before], '{"name":"chat m","tra')
    for line in lines[before + 1:]:
        json.loads(line)
    same(os.stat(path).st_mode & 0o777, 0o600)


trace.place = (120, "--500", "0.1", "--cut", "0.1", "--truncate", "0.05")


def trace_disk_full(place, _):
    code, err = place.run("--trace", "/dev/full", "--pack", "1")
    same(code, 0, err)
    same(err.count("--trace /dev/full"), 1, err)
    assert place.labelled()


trace_disk_full.place = (400,)


def trace_slow_reader(place, _):
    """A pipe that nobody empties: bounded, said once, the run is whole."""
    fifo = place.path("fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    code, err = place.run("--trace", fifo, "--pack", "1")
    same(code, 0, err)
    same(err.count("too slow"), 1, err)
    assert place.labelled()
    got = b""
    while piece := os.read(reader, 1 << 16):
        got += piece
    assert got, "nothing came through the pipe"
    for line in got.split(b"\n")[:-1]:
        json.loads(line)
    os.close(reader)


trace_slow_reader.place = (1500,)


# ---- settings --------------------------------------------------------------

def settings(place, hook):
    """What cannot work is said before anything is sent; addresses and secrets
    are not repeated."""
    loose = place.dir / "loose"
    loose.write_text(SECRET)
    loose.chmod(0o644)
    tight = place.dir / "tight"
    tight.write_text(SECRET + "\n")
    tight.chmod(0o600)
    plain = place.dir / "plain"
    plain.write_text("no program")
    far = "http://alerts.example/s3cr3t"
    for code, options, words in (
            (78, ["--alert-webhook", far], "plain http"),
            (78, ["--alert-webhook", "ftp://x/s3cr3t"], "https://"),
            (78, ["--alert-webhook", "https://u:s3cr3t@x/"], "user name"),
            (78, ["--alert-webhook", "https:///s3cr3t"], "no host"),
            (78, ["--alert-webhook", "http://127.0.0.1:99999/s3cr3t"],
             "no valid address"),
            (78, ["--alert-webhook", hook.url, "--alert-secret-env", "NONE"],
             "not set"),
            (78, ["--alert-webhook", hook.url, "--alert-secret-file",
                  str(loose)], "chmod 600"),
            (2, ["--alert-secret-env", "HOOK_SECRET"], "--alert-webhook"),
            (2, ["--alert-command", "./hook"], "absolute"),
            (2, ["--alert-command", "/nonexistent"], "no such program"),
            (2, ["--alert-command", str(plain)], "no such program"),
            (2, ["--alert-command", "no-such-program-anywhere"], "in PATH"),
            (73, ["--trace", place.path("none/trace")], "--trace")):
        got, err = place.run(*options)
        same(got, code, (options, err))
        assert words in err and "s3cr3t" not in err and SECRET not in err, err
    same(place.requests(), 0)
    same(hook.got, [])
    # Neither from a task file: it may be another's, and would run programs.
    task = place.dir / "task.yaml"
    task.write_text("labels: [a, b]\nalert-command: /bin/true\n")
    done = subprocess.run([TROMMEL, "classify", place.path("in.csv"), "--task",
                           str(task)], env=place.env, capture_output=True,
                          text=True)
    same(done.returncode, 78, done.stderr)
    # From a file of the right mode; a dry run tells nobody.
    options = ["--alert-webhook", hook.url, "--alert-secret-file", str(tight),
               "--alert-command", "true"]
    code, err = place.run("--dry-run", *options)
    same((code, hook.got), (0, []), err)
    code, err = place.run(*options)
    same(code, 0, err)
    (headers, body), = hook.got
    same(headers["X-Trommel-Signature"], "sha256=" + hmac.new(
        SECRET.encode(), body, hashlib.sha256).hexdigest())
    assert "not delivered" not in err, err


settings.place = (5,)


# ---- all of it -------------------------------------------------------------

TESTS = [budget_thresholds, budget_of_its_time, quota_exhausted, fallback,
         key_refused, outage, stall, error_rate, failed_rows, plan_does_not_fit,
         rows_cost_twice_the_estimate, retried_and_refused,
         dead_webhook, refusing_webhook, command,
         file_name_of_another_alphabet, hanging_command,
         command_that_forks_away, command_in_another_group, slow_reader, library,
         metrics, strange_model_names, metrics_file_fails, metrics_that_cannot_listen, trace,
         trace_disk_full, trace_slow_reader, settings]


def attempt(test):
    place, hook = Place(test.place[0], *test.place[1:]), Receiver()
    bad = ""
    for step in (lambda: test(place, hook), hook.close, place.close):
        try:
            step()
        except Exception:
            bad += traceback.format_exc(limit=4)
    return bad


def main():
    promtext.check_the_checker()
    chosen = [t for t in TESTS if t.__name__ in sys.argv[2:]] or TESTS
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for test, trouble in zip(chosen, pool.map(attempt, chosen)):
            if trouble:
                bad += 1
                print(f"FAIL {test.__name__}\n{trouble}")
    print(f"{len(chosen) - bad} of {len(chosen)} as expected"
          f"{'' if shutil.which('promtool') else ' (promtool not installed)'}")
    sys.exit(bad > 0)


main()
