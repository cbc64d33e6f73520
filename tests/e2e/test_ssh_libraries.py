"""paramiko, asyncssh, ansible, and what VS Code's remote extension does, through the gateway."""
import asyncio, concurrent.futures, contextlib, logging, os, pathlib, socket, subprocess, sys, threading, time

import paramiko

from harness import Skipped, check, eventually
from ssh_host import common, own, shared
from test_ssh_forwards import GOOD, socks, talk


logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # it tells of each refusal


def programs():
    import asyncssh
    return asyncssh


@contextlib.contextmanager
def by_paramiko(place, who="worker"):
    client = paramiko.SSHClient()
    client.load_host_keys(str(place.folder / "known_hosts"))
    client.connect("127.0.0.1", place.gateway.port, "root@web-1", place.tokens[who], allow_agent=False, look_for_keys=False, timeout=15)
    try:
        yield client
    finally:
        client.close()


def test_paramiko_runs_many_commands_on_one_connection(w):
    place = shared(w)
    with by_paramiko(place) as client:
        def one(n):
            stdin, out, err = client.exec_command(f"sh -c 'cat; echo err-{n} >&2; exit {n}'", timeout=30)
            stdin.write(f"{n}\n" * 5000)
            stdin.channel.shutdown_write()
            return out.read().decode(), err.read().decode(), out.channel.recv_exit_status()

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            for n, seen in enumerate(pool.map(one, range(12))):
                check(seen == (f"{n}\n" * 5000, f"err-{n}\n", n), n, seen[1:], len(seen[0]))
    with by_paramiko(place, "narrow") as client:
        _, out, err = client.exec_command("id", timeout=30)
        check(out.channel.recv_exit_status() == 77 and out.read() == b"" and b'"code":"denied"' in err.read())
        _, out, _ = client.exec_command("echo on", timeout=30)
        check(out.read() == b"on\n")


def test_paramiko_moves_files(w):
    place, whole = shared(w), os.urandom(6 << 20)
    folder = f"{place.tree}/paramiko"
    with by_paramiko(place) as client, client.open_sftp() as files:
        files.mkdir(folder)
        with files.open(f"{folder}/a", "wb") as far:
            far.set_pipelined(True)
            far.write(whole)
        with files.open(f"{folder}/a", "rb") as far:
            far.prefetch()
            check(far.read() == whole)
            check(far.readv([(5, 10), (1 << 20, 4)]) is not None)
        files.posix_rename(f"{folder}/a", f"{folder}/b")
        files.chmod(f"{folder}/b", 0o640)
        files.truncate(f"{folder}/b", 100)
        files.utime(f"{folder}/b", (1_000_000_000, 1_000_000_000))
        about = files.stat(f"{folder}/b")
        check((about.st_size, about.st_mode & 0o777, about.st_mtime) == (100, 0o640, 1_000_000_000), about)
        check(files.listdir(folder) == ["b"] and [e.filename for e in files.listdir_iter(folder)] == ["b"])
        files.chdir(folder)
        check(files.normalize(".") == folder and files.open("b").read(3) == whole[:3])
        for refused in (lambda: files.open("/etc/shadow"), lambda: files.open(f"{place.folder}/out", "w"), lambda: files.listdir("/etc"),
                        lambda: files.rename(f"{folder}/b", f"{place.folder}/out"), lambda: files.symlink("/etc/shadow", f"{folder}/l") or
                        files.open(f"{folder}/l")):
            try:
                refused()
            except PermissionError:
                continue
            check(False, "not refused as SSH_FX_PERMISSION_DENIED is")
        check(not (place.folder / "out").exists())
        files.remove(f"{folder}/b")


