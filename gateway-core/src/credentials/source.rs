//! Where secrets live, and how they are read from there.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{CredentialError, SecretKeepers};
use crate::resource::SecretSource;
use crate::secret::Secret;
use zeroize::Zeroizing;

/// Longest secret, in bytes.
pub const SECRET_BYTES: u64 = 64 * 1024;
/// A program that prints a secret has done so within this time.
const EXEC: Duration = Duration::from_secs(10);

impl SecretSource {
    /// What one must look like, for errors.
    pub const FORM: &'static str = "must be `{ env = \"NAME\" }`, `{ file = \"path\" }`, `{ exec = [\"program\", \"argument\"] }` \
         or `{ vault = \"name\", path = \"mount/path\", key = \"password\" }`: the configuration holds no secrets";

    /// Reads the secret. Errors name the place, never what is in it. A program may take as long as ten seconds: where that must
    /// hold nobody up, [`Self::fetch`] is the one to take. What is not on this host can't be read here.
    pub fn read(&self) -> Result<Secret, CredentialError> {
        match self {
            Self::Env(name) => match std::env::var(name) {
                Ok(text) if !text.is_empty() => Ok(Secret::new(text)),
                Ok(_) => Err(CredentialError::Source(format!(
                    "the environment variable `{name}` is empty"
                ))),
                Err(_) => Err(CredentialError::Source(format!(
                    "the environment variable `{name}` is not set, or is no UTF-8"
                ))),
            },
            Self::File(path) => {
                let wrong = |why: &str| CredentialError::Source(format!("`{}` {why}", path.display()));
                let unreadable = |e: std::io::Error| wrong(&format!("cannot be read: {e}"));
                let file = std::fs::File::open(path).map_err(unreadable)?;
                let bytes = up_to_the_limit(file).map_err(unreadable)?;
                secret(&bytes).map_err(wrong)
            }
            Self::Exec(argv) => {
                let program = argv.first().map(String::as_str).unwrap_or_default();
                let wrong = |why: &str| CredentialError::Source(format!("the program `{program}` {why}"));
                printed(argv, EXEC)
                    .and_then(|bytes| secret(&bytes).map_err(str::to_owned))
                    .map_err(|why| wrong(&why))
            }
            Self::Kept(kept) => Err(CredentialError::Source(format!(
                "{kept} can't be read here, where nothing may wait for an answer; use `env` or `file`"
            ))),
        }
    }

    /// The same, also where others keep it; nobody else on this thread waits for them, or for a program.
    pub async fn fetch(&self, keepers: &SecretKeepers) -> Result<Secret, CredentialError> {
        match self {
            Self::Env(_) | Self::File(_) => return self.read(),
            Self::Kept(kept) => return keepers.fetch(kept).await,
            Self::Exec(_) => {}
        }
        let source = self.clone();
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        read.unwrap_or_else(|error| Err(CredentialError::Source(error.to_string())))
    }
}

/// What is longer by no more than a byte, so that it is seen to be too long.
fn up_to_the_limit(from: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Made at its final size: growing would leave copies behind that nobody wipes.
    let room = usize::try_from(SECRET_BYTES)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    from.take(SECRET_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes as a secret; else what is wrong with them, as the rest of a sentence.
fn secret(bytes: &[u8]) -> Result<Secret, &'static str> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > SECRET_BYTES {
        return Err("gives more than 65536 bytes");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "gives no UTF-8")?;
    let text = match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => text,
    };
    match text {
        "" => Err("gives nothing"),
        text => Ok(Secret::new(text)),
    }
}

/// What a program prints. Nothing of it is in the error, nor of what it says about its troubles: that may be the secret.
fn printed(argv: &[String], within: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let (program, arguments) = argv.split_first().ok_or("has no name")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot be run: {e}"))?;
    let Some(stdout) = child.stdout.take() else {
        return Err("has no output".to_owned());
    };
    let (told, hear) = mpsc::channel();
    // Its children may hold its output open when it is gone; nobody waits for them.
    std::thread::spawn(move || told.send(up_to_the_limit(stdout)));
    let read = hear.recv_timeout(within);
    if read.is_err() {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("did not end within {} s", within.as_secs()));
    }
    // Who gave too much, or closed its output early, is not waited for.
    let until = std::time::Instant::now() + Duration::from_secs(1);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if std::time::Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("went on behind its output".to_owned());
            }
        }
    };
    if !status.success() {
        return Err(format!(
            "failed: {status}; run it by hand as the gateway's user to see why"
        ));
    }
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        _ => Err("could not be read from".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_loses_one_line_end_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "zeppelin \n\n").unwrap();
        assert_eq!(
            SecretSource::File(path.clone()).read().unwrap().expose(),
            "zeppelin \n"
        );
        std::fs::write(&path, "").unwrap();
        let error = SecretSource::File(path).read().unwrap_err().to_string();
        assert!(error.ends_with("gives nothing"), "{error}");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = SecretSource::Env("GW_NO_SUCH_VARIABLE".into())
            .read()
            .unwrap_err()
            .to_string();
        assert!(error.contains("GW_NO_SUCH_VARIABLE"), "{error}");
    }

    fn exec(argv: &[&str]) -> SecretSource {
        SecretSource::Exec(argv.iter().map(|part| (*part).to_owned()).collect())
    }

    #[tokio::test]
    async fn a_program_prints_it_and_no_shell_reads_its_arguments() {
        let secret = exec(&["printf", "%s\n", "$(id) 'x'"])
            .fetch(&SecretKeepers::default())
            .await
            .unwrap();
        assert_eq!(secret.expose(), "$(id) 'x'");
    }

    #[test]
    fn a_program_that_fails_is_told_without_what_it_printed() {
        for (argv, why) in [
            (
                &["sh", "-c", "echo zeppelin; echo zeppelin >&2; exit 3"][..],
                "exit status: 3",
            ),
            (&["true"], "gives nothing"),
            (&["/no/such/program"], "cannot be run"),
            (&["head", "-c", "65537", "/dev/zero"], "more than 65536 bytes"),
            (&["printf", "\\377"], "no UTF-8"),
            (&[], "has no name"),
        ] {
            let error = exec(argv).read().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("zeppelin"), "{error}");
        }
    }

    #[test]
    fn a_program_that_hangs_or_never_stops_is_not_waited_for() {
        let run = |argv: &[&str]| {
            let argv: Vec<String> = argv.iter().map(|part| (*part).to_owned()).collect();
            let began = std::time::Instant::now();
            let error = printed(&argv, Duration::from_millis(200)).unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(5));
            error
        };
        assert!(run(&["sleep", "60"]).contains("did not end"));
        // Endless output: the limit ends it.
        let error = run(&["cat", "/dev/zero"]);
        assert!(error.contains("went on") || error.contains("failed"), "{error}");
    }
}
