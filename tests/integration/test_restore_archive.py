#!/usr/bin/env python3
"""`backapp restore` from whatever a store or a directory holds: archives, S3 mirrors and local mirrors do the same, each
has its points, and a point can be had as a tar or a zip."""

import io
import json
import os
import re
import signal
import socket
import stat
import sys
import tarfile
import time
import zipfile

from cli_tools import end, everything, run_module, tree, wait_for
from s3_tools import ENCRYPTION_KEY, BucketPlace, FaultProxy, Rule, StorePlace
from weakfs import Drive


class Archives:
    """How each kind of backup is made; `origin` is what a restore reads."""

    name = "archives"

    def __init__(self, place, *options):
        self.place, self.origin, self.options = place, place.store, options
        self.last = 0

    def backup(self, **more):
        # Points are told apart by whole seconds.
        wait_for(lambda: int(time.time()) > self.last, "the next second")
        self.last = int(time.time())
        self.origin.mkdir(exist_ok=True)
        return self.place.fine("archive", "create", "--name", "home", *self.options, self.origin, self.place.src, **more)


class Mirror:
    name = "mirror"

    def __init__(self, place):
        self.place, self.origin = place, place.dst
        self.last = 0

    def backup(self):
        wait_for(lambda: int(time.time()) > self.last, "the next second")
        self.last = int(time.time())
        return self.place.fine("mirror", "--delete", "--keep-versions", "30", self.place.src, self.origin)


class S3Mirror:
    name = "s3-mirror"

    def __init__(self, place):
        self.place, self.origin = place, place.store

    def backup(self):
        return self.place.sync("--delete")


KINDS = (Archives, Mirror, S3Mirror)


def restore(place, kind, *options, to=None, **more):
    return place.fine("restore", *options, kind.origin, "--to", to or place.back, **more).summary["restore"]


def each_kind(case):
    def cases():
        for kind in KINDS:
            with StorePlace() as place:
                try:
                    case(place, kind(place))
                except AssertionError as why:
                    raise AssertionError(f"{kind.name}: {why}") from why
    cases.__name__ = case.__name__
    return cases


def odd_tree(place):
    place.fill(a="1", folder__b="22", folder__inner__c="333", big=os.urandom(3 << 20), empty="")
    os.symlink("a", place.src / "link")
    os.link(place.src / "folder" / "b", place.src / "second")
    os.mkfifo(place.src / "pipe")
    (place.src / "hollow").mkdir(mode=0o711)
    with open(place.src / "sparse", "wb") as file:
        file.truncate(4 << 20)
        file.seek(2 << 20)
        file.write(b"in the middle")
    (place.src / os.fsdecode(b"caf\xe9 \n")).write_text("an odd name")
    (place.src / "umlaut ä").write_text("u")
    os.utime(place.src / "a", ns=(5, 1234567890123456789))


def facts(path):
    """What a restore has to give back of each thing below a folder."""
    found = {}
    for name, content in tree(path).items():
        info = os.lstat(path / name)
        found[name] = (content, info.st_mode, info.st_mtime_ns, info.st_uid, info.st_gid,
                       info.st_nlink if not stat.S_ISDIR(info.st_mode) else 0)
    return found


