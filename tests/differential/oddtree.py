"""Odd trees: directories that hold everything a file system can hold, and random changes to them.

An OddTree builds a tree below one directory (oddchange.py changes it, round by round). All randomness comes from the given
random.Random, so a seed repeats a tree. Every modification time that is set is unique within the process: two files
never share size and time by chance, so a mirror that compares by size and time has no excuse. Names are bytes.

Paths that are longer than the kernel takes at once live below names that begin with `deep-` at the tree's root; they
are built and changed through directory descriptors only, and programs that cannot go there may exclude them.
"""

import contextlib
import errno
import os
import random
import socket
import stat
import struct
import time

DEEP_PREFIX = b"deep-"
OWN_PREFIX = b".backapp"

_STEMS = [
    b"plain", b"file.txt", b"node_modules", b"a", b"trailing ", b" leading", b"-dash", b"--delete", b"new\nline",
    b"tab\there", b"\x1b[31mred", b"\xff\xfe\x80", b"\xe2\x82\xac", b"caf\xc3\xa9", b"cafe\xcc\x81", b"*", b"?",
    b"[a-z]", b"back\\slash", b"'quote\"", b"$(touch x)", b"...", b"..x", b"~", b"#hash#", b"%s%n", b"colon:name",
    b"CON", b".hidden", b"\x01\x02\x7f", b"UPPER", b"upper", b";semi", b"&", b"\r\n", b"x" * 120, b".backapp",
]

_FILE_MODES = [0o644, 0o600, 0o755, 0o400, 0o444, 0o666, 0o4755, 0o2755, 0o6711, 0o1644, 0o640, 0o7777]
_ROOT_FILE_MODES = [0o000, 0o200, 0o111]
_DIRECTORY_MODES = [0o755, 0o700, 0o555, 0o500, 0o1777, 0o2775, 0o3770, 0o711]
_ROOT_DIRECTORY_MODES = [0o000, 0o300, 0o444]


class Clock:
    """Unique times in nanoseconds since 1970, from 1906 to 2150."""

    def __init__(self, rng):
        self.rng = rng
        self.used = set()

    def stamp(self):
        rng = self.rng
        while True:
            kind = rng.randrange(10)
            if kind < 4:
                value = time.time_ns() - rng.randrange(10**15)
            elif kind < 6:
                value = rng.randrange(10**18, 16 * 10**17)
            elif kind == 6:
                value = rng.randrange(0, 10**18) // 10**9 * 10**9
            elif kind == 7:
                value = -rng.randrange(1, 2 * 10**18)
            elif kind == 8:
                value = -rng.randrange(1, 2 * 10**9) * 10**9
            else:
                value = 4102444800 * 10**9 + rng.randrange(10**18)
            if self.claim(value):
                return value

    def claim(self, value):
        if value in self.used:
            return False
        self.used.add(value)
        return True


class _State:
    """What a scan found, sorted so that a seed decides alone."""

    def __init__(self):
        self.files, self.directories, self.symlinks, self.specials = [], [], [], []

    def leaves(self):
        return self.files + self.symlinks + self.specials

    def everything(self):
        return self.leaves() + self.directories


def posix_acl(entries, mask, base):
    """The bytes of system.posix_acl_*: `entries` are (tag, perm, id), base is (user, group, other)."""
    rows = [(0x01, base[0], 0xFFFFFFFF)]
    rows += sorted(e for e in entries if e[0] == 0x02)
    rows.append((0x04, base[1], 0xFFFFFFFF))
    rows += sorted(e for e in entries if e[0] == 0x08)
    rows.append((0x10, mask, 0xFFFFFFFF))
    rows.append((0x20, base[2], 0xFFFFFFFF))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


