//! Erlang terms as text, as `file:consult/1` reads them: one term and a full stop.
//!
//! Pure, and bounded: nesting by [`MAX_DEPTH`], everything else by the text's length,
//! which the caller bounds.

mod code;

use std::fmt;

/// Deepest nesting of lists, tuples and maps. A `ssl_dist.conf` needs 4.
pub const MAX_DEPTH: usize = 32;

/// A place in the text; both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// A term and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Where.
    pub pos: Pos,
    /// What.
    pub kind: Kind,
}

/// The terms a configuration file can hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `foo`, `'foo bar'`, `true`.
    Atom(String),
    /// `"text"`, also in pieces: `"te" "xt"`.
    Str(String),
    /// `<<"text">>` or `<<1,2>>`.
    Binary(Vec<u8>),
    /// `42`, `-1`, `16#ff`, `$a`.
    Int(i64),
    /// `1.5`.
    Float(f64),
    /// `[a, b]`.
    List(Vec<Term>),
    /// `{a, b}`.
    Tuple(Vec<Term>),
    /// `#{a => b}`.
    Map(Vec<(Term, Term)>),
    /// `mod:fun(arg)`, `fun(X) -> X end`, `1 + 1`: its value is not known here.
    Code,
}

impl Kind {
    /// What kind of term it is, for messages; never the value, which may be secret.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Atom(_) => "an atom",
            Self::Str(_) => "a string",
            Self::Binary(_) => "a binary",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Map(_) => "a map",
            Self::Code => "Erlang code",
        }
    }
}

/// What is wrong with the text, and where. The operator's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermError {
    /// Where.
    pub pos: Pos,
    /// What, in words.
    pub message: String,
}

impl fmt::Display for TermError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.pos.line, self.pos.column, self.message)
    }
}

impl std::error::Error for TermError {}

/// Reads the one term that `text` holds, up to its full stop.
///
/// # Errors
/// The first thing that is no Erlang term, with its place.
pub fn parse(text: &str) -> Result<Term, TermError> {
    let mut parser = Parser { rest: text, pos: Pos { line: 1, column: 1 } };
    parser.skip_blank();
    if parser.rest.is_empty() {
        return Err(parser
            .error("the file is empty; a list [{server, [...]}, {client, [...]}]. is expected"));
    }
    let term = parser.term(0)?;
    parser.skip_blank();
    if parser.bump_if('.').is_none() {
        return Err(parser.expected("'.' after the last term"));
    }
    parser.skip_blank();
    if !parser.rest.is_empty() {
        return Err(parser.error("text after the final '.'; one term is allowed"));
    }
    Ok(term)
}

