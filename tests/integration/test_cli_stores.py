#!/usr/bin/env python3
"""s3sync, two-stage, restore, store and the verification of a store at the shell, with a store in a directory."""

import base64
import json
import os
import sys

from cli_tools import Place, events, run_module, tree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "servers"))
from s3_double import S3Double  # noqa: E402


class StorePlace(Place):
    """With a store below it; the state directory holds the catalogues."""

    def __init__(self):
        super().__init__()
        self.store = self.root / "store"
        self.url = f"file://{self.store}"
        self.to = self.root / "restored"
        for name in [name for name in self.environment if name.startswith(("AWS_", "BACKUP_"))]:
            del self.environment[name]

    def sync(self, *options, **changed):
        return self.good("s3sync", *options, self.src, self.store, **changed)

    def objects(self):
        """The keys of the store but for what is BackApp's own."""
        keys = self.good("store", "ls", self.url).split()
        return [key for key in keys if not key.startswith((".backapp/", ".trash/"))]

    def points(self):
        return [line.rsplit("/", 1)[1] for line in self.good("store", "ls", self.url, ".backapp/tree/roots/").split()]


def new_key():
    return {"BACKUP_ENCRYPTION_KEY": base64.b64encode(os.urandom(32)).decode()}


def test_round_trip():
    with StorePlace() as place:
        place.fill(a_txt="one", sub__b="two" * 1000, sub__deep__c="")
        os.symlink("a.txt", place.src / "link")
        (place.src / "empty").mkdir()
        out = place.sync()
        assert "uploaded 3 files" in out and f"the copy is in {place.url}/" in out, out
        assert place.objects() == ["a.txt", "sub/b", "sub/deep/c"]
        assert "uploaded 0 files" in place.sync()
        assert len(place.points()) == 1, "a run without changes made a point"
        place.good("restore", place.url, "--to", place.to)
        assert tree(place.to) == tree(place.src)
        assert "restored 0 files" in place.good("restore", place.store, "--to", place.to)


def test_parts():
    with StorePlace() as place:
        place.fill(a="1", sub__b="2", sub__c="3", other__d="4")
        place.sync()
        place.good("restore", place.url, "sub/b", "other", "--to", place.to)
        assert tree(place.to) == {"sub": None, "sub/b": b"2", "other": None, "other/d": b"4"}
        code, _, err = place.run("restore", place.url, "nothing", "--to", place.to)
        assert code == 1 and "there is no nothing in this point" in err, err
        code, _, err = place.run("restore", place.url, "../a", "--to", place.to)
        assert code == 2 and "'..'" in err, err


def test_earlier_point():
    """What was replaced and deleted since comes from the trash; without one it is named and the rest is there."""
    with StorePlace() as place:
        place.fill(kept="same", changed="old", gone="soon")
        place.sync()
        place.fill(changed="newer")
        (place.src / "gone").unlink()
        out = place.sync("--delete")
        assert "deleted 1" in out, out
        first, second = place.points()
        place.good("restore", "--at", first, place.url, "--to", place.to)
        assert tree(place.to) == {"kept": b"same", "changed": b"old", "gone": b"soon"}
        place.good("restore", "--at", second, "--delete", place.url, "--to", place.to)
        assert tree(place.to) == {"kept": b"same", "changed": b"newer"}
        for key in place.good("store", "ls", place.url, ".trash/").split():
            place.good("store", "rm", place.url, key)
        code, out, err = place.run("restore", "--at", first, place.url, "--to", place.root / "less")
        assert code == 3 and "2 MISSING" in out and "warning: gone: " in err and "warning: changed: " in err, out + err
        assert tree(place.root / "less") == {"kept": b"same"}


def test_conflicts():
    with StorePlace() as place:
        place.fill(file="backup")
        place.sync()
        place.to.mkdir()
        (place.to / "file").write_text("mine, and longer")
        place.good("restore", "--conflict", "skip", place.url, "--to", place.to)
        assert tree(place.to) == {"file": b"mine, and longer"}
        place.good("restore", "--conflict", "if-newer", place.url, "--to", place.to)
        assert tree(place.to) == {"file": b"mine, and longer"}, "the file there was the newer one"
        place.good("restore", "--conflict", "rename", place.url, "--to", place.to)
        found = tree(place.to)
        aside = [name for name in found if name.startswith("file.before-restore-")]
        assert len(aside) == 1 and found[aside[0]] == b"mine, and longer" and found["file"] == b"backup", found


