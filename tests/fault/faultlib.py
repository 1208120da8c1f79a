"""What the fault tests share: a pair of trees in which everything changes, exact comparison of trees, running the
program under test alone or under the killer, and the reporting of cases."""

import hashlib
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import time

LONG = os.environ.get("BACKAPP_TEST_LONG") == "1"
KILLED = 200  # the killer's exit code when it killed
BROKEN = 201  # the killer itself failed
NOBODY = 65534
RUN_TIMEOUT = 120
FRESH_NS = 1_700_000_000 * 10**9  # what is younger was made by this test just now
AM_ROOT = os.geteuid() == 0


# ---- reporting ----


class Report:
    """Prints a line for each case and gives the exit code: 0, 1, or 77 if all were skipped."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def case(self, name, problems):
        """problems: list of texts; empty if the case passed."""
        if problems:
            self.failed += 1
            first = problems[0].replace("\n", "\n    ")
            print(f"not ok {name}: {first}", flush=True)
            for problem in problems[1:]:
                print("    " + problem.replace("\n", "\n    "), flush=True)
        else:
            self.passed += 1
            print(f"ok {name}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"skip {name}: {why}", flush=True)

    def code(self):
        if self.failed:
            return 1
        return 0 if self.passed else 77


def need_program():
    """Paths of the program under test and of the killer; ends with 77 if there are none."""
    backapp, killer = os.environ.get("BACKAPP", ""), os.environ.get("KILLER", "")
    for name, path in (("BACKAPP", backapp), ("KILLER", killer)):
        if not os.access(path, os.X_OK):
            print(f"skip all: {name} does not name a program: {path!r}")
            sys.exit(77)
    probe = subprocess.run([killer, "--", "true"], capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    if probe.returncode != 0:
        print(f"skip all: this system does not allow tracing: {probe.stderr.decode(errors='replace').strip()}")
        sys.exit(77)
    return backapp, killer


# ---- trees ----


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()[:16]


def entry_of(path, st):
    """Everything that counts about one entry but its hard links."""
    kind = stat.S_IFMT(st.st_mode)
    content = ""
    if stat.S_ISREG(st.st_mode):
        content = f"{st.st_size}:{digest(path)}"
    elif stat.S_ISLNK(st.st_mode):
        content = os.readlink(path)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        content = st.st_rdev
    try:
        # XFS shows its ACLs a second time as trusted.SGI_ACL_*.
        names = [name for name in sorted(os.listxattr(path, follow_symlinks=False)) if "SGI_ACL" not in name]
        xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    except OSError:
        xattrs = ()
    return {
        "type": kind,
        "content": content,
        "mode": stat.S_IMODE(st.st_mode),
        "owner": (st.st_uid, st.st_gid),
        "mtime": st.st_mtime_ns,
        "xattrs": xattrs,
    }


def capture(top, root_mtime=True):
    """The whole state of a tree by relative name (bytes), without /.backapp*; b"." is the root."""
    top = os.fsencode(top)
    if not os.path.isdir(top):
        return {}
    entries, inodes = {}, {}
    todo = [b""]
    while todo:
        folder = todo.pop()
        path = os.path.join(top, folder) if folder else top
        entries[folder or b"."] = entry_of(path, os.lstat(path))
        for item in os.scandir(path):
            if not folder and item.name.startswith(b".backapp"):
                continue
            name = os.path.join(folder, item.name)
            st = os.lstat(item.path)
            if stat.S_ISDIR(st.st_mode):
                todo.append(name)
                continue
            entries[name] = entry_of(item.path, st)
            inodes.setdefault(st.st_ino, []).append(name)
    for names in inodes.values():
        for name in names:
            entries[name]["links"] = sorted(names)
    if not root_mtime:
        entries[b"."]["mtime"] = None
    return entries


def differences(expected, actual):
    """Texts, one for each entry that differs."""
    out = []
    for name in sorted(set(expected) | set(actual)):
        if name not in actual:
            out.append(f"{name!r} is missing")
        elif name not in expected:
            out.append(f"{name!r} is too much")
        elif expected[name] != actual[name]:
            was, now = expected[name], actual[name]
            what = [f"{key} {was.get(key)!r} became {now.get(key)!r}" for key in was if was.get(key) != now.get(key)]
            out.append(f"{name!r}: " + "; ".join(what))
    return out


def write(path, data, mode=None, mtime_ns=None):
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    if mode is not None:
        os.chmod(path, mode)
    if mtime_ns is not None:
        os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


def pattern(size, seed):
    """Deterministic bytes that no block of which equals another."""
    block = b"".join(hashlib.sha512(f"{seed}/{i}".encode()).digest() for i in range(min(size, 65536) // 64 + 1))
    out = bytearray((block * (size // len(block) + 1))[:size])
    for offset in range(0, size - 16, 4096):
        out[offset : offset + 8] = offset.to_bytes(8, "big")
    return bytes(out)


def set_xattr(path, name, value):
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
    except OSError:
        pass  # a file system without them: the test then does without


def set_acl(path, *arguments):
    """False where there are no ACLs."""
    if not shutil.which("setfacl"):
        return False
    command = ["setfacl", *arguments, path]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30).returncode == 0


def settle_times(top, base_ns):
    """Gives each directory, and each file that has none yet, a time of its own with nanoseconds: a lost one is seen."""
    number = 0
    for folder, _, files in sorted(os.walk(os.fsencode(top)), reverse=True):
        names = [os.path.join(folder, file) for file in sorted(files)]
        fresh = [name for name in names if os.lstat(name).st_mtime_ns > FRESH_NS]
        links = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        fresh += [name for name in links if os.path.islink(name) and os.lstat(name).st_mtime_ns > FRESH_NS]
        for name in [*fresh, folder]:
            number += 1
            stamp = base_ns + number * 1_000_000_007
            os.utime(name, ns=(stamp, stamp), follow_symlinks=False)


def build_old(top, large, special=AM_ROOT, acls=True):
    """The first state. large: size of the file whose blocks will change; special: with devices and other owners;
    acls: with access control lists."""
    top = pathlib.Path(top)
    top.mkdir(parents=True, exist_ok=True)
    stamp = 1_500_000_000_123_456_789
    for number, name in enumerate(["same.txt", "modify.txt", "delete.txt", "file-to-folder", "swap1", "swap2", "meta"]):
        write(top / name, f"old content of {name}\n" * (number + 1), 0o644, stamp + number)
    write(os.fsencode(top) + b"/odd-\xff\xfe\n name", "bytes of any kind", 0o600, -1_000_000_001)
    write(top / "touched", "only the time changes", 0o640, stamp)
    write(top / "large.bin", pattern(large, "large"), 0o644, stamp)
    (top / "folder-to-file/sub").mkdir(parents=True)
    write(top / "folder-to-file/sub/x", "x")
    for name in ("link-change", "link-to-file", "link-same"):
        os.symlink(f"target of {name}", top / name)
        os.utime(top / name, ns=(stamp, stamp), follow_symlinks=False)
    (top / "links").mkdir()
    write(top / "links/h1", "one inode, three names", 0o644, stamp)
    os.link(top / "links/h1", top / "links/h2")
    os.link(top / "links/h1", top / "h3")
    write(top / "links/joined1", "will be one inode", 0o644, stamp)
    write(top / "links/joined2", "will be one inode", 0o644, stamp)
    (top / "locked").mkdir()
    write(top / "locked/modify", "old", 0o444, stamp)
    write(top / "locked/delete", "old", 0o444, stamp)
    (top / "locked/gone").mkdir()
    write(top / "locked/gone/file", "in a folder that nobody may write", 0o400)
    (top / "modes").mkdir(mode=0o755)
    write(top / "modes/kept", "kept", 0o644, stamp)
    (top / "rename-me/sub").mkdir(parents=True)
    write(top / "rename-me/sub/f", pattern(5000, "rename"), 0o644, stamp)
    (top / "empty").mkdir()
    write(top / "xattr-acl", "the access control list goes", 0o644, stamp)
    (top / "inherit").mkdir()
    write(top / "inherit/before", "before")
    if acls:
        set_acl(top / "inherit", "-d", "-m", "u:12345:rwx")
        set_acl(top / "xattr-acl", "-m", "u:12345:r")
    write(top / "xattr", "attributes change", 0o644, stamp)
    set_xattr(top / "xattr", "user.keep", b"kept")
    set_xattr(top / "xattr", "user.change", b"old")
    os.mkfifo(top / "fifo", 0o600)
    os.mkfifo(top / "fifo-gone", 0o600)
    if special:
        os.mknod(top / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.chown(top / "meta", 1000, 1000)
    settle_times(top, stamp)
    os.chmod(top / "locked/gone", 0o555)
    os.chmod(top / "locked", 0o555)


def change_large(path):
    """Rewrites parts of the file in three places and lets it grow."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for place in (0, size // 2, size - 70_000):
            file.seek(max(place, 0))
            file.write(pattern(3000, f"new {place}"))
        file.seek(0, os.SEEK_END)
        file.write(b"grown" * 100)


