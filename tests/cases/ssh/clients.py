"""The SSH clients of the suite: OpenSSH's programs, and paramiko for what those do not send.

A `Door` is a way in (the gateway, or the target itself). Functions here return `Seen`: all that
came back, apart, with nothing interpreted.
"""
import dataclasses, logging, os, pathlib, random, socket, stat, subprocess, threading, time

import paramiko
from paramiko.auth_handler import AuthOnlyHandler
from paramiko.common import (MSG_CHANNEL_FAILURE, MSG_CHANNEL_REQUEST, cMSG_CHANNEL_OPEN, cMSG_CHANNEL_REQUEST,
                             cMSG_USERAUTH_REQUEST)
from paramiko.message import Message
from paramiko.sftp import (CMD_CLOSE, CMD_EXTENDED, CMD_FSETSTAT, CMD_HANDLE, CMD_OPEN, CMD_READ, CMD_STATUS,
                           CMD_SYMLINK, CMD_WRITE, int64)

logging.getLogger("paramiko").setLevel(logging.CRITICAL)

REFUSED_BY_POLICY, CONNECT_FAILED, UNKNOWN_TYPE = 1, 2, 3         # RFC 4254, section 5.1


@dataclasses.dataclass
class Seen:
    stdout: bytes = b""
    stderr: bytes = b""
    status: int | None = None
    signal: str | None = None
    note: str = ""                  # what went wrong below a command: no-login, refused, closed, ...
    answers: list = dataclasses.field(default_factory=list)

    def everything(self):
        return self.stdout + b"\n" + self.stderr + b"\n" + repr(self.answers).encode()

    def comparable(self):
        return self.stdout, self.stderr, self.status, self.signal, self.answers


class NoLogin(Exception):
    pass


class Refused(Exception):
    """The server answered a request with a failure."""


def _keep_exit_signal(channel, message):
    """paramiko drops exit-signal; this keeps it."""
    start = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_signal = message.get_text()
    message.packet.seek(start)
    return _handle_request(channel, message)


def _keep_open_on_failure(channel, message):
    """paramiko closes a channel whose request failed; a case may want to go on with it."""
    channel.event.set()


def _send_auth_request(handler, username, method, finish_message=None):
    """paramiko makes its event after it has sent, and so can miss a quick answer."""
    handler.auth_method, handler.username = method, username
    message = Message()
    message.add_byte(cMSG_USERAUTH_REQUEST)
    for part in (username, "ssh-connection", method):
        message.add_string(part)
    if finish_message:
        finish_message(message)
    handler.auth_event = threading.Event()
    with handler.transport.lock:
        handler.transport._send_message(message)
    return handler.wait_for_response(handler.auth_event)


AuthOnlyHandler.send_auth_request = _send_auth_request
_handle_request = paramiko.Channel._handle_request
paramiko.Transport._channel_handler_table |= {MSG_CHANNEL_REQUEST: _keep_exit_signal,
                                              MSG_CHANNEL_FAILURE: _keep_open_on_failure}


