//! The broker's own cluster: the observer and the driver against real Erlang nodes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use muster::attributes::{BrokerStatus, Tags};
use muster::broker::{BrokerReport, DriveState};
use muster::cookies::Cookies;
use muster::events::{EventLog, Since};
use muster::follow::emqx::{Parts, Times, follow};
use muster::mesh::tls::TlsContext;
use muster::node::{Incarnation, NodeName, Role};
use muster::notices::Notices;
use muster::resolve::Resolver;
use muster::secret::Secret;
use muster::view::{
    BrokerView, ClusterState, DiscoveryView, LinkState, Member, MemberStatus, Snapshot,
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::broker::{Broker, Site, until};
use crate::support::pki::{Ca, TlsFiles};
use crate::support::programs::skip_without;

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
    Member {
        broker: Some(BrokerView {
            address: format!("{}:1883", node.host_str()),
            status: BrokerStatus::Up,
            since: SystemTime::UNIX_EPOCH,
            detail: String::new(),
        }),
        node,
        status: MemberStatus::Up,
        role: Role::Core,
        address: None,
        incarnation: Incarnation(1),
        since: SystemTime::UNIX_EPOCH,
        link: LinkState::Connected,
        rtt_us: None,
        version: String::new(),
        is_self,
        last_change: None,
        tags: Tags::default(),
        draining: None,
    }
}

fn snapshot(this: &str, names: &[&str]) -> Snapshot {
    let mut members: Vec<_> = names.iter().map(|name| member(name, *name == this)).collect();
    members.sort_by(|a, b| a.node.cmp(&b.node));
    Snapshot {
        name: "emqxcl".to_owned(),
        description: String::new(),
        id: None,
        self_node: NodeName::parse(this).unwrap(),
        strategy: "static",
        proto_dist: "inet_tcp",
        state: ClusterState::Joined,
        members,
        view_hash: 0,
        disagreeing: Vec::new(),
        majority: true,
        discovery: DiscoveryView::default(),
        conflict: None,
        refusals: Vec::new(),
    }
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

/// Two brokers that are one cluster.
async fn pair(a: &mut Broker, b: &mut Broker) {
    let list = format!("['{}', '{}']", a.name, b.name);
    a.set("running", &list).await;
    b.set("running", &list).await;
}

#[tokio::test]
async fn the_brokers_view_is_shown_and_compared() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b, x) = (site.name(2), site.name(3), "emqx@127.0.0.99");
    let mut broker = site.broker(2).await;
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
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let a = site.name(2);
    let mut broker = site.broker(2).await;
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

#[tokio::test]
async fn a_wrong_cookie_is_a_notice() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let a = site.name(2);
    let _broker = site.broker(2).await;
    let agent = Agent::with(&a, &[&a], true, "another", None);
    let text = until("a notice", || agent.notice("broker_link")).await;
    assert!(text.contains("cookie"), "{text}");
    agent.drives(DriveState::Waiting, "cookie").await;
}

#[tokio::test]
async fn a_broker_is_asked_over_tls() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
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

#[tokio::test]
async fn single_brokers_become_one_cluster_one_by_one() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let names: Vec<String> = (2..=4).map(|host| site.name(host)).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut brokers = Vec::new();
    for host in 2..=4 {
        brokers.push(site.broker(host).await);
    }
    let agents: Vec<_> = all.iter().map(|name| Agent::start(name, &all, true)).collect();
    for agent in &agents {
        assert!(agent.sees(&all).await.drive.enabled);
        agent.drives(DriveState::Joined, "").await;
        until("agreement", || agent.report().cluster.filter(|cluster| cluster.agrees)).await;
    }
    site.assert_one_at_a_time();
    assert_eq!(site.begun(), names[1..], "each once, in order, and never the first");
    // One that was killed and comes back without its data waits: it is listed as stopped.
    brokers[1].kill().await;
    for at in [0, 2] {
        brokers[at].set("running", &format!("['{}','{}']", names[0], names[2])).await;
        brokers[at].set("stopped", &format!("['{}']", names[1])).await;
    }
    brokers[1] = site.broker(3).await;
    agents[1].drives(DriveState::Blocked, "emqx ctl cluster force-leave").await;
    assert!(until("a notice", || agents[1].notice("broker_drive")).await.contains("stopped"));
    for at in [0, 2] {
        brokers[at].set("stopped", "[]").await;
    }
    agents[1].sees(&all).await;
    agents[1].drives(DriveState::Joined, "").await;
    until("no notice", || agents[1].notice("broker_drive").is_none().then_some(())).await;
    site.assert_one_at_a_time();
}

