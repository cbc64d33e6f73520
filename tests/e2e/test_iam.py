"""Tokens of AWS RDS as passwords. The server asks for the password in clear, as RDS does, and has it looked at by a directory that
computes Signature Version 4 by itself; the metadata service and the token service are stand-ins that check what they are asked."""
import contextlib, datetime, hashlib, hmac, http.server, json, os, threading, urllib.parse

from harness import check, eventually
from ldap import Directory

HOST = "orders.abc123.eu-west-1.rds.amazonaws.com:5432"
REGION = "eu-west-1"
SECRETS = {"AKIDENV": "env/Zeppelin+secret", "AKIDFILE": "file/Zeppelin+secret", "ASIAIMDS": "imds/Zeppelin+secret",
           "ASIAPOD": "pod/Zeppelin+secret", "ASIAROLE": "role/Zeppelin+secret"}
TOKENS = {"ASIAIMDS": "imds-Zeppelin/session+token==", "ASIAPOD": "pod-Zeppelin/session+token==", "ASIAROLE": "role-Zeppelin/session+token=="}
WHO = "SELECT current_user"


def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(secret, scope, stamp, canonical):
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = mac(key, part)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return mac(key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}").hex()


def fresh(stamp):
    then = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    return abs((datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()) < 60


def is_good(user, token):
    """As RDS has it judged: by the documentation of Signature Version 4, not by the gateway's library."""
    place, _, query = token.partition("/?")
    pairs = [tuple(map(urllib.parse.unquote, pair.split("=", 1))) for pair in query.split("&")]
    asked = dict(pairs)
    if place != HOST or len(asked) != len(pairs) or asked.get("Action") != "connect" or asked.get("DBUser") != user:
        return False
    given = asked.pop("X-Amz-Signature", "")
    key, _, scope = asked["X-Amz-Credential"].partition("/")
    stamp = asked["X-Amz-Date"]
    if scope != f"{stamp[:8]}/{REGION}/rds-db/aws4_request" or asked["X-Amz-Expires"] != "900" or not fresh(stamp):
        return False
    if asked.get("X-Amz-Security-Token") != TOKENS.get(key) or asked["X-Amz-SignedHeaders"] != "host":
        return False
    quote = lambda text: urllib.parse.quote(text, safe="-_.~")
    ordered = "&".join(sorted(f"{quote(name)}={quote(value)}" for name, value in asked.items()))
    canonical = f"GET\n/\n{ordered}\nhost:{HOST}\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    return hmac.compare_digest(given, signature(SECRETS[key], scope, stamp, canonical))


class Aws:
    """The metadata service of an instance, and the token service."""

    def __init__(self, word):
        self.faults, self.calls, self.lasts = [], [], 3600
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def say(self, status, text):
                self.send_response(status)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def fault(self, what):
                outer.faults.append(f"{self.command} {self.path}: {what}")
                self.say(400, "")

            def end(self):
                then = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=outer.lasts)
                return then.strftime("%Y-%m-%dT%H:%M:%SZ")

            def do_PUT(self):
                outer.calls.append(self.path)
                if self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
                    return self.fault("no token is asked for")
                self.say(200, "imds-Zeppelin-token")

            def do_GET(self):
                outer.calls.append(self.path)
                if self.headers.get("X-aws-ec2-metadata-token") != "imds-Zeppelin-token":
                    return self.fault("without the token of version 2")
                base = "/latest/meta-data/iam/security-credentials/"
                if self.path == base:
                    return self.say(200, "orders-instance\n")
                if self.path != base + "orders-instance":
                    return self.fault("another path")
                self.say(200, json.dumps({"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAIMDS", "Expiration": self.end(),
                                          "SecretAccessKey": SECRETS["ASIAIMDS"], "Token": TOKENS["ASIAIMDS"]}))

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(urllib.parse.parse_qsl(raw, strict_parsing=True))
                outer.calls.append(form["Action"])
                if self.headers["Content-Type"] != "application/x-www-form-urlencoded" or form.pop("Version") != "2011-06-15":
                    return self.fault("no form of the API")
                action, role = form.pop("Action"), form.pop("RoleArn")
                form.pop("RoleSessionName")
                if action == "AssumeRoleWithWebIdentity":
                    if form != {"WebIdentityToken": word} or role != "arn:aws:iam::1:role/pod":
                        return self.say(403, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>"
                                             f"{form}</Message></Error></ErrorResponse>")
                    key = "ASIAPOD"
                elif action == "AssumeRole" and form == {} and role == "arn:aws:iam::2:role/db":
                    if not self.is_signed(raw):
                        return self.fault("the signature is wrong")
                    key = "ASIAROLE"
                else:
                    return self.fault("another action")
                self.say(200, f"<{action}Response><{action}Result><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{SECRETS[key]}"
                              f"</SecretAccessKey><SessionToken>{TOKENS[key]}</SessionToken><Expiration>{self.end()}</Expiration>"
                              f"</Credentials></{action}Result></{action}Response>")

            def is_signed(self, raw):
                kind, _, rest = self.headers["Authorization"].partition(" ")
                said = dict(part.split("=", 1) for part in rest.split(", "))
                key, _, scope = said["Credential"].partition("/")
                stamp = self.headers["X-Amz-Date"]
                names = said["SignedHeaders"].split(";")
                headers = "".join(f"{name}:{self.headers[name]}\n" for name in names)
                canonical = f"POST\n/\n\n{headers}\n{said['SignedHeaders']}\n{hashlib.sha256(raw.encode()).hexdigest()}"
                return (kind == "AWS4-HMAC-SHA256" and fresh(stamp) and scope == f"{stamp[:8]}/{REGION}/sts/aws4_request" and "host" in names
                        and said["Signature"] == signature(SECRETS[key], scope, stamp, canonical))

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def directory(w, user="iam_app"):
    """The server asks for this user's token; everybody else logs in as before."""
    judged = Directory(is_good)
    hba = w.server.dir / "data" / "pg_hba.conf"
    before = hba.read_text()
    line = f'host all {user} 127.0.0.1/32 ldap ldapserver=127.0.0.1 ldapport={judged.port} ldapprefix="cn=" ldapsuffix=""\n'
    w.admin(f"CREATE ROLE {user} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
    hba.write_text(line + before)
    w.admin("SELECT pg_reload_conf()")
    eventually(lambda: w.admin("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method = 'ldap'") == ["1"], "the server asks the directory")
    try:
        yield judged
    finally:
        hba.write_text(before)
        w.admin("SELECT pg_reload_conf()")
        w.admin(f"DROP OWNED BY {user}; DROP ROLE {user}")
        judged.stop()


@contextlib.contextmanager
def environment(**variables):
    """What the gateway inherits: nothing of AWS but this."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("AWS_"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def credential(**more):
    keys = {"username": "iam_app", "region": REGION, "host": HOST, **more}
    return '{ kind = "iam", ' + ", ".join(f'{key} = "{value}"' for key, value in keys.items()) + " }"


def logged_in(w, judged, key, own):
    with own.connect("reader") as session:
        check(session.execute(WHO).fetchone()[0] == "iam_app")
        check(session.execute("SELECT count(*) FROM public.orders").fetchone()[0] > 0)
    check(all(good for _, _, good in judged.asked) and f"={key}%2F" in judged.asked[-1][1], judged.asked)
    seen = own.log() + own.cli("audit", "search", "--output", "json").stdout + own.cli("config", "show").stdout
    for secret in [*SECRETS.values(), *TOKENS.values(), *(token for _, token, _ in judged.asked), "X-Amz-Signature"]:
        check(secret not in seen, "a secret is told", secret)


def test_a_token_is_the_password_with_keys_from_each_source(w):
    word = "pod-Zeppelin-jwt"
    (w.scratch / "pod-token").write_text(word + "\n")
    (w.scratch / "aws-credentials").write_text(f"[orders]\naws_access_key_id = AKIDFILE\naws_secret_access_key = {SECRETS['AKIDFILE']}\n")
    aws = Aws(word)
    nowhere = {"HOME": str(w.scratch / "nobody"), "AWS_EC2_METADATA_SERVICE_ENDPOINT": aws.address, "AWS_ENDPOINT_URL_STS": aws.address}
    env = {"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": SECRETS["AKIDENV"]}
    try:
        with directory(w) as judged:
            for key, variables, more in [
                ("AKIDENV", env, {}),
                ("AKIDFILE", {**env, "AWS_SHARED_CREDENTIALS_FILE": str(w.scratch / "aws-credentials")}, {"profile": "orders"}),
                ("ASIAPOD", {"AWS_WEB_IDENTITY_TOKEN_FILE": str(w.scratch / "pod-token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/pod"}, {}),
                ("ASIAIMDS", {}, {}),
                ("ASIAROLE", env, {"role_arn": "arn:aws:iam::2:role/db"}),
            ]:
                with environment(**nowhere, **variables), w.own(resources=w.resource(credential=credential(**more))) as own:
                    logged_in(w, judged, key, own)
                    before = len(aws.calls)
                    logged_in(w, judged, key, own)
                    check(len(aws.calls) == before, "keys with an end are remembered", aws.calls)
                    check(own.rows("leases", "list") == [], "there is nothing to take back")
            check(aws.faults == [], aws.faults)
            # Keys that are about to end are asked for anew.
            aws.lasts = 200
            with environment(**nowhere), w.own(resources=w.resource(credential=credential())) as own:
                logged_in(w, judged, "ASIAIMDS", own)
                before = len(aws.calls)
                logged_in(w, judged, "ASIAIMDS", own)
                check(len(aws.calls) > before, "asked anew")
    finally:
        aws.stop()


def test_without_good_keys_the_client_learns_nothing_and_the_log_says_why(w):
    aws = Aws("right")
    (w.scratch / "pod-token").write_text("pod-Zeppelin-wrong")
    pod = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(w.scratch / "pod-token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/pod"}
    base = {"HOME": str(w.scratch / "nobody"), "AWS_ENDPOINT_URL_STS": aws.address, "AWS_EC2_METADATA_DISABLED": "true"}
    try:
        with directory(w) as judged:
            for variables, why in [
                ({}, "there are no keys in the environment"),
                (pod, "the Security Token Service answers 403 InvalidIdentityToken"),
                ({"AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "env/Zeppelin+wrong"}, "28000"),
            ]:
                with environment(**base, **variables), w.own(resources=w.resource(credential=credential())) as own:
                    done = own.psql("reader", "-c", "SELECT 1")
                    check(done.returncode and "can't be reached" in done.stderr and "AWS" not in done.stderr, done.stderr)
                    log = eventually(lambda: why in own.log() and own.log(), f"the log says {why}")
                    check("Zeppelin" not in log and "X-Amz" not in log, log)
                    done = own.cli("config", "check", "--probe", ok=False)
                    check(done.returncode == 1 and why in done.stderr and "Zeppelin" not in done.stderr, done.stderr)
            check(judged.asked and not any(good for _, _, good in judged.asked), judged.asked)
    finally:
        aws.stop()


def test_a_token_never_goes_over_a_network_in_clear(w):
    text = w.resource(credential=credential(), address='"10.0.0.1:5432"')
    with environment(), w.own(start=False, resources=text) as own:
        done = own.cli("config", "check", ok=False)
        check(done.returncode == 1 and "would go over the network in clear" in done.stdout + done.stderr, done.stderr)
