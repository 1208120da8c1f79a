#!/usr/bin/env python3
"""A double for what the real test server cannot show: an S3 in memory that verifies checksums (x-amz-checksum-*, trailers),
keeps cold storage classes cold until they are restored, refuses parts out of order and conditional completions, encrypts
as it says, and sends clients to the region of a bucket. Errors have the codes that S3 documents.

    with S3Double() as double:
        bucket = double.new_bucket()
        run_something(env=double.env())

It has no versions, locks, lifecycle rules or policies: the real server has. Settings that may change while it runs:

    min_part         smallest part but the last (5 MiB)
    restore_after    a restore is complete after so many looks at the object (HEAD); None: only by finish_restores()
    checksums        False: x-amz-checksum-* are ignored, as by a provider that does not know them
    conditions       False: If-None-Match on PUT and Complete is answered 501 NotImplemented
    clock_shift      seconds that its clock is ahead
    denied           a set of operation names that are answered 403 AccessDenied
"""

import argparse
import base64
import collections
import hashlib
import json
import os
import re
import secrets
import sys
import time
import urllib.parse

import s3_auth
import s3_checksums
from aws_doubles import KeyRing
from http_double import HttpDouble, Reply
from s3_auth import S3Error
from s3_client import S3Client
from s3_double_uploads import Uploads
from s3_kinds import bucket_and_key, kind_of
from s3_double_store import COLD, Object, document, http_date, iso_date, leaf, parse_xml, sum_headers, truth

CLASSES = {"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER",
           "DEEP_ARCHIVE"}
DOMAIN = "s3.localhost"


