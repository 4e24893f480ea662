//! N processes of one system, and what each of them says about the others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::ground::{Ground, Reporter, Sighting, System};
use crate::process::Process;
use crate::surroundings::Surroundings;
use crate::{erlang, muster as agent, serf};

/// Started processes with their observers. All are killed when it is dropped.
pub(crate) struct Group {
    processes: Vec<Option<Process>>,
    /// Time on a processor of those that were killed.
    spent: Duration,
    /// What each has in its view besides itself.
    views: Vec<BTreeSet<usize>>,
    sightings: mpsc::UnboundedReceiver<Sighting>,
    /// Where observers report to, to be handed to further ones.
    sender: mpsc::UnboundedSender<Sighting>,
    started: Instant,
    observers: JoinSet<()>,
    surroundings: Option<Surroundings>,
    ground: Ground,
}

impl Group {
    /// Starts N processes as fast as they can be started.
    pub(crate) async fn start(system: System, n: usize) -> Self {
        let ground = Ground::new(n);
        let authority = (system == System::MusterTls).then(agent::Authority::new);
        let surroundings = match system {
            System::MusterFollow => Some(Surroundings::start(&ground).await),
            _ => None,
        };
        let commands: Vec<_> = (1..=n)
            .map(|k| match system {
                System::Muster => agent::command(&ground, k, ""),
                System::MusterTls => {
                    let lines = authority.as_ref().map(|all| all.issue(&ground, k));
                    agent::command(&ground, k, &lines.unwrap_or_default())
                }
                System::MusterFollow => {
                    let lines = surroundings.as_ref().map(|all| all.lines(&ground, k));
                    agent::command(&ground, k, &lines.unwrap_or_default())
                }
                System::Serf => serf::command(&ground, k),
                System::Erlang => erlang::command(&ground, k),
            })
            .collect();
        let (sender, sightings) = mpsc::unbounded_channel();
        let started = Instant::now();
        let mut processes: Vec<_> = commands
            .into_iter()
            .map(|command| Some(Process::spawn(command).expect("cannot start a process")))
            .collect();
        let mut observers = JoinSet::new();
        for (observer, process) in processes.iter_mut().enumerate() {
            let reporter = Reporter::new(observer, sender.clone());
            let api = ground.api(observer + 1);
            match system {
                System::Muster | System::MusterTls | System::MusterFollow => {
                    observers.spawn(agent::observe(api, n, Some(0), reporter))
                }
                System::Serf => {
                    let output = process.as_mut().and_then(Process::stdout).unwrap();
                    observers.spawn(serf::observe(output, reporter))
                }
                System::Erlang => {
                    let output = process.as_mut().and_then(Process::stdout).unwrap();
                    observers.spawn(erlang::observe(output, reporter))
                }
            };
        }
        let views = vec![BTreeSet::new(); n];
        let spent = Duration::ZERO;
        Self {
            processes,
            spent,
            views,
            sightings,
            sender,
            started,
            observers,
            surroundings,
            ground,
        }
    }

    /// A group that has formed; `None` if it has not within the limit.
    pub(crate) async fn formed_group(system: System, n: usize, limit: Duration) -> Option<Self> {
        let mut group = Self::start(system, n).await;
        group.formed(limit).await?;
        Some(group)
    }

    /// From the first process's start until every view was whole.
    pub(crate) async fn formed(&mut self, limit: Duration) -> Option<Duration> {
        let since = self.started;
        self.until(since, limit, Self::is_whole).await
    }

    /// From SIGKILL until no survivor has the victim in its view.
    pub(crate) async fn kill_until_all_know(
        &mut self,
        victim: usize,
        limit: Duration,
    ) -> Option<Duration> {
        let process = self.processes[victim].take()?;
        self.spent += process.processor_time().unwrap_or_default();
        let since = Instant::now();
        process.signal(Signal::KILL);
        let time = self.until(since, limit, |group| group.nobody_sees(victim)).await;
        process.end().await;
        time
    }

    /// From the first SIGKILL until no survivor has any of the victims in its view.
    pub(crate) async fn kill_all_until_all_know(
        &mut self,
        victims: Range<usize>,
        limit: Duration,
    ) -> Option<Duration> {
        let killed: Vec<Process> =
            victims.clone().filter_map(|victim| self.processes[victim].take()).collect();
        let since = Instant::now();
        killed.iter().for_each(|process| process.signal(Signal::KILL));
        let nobody_is_seen = |group: &Self| victims.clone().all(|victim| group.nobody_sees(victim));
        let time = self.until(since, limit, nobody_is_seen).await;
        for process in killed {
            process.end().await;
        }
        time
    }

