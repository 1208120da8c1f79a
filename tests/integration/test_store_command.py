#!/usr/bin/env python3
"""`backapp store` at the command line: test, ls, cat and rm, of a bucket and of a directory."""

import json
import os
import sys

from cli_tools import run_module
from s3_tools import BucketPlace, FaultProxy, Rule, StorePlace
from test_s3sync import wrong


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


def test_ls_cat_and_rm_of_a_bucket():
    with BucketPlace() as place:
        odd = "odd/\N{EURO SIGN} %s\x01"
        for key, content in (("backup/a", b"1"), ("backup/ab/c", b"22"), (odd, b"333")):
            place.client.put(place.bucket, key, content)
        store = f"s3://{place.bucket}"
        out = place.good("store", "ls", store)
        assert out.splitlines()[:2] == ["backup/a", "backup/ab/c"] and "\x01" not in out, out
        # A beginning of keys need not be a folder.
        assert place.good("store", "ls", store + "/backup/a").splitlines() == ["backup/a", "backup/ab/c"]
        assert place.good("store", "ls", store + "/backup/", "ab").splitlines() == ["ab/c"]
        found = lines(place.good("store", "ls", "--json", store))
        assert [(o["key"], o["size"]) for o in found] == [("backup/a", 1), ("backup/ab/c", 2), (odd, 3)], found
        assert all(o["etag"] and o["modified"].startswith("2") and o["storageClass"] == "STANDARD" for o in found), found
        long = place.good("store", "ls", "-l", store + "/backup/a")
        assert "1 B" in long and "STANDARD" in long, long
        assert place.good("store", "cat", store + "/backup/ab/c") == "22"
        assert place.good("store", "cat", store, odd) == "333"
        place.good("store", "rm", store + "/backup/a")
        assert place.keys("") == ["backup/ab/c", odd], place.keys("")
        code, _, err = place.run("store", "rm", store + "/backup/a")
        assert code == 1 and "backup/a" in err, err
        code, _, err = place.run("store", "cat", store + "/nothing")
        assert code == 1 and "nothing" in err, err


def test_ls_cat_and_rm_of_a_directory():
    with StorePlace() as place:
        place.fill(a="1", folder__b="22")
        place.sync()
        before = sorted(str(p) for p in place.store.rglob("*"))
        for store in (place.store, "file://" + str(place.store)):
            assert [k for k in place.good("store", "ls", store).splitlines() if not k.startswith(".")] == ["a", "folder/b"]
            assert place.good("store", "cat", store, "folder/b") == "22"
        assert place.good("store", "ls", place.store, "fol").splitlines() == ["folder/b"]
        assert sorted(str(p) for p in place.store.rglob("*")) == before, "looking changed something"
        place.good("store", "rm", place.store, "folder/b")
        assert not (place.store / "folder" / "b").exists()


def test_a_store_that_is_not_there():
    with BucketPlace() as place:
        for action in ("ls", "test"):
            code, _, err = place.run("store", action, place.root / "nowhere")
            assert code == 1 and "no such directory" in err and not (place.root / "nowhere").exists(), err
            code, out, err = place.run("store", action, "s3://no-such-bucket-here")
            assert code == 1 and "no-such-bucket-here" in out + err, out + err


def test_a_good_store():
    with BucketPlace(versioning=True) as place:
        out = place.good("store", "test", place.url)
        states = {line.split()[1]: line.split()[0] for line in out.splitlines()}
        for check in ("reach", "list", "write", "read", "metadata", "copy", "delete", "clock"):
            assert states[check] == "ok", out
        found = lines(place.good("store", "test", "--json", place.url))
        assert {o["check"]: o["state"] for o in found} == states and all(o["message"] for o in found)
        assert not place.keys("", own=True), "the probe was left behind"
        place.store.mkdir()
        assert "missing" not in place.good("store", "test", place.store)


def test_a_missing_permission_is_named():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        for kind, permission in (("PutObject", "s3:PutObject"), ("GetObject", "s3:GetObject"),
                                 ("ListObjectsV2", "s3:ListBucket")):
            proxy.replace(Rule("status", kind=kind, status=403, code="AccessDenied"))
            code, out, err = place.run("store", "test", place.url)
            assert code == 1 and permission in out + err and "missing" in out, (kind, out, err)
        proxy.replace()


def test_wrong_keys_are_told():
    with BucketPlace() as place:
        code, out, err = place.run("store", "test", place.url, env={"AWS_SECRET_ACCESS_KEY": "wrong"})
        assert code == 1 and ("SignatureDoesNotMatch" in out + err or "secret" in out + err), out + err


def test_options_of_a_store():
    with BucketPlace() as place:
        place.client.put(place.bucket, "k", b"1")
        out = place.good("store", "ls", "--endpoint", place.server.tls_endpoint, "--ca-file", place.server.ca, "--region",
                         "us-east-1", "--provider", "any", "--path-style", f"s3://{place.bucket}")
        assert out == "k\n", out
        code, _, err = place.run("store", "ls", "--endpoint", place.server.tls_endpoint, f"s3://{place.bucket}")
        assert code == 1 and "certificate" in err, err
        config = place.root / "credentials"
        config.write_text(f"[mine]\naws_access_key_id = {place.server.access_key}\n"
                          f"aws_secret_access_key = {place.server.secret_key}\n")
        secrets = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": str(config)}
        assert place.good("store", "ls", "--profile", "mine", f"s3://{place.bucket}", env=secrets) == "k\n"


def test_a_reader_that_goes_away():
    with StorePlace() as place:
        place.files(2000)
        place.sync()
        process = place.start("store", "ls", place.store)
        process.stdout.close()
        assert process.wait(timeout=60) in (0, 1, -13), process.returncode
        assert "Traceback" not in os.fsdecode(process.stderr.read())
        process.stderr.close()


def test_wrong_input_is_refused():
    with StorePlace() as place:
        for arguments, word in (
            ((), "test"), (("list", place.store), "ls"), (("ls",), "STORE"), (("ls", ""), "STORE"),
            (("test", place.store, "x"), "no more"), (("ls", place.store, "x", "y"), "PREFIX"),
            (("cat", "s3://bucket"), "key"), (("cat", "s3://bucket/"), "key"), (("rm", place.store, ""), "key"),
            (("ls", "s3://"), "bucket"), (("ls", "gs://b/x"), "no store"), (("ls", "file://host/x"), "file:///"),
            (("ls", "--endpoint", "", "s3://b"), "--endpoint"), (("ls", "--provider", "x", "s3://b"), "aws"),
            (("ls", "--nonsense", "s3://b"), "--nonsense"), (("ls", "--region"), "--region"),
        ):
            wrong(place, "store", *arguments, words=[word])


if __name__ == "__main__":
    run_module("store_command", sys.modules["__main__"])
