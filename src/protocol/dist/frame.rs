//! Length-prefixed frames: two-byte lengths in the handshake, four-byte ones after it,
//! and over TLS four-byte ones from the start. (The protocol's description does not say
//! so; OTP's TLS carrier does it, and times out on anything else.)

/// A peer announced a frame beyond the cap. The connection can't go on, since what
/// follows the length is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes was announced, at most {max} are accepted")]
pub struct TooLong {
    /// What the peer announced.
    pub length: u32,
    /// The cap.
    pub max: usize,
}

/// How wide the length in front of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Two bytes: the handshake over TCP.
    Two,
    /// Four bytes: the handshake over TLS, and every established link, where length 0
    /// is a tick.
    Four,
}

impl Prefix {
    fn width(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// The length at the start of these bytes, if it is there whole.
    fn read(self, bytes: &[u8]) -> Option<u32> {
        match self {
            Self::Two => bytes.first_chunk().map(|b| u32::from(u16::from_be_bytes(*b))),
            Self::Four => bytes.first_chunk().map(|b| u32::from_be_bytes(*b)),
        }
    }
}

/// Capacity kept while no frame is half read.
const IDLE_CAPACITY: usize = 256;

/// Cuts a byte stream into frames, however the bytes were split on the way.
///
/// Holds what has arrived of unread frames and no more; a length is checked against
/// the cap as soon as it is known, before anything is kept for it. Dropping a caller
/// between any two calls loses nothing.
#[derive(Debug)]
pub struct Decoder {
    prefix: Prefix,
    max: usize,
    bytes: Vec<u8>,
    read: usize,
}

impl Decoder {
    /// Accepts frames of at most `max` bytes, the length itself not counted.
    #[must_use]
    pub fn new(prefix: Prefix, max: usize) -> Self {
        Self { prefix, max, bytes: Vec::new(), read: 0 }
    }

    /// Takes what was read from the connection.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, without its length; `None` until more bytes arrive.
    ///
    /// # Errors
    /// [`TooLong`]; every further call says so again.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let unread = &self.bytes[self.read..];
        let Some(length) = self.prefix.read(unread) else {
            self.shrink();
            return Ok(None);
        };
        let fits = usize::try_from(length).ok().filter(|&length| length <= self.max);
        let Some(size) = fits else {
            return Err(TooLong { length, max: self.max });
        };
        let start = self.read + self.prefix.width();
        if self.bytes.len() < start + size {
            return Ok(None);
        }
        self.read = start + size;
        Ok(Some(&self.bytes[start..self.read]))
    }

    /// Bytes held that belong to no frame handed out yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// What arrived behind the frames handed out.
    #[must_use]
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.read);
        self.bytes
    }

    /// One large frame must not cost its size for as long as the link lives.
    fn shrink(&mut self) {
        if self.bytes.len() == self.read {
            self.bytes.clear();
            self.read = 0;
            self.bytes.shrink_to(IDLE_CAPACITY);
        }
    }
}

/// Appends a handshake message behind its length.
pub(super) fn put_message(out: &mut Vec<u8>, prefix: Prefix, message: &[u8]) {
    // Handshake messages of ours are a few hundred bytes at most.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    match prefix {
        Prefix::Two => out.extend_from_slice(&length.to_be_bytes()),
        Prefix::Four => out.extend_from_slice(&u32::from(length).to_be_bytes()),
    }
    out.extend_from_slice(&message[..usize::from(length)]);
}

#[cfg(test)]
mod tests;
