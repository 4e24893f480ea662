//! Erlang code in the place of a term. OTP evaluates the options file, so that a value may
//! be `mod:fun(arg)` or a `fun`; here it is read over, since only options that are not used
//! have such values.

use super::{Kind, Parser, TermError, is_name};

/// What opens something that `end` closes.
const BLOCKS: [&str; 6] = ["begin", "case", "if", "receive", "try", "maybe"];

/// Operators that may stand between two terms, longest first.
const OPERATORS: [&str; 6] = ["++", "--", "+", "-", "*", "/"];

impl Parser<'_> {
    /// Reads over what makes an expression of the atom that was read: a call, or a `fun`.
    /// `false`: it is just an atom.
    pub(super) fn call(&mut self, atom: &str) -> Result<bool, TermError> {
        if atom == "fun" {
            self.skip_blank();
            match self.peek() {
                Some('(') => self.block()?,
                // `fun name/1`, `fun mod:name/1`.
                _ => self.fun_name(),
            }
            return Ok(true);
        }
        if BLOCKS.contains(&atom) {
            self.block()?;
            return Ok(true);
        }
        self.skip_blank();
        let remote = self.peek() == Some(':');
        if remote {
            self.bump();
            self.skip_blank();
            if self.peek() == Some('\'') {
                self.quoted('\'')?;
            } else {
                self.bump_while(is_name);
            }
            self.skip_blank();
        }
        if self.peek() != Some('(') {
            let place = self.expected("'(' behind the name of a function");
            return if remote { Err(place) } else { Ok(false) };
        }
        self.balanced()?;
        Ok(true)
    }

    fn fun_name(&mut self) {
        self.bump_while(|c| is_name(c) || matches!(c, ':' | '/' | '\'' | ' '));
    }

    /// From behind the opening word up to its `end`.
    fn block(&mut self) -> Result<(), TermError> {
        let start = self.pos;
        let mut open = 1;
        while open > 0 {
            self.skip_blank();
            let Some(c) = self.peek() else {
                let message = "this code is never closed by `end`".to_owned();
                return Err(TermError { pos: start, message });
            };
            if is_name(c) {
                let word = self.bump_while(is_name);
                if word == "end" {
                    open -= 1;
                } else if BLOCKS.contains(&word.as_str()) || (word == "fun" && self.is_clause()) {
                    open += 1;
                }
            } else {
                self.pass()?;
            }
        }
        Ok(())
    }

    /// Whether a `fun` has clauses, and so an `end`.
    fn is_clause(&mut self) -> bool {
        self.skip_blank();
        self.peek() == Some('(')
    }

    /// From an opening bracket up to the one that closes it.
    fn balanced(&mut self) -> Result<(), TermError> {
        let start = self.pos;
        let mut open = 0;
        loop {
            self.skip_blank();
            match self.peek() {
                Some('(' | '[' | '{') => open += 1,
                Some(')' | ']' | '}') => open -= 1,
                Some(_) => {}
                None => {
                    let message = "this bracket is never closed".to_owned();
                    return Err(TermError { pos: start, message });
                }
            }
            self.pass()?;
            if open == 0 {
                return Ok(());
            }
        }
    }

    /// One character, or all of a quoted one.
    fn pass(&mut self) -> Result<(), TermError> {
        match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                self.quoted(quote)?;
            }
            Some('$') => {
                self.character()?;
            }
            _ => {
                self.bump();
            }
        }
        Ok(())
    }

    /// What follows a term and makes an expression of both: texts are joined, all else is
    /// code.
    pub(super) fn operators(&mut self, mut kind: Kind, depth: usize) -> Result<Kind, TermError> {
        loop {
            self.skip_blank();
            let found = OPERATORS.into_iter().find(|operator| self.rest.starts_with(operator));
            let Some(operator) = found else { return Ok(kind) };
            for _ in 0..operator.len() {
                self.bump();
            }
            let right = self.operand(depth + 1)?.kind;
            kind = match (kind, right) {
                (Kind::Str(left), Kind::Str(right)) if operator == "++" => Kind::Str(left + &right),
                _ => Kind::Code,
            };
        }
    }
}
