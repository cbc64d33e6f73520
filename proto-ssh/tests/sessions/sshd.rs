//! OpenSSH's server, with a configuration, keys and a port of its own, and the user who runs the tests as its one login.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SSHD: &str = "/usr/sbin/sshd";

pub(crate) struct Sshd {
    pub(crate) address: SocketAddr,
    pub(crate) login: String,
    folder: PathBuf,
    child: Child,
}

/// Runs a program to its good end, and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

pub(crate) fn keygen(path: &Path) {
    run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "",
            "-f",
            path.to_str().unwrap(),
        ],
    );
}

pub(crate) fn public(path: &Path) -> String {
    let text = fs::read_to_string(path.with_extension("pub")).unwrap();
    text.split(' ')
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
        .trim()
        .to_owned()
}

/// Whether there is one here.
pub(crate) fn is_installed() -> bool {
    Path::new(SSHD).exists()
}

impl Sshd {
    /// `folder` has `host`, its key. It trusts `user_ca`; `more` are lines of its configuration.
    pub(crate) fn start(folder: &Path, user_ca: &str, more: &str) -> Self {
        let port = gateway_testkit::free_port();
        let (at, configuration) = (folder.display(), folder.join("sshd_config"));
        fs::write(folder.join("user_ca.pub"), format!("{user_ca}\n")).unwrap();
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nTrustedUserCAKeys {at}/user_ca.pub\n\
             AuthorizedKeysFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPidFile none\nLogLevel DEBUG1\n{more}\n"
        );
        fs::write(&configuration, text).unwrap();
        let login = run("id", &["-un"]);
        let log = File::create(folder.join("log")).unwrap();
        let serve = format!("exec {SSHD} -D -e -f {}", configuration.display());
        let mut command = match login == "root" {
            // As root it wants a folder of its own, which is not made on the host.
            true => {
                let mut command = Command::new("unshare");
                let script = format!("mount -t tmpfs tmpfs /run && mkdir /run/sshd && {serve}");
                command.args(["--mount", "sh", "-c", &script]);
                command
            }
            false => {
                let mut command = Command::new("sh");
                command.args(["-c", &serve]);
                command
            }
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let sshd = Self {
            address,
            login,
            folder: folder.to_owned(),
            child,
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "{}", sshd.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
