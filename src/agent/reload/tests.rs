use std::sync::Mutex;

use super::*;
use crate::config;

const BASE: &str = "\
node { name = \"emqx@127.0.0.1\", cookie = \"a-cookie-of-the-tests-12345\" }
cluster { discovery_strategy = static, static.seeds = [\"emqx@127.0.0.1\"] }
";

fn load(text: &str) -> Result<Loaded, ConfigErrors> {
    config::from_text(text)
}

/// A reloader, the text that it reads, what it puts into use, and the log's level.
struct Bed {
    reloader: Reloader,
    text: Arc<Mutex<String>>,
    in_use: watch::Receiver<Arc<Config>>,
    level: Arc<Mutex<Option<Level>>>,
}

fn bed(start: &str) -> Bed {
    let loaded = load(start).unwrap();
    let text = Arc::new(Mutex::new(start.to_owned()));
    let level = Arc::new(Mutex::new(None));
    let (sender, in_use) = watch::channel(Arc::new(loaded.config));
    let (read, set) = (Arc::clone(&text), Arc::clone(&level));
    let reloader = Reloader::new(
        Arc::new(move || load(&read.lock().unwrap().clone())),
        Box::new(move |level| *set.lock().unwrap() = Some(level)),
        sender,
        &loaded.effective,
    );
    Bed { reloader, text, in_use, level }
}

impl Bed {
    /// Reloads with these lines behind those of the start.
    async fn with(
        &mut self,
        start: &str,
        more: &str,
    ) -> Result<(Vec<String>, Vec<String>), NotReloaded> {
        *self.text.lock().unwrap() = format!("{start}\n{more}\n");
        let Reloaded { changed, needs_restart } = self.reloader.reload().await?;
        Ok((changed, needs_restart))
    }
}

#[tokio::test]
async fn every_key_is_in_use_at_once_or_waits_for_a_restart() {
    for (line, path, at_once) in [
        ("agent.log.level = debug", "agent.log.level", true),
        ("agent.api.token = another", "agent.api.token", true),
        ("agent.ready.min_members = 2", "agent.ready.min_members", true),
        ("cluster.autoclean = 1h", "cluster.autoclean", true),
        ("cluster.autoheal = false", "cluster.autoheal", true),
        ("cluster.core_nodes = [\"a@b.c\"]", "cluster.core_nodes", true),
        ("cluster.static.seeds = [\"a@b.c\"]", "cluster.static.seeds", true),
        ("agent.ready.majority = true", "agent.ready.majority", true),
        ("agent.tags.zone = b", "agent.tags", true),
        ("agent.broker.kind = tcp", "agent.broker.kind", true),
        ("agent.hooks = [{ on = [ready], url = \"http://127.0.0.1:1/\" }]", "agent.hooks", true),
        ("agent.health.listen = \"127.0.0.1:1\"", "agent.health.listen", false),
        ("agent.leave_on_stop = true", "agent.leave_on_stop", false),
        ("agent.dns.listen = \"127.0.0.1:1\"", "agent.dns.listen", false),
        ("agent.log.format = json", "agent.log.format", false),
        ("agent.api.listen = \"127.0.0.1:1\"", "agent.api.listen", false),
        ("agent.mesh.base_port = 1000", "agent.mesh.base_port", false),
        ("agent.discovery.interval = 1s", "agent.discovery.interval", false),
        ("node.cookie = another-cookie-of-the-tests", "node.cookie", false),
        (
            "agent.mesh.accept_cookies = [another-cookie-of-the-tests]",
            "agent.mesh.accept_cookies",
            false,
        ),
        ("node.name = \"emqx@127.0.0.2\"", "node.name", false),
        ("node.role = replicant", "node.role", false),
        ("cluster.name = other", "cluster.name", false),
        ("cluster.description = other", "cluster.description", false),
    ] {
        let mut bed = bed(BASE);
        let (changed, needs_restart) = bed.with(BASE, line).await.unwrap();
        let (hit, missed) =
            if at_once { (changed, needs_restart) } else { (needs_restart, changed) };
        let named = hit.iter().any(|hit| hit.starts_with(path));
        assert!(named, "{line}: {hit:?}, not {missed:?}");
        assert_eq!(bed.in_use.has_changed().unwrap(), at_once, "{line}");
        if at_once {
            assert_eq!(missed, Vec::<String>::new(), "{line}: {hit:?}");
            // A second time there is no news.
            assert_eq!(bed.with(BASE, line).await.unwrap(), (vec![], vec![]), "{line}");
        } else {
            // It waits for as long as it differs from what was started.
            assert_eq!(bed.with(BASE, line).await.unwrap().1, hit, "{line}");
            assert_eq!(bed.with(BASE, "").await.unwrap(), (vec![], vec![]), "{line}");
        }
    }
}

#[tokio::test]
async fn what_is_in_use_is_the_new_value_beside_the_old_ones() {
    let mut bed = bed(BASE);
    let more = "cluster { static.seeds = [\"x@y.z\"], autoclean = infinity, name = other }\n\
                agent { log.level = warning, ready.min_members = 3, api.token = t0ken }";
    bed.with(BASE, more).await.unwrap();
    let config = Arc::clone(&bed.in_use.borrow());
    let StrategyConfig::Static { seeds } = &config.cluster.strategy else { panic!() };
    assert_eq!(seeds[0].to_string(), "x@y.z");
    assert_eq!(config.cluster.autoclean, None);
    assert_eq!(config.cluster.name, "emqxcl");
    assert_eq!(config.agent.ready.min_members, 3);
    assert_eq!(config.agent.api.token.as_ref().unwrap().expose(), "t0ken");
    assert_eq!(*bed.level.lock().unwrap(), Some(Level::WARN));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_every_mistake_is_named() {
    let mut bed = bed(BASE);
    let more = "agent.log.level = loud\nagent.ready.min_members = 2\ncluster.autoheel = true";
    let NotReloaded::Invalid(text) = bed.with(BASE, more).await.unwrap_err() else { panic!() };
    assert!(text.contains("agent.log.level") && text.contains("autoheel"), "{text}");
    assert!(!bed.in_use.has_changed().unwrap());
    assert_eq!(*bed.level.lock().unwrap(), None);
}

#[tokio::test]
async fn the_seeds_of_another_strategy_wait_with_it() {
    let mut bed = bed(BASE);
    let more = "cluster { discovery_strategy = manual, static.seeds = [\"x@y.z\"] }";
    let (changed, needs_restart) = bed.with(BASE, more).await.unwrap();
    assert_eq!(changed, Vec::<String>::new());
    assert!(needs_restart.contains(&"cluster.discovery_strategy".to_owned()), "{needs_restart:?}");
}

#[tokio::test]
async fn the_broker_s_address_stays_with_the_name_that_it_comes_from() {
    let start = format!("{BASE}agent.broker.kind = tcp\n");
    let mut bed = bed(&start);
    let more = "node.name = \"emqx@127.0.0.2\"\nagent.broker.probe.rise = 3";
    let (changed, needs_restart) = bed.with(&start, more).await.unwrap();
    assert_eq!(changed, ["agent.broker.probe.rise"]);
    assert!(needs_restart.contains(&BROKER_ADDRESS.to_owned()), "{needs_restart:?}");
    let broker = bed.in_use.borrow().agent.broker.clone();
    assert_eq!((&*broker.address, broker.probe.rise), ("127.0.0.1:1883", 3));
}

#[tokio::test]
async fn an_open_api_keeps_its_token() {
    let open = format!("{BASE}agent.api {{ listen = \"0.0.0.0:7370\", token = one }}\n");
    let mut bed = bed(&open);
    let two = bed.with(&open, "agent.api.token = two").await.unwrap();
    assert_eq!(two.0, ["agent.api.token"]);
    let closed = bed.with(BASE, "agent.api.listen = \"127.0.0.1:7370\"").await.unwrap_err();
    assert!(closed.to_string().contains("agent.api.token is no longer set"), "{closed}");
    assert_eq!(bed.in_use.borrow().agent.api.token.as_ref().unwrap().expose(), "two");
}

#[tokio::test]
async fn who_asks_is_answered_and_a_signal_waits_for_nobody() {
    let Bed { reloader, in_use, text, .. } = bed(BASE);
    let (reloads, requests) = crate::command::Reloads::channel();
    let task = tokio::spawn(reloader.run(requests));
    *text.lock().unwrap() = format!("{BASE}cluster.autoheal = false\n");
    for _ in 0..2 * crate::command::RELOAD_QUEUE {
        reloads.ask();
    }
    assert_eq!(reloads.reload().await, Ok(Reloaded::default()), "the signals came first");
    assert!(!in_use.borrow().cluster.autoheal);
    task.abort();
    let _aborted = task.await;
    assert_eq!(reloads.reload().await, Err(NotReloaded::Stopping));
}
