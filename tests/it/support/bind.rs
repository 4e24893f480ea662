//! A real name server (BIND) on free loopback ports, stopped when dropped.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::programs::skip_without;
use super::wait::{LONG, eventually};

/// `named` with the zones `muster.test` (ours to change), `broken.test` (SERVFAIL) and
/// `localhost`.
pub struct Bind {
    dir: tempfile::TempDir,
    ip: IpAddr,
    port: u16,
    control: u16,
    serial: u32,
    child: Option<Child>,
}

impl Drop for Bind {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that is free for UDP and TCP.
pub fn free_port(ip: IpAddr) -> u16 {
    eventually("a free port", LONG, || {
        let tcp = TcpListener::bind((ip, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        UdpSocket::bind((ip, port)).ok().map(|_| port)
    })
}

impl Bind {
    /// Started, with an empty `muster.test`; `None` where BIND is not installed and
    /// that is no failure.
    pub fn start() -> Option<Self> {
        let mut bind = Self::prepare(Ipv4Addr::LOCALHOST.into())?;
        bind.run();
        Some(bind)
    }

    /// Ports chosen and zones written, nothing started.
    pub fn prepare(ip: IpAddr) -> Option<Self> {
        if skip_without(&["named", "named-checkconf", "rndc"]) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("muster-bind-").tempdir().unwrap();
        let (port, control) = (free_port(ip), free_port(Ipv4Addr::LOCALHOST.into()));
        let mut bind = Self { dir, ip, port, control, serial: 0, child: None };
        bind.configure();
        bind.localhost(&["@ A 127.0.0.2", "@ A 127.0.0.3"]);
        bind.write_zone("", 1);
        Some(bind)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn configure(&self) {
        let (ip, port, control) = (self.ip, self.port, self.control);
        let (v4, v6) = match ip {
            IpAddr::V4(_) => (format!("{{ {ip}; }}"), "{ none; }".to_owned()),
            IpAddr::V6(_) => ("{ none; }".to_owned(), format!("{{ {ip}; }}")),
        };
        let dir = self.path().display();
        // Newer servers refuse to load more than 100 records of a name; older ones don't
        // know the option.
        let limit = "max-records-per-type 0;";
        let limit = if self.accepts(limit) { limit } else { "" };
        let key = "key tests { algorithm hmac-sha256; secret \"bXVzdGVyIHRlc3RzIGtleQ==\"; };\n";
        let conf = format!(
            "{key}controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} \
             keys {{ tests; }}; }};\n\
             options {{ directory \"{dir}\"; pid-file none; session-keyfile none;\n\
             listen-on port {port} {v4}; listen-on-v6 port {port} {v6};\n\
             recursion no; dnssec-validation no; notify no; minimal-responses no-auth;\n\
             managed-keys-directory \"{dir}\"; check-names primary ignore; {limit} }};\n\
             zone \"muster.test\" {{ type primary; file \"muster.zone\"; }};\n\
             zone \"localhost\" {{ type primary; file \"localhost.zone\"; }};\n\
             zone \"broken.test\" {{ type secondary; primaries {{ 127.0.0.1 port 1; }}; \
             file \"broken.zone\"; }};\n"
        );
        std::fs::write(self.path().join("named.conf"), conf).unwrap();
        let rndc = format!(
            "{key}options {{ default-server 127.0.0.1; default-port {control}; \
             default-key tests; }};\n"
        );
        std::fs::write(self.path().join("rndc.conf"), rndc).unwrap();
    }

    /// Replaces the records of `localhost`; before [`Bind::run`].
    pub fn localhost(&self, records: &[&str]) {
        let zone = format!(
            "$TTL 1\n@ SOA ns.localhost. root.localhost. 1 60 60 60 1\n@ NS ns\n\
             ns A 127.0.0.1\n{}\n",
            records.join("\n")
        );
        std::fs::write(self.path().join("localhost.zone"), zone).unwrap();
    }

    fn accepts(&self, option: &str) -> bool {
        let path = self.path().join("probe.conf");
        std::fs::write(&path, format!("options {{ {option} }};\n")).unwrap();
        let check = Command::new("named-checkconf").arg(path).stdout(Stdio::null()).status();
        check.unwrap().success()
    }

    fn write_zone(&mut self, records: &str, ttl: u32) {
        self.serial += 1;
        let mut zone = format!("$TTL {ttl}\n");
        let serial = self.serial;
        writeln!(zone, "@ SOA ns.muster.test. root.muster.test. {serial} 60 60 60 1").unwrap();
        writeln!(zone, "@ NS ns\nns A 127.0.0.1\n{records}").unwrap();
        let path = self.path().join("muster.zone");
        std::fs::write(&path, zone).unwrap();
        // named compares whole seconds and would take a quick change for none.
        let later = SystemTime::now() + Duration::from_secs(self.serial.into());
        File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
    }

    /// Starts `named` and waits until it serves.
    pub fn run(&mut self) {
        let log = File::create(self.path().join("named.log")).unwrap();
        let child = Command::new("named")
            .arg("-g")
            .arg("-c")
            .arg(self.path().join("named.conf"))
            .args(["-n", "1", "-U", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        self.serves();
    }

    /// Waits until the zone as written last is served.
    fn serves(&self) {
        let serial = format!("serial: {}\n", self.serial);
        eventually("named to serve the zone", LONG, || {
            self.rndc(&["zonestatus", "muster.test"]).filter(|text| text.contains(&serial))
        });
    }

    fn rndc(&self, args: &[&str]) -> Option<String> {
        let output = Command::new("rndc")
            .arg("-c")
            .arg(self.path().join("rndc.conf"))
            .args(args)
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// Replaces the records of `muster.test`, each a line of a zone file.
    pub fn set<T: AsRef<str>>(&mut self, records: &[T]) {
        self.set_with_ttl(records, 1);
    }

    pub fn set_with_ttl<T: AsRef<str>>(&mut self, records: &[T], ttl: u32) {
        let records: Vec<_> = records.iter().map(AsRef::as_ref).collect();
        self.write_zone(&records.join("\n"), ttl);
        if self.child.is_some() {
            // It refuses while it is still busy with the one before.
            eventually("named to reload the zone", LONG, || self.rndc(&["reload", "muster.test"]));
            self.serves();
        }
    }

    /// `kill -9`.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }
}