def change(top, special=AM_ROOT, delete=True):
    """Turns the first state into the second: each kind of change at least once. delete: the run may delete."""
    top = pathlib.Path(top)
    stamp = 1_600_000_000_987_654_321
    os.chmod(top / "locked", 0o755)
    os.chmod(top / "locked/gone", 0o755)
    write(top / "modify.txt", "new content, longer than before\n" * 3, 0o640, stamp)
    (top / "delete.txt").unlink()
    (top / "file-to-folder").unlink()
    (top / "file-to-folder/deep").mkdir(parents=True)
    write(top / "file-to-folder/deep/x", "now below a folder", 0o600, stamp)
    if delete:
        # Without deletion a folder that is not empty stays, for rsync and for us.
        shutil.rmtree(top / "folder-to-file")
        write(top / "folder-to-file", "now a file", 0o644, stamp)
    (top / "swap1").rename(top / "swap")
    (top / "swap2").rename(top / "swap1")
    (top / "swap").rename(top / "swap2")
    os.chmod(top / "meta", 0o4755)
    os.utime(top / "touched", ns=(stamp, stamp))
    change_large(top / "large.bin")
    (top / "link-change").unlink()
    os.symlink("another target", top / "link-change")
    (top / "link-to-file").unlink()
    write(top / "link-to-file", "was a link", 0o644, stamp)
    (top / "links/h2").unlink()
    write(top / "links/h2", "an inode of its own now", 0o644, stamp)
    os.link(top / "links/h1", top / "links/h4")
    (top / "links/joined2").unlink()
    os.link(top / "links/joined1", top / "links/joined2")
    os.chmod(top / "locked/modify", 0o644)
    write(top / "locked/modify", "newer", 0o444, stamp)
    (top / "locked/delete").unlink()
    write(top / "locked/created", "created", 0o400, stamp)
    shutil.rmtree(top / "locked/gone")
    os.chmod(top / "modes", 0o2710)
    (top / "rename-me").rename(top / "renamed")
    (top / "empty").rmdir()
    (top / "fifo-gone").unlink()
    write(top / "inherit/after", "after", 0o644, stamp)
    set_xattr(top / "xattr", "user.change", b"new")
    set_acl(top / "xattr-acl", "-b")
    (top / "new/sub/empty").mkdir(parents=True)
    for number in range(3):
        write(top / f"new/sub/f{number}", pattern(1000 * number, number), 0o644, stamp + number)
    os.link(top / "new/sub/f1", top / "new/f1-again")
    os.symlink("sub/f2", top / "new/link")
    if special:
        (top / "device").unlink()
        os.mknod(top / "device", stat.S_IFCHR | 0o640, os.makedev(1, 5))
        os.chown(top / "same.txt", 1001, 1002)
    settle_times(top, stamp)
    os.chmod(top / "locked", 0o555)
    os.utime(top / "locked", ns=(stamp, stamp))


