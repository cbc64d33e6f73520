//! SFTP between its two ends: every request is decided.

use std::sync::Arc;

use crate::pump::{Counts, Ends, How};
use crate::session::Session;

/// Carries an SFTP channel to its end.
pub(crate) async fn sftp(_: &Arc<Session>, _: &Ends<'_>, _: &Arc<Counts>) -> How {
    How::Refused
}
