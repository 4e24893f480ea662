//! `k8s`: the endpoints of a service are the nodes.
//!
//! No task of its own. A round lists; between rounds `changed` reads the watch
//! that continues where the list ended. The watch is state of the strategy, so
//! that a dropped future loses nothing.
//!
//! Hand-written rather than a reflector: an answer must be asked for now, not be
//! taken from a cache that a silent server keeps stale, so all that a watch has to
//! say here is "look again".

mod client;
mod objects;
mod remedy;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use self::client::{Access, Api, SERVICE_ACCOUNT, Trouble};
use self::objects::{Endpoints, Naming, SERVICE_LABEL, SliceList};
pub(super) use self::remedy::remedy;
use self::watch::{News, Watch};
use super::text::shown;
use super::{Answer, BoxFuture, DiscoveryError, Strategy};
use crate::backoff::Backoff;
use crate::config::{DiscoveryConfig, K8sConfig};

/// A watch is opened anew about this often, so that one whose server went silent
/// does not stay unnoticed. It continues from its version; nothing is listed again.
const WATCH_SECONDS: std::ops::Range<u64> = 100..140;

/// A server may end a watch this much later than asked to.
const WATCH_GRACE: Duration = Duration::from_secs(5);

/// A watch that lived this long was no failure, however it ended.
const STABLE_WATCH: Duration = Duration::from_secs(5);

/// Waits after failed watches.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));

/// How soon a watch that is not allowed is tried again: a Role may have been mended.
const FORBIDDEN_WAIT: Duration = Duration::from_secs(60);

/// How long Endpoints are used before EndpointSlices are tried again.
const FALLBACK_FOR: Duration = Duration::from_secs(600);

/// The longest wait between two lists, also while a watch is open: a server that went
/// silent, or something in between that holds its packets, ends no watch and shows only
/// here.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// Slices read to name the services of a namespace, where the one asked for has none.
const LOOK_AROUND: u32 = 100;

/// Services named in a doubt.
const SERVICES_NAMED: usize = 5;

/// Where the nodes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Slices,
    /// Since then; an older API server, or a Role that grants only these.
    Endpoints(Instant),
}

/// The `k8s` strategy.
pub struct K8s {
    access: Access,
    naming: Naming,
    api: Option<Api>,
    resource: Resource,
    follow: Follow,
}

/// How far the watch is.
#[derive(Default)]
struct Follow {
    /// Where to watch from; `None`: nothing was listed, so there is nothing to follow.
    version: Option<String>,
    watch: Option<Watch>,
    /// Failures in a row.
    failures: u32,
    /// The next attempt is not made before.
    not_before: Option<Instant>,
    /// When the wait is over, list again first.
    relist: bool,
    /// That watching is not allowed, as the operator was told.
    forbidden: Option<String>,
}

impl Follow {
    fn failed(&mut self, watch: Option<&Watch>) {
        if watch.is_some_and(|watch| watch.opened.elapsed() >= STABLE_WATCH) {
            self.failures = 0;
        }
        let wait = BACKOFF.jittered(self.failures, (0.7, 1.3), &mut rand::rng());
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + wait);
        self.relist = true;
    }
}

impl K8s {
    /// A strategy for nodes whose mesh carries IPv4 or IPv6. Nothing is connected
    /// before the first round.
    #[must_use]
    pub fn new(config: K8sConfig, discovery: &DiscoveryConfig, ipv6: bool) -> Self {
        Self::with_account(config, discovery, ipv6, SERVICE_ACCOUNT.into())
    }

    /// As [`K8s::new`], with `token` and `ca.crt` read from another directory.
    #[must_use]
    pub fn with_account(
        config: K8sConfig,
        discovery: &DiscoveryConfig,
        ipv6: bool,
        account: PathBuf,
    ) -> Self {
        if discovery.kubeconfig.is_none() && config.apiserver.starts_with("http://") {
            tracing::warn!(
                apiserver = config.apiserver,
                "the API server is asked in clear text: whoever sits in between can invent members"
            );
        }
        let access = Access {
            apiserver: config.apiserver.clone(),
            account,
            kubeconfig: discovery.kubeconfig.clone(),
        };
        let include_not_ready = discovery.include_not_ready;
        Self {
            access,
            naming: Naming { config, include_not_ready, ipv6 },
            api: None,
            resource: Resource::Slices,
            follow: Follow::default(),
        }
    }

