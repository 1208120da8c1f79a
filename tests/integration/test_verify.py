#!/usr/bin/env python3
"""backapp verify and mirror --verify on real trees: what is proven, what is not, what is damaged or missing."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

BACKAPP = os.environ.get('BACKAPP')
failed = 0


def run(*args, env=None):
    """Runs the program with --json; returns exit code, verify statistics, warnings."""
    result = subprocess.run([BACKAPP, *args, '--json'], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                            env=env, check=False)
    events = [json.loads(line) for line in result.stdout.decode().splitlines()]
    stats = {}
    for event in events:
        if event['type'] == 'summary':
            stats = event['stats'].get('verify', {})
    warnings = [(event['code'], event.get('path')) for event in events if event['type'] == 'warning']
    return result.returncode, stats, warnings


def case(name):
    """Runs a test in a fresh directory with a source and prints its outcome."""
    def wrap(function):
        global failed
        scratch = tempfile.mkdtemp(prefix='backapp-verify-')
        os.environ['XDG_STATE_HOME'] = os.path.join(scratch, 'state')
        source, mirror = os.path.join(scratch, 'source'), os.path.join(scratch, 'mirror')
        os.makedirs(os.path.join(source, 'sub', 'deep'))
        for path, text in (('a', 'alpha'), ('sub/b', 'beta' * 1000), ('sub/deep/c', ''), ('sub/big', 'x' * 300000)):
            with open(os.path.join(source, path), 'w', encoding='utf-8') as file:
                file.write(text)
        os.symlink('a', os.path.join(source, 'link'))
        try:
            function(source, mirror)
            print(f'ok integration/verify/{name}')
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f'not ok integration/verify/{name}: {error!r}')
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return wrap


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def damage(path):
    """Flips a byte and puts the times back: what a rotten disk does."""
    before = os.stat(path)
    with open(path, 'r+b') as file:
        file.seek(2)
        byte = file.read(1)
        file.seek(2)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


if not BACKAPP:
    print('skip integration/verify: BACKAPP does not name a program')
    sys.exit(77)


@case('first time records, second time proves')
def _(source, mirror):
    code, stats, _ = run('mirror', '--verify', source, mirror)
    check(code == 0, code)
    code, stats, warnings = run('verify', mirror)
    check((code, stats['proven'], stats['recorded'], stats['unproven']) == (0, 4, 0, 0), (code, stats, warnings))


@case('verify alone records what its remembered source proves')
def _(source, mirror):
    check(run('mirror', source, mirror)[0] == 0, 'mirror')
    code, stats, _ = run('verify', mirror)
    check((code, stats['proven'], stats['recorded']) == (0, 0, 4), (code, stats))
    code, stats, _ = run('verify', mirror)
    check((code, stats['proven'], stats['recorded']) == (0, 4, 0), (code, stats))


@case('a flipped byte is found, named, stays found, and is repaired')
def _(source, mirror):
    check(run('mirror', '--verify', source, mirror)[0] == 0, 'mirror')
    damage(os.path.join(mirror, 'sub', 'b'))
    for _ in range(2):
        code, stats, warnings = run('verify', mirror)
        check(code == 1 and stats['damaged'] == 1 and stats['proven'] == 3, (code, stats))
        check(('damaged', 'sub/b') in warnings, warnings)
    check(run('mirror', '--checksum', source, mirror)[0] == 0, 'repair')
    code, stats, warnings = run('verify', mirror)
    check(code == 0 and stats['damaged'] == 0, (code, stats, warnings))


@case('damage before the first verify is found by the source')
def _(source, mirror):
    check(run('mirror', source, mirror)[0] == 0, 'mirror')
    damage(os.path.join(mirror, 'sub', 'big'))
    code, stats, warnings = run('verify', mirror)
    check(code == 1 and stats['damaged'] == 1 and ('damaged', 'sub/big') in warnings, (code, stats, warnings))


@case('a lost file is missing')
def _(source, mirror):
    check(run('mirror', '--verify', source, mirror)[0] == 0, 'mirror')
    os.unlink(os.path.join(mirror, 'a'))
    for _ in range(2):
        code, stats, warnings = run('verify', mirror)
        check(code == 1 and stats['missing'] == 1 and ('missing', 'a') in warnings, (code, stats, warnings))
    check(run('mirror', source, mirror)[0] == 0, 'repair')
    code, stats, warnings = run('verify', mirror)
    # The new file may have got the inode of the old one: then the record is about it, and the hash proves it.
    check(code == 0 and stats['missing'] == 0 and stats['recorded'] <= 1 and stats['recorded'] + stats['proven'] == 4,
          (code, stats, warnings))


@case('what source and mirror both have lost is missing once')
def _(source, mirror):
    check(run('mirror', '--verify', source, mirror)[0] == 0, 'mirror')
    shutil.rmtree(os.path.join(source, 'sub'))
    shutil.rmtree(os.path.join(mirror, 'sub'))
    code, stats, _ = run('verify', mirror)
    check(code == 1 and stats['missing'] == 3, (code, stats))
    code, stats, _ = run('verify', mirror)
    check(code == 0 and stats['missing'] == 0, (code, stats))


@case('what a run deletes is not missing')
def _(source, mirror):
    check(run('mirror', '--verify', source, mirror)[0] == 0, 'mirror')
    shutil.rmtree(os.path.join(source, 'sub'))
    check(run('mirror', '--delete', source, mirror)[0] == 0, 'delete')
    code, stats, warnings = run('verify', mirror)
    check(code == 0 and stats['missing'] == 0 and stats['proven'] == 1, (code, stats, warnings))


@case('without source and record it is not yet proven')
def _(source, mirror):
    check(run('mirror', source, mirror)[0] == 0, 'mirror')
    os.rename(source, source + '.away')
    code, stats, _ = run('verify', mirror)
    check(code == 0 and stats['unproven'] == 4 and stats['proven'] == 0, (code, stats))


@case('a changed source does not prove the old copy')
def _(source, mirror):
    check(run('mirror', source, mirror)[0] == 0, 'mirror')
    with open(os.path.join(source, 'a'), 'w', encoding='utf-8') as file:
        file.write('gamma')
    code, stats, warnings = run('verify', mirror)
    check(code == 0 and stats['unproven'] == 1 and ('unproven', 'a') in warnings, (code, stats, warnings))


@case('rewritten in place with the same size and time is no damage')
def _(source, mirror):
    big = os.path.join(source, 'large')
    with open(big, 'wb') as file:
        file.write(os.urandom(3 << 20))
    check(run('mirror', '--verify', source, mirror)[0] == 0, 'mirror')
    damage(big)
    check(run('mirror', '--inplace', '--checksum', source, mirror)[0] == 0, 'in place')
    code, stats, warnings = run('verify', mirror)
    check(code == 0 and stats['damaged'] == 0 and stats['recorded'] == 1, (code, stats, warnings))


@case('several sources')
def _(source, mirror):
    other = os.path.join(os.path.dirname(source), 'other')
    shutil.copytree(source, other, symlinks=True)
    check(run('mirror', '--verify', source, other, mirror)[0] == 0, 'mirror')
    code, stats, _ = run('verify', mirror)
    check(code == 0 and stats['proven'] == 8, (code, stats))


@case('a damaged record says so and loses nothing')
def _(source, mirror):
    check(run('mirror', '--verify', source, mirror)[0] == 0, 'mirror')
    record = os.path.join(mirror, '.backapp', 'hashes')
    damage(record)
    code, _, _ = run('verify', mirror)
    check(code == 1, code)
    os.unlink(record)
    code, stats, _ = run('verify', mirror)
    check(code == 0 and stats['recorded'] == 4, (code, stats))


@case('no mirror')
def _(source, mirror):
    check(run('verify', source)[0] == 1, 'a plain directory')
    check(run('verify', mirror)[0] == 1, 'nothing')


sys.exit(1 if failed else 0)
