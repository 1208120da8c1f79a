"""Compares a source with its mirror, twice: with the real rsync as a judge, and with an own walk that shares nothing
with any mirror program.

snapshot() reads a tree through directory descriptors (paths of any length) into {relative path: Entry}; compare()
names every difference between two snapshots; rsync_differences() is what `rsync -aHAXnic --delete` would still do.
Paths and values are bytes. Our own files (`.backapp*` at the root) are skipped by all of them.
"""

import errno
import hashlib
import os
import stat
import struct
import subprocess
from dataclasses import dataclass, field

from oddtree import DEEP_PREFIX, OWN_PREFIX

TIMEOUT = 240
_BLOCK = 4096
_ACL_NAMES = ("system.posix_acl_access", "system.posix_acl_default")


@dataclass
class Entry:
    """One name of a tree."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    size: int
    inode: tuple
    links: int
    blocks: int
    device: int = 0
    target: bytes = b""
    digest: str = ""
    data: int = 0
    xattrs: dict = field(default_factory=dict)
    unreadable: bool = False


_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
          stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device"}


def _canonical(name, value):
    """ACL entries in one order, so that only their meaning is compared."""
    if name not in _ACL_NAMES or len(value) < 4:
        return value
    rows = sorted(struct.iter_unpack("<HHI", value[4:]))
    return value[:4] + b"".join(struct.pack("<HHI", *row) for row in rows)


def _read_xattrs(directory, name):
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    found = {}
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as problem:
        if problem.errno in (errno.ENOTSUP, errno.ENODATA, errno.EPERM):
            return found
        raise
    for key in names:
        if key.startswith("trusted.SGI_ACL_"):
            continue  # how XFS shows root an ACL a second time
        found[key] = _canonical(key, os.getxattr(path, key, follow_symlinks=False))
    return found


def _digest(handle, size):
    """A hash of content that does not depend on where holes are: only blocks that are not zero count. And the number
    of bytes that the file system reports as data."""
    digest = hashlib.blake2b(b"%d" % size, digest_size=16)
    position, data = 0, 0
    zeros = bytes(_BLOCK)
    while position < size:
        try:
            start = os.lseek(handle, position, os.SEEK_DATA)
        except OSError as problem:
            if problem.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(handle, start, os.SEEK_HOLE)
        data += end - start
        start -= start % _BLOCK
        while start < end:
            chunk = os.pread(handle, min(1 << 20, -(-end // _BLOCK) * _BLOCK - start), start)
            if not chunk:
                return "shrank", data
            for offset in range(0, len(chunk), _BLOCK):
                block = chunk[offset:offset + _BLOCK]
                if block != zeros[:len(block)]:
                    digest.update(b"%d:" % (start + offset) + block)
            start += len(chunk)
        position = max(end, start)
    return digest.hexdigest(), data


def _entry(directory, name, content):
    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = _KINDS[stat.S_IFMT(info.st_mode)]
    entry = Entry(kind, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, info.st_ctime_ns,
                  info.st_size, (info.st_dev, info.st_ino), info.st_nlink, info.st_blocks)
    if kind.endswith("device"):
        entry.device = info.st_rdev
    if kind == "symlink":
        entry.target = os.readlink(name, dir_fd=directory)
    try:
        entry.xattrs = _read_xattrs(directory, name)
        if kind == "file" and content:
            handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                entry.digest, entry.data = _digest(handle, info.st_size)
            finally:
                os.close(handle)
    except PermissionError:
        entry.unreadable = True
    return entry


def snapshot(root, skip=None, content=True):
    """{path: Entry}, the root itself as b"". skip(path, is_directory) leaves a name and what is below it out."""
    found = {}
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

    def walk(directory, prefix):
        for name in sorted(os.fsencode(n) for n in os.listdir(directory)):
            path = prefix + name
            if not prefix and name.startswith(OWN_PREFIX):
                continue
            entry = _entry(directory, name, content)
            if skip and skip(path, entry.kind == "directory"):
                continue
            found[path] = entry
            if entry.kind != "directory":
                continue
            try:
                inner = os.open(name, flags, dir_fd=directory)
            except PermissionError:
                entry.unreadable = True
                continue
            try:
                walk(inner, path + b"/")
            finally:
                os.close(inner)

    top = os.open(root, flags & ~os.O_NOFOLLOW)
    try:
        found[b""] = _entry(top, b".", content)
        walk(top, b"")
    finally:
        os.close(top)
    return found


def same_state(before, after):
    """True if nothing in a tree was touched, not even a ctime."""
    def brief(tree):
        return {path: (e.kind, e.mode, e.uid, e.gid, e.size, e.mtime_ns, e.ctime_ns, e.inode)
                for path, e in tree.items() if path}
    return brief(before) == brief(after)


def _groups(tree, paths):
    groups = {}
    for path in paths:
        entry = tree[path]
        if entry.kind != "directory":
            groups.setdefault(entry.inode, []).append(path)
    return {path: frozenset(group) for group in groups.values() for path in group}


def _compare_entry(path, source, mirror, report, loose_layout):
    if source.kind != mirror.kind:
        report("%r is a %s in the source, a %s in the mirror" % (path, source.kind, mirror.kind))
        return
    checks = [("owner", source.uid, mirror.uid), ("group", source.gid, mirror.gid),
              ("mtime", source.mtime_ns, mirror.mtime_ns), ("target", source.target, mirror.target),
              ("device", source.device, mirror.device)]
    if source.kind != "symlink":
        checks.append(("mode", oct(source.mode), oct(mirror.mode)))
    if source.kind == "file":
        checks.append(("size", source.size, mirror.size))
        if not source.unreadable and not mirror.unreadable:
            checks.append(("content", source.digest, mirror.digest))
    for what, wanted, got in checks:
        if wanted != got:
            report("%r: %s is %s, should be %s" % (path, what, got, wanted))
    for name in sorted(set(source.xattrs) | set(mirror.xattrs)):
        wanted, got = source.xattrs.get(name), mirror.xattrs.get(name)
        if wanted != got:
            report("%r: xattr %s is %r, should be %r" % (path, name, got, wanted))
    holes = source.size - source.data
    if source.kind == "file" and source.digest and holes >= 65536 and source.blocks * 512 < source.size:
        allowed = source.blocks * 512 + (max(holes // 2, 1 << 20) if loose_layout else
                                         max(32768, source.blocks * 512 // 10))
        if mirror.blocks * 512 > allowed:
            report("%r: %d bytes are allocated, %d in the source: holes were filled"
                   % (path, mirror.blocks * 512, source.blocks * 512))


def compare(source, mirror, *, extraneous=False, links="exact", loose_layout=False, ignore=()):
    """Every difference as a sentence, [] if there is none.

    extraneous: names that only the mirror has are fine. links: "exact" (the same names share an inode on both sides),
    "kept" (what is linked in the source is linked in the mirror), or "none" (the mirror has no links).
    loose_layout: the file system allocates ahead. ignore: paths (and what is below them) not to look at.
    """
    found = []
    report = found.append

    def ignored(path):
        return any(path == other or path.startswith(other + b"/") for other in ignore)

    common = []
    for path in sorted(set(source) | set(mirror)):
        if ignored(path):
            continue
        if path not in mirror:
            report("%r is missing in the mirror (%s)" % (path, source[path].kind))
        elif path not in source:
            if not extraneous:
                report("%r is extraneous in the mirror (%s)" % (path, mirror[path].kind))
        else:
            common.append(path)
            _compare_entry(path, source[path], mirror[path], report, loose_layout)
    wanted, got = _groups(source, common), _groups(mirror, common)
    for path in sorted(set(wanted) & set(got)):
        if links == "exact" and wanted[path] != got[path]:
            report("%r is linked with %s, should be with %s" % (path, sorted(got[path]), sorted(wanted[path])))
        if links == "kept" and not wanted[path] <= got[path]:
            report("%r is linked with %s, should be with %s" % (path, sorted(got[path]), sorted(wanted[path])))
        if links == "none" and len(got[path]) > 1:
            report("%r is linked with %s, should be alone" % (path, sorted(got[path])))
    return found


def rsync_differences(source, mirror, *, delete=True, hard_links=True, extra=()):
    """What the real rsync would still do, one string a line; [] if nothing. Names beyond its path limit are left out."""
    command = ["rsync", "-aHAXnic" if hard_links else "-aAXnic", "--numeric-ids", "--specials", "--modify-window=-1"]
    if os.geteuid() == 0:
        command.append("--devices")
    if delete:
        command.append("--delete")
    own = b"/" + OWN_PREFIX + b"*"
    deep = b"/" + DEEP_PREFIX + b"*"
    # XFS shows root an ACL a second time; own rules for xattrs replace rsync's rule against system.*
    command += ["--filter=-x trusted.SGI_ACL_*", "--filter=-x system.*"]
    if os.geteuid() != 0:
        command += ["--filter=-x trusted.*", "--filter=-x security.*"]
    command += [b"--exclude=" + own, b"--exclude=" + deep, *extra]
    command += [b"--", os.fsencode(source) + b"/", os.fsencode(mirror) + b"/"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
    lines = [line.decode("utf-8", "backslashreplace") for line in done.stdout.splitlines() if line]
    if done.returncode != 0:
        lines.append("rsync ended with %d: %s" % (done.returncode, done.stderr.decode("utf-8", "backslashreplace")))
    return lines
