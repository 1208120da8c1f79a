#!/usr/bin/env python3
"""What is written about the program agrees with it: help, man page, completions, and the guides' links and program."""

import functools
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGING = ROOT / "packaging"
BACKAPP = os.environ.get("BACKAPP", str(ROOT / "build" / "backapp"))
COMMANDS = ["mirror", "two-stage", "s3sync", "archive", "restore", "ls", "verify", "drill", "store", "key", "worker", "version", "help"]
RUNS = COMMANDS[:-3]  # those with options of their own


class Skip(Exception):
    """The case cannot run here."""


def run(*argv, **options):
    """Standard output of a program that has to succeed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, f"{argv}: code {done.returncode}: {done.stderr}"
    return done.stdout


@functools.lru_cache(maxsize=None)
def help_options(command):
    """The options of `backapp help COMMAND` as {name: value name or ''}, short ones as names of their own."""
    options = {}
    for line in run(BACKAPP, "help", command).splitlines():
        found = re.match(r"  (?:(-\w), )?(--[a-z0-9-]+)(?: (\S+))?(?:  |$)", line)
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
    listed = re.findall(r"^  ([a-z0-9-]+) ", run(BACKAPP, "help"), re.M)
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
    """Each has an entry in its command's section, or is named there as one that has it in another's."""
    titles = {command: f"OPTIONS OF {command.upper()}" for command in RUNS}
    entries = {command: man_options(title) for command, title in titles.items()}
    stores = man_options("OPTIONS OF STORES")
    assert entries["mirror"] == help_options("mirror"), set(entries["mirror"].items()) ^ set(help_options("mirror").items())
    everything = {**entries["archive"], **entries["s3sync"], **entries["mirror"], **stores}
    for command in RUNS[1:]:
        wanted, section = help_options(command), man_section(titles[command])
        named = set(re.findall(r"(?<![\w-])--?[A-Za-z0-9][a-z0-9-]*", re.sub(r"\.SH .*", "", section)))
        named |= {"-v"} if "--verbose" in named else set()
        named |= {"-h"} if "--help" in named else set()
        assert named == set(wanted), f"{command}: help and man page differ in {named ^ set(wanted)}"
        for name, value in wanted.items():
            written = entries[command].get(name, everything.get(name))
            assert written == value, f"{command} {name}: its value is {value!r} in the help, {written!r} in the man page"


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
    assert bash_complete("backapp", "store", "") == ["test", "ls", "cat", "rm"]
    assert bash_complete("backapp", "restore", "--conflict", "") == ["overwrite", "if-newer", "skip", "rename"]
    assert bash_complete("backapp", "mirror", "--exclude", "-") == []
    for command in RUNS:
        for name, value in help_options(command).items():
            if value:
                assert "--json" not in bash_complete("backapp", command, name, "-"), f"{command} {name} takes a value"


def test_providers_are_the_table_s():
    """Help, man page and completions name the providers that there are."""
    with open(ROOT / "src" / "store" / "providers.json", encoding="utf-8") as file:
        names = [provider["id"] for provider in json.load(file)["providers"]]
    assert bash_complete("backapp", "s3sync", "--provider", "") == names
    assert f"({' '.join(names)})" in (PACKAGING / "_backapp").read_text()
    for text in (" ".join(run(BACKAPP, "help", "s3sync").split()), man_section("OPTIONS OF STORES")):
        assert all(re.search(rf"\b{name}\b", text) for name in names), text
    guide = (ROOT / "docs" / "guide" / "providers.md").read_text()
    assert all(f"| `{name}` |" in guide for name in names)


def zsh_options(text):
    """The options of one _arguments call, with their value if they take one."""
    options = {}
    for name, value in re.findall(r"'\*?(--[a-z0-9-]+)\[[^\]]*\](:?)", text):
        options[name] = bool(value)
    for names in re.findall(r"\{([^}]*)\}'\[", text):
        options.update(dict.fromkeys(names.split(","), False))
    return options


def test_zsh_completion():
    text = (PACKAGING / "_backapp").read_text()
    groups = dict(re.findall(r"^    (\w+)=\((.*?)^    \)$", text, re.M | re.S))
    groups.update(re.findall(r"^    (\w+)=\((.*)\)$", text, re.M))
    for command in RUNS:
        body = re.search(rf"^_backapp_{command}\(\) \{{\n(.*?)^\}}", text, re.M | re.S)[1]
        body += "".join(groups[name] + "\n" for name in re.findall(r"\$(\w+)", body))
        wanted = {name: bool(value) for name, value in help_options(command).items()}
        assert zsh_options(body) == wanted, f"{command}: {set(zsh_options(body).items()) ^ set(wanted.items())}"
    assert re.findall(r"^        '([a-z0-9-]+):", text, re.M) == COMMANDS


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
        for command, rest in re.findall(rf"\bbackapp ({'|'.join(RUNS)})\b([^\n`]*)", text):
            known = help_options(command)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", rest.split(" #")[0].split(" && ")[0].split(" | ")[0]):
                if option not in known:
                    wrong.append(f"{path.relative_to(ROOT)}: backapp {command} {option}")
    assert not wrong, "; ".join(wrong)


def store_and_program(root):
    """An encrypted store with a full archive in volumes and an increment, and the program that the guide prints."""
    guide = (ROOT / "docs" / "guide" / "archives.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", guide, re.M | re.S)
    (root / "unseal.py").write_text(program)
    for folder in ("src", "none", "none/cryptography"):
        (root / folder).mkdir()
    (root / "none" / "cryptography" / "__init__.py").write_text("raise ImportError('not here')\n")
    (root / "src" / "large").write_bytes(os.urandom(9 << 20))
    (root / "src" / "small").write_text("one")
    secret = dict(os.environ, BACKUP_PASSPHRASE="correct horse", XDG_STATE_HOME=str(root / "state"))
    create = [BACKAPP, "archive", "create", "--encrypt", "--name", "ada", "--volume-size", "8M", root / "store", root / "src"]
    run(BACKAPP, "key", "create", root / "store", env=secret)
    run(*create, env=secret)
    (root / "src" / "new").write_text("two")
    run(*create, "--zstd", env=secret)
    return run(BACKAPP, "key", "export", root / "store", env=secret).strip()


def unseal(root, volumes, code=0, **secret):
    """What the guide's program writes for these volumes."""
    done = subprocess.run([sys.executable, root / "unseal.py", *volumes], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=60, env={"PATH": os.environ["PATH"], **secret})
    assert done.returncode == code, f"{done.returncode}: {done.stderr.decode()}"
    return done.stdout if code == 0 else done.stderr.decode()