# ---- small file systems ----


class Mount:
    """A file system in a file (or in memory), mounted while the object is open."""

    def __init__(self, image, point, kind="ext4", size=None):
        """image: made with `size` bytes if it is not there; not used for tmpfs."""
        self.image, self.point, self.kind, self.size = image, point, kind, size

    def __enter__(self):
        pathlib.Path(self.point).mkdir(exist_ok=True)
        if self.kind == "tmpfs":
            quiet("mount", "-t", "tmpfs", "-o", f"size={self.size},mode=755", "fault", self.point, check=True)
            return self
        if not os.path.exists(self.image):
            make_image(self.image, self.kind, self.size)
        # A copy has the same UUID as the first, which another mount namespace may hold for a moment longer.
        options = "loop,nouuid" if self.kind == "xfs" else "loop"
        quiet("mount", "-t", self.kind, "-o", options, self.image, self.point, check=True)
        return self

    def __exit__(self, *_):
        for _attempt in range(50):
            result = subprocess.run(["umount", self.point], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
            if result.returncode == 0:
                return
            time.sleep(0.1)
        quiet("umount", "-l", self.point)
        raise RuntimeError(f"cannot unmount {self.point}: {result.stderr.decode(errors='replace').strip()}")


def make_image(path, kind, size):
    with open(path, "wb") as file:
        file.truncate(size)
    options = {"ext4": ["-q", "-F", "-m", "0"], "xfs": ["-q", "-f"]}[kind]
    quiet(f"mkfs.{kind}", *options, path, check=True)


def mount_problem(kind="ext4"):
    """Why a small file system of this kind cannot be mounted here, or None."""
    if not AM_ROOT:
        return "mounting needs root"
    if kind != "tmpfs" and not shutil.which(f"mkfs.{kind}"):
        return f"mkfs.{kind} is not installed"
    top = pathlib.Path(tempfile.mkdtemp(prefix="backapp-fault-mount-"))
    try:
        with Mount(top / "image", top / "point", kind, 320 << 20 if kind == "xfs" else 4 << 20):
            return None
    except (subprocess.SubprocessError, OSError) as error:
        return f"cannot mount {kind} here: {error}"
    finally:
        quiet("rm", "-rf", "--one-file-system", top)


# ---- the world of one test ----


class World:
    """A fresh directory with the programs, a home, a source and a destination, and what runs in it.

    user: uid that runs the program (None: as we are). The directory is then below /tmp, because a TMPDIR may be closed
    to others."""

    def __init__(self, name, user=None):
        self.backapp_given, self.killer_given = need_program()
        self.user = user
        place = "/tmp" if user is not None else None
        self.top = pathlib.Path(os.path.realpath(tempfile.mkdtemp(prefix=f"backapp-fault-{name}-", dir=place)))
        self.top.chmod(0o755)
        self.bin = self.top / "bin"
        self.home = self.top / "home"
        self.source = self.top / "source"
        self.dest = self.top / "dest"
        self.shelf = self.top / "shelf"
        self.kept = self.shelf / "dest"
        self.prefix = []  # command that runs the program under test
        self.log = self.top / "calls"
        for folder in (self.bin, self.home, self.source):
            folder.mkdir()
        self.backapp, self.killer = self.bin / "backapp", self.bin / "killer"
        shutil.copy(self.backapp_given, self.backapp)
        shutil.copy(self.killer_given, self.killer)
        self.give(self.home)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not AM_ROOT:
            quiet("chmod", "-R", "u+rwX", self.top)
        quiet("rm", "-rf", "--one-file-system", self.top)

    def give(self, path):
        if self.user is not None:
            quiet("chown", "-hR", f"{self.user}:{self.user}", path, check=True)

    def environment(self):
        environment = dict(os.environ)
        environment.update(
            HOME=str(self.home), XDG_STATE_HOME=str(self.home / "state"), LC_ALL="C.UTF-8", TMPDIR=str(self.home)
        )
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
            environment.pop(name, None)
        return environment

    def execute(self, command, timeout=RUN_TIMEOUT):
        extra = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        return subprocess.run(
            [os.fsencode(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
            cwd=self.top,
            timeout=timeout,
            **extra,
        )

    def run(self, arguments):
        return self.execute([*self.prefix, self.backapp, *arguments])

    def killed_run(self, killer_options, arguments):
        """Runs the program under the killer. Which calls it made stands in self.log."""
        if self.user is not None:
            self.log.unlink(missing_ok=True)
            self.log.touch()
            self.give(self.log)
        result = self.execute(
            [self.killer, "--timeout", str(RUN_TIMEOUT - 20), "--log", self.log, *killer_options, "--", self.backapp]
            + list(arguments)
        )
        if result.returncode == BROKEN:
            raise RuntimeError("the killer failed: " + text_of(result))
        return result

    def count(self, arguments, options=()):
        """Number of writing calls of a run, and its result."""
        result = self.killed_run(["--count", *options], arguments)
        return int(result.stdout.split()[-1]), result

    def last_call(self):
        """The call at which the last run was stopped, as text."""
        try:
            lines = self.log.read_bytes().splitlines()
        except OSError:
            return "?"
        return lines[-1].decode(errors="backslashreplace") if lines else "no call"

    def restore(self):
        """Puts the kept destination back, and what the program remembered at that time."""
        script = 'rm -rf --one-file-system "$1" "$2" && cp -a "$3/dest" "$1" && cp -a "$3/home" "$2"'
        if not AM_ROOT:
            script = 'chmod -R u+rwX "$1"; ' + script
        quiet("sh", "-c", script, "sh", self.dest, self.home, self.shelf, check=True)

    def keep(self):
        remove(self.shelf)
        self.shelf.mkdir()
        quiet("cp", "-a", self.dest, self.kept, check=True)
        quiet("cp", "-a", self.home, self.shelf / "home", check=True)


def quiet(*command, check=False):
    subprocess.run(
        [os.fsencode(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if check else subprocess.DEVNULL,
        timeout=60,
        check=check,
    )


def remove(path):
    if not AM_ROOT:
        quiet("chmod", "-R", "u+rwX", path)
    quiet("rm", "-rf", "--one-file-system", path, check=True)


def text_of(result):
    """Exit code and the last lines of what a run said."""
    said = (result.stdout[-1500:] + b"\n" + result.stderr[-1500:]).decode(errors="replace").strip()
    return f"exit {result.returncode}: {said}"


def rsync_result(world, base, sources, delete):
    """State that the real rsync makes of a copy of `base` (which may not exist); None without rsync."""
    if not shutil.which("rsync"):
        return None
    target = world.top / "reference"
    remove(target)
    if base.exists():
        quiet("cp", "-a", base, target, check=True)
    else:
        target.mkdir()
        world.give(target)
    command = ["rsync", "-aHAX", "--exclude=/.backapp*", *(["--delete"] if delete else []), *sources, f"{target}/"]
    result = world.execute(command)
    if result.returncode != 0:
        raise RuntimeError("rsync failed: " + text_of(result))
    return target


def leftovers(dest):
    """What a finished destination must not hold: files in the stage or in old, a journal."""
    state = pathlib.Path(dest) / ".backapp"
    found = [str(path) for path in (state / "journal", state / "journal.new") if path.exists()]
    for folder in ("stage", "stage.old", "old"):
        for where, _, files in os.walk(state / folder):
            found += [os.path.join(where, file) for file in files]
    return found


def even(first, last, number):
    """Up to `number` different points from first to last, evenly spread, both ends among them."""
    if last < first:
        return []
    if last - first + 1 <= number:
        return list(range(first, last + 1))
    return sorted({first + round(i * (last - first) / (number - 1)) for i in range(number)})
