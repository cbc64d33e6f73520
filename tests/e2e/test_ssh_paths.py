"""Long paths, keys that change within a transfer, and what is left when somebody is killed."""
import hashlib, json, os, pathlib, signal, subprocess, threading, time

from harness import check, eventually
from ssh_host import Relay, own, shared
from test_ssh_libraries import by_paramiko

DELAY = 0.02
SIZE = 12 << 20


def test_keys_change_many_times_on_a_long_path(w):
    with own(w, sshd="RekeyLimit 1M\nLogLevel DEBUG1") as place:
        far = Relay(place.host.port, DELAY)
        place.through(far.port)
        place.start()
        near = Relay(place.gateway.port, DELAY)
        config = place.folder / "long"
        place.write_config(config, near.port, "RekeyLimit 1M")
        whole = os.urandom(SIZE)
        try:
            for name, argv, given, wanted in (
                    ("both ways", ["cat"], whole, whole),
                    ("up", ["sha256sum"], whole, f"{hashlib.sha256(whole).hexdigest()}  -\n".encode()),
                    ("down", [f"head -c {SIZE} /dev/zero"], None, b"\0" * SIZE)):
                began = time.monotonic()
                keys = place.host.log().count("SSH2_MSG_NEWKEYS received")
                done = place.run("ssh", "-F", config, "-oLogLevel=DEBUG1", "gw", *argv, stdin=given, text=False, timeout=60)
                changed = done.stderr.count(b"SSH2_MSG_NEWKEYS received"), place.host.log().count("SSH2_MSG_NEWKEYS received") - keys
                check(min(changed) >= 6, name, "keys changed so often at the client and at the target:", changed)
                check(done.returncode == 0 and done.stdout == wanted, name, done.returncode, len(done.stdout), done.stderr[-200:],
                      f"{time.monotonic() - began:.1f} s")
            source, back = place.folder / "source", place.folder / "back"
            source.write_bytes(whole)
            batch = f"put {source} {place.tree}/up\nget {place.tree}/up {back}\n"
            done = place.run("sftp", "-F", config, "-oBatchMode=no", "-b", "-", "gw", timeout=60, stdin=batch)
            check(done.returncode == 0 and back.read_bytes() == whole, done)
            # Keystrokes go through while keys change.
            with place.running("ssh", "-F", config, "-tt", "gw", stdin=subprocess.PIPE) as client:
                client.stdin.write(b"stty -echo; head -c 3000000 /dev/zero | tr '\\0' x | fold -w 100; echo last-line; exit 4\n")
                client.stdin.flush()
                out, _ = client.communicate(timeout=60)
                check(client.returncode == 4 and b"last-line" in out and out.count(b"x") >= 3_000_000, client.returncode, out[-100:])
        finally:
            near.close()
            far.close()


def test_a_killed_gateway_ends_its_clients_and_leaves_nothing_at_the_target(w):
    with own(w) as place:
        place.start()
        mark = f"mark-{time.monotonic_ns()}"
        up = place.folder / "up"
        with open(up, "wb") as big:
            big.truncate(8 << 30)
        runs = [("ssh", "-F", place.config, "gw", f"sh -c 'while echo {mark}; do :; done'"),
                ("ssh", "-F", place.config, "gw", f"sh -c 'cat; : {mark}'"),
                ("ssh", "-F", place.config, "-tt", "gw", f"sh -c 'sleep 601; echo {mark}'"),
                ("sftp", "-F", place.config, "-oBatchMode=no", "-b", "/dev/stdin", "gw")]
        sink = open(os.devnull, "wb")
        given = {"stdin": subprocess.PIPE}
        with (place.running(*runs[0], stdout=sink) as a, place.running(*runs[1], **given) as b,
              place.running(*runs[2], **given) as c, place.running(*runs[3], **given) as d):
            d.stdin.write(f"put {up} {place.tree}/up\n".encode())
            d.stdin.close()
            d.stdin = None
            eventually(lambda: (place.tree / "up").exists() and (place.tree / "up").stat().st_size > 1 << 20, "the transfer runs", 20)
            running = lambda: subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True).stdout.split()
            # Each command is on the target once and in its client's arguments once.
            eventually(lambda: len(running()) >= 6, "the commands run", 20)
            leases = lambda: json.loads(place.gateway.cli("leases", "list", "--output", "json").stdout or "[]")
            check(len(leases()) == 4, "a lease each", leases())
            os.killpg(place.gateway.process.pid, signal.SIGKILL)
            place.gateway.process.wait(10)
            for client in (a, b, c, d):
                check(client.wait(15) not in (None, 0), client.args)
        eventually(lambda: not running(), "nothing of it runs at the target", 15)
        size = (place.tree / "up").stat().st_size
        place.gateway.start()
        eventually(lambda: not leases(), "leases are swept", 20)
        check((place.tree / "up").stat().st_size == size, "nothing writes on")
        check(place.ssh("echo again").stdout == "again\n")
        check(place.gateway.cli("audit", "verify").returncode == 0)


