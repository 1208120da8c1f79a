#!/usr/bin/env python3
"""No secret is ever where it can be read by others: arguments, environment, output, logs, messages, files.

Every run is watched while it goes on: the arguments and the environment of all its processes. Afterwards its output and
all files that it made on this machine are searched. Keys travel only as signatures: the requests that a proxy saw are
searched too.
"""

import base64
import os
import pathlib
import sys
import threading

from cli_tools import children, end, run_module, text
from s3_tools import BucketPlace, FaultProxy, Rule

ENCRYPTION = base64.b64encode(b"0123456789abcdefSECRETSECRETSEC!").decode()


def forms(*secrets):
    """The ways in which a secret could be written down."""
    for secret in secrets:
        raw = secret.encode()
        yield raw
        yield base64.b64encode(raw).rstrip(b"=")
        yield raw.hex().encode()
    yield base64.b64decode(ENCRYPTION)
    yield base64.b64decode(ENCRYPTION).hex().encode()


class Watched:
    """Runs the program and reads what /proc shows of its processes as long as it runs."""

    def __init__(self, place, *argv, **options):
        self.seen = bytearray()
        self.workers = 0
        process = place.start(*argv, **options)
        watcher = threading.Thread(target=self._watch, args=(process,))
        watcher.start()
        try:
            out, err = process.communicate(timeout=60)
        finally:
            end(process)
            watcher.join()
        self.code, self.out, self.err = process.returncode, text(out), text(err)

    def _watch(self, process):
        while process.poll() is None:
            # The program itself was given the keys in its environment; its children must not inherit them.
            self._read(process.pid, "cmdline")
            for pid in children(process):
                self.workers += 1
                self._read(pid, "cmdline")
                self._read(pid, "environ")

    def _read(self, pid, name):
        # Before exec a child shows its parent's environment.
        if name == "environ" and b"worker" not in self._line(pid):
            return
        try:
            found = pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            return
        if found not in self.seen:
            self.seen += found + b"\n"

    @staticmethod
    def _line(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""


def search(what, data, secrets):
    data = data if isinstance(data, bytes) else data.encode(errors="surrogateescape")
    for form in forms(*secrets):
        assert form not in data, f"{what} holds a secret: ...{data[max(0, data.find(form) - 60):data.find(form)]!r}"


def check(place, proxy, secrets, run, logs):
    search("an argument or an environment", bytes(run.seen), secrets)
    search("standard output", run.out, secrets)
    search("standard error", run.err, secrets)
    for path in place.root.rglob("*"):
        if path.is_file() and path not in logs:
            search(f"{path.relative_to(place.root)}", path.read_bytes(), secrets)
    for request in proxy.log():
        search(f"request {request.method} {request.path}", request.text(), secrets)
        search("an answer", str(request.answer_headers), secrets)


def scenes(place, proxy):
    """Command lines that go right, and command lines that fail in each layer."""
    sync = ("s3sync", "--encrypt", place.src, place.url)
    yield 0, ("-v", *sync)[1:], {}
    yield 0, ("s3sync", "--json", "-v", "--dry-run", "--encrypt", place.src, place.url), {}
    yield 0, ("two-stage", "--json", "--encrypt", place.src, place.dst, place.url + "/two"), {}
    yield 0, ("verify", "--json", "--read-back", place.url), {}
    yield 0, ("restore", "--json", place.url, "--to", place.back), {}
    yield 0, ("store", "test", "--json", place.url), {}
    yield 0, ("store", "ls", place.url), {}
    yield 1, ("s3sync", "--json", place.src, f"s3://{place.bucket}-not-there/x"), {}
    yield None, ("store", "test", place.url), {"AWS_SESSION_TOKEN": "SESSIONsession/token+SECRET=="}
    yield 1, ("s3sync", "--json", place.src, place.url), {"AWS_SECRET_ACCESS_KEY": place.server.secret_key + "WRONG"}
    yield 2, ("s3sync", "--nonsense", place.src, place.url), {}
    yield 2, ("s3sync", "--encrypt", place.src, place.url), {"BACKUP_ENCRYPTION_KEY": ENCRYPTION + "x"}


def test_nothing_shows_a_secret():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint, keep_bodies=1 << 16) as proxy:
        secrets = [place.server.secret_key, ENCRYPTION, "SESSIONsession/token+SECRET=="]
        place.environment.update(AWS_S3_ENDPOINT=proxy.endpoint, BACKUP_ENCRYPTION_KEY=ENCRYPTION, G_MESSAGES_DEBUG="all")
        place.files(20)
        workers = 0
        for code, arguments, changed in scenes(place, proxy):
            proxy.clear()
            # The first request lasts so long that the processes can be looked at.
            proxy.add(Rule("latency", nth=1, seconds=0.2))
            run = Watched(place, *arguments, env=changed)
            assert code in (None, run.code), f"{arguments}: code {run.code}, {run.out[-600:]}{run.err[-600:]}"
            workers += run.workers
            # A session token is part of a request's headers by design; nothing else ever is.
            token = "AWS_SESSION_TOKEN" in changed
            check(place, proxy, secrets[:2] if token else secrets, run, ())
            if token:
                search("output", run.out + run.err, secrets)
        assert workers > 20, "no worker was looked at"


def test_keys_of_shared_files_stay_there():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        config = place.root / "credentials"
        config.write_text(f"[mine]\naws_access_key_id = {place.server.access_key}\n"
                          f"aws_secret_access_key = {place.server.secret_key}\n")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            place.environment.pop(name)
        place.environment.update(AWS_S3_ENDPOINT=proxy.endpoint, AWS_SHARED_CREDENTIALS_FILE=str(config))
        place.files(5)
        for arguments in (("s3sync", "--json", "--profile", "mine", place.src, place.url),
                          ("verify", "--profile", "mine", place.url)):
            run = Watched(place, *arguments)
            assert run.code == 0, run.out + run.err
            check(place, proxy, [place.server.secret_key], run, (config,))


def test_what_a_server_answers_is_not_believed_to_be_harmless():
    """A message of a server that repeats what it was sent."""
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        place.files(1)
        echo = f"you said {place.server.secret_key} \x1b[31mred"
        proxy.add(Rule("status", status=403, code="AccessDenied", message=echo))
        for arguments in (("s3sync", place.src, place.url), ("store", "ls", place.url), ("store", "test", place.url)):
            run = Watched(place, *arguments)
            assert run.code == 1 and "\x1b" not in run.out + run.err, run.out + run.err


def test_a_url_with_keys_in_it_is_not_taken():
    with BucketPlace() as place:
        code, out, err = place.run("s3sync", place.src, "s3://ACCESS:SECRETSECRET@bucket/x")
        assert code == 2 and "SECRETSECRET" not in out + err, out + err
        code, out, err = place.run("s3sync", "--endpoint", "http://user:SECRETSECRET@127.0.0.1:1", place.src, place.url)
        assert code == 2 and "SECRETSECRET" not in out + err, out + err


def test_files_of_the_state_are_for_their_owner_alone():
    with BucketPlace() as place:
        place.files(3)
        place.sync(to=place.url)
        for path in place.state.rglob("*"):
            assert not os.stat(path).st_mode & 0o077 or path.is_dir(), f"{path} can be read by others"
        assert not os.stat(place.state / "backapp" / "s3").st_mode & 0o077


if __name__ == "__main__":
    run_module("secrets", sys.modules["__main__"])
