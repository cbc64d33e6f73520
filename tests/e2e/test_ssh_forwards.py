"""Forwards of OpenSSH's client through the gateway: each where it is permitted, and refused where it is not."""
import contextlib, os, pathlib, re, socket, struct, subprocess, threading, time

from harness import Skipped, check, eventually
from ssh_host import common, shared


def whole(peer):
    got = b""
    with contextlib.suppress(OSError):
        while data := peer.recv(1 << 16):
            got += data
    return got


def talk(peer, text=b"hello"):
    """What the service answers: it speaks first, echoes, and says `end` once its peer has ended what it sends."""
    peer.settimeout(15)
    first = peer.recv(6)
    if first != b"ready\n":
        return first
    peer.sendall(text)
    peer.shutdown(socket.SHUT_WR)
    return first + whole(peer)


def dial(to):
    if isinstance(to, int):
        return socket.create_connection(("127.0.0.1", to), 10)
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(to))
    return peer


@contextlib.contextmanager
def forwarding(place, *options, at, who="worker"):
    with place.running("ssh", "-F", place.config, "-N", "-oExitOnForwardFailure=yes", "-oLogLevel=INFO", *options, "gw", who=who) as client:
        if isinstance(at, int):
            check(common.wait_port(at, 15, lambda: client.poll() is None), "it does not listen",
                  client.poll() is not None and client.stderr.read())
        elif at:
            eventually(lambda: pathlib.Path(at).exists() or client.poll() is not None, f"{at} is there", 15)
        yield client


GOOD = b"ready\nhelloend\n"


def test_local_forwards_reach_what_is_permitted_alone(w):
    place, port, refused = shared(w), common.free_port(), common.free_port()
    with forwarding(place, "-L", f"{port}:127.0.0.1:{place.services.port}", "-L", f"{refused}:127.0.0.1:{place.services.other}",
                    at=refused) as client:
        for _ in range(3):
            with dial(port) as peer:
                check((got := talk(peer)) == GOOD, got)
        with dial(refused) as peer:
            check(talk(peer) == b"", "nothing comes from what is refused")
        big = os.urandom(5 << 20)
        with dial(port) as peer:
            check(peer.recv(6) == b"ready\n")
            sender = threading.Thread(target=lambda: (peer.sendall(big), peer.shutdown(socket.SHUT_WR)))
            sender.start()
            check((got := whole(peer)) == big + b"end\n", len(got))
            sender.join()
        client.terminate()
        told = client.stderr.read().decode()
        check("administratively prohibited" in told, told)


def test_a_client_whose_policy_names_no_endpoint_forwards_nothing(w):
    place, port = shared(w), common.free_port()
    with forwarding(place, "-L", f"{port}:127.0.0.1:{place.services.port}", at=port, who="narrow"):
        with dial(port) as peer:
            check(talk(peer) == b"")


def socks(port, host, to):
    peer = dial(port)
    peer.settimeout(15)
    peer.sendall(b"\5\1\0")
    check(peer.recv(2) == b"\5\0")
    peer.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + struct.pack(">H", to))
    return peer, peer.recv(10)


def test_dynamic_forwards_are_decided_by_destination(w):
    place, port = shared(w), common.free_port()
    with forwarding(place, "-D", str(port), at=port):
        for host in ("127.0.0.1", "localhost"):
            peer, answer = socks(port, host, place.services.port)
            with peer:
                check(answer[:2] == b"\5\0" and talk(peer) == GOOD, host, answer)
        for host, to in (("127.0.0.1", place.services.other), ("127.1", place.services.other), ("localhost", place.services.other),
                         ("0", place.services.other), ("2130706433", place.services.other)):
            peer, answer = socks(port, host, to)
            with peer:
                check(b"ready" not in answer + (talk(peer) if answer[:2] == b"\5\0" else b""), host, answer)


def test_remote_forwards_listen_at_the_target(w):
    place = shared(w)
    with forwarding(place, "-R", f"0:127.0.0.1:{place.services.port}", at=None) as client:
        line = client.stderr.readline().decode()
        found = re.search(r"Allocated port (\d+)", line)
        check(found, line)
        with dial(int(found[1])) as peer:
            check((got := talk(peer)) == GOOD, got)
    port = common.free_port()
    with forwarding(place, "-R", f"{port}:127.0.0.1:{place.services.port}", at=None, who="narrow") as client:
        check(client.wait(15) == 255 and b"remote port forwarding failed" in client.stderr.read())


def test_remote_forwards_end_with_their_client(w):
    place, port = shared(w), common.free_port()
    with forwarding(place, "-R", f"{port}:127.0.0.1:{place.services.port}", at=port):
        with dial(port) as peer:
            check(talk(peer) == GOOD)

    def gone():
        with contextlib.suppress(OSError):
            dial(port).close()
            return False
        return True
    eventually(gone, "the target listens no more", 10)


