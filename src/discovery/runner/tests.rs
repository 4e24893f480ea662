//! The runner against strategies that misbehave in every way, on a paused clock.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::log::listed;
use super::*;
use crate::discovery::BoxFuture;

/// What a scripted strategy does in one round.
enum Step {
    Nodes(&'static [&'static str]),
    Valid(&'static [&'static str], u64),
    Fail(DiscoveryError),
    Panic,
    Hang,
    Many(usize),
}

/// Everything that happened to the strategies of one runner.
#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    rounds: Vec<Instant>,
    made: usize,
    withdrawn: usize,
    withdraw_hangs: bool,
    changes: bool,
}

struct Scripted(Arc<Mutex<Script>>);

impl Strategy for Scripted {
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>> {
        Box::pin(async {
            let step = {
                let mut script = self.0.lock().unwrap();
                script.rounds.push(Instant::now());
                script.steps.pop_front()
            };
            match step.unwrap_or(Step::Nodes(&["a@10.0.0.1"])) {
                Step::Nodes(nodes) => Ok(Answer { nodes: names(nodes), ..Answer::default() }),
                Step::Valid(nodes, seconds) => Ok(Answer {
                    nodes: names(nodes),
                    valid_for: Some(Duration::from_secs(seconds)),
                    ..Answer::default()
                }),
                Step::Fail(error) => Err(error),
                Step::Panic => panic!("boom"),
                Step::Hang => std::future::pending().await,
                Step::Many(count) => {
                    let nodes = (0..count).map(|i| NodeName::parse(&format!("n{i}@h.x")).unwrap());
                    Ok(Answer { nodes: nodes.collect(), ..Answer::default() })
                }
            }
        })
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        if self.0.lock().unwrap().changes {
            return Box::pin(std::future::ready(()));
        }
        Box::pin(std::future::pending())
    }

    fn withdraw(&mut self) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(async {
            let hangs = {
                let mut script = self.0.lock().unwrap();
                script.withdrawn += 1;
                script.withdraw_hangs
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }
}

fn names(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| NodeName::parse(name).unwrap()).collect()
}

struct Bench {
    script: Arc<Mutex<Script>>,
    handle: DiscoveryHandle,
    events: mpsc::Receiver<DiscoveryEvent>,
    metrics: Arc<Metrics>,
}

impl Bench {
    fn start(steps: Vec<Step>, core_nodes: &[&str], enabled: bool) -> Self {
        let script = Arc::new(Mutex::new(Script { steps: steps.into(), ..Script::default() }));
        let metrics = Arc::new(Metrics::default());
        let settings = Settings {
            strategy: "scripted",
            interval: Duration::from_secs(5),
            core_nodes: names(core_nodes),
            automatic: true,
            config: None,
            seeds: None,
        };
        let for_factory = Arc::clone(&script);
        let factory = Box::new(move || {
            for_factory.lock().unwrap().made += 1;
            Box::new(Scripted(Arc::clone(&for_factory))) as Box<dyn Strategy>
        });
        let (handle, events) =
            spawn(Box::new(move || settings.clone()), factory, Arc::clone(&metrics), enabled);
        Self { script, handle, events, metrics }
    }

    async fn next(&mut self) -> DiscoveryEvent {
        timeout(Duration::from_secs(120), self.events.recv()).await.unwrap().unwrap()
    }

    async fn answer(&mut self) -> BTreeSet<NodeName> {
        match self.next().await {
            DiscoveryEvent::Answer { nodes, .. } => nodes,
            failed => panic!("{failed:?}"),
        }
    }

    async fn error(&mut self) -> DiscoveryError {
        match self.next().await {
            DiscoveryEvent::Failed { error, .. } => error,
            answer => panic!("{answer:?}"),
        }
    }

