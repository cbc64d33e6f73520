"""Ports for servers of tests and measurements."""
import collections, fcntl, pathlib, random, socket, tempfile

# Locks of the ports that were given out last; whoever asked for one before has long been listening. Not of all: `select` takes
# no descriptor above 1,023.
HELD = collections.deque(maxlen=64)
GIVEN = set()


def free_port():
    """A port on 127.0.0.1 that nothing has, and that no other runner is given before somebody listens there.

    None of those which the kernel gives to whoever connects: between the choice and the server's start one
    of those may be some connection's own end, and the server is told that its address is in use."""
    first, end = 10_240, int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    folder = pathlib.Path(tempfile.gettempdir()) / "gateway-test-ports"
    folder.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(range(first, end), end - first):
        if port in GIVEN:
            continue
        lock = open(folder / str(port), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as s:
                s.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        HELD.append(lock)
        GIVEN.add(port)
        return port
    raise SystemExit("no free port on 127.0.0.1")
