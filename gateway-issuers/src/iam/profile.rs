//! AWS's two files of profiles: INI, as its tools write it. What is asked of a profile are keys, or a web identity; other ways
//! (`credential_process`, SSO, `source_profile`) are refused and named.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::keys::Keys;

/// Longest file, in bytes.
const LONGEST: u64 = 1 << 20;
/// Ways to keys that are not gone.
const OTHERS: [&str; 5] = [
    "credential_process",
    "sso_session",
    "sso_start_url",
    "source_profile",
    "credential_source",
];

/// What a profile says.
pub(super) enum Profile {
    /// Keys.
    Keys(Keys),
    /// A role that is taken by a token.
    WebIdentity { role: String, token_file: PathBuf },
    /// There is none of that name, or it says nothing of keys.
    Absent,
}

/// Reads a profile from the credentials file and the configuration file; what the first says counts.
pub(super) fn read(name: &str, [credentials, config]: [Option<PathBuf>; 2]) -> Result<Profile, String> {
    let mut all = match config {
        Some(path) => section(&path, name, true)?,
        None => BTreeMap::new(),
    };
    if let Some(path) = credentials {
        all.extend(section(&path, name, false)?);
    }
    let mut take = |key: &str| all.remove(key).map(|text| text.to_string());
    let (id, secret) = (take("aws_access_key_id"), take("aws_secret_access_key"));
    if id.is_some() || secret.is_some() {
        let keys = Keys::of(id, secret, take("aws_session_token"), None, "a profile");
        return keys
            .map(Profile::Keys)
            .ok_or_else(|| "the profile's keys are none".to_owned());
    }
    if let (Some(role), Some(file)) = (take("role_arn"), take("web_identity_token_file")) {
        return Ok(Profile::WebIdentity {
            role,
            token_file: file.into(),
        });
    }
    match OTHERS.iter().find(|key| all.contains_key(**key)) {
        Some(key) => Err(format!(
            "the profile has its keys by `{key}`, which the gateway does not do; it takes `aws_access_key_id` and \
             `aws_secret_access_key`, or `role_arn` and `web_identity_token_file`"
        )),
        None => Ok(Profile::Absent),
    }
}

/// The keys of one section; in the configuration file sections are named `profile NAME`, but for `default`.
fn section(path: &Path, name: &str, config: bool) -> Result<BTreeMap<String, Zeroizing<String>>, String> {
    let mut text = Zeroizing::new(String::new());
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(format!("`{}` can't be read: {error}", path.display())),
    };
    let read = file.take(LONGEST.saturating_add(1)).read_to_string(&mut text);
    match read.map(u64::try_from) {
        Ok(Ok(size)) if size <= LONGEST => {}
        Ok(_) => return Err(format!("`{}` is longer than {LONGEST} bytes", path.display())),
        Err(error) => return Err(format!("`{}` can't be read: {error}", path.display())),
    }
    let mut found = BTreeMap::new();
    let mut inside = false;
    for line in text.lines() {
        // What is indented belongs to the key above it; none of those is asked for.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(head) = line.strip_prefix('[') {
            let head = head.split(']').next().unwrap_or_default().trim();
            inside = match config.then(|| head.strip_prefix("profile ")).flatten() {
                Some(named) => named.trim() == name,
                None => head == name && (!config || name == "default"),
            };
        } else if inside && let Some((key, value)) = line.split_once('=') {
            found.insert(
                key.trim().to_ascii_lowercase(),
                Zeroizing::new(value.trim().to_owned()),
            );
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_as_the_vendors_tools_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (credentials, config) = (dir.path().join("credentials"), dir.path().join("config"));
        std::fs::write(
            &credentials,
            "# [app]\n[other]\naws_access_key_id = NO\n[app]\r\naws_access_key_id=AK\r\nAWS_Secret_Access_Key = s/k+=\r\n\
             s3 =\n  aws_access_key_id = NESTED\n",
        )
        .unwrap();
        std::fs::write(
            &config,
            "[profile app]\naws_session_token = tok\naws_access_key_id = LESS\n[pod]\nrole_arn = NO\n\
             [profile pod]\nrole_arn = arn:aws:iam::1:role/x\nweb_identity_token_file = /t\n[profile sso]\nsso_session = x\n\
             [profile half]\naws_access_key_id = zeppelin\n",
        )
        .unwrap();
        let read = |name: &str| read(name, [Some(credentials.clone()), Some(config.clone())]);
        let Ok(Profile::Keys(keys)) = read("app") else {
            panic!()
        };
        assert_eq!((keys.id.as_str(), keys.secret.expose()), ("AK", "s/k+="));
        assert_eq!(keys.token.unwrap().expose(), "tok");
        assert!(
            matches!(read("pod"), Ok(Profile::WebIdentity { role, token_file })
            if role == "arn:aws:iam::1:role/x" && token_file == Path::new("/t"))
        );
        assert!(matches!(read("nobody"), Ok(Profile::Absent)));
        assert!(read("sso").err().unwrap().contains("`sso_session`"));
        assert!(!read("half").err().unwrap().contains("zeppelin"));
    }
}
