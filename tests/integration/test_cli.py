#!/usr/bin/env python3
"""The command line from outside: wrong input, every option, what is shown and how it ends."""

import os
import pathlib
import shutil
import stat
import subprocess
import sys
import time

from cli_tools import (
    BACKAPP,
    Place,
    Skip,
    as_nobody,
    children,
    end,
    events,
    everything,
    own_mounts,
    run_module,
    set_xattr,
    text,
    tree,
    wait_for_text,
)

LONG = "x" * 5000

# Arguments (SRC and DST stand for the folders of the place) and a part of what is said; the exit code is 2.
USAGE_ERRORS = [
    ([], "a command is missing"),
    (["miror"], "did you mean 'mirror'?"),
    (["\033[2J"], "there is no command '\\x1B[2J'"),
    (["help", "miror"], "did you mean 'mirror'?"),
    (["version", "x"], "takes no operands"),
    (["worker", "x"], "takes no operands"),
    (["mirror"], "needs a SOURCE and a DEST"),
    (["mirror", "SRC"], "DEST is missing"),
    (["mirror", "", "DST"], "a SOURCE is empty"),
    (["mirror", "SRC", ""], "DEST is empty"),
    (["mirror", "--exlude", "x", "SRC", "DST"], "unknown option --exlude: did you mean --exclude?"),
    (["mirror", "-q", "SRC", "DST"], "unknown option -q"),
    (["mirror", "--delete=1", "SRC", "DST"], "--delete takes no value"),
    (["mirror", "SRC", "DST", "--exclude"], "--exclude needs a value: --exclude PATTERN"),
    (["mirror", "--exclude", "", "SRC", "DST"], "the pattern of --exclude is empty"),
    (["mirror", "--include", LONG, "SRC", "DST"], "a pattern of --include is too long"),
    (["mirror", "--jobs", "many", "SRC", "DST"], "--jobs must be a whole number from 1 to 256, not 'many'"),
    (["mirror", "--max-delete", "101", "SRC", "DST"], "--max-delete must be a whole number from 0 to 100"),
    (["mirror", "--keep-versions", "week", "SRC", "DST"], "DAYS of --keep-versions"),
    (["mirror", "--keep-versions", "7,-1", "SRC", "DST"], "COUNT of --keep-versions"),
    (["mirror", "--keep-versions", "0", "SRC", "DST"], "--keep-versions needs a number of days"),
    (["mirror", "--bwlimit", "fast", "SRC", "DST"], "--bwlimit must be a whole number"),
    (["mirror", "--nice", "20", "SRC", "DST"], "--nice must be a whole number from 0 to 19"),
    (["mirror", "--ionice", "high", "SRC", "DST"], "--ionice must be idle or best-effort"),
    (["mirror", "--engine", "cp", "SRC", "DST"], "--engine must be native or rsync"),
    (["mirror", "--exclude-larger-than", "huge", "SRC", "DST"], "'huge' is not a size"),
    (["mirror", "--exclude-if-present", "a/b", "SRC", "DST"], "without a slash"),
    (["mirror", "--confirm", "yes", "SRC", "DST"], "--confirm needs the hash"),
    (["mirror", "--engine", "native", "SRC", "host:DST"], "needs --engine rsync"),
    (["mirror", "--recover"], "--recover needs the destination"),
    (["mirror", "--recover", "SRC", "DST"], "takes only DEST and no sources"),
    (["mirror", "--recover", "--delete", "DST"], "--recover cannot be combined with --delete"),
    (["verify"], "verify needs one destination"),
    (["verify", ""], "DEST is empty"),
    (["verify", "SRC", "DST"], "verify needs one destination"),
    (["verify", "--delete", "DST"], "unknown option --delete"),
]


def test_usage_errors():
    with Place() as place:
        names = {"SRC": str(place.src), "DST": str(place.dst), "host:DST": f"host:{place.dst}"}
        for argv, part in USAGE_ERRORS:
            code, out, err = place.run(*(names.get(word, word) for word in argv))
            assert code == 2, f"{argv}: code {code}"
            assert out == "" and err.startswith("backapp: ") and part in err, f"{argv}: {err!r}"
            assert "\033" not in err
        assert not place.dst.exists() and not place.state.exists()


