#!/usr/bin/env python3
"""backapp archive, and ls and verify of archives, at the shell, with a store in a directory."""

import base64
import json
import os
import subprocess
import sys
import time

from cli_tools import Place, events, run_module, tree

SECRET = {"BACKUP_PASSPHRASE": "correct horse"}


class ArchivePlace(Place):
    """With a store below it. Points are told apart by seconds: each run is due at one of its own."""

    def __init__(self):
        super().__init__()
        self.store = self.root / "store"
        self.to = self.root / "restored"
        self.last = 0
        for name in [name for name in self.environment if name.startswith(("AWS_", "BACKUP_"))]:
            del self.environment[name]

    def create(self, *options, **changed):
        """Makes a point of src and returns the summary."""
        while int(time.time()) <= self.last:
            time.sleep(0.05)
        self.last = int(time.time())
        out = self.good("archive", "create", "--json", *options, self.store, self.src, **changed)
        return next(line["stats"] for line in events(out) if line["type"] == "summary")["archive"]

    def lines(self, *argv, **changed):
        """What a command prints with --json."""
        return [json.loads(line) for line in self.good(*argv, "--json", **changed).splitlines()]

    def list(self, **changed):
        return self.lines("archive", "list", self.store, **changed)

    def files(self):
        return sorted(str(path.relative_to(self.store)) for path in self.store.rglob("*")
                      if path.is_file() and not str(path.relative_to(self.store)).startswith(".backapp"))


def test_points():
    with ArchivePlace() as place:
        place.fill(a_txt="one", sub__b="two" * 1000, gone="soon")
        os.symlink("a.txt", place.src / "link")
        full = place.create("--name", "home")
        assert full["type"] == "full" and "parent" not in full and full["filesTotal"] == full["filesArchived"] == 4, full
        assert place.files() == [f"home/{full['point']}", f"home/{full['point']}.index"]
        place.fill(a_txt="other", new="")
        (place.src / "gone").unlink()
        second = place.create("--name", "home")
        assert second["type"] == "incremental" and second["parent"] == full["point"], second
        assert (second["filesCreated"], second["filesDeleted"]) == (1, 1) and second["filesUnchanged"] == 2, second
        third = place.create("--name", "home", "--type", "differential")
        assert third["type"] == "differential" and third["parent"] == full["point"], third
        assert place.create("--name", "home", "--type", "full")["type"] == "full"
        points = place.list()
        assert [point["type"] for point in points] == ["full", "differential", "incremental", "full"], points
        assert points[2]["point"] == second["point"] and points[2]["parent"] == full["point"] and points[2]["files"] == 4, points
        assert not any(point["unfinished"] or point["partial"] or point["encrypted"] for point in points), points
        text = place.good("archive", "list", place.store).splitlines()
        assert len(text) == 4 and text[2].startswith(f"home/{second['point']}  4 files, "), text


def test_tar_reads_them():
    with ArchivePlace() as place:
        place.fill(a_txt="one", sub__b="two" * 1000, sub__deep__c=os.urandom(100000))
        for option, name in (([], "tar.gz"), (["--zstd", "--level", "3"], "tar.zst"), (["--no-compress"], "tar")):
            point = place.create("--type", "full", "--name", "n", *option)["point"]
            assert point.endswith("full." + name), point
            if name == "tar.zst":
                continue  # not every tar has zstd
            place.to.mkdir(exist_ok=True)
            subprocess.run(["tar", "-xf", place.store / "n" / point, "-C", place.to], check=True, timeout=30)
            assert tree(place.to) == tree(place.src)


def test_default_name():
    with ArchivePlace() as place:
        place.fill(a="1")
        place.create()
        (name,) = {path.split("/")[0] for path in place.files()}
        assert name == os.uname().nodename or "-" in name, name


