//! Hearing what other gateways tell. A notification may be lost; whoever listens looks by itself, too.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::{ACQUIRE, PostgresServer};
use crate::database::Topic;
use crate::store::SqlStore;

/// After that long without a word the connection is made anew: it may be dead without anybody having noticed.
const QUIET: Duration = Duration::from_secs(60);
/// How long it is waited between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An approval has changed.
    Approval(String),
    /// A session on the gateway of that id is to end.
    SessionEnd(String),
    /// It is listened again from now on; what was told before may not have been heard.
    Listening,
}

impl SqlStore<PostgresServer> {
    /// Gives what is heard to `hear`. Never ends: where the server is away, it tries again.
    pub async fn listen(&self, mut hear: impl FnMut(Told)) {
        let mut known_away = false;
        loop {
            match self.listen_once(&mut hear).await {
                Ok(()) => known_away = false,
                Err(error) => {
                    if !known_away {
                        tracing::warn!(%error, "the store can't be listened to; it is looked at from time to time");
                    }
                    known_away = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Until the connection is lost, or nothing was heard for long.
    async fn listen_once(&self, hear: &mut impl FnMut(Told)) -> Result<(), sqlx::Error> {
        // Not one of the pool's, which are for calls; and a new one each time, so that nothing is left of the last.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(self.database.url.options());
        let begin = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            let channels = [Topic::Approval.channel(), Topic::SessionEnd.channel()];
            listener.listen_all(channels).await?;
            Ok::<_, sqlx::Error>(listener)
        };
        let Ok(begun) = tokio::time::timeout(ACQUIRE * 2, begin).await else {
            return Err(sqlx::Error::PoolTimedOut);
        };
        let mut listener = begun?;
        listener.eager_reconnect(false);
        hear(Told::Listening);
        while let Ok(heard) = tokio::time::timeout(QUIET, listener.try_recv()).await {
            // `None`: the connection is lost.
            let Some(heard) = heard? else { break };
            let what = heard.payload().to_owned();
            if heard.channel() == Topic::Approval.channel() {
                hear(Told::Approval(what));
            } else {
                hear(Told::SessionEnd(what));
            }
        }
        Ok(())
    }
}
