#!/usr/bin/env python3
"""SSH directly, through a stock OpenSSH jump host (`ssh -J`), and through the gateway, measured in one run.

    ssh.py --gateway PATH [--rounds 3] [--mib 1024] [--keys 500] [--idle 200] [--logins 20] [--quick]
           [--only copy,sftp,keys,login,idle] [--cipher NAME]

Client, jump host, gateway and target share the machine. All ways lead to the same private sshd by the same client; within a round
they follow each other in an order that rotates. A jump host carries what is encrypted from end to end, the gateway decrypts, decides
and encrypts again; the jump host's own login is part of `ssh -J`. `cpu` is the processor time of what stands in the middle, with what
it started. Each pair
of peers agrees upon a cipher as they do by themselves, unless one is named for all: the sshds then speak no other.
"""
import argparse, contextlib, os, pathlib, pty, re, select, shutil, signal, statistics, subprocess, sys, tempfile, time, tty
import rig

PARTS = ["copy", "sftp", "keys", "login", "idle"]
KEX, KEY = "curve25519-sha256", "ssh-ed25519"
POLICY = """
@id("bench") permit (principal, action in [Action::"connect", Action::"exec", Action::"shell"], resource == Resource::"bench");
@id("files") permit (principal, action in [Action::"sftp-read", Action::"sftp-write"], resource in Path::"bench/");
"""
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin") or "/usr/sbin/sshd"


class Sshd:
    """A private sshd, run as whoever measures."""

    def __init__(self, folder, middle, name, cipher):
        self.dir, self.port = folder / name, rig.free_port()
        self.dir.mkdir()
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / key], check=True)
        self.host_key = " ".join((self.dir / "host.pub").read_text().split()[:2])
        config = self.dir / "sshd_config"
        config.write_text(f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.dir}/host\nAuthorizedKeysFile {self.dir}/user.pub\n"
                          f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
                          f"{f'Ciphers {cipher}' if cipher else ''}\nMaxSessions 1000\nMaxStartups 1000\nPidFile none\nPrintMotd no\nPrintLastLog no\nLogLevel ERROR\n"
                          f"Subsystem sftp internal-sftp\n")
        if rig.root():
            os.makedirs("/run/sshd", exist_ok=True)
        self.process = middle.start(name, [SSHD, "-D", "-e", "-f", config], self.port)


def gateway(folder, middle, binary, target):
    home = folder / "gateway"
    (home / "policies").mkdir(parents=True)
    (home / "policies" / "bench.cedar").write_text(POLICY)
    port, config = rig.free_port(), home / "gateway.toml"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    config.write_text(f'data_dir = "data"\n[listen]\nssh = "127.0.0.1:{port}"\n[ssh]\nchannels = 1000\n[policy]\ndir = "policies"\n'
                      f'[[resource]]\nname = "bench"\nprotocol = "ssh"\naddress = "127.0.0.1:{target.port}"\nhost_key = "{target.host_key}"\n'
                      f'credential = {{ kind = "static", username = "{user}", private_key = {{ file = "{target.dir}/user" }} }}\n')
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    process = middle.start("gateway", [binary, "serve", "--config", config], port, env=clean)
    return port, process, f"{user}@bench", middle.token(binary, "alice")


