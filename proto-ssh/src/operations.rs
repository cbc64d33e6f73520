//! What a client tries, in the words of policies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use gateway_core::machine::{Question, Stage, Statement};
use gateway_core::operation::{Action, EntityRef, Object, Operation, Operations, Value};
use gateway_core::resource::Resource;

/// Longest host name of a forward, in bytes (RFC 1035, section 2.3.4, and room for a zone).
const HOST: usize = 300;
/// Longest path of a Unix socket, in bytes: `sun_path` has 108.
const SOCKET_PATH: usize = 108;
/// How many arguments policies see by themselves.
const ARGUMENTS: usize = 9;

/// A session's place: the resource, and the login there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The resource's name.
    pub(crate) resource: String,
    /// The target login.
    pub(crate) login: String,
    /// Tags of what is looked for in output.
    pub(crate) detected: Arc<[String]>,
}

fn long(number: u32) -> Value {
    Value::Long(i64::from(number))
}

impl Place {
    /// The place of a login at a resource.
    pub(crate) fn new(resource: &Resource, login: &str) -> Self {
        let mut tags: Vec<String> = resource.detect.iter().map(|rule| rule.tag.clone()).collect();
        tags.sort();
        tags.dedup();
        Self {
            resource: resource.name.clone(),
            login: login.to_owned(),
            detected: tags.into(),
        }
    }

    /// What a program asks whose output goes to the client: what it does, and `unmask` of what is looked for there. Without
    /// the latter it runs, and what is found is masked.
    pub(crate) fn program(&self, operations: Vec<Operation>, summary: String, text: &str) -> Question {
        question(self.seen(operations), summary, text, true)
    }

    /// The same operations of what shows something to the client, with `unmask` of what is looked for there.
    pub(crate) fn seen(&self, mut operations: Vec<Operation>) -> Vec<Operation> {
        let shown = |tag: &String| Operation::unmask_or_mask(tag, &self.resource);
        operations.extend(self.detected.iter().map(shown));
        operations
    }

    fn on_resource(&self, action: &'static str) -> Operation {
        let object = Object::new(EntityRef::resource(&self.resource));
        Operation::new(Action::new(action), object).with("login", self.login.as_str())
    }

    /// `shell`.
    pub(crate) fn shell(&self, pty: bool) -> Operation {
        self.on_resource("shell").with("pty", pty)
    }

    /// `exec` of one simple command; `stdin`: it reads from the command before it.
    pub(crate) fn exec(&self, program: &str, arguments: &[String], stdin: bool) -> Operation {
        let count = i64::try_from(arguments.len()).unwrap_or(i64::MAX);
        let mut operation = self
            .on_resource("exec")
            .with("program", program)
            .with("args", arguments.join(" "))
            .with("argc", Value::Long(count))
            .with("stdin", stdin);
        for (index, argument) in arguments.iter().take(ARGUMENTS).enumerate() {
            let name = format!("arg{}", index.saturating_add(1));
            operation = operation.with(&name, argument.as_str());
        }
        operation
    }

    /// `exec-opaque`: a command that is not understood.
    pub(crate) fn opaque(&self, command: &str) -> Operation {
        self.on_resource("exec-opaque").with("command", command)
    }

    /// `env`.
    pub(crate) fn env(&self, name: &str) -> Operation {
        self.on_resource("env").with("name", name)
    }

    /// `agent-forward`.
    pub(crate) fn agent(&self) -> Operation {
        self.on_resource("agent-forward")
    }

    /// `x11`.
    pub(crate) fn x11(&self) -> Operation {
        self.on_resource("x11")
    }

    /// `forward` to a host and port, as the client sent them.
    pub(crate) fn forward(&self, host: &str, port: u32) -> Operation {
        let id = format!("{}/{host}:{port}", self.resource);
        let operation = self.endpoint(id, host, port);
        match address(host) {
            Some(ip) => operation.with("ip", Value::Ip(ip)),
            None => operation,
        }
    }

    /// `forward` to a Unix socket.
    pub(crate) fn forward_unix(&self, path: &str) -> Operation {
        let host = format!("unix:{path}");
        self.endpoint(format!("{}/{host}", self.resource), &host, 0)
    }

    fn endpoint(&self, id: String, host: &str, port: u32) -> Operation {
        Operation::new(
            Action::new("forward"),
            Object::new(EntityRef::new("Endpoint", id)),
        )
        .with("login", self.login.as_str())
        .with("host", host)
        .with("port", long(port))
    }

    /// `remote-forward`: the target would listen there.
    pub(crate) fn remote_forward(&self, host: &str, port: u32) -> Operation {
        self.on_resource("remote-forward")
            .with("host", host)
            .with("port", long(port))
    }

    /// `sftp-read` or `sftp-write` of an absolute path that the target has resolved. None: not a path that policy can name.
    pub(crate) fn file(&self, action: &'static str, path: &[u8]) -> Option<Operation> {
        let path = std::str::from_utf8(path).ok()?;
        let below = path.strip_prefix('/')?;
        let root = format!("{}/", self.resource);
        let id = |below: &str| EntityRef::new("Path", format!("{root}{below}"));
        let mut parents = Vec::new();
        let mut rest = below;
        while !rest.is_empty() {
            rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
            parents.push(id(rest));
        }
        let object = Object::within(id(below), parents);
        let operation = Operation::new(Action::new(action), object)
            .with("login", self.login.as_str())
            .with("path", path);
        Some(operation)
    }
}

