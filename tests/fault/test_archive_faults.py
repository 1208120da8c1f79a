#!/usr/bin/env python3
"""Archives in a store that fails, with keys that are wrong, and with bits that flipped.

  store: each kind of request hit by resets, answers of errors, cut and changed answers; a full bucket, a full disk, a
         gateway that is killed. A run ends right or with one clear error, and never leaves a point that does not restore.
  keys:  a wrong key, a wrong passphrase, none: a clear message, nothing restored, nothing archived.
  flips: a byte changed at every kind of place, objects cut, lengthened and exchanged: found and named by verify --full; a
         restore gives all that is not hit, names the rest, and never a wrong content.

test_archive_faults.py [--part store|keys|flips] [WORD]..."""

import functools
import base64
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from archive_scene import KEY, NAME, OTHER_KEY, ArchiveScene
from s3_scene import LONG, Skip, clear_error, completed, contents, run_all, same, snapshot

import archive_format as form
from fault_rules import Rule, internal_error, slow_down

PUTS = ("PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload")
READS = ("GetObject", "HeadObject", "ListObjectsV2")


# ---- store

def scene_with_point(**how):
    scene = ArchiveScene(**how)
    try:
        scene.first()
        scene.earlier = {scene.points()[0][0]: scene.old}
        scene.new_state()
    except BaseException:
        scene.__exit__()
        raise
    return scene


def judge(scene, run, strict):
    """The run under faults was right, or there is one clear error, and the next one is right."""
    scene.proxy.replace()
    if strict or run.code == 0:
        completed(run)
        if scene.uploads():  # begun, but the answer was lost: it goes with the next run
            scene.earlier[scene.points()[0][-1]] = snapshot(scene.src)
            run = completed(scene.create(direct=True))
        scene.check_new(list(scene.earlier), run)
    else:
        clear_error(run)
        scene.judge_archive(scene.earlier)


def created_under(rules, strict=True, needed=1):
    with scene_with_point() as scene:
        scene.proxy.replace(*rules)
        run = scene.create()
        fired = sum(rule.fired > 0 for rule in rules)
        assert fired >= needed, f"only {fired} of {rules} were hit"
        judge(scene, run, strict)


def restored_under(rules, strict=True):
    """A restore of both points: right, or what is there is right and the rest follows."""
    with scene_with_point() as scene:
        completed(scene.create(direct=True))
        newest = snapshot(scene.src)
        scene.proxy.replace(*rules)
        run = scene.restore()
        assert any(rule.fired for rule in rules), f"none of {rules} was hit"
        if strict:
            completed(run)
        if run.code != 0:
            clear_error(run)
            found = contents(snapshot(scene.back)) if scene.back.exists() else {}
            for name, content in found.items():
                assert content == contents(newest).get(name), f"restored wrong: {name}"
            scene.proxy.replace()
            completed(scene.restore(direct=True))
        same(snapshot(scene.back), newest, "restored")


def each(action, kinds, count=1, **how):
    return [Rule(action, kind=kind, count=count, **how) for kind in kinds]


def resets(at, **how):
    created_under(each("reset", PUTS + READS if at != "request-body" else PUTS[:2], at=at, **how), needed=2)
    restored_under(each("reset", READS, at=at, **how) if at != "request-body" else each("reset", READS, at="request"))


def storms(make, **how):
    created_under([make(kind=kind, count=3, **how) for kind in PUTS + READS], needed=4)
    restored_under([make(kind=kind, count=3, **how) for kind in READS])


def for_ever():
    """A server that always fails: one clear error."""
    with scene_with_point() as scene:
        scene.proxy.replace(internal_error(kind="UploadPart"))
        run = scene.create()
        assert run.code == 1, f"{run}"
        judge(scene, run, False)


def cut_answers():
    created_under(each("truncate", ("GetObject", "ListObjectsV2", "CompleteMultipartUpload"), offset=None))
    restored_under(each("truncate", ("GetObject",), count=2, offset=None))


def changed_answers(offset):
    created_under(each("corrupt", ("GetObject", "ListObjectsV2"), offset=offset), strict=False)
    restored_under(each("corrupt", ("GetObject",), count=2, offset=offset), strict=False)


def changed_volumes():
    """What a restore reads of the volumes is changed on its way once: it is read again, or named."""
    restored_under([Rule("corrupt", kind="GetObject", path=r"vol000\d$", count=1, offset=1000)], strict=False)


