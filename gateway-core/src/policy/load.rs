//! From a directory of `*.cedar` files to a checked set of policies.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, ValidationError, ValidationMode, Validator};
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use super::annotations::{self, Annotations, nearest};
use super::errors::{PolicyError, PolicyErrors};
use super::grants::Template;
use super::scan::{Lines, Scan, Statement, scan};
use super::vocabulary::Vocabulary;

/// Largest policy file, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// Most policy files, and most policies.
const POLICIES: usize = 10_000;

/// One policy in force.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Its `@id`.
    pub(super) id: String,
    pub(super) forbid: bool,
    /// `analysts.cedar:12`
    pub(super) place: String,
    pub(super) annotations: Annotations,
    /// The annotations as written, without `@id`.
    pub(super) written: BTreeMap<String, String>,
    /// The policy; its id within Cedar is its index among the rules.
    pub(super) policy: Policy,
}

/// All policies of a directory.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) list: Vec<Rule>,
    /// Policies with slots, which grants fill in.
    pub(super) templates: Vec<Template>,
    pub(super) version: Arc<str>,
    pub(super) warnings: Vec<String>,
}

struct File {
    path: PathBuf,
    text: String,
    lines: Lines,
}

impl File {
    fn position(&self, byte: usize) -> (usize, usize) {
        self.lines.position(&self.text, byte)
    }
}

/// A policy on its way: where it is, and what could be read of it.
struct Draft {
    file: usize,
    at: Statement,
    id: Option<String>,
    annotations: Annotations,
    written: BTreeMap<String, String>,
    policy: Written,
}

/// What stands there.
enum Written {
    Policy(Policy),
    /// With slots.
    Template(cedar_policy::Template),
}

/// Stack for loading, of which only what is used is ever real: Cedar recurses along expressions.
const STACK: usize = 256 << 20;

/// Runs what loads policies on a thread of its own, with a stack that holds what [`Scan::too_deep`] lets pass.
pub(super) fn on_deep_stack<T: Send>(
    dir: &Path,
    job: impl FnOnce() -> Result<T, PolicyErrors> + Send,
) -> Result<T, PolicyErrors> {
    let failed = |message: String| {
        let file = dir.to_owned();
        PolicyErrors(vec![PolicyError {
            file,
            line: 0,
            column: 0,
            message,
            help: None,
        }])
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new()
            .name("policies".to_owned())
            .stack_size(STACK);
        let thread = builder
            .spawn_scoped(scope, job)
            .map_err(|error| failed(format!("there is no thread to load policies: {error}")))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed("loading policies panicked".to_owned())))
    })
}

/// Loads a directory. To be run [`on_deep_stack`].
pub(super) fn load(dir: &Path, vocabulary: &Vocabulary) -> Result<Rules, PolicyErrors> {
    let mut loader = Loader {
        files: Vec::new(),
        drafts: Vec::new(),
        errors: Vec::new(),
    };
    for path in loader.paths(dir) {
        loader.file(path);
    }
    loader.double_ids();
    let mut warnings = loader.validate(vocabulary);
    if !loader.errors.is_empty() {
        loader
            .errors
            .sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        return Err(PolicyErrors(loader.errors));
    }
    if loader.drafts.is_empty() {
        warnings.push(format!(
            "{} holds no policies: everything is denied",
            dir.display()
        ));
    }
    let version = loader.version();
    let Loader { files, drafts, .. } = loader;
    let count = drafts.len();
    let (mut list, mut templates) = (Vec::new(), Vec::new());
    for draft in drafts {
        let (Some(file), Some(id)) = (files.get(draft.file), draft.id) else {
            continue;
        };
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("{name}:{}", file.position(draft.at.start).0);
        match draft.policy {
            Written::Policy(policy) => list.push(Rule {
                id,
                forbid: policy.effect() == Effect::Forbid,
                place,
                annotations: draft.annotations,
                written: draft.written,
                // Its id within Cedar is its index among those that are policies.
                policy: policy.new_id(PolicyId::new(list.len().to_string())),
            }),
            Written::Template(template) => {
                let form = template.to_json().map_err(|e| e.to_string());
                let read = form.and_then(|form| {
                    Template::read(id, place, draft.annotations, form).map_err(|(message, _)| message)
                });
                templates.extend(read);
            }
        }
    }
    if list.len().saturating_add(templates.len()) != count {
        // Cedar names policies by their index here: were one left out, others would be taken for it.
        let (file, message) = (dir.to_owned(), "a policy was lost while loading".to_owned());
        return Err(PolicyErrors(vec![PolicyError {
            file,
            line: 0,
            column: 0,
            message,
            help: None,
        }]));
    }
    Ok(Rules {
        list,
        templates,
        version,
        warnings,
    })
}

