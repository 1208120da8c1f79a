#!/usr/bin/env python3
"""The contract of src/store/store.h against a real S3 server: path and virtual-host style, TLS and plain, a bucket that
keeps versions and locks, and a prefix around it all. $CONTRACT_STORE is the program."""

import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "servers"))

from s3_server import S3Server
from server_tools import Skip

LIMIT = 200  # seconds of one run
SHORT = {"BACKAPP_TEST_SHORT": "1"}
# CMocka's end of a case.
RESULT = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (test_\w+)$")


def run(name, store, env):
    """One run of the suite; prints its cases. Returns whether all was well."""
    program = os.environ["CONTRACT_STORE"]
    try:
        done = subprocess.run([program, store], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
        output, code = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as why:
        output, code = (why.stdout or b"").decode(errors="replace"), None
    seen, failed = {}, False
    lines = []
    for line in output.splitlines():
        match = RESULT.match(line)
        # The summary at the end names failed and skipped cases again.
        if match and match.group(2) not in seen:
            result = match.group(1)
            why = " | ".join(lines)[:1000] or "see above"
            seen[match.group(2)] = result
            failed = failed or result == "FAILED"
            shown = {"OK": "ok {0}/{1}", "FAILED": "not ok {0}/{1}: {2}", "SKIPPED": "skip {0}/{1}: {2}"}[result]
            print(shown.format(name, match.group(2), why), flush=True)
        if line.startswith(("[ RUN", "[  ", "[===")) and not line.startswith("[  ERROR"):
            lines = []
        else:
            lines.append(line)
    ended = code == 0 and len(seen) > 40
    if not ended and not failed:
        print(f"not ok {name}: ended with {'a timeout' if code is None else code} after {len(seen)} cases: {output[-1000:]}")
    return ended


def main():
    try:
        with S3Server() as server:
            plain, tls = server.plain_endpoint, server.tls_endpoint
            virtual = server.variables()["S3_TEST_VIRTUAL_ENDPOINT"]
            locked = server.new_bucket(versioning=True, lock=True)
            runs = [
                ("path", f"s3://{server.new_bucket()}", plain, {"BACKAPP_TEST_PATH_STYLE": "1"}),
                ("tls", f"s3://{server.new_bucket()}/a folder", tls, {"BACKAPP_TEST_PATH_STYLE": "1", **SHORT}),
                ("virtual", f"s3://{server.new_bucket()}", virtual, {"BACKAPP_TEST_PATH_STYLE": "0", **SHORT}),
                ("versioned", f"retry+breaker+limit+prefix+s3://{locked}/x", plain, {"BACKAPP_TEST_PATH_STYLE": "1", **SHORT}),
            ]
            results = [run(name, store, server.env(AWS_S3_ENDPOINT=endpoint, **options))
                       for name, store, endpoint, options in runs]
            sys.exit(0 if all(results) else 1)
    except Skip as why:
        print(f"skip contract/s3: {why}")
        sys.exit(77)


if __name__ == "__main__":
    main()
