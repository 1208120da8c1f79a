"""Doubles of what hands out credentials inside Amazon's cloud, after the published descriptions of these services:
the instance metadata service (IMDSv2, and v1 where it is allowed), the endpoint for containers (ECS, EKS), and STS
(AssumeRole, AssumeRoleWithWebIdentity).

All take a KeyRing, which knows what was handed out and until when it is good; the S3 double checks against the same one.
What was handed out lives `lifetime` seconds; tests set it, and expire_all() ends what is out there.
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import secrets
import threading
import time
import urllib.parse

import sigv4
from http_double import HttpDouble, Reply


def stamp(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Keys:
    """A key pair; token None and expires None for those that are not temporary."""

    def __init__(self, access, secret, token=None, expires=None):
        self.access, self.secret, self.token, self.expires = access, secret, token, expires

    def expired(self):
        return self.expires is not None and time.time() >= self.expires


class KeyRing:
    """All keys that are known, by access key. Any thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.known = {}

    def add(self, access, secret, token=None, expires=None):
        keys = Keys(access, secret, token, expires)
        with self.lock:
            self.known[access] = keys
        return keys

    def permanent(self):
        return self.add("AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))

    def issue(self, lifetime):
        """New temporary keys."""
        return self.add("ASIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30), secrets.token_urlsafe(120),
                        time.time() + lifetime)

    def find(self, access):
        with self.lock:
            return self.known.get(access)

    def expire_all(self):
        """From now on all temporary keys are refused."""
        with self.lock:
            for keys in self.known.values():
                if keys.expires is not None:
                    keys.expires = min(keys.expires, time.time())

    def secrets(self):
        """What must appear in no log: secret keys and tokens."""
        with self.lock:
            return [text for keys in self.known.values() for text in (keys.secret, keys.token) if text]


class Imds(HttpDouble):
    """The instance metadata service. Settings may be changed while it runs:

    role         name of the role; None: the instance has none
    v1           whether requests without a token are answered
    hop_limited  the answer with the token does not arrive, as behind one router more than allowed
    disabled     everything is 403
    failing      so many requests from now on are answered 500
    """

    def __init__(self, keys=None, *, role="backup-role", lifetime=6 * 3600, region="eu-west-3", v1=False):
        self.keys = keys or KeyRing()
        self.role, self.lifetime, self.region, self.v1 = role, lifetime, region, v1
        self.hop_limited = self.disabled = False
        self.failing = 0
        self.tokens = {}
        self.issued = []
        super().__init__()

    def environment(self):
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.endpoint, "AWS_EC2_METADATA_DISABLED": "false"}

    def answer(self, call):
        with self.lock:
            if self.failing > 0:
                self.failing -= 1
                return Reply(500)
        if self.disabled:
            return Reply(403)
        if call.path == "/latest/api/token":
            return self.token(call)
        given = call.headers.get("x-aws-ec2-metadata-token")
        with self.lock:
            good = given is None and self.v1 or self.tokens.get(given, 0) > time.time()
        if not good:
            return Reply(401)
        return self.data(call) if call.method == "GET" else Reply(405)

    def token(self, call):
        if call.method != "PUT":
            return Reply(405)
        if "x-forwarded-for" in call.headers:
            return Reply(403)
        ttl = call.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return Reply(400)
        if self.hop_limited:
            time.sleep(3)
            return Reply(drop=True)
        token = secrets.token_urlsafe(40)
        with self.lock:
            self.tokens[token] = time.time() + int(ttl)
        return Reply(200, token, {"X-aws-ec2-metadata-token-ttl-seconds": ttl, "Content-Type": "text/plain"})

    def data(self, call):
        base = "/latest/meta-data/iam/security-credentials"
        if call.path in (base, base + "/"):
            return Reply(200, self.role, {"Content-Type": "text/plain"}) if self.role else Reply(404)
        if self.role and call.path == f"{base}/{self.role}":
            return Reply(200, json.dumps(self.credentials(), indent=2), {"Content-Type": "text/plain"})
        if call.path == "/latest/meta-data/placement/region":
            return Reply(200, self.region)
        if call.path == "/latest/dynamic/instance-identity/document":
            return Reply(200, json.dumps({"region": self.region, "instanceId": "i-0123456789abcdef0"}))
        return Reply(404)

    def credentials(self):
        """The service gives out the same keys until shortly before they end."""
        with self.lock:
            if not self.issued or self.issued[-1].expires - time.time() < min(300, self.lifetime / 2):
                self.issued.append(self.keys.issue(self.lifetime))
            keys = self.issued[-1]
        return {"Code": "Success", "LastUpdated": stamp(time.time()), "Type": "AWS-HMAC", "AccessKeyId": keys.access,
                "SecretAccessKey": keys.secret, "Token": keys.token, "Expiration": stamp(keys.expires)}


