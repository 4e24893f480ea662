//! An established link: bytes in, events out, ticks in time.
//!
//! Polling order: [`Link::handle`] what was read, then [`Link::poll`] until it answers
//! `None`, then send what [`Link::transmit`] hands out; [`Link::handle_timeout`] when
//! [`Link::next_deadline`] has come. Times are since any fixed start.

use core::time::Duration;

use super::control::{self, Incoming};
use super::frame::{Decoder, Prefix, TooLong};

/// A tick: a frame of length 0.
pub const TICK: [u8; 4] = [0; 4];

/// Answers to `net_adm:ping/1` kept for a peer that does not read; further ones are
/// dropped, which is what the peer's silence deserves.
const MAX_UNSENT: usize = 4096;

/// When links are ticked and given up.
#[derive(Clone, Copy, Debug)]
pub struct LinkTimes {
    /// A tick is sent when nothing was sent for so long.
    pub tick: Duration,
    /// The link is given up when nothing was received for so long.
    pub silence: Duration,
}

impl Default for LinkTimes {
    /// Erlang's `net_ticktime` of 60 s and its quarter.
    fn default() -> Self {
        Self { tick: Duration::from_secs(15), silence: Duration::from_secs(60) }
    }
}

/// What a link reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A payload for the registered name `muster`.
    Payload(Vec<u8>),
    /// A frame that is not for us: why, in a fixed word.
    Ignored(&'static str),
}

/// Why a link can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The peer is at fault.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Nobody may be there any more.
    #[error("nothing was received for {0:?}")]
    Silent(Duration),
}

/// One established link.
#[derive(Debug)]
pub struct Link {
    times: LinkTimes,
    decoder: Decoder,
    out: Vec<u8>,
    last_sent: Duration,
    last_received: Duration,
}

impl Link {
    /// A link that begins now. `rest` is what arrived behind the handshake.
    #[must_use]
    pub fn new(times: LinkTimes, max_frame: usize, rest: &[u8], now: Duration) -> Self {
        let mut decoder = Decoder::new(Prefix::Four, max_frame);
        decoder.push(rest);
        Self { times, decoder, out: Vec::new(), last_sent: now, last_received: now }
    }

    /// Takes what was read from the connection.
    pub fn handle(&mut self, bytes: &[u8], now: Duration) {
        self.last_received = now;
        self.decoder.push(bytes);
    }

    /// What the bytes so far say; `None` until more arrive.
    ///
    /// # Errors
    /// [`LinkError::TooLong`]: the link can't go on.
    pub fn poll(&mut self) -> Result<Option<Event>, LinkError> {
        while let Some(frame) = self.decoder.next_frame()? {
            if frame.is_empty() {
                continue;
            }
            match control::parse(frame) {
                Incoming::Payload(payload) => return Ok(Some(Event::Payload(payload.to_vec()))),
                Incoming::Ignored(why) => return Ok(Some(Event::Ignored(why))),
                Incoming::IsAuth(question) => {
                    if self.out.len() + question.answer_len() > MAX_UNSENT {
                        return Ok(Some(Event::Ignored("unread_answers")));
                    }
                    control::put_yes(&mut self.out, &question);
                }
            }
        }
        Ok(None)
    }

    /// Something was handed to the connection: no tick is due for a while.
    pub fn sent(&mut self, now: Duration) {
        self.last_sent = now;
    }

    /// When [`Link::handle_timeout`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Duration {
        (self.last_sent + self.times.tick).min(self.last_received + self.times.silence)
    }

    /// Does what is due by now: a tick to transmit, or the end.
    ///
    /// # Errors
    /// [`LinkError::Silent`]: the link is to be given up.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), LinkError> {
        if now >= self.last_received + self.times.silence {
            return Err(LinkError::Silent(self.times.silence));
        }
        if now >= self.last_sent + self.times.tick {
            // Even where the last tick is unsent still: the deadline must move on.
            self.last_sent = now;
            if self.out.is_empty() {
                self.out.extend_from_slice(&TICK);
            }
        }
        Ok(())
    }

    /// Bytes to send, possibly none.
    #[must_use]
    pub fn transmit(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Bytes of memory held for frames that are read in part.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.decoder.capacity()
    }
}

#[cfg(test)]
mod tests;
