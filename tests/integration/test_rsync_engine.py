#!/usr/bin/env python3
"""`engine: rsync` from outside: local, to a real sshd and to a real rsync daemon on loopback."""

import json
import os
import pathlib
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
import cli_tools
from cli_tools import BACKAPP, TIMEOUT, Place, end, events, text, tree, wait_for
from rsync_servers import Daemon, Sshd, make_key, program


def odd_tree(place):
    """A source with what a name and an inode can be."""
    place.fill(plain="content", folder__deep__file_txt="more", empty="")
    os.link(place.src / "plain", place.src / "folder" / "second name")
    os.symlink("nowhere", place.src / "link")
    os.mkfifo(place.src / "pipe")
    for name in (b"new\nline", b"back\\#101slash", b"\xff\xfe", b"@>f+++++++++ 5 fake", b"trailing ", b"quote\"s'", b"-n"):
        with open(os.path.join(os.fsencode(place.src), name), "wb") as file:
            file.write(name)
    os.utime(place.src / "plain", ns=(1, 1_234_567_891_234_567_891))
    (place.src / "folder").chmod(0o2750)


def same(place, destination):
    """Asserts that the real rsync finds no difference."""
    command = [program("rsync"), "-aHAXnic", "--numeric-ids", "--delete", "--exclude=/.backapp*"]
    command += [f"{place.src}/", f"{destination}/"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0 and done.stdout == b"", f"differs: {text(done.stdout)[:300]} {text(done.stderr)[:300]}"


def rsync(place, *arguments, **options):
    return place.run("mirror", "--engine", "rsync", *arguments, **options)


def stage1(out):
    return [event for event in events(out) if event["type"] == "summary"][-1]["stats"]["stage1"]


def work(place, destination, sources=None, secrets=None, env=None, **options):
    """A job spec given to a worker: (exit code, events, errors). The shell has no ssh options."""
    spec = {
        "version": 1, "runId": "test", "type": "rsync-local", "sources": [str(path) for path in sources or [place.src]],
        "destinations": [{"path": str(destination)}], "options": options,
    }
    if secrets:
        spec["secrets"] = secrets
    process = start_worker(place, spec, **(env or {}))
    stdin, process.stdin = process.stdin, None  # its end would cancel the run
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        end_quietly(process)
        stdin.close()
    return process.returncode, events(text(out)), text(err)


def start_worker(place, spec, **env):
    """A worker that was given the spec."""
    process = subprocess.Popen(
        [BACKAPP, "worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**place.environment, **env},
    )
    process.stdin.write(json.dumps(spec).encode() + b"\n")
    process.stdin.flush()
    return process


def end_quietly(process):
    if process.poll() is None:
        process.kill()
        process.wait(timeout=TIMEOUT)


def failure(found):
    return [event for event in found if event["type"] == "done"][-1].get("error", {})


def need_rsync():
    program("rsync")


def test_local_copy_is_equal():
    need_rsync()
    with Place() as place:
        odd_tree(place)
        code, out, err = rsync(place, "--json", place.src, place.dst)
        assert code == 0, err or out
        same(place, place.dst)
        stats = stage1(out)
        files = 7 + 3 + 1 + 1 + 1  # odd names, plain ones, the link, the pipe, the second name
        assert stats["filesTotal"] == files and stats["filesDeleted"] == 0, stats
        assert stats["filesCreated"] >= files and stats["filesTransferred"] == 7 + 3, stats
        assert stats["localPath"] == str(place.dst)
        code, out, err = rsync(place, "--json", place.src, place.dst)
        again = stage1(out)
        assert code == 0 and again["filesCreated"] == again["filesChanged"] == again["bytesTransferred"] == 0, again
        assert again["filesUnchanged"] >= files, again


def test_items_name_each_change():
    need_rsync()
    with Place() as place:
        odd_tree(place)
        assert rsync(place, place.src, place.dst)[0] == 0
        (place.src / "plain").unlink()
        (place.src / "empty").chmod(0o600)
        (place.src / "folder" / "deep" / "file.txt").write_text("other content")
        (place.src / "new").mkdir()
        code, out, err = rsync(place, "--json", "--delete", "--dry-run", place.src, place.dst)
        assert code == 0, err
        items = {event["path"]: (event["action"], event["kind"]) for event in events(out) if event["type"] == "item"}
        assert items.get("plain") == ("delete", "file"), items
        assert items.get("empty") == ("metadata", "file"), items
        assert items.get("folder/deep/file.txt") == ("update", "file"), items
        assert items.get("new") == ("create", "directory"), items
        assert len(items) <= 6, items  # directories whose times changed may be among them
        assert (place.dst / "plain").exists() and not (place.dst / "new").exists()
        code, out, err = rsync(place, "--json", "--delete", place.src, place.dst)
        assert code == 0 and stage1(out)["filesDeleted"] == 1, err
        same(place, place.dst)


def test_several_sources_get_folders():
    need_rsync()
    with Place() as place:
        place.fill(a__keep_c="1", a__drop_o="2", a__sub__top_txt="3", a__top_txt="4", b__keep_c="5", b__x__drop_o="6")
        (place.root / "via").symlink_to(place.src / "b")
        rules = ["--include=*/", "--include=*.c", "--include=/top.txt", "--exclude=*"]
        code, out, err = rsync(place, *rules, f"{place.src}/a/", place.src / "b", place.dst)
        assert code == 0, err
        assert {n for n, c in tree(place.dst).items() if c is not None} == {"a/keep.c", "a/top.txt", "b/keep.c"}, tree(place.dst)
        (place.dst / "other").mkdir()
        code, out, err = rsync(place, "--delete", place.src / "a", place.src / "b", place.dst)
        assert code == 0 and (place.dst / "other").is_dir() and (place.dst / "a/sub/top.txt").exists(), err
        code, out, err = rsync(place, place.src / "a", place.root / "via", place.dst)
        assert code != 0 and "symbolic link" in err, (code, err)


def test_rules_mean_what_they_mean():
    need_rsync()
    with Place() as place:
        place.fill(keep_txt="1", skip_log="2", build__x="3", sub__build__y="4")
        (place.src / "! odd").write_text("5")
        rules = ["--exclude=! odd", "--include=/build/x", "--exclude=/build/*", "--exclude=*.log", "--exclude-larger-than=100"]
        (place.src / "large").write_bytes(bytes(101))
        code, out, err = rsync(place, *rules, place.src, place.dst)
        assert code == 0 and "large: it is larger than" in err, err
        files = {name for name, content in tree(place.dst).items() if content is not None}
        assert files == {"keep.txt", "build/x", "sub/build/y"}, files


def test_our_own_files_stay():
    need_rsync()
    with Place() as place:
        place.fill(file="1", **{"sub__file": "2"})
        place.mirror()
        (place.src / ".backapp-mine").write_text("not to be copied")
        (place.src / "sub" / ".backapp-deep").write_text("to be copied")
        marker = (place.dst / ".backapp-destination").read_bytes()
        code, out, err = rsync(place, "--delete", place.src, place.dst)
        assert code == 0 and "are left out" in err, err
        assert (place.dst / ".backapp-destination").read_bytes() == marker and (place.dst / ".backapp").is_dir()
        assert not (place.dst / ".backapp-mine").exists() and (place.dst / "sub" / ".backapp-deep").exists()


def test_unfinished_native_run_comes_first():
    need_rsync()
    with Place() as place:
        place.fill(file="1")
        place.mirror()
        (place.dst / ".backapp" / "journal").write_bytes(b"unfinished")
        code, out, err = rsync(place, place.src, place.dst)
        assert code == 1 and "--recover" in err, (code, err)


def test_too_many_deletions_are_refused():
    need_rsync()
    with Place() as place:
        place.fill(**{f"f{number}": "x" for number in range(250)})
        assert rsync(place, place.src, place.dst)[0] == 0
        for number in range(150):
            (place.src / f"f{number}").unlink()
        before = tree(place.dst)
        for option in ([], ["--dry-run"]):
            code, out, err = rsync(place, "--delete", *option, place.src, place.dst)
            assert code == 4 and "150 of 250" in err and "--force" in err, (code, err)
            assert tree(place.dst) == before
        assert rsync(place, "--delete", "--max-delete=60", place.src, place.dst)[0] == 0
        assert len(tree(place.dst)) == 100
        for path in list(place.src.iterdir()):
            path.unlink()
        code, out, err = rsync(place, "--delete", "--max-delete=100", place.src, place.dst)
        assert code == 4 and "the source is empty" in err, (code, err)
        assert rsync(place, "--delete", "--force", place.src, place.dst)[0] == 0 and not tree(place.dst)


def test_what_cannot_be_had_is_refused_by_name():
    need_rsync()
    with Place() as place:
        place.fill(file="1")
        for option in (["--keep-versions=3"], ["--exclude-caches"], ["--exclude-if-present=x"], ["--confirm=0123456789ab"]):
            code, out, err = rsync(place, *option, place.src, place.dst)
            assert code != 0 and option[0].split("=")[0] in err and not place.dst.exists(), (option, code, err)
        for bad in ("host:a*b", "host:a;b", "host:$(id)", "-oProxyCommand=id:x", "rsync://h", ":x", "host:-x", "host::"):
            code, out, err = place.run("mirror", "--", place.src, bad)
            assert code in (1, 2) and "destination" in err, (bad, code, err)
        code, out, err = rsync(place, "--", "host:path", place.dst)
        assert code != 0 and "is on another host" in err, err
        for bad in (place.src / "inside", place.src):
            code, out, err = rsync(place, place.src, bad)
            assert code == 1 and "source" in err and not (place.src / "inside").exists(), err
        code, out, err = rsync(place, place.src, place.root / "no" / "where")
        assert code == 1 and "parent" in err, err
        code, out, err = rsync(place, place.src / "none", place.dst)
        assert code == 1 and "none" in err, err


def test_old_or_missing_program_is_named():
    need_rsync()
    with Place() as place:
        place.fill(file="1")
        folder = place.root / "bin"
        folder.mkdir()
        code, out, err = rsync(place, place.src, place.dst, env={"PATH": str(folder)})
        assert code == 1 and "not found in PATH" in err and "install" in err, err
        fake = folder / "rsync"
        fake.write_text("#!/bin/sh\necho 'rsync  version 3.0.9  protocol version 30'\n")
        fake.chmod(0o755)
        code, out, err = rsync(place, place.src, place.dst, env={"PATH": f"{folder}:/usr/bin:/bin"})
        assert code == 1 and "3.1 or newer" in err, err


def test_unreadable_file_makes_it_partial():
    need_rsync()
    with Place() as place:
        options = cli_tools.as_nobody()
        place.fill(good="1", bad="2", folder__x="3")
        (place.src / "bad").chmod(0)
        (place.src / "folder").chmod(0)
        place.dst.mkdir()
        place.root.chmod(0o777)
        place.dst.chmod(0o777)
        if options:
            for path in (place.src, place.src / "good", place.src / "bad", place.src / "folder"):
                os.chown(path, 65534, 65534)
        code, out, err = rsync(place, "--json", place.src, place.dst, **options)
        stats = stage1(out)
        warnings = {event.get("path"): event["code"] for event in events(out) if event["type"] == "warning"}
        (place.src / "folder").chmod(0o700)
        assert code == 3 and (place.dst / "good").read_text() == "1", (code, err, out)
        assert warnings.get("bad") == "unreadable" and warnings.get("folder") == "unreadable", warnings
        assert stats["unreadable"] == 2, stats


def test_verify_finds_what_differs():
    need_rsync()
    with Place() as place:
        place.fill(good="1", bad="22")
        code, out, err = rsync(place, "--verify", place.src, place.dst)
        assert code == 0 and "2 files are proven" in out, (out, err)
        info = (place.dst / "bad").stat()
        (place.dst / "bad").write_text("2x")
        os.utime(place.dst / "bad", ns=(info.st_atime_ns, info.st_mtime_ns))
        code, out, err = rsync(place, "--verify", place.src, place.dst)
        assert code == 1 and "bad" in err and "--checksum" in err, (code, err)
        assert rsync(place, "--verify", "--checksum", place.src, place.dst)[0] == 0
        same(place, place.dst)


def big_source(place):
    """Enough data for a run that is limited to last longer than the test needs."""
    (place.src / "large").write_bytes(os.urandom(8 << 20))


def rsync_pids(place):
    """Processes of rsync that have this place's destination among their arguments."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.path.basename(line[0]) in (b"rsync", b"ssh") and any(os.fsencode(place.root) in part for part in line):
            found.append(int(entry.name))
    return found


def test_cancel_ends_every_process():
    need_rsync()
    with Place() as place:
        big_source(place)
        process = place.start("mirror", "--engine", "rsync", "--bwlimit=256", place.src, place.dst)
        try:
            wait_for(lambda: len(rsync_pids(place)) >= 1 and place.dst.exists(), "rsync to start")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
        finally:
            end(process)
        assert process.returncode == 130 and "stays in the destination" in text(err), (process.returncode, text(err))
        wait_for(lambda: not rsync_pids(place), "rsync to end")
        assert rsync(place, place.src, place.dst)[0] == 0
        same(place, place.dst)


def fake_rsync(place, script):
    """The environment in which rsync is a script that knows its version."""
    folder = place.root / "bin"
    folder.mkdir()
    (folder / "rsync").write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'rsync  version 3.2.7  protocol version 31'; exit;; esac\n" + script
    )
    (folder / "rsync").chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_killed_worker_leaves_no_rsync():
    with Place() as place:
        place.fill(file="1")
        # One that writes nothing, and so would never notice that nobody reads.
        quiet = fake_rsync(place, f"echo $$ >{place.root}/new; mv {place.root}/new {place.root}/pid; exec sleep 300\n")
        process = place.start("mirror", "--engine", "rsync", place.src, place.dst, env=quiet)
        try:
            wait_for(lambda: (place.root / "pid").exists(), "the program to start")
            pid = int((place.root / "pid").read_text())
            for worker in cli_tools.children(process):
                os.kill(worker, signal.SIGKILL)
            process.communicate(timeout=TIMEOUT)
            try:
                wait_for(lambda: not is_running(pid), "the program to end")
            except AssertionError:
                os.kill(pid, signal.SIGKILL)
                raise
        finally:
            end(process)
        assert process.returncode == 1


def is_running(pid):
    """Whether the process is there and no zombie that nobody has taken."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stubborn_program_is_killed():
    with Place() as place:
        place.fill(file="1")
        deaf = fake_rsync(place, f"trap '' TERM INT\ntouch {place.root}/begun\nsleep 300 & wait; wait\n")
        process = place.start("mirror", "--engine", "rsync", place.src, place.dst, env=deaf)
        try:
            wait_for(lambda: (place.root / "begun").exists(), "the program to start")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT)
        finally:
            end(process)
        assert process.returncode == 130, process.returncode


def test_ssh_copy_is_equal():
    need_rsync()
    with Place() as place, Sshd(place.root / "sshd") as server:
        odd_tree(place)
        (place.root / "far away").mkdir()
        far = f"127.0.0.1:{place.root}/far away/copy"
        ssh = {"ssh": server.options()}
        code, found, err = work(place, far, engine="rsync", rsync=ssh)
        assert code == 0, (found, err)
        same(place, place.root / "far away" / "copy")
        (place.src / "plain").unlink()
        code, found, err = work(place, far, engine="rsync", rsync=ssh, deleteExtraneous=True, checksum=True, verify=True)
        assert code == 0, (found, err)
        same(place, place.root / "far away" / "copy")
        summary = [event for event in found if event["type"] == "summary"][-1]["stats"]
        assert summary["stage1"]["filesDeleted"] == 1 and summary["verify"]["damaged"] == 0, summary


def test_ssh_refuses_strangers():
    need_rsync()
    with Place() as place, Sshd(place.root / "sshd") as server:
        place.fill(file="1")
        far = f"127.0.0.1:{place.root}/copy"
        empty = place.root / "nobody"
        empty.write_text("")
        code, found, err = work(place, far, engine="rsync", rsync={"ssh": server.options(knownHosts=str(empty))})
        assert code == 1 and failure(found)["code"] == "DENIED" and "known" in failure(found)["message"], found
        other = place.root / "other"
        make_key(other)
        code, found, err = work(place, far, engine="rsync", rsync={"ssh": server.options(identityFile=str(other))})
        assert code == 1 and failure(found)["code"] == "DENIED" and "key" in failure(found)["message"], found
        assert not (place.root / "copy").exists()
        for bad in ({"user": "-x"}, {"identityFile": "relative"}, {"knownHosts": "/a'b"}):
            code, found, err = work(place, far, engine="rsync", rsync={"ssh": server.options(**bad)})
            assert code == 1 and failure(found)["code"] == "INVALID", found
    with Place() as place:
        place.fill(file="1")
        code, found, err = work(place, "127.0.0.1:x", engine="rsync", rsync={"ssh": {"port": 1, "user": "x"}})
        assert code == 1 and failure(found)["code"] == "TRANSIENT", found


def test_ssh_cancel_ends_both_sides():
    need_rsync()
    with Place() as place, Sshd(place.root / "sshd") as server:
        big_source(place)
        far = f"127.0.0.1:{place.root}/copy"
        spec = {
            "version": 1, "runId": "test", "type": "rsync-local", "sources": [str(place.src)], "destinations": [{"path": far}],
            "options": {"engine": "rsync", "rsync": {"ssh": server.options()}}, "limits": {"bandwidth": 256 * 1024},
        }
        process = start_worker(place, spec)
        try:
            wait_for(lambda: (place.root / "copy").exists(), "the copy to begin")
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=TIMEOUT)
        finally:
            end_quietly(process)
        done = [event for event in events(text(out)) if event["type"] == "done"][-1]
        assert done["status"] == "cancelled", done
        wait_for(lambda: not rsync_pids(place), "rsync to end")


