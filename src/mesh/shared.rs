//! What all tasks of the mesh share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::gate::Gate;
use super::registry::Registry;
use super::{MeshEvent, MeshSettings};
use crate::metrics::{Cause, Metrics, Word};
use crate::protocol::dist::control::Encoder;
use crate::protocol::dist::frame::Prefix;
use crate::protocol::dist::handshake::Local;
use crate::throttle::Throttle;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: MeshSettings,
    /// Not 0.
    creation: u32,
    pub(super) encoder: Encoder,
    pub(super) metrics: Arc<Metrics>,
    pub(super) gate: Arc<Gate>,
    pub(super) throttle: Throttle,
    pub(super) tasks: Tasks,
    registry: Mutex<Registry>,
    events: mpsc::Sender<MeshEvent>,
    stop: watch::Receiver<bool>,
    /// The machines' time 0.
    start: Instant,
}

impl Shared {
    pub(super) fn new(
        settings: MeshSettings,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<MeshEvent>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let creation = settings.creation.max(1);
        Self {
            encoder: Encoder::new(&settings.node, creation),
            creation,
            settings,
            metrics,
            gate: Arc::default(),
            throttle: Throttle::default(),
            tasks: Tasks::default(),
            registry: Mutex::default(),
            events,
            stop,
            start: Instant::now(),
        }
    }

    /// What this node says of itself in a handshake that begins now. The cookies may be
    /// others in the next one.
    pub(super) fn local(&self) -> Arc<Local> {
        let name = self.settings.node.clone();
        let cookies = self.settings.cookies.current();
        Arc::new(Local { name, creation: self.creation, cookies })
    }

    /// Never held across an await.
    pub(super) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lengths of handshake messages, which the carrier decides.
    pub(super) fn handshake_prefix(&self) -> Prefix {
        if self.settings.tls.is_some() { Prefix::Four } else { Prefix::Two }
    }

    /// The machines' now.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A time of the machines as the runtime's.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.start + at
    }

    /// Starts a task that a shutdown waits for.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(Arc::clone(self));
        tokio::spawn(async move {
            task.await;
            drop(counted);
        });
    }

    /// Reports, and waits for a place; gives up when all ends.
    pub(super) async fn report(&self, event: MeshEvent) {
        if self.is_stopped() {
            return;
        }
        let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) else {
            return;
        };
        tokio::select! {
            // Without a receiver there is nobody to tell.
            _ = self.events.send(event) => {}
            () = self.stopped() => {}
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when all is to end: on shutdown, or when the handle is gone.
    pub(super) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that the handle is gone, which is an end too.
        let _either = stop.wait_for(|stop| *stop).await.is_ok();
    }

    pub(super) fn refused(&self, cause: &'static str) {
        self.metrics.connections_refused.get_or_create(&Cause { cause: Word(cause) }).inc();
    }

    pub(super) fn ignored(&self, cause: &'static str) {
        self.metrics.frames_ignored.get_or_create(&Cause { cause: Word(cause) }).inc();
    }
}

/// Counts tasks, so that the last one's end can be waited for.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: AtomicUsize,
    none: Notify,
}

impl Tasks {
    pub(super) async fn ended(&self) {
        loop {
            let none = self.none.notified();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

/// One task, counted until it is dropped, also when it panics.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: Arc<Shared>) -> Self {
        shared.tasks.running.fetch_add(1, Ordering::AcqRel);
        Self(shared)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.tasks.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.tasks.none.notify_waiters();
        }
    }
}
