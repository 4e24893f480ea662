//! Tokens to fields. Recursion goes as deep as the text nests, which is bounded.

use super::ast::{Concat, Field, Part, Place, Ref, Text};
use super::lexer::{Kind, Pos, Refusal, Token};
use super::{MAX_DEPTH, MAX_REFERENCES, Problem, Sources};

/// What was found is noted; nothing that follows can be trusted.
pub(super) struct Stop;

pub(super) struct Parser<'s, 'a> {
    pub(super) to: &'s mut Sources<'a>,
    pub(super) file: u32,
    pub(super) tokens: Vec<Token>,
    /// Why they end before the file does.
    pub(super) refusal: Option<Refusal>,
    pub(super) at: usize,
    /// The key whose value is being read, from the root of everything.
    pub(super) path: Vec<String>,
    /// How much of the path stands around this file.
    pub(super) within: usize,
    /// Blocks and lists around this place.
    pub(super) nesting: usize,
}

impl Parser<'_, '_> {
    /// The fields of a whole file; braces around all of them are taken away.
    pub(super) fn file(mut self) -> Result<Vec<Field>, Stop> {
        match self.peek() {
            Some(Kind::Mark('{')) => {
                let open = self.bump_pos();
                let fields = self.fields(Some(open))?;
                if self.at >= self.tokens.len() && self.refusal.is_none() {
                    return Ok(fields);
                }
                let pos = self.pos();
                let message = "found text behind the closing brace of the file";
                Err(self.stop(pos, message, ""))
            }
            Some(Kind::Mark('[')) => {
                let pos = self.pos();
                Err(self.stop(pos, "found a list, allowed: keys with their values", ""))
            }
            _ => self.fields(None),
        }
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    /// The place of the next token, or of the last one at the end.
    fn pos(&self) -> Pos {
        let token = self.tokens.get(self.at).or(self.tokens.last());
        token.map_or(Pos { line: 1, column: 1 }, |token| token.pos)
    }

    fn bump_pos(&mut self) -> Pos {
        let pos = self.pos();
        self.at += 1;
        pos
    }

    pub(super) fn place(&self, pos: Pos) -> Place {
        Place { file: self.file, line: pos.line, column: pos.column }
    }

    pub(super) fn stop(&mut self, pos: Pos, message: impl Into<String>, hint: &str) -> Stop {
        // At the end of the tokens, what ended them is what is wrong.
        let refusal = self.refusal.take().filter(|_| self.at >= self.tokens.len());
        let problem = match refusal {
            Some(Refusal { pos, message, hint }) => {
                Problem::new(self.place(pos), &self.path, message, hint)
            }
            None => Problem::new(self.place(pos), &self.path, message, hint),
        };
        self.to.problems.push(problem);
        Stop
    }

    fn nest(&mut self, pos: Pos) -> Result<(), Stop> {
        self.nesting += 1;
        if self.nesting + self.path.len() > MAX_DEPTH {
            self.path.truncate(4);
            return Err(self.stop(pos, format!("nested deeper than {MAX_DEPTH} levels"), ""));
        }
        Ok(())
    }

    /// Fields up to the closing brace, or to the end of the file.
    fn fields(&mut self, open: Option<Pos>) -> Result<Vec<Field>, Stop> {
        let mut fields = Vec::new();
        let mut comma_allowed = false;
        loop {
            let Some(token) = self.tokens.get(self.at) else {
                return match open {
                    None if self.refusal.is_none() => Ok(fields),
                    open => {
                        let pos = open.unwrap_or(self.pos());
                        Err(self.stop(pos, "this bracket is never closed", ""))
                    }
                };
            };
            let pos = token.pos;
            match &token.kind {
                Kind::Mark('}') if open.is_some() => {
                    self.at += 1;
                    return Ok(fields);
                }
                Kind::Mark(c @ ('}' | ']')) => return Err(self.wrong_close(*c, open, pos)),
                Kind::Mark(',') if comma_allowed => {
                    self.at += 1;
                    comma_allowed = false;
                    continue;
                }
                Kind::Mark(',') => {
                    return Err(self.stop(pos, "found a comma without a field before it", ""));
                }
                Kind::Word(_) | Kind::Quoted(_) if self.is_include() => {
                    self.include(&mut fields)?;
                }
                Kind::Word(_) | Kind::Quoted(_) => fields.push(self.field()?),
                Kind::Mark('{' | '[') => {
                    return Err(self.stop(pos, "found a bracket without a key before it", ""));
                }
                _ => {
                    let message = "found a sign that only belongs behind a key";
                    return Err(self.stop(pos, message, "write key = value, or key { … }"));
                }
            }
            comma_allowed = true;
        }
    }

    fn wrong_close(&mut self, c: char, open: Option<Pos>, pos: Pos) -> Stop {
        let message = match open {
            Some(open) => format!(
                "found `{c}`, which does not close the bracket of line {}, column {}",
                open.line, open.column
            ),
            None => format!("found `{c}`, which closes nothing"),
        };
        self.stop(pos, message, "")
    }

    /// Words and quoted texts without a blank between them, from here on.
    fn unit(&self) -> usize {
        let tokens = self.tokens.get(self.at..).unwrap_or_default();
        let rest = tokens.iter().skip(1).take_while(|t| t.is_text() && t.is_adjacent()).count();
        usize::from(tokens.first().is_some_and(Token::is_text)) + rest
    }

    /// Whether a key stands here: EMQX knows it by the sign behind it, on whatever line.
    fn is_key(&self) -> bool {
        let behind = self.tokens.get(self.at + self.unit()).map(|token| &token.kind);
        matches!(behind, Some(Kind::Mark('=' | ':' | '{') | Kind::Append))
    }

    fn field(&mut self) -> Result<Field, Stop> {
        let base = self.path.len();
        let start = self.pos();
        let path = self.key(start)?;
        let append = match self.tokens.get(self.at).map(|token| (&token.kind, token.first)) {
            Some((Kind::Mark('=' | ':'), _)) => {
                self.at += 1;
                false
            }
            Some((Kind::Append, _)) => {
                self.at += 1;
                true
            }
            Some((Kind::Mark('{'), _) | (Kind::Ref { .. }, false)) => false,
            _ => {
                // The key may hold what was meant as the value, a cookie perhaps.
                let message = "found a key without a value";
                return Err(self.stop(start, message, "write key = value, or key { … }"));
            }
        };
        self.path.extend(path);
        if let [root, block] = &mut self.path[..]
            && root == "cluster"
            && block.eq_ignore_ascii_case("k8s")
        {
            // Layers may spell the block differently and are still to be merged.
            *block = "k8s".to_owned();
        } else if let [root, block, _, ..] = &mut self.path[..]
            && root == "cluster"
            && block.eq_ignore_ascii_case("k8s")
        {
            *block = "k8s".to_owned();
        }
        let path = self.path[base..].to_vec();
        let value = self.concat(start, false)?;
        self.path.truncate(base);
        Ok(Field { path, key: self.place(start), append, value })
    }

    /// `a.b."c.d"`. As in EMQX, two dots are one.
    fn key(&mut self, start: Pos) -> Result<Vec<String>, Stop> {
        let unit = self.unit();
        let mut path = Vec::new();
        let mut segment: Option<String> = None;
        for token in self.tokens.iter().skip(self.at).take(unit) {
            match &token.kind {
                Kind::Quoted(text) => segment.get_or_insert_default().push_str(text),
                Kind::Word(word) => {
                    for (n, part) in word.split('.').enumerate() {
                        if n > 0 {
                            path.extend(segment.take());
                        }
                        if !part.is_empty() {
                            segment.get_or_insert_default().push_str(part);
                        }
                    }
                }
                _ => {}
            }
        }
        path.extend(segment);
        self.at += unit;
        let next = self.tokens.get(self.at).filter(|token| token.is_text() && !token.first);
        let dot =
            matches!(next.map(|token| &token.kind), Some(Kind::Word(w)) if w.starts_with('.'));
        if dot || (next.is_some() && self.is_key()) {
            let message = "found a blank inside a key";
            let hint = "write a.b without blanks, or put the key in quotes";
            return Err(self.stop(start, message, hint));
        }
        if path.is_empty() {
            return Err(self.stop(start, "found a key that is a dot and nothing else", ""));
        }
        if self.path.len() + path.len() + self.nesting > MAX_DEPTH {
            return Err(self.stop(start, format!("nested deeper than {MAX_DEPTH} levels"), ""));
        }
        Ok(path)
    }

    /// The value behind a key, or one item of a list.
    fn concat(&mut self, key: Pos, in_list: bool) -> Result<Concat, Stop> {
        let place = self.place(self.pos());
        let mut parts: Vec<Part> = Vec::new();
        while let Some(token) = self.tokens.get(self.at) {
            let (pos, first) = (token.pos, token.first && !parts.is_empty());
            if first && in_list {
                break;
            }
            match &token.kind {
                Kind::Mark('}' | ']' | ',') => break,
                Kind::Mark(_) if matches!(token.kind, Kind::Mark('{' | '[')) => {
                    if first && !self.continues(&parts) {
                        break;
                    }
                    let part = self.bracket(&parts, pos)?;
                    parts.push(part);
                }
                Kind::Mark(_) | Kind::Append => return Err(self.stray_sign(pos)),
                Kind::Word(_) | Kind::Quoted(_) => {
                    let key_here = self.is_key();
                    if key_here && parts.is_empty() && !in_list {
                        return Err(self.no_value(key, first || token.first));
                    }
                    if !parts.is_empty()
                        && ((key_here && !in_list)
                            || self.ends_before(&parts, first, in_list)
                            || (first && self.is_include()))
                    {
                        break;
                    }
                    let part = self.text(&parts, first);
                    parts.push(part);
                }
                Kind::Ref { .. } => {
                    let part = self.reference(pos)?;
                    parts.push(part);
                }
            }
        }
        if parts.is_empty() {
            return Err(self.no_value(key, true));
        }
        let null = |part: &Part| matches!(part, Part::Text(t) if t.bare && t.text == "null");
        if parts.len() == 1 && null(&parts[0]) {
            parts = vec![Part::Null];
        }
        Ok(Concat { place, parts })
    }

    /// Whether a bracket on a new line still belongs to the value.
    fn continues(&self, parts: &[Part]) -> bool {
        match parts.last() {
            Some(Part::Ref(_)) => true,
            Some(Part::Object(_) | Part::List(_)) => self.peek() == Some(&Kind::Mark('[')),
            _ => false,
        }
    }

    /// Whether a text behind these parts begins something new: EMQX joins texts, also over
    /// lines, but neither numbers nor blocks.
    fn ends_before(&self, parts: &[Part], first: bool, in_list: bool) -> bool {
        match parts.last() {
            Some(Part::Text(text)) => (first || in_list) && text.bare && is_literal(&text.text),
            Some(Part::Object(_) | Part::List(_)) => first,
            _ => false,
        }
    }

    fn no_value(&mut self, key: Pos, at_end: bool) -> Stop {
        if at_end {
            let hint = "write key = value, or key { … }";
            return self.stop(key, "found a key without a value", hint);
        }
        let pos = self.tokens.get(self.at + self.unit()).map_or(key, |token| token.pos);
        self.stray_sign(pos)
    }

    fn stray_sign(&mut self, pos: Pos) -> Stop {
        let sign = self.tokens.iter().find(|token| token.pos == pos);
        let sign = match sign.map(|token| &token.kind) {
            Some(Kind::Mark(c)) => c.to_string(),
            _ => "+=".to_owned(),
        };
        let hint = "put the value in quotes; a URL too, since `//` begins a comment";
        self.stop(pos, format!("found `{sign}` inside a value without quotes"), hint)
    }

    fn bracket(&mut self, parts: &[Part], pos: Pos) -> Result<Part, Stop> {
        let object = self.peek() == Some(&Kind::Mark('{'));
        if matches!(parts.last(), Some(Part::Text(_) | Part::Null)) {
            let what = if object { "a block" } else { "a list" };
            return Err(self.stop(pos, format!("found {what} behind a text"), ""));
        }
        self.nest(pos)?;
        self.at += 1;
        let part = if object { Part::Object(self.fields(Some(pos))?) } else { self.list(pos)? };
        self.nesting -= 1;
        Ok(part)
    }

    fn list(&mut self, open: Pos) -> Result<Part, Stop> {
        let mut items = Vec::new();
        let mut comma_allowed = false;
        loop {
            let Some(token) = self.tokens.get(self.at) else {
                return Err(self.stop(open, "this bracket is never closed", ""));
            };
            let pos = token.pos;
            match token.kind {
                Kind::Mark(']') => {
                    self.at += 1;
                    return Ok(Part::List(items));
                }
                Kind::Mark('}') => return Err(self.wrong_close('}', Some(open), pos)),
                Kind::Mark(',') if comma_allowed => {
                    self.at += 1;
                    comma_allowed = false;
                }
                Kind::Mark(',') => {
                    return Err(self.stop(pos, "found a comma without an item before it", ""));
                }
                _ => {
                    items.push(self.concat(pos, true)?);
                    comma_allowed = true;
                }
            }
        }
    }

    fn text(&mut self, parts: &[Part], first: bool) -> Part {
        self.to.ids += 1;
        let id = self.to.ids;
        let behind_word = matches!(parts.last(), Some(Part::Text(text)) if text.bare);
        let Some(token) = self.tokens.get(self.at) else { return Part::Null };
        let (text, bare) = match &token.kind {
            Kind::Word(word) => (word.clone(), true),
            Kind::Quoted(text) => (text.clone(), false),
            _ => (String::new(), false),
        };
        if let Some(sign) = token.cut {
            let message = format!("the text ends before `{sign}`, where a comment begins");
            let hint = format!("put it in quotes if `{sign}` belongs to it, or a blank before it");
            let problem = Problem::new(self.place(token.pos), &self.path, message, &hint);
            self.to.cut.push((id, problem));
        }
        let keeps_gap = bare && behind_word && !first;
        let gap = if keeps_gap { token.gap.clone() } else { String::new() };
        self.at += 1;
        Part::Text(Text { text, id, bare, gap })
    }

    fn reference(&mut self, pos: Pos) -> Result<Part, Stop> {
        let Some(Kind::Ref { path, optional }) = self.peek().cloned() else {
            return Ok(Part::Null);
        };
        self.at += 1;
        self.to.references += 1;
        if self.to.references > MAX_REFERENCES {
            let message = format!("found more than {MAX_REFERENCES} substitutions");
            return Err(self.stop(pos, message, ""));
        }
        let mut path: Vec<String> = path
            .split('.')
            .map(|segment| segment.trim().trim_matches('"').to_owned())
            .filter(|segment| !segment.is_empty())
            .collect();
        if path.is_empty() || path.len() > MAX_DEPTH {
            return Err(self.stop(pos, "found a substitution of nothing", "write ${path}"));
        }
        if let [root, block, ..] = &mut path[..]
            && root == "cluster"
            && block.eq_ignore_ascii_case("k8s")
        {
            *block = "k8s".to_owned();
        }
        let secret = (self.to.is_secret)(&self.path.join("."));
        let within = self.path[..self.within].to_vec();
        Ok(Part::Ref(Ref { path, within, optional, place: self.place(pos), secret }))
    }

    /// `include "x"`, `include x`, and with `file(…)`, `required(…)`, `required(file(…))`
    /// around it. A key may be called `include` too.
    fn is_include(&self) -> bool {
        let word = matches!(self.peek(), Some(Kind::Word(word)) if word == "include");
        let next = self.tokens.get(self.at + 1);
        word && !self.is_key() && next.is_some_and(|token| token.is_text() && !token.first)
    }

    fn include(&mut self, fields: &mut Vec<Field>) -> Result<(), Stop> {
        let start = self.bump_pos();
        let mut form = String::new();
        let mut name = None;
        while let Some(token) = self.tokens.get(self.at).filter(|token| !token.first) {
            match &token.kind {
                Kind::Quoted(text) if name.is_none() => {
                    name = Some(text.clone());
                    form.push('"');
                }
                Kind::Word(word) => form.push_str(word),
                _ => break,
            }
            self.at += 1;
        }
        let (required, name) = match (form.as_str(), name) {
            ("\"" | "file(\")", Some(name)) => (false, name),
            ("required(\")" | "required(file(\"))", Some(name)) => (true, name),
            (form, None) if !form.contains(['(', ')']) => (false, form.to_owned()),
            _ => {
                let hint = "allowed: include \"x\", file(\"x\"), required(\"x\")";
                return Err(self.stop(start, "this form of include is not known", hint));
            }
        };
        let place = self.place(start);
        let nesting = self.nesting;
        let included = self.to.include(place, &self.path, nesting, &name, required)?;
        fields.extend(included);
        Ok(())
    }
}

/// What EMQX reads as a truth value or a number, and never joins with a text.
fn is_literal(word: &str) -> bool {
    matches!(word, "true" | "false" | "null") || {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = word.strip_prefix(['+', '-']).unwrap_or(word);
        match number.split_once('.') {
            Some((whole, fraction)) => {
                let (fraction, exponent) = match fraction.split_once(['e', 'E']) {
                    Some((fraction, exponent)) => {
                        (fraction, exponent.strip_prefix(['+', '-']).unwrap_or(exponent))
                    }
                    None => (fraction, "0"),
                };
                (whole.is_empty() || digits(whole)) && digits(fraction) && digits(exponent)
            }
            None => digits(number),
        }
    }
}
