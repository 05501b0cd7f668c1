#!/usr/bin/env python3
"""Checks `trommel fake` from outside, over its socket.

    check_fake.py TROMMEL [NAME...]

Limits are held to the request, faults come at their rates, every reply has the
form it claims, and the bill adds up with what the client was told.
SPDX-License-Identifier: MIT
"""
import csv, email.utils, http.client, json, os, re, signal, socket
import subprocess, sys, tempfile, threading, time, urllib.request

sys.dont_write_bytecode = True  # the source folder stays as it is
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import canary

TROMMEL = sys.argv[1]
here = tempfile.mkdtemp(prefix="trommel-fake-")
GOLD = os.path.join(here, "gold.csv")
LABELS = ["refund", "bug", "question"]
TEXTS = [f'text {i} with "quotes", a comma\nand a line' for i in range(400)]
with open(GOLD, "w", newline="") as f:
    out = csv.writer(f)
    out.writerow(["id", "text", "label"])
    for i, text in enumerate(TEXTS):
        out.writerow([i, text, LABELS[i % 3]])


class Fake:
    def __init__(self, *options, gold=True):
        self.process = subprocess.Popen(
            [TROMMEL, "fake", *(["--gold", GOLD] if gold else []), *options],
            stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.fullmatch(
            r"listening on http://127\.0\.0\.1:(\d+)/v1\n", line)[1])
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.connection:
            self.connection.close()
        self.process.terminate()
        self.rest = self.process.stdout.read() # all that it still said
        assert self.process.wait(10) == 0, "it must end well on SIGTERM"
        self.process.stdout.close()

    def call(self, method, path, body=None, headers={}, timeout=10):
        """(status, headers, text); raises what http.client raises."""
        if not self.connection:
            self.connection = http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=timeout)
        try:
            self.connection.request(method, path, body, headers)
            r = self.connection.getresponse()
            return r.status, dict((k.lower(), v) for k, v in r.getheaders()), \
                r.read().decode()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise

    def ask(self, first=0, n=1, timeout=10, headers={}, **members):
        lines = "".join(f"[{500 + i}, {json.dumps(TEXTS[(first + i) % 400])}]\n"
                        for i in range(n))
        body = {"model": "fake", "max_completion_tokens": 4000,
                "messages": [{"role": "system", "content": "Label."},
                             {"role": "user", "content": lines + "Answer."}]}
        body.update(members)
        return self.call("POST", "/v1/chat/completions",
                         json.dumps({k: v for k, v in body.items()
                                     if v is not None}), headers, timeout)

    def bill(self, query=""):
        status, _, text = self.call("GET", "/bill" + query)
        assert status == 200, status
        return json.loads(text)


def content(reply):
    return json.loads(reply[2])["choices"][0]["message"]["content"]


def finish(reply):
    return json.loads(reply[2])["choices"][0]["finish_reason"]


def error(reply):
    return json.loads(reply[2])["error"]


def right(first, n):
    return [f"{500 + i} {LABELS[(first + i) % 400 % 3]}" for i in range(n)]


def same(got, want, what=""):
    assert got == want, f"{what}: {got!r} instead of {want!r}"


def near(got, want, slack, what):
    assert abs(got - want) <= slack, f"{what}: {got}, expected {want} +- {slack}"


def between(got, low, high, what):
    assert low <= got <= high, f"{what}: {got}, expected {low} to {high}"


def until(holds, what):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, f"in vain waited until {what}"
        time.sleep(0.01)


def schema(nested=False):
    label = {"type": "string", "enum": LABELS}
    if nested:
        label = {"type": "array", "items": label}
    pair = {"type": "array", "items": {"anyOf": [{"type": "integer"}, label]}}
    return {"type": "json_schema", "json_schema": {
        "name": "labels", "strict": True, "schema": {
            "type": "object", "required": ["a"], "additionalProperties": False,
            "properties": {"a": {"type": "array", "items": pair}}}}}


# ---- answers -----------------------------------------------------------