    async fn ask(&mut self) -> Result<Answer, DiscoveryError> {
        let api = match &self.api {
            Some(api) if !api.is_outdated() => api.clone(),
            _ => self.api.insert(self.access.open().await?).clone(),
        };
        match self.list(&api).await {
            Ok((mut answer, resource, version)) => {
                if answer.nodes.is_empty()
                    && answer.notices.is_empty()
                    && answer.rejected.is_empty()
                {
                    answer.doubts.push(self.nobody(&api, resource).await);
                }
                if std::mem::discriminant(&resource) != std::mem::discriminant(&self.resource) {
                    self.follow.watch = None;
                }
                self.resource = resource;
                if self.follow.watch.is_none() {
                    self.follow.version = Some(version);
                }
                self.follow.relist = false;
                answer.notices.extend(self.follow.forbidden.clone());
                Ok(answer)
            }
            Err(error) => {
                // Token, CA and connection are all taken anew.
                self.api = None;
                // A Role that changed may grant the other resource now.
                self.resource = Resource::Slices;
                self.follow.version = None;
                self.follow.watch = None;
                Err(error)
            }
        }
    }

    /// One round, and whether a watch could follow it.
    ///
    /// # Errors
    /// [`DiscoveryError`]: could not ask.
    pub async fn look(&mut self) -> Result<Answer, DiscoveryError> {
        let mut answer = self.ask().await?;
        if let Some(version) = self.follow.version.clone() {
            self.begin_watch(&version).await;
        }
        answer.notices.extend(self.follow.forbidden.clone());
        Ok(answer)
    }

    /// The answer, where it came from, and the version to watch from.
    async fn list(&mut self, api: &Api) -> Result<(Answer, Resource, String), DiscoveryError> {
        let refused = match self.resource {
            Resource::Endpoints(since) if since.elapsed() < FALLBACK_FOR => None,
            _ => match self.list_slices(api).await {
                Ok((answer, version)) => return Ok((answer, Resource::Slices, version)),
                Err(trouble @ (Trouble::Forbidden(_) | Trouble::NotFound(..))) => Some(trouble),
                Err(Trouble::Gone) => return Err(gone(api)),
                Err(Trouble::Other(error)) => return Err(error),
            },
        };
        let namespace = self.naming.config.namespace.clone();
        match self.get_endpoints(api).await {
            Ok((answer, version)) => {
                let since = match self.resource {
                    Resource::Endpoints(since) if refused.is_none() => since,
                    _ => Instant::now(),
                };
                if refused.is_some() && self.resource == Resource::Slices {
                    tracing::info!(
                        namespace,
                        "endpointslices can't be listed; endpoints are used instead"
                    );
                }
                Ok((answer, Resource::Endpoints(since), version))
            }
            Err(Trouble::Gone) => Err(gone(api)),
            Err(Trouble::Other(error)) => Err(error),
            Err(trouble) => Err(match (refused, trouble) {
                (Some(Trouble::Forbidden(words)), _) => denied(
                    api,
                    "list and watch endpointslices in group discovery.k8s.io",
                    &namespace,
                    &words,
                ),
                (_, Trouble::Forbidden(words)) => {
                    denied(api, "get and watch endpoints in the core group", &namespace, &words)
                }
                (_, trouble) => DiscoveryError::BadAnswer(api.say(&format!(
                    "404 Not Found: it has neither endpointslices nor endpoints; is \
                     cluster.k8s.apiserver right? {trouble}"
                ))),
            }),
        }
    }

    /// Why the service may have no endpoints: what was asked for beside what is there. A
    /// pod whose service is right is one of its endpoints itself.
    async fn nobody(&mut self, api: &Api, resource: Resource) -> String {
        let K8sConfig { namespace, service_name, .. } = self.naming.config.clone();
        let mut text = format!(
            "service {service_name} in namespace {namespace} has no endpoints, not even this node"
        );
        match self.access.pod_namespace() {
            Some(own) if own != namespace => {
                text.push_str(&format!(
                    " -> this pod runs in namespace {own}, is cluster.k8s.namespace right?"
                ));
            }
            _ => text.push_str(
                " -> is cluster.k8s.service_name right, and are this pod's labels those that the \
                 service selects?",
            ),
        }
        if resource == Resource::Slices
            && let Some(services) = self.services(api).await
        {
            text.push_str(&format!(" (services with endpoints there: {services})"));
        }
        text
    }

    /// The services of the namespace that have slices.
    async fn services(&mut self, api: &Api) -> Option<String> {
        let namespace = encoded(&self.naming.config.namespace);
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?limit={LOOK_AROUND}"
        );
        let body = api.get(&path).await.ok()?;
        let list: SliceList = serde_json::from_slice(&body).ok()?;
        let names: Vec<_> = list.services().into_iter().take(SERVICES_NAMED).map(shown).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    async fn list_slices(&mut self, api: &Api) -> Result<(Answer, String), Trouble> {
        let body = api.get(&self.slices_path()).await?;
        let list: SliceList = serde_json::from_slice(&body)
            .map_err(|error| api.odd(&format!("an EndpointSliceList that is none: {error}")))?;
        let version = list.metadata.resource_version.clone().unwrap_or_default();
        Ok((self.naming.slices(&list), version))
    }

