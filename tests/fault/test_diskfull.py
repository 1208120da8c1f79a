#!/usr/bin/env python3
"""Fills the destination's disk, and breaks it, at many points of a mirror run.

Three ways: calls of the run are made to fail with ENOSPC, EDQUOT (from a point on, for everything that takes space) or
EIO (once); a small ext4 or tmpfs really gets full while the run is held at a point; and there is too little space from
the start. Each time: exit 1 and a message that names the cause, no crash, the old state whole (or, after the commit
point, completed by `--recover`), a stage emptied on a full disk, and the next run completes once there is space.

  test_diskfull.py [--case NAME]...      names: ENOSPC EDQUOT EIO ext4 tmpfs preflight
"""

import argparse
import os
import pathlib
import shlex
import sys

import faultlib
from faultlib import LONG, Mount, World, even, text_of
from faultscene import Scene, Variant

MAX_PROBLEMS = 4
LARGE = 2 << 20
DISK = 24 << 20
WORDS = {"ENOSPC": "no space left", "EDQUOT": "quota", "EIO": "input/output error"}
SYNC_CALLS = ("fsync", "fdatasync", "syncfs")


def stage_files(dest):
    found = []
    for where, _, files in os.walk(dest / ".backapp/stage"):
        found += [os.path.join(where, file) for file in files]
    return found


def judge_failure(scene, result, word, full):
    """Problems of one failed run: its exit, its words, the state it leaves, and the runs after it."""
    said = (result.stdout + result.stderr).decode(errors="replace").lower()
    problems = []
    if result.returncode == 0:
        state = scene.state()
        return [] if state == "new" else [f"exit 0, but the state is {state}"]
    if result.returncode != 1:
        problems.append("not exit 1: " + text_of(result))
    elif word not in said:
        problems.append(f"nothing said about {word!r}: " + text_of(result))
    if "signal" in said or "crash" in said:
        problems.append("it crashed: " + text_of(result))
    if not (scene.world.dest / ".backapp/journal").exists():
        state = scene.state()
        if state not in ("old", "new"):
            problems.append(f"no journal, and {state}")
        # After the commit the stage is rubbish, which the next run removes as well.
        if full and state == "old" and stage_files(scene.world.dest):
            problems.append(f"the stage is not emptied: {stage_files(scene.world.dest)[:3]} after {text_of(result)}")
    return problems


def counted(scene):
    """Log lines of the counted calls below the destination: [(number, call, path)]."""
    scene.world.restore()
    _, result = scene.world.count(scene.arguments, ["--under", scene.world.dest])
    if result.returncode != 0:
        raise RuntimeError("a counted run failed: " + text_of(result))
    return [line.decode(errors="replace").split(" ", 3) for line in scene.world.log.read_bytes().splitlines()]


def inject(name, report):
    """Calls that fail."""
    with World(f"disk-{name}") as world:
        scene = Scene(world, Variant("delete", ["--delete"], large=LARGE))
        problems = scene.prepare()
        report.case(f"diskfull/{name}: a whole run", problems)
        if scene.new is None:
            return
        calls = counted(scene)
        points = set(range(1, len(calls) + 1)) if LONG else set(even(1, len(calls), 12 if name == "EDQUOT" else 24))
        if name == "EIO":
            points |= {int(call[0]) for call in calls if call[2] in SYNC_CALLS}
        if name == "ENOSPC":
            # With much space free, as here, an attribute that finds none is too large, which is another matter.
            points = {point for point in points if "xattr" not in calls[point - 1][2]}
        problems, failed = [], 0
        for point in sorted(points):
            world.restore()
            options = ["--under", world.dest, "--at", str(point), "--fail", name]
            result = world.killed_run(options + ([] if name == "EIO" else ["--sticky"]), scene.arguments)
            what = " ".join(calls[point - 1])
            failed += result.returncode != 0
            found = judge_failure(scene, result, WORDS[name], name == "ENOSPC")
            found += scene.judge()[1]
            problems += [f"{name} at call {what}:\n{problem}" for problem in found]
            if len(problems) >= MAX_PROBLEMS:
                problems.append("stopped here")
                break
        report.case(f"diskfull/{name}: at {len(points)} of {len(calls)} calls, {failed} runs failed", problems)
        if not problems:
            few = [] if failed * 2 > len(points) else [f"only {failed}"]
            report.case(f"diskfull/{name}: most failures are noticed", few)


