//! Certificate authorities and `ssl_dist.conf` files made for a test.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// A CA with its key.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate, chain included, and its key; PEM.
#[derive(Clone)]
pub struct Leaf {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A CA below this one; its leaves carry both certificates.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Valid now, for the names `dns:`, `ip:` and `uri:`.
    pub fn leaf(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |_| {})
    }

    pub fn leaf_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "muster test node");
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2099, 1, 1);
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { cert, key: key.serialize_pem() }
    }

    pub fn expired(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |params| params.not_after = date_time_ymd(2021, 1, 1))
    }

    pub fn not_yet_valid(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |params| params.not_before = date_time_ymd(2098, 1, 1))
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params
}

fn san(name: &str) -> SanType {
    let (kind, value) = name.split_once(':').unwrap();
    match kind {
        "dns" => SanType::DnsName(value.try_into().unwrap()),
        "ip" => SanType::IpAddress(value.parse().unwrap()),
        "uri" => SanType::URI(value.try_into().unwrap()),
        other => panic!("no such kind of name: {other}"),
    }
}

/// The TLS files of one node: `ca.pem`, `cert.pem`, `key.pem`, `ssl_dist.conf` in a folder.
pub struct TlsFiles {
    dir: PathBuf,
    verify: &'static str,
    extra: String,
}

impl TlsFiles {
    /// Verifies its peers, both ways.
    pub fn write(dir: &Path, ca: &str, leaf: &Leaf) -> Self {
        let files = Self::open(dir);
        std::fs::create_dir_all(dir).unwrap();
        files.put("ca.pem", ca);
        files.put_leaf(leaf);
        files.put_conf();
        files
    }

    /// Those that are in a folder already, which verify.
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), verify: "verify_peer", extra: String::new() }
    }

    pub fn put(&self, name: &str, text: &str) {
        // In one step, as careful operators do; the tests of half-written files don't.
        let temporary = self.dir.join(format!("{name}.tmp"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(temporary, self.dir.join(name)).unwrap();
    }

    pub fn put_leaf(&self, leaf: &Leaf) {
        self.put("key.pem", &leaf.key);
        self.put("cert.pem", &leaf.cert);
    }

    /// `verify_none` in both sections.
    pub fn verify_none(mut self) -> Self {
        self.verify = "verify_none";
        self.put_conf();
        self
    }

    /// More options for both sections, as text: `, {depth, 1}`.
    pub fn extra(mut self, text: &str) -> Self {
        text.clone_into(&mut self.extra);
        self.put_conf();
        self
    }

    pub fn conf(&self) -> PathBuf {
        self.dir.join("ssl_dist.conf")
    }

    pub fn put_conf(&self) {
        let dir = self.dir.display();
        let Self { verify, extra, .. } = self;
        let section = format!(
            "[{{cacertfile, \"{dir}/ca.pem\"}}, {{certfile, \"{dir}/cert.pem\"}}, \
             {{keyfile, \"{dir}/key.pem\"}}, {{verify, {verify}}}{extra}]"
        );
        let strict =
            if self.verify == "verify_peer" { "{fail_if_no_peer_cert, true}, " } else { "" };
        let server = format!("[{strict}{}", &section[1..]);
        self.put("ssl_dist.conf", &format!("[{{server, {server}}},\n {{client, {section}}}].\n"));
    }
}
