"""Logins that a Vault makes for each session, and secrets that it keeps. The Vault is a stand-in that checks each request strictly;
the roles that it makes are real."""
import contextlib, pathlib, subprocess, sys, time

from harness import HERE, check, eventually

sys.path.insert(0, str(HERE.parent / "vault"))
from server import Vault  # noqa: E402

WHO = "SELECT current_user"


def section(vault, auth=None, **more):
    word = pathlib.Path(vault.scratch) / f"secret-id-{vault.port}"
    word.write_text(vault.secret_id + "\n")
    auth = auth or f'{{ method = "approle", role_id = "{vault.role_id}", secret_id = {{ file = "{word}" }} }}'
    return (f'[[vault]]\nname = "corp"\naddress = "{more.get("address", vault.address)}"\nnamespace = "{vault.namespace}"\nauth = {auth}\n')


def credential(role="orders-rw", own='structure_role = "orders-ro"', **more):
    keys = "".join(f', {key} = "{value}"' for key, value in more.items())
    return f'{{ kind = "vault", vault = "corp", role = "{role}", {own}{keys} }}'


@contextlib.contextmanager
def vault_of(w, certificate=None, **settings):
    vault = Vault(w.admin, certificate=certificate)
    vault.scratch = w.scratch
    vault.__dict__.update(settings)
    try:
        yield vault
        check(vault.faults == [], "the gateway asked what the API has not:", vault.faults)
    finally:
        vault.stop()


@contextlib.contextmanager
def leased(w, start=True, auth=None, resource=None, **settings):
    with vault_of(w, **settings) as vault:
        text = resource or w.resource(credential=credential())
        with w.own(start=start, sections=section(vault, auth), resources=text) as own:
            yield vault, own
            quiet(vault, own)


def quiet(vault, own):
    """None of the secrets is in the log, the trail, the store, or an answer."""
    seen = own.log() + own.cli("leases", "list", "--output", "json", ok=False).stdout + own.cli("config", "show").stdout
    files = [path for path in (own.gateway.dir / "data").rglob("*") if path.is_file()]
    check(not own.gateway.alive() or any(path.name == "gateway.db" for path in files), files)
    seen += "".join(path.read_bytes().decode("latin-1") for path in files)
    for secret in vault.secrets:
        check(secret not in seen, "a secret is told", secret)


def none_left(vault, own, seconds=15):
    eventually(lambda: vault.of("orders-rw") == [], "no login of a session is left", seconds)
    eventually(lambda: own.rows("leases", "list") == [], "no lease is left", seconds)


def test_a_sessions_user_is_vaults_and_is_revoked_at_its_end(w):
    with leased(w) as (vault, own):
        with own.connect("reader") as one, own.connect("reader") as two:
            names = [c.execute(WHO).fetchone()[0] for c in (one, two)]
            check(sorted(names) == sorted(vault.of("orders-rw")) and names[0] != names[1], names, vault.of("orders-rw"))
            check(one.execute("SELECT count(*) FROM public.orders").fetchone()[0] > 0, "it reads")
            listed = own.rows("leases", "list")
            check({lease["kind"] for lease in listed} == {"vault"} and len(listed) == 2, listed)
            check("handle" not in listed[0], listed)
            one.close()
            eventually(lambda: vault.of("orders-rw") == [names[1]], "the one that ended is revoked")
            check(two.execute("SELECT 1").fetchone() == (1,), "the other goes on")
        none_left(vault, own)
        gone = w.admin("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-approle-orders-rw%'")
        check(gone == ["0"], gone)
        check(len(vault.of("orders-ro")) == 1, "the gateway's own login is one, and kept", vault.of("orders-ro"))
        told = [str(row) for row in own.rows("audit", "search") if row["kind"] == "credential_leased"]
        check(len(told) == 2 and all(any(name in row for row in told) for name in names), told)


def test_every_way_to_log_in(w):
    word = w.scratch / "vault-word"
    for kind, auth in [("kubernetes", f'{{ method = "kubernetes", role = "gateway", jwt = {{ file = "{word}" }} }}'),
                       ("jwt", f'{{ method = "jwt", role = "gateway", jwt = {{ exec = ["cat", "{word}"] }} }}'),
                       ("token", f'{{ method = "token", token = {{ file = "{word}" }} }}')]:
        with vault_of(w) as vault:
            word.write_text(vault.static if kind == "token" else vault.jwt)
            with w.own(sections=section(vault, auth), resources=w.resource(credential=credential())) as own:
                with own.connect("reader") as session:
                    check(session.execute(WHO).fetchone()[0] in vault.of("orders-rw"), kind)
                none_left(vault, own)
                quiet(vault, own)


