"""What is kept is sealed: with which keys, what happens without them, and how one key follows another."""
import concurrent.futures, re, sqlite3, threading

from harness import POLICIES, check, eventually
from test_vault import section, vault_of

HELD = {**POLICIES, "held": """
@id("held") @approve("dba") @wait("2s") @expires("20m")
permit (principal in Group::"readers", action == Action::"write", resource == Table::"orders-db/public.orders");
"""}
CANARY = "canary-parameter-Potoroo-66"
HELD_UPDATE = f"UPDATE orders SET status = '{CANARY}' WHERE id = 1"
KEYS = ("mask.key", "scram.key", "ca.key", "audit.key")


def key(w, name):
    file = w.scratch / f"seal-{name}.key"
    file.write_text(w.cli("secrets", "key").stdout)
    return f'{{ file = "{file}" }}'


def secrets(*keys, require=False):
    return f'[secrets]\nkeys = [{", ".join(keys)}]\nrequire = {str(require).lower()}\n'


def configure(own, before, after):
    text = own.gateway.config.read_text()
    check(before in text, text)
    own.gateway.config.write_text(text.replace(before, after))


def restart(own):
    own.gateway.stop_only()
    own.gateway.start()


def hold(own):
    done = own.psql("reader", "-c", HELD_UPDATE)
    check("approval" in done.stderr, done.stderr)
    return own.rows("approvals", "list")[0]["id"]


def shown(own, approval):
    return own.cli("approvals", "show", approval).stdout


def files_with(own, words):
    files = [file for file in (own.gateway.dir / "data").rglob("*") if file.is_file()]
    return [file.name for file in files if words.encode() in file.read_bytes() and "audit" not in str(file.parent)]


def test_what_is_kept_can_be_read_with_the_key_alone(w):
    first, second = key(w, "first"), key(w, "second")
    on = secrets(first, require=True)
    with w.own(sections=on + "[audit]\nliterals = false\n", policies=HELD) as own:
        token = own.token("reader")
        approval = hold(own)
        check(CANARY in shown(own, approval), "people who decide read it")
        check(files_with(own, CANARY) == [], "and nobody else", files_with(own, CANARY))
        for name in KEYS:
            text = (own.gateway.dir / "data" / name).read_bytes()
            check(text.startswith(b"gwe1:"), name, text[:40])
        status = own.rows("secrets", "status")
        check({kept["key"] for kept in status["kept"]} == {status["keys"][0]}, status)
        # A start with another key says what is missing, and changes nothing.
        own.gateway.stop_only()
        kept = {name: (own.gateway.dir / "data" / name).read_bytes() for name in KEYS}
        configure(own, first, second)
        done = own.cli("serve", ok=False, timeout=60)
        check(done.returncode == 1 and "secrets.keys" in done.stderr + done.stdout and status["keys"][0] in done.stderr + done.stdout, done)
        check(kept == {name: (own.gateway.dir / "data" / name).read_bytes() for name in KEYS}, "a key file was touched")
        done = own.cli("approvals", "list", ok=False)
        check(done.returncode == 1 and CANARY not in done.stdout + done.stderr, done)
        # Without any key neither.
        configure(own, secrets(second, require=True), "")
        done = own.cli("serve", ok=False, timeout=60)
        check(done.returncode == 1 and "no key is configured" in done.stderr + done.stdout, done)
        # With it all is there.
        configure(own, "[audit]\n", on + "[audit]\n")
        own.gateway.start()
        check(own.token("reader") == token and own.psql("reader", "-Atc", "SELECT 1").stdout == "1\n")
        check(CANARY in shown(own, approval))


