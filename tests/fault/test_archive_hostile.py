#!/usr/bin/env python3
"""Archives and indexes that somebody made to do harm: tars put together by hand of which an index is made and then
restored, and indexes with right sums, written after docs/formats/archive.md by the Python of archive_format.py, whose
entries lie. Nothing outside of the target may be touched, nothing may take more than a bounded amount of memory or time,
and each command ends with what it can, or with a clear error."""

import gzip
import hashlib
import os
import pathlib
import resource
import stat
import struct
import subprocess
import sys
import time
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import archive_format as form  # noqa: E402
from cli_tools import BACKAPP, Place, Skip, as_nobody, everything, run_module, text, tree  # noqa: E402

NAME, BASE = "n", "2026-01-02T030405Z-full.tar.gz"
MEMORY = 300 << 20  # peak resident bytes of a command, its worker included
LONG = os.environ.get("BACKAPP_TEST_LONG") == "1"
PATIENCE = 25       # seconds
BOMB_OF_ZLIB = zlib.compress(bytes(200 << 20), 1)
GOOD = b"what is good " * 500
DIR, FILE, LINK, CHR = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o666


# ---- tars by hand

def pax(*records, kind=b"x", raw=None):
    """A pax header; records are (key, value); raw: its bytes instead."""
    body = b""
    for key, value in records:
        record = b" " + key + b"=" + value + b"\n"
        length = len(record)
        while length != len(str(length)) + len(record):
            length = len(str(length)) + len(record)
        body += str(length).encode() + record
    return header(b"PaxHeaders/x", kind, raw if raw is not None else body)


def number(value, width):
    return b"%0*o\0" % (width - 1, value)


def header(name, kind=b"0", content=b"", *, link=b"", mode=0o644, size=None, size_field=None, device=(0, 0)):
    """A ustar header and its content, filled up to a block."""
    size_field = size_field or number(len(content) if size is None else size, 12)
    prefix = b""
    if len(name) > 100:
        raise ValueError("a long name needs a pax header")
    block = name.ljust(100, b"\0") + number(mode, 8) + number(0, 8) + number(0, 8) + size_field + number(1_600_000_000, 12)
    block += b" " * 8 + kind + link[:100].ljust(100, b"\0") + b"ustar\00000" + bytes(64)
    block += number(device[0], 8) + number(device[1], 8) + prefix.ljust(155, b"\0") + bytes(12)
    assert len(block) == 512, len(block)
    total = sum(block)
    block = block[:148] + b"%06o\0 " % total + block[156:]
    return block + content + bytes(-len(content) % 512)


GOOD_FIRST = header(b"a good one", content=GOOD)
GOOD_LAST = header(b"z good one", content=GOOD)
END = bytes(1024)


def members_of(tar):
    return [gzip.compress(tar[at:at + form.MEMBER], 6, mtime=0) for at in range(0, len(tar), form.MEMBER)]


# ---- the place