def test_names():
    with ArchivePlace() as place:
        place.fill(a="1", b="2")
        place.create("--name", "one")
        place.create("--name", "two")
        assert {point["name"] for point in place.list()} == {"one", "two"}
        assert {point["name"] for point in place.lines("archive", "list", "--name", "two", place.store)} == {"two"}
        for argv in (["archive", "find", place.store, "a"], ["ls", place.store], ["archive", "diff", place.store, "x", "y"]):
            code, _, err = place.run(*argv)
            assert code == 1 and "--name" in err and "one" in err and "two" in err, f"{argv}: {err}"
        assert place.good("ls", "--name", "two", place.store) == "a\nb\n"
        for name in ("../up", ".hidden", "a/b", ""):
            code, _, err = place.run("archive", "create", "--name", name, place.store, place.src)
            assert code == 2 and "--name" in err, f"{name}: {err}"


def test_find_and_diff():
    with ArchivePlace() as place:
        place.fill(doc__report_odt="first", doc__other="x", keep="k")
        first = place.create("--name", "n")["point"]
        place.fill(doc__report_odt="second version", doc__new="n")
        place.create("--name", "n")
        os.chmod(place.src / "keep", 0o600)
        (place.src / "doc" / "report.odt").unlink()
        third = place.create("--name", "n")["point"]
        found = place.lines("archive", "find", place.store, "report*")
        assert [(line["path"], line["deleted"], line.get("size")) for line in found] == [
            ("doc/report.odt", False, 5), ("doc/report.odt", False, 14), ("doc/report.odt", True, None)], found
        code, out, err = place.run("archive", "find", place.store, "nothing*")
        assert code == 1 and out == "" and "nothing in 3 points matches" in err, err
        changes = {line["path"]: line["action"] for line in place.lines("archive", "diff", place.store, first, "latest")}
        assert changes == {"doc": "metadata", "doc/new": "create", "doc/report.odt": "delete", "keep": "metadata"}, changes
        assert place.good("archive", "diff", place.store, third, third[:17]) == ""
        assert "update   doc/report.odt (14 B)" in place.good("archive", "diff", place.store, first, place.list()[1]["time"])


def test_ls():
    with ArchivePlace() as place:
        place.fill(a="1", sub__b="22", sub__deep__c="333")
        os.symlink("a\nb", place.src / "odd\x1b[31m")
        first = place.create("--name", "n")["point"]
        (place.src / "a").unlink()
        place.create("--name", "n")
        assert place.good("ls", place.store) == "odd\\x1B[31m\nsub/\n"
        assert place.good("ls", "--at", first, place.store).startswith("a\n")
        assert place.good("ls", place.store, "/sub/") == "sub/deep/\nsub/b\n" or place.good("ls", place.store, "sub") == "sub/b\nsub/deep/\n"
        assert set(place.good("ls", "-R", place.store, "sub").split()) == {"sub/b", "sub/deep/", "sub/deep/c"}
        assert place.good("ls", place.store, "sub/b") == "sub/b\n"
        long = place.good("ls", "-l", place.store)
        assert "\x1b" not in long and "-> a\\nb" in long and long.splitlines()[1].startswith("drwx"), long
        assert [line["size"] for line in place.lines("ls", place.store, "sub/b")] == [2]
        code, out, err = place.run("ls", place.store, "sub/nix")
        assert code == 1 and out == "", err
        code, _, err = place.run("ls", place.store, "../a")
        assert code == 2 and "'..'" in err, err