def test_one_key_follows_another_while_the_gateway_runs(w):
    old, new = key(w, "old"), key(w, "new")
    with w.own(sections="[audit]\nliterals = false\n", policies=HELD) as own:
        own.token("reader")
        approval = hold(own)
        check(files_with(own, CANARY) != [], "so far all is kept as it is")
        done = own.cli("secrets", "rotate", ok=False)
        check(done.returncode == 1 and "gateway secrets key" in done.stderr, done.stderr)
        # The first key: what is there is sealed by `rotate`, and read until then.
        configure(own, "[audit]\n", secrets(old) + "[audit]\n")
        done = own.cli("secrets", "rotate", ok=False)
        check(done.returncode == 1 and "restart it first" in done.stderr, done.stderr)
        restart(own)
        check(CANARY in shown(own, approval))
        check("plain" in own.cli("secrets", "status").stdout)
        done = own.cli("secrets", "rotate")
        check("audit.key" in done.stdout and "former keys" in done.stderr, done)
        check(files_with(own, CANARY) == [], files_with(own, CANARY))
        first = own.rows("secrets", "status")["keys"][0]
        # The next one, while logins and held statements go on.
        configure(own, secrets(old), secrets(new, old, require=True))
        restart(own)
        stop, faults = threading.Event(), []

        def busy():
            while not stop.is_set():
                done = own.psql("reader", "-Atc", "SELECT 1")
                if done.stdout != "1\n":
                    faults.append(done.stderr)
        worker = threading.Thread(target=busy)
        worker.start()
        for _ in range(3):
            own.cli("secrets", "rotate")
        stop.set()
        worker.join()
        check(faults == [], faults)
        status = own.rows("secrets", "status")
        check(first not in {kept["key"] for kept in status["kept"]} and len(status["keys"]) == 2, status)
        configure(own, secrets(new, old, require=True), secrets(new, require=True))
        restart(own)
        check(CANARY in shown(own, approval) and own.psql("reader", "-Atc", "SELECT 1").stdout == "1\n")
        check(own.cli("audit", "verify").returncode == 0)
        told = [event for event in own.rows("audit", "search", "--limit", "500") if "secrets rotate" in str(event)]
        check(len(told) >= 4, told)
        # On a gateway that does not run, too.
        own.gateway.stop_only()
        configure(own, secrets(new, require=True), secrets(old, new, require=True))
        own.cli("secrets", "rotate")
        configure(own, secrets(old, new, require=True), secrets(old, require=True))
        own.gateway.start()
        check(CANARY in shown(own, approval))


def test_what_says_it_is_sealed_is_opened_to_be_sure(w):
    first, second = key(w, "one"), key(w, "two")
    with w.own(sections=secrets(first, require=True) + "[audit]\nliterals = false\n", policies=HELD) as own:
        token = own.token("reader")
        mangled = own.cli("token", "create", "--subject", "mangled").stdout.split("_")[1]
        approval = hold(own)
        check(own.cli("secrets", "status").returncode == 0)
        db = own.gateway.dir / "data" / "gateway.db"
        with sqlite3.connect(db) as store:
            kept = store.execute("SELECT scram FROM tokens WHERE id = ?", [mangled]).fetchone()
            check(kept, mangled)
            store.execute("UPDATE tokens SET scram = (SELECT scram FROM tokens WHERE id <> ? LIMIT 1) WHERE id = ?", [mangled, mangled])
        for command in ("status", "rotate"):
            done = own.cli("secrets", command, ok=False)
            check(done.returncode == 1 and mangled in done.stdout and "changed or moved" in done.stdout, done)
        # It hides no other, and nobody else is locked out.
        check(mangled not in own.cli("token", "list").stdout and "reader" in own.cli("token", "list").stdout)
        check(approval in own.cli("approvals", "list").stdout and own.psql("reader", "-Atc", "SELECT 1").stdout == "1\n")
        own.cli("token", "revoke", mangled)
        check("whose row can't be read" in str(own.rows("audit", "search", "--limit", "50")), "in the trail")
        with sqlite3.connect(db) as store:
            store.execute("UPDATE tokens SET scram = ? WHERE id = ?", [kept[0], mangled])
        check(own.cli("secrets", "status").returncode == 0 and mangled in own.cli("token", "list").stdout)
        # The same for a file, also where no gateway runs.
        mask = own.gateway.dir / "data" / "mask.key"
        good = mask.read_bytes()
        mask.write_bytes((own.gateway.dir / "data" / "scram.key").read_bytes())
        done = own.cli("secrets", "rotate", ok=False)
        check(done.returncode == 1 and "mask.key" in done.stdout and "changed or moved" in done.stdout, done)
        own.gateway.stop_only()
        done = own.cli("secrets", "status", ok=False)
        check(done.returncode == 1 and "mask.key" in done.stdout, done)
        mask.write_bytes(good)
        # A key that is gone is made anew, and that is said.
        mask.unlink()
        own.gateway.start()
        check("mask.key` is gone" in own.log(), own.log()[-2000:])
        own.gateway.stop_only()
        mask.write_bytes(good)
        # Several who rotate at once, while it runs, lose nothing.
        configure(own, first, second + ", " + first)
        own.gateway.start()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            tries = list(pool.map(lambda _: own.cli("secrets", "rotate", ok=False), range(6)))
        check(all(done.returncode == 0 for done in tries), tries)
        configure(own, second + ", " + first, second)
        restart(own)
        check(own.cli("secrets", "status").returncode == 0 and CANARY in shown(own, approval))
        check(own.token("reader") == token and own.psql("reader", "-Atc", "SELECT 1").stdout == "1\n")


