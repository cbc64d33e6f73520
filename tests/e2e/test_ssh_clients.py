"""OpenSSH's programs, rsync and git through the gateway: what is permitted works as it does without, what is not is refused."""
import concurrent.futures, filecmp, json, os, pathlib, re, shutil, signal, subprocess, sys, time

from harness import Skipped, check, eventually
from ssh_host import shared


def test_one_control_master_carries_twenty_channels(w):
    place = shared(w)
    sock = place.folder / "master"
    base = ["ssh", "-F", place.config, "-S", sock]
    with place.running(*base, "-M", "-N", "gw") as master:
        eventually(lambda: place.run(*base, "-O", "check", "gw").returncode == 0, "the master is up", 20)

        def one(n):
            # Each reads its own input, and answers on both streams with its own status.
            return place.run(*base, "gw", f"sh -c 'cat; sleep 0.5; echo err-{n} >&2; exit {n}'", stdin=f"in-{n}\n" * 1000)

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            seen = list(pool.map(one, range(20)))
        for n, done in enumerate(seen):
            check((done.returncode, done.stdout, done.stderr) == (n, f"in-{n}\n" * 1000, f"err-{n}\n"), n, done.returncode,
                  done.stdout[:50], done.stderr)
        listed = json.loads(place.gateway.cli("sessions", "list", "--output", "json").stdout)
        check(len([row for row in listed if not row.get("ended")]) >= 1, listed)
        check(place.run(*base, "-O", "exit", "gw").returncode == 0)
        check(master.wait(10) is not None)


def test_what_is_refused_on_a_control_master_leaves_its_siblings(w):
    place = shared(w)
    sock = place.folder / "narrow-master"
    base = ["ssh", "-F", place.config, "-S", sock]
    with place.running(*base, "-M", "-N", "gw", who="narrow"):
        eventually(lambda: place.run(*base, "-O", "check", "gw").returncode == 0, "the master is up", 20)
        for n in range(3):
            refused = place.run(*base, "gw", "id", who="narrow")
            check(refused.returncode == 77 and "uid=" not in refused.stdout and '"code":"denied"' in refused.stderr, refused)
            said = place.run(*base, "gw", f"echo {n}", who="narrow")
            check(said.returncode == 0 and said.stdout == f"{n}\n", said)


def test_stdout_and_stderr_and_status_stay_apart_under_load(w):
    place = shared(w)
    script = "i=0; while [ $i -lt 2000 ]; do echo out-$i; echo err-$i >&2; i=$((i+1)); done; exit 41"
    done = place.ssh(f"sh -c '{script}'")
    check(done.returncode == 41, done.returncode, done.stderr[-300:])
    check(done.stdout == "".join(f"out-{n}\n" for n in range(2000)), done.stdout[-100:])
    check(done.stderr == "".join(f"err-{n}\n" for n in range(2000)), done.stderr[-100:])


def test_a_command_that_a_signal_ends_is_told_as_such(w):
    place = shared(w)
    for name in ("TERM", "KILL", "SEGV"):
        straight = place.ssh(f"sh -c 'kill -{name} $$'", to="direct")
        through = place.ssh(f"sh -c 'kill -{name} $$'")
        check((through.returncode, through.stdout) == (straight.returncode, straight.stdout), name, straight, through)


def test_half_closed_channels_stay_so(w):
    place = shared(w)
    # Output long after the end of input, and a command that ends its output before it ends.
    done = place.ssh("sh -c 'cat >/dev/null; sleep 1; echo after; exec >&- 2>&-; sleep 1; exit 6'", stdin="x" * 100_000)
    check((done.returncode, done.stdout) == (6, "after\n"), done)
    # A command that ends although its input is still open.
    with place.running("ssh", "-F", place.config, "gw", "head -c 3", stdin=subprocess.PIPE) as client:
        client.stdin.write(b"abcdef")
        client.stdin.flush()
        check(client.stdout.read() == b"abc")
        check(client.wait(10) == 0, client.stderr.read())


def test_a_client_that_asks_for_life_signs_gets_them(w):
    place = shared(w)
    # Two unanswered ones would end it.
    done = place.ssh("-oServerAliveInterval=1", "-oServerAliveCountMax=2", "sh -c 'sleep 5; echo alive'")
    check((done.returncode, done.stdout) == (0, "alive\n"), done)


def test_login_shells_run_what_was_judged(w):
    place = shared(w)
    words = ["two  words", "it's", "a\\b", "*", "~", "=ls", "{a,b}", "!x", "-n", "", "\u00e9"]
    line = "python3 -c 'import sys; print(sys.argv[1:])' " + " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    for alias, name in (("gw", "bash"), ("gw-dash", "dash"), ("gw-zsh", "zsh")):
        check(place.ssh("readlink /proc/$$/exe; :", to=alias).stdout.strip().endswith(f"/{name}"), name)
        done = place.ssh(line, to=alias)
        check((done.returncode, done.stdout.strip()) == (0, str(words)), name, done)
        opaque = place.ssh("for a in 1 2; do echo $a; done", to=alias)
        check((opaque.returncode, opaque.stdout) == (0, "1\n2\n"), name, opaque)


