#!/usr/bin/env python3
"""Takes the power away in the middle of a mirror run.

The destination lies on a file system in a file (loop device). At chosen writing calls every writer is held, the file
is copied, and the run goes on. Later each copy is mounted, which replays that file system's own log as after a power
cut, and `--recover` and the next run must give the old state or the new one, never a file of wrong content.

What this models: the copy holds what the block layer had handed to the disk by then. Data and metadata that were only
in the page cache are lost, which is what fsync, syncfs and their order are there for. What the block layer has handed
over counts as durable, also without a flush of the drive's own cache, and in the order in which it was handed over: a
drive that loses or reorders its cache is not modelled. At two points of three some of the new data is pushed out
first, without its metadata or with the file system's own log, because a kernel may write back anything at any time.
The files are copied until two copies are equal, so that background write-back cannot tear them.

The runs after the cut see another boot id, since that is how the program tells that its staged data may be gone.

  test_powerloss.py [--case NAME]...      names: FILESYSTEM/VARIANT
"""

import argparse
import ctypes
import filecmp
import os
import random
import shlex
import subprocess
import sys
import uuid

import faultlib
from faultlib import LONG, Mount, World, even, text_of
from faultscene import Scene, Variant

MAX_PROBLEMS = 4
SIZES = {"ext4": 64 << 20, "xfs": 320 << 20}
POINTS = 60 if LONG else 6
BOOT_ID = "/proc/sys/kernel/random/boot_id"
NEW_BOOT = f'mount --bind "$1" {BOOT_ID} && shift && exec "$@"'
VARIANTS = {
    "delete": Variant("delete", ["--delete"], large=1 << 20),
    "inplace": Variant("inplace", ["--delete", "--inplace"], large=6 << 20),
    "versions": Variant("versions", ["--delete", "--keep-versions", "30"], large=1 << 20),
    "first": Variant("first", ["--delete"], first=True, large=1 << 20),
}
SHORT = ["ext4/delete", "ext4/inplace"]
CASES = [f"{kind}/{variant}" for kind in SIZES for variant in VARIANTS]


def push_some_data(top, seed):
    """Starts the write-back of half of the files below `top`, data only; of a run always the same half. The journal,
    on which all depends, is among them in every other run."""
    libc = ctypes.CDLL(None, use_errno=True)
    for where, _, files in os.walk(top):
        for name in sorted(files):
            chosen = seed % 2 if name.startswith("journal") else random.Random(f"{seed}/{name}").random() < 0.5
            if not chosen:
                continue
            try:
                fd = os.open(os.path.join(where, name), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            except OSError:
                continue
            libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), 7)
            os.close(fd)


def push_metadata(disk):
    """Has the file system write its log, as it does by itself every few seconds."""
    name = os.path.join(disk, "pushed")
    with open(name, "wb"):
        pass
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.unlink(name)
    os.close(fd)


def copy_image(image, target):
    """Copies a file that may be written to meanwhile, until two copies in a row are equal."""
    for _attempt in range(10):
        for name in (f"{target}.a", target):
            subprocess.run(["cp", "--sparse=always", image, name], stdin=subprocess.DEVNULL, check=True, timeout=60)
        if filecmp.cmp(f"{target}.a", target, shallow=False):
            os.unlink(f"{target}.a")
            return
    raise RuntimeError("the image does not hold still")


def snapshot(image, folder, disk, seed):
    """The hook of the killer: one power cut."""
    point = int(os.environ["KILLER_POINT"])
    if point % 3:
        push_some_data(os.path.join(disk, "dest/.backapp"), int(seed))
    if point % 3 == 2:
        push_metadata(disk)
    copy_image(image, os.path.join(folder, f"cut-{point}"))


def take_snapshots(scene, kind, points, seed):
    """One run with a power cut at each of the points, on a copy of the first image. Returns problems."""
    world = scene.world
    hook = shlex.join(
        [sys.executable, "-S", "-E", os.path.abspath(__file__), "--snapshot", f"{world.top}/live", f"{world.top}/cuts"]
        + [f"{world.top}/disk", str(seed)]
    )
    quiet_copy(world.top / "first", world.top / "live")
    restore_home(world)
    with Mount(world.top / "live", world.top / "disk", kind):
        stops = ",".join(map(str, points))
        result = world.killed_run(["--under", world.dest, "--stop", stops, "--hook", hook], scene.arguments)
        if result.returncode != 0:
            return ["the run failed: " + text_of(result)]
    return []


def take_cuts(scene, kind, points, seed):
    """As take_snapshots; what a busy disk did not let be copied is tried again twice."""
    cuts = scene.world.top / "cuts"
    for attempt in range(3):
        missing = [point for point in points if not (cuts / f"cut-{point}").exists()]
        problems = take_snapshots(scene, kind, missing, seed + attempt) if missing else []
        for half in cuts.glob("*.a"):
            half.unlink()
        if problems or not missing:
            return problems
    return []