class S3Double(Uploads, HttpDouble):
    """world: another S3Double of the same cloud (another region) whose buckets and keys it shares."""

    def __init__(self, region="us-east-1", *, keys=None, world=None, tls=None, ca=None):
        self.region, self.ca = region, ca
        self.keys = world.keys if world else keys or KeyRing()
        self.user = self.keys.permanent()
        self.regions = world.regions if world else {}
        self.buckets = world.buckets if world else {}  # name -> (region, {key: Object}, {upload id: Object})
        self.min_part = 5 << 20
        self.restore_after = 2
        self.checksums = self.conditions = True
        self.denied = set()
        self.kinds = collections.Counter()
        self.redirect_status = 301
        super().__init__(tls)
        if world:
            self.lock = world.lock
        self.regions[region] = self.endpoint

    # ---- for tests

    def variables(self, keys=None):
        keys = keys or self.user
        found = {"AWS_ACCESS_KEY_ID": keys.access, "AWS_SECRET_ACCESS_KEY": keys.secret, "AWS_S3_ENDPOINT": self.endpoint,
                 "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region, "AWS_EC2_METADATA_DISABLED": "true",
                 "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        if keys.token:
            found["AWS_SESSION_TOKEN"] = keys.token
        if self.tls and self.ca:
            found["AWS_CA_BUNDLE"] = str(self.ca)
        return found

    def env(self, keys=None, **changed):
        """The environment of this process with what a client needs, and nothing of the user's own set-up."""
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "RCLONE_"))}
        return {**keep, **self.variables(keys), **changed}

    def client(self, keys=None, **options):
        keys = keys or self.user
        options = {"region": self.region, "token": keys.token, "ca": self.ca, **options}
        return S3Client(self.endpoint, (keys.access, keys.secret), **options)

    def new_bucket(self, name=None, region=None):
        name = name or "double-" + secrets.token_hex(6)
        with self.lock:
            self.buckets[name] = (region or self.region, {}, {})
        return name

    def object(self, bucket, key):
        """The Object itself, to look at or to damage."""
        return self.buckets[bucket][1][key]

    def counts(self):
        with self.lock:
            return collections.Counter(self.kinds)

    def finish_restores(self, seconds=86400.0):
        """All restores that go on are complete; the copies are kept so long."""
        with self.lock:
            for _, objects, _ in self.buckets.values():
                for found in objects.values():
                    if found.restore == "ongoing":
                        found.restore = time.time() + seconds

    def expire_restores(self):
        """What was restored is cold again."""
        with self.lock:
            for _, objects, _ in self.buckets.values():
                for found in objects.values():
                    if isinstance(found.restore, float):
                        found.restore = None

    # ---- a request

    def answer(self, call):
        kind = kind_of(call.method, call.target, call.headers, DOMAIN)
        with self.lock:
            self.kinds[kind] += 1
        request = secrets.token_hex(8).upper()
        try:
            reply = self.authorized(call, kind)
        except S3Error as why:
            lines = [leaf("Code", why.code), leaf("Message", why.message), why.extra, leaf("RequestId", request)]
            body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{"".join(lines)}</Error>'
            reply = Reply(why.status, "" if why.status == 304 else body, {"Content-Type": "application/xml", **why.headers})
        reply.headers["x-amz-request-id"] = request
        return reply

    def authorized(self, call, kind):
        bucket, key = bucket_and_key(call.path, call.headers.get("host", ""), DOMAIN)
        s3_auth.check(call, self.keys, self.region, time.time() + self.clock_shift)
        if kind in self.denied:
            raise S3Error(403, "AccessDenied", "Access Denied")
        self.check_body(call)
        handler = getattr(self, "do_" + kind, None)
        if handler is None:
            raise S3Error(501, "NotImplemented", f"{kind} is not part of this double")
        with self.lock:
            if bucket is None or kind == "CreateBucket":
                return handler(call, bucket)
            if bucket not in self.buckets:
                raise S3Error(404, "NoSuchBucket", "no such bucket", leaf("BucketName", bucket))
            self.check_region(bucket)
            if key is None:
                return handler(call, bucket)
            if len(key.encode("utf-8", "surrogateescape")) > 1024:
                raise S3Error(400, "KeyTooLongError", "the key is too long")
            return handler(call, bucket, key)

    def check_region(self, bucket):
        region = self.buckets[bucket][0]
        if region != self.region:
            endpoint = self.regions.get(region, "")
            raise S3Error(self.redirect_status, "PermanentRedirect" if self.redirect_status == 301 else "TemporaryRedirect",
                          "the bucket is elsewhere",
                          leaf("Endpoint", endpoint.partition("//")[2]) + leaf("Bucket", bucket),
                          {"x-amz-bucket-region": region, **({"Location": endpoint} if self.redirect_status == 307 else {})})

    def check_body(self, call):
        """Chunks with a trailer decoded, and every checksum that came with the body compared. What was found stands in
        call.sums."""
        call.sums = {}
        if call.headers.get("x-amz-content-sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
            self.decode_chunks(call)
        md5 = call.headers.get("content-md5")
        if md5 is not None:
            try:
                wanted = base64.b64decode(md5, validate=True)
            except ValueError:
                wanted = b""
            if len(wanted) != 16:
                raise S3Error(400, "InvalidDigest", "Content-MD5 is not one")
            if wanted != hashlib.md5(call.body).digest():
                raise S3Error(400, "BadDigest", "not the body of this Content-MD5")
        if not self.checksums or call.method not in ("PUT", "POST"):
            return
        given = {name: call.headers[f"x-amz-checksum-{name.lower()}"] for name in s3_checksums.ALGORITHMS
                 if f"x-amz-checksum-{name.lower()}" in call.headers}
        if len(given) > 1:
            raise S3Error(400, "InvalidRequest", "more than one checksum")
        if "uploadId" in call.query and call.method == "POST":
            call.whole_sums = given  # of the object, not of the list of parts
            return
        for name, value in given.items():
            if len(value) != len(s3_checksums.encoded(name, b"")):
                raise S3Error(400, "InvalidRequest", f"{name} has another length")
            if value != s3_checksums.encoded(name, call.body):
                raise S3Error(400, "BadDigest", f"not the body of this {name}")
        call.sums = given

    @staticmethod
    def decode_chunks(call):
        data, rest = b"", call.body
        while True:
            line, _, rest = rest.partition(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                break
            data, rest = data + rest[:size], rest[size + 2:]
        for line in rest.split(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            if name:
                call.headers[name.strip().lower()] = value.strip()
        if int(call.headers.get("x-amz-decoded-content-length", -1)) != len(data):
            raise S3Error(400, "IncompleteBody", "not the length that was said")
        call.body = data

    # ---- buckets

    def do_ListBuckets(self, call, _):
        inner = [f"<Bucket>{leaf('Name', name)}{leaf('CreationDate', iso_date(0))}</Bucket>" for name in sorted(self.buckets)]
        return document("ListAllMyBucketsResult", "<Owner><ID>double</ID></Owner><Buckets>", *inner, "</Buckets>")

    def do_CreateBucket(self, call, bucket):
        if bucket in self.buckets:
            raise S3Error(409, "BucketAlreadyOwnedByYou", "the bucket is there")
        self.new_bucket(bucket)
        return Reply(200, headers={"Location": f"/{bucket}"})

    def do_HeadBucket(self, call, bucket):
        return Reply(200, headers={"x-amz-bucket-region": self.region})

    def do_DeleteBucket(self, call, bucket):
        if self.buckets[bucket][1]:
            raise S3Error(409, "BucketNotEmpty", "there are objects")
        del self.buckets[bucket]
        return Reply(204)

    def do_GetBucketLocation(self, call, bucket):
        return document("LocationConstraint", "" if self.region == "us-east-1" else self.region)

    def do_GetBucketVersioning(self, call, bucket):
        return document("VersioningConfiguration", "")

    def do_ListObjectsV2(self, call, bucket):
        token = call.query.get("continuation-token")
        after = base64.urlsafe_b64decode(token).decode() if token else call.query.get("start-after", "")
        count, inner, last, more = self.page(call, bucket, after)
        inner.append(leaf("KeyCount", count))
        if more:
            inner.append(leaf("NextContinuationToken", base64.urlsafe_b64encode(last.encode()).decode()))
        return document("ListBucketResult", *self.list_head(call, bucket, more), *inner)

    def do_ListObjects(self, call, bucket):
        _, inner, last, more = self.page(call, bucket, call.query.get("marker", ""))
        if more and call.query.get("delimiter"):
            inner.append(leaf("NextMarker", self.name_in(call, last)))
        return document("ListBucketResult", *self.list_head(call, bucket, more), *inner)

    def list_head(self, call, bucket, more):
        url = [leaf("EncodingType", "url")] if call.query.get("encoding-type") == "url" else []
        return [leaf("Name", bucket), leaf("Prefix", self.name_in(call, call.query.get("prefix", ""))), *url,
                leaf("MaxKeys", call.query.get("max-keys", "1000")), leaf("IsTruncated", truth(more))]

    @staticmethod
    def name_in(call, key):
        """A key as a list has it."""
        return urllib.parse.quote_plus(key, safe="/") if call.query.get("encoding-type") == "url" else key

    def page(self, call, bucket, after):
        """(number of entries, their XML, the last name of them, whether there are more)."""
        prefix, delimiter = call.query.get("prefix", ""), call.query.get("delimiter", "")
        most = min(int(call.query.get("max-keys", "1000")), 1000)
        entries, groups, last, count = [], {}, after, 0
        objects = self.buckets[bucket][1]
        for key in sorted((key for key in objects if key.startswith(prefix)), key=str.encode):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key[: end + len(delimiter)] if end >= 0 else key
            if key.encode() <= after.encode() or end >= 0 and (name in groups or after and name.encode() <= after.encode()):
                continue
            if count == most:
                return count, [*entries, *groups.values()], last, True
            last, count = name, count + 1
            if end >= 0:
                groups[name] = f"<CommonPrefixes>{leaf('Prefix', self.name_in(call, name))}</CommonPrefixes>"
                continue
            found = objects[key]
            entries += ["<Contents>", leaf("Key", self.name_in(call, key)), leaf("LastModified", iso_date(found.modified)),
                        leaf("ETag", f'"{found.etag}"'), leaf("Size", len(found.data)),
                        leaf("StorageClass", found.storage_class), "</Contents>"]
        return count, [*entries, *groups.values()], last, False

    def do_DeleteObjects(self, call, bucket):
        if "content-md5" not in call.headers and not call.sums:
            raise S3Error(400, "InvalidRequest", "Content-MD5 is missing")
        root = parse_xml(call.body)
        keys = [node.findtext("Key") for node in root.findall("Object")]
        if not 1 <= len(keys) <= 1000:
            raise S3Error(400, "MalformedXML", "the XML is not as expected")
        inner = []
        for key in keys:
            self.buckets[bucket][1].pop(key, None)
            if root.findtext("Quiet") != "true":
                inner.append(f"<Deleted>{leaf('Key', key)}</Deleted>")
        return document("DeleteResult", *inner)

    # ---- objects

    def found(self, bucket, key):
        found = self.buckets[bucket][1].get(key)
        if found is None:
            raise S3Error(404, "NoSuchKey", "no such object", leaf("Key", key))
        return found

    def check_new(self, call, bucket, key):
        """Conditions, class and encryption of an object to be written."""
        condition = call.headers.get("if-none-match")
        if condition is not None:
            if condition != "*" or not self.conditions:
                raise S3Error(501, "NotImplemented", "conditions are not known here")
            if key in self.buckets[bucket][1]:
                raise S3Error(412, "PreconditionFailed", "the condition does not hold",
                              "<Condition>If-None-Match</Condition>")
        wanted = call.headers.get("if-match")
        if wanted is not None and self.found(bucket, key).etag != wanted.strip('"'):
            raise S3Error(412, "PreconditionFailed", "the condition does not hold", "<Condition>If-Match</Condition>")
        if call.headers.get("x-amz-storage-class", "STANDARD") not in CLASSES:
            raise S3Error(400, "InvalidStorageClass", "no such storage class")
        if call.headers.get("x-amz-server-side-encryption", "AES256") not in ("AES256", "aws:kms", "aws:kms:dsse"):
            raise S3Error(400, "InvalidArgument", "no such encryption")

    def do_PutObject(self, call, bucket, key):
        if "content-length" not in call.headers and "transfer-encoding" not in call.headers:
            raise S3Error(411, "MissingContentLength", "Content-Length is missing")
        self.check_new(call, bucket, key)
        made = Object(key, call.body, call.headers)
        made.sums = call.sums or ({"CRC32": s3_checksums.encoded("CRC32", call.body)} if self.checksums else {})
        self.buckets[bucket][1][key] = made
        return Reply(200, headers={"ETag": f'"{made.etag}"', **made.encryption, **sum_headers(made)})

    def do_HeadObject(self, call, bucket, key):
        found = self.found(bucket, key)
        if found.restore == "ongoing" and self.restore_after is not None:
            found.looks += 1
            if found.looks > self.restore_after:
                found.restore = time.time() + 86400.0
        return self.read(call, found)

    def do_GetObject(self, call, bucket, key):
        found = self.found(bucket, key)
        if not found.readable():
            raise S3Error(403, "InvalidObjectState", "the object is cold",
                          leaf("StorageClass", found.storage_class))
        return self.read(call, found)

    def read(self, call, found):
        quoted = f'"{found.etag}"'
        if call.headers.get("if-match", quoted) not in (quoted, found.etag, "*"):
            raise S3Error(412, "PreconditionFailed", "the condition does not hold")
        if call.headers.get("if-none-match") in (quoted, found.etag, "*"):
            raise S3Error(304, "NotModified", headers={"ETag": quoted})
        headers = {"ETag": quoted, "Last-Modified": http_date(found.modified), "Accept-Ranges": "bytes", **found.headers,
                   **found.encryption}
        if found.storage_class != "STANDARD":
            headers["x-amz-storage-class"] = found.storage_class
        if found.restore == "ongoing":
            headers["x-amz-restore"] = 'ongoing-request="true"'
        elif isinstance(found.restore, float):
            headers["x-amz-restore"] = f'ongoing-request="false", expiry-date="{http_date(found.restore)}"'
        data, status = found.data, 200
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
        if span and (span[1] or span[2]):
            size = len(data)
            start = int(span[1]) if span[1] else max(0, size - int(span[2]))
            end = min(int(span[2]) + 1, size) if span[1] and span[2] else size
            if start >= size:
                raise S3Error(416, "InvalidRange", "beyond the end", headers={"Content-Range": f"bytes */{size}"})
            data, status = data[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        elif call.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            headers.update(sum_headers(found))
        if call.method == "HEAD":
            headers["Content-Length"] = str(len(data))
        return Reply(status, data, headers)

    def do_DeleteObject(self, call, bucket, key):
        self.buckets[bucket][1].pop(key, None)
        return Reply(204)

    def source(self, call):
        """The object that a copy reads."""
        place = urllib.parse.unquote(call.headers["x-amz-copy-source"]).lstrip("/")
        name, _, key = place.partition("/")
        if name not in self.buckets:
            raise S3Error(404, "NoSuchBucket", "no such bucket")
        found = self.found(name, key)
        if not found.readable():
            raise S3Error(403, "ObjectNotInActiveTierError", "the source is cold")
        wanted = call.headers.get("x-amz-copy-source-if-match")
        if wanted is not None and wanted.strip('"') != found.etag:
            raise S3Error(412, "PreconditionFailed", "the condition does not hold")
        return found

    def do_CopyObject(self, call, bucket, key):
        found = self.source(call)
        self.check_new(call, bucket, key)
        replace = call.headers.get("x-amz-metadata-directive", "COPY") == "REPLACE"
        if found is self.buckets[bucket][1].get(key) and not replace and "x-amz-storage-class" not in call.headers:
            raise S3Error(400, "InvalidRequest", "a copy to itself that changes nothing")
        headers = call.headers
        if not replace:  # class and encryption are the request's all the same
            headers = {**{name: value for name, value in headers.items() if name.startswith("x-amz-s")}, **found.headers}
        made = Object(key, found.data, headers)
        made.sums = {name: s3_checksums.encoded(name, made.data) for name in found.sums}
        self.buckets[bucket][1][key] = made
        return document("CopyObjectResult", leaf("LastModified", iso_date(made.modified)), leaf("ETag", f'"{made.etag}"'))

    def do_RestoreObject(self, call, bucket, key):
        found = self.found(bucket, key)
        root = parse_xml(call.body)
        days = root.findtext("Days") or "0"
        tier = root.findtext("GlacierJobParameters/Tier") or root.findtext("Tier") or "Standard"
        if found.storage_class not in COLD:
            raise S3Error(403, "InvalidObjectState", "the object is not cold")
        if not days.isdigit() or int(days) < 1 or tier not in ("Standard", "Bulk", "Expedited"):
            raise S3Error(400, "MalformedXML", "the XML is not as expected")
        if tier == "Expedited" and found.storage_class == "DEEP_ARCHIVE":
            raise S3Error(400, "InvalidArgument", "not that fast from this class")
        if found.restore == "ongoing":
            raise S3Error(409, "RestoreAlreadyInProgress", "a restore goes on")
        if isinstance(found.restore, float) and found.restore > time.time():
            found.restore = time.time() + int(days) * 86400.0
            return Reply(200)
        found.restore, found.looks = "ongoing", 0
        return Reply(202)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--min-part", type=int, default=5 << 20)
    given = parser.parse_args()
    with S3Double(given.region) as double:
        double.min_part = given.min_part
        print(json.dumps({**double.variables(), "S3_TEST_BUCKET": double.new_bucket()}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