def test_unix_sockets_both_ways(w):
    place = shared(w)
    near, far = place.folder / "near.sock", place.folder / "far.sock"
    with forwarding(place, "-L", f"{near}:{place.services.path}", "-R", f"{far}:{place.services.path}", at=far) as client:
        check(client.poll() is None, client.poll() is not None and client.stderr.read())
        for path in (near, far):
            with dial(path) as peer:
                check((got := talk(peer)) == GOOD, path, got)
    refused = place.folder / "refused.sock"
    with forwarding(place, "-L", f"{refused}:{place.services.other_path}", at=refused):
        with dial(refused) as peer:
            check(talk(peer) == b"")


def test_a_stream_to_one_endpoint_is_what_ssh_w_gives(w):
    place = shared(w)
    done = place.run("ssh", "-F", place.config, "-W", f"127.0.0.1:{place.services.port}", "gw", stdin="hello")
    check((done.returncode, done.stdout) == (0, GOOD.decode()), done)
    done = place.run("ssh", "-F", place.config, "-oLogLevel=INFO", "-W", f"127.0.0.1:{place.services.other}", "gw", stdin="hello")
    check(done.returncode != 0 and "ready" not in done.stdout and "prohibited" in done.stderr, done)


def test_a_jump_through_the_gateway_reaches_the_next_host(w):
    place = shared(w)
    done = place.ssh("echo beyond", to="second")
    check((done.returncode, done.stdout) == (0, "beyond\n"), done)
    source = place.folder / "jump-source"
    source.write_bytes(os.urandom(2 << 20))
    up = place.run("scp", "-F", place.config, source, f"second:{place.folder}/jump-copy")
    check(up.returncode == 0 and (place.folder / "jump-copy").read_bytes() == source.read_bytes(), up)
    refused = place.ssh("echo beyond", to="second", who="narrow")
    check(refused.returncode == 255 and refused.stdout == "", refused)


def test_the_agent_is_seen_at_the_target_where_permitted(w):
    place = shared(w)
    sock = place.folder / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        eventually(sock.exists, "the agent is up")
        env = {"SSH_AUTH_SOCK": str(sock)}
        check(place.run("ssh-add", place.second.folder / "user", env=env).returncode == 0)
        public = (place.second.folder / "user.pub").read_text().split()[1]
        seen = place.ssh("-A", "ssh-add -L", env=env)
        check(seen.returncode == 0 and public in seen.stdout, seen)
        # It signs there, too: from the target on to the second host.
        hop = place.ssh("-A", f"ssh -F /dev/null -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR "
                        f"-oBatchMode=yes -p {place.second.port} root@127.0.0.1 echo hopped", env=env)
        check((hop.returncode, hop.stdout) == (0, "hopped\n"), hop)
        without = place.ssh("printenv SSH_AUTH_SOCK", env=env)
        check(without.returncode == 1 and without.stdout == "", without)
        refused = place.ssh("-A", "printenv SSH_AUTH_SOCK", env=env, who="narrow")
        check(refused.returncode == 1 and refused.stdout == "", refused)
    finally:
        agent.terminate()
        agent.wait(10)


X_PROGRAM = r"""
import os, socket, struct, subprocess
display = os.environ["DISPLAY"]
number = int(display.rsplit(":", 1)[1].split(".")[0])
cookie = bytes.fromhex(subprocess.run(["xauth", "list", display], capture_output=True, text=True).stdout.split()[-1])
name = b"MIT-MAGIC-COOKIE-1"
peer = socket.create_connection(("localhost", 6000 + number), 10)
peer.sendall(struct.pack("<BxHHHHxx", 0x6C, 11, 0, len(name), len(cookie)) + name + b"\0\0" + cookie)
print(peer.recv(64).decode())
"""


def test_a_display_is_shown_where_permitted(w):
    place = shared(w)
    number, cookie, seen = next(n for n in range(60, 99) if not pathlib.Path(f"/tmp/.X11-unix/X{n}").exists()), os.urandom(16), []
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 6000 + number))
    listener.listen(4)

    def display():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(10)
                    hello = b""
                    while len(hello) < 48 and (data := peer.recv(64)):
                        hello += data
                    seen.append(hello)
                    peer.sendall(b"shown")

    threading.Thread(target=display, daemon=True).start()
    try:
        env = {"DISPLAY": f"127.0.0.1:{number}", "XAUTHORITY": str(place.folder / "xauthority")}
        added = place.run("xauth", "add", env["DISPLAY"], ".", cookie.hex(), env=env)
        if added.returncode:
            raise Skipped(f"no xauth: {added.stderr}")
        (place.folder / "x.py").write_text(X_PROGRAM)
        done = place.ssh("-X", "-oForwardX11Trusted=yes", f"python3 {place.folder}/x.py", env=env)
        check((done.returncode, done.stdout) == (0, "shown\n"), done, seen)
        # The display's own cookie never left the client: what the target had was exchanged there.
        check(len(seen) == 1 and seen[0][-16:] == cookie, seen)
        refused = place.ssh("-X", "-oForwardX11Trusted=yes", "printenv DISPLAY", env=env, who="narrow")
        check(refused.returncode == 1 and refused.stdout == "" and len(seen) == 1, refused)
    finally:
        listener.close()
