#!/usr/bin/env python3
"""rclone and aws-cli look at a bucket after our sync, and we after theirs: nobody finds anything to do.

An odd tree (names of all kinds, but files and folders only) goes to a bucket of a real server. `rclone check`, `rclone sync
--dry-run` and `aws s3 sync --dryrun --size-only --delete` must then find no difference, our own folders left out, and must
read the same bytes. What rclone has copied before is taken over: nothing is uploaded. Then the tree changes, and all again.
BACKAPP_TEST_LONG=1: more rounds. BACKAPP_TEST_SEED repeats a seed.
"""

import hashlib
import os
import pathlib
import sys

for folder in ("servers", "integration"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / folder))

from cli_tools import run_module  # noqa: E402
from harness import LONG, seed  # noqa: E402
from oddchange import ChangingTree  # noqa: E402
from oddtree import Clock, seeded  # noqa: E402
from peers import aws, aws_json, aws_plan, need_peers, rclone, rclone_differences, rclone_plan  # noqa: E402
from s3_tools import BucketPlace  # noqa: E402

SEED = None
# Two names that differ only in how an accent is written are two files.
EXACT = "--no-unicode-normalization"
OWN = [EXACT, "--exclude", "/.backapp/**", "--exclude", "/.trash/**", "--exclude", "/.backapp*"]
AWS_OWN = ["--exclude", ".backapp/*", "--exclude", ".trash/*"]
NAMES = ["plain", "with blank", " leading", "trailing ", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}",
         "\N{EURO SIGN}", "100%", "a+b", "a&b", "a<b>", "'quote'", '"double"', "#hash", "?", "*", "[x]", "{y}", "~", "$(z)",
         "back\\slash", "new\nline", "tab\tx", "-dash", "--delete", ".hidden", "..x", "colon:", "semi;", "=", "@", "x" * 200,
         "\N{GRINNING FACE}", "a-b", "a.txt", "a", "\x7f", "%41", "%2F", "CON", "a%20b"]


def names_tree(place):
    """A file and a folder for each name; sizes and times that differ."""
    for number, name in enumerate(NAMES):
        folder = place.src / f"folder{number}" / name
        folder.mkdir(parents=True)
        for path in (folder / name, place.src / "files" / name):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"%d" % number * (number + 1))
            stamp = 1_500_000_000_123_456_789 + number * 1_000_000_007
            os.utime(path, ns=(stamp, stamp))
    (place.src / "empty file").touch()
    (place.src / "large").write_bytes(os.urandom(20 << 20))


def rename_unlistable(root):
    """Takes out of names what XML cannot hold: rclone and aws-cli cannot read a list with such keys. And shortens them:
    a byte that is no UTF-8 takes five in a key, and longer keys than S3 has are ours alone."""
    bad = bytes(range(1, 9)) + b"\x0b\x0c\r" + bytes(range(14, 32))
    for folder, folders, files in os.walk(os.fsencode(root), topdown=False):
        for name in folders + files:
            fine = name.translate(None, bad)[:40]
            if fine != name:
                while not fine or os.path.lexists(os.path.join(folder, fine)):
                    fine += b"_"
                os.rename(os.path.join(folder, name), os.path.join(folder, fine))


def agree(place, odd_for_aws=False):
    """The peers find nothing to do."""
    where = f"{place.bucket}/backup"
    found = rclone_differences(place.server, place.src, where, "--skip-links", *OWN)
    assert not found, f"rclone check: {found[:5]}"
    found = rclone_plan(place.server, place.src, where, "--skip-links", *OWN)
    assert not found, f"rclone sync: {found[:5]}"
    if not odd_for_aws:
        found = aws_plan(place.server, place.src, where, *AWS_OWN)
        assert not found, f"aws s3 sync: {found[:5]}"


def test_names_agree():
    need_peers()
    with BucketPlace() as place:
        names_tree(place)
        place.sync("--delete", to=place.url)
        agree(place)
        (place.src / "files" / "plain").write_text("new")
        (place.src / "files" / "a+b").unlink()
        os.utime(place.src / "files" / "100%")
        place.sync("--delete", to=place.url)
        agree(place)
        assert place.sync("--delete", to=place.url).stage2["filesUnchanged"] == 2 * len(NAMES) + 1


