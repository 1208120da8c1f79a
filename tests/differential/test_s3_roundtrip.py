#!/usr/bin/env python3
"""Sends odd trees to a store and gets them back, round by round: the restored tree must be the source, for the real rsync
and for an own walk, and every point that was kept must give back the tree of its time.

The stores: a directory, a bucket, a versioned bucket, one with a prefix for each date; plain and encrypted; with the trash
or with versions; as root and as nobody. Each round: a dry run plans and must change nothing; the run must do exactly that
plan; the run after it finds nothing to do; the tree is restored, fresh and over the round before; some older points are
restored and compared with what the source was then.

Short form: one or two rounds a mode. BACKAPP_TEST_LONG=1: many. BACKAPP_TEST_SEED repeats a seed,
BACKAPP_TEST_MODE=NAME[,NAME] runs only these modes, BACKAPP_TEST_KEEP=1 keeps the trees of a failure.
"""

import base64
import os
import sys
import time
from dataclasses import dataclass, field

import judge
from harness import LONG, Failure, event_path, remove_tree, require
from oddchange import ChangingTree
from oddtree import Clock, seeded
from roundtrip import check_good, first, run_events, run_modes

DAY = 86400
KEY = base64.b64encode(bytes(range(7, 39))).decode()


@dataclass
class Mode:
    """One kind of store and way to call the program."""

    name: str
    short: int  # rounds of changes in the short form; None: not in it
    long: int
    options: list = field(default_factory=list)
    bucket: bool = False
    versioning: bool = False
    dates: bool = False  # a prefix for each date
    encrypt: bool = False
    points: bool = True  # older points can be restored
    user: bool = False  # as nobody
    tree: dict = field(default_factory=dict)
    restore: list = field(default_factory=list)
    judge: dict = field(default_factory=dict)


MODES = [
    Mode("local", 2, 30, ["--delete"]),
    Mode("local-encrypted", 1, 20, ["--delete"], encrypt=True),
    Mode("s3", 1, 25, ["--delete"], bucket=True),
    Mode("s3-checksum", None, 15, ["--delete", "--checksum"], bucket=True, tree={"stealth": True}, restore=["--checksum"]),
    Mode("s3-encrypted", 1, 15, ["--delete"], bucket=True, encrypt=True),
    Mode("s3-versions", 1, 20, ["--delete", "--trash", "0"], bucket=True, versioning=True),
    Mode("s3-dates", 1, 15, ["--delete"], bucket=True, dates=True),
    Mode("s3-large", None, 10, ["--delete"], bucket=True, tree={"large": True}),
    Mode("local-catalogue", None, 15, ["--delete", "--relist-days", "30"]),
    Mode("local-user", 1, 15, ["--delete"], user=True),
]


class Scene:
    """The source of one mode, its store, and what the source was at each point."""

    def __init__(self, mode, base, text, program, server):
        self.mode, self.base, self.program, self.server = mode, base, program, server
        self.rng = seeded(text)
        self.source = os.path.join(base, "source")
        self.tree = ChangingTree(self.source, self.rng, Clock(self.rng), **mode.tree)
        self.state = os.path.join(base, "catalogues")
        self.points = []  # (url, name of the point, snapshot of the source)
        self.log = []
        self.number = 0
        if mode.bucket:
            program.environment.update(server.variables())
            self.url = "s3://%s/backup" % server.new_bucket(versioning=mode.versioning)
        else:
            self.url = os.path.join(base, "store")
        if mode.encrypt:
            program.environment["BACKUP_ENCRYPTION_KEY"] = KEY

    def run(self, *arguments):
        return run_events(self.program, *arguments)

    def sync(self, *extra):
        options = [*self.mode.options, "--max-delete", "100", "--state-dir", self.state, "--json", "-v", *extra]
        if self.mode.encrypt:
            options.append("--encrypt")
        if self.mode.dates:
            options += ["--s3-prefix", "daily/day-%d/{date}" % self.number]
        return self.run("s3sync", *options, self.source, self.url)

    def place(self):
        """The URL of the mirror that was written last."""
        if not self.mode.dates:
            return self.url
        return "%s/daily/day-%d/%s" % (self.url, self.number, time.strftime("%Y-%m-%d"))

    def restore(self, url, target, *extra):
        return self.run("restore", "--json", *self.mode.restore, *extra, url, "--to", target)


def item_key(item):
    return event_path(item), item.get("action"), item.get("kind")


def check_equal(scene, wanted, target, what):
    found = judge.compare(wanted, judge.snapshot(target), **scene.mode.judge)
    require(not found, "%s: the own walk finds %d differences\n%s" % (what, len(found), first(found)))


