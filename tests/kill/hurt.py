#!/usr/bin/env python3
"""What can go wrong around the real program, but for kills (kill.py): full
disks, failing syncs, stuck readers, signals, damaged stores, few descriptors.

    hurt.py TROMMEL --module FAULT.so [--preload LIB] [--only CASE] [--step N]
            [--seed N]

After each: the exit code is one that was promised; of a failure there is one
sentence; nothing crashes or hangs; and the same command, left in peace, ends
in the right output, with books that cover the provider's bill, and pays twice
only for what was in flight.
SPDX-License-Identifier: MIT
"""
import argparse, concurrent.futures, ctypes, datetime, fcntl, glob, os, random
import re, resource, select, shutil, signal, sqlite3, subprocess, sys, time

from world import CRASH, World

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--module", required=True)
ap.add_argument("--preload", default="")
ap.add_argument("--only")
ap.add_argument("--step", type=int, default=9)
ap.add_argument("--seed", type=int,
                default=datetime.date.today().toordinal())
args = ap.parse_args()
problems = []
SANITIZED = bool(args.preload)


class Case:
    """A world, what comes of it undisturbed, and checks on its jobs."""

    def __init__(self, name, *fake, rows=40):
        self.name, self.rng = name, random.Random(f"{args.seed} {name}")
        self.world = World(args.trommel, *fake, rows=rows, seed=args.seed,
                           module=args.module, preload=args.preload)
        self.rows, self.hurts = rows, 0
        self._calm = None

    def calm(self, fault=None):
        """The undisturbed output; the number of calls of the classes."""
        job = self.world.job()
        code = job.run(fault and f"{fault}:kill:999999999", count=bool(fault))
        self.expect("undisturbed it ends well", code == 0, job.said())
        self._calm = job.output()
        calls = int(open(job.path("count")).read()) if fault else 0
        job.close()
        if fault and not calls:
            raise RuntimeError(f"there are no calls of {fault}")
        return calls

    def expect(self, what, good, more=""):
        if not good:
            problems.append(f"{self.name}: {what}: {more}")
        return good

    def failed(self, job, code, codes, how, word=""):
        """It ended with one of the codes, and one sentence that says why."""
        self.hurts += 1
        said = job.sentences()
        self.expect(f"{how}: ends with one of {codes}", code in codes,
                    f"{code} {said}")
        self.expect(f"{how}: does not crash", not CRASH.search(job.said()),
                    job.said())
        if code > 1:
            self.expect(f"{how}: one sentence", len(said) == 1, said)
            self.expect(f"{how}: the sentence says {word!r}",
                        word in "".join(said), said)
            # Complete when only the folder could not be synced.
            self.expect(f"{how}: no part of the output under its name",
                        not os.path.exists(job.out) or
                        job.output() == self._calm, how)

    def heals(self, job, how, kills=1, again=False):
        """The same command in peace, and no more of the job."""
        self.mends(job, how, kills, again)
        job.close()

    def mends(self, job, how, kills=1, again=False):
        job.kills = kills
        code = job.run()
        for p in job.problems(code, self._calm, again=again):
            self.expect(f"{how}, then in peace", False, p)


def skipped(name, why):
    print(f"{name}: skipped: {why}", flush=True)


def points(case, calls, step=None):
    """Every step-th of the calls, beginning anywhere; one at least."""
    step = min(step or args.step, calls)
    return range(1 + case.rng.randrange(step), calls + 1, step)


def errors_of(classes, error, codes, plus="+"):
    def case(case):
        begins = {1} if plus else set()
        for n in sorted(begins | set(points(case, case.calm(classes)))):
            fault = f"{classes}:{error}:{n}{plus}"
            job = case.world.job()
            code = job.run(fault)
            case.failed(job, code, codes, fault)
            case.expect(f"{fault}: it hurts", code or n not in begins)
            case.heals(job, fault)
    return case


def mounts(folder, size):
    """Whether a file system of that size may be mounted there, and is."""
    try:
        return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}",
                               "tmpfs", folder],
                              capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def small_disk(case):
    """A file system of a few pages, or a few more than are kept free for
    answers that come after it is full; nothing where that may not be mounted.
    """
    case.calm()
    for kib in (4, 64, 2048, 2048 + 64, 2048 + 96, 2048 + 128, 2048 + 160):
        job = case.world.job()
        os.makedirs(job.store)
        if not mounts(job.store, f"{kib}k"):
            return skipped("small_disk", "nothing may be mounted")
        try:
            code = job.run()
            case.failed(job, code, (0, 73, 74), f"{kib} KiB",
                        "full" if code == 74 else "")
            subprocess.run(["mount", "-o", "remount,size=64m", job.store],
                           check=True)
            case.mends(job, f"{kib} KiB")
        finally:
            subprocess.run(["umount", job.store], check=True)
        job.close()


