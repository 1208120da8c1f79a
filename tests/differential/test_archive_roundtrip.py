#!/usr/bin/env python3
"""Archives odd trees round by round, full and then what changed, and gets them back: every point must give the tree that
the source was when it was made, for the real rsync and for an own walk; and GNU tar and bsdtar must make the same tree
out of a full archive.

The modes: gzip, zstd and plain, encrypted, many small volumes, differential, by checksum, a bucket; as root and as nobody.

Short form: a round or two a mode, ten in the first. BACKAPP_TEST_LONG=1: many. BACKAPP_TEST_SEED repeats a seed,
BACKAPP_TEST_MODE=NAME[,NAME] runs only these modes, BACKAPP_TEST_KEEP=1 keeps the trees of a failure.
"""

import base64
import dataclasses
import os
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field

import judge
from harness import LONG, Failure, event_path, remove_tree, require
from oddchange import ChangingTree
from oddtree import Clock, seeded
from roundtrip import check_good, first, run_events, run_modes

KEY = base64.b64encode(bytes(range(3, 35))).decode()
TIMEOUT = 240


@dataclass
class Mode:
    """One kind of archive and way to call the program."""

    name: str
    short: int  # rounds of changes in the short form; None: not in it
    long: int
    options: list = field(default_factory=list)
    bucket: bool = False
    encrypt: bool = False
    user: bool = False  # as nobody
    tar: bool = False  # other programs extract the full archive
    tree: dict = field(default_factory=dict)


MODES = [
    Mode("gzip", 10, 30),
    Mode("zstd", 2, 20, ["--zstd"]),
    Mode("plain", 1, 15, ["--no-compress"]),
    Mode("encrypted", 2, 20, ["--encrypt"], encrypt=True),
    Mode("volumes", 1, 15, ["--volume-size", "8M", "--level", "1"], tree={"large": True}),
    Mode("differential", 2, 20, ["--type", "differential"]),
    Mode("checksum", 1, 20, ["--checksum"]),
    Mode("s3", 2, 15, bucket=True),
    Mode("s3-encrypted", None, 15, ["--encrypt", "--zstd"], bucket=True, encrypt=True),
    Mode("user", 1, 15, user=True),
    Mode("tar", 0, 5, tar=True),
    Mode("tar-zstd", 0, 5, ["--zstd"], tar=True),
]


class LaterClock(Clock):
    """Only times since 1970: libarchive misreads earlier ones that have fractions of a second."""

    def stamp(self):
        value = super().stamp()
        while value < 0:
            value = super().stamp()
        return value


class Scene:
    """The source of one mode, its store, and what the source was at each point."""

    def __init__(self, mode, base, text, program, server):
        self.mode, self.base, self.program = mode, base, program
        self.rng = seeded(text)
        self.source = os.path.join(base, "source")
        self.tree = ChangingTree(self.source, self.rng, (LaterClock if mode.tar else Clock)(self.rng), **mode.tree)
        self.points = []  # (name of the point, snapshot of the source)
        self.log = []
        if mode.bucket:
            program.environment.update(server.variables())
            self.url = "s3://%s/backup" % server.new_bucket()
        else:
            self.url = os.path.join(base, "store")
        if mode.encrypt:
            program.environment["BACKUP_ENCRYPTION_KEY"] = KEY

    def run(self, *arguments):
        return run_events(self.program, *arguments)

    def create(self, *extra):
        return self.run("archive", "create", "--json", "-v", "--name", "odd", *self.mode.options, *extra, self.url,
                        self.source)

    def restore(self, target, *extra):
        return self.run("restore", "--json", *extra, self.url, "--to", target)


def check_equal(wanted, target, what):
    found = judge.compare(wanted, judge.snapshot(target))
    require(not found, "%s: the own walk finds %d differences\n%s" % (what, len(found), first(found)))


def check_create(scene):
    """A dry run, the run, and a run that finds nothing to do."""
    dry = scene.create("--dry-run")
    require(dry.code == 0, "the dry run failed: " + dry.describe())
    real = scene.create()
    check_good(real, "the run")
    planned, done = (sorted((event_path(i), i.get("action"), i.get("kind")) for i in r.items()) for r in (dry, real))
    require(planned == done, "the dry run and the run differ\n" + first(
        ["only planned: %r" % (i,) for i in planned if i not in done] +
        ["only done: %r" % (i,) for i in done if i not in planned]))
    return real


def point_of(result):
    return result.of_type("summary")[-1]["stats"]["archive"]["point"]


