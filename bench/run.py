#!/usr/bin/env python3
"""Runs the benchmarks of bench/README.md against build/trommel and its fake.

    run.py TROMMEL [ROW...] [--full] [--write] [--keep DIR]

Every row compares numbers of one run on one machine. CPU is user plus system
time of the trommel process alone (wait4), never wall time; memory is its
largest resident set. --full takes the long forms (10 and 20 million rows, 300 s
stuck); --write puts the figures into bench/README.md.
SPDX-License-Identifier: MIT
"""
import argparse, http.server, json, os, platform, random, re, shutil, signal
import socket, subprocess, sys, tempfile, threading, time, urllib.request

BENCH = os.path.dirname(os.path.abspath(__file__))
LABELS = "World,Sports,Business,Sci/Tech"
ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("rows", nargs="*")
ap.add_argument("--full", action="store_true")
ap.add_argument("--write", action="store_true")
ap.add_argument("--keep", help="folder for inputs and stores, kept")
args = ap.parse_args()
args.trommel = os.path.abspath(args.trommel)
here = args.keep or tempfile.mkdtemp(prefix="trommel-bench-")
os.makedirs(here, exist_ok=True)
ENV = {"PATH": os.environ["PATH"], "HOME": here, "XDG_CONFIG_HOME":
       os.path.join(here, "config"), "XDG_STATE_HOME":
       os.path.join(here, "state")}


# ---- tools -------------------------------------------------------------

def path(name):
    return os.path.join(here, name)


def rows_file(n):
    """A CSV of n rows, each text another one, about as long as AG News."""
    name = path(f"rows-{n}.csv")
    if os.path.exists(name):
        return name
    rng = random.Random(1)
    words = ["".join(rng.choice("etaoinshrdlu") for _ in
                     range(rng.randint(2, 9))) for _ in range(3000)]
    tails = [" ".join(rng.choice(words) for _ in range(rng.randint(25, 45)))
             for _ in range(2000)]
    with open(name, "w") as f:
        f.write("id,text\n")
        for at in range(0, n, 10000):
            f.write("".join(f'{i},"No. {i}, {tails[i * 7919 % 2000]}"\n'
                            for i in range(at, min(n, at + 10000))))
    return name


class Fake:
    def __init__(self, *options):
        self.process = subprocess.Popen(
            [args.trommel, "fake", "--labels", LABELS, *options],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if "listening" not in line:
            sys.exit("trommel fake did not start")
        self.url = re.search(r"http://\S+", line)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def bill(self):
        with urllib.request.urlopen(self.url[:-2] + "bill") as r:
            return json.load(r)


class Run:
    """trommel classify, begun; wait() fills cpu_s, peak_mb, wall_s, code."""

    def __init__(self, url, file, pack, flight, store, *more, output="out.csv"):
        command = [args.trommel, "classify", file, "--text", "text", "--labels",
                   LABELS, "--model", "openai/fake", "--base-url", url,
                   "--progress", "json", "--store", path(store), "-o",
                   path(output), "--pack", str(pack), *more]
        if flight:
            command += ["--concurrency", str(flight)]
        self.errors = open(path("stderr"), "wb")
        self.began_ms = time.time() * 1000
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, env=ENV, stderr=self.errors,
                                        stdout=subprocess.DEVNULL)

    def wait(self, want=0):
        _, status, usage = os.wait4(self.process.pid, 0)
        self.wall_s = time.monotonic() - self.began
        self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.peak_mb = usage.ru_maxrss / 1024
        self.errors.close()
        if want is not None and self.code != want:
            tail = open(path("stderr"), errors="replace").read()[-600:]
            raise RuntimeError(f"trommel ended with {self.code}: {tail}")
        return self


def label(fake, n, pack, flight, *more):
    """n rows into an empty store, to the end."""
    shutil.rmtree(path("store"), ignore_errors=True)
    return Run(fake.url, rows_file(n), pack, flight, "store", *more).wait()


def folder_bytes(name):
    return sum(os.path.getsize(os.path.join(folder, f))
               for folder, _, files in os.walk(path(name)) for f in files)


