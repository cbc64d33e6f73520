//! Verifying gateway tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use gateway_core::principal::Authenticated;
use gateway_core::secret::Secret;
use gateway_core::services::{AuthError, Authenticator, Provable, Store, StoreError, TokenRecord};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq};

use super::{MockKey, Token};

/// How long [`Authenticator::still_valid`] answers from memory; a revoked token lives on for no longer than that.
const FRESH: SignedDuration = SignedDuration::from_secs(1);
/// How many answers are kept.
const KEPT: usize = 10_000;
/// Compared with where there is no token of an id, so that this takes the way of a wrong secret. No hash is this.
const NO_HASH: &str = "----------------------------------------------------------------";

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What the store said of a token.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Timestamp,
    /// When it ends; `None`: it is unknown or revoked.
    expires: Option<Timestamp>,
}

/// Verifies gateway tokens against a store.
pub struct TokenAuthenticator {
    store: Arc<dyn Store>,
    clock: Clock,
    mock: MockKey,
    seen: Mutex<HashMap<String, Seen>>,
}

impl TokenAuthenticator {
    /// Verifies against `store`, with the time that `clock` tells.
    pub fn new(
        store: Arc<dyn Store>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        mock: MockKey,
    ) -> Self {
        Self {
            store,
            clock: Arc::new(clock),
            mock,
            seen: Mutex::default(),
        }
    }

    /// Whether the token of that id can be what another one was got by, and has not ended. What is not one of ours has nothing
    /// here that could end it.
    async fn parent_holds(&self, parent: Option<&str>) -> Result<bool, AuthError> {
        let Some(id) = parent.filter(|id| Token::is_id(id)) else {
            return Ok(true);
        };
        let record = self.store.token(id).await.map_err(unavailable)?;
        Ok(record.is_some_and(|record| record.revoked.is_none() && (self.clock)() < record.expires))
    }

    /// Whose a token is, if it has not ended.
    fn holder(&self, record: TokenRecord) -> Result<Authenticated, AuthError> {
        if record.revoked.is_some() {
            return Err(AuthError::Revoked);
        }
        if (self.clock)() >= record.expires {
            return Err(AuthError::Expired);
        }
        Ok(Authenticated {
            principal: Arc::new(record.principal),
            credential_id: record.id,
            expires: Some(record.expires),
            resources: record.resources,
        })
    }

    fn fresh(&self, id: &str, now: Timestamp) -> Option<Seen> {
        let seen = *self.seen.lock().get(id)?;
        is_fresh(seen, now).then_some(seen)
    }

    fn remember(&self, id: &str, new: Seen) {
        let mut seen = self.seen.lock();
        if seen.len() >= KEPT && !seen.contains_key(id) {
            seen.retain(|_, old| is_fresh(*old, new.at));
            if seen.len() >= KEPT {
                return;
            }
        }
        seen.insert(id.to_owned(), new);
    }
}

impl fmt::Debug for TokenAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAuthenticator").finish_non_exhaustive()
    }
}

/// A clock that was set back makes nothing fresh.
fn is_fresh(seen: Seen, now: Timestamp) -> bool {
    let age = now.duration_since(seen.at);
    age >= SignedDuration::ZERO && age < FRESH
}

fn unavailable(error: StoreError) -> AuthError {
    AuthError::Unavailable(error.to_string())
}

#[async_trait]
impl Authenticator for TokenAuthenticator {
    async fn authenticate(&self, secret: &Secret) -> Result<Authenticated, AuthError> {
        let token = Token::parse(secret).ok_or(AuthError::Form)?;
        let hash = token.hash();
        let record = self.store.token(token.id()).await.map_err(unavailable)?;
        let kept = record.as_ref().map_or(NO_HASH, |record| record.hash.as_str());
        let same = hash.as_bytes().ct_eq(kept.as_bytes()) & Choice::from(u8::from(record.is_some()));
        let record: TokenRecord = match record {
            // What a key proves has no secret that anybody knows; none that was guessed would do.
            Some(record) if bool::from(same) && record.key.is_none() => record,
            _ => return Err(AuthError::Unknown),
        };
        // Only who has the secret learns what became of the token.
        self.holder(record)
    }