struct Loader {
    files: Vec<File>,
    drafts: Vec<Draft>,
    errors: Vec<PolicyError>,
}

impl Loader {
    /// The policy files of a directory, sorted by name. Hidden files and directories are none.
    fn paths(&mut self, dir: &Path) -> Vec<PathBuf> {
        let entries = match fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => {
                let help = "create the directory, or set [policy] dir";
                self.whole(dir, format!("the policy directory can't be read: {error}"), help);
                return Vec::new();
            }
        };
        let mut paths: Vec<PathBuf> = entries
            .into_iter()
            .filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.ends_with(".cedar") && !name.starts_with('.')
            })
            .map(|entry| entry.path())
            .filter(|path| !path.is_dir())
            .collect();
        paths.sort();
        if paths.len() > POLICIES {
            self.whole(
                dir,
                format!("more than {POLICIES} policy files"),
                "put more policies into a file",
            );
            paths.truncate(POLICIES);
        }
        paths
    }

    fn whole(&mut self, file: &Path, message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), Some(help.into()));
        self.errors.push(PolicyError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            help,
        });
    }

    fn fault(&mut self, file: usize, byte: usize, message: impl Into<String>, help: Option<String>) {
        if let Some(at) = self.files.get(file) {
            let (line, column) = at.position(byte);
            let (file, message) = (at.path.clone(), message.into());
            let error = PolicyError {
                file,
                line,
                column,
                message,
                help,
            };
            if !self.errors.contains(&error) {
                self.errors.push(error);
            }
        }
    }

    fn file(&mut self, path: PathBuf) {
        let text = match read(&path) {
            Ok(text) => text,
            Err((message, help)) => return self.whole(&path, message, help),
        };
        let file = self.files.len();
        let scan = scan(&text);
        let too_deep = scan.too_deep();
        let parsed = if too_deep.is_none() {
            PolicySet::from_str(&text)
        } else {
            Ok(PolicySet::new())
        };
        let lines = Lines::of(&text);
        self.files.push(File { path, text, lines });
        if let Some((byte, message)) = too_deep {
            let help = "split it into several policies, or compare with a set";
            return self.fault(file, byte, message, Some(help.to_owned()));
        }
        let set = match parsed {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    let (byte, label) = label(error);
                    let help = error.help().map(|help| help.to_string()).or(label);
                    self.fault(file, byte, error.to_string(), help);
                }
                return;
            }
        };
        let found = set.num_of_policies().saturating_add(set.num_of_templates());
        if found != scan.statements.len() {
            let message = format!(
                "{found} policies were parsed, but {} found",
                scan.statements.len()
            );
            return self.fault(file, 0, message, None);
        }
        for (number, at) in scan.statements.iter().enumerate() {
            let id = PolicyId::new(format!("policy{number}"));
            match (set.policy(&id), set.template(&id)) {
                (Some(policy), _) => self.policy(file, &scan, *at, Written::Policy(policy.clone())),
                (None, Some(template)) => self.policy(file, &scan, *at, Written::Template(template.clone())),
                (None, None) => self.fault(file, at.start, "the policy was not found again", None),
            }
        }
    }

    fn policy(&mut self, file: usize, scan: &Scan, at: Statement, policy: Written) {
        if self.drafts.len() >= POLICIES {
            if self.drafts.len() == POLICIES {
                self.fault(file, at.start, format!("more than {POLICIES} policies"), None);
            }
            return;
        }
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let (mut written, effect): (BTreeMap<String, String>, Effect) = match &policy {
            Written::Policy(policy) => (policy.annotations().map(pair).collect(), policy.effect()),
            Written::Template(template) => (template.annotations().map(pair).collect(), template.effect()),
        };
        let (id, annotations, faults) = annotations::read(&written, effect == Effect::Forbid);
        if annotations.longest.is_some() && matches!(policy, Written::Policy(_)) {
            let byte = scan.annotation(at, "longest");
            let help = "write `principal == ?principal` and `resource in ?resource`, or remove it";
            let message = "`@longest` says how long a grant may last, and this policy has no slots";
            self.fault(file, byte, message, Some(help.to_owned()));
        }
        for fault in faults {
            let byte = scan.annotation(at, &fault.annotation);
            self.fault(file, byte, fault.message, Some(fault.help));
        }
        written.remove("id");
        let name = PolicyId::new(self.drafts.len().to_string());
        let policy = match policy {
            Written::Policy(policy) => Written::Policy(policy.new_id(name)),
            Written::Template(template) => {
                if let Ok(form) = template.to_json()
                    && let Err((message, help)) =
                        Template::read(String::new(), String::new(), annotations.clone(), form)
                {
                    self.fault(file, at.start, message, Some(help));
                }
                Written::Template(template.new_id(name))
            }
        };
        self.drafts.push(Draft {
            file,
            at,
            id,
            annotations,
            written,
            policy,
        });
    }

    fn double_ids(&mut self) {
        let mut first: HashMap<&str, &Draft> = HashMap::new();
        let mut doubles = Vec::new();
        for draft in &self.drafts {
            let Some(id) = &draft.id else { continue };
            match first.get(id.as_str()) {
                None => {
                    first.insert(id, draft);
                }
                Some(other) => {
                    let Some(file) = self.files.get(other.file) else {
                        continue;
                    };
                    let line = file.position(other.at.start).0;
                    let message = format!("`@id` {id:?} is taken by {}:{line}", file.path.display());
                    doubles.push((draft.file, draft.at.start, message));
                }
            }
        }
        for (file, byte, message) in doubles {
            self.fault(file, byte, message, Some("give it a name of its own".to_owned()));
        }
    }

    /// Validates all policies against the vocabulary; returns warnings.
    fn validate(&mut self, vocabulary: &Vocabulary) -> Vec<String> {
        let mut set = PolicySet::new();
        for draft in &self.drafts {
            // Ids within Cedar are indices, so none is double.
            let added = match &draft.policy {
                Written::Policy(policy) => set.add(policy.clone()),
                Written::Template(template) => set.add_template(template.clone()),
            };
            if let Err(error) = added {
                let (file, byte) = (draft.file, draft.at.start);
                self.fault(file, byte, error.to_string(), None);
                return Vec::new();
            }
        }
        let validator = Validator::new(vocabulary.schema().as_ref().clone());
        let result = validator.validate(&set, ValidationMode::Strict);
        let mut faults: Vec<(usize, Option<usize>, String, Option<String>)> = Vec::new();
        for error in result.validation_errors() {
            let help = match error {
                ValidationError::UnrecognizedActionId(_) => action_help(&error.to_string(), vocabulary),
                _ => error.help().map(|help| help.to_string()),
            };
            faults.push(self.found(error.policy_id(), error, help));
        }
        let mut warnings = Vec::new();
        let erring: Vec<usize> = faults.iter().map(|(index, ..)| *index).collect();
        for warning in result.validation_warnings() {
            let (index, byte, message, help) = self.found(warning.policy_id(), warning, None);
            use cedar_policy::ValidationWarning as W;
            match warning {
                W::ImpossiblePolicy(_) | W::InvalidActionApplication(_) => {
                    if !erring.contains(&index) && !faults.iter().any(|fault| fault.0 == index) {
                        let message = "this policy can never match";
                        let help = "its action, resource and conditions exclude each other; \
                                    see which resource types the action is asked on";
                        faults.push((index, byte, message.to_owned(), Some(help.to_owned())));
                    }
                }
                _ => {
                    let help = help.map(|help| format!("; {help}")).unwrap_or_default();
                    warnings.push(format!("{}: {message}{help}", self.place(index)));
                }
            }
        }
        let mut seen: Vec<(usize, Option<usize>, Option<String>)> = Vec::new();
        for (index, byte, message, help) in faults {
            // One fault for each place, not one for each resource type that shows it.
            let key = (index, byte, help.clone());
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
            if let Some(draft) = self.drafts.get(index) {
                let (file, start) = (draft.file, draft.at.start);
                self.fault(file, byte.unwrap_or(start), message, help);
            }
        }
        warnings
    }

    /// A finding of the validator: which policy, where, and its text without our internal ids.
    fn found(
        &self,
        id: &PolicyId,
        finding: &dyn Diagnostic,
        help: Option<String>,
    ) -> (usize, Option<usize>, String, Option<String>) {
        let name: &str = id.as_ref();
        let index = name.parse().unwrap_or(usize::MAX);
        let message = finding.to_string();
        let bare = message
            .strip_prefix(&format!("for policy `{name}`, "))
            .unwrap_or(&message);
        let byte = finding
            .labels()
            .and_then(|mut labels| labels.next())
            .map(|label| label.offset());
        (index, byte, bare.to_owned(), help)
    }

    fn place(&self, index: usize) -> String {
        let Some(draft) = self.drafts.get(index) else {
            return String::new();
        };
        let Some(file) = self.files.get(draft.file) else {
            return String::new();
        };
        format!("{}:{}", file.path.display(), file.position(draft.at.start).0)
    }

    /// A digest over ids and texts, whatever files they are in.
    fn version(&self) -> Arc<str> {
        let mut texts: Vec<(&str, &str)> = self
            .drafts
            .iter()
            .filter_map(|draft| {
                let text = &self.files.get(draft.file)?.text;
                Some((draft.id.as_deref()?, text.get(draft.at.start..draft.at.end)?))
            })
            .collect();
        texts.sort_unstable();
        let mut hasher = Sha256::new();
        for (id, text) in texts {
            for part in [id, text] {
                hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                hasher.update(part.as_bytes());
            }
        }
        let mut hex = String::with_capacity(16);
        for byte in hasher.finalize().iter().take(8) {
            // Writing to a string can't fail.
            let _ = write!(hex, "{byte:02x}");
        }
        hex.into()
    }
}

