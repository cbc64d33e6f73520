//! The wire parsers alone: what is in a stream of bytes of a PostgreSQL client? Without arguments a sample is parsed; with
//! one, the file of that name (what a client sent after its login, taken from a capture).
//!
//! ```text
//! cargo run -p proto-postgres --example parse_only
//! ```

use bytes::BytesMut;
use proto_postgres::wire::frame;
use proto_postgres::wire::frontend::{Message, Query, Sync};

/// Longest message that is waited for, in bytes.
const LIMIT: usize = 1 << 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path)?,
        None => sample()?,
    };
    for line in messages(&bytes)? {
        println!("{line}");
    }
    Ok(())
}

/// Names every message. Values are not printed: their `Debug` hides them.
fn messages(mut bytes: &[u8]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut lines = Vec::new();
    while let Some((frame, rest)) = frame::split(bytes, LIMIT)? {
        let message = Message::parse(frame.tag, frame.body)?;
        lines.push(format!("{} ({} bytes)", message.name(), frame.whole.len()));
        bytes = rest;
    }
    if !bytes.is_empty() {
        lines.push(format!("{} bytes of a message that is not whole", bytes.len()));
    }
    Ok(lines)
}

fn sample() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut out = BytesMut::new();
    Message::Query(Query { sql: b"SELECT 1" }).encode(&mut out)?;
    Message::Sync(Sync).encode(&mut out)?;
    out.extend_from_slice(b"Q\0\0");
    Ok(out.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_what_it_says() {
        assert_eq!(
            messages(&sample().unwrap()).unwrap(),
            [
                "Query (14 bytes)",
                "Sync (5 bytes)",
                "3 bytes of a message that is not whole"
            ]
        );
    }
}