def changed_uploads():
    created_under([Rule("corrupt", kind=kind, count=1, offset=None, request=True) for kind in ("UploadPart", "PutObject")])


def full_bucket():
    with scene_with_point() as scene:
        scene.server.set_quota(max_objects=len(scene.stored()) + 2)
        try:
            run = scene.create()
            clear_error(run, "quota|Quota|full|space")
        finally:
            scene.server.set_quota(enabled=False)
        scene.judge_archive(scene.earlier)


def gateway_killed():
    with scene_with_point() as scene:
        ended = threading.Event()

        def again():
            while scene.proxy.counts()["UploadPart"] < 2 and not ended.wait(0.01):
                pass
            scene.server.kill_gateway()
            time.sleep(0.5)
            scene.server.restart_gateway()
        scene.proxy.clear()
        watcher = threading.Thread(target=again)
        watcher.start()
        try:
            run = scene.create()
        finally:
            ended.set()
            watcher.join()
        judge(scene, run, strict=False)


def own_mounts(case):
    """Runs the case in a child with a mount name space of its own, which ends with it."""
    @functools.wraps(case)
    def wrapped():
        command = ["unshare", "--mount", "--propagation", "private"]
        probe = subprocess.run([*command, "true"], capture_output=True, timeout=60, check=False)
        if probe.returncode != 0:
            raise Skip("mounts of our own are not allowed here")
        with tempfile.TemporaryDirectory(prefix="backapp-cli-") as top:
            done = subprocess.run([*command, sys.executable, __file__, "--case", case.__name__], capture_output=True,
                                  text=True, timeout=240, check=False, env={**os.environ, "TMPDIR": top})
        line = (done.stdout + done.stderr).strip()
        if done.returncode == 77:
            raise Skip(line)
        assert done.returncode == 0, line
    wrapped.inner = case
    return wrapped


@own_mounts
def full_disk():
    """The disk of the store gets full in a first run, and in one with a point before it."""
    with ArchiveScene(bucket=False) as scene:
        scene.url.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=755", "tmpfs", scene.url]
        if subprocess.run(mount, capture_output=True, timeout=60, check=False).returncode != 0:
            raise Skip("no tmpfs can be mounted here")

        def resize(kib):
            subprocess.run(["mount", "-o", f"remount,size={kib}k", scene.url], timeout=60, check=True)
        clear_error(scene.create(), "space|full")
        resize(64 << 10)
        scene.judge_archive({})
        (point,), _ = scene.points()
        scene.new_state()
        used = sum(path.stat().st_size for path in scene.url.rglob("*") if path.is_file()) >> 10
        for more in (12 << 10, 14 << 10):
            resize(used + more)
            clear_error(scene.create(), "space|full")
            assert scene.points()[0] == [point], scene.points()
            scene.check_point(point, scene.old, "the earlier point on a full disk")
        resize(96 << 10)
        scene.judge_archive({point: scene.old})


@own_mounts
def full_state():
    """No room for what a run notes: an error or a note, never a wrong point."""
    with ArchiveScene(bucket=False) as scene:
        scene.state.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=4,mode=755", "tmpfs", scene.state]
        if subprocess.run(mount, capture_output=True, timeout=60, check=False).returncode != 0:
            raise Skip("no tmpfs can be mounted here")
        run = scene.create()
        if run.code != 0:
            clear_error(run)
        subprocess.run(["mount", "-o", "remount,size=8m,nr_inodes=400", scene.state], timeout=60, check=True)
        points, _ = scene.points()
        scene.judge_archive({point: scene.old for point in points})


# ---- keys

def fails(scene, *argv, words, code=1, **env):
    got, out, err = scene.run(*argv, env=env)
    assert got == code, f"{argv[:2]}: code {got}: {out} {err}"
    for word in words:
        assert any(part in out + err for part in word.split("|")), f"{argv[:2]}: {word!r} is not in {err!r}"
    for secret in [value for name, value in env.items() if name.startswith("BACKUP_")]:
        assert secret not in out + err, f"{argv[:2]} tells the secret"


def commands(scene):
    return (("ls", scene.url), ("verify", scene.url), ("verify", "--full", scene.url), ("archive", "find", scene.url, "a*"),
            ("drill", scene.url), ("restore", scene.url, "--to", scene.back), ("restore", scene.url, "--to-tar", scene.root / "t"))


