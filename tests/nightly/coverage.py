#!/usr/bin/env python3
"""Which lines of lib/ the tests reach, by folder.

    coverage.py CMAKE GENERATOR DEPS_DIR [--least PERCENT] [--keep DIR]

Builds with gcc's --coverage in a folder of its own, runs the tests of `make
test` there, and adds up what gcov says of each line over all objects. Not those
that kill processes, which then tell nothing (kill, torture, hurt), that look at
finished files (hardened, installed), and of the pace of processes (share_). A
way to see what no test reaches, not a goal; it fails below --least (85) of
lib/, and when a test does.
SPDX-License-Identifier: MIT
"""
import argparse, collections, gzip, json, os, pathlib, shutil, subprocess, sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ap = argparse.ArgumentParser()
ap.add_argument("cmake")
ap.add_argument("generator")
ap.add_argument("deps")
ap.add_argument("--least", type=float, default=85)
ap.add_argument("--keep")
args = ap.parse_args()
if not shutil.which("gcc") or not shutil.which("gcov"):
    print("coverage: there is no gcc, or no gcov")
    sys.exit(77)
build = pathlib.Path(args.keep or tempfile.mkdtemp(prefix="trommel-cover-"))
quiet = {"check": True, "stdout": subprocess.DEVNULL}
subprocess.run([args.cmake, "-S", ROOT, "-B", build, "-G", args.generator,
                "--log-level=NOTICE", "-DCMAKE_BUILD_TYPE=Debug",
                "-DCMAKE_C_COMPILER=gcc", "-DCMAKE_C_FLAGS=--coverage -O0",
                f"-DTROMMEL_DEPS_DIR={args.deps}"], **quiet)
subprocess.run([args.cmake, "--build", build], **quiet)
ran = subprocess.run(["ctest", "-LE", "nightly", "-E", "^(kill|torture|hurt|"
                      "hardened|installed|share_.*)$", "--timeout", "3000",
                      "--no-tests=error"],
                     cwd=build, capture_output=True, text=True)
said = ran.stdout.splitlines()
failed = "The following tests FAILED:"
print("\n".join(said[said.index(failed) if failed in said else -8:]))

# gcov writes one file for each object into the folder where it runs.
lines = collections.defaultdict(dict)  # file -> line -> times
with tempfile.TemporaryDirectory() as here:
    counts = [str(p) for p in build.rglob("*.gcda") if "_deps" not in p.parts]
    for i in range(0, len(counts), 50):
        subprocess.run(["gcov", "--json-format", *counts[i:i + 50]], cwd=here,
                       check=True, capture_output=True)
        for name in pathlib.Path(here).glob("*.gz"):
            told = json.loads(gzip.open(name).read())
            for file in told["files"]:
                # The build maps the root away: names are below it already.
                path = os.path.relpath(os.path.join(ROOT, file["file"]), ROOT)
                if not path.startswith("lib/"):
                    continue
                seen = lines[path]
                for line in file["lines"]:
                    n = line["line_number"]
                    seen[n] = seen.get(n, 0) + line["count"]
            name.unlink()
folders = collections.Counter(), collections.Counter()
for file, seen in lines.items():
    folder = os.path.dirname(file)
    folders[0][folder] += sum(n > 0 for n in seen.values())
    folders[1][folder] += len(seen)
for folder in sorted(folders[1]):
    hit, of = folders[0][folder], folders[1][folder]
    print(f"{folder:12} {100 * hit / of:5.1f} %  {hit} of {of}")
hit, of = (sum(c.values()) for c in folders)
print(f"{'all of lib/':12} {100 * hit / of:5.1f} %  {hit} of {of}")
least = sorted(lines, key=lambda f: sum(n > 0 for n in lines[f].values())
               / max(1, len(lines[f])))[:5]
print("least:", ", ".join(
    f"{f} {100 * sum(n > 0 for n in lines[f].values()) / len(lines[f]):.0f} %"
    for f in least))
if not args.keep:
    shutil.rmtree(build, ignore_errors=True)
sys.exit(ran.returncode != 0 or 100 * hit / of < args.least)
