#!/usr/bin/env python3
"""Archives read without the program: archive_format.py, which knows only what docs/formats says, decrypts the volumes and
the index of encrypted archives and unpacks them to the same tree, lists what an index has, finds each file where the index
says that it lies, and proves every sum."""

import base64
import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import time

import archive_format as form
from cli_tools import Place, Skip, events, run_module, tree

try:
    import cryptography  # noqa: F401
except ImportError as why:
    print(f"skip archive_decrypt: {why} (the package python3-cryptography)")
    sys.exit(77)

MASTER = bytes(range(32))
KEY = {"BACKUP_ENCRYPTION_KEY": base64.b64encode(MASTER).decode()}
NAME = "ad a-1"


class Archives(Place):
    """A store with archives of src, which is odd, and how they are read by hand."""

    def __init__(self, *options, key=True):
        super().__init__()
        for name in [name for name in self.environment if name.startswith(("AWS_", "BACKUP_"))]:
            del self.environment[name]
        self.key = KEY if key else {}
        self.options = [*options, *(["--encrypt"] if key else [])]
        self.store, self.to = self.root / "store", self.root / "to"
        self.fill(a_txt="one", sub__b="two" * 1000, sub__deep__c=os.urandom(3_400_000), zeros=bytes(2_000_000), empty="",
                  big=os.urandom(9_300_000))
        self.fill(**{"n" * 120 + "__" + "m" * 150: "long names"})
        os.symlink("a.txt", self.src / "link")
        os.symlink(b"\xff", os.fsencode(self.src) + b"/odd \xfe")
        os.link(self.src / "a.txt", self.src / "sub" / "second")
        (self.src / "bare").mkdir(mode=0o700)
        with open(self.src / "holes", "wb") as file:
            file.seek(5_000_000)
            file.write(b"end")
        os.utime(self.src / "a.txt", ns=(1, -1_500_000_001))

    def create(self, *more):
        out = self.good("archive", "create", "--json", "--name", NAME, *self.options, *more, self.store, self.src,
                        env=self.key)
        return next(line["stats"] for line in events(out) if line["type"] == "summary")["archive"]["point"]

    def content(self, key, volume, role):
        """What an object holds, decrypted by the published format."""
        data = (self.store / NAME / key).read_bytes()
        base = key.removesuffix(".index").rsplit(".vol", 1)[0]
        return form.unseal(form.content_key(MASTER), form.associated(NAME, base, volume, role), data) if self.key else data

    def index(self, base):
        return form.Index.read(self.content(base + ".index", 0, "index"))

    def volumes(self, base):
        """The volumes' content, in order."""
        found = sorted(path.name for path in (self.store / NAME).iterdir()
                       if path.name.startswith(base) and not path.name.endswith(".index"))
        return [self.content(key, number + 1, "data") for number, key in enumerate(found)]


def expand(base, packed):
    if ".tar.gz" in base:
        return gzip.decompress(packed)
    if ".tar.zst" in base:
        done = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout
    return packed