def full_while_asking(case):
    """Somebody else fills the disk while answers are under way: all of them
    are there for the next run, and nothing is paid twice."""
    case.calm()
    for turn in range(max(1, 30 // args.step)):
        job = case.world.job(flight=8)
        os.makedirs(job.store)
        if not mounts(job.store, "4m"):
            return skipped("full_while_asking", "nothing may be mounted")
        try:
            run, filler = job.start(), job.path("store", "filler")
            case.world.until_asked(1 + case.rng.randrange(60))
            subprocess.run(["dd", "if=/dev/zero", "of=" + filler, "bs=4k"],
                           capture_output=True)
            code = run.wait(120)
            case.failed(job, code, (0, 74), f"turn {turn}",
                        "kept beside it" if code == 74 else "")
            os.remove(filler)
            case.mends(job, f"turn {turn}", kills=0)
        finally:
            subprocess.run(["umount", job.store], check=True)
        job.close()


def small_files(case):
    case.calm()
    # The log is a file, too, and must hold the sentence.
    for size in (8192, 20000, 40000, 60000, 80000, 120000):
        job = case.world.job()
        code = job.run(preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (size, size)), stdout=subprocess.PIPE)
        case.failed(job, code, (0, 73, 74), f"files of {size} bytes")
        case.heals(job, f"files of {size} bytes")


def few_descriptors(case):
    """More requests at once are wanted than sockets can be had. It does with
    what there is, or says what is wanting."""
    case.calm()
    for n in (*range(4, 16), 16, 24, 32, 64, 256):
        job = case.world.job(pack=1, flight=64)
        code = job.run(preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (n, n)))
        if code != 127: # the loader itself needs some
            case.failed(job, code, (0, 66, 73, 74, 78), f"{n} descriptors",
                        "open files (ulimit -n)" if code else "")
            case.expect(f"{n} descriptors: all rows",
                        code or job.output() == case._calm)
            case.expect(f"{n} descriptors: it ends well", n < 16 or code == 0,
                        job.said())
            case.expect(f"{n} descriptors: it says that it asks less at once",
                        code or n >= 64 or "(ulimit -n)" in job.said(),
                        job.said())
        case.heals(job, f"{n} descriptors")


def few_watches(case):
    """Sockets are to be had, but not watched: nothing leaves whose answer
    nobody would see, and it is not the provider that is to blame."""
    for n in sorted({1, 2, *points(case, case.calm("e"))}):
        fault = f"e:ENOSPC:{n}+"
        job = case.world.job("--max-wait", "2s")
        code = job.run(fault)
        case.failed(job, code, (0, 74), fault,
                    "fs.epoll.max_user_watches" if code else "")
        case.expect(f"{fault}: no answer is paid for and not read",
                    case.world.bill()["requests"]["total"] == 0 or
                    job.books()["unknown_nanousd"] == 0, job.said())
        case.expect(f"{fault}: it hurts", code or n > 1)
        case.heals(job, fault)


def is_local(job):
    """The same job with the local model, which costs nothing and is wrong at
    times; False where it was not built."""
    job.model = ["--model", "local"]
    probe = subprocess.run([*job.command(), "--dry-run"], text=True,
                           env=job.environment(), capture_output=True)
    return "built without the local model" not in probe.stderr


def mends_locally(case, job, how):
    """In peace it labels all rows."""
    code = job.run()
    rows = job.output().count(b",local/") if code in (0, 1) else 0
    case.expect(f"{how}, then in peace", rows == case.rows,
                f"{code}, {rows} rows: {job.said()}")
    job.close()


