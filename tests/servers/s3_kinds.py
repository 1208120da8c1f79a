"""Which S3 operation a request is, as Amazon names them. For counting requests and for choosing some of them."""

import urllib.parse

OBJECT = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
OBJECT_PART = {  # (method, sub-resource) -> operation on a key
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "uploadId"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", "uploadId"): "ListParts",
    ("POST", "restore"): "RestoreObject",
    ("PUT", "retention"): "PutObjectRetention",
    ("GET", "retention"): "GetObjectRetention",
    ("PUT", "legal-hold"): "PutObjectLegalHold",
    ("GET", "legal-hold"): "GetObjectLegalHold",
    ("PUT", "tagging"): "PutObjectTagging",
    ("GET", "tagging"): "GetObjectTagging",
    ("PUT", "acl"): "PutObjectAcl",
    ("GET", "acl"): "GetObjectAcl",
    ("GET", "attributes"): "GetObjectAttributes",
}
BUCKET = {"HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket", "GET": "ListObjects"}
BUCKET_PART = {
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "versions"): "ListObjectVersions",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "location"): "GetBucketLocation",
    ("POST", "delete"): "DeleteObjects",
}
SETTINGS = {  # sub-resources of buckets with Get, Put and Delete
    "versioning": "BucketVersioning",
    "lifecycle": "BucketLifecycleConfiguration",
    "object-lock": "ObjectLockConfiguration",
    "encryption": "BucketEncryption",
    "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus",
    "acl": "BucketAcl",
    "publicAccessBlock": "PublicAccessBlock",
    "tagging": "BucketTagging",
}


def split_target(target):
    """(decoded path, raw query, names of the query) of a request's target."""
    path, _, query = target.partition("?")
    names = {name for name, _ in urllib.parse.parse_qsl(query, keep_blank_values=True)}
    return urllib.parse.unquote(path, errors="surrogateescape"), query, names


def bucket_and_key(path, host, domain):
    """The bucket and the key (None: none) of a decoded path, in path style or as virtual host below `domain`."""
    name = host.rpartition(":")[0] or host
    if name.endswith("." + domain):
        return name[: -len(domain) - 1], path[1:] or None
    bucket, _, key = path[1:].partition("/")
    return bucket or None, key or None


def kind_of(method, target, headers, domain="s3.localhost"):
    """The name of the operation. headers: lower-case names. Unknown ones are METHOD and what they are done to."""
    path, _, names = split_target(target)
    bucket, key = bucket_and_key(path, headers.get("host", ""), domain)
    if bucket is None:
        return "ListBuckets" if method == "GET" else f"{method} service"
    table, plain = (OBJECT_PART, OBJECT) if key is not None else (BUCKET_PART, BUCKET)
    kind = next((kind for (verb, name), kind in table.items() if verb == method and name in names), None)
    if kind is None and key is None:
        setting = next((title for name, title in SETTINGS.items() if name in names), None)
        if setting and method in ("GET", "PUT", "DELETE"):
            return method.capitalize() + setting
    kind = kind or plain.get(method) or f"{method} {'object' if key is not None else 'bucket'}"
    if "x-amz-copy-source" in headers:
        kind = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}.get(kind, kind)
    return kind
