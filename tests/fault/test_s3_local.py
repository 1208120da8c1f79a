#!/usr/bin/env python3
"""Stores in directories and restores in trouble: a store whose disk is full or cannot be written to, a restore onto a full
disk, one that is killed, objects that are damaged or gone, and points that somebody else made to write outside the target:
with "..", absolute paths, through symbolic links, by hard links. Those are written here, after docs/formats/s3-mirror.md."""

import functools
import hashlib
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import sys
import tempfile

from s3_scene import Scene, Skip, clear_error, completed, contents, run_all, same, snapshot

DIRECTORY, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
KEY_IS_PATH, HAS_KEY, HAS_TARGET, HAS_LINK, HAS_OBJECT, HAS_HASH = 2, 1, 16, 32, 128, 1024


class LocalScene(Scene):
    """A scene with a store in a directory."""

    def __init__(self, **options):
        super().__init__(bucket=False, **options)


# ---- disks that are full or read-only

def own_mounts(case):
    """Runs the case in a child with a mount name space of its own, which ends with it."""

    @functools.wraps(case)
    def wrapped():
        command = ["unshare", "--mount", "--propagation", "private"]
        probe = subprocess.run([*command, "true"], capture_output=True, timeout=60, check=False)
        if probe.returncode != 0:
            raise Skip("mounts of our own are not allowed here")
        with tempfile.TemporaryDirectory(prefix="backapp-cli-") as top:
            done = subprocess.run([*command, sys.executable, __file__, "--case", case.__name__], capture_output=True,
                                  text=True, timeout=120, check=False, env={**os.environ, "TMPDIR": top})
        line = (done.stdout + done.stderr).strip()
        if done.returncode == 77:
            raise Skip(line)
        assert done.returncode == 0, line

    wrapped.inner = case
    return wrapped


def mount(path, *options):
    path.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", *options, "tmpfs", path], capture_output=True, timeout=60,
                          check=False)
    if done.returncode != 0:
        raise Skip("no tmpfs can be mounted here")


def remount(path, options):
    subprocess.run(["mount", "-o", f"remount,{options}", path], timeout=60, check=True)


@own_mounts
def test_full_store():
    """The first sync, then a changed one, meet a full disk; with more space both complete."""
    with LocalScene() as scene:
        mount(scene.url, "size=4m,mode=755")
        run = scene.sync()
        clear_error(run, "space|full")
        scene.check_safe()
        remount(scene.url, "size=64m")
        completed(scene.sync())
        scene.check_right()
        scene.new_state()
        used = sum(len(content) for content in scene.stored().values())
        remount(scene.url, f"size={(used >> 10) + 1200}k")
        run = scene.sync()
        clear_error(run, "space|full")
        scene.check_safe(partial=run.code == 3)
        remount(scene.url, "size=64m")
        completed(scene.sync())
        scene.check_right()


@own_mounts
def test_read_only_store():
    with LocalScene(big=False) as scene:
        mount(scene.url, "size=16m,mode=755")
        completed(scene.sync())
        scene.new_state()
        remount(scene.url, "ro")
        before = scene.stored()
        clear_error(scene.sync(), "ead-only")
        assert scene.stored() == before
        scene.check_safe()
        remount(scene.url, "rw")
        completed(scene.sync())
        scene.check_right()


@own_mounts
def test_restore_onto_a_full_disk():
    with LocalScene() as scene:
        completed(scene.sync())
        mount(scene.back, "size=3m,mode=755")
        run = scene.restore()
        clear_error(run, "space|full")
        wanted = contents(scene.old)
        for name, content in contents(snapshot(scene.back)).items():
            assert content == wanted.get(name), f"restored wrong or left behind: {name}"
        remount(scene.back, "size=64m")
        completed(scene.restore())
        same(snapshot(scene.back), scene.old, "restored")


@own_mounts
def test_restore_onto_a_read_only_disk():
    with LocalScene(big=False) as scene:
        completed(scene.sync())
        mount(scene.back, "size=3m,ro")
        clear_error(scene.restore(), "ead-only")


# ---- damaged stores

def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    info = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_damaged_objects():
    """What is damaged or gone is named; all else is restored, and nothing wrong."""
    with LocalScene() as scene:
        completed(scene.sync())
        store = pathlib.Path(scene.url)
        flip(store / "sub/b.bin")
        flip(store / "big")
        (store / "f1").unlink()
        run = scene.restore()
        assert run.code in (1, 3), f"{run}"
        named = {event["path"] for event in run.of("warning") if event["code"] != "note"}
        assert named == {"sub/b.bin", "big", "f1"}, f"{run}"
        found, wanted = contents(snapshot(scene.back)), contents(scene.old)
        for name in named:
            assert name not in found, f"{name} was restored although it is damaged"
            del wanted[name]
        same(found, wanted, "restored")


