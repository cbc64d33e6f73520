//! SCRAM-SHA-256: the mechanism's messages, with the checks that the library leaves to us.
//!
//! RFC 5802 and RFC 7677; PostgreSQL documentation, SCRAM-SHA-256 Authentication. The
//! cryptography is `postgres-protocol`'s. That library keeps a copy of the password which it does not
//! wipe, for as long as the exchange lasts.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::LoginError;

/// Most iterations that a target may ask for. The number is the target's choice and each costs time;
/// 100,000 is also where `postgres-protocol` ends, and pgjdbc (CVE-2026-42198).
pub const MAX_ITERATIONS: u64 = 100_000;

/// The first message was made; the server's first is awaited.
pub(super) struct First {
    scram: ScramSha256,
}

/// The proof was sent; the server's signature is awaited.
pub(super) struct Final {
    scram: ScramSha256,
}

impl First {
    pub(super) fn new(password: &[u8], binding: ChannelBinding) -> Self {
        Self {
            scram: ScramSha256::new(password, binding),
        }
    }

    /// `client-first-message`.
    pub(super) fn message(&self) -> &[u8] {
        self.scram.message()
    }

    /// Takes `server-first-message` and gives `client-final-message`.
    pub(super) fn handle(mut self, server_first: &[u8]) -> Result<(Final, Vec<u8>), LoginError> {
        check(self.scram.message(), server_first)?;
        self.scram
            .update(server_first)
            .map_err(|_| LoginError::MalformedScram)?;
        let message = self.scram.message().to_vec();
        Ok((Final { scram: self.scram }, message))
    }
}

impl Final {
    /// Takes `server-final-message`, and is satisfied only by the right signature.
    pub(super) fn handle(mut self, server_final: &[u8]) -> Result<(), LoginError> {
        if server_final.starts_with(b"e=") {
            return Err(LoginError::ScramRefused);
        }
        if !server_final.starts_with(b"v=") {
            return Err(LoginError::MalformedScram);
        }
        self.scram
            .finish(server_final)
            .map_err(|_| LoginError::WrongSignature)
    }
}

/// Before the costly part: the nonce must be ours and more, and the iteration count within bounds.
fn check(client_first: &[u8], server_first: &[u8]) -> Result<(), LoginError> {
    let ours = client_first
        .rsplit(|byte| *byte == b',')
        .next()
        .unwrap_or_default();
    let mut attributes = server_first.split(|byte| *byte == b',');
    let theirs = attributes.next().unwrap_or_default();
    let added = theirs.strip_prefix(ours).ok_or(LoginError::MalformedScram)?;
    if !ours.starts_with(b"r=") || added.is_empty() {
        return Err(LoginError::MalformedScram);
    }
    let count = attributes
        .nth(1)
        .and_then(|attribute| attribute.strip_prefix(b"i="));
    let digits = count.filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let iterations: u64 = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or(LoginError::MalformedScram)?;
    if iterations == 0 || iterations > MAX_ITERATIONS {
        return Err(LoginError::Iterations(iterations));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_must_be_ours_and_more() {
        let check = |server: &[u8]| check(b"n,,n=,r=abc", server);
        assert_eq!(check(b"r=abcX,s=c2FsdA==,i=4096"), Ok(()));
        for server in [
            &b"r=abc,s=c2FsdA==,i=4096"[..],
            b"r=abX,s=c2FsdA==,i=4096",
            b"r=Xabc,s=c2FsdA==,i=4096",
            b"s=c2FsdA==,r=abcX,i=4096",
            b"",
        ] {
            assert_eq!(check(server), Err(LoginError::MalformedScram));
        }
    }

    #[test]
    fn iterations_are_bounded() {
        let check = |count: &str| check(b"y,,n=,r=abc", format!("r=abcX,s=,i={count}").as_bytes());
        assert_eq!(check("1"), Ok(()));
        assert_eq!(check("100000"), Ok(()));
        assert_eq!(check("100001"), Err(LoginError::Iterations(100_001)));
        assert_eq!(check("4294967297"), Err(LoginError::Iterations(4_294_967_297)));
        assert_eq!(check("0"), Err(LoginError::Iterations(0)));
        for count in ["", "-1", "+1", "x", "99999999999999999999"] {
            assert_eq!(check(count), Err(LoginError::MalformedScram), "{count}");
        }
    }
}