def test_answers_are_gold_in_the_order_asked():
    with Fake() as f:
        r = f.ask(7, 5)
        same(content(r).splitlines(), right(7, 5))
        same(finish(r), "stop")
        r = f.ask(7, 2, response_format=schema())
        same(json.loads(content(r)), {"a": [[500, "bug"], [501, "question"]]})


def test_several_labels_and_none():
    path = os.path.join(here, "several.csv")
    with open(path, "w", newline="") as out:
        csv.writer(out, delimiter=";", lineterminator="\r\n").writerows(
            [["message", "tags"], [TEXTS[0], "bug|refund"], [TEXTS[1], ""]])
    with Fake("--gold", path, "--text", "message", "--label", "tags",
              gold=False) as f:
        same(content(f.ask(0, 2)), "500 bug|refund\n501 -\n")
        same(json.loads(content(f.ask(0, 2, response_format=schema()))),
             {"a": [[500, "bug", "refund"], [501, "-"]]})
        same(json.loads(content(f.ask(0, 2, response_format=schema(True)))),
             {"a": [[500, ["bug", "refund"]], [501, []]]})


def test_unknown_texts_get_one_label_always():
    with Fake("--labels", "a,b,c", gold=False) as f:
        first = content(f.ask(0, 60))
        same(content(f.ask(0, 60)), first)
        same({line.split()[1] for line in first.splitlines()}, {"a", "b", "c"})


def test_content_parts_and_earlier_turns():
    with Fake() as f:
        line = json.dumps([123, TEXTS[0]])
        r = f.ask(messages=[
            {"role": "user", "content": json.dumps([9, TEXTS[1]])},
            {"role": "assistant", "content": "9 bug"},
            {"role": "user", "content": [{"type": "text", "text": line},
                                         {"type": "text", "text": "end"}]}])
        same(content(r), "123 refund\n")


def test_cap_cuts_and_reasoning_eats_it():
    with Fake() as f:
        r = f.ask(0, 8, max_completion_tokens=10)
        same((finish(r), len(content(r))), ("length", 40))
        same(json.loads(r[2])["usage"]["completion_tokens"], 10)
    with Fake("--reasoning", "50") as f:
        r = f.ask(0, 1, max_completion_tokens=40)
        usage = json.loads(r[2])["usage"]
        same((finish(r), content(r)), ("length", ""))
        same((usage["completion_tokens"],
              usage["completion_tokens_details"]["reasoning_tokens"]), (40, 40))
        r = f.ask(0, 1, max_completion_tokens=80)
        same((finish(r), content(r)), ("stop", "500 refund\n"))


def test_parameters_it_may_not_know():
    cases = [
        ("--no-max-completion-tokens", {}, "max_completion_tokens",
         {"max_completion_tokens": None, "max_tokens": 99}),
        ("--no-max-tokens", {"max_tokens": 9}, "max_tokens", {}),
        ("--no-schema", {"response_format": schema()}, "response_format", {}),
        ("--no-effort", {"reasoning_effort": "none"}, "reasoning_effort", {}),
        ("--efforts=low,medium", {"reasoning_effort": "none"},
         "reasoning_effort", {"reasoning_effort": "low"}),
    ]
    for option, wrong, param, good in cases:
        with Fake(option) as f:
            r = f.ask(**wrong)
            same((r[0], error(r)["param"]), (400, param), option)
            same(f.ask(**good)[0], 200, option)
            same(f.bill()["requests"]["unsupported"], 1, option)


def test_key_paths_and_bad_requests():
    with Fake("--key", canary.KEY) as f:
        said = [f.ask(), f.ask(headers={"Authorization": "Bearer sk-wrong"})]
        same([r[0] for r in said], [401, 401])
        key = {"Authorization": f"Bearer {canary.KEY}"}
        same(f.ask(headers=key)[0], 200)
        same(f.call("POST", "/v1/chat/completions", "{", key)[0], 400)
        same(f.call("POST", "/v1/chat/completions", "", key)[0], 400)
        same(f.ask(headers=key, messages=[])[0], 400)
        same(f.ask(headers=key, stream=True)[0], 400)
        same(f.call("GET", "/v1/nothing")[0], 404)
        said.append(f.call("GET", "/v1/models"))
        same(json.loads(said[2][2])["object"], "list")
        said.append(f.bill())
    same(canary.search(here, *map(str, said), f.rest), [])


