"""Targets and clients that do not keep to SSH: time and memory stay bounded, others are served, and clients are told."""
import atexit, concurrent.futures, contextlib, os, pathlib, random, socket, struct, subprocess, threading, time

import paramiko

import ssh_hostile
from harness import check, eventually
from ssh_host import Place

CONNECT, LOGIN = 3, 4
LIMITS = f'[limits]\nconnect = "{CONNECT}s"\nlogin = "{LOGIN}s"\nhalf_open = 600\n'
ROOM = 32 << 20


class Hostile(Place):
    """A gateway that has those targets, beside one that is good."""

    def __init__(self, w):
        super().__init__(w, limits=LIMITS)
        self.targets = ssh_hostile.Targets(self.host.folder / "host")
        (self.gateway.dir / "password").write_text("secret")
        files = [f'@id("files-{name}") permit (principal in Group::"workers", action == Action::"sftp-read", resource in Path::"{name}/");\n'
                 for name in ssh_hostile.FILES]
        (self.gateway.dir / "policies" / "files.cedar").write_text("".join(files))
        with open(self.gateway.config, "a") as config:
            for name, port in self.targets.ports.items():
                config.write(f'\n[[resource]]\nname = "{name}"\nprotocol = "ssh"\naddress = "127.0.0.1:{port}"\nhost_key = "{self.host.key}"\n'
                             f'credential = {{ kind = "static", username = "root", password = {{ file = "{self.gateway.dir}/password" }} }}\n')

    def ask(self, name, *argv, timeout=25, **more):
        """One command; (status, seconds, stdout, stderr)."""
        began = time.monotonic()
        done = self.run("ssh", "-F", self.config, "-l", f"root@{name}", "gw", *(argv or ("echo x",)), timeout=timeout, **more)
        return done.returncode, time.monotonic() - began, done.stdout, done.stderr

    def fine(self):
        check(self.gateway.alive(), "the gateway lives")
        began = time.monotonic()
        check(self.ssh("echo fine").stdout == "fine\n" and time.monotonic() - began < 5, "others are served")


def hostile(w):
    place = getattr(w, "ssh_hostile", None)
    if place is None:
        place = w.ssh_hostile = Hostile(w)
        atexit.register(place.stop)
        place.start()
    if not place.gateway.alive():
        place.gateway.start()
    place.fine()
    return place


def test_targets_that_never_come_to_a_login_are_given_up(w):
    place = hostile(w)
    before = place.memory()
    names = [*ssh_hostile.RAW, "silent_at_the_login", "refuses", "asks_for_ever"]
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        seen = dict(zip(names, pool.map(place.ask, names)))
    for name, (status, took, out, told) in seen.items():
        check(status == 77 and out == "" and took < CONNECT + 6, name, status, took, out, told)
        check('"code":"denied"' in told and "can't be reached" in told and "secret" not in told, name, told)
    check(place.memory() - before < ROOM, f"{(place.memory() - before) >> 20} MiB more")
    place.fine()


def test_targets_that_refuse_after_the_login_are_told_as_such(w):
    place = hostile(w)
    status, took, out, told = place.ask("opens_no_channel")
    check(status == 77 and took < 5 and out == "" and "can't be reached" in told, status, took, told)
    status, took, out, told = place.ask("refuses_the_command")
    check(status == 255 and took < 5 and out == "" and "the target refused the request" in told, status, took, told)
    status, took, out, told = place.ask("closes_without_a_word")
    check(status not in (0, None) and took < 5 and out == "", status, took, told)
    place.fine()


def test_a_target_that_opens_no_channel_is_given_up(w):
    place = hostile(w)
    status, took, out, told = place.ask("silent_at_the_channel")
    check(status == 77 and took < CONNECT + 6 and "can't be reached" in told, status, took, told)
    place.fine()