def little_memory(case):
    """Address space by steps: it does with what there is, or says that it is
    memory that is wanting."""
    if SANITIZED:
        return skipped("little_memory", "a sanitizer needs terabytes")
    case.calm()
    for mb in range(40 + case.rng.randrange(4 * args.step), 250, 4 * args.step):
        for local in (False, True):
            job = case.world.job()
            how = f"{mb} MB, {'local' if local else 'a server'}"
            if local and not is_local(job):
                job.close()
                continue
            code = job.run(preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_AS, (mb * 1000000,) * 2))
            if code != 127: # the loader itself needs some
                case.failed(job, code, (0, 1, 70) if local else (0, 70), how,
                            "memory" if code > 1 else "")
                case.expect(f"{how}: what to do", code < 2 or
                            "(ulimit -v)" in job.said(), job.said())
                case.expect(f"{how}: it ends well", code < 2 or
                            mb < (200 if local else 80), job.said())
            if local:
                mends_locally(case, job, how)
            else:
                case.heals(job, how)


def show(job, shown, fault, n=None):
    """Runs it; its output goes to shown[n]. The exit code, or without n the
    number of calls."""
    with open(job.path("shown"), "w+") as out:
        code = job.run(fault, stdout=out, count=n is None)
        out.seek(0)
        shown[n] = out.read()
    return code if n is not None else int(open(job.path("count")).read())


def no_memory(case):
    """Each allocation of the program, of cli/ too, fails once or from there
    on: there are ten thousand, so with longer steps."""
    if SANITIZED:
        return skipped("no_memory", "a sanitizer's own malloc cannot fail")
    for n in sorted({1, *points(case, case.calm("m"), 30 * args.step + 1)}):
        for plus in ("", "+"):
            fault = f"m:fail:{n}{plus}"
            job = case.world.job("--max-wait", "2s")
            code = job.run(fault)
            case.failed(job, code, (0, 69, 70, 74, 75), fault,
                        "emory" if code else "")
            case.expect(f"{fault}: it hurts", code or n > 1 or not plus)
            case.heals(job, fault)
    shown = {}
    job = case.world.job("--dry-run", "--store", "none")
    calls = show(job, shown, "m:kill:999999999")
    for n in (*points(case, calls, 10 * args.step + 1),
              *range(calls - 8, calls + 1)): # what shows it stands at the end
        code = show(job, shown, f"m:fail:{n}", n)
        case.failed(job, code, (0, 70), f"preview, m:fail:{n}",
                    "emory" if code else "")
        case.expect(f"preview, m:fail:{n}: whole or an error", code or
                    "costs at most" in shown[n], shown[n])
    job.close()


def no_threads(case):
    """No thread can be had: who needs none does without, the others say so."""
    if os.geteuid() != 0:
        return skipped("no_threads", "needs root, to be a user without any")
    if SANITIZED:
        return skipped("no_threads", "the leak sanitizer needs one itself")
    case.calm()
    user = 64123 # no other process is this user's
    for folder in (case.world.here, case.world.path("config")):
        os.chmod(folder, 0o755)
    for name, options, code, word in (
            ("a server", [], 0, "no watchdog"),
            ("metrics", ["--metrics", ":0"], 70, "(ulimit -u)"),
            ("local", None, 70, "(ulimit -u)")):
        job = case.world.job(*(options or []))
        if options is None and not is_local(job):
            job.close()
            continue
        try:
            os.chown(job.here, user, user)
            ended = job.run(user=user, group=user, preexec_fn=lambda:
                            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)))
        except OSError:
            return skipped("no_threads", "another user may not run the program")
        case.failed(job, ended, (code,), name, word)
        case.expect(f"{name}: says {word}", word in job.said(), job.said())
        for folder, _, files in os.walk(job.here): # or the store is another's
            for file in [".", *files]:
                os.chown(os.path.join(folder, file), 0, 0)
        if options is None:
            mends_locally(case, job, name)
        else:
            case.heals(job, name, kills=0)


def read_only(case):
    """A folder one may not write to, for somebody who is not root."""
    case.calm()
    for what in ("store", "out"):
        job = case.world.job()
        os.makedirs(job.path("ro"))
        os.chmod(job.path("ro"), 0o555)
        os.chmod(job.here, 0o777)
        setattr(job, what, job.path("ro", what))
        more = {}
        if os.geteuid() == 0:
            for folder in (case.world.here, case.world.path("config")):
                os.chmod(folder, 0o755)
            more = {"user": 65534, "group": 65534}
            try:
                subprocess.run([case.world.trommel, "help"], check=True,
                               capture_output=True, **more)
            except (OSError, subprocess.CalledProcessError):
                return skipped("read_only", "nobody may not run the program")
        code = job.run(**more)
        case.failed(job, code, (73,), f"a read-only folder for {what}",
                    job.path("ro"))
        case.expect("nothing was asked",
                    case.world.bill()["requests"]["total"] == 0)
        os.chmod(job.path("ro"), 0o755)
        for folder, _, files in os.walk(job.here): # or the store is another's
            for name in [".", *files]:
                os.chown(os.path.join(folder, name), os.geteuid(), -1)
        case.heals(job, f"a read-only folder for {what}", kills=0)


