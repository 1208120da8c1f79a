#!/usr/bin/env python3
"""What tar_format.h writes is read by GNU tar, by bsdtar and by Python's tarfile as it was meant, without a warning.

An odd tree goes through tar_tool into each of them; judge.py and rsync look for differences. What no file system here
holds (sizes, owners, times) is only listed.
"""

import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "differential"))
import judge
import oddchange
import oddtree

TOOL = os.environ.get("TAR_TOOL", "tar-tool")
LONG_BYTES = [b"\xff" * 120, b"d/" * 40 + b"\xfe" * 150, b"p" * 90 + b"/" + b"\xfd" * 99]
GNU = ["tar", "--extract", "--file=-", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--same-owner",
       "--preserve-permissions", "--warning=no-timestamp"]
BSD = ["bsdtar", "-x", "-p", "-f-", "--xattrs", "--acls", "--numeric-owner"]


def run(command, data=b"", locale="C.UTF-8", **options):
    done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=False,
                          env={**os.environ, "LC_ALL": locale, "TZ": "UTC"}, **options)
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace')}"
    return done


class Tree(oddchange.ChangingTree):
    """Without sockets, which no tar holds, and numbers above 2^31 in ACLs, where libarchive does not count so far."""

    make_socket = staticmethod(os.mkfifo)

    @staticmethod
    def try_xattr(path, name, value):
        if name.startswith(b"system."):
            value = value.replace(struct.pack("<I", 3000000000), struct.pack("<I", 2000000000))
        oddchange.ChangingTree.try_xattr(path, name, value)


class WholeSeconds(oddtree.Clock):
    """No fractions before 1970: libarchive reads -1.5 as -0.5."""

    def claim(self, value):
        return (value >= 0 or value % 10**9 == 0) and super().claim(value)


def special_things(root):
    """What the odd tree has by chance only."""
    path = os.fsencode(root)
    for name in LONG_BYTES + [b"s" * 155 + b"/" + b"n" * 100, b"s" * 156 + b"/" + b"n" * 100, b"e" * 99, b"e" * 101,
                              b"\xc3\xbc" * 60, b"\xc3\xa9"]:
        full = path + b"/" + name
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "xb") as out:
            out.write(name)
        os.symlink(name, full[:-1] + b"_s")
        os.link(full, full[:-1] + b"_h")
    for name in [b"hole" + b"\xff" * 100, b"hole", b"h" * 90 + b"/" + b"h" * 60, b"all hole"]:
        full = path + b"/" + name
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "xb") as out:
            if b"all" not in name:
                out.write(b"x")
                out.seek(1 << 20)
                out.write(b"end")
            out.truncate(3 << 20)
    with open(path + b"/attributes", "xb"):
        pass
    for name, value in [(b"user.empty", b""), (b"user.zero", b"a\0b\nc=d"), (b"user.large", b"\xff" * 3000)]:
        os.setxattr(path + b"/attributes", name, value)
    os.makedirs(path + b"/d" * 100)


class Scene:
    def __init__(self, scratch):
        self.scratch = scratch
        self.source = os.path.join(scratch, "source")
        rng = random.Random("tar peers")
        tree = Tree(self.source, rng, WholeSeconds(rng))
        tree.build(entries=160, many=40, deep=False)
        special_things(self.source)
        self.tar = run([TOOL, "tree", self.source]).stdout

    def extract(self, command, locale):
        target = tempfile.mkdtemp(dir=self.scratch)
        done = run(command, self.tar, locale, cwd=target)
        assert not done.stderr, done.stderr.decode(errors="replace")
        return target

    def compare(self, target):
        # bsdtar gives a directory that was there its mode, not its time.
        shutil.copystat(self.source, target)
        differences = judge.compare(judge.snapshot(self.source), judge.snapshot(target))
        assert not differences, "\n".join(differences[:20])
        lines = judge.rsync_differences(self.source, target)
        assert not lines, "\n".join(lines[:20])
        subprocess.run(["chmod", "-R", "u+rwx", target], check=False, timeout=60)
        shutil.rmtree(target)


def test_gnu_tar(scene):
    scene.compare(scene.extract(GNU, "C.UTF-8"))


