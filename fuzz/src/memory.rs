//! What a body allocates at most, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, with a count for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

fn more(bytes: usize) {
    // A thread that ends frees what it holds after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

fn less(bytes: usize) {
    // What another thread allocated may be freed here: below zero is above everything, so it stops at zero.
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(bytes)));
}

// SAFETY: the system's allocator does the work; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        less(layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        less(layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `body` on `data`, and fails where this thread holds more than `base` bytes and `each` for every byte of the input
/// at any time.
///
/// # Panics
///
/// Where it does.
pub fn bounded(data: &[u8], base: usize, each: usize, body: impl FnOnce(&[u8])) {
    let before = HELD.get();
    MOST.set(before);
    body(data);
    let most = MOST.get().saturating_sub(before);
    let limit = base.saturating_add(each.saturating_mul(data.len()));
    assert!(most <= limit, "{most} bytes were held for an input of {}; the limit is {limit}", data.len());
}
