#!/usr/bin/env python3
"""Kills a gateway that makes a role for each session, at random moments, and looks at what is left.

    run.py --gateway PATH [--rounds 200] [--clients 16] [--seed N] [--keep]

In each round clients log in, ask and leave, as fast as they can, until the gateway is killed (SIGKILL) and started again. After
the last one nothing may be left of any session: no role `gw_...` at the target, no lease in the journal. Roles of others, some
with such names and marks of other gateways, must be as they were, and sessions must have got through. What each start had to take
back is counted: a run in which no kill ever met a lease has shown nothing.

The last line is "N passed, N failed".
"""
import argparse, contextlib, os, pathlib, random, sys, threading, time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))
import harness  # noqa: E402
from harness import query  # noqa: E402

# Roles of others; some look as if they were a session's.
OTHERS = """
CREATE ROLE gw_bystander LOGIN PASSWORD 'theirs';
CREATE ROLE gw_0123456789abcdef LOGIN VALID UNTIL '2001-01-01';
COMMENT ON ROLE gw_0123456789abcdef IS 'gateway:elsewhere:0123456789abcdef principal=x session=y';
CREATE ROLE gateway_grants_00000000000000000000000000000000;
COMMENT ON ROLE gateway_grants_00000000000000000000000000000000 IS 'gateway:elsewhere:grants 1';
CREATE ROLE gw_owner; CREATE TABLE public.of_others (a int); ALTER TABLE public.of_others OWNER TO gw_owner;
GRANT SELECT ON public.orders TO gw_bystander
"""
THEIRS = ("gw_bystander", "gw_0123456789abcdef", "gateway_grants_00000000000000000000000000000000", "gw_owner")
NAMES = ", ".join(f"'{name}'" for name in THEIRS)
# All that is known of them.
AS_THEY_ARE = [
    f"SELECT a::text, shobj_description(a.oid, 'pg_authid') FROM pg_authid a WHERE rolname IN ({NAMES}) ORDER BY rolname",
    "SELECT tableowner FROM pg_tables WHERE tablename = 'of_others'",
    "SELECT has_table_privilege('gw_bystander', 'public.orders', 'SELECT')",
]
OURS = f"SELECT rolname FROM pg_roles WHERE rolname LIKE 'gw\\_%' AND rolname NOT IN ({NAMES}) ORDER BY 1"


class Load:
    """Clients that come, ask and leave until it is over."""

    def __init__(self, world, token, clients):
        self.world, self.token, self.over, self.served = world, token, threading.Event(), 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self):
        while not self.over.is_set():
            with contextlib.suppress(Exception):
                wire = self.world.wire("reader", password=self.token, seconds=5)
                try:
                    query(wire, "SELECT count(*) FROM orders")
                    with self.lock:
                        self.served += 1
                finally:
                    wire.close()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        return self.served


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--gateway", required=True)
    ask.add_argument("--rounds", type=int, default=200)
    ask.add_argument("--clients", type=int, default=16)
    ask.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    ask.add_argument("--keep", action="store_true", help="keep the gateway's folder")
    args = ask.parse_args()
    print(f"seed {args.seed}", flush=True)
    dice = random.Random(args.seed)
    world, faults = harness.World(args.gateway, args.keep), []
    served = met = slowest = 0
    try:
        world.server.start()
        for statement in OTHERS.strip().split(";\n"):
            world.admin(statement)
        before = [world.admin(sql) for sql in AS_THEY_ARE]
        word = world.scratch / "admin"
        word.write_text("superuser")
        resource = world.resource(credential=f'{{ kind = "role", ttl = "2m", admin = {{ username = "postgres", '
                                             f'password = {{ file = "{word}" }} }} }}')
        with world.own(resources=resource) as own:
            token = own.token("reader", ttl="12h")
            for turn in range(args.rounds):
                load = Load(own, token, args.clients)
                time.sleep(0.15 + dice.random())
                own.kill()
                served += load.stop()
                left = len(own.rows("leases", "list"))
                met += left > 0
                began = time.monotonic()
                own.gateway.start()
                slowest = max(slowest, time.monotonic() - began)
                if (turn + 1) % 10 == 0 or turn + 1 == args.rounds:
                    print(f"round {turn + 1}: {served} sessions served, {met} kills met leases, {left} at the last", flush=True)
            for what, look in [("no role of a session is left", lambda: world.admin(OURS) == []),
                               ("no lease is in the journal", lambda: own.rows("leases", "list") == [])]:
                try:
                    harness.eventually(look, what, 60)
                except AssertionError as fault:
                    faults.append(f"{fault}: {world.admin(OURS)} {own.rows('leases', 'list')}")
            after = [world.admin(sql) for sql in AS_THEY_ARE]
            if after != before:
                faults.append(f"roles of others were touched:\n  {before}\n  {after}")
            if not served or not met:
                faults.append(f"{served} sessions were served and {met} kills met leases: that shows nothing")
            if query(own.wire("reader", password=token), "SELECT 1")[1]:
                faults.append("the last start serves nobody")
    finally:
        world.stop()
    print(f"{args.rounds} rounds, {args.clients} clients: {served} sessions served, {met} kills met leases, slowest start "
          f"{slowest:.1f} s")
    for fault in faults:
        print(f"FAIL {fault}")
    print(f"{4 - min(len(faults), 4)} passed, {len(faults)} failed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
