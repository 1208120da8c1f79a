"""What the tests that send odd trees to a store and get them back share: the events of a run, what a good run is, and the
modes of a test, each in a place of its own, as root or as nobody, with the S3 server if one needs it."""

import json
import os
import pathlib
import shutil
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "servers"))

from harness import LONG, Failure, Program, Report, as_nobody, require, seed, workplace
from s3_server import S3Server
from server_tools import Skip


def first(lines, count=12):
    more = ["... and %d more" % (len(lines) - count)] if len(lines) > count else []
    return "\n".join(list(lines[:count]) + more)


def run_events(program, *arguments):
    """Runs the program; its output is one JSON object a line."""
    result = program.run([program.executable, *arguments])
    for line in result.out.splitlines():
        result.events.append(json.loads(line))
    return result


def warnings_of(result):
    return [w for w in result.warnings() if w.get("code") != "note"]


def check_good(result, what):
    require(result.code == 0 and result.status() == "completed", "%s failed: %s %s"
            % (what, warnings_of(result)[:5], result.describe()))
    # Non-root cannot give files away, which is one note and no warning.
    require(not warnings_of(result), "%s warned: %s" % (what, warnings_of(result)[:3]))


def _run_mode(title, mode, play, base, text, program, server, report):
    started = time.monotonic()
    name = "differential/%s/%s" % (title, mode.name)
    os.mkdir(base)

    def perform():
        try:
            play(mode, base, "%s/%s" % (text, mode.name), program, server)
            print("# %s: %.1f s" % (name, time.monotonic() - started))
            report.ok(name)
        except Failure as problem:
            report.not_ok(name, problem)
        except Exception:
            report.not_ok(name, traceback.format_exc())
    program.environment.update(XDG_STATE_HOME=os.path.join(base, "state"))
    if mode.user and os.geteuid() == 0:
        os.chown(base, 65534, 65534)

        def child():
            program.environment.update(TMPDIR=base)
            perform()
            return 0 if report.failed == 0 else 1
        if as_nobody(child) == 0:
            report.passed += 1
        else:
            report.failed += 1
    else:
        perform()


def run_modes(title, modes, play, judges):
    """Calls play(mode, base, seed, program, server) for each mode that is asked for; returns the exit code. Modes have a
    name, rounds `short` and `long`, `bucket` and `user`. judges: programs that have to be installed."""
    executable = os.environ.get("BACKAPP", "")
    if not os.access(executable, os.X_OK):
        print("skip differential/%s: BACKAPP does not name a program" % title)
        return 77
    missing = [name for name in judges if not shutil.which(name)]
    if missing:
        print("skip differential/%s: %s, the judge, is not installed" % (title, missing[0]))
        return 77
    text = seed()
    wanted = [name for name in os.environ.get("BACKAPP_TEST_MODE", "").split(",") if name]
    modes = [m for m in modes if (m.name in wanted if wanted else (m.long if LONG else m.short) is not None)]
    report = Report()
    with workplace() as base:
        server = None
        if any(mode.bucket for mode in modes):
            try:
                server = S3Server()
            except Skip as why:
                print("# no S3 server: %s" % why, flush=True)
        try:
            executable = shutil.copy(executable, os.path.join(base, "backapp"))
            os.chmod(executable, 0o755)
            for mode in modes:
                if mode.bucket and not server:
                    report.skip("differential/%s/%s" % (title, mode.name), "the S3 server is not installed")
                    continue
                program = Program(base, executable)
                _run_mode(title, mode, play, os.path.join(base, mode.name), text, program, server, report)
        finally:
            if server:
                server.stop()
    return report.end()
