#!/usr/bin/env python3
"""Proves the tool that the other fault tests rely on: it counts every writing call of every thread and child, stops
before or after the one that is asked for, and lets calls fail; with the seccomp filter and without."""

import os
import pathlib
import subprocess
import sys
import tempfile

import faultlib
from faultlib import KILLED

# Six writing calls on D: two by the program, two by a thread, two by a child; and writes that do not count.
PROGRAM = """
import os, subprocess, sys, threading
top = sys.argv[1]
def make(name):
    fd = os.open(f"{top}/{name}", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    os.close(fd)
print("to standard output", flush=True)
r, w = os.pipe()
os.write(w, b"into a pipe")
open("/dev/null", "w").write("nowhere")
make("1")
thread = threading.Thread(target=make, args=("2",))
thread.start()
thread.join()
child = os.fork()
if child == 0:
    make("3")
    os._exit(0)
os.waitpid(child, 0)
"""


def main():
    _, killer = os.environ.get("BACKAPP"), os.environ["KILLER"]
    report = faultlib.Report()
    with tempfile.TemporaryDirectory(prefix="backapp-fault-killer-") as name:
        top = pathlib.Path(os.path.realpath(name))
        target = top / "target"

        def run(*options, command=None):
            for old in target.glob("*") if target.exists() else []:
                old.unlink()
            target.mkdir(exist_ok=True)
            program = command or [sys.executable, "-S", "-E", "-B", "-c", PROGRAM, str(target)]
            return subprocess.run(
                [killer, "--under", str(target), "--timeout", "30", *options, "--", *program],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
            )

        def files():
            return {path.name: path.read_text() for path in target.glob("*")}

        probe = run(command=["true"])
        if probe.returncode != 0:
            report.skip("killer", f"this system does not allow tracing: {probe.stderr.strip()}")
            return report.code()
        for mode in ([], ["--no-filter"]):
            label = "killer without filter" if mode else "killer"
            count = run("--count", *mode)
            wrong = [] if count.stdout.split()[-1:] == ["6"] else [f"counted {count.stdout!r} {count.stderr!r}"]
            report.case(f"{label}: counts what program, thread and child write", wrong)
            wrong = []
            for number in range(1, 7):
                for at_exit in (False, True):
                    result = run("--at", str(number), *(["--exit"] if at_exit else []), *mode)
                    done = number if at_exit else number - 1
                    expected = {str(i + 1): "x" if done > 2 * i + 1 else "" for i in range(3) if done > 2 * i}
                    if result.returncode != KILLED or files() != expected:
                        wrong.append(f"at {number} exit={at_exit}: {result.returncode}, {files()} is not {expected}")
            report.case(f"{label}: kills before and after each call", wrong)
            result = run("--at", "2", "--fail", "ENOSPC", *mode)
            wrong = [] if result.returncode == 1 and "No space left" in result.stderr and files() == {"1": ""} else [
                f"{result.returncode} {result.stderr} {files()}"
            ]
            report.case(f"{label}: lets a call fail", wrong)
            command = ["sh", "-c", f"cd {target}; mkdir a; mkdir b; rmdir a b; mkdir c; exit 7"]
            result = run("--at", "2", "--fail", "EDQUOT", "--sticky", *mode, command=command)
            wrong = [] if result.returncode == 7 and not files() and result.stderr.count("quota") == 2 else [
                f"{result.returncode} {result.stderr}"
            ]
            (target / "a").rmdir() if (target / "a").exists() else None
            report.case(f"{label}: lets all that take space fail from a call on", wrong)
            hook = f"ls {target} | wc -l >> {top}/hook"
            result = run("--stop", "1,3,5", "--hook", hook, *mode)
            seen = (top / "hook").read_text().split()
            (top / "hook").unlink()
            wrong = [] if result.returncode == 0 and seen == ["0", "1", "2"] and len(files()) == 3 else [f"hook: {seen}"]
            report.case(f"{label}: stops for a hook and goes on", wrong)
    return report.code()


if __name__ == "__main__":
    sys.exit(main())