def refused(place, *argv, part, **options):
    """A run that is refused before anything is touched, with a message that says why."""
    before = everything(place.root)
    code, out, err = place.run(*argv, **options)
    assert code in (1, 4), f"{argv}: code {code}: {out}"
    assert part in err and err.startswith("backapp: "), f"{argv}: {err!r}"
    assert everything(place.root) == before, f"{argv}: something was touched"


def test_missing_source():
    with Place() as place:
        refused(place, "mirror", place.root / "nothing", place.dst, part=str(place.root / "nothing"))


def test_file_as_source():
    with Place() as place:
        place.fill(file="x")
        refused(place, "mirror", place.src / "file", place.dst, part=str(place.src / "file"))


def test_same_directory():
    with Place() as place:
        place.fill(file="x")
        refused(place, "mirror", place.src, place.src, part=str(place.src))
        (place.root / "link").symlink_to(place.src)
        refused(place, "mirror", place.src, place.root / "link", part=str(place.src))


def test_source_inside_destination():
    with Place() as place:
        place.fill(sub__file="x")
        refused(place, "mirror", place.src / "sub", place.src, part=str(place.src / "sub"))


def test_destination_inside_source():
    with Place() as place:
        place.fill(sub__file="x")
        refused(place, "mirror", place.src, place.src / "sub", part=str(place.src / "sub"))
        refused(place, "mirror", place.src, place.src / "new", part=str(place.src / "new"))


def test_file_as_destination():
    with Place() as place:
        place.fill(file="x")
        place.dst.write_text("precious")
        refused(place, "mirror", place.src, place.dst, part=str(place.dst))
        refused(place, "verify", place.dst, part=str(place.dst))
        refused(place, "mirror", "--recover", place.dst, part=str(place.dst))


def test_no_mirror_there():
    with Place() as place:
        refused(place, "verify", place.src, part=str(place.src))
        refused(place, "mirror", "--recover", place.src, part=str(place.src))
        refused(place, "verify", place.dst, part=str(place.dst))


def test_parent_of_destination_missing():
    with Place() as place:
        place.fill(file="x")
        refused(place, "mirror", place.src, place.root / "a" / "b", part=str(place.root / "a"))


def test_destination_without_permission():
    user = as_nobody()
    with Place() as place:
        place.fill(file="x")
        place.dst.mkdir(mode=0o555)
        place.dst.chmod(0o555)
        refused(place, "mirror", place.src, place.dst, part=str(place.dst), **user)


def test_read_only_file_system():
    with Place() as place:
        place.fill(file="x")
        place.dst.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(place.dst)]

        def mount_it():
            own_mounts()
            subprocess.run(mount, check=True, timeout=30)

        try:
            process = place.start("mirror", place.src, place.dst, preexec_fn=mount_it)
        except subprocess.SubprocessError:
            raise Skip("mounting is not allowed here") from None
        _, err = process.communicate(timeout=60)
        assert process.returncode in (1, 4) and str(place.dst) in text(err), text(err)
        assert "read-only" in text(err).lower(), text(err)


def test_one_source_and_several():
    with Place() as place:
        place.fill(file="x", sub__other="y")
        out = place.mirror()
        assert "completed in" in out and f"the mirror is in {place.dst}" in out, out
        assert tree(place.dst) == tree(place.src)
        second, both = place.root / "second", place.root / "both"
        second.mkdir()
        (second / "file").write_text("z")
        place.good("mirror", f"{place.src}/", "second", both, cwd=place.root)
        assert tree(both) == {
            **{"src": None, "second": None},
            **{f"src/{name}": value for name, value in tree(place.src).items()},
            **{f"second/{name}": value for name, value in tree(second).items()},
        }