    async fn provable(&self, name: &str) -> Result<Option<Provable>, AuthError> {
        if !Token::names_one(name) {
            return Ok(None);
        }
        // Made for every name, so that the time does not tell whether it was needed.
        let mock = self.mock.verifier(name);
        let record = self.store.token(name).await.map_err(unavailable)?;
        let (verifier, who) = match record {
            Some(mut record) => (std::mem::take(&mut record.scram), self.holder(record)),
            None => (mock, Err(AuthError::Unknown)),
        };
        Ok(Some(Provable {
            verifier: Secret::new(verifier),
            who,
        }))
    }

    async fn knows_key(&self, fingerprint: &str) -> Result<bool, AuthError> {
        let known = self.store.key_tokens(fingerprint).await.map_err(unavailable)?;
        Ok(!known.is_empty())
    }

    async fn key_holder(
        &self,
        fingerprint: &str,
        certificate: Option<&str>,
    ) -> Result<Authenticated, AuthError> {
        let record = match certificate {
            Some(id) if !Token::is_id(id) => return Err(AuthError::Form),
            Some(id) => self.store.token(id).await.map_err(unavailable)?,
            None => {
                let known = self.store.key_tokens(fingerprint).await.map_err(unavailable)?;
                let alone = |record: &&TokenRecord| record.key.as_ref().is_some_and(|key| !key.certified);
                let live =
                    |record: &&TokenRecord| record.revoked.is_none() && (self.clock)() < record.expires;
                let mut holders = known.iter().filter(alone).filter(live);
                match (holders.next(), holders.next()) {
                    (Some(only), None) => Some(only.clone()),
                    // Who it is must not depend on which comes first.
                    (Some(_), Some(_)) => {
                        return Err(AuthError::Rejected("its key is registered twice".to_owned()));
                    }
                    (None, _) if known.is_empty() || known.iter().any(|record| alone(&record)) => {
                        known.iter().find(alone).cloned()
                    }
                    (None, _) => return Err(AuthError::NeedsCertificate),
                }
            }
        };
        let shown = |record: &TokenRecord| {
            let key = record.key.as_ref();
            key.is_some_and(|key| key.fingerprint == fingerprint && key.certified == certificate.is_some())
        };
        let record = record.filter(shown).ok_or(AuthError::Unknown)?;
        let parent = record.key.as_ref().and_then(|key| key.parent.clone());
        let who = self.holder(record)?;
        match self.parent_holds(parent.as_deref()).await? {
            true => Ok(who),
            false => Err(AuthError::Rejected(
                "the one by which it was got has ended".to_owned(),
            )),
        }
    }

    async fn still_valid(&self, credential_id: &str) -> Result<bool, AuthError> {
        let now = (self.clock)();
        let seen = match self.fresh(credential_id, now) {
            Some(seen) => seen,
            None => {
                let record = self.store.token(credential_id).await.map_err(unavailable)?;
                let mut expires = None;
                if let Some(record) = record.filter(|record| record.revoked.is_none()) {
                    let parent = record.key.as_ref().and_then(|key| key.parent.as_deref());
                    expires = self.parent_holds(parent).await?.then_some(record.expires);
                }
                // As of when it was asked, not of when the answer came.
                let seen = Seen { at: now, expires };
                self.remember(credential_id, seen);
                seen
            }
        };
        Ok(seen.expires.is_some_and(|expires| now < expires))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
    use std::time::Duration;

    use gateway_core::principal::PrincipalKind;
    use gateway_core::services::{SessionFilter, TokenKey};
    use gateway_core::session::{SessionId, SessionRecord};

    use super::super::CreateToken;
    use super::*;

    /// Tokens in memory.
    #[derive(Default)]
    struct Memory {
        tokens: Mutex<HashMap<String, TokenRecord>>,
        asked: AtomicUsize,
        down: AtomicBool,
    }

    #[async_trait]
    impl Store for Memory {
        async fn insert_token(&self, token: &TokenRecord) -> Result<(), StoreError> {
            self.tokens.lock().insert(token.id.clone(), token.clone());
            Ok(())
        }
        async fn token(&self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.down.load(Ordering::SeqCst) {
                return Err(StoreError::Database("down".into()));
            }
            Ok(self.tokens.lock().get(id).cloned())
        }
        async fn key_tokens(&self, fingerprint: &str) -> Result<Vec<TokenRecord>, StoreError> {
            let all = self.tokens.lock();
            let known = |t: &&TokenRecord| t.key.as_ref().is_some_and(|key| key.fingerprint == fingerprint);
            Ok(all.values().filter(known).cloned().collect())
        }
        async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
            Ok(vec![])
        }
        async fn revoke_token(&self, id: &str, at: Timestamp) -> Result<bool, StoreError> {
            Ok(self
                .tokens
                .lock()
                .get_mut(id)
                .map(|t| t.revoked = Some(at))
                .is_some())
        }
        async fn put_session(&self, _: &SessionRecord) -> Result<(), StoreError> {
            Ok(())
        }
        async fn session(&self, _: SessionId) -> Result<Option<SessionRecord>, StoreError> {
            Ok(None)
        }
        async fn sessions(&self, _: SessionFilter, _: u32) -> Result<Vec<SessionRecord>, StoreError> {
            Ok(vec![])
        }
        async fn close_orphans(&self, _: Timestamp, _: &str) -> Result<u64, StoreError> {
            Ok(0)
        }
    }