def test_a_killed_client_ends_the_input_of_what_it_ran(w):
    place = shared(w)
    far = place.tree / "killed-client"
    with place.running("ssh", "-F", place.config, "gw", f"sh -c 'cat >{far}; echo the end >>{far}'", stdin=subprocess.PIPE) as client:
        client.stdin.write(b"begun\n")
        client.stdin.flush()
        eventually(lambda: far.exists() and far.read_text() == "begun\n", "it runs", 15)
        client.send_signal(signal.SIGKILL)
        client.wait(10)
        eventually(lambda: far.read_text() == "begun\nthe end\n", "its input ends", 10)


def test_a_target_that_is_killed_is_an_end_and_no_silence(w):
    with own(w) as place:
        place.start()
        with place.running("ssh", "-F", place.config, "gw", "sleep 600") as client:
            eventually(lambda: "Accepted publickey" in place.host.log(), "it is there", 15)
            time.sleep(1)
            place.host.process.kill()
            place.host.process.wait(10)
            check(client.wait(15) not in (None, 0), "the client hears of it")
        ended = place.ssh("echo x")
        check(ended.returncode == 77 and "can't be reached" in ended.stderr, ended)
        found = place.gateway.cli("audit", "search", "--output", "json").stdout
        check("sleep 600" in found, found[-500:])


def test_a_connection_that_breaks_under_a_command_is_told_and_no_success(w):
    with own(w) as place:
        place.start()
        with place.running("ssh", "-F", place.config, "gw", "sleep 601") as client:
            eventually(lambda: "Accepted publickey" in place.host.log(), "it is there", 15)
            time.sleep(1)
            subprocess.run(["pkill", "-KILL", "-P", str(place.host.process.pid)], check=True)
            check(client.wait(15) == 255, client.returncode)
            told = client.stderr.read()
            check("the connection to the target broke" in (told if isinstance(told, str) else told.decode()), told)
        found = lambda: place.gateway.cli("audit", "search", "--output", "json").stdout
        eventually(lambda: "the connection to the target broke" in found(), "the trail has how it ended", 10)


def u32(*numbers):
    return b"".join(n.to_bytes(4, "big") for n in numbers)


def text(value):
    value = os.fsencode(value)
    return u32(len(value)) + value


def packet(kind, body):
    return u32(1 + len(body)) + bytes([kind]) + body


def test_a_link_that_is_made_in_the_same_write_is_not_followed(w):
    """SYMLINK and OPEN of it in one write: resolved before the link is there, and opened after, it would lead out of the tree."""
    place = shared(w)
    with by_paramiko(place) as client:
        secret = place.folder / "outside"
        secret.write_text("not for you")
        for flags in (1, 1 | 8, 2 | 8):
            link = place.tree / f"link-{flags}"
            channel = client.get_transport().open_session()
            channel.settimeout(20)
            channel.invoke_subsystem("sftp")
            channel.sendall(packet(1, u32(3)))
            answers = b""

            def answer():
                nonlocal answers
                while len(answers) < 4 or len(answers) < 4 + int.from_bytes(answers[:4], "big"):
                    piece = channel.recv(65536)
                    check(piece, "the channel ended")
                    answers += piece
                end = 4 + int.from_bytes(answers[:4], "big")
                one, answers = answers[4:end], answers[end:]
                return one

            check(answer()[0] == 2)
            channel.sendall(packet(20, u32(1) + text(secret) + text(link)) + packet(3, u32(2) + text(link) + u32(flags, 0)))
            check(answer()[:9] == bytes([101]) + u32(1, 0), "the link is made")
            opened = answer()
            check(opened[:9] == bytes([101]) + u32(2, 3), "refused:", opened)
            channel.close()
        check(secret.read_text() == "not for you")


def test_scp_gives_nothing_a_mode_that_took_the_place_of_a_folder(w):
    """The target's scp does it by name when a folder is left, or when its input ends."""
    place = shared(w)
    with by_paramiko(place) as client:
        secret = place.folder / "kept"
        secret.mkdir(mode=0o700)
        for leave in (True, False):
            folder = place.tree / f"made-{leave}"
            channel = client.get_transport().open_session()
            channel.settimeout(20)
            channel.exec_command(f"scp -rpt {place.tree}")
            check(channel.recv(1) == b"\0")
            for line in (b"T1 0 1 0\n", f"D0777 0 {folder.name}\n".encode()):
                channel.sendall(line)
                check(channel.recv(1) == b"\0", line)
            folder.rmdir()
            folder.symlink_to(secret)
            if leave:
                channel.sendall(b"E\n")
                check(channel.recv(1) == b"\2", "that is the end")
            channel.close()
            time.sleep(1)
            found = secret.stat()
            check(found.st_mode & 0o777 == 0o700 and found.st_mtime > 1, leave, oct(found.st_mode), found.st_mtime)
