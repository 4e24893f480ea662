//! Real etcd servers on free loopback ports, stopped when dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::programs::skip_without;
use super::wait::{LONG, eventually};

/// How the members of a cluster are started.
#[derive(Clone, Default)]
pub struct Options {
    /// `--cert-file` and so on; the client URLs are then `https`.
    pub tls: Option<Tls>,
    /// `--quota-backend-bytes`, where the default is too large to be filled.
    pub quota: Option<u32>,
}

/// Files of the servers' side, and of etcdctl.
#[derive(Clone)]
pub struct Tls {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
    /// `--client-cert-auth`.
    pub client_auth: bool,
}

/// One or several members of one etcd cluster.
pub struct Etcd {
    dir: tempfile::TempDir,
    members: Vec<Member>,
    options: Options,
    /// `user:password` for [`Etcd::ctl`].
    pub user: Option<String>,
}

struct Member {
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    /// `None` where etcd is not installed and that is no failure.
    pub fn start(members: usize) -> Option<Self> {
        Self::start_with(members, Options::default())
    }

    pub fn start_with(members: usize, options: Options) -> Option<Self> {
        let mut etcd = Self::prepare(members, options)?;
        for index in 0..members {
            etcd.run(index);
        }
        etcd.healthy();
        Some(etcd)
    }

    /// Ports chosen, nothing started.
    pub fn prepare(members: usize, options: Options) -> Option<Self> {
        if skip_without(&["etcd", "etcdctl"]) {
            return None;
        }
        let members = (0..members)
            .map(|_| Member { client_port: free_port(), peer_port: free_port(), child: None })
            .collect();
        Some(Self { dir: tempfile::tempdir().unwrap(), members, options, user: None })
    }

    fn scheme(&self) -> &'static str {
        if self.options.tls.is_some() { "https" } else { "http" }
    }

    pub fn url(&self, index: usize) -> String {
        format!("{}://127.0.0.1:{}", self.scheme(), self.members[index].client_port)
    }

    pub fn urls(&self) -> Vec<String> {
        (0..self.members.len()).map(|index| self.url(index)).collect()
    }

    fn data_dir(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("m{index}"))
    }

    /// Starts a member; it may not serve yet.
    pub fn run(&mut self, index: usize) {
        let cluster: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| format!("m{index}=http://127.0.0.1:{}", member.peer_port))
            .collect();
        let peer = format!("http://127.0.0.1:{}", self.members[index].peer_port);
        let client = self.url(index);
        let log = std::fs::File::create(self.dir.path().join(format!("m{index}.log"))).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{index}")])
            .arg("--data-dir")
            .arg(self.data_dir(index))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &cluster.join(",")])
            // The shortest lease etcd grants is one and a half election time-outs.
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(["--logger", "zap", "--log-level", "warn"])
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(quota) = self.options.quota {
            command.args(["--quota-backend-bytes", &quota.to_string()]);
        }
        if let Some(tls) = &self.options.tls {
            command.arg("--cert-file").arg(&tls.cert).arg("--key-file").arg(&tls.key);
            if tls.client_auth {
                command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.ca);
            }
        }
        self.members[index].child = Some(command.spawn().unwrap());
    }

    /// Waits until the cluster answers a linearizable read.
    #[track_caller]
    pub fn healthy(&self) {
        eventually("etcd to serve", LONG, || {
            (0..self.members.len())
                .filter(|index| self.members[*index].child.is_some())
                .all(|index| self.try_ctl(&self.url(index), &["get", "health"]).is_ok())
                .then_some(())
        });
    }

    /// `kill -9`.
    pub fn kill(&mut self, index: usize) {
        let mut child = self.members[index].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What the member knew is gone.
    pub fn wipe(&self, index: usize) {
        std::fs::remove_dir_all(self.data_dir(index)).unwrap();
    }

    pub fn freeze(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    pub fn thaw(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = self.members[index].child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }

    /// Runs etcdctl against the whole cluster and answers its output.
    pub fn ctl(&self, args: &[&str]) -> String {
        self.try_ctl(&self.urls().join(","), args)
            .unwrap_or_else(|error| panic!("{args:?}: {error}"))
    }

    pub fn try_ctl(&self, endpoints: &str, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints]);
        command.args(["--dial-timeout", "1s", "--command-timeout", "2s"]);
        if let Some(user) = &self.user {
            command.args(["--user", user]);
        }
        if let Some(tls) = &self.options.tls {
            command.arg("--cacert").arg(&tls.ca);
            command.arg("--cert").arg(&tls.client_cert).arg("--key").arg(&tls.client_key);
        }
        let output = command.args(args).output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The keys of the page's listing, without the blank lines etcdctl puts between.
    pub fn keys(&self) -> Vec<String> {
        self.ctl(&["get", "--prefix", "--keys-only", "/emqxcl/emqxcl"])
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Every lease there is.
    pub fn leases(&self) -> Vec<String> {
        let text = self.ctl(&["lease", "list"]);
        text.lines().skip(1).map(str::to_owned).filter(|line| !line.is_empty()).collect()
    }
}

/// Certificates for a test: a CA, a server's for `127.0.0.1`, a client's.
pub fn certificates(dir: &Path, server_names: &[&str]) -> Tls {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };

    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let make = |names: &[&str], usage| {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    let server = make(server_names, ExtendedKeyUsagePurpose::ServerAuth);
    let client = make(&["client"], ExtendedKeyUsagePurpose::ClientAuth);
    Tls {
        ca: write("ca.pem", ca_cert.pem()),
        cert: write("server.pem", server.0),
        key: write("server.key", server.1),
        client_cert: write("client.pem", client.0),
        client_key: write("client.key", client.1),
        client_auth: true,
    }
}