    struct Fixture {
        store: Arc<Memory>,
        millis: Arc<AtomicI64>,
        authenticator: TokenAuthenticator,
        record: TokenRecord,
        secret: Secret,
    }

    async fn fixture() -> Fixture {
        let (record, secret) = CreateToken {
            subject: "alice".into(),
            kind: PrincipalKind::Human,
            groups: vec!["dba".into()],
            on_behalf_of: None,
            ttl: Duration::from_secs(60),
            resources: vec!["orders-db".into()],
        }
        .build(Timestamp::UNIX_EPOCH)
        .unwrap();
        let (store, millis) = (Arc::new(Memory::default()), Arc::new(AtomicI64::new(0)));
        store.insert_token(&record).await.unwrap();
        let clock = Arc::clone(&millis);
        let now = move || Timestamp::from_millisecond(clock.load(Ordering::SeqCst)).unwrap();
        let store_of = Arc::clone(&store) as Arc<dyn Store>;
        let authenticator = TokenAuthenticator::new(store_of, now, MockKey::new(&[7; MockKey::LEN]));
        Fixture {
            store,
            millis,
            authenticator,
            record,
            secret,
        }
    }

    #[tokio::test]
    async fn a_token_proves_whose_it_is_until_it_ends() {
        let f = fixture().await;
        let proof = f.authenticator.authenticate(&f.secret).await.unwrap();
        assert_eq!(*proof.principal, f.record.principal);
        assert_eq!(
            (proof.credential_id.as_str(), proof.expires),
            (f.record.id.as_str(), Some(f.record.expires))
        );
        assert!(proof.covers("orders-db") && !proof.covers("other-db"));
        f.millis.store(59_999, Ordering::SeqCst);
        f.authenticator.authenticate(&f.secret).await.unwrap();
        f.millis.store(60_000, Ordering::SeqCst);
        assert!(matches!(
            f.authenticator.authenticate(&f.secret).await,
            Err(AuthError::Expired)
        ));
    }

