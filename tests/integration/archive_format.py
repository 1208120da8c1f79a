"""Archives as docs/formats/archive.md and encryption.md describe them, in Python: nothing here is the program's code.
Reads and writes indexes, decrypts objects, and lists entries with what stands in them."""

import hashlib
import hmac
import json
import stat
import struct
import zlib

SEGMENT, TAG, MEMBER = 1 << 20, 16, 1 << 20
MAGIC, TAIL = b"BAINDEX1", b"BAIXTAIL"
DELETED, STORED, SPARSE, CHANGED = 1, 2, 4, 8
OWNER, GROUP, TARGET, LINK, XATTRS, HASH = 4, 8, 16, 32, 64, 1024


# ---- encryption

def hkdf(key, salt, info, length=32):
    """RFC 5869 with SHA-256, one block."""
    assert length <= 32
    pseudo = hmac.new(salt or bytes(32), key, "sha256").digest()
    return hmac.new(pseudo, info + b"\x01", "sha256").digest()[:length]


def content_key(master):
    return hkdf(master, b"", b"backapp content 1")


def associated(name, base, volume, role):
    return "\n".join(["backapp archive 1", f"{name}/{base}", str(volume), role]).encode()


def unseal(key, about, stream):
    """The content of a stream; key is the content key. Fails where anything was changed."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    if stream[0] != 40:
        raise ValueError("no such stream")
    cipher = AESGCM(hkdf(key, stream[1:33], about))
    out, at, number = [], 40, 0
    while True:
        end = min((number + 1) * SEGMENT, len(stream))
        last = end == len(stream)
        nonce = stream[33:40] + struct.pack(">IB", number, last)
        out.append(cipher.decrypt(nonce, stream[at:end], b""))
        if last:
            return b"".join(out)
        at, number = end, number + 1


# ---- numbers

class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    @property
    def done(self):
        return self.at >= len(self.data)

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError("too short")
        self.at += count
        return self.data[self.at - count:self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7f) << shift
            if byte < 0x80:
                return value
            shift += 7

    def signed(self):
        value = self.varint()
        return ~(value >> 1) if value & 1 else value >> 1

    def blob(self):
        return self.take(self.varint())

    def text(self):
        value = self.blob()
        if value[-1:] != b"\0" or b"\0" in value[:-1]:
            raise ValueError("no text")
        return value[:-1]


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7f | 0x80])
        value >>= 7
    return out + bytes([value])


def signed(value):
    return varint(~value << 1 | 1 if value < 0 else value << 1)


def blob(value):
    return varint(len(value)) + value


def text(value):
    return blob(value + b"\0")


# ---- entries

class Entry:
    """One entry; fields are called as in struct stat."""

    def __init__(self, path=b"", mode=stat.S_IFREG | 0o644, **more):
        self.path, self.mode = path, mode
        self.deleted = self.stored = self.sparse = self.changed = False
        self.uid = self.gid = self.ctime = self.ctime_ns = self.mtime_ns = self.size = self.blocks = 0
        self.nlink, self.ino, self.dev, self.rdev, self.mtime = 1, 1, 1, 0, 1_700_000_000
        self.user = self.group = self.target = self.link = self.xattrs = self.hash = None
        self.hash_part, self.header, self.content = MEMBER, 0, 0
        self.more_flags = 0
        self.__dict__.update(more)

    @property
    def directory(self):
        return self.mode & 0o170000 == stat.S_IFDIR

    @property
    def order(self):
        return self.path + b"/" if self.directory and self.path else self.path

    @classmethod
    def read(cls, reader, before):
        own = reader.varint()
        flags = reader.varint()
        entry = cls()
        entry.deleted, entry.stored, entry.sparse, entry.changed = (bool(own & bit) for bit in (1, 2, 4, 8))
        kept = reader.varint()
        entry.path = before[:kept] + reader.blob()
        entry.mode, entry.uid, entry.gid, entry.nlink = (reader.varint() for _ in range(4))
        entry.mtime, entry.mtime_ns = reader.signed(), reader.varint()
        entry.ctime, entry.ctime_ns = reader.signed(), reader.varint()
        entry.size, entry.blocks = reader.varint(), reader.varint()
        entry.ino, entry.dev, entry.rdev = (reader.varint() for _ in range(3))
        for bit, name in ((OWNER, "user"), (GROUP, "group"), (TARGET, "target"), (LINK, "link")):
            if flags & bit:
                setattr(entry, name, reader.text())
        if flags & XATTRS:
            inner = Reader(reader.blob())
            entry.xattrs = {inner.blob(): inner.blob() for _ in range(inner.varint())}
        if flags & HASH:
            entry.hash_part, entry.hash = reader.varint(), reader.take(32)
        if flags & ~(OWNER | GROUP | TARGET | LINK | XATTRS | HASH):
            raise ValueError(f"flags {flags}")
        if entry.stored:
            entry.header = reader.varint()
            entry.content = entry.header + reader.varint()
        return entry

    def write(self, before):
        kept = 0
        while kept < min(len(before), len(self.path)) and before[kept] == self.path[kept]:
            kept += 1
        flags = self.more_flags
        tail = b""
        for bit, value in ((OWNER, self.user), (GROUP, self.group), (TARGET, self.target), (LINK, self.link)):
            if value is not None:
                flags |= bit
                tail += text(value)
        if self.xattrs is not None:
            flags |= XATTRS
            tail += blob(varint(len(self.xattrs)) + b"".join(blob(name) + blob(value) for name, value in self.xattrs.items()))
        if self.hash is not None:
            flags |= HASH
            tail += varint(self.hash_part) + self.hash
        out = varint(self.deleted | self.stored << 1 | self.sparse << 2 | self.changed << 3) + varint(flags)
        out += varint(kept) + blob(self.path[kept:])
        out += b"".join(map(varint, (self.mode, self.uid, self.gid, self.nlink)))
        out += signed(self.mtime) + varint(self.mtime_ns) + signed(self.ctime) + varint(self.ctime_ns)
        out += b"".join(map(varint, (self.size, self.blocks, self.ino, self.dev, self.rdev))) + tail
        if self.stored:
            out += varint(self.header) + varint(self.content - self.header)
        return out


# ---- the index

def place(kind, where, stored, raw, count):
    return {"kind": kind, "where": where, "stored": len(stored), "raw": len(raw), "sum": hashlib.sha256(stored).digest(),
            "count": count}


class Index:
    """footer: the JSON object; entries; members: lengths; blocks: of the table, as they lie there. fixed: what write() shall
    say in the footer whatever is so."""

    fixed = {}

    @classmethod
    def read(cls, data):
        self = cls()
        where, length, zero, point, magic = struct.unpack("<QII32s8s", data[-56:])
        if data[:8] != MAGIC or magic != TAIL or zero or where + length != len(data) - 56:
            raise ValueError("no index")
        footer = data[where:where + length]
        if hashlib.sha256(footer).digest() != point:
            raise ValueError("the footer is damaged")
        self.hash, self.footer = point.hex(), json.loads(footer)
        table = self.footer["table"]
        stored = data[table["offset"]:table["offset"] + table["length"]]
        if hashlib.sha256(stored).hexdigest() != table["hash"] or table["offset"] + table["length"] != where:
            raise ValueError("the table is damaged")
        raw = zlib.decompress(stored)
        if len(raw) != table["rawLength"]:
            raise ValueError("the table is another one")
        self.blocks, self.entries, self.members = [], [], []
        reader, at = Reader(raw), len(MAGIC)
        while not reader.done:
            at = self._block(reader, data, at)
        if at != table["offset"]:
            raise ValueError("a gap")
        return self

    def _block(self, reader, data, at):
        block = dict(zip(("kind", "where", "stored", "raw"), (reader.varint() for _ in range(4))))
        block["sum"], block["count"] = reader.take(32), reader.varint()
        content = data[block["where"]:block["where"] + block["stored"]]
        if block["where"] != at or hashlib.sha256(content).digest() != block["sum"]:
            raise ValueError("a block is damaged")
        inner = Reader(zlib.decompress(content))
        if len(inner.data) != block["raw"]:
            raise ValueError("a block is another one")
        if block["kind"] == 1:
            directory, path, before = reader.varint(), reader.text(), b""
            for number in range(block["count"]):
                entry = Entry.read(inner, before)
                if number == 0 and (entry.path != path or entry.directory != bool(directory)):
                    raise ValueError("a block begins otherwise than the table says")
                if self.entries and self.entries[-1].order > entry.order:
                    raise ValueError("not sorted")
                self.entries.append(entry)
                before = entry.path
        else:
            block["first"], block["volume"], block["at"] = (reader.varint() for _ in range(3))
            if block["first"] != len(self.members):
                raise ValueError("members are missing")
            self.members += [inner.varint() for _ in range(block["count"])]
        if not inner.done:
            raise ValueError("more in a block than the table says")
        self.blocks.append(block)
        return at + block["stored"]

    def write(self):
        """The bytes of an index with these entries, members and footer; what can be counted is set."""
        out, table = bytearray(MAGIC), b""
        packed, raw, before = b"", b"", b""
        if self.entries:
            for entry in self.entries:
                raw += entry.write(before)
                before = entry.path
            packed = zlib.compress(raw)
            first = self.entries[0]
            table += b"".join(map(varint, (1, len(out), len(packed), len(raw)))) + hashlib.sha256(packed).digest()
            table += varint(len(self.entries)) + varint(int(first.directory)) + text(first.path)
            out += packed
        if self.members:
            raw = b"".join(map(varint, self.members))
            packed = zlib.compress(raw)
            table += b"".join(map(varint, (2, len(out), len(packed), len(raw)))) + hashlib.sha256(packed).digest()
            table += b"".join(map(varint, (len(self.members), 0, 0, 0)))
            out += packed
        packed = zlib.compress(table)
        self.footer["table"] = {"offset": len(out), "length": len(packed), "rawLength": len(table),
                                "hash": hashlib.sha256(packed).hexdigest()}
        self.footer["entries"] = len(self.entries)
        self.footer["deletions"] = sum(entry.deleted for entry in self.entries)
        self.footer["members"] = len(self.members)
        self.footer.update(self.fixed)
        footer = json.dumps(self.footer, separators=(",", ":")).encode() + b"\n"
        out += packed
        return bytes(out) + footer + struct.pack("<QII", len(out), len(footer), 0) + hashlib.sha256(footer).digest() + TAIL
