"""The checksums that S3 knows, as the double computes them: base64 of the big-endian sum."""

import base64
import ctypes
import hashlib
import zlib

ALGORITHMS = ("CRC32", "CRC32C", "SHA1", "SHA256")


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()


def _slow_crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _fast_crc32c():
    """From the library of the ext file systems where it is installed: in Python a part of 5 MiB would take a second."""
    try:
        function = ctypes.CDLL("libext2fs.so.2").ext2fs_crc32c_le
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_size_t], ctypes.c_uint32
    return lambda data: function(0xFFFFFFFF, bytes(data), len(data)) ^ 0xFFFFFFFF


crc32c = _fast_crc32c() or _slow_crc32c
assert crc32c(b"123456789") == 0xE3069283 == _slow_crc32c(b"123456789")


def digest(algorithm, data):
    """The raw sum."""
    if algorithm == "CRC32":
        return zlib.crc32(data).to_bytes(4, "big")
    if algorithm == "CRC32C":
        return crc32c(data).to_bytes(4, "big")
    return hashlib.new(algorithm.lower(), data).digest()


def encoded(algorithm, data):
    return base64.b64encode(digest(algorithm, data)).decode()


def composite(algorithm, sums):
    """Of an object in parts: the sum of the parts' sums and their number. sums: as encoded() gives them."""
    return f"{encoded(algorithm, b''.join(base64.b64decode(one) for one in sums))}-{len(sums)}"
