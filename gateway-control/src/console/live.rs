//! Streams of the API, for as long as their reader is signed in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt;

use super::Console;
use super::seats::Key;

/// How often it is looked whether somebody is still signed in. Whether the token still holds the stream itself asks.
const LOOK: Duration = Duration::from_secs(1);

/// Ends a stream when its seat is given up. Watching is no use of a seat.
pub(super) fn seated(response: Response, console: Console, key: Key) -> Response {
    let over = async move {
        let console = Arc::downgrade(&console.0);
        while console
            .upgrade()
            .is_some_and(|console| console.seats.holds(&key, Instant::now()))
        {
            tokio::time::sleep(LOOK).await;
        }
    };
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(over))))
}