def test_what_peers_read_is_what_was_there():
    need_peers()
    with BucketPlace() as place:
        names_tree(place)
        place.sync(to=place.url)
        back = place.root / "theirs"
        done = rclone(place.server, "copy", f"s3:{place.bucket}/backup", back, *OWN)
        assert done.code == 0, done.err[-500:]
        for path in place.src.rglob("*"):
            if path.is_file():
                other = back / path.relative_to(place.src)
                assert other.read_bytes() == path.read_bytes(), path
                assert os.stat(other).st_mtime_ns == os.stat(path).st_mtime_ns, path
        one = place.root / "one"
        done = aws(place.server, "s3", "cp", f"s3://{place.bucket}/backup/large", one)
        assert done.code == 0 and one.read_bytes() == (place.src / "large").read_bytes(), done.err[-500:]


def test_head_object_shows_class_and_time():
    need_peers()
    with BucketPlace() as place:
        (place.src / "a.iso").write_bytes(b"1" * 1000)
        (place.src / "b").write_bytes(b"2")
        os.utime(place.src / "b", ns=(1_600_000_000_000_000_001, 1_600_000_000_000_000_001))
        place.sync("--storage-class", "STANDARD_IA", "--class-for", "*.iso=GLACIER_IR", to=place.url)
        found = aws_json(place.server, "s3api", "head-object", "--bucket", place.bucket, "--key", "backup/b")
        assert found["StorageClass"] == "STANDARD_IA" and found["ContentLength"] == 1, found
        assert found["Metadata"]["mtime"] == "1600000000.000000001", found
        assert found["ETag"].strip('"') == hashlib.md5(b"2").hexdigest(), found
        found = aws_json(place.server, "s3api", "head-object", "--bucket", place.bucket, "--key", "backup/a.iso")
        assert found["StorageClass"] == "GLACIER_IR", found


def test_what_rclone_copied_is_not_uploaded_again():
    need_peers()
    with BucketPlace() as place:
        names_tree(place)
        (place.src / "large").write_bytes(b"not so large")
        done = rclone(place.server, "copy", place.src, f"s3:{place.bucket}/backup", EXACT)
        assert done.code == 0, done.err[-500:]
        planned = place.sync("--delete", "--dry-run", to=place.url)
        assert planned.stage2["filesDeleted"] == 0, planned.stage2
        run = place.sync("--delete", to=place.url)
        numbers = [run.stage2[key] for key in ("filesUploaded", "filesCopied", "filesDeleted")]
        assert numbers == [0, 0, 0], (numbers, run.requests)
        again = place.sync("--delete", to=place.url)
        assert again.requests["head"] == 0 and again.requests["put"] == 0, again.requests
        agree(place)
        place.fine("restore", place.url, "--to", place.back)
        assert sorted(p.name for p in place.back.rglob("*")) == sorted(p.name for p in place.src.rglob("*"))


def test_what_aws_copied_is_recognised_by_checksum():
    need_peers()
    with BucketPlace() as place:
        for number in range(5):
            (place.src / f"f{number}").write_bytes(b"%d" % number * 50)
        done = aws(place.server, "s3", "sync", place.src, place.url)
        assert done.code == 0, done.err[-500:]
        run = place.sync("--checksum", to=place.url)
        assert run.stage2["bytesUploaded"] in (0, 250), run.stage2
        agree(place)


def test_odd_trees_agree():
    need_peers()
    with BucketPlace() as place:
        rng = seeded(SEED + "/peers")
        tree = ChangingTree(place.src, rng, Clock(rng), privileged=False, long_targets=False)
        place.src.rmdir()
        tree.build(many=30, deep=False)
        for number in range(12 if LONG else 2):
            if number:
                tree.mutate(20)
            rename_unlistable(place.src)
            # Names that are no UTF-8 are nothing that aws-cli could list.
            place.fine("s3sync", "--delete", "--max-delete", "100", place.src, place.url)
            agree(place, odd_for_aws=True)


if __name__ == "__main__":
    SEED = seed()
    run_module("s3_peers", sys.modules["__main__"])
