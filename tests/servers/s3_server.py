#!/usr/bin/env python3
"""A real S3 server for tests: Ceph's radosgw with one monitor and one store, on loopback, in a fresh directory.

In Python:

    with S3Server() as server:
        bucket = server.new_bucket()
        run_something(env=server.env())

At the shell, or around a test program, which then finds everything in its environment:

    s3_server.py start DIR [options]      and  . DIR/env
    s3_server.py restart DIR | kill-gateway DIR | stop DIR
    s3_server.py run [options] -- COMMAND [ARGUMENT...]

It needs no root, no systemd, and two to three seconds; several may run at once. All ports are free ones. Daemons end with
stop(), and if the process that made the object dies without it, a guard (a shell that waits for the end of a pipe)
stops them. Started by `start`, they run until `stop`. One thread uses an object.
"""

import argparse
import json
import os
import pathlib
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from s3_client import S3Client
from server_tools import DEADLINE, Skip, end_with, free_ports, listens, program, runs_with, wait_until

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "openssl")
CLASSES = ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE", "REDUCED_REDUNDANCY")
# Below this name a bucket may stand as a virtual host. A certificate for *.localhost would not do: a wildcard needs
# two more labels for most clients.
DOMAIN = "s3.localhost"
REGION = "us-east-1"  # any is accepted
DAEMONS = ("rgw", "osd", "mon")  # in the order in which they end
GIB = 1 << 30


