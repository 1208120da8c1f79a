#!/usr/bin/env python3
"""Mirrors odd trees round by round and compares each time with the real rsync and with an own walk.

Every round: the source (and sometimes the mirror) is changed at random; a dry run prints its plan and must touch
nothing; the real run must do exactly that plan; source and mirror must then be equal; the next run must find nothing to
do. Short form: about 20 rounds over all modes. BACKAPP_TEST_LONG=1: at least 200. BACKAPP_TEST_SEED repeats a seed,
BACKAPP_TEST_MODE=NAME[,NAME] runs only these modes, BACKAPP_TEST_KEEP=1 keeps the trees of a failure.
"""

import os
import shutil
import sys
import time
import traceback
from dataclasses import dataclass, field

import judge
from harness import (AS_RSYNC, LONG, Failure, Program, Report, as_nobody, event_path, item_key, mounted, require, seed,
                     workplace)
from oddchange import ChangingTree
from oddtree import DEEP_PREFIX, Clock, seeded

ZERO_AFTER_REST = ("filesTransferred", "bytesTransferred", "filesCreated", "filesChanged", "filesDeleted")


@dataclass
class Mode:
    """One way to call the program, and what that changes for the judges."""

    name: str
    options: list
    short: int
    long: int
    sources: int = 1
    tree: dict = field(default_factory=dict)
    judge: dict = field(default_factory=dict)  # for judge.compare
    rsync: dict = field(default_factory=dict)  # for judge.rsync_differences
    skip: object = None  # (path, is_directory) -> leave it out of both sides
    drift: bool = True  # somebody changes the mirror, too
    deep: bool = True
    place: str = ""  # file system of the mirror
    both: bool = False  # the source lies there, too
    versions: bool = False
    prepare: object = None  # (scene) before the first run
    plant: object = None  # (scene) before every run
    check: object = None  # (scene, before, after) after every run
    user: bool = False  # as nobody
    root: bool = False  # only as root

    @property
    def delete(self):
        return "--delete" in self.options


class Scene:
    """The trees of one mode, and the random numbers that change them."""

    def __init__(self, mode, base, text, program, place=None):
        self.mode, self.program = mode, program
        self.rng = seeded(text)
        self.clock = Clock(self.rng)
        self.destination = os.path.join(place or base, "mirror")
        home = place if place and mode.both else base
        names = ["source"] if mode.sources == 1 else ["source-%d" % n for n in range(mode.sources)]
        self.sources = [os.path.join(home, name) for name in names]
        self.trees = [ChangingTree(path, self.rng, self.clock, break_links=not AS_RSYNC, **mode.tree)
                      for path in self.sources]
        self.drift = ChangingTree(self.destination, self.rng, self.clock, break_links=not AS_RSYNC)
        self.log = []

    def build(self):
        for tree in self.trees:
            tree.build(many=600 if LONG else 80, deep=self.mode.deep)

    def change(self):
        self.log = []
        for tree in self.trees:
            self.log += tree.mutate(self.rng.randrange(3, 40))
        if self.mode.drift and self.mode.delete and self.mode.sources == 1 and self.rng.randrange(3) == 0:
            self.log += ["mirror: " + line for line in self.drift.mutate(self.rng.randrange(1, 6))]

    def pairs(self):
        """(source, mirror, prefix of the item paths) for each source."""
        if len(self.sources) == 1:
            return [(self.sources[0], self.destination, b"")]
        return [(source, os.path.join(self.destination, os.path.basename(source)),
                 os.fsencode(os.path.basename(source)) + b"/") for source in self.sources]

    def run(self, *extra, jobs=None, plain=False):
        jobs = jobs or self.rng.choice(["1", "4"])
        options = [*self.mode.options, "--max-delete", "100", "--jobs", jobs, *extra]
        return self.program.mirror(options, self.sources, self.destination, plain=plain)

    def mirrored(self, content=True):
        if not os.path.isdir(self.destination):
            return {}
        return judge.snapshot(self.destination, None, content)


# --- what is checked after every run ---------------------------------------------------------------------------------


def first(lines, count=12):
    more = ["... and %d more" % (len(lines) - count)] if len(lines) > count else []
    return "\n".join(list(lines[:count]) + more)


