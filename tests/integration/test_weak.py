#!/usr/bin/env python3
"""Mirrors on exFAT, NTFS and FAT: what the drive cannot hold is in the sidecar, and both together are the source."""

import os
import pathlib
import shutil
import stat
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fault"))

import faultlib
from cli_tools import Place, Skip, as_nobody, events, everything, main, set_xattr
from weakfs import Drive, read_sidecar, whole

ODD = b"odd-\xff\xfe\n name"  # what no weak file system takes


def on(*kinds):
    """Runs the case on drives of these kinds; skipped if none can be had, with all the reasons."""

    def wrap(case):
        def run():
            reasons = []
            for kind in kinds:
                try:
                    with Place() as place, Drive(place.root, kind) as drive:
                        place.dst = drive.point / "mirror"
                        case(place, drive)
                except Skip as why:
                    reasons.append(f"{kind}: {why}")
            if len(reasons) == len(kinds):
                raise Skip("; ".join(reasons))

        run.__name__ = case.__name__
        return run

    return wrap


def items(place, *options):
    """What a run shows of its work: {path: action}, and its statistics."""
    found, stats = {}, {}
    code, out, err = place.run("mirror", "-v", "--json", *options, place.src, place.dst)
    assert code == 0, f"code {code}: {out} {err}"
    for event in events(out):
        if event["type"] == "item":
            found[event["path"]] = event["action"]
        elif event["type"] == "summary":
            stats = event["stats"]["stage1"]
    return found, stats


def check(place, left_out=()):
    """Mirror and sidecar together are the source."""
    expected = faultlib.capture(place.src)
    for name in left_out:
        expected.pop(name)
    problems = faultlib.differences(expected, whole(place.dst))
    assert not problems, "; ".join(problems)


def nothing_to_do(place):
    before = (place.dst / ".backapp" / "sidecar").stat().st_mtime_ns
    found, stats = items(place)
    assert found == {}, found
    assert stats["filesTransferred"] == stats["filesChanged"] == stats["filesCreated"] == 0, stats
    assert (place.dst / ".backapp" / "sidecar").stat().st_mtime_ns == before
    assert not (place.dst / ".backapp" / "sidecar.new").exists()


@on("exfat", "ntfs", "vfat")
def test_everything_there_is(place, drive):
    faultlib.build_old(place.src, 3 << 20)
    os.rename(os.fsencode(place.src) + b"/" + ODD, place.src / "even")
    os.utime(place.src, ns=(10**18, 10**18 + 5))
    place.mirror("--delete")
    check(place)
    names = read_sidecar(place.dst)[1]
    assert names[False, 0] == "root" and names[True, 0] == "root", names
    nothing_to_do(place)
    drive.again()
    nothing_to_do(place)
    os.rename(place.src / "even", os.fsencode(place.src) + b"/" + ODD)
    faultlib.change(place.src)
    os.rename(os.fsencode(place.src) + b"/" + ODD, place.src / "even")
    place.mirror("--delete")
    check(place)
    nothing_to_do(place)
    # The year 1969 is one that FAT does not have, so the first time only the sidecar could tell.
    code, _, err = place.run("verify", place.dst)
    assert code == 0 and all(line.startswith(("note: ", "warning: even: ")) for line in err.splitlines()), err
    shutil.rmtree(place.src)
    place.src.mkdir()
    place.good("mirror", "--delete", "--force", place.src, place.dst)
    check(place)
    assert list(read_sidecar(place.dst)[0]) == [b"."]


@on("exfat", "ntfs")
def test_only_metadata_changes(place, _drive):
    place.fill(file="1", other="2", folder__x="3")
    os.symlink("one", place.src / "link")
    place.mirror()
    for name in ("other", "folder"):
        os.chmod(place.src / name, 0o700)
    os.chown(place.src / "file", 12345, 23456)
    set_xattr(place.src / "folder" / "x", "user.note", b"new")
    os.unlink(place.src / "link")
    os.symlink("two", place.src / "link")
    os.utime(place.src, ns=(10**18, 10**18))
    before = everything(place.dst)
    planned, _ = items(place, "--dry-run")
    assert everything(place.dst) == before
    done, stats = items(place)
    expected = {"file": "metadata", "other": "metadata", "folder": "metadata", "folder/x": "metadata", "link": "update", ".": "metadata"}
    kept_there = os.path.islink(place.dst / "link")
    assert planned == done == expected, (planned, done)
    assert stats["filesTransferred"] == (1 if kept_there else 0), stats
    check(place)
    nothing_to_do(place)