def fills(run, write_end):
    """Whether it writes until nothing more goes into the pipe."""
    until = time.monotonic() + 60
    while select.select([], [write_end], [], 0)[1]: # not full
        if time.monotonic() > until or run.poll() is not None:
            return False
        time.sleep(0.01)
    return True


def stuck_reader(case):
    """The pipe is full: memory stays flat, a stop works, nothing is lost."""
    case.calm()
    for sig in (signal.SIGTERM, None):
        job = case.world.job(pack=16)
        job.out = "-"
        read_end, write_end = os.pipe()
        run = job.start(stdout=write_end)
        case.expect("the pipe fills up", fills(run, write_end))
        os.close(write_end)
        if sig:
            run.send_signal(sig)
            try:
                run.wait(60)
            except subprocess.TimeoutExpired:
                case.expect("a stop ends it though nobody reads", False)
                run.kill()
        else:
            status = open(f"/proc/{run.pid}/status").read()
            peak = int(status.split("VmHWM:")[1].split()[0])
            case.expect("memory stays flat", SANITIZED or peak < 80000,
                        f"{peak} KiB")
        text = open(read_end, "rb").read()
        code = run.wait(60)
        case.failed(job, code, (143,) if sig else (0,), f"stuck, {sig}")
        case.expect("what came is the beginning", case._calm.startswith(text)
                    and (sig or text == case._calm), len(text))
        job.out = job.path("out.csv")
        case.heals(job, f"stuck, {sig}", kills=0)


def gone_reader(case):
    """Whoever read has left: at once, or after some bytes."""
    case.calm()
    for n in (0, 1, 3000):
        job = case.world.job(pack=16)
        job.out = "-"
        read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096) # never all of it
        run = job.start(stdout=write_end)
        os.close(write_end)
        for _ in range(n):
            os.read(read_end, 1)
        os.close(read_end)
        code = run.wait(60)
        job.out = job.path("out.csv")
        case.failed(job, code, (74,), f"read {n} bytes", "stopped reading")
        case.heals(job, f"read {n} bytes", kills=0)


# deed of fault.h: the signal, and the code of a run that it stopped well
STOPS = {"TERM": (signal.SIGTERM, 143), "INT": (signal.SIGINT, 130),
         "HUP": (signal.SIGHUP, 129)}


def deeds(case):
    """One of them for a call; all where every call has its turn."""
    return STOPS if args.step == 1 else [case.rng.choice(list(STOPS))]


def stops_anywhere(case):
    """A stop at a numbered call: before the handler is there it ends the
    program, then it stops it well; nothing is left in the air."""
    for n in points(case, case.calm("wsnrc")):
        for deed in deeds(case):
            number, well = STOPS[deed]
            job = case.world.job()
            code = job.run(f"wsnrc:{deed}:{n}")
            case.failed(job, code, (0, well, -number), f"{deed} at {n}",
                        "stopped" if code == well else "")
            case.heals(job, f"{deed} at {n}", kills=0)


def stops_twice(case):
    for n in points(case, case.calm("wsnrc")):
        for deed in deeds(case):
            number, well = STOPS[deed]
            job = case.world.job()
            code = job.run(f"wsnrc:{deed}:{n}+")
            case.failed(job, code, (0, well, -number), f"{deed} twice at {n}")
            case.heals(job, f"{deed} twice at {n}")


def nohup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def outlives_its_terminal(case):
    """Under nohup SIGHUP is nothing, also when other signals have been."""
    for n in points(case, case.calm("wsnrc"), 2 * args.step):
        job = case.world.job()
        code = job.run(f"wsnrc:HUP:{n}", preexec_fn=nohup)
        case.failed(job, code, (0,), f"nohup, HUP at {n}")
        case.heals(job, f"nohup, HUP at {n}", kills=0)
        job = case.world.job()
        code = job.run(f"wsnrc:leave:{n}+", preexec_fn=nohup)
        case.failed(job, code, (0, 143, -signal.SIGTERM),
                    f"nohup, TERM twice and HUP at {n}")
        case.heals(job, f"nohup, TERM twice and HUP at {n}")


