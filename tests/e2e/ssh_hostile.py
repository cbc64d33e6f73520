"""Targets that do not keep to SSH: each is a port behind which one thing is done to whoever connects."""
import contextlib, logging, os, socket, struct, threading, time

import paramiko
from paramiko.common import (cMSG_CHANNEL_CLOSE, cMSG_CHANNEL_DATA, cMSG_CHANNEL_EOF, cMSG_CHANNEL_EXTENDED_DATA, cMSG_CHANNEL_OPEN,
                             cMSG_CHANNEL_REQUEST, cMSG_CHANNEL_WINDOW_ADJUST, cMSG_GLOBAL_REQUEST)

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
VERSION = b"SSH-2.0-OpenSSH_9.2\r\n"
RAW, AFTER_LOGIN = {}, {}


def raw(behave):
    """`behave(socket)` from the first byte on."""
    RAW[behave.__name__] = behave
    return behave


def after_login(behave):
    """`behave(transport, channel)` once a program is started."""
    AFTER_LOGIN[behave.__name__] = behave
    return behave


def packet(payload):
    """A packet in clear."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + b"\0" * padding


def greet(peer):
    peer.sendall(VERSION)
    got = b""
    while b"\n" not in got:
        got += peer.recv(1)


# --- before the keys are exchanged ---------------------------------------------------------------------

@raw
def endless_banner(peer):
    while True:
        peer.sendall(b"welcome to this host\r\n" * 100)


@raw
def slow_banner(peer):
    while True:
        peer.sendall(b"wait\r\n")
        time.sleep(0.2)


@raw
def endless_line(peer):
    while True:
        peer.sendall(b"x" * 65536)


@raw
def silent(peer):
    while peer.recv(65536):
        pass


@raw
def closes_at_once(peer):
    pass


@raw
def closes_in_key_exchange(peer):
    greet(peer)
    peer.recv(65536)


@raw
def silent_in_key_exchange(peer):
    greet(peer)
    silent(peer)


@raw
def giant_packet(peer):
    greet(peer)
    while True:
        peer.sendall(b"\xff\xff\xff\xf0" + b"\0" * 65536)


@raw
def noise(peer):
    greet(peer)
    while True:
        peer.sendall(os.urandom(65536))


@raw
def ignored_packets(peer):
    greet(peer)
    one = packet(b"\x02" + struct.pack(">I", 1000) + b"i" * 1000)
    while True:
        peer.sendall(one * 50)


@raw
def no_common_algorithm(peer):
    greet(peer)
    names = struct.pack(">I", 4) + b"none"
    peer.sendall(packet(b"\x14" + os.urandom(16) + names * 10 + b"\0" * 5))
    silent(peer)


@raw
def key_exchange_of_odd_lengths(peer):
    greet(peer)
    peer.sendall(packet(b"\x14" + os.urandom(16) + struct.pack(">I", 0xFFFFFFF0) + b"curve25519-sha256"))
    silent(peer)


# --- at the login --------------------------------------------------------------------------------------

class Server(paramiko.ServerInterface):
    def __init__(self, name, transport):
        self.name, self.transport = name, transport

    def get_allowed_auths(self, user):
        return "password,keyboard-interactive"

    def check_auth_password(self, user, password):
        if self.name == "silent_at_the_login":
            time.sleep(30)
        return paramiko.AUTH_FAILED if self.name in ("refuses", "asks_for_ever") else paramiko.AUTH_SUCCESSFUL

    def check_auth_interactive(self, user, methods):
        return paramiko.InteractiveQuery("", "", ("Password: ", False)) if self.name == "asks_for_ever" else paramiko.AUTH_FAILED

    def check_auth_interactive_response(self, answers):
        return paramiko.InteractiveQuery("", "", ("Again: ", False))

    def check_channel_request(self, kind, number):
        if self.name == "opens_no_channel":
            return paramiko.OPEN_FAILED_CONNECT_FAILED
        if self.name == "silent_at_the_channel":
            time.sleep(40)
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel, command):
        if self.name == "refuses_the_command":
            return False
        behave = AFTER_LOGIN.get(self.name)
        if behave:
            threading.Thread(target=_guarded, args=(behave, self.transport, channel), daemon=True).start()
        return True

    def check_channel_subsystem_request(self, channel, name):
        return self.check_channel_exec_request(channel, name)


LOGINS = ["silent_at_the_login", "refuses", "asks_for_ever", "opens_no_channel", "silent_at_the_channel", "refuses_the_command"]


def _guarded(behave, transport, channel):
    with contextlib.suppress(Exception):
        behave(transport, channel)


# --- once something runs -------------------------------------------------------------------------------

def send(transport, kind, *values):
    message = paramiko.Message()
    message.add_byte(kind)
    for value in values:
        if isinstance(value, bool):
            message.add_boolean(value)
        elif isinstance(value, int):
            message.add_int(value)
        elif isinstance(value, str):
            message.add_string(value)
        else:
            message.add_bytes(value)
    transport._send_user_message(message)


def finish(transport, channel, status=0):
    send(transport, cMSG_CHANNEL_DATA, channel.remote_chanid, "done\n")
    send(transport, cMSG_CHANNEL_REQUEST, channel.remote_chanid, "exit-status", False, status)
    send(transport, cMSG_CHANNEL_EOF, channel.remote_chanid)
    send(transport, cMSG_CHANNEL_CLOSE, channel.remote_chanid)


@after_login
def floods_with_channels(transport, channel):
    for n in range(3000):
        for kind, rest in (("session", ()), ("forwarded-tcpip", ("127.0.0.1", 22, "127.0.0.1", n)), ("x11", ("127.0.0.1", n)),
                           ("auth-agent@openssh.com", ()), ("direct-tcpip", ("127.0.0.1", 22, "127.0.0.1", n)), (f"made-up-{n}", ())):
            send(transport, cMSG_CHANNEL_OPEN, kind, 1000 + n, 1 << 31, 1 << 31, *rest)
    finish(transport, channel)


@after_login
def floods_with_requests(transport, channel):
    for n in range(5000):
        send(transport, cMSG_GLOBAL_REQUEST, "tcpip-forward", True, "0.0.0.0", 0)
        send(transport, cMSG_CHANNEL_REQUEST, channel.remote_chanid, f"made-up-{n}", True, b"x" * 100)
        send(transport, cMSG_CHANNEL_REQUEST, channel.remote_chanid, "exit-signal", False, "TERM", False, "m" * 1000, "")
    finish(transport, channel)


@after_login
def ends_again_and_again(transport, channel):
    for n in range(5000):
        send(transport, cMSG_CHANNEL_REQUEST, channel.remote_chanid, "exit-status", False, 0)
        send(transport, cMSG_CHANNEL_EOF, channel.remote_chanid)
    finish(transport, channel)


@after_login
def adjusts_beyond_all_windows(transport, channel):
    for _ in range(2000):
        send(transport, cMSG_CHANNEL_WINDOW_ADJUST, channel.remote_chanid, 0xFFFFFFFF)
    finish(transport, channel)


@after_login
def speaks_of_unknown_channels(transport, channel):
    for n in range(2000):
        other = 0xFFFFFF00 + n % 200
        send(transport, cMSG_CHANNEL_DATA, other, "x" * 1000)
        send(transport, cMSG_CHANNEL_EXTENDED_DATA, other, 1, "x" * 1000)
        send(transport, cMSG_CHANNEL_EOF, other)
        send(transport, cMSG_CHANNEL_CLOSE, other)
    finish(transport, channel)


@after_login
def says_on_odd_streams(transport, channel):
    for n in range(200):
        send(transport, cMSG_CHANNEL_EXTENDED_DATA, channel.remote_chanid, 0xFFFFFF00 + n, "odd\n")
    finish(transport, channel)


@after_login
def ignores_windows(transport, channel):
    data = paramiko.Message()
    data.add_byte(cMSG_CHANNEL_DATA)
    data.add_int(channel.remote_chanid)
    data.add_string(b"x" * 32000)
    for _ in range(12000):  # 384 MB
        transport._send_user_message(data)
    finish(transport, channel)


@after_login
def takes_nothing(transport, channel):
    # Blocks the thread that reads this connection; the window that was given is 4 GiB.
    channel._feed = lambda _: time.sleep(12)
    time.sleep(12)
    transport.close()


@after_login
def closes_without_a_word(transport, channel):
    transport.close()


ODD = {
    "exit_status": (cMSG_CHANNEL_REQUEST, "exit-status", False, b"\0\0"),
    "exit_signal": (cMSG_CHANNEL_REQUEST, "exit-signal", False, struct.pack(">I", 0x7FFFFFFF) + b"TE"),
    "request_name": (cMSG_CHANNEL_REQUEST, struct.pack(">I", 0xFFFFFFFF)),
    "data": (cMSG_CHANNEL_DATA, struct.pack(">I", 0xFFFFFFFF) + b"abc"),
    "extended": (cMSG_CHANNEL_EXTENDED_DATA, b"\0\0"),
    "adjust": (cMSG_CHANNEL_WINDOW_ADJUST, b"\1"),
}


def _odd(name):
    def behave(transport, channel):
        kind, *rest = ODD[name]
        send(transport, kind, channel.remote_chanid, *rest)
        finish(transport, channel)
    AFTER_LOGIN[f"odd_length_{name}"] = behave


for _name in ODD:
    _odd(_name)


# --- files ---------------------------------------------------------------------------------------------

def _read(channel, count):
    got = b""
    while len(got) < count and (data := channel.recv(count - len(got))):
        got += data
    return got


def _answers(channel, answer):
    """Answers SFTP's VERSION, and each request by `answer(kind, id)`."""
    while head := _read(channel, 5):
        size, kind = struct.unpack(">IB", head)
        body = _read(channel, size - 1)
        if kind == 1:
            channel.sendall(struct.pack(">IBI", 5, 2, 3))
        else:
            channel.sendall(answer(kind, struct.unpack(">I", body[:4])[0]))