    /// From SIGSTOP until no other has the victim in its view.
    pub(crate) async fn freeze_until_all_know(
        &mut self,
        victim: usize,
        limit: Duration,
    ) -> Option<Duration> {
        let since = Instant::now();
        self.processes[victim].as_ref()?.signal(Signal::STOP);
        self.until(since, limit, |group| group.nobody_sees(victim)).await
    }

    /// From SIGCONT until every view is whole, the victim's too.
    pub(crate) async fn thaw_until_whole(
        &mut self,
        victim: usize,
        limit: Duration,
    ) -> Option<Duration> {
        let since = Instant::now();
        self.processes[victim].as_ref()?.signal(Signal::CONT);
        self.until(since, limit, Self::is_whole).await
    }

    /// From one process's start until its interface for clients answers.
    pub(crate) async fn start_time(system: System, limit: Duration) -> Option<Duration> {
        let ground = Ground::new(1);
        let command = match system {
            System::Muster | System::MusterTls | System::MusterFollow => {
                agent::command(&ground, 1, "")
            }
            System::Serf => serf::command(&ground, 1),
            System::Erlang => erlang::command(&ground, 1),
        };
        let started = Instant::now();
        let mut process = Process::spawn(command).expect("cannot start a process");
        let answered = async {
            match system {
                System::Muster | System::MusterTls | System::MusterFollow => {
                    agent::answers(ground.api(1)).await
                }
                System::Serf => serf::answers(ground.api(1)).await,
                System::Erlang => erlang::answers(process.stdout().unwrap()).await,
            }
        };
        let time = timeout_at(started + limit, answered).await.ok().map(|()| started.elapsed());
        process.end().await;
        time
    }

    /// Starts an agent again that was killed; from its start until every other has it in its
    /// view.
    pub(crate) async fn restart_until_all_know(
        &mut self,
        index: usize,
        limit: Duration,
    ) -> Option<Duration> {
        let since = Instant::now();
        let command = agent::again(&self.ground, index + 1);
        self.processes[index] = Some(Process::spawn(command).expect("cannot start a process"));
        let time = self.until(since, limit, |group| group.everybody_sees(index)).await?;
        // What it knew from its disk is no event of its new life.
        let api = self.api(index);
        agent::answers(api).await;
        let reporter = Reporter::new(index, self.sender.clone());
        self.observers.spawn(agent::observe(api, 1, None, reporter));
        let running = async {
            while agent::running(api).await != Some(self.ground.n) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout_at(since + limit, running).await.ok()?;
        self.views[index] = (0..self.ground.n).filter(|&other| other != index).collect();
        Some(time)
    }

    /// What happened around the agents, for people.
    pub(crate) async fn surroundings(&self) -> Option<String> {
        let apis: Vec<_> = (0..self.ground.n).map(|index| self.api(index)).collect();
        Some(self.surroundings.as_ref()?.told(&apis).await)
    }

    /// Lets time pass.
    pub(crate) async fn settle(&mut self, time: Duration) {
        let _ = self.until(Instant::now(), time, |_| false).await;
    }

    /// Time on a processor of all processes together, those that were killed alone included.
    pub(crate) fn processor_time(&self) -> Duration {
        let living = self.processes.iter().flatten().filter_map(Process::processor_time);
        self.spent + living.sum::<Duration>()
    }

    /// Resident memory of each process.
    pub(crate) fn resident_kib(&self) -> Vec<u64> {
        self.processes.iter().flatten().filter_map(Process::resident_kib).collect()
    }

    /// The API address of the process at this index.
    pub(crate) fn api(&self, index: usize) -> SocketAddr {
        self.ground.api(index + 1)
    }

    fn is_whole(&self) -> bool {
        self.views.iter().all(|view| view.len() == self.ground.n - 1)
    }

    fn everybody_sees(&self, index: usize) -> bool {
        let others = self.views.iter().enumerate().filter(|&(observer, _)| observer != index);
        others.into_iter().all(|(_, view)| view.contains(&index))
    }

    fn nobody_sees(&self, victim: usize) -> bool {
        let living = self.processes.iter().zip(&self.views).enumerate();
        living
            .filter(|&(index, (process, _))| index != victim && process.is_some())
            .all(|(_, (_, view))| !view.contains(&victim))
    }

    /// Takes sightings until a condition holds; the time from `since` to the
    /// sighting that made it hold.
    async fn until(
        &mut self,
        since: Instant,
        limit: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        if holds(self) {
            return Some(Duration::ZERO);
        }
        loop {
            let sighting = timeout_at(since + limit, self.sightings.recv()).await.ok()??;
            if sighting.observer == sighting.subject {
                continue;
            }
            let view = &mut self.views[sighting.observer];
            if sighting.up {
                view.insert(sighting.subject);
            } else {
                view.remove(&sighting.subject);
            }
            if holds(self) {
                return Some(sighting.at.saturating_duration_since(since));
            }
        }
    }
}