def test_relative_names():
    with Place() as place:
        place.fill(file="x")
        place.good("mirror", ".", "../dst", cwd=place.src)
        assert tree(place.dst) == {"file": b"x"}
        place.good("mirror", "src", "./a:b", cwd=place.root)
        assert tree(place.root / "a:b") == {"file": b"x"}
        dashed = place.root / "-v"
        place.good("mirror", "--", "src", "-v", cwd=place.root)
        assert tree(dashed) == {"file": b"x"}


def test_delete():
    with Place() as place:
        place.fill(keep="x", gone="y")
        place.mirror()
        (place.src / "gone").unlink()
        assert "deleted 0" in place.mirror() and (place.dst / "gone").exists()
        assert "deleted 1" in place.mirror("--delete") and tree(place.dst) == {"keep": b"x"}


def test_exclude_and_include_in_order():
    with Place() as place:
        place.fill(a_c="1", b_c="2", c_o="3", keep_o="4")
        place.mirror("--include", "/keep.o", "--exclude=*.o", "--exclude", "b.*", "--include", "b.c")
        assert sorted(tree(place.dst)) == ["a.c", "keep.o"]


def test_checksum():
    with Place() as place:
        place.fill(file="one")
        place.mirror()
        info = (place.src / "file").stat()
        (place.src / "file").write_text("two")
        os.utime(place.src / "file", ns=(info.st_atime_ns, info.st_mtime_ns))
        place.mirror()
        assert (place.dst / "file").read_text() == "one"
        place.mirror("--checksum")
        assert (place.dst / "file").read_text() == "two"


def test_dry_run():
    with Place() as place:
        place.fill(same="s", old="o", meta="m", sub__a="a", sub__b="b")
        place.mirror()
        shutil.rmtree(place.src / "sub")
        (place.src / "old").write_text("changed")
        (place.src / "meta").chmod(0o700)
        (place.src / "new").write_bytes(b"n" * 2048)
        before = everything(place.root)
        out = place.mirror("--dry-run", "--delete")
        assert everything(place.root) == before
        for line in ("create   new (2.0 KiB)", "update   old (7 B)", "metadata meta", "delete   sub/ (3 entries)"):
            assert line in out.splitlines(), out
        assert "nothing was changed" in out and "would create 1, change 3, delete 3" in out, out


def test_keep_versions():
    with Place() as place:
        place.fill(file="old", gone="g")
        place.mirror("--keep-versions", "7,3")
        (place.src / "file").write_text("newer")
        (place.src / "gone").unlink()
        place.mirror("--delete", "--keep-versions=7,3")
        versions = list((place.dst / ".backapp" / "versions").iterdir())
        assert len(versions) == 1 and tree(versions[0]) == {"file": b"old", "gone": b"g"}


def test_inplace():
    with Place() as place:
        content = bytearray(os.urandom(4 << 20))
        place.fill(big=bytes(content))
        place.mirror("--inplace")
        content[1 << 20] ^= 0xFF
        place.fill(big=bytes(content))
        place.mirror("--inplace")
        assert tree(place.dst) == {"big": bytes(content)}


def test_no_hard_links():
    with Place() as place:
        place.fill(a="x")
        os.link(place.src / "a", place.src / "b")
        place.mirror()
        assert (place.dst / "a").stat().st_nlink == 2
        other = place.root / "other"
        place.good("mirror", "--no-hard-links", place.src, other)
        assert (other / "a").stat().st_nlink == 1 and tree(other) == {"a": b"x", "b": b"x"}


def test_no_xattrs():
    with Place() as place:
        place.fill(a="x")
        set_xattr(place.src / "a", "user.note", b"kept")
        place.mirror()
        if "user.note" not in os.listxattr(place.dst / "a"):
            raise Skip("the destination keeps no extended attributes")
        other = place.root / "other"
        place.good("mirror", "--no-xattrs", place.src, other)
        assert os.listxattr(other / "a") == []


def test_no_acls():
    if not shutil.which("setfacl"):
        raise Skip("setfacl is not installed")
    with Place() as place:
        place.fill(a="x")
        if subprocess.run(["setfacl", "-m", "u:12345:r", place.src / "a"], timeout=30, capture_output=True).returncode:
            raise Skip("no ACLs on this file system")
        place.mirror()
        assert "system.posix_acl_access" in os.listxattr(place.dst / "a")
        other = place.root / "other"
        place.good("mirror", "--no-acls", place.src, other)
        assert "system.posix_acl_access" not in os.listxattr(other / "a")