@dataclasses.dataclass
class Door:
    host: str
    port: int
    user: str
    token: str | None = None
    key: str | None = None
    scratch: pathlib.Path = pathlib.Path("/nonexistent")

    def as_user(self, user):
        return dataclasses.replace(self, user=user)

    def dial(self):
        # This kind asks for the authentication service once, as OpenSSH does, not before each attempt.
        transport = paramiko.ServiceRequestingTransport(socket.create_connection((self.host, self.port), 10))
        transport.banner_timeout = transport.auth_timeout = 12
        transport.daemon = True
        try:
            transport.start_client(timeout=12)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise NoLogin(str(error)) from error
        return transport

    def login(self):
        """An authenticated paramiko transport."""
        transport = self.dial()
        try:
            if self.token is not None:
                transport.auth_password(self.user, self.token)
            else:
                transport.auth_publickey(self.user, paramiko.Ed25519Key.from_private_key_file(self.key))
        except (paramiko.SSHException, EOFError, OSError) as error:
            transport.close()
            raise NoLogin(str(error)) from error
        return transport

    def openssh(self, program, options=()):
        """argv and environment for ssh, sftp or scp; the host is `gw`."""
        settings = {
            "HostName": self.host, "Port": self.port, "User": self.user, "LogLevel": "INFO", "ConnectTimeout": 12,
            "StrictHostKeyChecking": "accept-new", "UserKnownHostsFile": self.scratch / f"hosts-{self.port}",
            "NumberOfPasswordPrompts": 1, "ControlPath": "none",
        }
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "LC_", "LANG"))}
        if self.token is not None:
            settings |= {"PubkeyAuthentication": "no", "PreferredAuthentications": "keyboard-interactive,password"}
            ask = self.scratch / "askpass"
            if not ask.exists():
                ask.write_text('#!/bin/sh\nprintf "%s\\n" "$CASE_TOKEN"\n')
                ask.chmod(0o755)
            environment |= {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "CASE_TOKEN": self.token}
        else:
            settings |= {"IdentityFile": self.key, "IdentitiesOnly": "yes", "BatchMode": "yes"}
        argv = [program, "-F", "none"]
        for option in options:                                     # the first mention of an option wins
            argv += ["-o", option]
        for name, value in settings.items():
            argv += ["-o", f"{name}={value}"]
        return argv, environment


# --- OpenSSH -----------------------------------------------------------------------------------

NOISE = (b"Warning: Permanently added", b"Connection to ", b"Pseudo-terminal will not")


def quiet(err):
    """What ssh says on its own account is no part of an outcome."""
    return b"".join(line for line in err.splitlines(True) if not line.startswith(NOISE))


def end(process):
    """Ends a client that runs; what it said on standard error. ssh can miss a SIGTERM that comes just before it waits."""
    for _ in range(3):
        process.terminate()
        try:
            return process.communicate(timeout=2)[1]
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    return process.communicate()[1]


def run_program(argv, environment, stdin=b"", timeout=14, cwd=None):
    """Runs a client program to its end; `note` is 'hang' if it did not end."""
    process = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, start_new_session=True, cwd=cwd)
    try:
        out, err = process.communicate(stdin, timeout=timeout)
        note = ""
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        note = "hang"
    err = quiet(err)
    seen = Seen(out, err, process.returncode, note=note)
    if process.returncode == 255 and b"Permission denied (" in err:
        seen.note = "no-login"
    return seen


def openssh_exec(door, command, stdin=b"", pty=False, options=(), timeout=14):
    argv, environment = door.openssh("ssh", options)
    argv += ["-tt"] if pty else ["-T"]
    return run_program([*argv, "gw", "--", command], environment, stdin, timeout)


# --- paramiko: commands and raw channels ---------------------------------------------------------

def raw_open(transport, kind, payload=b"", timeout=12):
    """Opens a channel of any kind; raises paramiko.ChannelException with the server's reason."""
    with transport.lock:
        number = transport._next_channel()
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        for value in (number, 1 << 21, 1 << 15):
            message.add_int(value)
        message.add_bytes(payload)
        channel = paramiko.Channel(number)
        transport._channels.put(number, channel)
        transport.channel_events[number] = event = threading.Event()
        transport.channels_seen[number] = True
        channel._set_transport(transport)
        channel._set_window(1 << 21, 1 << 15)
    transport._send_user_message(message)
    if not event.wait(timeout):
        raise TimeoutError(f"no answer to channel open {kind}")
    if transport._channels.get(number) is None:
        raise transport.get_exception() or paramiko.SSHException("channel not opened")
    return channel


def raw_request(channel, name, payload=b"", timeout=12):
    """Sends a channel request that wants a reply; raises Refused if the answer is a failure."""
    message = Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(name)
    message.add_boolean(True)
    message.add_bytes(payload)
    channel._event_pending()
    channel.transport._send_user_message(message)
    end = time.time() + timeout
    while not channel.event.wait(0.1):
        if channel.closed:                                     # nothing is answered on a channel that is closed
            raise Refused(name)
        if time.time() > end:
            raise TimeoutError(f"no answer to channel request {name}")
    if not channel.event_ready:
        raise Refused(name)