def test_large_pack():
    with Fake() as f:
        same(content(f.ask(0, 400, max_completion_tokens=100000)).splitlines(),
             right(0, 400))


# ---- dialects ----------------------------------------------------------

def lines(first, n):
    return "".join(f"[{500 + i}, {json.dumps(TEXTS[first + i])}]\n"
                   for i in range(n))


def named(answer):
    return {a["name"]: a for a in answer["answers"]}


# name: path, header of the key, other headers, a request about texts 3 and 4,
# its words in the answer, input and output tokens there, status of a wrong key
DIALECTS = {
    "anthropic": (
        "/v1/messages", "x-api-key", {"anthropic-version": "2023-06-01"},
        {"model": "m", "max_tokens": 99, "system": "Label.", "messages": [
            {"role": "user", "content": lines(3, 2)}]},
        lambda a: a["content"][-1]["text"],
        lambda u: (u["usage"]["input_tokens"], u["usage"]["output_tokens"]),
        401),
    "gemini": (
        "/v1beta/models/m-1:generateContent", "x-goog-api-key", {},
        {"contents": [{"role": "user", "parts": [{"text": lines(3, 2)}]}],
         "systemInstruction": {"parts": [{"text": "Label."}]}},
        lambda a: a["candidates"][0]["content"]["parts"][0]["text"],
        lambda u: (u["usageMetadata"]["promptTokenCount"],
                   u["usageMetadata"]["candidatesTokenCount"]), 400),
    "responses": (
        "/v1/responses", "authorization", {},
        {"model": "m", "instructions": "Label.", "input": lines(3, 2)},
        lambda a: a["output"][-1]["content"][0]["text"],
        lambda u: (u["usage"]["input_tokens"], u["usage"]["output_tokens"]),
        401),
    "azure": (
        "/openai/deployments/m/chat/completions?api-version=1", "api-key", {},
        {"messages": [{"role": "user", "content": lines(3, 2)}]},
        lambda a: a["choices"][0]["message"]["content"],
        lambda u: (u["usage"]["prompt_tokens"],
                   u["usage"]["completion_tokens"]), 401),
    "decisions": (
        "/v1/decisions", "authorization", {},
        {"model": "m", "input": lines(3, 2), "questions": [
            {"type": "choice", "name": str(500 + i), "instructions": "Label.",
             "choices": [{"value": label} for label in LABELS]}
            for i in range(2)]},
        lambda a: "".join(f"{q['name']} {q['choice']}\n" for q in a["answers"]),
        lambda u: (u["usage"]["input_tokens"], u["usage"]["output_tokens"]),
        401),
    "systemone": (
        "/v1/systemone", "authorization", {},
        {"model": "m", "state": lines(3, 2), "questions": {
            str(500 + i): {"type": "choice", "instructions": "Label.",
                           "criteria": dict.fromkeys(LABELS)}
            for i in range(2)}},
        lambda a: "".join(f"{id} {q['choice']}\n"
                          for id, q in a["answers"].items()),
        lambda u: (u["usage"]["input_tokens"], u["usage"]["output_tokens"]),
        401),
}


def post(f, name, key="sk-right", body=None, **more):
    path, header, others = DIALECTS[name][:3]
    body = dict(DIALECTS[name][3] if body is None else body, **more)
    bearer = "Bearer " if header == "authorization" else ""
    return f.call("POST", path, json.dumps(body),
                  {header: bearer + key, **others})


def test_dialects_answer_and_bill():
    for name, (path, header, others, body, words, usage, wrong) \
            in DIALECTS.items():
        with Fake("--key", "sk-right", "--prices", "1:1") as f:
            r = post(f, name)
            same(r[0], 200, name)
            same(words(json.loads(r[2])).splitlines(), right(3, 2), name)
            same(post(f, name, key="sk-wrong")[0], wrong, name)
            if header != "authorization": # the key elsewhere is no key
                same(f.call("POST", path, json.dumps(body), {
                    "authorization": "Bearer sk-right", **others})[0], wrong,
                     name)
            bad = f.call("POST", path, '{"model": "m"}',
                         {header: ("Bearer " if header == "authorization"
                                   else "") + "sk-right", **others})
            between(bad[0], 400, 422, name)
            bill, tokens = f.bill(), usage(json.loads(r[2]))
            same((bill["prompt_tokens"], bill["completion_tokens"]), tokens,
                 name)
            same(bill["nanousd"], 1000 * sum(tokens), name)
            same(bill["texts"], 2, name)