def test_rotating_without_a_key_leaves_nothing_behind(w):
    with w.own(start=False) as own:
        data = own.gateway.dir / "data"
        data.mkdir(exist_ok=True)
        done = own.cli("secrets", "rotate", ok=False)
        check(done.returncode == 1 and "gateway secrets key" in done.stderr, done.stderr)
        check(not (data / "audit").exists() and not (data / "audit.key").exists(), list(data.iterdir()))
    open_key = w.scratch / "open.key"
    open_key.write_text(w.cli("secrets", "key").stdout)
    open_key.chmod(0o644)
    with w.own(sections=secrets(f'{{ file = "{open_key}" }}')) as own:
        check("everybody on this host may read" in own.log(), own.log()[-2000:])


def test_a_key_that_is_none_is_told_without_being_repeated(w):
    word = w.scratch / "no.key"
    word.write_text("zeppelin-no-key\n")
    missing = w.scratch / "absent.key"
    same = key(w, "same")
    for text, why in [(secrets(f'{{ file = "{word}" }}'), "64 hex digits"), (secrets(f'{{ file = "{missing}" }}'), "cannot be read"),
                      (secrets(same, same), "same key"), (secrets('"zeppelin-no-key"'), "must be where a key is"),
                      ("[secrets]\nrequire = true\n", "needs `secrets.keys`"), (secrets(same).replace("keys", "kyes"), "did you mean `secrets.keys`"),
                      (secrets('{ vault = "corp", transit = "transit/gateway" }'), "[[vault]]")]:
        with w.own(start=False, sections=text) as own:
            done = own.cli("config", "check", ok=False)
            check(done.returncode == 1 and why in done.stderr, text, done.stderr)
            check("zeppelin" not in done.stderr + done.stdout, done)


def test_the_key_may_be_vaults_which_never_gives_it_away(w):
    with vault_of(w) as vault:
        keys = secrets('{ vault = "corp", transit = "transit/gateway" }', require=True)
        with w.own(start=False, sections=keys + section(vault), policies=HELD) as own:
            done = own.cli("config", "check", "--probe")
            check("made at the first start" in done.stderr, done.stderr)
            own.gateway.start()
            own.token("reader")
            approval = hold(own)
            wrapped = own.gateway.dir / "data" / "seal-corp-transit-gateway-1.wrapped"
            before = wrapped.read_text()
            check(before.startswith("vault:v1:") and files_with(own, CANARY) == [], before)
            check(all(one not in (own.gateway.dir / "gateway.log").read_text() for one in vault.secrets))
            # A newer version of Vault's key: ours is wrapped with it.
            vault.transit_version = 2
            own.cli("secrets", "rotate")
            check(wrapped.read_text().startswith("vault:v2:"), wrapped.read_text())
            done = own.cli("config", "check", "--probe")
            check("sealed with the key" in done.stderr, done.stderr)
            restart(own)
            check(CANARY in shown(own, approval))
            # Another key of ours under the same one of Vault's.
            configure(own, keys, secrets('{ vault = "corp", transit = "transit/gateway", generation = 2 }',
                                         '{ vault = "corp", transit = "transit/gateway" }', require=True))
            restart(own)
            own.cli("secrets", "rotate")
            check(len(own.rows("secrets", "status")["keys"]) == 2 and CANARY in shown(own, approval))
            # A Vault that is away: no start, and the error says who does not answer.
            own.gateway.stop_only()
            vault.denied = {"transit/decrypt/gateway"}
            done = own.cli("serve", ok=False, timeout=60)
            check(done.returncode == 1 and re.search(r"secrets.keys\[0\]", done.stderr + done.stdout) and "permit" in done.stderr + done.stdout, done)
            vault.denied = set()
            own.gateway.start()
            eventually(lambda: own.psql("reader", "-Atc", "SELECT 1").stdout == "1\n", "logins work again")
