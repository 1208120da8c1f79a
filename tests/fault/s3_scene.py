"""What the fault tests of stores share: a source with an old and a new state, a bucket behind the fault proxy, and the
judgement of what a run left. Whatever happens, no object may be wrong, nothing that the old state had may be lost, the
newest restore point must be readable, and a run without faults must complete: then the bucket, read by an independent
client, is the source, and a restore gives an equal tree.

Cases run side by side, each with a bucket and a proxy of its own; a server is shared."""

import atexit
import concurrent.futures
import os
import pathlib
import random
import shutil
import stat
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "servers"), str(HERE.parent / "integration")]

from cli_tools import BACKAPP, Place, Skip, children, events, text  # noqa: E402, F401
from fault_proxy import FaultProxy  # noqa: E402, F401
from s3_server import S3Server  # noqa: E402

LONG = os.environ.get("BACKAPP_TEST_LONG") == "1"
LIMIT = 150  # seconds of one run of the program
PREFIX = "backup/"
OWN = (".backapp/", ".trash/")
PART = 8 << 20  # larger files go in parts
EPOCH = 1_700_000_000_123_456_789
THREADS = 4

_server = []
_lock = threading.Lock()


def server():
    """The script's S3 server, started when it is first asked for; a skip if it is not installed."""
    with _lock:
        if not _server:
            _server.append(S3Server())
            atexit.register(_server[0].stop)
    return _server[0]


class Run:
    """A run that has ended: exit code, output, the events of --json."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        self.events = events(out) if out.startswith('{"') else []

    def __repr__(self):
        said = [event for event in self.events if event["type"] in ("warning", "done")]
        return f"code {self.code}, {said[-6:] or self.out[-600:]} {self.err[-600:]}"

    def of(self, kind):
        return [event for event in self.events if event["type"] == kind]

    @property
    def message(self):
        """What the run's end says went wrong."""
        done = self.of("done")
        return ((done[-1].get("error") or {}).get("message") or "") if done else ""


