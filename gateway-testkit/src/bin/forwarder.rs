//! `forwarder LISTEN TARGET`: a plain TCP forwarder, to compare with.
#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a tool for benches; what is wrong is told at once"
)]

use std::net::SocketAddr;

use gateway_testkit::forward;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut address = || -> Option<SocketAddr> { arguments.next()?.parse().ok() };
    let (Some(listen), Some(target)) = (address(), address()) else {
        eprintln!("usage: forwarder LISTEN TARGET    (each IP:port)");
        std::process::exit(2);
    };
    let listener = TcpListener::bind(listen).await.expect("cannot listen there");
    forward(listener, target).await.expect("accept failed");
}
