"""Random changes to odd trees: what people and programs do to files between two backups, and what they rarely do.

ChangingTree adds to OddTree one method for each kind of change and `mutate`, which does a number of them at random.
Each returns False if it found nothing to work on.
"""

import contextlib
import ctypes
import os
import stat

from oddtree import DEEP_PREFIX, OddTree

_libc = ctypes.CDLL(None, use_errno=True)
_FALLOC_KEEP_SIZE = 1
_FALLOC_PUNCH_HOLE = 2


class ChangingTree(OddTree):
    """An OddTree that can be changed. Paths below `deep-` at the root are changed only by change_deep."""

    def change_deep(self, _state):
        top = [n for n in sorted(os.listdir(self.root)) if n.startswith(DEEP_PREFIX)]
        if not top:
            return False
        current = os.open(self.root + b"/" + top[0], os.O_RDONLY | os.O_DIRECTORY)
        try:
            while True:
                names = sorted(os.fsencode(name) for name in os.listdir(current))
                inner = [n for n in names if n[2:3] == b"e" and len(n) > 200]
                if not inner:
                    break
                following = os.open(inner[0], os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
                os.close(current)
                current = following
            action = self.rng.randrange(3)
            if action == 0:
                self.deep_file(current, b"bottom", self.content())
            elif action == 1:
                self.deep_file(current, self.name(), self.content())
            else:
                spare = [n for n in names if n[:1].isdigit()]
                if not spare:
                    return False
                os.unlink(self.rng.choice(spare), dir_fd=current)
            self.log.append("deep %d" % action)
            return True
        finally:
            os.close(current)

    # --- changes -------------------------------------------------------------------------------------------------

    def mutate(self, count):
        """Does `count` random changes; returns what was done, for a failure's report."""
        self.log = []
        breaking = 3 if self.break_links else 0
        operations = [
            (self.create, 5), (self.create_subtree, 2), (self.delete, 4), (self.delete_subtree, 1),
            (self.rewrite, 3), (self.same_size, 4), (self.append, 3), (self.truncate, 3), (self.punch, 2),
            (self.change_mode, 4), (self.change_owner, 3), (self.change_time, 4), (self.nudge_time, 2),
            (self.add_xattr, 3), (self.remove_xattr, 3), (self.add_acl, 3), (self.remove_acl, 2),
            (self.rename, 4), (self.rename_over, 2), (self.exchange, 2), (self.invert, 1), (self.change_type, 4),
            (self.link, 4), (self.link_over, 2), (self.unlink_group, breaking), (self.move_to_link, 1),
            (self.change_root, 1), (self.change_deep, 1), (self.retarget, 2),
        ]
        if self.stealth:
            operations.append((self.stealthy, 6))
        bag = [operation for operation, weight in operations for _ in range(weight)]
        done, tries = 0, 0
        while done < count and tries < count * 10:
            tries += 1
            if self.rng.choice(bag)(self.scan()) is not False:
                done += 1
        return self.log

    def pick(self, paths):
        return self.rng.choice(paths) if paths else None

    def create(self, state):
        path = self.free_path(state)
        with self.opened(os.path.dirname(path)):
            if self.rng.randrange(6) == 0:
                os.mkdir(path)
            else:
                self.make_any(path, state)
            self.dress(path)
        self.note("create", path)

    def create_subtree(self, state):
        path = self.free_path(state)
        with self.opened(os.path.dirname(path)):
            self.make_subtree(path, self.rng.randrange(1, 8))
        self.note("create subtree", path)

    def delete(self, state):
        path = self.pick(state.leaves())
        if path is None:
            return False
        with self.opened(os.path.dirname(path)):
            os.unlink(path)
        self.gone.append(path)
        self.note("delete", path)
        return True

    def remove_tree(self, path):
        with self.opened(path):
            with os.scandir(path) as entries:
                for entry in list(entries):
                    if entry.is_dir(follow_symlinks=False):
                        self.remove_tree(entry.path)
                    else:
                        os.unlink(entry.path)
        with self.opened(os.path.dirname(path)):
            os.rmdir(path)

    def delete_subtree(self, state):
        path = self.pick([d for d in state.directories if d.count(b"/") > self.root.count(b"/") + 1])
        if path is None:
            return False
        self.remove_tree(path)
        if not self.keep_directories:
            self.gone.append(path)
        self.note("delete subtree", path)
        return True

    @contextlib.contextmanager
    def writing(self, path):
        with self.opened(path):
            with open(path, "r+b") as out:
                yield out

    def rewrite(self, state):
        path = self.pick(state.files)
        if path is None:
            return False
        with self.writing(path) as out:
            out.truncate(0)
            out.write(self.content())
        self.now(path)
        self.note("rewrite", path)
        return True

    def scribble(self, path):
        size = os.lstat(path).st_size
        with self.writing(path) as out:
            for _ in range(self.rng.randrange(1, 4)):
                position = self.rng.randrange(size)
                length = min(self.rng.choice([1, 100, 4096]), size - position)
                out.seek(position)
                old = out.read(length)
                out.seek(position)
                out.write(bytes(byte ^ 0x5A for byte in old))
        return size

    def same_size(self, state):
        path = self.pick([f for f in state.files if os.lstat(f).st_size > 0])
        if path is None:
            return False
        before = os.lstat(path).st_mtime_ns
        self.scribble(path)
        if self.rng.randrange(3) == 0 and self.clock.claim(before + 1):
            os.utime(path, ns=(before + 1, before + 1))
        else:
            self.now(path)
        self.note("same size", path)
        return True

    def stealthy(self, state):
        path = self.pick([f for f in state.files if os.lstat(f).st_size > 0])
        if path is None:
            return False
        before = os.lstat(path).st_mtime_ns
        self.scribble(path)
        os.utime(path, ns=(before, before))
        self.note("same size and time", path)
        return True

    def append(self, state):
        path = self.pick(state.files)
        if path is None:
            return False
        with self.writing(path) as out:
            out.seek(0, os.SEEK_END)
            out.write(self.rng.randbytes(self.rng.choice([1, 4096, 70000])))
        self.now(path)
        self.note("append", path)
        return True

    def truncate(self, state):
        path = self.pick(state.files)
        if path is None:
            return False
        size = os.lstat(path).st_size
        wanted = self.rng.choice([0, size // 2, size + 1000, size + (3 << 20)])
        if wanted > 80 << 20:
            return False
        with self.writing(path) as out:
            out.truncate(wanted)
        self.now(path)
        self.note("truncate to %d" % wanted, path)
        return True

    def punch(self, state):
        """Punches a hole where there is data, so that content and layout change together."""
        path = self.pick([f for f in state.files if os.lstat(f).st_size >= 65536])
        if path is None:
            return False
        with self.writing(path) as out:
            start = self.rng.randrange(0, os.lstat(path).st_size - 16384) // 4096 * 4096
            length = self.rng.choice([4096, 16384, 1 << 20])
            out.seek(start)
            if not any(out.read(4096)):
                return False
            result = _libc.fallocate(out.fileno(), _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE,
                                     ctypes.c_longlong(start), ctypes.c_longlong(length))
            if result != 0:
                return False
        self.now(path)
        self.note("punch %d+%d" % (start, length), path)
        return True

    def change_mode(self, state):
        path = self.pick(state.files + state.specials + state.directories)
        if path is None:
            return False
        self.mode(path)
        self.note("mode %o" % os.lstat(path).st_mode, path)
        return True

    def change_owner(self, state):
        path = self.pick(state.everything())
        if path is None or not self.privileged:
            return False
        self.owner(path)
        self.note("owner", path)
        return True

    def change_time(self, state):
        path = self.pick(state.everything())
        if path is None:
            return False
        self.touch(path)
        self.note("time", path)
        return True

    def nudge_time(self, state):
        path = self.pick(state.everything())
        if path is None:
            return False
        value = os.lstat(path).st_mtime_ns + self.rng.choice([-1, 1])
        if not self.clock.claim(value):
            return False
        os.utime(path, ns=(value, value), follow_symlinks=False)
        self.note("time by 1 ns", path)
        return True

    def add_xattr(self, state):
        path = self.pick(state.files + state.directories + state.symlinks)
        if path is None:
            return False
        self.set_xattrs(path)
        self.note("xattr", path)
        return True

    def remove_xattr(self, state):
        candidates = []
        for path in state.files + state.directories + state.symlinks:
            names = [n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("system.")]
            if names:
                candidates.append((path, sorted(names)))
        if not candidates:
            return False
        path, names = self.rng.choice(candidates)
        with self.opened(path):
            for name in self.rng.sample(names, self.rng.randrange(1, len(names) + 1)):
                os.removexattr(path, name, follow_symlinks=False)
        self.note("remove xattr", path)
        return True

    def add_acl(self, state):
        path = self.pick(state.files + state.directories)
        if path is None:
            return False
        self.set_acl(path)
        self.note("acl", path)
        return True

    def remove_acl(self, state):
        candidates = []
        for path in state.files + state.directories:
            names = [n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("system.posix_acl_")]
            candidates += [(path, name) for name in sorted(names)]
        if not candidates:
            return False
        path, name = self.rng.choice(candidates)
        os.removexattr(path, name)
        self.note("remove " + name, path)
        return True

    def retarget(self, state):
        path = self.pick(state.symlinks)
        if path is None:
            return False
        with self.opened(os.path.dirname(path)):
            os.unlink(path)
            self.make_symlink(path, state)
            self.touch(path)
        self.note("retarget", path)
        return True

    def move(self, source, target):
        """rename(2), also of a directory that its owner may not write to (its `..` entry changes)."""
        with self.opened(os.path.dirname(source), os.path.dirname(target)):
            mode = os.lstat(source).st_mode
            if stat.S_ISDIR(mode) and not self.privileged:
                os.chmod(source, stat.S_IMODE(mode) | 0o700)
            os.rename(source, target)
            if stat.S_ISDIR(mode) and not self.privileged:
                os.chmod(target, stat.S_IMODE(mode))

    def rename(self, state):
        source = self.pick(state.everything())
        target = self.fresh_path(state) if self.keep_directories else self.free_path(state)
        if source is None or (target + b"/").startswith(source + b"/"):
            return False
        if len(max(state.everything(), key=len)) + len(target) > 3900:
            return False
        self.move(source, target)
        if not (self.keep_directories and source in state.directories):
            self.gone.append(source)
        self.note("rename", source, target)
        return True

    def rename_over(self, state):
        leaves = state.leaves()
        if len(leaves) < 2:
            return False
        source, target = self.rng.sample(leaves, 2)
        if os.lstat(source).st_ino == os.lstat(target).st_ino:
            return False
        self.move(source, target)
        self.gone.append(source)
        self.note("rename over", source, target)
        return True

    def exchange(self, state):
        """Two or three names take each other's place: files, directories, or both."""
        candidates = state.leaves() if self.keep_directories else state.everything()
        if len(candidates) < 3:
            return False
        paths = self.rng.sample(candidates, self.rng.choice([2, 3]))
        if any((a + b"/").startswith(b + b"/") for a in paths for b in paths if a is not b):
            return False
        if len(max(state.everything(), key=len)) + len(max(paths, key=len)) > 3900:
            return False
        spare = self.root + b"/" + self.name(True)
        self.move(paths[0], spare)
        for target, source in zip(paths, paths[1:]):
            self.move(source, target)
        self.move(spare, paths[-1])
        self.note("exchange", *paths)
        return True

    def invert(self, state):
        """a/b becomes a with the old a inside: the child is now the parent."""
        inner = [d for d in state.directories if os.path.dirname(d) in state.directories]
        child = self.pick(inner)
        if child is None or self.keep_directories:
            return False
        parent = os.path.dirname(child)
        spare = self.root + b"/" + self.name(True)
        self.move(child, spare)
        inside = spare + b"/" + os.path.basename(child)
        if os.path.lexists(inside):
            self.move(spare, child)
            return False
        self.move(parent, inside)
        self.move(spare, parent)
        self.note("invert", child)
        return True

    def change_type(self, state):
        candidates = state.leaves() if self.keep_directories else state.everything()
        path = self.pick(candidates)
        if path is None:
            return False
        was_directory = path in state.directories
        if was_directory and len([p for p in state.everything() if p.startswith(path + b"/")]) > 30:
            return False
        if was_directory:
            self.remove_tree(path)
        else:
            with self.opened(os.path.dirname(path)):
                os.unlink(path)
        with self.opened(os.path.dirname(path)):
            if not was_directory and self.rng.randrange(3) == 0:
                self.make_subtree(path, self.rng.randrange(4))
            else:
                self.make_any(path, state)
                self.dress(path)
        self.note("change type", path)
        return True

    def link(self, state):
        pool = state.files if self.rng.randrange(5) else state.leaves()
        source = self.pick(pool)
        if source is None or os.lstat(source).st_nlink > 20:
            return False
        target = self.free_path(state)
        with self.opened(os.path.dirname(target), source):
            os.link(source, target, follow_symlinks=False)
        self.note("link", source, target)
        return True

    def link_over(self, state):
        """Puts a link where another leaf was: a name moves from one group to another."""
        leaves = state.leaves()
        source = self.pick(state.files)
        target = self.pick(leaves)
        if source is None or os.lstat(source).st_ino == os.lstat(target).st_ino:
            return False
        with self.opened(os.path.dirname(target), source):
            os.unlink(target)
            os.link(source, target)
        self.note("link over", source, target)
        return True

    def unlink_group(self, state):
        """Breaks a hard link: same content, own inode; time and mode kept or not."""
        path = self.pick([f for f in state.files if os.lstat(f).st_nlink > 1])
        if path is None:
            return False
        info = os.lstat(path)
        with self.opened(path, os.path.dirname(path)):
            with open(path, "rb") as source:
                data = source.read()
            os.unlink(path)
            with open(path, "xb") as out:
                out.write(data)
            if self.rng.randrange(2):
                os.chmod(path, stat.S_IMODE(info.st_mode))
                if self.privileged:
                    os.chown(path, info.st_uid, info.st_gid)
                os.utime(path, ns=(info.st_mtime_ns, info.st_mtime_ns))
            else:
                self.touch(path)
        self.note("break link", path)
        return True

    def move_to_link(self, state):
        """Renames a linked name to another directory and changes the content through the other name."""
        path = self.pick([f for f in state.files if os.lstat(f).st_nlink > 1])
        if path is None:
            return False
        target = self.fresh_path(state)
        self.move(path, target)
        with self.writing(target) as out:
            out.write(self.rng.randbytes(33))
        self.now(target)
        self.note("move linked", path, target)
        return True

    def change_root(self, _state):
        self.dress(self.root)
        if not self.privileged:
            os.chmod(self.root, 0o755)
        self.note("root's metadata")
        return True