def test_encrypted():
    """The key comes from a passphrase; nothing readable lies in the store, and nobody is told the secret."""
    with ArchivePlace() as place:
        place.fill(secret_txt="plain words " * 100)
        command = ["archive", "create", "--encrypt", "--name", "n", place.store, place.src]
        code, _, err = place.run(*command)
        assert code == 1 and "BACKUP_PASSPHRASE" in err and "key create" in err, err
        code, _, err = place.run(*command, env=SECRET)
        assert code == 1 and "key create" in err, err
        place.good("key", "create", place.store, env=SECRET)
        point = place.create("--encrypt", "--name", "n", env=SECRET)["point"]
        assert point.endswith(".tar.gz.aes"), point
        kept = b"".join(path.read_bytes() for path in place.store.rglob("*") if path.is_file())
        assert b"plain words" not in kept and b"secret.txt" not in kept
        assert place.good("ls", place.store, env=SECRET) == "secret.txt\n"
        (unread,) = place.list()
        assert "problem" in unread and "files" not in unread and unread["encrypted"], unread
        (read,) = place.list(env=SECRET)
        assert read["files"] == 1 and "problem" not in read, read
        for argv in (["ls", place.store], ["verify", place.store], ["archive", "find", place.store, "s*"]):
            code, out, err = place.run(*argv)
            assert code == 1 and "encrypted" in err, f"{argv}: {out} {err}"
            code, out, err = place.run(*argv, env={"BACKUP_PASSPHRASE": "wrong horse"})
            assert code == 1 and "passphrase" in err and "wrong horse" not in out + err, f"{argv}: {err}"
        key = {"BACKUP_ENCRYPTION_KEY": place.good("key", "export", place.store, env=SECRET).strip()}
        place.good("verify", "--full", place.store, env=key)
        place.good("restore", place.store, "--to", place.to, env=SECRET)
        assert tree(place.to) == tree(place.src)
        before = place.files()
        for option in ([], ["--type", "full"]):
            code, _, err = place.run("archive", "create", *option, "--name", "n", place.store, place.src, env=SECRET)
            assert code == 1 and "--encrypt" in err and place.files() == before, err
        file = place.root / "passphrase"
        file.write_text("correct horse\n")
        file.chmod(0o600)
        assert place.good("ls", "--passphrase-file", file, place.store) == "secret.txt\n"


def test_key_from_the_environment():
    with ArchivePlace() as place:
        place.fill(a="1")
        key = {"BACKUP_ENCRYPTION_KEY": base64.b64encode(os.urandom(32)).decode()}
        place.create("--encrypt", "--name", "n", env=key)
        assert place.good("ls", place.store, env=key) == "a\n"
        code, _, err = place.run("ls", place.store, env={"BACKUP_ENCRYPTION_KEY": base64.b64encode(bytes(32)).decode()})
        assert code == 1, err


