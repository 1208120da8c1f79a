#!/usr/bin/env python3
"""kill -9 of a run of `backapp archive create`: at its requests to an S3 server, before the server sees one and after it did
its work, in the middle of a body too, and at the system calls by which it writes to a store in a directory and to its
state. A full one, an incremental one, an encrypted one, each in several volumes. No half point may be shown, earlier
points restore, the next run completes, goes on behind the volumes that were complete, and leaves nothing behind (see
archive_scene.py).

Short form: some of the points, chosen by a fixed seed. BACKAPP_TEST_LONG=1: all."""

import os
import random
import subprocess
import sys

from archive_scene import KEY, NAME, ArchiveScene
from s3_scene import EPOCH, LIMIT, LONG, Skip, completed, events, run_all, snapshot, text

from fault_rules import Rule

KILLER = os.environ.get("KILLER", "")
KILLED = 200  # what the killer's exit says

# title: (options of the scene, whether there is a point before)
RUNS = {"full": ({}, False), "incremental": ({}, True), "encrypted": ({"key": KEY}, True), "small": ({"big": False}, True)}


def scene_of(title, **how):
    options, before = RUNS[title]
    scene = ArchiveScene(*(() if before else ("--type", "full")), **options, **how)
    try:
        if before:
            scene.first()
            scene.earlier = {scene.points()[0][0]: scene.old}
            scene.new_state()
        else:
            scene.earlier = {}
    except BaseException:
        scene.__exit__()
        raise
    return scene


# ---- at requests

def requests_of(title):
    with scene_of(title) as scene:
        scene.proxy.clear()
        completed(scene.create())
        return [entry.kind for entry in scene.proxy.log()]


def killed_at_request(title, number, when):
    with scene_of(title) as scene:
        scene.proxy.clear()
        rule = scene.proxy.kill_at(number, scene.worker, when)
        ended = scene.create()
        assert ended.code != 0 if rule.fired else ended.code == 0, f"{rule}: {ended}"
        scene.proxy.replace()
        if rule.fired:
            scene.judge_archive(scene.earlier)
        else:  # with several requests at once there may be fewer of them than last time
            scene.check_new(list(scene.earlier), ended)


def killed_within(kind, path):
    """In the middle of a body: the server has half of it."""
    with scene_of("incremental") as scene:
        scene.proxy.add(Rule("kill", kind=kind, path=path, count=1, pid=scene.worker, when="body"))
        assert scene.create().code != 0
        scene.proxy.replace()
        scene.judge_archive(scene.earlier)


def goes_on(title):
    """What was complete is not sent again; the rest is, and the point is right."""
    with scene_of(title) as scene:
        rule = scene.proxy.add(Rule("kill", kind="PutObject", path=r"(vol0003|\.index)$", count=1, pid=scene.worker, when="before"))
        assert scene.create().code != 0, f"{rule}"
        scene.proxy.clear()
        run = completed(scene.create())
        sent = [entry.path for entry in scene.proxy.log() if entry.kind in ("UploadPart", "PutObject", "CreateMultipartUpload")]
        again = [path for path in sent if path.endswith((".vol0001", ".vol0002"))]
        assert not again, f"sent again: {again}"
        scene.check_new(list(scene.earlier), run)


def another_source_changed():
    """What the first half of a run stored and what changed since: the point is right all the same."""
    with scene_of("incremental") as scene:
        scene.proxy.add(Rule("kill", kind="PutObject", path=r"vol0003$", count=1, pid=scene.worker, when="before"))
        assert scene.create().code != 0
        scene.proxy.replace()
        scene.write("sub/b.bin", b"changed after the kill")
        (scene.src / "a.txt").unlink()
        scene.write("big", scene.random.randbytes(9_000_000))
        scene.judge_archive(scene.earlier)


def other_options():
    """A run that cannot go on with what was begun removes it."""
    with scene_of("incremental") as scene:
        scene.proxy.add(Rule("kill", kind="PutObject", path=r"vol0003$", count=1, pid=scene.worker, when="before"))
        assert scene.create().code != 0
        scene.proxy.replace()
        run = completed(scene.create("--zstd", direct=True))
        scene.check_new(list(scene.earlier), run)


def request_cases(title, wanted):
    kinds = requests_of(title)
    every = [(number, when) for number in range(1, len(kinds) + 1) for when in ("before", "after")]
    if not LONG:
        chance = random.Random(title)
        # Its last requests are where it becomes a point.
        every = chance.sample(every[4:-4], wanted - 2) + chance.sample(every[-4:], 2)
    return [(f"{title}_{number:02d}_{when}_{kinds[number - 1]}", killed_at_request, title, number, when)
            for number, when in sorted(every)]