class Hostile(Place):
    """A store with one archive, a target, and beside it what nobody may touch."""

    turn = 0

    def __init__(self, **how):
        super().__init__()
        for name in [name for name in self.environment if name.startswith(("AWS_", "BACKUP_"))]:
            del self.environment[name]
        self.how = how  # of the processes
        self.store, self.to, self.outside = self.root / "store", self.root / "to", self.root / "outside"
        self.folder = self.store / NAME
        for folder in (self.folder, self.outside, self.state):
            folder.mkdir(parents=True)
        (self.outside / "victim").write_text("precious")
        self.peak = 0
        if how:
            for path in (self.root, self.store, self.folder, self.state):
                os.chown(path, how["user"], how["group"])
        self.before = everything(self.outside)

    def limited(self, *argv):
        """(exit code, output, errors); memory and time are bounded, and it may not end by a signal."""
        with open(self.root / "out", "w+b") as out, open(self.root / "err", "w+b") as err:
            process = subprocess.Popen([BACKAPP, *map(os.fspath, argv)], env=self.environment, stdin=subprocess.DEVNULL,
                                       stdout=out, stderr=err, **self.how)
            limit = time.monotonic() + PATIENCE
            ended = 0
            while not ended:
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
                if not ended and time.monotonic() > limit:
                    process.kill()
                    os.wait4(process.pid, 0)
                    process.returncode = -9
                    raise AssertionError(f"{argv[:2]} did not end within {PATIENCE} s")
                time.sleep(0.005)
            process.returncode = code = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            said, errors = text(out.read()), text(err.read())
        assert code in (0, 1, 3), f"{argv[:2]}: code {code}: {errors[-500:]}"
        assert code == 0 or errors.strip() or said.strip(), f"{argv[:2]} failed without a word"
        for bad in ("signal", "INTERNAL", "crash"):
            assert bad not in errors, errors[-500:]
        self.peak = max(self.peak, usage.ru_maxrss << 10)
        assert usage.ru_maxrss << 10 < MEMORY, f"{argv[:2]} took {usage.ru_maxrss >> 10} MiB"
        return code, said, errors

    def plant(self, tar, packed=None, index=None):
        (self.folder / BASE).write_bytes(b"".join(members_of(tar)) if packed is None else packed)
        if index is not None:
            (self.folder / (BASE + ".index")).write_bytes(index)

    def reindex(self):
        return self.limited("archive", "reindex", self.store, BASE)

    def use(self):
        """Restores, and one after the other what else reads an index: the restore's code, what they said."""
        others = (("ls", "-lR", self.store), ("archive", "find", self.store, "*"), ("verify", "--full", self.store),
                  ("restore", self.store, "--to-tar", self.root / "out.tar"), ("archive", "list", self.store),
                  ("restore", self.store, "--to-zip", self.root / "out.zip"), ("verify", self.store))
        code, _, said = self.limited("restore", self.store, "--to", self.to)
        Hostile.turn += 1
        for argv in others if LONG else [others[Hostile.turn % len(others)]]:
            said += self.limited(*argv)[2]
        self.check_outside()
        return code, said

    def check_outside(self):
        assert everything(self.outside) == self.before, "something outside was touched"
        assert (self.outside / "victim").read_text() == "precious"
        unknown = {path.name for path in self.root.iterdir()} - {"store", "to", "outside", "state", "src", "out", "err",
                                                                 "out.tar", "out.zip", ".cache", ".config"}
        assert not unknown, f"written outside: {unknown}"
        names = {path.name for path in self.to.rglob("*")} if self.to.exists() else set()
        assert not names & {"evil", "victim"} or not (self.to / "evil").is_symlink(), names

    def restored(self):
        return tree(self.to) if self.to.exists() else {}


def tar_case(*parts, refused=1, good=True, absent=(), codes=(0, 3), end=END, word=None):
    """A tar with parts between two good files. refused: of how many it warns at least; good: whether both good files are
    to come out of it all the same."""
    with Hostile() as place:
        place.plant(GOOD_FIRST + b"".join(part(place) if callable(part) else part for part in parts) + GOOD_LAST + end)
        code, _, errors = place.reindex()
        place.check_outside()
        if good:
            assert code in codes and errors.count("warning: ") >= refused, f"reindex: code {code}: {errors}"
        assert word is None or word in errors, errors
        if code == 1:
            assert not good, errors
            return
        place.use()
        found = place.restored()
        if good:
            assert found.get("a good one") == GOOD and found.get("z good one") == GOOD, found.keys()
        for name in absent:
            assert name not in found, f"{name} was restored"


def outside(place, name="evil"):
    return os.fsencode(place.outside / name)


def test_names_that_lead_out():
    names = (b"../evil", b"a/../../outside/evil", b"..", b"a/..", b"./../evil", b"a/./../../evil", b"../outside/victim")
    tar_case(*[header(name, content=b"evil") for name in names], refused=len(names), absent=("evil", "outside"))


