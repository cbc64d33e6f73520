//! An identity provider, and tokens good and bad.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::principal::Authenticated;
use gateway_core::secret::Secret;
use gateway_identity::oidc::{CheckedIssuers, OidcAuthenticator, OidcSettings, Pace, Refusal};
use gateway_testkit::{Answer, WebServer};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) const DISCOVERY: &str = "/.well-known/openid-configuration";
pub(crate) const JWKS: &str = "/jwks";
/// The authenticator's time, for ever.
pub(crate) const NOW: i64 = 1_772_359_200;

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// A key that signs.
pub(crate) struct Signer {
    pub(crate) id: String,
    pair: Pair,
}

impl Signer {
    pub(crate) fn es256(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            id: id.to_owned(),
            pair: Pair::Es256(pair),
        }
    }

    pub(crate) fn rs256(id: &str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self {
            id: id.to_owned(),
            pair: Pair::Rs256(pair),
        }
    }

    pub(crate) fn eddsa(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            pair: Pair::EdDsa(Ed25519KeyPair::generate().unwrap()),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::Rs256(_) => "RS256",
            Pair::EdDsa(_) => "EdDSA",
        }
    }

    /// As the issuer publishes it.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Pair::Rs256(pair) => {
                let n = pair.public_key().modulus().big_endian_without_leading_zero();
                json!({"kty": "RSA", "e": "AQAB", "n": b64(n)})
            }
            Pair::EdDsa(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key())}),
        };
        jwk["kid"] = json!(self.id);
        jwk
    }

    /// The public key's own bytes, which are no secret.
    pub(crate) fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Es256(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rs256(pair) => pair.public_key().as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Es256(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
            Pair::EdDsa(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", b64(signature))
    }
}

/// An identity provider.
pub(crate) struct Idp {
    pub(crate) web: WebServer,
}

impl Idp {
    pub(crate) async fn start(signers: &[&Signer]) -> Self {
        let idp = Self {
            web: WebServer::start().await,
        };
        let discovery = json!({"issuer": idp.url(), "jwks_uri": idp.web.url(JWKS)});
        idp.web.set(DISCOVERY, Answer::Body(discovery.to_string()));
        idp.publish(signers);
        idp
    }

    pub(crate) fn url(&self) -> String {
        self.web.url("")
    }

    pub(crate) fn publish(&self, signers: &[&Signer]) {
        self.web.set(JWKS, Answer::Body(key_set(signers)));
    }

    pub(crate) fn claims(&self) -> Value {
        json!({"iss": self.url(), "aud": "gateway", "sub": "alice", "groups": ["dba"], "exp": NOW + 60})
    }

    /// Trusted, with little patience.
    pub(crate) fn settings(&self) -> OidcSettings {
        OidcSettings {
            pace: Pace {
                fetch: Duration::from_millis(600),
                demand: Duration::from_secs(3600),
                retry: Duration::from_secs(3600),
                slowest: Duration::from_secs(3600),
            },
            ..OidcSettings::new("corp", self.url(), "gateway")
        }
    }
}

pub(crate) fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

pub(crate) fn authenticator(all: Vec<OidcSettings>) -> Arc<OidcAuthenticator> {
    let authenticator = OidcAuthenticator::new(|| Timestamp::from_second(NOW).unwrap());
    authenticator.trust(CheckedIssuers::new(all).unwrap());
    Arc::new(authenticator)
}

pub(crate) async fn verify(authenticator: &OidcAuthenticator, token: &str) -> Result<Authenticated, Refusal> {
    authenticator.verify(&Secret::new(token)).await
}

/// The refusal of a token that must be refused.
pub(crate) async fn refusal(authenticator: &OidcAuthenticator, token: &str) -> Refusal {
    match verify(authenticator, token).await {
        Ok(taken) => panic!("taken as {:?}", taken.principal),
        Err(refusal) => refusal,
    }
}
