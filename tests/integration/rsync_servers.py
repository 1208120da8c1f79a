"""A real sshd and a real rsync daemon on loopback, with keys and configuration of their own, ended by their pids."""

import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time

from cli_tools import TIMEOUT, Skip

DEADLINE = 20  # seconds for a server to listen


def program(name):
    """The path of a program, or a skip that names it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Skip(f"{name} is not installed")
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process that listens on a port of loopback."""

    def __init__(self, root, make_command):
        self.root = pathlib.Path(root)
        self.root.mkdir()
        for _ in range(3):  # between choosing and binding another may take the port
            self.port = free_port()
            self.log = open(self.root / "log", "w+b")
            self.process = subprocess.Popen(
                make_command(self.port), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
            )
            if self.listens():
                return
            self.end()
        raise AssertionError(f"the server did not start: {(self.root / 'log').read_text(errors='replace')[-500:]}")

    def listens(self):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            except OSError:
                time.sleep(0.02)
        return False

    def end(self):
        """Ends it and its sessions, which are in its process group or end with their connections."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(timeout=5)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def make_key(path):
    subprocess.run(
        [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path],
        stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=True,
    )


class Sshd(Server):
    """An sshd for the user of this process, with a host key and a user's key that nobody else knows."""

    def __init__(self, root):
        program("ssh")
        sshd = program("sshd")
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        root = pathlib.Path(root)
        super().__init__(root, lambda port: self.command(sshd, root, port))
        self.known_hosts = root / "known hosts 100%"
        public = (root / "host").with_suffix(".pub").read_text().split()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")

    def command(self, sshd, root, port):
        self.key = root / "user key"
        for name in ("host", "user key"):
            if not (root / name).exists():
                make_key(root / name)
        (root / "authorized").write_text((root / "user key.pub").read_text())
        config = root / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {root}/host\nAuthorizedKeysFile {root}/authorized\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "PermitRootLogin yes\nLogLevel VERBOSE\n"
        )
        return [sshd, "-D", "-e", "-f", str(config)]

    def options(self, **changed):
        """rsync.ssh of a job spec for this server."""
        return {
            "user": self.user, "port": self.port, "identityFile": str(self.key), "knownHosts": str(self.known_hosts), **changed
        }


class Daemon(Server):
    """An rsync daemon with a module `backup` below root/module, for the user `keeper`."""

    password = "a pass word, with $igns"

    def __init__(self, root):
        rsync = program("rsync")
        root = pathlib.Path(root)
        self.module = root / "module"
        super().__init__(root, lambda port: self.command(rsync, root, port))

    def command(self, rsync, root, port):
        self.module.mkdir(exist_ok=True)
        secrets = root / "secrets"
        secrets.write_text(f"keeper:{self.password}\n")
        secrets.chmod(0o600)
        identity = "uid = 0\ngid = 0\n" if os.geteuid() == 0 else ""
        config = root / "rsyncd.conf"
        config.write_text(
            f"port = {port}\naddress = 127.0.0.1\nuse chroot = no\nmunge symlinks = no\n{identity}max connections = 10\n"
            f"[backup]\npath = {self.module}\nread only = no\nauth users = keeper\nsecrets file = {secrets}\n"
            f"[closed]\npath = {self.module}\nread only = yes\n"
        )
        return [rsync, "--daemon", "--no-detach", f"--config={config}"]

    def url(self, below="", module="backup"):
        return f"rsync://keeper@127.0.0.1:{self.port}/{module}{below}"
