#!/usr/bin/env python3
"""`backapp archive retention`: what stays, what goes and why; chains, simulation, interruption, locks, several names, S3."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time

from cli_tools import BACKAPP, TIMEOUT, children, end, everything, run_module, tree
from s3_tools import BucketPlace, FaultProxy, Rule, StorePlace
from test_s3sync import wrong

DAY = 86400
NOW = int(time.time())


def worker(place, spec):
    """A job by its spec: a run's due time is nothing that the command line knows."""
    with subprocess.Popen([BACKAPP, "worker"], env=place.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        process.stdin.write(json.dumps(spec).encode() + b"\n")
        process.stdin.flush()
        try:
            done = [json.loads(line) for line in process.stdout][-1]
        finally:
            process.stdin.close()
            process.wait(TIMEOUT)
    assert done["type"] == "done" and done["status"] == "completed", done


def archive(place, age, kind, name="home", store=None):
    """An archive of src that is `age` days old; its base name."""
    when = NOW - age * DAY
    options = {"archive": {"name": name, "type": kind, "time": when, "fullEveryDays": 100}}
    where = store or {"url": str(place.store)}
    worker(place, {"version": 1, "type": "direct-s3", "runId": "r", "sources": [str(place.src)],
                   "destinations": [{"store": where}], "options": options})
    return time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime(when)) + f"-{kind}.tar.gz"


def make_rows(place, **how):
    """A full archive 40 days old with two increments, one 10 days old with two more."""
    bases = []
    for number, (age, kind) in enumerate(((40, "full"), (39, "incremental"), (38, "incremental"), (10, "full"),
                                          (3, "incremental"), (1, "incremental"))):
        place.fill(**{f"file{number}": f"content {number}" * 50, "changing": str(number)})
        bases.append(archive(place, age, kind, **how))
    return bases


def retention(place, *options, store=None, code=0):
    run = place.json("archive", "retention", store or place.store, *options)
    assert run.code == code, run
    return run.summary["retention"]


def states(found):
    return {point["point"]: point["state"] for point in found["points"]}


def points_of(place):
    return sorted(name.removesuffix(".index") for name in os.listdir(place.store / "home") if name.endswith(".index"))


def restored(place, point):
    """The tree of a point."""
    to = place.root / f"back-{point}"
    place.fine("restore", place.store, "--at", point, "--to", to)
    return tree(to)


def test_rules_and_chains():
    with StorePlace() as place:
        bases = make_rows(place)
        wanted = tree(place.src)
        before = everything(place.store)
        found = retention(place, "--simulate", "--keep-last", "1")
        assert everything(place.store) == before, "a simulation has changed something"
        assert states(found) == {**dict.fromkeys(bases[:3], "go"), **dict.fromkeys(bases[3:], "keep")}, found
        why = {point["point"]: point["why"] for point in found["points"]}
        assert "newest 1" in why[bases[5]] and f"needed by {bases[5]}" in why[bases[4]], why
        assert why[bases[0]] == "no rule keeps it" and found["wouldGo"] == 3 and found["removed"] == 0, found
        found = retention(place, "--keep-last", "1")
        assert states(found) == {**dict.fromkeys(bases[:3], "removed"), **dict.fromkeys(bases[3:], "keep")}, found
        assert points_of(place) == sorted(bases[3:]) and found["bytesRemoved"] > 0
        assert not [name for name in os.listdir(place.store / "home") if name.startswith(tuple(bases[:3]))]
        assert restored(place, bases[5]) == wanted
        assert retention(place, "--keep-last", "1")["removed"] == 0


