#!/usr/bin/env python3
"""kill -9 of the worker at the requests of a run, before the server sees one and after it did its work, in the middle of a
body too: a first sync with parts, a changed one with deletions and trash, a new date that is copied from the last, and a
restore. Nothing may be lost or wrong (see s3_scene.py), the next run completes, takes the lock over, and is right.

Short form: some of the points, chosen by a fixed seed. BACKAPP_TEST_LONG=1: all."""

import random
import shutil
import sys

from s3_scene import LONG, PREFIX, Scene, completed, contents, run_all, same, snapshot

from fault_rules import Rule

# One day apart, whenever that is.
YESTERDAY, TODAY = {"TZ": "AAA+12"}, {"TZ": "BBB-12"}
DATED = ("--s3-prefix", "daily/YYYY-MM-DD")


def in_first(scene):
    """A first sync; ends with its run."""
    return scene.sync


def in_changed(scene):
    scene.first()
    scene.new_state()
    return scene.sync


def in_dated(scene):
    completed(scene.sync(*DATED, direct=True, **YESTERDAY))
    scene.new_state()
    return lambda **how: scene.sync(*DATED, **how, **TODAY)


def in_restore(scene):
    scene.first()
    return scene.restore


def requests_of(prepare, big):
    """How many requests a whole run makes."""
    with Scene(big=big) as scene:
        run = prepare(scene)
        scene.proxy.clear()
        completed(run())
        return len(scene.proxy.log())


def killed(prepare, big, number, when):
    with Scene(big=big) as scene:
        run = prepare(scene)
        scene.proxy.clear()
        rule = scene.proxy.kill_at(number, scene.worker, when)
        ended = run()
        # With several requests at once there may be fewer of them than last time.
        assert ended.code != 0 if rule.fired else ended.code == 0, f"{rule}: {ended}"
        scene.proxy.replace()
        judge = {in_dated: judge_dated, in_restore: judge_restore}.get(prepare, judge_sync)
        judge(scene, run)


def judge_sync(scene, run):
    scene.check_safe()
    completed(run(direct=True))
    scene.check_right()
    lock_is_gone(scene, run)


def lock_is_gone(scene, run):
    """A run that finds nothing to do writes nothing, so it leaves a dead one's lock to the next."""
    scene.write("one more", b"file")
    completed(run(direct=True))
    assert not [key for key in scene.stored() if key.endswith(".backapp/lock")], "the lock is left"


def judge_dated(scene, run):
    """The date before is untouched whatever happens to the new one."""
    first, *_ = sorted({"/".join(key.split("/")[:2]) for key in scene.stored() if key.startswith("daily/")})

    def yesterday():
        found = {key[len(first) + 1:]: content for key, content in scene.stored().items() if key.startswith(first + "/")}
        return {key: content for key, content in found.items() if not key.startswith((".backapp/", ".trash/"))}
    same(yesterday(), contents(scene.old), "the date before")
    completed(run(direct=True))
    same(yesterday(), contents(scene.old), "the date before")
    shutil.rmtree(scene.back, ignore_errors=True)
    completed(scene.json("restore", f"{scene.url}/{first}", "--to", scene.back, direct=True))
    same(snapshot(scene.back), scene.old, "restored of the date before")
    *_, last = sorted({"/".join(key.split("/")[:2]) for key in scene.stored() if key.startswith("daily/")})
    assert last != first, "no new date"
    scene.check_right(last + "/")


def judge_restore(scene, run):
    """What has its name has its content."""
    wanted = contents(scene.old)
    for name, content in (contents(snapshot(scene.back)) if scene.back.exists() else {}).items():
        assert name not in wanted or content == wanted[name], f"half restored: {name}"
    completed(run(direct=True))
    same(snapshot(scene.back), scene.old, "restored")


def points(title, prepare, big, wanted):
    """Cases for a run: each request, before and after it."""
    try:
        count = requests_of(prepare, big)
    except AssertionError as why:
        print(f"not ok s3_kill/{title}: {ascii(str(why))}", flush=True)
        return None
    every = [(number, when) for number in range(1, count + 1) for when in ("before", "after")]
    if not LONG:
        # Its last requests are where it is committed.
        every = random.Random(title).sample(every[:-6], wanted - 2) + random.Random(title).sample(every[-6:], 2)
    return [(f"{title}_{number:02d}_{when}", killed, prepare, big, number, when) for number, when in sorted(every)]


def killed_within(kind):
    """In the middle of a body: the server has half of it."""
    with Scene() as scene:
        run = in_changed(scene) if kind == "PutObject" else in_first(scene)
        scene.proxy.add(Rule("kill", kind=kind, path="/(a.txt|big)$", count=1, pid=scene.worker, when="body"))
        assert run().code != 0
        scene.proxy.replace()
        judge_sync(scene, run)


def parts_are_resumed():
    """What a killed upload has sent is not sent again."""
    with Scene() as scene:
        scene.proxy.add(Rule("kill", kind="CompleteMultipartUpload", count=1, pid=scene.worker, when="before"))
        assert scene.sync("--concurrency", "1").code != 0
        scene.proxy.clear()
        completed(scene.sync())
        assert scene.proxy.counts()["UploadPart"] == 0, scene.proxy.counts()
        scene.check_right()
        with scene.server.client() as client:
            left = client.good("GET", scene.bucket, query={"uploads": "", "prefix": PREFIX})
        assert b"<Upload>" not in left.body, "an upload is left"


def main():
    cases = [("within_an_object", killed_within, "PutObject"), ("within_a_part", killed_within, "UploadPart"),
             ("parts_are_resumed", parts_are_resumed)]
    for title, prepare, big, wanted in (("first", in_first, True, 5), ("changed", in_changed, False, 6),
                                        ("dated", in_dated, False, 5), ("restore", in_restore, False, 4)):
        found = points(title, prepare, big, wanted)
        if found is None:
            return 1
        cases += found
    return run_all("s3_kill", cases)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as why:
        if type(why).__name__ != "Skip":
            raise
        print(f"skip s3_kill/all: {why}", flush=True)
        sys.exit(77)
