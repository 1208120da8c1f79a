#!/usr/bin/env python3
"""The servers that other tests rely on, proved by clients that are not ours: aws-cli, rclone, curl and plain Python."""

import atexit
import base64
import concurrent.futures
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import fault_rules
import peers
import s3_checksums
import sigv4
from aws_doubles import ContainerCredentials, Imds, KeyRing, Sts
from fault_proxy import FaultProxy
from fault_rules import Rule
from s3_client import S3Client
from s3_double import S3Double
from s3_kinds import kind_of
from s3_server import S3Server
from server_tools import Skip, command_line, program, wait_until

import cli_tools  # found by server_tools

HERE = pathlib.Path(__file__).resolve().parent
ROOT = pathlib.Path(tempfile.mkdtemp(prefix="backapp-servers-"))
atexit.register(shutil.rmtree, ROOT, ignore_errors=True)
LIMIT = 120  # seconds for any program
BREAKS = (http.client.HTTPException, OSError)
shared = {}


def server():
    """One server for the cases that do not change it for good."""
    if "server" not in shared:
        shared["server"] = S3Server()
        atexit.register(shared["server"].stop)
    return shared["server"]


def run(command, **options):
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": LIMIT, "check": False, **options}
    return subprocess.run(command, **options)


def start_script(script):
    """A Python script that can import what lies here, with pipes for its input and output."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script], cwd=HERE, **pipes)


def expect(answer, status, code=None):
    assert (answer.status, answer.code) == (status, code), f"{answer}, not {status} {code}"


def http_get(url, method="GET", headers=None, body=None):
    """(status, body) of a plain request."""
    request = urllib.request.Request(url, method=method, headers=headers or {}, data=body)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=LIMIT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as why:
        return why.code, why.read().decode()


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")


# ---- signatures

def test_signatures_as_published():
    keys = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    host = "examplebucket.s3.amazonaws.com"
    headers = {"host": host, "range": "bytes=0-9", "x-amz-content-sha256": sigv4.EMPTY_SHA256, "x-amz-date": "20130524T000000Z"}
    value = sigv4.authorize("GET", "/test.txt", [], headers, sigv4.EMPTY_SHA256, keys, "us-east-1")
    assert value.endswith("Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"), value
    query = sigv4.presign("GET", host, "/test.txt", [], keys, "us-east-1", "20130524T000000Z", 86400)
    assert "X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404" in query, query


def test_kinds_of_requests():
    for method, target, headers, kind in (
        ("GET", "/", {}, "ListBuckets"), ("PUT", "/b/k", {}, "PutObject"),
        ("PUT", "/b/k", {"x-amz-copy-source": "/b/x"}, "CopyObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", {}, "UploadPart"), ("POST", "/b/k?uploads", {}, "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=u", {}, "CompleteMultipartUpload"), ("GET", "/b?list-type=2&prefix=k", {}, "ListObjectsV2"),
        ("GET", "/b/?versions", {}, "ListObjectVersions"), ("POST", "/b?delete", {}, "DeleteObjects"),
        ("GET", "/b?lifecycle", {}, "GetBucketLifecycleConfiguration"), ("HEAD", "/b", {}, "HeadBucket"),
        ("PUT", "/k", {"host": "b.s3.localhost:80"}, "PutObject"),
        ("PUT", "/b/k?uploadId=u&partNumber=1", {"x-amz-copy-source": "/b/x"}, "UploadPartCopy"),
    ):
        found = kind_of(method, target, headers)
        assert found == kind, f"{method} {target}: {found}, not {kind}"


# ---- the real server

def test_server_every_style():
    it, data = server(), os.urandom(70000)
    bucket = it.new_bucket()
    virtual = {"endpoint": it.variables()["S3_TEST_VIRTUAL_ENDPOINT"], "virtual": True}
    virtual_tls = {"endpoint": it.variables()["S3_TEST_VIRTUAL_TLS_ENDPOINT"], "virtual": True}
    styles = [{"endpoint": it.plain_endpoint}, {"endpoint": it.tls_endpoint}, virtual, virtual_tls]
    for number, style in enumerate(styles):
        with it.client(**style) as client:
            client.put(bucket, f"a b/ü?+&#{number}", data)
    for style in styles:
        with it.client(**style) as client:
            assert client.get(bucket, "a b/ü?+&#0").body == data
            assert [key for key, size, _ in client.listing(bucket) if size == len(data)] == [f"a b/ü?+&#{n}" for n in range(4)]


def test_server_curl_on_virtual_host():
    it = server()
    bucket, curl = it.new_bucket(), program("curl")
    with it.client() as client:
        client.put(bucket, "key", b"by curl")
    for port, scheme in ((it.port, "http"), (it.tls_port, "https")):
        host = f"{bucket}.s3.localhost:{port}"
        query = sigv4.presign("GET", host, "/key", [], (it.access_key, it.secret_key), it.region, now(), 60)
        done = run([curl, "-sS", "--noproxy", "*", "--cacert", it.ca, f"{scheme}://{host}/key?{query}"])
        assert done.stdout == "by curl", done


def test_server_refuses():
    it = server()
    bucket = it.new_bucket()
    with it.client() as client:
        client.put(bucket, "key", b"data")
        expect(it.client(keys=(it.access_key, "wrong")).request("GET", bucket, "key"), 403, "SignatureDoesNotMatch")
        expect(it.client(keys=("nobody", "wrong")).request("GET", bucket, "key"), 403, "InvalidAccessKeyId")
        expect(it.client(shift=3600).request("GET", bucket, "key"), 403, "RequestTimeTooSkewed")
        expect(it.client(keys=it.add_user("other")).request("GET", bucket, "key"), 403, "AccessDenied")
        md5 = base64.b64encode(hashlib.md5(b"others").digest()).decode()
        expect(client.request("PUT", bucket, "key", body=b"data", headers={"Content-MD5": md5}), 400, "BadDigest")
        other = hashlib.sha256(b"others").hexdigest()
        expect(client.request("PUT", bucket, "key", body=b"data", payload=other), 400, "XAmzContentSHA256Mismatch")
        expect(client.request("PUT", bucket, "key", body=b"x", headers={"If-None-Match": "*"}), 412, "PreconditionFailed")
        expect(client.request("PUT", bucket, "cold", body=b"x", headers={"x-amz-storage-class": "DEEP_ARCHIVE"}), 200)


def test_server_quota():
    it = server()
    bucket = it.new_bucket()
    try:
        it.set_quota(max_bytes=5 << 20)
        with it.client() as client:
            expect(client.request("PUT", bucket, "big", body=bytes(6 << 20)), 403, "QuotaExceeded")
    finally:
        it.set_quota(enabled=False)


def test_server_gateway_crash():
    it = server()
    bucket = it.new_bucket()
    with it.client() as client:
        client.put(bucket, "key", b"kept")
        it.kill_gateway()
        try:
            answer = client.request("GET", bucket, "key")
            raise AssertionError(f"answered without a gateway: {answer}")
        except BREAKS:
            pass
        it.restart_gateway()
        assert client.get(bucket, "key").body == b"kept"


def test_server_options():
    with S3Server(max_requests=2, fast_lc=1, tls=True) as it:
        assert it.env()["AWS_S3_ENDPOINT"].startswith("https://") and it.env()["AWS_CA_BUNDLE"] == str(it.ca)
        bucket = it.new_bucket(versioning=True)
        rule = (b"<LifecycleConfiguration><Rule><ID>r</ID><Prefix></Prefix><Status>Enabled</Status>"
                b"<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>")
        with it.client() as client:
            client.put(bucket, "key", b"x")
            md5 = base64.b64encode(hashlib.md5(rule).digest()).decode()
            client.good("PUT", bucket, query={"lifecycle": ""}, body=rule, headers={"Content-MD5": md5})

            def expired():
                it.run_lifecycle()
                return client.head(bucket, "key").status == 404

            wait_until(expired, "the lifecycle rule", pause=0.2)
        assert slowed(it, bucket), "no request was answered SlowDown"


def slowed(it, bucket):
    """Whether one of many concurrent requests is told to slow down."""
    codes = set()

    def put(number):
        with it.client(endpoint=it.plain_endpoint) as client:
            for turn in range(8):
                codes.add(client.request("PUT", bucket, f"{number}/{turn}", body=bytes(300000)).code)

    for _ in range(5):
        threads = [threading.Thread(target=put, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if "SlowDown" in codes:
            return True
    return False


def test_server_survives_power_loss():
    with bluestore.result() as it:
        bucket = it.new_bucket()
        with it.client() as client:
            client.put(bucket, "key", b"acknowledged")
            it.crash_store()
            it.restart()
            assert client.get(bucket, "key").body == b"acknowledged"


def test_server_ends_with_the_test():
    program("curl")
    program("radosgw")
    script = "from s3_server import S3Server; import sys\ns = S3Server(); print(s.directory, flush=True); sys.stdin.read()"
    process = start_script(script)
    place = pathlib.Path(process.stdout.readline().strip())
    pids = [int((place / f"{name}.pid").read_text()) for name in ("mon", "osd", "rgw")]
    process.kill()
    process.communicate()
    wait_until(lambda: not place.parent.exists(), "the guard to clean up")
    left = [pid for pid in pids if any(command_line(pid))]
    assert not left, f"still there: {left}"


def test_server_by_commands():
    program("curl")
    program("radosgw")
    place = ROOT / "by hand"
    tool = [sys.executable, HERE / "s3_server.py"]
    assert run([*tool, "start", place]).returncode == 0
    try:
        assert "exists" in run([*tool, "start", place]).stderr
        it = S3Server.attach(place)
        bucket = it.new_bucket()
        assert run([*tool, "kill-gateway", place]).returncode == 0
        assert run([*tool, "restart", place]).returncode == 0
        done = run(["/bin/sh", "-c", f"curl -sS --noproxy '*' \"$AWS_S3_ENDPOINT/{bucket}\""], env=it.env())
        assert "AccessDenied" in done.stdout, done
    finally:
        assert run([*tool, "stop", place]).returncode == 0
    assert not place.exists()


def test_server_around_a_command():
    program("curl")
    program("radosgw")
    options = cli_tools.as_nobody()
    script = 'test -n "$S3_TEST_BUCKET" && curl -sS -o /dev/null --cacert "$S3_TEST_CA" "$S3_TEST_TLS_ENDPOINT" && exit 5'
    if options and run(["/bin/sh", "-c", f"test -r {HERE}/s3_server.py"], **options).returncode != 0:
        raise Skip("another user cannot read the tests here")
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable  # one that others may start
    command = [python, HERE / "s3_server.py", "run", "--", "/bin/sh", "-c", script]
    done = run(command, env={**os.environ, "TMPDIR": "/tmp"}, **options)
    assert done.returncode == 5, done


# ---- the proxy

def through(rule, method="GET", body=b"", payload=None, data=b"x" * 3000):
    """Sends a request for an object with `data` through a rule: (Answer or None if the connection broke, log entry)."""
    it = server()
    if "proxy" not in shared:
        shared["proxy"] = FaultProxy(it.plain_endpoint, keep_bodies=1 << 16)
        shared["bucket"] = it.new_bucket()
    proxy, bucket = shared["proxy"], shared["bucket"]
    with it.client() as direct:
        direct.put(bucket, "key", data)
    proxy.replace(*([rule] if rule else []))
    try:
        with it.client(endpoint=proxy.endpoint) as client:
            answer = client.request(method, bucket, "key", body=body, payload=payload)
    except BREAKS as why:
        answer, shared["why"] = None, why
    return answer, proxy.log()[-1]


def stored():
    with server().client() as direct:
        return direct.get(shared["bucket"], "key").body


def test_proxy_passes():
    data = os.urandom(200000)
    answer, entry = through(None, data=data)
    assert answer.body == data and entry.kind == "GetObject" and entry.status == 200 and entry.answer_bytes == len(data)
    with FaultProxy(server().plain_endpoint, tls=server().directory / "tls.pem") as proxy:
        with server().client(endpoint=proxy.virtual_endpoint, virtual=True) as client:
            assert client.get(shared["bucket"], "key").body == data
            client.put(shared["bucket"], "other", data)
            assert proxy.log()[-1].body_bytes == len(data) and dict(proxy.counts()) == {"GetObject": 1, "PutObject": 1}


def test_proxy_resets():
    for at, passed in (("request", 0), ("before-headers", 0), ("headers", 0), ("body", 1500)):
        answer, entry = through(Rule("reset", at=at))
        assert answer is None and entry.answer_bytes == passed, f"{at}: {answer} {entry}"
        assert type(shared["why"]) is ConnectionResetError, f"{at}: {shared['why']!r}"
        assert (entry.server_status is None) == (at == "request"), entry
    answer, entry = through(Rule("reset", at="body", offset=-1))
    assert answer is None and entry.answer_bytes == 2999, entry
    answer, entry = through(Rule("reset", at="request-body"), "PUT", b"new" * 1000)
    assert answer is None and entry.body_bytes == 1500 and stored() == b"x" * 3000, entry
    answer, entry = through(Rule("reset", at="before-headers"), "PUT", b"new" * 1000)
    assert answer is None and stored() == b"new" * 1000, "the server did its work"


def test_proxy_damages():
    answer, _ = through(Rule("corrupt", offset=-1))
    assert answer.body == b"x" * 2999 + b"X", answer.body[-10:]
    answer, entry = through(Rule("truncate", offset=10))
    assert answer is None and entry.answer_bytes == 10, entry
    answer, _ = through(Rule("corrupt", request=True), "PUT", b"new" * 1000)
    expect(answer, 400, "XAmzContentSHA256Mismatch")
    answer, _ = through(Rule("corrupt", request=True), "PUT", b"new" * 1000, sigv4.UNSIGNED)
    assert answer.status == 200 and stored() != b"new" * 1000, "an unsigned body is not protected"
    answer, _ = through(fault_rules.wrong_etag())
    assert answer.headers["etag"] == '"' + 32 * "0" + '"'


def test_proxy_answers():
    for rule, status, code, header in (
        (fault_rules.slow_down(3), 503, "SlowDown", ("retry-after", "3")),
        (fault_rules.internal_error(), 500, "InternalError", None),
        (fault_rules.expired_token(), 400, "ExpiredToken", None),
        (fault_rules.redirect("eu-west-3", "http://127.0.0.1:1", 307), 307, "TemporaryRedirect",
         ("x-amz-bucket-region", "eu-west-3")),
        (fault_rules.request_timeout(), 408, "RequestTimeout", None),
        (Rule("status", status=200, body="not XML"), 200, None, None),
    ):
        answer, entry = through(rule)
        expect(answer, status, code)
        assert header is None or answer.headers[header[0]] == header[1], answer.headers
        assert entry.server_status is None, entry
    answer, entry = through(fault_rules.internal_error(forward=True), "PUT", b"new")
    assert answer.status == 500 and entry.server_status == 200 and stored() == b"new"
    answer, _ = through(fault_rules.skewed_clock(7200))
    date = datetime.datetime.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=datetime.timezone.utc)
    assert 6000 < date.timestamp() - time.time() < 9000, date


def test_proxy_chooses():
    through(None)
    proxy, bucket = shared["proxy"], shared["bucket"]

    def statuses(rule, count=9):
        proxy.replace(rule)
        with server().client(endpoint=proxy.endpoint) as client:
            return "".join("x" if client.request("HEAD", bucket, "key").status == 503 else "." for _ in range(count))

    assert statuses(fault_rules.slow_down(nth=3)) == "..x......"
    assert statuses(fault_rules.slow_down(skip=1, every=3)) == ".x..x..x."
    assert statuses(fault_rules.slow_down(count=2)) == "xx......."
    assert statuses(fault_rules.slow_down(kind="GetObject")) == "........."
    assert statuses(fault_rules.slow_down(path="/key$", method=["GET", "HEAD"], header="^x-amz-date: ")) != "........."
    by_chance = statuses(fault_rules.slow_down(probability=0.5, seed=7), 20)
    assert by_chance == statuses(fault_rules.slow_down(probability=0.5, seed=7), 20)
    assert 2 < by_chance.count("x") < 18, by_chance


def test_proxy_delays():
    for rule in (Rule("latency", seconds=0.3), Rule("stall", at="headers", seconds=0.3), Rule("stall", at="body", seconds=0.3),
                 Rule("slow", rate=10000)):
        began = time.monotonic()
        answer, _ = through(rule)
        assert answer.body == b"x" * 3000 and time.monotonic() - began >= 0.25, rule
    answer, _ = through(Rule("close"))
    assert answer.headers["connection"] == "close"


def test_proxy_kills_the_client():
    it = server()
    through(None)
    proxy, bucket = shared["proxy"], shared["bucket"]
    script = (f"from s3_client import S3Client\nc = S3Client({proxy.endpoint!r}, ({it.access_key!r}, {it.secret_key!r}))\n"
              f"input()\nc.head({bucket!r}, 'key'); c.put({bucket!r}, 'new', bytes(1000)); print('alive')")
    for when, written in (("before", False), ("body", False), ("after", True)):
        proxy.clear()
        process = start_script(script)
        proxy.kill_at(2, process.pid, when)
        out, _ = process.communicate("go\n", timeout=LIMIT)
        assert process.returncode == -signal.SIGKILL and not out, (when, process.returncode, out)
        with it.client() as direct:
            assert (direct.head(bucket, "new").status == 200) == written, when
            direct.delete(bucket, "new")
        assert proxy.counts()["PutObject"] == 1


def test_proxy_refuses_and_drops():
    it = server()
    through(None)
    proxy, bucket = shared["proxy"], shared["bucket"]
    proxy.clear()
    with it.client(endpoint=proxy.endpoint) as client:
        client.get(bucket, "key")
        proxy.refuse()
        proxy.drop()
        try:
            client.get(bucket, "key")
            raise AssertionError("connected although the proxy refuses")
        except BREAKS:
            pass
        proxy.listen()
        assert client.get(bucket, "key").status == 200
    secrets = [it.secret_key]
    assert proxy.log() and not any(secret in entry.text() for entry in proxy.log() for secret in secrets)
    assert any(it.access_key in entry.text() for entry in proxy.log()), "the log holds the headers"


def test_proxy_control():
    it = server()
    bucket = it.new_bucket()
    process = subprocess.Popen([sys.executable, HERE / "fault_proxy.py", "--target", it.plain_endpoint, "--rules",
                                '[{"action": "status", "status": 503, "code": "SlowDown", "count": 1}]'],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address = json.loads(process.stdout.readline())
        with it.client(endpoint=address["endpoint"]) as client:
            expect(client.request("PUT", bucket, "key", body=b"x"), 503, "SlowDown")
            expect(client.request("PUT", bucket, "key", body=b"x"), 200)
            rules = b'[{"action": "status", "status": 500, "kind": "HeadObject"}]'
            assert http_get(address["control"] + "/rules", "PUT", body=rules)[0] == 200
            assert client.head(bucket, "key").status == 500
            assert http_get(address["control"] + "/rules", "POST", body=b'[{"action": "no such"}]')[0] == 400
            assert json.loads(http_get(address["control"] + "/counts")[1]) == {"PutObject": 2, "HeadObject": 1}
            assert [entry["status"] for entry in json.loads(http_get(address["control"] + "/log")[1])] == [503, 200, 500]
    finally:
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0


# ---- credentials

def test_instance_metadata():
    token_header, ttl = "X-aws-ec2-metadata-token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    with Imds(lifetime=900) as imds:
        base = imds.endpoint + "/latest"
        assert http_get(base + "/meta-data/iam/security-credentials/")[0] == 401
        assert http_get(base + "/api/token", "PUT")[0] == 400
        assert http_get(base + "/api/token", "PUT", {**ttl, "X-Forwarded-For": "10.0.0.1"})[0] == 403
        status, token = http_get(base + "/api/token", "PUT", ttl)
        assert status == 200
        role = http_get(base + "/meta-data/iam/security-credentials/", headers={token_header: token})[1]
        status, text = http_get(f"{base}/meta-data/iam/security-credentials/{role}", headers={token_header: token})
        found = json.loads(text)
        assert status == 200 and imds.keys.find(found["AccessKeyId"]).secret == found["SecretAccessKey"], text
        imds.v1 = True
        assert http_get(base + "/meta-data/placement/region")[1] == imds.region
        assert http_get(base + "/meta-data/placement/region", headers={token_header: "wrong"})[0] == 401
        imds.role = None
        assert http_get(base + "/meta-data/iam/security-credentials/", headers={token_header: token})[0] == 404


def test_container_credentials():
    with ContainerCredentials(token_file=ROOT / "token") as ecs:
        url = ecs.endpoint + ecs.path
        assert http_get(url)[0] == 401
        first = (ROOT / "token").read_text().strip()
        status, text = http_get(url, headers={"Authorization": first})
        assert status == 200 and ecs.keys.find(json.loads(text)["AccessKeyId"]).token == json.loads(text)["Token"]
        ecs.rotate_token()
        assert http_get(url, headers={"Authorization": first})[0] == 401
        assert http_get(ecs.endpoint + "/v2/other", headers={"Authorization": ecs.token})[0] == 404


def test_sts_with_a_web_token():
    with Sts() as sts:
        token = sts.new_web_token(ROOT / "web", lifetime=3600)

        def ask(token, role="arn:aws:iam::123456789012:role/backup", **more):
            form = {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": role, "RoleSessionName": "test",
                    "WebIdentityToken": token, **more}
            return http_get(sts.endpoint + "/", "POST", body=urllib.parse.urlencode(form).encode())

        status, text = ask(token)
        assert status == 200 and f"<AccessKeyId>{sts.issued[-1].access}</AccessKeyId>" in text and "<Expiration>" in text
        for answer, status, code in ((ask("wrong"), 400, "InvalidIdentityToken"), (ask(token, "arn:none"), 403, "AccessDenied"),
                                     (ask(token, DurationSeconds="60"), 400, "ValidationError")):
            assert answer[0] == status and f"<Code>{code}</Code>" in answer[1], answer
        sts.web_tokens[token] = time.time() - 1
        assert "<Code>ExpiredTokenException</Code>" in ask(token)[1]


def test_aws_cli_with_credential_doubles():
    """What the doubles hand out is taken by a real client, and good for the S3 double until it expires."""
    peers.need_peers()
    ring = KeyRing()
    containers = ContainerCredentials(ring, token_file=ROOT / "token2")
    with S3Double(keys=ring) as double, Imds(ring) as imds, containers as ecs, Sts(ring) as sts:
        bucket = double.new_bucket()
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        base = {name: value for name, value in double.env().items() if name not in keys}
        command = [peers.aws_program(), "--endpoint-url", double.endpoint, "s3api", "list-objects-v2", "--bucket", bucket]
        for source in (imds, ecs):
            extra = source.environment(direct_token=True) if source is ecs else source.environment()
            if source is imds:  # this client wants a slash at its end
                extra["AWS_EC2_METADATA_SERVICE_ENDPOINT"] += "/"
            done = run(command, env={**base, **extra})
            assert done.returncode == 0, done.stderr
            assert source.issued[-1].access in double.log()[-1].headers["authorization"]
        command = [peers.aws_program(), "--endpoint-url", sts.endpoint, "sts", "assume-role", "--role-arn", *sts.roles,
                   "--role-session-name", "test"]
        done = run(command, env=double.env())
        assert done.returncode == 0, done.stderr
        keys = sts.keys.find(json.loads(done.stdout)["Credentials"]["AccessKeyId"])
        with double.client(keys) as client:
            expect(client.request("GET", bucket, query={"list-type": "2"}), 200)
            ring.expire_all()
            expect(client.request("GET", bucket, query={"list-type": "2"}), 400, "ExpiredToken")


# ---- the double of S3

def test_double_against_peers():
    peers.need_peers()
    folder = ROOT / "tree"
    (folder / "sub").mkdir(parents=True)
    for name, data in (("plain", b"1"), ("a b+&ü", os.urandom(5000)), ("sub/empty", b""), ("sub/big", os.urandom(12 << 20))):
        (folder / name).write_bytes(data)
    with S3Double() as double:
        for it in (double, server()):
            bucket = it.new_bucket()
            done = peers.rclone(it, "sync", folder, f"s3:{bucket}/r", "--s3-chunk-size", "5M", "--s3-upload-cutoff", "5M")
            assert done.code == 0, done.err
            assert peers.rclone_differences(it, folder, f"{bucket}/r") == [] == peers.rclone_plan(it, folder, f"{bucket}/r")
            assert peers.aws_plan(it, folder, f"{bucket}/r") == []
            (folder / "later").write_bytes(b"x")
            assert peers.rclone_differences(it, folder, f"{bucket}/r") == ["+ later"]
            (folder / "later").unlink()
        bucket = double.new_bucket()
        assert len(peers.aws_plan(double, folder, f"{bucket}/a")) == 4
        done = peers.aws(double, "s3", "sync", "--only-show-errors", folder, f"s3://{bucket}/a")
        assert done.code == 0 and not done.err, done.err
        assert peers.rclone_differences(double, folder, f"{bucket}/a") == []


def test_double_signatures():
    with S3Double() as double:
        bucket = double.new_bucket()
        keys = (double.user.access, double.user.secret)
        with double.client() as client:
            client.put(bucket, "a b/ü+&=", b"data", x_amz_meta_mtime="1")
            assert client.get(bucket, "a b/ü+&=").headers["x-amz-meta-mtime"] == "1"
            expect(S3Client(double.endpoint, (keys[0], "wrong")).request("GET", bucket), 403, "SignatureDoesNotMatch")
            expect(S3Client(double.endpoint, ("nobody", "wrong")).request("GET", bucket), 403, "InvalidAccessKeyId")
            expect(double.client(region="eu-west-3").request("GET", bucket), 400, "AuthorizationHeaderMalformed")
            double.clock_shift = 3600
            answer = client.request("GET", bucket)
            expect(answer, 403, "RequestTimeTooSkewed")
            assert time.strptime(answer.headers["date"], "%a, %d %b %Y %H:%M:%S GMT") > time.gmtime(time.time() + 3000)
            expect(double.client(shift=3600).request("HEAD", bucket), 200)
            double.clock_shift = 0
            other = hashlib.sha256(b"other").hexdigest()
            expect(client.request("PUT", bucket, "key", body=b"x", payload=other), 400, "XAmzContentSHA256Mismatch")
            double.denied = {"GetObject"}
            expect(client.request("GET", bucket, "a b/ü+&="), 403, "AccessDenied")
            double.denied = set()
        host, path = f"127.0.0.1:{double.port}", "/" + bucket + sigv4.quote("/a b/ü+&=", "/")
        good = sigv4.presign("GET", host, path, [], keys, "us-east-1", now(), 60)
        assert http_get(f"{double.endpoint}{path}?{good}") == (200, "data")
        assert http_get(f"{double.endpoint}{path}?{good}0")[0] == 403
        old = sigv4.presign("GET", host, path, [], keys, "us-east-1", "20200101T000000Z", 60)
        assert "Request has expired" in http_get(f"{double.endpoint}{path}?{old}")[1]


def test_double_unsigned_header():
    """A header that a client sent and did not sign is a mistake that S3 refuses."""
    with S3Double() as double:
        bucket = double.new_bucket()
        with double.client() as client:
            client.good("HEAD", bucket)
            call = double.log()[-1]
            headers = {**call.headers, "x-amz-acl": "public-read"}
            answer = client.send(client.host, "HEAD", call.target, headers)
            assert answer.status == 403, answer


def test_double_checksums():
    for name, of_digits in (("CRC32", "y/Q5Jg=="), ("CRC32C", "4waSgw==")):
        assert s3_checksums.encoded(name, b"123456789") == of_digits
    with S3Double() as double, double.client() as client:
        bucket = double.new_bucket()
        for name in s3_checksums.ALGORITHMS:
            header = f"x-amz-checksum-{name.lower()}"
            good, bad = s3_checksums.encoded(name, b"data"), s3_checksums.encoded(name, b"dada")
            assert client.good("PUT", bucket, name, body=b"data", headers={header: good}).headers[header] == good
            expect(client.request("PUT", bucket, name, body=b"data", headers={header: bad}), 400, "BadDigest")
            expect(client.request("PUT", bucket, name, body=b"data", headers={header: "AAA"}), 400, "InvalidRequest")
            assert header not in client.head(bucket, name).headers
            assert client.get(bucket, name, x_amz_checksum_mode="ENABLED").headers[header] == good
        md5 = base64.b64encode(hashlib.md5(b"x").digest()).decode()
        expect(client.request("PUT", bucket, "key", body=b"data", headers={"Content-MD5": md5}), 400, "BadDigest")
        trailer = b"4\r\ndata\r\n0\r\nx-amz-checksum-crc32c:%s\r\n\r\n"
        headers = {"x-amz-trailer": "x-amz-checksum-crc32c", "x-amz-decoded-content-length": "4",
                   "content-encoding": "aws-chunked"}
        streaming = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        for data, status, code in ((b"data", 200, None), (b"dada", 400, "BadDigest")):
            body = trailer % s3_checksums.encoded("CRC32C", data).encode()
            expect(client.request("PUT", bucket, "trailer", headers=headers, body=body, payload=streaming), status, code)
        assert client.get(bucket, "trailer").body == b"data"
        double.checksums = False
        expect(client.request("PUT", bucket, "key", body=b"data", headers={"x-amz-checksum-crc32c": "wrong"}), 200)


def complete(client, bucket, upload, parts, **headers):
    body = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{extra}</Part>" for number, etag, extra in parts)
    body = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request("POST", bucket, "key", query={"uploadId": upload}, body=body, headers=headers)


def test_double_parts():
    with S3Double() as double, double.client() as client:
        double.min_part = 1000
        bucket, data = double.new_bucket(), [os.urandom(1000), os.urandom(1500), b"end"]

        def begin(**headers):
            body = client.good("POST", bucket, "key", query={"uploads": ""}, headers=headers).body.decode()
            return body.partition("<UploadId>")[2].partition("<")[0]

        upload, parts = begin(**{"x-amz-checksum-algorithm": "CRC32C", "x-amz-storage-class": "STANDARD_IA"}), []
        for number, piece in enumerate(data, 1):
            total = s3_checksums.encoded("CRC32C", piece)
            answer = client.good("PUT", bucket, "key", query={"partNumber": str(number), "uploadId": upload}, body=piece,
                                 headers={"x-amz-checksum-crc32c": total})
            parts.append((number, answer.headers["etag"], f"<ChecksumCRC32C>{total}</ChecksumCRC32C>"))
        expect(complete(client, bucket, upload, parts[::-1]), 400, "InvalidPartOrder")
        expect(complete(client, bucket, upload, [parts[0], (2, '"00"', parts[1][2]), parts[2]]), 400, "InvalidPart")
        expect(complete(client, bucket, upload, [parts[0], (2, parts[1][1], parts[0][2])]), 400, "InvalidPart")
        expect(complete(client, bucket, upload, [(n, etag, "") for n, etag, _ in parts]), 400, "InvalidRequest")
        expect(complete(client, bucket, upload, [parts[0], parts[2]]), 200)
        expect(complete(client, bucket, upload, parts), 404, "NoSuchUpload")
        head = client.good("HEAD", bucket, "key", headers={"x-amz-checksum-mode": "ENABLED"})
        assert head.headers["x-amz-checksum-crc32c"].endswith("-2") and head.headers["etag"].endswith('-2"'), head.headers
        assert head.headers["x-amz-storage-class"] == "STANDARD_IA" and client.get(bucket, "key").body == data[0] + data[2]
        upload = begin()
        parts = []
        for number in (1, 2):
            query = {"partNumber": str(number), "uploadId": upload}
            parts.append((number, client.good("PUT", bucket, "key", query=query, body=b"x").headers["etag"], ""))
        expect(complete(client, bucket, upload, parts), 400, "EntityTooSmall")
        expect(complete(client, bucket, upload, parts[:1], if_none_match="*"), 412, "PreconditionFailed")
        client.delete(bucket, "key")
        expect(complete(client, bucket, upload, parts[:1], if_none_match="*"), 200)


def test_double_cold_classes():
    request = b"<RestoreRequest><Days>2</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>"
    with S3Double() as double, double.client() as client:
        bucket = double.new_bucket()
        client.put(bucket, "warm", b"x")
        client.put(bucket, "cold", b"x", x_amz_storage_class="DEEP_ARCHIVE", x_amz_server_side_encryption="aws:kms")
        assert client.head(bucket, "cold").headers["x-amz-server-side-encryption"] == "aws:kms"

        def restore(key, body=request):
            return client.request("POST", bucket, key, query={"restore": ""}, body=body)

        expect(client.request("GET", bucket, "cold"), 403, "InvalidObjectState")
        copy = client.request("PUT", bucket, "copy", headers={"x-amz-copy-source": f"/{bucket}/cold"})
        expect(copy, 403, "ObjectNotInActiveTierError")
        expect(restore("warm"), 403, "InvalidObjectState")
        expect(restore("cold", request.replace(b"Bulk", b"Expedited")), 400, "InvalidArgument")
        expect(restore("cold"), 202)
        expect(restore("cold"), 409, "RestoreAlreadyInProgress")
        states = [client.head(bucket, "cold").headers["x-amz-restore"] for _ in range(3)]
        assert states[:2] == ['ongoing-request="true"'] * 2, states
        assert states[2].startswith('ongoing-request="false", expiry-date="'), states
        expect(restore("cold"), 200)
        assert client.get(bucket, "cold").body == b"x"
        double.expire_restores()
        expect(client.request("GET", bucket, "cold"), 403, "InvalidObjectState")
        expect(client.request("PUT", bucket, "key", headers={"x-amz-storage-class": "NONE"}), 400, "InvalidStorageClass")


def test_double_regions():
    with S3Double("us-east-1") as here, S3Double("eu-west-3", world=here) as there, here.client() as client:
        bucket = there.new_bucket()
        answer = client.request("GET", bucket, query={"list-type": "2"})
        expect(answer, 301, "PermanentRedirect")
        assert answer.headers["x-amz-bucket-region"] == "eu-west-3" and f"127.0.0.1:{there.port}" in answer.body.decode()
        assert client.request("HEAD", bucket).headers["x-amz-bucket-region"] == "eu-west-3"
        keys = (here.user.access, here.user.secret)
        expect(S3Client(there.endpoint, keys, region="us-east-1").request("GET", bucket), 400, "AuthorizationHeaderMalformed")
        expect(S3Client(there.endpoint, keys, region="eu-west-3").request("GET", bucket), 200)


def test_double_lists():
    with S3Double() as double, double.client() as client:
        bucket = double.new_bucket()
        names = sorted(["a/1", "a/2", "b", "c d/ü&<", "z", "\U0001f600", "\uffff"], key=str.encode)
        for name in names:
            client.put(bucket, name, b"x")
        assert [key for key, _, _ in client.listing(bucket)] == names
        assert double.counts()["ListObjectsV2"] == 1
        seen, token = [], None
        for _ in range(20):
            query = {"list-type": "2", "max-keys": "2", "delimiter": "/", **({"continuation-token": token} if token else {})}
            body = client.good("GET", bucket, query=query).body.decode()
            seen += re.findall(r"<(?:Key|Prefix)>([^<]+)</", body)
            token = body.partition("<NextContinuationToken>")[2].partition("<")[0]
            if not token:
                break
        assert sorted(seen) == sorted(["a/", "b", "c d/", "z", "\U0001f600", "\uffff"]), seen
        body = b"<Delete><Quiet>true</Quiet><Object><Key>a/1</Key></Object><Object><Key>none</Key></Object></Delete>"
        expect(client.request("POST", bucket, query={"delete": ""}, body=body), 400, "InvalidRequest")
        md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
        expect(client.request("POST", bucket, query={"delete": ""}, body=body, headers={"Content-MD5": md5}), 200)
        assert len(client.listing(bucket)) == len(names) - 1


if __name__ == "__main__":
    # It waits for the disk for seconds, while the first cases run.
    bluestore = concurrent.futures.ThreadPoolExecutor().submit(S3Server, store="bluestore")
    cli_tools.run_module("servers", sys.modules[__name__])
