#!/usr/bin/env python3
"""The worker as its parent sees it: spec in, events out, messages, signals, confinement, secrets (docs/formats/worker.md)."""

import base64
import json
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time

import cli_tools
from cli_tools import BACKAPP, TIMEOUT, Place, Skip, wait_for

STUB_WORKER = os.environ.get("STUB_WORKER")
SLOW = 64 * 1024  # bytes per second at which a run of slow_place() takes a minute


class Worker:
    """A worker with the ends of its pipes; its events come through a queue."""

    def __init__(self, spec, program=(BACKAPP, "worker"), **options):
        self.process = subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
        self.events = queue.Queue()
        self.seen = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if spec is not None:
            self.send(spec)

    def read(self):
        for line in self.process.stdout:
            self.events.put(line)
        self.events.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    def send(self, message):
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def next(self):
        """The next event, None at the end."""
        line = self.events.get(timeout=TIMEOUT)
        if line is None:
            return None
        self.seen.append(json.loads(line))
        return self.seen[-1]

    def wait_for(self, **wanted):
        while event := self.next():
            if all(event.get(key) == value for key, value in wanted.items()):
                return event
        raise AssertionError(f"no event {wanted}, but {self.seen[-3:]}; {self.errors()}")

    def errors(self):
        return self.process.stderr.read().decode(errors="replace")

    def finish(self):
        """(exit code, done event); checks that the done event is the last and the only one."""
        while self.next():
            pass
        done = [event for event in self.seen if event["type"] == "done"]
        assert len(done) == 1 and self.seen[-1] is done[0], self.seen[-3:]
        return self.process.wait(TIMEOUT), done[0]

    def status(self, key):
        """A field of /proc/PID/status."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return line.split()[1]
        return None

    def nice(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[16])


def name_of(path):
    """A path as a spec has it."""
    raw = os.fsencode(path)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(raw).decode()}


def make_spec(place, limits=None, secrets=None, **options):
    spec = {
        "version": 1,
        "type": "rsync-local",
        "runId": "test-run",
        "sources": [name_of(place.src)],
        "destinations": [{"path": name_of(place.dst)}],
        "options": options,
    }
    if limits:
        spec["limits"] = limits
    if secrets:
        spec["secrets"] = secrets
    return spec


def slow_place():
    """A source that takes a minute at the rate SLOW."""
    place = Place()
    place.fill(**{f"file{number}": os.urandom(64 * 1024) for number in range(60)})
    return place


def start_slow(place, **limits):
    """A worker that is in the middle of its work."""
    worker = Worker(make_spec(place, limits={"bandwidth": SLOW, **limits}))
    worker.wait_for(type="progress")
    return worker


def check_untouched(place):
    """A cancelled first run left nothing of its own in sight."""
    seen = [path.name for path in place.dst.iterdir()] if place.dst.exists() else []
    assert all(name.startswith(".backapp") for name in seen), seen


def test_a_mirror():
    with Place() as place:
        place.fill(a="one", dir__b="two")
        with Worker(make_spec(place)) as worker:
            code, done = worker.finish()
            assert (code, done["status"]) == (0, "completed"), (code, done, worker.errors())
            kinds = [event["type"] for event in worker.seen if event["type"] not in ("progress", "warning")]
            assert kinds[0] == "stage" and kinds[-2:] == ["summary", "done"], kinds
            stats = worker.seen[-2]["stats"]["stage1"]
            assert stats["filesTransferred"] == 2 and stats["bytesTransferred"] == 6, stats
        assert (place.dst / "dir" / "b").read_text() == "two"


def test_names_of_any_bytes():
    with Place() as place:
        odd = os.fsencode(place.src) + b"/\xff\xfe"
        os.mkdir(odd)
        with open(odd + b"/in\xc3", "w") as file:
            file.write("x")
        place.src = pathlib.Path(os.fsdecode(odd))
        place.dst = pathlib.Path(os.fsdecode(os.fsencode(place.root) + b"/dst\xff"))
        with Worker(make_spec(place, items=True)) as worker:
            code, done = worker.finish()
            assert code == 0, (done, worker.errors())
            items = [event for event in worker.seen if event["type"] == "item"]
            assert {"b64": base64.b64encode(b"in\xc3").decode()} in [item["path"] for item in items], items
            assert "in\\xC3" in [item.get("pathPrintable") for item in items], items
            path = worker.seen[-2]["stats"]["stage1"]["localPath"]
            assert path == name_of(place.dst), path
        assert os.listdir(os.fsencode(place.dst) + b"/")


def test_specs_that_are_refused():
    good = {"version": 1, "type": "rsync-local", "sources": ["/nonexistent/s"], "destinations": [{"path": "/nonexistent/d"}]}
    cases = [
        (b"", "none was given"),
        (b"nonsense\n", "not valid JSON"),
        (json.dumps({**good, "version": 7}).encode() + b"\n", "version: 7"),
        (json.dumps({**good, "type": "dance"}).encode() + b"\n", "type:"),
        (json.dumps({**good, "options": {"jobs": "many"}}).encode() + b"\n", "options.jobs"),
        (json.dumps({**good, "sources": []}).encode() + b"\n", "sources"),
        (json.dumps({**good, "extra": 1}).encode() + b"\n", "extra: unknown key"),
        (b"[" * 5000 + b"\n", "nested"),
        (b" " * (1024 * 1024 + 10) + b"\n", "longer than"),
    ]
    for data, part in cases:
        done = subprocess.run([BACKAPP, "worker"], input=data, capture_output=True, timeout=TIMEOUT)
        lines = done.stdout.splitlines()
        assert len(lines) == 1 and done.returncode == 1, (part, done)
        event = json.loads(lines[0])
        assert event["type"] == "done" and event["status"] == "failed", event
        assert event["error"]["code"] == "INVALID" and part in event["error"]["message"], event


def test_errors_of_the_engine():
    with Place() as place:
        spec = make_spec(place)
        spec["sources"] = [str(place.root / "missing")]
        with Worker(spec) as worker:
            code, done = worker.finish()
            assert code == 1 and done["status"] == "failed", done
            assert "missing" in done["error"]["message"], done
        assert not place.dst.exists()


def test_a_dry_run_changes_nothing():
    with Place() as place:
        place.fill(a="one")
        with Worker(make_spec(place, dryRun=True, items=True)) as worker:
            code, done = worker.finish()
            assert code == 0, (done, worker.errors())
            assert [event["path"] for event in worker.seen if event["type"] == "item" and event["kind"] == "file"] == ["a"]
        assert not place.dst.exists()
        place.dst.mkdir()
        with Worker(make_spec(place, dryRun=True)) as worker:
            code, done = worker.finish()
            assert code == 0, (done, worker.errors())
        assert not os.listdir(place.dst)


def test_the_cancel_message():
    with slow_place() as place, start_slow(place) as worker:
        worker.send({"type": "cancel"})
        code, done = worker.finish()
        assert (code, done["status"], done["error"]["code"]) == (130, "cancelled", "CANCELLED"), done
        check_untouched(place)


def test_sigterm_and_sigint():
    for number in (signal.SIGTERM, signal.SIGINT):
        with slow_place() as place, start_slow(place) as worker:
            worker.process.send_signal(number)
            code, done = worker.finish()
            assert (code, done["status"]) == (130, "cancelled"), done
            check_untouched(place)


def test_the_end_of_input_is_the_parents_end():
    with slow_place() as place, start_slow(place) as worker:
        worker.process.stdin.close()
        code, done = worker.finish()
        assert (code, done["status"]) == (130, "cancelled"), done
        check_untouched(place)


def test_a_deaf_engine_does_not_outlive_the_parent():
    if not STUB_WORKER:
        raise Skip("no STUB_WORKER given")
    spec = {"version": 1, "type": "rsync-local", "sources": ["/proc"], "destinations": [{"path": "/nonexistent/deaf"}]}
    with Worker(spec, program=(STUB_WORKER,)) as worker:
        worker.wait_for(type="stage")
        worker.process.stdin.close()
        # It would sleep for 20 seconds; the worker ends it after 4.
        assert worker.process.wait(15) == 130
        assert "parent is gone" in worker.errors()


def test_output_that_nobody_reads():
    with slow_place() as place:
        spec = make_spec(place, limits={"bandwidth": SLOW})
        read_end, write_end = os.pipe()
        process = subprocess.Popen([BACKAPP, "worker"], stdin=subprocess.PIPE, stdout=write_end, stderr=subprocess.DEVNULL)
        try:
            os.close(write_end)
            process.stdin.write(json.dumps(spec).encode() + b"\n")
            process.stdin.flush()
            assert os.read(read_end, 1)
            os.close(read_end)
            assert process.wait(TIMEOUT) == 130
        finally:
            process.kill()
            process.wait(TIMEOUT)
            process.stdin.close()


def test_pause_and_resume():
    with Place() as place:
        place.fill(**{f"file{number}": os.urandom(16 * 1024) for number in range(64)})
        with Worker(make_spec(place, limits={"bandwidth": 512 * 1024}, jobs=1)) as worker:
            worker.wait_for(type="progress")
            worker.send({"type": "pause"})
            time.sleep(0.5)  # what was under way comes to its end
            before = sum(event["type"] == "progress" for event in list_queue(worker))
            # Two seconds' work at most, of which none is done now.
            time.sleep(3)
            after = list_queue(worker)
            assert worker.process.poll() is None and not after, (before, after)
            worker.send({"type": "limits", "bandwidth": 0})
            worker.send({"type": "resume"})
            code, done = worker.finish()
            assert (code, done["status"]) == (0, "completed"), done


def list_queue(worker):
    """The events that are there now."""
    events = []
    while not worker.events.empty():
        event = worker.next()
        if event:
            events.append(event)
    return events


def test_cancel_in_a_pause():
    with slow_place() as place, start_slow(place) as worker:
        worker.send({"type": "pause"})
        worker.send({"type": "cancel"})
        code, done = worker.finish()
        assert (code, done["status"]) == (130, "cancelled"), done


def test_limits():
    with slow_place() as place, start_slow(place, nice=7, ionice={"class": "idle"}) as worker:
        assert worker.nice() == max(os.nice(0), 7), worker.nice()
        worker.send({"type": "limits", "nice": 12})
        wait_for(lambda: worker.nice() == 12, "the new nice value")
        worker.send({"type": "limits", "bandwidth": 0})
        code, done = worker.finish()
        assert (code, done["status"]) == (0, "completed"), done


def test_odd_messages_are_noted():
    with slow_place() as place, start_slow(place) as worker:
        worker.send({"type": "credentials", "key": "hush"})
        worker.send(b"rubbish")
        worker.send(b"x" * (1024 * 1024 + 1))
        worker.send({"type": "limits", "nice": 99})
        worker.send({"type": "limits", "bandwidth": 0})
        code, _ = worker.finish()
        assert code == 0
        notes = [event["message"] for event in worker.seen if event.get("code") == "note"]
        assert sum("ignored" in note for note in notes) == 4, notes
        assert "hush" not in " ".join(notes)


def test_four_progress_lines_a_second():
    with Place() as place:
        place.fill(**{f"d{number % 50}__f{number}": "x" for number in range(2000)})
        begin = time.monotonic()
        with Worker(make_spec(place)) as worker:
            code, done = worker.finish()
            assert code == 0, done
            seconds = time.monotonic() - begin
            lines = sum(event["type"] == "progress" for event in worker.seen)
            assert lines <= 4 * (seconds + 1), (lines, seconds)


def test_the_running_worker_is_confined():
    library = cli_tools.ctypes.CDLL(None)
    if library.syscall(444, None, 0, 1) < 2:
        raise Skip("no Landlock of version 2 in this kernel")
    with slow_place() as place, start_slow(place) as worker:
        assert worker.status("NoNewPrivs") == "1"
        assert not [event for event in worker.seen if event.get("code") == "note"], worker.seen
        worker.send({"type": "cancel"})
        worker.finish()


def test_secrets_stay_secret():
    secret = "correct-horse-battery"
    with slow_place() as place:
        spec = make_spec(place, limits={"bandwidth": SLOW}, secrets={"rsyncPassword": secret})
        with Worker(spec) as worker:
            worker.wait_for(type="progress")
            for name in ("cmdline", "environ"):
                data = pathlib.Path(f"/proc/{worker.process.pid}/{name}").read_bytes()
                assert secret.encode() not in data, name
            limits = pathlib.Path(f"/proc/{worker.process.pid}/limits").read_text()
            core = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
            assert core[0][4:6] == ["0", "0"], core
            worker.send({"type": "cancel"})
            worker.finish()
            assert secret not in json.dumps(worker.seen) and secret not in worker.errors()
    done = subprocess.run(
        [BACKAPP, "worker"],
        input=json.dumps({**spec, "secrets": {"rsyncPassword": [secret]}}).encode() + b"\n",
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert b"rsyncPassword" in done.stdout and secret.encode() not in done.stdout + done.stderr, done


def test_a_killed_worker_is_a_failed_run_at_the_shell():
    with slow_place() as place:
        process = place.start("mirror", "--bwlimit", "64", place.src, place.dst)
        try:
            wait_for(lambda: cli_tools.children(process), "the worker")
            wait_for(place.dst.exists, "the destination")
            for pid in cli_tools.children(process):
                os.kill(int(pid), signal.SIGKILL)
            out, err = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 1, (process.returncode, out, err)
            assert b"SIGKILL" in out + err, (out, err)
            check_untouched(place)
        finally:
            cli_tools.end(process)


if __name__ == "__main__":
    cli_tools.run_module("worker", __import__("__main__"))