# ---- at calls that write

def kill_run(scene, *options):
    """The run under the killer: (its exit code, output)."""
    command = [KILLER, "--under", str(scene.root), *map(str, options), "--", os.environ["BACKAPP"], "archive", "create",
               "--json", "--name", NAME, *scene.options, str(scene.url), str(scene.src)]
    done = subprocess.run(command, env=scene.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT,
                          check=False)
    return done.returncode, text(done.stdout), text(done.stderr)


def calls_of(title):
    with scene_of(title, bucket=False) as scene:
        log = scene.root / "calls"
        code, out, err = kill_run(scene, "--count", "--log", log)
        assert code == 0, f"code {code}: {out[-500:]} {err[-500:]}"
        return [line.split(" ", 3) for line in log.read_text(errors="replace").splitlines()]


def killed_at_call(title, number, *options):
    with scene_of(title, bucket=False) as scene:
        code, out, err = kill_run(scene, "--at", number, *options)
        if code == 0:  # fewer calls than last time: threads
            assert events(out)[-1]["status"] == "completed", out[-500:]
            return
        assert code == KILLED, f"code {code}: {out[-500:]} {err[-500:]}"
        scene.judge_archive(scene.earlier)


def local_leftovers():
    """What a kill leaves in a directory before it can be found by name goes after a minute, and not earlier."""
    with scene_of("small", bucket=False) as scene:
        own = scene.url / ".backapp-store"
        for name in ("uploads/" + "0" * 32, "uploads/" + "1" * 32):
            (own / name).mkdir()
            (own / name / ".backapp-tmp-00000000").write_bytes(b"half")
        (own / "tmp" / "old").write_bytes(b"half")
        for name in ("tmp/old", "uploads/" + "0" * 32):
            os.utime(own / name, (EPOCH // 10**9, EPOCH // 10**9))
        completed(scene.create())
        left = [path.name for folder in ("tmp", "uploads") for path in (own / folder).iterdir()]
        assert left == ["1" * 32], left


def call_cases(title, wanted):
    calls = calls_of(title)
    every = list(range(1, len(calls) + 1))
    if not LONG:
        # Data is written by most calls; what names and removes files is rarer and counts for more.
        chance = random.Random(title)
        data = [number for number in every if calls[number - 1][2].startswith(("write", "pwrite"))]
        other = [number for number in every if number not in set(data)]
        every = sorted(chance.sample(data, min(wanted // 3, len(data)))
                       + chance.sample(other, min(wanted - wanted // 3, len(other))))
    ways = [("before", ()), ("after", ("--exit",))]
    return [(f"{title}_call{number:03d}_{ways[at % 2][0]}_{calls[number - 1][2]}", killed_at_call, title, number, *ways[at % 2][1])
            for at, number in enumerate(every)]


def main():
    on_calls, on_requests = "calls" in sys.argv, "requests" in sys.argv
    sys.argv = [word for word in sys.argv if word not in ("calls", "requests")]
    cases = []
    try:
        if not on_calls:
            cases += [("goes_on_full", goes_on, "full"), ("goes_on_incremental", goes_on, "incremental"),
                      ("goes_on_encrypted", goes_on, "encrypted"), ("source_changed", another_source_changed),
                      ("other_options", other_options), ("within_a_part", killed_within, "UploadPart", "vol0002$"),
                      ("within_a_volume", killed_within, "PutObject", "vol0003$"),
                      ("within_the_index", killed_within, "PutObject", r"\.index$")]
            for title, wanted in (("full", 3), ("incremental", 5), ("encrypted", 3), ("small", 3)):
                cases += request_cases(title, wanted)
        if not on_requests:
            if not os.access(KILLER, os.X_OK):
                raise Skip(f"KILLER does not name a program: {KILLER!r}")
            probe = subprocess.run([KILLER, "--", "true"], capture_output=True, stdin=subprocess.DEVNULL, timeout=30, check=False)
            if probe.returncode != 0:
                raise Skip(f"this system does not allow tracing: {text(probe.stderr).strip()}")
            cases.append(("local_leftovers", local_leftovers))
            for title, wanted in (("full", 7), ("incremental", 8), ("small", 5)):
                cases += call_cases(title, wanted)
    except AssertionError as why:
        print(f"not ok archive_kill: {ascii(str(why))}", flush=True)
        return 1
    return run_all("archive_kill", cases)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as why:
        if type(why).__name__ != "Skip":
            raise
        print(f"skip archive_kill/all: {why}", flush=True)
        sys.exit(77)
