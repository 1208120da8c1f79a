#!/usr/bin/env python3
"""backapp key: the keys of a store and the passphrases that open them."""

import base64
import json
import os
import sys

from cli_tools import Place, Terminal, run_module

ONE, TWO = {"BACKUP_PASSPHRASE": "first pass phrase"}, {"BACKUP_PASSPHRASE": "second"}


class KeyPlace(Place):
    """With a store in a directory."""

    def __init__(self):
        super().__init__()
        self.store = self.root / "store"
        for name in [name for name in self.environment if name.startswith(("AWS_", "BACKUP_"))]:
            del self.environment[name]

    def secret(self, name, text, mode=0o600):
        path = self.root / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def ids(self):
        return [json.loads(line)["id"] for line in self.good("key", "list", "--json", self.store).splitlines()]

    def everything(self):
        return b"".join(path.read_bytes() for path in self.store.rglob("*") if path.is_file())


def test_life():
    with KeyPlace() as place:
        out = place.good("key", "create", place.store, env=ONE)
        (first,) = place.ids()
        assert first in out and len(first) == 16, out
        key = place.good("key", "export", place.store, env=ONE)
        assert len(base64.b64decode(key, validate=False)) == 32 and key.endswith("=\n"), key
        second = json.loads(place.good("key", "add", "--json", place.store, env={**ONE, "BACKUP_NEW_PASSPHRASE": "second"}))["id"]
        assert sorted(place.ids()) == sorted([first, second])
        assert place.good("key", "export", place.store, env=TWO) == key
        place.good("key", "remove", place.store, first)
        code, out, err = place.run("key", "export", place.store, env=ONE)
        assert code == 1 and out == "" and "opens none of the keys" in err, err
        code, _, err = place.run("key", "remove", place.store, second)
        assert code == 1 and "--force" in err and place.ids() == [second], err
        place.good("key", "remove", "--force", place.store, second)
        assert place.ids() == []
        code, _, err = place.run("key", "export", place.store, env=TWO)
        assert code == 1 and "key create" in err, err


def test_only_one_master_key():
    with KeyPlace() as place:
        place.good("key", "create", place.store, env=ONE)
        code, _, err = place.run("key", "create", place.store, env=TWO)
        assert code == 1 and "key add" in err and len(place.ids()) == 1, err
        code, _, err = place.run("key", "add", place.store, env={**TWO, "BACKUP_NEW_PASSPHRASE": "x"})
        assert code == 1 and len(place.ids()) == 1, err


def test_import():
    with KeyPlace() as place:
        key = base64.b64encode(os.urandom(32)).decode()
        code, _, err = place.run("key", "create", "--import", place.store, env=ONE)
        assert code == 1 and "BACKUP_ENCRYPTION_KEY" in err and not place.store.exists(), err
        place.good("key", "create", "--import", place.store, env={**ONE, "BACKUP_ENCRYPTION_KEY": key})
        assert place.good("key", "export", place.store, env=ONE).strip() == key


def test_files():
    with KeyPlace() as place:
        one, two = place.secret("one", "from a file\nand not this\n"), place.secret("two", "second")
        place.good("key", "create", "--passphrase-file", one, place.store)
        place.good("key", "add", "--passphrase-file", one, "--new-passphrase-file", two, place.store)
        key = place.good("key", "export", "--passphrase-file", two, place.store)
        assert place.good("key", "export", place.store, env={"BACKUP_PASSPHRASE": "from a file"}) == key
        code, out, err = place.run("key", "export", "--passphrase-file", place.secret("open", "second", 0o644), place.store)
        assert code == 0 and out == key and "others may read" in err, err
        for content, part in (("", "empty"), ("x" * 2000, "1024"), ("\n\n", "empty")):
            code, _, err = place.run("key", "export", "--passphrase-file", place.secret("bad", content), place.store)
            assert code == 1 and part in err, err
        code, _, err = place.run("key", "export", "--passphrase-file", place.root / "none", place.store)
        assert code == 1 and "cannot read" in err, err


def test_nothing_secret_is_shown():
    """Neither the passphrase nor the key are in what is printed or stored."""
    with KeyPlace() as place:
        variables = {"BACKUP_PASSPHRASE": "hunter2 hunter2", "BACKUP_NEW_PASSPHRASE": "swordfish swordfish"}
        seen = ""
        for argv in (["create", "--json"], ["add"], ["list"], ["list", "--json"]):
            code, out, err = place.run("key", *argv, place.store, env=variables)
            assert code == 0, err
            seen += out + err
        code, out, err = place.run("key", "export", place.store, env={"BACKUP_PASSPHRASE": "hunter2 hunter"})
        seen += out + err
        key = place.good("key", "export", place.store, env=variables).strip()
        kept = place.everything()
        for secret in ("hunter2", "swordfish", key):
            assert secret not in seen, secret
            assert secret.encode() not in kept and base64.b64decode(key) not in kept, "a secret lies in the store"


def test_usage():
    with KeyPlace() as place:
        for argv, part in ((["key"], "needs one of"), (["key", "create"], "needs a STORE"), (["key", "remove", "s"], "an ID"),
                           (["key", "list", "s", "x"], "no more"), (["key", "list", "--import", "s"], "--import"),
                           (["key", "turn", "s"], "needs one of"), (["key", "list", "--bad", "s"], "--bad")):
            code, _, err = place.run(*argv)
            assert code == 2 and part in err, f"{argv}: {code} {err}"
        code, _, err = place.run("key", "create", place.store)
        assert code == 1 and "BACKUP_PASSPHRASE" in err and "--passphrase-file" in err and not place.store.exists(), err
        code, _, err = place.run("key", "list", place.root / "nothing")
        assert code == 1 and "no such directory" in err, err


def test_typed():
    """At a terminal it is asked for, twice where it is new, and not echoed."""
    with KeyPlace() as place:
        with Terminal(place, 80, "key", "create", place.store) as terminal:
            terminal.read(b"New passphrase: ")
            terminal.type(b"typed in\n")
            terminal.read(b"again: ")
            terminal.type(b"typed in\n")
            assert terminal.finish() == 0, terminal.seen
            assert b"typed in" not in terminal.seen, terminal.seen
        place.good("key", "export", place.store, env={"BACKUP_PASSPHRASE": "typed in"})
        with Terminal(place, 80, "key", "create", place.root / "other") as terminal:
            terminal.read(b"New passphrase: ")
            terminal.type(b"one\n")
            terminal.read(b"again: ")
            terminal.type(b"two\n")
            assert terminal.finish() == 1 and b"differ" in terminal.seen, terminal.seen
        assert not (place.root / "other").exists()


def test_interrupted():
    with KeyPlace() as place:
        with Terminal(place, 80, "key", "create", place.store) as terminal:
            terminal.read(b"New passphrase: ")
            terminal.type(b"\x03")
            assert terminal.finish() == 130 and b"cancelled" in terminal.seen, terminal.seen


if __name__ == "__main__":
    run_module("key_command", sys.modules[__name__])
