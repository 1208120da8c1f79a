"""Both states of one kind of mirror run, and the judgement of what an interrupted run left: the destination must be
exactly as before or exactly as after, and the next run must complete."""

import os

import faultlib
from faultlib import capture, differences, text_of


class Variant:
    def __init__(self, name, options, delete=True, first=False, several=False, user=None, large=200_000, jobs=1):
        self.name, self.options, self.delete, self.first = name, options, delete, first
        self.several, self.user, self.large, self.jobs = several, user, large, jobs
        self.versions = any(option.startswith("--keep-versions") for option in options)


class Scene:
    """A world with both states of one variant; the destination is world.dest."""

    def __init__(self, world, variant):
        self.world, self.variant = world, variant
        self.sources = [world.source / "one", world.source / "two"] if variant.several else [world.source]
        self.old = self.new = None
        self.special = faultlib.AM_ROOT and variant.user is None
        # Our own folder appears at the root and takes its time along; of several sources none gives the root a time.
        self.root_mtime = not variant.several
        self.arguments = ["mirror", "--jobs", str(variant.jobs), *variant.options, *map(str, self.sources), world.dest]

    def prepare(self):
        """Makes the old state, keeps it, makes the new one, and compares a whole run with rsync's result."""
        world, variant = self.world, self.variant
        world.dest.mkdir()
        acls = faultlib.set_acl(world.dest, "-m", "u:12345:r") and faultlib.set_acl(world.dest, "-b")
        for source in self.sources:
            faultlib.build_old(source, variant.large, self.special, acls)
        world.give(world.source)
        world.give(world.dest)
        if variant.user is not None:
            # The destination is made anew for each point by root; its parent may belong to anybody.
            os.chmod(world.top, 0o777)
        if not variant.first:
            result = world.run(self.arguments)
            if result.returncode != 0:
                return ["the first copy failed: " + text_of(result)]
        world.keep()
        for source in self.sources:
            faultlib.change(source, self.special, variant.delete)
        world.give(world.source)
        self.settle_owned_times()
        self.old = capture(world.dest, self.root_mtime and not variant.first)
        reference = faultlib.rsync_result(world, world.kept, self.rsync_sources(), variant.delete)
        result = world.run(self.arguments)
        if result.returncode != 0:
            return ["a whole run failed: " + text_of(result)]
        self.new = capture(world.dest, self.root_mtime)
        if self.new == self.old:
            return ["the run changed nothing"]
        problems = []
        if variant.delete and not variant.several:
            problems = differences(capture(self.sources[0]), self.new)
        elif reference is not None:
            problems = differences(capture(reference, self.root_mtime), self.new)
        return ["not the result of the source or rsync:\n" + "\n".join(problems[:10])] if problems else []

    def settle_owned_times(self):
        """chown by root clears set-id bits; give them back, so that the user's source has them too."""
        if self.variant.user is not None:
            for source in self.sources:
                os.chmod(source / "meta", 0o4755)
                os.chmod(source / "modes", 0o2710)

    def rsync_sources(self):
        return [f"{source}" if self.variant.several else f"{source}/" for source in self.sources]

    # ---- checks ----

    def state(self):
        """'old', 'new' or a text with what differs from the nearer of the two."""
        now = capture(self.world.dest, self.root_mtime)
        to_new = differences(self.new, now)
        if not to_new:
            return "new"
        old = self.old
        if self.variant.first and now:
            now = capture(self.world.dest, False)
        if self.variant.first and not now:
            return "old"
        to_old = differences(old, now)
        if not to_old:
            return "old"
        nearer, name = (to_old, "old") if len(to_old) <= len(to_new) else (to_new, "new")
        return (
            f"neither old ({len(to_old)} differences) nor new ({len(to_new)}); against the {name} state:\n"
            + "\n".join(nearer[:8])
        )

    def replaced(self):
        """Regular files of the old state whose content the new one no longer has at that name, with the content."""
        out = {}
        for name, entry in self.old.items():
            if entry["type"] == 0o100000:
                now = self.new.get(name)
                if now is None or (now["type"], now["content"]) != (entry["type"], entry["content"]):
                    out[name] = entry["content"]
        return out

    def version_problems(self, state):
        """Kept versions must hold each replaced file exactly once after the run, and nothing before it."""
        if not self.variant.versions:
            return []
        found = {}
        top = os.fsencode(self.world.dest / ".backapp/versions")
        for folder in sorted(os.listdir(top)) if os.path.isdir(top) else []:
            for name, entry in capture(os.path.join(top, folder)).items():
                if entry["type"] == 0o100000:
                    found.setdefault(name, []).append(entry["content"])
        problems = []
        for name, content in self.replaced().items():
            have = found.get(name, []).count(content)
            want = 1 if state == "new" else 0
            if have != want:
                problems.append(f"kept versions hold {name!r} {have} times, not {want}")
        return problems

    def recover(self):
        """Problems of a recovery that runs through."""
        if not (self.world.dest / ".backapp").exists():
            return []  # killed before there was anything of ours: it is no mirror yet
        result = self.world.run(["mirror", "--recover", self.world.dest])
        return [] if result.returncode == 0 else ["--recover: " + text_of(result)]

    def judge(self):
        """Recovers, then compares, runs once more and compares again: the state found, and problems."""
        problems = self.recover()
        state = self.state()
        if state not in ("old", "new"):
            return state, [*problems, state]
        problems += self.version_problems(state)
        return state, problems + self.finish(state)

    def finish(self, state):
        """Problems of the next run, which must complete whatever state there is."""
        problems = []
        result = self.world.run(self.arguments)
        if result.returncode != 0:
            problems.append(f"the next run ({state} state): " + text_of(result))
        after = self.state()
        if after != "new":
            problems.append(f"after the next run ({state} state) not new: {after}")
        else:
            problems += [f"after the next run: {problem}" for problem in self.version_problems("new")]
        problems += [f"left behind: {path}" for path in faultlib.leftovers(self.world.dest)[:5]]
        return problems