def test_damaged_points():
    """A newest point that cannot be read is an error that names it; the one before can be asked for."""
    for part in ("roots", "blocks"):
        with LocalScene(big=False) as scene:
            completed(scene.sync())
            older = set((pathlib.Path(scene.url) / ".backapp/tree").rglob("*"))
            scene.new_state()
            completed(scene.sync())
            for path in (pathlib.Path(scene.url) / ".backapp/tree" / part).iterdir():
                if path not in older:
                    flip(path)
            run = scene.restore()
            clear_error(run, "damaged", ".backapp/tree/" + part)
            assert not contents(snapshot(scene.back)) if scene.back.exists() else True
            first = min(os.listdir(pathlib.Path(scene.url) / ".backapp/tree/roots"))
            completed(scene.restore("--at", first))
            same(snapshot(scene.back), scene.old, "the point before")
            completed(scene.sync("--checksum", "--relist") if part == "blocks" else scene.sync("--relist"))


# ---- points that somebody else made

def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def signed(number):
    return varint((number << 1) ^ (number >> 63))


def blob(data):
    return varint(len(data)) + data


def text(string):
    return blob(string.encode() + b"\0")


def packed(raw):
    """BATREE1p and a zstd frame that states its size and holds it as it is."""
    frame = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(raw))
    pieces = [raw[at:at + 100_000] for at in range(0, len(raw), 100_000)] or [b""]
    for number, piece in enumerate(pieces):
        frame += struct.pack("<I", len(piece) << 3 | (number == len(pieces) - 1))[:3] + piece
    return b"BATREE1p" + frame


