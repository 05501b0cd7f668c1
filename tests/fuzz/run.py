#!/usr/bin/env python3
"""run.py - runs the fuzz targets with libFuzzer, and says what came of it.

SPDX-License-Identifier: MIT

    tests/fuzz/run.py [--minutes N] [--jobs N] [--keep] [TARGET...]

Builds the presets "fuzz" and "cover" (clang). Gives every target N CPU-minutes
(20), beginning with its corpus, its other seeds and what earlier runs found
(build-fuzz/corpus). Then reports executions, crashes, and which lines of lib/
and cli/ the inputs reach. Exit 1: something was found; its input lies in
build-fuzz/crashes. Exit 77: there is no clang.

--keep writes what is new and small into tests/fuzz/corpus, merged.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FUZZ, COVER = ROOT / "build-fuzz", ROOT / "build-cover"
CORPUS = ROOT / "tests/fuzz/corpus"
SLICE_S = 300          # a target starts anew so often
INPUT_BYTES = 4096     # of what is made up; seeds may be larger
KEEP_FILES = 40        # of one target in the repository
KEEP_BYTES = 500       # of one file there


def build(preset):
    deps = os.environ.get("TROMMEL_DEPS_DIR")
    for command in (["cmake", "--preset", preset, "--log-level=NOTICE"]
                    + ([f"-DTROMMEL_DEPS_DIR={deps}"] if deps else []),
                    ["cmake", "--build", "--preset", preset]):
        subprocess.run(command, cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)


def targets(names):
    """Name and seeds, as cmake/fuzz.cmake wrote them."""
    found = {}
    for line in (FUZZ / "fuzz-targets").read_text().splitlines():
        name, *seeds = line.split()
        found[name] = [str(CORPUS / name)] + seeds
    unknown = set(names) - set(found)
    if unknown:
        sys.exit(f"run.py: no such target: {', '.join(sorted(unknown))}")
    return {n: s for n, s in found.items() if not names or n in names}


def words(name):
    """Arguments that name the target's dictionary, if it has one."""
    if name in ("args", "config"):
        options = re.findall(r"^OPT\(([a-z-]+),",
                             (ROOT / "lib/options.def").read_text(), re.M)
        form = '"--{}="' if name == "args" else '"{}: "'
        path = FUZZ / "corpus" / f"{name}.dict"
        path.write_text("".join(form.format(o) + "\n" for o in options))
        return [f"-dict={path}"]
    path = ROOT / "tests/fuzz" / f"{name.split('_')[0]}.dict"
    return [f"-dict={path}"] if path.exists() else []


def one_slice(name, seeds, seconds):
    """CPU-seconds, executions, and what went wrong or ""."""
    corpus, crashes = FUZZ / "corpus" / name, FUZZ / "crashes"
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    log = FUZZ / "corpus" / f"{name}.log"
    command = [FUZZ / f"fuzz_{name}", f"-max_total_time={seconds}",
               f"-max_len={INPUT_BYTES}", "-timeout=20", "-rss_limit_mb=2000",
               "-close_fd_mask=1", "-print_final_stats=1",
               f"-artifact_prefix={crashes}/{name}-"] + words(name)
    command += [corpus] + seeds
    with open(log, "wb") as out:
        child = subprocess.Popen([str(c) for c in command], stdout=out,
                                 stderr=out, cwd=FUZZ)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    runs = re.search(r"number_of_executed_units: (\d+)", text)
    trouble = ""
    if child.returncode:
        why = re.findall(r"^.*(?:does not hold|runtime error|SUMMARY|"
                         r"trommel: bug).*$", text, re.M)
        where = re.findall(r"Test unit written to (\S+)", text)
        trouble = "; ".join(why[:2]) or f"exit {child.returncode}"
        trouble += "".join(f"\n    {w}" for w in where)
    return (used.ru_utime + used.ru_stime,
            int(runs.group(1)) if runs else 0, trouble)


def fuzz(name, seeds, minutes):
    cpu, runs = 0.0, 0
    while cpu < 60 * minutes:
        left = int(60 * minutes - cpu) + 1
        used, n, trouble = one_slice(name, seeds, min(left, SLICE_S))
        cpu += used
        runs += n
        if trouble:
            return name, cpu, runs, trouble
    return name, cpu, runs, ""


