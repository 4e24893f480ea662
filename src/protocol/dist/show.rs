//! Terms as a person reads them in a log, about as Erlang prints them; bounded in length
//! and depth, whatever was sent.

use std::fmt::Write as _;

use super::term::{Cursor, TermError};

/// Deepest nesting that is shown; what lies deeper is `...`.
const DEEPEST: u32 = 12;

/// The text of a term, of at most `max` bytes; what is no term is shown as such.
#[must_use]
pub fn show(term: &[u8], max: usize) -> String {
    let mut printer = Printer { out: String::new(), max };
    let mut cursor = Cursor::new(term);
    if printer.term(&mut cursor, DEEPEST).is_err() && printer.out.len() < max {
        printer.out.push_str("<malformed>");
    }
    let mut text = printer.out;
    if text.len() > max {
        let mut end = max.saturating_sub(3);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

struct Printer {
    out: String,
    /// Once this is reached, nothing more is looked at.
    max: usize,
}

impl Printer {
    fn term(&mut self, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), TermError> {
        if depth == 0 {
            cursor.skip()?;
            self.out.push_str("...");
            return Ok(());
        }
        // A cursor is a slice: a copy is a look ahead.
        let mut ahead = *cursor;
        if let Ok(atom) = ahead.atom() {
            self.text(atom);
        } else if let Ok(number) = {
            ahead = *cursor;
            ahead.integer()
        } {
            let _infallible = write!(self.out, "{number}");
        } else if let Ok(bytes) = {
            ahead = *cursor;
            ahead.binary()
        } {
            self.quoted(bytes);
        } else if let Ok(bytes) = {
            ahead = *cursor;
            ahead.string()
        } {
            self.quoted(bytes);
        } else if let Ok(arity) = {
            ahead = *cursor;
            ahead.tuple()
        } {
            self.sequence(&mut ahead, arity, ["{", "}"], depth)?;
        } else if let Ok(length) = {
            ahead = *cursor;
            ahead.list()
        } {
            self.sequence(&mut ahead, length, ["[", "]"], depth)?;
            if length > 0 && self.out.len() < self.max {
                ahead.skip()?;
            }
        } else if let Ok(pairs) = {
            ahead = *cursor;
            ahead.map()
        } {
            self.map(&mut ahead, pairs, depth)?;
        } else {
            ahead = *cursor;
            ahead.skip()?;
            self.out.push_str("<term>");
        }
        *cursor = ahead;
        Ok(())
    }

    fn sequence(
        &mut self,
        cursor: &mut Cursor<'_>,
        count: u32,
        [open, close]: [&str; 2],
        depth: u32,
    ) -> Result<(), TermError> {
        self.out.push_str(open);
        for position in 0..count {
            if self.out.len() >= self.max {
                return Ok(());
            }
            if position > 0 {
                self.out.push(',');
            }
            self.term(cursor, depth - 1)?;
        }
        self.out.push_str(close);
        Ok(())
    }

    fn map(&mut self, cursor: &mut Cursor<'_>, pairs: u32, depth: u32) -> Result<(), TermError> {
        self.out.push_str("#{");
        for position in 0..pairs {
            if self.out.len() >= self.max {
                return Ok(());
            }
            if position > 0 {
                self.out.push(',');
            }
            self.term(cursor, depth - 1)?;
            self.out.push_str(" => ");
            self.term(cursor, depth - 1)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn quoted(&mut self, bytes: &[u8]) {
        self.out.push('"');
        self.text(bytes);
        self.out.push('"');
    }

    /// Text as it is; what is none, or would end the line, as `?`.
    fn text(&mut self, bytes: &[u8]) {
        let bytes = bytes.get(..self.max).unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        self.out.extend(text.chars().map(|c| match c {
            c if c.is_control() || c == char::REPLACEMENT_CHARACTER => '?',
            c => c,
        }));
    }
}

#[cfg(test)]
mod tests;
