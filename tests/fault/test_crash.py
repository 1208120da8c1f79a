#!/usr/bin/env python3
"""Kills a mirror run at its writing system calls, one after the other, and checks what is left.

After each kill `backapp mirror --recover` must succeed and leave the destination exactly as it was before the run or
exactly as it is after a whole one, metadata included; the next run must complete, also without a recovery first. The
same with a second kill while recovering. In the short form the points are spread over the run, closer in its last
part, where the commit is; with BACKAPP_TEST_LONG=1 every point of the run is taken, before the call and after it.

  test_crash.py [--variant NAME] [--at N] [--exit] [--keep]
"""

import argparse
import os
import pathlib
import sys

import faultlib
from faultlib import KILLED, LONG, NOBODY, World, even, text_of
from faultscene import Scene, Variant

MAX_PROBLEMS = 4  # a variant stops after so many, one cause usually shows at many points
ENTRY_POINTS, COMMIT_POINTS, EXIT_POINTS, AGAIN_POINTS = 25, 15, 8, 5

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("delete", ["--delete"]),
        Variant("keep", [], delete=False),
        Variant("versions", ["--delete", "--keep-versions", "30"]),
        Variant("inplace", ["--delete", "--inplace"], large=6 << 20),
        Variant("inplace-versions", ["--delete", "--inplace", "--keep-versions", "30"], large=6 << 20),
        Variant("first", ["--delete"], first=True),
        Variant("several", ["--delete"], several=True),
        # Here a number does not always mean the same call, but old or new it must be all the same.
        Variant("threads", ["--delete"], jobs=4),
        Variant("user", ["--delete", "--keep-versions", "30"], user=NOBODY),
    )
}


def point(scene, number, at_exit):
    """One kill. Returns the state found ('end' if the run was over before) and the problems with their place."""
    world = scene.world
    world.restore()
    result = world.killed_run(["--at", str(number), *(["--exit"] if at_exit else [])], scene.arguments)
    where = f"{'after' if at_exit else 'before'} call {world.last_call()}"
    if result.returncode == 0:
        state = scene.state()
        return "end", [] if state == "new" else [f"{where}: the run was complete, but: {state}"]
    if result.returncode != KILLED:
        return "failed", [f"{where}: the run failed by itself: {text_of(result)}"]
    if at_exit and number % 2:
        # Here nobody asks for a recovery: the next run has to see to it.
        state, problems = "unasked", scene.finish("unasked")
    else:
        state, problems = scene.judge()
    return state, [f"killed {where}:\n{problem}" for problem in problems]


def points(scene, numbers, at_exit):
    """Kills at each of the numbers. Returns which states were seen, by number, and the problems."""
    seen, problems = {}, []
    for number in numbers:
        state, found = point(scene, number, at_exit)
        seen[number] = state
        problems += found
        if len(problems) >= MAX_PROBLEMS:
            problems.append("stopped here")
            break
    return seen, problems


def again(scene, numbers):
    """Kills a run at each of the numbers and its recovery at several points."""
    problems, kills = [], 0
    for number in numbers:
        calls = None
        step = 0
        while len(problems) < MAX_PROBLEMS:
            scene.world.restore()
            if scene.world.killed_run(["--at", str(number)], scene.arguments).returncode != KILLED:
                break
            first = scene.world.last_call()
            if not (scene.world.dest / ".backapp").exists():
                break
            recover = ["mirror", "--recover", scene.world.dest]
            if calls is None:
                calls, result = scene.world.count(recover)
                calls = even(1, calls, 25 if LONG else AGAIN_POINTS)
                if result.returncode != 0:
                    problems.append(f"killed at {first}: --recover: {text_of(result)}")
                continue
            if step >= len(calls):
                break
            result = scene.world.killed_run(["--at", str(calls[step])], recover)
            step += 1
            kills += 1
            place = f"killed before call {first}, then while recovering before call {scene.world.last_call()}"
            if result.returncode not in (0, KILLED):
                problems.append(f"{place}: {text_of(result)}")
            problems += [f"{place}:\n{problem}" for problem in scene.judge()[1]]
    return kills, problems


def short_points(calls):
    commit = max(1, calls - calls * 4 // 10)
    return sorted(set(even(1, calls, ENTRY_POINTS)) | set(even(commit, calls, COMMIT_POINTS)))


def run_variant(variant, report, options):
    name = f"crash/{variant.name}"
    if variant.user is not None and not faultlib.AM_ROOT:
        report.skip(name, "needs root to run as another user; the other variants run as this one")
        return
    with World(f"crash-{variant.name}", variant.user) as world:
        scene = Scene(world, variant)
        problems = scene.prepare()
        report.case(f"{name}: a whole run", problems)
        if problems and (scene.new is None or options.at):
            return
        if options.at:
            state, problems = point(scene, options.at, options.exit)
            print(f"{name}: state {state}")
            report.case(f"{name}: point {options.at}", problems)
            if options.keep:
                shelf = pathlib.Path("/tmp/backapp-fault-kept")
                faultlib.remove(shelf)
                scene.world.restore()
                world.killed_run(["--at", str(options.at), *(["--exit"] if options.exit else [])], scene.arguments)
                faultlib.quiet("cp", "-a", world.top, shelf)
            return
        world.restore()
        calls, result = world.count(scene.arguments)
        if result.returncode != 0:
            report.case(f"{name}: a counted run", [text_of(result)])
            return
        before = list(range(1, calls + 1)) if LONG else short_points(calls)
        seen, problems = points(scene, before, False)
        report.case(f"{name}: killed before {len(seen)} of {calls} writing calls", problems)
        states = set(seen.values())
        if not problems:
            missing = [f"no kill left the {state} state" for state in ("old", "new") if state not in states]
            report.case(f"{name}: both states are met", missing)
        after = before if LONG else even(1, calls, EXIT_POINTS)
        seen_exit, problems = points(scene, after, True)
        report.case(f"{name}: killed after {len(seen_exit)} of {calls} writing calls", problems)
        fresh = [number for number, state in seen.items() if state == "new"]
        stale = [number for number, state in seen.items() if state == "old"]
        chosen = fresh[:: max(1, len(fresh) // (12 if LONG else 3))][: (12 if LONG else 3)] + stale[-1:]
        kills, problems = again(scene, chosen)
        report.case(f"{name}: killed again while recovering, {kills} times", problems)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=sorted(VARIANTS), action="append")
    parser.add_argument("--at", type=int, help="only this point")
    parser.add_argument("--exit", action="store_true", help="with --at: after the call")
    parser.add_argument("--keep", action="store_true", help="with --at: keep the killed state for a look")
    options = parser.parse_args()
    os.umask(0o022)
    report = faultlib.Report()
    for name in options.variant or VARIANTS:
        run_variant(VARIANTS[name], report, options)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())