def test_absolute_names():
    def parts(place):
        return (pax((b"path", outside(place))) + header(b"x", content=b"evil")
                + pax((b"path", b"//" + outside(place))) + header(b"x", content=b"evil") + header(b"/evil", content=b"evil"))
    tar_case(parts, refused=3)


def test_through_a_link():
    """A link that leads out, and then something in it: neither through the link, nor at its place."""
    for kind, content in ((b"0", b"evil"), (b"5", b""), (b"2", b"")):
        tar_case(lambda place: header(b"sl", b"2", link=outside(place, "")[:-1]),
                 header(b"sl/evil", kind, content, link=b"x" if kind == b"2" else b""), refused=0)
        tar_case(header(b"sl", b"2", link=b"../outside"), header(b"sl/evil", kind, content, link=b"x" if kind == b"2" else b""),
                 refused=0)


def test_over_a_link():
    """The same name twice: first a link to the victim, then a file."""
    tar_case(header(b"x", b"2", link=b"../outside/victim"), header(b"x", content=b"evil"), refused=0)
    tar_case(header(b"x", b"2", link=b"../outside"), header(b"x/", b"5", mode=0o700), header(b"x/y", content=b"evil"), refused=0)


def test_hard_links_out():
    tar_case(header(b"h1", b"1", link=b"../outside/victim"), lambda place: header(b"h2", b"1", link=outside(place, "victim")),
             header(b"h3", b"1", link=b"a/../../outside/victim"), refused=3, absent=("h1", "h2", "h3"))


def test_hard_link_through_a_link():
    tar_case(header(b"s", b"2", link=b"../outside"), header(b"h1", b"1", link=b"s/victim"), refused=0, absent=("h1",))
    tar_case(header(b"s", b"2", link=b"../outside/victim"), header(b"h1", b"1", link=b"s"), header(b"h1", content=b"evil"),
             refused=0)


def test_hard_links_in_circles():
    tar_case(header(b"h1", b"1", link=b"h2"), header(b"h2", b"1", link=b"h1"), header(b"h3", b"1", link=b"h3"),
             header(b"h4", b"1", link=b"nowhere"), refused=0, absent=("h1", "h2", "h3", "h4"))


def test_devices_as_a_user():
    with Hostile(**as_nobody()) as place:
        place.plant(GOOD_FIRST + header(b"null", b"3", device=(1, 3)) + header(b"disk", b"4", device=(8, 0), mode=0o666)
                    + header(b"suid", content=b"#!/bin/sh", mode=0o6755) + GOOD_LAST + END)
        os.chown(place.folder / BASE, 65534, 65534)
        code, _, errors = place.reindex()
        assert code == 0, errors
        code, said = place.use()
        found = place.restored()
        assert code == 3 and "null" in said and "disk" in said, f"code {code}: {said}"
        assert found.get("z good one") == GOOD and "null" not in found and "disk" not in found, found.keys()


def test_sizes():
    """Sizes that are absurd, and none."""
    huge = b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7
    negative = b"\xff" * 12
    for part in (header(b"big", size_field=huge), header(b"big", size_field=negative), header(b"big", size=0o77777777777),
                 header(b"big", size_field=b"999999999999"), header(b"big", size_field=b"notanumber\0\0"),
                 pax((b"size", b"9223372036854775807")) + header(b"big"), pax((b"size", b"18446744073709551616")) + header(b"big"),
                 pax((b"size", b"-1")) + header(b"big"), pax((b"size", b"")) + header(b"big")):
        tar_case(part, good=False)


def test_pax_that_lies():
    """Records whose lengths, numbers and texts are wrong."""
    for raw in (b"999999999 path=x\n", b"0 path=x\n", b"-5 path=x\n", b"5 a\n", b"18446744073709551615 path=x\n", b"9 path=x",
                b"path=x\n", b"\n", b"\0" * 600, b"11 path=a\0b\n", b"8 path=\n", b"20 mtime=1e999999999\n", b"9 =value\n",
                b"16 mtime=banana\n", b"33 mtime=99999999999999999999999\n", b"19 uid=99999999999999\n"):
        tar_case(pax(raw=raw) + header(b"lied about", content=b"x"), good=False)


