//! The driver against real Erlang nodes.

use muster::broker::DriveState;
use muster::view::MemberStatus;

use super::{Agent, times};
use crate::support::broker::{Broker, Site, until};

/// Two brokers that are one cluster.
async fn pair(a: &mut Broker, b: &mut Broker) {
    let list = format!("['{}', '{}']", a.name, b.name);
    a.set("running", &list).await;
    b.set("running", &list).await;
}

#[tokio::test]
async fn single_brokers_become_one_cluster_one_by_one() {
    let Some((site, names, mut brokers)) = Site::with().await else { return };
    let all: [&str; 3] = names.each_ref().map(String::as_str);
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
    let Some(site) = Site::new().await else { return };
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
    let Some((site, [a, b], [_seed, mut broker])) = Site::with().await else { return };
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
        let told = || agent.notice("broker_drive").filter(|text| text.contains(words));
        until("a notice", told).await;
    }
    // None of them was taken for a function that is missing.
    assert!(site.joins().iter().all(|(_, what)| !what.contains(",ekka,")), "{:?}", site.joins());
    broker.set("join", "ok").await;
    agent.sees(&[&a, &b]).await;
    agent.drives(DriveState::Joined, "").await;
    until("no notice", || agent.notice("broker_drive").is_none().then_some(())).await;
    site.assert_one_at_a_time();
}

#[tokio::test]
async fn a_broker_without_the_management_module_joins_by_ekka() {
    let Some(site) = Site::new().await else { return };
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
    let Some((site, [a, b], [_seed, mut broker])) = Site::with().await else { return };
    broker.set("join", "hang").await;
    let agent = Agent::start(&b, &[&a, &b], true);
    agent.drives(DriveState::Joining, "").await;
    agent.drives(DriveState::Blocked, "restart the broker").await;
    // Not even when it seems to be well again. Time itself is the subject: attempts that are
    // made are never further apart.
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
    let Some((site, [a, b], [_seed, mut broker])) = Site::with().await else { return };
    broker.set("join", "halt").await;
    let agent = Agent::start(&b, &[&a, &b], true);
    broker.ended().await;
    let _broker = site.broker(3).await;
    agent.sees(&[&a, &b]).await;
    agent.drives(DriveState::Joined, "").await;
}

#[tokio::test]
async fn a_link_that_is_cut_in_mid_join_is_no_second_join() {
    let Some((site, [a, b], [_seed, mut broker])) = Site::with().await else { return };
    broker.set("join_ms", "400").await;
    broker.set("join", &format!("{{cut, 'muster-{b}'}}")).await;
    let agent = Agent::start(&b, &[&a, &b], true);
    agent.sees(&[&a, &b]).await;
    agent.drives(DriveState::Joined, "").await;
    assert_eq!(site.begun(), [b.as_str()]);
}

#[tokio::test]
async fn an_agent_that_ends_in_mid_join_leaves_no_lock_behind() {
    let Some((site, [a, b, c], [_seed, mut second, _third])) = Site::with().await else { return };
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
    let Some((site, names, mut brokers)) = Site::with().await else { return };
    for broker in &mut brokers {
        broker.set("join_ms", "300").await;
    }
    // Each knows of the seed and of itself: nobody is before it.
    let agents: Vec<_> =
        names[1..].iter().map(|name| Agent::start(name, &[&names[0], name], true)).collect();
    for agent in &agents {
        agent.drives(DriveState::Joined, "").await;
    }
    site.assert_one_at_a_time();
    assert_eq!(site.begun().len(), 3);
    let all: [&str; 4] = names.each_ref().map(String::as_str);
    agents[0].sees(&all).await;
}

#[tokio::test]
async fn a_broker_that_joins_by_itself_is_left_to_it() {
    let Some((site, [a, b], [_seed, mut broker])) = Site::with().await else { return };
    broker.set("env", "{ok, {static, [{seeds, []}]}}").await;
    let agent = Agent::start(&b, &[&a, &b], true);
    agent.drives(DriveState::Blocked, "is static").await;
    until("a notice", || agent.notice("broker_drive")).await;
    assert!(site.begun().is_empty());
}

#[tokio::test]
async fn two_clusters_of_brokers_are_left_to_people() {
    let Some((site, [a, b], [mut first, mut second])) = Site::with().await else { return };
    first.set("running", &format!("['{a}', 'emqx@127.0.0.98']")).await;
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
    let Some((site, [a, b, c], _brokers)) = Site::with().await else { return };
    // Only the last of the three drives.
    let agent = Agent::start(&c, &[&a, &b, &c], true);
    agent.drives(DriveState::Waiting, "first").await;
    agent.sees(&[&a, &c]).await;
    assert_eq!(site.begun(), [c.as_str()]);
}
