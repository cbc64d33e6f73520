"""JDBC (Debian's libpostgresql-jdbc-java), where it and a Java that runs a source file are on the machine."""
import os, pathlib, shutil, subprocess

from harness import Skipped, check


def test_jdbc_logs_in_asks_and_cancels(w):
    driver = pathlib.Path("/usr/share/java/postgresql.jar")
    if not (shutil.which("java") and shutil.which("javac") and driver.exists()):
        raise Skipped("needs a JDK and libpostgresql-jdbc-java")
    token = w.token("reader")
    url = f"jdbc:postgresql://localhost:{w.port}/{w.database}"
    source = pathlib.Path(__file__).with_name("Jdbc.java")
    arguments = [url, w.user("reader"), f"{token.split('_')[1]}@orders-db", str(w.gateway.ca())]
    done = subprocess.run(["java", "-cp", str(driver), str(source), *arguments], capture_output=True, text=True,
                          timeout=140, env={**os.environ, "TOKEN": token})
    check(done.returncode == 0 and done.stdout == "done\n", done.stdout, done.stderr[-3000:])
