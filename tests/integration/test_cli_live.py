#!/usr/bin/env python3
"""The command line while a run goes on: the bar on a terminal, Ctrl-C, a worker that dies."""

import os
import re
import shutil
import signal
import sys

from cli_tools import Place, Skip, Terminal, children, end, everything, run_module, text, tree, wait_for, wait_for_text

RATE = "256"  # KiB a second: copying SIZE takes four seconds, and every case is over as soon as it has seen enough
SIZE = 1 << 20


def fill(place):
    place.fill(old="previous")
    place.mirror()
    for i in range(16):
        (place.src / f"folder with a long name {i} \N{CJK UNIFIED IDEOGRAPH-65E5}\033[31m").write_bytes(os.urandom(SIZE // 16))


def bars(seen):
    """What was drawn between carriage return and clear-to-the-end, in order."""
    return re.findall(r"\r([^\r\n\033]*)\033\[K", text(seen))


def columns(line):
    return sum(2 if ord(c) > 0x2E80 else 1 for c in line)


def test_bar_on_a_terminal():
    with Place() as place:
        fill(place)
        with Terminal(place, 70, "mirror", "--bwlimit", RATE, place.src, place.dst) as screen:
            assert screen.finish() == 0
        drawn = [bar for bar in bars(screen.seen) if bar]
        assert any("copying" in bar and "%" in bar and "files" in bar for bar in drawn), drawn
        assert any("/s" in bar and "ETA" in bar for bar in drawn), drawn
        assert any("\\x1B[31m" in bar or "..." in bar for bar in drawn), drawn
        assert all(columns(bar) < 70 for bar in drawn), drawn
        # Redrawn ten times a second at most, and the worker sends four: five seconds cannot make more than this.
        assert len(drawn) < 200
        # Nothing but carriage return and clear-to-the-end, and nothing of the bar is left at the end.
        rest = text(screen.seen).replace("\033[K", "").replace("\r", "").replace("\n", "")
        assert all(c.isprintable() for c in rest), ascii(rest)
        last = text(screen.seen).rsplit("\r\033[K", 1)[1]
        assert "completed in" in last and "%" not in last, ascii(last)
        assert tree(place.dst) == tree(place.src)


def test_narrow_and_dumb_terminals():
    with Place() as place:
        place.fill(file=b"x" * 100000)
        with Terminal(place, 12, "mirror", "--bwlimit", "256", place.src, place.dst) as screen:
            assert screen.finish() == 0
        assert all(columns(bar) < 12 for bar in bars(screen.seen)), bars(screen.seen)
        (place.src / "file").write_bytes(b"y" * 100000)
        with Terminal(place, 80, "mirror", place.src, place.dst, env={"TERM": "dumb"}) as screen:
            assert screen.finish() == 0
        assert b"\033" not in screen.seen, screen.seen


def test_keyboard_interrupt_on_a_terminal():
    with Place() as place:
        fill(place)
        before = tree(place.dst)
        with Terminal(place, 80, "mirror", "--bwlimit", RATE, place.src, place.dst) as screen:
            screen.read(until=b"% copying")
            screen.type(b"\003")  # to the whole foreground group, the worker too
            assert screen.finish() == 130, screen.seen
        assert b"cancelled" in screen.seen and b"The destination is unchanged." in screen.seen, screen.seen
        assert tree(place.dst) == before
        place.mirror()
        assert tree(place.dst) == tree(place.src)


def interrupted(place, number):
    """A run that gets the signal while it copies: (exit code, errors)."""
    process = place.start("mirror", "--bwlimit", RATE, place.src, place.dst)
    try:
        wait_for_text(process, "copying")
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        end(process)
    return process.returncode, text(err)


def test_signals_cancel():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Place() as place:
            fill(place)
            before = tree(place.dst)
            code, err = interrupted(place, number)
            assert code == 130, f"{number}: code {code}: {err}"
            assert "cancelling" in err and "The destination is unchanged." in err, err
            assert tree(place.dst) == before
            if number == signal.SIGINT:
                assert "completed in" in place.mirror()
                assert tree(place.dst) == tree(place.src)


def test_cancel_of_the_rsync_program():
    if not shutil.which("rsync"):
        raise Skip("rsync is not installed")
    with Place() as place:
        fill(place)
        process = place.start("mirror", "--engine=rsync", "--bwlimit", RATE, place.src, place.dst)
        try:
            wait_for_text(process, "copying")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            end(process)
        assert process.returncode == 130, text(err)
        assert "What rsync had copied so far stays" in text(err) and "unchanged" not in text(err), text(err)
        assert place.run("mirror", "--engine=rsync", place.src, place.dst)[0] == 0
        assert tree(place.dst) == tree(place.src)


def test_second_signal_kills():
    with Place() as place:
        fill(place)
        before = tree(place.dst)
        process = place.start("mirror", "--bwlimit", RATE, place.src, place.dst)
        try:
            wait_for_text(process, "copying")
            worker = children(process)[0]
            os.kill(worker, signal.SIGSTOP)  # a worker that does not react
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        finally:
            end(process)
        assert process.returncode == 130 and "killing the run" in text(err), text(err)
        assert "The destination is unchanged." in text(err), text(err)
        assert tree(place.dst) == before
        code, _, err = place.run("mirror", place.src, place.dst)
        assert code == 0 and tree(place.dst) == tree(place.src), err


def test_ignored_signals_stay_ignored():
    with Place() as place:
        place.fill(big=os.urandom(SIZE // 2))
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        process = place.start("mirror", "--bwlimit", RATE, place.src, place.dst, preexec_fn=ignore)
        try:
            wait_for_text(process, "copying")
            # A terminal that closes tells all of them.
            os.kill(children(process)[0], signal.SIGHUP)
            process.send_signal(signal.SIGHUP)
            process.communicate(timeout=60)
        finally:
            end(process)
        assert process.returncode == 0 and tree(place.dst) == tree(place.src)


def test_worker_that_dies():
    with Place() as place:
        fill(place)
        before = tree(place.dst)
        process = place.start("mirror", "--bwlimit", RATE, place.src, place.dst)
        try:
            wait_for_text(process, "copying")
            os.kill(children(process)[0], signal.SIGKILL)
            _, err = process.communicate(timeout=60)
        finally:
            end(process)
        assert process.returncode == 1 and "signal 9 (SIGKILL" in text(err), text(err)
        assert "The destination is unchanged." in text(err) and tree(place.dst) == before, text(err)


def test_shell_that_dies_takes_its_worker_along():
    with Place() as place:
        fill(place)
        before = tree(place.dst)
        process = place.start("mirror", "--bwlimit", RATE, place.src, place.dst)
        try:
            wait_for_text(process, "copying")
            worker = children(process)[0]
            process.kill()
            wait_for(lambda: not os.path.exists(f"/proc/{worker}") or is_zombie(worker), "the worker's end")
        finally:
            end(process)
        assert tree(place.dst) == before


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_two_runs_at_once():
    with Place() as place:
        fill(place)
        process = place.start("mirror", "--bwlimit", RATE, place.src, place.dst)
        try:
            wait_for_text(process, "copying")
            code, _, err = place.run("mirror", place.src, place.dst)
            assert code == 1 and str(children(process)[0]) in err, err
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            end(process)
        assert process.returncode == 130
        assert "stage" in "".join(everything(place.dst)), "what was copied is kept for the next run"


if __name__ == "__main__":
    run_module("cli-live", sys.modules[__name__])
