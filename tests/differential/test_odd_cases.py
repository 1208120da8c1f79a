#!/usr/bin/env python3
"""Single odd cases that random trees meet too rarely, and a proof that the judge notices what it shall notice."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import traceback

import judge
from harness import (AS_RSYNC, TIMEOUT, Failure, Program, Report, as_nobody, event_path, mounted, remove_tree,
                     require, workplace)
from oddchange import ChangingTree
from oddtree import Clock, posix_acl, seeded

WHEN = 1_600_000_000_123_456_789


class Skip(Exception):
    """This machine cannot show the case."""


def write(path, content, when=WHEN):
    with open(path, "wb") as out:
        out.write(content)
    os.utime(path, ns=(when, when))


def differences(source, mirror, **options):
    found = judge.compare(judge.snapshot(source), judge.snapshot(mirror), **options)
    return found + judge.rsync_differences(source, mirror)


def mirror(program, source, destination, *options, code=0):
    result = program.mirror([*options, "--delete", "--max-delete", "100"], [source], destination)
    require(result.code == code, "exit %d is not %d: %s" % (result.code, code, result.describe()))
    return result


# --- the judge -------------------------------------------------------------------------------------------------------


def sabotage_tree(source):
    os.mkdir(source)
    for name in ("content", "mode", "time", "size", "xattr", "acl", "owner", "kind", "missing", "single-a", "single-b"):
        write(os.path.join(source, name), b"same " * 1000)
        with contextlib.suppress(OSError):
            os.setxattr(os.path.join(source, name), "user.test", b"value")
            os.setxattr(os.path.join(source, name), "system.posix_acl_access",
                        posix_acl([(0x02, 4, 1)], 6, (6, 4, 0)))
    write(os.path.join(source, "linked-a"), b"linked")
    os.link(os.path.join(source, "linked-a"), os.path.join(source, "linked-b"))
    with open(os.path.join(source, "sparse"), "wb") as out:
        out.truncate(4 << 20)
    os.utime(os.path.join(source, "sparse"), ns=(WHEN, WHEN))
    os.symlink("target", os.path.join(source, "symlink"))
    os.mkfifo(os.path.join(source, "fifo"))
    os.mkdir(os.path.join(source, "folder"))
    for name in ("symlink", "fifo", "folder"):
        os.utime(os.path.join(source, name), ns=(WHEN, WHEN), follow_symlinks=False)


def replace(path, make):
    os.unlink(path)
    make(path)
    os.utime(path, ns=(WHEN, WHEN), follow_symlinks=False)


def fill(path):
    with open(path, "r+b") as out:
        out.write(bytes(4 << 20))
    os.utime(path, ns=(WHEN, WHEN))


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


SABOTAGE = {
    "content": lambda p: write(p + "content", b"sAme " * 1000),
    "mode": lambda p: os.chmod(p + "mode", 0o4755),
    "time": lambda p: os.utime(p + "time", ns=(WHEN, WHEN + 1)),
    "size": lambda p: write(p + "size", b"same " * 999),
    "xattr": lambda p: os.setxattr(p + "xattr", "user.test", b"other"),
    "more xattrs": lambda p: os.setxattr(p + "xattr", "user.more", b""),
    "acl": lambda p: os.setxattr(p + "acl", "system.posix_acl_access", posix_acl([(0x02, 5, 1)], 6, (6, 4, 0))),
    "default acl": lambda p: os.setxattr(p + "folder", "system.posix_acl_default",
                                         posix_acl([(0x02, 5, 1)], 6, (6, 4, 0))),
    "owner": lambda p: os.chown(p + "owner", 12, 0),
    "group": lambda p: os.chown(p + "owner", 0, 12),
    "kind": lambda p: replace(p + "kind", os.mkfifo),
    "missing": lambda p: os.unlink(p + "missing"),
    "extraneous": lambda p: os.mkdir(p + "extraneous"),
    "link broken": lambda p: replace(p + "linked-b", lambda q: write(q, b"linked")),
    "link made": lambda p: (os.unlink(p + "single-b"), os.link(p + "single-a", p + "single-b")),
    "hole filled": lambda p: fill(p + "sparse"),
    "target": lambda p: replace(p + "symlink", lambda q: os.symlink("tarGet", q)),
    "symlink time": lambda p: os.utime(p + "symlink", ns=(WHEN, WHEN + 1), follow_symlinks=False),
    "special": lambda p: replace(p + "fifo", make_socket),
    "folder time": lambda p: os.utime(p + "folder", ns=(WHEN, WHEN - 1)),
    "root mode": lambda p: os.chmod(p, 0o711),
}


def case_judge(base, _program):
    source = os.path.join(base, "source")
    sabotage_tree(source)
    for what, break_it in SABOTAGE.items():
        if what in ("owner", "group") and os.geteuid() != 0:
            continue
        copy = os.path.join(base, "copy") + "/"
        subprocess.run(["rsync", "-aHAXS", "--numeric-ids", "--modify-window=-1", "--", source + "/", copy], stdin=subprocess.DEVNULL,
                       timeout=TIMEOUT, check=True)
        found = differences(source, copy)
        require(not found, "the judge sees differences where there are none: %s" % found)
        try:
            break_it(copy)
        except OSError as problem:
            print("# %s cannot be tried here: %s" % (what, problem))
        else:
            found = judge.compare(judge.snapshot(source), judge.snapshot(copy))
            require(found, "the judge does not notice a wrong %s" % what)
        remove_tree(copy)


# --- odd cases -------------------------------------------------------------------------------------------------------


def case_own_names(base, program):
    """`.backapp*` at the source's root is skipped with a warning; below it these are names like any other."""
    source, destination = os.path.join(base, "source"), os.path.join(base, "mirror")
    os.makedirs(os.path.join(source, "inner", ".backapp"))
    os.makedirs(os.path.join(source, ".backapp", "stage"))
    write(os.path.join(source, ".backapp", "journal"), b"not a journal")
    write(os.path.join(source, ".backapp-destination"), b"not a marker")
    write(os.path.join(source, "inner", ".backapp", "journal"), b"a file")
    result = mirror(program, source, destination)
    found = differences(source, destination)
    require(not found, "differences: %s" % found)
    with open(os.path.join(destination, ".backapp-destination"), "rb") as marker:
        require(b"not a marker" not in marker.read(), "the source's marker was copied")
    require(not os.path.exists(os.path.join(destination, ".backapp", "journal")), "the source's .backapp was copied")
    named = {event_path(event) for event in result.warnings()}
    require({b".backapp", b".backapp-destination"} <= named, "no warning names what was skipped: %s" % named)