def test_one_file_system():
    with Place() as place:
        place.fill(file="x")
        (place.src / "mnt").mkdir()

        def mount_it():
            own_mounts()
            subprocess.run(["mount", "-t", "tmpfs", "none", str(place.src / "mnt")], check=True, timeout=30)
            (place.src / "mnt" / "other").write_text("y")

        try:
            place.good("mirror", "--one-file-system", place.src, place.dst, preexec_fn=mount_it)
        except subprocess.SubprocessError:
            raise Skip("mounting is not allowed here") from None
        assert tree(place.dst) == {"file": b"x", "mnt": None}
        place.good("mirror", place.src, place.dst, preexec_fn=mount_it)
        assert tree(place.dst) == {"file": b"x", "mnt": None, "mnt/other": b"y"}


def test_what_is_left_out():
    with Place() as place:
        place.fill(file="x", big=b"b" * 5000, marked__data="m", marked___nobackup="", cache__data="c")
        (place.src / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
        code, out, err = place.run(
            *("mirror", "--exclude-caches", "--exclude-if-present", ".nobackup", "--exclude-larger-than", "4K"),
            *(place.src, place.dst),
        )
        assert code == 0, err
        assert {name for name in tree(place.dst) if name.endswith(("data", "big", "file"))} == {"file"}, tree(place.dst)


def test_max_delete_confirm_and_force():
    with Place() as place:
        for i in range(200):
            (place.src / f"file{i}").write_text("x")
        place.mirror()
        for i in range(150):
            (place.src / f"file{i}").unlink()
        before = tree(place.dst)
        code, out, err = place.run("mirror", "--delete", place.src, place.dst)
        assert code == 4 and "refused" in err and "--confirm" in err and "--force" in err, err
        assert tree(place.dst) == before
        found = err.split("--confirm ")[1].split()[0].rstrip(".;,)")
        code, out, err = place.run("mirror", "--delete", "--confirm", "0" * len(found), place.src, place.dst)
        assert code == 4 and tree(place.dst) == before, err
        place.mirror("--delete", "--confirm", found)
        assert tree(place.dst) == tree(place.src)
        for i in range(150, 200):
            (place.src / f"file{i}").unlink()
        assert place.run("mirror", "--delete", place.src, place.dst)[0] == 4, "an emptied source"
        place.mirror("--delete", "--force")
        assert tree(place.dst) == {}


def test_max_delete_percent():
    with Place() as place:
        for i in range(300):
            (place.src / f"file{i}").write_text("x")
        place.mirror()
        for i in range(120):
            (place.src / f"file{i}").unlink()
        assert place.run("mirror", "--delete", "--max-delete", "20", place.src, place.dst)[0] == 4
        place.mirror("--delete", "--max-delete", "45")
        assert tree(place.dst) == tree(place.src)


def throttled(place, size, rate, *options, **more):
    """A run that takes some seconds, started, with its worker at the copying."""
    place.fill(big=os.urandom(size))
    process = place.start("mirror", "--bwlimit", str(rate), *options, place.src, place.dst, **more)
    return process


def test_limits_reach_the_worker():
    with Place() as place:
        process = throttled(place, 1 << 20, 256, "--nice", "7", "--ionice", "idle", "--jobs", "1")
        try:
            started = time.monotonic()
            wait_for_text(process, "copying")
            worker = children(process)[0]
            fields = pathlib.Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()
            assert int(fields[16]) == max(os.nice(0), 7), f"niceness {fields[16]}"
            if shutil.which("ionice"):
                shown = subprocess.run(["ionice", "-p", str(worker)], capture_output=True, text=True, timeout=30)
                assert "idle" in shown.stdout, shown.stdout
            assert process.wait(timeout=60) == 0
            # A bucket of a quarter of a second may pass at once; the rest of the four seconds has to be waited for.
            assert time.monotonic() - started > 2, "--bwlimit did not slow it down"
        finally:
            end(process)
        assert tree(place.dst) == tree(place.src)


def test_engine_rsync():
    if not shutil.which("rsync"):
        raise Skip("rsync is not installed")
    with Place() as place:
        place.fill(file="x", sub__other="y")
        code, out, err = place.run("mirror", "--engine", "rsync", place.src, place.dst)
        assert code == 0, err
        assert tree(place.dst) == tree(place.src)


def test_verify():
    with Place() as place:
        place.fill(a="one", b="two", c="three")
        out = place.mirror("--verify")
        assert "verified: 3 files are proven, 0 not yet proven, 0 damaged" in out, out
        out = place.good("verify", "--jobs", "2", place.dst)
        assert "3 equal to their recorded hash" in out and "0 damaged" in out, out
        info = (place.dst / "b").stat()
        with open(place.dst / "b", "r+") as file:
            file.write("TWO")
        os.utime(place.dst / "b", ns=(info.st_atime_ns, info.st_mtime_ns))
        code, out, err = place.run("verify", place.dst)
        assert code == 1 and "1 damaged" in out and "warning: b: " in err and "failed" in err, out + err
        found = events(place.run("verify", "--json", place.dst)[1])
        assert found[-1]["status"] == "failed", found


def test_verify_not_yet_proven():
    with Place() as place:
        place.fill(a="one", b="two")
        place.mirror()
        shutil.rmtree(place.src)
        code, out, _ = place.run("verify", place.dst)
        assert code == 0 and "NOT YET PROVEN: 2 files" in out, out


def test_recover_with_nothing_to_do():
    with Place() as place:
        place.fill(file="x")
        place.mirror()
        assert "there was nothing to complete" in place.good("mirror", "--recover", place.dst)
        assert tree(place.dst) == {"file": b"x"}


def test_partial():
    user = as_nobody()
    with Place() as place:
        place.fill(good="x", secret="y")
        (place.src / "secret").chmod(0)
        place.dst.mkdir(mode=0o777)
        place.dst.chmod(0o777)
        if not user:
            (place.src / "secret").chmod(0)
        elif os.geteuid() == 0:
            place.state.mkdir()
            os.chown(place.state, 65534, 65534)
        code, out, err = place.run("mirror", place.src, place.dst, **user)
        assert code == 3, err + out
        assert "warning: secret: " in err and "not all of the source could be read" in out, err + out
        assert (place.dst / "good").read_text() == "x" and not (place.dst / "secret").exists()


ODD_NAMES = [b"esc\033[31mred", b"title\033]0;owned\007", b"new\nline", b"bytes\xff\xfe", "bidi\u202eevil".encode(), b"back\\slash"]


def make_odd_names(place):
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(place.src), name), "wb") as file:
            file.write(b"x")


