//! The scalars of the dialect: unquoted, quoted, and triple-quoted.

use super::super::source::Pos;
use super::{Scanner, Stop};

impl Scanner<'_, '_> {
    /// An unquoted value: with an `@` inside it is quoted, which the specification
    /// demands and EMQX does not.
    pub(super) fn unquoted(&mut self) {
        let mut end = 0;
        let mut at_sign = false;
        while let Some(c) = self.peek(end) {
            if ends_unquoted(c) || (c == '/' && self.peek(end + 1) == Some('/')) {
                break;
            }
            at_sign |= c == '@';
            end += 1;
        }
        if !at_sign || self.peek(0) == Some('@') {
            self.copy_n(end);
            return;
        }
        self.to.expanded.push('"');
        self.mark();
        self.copy_n(end);
        self.to.expanded.push('"');
        self.mark();
    }

    /// `"…"`. A backslash that escapes nothing stands for itself, as in EMQX; a pair
    /// of surrogates becomes its character.
    pub(super) fn quoted(&mut self) -> Result<(), Stop> {
        let start = self.pos;
        self.copy();
        while let Some(c) = self.peek(0).filter(|c| *c != '\n') {
            match c {
                '"' => {
                    self.copy();
                    return Ok(());
                }
                '\\' => match self.peek(1) {
                    Some('"' | '\\' | 'b' | 'f' | 'n' | 'r' | 't') => self.copy_n(2),
                    Some('u') => self.unicode_escape(),
                    _ => {
                        self.to.expanded.push('\\');
                        self.mark();
                        self.copy();
                    }
                },
                _ => self.copy(),
            }
        }
        Err(self.error(start, "this string is never closed", Some("end it with `\"` on its line")))
    }

    fn unicode_escape(&mut self) {
        let unit = |from: usize| -> Option<u16> {
            let digits: String =
                self.chars.get(self.at + from + 2..self.at + from + 6)?.iter().collect();
            let escape = self.peek(from) == Some('\\') && self.peek(from + 1) == Some('u');
            (escape && digits.chars().all(|c| c.is_ascii_hexdigit()))
                .then(|| u16::from_str_radix(&digits, 16).ok())?
        };
        let pair = [unit(0), unit(6)].map(Option::unwrap_or_default);
        match char::decode_utf16(pair).next() {
            Some(Ok(c)) if c > '\u{ffff}' => {
                self.skip_n(12);
                self.to.expanded.push(c);
                self.mark();
            }
            _ => self.copy_n(2),
        }
    }

    /// `"""…"""`, taken literally; with `"""~` and a line's end behind it, without its
    /// indentation and markers.
    pub(super) fn triple_quoted(&mut self) -> Result<(), Stop> {
        let start = self.pos;
        let indented = self.starts_with("\"\"\"~\n") || self.starts_with("\"\"\"~\r\n");
        if !indented {
            self.copy_n(3);
            while self.peek(0).is_some() && !self.starts_with("\"\"\"") {
                self.copy();
            }
            if self.peek(0).is_none() {
                return Err(self.unclosed_triple(start));
            }
            while self.peek(0) == Some('"') {
                self.copy();
            }
            return Ok(());
        }
        self.skip_n(4);
        while self.skip().is_some_and(|c| c != '\n') {}
        let mut body = String::new();
        while let Some(c) = self.peek(0) {
            if self.starts_with("\"\"\"") && self.peek(3) != Some('"') {
                break;
            }
            self.skip();
            body.push(c);
        }
        if self.peek(0).is_none() {
            return Err(self.unclosed_triple(start));
        }
        self.skip_n(3);
        self.to.expanded.push('"');
        for c in unindent(&body).chars() {
            match c {
                '"' | '\\' => {
                    self.to.expanded.push('\\');
                    self.to.expanded.push(c);
                }
                '\n' => "\\n".chars().for_each(|c| self.to.expanded.push(c)),
                c => self.to.expanded.push(c),
            }
        }
        self.to.expanded.push('"');
        self.mark();
        Ok(())
    }

    fn unclosed_triple(&mut self, start: Pos) -> Stop {
        self.error(start, "this string is never closed", Some("end it with `\"\"\"`"))
    }
}

/// Characters that an unquoted value does not hold (HOCON specification, "Unquoted
/// strings"), `@` excepted.
pub(super) fn ends_unquoted(c: char) -> bool {
    c.is_whitespace() || "$\"{}[]:=,+#`^?!*&\\".contains(c)
}

/// EMQX's rule for `"""~`: the indentation is the least of the lines that hold
/// something; a last line of blanks may have less, and a `~` that ends it is dropped.
fn unindent(body: &str) -> String {
    let mut lines: Vec<&str> = body.split('\n').collect();
    let last = lines.pop().unwrap_or_default();
    let last = last.strip_suffix('~').unwrap_or(last);
    let spaces = |line: &str| line.bytes().take_while(|b| *b == b' ').count();
    let blank = |line: &str| line.is_empty() || line == "\r";
    let of_lines = lines.iter().filter(|line| !blank(line)).map(|line| spaces(line)).min();
    let only_spaces = last.bytes().all(|b| b == b' ');
    let indent = match of_lines {
        Some(least) if only_spaces => least,
        Some(least) => least.min(spaces(last)),
        None if only_spaces => 0,
        None => spaces(last),
    };
    lines.push(last);
    let cut = |line: &&str| line[indent.min(spaces(line))..].to_owned();
    lines.iter().map(cut).collect::<Vec<_>>().join("\n")
}
