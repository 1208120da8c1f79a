#!/usr/bin/env python3
"""The S3 driver alone (no wrapper tries again): against the real server in all four ways to address it, against a double
for what that cannot show, and through a proxy that answers as servers do on bad days. What every store has to do is in
the contract suite; here is what only S3 has."""

import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "servers"))
import cli_tools  # noqa: E402
from aws_doubles import Imds  # noqa: E402
from fault_proxy import FaultProxy  # noqa: E402
from fault_rules import Rule, expired_token, internal_error, slow_down  # noqa: E402
from s3_double import S3Double  # noqa: E402
from s3_server import S3Server  # noqa: E402
from server_tools import Skip  # noqa: E402

PROBE = os.environ.get("S3_PROBE", "")
MIB = 1 << 20
ODD = "a%20b%2Bc%25/%C3%BC%20%3C%26%3E%22'/..//~!*().txt"  # as the probe is told; + % < & are what encoders get wrong


def probe(env, *arguments, timeout=120):
    """Runs the probe; returns its lines."""
    done = subprocess.run([PROBE, *map(str, arguments)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout, check=False)
    text = done.stdout.decode("utf-8", "replace")
    assert done.returncode in (0, 1), f"the probe ended with {done.returncode}: {text}"
    return text.splitlines()


def expect(lines, *starts):
    """Each line begins with its text, and contains what stands behind a '|'."""
    assert len(lines) == len(starts), f"{len(lines)} lines, {len(starts)} expected: {lines}"
    for line, start in zip(lines, starts):
        begin, *parts = start.split("|")
        assert line.startswith(begin) and all(part in line for part in parts), f"{line!r} is not {start!r}"
    return lines


def value(line, name):
    return line.partition(f" {name}=")[2].split(" ")[0]


class Real:
    """The one real server of this script, started when it is first needed."""

    server = None

    @classmethod
    def get(cls):
        if cls.server is None:
            cls.server = S3Server()
        return cls.server

    @classmethod
    def stop(cls):
        if cls.server is not None:
            cls.server.stop()


def all_of_it(*options):
    """One of everything, in a bucket of its own."""
    server = Real.get()
    bucket = server.new_bucket()
    lines = probe(server.env(), "--bucket", bucket, "--prefix", "pre fix/", *options,
                  f"put {ODD} hello%20world mtime=1700000000.123456789", f"get {ODD} offset=6 length=3",
                  f"copy {ODD} copied class=STANDARD_IA", "head copied", "put big size=300000", "get big offset=299996",
                  f"multipart parts size={6 * MIB} part={5 * MIB}", "head parts", "list show=9",
                  f"delete {ODD} copied big parts none", "list")
    expect(lines, "ok etag=5eb63bbbe01eeed093cb22bb8f5acdc3", "ok [wor] bytes=3|size=11|mtime=1700000000.123456789",
           "ok etag=5eb63bbbe01eeed093cb22bb8f5acdc3", "ok |class=STANDARD_IA|mtime=- ", "ok ", "ok |bytes=4|size=300000",
           "ok etag=|-2 parts=2", f"ok |size={6 * MIB}|-2", "key=a b+c%/ü <&>\"'/..//~!*().txt size=11 ",
           "key=big size=300000", "key=copied size=11|STANDARD_IA", f"key=parts size={6 * MIB}", "ok count=4", "ok",
           "ok count=0")
    assert abs(int(value(lines[1], "modified")) - time.time()) < 3600, lines[1]


def test_path_style():
    all_of_it("--endpoint", Real.get().plain_endpoint)


def test_path_style_tls():
    all_of_it("--endpoint", Real.get().tls_endpoint, "--ca", Real.get().ca)


def test_virtual_host():
    all_of_it("--endpoint", Real.get().variables()["S3_TEST_VIRTUAL_ENDPOINT"], "--path-style", 0)


def test_virtual_host_tls():
    all_of_it("--endpoint", Real.get().variables()["S3_TEST_VIRTUAL_TLS_ENDPOINT"], "--ca", Real.get().ca, "--path-style", 0)


def test_untrusted_certificate():
    expect(probe(Real.get().env(), "--bucket", "abc", "--endpoint", Real.get().tls_endpoint, "head k"),
           "DENIED cannot look up s3://abc/k: |certificate")


def test_endpoint_from_environment():
    server = Real.get()
    bucket = server.new_bucket()
    env = server.env(AWS_ENDPOINT_URL="http://127.0.0.1:1", AWS_S3_ENDPOINT=server.plain_endpoint)
    expect(probe(env, "--bucket", bucket, "put k v"), "ok ")
    env["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:1"
    expect(probe(env, "--bucket", bucket, "put k v"), "TRANSIENT cannot write |127.0.0.1:1")
    expect(probe(env, "--bucket", bucket, "--endpoint", server.plain_endpoint, "put k v"), "ok ")
    expect(probe(env, "--bucket", bucket, "--endpoint", "ftp://x", "put k v"), "INVALID ftp://x is not an endpoint")


def test_where_providers_are():
    """Nothing is asked: a presigned URL shows where requests would go, and what they are signed for."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("AWS_")}
    env = {**clean, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_CONFIG_FILE": "/dev/null",
           "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"}
    cases = (
        ((), {}, "https://abc.s3.us-east-1.amazonaws.com/k", "us-east-1"),
        (("--region", "eu-west-3"), {"AWS_REGION": "eu-north-1"}, "https://abc.s3.eu-west-3.amazonaws.com/k", "eu-west-3"),
        ((), {"AWS_REGION": "eu-north-1"}, "https://abc.s3.eu-north-1.amazonaws.com/k", "eu-north-1"),
        (("--region", "cn-north-1"), {}, "https://abc.s3.cn-north-1.amazonaws.com.cn/k", "cn-north-1"),
        (("--provider", "scaleway"), {}, "https://abc.s3.fr-par.scw.cloud/k", "fr-par"),
        (("--provider", "hetzner", "--region", "hel1"), {}, "https://abc.hel1.your-objectstorage.com/k", "hel1"),
        (("--endpoint", "https://s3.nl-ams.scw.cloud"), {"AWS_REGION": "us-east-1"}, "https://abc.s3.nl-ams.scw.cloud/k", "nl-ams"),
        (("--endpoint", "https://x.r2.cloudflarestorage.com"), {}, "https://x.r2.cloudflarestorage.com/abc/k", "auto"),
        (("--endpoint", "https://minio.example.com:9000"), {}, "https://minio.example.com:9000/abc/k", "us-east-1"),
        (("--endpoint", "https://minio.example.com", "--path-style", 0), {}, "https://abc.minio.example.com/k", "us-east-1"),
        (("--path-style", 1), {}, "https://s3.us-east-1.amazonaws.com/abc/k", "us-east-1"),
    )
    for options, changed, url, region in cases:
        lines = probe({**env, **changed}, "--bucket", "abc", *options, "presign GET k")
        expect(lines, f"ok {url}?|%2F{region}%2Fs3%2Faws4_request")
    expect(probe(env, "--bucket", "my.bucket", "presign GET k"), "ok https://s3.us-east-1.amazonaws.com/my.bucket/k?")
    expect(probe(env, "--bucket", "abc", "--provider", "r2", "presign GET k"), "INVALID Cloudflare R2 has no endpoint")


def test_conditions():
    server = Real.get()
    lines = probe(server.env(), "--bucket", server.new_bucket(), "put k one", "put k two absent=1", "put new two absent=1",
                  "get k match=f97c5d29941bfb1b2fdab0874906ab82", "get k match=nope", "copy k copy match=nope",
                  "head copy", "copy k copy match=f97c5d29941bfb1b2fdab0874906ab82", "copy k copy absent=1",
                  f"put large size={6 * MIB}", f"multipart parts from=large match=nope size={6 * MIB} part={5 * MIB}",
                  f"multipart k absent=1 size={MIB} part={MIB}", "get k")
    expect(lines, "ok etag=f97c5d29941bfb1b2fdab0874906ab82", "CONFLICT cannot write |/k: PreconditionFailed", "ok ", "ok [one]",
           "partial=0 known=0 CONFLICT ", "CONFLICT ", "NOT_FOUND ", "ok ", "CONFLICT |there is such an object", "ok ",
           "CONFLICT |not the object that was expected", "CONFLICT |there is such an object", "ok [one]")


def test_ranges():
    server = Real.get()
    lines = probe(server.env(), "--bucket", server.new_bucket(), "put k 0123456789", "put empty ", "get k offset=3",
                  "get k offset=9 length=100", "get k offset=10", "get k length=0", "get empty length=5", "get empty offset=1",
                  "get none length=0")
    expect(lines, "ok ", "ok ", "ok [3456789] bytes=7 key=k size=10", "ok [9] bytes=1", "partial=0 known=0 INVALID",
           "ok [] bytes=0 key=k size=10", "ok [] bytes=0 key=empty size=0", "partial=0 known=0 INVALID", "partial=0 known=0 NOT_FOUND")


def test_wrong_sha256_is_refused():
    server = Real.get()
    lines = probe(server.env(), "--bucket", server.new_bucket(), "put k old", "put k new wrong=1", "get k",
                  f"put k wrong=1 size={MIB}", "get k")
    expect(lines, "ok ", "CORRUPT cannot write |XAmzContentSHA256Mismatch", "ok [old]", "CORRUPT ", "ok [old]")


def test_versions_and_lock():
    server = Real.get()
    bucket = server.new_bucket(lock=True)
    env = server.env()
    lines = probe(env, "--bucket", bucket, "put k one", "put k two lock=GOVERNANCE for=3600", "delete k",
                  "list versions=1 show=9", "head k", "facts")
    expect(lines, "ok ", "ok ", "ok", "key=k size=0|latest=1 marker=1", "key=k size=3|latest=0 marker=0", "key=k size=3",
           "ok count=3", "NOT_FOUND ", "ok versioning=1 |lock=1|public=0")
    marker, new, old = (value(line, "version") for line in lines[3:6])
    lines = probe(env, "--bucket", bucket, f"get k version={old}", f"head k version={marker}", f"delete k version={new}",
                  f"delete k version={old}", f"lock k version={new} mode=GOVERNANCE for=60",
                  f"lock k version={new} mode=COMPLIANCE for=7200", f"lock k version={new} mode=GOVERNANCE for=7200",
                  f"delete k version={new}", f"delete k version={marker}", "get k", "list versions=1")
    expect(lines, "ok [one]", "NOT_FOUND ", "CONFLICT |locked (GOVERNANCE) until 20", "ok", "ok", "DENIED |bypass",
           "ok", "CONFLICT |locked (GOVERNANCE) until 20", "ok", "ok [two]", "ok count=1")


def test_a_lock_is_never_weakened():
    server = Real.get()
    bucket = server.new_bucket(lock=True)
    version = value(expect(probe(server.env(), "--bucket", bucket, "put k v lock=COMPLIANCE for=3600"), "ok ")[0], "version")

    def retention():
        with server.client() as client:
            return client.request("GET", bucket, "k", query={"retention": "", "versionId": version}).body.decode()

    first = retention()
    assert "COMPLIANCE" in first, first
    with FaultProxy(server.plain_endpoint, keep_bodies=4096) as proxy:
        options = ("--bucket", bucket, "--endpoint", proxy.endpoint)
        expect(probe(server.env(), *options, f"lock k version={version} mode=GOVERNANCE for=60"), "ok")
        assert retention() == first and not [r for r in proxy.log() if r.method == "PUT"], retention()
        expect(probe(server.env(), *options, f"lock k version={version} mode=GOVERNANCE for=7200"), "ok")
        assert "COMPLIANCE" in retention() and retention() != first, retention()
        version = value(probe(server.env(), *options, "put g v lock=GOVERNANCE for=7200")[0], "version")
        until = probe(server.env(), *options, f"delete g version={version}")[0].rpartition("until ")[2]
        # This server wants a bypass for the change of the mode; what we ask for keeps the later end.
        expect(probe(server.env(), *options, f"lock g version={version} mode=COMPLIANCE for=60"), "DENIED ")
        body = [request for request in proxy.log() if request.method == "PUT"][-1].body.decode()
        assert f"<Mode>COMPLIANCE</Mode><RetainUntilDate>{until}</RetainUntilDate>" in body, (body, until)


def test_versioning_and_lifecycle():
    server = Real.get()
    bucket = server.new_bucket()
    foreign = (b"<LifecycleConfiguration><Rule><ID>theirs</ID><Filter><Prefix>x/</Prefix></Filter><Status>Enabled</Status>"
               b"<Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>")

    def rules():
        with server.client() as client:
            return client.request("GET", bucket, query={"lifecycle": ""}).body.decode()

    expect(probe(server.env(), "--bucket", bucket, "--prefix", "p/", "facts", "versioning on", "facts", "versioning off",
                 "facts", "lifecycle", "lifecycle id=mine", "lifecycle id=backapp-a prefix=q/ old=30 abort=7 cold=3 class=GLACIER"),
           "ok versioning=0 suspended=0", "ok", "ok versioning=1 suspended=0", "ok", "ok versioning=0 suspended=1", "ok",
           "INVALID ", "ok")
    assert "<ID>backapp-a</ID>" in rules() and "<Prefix>p/q/</Prefix>" in rules() and "GLACIER" in rules(), rules()
    expect(probe(server.env(), "--bucket", bucket, "lifecycle"), "ok")
    assert "<Rule>" not in rules(), rules()
    with server.client() as client:
        client.good("PUT", bucket, query={"lifecycle": ""}, body=foreign)
    expect(probe(server.env(), "--bucket", bucket, "lifecycle id=backapp-a old=30", "lifecycle id=backapp-b old=3"), "ok", "ok")
    assert "<ID>theirs</ID>" in rules() and "<Days>9</Days>" in rules() and "backapp-a" not in rules(), rules()
    expect(probe(server.env(), "--bucket", bucket, "lifecycle"), "ok")
    assert "<ID>theirs</ID>" in rules() and "backapp" not in rules(), rules()


def test_presigned_url():
    server = Real.get()
    bucket = server.new_bucket()
    lines = probe(server.env(), "--bucket", bucket, f"put {ODD} secret", f"presign GET {ODD}", "presign POST k")
    expect(lines, "ok ", "ok http://", "INVALID ")
    got = subprocess.run(["curl", "-sS", "--path-as-is", "--max-time", "30", lines[1][3:]], capture_output=True, timeout=60,
                         check=False)
    assert got.stdout == b"secret", got


def test_errors_say_what_to_do():
    server = Real.get()
    bucket = server.new_bucket()
    env = server.env()
    expect(probe(env, "--bucket", "no-such-bucket", "--prefix", "p/", "put k v", "list"),
           "NOT_FOUND cannot write s3://no-such-bucket/p/k: NoSuchBucket|status 404, request |create the bucket",
           "NOT_FOUND cannot list s3://no-such-bucket: NoSuchBucket")
    expect(probe({**env, "AWS_SECRET_ACCESS_KEY": "wrong"}, "--bucket", bucket, "put k v"),
           "DENIED |SignatureDoesNotMatch|secret key is wrong")
    expect(probe({**env, "AWS_ACCESS_KEY_ID": "nobody"}, "--bucket", bucket, "put k v"), "DENIED |InvalidAccessKeyId")
    expect(probe(env, "--bucket", bucket, "--sse", "rot13", "list"), "INVALID encryption")
    expect(probe(env, "--bucket", bucket, "--provider", "azure", "list"), "INVALID no provider is named azure")
    expect(probe(env, "--bucket", "a/b", "list"), "INVALID a/b is not a bucket's name")


def test_denied_names_the_permission():
    with S3Double() as double:
        bucket = double.new_bucket()
        double.denied = {"PutObject", "ListObjectsV2", "GetBucketVersioning"}
        expect(probe(double.env(), "--bucket", bucket, "--prefix", "p/", "put k v", "list", "facts"),
               f"DENIED cannot write s3://{bucket}/p/k: AccessDenied|grant s3:PutObject on arn:aws:s3:::{bucket}/p/*",
               f"DENIED |grant s3:ListBucket on arn:aws:s3:::{bucket}", "ok versioning=-1 ")


def test_encryption():
    with S3Double() as double:
        bucket = double.new_bucket()
        expect(probe(double.env(), "--bucket", bucket, "--provider", "aws", "--sse", "aws:kms", f"put k size={MIB}", "copy k c",
                     f"multipart m size={MIB} part={MIB}"), "ok ", "ok ", "ok ")
        for key in "kcm":
            headers = double.object(bucket, key).encryption
            assert headers.get("x-amz-server-side-encryption") == "aws:kms", (key, headers)


def test_crc32c():
    """Over TLS, where the provider knows it: instead of SHA-256. A server that ignores it gets the SHA-256 after all."""
    server = Real.get()
    with S3Double(tls=server.directory / "tls.pem", ca=server.ca) as double:
        bucket = double.new_bucket()
        options = ("--bucket", bucket, "--provider", "aws", "--ca", server.ca)
        expect(probe(double.env(), *options, f"put k size={MIB}", f"put part size={MIB}", "counts"), "ok ", "ok ", "ok put=2 |retries=0")
        assert "CRC32C" in double.object(bucket, "k").sums, double.object(bucket, "k").sums
        expect(probe(double.env(), "--bucket", bucket, "--ca", server.ca, f"put k size={MIB}"), "ok ")
        assert "CRC32C" not in double.object(bucket, "k").sums
        double.checksums = False
        expect(probe(double.env(), *options, f"put k size={MIB}", f"put k size={MIB}", "get k", "counts"), "ok ", "ok ",
               f"ok |bytes={MIB}", "ok put=3 |retries=1")


def test_cold_objects():
    with S3Double() as double:
        bucket = double.new_bucket()
        expect(probe(double.env(), "--bucket", bucket, "put cold x class=GLACIER", "put warm x", "get cold", "copy cold c",
                     "thaw cold", "thaw cold", "head cold", "thaw warm", "thaw none"),
               "ok ", "ok ", "partial=0 known=0 CONFLICT |cold storage class: thaw it first", "CONFLICT |thaw it first", "ok", "ok",
               'ok |class=GLACIER|restore=ongoing-request="true"', "CONFLICT warm is in no cold", "NOT_FOUND ")
        double.finish_restores()
        expect(probe(double.env(), "--bucket", bucket, "get cold", "head cold"), "ok [x]", 'ok |restore=ongoing-request="false"')


def test_parts_in_order():
    with S3Double() as double:
        expect(probe(double.env(), "--bucket", double.new_bucket(), f"multipart k size={6 * MIB} part={5 * MIB} disorder=1",
                     f"multipart k size={6 * MIB} part={5 * MIB}", f"multipart k size={6 * MIB} part={3 * MIB}"),
               "INVALID |not in order", "ok |parts=2", "INVALID |EntityTooSmall")


def test_regions():
    with S3Double("us-east-1") as here, S3Double("eu-west-3", world=here) as there:
        bucket = there.new_bucket()
        for status in (301, 307):
            here.redirect_status = status
            expect(probe(here.env(), "--bucket", bucket, "put k v", "get k", "counts"), "ok ", "ok [v]", "ok |put=2|get=1|retries=1")
        # The endpoint is right, and only the region is not.
        expect(probe(there.env(AWS_REGION="us-east-1", AWS_DEFAULT_REGION="us-east-1"), "--bucket", bucket, "get k", "get k",
                     "counts"), "ok [v]", "ok [v]", "ok |get=3|retries=1")
        # One redirect is followed, not one after another.
        here.regions["eu-west-3"] = here.endpoint
        expect(probe(here.env(), "--bucket", bucket, "get k"), "partial=0 known=0 DENIED |set the bucket's region")


def test_clock():
    with S3Double() as double:
        bucket = double.new_bucket()
        double.clock_shift = 7200
        expect(probe(double.env(), "--bucket", bucket, "head none", "put k v", "head k", "facts", "counts"), "NOT_FOUND ", "ok ",
               "ok ", "ok |skew=7", "ok |put=1|head=3|retries=1")
        double.clock_shift = -7200
        expect(probe(double.env(), "--bucket", bucket, "get k", "get k", "counts"), "ok [v]", "ok [v]", "ok |get=3|retries=1")


def test_keys_that_expired():
    """With keys from nowhere else to get: an error, once. The refresh itself is in test_credentials.py."""
    server = Real.get()
    bucket = server.new_bucket()
    with FaultProxy(server.plain_endpoint) as proxy:
        proxy.add(expired_token())
        expect(probe(server.env(), "--bucket", bucket, "--endpoint", proxy.endpoint, "put k v", "counts"),
               "DENIED |ExpiredToken|get new credentials", "ok put=1 |retries=0")


def test_keys_that_can_be_had_anew():
    with S3Double() as double, Imds(double.keys) as imds, FaultProxy(double.endpoint) as proxy:
        bucket = double.new_bucket()
        env = {name: text for name, text in double.env().items() if not name.startswith("AWS_ACCESS") and "SECRET" not in name}
        env = {**env, "AWS_EC2_METADATA_DISABLED": "false", **imds.environment()}
        for kind, command in (("PutObject", "put k v"), ("HeadObject", "head k")):
            proxy.replace(expired_token(kind=kind, count=1))
            expect(probe(env, "--bucket", bucket, "--endpoint", proxy.endpoint, command, command, "counts"), "ok ", "ok ",
                   "ok |retries=1")
            assert all("x-amz-security-token" in request.headers for request in proxy.log())


def test_slow_down():
    server = Real.get()
    bucket = server.new_bucket()
    with FaultProxy(server.plain_endpoint) as proxy:
        options = ("--bucket", bucket, "--endpoint", proxy.endpoint)
        proxy.add(slow_down(retry_after=1, count=1))
        before = time.monotonic()
        expect(probe(server.env(), *options, "put k v", "put k v", "counts"), "TRANSIENT |SlowDown", "ok ", "ok put=2 |slow=1")
        assert time.monotonic() - before >= 1, "it did not wait as it was told"
        proxy.replace(internal_error(count=1))
        expect(probe(server.env(), *options, "put k v", "counts"), "TRANSIENT |InternalError", "ok put=1 |slow=0")


def test_errors_in_good_answers():
    server = Real.get()
    bucket = server.new_bucket()
    bad = '<?xml version="1.0"?>\n<Error><Code>{}</Code></Error>'
    with FaultProxy(server.plain_endpoint) as proxy:
        options = ("--bucket", bucket, "--endpoint", proxy.endpoint)
        expect(probe(server.env(), *options, "put k v"), "ok ")
        for kind, command in (("CopyObject", "copy k c"), ("CompleteMultipartUpload", f"multipart c size={MIB} part={MIB}"),
                              ("UploadPartCopy", f"multipart c from=k size=1 part={MIB}")):
            proxy.replace(Rule("status", kind=kind, status=200, body=bad.format("InternalError"), count=1),
                          Rule("status", kind=kind, status=200, body=bad.format("AccessDenied"), count=1))
            lines = probe(server.env(), *options, command, command, "head c")
            expect(lines, "TRANSIENT |InternalError", "DENIED |AccessDenied", "NOT_FOUND ")


def test_lists_that_lie():
    server = Real.get()
    bucket = server.new_bucket()
    with FaultProxy(server.plain_endpoint) as proxy:
        options = ("--bucket", bucket, "--endpoint", proxy.endpoint)
        expect(probe(server.env(), *options, "put aa v", "put bb v", "put cc v", "list"), "ok ", "ok ", "ok ", "ok count=3")
        lies = {"<Key>bb": "<Key>dd", "<Key>bb<": "<Key>aa<", "<Size>1</Size>": "", "</ListBucketResult>": "",
                "<IsTruncated>false": "<IsTruncated>true"}
        for pattern, lie in lies.items():
            proxy.replace(Rule("edit", kind="ListObjectsV2", pattern=pattern, replacement=lie))
            expect(probe(server.env(), *options, "list"), "CORRUPT ")
        for body in ("<Error><Code>InternalError</Code></Error>", "<html><body>please log in</body></html>", "<ListVersionsResult/>",
                     "", "log in"):
            proxy.replace(Rule("status", status=200, body=body, kind=["ListObjectsV2", "ListObjectVersions"]))
            expect(probe(server.env(), *options, "list"), "CORRUPT ")
            proxy.replace(Rule("status", status=200, body=body, kind="DeleteObjects"))
            assert not probe(server.env(), *options, "delete x y")[0].startswith("ok"), body
            proxy.replace(Rule("status", status=200, body=body, kind="PutObject"))
            expect(probe(server.env(), *options, "put x y"), "TRANSIENT |not that of an S3 server")
        proxy.replace(Rule("edit", kind="ListObjectsV2", pattern="<Key>bb", replacement="<Key>b%2Bb"))
        expect(probe(server.env(), *options, "list show=3"), "key=aa ", "key=b+b ", "key=cc ", "ok count=3")


def uploads_page(keys, more=False):
    listed = "".join(f"<Upload><Key>{key}</Key><UploadId>1</UploadId></Upload>" for key in keys)
    return f"<ListMultipartUploadsResult><IsTruncated>{str(more).lower()}</IsTruncated>{listed}</ListMultipartUploadsResult>"


def parts_page(count, more=""):
    listed = "".join(f"<Part><PartNumber>{1 + at % 9}</PartNumber><ETag>e</ETag><Size>1</Size></Part>" for at in range(count))
    return f"<ListPartsResult>{more}{listed}</ListPartsResult>"


def test_lists_of_uploads_that_lie():
    with S3Double() as double, FaultProxy(double.endpoint) as proxy:
        options = ("--bucket", double.new_bucket(), "--prefix", "our/", "--endpoint", proxy.endpoint)

        def answers(command, *pages):
            proxy.replace(*[Rule("status", kind=["ListMultipartUploads", "ListParts"], status=200, body=page, nth=1)
                            for page in pages[:-1]],
                          Rule("status", kind=["ListMultipartUploads", "ListParts"], status=200, body=pages[-1]))
            return probe(double.env(), *options, command, timeout=30)

        page = uploads_page(("x", "our", "our/ab", "others/abcdefgh", "our/b", "our/a"))
        expect(answers("uploads", page), "ok count=3 a ab b")
        expect(answers("uploads prefix=a", page), "ok count=2 a ab")
        expect(answers("uploads", uploads_page(("our/a",), True), uploads_page(("our/b",))), "ok count=2 a b")
        expect(answers("uploads", uploads_page(("our/a", "our/b"), True)), "CORRUPT |the same page of uploads")
        more = "<IsTruncated>true</IsTruncated><NextPartNumberMarker>{}</NextPartNumberMarker>"
        last = "<IsTruncated>false</IsTruncated>"
        expect(answers("uploads k 1", parts_page(5, more.format(5)), parts_page(4, last)), "ok count=9")
        expect(answers("uploads k 1", parts_page(5, more.format(5))), "CORRUPT |the same page of parts")
        expect(answers("uploads k 1", parts_page(10000, last)), "ok count=10000")
        expect(answers("uploads k 1", parts_page(10001, last)), "CORRUPT |more than 10000 parts")


def test_completions_that_do_not_say_the_etag():
    with S3Double() as double, FaultProxy(double.endpoint) as proxy:
        options = ("--bucket", double.new_bucket(), "--endpoint", proxy.endpoint)
        command = f"multipart k size={MIB} part={MIB}"
        proxy.replace(Rule("edit", kind="CompleteMultipartUpload", pattern="<ETag>[^<]*</ETag>", replacement=""))
        expect(probe(double.env(), *options, command), "ok etag=|-1 parts=1")
        # A server that only says so: what is there has the same size, but it is not what the parts make.
        expect(probe(double.env(), *options, f"multipart k size={MIB} part={MIB // 2}"), "INVALID |EntityTooSmall")
        proxy.replace(Rule("status", kind="CompleteMultipartUpload", status=200, body="<CompleteMultipartUploadResult/>"))
        expect(probe(double.env(), *options, f"put k size={MIB}", command, f"multipart none size={MIB} part={MIB}"), "ok ",
               "TRANSIENT |but the object is another one", "NOT_FOUND ")


def test_reads_that_lie():
    server = Real.get()
    bucket = server.new_bucket()
    with FaultProxy(server.plain_endpoint) as proxy:
        options = ("--bucket", bucket, "--endpoint", proxy.endpoint)
        expect(probe(server.env(), *options, "put k 0123456789", f"put big size={MIB}"), "ok ", "ok ")
        proxy.replace(Rule("header", kind="GetObject", name="Content-Range", value="bytes 4-6/10"))
        expect(probe(server.env(), *options, "get k offset=3 length=3"), "partial=0 known=0 CORRUPT |another part")
        proxy.replace(Rule("truncate", kind="GetObject", offset=MIB // 2))
        expect(probe(server.env(), *options, "get big"), f"partial={MIB // 2} known=1 TRANSIENT ")
        proxy.replace(Rule("reset", kind="GetObject", at="body", offset=MIB // 2))
        lines = probe(server.env(), *options, "get big offset=8")
        assert "TRANSIENT " in lines[0] and "known=1" in lines[0], lines


def test_many_pages():
    server = Real.get()
    bucket = server.new_bucket()
    env = server.env()
    keys = [f"k{number:04}" for number in range(2300)]
    expect(probe(env, "--bucket", bucket, *[f"put {key} x" for key in keys])[-1:], "ok ")
    with FaultProxy(server.plain_endpoint) as proxy:
        options = ("--bucket", bucket, "--endpoint", proxy.endpoint)
        expect(probe(env, *options, "list", "list after=k1099", "list prefix=k2", "list versions=1", "counts"), "ok count=2300",
               "ok count=1200", "ok count=300", "ok count=2300", "ok |list=9")
        expect(probe(env, *options, "delete " + " ".join(keys), "list", "counts"), "ok", "ok count=0", "ok |delete=3")
        assert proxy.counts()["DeleteObjects"] == 3, proxy.counts()


def test_deletions_that_break_off():
    """Each key that was not deleted has an error: of the request that failed, and of those that were not sent any more."""
    keys = [f"k{number:04}" for number in range(2500)]
    with S3Double() as double, FaultProxy(double.endpoint) as proxy:
        options = ("--bucket", double.new_bucket(), "--endpoint", proxy.endpoint)
        command = "delete-each " + " ".join(keys)
        expect(probe(double.env(), *options, command), "failed=0 first=- ok")
        for rule, code in ((internal_error(kind="DeleteObjects", nth=2), "TRANSIENT"),
                           (Rule("status", kind="DeleteObjects", nth=2, status=200, body="log in"), "CORRUPT")):
            proxy.replace(rule)
            expect(probe(double.env(), *options, command), f"failed=1500 first=k1000 {code} ")
        # One by one where the request for many is denied: so is the first, then none is tried.
        proxy.replace(Rule("status", kind=["DeleteObjects", "DeleteObject"], skip=1, status=403, code="AccessDenied"))
        expect(probe(double.env(), *options, command), "failed=1500 first=k1000 DENIED ")


def items(lines):
    """The lines of a test of a store: {check: (state, message)}."""
    return {line.split(" ")[0]: tuple(line.split(" ", 2)[1:]) for line in lines}


def test_trying_out():
    server = Real.get()
    bucket = server.new_bucket(lock=True)
    found = items(probe(server.env(), "--bucket", bucket, "test", "list versions=1"))
    assert found.pop("ok") == ("count=0",), found
    states = {check: state for check, (state, _) in found.items()}
    assert states == {"reach": "ok", "list": "ok", "write": "ok", "read": "ok", "metadata": "ok", "copy": "ok", "parts": "ok",
                      "if-absent": "ok", "delete": "ok", "tls": "ok", "residency": "unknown", "clock": "ok", "versions": "ok",
                      "lock": "ok", "public": "ok", "encryption": "unknown", "provider": "ok"}, states
    bucket = server.new_bucket()
    with server.client() as client:
        client.good("PUT", bucket, query={"acl": ""}, headers={"x-amz-acl": "public-read"})
    found = items(probe(server.env(), "--bucket", bucket, "test"))
    assert found["versions"][0] == found["lock"][0] == found["public"][0] == "warn", found
    assert found["ok"] == ("usable=1",), found
    for name, expected in (("no-such-bucket", "NoSuchBucket"), ("x" * 64, "")):
        lines = probe(server.env(), "--bucket", name, "test")
        assert lines[0].startswith("reach missing ") and expected in lines[0] and lines[-1] == "ok usable=0", lines


def test_trying_out_names_what_is_missing():
    with S3Double() as double:
        bucket = double.new_bucket()
        for denied, check, permission in (("ListObjectsV2", "list", "s3:ListBucket"), ("PutObject", "write", "s3:PutObject"),
                                          ("GetObject", "read", "s3:GetObject")):
            double.denied = {denied}
            found = items(probe(double.env(), "--bucket", bucket, "--prefix", "p/", "test"))
            assert found[check][0] == "missing" and f"grant {permission} on" in found[check][1], (denied, found)
            assert found["ok"] == ("usable=0",), found
        double.denied = {"DeleteObject"}
        found = items(probe(double.env(), "--bucket", bucket, "test"))
        assert found["delete"][0] == "warn" and "grant s3:DeleteObject on" in found["delete"][1], found
        double.denied = set()
        double.clock_shift = 600
        found = items(probe(double.env(), "--bucket", bucket, "--provider", "scaleway", "--region", "us-east-1", "test"))
        assert found["clock"][0] == "warn" and "1,000 parts" in found["provider"][1], found


def test_md5_when_the_bucket_asks_for_it():
    server = Real.get()
    bucket = server.new_bucket()
    with FaultProxy(server.plain_endpoint) as proxy:
        proxy.add(Rule("status", kind="PutObject", status=400, code="InvalidRequest", count=1,
                       message="Content-MD5 OR x-amz-checksum- HTTP header is required"))
        expect(probe(server.env(), "--bucket", bucket, "--endpoint", proxy.endpoint, "put k v", "put k w", "counts"), "ok ", "ok ",
               "ok put=3 |retries=1")
        sent = ["content-md5" in request.headers for request in proxy.log()]
        assert sent == [False, True, True], sent


if __name__ == "__main__":
    if not os.access(PROBE, os.X_OK):
        print(f"not ok s3_driver/probe: S3_PROBE ({PROBE}) is not there: build it")
        sys.exit(1)
    cli_tools.BACKAPP = PROBE  # the program that the cases need
    try:
        cli_tools.run_module("s3_driver", sys.modules[__name__])
    except Skip as why:
        print(f"skip s3_driver: {why}")
        sys.exit(77)
    finally:
        Real.stop()