def test_unseal_reads_encrypted_archives():
    """With the package cryptography if it is there, with openssl alone in any case."""
    if not shutil.which("openssl") or not shutil.which("tar"):
        raise Skip("openssl or tar is not installed")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        key = store_and_program(root)
        full = sorted((root / "store" / "ada").glob("*-full.tar.gz.aes.vol????"))
        increment = [path for path in (root / "store" / "ada").glob("*-incremental.tar.zst.aes*") if path.suffix != ".index"]
        ways = [{"BACKUP_ENCRYPTION_KEY": key, "PYTHONPATH": str(root / "none")}]
        if importlib.util.find_spec("cryptography"):
            ways += [{"BACKUP_ENCRYPTION_KEY": key}, {"BACKUP_PASSPHRASE": "correct horse"}]
        assert len(full) == 2 and len(increment) == 1, [full, increment]
        for number, secret in enumerate(ways):
            out = root / f"out{number}"
            out.mkdir()
            plain = unseal(root, full, **secret)
            subprocess.run(["tar", "-xzpf", "-", "-C", out], input=plain, check=True, timeout=60)
            assert {path.name: path.read_bytes() for path in out.iterdir()} == {
                name: (root / "src" / name).read_bytes() for name in ("large", "small")}, secret
            assert unseal(root, increment, **secret)[:4] == b"\x28\xb5\x2f\xfd"
        if len(ways) > 1:
            assert "opens no key" in unseal(root, full, code=1, BACKUP_PASSPHRASE="wrong")
            data = bytearray(full[1].read_bytes())
            data[100] ^= 1
            full[1].write_bytes(data)
            assert "segment 0 is damaged" in unseal(root, full, code=1, BACKUP_ENCRYPTION_KEY=key)


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
