"""Drives with file systems that cannot hold everything, and the reading of the sidecar that makes up for it."""

import hashlib
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import time

from cli_tools import Skip

SIZE = 48 << 20
WAIT = 20  # seconds
KINDS = {
    # What makes a file system in a file, what mounts it (after that: device or image, and place), needs a loop device.
    "exfat": (["mkfs.exfat"], ["mount.exfat-fuse"], True),
    "ntfs": (["mkntfs", "-q", "-F"], ["ntfs-3g"], False),
    "vfat": (["mkfs.vfat"], ["mount", "-t", "vfat"], True),
}


def call(*command):
    """None, or what the program said when it failed or is not there."""
    try:
        done = subprocess.run([os.fspath(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired) as why:
        return str(why)
    return None if done.returncode == 0 else (done.stderr + done.stdout).decode(errors="replace").strip() or "it failed"


class Drive:
    """A fresh file system of a kind, mounted at root/drive until the end."""

    def __init__(self, root, kind):
        self.image, self.point = pathlib.Path(root) / "image", pathlib.Path(root) / "drive"
        self.make, self.command, self.with_loop = KINDS[kind]
        self.kind = kind
        self.options = []
        self.device = None

    def __enter__(self):
        if os.geteuid() != 0:
            raise Skip("only root can mount")
        if "fuse" in self.command[0] or "3g" in self.command[0]:
            if not os.path.exists("/dev/fuse"):
                raise Skip("no /dev/fuse here")
        if not shutil.which(self.make[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            raise Skip(f"no {self.make[0]} here")
        self.point.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(SIZE)
        why = call(*self.make, self.image)
        if why:
            raise Skip(f"{self.make[0]}: {why}")
        try:
            self.mount()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, *_):
        self.umount()

    def mount(self):
        source = self.image
        if self.with_loop:
            done = subprocess.run(["losetup", "-f", "--show", self.image], capture_output=True, text=True, timeout=60, check=False)
            if done.returncode != 0:
                raise Skip(f"no loop device: {done.stderr.strip()}")
            source = self.device = done.stdout.strip()
        why = call(*self.command, *self.options, source, self.point)
        if why or not os.path.ismount(self.point):
            raise Skip(f"{self.kind} cannot be mounted here: {(why or 'nothing is there').splitlines()[-1]}")

    def umount(self):
        """Also waits until the driver is done with the image."""
        end = time.monotonic() + WAIT
        while os.path.ismount(self.point) and call("umount", self.point):
            if time.monotonic() > end:
                call("umount", "-l", self.point)
                break
            time.sleep(0.1)
        self.release()

    def release(self):
        if self.device:
            end = time.monotonic() + WAIT
            while call("losetup", "-d", self.device) and time.monotonic() < end:
                time.sleep(0.1)
            self.device = None

    def again(self):
        """Takes the drive out and puts it back."""
        self.umount()
        self.mount()


# ---- the sidecar, read by docs/formats/mirror.md ----


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def blob(self):
        length = self.varint()
        self.at += length
        assert self.at <= len(self.data), "a blob that is too long"
        return self.data[self.at - length : self.at]


def read_attributes(fields):
    return tuple((fields.blob().decode(), fields.blob()) for _ in range(fields.varint()))


def read_body(body):
    fields = Bytes(body)
    bits, mode, uid, gid = (fields.varint() for _ in range(4))
    record = {"unsure": bool(bits & 1), "mode": mode, "owner": (uid, gid)}
    record["mtime"] = fields.signed() * 10**9 + fields.varint()
    if stat.S_ISREG(mode):
        record["size"] = fields.varint()
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        record["rdev"] = fields.varint()
    if bits & 2:
        record["target"] = fields.blob()
    if bits & 4:
        record["link"] = fields.blob()
    record["xattrs"] = read_attributes(fields) if bits & 8 else ()
    assert fields.at == len(body), "a body that is too long"
    return record


def read_sidecar(dst, name="sidecar"):
    """The records by path (bytes; b"." is the root), and the names of owners by (is a group, id)."""
    data = (pathlib.Path(dst) / ".backapp" / name).read_bytes()
    assert data[:8] == b"BASIDE01", data[:8]
    at, records, names = 28, {}, {}
    while True:
        length, check = struct.unpack_from("<IQ", data, at)
        at += 12
        if length == 0:
            assert check == len(records) and at == len(data), (check, len(records), at, len(data))
            return records, names
        block = Bytes(data[at : at + length])
        at += length
        for _ in range(block.varint()):
            number = block.varint()
            names[number >> 32 == 1, number & 0xFFFFFFFF] = block.blob().decode()
        key = b""
        while block.at < length:
            key = key[: block.varint()] + block.blob()
            record = read_body(block.blob())
            assert stat.S_ISDIR(record["mode"]) == (key == b"" or key.endswith(b"/")), key
            assert key.rstrip(b"/") not in records, key
            records[key.rstrip(b"/") or b"."] = record


def entry(record, path):
    """A record and the file that it is about, in the form of the fault tests' capture."""
    kind = stat.S_IFMT(record["mode"])
    content = ""
    if stat.S_ISREG(kind):
        content = f"{record['size']}:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    elif stat.S_ISLNK(kind):
        content = record["target"]
    elif "rdev" in record:
        content = record["rdev"]
    return {
        "type": kind,
        "content": content,
        "mode": stat.S_IMODE(record["mode"]),
        "owner": record["owner"],
        "mtime": record["mtime"],
        "xattrs": record["xattrs"],
    }


def whole(dst):
    """What a mirror and its sidecar hold together, in the form of capture; b"?" names what does not fit together."""
    dst = pathlib.Path(dst)
    records, _ = read_sidecar(dst)
    found, groups = {}, {}
    for name, record in records.items():
        path = dst / os.fsdecode(name)
        alone = not os.path.lexists(path)
        kind = stat.S_IFMT(record["mode"])
        lost = alone and kind in (stat.S_IFREG, stat.S_IFDIR)
        if record["unsure"] or lost or (not alone and stat.S_IFMT(os.lstat(path).st_mode) != kind):
            found[b"?" + name] = record
            continue
        found[name] = entry(record, path)
        if not stat.S_ISDIR(record["mode"]):
            groups.setdefault(record.get("link", name), []).append(name)
            if not alone and os.lstat(path).st_nlink > 1:
                found[name]["inode"] = os.lstat(path).st_ino
    inodes = {}
    for names in groups.values():
        for name in names:
            found[name]["links"] = sorted(names)
            if "inode" in found[name]:
                inodes.setdefault(found[name].pop("inode"), []).append(name)
    for names in inodes.values():
        for name in names:
            found[name]["links"] = sorted(names)
    for folder, folders, files in os.walk(os.fsencode(dst)):
        if folder == os.fsencode(dst):
            folders[:] = [name for name in folders if not name.startswith(b".backapp")]
            files = [name for name in files if not name.startswith(b".backapp")]
        for name in [*folders, *files]:
            relative = os.path.relpath(os.path.join(folder, name), os.fsencode(dst))
            if relative not in records:
                found[b"?" + relative] = "no record"
    return found