    async fn get_endpoints(&mut self, api: &Api) -> Result<(Answer, String), Trouble> {
        let K8sConfig { namespace, service_name, .. } = &self.naming.config;
        let path = format!(
            "/api/v1/namespaces/{}/endpoints/{}",
            encoded(namespace),
            encoded(service_name)
        );
        let body = match api.get(&path).await {
            // No service of that name, or none with a selector: nobody is there.
            Err(Trouble::NotFound(_, true)) => return Ok((Answer::default(), String::new())),
            other => other?,
        };
        let endpoints: Endpoints = serde_json::from_slice(&body)
            .map_err(|error| api.odd(&format!("Endpoints that are none: {error}")))?;
        let version = endpoints.metadata.resource_version.clone().unwrap_or_default();
        Ok((self.naming.endpoints(&endpoints), version))
    }

    fn slices_path(&self) -> String {
        let K8sConfig { namespace, service_name, .. } = &self.naming.config;
        format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector={}%3D{}",
            encoded(namespace),
            encoded(SERVICE_LABEL),
            encoded(service_name)
        )
    }

    /// Begins a watch where the last list or watch ended.
    async fn open_watch(&mut self, version: &str) -> Result<(), Trouble> {
        let api = match &self.api {
            Some(api) => api.clone(),
            None => self.api.insert(self.access.open().await.map_err(Trouble::Other)?).clone(),
        };
        let K8sConfig { namespace, service_name, .. } = &self.naming.config;
        let mut path = match self.resource {
            Resource::Slices => self.slices_path(),
            Resource::Endpoints(_) => format!(
                "/api/v1/namespaces/{}/endpoints?fieldSelector=metadata.name%3D{}",
                encoded(namespace),
                encoded(service_name)
            ),
        };
        let seconds = rand::random_range(WATCH_SECONDS);
        path.push_str(&format!("&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}"));
        if !version.is_empty() {
            path.push_str(&format!("&resourceVersion={}", encoded(version)));
        }
        let deadline = Instant::now() + Duration::from_secs(seconds) + WATCH_GRACE;
        self.follow.watch = Some(Watch::new(api.stream(&path).await?, deadline));
        Ok(())
    }

    /// Returns when a round should look again. What goes wrong only waits here: the
    /// round then meets it too and reports it.
    async fn news(&mut self) {
        loop {
            let Some(version) = self.follow.version.clone() else {
                return std::future::pending().await;
            };
            if let Some(at) = self.follow.not_before {
                sleep_until(at).await;
                self.follow.not_before = None;
                if std::mem::take(&mut self.follow.relist) {
                    return;
                }
            }
            let Some(watch) = &mut self.follow.watch else {
                self.begin_watch(&version).await;
                continue;
            };
            match watch.next().await {
                News::Object(version) => {
                    if version.is_some() {
                        self.follow.version = version;
                    }
                    self.follow.failures = 0;
                    return;
                }
                News::Bookmark(version) => {
                    if version.is_some() {
                        self.follow.version = version;
                    }
                }
                News::End => {
                    let watch = self.follow.watch.take();
                    if watch.is_some_and(|watch| watch.opened.elapsed() >= STABLE_WATCH) {
                        self.follow.failures = 0;
                    } else {
                        self.follow.failed(None);
                    }
                }
                end @ (News::Gone | News::Broken(_)) => {
                    tracing::debug!(?end, "the Kubernetes watch ended");
                    let watch = self.follow.watch.take();
                    self.follow.failed(watch.as_ref());
                }
            }
        }
    }

    async fn begin_watch(&mut self, version: &str) {
        match self.open_watch(version).await {
            Ok(()) => self.follow.forbidden = None,
            Err(Trouble::Forbidden(words)) => {
                let (resource, group) = match self.resource {
                    Resource::Slices => ("endpointslices", "group discovery.k8s.io"),
                    Resource::Endpoints(_) => ("endpoints", "the core group"),
                };
                let text = format!(
                    "no right to watch {resource} in {group}, namespace {}: changes are seen only \
                     every discovery interval: {words} -> grant it, see deploy/k8s/rbac.yaml",
                    self.naming.config.namespace
                );
                if self.follow.forbidden.is_none() {
                    tracing::warn!("{text}");
                }
                self.follow.forbidden = Some(text);
                self.follow.not_before = Some(Instant::now() + FORBIDDEN_WAIT);
            }
            Err(trouble) => {
                tracing::debug!(?trouble, "the Kubernetes watch could not begin");
                self.follow.failed(None);
            }
        }
    }
}

fn denied(api: &Api, rights: &str, namespace: &str, words: &str) -> DiscoveryError {
    DiscoveryError::Denied(api.say(&format!(
        "403 Forbidden: missing the rights to {rights}, namespace {namespace}: {words}"
    )))
}

fn gone(api: &Api) -> DiscoveryError {
    DiscoveryError::BadAnswer(api.say("410 Gone, though no version was asked for"))
}

/// A path segment or query value.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

impl Strategy for K8s {
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>> {
        Box::pin(self.ask())
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.news())
    }

    fn longest_wait(&self) -> Option<Duration> {
        Some(LONGEST_GAP)
    }
}
