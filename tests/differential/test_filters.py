#!/usr/bin/env python3
"""Random trees and random --exclude/--include lists: the mirror must become what the real rsync makes of an equal one.

Every round: a small tree whose names the patterns hit often, two equal destinations that differ from it, and a list of
rules. One destination goes through the program under test, the other through rsync, with and without --delete; then
both must hold the same. BACKAPP_TEST_SEED repeats a seed, BACKAPP_TEST_LONG=1 runs many more rounds.
"""

import os
import shutil
import subprocess
import sys
import time
import traceback

import judge
from harness import AS_RSYNC, LONG, Failure, Program, Report, item_key, remove_tree, require, seed, workplace
from oddtree import seeded

ROUNDS = 1200 if LONG else 36
GROUP = 200 if LONG else 12
FOLDERS = [b"a", b"b", b"foo", b"bar", b"node_modules", b".git", b"cache", b"a b", b"deep.d"]
FILES = [b"a", b"foo", b"x.o", b"y.log", b"z.c", b"bar.log", b"[x]", b"f*o", b"q?", b"back\\slash", b".hidden", b"Foo",
         b"-", b"core", b"\xff\xfe.o", b"a.log.1", b"]", b"x^y", b"new\nline.o"]
ATOMS = ["a", "b", "foo", "bar", "node_modules", ".git", "cache", "*.o", "*.log", "x.*", "?", "??", "*", "f*", "*o",
         "[ab]", "[!a]*", "[^a]*", "[a-f]*", "[[:alpha:]]", "[[:upper:]]*", "[]x]", "\\[x\\]", "f\\*o", "q\\?",
         "back\\\\slash", "Foo", ".*", "a b", "*.log.[0-9]", "core", "[x]", "a*b", "*a*", "deep.d", "[[:punct:]]*"]
WHOLE = ["*", "*/", "/*", "**", "/**", "a/**", "**/foo", "foo/***", "/a/***", "**.o", "/foo/*", "a**b", "*/foo",
         "/*/foo", "**/a/**", "foo/bar/", "/foo/**/x.o", "b/**/", "**/", "f**o", "/a/*/b", "*/*/*", "***", "/cache/**",
         "?**", "a/b/***", "**/*.log", "[a-z]/**"]


def pattern(rng):
    """A random pattern of the shapes that people write, and some that they do not."""
    if rng.randrange(4) == 0:
        return rng.choice(WHOLE)
    text = rng.choice(ATOMS)
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        text = rng.choice(ATOMS + ["**"]) + "/" + text
    if rng.randrange(4) == 0:
        text = "/" + text
    if rng.randrange(5) == 0:
        text += "/"
    elif rng.randrange(12) == 0:
        text += rng.choice(["/*", "/**", "/***"])
    return text


def rules(rng):
    """A list of options; now and then the well-known shape "only these"."""
    if rng.randrange(6) == 0:
        chosen = ["--include", "*/"]
        for _ in range(rng.randrange(1, 4)):
            chosen += ["--include", pattern(rng)]
        return chosen + ["--exclude", "*"]
    chosen = []
    for _ in range(rng.choice([1, 1, 2, 3, 5, 8])):
        chosen += [rng.choice(["--exclude", "--exclude", "--include"]), pattern(rng)]
    return chosen


def make_tree(rng, root, entries):
    """A tree of short names; what is a file and what a folder mostly depends on the name."""
    os.makedirs(root, exist_ok=True)
    folders = [root]
    for _ in range(entries):
        parent = rng.choice(folders)
        folder = rng.randrange(5) < 2
        name = rng.choice(FOLDERS if folder else FILES) if rng.randrange(25) else rng.choice(FOLDERS + FILES)
        path = parent + b"/" + name
        if os.path.lexists(path) or path.count(b"/") - root.count(b"/") > 6:
            continue
        if folder:
            os.mkdir(path)
            folders.append(path)
        elif rng.randrange(15) == 0:
            os.symlink(rng.choice(FILES), path)
        else:
            with open(path, "xb") as out:
                out.write(rng.randbytes(rng.randrange(1, 60)))
    for directory, names, files in os.walk(root, topdown=False):
        for name in files + names:
            stamp = rng.randrange(10**9) * 10**9 + rng.randrange(10**9)
            os.utime(directory + b"/" + name, ns=(stamp, stamp), follow_symlinks=False)


