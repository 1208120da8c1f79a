#!/usr/bin/env python3
"""s3sync and restore against a real S3 server through a proxy that breaks what passes: each kind of request is hit by each
kind of fault, in a first sync with parts, a changed one with deletions and trash, and a restore. See s3_scene.py for what
must hold. BACKAPP_TEST_LONG=1 adds faults and lets connections stall for longer than they may."""

import sys
import threading
import time

from s3_scene import LONG, PREFIX, FaultProxy, Scene, clear_error, completed, contents, run_all, same, snapshot

from aws_doubles import Imds
from fault_rules import Rule, expired_token, internal_error, revoked_key, skewed_clock, slow_down, wrong_etag
from s3_double import S3Double

KINDS = ("ListObjectsV2", "GetObject", "HeadObject", "PutObject", "DeleteObject", "DeleteObjects", "CopyObject",
         "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")
SENT = ("PutObject", "UploadPart", "CompleteMultipartUpload", "DeleteObjects")  # with a body
FEW = ("ListObjectsV2", "GetObject", "PutObject", "CopyObject", "UploadPart")
SYNCED = {"ListObjectsV2", "GetObject", "PutObject", "CopyObject", "CreateMultipartUpload", "UploadPart",
          "CompleteMultipartUpload"}


class Fault:
    """Makes the rules of one fault for each kind of request, and remembers which were hit."""

    def __init__(self, action, kinds=KINDS, count=2, make=Rule, **how):
        self.action, self.kinds, self.count, self.make, self.how = action, kinds, count, make, how
        self.hit = set()
        self.rules = []

    def arm(self, scene):
        self.look()
        options = dict(self.how)
        if self.make is Rule:
            self.rules = [Rule(self.action, kind=kind, count=self.count, **options) for kind in self.kinds]
        else:
            self.rules = [self.make(kind=kind, count=self.count, **options) for kind in self.kinds]
        scene.proxy.replace(*self.rules)

    def look(self):
        self.hit |= {rule.choice["kind"] for rule in self.rules if rule.fired}


def three_runs(fault, *expected, strict=True):
    """First sync, changed sync and restore, each under the fault. strict: it is one that must be got over."""
    with Scene() as scene:
        fault.arm(scene)
        run = scene.sync()
        if strict:
            completed(run)
        scene.judge(run)
        scene.new_state()
        fault.arm(scene)
        run = scene.sync()
        if strict:
            completed(run)
        fault.look()
        scene.judge(run)
        fault.arm(scene)
        restore_under_faults(scene, strict)
        fault.look()
        for request in scene.proxy.log():
            # A body that is cut short keeps the server waiting, and the run for as long as it has patience.
            length = int(request.headers.get("content-length") or 0)
            assert request.faults or request.body_bytes == length, f"{request.kind}: {request.body_bytes} of {length} bytes"
        missing = set(expected or SYNCED & set(fault.kinds)) - fault.hit
        assert not missing, f"not hit: {missing}"


def restore_under_faults(scene, strict):
    scene.back = scene.root / "again"
    run = scene.restore()
    if strict:
        completed(run)
    if run.code != 0:
        clear_error(run)
        found = contents(snapshot(scene.back)) if scene.back.exists() else {}
        wanted = contents(scene.new)
        for name, content in found.items():
            assert content == wanted.get(name), f"restored wrong: {name}"
        completed(scene.restore(direct=True))
    same(snapshot(scene.back), scene.new, "restored")


def reset(at, **how):
    three_runs(Fault("reset", SENT if at == "request-body" else KINDS, at=at, **how))


def status(make, kinds=KINDS, **how):
    three_runs(Fault("status", kinds, make=make, **how))


def status_after_the_work(make, **how):
    """The server does what it is asked, but says that it failed: repeating must do no harm."""
    three_runs(Fault("status", make=make, count=1, forward=True, **how))


def truncated(offset):
    """An empty body of a copy's or a completion's answer must not count as success."""
    three_runs(Fault("truncate", [kind for kind in KINDS if kind not in ("HeadObject", "UploadPart", "PutObject")],
                     offset=offset), "ListObjectsV2", "GetObject", "CompleteMultipartUpload", "CopyObject")


def corrupt_answers(offset, *kinds):
    three_runs(Fault("corrupt", kinds, offset=offset), *kinds, strict=False)


def corrupt_errors(body):
    """Errors that are no XML, or half of it, or lie about their length."""
    three_runs(Fault("status", make=internal_error, body=body))


def corrupt_uploads(offset):
    """The server compares what it gets with the hash that was signed."""
    three_runs(Fault("corrupt", ("PutObject", "UploadPart"), offset=offset, request=True))


def wrong_etags():
    three_runs(Fault("header", ("PutObject", "UploadPart"), make=wrong_etag), strict=False)


def errors_in_good_answers(kind):
    """S3 may begin an answer with 200 and then say that it failed."""
    body = b"<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>sorry</Message></Error>"
    three_runs(Fault("status", (kind,), status=200, body=body))