fn read(path: &Path) -> Result<String, (String, String)> {
    let unreadable = |error: std::io::Error| {
        (
            format!("the file can't be read: {error}"),
            "make it readable to the gateway".to_owned(),
        )
    };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err((
            "this is no regular file".to_owned(),
            "put policies into plain files".to_owned(),
        ));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        return Err(("the file is larger than 1 MiB".to_owned(), "split it".to_owned()));
    }
    String::from_utf8(bytes).map_err(|e| {
        (
            format!("the file is not UTF-8: {e}"),
            "save it as UTF-8".to_owned(),
        )
    })
}

/// The first place that an error points to, and what it says there.
fn label(error: &dyn Diagnostic) -> (usize, Option<String>) {
    let label = error.labels().and_then(|mut labels| labels.next());
    label.map_or((0, None), |label| {
        (label.offset(), label.label().map(str::to_owned))
    })
}

/// The action nearest to the unknown one of a message.
fn action_help(message: &str, vocabulary: &Vocabulary) -> Option<String> {
    let (_, rest) = message.split_once("Action::\"")?;
    let (written, _) = rest.split_once('"')?;
    Some(match nearest(written, vocabulary.actions()) {
        Some(near) => format!("did you mean `Action::\"{near}\"`?"),
        None => format!(
            "the actions of this build are {}",
            vocabulary.actions().collect::<Vec<_>>().join(", ")
        ),
    })
}