def test_pax_that_is_large():
    tar_case(pax(raw=b"x" * (40 << 20)) + header(b"x", content=b"x"), good=False)
    tar_case(header(b"PaxHeaders/x", b"x", size=1 << 32), good=False)
    tar_case(pax((b"path", b"d/" * 40000 + b"deep")) + header(b"x", content=b"x"), refused=1)
    tar_case(pax((b"path", b"n" * 300)) + header(b"x", content=b"x"), refused=1)
    tar_case(*[pax((b"SCHILY.xattr.user.x%d" % at, b"v" * 60000)) + header(b"x%d" % at, content=b"x") for at in range(40)],
             good=False, refused=0)


def test_attributes():
    """Attributes with names that are none, and an access control list that is damaged."""
    tar_case(pax((b"SCHILY.xattr.../../x", b"v"), (b"SCHILY.xattr.", b"v"), (b"SCHILY.xattr.user.\xff", b"v"),
                 (b"SCHILY.acl.access", b"user::rwx,banana"), (b"SCHILY.acl.default", b"\0\0\0")) + header(b"x", content=b"x"),
             refused=0)


def sparse(name, real, content, **more):
    """A file in GNU's sparse format 1.0 whose map is content."""
    return pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", name),
               (b"GNU.sparse.realsize", real)) + header(b"GNUSparseFile.0/x", content=content, **more)


def sparse_map(*numbers):
    body = b"".join(b"%d\n" % value for value in numbers)
    return body + bytes(-len(body) % 512)


def test_sparse_maps_that_lie():
    for real, content in ((b"1000", sparse_map(1, 999999999, 10) + b"x" * 10), (b"1000", sparse_map(2, 500, 10, 0, 10) + b"x" * 20),
                          (b"1000", sparse_map(2, 0, 10, 5, 10) + b"x" * 20), (b"1000", sparse_map(1000000, 0, 1)),
                          (b"1000", sparse_map(1 << 60)), (b"1000", sparse_map(1, 0, 5000) + b"x" * 10), (b"1000", b"banana"),
                          (b"1000", b"9" * 2000), (b"-1", sparse_map(0)), (b"99999999999999999999", sparse_map(0)),
                          (b"1000", b""), (b"9223372036854775807", sparse_map(1, 9223372036854775000, 807) + b"x" * 807)):
        tar_case(sparse(b"lied about", real, content), good=False)
    tar_case(sparse(b"../evil", b"10", sparse_map(1, 0, 10) + b"0123456789"), refused=1)


def test_holes_that_never_end():
    """A file of exabytes, all hole: neither read nor hashed for ever."""
    for real in (b"1125899906842624", b"9223372036854775807"):
        tar_case(sparse(b"hole", real, sparse_map(0)), good=False)


def test_kinds():
    tar_case(*[header(b"kind %d" % at, bytes([kind]), b"") for at, kind in enumerate(b"789ABLKMSVXZ\xff")], good=False)


def test_the_same_name_again():
    tar_case(header(b"d/", b"5", mode=0o755), header(b"d", content=b"file"), header(b"d/", b"5", mode=0o700),
             header(b"d/in", content=b"in it"), header(b"d/in/deeper", content=b"x"), refused=0)


def test_cut_and_noise():
    whole = GOOD_FIRST + header(b"mid", content=b"x" * 5000) + GOOD_LAST
    for tar in (b"", b"\0" * 100, os.urandom(4096), GOOD_FIRST[:300], whole[:9000], whole, GOOD_FIRST + os.urandom(20000) + END):
        with Hostile() as place:
            place.plant(tar, packed=b"".join(members_of(tar)) or b"")
            code, _, _ = place.reindex()
            if code != 1:
                place.use()


# ---- bombs