/// What is wrong with the destination of a forward; `None`: nothing. A name that would be read in two ways is refused before
/// policy: an id that is built of it must be the only one of its kind.
pub(crate) fn malformed_endpoint(host: &str, port: u32, least_port: u32) -> Option<&'static str> {
    if port > 65535 || port < least_port {
        return Some("the port is no port");
    }
    if host.len() > HOST {
        return Some("the host name is too long");
    }
    let odd = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\' | '@' | '[' | ']') || !c.is_ascii()
    };
    host.contains(odd)
        .then_some("the host name has characters that no host name has")
}

/// What is wrong with the path of a Unix socket; `None`: nothing.
pub(crate) fn malformed_socket(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') || path.len() > SOCKET_PATH {
        return Some("the socket's path is not absolute, or too long");
    }
    if path.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Some("the socket's path has blanks or control characters");
    }
    let plain = path
        .split('/')
        .skip(1)
        .all(|part| !matches!(part, "" | "." | ".."));
    (!plain).then_some("the socket's path has `.`, `..` or empty parts")
}

/// The address that the target's resolver reads in `host`, in the shortened and the octal and hexadecimal forms of
/// `inet_aton(3)` too, so that a rule about addresses holds for each way to write one.
fn address(host: &str) -> Option<IpAddr> {
    // A connection to no address in particular goes to the host itself.
    written(host).map(|ip| match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    })
}

fn written(host: &str) -> Option<IpAddr> {
    if let Ok(ip) = host.split('%').next().unwrap_or_default().parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let parts: Vec<&str> = host.split('.').collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut value: u64 = 0;
    for part in first {
        value = (value << 8) | number(part).filter(|part| *part <= 0xff)?;
    }
    let free = 32_u32.saturating_sub(u32::try_from(first.len()).ok()?.saturating_mul(8));
    let last = number(last).filter(|last| *last < 1_u64 << free)?;
    let all = u32::try_from((value << free) | last).ok()?;
    Some(IpAddr::V4(Ipv4Addr::from_bits(all)))
}

fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (lower.get(1..)?, 8),
        None => (lower.as_str(), 10),
    };
    // `from_str_radix` takes a sign.
    (!digits.starts_with(['+', '-'])).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// A question about `operations`, with the text that people read and approvals bind.
pub(crate) fn question(operations: Vec<Operation>, summary: String, text: &str, writes: bool) -> Question {
    // Words of a command are its literals; without them there is the program alone.
    let normalised = summary.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Question {
        operations: Arc::new(Operations::new(operations, summary)),
        statement: Some(Statement::new(text, normalised)),
        writes,
        stage: Stage::Run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            resource: "web-1".to_owned(),
            login: "deploy".to_owned(),
            detected: Arc::default(),
        }
    }

    #[test]
    fn a_path_is_in_each_of_its_parents_up_to_the_root() {
        let operation = place().file("sftp-read", b"/srv/app/x").unwrap();
        assert_eq!(operation.object.entity.id, "web-1/srv/app/x");
        let parents: Vec<_> = operation.object.parents.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(parents, ["web-1/srv/app", "web-1/srv", "web-1/"]);
        let root = place().file("sftp-read", b"/").unwrap();
        assert_eq!(root.object.entity.id, "web-1/");
        assert!(root.object.parents.is_empty());
        assert!(place().file("sftp-read", b"x").is_none());
        assert!(place().file("sftp-read", b"/a\xff").is_none());
    }

    #[test]
    fn every_spelling_of_an_address_is_that_address_to_policy() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "::ffff:127.0.0.1",
            "0x7F000001",
        ] {
            assert_eq!(address(host), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), "{host}");
        }
        for host in [
            "localhost",
            "256.0.0.1",
            "1.2.3.4.5",
            "",
            "0x",
            "a.1",
            "+1",
            "4294967296",
        ] {
            assert_eq!(address(host), None, "{host}");
        }
    }

    #[test]
    fn an_endpoint_that_could_be_read_as_another_is_malformed() {
        assert_eq!(malformed_endpoint("10.0.0.7", 5432, 1), None);
        assert_eq!(malformed_endpoint("::1", 22, 1), None);
        for (host, port) in [
            ("h", 0),
            ("h", 65536 + 22),
            ("h\0x", 1),
            ("a b", 1),
            ("unix:/run/x", 1),
            ("h\u{a0}", 1),
        ] {
            assert!(malformed_endpoint(host, port, 1).is_some(), "{host}:{port}");
        }
        assert_eq!(malformed_socket("/run/x.sock"), None);
        for path in ["x", "/run/../etc", "/a b", "/a\0", "//x", "/x/"] {
            assert!(malformed_socket(path).is_some(), "{path}");
        }
    }

    #[test]
    fn arguments_are_told_exactly_and_together() {
        let words = ["-n".to_owned(), "a b".to_owned()];
        let exec = place().exec("head", &words, true);
        assert_eq!(exec.context["args"], Value::from("-n a b"));
        assert_eq!(exec.context["arg2"], Value::from("a b"));
        assert_eq!(exec.context["argc"], Value::Long(2));
        assert!(!exec.context.contains_key("arg3"));
    }
}