#[tokio::test]
async fn a_new_broker_waits_while_another_member_is_stopped() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b, c) = (site.name(2), site.name(3), site.name(4));
    let mut first = site.broker(2).await;
    first.set("stopped", &format!("['{b}']")).await;
    let _third = site.broker(4).await;
    let agent = Agent::start(&c, &[&a, &b, &c], true);
    agent.change(|view| view.members[1].status = MemberStatus::Down);
    agent.drives(DriveState::Blocked, &format!("{b} is stopped")).await;
    assert!(site.begun().is_empty());
    // It is back.
    first.set("stopped", "[]").await;
    first.set("running", &format!("['{a}', '{b}']")).await;
    agent.sees(&[&a, &b, &c]).await;
    // A stopped broker that is no member any more holds nobody up.
    assert_eq!(site.begun(), [c.as_str()]);
}

#[tokio::test]
async fn every_refusal_is_said_and_tried_again() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b) = (site.name(2), site.name(3));
    let _seed = site.broker(2).await;
    let mut broker = site.broker(3).await;
    let agent = Agent::start(&b, &[&a, &b], false);
    agent.sees(&[&b]).await;
    let licence = "{result, {error, <<\"cannot join: single node license\">>}}";
    let booting = "{result, {error, \"not fully booted yet, please retry\"}}";
    let down = format!("{{result, {{error, {{node_down, '{a}'}}}}}}");
    let cases = [
        ("{result, ignore}", DriveState::Waiting, "for itself"),
        ("{result, {error, singleton}}", DriveState::Blocked, "singleton"),
        (licence, DriveState::Blocked, "licence"),
        (booting, DriveState::Waiting, "not booted"),
        (&down, DriveState::Waiting, "does not answer the broker"),
        ("{result, {error, {already_in_cluster, x}}}", DriveState::Waiting, "already"),
        ("{result, {error, {failed_to_connect_node, x}}}", DriveState::Waiting, "connect"),
        ("{result, {error, {cannot_join_to_replicant, x}}}", DriveState::Waiting, "replicant"),
        ("{result, {error, #{reason => mria_down}}}", DriveState::Waiting, "mria_down"),
        ("{result, {badrpc, nodedown}}", DriveState::Waiting, "nodedown"),
        ("{crash, {shutdown, disk}}", DriveState::Waiting, "{shutdown,disk}"),
        ("undef", DriveState::Waiting, "mria_nosuch"),
    ];
    broker.set("join", cases[0].0).await;
    drop(agent);
    let agent = Agent::start(&b, &[&a, &b], true);
    for (how, state, words) in cases {
        broker.set("join", how).await;
        agent.drives(state, words).await;
    }
    // None of them was taken for a function that is missing.
    assert!(site.joins().iter().all(|(_, what)| !what.contains(",ekka,")), "{:?}", site.joins());
    broker.set("join", "ok").await;
    agent.sees(&[&a, &b]).await;
    agent.drives(DriveState::Joined, "").await;
    site.assert_one_at_a_time();
}

#[tokio::test]
async fn a_broker_without_the_management_module_joins_by_ekka() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b) = (site.name(2), site.name(3));
    let _seed = site.broker(2).await;
    let _broker = site.start(3, &["a"], &[]).await;
    let agent = Agent::start(&b, &[&a, &b], true);
    agent.sees(&[&a, &b]).await;
    let joins = site.joins();
    assert_eq!(joins.len(), 2, "{joins:?}");
    assert_eq!(joins[0], (b, format!("{{start,ekka,'{a}'}}.")));
}

#[tokio::test]
async fn a_join_without_an_answer_is_not_repeated() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b) = (site.name(2), site.name(3));
    let _seed = site.broker(2).await;
    let mut broker = site.broker(3).await;
    broker.set("join", "hang").await;
    let agent = Agent::start(&b, &[&a, &b], true);
    agent.drives(DriveState::Joining, "").await;
    agent.drives(DriveState::Blocked, "restart the broker").await;
    // Not even when it seems to be well again.
    broker.set("restarting", "false").await;
    broker.set("join", "ok").await;
    tokio::time::sleep(times().retry_most * 2).await;
    assert_eq!(site.begun().len(), 1);
    broker.kill().await;
    let _broker = site.broker(3).await;
    agent.sees(&[&a, &b]).await;
    assert_eq!(site.begun().len(), 2);
}

