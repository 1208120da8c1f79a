#!/usr/bin/env python3
"""What is written about the program agrees with it: help, man page, completions, and the links of the guides."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGING = ROOT / "packaging"
BACKAPP = os.environ.get("BACKAPP", str(ROOT / "build" / "backapp"))
COMMANDS = ["mirror", "verify", "worker", "version", "help"]


class Skip(Exception):
    """The case cannot run here."""


def run(*argv, **options):
    """Standard output of a program that has to succeed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, f"{argv}: code {done.returncode}: {done.stderr}"
    return done.stdout


def help_options(command):
    """The options of `backapp help COMMAND` as {name: value name or ''}, short ones as names of their own."""
    options = {}
    for line in run(BACKAPP, "help", command).splitlines():
        found = re.match(r"  (?:(-\w), )?(--[a-z-]+)(?: (\S+))?(?:  |$)", line)
        if found:
            options[found[2]] = found[3] or ""
            if found[1]:
                options[found[1]] = ""
    return options


def man_section(title):
    """The troff lines of a section of the man page, without escapes."""
    text = (PACKAGING / "backapp.1").read_text()
    text = re.sub(r"\\f(\[[A-Z]*\]|.)", "", text).replace(r"\-", "-")
    sections = dict(re.findall(r"^\.SH \"?([^\"\n]+)\"?\n(.*?)(?=^\.SH |\Z)", text, re.M | re.S))
    assert title in sections, f"the man page has no section {title}"
    return sections[title]


def man_options(title):
    """The options that have an entry (a line after .TP) in a section of the man page."""
    options = {}
    for line in re.findall(r"^\.TP\n\.(?:BR|BI|B) (.*)$", man_section(title), re.M):
        words = line.replace('", "', " ").replace('"', "").split()
        names = [word for word in words if word.startswith("-")]
        value = "".join(word for word in words if not word.startswith("-"))
        for name in names:
            options[name] = value
    return options


def test_help_lists_every_command():
    listed = re.findall(r"^  ([a-z]+) ", run(BACKAPP, "help"), re.M)
    assert listed == COMMANDS, listed
    assert run(BACKAPP, "--help") == run(BACKAPP, "help") == run(BACKAPP, "-h")
    for command in COMMANDS:
        assert run(BACKAPP, command, "--help") == run(BACKAPP, "help", command)
        assert "--help" in help_options(command)


def test_help_fits_a_terminal():
    for command in [[], *([name] for name in COMMANDS)]:
        for line in run(BACKAPP, "help", *command).splitlines():
            assert len(line) <= 80, line


def test_man_page_has_the_options():
    for command, title in (("mirror", "OPTIONS OF MIRROR"), ("verify", "OPTIONS OF VERIFY")):
        wanted, written = help_options(command), man_options(title)
        assert wanted == written, f"{command}: help and man page differ in {set(wanted.items()) ^ set(written.items())}"


def test_man_page_has_version_commands_and_codes():
    version = run(BACKAPP, "version").strip()
    assert run(BACKAPP, "--version").strip() == version
    assert f'"{version}"' in (PACKAGING / "backapp.1").read_text().splitlines()[0]
    synopsis = man_section("SYNOPSIS")
    for command in COMMANDS:
        assert command in synopsis or f"backapp {command}" in man_section("DESCRIPTION"), command
    codes = re.findall(r"^\.TP\n\.B (\d+)$", man_section("EXIT STATUS"), re.M)
    assert codes == ["0", "1", "2", "3", "4", "130"], codes
    overview = run(BACKAPP, "help")
    for code in codes:
        assert re.search(rf"\b{code} [a-z]", overview), f"the overview does not tell code {code}"


def test_man_page_is_clean():
    if not shutil.which("man"):
        raise Skip("man is not installed")
    environment = dict(os.environ, LC_ALL="C.UTF-8", MANROFFSEQ="", MANWIDTH="80")
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(PACKAGING / "backapp.1")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )
    if done.returncode != 0 and "nroff" in done.stderr:
        raise Skip(f"man cannot format here: {done.stderr.strip()}")
    assert done.returncode == 0 and done.stderr == "", done.stderr


