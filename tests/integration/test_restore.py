#!/usr/bin/env python3
"""`backapp restore` at the command line: points, paths, conflicts, what is never written, what is lost or cold, resuming."""

import json
import os
import signal
import stat
import sys
import time

from cli_tools import end, everything, run_module, tree, wait_for
from s3_tools import ENCRYPTION_KEY, BucketPlace, FaultProxy, Rule, StorePlace
from s3_double import S3Double
from test_s3sync import wrong
from weakfs import Drive


def restore(place, *options, store=None, to=None, **more):
    return place.fine("restore", *options, store or place.store, "--to", to or place.back, **more).summary["restore"]


def next_second():
    """Points are told apart by whole seconds."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.05)


def at(when):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def test_all_and_again():
    with StorePlace() as place:
        place.fill(a="1", folder__b="22", folder__inner__c="333", other__d="4")
        os.symlink("a", place.src / "link")
        os.link(place.src / "a", place.src / "second")
        (place.src / "empty").mkdir(mode=0o711)
        place.sync()
        numbers = restore(place)
        assert tree(place.back) == tree(place.src) and numbers["filesRestored"] == 6, numbers
        assert stat.S_IMODE(os.stat(place.back / "empty").st_mode) == 0o711
        assert os.stat(place.back / "a").st_ino == os.stat(place.back / "second").st_ino
        before = everything(place.back)
        numbers = restore(place)
        assert numbers["filesRestored"] == 0 and numbers["filesUnchanged"] == 6, numbers
        assert {p: s[:3] for p, s in everything(place.back).items()} == {p: s[:3] for p, s in before.items()}


def test_paths():
    with StorePlace() as place:
        place.fill(a="1", folder__b="22", folder__inner__c="333", folder__inner__d="4444", folder2__e="5")
        os.chmod(place.src / "folder", 0o750)
        os.link(place.src / "a", place.src / "folder" / "linked")
        os.link(place.src / "a", place.src / "folder" / "linked-too")
        place.sync()
        place.fine("restore", place.store, "folder/inner", "--to", place.back)
        assert tree(place.back) == {"folder": None, "folder/inner": None, "folder/inner/c": b"333",
                                    "folder/inner/d": b"4444"}, tree(place.back)
        assert stat.S_IMODE(os.stat(place.back / "folder").st_mode) == 0o750
        other = place.root / "other"
        place.fine("restore", place.store, "folder/inner/c", "/a", "./folder2/", "--to", other)
        assert sorted(tree(other)) == ["a", "folder", "folder/inner", "folder/inner/c", "folder2", "folder2/e"], tree(other)
        third = place.root / "third"
        place.fine("restore", place.store, "folder", "--to", third)
        assert os.stat(third / "folder/linked").st_ino == os.stat(third / "folder/linked-too").st_ino
        code, _, err = place.run("restore", place.store, "nothing/here", "--to", other)
        assert code == 1 and "nothing/here" in err, err


def test_a_dry_run_tells_what_a_run_does():
    with StorePlace() as place:
        place.fill(a="1", folder__b="22")
        place.sync()
        planned = place.fine("restore", "--dry-run", place.store, "--to", place.back)
        assert not place.back.exists()
        done = place.fine("restore", "-v", place.store, "--to", place.back)
        assert planned.items() == done.items() and planned.items(), (planned.items(), done.items())
        keys = ("filesRestored", "bytesRestored", "filesDeleted", "filesUnchanged", "filesTotal", "bytesTotal")
        assert [planned.summary["restore"][k] for k in keys] == [done.summary["restore"][k] for k in keys]
        place.good("restore", "--dry-run", place.store, "--to", place.back)


def test_points():
    with BucketPlace() as place:
        times = []
        for number in range(3):
            if number:
                next_second()
            place.fill(a=f"state {number}", same="x")
            (place.src / f"only{number}").write_text(str(number))
            (place.src / f"only{number - 1}").unlink(missing_ok=True)
            place.sync("--delete", to=place.url)
            times.append(time.time())
        names = [key.rpartition("/")[2] for key in place.keys(own=True) if "/roots/" in key]
        assert len(names) == 3, names
        for number in range(3):
            for when in (names[number], at(times[number])):
                target = place.root / f"{number}-{len(when)}"
                restore(place, "--at", when, store=place.url, to=target)
                assert tree(target) == {"a": b"state %d" % number, "same": b"x", f"only{number}": b"%d" % number}, tree(target)
        for when in ("latest", time.strftime("%Y-%m-%d", time.localtime())):
            target = place.root / when
            restore(place, "--at", when, store=place.url, to=target)
            assert tree(target) == tree(place.src)
        for when, word in (("2001-01-01", "3 in all"), ("nonsense", "neither a date")):
            code, _, err = place.run("restore", "--at", when, place.url, "--to", place.back)
            assert code == 1 and word in err and "Nothing was changed." in err, err
            assert not list(place.root.glob("back/*"))
        code, _, err = place.run("restore", f"s3://{place.bucket}/elsewhere", "--to", place.back)
        assert code == 1 and "no backup" in err, err


def test_points_are_listed():
    with BucketPlace() as place:
        place.fill(a="1", folder__b="22")
        place.sync(to=place.url)
        next_second()
        place.fill(c="333")
        place.sync(to=place.url)
        names = sorted(key.rpartition("/")[2] for key in place.keys(own=True) if "/roots/" in key)
        lines = place.good("restore", "--list", place.url).splitlines()
        assert [line.split()[1] for line in lines] == names[::-1] and "3 files, 6 B" in lines[0], lines
        points = [json.loads(line) for line in place.good("restore", "--json", "--list", place.url).splitlines()]
        assert [(p["name"], p["files"], p["bytes"], p["partial"]) for p in points] == [
            (names[1], 3, 6, False), (names[0], 2, 3, False)], points
        # Both the name and the time that are listed choose the point.
        for number, when in enumerate((points[1]["name"], points[1]["time"])):
            restore(place, "--at", when, store=place.url, to=place.root / f"at{number}")
            assert sorted(tree(place.root / f"at{number}")) == ["a", "folder", "folder/b"]
        # One that is damaged is named, and hides no other.
        place.client.put(place.bucket, f"backup/.backapp/tree/roots/{names[1]}", b"rubbish")
        code, out, err = place.run("restore", "--list", place.url)
        assert code == 3 and "CANNOT BE USED" in out.splitlines()[0] and names[0] in out.splitlines()[1], (out, err)
        points = [json.loads(line) for line in place.run("restore", "--json", "--list", place.url)[1].splitlines()]
        assert points[0]["problem"] and "files" not in points[0] and "problem" not in points[1], points


def test_dates_are_listed():
    with StorePlace() as place:
        code, _, err = place.run("restore", "--list", place.store)
        assert code == 1 and "no such directory" in err, err
        place.fill(a="1")
        place.sync("--s3-prefix", "YYYY-MM-DD")
        (place.store / "unrelated").mkdir()
        (place.store / "unrelated" / "file").write_text("x")
        out = place.good("restore", "--list", place.store)
        (folder,) = {line.split()[3] for line in out.splitlines()}
        assert len(out.splitlines()) == 1 and folder == time.strftime("%Y-%m-%d"), out
        (point,) = [json.loads(line) for line in place.good("restore", "--list", "--json", place.store).splitlines()]
        assert point["folder"] == folder, point
        restore(place, "--at", point["name"], store=place.store / folder)
        assert tree(place.back) == {"a": b"1"}
        code, out, err = place.run("restore", "--list", place.store / "unrelated")
        assert code == 1 and not out and "no backup" in err, (out, err)


def test_points_of_what_is_encrypted_need_its_key():
    with StorePlace() as place:
        place.fill(a="1")
        key = {"BACKUP_ENCRYPTION_KEY": ENCRYPTION_KEY}
        place.fine("s3sync", "--encrypt", place.src, place.store, env=key)
        assert "  1 file, 1 B" in place.good("restore", "--list", place.store, env=key)
        code, out, err = place.run("restore", "--list", place.store)
        assert code == 1 and not out and "BACKUP_ENCRYPTION_KEY" in err, err


def test_a_point_before_changes_of_time_and_of_long_names():
    """Objects whose time alone changed were changed in place; long keys have a short one in the trash."""
    for make in (StorePlace, BucketPlace):
        with make() as place:
            store = getattr(place, "url", place.store)
            long = "l" * 250 + "/" + "m" * 250 + "/" + "n" * 250 + "/" + "o" * 238
            place.fill(touched="1" * 100, gone="2" * 100)
            (place.src / long).parent.mkdir(parents=True)
            (place.src / long).write_bytes(b"3" * 100)
            (place.src / "parts").write_bytes(os.urandom(9 << 20))
            first = tree(place.src)
            place.sync("--delete", to=store)
            when = time.time()
            next_second()
            for name in ("touched", "gone", "parts", long):
                os.utime(place.src / name)
            place.sync("--delete", to=store)
            next_second()
            (place.src / "gone").unlink()
            (place.src / long).unlink()
            place.sync("--delete", to=store)
            restore(place, "--at", at(when), store=store)
            assert tree(place.back) == first, sorted(tree(place.back))


def test_date_prefixes():
    with BucketPlace() as place:
        place.fill(a="1")
        place.sync("--s3-prefix", "YYYY-MM-DD", to=place.url)
        day = time.strftime("%Y-%m-%d")
        restore(place, store=f"{place.url}/{day}")
        assert tree(place.back) == {"a": b"1"}


def test_conflicts():
    with StorePlace() as place:
        place.fill(same="s", differs="backup", folder__x="x", file="f")
        old = 1_000_000_000
        os.utime(place.src / "differs", (old, old))
        place.sync()
        def target(name, age):
            folder = place.root / name
            restore(place, to=folder)
            (folder / "differs").write_text("mine!")
            os.utime(folder / "differs", (age, age))
            return folder
        for policy, age, wanted in (("overwrite", old + 9, b"backup"), ("if-newer", old + 9, b"mine!"),
                                    ("if-newer", old - 9, b"backup"), ("skip", old - 9, b"mine!"),
                                    ("rename", old + 9, b"backup")):
            folder = target(f"{policy}{age}", age)
            numbers = restore(place, "--conflict", policy, to=folder)
            found = tree(folder)
            assert found["differs"] == wanted, (policy, age, found)
            kept = [name for name in found if name.startswith("differs.before-restore-")]
            assert [found[k] for k in kept] == ([b"mine!"] if policy == "rename" else []), found
            assert numbers["filesRenamed"] == len(kept) and numbers["filesSkipped"] == (wanted == b"mine!"), numbers


def test_a_link_is_never_made_to_another_file():
    with StorePlace() as place:
        place.fill(first="the content")
        os.link(place.src / "first", place.src / "second")
        place.sync()
        place.back.mkdir()
        (place.back / "first").write_text("somebody's own")
        place.fine("restore", "--conflict", "skip", place.store, "--to", place.back)
        assert tree(place.back) == {"first": b"somebody's own", "second": b"the content"}, tree(place.back)


def test_delete_and_its_limit():
    with StorePlace() as place:
        place.fill(a="1", folder__b="2")
        place.sync()
        restore(place)
        (place.back / "extra").mkdir()
        (place.back / "extra" / "x").write_text("x")
        (place.back / "folder" / "y").write_text("y")
        # What no backup holds is not missing from it.
        (place.back / ".trash").mkdir()
        (place.back / ".backapp-mine").write_text("z")
        assert restore(place)["filesDeleted"] == 0 and (place.back / "extra" / "x").exists()
        place.fine("restore", "--delete", place.store, "folder", "--to", place.back)
        assert not (place.back / "folder" / "y").exists() and (place.back / "extra").exists()
        assert restore(place, "--delete")["filesDeleted"] == 1
        assert not (place.back / "extra").exists() and (place.back / ".trash").exists()
        assert (place.back / ".backapp-mine").exists()
        for number in range(150):
            (place.back / f"extra{number}").write_text("x")
        run = place.json("restore", "--delete", place.store, "--to", place.back)
        assert run.code == 4 and run.done["status"] == "refused" and (place.back / "extra149").exists(), run
        code, _, err = place.run("restore", "--delete", place.store, "--to", place.back)
        assert code == 4 and "--force" in err, err
        restore(place, "--delete", "--max-delete", "100")
        assert tree(place.back).keys() >= {"a", "folder", "folder/b"} and not (place.back / "extra0").exists()


def test_nothing_is_written_outside():
    with StorePlace() as place:
        place.fill(folder__b="2", folder__c="3")
        place.sync()
        outside = place.root / "outside"
        outside.mkdir()
        place.back.mkdir()
        os.symlink(outside, place.back / "folder")
        place.fine("restore", place.store, "--to", place.back)
        assert not list(outside.iterdir()) and tree(place.back)["folder/b"] == b"2"
        # Other kinds in the way.
        for make in ((place.back / "folder").mkdir, lambda: (place.back / "folder").write_text("file"),
                     lambda: os.mkfifo(place.back / "folder")):
            place.run("restore", place.store, "--to", place.back)
            end_folder(place.back / "folder")
            make()
            restore(place)
            assert tree(place.back)["folder/c"] == b"3"


def end_folder(path):
    for inner in path.iterdir():
        inner.unlink()
    path.rmdir()


def test_checksum_replaces_what_size_and_time_hide():
    with StorePlace() as place:
        place.fill(a="good")
        place.sync()
        restore(place)
        times = os.stat(place.back / "a")
        (place.back / "a").write_text("evil")
        os.utime(place.back / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert restore(place)["filesRestored"] == 0
        assert restore(place, "--checksum")["filesRestored"] == 1 and (place.back / "a").read_text() == "good"


def test_a_drive_with_coarse_times_is_not_filled_anew():
    with StorePlace() as place, Drive(place.root, "exfat") as drive:
        place.fill(a="1", folder__b="22")
        for name in ("a", "folder/b"):
            os.utime(place.src / name, ns=(10**18, 1_600_000_001_123_456_789))
        place.sync()
        assert restore(place, to=drive.point / "back")["filesRestored"] == 2
        before = tree(drive.point)
        assert restore(place, to=drive.point / "back")["filesRestored"] == 0 and tree(drive.point) == before


def test_what_is_lost_or_damaged_is_named_and_the_rest_restored():
    with StorePlace() as place:
        place.fill(good="1", gone="22", flipped="4444")
        place.sync()
        (place.store / "gone").unlink()
        old = os.stat(place.store / "flipped")
        with open(place.store / "flipped", "r+b") as file:
            file.write(b"5")
        os.utime(place.store / "flipped", ns=(old.st_atime_ns, old.st_mtime_ns))
        run = place.json("restore", place.store, "--to", place.back)
        assert run.code == 3 and tree(place.back) == {"good": b"1"}, run
        assert {(w["code"], w["path"]) for w in run.of("warning")} == {("missing", "gone"), ("damaged", "flipped")}
        assert (run.summary["restore"]["missing"], run.summary["restore"]["damaged"]) == (1, 1)
        _, out, _ = place.run("restore", place.store, "--to", place.back)
        assert "MISSING" in out and "DAMAGED" in out, out


def test_what_is_encrypted_needs_its_key():
    with StorePlace() as place:
        place.fill(a="1", folder__b="2" * 5000, empty="")
        key = {"BACKUP_ENCRYPTION_KEY": ENCRYPTION_KEY}
        place.fine("s3sync", "--encrypt", place.src, place.store, env=key)
        restore(place, env=key)
        assert tree(place.back) == tree(place.src)
        place.fine("restore", place.store, "folder/b", "--to", place.root / "one", env=key)
        assert tree(place.root / "one") == {"folder": None, "folder/b": b"2" * 5000}
        code, _, err = place.run("restore", place.store, "--to", place.root / "none")
        assert code == 1 and "BACKUP_ENCRYPTION_KEY" in err, err
        other = {"BACKUP_ENCRYPTION_KEY": ENCRYPTION_KEY[:5] + "AAAA" + ENCRYPTION_KEY[9:]}
        code, _, err = place.run("restore", place.store, "--to", place.root / "none", env=other)
        assert code == 1 and not tree(place.root / "none"), err


def test_cold_objects():
    with StorePlace() as place, S3Double() as double:
        double.restore_after = None
        bucket = double.new_bucket()
        place.environment.update(double.variables())
        place.fill(warm="1", cold="2")
        url = f"s3://{bucket}/x"
        place.fine("s3sync", "--class-for", "cold=GLACIER", place.src, url)
        run = place.json("restore", url, "--to", place.back)
        assert run.code == 3 and tree(place.back) == {"warm": b"1"} and run.summary["restore"]["cold"] == 1, run
        assert "--thaw" in run.of("warning")[0]["message"] and not double.counts().get("RestoreObject"), run
        run = place.json("restore", "--thaw", "3", "--thaw-tier", "Bulk", url, "--to", place.back)
        assert run.code == 3 and double.counts()["RestoreObject"] == 1, run
        double.finish_restores()
        place.fine("restore", "--thaw", "3", url, "--to", place.back)
        assert tree(place.back) == {"warm": b"1", "cold": b"2"}


def test_cold_archives():
    """Volumes are asked for once; indexes are never cold."""
    with StorePlace() as place, S3Double() as double:
        double.restore_after = None
        bucket = double.new_bucket()
        place.environment.update(double.variables())
        url = f"s3://{bucket}/x"
        for number, name in enumerate(("old", "new")):
            place.fill(**{name: name, f"{name}2": name * 2})
            place.fine("archive", "create", "--name", "n", "--storage-class", ("GLACIER", "STANDARD")[number], url, place.src)
        run = place.json("restore", url, "--to", place.back)
        assert run.code == 3 and tree(place.back) == {"new": b"new", "new2": b"newnew"}, run
        assert run.summary["restore"]["cold"] == 2 and not double.counts().get("RestoreObject"), run
        assert "-full.tar.gz: it is in cold storage" in run.of("warning")[0]["message"], run
        run = place.json("restore", "--thaw", "3", url, "--to", place.back)
        assert run.code == 3 and double.counts()["RestoreObject"] == 1, run
        double.finish_restores()
        place.fine("restore", "--thaw", "3", url, "--to", place.back)
        assert tree(place.back) == tree(place.src)


def test_an_interrupted_restore_goes_on():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.files(60)
        place.sync(to=place.url)
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        for number in (signal.SIGINT, signal.SIGKILL):
            proxy.clear()
            proxy.add(Rule("latency", kind="GetObject", path="many", seconds=0.1))
            target = place.root / f"target{int(number)}"
            process = place.start("restore", "--json", "--concurrency", "2", place.url, "--to", target)
            try:
                wait_for(lambda: proxy.counts()["GetObject"] >= 16, "downloads")
                process.send_signal(number)
                process.communicate(timeout=60)
                assert process.returncode == (130 if number == signal.SIGINT else -9), process.returncode
            finally:
                end(process)
            wait_for(lambda: not proxy.active, "the worker's end")
            left = [name for name in tree(target) if "backapp" in name]
            assert not left, left
            proxy.clear()
            numbers = restore(place, store=place.url, to=target)
            assert 0 < numbers["filesRestored"] < 60 and tree(target) == tree(place.src), numbers


def test_every_other_option_is_taken():
    with BucketPlace() as place:
        place.fill(a="1")
        os.setxattr(place.src / "a", "user.x", b"y") if hasattr(os, "setxattr") else None
        place.sync(to=place.url)
        restore(place, "--no-acls", "--no-xattrs", "--concurrency", "3", "--bwlimit", "10000", "--nice", "2", "--ionice",
                "idle", "--endpoint", place.server.tls_endpoint, "--ca-file", place.server.ca, "--region", "us-east-1",
                "--provider", "any", "--path-style", "--force", "--max-delete", "5", "-v", store=place.url)
        assert os.listxattr(place.back / "a") == [] and tree(place.back) == {"a": b"1"}


def test_wrong_input_is_refused():
    with StorePlace() as place:
        to = ("--to", place.back)
        for arguments, word in (
            ((), "STORE"), ((place.store,), "--to"), ((place.store, "--to", ""), "--to"), (("", *to), "STORE"),
            ((place.store, "--to", "s3://b/x"), "directory"), ((place.store, "../x", *to), ".."),
            ((place.store, "a/./b", *to), ".."), (("--conflict", "ask", place.store, *to), "overwrite"),
            (("--thaw", "0", place.store, *to), "--thaw"), (("--thaw-tier", "Slow", place.store, *to), "Bulk"),
            (("--max-delete", "x", place.store, *to), "--max-delete"), (("--at", "", place.store, *to), "--at"),
            (("--concurrency", "0", place.store, *to), "--concurrency"), (("s3://", *to), "bucket"),
            (("--list",), "STORE"), (("--list", place.store, "a"), "nothing else"), (("--list", place.store, *to), "--to"),
            (("--list", "--at", "latest", place.store), "--at"), (("--list", "--nice", "3", place.store), "--nice"),
            (("--encrypt", place.store, *to), "--encrypt"), (("--exclude", "x", place.store, *to), "--exclude"),
        ):
            wrong(place, "restore", *arguments, words=[word])
        for name in ("file", "no/such/folder"):
            (place.root / "file").write_text("x")
            place.fill(a="1")
            place.sync()
            code, _, err = place.run("restore", place.store, "--to", place.root / name)
            assert code == 1 and name in err, err


if __name__ == "__main__":
    run_module("restore", sys.modules["__main__"])
