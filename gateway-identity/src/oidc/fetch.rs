//! Getting a document of an issuer: one GET, no redirects, no proxies, bounded in size and time.

use std::time::Duration;

use bytes::Bytes;
use gateway_core::tls::ClientTls;
use gateway_core::transport::Transport;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::url::Address;

/// The largest document, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;
/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The most header lines of an answer.
const MAX_HEADERS: usize = 100;

/// Gets a document within the time; an `Err` says why not, without a word of what was answered.
pub(super) async fn get(
    address: &Address,
    tls: Option<&ClientTls>,
    within: Duration,
) -> Result<Bytes, String> {
    match tokio::time::timeout(within, exchange(address, tls)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "`{}` gave no answer within {within:?}",
            address.authority
        )),
    }
}

async fn exchange(address: &Address, tls: Option<&ClientTls>) -> Result<Bytes, String> {
    let Address { authority, .. } = address;
    let failed = |error: &dyn std::fmt::Display| format!("`{authority}`: {error}");
    let tcp = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(|e| failed(&e))?;
    let peer = tcp.peer_addr().map_err(|e| failed(&e))?;
    if !address.may_reach(peer.ip()) {
        return Err(failed(
            &"plain HTTP is for loopback, and this name leads elsewhere",
        ));
    }
    let transport = match (address.secure, tls) {
        (false, _) => Transport::Tcp(tcp),
        (true, Some(tls)) => tls.connect(&address.host, tcp).await.map_err(|e| failed(&e))?,
        (true, None) => return Err(failed(&"there is no TLS to reach it with")),
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(transport))
        .await
        .map_err(|e| failed(&e))?;
    let request = Request::get(&address.path)
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("gateway/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(&e))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        match response.status() {
            StatusCode::OK => {}
            // Who follows redirects lets anybody who can answer once choose where keys come from.
            status if status.is_redirection() => {
                return Err(failed(&format!(
                    "answered {}; redirects are not followed",
                    status.as_u16()
                )));
            }
            status => return Err(failed(&format!("answered {}", status.as_u16()))),
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(failed(&format!("its answer is longer than {MAX_DOCUMENT} bytes")))
            }
            Err(error) => Err(failed(&error)),
        }
    };
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        answer = &mut answer => answer,
        // The connection is done once its last bytes are read; they may still wait to be taken.
        _ = &mut connection => answer.await,
    }
}