def test_plain_and_encrypted_do_not_mix():
    with StorePlace() as place:
        place.fill(secret="x", sub__b="y")
        key, other = new_key(), new_key()
        place.sync("--encrypt", env=key)
        before = place.objects()
        assert len(before) == 2 and not any("secret" in name or "sub" in name for name in before), before
        code, _, err = place.run("restore", place.url, "--to", place.to)
        assert code == 1 and "it is encrypted" in err, err
        elsewhere = ["--state-dir", place.root / "elsewhere"]
        for options, variables in (([], {}), (elsewhere, {}), (elsewhere, {}), (["--encrypt"], other),
                                   (["--encrypt", *elsewhere], other)):
            code, _, err = place.run("s3sync", *options, place.src, place.store, env=variables)
            assert code == 1 and "choose another prefix" in err, f"{options}: {code} {err}"
        assert place.objects() == before, "something was written all the same"
        assert "unchanged 2" in place.sync("--encrypt", *elsewhere, env=key)
        place.good("restore", place.url, "--to", place.to, env=key)
        assert tree(place.to) == tree(place.src)
    with StorePlace() as place:
        place.fill(a="x")
        place.sync()
        for options in ([], ["--state-dir", place.root / "elsewhere"]):
            code, _, err = place.run("s3sync", "--encrypt", *options, place.src, place.store, env=new_key())
            assert code == 1 and "not encrypted" in err, err
        assert place.objects() == ["a"]


def test_two_stages():
    """The mirror's own files are no news; the second stage can be repeated and looked at alone."""
    with StorePlace() as place:
        place.fill(a="1", sub__b="2")
        out = place.good("two-stage", place.src, place.dst, place.url)
        assert "the mirror is in" in out and "uploaded 2 files" in out and "skipped" not in out, out
        assert place.objects() == ["a", "sub/b"]
        place.fill(a="3")
        place.mirror()
        out = place.good("two-stage", "--only-s3", "--dry-run", place.dst, place.url)
        assert "would upload 1 file" in out, out
        assert place.good("store", "cat", place.url, "a") == "1"
        out = place.good("two-stage", "--only-s3", place.dst, place.url)
        assert "uploaded 1 file" in out and "the mirror is in" not in out, out
        assert place.good("store", "cat", place.url, "a") == "3"


def test_second_stage_fails():
    with StorePlace() as place:
        place.fill(a="1")
        code, _, err = place.run("two-stage", place.src, place.dst, f"file://{place.root}/no/such/place")
        assert code == 1 and "the mirror is complete and valid" in err and "--only-s3" in err, err
        assert tree(place.dst) == {"a": b"1"}


def test_several_stores():
    with StorePlace() as place:
        place.fill(a="1")
        code, out, err = place.run("s3sync", place.src, place.store, f"file://{place.root}/no/such/place")
        assert code == 3 and "not all is in every store" in out, out + err
        assert place.objects() == ["a"]


def test_verify():
    with StorePlace() as place:
        place.fill(a="1", b="2", c="3")
        place.sync()
        assert "3 objects verified" in place.good("verify", "--read-back", place.url)
        (place.store / "a").unlink()
        (place.store / "b").write_text("other")
        code, out, err = place.run("verify", place.url)
        assert code == 1 and "1 object verified" in out and "1 MISSING" in out and "1 DAMAGED" in out, out + err
        assert "uploaded" not in out, out
        assert "uploaded 2 files" in place.sync()
        assert "3 objects verified" in place.good("verify", "--read-back", place.url)
        # Bit rot: only reading finds it, and neither list nor hash of the source would ever ask for an upload.
        rotten = place.store / "c"
        before = rotten.stat()
        rotten.write_text("4")
        os.utime(rotten, ns=(before.st_atime_ns, before.st_mtime_ns))
        code, out, err = place.run("verify", "--read-back", place.url)
        assert code == 1 and "1 DAMAGED" in out, out + err
        assert "uploaded 1 file" in place.sync()
        assert "3 objects verified" in place.good("verify", "--read-back", place.url)