@on("exfat", "ntfs")
def test_what_is_gone(place, _drive):
    place.fill(file="1", keep="2", folder__deep__x="3")
    for name in ("link", "folder/link", "folder/deep/link"):
        os.symlink("target", place.src / name)
    (place.src / "links").mkdir()
    os.symlink("target", place.src / "links" / "a")
    place.mirror()
    old = read_sidecar(place.dst)[0]
    for name in ("file", "link", "links/a"):
        (place.src / name).unlink()
    shutil.rmtree(place.src / "folder")
    place.mirror()
    new = read_sidecar(place.dst)[0]
    assert set(new) == set(old), set(old) - set(new)
    only_record = not os.path.lexists(place.dst / "link")
    # What is excluded is not deleted either.
    done, stats = items(place, "--delete", "--exclude", "/links/")
    assert {name: done[name] for name in ("file", "link", "folder")} == dict.fromkeys(("file", "link", "folder"), "delete"), done
    assert "folder/link" not in done and "links/a" not in done, done
    assert stats["filesDeleted"] == 7, stats
    assert set(read_sidecar(place.dst)[0]) == {b".", b"keep", b"links", b"links/a"}
    done, stats = items(place, "--delete")
    assert done["links/a"] == "delete" and stats["filesDeleted"] == 1, done
    check(place)
    nothing_to_do(place)
    assert only_record or not os.path.lexists(place.dst / "link")


@on("exfat", "ntfs")
def test_other_types(place, _drive):
    """Each name becomes each other type once; the drive has one of them, the sidecar the rest."""
    makers = {
        "file": lambda path: path.write_text("content"),
        "link": lambda path: os.symlink("target", path),
        "fifo": lambda path: os.mkfifo(path),
        "folder": lambda path: (path.mkdir(), os.symlink("x", path / "inner"), (path / "f").write_text("f")),
    }
    names = list(makers)
    for step in range(len(names)):
        for number, name in enumerate(names):
            path = place.src / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif os.path.lexists(path):
                path.unlink()
            makers[names[(number + step) % len(names)]](path)
        place.mirror("--delete")
        check(place)
        nothing_to_do(place)


@on("exfat")
def test_change_within_the_coarse_time(place, _drive):
    place.fill(file="one")
    os.utime(place.src / "file", ns=(10**18, 10**18 + 1))
    place.mirror()
    place.fill(file="two")
    os.utime(place.src / "file", ns=(10**18, 10**18 + 2))
    done, _ = items(place)
    assert done["file"] == "update", done
    assert (place.dst / "file").read_text() == "two"
    check(place)


@on("exfat", "ntfs")
def test_lost_or_damaged_sidecar(place, _drive):
    place.fill(file="1", folder__x="2")
    os.symlink("target", place.src / "link")
    place.mirror()
    sidecar = place.dst / ".backapp" / "sidecar"
    good = sidecar.read_bytes()
    for broken in (None, b"", b"rubbish", good[:-1], good[:40] + b"?" + good[41:], good + b"x"):
        sidecar.unlink()
        if broken is not None:
            sidecar.write_bytes(broken)
        code, out, err = place.run("mirror", place.src, place.dst)
        assert code == 0 and "written anew" in err, (broken, out, err)
        assert sidecar.read_bytes() == good, broken
        check(place)
    nothing_to_do(place)


@on("exfat", "ntfs")
def test_what_the_drive_cannot_name(place, drive):
    place.fill(file="1")
    (place.src / "a:b?").write_text("2")
    code, _, err = place.run("mirror", place.src, place.dst)
    taken = (place.dst / "a:b?").exists()
    assert code == (0 if taken else 3), err
    assert taken or "does not allow this name" in err, err
    check(place, [] if taken else [b"a:b?"])
    nothing_to_do(place) if taken else None


@on("exfat")
def test_names_that_differ_only_in_case(place, _drive):
    place.fill(name="1", dir__x="2")
    os.symlink("target", place.src / "dir" / "link")
    place.mirror()
    place.fill(NAME="3")
    code, _, err = place.run("mirror", place.src, place.dst)
    assert code == 3 and "differs only in case" in err, err
    (place.src / "NAME").unlink()
    (place.src / "name").rename(place.src / "Name")
    (place.src / "dir").rename(place.src / "Dir")
    place.mirror("--delete")
    check(place)
    assert sorted(os.listdir(place.dst))[2:] == ["Dir", "Name"], os.listdir(place.dst)
    nothing_to_do(place)