def case_chain(base, program):
    """A chain of 400 directories, 6,800 bytes of path; made, changed at its end, and deleted."""
    source, destination = os.path.join(base, "source"), os.path.join(base, "mirror")
    os.mkdir(source)
    current = os.open(source, os.O_RDONLY)
    for number in range(400):
        name = "d%015d" % number
        os.mkdir(name, dir_fd=current)
        following = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = following
    with os.fdopen(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=current), "wb") as out:
        out.write(b"one")
    mirror(program, source, destination)
    found = judge.compare(judge.snapshot(source), judge.snapshot(destination))
    require(not found, "new: %s" % found[:3])
    with os.fdopen(os.open("end", os.O_WRONLY | os.O_APPEND, dir_fd=current), "wb") as out:
        out.write(b" two")
    os.symlink("end", "another", dir_fd=current)
    os.close(current)
    mirror(program, source, destination)
    found = judge.compare(judge.snapshot(source), judge.snapshot(destination))
    require(not found, "changed: %s" % found[:3])
    remove_tree(os.path.join(source, "d%015d" % 0))
    write(os.path.join(source, "other"), b"")
    mirror(program, source, destination)
    found = differences(source, destination)
    require(not found, "deleted: %s" % found[:3])


def case_links(base, program):
    """One file with 300 names in 20 directories; half of them go, some become a second group. No byte is copied twice."""
    source, destination = os.path.join(base, "source"), os.path.join(base, "mirror")
    names = [os.path.join(source, "d%02d" % (n % 20), "name-%03d" % n) for n in range(300)]
    for number in range(20):
        os.makedirs(os.path.join(source, "d%02d" % number))
    write(names[0], b"x" * 500_000)
    for name in names[1:]:
        os.link(names[0], name)
    result = mirror(program, source, destination)
    require(result.number("bytesTransferred") == 500_000, "copied %r bytes" % result.number("bytesTransferred"))
    require(not (found := differences(source, destination)), "new: %s" % found[:3])
    for name in names[:300:2]:
        os.unlink(name)
    write(names[0], b"x" * 500_000, WHEN)
    for name in names[2:100:2]:
        os.link(names[0], name)
    os.link(names[1], os.path.join(source, "d00", "another"))
    mirror(program, source, destination)
    require(not (found := differences(source, destination)), "two groups: %s" % found[:3])
    for name in names[:100:2]:
        os.unlink(name)
        os.link(names[1], name)
    result = mirror(program, source, destination)
    require(not (found := differences(source, destination)), "one group again: %s" % found[:3])
    require(result.number("bytesTransferred") == 0, "linking copied %r bytes" % result.number("bytesTransferred"))


