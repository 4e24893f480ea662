//! Values out of definitions: blocks, lists and texts, joined and referred to.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::super::ast::{Concat, Part, Place, Ref};
use super::super::{Node, Value, Words};
use super::{Def, More, Piece, Resolver, Shape, item};

impl<'a> Resolver<'a, '_> {
    /// What a key comes to; `None`: nothing, since all of it was optional and missing.
    fn value(&mut self, path: &mut Vec<String>, defs: &[Def<'a>]) -> Option<Node> {
        let last = defs.last()?;
        if !self.step(defs.len(), last.field.key, path) {
            return None;
        }
        self.depth += 1;
        let node = match self.shape(path, defs, true) {
            Shape::Absent => {
                // Asked once more, so that what is missing is reported.
                for concat in defs.iter().filter_map(Def::value) {
                    if self.is_on_the_way(concat).is_none() {
                        self.concat(path, concat);
                    }
                }
                None
            }
            Shape::Block(pieces) => {
                let place = last.value().map_or(last.field.key, |concat| concat.place);
                let value = self.object(path, &pieces);
                Some(Node { value, place, key: last.field.key })
            }
            Shape::Other(base, more) => self.other(path, last, base, &more),
        };
        self.depth -= 1;
        node
    }

    fn other(
        &mut self,
        path: &mut Vec<String>,
        last: &Def<'a>,
        base: Option<&'a Concat>,
        more: &[More<'a>],
    ) -> Option<Node> {
        let key = last.field.key;
        let base = base.and_then(|concat| self.concat(path, concat));
        if more.is_empty() {
            return base.map(|node| Node { key, ..node });
        }
        let place = base.as_ref().map_or(key, |node| node.place);
        let mut items = match base.map(|node| node.value) {
            None | Some(Value::Null) if matches!(more.first(), Some(More::Append(_))) => Vec::new(),
            Some(Value::List(items)) => items,
            // Items of no list: a block like others.
            _ => return self.block_of_items(path, key, more),
        };
        for more in more {
            match more {
                More::Append(concat) => items.extend(self.concat(path, concat)),
                More::Items(pieces) => {
                    let Value::Object(fields) = self.object(path, pieces) else { continue };
                    if let Err(missed) = set_items(&mut items, fields) {
                        let Missed { place, item, length } = missed;
                        let message = format!("found item {item} of a list of {length}");
                        let hint = "items are counted from 1, and none is left out";
                        self.report(place, path, message, hint);
                    }
                }
            }
        }
        Some(Node { value: Value::List(items), place, key })
    }

    fn block_of_items(
        &mut self,
        path: &mut Vec<String>,
        key: Place,
        more: &[More<'a>],
    ) -> Option<Node> {
        let mut block = Vec::new();
        for more in more {
            match more {
                More::Items(pieces) => block.extend(pieces),
                More::Append(_) => {
                    let message = "found `+=` behind something other than a list".to_owned();
                    self.report(key, path, message, "");
                    return None;
                }
            }
        }
        Some(Node { value: self.object(path, &block), place: key, key })
    }

    pub(super) fn object(&mut self, path: &mut Vec<String>, pieces: &[Piece<'a>]) -> Value {
        let mut names: BTreeMap<&'a str, (Vec<Def<'a>>, Vec<Piece<'a>>)> = BTreeMap::new();
        for piece in pieces {
            for field in piece.fields {
                if let Some(name) = field.path.get(piece.segment) {
                    let (defs, from) = names.entry(name).or_default();
                    defs.push(Def { field, segment: piece.segment + 1 });
                    if !from.last().is_some_and(|last| last.is(piece)) {
                        from.push(*piece);
                    }
                }
            }
        }
        let outer = self.blocks.len();
        let mut fields = BTreeMap::new();
        for (name, (defs, from)) in names {
            path.push(name.to_owned());
            self.blocks.extend(from);
            if let Some(node) = self.value(path, &defs) {
                fields.insert(name.to_owned(), node);
            }
            self.blocks.truncate(outer);
            path.pop();
        }
        Value::Object(fields)
    }

    /// A value by itself: its parts, joined.
    fn concat(&mut self, path: &mut Vec<String>, concat: &'a Concat) -> Option<Node> {
        if !self.step(concat.parts.len(), concat.place, path) {
            return None;
        }
        self.depth += 1;
        self.reading.push((concat, self.frames.len()));
        let node = match self.concat_shape(path, concat) {
            Shape::Block(pieces) => {
                let pieces = self.open_blocks(path, concat, pieces);
                let value = (!pieces.is_empty()).then(|| self.object(path, &pieces));
                value.map(|value| Node { value, place: concat.place, key: concat.place })
            }
            _ => self.joined(path, concat),
        };
        self.reading.pop();
        self.depth -= 1;
        node
    }

    fn joined(&mut self, path: &mut Vec<String>, concat: &'a Concat) -> Option<Node> {
        let node = |value| Node { value, place: concat.place, key: concat.place };
        let mut whole: Option<Value> = None;
        for part in &concat.parts {
            let value = match part {
                Part::Null => Value::Null,
                Part::Text(text) => Value::Text(Words {
                    text: format!("{}{}", text.gap, text.text),
                    ids: vec![text.id],
                    bare: if text.bare && concat.parts.len() > 1 {
                        vec![text.text.clone()]
                    } else {
                        Vec::new()
                    },
                    whole_number: text.bare && concat.parts.len() == 1 && is_whole(&text.text),
                }),
                Part::List(items) => {
                    let items = items.iter().filter_map(|item| self.concat(path, item));
                    Value::List(items.filter(|item| !matches!(item.value, Value::Null)).collect())
                }
                // As in EMQX, nothing beside something is that something.
                Part::Object(fields) if fields.is_empty() && concat.parts.len() > 1 => continue,
                Part::Object(fields) => self.object(path, &[Piece { fields, segment: 0 }]),
                Part::Ref(reference) => match self.referred(path, concat, reference) {
                    Some(value) => value,
                    None => continue,
                },
            };
            whole = Some(match (whole, value) {
                (None | Some(Value::Null), value) => value,
                (Some(whole), Value::Null) => whole,
                (Some(Value::Text(mut whole)), Value::Text(more)) => {
                    if !self.step(more.text.len(), concat.place, path) {
                        return None;
                    }
                    whole.text.push_str(&more.text);
                    whole.ids.extend(more.ids);
                    whole.bare.extend(more.bare);
                    whole.whole_number = false;
                    Value::Text(whole)
                }
                (Some(Value::List(mut whole)), Value::List(more)) => {
                    if !self.step(more.len(), concat.place, path) {
                        return None;
                    }
                    whole.extend(more);
                    Value::List(whole)
                }
                _ => {
                    let message = "found texts, lists and blocks side by side".to_owned();
                    self.report(concat.place, path, message, "only the like of them are joined");
                    return None;
                }
            });
        }
        whole.map(node)
    }

    fn referred(
        &mut self,
        path: &[String],
        concat: &'a Concat,
        reference: &'a Ref,
    ) -> Option<Value> {
        let found = self
            .follow(path, concat, reference, |this, target| this.target(target, reference.place))?;
        if let Some(node) = found {
            let bytes = match &node.value {
                Value::Text(words) => words.text.len(),
                _ => 1,
            };
            return self.step(bytes, reference.place, path).then_some(node.value);
        }
        if let Some(text) = self.variable(reference) {
            self.ids += 1;
            return Some(Value::Text(Words { text, ids: vec![self.ids], ..Words::default() }));
        }
        self.undefined(path, reference);
        None
    }

    fn target(&mut self, target: &[String], place: Place) -> Option<Node> {
        if let Some(known) = self.known.get(target) {
            let known = known.clone();
            self.work =
                self.work.saturating_add(known.as_ref().map_or(1, |node| weight(&node.value)));
            return known;
        }
        let lookbacks = self.lookbacks;
        let defs = self.defs_of(target, place);
        let node = self.value(&mut target.to_vec(), &defs);
        if self.lookbacks == lookbacks {
            self.known.insert(target.to_vec(), node.clone());
        }
        node
    }
}

/// An item that a list does not have, and that is not the next one either.
struct Missed {
    place: Place,
    item: usize,
    length: usize,
}

/// Sets items by their numbers: there are such, or the number is the next one.
fn set_items(items: &mut Vec<Node>, fields: BTreeMap<String, Node>) -> Result<(), Missed> {
    let fields = fields.into_iter().filter_map(|(name, node)| Some((item(&name)?, node)));
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(n, _)| *n);
    for (n, node) in fields {
        let length = items.len();
        match n.checked_sub(1).map(|n| items.get_mut(n)) {
            Some(Some(item)) => merge(item, node)?,
            Some(None) if n == length + 1 => items.push(node),
            _ => return Err(Missed { place: node.key, item: n, length }),
        }
    }
    Ok(())
}

/// Lays a value over another one: blocks are merged, and a block of numbers means items.
fn merge(under: &mut Node, over: Node) -> Result<(), Missed> {
    match (&mut under.value, over.value) {
        (Value::List(items), Value::Object(fields))
            if fields.keys().all(|name| item(name).is_some()) =>
        {
            set_items(items, fields)?;
        }
        (Value::Object(under), Value::Object(over)) => {
            for (name, node) in over {
                match under.entry(name) {
                    Entry::Occupied(mut entry) => merge(entry.get_mut(), node)?,
                    Entry::Vacant(entry) => drop(entry.insert(node)),
                }
            }
        }
        (_, value) => *under = Node { value, ..over },
    }
    Ok(())
}

/// What it takes to copy a value.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null => 1,
        Value::Text(words) => 1 + words.text.len(),
        Value::List(items) => 1 + items.iter().map(|item| weight(&item.value)).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(|item| weight(&item.value)).sum::<usize>(),
    }
}

/// Whether a word is a whole number to EMQX.
fn is_whole(word: &str) -> bool {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}
