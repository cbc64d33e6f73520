"""pgbench: its own tables made and filled, then its scripts in each query mode. The tables land in the schema `app`,
since the search path begins with "$user" and the login's name is that.
"""
from harness import check, direct_too


@direct_too
def test_initialise_and_run(w):
    try:
        done = w.run("migrator", "pgbench", "-i", "-s", "1", "-q", timeout=120)
        check(done.returncode == 0, done.stderr)
        check(w.admin("SELECT count(*) FROM app.pgbench_accounts") == ["100000"])
        for mode in ["simple", "extended", "prepared"]:
            for script, count in [(["-S"], "100"), ([], "25")]:
                done = w.run("migrator", "pgbench", "-M", mode, "-c", "4", "-j", "2", "-t", count, *script, timeout=120)
                check(done.returncode == 0, mode, script, done.stderr)
                check("number of failed transactions: 0 " in done.stdout, mode, script, done.stdout)
        check(w.admin("SELECT count(*) FROM app.pgbench_history") == ["100"])
    finally:
        w.admin("DROP TABLE IF EXISTS app.pgbench_accounts, app.pgbench_branches, app.pgbench_tellers, app.pgbench_history")