@each_kind
def test_all_and_again(place, kind):
    odd_tree(place)
    kind.backup()
    numbers = restore(place, kind)
    assert facts(place.back) == facts(place.src), sorted(set(facts(place.back).items()) ^ set(facts(place.src).items()))
    assert os.stat(place.back / "second").st_ino == os.stat(place.back / "folder" / "b").st_ino
    assert os.stat(place.back / "sparse").st_blocks * 512 < 1 << 20
    assert numbers["filesTotal"] == numbers["filesRestored"] == 11, numbers
    before = everything(place.back)
    for options in ((), ("--checksum",), ("--delete",)):
        numbers = restore(place, kind, *options)
        assert numbers["filesRestored"] == 0 and numbers["filesUnchanged"] == 11, numbers
    assert {p: s[:3] for p, s in everything(place.back).items()} == {p: s[:3] for p, s in before.items()}
    # What size and time hide.
    times = os.stat(place.back / "folder/b")
    (place.back / "folder/b").write_text("XX")
    os.utime(place.back / "folder/b", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert restore(place, kind)["filesRestored"] == 0
    assert restore(place, kind, "--checksum")["filesRestored"] >= 1
    assert (place.back / "folder/b").read_text() == (place.back / "second").read_text() == "22"


@each_kind
def test_paths_and_conflicts(place, kind):
    place.fill(a="from the backup", folder__b="22", folder__c="333", other="x")
    os.link(place.src / "a", place.src / "folder" / "linked")
    kind.backup()
    restore(place, kind)
    place.fine("restore", kind.origin, "folder/linked", "other", "--to", place.root / "parts")
    assert tree(place.root / "parts") == {"folder": None, "folder/linked": b"from the backup", "other": b"x"}
    code, _, err = place.run("restore", kind.origin, "folder/nothing", "--to", place.back)
    assert code == 1 and "folder/nothing" in err, err
    for policy, expected in (("skip", b"mine"), ("if-newer", b"mine"), ("rename", b"22"), ("overwrite", b"22")):
        target = place.root / policy
        restore(place, kind, to=target)
        (target / "folder/b").write_text("mine")
        restore(place, kind, "--conflict", policy, to=target)
        assert (target / "folder/b").read_bytes() == expected, policy
        kept = list((target / "folder").glob("b.before-restore-*"))
        assert [file.read_text() for file in kept] == (["mine"] if policy == "rename" else []), policy
    (place.back / "folder/extra").write_text("x")
    (place.back / "extra").write_text("x")
    run = place.fine("restore", "--delete", kind.origin, "folder", "--to", place.back)
    assert run.summary["restore"]["filesDeleted"] == 1 and (place.back / "extra").exists()
    # Into a folder that is a link to elsewhere.
    outside = place.root / "outside"
    outside.mkdir()
    target = place.root / "trap"
    target.mkdir()
    os.symlink(outside, target / "folder")
    restore(place, kind, to=target)
    assert not list(outside.iterdir()) and (target / "folder/b").read_bytes() == b"22"


@each_kind
def test_a_dry_run_tells_what_a_run_does(place, kind):
    place.fill(a="1", folder__b="22")
    kind.backup()
    planned = place.fine("restore", "--dry-run", kind.origin, "--to", place.back)
    assert not place.back.exists()
    done = place.fine("restore", "-v", kind.origin, "--to", place.back)
    assert planned.items() == done.items() and planned.items(), (planned.items(), done.items())
    for key in ("filesRestored", "bytesRestored", "filesTotal", "bytesTotal"):
        assert planned.summary["restore"][key] == done.summary["restore"][key], key


@each_kind
def test_a_tar_and_a_zip(place, kind):
    odd_tree(place)
    kind.backup()
    expected = tree(place.src)
    file = place.root / "out.tar"
    code, out, err = place.run("restore", kind.origin, "--to-tar", file)
    assert code == 0 and not out, (out, err)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and not list(place.root.glob("*.partial"))
    place.back.mkdir()
    with tarfile.open(file) as tar:
        names = {member.name.rstrip("/"): member for member in tar.getmembers()}
        assert set(names) - {".", ""} == set(expected), set(names) ^ set(expected)
        assert names["sparse"].issparse() and file.stat().st_size < 5 << 20
        for name, content in expected.items():
            if names[name].isreg() or names[name].islnk():
                assert tar.extractfile(names[name]).read() == content, name
        assert sum(member.islnk() for member in names.values()) == 1
        assert names["link"].linkname == "a" and names["a"].mtime == 1234567890.1234567, names["a"].mtime
    # Parts, through a pipe.
    process = place.start("restore", kind.origin, "folder", "a", "--to-tar", "-")
    data, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sorted(tar.getnames()) == ["a", "folder", "folder/b", "folder/inner", "folder/inner/c"], tar.getnames()
        assert tar.extractfile("folder/b").read() == b"22"
    # A further name without its first: it is the file.
    process = place.start("restore", kind.origin, "second", "--to-tar", "-")
    with tarfile.open(fileobj=io.BytesIO(process.communicate(timeout=60)[0])) as tar:
        assert tar.getnames() == ["second"] and tar.extractfile("second").read() == b"22"
    process = place.start("restore", kind.origin, "--to-zip", "-")
    data, err = process.communicate(timeout=60)
    assert process.returncode == 0 and b"pipe: a zip cannot hold a fifo" in err, err
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("second") == archive.read("folder/b") == b"22" and archive.read("big") == expected["big"]
        assert archive.read("umlaut ä") == b"u" and len(archive.namelist()) == len(expected) - 1, archive.namelist()
        assert "hollow/" in archive.namelist() and "pipe" not in archive.namelist()


def test_wrong_exports_are_refused():
    with StorePlace() as place:
        place.fill(a="1")
        kind = Archives(place)
        kind.backup()
        for options, word in ((("--to-tar", "x", "--to-zip", "y"), "combined"), (("--to-tar", "x", "--delete"), "--delete"),
                              (("--to-tar", "x", "--to", "y"), "--to"), (("--to-tar", ""), "FILE")):
            code, _, err = place.run("restore", place.store, *options)
            assert code == 2 and word in err, (options, code, err)
        code, _, err = place.run("restore", place.store, "nothing", "--to-tar", place.root / "out")
        assert code == 1 and "nothing" in err and not list(place.root.glob("out*")), err
        # A reader that goes away, and a disk that is full.
        process = place.start("restore", place.store, "--to-tar", "-", stdout=os.open("/dev/full", os.O_WRONLY))
        assert process.wait(timeout=60) == 1 and b"cannot write" in process.stderr.read()


def test_points_of_archives():
    with StorePlace() as place:
        kind = Archives(place)
        states = []
        for number in range(4):
            place.fill(**{f"only{number}": str(number), "changing": "x" * number, f"folder__{number}": "y"})
            (place.src / f"only{number - 2}").unlink(missing_ok=True)
            os.utime(place.src / "folder", ns=(number, number * 10**9))
            if number == 3:
                # Something else under the same name.
                (place.src / "changing").unlink()
                (place.src / "changing").mkdir()
            archive = kind.backup().summary["archive"]
            states.append((archive["point"], facts(place.src)))
        names = [name for name, _ in reversed(states)]
        points = [json.loads(line) for line in place.good("restore", "--list", "--json", place.store).splitlines()]
        assert [(point["name"], point["archive"]) for point in points] == [(name, "home") for name in names], points
        assert points[0]["files"] == sum(content[0] is not None for content in states[-1][1].values()), points
        assert names[0] in place.good("restore", "--list", "--name", "home", place.store).splitlines()[0]
        # By name, by its beginning, by time; each made of the one before, and from nothing.
        for name, state in (*states, *reversed(states)):
            for at, target in ((name, place.back), (name[:17], place.root / f"new-{name}")):
                restore(place, kind, "--delete", "--at", at, to=target)
                assert facts(target) == state, name
        when = re.sub(r"(....-..-..T..)(..)(..Z)", r"\1:\2:\3", states[1][0][:18])
        restore(place, kind, "--delete", "--at", when)
        assert facts(place.back) == states[1][1], when
        for at, word in (("2001-01-01", "2001-01-01"), ("nonsense", "no point nonsense")):
            code, _, err = place.run("restore", "--at", at, place.store, "--to", place.root / "none")
            assert code == 1 and word in err and not (place.root / "none").exists(), err
        # Another name beside it.
        place.fine("archive", "create", "--name", "work", place.store, place.src)
        code, _, err = place.run("restore", place.store, "--to", place.back)
        assert code == 1 and "home, work" in err and "--name" in err, err
        restore(place, kind, "--name", "home", "--at", names[3], "--delete")
        assert facts(place.back) == states[0][1]
        # Without the first, no other one.
        (place.store / "home" / f"{names[3]}.index").unlink()
        code, _, err = place.run("restore", "--name", "home", place.store, "--to", place.back)
        assert code == 1 and names[3] in err, err


def test_encrypted_archives():
    with StorePlace() as place:
        place.fill(a="secret", folder__b="22")
        kind = Archives(place, "--encrypt")
        kind.backup(env={"BACKUP_ENCRYPTION_KEY": ENCRYPTION_KEY})
        code, _, err = place.run("restore", place.store, "--to", place.back)
        assert code == 1 and "key" in err and not place.back.exists(), err
        restore(place, kind, env={"BACKUP_ENCRYPTION_KEY": ENCRYPTION_KEY})
        assert tree(place.back) == tree(place.src)
        phrase = {"BACKUP_PASSPHRASE": "correct horse battery"}
        other = Archives(place, "--encrypt")
        other.origin = place.root / "other"
        other.origin.mkdir()
        place.good("key", "create", other.origin, env=phrase)
        other.backup(env=phrase)
        restore(place, other, to=place.root / "opened", env=phrase)
        assert tree(place.root / "opened") == tree(place.src)
        code, _, err = place.run("restore", other.origin, "--to", place.root / "no", env={"BACKUP_PASSPHRASE": "wrong"})
        assert code == 1 and "passphrase" in err, err


def test_damage_and_loss_are_named():
    with StorePlace() as place:
        place.fill(a="first", m=os.urandom(5 << 20), z="last")
        kind = Archives(place)
        point = kind.backup().summary["archive"]["point"]
        volume = place.store / "home" / point
        data = bytearray(volume.read_bytes())
        data[len(data) // 2] ^= 1
        volume.write_bytes(data)
        run = place.json("restore", place.store, "--to", place.back)
        assert run.code == 3 and run.summary["restore"]["damaged"] == 1, run
        assert [warning["path"] for warning in run.of("warning")] == ["m"], run.of("warning")
        assert tree(place.back) == {"a": b"first", "z": b"last"}
        process = place.start("restore", place.store, "--to-tar", "-")
        data, err = process.communicate(timeout=60)
        assert process.returncode == 3 and b"warning: m: " in err, err
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            assert sorted(tar.getnames())[-2:] == ["a", "z"], tar.getnames()
        volume.unlink()
        run = place.json("restore", place.store, "--to", place.root / "gone")
        assert run.code == 3 and run.summary["restore"]["missing"] == 3, run


def test_an_interrupted_restore_goes_on():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        for number in range(40):
            place.fill(**{f"many__{number:02d}": os.urandom(1 << 20)})
        place.fine("archive", "create", "--name", "home", place.url, place.src)
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        proxy.add(Rule("latency", kind="GetObject", path="tar.gz$", seconds=0.3))
        process = place.start("restore", "--concurrency", "2", place.url, "--to", place.back)
        try:
            wait_for(lambda: (place.back / "many").exists() and len(list((place.back / "many").glob("[0-9]*"))) >= 4, "files")
            process.send_signal(signal.SIGKILL)
        finally:
            end(process)
        proxy.clear()
        there = len(list((place.back / "many").glob("[0-9]*")))
        numbers = place.fine("restore", place.url, "--to", place.back).summary["restore"]
        assert numbers["filesUnchanged"] >= min(there, 4) and numbers["filesRestored"] > 0, numbers
        assert tree(place.back) == tree(place.src)
        assert not [name for name in os.listdir(place.back / "many") if name.startswith(".backapp")]


def test_one_file_needs_few_bytes():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.fill(big=os.urandom(20 << 20), middle=b"wanted" * 100, zlast=os.urandom(20 << 20))
        place.fine("archive", "create", "--name", "home", place.url, place.src)
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        place.fine("restore", place.url, "middle", "--to", place.back)
        assert tree(place.back) == {"middle": b"wanted" * 100}
        received = sum(request.answer_bytes for request in proxy.log())
        assert 0 < received < 3 << 20, received


def test_versions_of_a_mirror():
    with StorePlace() as place:
        kind = Mirror(place)
        place.fill(same="s", changing="1", gone__x="x", gone__y="y", becomes_file__in="in", becomes_dir="file")
        os.chmod(place.src / "gone", 0o711)
        os.link(place.src / "changing", place.src / "hardlink")
        os.symlink("same", place.src / "symlink")
        (place.src / ".trash").mkdir()
        (place.src / ".trash" / "kept").write_text("a folder as any other")
        kind.backup()
        first = facts(place.src)
        (place.src / "changing").unlink()
        (place.src / "hardlink").unlink()
        place.fill(changing="22", hardlink="alone", gone__x="xx")
        kind.backup()
        second = facts(place.src)
        for name in ("x", "y"):
            (place.src / "gone" / name).unlink()
        (place.src / "gone").rmdir()
        (place.src / "becomes.file" / "in").unlink()
        (place.src / "becomes.file").rmdir()
        (place.src / "becomes.dir").unlink()
        place.fill(becomes_file="now a file", becomes_dir__in="now a folder")
        (place.src / "symlink").unlink()
        kind.backup()
        third = facts(place.src)
        points = [json.loads(line) for line in place.good("restore", "--list", "--json", place.dst).splitlines()]
        assert [point["name"] for point in points][0] == "present" and len(points) == 3, points
        assert points[0]["files"] > 0 and "files" not in points[1], points

        def same(found, expected):
            # Times of folders that lost something are those of now.
            def seen(state):
                return {name: fact if fact[0] is not None else fact[:2] for name, fact in state.items()}
            return seen(found) == seen(expected)

        for number, (name, expected) in enumerate(((points[2]["name"], first), (points[1]["name"], second), ("latest", third))):
            run = place.fine("restore", "--at", name, place.dst, "--to", place.root / f"r{number}")
            found = facts(place.root / f"r{number}")
            assert same(found, expected), (name, set(found.items()) ^ set(expected.items()))
            notes = [warning for warning in run.of("warning") if warning["code"] == "note"]
            assert len(notes) == (0 if name == "latest" else 1), notes
        # From one to the other, in place.
        for name, expected in ((points[2]["name"], first), ("latest", third), (points[1]["name"], second)):
            restore(place, kind, "--at", name, "--delete")
            assert same(facts(place.back), expected), name
        # By time: what held then.
        restore(place, kind, "--delete", "--at", "2001-01-01")
        assert same(facts(place.back), first)
        restore(place, kind, "--delete", "--at", "2999-01-01")
        assert same(facts(place.back), third)
        code, _, err = place.run("restore", "--at", "nonsense", place.dst, "--to", place.back)
        assert code == 1 and "neither" in err, err
        # A mirror of archives is a mirror.
        place.fine("archive", "create", "--name", "home", "--exclude", "/archives", place.src / "archives", place.src)
        kind.backup()
        restore(place, kind, to=place.root / "whole")
        assert (place.root / "whole" / "archives" / "home").is_dir()


def test_a_mirror_at_work_is_noted():
    with StorePlace() as place:
        place.fill(a="1")
        kind = Mirror(place)
        kind.backup()
        (place.dst / ".backapp" / "journal").write_text("x")
        run = place.fine("restore", place.dst, "--to", place.back)
        assert any("interrupted" in warning["message"] for warning in run.of("warning")), run.of("warning")


def test_the_sidecar_of_a_weak_file_system():
    with StorePlace() as place:
        with Drive(place.root, "exfat") as drive:
            place.fill(a="1", folder__b="22", script="#!")
            os.symlink("a", place.src / "link")
            os.link(place.src / "a", place.src / "second")
            os.mkfifo(place.src / "pipe")
            os.chmod(place.src / "script", 0o4751)
            os.chmod(place.src / "folder", 0o711)
            os.chown(place.src / "a", 1234, 5678)
            os.setxattr(place.src / "a", "user.note", b"kept")
            os.utime(place.src / "a", ns=(1, 1234567890123456789))
            destination = drive.point / "mirror"
            place.fine("mirror", place.src, destination)
            place.fine("restore", destination, "--to", place.back)
            assert facts(place.back) == facts(place.src), set(facts(place.back).items()) ^ set(facts(place.src).items())
            assert os.getxattr(place.back / "a", "user.note") == b"kept"
            assert os.stat(place.back / "a").st_ino == os.stat(place.back / "second").st_ino
            numbers = place.fine("restore", destination, "--to", place.back).summary["restore"]
            assert numbers["filesRestored"] == 0, numbers
            # What somebody changed on the drive is not what the record was about.
            for content in ("another", "!#"):
                (destination / "script").write_text(content)
                os.utime(destination / "script", (10**9, 10**9))
                place.fine("restore", destination, "--to", place.back)
                assert (place.back / "script").read_text() == content
                assert not os.stat(place.back / "script").st_mode & stat.S_ISUID
            # A damaged one costs only what it alone has.
            sidecar = destination / ".backapp" / "sidecar"
            data = bytearray(sidecar.read_bytes())
            data[60] ^= 1
            sidecar.write_bytes(data)
            run = place.json("restore", destination, "--to", place.root / "other")
            assert run.code == 3 or any("sidecar is damaged" in w["message"] for w in run.of("warning")), run
            assert (place.root / "other" / "folder" / "b").read_text() == "22"


def test_what_is_nothing_of_ours():
    with StorePlace() as place:
        place.fill(a="1")
        for origin in (place.src, place.root / "missing"):
            code, _, err = place.run("restore", origin, "--to", place.back)
            assert code == 1 and ("holds no backup" in err or "no such directory" in err), err
            code, _, err = place.run("restore", "--list", origin)
            assert code == 1, err
        assert not place.back.exists() and tree(place.src) == {"a": b"1"}


def test_a_socket_comes_back():
    with StorePlace() as place:
        place.fill(a="1")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(os.fspath(place.src / "sock"))
        for kind in (Archives(place), Mirror(place)):
            kind.backup()
            restore(place, kind, to=place.root / kind.name)
            assert stat.S_ISSOCK(os.stat(place.root / kind.name / "sock").st_mode), kind.name


if __name__ == "__main__":
    run_module("restore_archive", sys.modules["__main__"])