def closes_terminal(case):
    """A terminal that closes sends SIGHUP twice, from the shell and from the
    kernel: what is under way is awaited all the same."""
    case.calm()
    job = case.world.job()
    run = job.start()
    case.world.until_asked(2)
    run.send_signal(signal.SIGHUP)
    time.sleep(0.05)
    run.send_signal(signal.SIGHUP)
    code = run.wait(60)
    case.failed(job, code, (129,), "HUP twice", "stopped")
    case.expect("no answer is dropped", job.books()["unknown_nanousd"] == 0,
                job.books())
    case.heals(job, "HUP twice", kills=0)


def state(run):
    return open(f"/proc/{run.pid}/stat").read().rsplit(")")[1].split()[0]


def stops(run):
    """Whether the process comes to stand still."""
    until = time.monotonic() + 30
    while state(run) != "T":
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def says(job, words):
    """Whether that is said in the end."""
    until = time.monotonic() + 30
    while words not in job.said() and time.monotonic() < until:
        time.sleep(0.01)
    return words in job.said()


def tell_other_thread(run, sig):
    """Sends it to a thread that takes it and is not the first; whether there
    is one."""
    libc = ctypes.CDLL(None)
    for thread in map(int, os.listdir(f"/proc/{run.pid}/task")):
        status = open(f"/proc/{run.pid}/task/{thread}/status").read()
        blocked = int(re.search(r"SigBlk:\s+(\w+)", status)[1], 16)
        if thread != run.pid and not blocked >> sig - 1 & 1:
            return libc.tgkill(run.pid, thread, sig) == 0
    return False


def stops_elsewhere(case):
    """The signal comes to the thread that looks a name up, as it does when the
    run's own keeps signals away for a moment. So does a second one."""
    job = case.world.job("--base-url", "https://nowhere.invalid/v1")
    run = job.start("l:hang:1")
    for words in ("waiting up to", "stopped: 0 rows"):
        until = time.monotonic() + 30
        while not tell_other_thread(run, signal.SIGTERM):
            if time.monotonic() > until:
                raise RuntimeError("no other thread takes signals")
            time.sleep(0.01)
        while words not in job.said() and time.monotonic() < until:
            time.sleep(0.01)
    code = run.wait(60)
    case.failed(job, code, (143,), "TERM twice at a look-up", "stopped")
    job.close()


def sleeps(case):
    """Ctrl-Z and fg. In a process group of its own: one whose parent is gone
    does not heed the first."""
    case.calm()
    job = case.world.job(flight=2)
    run = job.start(preexec_fn=os.setpgrp)
    case.world.until_asked(2)
    run.send_signal(signal.SIGTSTP)
    case.expect("it sleeps", stops(run))
    run.send_signal(signal.SIGCONT)
    code = run.wait(60)
    case.failed(job, code, (0,), "after SIGTSTP")
    case.expect("as if nothing had been", job.output() == case._calm)
    case.heals(job, "after SIGTSTP", kills=0)


WATCHED = ("--watchdog", "1s")


def never_returns(case):
    """A call that spins or sleeps for ever, in libcurl and in ours."""
    for classes, deed, shares in (("c", "spin", (0, .4, .9)),
                                  ("c", "hang", (.2, .6)), ("s", "hang", (.7,))):
        calls = case.calm(classes)
        for share in shares:
            fault = f"{classes}:{deed}:{1 + int(calls * share)}"
            job = case.world.job(*WATCHED)
            code = job.run(fault, count=True)
            took = time.time() - os.path.getmtime(job.path("count"))
            case.failed(job, code, (75,), fault, "step has not returned for")
            # A tick before the limit, since it counts from the last step; and
            # not never, on a machine as busy as may be.
            case.expect(f"{fault}: at the limit", 0.8 < took < 30,
                        f"{took:.2f} s {job.said()}")
            case.heals(job, fault)


def stands_still(case):
    """The whole process is stopped for longer than the watchdog waits, in a step
    that takes its time before and after."""
    calls = case.calm("c")
    job = case.world.job("--watchdog", "6s")
    run = job.start(f"c:doze:{calls // 2}")
    case.expect("it stops", stops(run))
    time.sleep(8)
    run.send_signal(signal.SIGCONT)
    code = run.wait(60)
    case.failed(job, code, (0,), "after SIGSTOP")
    case.expect("as if nothing had been", job.output() == case._calm)
    case.heals(job, "after SIGSTOP", kills=0)