def merge(name, seeds):
    """The corpus without what another input reaches as well."""
    corpus = FUZZ / "corpus" / name
    small = FUZZ / "corpus" / f"{name}.small"
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir()
    subprocess.run([FUZZ / f"fuzz_{name}", "-merge=1", "-close_fd_mask=1",
                    f"-artifact_prefix={FUZZ}/crashes/{name}-", small]
                   + seeds + [corpus], stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, cwd=FUZZ)
    if not any(small.iterdir()):
        return
    shutil.rmtree(corpus)
    small.rename(corpus)


def keep(name, seeds):
    """What reaches more than all seeds do, the small ones, into the
    repository."""
    folder, found = CORPUS / name, FUZZ / "corpus" / name
    merged = FUZZ / "corpus" / f"{name}.merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir()
    for n, seed in enumerate(p for s in seeds
                             for p in pathlib.Path(s).rglob("*")
                             if p.is_file()):
        shutil.copy(seed, merged / f"seed-{n}")
    subprocess.run([FUZZ / f"fuzz_{name}", "-merge=1", "-close_fd_mask=1",
                    merged, found], stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, cwd=FUZZ)
    room = KEEP_FILES - len(list(folder.iterdir()))
    new = [p for p in merged.iterdir() if not p.name.startswith("seed-")
           and p.stat().st_size <= KEEP_BYTES]
    for path in sorted(new, key=lambda p: p.stat().st_size)[:max(room, 0)]:
        shutil.copy(path, folder / f"found-{path.name[:12]}")


def coverage(chosen):
    """Lines of each file that the inputs reach, from the preset "cover"."""
    profiles = COVER / "profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    profiles.mkdir()
    objects = []
    for name, seeds in chosen.items():
        program = COVER / f"fuzz_{name}"
        corpus = FUZZ / "corpus" / name
        env = dict(os.environ, LLVM_PROFILE_FILE=str(profiles / f"{name}.raw"))
        subprocess.run([program] + seeds
                       + ([corpus] if corpus.is_dir() else []), env=env,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        objects += ["-object", str(program)]
    data = profiles / "all.data"
    subprocess.run(["llvm-profdata", "merge", "-o", data]
                   + sorted(profiles.glob("*.raw")), check=True)
    out = subprocess.run(["llvm-cov", "export", "-summary-only",
                          f"-instr-profile={data}"] + objects[1:],
                         check=True, capture_output=True).stdout
    rows = {}  # a file that a target includes is there twice
    for f in json.loads(out)["data"][0]["files"]:
        path = os.path.relpath(f["filename"], ROOT)
        lines = f["summary"]["lines"]
        if path.startswith(("lib/", "cli/")) and lines["covered"]:
            rows[path] = max(rows.get(path, (0, 0)),
                             (lines["covered"], lines["count"]))
    return sorted((path, *counts) for path, counts in rows.items())


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--minutes", type=float, default=20)
    p.add_argument("--jobs", type=int, default=os.cpu_count())
    p.add_argument("--keep", action="store_true")
    p.add_argument("targets", nargs="*")
    args = p.parse_args()
    if not shutil.which("clang"):
        print("run.py: no clang; tools/setup --fuzz installs it")
        return 77
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    build("fuzz")
    build("cover")
    chosen = targets(args.targets)
    began, bad = time.time(), 0
    print(f"{'target':20} {'CPU min':>8} {'executions':>12} {'corpus':>7}",
          flush=True)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(fuzz, n, s, args.minutes)
                for n, s in chosen.items()]
        for job in concurrent.futures.as_completed(jobs):
            name, cpu, runs, trouble = job.result()
            if not trouble and args.minutes:
                merge(name, chosen[name])
            n = len(list((FUZZ / "corpus" / name).iterdir())
                    if (FUZZ / "corpus" / name).is_dir() else [])
            print(f"{name:20} {cpu / 60:8.1f} {runs:12} {n:7}", flush=True)
            if trouble:
                bad += 1
                print(f"  {trouble}", flush=True)
    if args.keep:
        for name, seeds in chosen.items():
            keep(name, seeds)
    print(f"\n{'lines reached':30} {'of':>12}")
    for path, covered, count in coverage(chosen):
        print(f"{path:30} {covered:5} / {count:5} {100 * covered / count:5.1f} %")
    print(f"\n{len(chosen)} targets, {bad} with findings, "
          f"{(time.time() - began) / 60:.0f} minutes")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
