"""What the double of S3 is made of: stored objects, XML, dates."""

import datetime
import email.utils
import hashlib
import time
import xml.etree.ElementTree
from xml.sax.saxutils import escape

from http_double import Reply
from s3_auth import S3Error

COLD = {"GLACIER", "DEEP_ARCHIVE"}
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
KEPT = ("content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires")


class Object:
    """A stored object, or an upload that collects `parts`: number -> (data, etag, {algorithm: sum}, time)."""

    def __init__(self, key, data, headers):
        self.key, self.data = key, data
        self.modified = time.time()
        self.etag = hashlib.md5(data).hexdigest()
        self.storage_class = headers.get("x-amz-storage-class", "STANDARD")
        self.headers = {name: value for name, value in headers.items() if name in KEPT or name.startswith("x-amz-meta-")}
        self.headers.setdefault("content-type", "binary/octet-stream")
        self.encryption = {name: value for name, value in headers.items()
                           if name.startswith("x-amz-server-side-encryption")} or {"x-amz-server-side-encryption": "AES256"}
        self.sums = {}
        self.sum_type = "FULL_OBJECT"
        self.parts = {}
        self.restore = None  # None, "ongoing", or the time until which the copy is kept
        self.looks = 0

    def readable(self):
        return self.storage_class not in COLD or isinstance(self.restore, float) and self.restore > time.time()


def http_date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


def iso_date(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def leaf(name, value):
    """An XML element with text, quotes escaped too, as S3 has them around an ETag."""
    return f"<{name}>{escape(str(value), {chr(34): '&quot;'})}</{name}>"


def truth(value):
    return "true" if value else "false"


def document(name, *inner):
    """An answer with XML; inner: elements, already XML."""
    start = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return Reply(200, f"{start}<{name} {NAMESPACE}>{''.join(inner)}</{name}>", {"Content-Type": "application/xml"})


def parse_xml(body):
    """The root of a request's XML, names without name spaces."""
    try:
        root = xml.etree.ElementTree.fromstring(body)
    except xml.etree.ElementTree.ParseError:
        raise S3Error(400, "MalformedXML", "the XML cannot be read") from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    return root


def sum_headers(found):
    headers = {f"x-amz-checksum-{name.lower()}": value for name, value in found.sums.items()}
    if headers:
        headers["x-amz-checksum-type"] = found.sum_type
    return headers