def first_body():
    """What trommel sends for one text: the body of the bare loop."""
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            n = int(self.headers["content-length"])
            bodies.append(self.rfile.read(n))
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Run(f"http://127.0.0.1:{server.server_port}/v1", rows_file(100), 1, 1,
        "none", "--head", "1").wait(None)
    server.shutdown()
    if not bodies:
        raise RuntimeError("trommel sent no request")
    with open(path("body.json"), "wb") as f:
        f.write(bodies[0])
    return path("body.json")


def bare_loop(fake, requests, flight):
    program = path("bare_loop")
    if not os.path.exists(program):
        flags = subprocess.check_output(
            ["pkg-config", "--cflags", "--libs", "libcurl"], text=True).split()
        subprocess.check_call([os.environ.get("CC", "cc"), "-O2", "-o", program,
                               os.path.join(BENCH, "bare_loop.c"), *flags])
    return json.loads(subprocess.check_output(
        [program, fake.url + "/chat/completions", str(requests), str(flight),
         first_body()]))


# ---- rows: each returns (figure, reached) -------------------------------

def cpu_per_request():
    n = 20000
    with Fake() as fake:
        floors, ours = [], []
        for _ in range(3):
            floors.append(bare_loop(fake, n, 64)["cpu_us"])
            ours.append(label(fake, n, 1, 64).cpu_s * 1e6 / n)
    floor, our = sorted(floors)[1], sorted(ours)[1]
    return (f"{our / floor:.2f} × ({our:.0f} µs against {floor:.0f} µs)",
            our <= 2 * floor)