def test_a_shell_has_a_terminal_and_takes_what_is_typed(w):
    place = shared(w)
    for alias in ("gw", "gw-dash", "gw-zsh"):
        with place.running("ssh", "-tt", "-F", place.config, alias, stdin=subprocess.PIPE) as client:
            client.stdin.write(b"tty; echo $((40+2))-answer; exit 3\n")
            client.stdin.flush()
            status, out = client.wait(20), client.stdout.read()
            check(status == 3 and b"/dev/pts/" in out and b"42-answer" in out, alias, status, out)
    refused = place.run("ssh", "-tt", "-F", place.config, "gw", who="narrow")
    check(refused.returncode == 77 and "shell" in refused.stdout + refused.stderr, refused)


def test_aes_gcm_is_spoken_where_the_processor_has_it_and_chacha_with_who_has_nothing_else(w):
    place = shared(w)
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    # Clients name ChaCha20 first.
    expected = "aes128-gcm@openssh.com" if re.search(r"\baes\b", flags) else "chacha20-poly1305@openssh.com"
    for asked, spoken in ((None, expected), ("chacha20-poly1305@openssh.com", "chacha20-poly1305@openssh.com"),
                          ("chacha20-poly1305@openssh.com,aes256-ctr", "chacha20-poly1305@openssh.com"), ("aes256-gcm@openssh.com", "aes256-gcm@openssh.com")):
        options = [f"-oCiphers={asked}"] if asked else []
        done = place.ssh("-v", *options, "true")
        found = set(re.findall(r"cipher: (\S+)", done.stderr))
        check(done.returncode == 0 and found == {spoken}, asked, found, done)


def test_variables_are_passed_where_permitted_and_else_not(w):
    place = shared(w)
    done = place.ssh("-oSendEnv=LC_ALL LC_TIME", "sh -c 'echo $LC_ALL-$LC_TIME'", env={"LC_ALL": "C.UTF-8", "LC_TIME": "C"})
    check((done.returncode, done.stdout) == (0, "C.UTF-8-\n"), done)


def test_rsync_goes_both_ways_and_stays_out_where_refused(w):
    if not shutil.which("rsync"):
        raise Skipped("no rsync")
    place = shared(w)
    local, back = place.folder / "rsync-local", place.folder / "rsync-back"
    (local / "sub dir").mkdir(parents=True)
    for n in range(60):
        (local / "sub dir" / f"file {n}").write_bytes(os.urandom(n * 1000))
    (local / "big").write_bytes(os.urandom(12 << 20))
    far = place.folder / "rsync-far"
    shell = f"ssh -F {place.config}"
    for argv in (["-a", f"{local}/", f"gw:{far}/"], ["-az", "--delete", f"gw:{far}/", f"{back}/"]):
        done = place.run("rsync", "-e", shell, *argv)
        check(done.returncode == 0, argv, done)
    names = [str(path.relative_to(local)) for path in local.rglob("*") if path.is_file()]
    check(len(names) == 61 and filecmp.cmpfiles(local, back, names, shallow=False) == (names, [], []), names)
    # A second run sends the change alone, into a file that is there.
    with open(local / "big", "r+b") as big:
        big.write(b"changed")
    # rsync takes a file of the same size and the same second for unchanged.
    later = time.time() + 5
    os.utime(local / "big", (later, later))
    done = place.run("rsync", "-e", shell, "-a", "--inplace", "--stats", f"{local}/", f"gw:{far}/")
    check(done.returncode == 0 and (far / "big").read_bytes()[:7] == b"changed", done)
    refused = place.run("rsync", "-e", shell, "-a", f"{local}/", f"gw:{place.folder}/rsync-refused/", who="narrow")
    check(refused.returncode != 0 and not (place.folder / "rsync-refused").exists() and "denied" in refused.stderr, refused)


