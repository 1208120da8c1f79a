"""What the fault tests of archives share: a scene (s3_scene.py) whose store holds archives of its source, in several
volumes, and the judgement of what a run left: no half point in the list, earlier points as they were, and after a run
without faults nothing that nobody needs: no volume without an index, no unfinished upload, no lock, no state."""

import json
import pathlib
import shutil

from s3_scene import PREFIX, Scene, completed, same, snapshot

NAME = "home"
VOLUME = 8 << 20  # the smallest that may be asked for
KEY = {"BACKUP_ENCRYPTION_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}
OTHER_KEY = {"BACKUP_ENCRYPTION_KEY": "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA="}


class ArchiveScene(Scene):
    """With archives. Options are those of each run of `archive create`."""

    def __init__(self, *options, key=None, **how):
        self.options = ["--level", "1", "--volume-size", str(VOLUME), *options]
        if key:
            self.options.append("--encrypt")
        super().__init__(**how)
        self.environment.update(key or {})

    def old_state(self):
        super().old_state()
        if self.big:
            self.write("bigger", self.random.randbytes(10_200_000))
            self.set_times(0)

    def new_state(self):
        if self.big:
            self.write("bigger", self.random.randbytes(8_700_000))
        super().new_state()

    def create(self, *options, **how):
        return self.json("archive", "create", "--name", NAME, *self.options, *options, self.url, self.src, **how)

    def first(self):
        completed(self.create(direct=True))

    # ---- what there is

    def points(self):
        """What `archive list` shows: (bases of points, oldest first; bases of what is unfinished)."""
        environment = {"AWS_S3_ENDPOINT": self.server.plain_endpoint} if self.proxy else {}
        code, out, err = self.run("archive", "list", "--json", self.url, env=environment)
        if code != 0 and ("no archive" in err or "no store" in err):
            return [], []
        assert code == 0, f"archive list: {err}"
        shown = sorted((json.loads(line) for line in out.splitlines()), key=lambda line: line["point"])
        assert not any("problem" in line for line in shown), f"{shown}"
        return ([line["point"] for line in shown if not line["unfinished"]],
                [line["point"] for line in shown if line["unfinished"]])

    def points_unread(self):
        """The same list without asking what is in them."""
        return sorted(key[:-len(".index")] for key in self.objects() if key.endswith(".index"))

    def objects(self):
        """{key: content} of what lies in NAME/."""
        return {key[len(NAME) + 1:]: content for key, content in self.stored().items() if key.startswith(NAME + "/")}

    def uploads(self):
        """What of unfinished uploads lies in the store."""
        if not self.proxy:
            own = pathlib.Path(self.url) / ".backapp-store"
            # tmp/, and uploads that were not begun, are emptied after a minute.
            return [str(path) for path in (own / "uploads").glob("*/upload")]
        with self.server.client() as client:
            left = client.good("GET", self.bucket, query={"uploads": "", "prefix": PREFIX})
        return ["an upload"] if b"<Upload>" in left.body else []

    def check_point(self, point, wanted, what):
        """A point gives back an equal tree."""
        shutil.rmtree(self.back, ignore_errors=True)
        completed(self.restore("--at", point, direct=True))
        same(snapshot(self.back), wanted, what)

    def resume_state(self):
        return sorted(str(path.relative_to(self.state)) for path in self.state.rglob("*")
                      if path.is_file() and "archives" in path.parts)

    def check_clean(self):
        """Only what belongs to a point is there."""
        points, unfinished = self.points()
        assert not unfinished, f"unfinished: {unfinished}"
        left = [key for key in self.objects() if key.split(".index")[0].split(".vol")[0] not in points]
        assert not left, f"left in the store: {left}"
        assert not self.uploads(), f"{self.uploads()} is left"
        assert not self.resume_state(), f"left to be resumed: {self.resume_state()}"

    # ---- judgement

    def judge_archive(self, earlier, *, options=(), code=None):
        """After a run that did not complete: what was there is there, the next one completes and cleans up. earlier:
        {base: snapshot} of the points before. Returns the next run."""
        points, _ = self.points()
        objects = self.objects()
        whole = [key[:-len(".index")] for key in objects if key.endswith(".index")]
        assert sorted(whole) == points, f"{points} are shown, but there are {whole}"
        new = [point for point in points if point not in earlier]
        assert len(new) <= 1 and len(points) == len(earlier) + len(new), f"points {points}"
        now = snapshot(self.src)
        for point, wanted in earlier.items():
            self.check_point(point, wanted, f"the earlier {point}")
        for point in new:
            self.check_point(point, now, f"the new {point}")
        complete = {key: content for key, content in objects.items()
                    if ".vol" in key and key.split(".vol")[0] not in points}
        run = completed(self.create(*options, direct=True))
        self.check_new([*earlier, *new], run)
        after = self.objects()
        kept = [key for key, content in complete.items() if after.get(key) == content]
        # The last one may not have been noted before the end came.
        if len(complete) > 1:
            assert len(kept) >= len(complete) - 1, f"of {sorted(complete)} only {kept} are kept"
            resumed = run.of("summary")[-1]["stats"]["archive"]["resumedBytes"]
            assert resumed >= sum(map(len, complete.values())) - max(map(len, complete.values())), resumed
        for point, wanted in earlier.items():
            self.check_point(point, wanted, f"the earlier {point}, afterwards")
        return run

    def check_new(self, before, run):
        """A run that completed made a point that is the source, and left nothing else."""
        points, _ = self.points()
        made = [point for point in points if point not in before]
        assert len(made) == 1 and points[-1] == made[0], f"{points} after {before}"
        assert run.of("summary")[-1]["stats"]["archive"]["point"] == made[0]
        self.check_point(made[0], snapshot(self.src), "the new point")
        self.check_clean()
        assert not [key for key in self.stored() if key.endswith(".backapp/lock")], "the lock is left"