def no_key_opens(scene, words, **env):
    before = scene.stored()
    for argv in commands(scene):
        fails(scene, *argv, words=words, **env)
    assert not scene.back.exists() or not os.listdir(scene.back), os.listdir(scene.back)
    for options in ([], ["--type", "full"], ["--type", "differential"]):
        fails(scene, "archive", "create", "--encrypt", "--name", NAME, *options, scene.url, scene.src, words=words, **env)
    after = {key: content for key, content in scene.stored().items() if not key.endswith("/lock")}
    assert after == {key: content for key, content in before.items() if not key.endswith("/lock")}, "something was archived"


def encrypted_scene(key):
    scene = ArchiveScene("--encrypt", bucket=False, big=False)
    scene.environment.update(key)
    return scene


def wrong_key():
    with encrypted_scene(KEY) as scene:
        scene.first()
        scene.new_state()
        for name in KEY:
            del scene.environment[name]
        no_key_opens(scene, ["key"], **OTHER_KEY)
        no_key_opens(scene, ["encrypted|BACKUP_"])
        for bad in ("banana", "AAAA", "A" * 44, OTHER_KEY["BACKUP_ENCRYPTION_KEY"] + "A"):
            got, _, err = scene.run("ls", scene.url, env={"BACKUP_ENCRYPTION_KEY": bad})
            assert got in (1, 2) and "encryption key" in err and bad not in err, f"{bad!r}: {err}"
        completed(scene.create(**KEY))
        completed(scene.restore(**KEY))
        same(snapshot(scene.back), scene.new, "restored with the key")


def wrong_passphrase():
    right, wrong = {"BACKUP_PASSPHRASE": "correct horse"}, {"BACKUP_PASSPHRASE": "wrong battery"}
    with encrypted_scene({}) as scene:
        scene.good("key", "create", scene.url, env=right)
        completed(scene.create(**right))
        scene.new_state()
        no_key_opens(scene, ["passphrase"], **wrong)
        no_key_opens(scene, ["passphrase|BACKUP_PASSPHRASE"])
        no_key_opens(scene, ["key"], **OTHER_KEY)
        completed(scene.create(**right))


def lost_key_record():
    """The record of the key is gone or damaged: nobody makes another one and goes on with it."""
    right = {"BACKUP_PASSPHRASE": "correct horse"}
    with encrypted_scene({}) as scene:
        scene.good("key", "create", scene.url, env=right)
        completed(scene.create(**right))
        (record,) = [path for path in scene.url.rglob("*") if path.parent.name == "keys" and path.is_file()]
        whole = record.read_bytes()
        for bad in (whole.replace(b'"version":1', b'"version":7').replace(b'"version": 1', b'"version": 7'), whole[:40], b"",
                    whole.replace(b"scrypt", b"bcrypt"), whole[:-20] + b"0" * 8 + whole[-12:], None):
            if bad is None:
                record.unlink()
            else:
                assert bad != whole
                record.write_bytes(bad)
            for argv in commands(scene)[:2] + (("archive", "create", "--encrypt", "--name", NAME, scene.url, scene.src),):
                fails(scene, *argv, words=["key"], **right)
        assert len(scene.points_unread()) == 1


# ---- flips

FILE_BYTES = 700_000


