#!/usr/bin/env python3
"""Our keys of files with odd names against those that the real rclone gives them on a real S3 server.

A tree of files whose names are made of what an encoding cares about is copied by rclone; each file has a content of its
own, so the server's list says which key which file got. NAME_KEYS (tests/differential/name_keys.c) says ours. Then the
other way: rclone has to see the keys that we made as the same files. A name with a U+201B that quotes nothing is one that
rclone cannot open: there it is only checked that every name has a key of its own, and comes back.
"""

import hashlib
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "servers"))

from peers import rclone
from s3_server import S3Server
from server_tools import Skip

LONG = os.environ.get("BACKAPP_TEST_LONG") == "1"
FILES = 3000 if LONG else 500
TIMEOUT = 60
# Else names that differ only in how an accent is written are one for rclone.
# Its choice for Ceph is a list that cannot hold control characters, nor can the prefix that radosgw repeats in one of a
# folder.
PLAIN = ["--no-unicode-normalization", "--retries", "1", "--low-level-retries", "2", "--s3-list-url-encode=true", "--fast-list"]
QUOTE = "\u201b".encode()
PIECES = [b"a", b"B", b"1", b".", b"..", b" ", b"-", b"~", b"%", b"%2F", b"+", b"&", b"<", b"\\", b"\"", b"'", b":", b"*", b"?",
          b"\x01", b"\x1f", b"\x7f", b"\n", b"\t", b"\r", "\u2400".encode(), "\u2401".encode(), "\u241f".encode(),
          "\u2421".encode(), "\uff0f".encode(), "\uff0e".encode(), "\ufffd".encode(), "\u00e9".encode(), "e\u0301".encode(),
          "\U0001f600".encode(), "\uffff".encode(), b"\xff", b"\xc3", b"\xc3\x28", b"\xe2\x80", b"\xed\xa0\x80", b"\xf0\x9f\x98",
          b"\xc0\xaf", b"FF", b"2F", QUOTE, QUOTE * 2, QUOTE + "\uff0f".encode()]
QUOTED_DOTS = [QUOTE + b"\xef\xbc\x8e", (QUOTE + b"\xef\xbc\x8e") * 2]
WHOLE = [b"\xef\xbc\x8e", b"\xef\xbc\x8e" * 2, QUOTE + b"\xef\xbc\x8e", (QUOTE + b"\xef\xbc\x8e") * 2, b"...", b" ", b"x ", b"x.",
         QUOTE, QUOTE + b"FF", QUOTE + b"ff", QUOTE + b"00", QUOTE + b"\xff", QUOTE + "\uff0f".encode(), "\uff0f".encode(),
         QUOTE + "\u2400".encode(), QUOTE + "\u2401".encode(), b"\xef\xbc\x8e" + QUOTE, b"~", b"a" * 255]


def make_names(rng):
    names = set(WHOLE)
    while len(names) < FILES:
        parts = []
        for _ in range(rng.choice([1, 1, 2, 3])):
            parts.append(b"".join(rng.choice(PIECES) for _ in range(rng.randint(1, 5))))
        name = b"/".join(parts)
        if any(part in (b".", b"..") or len(part) > 200 for part in parts):
            continue
        names.add(name)
    # No name may be a folder of another.
    folders = {name[:i] for name in names for i, c in enumerate(name) if c == ord("/")}
    return sorted(names - folders)


def rclone_can_read(name):
    quoted = b"|".join([QUOTE, "\uff0f".encode(), "\u2400".encode()])
    return all(part in QUOTED_DOTS or QUOTE not in re.sub(QUOTE + b"(" + quoted + b")", b"", part)
               for part in name.split(b"/"))


def our_keys(names):
    done = subprocess.run([os.environ["NAME_KEYS"]], input=b"".join(name + b"\0" for name in names), capture_output=True,
                          timeout=TIMEOUT, check=True)
    parts = done.stdout.split(b"\0")
    assert len(parts) == 2 * len(names) + 1, "name-keys answered something else"
    return dict(zip(names, zip(parts[0:-1:2], parts[1:-1:2])))


def write_tree(root, names):
    for number, name in enumerate(names):
        path = os.fsencode(root) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(f"content {number}".encode())
        os.utime(path, (1_700_000_000, 1_700_000_000))


def report(case, failures):
    print(f"not ok {case}: {len(failures)}, such as {failures[:3]}" if failures else f"ok {case}", flush=True)
    return not failures


def etag_of(number):
    return hashlib.md5(f"content {number}".encode()).hexdigest()


def one_key_each(names, ours):
    again = [name for name in names if ours[name][1] != name]
    keys = {key for key, _ in ours.values()}
    good = report("rclone_names/come_back", again)
    return report("rclone_names/keys_differ", [] if len(keys) == len(names) else ["two names have one key"]) and good


def same_as_rclone(server, root, names, ours):
    bucket = server.new_bucket()
    done = rclone(server, "copy", root, f"s3:{bucket}", "--transfers", "16", *PLAIN)
    assert done.code == 0, done.err[-2000:]
    with server.client() as client:
        theirs = {etag.strip('"'): key for key, _, etag in client.listing(bucket)}
    failures = [(name, ours[name][0], theirs.get(etag_of(number))) for number, name in enumerate(names)
                if theirs.get(etag_of(number), "").encode(errors="surrogateescape") != ours[name][0]]
    return report("rclone_names/same_keys", failures)


def rclone_sees_ours(server, root, names, ours):
    bucket = server.new_bucket()
    with server.client() as client:
        for number, name in enumerate(names):
            client.put(bucket, ours[name][0].decode(), f"content {number}".encode(), x_amz_meta_mtime="1700000000")
    done = rclone(server, "check", root, f"s3:{bucket}", *PLAIN)
    good = report("rclone_names/check", [] if done.code == 0 else [done.err[-1000:]])
    done = rclone(server, "sync", "--dry-run", root, f"s3:{bucket}", *PLAIN)
    changes = [line for line in done.err.splitlines() if "Skipped" in line]
    return report("rclone_names/sync_dry_run", changes if done.code == 0 else [done.err[-1000:]]) and good


def main():
    seed = int(os.environ.get("BACKAPP_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    names = make_names(random.Random(seed))
    plain = [name for name in names if rclone_can_read(name)]
    try:
        with S3Server() as server, tempfile.TemporaryDirectory(prefix="backapp-names-") as root:
            good = one_key_each(names, our_keys(names))
            ours = our_keys(plain)
            write_tree(root, plain)
            good = same_as_rclone(server, root, plain, ours) and good
            good = rclone_sees_ours(server, root, plain, ours) and good
    except Skip as why:
        print(f"skip rclone_names: {why}")
        return 77
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