def test_days_within_and_no_rule():
    with StorePlace() as place:
        bases = make_rows(place)
        assert set(states(retention(place)).values()) == {"keep"}
        found = states(retention(place, "--days", "20", "--simulate"))
        assert [found[base] for base in bases] == ["go"] * 3 + ["keep"] * 3, found
        found = states(retention(place, "--keep-within", "38d", "--dry-run"))
        assert [found[base] for base in bases] == ["keep"] * 6, found
        found = states(retention(place, "--keep-yearly", "1", "--timezone", "UTC", "--simulate"))
        assert [found[base] for base in bases] == ["go"] * 3 + ["keep"] * 3, found
        # However little the rules keep, the newest one stays.
        found = states(retention(place, "--keep-within", "1h"))
        assert points_of(place) == sorted(bases[3:]), found


def test_in_words():
    with StorePlace() as place:
        bases = make_rows(place)
        out = place.good("archive", "retention", place.store, "--count", "2", "--simulate")
        assert "the newest 2" in out and "nothing was changed" in out and "would remove 3" in out, out
        line, = [line for line in out.splitlines() if bases[0] in line]
        assert line.startswith("  would go") and line.endswith("no rule keeps it"), line
        out = place.good("archive", "retention", place.store, "--count", "2")
        assert "removed 3" in out and "kept 3" in out, out


def test_an_interrupted_one_is_continued():
    with StorePlace() as place:
        bases = make_rows(place)
        wanted = tree(place.src)
        home = place.store / "home"
        # As a kill leaves it: the marker and a volume, the index gone.
        (home / ".backapp" / "retired").mkdir(parents=True, exist_ok=True)
        (home / ".backapp" / "retired" / bases[2]).write_text("x")
        (home / f"{bases[2]}.index").unlink()
        (home / ".backapp" / "retired" / bases[5]).write_text("x")
        out = place.good("archive", "list", place.store)
        assert bases[5] in out and bases[1] in out, out
        found = retention(place)
        assert states(found)[bases[2]] == "removed" and states(found)[bases[5]] == "keep", found
        assert not (home / bases[2]).exists() and not list((home / ".backapp").glob("retired/*"))
        assert restored(place, bases[5]) == wanted


def test_several_names():
    with StorePlace() as place:
        make_rows(place)
        archive(place, 3, "full", name="other")
        code, _, err = place.run("archive", "retention", place.store, "--keep-last", "1")
        assert code == 1 and "--name" in err and "home, other" in err, err
        retention(place, "--name", "home", "--keep-last", "1")
        assert len(points_of(place)) == 3
        code, _, err = place.run("archive", "retention", place.store, "--keep-last", "1", "--name", "none")
        assert code == 1 and "none" in err, err


def test_damaged_and_unfinished():
    with StorePlace() as place:
        bases = make_rows(place)
        index = place.store / "home" / f"{bases[2]}.index"
        index.write_bytes(index.read_bytes()[:-40] + b"x" * 40)
        (place.store / "home" / f"{bases[0][:18]}-differential.tar.gz").write_bytes(b"half of a volume")
        run = place.json("archive", "retention", place.store, "--keep-last", "1")
        found = run.summary["retention"]
        assert run.code == 3 and [warning["path"] for warning in run.of("warning")] == [bases[2]], run
        assert found["removed"] == 0 and found["unfinished"] == 1, found
        assert set(points_of(place)) == set(bases)


def test_on_s3_and_interrupted():
    with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
        place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
        bases = make_rows(place, store={"url": place.url})
        wanted = tree(place.src)
        # Refused are: the deletion of an index, of a volume (also when it is tried alone), of a marker.
        no = {"action": "status", "count": 1, "status": 403, "code": "AccessDenied"}
        for rules in (({"kind": "DeleteObject", "path": "[.]index$"},),
                      ({"kind": "DeleteObjects"}, {"kind": "DeleteObject", "path": "/home/2[^/]*[.]gz$"}),
                      ({"kind": "DeleteObject", "path": "/retired/"},)):
            for rule in rules:
                proxy.add(Rule(**no, **rule))
            run = place.json("archive", "retention", place.url, "--keep-last", "1")
            assert run.code == 1 and "AccessDenied" in run.done["error"]["message"], run
            proxy.clear()
            out = place.good("archive", "list", place.url)
            assert bases[5] in out and bases[0] in out, out
        found = retention(place, "--keep-last", "1", store=place.url)
        assert found["kept"] == 3, found
        keys = place.keys(own=True)
        assert sorted(key for key in keys if key.endswith(".index")) == [f"home/{base}.index" for base in bases[3:]], keys
        assert not [key for key in keys if "retired" in key or key.endswith("lock")], keys
        place.fine("restore", place.url, "--to", place.back)
        assert tree(place.back) == wanted