def test_paramiko_forwards_both_ways(w):
    place = shared(w)
    with by_paramiko(place) as client:
        transport = client.get_transport()
        channel = transport.open_channel("direct-tcpip", ("127.0.0.1", place.services.port), ("127.0.0.1", 40000), timeout=20)
        channel.settimeout(15)
        check(channel.recv(6) == b"ready\n")
        channel.sendall(b"hello")
        channel.shutdown_write()
        got = b""
        while data := channel.recv(100):
            got += data
        check(got == b"helloend\n", got)
        try:
            transport.open_channel("direct-tcpip", ("127.0.0.1", place.services.other), ("127.0.0.1", 40000), timeout=20)
            check(False, "it is open")
        except paramiko.ChannelException as refused:
            check(refused.code == 1, refused)
        port = transport.request_port_forward("127.0.0.1", 0)
        with socket.create_connection(("127.0.0.1", port), 10) as peer:
            back = transport.accept(15)
            check(back is not None, "the target's side is opened")
            back.sendall(b"from the client")
            check(peer.recv(100) == b"from the client")
            peer.sendall(b"from the target")
            check(back.recv(100) == b"from the target")
        transport.cancel_port_forward("127.0.0.1", port)


def test_asyncssh_uses_one_connection_for_everything(w):
    asyncssh, place = programs(), shared(w)
    whole = os.urandom(3 << 20)

    def connect(who):
        return asyncssh.connect("127.0.0.1", place.gateway.port, username="root@web-1", password=place.tokens[who], config=None,
                                known_hosts=str(place.folder / "known_hosts"), client_keys=None, agent_path=None, connect_timeout=20)

    async def run():
        async with connect("worker") as connection:
            many = await asyncio.gather(*(connection.run(f"sh -c 'cat; exit {n}'", input=f"{n}" * 10000) for n in range(20)))
            for n, done in enumerate(many):
                check((done.stdout, done.exit_status) == (f"{n}" * 10000, n), n, done.exit_status)
            ended = await connection.run("sh -c 'kill -TERM $$'")
            check(ended.exit_signal and ended.exit_signal[0] == "TERM", ended)
            async with connection.create_process("echo up; sleep 60", term_type="xterm") as process:
                check("up" in await process.stdout.readline())
                await asyncio.sleep(0.2)
                process.stdin.write("\x03")
                await asyncio.wait_for(process.wait(), 15)
                check(process.exit_signal and process.exit_signal[0] == "INT", process.exit_signal)
            async with connection.create_process("stty size", term_type="xterm", term_size=(132, 43)) as process:
                check("43 132" in await process.stdout.read())
            (place.folder / "asyncssh-near").write_bytes(whole)
            async with connection.start_sftp_client() as files:
                await files.put(str(place.folder / "asyncssh-near"), f"{place.tree}/asyncssh")
                await files.get(f"{place.tree}/asyncssh", str(place.folder / "asyncssh-back"))
                check((place.folder / "asyncssh-back").read_bytes() == whole)
                await files.rename(f"{place.tree}/asyncssh", f"{place.tree}/asyncssh-2")
                check(await files.getsize(f"{place.tree}/asyncssh-2") == len(whole))
                try:
                    await files.open("/etc/shadow")
                    check(False, "not refused")
                except asyncssh.SFTPPermissionDenied:
                    pass
            for far, listener in (("forward", await connection.forward_local_port("", 0, "127.0.0.1", place.services.port)),
                                  ("socks", await connection.forward_socks("", 0)),
                                  ("remote", await connection.forward_remote_port("", 0, "127.0.0.1", place.services.port))):
                port = listener.get_port()
                open_it = (lambda: socks(port, "127.0.0.1", place.services.port)[0]) if far == "socks" else (
                    lambda: socket.create_connection(("127.0.0.1", port), 10))

                def use():
                    with open_it() as peer:
                        return talk(peer)
                got = await asyncio.to_thread(use)
                check(got == GOOD, far, got)
                listener.close()
            reader, writer = await connection.open_unix_connection(str(place.services.path))
            check(await reader.readexactly(6) == b"ready\n")
            writer.write_eof()
            check(await reader.read() == b"end\n")
        async with connect("narrow") as connection:
            done = await connection.run("id")
            check(done.exit_status == 77 and done.stdout == "", done)
            for refused in (connection.open_connection("127.0.0.1", place.services.port),
                            connection.open_unix_connection(str(place.services.path))):
                try:
                    await refused
                    check(False, "it is open")
                except asyncssh.ChannelOpenError as why:
                    check(why.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, why)
            try:
                await connection.forward_remote_port("", 0, "127.0.0.1", place.services.port)
                check(False, "it listens")
            except asyncssh.ChannelListenError:
                pass

    asyncio.run(asyncio.wait_for(run(), 90))