def assert_printable(shown):
    assert all(c.isprintable() or c == "\n" for c in shown), ascii(shown)


def test_odd_names_are_shown_safely():
    with Place() as place:
        make_odd_names(place)
        dry = place.mirror("--dry-run")
        verbose = place.mirror("-v")
        for shown in (dry, verbose):
            assert_printable(shown)
            for name in ("esc\\x1B[31mred", "new\\nline", "bytes\\xFF\\xFE", "back\\\\slash"):
                assert f"create   {name} (1 B)" in shown.splitlines(), ascii(shown)
        assert tree(place.dst) == tree(place.src)
        code, out, err = place.run("mirror", os.path.join(os.fsencode(place.src), b"\033[2J"), place.dst)
        assert code == 1 and "\\x1B[2J" in err
        assert_printable(err)


def test_odd_destination():
    with Place() as place:
        place.fill(file="x")
        odd = os.path.join(os.fsencode(place.root), b"d\xff\033[1m")
        code, out, err = place.run("mirror", place.src, odd)
        assert code == 0, err
        assert_printable(out + err)
        assert "d\\xFF\\x1B[1m" in out, ascii(out)
        assert tree(odd) == {"file": b"x"}
        assert place.run("mirror", place.src, odd)[0] == 0, "its identity is recorded and found again"


