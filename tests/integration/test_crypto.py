#!/usr/bin/env python3
"""What docs/formats/encryption.md says is true: another implementation, written from it, reads and writes the same.

It stands on Python's hashlib and on the AES-GCM, AES-CTR and AES-CMAC of python3-cryptography; streams, names and the
record of the key are put together here by hand.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import random
import re
import subprocess
import sys

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.cmac import CMAC
except ImportError as why:
    print(f"skip crypto: {why} (the package python3-cryptography)")
    sys.exit(77)

TOOL = os.environ.get("CRYPTO_TOOL", "crypto-tool")
MASTER = bytes(range(7, 39))
SEGMENT, HEADER, TAG = 1 << 20, 40, 16
SIZES = [0, 1, 1000, SEGMENT - 57, SEGMENT - 56, SEGMENT - 55, 2 * SEGMENT - 72, 2 * SEGMENT - 71, 3 * SEGMENT + 12345]
NAMES = ["a", "b", "photos", "photos/2024", "photos/2024/a picture.jpg", "photos/2024/\u00fcber.txt", "x" * 143,
         "fifteen bytes..", "sixteen bytes...", "seventeen bytes..", "/".join("abcdefgh"), "a\\b", "..."]


def tool(operation, argument="", data=b"", fails=False):
    """Standard output of the tool; with fails, its error."""
    environment = {**os.environ, "BACKUP_ENCRYPTION_KEY": base64.b64encode(MASTER).decode()}
    done = subprocess.run([TOOL, operation, argument], input=data, capture_output=True, timeout=60, env=environment)
    assert (done.returncode != 0) == fails, f"{operation}: code {done.returncode}: {done.stderr.decode()}"
    return done.stderr.decode() if fails else done.stdout


def hkdf(key, salt, info, length):
    first = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    out = block = b""
    for number in range(1, (length + 31) // 32 + 1):
        block = hmac.new(first, block + info + bytes([number]), hashlib.sha256).digest()
        out += block
    return out[:length]


def nonce(prefix, number, last):
    return prefix + number.to_bytes(4, "big") + bytes([last])


def stream_encrypt(associated, salt, prefix, plain, master=MASTER):
    cipher = AESGCM(hkdf(hkdf(master, b"", b"backapp content 1", 32), salt, associated, 32))
    pieces, at = [plain[: SEGMENT - HEADER - TAG]], SEGMENT - HEADER - TAG
    while at < len(plain):
        pieces.append(plain[at : at + SEGMENT - TAG])
        at += SEGMENT - TAG
    out = bytes([HEADER]) + salt + prefix
    for number, piece in enumerate(pieces):
        out += cipher.encrypt(nonce(prefix, number, number == len(pieces) - 1), piece, None)
    return out


def stream_decrypt(associated, data):
    assert data[0] == HEADER, data[0]
    salt, prefix = data[1:33], data[33:40]
    cipher = AESGCM(hkdf(hkdf(MASTER, b"", b"backapp content 1", 32), salt, associated, 32))
    count = (len(data) + SEGMENT - 1) // SEGMENT
    out = b""
    for number in range(count):
        piece = data[max(number * SEGMENT, HEADER) : (number + 1) * SEGMENT]
        out += cipher.decrypt(nonce(prefix, number, number == count - 1), piece, None)
    return out


def cmac(key, data):
    state = CMAC(algorithms.AES(key))
    state.update(data)
    return state.finalize()


def double(block):
    number = int.from_bytes(block, "big") << 1
    return ((number ^ 0x87) & ((1 << 128) - 1) if number >> 128 else number).to_bytes(16, "big")


def xor(one, two):
    return bytes(a ^ b for a, b in zip(one, two))


def siv(key, associated, plain):
    """RFC 5297 for one associated datum."""
    mac_key, counter_key = key[:32], key[32:]
    block = xor(double(cmac(mac_key, bytes(16))), cmac(mac_key, associated))
    if len(plain) >= 16:
        last = plain[:-16] + xor(plain[-16:], block)
    else:
        last = xor(double(block), plain + b"\x80" + bytes(15 - len(plain)))
    tag = cmac(mac_key, last)
    counter = bytearray(tag)
    counter[8] &= 0x7F
    counter[12] &= 0x7F
    state = Cipher(algorithms.AES(counter_key), modes.CTR(bytes(counter))).encryptor()
    return tag + state.update(plain) + state.finalize()


def base32(data):
    """Base32hex in lower case without padding."""
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join("0123456789abcdefghijklmnopqrstuv"[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def encrypt_name(path, master=MASTER):
    key = hkdf(master, b"", b"backapp names 1", 64)
    out = []
    for segment in path.split("/"):
        folder = "/" + "".join(done + "/" for done in out)
        out.append(base32(siv(key, folder.encode(), segment.encode())))
    return "/".join(out)


def test_streams_are_read():
    for size in SIZES:
        plain = random.Random(size).randbytes(size)
        data = tool("encrypt", "volume 1", plain)
        assert len(data) == HEADER + size + TAG * max(1, -(-(size + HEADER) // (SEGMENT - TAG))), size
        assert stream_decrypt(b"volume 1", data) == plain, size
        try:
            stream_decrypt(b"volume 2", data)
            raise AssertionError("other associated data did not matter")
        except InvalidTag:
            pass


def test_streams_are_written():
    for size in SIZES:
        plain = random.Random(size).randbytes(size)
        data = stream_encrypt(b"role data", os.urandom(32), os.urandom(7), plain)
        assert tool("decrypt", "role data", data) == plain, size


def test_damage_is_found():
    plain = random.Random(1).randbytes(2 * SEGMENT)
    data = stream_encrypt(b"", bytes(32), bytes(7), plain)
    for cut in (0, 1, 39, 40, 56, SEGMENT, SEGMENT + 1, 2 * SEGMENT, len(data) - 1):
        assert tool("decrypt", "", data[:cut], fails=True).startswith("CORRUPT: "), cut
    for at in (0, 1, 39, 40, SEGMENT - 1, SEGMENT, 2 * SEGMENT + 5, len(data) - 1):
        changed = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        message = tool("decrypt", "", changed, fails=True)
        assert message.startswith("CORRUPT: ") and (at == 0 or f"segment {at // SEGMENT} " in message), message
    assert tool("decrypt", "", data + b"x", fails=True).startswith("CORRUPT: ")


def test_names():
    encrypted = tool("names", "", "".join(name + "\n" for name in NAMES).encode()).decode().splitlines()
    assert encrypted == [encrypt_name(name) for name in NAMES]
    plain = tool("plain-names", "", "".join(name + "\n" for name in encrypted).encode()).decode().splitlines()
    assert plain == NAMES


def test_record_of_the_key_is_read():
    record = json.loads(tool("wrap", "", "correct horse\n".encode()))
    assert (record["format"], record["version"], record["kdf"]) == ("backapp key", 1, "scrypt"), record
    salt, sealed_nonce, sealed = (base64.b64decode(record[name], validate=True) for name in ("salt", "nonce", "key"))
    cost = {"n": 1 << record["log2N"], "r": record["r"], "p": record["p"], "maxmem": 1 << 28}
    outer = hashlib.scrypt(b"correct horse", salt=salt, dklen=32, **cost)
    bound = f"backapp key 1 scrypt {record['log2N']} {record['r']} {record['p']}"
    assert AESGCM(outer).decrypt(sealed_nonce, sealed, bound.encode()) == MASTER
    whole = " ".join([bound, record["salt"], record["nonce"], record["key"]])
    assert record["sum"] == hashlib.sha256(whole.encode()).hexdigest()


def test_record_of_the_key_is_written():
    salt, sealed_nonce, inner = os.urandom(32), os.urandom(12), os.urandom(32)
    bound = "backapp key 1 scrypt 10 8 2"
    outer = hashlib.scrypt("pass \u00fc".encode(), salt=salt, n=1 << 10, r=8, p=2, dklen=32)
    sealed = AESGCM(outer).encrypt(sealed_nonce, inner, bound.encode())
    texts = [base64.b64encode(part).decode() for part in (salt, sealed_nonce, sealed)]
    record = {"format": "backapp key", "version": 1, "kdf": "scrypt", "log2N": 10, "r": 8, "p": 2}
    record.update(zip(("salt", "nonce", "key"), texts), sum=hashlib.sha256(" ".join([bound, *texts]).encode()).hexdigest())
    assert base64.b64decode(tool("unwrap", json.dumps(record), "pass \u00fc\n".encode())) == inner
    assert tool("unwrap", json.dumps(record), b"another\n", fails=True) == "DENIED: wrong passphrase\n"
    record["p"] = 3
    assert tool("unwrap", json.dumps(record), "pass \u00fc\n".encode(), fails=True).startswith("CORRUPT: ")


def test_example_of_the_page():
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs/formats/encryption.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.split("## Example")[1].splitlines() if line.startswith("|")]
    written = ["".join(re.findall(r"`(.*?)`", row[2])) for row in rows[2:]]
    master = bytes(range(32))
    stream = stream_encrypt(b"test 1", bytes(range(0x40, 0x60)), bytes(range(0x60, 0x67)), b"BackApp", master)
    keys = [hkdf(master, b"", b"backapp content 1", 32).hex(), hkdf(master, b"", b"backapp names 1", 64).hex()]
    assert written == [*keys, encrypt_name("photos/a.jpg", master), stream.hex()], written


def main():
    failed = False
    if not os.access(TOOL, os.X_OK):
        print("not ok crypto/tool: name the program crypto-tool of the build in CRYPTO_TOOL")
        return 1
    for name, case in list(globals().items()):
        if not name.startswith("test_"):
            continue
        title = f"crypto/{name.removeprefix('test_')}"
        try:
            case()
            print(f"ok {title}", flush=True)
        except Exception as why:  # a broken case must not hide the others
            failed = True
            print(f"not ok {title}: {type(why).__name__}: {ascii(' '.join(str(why).split()))[:500]}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