def latency_20ms():
    n = 40000
    with Fake("--latency", "20") as fake:
        floor = bare_loop(fake, n // 4, 64)["per_second"]
        fake.bill()
    with Fake("--latency", "20") as fake:
        run, bill = label(fake, n, 1, 64), fake.bill()
    span_s = (bill["last_request_ms"] - bill["first_request_ms"] + 20) / 1000
    rate = bill["requests"]["total"] / span_s
    return (f"{rate:.0f}/s, {rate / 32:.1f} % of 3,200 (bare loop "
            f"{floor / 32:.1f} %; whole process "
            f"{n / run.wall_s / 32:.1f} %)", rate >= 0.9 * 3200)


def labels_per_cpu_second():
    n = 300000
    with Fake() as fake:
        run = label(fake, n, 32, 16)
    rate = n / run.cpu_s
    return f"{rate:,.0f} labels/CPU s ({run.cpu_s:.2f} s)", rate >= 100000


def million(n, rows_per_s):
    """One file of n rows: peak memory, store size, and the run again."""
    with Fake() as fake:
        run = label(fake, n, 32, 16)
        bytes_a_row = folder_bytes("store") / n
        asked = fake.bill()["requests"]["total"]
        again = Run(fake.url, rows_file(n), 32, 16, "store").wait()
        more = fake.bill()["requests"]["total"] - asked
    if more or asked > 1.15 * n / 32: # canaries and audits are guests in packs
        raise RuntimeError(f"{asked} requests for {n} rows, then {more}: the "
                           "second run paid again, or packs were not full")
    size_mb = os.path.getsize(rows_file(n)) / 1e6
    rate = n / again.wall_s
    return [
        (f"peak memory, {n:,} rows", f"{run.peak_mb:.0f} MB",
         run.peak_mb <= 64),
        (f"store, {n:,} rows", f"{bytes_a_row:.1f} bytes a row",
         bytes_a_row <= 48),
        (f"labelled and durable, {n:,} rows, the fake on the same cores",
         f"{n / run.wall_s:,.0f} rows/s", n / run.wall_s >= 20000),
        (f"again over {n:,} stored rows",
         f"{rate:,.0f} rows/s, peak {again.peak_mb:.0f} MB",
         rate >= rows_per_s),
        (f"CSV in, CSV out, with look-ups, {n:,} rows",
         f"{size_mb / again.cpu_s:.0f} MB per CPU second", None),
    ]


def rows_1m():
    return million(1000000, 200000)


def rows_10m():
    return million(10000000, 100000)


def rows_20m():
    return million(20000000, 100000)


def first_request():
    """From the start of the process until the provider sees a request."""
    times = []
    for _ in range(5):
        shutil.rmtree(path("store"), ignore_errors=True)
        with Fake("--latency", "1000") as fake:
            run = Run(fake.url, rows_file(1000000), 32, 16, "store")
            while not fake.bill()["requests"]["total"]:
                if run.process.poll() is not None:
                    raise RuntimeError("trommel ended without a request")
                time.sleep(0.01)
            times.append(fake.bill()["first_request_ms"] - run.began_ms)
            run.process.kill()
            run.wait(None)
    times.sort()
    return f"{times[2]:.0f} ms (of five: {times[0]:.0f}-{times[4]:.0f})", \
        times[2] <= 100


def limits():
    """The limit is only known from headers; ideal is the limit itself."""
    out = []
    for rpm in (600, 6000):
        for bucket in (1, 60):
            n = rpm * (60 if args.full else 40) // 60
            with Fake("--rpm", str(rpm), "--bucket", str(bucket),
                      "--latency", "100") as fake:
                label(fake, n, 1, 0)
                bill = fake.bill()
            span_s = (bill["last_request_ms"] - bill["first_request_ms"]) / 1000
            share = (n - 1) / span_s / rpm * 60
            out.append((f"limit from headers, {rpm:,}/min, bucket {bucket} s",
                        f"{share * 100:.1f} %, {bill['refused_by_limit']} "
                        "refusals", share >= 0.97 and
                        bill["refused_by_limit"] <= 5))
    return out


def share():
    """Processes with one key against one limit; one of them is killed."""
    out = []
    for runs in (2, 8):
        for told, more in (("headers", []), ("--rpm", ["--no-headers"]),
                           ("nobody", ["--blind", "--settle", "45"])):
            line = subprocess.run(
                [sys.executable, os.path.join(BENCH, "../tests/share/share.py"),
                 args.trommel, "--runs", str(runs), "--rpm", "6000", "--look",
                 "30" if args.full else "12", *more],
                capture_output=True, text=True, check=True).stdout.strip()
            used, least, later = map(float, re.search(
                r"runs: ([\d.]+) %.* least ([\d.]+) .*killed ([\d.]+) %",
                line).groups())
            out.append((f"{runs} processes share 6,000/min told by {told}",
                        line.split(": ", 1)[1],
                        used >= 97 and least >= 0.7 and later >= 97))
    return out


def kill_at_half():
    twice = []
    for _ in range(5):
        shutil.rmtree(path("store"), ignore_errors=True)
        with Fake("--latency", "30") as fake:
            run = Run(fake.url, rows_file(2000), 1, 32, "store")
            while fake.bill()["requests"]["total"] < 1000 and \
                    run.process.poll() is None:
                time.sleep(0.002)
            run.process.kill()
            run.wait(-signal.SIGKILL)
            Run(fake.url, rows_file(2000), 1, 32, "store").wait()
            twice.append(fake.bill()["paid_twice"])
    return f"{max(twice)} texts paid twice (five kills: {twice})", \
        max(twice) <= 32


def quota_gone():
    shutil.rmtree(path("store"), ignore_errors=True)
    with Fake("--latency", "30", "--quota-after", "100") as fake:
        Run(fake.url, rows_file(2000), 1, 32, "store").wait(77)
        after = fake.bill()["refused_after_quota"]
    return f"{after} requests after it was gone, 32 in flight", after <= 32


def stuck():
    n, seconds = (1500000, 300) if args.full else (150000, 25)
    walls, peaks = [], []
    # Row 1000 is early, so that everything after it has to wait its turn.
    for more in ([], ["--stuck", f"No. 1000,:{seconds}"]):
        with Fake("--latency", "51", *more) as fake:
            run = label(fake, n, 1, 256, "--timeout", "400s")
            bill = fake.bill()
        walls.append((bill["last_request_ms"] - bill["first_request_ms"])
                     / 1000)
        peaks.append(run.peak_mb)
    loss = 1 - walls[0] / walls[1]
    return (f"{n / walls[1]:,.0f} rows/s with a row of {seconds} s, "
            f"{loss * 100:+.1f} % of {n / walls[0]:,.0f}; peak "
            f"{peaks[1]:.0f} MB", peaks[1] <= 64 and loss <= 0.01)


def dead_webhook():
    """Budget alerts go to a server that takes them and never answers."""
    n, spans = 200000, ([], [])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as dead:
        alerts = ["--alert-webhook", f"http://127.0.0.1:{dead.getsockname()[1]}"]
        for which in (0, 1, 1, 0, 0, 1):
            with Fake() as fake:
                # Nearly all of the budget is spent: 50, 80 and 95 %.
                label(fake, n, 8, 16, "--budget-requests",
                            str(n * 41 // 320), *(alerts if which else []))
                bill = fake.bill()
            spans[which].append(bill["last_request_ms"]
                                - bill["first_request_ms"])
        dead.settimeout(0)
        dead.accept() # fails if nobody ever called
    without, beside = (sorted(s)[1] for s in spans)
    return (f"{beside / without * 100 - 100:+.1f} % time of {without / 1000:.1f}"
            " s", beside <= 1.02 * without)


def tokens():
    lines = subprocess.run(
        [sys.executable, os.path.join(BENCH, "tokens.py"), args.trommel],
        capture_output=True, text=True)
    if lines.returncode == 77:
        return lines.stdout.strip() or lines.stderr.strip(), None
    if lines.returncode not in (0, 1):
        raise RuntimeError(lines.stderr[-400:])
    return "; ".join(lines.stdout.strip().splitlines()[-2:]), \
        lines.returncode == 0


ROWS = {
    "cpu": ("CPU per request, pack 1, durable, against a bare loop",
            cpu_per_request),
    "latency": ("20 ms latency, 64 in flight, pack 1, durable", latency_20ms),
    "labels": ("labels per CPU second, pack 32, durable",
               labels_per_cpu_second),
    "million": ("1 M rows", rows_1m),
    "first": ("first request after start, 1 M-row file", first_request),
    "limits": ("limits", limits),
    "share": ("processes that share a limit", share),
    "kill": ("kill at half of 2,000 texts, pack 1, 32 in flight", kill_at_half),
    "quota": ("quota gone after 100 requests", quota_gone),
    "stuck": ("a stuck row", stuck),
    "webhook": ("alerts to a dead webhook", dead_webhook),
    "tokens": ("tokens per item, AG News, pack 32", tokens),
}
FULL = {"10m": ("10 M rows", rows_10m), "20m": ("20 M rows", rows_20m)}


def machine():
    model = "unknown processor"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{os.cpu_count()} cores, {model}, Linux {platform.release()}"


def main():
    rows = {**ROWS, **(FULL if args.full else {})}
    unknown = [r for r in args.rows if r not in {**ROWS, **FULL}]
    if unknown:
        sys.exit(f"no such row: {', '.join(unknown)}; there are "
                 + ", ".join({**ROWS, **FULL}))
    lines, missed = [], 0

    def show(name, figure, reached):
        nonlocal missed
        word = {True: "yes", False: "**no**", None: ""}[reached]
        missed += reached is False
        lines.append(f"| {name} | {figure} | {word} |")
        print(lines[-1], flush=True)

    for key in args.rows or rows:
        name, bench = {**ROWS, **FULL}[key]
        try:
            result = bench()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as e:
            show(name, f"failed: {' '.join(str(e).split())[:300]}", False)
            continue
        if isinstance(result, list):
            for row in result:
                show(*row)
        else:
            show(name, *result)
    if args.write:
        write(lines)
    return 1 if missed else 0


def write(lines):
    readme = os.path.join(BENCH, "README.md")
    with open(readme) as f:
        text = f.read()
    begin, end = "<!-- figures -->\n", "<!-- end of figures -->"
    head, rest = text.split(begin)
    figures = "\n".join([f"{time.strftime('%Y-%m-%d')}, {machine()}", "",
                         "| bench | figure | reached |", "|---|---|---|",
                         *lines])
    with open(readme, "w") as f:
        f.write(head + begin + figures + "\n" + end + rest.split(end)[1])


try:
    code = main()
finally:
    if not args.keep:
        shutil.rmtree(here, ignore_errors=True)
sys.exit(code)