def packed(*values):
    """SSH wire form: strings with their length, ints as uint32, bools as one byte."""
    message = Message()
    for value in values:
        if isinstance(value, bool):
            message.add_boolean(value)
        elif isinstance(value, int):
            message.add_int(value)
        else:
            message.add_string(value)
    return message.asbytes()


def read_channel(channel, seen, end=14, slow=0.0, until=None):
    """Reads both streams of a channel until it closes, or until `until(seen)` holds."""
    deadline = time.time() + end
    out, err = bytearray(seen.stdout), bytearray(seen.stderr)
    channel.settimeout(0.2)
    while time.time() < deadline:
        moved = False
        if channel.recv_stderr_ready():
            err += channel.recv_stderr(65536)
            moved = True
        if channel.recv_ready():
            out += channel.recv(16384 if slow else 1 << 20)
            moved = True
            time.sleep(slow)
        seen.stdout, seen.stderr = bytes(out) if until else b"", bytes(err)
        if until and until(seen):
            return seen
        if not moved:
            if channel.closed or (channel.eof_received and channel.exit_status_ready()):
                break
            time.sleep(0.002)
    else:
        seen.note = "hang"
    seen.stdout, seen.stderr = bytes(out), bytes(err)
    seen.signal = getattr(channel, "exit_signal", None)
    seen.status = channel.exit_status if channel.exit_status >= 0 else None
    if not seen.note and seen.status is None and seen.signal is None:
        seen.note = "closed"
    return seen


def paramiko_exec(transport, command, stdin=b"", pty=False, slow=0.0, eof_after=0.0, timeout=14):
    channel = transport.open_session()
    try:
        if pty:
            channel.get_pty()
        raw_request(channel, "exec", packed(command))
    except Refused:
        return Seen(note="refused")

    def feed():
        try:
            channel.sendall(stdin)
            time.sleep(eof_after)
            channel.shutdown_write()
        except (OSError, EOFError):              # the other side has closed already
            pass

    threading.Thread(target=feed, daemon=True).start()
    return read_channel(channel, Seen(), timeout, slow)


def paramiko_shell(transport, lines, pty=True, timeout=12):
    """Opens a shell and types `lines`; ends when the shell does."""
    channel = transport.open_session()
    try:
        if pty:
            channel.get_pty(term="xterm", width=200)
        raw_request(channel, "shell")
    except Refused:
        return Seen(note="refused")
    seen = Seen()
    for line in lines:
        time.sleep(0.3)
        try:
            channel.sendall(line.encode("utf-8", "surrogateescape") + b"\r" if pty else line.encode() + b"\n")
        except OSError:
            break
    if not pty:
        try:
            channel.shutdown_write()
        except OSError:
            pass
    return read_channel(channel, seen, timeout)


# --- SFTP ------------------------------------------------------------------------------------------

STATUS = {2: "missing", 3: "deny", 4: "failure", 5: "failure", 8: "unsupported"}


