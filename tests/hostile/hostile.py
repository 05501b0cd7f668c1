#!/usr/bin/env python3
"""Plays scripts of bad servers to real lanes, to the simulator's provider and
to the real program, and checks what came of each.

    hostile.py LANE TROMMEL SIM [--only NAME] [--show] [--rounds N] [--seed S]

The scripts of faults.txt, with what must come of them; then N drawn ones (60),
where lane and simulator must agree, and two thirds as many orders of HTTP/2's
frames (1,000 at most); then the program itself.
SPDX-License-Identifier: MIT
"""
import argparse, concurrent.futures, itertools, os, random, re, shutil, signal
import subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import canary, server

ap = argparse.ArgumentParser()
ap.add_argument("lane")
ap.add_argument("trommel")
ap.add_argument("sim")
ap.add_argument("--only", help="scripts whose name begins so, and no more")
ap.add_argument("--show", action="store_true", help="say what came of each")
ap.add_argument("--rounds", type=int, default=60)
ap.add_argument("--seed", type=int, default=1)
args = ap.parse_args()

# Who starts this in the background has Ctrl-C ignored, and all below.
signal.signal(signal.SIGINT, signal.default_int_handler)
here = os.path.dirname(os.path.abspath(__file__))
table = os.path.join(here, "faults.txt")
folder = tempfile.mkdtemp(prefix="trommel-hostile-")
world = server.World(folder, table)
# Whoever runs it may have allowed more than we do.
open(f"{folder}/weak.cnf", "w").write(
    "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\n"
    "MinProtocol=TLSv1\nCipherString=ALL:@SECLEVEL=0\n")
KEY, OTHER_KEY = canary.KEY, "hostile-second-key"
LATE_MS = 5000 # orders of magnitude: the machine may be busy
# The bound of one body twice, and some.
GROWTH_KB, TIMES = 24000, 1
with open(args.lane, "rb") as f:
    if re.search(rb"__[at]san_init", f.read()): # larger, and slower
        LATE_MS, TIMES = 3 * LATE_MS, 6
REQUEST_BYTES = 300 # fewer than the shortest request has
problems = []


def environment(**more):
    env = {"PATH": os.environ["PATH"], "HOME": folder,
           "SSL_CERT_FILE": f"{folder}/ca.pem",
           "OPENSSL_CONF": f"{folder}/weak.cnf"}
    env.update({k: v for k, v in os.environ.items() if "SAN_" in k})
    env.update(more)
    return env


