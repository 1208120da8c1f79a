"""Where a benchmark works: a scratch directory, freshly made file systems in it, and the source tree."""

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time

GIB = 1 << 30
KEEP_FREE = 2 * GIB  # of the disk that is measured on
TREE_FILES_MIN = 100_000


class BenchError(Exception):
    """A benchmark that cannot go on; the text says why and what to do."""


def call(*argv):
    """Runs a helper program and returns what it printed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(argv)} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


@contextlib.contextmanager
def undisturbed():
    """Holds signals back, so that nothing is made or thrown away by half."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def unmount(directory):
    """Waits some seconds for a program that was interrupted there to end."""
    for _ in range(100):
        try:
            call("umount", directory)
            return
        except BenchError:
            time.sleep(0.1)
    call("umount", directory)


class Place:
    """An empty directory to write to: on a fresh file system, or (kind None) in the scratch directory."""

    def __init__(self, scratch, name, need, inodes=0, kind="ext4"):
        self.path = os.path.join(scratch, name)
        self.image = self.loop = None
        self.mounted = False
        os.mkdir(self.path)
        if kind:
            try:
                with undisturbed():
                    self._make_image(int(need * 1.15) + GIB // 2, inodes, kind)
            except BaseException:
                self.close()
                raise

    def _make_image(self, size, inodes, kind):
        check_space(os.path.dirname(self.path), size)
        self.image = self.path + ".img"
        with open(self.image, "xb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        # Nothing is left to be initialised in the background, where it would disturb what is timed.
        options = {
            "ext4": ["-q", "-F", "-E", "nodiscard,lazy_itable_init=1", "-N", str(max(inodes, size // 16384))],
            "xfs": ["-q", "-K", "-m", "reflink=1"],
            "btrfs": ["-q", "-K"],
        }
        call("mkfs." + kind, *options[kind], self.image)
        # Direct: what is written is cached once, as with a disk of its own.
        self.loop = call("losetup", "--find", "--show", "--direct-io=on", self.image)
        call("mount", "-o", "noatime" + (",noinit_itable" if kind == "ext4" else ""), self.loop, self.path)
        self.mounted = True
        # Some file systems begin with a directory of their own.
        self.path = os.path.join(self.path, "data")
        os.mkdir(self.path)

    def close(self):
        """Throws the file system away, whatever is on it. May be called twice."""
        mount = self.path if not self.mounted else os.path.dirname(self.path)
        if self.mounted:
            unmount(mount)
            self.mounted = False
        if self.loop:
            call("losetup", "--detach", self.loop)
            self.loop = None
        if self.image and os.path.exists(self.image):
            os.unlink(self.image)
        self.image = None


class Scratch:
    """A fresh directory below $TMPDIR or /tmp and the places in it, all removed at the end."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="backapp-bench-")
        self.places = []
        self.no_images = None  # why file systems cannot be made here
        if os.geteuid() != 0:
            self.no_images = "not root"
            return
        try:
            Place(self.path, "try", 0).close()
        except (BenchError, OSError) as why:
            self.no_images = str(why)

    def place(self, name, need, inodes=0, kind="ext4"):
        if self.no_images:
            check_space(self.path, int(need))
        place = Place(self.path, name, need, inodes, None if self.no_images else kind)
        self.places.append(place)
        return place

    def drop(self, place):
        """Where there is an image it is thrown away at once; other trees stay until the end, because files that are
        deleted in masses slow down those that are made next."""
        if place.image:
            with undisturbed():
                place.close()
            self.places.remove(place)

    def close(self):
        for place in self.places[::-1]:
            try:
                with undisturbed():
                    place.close()
            except (BenchError, OSError) as why:
                # What is still mounted must not be removed file by file.
                print(f"cannot clean up {self.path}: {why}", flush=True)
                return
        shutil.rmtree(self.path)


def check_space(directory, need):
    free = shutil.disk_usage(directory).free
    if free < need + KEEP_FREE:
        raise BenchError(
            f"{directory} has {free / GIB:.1f} GiB free and {(need + KEEP_FREE) / GIB:.1f} GiB are needed: "
            "set TMPDIR to a larger disk, or measure a smaller tree with --source"
        )


class Tree:
    """A source tree: what it holds, and every hundredth of its plain files."""

    def __init__(self, path):
        self.path = os.path.realpath(path)
        self.files = self.entries = self.bytes = self.used = 0
        self.plain = []
        self._scan()
        self.plain.sort()

    def _scan(self):
        device = os.lstat(self.path).st_dev
        pending, seen = [""], set()
        while pending:
            directory = pending.pop()
            with os.scandir(os.path.join(self.path, directory)) as found:
                for entry in found:
                    name = os.path.join(directory, entry.name)
                    status = entry.stat(follow_symlinks=False)
                    self.entries += 1
                    if stat.S_ISDIR(status.st_mode):
                        if status.st_dev != device:
                            raise BenchError(f"{self.path}/{name} is a mount point: measure a tree without mounts")
                        pending.append(name)
                        continue
                    self.files += 1
                    if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) in seen:
                        continue
                    self.bytes += status.st_size
                    self.used += status.st_blocks * 512 + 4096
                    if status.st_nlink > 1:
                        seen.add((status.st_dev, status.st_ino))
                    else:
                        self.plain.append(name)

    def hundredth(self):
        return self.plain[::100]

    def read(self):
        """Reads all content once, so that no program has to wait for the source's disk."""
        for name in self.plain:
            try:
                with open(os.path.join(self.path, name), "rb", buffering=0) as file:
                    while file.read(1 << 20):
                        pass
            except OSError:
                pass  # the programs that are measured will say so


def choose_tree():
    """The smallest of /usr and its parts that holds enough files; /usr if none does."""
    best = Tree("/usr")
    for entry in sorted(os.scandir("/usr"), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            tree = Tree(entry.path)
            if tree.files >= TREE_FILES_MIN and tree.bytes < best.bytes:
                best = tree
    return best


def make_files(directory, count, size):
    """`count` small files, a thousand a folder."""
    content = os.urandom(size)
    for number in range(count):
        if number % 1000 == 0:
            folder = os.path.join(directory, f"{number // 1000:05d}")
            os.mkdir(folder)
        with open(os.path.join(folder, f"{number:07d}"), "wb", buffering=0) as file:
            file.write(content)


def make_big_file(path, size):
    with open(path, "xb", buffering=0) as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
