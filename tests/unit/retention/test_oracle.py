#!/usr/bin/env python3
"""The rules of retention against an oracle of their own: sets instead of one pass over sorted points. It says what
`restic forget` documents (the last of each of the newest N hours, days, ISO weeks, months and years that have any; the
oldest too while there are fewer; "within" measured from the newest), and what is ours beside it: days by the clock, points
in the future, the newest complete one."""

import os
import random
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia")
BUCKETS = {
    "hourly": lambda t: (t.year, t.month, t.day, t.hour), "daily": lambda t: (t.year, t.month, t.day),
    "weekly": lambda t: t.isocalendar()[:2], "monthly": lambda t: (t.year, t.month), "yearly": lambda t: (t.year,),
}
COUNTS = ("count", "days", "last", *BUCKETS)


def earlier(moment, years=0, months=0, days=0, hours=0):
    """Calendar arithmetic as clocks on the wall do it; a day that the month has not is its last."""
    month = moment.year * 12 + moment.month - 1 - years * 12 - months
    year, month = month // 12, month % 12 + 1
    if year < 1:
        return None
    day = moment.day
    while True:
        try:
            there = moment.replace(year=year, month=month, day=day)
            break
        except ValueError:
            day -= 1
    try:
        there -= timedelta(days=days)
    except OverflowError:
        return None
    return there.timestamp() - hours * 3600


def kept(case):
    """The numbers of the points that stay."""
    rules, zone = case["rules"], ZoneInfo(case["zone"])
    everyone = range(len(case["points"]))
    if not any(rules.values()):
        return set(everyone)
    future = {i for i in everyone if case["points"][i][0] > case["now"]}
    order = sorted(set(everyone) - future, key=lambda i: (-case["points"][i][0], i))
    local = {i: datetime.fromtimestamp(case["points"][i][0], zone) for i in order}
    stay = set(future)
    if not order:
        return stay
    for rule in ("count", "last"):
        stay.update(order if rules[rule] < 0 else order[:rules[rule]])
    if rules["days"]:
        edge = earlier(datetime.fromtimestamp(case["now"], zone), days=rules["days"])
        stay.update(i for i in order if edge is None or case["points"][i][0] >= edge)
    if rules["within"]:
        edge = earlier(local[order[0]], **rules["within"])
        stay.update(i for i in order if edge is None or case["points"][i][0] > edge)
    for rule, bucket in BUCKETS.items():
        wanted = rules[rule]
        groups = {}
        for i in order:
            groups.setdefault(bucket(local[i]), i)
        newest = list(groups.values())
        stay.update(newest if wanted < 0 else newest[:wanted])
        if wanted < 0 or wanted > len(newest):
            stay.add(order[-1])
    good = [i for i in order if case["points"][i][1]]
    stay.add(good[0] if good else order[0])
    return stay


def make(rng):
    now = rng.randrange(1_000_000_000, 1_900_000_000)
    step = rng.choice((1800, 3600, 6 * 3600, 86400, 5 * 86400, 40 * 86400))
    time, points = now + rng.choice((0, 0, 3 * step)), []
    for _ in range(rng.randrange(0, 40)):
        points.append((time, rng.random() < 0.7))
        # Never twice in one hour of which there are two: what comes "first" there is nobody's promise.
        time -= rng.choice((0, step, step, step + rng.randrange(step), 3 * step))
    rng.shuffle(points)
    rules = dict.fromkeys(COUNTS, 0)
    for rule in rng.sample(COUNTS, rng.choice((0, 1, 1, 2, 3))):
        rules[rule] = rng.choice((1, 2, 3, 5, 10, 100)) if rule == "days" else rng.choice((-1, 1, 1, 2, 3, 7, 50))
    units = ("years", "months", "days", "hours")
    rules["within"] = {unit: rng.randrange(1, 20) for unit in rng.sample(units, rng.randrange(1, 3))} \
        if rng.random() < 0.3 else None
    return {"zone": rng.choice(ZONES), "now": now, "rules": rules, "points": points}


def line_of(case):
    rules = case["rules"]
    span = "".join(f"{rules['within'][unit]}{unit[0]}" for unit in ("years", "months", "days", "hours")
                   if unit in rules["within"]) if rules["within"] else "-"
    return " ".join([case["zone"], str(case["now"]), *(str(rules[rule]) for rule in COUNTS), span,
                     *(f"{time}:{int(good)}" for time, good in case["points"])])


def ambiguous(case):
    """Times near a change of the clock, where GLib and Python may choose another of two equal local times."""
    zone, within = ZoneInfo(case["zone"]), case["rules"]["within"] or {}
    starts = [case["now"], *(time for time, _ in case["points"])]
    for start in starts:
        for days, units in ((case["rules"]["days"], {}), (0, within)):
            edge = earlier(datetime.fromtimestamp(start, zone), **{**units, **({"days": days} if days else {})})
            if edge is None or edge < 0:
                return True
            around = {datetime.fromtimestamp(edge + hours * 3600, zone).utcoffset() for hours in (-25, -2, 0, 2, 25)}
            if len(around) > 1:
                return True
    return False


def main():
    try:
        for name in ZONES:
            ZoneInfo(name)
    except ZoneInfoNotFoundError as why:
        print(f"skip retention/oracle: {why}")
        return 77
    rng = random.Random(20261120)
    cases = []
    for _ in range(4000):
        case = make(rng)
        if (case["rules"]["days"] or case["rules"]["within"]) and ambiguous(case):
            case["zone"] = "UTC"
        cases.append(case)
    done = subprocess.run([os.environ["RULES_PROBE"]], input="".join(line_of(case) + "\n" for case in cases),
                          stdout=subprocess.PIPE, text=True, timeout=40, check=True)
    answers = done.stdout.splitlines()
    assert len(answers) == len(cases), (len(answers), len(cases))
    for case, answer in zip(cases, answers):
        wanted = kept(case)
        found = {i for i, bit in enumerate(answer) if bit == "1"}
        if wanted != found:
            newest = datetime.fromtimestamp(max(time for time, _ in case["points"]), timezone.utc)
            print(f"not ok retention/oracle: too many {sorted(found - wanted)}, too few {sorted(wanted - found)} "
                  f"(newest {newest}): {line_of(case)}")
            return 1
    gone = sum(answer.count("0") for answer in answers)
    assert gone > 10000, f"only {gone} points go: nothing is tested"
    print(f"ok retention/oracle ({len(cases)} cases, {gone} points go)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