def test_vault_is_reached_over_tls_that_is_verified(w):
    pem = w.scratch / "vault.pem"
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=vault",
                           "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE", "-keyout", pem, "-out", pem.with_suffix(".crt")],
                          capture_output=True, text=True)
    check(made.returncode == 0, made.stderr)
    pem.write_text(pem.read_text() + pem.with_suffix(".crt").read_text())
    with vault_of(w, certificate=pem) as vault:
        good = section(vault).replace("namespace", f'ca = "{pem.with_suffix(".crt")}"\nnamespace')
        with w.own(sections=good, resources=w.resource(credential=credential())) as own:
            with own.connect("reader") as session:
                check(session.execute(WHO).fetchone()[0] in vault.of("orders-rw"))
            none_left(vault, own)
        asked = len(vault.calls)
        with w.own(sections=section(vault), resources=w.resource(credential=credential())) as own:
            check(own.psql("reader", "-c", "SELECT 1").returncode)
            eventually(lambda: "invalid peer certificate" in own.log(), "the log says why")
        check(len(vault.calls) == asked, "nothing is told to whom nobody vouches for")


def test_a_lease_is_renewed_while_its_session_lives(w):
    with leased(w, ttl=6) as (vault, own):
        with own.connect("reader") as session:
            name = session.execute(WHO).fetchone()[0]
            lease = next(lease for lease in vault.leases.values() if lease["name"] == name)
            eventually(lambda: lease["renewed"] >= 2, "renewed twice", 15)
            check(session.execute(WHO).fetchone()[0] == name, "it goes on")
            check(lease["renewed"] < 8, "not asked more often than there is need", lease["renewed"])
        none_left(vault, own)


def test_a_session_ends_with_a_login_that_is_not_renewed(w):
    """Whether Vault gives no more time, or was told by somebody else to revoke it."""
    for settings in ({"ttl": 4, "max_ttl": 8}, {"ttl": 6, "renewable": False}):
        with leased(w, **settings) as (vault, own), own.connect("reader") as session:
            session.execute(WHO)

            def over():
                try:
                    session.execute("SELECT 1")
                except Exception:
                    return True

            eventually(over, "the session is over", 20)
            eventually(lambda: "credential is over" in own.log(), "the log says why")
            none_left(vault, own)


def test_kill_9_leaves_no_login_behind(w):
    with leased(w) as (vault, own):
        session = own.connect("reader")
        session.execute(WHO)
        check(len(vault.of("orders-rw")) == 1)
        own.kill()
        check(len(vault.of("orders-rw")) == 1, "nobody has revoked it yet")
        own.gateway.start()
        none_left(vault, own, 20)
        with own.connect("reader") as session:
            session.execute(WHO)
        none_left(vault, own)


def test_a_vault_that_is_away_is_told_to_operators_alone(w):
    with leased(w) as (vault, own):
        with own.connect("reader") as session:
            session.execute(WHO)
        none_left(vault, own)
        vault.sealed = True
        done = own.psql("reader", "-c", "SELECT 1")
        check(done.returncode and "can't be reached" in done.stderr, done.stderr)
        check("ault" not in done.stderr and "seal" not in done.stderr and str(vault.port) not in done.stderr, done.stderr)
        eventually(lambda: "vault `corp`: making a login: it answers 503: Vault is sealed" in own.log(), "the log says why")
        vault.sealed = False
        with own.connect("reader") as session:
            check(session.execute(WHO).fetchone()[0] in vault.of("orders-rw"))
        none_left(vault, own)


def test_what_could_not_be_revoked_is_tried_again(w):
    with leased(w) as (vault, own):
        vault.revocation_fails = True
        with own.connect("reader") as session:
            session.execute(WHO)
        listed = eventually(lambda: [one for one in own.rows("leases", "list") if one["attempts"]], "it is listed", 20)
        check("role owns objects" in listed[0]["error"], listed)
        vault.revocation_fails = False
        none_left(vault, own, 30)


def test_a_token_that_vault_does_not_know_any_more_is_replaced(w):
    with leased(w) as (vault, own):
        with own.connect("reader") as session:
            session.execute(WHO)
        time.sleep(2.5)
        vault.forget_tokens()
        with own.connect("reader") as session:
            session.execute(WHO)
        none_left(vault, own)
        logins = vault.calls.count(("POST", "auth/approle/login"))
        check(logins == 2, logins)
        # A right that is lacking is no reason to log in.
        vault.denied.add("database/creds/orders-rw")
        time.sleep(2.5)
        for _ in range(2):
            check(own.psql("reader", "-c", "SELECT 1").returncode)
        check(vault.calls.count(("POST", "auth/approle/login")) == logins, vault.calls)
        eventually(lambda: "permission denied" in own.log() and "its policy does not permit it" in own.log(), "the log says why")


def test_a_wrong_secret_id_is_told_without_it(w):
    with vault_of(w) as vault:
        text = section(vault)
        pathlib.Path(w.scratch, f"secret-id-{vault.port}").write_text("sid-Zeppelin-wrong")
        vault.secrets.append("sid-Zeppelin-wrong")
        with w.own(sections=text, resources=w.resource(credential=credential())) as own:
            check(own.psql("reader", "-c", "SELECT 1").returncode)
            eventually(lambda: "logging in: it answers 400: invalid role or secret ID (hidden)" in own.log(), "the log says why")
            quiet(vault, own)