def test_dialects_refuse_in_their_own_words():
    with Fake("--rpm", "60", "--bucket", "1") as f:
        post(f, "anthropic")
        r = post(f, "anthropic")
        same((r[0], json.loads(r[2])["type"], error(r)["type"]),
             (429, "error", "rate_limit_error"))
        same(r[1]["anthropic-ratelimit-requests-limit"], "60")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
                            r[1]["anthropic-ratelimit-requests-reset"])
        assert int(r[1]["retry-after"]) >= 1
        r = post(f, "gemini")
        same((r[0], error(r)["status"]), (429, "RESOURCE_EXHAUSTED"))
        kinds = [d["@type"].split(".")[-1] for d in error(r)["details"]]
        same(kinds, ["QuotaFailure", "RetryInfo"])
        assert "PerMinute" in error(r)["details"][0]["violations"][0]["quotaId"]
        assert not [h for h in r[1] if "ratelimit" in h or "retry" in h], r[1]
        r = post(f, "azure")
        same((r[0], error(r)["code"]), (429, "429"))
        assert "x-ratelimit-remaining-requests" in r[1], r[1]
        assert "x-ratelimit-limit-requests" not in r[1], r[1]
        r = post(f, "systemone")
        same((r[0], list(json.loads(r[2]))), (429, ["detail"]))
    for name, status in (("anthropic", 529), ("gemini", 503),
                         ("systemone", 529), ("responses", 503)):
        with Fake("--503", "1") as f:
            same(post(f, name)[0], status, name)
    with Fake("--quota-after", "0") as f:
        same([post(f, name)[0] for name in DIALECTS],
             [400, 429, 429, 429, 429, 402])
    with Fake() as f: # the header of the version
        same(f.call("POST", "/v1/messages",
                    json.dumps(DIALECTS["anthropic"][3]))[0], 400)


def test_dialects_refusals_and_caches():
    with Fake("--poison", "text 4 ") as f:
        same(json.loads(post(f, "anthropic")[2])["stop_reason"], "refusal")
        assert "blockReason" in json.loads(post(f, "gemini")[2])[
            "promptFeedback"]
        same(json.loads(post(f, "responses")[2])["incomplete_details"],
             {"reason": "content_filter"})
        same(set(a["type"] for a in json.loads(
            post(f, "decisions")[2])["answers"]), {"refusal"})
    with Fake() as f:
        system = [{"type": "text", "text": "Label." * 50,
                   "cache_control": {"type": "ephemeral"}}]
        seen = [json.loads(post(f, "anthropic", system=system)[2])["usage"]
                for _ in range(2)]
        same([(u["cache_creation_input_tokens"], u["cache_read_input_tokens"])
              for u in seen], [(75, 0), (0, 75)])


def test_yes_or_no():
    questions = [{"type": "predicate", "name": f"{500 + i}_{k}",
                  "instructions": f'Does "{label}" apply?'}
                 for i in range(2) for k, label in enumerate(LABELS)]
    with Fake() as f:
        a = named(json.loads(post(f, "decisions", questions=questions)[2]))
        for i in range(2):
            for k in range(3):
                p = a[f"{500 + i}_{k}"]["probability"]
                same(p > 0.5, k == (3 + i) % 3, (i, k, p))


# ---- faults ------------------------------------------------------------

def rate(option, share, is_hit, n=1000, pack=3, *more):
    """option at share hits its share of n requests, and the same ones again
    with the same seed; hits of both runs are compared."""
    runs = []
    for _ in range(2):
        with Fake(option, str(share), "--seed", "5", *more) as f:
            runs.append([bool(is_hit(f, i, pack)) for i in range(n)])
    same(runs[0], runs[1], f"{option}: not repeatable")
    slack = 4 * (n * share * (1 - share)) ** 0.5
    near(sum(runs[0]), n * share, slack, option)