    #[tokio::test]
    async fn an_unknown_id_and_a_wrong_secret_are_told_the_same_and_both_ask_the_store() {
        let f = fixture().await;
        let text = f.secret.expose().to_owned();
        let swap = |c: char| if c == 'a' { "b" } else { "a" };
        let mut wrong_secret = text.clone();
        wrong_secret.replace_range(56.., swap(text.chars().last().unwrap()));
        let mut wrong_id = text.clone();
        wrong_id.replace_range(4..5, swap(text.chars().nth(4).unwrap()));
        let longer = format!("{text}a");
        // What is kept is no secret: neither the hash nor the verifier opens anything.
        let hash = format!("gwt_{}_{}", f.record.id, f.record.hash);
        for (n, bad) in (1..).zip([wrong_secret, wrong_id, longer, hash]) {
            let answer = f.authenticator.authenticate(&Secret::new(bad)).await;
            assert!(matches!(answer, Err(AuthError::Unknown)), "{answer:?}");
            assert_eq!(f.store.asked.load(Ordering::SeqCst), n);
        }
        assert!(matches!(
            f.authenticator.authenticate(&Secret::new("x")).await,
            Err(AuthError::Form)
        ));
        // Whoever lacks the secret does not learn that the token is revoked.
        f.store
            .revoke_token(&f.record.id, Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        let other = Secret::new(format!("gwt_{}_{}", f.record.id, "a".repeat(40)));
        assert!(matches!(
            f.authenticator.authenticate(&other).await,
            Err(AuthError::Unknown)
        ));
        assert!(matches!(
            f.authenticator.authenticate(&f.secret).await,
            Err(AuthError::Revoked)
        ));
    }

    #[tokio::test]
    async fn every_id_has_a_verifier_and_only_a_tokens_own_is_somebodys() {
        let f = fixture().await;
        let provable = async |name: &str| f.authenticator.provable(name).await.unwrap();
        let known = provable(&f.record.id).await.unwrap();
        assert_eq!(known.verifier.expose(), f.record.scram);
        assert_eq!(known.who.unwrap().credential_id, f.record.id);
        let unknown = provable("Alexanderso1").await.unwrap();
        assert!(matches!(unknown.who, Err(AuthError::Unknown)));
        assert_eq!(unknown.verifier.expose().len(), f.record.scram.len());
        // The same again; and asked of the store as a known one is.
        let again = provable("Alexanderso1").await.unwrap();
        assert_eq!(again.verifier.expose(), unknown.verifier.expose());
        assert_eq!(f.store.asked.load(Ordering::SeqCst), 3);
        // Names of another form are none, and the store is not asked.
        for name in ["", "alice", "christopher1"] {
            assert!(provable(name).await.is_none());
        }
        assert_eq!(f.store.asked.load(Ordering::SeqCst), 3);
        f.millis.store(60_000, Ordering::SeqCst);
        let ended = provable(&f.record.id).await.unwrap();
        assert!(matches!(ended.who, Err(AuthError::Expired)) && ended.verifier.expose() == f.record.scram);
        f.store
            .revoke_token(&f.record.id, Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        let revoked = provable(&f.record.id).await.unwrap();
        assert!(matches!(revoked.who, Err(AuthError::Revoked)));
        f.store.down.store(true, Ordering::SeqCst);
        assert!(matches!(
            f.authenticator.provable("Alexanderso1").await,
            Err(AuthError::Unavailable(_))
        ));
    }

    #[tokio::test]
    async fn a_record_without_a_real_hash_is_opened_by_nothing() {
        let f = fixture().await;
        for hash in ["", NO_HASH] {
            f.store
                .insert_token(&TokenRecord {
                    hash: hash.into(),
                    ..f.record.clone()
                })
                .await
                .unwrap();
            assert!(matches!(
                f.authenticator.authenticate(&f.secret).await,
                Err(AuthError::Unknown)
            ));
        }
    }

    fn keyed(f: &Fixture, id: &str, certified: bool, parent: Option<&str>) -> TokenRecord {
        TokenRecord {
            id: id.to_owned(),
            key: Some(TokenKey {
                fingerprint: "SHA256:k".to_owned(),
                certified,
                parent: parent.map(str::to_owned),
            }),
            ..f.record.clone()
        }
    }

    #[tokio::test]
    async fn a_key_is_whose_it_is_registered_to_and_nobodys_where_that_is_not_one() {
        let f = fixture().await;
        let holder = || f.authenticator.key_holder("SHA256:k", None);
        assert!(!f.authenticator.knows_key("SHA256:k").await.unwrap());
        assert!(matches!(holder().await, Err(AuthError::Unknown)));
        f.store
            .insert_token(&keyed(&f, "Keyed1aaaaaa", false, None))
            .await
            .unwrap();
        assert!(f.authenticator.knows_key("SHA256:k").await.unwrap());
        let who = holder().await.unwrap();
        assert_eq!(who.credential_id, "Keyed1aaaaaa");
        assert_eq!(who.expires, Some(f.record.expires));
        // What it is registered as is no certificate's, and what a secret proves is no key's.
        for id in ["Keyed1aaaaaa", f.record.id.as_str(), "Nothere1aaaa"] {
            let shown = f.authenticator.key_holder("SHA256:k", Some(id)).await;
            assert!(matches!(shown, Err(AuthError::Unknown)), "{id}");
        }
        f.store
            .insert_token(&keyed(&f, "Keyed2aaaaaa", false, None))
            .await
            .unwrap();
        assert!(matches!(holder().await, Err(AuthError::Rejected(_))));
        for id in ["Keyed1aaaaaa", "Keyed2aaaaaa"] {
            f.store.revoke_token(id, Timestamp::UNIX_EPOCH).await.unwrap();
        }
        assert!(matches!(holder().await, Err(AuthError::Revoked)));
    }

    #[tokio::test]
    async fn a_certified_key_is_nobodys_without_its_certificate_and_ends_with_the_token_it_was_got_by() {
        let f = fixture().await;
        let record = keyed(&f, "Certif1aaaaa", true, Some(&f.record.id));
        f.store.insert_token(&record).await.unwrap();
        assert!(f.authenticator.knows_key("SHA256:k").await.unwrap());
        let alone = f.authenticator.key_holder("SHA256:k", None).await;
        assert!(matches!(alone, Err(AuthError::NeedsCertificate)));
        let shown = |fingerprint: &'static str| f.authenticator.key_holder(fingerprint, Some("Certif1aaaaa"));
        assert!(shown("SHA256:k").await.is_ok());
        assert!(matches!(shown("SHA256:other").await, Err(AuthError::Unknown)));
        assert!(f.authenticator.still_valid("Certif1aaaaa").await.unwrap());
        f.store
            .revoke_token(&f.record.id, Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        assert!(matches!(shown("SHA256:k").await, Err(AuthError::Rejected(_))));
        f.millis.store(1500, Ordering::SeqCst);
        assert!(!f.authenticator.still_valid("Certif1aaaaa").await.unwrap());
    }

    #[tokio::test]
    async fn what_a_key_proves_no_secret_proves() {
        let f = fixture().await;
        // Even one that is known.
        let record = TokenRecord {
            id: f.record.id.clone(),
            ..keyed(&f, "", false, None)
        };
        f.store.insert_token(&record).await.unwrap();
        assert!(matches!(
            f.authenticator.authenticate(&f.secret).await,
            Err(AuthError::Unknown)
        ));
    }

    #[tokio::test]
    async fn a_revoked_token_ends_its_sessions_within_a_second() {
        let f = fixture().await;
        let valid = || f.authenticator.still_valid(&f.record.id);
        assert!(valid().await.unwrap());
        f.store
            .revoke_token(&f.record.id, Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        f.millis.store(999, Ordering::SeqCst);
        assert!(valid().await.unwrap());
        assert_eq!(f.store.asked.load(Ordering::SeqCst), 1);
        f.millis.store(1000, Ordering::SeqCst);
        assert!(!valid().await.unwrap());
        assert!(!f.authenticator.still_valid("nobody").await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_from_memory_does_not_outlive_the_token_nor_a_clock_set_back() {
        let f = fixture().await;
        let valid = || f.authenticator.still_valid(&f.record.id);
        f.millis.store(59_500, Ordering::SeqCst);
        assert!(valid().await.unwrap());
        f.millis.store(60_000, Ordering::SeqCst);
        assert!(!valid().await.unwrap());
        assert_eq!(f.store.asked.load(Ordering::SeqCst), 1);
        f.millis.store(1000, Ordering::SeqCst);
        assert!(valid().await.unwrap());
        assert_eq!(f.store.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_store_that_is_down_is_no_answer() {
        let f = fixture().await;
        f.store.down.store(true, Ordering::SeqCst);
        assert!(matches!(
            f.authenticator.authenticate(&f.secret).await,
            Err(AuthError::Unavailable(_))
        ));
        assert!(matches!(
            f.authenticator.still_valid(&f.record.id).await,
            Err(AuthError::Unavailable(_))
        ));
        f.store.down.store(false, Ordering::SeqCst);
        assert!(f.authenticator.still_valid(&f.record.id).await.unwrap());
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let f = fixture().await;
        for n in 0..KEPT + 10 {
            f.authenticator.still_valid(&format!("id{n}")).await.unwrap();
        }
        assert_eq!(f.authenticator.seen.lock().len(), KEPT);
        f.millis.store(2000, Ordering::SeqCst);
        f.authenticator.still_valid("new").await.unwrap();
        assert_eq!(f.authenticator.seen.lock().len(), 1);
    }
}