def copy(source, target):
    subprocess.run(["cp", "-a", "--", source, target], stdin=subprocess.DEVNULL, timeout=60, check=True)


def prepare(rng, base):
    """source, and two equal destinations: empty, unrelated, or an old copy of the source with changes."""
    source, ours, peers = (os.path.join(base, name) for name in (b"source", b"ours", b"peers"))
    make_tree(rng, source, rng.randrange(10, 90))
    start = rng.randrange(4)
    if start == 0:
        os.mkdir(ours)
    elif start == 1:
        make_tree(rng, ours, rng.randrange(10, 60))
    else:
        copy(source, ours)
        make_tree(rng, ours, rng.randrange(1, 30))
        make_tree(rng, source, rng.randrange(1, 30))
    copy(ours, peers)
    return source, ours, peers


def comparable(tree, source):
    """A folder that is none in the source keeps no particular time."""
    for path, entry in tree.items():
        if entry.kind == "directory" and (path not in source or source[path].kind != "directory"):
            entry.mtime_ns = 0
    return tree


def play(rng, base, program):
    """One round. Returns False if rsync itself could not do what was asked."""
    source, ours, peers = prepare(rng, base)
    options = rules(rng)
    if rng.randrange(2):
        options = [*options, "--delete"]
    joined = [name + "=" + value for name, value in zip(options[::2], options[1::2]) if name != "--delete"]
    joined += ["--delete"] if "--delete" in options else []
    peer = subprocess.run(["rsync", "-a", "--modify-window=-1", *joined, "--", source + b"/", peers + b"/"],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    if peer.returncode != 0:
        return False
    planned = None
    if not AS_RSYNC and rng.randrange(3) == 0:
        planned = program.mirror([*options, "--force", "--dry-run"], [source], ours)
    done = program.mirror([*options, "--force"], [source], ours)
    told = "rules: %s\n" % " ".join(joined)
    require(done.code == 0, told + "the run failed: " + done.describe())
    if planned:
        require(sorted(map(item_key, planned.items())) == sorted(map(item_key, done.items())),
                told + "the dry run's plan is not what the run did")
    names = judge.snapshot(source, None, False)
    found = judge.compare(comparable(judge.snapshot(peers), names), comparable(judge.snapshot(ours), names))
    require(not found, told + "read `source` as rsync's result\n" + "\n".join(found[:15]))
    return True


def main():
    if not AS_RSYNC and not os.access(os.environ.get("BACKAPP", ""), os.X_OK):
        print("skip differential/filters: BACKAPP does not name a program")
        return 77
    if not shutil.which("rsync"):
        print("skip differential/filters: rsync, the peer, is not installed")
        return 77
    text = seed()
    report = Report()
    first = int(os.environ.get("BACKAPP_TEST_ROUND", "0"))
    with workplace() as base:
        program = Program(base)
        beyond, failures, started = 0, [], time.monotonic()
        for number in range(first, ROUNDS if not first else first + 1):
            folder = os.path.join(os.fsencode(base), b"%d" % number)
            os.mkdir(folder)
            try:
                if not play(seeded("%s/%d" % (text, number)), folder, program):
                    beyond += 1
            except Failure as problem:
                failures.append("round %d: %s" % (number, problem))
            except Exception:
                failures.append("round %d: %s" % (number, traceback.format_exc()))
            remove_tree(folder)
            if number % GROUP == GROUP - 1 or first:
                name = "differential/filters/rounds-%d-%d" % (max(first, number - GROUP + 1), number)
                if failures:
                    report.not_ok(name, "%d rounds differ\n%s" % (len(failures), "\n".join(failures[:5])))
                else:
                    report.ok(name)
                failures = []
        print("# %d rounds, %d of them beyond rsync, %.1f s" % (ROUNDS, beyond, time.monotonic() - started))
        if beyond > ROUNDS // 2 and not first:
            report.not_ok("differential/filters/compared", "rsync refused %d of %d rounds" % (beyond, ROUNDS))
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
