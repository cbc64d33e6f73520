//! Ports of the machine's loopback.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first port that is asked for; services of a machine are below.
const FIRST: u16 = 10_240;

/// Ports that this process has given out, each held by a lock that other processes see.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
static ASKED: AtomicU32 = AtomicU32::new(0);

/// A port on 127.0.0.1 that nothing listens on now, that no other test of this machine is given while this process
/// lives, and that is none of those which the kernel gives to whoever connects: between the choice and the server's
/// start one of those may be some connection's own end.
pub fn free_port() -> u16 {
    let kernels = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let end = kernels
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768_u16);
    let count = u32::from(end.saturating_sub(FIRST));
    let folder = std::env::temp_dir().join("gateway-test-ports");
    if count < 1_000 || std::fs::create_dir_all(&folder).is_err() {
        return listen(0).expect("no free port on 127.0.0.1");
    }
    for _ in 0..count {
        // Processes begin at different places, so that they seldom meet.
        let step = ASKED.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(7_919).wrapping_add(step) % count;
        let port = FIRST + u16::try_from(place).expect("fewer than there are ports");
        let Ok(lock) = File::create(folder.join(port.to_string())) else {
            continue;
        };
        if lock.try_lock().is_err() || listen(port).is_none() {
            continue;
        }
        HELD.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
        return port;
    }
    panic!("no free port on 127.0.0.1");
}

fn listen(port: u16) -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    Some(listener.local_addr().ok()?.port())
}

/// Waits until something accepts on 127.0.0.1:`port`; false when `limit` is over, or `alive` says that there is no
/// hope.
pub fn wait_for_port(port: u16, limit: Duration, mut alive: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    while Instant::now() < end {
        if !alive() {
            return false;
        }
        if TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}
