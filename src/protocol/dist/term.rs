//! The External Term Format, as much as control messages need.
//!
//! A cursor over borrowed bytes instead of a tree of terms: reading allocates
//! nothing, so no arity, length or nesting that a peer chose can cost memory, and
//! skipping is a loop, so none can cost stack. (The `eetf` crate was considered: it
//! allocates from peer-chosen lengths and recurses.) Terms that an answer must
//! repeat are kept as the bytes they came in.

/// The byte before every external term.
pub const VERSION: u8 = 131;

/// Most sub-terms one term may hold, at all depths together.
///
/// Control messages to us hold about a dozen; the payload is one binary.
pub const MAX_TERMS: u32 = 4096;

const SMALL_INTEGER: u8 = 97;
const INTEGER: u8 = 98;
const FLOAT: u8 = 99;
const PORT: u8 = 102;
const NEW_PORT: u8 = 89;
const V4_PORT: u8 = 120;
const PID: u8 = 103;
const NEW_PID: u8 = 88;
const SMALL_TUPLE: u8 = 104;
const LARGE_TUPLE: u8 = 105;
const NIL: u8 = 106;
const STRING: u8 = 107;
const LIST: u8 = 108;
const BINARY: u8 = 109;
const SMALL_BIG: u8 = 110;
const LARGE_BIG: u8 = 111;
const NEW_FUN: u8 = 112;
const EXPORT: u8 = 113;
const NEW_REFERENCE: u8 = 114;
const NEWER_REFERENCE: u8 = 90;
const MAP: u8 = 116;
const NEW_FLOAT: u8 = 70;
const BIT_BINARY: u8 = 77;
const ATOM: u8 = 100;
const SMALL_ATOM: u8 = 115;
const ATOM_UTF8: u8 = 118;
const SMALL_ATOM_UTF8: u8 = 119;

/// Why bytes are no term we can read. The peer is at fault; nothing was consumed
/// that matters, since the frame is given up as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermError {
    /// The bytes end inside a term.
    #[error("the term is cut short")]
    Truncated,
    /// A tag outside the format, or one that needs a flag we did not offer.
    #[error("unknown term tag {0}")]
    UnknownTag(u8),
    /// Another kind of term than the place calls for.
    #[error("an unexpected kind of term")]
    Unexpected,
    /// More than [`MAX_TERMS`] sub-terms.
    #[error("more than {MAX_TERMS} terms")]
    TooMany,
}

