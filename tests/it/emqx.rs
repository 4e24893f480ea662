//! The broker's own cluster: the observer and the driver against real Erlang nodes.

mod agent;
mod drive;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster::attributes::BrokerStatus;
use muster::broker::{BrokerReport, DriveState};
use muster::cookies::Cookies;
use muster::events::{EventLog, Since};
use muster::follow::emqx::{Parts, Times, follow};
use muster::mesh::tls::TlsContext;
use muster::node::NodeName;
use muster::notices::Notices;
use muster::resolve::Resolver;
use muster::secret::Secret;
use muster::view::{BrokerView, Member, Snapshot};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::broker::{Site, until};
use crate::support::pki::{Ca, TlsFiles};

/// Short where the product waits for people and networks.
fn times() -> Times {
    let millis = Duration::from_millis;
    Times {
        every: millis(100),
        often: millis(50),
        settled: millis(150),
        join: millis(1500),
        turn: millis(2500),
        retry: millis(100),
        retry_most: millis(200),
        patience: millis(400),
        question: millis(1000),
        lasting: millis(300),
    }
}

fn member(name: &str, is_self: bool) -> Member {
    let node = NodeName::parse(name).unwrap();
    let broker = BrokerView {
        address: format!("{}:1883", node.host_str()),
        status: BrokerStatus::Up,
        since: SystemTime::UNIX_EPOCH,
        detail: String::new(),
    };
    Member { is_self, broker: Some(broker), ..Member::new(node, SystemTime::UNIX_EPOCH) }
}

fn snapshot(this: &str, names: &[&str]) -> Snapshot {
    let mut members: Vec<_> = names.iter().map(|name| member(name, *name == this)).collect();
    members.sort_by(|a, b| a.node.cmp(&b.node));
    Snapshot::new(NodeName::parse(this).unwrap(), members)
}

/// One agent's follower, with a membership that the test makes up.
struct Agent {
    view: watch::Sender<Arc<Snapshot>>,
    report: watch::Receiver<BrokerReport>,
    events: Arc<EventLog>,
    notices: Arc<Notices>,
    agrees: Gauge,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    fn start(this: &str, names: &[&str], drive: bool) -> Self {
        Self::with(this, names, drive, "C", None)
    }

    fn with(
        this: &str,
        names: &[&str],
        drive: bool,
        cookie: &str,
        tls: Option<TlsContext>,
    ) -> Self {
        let (view, snapshots) = watch::channel(Arc::new(snapshot(this, names)));
        let (publish, report) = watch::channel(BrokerReport::default());
        let (events, notices) = (Arc::new(EventLog::starting_after(0)), Arc::<Notices>::default());
        let agrees = Gauge::default();
        let parts = Parts {
            node: NodeName::parse(this).unwrap(),
            drive,
            cookies: Cookies::from_iter([Secret::new(cookie)]),
            ipv6: false,
            tls,
            resolver: Resolver::new(&[]).unwrap(),
            handshake_timeout: Duration::from_secs(3),
            times: times(),
            snapshot: snapshots,
            report: publish,
            events: Arc::clone(&events),
            notices: Arc::clone(&notices),
            agrees: agrees.clone(),
        };
        let task = tokio::spawn(follow(parts));
        Self { view, report, events, notices, agrees, task }
    }

    fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
    }

    fn report(&self) -> BrokerReport {
        self.report.borrow().clone()
    }

    /// Waits for the broker's view: these run.
    async fn sees(&self, running: &[&str]) -> BrokerReport {
        let mut running = running.to_vec();
        running.sort_unstable();
        until(&format!("{running:?} in {:?}", self.report()), || {
            let report = self.report();
            let same = report.cluster.as_ref().is_some_and(|c| c.running_nodes == running);
            same.then_some(report)
        })
        .await
    }

    /// Waits for a state of the driver with these words.
    async fn drives(&self, state: DriveState, words: &str) {
        let mut last = BrokerReport::default();
        until(&format!("{state:?} with {words:?}"), || {
            last = self.report();
            let text = last.drive.last_error.as_deref().unwrap_or_default();
            (last.drive.state == state && text.contains(words)).then_some(())
        })
        .await;
    }

    fn notice(&self, check: &str) -> Option<String> {
        self.notices.all().into_iter().find(|n| n.check == check).map(|notice| notice.text)
    }

    fn told(&self) -> Vec<String> {
        match self.events.since(0, 100) {
            Since::Events(events) => events.into_iter().map(|event| event.text).collect(),
            Since::Reset(_) => Vec::new(),
        }
    }
}

