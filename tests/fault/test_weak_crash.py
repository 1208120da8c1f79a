#!/usr/bin/env python3
"""Kills a mirror run to exFAT and NTFS at its writing system calls: files and sidecar must go together.

After each kill `backapp mirror --recover` must leave mirror and sidecar as they were before the run, or as they are after
a whole one; the next run must complete, and then have nothing to do. With BACKAPP_TEST_LONG=1 every point is taken.
"""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import faultlib
from cli_tools import Skip
from faultlib import KILLED, LONG, World, even, text_of
from weakfs import Drive, whole

ODD = b"odd-\xff\xfe\n name"  # what no weak file system takes
POINTS, COMMIT_POINTS = 6, 16
COMMIT_PART = 0.5  # how much of a run's calls come at and after the commit, roughly


class Scene:
    """Two sources, and a drive whose mirror goes from one to the other."""

    def __init__(self, world, drive):
        self.world, self.dst = world, drive.point / "mirror"
        self.old, self.new = world.top / "old", world.top / "new"
        faultlib.build_old(self.old, 100_000)
        faultlib.build_old(self.new, 100_000)
        faultlib.change(self.new)
        for source in (self.old, self.new):
            os.unlink(os.fsencode(source) + b"/" + ODD)
        self.states = {"old": faultlib.capture(self.old), "new": faultlib.capture(self.new)}

    def arguments(self, source):
        return ["mirror", "--delete", "--force", "--jobs", "1", source, self.dst]

    def go(self, source):
        result = self.world.run(self.arguments(source))
        assert result.returncode == 0, text_of(result)
        return result.stdout.decode()

    def state(self):
        """'old', 'new', or what is wrong with both."""
        found = whole(self.dst)
        told = []
        for name, expected in self.states.items():
            problems = faultlib.differences(expected, found)
            if not problems:
                return name
            told.append(f"not {name}: " + "; ".join(problems[:3]))
        return "\n".join(told)

    def point(self, number):
        """One kill. Problems as texts, and the state that it left."""
        self.go(self.old)
        result = self.world.killed_run(["--at", str(number), "--under", self.dst], self.arguments(self.new))
        where = f"killed before call {self.world.last_call()}"
        if result.returncode not in (0, KILLED):
            return [f"{where}: the run failed by itself: {text_of(result)}"], "failed"
        if number % 4 != 3:  # else the next run has to see to it
            recovery = self.world.run(["mirror", "--recover", self.dst])
            if recovery.returncode != 0:
                return [f"{where}: no recovery: {text_of(recovery)}"], "failed"
            state = self.state()
            if state not in self.states:
                return [f"{where}: {state}"], "mixed"
        else:
            state = "unasked"
        self.go(self.new)
        problems = [] if self.state() == "new" else [f"{where}: after the next run: {self.state()}"]
        again = self.go(self.new)
        if "created 0, changed 0, deleted 0" not in again:
            problems.append(f"{where}: the run after the next one did not end with nothing to do: {again}")
        return problems, state


def judge(kind):
    """Problems, one a text."""
    with World("weak") as world, Drive(world.top, kind) as drive:
        scene = Scene(world, drive)
        scene.go(scene.old)
        if scene.state() != "old":
            return [f"the first run: {scene.state()}"]
        calls, _ = world.count(scene.arguments(scene.new), ["--under", scene.dst])
        if scene.state() != "new":
            return [f"a whole run: {scene.state()}"]
        late = int(calls * COMMIT_PART)
        numbers = sorted({*even(1, late, POINTS), *even(late, calls, COMMIT_POINTS)})
        problems, seen = [], set()
        for number in range(1, calls + 1) if LONG else numbers:
            found, state = scene.point(number)
            problems += found
            seen.add(state)
            if len(problems) >= 4:
                break
        if not problems and not {"old", "new"} <= seen:
            problems.append(f"only {sorted(seen)} was seen in {calls} calls: the points are not where they should be")
        return problems


def main():
    faultlib.need_program()
    report = faultlib.Report()
    for kind in ("exfat", "ntfs"):
        try:
            report.case(f"weak_crash/{kind}", judge(kind))
        except Skip as why:
            report.skip(f"weak_crash/{kind}", why)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())
