//! The accept loop, on real sockets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_core::audit::Event;
use gateway_core::half_open::HalfOpen;
use gateway_core::limits::Limits;
use gateway_core::listener::Listener;
use gateway_core::proxy::TrustedProxies;
use gateway_core::tls::{ServerTls, TlsConfig};
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::lines::LinesAdapter;
use super::world::{World, line, rest, send};

/// A gateway on a port, before a target that answers every line with itself.
struct Port {
    world: World,
    address: std::net::SocketAddr,
    half_open: HalfOpen,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (from, mut to) = tcp.into_split();
                let mut lines = tokio::io::BufReader::new(from).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    send(&mut to, &format!("{line}!\n")).await;
                }
            });
        }
    });
    address
}

async fn port(change: impl FnOnce(&mut Limits)) -> Port {
    port_behind(change, TrustedProxies::default()).await
}

async fn port_behind(change: impl FnOnce(&mut Limits), proxies: TrustedProxies) -> Port {
    let mut limits = Limits::default();
    change(&mut limits);
    let half_open = HalfOpen::new(limits.half_open);
    let world = World::with(limits, &echo().await);
    let dir = tempfile::tempdir().unwrap();
    let tls = Arc::new(ServerTls::open(TlsConfig::default(), dir.path()).unwrap());
    let adapter = Arc::new(LinesAdapter {
        interrupts: world.interrupts.clone(),
    });
    let any = ([127, 0, 0, 1], 0).into();
    let listener = Listener::bind(any, adapter, world.gateway.clone(), tls, half_open.clone())
        .await
        .unwrap()
        .behind(proxies);
    let (address, stop) = (listener.address().unwrap(), CancellationToken::new());
    tokio::spawn(listener.run(stop.clone()));
    Port {
        world,
        address,
        half_open,
        stop,
        _dir: dir,
    }
}

impl Port {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn login(&self) -> TcpStream {
        let mut tcp = self.connect().await;
        send(&mut tcp, "LOGIN good lines-1\n").await;
        assert_eq!(line(&mut tcp).await, "WELCOME");
        tcp
    }

    async fn works(&self, tcp: &mut TcpStream) {
        send(tcp, "GET a\n").await;
        assert_eq!(line(tcp).await, "GET a!");
    }

