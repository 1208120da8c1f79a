"""What the differential tests share: running the program under test, reading its events, reporting cases, file systems.

BACKAPP names the program. With BACKAPP_AS_RSYNC=1 the real rsync does the mirroring instead: that tests the judges,
not the program, and everything that rsync does not have (items, kept versions, exact link groups) is not looked at.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

AS_RSYNC = os.environ.get("BACKAPP_AS_RSYNC") == "1"
LONG = os.environ.get("BACKAPP_TEST_LONG") == "1"
TIMEOUT = 300
_KEEP = os.environ.get("BACKAPP_TEST_KEEP") == "1"


@dataclass
class Result:
    """One run of the program: exit code, error output, and its events if they were asked for."""

    code: int
    out: bytes
    err: str
    events: list = field(default_factory=list)

    def of_type(self, kind):
        return [event for event in self.events if event.get("type") == kind]

    def items(self):
        return [event for event in self.of_type("item")]

    def warnings(self):
        return self.of_type("warning")

    def status(self):
        done = self.of_type("done")
        return done[-1].get("status") if done else None

    def number(self, key):
        """A figure of the summary, wherever it stands in it; None if it does not."""
        def find(value):
            if isinstance(value, dict):
                if isinstance(value.get(key), (int, float)):
                    return value[key]
                for inner in value.values():
                    found = find(inner)
                    if found is not None:
                        return found
            return None
        summaries = self.of_type("summary")
        return find(summaries[-1]) if summaries else None

    def describe(self):
        return "exit %d, stderr %r, last events %s" % (self.code, self.err[-600:], self.events[-3:])


def event_path(event):
    """The bytes of an event's path."""
    path = event.get("path")
    if isinstance(path, dict):
        return base64.b64decode(path["b64"])
    return os.fsencode(path) if path is not None else b""


def item_key(event):
    """An item without what is only there to be read by people."""
    rest = {k: v for k, v in event.items() if k not in ("path", "pathPrintable", "version", "runId", "time")}
    return event_path(event), json.dumps(rest, sort_keys=True)


class Program:
    """Runs `backapp` (or the stand-in) with an environment of its own."""

    def __init__(self, base, executable=None):
        self.executable = executable or os.environ.get("BACKAPP", "")
        self.environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "HOME": base,
                            "XDG_STATE_HOME": os.path.join(base, "state"), "TMPDIR": base}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS", "BACKAPP_TEST_MARK"):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def run(self, arguments, timeout=TIMEOUT):
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=self.environment, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Result(process.returncode, out, err.decode("utf-8", "backslashreplace"))

    def mirror(self, options, sources, destination, plain=False):
        """`backapp mirror` with these options (a list); with --json and -v unless plain."""
        sources = [os.fsencode(s) for s in sources]
        if AS_RSYNC:
            return self.run(rsync_command(options, sources, os.fsencode(destination)))
        command = [self.executable, "mirror", *options]
        if not plain:
            command += ["--json", "-v"]
        result = self.run([*command, "--", *sources, os.fsencode(destination)])
        if not plain:
            for line in result.out.splitlines():
                result.events.append(json.loads(line))
        return result


def rsync_command(options, sources, destination):
    """What rsync takes for the same wish; options that it does not have are left out."""
    command = ["rsync", "-aHAXS", "--numeric-ids", "--modify-window=-1", "--exclude=/deep-*", "--exclude=/.backapp*",
               "--filter=-x trusted.SGI_ACL_*", "--filter=-x system.*"]
    pending = iter(options)
    for option in pending:
        if option in ("--jobs", "--max-delete", "--keep-versions"):
            next(pending)
        elif option == "--no-hard-links":
            command[1] = "-aAXS"
        elif option in ("--exclude", "--include"):
            command.append(os.fsencode(option) + b"=" + os.fsencode(next(pending)))
        elif option in ("--delete", "--checksum", "--inplace", "--one-file-system", "--dry-run"):
            command.append(option)
    if len(sources) == 1:
        sources = [sources[0] + b"/"]
    return command + ["--", *sources, destination + b"/"]


class Report:
    """Prints one line a case and knows how the script shall end."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def ok(self, name):
        self.passed += 1
        print("ok %s" % name, flush=True)

    def not_ok(self, name, why):
        self.failed += 1
        text = str(why).encode("ascii", "backslashreplace").decode()
        text = re.sub(r"((?:\\x..){1,2}|.|d/)\1{20,}", r"\1...", text)  # long names are long by repetition
        lines = text.splitlines() or ["no reason given"]
        print("not ok %s: %s" % (name, lines[0]), flush=True)
        for line in lines[1:]:
            print("    " + line, flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print("skip %s: %s" % (name, why), flush=True)

    def end(self):
        if self.failed:
            return 1
        return 0 if self.passed else 77


class Failure(Exception):
    """A case that did not hold; its text says why."""


def require(condition, text):
    if not condition:
        raise Failure(text)


def seed():
    """The seed of this run: BACKAPP_TEST_SEED, or a new one; always printed."""
    value = os.environ.get("BACKAPP_TEST_SEED") or str(secrets.randbelow(10**9))
    print("# seed %s (repeat with BACKAPP_TEST_SEED=%s)" % (value, value), flush=True)
    return value


def remove_tree(path):
    """Removes what these tests make: paths of any length, folders without permissions."""
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "u+rwX", "--", path], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=TIMEOUT, check=False)
    subprocess.run(["rm", "-rf", "--", path], stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=False)


@contextlib.contextmanager
def workplace():
    """A fresh directory that is removed at the end (BACKAPP_TEST_KEEP=1: kept after a failure)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a timeout cleans up, too
    base = tempfile.mkdtemp(prefix="backapp-differential-")
    os.chmod(base, 0o755)
    failed = True
    try:
        yield base
        failed = False
    finally:
        if failed and _KEEP:
            print("# kept %s" % base, flush=True)
        else:
            remove_tree(base)


def _quiet(command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)


@contextlib.contextmanager
def mounted(kind, place):
    """Mounts a fresh file system at `place` (made here) and gives None, or gives why it cannot."""
    problem, image = None, place + ".img"
    if os.geteuid() != 0:
        problem = "only root mounts file systems"
    elif kind != "tmpfs" and not shutil.which("mkfs." + kind, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        problem = "mkfs.%s is not installed" % kind
    active = False
    os.makedirs(place, exist_ok=True)
    try:
        if problem is None and kind == "tmpfs":
            done = _quiet(["mount", "-t", "tmpfs", "-o", "size=256m,mode=0755", "backapp-test", place])
            active = done.returncode == 0
        elif problem is None:
            with open(image, "xb") as out:
                out.truncate(400 << 20)
            quiet = {"ext4": ["-q", "-F"], "xfs": ["-q", "-f"], "btrfs": ["-q", "-f"]}[kind]
            environment = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
            made = _quiet(["env", "PATH=" + environment, "mkfs." + kind, *quiet, image])
            done = _quiet(["mount", "-o", "loop", image, place]) if made.returncode == 0 else made
            active = done.returncode == 0
        if problem is None and not active:
            problem = "cannot mount %s: %s" % (kind, done.stderr.decode(errors="replace").strip())
        yield problem
    finally:
        if active and _quiet(["umount", place]).returncode != 0:
            _quiet(["umount", "-l", place])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(image)


def as_nobody(action):
    """Runs action() in a child process as user and group 65534; returns its exit status. Output goes through."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            code = action()
        except BaseException as problem:  # the child must never return into the parent's code
            print("# child: %r" % problem, flush=True)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