class Scene(Place):
    """A source in its old state. A bucket is made, and a proxy set before it, with `bucket`."""

    def __init__(self, *, bucket=True, big=True, seed=1, versioning=False):
        super().__init__()
        self.random = random.Random(seed)
        self.proxy = None
        self.killer = None
        self.back = self.root / "back"
        for name in list(self.environment):
            if name.startswith(("AWS_", "S3_", "BACKUP_")):
                del self.environment[name]
        self.environment.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null",
                                AWS_EC2_METADATA_DISABLED="true")
        self.big = big
        self.old_state()
        self.old = snapshot(self.src)
        self.new = None
        self.url = self.root / "store"
        if bucket:
            self.server = server()
            self.proxy = FaultProxy(self.server.plain_endpoint)
            self.bucket = self.server.new_bucket(versioning=versioning)
            self.url = f"s3://{self.bucket}/{PREFIX[:-1]}"
            self.environment.update(self.server.variables(), AWS_S3_ENDPOINT=self.proxy.endpoint)

    def __exit__(self, *why):
        if self.proxy:
            self.proxy.stop()
        super().__exit__(*why)

    # ---- the source

    def write(self, name, content):
        path = self.src / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def set_times(self, shift, unchanged=()):
        """All times to what the name says, folders last; of those unchanged without the shift."""
        for folder, folders, files in os.walk(self.src, topdown=False):
            for name in files + folders:
                path = os.path.join(folder, name)
                at = EPOCH + ((0 if name in unchanged else shift) + len(name)) * 1_000_000_007
                os.utime(path, ns=(at, at), follow_symlinks=False)
        os.utime(self.src, ns=(EPOCH, EPOCH + shift))

    def old_state(self):
        self.write("a.txt", b"old text")
        self.write("sub/b.bin", self.random.randbytes(200_000))
        self.write("sub/deep/empty", b"")
        self.write("odd & \u00fc/name +%.txt", b"odd")
        for number in range(4):
            self.write(f"f{number}", b"%d" % number * 100)
        if self.big:
            self.write("big", self.random.randbytes(PART + 1_000_000))
        os.symlink("a.txt", self.src / "link")
        os.link(self.src / "f2", self.src / "second")
        (self.src / "bare").mkdir(mode=0o700)
        self.set_times(0)

    def new_state(self):
        """Changes the source: other contents, some gone, some new, one only with another mode, one with another time."""
        self.write("a.txt", b"new text, longer")
        self.write("sub/b.bin", self.random.randbytes(150_000))
        self.write("g/new", b"new")
        (self.src / "f0").unlink()
        (self.src / "f1").unlink()
        (self.src / "f3").chmod(0o600)
        if self.big:
            with open(self.src / "big", "r+b") as file:
                file.seek(PART + 5000)
                file.write(b"changed")
        self.set_times(100, ("f2", "f3", "second", "empty"))
        self.new = snapshot(self.src)

    # ---- runs

    def json(self, command, *arguments, direct=False, **env):
        """A run with --json; direct: not through the proxy."""
        if direct and self.proxy:
            env["AWS_S3_ENDPOINT"] = self.server.plain_endpoint
        process = self.start(command, "--json", *arguments, env=env)
        self.killer = process
        try:
            out, err = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"{command} did not end") from None
        return Run(process.returncode, text(out), text(err))

    def worker(self):
        """The process that does the work of the run that goes on, or None."""
        found = children(self.killer) if self.killer else []
        return found[0] if found else None

    def sync(self, *options, **how):
        return self.json("s3sync", "--delete", *options, self.src, self.url, **how)

    def restore(self, *options, **how):
        return self.json("restore", *options, self.url, "--to", self.back, **how)

    def first(self):
        """The old state gets into the store without any fault."""
        completed(self.sync(direct=True))

    # ---- what the store holds, as another client sees it

    def stored(self):
        """{key: content} of all objects below the prefix, ours too."""
        if not self.proxy:
            base = pathlib.Path(self.url)
            return {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*")
                    if path.is_file() and not path.relative_to(base).parts[0].startswith(".backapp-store")}
        with self.server.client() as client:
            return {key[len(PREFIX):]: client.get(self.bucket, key).body
                    for key, _, _ in client.listing(self.bucket, PREFIX)}

    def check_right(self, below=""):
        """The objects are the source, and a restore gives an equal tree."""
        wanted = contents(snapshot(self.src))
        found = {key[len(below):]: content for key, content in self.stored().items() if key.startswith(below)}
        found = {key: content for key, content in found.items() if not key.startswith(OWN)}
        same(found, wanted, "objects")
        shutil.rmtree(self.back, ignore_errors=True)
        url = f"{self.url}/{below[:-1]}" if below else self.url
        completed(self.json("restore", url, "--to", self.back, direct=True))
        same(snapshot(self.back), snapshot(self.src), "restored")

    def check_safe(self, partial=False):
        """After a run that did not complete: no wrong object, nothing lost, the newest point is the old or the new state;
        after a partial one, of each file the old or the new content."""
        old, new = contents(self.old), contents(self.new or self.old)
        stored = self.stored()
        for key, content in stored.items():
            if not key.startswith(OWN):
                assert content in (old.get(key), new.get(key)), f"wrong object {key}: {len(content)} bytes"
        if self.new is None:  # the first run: nothing was there before
            return
        assert any(key.startswith(".backapp/tree/roots/") for key in stored), "the restore point is gone"
        kept = set(stored.values())
        for key, content in old.items():
            assert content in kept, f"{key} is lost"
        shutil.rmtree(self.back, ignore_errors=True)
        run = self.restore(direct=True)
        found = snapshot(self.back)
        assert run.code == 0, f"{run}"
        if partial:
            for name, content in contents(found).items():
                assert content in (old.get(name), new.get(name)), f"the newest point has another {name}"
        elif found != self.new:
            same(found, self.old, "the newest point")

    def judge(self, run, *words, may_complete=True, below=""):
        """A run under faults: it is right, or ended with one clear error and did no harm. Then one without faults."""
        if run.code == 0:
            assert may_complete, f"it completed: {run}"
        else:
            clear_error(run, *words)
            self.check_safe(partial=run.code == 3)
        if self.proxy:
            self.proxy.replace()
        if run.code != 0:
            completed(self.sync(direct=True))
        self.check_right(below)