def test_refusal_and_confirmation():
    with StorePlace() as place:
        place.fill(**{f"f{i}": str(i) for i in range(250)})
        place.sync()
        for i in range(200):
            (place.src / f"f{i}").unlink()
        code, out, _ = place.run("s3sync", "--json", "--delete", place.src, place.store)
        done = events(out)[-1]
        assert code == 4 and done["status"] == "refused" and len(place.objects()) == 250, out
        assert "deleted 200" in place.sync("--delete", "--confirm", done["planHash"])
        assert len(place.objects()) == 50


def test_keys_stay_secret():
    """Whether a server takes them or not, they are in nothing that is printed."""
    with StorePlace() as place, S3Double() as double:
        place.fill(a="1")
        url = f"s3://{double.new_bucket()}/p"
        right = {**double.variables(), **new_key()}
        wrong = {**right, "AWS_SECRET_ACCESS_KEY": "this/is+the/secret"}
        stranger = {**wrong, "AWS_ACCESS_KEY_ID": "AKIDOFASTRANGER", "AWS_SESSION_TOKEN": "sessionsecret"}
        for variables, options in ((right, ["--encrypt", "-v"]), (right, ["--encrypt", "--json"]), (wrong, ["-v"]),
                                   (wrong, ["--json"]), (stranger, ["--json"])):
            code, out, err = place.run("s3sync", *options, place.src, url, env=variables)
            assert code == (0 if variables is right else 1), out + err
            for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "BACKUP_ENCRYPTION_KEY"):
                assert variables.get(name, "nothing") not in out + err, name


def test_cost():
    """A plan's requests have a price where the provider is known, in that provider's currency."""
    with StorePlace() as place, S3Double() as double:
        place.fill(**{f"f{i}": str(i) for i in range(100)})
        command = ["s3sync", "--dry-run", "--path-style", "--provider", "aws", place.src, f"s3://{double.new_bucket()}/p"]
        out = place.good(*command, env=double.variables())
        assert "would upload 100 files" in out and " US dollars" in out, out
        out = place.good("s3sync", "--storage-class", "DEEP_ARCHIVE", "--json", *command[1:], env=double.variables())
        stage2 = next(line["stats"]["stage2"] for line in events(out) if line["type"] == "summary")
        assert stage2["currency"] == "USD" and 0.06 / 10 < stage2["estimatedCost"] < 0.06 / 5, stage2


def test_smallest_rights():
    """Where many may not be deleted with one request, each is deleted with one of its own; what else is denied is told."""
    with StorePlace() as place, S3Double() as double:
        url = f"s3://{double.new_bucket()}/p"
        place.fill(a="1", b="2", c="3")
        place.good("s3sync", place.src, url, env=double.variables())
        (place.src / "a").unlink()
        (place.src / "b").unlink()
        double.denied = {"DeleteObjects", "GetBucketVersioning", "GetBucketAcl", "GetBucketPolicyStatus", "GetBucketEncryption",
                         "GetObjectLockConfiguration", "ListMultipartUploads"}
        out = place.good("s3sync", "--delete", place.src, url, env=double.variables())
        assert "deleted 2" in out, out
        (place.src / "d").write_text("4")
        place.good("s3sync", place.src, url, env=double.variables())
        (place.src / "d").write_text("44")
        code, _, err = place.run("s3sync", place.src, url, env=double.variables())
        assert code == 0 and err.count("s3:GetBucketVersioning") == 1, err
        double.denied.add("DeleteObject")
        (place.src / "c").write_text("other")
        code, _, err = place.run("s3sync", "--delete", "--force", place.src, url, env=double.variables())
        assert code == 0, err
        (place.src / "c").unlink()
        code, _, err = place.run("s3sync", "--delete", "--force", place.src, url, env=double.variables())
        assert code == 1 and "grant s3:DeleteObject" in err, err


def test_json():
    with StorePlace() as place:
        place.fill(a="12345")
        lines = events(place.sync("--json"))
        stage2 = next(line["stats"]["stage2"] for line in lines if line["type"] == "summary")
        assert stage2["filesUploaded"] == 1 and stage2["bytesUploaded"] == 5 and stage2["requests"]["put"] > 0, stage2
        assert "estimatedCost" not in stage2, "a directory has no price"
        listed = [json.loads(line) for line in place.good("store", "ls", "--json", place.url, "a").splitlines()]
        assert [(entry["key"], entry["size"]) for entry in listed] == [("a", 5)], listed


if __name__ == "__main__":
    run_module("cli_stores", sys.modules[__name__])