def test_fault_rates():
    def body(check):
        return lambda f, i, n: check(f.ask(i, n), right(i, n))

    def lines(r):
        return content(r).splitlines()

    rate("--429", .2, body(lambda r, _: r[0] == 429))
    rate("--500", .1, body(lambda r, _: r[0] == 500 and
                           error(r)["type"] == "server_error"))
    rate("--502-html", .1, body(lambda r, _: r[0] == 502 and
                                "<html>" in r[2]))
    rate("--503", .1, body(lambda r, _: r[0] == 503 and
                           "overloaded" in error(r)["message"]))
    rate("--slow-down", .1, body(lambda r, _: r[0] == 503 and
                                 error(r)["message"] == "Slow Down"))
    rate("--refuse", .2, body(
        lambda r, _: json.loads(r[2])["choices"][0]["message"]["refusal"]))
    rate("--filter", .2, body(lambda r, _: finish(r) == "content_filter"))
    rate("--missing", .2, body(lambda r, w: len(lines(r)) == 2 and
                               set(lines(r)) < set(w)))
    rate("--double", .2, body(lambda r, w: len(lines(r)) == 4 and
                              set(lines(r)) == set(w)))
    rate("--foreign", .2, body(
        lambda r, w: any(l[:3] not in ("500", "501", "502")
                         for l in lines(r))))
    rate("--conflict", .2, body(
        lambda r, w: len(lines(r)) == 4 and len(set(lines(r)) - set(w)) == 1
        and (set(lines(r)) - set(w)).pop()[4:] in LABELS))
    rate("--bad-label", .2, body(
        lambda r, _: sum(l[4:] not in LABELS for l in lines(r)) == 1))
    rate("--case", .2, body(
        lambda r, w: lines(r) != w and
        [l.lower() for l in lines(r)] == w))
    rate("--prose", .2, body(lambda r, w: lines(r) != w and
                             set(w) < set(lines(r))))
    rate("--fence", .2, body(lambda r, w: lines(r)[0] == "```" and
                             lines(r)[1:4] == w))
    rate("--truncate", .2, body(
        lambda r, w: finish(r) == "length" and
        not content(r).endswith("\n") and lines(r)[-1] not in w))


def test_reorder():
    with Fake("--reorder", "1") as f:
        moved = 0
        for i in range(200):
            got = content(f.ask(i, 5)).splitlines()
            same(sorted(got), sorted(right(i, 5)))
            moved += got != right(i, 5)
        near(moved, 200 * 119 / 120, 8, "reordered")


def test_cut_and_cut_mid():
    def cut(f, i, n):
        try:
            f.ask(i, n)
        except (http.client.HTTPException, OSError) as e:
            return isinstance(e, (http.client.RemoteDisconnected,
                                  ConnectionResetError))
    rate("--cut", .2, cut, 300)

    def mid(f, i, n):
        try:
            f.ask(i, n)
        except (http.client.IncompleteRead, ConnectionResetError):
            return True
    rate("--cut-mid", .2, mid, 300)
    with Fake("--cut", "1") as f:
        cut(f, 0, 3)
        b = f.bill()
        same((b["requests"]["cut"], b["requests"]["ok"], b["answered_items"]),
             (1, 0, 3), "a cut request is billed")


def test_hang_and_a_client_that_leaves():
    with Fake("--hang", "1") as f:
        try:
            f.ask(0, 1, timeout=0.3)
            raise AssertionError("a hung request was answered")
        except (socket.timeout, TimeoutError):
            pass
        until(lambda: f.bill()["in_flight"] == 0, "its client is gone")
        b = f.bill()
        same(b["requests"]["hung"], 1)
        same(b["completion_tokens"] > 0, True, "a hung request is billed")


def test_poison_isolates():
    with Fake("--poison", "text 7 ") as f:
        same(finish(f.ask(0, 8)), "content_filter")
        same(finish(f.ask(0, 7)), "stop")
        same(finish(f.ask(7, 1)), "content_filter")