def check_equal(scene):
    mode = scene.mode
    for source, mirror, _ in scene.pairs():
        options = {"extraneous": not mode.delete, "links": "kept" if AS_RSYNC else "exact", **mode.judge}
        wanted = judge.snapshot(source, mode.skip)
        if AS_RSYNC:
            options["ignore"] = [path for path in wanted if path.startswith(DEEP_PREFIX)]
        found = judge.compare(wanted, judge.snapshot(mirror, mode.skip), **options)
        require(not found, "the own walk finds %d differences\n%s" % (len(found), first(found)))
        found = judge.rsync_differences(source, mirror, delete=mode.delete, **mode.rsync)
        require(not found, "rsync finds %d differences\n%s" % (len(found), first(found)))


def check_plan(dry, real):
    planned = sorted(item_key(item) for item in dry.items())
    done = sorted(item_key(item) for item in real.items())
    only_planned = [item for item in planned if item not in done]
    only_done = [item for item in done if item not in planned]
    require(planned == done, "the dry run and the run differ\n" + first(
        ["only planned: %r" % (item,) for item in only_planned] + ["only done: %r" % (item,) for item in only_done]))


def changed_paths(before, after):
    """Names that came, went, or have another state or partners now."""
    def state(entry):
        return (entry.kind, entry.mode if entry.kind != "symlink" else 0, entry.uid, entry.gid, entry.mtime_ns,
                entry.size if entry.kind == "file" else 0, entry.digest, entry.target, entry.device, entry.xattrs)
    return {path for path in set(before) | set(after)
            if path not in before or path not in after or state(before[path]) != state(after[path])}


def check_items(real, before, after):
    """Each change of the mirror has an item, and each item stands for something that happened."""
    named = {}
    for item in real.items():
        named.setdefault(event_path(item).rstrip(b"/"), set()).add(item.get("action"))
    removed = [path for path in named if path in before and before[path].kind == "directory"
               and (path not in after or after[path].kind != "directory")]

    def below_removed(path):
        return any(path.startswith(other + b"/") for other in removed)

    changed = changed_paths(before, after)
    silent = [path for path in sorted(changed) if path and path not in named
              and not (path not in after and below_removed(path))]
    require(not silent, "changed without an item\n" + first(["%r" % path for path in silent]))
    idle = [path for path in sorted(named) if path and path in before and path in after and path not in changed
            and before[path].inode == after[path].inode and not below_removed(path)]
    require(not idle, "an item, but nothing changed\n" + first(["%r %s" % (path, named[path]) for path in idle]))


def check_extraneous(before, after, expected):
    """Without --delete: what only the mirror has keeps its content."""
    for path, entry in before.items():
        if path in expected or entry.kind == "directory":
            continue
        now = after.get(path)
        if now is None and any(path.startswith(p + b"/") for p, e in expected.items() if e.kind != "directory"):
            continue
        require(now is not None, "%r is gone, though nothing may be deleted" % path)
        require((now.kind, now.digest, now.target) == (entry.kind, entry.digest, entry.target),
                "%r is not in the source, but its content changed in the mirror" % path)