class Flipped(ArchiveScene):
    """A store with one archive of eighteen files in two volumes, of which copies are damaged."""

    def __init__(self, kind, **how):
        options = {"gzip": [], "zstd": ["--zstd"], "plain": ["--no-compress"], "aes": ["--no-compress"]}[kind]
        super().__init__(bucket=False, big=False, key=KEY if kind == "aes" else None, **how)
        self.options = ["--volume-size", "8M", *options, *(["--encrypt"] if kind == "aes" else [])]
        self.kind, self.key = kind, KEY if kind == "aes" else {}
        shutil.rmtree(self.src)
        self.src.mkdir()
        for number in range(18):
            self.write(f"f{number:02d}", self.random.randbytes(FILE_BYTES))
        completed(self.create())
        (self.base,), _ = self.points()
        self.wanted = contents(snapshot(self.src))
        self.original = self.root / "original"
        os.rename(self.url, self.original)
        self.index = form.Index.read(self.content(self.base + ".index", 0, "index"))

    def content(self, key, volume, role):
        data = (self.original / NAME / key).read_bytes()
        if self.kind != "aes":
            return data
        master = base64.b64decode(KEY["BACKUP_ENCRYPTION_KEY"])
        return form.unseal(form.content_key(master), form.associated(NAME, self.base, volume, role), data)

    def volume(self, number):
        return f"{self.base}.vol{number:04d}"

    def check(self, what, objects, *, index=False, quick=False, unread=False,
              any_number=False):
        """objects: {key: its new bytes, or None}. index: nothing can be restored; quick: a look at the list must find it; unread:
        it hits what a restore does not read; any_number: of files may be lost."""
        shutil.rmtree(self.url, ignore_errors=True)
        shutil.copytree(self.original, self.url, copy_function=os.link)
        for key, data in objects.items():
            path = self.url / NAME / key
            path.unlink()
            if data is not None:
                path.write_bytes(data)
        code, out, err = self.run("verify", "--full", self.url)
        assert code == 1 and err.strip(), f"{what}: verify --full: code {code}: {out} {err}"
        if quick:
            code, out, err = self.run("verify", self.url)
            assert code == 1 and err.strip(), f"{what}: verify: code {code}: {out} {err}"
        shutil.rmtree(self.back, ignore_errors=True)
        code, out, err = self.run("restore", self.url, "--to", self.back)
        found = contents(snapshot(self.back)) if self.back.exists() else {}
        for name, content in found.items():
            assert content == self.wanted.get(name), f"{what}: restored wrong: {name}"
        missing = self.wanted.keys() - found.keys()
        if index:
            assert code in (1, 3) and not found, f"{what}: code {code}: {found.keys()} {err}"
        elif unread:
            assert code == 0 and not missing, f"{what}: code {code}: {missing} {err}"
        else:
            assert code == (3 if missing else 0), f"{what}: code {code}, {len(missing)} are missing: {err}"
            assert any_number or (missing and found), f"{what}: {len(missing)} are missing: {err}"
            for name in missing:
                assert name in err, f"{what}: {name} is missing, and nobody says so: {err}"
        return missing

    def flip(self, what, key, at, **how):
        data = bytearray((self.original / NAME / key).read_bytes())
        data[at] ^= 0x10
        return self.check(f"{self.kind}, {what}", {key: bytes(data)}, **how)