class OddTree:
    """One tree and its changes.

    privileged: make what only root can. stealth: change content while size and time stay (for --checksum only).
    keep_directories: never put something else where a directory was. large: now and then a file of several MiB.
    break_links: a linked name may get an inode of its own, content unchanged.
    long_targets: symlinks with targets of 4,000 bytes, which XFS does not take.
    untouched: prefixes of names at the root that are left alone.
    """

    def __init__(self, root, rng, clock, *, privileged=None, stealth=False, keep_directories=False, large=False,
                 break_links=True, long_targets=True, untouched=()):
        self.root = os.fsencode(root)
        self.rng = rng
        self.clock = clock
        self.privileged = os.geteuid() == 0 if privileged is None else privileged
        self.stealth = stealth
        self.keep_directories = keep_directories
        self.large = large
        self.break_links = break_links
        self.long_targets = long_targets
        self.untouched = (DEEP_PREFIX, OWN_PREFIX, *untouched)
        self.counter = 0
        self.gone = []
        self.log = []

    # --- small helpers -------------------------------------------------------------------------------------------

    def note(self, text, *paths):
        self.log.append(text + " " + " ".join(repr(p[len(self.root) + 1:] if p.startswith(self.root) else p)
                                              for p in paths))

    def scan(self):
        state = _State()
        stack = [self.root]
        while stack:
            directory = stack.pop()
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda e: e.name)
            for entry in found:
                if directory == self.root and entry.name.startswith(self.untouched):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    state.directories.append(entry.path)
                    stack.append(entry.path)
                elif entry.is_symlink():
                    state.symlinks.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    state.files.append(entry.path)
                else:
                    state.specials.append(entry.path)
        return state

    @contextlib.contextmanager
    def opened(self, *paths):
        """Makes paths writable for an unprivileged owner for the time of the block."""
        saved = []
        if not self.privileged:
            for path in paths:
                info = os.lstat(path)
                mode = stat.S_IMODE(info.st_mode)
                wanted = 0o700 if stat.S_ISDIR(info.st_mode) else 0o600
                if mode & wanted != wanted and not stat.S_ISLNK(info.st_mode):
                    os.chmod(path, mode | wanted)
                    saved.append((path, mode, info.st_ino))
        try:
            yield
        finally:
            for path, mode, inode in saved:
                with contextlib.suppress(FileNotFoundError):
                    if os.lstat(path).st_ino == inode:
                        os.chmod(path, mode)

    def name(self, top=False):
        self.counter += 1
        roll = self.rng.randrange(20)
        if roll == 0:
            tail = b"%d" % self.counter
            fill = self.rng.choice([b"L", b"\xc3\xa4", b"\xfe"])
            return (fill * 255)[:255 - len(tail)] + tail
        stem = self.rng.choice(_STEMS)
        if top and stem.startswith(OWN_PREFIX):
            stem = b"own"
        if roll < 8:
            return stem + b"%d" % self.counter
        return b"%d" % self.counter + stem

    def free_path(self, state):
        """A path that does not exist: mostly new, sometimes one that existed before."""
        if self.gone and self.rng.randrange(4) == 0:
            path = self.gone.pop(self.rng.randrange(len(self.gone)))
            parent = os.path.dirname(path)
            if not os.path.lexists(path) and os.path.isdir(parent) and not os.path.islink(parent):
                return path
        return self.fresh_path(state)

    def fresh_path(self, state):
        for _ in range(20):
            parent = self.rng.choice([self.root] + state.directories)
            path = parent + b"/" + self.name(parent == self.root)
            if len(path) < 3500:
                return path
        return self.root + b"/" + self.name(True)

    def touch(self, path):
        stamp = self.clock.stamp()
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)

    def now(self, path):
        """A unique time close to now, as an ordinary write would leave it."""
        value = time.time_ns()
        while not self.clock.claim(value):
            value += 1
        os.utime(path, ns=(value, value), follow_symlinks=False)

    def owner(self, path):
        if self.privileged:
            ids = [0, 1, 1000, 33, 65534, 123456, 3000000000]
            os.chown(path, self.rng.choice(ids), self.rng.choice(ids), follow_symlinks=False)

    def mode(self, path):
        if os.path.islink(path):
            return
        directory = os.path.isdir(path)
        choices = _DIRECTORY_MODES if directory else _FILE_MODES
        if self.privileged:
            choices = choices + (_ROOT_DIRECTORY_MODES if directory else _ROOT_FILE_MODES)
        os.chmod(path, self.rng.choice(choices))

    def content(self):
        rng = self.rng
        if self.large and rng.randrange(6) == 0:
            return rng.randbytes(rng.randrange(2 << 20, 9 << 20))
        size = rng.choice([0, 1, 100, 511, 4095, 4096, 4097, 65535, 65536, 131073, rng.randrange(300000),
                           rng.randrange(5000), rng.randrange(5000)])
        if rng.randrange(5) == 0:
            return b"\0" * size
        return rng.randbytes(size)

    # --- making things -------------------------------------------------------------------------------------------

    def make_file(self, path):
        with open(path, "xb") as out:
            out.write(self.content())

    def make_sparse(self, path):
        rng = self.rng
        size = rng.choice([1 << 20, 1 << 20, 3 << 20, 5 << 20, (16 << 20) + 123])
        if rng.randrange(15) == 0:
            size = 64 << 20
        kind = rng.choice(["start", "middle", "end", "all", "comb"])
        block = rng.randbytes(rng.choice([1, 4096, 10000, 65536]))
        with open(path, "xb") as out:
            if kind in ("middle", "end"):
                out.write(block)
            if kind in ("start", "middle"):
                out.seek(size - len(block))
                out.write(block)
            if kind == "comb":
                for position in range(0, 1 << 20, 1 << 16):
                    out.seek(position)
                    out.write(block[:4096])
            out.truncate(max(size, out.tell()))

    def make_symlink(self, path, state=None):
        rng = self.rng
        target = rng.choice([b"../up", b"/absolute/none", b"dangling", b".", b"/", b"\xff\xfe", b"new\nline",
                             b"t" * 4000, b"d/" * 2000, b"self"])
        if state and rng.randrange(2):
            target = os.path.relpath(rng.choice([self.root] + state.everything()), os.path.dirname(path))[:4000]
        try:
            os.symlink(target if self.long_targets else target[:1000], path)
        except OSError as problem:
            if problem.errno != errno.ENAMETOOLONG:
                raise
            os.symlink(target[:1000], path)

    def make_special(self, path):
        kind = self.rng.randrange(4 if self.privileged else 2)
        if kind == 0:
            os.mkfifo(path)
        elif kind == 1:
            self.make_socket(path)
        else:
            number = os.makedev(self.rng.choice([1, 8, 250, 511]), self.rng.choice([0, 3, 255, 300, 70000]))
            os.mknod(path, (stat.S_IFCHR if kind == 2 else stat.S_IFBLK) | 0o640, number)

    @staticmethod
    def make_socket(path):
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX) as server:
                short = b"/proc/self/fd/%d/" % directory + os.path.basename(path)
                if len(short) < 100:
                    server.bind(short)
                    return
            os.mkfifo(path)
        finally:
            os.close(directory)

    def make_any(self, path, state=None):
        roll = self.rng.randrange(12)
        if roll < 6:
            self.make_file(path)
        elif roll < 8:
            self.make_sparse(path)
        elif roll < 10:
            self.make_symlink(path, state)
        else:
            self.make_special(path)

    def dress(self, path):
        """Random metadata; times last, because the rest changes none of them."""
        rng = self.rng
        if rng.randrange(3) == 0:
            self.owner(path)
        if rng.randrange(2) == 0:
            self.mode(path)
        if rng.randrange(3) == 0:
            self.set_xattrs(path)
        if rng.randrange(4) == 0:
            self.set_acl(path)
        if rng.randrange(3) == 0:
            self.now(path)
        else:
            self.touch(path)

    def set_xattrs(self, path):
        rng = self.rng
        info = os.lstat(path)
        regular, directory = stat.S_ISREG(info.st_mode), stat.S_ISDIR(info.st_mode)
        pairs = []
        if regular or directory:
            for _ in range(rng.choice([1, 1, 2, 8])):
                name = rng.choice([b"user.a", b"user.b", b"user.binary", b"user.empty", b"user.\xc3\xa9",
                                   b"user.n%d" % rng.randrange(20)])
                value = b"" if name == b"user.empty" else rng.randbytes(rng.choice([1, 16, 60, 200]))
                pairs.append((name, value))
        if self.privileged and rng.randrange(3) == 0 and (regular or directory or stat.S_ISLNK(info.st_mode)):
            pairs.append((b"trusted.t%d" % rng.randrange(3), rng.randbytes(9)))
        if self.privileged and regular and rng.randrange(3) == 0:
            pairs.append((b"security.capability", struct.pack("<5I", 0x02000001, 1 << rng.randrange(20), 0, 0, 0)))
        with self.opened(path):
            for name, value in pairs:
                self.try_xattr(path, name, value)

    @staticmethod
    def try_xattr(path, name, value):
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EOPNOTSUPP, errno.EPERM, errno.EDQUOT, errno.ERANGE):
                raise

    def set_acl(self, path):
        rng = self.rng
        info = os.lstat(path)
        if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
            return
        users = rng.sample([1, 33, 1000, 4242, 3000000000], rng.randrange(1, 4))
        entries = [(0x02, rng.randrange(8), user) for user in users]
        entries += [(0x08, rng.randrange(8), group) for group in rng.sample([1, 33, 1000, 4242], rng.randrange(3))]
        own = rng.randrange(8) if self.privileged else 6
        base = (7 if stat.S_ISDIR(info.st_mode) else own, rng.randrange(8), rng.randrange(8))
        value = posix_acl(entries, rng.randrange(8), base)
        kinds = [b"access", b"default"] if stat.S_ISDIR(info.st_mode) else [b"access"]
        kinds = rng.sample(kinds, rng.randrange(1, len(kinds) + 1))
        for kind in kinds:
            self.try_xattr(path, b"system.posix_acl_" + kind, value)

    def make_subtree(self, path, size):
        os.mkdir(path)
        made = [path]
        for _ in range(size):
            parent = self.rng.choice(made)
            child = parent + b"/" + self.name()
            if len(child) > 3500:
                continue
            if self.rng.randrange(4) == 0:
                os.mkdir(child)
                made.append(child)
            else:
                self.make_any(child)
                self.dress(child)
        for directory in reversed(made):
            self.dress(directory)

    # --- building ------------------------------------------------------------------------------------------------

    def build(self, entries=60, many=120, deep=True):
        os.makedirs(self.root, exist_ok=True)
        for _ in range(4):
            self.make_subtree(self.root + b"/" + self.name(True), entries // 4)
        crowd = self.root + b"/" + self.name(True)
        os.mkdir(crowd)
        for number in range(many):
            with open(crowd + b"/%05d" % number, "xb") as out:
                out.write(b"%d" % number * self.rng.randrange(40))
            self.touch(crowd + b"/%05d" % number)
        os.mkdir(self.root + b"/" + self.name(True))
        for _ in range(10):
            self.link(self.scan())
        if deep:
            self.make_deep()
        self.dress(self.root)
        self.log.clear()

    def make_deep(self):
        """A chain of directories whose path is longer than 4,096 bytes, with something at its end."""
        names = [DEEP_PREFIX + b"%d" % self.rng.randrange(100)] + [b"%02d" % n + b"e" * 228 for n in range(19)]
        current = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names:
                os.mkdir(name, dir_fd=current)
                following = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
                os.close(current)
                current = following
            self.deep_file(current, b"bottom", self.content())
            os.link(b"bottom", b"bottom-link", src_dir_fd=current, dst_dir_fd=current)
            os.symlink(b"bottom", b"symlink", dir_fd=current)
            os.mkdir(b"empty", dir_fd=current)
            self.try_xattr(b"/proc/self/fd/%d/bottom" % current, b"user.deep", b"value")
        finally:
            os.close(current)

    def deep_file(self, directory, name, content):
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640, dir_fd=directory)
        try:
            os.write(handle, content)
            stamp = self.clock.stamp()
            os.utime(handle, ns=(stamp, stamp))
        finally:
            os.close(handle)


def seeded(text):
    """A random.Random for a printable seed."""
    return random.Random(text)
