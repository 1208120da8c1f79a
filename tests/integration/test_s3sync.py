#!/usr/bin/env python3
"""`backapp s3sync` and the verification of stores at the command line: every option, wrong input, plans, safety, several
destinations, resuming, and what verify finds."""

import os
import signal
import sys
import time

from cli_tools import as_nobody, children, end, everything, run_module, wait_for
from s3_tools import ENCRYPTION_KEY, BucketPlace, FaultProxy, Rule, StorePlace

OWN = (".backapp", ".backapp-store", ".trash")


def stored(place):
    """The files that a directory store holds, ours left out: {name: content}."""
    found = {}
    for path in sorted(place.store.rglob("*")):
        name = str(path.relative_to(place.store))
        if path.is_file() and not name.startswith(OWN):
            found[name] = path.read_bytes()
    return found


def wrong(place, *arguments, words=(), **options):
    """A command line that has to be refused with exit 2, one clear line, and nothing done."""
    before = everything(place.root)
    code, out, err = place.run(*arguments, **options)
    assert code == 2 and not out, f"{arguments}: code {code}, {out}{err}"
    lines = err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("backapp: ") and "backapp help" in lines[1], f"{arguments}: {err}"
    for word in words:
        assert word in lines[0], f"{arguments}: {word!r} is not in {lines[0]!r}"
    assert everything(place.root) == before, f"{arguments} changed something"


# ---- wrong input


def test_wrong_input_is_refused():
    with StorePlace() as place:
        for arguments, word in (
            ((), "DIR"),
            ((place.src,), "STORE"),
            (("", place.store), "empty"),
            ((place.src, ""), "empty"),
            (("s3://bucket/x", place.store), "restore"),
            ((place.src, "s3://"), "bucket"),
            ((place.src, "s3:///folder"), "bucket"),
            ((place.src, "ftp://host/x"), "no store"),
            ((place.src, "file://host/x"), "file:///"),
            ((place.src, place.store, place.store), "twice"),
            (("--trash", "x", place.src, place.store), "--trash"),
            (("--trash", "-1", place.src, place.store), "--trash"),
            (("--storage-class", "glacier", place.src, place.store), "--storage-class"),
            (("--class-for", "*.iso", place.src, place.store), "--class-for"),
            (("--class-for", "*.iso=cold one", place.src, place.store), "--class-for"),
            (("--s3-prefix", "{nonsense}", place.src, place.store), "nonsense"),
            (("--provider", "nobody", place.src, "s3://b/x"), "scaleway"),
            (("--endpoint", "server:9000", place.src, "s3://b/x"), "https://"),
            (("--sse", "rot13", place.src, "s3://b/x"), "--sse"),
            (("--sse-kms-key", "id", place.src, "s3://b/x"), "--sse-kms-key"),
            (("--concurrency", "0", place.src, place.store), "--concurrency"),
            (("--concurrency", "1000", place.src, place.store), "--concurrency"),
            (("--relist-days", "many", place.src, place.store), "--relist-days"),
            (("--versions-keep", "0", place.src, place.store), "--versions-keep"),
            (("--max-delete", "101", place.src, place.store), "--max-delete"),
            (("--confirm", "yes", place.src, place.store), "--confirm"),
            (("--encrypt", place.src, place.store), "BACKUP_ENCRYPTION_KEY"),
            (("--keep-versions", "3", place.src, place.store), "--keep-versions"),
            (("--exclude", "", place.src, place.store), "--exclude"),
        ):
            wrong(place, "s3sync", *arguments, words=[word])
        wrong(place, "s3sync", "--encrypt", place.src, place.store, words=["base64"], env={"BACKUP_ENCRYPTION_KEY": "short"})


def test_wrong_verifications_are_refused():
    with StorePlace() as place:
        for arguments, word in (
            ((), "DEST"), (("",), "empty"), (("s3://",), "bucket"), ((place.src, place.dst), "one"),
            (("--read-back", place.src), "stores"),
            (("--endpoint", "x", "s3://b/x"), "https://"), (("--provider", "x", "s3://b/x"), "aws"),
            (("--concurrency", "x", "s3://b/x"), "--concurrency"), (("--bwlimit", "x", "s3://b/x"), "--bwlimit"),
        ):
            wrong(place, "verify", *arguments, words=[word])
        # What it is has to be asked of the store.
        place.fill(a="1")
        place.good("s3sync", place.src, place.root / "copy")
        wrong(place, "verify", "--jobs", "2", place.root / "copy", words=["--concurrency"])


