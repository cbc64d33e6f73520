"""Logging in at targets: every method, and TLS that is verified in full."""
import contextlib, os, pathlib, shutil, subprocess, tempfile

from harness import check, common, rig

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

    def __init__(self, server, certificate=None):
        self.owner, self.bin, self.port = server.owner, server.bin, common.free_port()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gateway-target-"))
        self.certificate = certificate

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
        if os.geteuid() == 0:
            for path in (self.dir, *self.dir.iterdir()):
                shutil.chown(path, self.owner)
        self.run(self.bin / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust")
        tls = f"ssl = on\nssl_cert_file = '{self.dir}/server.crt'\nssl_key_file = '{self.dir}/server.key'\n"
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses = 'localhost'\nport = {self.port}\nunix_socket_directories = ''\nfsync = off\n"
                       + (tls if self.certificate else ""))
        kind = "hostssl" if self.certificate else "host"
        rules = [f"host all postgres all trust"]
        rules += [f"{kind} all u_{method.replace('-', '_')} all {method}" for method in METHODS]
        (data / "pg_hba.conf").write_text("\n".join(rules) + "\n")
        self.run(self.bin / "pg_ctl", "-D", data, "-l", self.dir / "server.log", "-w", "start")
        admin = rig.Wire(self.port, 30).login("postgres", "", "postgres")
        for method in METHODS:
            how = "md5" if method == "md5" else "scram-sha-256"
            admin.query(f"SET password_encryption = '{how}'")
            admin.query(f"CREATE ROLE u_{method.replace('-', '_')} LOGIN PASSWORD 'tgt-Zeppelin'")
        admin.close()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError):
            self.run(self.bin / "pg_ctl", "-D", self.dir / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.dir, ignore_errors=True)

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
