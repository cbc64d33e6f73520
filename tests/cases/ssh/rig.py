#!/usr/bin/env python3
"""Runs the SSH cases against a gateway, or with --direct against the target itself.

    rig.py --gateway PATH [--cases DIR] [--open] [--only SUBSTR...] [--keep]
    rig.py --direct       [--cases DIR] [--open] [--only SUBSTR...]

--direct proves the cases: each attack must have its effect there (a canary is seen, or something on
the host changes), and each benign case must work. See README.md.
"""
import argparse, atexit, base64, codecs, pathlib, re, shutil, sys, tempfile, threading, time, traceback

import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import holds
from clients import Door, NoLogin, Seen
from common import Gateway, Report, judge
from modes import MODES
from target import Services, Target

SECONDS = 15


def spellings(secret):
    """The secret as it is, and as an encoder might print it."""
    raw = secret.encode()
    yield raw
    yield raw[::-1]
    yield raw.hex().encode()
    yield codecs.encode(secret, "rot13").encode()
    for shift in range(3):                              # base64 depends on where the secret begins
        whole = base64.b64encode(b"\0" * shift + raw)
        yield whole[4 if shift else 0:-4]


class Rig:
    def __init__(self, arguments):
        self.direct = arguments.direct
        raw = yaml.safe_load((HERE / "suite.yaml").read_text())
        self.canaries = raw["canaries"]
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="ssh-cases-"))
        self.target = Target(raw["host"])
        atexit.register(self.target.stop)
        self.services = Services(self.canaries, self.target.real("/srv/app/run/admin.sock"))
        self.target.start()
        self.suite = yaml.safe_load(self.fill((HERE / "suite.yaml").read_text()))
        file = pathlib.Path(arguments.cases) / ("open.yaml" if arguments.open else "cases.yaml")
        self.cases = self._cases(file, arguments.only, arguments.expect)
        self.secrets = [s for c in self.canaries.values() for s in spellings(c)]
        self.secrets.append(self.target.key.read_text().split("\n")[1].encode())
        self.kept, self.tokens, self.gateway = [], {}, None
        if not self.direct:
            self._start_gateway(arguments)

    def fill(self, text):
        for name, value in (("ECHO", self.services.echo), ("SECRET", self.services.secret),
                            ("SINK", self.services.sink), ("TARGET", self.target.port), ("KEY", self.target.key),
                            ("HOST_KEY", self.target.host_key), ("OTHER_HOST_KEY", self.target.other_key),
                            ("ECHO_OVERFLOW", self.services.echo + 65536),
                            ("SECRET_OVERFLOW", self.services.secret + 65536)):
            text = text.replace(f"@{name}@", str(value))
        return text

    def _cases(self, file, only, expect):
        cases = yaml.safe_load(self.fill(file.read_text())) or []
        names = [c["id"] for c in cases]
        assert len(names) == len(set(names)), "case ids must be unique"
        return [c for c in cases if (not only or any(o in c["id"] for o in only)) and (not expect or c["expect"] in expect)]

    def _start_gateway(self, arguments):
        self.gateway = Gateway(arguments.gateway, "ssh", self.suite["resource"], self.suite["policies"],
                               keep=arguments.keep).start()
        for name, who in self.suite["principals"].items():
            self.tokens[name] = self.gateway.token(who["subject"], who["kind"], who["groups"], who.get("on_behalf_of"))

    def secret(self, name, door):
        """A password for an auth case, by what is wrong with it."""
        if name in ("wrong", "empty"):
            return {"wrong": "not-a-token", "empty": ""}[name]
        if name == "good":
            return door.token
        if name == "huge":
            return "A" * 65536
        if name == "cut":
            return door.token[:-3]
        if name == "changed":
            middle = len(door.token) // 2
            return door.token[:middle] + ("A" if door.token[middle] != "A" else "B") + door.token[middle + 1:]
        who = self.suite["principals"]["agent"]
        if name in ("expired", "brief"):
            ttl = {"expired": "1s", "brief": "3s"}[name]
            token = self.gateway.token(who["subject"], who["kind"], who["groups"], who["on_behalf_of"], ttl=ttl)
            time.sleep(2.5 if name == "expired" else 0)
            return token
        if name == "for-web-2":
            made = self.gateway.cli("token", "create", "--subject", who["subject"], "--kind", "agent", "--group",
                                    "agents", "--group", "operators", "--ttl", "1h", "--resource", "web-2")
            return made.stdout.strip()
        return self.tokens[name]

    def door(self, principal, resource="web-1", login=None):
        login = login or self.target.login
        if self.direct:
            return Door("127.0.0.1", self.target.port, login, key=str(self.target.key), scratch=self.scratch)
        return Door("127.0.0.1", self.gateway.port, f"{login}@{resource}", token=self.tokens[principal],
                    scratch=self.scratch)

    def keep(self, thing):
        """Remembers a connection or process that this case opened."""
        self.kept.append(thing)
        return thing

    def local_folder(self):
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.scratch))
        (folder / "up.txt").write_text("sent up\n")
        # Of the same names as links in the folder that may be written to.
        (folder / "alias").write_text("sent up\n")
        (folder / "out").mkdir()
        (folder / "out" / "keep.me").write_text("sent up\n")
        return folder

    def _tidy(self):
        for thing in self.kept:
            try:
                thing.close() if hasattr(thing, "close") else thing.kill()
            except OSError:
                pass
        self.kept.clear()

    def leaked(self, everything):
        """A canary in what the client got or in what left the host, however it is spelled."""
        texts = [everything]
        if len(everything) < 1 << 20:
            texts.append(re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|[\s\x00-\x1f]", b"", everything))
        lowered = [t.lower() for t in texts]
        return next((s.decode() for s in self.secrets if any(s.lower() in t for t in lowered)), None)

    def attempt(self, case, door):
        """Runs one case with a limit on its time."""
        result = []

        def work():
            try:
                run = holds.run if case["expect"] == "hold" and not self.direct else MODES[case["mode"]]
                result.append(run(self, case, door))
            except NoLogin as error:
                result.append(("no-login", Seen(stderr=str(error).encode())))
            except Exception as error:
                result.append((f"error {type(error).__name__}: {error}",
                               Seen(stderr=traceback.format_exc().encode())))

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(case.get("seconds", SECONDS))
        return result[0] if result else ("hang", Seen())

    def run(self, case):
        """One case with what has to hold around it: (outcome, seen, changed paths, leak)."""
        self.services.take()
        probe = case.get("unchanged")
        before = self.target.run(probe) if probe else None
        door = self.door(case["as"], case.get("resource", "web-1"), case.get("login"))
        outcome, seen = self.attempt(case, door)
        self._tidy()
        time.sleep(case.get("settle", 0))
        changed = self.target.changes()
        if probe and self.target.run(probe) != before:
            changed = changed or [probe]
        leak = self.leaked(seen.everything() + self.services.take())
        check = case.get("after")
        if check and check["prints"] not in (told := self.target.run(check["run"])):
            outcome = f"{outcome}, but the host says {told[:80]!r}"
        if changed:
            self.target.restore()
        return outcome, seen, changed, leak

    def prove(self, case):
        """--direct: has an attack its effect, does a benign case work?"""
        if case["mode"] == "auth":
            return True, "unprovable"                   # it is about the gateway's own door
        if case.get("direct") == "unprovable" and case["expect"] == "allow":
            return True, "unprovable"                   # the host alone does something else
        outcome, seen, changed, leak = self.run(case)
        if case["expect"] in ("allow", "hold"):
            good = outcome == "allow" and not leak and seen.note in ("", "granted")
            text = seen.everything().decode("utf-8", "replace")
            missing = [m for m in case.get("must", []) if m not in text]
            if good and not missing and seen.status in (None, case.get("status", 0)) \
                    and seen.signal == case.get("signal"):
                expected = bool(case.get("changes")) or case["expect"] == "hold"
                return bool(changed) == expected, "works" if bool(changed) == expected else f"changed {changed}"
            return False, f"{outcome}, status {seen.status}, signal {seen.signal}, missing {missing}, " \
                          f"leak {leak}: {seen.everything()[:200]!r}"
        if case["expect"] not in ("deny", "mask"):                   # the host's own failure
            return outcome == case["expect"], "works" if outcome == case["expect"] else outcome
        if case.get("direct") == "unprovable":
            return True, "unprovable"
        if leak or changed or (case.get("effect") == "granted" and outcome == "allow"):
            return True, "proven"
        return False, f"no effect: {outcome}, status {seen.status}: {seen.everything()[:300]!r}"

    def verify(self, case):
        """Through the gateway."""
        outcome, seen, changed, leak = self.run(case)
        if not self.gateway.alive():
            return False, "the gateway died"
        if leak:
            return False, f"leaked {leak!r} (outcome {outcome})"
        if case["expect"] == "mask" and outcome == "allow":
            outcome = "mask"
        if outcome == "allow" and case["expect"] == "allow":
            if seen.status not in (None, case.get("status", 0)) or seen.signal != case.get("signal"):
                return False, f"status {seen.status}, signal {seen.signal}: {seen.everything()[:160]!r}"
            if case.get("same_as_direct", True) and case["mode"] not in ("auth", "shell"):
                straight = self._straight(case)
                if straight.comparable() != seen.comparable():
                    return False, f"differs from direct: {straight.comparable()!r:.200} / {seen.comparable()!r:.200}"
        may_change = case.get("changes") or case["expect"] == "hold"
        return judge(case, outcome, seen.everything(), bool(changed) and not may_change)

    def _straight(self, case):
        """What the same case gives without the gateway."""
        door = Door("127.0.0.1", self.target.port, self.target.login, key=str(self.target.key), scratch=self.scratch)
        _, seen = self.attempt(case, door)
        self._tidy()
        if self.target.changes():
            self.target.restore()
        return seen

    def stop(self):
        self._tidy()
        if self.gateway:
            self.gateway.stop()
        self.target.stop()
        shutil.rmtree(self.scratch, ignore_errors=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--gateway", help="the gateway binary")
    which.add_argument("--direct", action="store_true", help="no gateway: prove the cases")
    options.add_argument("--cases", default=str(HERE), help="folder with cases.yaml (default: this one)")
    options.add_argument("--open", action="store_true", help="the cases of open.yaml, which are known to fail")
    options.add_argument("--only", nargs="+", metavar="SUBSTR", help="only cases whose id contains one of these")
    options.add_argument("--expect", nargs="+", help="only cases that expect one of these outcomes")
    options.add_argument("--keep", action="store_true", help="keep the gateway's directory")
    options.add_argument("--verbose", action="store_true", help="print every case")
    arguments = options.parse_args()
    rig, report, kinds = Rig(arguments), Report("ssh, direct" if arguments.direct else "ssh"), {}
    try:
        for case in rig.cases:
            begun = time.time()
            passed, why = rig.prove(case) if arguments.direct else rig.verify(case)
            report.add(case, passed, why)
            counts = kinds.setdefault(case["class"], [0, 0])
            counts[not passed] += 1
            if arguments.verbose:
                print(f"{'ok  ' if passed else 'FAIL'} {time.time() - begun:5.1f}s {case['id']}: {why}", flush=True)
            if rig.gateway and not rig.gateway.alive():
                break
        if arguments.direct:
            words = [w.split(",")[0] for _, p, w in report.rows if p]
            print("direct: " + ", ".join(f"{words.count(w)} {w}" for w in ("proven", "unprovable", "works")))
    finally:
        rig.stop()
    print("by class: " + ", ".join(f"{k} {a}/{a + b}" for k, (a, b) in sorted(kinds.items())))
    return report.close()


if __name__ == "__main__":
    sys.exit(main())
