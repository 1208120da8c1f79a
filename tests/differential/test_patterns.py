#!/usr/bin/env python3
"""Our include and exclude patterns against those of the real rsync.

Each round makes one tree of a few hundred entries whose names are made of the characters that patterns care about, and
many lists of rules: some random, some derived from a path of the tree so that they match often. `rsync -n` lists what
it would copy; PATTERN_MATCH (tests/differential/pattern_match.c) says what our rules reach; both must be the same set.
The seed of each round is printed; BACKAPP_TEST_SEED repeats one round.
"""

import concurrent.futures
import os
import random
import shutil
import subprocess
import sys
import tempfile

LONG = os.environ.get("BACKAPP_TEST_LONG") == "1"
ROUNDS, LISTS = (15, 300) if LONG else (4, 60)
LEAST_PAIRS = 100_000 if LONG else 3_000
TIMEOUT = 60
ALPHABET = ["a", "b", "c", "B", "1", "-", "!", "^", "*", "?", "[", "]", "\\", ":", ".", "_", "~", " ", "\u00e9"]
NAME_WEIGHTS = [9, 9, 4, 2, 2] + [1] * 14
PATTERN_PIECES = ["a", "b", "c", "B", "1", "-", "!", "^", "]", "\\", "/", "?", "*", "**", "***", "/**/", "[",
                  "[ab]", "[!a]", "[^b]", "[a-c]", "[c-a]", "[]a]", "[]-b]", "[!]]", "[a-]", "[\\]]", "[\\!a]",
                  "[a\\-c]", "[[:alpha:]]", "[[:upper:]1]", "[![:digit:]]", "[[:punct:]]", "[[:space:]a]",
                  "[[:xdigit:]-]", "[[:nope:]]", "[[:al", "[[:]", "[[:a]", "[[a]", "[\\", "\\*", "\\?", "\\[",
                  "\\a", "\\\\", "[*]", "[**]", "[?]", "[/]", "[a/b]", "[!-~]", "[ -~]", "\u00e9", "[\u00e9]"]
PIECE_WEIGHTS = [6, 6, 3] + [1] * 7 + [6, 5, 6, 4, 2, 2] + [1] * (len(PATTERN_PIECES) - 16)


class Tree:
    """The entries of a generated tree: path to whether it is a directory."""

    def __init__(self, rng, root):
        self.root = root
        self.entries = {}
        os.mkdir(root)
        while len(self.entries) < 250:
            self.fill(rng, "", 4)
        self.paths = sorted(self.entries)

    def fill(self, rng, parent, depth):
        for _ in range(rng.randint(3, 7) if depth > 2 else rng.randint(1, 4)):
            name = "".join(rng.choices(ALPHABET, NAME_WEIGHTS, k=rng.choice([1, 1, 2, 2, 3, 4])))
            path = f"{parent}/{name}" if parent else name
            if name in (".", "..") or path in self.entries or name.startswith(" ") or name.endswith(" "):
                continue
            is_directory = depth > 1 and rng.random() < 0.55
            self.entries[path] = is_directory
            if is_directory:
                os.mkdir(f"{self.root}/{path}")
                self.fill(rng, path, depth - 1)
            else:
                with open(f"{self.root}/{path}", "xb"):
                    pass


def blurred(rng, text):
    """The text with some of its characters turned into something that may match them."""
    out = []
    for char in text:
        roll = rng.random()
        if char == "/":
            out.append(rng.choice(["/", "/", "/", "/", "/**/", "**", "*", "/*/"]))
        elif roll < 0.5:
            out.append(char)
        elif roll < 0.62:
            out.append("?")
        elif roll < 0.74:
            out.append(rng.choice(["*", "*", "**"]))
        elif roll < 0.84:
            out.append("\\" + char)
        elif roll < 0.92:
            out.append("[" + rng.choice(["", "a-", "x", "!"]) + char + "]")
        else:
            out.append(rng.choice(["[[:alpha:]]", "[![:upper:]]", "[[:print:]]", "[!x]", "[[:alnum:][:punct:]]"]))
    return "".join(out)


def derived_pattern(rng, tree):
    parts = rng.choice(tree.paths).split("/")
    start = rng.randrange(len(parts))
    chosen = parts[start:] if rng.random() < 0.7 else parts[start:rng.randint(start, len(parts)) + 1]
    text = "/".join(chosen)
    return text if rng.random() < 0.15 else blurred(rng, text)


def random_pattern(rng, tree):
    if rng.random() < 0.65:
        text = derived_pattern(rng, tree)
    else:
        text = "".join(rng.choices(PATTERN_PIECES, PIECE_WEIGHTS, k=rng.choice([1, 2, 2, 3, 3, 4, 5, 6])))
    text = rng.choice(["", "", "", "", "/", "/", "**/", "**", "*/"]) + text
    text += rng.choice(["", "", "", "", "", "/", "/***", "/**", "/*", "***", "**", "**/", "***/", "//"])
    return text


def random_rules(rng, tree):
    """A list of ("+" or "-", pattern), in one of the shapes that show much of what the patterns match."""
    first = random_pattern(rng, tree)
    shape = rng.random()
    if shape < 0.35:  # each file alone; all directories are walked
        return [("+", first), ("+", "*/"), ("-", "*")]
    if shape < 0.5:
        return [("-", first)]
    if shape < 0.65:  # each directory, whatever is in it; no file
        return [("+", first + "/"), ("+", "/*/"), ("+", "/*/*/"), ("-", "*")]
    return [(rng.choice("+--"), random_pattern(rng, tree)) for _ in range(rng.randint(2, 6))]


