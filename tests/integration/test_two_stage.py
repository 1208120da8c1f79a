#!/usr/bin/env python3
"""`backapp two-stage` at the command line: the mirror, then its copy; what a failure of either leaves; --only-s3."""

import os
import sys

from cli_tools import Skip, as_nobody, end, everything, run_module, tree, wait_for
from s3_tools import BucketPlace, FaultProxy, Rule, StorePlace
from test_s3sync import stored, wrong
from weakfs import Drive


def both(place, *options, to=None):
    return place.fine("two-stage", *options, place.src, place.dst, to or place.store)


def contents(folder):
    return {name: content for name, content in tree(folder).items() if isinstance(content, bytes)}


def mirrored(place):
    """All that the mirror holds, without our own folder in it."""
    return {path: state for path, state in everything(place.dst).items()
            if ".backapp" not in path and path != str(place.dst / ".")}


def test_both_stages():
    with StorePlace() as place:
        place.fill(a="1", folder__b="2", c_log="3")
        run = both(place, "--exclude", "*.log", "--verify", "--delete", "--keep-versions", "9", "--trash", "3")
        assert contents(place.dst) == {"a": b"1", "folder/b": b"2"} == stored(place), stored(place)
        assert run.summary["stage1"]["filesTransferred"] == 2 and run.stage2["filesUploaded"] == 2, run.summary
        (place.src / "a").unlink()
        place.fill(folder__b="22")
        run = both(place, "--exclude", "*.log", "--delete")
        assert contents(place.dst) == {"folder/b": b"22"} == stored(place), stored(place)
        assert (run.stage2["filesUploaded"], run.stage2["filesDeleted"]) == (1, 1), run.stage2
        before = mirrored(place)
        run = both(place, "--exclude", "*.log", "--delete")
        assert run.stage2["filesUnchanged"] == 1 and run.requests["put"] == 0, run.stage2
        assert mirrored(place) == before


def test_several_sources_are_folders_in_both():
    with StorePlace() as place:
        for name in ("one", "two"):
            (place.root / name).mkdir()
            (place.root / name / "file").write_text(name)
        place.fine("two-stage", place.root / "one", place.root / "two", place.dst, place.store)
        assert stored(place) == {"one/file": b"one", "two/file": b"two"}, stored(place)


def test_options_of_both_stages():
    with BucketPlace() as place:
        place.fill(a="1", b="2")
        run = both(place, "--checksum", "--inplace", "--no-acls", "--no-xattrs", "--no-hard-links", "--one-file-system",
                   "--jobs", "2", "--engine", "native", "--storage-class", "STANDARD_IA", "--concurrency", "3", "--relist",
                   "--nice", "1", "--ionice", "best-effort", "--bwlimit", "100000", "--region", "us-east-1", "-v",
                   "--max-delete", "20", "--force", "--relist-days", "3", to=place.url)
        assert place.keys() == ["a", "b"], place.keys()
        assert place.client.head(place.bucket, "backup/a").headers["x-amz-storage-class"] == "STANDARD_IA"
        assert {i["path"] for i in run.of("item")} >= {"a", "b"}


def test_rsync_as_the_first_stage():
    with StorePlace() as place:
        place.fill(a="1", folder__b="2")
        both(place, "--engine", "rsync")
        assert stored(place) == {"a": b"1", "folder/b": b"2"}, stored(place)


def test_a_dry_run_changes_nothing():
    with StorePlace() as place:
        place.fill(a="1", folder__b="2")
        before = everything(place.src)
        run = both(place, "--dry-run")
        assert not place.dst.exists() and not place.store.exists() and everything(place.src) == before
        assert run.summary["dryRun"] is True and run.of("item"), run
        both(place)
        before = (everything(place.dst), everything(place.store))
        both(place, "--dry-run")
        assert (everything(place.dst), everything(place.store)) == before