class S3Server:
    """A server that has started. Options:

    store         "memstore" (RAM, 2.1 times what is stored) or "bluestore" (a sparse file; survives crash_store)
    store_bytes   how much fits; beyond 95 % a write is answered 408 after 30 s
    tls           whether env() names the TLS endpoint; both listen always
    max_requests  more than this at once are answered 503 SlowDown
    fast_lc       seconds that a day of a lifecycle rule lasts
    directory     where everything lies (must not exist); fresh below TMPDIR otherwise
    keep          leave the directory there at the end, for its logs
    """

    def __init__(self, directory=None, *, store="memstore", store_bytes=0, tls=False, max_requests=0, fast_lc=0, keep=False,
                 guard=True):
        self.tools = {name: program(name) for name in PROGRAMS}
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="backapp-s3-") + "/s3").absolute()
        self.own_parent = directory is None
        self.options = {"store": store, "bytes": store_bytes or (4 * GIB if store == "memstore" else 64 * GIB), "tls": tls,
                        "max_requests": max_requests, "fast_lc": fast_lc}
        self.keep = keep
        self.access_key = "TEST" + secrets.token_hex(8).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self.region = REGION
        self.guard = None
        self.with_guard = guard
        self.start()

    @classmethod
    def attach(cls, directory):
        """The object for a server that `start` started in a directory."""
        self = cls.__new__(cls)
        self.directory = pathlib.Path(directory).absolute()
        try:
            state = json.loads((self.directory / "state.json").read_text())
        except OSError as why:
            raise FileNotFoundError(f"no S3 server was started in {directory}") from why
        self.tools = {name: program(name) for name in PROGRAMS}
        self.own_parent = False
        self.keep = False
        self.guard = None
        self.with_guard = False
        self.region = REGION
        for name, value in state.items():
            setattr(self, name, value)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # ---- what it is reached by

    @property
    def endpoint(self):
        """For path style, as env() gives it."""
        return self.tls_endpoint if self.options["tls"] else self.plain_endpoint

    @property
    def plain_endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def tls_endpoint(self):
        return f"https://127.0.0.1:{self.tls_port}"

    @property
    def virtual_endpoint(self):
        """For virtual-host style. Clients on libcurl reach every name below .localhost; others may need help."""
        scheme, port = ("https", self.tls_port) if self.options["tls"] else ("http", self.port)
        return f"{scheme}://{DOMAIN}:{port}"

    @property
    def ca(self):
        """The file with the certificate that TLS clients have to trust."""
        return self.directory / "ca.crt"

    def env(self, **changed):
        """The environment of this process with all that a client needs, and nothing of the user's own set-up."""
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "RCLONE_"))}
        return {**keep, **self.variables(), **changed}

    def variables(self):
        """What env() adds."""
        found = {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_S3_ENDPOINT": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            # Newer clients send checksum trailers otherwise, which this server refuses.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "S3_TEST_ENDPOINT": self.plain_endpoint,
            "S3_TEST_TLS_ENDPOINT": self.tls_endpoint,
            "S3_TEST_VIRTUAL_ENDPOINT": f"http://{DOMAIN}:{self.port}",
            "S3_TEST_VIRTUAL_TLS_ENDPOINT": f"https://{DOMAIN}:{self.tls_port}",
            "S3_TEST_CA": str(self.ca),
            "S3_TEST_DIR": str(self.directory),
        }
        if self.options["tls"]:
            found["AWS_CA_BUNDLE"] = str(self.ca)
        return found

    def client(self, **options):
        """A plain client with this server's keys; see S3Client."""
        options = {"keys": (self.access_key, self.secret_key), "region": REGION, "ca": self.ca, **options}
        endpoint = options.pop("endpoint", self.virtual_endpoint if options.get("virtual") else self.endpoint)
        return S3Client(endpoint, **options)

    def new_bucket(self, name=None, *, versioning=False, lock=False):
        """Makes a bucket and returns its name, which nobody else has."""
        name = name or "test-" + secrets.token_hex(6)
        with self.client() as client:
            client.good("PUT", name, headers={"x-amz-bucket-object-lock-enabled": "true"} if lock else None)
            if versioning:
                body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
                client.good("PUT", name, query={"versioning": ""}, body=body)
        return name

    # ---- starting and stopping

    def start(self):
        """Makes a new, empty server in the directory. Another try if one of the ports was taken meanwhile."""
        for attempt in (0, 1, 2):
            # Outside of what is undone: another server may run there.
            self.directory.mkdir(parents=True, mode=0o700)
            try:
                self._start_once()
                return self
            except BaseException as why:
                logs = self._logs()
                self.stop()
                if attempt == 2 or not isinstance(why, AssertionError) or "in use" not in logs:
                    if isinstance(why, AssertionError):
                        raise AssertionError(f"{why}; last lines of its logs: {logs}") from why
                    raise
        return self

    def _start_once(self):
        self.port, self.tls_port, *mon_ports = free_ports(4)
        self.mon_address = f"[v2:127.0.0.1:{mon_ports[0]},v1:127.0.0.1:{mon_ports[1]}]"
        for name in ("mon", "osd", "log"):
            (self.directory / name).mkdir()
        self._watch()
        certificates = threading.Thread(target=self._make_certificates)
        certificates.start()
        try:
            self._make_store()
        finally:
            certificates.join()
        self._make_user()
        self._spawn_gateway()
        (self.directory / "state.json").write_text(json.dumps(
            {name: getattr(self, name) for name in ("port", "tls_port", "access_key", "secret_key", "options")}))
        (self.directory / "env").write_text(
            "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.variables().items()))

    def _watch(self):
        """Starts the guard, which stops everything once this process is gone."""
        if not self.with_guard or self.guard:
            return
        command = [sys.executable, os.path.abspath(__file__), "stop", str(self.directory)]
        script = f"read -r _; {shlex.join(command)}"
        if self.own_parent:
            script += f"; rmdir {shlex.quote(str(self.directory.parent))}"
        self.guard = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL, start_new_session=True, cwd="/")

    def stop(self):
        """Ends all daemons and removes the directory. May be called twice."""
        # SIGKILL: asked politely, a memstore first writes all that it holds to disk.
        for name in DAEMONS:
            self._end(name)
        if self.guard:
            self.guard.kill()
            self.guard.wait()
            self.guard.stdin.close()
            self.guard = None
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)
            if self.own_parent:
                shutil.rmtree(self.directory.parent, ignore_errors=True)

    def kill_gateway(self):
        """kill -9 of the gateway: connections are reset, what was acknowledged stays."""
        self._end("rgw")

    def restart_gateway(self):
        """Kills the gateway if it runs and starts it again at the same ports (0.2 s)."""
        self._end("rgw")
        self._spawn_gateway()

    def crash_store(self):
        """kill -9 of everything, as if the machine lost power. With bluestore, restart() has all that was acknowledged."""
        for name in DAEMONS:
            self._end(name)

    def restart(self):
        """Starts again whatever does not run."""
        if not self._runs("mon"):
            self._spawn("mon")
        if not self._runs("osd"):
            self._tool("ceph", "osd", "down", "0", check=False)
            self._spawn_store()
        if not self._runs("rgw"):
            self._spawn_gateway()

    # ---- administration

    def admin(self, *arguments):
        """radosgw-admin with these arguments; its output."""
        return self._tool("radosgw-admin", *arguments)

    def set_quota(self, *, max_objects=-1, max_bytes=-1, enabled=True):
        """Limits what all buckets of the user may hold: more is answered 403 QuotaExceeded at once."""
        scope = ("--quota-scope=user", "--uid=test")
        self.admin("quota", "set", *scope, f"--max-objects={max_objects}", f"--max-size={max_bytes}")
        self.admin("quota", "enable" if enabled else "disable", *scope)

    def add_user(self, name):
        """Another user without rights to anybody's buckets: (access key, secret key)."""
        keys = ("TEST" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))
        self.admin("user", "create", f"--uid={name}", f"--display-name={name}", f"--access-key={keys[0]}",
                   f"--secret-key={keys[1]}")
        return keys

    def run_lifecycle(self):
        """Lets lifecycle rules act now. Only with fast_lc is anything due so soon."""
        self.admin("lc", "process")

    def memory(self):
        """Resident bytes of the store: a memstore must not eat the machine."""
        status = pathlib.Path(f"/proc/{self._pid('osd')}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    # ---- parts of a start

    def _make_store(self):
        """Monitor, then the store: registered with the monitor while its file system is made."""
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (self.directory / "ceph.conf").write_text(self._configuration(fsid))
        monmap = str(self.directory / "monmap")
        self._run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", self.mon_address, monmap])
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._spawn("mon")
        self._tool("ceph", "--connect-timeout", "30", "osd", "new", osd)
        self._tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn_store()

    def _make_user(self):
        """The user also makes the zone; storage classes and host names must be in it before the gateway reads it."""
        self._tool("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", f"--access-key={self.access_key}",
                   f"--secret-key={self.secret_key}")
        group = json.loads(self._tool("radosgw-admin", "zonegroup", "get"))
        group["placement_targets"][0]["storage_classes"] = ["STANDARD", *CLASSES]
        self._tool("radosgw-admin", "zonegroup", "set", stdin=json.dumps(group))
        zone = json.loads(self._tool("radosgw-admin", "zone", "get"))
        classes = zone["placement_pools"][0]["val"]["storage_classes"]
        for name in CLASSES:
            classes[name] = {"data_pool": "default.rgw.buckets.data"}
        self._tool("radosgw-admin", "zone", "set", stdin=json.dumps(zone))

    def _make_certificates(self):
        """A certificate authority and a certificate that it signed, valid from yesterday on for skewed clocks."""
        at = str(self.directory)
        names = f"subjectAltName=DNS:{DOMAIN},DNS:*.{DOMAIN},DNS:localhost,IP:127.0.0.1"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._run(["openssl", "req", "-x509", *key, "-days", "30", "-subj", "/CN=test authority",
                   "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", f"{at}/ca.key", "-out", f"{at}/ca.crt"])
        self._run(["openssl", "req", *key, "-subj", "/CN=localhost", "-keyout", f"{at}/tls.key", "-out", f"{at}/tls.csr"])
        (self.directory / "tls.ext").write_text(names + "\n")
        self._run(["openssl", "x509", "-req", "-in", f"{at}/tls.csr", "-CA", f"{at}/ca.crt", "-CAkey", f"{at}/ca.key",
                   "-CAcreateserial", "-days", "30", "-extfile", f"{at}/tls.ext", "-out", f"{at}/tls.crt"])
        both = b"".join((self.directory / name).read_bytes() for name in ("tls.crt", "tls.key"))
        (self.directory / "tls.pem").write_bytes(both)

    def _spawn_store(self):
        """Starts the store and waits until the monitor knows it: who asks earlier waits for seconds."""
        self._spawn("osd")

        def up():
            assert self._runs("osd"), "the store ended at its start"
            return "osd.0 up" in self._tool("ceph", "--connect-timeout", "30", "osd", "dump", check=False)

        wait_until(up, "the store")

    def _spawn_gateway(self):
        self._spawn("rgw")

        def ready():
            assert self._runs("rgw"), "the gateway ended at its start"
            return listens(self.port)

        wait_until(ready, "the gateway")

    def _spawn(self, name):
        command = {"mon": ["ceph-mon", "-i", "a"], "osd": ["ceph-osd", "-i", "0"], "rgw": ["radosgw", "-n", "client.rgw"]}[name]
        with open(self.directory / "log" / f"{name}.out", "ab") as log:
            process = subprocess.Popen([self.tools[command[0]], *command[1:], "-f", "-c", self._conf], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, start_new_session=True, cwd="/")
        (self.directory / f"{name}.pid").write_text(f"{process.pid}\n")
        process.returncode = 0  # collected in _end, by its id, as after attach(); no warning from Popen

    @property
    def _conf(self):
        return str(self.directory / "ceph.conf")

    def _pid(self, name):
        try:
            return int((self.directory / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None

    def _runs(self, name):
        return runs_with(self._pid(name), self._conf)

    def _end(self, name):
        end_with(self._pid(name), self._conf, signal.SIGKILL)

    def _tool(self, name, *arguments, check=True, stdin=None):
        return self._run([name, "-c", self._conf, *arguments], check=check, stdin=stdin)

    def _run(self, command, check=True, stdin=None):
        """Runs a tool to its end and returns its output."""
        done = subprocess.run([self.tools[command[0]], *command[1:]], input=stdin or "", capture_output=True, text=True,
                              timeout=DEADLINE, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command[:5])} failed: {(done.stderr or done.stdout)[-500:]}")
        return done.stdout

    def _logs(self):
        """The last lines of all logs, for a message."""
        lines = []
        for path in sorted((self.directory / "log").glob("*")):
            lines += [f"{path.name}: {line}" for line in path.read_text(errors="replace").splitlines()[-4:]]
        return " | ".join(lines)

    def _configuration(self, fsid):
        options = self.options
        sections = {
            "global": {
                "fsid": fsid, "mon host": self.mon_address, "mon initial members": "a", "public addr": "127.0.0.1",
                "cluster addr": "127.0.0.1",
                # No keyrings. Without the mode the gateway insists on encryption, which "none" cannot give.
                "auth cluster required": "none", "auth service required": "none", "auth client required": "none",
                "ms mon client mode": "crc", "auth allow insecure global id reclaim": "false",
                "mon client hunt interval": "0.25", "objecter tick interval": 1,
                # One store, one copy, few placement groups.
                "osd pool default size": 1, "osd pool default min size": 1, "osd crush chooseleaf type": 0,
                "osd pool default pg num": 8, "osd pool default pgp num": 8, "osd pool default pg autoscale mode": "off",
                "mon allow pool size one": "true", "mon max pg per osd": 1000,
                # Nothing outside the directory.
                "run dir": self.directory, "crash dir": self.directory, "log file": f"{self.directory}/log/$name.log",
                "pid file": "", "admin socket": "", "keyring": "",
                "log to stderr": "false", "err to stderr": "true", "ms crc data": "false", "ms async op threads": 1,
                **{f"debug {part}": "0/0" for part in ("ms", "osd", "rgw", "mon", "paxos", "bluestore", "bdev", "rocksdb",
                                                        "memstore", "objecter", "auth", "asok")},
            },
            "mon": {
                "mon data": f"{self.directory}/mon", "mon cluster log file": f"{self.directory}/log/cluster.log",
                # A pool is made in a moment, not in the second that a real cluster gathers proposals for.
                "paxos propose interval": 0.02, "paxos min wait": 0.01, "mon tick interval": 1,
                "mon data avail warn": 1, "mon data avail crit": 0, "mon warn on pool no redundancy": "false",
            },
            "osd": {
                "osd data": f"{self.directory}/osd", "osd journal": "", "osd objectstore": options["store"],
                "osd class load list": "*", "osd class default list": "*", "osd op num shards": 2,
                "osd op num threads per shard": 2, "osd mclock profile": "high_client_ops", "osd memory target": GIB,
                "osd scrub begin hour": 0, "osd scrub end hour": 0, "memstore device bytes": options["bytes"],
                "memstore page set": "false", "bluestore block size": options["bytes"], "bluestore block create": "true",
                "bluestore fsck on mount": "false",
                # A killed gateway is forgotten soon: until then whoever changes a bucket or a user waits for its answer.
                "osd client watch timeout": 3,
            },
            "client": {
                "rgw frontends": f"beast endpoint=127.0.0.1:{self.port} ssl_endpoint=127.0.0.1:{self.tls_port} "
                                 f"ssl_certificate={self.directory}/tls.pem tcp_nodelay=1",
                "rgw data": self.directory, "rgw dns name": DOMAIN, "rgw thread pool size": 32,
                "rgw enable usage log": "false", "rgw enable ops log": "false",
                # Space of what was deleted comes back within seconds.
                "rgw gc obj min wait": 1, "rgw gc processor period": 5, "rgw gc processor max time": 5,
                "rgw crypt require ssl": "false", "rgw crypt s3 kms backend": "testing",
                "rgw crypt s3 kms encryption keys": "test-key=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
                "rgw override bucket index max shards": 1, "rgw dynamic resharding": "false", "rados mon op timeout": 60,
                # A store that is full or dead is answered 408 after this many seconds, not never.
                "rados osd op timeout": 30,
                **({"rgw lc debug interval": options["fast_lc"]} if options["fast_lc"] else {}),
                **({"rgw max concurrent requests": options["max_requests"]} if options["max_requests"] else {}),
            },
        }
        lines = []
        for name, settings in sections.items():
            lines += [f"[{name}]", *(f"{key} = {value}" for key, value in settings.items()), ""]
        return "\n".join(lines)


def run_command(options, command):
    """Runs a command with a server around it; its exit code. A bucket of its own is in S3_TEST_BUCKET."""
    try:
        server = S3Server(**options)
    except Skip as why:
        print(f"skip s3_server: {why}", flush=True)
        return 77
    with server:
        environment = server.env(S3_TEST_BUCKET=server.new_bucket())
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: process.send_signal(number))
        code = process.wait()
    return code if code >= 0 else 128 - code


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop", "restart", "kill-gateway", "run"))
    parser.add_argument("target", nargs="?", help="the directory")
    parser.add_argument("--store", choices=("memstore", "bluestore"), default="memstore")
    parser.add_argument("--store-bytes", type=int, default=0)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--max-requests", type=int, default=0)
    parser.add_argument("--fast-lc", type=int, default=0)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    given = parser.parse_args(arguments[:split])
    options = {name: getattr(given, name) for name in ("store", "store_bytes", "tls", "max_requests", "fast_lc")}
    if given.action == "run":
        if split + 1 >= len(arguments) or given.target:
            parser.error("run needs -- and a command")
        return run_command(options, arguments[split + 1:])
    if not given.target:
        parser.error(f"{given.action} needs a directory")
    try:
        if given.action == "start":
            began = time.monotonic()
            server = S3Server(given.target, guard=False, **options)
            print(f"{server.endpoint} in {time.monotonic() - began:.1f} s; . {server.directory}/env", flush=True)
            return 0
        server = S3Server.attach(given.target)
    except Skip as why:
        print(f"skip s3_server: {why}", flush=True)
        return 77
    except FileExistsError:
        print(f"s3_server.py: {given.target} exists: stop the server there, or choose another directory", file=sys.stderr)
        return 1
    except FileNotFoundError as why:
        if given.action == "stop":
            return stop_unfinished(given.target)
        print(f"s3_server.py: {why}", file=sys.stderr)
        return 1
    {"stop": server.stop, "restart": server.restart, "kill-gateway": server.kill_gateway}[given.action]()
    return 0


def stop_unfinished(directory):
    """Ends what runs in a directory where a start was interrupted, and removes it."""
    directory = pathlib.Path(directory).absolute()
    for name in DAEMONS:
        try:
            pid = int((directory / f"{name}.pid").read_text())
        except (OSError, ValueError):
            continue
        end_with(pid, str(directory / "ceph.conf"))
    if (directory / "ceph.conf").exists():
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