def case_metadata_only(base, program):
    """Mode, owner, xattr and ACL changes copy no content, and the mirror's file stays the same inode."""
    source, destination = os.path.join(base, "source"), os.path.join(base, "mirror")
    os.mkdir(source)
    for number in range(5):
        write(os.path.join(source, "f%d" % number), b"y" * 100_000)
    if os.geteuid() == 0:  # chown(2), even to the same owner, takes it away
        os.setxattr(os.path.join(source, "f4"), "security.capability", bytes.fromhex("0100000200040000") + bytes(12))
    mirror(program, source, destination)
    before = judge.snapshot(destination)
    os.chmod(os.path.join(source, "f0"), 0o4711)
    with contextlib.suppress(OSError):
        os.setxattr(os.path.join(source, "f1"), "user.new", b"\0\xff")
        os.setxattr(os.path.join(source, "f2"), "system.posix_acl_access", posix_acl([(0x02, 5, 1)], 6, (6, 4, 0)))
    if os.geteuid() == 0:
        os.chown(os.path.join(source, "f3"), 77, 88)
        os.chmod(os.path.join(source, "f4"), 0o700)
    result = mirror(program, source, destination)
    require(not (found := differences(source, destination)), "differences: %s" % found)
    after = judge.snapshot(destination)
    require(result.number("bytesTransferred") == 0, "copied %r bytes" % result.number("bytesTransferred"))
    moved = [path for path in before if path.startswith(b"f") and before[path].inode != after[path].inode]
    require(not moved, "new inodes for changed metadata: %s" % moved)


def case_crowd(base, program):
    """5,000 files in one directory; a tenth goes, a tenth comes, a tenth changes by one nanosecond and one byte."""
    source, destination = os.path.join(base, "source"), os.path.join(base, "mirror")
    os.mkdir(source)
    for number in range(5000):
        write(os.path.join(source, "%d" % number), b"%d" % number, WHEN + number)
    mirror(program, source, destination)
    require(not (found := differences(source, destination)), "new: %s" % found[:3])
    for number in range(0, 5000, 10):
        os.unlink(os.path.join(source, "%d" % number))
        write(os.path.join(source, "new-%d" % number), b"new")
        write(os.path.join(source, "%d" % (number + 1)), b"%d" % (number + 2), WHEN + number + 10_000)
    result = mirror(program, source, destination)
    require(not (found := differences(source, destination)), "changed: %s" % found[:3])
    for key, wanted in (("filesCreated", 500), ("filesDeleted", 500)):
        require(result.number(key) == wanted, "%s is %r, not %d" % (key, result.number(key), wanted))


def unreadable(base, program):
    source, destination = os.path.join(base, "source"), os.path.join(base, "mirror")
    tree = ChangingTree(source, rng := seeded("unreadable"), Clock(rng))
    tree.build(many=10)
    os.mkdir(os.path.join(source, "closed"))
    for name in ("closed/inside", "old-secret"):
        write(os.path.join(source, name), b"first")
    write(os.path.join(source, "z-linked"), b"was alone")
    mirror(program, source, destination)
    write(os.path.join(source, "new-secret"), b"secret")
    os.link(os.path.join(source, "new-secret"), os.path.join(source, "z-new"))
    os.unlink(os.path.join(source, "z-linked"))
    os.link(os.path.join(source, "new-secret"), os.path.join(source, "z-linked"))
    write(os.path.join(source, "old-secret"), b"changed", WHEN + 5)
    write(os.path.join(source, "fine"), b"fine")
    for name, mode in (("new-secret", 0), ("old-secret", 0o200), ("closed", 0)):
        os.chmod(os.path.join(source, name), mode)
    try:
        result = mirror(program, source, destination, code=3)
        require(result.status() == "partial", "the status is %r" % result.status())
        named = {event_path(event).rstrip(b"/") for event in result.warnings()}
        require({b"new-secret", b"old-secret", b"closed"} <= named, "the warnings name only %s" % named)
        after = judge.snapshot(destination)
        require(b"closed/inside" in after, "what lies below an unreadable directory was deleted from the mirror")
        require(after[b"old-secret"].size == 5, "the old content of an unreadable file was lost")
        for name in (b"new-secret", b"z-new"):
            require(name not in after, "%r is unreadable, but came into the mirror: with which content?" % name)
        require(after[b"z-linked"].size == 9, "the old content under a second name of an unreadable file was lost")
        ignore = (b"new-secret", b"old-secret", b"closed", b"z-new", b"z-linked")
        found = judge.compare(judge.snapshot(source), after, ignore=ignore)
        require(not found, "the rest differs: %s" % found[:5])
    finally:
        for name, mode in (("new-secret", 0o600), ("old-secret", 0o600), ("closed", 0o700)):
            os.chmod(os.path.join(source, name), mode)
    mirror(program, source, destination)
    found = differences(source, destination)
    require(not found, "readable again: %s" % found[:5])