def fill(path, left):
    """Fills the disk that holds `path` but for about `left` bytes."""
    size = 0
    with open(path, "wb", buffering=0) as file:
        for block in (1 << 20, 64 << 10, 4096, 512):
            try:
                while True:
                    size += file.write(b"\xa5" * block)
            except OSError:
                continue
        os.ftruncate(file.fileno(), max(0, size - left))
        os.fsync(file.fileno())


def really_full(kind, report):
    """A small disk that gets full while the run is held at a point."""
    why = faultlib.mount_problem(kind)
    if why:
        report.skip(f"diskfull/{kind}", why)
        return
    with World(f"disk-{kind}") as world, Mount(world.top / "image", world.top / "disk", kind, DISK):
        world.dest = world.top / "disk/dest"
        filler = world.top / "disk/filler"
        scene = Scene(world, Variant("delete", ["--delete"], large=LARGE))
        problems = scene.prepare()
        report.case(f"diskfull/{kind}: a whole run", problems)
        if scene.new is None:
            return
        calls = counted(scene)
        problems, failed = [], 0
        points = list(range(1, len(calls) + 1)) if LONG else even(1, len(calls), 24 if kind == "ext4" else 10)
        for number, point in enumerate(points):
            world.restore()
            left = (0, 4096, 65_536, 1 << 20)[number % 4]
            hook = shlex.join([sys.executable, "-S", "-E", os.path.abspath(__file__), "--fill", str(filler), str(left)])
            options = ["--under", world.dest, "--stop", str(point), "--hook", hook]
            result = world.killed_run(options, scene.arguments)
            what = f"{kind} full but for {left} bytes from call {' '.join(calls[point - 1])}"
            if not filler.exists():
                problems.append(f"{what}: the hook did not run: {text_of(result)}")
                break
            failed += result.returncode != 0
            found = judge_failure(scene, result, WORDS["ENOSPC"], True)
            filler.unlink()
            found += scene.judge()[1]
            problems += [f"{what}:\n{problem}" for problem in found]
            if len(problems) >= MAX_PROBLEMS:
                problems.append("stopped here")
                break
        report.case(f"diskfull/{kind}: filled at {len(points)} of {len(calls)} calls, {failed} runs failed", problems)
        if not problems:
            report.case(f"diskfull/{kind}: a full disk is noticed", [] if failed > 2 else [f"only {failed} times"])


def preflight(report):
    """Too little space from the start: said before anything is written."""
    why = faultlib.mount_problem("ext4")
    if why:
        report.skip("diskfull/preflight", why)
        return
    with World("disk-preflight") as world, Mount(world.top / "image", world.top / "disk", "ext4", DISK):
        world.dest = world.top / "disk/dest"
        filler = world.top / "disk/filler"
        scene = Scene(world, Variant("delete", ["--delete"], large=LARGE))
        problems = scene.prepare()
        if scene.new is None:
            report.case("diskfull/preflight: a whole run", problems)
            return
        for left in (256 << 10, 1 << 20) if not LONG else range(0, LARGE // 2, 64 << 10):
            world.restore()
            fill(filler, left)
            result = world.run(scene.arguments)
            said = (result.stdout + result.stderr).decode(errors="replace").lower()
            problems = [] if result.returncode in (1, 4) and "space" in said else ["not refused: " + text_of(result)]
            state = scene.state()
            if state != "old":
                problems.append(f"the state is {state}")
            filler.unlink()
            problems += scene.judge()[1]
            report.case(f"diskfull/preflight: {left >> 10} KiB free", problems)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*WORDS, "ext4", "tmpfs", "preflight"]
    parser.add_argument("--case", choices=names, action="append")
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill(pathlib.Path(options.fill[0]), int(options.fill[1]))
        return 0
    os.umask(0o022)
    report = faultlib.Report()
    for name in options.case or names:
        if name in WORDS:
            inject(name, report)
        elif name == "preflight":
            preflight(report)
        else:
            really_full(name, report)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())
