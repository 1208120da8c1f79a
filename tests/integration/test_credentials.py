#!/usr/bin/env python3
"""Where S3 keys come from: options, environment, web identity, shared files, container, machine; against doubles of
Amazon's services. What is said when there are none, when they expire, and that no secret is said at all."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'servers'))
# pylint: disable=wrong-import-position
import aws_doubles  # noqa: E402

PROBE = os.environ.get('CREDENTIALS_PROBE')
ROLE = 'arn:aws:iam::123456789012:role/backup'
KEYS = {'AWS_ACCESS_KEY_ID': 'AKIAENV', 'AWS_SECRET_ACCESS_KEY': 'env/secret'}
failed = 0
home = None


def environment(more=None):
    """Almost nothing, and the home directory of the case."""
    kept = ('PATH', 'ASAN_OPTIONS', 'LSAN_OPTIONS', 'UBSAN_OPTIONS', 'TSAN_OPTIONS', 'G_SLICE', 'BACKAPP_TEST_MARK')
    return {'HOME': str(home), 'AWS_EC2_METADATA_DISABLED': 'true',
            **{name: os.environ[name] for name in kept if name in os.environ}, **(more or {})}


def probe(*arguments, env=None, timeout=40):
    """Runs the probe; returns its lines, and keeps its log."""
    result = subprocess.run([PROBE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout,
                            env=environment(env), check=False)
    probe.log = result.stderr.decode()
    check(result.returncode == 0, f'the probe ended with {result.returncode}: {probe.log[-2000:]}')
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def expect_error(answer, code, *words):
    check(not answer['ok'] and answer['code'] == code, f'{answer} is no {code}')
    for word in words:
        check(re.search(word, answer['error']), f'no {word!r} in {answer["error"]!r}')


def expect_keys(answer, keys, source):
    check(answer['ok'] and (answer['access'], answer['secret'], answer['token']) == (keys.access, keys.secret, keys.token),
          answer)
    check(answer['source'] == source, answer['source'])


def case(function):
    """Runs a test with an empty home directory and prints its outcome."""
    global failed, home
    with tempfile.TemporaryDirectory(prefix='backapp-keys-') as scratch:
        home = pathlib.Path(scratch)
        (home / '.aws').mkdir()
        try:
            function()
            print(f'ok integration/credentials/{function.__name__}', flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f'not ok integration/credentials/{function.__name__}: {error!r}', flush=True)
    return function


def files(credentials='', config=''):
    if credentials:
        (home / '.aws' / 'credentials').write_text(credentials)
    if config:
        (home / '.aws' / 'config').write_text(config)


@case
def options_go_first():
    files('[default]\naws_access_key_id = F\naws_secret_access_key = S\n')
    answer, again = probe('access=AKIAOPT', 'secret=opt', 'get', 'expired', env=KEYS)
    check(answer['access'] == 'AKIAOPT' and answer['token'] is None and answer['source'] == 'options', answer)
    check(again == {'again': False}, again)
    answer, = probe('access=A', 'secret=b', 'token=t', 'get', env=KEYS)
    check(answer['token'] == 't', answer)


@case
def environment_goes_before_files():
    files('[default]\naws_access_key_id = F\naws_secret_access_key = S\n')
    answer, = probe('get', env={**KEYS, 'AWS_SESSION_TOKEN': 'tok'})
    check(answer['access'] == 'AKIAENV' and answer['token'] == 'tok' and answer['source'] == 'environment', answer)
    # A profile in the environment does not go before the keys there; one that was asked for does.
    files('[other]\naws_access_key_id = O\naws_secret_access_key = P\n')
    answer, = probe('get', env={**KEYS, 'AWS_PROFILE': 'other'})
    check(answer['access'] == 'AKIAENV', answer)
    answer, = probe('profile=other', 'get', env=KEYS)
    check(answer['access'] == 'O' and answer['source'] == 'profile other', answer)


@case
def half_a_pair_is_refused():
    for arguments, env in ((('access=A',), {}), (('secret=sEcReT',), {}), ((), {'AWS_ACCESS_KEY_ID': 'A'}),
                           ((), {'AWS_SECRET_ACCESS_KEY': 'sEcReT'})):
        answer, = probe(*arguments, 'get', env=env)
        expect_error(answer, 'INVALID', 'there is (an access|a secret) key, but no')
        check('sEcReT' not in answer['error'], answer)


@case
def files_have_profiles():
    files('# mine\n[default]\naws_access_key_id=D\naws_secret_access_key = d#x ; comment\n\n'
          '[backup]\r\naws_access_key_id = B\r\naws_secret_access_key = b+/=\r\naws_session_token = tt\r\n',
          '[default]\nregion = eu-west-1\ns3 =\n  addressing_style = path\n'
          '[profile backup]\nregion = eu-west-3\nendpoint_url = https://all.test\nservices = mine\n'
          '[services mine]\ns3 =\n    endpoint_url = https://s3.test:9000\nsts =\n    endpoint_url = https://sts.test\n'
          '[profile plain]\nendpoint_url=https://plain.test\naws_access_key_id = P\naws_secret_access_key = p\n')
    answer, place = probe('get', 'place')
    check(answer['access'] == 'D' and answer['secret'] == 'd#x' and answer['source'] == 'profile default', answer)
    check(place == {'region': 'eu-west-1', 'endpoint': None}, place)
    answer, place = probe('get', 'place', env={'AWS_PROFILE': 'backup'})
    check((answer['access'], answer['secret'], answer['token']) == ('B', 'b+/=', 'tt'), answer)
    check(place == {'region': 'eu-west-3', 'endpoint': 'https://s3.test:9000'}, place)
    answer, place = probe('profile=plain', 'get', 'place')
    check(answer['access'] == 'P' and place['endpoint'] == 'https://plain.test', (answer, place))
    answer, = probe('profile=none', 'get')
    expect_error(answer, 'INVALID', 'no profile none', r'\.aws/credentials', r'\.aws/config')
    # Files that lie elsewhere.
    (home / 'c').write_text('[default]\naws_access_key_id=E\naws_secret_access_key=e\n')
    answer, = probe('get', env={'AWS_SHARED_CREDENTIALS_FILE': str(home / 'c'), 'AWS_CONFIG_FILE': '/dev/null'})
    check(answer['access'] == 'E', answer)


@case
def bad_files_are_refused_without_their_secrets():
    files('[default]\naws_access_key_id = A\nsEcReT+that/stands=alone\nsEcReT alone\n')
    answer, = probe('get')
    expect_error(answer, 'INVALID', 'credentials: line 4')
    check('sEcReT' not in answer['error'], answer)


@case
def files_without_an_end_are_not_read():
    pipe = home / 'pipe'
    os.mkfifo(pipe)
    for path in (pipe, '/dev/zero', home):
        answer, = probe('get', env={'AWS_SHARED_CREDENTIALS_FILE': str(path)})
        expect_error(answer, 'DENIED', 'no credentials for S3', f'the profiles in {path}: it is not a regular file')
    with open(home / 'long', 'wb') as out:
        out.truncate((1 << 20) + 1)
    answer, = probe('get', env={'AWS_CONFIG_FILE': str(home / 'long')})
    expect_error(answer, 'INVALID', 'longer than 1 MiB')


@case
def what_cannot_work_says_why():
    files(config='[profile program]\ncredential_process = /bin/rm -rf /\n[profile login]\nsso_session = x\n'
                 '[profile code]\nrole_arn = r\nmfa_serial = m\nsource_profile = code\n'
                 '[profile lost]\nrole_arn = r\nsource_profile = nowhere\n[profile alone]\nrole_arn = r\n'
                 '[profile a]\nrole_arn = r\nsource_profile = b\n[profile b]\nrole_arn = r\nsource_profile = a\n')
    for name, words in (('program', 'credential_process.*not supported'), ('login', 'log in'), ('code', 'mfa_serial'),
                        ('lost', 'no profile nowhere'), ('alone', 'source_profile'), ('a', 'source_profile')):
        answer, = probe('profile=' + name, 'get')
        expect_error(answer, 'INVALID', words)


@case
def none_at_all_names_what_was_tried():
    answer, = probe('get')
    expect_error(answer, 'DENIED', 'no credentials for S3', 'AWS_ACCESS_KEY_ID', r'\.aws/credentials',
                 'AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_EC2_METADATA_DISABLED')
    answer, = probe('get', env={'AWS_EC2_METADATA_DISABLED': 'false', 'AWS_EC2_METADATA_SERVICE_ENDPOINT': 'http://127.0.0.1:1'})
    expect_error(answer, 'DENIED', 'no credentials for S3', 'metadata service: cannot connect to 127.0.0.1:1')
    if os.geteuid() != 0:
        files('[default]\n')
        (home / '.aws' / 'credentials').chmod(0)
        answer, = probe('get')
        expect_error(answer, 'DENIED', 'Permission denied')


@case
def roles_are_assumed():
    with aws_doubles.Sts(roles={ROLE: None, ROLE + '2': 'ext'}) as sts:
        base = sts.keys.permanent()
        given = {'AWS_ACCESS_KEY_ID': base.access, 'AWS_SECRET_ACCESS_KEY': base.secret, **sts.environment()}
        answer, second = probe('role=' + ROLE, 'debug', 'get', 'get', env=given)
        expect_keys(answer, sts.issued[0], 'role with the keys of environment')
        check(answer == second and len(sts.issued) == 1, 'asked twice')
        check(answer['expires'] - time.time() > 3500, answer)
        for secret in sts.keys.secrets():
            check(secret not in probe.log, 'a secret in the log')
        answer, = probe('role=' + ROLE + '2', 'external=ext', 'get', env=given)
        expect_keys(answer, sts.issued[1], 'role with the keys of environment')
        answer, = probe('role=' + ROLE + '2', 'external=other', 'get', env=given)
        expect_error(answer, 'DENIED', r'AccessDenied: \S')
        answer, = probe('role=' + ROLE, 'get', env={**given, 'AWS_SECRET_ACCESS_KEY': 'wrong'})
        expect_error(answer, 'DENIED', 'SignatureDoesNotMatch')
        # Through profiles: role <- role <- keys.
        sts.roles[ROLE + '3'] = None
        files(f'[keys]\naws_access_key_id={base.access}\naws_secret_access_key={base.secret}\n',
              f'[profile one]\nrole_arn={ROLE}\nsource_profile=keys\nduration_seconds=900\n'
              f'[profile two]\nrole_arn={ROLE}3\nsource_profile=one\nrole_session_name=nightly\n'
              f'[profile self]\nrole_arn={ROLE}\nsource_profile=self\naws_access_key_id={base.access}\n'
              f'aws_secret_access_key={base.secret}\n[profile env]\nrole_arn={ROLE}\ncredential_source=Environment\n')
        del given['AWS_ACCESS_KEY_ID'], given['AWS_SECRET_ACCESS_KEY']
        answer, = probe('profile=two', 'get', env=given)
        expect_keys(answer, sts.issued[3], 'profile two')
        check(sts.issued[2].expires - time.time() < 901, 'duration_seconds')
        answer, = probe('profile=self', 'get', env=given)
        expect_keys(answer, sts.issued[4], 'profile self')
        answer, = probe('profile=env', 'get', env={**given, 'AWS_ACCESS_KEY_ID': base.access,
                                                   'AWS_SECRET_ACCESS_KEY': base.secret})
        expect_keys(answer, sts.issued[5], 'profile env')


@case
def sts_that_is_not_there_is_transient():
    answer, = probe('role=' + ROLE, 'get', env={**KEYS, 'AWS_ENDPOINT_URL_STS': 'http://127.0.0.1:1'})
    expect_error(answer, 'TRANSIENT', 'cannot connect to 127.0.0.1:1', 'role/backup')
    answer, = probe('role=' + ROLE, 'get', env={**KEYS, 'AWS_ENDPOINT_URL_STS': 'sts.test'})
    expect_error(answer, 'INVALID', 'endpoint of STS')


@case
def web_identity():
    with aws_doubles.Sts() as sts:
        token = home / 'token'
        text = sts.new_web_token(token)
        env = {'AWS_WEB_IDENTITY_TOKEN_FILE': str(token), 'AWS_ROLE_ARN': ROLE, **sts.environment()}
        answer, = probe('debug', 'get', env=env)
        expect_keys(answer, sts.issued[0], 'web identity')
        check(text not in probe.log and answer['secret'] not in probe.log, 'a secret in the log')
        files(config=f'[profile web]\nrole_arn={ROLE}\nweb_identity_token_file={token}\n')
        answer, = probe('profile=web', 'get', env=sts.environment())
        expect_keys(answer, sts.issued[1], 'profile web')
        # A new token is read when keys are fetched anew.
        sts.lifetime = 2
        sts.web_tokens.clear()
        sts.new_web_token(token)
        answer, = probe('get', env=env)
        expect_keys(answer, sts.issued[2], 'web identity')
        sts.new_web_token(token, lifetime=-1)
        answer, = probe('get', env=env)
        expect_error(answer, 'DENIED', 'ExpiredToken')
        token.write_text('')
        expect_error(probe('get', env=env)[0], 'DENIED', 'holds no token')
        token.unlink()
        expect_error(probe('get', env=env)[0], 'DENIED', 'cannot read the token')
        del env['AWS_ROLE_ARN']
        expect_error(probe('get', env=env)[0], 'INVALID', 'AWS_ROLE_ARN')


@case
def container():
    with aws_doubles.ContainerCredentials() as open_double:
        answer, = probe('get', env=open_double.environment())
        expect_keys(answer, open_double.issued[0], 'container endpoint')
        answer, = probe('get', env={'AWS_CONTAINER_CREDENTIALS_FULL_URI': open_double.endpoint + '/none'})
        expect_error(answer, 'DENIED', 'status 404')
    answer, = probe('get', env={'AWS_CONTAINER_CREDENTIALS_FULL_URI': 'http://127.0.0.1:1/'})
    expect_error(answer, 'TRANSIENT', 'cannot connect')
    with aws_doubles.ContainerCredentials(token_file=home / 'token') as double:
        for direct in (False, True):
            answer, = probe('debug', 'get', env=double.environment(direct))
            expect_keys(answer, double.issued[-1], 'container endpoint')
            check(double.token not in probe.log and answer['secret'] not in probe.log, 'a secret in the log')
        env = double.environment(True)
        double.rotate_token()
        expect_error(probe('get', env=env)[0], 'DENIED', 'status 401')
        # Never through a proxy, where others could read.
        answer, = probe('get', env={**double.environment(), 'http_proxy': 'http://127.0.0.1:1'})
        check(answer['ok'], answer)
    for url in ('http://example.com/', 'http://127.0.0.1.example.com/', 'http://127.0.0.1:80@example.com/', 'ftp://127.0.0.1/'):
        expect_error(probe('get', env={'AWS_CONTAINER_CREDENTIALS_FULL_URI': url})[0], 'INVALID', 'FULL_URI')
    expect_error(probe('get', env={'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI': '@example.com/'})[0], 'INVALID', 'slash')


@case
def machine():
    with aws_doubles.Imds() as imds:
        env = imds.environment()
        answer, = probe('debug', 'get', env=env)
        expect_keys(answer, imds.issued[0], 'metadata service of the machine')
        check(answer['secret'] not in probe.log and all(t not in probe.log for t in imds.tokens), 'a secret in the log')
        answer, = probe('get', env={**env, 'http_proxy': 'http://127.0.0.1:1'})
        check(answer['ok'], answer)
        files(config=f'[profile m]\nrole_arn={ROLE}\ncredential_source=Ec2InstanceMetadata\n')
        with aws_doubles.Sts(imds.keys) as sts:
            answer, = probe('profile=m', 'get', env={**env, **sts.environment()})
            expect_keys(answer, sts.issued[0], 'profile m')
        imds.disabled = True
        expect_error(probe('get', env=env)[0], 'DENIED', 'status 403')
        imds.disabled, imds.role = False, None
        expect_error(probe('get', env=env)[0], 'DENIED', 'no credentials for S3', 'no role')
        imds.role, imds.failing = 'r', 1
        expect_error(probe('get', env=env)[0], 'TRANSIENT', 'status 500')
        imds.hop_limited = True
        expect_error(probe('get', env=env)[0], 'DENIED', 'no credentials for S3')


@case
def expiring_keys_are_fetched_anew():
    with aws_doubles.ContainerCredentials(lifetime=6) as double:
        first, second, third = probe('get', 'get', 'sleep=3500', 'get', env=double.environment())
        check(first == second and first['access'] != third['access'] and len(double.issued) == 2, (first, second, third))
    with aws_doubles.ContainerCredentials() as double:
        first, again, second = probe('get', 'expired', 'get', env=double.environment())
        check(again['again'] and first['access'] != second['access'], (first, second))
        # Refused keys that were replaced meanwhile make nobody ask again.
        lines = probe('get', 'expired', 'get', 'first-expired', 'get', env=double.environment())
        check(len({line['access'] for line in lines if 'access' in line}) == 2, lines)
        check(all(line.get('again', True) for line in lines), lines)


@case
def old_keys_are_used_while_nobody_answers():
    with aws_doubles.ContainerCredentials(lifetime=8) as double:
        process = subprocess.Popen([PROBE, 'get', 'sleep=4300', 'get', 'sleep=4200', 'get'], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment(double.environment()))
        try:
            first = json.loads(process.stdout.readline())
            double.path = '/moved'
            rest, log = process.communicate(timeout=30)
        finally:
            process.kill()
        second, third = (json.loads(line) for line in rest.splitlines())
        check(first == second and b'going on with those' in log, (first, second, log))
        expect_error(third, 'DENIED', 'status 404')


@case
def many_threads_ask_once():
    with aws_doubles.ContainerCredentials() as double:
        lines = probe('threads', env=double.environment())
        check(len(lines) == 16 and len({line['access'] for line in lines}) == 1, lines)
        check(len(double.issued) == 1, f'asked {len(double.issued)} times')
    with aws_doubles.Imds() as imds:
        imds.hop_limited = True
        start = time.monotonic()
        lines = probe('threads', env=imds.environment())
        check(len(lines) == 16 and not any(line['ok'] for line in lines), lines)
        check(time.monotonic() - start < 20, 'one after another')


@case
def waiting_can_be_cancelled():
    with aws_doubles.Imds() as imds:
        imds.hop_limited = True
        answer, = probe('cancel', 'get', env=imds.environment())
        expect_error(answer, 'CANCELLED')


sys.exit(1 if failed else 0)