def test_a_failed_second_stage_leaves_a_valid_mirror_and_is_run_alone():
    with BucketPlace() as place:
        place.fill(a="1", b="2")
        arguments = (place.src, place.dst, f"s3://{place.bucket}-not-there/x")
        run = place.json("two-stage", *arguments)
        assert run.code == 1 and run.done["status"] == "failed", run
        assert "mirror is complete" in run.done["error"]["message"] and "--only-s3" in run.done["error"]["message"], run.done
        assert contents(place.dst) == {"a": b"1", "b": b"2"}
        _, _, err = place.run("two-stage", *arguments)
        assert "--only-s3" in err and "mirror is complete" in err, err
        before = mirrored(place)
        run = place.fine("two-stage", "--only-s3", place.dst, place.url)
        assert place.keys() == ["a", "b"] and "stage1" not in run.summary, run.summary
        assert mirrored(place) == before


def test_a_failed_first_stage_begins_no_second_one():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        run = place.json("two-stage", place.root / "nowhere", place.dst, place.url)
        assert run.code == 1 and not proxy.log() and "stage2" not in run.summary, run


def test_a_partial_first_stage_goes_on_and_stays_partial():
    user = as_nobody()
    with StorePlace() as place:
        place.fill(open="1", closed="2")
        os.chmod(place.src / "closed", 0)
        if user:
            for path in (place.root, place.src, place.src / "open"):
                os.chown(path, 65534, 65534)
        run = place.json("two-stage", place.src, place.dst, place.store, **user)
        assert run.code == 3 and run.done["status"] == "partial", run
        assert stored(place) == {"open": b"1"}, stored(place)


def test_refusals_of_either_stage():
    with StorePlace() as place:
        place.files(150)
        both(place)
        for number in range(140):
            (place.src / "many" / f"{number:05d}").unlink()
        run = place.json("two-stage", "--delete", place.src, place.dst, place.store)
        assert run.code == 4 and run.done["status"] == "refused" and len(stored(place)) == 150, run
        place.fine("mirror", "--delete", "--force", place.src, place.dst)
        run = place.json("two-stage", "--delete", place.src, place.dst, place.store)
        assert run.code == 4 and len(stored(place)) == 150, run
        place.fine("two-stage", "--only-s3", "--delete", "--confirm", run.done["planHash"], place.dst, place.store)
        assert len(stored(place)) == 10


def test_a_hash_is_of_one_stage():
    with StorePlace() as place:
        place.files(150)
        both(place)
        for number in range(140):
            (place.src / "many" / f"{number:05d}").unlink()
        whole = ("two-stage", "--delete", place.src, place.dst, place.store)
        first = place.json(*whole)
        assert first.code == 4 and "stage2" not in first.summary, first
        code, _, err = place.run(*whole)
        assert code == 4 and "\nNothing was changed." in err, err
        confirmed = (*whole[:1], "--confirm", first.done["planHash"], *whole[1:])
        code, _, err = place.run(*confirmed)
        assert code == 4 and "The mirror was brought up to date; the store was not changed" in err, err
        assert "--only-s3" in err and "not the one that was confirmed" in err and "Nothing was changed" not in err, err
        assert len(contents(place.dst)) == 10 and len(stored(place)) == 150
        second = place.json(*confirmed)
        assert second.code == 4 and second.done["planHash"] != first.done["planHash"], second
        code, out, err = place.run(*whole, "--dry-run")
        assert code == 4 and "Nothing was changed" in err and "mirror is complete" not in err, err
        place.fine(*whole[:1], "--confirm", second.done["planHash"], *whole[1:])
        assert len(stored(place)) == 10


def swap(place):
    """Puts another drive, with a mirror of something else, at DEST."""
    other, source = place.root / "other", place.root / "other-source"
    source.mkdir()
    (source / "foreign").write_text("9")
    place.fine("mirror", source, other)
    place.dst.rename(place.root / "first")
    other.rename(place.dst)


