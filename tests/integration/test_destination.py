#!/usr/bin/env python3
"""What a mirror's destination has to be: the right drive, mounted, writable, locked by nobody, apart from its sources."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

from cli_tools import Place, Skip, as_nobody, end, everything, main, tree, wait_for

MARKER = ".backapp-destination"
REFUSED = 4
FAILED = 1


def own_mounts(case):
    """Runs the case in a child with a mount name space of its own, which ends with it."""

    def wrapped():
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, __file__, case.__name__]
        probe = subprocess.run([*command[:4], "true"], capture_output=True, timeout=60, check=False)
        if probe.returncode != 0:
            raise Skip("mounts of our own are not allowed here")
        # What is mounted over can be removed only here, where nothing is.
        with tempfile.TemporaryDirectory(prefix="backapp-cli-") as top:
            own = {**os.environ, "TMPDIR": top}
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=own)
        line = (done.stdout + done.stderr).strip()
        if done.returncode == 77:
            raise Skip(line.partition(": ")[2])
        assert done.returncode == 0, line

    wrapped.__name__ = case.__name__
    wrapped.inner = case
    return wrapped


def mount_tmpfs(path, options="size=8m"):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Skip("no tmpfs can be mounted here")


def run(*command):
    subprocess.run([os.fspath(part) for part in command], timeout=60, check=True)


def refused(place, code, part, *argv):
    """The run ends with this code and a message that has `part`; nothing is touched."""
    before = everything(place.src)
    got, out, err = place.run("mirror", *argv)
    assert got == code, f"code {got}: {out} {err}"
    assert part in err, err
    assert everything(place.src) == before
    return err


def identity(path):
    return json.loads((path / MARKER).read_text())["id"]


def test_marker_and_state():
    with Place() as place:
        place.fill(a="1")
        place.mirror()
        first = identity(place.dst)
        assert (place.dst / ".backapp").stat().st_mode & 0o7777 == 0o700
        state = json.loads((place.dst / ".backapp" / "state.json").read_text())
        assert state["sources"] == [str(place.src.resolve())], state
        assert (place.dst / ".backapp" / "lock").read_bytes() == b""
        assert not any(name.startswith("probe") for name in os.listdir(place.dst / ".backapp"))
        place.mirror()
        assert identity(place.dst) == first


@own_mounts
def test_drive_that_is_not_mounted():
    with Place() as place:
        place.fill(a="1")
        place.dst.mkdir()
        mount_tmpfs(place.dst)
        place.mirror()
        run("umount", place.dst)
        message = refused(place, REFUSED, "the drive is not mounted", place.src, place.dst)
        assert str(place.dst) in message and "--force" in message
        assert os.listdir(place.dst) == []
        refused(place, REFUSED, "the drive is not mounted", "--dry-run", place.src, place.dst)
        # Nor is the place made where a drive's folder went with the drive.
        place.dst.rmdir()
        refused(place, REFUSED, "the drive is not mounted", place.src, place.dst)
        assert not place.dst.exists()


@own_mounts
def test_first_run_on_a_drive_that_is_not_mounted():
    with Place() as place:
        place.fill(a="1")
        mount_tmpfs("/run", "size=8m,mode=755")
        drive = pathlib.Path("/run/media/user/DRIVE")
        drive.mkdir(parents=True)
        refused(place, REFUSED, "the drive is not mounted", place.src, drive)
        refused(place, REFUSED, "the drive is not mounted", place.src, drive / "backup")
        link = place.root / "link"
        link.symlink_to(drive)
        refused(place, REFUSED, "the drive is not mounted", place.src, link / "backup")
        assert os.listdir(drive) == []
        mount_tmpfs(drive)
        place.good("mirror", place.src, drive / "backup")
        assert tree(drive / "backup") == {"a": b"1"}


def test_another_drive():
    with Place() as place:
        place.fill(a="1")
        place.mirror()
        mine = identity(place.dst)
        shutil.move(place.dst, place.root / "mine")
        place.good("mirror", place.src, place.root / "other")
        other = identity(place.root / "other")
        shutil.move(place.root / "other", place.dst)
        before = everything(place.dst)
        message = refused(place, REFUSED, "another drive", place.src, place.dst)
        assert mine in message and other in message
        assert everything(place.dst) == before
        place.good("mirror", "--force", place.src, place.dst)
        assert identity(place.dst) == other
        place.mirror()  # adopted for good


def test_damaged_marker():
    with Place() as place:
        place.fill(a="1")
        place.mirror()
        (place.dst / MARKER).write_text("{")
        before = everything(place.dst)
        refused(place, FAILED, MARKER, place.src, place.dst)
        refused(place, FAILED, MARKER, "--force", place.src, place.dst)
        assert everything(place.dst) == before


def start_slow(place, *options):
    """A run that takes long, in the middle of its copying."""
    place.fill(big=b"x" * (4 << 20))
    process = place.start("mirror", "--json", "--bwlimit", "256", *options, place.src, place.dst)
    lock = place.dst / ".backapp" / "lock"
    wait_for(lambda: process.poll() is not None or (lock.exists() and lock.read_bytes()), "the lock")
    assert process.poll() is None, process.communicate()
    return process, json.loads(lock.read_text())


def test_live_lock():
    with Place() as place:
        process, owner = start_slow(place)
        try:
            assert owner["host"] == socket.gethostname() and owner["pid"] > 1
            os.kill(owner["pid"], 0)
            message = refused(place, FAILED, "another run is at work", place.src, place.dst)
            assert f"host {owner['host']}, pid {owner['pid']}" in message
            code, _, err = place.run("mirror", "--recover", place.dst)
            assert code == FAILED and "another run is at work" in err, err
        finally:
            process.send_signal(signal.SIGTERM)
            end(process)


def test_lock_of_a_killed_run():
    with Place() as place:
        process, owner = start_slow(place)
        os.kill(owner["pid"], signal.SIGKILL)
        end(process)
        wait_for(lambda: not pathlib.Path(f"/proc/{owner['pid']}").exists(), "the end of the run")
        assert json.loads((place.dst / ".backapp" / "lock").read_text())["pid"] == owner["pid"]
        code, _, err = place.run("mirror", place.src, place.dst)
        assert code == 0 and err.count("its lock is taken over") == 1, err
        assert f"pid {owner['pid']}" in err, err
        assert tree(place.dst) == tree(place.src)
        code, _, err = place.run("mirror", place.src, place.dst)
        assert code == 0 and "taken over" not in err, err


@own_mounts
def test_read_only_mount():
    with Place() as place:
        place.fill(a="1")
        place.dst.mkdir()
        mount_tmpfs(place.dst)
        place.mirror()
        place.fill(b="2")
        run("mount", "-o", "remount,ro", place.dst)
        before = everything(place.dst)
        refused(place, FAILED, "read-only", place.src, place.dst)
        refused(place, FAILED, "read-only", place.src, place.dst / "new")
        # What would be done can be told all the same.
        out = place.good("mirror", "--dry-run", "-v", place.src, place.dst)
        assert "b" in out, out
        assert everything(place.dst) == before


def test_unwritable():
    options = as_nobody()
    with Place() as place:
        place.fill(a="1")
        place.dst.mkdir(mode=0o755)
        if options:
            place.src.chmod(0o755)
        else:
            place.dst.chmod(0o555)
        place.state.mkdir(mode=0o777)
        place.state.chmod(0o777)
        code, _, err = place.run("mirror", place.src, place.dst, **options)
        place.dst.chmod(0o755)
        assert code == FAILED and f"cannot write {place.dst}" in err, err
        assert os.listdir(place.dst) == []


def test_overlaps():
    with Place() as place:
        place.fill(deep__a="1")
        (place.root / "link").symlink_to(place.src)
        inside = place.src / "backup"
        refused(place, FAILED, "same directory", place.src, place.src)
        refused(place, FAILED, "same directory", place.src, place.root / "link")
        refused(place, FAILED, "inside the source", place.src, inside)
        refused(place, FAILED, "inside the source", place.src, place.root / "link" / "deep" / "new")
        refused(place, FAILED, "inside the destination", place.src / "deep", place.src)
        refused(place, FAILED, "inside the destination", place.src, place.root)
        refused(place, FAILED, "given twice", place.src, place.root / "link", place.dst)
        refused(place, FAILED, "cannot open the source", place.root / "absent", place.dst)
        refused(place, FAILED, "not a directory", place.src / "deep" / "a", place.dst)
        assert not place.dst.exists() and not inside.exists()
        assert not (place.root / MARKER).exists()


@own_mounts
def test_destination_bound_into_the_source():
    with Place() as place:
        place.fill(a="1")
        place.dst.mkdir()
        (place.src / "mirror").mkdir()
        run("mount", "--bind", place.dst, place.src / "mirror")
        code, _, err = place.run("mirror", place.src, place.dst)
        assert code == FAILED and "inside the source" in err and "mirror" in err, err
        assert tree(place.dst) == {}
        place.good("mirror", "--exclude", "/mirror", place.src, place.dst)
        assert tree(place.dst) == {"a": b"1"}


@own_mounts
def test_mount_inside_the_destination():
    with Place() as place:
        place.fill(deep__a="1", deep__sub__b="2", top="3")
        place.mirror()
        nested = place.dst / "deep" / "sub"
        mount_tmpfs(nested)
        (nested / "foreign").write_text("precious")
        place.fill(top="changed")
        for argv in (["--delete"], []):
            refused(place, FAILED, "deep/sub", *argv, place.src, place.dst)
        assert (place.dst / "top").read_text() == "3"
        # Only what would be deleted from is in the way: not what just lies there.
        shutil.rmtree(place.src / "deep" / "sub")
        refused(place, FAILED, "deep/sub", "--delete", place.src, place.dst)
        place.good("mirror", place.src, place.dst)
        place.good("mirror", "--delete", "--exclude", "/deep/sub", place.src, place.dst)
        assert (place.dst / "top").read_text() == "changed"
        assert (nested / "foreign").read_text() == "precious"


@own_mounts
def test_mount_on_a_file_in_the_destination():
    with Place() as place:
        place.fill(a="1", b="2")
        place.mirror()
        run("mount", "--bind", place.src / "b", place.dst / "a")
        place.fill(a="changed")
        refused(place, FAILED, "/a lies on another", place.src, place.dst)
        run("umount", place.dst / "a")
        place.mirror()
        assert tree(place.dst) == {"a": b"changed", "b": b"2"}


def test_folder_of_another_user():
    if os.geteuid() != 0:
        raise Skip("only root is warned of other users' folders")
    with Place() as place:
        place.fill(a="1")
        assert place.run("mirror", place.src, place.dst)[0] == 0
        os.chown(place.dst / ".backapp", 65534, 65534)
        refused(place, REFUSED, "belongs to user 65534", place.src, place.dst)
        code, _, err = place.run("mirror", "--recover", place.dst)
        assert code == REFUSED and "belongs to user 65534" in err and "Nothing was changed" in err, err
        assert place.run("verify", place.dst)[0] == 0
        assert place.run("mirror", "--force", place.src, place.dst)[0] == 0


def test_what_is_no_directory():
    with Place() as place:
        place.fill(a="1")
        file = place.root / "file"
        file.write_text("kept")
        fifo = place.root / "fifo"
        os.mkfifo(fifo)
        link = place.root / "link"
        link.symlink_to(place.root / "absent")
        refused(place, FAILED, "is not a directory", place.src, file)
        refused(place, FAILED, "is not a directory", place.src, fifo)
        refused(place, FAILED, "does not exist", place.src, link)
        refused(place, FAILED, "does not exist", place.src, place.root / "no" / "such")
        assert file.read_text() == "kept" and not (place.root / "absent").exists()
        place.dst.mkdir()
        (place.dst / ".backapp").symlink_to(place.root)
        refused(place, FAILED, ".backapp is not a directory", place.src, place.dst)
        assert not (place.root / "lock").exists()


def test_dry_run_makes_nothing():
    with Place() as place:
        place.fill(a="1")
        place.good("mirror", "--dry-run", place.src, place.dst)
        assert not place.dst.exists()
        place.mirror()
        place.fill(b="2")
        before = everything(place.dst)
        place.good("mirror", "--dry-run", place.src, place.dst)
        assert everything(place.dst) == before


@own_mounts
def test_full_drive_with_a_left_stage():
    """A run that was killed on a full drive does not keep the next ones from making space."""
    with Place() as place:
        place.fill(a="1")
        place.dst.mkdir()
        mount_tmpfs(place.dst, "size=1m")
        place.mirror()
        stage = place.dst / ".backapp" / "stage" / "tree"
        stage.mkdir(parents=True)
        with open(stage / "left", "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        place.fill(b="2" * 100000)
        for _ in range(3):
            code, _, err = place.run("mirror", place.src, place.dst)
            if code == 0:
                break
            assert code == FAILED and "no space" in err.lower(), err
        assert code == 0, err
        assert tree(place.dst) == tree(place.src)


CASES = [case for name, case in list(globals().items()) if name.startswith("test_")]

if __name__ == "__main__":
    if len(sys.argv) > 1:
        # One case, in the mount name space that it asked for.
        sys.exit(main("destination", [globals()[sys.argv[1]].inner]))
    sys.exit(main("destination", CASES))
