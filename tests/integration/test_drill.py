#!/usr/bin/env python3
"""`backapp drill`: a sample really restored and compared - of S3 mirrors, mirrors and archives; what is damaged, missing,
unproven, too large; what is chosen; what is left behind (nothing)."""

import os
import shutil
import sys

from cli_tools import everything, run_module
from s3_tools import BucketPlace, StorePlace
from test_s3sync import wrong


class DrillPlace(StorePlace):
    """With a folder for temporary files of its own, which has to be empty after each drill."""

    def __init__(self):
        super().__init__()
        self.tmp = self.root / "tmp"
        self.tmp.mkdir()
        self.environment["TMPDIR"] = str(self.tmp)

    def drill(self, *options, store=None, code=0):
        run = self.json("drill", store or self.store, *options)
        assert run.code == code, run
        assert not os.listdir(self.tmp), "the sandbox is left"
        return run

    def numbers(self, *options, store=None, code=0):
        return self.drill(*options, store=store, code=code).summary["drill"]

    def many(self, count=30):
        for number in range(count):
            self.fill(**{f"folder__f{number:02d}": bytes([number]) * (100 + number * 1000)})
            os.utime(self.src / f"folder/f{number:02d}", (1_700_000_000 + number, 1_700_000_000 + number))


def damage(path, at=3):
    """A flipped bit, and the times as they were: what a rotten disk does."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_s3_mirror():
    with DrillPlace() as place:
        place.many()
        os.link(place.src / "folder/f00", place.src / "again")
        os.symlink("folder", place.src / "link")
        place.sync()
        before = everything(place.store)
        found = place.numbers("--files", "4", "--source", place.src)
        assert found["kind"] == "s3-mirror" and found["filesTotal"] == 30 and found["failures"] == [], found
        # The largest four are the newest four here; random ones may be among them.
        assert 4 <= found["files"] <= 8 and found["proven"] == found["compared"] == found["files"], found
        assert found["failed"] == found["unproven"] == 0 and found["bytes"] >= 4 * 26000, found
        assert everything(place.store) == before
        out = place.good("drill", place.store)
        assert "proven restorable: " in out and "--seed" in out, out


def test_the_choice():
    with DrillPlace() as place:
        place.many()
        place.sync()
        one, two = (place.numbers("--files", "3", "--seed", "7") for _ in range(2))
        assert {**one, "duration": 0} == {**two, "duration": 0} and one["seed"] == 7, (one, two)
        assert len({place.numbers("--files", "5", "--seed", str(seed))["bytes"] for seed in range(1, 7)}) > 1
        # Only those that fit, and together no more than allowed.
        found = place.numbers("--files", "30", "--max-bytes", "10K")
        assert 3 < found["files"] < 30 and found["bytes"] <= 10240, found
        assert place.numbers("--files", "30")["files"] == 30
        found = place.numbers("folder/f03", "folder/f05")
        assert found["filesTotal"] == found["files"] == 2, found


def test_nothing_is_no_success():
    with DrillPlace() as place:
        place.many(3)
        place.sync()
        for options, word in ((("--max-bytes", "50"), "50 B"), (("nothing/here",), "nothing/here")):
            run = place.drill(*options, code=1)
            assert word in run.done["error"]["message"], run
        shutil.rmtree(place.src / "folder")
        place.sync("--delete", "--force")
        assert "no regular file" in place.drill(code=1).done["error"]["message"]
        assert place.drill(store=place.root / "absent", code=1).done["error"]["code"] == "NOT_FOUND"
        assert place.drill(store=place.src, code=1).done["error"]["code"] == "NOT_FOUND"


def test_damaged_and_missing_objects():
    with DrillPlace() as place:
        place.many(6)
        place.sync()
        damage(place.store / "folder/f02")
        (place.store / "folder/f04").unlink()
        run = place.drill(code=1)
        found = run.summary["drill"]
        assert found["failed"] == 2 and found["proven"] == 4 and found["files"] == 6, found
        assert sorted(failure["path"] for failure in found["failures"]) == ["folder/f02", "folder/f04"], found
        assert {(w["path"], w["code"]) for w in run.of("warning")} == {("folder/f02", "damaged"), ("folder/f04", "missing")}
        code, out, err = place.run("drill", place.store)
        assert code == 1 and "NOT RESTORABLE: 2 files" in out and "folder/f02" in err, (out, err)


def test_a_mirror():
    with DrillPlace() as place:
        place.many(8)
        place.mirror()
        found = place.numbers(store=place.dst, code=3)
        assert found["kind"] == "mirror" and found["unproven"] == found["files"] == 8 and found["proven"] == 0, found
        assert place.numbers("--source", place.src, store=place.dst)["compared"] == 8
        place.mirror("--verify")
        found = place.numbers(store=place.dst)
        assert found["proven"] == 8 and found["compared"] == 0, found
        damage(place.dst / "folder/f01")
        found = place.numbers(store=place.dst, code=1)
        assert found["failed"] == 1 and found["failures"][0]["path"] == "folder/f01", found
        # A source that was changed since tells nothing, one that is as it was does.
        place.fill(folder__f00="changed")
        found = place.numbers("--source", place.src, store=place.dst, code=1)
        assert found["failed"] == 1 and found["compared"] == 6 and found["proven"] == 7, found


def test_a_source_that_differs():
    with DrillPlace() as place:
        place.many(5)
        place.sync()
        damage(place.src / "folder/f03")
        found = place.numbers("--source", place.src, code=1)
        assert found["failed"] == 1 and "source" in found["failures"][0]["why"], found


def test_archives():
    with DrillPlace() as place:
        place.many(12)
        other = place.root / "other"
        other.mkdir()
        (other / "x").write_bytes(os.urandom(100_000))
        place.good("archive", "create", "--name", "two", place.store, place.src, other)
        found = place.numbers("--source", place.src, "--source", other, "--files", "20")
        assert found["kind"] == "archives" and found["name"] == "two" and found["files"] == found["compared"] == 13, found
        (other / "x").write_bytes(b"newer")
        place.good("archive", "create", "--name", "two", place.store, place.src, other)
        assert place.numbers("--files", "20")["proven"] == 13
        volume, = [path for path in (place.store / "two").iterdir() if path.name.endswith("-full.tar.gz")]
        damage(volume, at=volume.stat().st_size // 2)
        assert place.numbers("--files", "20", code=1)["failed"] >= 1


def test_encrypted_archives():
    with DrillPlace() as place:
        place.many(4)
        secret = {"BACKUP_ENCRYPTION_KEY": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="}
        place.good("archive", "create", "--encrypt", "--name", "n", place.store, place.src, env=secret)
        run = place.drill(code=1)
        assert run.done["error"]["code"] == "DENIED", run
        place.environment.update(secret)
        assert place.numbers()["proven"] == 4


def test_in_a_bucket():
    with BucketPlace() as place:
        place.fill(a="1", b__c="22" * 5000)
        place.fine("s3sync", place.src, place.url)
        run = place.json("drill", place.url, "--source", place.src)
        assert run.code == 0 and run.summary["drill"]["compared"] == 2, run
        place.client.good("PUT", place.bucket, "backup/a", body=b"2")
        run = place.json("drill", place.url)
        assert run.code == 1 and run.summary["drill"]["failed"] == 1, run


def test_wrong_input_is_refused():
    with StorePlace() as place:
        for arguments, word in (
            ((), "STORE"), (("",), "STORE"), ((place.store, "../x"), ".."), (("--files", "0", place.store), "--files"),
            (("--max-bytes", "x", place.store), "--max-bytes"), (("--max-bytes", "0", place.store), "--max-bytes"),
            (("--seed", "0", place.store), "--seed"), (("--source", "", place.store), "--source"),
            (("--source", "s3://b/x", place.store), "--source"), (("--at", "", place.store), "--at"),
            (("--force", place.store), "--force"),
        ):
            wrong(place, "drill", *arguments, words=[word])


if __name__ == "__main__":
    run_module("drill", sys.modules["__main__"])