def hostile_lists(pattern, replacement):
    """A list that makes no sense ends the run, or is asked for again; nothing is deleted on its word."""
    with Scene(big=False) as scene:
        scene.first()
        scene.new_state()
        rule = Rule("edit", kind="ListObjectsV2", pattern=pattern, replacement=replacement)
        scene.proxy.replace(rule)
        run = scene.sync()
        assert rule.fired
        if run.code == 0:
            scene.check_safe()
            scene.proxy.replace()
            completed(scene.sync())
        scene.judge(run)


# ---- times

def latency():
    three_runs(Fault("latency", count=1000, seconds=0.03))


def stall(at):
    """Seconds without a byte are borne; beyond a minute the connection is given up and the request repeated."""
    three_runs(Fault("stall", FEW, count=1, at=at, seconds=75 if LONG else 0.4))


def refused_for_a_while():
    with Scene(big=False) as scene:
        at = threading.Timer(0.3, lambda: (scene.proxy.refuse(), scene.proxy.drop()))
        back = threading.Timer(2.0, scene.proxy.listen)
        scene.proxy.add(Rule("latency", seconds=0.05))
        at.start()
        back.start()
        run = scene.sync()
        at.join()
        back.join()
        completed(run)
        scene.judge(run)


def refused_for_good():
    """Connections are refused from the middle of a changed run on."""
    with Scene(big=False) as scene:
        scene.first()
        scene.new_state()
        scene.proxy.add(Rule("latency", seconds=0.05))

        def away():
            while scene.proxy.counts()["CopyObject"] < 2 and not ended.wait(0.01):
                pass
            scene.proxy.refuse()
            scene.proxy.drop()
        ended = threading.Event()
        watcher = threading.Thread(target=away)
        watcher.start()
        try:
            run = scene.sync("--concurrency", "1")
        finally:
            ended.set()
            watcher.join()
        scene.judge(run, "127.0.0.1|connect", may_complete=False)


def restart(crash):
    """The gateway is killed in mid-run and comes back."""
    with Scene() as scene:
        scene.first()
        scene.new_state()
        scene.proxy.add(Rule("latency", seconds=0.05))

        def again():
            while scene.proxy.counts()["CopyObject"] < 2 and not ended.wait(0.01):
                pass
            scene.server.kill_gateway()
            if crash:
                time.sleep(1.5)
            scene.server.restart_gateway()
        ended = threading.Event()
        watcher = threading.Thread(target=again)
        watcher.start()
        try:
            run = scene.sync()
        finally:
            ended.set()
            watcher.join()
        completed(run)
        scene.judge(run)


# ---- keys and clocks

class DoubleScene(Scene):
    """A scene on the double, behind a proxy, with nothing said of keys yet."""

    def __init__(self, **options):
        super().__init__(bucket=False, **options)
        self.server = S3Double()
        self.server.plain_endpoint = self.server.endpoint
        self.proxy = FaultProxy(self.server.endpoint)
        self.bucket = self.server.new_bucket()
        self.url = f"s3://{self.bucket}/{PREFIX[:-1]}"
        self.environment.update(self.server.variables(), AWS_S3_ENDPOINT=self.proxy.endpoint)

    def __exit__(self, *why):
        super().__exit__(*why)
        self.server.stop()


def keys_are_fetched_anew():
    """Keys of the machine's role end in mid-run: new ones are fetched, and the run completes."""
    with DoubleScene() as scene, Imds(keys=scene.server.keys) as imds:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del scene.environment[name]
        scene.environment.update(imds.environment())
        scene.proxy.add(Rule("latency", seconds=0.05))

        def expire():
            while scene.proxy.counts()["PutObject"] < 4 and not ended.wait(0.01):
                pass
            scene.server.keys.expire_all()
        ended = threading.Event()
        watcher = threading.Thread(target=expire)
        watcher.start()
        try:
            run = scene.sync()
        finally:
            ended.set()
            watcher.join()
        completed(run)
        assert any(request.status in (400, 403) for request in scene.proxy.log()), "no key was refused"
        scene.proxy.replace()
        scene.check_right()


def keys_end(make, *words):
    """Keys that were given cannot be fetched anew: one error says what to do."""
    with Scene(big=False) as scene:
        scene.first()
        scene.new_state()
        rule = scene.proxy.add(make(kind=["PutObject", "CopyObject"], skip=2))
        run = scene.sync(AWS_SESSION_TOKEN="") if make is revoked_key else scene.sync()
        assert rule.fired and rule.fired < 40, rule
        scene.judge(run, *words, may_complete=False)


def skewed_server(seconds):
    """Signatures take the server's time once it said that ours is wrong."""
    with DoubleScene(big=False) as scene:
        scene.server.clock_shift = seconds
        completed(scene.sync())
        scene.new_state()
        completed(scene.sync())
        scene.server.clock_shift = 0
        scene.check_right()