def versions_of(scene):
    folder = os.path.join(scene.destination, ".backapp", "versions")
    if not os.path.isdir(folder):
        return {}
    return {name: judge.snapshot(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}


def check_versions(old, new, before, after):
    """What was replaced or deleted lies in the newest version as it was; older versions are as they were."""
    for name, tree in old.items():
        require(name in new, "version %s is gone" % name)
        found = judge.compare(tree, new[name])
        require(not found, "version %s changed\n%s" % (name, first(found)))
    fresh = [tree for name, tree in new.items() if name not in old]
    require(len(fresh) <= 1, "one run made %d versions" % len(fresh))
    kept = fresh[0] if fresh else {}
    for path, entry in before.items():
        now = after.get(path)
        if entry.kind != "file" or (now and now.kind == "file" and now.digest == entry.digest):
            continue
        require(path in kept, "%r was replaced or deleted, but no version keeps it" % path)
        require(kept[path].digest == entry.digest, "%r: the kept version has other content" % path)


def check_rest(scene):
    """A second run has nothing to do, and changes nothing."""
    before = scene.mirrored(content=False)
    again = scene.run()
    require(again.code == 0, "the second run failed: " + again.describe())
    require(not again.items(), "the second run did something\n" + first(["%r" % (item_key(i),) for i in again.items()]))
    for key in ZERO_AFTER_REST:
        require(again.number(key) == 0, "the second run's %s is %r" % (key, again.number(key)))
    require(judge.same_state(before, scene.mirrored(content=False)), "the second run touched the mirror")


def check_plain(scene, planned):
    """The dry run for people: a line for each item."""
    text = scene.run("--dry-run", plain=True)
    require(text.code == 0, "the plain dry run failed: " + text.describe())
    require(not any(byte < 32 and byte != 10 for byte in text.out), "control characters in the plain dry run")
    lines = text.out.decode("utf-8", "strict").splitlines()
    for item in planned.items():
        path = event_path(item)
        if path and all(32 < byte < 127 and byte not in b"\\'\"" for byte in path):
            require(any(path.decode() in line for line in lines), "the plain dry run does not name %r" % path)


def round_of(scene):
    mode = scene.mode
    before = scene.mirrored()
    source_state = [judge.snapshot(source, None, False) for source in scene.sources]
    versions = versions_of(scene) if mode.versions else {}
    if not AS_RSYNC:
        dry = scene.run("--dry-run")
        require(dry.code == 0, "the dry run failed: " + dry.describe())
        now = scene.mirrored(content=False)
        require(judge.same_state(before, now) and bool(before) == bool(now), "the dry run touched the mirror")
        check_plain(scene, dry)
    real = scene.run()
    require(real.code == 0, "the run failed: " + real.describe())
    for source, state in zip(scene.sources, source_state):
        require(judge.same_state(state, judge.snapshot(source, None, False)), "the run touched the source")
    check_equal(scene)
    after = scene.mirrored()
    if not mode.delete:
        check_extraneous(before, after, {prefix + path if path else prefix.rstrip(b"/"): entry
                                         for source, _, prefix in scene.pairs()
                                         for path, entry in judge.snapshot(source).items()})
    if mode.check:
        mode.check(scene, before, after)
    if AS_RSYNC:
        return
    require(real.status() == "completed", "the run's status is %r" % real.status())
    check_plan(dry, real)
    check_items(real, before, after)
    if mode.versions:
        check_versions(versions, versions_of(scene), before, after)
    check_rest(scene)


# --- the modes -------------------------------------------------------------------------------------------------------


def skip_pattern(path, is_directory):
    return any(part.endswith(b".skip") for part in path.split(b"/")) or (
        is_directory and path.rsplit(b"/", 1)[-1].startswith(b"cache-")) or path == b"top-excluded"


def plant_excluded(scene):
    """Things in the source that the excludes hit, and things in the mirror that they protect."""
    tree = scene.trees[0]
    state = tree.scan()
    for number in range(3):
        parent = scene.rng.choice([tree.root] + state.directories)
        path = parent + b"/%d%d.skip" % (tree.counter, number)
        tree.counter += 1
        if scene.rng.randrange(2):
            tree.make_file(path)
        else:
            os.mkdir(path)
            tree.make_file(path + b"/inside")
    folder = tree.root + b"/cache-%d" % tree.counter
    os.mkdir(folder)
    tree.make_file(folder + b"/inside")
    for name in ("protected.skip", "top-excluded"):
        if os.path.isdir(scene.destination) and not os.path.exists(os.path.join(scene.destination, name)):
            with open(os.path.join(scene.destination, name), "x", encoding="ascii") as out:
                out.write("mine")


def check_protected(scene, before, after):
    for name in (b"protected.skip", b"top-excluded"):
        require(name not in before or name in after, "%r was deleted, though it is excluded" % name)
    leaked = [path for path in after if skip_pattern(path, after[path].kind == "directory") and path not in before]
    require(not leaked, "excluded, but mirrored\n" + first(["%r" % path for path in leaked]))


def check_alone(_scene, _before, after):
    linked = [path for path, entry in after.items() if entry.kind == "file" and entry.links > 1]
    require(not linked, "linked in the mirror: %r" % linked[:3])


def skip_mount(path, _is_directory):
    return path.startswith(b"other-fs/")


MODES = [
    Mode("delete", ["--delete"], 3, 40),
    Mode("no-delete", [], 2, 20, tree={"keep_directories": True}),
    Mode("checksum", ["--delete", "--checksum"], 2, 20, tree={"stealth": True}),
    Mode("inplace", ["--delete", "--inplace"], 2, 25, tree={"large": True}),
    Mode("versions", ["--delete", "--keep-versions", "30"], 2, 20, versions=True),
    Mode("versions-inplace", ["--delete", "--inplace", "--keep-versions", "30"], 1, 15, versions=True,
         tree={"large": True}),
    Mode("versions-no-delete", ["--keep-versions", "30"], 0, 10, versions=True, tree={"keep_directories": True}),
    Mode("excludes", ["--delete", "--exclude", "*.skip", "--exclude", "cache-*/", "--exclude", "/top-excluded"], 1, 15,
         skip=skip_pattern, rsync={"extra": ["--exclude=*.skip", "--exclude=cache-*/", "--exclude=/top-excluded"]},
         drift=False, plant=plant_excluded, check=check_protected),
    Mode("sources", ["--delete"], 1, 12, sources=3, deep=False),
    Mode("no-hard-links", ["--delete", "--no-hard-links"], 1, 12, judge={"links": "none"},
         rsync={"hard_links": False}, drift=False, check=check_alone),
    Mode("one-file-system", ["--delete", "--one-file-system"], 1, 8, skip=skip_mount, drift=False, root=True,
         tree={"untouched": (b"other-fs",)}, rsync={"extra": ["--one-file-system"]}),
    Mode("user", ["--delete"], 2, 15, user=True),
    Mode("tmpfs", ["--delete"], 1, 8, place="tmpfs", root=True),
    Mode("xfs", ["--delete"], 1, 12, place="xfs", both=True, root=True, judge={"loose_layout": True}),
    Mode("to-xfs", ["--delete"], 1, 8, place="xfs", root=True, tree={"long_targets": False},
         judge={"loose_layout": True}),
    Mode("xfs-inplace", ["--delete", "--inplace"], 0, 10, place="xfs", both=True, root=True, tree={"large": True},
         judge={"loose_layout": True}),
    Mode("ext4", ["--delete"], 0, 8, place="ext4", root=True, tree={"long_targets": False}),
    Mode("btrfs", ["--delete"], 0, 8, place="btrfs", both=True, root=True, judge={"loose_layout": True}),
    Mode("btrfs-versions-inplace", ["--delete", "--inplace", "--keep-versions", "30"], 0, 8, place="btrfs", both=True,
         root=True, versions=True, tree={"large": True}, judge={"loose_layout": True}),
]


def play(mode, base, text, program, place=None):
    """All rounds of a mode; raises Failure with all that is needed to repeat it."""
    scene = Scene(mode, base, text, program, place)
    scene.build()
    number = -1
    try:
        for number in range((mode.long if LONG else mode.short) + 1):
            if number:
                scene.change()
            if mode.plant:
                mode.plant(scene)
            round_of(scene)
    except Failure as problem:
        raise Failure("round %d, seed %s: %s\nchanges of this round:\n%s"
                      % (number, text, problem, "\n".join(scene.log))) from None


def run_mode(mode, base, text, program, report):
    started = time.monotonic()
    name = "differential/mirror/" + mode.name
    os.mkdir(base)

    def perform(place=None):
        try:
            play(mode, base, "%s/%s" % (text, mode.name), program, place)
            print("# %s: %d rounds, %.1f s" % (name, mode.long if LONG else mode.short, time.monotonic() - started))
            report.ok(name)
        except Failure as problem:
            report.not_ok(name, problem)
        except Exception:
            report.not_ok(name, traceback.format_exc())

    if mode.root and os.geteuid() != 0:
        report.skip(name, "needs root")
    elif mode.user and os.geteuid() == 0:
        os.chown(base, 65534, 65534)

        def child():
            program.environment.update(XDG_STATE_HOME=os.path.join(base, "state"), TMPDIR=base)
            perform()
            return 0 if report.failed == 0 else 1
        if as_nobody(child) == 0:
            report.passed += 1
        else:
            report.failed += 1
    elif mode.place:
        with mounted(mode.place, base + ".fs") as problem:
            if problem:
                report.skip(name, problem)
            else:
                perform(base + ".fs")
    elif mode.name == "one-file-system":
        os.makedirs(os.path.join(base, "source"))
        with mounted("tmpfs", os.path.join(base, "source", "other-fs")) as problem:
            if problem:
                report.skip(name, problem)
                return
            with open(os.path.join(base, "source", "other-fs", "not-mine"), "x", encoding="ascii") as out:
                out.write("on another file system")
            perform()
    else:
        perform()


def main():
    if not AS_RSYNC and not os.access(os.environ.get("BACKAPP", ""), os.X_OK):
        print("skip differential/mirror: BACKAPP does not name a program")
        return 77
    if not shutil.which("rsync"):
        print("skip differential/mirror: rsync, the judge, is not installed")
        return 77
    text = seed()
    wanted = [name for name in os.environ.get("BACKAPP_TEST_MODE", "").split(",") if name]
    report = Report()
    with workplace() as base:
        program = Program(base)
        if not AS_RSYNC:
            # A copy, so that an unprivileged child can execute it wherever the build directory lies.
            program.executable = shutil.copy(program.executable, os.path.join(base, "backapp"))
            os.chmod(program.executable, 0o755)
        for mode in MODES:
            if wanted and mode.name not in wanted:
                continue
            if not wanted and (mode.long if LONG else mode.short) == 0:
                continue
            run_mode(mode, os.path.join(base, mode.name), text, program, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