def retention_killed(place, proxy, number, when):
    """A retention whose worker is killed at this request of those that change something."""
    process = place.start("archive", "retention", "--json", "--keep-last", "1", place.url)
    rule = proxy.add(Rule("kill", method=["PUT", "DELETE", "POST"], nth=number, when=when,
                          pid=lambda: next(iter(children(process)), None)))
    try:
        process.communicate(timeout=TIMEOUT)
    finally:
        end(process)
    proxy.clear()
    assert process.returncode == 1 and rule.fired == 1, (number, when, process.returncode)


def test_killed_on_s3():
    """Requests that change something: lock, then marker, index, volumes, marker of each of three."""
    for number, when in ((2, "after"), (3, "before"), (3, "after"), (4, "before"), (5, "after"), (11, "after")):
        with BucketPlace() as place, FaultProxy(place.server.plain_endpoint) as proxy:
            place.environment["AWS_S3_ENDPOINT"] = proxy.endpoint
            bases = make_rows(place, store={"url": place.url})
            retention_killed(place, proxy, number, when)
            place.fine("verify", place.url)
            lines = map(json.loads, place.good("archive", "list", "--json", place.url).splitlines())
            for point in [line["point"] for line in lines if not line["unfinished"]]:
                place.fine("restore", place.url, "--at", point, "--to", place.root / f"back-{point}")
            retention(place, "--keep-last", "1", store=place.url)
            keys = sorted(key for key in place.keys(own=True) if key.startswith("home/"))
            assert keys == sorted(key for base in bases[3:] for key in (f"home/{base}", f"home/{base}.index")), keys


def test_object_lock():
    """A locked index: the point is skipped and what it builds on stays; nothing of it is hidden by a deletion."""
    with BucketPlace(lock=True) as place:
        bases = make_rows(place, store={"url": place.url})
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        body = f"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>".encode()
        place.client.good("PUT", place.bucket, f"backup/home/{bases[1]}.index", query={"retention": ""}, body=body,
                          headers={"Content-MD5": base64.b64encode(hashlib.md5(body).digest()).decode()})
        run = place.json("archive", "retention", place.url, "--keep-last", "1")
        found = run.summary["retention"]
        assert run.code == 3 and found["skipped"] == 1 and found["removed"] == 1, run
        assert states(found)[bases[1]] == "skipped" and states(found)[bases[0]] == "keep", found
        assert [(w["code"], w["path"]) for w in run.of("warning")] == [("skipped", bases[1])], run
        place.fine("restore", place.url, "--at", bases[1], "--to", place.back)
        # What went is gone for good, not only hidden.
        listed = place.client.good("GET", place.bucket, query={"versions": "", "prefix": f"backup/home/{bases[2]}"}).body
        assert b"<Key>" not in listed, listed


def test_wrong_input_is_refused():
    with StorePlace() as place:
        for arguments, word in (
            ((), "STORE"), ((place.store, "x"), "nothing else"), ((place.store, "--keep-last", "0"), "--keep-last"),
            ((place.store, "--keep-daily", "-1"), "--keep-daily"), ((place.store, "--keep-within", "5"), "--keep-within"),
            ((place.store, "--days", "x"), "--days"), ((place.store, "--timezone", "No/Where"), "--timezone"),
            ((place.store, "--level", "3"), "--level"), ((place.store, "--unfinishd"), "--unfinished"),
        ):
            wrong(place, "archive", "retention", *arguments, words=[word])


if __name__ == "__main__":
    run_module("retention", sys.modules["__main__"])
