"""How each `mode` of a case is carried out. Every function takes (rig, case, door), returns (outcome, Seen)."""
import hashlib, json, shlex, socket, subprocess, time

import paramiko

from clients import (CONNECT_FAILED, REFUSED_BY_POLICY, UNKNOWN_TYPE, BadSigner, NoLogin, Refused, Seen, Sftp,
                     SftpStatus, authenticate_none, content_of, end, offer_without_signature, openssh_exec, packed,
                     paramiko_exec, paramiko_shell, quiet, raw_open, raw_request, read_channel, run_program, sftp_step)
from common import free_port, wait_port

REFUSALS = {"denied", "malformed", "approval_refused", "approval_expired", "budget_exhausted", "session_expired"}
PENDING = "approval_pending"
SENT = {"up.txt", "alias", "out/keep.me"}          # what is there to be sent


def decisions(text):
    """The decision objects among the lines of `text` (CONTRACT, 'What a client is told')."""
    found = []
    for line in text.decode("utf-8", "replace").splitlines():
        try:
            value = json.loads(line[line.index("{"):])
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("code") in REFUSALS | {PENDING}:
            found.append((value, len(line)))
    return found


def outcome_of(seen, pty=False):
    """allow, deny or hold of a command; else what went wrong."""
    if seen.note:
        return seen.note
    told = decisions(seen.stderr + (b"\n" + seen.stdout if pty else b""))
    codes = {value["code"] for value, _ in told}
    if any(length > 1200 for _, length in told):
        return "decision-too-long"
    if seen.status == 77 and codes & REFUSALS:
        return "deny"
    if PENDING in codes and (seen.status in (None, 75) or not codes & REFUSALS):
        return "hold"
    if codes:
        return f"status-{seen.status}-with-{sorted(codes)}"
    if seen.status == 255 and seen.stderr:
        for text, note in ((b"request failed", "refused"), (b"onnection ", "closed"), (b"open failed", "refused")):
            if text in seen.stderr:
                return note
    return "allow"


def repeated(steps):
    """Each step as often as its `times` says."""
    return [step for step in steps for _ in range(step.get("times", 1))]


def _command(case):
    """`cmd` as text, or `bytes` (latin-1 escapes) where a byte is no UTF-8; `pad` repeats a part."""
    if "bytes" in case:
        return case["bytes"].encode("latin-1")
    command = case["cmd"]
    if "pad" in case:
        command = command.replace("@PAD@", case["pad"]["text"] * case["pad"]["times"])
    return command


def _stdin(case):
    """`stdin` as text, `stdin_bytes` in latin-1, or `stdin_size` bytes of noise."""
    if "stdin_size" in case:
        return content_of({"size": case["stdin_size"]})
    return case["stdin_bytes"].encode("latin-1") if "stdin_bytes" in case else case.get("stdin", "").encode()


def exec_mode(rig, case, door):
    stdin, pty, command = _stdin(case), case.get("pty", False), _command(case)
    if case.get("client", "openssh") == "paramiko" or isinstance(command, bytes) or "\0" in command:
        transport = rig.keep(door.login())
        seen = paramiko_exec(transport, command, stdin, pty, eof_after=case.get("eof_after", 0))
    else:
        seen = openssh_exec(door, command, stdin, pty, case.get("options", ()))
    return outcome_of(seen, pty), seen


def shell_mode(rig, case, door):
    seen = paramiko_shell(rig.keep(door.login()), case["lines"], case.get("pty", True))
    # A shell is refused by a failure reply, or by a decision and status 77.
    return ("deny" if seen.note == "refused" else outcome_of(seen, True)), seen


# --- files ---------------------------------------------------------------------------------------------

def sftp_mode(rig, case, door):
    if "batch" in case:
        return _sftp_batch(rig, case, door)
    seen = Seen()
    transport = rig.keep(door.login())
    try:
        sftp = Sftp.from_transport(transport)
    except (paramiko.SSHException, EOFError) as error:
        return "deny", Seen(stderr=str(error).encode())
    for step in repeated(case["ops"]):
        try:
            told = sftp_step(sftp, step, rig.scratch)
        except SftpStatus as status:
            seen.stderr += str(status).encode()
            return status.outcome, seen
        except (OSError, EOFError, paramiko.SSHException) as error:
            seen.stderr += str(error).encode()
            return "closed", seen
        if "size_is" in step and len(told) != step["size_is"]:
            return f"short-{len(told)}", seen
        seen.stdout += hashlib.sha256(told).hexdigest().encode() if len(told) > 1 << 20 else told
    return "allow", seen