/// Reads terms one after another from borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], TermError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(TermError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TermError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(TermError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, TermError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<usize, TermError> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    fn u32(&mut self) -> Result<u32, TermError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A length field as an index; what does not fit is longer than any input.
    fn length(&mut self) -> Result<usize, TermError> {
        usize::try_from(self.u32()?).map_err(|_| TermError::Truncated)
    }

    /// Reads the byte that opens an external term.
    ///
    /// # Errors
    /// Another byte, or none.
    pub fn version(&mut self) -> Result<(), TermError> {
        match self.u8()? {
            VERSION => Ok(()),
            other => Err(TermError::UnknownTag(other)),
        }
    }

    /// Reads an atom's text, of any of the four encodings.
    ///
    /// # Errors
    /// Another term, or a cut one.
    pub fn atom(&mut self) -> Result<&'a [u8], TermError> {
        let length = match self.u8()? {
            ATOM | ATOM_UTF8 => self.u16()?,
            SMALL_ATOM | SMALL_ATOM_UTF8 => usize::from(self.u8()?),
            _ => return Err(TermError::Unexpected),
        };
        self.take(length)
    }

    /// Reads a tuple's head; its elements follow.
    ///
    /// # Errors
    /// Another term, or a cut one.
    pub fn tuple(&mut self) -> Result<u32, TermError> {
        match self.u8()? {
            SMALL_TUPLE => self.u8().map(u32::from),
            LARGE_TUPLE => self.u32(),
            _ => Err(TermError::Unexpected),
        }
    }

    /// Reads a tuple's head of just this arity.
    ///
    /// # Errors
    /// Another term, another arity, or a cut one.
    pub fn tuple_of(&mut self, arity: u32) -> Result<(), TermError> {
        if self.tuple()? == arity { Ok(()) } else { Err(TermError::Unexpected) }
    }

    /// Reads an integer of at most 32 bits.
    ///
    /// # Errors
    /// Another term (a big integer too), or a cut one.
    pub fn integer(&mut self) -> Result<i32, TermError> {
        match self.u8()? {
            SMALL_INTEGER => self.u8().map(i32::from),
            INTEGER => self.array().map(i32::from_be_bytes),
            _ => Err(TermError::Unexpected),
        }
    }

    /// Reads a binary.
    ///
    /// # Errors
    /// Another term, or a cut one.
    pub fn binary(&mut self) -> Result<&'a [u8], TermError> {
        if self.u8()? != BINARY {
            return Err(TermError::Unexpected);
        }
        let length = self.length()?;
        self.take(length)
    }

    /// Reads a list's head: how many elements follow. Behind them stands its tail, which
    /// is a term too (`[]` of a proper list), unless there are none.
    ///
    /// # Errors
    /// Another term, or a cut one.
    pub fn list(&mut self) -> Result<u32, TermError> {
        match self.u8()? {
            NIL => Ok(0),
            LIST => self.u32(),
            _ => Err(TermError::Unexpected),
        }
    }

    /// Reads a map's head: how many keys follow, each with its value behind it.
    ///
    /// # Errors
    /// Another term, or a cut one.
    pub fn map(&mut self) -> Result<u32, TermError> {
        if self.u8()? == MAP { self.u32() } else { Err(TermError::Unexpected) }
    }

    /// Reads a list of small integers in its short form, which texts come in.
    ///
    /// # Errors
    /// Another term, or a cut one.
    pub fn string(&mut self) -> Result<&'a [u8], TermError> {
        if self.u8()? != STRING {
            return Err(TermError::Unexpected);
        }
        let length = self.u16()?;
        self.take(length)
    }

    /// Reads any process identifier; the answer is its bytes.
    ///
    /// # Errors
    /// Another term, or a cut one.
    pub fn pid(&mut self) -> Result<&'a [u8], TermError> {
        match self.rest.first() {
            Some(&(PID | NEW_PID)) => self.skip(),
            Some(_) => Err(TermError::Unexpected),
            None => Err(TermError::Truncated),
        }
    }

    /// Passes over one term of any kind and depth; the answer is its bytes.
    ///
    /// # Errors
    /// An unknown or cut term, or one of more than [`MAX_TERMS`] parts.
    pub fn skip(&mut self) -> Result<&'a [u8], TermError> {
        let start = self.rest;
        // Terms still to be passed over. Each takes at least one byte, so a count
        // beyond the bytes left is a lie and is found out before it matters.
        let mut pending: u32 = 1;
        let mut seen: u32 = 0;
        while pending > 0 {
            pending -= 1;
            seen += 1;
            let inside = self.skip_head()?;
            pending = pending.checked_add(inside).ok_or(TermError::TooMany)?;
            if pending.saturating_add(seen) > MAX_TERMS {
                return Err(TermError::TooMany);
            }
        }
        let length = start.len() - self.rest.len();
        Ok(&start[..length])
    }

    /// Passes over a term's own bytes; the answer is how many terms it holds.
    fn skip_head(&mut self) -> Result<u32, TermError> {
        let tag = self.u8()?;
        let inside = match tag {
            SMALL_INTEGER => self.take(1).map(|_| 0),
            INTEGER => self.take(4).map(|_| 0),
            FLOAT => self.take(31).map(|_| 0),
            NEW_FLOAT => self.take(8).map(|_| 0),
            NIL => Ok(0),
            ATOM | ATOM_UTF8 | STRING => {
                let length = self.u16()?;
                self.take(length).map(|_| 0)
            }
            SMALL_ATOM | SMALL_ATOM_UTF8 => {
                let length = usize::from(self.u8()?);
                self.take(length).map(|_| 0)
            }
            BINARY => {
                let length = self.length()?;
                self.take(length).map(|_| 0)
            }
            BIT_BINARY => {
                let length = self.length()?;
                self.take(1)?;
                self.take(length).map(|_| 0)
            }
            SMALL_BIG => {
                let length = usize::from(self.u8()?);
                self.take(1)?;
                self.take(length).map(|_| 0)
            }
            LARGE_BIG => {
                let length = self.length()?;
                self.take(1)?;
                self.take(length).map(|_| 0)
            }
            SMALL_TUPLE => self.u8().map(u32::from),
            LARGE_TUPLE => self.u32(),
            // The tail is a term too.
            LIST => self.u32()?.checked_add(1).ok_or(TermError::TooMany),
            MAP => self.u32()?.checked_mul(2).ok_or(TermError::TooMany),
            EXPORT => Ok(3),
            NEW_FUN => {
                // The size counts its own four bytes.
                let length = self.length()?.checked_sub(4).ok_or(TermError::Truncated)?;
                self.take(length).map(|_| 0)
            }
            PID => self.after_node(9),
            NEW_PID => self.after_node(12),
            PORT => self.after_node(5),
            NEW_PORT => self.after_node(8),
            V4_PORT => self.after_node(12),
            NEW_REFERENCE => {
                let ids = self.u16()?;
                self.after_node(1 + 4 * ids)
            }
            NEWER_REFERENCE => {
                let ids = self.u16()?;
                self.after_node(4 + 4 * ids)
            }
            other => return Err(TermError::UnknownTag(other)),
        }?;
        Ok(inside)
    }

    /// Passes over a node's atom and so many bytes behind it.
    fn after_node(&mut self, count: usize) -> Result<u32, TermError> {
        self.atom()?;
        self.take(count).map(|_| 0)
    }
}

/// Appends a tuple's head; at most 255 elements.
pub fn put_tuple(out: &mut Vec<u8>, arity: u8) {
    out.extend_from_slice(&[SMALL_TUPLE, arity]);
}

/// Appends a small integer.
pub fn put_small(out: &mut Vec<u8>, value: u8) {
    out.extend_from_slice(&[SMALL_INTEGER, value]);
}

/// Appends an atom. The text is ours or a node name: at most 255 bytes; the rest
/// of a longer one would be cut.
pub fn put_atom(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.extend_from_slice(&[SMALL_ATOM_UTF8, length]);
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

/// Appends the head of a list, or the empty list; its elements follow, and behind them
/// [`put_list_end`].
pub fn put_list_head(out: &mut Vec<u8>, length: u32) {
    if length > 0 {
        out.push(LIST);
        out.extend_from_slice(&length.to_be_bytes());
    }
}

/// Appends the end of a list.
pub fn put_list_end(out: &mut Vec<u8>) {
    out.push(NIL);
}

/// Appends a process identifier of ours.
pub fn put_pid(out: &mut Vec<u8>, node: &str, id: u32, serial: u32, creation: u32) {
    out.push(NEW_PID);
    put_atom(out, node);
    for part in [id, serial, creation] {
        out.extend_from_slice(&part.to_be_bytes());
    }
}

/// Bytes before a binary's content.
pub const BINARY_HEAD: usize = 5;

/// Appends a binary's head; the content follows. The length is checked by whoever
/// builds the frame, against a cap far below 4 GiB.
pub fn put_binary_head(out: &mut Vec<u8>, length: u32) {
    out.push(BINARY);
    out.extend_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests;
