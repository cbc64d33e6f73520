#!/usr/bin/env python3
"""Plays the API of a real gateway against its own description, with schemathesis: with a valid token, and without one.

    run.py --gateway PATH [--seconds N] [--keep]

What a stream tells is for tests/e2e; here no request lasts. The last line is "N passed, N failed": a run of schemathesis
is one test, and so is each operation that must refuse whoever shows nothing.
"""
import argparse, json, pathlib, subprocess, sys, urllib.error, urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import harness  # noqa: E402
import rig  # noqa: E402

POLICIES = {"all": """
@id("connect") permit (principal, action == Action::"connect", resource);
@id("root") permit (principal in Group::"root", action in [Action::"session-view", Action::"session-watch",
    Action::"session-kill", Action::"audit-search", Action::"administer"], resource);
@id("held") @approve("root") @wait("300s")
permit (principal in Group::"readers", action == Action::"write", resource == Table::"orders-db/public.orders");
@id("read") permit (principal in Group::"readers", action == Action::"read", resource in Resource::"orders-db");
"""}

STREAMS = "/events$"
# What a statement means the target's structure tells: where that can't be read, the answer is 422.
CONFIG = """
[[operations]]
include-path = "/api/v1/policy/explain"
checks.positive_data_acceptance.enabled = false

# A public key that is none is refused, and a body of more than 64 KiB is so with 413 (RFC 9110, section 15.5.14).
[[operations]]
include-path = "/api/v1/certificates"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429]

# Nobody but Slack can say what it takes.
[[operations]]
include-path = "/slack/interactions"
checks.positive_data_acceptance.enabled = false
"""
# Without the last ones all that it knows. What a resource's id leads to is decided by policy, not by who made it; and a
# wrong token that comes often is answered with 429, which that check takes for an answer to it.
WITHOUT = "object_level_authorization,use_after_free,ensure_resource_availability"


def schemathesis(folder, base, seconds, *more):
    tool = pathlib.Path(sys.executable).parent / "schemathesis"
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [tool, "run", base + "/api/v1/openapi.json", "--exclude-path-regex", STREAMS, "--exclude-checks", WITHOUT,
               "--phases", "examples,coverage,fuzzing", "--max-time", str(seconds), "--rate-limit", "45/s", "--seed", "20260124",
               "--suppress-health-check", "all", "--request-timeout", "20", "--warnings", "off", "--continue-on-failure",
               "--generation-database", "none", *more]
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, timeout=seconds * 3 + 120,
                          cwd=folder)
    if done.returncode:
        print(done.stdout[-20000:], done.stderr[-4000:])
    else:
        print("\n".join(done.stdout.strip().splitlines()[-12:]))
    return done.returncode == 0


def refuses(base, document):
    """Every operation that asks for a token, asked without one: those that do not answer 401."""
    wrong, asked = [], 0
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters" or operation.get("security") == []:
                continue
            asked += 1
            url = base + path.replace("{id}", "01890000-0000-7000-8000-000000000000")
            request = urllib.request.Request(url, method=method.upper(), data=b"{}" if method == "post" else None,
                                             headers={"content-type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    wrong.append((method, path, answer.status))
            except urllib.error.HTTPError as error:
                body = json.loads(error.read())
                if error.code != 401 or body["status"] != 401 or error.headers["content-type"] != "application/problem+json":
                    wrong.append((method, path, error.code))
    return asked, wrong


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True, help="the gateway's binary")
    ask.add_argument("--seconds", type=int, default=40, help="for the run with a token; a third of it without one")
    ask.add_argument("--keep", action="store_true", help="keep the gateway's folder")
    args = ask.parse_args()
    world, passed, failed = harness.World(args.gateway, args.keep), 0, 0
    try:
        world.server.start()
        world.gateway = world.make(policies=POLICIES).start()
        base = f"http://127.0.0.1:{world.gateway.control}"
        token = world.gateway.token("root@corp.test", groups=["root"])
        # Something to find: a session, an approval that waits.
        wires = [world.wire("reader") for _ in range(2)]
        wires[1].exchange([rig.frame("Q", rig.cstr("UPDATE orders SET status = 'x' WHERE id = 1"))])
        harness.check(wires[1].held, "nothing is held")
        with urllib.request.urlopen(base + "/api/v1/openapi.json", timeout=10) as answer:
            document = json.loads(answer.read())
        asked, wrong = refuses(base, document)
        print(f"without a token: {asked} operations asked, wrong: {wrong}")
        passed, failed = passed + asked - len(wrong), failed + len(wrong)
        for name, seconds, more in [("with a token", args.seconds, ["-H", f"Authorization: Bearer {token}"]),
                                    ("without one", max(args.seconds // 3, 5), [])]:
            print(f"---- schemathesis {name}", flush=True)
            good = schemathesis(world.scratch, base, seconds, *more) and world.gateway.alive()
            passed, failed = passed + good, failed + (not good)
        log = world.log()
        if "panicked" in log:
            print(log[-3000:])
            failed += 1
    finally:
        world.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