def entry(path, mode, *, key=None, target=None, link=None, content=None):
    """An entry of a block that shares nothing with the one before."""
    flags = (HAS_TARGET if target is not None else 0) | (HAS_LINK if link is not None else 0)
    if content is not None:
        flags |= (KEY_IS_PATH if key is None else HAS_KEY) | HAS_OBJECT | HAS_HASH
    out = varint(flags) + varint(0) + blob(path.encode())
    if flags & HAS_KEY:
        out += text(key)
    size = len(content or b"")
    out += varint(mode) + varint(os.getuid()) + varint(os.getgid()) + varint(0) + signed(1_700_000_000) + varint(0)
    out += signed(0) + varint(0) + varint(size) + varint((size + 511) // 512) + varint(0) * 3
    if target is not None:
        out += text(target)
    if link is not None:
        out += text(link)
    if content is not None:
        out += varint(size) + varint(max(size, 8 << 20)) + hashlib.sha256(content).digest()
    return out


def write_point(store, entries, objects):
    """A mirror whose only point has these entries, in this order, and these objects."""
    raw = b"".join([entry("", DIRECTORY), *entries])
    name = hashlib.sha256(raw).hexdigest()
    root = varint(1) + blob(b"run") + signed(1_700_000_000) + blob(b"/src") + blob(b"host")
    root += varint(len(entries)) + varint(1) + varint(10) + varint(0) + varint(1)
    root += bytes.fromhex(name) + varint(len(entries) + 1) + varint(1) + blob(b"")
    root += hashlib.sha256(root).digest()
    for key, content in {**objects, f".backapp/tree/blocks/{name}": packed(raw),
                         ".backapp/tree/roots/0000000001-20231114T221320Z-0a1b2c3d": packed(root)}.items():
        path = store / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


EVIL = b"evil"


def hostile(outside):
    """{what: entries}, each of which would write outside the target if it were believed."""
    key = {"key": "object", "content": EVIL}
    away = str(outside)
    return {
        "dots": [entry("../outside/evil", FILE, **key)],
        "dots_inside": [entry("a", DIRECTORY), entry("a/../../outside/evil", FILE, **key)],
        "dots_directory": [entry("..", DIRECTORY), entry("../evil", FILE, **key)],
        "absolute": [entry(f"{away}/evil", FILE, **key)],
        "absolute_directory": [entry(f"{away}/evil", DIRECTORY)],
        "through_link": [entry("a", LINK, target=away), entry("a/evil", FILE, **key)],
        "through_link_upwards": [entry("a", LINK, target="../outside"), entry("a/evil", FILE, **key)],
        "through_link_to_folder": [entry("a", LINK, target=away), entry("a/evil", DIRECTORY)],
        "over_link": [entry("a", LINK, target=f"{away}/evil"), entry("a", FILE, **key)],
        "directory_over_link": [entry("a", LINK, target=away), entry("a", DIRECTORY), entry("a/evil", FILE, **key)],
        "link_out": [entry("a", FILE, link=f"{away}/secret", **key)],
        "link_out_dots": [entry("a", FILE, link="../outside/secret", **key)],
        "link_through_link": [entry("a", LINK, target=away), entry("b", FILE, link="a/secret", **key)],
        "link_from_link": [entry("a", LINK, target=away), entry("a/evil", FILE, link="b"), entry("b", FILE, **key)],
        "symlink_through_link": [entry("a", LINK, target=away), entry("a/evil", LINK, target="x")],
        "empty_name": [entry("a//evil", FILE, **key)],
        "dot_name": [entry("./evil", FILE, **key)],
        "slash_at_the_end": [entry("a/", FILE, **key)],
        "key_outside": [entry("a", FILE, key="../outside/secret", content=b"secret")],
        "key_absolute": [entry("a", FILE, key=f"{away}/secret", content=b"secret")],
    }


def restore_hostile(what, target_exists):
    with LocalScene(big=False) as scene:
        outside = scene.root / "outside"
        outside.mkdir()
        (outside / "secret").write_bytes(b"secret")
        write_point(scene.root / "store", hostile(outside)[what], {"object": EVIL})
        if target_exists:
            scene.back.mkdir()
        before = {name: entry for name, entry in snapshot(scene.root).items()
                  if name.split("/")[0] not in ("back", "state", ".")}
        run = scene.restore()
        assert run.code in (0, 1, 3, 4), f"{run}"
        assert run.of("done"), f"{run}"
        for word in ("signal", "crash"):
            assert word not in run.message, run.message
        after = {name: entry for name, entry in snapshot(scene.root).items()
                 if name.split("/")[0] not in ("back", "state", ".")}
        same(after, before, "outside the target")
        for name, held in contents(snapshot(scene.back)).items() if scene.back.exists() else ():
            assert held != b"secret", f"{name} has what lies outside"


def restore_plain():
    """The writer of points above writes what is read: else the hostile ones would show nothing."""
    with LocalScene(big=False) as scene:
        entries = [entry("a", DIRECTORY), entry("a/file", FILE, key="object", content=EVIL),
                   entry("a/second", FILE, link="a/file", key="object", content=EVIL), entry("b", LINK, target="/nowhere")]
        write_point(scene.root / "store", entries, {"object": EVIL})
        completed(scene.restore())
        found = snapshot(scene.back)
        assert found["a/file"][2] == found["a/second"][2] == EVIL and found["b"][2] == "/nowhere", found
        assert found["a/file"][3] == ("a/file", "a/second"), found["a/file"]


def remains_of_a_killed_restore():
    """Its files without their names yet go; what only looks alike stays."""
    with LocalScene(big=False) as scene:
        completed(scene.sync())
        for folder in ("", "sub", "bare"):
            (scene.back / folder).mkdir(parents=True, exist_ok=True)
            (scene.back / folder / ".backapp-restore-0123456789abcdef").write_bytes(b"half")
            os.link(scene.back / folder / ".backapp-restore-0123456789abcdef", scene.back / folder / ".backapp-restore-mine")
        completed(scene.restore())
        found = snapshot(scene.back)
        for folder in ("", "sub/", "bare/"):
            del found[folder + ".backapp-restore-mine"]
        same(found, scene.old, "restored")


def links_in_the_target():
    """Links that were in the target before are not followed either."""
    with LocalScene(big=False) as scene:
        completed(scene.sync())
        outside = scene.root / "outside"
        shutil.copytree(scene.src, outside, symlinks=True)
        for name in ("sub", "bare", "odd & \u00fc"):
            scene.back.mkdir(exist_ok=True)
            os.symlink(outside / name, scene.back / name)
        os.symlink(outside / "a.txt", scene.back / "a.txt")
        os.link(outside / "f0", scene.back / "f0")
        (outside / "f0").write_bytes(b"mine")
        before = snapshot(outside)
        run = scene.restore()
        assert run.code in (0, 1, 3), f"{run}"
        after = snapshot(outside)
        for name, state in before.items():
            assert after[name][:3] == state[:3] or name == ".", f"{name} outside was changed: {after[name]}"


def main():
    if sys.argv[1:2] == ["--case"]:
        try:
            globals()[sys.argv[2]].inner()
        except Skip as why:
            print(why)
            return 77
        return 0
    cases = [(name.removeprefix("test_"), case) for name, case in globals().items() if name.startswith("test_")]
    cases += [("point_of_our_own", restore_plain), ("links_in_the_target", links_in_the_target),
              ("remains_of_a_killed_restore", remains_of_a_killed_restore)]
    for what in hostile("/"):
        cases += [(f"hostile_{what}", restore_hostile, what, False), (f"hostile_{what}_again", restore_hostile, what, True)]
    return run_all("s3_local", cases)


if __name__ == "__main__":
    sys.exit(main())
