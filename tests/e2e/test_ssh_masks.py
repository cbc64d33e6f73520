"""What detectors find in the output of commands and shells is masked, for whoever may not `unmask` its tag, and in recordings."""
import json, os, time

from harness import check, eventually
from test_recordings import Shell, last, replay
from test_ssh import client, hosted

CARD, MAIL, IBAN = "4111 1111 1111 1111", "heron@mail.test", "DE89 3704 0044 0532 0130 00"
DETECT = """
[[resource.detect]]
tag = "pii.found"
find = ["email", "card"]
[[resource.detect]]
tag = "bank"
find = ["iban"]
mask = "partial"
[[resource.runbook]]
name = "people"
command = "cat {file}"
[[resource.runbook.parameters]]
name = "file"
type = "path"
"""
RULES = """
@id("read") permit (principal in Group::"agents", action == Action::"exec", resource == Resource::"web-1")
when { ["cat", "tail", "runbook:people"].contains(context.program) };
@id("all-opaque") permit (principal in Group::"operators", action == Action::"exec-opaque", resource == Resource::"web-1");
@id("see") permit (principal in Group::"auditors", action == Action::"unmask", resource in Tag::"pii") when { context.resource == Resource::"web-1" };
"""


def masked(w, runbook=True):
    text = DETECT if runbook else DETECT.split("[[resource.runbook]]")[0]
    return hosted(w, text, RULES)


def ran(gateway, token, *argv, **more):
    process = client(gateway, token, "ssh", "127.0.0.1", *argv, **more)
    out, err = process.communicate(timeout=40)
    return process.returncode, out, err


def test_what_is_found_in_the_output_of_a_command_is_masked_for_who_may_not_see_it(w):
    with masked(w) as (gateway, host):
        people = gateway.tree / "people"
        people.write_text(f"name,mail,card\nheron,{MAIL},{CARD}\nbank {IBAN}\nno end {MAIL}")
        hidden = "name,mail,card\nheron,[redacted],[redacted]\nbank ****0 00\nno end [redacted]"
        code, out, err = ran(gateway, gateway.agent, "cat", str(people))
        check((code, out) == (0, hidden), code, out, err)
        session = last(gateway)
        # The trail says so, and the recording has what was shown.
        exported = gateway.cli("audit", "export").stdout
        masked_tags = [line for line in exported.splitlines() if '"masked":["bank","pii.found"]' in line.replace(" ", "")]
        check(len(masked_tags) == 1 and session in masked_tags[0], exported)
        played = replay(gateway, session)
        check("heron,[redacted],[redacted]" in played.stdout and MAIL not in played.stdout, played.stdout)
        for folder in gateway.dir.rglob("*.cast"):
            check(MAIL.encode() not in folder.read_bytes())
        # One tag may be seen without the other.
        auditor = gateway.token("ada", "human", ["agents", "auditors"])
        code, out, err = ran(gateway, auditor, "cat", str(people))
        check((code, out) == (0, people.read_text().replace(IBAN, "****0 00")), out, err)
        # A named command is no way round, nor is stderr.
        code, out, err = ran(gateway, gateway.agent, "runbook:people", f"file={people}")
        check((code, out) == (0, hidden), out, err)
        script = gateway.tree / "errors"
        script.write_text(f"echo to {MAIL} >&2; echo out; exit 3\n")
        code, out, err = ran(gateway, gateway.agent, "sh", str(script))
        check((code, out, err) == (3, "out\n", "to [redacted]\n"), code, out, err)


def test_approvers_are_told_whether_the_requester_sees_what_is_found_or_is_shown_it_masked(w):
    held = """
@id("held-sight") @approve("oncall") permit (principal in Group::"curious", action == Action::"unmask", resource == Tag::"bank");
"""
    with hosted(w, DETECT.split("[[resource.runbook]]")[0], RULES + held) as (gateway, _):
        cases = ((gateway.agent, "touch", {"mask Tag pii.found", "mask Tag bank"}, "masked  Tag bank: "),
                 (gateway.token("cy", "human", ["agents", "curious"]), "cat", {"mask Tag pii.found", "unmask Tag bank"}, "tries  unmask Tag bank"))
        for token, program, tags, line in cases:
            file = gateway.tree / program
            file.write_text(f"{MAIL} {IBAN}\n")
            waiting = client(gateway, token, "ssh", "127.0.0.1", program, str(file))
            found = eventually(lambda: [one for one in gateway.approvals(gateway.person) if program in one["operation"]], "it is held", 15)[0]["id"]
            asked = json.loads(gateway.cli("approvals", "show", found, "--output", "json", token=gateway.person).stdout)["asked"]
            check(set(asked) == {"exec Resource web-1"} | tags, asked)
            shown = gateway.cli("approvals", "show", found, token=gateway.person).stdout
            check(any(one.startswith(line) for one in shown.splitlines()) and "tries  unmask Tag pii.found" not in shown, shown)
            gateway.cli("approvals", "approve", found, token=gateway.person)
            out, err = waiting.communicate(timeout=30)
            check(waiting.returncode == 0 and out == ("" if program == "touch" else f"[redacted] {IBAN}\n"), out, err)