def test_gnu_tar_in_another_locale(scene):
    scene.compare(scene.extract(GNU, "C"))


def test_bsdtar(scene):
    scene.compare(scene.extract(BSD, "C.UTF-8"))


def test_bsdtar_in_another_locale(scene):
    scene.compare(scene.extract(BSD, "C"))


def test_same_tree_same_bytes(scene):
    assert run([TOOL, "tree", scene.source]).stdout == scene.tar


# What tar_tool's odd entries are: name, size, uid, gid, time.
ODD = [("owner", 0, 3000000000, 4000000000, 1.000000005), ("bytes", 0, 3000000000, 4000000000, 1.000000005),
       ("before", 0, 0, 0, -1.75), ("far", 0, 0, 0, 1 << 40), ("device", 0, 0, 0, 0), ("huge", 9 << 30, 0, 0, 0),
       ("sparse", 1 << 40, 0, 0, 0), ("end", 0, 0, 0, 0)]


def write(scene, *what):
    path = os.path.join(scene.scratch, what[0] + ".tar")
    with open(path, "wb") as out:
        subprocess.run([TOOL, *what], stdout=out, check=True, timeout=60)
    return path


def listed(command, path):
    """The names; nothing else is said."""
    done = run([*command, path])
    assert not done.stderr, f"{command[0]}: {done.stderr.decode()}"
    return done.stdout.decode().splitlines()


def test_odd_entries_by_python(scene):
    with tarfile.open(write(scene, "odd")) as tar:
        members = tar.getmembers()
    for member, wanted in zip(members, ODD, strict=True):
        got = (member.name, member.size, member.uid, member.gid, member.mtime)
        assert got == wanted, f"{got}, should be {wanted}"
    assert members[0].uname == "\u00fcser" and members[0].gname == "n" * 300, members[0].gname
    assert (members[4].devmajor, members[4].devminor) == (4095, 1048575)


def test_odd_entries_by_tars(scene):
    path = write(scene, "odd")
    for command in (["tar", "--numeric-owner", "--full-time", "-tvf"], ["bsdtar", "--numeric-owner", "-tvf"]):
        lines = listed(command, path)
        assert [line.split()[-1] for line in lines] == [row[0] for row in ODD], lines
        for line, row in zip(lines, ODD, strict=True):
            assert row[0] == "device" or all(str(number) in line for number in row[1:4]), line
        assert command[0] == "bsdtar" or "36812-02-20 00:36:16" in lines[3], lines[3]


def test_pieces_over_8_gib(scene):
    path = write(scene, "huge")
    for program in ("tar", "bsdtar"):
        lines = listed([program, "-tvf"], path)
        assert [line.split()[-1] for line in lines] == ["sparse", "end"] and str(1 << 40) in lines[0], lines


def test_more_attributes_than_a_header_holds(scene):
    path = write(scene, "many", "60")
    for program in ("tar", "bsdtar"):
        assert listed([program, "-tf"], path) == ["many", "end"]
    with tarfile.open(path) as tar:
        names = [key for key in tar.next().pax_headers if key.startswith("SCHILY.xattr.user.")]
    assert names == ["SCHILY.xattr.user.%02d" % number for number in range(15)], names


TESTS = [test_odd_entries_by_python, test_odd_entries_by_tars, test_pieces_over_8_gib,
         test_more_attributes_than_a_header_holds, test_gnu_tar, test_gnu_tar_in_another_locale, test_bsdtar, test_bsdtar_in_another_locale, test_same_tree_same_bytes]


def main():
    for program in ("tar", "bsdtar", "rsync"):
        if not shutil.which(program):
            print(f"skip tar_peers: there is no {program}")
            return 77
    if os.geteuid() != 0:
        print("skip tar_peers: owners, devices and attributes need root")
        return 77
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scene = Scene(scratch)
        for test in TESTS:
            try:
                test(scene)
                print(f"ok {test.__name__[5:]}")
            except (AssertionError, OSError, tarfile.TarError, subprocess.SubprocessError) as why:
                failed += 1
                print(f"not ok {test.__name__[5:]}: {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
