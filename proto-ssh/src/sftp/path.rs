//! Paths as bytes: what has to be resolved, and whether it was.

use super::MAX_PATH;

/// What the target has to resolve before a path can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolving {
    /// What REALPATH is asked for.
    pub(super) query: Vec<u8>,
    /// The last component, which stays as it is.
    pub(super) last: Option<Vec<u8>>,
}

/// Why a path is not even resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    Empty,
    Nul,
    TooLong,
}

/// Whether a path can be sent to a target at all.
pub(super) fn check(path: &[u8]) -> Result<(), Unusable> {
    if path.contains(&0) {
        Err(Unusable::Nul)
    } else if path.len() > MAX_PATH {
        Err(Unusable::TooLong)
    } else {
        Ok(())
    }
}

impl Resolving {
    /// `follows`: whether the request follows a link in the last component.
    pub(super) fn of(path: &[u8], follows: bool) -> Result<Self, Unusable> {
        check(path)?;
        if path.is_empty() {
            return Err(Unusable::Empty);
        }
        let whole = Self {
            query: path.to_vec(),
            last: None,
        };
        if follows {
            return Ok(whole);
        }
        let end = path
            .iter()
            .rposition(|&byte| byte != b'/')
            .map_or(0, |at| at.saturating_add(1));
        let trimmed = path.get(..end).unwrap_or_default();
        let (folder, last) = match trimmed.iter().rposition(|&byte| byte == b'/') {
            Some(at) => {
                let (folder, last) = trimmed.split_at(at.saturating_add(1));
                (folder, last)
            }
            None => (&b"."[..], trimmed),
        };
        // The root, and folders that are named from inside: they are no links.
        if matches!(last, b"" | b"." | b"..") {
            return Ok(whole);
        }
        Ok(Self {
            query: folder.to_vec(),
            last: Some(last.to_vec()),
        })
    }

    /// An absolute path without `.`, `..` and empty components, for one that the target can't resolve; it is decided, but
    /// never sent.
    pub(super) fn as_written(&self) -> Option<Vec<u8>> {
        let below = self.query.strip_prefix(b"/")?;
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in below.split(|&byte| byte == b'/').chain(self.last.as_deref()) {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        Some([b"/", parts.join(&b'/').as_slice()].concat())
    }

    /// The path with what the target made of the query; `None` where that is not canonical.
    pub(super) fn resolved(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let below = answer.strip_prefix(b"/")?;
        let canonical = below.is_empty()
            || below
                .split(|&byte| byte == b'/')
                .all(|part| !matches!(part, b"" | b"." | b".."));
        if !canonical || check(answer).is_err() {
            return None;
        }
        let mut path = answer.to_vec();
        if let Some(last) = &self.last {
            if !below.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(last);
        }
        (path.len() <= MAX_PATH).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolving(path: &[u8], follows: bool) -> (Vec<u8>, Option<Vec<u8>>) {
        let resolving = Resolving::of(path, follows).unwrap();
        (resolving.query, resolving.last)
    }

    #[test]
    fn the_last_component_is_kept_only_where_it_is_not_followed() {
        for path in [&b"/a/b"[..], b"a", b"/", b"a/", b"..", b"a//b/"] {
            assert_eq!(resolving(path, true), (path.to_vec(), None));
        }
        type Case = (&'static [u8], &'static [u8], Option<&'static [u8]>);
        let cases: [Case; 12] = [
            (b"/a/b", b"/a/", Some(b"b")),
            (b"/a", b"/", Some(b"a")),
            (b"//a", b"//", Some(b"a")),
            (b"a", b".", Some(b"a")),
            (b"a/", b".", Some(b"a")),
            (b"a/../b//", b"a/../", Some(b"b")),
            (b"/a/b\xff", b"/a/", Some(b"b\xff")),
            (b"/", b"/", None),
            (b"//", b"//", None),
            (b"/a/..", b"/a/..", None),
            (b"/a/./", b"/a/./", None),
            (b"..", b"..", None),
        ];
        for (path, query, last) in cases {
            assert_eq!(
                resolving(path, false),
                (query.to_vec(), last.map(<[u8]>::to_vec)),
                "{path:?}"
            );
        }
        assert_eq!(Resolving::of(b"", true), Err(Unusable::Empty));
        assert_eq!(Resolving::of(b"/a\0b", true), Err(Unusable::Nul));
        assert_eq!(
            Resolving::of(&[b'a'; MAX_PATH + 1], false),
            Err(Unusable::TooLong)
        );
    }

    #[test]
    fn only_canonical_answers_of_the_target_are_decided() {
        let whole = Resolving::of(b"x", true).unwrap();
        for good in [&b"/"[..], b"/a", b"/a/b\xff", b"/..a", b"/a..."] {
            assert_eq!(whole.resolved(good), Some(good.to_vec()));
        }
        for bad in [
            &b""[..],
            b"a",
            b"a/b",
            b"//",
            b"/a/",
            b"/a//b",
            b"/a/../b",
            b"/.",
            b"/..",
            b"/a\0",
            b"C:/x",
        ] {
            assert_eq!(whole.resolved(bad), None, "{bad:?}");
        }
        assert_eq!(whole.as_written(), None);
        for (path, written) in [
            (&b"/"[..], &b"/"[..]),
            (b"/a/../../b//./c", b"/b/c"),
            (b"/a/b/", b"/a/b"),
            (b"/a/..", b"/"),
        ] {
            for follows in [true, false] {
                assert_eq!(
                    Resolving::of(path, follows).unwrap().as_written(),
                    Some(written.to_vec())
                );
            }
        }
        let last = Resolving::of(b"d/x", false).unwrap();
        assert_eq!(last.resolved(b"/"), Some(b"/x".to_vec()));
        assert_eq!(last.resolved(b"/srv"), Some(b"/srv/x".to_vec()));
        assert_eq!(last.resolved(&[b"/", &[b'a'; MAX_PATH - 1][..]].concat()), None);
    }
}