class ContainerCredentials(HttpDouble):
    """The endpoint for containers. It asks for the authorization token that lies in `token_file`, if there is one."""

    role_arn = "arn:aws:iam::123456789012:role/task"

    def __init__(self, keys=None, *, token_file=None, lifetime=6 * 3600):
        self.keys = keys or KeyRing()
        self.lifetime = lifetime
        self.token = None
        self.token_file = pathlib.Path(token_file) if token_file else None
        self.path = "/v2/credentials/" + secrets.token_hex(8)
        self.issued = []
        super().__init__()
        if self.token_file:
            self.rotate_token()

    def rotate_token(self):
        """A new token in the file; the old one is refused from now on."""
        self.token = "Bearer " + secrets.token_urlsafe(40)
        temporary = self.token_file.with_suffix(".new")
        temporary.write_text(self.token + "\n")
        os.replace(temporary, self.token_file)

    def environment(self, direct_token=False):
        """For the full URI. The relative one goes to a fixed address outside loopback; its path is self.path."""
        found = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.endpoint + self.path}
        if self.token and direct_token:
            found["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = self.token
        elif self.token:
            found["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = str(self.token_file)
        return found

    def answer(self, call):
        if call.method != "GET":
            return Reply(405)
        if call.path != self.path:
            return self.refuse(404, "NotFound", "no such credentials")
        if self.token and call.headers.get("authorization") != self.token:
            return self.refuse(401, "Unauthorized", "the authorization token is missing or wrong")
        keys = self.keys.issue(self.lifetime)
        with self.lock:
            self.issued.append(keys)
        return Reply(200, json.dumps({
            "RoleArn": self.role_arn, "AccessKeyId": keys.access, "SecretAccessKey": keys.secret, "Token": keys.token,
            "Expiration": stamp(keys.expires)}), {"Content-Type": "application/json"})

    @staticmethod
    def refuse(status, code, message):
        return Reply(status, json.dumps({"code": code, "message": message}), {"Content-Type": "application/json"})


class Sts(HttpDouble):
    """The security token service. `roles` are the ARNs that may be assumed, with what they ask for as ExternalId (or None);
    `web_tokens` the identity tokens that are known, with the time at which they expire."""

    def __init__(self, keys=None, *, roles=None, region="us-east-1"):
        self.keys = keys or KeyRing()
        self.roles = roles if roles is not None else {"arn:aws:iam::123456789012:role/backup": None}
        self.web_tokens = {}
        self.region = region
        self.lifetime = None  # overrides what was asked for; may be shorter than the service allows
        self.issued = []
        super().__init__()

    def environment(self):
        return {"AWS_ENDPOINT_URL_STS": self.endpoint}

    def new_web_token(self, path, lifetime=3600):
        """A file with an identity token, as a cluster mounts it."""
        token = ".".join(secrets.token_urlsafe(length) for length in (30, 200, 60))
        with self.lock:
            self.web_tokens[token] = time.time() + lifetime
        pathlib.Path(path).write_text(token)
        return token

    def answer(self, call):
        form = urllib.parse.parse_qs(call.body.decode("utf-8", "replace") if call.method == "POST" else call.raw_query)
        form = {name: values[0] for name, values in form.items()}
        action = form.get("Action", "")
        if call.method not in ("GET", "POST") or form.get("Version") != "2011-06-15":
            return self.error(400, "MissingAction" if not action else "InvalidAction", "no such operation")
        if action == "AssumeRole":
            return self.check_signature(call) or self.assume(form, "AssumeRole")
        if action == "AssumeRoleWithWebIdentity":
            return self.check_web_token(form) or self.assume(form, "AssumeRoleWithWebIdentity")
        if action == "GetCallerIdentity":
            return self.check_signature(call) or self.result(action, "<Account>123456789012</Account>")
        return self.error(400, "InvalidAction", f"no operation {action}")

    def check_signature(self, call):
        found = re.match(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/sts/aws4_request, ?SignedHeaders=([^,]+), ?"
                         r"Signature=([0-9a-f]{64})$", call.headers.get("authorization", ""))
        if not found:
            return self.error(403, "MissingAuthenticationToken", "not signed")
        access, day, region, signed, signature = found.groups()
        keys = self.keys.find(access)
        if keys is None or keys.token != call.headers.get("x-amz-security-token"):
            return self.error(403, "InvalidClientTokenId", "unknown keys or token")
        if keys.expired():
            return self.error(403, "ExpiredToken", "the keys are too old")
        names = signed.split(";")
        if not {"host", "x-amz-date"} <= set(names) or region != self.region or any(n not in call.headers for n in names):
            return self.error(403, "SignatureDoesNotMatch", "another region, or too little is signed")
        payload = call.headers.get("x-amz-content-sha256") or hashlib.sha256(call.body).hexdigest()
        if payload != hashlib.sha256(call.body).hexdigest():
            return self.error(403, "SignatureDoesNotMatch", "not the body that was signed")
        request = sigv4.canonical_request(call.method, call.raw_path, call.pairs, call.headers, names, payload)
        scope = f"{day}/{region}/sts/aws4_request"
        date = call.headers["x-amz-date"]
        if sigv4.signature(keys.secret, scope, sigv4.string_to_sign(date, scope, request)) != signature:
            return self.error(403, "SignatureDoesNotMatch", "another signature was expected")
        return None

    def check_web_token(self, form):
        with self.lock:
            expires = self.web_tokens.get(form.get("WebIdentityToken", ""))
        if expires is None:
            return self.error(400, "InvalidIdentityToken", "not a known identity token")
        if time.time() >= expires:
            return self.error(400, "ExpiredTokenException", "the identity token is too old")
        return None

    def assume(self, form, action):
        role, name = form.get("RoleArn", ""), form.get("RoleSessionName", "")
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", name):
            return self.error(400, "ValidationError", "RoleSessionName is not valid")
        length = form.get("DurationSeconds", "3600")
        if not length.isdigit() or not 900 <= int(length) <= 43200:
            return self.error(400, "ValidationError", "DurationSeconds is not valid")
        if role not in self.roles or self.roles[role] not in (None, form.get("ExternalId")):
            return self.error(403, "AccessDenied", f"{role} may not be assumed")
        keys = self.keys.issue(self.lifetime if self.lifetime is not None else int(length))
        with self.lock:
            self.issued.append(keys)
        account, _, title = role.rpartition(":")
        return self.result(action, (
            f"<Credentials><AccessKeyId>{keys.access}</AccessKeyId><SecretAccessKey>{keys.secret}</SecretAccessKey>"
            f"<SessionToken>{keys.token}</SessionToken><Expiration>{stamp(keys.expires)}</Expiration></Credentials>"
            f"<AssumedRoleUser><AssumedRoleId>AROA{secrets.token_hex(8).upper()}:{name}</AssumedRoleId>"
            f"<Arn>{account.replace(':iam:', ':sts:')}:assumed-{title}/{name}</Arn></AssumedRoleUser>"))

    @staticmethod
    def result(action, inner):
        return Reply(200, (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n'
            f"  <{action}Result>{inner}</{action}Result>\n"
            f"  <ResponseMetadata><RequestId>{secrets.token_hex(16)}</RequestId></ResponseMetadata>\n</{action}Response>\n"),
            {"Content-Type": "text/xml"})

    @staticmethod
    def error(status, code, message):
        return Reply(status, (
            '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n  <Error><Type>Sender</Type>'
            f"<Code>{code}</Code><Message>{message}</Message></Error>\n  <RequestId>{secrets.token_hex(16)}</RequestId>\n"
            "</ErrorResponse>\n"), {"Content-Type": "text/xml"})
