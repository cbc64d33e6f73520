//! Who keeps secrets that are not on this host.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::CredentialError;
use crate::adapter::ConfigProblem;
use crate::secret::Secret;

/// `{ <kind> = "name", path = "...", key = "..." }`: a secret that somebody else keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSecret {
    /// The kind of [`SecretKeeper`], such as `vault`.
    pub kind: String,
    /// Which one of that kind.
    pub name: String,
    /// Where it keeps the secret.
    pub path: String,
    /// Which of the values there.
    pub key: String,
}

impl fmt::Display for KeptSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            path,
            key,
        } = self;
        write!(f, "`{key}` of `{path}` in {kind} `{name}`")
    }
}

/// Gives the secrets that it keeps, whenever one is needed.
#[async_trait]
pub trait SecretKeeper: Send + Sync {
    /// The key that names one of its kind.
    fn kind(&self) -> &'static str;

    /// Whether there can be such a secret. Nothing is asked for.
    fn check(&self, kept: &KeptSecret) -> Result<(), ConfigProblem>;

    /// The secret, in bounded time. No error has anything of what was read.
    async fn fetch(&self, kept: &KeptSecret) -> Result<Secret, CredentialError>;
}

/// The keepers of secrets of a build, by kind.
#[derive(Clone, Default)]
pub struct SecretKeepers(Arc<[Arc<dyn SecretKeeper>]>);

impl fmt::Debug for SecretKeepers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.0.iter().map(|keeper| keeper.kind());
        f.debug_list().entries(kinds).finish()
    }
}

/// What is configured is compared, and not who is there to read it.
impl PartialEq for SecretKeepers {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SecretKeepers {}

impl FromIterator<Arc<dyn SecretKeeper>> for SecretKeepers {
    fn from_iter<I: IntoIterator<Item = Arc<dyn SecretKeeper>>>(keepers: I) -> Self {
        Self(keepers.into_iter().collect())
    }
}

impl SecretKeepers {
    /// Whether there can be such a secret.
    pub fn check(&self, kept: &KeptSecret) -> Result<(), ConfigProblem> {
        self.of(&kept.kind)?.check(kept)
    }

    /// The secret.
    pub async fn fetch(&self, kept: &KeptSecret) -> Result<Secret, CredentialError> {
        let keeper = self.of(&kept.kind);
        let keeper = keeper.map_err(|problem| CredentialError::Source(problem.to_string()))?;
        keeper.fetch(kept).await
    }

    fn of(&self, kind: &str) -> Result<&Arc<dyn SecretKeeper>, ConfigProblem> {
        self.0.iter().find(|keeper| keeper.kind() == kind).ok_or_else(|| {
            let have: Vec<String> = self.0.iter().map(|one| format!("`{}`", one.kind())).collect();
            let have = match have.as_slice() {
                [] => "nobody".to_owned(),
                have => have.join(" or "),
            };
            // The kind is a key of the configuration, yet it may be a secret in a wrong place.
            ConfigProblem(format!(
                "names a keeper of secrets that is not in this build, in which {have} keeps any beside `env`, `file` and `exec`"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::SecretSource;

    struct Safe;

    #[async_trait]
    impl SecretKeeper for Safe {
        fn kind(&self) -> &'static str {
            "safe"
        }
        fn check(&self, kept: &KeptSecret) -> Result<(), ConfigProblem> {
            match kept.name.as_str() {
                "corp" => Ok(()),
                _ => Err(ConfigProblem("there is no such safe".to_owned())),
            }
        }
        async fn fetch(&self, kept: &KeptSecret) -> Result<Secret, CredentialError> {
            Ok(Secret::new(format!("{}/{}", kept.path, kept.key)))
        }
    }

    fn source(text: &str) -> Result<SecretSource, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn a_secret_that_others_keep_is_read_there_and_never_where_nothing_may_wait() {
        let text = r#"{"key":"password","path":"a/b","safe":"corp"}"#;
        let kept = source(text).unwrap();
        assert_eq!(
            serde_json::to_value(&kept).unwrap(),
            serde_json::from_str::<serde_json::Value>(text).unwrap()
        );
        let keepers = SecretKeepers::from_iter([Arc::new(Safe) as Arc<dyn SecretKeeper>]);
        assert_eq!(kept.fetch(&keepers).await.unwrap().expose(), "a/b/password");
        let error = kept.read().unwrap_err().to_string();
        assert!(error.contains("use `env` or `file`"), "{error}");
        let error = kept
            .fetch(&SecretKeepers::default())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("not in this build"), "{error}");
    }

    #[test]
    fn what_is_no_place_of_a_secret_is_refused_and_not_repeated() {
        for good in [
            r#"{"env":"A"}"#,
            r#"{"file":"/a"}"#,
            r#"{"exec":["a","b"]}"#,
            r#"{"safe":"corp","path":"a/b","key":"c"}"#,
        ] {
            let read = source(good).unwrap();
            assert_eq!(
                serde_json::to_value(read).unwrap(),
                serde_json::from_str::<serde_json::Value>(good).unwrap()
            );
        }
        for bad in [
            r#""zeppelin""#,
            r#"{}"#,
            r#"{"zeppelin":"a"}"#,
            r#"{"env":"A","file":"zeppelin"}"#,
            r#"{"env":["zeppelin"]}"#,
            r#"{"exec":"zeppelin"}"#,
            r#"{"exec":[{"zeppelin":1}]}"#,
            r#"{"safe":"zeppelin","path":"a"}"#,
            r#"{"safe":"zeppelin","path":"a","key":7}"#,
            r#"{"safe":"zeppelin","path":"","key":"k"}"#,
            r#"{"safe":"zeppelin","path":"a","key":"k","more":"x"}"#,
            r#"{"path":"zeppelin","key":"k"}"#,
        ] {
            let error = source(bad).unwrap_err();
            assert!(
                error.contains("holds no secrets") && !error.contains("zeppelin"),
                "{bad}: {error}"
            );
        }
    }
}