def test_json():
    with Place() as place:
        make_odd_names(place)
        code, out, err = place.run("mirror", "--json", "-v", place.src, place.dst)
        found = events(out)
        assert code == 0 and err == ""
        kinds = [event["type"] for event in found]
        assert kinds[0] == "stage" and kinds[-1] == "done" and kinds.count("done") == 1 and "summary" in kinds, kinds
        assert kinds.count("item") >= len(ODD_NAMES)
        assert found[-1]["status"] == "completed"
        summary = next(event for event in found if event["type"] == "summary")
        assert summary["stats"]["stage1"]["filesTransferred"] == len(ODD_NAMES), summary
        code, out, err = place.run("mirror", "--json", place.root / "nothing", place.dst)
        assert code == 1 and events(out)[-1]["status"] == "failed" and err == "", out + err


def test_plain_lines_in_a_pipe():
    with Place() as place:
        place.fill(file="x")
        out = place.mirror()
        assert_printable(out)
        lines = out.splitlines()
        assert lines[0].endswith(" ...") and any(line.startswith("completed in ") for line in lines), out
        assert "created 1, changed" in out or "created 2, changed" in out, out


def test_reader_that_goes_away():
    with Place() as place:
        for i in range(2000):
            (place.src / f"file{i}").write_text("x")
        process = place.start("mirror", "-v", place.src, place.dst)
        try:
            os.read(process.stdout.fileno(), 10)
            process.stdout.close()
            process.stdout = None
            assert process.wait(timeout=60) == 0
        finally:
            end(process)
        assert tree(place.dst) == tree(place.src)


def test_output_that_cannot_be_written():
    with Place() as place, open("/dev/full", "wb") as full:
        place.fill(file="x")
        for argv in (["version"], ["help"], ["help", "mirror"]):
            code, _, err = place.run(*argv, stdout=full)
            assert code == 1 and "standard output" in err, err
        assert place.run("mirror", place.src, place.dst, stdout=full)[0] == 0
        assert tree(place.dst) == tree(place.src)


def test_record_of_destinations():
    with Place() as place:
        place.fill(file="x")
        place.mirror("--dry-run")
        assert not place.state.exists()
        place.mirror()
        record = place.state / "backapp" / "destinations"
        lines = record.read_text().splitlines()
        assert lines[0] == "backapp destinations 1" and lines[1].endswith(f" {place.dst}") and len(lines) == 2, lines
        assert stat.S_IMODE(record.stat().st_mode) == 0o600
        assert lines[1].split()[0] in (place.dst / ".backapp-destination").read_text()


def test_another_drive_is_refused():
    with Place() as place:
        place.fill(file="x")
        place.mirror()
        place.dst.rename(place.root / "first")
        other = place.root / "elsewhere"
        place.good("mirror", place.src, other, env={"XDG_STATE_HOME": str(place.root / "state2")})
        other.rename(place.dst)
        (place.src / "file").write_text("newer")
        code, _, err = place.run("mirror", place.src, place.dst)
        assert code == 4 and "--force" in err and (place.dst / "file").read_text() == "x", err
        place.mirror("--force")
        place.mirror()


def test_absent_drive_is_refused():
    with Place() as place:
        place.fill(file="x")
        place.dst.mkdir()
        place.mirror()
        place.dst.rename(place.root / "unplugged")
        place.dst.mkdir()
        code, _, err = place.run("mirror", place.src, place.dst)
        assert code == 4 and list(place.dst.iterdir()) == [], err


def test_record_that_cannot_be_written():
    with Place() as place:
        place.fill(file="x")
        place.state.write_text("a file where a folder should be")
        code, out, err = place.run("mirror", place.src, place.dst)
        assert code == 0 and "completed" in out and err.count("warning: the record of known destinations") >= 1, err


def test_state_without_home():
    with Place() as place:
        place.fill(file="x")
        place.environment.pop("XDG_STATE_HOME")
        place.mirror()
        assert (place.root / ".local" / "state" / "backapp" / "destinations").exists()


if __name__ == "__main__":
    run_module("cli", sys.modules[__name__])
