"""A strict reader of Prometheus text format 0.0.4: raises Bad, or returns
{name: (type, {sample name: {labels: value}})}.

Stricter than Prometheus itself where a habit is a rule of ours: every family
has HELP and TYPE, once, before its samples, and its samples stand together; a
counter ends in _total, nothing else does; a histogram is whole and its buckets
never fall; names have the prefix trommel_.
SPDX-License-Identifier: MIT
"""
import math
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"')
VALUE = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$|"
                   r"[+-]?Inf$|NaN$")
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


class Bad(Exception):
    pass


def need(ok, line, why):
    if not ok:
        raise Bad(f"{why}: {line!r}")


def sample(line):
    """name, labels as a tuple of pairs, value"""
    match = NAME.match(line)
    need(match, line, "no metric name")
    name, at, labels = match.group(), match.end(), []
    if line[at:at + 1] == "{":
        at += 1
        while line[at:at + 1] != "}":
            match = LABEL.match(line, at)
            need(match, line, "bad label")
            need(match.group(1) not in dict(labels), line, "label twice")
            need(not match.group(1).startswith("__"), line, "reserved label")
            labels.append((match.group(1), match.group(2)))
            at = match.end()
            if line[at:at + 1] == ",":
                at += 1
                need(line[at:at + 1] != "}", line, "comma without a label")
            else:
                need(line[at:at + 1] == "}", line, "labels do not end")
        at += 1
    need(line[at:at + 1] == " ", line, "no blank before the value")
    need(VALUE.match(line[at + 1:]), line, "no value (or a timestamp)")
    return name, tuple(labels), float(line[at + 1:])


def belongs(name, family, kind):
    if kind == "histogram":
        return name in (family + "_bucket", family + "_sum", family + "_count")
    return name == family


def check_histogram(family, samples):
    series = {}
    for labels, value in samples.get(family + "_bucket", {}).items():
        rest = tuple(pair for pair in labels if pair[0] != "le")
        bound = dict(labels).get("le")
        need(bound is not None, family, "bucket without le")
        series.setdefault(rest, []).append(
            (math.inf if bound == "+Inf" else float(bound), value))
    for part in ("_sum", "_count"):
        need(set(samples.get(family + part, {})) == set(series), family,
             f"{part} and buckets differ in labels")
    for rest, buckets in series.items():
        need(buckets == sorted(buckets), family, "buckets out of order")
        values = [value for _, value in buckets]
        need(values == sorted(values), family, "buckets fall")
        need(buckets[-1][0] == math.inf, family, "no +Inf bucket")
        need(values[-1] == samples[family + "_count"][rest], family,
             "+Inf is not the count")


def parse(text):
    families, order, current, helped = {}, [], None, None
    need(text.endswith("\n"), text[-20:], "no line end at the end")
    need("\r" not in text, "", "a carriage return")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name, _, words = line[7:].partition(" ")
            need(NAME.fullmatch(name) and words, line, "HELP")
            need(not re.search(r"\\(?![\\n])", words), line, "escape in HELP")
            need(name not in families, line, "HELP twice")
            need(name.startswith("trommel_"), line, "prefix")
            helped = name
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            need(kind in TYPES, line, "TYPE")
            need(name == helped, line, "TYPE without its HELP before it")
            need(name.endswith("_total") == (kind == "counter"), line,
                 "_total is for counters, and for all of them")
            need(not name.endswith(("_bucket", "_sum", "_count")), line,
                 "reserved suffix")
            families[name] = (kind, {})
            current = name
            order.append(name)
        else:
            need(not line.startswith("#") and line, line, "stray line")
            name, labels, value = sample(line)
            need(current and belongs(name, current, families[current][0]),
                 line, "sample outside of its family")
            kind, samples = families[current]
            mine = samples.setdefault(name, {})
            key = tuple(sorted(labels))
            need(key not in {tuple(sorted(k)) for k in mine}, line, "twice")
            need(kind == "gauge" or value >= 0, line, "negative counter")
            need(not any(n in current.split("_") for n, _ in labels
                         if n != "le"), line, "label within the name")
            mine[labels] = value
    for name in order:
        if families[name][0] == "histogram":
            check_histogram(name, families[name][1])
    return families


def total(families, name, **labels):
    """Sum of the samples of a plain family that have these labels."""
    return sum(value for key, value in families[name][1].get(name, {}).items()
               if labels.items() <= dict(key).items())


def check_the_checker():
    """What must be refused is refused: else the tests with it prove nothing."""
    good = ('# HELP trommel_a_total A.\n# TYPE trommel_a_total counter\n'
            'trommel_a_total{x="\\"\\\\\\n"} 1\n')
    hist = ('# HELP trommel_h_seconds H.\n# TYPE trommel_h_seconds histogram\n'
            'trommel_h_seconds_bucket{le="1"} 1\n'
            'trommel_h_seconds_bucket{le="+Inf"} 2\n'
            'trommel_h_seconds_sum 3.5\ntrommel_h_seconds_count 2\n')
    parse(good + hist)
    for old, new in (
            ('\\"', '"'), ("} 1", "}1"), ("} 1", "} one"), ("} 1", "} 1 17"),
            ("} 1", "} -1"), ("# TYPE trommel_a_total counter\n", ""),
            ("# HELP trommel_a_total A.\n", ""), ("counter", "gauge"),
            ("counter", "number"), ('{x=', '{x='+'"1",x='), ('x=', '1x='),
            ("A.", "A\\t."), ('"} 1\n', '"} 1\n\n'),
            ("trommel_a", "other_a"), ('{x=', '{a='),
            ('le="1"} 1', 'le="1"} 3'), ('_count 2', '_count 3'),
            ('trommel_h_seconds_bucket{le="+Inf"} 2\n', ""),
            ('le="1"', 'le="7",le="8"'), ("trommel_h_seconds_sum 3.5\n", "")):
        text = (good + hist).replace(old, new)
        assert text != good + hist, old
        try:
            parse(text)
        except Bad:
            continue
        raise AssertionError(f"not refused: {old!r} -> {new!r}")
    for what, text in (
            ("twice", good + good),
            ("twice", good + hist + good.splitlines()[2] + "\n"),
            ("twice", good + good.splitlines()[2] + "\n"),
            ("a last line without an end", good[:-1] + "7")):
        try:
            parse(text)
        except Bad:
            continue
        raise AssertionError(f"not refused: {what}")