def quiet_copy(source, target):
    # A new file, because the old one may still be attached where another mount namespace holds it.
    target.unlink(missing_ok=True)
    faultlib.quiet("cp", "--sparse=always", source, target, check=True)


def restore_home(world):
    faultlib.remove(world.home)
    faultlib.quiet("cp", "-a", world.shelf / "home", world.home, check=True)


def count_calls(scene, kind):
    quiet_copy(scene.world.top / "first", scene.world.top / "live")
    restore_home(scene.world)
    with Mount(scene.world.top / "live", scene.world.top / "disk", kind):
        calls, result = scene.world.count(scene.arguments, ["--under", scene.world.dest])
        if result.returncode != 0:
            raise RuntimeError("a counted run failed: " + text_of(result))
    return [line.decode(errors="replace") for line in scene.world.log.read_bytes().splitlines()][:calls]


def prepare(scene, kind):
    """Both states, and an image of the old one in `first`."""
    world = scene.world
    with Mount(world.top / "live", world.top / "disk", kind, SIZES[kind]):
        problems = scene.prepare()
        if scene.new is None:
            return problems
        world.restore()
    quiet_copy(world.top / "live", world.top / "first")
    return problems


def choose(calls):
    """Points all over the run, and the calls around the commit (rename of the journal) and each sync."""
    marks = [
        int(call.split(" ", 1)[0])
        for call in calls
        if call.split(" ", 3)[2] in ("syncfs", "fsync", "fdatasync") or call.endswith("/.backapp/journal")
    ]
    near = {max(1, min(len(calls), mark + step)) for mark in marks for step in (0, 1)}
    if not LONG:
        # The second half is the commit and what follows; a point with a number of each kind there.
        near = {point + step for step, point in enumerate(even(len(calls) // 2, len(calls) * 9 // 10, 9))}
    return sorted(set(even(1, len(calls), POINTS)) | near)


def judge_cut(scene, kind, image):
    """Mounts one cut and judges it: the state found and problems."""
    world = scene.world
    boot = world.top / "boot-id"
    boot.write_text(f"{uuid.uuid4()}\n")
    world.prefix = ["unshare", "-m", "sh", "-c", NEW_BOOT, "sh", boot]
    restore_home(world)
    try:
        with Mount(image, world.top / "disk", kind):
            return scene.judge()
    finally:
        world.prefix = []
        image.unlink()


def name_space_problem():
    """Why no other boot id can be shown here, or None. In a plain chroot the root is no mount, which unshare needs."""
    done = subprocess.run(
        ["unshare", "-m", "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    return None if done.returncode == 0 else f"no mount name space can be had here: {done.stderr.strip()}"


def run_case(name, report):
    kind, variant = name.split("/")
    why = faultlib.mount_problem(kind) or name_space_problem()
    if why:
        report.skip(f"powerloss/{name}", why)
        return
    with World(f"power-{kind}-{variant}") as world:
        world.dest = world.top / "disk/dest"
        (world.top / "cuts").mkdir()
        scene = Scene(world, VARIANTS[variant])
        problems = prepare(scene, kind)
        report.case(f"powerloss/{name}: a whole run", problems)
        if scene.new is None:
            return
        calls = count_calls(scene, kind)
        points = choose(calls)
        states, problems = [], []
        # A few cuts at a time: images are large.
        for start in range(0, len(points), 16):
            problems += take_cuts(scene, kind, points[start : start + 16], start // 16)
            cuts = sorted((world.top / "cuts").iterdir(), key=lambda path: int(path.name.split("-")[1]))
            for cut in cuts:
                state, found = judge_cut(scene, kind, cut)
                states.append(state)
                call = calls[min(len(calls), int(cut.name.split("-")[1])) - 1]
                problems += [f"power cut before call {call}:\n{problem}" for problem in found]
            if len(problems) >= MAX_PROBLEMS:
                problems.append("stopped here")
                break
        if len(states) < min(len(points), 4) and not problems:
            problems.append(f"only {len(states)} of {len(points)} cuts were taken")
        counts = f"{states.count('old')} old, {states.count('new')} new"
        report.case(f"powerloss/{name}: {len(states)} cuts in {len(calls)} calls ({counts})", problems)
        if not problems:
            missing = [f"no cut left the {state} state" for state in ("old", "new") if state not in states]
            report.case(f"powerloss/{name}: both states are met", missing)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--snapshot", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.snapshot:
        snapshot(*options.snapshot)
        return 0
    os.umask(0o022)
    report = faultlib.Report()
    for name in options.case or (CASES if LONG else SHORT):
        run_case(name, report)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())
