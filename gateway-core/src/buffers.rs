//! Buffers that a thread's sessions take turns with: a session that waits for its peers holds none.

use std::cell::RefCell;

use bytes::BytesMut;

/// Buffers that one thread keeps.
const MAX_SPARE: usize = 32;
/// A larger one is not kept.
const MAX_KEPT: usize = 128 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Gives `buffer` room to work in, if it has none.
pub(crate) fn lend(buffer: &mut BytesMut) {
    if buffer.capacity() == 0
        && let Some(spare) = SPARE.with_borrow_mut(Vec::pop)
    {
        *buffer = spare;
    }
}

/// Takes the room of an empty buffer back.
pub(crate) fn give_back(buffer: &mut BytesMut) {
    if !buffer.is_empty() || buffer.capacity() == 0 {
        return;
    }
    let buffer = std::mem::take(buffer);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MAX_SPARE && buffer.capacity() <= MAX_KEPT {
            spare.push(buffer);
        }
    });
}
