//! A Kubernetes API server for tests: the real one where `KUBE_APISERVER` or
//! `KUBEBUILDER_ASSETS` names it, else one in this process.

pub mod fake;
mod real;

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::etcd::{Tls, certificates};

/// The namespace of every object here.
pub const NAMESPACE: &str = "muster-it";
const ADMIN: &str = "admin-token-Zk2";
/// The token of a user without any right but what [`Api::grant`] gives.
pub const LIMITED: &str = "limited-token-Qp7";

/// A verb, and the resource that it is allowed on.
pub type Right = (&'static str, &'static str);

/// What the strategy needs, as the deployed Role grants it.
pub const SLICES: &[Right] = &[("list", "endpointslices"), ("watch", "endpointslices")];
/// As EMQX's own Role.
pub const ENDPOINTS: &[Right] =
    &[("get", "endpoints"), ("list", "endpoints"), ("watch", "endpoints")];

/// A running API server over TLS, and a service account directory for it.
pub struct Api {
    dir: tempfile::TempDir,
    tls: Tls,
    server: Server,
    admin: kube::Client,
}

enum Server {
    Fake(fake::Fake),
    Real(Box<real::Real>),
}

impl Api {
    /// The real server where there is one.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = certificates(dir.path(), &["127.0.0.1", "localhost"]);
        match real::binary() {
            Some(binary) => {
                let real = real::Real::start(&binary, dir.path(), &tls).await;
                let api = Self::with(dir, tls, Server::Real(Box::new(real)));
                api.admin_ready().await;
                let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                    "metadata": {"name": NAMESPACE}});
                api.write(Method::POST, "/api/v1/namespaces", &namespace).await;
                api
            }
            None => Self::fake_in(dir, tls).await,
        }
    }

    /// The one in this process: for faults that a real one doesn't make on demand.
    pub async fn fake() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = certificates(dir.path(), &["127.0.0.1", "localhost"]);
        Self::fake_in(dir, tls).await
    }

    async fn fake_in(dir: tempfile::TempDir, tls: Tls) -> Self {
        let fake = fake::Fake::start(Some(&tls)).await;
        Self::with(dir, tls, Server::Fake(fake))
    }

    fn with(dir: tempfile::TempDir, tls: Tls, server: Server) -> Self {
        let url = match &server {
            Server::Fake(fake) => fake.url(),
            Server::Real(real) => real.url(),
        };
        let account = dir.path().join("account");
        std::fs::create_dir(&account).unwrap();
        std::fs::copy(&tls.ca, account.join("ca.crt")).unwrap();
        std::fs::write(account.join("token"), format!("{LIMITED}\n")).unwrap();
        let mut config = kube::Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![der(&tls.ca)]);
        config.auth_info.token = Some(ADMIN.to_owned().into());
        config.default_retry = false;
        let admin = kube::Client::try_from(config).unwrap();
        Self { dir, tls, server, admin }
    }

    pub fn url(&self) -> String {
        match &self.server {
            Server::Fake(fake) => fake.url(),
            Server::Real(real) => real.url(),
        }
    }

    /// Holds `token`, the limited user's, and `ca.crt`.
    pub fn account(&self) -> PathBuf {
        self.dir.path().join("account")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A kubeconfig of the limited user. Written once: somebody may be reading it.
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.dir.path().join("kubeconfig");
        if path.exists() {
            return path;
        }
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: \
             {{cluster: k, user: u}}\nclusters:\n- name: k\n  cluster: {{server: \"{}\", \
             certificate-authority: \"{}\"}}\nusers:\n- name: u\n  user: {{token: {LIMITED}}}\n",
            self.url(),
            self.tls.ca.display(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The one in this process.
    pub fn as_fake(&self) -> &fake::Fake {
        match &self.server {
            Server::Fake(fake) => fake,
            Server::Real(_) => panic!("this test is for the server in this process"),
        }
    }

    pub async fn kill(&mut self) {
        match &mut self.server {
            Server::Fake(fake) => fake.stop().await,
            Server::Real(real) => real.kill(),
        }
    }

    pub async fn run_again(&mut self) {
        match &mut self.server {
            Server::Fake(fake) => fake.run().await,
            Server::Real(real) => real.run(),
        }
        self.admin_ready().await;
    }

    async fn admin_ready(&self) {
        // A real one lists before it knows the roles again.
        let path = match &self.server {
            Server::Fake(_) => "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
            Server::Real(_) => "/readyz",
        };
        let mut last = None;
        for _ in 0..600 {
            match self.send(Method::GET, path, None).await {
                Ok((StatusCode::OK, _)) => return,
                other => last = Some(other),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let log = match &self.server {
            Server::Fake(_) => String::new(),
            Server::Real(real) => real.log(),
        };
        panic!("the API server does not serve: {last:?}\n{log}");
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), kube::Error> {
        let bytes = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(
                Full::new(Bytes::from(bytes)).collect().await.unwrap().to_bytes().to_vec(),
            ))
            .unwrap();
        let response = self.admin.send(request).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    async fn write(&self, method: Method, path: &str, body: &Value) {
        let (status, answer) = self.send(method, path, Some(body)).await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {answer}");
    }

    /// Creates or replaces an object.
    async fn put(&self, collection: &str, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        let path = format!("{collection}/{name}");
        match self.send(Method::GET, &path, None).await.unwrap() {
            (StatusCode::OK, _) => self.write(Method::PUT, &path, object).await,
            _ => self.write(Method::POST, collection, object).await,
        }
    }

    async fn delete(&self, path: &str) {
        let (status, answer) = self.send(Method::DELETE, path, None).await.unwrap();
        assert!(status.is_success() || status == StatusCode::NOT_FOUND, "{path}: {answer}");
    }

    /// Creates or replaces a slice of a service.
    pub async fn put_slice(&self, name: &str, service: &str, family: &str, endpoints: Value) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": service}},
            "addressType": family, "endpoints": endpoints,
            "ports": [{"name": "mqtt", "port": 1883}],
        });
        self.put(&slices(), &slice).await;
    }

    pub async fn delete_slice(&self, name: &str) {
        self.delete(&format!("{}/{name}", slices())).await;
    }

    /// Creates or replaces the Endpoints of a service.
    pub async fn put_endpoints(&self, service: &str, subsets: Value) {
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {"name": service, "namespace": NAMESPACE}, "subsets": subsets,
        });
        let collection = format!("/api/v1/namespaces/{NAMESPACE}/endpoints");
        self.put(&collection, &endpoints).await;
    }

    /// Sets what the limited user may do, and nothing else.
    pub async fn grant(&self, rights: &[Right]) {
        match &self.server {
            Server::Fake(fake) => fake.grant(rights),
            Server::Real(_) => {
                let rules: Vec<Value> = rights
                    .iter()
                    .map(|(verb, resource)| {
                        let group = if *resource == "endpoints" { "" } else { "discovery.k8s.io" };
                        json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
                    })
                    .collect();
                let group = "rbac.authorization.k8s.io";
                let base = format!("/apis/{group}/v1/namespaces/{NAMESPACE}");
                let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role",
                    "metadata": {"name": "muster", "namespace": NAMESPACE}, "rules": rules});
                self.put(&format!("{base}/roles"), &role).await;
                let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
                    "metadata": {"name": "muster", "namespace": NAMESPACE},
                    "roleRef": {"apiGroup": group, "kind": "Role", "name": "muster"},
                    "subjects": [{"kind": "User", "apiGroup": group, "name": "limited"}]});
                self.put(&format!("{base}/rolebindings"), &binding).await;
                self.settled(rights).await;
            }
        }
    }

    /// The authorizer follows its own watch of the Roles: waits until it has it.
    async fn settled(&self, rights: &[Right]) {
        for (verb, resource) in [SLICES, ENDPOINTS].concat() {
            let group = if resource == "endpoints" { "" } else { "discovery.k8s.io" };
            let review = json!({"apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview", "spec": {"user": "limited",
                "resourceAttributes": {"namespace": NAMESPACE, "verb": verb, "group": group,
                    "resource": resource}}});
            let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let wanted = rights.contains(&(verb, resource));
            for attempt in 0.. {
                let (_, answer) = self.send(Method::POST, path, Some(&review)).await.unwrap();
                if answer["status"]["allowed"].as_bool() == Some(wanted) {
                    break;
                }
                assert!(attempt < 200, "{verb} {resource} should be {wanted}: {answer}");
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            }
        }
    }
}

fn slices() -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices")
}

fn der(path: &Path) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}