class Lane:
    """The client process."""

    def __init__(self, **more):
        self.process = subprocess.Popen(
            [args.lane], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment(**more), text=True,
            errors="replace")

    def say(self, line):
        """Its answer: lines up to "done", split; or an error."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        lines = []
        while True:
            got = self.process.stdout.readline()
            if got == "done\n":
                return lines
            if not got or got.startswith("error"):
                self.process.kill()
                raise RuntimeError(f"{line}: {got}"
                                   f"{self.process.stderr.read()}")
            lines.append(got.rstrip("\n").split(" ", 6))

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise RuntimeError(self.process.stderr.read())
        self.process.stdout.close()
        self.process.stderr.close()


def address(at):
    o = at.script.options
    port = world.elsewhere.port if "proxy" in o else at.port
    return "http%s://%s:%d/v1" % ("s" if "https" in o or "tls" in o else "",
                                  o.get("host", "127.0.0.1"), port)


def outcomes(answers):
    """The wait as well, where one was asked for."""
    return "+".join(sorted(f"{a[0]}/{a[1]}" + (f"/{a[5]}" if a[5] != "-1" else
                                               "") for a in answers))


def play(script):
    """What is wrong with what came of it, as sentences; and what came. libcurl
    may let go of a kept connection for reasons of its own (8.14 does now and
    then), and on a new one the script begins anew; on a busy machine the end of
    an idle one may come when the next request has left. Then it is played
    again."""
    for _ in range(8):
        wrong, got, said, connections = play_once(script)
        anew = connections > 1 and set(got.split(",")) == {"ok/usage"}
        late = script.name.startswith("reuse_idle") and got.endswith(
            ",lost/unknown")
        if not (wrong and "," in got and (anew or late)):
            break
    return wrong, got, said


def play_once(script):
    wrong, got, said = [], [], []
    o = script.options
    if "tls" in o and not world.has_tls:
        return ["there is no openssl to make certificates"], "", said, 0
    ip = o.get("first", o.get("moves", "127.0.0.1")).split("/")[0]
    if not server.has_address(ip):
        print(f"{script.name}: skipped: this machine has no {ip}")
        return [], script.expect, said, 0
    at = server.Server(world, script)
    deadline = script.number("deadline", 5000)
    name, _, value = o.get("env", "UNUSED:").partition(":")
    try:
        lane = Lane(**{name: value})
        proxy = o.get("proxy", "-").replace("%p", str(at.port))
        lane.say(f"open 0 {address(at)} {KEY} {proxy}")
        for call in script.expect.split("|")[0].split(","):
            answers = lane.say(f"call 0 {call.count('+') + 1} {deadline} "
                               f"{script.number('pad')}")
            got.append(outcomes(answers))
            said += answers
            at.settle()
        lane.close()
    except RuntimeError as e:
        wrong.append(str(e))
    finally:
        at.close()
    got = ",".join(got)
    if got not in script.expect.split("|"):
        wrong.append(f"came out as {got}, not {script.expect}: "
                     + "; ".join(" ".join(a) for a in said))
    for a in said:
        if int(a[3]) > deadline + LATE_MS:
            wrong.append(f"took {a[3]} ms of {deadline}")
        if ("rss" in o and int(a[4]) >
                script.number("rss", GROWTH_KB) * TIMES):
            wrong.append(f"grew by {a[4]} KiB")
        if canary.seen(a[6]):
            wrong.append("the message tells the key: " + a[6])
        if any(c < " " or c == "\x7f" for c in a[6]):
            wrong.append("control bytes in the message")
    for name, count in (("seen", at.requests), ("conns", len(at.connections))):
        if name in o and count != int(o[name]):
            wrong.append(f"{name}={count}, not {o[name]}")
    if not at.keys <= {KEY.encode()}:
        wrong.append(f"keys arrived that are not its own: {at.keys}")
    return wrong, got, said, len(at.connections)


def simulated(path):
    """NAME -> outcomes, as the simulator sees them."""
    out = subprocess.run([args.sim, "--play", path], text=True, check=True,
                         env=environment(), stdout=subprocess.PIPE).stdout
    return dict(line.split(" ", 1) for line in out.splitlines())


def check_table(pool):
    scripts = [s for s in world.scripts if s.name.startswith(args.only or "")]
    sim = simulated(table)
    compared = 0
    for script, (wrong, got, said) in zip(scripts, pool.map(play, scripts)):
        if "real" not in script.options:
            compared += 1
            if sim.get(script.name) not in script.expect.split("|"):
                wrong.append(f"{sim.get(script.name)} in the simulator, not "
                             f"{script.expect}")
        if args.show:
            print(script.name, got, " | ".join(" ".join(a[2:]) for a in said))
        problems.extend(f"{script.name}: {w}" for w in wrong)
    print(f"hostile: {len(scripts)} scripts, {compared} of them simulated, too")


# ---- drawn scripts ---------------------------------------------------------

def quoted(data):
    return '"' + "".join(
        chr(b) if 32 <= b < 127 and b not in b'"\\%' else f"\\x{b:02x}"
        for b in data) + '"'


def draw(rng, number):
    """A response that is cut, stalled or reset at any of its bytes; sometimes
    with a byte that is wrong, or on a connection that has served before."""
    status = rng.choice([200, 200, 200, 429, 401, 500, 503, 307])
    body = rng.choice([world.words["b"], b"{}", b"<html>no</html>", b""])
    head = b"HTTP/1.1 %d Word\r\nX-Request-Id: %d\r\n" % (status, number)
    head += rng.choice([b"", b"", b"Retry-After: 7\r\n"])
    form = rng.choice(["length", "chunks", "end"])
    if form == "length":
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    elif form == "end":
        data = head + b"\r\n" + body
    else:
        data, at = head + b"Transfer-Encoding: chunked\r\n\r\n", 0
        while at < len(body):
            n = rng.randint(1, 60)
            piece = body[at:at + n]
            data += b"%x\r\n%b\r\n" % (len(piece), piece)
            at += n
        data += b"0\r\n" + rng.choice([b"", b"Retry-After: 8\r\n"]) + b"\r\n"
    if rng.random() < 0.2:
        data = b"HTTP/1.1 103 Hints\r\nRetry-After: 9\r\n\r\n" + data
    if rng.random() < 0.1:
        data = data[:9] + bytes([rng.choice(b"\0xA9 ")]) + data[10:]
    cut = rng.choice([rng.randint(0, len(data)), len(data)])
    # Chunks without the very last byte are whole to some libcurl, cut to us.
    if form == "chunks" and cut == len(data) - 1:
        cut = len(data)
    end = rng.choice(["fin", "fin", "fin", "hang", "wait 20 rst"])
    # What was received before a reset may be lost with it; then it matters
    # whether anything in it was more than "lost".
    if "rst" in end and (status != 200 or cut == len(data)):
        end = "fin"
    first = rng.choice(["", "", "read answer "])
    expect = "any,any" if first else "any"
    pieces = [data[:cut]]
    if cut > 1 and rng.random() < 0.3:
        at = rng.randint(1, cut - 1)
        pieces = [data[:at], data[at:cut]]
    sends = " wait 5 ".join(f"send {quoted(p)}" for p in pieces if p)
    return (f"drawn_{number} {expect} deadline=1500 : {first}read {sends} "
            f"{end}")


def draw_request(rng, number):
    """A request that is cut, stalled, reset or refused at any of its bytes."""
    pad = rng.choice([0, 0, 3000000])
    at = rng.randint(1, pad or REQUEST_BYTES)
    status = rng.choice([401, 413, 429, 503])
    end = rng.choice(["fin", "rst", "hang", f'send "HTTP/1.1 {status} Word\\r\\n'
                      'Content-Length: 0\\r\\n\\r\\n" fin'])
    first = rng.choice(["", "", "read answer "])
    return (f"cut_{number} {'any,any' if first else 'any'} deadline=1500,"
            f"pad={pad} : {first}upto {at} {end}")


# Frames that say nothing of a request: PING, SETTINGS, more room for the
# connection and for the stream, PRIORITY, one that nobody knows.
NOISE = ['frame 6 0 0 "12345678"', 'frame 4 0 0 ""',
         'frame 8 0 0 "\\0\\0\\0\\x10"', 'frame 8 0 @ "\\0\\0\\0\\x10"',
         'frame 2 0 @ "\\0\\0\\0\\0\\x07"', 'frame 250 7 0 "what"']


def draw_stream(rng):
    """What the server says on a stream, in order; what may come of it."""
    body, lost, unsent = world.words["b"], "lost/unknown", "unreached/none"
    # When a reset and the connection's end are read at once, libcurl 7.88 calls
    # the half a whole answer; but it is no JSON.
    cut = "garbled/usage"
    at = rng.randint(1, len(body) - 1)
    half = f"data {quoted(body[:at])}"
    head = rng.choice(["headers 200", 'frame 1 0 @ "\\x88" frame 9 4 @ '
                       '"\\x0f\\x10\\x10application/json"'])
    early = rng.choice([[], ['frame 1 4 @ "\\x08\\x03103"']])
    other = rng.choice([1, 2, 8, 11])
    return rng.choice([
        ([*early, head, half, f"end {quoted(body[at:])}"], {"ok/usage"}),
        ([*early, head, half, f'frame 0 9 @ "\\x02{quoted(body[at:])[1:-1]}'
          '\\0\\0"'], {"ok/usage"}), # padded
        ([*early, head, half, f"reset {rng.choice([7, other])}"],
         {lost, cut}),
        ([*early, f"reset {other}"], {lost}),
        (["reset 7"], {unsent, lost}), # libcurl before 8.20 may not know
        ([*early, head, half], {lost}),
        ([], {lost})])


def draw_frames(rng, number):
    """The frames of up to three streams in any order, with others between
    them; a GOAWAY at times; and an end."""
    streams = [draw_stream(rng) for _ in range(rng.randint(1, 3))]
    may, order = [m for _, m in streams], []
    for i, (events, _) in enumerate(streams):
        order += [i] * len(events)
    rng.shuffle(order)
    left, last = [list(e) for e, _ in streams], len(streams)
    leaves = rng.randrange(len(order) + 1) if rng.random() < 0.4 else -1
    steps = ["read"] * len(streams)
    for n, i in enumerate([*order, None]):
        if n == leaves:
            # All that has been spoken of is worked on.
            spoken = [k for k in range(len(left))
                      if len(left[k]) < len(streams[k][0])]
            last = rng.randint(max(spoken, default=-1) + 1, len(streams))
            steps.append(f"goaway {last} 0")
            for k in range(last, len(streams)):
                may[k] = {"unreached/none"}
        if i is not None and i < last:
            steps += [f"on {i + 1}", left[i].pop(0)]
            if rng.random() < 0.3:
                steps.append(rng.choice(NOISE))
    open_ones = any(not {"ok/usage"} & m for m in may)
    steps.append("wait 20 fin" if open_ones or rng.random() < 0.5 else "hang")
    expect = {"+".join(sorted(c)) for c in itertools.product(*may)}
    return (f"frames_{number} {'|'.join(sorted(expect))} "
            f"tls=good,h2,real,deadline=1500 : {' '.join(steps)}")


def check_frames(pool):
    rng = random.Random(args.seed)
    count = max(1, args.rounds * 2 // 3) if args.rounds < 1000 else 1000
    scripts = [server.Script(draw_frames(rng, i), world.words)
               for i in range(count)]
    kinds = set()
    for script, (wrong, got, said) in zip(scripts, pool.map(play, scripts)):
        kinds.add(got)
        problems.extend(f"--seed {args.seed}: {script.line}: {w}"
                        for w in wrong)
    if count >= 40 and len(kinds) < 6:
        problems.append(f"drawn frames had only these outcomes: {kinds}")
    print(f"hostile: {count} drawn orders of frames, {len(kinds)} kinds of "
          "outcome")


def check_drawn(pool):
    rng = random.Random(args.seed)
    lines = [(draw_request if i % 3 == 2 else draw)(rng, i)
             for i in range(args.rounds)]
    path = f"{folder}/drawn.txt"
    with open(path, "w") as f:
        f.write("body " + world.words["b"].decode() + "\n")
        f.write("\n".join(lines) + "\n")
    scripts = [server.Script(line, world.words) for line in lines]
    sim = simulated(path)
    kinds = set()

    def again(script):
        expect = sim.get(script.name, "?")
        script.expect = expect
        return play(script)

    for script, (wrong, got, said) in zip(scripts, pool.map(again, scripts)):
        kinds.add(got)
        problems.extend(f"--seed {args.seed}: {script.line}: {w}"
                        for w in wrong)
    if args.rounds >= 60 and len(kinds) < 6:
        problems.append(f"drawn scripts had only these outcomes: {kinds}")
    print(f"hostile: {args.rounds} drawn scripts, {len(kinds)} kinds of "
          "outcome, lane and simulator compared")


# ---- more than one lane, and the program -----------------------------------

def two_keys():
    """Two lanes with two keys to one server never share a connection."""
    at = server.Server(world, server.Script(
        "two_keys - - : " + "read answer " * 20 + "fin", world.words))
    lane = Lane()
    lane.say(f"open 0 {address(at)} {KEY} -")
    lane.say(f"open 1 {address(at)} {OTHER_KEY} -")
    for _ in range(5):
        for n in range(2):
            for a in lane.say(f"call {n} 3 5000 0"):
                if a[0] != "ok":
                    problems.append(f"two keys: {a}")
    lane.close()
    at.close()
    for c in at.connections:
        if len(c.keys) != 1:
            problems.append(f"two keys: one connection carried {c.keys}")
    if len(at.keys) != 2:
        problems.append(f"two keys: seen were {at.keys}")


def run(at, *more, **env):
    with open(f"{folder}/in.csv", "w") as f:
        f.write("id,text\n1,first\n2,second\n")
    store = tempfile.mkdtemp(dir=folder)
    return subprocess.Popen(
        [args.trommel, "classify", f"{folder}/in.csv", "--labels", "a,b",
         "--model", "openai/hostile", "--base-url", address(at), "--key-env",
         "HOSTILE_KEY", "--store", f"{store}/s", "-o", f"{store}/out.csv",
         "--budget-requests", "50", *more],
        env=environment(HOSTILE_KEY=KEY, XDG_CONFIG_HOME=store,
                        XDG_STATE_HOME=store, **env),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def program(name, steps, options, code, requests, *words, **env):
    """Runs the program to its end: exit code, requests seen, words said."""
    at = server.Server(world, server.Script(
        f"program_{name} - {options} : {steps}", world.words))
    process = run(at, **env)
    wrong = []
    try:
        said = process.communicate(timeout=120)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[1]
        wrong.append("does not come to an end")
    at.close()
    if process.returncode != code:
        wrong.append(f"exit code {process.returncode}")
    if at.requests != requests:
        wrong.append(f"{at.requests} requests instead of {requests}")
    wrong += [f"does not say {w}" for w in words if w not in said]
    if canary.seen(said):
        wrong.append("says the key")
    if not at.keys <= {KEY.encode()} or b"intruder" in b"".join(at.heads):
        wrong.append(f"sent {at.keys} and {at.heads}")
    problems.extend(f"program, {name}: {w}: {said}" for w in wrong)


def check_program():
    world.echo = True
    away = f"http://127.0.0.1:{world.elsewhere.port}"
    with open(f"{folder}/.netrc", "w") as f:
        f.write("machine 127.0.0.1 login intruder password intruder\n")
    os.chmod(f"{folder}/.netrc", 0o600)
    surroundings = {n: away for n in (
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")}
    surroundings["SSLKEYLOGFILE"] = f"{folder}/keylog"
    program("environment", "read answer fin", "tls=good", 0, 1, **surroundings)
    program("plain environment", "read answer fin", "-", 0, 1, **surroundings)
    if os.path.exists(f"{folder}/keylog"):
        problems.append("program: the keys of TLS were written to a file")
    program("redirect", 'read send "HTTP/1.1 307 Go\\r\\nLocation: http://'
            '127.0.0.1:%o/v1\\r\\nContent-Length: 0\\r\\n\\r\\n" fin', "-", 77, 1,
            f"127.0.0.1:{world.elsewhere.port}")
    program("self-signed", "read answer fin", "tls=selfsigned", 77, 0,
            "self-signed", "nothing can be asked there")
    check_timeout()


def check_timeout():
    """--timeout ends a request whose server is silent."""
    at = server.Server(world, server.Script("program_hang - - : read hang",
                                            world.words))
    trace = f"{folder}/trace"
    process = run(at, "--timeout", "1s", "--trace", trace)
    end = time.monotonic() + 60
    while not (os.path.exists(trace) and os.path.getsize(trace)):
        if time.monotonic() > end or process.poll() is not None:
            problems.append("program: --timeout 1s did not end a request")
            break
        time.sleep(0.05)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    process.communicate()
    at.close()
    text = open(trace).read() if os.path.exists(trace) else ""
    if '"trommel.outcome":"lost","trommel.billing":"unknown"' not in text:
        problems.append("program: a silent server's request is not lost: "
                        + text)


try:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        check_table(pool)
        if not args.only:
            check_drawn(pool)
            check_frames(pool)
    if not args.only:
        two_keys()
        check_program()
    problems += canary.search(folder) # stores, traces, outputs
    if world.elsewhere.connections:
        problems.append("something went to the other origin: "
                        f"{world.elsewhere.heads}")
finally:
    shutil.rmtree(folder, ignore_errors=True)
print(f"hostile: {len(problems)} problems")
for p in problems:
    print("FAILED:", p)
sys.exit(1 if problems else 0)