def _sftp_batch(rig, case, door):
    argv, environment = door.openssh("sftp")
    local = rig.local_folder()
    batch = "\n".join(case["batch"]).replace("@LOCAL@", str(local)) + "\n"
    if door.token is not None:                       # -b turns on BatchMode, which asks for no password
        argv += ["-o", "BatchMode=no"]
        argv.insert(1, "-oBatchMode=no")
    seen = run_program([*argv, "-b", "-", "gw"], environment, batch.encode())
    return _file_outcome(seen, local)


def scp_mode(rig, case, door):
    local = rig.local_folder()
    if "rsync" in case:
        argv, environment = door.openssh("ssh")
        argv = ["rsync", "-r", "-e", shlex.join(argv)]
    else:
        argv, environment = door.openssh("scp")
    words = (word.replace("@LOCAL@", str(local)) for word in case.get("scp") or case["rsync"])
    seen = run_program([*argv, *words], environment)
    return _file_outcome(seen, local)


def _file_outcome(seen, local):
    for path in sorted(p for p in local.rglob("*") if p.is_file() and str(p.relative_to(local)) not in SENT):
        seen.stdout += path.name.encode() + b": " + path.read_bytes()[:1 << 20]
    seen.stderr = seen.stderr.replace(str(local).encode(), b"LOCAL")
    seen.stdout = seen.stdout.replace(str(local).encode(), b"LOCAL")
    if seen.note:
        return seen.note, seen
    if seen.status == 0:
        return "allow", seen
    refused = {value["code"] for value, _ in decisions(seen.stderr)} & REFUSALS
    if refused or b"ermission denied" in seen.stderr:
        return "deny", seen
    return "failure", seen


# --- channels ----------------------------------------------------------------------------------------

def _requests(channel, steps, seen):
    """Sends the requests of one channel; returns False at the first that is refused."""
    started = False
    for step in steps:
        name = step["request"]
        payload = {
            "exec": lambda: packed(step["command"]),
            "env": lambda: packed(step["name"], step["value"]),
            "subsystem": lambda: packed(step["name"]),
            "signal": lambda: packed(step["name"]),
            "pty-req": lambda: packed(step.get("term", "xterm"), 80, 24, 0, 0, step.get("modes", "\0")),
            "window-change": lambda: packed(100, 40, 0, 0),
            "x11-req": lambda: packed(False, "MIT-MAGIC-COOKIE-1", "0123456789abcdef0123456789abcdef", 0),
            "break": lambda: packed(500),
        }.get(name, lambda: packed(*step.get("values", [])))()
        if name == "data":
            try:
                channel.sendall(step["text"].encode())
            except OSError:                                    # the other side has closed already
                break
        elif name in ("signal", "window-change") or step.get("no_reply"):    # RFC 4254: the two never want one
            _send_quietly(channel, name, payload)
        else:
            try:
                raw_request(channel, name, payload)
            except Refused:
                if not step.get("may_fail"):
                    seen.note = "refused"
                    return False
        started = started or name in ("exec", "shell", "subsystem")
        time.sleep(step.get("pause", 0))
    if started:
        channel.shutdown_write()
        read_channel(channel, seen, 8)
    else:
        seen.note = "granted"
    return True