def test_floods_of_a_target_cost_bounded_memory_and_end(w):
    place = hostile(w)
    before = place.memory()
    for name in ("floods_with_channels", "floods_with_requests", "ends_again_and_again", "adjusts_beyond_all_windows",
                 "speaks_of_unknown_channels", "says_on_odd_streams"):
        status, took, out, told = place.ask(name, timeout=60)
        # It may be cut off; what it says at last may be lost then, but nobody waits for it, and nothing is made up.
        check(took < 40 and out in ("done\n", ""), name, status, took, out[-100:], told[-300:])
        check(place.memory() - before < ROOM, name, f"{(place.memory() - before) >> 20} MiB more")
    place.fine()


def test_packets_of_odd_lengths_end_one_session_at_most(w):
    place = hostile(w)
    for name in ssh_hostile.ODD:
        status, took, out, told = place.ask(f"odd_length_{name}")
        check(took < 10 and out in ("done\n", ""), name, status, took, told)
    for name in ssh_hostile.FILES:
        argv = ["sftp", "-F", place.config, "-oBatchMode=no", "-b", "/dev/stdin", f"-oUser=root@{name}", "gw"]
        with place.running(*argv, stdin=subprocess.PIPE) as client:
            client.stdin.write(b"ls /\n")
            client.stdin.close()
            client.stdin = None
            status, told = client.wait(15), client.stderr.read().decode()
            check(status != 0 and "Connection closed" in told and "no SFTP is permitted" not in told, name, status, told)
    place.fine()


def test_a_target_that_ignores_windows_fills_no_memory(w):
    place = hostile(w)
    before = place.memory()
    with place.running("ssh", "-F", place.config, "-l", "root@ignores_windows", "gw", "echo x") as client:
        check(client.stdout.read(1) == b"x")
        most = 0
        for _ in range(20):
            time.sleep(0.25)
            most = max(most, place.memory() - before)
        check(most < ROOM, f"{most >> 20} MiB more")
        place.fine()


def test_a_target_that_takes_nothing_fills_no_memory(w):
    place = hostile(w)
    before, zero = place.memory(), open("/dev/zero", "rb")
    with place.running("ssh", "-F", place.config, "-l", "root@takes_nothing", "gw", "echo x", stdin=zero) as client:
        most = 0
        for _ in range(20):
            time.sleep(0.25)
            most = max(most, place.memory() - before)
        check(client.poll() is None, "it still sends", client.poll())
        check(most < ROOM, f"{most >> 20} MiB more")
        place.fine()
        check(client.wait(25) != 0, "it hears that the target is gone")


# --- clients that have not logged in -----------------------------------------------------------------------

def closed(peer, seconds):
    """Within how many seconds the gateway closes; none: not so soon."""
    began = time.monotonic()
    peer.settimeout(seconds)
    try:
        while peer.recv(1 << 16):
            peer.settimeout(max(0.01, seconds - (time.monotonic() - began)))
    except TimeoutError:
        return None
    except OSError:
        pass
    return time.monotonic() - began


