"""What the test servers share: programs, ports, waiting, and ending a process by its id."""

import os
import pathlib
import shutil
import signal
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "integration"))
from cli_tools import Skip  # noqa: E402  one class, so that every test script knows it

DEADLINE = 60  # seconds for a server to start; far beyond what it needs, for slow machines


def program(name):
    """The path of a program, or a skip that names it."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Skip(f"{name} is not installed (tools/setup --test installs it)")
    return found


def free_ports(count):
    """Ports of loopback that nobody has now; all are held until the last is chosen, so they differ."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def listens(port):
    """Whether something accepts connections at a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def wait_until(condition, what, seconds=DEADLINE, pause=0.02):
    """Waits until condition() is true; AssertionError that names `what` when the time is over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(pause)


def command_line(pid):
    """The arguments of a process; empty if there is none. A zombie has none either."""
    try:
        for _ in range(50):
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            if line or pathlib.Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in b"ZX":
                break
            time.sleep(0.002)  # the kernel sets them a moment after a program was started
        return line.split(b"\0")
    except OSError:
        return []


def runs_with(pid, argument):
    """Whether a process runs and has this argument: so that a number that was given out anew is never signalled."""
    return pid is not None and os.fsencode(argument) in command_line(pid)


def end_with(pid, argument, number=signal.SIGKILL):
    """Signals a process that has this argument, and waits until it is gone."""
    if not runs_with(pid, argument):
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    try:
        wait_until(lambda: reaped(pid) or not runs_with(pid, argument), f"the end of process {pid}", 10)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: reaped(pid) or not runs_with(pid, argument), f"the end of process {pid}", 10)


def reaped(pid):
    """Collects a child that ended; False if it still runs or is nobody's child here."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