def _send_quietly(channel, name, payload):
    message = paramiko.Message()
    message.add_byte(paramiko.common.cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string(name)
    message.add_boolean(False)
    message.add_bytes(payload)
    channel.transport._send_user_message(message)


def channels_mode(rig, case, door):
    """Channels one after the other on one connection, or `copies` at once; the last one's outcome counts."""
    if "control_master" in case:
        return _control_master(rig, case, door)
    transport = rig.keep(door.login())
    together = Seen()
    if "copies" in case:
        opened = [transport.open_session(timeout=12) for _ in range(case["copies"])]
        for number, channel in enumerate(opened):
            raw_request(channel, "exec", packed(case["cmd"].replace("@N@", str(number))))
        for channel in opened:
            seen = read_channel(channel, Seen(), 12)
            together.answers.append((seen.stdout.decode(), seen.status))
        return "allow", together
    outcome = "allow"
    channels = [steps for steps in case["channels"] for _ in range(steps[0].get("times", 1))]
    for number, steps in enumerate(channels):
        seen = Seen()
        try:
            channel = transport.open_session(timeout=12)
        except paramiko.ChannelException as error:
            return ("deny" if error.code == REFUSED_BY_POLICY else f"open-failed-{error.code}"), together
        except (paramiko.SSHException, EOFError):
            return "closed", together
        pty = any(s["request"] == "pty-req" for s in steps)
        granted = _requests(channel, steps, seen)
        together.stdout += seen.stdout
        together.stderr += seen.stderr
        together.status, together.signal = seen.status, seen.signal
        if granted:
            outcome = "allow" if seen.note == "granted" else outcome_of(seen, pty)
        else:
            read_channel(channel, seen, 0.5)
            together.stdout += seen.stdout
            outcome = "deny"
        if number < len(channels) - 1 and outcome != "allow" and not case.get("goes_on"):
            return f"channel-{number}-{outcome}", together
    return outcome, together


def _control_master(rig, case, door):
    """Several commands of the real client over one master connection."""
    sock = rig.scratch / f"cm{time.time_ns() % 10**8}"
    options = ["ControlMaster=auto", f"ControlPath={sock}", "ControlPersist=8"]
    together, outcome = Seen(), "allow"
    for number, command in enumerate(case["control_master"]):
        seen = openssh_exec(door, command, options=options, timeout=8)
        together.stdout += seen.stdout
        together.stderr += seen.stderr
        outcome = outcome_of(seen)
        if number < len(case["control_master"]) - 1 and outcome != "allow":
            outcome = f"command-{number}-{outcome}"
            break
    argv, environment = door.openssh("ssh", [f"ControlPath={sock}"])
    subprocess.run([*argv, "-O", "exit", "gw"], env=environment, capture_output=True, timeout=5)
    return outcome, together


# --- forwards ------------------------------------------------------------------------------------------

def forward_mode(rig, case, door):
    kind = case["kind"]
    if kind in ("local", "dynamic", "stdio", "remote"):
        return _openssh_forward(rig, case, door)
    transport = rig.keep(door.login())
    if kind == "global":
        try:
            answer = transport.global_request(case["request"], case["values"], wait=True)
        except (paramiko.SSHException, EOFError):
            answer = None
        return ("deny" if answer is None else "allow"), Seen()
    payload = {
        "direct": lambda: packed(case["host"], int(case["port"]), "127.0.0.1", 40000),
        "streamlocal": lambda: packed(case["path"], "", 0),
        "open": lambda: packed(*case.get("values", [])),
    }[kind]()
    name = {"direct": "direct-tcpip", "streamlocal": "direct-streamlocal@openssh.com"}.get(kind, case.get("channel"))
    try:
        channel = raw_open(transport, name, payload)
    except paramiko.ChannelException as error:
        seen = Seen(stderr=str(error).encode())
        if error.code in (REFUSED_BY_POLICY, UNKNOWN_TYPE):
            return "deny", seen
        return ("connect-failed" if error.code == CONNECT_FAILED else f"open-failed-{error.code}"), seen
    except (paramiko.SSHException, EOFError, OSError) as error:
        return "closed", Seen(stderr=str(error).encode())
    seen = Seen()
    if "send" in case:
        channel.sendall(case["send"].encode())
    wanted = case.get("until", "\n").encode()
    read_channel(channel, seen, 4, until=lambda s: s.stdout.endswith(wanted))
    channel.close()
    seen.status = seen.signal = None
    return "allow", seen


def _openssh_forward(rig, case, door):
    port, kind = free_port(), case["kind"]
    argv, environment = door.openssh("ssh", ["ExitOnForwardFailure=yes"])
    if kind == "stdio":                                              # ssh -W, which is what ProxyJump uses
        seen = run_program([*argv, "-W", case["to"], "gw"], environment, case.get("send", "").encode(), timeout=6)
        text = seen.stderr
    else:
        flag = {"local": ["-L", f"127.0.0.1:{port}:{case.get('to')}"], "dynamic": ["-D", f"127.0.0.1:{port}"],
                "remote": ["-R", case.get("to", "")]}[kind]
        process = subprocess.Popen([*argv, "-N", *flag, "gw"], env=environment, stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, start_new_session=True)
        rig.keep(process)
        seen = Seen()
        if kind == "remote":
            try:
                text = process.communicate(timeout=2.5)[1]
            except subprocess.TimeoutExpired:
                return "allow", seen
        elif not wait_port(port, 8, lambda: process.poll() is None):
            text = process.communicate()[1]
            return ("no-login" if b"Permission denied (" in text else "closed"), Seen(stderr=text)
        else:
            seen.stdout = _talk(port, case, kind == "dynamic")
            text = end(process)
    text = quiet(text)
    seen.stderr, seen.status = text, None
    if b"prohibited" in text or b"forwarding failed" in text or b"forward request failed" in text \
            or b"unknown channel type" in text:
        return "deny", seen
    if b"open failed" in text or b"stdio forwarding failed" in text:
        return "connect-failed", seen
    return ("allow" if seen.stdout or kind == "remote" else "silent"), seen


def _talk(port, case, socks):
    """Connects to a local forward, says what the case says, and reads until the peer is done."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 5) as peer:
        peer.settimeout(4)
        try:
            if socks:
                host, number = case["to"].rsplit(":", 1)
                peer.sendall(b"\5\1\0")
                peer.recv(2)
                peer.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + int(number).to_bytes(2, "big"))
                peer.recv(10)
            if "send" in case:
                peer.sendall(case["send"].encode())
            if case.get("close_write"):
                peer.shutdown(socket.SHUT_WR)
            wanted = case.get("until", "").encode()
            while data := peer.recv(65536):
                got += data
                if wanted and got.endswith(wanted):
                    break
        except OSError:
            pass
    return got


# --- auth ------------------------------------------------------------------------------------------------

def auth_mode(rig, case, door):
    """Tries to log in as the case says, then to run a command; only a command's output counts as in."""
    seen = Seen()
    try:
        transport = rig.keep(door.dial())
    except NoLogin as error:
        return "deny", Seen(stderr=str(error).encode())
    for attempt in repeated(case["attempts"]):
        user = attempt.get("user", door.user)
        try:
            _attempt(rig, transport, user, attempt, door)
        except (paramiko.SSHException, EOFError, OSError) as error:
            seen.stderr += str(error).encode() + b"\n"
    time.sleep(case.get("pause", 0))
    try:
        if not transport.is_active():
            return "deny", seen
        # Asked for also where nobody is logged in: nothing may come of it.
        channel = transport.open_session(timeout=3 if transport.is_authenticated() else 0.6)
        raw_request(channel, "exec", packed(case.get("cmd", "echo inside")), 5)
        read_channel(channel, seen, 6)
    except (paramiko.SSHException, EOFError, OSError, Refused, TimeoutError) as error:
        seen.stderr += str(error).encode()
        return "deny", seen
    return ("deny" if seen.note else outcome_of(seen)), seen


def _attempt(rig, transport, user, attempt, door):
    method = attempt.get("method", "password")
    if method == "none":
        authenticate_none(transport, user)
    elif method == "password":
        transport.auth_password(user, rig.secret(attempt["secret"], door), fallback=False)
    elif method == "keyboard-interactive":
        secret = rig.secret(attempt["secret"], door)
        transport.auth_interactive(user, lambda title, text, prompts: [secret for _ in prompts])
    elif method == "offered-key":
        try:
            authenticate_none(transport, user)
        except paramiko.SSHException:
            pass
        offer_without_signature(transport, user, paramiko.Ed25519Key.from_private_key_file(str(rig.target.key)))
    elif method == "bad-signature":
        transport.auth_publickey(user, BadSigner.from_private_key_file(str(rig.target.key)))
    elif method == "targets-key":
        transport.auth_publickey(user, paramiko.Ed25519Key.from_private_key_file(str(rig.target.key)))
    elif method == "nothing":
        pass
    else:
        raise ValueError(f"unknown method {method}")


# --- streams ---------------------------------------------------------------------------------------------

def stream_mode(rig, case, door):
    """Much data; what came back is kept as length and hash."""
    stdin = _stdin(case)
    if case.get("client") == "paramiko":
        transport = rig.keep(door.login())
        if case.get("rekey"):
            transport.packetizer.REKEY_BYTES = case["rekey"]
        seen = paramiko_exec(transport, case["cmd"], stdin, slow=case.get("slow", 0.0), timeout=28)
    else:
        seen = openssh_exec(door, case["cmd"], stdin, options=case.get("options", ()), timeout=28)
    outcome = outcome_of(seen)
    if len(seen.stdout) > 1 << 16:
        seen.stdout = f"{len(seen.stdout)} {hashlib.sha256(seen.stdout).hexdigest()}".encode()
    return outcome, seen


MODES = {"exec": exec_mode, "shell": shell_mode, "sftp": sftp_mode, "scp": scp_mode, "channels": channels_mode,
         "forward": forward_mode, "auth": auth_mode, "stream": stream_mode}
