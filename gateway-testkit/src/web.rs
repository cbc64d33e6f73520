//! A web server that does as it is told, also badly: an identity provider for tests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a path is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 and this body.
    Body(String),
    /// This status, with a body of HTML.
    Status(u16),
    /// 302 to there.
    Redirect(String),
    /// 200 and this many bytes, a MiB at a time, for as long as anybody takes them. With a length in front, or
    /// chunked.
    Huge {
        /// How many.
        bytes: u64,
        /// Whether the head tells how many.
        announced: bool,
    },
    /// 200 and a head that never ends.
    EndlessHead,
    /// The other answer, after a while.
    After(Duration, Box<Answer>),
    /// Half of the body of an answer, then the end.
    Torn(String),
    /// Nothing at all.
    Silence,
    /// The connection is closed without a word.
    Close,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Answer>,
    requests: HashMap<String, usize>,
    /// Bytes of [`Answer::Huge`] that were taken.
    taken: u64,
}

/// A web server on loopback; ends when dropped.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Starts one on a free port of 127.0.0.1, in the current runtime. What it has not been told of it answers with 404.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("no free port");
        let mut server = Self {
            address: listener.local_addr().expect("a bound socket has an address"),
            state: Arc::default(),
            task: None,
        };
        server.run(listener);
        server
    }

    fn run(&mut self, listener: TcpListener) {
        let state = self.state.clone();
        self.task = Some(tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let state = state.clone();
                tokio::spawn(async move {
                    // A client that goes away in the middle is what some tests are about.
                    let _ = serve(stream, &state).await;
                });
            }
        }));
    }

    /// Stops listening: connections are refused.
    pub async fn down(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens again, on the same port.
    pub async fn up(&mut self) {
        let listener = TcpListener::bind(self.address)
            .await
            .expect("the port was taken by another");
        self.run(listener);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on `path` is answered like this.
    pub fn set(&self, path: &str, answer: Answer) {
        self.lock().answers.insert(path.to_owned(), answer);
    }

    /// How often a path was asked for.
    pub fn requests(&self, path: &str) -> usize {
        self.lock().requests.get(path).copied().unwrap_or(0)
    }

    /// How much of huge answers was taken, in bytes.
    pub fn taken(&self) -> u64 {
        self.lock().taken
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("a test panicked")
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut answer = {
        let mut state = state.lock().expect("a test panicked");
        *state.requests.entry(path.clone()).or_default() += 1;
        state.answers.get(&path).cloned().unwrap_or(Answer::Status(404))
    };
    while let Answer::After(pause, next) = answer {
        tokio::time::sleep(pause).await;
        answer = *next;
    }
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    match answer {
        Answer::Body(body) => {
            let length = body.len();
            stream
                .write_all(format!("{ok}Content-Length: {length}\r\n\r\n{body}").as_bytes())
                .await?;
        }
        Answer::Status(status) => {
            let page = "<!DOCTYPE html><title>It works</title>";
            let head = format!(
                "HTTP/1.1 {status} Status\r\nContent-Type: text/html\r\nContent-Length: {}",
                page.len()
            );
            stream
                .write_all(format!("{head}\r\n\r\n{page}").as_bytes())
                .await?;
        }
        Answer::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
        }
        Answer::Huge { bytes, announced } => {
            let length = if announced {
                format!("Content-Length: {bytes}\r\n")
            } else {
                String::new()
            };
            stream
                .write_all(format!("{ok}{length}Connection: close\r\n\r\n").as_bytes())
                .await?;
            let mebibyte = vec![b' '; 1 << 20];
            let mut left = bytes;
            while left > 0 {
                let run = usize::try_from(left).unwrap_or(usize::MAX).min(mebibyte.len());
                stream.write_all(&mebibyte[..run]).await?;
                left -= run as u64;
                state.lock().expect("a test panicked").taken += run as u64;
            }
        }
        Answer::EndlessHead => {
            stream.write_all(ok.as_bytes()).await?;
            loop {
                stream
                    .write_all(format!("X-More: {}\r\n", "x".repeat(1000)).as_bytes())
                    .await?;
            }
        }
        Answer::Torn(body) => {
            let half = &body.as_bytes()[..body.len() / 2];
            stream
                .write_all(format!("{ok}Content-Length: {}\r\n\r\n", body.len()).as_bytes())
                .await?;
            stream.write_all(half).await?;
        }
        Answer::Silence => std::future::pending().await,
        Answer::After(..) | Answer::Close => {}
    }
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(server: &WebServer, path: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_answers_as_told_and_counts() {
        let mut server = WebServer::start().await;
        server.set("/a", Answer::Body("{}".to_owned()));
        assert!(get(&server, "/a").await.ends_with("\r\n\r\n{}"));
        assert!(get(&server, "/b").await.starts_with("HTTP/1.1 404 "));
        assert_eq!((server.requests("/a"), server.requests("/c")), (1, 0));
        server.down().await;
        assert!(TcpStream::connect(server.address()).await.is_err());
        server.up().await;
        assert!(get(&server, "/a").await.contains(" 200 "));
    }
}