def test_pieces_prompts_and_ends_of_output_keep_their_order(w):
    with masked(w) as (gateway, host):
        script = gateway.tree / "pieces"
        # Slower than a packet, faster than what is held; and a prompt whose end does not come until it is answered.
        script.write_text('for piece in "to he" "ron@ma" "il.t" "est ok"; do printf "%s" "$piece"; sleep 0.03; done; echo\n'
                          'printf "name: "; read name; echo "hello $name"; head -c 300000 /dev/zero | tr "\\0" z; printf "last "\n'
                          f'printf "{MAIL}"; exit 4\n')
        code, out, err = ran(gateway, gateway.agent, "sh", str(script), stdin=open_pipe(b"owl\n", 1.0))
        check((code, out) == (4, "to [redacted] ok\nname: hello owl\n" + "z" * 300000 + "last [redacted]"), code, out[:80], out[-40:], err)
        # The prompt itself comes while it waits.
        process = client(gateway, gateway.agent, "ssh", "127.0.0.1", "sh", str(script), stdin=-1)
        seen = ""
        while not seen.endswith("name: "):
            more = os.read(process.stdout.fileno(), 100).decode()
            check(more, seen)
            seen += more
        process.communicate("owl\n", timeout=20)
        # What is no text goes through as it is.
        blob = bytes(range(256)) * 4096
        (gateway.tree / "blob").write_bytes(blob)
        process = client(gateway, gateway.agent, "ssh", "127.0.0.1", "cat", str(gateway.tree / "blob"))
        got = process.stdout.buffer.read()
        check(process.wait(20) == 0 and got == blob, len(got))


def open_pipe(data, after):
    import threading
    reader, writer = os.pipe()

    def feed():
        time.sleep(after)
        os.write(writer, data)
        os.close(writer)
    threading.Thread(target=feed, daemon=True).start()
    return os.fdopen(reader)


def test_a_shell_shows_what_is_typed_and_masks_what_it_prints(w):
    with masked(w, runbook=False) as (gateway, host):
        people = gateway.tree / "people"
        people.write_text(f"\x1b[31mheron\x1b[0m,{MAIL[:7]}\x1b[1m{MAIL[7:]}\x1b[0m,{CARD}\n")
        (gateway.tree / "card").write_text(CARD.replace(" ", "") + "\n")
        shell = Shell(gateway, gateway.person)
        try:
            shell.until(b"# ")
            shell.type(f"echo {MAIL} | rev")
            # Each key was shown as it was typed.
            check(f"echo {MAIL} | rev".encode() in plain(shell.out), shell.out)
            shell.type("\r")
            shell.until(MAIL[::-1].encode())
            shell.out = b""
            shell.type(f"cat {people}\r")
            shell.until(b"[redacted]")
            shell.read(0.5)
            check(MAIL.encode() not in plain(shell.out) and CARD.encode() not in shell.out, shell.out)
            check(b"heron,[redacted],[redacted]" in plain(shell.out), shell.out)
            # Who types the beginning of a value where it is not echoed learns no more of it.
            shell.out = b""
            shell.type(f"stty -echo; sleep 1; cat {gateway.tree}/card; sleep 0.3; stty echo\r")
            time.sleep(0.4)
            shell.type("41")
            shell.until(b"[redacted]")
            check(b"11111111" not in shell.out, shell.out)
            shell.type("\r")
            shell.type("exit\r")
            shell.end()
        finally:
            shell.drop()
        session = last(gateway)
        played = eventually(lambda: (p := replay(gateway, session)).returncode == 0 and p, "it is there", 10)
        check(MAIL not in played.stdout.replace("echo " + MAIL, "") and "[redacted]" in played.stdout, played.stdout)


def plain(text):
    import re
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07", b"", text)


def test_a_file_that_holds_what_is_masked_is_not_read_unless_the_resource_says_so(w):
    with masked(w, runbook=False) as (gateway, host):
        clean, people, got = gateway.tree / "clean", gateway.tree / "people", gateway.dir / "got"
        clean.write_bytes(os.urandom(300_000).replace(b"@", b"#").translate(None, bytes(range(0x30, 0x3a))))
        people.write_text("x" * 100_000 + f"\n{MAIL}\n" + "secret tail " * 10_000)

        def copied(token, path, *how):
            got.unlink(missing_ok=True)
            process = client(gateway, token, "scp", *how, f"127.0.0.1:{path}", str(got))
            _, err = process.communicate(timeout=40)
            return process.returncode, got.read_bytes() if got.exists() else b"", err
        auditor = gateway.token("ada", "human", ["agents", "auditors"])
        for how in ([], ["-O"]):
            check(copied(gateway.agent, clean, *how)[:2] == (0, clean.read_bytes()), how)
            code, data, err = copied(gateway.agent, people, *how)
            check(code != 0 and MAIL.encode() not in data and b"secret tail" not in data, how, code, err, data[-100:])
            check("not permitted" in err if how else "ermission denied" in err, how, err)
            # One tag may be seen; the other one is not in it.
            check(copied(auditor, people, *how)[:2] == (0, people.read_bytes()), how)
        trail = gateway.cli("audit", "search", "--verdict", "deny", "--output", "json").stdout
        check("`unmask` of that is not permitted" in trail, trail[-2000:])
        # The connection lives on where one file of several is refused.
        batch = gateway.dir / "batch"
        batch.write_text(f"-get {people} {got}.1\nget {clean} {got}.2\n")
        process = client(gateway, gateway.agent, "sftp", "-oBatchMode=no", "-b", str(batch), "127.0.0.1")
        _, err = process.communicate(timeout=40)
        check(process.returncode == 0 and (gateway.dir / "got.2").read_bytes() == clean.read_bytes(), err)
        check(MAIL.encode() not in (gateway.dir / "got.1").read_bytes() if (gateway.dir / "got.1").exists() else True)
        # Operators may leave files alone.
        gateway.stop_only()
        gateway.config.write_text(gateway.config.read_text().replace('protocol = "ssh"\n', 'protocol = "ssh"\ndetect_files = "pass"\n', 1))
        gateway.start()
        check(copied(gateway.agent, people)[:2] == (0, people.read_bytes()))