#[tokio::test]
async fn a_broker_that_ends_in_mid_join_joins_after_its_restart() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b) = (site.name(2), site.name(3));
    let _seed = site.broker(2).await;
    let mut broker = site.broker(3).await;
    broker.set("join", "halt").await;
    let agent = Agent::start(&b, &[&a, &b], true);
    broker.ended().await;
    let _broker = site.broker(3).await;
    agent.sees(&[&a, &b]).await;
    agent.drives(DriveState::Joined, "").await;
}

#[tokio::test]
async fn a_link_that_is_cut_in_mid_join_is_no_second_join() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b) = (site.name(2), site.name(3));
    let _seed = site.broker(2).await;
    let mut broker = site.broker(3).await;
    broker.set("join_ms", "400").await;
    broker.set("join", &format!("{{cut, 'muster-{b}'}}")).await;
    let agent = Agent::start(&b, &[&a, &b], true);
    agent.sees(&[&a, &b]).await;
    agent.drives(DriveState::Joined, "").await;
    assert_eq!(site.begun(), [b.as_str()]);
}

#[tokio::test]
async fn an_agent_that_ends_in_mid_join_leaves_no_lock_behind() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b, c) = (site.name(2), site.name(3), site.name(4));
    let _seed = site.broker(2).await;
    let (mut second, _third) = (site.broker(3).await, site.broker(4).await);
    second.set("join_ms", "600").await;
    let agent = Agent::start(&b, &[&a, &b, &c], true);
    until("a join", || (site.begun() == [b.as_str()]).then_some(())).await;
    drop(agent);
    // The join completes, and whoever comes next waits for that and is not kept out.
    let other = Agent::start(&c, &[&a, &b, &c], true);
    let again = Agent::start(&b, &[&a, &b, &c], true);
    other.sees(&[&a, &b, &c]).await;
    again.sees(&[&a, &b, &c]).await;
    site.assert_one_at_a_time();
    assert_eq!(site.begun(), [b.as_str(), c.as_str()]);
}

#[tokio::test]
async fn two_agents_that_both_think_it_is_their_turn_take_turns() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let names: Vec<String> = (2..=5).map(|host| site.name(host)).collect();
    let mut brokers = Vec::new();
    for host in 2..=5 {
        let mut broker = site.broker(host).await;
        broker.set("join_ms", "300").await;
        brokers.push(broker);
    }
    // Each knows of the seed and of itself: nobody is before it.
    let agents: Vec<_> =
        names[1..].iter().map(|name| Agent::start(name, &[&names[0], name], true)).collect();
    for agent in &agents {
        agent.drives(DriveState::Joined, "").await;
    }
    site.assert_one_at_a_time();
    assert_eq!(site.begun().len(), 3);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    agents[0].sees(&all).await;
}

#[tokio::test]
async fn a_broker_that_joins_by_itself_is_left_to_it() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b) = (site.name(2), site.name(3));
    let _seed = site.broker(2).await;
    let mut broker = site.broker(3).await;
    broker.set("env", "{ok, {static, [{seeds, []}]}}").await;
    let agent = Agent::start(&b, &[&a, &b], true);
    agent.drives(DriveState::Blocked, "is static").await;
    until("a notice", || agent.notice("broker_drive")).await;
    assert!(site.begun().is_empty());
}

#[tokio::test]
async fn two_clusters_of_brokers_are_left_to_people() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b) = (site.name(2), site.name(3));
    let mut first = site.broker(2).await;
    first.set("running", &format!("['{a}', 'emqx@127.0.0.98']")).await;
    let mut second = site.broker(3).await;
    second.set("running", &format!("['{b}', 'emqx@127.0.0.99']")).await;
    let agents = [&a, &b].map(|name| Agent::start(name, &[&a, &b], true));
    for agent in &agents {
        agent.drives(DriveState::Blocked, "two clusters").await;
    }
    // A cut between brokers that heals is none.
    pair(&mut first, &mut second).await;
    for agent in &agents {
        agent.drives(DriveState::Joined, "").await;
        until("agreement", || agent.notices.all().is_empty().then_some(())).await;
    }
    assert!(site.begun().is_empty());
}

#[tokio::test]
async fn a_turn_that_nobody_takes_is_passed_over() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let site = Site::new().await;
    let (a, b, c) = (site.name(2), site.name(3), site.name(4));
    let brokers = [site.broker(2).await, site.broker(3).await, site.broker(4).await];
    // Only the last of the three drives.
    let agent = Agent::start(&c, &[&a, &b, &c], true);
    agent.drives(DriveState::Waiting, "first").await;
    agent.sees(&[&a, &c]).await;
    assert_eq!(site.begun(), [c.as_str()]);
    drop(brokers);
}
