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
use crate::{erlang, muster as agent, serf};

/// Started processes with their observers. All are killed when it is dropped.
pub(crate) struct Group {
    processes: Vec<Option<Process>>,
    /// What each has in its view besides itself.
    views: Vec<BTreeSet<usize>>,
    sightings: mpsc::UnboundedReceiver<Sighting>,
    started: Instant,
    _observers: JoinSet<()>,
    ground: Ground,
}

impl Group {
    /// Starts N processes as fast as they can be started.
    pub(crate) async fn start(system: System, n: usize) -> Self {
        let ground = Ground::new(n);
        let authority = (system == System::MusterTls).then(agent::Authority::new);
        let commands: Vec<_> = (1..=n)
            .map(|k| match system {
                System::Muster => agent::command(&ground, k, None),
                System::MusterTls => agent::command(&ground, k, authority.as_ref()),
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
                System::Muster | System::MusterTls => {
                    observers.spawn(agent::observe(api, n, reporter))
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
        Self { processes, views, sightings, started, _observers: observers, ground }
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
            System::Muster | System::MusterTls => agent::command(&ground, 1, None),
            System::Serf => serf::command(&ground, 1),
            System::Erlang => erlang::command(&ground, 1),
        };
        let started = Instant::now();
        let mut process = Process::spawn(command).expect("cannot start a process");
        let answered = async {
            match system {
                System::Muster | System::MusterTls => agent::answers(ground.api(1)).await,
                System::Serf => serf::answers(ground.api(1)).await,
                System::Erlang => erlang::answers(process.stdout().unwrap()).await,
            }
        };
        let time = timeout_at(started + limit, answered).await.ok().map(|()| started.elapsed());
        process.end().await;
        time
    }

    /// Lets time pass.
    pub(crate) async fn settle(&mut self, time: Duration) {
        let _ = self.until(Instant::now(), time, |_| false).await;
    }

    /// Time on a processor of all processes together.
    pub(crate) fn processor_time(&self) -> Duration {
        self.processes.iter().flatten().filter_map(Process::processor_time).sum()
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