def test_another_drive_is_not_sent():
    with StorePlace() as place:
        place.fill(a="1", b="2")
        both(place)
        swap(place)
        before = everything(place.store)
        for options in ((), ("--dry-run",), ("--delete", "--max-delete", "100")):
            run = place.json("two-stage", "--only-s3", *options, place.dst, place.store)
            assert run.code == 4 and run.done["status"] == "refused", run
            assert "another drive" in run.done["error"]["message"] and "stage2" not in run.summary, run.done
            assert everything(place.store) == before
        place.fine("two-stage", "--only-s3", "--force", "--delete", place.dst, place.store)
        assert stored(place) == {"foreign": b"9"}, stored(place)


def test_a_mirror_without_its_marker_is_not_sent():
    with StorePlace() as place:
        place.fill(a="1")
        both(place)
        (place.dst / ".backapp-destination").unlink()
        before = everything(place.store)
        run = place.json("two-stage", "--only-s3", place.dst, place.store)
        assert run.code == 4 and "not mounted" in run.done["error"]["message"], run
        assert everything(place.store) == before


def test_recovery_of_a_foreign_mirror_is_refused_until_forced():
    if os.geteuid() != 0:
        raise Skip("only root can have a mirror that belongs to somebody else")
    with StorePlace() as place:
        place.fill(a="1")
        place.mirror()
        os.chown(place.dst / ".backapp", 65534, 65534)
        run = place.json("mirror", "--recover", place.dst)
        if run.code == 0:
            raise Skip("the file system of temporary files is not one whose owners count")
        assert run.code == 4 and run.done["status"] == "refused" and "--force" in run.done["error"]["message"], run
        place.fine("mirror", "--recover", "--force", place.dst)


def check_word_of_sidecar(kind):
    with StorePlace() as place, Drive(place.root, kind) as drive:
        place.dst = drive.point / "mirror"
        place.fill(file="1")
        os.symlink("file", place.src / "link")
        run = both(place)
        assert len([w for w in run.of("warning") if "sidecar" in w["message"] and "not sent" in w["message"]]) == 1, run.events
        assert stored(place)["file"] == b"1", stored(place)


def test_that_a_sidecar_is_not_sent_is_said():
    reasons = []
    for kind in ("exfat", "ntfs"):
        try:
            return check_word_of_sidecar(kind)
        except Skip as why:
            reasons.append(f"{kind}: {why}")
    raise Skip("; ".join(reasons))


def test_the_mirror_cannot_change_under_the_second_stage():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.files(20)
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        proxy.add(Rule("latency", kind="PutObject", seconds=0.3))
        process = place.start("two-stage", "--json", "--concurrency", "1", place.src, place.dst, place.url)
        try:
            wait_for(lambda: proxy.counts()["PutObject"] >= 2, "the second stage")
            run = place.json("mirror", place.src, place.dst)
            assert run.code != 0 and run.done["error"]["code"] == "LOCKED", run
            proxy.replace()
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, out + err
        finally:
            end(process)


def test_wrong_input_is_refused():
    with StorePlace() as place:
        place.dst.mkdir()
        for arguments, word in (
            ((), "STORE"), ((place.src,), "STORE"), ((place.src, place.dst), "STORE"),
            ((place.src, "", place.store), "DEST"), (("", place.dst, place.store), "SOURCE"),
            ((place.src, place.dst, ""), "STORE"), ((place.src, "s3://b/x", place.store), "directory"),
            ((place.src, "host:/dir", place.store), "this machine"), (("--only-s3", place.dst), "--only-s3"),
            ((place.src, place.dst, "s3://"), "bucket"), (("--engine", "cp", place.src, place.dst, place.store), "--engine"),
            (("--trash", "soon", place.src, place.dst, place.store), "--trash"),
            (("--keep-versions", "0", place.src, place.dst, place.store), "--keep-versions"),
            (("--encrypt", place.src, place.dst, place.store), "BACKUP_ENCRYPTION_KEY"),
            (("--sse", "none", place.src, place.dst, "s3://b"), "--sse"),
        ):
            wrong(place, "two-stage", *arguments, words=[word])


if __name__ == "__main__":
    run_module("two_stage", sys.modules["__main__"])