def opens(pipe):
    """The end of a named pipe that one writes into, once somebody reads."""
    until = time.monotonic() + 30
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError: # ENXIO: not yet
            if time.monotonic() > until:
                raise
        time.sleep(0.01)


def others_take_time(case):
    """Who writes the input or reads the output may take longer than that."""
    case.calm()
    job = case.world.job(*WATCHED, "--on-bad-row", "fail")
    late, large = job.path("late.csv"), job.path("large.csv")
    os.mkfifo(late)
    with open(large, "w") as f:
        f.write("id,text,gold\nlarge," + "x" * 600000 + ",bug\n")
    job.options += [late, large]
    job.out = "-"
    read_end, write_end = os.pipe()
    run = job.start(stdout=write_end)
    time.sleep(3) # it waits for a writer
    with open(opens(late), "w") as f:
        f.write("id,text,gold\nlate,late text,bug\n")
    case.expect("the pipe fills up", fills(run, write_end))
    os.close(write_end)
    time.sleep(3) # and for a reader: the record does not fit
    rows = open(read_end).read()
    code = run.wait(60)
    case.failed(job, code, (0, 1), "slow others")
    case.expect("all rows", "\nlate," in rows and "\nlarge," in rows, len(rows))
    job.close()


def opens_late(case):
    """It has waited for the store; then whoever reads its output is waited
    for, as long as that takes, like in an opening that waited for nobody."""
    calls = case.calm("c")
    one = case.world.job(flight=1, pack=1)
    first = one.start(f"c:doze:{calls // 2}")
    case.expect("the first stands still", stops(first))
    two = case.world.job(*WATCHED, "--wait-lock", keep_bill=True)
    two.store, two.out = one.store, two.path("pipe")
    os.mkfifo(two.out)
    waiting = two.start()
    case.expect("the second waits", says(two, "waiting for it"), two.said())
    first.send_signal(signal.SIGCONT)
    case.expect("the first ends well", first.wait(120) == 0, one.said())
    time.sleep(3)
    rows = b""
    with open(os.open(two.out, os.O_RDONLY | os.O_NONBLOCK), "rb") as f:
        os.set_blocking(f.fileno(), True)
        if select.select([f], [], [], 30)[0]:
            rows = f.read()
    os.remove(two.out)
    code = waiting.wait(60)
    case.failed(two, code, (0,), "a late reader")
    case.expect("all rows", code or rows == one.output())
    two.close()
    case.heals(one, "a late reader", kills=0)


def stops_at_a_pipe(case):
    """Nobody reads the pipe that the output is to go to, and Ctrl-C."""
    job = case.world.job()
    job.out = job.path("pipe")
    os.mkfifo(job.out)
    run = job.start()
    until = time.monotonic() + 30
    while not glob.glob(job.path("store", "*.db")) and time.monotonic() < until:
        time.sleep(0.01)
    asleep = 0 # the output is opened after the store, and nothing else waits
    while asleep < 10 and time.monotonic() < until:
        asleep = asleep + 1 if state(run) == "S" else 0
        time.sleep(0.03)
    run.send_signal(signal.SIGINT)
    code = run.wait(60)
    os.remove(job.out)
    case.failed(job, code, (130,), "INT at a pipe", "stopped")
    job.close()


def storm(case):
    """A signal every millisecond: whatever waits is interrupted."""
    case.calm()
    job = case.world.job("--budget", "1")
    code = job.run(storm=1000)
    case.failed(job, code, (0,), "a storm of signals")
    case.heals(job, "a storm of signals", kills=0)


def two_at_once(case):
    calls = case.calm("c")
    one = case.world.job(flight=1, pack=1)
    first = one.start(f"c:doze:{calls // 2}")
    case.expect("the first stands still", stops(first))
    two = case.world.job(flight=1, pack=1, keep_bill=True)
    two.store = one.store
    code = two.run()
    case.failed(two, code, (75,), "a second process", "--wait-lock")
    two.options.append("--wait-lock")
    waiting = two.start()
    case.expect("the second waits", says(two, "waiting for it"), two.said())
    first.send_signal(signal.SIGCONT)
    case.expect("the first ends well", first.wait(120) == 0, one.said())
    case.expect("who waits comes next", waiting.wait(120) == 0, two.said())
    case.expect("and finds all in the store",
                two.numbers().get("requests") == 0, two.numbers())
    case.expect("with the same output", two.output() == one.output())
    two.close()
    case.heals(one, "two at once", kills=0)


