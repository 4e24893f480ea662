//! Characters to tokens.

use super::strings;

/// Punctuation of East Asian keyboards, easily taken for ours.
pub(in crate::config) const FULL_WIDTH: &str = "｛｝［］：＝，“”＂＃＠";

/// A line and a column, both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pos {
    pub(super) line: u32,
    pub(super) column: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `{`, `}`, `[`, `]`, `,`, `=`, `:`.
    Mark(char),
    /// `+=`.
    Append,
    Word(String),
    Quoted(String),
    Ref {
        path: String,
        optional: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) pos: Pos,
    /// Blanks before it, on its line.
    pub(super) gap: String,
    /// It is the first of its line.
    pub(super) first: bool,
    /// The comment that begins right behind it, where that may not have been meant.
    pub(super) cut: Option<&'static str>,
}

impl Token {
    /// Nothing stands between it and the token before.
    pub(super) fn is_adjacent(&self) -> bool {
        self.gap.is_empty() && !self.first
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Word(_) | Kind::Quoted(_))
    }
}

/// What cannot be read. It repeats nothing of the text but a single character.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) pos: Pos,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// The tokens of a text, up to where it cannot be read.
pub(super) fn tokens(text: &str) -> (Vec<Token>, Option<Refusal>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, pos: Pos { line: 1, column: 1 } };
    let mut tokens = Vec::new();
    let mut first = true;
    loop {
        let (gap, newline) = lexer.skip_blanks();
        first |= newline;
        let pos = lexer.pos;
        let kind = match lexer.token() {
            Ok(Some(kind)) => kind,
            Ok(None) => return (tokens, None),
            Err(refusal) => return (tokens, Some(refusal)),
        };
        let cut = lexer.glued_comment().filter(|_| matches!(kind, Kind::Word(_)));
        tokens.push(Token { kind, pos, gap, first, cut });
        first = false;
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    pos: Pos,
}