class SftpStatus(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.outcome = STATUS.get(code, f"status-{code}")


class Sftp(paramiko.SFTPClient):
    """paramiko's client, with the server's status codes kept and any packet sendable."""

    def _convert_status(self, message):
        code, text = message.get_int(), message.get_text()
        if code == 1:
            raise EOFError(text)
        if code:
            raise SftpStatus(code, text)

    def raw_file(self, path, flags):
        kind, message = self._request(CMD_OPEN, path, flags, paramiko.SFTPAttributes())
        if kind != CMD_HANDLE:
            raise SftpStatus(4, "no handle")
        return message.get_binary()


FLAGS = {"read": 1, "write": 2, "append": 4, "create": 8, "truncate": 16, "exclusive": 32}


def content_of(step):
    if "size" in step:
        return random.Random(step["size"]).randbytes(step["size"])
    return step.get("text", "").encode()


def sftp_step(sftp, step, scratch):
    """One operation of a case; returns what it told the client."""
    op, path = step["op"], step.get("path", "")
    if "path_bytes" in step:                                     # a name that is no UTF-8
        path = step["path_bytes"].encode("latin-1")
    if op == "get":
        with sftp.open(path, "rb") as file:
            file.prefetch() if step.get("prefetch", True) else None
            return file.read()
    if op == "put":
        with sftp.open(path, "wb") as file:
            file.set_pipelined(True)
            file.write(content_of(step))
        return b""
    if op == "open":
        handle = sftp.raw_file(path, sum(FLAGS[f] for f in step["flags"]))
        told = b""
        if "text" in step:
            sftp._request(CMD_WRITE, handle, int64(0), step["text"].encode())
        elif "read" in step["flags"]:
            try:
                told = sftp._request(CMD_READ, handle, int64(0), 4096)[1].get_binary()
            except EOFError:
                pass
        sftp._request(CMD_CLOSE, handle)
        return told
    if op in ("read-handle", "closed-handle"):
        if op == "closed-handle":
            handle = sftp.raw_file(path, FLAGS["read"])
            sftp._request(CMD_CLOSE, handle)
        else:
            handle = step["handle"].encode("latin-1")
        return sftp._request(CMD_READ, handle, int64(0), 4096)[1].get_binary()
    if op == "fsetstat":
        handle = sftp.raw_file(path, FLAGS["read"])
        attributes = paramiko.SFTPAttributes()
        attributes.st_mode = step["mode"]
        sftp._request(CMD_FSETSTAT, handle, attributes)
        return b""
    if op == "copy-data":
        source = sftp.raw_file(path, FLAGS["read"])
        into = sftp.raw_file(step["to"], FLAGS["write"] | FLAGS["create"])
        zero = int64(0)
        sftp._request(CMD_EXTENDED, "copy-data", source, zero, zero, into, zero)
        return b""
    if op == "extended":
        kind, message = sftp._request(CMD_EXTENDED, step["name"], *step.get("arguments", []))
        return b"" if kind == CMD_STATUS else message.get_remainder()
    if op == "symlink":
        # OpenSSH's server takes the target first, then the link's own path.
        sftp._request(CMD_SYMLINK, step["target"], path)
        return b""
    if op == "list":
        return "\n".join(sorted(sftp.listdir(path))).encode()
    if op in ("stat", "lstat"):
        info = getattr(sftp, op)(path)
        return f"{stat.S_IFMT(info.st_mode):o} {info.st_size}".encode()
    if op == "chmod":
        sftp.chmod(path, step["mode"])
        return b""
    if op == "utime":
        sftp.utime(path, (step["time"], step["time"]))
        return b""
    if op == "resize":
        sftp.truncate(path, step["to"])
        return b""
    if op == "rename":
        sftp.rename(path, step["to"])
        return b""
    if op in ("realpath", "readlink"):
        told = sftp.normalize(path) if op == "realpath" else sftp.readlink(path)
        return (told or "").encode()
    if op in ("remove", "mkdir", "rmdir"):
        getattr(sftp, op)(path)
        return b""
    raise ValueError(f"unknown sftp operation {op}")


# --- auth --------------------------------------------------------------------------------------------

def authenticate_none(transport, user):
    transport.ensure_session()
    transport.auth_handler = transport.get_auth_handler()
    transport.auth_handler.auth_none(user)


def offer_without_signature(transport, user, key):
    """Asks whether `key` would do (RFC 4252, section 7), and never signs."""
    message = Message()
    message.add_byte(cMSG_USERAUTH_REQUEST)
    for part in (user, "ssh-connection", "publickey"):
        message.add_string(part)
    message.add_boolean(False)
    message.add_string(key.get_name())
    message.add_string(key.asbytes())
    transport._send_message(message)
    time.sleep(0.5)


class BadSigner(paramiko.Ed25519Key):
    """Offers one key and signs with another."""

    def sign_ssh_data(self, data, algorithm=None):
        message = Message()
        message.add_string("ssh-ed25519")
        message.add_string(os.urandom(64))
        return message