def test_too_long():
    with Fake("--too-long-tokens", "60") as f:
        r = f.ask(0, 20)
        same((r[0], error(r)["code"]), (400, "context_length_exceeded"))
        same(f.ask(0, 1)[0], 200)


def test_all_faults_never_lies_unseen():
    """Whatever goes wrong, a plain line with a right id and a known label is
    the gold one, unless the answer can be seen to contradict itself."""
    with Fake("--all-faults", "--hang", "0", "--seed", "3") as f:
        ends, n = {}, 6
        for i in range(1500):
            try:
                r = f.ask(i, n)
            except (OSError, http.client.HTTPException):
                continue
            if r[0] != 200 or not content(r):
                continue
            said, void = {}, False
            text = content(r)
            if finish(r) == "length":
                text = text[:text.rfind("\n") + 1]
            for line in text.splitlines():
                m = re.fullmatch(r"(\d+) (\S+)", line)
                if not m:
                    continue
                id = int(m[1]) - 500
                void |= not 0 <= id < n or said.get(id, m[2]) != m[2]
                said[id] = m[2]
            for id, label in said.items():
                if not void and label in LABELS:
                    same(label, LABELS[(i + id) % 400 % 3])
        seen = f.bill()["requests"]
        for name in ("truncated", "refused", "filtered", "cut", "cut_mid",
                     "429", "500", "502", "503", "slow_down"):
            assert seen[name] > 0, f"--all-faults without {name}: {seen}"


# ---- limits ------------------------------------------------------------

def test_bucket_is_exact():
    with Fake("--rpm", "600", "--bucket", "2", "--retry-after", "ms") as f:
        start = time.monotonic()
        passed, refused = int(f.ask()[0] == 200), 0
        taken = time.monotonic() - start # it refills since about then
        while time.monotonic() - start < 3:
            before = time.monotonic() - start
            r = f.ask()
            after = time.monotonic() - start
            passed += r[0] == 200
            refused += r[0] == 429
            # 20 at once and 10 a second, never more, never one less.
            assert passed <= 20 + 10 * after + 1e-3, (passed, after)
            if r[0] == 429:
                assert passed >= int(20 + 10 * (before - taken)), \
                    (passed, before, taken)
                wait = float(r[1]["retry-after-ms"])
                assert 0 < wait <= 101, wait
        b = f.bill()
        same((b["requests"]["ok"], b["refused_by_limit"]), (passed, refused))
        assert b["passed_max_1s"] <= 30, b


def test_window_is_exact():
    """Each answer tells when its window ends. 20 pass in a window, never more,
    never one less, and the windows are a second long."""
    with Fake("--rpm", "1200", "--window", "1") as f:
        start, ends, passed, slow = time.monotonic(), [], {}, False
        while time.monotonic() - start < 3.5:
            before = time.monotonic()
            r = f.ask()
            after = time.monotonic()
            same(r[1]["x-ratelimit-limit-requests"], "20")
            left = re.fullmatch(r"(?:(\d+)ms|1s)",
                                r[1]["x-ratelimit-reset-requests"])
            left = int(left[1] or 1000) / 1000 # rounded up
            ends.append((before + left - 0.001, after + left))
            window = round(sum(ends[-1]) / 2 - sum(ends[0]) / 2)
            ends[-1] = tuple(t - window for t in ends[-1])
            slow |= after - before > 0.4 # which window was it?
            passed.setdefault(window, 0)
            passed[window] += r[0] == 200
            assert passed[window] <= 20, passed
            if r[0] == 429:
                assert passed[window] == 20 or slow, passed
                same(r[1]["x-ratelimit-remaining-requests"], "0")
                time.sleep(0.01)
        assert len(passed) > 2 and 20 in passed.values(), passed
        # One beat suits all that was told.
        assert slow or max(t for t, _ in ends) <= min(t for _, t in ends) + \
            1e-3, (max(t for t, _ in ends), min(t for _, t in ends))


