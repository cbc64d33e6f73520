"""Logging in at targets: every method, and TLS that is verified in full."""
import contextlib, json, os, pathlib, shutil, socket, ssl, struct, subprocess, tempfile, threading

from harness import check, common, eventually, query, rig

METHODS = ["trust", "password", "md5", "scram-sha-256"]


def shell(directory, *argv):
    done = subprocess.run(argv, cwd=directory, capture_output=True, text=True)
    check(done.returncode == 0, argv, done.stdout, done.stderr)


def certificates(directory):
    """A CA and two server certificates that it signed: one for localhost, one for another name."""
    shell(directory, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test CA",
          "-keyout", "ca.key", "-out", "ca.crt")
    for name, host in (("good", "localhost"), ("other", "elsewhere.test")):
        shell(directory, "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}",
              "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (directory / "ext").write_text(f"subjectAltName=DNS:{host}\n")
        shell(directory, "openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
              "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", f"{name}.crt")


class Target:
    """A second private server, whose users each log in another way, with TLS or without."""

    def __init__(self, server, certificate=None, client_ca=None):
        self.owner, self.bin, self.port = server.owner, server.bin, common.free_port()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gateway-target-"))
        self.certificate, self.client_ca = certificate, client_ca

    def run(self, *argv):
        prefix = ["runuser", "-u", self.owner, "--"] if os.geteuid() == 0 else []
        done = subprocess.run([*prefix, *map(str, argv)], cwd=self.dir, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)
        check(done.returncode == 0, argv, done.stderr)

    def __enter__(self):
        data = self.dir / "data"
        if self.certificate:
            for end in ("crt", "key"):
                shutil.copy(self.certificate.with_suffix("." + end), self.dir / f"server.{end}")
            (self.dir / "server.key").chmod(0o600)
        if self.client_ca:
            shutil.copy(self.client_ca, self.dir / "clients.crt")
        if os.geteuid() == 0:
            for path in (self.dir, *self.dir.iterdir()):
                shutil.chown(path, self.owner)
        self.run(self.bin / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust")
        tls = f"ssl = on\nssl_cert_file = '{self.dir}/server.crt'\nssl_key_file = '{self.dir}/server.key'\n"
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses = 'localhost'\nport = {self.port}\nunix_socket_directories = ''\nfsync = off\n"
                       + (tls if self.certificate else "")
                       + (f"ssl_ca_file = '{self.dir}/clients.crt'\n" if self.client_ca else ""))
        kind = "hostssl" if self.certificate else "host"
        rules = [f"host all postgres all trust"]
        if self.client_ca:
            rules += ["hostssl all u_cert all cert", "hostssl all u_scram_sha_256 all scram-sha-256 clientcert=verify-ca"]
        rules += [f"{kind} all u_{method.replace('-', '_')} all {method}" for method in METHODS]
        (data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        self.run(self.bin / "pg_ctl", "-D", data, "-l", self.dir / "server.log", "-w", "start")
        admin = rig.Wire(self.port, 30).login("postgres", "", "postgres")
        for method in METHODS:
            how = "md5" if method == "md5" else "scram-sha-256"
            admin.query(f"SET password_encryption = '{how}'")
            admin.query(f"CREATE ROLE u_{method.replace('-', '_')} LOGIN PASSWORD 'tgt-Zeppelin'")
        if self.client_ca:
            admin.query("CREATE ROLE u_cert LOGIN")
        admin.close()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError):
            self.run(self.bin / "pg_ctl", "-D", self.dir / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)

    def resource(self, secret, name, user, host="localhost", **keys):
        """One resource; `keys` are further ones of it."""
        more = "\n".join(f"{key} = {json.dumps(str(value))}" for key, value in keys.items())
        return f"""[[resource]]
name = "{name}"
protocol = "postgres"
address = "{host}:{self.port}"
database = "postgres"
{more}
credential = {{ kind = "static", username = "{user}", password = {{ file = "{secret}" }} }}
"""

    def resources(self, secret, tls, ca=None, host="localhost"):
        return "\n".join(f"""[[resource]]
name = "{method}"
protocol = "postgres"
address = "{host}:{self.port}"
database = "postgres"
tls = "{tls}"
{f'ca = "{ca}"' if ca else ''}
credential = {{ kind = "static", username = "u_{method.replace('-', '_')}", password = {{ file = "{secret}" }} }}
""" for method in METHODS)


def answers(w, resource):
    done = w.psql("reader", "-c", "SELECT current_user", env={"PGUSER": f"alice@{resource}", "PGDATABASE": "postgres"})
    check("Zeppelin" not in done.stdout + done.stderr, done.stdout, done.stderr)
    return done


def test_every_method_of_a_target_in_clear(w):
    with Target(w.server) as target:
        (target.dir / "secret").write_text("tgt-Zeppelin\n")
        with w.own(resources=target.resources(target.dir / "secret", "disable")) as own:
            for method in METHODS:
                done = answers(own, method)
                check(done.stdout.strip() == f"u_{method.replace('-', '_')}", method, done.stdout, done.stderr)


def test_a_wrong_password_of_the_gateway_is_told_to_operators_only(w):
    with Target(w.server) as target:
        (target.dir / "secret").write_text("wrong\n")
        with w.own(resources=target.resources(target.dir / "secret", "disable")) as own:
            done = answers(own, "scram-sha-256")
            check("can't be reached" in done.stderr and "u_scram" not in done.stderr, done.stderr)


def test_tls_to_a_target_is_verified_in_full(w):
    with tempfile.TemporaryDirectory(prefix="gateway-certs-") as name:
        certs = pathlib.Path(name)
        certificates(certs)
        with Target(w.server, certs / "good") as target:
            (target.dir / "secret").write_text("tgt-Zeppelin\n")
            secret = target.dir / "secret"
            with w.own(resources=target.resources(secret, "verify-full", certs / "ca.crt")) as own:
                for method in METHODS:
                    done = answers(own, method)
                    check(done.stdout.strip() == f"u_{method.replace('-', '_')}", method, done.stdout, done.stderr)
            # An unknown CA; and no TLS where the server wants it.
            for tls, ca in (("verify-full", certs / "other.crt"), ("disable", None)):
                with w.own(resources=target.resources(secret, tls, ca)) as own:
                    done = answers(own, "scram-sha-256")
                    check("can't be reached" in done.stderr, tls, done.stdout, done.stderr)
        # A certificate of the right CA for another name; and a server that has no TLS at all.
        with Target(w.server, certs / "other") as target:
            (target.dir / "secret").write_text("tgt-Zeppelin\n")
            resources = target.resources(target.dir / "secret", "verify-full", certs / "ca.crt")
            with w.own(resources=resources) as own:
                check("can't be reached" in answers(own, "scram-sha-256").stderr)
        with Target(w.server) as target:
            (target.dir / "secret").write_text("tgt-Zeppelin\n")
            resources = target.resources(target.dir / "secret", "verify-full", certs / "ca.crt")
            with w.own(resources=resources) as own:
                check("can't be reached" in answers(own, "scram-sha-256").stderr)


def test_each_mode_of_tls_to_a_target(w):
    """`require` takes any certificate, `verify-ca` any name, `verify-full` neither."""
    with tempfile.TemporaryDirectory(prefix="gateway-certs-") as name:
        certs = pathlib.Path(name)
        certificates(certs)
        ca, stranger = certs / "ca.crt", certs / "other.crt"
        with Target(w.server, certs / "other") as target:  # its certificate is for elsewhere.test
            secret = target.dir / "secret"
            secret.write_text("tgt-Zeppelin\n")
            cases = {
                "require": (dict(tls="require"), True),
                "verify-ca": (dict(tls="verify-ca", ca=ca), True),
                "verify-full": (dict(tls="verify-full", ca=ca), False),
                "default": (dict(ca=ca), False),
                "stranger": (dict(tls="verify-ca", ca=stranger), False),
                "system": (dict(tls="verify-ca"), False),
                "disable": (dict(tls="disable"), False),
            }
            text = "\n".join(target.resource(secret, case, "u_scram_sha_256", **keys) for case, (keys, _) in cases.items())
            text += target.resource(secret, "clear", "u_password", tls="require")
            with w.own(resources=text) as own:
                for case, (_, good) in cases.items():
                    done = answers(own, case)
                    check((done.stdout.strip() == "u_scram_sha_256") == good, case, done.stdout, done.stderr)
                # Who may be anybody does not get the password in clear, even inside of TLS.
                check("can't be reached" in answers(own, "clear").stderr)
                # A cancel goes the same way; without TLS the server would act on it, too, so its log tells.
                wire = rig.Wire(own.port, 20).login("alice@require", own.token("reader"), "postgres")
                check(query(wire, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0][1] == "row t", wire.lines)
                wire.close()
        with Target(w.server) as target:  # no TLS at all: no mode falls back
            secret = target.dir / "secret"
            secret.write_text("tgt-Zeppelin\n")
            text = "\n".join(target.resource(secret, mode, "u_scram_sha_256", tls=mode) for mode in ("require", "verify-ca"))
            with w.own(resources=text) as own:
                for mode in ("require", "verify-ca"):
                    check("can't be reached" in answers(own, mode).stderr, mode)


def test_a_target_that_wants_a_certificate(w):
    with tempfile.TemporaryDirectory(prefix="gateway-certs-") as name:
        certs = pathlib.Path(name)
        certificates(certs)
        shell(certs, "openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=u_cert", "-keyout", "client.key", "-out", "client.csr")
        shell(certs, "openssl", "x509", "-req", "-in", "client.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
              "-extfile", "ext", "-out", "client.crt")
        with Target(w.server, certs / "good", certs / "ca.crt") as target:
            secret = target.dir / "secret"
            secret.write_text("tgt-Zeppelin\n")
            ours = dict(ca=certs / "ca.crt", cert=certs / "client.crt", key=certs / "client.key")
            text = target.resource(secret, "cert", "u_cert", **ours) + target.resource(secret, "both", "u_scram_sha_256", **ours)
            text += target.resource(secret, "without", "u_cert", ca=certs / "ca.crt") + target.resource(secret, "half", "u_scram_sha_256", ca=certs / "ca.crt")
            with w.own(resources=text) as own:
                for resource, user in [("cert", "u_cert"), ("both", "u_scram_sha_256")]:
                    done = answers(own, resource)
                    check(done.stdout.strip() == user, resource, done.stderr, own.log()[-1500:])
                for resource in ["without", "half"]:
                    check("can't be reached" in answers(own, resource).stderr, resource)
                # Cancelling needs no certificate at the server, and takes the same way.
                wire = rig.Wire(own.port, 30).login("alice@both", own.token("reader"), "postgres")
                wire.close()


def test_settings_of_tls_that_contradict_each_other_are_refused(w):
    with tempfile.TemporaryDirectory(prefix="gateway-certs-") as name:
        certs = pathlib.Path(name)
        certificates(certs)
        ca, key = certs / "ca.crt", certs / "good.key"
        for keys, word in [
            (dict(tls='"require"', ca=ca), "verify-ca"), (dict(tls='"disable"', ca=ca), "disable"), (dict(tls='"verify-full"', ca=ca, cert=ca), "go together"),
            (dict(tls='"verify-full"', ca=ca, key=key), "go together"), (dict(tls='"verify-full"', ca=certs / "none"), "none"), (dict(tls='"verify-full"', ca=key), "good.key"),
            (dict(tls='"verify-full"', ca=ca, cert=certs / "other.crt", key=key), "certificate"), (dict(tls='"prefer"'), "verify-full"), (dict(tls='"disable"', channel_binding="require"), "channel_binding")]:
            more = "".join(f'\n{k} = "{v}"' for k, v in keys.items() if k != "tls")
            with w.own(start=False, resources=w.resource(tls=keys["tls"] + more)) as own:
                done = own.cli("config", "check", ok=False)
                check(done.returncode == 1 and word in done.stdout + done.stderr, keys, done.stdout, done.stderr)
                check("PRIVATE" not in done.stdout + done.stderr)


def test_scram_plus_is_taken_where_the_target_offers_it(w):
    """A real server tells by its log how it was logged in to; one in the middle that takes the offer away is seen."""
    with tempfile.TemporaryDirectory(prefix="gateway-certs-") as name:
        certs = pathlib.Path(name)
        certificates(certs)
        with Target(w.server, certs / "good") as target:
            secret = target.dir / "secret"
            secret.write_text("tgt-Zeppelin\n")
            front = Middle(target.port, certs / "good")
            stripped = Middle(target.port, certs / "good", strip=True)
            text = "".join(
                target.resource(secret, f"{binding}-{place}", "u_scram_sha_256", ca=certs / "ca.crt", channel_binding=binding)
                for binding in ("prefer", "require", "disable") for place in ("real",))
            for place, middle in (("front", front), ("stripped", stripped)):
                for binding in ("prefer", "require", "disable"):
                    text += target.resource(secret, f"{binding}-{place}", "u_scram_sha_256", ca=certs / "ca.crt", channel_binding=binding).replace(
                        f":{target.port}", f":{middle.port}")
            text += target.resource(secret, "require-md5", "u_md5", ca=certs / "ca.crt", channel_binding="require")
            with w.own(resources=text) as own:
                for binding in ("prefer", "require", "disable"):
                    done = answers(own, f"{binding}-real")
                    check(done.stdout.strip() == "u_scram_sha_256", binding, done.stderr, own.log()[-1500:])
                # The one in the middle has the server's own certificate and key, so that binding still matches.
                for binding, chosen in (("prefer", b"SCRAM-SHA-256-PLUS"), ("require", b"SCRAM-SHA-256-PLUS"), ("disable", b"SCRAM-SHA-256")):
                    front.chosen.clear()
                    done = answers(own, f"{binding}-front")
                    check(done.stdout.strip() == "u_scram_sha_256", binding, done.stderr, own.log()[-1500:])
                    check(set(front.chosen) == {chosen}, binding, front.chosen)
                # Without -PLUS in the offer: the server, which did offer it, refuses who says that it did not.
                for binding in ("prefer", "require"):
                    check("can't be reached" in answers(own, f"{binding}-stripped").stderr, binding)
                check("can't be reached" in answers(own, "require-md5").stderr)
            front.close(), stripped.close()


class Middle:
    """TLS on both sides with the server's own certificate: sees which mechanism is chosen, and may change the offer."""

    def __init__(self, to, certificate, strip=False):
        self.to, self.strip, self.chosen = to, strip, []
        self.inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.inside.load_cert_chain(certificate.with_suffix(".crt"), certificate.with_suffix(".key"))
        self.outside = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.outside.check_hostname, self.outside.verify_mode = False, ssl.CERT_NONE
        self.listener = socket.create_server(("localhost", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def close(self):
        self.listener.close()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with contextlib.suppress(OSError):
            request = rig.special_packet(rig.SSL_REQUEST)
            check(client.recv(8) == request)
            server = socket.create_connection(("localhost", self.to), 5)
            server.sendall(request)
            check(server.recv(1) == b"S")
            client.sendall(b"S")
            client, server = self.inside.wrap_socket(client, server_side=True), self.outside.wrap_socket(server)
            server.sendall(client.recv(4096))
            offer = server.recv(4096)
            if self.strip:
                offer = offer.replace(b"SCRAM-SHA-256-PLUS\0", b"")
                offer = offer[:1] + struct.pack("!I", len(offer) - 1) + offer[5:]
            client.sendall(offer)
            chosen = client.recv(4096)
            self.chosen.append(chosen[5:].split(b"\0")[0])
            server.sendall(chosen)
            threading.Thread(target=self.pump, args=(client, server), daemon=True).start()
            self.pump(server, client)

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError, ValueError):
            while piece := a.recv(65536):
                b.sendall(piece)
            b.close()


def test_cancelling_over_tls_at_the_target(w):
    with tempfile.TemporaryDirectory(prefix="gateway-certs-") as name:
        certs = pathlib.Path(name)
        certificates(certs)
        with Target(w.server, certs / "good") as target:
            secret = target.dir / "secret"
            secret.write_text("tgt-Zeppelin\n")
            with w.own(resources=target.resource(secret, "orders-db", "u_scram_sha_256", ca=certs / "ca.crt")) as own:
                wire = rig.Wire(own.port, 30).login("alice@orders-db", own.token("reader"), "postgres")
                wire.send(rig.frame("Q", rig.cstr("SELECT pg_sleep(20)")))
                import time
                time.sleep(1.0)
                with socket.create_connection(("127.0.0.1", own.port), 5) as s:
                    s.sendall(rig.special_packet(rig.CANCEL_REQUEST, struct.pack("!I", wire.key[0]) + wire.key[1]))
                wire.outstanding = 1
                wire.until_ready()
                check(wire.codes() == ["57014"], wire.lines)
                wire.close()
