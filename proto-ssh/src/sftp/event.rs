//! What happened on the target, for the audit log. Paths are resolved ones, as bytes.

/// Something that the target reported as done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Event {
    /// A file or folder was opened.
    Opened {
        path: Vec<u8>,
        read: bool,
        write: bool,
        directory: bool,
    },
    /// It was closed, or the session ended: bytes that the target sent and took.
    Closed {
        path: Vec<u8>,
        read: u64,
        written: u64,
    },
    /// Something was found in it that must not be read, and what was read is withheld from there.
    Withheld {
        path: Vec<u8>,
    },
    Removed {
        path: Vec<u8>,
    },
    DirectoryMade {
        path: Vec<u8>,
    },
    DirectoryRemoved {
        path: Vec<u8>,
    },
    Renamed {
        old: Vec<u8>,
        new: Vec<u8>,
    },
    /// A symbolic link, with what it holds, which was not resolved.
    Symlinked {
        target: Vec<u8>,
        link: Vec<u8>,
    },
    Hardlinked {
        old: Vec<u8>,
        new: Vec<u8>,
    },
    AttributesSet {
        path: Vec<u8>,
    },
    /// `copy-data`; a length of 0 is up to the end.
    Copied {
        from: Vec<u8>,
        to: Vec<u8>,
        length: u64,
    },
}