def test_tokens_are_charged_by_cap():
    with Fake("--tpm", "6000", "--bucket", "60", "--retry-after", "ms") as f:
        caps = [f.ask(max_completion_tokens=1000) for _ in range(7)]
        same([r[0] for r in caps], [200] * 6 + [429])
        same(error(caps[6])["type"], "tokens")
        between(float(caps[6][1]["retry-after-ms"]), 7000, 10001, "wait")
        between(int(caps[5][1]["x-ratelimit-remaining-tokens"]), 0, 300, "left")
        r = f.ask(max_completion_tokens=7000)
        same(r[0], 429)
        same("Request too large" in error(r)["message"], True)


def test_headers_and_retry_after_forms():
    with Fake("--rpm", "60") as f:
        r = f.ask()
        same((r[1]["x-ratelimit-limit-requests"],
              r[1]["x-ratelimit-remaining-requests"],
              r[1]["x-ratelimit-reset-requests"]), ("60", "59", "1s"))
    with Fake("--rpm", "60", "--headers", "off") as f:
        same([k for k in f.ask()[1] if k.startswith("x-ratelimit")], [])
    for form in ("seconds", "ms", "date", "none"):
        with Fake("--rpm", "30", "--bucket", "2", "--retry-after", form) as f:
            f.ask()
            r = f.ask()
            same(r[0], 429)
            if form == "seconds":
                same(r[1]["retry-after"], "2")
            elif form == "ms":
                between(float(r[1]["retry-after-ms"]), 1000, 2001, form)
            elif form == "date":
                at = email.utils.parsedate_to_datetime(r[1]["retry-after"])
                near(at.timestamp(), time.time() + 2.5, 2, form)
            else:
                same([k for k in r[1] if k.startswith("retry")], [])
                same("try again in" in r[2], False)


def test_refused_requests_may_count():
    with Fake("--rpm", "60", "--bucket", "1", "--charge-refused") as f:
        same(f.ask()[0], 200)
        end = time.monotonic() + 2.5 # two would pass if refusals cost nothing
        same({f.ask()[0] for _ in iter(lambda: time.monotonic() < end, False)},
             {429}, "hammering keeps the bucket empty")


def test_quota_and_day():
    with Fake("--quota-after", "3") as f:
        same([f.ask(i)[0] for i in range(5)], [200] * 3 + [429] * 2)
        same(error(f.ask())["code"], "insufficient_quota")
        same(f.bill()["refused_after_quota"], 3)
        f.bill("?reset=1")
        same([f.ask(i)[0] for i in range(4)], [200] * 3 + [429])
    with Fake("--daily-after", "2") as f:
        same([f.ask(i)[0] for i in range(3)], [200, 200, 429])
        r = f.ask()
        assert "requests per day (RPD)" in error(r)["message"], r
        same(r[1]["retry-after"], "7200")


# ---- time --------------------------------------------------------------

def test_latency():
    with Fake("--latency", "60") as f:
        f.ask()
        start = time.monotonic()
        for i in range(5):
            f.ask(i)
        between(time.monotonic() - start, 0.3, 5, "five times 60 ms")
    with Fake("--latency", "20:0.5", "--seed", "4") as f:
        times = []
        for i in range(200):
            start = time.monotonic()
            f.ask(i)
            times.append(time.monotonic() - start)
        times.sort()
        # A busy machine adds to every time; it takes nothing away.
        between(times[100], 0.0175, 1, "median")
        between(times[0], 0, times[100] * 0.8, "the shortest")
        between(times[168] - times[100], 0.005, 1, "one sigma above")


def test_stuck_and_many_in_flight():
    with Fake("--latency", "300", "--stuck", "text 399 :1") as f:
        sockets = []
        start = time.monotonic()
        for i in range(500):
            s = socket.create_connection(("127.0.0.1", f.port))
            line = json.dumps([7, TEXTS[i % 399]])
            body = json.dumps({"model": "m", "messages": [
                {"role": "user", "content": line}]}).encode()
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body)
            sockets.append(s)
        for s in sockets:
            assert s.recv(100).startswith(b"HTTP/1.1 200"), "no answer"
            s.close()
        assert f.bill()["in_flight_max"] >= 20, f.bill()
        start = time.monotonic()
        f.ask(399)
        between(time.monotonic() - start, 1, 10, "stuck")