#[tokio::test]
async fn the_brokers_view_is_shown_and_compared() {
    let Some((site, [a], [mut broker])) = Site::with().await else { return };
    let (b, x) = (site.name(3), "emqx@127.0.0.99");
    let agent = Agent::start(&a, &[&a], false);
    let report = agent.sees(&[&a]).await;
    assert!(report.cluster.unwrap().agrees);
    assert_eq!((report.drive.enabled, report.drive.state), (false, DriveState::Off));
    // A member more, at once; and what the broker says, soon.
    agent.change(|view| view.members.push(member(&b, false)));
    until("a missing broker", || agent.report().cluster.filter(|c| c.missing == [b.as_str()]))
        .await;
    broker.set("running", &format!("['{a}', '{x}']")).await;
    broker.set("stopped", "['emqx@127.0.0.98']").await;
    let report = agent.sees(&[&a, x]).await;
    let cluster = report.cluster.unwrap();
    assert_eq!((cluster.agrees, cluster.extra), (false, vec![x.to_owned()]));
    assert_eq!(cluster.stopped_nodes, ["emqx@127.0.0.98"]);
    // It differs for a while: told to everybody, once.
    let text = until("a notice", || agent.notice("broker_view")).await;
    assert!(text.contains(&b) && text.contains(x), "{text}");
    assert_eq!(agent.agrees.get(), 0);
    assert_eq!(agent.told().len(), 1);
    // Its application restarts: nobody knows.
    broker.eval("ekka:stop()").await;
    until("no view", || agent.report().cluster.is_none().then_some(())).await;
    until("a notice", || agent.notice("broker_link")).await;
    broker.eval(&format!("ekka:boot({:?})", site.path().join("joins.log"))).await;
    broker.set("running", &format!("['{a}', '{b}']")).await;
    agent.sees(&[&a, &b]).await;
    until("no notice", || agent.notices.all().is_empty().then_some(())).await;
    assert_eq!(agent.agrees.get(), 1);
    assert_eq!(agent.told().len(), 2, "{:?}", agent.told());
    // Frozen, then gone, then back.
    broker.freeze(true);
    until("no view", || agent.report().cluster.is_none().then_some(())).await;
    broker.freeze(false);
    agent.sees(&[&a, &b]).await;
    broker.kill().await;
    until("no view", || agent.report().cluster.is_none().then_some(())).await;
    let _broker = site.broker(2).await;
    agent.sees(&[&a]).await;
}

#[tokio::test]
async fn answers_that_are_none_are_shown_as_such() {
    let Some((_site, [a], [mut broker])) = Site::with().await else { return };
    let agent = Agent::start(&a, &[&a], false);
    for (how, words) in
        [("undef", "undef"), ("{crash, some_reason}", "some_reason"), ("hang", "does not answer")]
    {
        broker.set("info", how).await;
        until(words, || agent.notice("broker_link").filter(|text| text.contains(words))).await;
        broker.set("info", "normal").await;
        agent.sees(&[&a]).await;
        until("no notice", || agent.notices.all().is_empty().then_some(())).await;
    }
    broker.set("info", "{sleep, 300}").await;
    broker.set("running", &format!("['{a}', 'emqx@127.0.0.99']")).await;
    agent.sees(&[&a, "emqx@127.0.0.99"]).await;
}

/// Terms of every size and depth, and a broker that never stops to send.
#[tokio::test]
async fn hostile_answers_are_bounded() {
    let Some((_site, [a], [mut broker])) = Site::with().await else { return };
    let agent = Agent::start(&a, &[&a], false);
    agent.sees(&[&a]).await;
    let nested = "lists:foldl(fun(_, Term) -> [Term] end, [], lists:seq(1, 20000))";
    let node = "list_to_atom(\"emqx\" ++ integer_to_list(N) ++ \"@127.0.0.1\")";
    for (term, words) in [
        (nested.to_owned(), "not as a node"),
        (format!("#{{running_nodes => {nested}, stopped_nodes => []}}"), "not as a node"),
        (
            format!(
                "#{{running_nodes => [{node} || N <- lists:seq(1, 2000)], stopped_nodes => []}}"
            ),
            "the broker answered",
        ),
        ("#{running_nodes => [1.5, <<0:800>>], stopped_nodes => x}".to_owned(), "answered"),
        // Longer than any frame that is read.
        ("lists:duplicate(400000, a)".to_owned(), "announced"),
    ] {
        broker.set("info", &format!("{{result, {term}}}")).await;
        until(words, || agent.notice("broker_link").filter(|text| text.contains(words))).await;
        broker.set("info", "normal").await;
        agent.sees(&[&a]).await;
        until("no notice", || agent.notices.all().is_empty().then_some(())).await;
    }
    // What nobody asked for is passed over, and bounded; questions are answered all the same.
    let flood = format!(
        "spawn(fun() -> F = fun(F) -> {{rex, 'muster-{a}'}} ! <<0:8000>>, F(F) end, F(F) end)"
    );
    broker.eval(&flood).await;
    for host in [98, 99] {
        let other = format!("emqx@127.0.0.{host}");
        broker.set("running", &format!("['{a}', '{other}']")).await;
        agent.sees(&[&a, &other]).await;
    }
}

#[tokio::test]
async fn a_wrong_cookie_is_a_notice() {
    let Some((_site, [a], _brokers)) = Site::with().await else { return };
    let agent = Agent::with(&a, &[&a], true, "another", None);
    let text = until("a notice", || agent.notice("broker_link")).await;
    assert!(text.contains("cookie"), "{text}");
    agent.drives(DriveState::Waiting, "cookie").await;
}

#[tokio::test]
async fn a_broker_is_asked_over_tls() {
    let Some(site) = Site::new().await else { return };
    let a = site.name(2);
    let ca = Ca::new("the cluster's");
    let leaf = ca.leaf(&["dns:127.0.0.2", "ip:127.0.0.2"]);
    let conf = TlsFiles::write(&site.path().join("tls"), &ca.pem, &leaf).conf();
    let flags = ["-proto_dist", "inet_tls", "-ssl_dist_optfile", conf.to_str().unwrap()];
    let flags = flags.map(str::to_owned);
    let _broker = site.start(2, &["a", "b"], &flags).await;
    let node = NodeName::parse(&a).unwrap();
    let tls = TlsContext::load(&conf, &node, true).unwrap();
    let agent = Agent::with(&a, &[&a], false, "C", Some(tls));
    agent.sees(&[&a]).await;
}