def extract(tar, to):
    with tarfile.open(fileobj=io.BytesIO(tar), encoding="utf-8", errors="surrogateescape") as file:
        file.extractall(to, **({"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}))


def same_trees(one, other):
    assert tree(one) == tree(other), sorted(name for name in tree(one).keys() | tree(other).keys()
                                            if tree(one).get(name) != tree(other).get(name))


def check_sums(place, index, base, contents):
    """What the footer says of volumes and members is so."""
    footer = index.footer
    assert footer["archive"] == base and footer["name"] == NAME and footer["version"] == 1, footer
    assert len(footer["volumes"]) == len(contents)
    at = 0
    for number, (said, content) in enumerate(zip(footer["volumes"], contents)):
        key = f"{base}.vol{number + 1:04d}" if footer["numbered"] else base
        data = (place.store / NAME / key).read_bytes()
        pieces = [data[begin:begin + said["partSize"]] for begin in range(0, len(data), said["partSize"])]
        sums = b"".join(hashlib.sha256(piece).digest() for piece in pieces)
        assert said["partsHash"] == hashlib.sha256(sums).hexdigest(), f"partsHash of {key}"
        assert (said["size"], said["packedSize"], said["firstMember"]) == (len(data), len(content), at), f"{key}: {said}"
        length = 0
        while length < len(content):
            length += index.members[at]
            at += 1
        assert length == len(content), f"members do not end with {key}"
    assert at == footer["members"] == len(index.members)


def check_entries(place, index, tar):
    """Every stored file lies where its entry says, with the hash that it says; metadata are those of the source."""
    links = 0
    for entry in index.entries:
        path = os.path.join(os.fsencode(place.src), entry.path)
        if entry.deleted:
            assert not os.path.lexists(path)
            continue
        info = os.lstat(path)
        assert (entry.mode, entry.uid, entry.gid) == (info.st_mode, info.st_uid, info.st_gid), entry.path
        assert entry.mtime * 10**9 + entry.mtime_ns == info.st_mtime_ns, entry.path
        assert entry.ctime * 10**9 + entry.ctime_ns == info.st_ctime_ns and entry.ino == info.st_ino, entry.path
        if stat.S_ISLNK(info.st_mode):
            assert entry.target == os.readlink(path)
        if stat.S_ISREG(info.st_mode):
            content = open(path, "rb").read()
            assert entry.size == len(content) and entry.nlink == info.st_nlink, entry.path
            assert entry.link or entry.hash == hashlib.sha256(content).digest(), entry.path
            if entry.stored and not entry.link and not entry.sparse:
                assert tar[entry.content:entry.content + entry.size] == content, f"{entry.path} lies elsewhere"
            links += entry.link is not None
        if entry.stored:
            assert tar[entry.header + 257:entry.header + 262] == b"ustar", entry.path
    return links


def whole(place):
    base = place.create()
    index, contents = place.index(base), place.volumes(base)
    check_sums(place, index, base, contents)
    tar = expand(base, b"".join(contents))
    assert index.footer["tarSize"] == len(tar), f"{index.footer['tarSize']} {len(tar)}"
    assert check_entries(place, index, tar) == 1
    seen = {os.fsdecode(entry.path) for entry in index.entries} - {""}
    assert seen == set(tree(place.src)), seen ^ set(tree(place.src))
    place.to.mkdir()
    extract(tar, place.to)
    same_trees(place.to, place.src)
    return base, index


def test_encrypted():
    with Archives("--volume-size", "8M", "--level", "1") as place:
        base, index = whole(place)
        assert len(index.footer["volumes"]) == 2 and base.endswith(".tar.gz.aes")


def test_encrypted_not_compressed():
    with Archives("--no-compress") as place:
        _, index = whole(place)
        assert not index.footer["numbered"]


def test_encrypted_zstd():
    if subprocess.run(["sh", "-c", "command -v zstd"], capture_output=True, timeout=30, check=False).returncode:
        raise Skip("there is no zstd")
    with Archives("--zstd") as place:
        whole(place)


def test_not_encrypted():
    with Archives("--volume-size", "8M", key=False) as place:
        whole(place)


def test_passphrase():
    """The master key out of its record, by scrypt."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    with Archives() as place:
        place.key = {"BACKUP_PASSPHRASE": "correct horse"}
        place.good("key", "create", place.store, env=place.key)
        base = place.create()
        (path,) = (path for path in place.store.rglob("*") if path.parent.name == "keys" and path.is_file())
        record = json.loads(path.read_text())
        salt, nonce, sealed = (base64.b64decode(record[name]) for name in ("salt", "nonce", "key"))
        bound = f"backapp key 1 scrypt {record['log2N']} {record['r']} {record['p']}"
        wrapping = hashlib.scrypt(b"correct horse", salt=salt, n=1 << record["log2N"], r=record["r"], p=record["p"], dklen=32,
                                  maxmem=1 << 28)
        master = AESGCM(wrapping).decrypt(nonce, sealed, bound.encode())
        total = hashlib.sha256(" ".join([bound, record["salt"], record["nonce"], record["key"]]).encode()).hexdigest()
        assert total == record["sum"]
        data = (place.store / NAME / (base + ".index")).read_bytes()
        index = form.Index.read(form.unseal(form.content_key(master), form.associated(NAME, base, 0, "index"), data))
        assert index.footer["archive"] == base


def test_chain():
    """What changed and what was deleted; the parent is proven by its hash."""
    with Archives() as place:
        time.sleep(2.5)  # what changed shortly before a run is read again by the next
        first = place.index(place.create())
        (place.src / "a.txt").unlink()
        place.fill(new="n", sub__b="changed")
        os.chmod(place.src / "big", 0o600)
        base = place.create()
        index, contents = place.index(base), place.volumes(base)
        check_sums(place, index, base, contents)
        assert (index.footer["parent"], index.footer["parentHash"]) == (first.footer["archive"], first.hash)
        check_entries(place, index, expand(base, b"".join(contents)))
        entries = {entry.path: entry for entry in index.entries}
        assert entries[b"a.txt"].deleted and entries[b"new"].stored and entries[b"sub/b"].stored
        assert entries[b"big"].mode == stat.S_IFREG | 0o600 and b"zeros" not in entries, entries.keys()


def test_objects_are_bound():
    """No object stands in for another, and nothing opens it with another key."""
    with Archives() as place:
        base = place.create()
        data = (place.store / NAME / base).read_bytes()
        key = form.content_key(MASTER)
        for about in (form.associated(NAME, base, 2, "data"), form.associated(NAME, base, 1, "index"),
                      form.associated("other", base, 1, "data"), form.associated(NAME, base.replace("Z", "Y"), 1, "data")):
            try:
                form.unseal(key, about, data)
            except Exception as why:  # noqa: BLE001
                assert type(why).__name__ == "InvalidTag", why
            else:
                raise AssertionError(f"opened as {about}")


def test_an_index_written_by_hand():
    """What archive_format.py writes is an index to the program: ls and restore read it."""
    with Archives(key=False) as place:
        base = place.create()
        index = place.index(base)
        (place.store / NAME / (base + ".index")).write_bytes(index.write())
        place.good("verify", "--full", place.store)
        place.good("restore", place.store, "--to", place.to)
        same_trees(place.to, place.src)


if __name__ == "__main__":
    run_module("archive_decrypt", sys.modules[__name__])
