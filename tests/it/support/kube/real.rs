//! A real `kube-apiserver` with an etcd behind it and RBAC on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::KeyPair;

use super::super::etcd::{Etcd, Tls};
use super::{ADMIN, LIMITED};

/// The binary that the environment names.
pub fn binary() -> Option<PathBuf> {
    let named = std::env::var_os("KUBE_APISERVER").map(PathBuf::from);
    let assets = std::env::var_os("KUBEBUILDER_ASSETS");
    named.or_else(|| assets.map(|dir| Path::new(&dir).join("kube-apiserver")))
}

pub struct Real {
    etcd: Etcd,
    binary: PathBuf,
    dir: PathBuf,
    tls: Tls,
    port: u16,
    child: Option<Child>,
}

impl Drop for Real {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

impl Real {
    pub async fn start(binary: &Path, dir: &Path, tls: &Tls) -> Self {
        let etcd = Etcd::start(1).expect("kube-apiserver needs etcd");
        std::fs::write(
            dir.join("tokens.csv"),
            format!("{ADMIN},admin,1,\"system:masters\"\n{LIMITED},limited,2\n"),
        )
        .unwrap();
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.join("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(dir.join("sa.pub"), key.public_key_pem()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut real = Self {
            etcd,
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            tls: tls.clone(),
            port,
            child: None,
        };
        real.run();
        real
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn run(&mut self) {
        let log = std::fs::File::create(self.dir.join("kube-apiserver.log")).unwrap();
        let child = Command::new(&self.binary)
            .args(["--etcd-servers", &self.etcd.url(0)])
            .args(["--bind-address", "127.0.0.1", "--secure-port", &self.port.to_string()])
            .args(["--advertise-address", "10.255.255.1"])
            .arg("--tls-cert-file")
            .arg(&self.tls.cert)
            .arg("--tls-private-key-file")
            .arg(&self.tls.key)
            .arg("--cert-dir")
            .arg(&self.dir)
            .arg("--token-auth-file")
            .arg(self.dir.join("tokens.csv"))
            .args(["--authorization-mode", "RBAC", "--anonymous-auth=false"])
            .args(["--service-cluster-ip-range", "10.254.0.0/24"])
            .args(["--service-account-issuer", "https://muster.test"])
            .arg("--service-account-signing-key-file")
            .arg(self.dir.join("sa.key"))
            .arg("--service-account-key-file")
            .arg(self.dir.join("sa.pub"))
            .args(["--disable-admission-plugins", "ServiceAccount"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("kube-apiserver.log")).unwrap_or_default()
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