def test_what_is_not_there_fails():
    with StorePlace() as place:
        code, _, err = place.run("s3sync", place.root / "nowhere", place.root / "other")
        assert code == 1 and "nowhere" in err, err
        code, _, err = place.run("verify", "file://" + str(place.store))
        assert code == 1 and "no such directory" in err and not place.store.exists(), err
        code, _, err = place.run("s3sync", place.src, place.root / "no" / "folder")
        assert code == 1 and "folder" in err, err


# ---- plans


def test_a_dry_run_changes_nothing_and_plans_what_is_done():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.files(12)
        place.fill(a__b="text", big_bin=os.urandom(1 << 20))
        os.symlink("big.bin", place.src / "link")
        os.link(place.src / "big.bin", place.src / "second")
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        def plan_and_run():
            before = everything(place.src)
            planned = place.sync("--delete", "-v", "--dry-run", to=place.url)
            assert everything(place.src) == before
            proxy.clear()
            done = place.sync("--delete", "-v", to=place.url)
            assert planned.items() == done.items(), (planned.items(), done.items())
            for key in ("filesUploaded", "filesCopied", "filesDeleted", "bytesUploaded", "filesUnchanged", "planHash"):
                assert planned.stage2[key] == done.stage2[key], (key, planned.stage2[key], done.stage2[key])
            for kind, planned_count in planned.requests.items():
                if kind in ("put", "copy"):
                    assert planned_count == done.requests[kind], (kind, planned.requests, done.requests)
            seen = proxy.counts()
            assert done.requests["copy"] == seen["CopyObject"], (done.requests, seen)
            return done
        assert plan_and_run().stage2["filesUploaded"] == 14
        assert place.keys() == sorted([f"many/{n:05d}" for n in range(12)] + ["a/b", "big.bin", "second"])
        (place.src / "many" / "00003").write_bytes(b"new")
        (place.src / "many" / "00004").unlink()
        run = plan_and_run()
        assert (run.stage2["filesUploaded"], run.stage2["filesDeleted"]) == (1, 1), run.stage2
        assert run.requests["copy"] == 2, run.requests  # the replaced and the deleted one go to the trash


def test_an_unchanged_run_only_lists():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.files(30)
        place.sync(to=place.url)
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        run = place.sync(to=place.url)
        kinds = proxy.counts()
        assert set(kinds) <= {"ListObjectsV2", "GetObject"}, kinds
        assert kinds["GetObject"] <= 3 and kinds["ListObjectsV2"] <= 4, kinds
        assert run.stage2["filesUnchanged"] == 30
        # With a catalogue that is trusted there is no list of the objects either.
        proxy.clear()
        place.sync("--relist-days", "5", to=place.url)
        listed = [r.query for r in proxy.log() if r.kind == "ListObjectsV2" and "tree" not in r.query]
        assert not listed, listed
        proxy.clear()
        place.sync("--relist-days", "5", "--relist", to=place.url)
        assert [r for r in proxy.log() if r.kind == "ListObjectsV2" and "tree" not in r.query], proxy.counts()


def test_a_first_dry_run_makes_no_directory():
    with StorePlace() as place:
        place.files(3)
        run = place.sync("--dry-run")
        assert run.stage2["filesUploaded"] == 3 and not place.store.exists()


# ---- options