    fn gaps(&self) -> Vec<Duration> {
        let script = self.script.lock().unwrap();
        script.rounds.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn count(&self, outcome: &'static str) -> u64 {
        self.metrics.discovery_rounds.get_or_create(&Outcome { outcome: Word(outcome) }).get()
    }
}

fn down() -> DiscoveryError {
    DiscoveryError::Unreachable("connection refused".into())
}

#[tokio::test(start_paused = true)]
async fn first_round_at_once_then_every_interval_with_jitter() {
    let begin = Instant::now();
    let mut bench = Bench::start(vec![], &[], true);
    for _ in 0..20 {
        assert_eq!(bench.answer().await, names(&["a@10.0.0.1"]));
    }
    assert!(bench.script.lock().unwrap().rounds[0] - begin < Duration::from_millis(5));
    let gaps = bench.gaps();
    let bounds = Duration::from_secs(4)..=Duration::from_millis(6_002);
    assert!(gaps.iter().all(|gap| bounds.contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| gap.abs_diff(gaps[0]) > Duration::from_millis(20)), "{gaps:?}");
    assert_eq!(bench.count("ok"), 20);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_not_asked_again_before_its_validity_ends() {
    let steps = vec![
        Step::Valid(&[], 30),
        Step::Valid(&[], 100_000),
        Step::Valid(&[], 1),
        Step::Nodes(&[]),
    ];
    let mut bench = Bench::start(steps, &[], true);
    for _ in 0..4 {
        assert!(bench.answer().await.is_empty());
    }
    let seconds: Vec<_> = bench.gaps().iter().map(|gap| gap.as_secs()).collect();
    assert_eq!(seconds[..2], [30, 60]);
    assert!((4..=6).contains(&seconds[2]), "{seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_with_growing_waits_and_never_look_like_answers() {
    let steps = (0..8).map(|_| Step::Fail(down())).collect();
    let mut bench = Bench::start(steps, &[], true);
    for _ in 0..8 {
        assert_eq!(bench.error().await, down());
    }
    bench.answer().await;
    let gaps: Vec<_> = bench.gaps().iter().map(|gap| gap.as_secs_f64()).collect();
    for (gap, expected) in gaps.iter().zip([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]) {
        assert!((expected * 0.79..expected * 1.21 + 0.002).contains(gap), "{gaps:?}");
    }
    assert_eq!((bench.count("unreachable"), bench.count("ok")), (8, 1));
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_an_error_and_the_strategy_is_made_anew() {
    let mut bench = Bench::start(vec![Step::Panic, Step::Panic], &[], true);
    for _ in 0..2 {
        let DiscoveryError::Crashed(text) = bench.error().await else { panic!("another kind") };
        assert!(text.contains("boom"), "{text}");
    }
    assert_eq!(bench.answer().await, names(&["a@10.0.0.1"]));
    assert_eq!(bench.script.lock().unwrap().made, 3);
    assert_eq!(bench.count("crashed"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_round_that_hangs_ends_at_its_deadline() {
    let mut bench = Bench::start(vec![Step::Hang], &[], true);
    let begin = Instant::now();
    assert!(matches!(bench.error().await, DiscoveryError::Unreachable(_)));
    assert_eq!((Instant::now() - begin).as_secs(), 10);
    bench.answer().await;
    assert_eq!(bench.script.lock().unwrap().made, 1);
}

#[tokio::test(start_paused = true)]
async fn too_many_nodes_are_a_bad_answer() {
    let mut bench = Bench::start(vec![Step::Many(MAX_NODES + 1), Step::Many(MAX_NODES)], &[], true);
    assert!(matches!(bench.error().await, DiscoveryError::BadAnswer(_)));
    assert_eq!(bench.answer().await.len(), MAX_NODES);
}

#[tokio::test(start_paused = true)]
async fn core_nodes_are_added_to_answers_and_to_failures() {
    let core = ["c@10.0.0.9"];
    let mut bench = Bench::start(vec![Step::Fail(down()), Step::Nodes(&[])], &core, true);
    assert_eq!(bench.next().await, DiscoveryEvent::Failed { error: down(), nodes: names(&core) });
    assert_eq!(bench.answer().await, names(&core));
    assert_eq!(bench.answer().await, names(&["a@10.0.0.1", "c@10.0.0.9"]));
}

#[tokio::test(start_paused = true)]
async fn changes_are_asked_about_at_once_but_not_in_a_spin() {
    let mut bench = Bench::start(vec![], &[], true);
    bench.script.lock().unwrap().changes = true;
    for _ in 0..10 {
        bench.answer().await;
    }
    let gaps = bench.gaps();
    let bounds = MIN_GAP..MIN_GAP + Duration::from_millis(5);
    assert!(gaps.iter().all(|gap| bounds.contains(gap)), "{gaps:?}");
    bench.script.lock().unwrap().steps.extend((0..3).map(|_| Step::Fail(down())));
    while !matches!(bench.next().await, DiscoveryEvent::Failed { .. }) {}
    bench.error().await;
    assert!(*bench.gaps().last().unwrap() >= FIRST_BACKOFF.mul_f64(0.79));
}

#[tokio::test(start_paused = true)]
async fn ask_now_does_not_wait_for_the_interval() {
    let mut bench = Bench::start(vec![Step::Valid(&[], 60)], &[], true);
    bench.answer().await;
    bench.handle.ask_now();
    bench.handle.ask_now();
    bench.answer().await;
    bench.answer().await;
    let gaps = bench.gaps();
    assert!(gaps[0] < Duration::from_millis(60), "{gaps:?}");
    assert!(gaps[1] >= Duration::from_secs(4), "two wishes at once are one round: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn disabled_at_start_never_makes_the_strategy() {
    let mut bench = Bench::start(vec![], &[], false);
    bench.handle.ask_now();
    assert!(timeout(Duration::from_secs(60), bench.events.recv()).await.is_err());
    assert_eq!(bench.script.lock().unwrap().made, 0);
    bench.handle.set_enabled(true);
    bench.answer().await;
}

#[tokio::test(start_paused = true)]
async fn disabling_interrupts_a_round_and_withdraws_once() {
    let mut bench = Bench::start(vec![Step::Nodes(&[]), Step::Hang], &[], true);
    bench.answer().await;
    bench.handle.ask_now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    bench.handle.set_enabled(false);
    bench.handle.set_enabled(false);
    assert!(timeout(Duration::from_secs(60), bench.events.recv()).await.is_err());
    assert_eq!(bench.script.lock().unwrap().withdrawn, 1);
    bench.handle.set_enabled(true);
    bench.answer().await;
    bench.handle.withdraw_and_stop().await;
    assert_eq!(bench.script.lock().unwrap().withdrawn, 2);
    assert_eq!(bench.script.lock().unwrap().made, 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_is_bounded_when_the_backend_hangs() {
    let mut bench = Bench::start(vec![], &[], true);
    bench.answer().await;
    bench.script.lock().unwrap().withdraw_hangs = true;
    let begin = Instant::now();
    bench.handle.withdraw_and_stop().await;
    assert!(Instant::now() - begin <= STOP_DEADLINE);
    assert!(bench.events.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn stopping_works_while_nobody_takes_the_events() {
    let bench = Bench::start(vec![], &[], true);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let begin = Instant::now();
    let asked = bench.count("ok");
    assert_eq!(asked, u64::try_from(EVENT_QUEUE).unwrap() + 1);
    bench.handle.withdraw_and_stop().await;
    assert!(Instant::now() - begin < Duration::from_millis(100));
    assert_eq!(bench.script.lock().unwrap().withdrawn, 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_ends_the_runner() {
    let mut bench = Bench::start(vec![], &[], true);
    bench.answer().await;
    drop(bench.handle);
    assert!(timeout(Duration::from_secs(1), bench.events.recv()).await.unwrap().is_none());
    assert_eq!(bench.script.lock().unwrap().withdrawn, 0);
}

#[test]
fn foreign_texts_are_bounded_and_cannot_forge_log_lines() {
    assert_eq!(clean("a\nb\x1b[31m"), "a b [31m");
    assert_eq!(clean(&"x".repeat(TEXT_CAP + 5)).chars().count(), TEXT_CAP + 1);
    let many: Vec<_> = (0..12).collect();
    assert_eq!(listed(many.iter(), many.len()), "0, 1, 2, 3, 4, 5, 6, 7 and 4 more");
}
