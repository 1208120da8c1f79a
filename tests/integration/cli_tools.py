"""What the tests of the command line share: a place for a case, running the program, pseudo-terminals."""

import ctypes
import errno
import fcntl
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

BACKAPP = os.environ.get("BACKAPP", str(pathlib.Path(__file__).resolve().parents[2] / "build" / "backapp"))
TIMEOUT = 60  # seconds; far beyond what a case needs, for slow machines and sanitizers


class Skip(Exception):
    """The case cannot run here."""


class Place:
    """A fresh folder with `src`, `dst` (not made yet) and a home of its own; removed at the end."""

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="backapp-cli-"))
        self.root.chmod(0o755)
        self.src = self.root / "src"
        self.dst = self.root / "dst"
        self.src.mkdir()
        self.state = self.root / "state"
        self.environment = {name: value for name, value in os.environ.items() if name != "RSYNC_PASSWORD"}
        self.environment.update(XDG_STATE_HOME=str(self.state), HOME=str(self.root), TERM="xterm", LC_ALL="C.UTF-8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)

    def fill(self, **files):
        """Writes files below src: name with __ for a slash and _ for a dot -> content."""
        for name, content in files.items():
            path = self.src / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def start(self, *argv, **options):
        """The program, running, with its output in pipes."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        environment = {**self.environment, **options.pop("env", {})}
        return subprocess.Popen([BACKAPP, *map(os.fspath, argv)], env=environment, **options)

    def run(self, *argv, **options):
        """The program, run to its end: (exit code, output, errors) as text."""
        process = self.start(*argv, **options)
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"{argv} did not end") from None
        return process.returncode, text(out), text(err)

    def good(self, *argv, **options):
        """The output of a run that has to succeed without a warning (a note is none)."""
        code, out, err = self.run(*argv, **options)
        assert code == 0 and all(line.startswith("note: ") for line in err.splitlines()), f"{argv}: code {code}, {err or out}"
        return out

    def mirror(self, *options):
        """Mirrors src to dst."""
        return self.good("mirror", *options, self.src, self.dst)


def text(data):
    return (data or b"").decode(errors="surrogateescape")


def tree(path):
    """What lies below a folder, our own files left out: {name: content, link target or None}."""
    found = {}
    base = os.fsencode(path)
    for folder, folders, files in os.walk(base):
        if folder == base:
            folders[:] = [name for name in folders if not name.startswith(b".backapp")]
            files = [name for name in files if not name.startswith(b".backapp")]
        for name in [*folders, *files]:
            whole = os.path.join(folder, name)
            relative = os.fsdecode(os.path.relpath(whole, base))
            if os.path.islink(whole):
                found[relative] = os.readlink(whole)
            elif os.path.isfile(whole):
                with open(whole, "rb") as file:
                    found[relative] = file.read()
            else:
                found[relative] = None
    return found


def everything(path):
    """Names, times and modes below a folder, our own files too: equal only if nothing at all was done."""
    found = {}
    for folder, folders, files in os.walk(path):
        for name in [".", *folders, *files]:
            info = os.lstat(os.path.join(folder, name))
            found[os.path.join(folder, name)] = (info.st_mode, info.st_ino, info.st_mtime_ns, info.st_ctime_ns)
    return found


def wait_for(condition, what):
    """Waits until condition() is true, with a bound."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def children(process):
    """The process ids of a process's children."""
    try:
        return [int(pid) for pid in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def end(process):
    """Ends a process that a failed case left behind."""
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_for_text(process, part):
    """Reads standard output until it holds `part`, with a bound; what was read."""
    seen = b""
    limit = time.monotonic() + TIMEOUT
    while part.encode() not in seen:
        ready, _, _ = select.select([process.stdout], [], [], max(0, limit - time.monotonic()))
        assert ready, f"waited in vain for {part!r}, have {seen!r}"
        data = os.read(process.stdout.fileno(), 65536)
        assert data, f"the output ended without {part!r}: {seen!r} {process.stderr.read()!r}"
        seen += data
    return text(seen)


class Terminal:
    """The program in a pseudo-terminal of a given width, all of its output in `seen`."""

    def __init__(self, place, columns, *argv, **options):
        self.seen = b""
        self.code = None
        environment = {**place.environment, **options.get("env", {})}
        try:
            self.pid, self.fd = pty.fork()
        except OSError as error:
            raise Skip(f"no pseudo-terminal can be had here: {error}") from error
        if self.pid == 0:
            try:
                fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
                os.execve(BACKAPP, [BACKAPP, *map(os.fspath, argv)], environment)
            finally:
                os._exit(127)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def read(self, until=None):
        """Reads until the output holds `until` (None: its end), with a bound."""
        limit = time.monotonic() + TIMEOUT
        while until is None or until not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, limit - time.monotonic()))
            assert ready, f"waited in vain for {until!r}, have {self.seen!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError as error:  # what a pseudo-terminal says when the other side is closed
                if error.errno != errno.EIO:
                    raise
                data = b""
            if not data:
                assert until is None, f"the output ended without {until!r}: {self.seen!r}"
                return
            self.seen += data

    def type(self, keys):
        os.write(self.fd, keys)

    def finish(self):
        """Reads to the end and returns the exit code."""
        self.read()
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code


def events(out):
    """The output of --json, each line parsed."""
    return [json.loads(line) for line in out.splitlines()]


def set_xattr(path, name, value):
    """Sets an extended attribute, or skips the case where the file system has none."""
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        raise Skip(f"no extended attributes here: {error.strerror}") from None


def as_nobody():
    """Options that run the program without privileges; skips where that cannot be."""
    if os.geteuid() != 0:
        return {}
    probe = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', BACKAPP], user=65534, group=65534, extra_groups=[], timeout=TIMEOUT, check=False
    )
    if probe.returncode != 0:
        raise Skip("another user cannot run the program here")
    return {"user": 65534, "group": 65534, "extra_groups": []}


def own_mounts():
    """Moves this process into a mount name space of its own; skips where that is not allowed."""
    library = ctypes.CDLL(None, use_errno=True)
    clone_newns, ms_rec_private = 0x00020000, 0x4000 | (1 << 18)
    if library.unshare(clone_newns) != 0 or library.mount(None, b"/", None, ms_rec_private, None) != 0:
        raise Skip(f"no mounts of our own: {os.strerror(ctypes.get_errno())}")


def main(name, cases):
    """Runs the cases, prints a line for each, and returns the exit code."""
    failed = skipped = 0
    if not os.access(BACKAPP, os.X_OK):
        print(f"not ok {name}/program: {BACKAPP} is not there: build it, or name it in BACKAPP", flush=True)
        return 1
    for case in cases:
        title = f"{name}/{case.__name__.removeprefix('test_')}"
        try:
            case()
            print(f"ok {title}", flush=True)
        except Skip as why:
            skipped += 1
            print(f"skip {title}: {why}", flush=True)
        except Exception as why:  # a broken case must not hide the others
            failed += 1
            line = why.__traceback__
            while line.tb_next:
                line = line.tb_next
            message = ascii(" ".join(str(why).split()))[1:-1]
            print(f"not ok {title}: {type(why).__name__} at line {line.tb_lineno}: {message}", flush=True)
    if failed:
        return 1
    return 77 if skipped == len(cases) else 0


def run_module(name, module):
    """main() for all test_ functions of a module."""
    sys.exit(main(name, [case for key, case in vars(module).items() if key.startswith("test_")]))
