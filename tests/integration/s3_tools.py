"""What the tests of stores at the command line share: one S3 server for a script, and a place with a bucket of its own."""

import atexit
import base64
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "servers"))

from cli_tools import Place, events  # noqa: E402
from fault_proxy import FaultProxy  # noqa: E402, F401
from fault_rules import Rule  # noqa: E402, F401
from s3_server import S3Server  # noqa: E402

ENCRYPTION_KEY = base64.b64encode(bytes(range(100, 132))).decode()
_servers = []


def server():
    """The script's S3 server, started when it is first asked for; a skip if it is not installed."""
    if not _servers:
        _servers.append(S3Server())
        atexit.register(_servers[0].stop)
    return _servers[0]


class Run:
    """A run that has ended: exit code, text, and the events of --json."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        self.events = events(out) if out.startswith('{"type"') else []

    def __repr__(self):
        return f"code {self.code}, {self.err or self.out[-1500:]}"

    def of(self, kind):
        return [event for event in self.events if event["type"] == kind]

    @property
    def summary(self):
        return self.of("summary")[-1]["stats"]

    @property
    def stage2(self):
        return self.summary["stage2"]

    @property
    def requests(self):
        return self.stage2["requests"]

    @property
    def done(self):
        return self.of("done")[-1]

    def items(self):
        return sorted((item["path"] if isinstance(item["path"], str) else str(item["path"]), item["action"])
                      for item in self.of("item"))


class StorePlace(Place):
    """A Place with a directory `store` to write to; catalogues lie in its own state."""

    def __init__(self):
        super().__init__()
        self.store = self.root / "store"
        self.back = self.root / "back"
        for name in list(self.environment):
            if name.startswith(("AWS_", "S3_")) or name == "BACKUP_ENCRYPTION_KEY":
                del self.environment[name]
        self.environment.update(AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null",
                                AWS_EC2_METADATA_DISABLED="true")

    def json(self, command, *arguments, **options):
        """A run with --json, whatever its end."""
        return Run(*self.run(command, "--json", *arguments, **options))

    def fine(self, command, *arguments, **options):
        """A run with --json that has to complete."""
        run = self.json(command, *arguments, **options)
        assert run.code == 0 and run.done["status"] == "completed", f"{command} {arguments}: {run}"
        return run

    def sync(self, *options, to=None):
        return self.fine("s3sync", *options, self.src, to or self.store)

    def files(self, count, size=100, folder="many"):
        """Writes `count` files below src."""
        (self.src / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (self.src / folder / f"{number:05d}").write_bytes(b"%d " % number * (size // 4 + 1))


class BucketPlace(StorePlace):
    """A StorePlace with a fresh bucket, whose name is `bucket` and whose URL is `url`."""

    def __init__(self, **options):
        self.server = server()
        super().__init__()
        self.bucket = self.server.new_bucket(**options)
        self.url = f"s3://{self.bucket}/backup"
        self.environment.update(self.server.variables())
        self.client = self.server.client()

    def __exit__(self, *why):
        self.client.close()
        super().__exit__(*why)

    def keys(self, prefix="backup/", own=False):
        """The keys below the prefix, without it; without what is ours."""
        found = [key[len(prefix):] for key, _, _ in self.client.listing(self.bucket, prefix)]
        return found if own else [key for key in found if not key.startswith((".backapp/", ".trash/"))]

