"""rclone and aws-cli as judges of what we left on an S3 server, and as what we measure ourselves against.

Both get the server's keys by their environment and read nothing of the user's set-up. `server` is anything with
`endpoint`, `ca` (or None) and `variables()`: S3Server, or S3Double.
"""

import collections
import json
import os
import re
import signal
import subprocess
import tempfile
import time

from server_tools import program

TIMEOUT = 300

Done = collections.namedtuple("Done", "code out err")
Measured = collections.namedtuple("Measured", "code seconds user system peak_bytes out err")


def _environment(server, endpoint):
    keep = {name: value for name, value in os.environ.items()
            if not name.startswith(("AWS_", "RCLONE_", "S3_")) and not name.lower().endswith("_proxy")}
    found = {**keep, **server.variables(), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "AWS_PAGER": "",
             "AWS_RETRY_MODE": "standard"}
    if (endpoint or server.endpoint).startswith("https"):
        found["AWS_CA_BUNDLE"] = str(server.ca)
    return found


def rclone_config(server, endpoint=None):
    """Environment in which rclone knows the server as `s3:`."""
    found = _environment(server, endpoint)
    # With AWS_CA_BUNDLE in the environment rclone's env_auth fails; --ca-cert does the same for it.
    ca = found.pop("AWS_CA_BUNDLE", None)
    found.update(RCLONE_CONFIG="/dev/null", RCLONE_CONFIG_S3_TYPE="s3", RCLONE_CONFIG_S3_PROVIDER="Ceph",
                 RCLONE_CONFIG_S3_ENV_AUTH="true", RCLONE_CONFIG_S3_REGION=found["AWS_REGION"],
                 RCLONE_CONFIG_S3_ENDPOINT=endpoint or server.endpoint, RCLONE_CONFIG_S3_FORCE_PATH_STYLE="true")
    if ca:
        found["RCLONE_CA_CERT"] = ca
    return found


def aws_program():
    """Debian's, so that its version does not depend on what else is installed."""
    return "/usr/bin/aws" if os.access("/usr/bin/aws", os.X_OK) else program("aws")


def _run(command, environment):
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
    return Done(done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape"))


def rclone(server, *arguments, endpoint=None):
    """rclone with these arguments; the server is `s3:BUCKET/PREFIX`."""
    return _run([program("rclone"), *map(os.fspath, arguments)], rclone_config(server, endpoint))


def aws(server, *arguments, endpoint=None):
    """aws-cli with these arguments."""
    command = [aws_program(), "--endpoint-url", endpoint or server.endpoint, "--no-cli-pager", *map(os.fspath, arguments)]
    return _run(command, _environment(server, endpoint))


def aws_json(server, *arguments, endpoint=None):
    """The output of an aws-cli command that has to succeed, as JSON (None if it says nothing)."""
    done = aws(server, "--output", "json", *arguments, endpoint=endpoint)
    assert done.code == 0, f"aws {arguments}: {done.err.strip()}"
    return json.loads(done.out) if done.out.strip() else None


def rclone_differences(server, folder, place, *options):
    """What `rclone check` (MD5 sums, both ways) finds different between a folder and BUCKET/PREFIX: lines `= * + - !` and a
    name, without those that are equal."""
    done = rclone(server, "check", folder, f"s3:{place}", "--combined", "-", *options)
    lines = [line for line in done.out.splitlines() if not line.startswith("= ")]
    assert done.code == 0 or lines, f"rclone check: {done.err[-500:]}"
    return lines


def rclone_plan(server, folder, place, *options):
    """What `rclone sync --dry-run` would do, lines of `NAME: Skipped ... as --dry-run is set`."""
    done = rclone(server, "sync", "--dry-run", folder, f"s3:{place}", *options)
    assert done.code == 0, f"rclone sync: {done.err[-500:]}"
    return re.findall(r"NOTICE: (.*?: Skipped .* as --dry-run is set.*)", done.err)


def aws_plan(server, folder, place, *options):
    """What `aws s3 sync --dryrun --size-only --delete` would do, a line each."""
    done = aws(server, "s3", "sync", "--dryrun", "--size-only", "--no-follow-symlinks", "--delete", *options, folder,
               f"s3://{place}")
    assert done.code == 0, f"aws s3 sync: {done.err[-500:]}"
    return [line for line in done.out.splitlines() if line.startswith("(dryrun)")]


def need_peers():
    """Skips unless both are installed."""
    program("rclone")
    aws_program()


def measure(command, environment, timeout=TIMEOUT):
    """Runs a command and says what it and its children took: seconds of the wall clock and of the CPU, and the greatest
    resident size of one process."""
    # A program inherits the peak of who starts it, which would be Python's; time(1) is small.
    timer = program("time")
    with tempfile.NamedTemporaryFile("r", prefix="backapp-time-") as numbers:
        began = time.monotonic()
        process = subprocess.Popen([timer, "-q", "-o", numbers.name, "-f", "%U %S %M", *map(os.fspath, command)],
                                   env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise AssertionError(f"{command} did not end in {timeout} s") from None
        seconds = time.monotonic() - began
        user, system, peak = numbers.read().split()[-3:]
    return Measured(process.returncode, seconds, float(user), float(system), int(peak) * 1024, out.decode(errors="replace"),
                    err.decode(errors="replace"))