def test_bomb_in_a_member():
    """One gzip member, of a megabyte, that expands to a gibibyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    # What is between two flushes can be repeated; the end is never reached.
    bomb = head + (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)) * 64
    for packed in (bomb, gzip.compress(GOOD_FIRST) + bomb, b"".join(members_of(GOOD_FIRST.ljust(form.MEMBER, b"\0"))) + bomb):
        with Hostile() as place:
            place.plant(b"", packed=packed)
            code, _, errors = place.reindex()
            assert code in (1, 3), f"code {code}: {errors}"


def test_bomb_of_zstd():
    """A frame that says nothing, or lies, of its size."""
    probe = subprocess.run(["sh", "-c", "command -v zstd"], capture_output=True, timeout=30, check=False)
    if probe.returncode != 0:
        raise Skip("there is no zstd")
    done = subprocess.run("head -c 512M /dev/zero | zstd -1 --no-progress -c", shell=True, capture_output=True, timeout=60, check=True)
    for packed in (done.stdout, bytes.fromhex("28b52ffd") + b"\xe0" + b"\xff" * 8 + done.stdout[14:]):
        with Hostile() as place:
            (place.folder / BASE.replace(".gz", ".zst")).write_bytes(packed)
            code, _, errors = place.limited("archive", "reindex", place.store, BASE[:17])
            assert code in (1, 3), f"code {code}: {errors}"


# ---- indexes whose entries lie

def index_of(tar, entries, packed=None, changed=()):
    """An index for a tar in one volume."""
    members = members_of(tar)
    packed = b"".join(members) if packed is None else packed
    index = form.Index()
    index.members = [len(member) for member in members]
    index.entries = sorted(entries, key=lambda entry: entry.order)
    piece = 8 << 20
    sums = b"".join(hashlib.sha256(packed[at:at + piece]).digest() for at in range(0, len(packed), piece))
    volume = {"size": len(packed), "packedSize": len(packed), "firstMember": 0, "partSize": piece,
              "partsHash": hashlib.sha256(sums).hexdigest()}
    index.footer = {"format": "backapp archive index", "version": 1, "archive": BASE, "name": NAME, "time": 1_700_000_000,
                    "scanTime": 1_700_000_000, "scanNs": 0, "host": "h", "sources": ["/s"], "volumes": [volume],
                    "numbered": False, "level": 6, "tarSize": len(tar), "members": len(members),
                    "files": sum(not entry.directory for entry in entries), "directories": sum(entry.directory for entry in entries),
                    "bytes": sum(entry.size for entry in entries), "entries": len(entries), "deletions": 0, "unread": 0,
                    "partial": False, "rebuilt": False, "table": {}}
    index.footer.update(changed)
    index.fixed = dict(changed)
    return index


TAR = GOOD_FIRST + header(b"lie", content=b"evil") + GOOD_LAST + END
LIE_AT = len(GOOD_FIRST)
LAST_AT = LIE_AT + 1024


def good_entries():
    sha = hashlib.sha256(GOOD).digest()
    return [form.Entry(b"", DIR), form.Entry(b"a good one", FILE, stored=True, size=len(GOOD), hash=sha, header=0, content=512),
            form.Entry(b"z good one", FILE, stored=True, size=len(GOOD), hash=sha, header=LAST_AT, content=LAST_AT + 512)]


def lie(path=b"lie", mode=FILE, **more):
    values = {"stored": True, "size": 4, "hash": hashlib.sha256(b"evil").digest(), "header": LIE_AT, "content": LIE_AT + 512, **more}
    if mode & 0o170000 != stat.S_IFREG:
        values.update(hash=None, size=0)
    return form.Entry(path, mode, **values)


def index_case(*entries, good=None, absent=(), code=None, tar=TAR, changed=()):
    """An index with entries besides the good ones. good: True if those have to come out all the same."""
    with Hostile() as place:
        entries = [entry(place) if callable(entry) else entry for entry in entries]
        place.plant(tar, index=index_of(tar, [*good_entries(), *entries], changed=changed).write())
        got, said = place.use()
        found = place.restored()
        what = f"{[vars(entry) for entry in entries]} {changed}"[:1500]
        assert code is None or got in code, f"code {got}: {said[-800:]} of {what}"
        if good:
            assert found.get("a good one") == GOOD and found.get("z good one") == GOOD, f"{found.keys()} {said[-800:]} of {what}"
        for name in absent:
            assert name not in found, f"{name} was restored, of {what}"
        for name, content in found.items():
            if isinstance(content, bytes) and name.endswith("good one"):
                assert content == GOOD, f"{name} was restored wrong"


def test_index_as_it_should_be():
    """The writer of this test writes what the program reads."""
    index_case(lie(), good=True, code=(0,))


def test_index_paths():
    for path in (b"../evil", b"..", b".", b"a/../../evil", b"/evil", b"a//b", b"a/", b"a/./b", b"x" * 300, b"d/" * 40000 + b"e"):
        index_case(lie(path), code=(1, 3), absent=("evil",))
    index_case(lambda place: lie(os.fsencode(place.outside) + b"/evil"), code=(1, 3))


def test_index_order():
    """Entries that are not sorted, and twice the same."""
    with Hostile() as place:
        index = index_of(TAR, [*good_entries(), lie()])
        index.entries.reverse()
        place.plant(TAR, index=index.write())
        code, _ = place.use()
        assert code in (1, 3)
    index_case(lie(), lie(), code=(1, 3))
    index_case(lie(), lie(b"lie", DIR), code=(0, 1, 3))


def test_index_through_links():
    for target in (b"../outside", None):
        def link(place, target=target):
            return lie(b"sl", LINK, target=target or os.fsencode(place.outside))
        index_case(link, lie(b"sl/evil"))
        index_case(link, lie(b"sl", DIR), lie(b"sl/evil"))
        index_case(link, lie(b"sl/new", DIR), lie(b"sl/new/evil"))


def test_index_links():
    for target in (b"../outside/victim", b"nowhere", b"hard", b"a good one/x", b"", b"/etc/passwd", b"sub", b"a/../../outside/victim"):
        index_case(lie(b"hard", link=target), absent=("hard",), code=(1, 3))
    index_case(lambda place: lie(b"hard", link=os.fsencode(place.outside / "victim")), absent=("hard",), code=(1, 3))
    index_case(lie(b"sl", LINK, target=b"../outside/victim"), lie(b"tlie", link=b"sl"))
    index_case(lie(b"b1", link=b"b2"), lie(b"b2", link=b"b1"), absent=("b1", "b2"), code=(1, 3))


def test_index_places():
    """Contents that lie nowhere, elsewhere, or are longer than the tar."""
    for more in ({"content": 1 << 40, "header": 1 << 40}, {"content": (1 << 63) - 1, "header": (1 << 63) - 1}, {"size": 1 << 62},
                 {"size": (1 << 63) - 1}, {"size": (1 << 64) - 1}, {"size": len(TAR) * 2}, {"header": LIE_AT, "content": LIE_AT + (1 << 31)},
                 {"size": 5}, {"content": LIE_AT + 513}, {"header": 0, "content": 512}, {"hash": bytes(32)}):
        index_case(lie(**more), code=(1, 3))
    index_case(lie(stored=False), code=(0, 1, 3))


def test_index_holes():
    for size in (1 << 50, (1 << 63) - 1, 100):
        index_case(lie(size=size, sparse=True))
        part = sparse_map(0)
        tar = GOOD_FIRST + header(b"lie", content=part) + GOOD_LAST + END
        index_case(lie(size=size, sparse=True, hash=hashlib.sha256(bytes(100)).digest()), tar=tar)


def test_index_kinds():
    for mode in (0, 0o170000, stat.S_IFSOCK | 0o600, stat.S_IFBLK | 0o666, CHR, stat.S_IFIFO | 0o666, 1 << 20 | FILE, (1 << 32) - 1, 1 << 40):
        index_case(lie(mode=mode, rdev=0xffffffffffffffff))
    for more in ({"uid": 1 << 40}, {"gid": (1 << 64) - 1}, {"mtime": (1 << 62)}, {"mtime": -(1 << 62)}, {"mtime_ns": 1 << 40},
                 {"nlink": 0}, {"nlink": 1 << 60}, {"user": b"root\nx:0"}, {"user": b""}, {"more_flags": 1 << 20}, {"more_flags": 1},
                 {"xattrs": {b"user.x": b"v" * 70000}}, {"xattrs": {b"": b""}}, {"xattrs": {b"../x": b"y", b"security.banana": b"z"}},
                 {"xattrs": {b"user.%d" % at: b"v" * 1000 for at in range(3000)}}):
        index_case(lie(**more))


def test_index_footers():
    """Numbers that do not agree with one another, or with anything."""
    huge = (1 << 63) - 1
    volume = index_of(TAR, []).footer["volumes"][0]
    for changed in ({"tarSize": huge}, {"tarSize": 10}, {"entries": huge}, {"version": 2}, {"format": "x"}, {"archive": "x"},
                    {"name": "other"}, {"volumes": []}, {"volumes": [volume] * 10000}, {"volumes": [{**volume, "size": huge}]},
                    {"volumes": [{**volume, "packedSize": huge}]}, {"volumes": [{**volume, "firstMember": 7}]},
                    {"volumes": [{**volume, "partSize": 0}]}, {"volumes": [{**volume, "partSize": 1}]}, {"numbered": True},
                    {"sources": ["s" * 100000] * 30}, {"time": huge}, {"scanNs": huge}, {"more": 1}, {"host": {"b64": "AAAA"}},
                    {"host": [[[[[]]]]] * 5}, {"files": -1}, {"bytes": 1.5}, {"unread": None},
                    {"parent": BASE, "parentHash": "0" * 64}, {"parent": "../../x", "parentHash": "0" * 64}):
        index_case(lie(), changed=changed)


def test_index_tables():
    """Members and blocks that do not agree with what there is; a block that is a bomb."""
    for members in ([], [0], [1 << 62], [5], [2] * 100, [1] * 200000):
        with Hostile() as place:
            index = index_of(TAR, [*good_entries(), lie()])
            index.members = members
            place.plant(TAR, index=index.write())
            place.use()
    plain = index_of(TAR, [*good_entries(), lie()]).write()
    where, _ = struct.unpack("<QI", plain[-56:-44])
    for count, raw_length in ((1, 64 << 20), (1 << 60, 64 << 20), (1, 1 << 62), (5, (64 << 20) + 1)):
        with Hostile() as place:
            place.plant(TAR, index=with_bomb(count, raw_length))
            place.use()
    for at in range(0, 56, 3):
        with Hostile() as place:
            place.plant(TAR, index=plain[:-56 + at] + b"\xff" * 3 + plain[len(plain) - 53 + at:])
            code, _, errors = place.limited("restore", place.store, "--to", place.to)
            assert code == 1 or at > 52, f"{at}: code {code}: {errors}"
    assert where < len(plain)


def with_bomb(count, raw_length):
    """An index whose block of entries expands to 200 MiB and says another length."""
    index = index_of(TAR, [])
    block = BOMB_OF_ZLIB
    out = bytearray(form.MAGIC) + block
    table = b"".join(map(form.varint, (1, len(form.MAGIC), len(block), raw_length))) + hashlib.sha256(block).digest()
    table += form.varint(count) + form.varint(1) + form.text(b"")
    packed = zlib.compress(table)
    index.footer["table"] = {"offset": len(out), "length": len(packed), "rawLength": len(table),
                             "hash": hashlib.sha256(packed).hexdigest()}
    index.footer["entries"] = 1
    footer = form.json.dumps(index.footer).encode() + b"\n"
    where = len(out) + len(packed)
    return bytes(out) + packed + footer + struct.pack("<QII", where, len(footer), 0) + hashlib.sha256(footer).digest() + form.TAIL


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 30, 4 << 30))  # what is not bounded shall not fill the disk
    run_module("archive_hostile", sys.modules[__name__])
