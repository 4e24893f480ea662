//! Plain SWIM: the crate `foca`, which has no Lifeguard, over datagrams that take as long as
//! the simulated links' messages.
//!
//! A probe may take as long as muster's, first directly and then through three others, and a
//! suspicion lasts as long as muster's longest, so whatever is said down too early is not for
//! want of patience. News are told as often, on probes and their answers alone. Beyond the
//! paper, members that hear that they are down come back under a new life; without that,
//! slow members would be out of it from the first mistake on.

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Config, Foca, Identity, Member, NoCustomBroadcast, OwnedNotification,
    PostcardCodec, Timer,
};
use muster::protocol::membership::Timing;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::cluster::{Change, Cluster, News, State, Traffic};
use crate::formed::{JITTER, LATENCY};
use crate::queue::Queue;

/// Who a member is. As long as an ordinary node name, so that a datagram holds no more news
/// than it would of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Id {
    index: u32,
    life: u16,
    name: [u8; 12],
}

impl Identity for Id {
    type Addr = u32;

    fn renew(&self) -> Option<Self> {
        Some(Self { life: self.life + 1, ..*self })
    }

    fn addr(&self) -> u32 {
        self.index
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

fn id(index: usize) -> Id {
    Id { index: index as u32, life: 0, name: [0; 12] }
}

#[derive(Clone, Debug)]
enum Input {
    Datagram(Vec<u8>),
    Timer(Timer<Id>),
}

enum Event {
    Tell(usize, Input),
    Drain(usize),
}

/// A process, and what waits for it.
struct Process {
    foca: Foca<Id, PostcardCodec, SmallRng, NoCustomBroadcast>,
    inbox: VecDeque<Input>,
    blocked_until: Duration,
    alive: bool,
}

/// The cluster.
pub struct Swim {
    rng: SmallRng,
    now: Duration,
    queue: Queue<Event>,
    processes: Vec<Process>,
    runtime: AccumulatingRuntime<Id>,
    sent: Traffic,
    news: Vec<News>,
    period: Duration,
}

impl Swim {
    pub fn new(members: usize, seed: u64) -> Self {
        let config = config(members);
        let mut rng = SmallRng::seed_from_u64(seed);
        let processes = (0..members)
            .map(|index| Process {
                foca: Foca::new(
                    id(index),
                    config.clone(),
                    SmallRng::seed_from_u64(rng.random()),
                    PostcardCodec,
                ),
                inbox: VecDeque::new(),
                blocked_until: Duration::ZERO,
                alive: true,
            })
            .collect();
        let mut swim = Self {
            rng,
            now: Duration::ZERO,
            queue: Queue::default(),
            processes,
            runtime: AccumulatingRuntime::new(),
            sent: Traffic::default(),
            news: Vec::new(),
            period: config.probe_period,
        };
        for index in 0..members {
            let others = (0..members).filter(|other| *other != index);
            let records = others.map(|other| Member::alive(id(other)));
            swim.processes[index]
                .foca
                .apply_many(records, false, &mut swim.runtime)
                .expect("a fresh member takes all others");
            // Probes of different members begin at different times.
            let phase = swim.period.mul_f64(swim.rng.random_range(0.0..1.0));
            swim.absorb(index, phase);
        }
        swim
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tell(index, input) => {
                let process = &mut self.processes[index];
                if !process.alive {
                    return;
                }
                if process.blocked_until > self.now && matches!(input, Input::Datagram(_)) {
                    if process.inbox.is_empty() {
                        self.queue.push(process.blocked_until, Event::Drain(index));
                    }
                    process.inbox.push_back(input);
                } else {
                    self.feed(index, input);
                }
            }
            Event::Drain(index) => {
                while self.processes[index].alive
                    && let Some(input) = self.processes[index].inbox.pop_front()
                {
                    self.feed(index, input);
                }
            }
        }
    }

    fn feed(&mut self, index: usize, input: Input) {
        let foca = &mut self.processes[index].foca;
        // Errors speak of datagrams to an earlier life, and of probes that a stall cut short;
        // neither harms the state.
        let _ = match input {
            Input::Datagram(data) => foca.handle_data(&data, &mut self.runtime),
            Input::Timer(timer) => foca.handle_timer(timer, &mut self.runtime),
        };
        self.absorb(index, Duration::ZERO);
    }

    /// Carries out what a member wants, its timers so much later.
    fn absorb(&mut self, index: usize, phase: Duration) {
        let sent = self.now.max(self.processes[index].blocked_until);
        while let Some((to, data)) = self.runtime.to_send() {
            self.sent.messages += 1;
            self.sent.bytes += data.len() as u64;
            let jitter = self.rng.random_range(0..JITTER.as_micros() as u64);
            let at = sent + LATENCY + Duration::from_micros(jitter);
            let input = Input::Datagram(data.to_vec());
            self.queue.push(at, Event::Tell(to.index as usize, input));
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            let at = self.now + after + phase;
            self.queue.push(at, Event::Tell(index, Input::Timer(timer)));
        }
        while let Some(notification) = self.runtime.to_notify() {
            let (member, state) = match notification {
                OwnedNotification::MemberUp(id) => (id, State::Up),
                OwnedNotification::MemberDown(id) => (id, State::Down),
                _ => continue,
            };
            let member = member.index as usize;
            self.news.push(News { at: self.now, observer: index, member, state });
        }
    }
}

/// As patient and as talkative as muster's membership.
fn config(members: usize) -> Config {
    let timing = Timing::default();
    let reach = 1.0 + (members as f64 / 64.0).max(1.0).log2() / 4.0;
    let tells = 3 * (members.ilog2() + 1);
    Config {
        probe_period: timing.ack_timeout * 2,
        probe_rtt: timing.ack_timeout,
        max_transmissions: u8::try_from(tells).ok().and_then(NonZeroU8::new).expect("some"),
        num_indirect_probes: NonZeroUsize::new(3).expect("three"),
        suspect_to_down_after: timing.suspicion_max.mul_f64(reach),
        remove_down_after: None,
        notify_down_members: true,
        ..Config::simple()
    }
}

impl Cluster for Swim {
    fn period(&self) -> Duration {
        self.period
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn run(&mut self, until: Duration) {
        while let Some((at, event)) = self.queue.pop(until) {
            self.now = at;
            self.happen(event);
        }
        self.now = until;
    }

    fn living(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|index| self.processes[*index].alive).collect()
    }

    fn sent(&self) -> Traffic {
        self.sent
    }

    fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    fn block(&mut self, member: usize, time: Duration) {
        self.processes[member].blocked_until = self.now + time;
    }

    fn begin(&mut self, change: Change, member: usize) -> Option<usize> {
        (change == Change::PowerOff).then(|| self.processes[member].alive = false)?;
        Some(member)
    }
}