@after_login
def sftp_giant_packet(transport, channel):
    _answers(channel, lambda kind, id: b"\xff\xff\xff\xff" + b"\x68" * 60000)


@after_login
def sftp_many_names(transport, channel):
    # As many names as it claims never come.
    _answers(channel, lambda kind, id: struct.pack(">IBII", 200_000, 104, id, 0xFFFFFFFF) + b"\0" * 199_991)


@after_login
def sftp_other_ids(transport, channel):
    _answers(channel, lambda kind, id: struct.pack(">IBII", 17, 101, id + 77, 0) + b"\0" * 8)


@after_login
def sftp_endless_version(transport, channel):
    while True:
        channel.sendall(struct.pack(">IBI", 5, 2, 3) * 1000)


FILES = [name for name in AFTER_LOGIN if name.startswith("sftp_")]


def names():
    return [*RAW, *LOGINS, *AFTER_LOGIN]


class Targets:
    """All of them, each on a port; `key` is the path of their host key."""

    def __init__(self, key):
        self.key, self.ports = paramiko.Ed25519Key.from_private_key_file(str(key)), {}
        for name in names():
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            self.ports[name] = listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(name, listener), daemon=True).start()

    def _accept(self, name, listener):
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=self._serve, args=(name, peer), daemon=True).start()

    def _serve(self, name, peer):
        with contextlib.suppress(Exception):
            if name in RAW:
                with peer:
                    RAW[name](peer)
                return
            transport = paramiko.Transport(peer)
            transport.default_window_size = transport.default_max_packet_size = 0xFFFFFFFF
            transport.add_server_key(self.key)
            transport.start_server(server=Server(name, transport))
            while transport.is_active():
                time.sleep(0.2)
            transport.close()
