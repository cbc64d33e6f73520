//! Secrets: a type that does not print and is wiped.

use secrecy::{ExposeSecret, SecretString};

/// A secret text. `Debug` hides it, and its memory is wiped when it is dropped.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes a text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text, for the one place that must use it. Search for this name to see where secrets go.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_print_the_secret() {
        assert!(!format!("{:?}", Secret::new("zeppelin")).contains("zeppelin"));
    }
}
