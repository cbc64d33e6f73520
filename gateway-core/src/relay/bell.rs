//! A waker of its own for what rarely happens in a session, so that it is not polled for every burst of bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

/// Says whether something that was polled with its waker has to be polled again.
#[derive(Debug)]
pub(super) struct Bell {
    rope: Arc<Rope>,
    /// Whom it wakes now.
    task: Option<Waker>,
}

#[derive(Debug)]
struct Rope {
    rung: AtomicBool,
    /// Stays there when it is woken: one that rings late takes nothing from the next.
    task: Mutex<Option<Waker>>,
}

impl Rope {
    fn tell(&self) {
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.tell();
    }
}

impl Bell {
    /// One that has rung: nothing was polled with it yet.
    pub(super) fn new() -> Self {
        let rope = Rope {
            rung: AtomicBool::new(true),
            task: Mutex::new(None),
        };
        Self {
            rope: Arc::new(rope),
            task: None,
        }
    }

    /// What is to be polled with.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(self.rope.clone())
    }

    /// Whether it has rung since this was asked last, or wakes another task now; from now on it wakes that of `cx`.
    pub(super) fn has_rung(&mut self, cx: &Context<'_>) -> bool {
        let same = self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        if !same {
            // The task before the flag: what rings in between wakes once too often, never too rarely.
            self.task = Some(cx.waker().clone());
            self.rope.task.lock().clone_from(&self.task);
        }
        // Read before it is written: bytes alone write nothing here.
        let rung = self.rope.rung.load(Ordering::Acquire) && self.rope.rung.swap(false, Ordering::AcqRel);
        rung || !same
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_rings_wakes_the_task_that_asked_last_and_is_told_once() {
        let (one, other) = (Arc::<Task>::default(), Arc::<Task>::default());
        let (first, second) = (Waker::from(one.clone()), Waker::from(other.clone()));
        let mut bell = Bell::new();
        assert!(
            bell.has_rung(&Context::from_waker(&first)),
            "nothing was polled yet"
        );
        assert!(!bell.has_rung(&Context::from_waker(&first)));
        for turn in 1..=3 {
            bell.waker().wake();
            assert_eq!(one.0.load(Ordering::Relaxed), turn);
            assert!(bell.has_rung(&Context::from_waker(&first)));
            assert!(!bell.has_rung(&Context::from_waker(&first)));
        }
        // The flag is seen before the task is woken: the next ring wakes it all the same.
        bell.rope.rung.store(true, Ordering::Release);
        assert!(bell.has_rung(&Context::from_waker(&first)));
        bell.rope.tell();
        assert!(!bell.has_rung(&Context::from_waker(&first)));
        bell.waker().wake();
        assert_eq!(one.0.load(Ordering::Relaxed), 5);
        assert!(bell.has_rung(&Context::from_waker(&first)));
        assert!(
            bell.has_rung(&Context::from_waker(&second)),
            "another task polls now"
        );
        bell.waker().wake_by_ref();
        assert_eq!(
            (one.0.load(Ordering::Relaxed), other.0.load(Ordering::Relaxed)),
            (5, 1)
        );
        assert!(bell.has_rung(&Context::from_waker(&second)));
    }
}