    /// Waits until so many sessions have ended.
    async fn ended(&self, count: usize) -> Vec<String> {
        let since = Instant::now();
        while self.world.trail.ends().len() < count {
            assert!(since.elapsed() < Duration::from_secs(10), "they do not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.world.trail.ends().into_iter().map(|end| end.0).collect()
    }
}

#[tokio::test]
async fn what_comes_with_the_login_belongs_to_the_session() {
    let port = port(|_| {}).await;
    let mut tcp = port.connect().await;
    send(&mut tcp, "LOGIN good lines-1\nGET a\nDENY b\nGET").await;
    assert_eq!(line(&mut tcp).await, "WELCOME");
    assert_eq!(line(&mut tcp).await, "GET a!");
    assert!(line(&mut tcp).await.starts_with("DENIED"));
    send(&mut tcp, " c\nBYE\n").await;
    drop(tcp);
    assert_eq!(port.ended(1).await, ["client closed"]);
    assert_eq!(
        port.world.trail.operations(),
        ["allow GET a", "deny DENY b", "allow GET c"]
    );
}

#[tokio::test]
async fn a_bad_token_opens_nothing_and_is_in_the_trail() {
    let port = port(|_| {}).await;
    let mut tcp = port.connect().await;
    send(&mut tcp, "LOGIN bad lines-1\n").await;
    assert_eq!(rest(&mut tcp).await, "REFUSED login refused\n");
    let mut tcp = port.connect().await;
    send(&mut tcp, "LOGIN good elsewhere\n").await;
    assert_eq!(rest(&mut tcp).await, "REFUSED login refused\n");
    let events = port.world.trail.events.lock();
    let refused =
        |e: &&gateway_core::audit::Event| matches!(e, gateway_core::audit::Event::LoginRefused { .. });
    assert_eq!(events.iter().filter(refused).count(), 2);
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn a_connection_beyond_the_half_open_cap_is_closed_at_once() {
    let port = port(|limits| {
        limits.half_open = 2;
        limits.login = Duration::from_millis(700);
    })
    .await;
    let mut first = port.connect().await;
    let mut second = port.connect().await;
    while port.half_open.taken() < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let since = Instant::now();
    assert_eq!(rest(&mut port.connect().await).await, "");
    assert!(since.elapsed() < Duration::from_millis(500));
    // A login frees its place.
    send(&mut first, "LOGIN good lines-1\n").await;
    assert_eq!(line(&mut first).await, "WELCOME");
    let mut third = port.login().await;
    port.works(&mut third).await;
    // So does the deadline, which a login that never comes meets.
    send(&mut second, "LOGI").await;
    assert_eq!(rest(&mut second).await, "");
    let waited = since.elapsed();
    assert!(waited > Duration::from_millis(400), "{waited:?}");
    assert_eq!(port.half_open.taken(), 0);
    port.works(&mut first).await;
}

#[tokio::test]
async fn a_session_beyond_the_cap_is_refused_until_another_ends() {
    let port = port(|limits| limits.sessions = 1).await;
    let first = port.login().await;
    let mut second = port.connect().await;
    send(&mut second, "LOGIN good lines-1\n").await;
    assert!(
        rest(&mut second)
            .await
            .starts_with("REFUSED the gateway has no room")
    );
    drop(first);
    port.ended(1).await;
    let mut third = port.login().await;
    port.works(&mut third).await;
}

#[tokio::test]
async fn a_panic_costs_one_session() {
    let port = port(|_| {}).await;
    let mut bystander = port.login().await;
    for (i, message) in ["PANIC parse\n", "PANIC inspect\n"].into_iter().enumerate() {
        let mut tcp = port.login().await;
        port.works(&mut tcp).await;
        send(&mut tcp, message).await;
        assert_eq!(rest(&mut tcp).await, "");
        let ends = port.ended(i + 1).await;
        assert_eq!(ends[i], "the session's task panicked");
        assert_eq!(port.world.gateway.live().len(), 1);
        port.works(&mut bystander).await;
    }
    let mut other = port.login().await;
    port.works(&mut other).await;
}

#[tokio::test]
async fn a_target_that_is_not_there_ends_the_session_in_the_trail() {
    let port = port(|_| {}).await;
    let mut elsewhere = (*port.world.gateway.resource("lines-1").unwrap()).clone();
    elsewhere.address = "127.0.0.1:1".into();
    let all = std::collections::BTreeMap::from([(elsewhere.name.clone(), Arc::new(elsewhere))]);
    let mut before = port.login().await;
    port.world.gateway.replace_resources(all);
    let mut tcp = port.connect().await;
    send(&mut tcp, "LOGIN good lines-1\n").await;
    assert_eq!(rest(&mut tcp).await, "");
    assert_eq!(port.ended(1).await, ["ended before it began"]);
    // Running sessions keep what they have.
    port.works(&mut before).await;
}

#[tokio::test]
async fn a_stopped_listener_accepts_nothing_and_its_sessions_go_on() {
    let port = port(|_| {}).await;
    let mut tcp = port.login().await;
    port.stop.cancel();
    let since = Instant::now();
    while TcpStream::connect(port.address).await.is_ok() {
        assert!(since.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    port.works(&mut tcp).await;
}

/// Real sockets have buffers of their own; what the gateway keeps is bounded all the same.
#[tokio::test]
async fn a_client_that_does_not_read_is_bounded_on_real_sockets() {
    let port = port(|_| {}).await;
    let mut tcp = port.login().await;
    let taken = super::world::flood(&mut tcp, "DENY a\n", 256 << 20).await;
    // Loopback buffers are a few megabytes each.
    assert!(taken < 32 << 20, "{taken}");
    let refused = port.world.trail.operations().len();
    assert!(refused < 200_000, "{refused}");
    drop(tcp);
    port.ended(1).await;
}

#[tokio::test]
async fn behind_a_proxy_the_peer_is_whom_it_names() {
    let trusted = TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let port = port_behind(|limits| limits.login = Duration::from_millis(700), trusted).await;
    let mut tcp = port.connect().await;
    // What comes behind the header belongs to the adapter.
    send(
        &mut tcp,
        "PROXY TCP4 203.0.113.5 10.0.0.1 54321 6432\r\nLOGIN good lines-1\n",
    )
    .await;
    assert_eq!(line(&mut tcp).await, "WELCOME");
    port.works(&mut tcp).await;
    let named = |e: &Event| matches!(e, Event::SessionStarted { peer, .. } if peer.to_string() == "203.0.113.5:54321");
    assert!(port.world.trail.events.lock().iter().any(named));
    // No header, half of one, and none in time: no adapter sees any of it.
    for bad in [
        "LOGIN good lines-1\n",
        "PROXY TCP4 203.0.113.5\r\nLOGIN good lines-1\n",
        "PROXY ",
    ] {
        let mut tcp = port.connect().await;
        send(&mut tcp, bad).await;
        assert_eq!(rest(&mut tcp).await, "", "{bad}");
    }
    assert_eq!(
        port.world
            .trail
            .events
            .lock()
            .iter()
            .filter(|e| matches!(e, Event::SessionStarted { .. }))
            .count(),
        1
    );
}