def check_rsync(scene, target, what):
    found = judge.rsync_differences(scene.source, target)
    require(not found, "%s: rsync finds %d differences\n%s" % (what, len(found), first(found)))


def check_sync(scene):
    """A dry run, the run, and a run that finds nothing to do."""
    dry = scene.sync("--dry-run")
    require(dry.code == 0, "the dry run failed: " + dry.describe())
    real = scene.sync()
    check_good(real, "the run")
    planned, done = sorted(map(item_key, dry.items())), sorted(map(item_key, real.items()))
    require(planned == done, "the dry run and the run differ\n" + first(
        ["only planned: %r" % (i,) for i in planned if i not in done] +
        ["only done: %r" % (i,) for i in done if i not in planned]))
    # Of a file with another time but the same bytes only the run finds out that a copy inside the store will do.
    planned, done = ([r.number(k) for k in ("filesUploaded", "filesCopied", "filesDeleted")] for r in (dry, real))
    require(sum(planned[:2]) == sum(done[:2]) and planned[0] >= done[0] and planned[2] == done[2],
            "uploads, copies, deletions: %r planned, %r done" % (planned, done))
    again = scene.sync()
    check_good(again, "the second run")
    require(not again.items(), "the second run did something\n" + first(["%r" % (item_key(i),) for i in again.items()]))
    for key in ("put", "copy", "delete"):
        require(again.number(key) == 0, "the second run made %r requests of kind %s" % (again.number(key), key))
    return real


def check_restores(scene, wanted):
    """The tree of now, into a fresh folder and over the last one; then points of before."""
    fresh, over = os.path.join(scene.base, "fresh"), os.path.join(scene.base, "over")
    url = scene.place()
    remove_tree(fresh)
    check_good(scene.restore(url, fresh), "the restore")
    check_equal(scene, wanted, fresh, "restored")
    check_rsync(scene, fresh, "restored")
    check_good(scene.restore(url, over, "--delete", "--max-delete", "100"), "the restore over the last one")
    check_equal(scene, wanted, over, "restored over the last one")
    before = judge.snapshot(over, content=False)
    again = scene.restore(url, over, "--delete")
    check_good(again, "the second restore")
    require(again.number("filesRestored") == 0, "the second restore fetched %r files" % again.number("filesRestored"))
    require({p: e.inode for p, e in before.items()} == {p: e.inode for p, e in judge.snapshot(over, content=False).items()},
            "the second restore replaced something")
    for url, name, tree in scene.rng.sample(scene.points[:-1], min(len(scene.points) - 1, 3 if LONG else 2)):
        remove_tree(fresh)
        check_good(scene.restore(url, fresh, "--at", name), "the restore of %s" % name)
        check_equal(scene, tree, fresh, "the point %s" % name)


def newest_point(scene):
    """The name of the point that the last run made, as a restore tells it."""
    told = scene.restore(scene.place(), os.path.join(scene.base, "nowhere"), "--dry-run")
    require(told.code == 0, "the dry run of a restore failed: " + told.describe())
    require(not os.path.exists(os.path.join(scene.base, "nowhere")), "the dry run of a restore made its target")
    return told.of_type("summary")[-1]["stats"]["restore"]["point"]


def round_of(scene):
    wanted = judge.snapshot(scene.source)
    state = judge.snapshot(scene.source, content=False)
    check_sync(scene)
    require(judge.same_state(state, judge.snapshot(scene.source, content=False)), "the run touched the source")
    name = newest_point(scene)
    if not scene.points or scene.points[-1][:2] != (scene.place(), name):
        scene.points.append((scene.place(), name, wanted))
    check_restores(scene, wanted)
    proven = scene.run("verify", "--json", "--read-back", "--state-dir", scene.state, place_url(scene))
    check_good(proven, "the verification")


def place_url(scene):
    url = scene.place()
    return url if url.startswith("s3:") else "file://" + url


def play(mode, base, text, program, server):
    scene = Scene(mode, base, text, program, server)
    scene.tree.build(many=400 if LONG else 50, deep=True)
    try:
        for scene.number in range((mode.long if LONG else mode.short or 0) + 1):
            if scene.number:
                scene.log = scene.tree.mutate(scene.rng.randrange(3, 40))
            round_of(scene)
            if not mode.points:
                scene.points.clear()
    except Failure as problem:
        raise Failure("round %d, seed %s: %s\nchanges of this round:\n%s"
                      % (scene.number, text, problem, "\n".join(scene.log))) from None


if __name__ == "__main__":
    sys.exit(run_modes("s3_roundtrip", MODES, play, ["rsync"]))