def check_restores(scene, wanted):
    """The tree of now, into a fresh folder and over the last one; then points of before."""
    fresh, over = os.path.join(scene.base, "fresh"), os.path.join(scene.base, "over")
    remove_tree(fresh)
    check_good(scene.restore(fresh), "the restore")
    check_equal(wanted, fresh, "restored")
    found = judge.rsync_differences(scene.source, fresh)
    require(not found, "restored: rsync finds %d differences\n%s" % (len(found), first(found)))
    check_good(scene.restore(over, "--delete", "--max-delete", "100"), "the restore over the last one")
    check_equal(wanted, over, "restored over the last one")
    again = scene.restore(over, "--delete")
    check_good(again, "the second restore")
    require(again.number("filesRestored") == 0, "the second restore fetched %r files" % again.number("filesRestored"))


def check_points(scene):
    fresh = os.path.join(scene.base, "fresh")
    for name, tree in scene.points:
        remove_tree(fresh)
        check_good(scene.restore(fresh, "--at", name), "the restore of %s" % name)
        check_equal(tree, fresh, "the point %s" % name)


def as_bsdtar_has_it(entry):
    """libarchive knows no ids above 2^31 - 1 in ACLs."""
    def capped(value):
        rows = sorted((tag, bits, min(number, 0x7fffffff) if tag in (2, 8) else number)
                      for tag, bits, number in struct.iter_unpack("<HHI", value[4:]))
        return value[:4] + b"".join(struct.pack("<HHI", *row) for row in rows)
    xattrs = {name: capped(value) if "posix_acl" in str(name) else value for name, value in entry.xattrs.items()}
    return dataclasses.replace(entry, xattrs=xattrs)


def check_tar(scene, wanted):
    """What other programs make of a full archive. A tar has no sockets; bsdtar gives no metadata to the folder that it
    extracts into."""
    folder = os.path.join(scene.url, "odd")
    archives = [name for name in sorted(os.listdir(folder)) if "-full.tar" in name and not name.endswith(".index")]
    wanted = {path: entry for path, entry in wanted.items() if entry.kind != "socket"}
    programs = {"GNU tar": ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--warning=no-timestamp",
                            "-xpf"],
                "bsdtar": ["bsdtar", "--acls", "--xattrs", "--numeric-owner", "-xpf"]}
    for title, command in programs.items():
        target = os.path.join(scene.base, "extracted")
        remove_tree(target)
        os.mkdir(target)
        done = subprocess.run([*command, os.path.join(folder, archives[-1]), "-C", target], stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=TIMEOUT, check=False)
        require(done.returncode == 0 and not done.stderr, "%s: %s" % (title, done.stderr[:2000]))
        found = judge.snapshot(target)
        expected = dict(wanted)
        if title == "bsdtar":
            expected = {path: as_bsdtar_has_it(entry) for path, entry in wanted.items()}
            expected[b""] = found[b""]
        found = judge.compare(expected, found)
        require(not found, "extracted by %s: the own walk finds %d differences\n%s" % (title, len(found), first(found)))


def round_of(scene):
    wanted = judge.snapshot(scene.source)
    state = judge.snapshot(scene.source, content=False)
    made = check_create(scene)
    require(judge.same_state(state, judge.snapshot(scene.source, content=False)), "the run touched the source")
    scene.points.append((point_of(made), wanted))
    check_restores(scene, wanted)
    if scene.mode.tar:
        check_create_full(scene, wanted)


def check_create_full(scene, wanted):
    full = scene.create("--type", "full")
    check_good(full, "the full archive")
    scene.points.append((point_of(full), wanted))
    check_tar(scene, wanted)


def check_nothing(scene):
    """A run after the last finds nothing. What changed right before a look at the sources is looked at again by the next
    one, and a differential archive has all since the last full one again."""
    time.sleep(2.5)
    check_good(scene.create(), "a run after the last")
    nothing = scene.create()
    check_good(nothing, "the run after that")
    found = nothing.items() if "differential" not in scene.mode.options else []
    require(not found, "it found something\n" + first(["%r" % (item,) for item in found]))


def play(mode, base, text, program, server):
    scene = Scene(mode, base, text, program, server)
    # Other programs do not reach paths that are longer than the kernel takes at once.
    scene.tree.build(many=400 if LONG else 50, deep=not mode.tar)
    number = 0
    try:
        for number in range((mode.long if LONG else mode.short or 0) + 1):
            if number:
                scene.log = scene.tree.mutate(scene.rng.randrange(3, 40))
            round_of(scene)
        check_nothing(scene)
        check_points(scene)
        check_good(scene.run("verify", "--json", "--full", place_url(scene)), "the verification")
    except Failure as problem:
        raise Failure("round %d, seed %s: %s\nchanges of this round:\n%s"
                      % (number, text, problem, "\n".join(scene.log))) from None


def place_url(scene):
    return scene.url if scene.url.startswith("s3:") else "file://" + scene.url


if __name__ == "__main__":
    sys.exit(run_modes("archive_roundtrip", MODES, play, ["rsync", "bsdtar"]))