def dial(place, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", place.gateway.port), 10, (source, 0))


def test_half_open_connections_are_bounded_in_time_and_memory_and_others_log_in(w):
    place = hostile(w)
    before, began = place.memory(), time.monotonic()
    with contextlib.ExitStack() as stack:
        # More than one address may hold; there is room for another one all the same.
        peers = [stack.enter_context(dial(place, "127.0.0.2")) for _ in range(700)]
        for number, peer in enumerate(peers):
            if number % 2:
                with contextlib.suppress(OSError):
                    peer.sendall(b"SSH-2.0-x\r\n")
        place.fine()
        grown = (place.memory() - before) / 450
        check(grown < 256 << 10, f"{grown / 1024:.0f} KB for each that is half open")
        for number, peer in enumerate(peers):
            left = LOGIN + 3 - (time.monotonic() - began)
            check(closed(peer, max(left, 0.2)) is not None, f"connection {number} is still open after {time.monotonic() - began:.1f} s")


def test_what_is_no_ssh_is_closed_before_the_login_is_over(w):
    place = hostile(w)
    version, kex = b"SSH-2.0-x\r\n", b"\x14" + os.urandom(16)
    floods = {
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
        "tls": bytes.fromhex("1603010200010001fc0303") + os.urandom(500),
        "one long line": b"x" * (1 << 20),
        "many lines": b"x\r\n" * 100_000,
        "zeros": b"\0" * 100_000,
        "old version": b"SSH-1.5-x\r\n" + b"\0" * 100,
        "giant packet": version + b"\xff\xff\xff\xff" + b"\0" * 100_000,
        "packet of nothing": version + b"\0" * 100_000,
        "padding beyond the packet": version + struct.pack(">IB", 12, 255) + b"\0" * 100,
        "ignored packets": version + ssh_hostile.packet(b"\x02" + struct.pack(">I", 1000) + b"i" * 1000) * 2000,
        "lists without end": version + ssh_hostile.packet(kex + struct.pack(">I", 0xFFFFFFFF) + b"none"),
        "channel before keys": version + ssh_hostile.packet(b"\x5a" + struct.pack(">I", 7) + b"session" + b"\0" * 12),
        "login before keys": version + ssh_hostile.packet(b"\x32" + struct.pack(">I", 4) + b"root" + b"\0" * 20),
    }
    before = place.memory()

    def one(name):
        with dial(place) as peer:
            with contextlib.suppress(OSError):
                peer.settimeout(LOGIN + 3)
                peer.sendall(floods[name])
            return name, closed(peer, LOGIN + 3)

    with concurrent.futures.ThreadPoolExecutor(len(floods)) as pool:
        for name, took in pool.map(one, floods):
            check(took is not None, name, "is still open")
    check(place.memory() - before < ROOM, f"{(place.memory() - before) >> 20} MiB more")
    place.fine()


def test_a_client_that_sends_a_byte_now_and_then_gains_no_time(w):
    place = hostile(w)
    with dial(place) as peer:
        began, text = time.monotonic(), iter(b"SSH-2.0-" + b"slow" * 1000)
        with contextlib.suppress(OSError):
            while time.monotonic() - began < LOGIN + 4:
                peer.sendall(bytes([next(text)]))
                time.sleep(0.1)
        check(time.monotonic() - began < LOGIN + 3, "it is closed by then")


def test_key_exchanges_that_were_tampered_with_end_one_connection_alone(w):
    place, dice = hostile(w), random.Random(8)
    with dial(place) as peer:
        peer.sendall(b"SSH-2.0-x\r\n")
        peer.settimeout(5)
        reader = peer.makefile("rb")
        check(reader.readline().startswith(b"SSH-2.0-"))
        # The gateway's own, which a client could have sent as well.
        size = reader.read(4)
        whole = size + reader.read(struct.unpack(">I", size)[0])
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        with dial(place) as peer, contextlib.suppress(OSError):
            peer.sendall(b"SSH-2.0-x\r\n" + changed[:dice.choice([len(changed), dice.randrange(len(changed))])])
    place.fine()


def test_nothing_opens_and_guesses_are_counted_before_a_login(w):
    place = hostile(w)
    transport = paramiko.ServiceRequestingTransport(dial(place))
    transport.daemon = True
    try:
        transport.start_client(timeout=10)
        for _ in range(12):
            try:
                transport.auth_password("root@web-1", "not a token", fallback=False)
                check(False, "it is in")
            except (paramiko.SSHException, EOFError):
                if not transport.is_active():
                    break
        eventually(lambda: not transport.is_active(), "it is cut off", LOGIN + 3)
    finally:
        transport.close()
    for message in ("session", "direct-tcpip"):
        transport = paramiko.Transport(dial(place))
        transport.daemon = True
        try:
            transport.start_client(timeout=10)
            channel = transport.open_channel(message, ("127.0.0.1", place.services.port), ("127.0.0.1", 1), timeout=LOGIN + 3)
            check(False, "a channel is open", channel)
        except (paramiko.SSHException, EOFError, OSError):
            pass
        finally:
            transport.close()
    place.fine()