@on("exfat", "ntfs")
def test_several_sources(place, _drive):
    for name in ("zebra", "ape"):
        (place.root / name).mkdir()
        (place.root / name / "file").write_text(name)
        os.symlink(name, place.root / name / "link")
    sources = [place.root / "zebra", place.root / "ape"]
    place.good("mirror", *sources, place.dst)
    assert list(read_sidecar(place.dst)[0]) == [b"ape", b"ape/file", b"ape/link", b"zebra", b"zebra/file", b"zebra/link"]
    out = place.good("mirror", "-v", *reversed(sources), place.dst)
    assert "unchanged 6" in out, out
    # The folder of a source that takes no part keeps its records.
    (place.root / "bear").mkdir()
    place.good("mirror", "--delete", place.root / "ape", place.root / "bear", place.dst)
    assert set(read_sidecar(place.dst)[0]) == {b"ape", b"ape/file", b"ape/link", b"bear", b"zebra", b"zebra/file", b"zebra/link"}


@on("exfat", "ntfs")
def test_what_takes_no_part(place, _drive):
    place.fill(big="123456", left__file="1", left__deep__file="2", excluded__file="3", other="4")
    for name in ("left", "left/deep", "excluded"):
        os.symlink("target", place.src / name / "link")
    place.mirror()
    old = read_sidecar(place.dst)[0]
    (place.src / "left" / ".leave").touch()
    shutil.rmtree(place.src / "excluded")
    os.chmod(place.src / "other", 0o600)
    code, _, err = place.run(
        "mirror", "--delete", "--exclude-if-present", ".leave", "--exclude-larger-than", "5", "--exclude", "/excluded/",
        place.src, place.dst,
    )  # fmt: skip
    assert code == 0, err
    new = read_sidecar(place.dst)[0]
    assert set(new) == set(old), set(old) ^ set(new)
    assert new[b"other"] != old.pop(b"other") and old.pop(b".")
    assert all(new[name] == old[name] for name in old)


def open_to_nobody(place):
    """Options that run the program as somebody else, who may come to the place."""
    nobody = as_nobody()
    place.state.mkdir()
    for name in (place.src, place.state, place.root):
        os.chmod(name, 0o777)
    return nobody


@on("exfat")
def test_drive_of_another_user(place, _drive):
    """Then even modes and times are refused with EPERM, as kernel drivers for FAT do for modes that they do not have."""
    nobody = open_to_nobody(place)
    place.fill(file="one", folder__file="2")
    os.symlink("target", place.src / "folder" / "link")
    code, _, err = place.run("mirror", place.src, place.dst, **nobody)
    assert code == 0 and err.count("could not be kept: modification time") == 4 == err.count("warning: "), err
    check(place)


@on("exfat")
def test_what_cannot_be_read(place, drive):
    nobody = open_to_nobody(place)
    drive.options = ["-o", "uid=65534,gid=65534"]
    drive.again()
    place.fill(file="one", folder__file="2")
    os.symlink("target", place.src / "folder" / "link")
    place.good("mirror", place.src, place.dst, **nobody)
    check(place)
    place.fill(file="two")
    os.chmod(place.src / "file", 0)
    os.chmod(place.src / "folder", 0)
    code, _, err = place.run("mirror", "--delete", place.src, place.dst, **nobody)
    assert code == 3, (code, err)
    records = read_sidecar(place.dst)[0]
    assert records[b"file"]["unsure"] and set(records) == {b".", b"file", b"folder", b"folder/file", b"folder/link"}, records
    # Now it can be read, and has the time and the size that the sidecar speaks of.
    os.utime(place.dst / "file", ns=(os.stat(place.src / "file").st_mtime_ns,) * 2)
    os.chmod(place.src / "file", 0o644)
    os.chmod(place.src / "folder", 0o755)
    place.good("mirror", "--delete", place.src, place.dst, **nobody)
    assert (place.dst / "file").read_text() == "two"
    check(place)


def test_strong_destination_has_none():
    with Place() as place:
        place.fill(file="1")
        os.symlink("target", place.src / "link")
        place.mirror()
        state = place.dst / ".backapp"
        if (state / "sidecar").exists():
            raise Skip("the file system of temporary files cannot hold everything")
        # One that was copied from a weak drive says what is no longer so.
        (state / "sidecar").write_bytes(b"old")
        (state / "sidecar.new").write_bytes(b"older")
        place.mirror()
        assert not (state / "sidecar").exists() and not (state / "sidecar.new").exists()


if __name__ == "__main__":
    sys.exit(main("weak", [case for name, case in list(globals().items()) if name.startswith("test_")]))