# ---- the bill ----------------------------------------------------------

def test_bill_adds_up():
    with Fake("--prices", "0.25:2", "--truncate", ".2", "--500", ".1",
              "--missing", ".1", "--reasoning", "5") as f:
        tokens_in = tokens_out = ok = 0
        for i in range(300):
            r = f.ask(i, 4)
            if r[0] == 200:
                usage = json.loads(r[2])["usage"]
                tokens_in += usage["prompt_tokens"]
                tokens_out += usage["completion_tokens"]
                ok += 1
        b = f.bill("?reset=1")
        requests = b["requests"]
        same((requests["total"], requests["ok"]), (300, ok))
        same(sum(v for k, v in requests.items() if k not in ("total", "ok")),
             300, "every request ended in one way")
        same((b["prompt_tokens"], b["completion_tokens"]),
             (tokens_in, tokens_out))
        same(b["nanousd"], tokens_in * 250 + tokens_out * 2000)
        same(b["asked_items"], 300 * 4)
        assert b["answered_items"] == b["texts"] + b["paid_again"], b
        assert b["first_request_ms"] <= b["last_request_ms"], b
        b = f.bill()
        same((b["requests"]["total"], b["nanousd"], b["texts"]), (0, 0, 0))


def test_paid_twice():
    with Fake() as f:
        f.ask(0, 10)
        f.ask(8, 4)
        f.ask(9, 1)
        b = f.bill()
        same((b["texts"], b["paid_twice"], b["paid_again"]), (12, 2, 3))


def test_files_and_the_end():
    bill = os.path.join(here, "bill.json")
    port = os.path.join(here, "port")
    with Fake("--max-requests", "2", "--bill-file", bill, "--port-file",
              port) as f:
        same(int(open(port).read()), f.port)
        f.ask()
        f.ask()
        same(f.process.wait(5), 0)
    same(json.load(open(bill))["requests"]["total"], 2)
    with Fake("--latency", "5000", "--bill-file", bill) as f:
        t = threading.Thread(target=lambda: silently(f.ask))
        t.start()
        url = f"http://127.0.0.1:{f.port}/bill" # by another connection
        until(lambda: json.load(urllib.request.urlopen(url))["in_flight"] == 1,
              "it is in flight")
        f.process.send_signal(signal.SIGINT)
        same(f.process.wait(5), 0, "SIGINT with a request in flight")
        t.join()
    same(json.load(open(bill))["requests"]["total"], 1)


def silently(call):
    try:
        call()
    except (OSError, http.client.HTTPException):
        pass


def test_wrong_options():
    for options, word in [
            ([], "--gold"), (["--gold", "/nonexistent.csv"], "nonexistent"),
            (["--labels", "a", "--rpm", "x"], "--rpm"),
            (["--labels", "a", "--500", "1.5"], "--500"),
            (["--labels", "a", "--500", ".6", "--503", ".6"], "more than 1"),
            (["--labels", "a", "--rmp", "5"], "--rmp"),
            (["--gold", GOLD, "--label", "no"], "no column 'no'"),
            (["--labels", "a", "stray"], "stray"),
            (["--labels", "a", "--stuck", "text"], "TEXT:SECONDS")]:
        r = subprocess.run([TROMMEL, "fake", *options], capture_output=True,
                           text=True, timeout=10)
        assert r.returncode != 0 and word in r.stderr, (options, r)
    r = subprocess.run([TROMMEL, "fake", "--help"], capture_output=True,
                       text=True)
    assert r.returncode == 0 and "--all-faults" in r.stdout, r
    page = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "../../docs/fake.md")
    assert r.stdout in open(page).read(), "docs/fake.md: another option list"


failed = 0
for name, test in list(globals().items()):
    if not name.startswith("test_") or \
            (sys.argv[2:] and name[5:] not in sys.argv[2:]):
        continue
    started = time.monotonic()
    try:
        test()
        print(f"ok      {name[5:]} ({time.monotonic() - started:.1f} s)")
    except Exception as e:  # the next test is of interest, too
        failed += 1
        print(f"FAILED  {name[5:]}: {type(e).__name__}: {e}")
sys.exit(failed > 0)
