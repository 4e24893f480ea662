use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::api::tests::{config, snapshot};
use crate::attributes::{BrokerStatus, Tags};
use crate::command::Command;
use crate::config::{HookAction, HookEvent};

/// A world of one agent, and the other ends of it.
pub(super) struct Ends {
    pub(super) world: World,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) requests: mpsc::Receiver<Command>,
}

pub(super) fn ends(agent: Config) -> Ends {
    let (config, agent) = watch::channel(Arc::new(agent));
    let (snapshots, snapshot) = watch::channel(Arc::new(snapshot()));
    let (commands, requests) = Commands::channel();
    let world = World {
        tls: None,
        dns: None,
        config: agent,
        snapshots: snapshot,
        events: Arc::new(EventLog::starting_after(100)),
        commands,
        metrics: Arc::new(Metrics::default()),
        notices: Arc::new(Notices::default()),
        broker: watch::Sender::default(),
    };
    Ends { world, config, snapshots, requests }
}

fn checks(notices: &Notices) -> Vec<String> {
    notices.all().into_iter().map(|notice| notice.check.into_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn who_panics_starts_again_later_each_time() {
    let notices = Arc::new(Notices::default());
    let starts = AtomicU32::new(0);
    let begun = Instant::now();
    let mut at = Vec::new();
    supervise("agent.hooks x", &notices, || {
        let start = starts.fetch_add(1, Ordering::Relaxed);
        at.push(begun.elapsed().as_secs());
        async move { assert!(start >= 4, "the {start}th time") }
    })
    .await;
    assert_eq!(at, [0, 1, 3, 7, 15]);
    assert!(checks(&notices).is_empty(), "it is over with its owner");
}

#[tokio::test(start_paused = true)]
async fn who_is_well_for_long_is_well() {
    let notices = Arc::new(Notices::default());
    let starts = AtomicU32::new(0);
    let run = supervise("x", &notices, || {
        let start = starts.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(start > 0);
            std::future::pending::<()>().await;
        }
    });
    let mut run = std::pin::pin!(run);
    assert!(timeout(Duration::from_secs(30), run.as_mut()).await.is_err());
    assert_eq!(checks(&notices), ["crashed x"]);
    assert!(notices.all()[0].text.contains("start > 0"), "{:?}", notices.all());
    assert!(timeout(Duration::from_secs(40), run).await.is_err());
    assert!(checks(&notices).is_empty());
}

fn hook(program: &str) -> HookConfig {
    HookConfig {
        on: vec![HookEvent::Ready],
        action: HookAction::Command(vec![program.to_owned()]),
        timeout: Duration::from_secs(1),
    }
}

#[tokio::test]
async fn a_reload_ends_what_is_gone_and_leaves_the_rest() {
    let mut agent = config(None);
    agent.agent.hooks = vec![hook("a"), hook("b"), hook("a")];
    let Ends { world, config, .. } = ends(agent.clone());
    let mut house = House::default();
    let beginning = Beginning::now(&world);
    let mut ids = Vec::new();
    for hooks in
        [vec![hook("a"), hook("b"), hook("a")], vec![hook("b"), hook("a"), hook("c")], Vec::new()]
    {
        agent.agent.hooks = hooks.clone();
        config.send_replace(Arc::new(agent.clone()));
        // It goes on for ever, and has done all there is to do at its first wait.
        let kept = timeout(Duration::from_millis(200), house.keep(&world, beginning.clone())).await;
        assert!(kept.is_err());
        let mut names: Vec<_> = house.running.iter().map(|(part, _)| part.name()).collect();
        let mut wanted: Vec<_> = hooks.into_iter().map(|hook| Part::Hook(hook).name()).collect();
        names.sort();
        wanted.sort();
        assert_eq!(names, wanted);
        ids.push(house.running.iter().map(|(_, task)| task.id()).collect::<Vec<_>>());
    }
    assert_eq!(ids[0].iter().filter(|id| ids[1].contains(id)).count(), 2);
}

#[tokio::test]
async fn nothing_runs_where_nothing_is_configured() {
    let Ends { world, .. } = ends(config(None));
    let mut house = House::default();
    let beginning = Beginning::now(&world);
    let kept = timeout(Duration::from_millis(50), house.keep(&world, beginning)).await;
    assert!(kept.is_err() && house.runtime.is_none() && house.running.is_empty());
}

#[tokio::test]
async fn what_a_node_says_of_itself_follows_configuration_and_probe() {
    let Ends { world, config: sender, mut requests, .. } = ends(config(None));
    let mut agent = config(None);
    let told = world.broker.clone();
    let describing = tokio::spawn(async move { describe(&world).await });
    let mut next = async || {
        let Command { action, reply } = requests.recv().await.unwrap();
        reply.send(Ok(())).unwrap();
        let Action::Describe { tags, broker } = action else { panic!("{action:?}") };
        (tags.to_string(), broker)
    };
    let mut tags = Tags::default();
    tags.insert("zone", "a").unwrap();
    agent.agent.tags = tags;
    sender.send_replace(Arc::new(agent));
    assert_eq!(next().await, ("zone=a".to_owned(), None));
    let address = "127.0.0.1:1883".to_owned();
    told.send_modify(|report| {
        report.address = Some(address.clone());
        report.status = BrokerStatus::Up;
    });
    let broker = Broker { address, status: BrokerStatus::Up, detail: String::new() };
    assert_eq!(next().await, ("zone=a".to_owned(), Some(broker)));
    describing.abort();
}