def skewed_for_a_moment():
    three_runs(Fault("status", ("ListObjectsV2", ), make=skewed_clock, count=1, seconds=600))


def checksums_at_the_double(offset):
    """A server that checks x-amz-checksum-*: what was changed on the way is sent again."""
    with DoubleScene() as scene:
        scene.proxy.add(Rule("corrupt", kind=["PutObject", "UploadPart"], count=2, offset=offset, request=True))
        completed(scene.sync("--provider", "aws"))
        scene.proxy.replace()
        scene.check_right()


# ---- full

def full_bucket():
    """Beyond the quota nothing is stored: one error, the old state whole; with more room it completes."""
    with Scene(big=False) as scene:
        scene.first()
        scene.new_state()
        for number in range(30):
            scene.write(f"more/{number}", b"more")
        scene.new = snapshot(scene.src)
        held = len(scene.stored())
        scene.server.set_quota(max_objects=held + 6)
        try:
            run = scene.sync()
            clear_error(run, "quota|Quota|full|space")
        finally:
            scene.server.set_quota(enabled=False)
        scene.judge(run, may_complete=False)


# Parts of which each is short; more of the like only in the long form.
PARTS = {
    "resets": [
        *((f"reset_{at.replace('-', '_')}", reset, at)
          for at in ("request", "request-body", "before-headers", "headers", "end")),
        ("reset_last_byte", lambda: reset("body", offset=-1)),
        ("latency", latency),
        ("stall_before_headers", stall, "before-headers"),
        ("stall_body", stall, "body"),
        ("refused_for_a_while", refused_for_a_while),
        ("refused_for_good", refused_for_good),
    ],
    "answers": [
        ("status_500", status, internal_error),
        ("status_503_slow_down", status, slow_down),
        ("status_500_after_the_work", status_after_the_work, internal_error),
        ("truncated_to_nothing", truncated, 0),
        ("truncated_by_a_byte", truncated, -1),
        ("corrupt_list", corrupt_answers, None, "ListObjectsV2"),
        ("corrupt_object", corrupt_answers, None, "GetObject"),
        ("corrupt_answer_of_copy", corrupt_answers, None, "CopyObject", "CompleteMultipartUpload", "CreateMultipartUpload"),
        ("corrupt_error_no_xml", corrupt_errors, "<html>Bad gateway"),
        ("corrupt_upload", corrupt_uploads, None),
        ("error_in_good_copy", errors_in_good_answers, "CopyObject"),
        ("error_in_good_complete", errors_in_good_answers, "CompleteMultipartUpload"),
        ("wrong_etags", wrong_etags),
    ],
    "state": [
        ("status_503_retry_after", lambda: status(slow_down, retry_after=1, count=1, kinds=FEW)),
        ("list_without_end", hostile_lists, "<IsTruncated>false", "<IsTruncated>true"),
        ("list_with_strange_keys", hostile_lists, "<Key>[^<]*</Key>", "<Key>elsewhere/x</Key>"),
        ("list_with_wrong_sizes", hostile_lists, "<Size>[^<]*</Size>", "<Size>-1</Size>"),
        ("keys_are_fetched_anew", keys_are_fetched_anew),
        ("keys_revoked", keys_end, revoked_key, "key"),
        ("keys_expired", keys_end, expired_token, "expired|token|key"),
        ("clock_ahead", skewed_server, 3600),
        ("clock_behind", skewed_server, -7200),
        ("clock_refused_once", skewed_for_a_moment),
        ("checksums", checksums_at_the_double, None),
    ],
    "long": [
        ("reset_body", reset, "body"),
        ("reset_first_byte", lambda: reset("body", offset=1)),
        ("status_503_after_the_work", status_after_the_work, slow_down),
        ("truncated_in_the_middle", truncated, None),
        ("corrupt_object_last_byte", corrupt_answers, -1, "GetObject"),
        ("corrupt_error_half", corrupt_errors, '<?xml version="1.0"?><Error><Code>Inter'),
        ("corrupt_error_empty", corrupt_errors, ""),
        ("corrupt_upload_last_byte", corrupt_uploads, -1),
    ],
}
# These stop the server that all share.
ALONE = [("full_bucket", full_bucket), ("gateway_restart", restart, False), ("gateway_killed", restart, True)]


def main():
    """[--part resets|answers|state|long] [WORD]..."""
    parts = [*PARTS] if LONG else [*PARTS][:3]
    if sys.argv[1:2] == ["--part"]:
        parts = [sys.argv[2]]
        del sys.argv[1:3]
    cases = [case for part in parts for case in PARTS[part]]
    # The longest first, so that the end is not one of them alone.
    cases.sort(key=lambda case: case[0] != "refused_for_good")
    return run_all("s3_faults", cases, ALONE if "state" in parts else ())


if __name__ == "__main__":
    sys.exit(main())