def case_unreadable(base, program):
    """As an ordinary user: files and directories that cannot be read make exit 3 and are named; nothing is lost."""
    if os.geteuid() != 0:
        unreadable(base, program)
        return
    os.chown(base, 65534, 65534)

    def child():
        try:
            unreadable(base, program)
            return 0
        except Failure as problem:
            print("# %s" % problem)
            return 1
    require(as_nobody(child) == 0, "see the lines above")


def case_read_only_folders(base, program):
    """As an ordinary user: folders of 0555 and 0500 are filled, changed and emptied."""
    def play():
        source, destination = os.path.join(base, "source"), os.path.join(base, "mirror")
        os.makedirs(os.path.join(source, "a", "b"))
        for round_number in range(4):
            for folder in ("a", "a/b", ""):
                os.chmod(os.path.join(source, folder), 0o755)
            for folder in ("a", "a/b"):
                write(os.path.join(source, folder, "file"), b"content" * round_number, WHEN + round_number)
                if round_number == 2:
                    os.unlink(os.path.join(source, folder, "file"))
                write(os.path.join(source, folder, "new-%d" % round_number), b"")
            for folder, mode in (("a/b", 0o500), ("a", 0o555), ("", 0o555)):
                os.chmod(os.path.join(source, folder), mode)
            mirror(program, source, destination)
            require(not (found := differences(source, destination)), "round %d: %s" % (round_number, found[:5]))

    def child():
        try:
            play()
            return 0
        except Failure as problem:
            print("# %s" % problem)
            return 1
    if os.geteuid() != 0:
        play()
    else:
        os.chown(base, 65534, 65534)
        require(as_nobody(child) == 0, "see the lines above")


def case_long_symlink(base, program):
    """A symlink that the mirror's file system cannot hold is named; all the rest is mirrored."""
    source, place = os.path.join(base, "source"), os.path.join(base, "fs")
    with mounted("ext4", place) as problem:
        if problem:
            raise Skip(problem)
        os.mkdir(source)
        os.symlink("t" * 4000, os.path.join(source, "long"))
        write(os.path.join(source, "file"), b"content")
        destination = os.path.join(place, "mirror")
        result = program.mirror(["--delete"], [source], destination)
        if os.path.lexists(os.path.join(destination, "long")):
            raise Skip("this ext4 has large blocks and takes long targets")
        require(result.code == 3, "exit %d is not 3: %s" % (result.code, result.describe()))
        require(b"long" in {event_path(event) for event in result.warnings()}, "no warning names the symlink")
        found = judge.compare(judge.snapshot(source), judge.snapshot(destination), ignore=(b"long",))
        require(not found, "the rest differs: %s" % found)


CASES = [case_judge, case_long_symlink, case_own_names, case_chain, case_links, case_metadata_only, case_crowd, case_unreadable,
         case_read_only_folders]


def main():
    if not shutil.which("rsync"):
        print("skip differential/odd: rsync, the judge, is not installed")
        return 77
    usable = os.access(os.environ.get("BACKAPP", ""), os.X_OK) and not AS_RSYNC
    wanted = [name for name in os.environ.get("BACKAPP_TEST_CASE", "").split(",") if name]
    report = Report()
    with workplace() as base:
        program = Program(base)
        if usable:
            program.executable = shutil.copy(program.executable, os.path.join(base, "backapp"))
            os.chmod(program.executable, 0o755)
        for case in CASES:
            name = case.__name__[len("case_"):]
            if wanted and name not in wanted:
                continue
            label = "differential/odd/" + name.replace("_", "-")
            folder = os.path.join(base, name)
            os.mkdir(folder)
            program.environment.update(XDG_STATE_HOME=os.path.join(folder, "state"), TMPDIR=folder)
            if not usable and name != "judge":
                report.skip(label, "BACKAPP does not name a program")
                continue
            try:
                case(folder, program)
                report.ok(label)
            except Skip as problem:
                report.skip(label, problem)
            except Failure as problem:
                report.not_ok(label, problem)
            except Exception:
                report.not_ok(label, traceback.format_exc())
            remove_tree(folder)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
