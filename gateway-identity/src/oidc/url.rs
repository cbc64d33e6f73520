//! Addresses of issuers: https, or plain HTTP on loopback for development.

use std::net::IpAddr;

use url::{Host, Url};

/// The longest address, in bytes.
const MAX_URL: usize = 2048;

/// An address that may be asked for documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// For certificates and for the resolver; without brackets.
    pub(super) host: String,
    /// The `Host` header.
    pub(super) authority: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) path: String,
    /// Whether TLS protects it; else it is on loopback.
    pub(super) secure: bool,
}

impl Address {
    /// Reads an issuer's address (OpenID Connect Discovery 1.0, section 3: no query, no fragment).
    pub(super) fn issuer(text: &str) -> Result<Self, &'static str> {
        let address = Self::read(text, true)?;
        if text.contains('?') {
            return Err("has a query; an issuer has none");
        }
        Ok(address)
    }

    /// Reads an address; plain HTTP is for loopback, and only where that is `allowed`.
    pub(super) fn read(text: &str, plain: bool) -> Result<Self, &'static str> {
        if text.len() > MAX_URL {
            return Err("is too long");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("has a blank or a control character");
        }
        let url = Url::parse(text).map_err(|_| "is no URL; write it as the issuer does, https://...")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a user name or a password");
        }
        if url.fragment().is_some() {
            return Err("has a fragment (`#`)");
        }
        let (host, loopback) = match url.host() {
            Some(Host::Domain(name)) => (name.to_owned(), name == "localhost"),
            Some(Host::Ipv4(ip)) => (ip.to_string(), ip.is_loopback()),
            Some(Host::Ipv6(ip)) => (ip.to_string(), ip.is_loopback()),
            None => return Err("has no host"),
        };
        let secure = match url.scheme() {
            "https" => true,
            "http" if loopback && plain => false,
            "http" if loopback => return Err("is http://, and its issuer is not"),
            "http" => {
                return Err(
                    "is http:// on another host than this one; tokens are worth no more than the way \
                            on which their keys come, so it must be https://",
                );
            }
            _ => return Err("is neither https:// nor, on loopback, http://"),
        };
        let port = url.port_or_known_default().ok_or("has no port")?;
        let shown = url.host_str().unwrap_or_default();
        let authority = url
            .port()
            .map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}"));
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        Ok(Self {
            host,
            authority,
            port,
            path,
            secure,
        })
    }

    /// The discovery document of an issuer.
    pub(super) fn discovery(&self) -> Self {
        let path = format!(
            "{}/.well-known/openid-configuration",
            self.path.trim_end_matches('/')
        );
        Self { path, ..self.clone() }
    }

    /// Whether a connection to this peer may carry it.
    pub(super) fn may_reach(&self, peer: IpAddr) -> bool {
        self.secure || peer.to_canonical().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_https_or_on_loopback() {
        for good in [
            "https://acme.okta.com/oauth2/default",
            "https://accounts.google.com",
            "https://[2001:db8::1]:8443/x/",
            "http://127.0.0.1:6070",
            "http://[::1]:6070/",
            "http://localhost:6070/a",
        ] {
            assert!(Address::issuer(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "acme.okta.com",
            "http://acme.okta.com",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://0.0.0.0:6070",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "https://",
            "https://user@acme.example",
            "https://user:secret@acme.example",
            "https://acme.example/?a=b",
            "https://acme.example/?",
            "https://acme.example/#a",
            "https://acme.example/ x",
            " https://acme.example",
            "https://acme.example/\n",
            &format!("https://acme.example/{}", "a".repeat(2048)),
        ] {
            assert!(Address::issuer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_of_an_https_issuer_come_by_https_only() {
        assert!(Address::read("https://keys.example/jwks?v=1", false).is_ok_and(|a| a.path == "/jwks?v=1"));
        assert!(Address::read("http://127.0.0.1/jwks", false).is_err());
        assert!(Address::read("http://127.0.0.1/jwks", true).is_ok_and(|a| !a.secure && a.port == 80));
    }

    #[test]
    fn the_discovery_document_is_below_the_issuer() {
        let path = |text: &str| Address::issuer(text).unwrap().discovery().path;
        assert_eq!(path("https://a.example"), "/.well-known/openid-configuration");
        assert_eq!(path("https://a.example/"), "/.well-known/openid-configuration");
        assert_eq!(
            path("https://a.example/x/y"),
            "/x/y/.well-known/openid-configuration"
        );
    }

    #[test]
    fn plain_http_reaches_loopback_alone_whatever_the_resolver_says() {
        let plain = Address::issuer("http://localhost:6070").unwrap();
        assert!(plain.may_reach("127.0.0.1".parse().unwrap()) && plain.may_reach("::1".parse().unwrap()));
        assert!(!plain.may_reach("10.0.0.1".parse().unwrap()));
        assert!(
            Address::issuer("https://a.example")
                .unwrap()
                .may_reach("10.0.0.1".parse().unwrap())
        );
    }
}
