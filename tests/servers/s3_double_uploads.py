"""Uploads in parts, for the double of S3."""

import hashlib
import re
import secrets
import time

import s3_checksums
from http_double import Reply
from s3_auth import S3Error
from s3_double_store import Object, document, iso_date, leaf, parse_xml, truth


def quoted(etag):
    return f'"{etag}"'


class Uploads:
    """The operations on uploads; a part of S3Double, which has buckets and settings."""

    def upload(self, call, bucket, key):
        found = self.buckets[bucket][2].get(call.query["uploadId"])
        if found is None or found.key != key:
            raise S3Error(404, "NoSuchUpload", "no such upload")
        return found

    def do_CreateMultipartUpload(self, call, bucket, key):
        self.check_new(call, bucket, key)
        made = Object(key, b"", call.headers)
        algorithm = call.headers.get("x-amz-checksum-algorithm", "").upper()
        if algorithm and algorithm not in s3_checksums.ALGORITHMS:
            raise S3Error(400, "InvalidRequest", "no such checksum")
        made.algorithm = algorithm if self.checksums else ""
        made.sum_type = call.headers.get("x-amz-checksum-type", "COMPOSITE").upper()
        if made.sum_type == "FULL_OBJECT" and algorithm.startswith("SHA"):
            raise S3Error(400, "InvalidRequest", f"{algorithm} of parts cannot be joined")
        name = secrets.token_urlsafe(24)
        self.buckets[bucket][2][name] = made
        reply = document("InitiateMultipartUploadResult", leaf("Bucket", bucket), leaf("Key", key), leaf("UploadId", name))
        reply.headers.update(made.encryption)
        if made.algorithm:
            reply.headers.update({"x-amz-checksum-algorithm": made.algorithm, "x-amz-checksum-type": made.sum_type})
        return reply

    @staticmethod
    def add_part(call, upload, data, sums):
        number = call.query.get("partNumber", "")
        if not number.isdigit() or not 1 <= int(number) <= 10000:
            raise S3Error(400, "InvalidArgument", "part numbers are 1 to 10000")
        if upload.algorithm and sums and upload.algorithm not in sums:
            raise S3Error(400, "InvalidRequest", f"the upload has {upload.algorithm}")
        if upload.algorithm and not sums:
            sums = {upload.algorithm: s3_checksums.encoded(upload.algorithm, data)}
        etag = hashlib.md5(data).hexdigest()
        upload.parts[int(number)] = (data, etag, sums, time.time())
        return etag

    def do_UploadPart(self, call, bucket, key):
        etag = self.add_part(call, self.upload(call, bucket, key), call.body, call.sums)
        sums = {f"x-amz-checksum-{name.lower()}": value for name, value in call.sums.items()}
        return Reply(200, headers={"ETag": quoted(etag), **sums})

    def do_UploadPartCopy(self, call, bucket, key):
        upload, found = self.upload(call, bucket, key), self.source(call)
        data = found.data
        if "x-amz-copy-source-range" in call.headers:
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", call.headers["x-amz-copy-source-range"])
            if not span or not int(span[1]) <= int(span[2]) < len(data):
                raise S3Error(400, "InvalidArgument", "the source has no such range")
            data = data[int(span[1]): int(span[2]) + 1]
        etag = self.add_part(call, upload, data, {})
        return document("CopyPartResult", leaf("LastModified", iso_date(time.time())), leaf("ETag", quoted(etag)))

    def do_ListParts(self, call, bucket, key):
        upload = self.upload(call, bucket, key)
        marker = int(call.query.get("part-number-marker", "0"))
        most = min(int(call.query.get("max-parts", "1000")), 1000)
        numbers = [number for number in sorted(upload.parts) if number > marker]
        listed = numbers[:most]
        inner = []
        for number in listed:
            data, etag, sums, made = upload.parts[number]
            inner += ["<Part>", leaf("PartNumber", number), leaf("LastModified", iso_date(made)), leaf("ETag", quoted(etag)),
                      leaf("Size", len(data)), *(leaf(f"Checksum{name}", value) for name, value in sums.items()), "</Part>"]
        return document("ListPartsResult", leaf("Bucket", bucket), leaf("Key", key), leaf("UploadId", call.query["uploadId"]),
                        leaf("StorageClass", upload.storage_class), leaf("PartNumberMarker", marker),
                        leaf("NextPartNumberMarker", listed[-1] if listed else 0), leaf("MaxParts", most),
                        leaf("IsTruncated", truth(len(numbers) > most)), *inner)

    def do_ListMultipartUploads(self, call, bucket):
        uploads, prefix = self.buckets[bucket][2], call.query.get("prefix", "")
        after = (call.query.get("key-marker", ""), call.query.get("upload-id-marker", ""))
        most = min(int(call.query.get("max-uploads", "1000")), 1000)
        pairs = sorted((upload.key, name) for name, upload in uploads.items() if upload.key.startswith(prefix))
        pairs = [pair for pair in pairs if pair > after and (after[1] or pair[0] > after[0])]
        listed, more = pairs[:most], len(pairs) > most
        inner = []
        if more:
            inner += [leaf("NextKeyMarker", self.name_in(call, listed[-1][0])), leaf("NextUploadIdMarker", listed[-1][1])]
        for key, name in listed:
            inner += ["<Upload>", leaf("Key", self.name_in(call, key)), leaf("UploadId", name),
                      leaf("StorageClass", uploads[name].storage_class),
                      leaf("Initiated", iso_date(uploads[name].modified)), "</Upload>"]
        return document("ListMultipartUploadsResult", leaf("Bucket", bucket), leaf("MaxUploads", most),
                        leaf("IsTruncated", truth(more)), *inner)

    def do_AbortMultipartUpload(self, call, bucket, key):
        self.upload(call, bucket, key)
        del self.buckets[bucket][2][call.query["uploadId"]]
        return Reply(204)

    def do_CompleteMultipartUpload(self, call, bucket, key):
        upload = self.upload(call, bucket, key)
        listed = [(int(node.findtext("PartNumber") or 0), node) for node in parse_xml(call.body).findall("Part")]
        if not listed:
            raise S3Error(400, "MalformedXML", "the XML is not as expected")
        numbers = [number for number, _ in listed]
        if numbers != sorted(set(numbers)):
            raise S3Error(400, "InvalidPartOrder", "the parts are out of order")
        pieces = [self.listed_part(upload, number, node) for number, node in listed]
        if any(len(data) < self.min_part for data, *_ in pieces[:-1]):
            raise S3Error(400, "EntityTooSmall", "a part is too small")
        self.check_new(call, bucket, key)
        upload.data = b"".join(data for data, *_ in pieces)
        self.sum_of_parts(call, upload, pieces)
        upload.etag = f"{hashlib.md5(b''.join(bytes.fromhex(etag) for _, etag, *_ in pieces)).hexdigest()}-{len(pieces)}"
        upload.modified, upload.parts = time.time(), {}
        del self.buckets[bucket][2][call.query["uploadId"]]
        self.buckets[bucket][1][key] = upload
        sums = (leaf(f"Checksum{name}", value) for name, value in upload.sums.items())
        reply = document("CompleteMultipartUploadResult", leaf("Location", f"{self.endpoint}/{bucket}/{key}"),
                         leaf("Bucket", bucket), leaf("Key", key), leaf("ETag", quoted(upload.etag)), *sums)
        reply.headers.update(upload.encryption)
        return reply

    @staticmethod
    def listed_part(upload, number, node):
        """The part that a line of the list names."""
        part = upload.parts.get(number)
        good = part is not None and (node.findtext("ETag") or "").strip('"') == part[1]
        for name in s3_checksums.ALGORITHMS:
            given = node.findtext(f"Checksum{name}")
            good = good and (given is None or given == part[2].get(name))
        if not good:
            raise S3Error(400, "InvalidPart", f"part {number} is not there, or another")
        wanted = upload.algorithm if upload.sum_type == "COMPOSITE" else ""
        if wanted and node.findtext(f"Checksum{wanted}") is None:
            raise S3Error(400, "InvalidRequest", f"the {wanted} of part {number} is missing")
        return part

    @staticmethod
    def sum_of_parts(call, upload, pieces):
        upload.sums = {}
        if not upload.algorithm:
            return
        name = upload.algorithm
        if upload.sum_type == "FULL_OBJECT":
            whole = s3_checksums.encoded(name, upload.data)
        else:
            whole = s3_checksums.composite(name, [sums[name] for _, _, sums, _ in pieces])
        if getattr(call, "whole_sums", {}).get(name, whole) != whole:
            raise S3Error(400, "BadDigest", f"not the parts of this {name}")
        upload.sums = {name: whole}