def flips_in_members(kind):
    with Flipped(kind) as scene:
        first, second = scene.index.members[:2]
        places = {"header": 1 if kind == "zstd" else 0, "body": first // 2, "checksum": first - 6}
        if LONG:
            places.update({"flags": 3, "early": 30, "end": first - 1, "late": first - 30})
        for what, at in places.items():
            # The second member: one that has files before and behind it.
            missing = scene.flip(what, scene.volume(1), first + min(at, second - 1))
            assert len(missing) <= 3, f"{what}: a member of {scene.index.footer['members']} cost {sorted(missing)}"
        scene.flip("last volume", scene.volume(2), 100_000)


def flips_in_a_plain_tar():
    with Flipped("plain") as scene:
        entry = next(entry for entry in scene.index.entries if entry.path == b"f03")
        assert scene.flip("content", scene.volume(1), entry.content + 5000) == {"f03"}
        # A restore goes by the index.
        scene.flip("name in a header", scene.volume(1), entry.content - 512 + 2, unread=True)
        scene.flip("pax header", scene.volume(1), entry.header + 520, unread=True)
        scene.flip("padding", scene.volume(1), entry.content + FILE_BYTES + 3, unread=True)


def flips_in_streams():
    with Flipped("aes") as scene:
        size = (scene.original / NAME / scene.volume(1)).stat().st_size
        segment = form.SEGMENT
        for what, at in (("body", 2 * segment + 1000), ("tag", 3 * segment - 1), ("last tag", size - 1)):
            missing = scene.flip(what, scene.volume(1), at)
            assert len(missing) <= 5, f"{what} cost {sorted(missing)}"
        for what, at in (("length", 0), ("salt", 5), ("prefix", 35)):
            scene.flip(what, scene.volume(1), at)
        index = scene.base + ".index"
        for what, at in (("length", 0), ("salt", 5), ("prefix", 36), ("body", 100), ("tag", -1)):
            scene.flip("index: " + what, index, at, index=True, quick=True)


def flips_in_the_index():
    with Flipped("gzip") as scene:
        index = scene.base + ".index"
        data = (scene.original / NAME / index).read_bytes()
        table = scene.index.footer["table"]
        entries, members = ([block for block in scene.index.blocks if block["kind"] == kind][0] for kind in (1, 2))
        places = {"magic": 2, "entries": entries["where"] + entries["stored"] // 2, "members": members["where"] + 3,
                  "table": table["offset"] + 5, "footer": table["offset"] + table["length"] + 40, "tail: place": len(data) - 55,
                  "tail: length": len(data) - 47, "tail: zero": len(data) - 43, "tail: hash": len(data) - 20, "tail: magic": -1}
        for what, at in places.items():
            scene.flip(what, index, at, index=True, quick=True)
        for what, bad in (("empty", b""), ("cut", data[:-1]), ("half", data[:len(data) // 2]), ("longer", data + b"x"),
                          ("zeros", bytes(len(data)))):
            scene.check(f"index: {what}", {index: bad}, index=True, quick=True)


def exchanged(kind):
    with Flipped(kind) as scene:
        one, two = ((scene.original / NAME / scene.volume(number)).read_bytes() for number in (1, 2))
        for what, objects in (("cut by one", {scene.volume(1): one[:-1]}), ("cut in half", {scene.volume(1): one[:len(one) // 2]}),
                              ("longer", {scene.volume(1): one + b"x"}), ("gone", {scene.volume(2): None}),
                              ("swapped", {scene.volume(1): two, scene.volume(2): one}), ("doubled", {scene.volume(2): one})):
            # More than what is needed is not looked at; of two volumes that are exchanged nothing is left.
            scene.check(f"{kind}, {what}", objects, quick=what != "swapped" or len(one) != len(two), any_number=True)


def of_another_archive(kind):
    """A volume of the same length that belongs to another archive of the same key."""
    with Flipped(kind) as scene:
        with Flipped(kind, seed=2) as other:
            stranger = (other.original / NAME / other.volume(1)).read_bytes()
            index = (other.original / NAME / (other.base + ".index")).read_bytes()
            assert len(stranger) == (scene.original / NAME / scene.volume(1)).stat().st_size
            scene.check(f"{kind}, of another archive", {scene.volume(1): stranger})
            if other.base != scene.base:  # made in another second
                scene.check(f"{kind}, index of another archive", {scene.base + ".index": index}, index=True, quick=True)


PARTS = {
    "store": [
        *((f"reset_{at.replace('-', '_')}", resets, at) for at in ("request-body", "before-headers", "headers")),
        ("reset_last_byte", lambda: resets("body", offset=-1)), ("storm_500", storms, internal_error),
        ("storm_503", storms, slow_down), ("for_ever", for_ever), ("cut_answers", cut_answers),
        ("changed_answers", changed_answers, None), ("changed_volumes", changed_volumes), ("changed_uploads", changed_uploads),
        ("full_disk", full_disk), ("full_state", full_state),
    ],
    "keys": [("wrong_key", wrong_key), ("wrong_passphrase", wrong_passphrase), ("lost_record", lost_key_record)],
    "flips": [
        *((f"members_{kind}", flips_in_members, kind) for kind in ("gzip", "zstd")), ("plain_tar", flips_in_a_plain_tar),
        ("streams", flips_in_streams), ("index", flips_in_the_index), ("exchanged_gzip", exchanged, "gzip"),
        ("exchanged_aes", exchanged, "aes"), ("other_aes", of_another_archive, "aes"), ("other_plain", of_another_archive, "plain"),
    ],
}
ALONE = {"store": [("full_bucket", full_bucket), ("gateway_killed", gateway_killed)]}


def main():
    if sys.argv[1:2] == ["--case"]:
        globals()[sys.argv[2]].inner()
        return 0
    parts = list(PARTS)
    if sys.argv[1:2] == ["--part"]:
        parts = [sys.argv[2]]
        del sys.argv[1:3]
    return max((run_all(f"archive_faults/{part}", PARTS[part], ALONE.get(part, ())) for part in parts), default=0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as why:
        if type(why).__name__ != "Skip":
            raise
        print(f"skip archive_faults: {why}", flush=True)
        sys.exit(77)