/// What ends a line for EMQX.
fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}')
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.pos = Pos { line: self.pos.line + 1, column: 1 };
        } else {
            self.pos.column += 1;
        }
        Some(c)
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(n, c)| self.peek(n) == Some(c))
    }

    /// Passes blanks, line ends and comments by: the blanks of the last line, and whether a
    /// line ended.
    fn skip_blanks(&mut self) -> (String, bool) {
        let mut gap = String::new();
        let mut newline = false;
        while let Some(c) = self.peek(0) {
            if is_line_end(c) {
                newline = true;
                gap.clear();
            } else if c == '#' || self.starts_with("//") {
                while self.peek(0).is_some_and(|c| !is_line_end(c)) {
                    self.bump();
                }
                continue;
            } else if is_blank(c) {
                gap.push(c);
            } else {
                break;
            }
            self.bump();
        }
        (gap, newline)
    }

    fn token(&mut self) -> Result<Option<Kind>, Refusal> {
        let Some(c) = self.peek(0) else { return Ok(None) };
        Ok(Some(match c {
            '{' | '}' | '[' | ']' | ',' | '=' | ':' => {
                self.bump();
                Kind::Mark(c)
            }
            '+' if self.peek(1) == Some('=') => {
                self.bump();
                self.bump();
                Kind::Append
            }
            '"' if self.starts_with("\"\"\"") => self.block()?,
            '"' => self.quoted()?,
            '$' if self.peek(1) == Some('{') => self.reference()?,
            '\'' => {
                let message = "found a single quote, which quotes nothing";
                return Err(self.refusal(self.pos, message, "write double quotes"));
            }
            _ => self.word()?,
        }))
    }

    /// What begins a comment here and has text right behind it: `pass#word`.
    fn glued_comment(&self) -> Option<&'static str> {
        let sign = ["#", "//"].into_iter().find(|sign| self.starts_with(sign))?;
        let text = |c: char| !is_blank(c) && !is_line_end(c) && c != '#';
        self.peek(sign.len()).is_some_and(text).then_some(sign)
    }

    fn refusal(&self, pos: Pos, message: impl Into<String>, hint: &'static str) -> Refusal {
        Refusal { pos, message: message.into(), hint }
    }

    fn word(&mut self) -> Result<Kind, Refusal> {
        let mut word = String::new();
        while let Some(c) = self.peek(0) {
            let comment = c == '/' && self.peek(1) == Some('/');
            if comment || is_blank(c) || is_line_end(c) || "{}[],=:#\"$".contains(c) {
                break;
            }
            // A sign: of a number, or of its exponent.
            let sign = c == '+'
                && self.peek(1).is_some_and(|c| c.is_ascii_digit())
                && (word.is_empty() || word.ends_with(['e', 'E']));
            if c == '+' && self.peek(1) == Some('=') {
                break;
            }
            if FULL_WIDTH.contains(c) {
                let message = format!("found the full-width character `{c}`");
                return Err(self.refusal(self.pos, message, "write the ASCII character"));
            }
            if !sign && "+`^?!*&\\;".contains(c) {
                let message = format!("found `{c}` outside of quotes");
                let hint = "values other than words and numbers must be quoted";
                return Err(self.refusal(self.pos, message, hint));
            }
            word.push(c);
            self.bump();
        }
        if word.is_empty() {
            let message = "found `$` outside of quotes";
            let hint = "write ${path} for another key's value, or quote it";
            return Err(self.refusal(self.pos, message, hint));
        }
        Ok(Kind::Word(word))
    }

    /// `"…"`, which ends on its line. As in EMQX, a backslash before the line's last quote
    /// escapes nothing.
    fn quoted(&mut self) -> Result<Kind, Refusal> {
        let start = self.pos;
        self.bump();
        let from = self.at;
        let mut end = None;
        let mut at = from;
        while let Some(&c) = self.chars.get(at).filter(|c| !is_line_end(**c)) {
            match (c, self.chars.get(at + 1)) {
                ('"', _) => {
                    end = Some(at);
                    break;
                }
                ('\\', Some('"')) => {
                    end = Some(at + 1);
                    at += 2;
                }
                ('\\', Some('\\')) => at += 2,
                _ => at += 1,
            }
        }
        let Some(end) = end else {
            let hint = "end it with `\"` on its line";
            return Err(self.refusal(start, "this string is never closed", hint));
        };
        let text = strings::unescape(&self.chars[from..end]).map_err(|bad| {
            let column = u32::try_from(bad).unwrap_or(u32::MAX).saturating_add(1);
            let pos = Pos { line: start.line, column: start.column.saturating_add(column) };
            let hint = "write \\uXXXX with four hexadecimal digits, or \\\\u for a backslash";
            self.refusal(pos, "found a \\u that names no character", hint)
        })?;
        while self.at <= end {
            self.bump();
        }
        Ok(Kind::Quoted(text))
    }

    /// `"""…"""`; quotes before the closing ones belong to the text.
    fn block(&mut self) -> Result<Kind, Refusal> {
        let start = self.pos;
        for _ in 0..3 {
            self.bump();
        }
        let mut body = String::new();
        while !self.starts_with("\"\"\"") || self.peek(3) == Some('"') {
            match self.bump() {
                Some(c) => body.push(c),
                None => {
                    let hint = "end it with `\"\"\"`";
                    return Err(self.refusal(start, "this string is never closed", hint));
                }
            }
        }
        for _ in 0..3 {
            self.bump();
        }
        Ok(Kind::Quoted(strings::block(&body)))
    }

    fn reference(&mut self) -> Result<Kind, Refusal> {
        let start = self.pos;
        self.bump();
        self.bump();
        let optional = self.peek(0) == Some('?');
        if optional {
            self.bump();
        }
        let mut path = String::new();
        loop {
            match self.bump() {
                Some('}') => break,
                Some(c) if !is_line_end(c) && !"${[],=:#".contains(c) => path.push(c),
                _ => {
                    let message = "this substitution is never closed";
                    return Err(self.refusal(start, message, "write ${path} or ${?path}"));
                }
            }
        }
        Ok(Kind::Ref { path, optional })
    }
}
