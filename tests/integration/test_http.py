#!/usr/bin/env python3
"""The HTTP client against a server that does what servers and networks do: reuse, chunks, long bodies, silence, resets,
lies about lengths, floods, certificates."""
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

PROBE = os.environ.get('HTTP_PROBE')
DATE = 'Sun, 06 Nov 1994 08:49:37 GMT'
failed = 0


def pattern(count):
    """What the probe sends."""
    block = [bytes((low * 131 + high * 7) & 255 for low in range(256)) for high in range(256)]
    whole = b''.join(block)
    return (whole * (count // len(whole) + 1))[:count]


class Server:
    """Serves on loopback, a thread for each connection. What it does is said by the first part of the path."""

    def __init__(self, context=None):
        self.context = context
        self.connections = 0
        self.resumed = 0
        self.requests = []
        self.lock = threading.Lock()
        self.together = threading.Barrier(4)
        self.ended = threading.Event()
        self.socket = socket.create_server(('127.0.0.1', 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        self.url = ('https' if context else 'http') + f'://127.0.0.1:{self.port}'
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.ended.set()
        self.socket.close()

    def accept(self):
        while not self.ended.is_set():
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with self.lock:
            self.connections += 1
        client.settimeout(20)
        try:
            if self.context:
                client = self.context.wrap_socket(client, server_side=True)
                if client.session_reused:
                    with self.lock:
                        self.resumed += 1
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client.makefile('rb') as file:
                count = 0
                while self.one(client, file, count):
                    count += 1
        except (OSError, ValueError, IndexError, AttributeError, threading.BrokenBarrierError):
            pass
        finally:
            client.close()

    def one(self, client, file, count):
        """Answers one request; returns whether the connection goes on."""
        line = file.readline(65536).decode('latin-1')
        if not line:
            return False
        method, target, _ = line.split()
        if target == '/':
            return self.reset(client)
        headers = []
        while True:
            header = file.readline(65536).decode('latin-1').rstrip('\r\n')
            if not header:
                break
            headers.append(header)
        request = {'method': method, 'target': target, 'headers': headers, 'count': count}
        with self.lock:
            self.requests.append(request)
        length = next((int(h.split(':')[1]) for h in headers if h.lower().startswith('content-length:')), 0)
        action = re.sub(r'^http://[^/]*', '', target).split('/')[1].split('?')[0].replace('-', '_')
        return getattr(self, 'do_' + action)(client, file, request, length)

    @staticmethod
    def reply(client, request, body=b'', headers=(), status='200 OK'):
        lines = [f'HTTP/1.1 {status}', f'Date: {DATE}', f'Content-Length: {len(body)}', *headers]
        client.sendall(('\r\n'.join(lines) + '\r\n\r\n').encode() + (b'' if request['method'] == 'HEAD' else body))
        return True

    @staticmethod
    def reset(client):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        return False

    def do_ok(self, client, file, request, length):
        file.read(length)
        return self.reply(client, request, b'fine', ['X-Mixed-CASE:  some Value ', 'X-Empty:'])

    def do_hash(self, client, file, request, length):
        digest = hashlib.sha256()
        while length > 0:
            piece = file.read(min(length, 1 << 16))
            if not piece:
                return False
            digest.update(piece)
            length -= len(piece)
        return self.reply(client, request, digest.hexdigest().encode())

    def do_bytes(self, client, file, request, length):
        return self.reply(client, request, pattern(int(request['target'].split('/')[2])))

    def do_together(self, client, file, request, length):
        self.together.wait(10)
        return self.reply(client, request)

    def do_chunked(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-late\r\n\r\n')
        for piece in (b'a' * 10, b'b' * 70000, b'c'):
            client.sendall(b'%x;extension=1\r\n%s\r\n' % (len(piece), piece))
        client.sendall(b'0\r\nx-late: forged\r\n\r\n')
        return True

    def do_missing(self, client, file, request, length):
        return self.reply(client, request, b'<Error/>', status='404 Not Found')

    def do_none(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 204 No Content\r\n\r\n')
        return True

    def do_interim(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 102 Processing\r\nX-Interim: 1\r\n\r\n')
        return self.reply(client, request)

    def do_redirect(self, client, file, request, length):
        return self.reply(client, request, b'', [f'Location: {self.url}/ok'], '307 Temporary Redirect')

    def do_stale(self, client, file, request, length):
        """The second request of a connection meets one that the server has just closed."""
        if request['count'] > 0:
            return False
        file.read(length)
        return self.reply(client, request)

    def do_stale_reset(self, client, file, request, length):
        if request['count'] > 0:
            return self.reset(client)
        file.read(length)
        return self.reply(client, request)

    def do_stall(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf')
        self.ended.wait(15)
        return False

    def do_silent(self, client, file, request, length):
        self.ended.wait(15)
        return False

    def do_trickle(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n')
        for _ in range(20):
            client.sendall(b'x')
            self.ended.wait(0.1)
        return True

    def do_break(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n' + b'x' * 100)
        time.sleep(0.1)
        return self.reset(client)

    def do_short(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n' + b'x' * 999)
        return False

    def do_long(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n' + b'x' * 20)
        return True

    def do_short_chunked(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n')
        return False

    def do_flood(self, client, file, request, length):
        client.sendall(b'HTTP/1.1 200 OK\r\n' + b''.join(b'X-%d: %s\r\n' % (i, b'y' * 1000) for i in range(70)))
        return False

    def do_interim_flood(self, client, file, request, length):
        for _ in range(100000):
            client.sendall(b'HTTP/1.1 100 Continue\r\nX: 1234567890123456789012345678901234567890\r\n\r\n' * 100)
        return False

    def do_garbage(self, client, file, request, length):
        client.sendall(b'SSH-2.0-OpenSSH_9.2\r\n')
        return False

    def do_nothing(self, client, file, request, length):
        return False

    def do_refuse(self, client, file, request, length):
        """Answers before the body has come, as a server that will not have it."""
        self.reply(client, request, b'no', ['Connection: close'], '403 Forbidden')
        client.settimeout(5)
        while client.recv(1 << 20):
            pass
        return False

    def do_sink(self, client, file, request, length):
        """Takes nothing of the body."""
        self.ended.wait(15)
        return False


def probe(*requests, env=None, **options):
    """Runs the probe; returns its answers and what it logged."""
    result = subprocess.run([PROBE, json.dumps({'options': options, 'requests': requests})], stdin=subprocess.DEVNULL,
                            capture_output=True, timeout=60, check=False,
                            env={**{k: v for k, v in os.environ.items() if 'proxy' not in k.lower()}, **(env or {})})
    check(result.returncode == 0, f'the probe ended with {result.returncode}: {result.stderr.decode()[-2000:]}')
    probe.log = result.stderr.decode()
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def get(url, **more):
    return {'method': 'GET', 'url': url, **more}


def put(url, **more):
    return {'method': 'PUT', 'url': url, 'headers': ['Content-Type: text/plain'], **more}


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def expect_error(answer, code, *words):
    check(not answer['ok'] and answer.get('code') == code, f'{answer} is no {code}')
    for word in words:
        check(re.search(word, answer['error']), f'no {word!r} in {answer["error"]!r}')


def case(function):
    """Runs a test with a fresh server and prints its outcome."""
    global failed
    server = Server()
    name = function.__name__
    try:
        function(server)
        print(f'ok integration/http/{name}', flush=True)
    except Exception as error:  # pylint: disable=broad-except
        failed += 1
        print(f'not ok integration/http/{name}: {error!r}', flush=True)
    finally:
        server.close()
    return function


@case
def connections_are_reused(server):
    answers = probe(get(server.url + '/ok', repeat=10), put(server.url + '/ok', body=5, repeat=5),
                    {'method': 'HEAD', 'url': server.url + '/ok', 'repeat': 3},
                    {'method': 'DELETE', 'url': server.url + '/none', 'repeat': 2}, put(server.url + '/ok', read=9),
                    {'method': 'POST', 'url': server.url + '/ok'}, get(server.url + '/missing'), get(server.url + '/ok'))
    check(all(a['ok'] for a in answers) and len(answers) == 24, answers)
    check([a['reused'] for a in answers] == [False] + [True] * 23, 'reused')
    check(server.connections == 1, f'{server.connections} connections')
    check([r['method'] for r in server.requests] == ['GET'] * 10 + ['PUT'] * 5 + ['HEAD'] * 3 + ['DELETE'] * 2 +
          ['PUT', 'POST', 'GET', 'GET'], server.requests)


@case
def threads_have_their_own_connections(server):
    answers = probe(get(server.url + '/ok', threads=8, repeat=20))
    check(len(answers) == 160 and all(a['ok'] for a in answers), 'not all came')
    check(server.connections <= 8, f'{server.connections} connections')


@case
def surplus_connections_are_closed(server):
    answers = probe(get(server.url + '/together', threads=4), get(server.url + '/together', threads=4), max_idle=2)
    check(len(answers) == 8 and all(a['ok'] for a in answers), answers)
    check(server.connections == 6, f'{server.connections} connections')


@case
def answers_are_read(server):
    ok, head, missing, none, interim, chunked = probe(
        get(server.url + '/ok'), {'method': 'HEAD', 'url': server.url + '/ok'}, get(server.url + '/missing', write=True),
        get(server.url + '/none'), get(server.url + '/interim'), get(server.url + '/chunked', write=True))
    check(ok['status'] == 200 and ok['body'] == 'fine' and ok['bytes'] == 4 and ok['time'] == 784111777, ok)
    check('x-mixed-case: some Value' in ok['headers'] and 'x-empty: ' in ok['headers'], ok['headers'])
    check(head['status'] == 200 and head['bytes'] == 0 and 'content-length: 4' in head['headers'], head)
    check(missing['status'] == 404 and missing['body'] == '<Error/>' and missing['ok'], missing)
    check(none['status'] == 204 and none['body'] == '', none)
    check(interim['status'] == 200 and not any('interim' in h for h in interim['headers']), interim)
    wanted = hashlib.sha256(b'a' * 10 + b'b' * 70000 + b'c').hexdigest()
    check(chunked['bytes'] == 70011 and chunked['got_sha256'] == wanted and chunked['memory'] == 0, chunked)
    check(not any('late' in h and 'forged' in h for h in chunked['headers']), 'a trailer passed for a header')


@case
def redirects_are_not_followed(server):
    answer, = probe(get(server.url + '/redirect'))
    check(answer['status'] == 307 and len(server.requests) == 1, answer)


@case
def requests_are_as_given(server):
    odd = server.url + '/ok/a/../b/./c//d%2Fe%20f?x=1&y=%2F'
    probe({'method': 'PUT', 'url': odd, 'body': 3, 'headers': ['x-amz-meta-empty:', 'X-Two: 2', 'Expect: 100-continue']},
          put(server.url + '/ok', body=2000000), {'method': 'PUT', 'url': server.url + '/ok', 'body': 0},
          {'method': 'POST', 'url': server.url + '/ok'})
    first, large, empty, post = server.requests
    names = {h.split(':')[0].lower(): h.split(':', 1)[1].strip() for h in first['headers']}
    check(first['target'] == '/ok/a/../b/./c//d%2Fe%20f?x=1&y=%2F', first['target'])
    check(names.get('x-amz-meta-empty') == '' and names['x-two'] == '2' and 'content-type' not in names, names)
    check(names['user-agent'].startswith('backapp/') and names['host'] == f'127.0.0.1:{server.port}', names)
    check(names['expect'] == '100-continue', names)
    for request in (large, empty, post):
        check(not any(h.lower().startswith('expect') for h in request['headers']), request)
        check(any(h.lower().startswith('content-length') for h in request['headers']), request)
    check('Content-Type: text/plain' in large['headers'], large)


@case
def wrong_requests_are_refused(server):
    answers = probe(get(server.url + '/ok', headers=['X: 1\r\nInjected: 2']), get('ftp://127.0.0.1/'),
                    get('http://127.0.0.1:99999/'), get('file:///etc/passwd'))
    for answer in answers:
        expect_error(answer, 'INVALID')
    check(not server.requests, server.requests)
    expect_error(probe(ca_file='/nonexistent/ca.pem')[0], 'INVALID', '/nonexistent/ca.pem')


@case
def large_bodies_go_both_ways(server):
    size = 12345678
    answers = probe(put(server.url + '/hash', body=size), put(server.url + '/hash', read=size),
                    put(server.url + '/hash', body=65536), put(server.url + '/hash', body=65537),
                    {'method': 'POST', 'url': server.url + '/hash', 'body': 100000},
                    get(f'{server.url}/bytes/{size}', write=True), get(f'{server.url}/bytes/3000000', max_memory=3000000))
    for answer in answers[:5]:
        check(answer['ok'] and answer['body'] == answer['sent_sha256'], answer)
    check(answers[5]['bytes'] == size and answers[5]['got_sha256'] == hashlib.sha256(pattern(size)).hexdigest(), answers[5])
    check(answers[6]['ok'] and answers[6]['memory'] == 3000000, answers[6])
    check(server.connections == 1, server.connections)


@case
def memory_is_bounded(server):
    limit = f'{server.url}/bytes/'
    big, exact, over, errors = probe(get(limit + '1048577'), get(limit + '1048576'), get(limit + '11', max_memory=10),
                                     get(f'{server.url}/missing', max_memory=2))
    expect_error(big, 'CORRUPT', 'longer than 1048576')
    check(exact['ok'] and exact['memory'] == 1048576, exact)
    expect_error(over, 'CORRUPT')
    expect_error(errors, 'CORRUPT')


@case
def closed_connections_are_noticed(server):
    for path in ('/stale', '/stale-reset'):
        for body in ({'body': 4096}, {'body': 3000000}, {'read': 30000000}):
            before = server.connections
            answers = probe(get(server.url + path), put(server.url + path, **body), get(server.url + path))
            check(all(a['ok'] for a in answers), answers)
            check([a['reused'] for a in answers] == [False, False, False], answers)
            check(server.connections - before == 3, f'{path}: {server.connections - before} connections')


@case
def a_body_begins_anew_on_another_connection(server):
    """Also behind a small one, which libcurl was given in another way."""
    for path in ('/stale', '/stale-reset'):
        for body in ({'body': 3000000}, {'read': 30000000}):
            answers = probe(put(server.url + path, body=5), put(server.url + path, **body), stall_timeout_ms=5000)
            check(all(a['ok'] for a in answers), answers)
            check([a['reused'] for a in answers] == [False, False], answers)


@case
def what_may_not_be_repeated_is_not(server):
    for path in ('/stale', '/stale-reset'):
        for body in (5, 30000000):
            before = len(server.requests)
            first, second = probe(get(server.url + path), {'method': 'POST', 'url': server.url + path, 'body': body})
            check(first['ok'], first)
            expect_error(second, 'TRANSIENT')
            posts = [r for r in server.requests[before:] if r['method'] == 'POST']
            check(len(posts) == 1, f'{len(posts)} POSTs with {body} bytes to {path}')


@case
def silence_ends_a_request(server):
    answers = probe(get(server.url + '/stall'), get(server.url + '/silent'), put(server.url + '/sink', body=30000000),
                    stall_timeout_ms=400)
    for answer in answers:
        expect_error(answer, 'TRANSIENT', 'no data for 0.4 s', f'127.0.0.1:{server.port}')
    slow, = probe(get(server.url + '/trickle'), stall_timeout_ms=1500)
    check(slow['ok'] and slow['bytes'] == 20 and slow['ms'] >= 1700, slow)


@case
def a_request_may_have_an_end(server):
    answer, = probe(get(server.url + '/silent'), total_timeout_ms=300)
    expect_error(answer, 'TRANSIENT', 'longer than 0.3 s')


@case
def connecting_fails_with_a_reason(_):
    with socket.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        refused, unknown = probe(get(f'http://127.0.0.1:{bound.getsockname()[1]}/'), get('http://name.invalid/x'))
        expect_error(refused, 'TRANSIENT', f'cannot connect to 127.0.0.1:{bound.getsockname()[1]}: Connection refused')
    expect_error(unknown, 'TRANSIENT', 'cannot resolve the name of name.invalid:80')
    silent = socket.create_server(('127.0.0.1', 0))
    answer, = probe(get(f'https://127.0.0.1:{silent.getsockname()[1]}/'), connect_timeout_ms=300)
    silent.close()
    expect_error(answer, 'TRANSIENT', 'cannot connect', 'within 0.3 s')


@case
def broken_answers_are_errors(server):
    broken, short, chunks, nothing = probe(get(server.url + '/break', write=True), get(server.url + '/short'),
                                           get(server.url + '/short-chunked'), get(server.url + '/nothing'))
    expect_error(broken, 'TRANSIENT', 'broke off after 100 bytes')
    expect_error(short, 'TRANSIENT', 'broke off after 999 bytes')
    expect_error(chunks, 'TRANSIENT', 'broke off after 5 bytes')
    expect_error(nothing, 'TRANSIENT', 'without an answer')
    long, after = probe(get(server.url + '/long'), get(server.url + '/ok'))
    check(long['ok'] and long['bytes'] == 10 and after['ok'] and not after['reused'], (long, after))
    garbage, = probe(get(server.url + '/garbage'))
    expect_error(garbage, 'TRANSIENT', 'does not answer with HTTP')


@case
def floods_are_cut(server):
    headers, interim = probe(get(server.url + '/flood'), get(server.url + '/interim-flood'))
    expect_error(headers, 'CORRUPT', 'longer than 64 KiB')
    expect_error(interim, 'CORRUPT', 'longer than 64 KiB')


@case
def an_answer_may_come_early(server):
    answer, after = probe(put(server.url + '/refuse', body=20000000), get(server.url + '/ok'))
    check(answer['ok'] and answer['status'] == 403 and answer['body'] == 'no', answer)
    check(after['ok'] and not after['reused'], after)


@case
def functions_end_a_request_with_their_error(server):
    written, read, after = probe(get(f'{server.url}/bytes/1000000', write=True, write_fail_at=300000),
                                 put(server.url + '/hash', read=1000000, read_fail_at=300000), get(server.url + '/ok'))
    expect_error(written, 'NO_SPACE', 'the target is full')
    expect_error(read, 'CONFLICT', 'the source has changed')
    check(after['ok'] and not after['reused'], after)


@case
def cancelling_ends_a_request(server):
    for request in (get(server.url + '/silent'), get(server.url + '/stall'), put(server.url + '/sink', body=30000000),
                    get(server.url + '/trickle')):
        answer, = probe(request, cancel_after_ms=150)
        expect_error(answer, 'CANCELLED')
        check(answer['ms'] < 5000, f'took {answer["ms"]} ms')
    silent = socket.create_server(('127.0.0.1', 0))
    answer, = probe(get(f'https://127.0.0.1:{silent.getsockname()[1]}/'), cancel_after_ms=150)
    silent.close()
    expect_error(answer, 'CANCELLED')
    later, = probe(put(server.url + '/hash', body=30000000), rate=100000, cancel_after_ms=300)
    expect_error(later, 'CANCELLED')
    check(later['ms'] < 5000, f'took {later["ms"]} ms')


@case
def rate_holds_both_ways(server):
    # The bucket holds 500,000 of the bytes; the others need a second for each two million.
    up, = probe(put(server.url + '/hash', body=2000000), rate=2000000)
    check(up['ok'] and up['body'] == up['sent_sha256'] and up['ms'] >= 700, up)
    down, = probe(get(f'{server.url}/bytes/2000000', write=True), rate=2000000)
    check(down['ok'] and down['ms'] >= 700, down)
    small = probe(put(server.url + '/ok', body=60000, repeat=30), rate=2000000)
    check(sum(a['ms'] for a in small) >= 500, small)


@case
def proxies_come_from_the_environment(server):
    away = 'http://store.invalid:8000/ok'
    answer, = probe(get(away), env={'http_proxy': server.url})
    check(answer['ok'] and server.requests[0]['target'] == away, (answer, server.requests))
    answer, = probe(get(server.url + '/ok'), env={'http_proxy': 'http://127.0.0.1:1'})
    expect_error(answer, 'TRANSIENT', 'cannot connect')
    answer, = probe(get(server.url + '/ok'), env={'http_proxy': 'http://127.0.0.1:1', 'no_proxy': '127.0.0.1'})
    check(answer['ok'], answer)
    answer, = probe(get(server.url + '/ok'), env={'http_proxy': 'http://127.0.0.1:1'}, no_proxy=True)
    check(answer['ok'], answer)


@case
def the_log_keeps_no_secrets(server):
    headers = ['Authorization: AWS4 sEcReT', 'X-Amz-Security-Token: sEcReT', 'x-aws-ec2-metadata-token: sEcReT',
               'x-amz-server-side-encryption-customer-key: sEcReT', 'Cookie: sEcReT', 'X-Plain: shown']
    probe(put(server.url + '/ok?X-Amz-Signature=sEcReT&X-Amz-Credential=sEcReT&X-Amz-Security-Token=sEcReT&part=7',
              headers=headers), debug=True)
    check('sEcReT' not in probe.log, probe.log)
    check('part=7' in probe.log and 'X-Plain: shown' in probe.log and '< 200' in probe.log, probe.log)


def make_certificates(directory):
    """A CA, a certificate of it for 127.0.0.1 and store.test, and one that nobody signed."""
    def openssl(*arguments):
        subprocess.run(['openssl', *arguments], cwd=directory, check=True, stdin=subprocess.DEVNULL, timeout=60,
                       capture_output=True)
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', 'ca.key',
            '-out', 'ca.pem', '-days', '2', '-subj', '/CN=Test CA')
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', 'key.pem', '-out',
            'request.pem', '-subj', '/CN=store.test')
    with open(os.path.join(directory, 'names'), 'w', encoding='ascii') as file:
        file.write('subjectAltName=DNS:store.test,IP:127.0.0.1\n')
    openssl('x509', '-req', '-in', 'request.pem', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2',
            '-extfile', 'names', '-out', 'cert.pem')


def tls_cases():
    if not shutil.which('openssl'):
        print('skip integration/http/tls: openssl is not installed')
        return
    directory = tempfile.mkdtemp(prefix='backapp-http-')
    try:
        make_certificates(directory)
        run_tls(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def run_tls(directory):
    """The cases that need certificates."""
    ca_file = os.path.join(directory, 'ca.pem')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(directory, 'cert.pem'), os.path.join(directory, 'key.pem'))
    server = Server(context)

    @case
    def tls_with_an_own_ca(_):
        answers = probe(get(server.url + '/ok', repeat=3), put(server.url + '/hash', body=3000000), ca_file=ca_file)
        check(all(a['ok'] for a in answers) and answers[3]['body'] == answers[3]['sent_sha256'], answers)
        check(server.connections == 1, server.connections)

    @case
    def tls_sessions_are_resumed(_):
        before = server.resumed
        answers = probe(get(server.url + '/ok'), get(server.url + '/together', threads=4), ca_file=ca_file)
        check(all(a['ok'] for a in answers) and len(answers) == 5, answers)
        check(server.resumed > before, 'no session was resumed')

    @case
    def tls_refuses_who_it_does_not_know(_):
        before = len(server.requests)
        answer, = probe(get(server.url + '/ok'))
        expect_error(answer, 'DENIED', 'not trusted', '127.0.0.1')
        port = server.port
        other, = probe(get(f'https://other.test:{port}/ok'), ca_file=ca_file, resolve=[f'other.test:{port}:127.0.0.1'])
        expect_error(other, 'DENIED', 'other.test')
        check(len(server.requests) == before, 'a request was sent to an untrusted server')
        answer, = probe(get(f'https://store.test:{port}/ok'), ca_file=ca_file, resolve=[f'store.test:{port}:127.0.0.1'])
        check(answer['ok'], answer)
        answer, = probe(get(server.url + '/ok'), insecure=True)
        check(answer['ok'], answer)

    @case
    def tls_and_plain_are_told_apart(plain):
        answer, = probe(get(plain.url.replace('http:', 'https:') + '/ok'))
        check(not answer['ok'] and answer['code'] in ('INVALID', 'TRANSIENT'), answer)
        answer, = probe(get(server.url.replace('https:', 'http:') + '/ok'))
        check(not answer['ok'] or answer['status'] != 200, answer)
        empty = os.path.join(directory, 'empty.pem')
        with open(empty, 'w', encoding='ascii'):
            pass
        answer, = probe(get(server.url + '/ok'), ca_file=empty)
        expect_error(answer, 'INVALID', 'empty.pem')

    server.close()


tls_cases()
sys.exit(1 if failed else 0)