def test_daemon_takes_the_password():
    need_rsync()
    with Place() as place, Daemon(place.root / "daemon") as server:
        odd_tree(place)
        (place.src / "pipe").unlink()
        password = {"env": {"RSYNC_PASSWORD": server.password}}
        code, out, err = place.run("mirror", place.src, server.url("/deep"), **password)
        assert code == 0, (code, err)
        same(place, server.module / "deep")
        (place.src / "empty").unlink()
        code, out, err = place.run("mirror", "--delete", place.src, server.url("/deep"), **password)
        assert code == 0 and not (server.module / "deep" / "empty").exists(), err
        assert server.password not in out + err


def test_daemon_refusals_are_clear():
    need_rsync()
    with Place() as place, Daemon(place.root / "daemon") as server:
        place.fill(file="1")
        for password in ("wrong", None):
            env = {"RSYNC_PASSWORD": password} if password else {}
            code, out, err = place.run("mirror", "--json", place.src, server.url(), env=env)
            assert code == 1 and failure(events(out))["code"] == "DENIED", (code, out, err)
        secrets = {"rsyncPassword": server.password}
        code, found, err = work(place, server.url(module="none"), engine="rsync", secrets=secrets)
        assert code == 1 and failure(found)["code"] == "NOT_FOUND", found
        code, found, err = work(place, server.url(module="closed"), engine="rsync", secrets=secrets)
        assert code == 1 and failure(found)["code"] == "DENIED", found
        code, found, err = work(place, server.url(), engine="rsync", secrets=secrets, rsync={"ssh": {"port": 22}})
        assert code == 1 and failure(found)["code"] == "INVALID", found
        port = server.port
    with Place() as place:
        place.fill(file="1")
        code, found, err = work(place, f"rsync://127.0.0.1:{port}/backup", engine="rsync")
        assert code == 1 and failure(found)["code"] == "TRANSIENT", found


if __name__ == "__main__":
    cli_tools.run_module("rsync_engine", sys.modules[__name__])
