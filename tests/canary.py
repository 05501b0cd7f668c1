#!/usr/bin/env python3
"""canary - the key that all process tests use, and the search for it in all
that a run left behind: outputs, logs, stores with their write-ahead logs,
traces, alerts, temporary and state files.

    canary.py            whether the search finds what it should (a test)

The key is made so that no pattern of keys takes it out (it begins like none)
and every encoding changes it. It is looked for as it is, URL-encoded, in hex,
in base64 at any offset, and in JSON's escapes; UTF-16 counts, too.

Whoever imports it has forgotten the proxies and the settings of who runs the
tests: servers here are on loopback, and a case says its settings itself.
SPDX-License-Identifier: MIT
"""
import base64
import os
import pathlib
import sys
import tempfile
import urllib.parse

KEY = "canary.Zq8/Xw+K3v~T7=mR2pLd5"

for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith("TROMMEL_"):
        del os.environ[name]


def forms(key=KEY):
    raw = key.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(),
             urllib.parse.quote(key, safe="").encode(),
             urllib.parse.quote(key, safe="~").encode(),
             key.replace("/", "\\/").encode(), key.encode("utf-16-le")}
    found |= {form.replace(b"%2F", b"%2f").replace(b"%2B", b"%2b")
              .replace(b"%3D", b"%3d").replace(b"%7E", b"%7e")
              for form in list(found)}
    for skip in range(3):
        coded = base64.b64encode(b"\0" * skip + raw).rstrip(b"=")
        # What the neighbours before and after have no part in.
        coded = coded[-(-8 * skip // 6):(8 * (skip + len(raw))) // 6]
        found |= {coded, coded.translate(bytes.maketrans(b"+/", b"-_"))}
    return sorted(found)


FORMS = forms()


def seen(data):
    """The form of the key in data (bytes or text), or None."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogateescape")
    return next((form for form in FORMS if form in data), None)


def search(folder, *texts):
    """What gives the key away: a line for each file below folder, its name
    included, and for each of the texts."""
    bad = []
    for at, text in enumerate(texts):
        if seen(text or ""):
            bad.append(f"the key stands in output {at}")
    for path in sorted(pathlib.Path(folder).rglob("*")):
        name = path.relative_to(folder)
        if seen(os.fsencode(name)):
            bad.append(f"the key stands in a name: {name}")
        if path.is_symlink() or not path.is_file():
            continue
        form = seen(path.read_bytes())
        if form:
            bad.append(f"the key stands in {name} ({form[:12]!r}...)")
    return bad


def self_test():
    lower = "".join(c if c.isalnum() or c in "._-~" else f"%{ord(c):02x}"
                    for c in KEY)
    samples = {"plain": KEY, "inside": f"x{KEY}y", "hex": KEY.encode().hex(),
               "json": '{"k":"' + KEY.replace("/", "\\/") + '"}',
               "query": "?k=" + urllib.parse.quote(KEY, "") + "&b",
               "lower": "?k=" + lower}
    for skip in range(5):
        for after in range(3):
            text = ("u" * skip + KEY + "v" * after).encode()
            samples[f"base64-{skip}-{after}"] = base64.b64encode(text).decode()
            samples[f"url64-{skip}-{after}"] = \
                base64.urlsafe_b64encode(text).decode()
    with tempfile.TemporaryDirectory(prefix="trommel-canary-") as folder:
        place = pathlib.Path(folder)
        (place / "clean").write_text(KEY[:-1] + "\n" + KEY[1:])
        assert not search(folder, "nothing", None), "a false alarm"
        (place / "deep/er").mkdir(parents=True)
        for name, text in samples.items():
            (place / "deep/er" / name).write_text(text)
        found = "\n".join(search(folder))
        for name in samples:
            assert f"deep/er/{name} (" in found, f"{name} is not found"
    assert search(folder, "", "a" + KEY), "an output is not searched"
    print(f"canary: {len(samples)} spellings found")


if __name__ == "__main__":
    sys.exit(self_test())
