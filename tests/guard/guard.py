#!/usr/bin/env python3
"""What other processes and people at a terminal get of a running trommel: no
memory, no environment, no core, no TLS keys, no escape sequences; and it does
not run with rights its user does not have.

    guard.py TROMMEL [TEST...]

A check that something is refused stands beside one that shows it would be had
of any other process. As root the checks run as a user without rights.
SPDX-License-Identifier: MIT
"""
import base64
import http.server
import json
import os
import pathlib
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

sys.dont_write_bytecode = True  # the source folder stays as it is
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import canary
from provider import Fake

KEY = canary.KEY
NOBODY = 65534
SANITIZED = b"__asan_init" in pathlib.Path(sys.argv[1]).read_bytes()
INPUT = "text\nhello\n"


def has_others():
    """Whether root may be another user: not where the system knows but one."""
    with tempfile.TemporaryDirectory(prefix="trommel-guard-") as folder:
        try:
            os.chown(folder, NOBODY, NOBODY)
        except OSError:
            return False
    return True


DROPS = os.getuid() == 0 and has_others()


def drop():
    """The child's user: one without rights; it may dump as much as it likes."""
    resource.setrlimit(resource.RLIMIT_CORE, (
        resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    if DROPS:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


class Place:
    """A folder that the other user owns, with a copy of the program."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="trommel-guard-"))
        self.program = str(self.dir / "trommel")
        shutil.copy(sys.argv[1], self.program)
        (self.dir / "in.csv").write_text(INPUT)
        if DROPS:
            os.chown(self.dir, NOBODY, NOBODY)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.dir),
                    "XDG_STATE_HOME": str(self.dir / "state"),
                    "OPENAI_API_KEY": KEY, "LC_ALL": "C.UTF-8"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]

    def start(self, *command, **more):
        more.setdefault("stdout", subprocess.DEVNULL)
        more.setdefault("stderr", subprocess.DEVNULL)
        more.setdefault("stdin", subprocess.DEVNULL)
        env = {**self.env, **more.pop("env", {})}
        return subprocess.Popen(command, cwd=self.dir, env=env,
                                preexec_fn=drop, **more)

    def fake(self, *options):
        """A trommel that runs until it is told not to, and its address."""
        fake = Fake(self.program, self.dir, "--labels", "a,b", *options,
                    cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL,
                    preexec_fn=drop)
        return fake, fake.url + "/v1"

    def classify(self, url, *options):
        return (self.program, "classify", "--model", "openai/m", "--base-url",
                url, "--key-env", "OPENAI_API_KEY", "--labels", "a,b",
                "-o", "out.csv", *options)

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def wait_for(holds, what):
    until = time.monotonic() + 60
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


def asked(fake):
    """Requests that the fake has seen."""
    bill = fake.bill()["requests"]
    return bill["total"] + bill.get("open", 0)


def end(process, number=signal.SIGTERM):
    """How it ended; a fake has to end well."""
    if isinstance(process, Fake):
        bad = process.end()
        assert not bad, bad
        return 0
    process.send_signal(number)
    return os.waitpid(process.pid, 0)[1]


def can_read(pid, name):
    """Whether a process of the same user, without rights, can read a file of
    /proc/PID."""
    child = os.fork()
    if child == 0:
        try:
            drop()
            with open(f"/proc/{pid}/{name}", "rb") as f:
                if name != "mem":
                    f.read()
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- tests -----------------------------------------------------------------

def memory_and_environment_are_closed(place):
    other = place.start("sleep", "600")
    wait_for(lambda: b"sleep" in pathlib.Path(
        f"/proc/{other.pid}/cmdline").read_bytes(), "sleep")
    fake, _ = place.fake()
    try:
        assert can_read(other.pid, "environ"), "the check itself"
        assert not can_read(fake.process.pid, "environ")
        assert not can_read(fake.process.pid, "mem")
    finally:
        end(fake)
        end(other)


def no_command_line_holds_the_key(place):
    """Everybody may read that of any process: ours, and of one it starts."""
    def lines(top):
        """Of the process, and of all below."""
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rsplit(")")[1]
                             .split()[1])
                if top in (int(folder.name), parent):
                    found.append((folder / "cmdline").read_bytes())
            except (OSError, IndexError):
                pass # it has ended
        return found

    other = place.start("bash", "-c", f"exec -a '{KEY}' sleep 600")
    (place.dir / "told").write_text("#!/bin/sh\nsleep 600\n")
    (place.dir / "told").chmod(0o755)
    fake, url = place.fake("--latency", "2000")
    ours = place.start(*place.classify(
        url, "--alert-command", f"{place.dir}/told", "in.csv"))
    try:
        wait_for(lambda: any(map(canary.seen, lines(other.pid))),
                 "the check itself")
        wait_for(lambda: any(b"/told" in line and b"/bin/sh" in line
                             for line in lines(ours.pid)), "the alert command")
        assert not any(map(canary.seen, lines(ours.pid)))
    finally:
        for process in (ours, fake, other):
            end(process)


def descriptors_can_be_named(place):
    """/dev/stdin and /dev/stdout are links into /proc, which is closed to
    others, not to the process itself."""
    fake, url = place.fake()
    words = " ".join(place.classify(url, "/dev/stdin", "-o", "/dev/stdout"))
    try:
        run = place.start("sh", "-c", f"cat in.csv | {words} | cat >piped")
        assert run.wait(120) == 0
    finally:
        end(fake)
    lines = (place.dir / "piped").read_text().splitlines()
    assert len(lines) == 2 and lines[1].startswith("hello,"), lines


def core_limit(pid):
    for line in pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max core file size"):
            return line.split()[4]


def a_crash_leaves_no_core(place):
    other = place.start("sleep", "600", env={"OPENAI_API_KEY": ""})
    wait_for(lambda: b"sleep" in pathlib.Path(
        f"/proc/{other.pid}/cmdline").read_bytes(), "sleep")
    dumps = os.WCOREDUMP(end(other, signal.SIGSEGV))
    fake, _ = place.fake()
    assert core_limit(fake.process.pid) == "0", core_limit(fake.process.pid)
    status = end(fake.process, signal.SIGABRT)
    assert os.WIFSIGNALED(status) and not os.WCOREDUMP(status)
    if not dumps:
        print("  (this machine makes no cores: only the limit was read)")


def core_dumps_opens_again(place):
    """Looked at while its request hangs: by then every option has worked."""
    fake, url = place.fake("--stuck", "hello:600")
    run = place.start(*place.classify(url, "in.csv", "--core-dumps"))
    try:
        wait_for(lambda: asked(fake), "the request")
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        wanted = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
        assert core_limit(run.pid) == wanted, core_limit(run.pid)
        assert can_read(run.pid, "environ")
    finally:
        end(run, signal.SIGKILL)
        end(fake)


def no_keys_of_tls_are_written(place):
    fake, url = place.fake()
    run = place.start(*place.classify(url, "in.csv"),
                      env={"SSLKEYLOGFILE": str(place.dir / "tls-keys")})
    assert run.wait(120) == 0
    end(fake)
    assert (place.dir / "out.csv").exists()
    assert not (place.dir / "tls-keys").exists()


def rights_of_another_are_refused(place):
    if not DROPS or os.statvfs(place.dir).f_flag & os.ST_NOSUID:
        print("  (needs root and a file system with setuid: skipped)")
        return
    for mode, owner in ((0o4755, (0, 0)), (0o2755, (0, 0))):
        program = place.dir / f"trommel-{mode:o}"
        shutil.copy(sys.argv[1], program)
        os.chown(program, *owner)
        os.chmod(program, mode)
        run = place.start(str(program), "--version", stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
        out, err = run.communicate(timeout=60)
        # The kernel closes such a process to the sanitizer, which then says so.
        assert run.returncode == 77 or SANITIZED, (run.returncode, err)
        assert run.returncode and b"setuid" in err and not out, (out, err)
    run = place.start(place.program, "--version", stdout=subprocess.PIPE)
    assert run.communicate(timeout=60)[0].startswith(b"trommel ")


def on_terminal(place, *command):
    """What a person at a terminal sees: every byte that arrives there."""
    outer, inner = pty.openpty()
    run = place.start(*command, stdout=inner, stderr=inner,
                      env={"TERM": "xterm", "NO_COLOR": "1"})
    os.close(inner)
    seen = b""
    while True:
        try:
            more = os.read(outer, 65536)
        except OSError:  # the last one closed it
            break
        if not more:
            break
        seen += more
    os.close(outer)
    run.wait(60)
    return seen


EVIL = "\x1b]0;owned\x07\x9b31m\u202egnp.exe\nwarning: forged\x7f"


def texts_give_no_orders_to_a_terminal(place):
    """A column's name, a file's name and a word on the command line end in
    messages; none of their control bytes may. Data is not touched: whoever
    lets it go to a terminal gets it as it is."""
    (place.dir / "evil.csv").write_text(f'"{EVIL}",b\nx,y\n')
    named = place.dir / ("a\x1b[2J" + "b.csv")
    named.write_text('"open\n')
    fake, url = place.fake("--key", "another")
    try:
        seen = [
            on_terminal(place, *place.classify(url, "evil.csv")),
            on_terminal(place, *place.classify(url, "evil.csv", "--text", EVIL)),
            on_terminal(place, *place.classify(url, named.name)),
            on_terminal(place, place.program, EVIL),
            on_terminal(place, place.program, "store", "ls", "--store", EVIL),
            on_terminal(place, *place.classify(url, "in.csv", "-v")),
        ]
    finally:
        end(fake)
    for text in seen:
        shown = text.replace(b"\r\n", b"\n").replace(b"\r", b"") \
            .replace(b"\x1b[K", b"")  # the live line is drawn anew
        assert shown.strip(), "nothing was said"
        for bad in (b"\x1b", b"\x07", b"\xc2\x9b", "\u202e".encode(), b"\x7f"):
            assert bad not in shown, (bad, shown)
        assert b"\nwarning: forged" not in shown, shown
    assert any(b"\\x1b" in text for text in seen), "none showed the byte"


def spellings(key):
    return [key, urllib.parse.quote(key, ""), key.encode().hex()] + [
        base64.b64encode(text.encode()).decode()
        for text in (key, "u:" + key, "me:" + key)]


class Parrot(http.server.BaseHTTPRequestHandler):
    """A server that says back the key it was given, in every spelling: in a
    refusal, or as the names of the model and of all that an answer names."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        forms = spellings(self.headers["Authorization"].removeprefix("Bearer "))
        form = forms[self.server.turn % len(forms)]
        turn, self.server.turn = self.server.turn, self.server.turn + 1
        if self.server.refuses:
            self.say(401, form, {"error": {
                "message": "x" * self.server.before + f" {form} is no key",
                "type": form}})
        else:
            ids = re.findall(r"^\[(\d+),", asked["messages"][-1]["content"],
                             re.M)
            self.say(200, form, {
                "id": form, "object": form, "system_fingerprint": form,
                "model": f"m{turn}-{form}", "choices": [{
                    "message": {"content": "\n".join(i + " a" for i in ids)},
                    "finish_reason": "stop"}]})

    def say(self, status, form, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name in ("x-request-id", "openai-organization", "retry-after"):
            self.send_header(name, form)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Hook(http.server.BaseHTTPRequestHandler):
    """Who is alerted: keeps what it is told, headers too."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((str(self.headers).encode(), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def served(handler, **more):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    for name, value in more.items():
        setattr(server, name, value)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def a_key_that_comes_back_is_not_shown(place):
    """In messages, the store, the trace, metrics, output and a webhook's
    alerts, wherever it is cut."""
    parrot = served(Parrot, turn=0, before=0, refuses=True)
    hook = served(Hook, told=[])

    def run(code):
        """What was said and told, without a trace of the key: half of it is
        too much, too."""
        hook.told.clear()
        process = place.start(*place.classify(
            f"http://127.0.0.1:{parrot.server_port}/v1", "in.csv", "-v",
            "--pack", "1", "--concurrency", "1", "--trace", "trace.jsonl",
            "--metrics-file", "metrics", "--progress", "plain",
            "--alert-webhook", f"http://127.0.0.1:{hook.server_port}/hook"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=120)
        texts = [out, err] + [part for told in hook.told for part in told]
        assert process.returncode == code, (out, err)
        for text in texts:
            for part in (KEY[:12], KEY.encode().hex()[:16],
                         base64.b64encode(KEY.encode()).decode()[:14]):
                assert part.encode() not in text, (part, text)
        left = canary.search(place.dir, *texts)
        assert not left, left
        return err, {json.loads(body)["event"]: body for _, body in hook.told}

    try:
        for parrot.before in (0, 255, 280, 290):
            for parrot.turn in range(len(spellings(KEY))):
                said, events = run(77)
                assert b"401" in said, said
                assert "lane_down" in events, events
        parrot.refuses, parrot.turn = False, 0
        (place.dir / "in.csv").write_text(
            "text\n" + "".join(f"row {i}\n" for i in range(12)))
        said, events = run(0)
        # So it was there to be hidden.
        assert "model_changed" in events and b"m1-[key]" in said, said
        stores = b"".join(p.read_bytes() for p in
                          (place.dir / "state").rglob("*") if p.is_file())
        assert b"m0-[key]" in stores and b"m2-[key]" in stores
        trace = (place.dir / "trace.jsonl").read_text()
        assert '"m0-[key]"' in trace and '"m2-[key]"' in trace, trace
        assert '"trommel.request_id":"[key]"' in trace, trace
        assert (place.dir / "out.csv").read_text().count(",a,") == 12
    finally:
        for server in (parrot, hook):
            server.shutdown()
            server.server_close()


TESTS = [a_key_that_comes_back_is_not_shown,
         memory_and_environment_are_closed,
         no_command_line_holds_the_key, descriptors_can_be_named,
         a_crash_leaves_no_core, core_dumps_opens_again,
         no_keys_of_tls_are_written, rights_of_another_are_refused,
         texts_give_no_orders_to_a_terminal]


def main():
    wanted, failed = sys.argv[2:], 0
    for test in TESTS:
        if wanted and test.__name__ not in wanted:
            continue
        if SANITIZED and test is memory_and_environment_are_closed:
            print("  (the search for leaks attaches to the process: skipped)")
            continue
        if os.getuid() == 0 and not DROPS and \
                test is memory_and_environment_are_closed:
            print("  (root who may be nobody else reads all: skipped)")
            continue
        place = Place()
        try:
            test(place)
            left = canary.search(place.dir)
            assert not left, left
            print("ok", test.__name__)
        except Exception:
            failed += 1
            print("FAIL", test.__name__)
            traceback.print_exc(file=sys.stdout)
        finally:
            place.close()
    sys.exit(bool(failed))


main()