def completed(run):
    """A note is no warning."""
    warned = [event for event in run.of("warning") if event["code"] != "note"]
    assert run.code == 0 and run.of("done")[-1]["status"] == "completed" and not warned, f"{run}"
    return run


def clear_error(run, *words):
    """It failed with one message of one line, which has one of the words, and did not crash."""
    assert run.code in (1, 3), f"{run}"
    said = run.message or " ".join(event.get("message", "") for event in run.of("warning"))
    assert said and "\n" not in said and len(said) < 1000, f"no clear message: {run}"
    for bad in ("signal", "crash", "INTERNAL", "assert"):
        assert bad not in said, said
    for word in words:
        assert any(part in said for part in word.split("|")), f"{word!r} is not in {said!r}"


def same(found, wanted, what):
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            short = [str(side.get(name, "not there"))[:160] for side in (found, wanted)]
            raise AssertionError(f"{what}: {name!r} is {short[0]}, not {short[1]}")


def snapshot(path):
    """All that a restore has to give back: {path: (mode, times, content or target, other names)}."""
    found, inodes = {}, {}
    for folder, folders, files in os.walk(path):
        for name in [*files, *folders, *([""] if folder == str(path) else [])]:
            whole = os.path.join(folder, name) if name else folder
            info = os.lstat(whole)
            what = None
            if stat.S_ISLNK(info.st_mode):
                what = os.readlink(whole)
            elif stat.S_ISREG(info.st_mode):
                what = pathlib.Path(whole).read_bytes()
                inodes.setdefault(info.st_ino, []).append(os.path.relpath(whole, path))
            found[os.path.relpath(whole, path)] = [info.st_mode, info.st_mtime_ns, what, ()]
    for names in inodes.values():
        for name in names:
            found[name][3] = tuple(sorted(names))
    return found


def contents(taken):
    """{name: content} of the files of a snapshot."""
    return {name: entry[2] for name, entry in taken.items() if stat.S_ISREG(entry[0])}


# ---- running cases

def run_case(name, case, *arguments):
    """The line for a case: (result, text)."""
    began = time.monotonic()
    try:
        case(*arguments)
        return "ok", f"ok {name}" + (f" # {time.monotonic() - began:.1f} s" if os.environ.get("FAULT_TIMES") else "")
    except Skip as why:
        return "skip", f"skip {name}: {why}"
    except Exception as why:  # a broken case must not hide the others
        line = why.__traceback__
        places = []
        while line:
            places.append(str(line.tb_lineno))
            line = line.tb_next
        message = ascii(" ".join(str(why).split()))[1:-1]
        return "not ok", f"not ok {name}: {type(why).__name__} at lines {', '.join(places[1:])}: {message[:2500]}"


def run_all(title, together, alone=()):
    """Runs cases (name, function, arguments...), those `together` side by side, prints a line for each and returns the
    exit code. A word on the command line chooses the cases whose names have it."""
    if not os.access(BACKAPP, os.X_OK):
        print(f"not ok {title}/program: {BACKAPP} is not there: build it, or name it in BACKAPP", flush=True)
        return 1
    results = []

    def wanted(cases):
        return [(f"{title}/{case[0]}", *case[1:]) for case in cases
                if len(sys.argv) < 2 or any(word in case[0] for word in sys.argv[1:])]

    def show(result):
        results.append(result[0])
        print(result[1], flush=True)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run_case, *case) for case in wanted(together)]):
            show(future.result())
    for case in wanted(alone):
        show(run_case(*case))
    if "not ok" in results:
        return 1
    return 77 if results and set(results) == {"skip"} else 0