def test_config_check_probes_what_sessions_will_need(w):
    with leased(w, start=False) as (vault, own):
        done = own.cli("config", "check", "--probe")
        check("may make logins of role `orders-rw`" in done.stderr and "good for 1m, and renewed for 1h at most" in done.stderr, done.stderr)
        check(vault.of("orders-rw") == [], "none is made")
        vault.period = 0
        check("not periodic" in own.cli("config", "check", "--probe").stderr)
        vault.denied.add("database/roles/orders-rw")
        check("can't be seen" in own.cli("config", "check", "--probe").stderr)
        vault.denied.add("sys/leases/revoke")
        done = own.cli("config", "check", "--probe", ok=False)
        check(done.returncode == 1 and 'path "sys/leases/revoke" { capabilities = ["update"] }' in done.stderr, done.stderr)
    with leased(w, start=False, resource=w.resource(credential=credential(role="orders-xx"))) as (vault, own):
        done = own.cli("config", "check", "--probe", ok=False)
        check(done.returncode == 1 and "there is no role `orders-xx`" in done.stderr, done.stderr)


def test_a_password_that_vault_keeps(w):
    """Read again at each login, for a login that all share."""
    login, word = w.server.names["login"], w.server.names["password"]
    kept = f'{{ kind = "static", username = "{login}", password = {{ vault = "corp", path = "secret/orders/db", key = "password" }} }}'
    with vault_of(w) as vault:
        with w.own(sections=section(vault), resources=w.resource(credential=kept)) as own:
            for data, why in [(None, "there is no such secret"), ({"other": word}, "no such key"), ({"password": 743109827431}, "no text"),
                              ({"password": ""}, "is empty"), ({"password": "kv-Zeppelin-wrong"}, "28P01")]:
                vault.kv["orders/db"] = data
                check(own.psql("reader", "-c", "SELECT 1").returncode, data)
                eventually(lambda: why in own.log(), f"the log says {why}")
            vault.kv["orders/db"] = {"password": word, "other": "kv-Zeppelin-other"}
            vault.secrets += [word, "kv-Zeppelin-wrong", "kv-Zeppelin-other", "743109827431"]
            with own.connect("reader") as session:
                check(session.execute(WHO).fetchone()[0] == login)
            quiet(vault, own)
            # A reload keeps the token; another Vault is asked from then on.
            file = own.gateway.dir / "gateway.toml"
            text = file.read_text()
            file.write_text(text.replace("secret/orders/db", "secret/orders/new"))
            vault.kv["orders/new"] = {"password": word}
            vault.kv["orders/db"] = None
            own.hang_up()
            eventually(lambda: own.psql("reader", "-c", "SELECT 1").returncode == 0, "the new place is read")
            check(vault.calls.count(("POST", "auth/approle/login")) == 1, "one login for all of it")


def test_an_admin_login_of_a_role_for_each_session_may_be_kept_there_too(w):
    admin = '{ kind = "role", ttl = "2m", admin = { username = "postgres", password = { vault = "corp", path = "secret/admin", key = "word" } } }'
    with vault_of(w) as vault:
        vault.kv["admin"] = {"word": "superuser"}
        with w.own(sections=section(vault), resources=w.resource(credential=admin)) as own:
            with own.connect("reader") as session:
                check(session.execute(WHO).fetchone()[0].startswith("gw_"))
            eventually(lambda: own.rows("leases", "list") == [], "no lease is left", 15)


def test_faults_of_the_configuration_name_the_key(w):
    with vault_of(w) as vault:
        good = section(vault)
        for sections, resource, told in [
            (good.replace("namespace", "namespce"), None, "`vault.corp.namespce`: unknown key; did you mean `vault.corp.namespace`?"),
            (good.replace(vault.address, "http://vault.example:8200"), None, "`vault.corp.address`: must begin with `https://`"),
            (good.replace('method = "approle"', 'method = "aprole"'), None, "did you mean `approle`?"),
            (good + good, None, "there are two of this name"),
            (good, w.resource(credential=credential(vault="lab").replace('vault = "corp", ', "")), "there is no `[[vault]]` of this name; there are `corp`"),
            (good, w.resource(credential='{ kind = "static", username = "a", password = { vault = "lab", path = "secret/a", key = "b" } }'),
             "`resource.orders-db.credential.password`: vault: there is no `[[vault]]`"),
            (good, w.resource(credential='{ kind = "static", username = "a", password = { safe = "lab", path = "secret/a", key = "b" } }'), "not in this build"),
            ('[[audit.export]]\nkind = "otlp"\nurl = "https://a.example"\nheaders = { x = { vault = "corp", path = "secret/a", key = "b" } }\n' + good, None,
             "nothing may wait for an answer"),
        ]:
            with w.own(start=False, sections=sections, resources=resource or w.resource(credential=credential())) as own:
                done = own.cli("config", "check", ok=False)
                check(done.returncode == 1 and told in done.stdout + done.stderr, told, done.stderr)