def test_verify():
    with ArchivePlace() as place:
        place.fill(a="1" * 5000, b=os.urandom(3000000))
        first = place.create("--name", "n")["point"]
        place.fill(c="3")
        place.create("--name", "n")
        assert "2 archives" in place.good("verify", place.store)
        out = place.good("verify", "--full", place.store)
        assert "3 files" in out and "proven" in out, out
        assert "1 archive " in place.good("verify", "--at", first, place.store)
        volume = place.store / "n" / first
        data = bytearray(volume.read_bytes())
        data[len(data) // 2] ^= 1
        volume.write_bytes(data)
        code, out, err = place.run("verify", "--full", place.store)
        assert code == 1 and "1 DAMAGED" in out and "warning: b: " in err, out + err
        volume.unlink()
        code, out, err = place.run("verify", place.store)
        assert code == 1 and "1 MISSING" in out, out + err
        for option in ("--concurrency=4", "--state-dir=/tmp"):
            code, _, err = place.run("verify", option, place.store)
            assert code == 2 and "s3sync" in err, err


def test_verify_knows_what_it_is_given():
    """Mirrors and what s3sync wrote are proven as before, with the options that are theirs."""
    with ArchivePlace() as place:
        place.fill(a="1")
        place.mirror()
        assert "read 1 file" in place.good("verify", place.dst)
        code, _, err = place.run("verify", "--full", place.dst)
        assert code == 2 and "of a mirror every file is read" in err, err
        place.good("s3sync", place.src, place.root / "synced")
        assert "1 object verified" in place.good("verify", "--full", place.root / "synced")
        code, _, err = place.run("verify", "--at", "latest", place.root / "synced")
        assert code == 2 and "--at" in err, err


def test_reindex():
    with ArchivePlace() as place:
        place.fill(a="1", sub__b="2" * 4000)
        point = place.create("--name", "n")["point"]
        code, _, err = place.run("archive", "reindex", place.store, point)
        assert code == 1 and "force" in err, err
        (place.store / "n" / f"{point}.index").unlink()
        assert place.list()[0]["unfinished"]
        code, _, err = place.run("ls", place.store)
        assert code == 1, err
        out = place.good("archive", "reindex", place.store, point[:12])
        assert "2 files" in out and point in out, out
        assert not place.list()[0]["unfinished"]
        place.good("verify", "--full", place.store)
        place.good("restore", place.store, "--to", place.to)
        assert tree(place.to) == tree(place.src)


def test_dry_run():
    with ArchivePlace() as place:
        place.fill(a="1", b="2")
        out = place.good("archive", "create", "--dry-run", "--name", "n", place.store, place.src)
        assert "would archive 2 files" in out and not place.store.exists(), out
        place.create("--name", "n")
        before = place.files()
        place.fill(b="3")
        out = place.good("archive", "create", "--dry-run", "--name", "n", place.store, place.src)
        assert "would archive 1 file" in out and place.files() == before, out


def test_selection_and_sources():
    with ArchivePlace() as place:
        place.fill(a_txt="1", b_log="2", cache__x="3")
        place.create("--name", "n", "--exclude", "*.log", "--exclude", "cache/")
        assert place.good("ls", "-R", place.store) == "a.txt\n"
        other = place.root / "other"
        other.mkdir()
        (other / "o").write_text("o")
        place.good("archive", "create", "--name", "both", place.store, place.src, other)
        assert place.good("ls", "--name", "both", place.store) == "other/\nsrc/\n"


def test_missing_source():
    with ArchivePlace() as place:
        place.fill(a="1")
        code, _, err = place.run("archive", "create", "--name", "n", place.store, place.root / "nowhere")
        assert code == 1 and "nowhere" in err and "No new point was made" in err, err
        assert not place.store.exists() or place.files() == []


def test_store_inside_a_source():
    with ArchivePlace() as place:
        place.fill(a="1", stores__keep="2")
        inside = place.src / "stores" / "new"
        for argv in (["archive", "create", inside, place.src], ["s3sync", place.src, inside],
                     ["two-stage", place.src, place.root / "mirror", inside],
                     ["archive", "create", "--exclude", "/other", inside, place.src]):
            code, _, err = place.run(*argv)
            assert code == 1 and "lies inside the source" in err, f"{argv}: {code} {err}"
        assert not inside.exists() and not (place.root / "mirror").exists()
        place.good("archive", "create", "--name", "n", "--exclude", "/stores", inside, place.src)
        place.good("archive", "create", "--name", "n", "--exclude", "/stores/new", inside, place.src)
        assert [point["filesTotal"] if "filesTotal" in point else point["files"]
                for point in place.lines("archive", "list", inside)] == [2, 1]


def test_usage():
    with ArchivePlace() as place:
        s = place.store
        for argv, part in ((["archive"], "needs one of"), (["archive", "create"], "needs a STORE"),
                           (["archive", "create", s], "SOURCE is missing"), (["archive", "create", s, "s3://b"], "SOURCE"),
                           (["archive", "create", "--type", "weekly", s, "x"], "--type"),
                           (["archive", "create", "--level", "10", s, "x"], "--level"),
                           (["archive", "create", "--zstd", "--level", "20", s, "x"], "--level"),
                           (["archive", "create", "--zstd", "--no-compress", s, "x"], "--zstd"),
                           (["archive", "create", "--volume-size", "1M", s, "x"], "8M"),
                           (["archive", "list", "--zstd", s], "does not take --zstd"), (["archive", "list", s, "x"], "no more"),
                           (["archive", "find", s], "PATTERN"), (["archive", "diff", s, "x"], "two POINTs"),
                           (["archive", "reindex", s], "POINT"), (["ls"], "STORE"), (["ls", s, "a", "b"], "no more")):
            code, _, err = place.run(*argv)
            assert code == 2 and part in err, f"{argv}: {code} {err}"
        for argv in (["archive", "list", place.root / "nothing"], ["ls", place.root / "nothing"]):
            code, _, err = place.run(*argv)
            assert code == 1 and "no such directory" in err, err
        s.mkdir()
        code, _, err = place.run("archive", "list", s)
        assert code == 1 and "holds no archives" in err, err


if __name__ == "__main__":
    run_module("archive_command", sys.modules[__name__])
