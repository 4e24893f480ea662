//! What waits to be sent over one link.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::SendOutcome;
use crate::protocol::dist::control::Encoder;

/// Most bytes queued for one link, on the wire's count. With as much again in the
/// hands of the link's task, fifty frozen peers cost 25 MiB at worst.
pub const QUEUE_BYTES: usize = 256 * 1024;

/// Most frames queued for one link: minutes of membership's ordinary talk.
pub const QUEUE_FRAMES: usize = 1024;

/// One link's queue: frames already encoded, end to end, so that the link's task
/// writes them in one go.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// Wakes the link's task: bytes where there were none, or the end.
    pub(super) wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    frames: usize,
    closing: Option<String>,
}

impl Queue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a frame, or says why not.
    pub(super) fn push(&self, encoder: &Encoder, payload: &[u8], max: usize) -> SendOutcome {
        let mut inner = self.lock();
        if inner.closing.is_some() {
            return SendOutcome::NoLink;
        }
        let was_empty = inner.bytes.is_empty();
        let bytes = inner.bytes.len().saturating_add(encoder.framed_len(payload.len()));
        if !was_empty && (bytes > QUEUE_BYTES || inner.frames >= QUEUE_FRAMES) {
            return SendOutcome::Full;
        }
        if !encoder.message(&mut inner.bytes, payload, max) {
            return SendOutcome::TooLong;
        }
        inner.frames += 1;
        drop(inner);
        if was_empty {
            self.wake.notify_one();
        }
        SendOutcome::Queued
    }

    /// Takes everything; the queue holds no memory afterwards.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut inner = self.lock();
        inner.frames = 0;
        std::mem::take(&mut inner.bytes)
    }

    /// No more frames; the link's task ends the link. The first reason stands.
    pub(super) fn close(&self, reason: &str) {
        self.lock().closing.get_or_insert_with(|| reason.to_owned());
        self.wake.notify_one();
    }

    /// The reason to end the link, once there is one.
    pub(super) fn closing(&self) -> Option<String> {
        self.lock().closing.clone()
    }
}

#[cfg(test)]
mod tests;