def test_selection():
    with StorePlace() as place:
        place.fill(keep_txt="1", drop_log="2", keep_log="3", cache__CACHEDIR_TAG="Signature: 8a477f597d28d172789f06886806bc55",
                   cache__x="4", out__marker="", out__y="5", large="6" * 5000)
        (place.src / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
        place.sync("--include", "keep.log", "--exclude", "*.log", "--exclude-caches", "--exclude-if-present", "marker",
                   "--exclude-larger-than", "4K", "--one-file-system")
        assert sorted(stored(place)) == ["cache/CACHEDIR.TAG", "keep.log", "keep.txt"] or \
            sorted(stored(place)) == ["keep.log", "keep.txt"], sorted(stored(place))


def test_checksum_finds_what_size_and_time_hide():
    with StorePlace() as place:
        place.fill(a="one!")
        place.sync()
        times = os.stat(place.src / "a")
        (place.src / "a").write_bytes(b"two!")
        os.utime(place.src / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert place.sync().stage2["filesUploaded"] == 0
        assert place.sync("--checksum").stage2["filesUploaded"] == 1
        assert stored(place)["a"] == b"two!"


def test_trash_and_its_absence():
    with StorePlace() as place:
        place.fill(a="1", b="2", c="3")
        place.sync()
        (place.src / "a").unlink()
        assert place.sync().stage2["filesDeleted"] == 0, "deleted without --delete"
        assert place.sync("--delete").stage2["filesDeleted"] == 1
        assert [p.read_text() for p in place.store.glob(".trash/*/a")] == ["1"]
        (place.src / "b").unlink()
        place.sync("--delete", "--trash", "0")
        assert not list(place.store.glob(".trash/*/b")) and sorted(stored(place)) == ["c"]


def test_classes():
    with BucketPlace() as place:
        place.fill(a_iso="1", b_txt="2", c_bin="3")
        place.sync("--storage-class", "STANDARD_IA", "--class-for", "*.iso=GLACIER_IR", "--class-for", "*.txt=ONEZONE_IA",
                   to=place.url)
        found = {key: place.client.head(place.bucket, "backup/" + key).headers.get("x-amz-storage-class", "STANDARD")
                 for key in place.keys()}
        assert found == {"a.iso": "GLACIER_IR", "b.txt": "ONEZONE_IA", "c.bin": "STANDARD_IA"}, found


def test_every_other_option_is_taken():
    with BucketPlace(versioning=True) as place:
        place.files(5)
        state = place.root / "catalogues"
        run = place.sync("--s3-prefix", "daily/YYYY-MM-DD", "--verify", "--read-back", "--concurrency", "4", "--bwlimit",
                         "100000", "--nice", "3", "--ionice", "idle", "--endpoint", place.server.tls_endpoint, "--region",
                         "us-east-1", "--provider", "any", "--ca-file", place.server.ca, "--path-style", "--sse",
                         "AES256", "--state-dir", state, "--versions-keep", "9", "--force", to=place.url)
        assert run.stage2["verified"] == 5, run.stage2
        assert run.stage2["s3Path"] == f"{place.url}/daily/{time.strftime('%Y-%m-%d')}/", run.stage2["s3Path"]
        assert list(state.iterdir()), "no catalogue where it was asked for"
        code, out, _ = place.run("s3sync", "--help")
        options = [word for word in out.split() if word.startswith("--")]
        assert code == 0 and len(options) >= 30, options
        # The keys of a profile.
        config = place.root / "credentials"
        config.write_text(f"[mine]\naws_access_key_id = {place.server.access_key}\n"
                          f"aws_secret_access_key = {place.server.secret_key}\n")
        secrets = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": str(config)}
        assert place.fine("s3sync", "--profile", "mine", place.src, place.url, env=secrets).stage2["filesUploaded"] == 5


def test_encrypted_names_and_contents():
    with StorePlace() as place:
        place.fill(secret__name="the content that nobody sees", other="x")
        place.environment["BACKUP_ENCRYPTION_KEY"] = ENCRYPTION_KEY
        place.sync("--encrypt")
        everywhere = b"".join(p.read_bytes() + str(p).encode() for p in place.store.rglob("*") if p.is_file())
        assert b"nobody sees" not in everywhere and b"secret" not in everywhere and len(stored(place)) == 2
        assert place.sync("--encrypt").stage2["filesUnchanged"] == 2


# ---- safety


def test_many_deletions_are_refused_until_confirmed():
    with StorePlace() as place:
        place.files(150)
        place.sync()
        for number in range(120):
            (place.src / "many" / f"{number:05d}").unlink()
        before = stored(place)
        run = place.json("s3sync", "--delete", place.src, place.store)
        assert run.code == 4 and run.done["status"] == "refused" and stored(place) == before, run
        code, _, err = place.run("s3sync", "--delete", place.src, place.store)
        assert code == 4 and "--confirm " + run.done["planHash"] in err, err
        (place.src / "new").write_bytes(b"x")
        run2 = place.json("s3sync", "--delete", "--confirm", run.done["planHash"], place.src, place.store)
        assert run2.code == 4, "another plan than the confirmed one was done"
        place.sync("--delete", "--confirm", run2.done["planHash"])
        assert len(stored(place)) == 31
        for number in range(120, 140):
            (place.src / "many" / f"{number:05d}").unlink()
        place.sync("--delete", "--max-delete", "10", "--force")
        assert len(stored(place)) == 11


def test_what_cannot_be_read_makes_it_partial():
    user = as_nobody()
    with StorePlace() as place:
        place.fill(open="1", closed="2", folder__inside="3")
        os.chmod(place.src / "closed", 0)
        os.chmod(place.src / "folder", 0)
        if user:
            for path in (place.root, place.src, place.src / "open", place.src / "closed", place.src / "folder"):
                os.chown(path, 65534, 65534)
            os.chown(place.src / "closed", 0, 0)
            os.chown(place.src / "folder", 0, 0)
        run = place.json("s3sync", "--delete", place.src, place.store, **user)
        assert run.code == 3 and run.done["status"] == "partial", run
        named = {w["path"] for w in run.of("warning")}
        assert {"closed", "folder"} <= named, run.of("warning")
        assert sorted(stored(place)) == ["open"] and run.stage2["unreadable"] >= 1, run.stage2
        # Neither is taken for deleted afterwards.
        os.chmod(place.src / "closed", 0o644)
        os.chmod(place.src / "folder", 0o755)
        place.fine("s3sync", "--delete", place.src, place.store, **user)
        os.chmod(place.src / "folder", 0)
        again = place.json("s3sync", "--delete", place.src, place.store, **user)
        assert again.code == 3 and "folder/inside" in stored(place), again
        os.chmod(place.src / "folder", 0o755)


def test_one_of_several_destinations_fails():
    with BucketPlace() as place:
        place.files(5)
        run = place.json("s3sync", place.src, place.url, "s3://no-such-bucket-here/x", place.store)
        assert run.code == 3 and run.done["status"] == "partial", run
        outcome = {d["url"]: d["status"] for d in run.summary["destinations"]}
        assert outcome == {place.url: "completed", "s3://no-such-bucket-here/x": "failed", str(place.store): "completed"}, outcome
        assert len(place.keys()) == 5 and len(stored(place)) == 5
        code, out, err = place.run("s3sync", place.src, place.url, "s3://no-such-bucket-here/x")
        assert code == 3 and "no-such-bucket-here" in out + err, out + err
        run = place.json("s3sync", place.src, "s3://no-such-bucket-here/x", "s3://neither-this/x")
        assert run.code == 1 and run.done["status"] == "failed", run


def test_a_cancelled_run_goes_on():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.files(60)
        (place.src / "zz").write_bytes(os.urandom(20 << 20))
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        proxy.add(Rule("latency", kind=["PutObject", "UploadPart"], seconds=0.15))
        process = place.start("s3sync", "--json", "--concurrency", "2", place.src, place.url)
        try:
            wait_for(lambda: proxy.counts()["PutObject"] >= 12, "uploads")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
            assert process.returncode == 130, (process.returncode, out)
        finally:
            end(process)
        proxy.clear()
        run = place.sync(to=place.url)
        assert run.stage2["filesUploaded"] < 61, "all was sent again"
        assert len(place.keys()) == 61


def test_a_killed_run_goes_on_and_its_lock_is_taken_over():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.files(40)
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        proxy.add(Rule("latency", kind="PutObject", seconds=0.1))
        process = place.start("s3sync", "--json", "--concurrency", "2", place.src, place.url)
        try:
            wait_for(lambda: proxy.counts()["PutObject"] >= 10, "uploads")
            for pid in children(process):
                os.kill(pid, signal.SIGKILL)
            process.communicate(timeout=60)
            assert process.returncode == 1, process.returncode
        finally:
            end(process)
        proxy.clear()
        run = place.sync(to=place.url)
        assert 0 < run.stage2["filesUploaded"] < 40 and len(place.keys()) == 40, run.stage2
        assert place.sync(to=place.url).stage2["filesUploaded"] == 0


# ---- verify


def damaged(run):
    return sorted((w["code"], w["path"]) for w in run.of("warning") if w["code"] in ("damaged", "missing"))


def test_verify_names_what_is_lost_replaced_and_flipped():
    with BucketPlace() as place:
        place.fill(good="1", gone="2", replaced="3", flipped="4444")
        place.sync(to=place.url)
        run = place.fine("verify", place.url)
        assert run.stage2["verified"] == 4, run.stage2
        place.client.delete(place.bucket, "backup/gone")
        place.client.put(place.bucket, "backup/replaced", b"33")
        place.client.put(place.bucket, "backup/flipped", b"4445", x_amz_meta_mtime="1.000000000")
        for options in ((), ("--read-back", "--concurrency", "3"), ("--read-back", "--nice", "1", "--bwlimit", "9999")):
            run = place.json("verify", *options, place.url)
            assert run.code == 1 and run.done["status"] == "failed", run
            assert {path for _, path in damaged(run)} == {"gone", "replaced", "flipped"}, run.of("warning")
            assert (run.stage2["missing"], run.stage2["damaged"]) == (1, 2), run.stage2
        code, out, err = place.run("verify", place.url)
        assert code == 1 and all(name in err for name in ("gone", "replaced", "flipped")) and "MISSING" in out, out + err
        place.sync("--relist", "--checksum", to=place.url)
        assert place.fine("verify", "--read-back", place.url).stage2["verified"] == 4


def test_verify_reads_back_a_directory():
    with StorePlace() as place:
        place.fill(good="1", flipped="4444", gone="5")
        place.sync()
        url = "file://" + str(place.store)
        (place.store / "gone").unlink()
        old = os.stat(place.store / "flipped")
        with open(place.store / "flipped", "r+b") as file:
            file.write(b"5")
        os.utime(place.store / "flipped", ns=(old.st_atime_ns, old.st_mtime_ns))
        run = place.json("verify", "--read-back", url)
        assert run.code == 1 and {path for _, path in damaged(run)} == {"flipped", "gone"}, run


def test_verify_of_what_is_encrypted():
    with StorePlace() as place:
        place.fill(a="1", b="2")
        place.environment["BACKUP_ENCRYPTION_KEY"] = ENCRYPTION_KEY
        place.sync("--encrypt")
        url = "file://" + str(place.store)
        assert place.fine("verify", "--read-back", url).stage2["verified"] == 2
        code, _, err = place.run("verify", url, env={"BACKUP_ENCRYPTION_KEY": ""})
        assert code == 1 and "encrypt" in err and "BACKUP_ENCRYPTION_KEY" in err, err
        victim = next(p for p in place.store.iterdir() if p.is_file() and not p.name.startswith("."))
        data = bytearray(victim.read_bytes())
        data[-1] ^= 1
        victim.write_bytes(data)
        run = place.json("verify", "--read-back", url)
        assert run.code == 1 and run.stage2["damaged"] == 1, run


def test_verify_knows_a_directory_that_is_a_store():
    with StorePlace() as place:
        place.fill(good="1", flipped="4444")
        place.sync()
        assert place.fine("verify", place.store).stage2["verified"] == 2
        assert place.fine("verify", "--read-back", "store", cwd=place.root).stage2["verified"] == 2
        wrong(place, "verify", "--jobs", "2", place.store, words=["--concurrency"])
        (place.store / "flipped").write_bytes(b"5444")
        run = place.json("verify", "--read-back", place.store)
        assert run.code == 1 and damaged(run) == [("damaged", "flipped")], run
        # A mirror stays one, whatever else lies in its folder, and is not read as a store.
        place.mirror()
        (place.dst / ".backapp" / "tree").mkdir()
        assert "verify" in place.fine("verify", place.dst).summary
        wrong(place, "verify", "--read-back", place.dst, words=["stores"])


def test_space_around_the_key_does_not_count():
    with StorePlace() as place:
        place.fill(a="1")
        place.environment["BACKUP_ENCRYPTION_KEY"] = ENCRYPTION_KEY
        place.sync("--encrypt")
        for key in (ENCRYPTION_KEY + "\n", " " + ENCRYPTION_KEY + "\r\n"):
            place.environment["BACKUP_ENCRYPTION_KEY"] = key
            assert place.sync("--encrypt").stage2["filesUnchanged"] == 1
            assert place.fine("verify", "--read-back", place.store).stage2["verified"] == 1
        for key in ("\n", ENCRYPTION_KEY[:20] + "\n" + ENCRYPTION_KEY[20:]):
            wrong(place, "s3sync", "--encrypt", place.src, place.store, words=["base64"], env={"BACKUP_ENCRYPTION_KEY": key})


if __name__ == "__main__":
    run_module("s3sync", sys.modules["__main__"])