def full_store(case):
    """A job with all answers in its store; the path of the file."""
    job = case.world.job()
    code = job.run()
    case.expect("the first run ends well", code == 0, job.said())
    os.remove(job.out)
    path, = glob.glob(os.path.join(job.store, "*.db"))
    return job, path


def newer_store(case):
    case.calm()
    job, path = full_store(case)
    db = sqlite3.connect(path)
    version, = db.execute("PRAGMA user_version").fetchone()
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = open(path, "rb").read()
    asked = case.world.bill()["requests"]["total"]
    code = job.run()
    case.failed(job, code, (78,), "a newer store", "upgrade")
    case.expect("it is left as it is", open(path, "rb").read() == before)
    case.expect("nothing is asked",
                case.world.bill()["requests"]["total"] == asked)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    case.heals(job, "a newer store", kills=0)


def damaged_store(case):
    """Bytes changed, or the end cut off: an answer may be lost or the store
    refused, but no label is wrong, and a refused file is not replaced. One
    that was emptied is always refused: it would be paid again."""
    case.calm()
    job, path = full_store(case)
    whole, lock = (open(p, "rb").read() for p in (path, path[:-2] + "lock"))
    for i in range(600 // args.step):
        bad = bytearray(whole)
        if i % 4 == 3:
            bad = bad[:case.rng.randrange(len(bad)) if i % 8 == 3 else 0]
            how = f"cut to {len(bad)}"
        else:
            at = case.rng.randrange(len(bad) if i % 2 else 8192)
            n = case.rng.choice((1, 1, 16, 512))
            how = f"{n} bytes at {at}"
            for k in range(at, min(at + n, len(bad))):
                bad[k] ^= case.rng.randrange(1, 256)
        for name in glob.glob(job.path("store", "*")):
            os.remove(name)
        with open(path[:-2] + "lock", "wb") as f:
            f.write(lock) # it knows that there was a store
        with open(path, "wb") as f:
            f.write(bad)
        if os.path.exists(job.out):
            os.remove(job.out)
        code = job.run()
        case.failed(job, code, (0, 70, 74, 78) if bad else (78,), how,
                    "" if bad else "move it away to begin anew")
        if code == 0:
            case.expect(f"{how}: the labels", job.output() == case._calm)
        else:
            case.expect(f"{how}: the file is not begun anew",
                        os.path.getsize(path) >= min(len(bad), 4096), code)
    job.close()


def unreadable(case):
    """A disk that cannot be read, with a whole store on it, or one whose run
    was killed: that is no damaged file, and nobody is told to move it away and
    pay for all of it again."""
    case.calm()
    for n in points(case, 40):
        for i, fault in enumerate((f"r:EIO:{n}", f"r:EIO:{n}+")):
            job = case.world.job(flight=1)
            run = job.start()
            if (n + i) % 2:
                case.world.until_asked(2)
                run.kill()
            run.wait()
            if os.path.exists(job.out):
                os.remove(job.out)
            code = job.run(fault)
            case.failed(job, code, (0, 74, 78), fault)
            case.expect(f"{fault}: the store is not blamed",
                        not re.search("malformed|damage|anew", job.said()),
                        job.said())
            case.heals(job, fault, again=True)


def damaged_log(case):
    """Killed, and the log that holds what is paid for loses a bit, its end or
    itself; an older copy stands in its place; or the file alone was copied in
    mid-run. Refused before anything is asked, and left as it is; put back, the
    run goes on and nothing is paid twice."""
    calls = case.calm("c")
    for i in range(max(1, 60 // args.step)):
        job = case.world.job(flight=1)
        kept, older = job.path("kept"), job.path("older")
        # By number: on a busy machine the clock would find it done.
        run = job.start(f"c:kill:{calls // 2 + case.rng.randrange(4)}")
        case.world.until_asked(2)
        shutil.copytree(job.store, older) # not at one instant: .db matters
        case.expect("it is killed", run.wait(60) == -9, job.said())
        os.rename(job.store, kept)
        name, = (n for n in os.listdir(kept) if n.endswith(".db"))
        log = open(os.path.join(kept, name + "-wal"), "rb").read()
        at = case.rng.randrange(32, len(log) * 3 // 4)
        flipped = bytearray(log)
        flipped[at] ^= 1 << case.rng.randrange(8)
        asked = case.world.bill()["requests"]["total"]
        for how, bad in (("a bit", bytes(flipped)), ("cut", log[:at]),
                         ("zeros", log[:at] + bytes(len(log) - at)),
                         ("empty", b""), ("gone", None), ("older", None),
                         ("copied in mid-run", None)):
            how = f"{how} ({at} of {len(log)})"
            shutil.copytree(kept, job.store)
            wal = os.path.join(job.store, name + "-wal")
            os.remove(wal)
            if how.startswith("older"):
                shutil.copy(os.path.join(older, name), job.store)
            elif how.startswith("copied"):
                os.remove(os.path.join(job.store, name[:-2] + "lock"))
            elif bad is not None:
                with open(wal, "wb") as f:
                    f.write(bad)
            code = job.run()
            case.failed(job, code, (78,), how, "would be paid again")
            case.expect(f"{how}: nothing is asked",
                        case.world.bill()["requests"]["total"] == asked)
            case.expect(f"{how}: the log is left as it is",
                        open(wal, "rb").read() == bad if bad is not None
                        else not os.path.exists(wal), os.listdir(job.store))
            shutil.rmtree(job.store)
        os.rename(kept, job.store)
        case.heals(job, "the log put back")


CASES = [
    ("full_later", errors_of("w", "ENOSPC", (0, 70, 73, 74)), []),
    ("full_once", errors_of("w", "ENOSPC", (0, 70, 73, 74), ""), []),
    ("quota", errors_of("wn", "EDQUOT", (0, 65, 66, 69, 70, 73, 74, 75, 78)),
     []),
    ("sync_fails", errors_of("s", "EIO", (0, 74)), []),
    ("sync_fails_once", errors_of("s", "EIO", (0, 74), ""), []),
    ("small_disk", small_disk, []),
    ("full_while_asking", full_while_asking, ["--latency", "20"]),
    ("small_files", small_files, []),
    ("few_descriptors", few_descriptors, []),
    ("few_watches", few_watches, []),
    ("little_memory", little_memory, []),
    ("no_memory", no_memory, []),
    ("no_threads", no_threads, []),
    ("read_only", read_only, []),
    ("stuck_reader", stuck_reader, ["--latency", "1"]),
    ("gone_reader", gone_reader, []),
    ("stops_anywhere", stops_anywhere, ["--latency", "2"]),
    ("stops_twice", stops_twice, ["--latency", "2"]),
    ("stops_elsewhere", stops_elsewhere, []),
    ("outlives_its_terminal", outlives_its_terminal, ["--latency", "2"]),
    ("closes_terminal", closes_terminal, ["--latency", "300"]),
    ("sleeps", sleeps, ["--latency", "300"]),
    ("never_returns", never_returns, []),
    ("stands_still", stands_still, []),
    ("others_take_time", others_take_time, []),
    ("opens_late", opens_late, ["--latency", "20"]),
    ("stops_at_a_pipe", stops_at_a_pipe, []),
    ("storm", storm, ["--latency", "5"]),
    ("two_at_once", two_at_once, ["--latency", "20"]),
    ("newer_store", newer_store, []),
    ("damaged_store", damaged_store, []),
    ("unreadable", unreadable, ["--latency", "20"]),
    ("damaged_log", damaged_log, ["--latency", "20"]),
]


def play(row):
    name, body, fake = row
    case, began = Case(name, *fake, rows=8000 if name == "stuck_reader" else 400 if
                       name in ("gone_reader", "full_while_asking") else 40), time.monotonic()
    try:
        body(case)
    except Exception as error:
        problems.append(f"{name}: {error!r}")
    finally:
        problems.extend(f"{name}: {p}" for p in case.world.close())
    print(f"{name}: {case.hurts} times, {time.monotonic() - began:.1f} s",
          flush=True)


print(f"seed {args.seed}")
chosen = [c for c in CASES if args.only in (None, c[0])]
with concurrent.futures.ThreadPoolExecutor(4) as pool: # they mostly sleep
    list(pool.map(play, chosen))
for problem in problems[:25]:
    print("FAILED:", problem[:1500])
if len(problems) > 25:
    print(f"FAILED: and {len(problems) - 25} more")
sys.exit(1 if problems else 0)