def test_git_clones_and_pushes(w):
    if not shutil.which("git"):
        raise Skipped("no git")
    place = shared(w)
    bare, work = place.folder / "repository.git", place.folder / "work"
    env = {"GIT_SSH_COMMAND": f"ssh -F {place.config}", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@x", "GIT_COMMITTER_NAME": "a",
           "GIT_COMMITTER_EMAIL": "a@x", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    git = lambda *argv, who="worker", cwd=None: place.run("git", *argv, env=env, who=who, cwd=cwd)
    check(git("init", "-q", "--bare", "-b", "main", str(bare)).returncode == 0)
    cloned = git("clone", "-q", f"gw:{bare}", str(work))
    check(cloned.returncode == 0, cloned)
    (work / "file").write_bytes(os.urandom(3 << 20))
    for argv in (["checkout", "-q", "-b", "main"], ["add", "file"], ["commit", "-q", "-m", "one"], ["push", "-q", "origin", "main"]):
        done = git(*argv, cwd=work)
        check(done.returncode == 0, argv, done)
    again = place.folder / "again"
    check(git("clone", "-q", f"gw:{bare}", str(again)).returncode == 0)
    check((again / "file").read_bytes() == (work / "file").read_bytes())
    refused = git("clone", "-q", f"gw:{bare}", str(place.folder / "refused"), who="narrow")
    check(refused.returncode != 0 and "denied" in refused.stderr, refused)


def test_scp_by_both_protocols_takes_trees_and_times(w):
    place = shared(w)
    tree = place.folder / "scp-tree"
    (tree / "a b").mkdir(parents=True)
    (tree / "a b" / "x'y").write_text("quoted\n")
    (tree / "empty").write_bytes(b"")
    (tree / "large").write_bytes(os.urandom(3 << 20))
    os.utime(tree / "large", (1_000_000_000, 1_000_000_000))
    for number, options in enumerate((["-O"], ["-s"])):
        far, back = place.tree / f"scp-{number}", place.folder / f"scp-back-{number}"
        up = place.run("scp", "-F", place.config, *options, "-rp", tree, f"gw:{far}")
        check(up.returncode == 0, options, up)
        down = place.run("scp", "-F", place.config, *options, "-rp", f"gw:{far}", back)
        check(down.returncode == 0, options, down)
        names = ["a b/x'y", "empty", "large"]
        check(filecmp.cmpfiles(tree, back, names, shallow=False)[0] == names, options)
        check(int((back / "large").stat().st_mtime) == 1_000_000_000, options)
        outside = place.folder / f"scp-outside-{number}"
        up = place.run("scp", "-F", place.config, *options, "-r", tree, f"gw:{outside}")
        check(up.returncode != 0 and not outside.exists(), options, up)


def test_sftp_puts_gets_renames_and_resumes(w):
    place = shared(w)
    local, whole = place.folder / "sftp-local", os.urandom(4 << 20)
    local.write_bytes(whole)
    far, got = place.tree / "sftp-far", place.folder / "sftp-got"
    (place.tree / "sftp-part").write_bytes(whole[: 1 << 20])
    (place.folder / "sftp-half").write_bytes(whole[: 3 << 20])
    batch = (f"mkdir {place.tree}/dir\nput {local} {far}\nrename {far} {place.tree}/dir/renamed\nls -l {place.tree}/dir\n"
             f"get {place.tree}/dir/renamed {got}\nreput {local} {place.tree}/sftp-part\n"
             f"reget {place.tree}/dir/renamed {place.folder}/sftp-half\nchmod 600 {place.tree}/dir/renamed\n"
             f"symlink {place.tree}/dir/renamed {place.tree}/link\nln {place.tree}/dir/renamed {place.tree}/hard\n"
             f"df {place.tree}\nrm {place.tree}/link\nrm {place.tree}/hard\n")
    done = place.run("sftp", "-F", place.config, "-oBatchMode=no", "-b", "-", "gw", stdin=batch)
    check(done.returncode == 0, done)
    for path in (got, place.tree / "sftp-part", place.folder / "sftp-half", place.tree / "dir" / "renamed"):
        check(path.read_bytes() == whole, path)
    check((place.tree / "dir" / "renamed").stat().st_mode & 0o777 == 0o600)
    for refused in (f"get /etc/shadow {got}", f"put {local} {place.folder}/sftp-refused",
                    f"rename {place.tree}/dir/renamed {place.folder}/sftp-refused", f"get {place.tree}/../known_hosts {got}"):
        done = place.run("sftp", "-F", place.config, "-oBatchMode=no", "-b", "-", "gw", stdin=refused + "\n")
        check(done.returncode != 0, refused, done)
    check(not (place.folder / "sftp-refused").exists() and got.read_bytes() == whole)
    nobody = place.run("sftp", "-F", place.config, "-oBatchMode=no", "-b", "-", "gw", stdin=f"ls {place.tree}\n", who="narrow")
    check(nobody.returncode != 0 and "renamed" not in nobody.stdout, nobody)


def test_a_slow_reader_costs_bounded_memory(w):
    place = shared(w)
    before = place.memory()
    with place.running("ssh", "-F", place.config, "gw", "head -c 300000000 /dev/zero", stdout=subprocess.PIPE) as client:
        check(len(client.stdout.read(1)) == 1)
        time.sleep(4)  # nobody reads; the pipe, windows and queues are full
        grown = place.memory() - before
        check(grown < 24 << 20, f"{grown >> 20} MiB more for one reader that is slow")
        # Its sibling is as quick as ever, and the rest still comes.
        began = time.monotonic()
        check(place.ssh("echo there").stdout == "there\n" and time.monotonic() - began < 4)
        rest = 1
        while piece := client.stdout.read(1 << 20):
            rest += len(piece)
        check(rest == 300_000_000 and client.wait(10) == 0, rest)