struct Parser<'a> {
    rest: &'a str,
    pos: Pos,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.rest.chars().nth(1)
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        if c == '\n' {
            self.pos = Pos { line: self.pos.line + 1, column: 1 };
        } else {
            self.pos.column += 1;
        }
        Some(c)
    }

    fn bump_if(&mut self, wanted: char) -> Option<char> {
        if self.peek() == Some(wanted) { self.bump() } else { None }
    }

    fn bump_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|&c| wanted(c)) {
            text.push(c);
            self.bump();
        }
        text
    }

    fn skip_blank(&mut self) {
        while let Some(c) = self.peek() {
            if c == '%' {
                self.bump_while(|c| c != '\n');
            } else if c.is_whitespace() || c == '\u{feff}' {
                self.bump();
            } else {
                return;
            }
        }
    }

    fn error(&self, message: impl Into<String>) -> TermError {
        TermError { pos: self.pos, message: message.into() }
    }

    fn expected(&self, what: &str) -> TermError {
        let found = match self.peek() {
            None => "the end of the file".to_owned(),
            Some(c) => format!("{c:?}"),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn term(&mut self, depth: usize) -> Result<Term, TermError> {
        let Term { pos, kind } = self.operand(depth)?;
        Ok(Term { pos, kind: self.operators(kind, depth)? })
    }

    fn operand(&mut self, depth: usize) -> Result<Term, TermError> {
        self.skip_blank();
        let pos = self.pos;
        if depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        let kind = match self.peek() {
            Some('[') => {
                self.bump();
                Kind::List(self.sequence(']', depth, Self::term)?)
            }
            Some('{') => {
                self.bump();
                Kind::Tuple(self.sequence('}', depth, Self::term)?)
            }
            Some('#') if self.peek_second() == Some('{') => {
                self.bump();
                self.bump();
                Kind::Map(self.sequence('}', depth, Self::association)?)
            }
            Some('<') if self.peek_second() == Some('<') => self.binary(depth)?,
            Some('"') => Kind::Str(self.strings()?),
            Some('\'') => {
                let atom = self.quoted('\'')?;
                if self.call("")? { Kind::Code } else { Kind::Atom(atom) }
            }
            Some('(') => {
                self.bump();
                let inner = self.term(depth + 1)?;
                self.skip_blank();
                if self.bump_if(')').is_none() {
                    return Err(self.expected("')'"));
                }
                inner.kind
            }
            Some('$') => self.character()?,
            Some(c) if c.is_lowercase() => {
                let atom = self.bump_while(is_name);
                if self.call(&atom)? { Kind::Code } else { Kind::Atom(atom) }
            }
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => self.number()?,
            Some(c) if c.is_uppercase() || c == '_' => {
                let name = self.bump_while(is_name);
                let message = format!("{name} is a variable; an atom or a string is expected");
                return Err(TermError { pos, message });
            }
            _ => return Err(self.expected("a term")),
        };
        Ok(Term { pos, kind })
    }

    fn sequence<T>(
        &mut self,
        close: char,
        depth: usize,
        mut element: impl FnMut(&mut Self, usize) -> Result<T, TermError>,
    ) -> Result<Vec<T>, TermError> {
        let mut elements = Vec::new();
        self.skip_blank();
        if self.bump_if(close).is_some() {
            return Ok(elements);
        }
        loop {
            elements.push(element(self, depth + 1)?);
            self.skip_blank();
            if self.bump_if(close).is_some() {
                return Ok(elements);
            }
            if self.bump_if(',').is_none() {
                return Err(self.expected(&format!("',' or '{close}'")));
            }
        }
    }

    fn association(&mut self, depth: usize) -> Result<(Term, Term), TermError> {
        let key = self.term(depth)?;
        self.skip_blank();
        if self.bump_if('=').is_none() || self.bump_if('>').is_none() {
            return Err(self.expected("'=>'"));
        }
        Ok((key, self.term(depth)?))
    }

    /// `<<…>>`; with sizes and types its bytes are for Erlang to work out.
    fn binary(&mut self, depth: usize) -> Result<Kind, TermError> {
        self.bump();
        self.bump();
        let mut bytes = Some(Vec::new());
        for term in self.sequence('>', depth, Self::segment)? {
            let segment = match term.kind {
                Kind::Str(text) => Some(text.into_bytes()),
                Kind::Int(value) => u8::try_from(value).ok().map(|byte| vec![byte]),
                _ => None,
            };
            bytes = bytes.zip(segment).map(|(bytes, segment)| [bytes, segment].concat());
        }
        if self.bump_if('>').is_none() {
            return Err(self.expected("'>>'"));
        }
        Ok(bytes.map_or(Kind::Code, Kind::Binary))
    }

    /// `"text"/utf8`, `1:16/little`.
    fn segment(&mut self, depth: usize) -> Result<Term, TermError> {
        let mut term = self.operand(depth)?;
        self.skip_blank();
        let specification = self.bump_while(|c| is_name(c) || matches!(c, ':' | '/' | '-' | '*'));
        if !matches!(specification.as_str(), "" | "/utf8") {
            term.kind = Kind::Code;
        }
        Ok(term)
    }

    fn strings(&mut self) -> Result<String, TermError> {
        let mut text = self.quoted('"')?;
        loop {
            self.skip_blank();
            if self.peek() != Some('"') {
                return Ok(text);
            }
            text.push_str(&self.quoted('"')?);
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, TermError> {
        let begin = self.pos;
        self.bump();
        let mut text = String::new();
        loop {
            match self.bump() {
                None => {
                    let what = if quote == '"' { "string" } else { "quoted atom" };
                    let message = format!("this {what} is never closed");
                    return Err(TermError { pos: begin, message });
                }
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.extend(self.escape()?),
                Some(c) => text.push(c),
            }
        }
    }

    /// What stands behind a backslash; a line break there means nothing at all.
    fn escape(&mut self) -> Result<Option<char>, TermError> {
        let pos = self.pos;
        let bad = |message: &str| TermError { pos, message: message.to_owned() };
        let code = match self.bump() {
            None => return Err(bad("the file ends within an escape sequence")),
            Some('n') => 10,
            Some('r') => 13,
            Some('t') => 9,
            Some('v') => 11,
            Some('b') => 8,
            Some('f') => 12,
            Some('e') => 27,
            Some('s') => 32,
            Some('d') => 127,
            Some('\n') => return Ok(None),
            Some('^') => match self.bump() {
                Some(c @ ('@'..='_' | 'a'..='z')) => u32::from(c) & 0x1f,
                _ => return Err(bad("no control character")),
            },
            Some('x') => {
                let digits = if self.bump_if('{').is_some() {
                    let digits = self.bump_while(|c| c.is_ascii_hexdigit());
                    if self.bump_if('}').is_none() {
                        return Err(self.expected("'}'"));
                    }
                    digits
                } else {
                    let two = [self.bump(), self.bump()];
                    two.into_iter().flatten().collect()
                };
                u32::from_str_radix(&digits, 16).map_err(|_| bad("no hexadecimal character"))?
            }
            Some(c @ '0'..='7') => {
                let mut code = u32::from(c) - u32::from('0');
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    self.bump();
                    code = code * 8 + digit;
                }
                code
            }
            Some(c) => u32::from(c),
        };
        char::from_u32(code).map(Some).ok_or_else(|| bad("no character has this code"))
    }

    fn character(&mut self) -> Result<Kind, TermError> {
        self.bump();
        let c = match self.bump() {
            None => return Err(self.expected("a character after '$'")),
            Some('\\') => self.escape()?.unwrap_or('\n'),
            Some(c) => c,
        };
        Ok(Kind::Int(i64::from(u32::from(c))))
    }

    fn number(&mut self) -> Result<Kind, TermError> {
        let pos = self.pos;
        let bad = |message: String| TermError { pos, message };
        let sign = match self.peek() {
            Some('-') => {
                self.bump();
                "-"
            }
            Some('+') => {
                self.bump();
                ""
            }
            _ => "",
        };
        let digits = self.bump_while(|c| c.is_ascii_digit() || c == '_').replace('_', "");
        if digits.is_empty() {
            return Err(self.expected("a digit"));
        }
        if self.bump_if('#').is_some() {
            let radix = digits.parse().ok().filter(|radix| (2..=36).contains(radix));
            let radix = radix.ok_or_else(|| bad(format!("{digits} is no number base")))?;
            let digits = self.bump_while(|c| c.is_ascii_alphanumeric());
            return i64::from_str_radix(&format!("{sign}{digits}"), radix)
                .map(Kind::Int)
                .map_err(|error| bad(format!("no integer: {error}")));
        }
        let fraction =
            self.peek() == Some('.') && self.peek_second().is_some_and(|c| c.is_ascii_digit());
        if !fraction {
            return format!("{sign}{digits}")
                .parse()
                .map(Kind::Int)
                .map_err(|error| bad(format!("no integer: {error}")));
        }
        self.bump();
        let mut text = format!("{sign}{digits}.{}", self.bump_while(|c| c.is_ascii_digit()));
        if let Some(e) = self.peek().filter(|c| matches!(c, 'e' | 'E')) {
            self.bump();
            text.push(e);
            text.push_str(&self.bump_while(|c| c.is_ascii_digit() || matches!(c, '+' | '-')));
        }
        text.parse().map(Kind::Float).map_err(|_| bad(format!("{text} is no number")))
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '@'
}

#[cfg(test)]
mod tests;