def bash_complete(*words):
    """What bash would offer for the last word."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _backapp; '
        '[ ${#COMPREPLY[@]} -eq 0 ] || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return run("bash", "--norc", "-c", script, "bash", str(PACKAGING / "backapp.bash"), *words).split()


def test_bash_completion():
    for command in COMMANDS:
        offered, wanted = set(bash_complete("backapp", command, "-")), set(help_options(command))
        assert offered == wanted, f"{command}: {offered ^ wanted}"
    assert [word for word in bash_complete("backapp", "") if not word.startswith("-")] == COMMANDS
    assert bash_complete("backapp", "help", "") == COMMANDS
    assert bash_complete("backapp", "mirror", "--engine", "") == ["native", "rsync"]
    assert bash_complete("backapp", "mirror", "--ionice", "i") == ["idle"]
    assert bash_complete("backapp", "mirror", "--exclude", "-") == []
    for name, value in help_options("mirror").items():
        if value:
            assert "--delete" not in bash_complete("backapp", "mirror", name, ""), f"{name} takes a value"


def zsh_options(text):
    """The options of one _arguments call, with their value if they take one."""
    options = {}
    for name, value in re.findall(r"'\*?(--[a-z-]+)\[[^\]]*\](:?)", text):
        options[name] = bool(value)
    for names in re.findall(r"\{([^}]*)\}'\[", text):
        options.update(dict.fromkeys(names.split(","), False))
    return options


def test_zsh_completion():
    text = (PACKAGING / "_backapp").read_text()
    for command in ("mirror", "verify"):
        body = re.search(rf"^_backapp_{command}\(\) \{{\n(.*?)^\}}", text, re.M | re.S)[1]
        wanted = {name: bool(value) for name, value in help_options(command).items()}
        assert zsh_options(body) == wanted, f"{command}: {set(zsh_options(body).items()) ^ set(wanted.items())}"
    assert re.findall(r"^        '([a-z]+):", text, re.M) == COMMANDS


def test_zsh_completion_parses():
    if not shutil.which("zsh"):
        raise Skip("zsh is not installed")
    run("zsh", "-f", "-n", str(PACKAGING / "_backapp"))


def markdown_files():
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def without_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors(path):
    """The fragment names that headings get, the way repository viewers make them."""
    names = set()
    for heading in re.findall(r"^#+ (.*)$", without_code(path.read_text()), re.M):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        kept = "".join(c for c in plain if c in " -_" or unicodedata.category(c)[0] in "LN")
        names.add(kept.replace(" ", "-"))
    return names


def test_links_lead_somewhere():
    broken = []
    assert (ROOT / "README.md").exists(), "there is no README.md"
    for path in markdown_files():
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, fragment = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
            elif fragment and file.suffix == ".md" and fragment not in anchors(file):
                broken.append(f"{path.relative_to(ROOT)}: {target} (no such heading)")
    assert not broken, "; ".join(broken)


def test_guides_use_options_that_exist():
    wrong = []
    for path in markdown_files():
        text = path.read_text().replace("\\\n", " ")
        for command, rest in re.findall(r"\bbackapp (mirror|verify)\b([^\n`]*)", text):
            known = help_options(command)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.split(" #")[0]):
                if option not in known:
                    wrong.append(f"{path.relative_to(ROOT)}: backapp {command} {option}")
    assert not wrong, "; ".join(wrong)


def main():
    failed = skipped = 0
    if not os.access(BACKAPP, os.X_OK):
        print(f"not ok docs/program: {BACKAPP} is not there: build it, or name it in BACKAPP", flush=True)
        return 1
    cases = [(name[5:], case) for name, case in globals().items() if name.startswith("test_")]
    for name, case in cases:
        try:
            case()
            print(f"ok docs/{name}", flush=True)
        except Skip as why:
            skipped += 1
            print(f"skip docs/{name}: {why}", flush=True)
        except Exception as why:  # a broken case must not hide the others
            failed += 1
            text = " ".join(str(why).split())
            print(f"not ok docs/{name}: {type(why).__name__}: {text}", flush=True)
    if failed:
        return 1
    return 77 if skipped == len(cases) else 0


if __name__ == "__main__":
    sys.exit(main())