def test_ansible_pings_and_copies(w):
    ansible = pathlib.Path(sys.executable).parent / "ansible"
    if not ansible.exists():
        raise Skipped("no ansible")
    place = shared(w)
    tmp = place.tree / "ansible"
    tmp.mkdir()
    source, settings = place.folder / "ansible-source", place.folder / "ansible.cfg"
    settings.write_text("[defaults]\n")
    source.write_bytes(os.urandom(1 << 20))

    def play(*argv, who="worker"):
        inventory = place.folder / f"inventory-{who}"
        inventory.write_text(f"gw ansible_python_interpreter=/usr/bin/python3 ansible_remote_tmp={tmp} "
                             f"ansible_password={place.tokens[who]} ansible_ssh_common_args='-F {place.config}'\n")
        env = {"ANSIBLE_SSH_PASSWORD_MECHANISM": "ssh_askpass", "ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_NOCOLOR": "1",
               "ANSIBLE_LOCAL_TEMP": str(place.folder / "ansible-local"), "ANSIBLE_CONFIG": str(settings), "LC_ALL": "C.UTF-8",
               "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist=10s -o ControlPath={place.folder}/cp-{who}"}
        return place.run(ansible, "-i", inventory, "gw", *argv, who=who, env=env, timeout=80)

    done = play("-m", "ping")
    check(done.returncode == 0 and '"ping": "pong"' in done.stdout, done)
    far = place.tree / "ansible-copy"
    done = play("-m", "copy", "-a", f"src={source} dest={far} mode=0600")
    check(done.returncode == 0 and far.read_bytes() == source.read_bytes() and far.stat().st_mode & 0o777 == 0o600, done)
    done = play("-m", "ping", who="narrow")
    check(done.returncode != 0 and "pong" not in done.stdout, done)


def test_vs_codes_way_is_a_script_on_stdin_and_forwards_beside_it(w):
    place, port = shared(w), common.free_port()
    near = place.folder / "code.sock"
    script = ("set -e\nuname -s\nserver=$HOME/.vscode-server-test\nmkdir -p $server\n"
              + "".join(f": a script of some length, line {n}\n" for n in range(3000))
              + "cat >$server/run.sh <<'EOS'\necho started\nEOS\nsh $server/run.sh\necho listeningOn==1234==\n")
    options = ["-T", "-oLogLevel=INFO", "-oExitOnForwardFailure=yes", "-D", str(port), "-L", f"{near}:{place.services.path}"]
    with place.running("ssh", "-F", place.config, *options, "gw", "sh", stdin=subprocess.PIPE) as client:
        client.stdin.write(script.encode())
        client.stdin.flush()
        said = []
        while not said or not said[-1].startswith(b"listeningOn"):
            line = client.stdout.readline()
            check(line, "it ended", said, client.poll())
            said.append(line)
        check(said == [b"Linux\n", b"started\n", b"listeningOn==1234==\n"], said)
        for _ in range(5):
            peer, answer = socks(port, "127.0.0.1", place.services.port)
            with peer:
                check(talk(peer) == GOOD, answer)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(near))
            check(talk(peer) == GOOD)
        client.stdin.close()
        client.stdin = None
        check(client.wait(15) == 0)
    with place.running("ssh", "-F", place.config, "-T", "gw", "sh", stdin=subprocess.PIPE, who="narrow") as client:
        out, err = client.communicate(script.encode(), timeout=20)
        check(client.returncode == 77 and out == b"", out, err)


def test_many_channels_at_once_are_let_in_by_an_sshd_that_takes_ten(w):
    asyncssh = programs()
    with own(w, sshd="MaxStartups 10:100:11") as place:
        place.start()

        async def run():
            async with asyncssh.connect("127.0.0.1", place.gateway.port, username="root@web-1", password=place.tokens["worker"], config=None,
                                        known_hosts=str(place.folder / "known_hosts"), client_keys=None, agent_path=None) as connection:
                return await asyncio.gather(*(connection.run("echo x") for _ in range(40)))

        seen = [done.exit_status for done in asyncio.run(asyncio.wait_for(run(), 60))]
        check(seen == [0] * 40, seen)