def rsync_reaches(tree, empty, rules):
    """What rsync would copy with these rules."""
    arguments = ["rsync", "-rn8", "--out-format=%n"] + [f"--filter={sign} {pattern}" for sign, pattern in rules]
    done = subprocess.run(arguments + [tree.root + "/", empty + "/"], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"rsync failed with {rules}: {done.stderr.decode(errors='replace')}")
    lines = done.stdout.decode().splitlines()
    return {line.rstrip("/") for line in lines if line != "./"}


def our_reaches(tree, batches):
    """What pattern-match says; each batch is the lines that build one list."""
    questions = [f"{'d' if tree.entries[path] else 'f'} {path}" for path in tree.paths]
    lines = [line for batch in batches for line in ["="] + batch + questions]
    done = subprocess.run([os.environ["PATTERN_MATCH"]], input="\n".join(lines).encode() + b"\n", capture_output=True,
                          timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"pattern-match failed: {done.stderr.decode(errors='replace')}")
    verdicts = done.stdout.split()
    if len(verdicts) != len(batches) * len(questions):
        raise RuntimeError(f"pattern-match gave {len(verdicts)} verdicts")
    size = len(questions)
    return [{path for path, verdict in zip(tree.paths, verdicts[i * size:(i + 1) * size]) if verdict == b"1"}
            for i in range(len(batches))]


def as_config(rng, tree):
    """Lines of a config's includes and excludes, and the rules for rsync that mean the same."""
    excludes = [random_pattern(rng, tree) for _ in range(rng.randint(0, 2))]
    includes = [random_pattern(rng, tree).rstrip("/") or "*" for _ in range(rng.randint(1, 3))]
    # A folder as an include: all files below it, written out for rsync.
    folder = "/".join(rng.choice(["*", "a*", "?", "[!a]*"]) for _ in range(rng.randint(1, 2)))
    folder = rng.choice(["", "/"]) + folder
    lines = [f"x {pattern}" for pattern in excludes] + [f"i {pattern}" for pattern in includes + [folder + "/"]] + ["c"]
    rules = [("-", pattern) for pattern in excludes] + [("+", pattern) for pattern in includes + [folder + "/***"]]
    return lines, rules + [("+", "*/"), ("-", "*")]


def compare(tree, empty, lists):
    """Runs all lists both ways. Returns (failures, pairs, pairs that were hidden)."""
    ours = our_reaches(tree, [lines for lines, _ in lists])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        theirs = list(pool.map(lambda item: rsync_reaches(tree, empty, item[1]), lists))
    hidden, failures = 0, []
    for (_, rules), mine, real in zip(lists, ours, theirs):
        hidden += len(tree.paths) - len(real)
        unknown = real - set(tree.paths)
        if unknown:
            failures.append(f"{rules}: rsync names what is not in the tree: {sorted(unknown)[:3]}")
        elif mine != real:
            failures.append(f"{rules}: only we take {sorted(mine - real)[:3]}, only rsync {sorted(real - mine)[:3]}")
    return failures, len(lists) * len(tree.paths), hidden


def run_round(seed, scratch):
    rng = random.Random(seed)
    base = tempfile.mkdtemp(dir=scratch)
    tree, empty = Tree(rng, f"{base}/tree"), f"{base}/empty"
    os.mkdir(empty)
    plain = [random_rules(rng, tree) for _ in range(LISTS)]
    plain = [([f"{sign} {pattern}" for sign, pattern in rules], rules) for rules in plain]
    config = [as_config(rng, tree) for _ in range(LISTS // 6)]
    pairs = hidden = 0
    good = True
    for name, lists in (("rules", plain), ("config", config)):
        failures, some_pairs, some_hidden = compare(tree, empty, lists)
        pairs += some_pairs
        hidden += some_hidden
        for failure in failures[:5]:
            print(f"  {failure}")
        case = f"patterns/{name}/seed-{seed}"
        print(f"not ok {case}: {len(failures)} of {len(lists)} lists differ" if failures else f"ok {case}", flush=True)
        good = good and not failures
    shutil.rmtree(base)
    return good, pairs, hidden


def main():
    if not shutil.which("rsync"):
        print("skip patterns: no rsync in PATH")
        return 77
    seed = os.environ.get("BACKAPP_TEST_SEED")
    seeds = [int(seed)] if seed else [random.SystemRandom().randrange(1 << 32) for _ in range(ROUNDS)]
    good, pairs, hidden = True, 0, 0
    with tempfile.TemporaryDirectory(prefix="backapp-patterns-") as scratch:
        for one in seeds:
            passed, some_pairs, some_hidden = run_round(one, scratch)
            good, pairs, hidden = good and passed, pairs + some_pairs, hidden + some_hidden
    print(f"{pairs} pairs of list and path, {hidden} of them hidden by the list")
    if not seed:
        # A generator whose patterns never match, or always, would find nothing.
        enough = pairs >= LEAST_PAIRS and 0.1 < hidden / pairs < 0.9
        print("ok patterns/coverage" if enough else "not ok patterns/coverage: too few pairs, or too uniform")
        good = good and enough
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