class Way:
    """One way to the target, by name of a host in the client's configuration."""

    def __init__(self, name, config, env, process=None):
        self.name, self.config, self.env, self.process = name, config, env, process

    def command(self, *argv, program="ssh"):
        return [program, "-F", str(self.config), *argv]

    def ssh(self, *argv):
        return self.command(*argv[:-1], self.name, argv[-1])

    def tree(self):
        """The process in the middle, and what it started."""
        if not self.process:
            return []
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                    found += map(int, task.read_text().split())
        return found

    def cpu(self):
        total = 0
        for pid in self.tree():
            try:
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                # With those of its children that have ended.
                total += sum(int(fields[n]) for n in (11, 12, 13, 14))
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has just ended
        return total / rig.TICKS

    def memory(self):
        """What is its own (proportional: pages that several processes share count once), in bytes."""
        total = 0
        for pid in self.tree():
            try:
                total += int(re.search(r"^Pss:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass
        return total * 1024


def finish(way, argv, **more):
    done = subprocess.run(argv, env=way.env, stderr=subprocess.PIPE, timeout=600, **more)
    if done.returncode:
        sys.exit(f"bench: {argv[0]} by way of {way.name} ended with {done.returncode}: {done.stderr[-500:]}")


def timed(way, argv, **more):
    """(seconds, processor seconds of the middle)."""
    before, start = way.cpu(), time.monotonic()
    finish(way, argv, **more)
    return time.monotonic() - start, way.cpu() - before


def spoken(way):
    """The cipher that a client by itself agrees upon with whom it logs in to last."""
    done = subprocess.run(way.ssh("-oLogLevel=DEBUG1", "true"), env=way.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    found = re.findall(r"kex: server->client cipher: (\S+)", done.stderr)
    return found[-1] if found else sys.exit(f"bench: no cipher by way of {way.name}: {done.stderr[-500:]}")


def copy(way, args):
    with open(os.devnull, "wb") as null:
        took, cpu = timed(way, way.ssh(f"cat {args.big}"), stdin=subprocess.DEVNULL, stdout=null)
    return args.mib / took, cpu * 1024 / args.mib


def sftp(way, args, up):
    batch = f"put {args.big} {args.folder}/up\n" if up else f"get {args.big} {args.folder}/down\n"
    argv = way.command("-q", "-oBatchMode=no", "-b", "-", way.name, program="sftp")
    took, cpu = timed(way, argv, input=batch.encode(), stdout=subprocess.DEVNULL)
    got = args.folder / ("up" if up else "down")
    if got.stat().st_size != args.mib << 20:
        sys.exit(f"bench: {got} has {got.stat().st_size} bytes by way of {way.name}")
    got.unlink()
    return args.mib / took, cpu * 1024 / args.mib


def keys(way, args):
    """Milliseconds from a keystroke to its echo by the target's terminal: the median of one login's."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    client = subprocess.Popen(way.command("-tt", way.name, "cat"), env=way.env, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
                              start_new_session=True)
    os.close(theirs)
    try:
        def read(seconds):
            if not select.select([ours], [], [], seconds)[0]:
                sys.exit(f"bench: no echo by way of {way.name}")
            return os.read(ours, 4096)

        os.write(ours, b"!")
        while b"!" not in read(30):
            pass
        time.sleep(0.5)
        took = []
        for n in range(args.keys):
            key = bytes([ord("a") + n % 26])
            start = time.perf_counter()
            os.write(ours, key)
            while key not in read(10):
                pass
            took.append((time.perf_counter() - start) * 1000)
            time.sleep(0.002)
            if n % 60 == 59:  # a terminal's line has an end
                os.write(ours, b"\n")
                time.sleep(0.02)
                while select.select([ours], [], [], 0.02)[0]:
                    os.read(ours, 4096)
        return statistics.median(took)
    finally:
        client.kill()
        client.wait()
        os.close(ours)


def login(way, args):
    """Milliseconds for a connection, a login and `true`: the median."""
    took = []
    for _ in range(args.logins):
        took.append(timed(way, way.ssh("true"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)[0] * 1000)
    return statistics.median(took)


def idle(way, args):
    """KB for each connection that is logged in and has no channel: what the middle grew by."""
    before, clients = way.memory(), []
    try:
        for _ in range(args.idle):
            clients.append(subprocess.Popen(way.command("-N", "-oServerAliveInterval=0", way.name), env=way.env, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(0.03)
        wait_logged_in(way, args.idle)
        if any(client.poll() is not None for client in clients):
            sys.exit(f"bench: a connection by way of {way.name} ended")
        return (way.memory() - before) / args.idle / 1024
    finally:
        for client in clients:
            client.kill()
        for client in clients:
            client.wait()
        time.sleep(2)


def wait_logged_in(way, count):
    """Until processor time stands still: nobody logs in any more."""
    end, last = time.monotonic() + 60 + count / 5, -1.0
    while time.monotonic() < end:
        now = way.cpu()
        if now - last < 0.02:
            return
        last = now
        time.sleep(2)
    sys.exit(f"bench: logins by way of {way.name} do not come to an end")


def client_config(host, port, user, **more):
    lines = {"HostName": "127.0.0.1", "Port": port, "User": user, "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null",
             "LogLevel": "ERROR", "KexAlgorithms": KEX, "HostKeyAlgorithms": KEY, "Compression": "no", **more}
    return f"Host {host}\n" + "".join(f"  {key} {value}\n" for key, value in lines.items())


def spread(values, digits):
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}..{max(values):,.{digits}f}]"


def measure(args, ways):
    """(what, unit, digits, whether more is better, function)."""
    if "copy" in args.only:
        yield f"cat of {args.mib} MiB", "MiB/s", 0, True, lambda way: copy(way, args)
    if "sftp" in args.only:
        yield f"sftp up, {args.mib} MiB", "MiB/s", 0, True, lambda way: sftp(way, args, True)
        yield f"sftp down, {args.mib} MiB", "MiB/s", 0, True, lambda way: sftp(way, args, False)
    if "keys" in args.only:
        yield f"echo of a keystroke, median of {args.keys}", "ms", 3, False, lambda way: (keys(way, args), None)
    if "login" in args.only:
        yield f"login and `true`, median of {args.logins}", "ms", 1, False, lambda way: (login(way, args), None)


def show(title, unit, digits, more, results):
    print(f"{title}")
    base = {name: [value for value, _ in pairs] for name, pairs in results.items()}
    for name, pairs in results.items():
        values = base[name]
        ratio = lambda other: statistics.median(mine / of for mine, of in zip(values, base[other]))
        text = f"  {name:8} {spread(values, digits)} {unit}"
        if name != "direct":
            beyond = statistics.median(values) - statistics.median(base["direct"])
            text += f", of direct {ratio('direct'):.2f}" if more else f", beyond direct {beyond:+.{digits}f} {unit}"
        if name == "gateway":
            text += f", of jump {ratio('jump'):.2f}"
        if pairs[0][1] is not None and name != "direct":
            text += f", {statistics.median(cpu for _, cpu in pairs):.2f} s of processor a GiB"
        print(text, flush=True)


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True, type=pathlib.Path)
    ask.add_argument("--rounds", type=int, default=3)
    ask.add_argument("--mib", type=int, default=1024)
    ask.add_argument("--keys", type=int, default=500)
    ask.add_argument("--idle", type=int, default=200)
    ask.add_argument("--logins", type=int, default=20)
    ask.add_argument("--only", type=lambda text: text.split(","), default=PARTS, help=f"of {','.join(PARTS)}")
    ask.add_argument("--cipher", help="the only one on every connection (chacha20-poly1305@openssh.com)")
    ask.add_argument("--quick", action="store_true", help="one round of little, to see that it works")
    args = ask.parse_args()
    if set(args.only) - set(PARTS):
        sys.exit(f"bench: --only takes {', '.join(PARTS)}")
    if args.quick:
        args.rounds, args.mib, args.keys, args.idle, args.logins = 1, 64, 50, 20, 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leave nothing behind
    args.gateway = args.gateway.resolve()
    folder = args.folder = pathlib.Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    try:
        with rig.Middle(folder, 0) as middle:
            run(args, folder, middle)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(args, folder, middle):
    target, jump = (Sshd(folder, middle, name, args.cipher) for name in ("target", "jump-host"))
    port, process, user, token = gateway(folder, middle, args.gateway, target)
    config, ask = folder / "ssh_config", folder / "askpass"
    ask.write_text('#!/bin/sh\nprintf "%s\\n" "$BENCH_TOKEN"\n')
    ask.chmod(0o700)
    me = user.partition("@")[0]
    own = {"IdentityFile": target.dir / "user", "IdentitiesOnly": "yes"}
    one = {"Ciphers": args.cipher} if args.cipher else {}
    config.write_text(client_config("direct", target.port, me, **own, **one)
                      + client_config("hop", jump.port, me, IdentityFile=jump.dir / "user", IdentitiesOnly="yes", **one)
                      + client_config("jump", target.port, me, ProxyJump="hop", **own, **one)
                      + client_config("gateway", port, user, PubkeyAuthentication="no", PreferredAuthentications="password", **one))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "GATEWAY_", "LC_", "DISPLAY"))}
    env |= {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "BENCH_TOKEN": token}
    ways = [Way("direct", config, env), Way("jump", config, env, jump.process), Way("gateway", config, env, process)]
    args.big = folder / "big"
    with open(args.big, "wb") as big:
        for _ in range(args.mib):
            big.write(os.urandom(1 << 20))
    version = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    ciphers = f"{args.cipher} on every connection" if args.cipher else "ciphers: " + ", ".join(f"{way.name} {spoken(way)}" for way in ways)
    print(f"{os.cpu_count()} processors; {version}; {args.rounds} round(s); {ciphers}; clients ask for {KEX} and {KEY}", flush=True)
    for way in ways:  # the file is in memory, logins are proven
        finish(way, way.ssh("true"), stdin=subprocess.DEVNULL)
        copy(way, args)
    table = {}
    for number in range(args.rounds):
        order = ways[number % len(ways):] + ways[:number % len(ways)]
        for title, unit, digits, more, function in measure(args, ways):
            got = {way.name: function(way) for way in order}
            kept = table.setdefault((title, unit, digits, more), {way.name: [] for way in ways})
            for way in ways:
                kept[way.name].append(got[way.name])
        print(f"round {number + 1} of {args.rounds} done", flush=True)
    for (title, unit, digits, more), results in table.items():
        show(title, unit, digits, more, results)
    if "idle" in args.only:
        print(f"{args.idle} connections without a channel, memory for each")
        sshd = Way("direct", config, env, target.process)
        print(f"  sshd     {idle(sshd, args):,.1f} KB of its processes\n  gateway  {idle(ways[2], args):,.1f} KB", flush=True)


if __name__ == "__main__":
    main()
