//! Layers merged, and substitutions resolved over all of them.
//!
//! A key has definitions, in the order of the text. Blocks among them are merged, anything
//! else replaces what stood before. A substitution is followed when its value is asked for;
//! on the way back to itself it means what stood before it, and if nothing did, it is a
//! circle. How deep and how far all this goes is bounded.
//!
//! Here is what definitions come to before anything in them is read; `values` reads it.

mod values;

use std::collections::{HashMap, HashSet};

use super::ast::{Concat, Field, Part, Place, Ref};
use super::{Node, Problem};

/// Steps and bytes that substitutions may take altogether …
const LEAST_WORK: usize = 300_000;
/// … and so many more for every text that is written.
const WORK_PER_TEXT: usize = 20;
/// How deep the walk goes, substitutions and nesting together.
const MAX_WALK: usize = 400;

pub(super) fn resolve(
    fields: &[Field],
    env: &dyn Fn(&str) -> Option<String>,
    ids: u32,
) -> (Node, Vec<Problem>, u32) {
    let mut resolver = Resolver {
        root: fields,
        env,
        ids,
        frames: Vec::new(),
        reading: Vec::new(),
        depth: 0,
        work: 0,
        most_work: LEAST_WORK + WORK_PER_TEXT * usize::try_from(ids).unwrap_or_default(),
        stopped: false,
        lookbacks: 0,
        holes: 0,
        open_holes: 0,
        circle: Default::default(),
        outermost: usize::MAX,
        blocks: Vec::new(),
        known: HashMap::new(),
        reported: HashSet::new(),
        problems: Vec::new(),
    };
    let place = Place { file: 0, line: 1, column: 1 };
    let value = resolver.object(&mut Vec::new(), &[Piece { fields, segment: 0 }]);
    (Node { value, place, key: place }, resolver.problems, resolver.ids)
}

/// Fields of a block, each from one segment of its key on.
#[derive(Clone, Copy)]
struct Piece<'a> {
    fields: &'a [Field],
    segment: usize,
}

impl Piece<'_> {
    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.fields, other.fields) && self.segment == other.segment
    }
}

/// One definition of a key: the rest of a dotted key, or a value.
#[derive(Clone, Copy)]
struct Def<'a> {
    field: &'a Field,
    /// The segment behind this key.
    segment: usize,
}

impl<'a> Def<'a> {
    /// The value, if the key ends here.
    fn value(&self) -> Option<&'a Concat> {
        (self.segment == self.field.path.len()).then_some(&self.field.value)
    }

    fn replaces(&self) -> bool {
        let plain = |part: &Part| matches!(part, Part::Text(_) | Part::Null | Part::List(_));
        !self.field.append && self.value().is_some_and(|concat| concat.parts.iter().any(plain))
    }

    fn rest(&self) -> Piece<'a> {
        Piece { fields: std::slice::from_ref(self.field), segment: self.segment }
    }
}

/// What definitions come to, before anything in it is read.
enum Shape<'a> {
    Absent,
    Block(Vec<Piece<'a>>),
    /// The last one that counts, and what those behind it add, in their order.
    Other(Option<&'a Concat>, Vec<More<'a>>),
}

impl<'a> Shape<'a> {
    /// Lays a block over what is there. As in EMQX, one whose keys are all numbers means
    /// items of the list before it.
    fn lay(&mut self, pieces: Vec<Piece<'a>>) {
        let number = |piece: &Piece<'a>| {
            let names = piece.fields.iter().filter_map(|field| field.path.get(piece.segment));
            names.into_iter().all(|name| item(name).is_some())
        };
        match self {
            Shape::Block(block) => block.extend(pieces),
            Shape::Other(_, more) if pieces.iter().all(number) => more.push(More::Items(pieces)),
            other => *other = Shape::Block(pieces),
        }
    }
}

/// The number of a list's item, counted from 1: `a.2` is the second of `a`.
fn item(name: &str) -> Option<usize> {
    name.bytes().all(|b| b.is_ascii_digit()).then(|| name.parse().ok())?
}

/// What is added to a list.
enum More<'a> {
    Append(&'a Concat),
    Items(Vec<Piece<'a>>),
}

/// A substitution being followed.
struct Frame<'a> {
    /// The value it stands in.
    concat: &'a Concat,
    key: String,
    reference: &'a Ref,
}

impl Frame<'_> {
    fn shown(&self) -> String {
        let target =
            if self.reference.secret { "…".to_owned() } else { self.reference.path.join(".") };
        format!("{} = ${{{target}}}", self.key)
    }
}

struct Resolver<'a, 'e> {
    root: &'a [Field],
    env: &'e dyn Fn(&str) -> Option<String>,
    ids: u32,
    frames: Vec<Frame<'a>>,
    /// Values being read, and how many substitutions were being followed when each began.
    reading: Vec<(&'a Concat, usize)>,
    depth: usize,
    work: usize,
    most_work: usize,
    /// There was too much of it, or it went too deep: nothing more is read.
    stopped: bool,
    /// How often a value on the way back to itself was met.
    lookbacks: u64,
    /// How often nothing stood before it.
    holes: u64,
    /// The same, less those that an optional substitution left out.
    open_holes: u64,
    /// The way round the last one, and the places of its substitutions.
    circle: (String, Vec<Place>),
    /// The outermost substitution being followed that such a way goes through.
    outermost: usize,
    /// Blocks being read: one that holds itself is a circle too.
    blocks: Vec<Piece<'a>>,
    /// What paths came to that met none.
    known: HashMap<Vec<String>, Option<Node>>,
    reported: HashSet<Place>,
    problems: Vec<Problem>,
}

impl<'a> Resolver<'a, '_> {
    fn report(&mut self, place: Place, key: &[String], message: String, hint: &str) {
        if self.reported.insert(place) {
            self.problems.push(Problem::new(place, key, message, hint));
        }
    }

    /// Counts work; `false`: there was too much of it, or too deep.
    fn step(&mut self, work: usize, place: Place, path: &[String]) -> bool {
        self.work = self.work.saturating_add(work);
        let message = if self.work > self.most_work {
            "found substitutions that multiply what they refer to"
        } else if self.depth > MAX_WALK {
            "found substitutions that lead too deep"
        } else {
            return !self.stopped;
        };
        if !self.stopped {
            // The key may be as long as the walk was deep.
            let key = &path[..path.len().min(4)];
            self.problems.push(Problem::new(place, key, message, ""));
        }
        self.stopped = true;
        false
    }

    /// Definitions of one name in a block.
    fn defs_in(&mut self, pieces: &[Piece<'a>], name: &str) -> Vec<Def<'a>> {
        let mut defs = Vec::new();
        for piece in pieces {
            self.work = self.work.saturating_add(piece.fields.len());
            for field in piece.fields {
                if field.path.get(piece.segment).is_some_and(|segment| segment == name) {
                    defs.push(Def { field, segment: piece.segment + 1 });
                }
            }
        }
        defs
    }

    /// Definitions of a path from the root.
    fn defs_of(&mut self, path: &[String], place: Place) -> Vec<Def<'a>> {
        let mut pieces = vec![Piece { fields: self.root, segment: 0 }];
        for (n, name) in path.iter().enumerate() {
            let defs = self.defs_in(&pieces, name);
            if n + 1 == path.len() || !self.step(defs.len() + 1, place, path) {
                return defs;
            }
            match self.shape(&path[..=n], &defs, false) {
                Shape::Block(found) => pieces = found,
                _ => return Vec::new(),
            }
        }
        Vec::new()
    }

    /// Since which of the substitutions being followed a value is being read.
    fn is_on_the_way(&self, concat: &Concat) -> Option<usize> {
        let frame = self.frames.iter().position(|frame| std::ptr::eq(frame.concat, concat));
        let reading = self.reading.iter().find(|(reading, _)| std::ptr::eq(*reading, concat));
        frame.into_iter().chain(reading.map(|(_, frames)| *frames)).min()
    }

    fn is_on_the_way_of(&self, defs: &[Def<'a>]) -> bool {
        let mut values = defs.iter().filter_map(Def::value);
        values.any(|concat| self.is_on_the_way(concat).is_some())
    }

    /// What definitions come to; `whole`: they are to be read now, and not only looked into.
    fn shape(&mut self, path: &[String], defs: &[Def<'a>], whole: bool) -> Shape<'a> {
        let mut shape = Shape::Absent;
        // What stands before a text or a list is replaced by it, and never asked for.
        let last = defs.iter().rposition(Def::replaces).unwrap_or_default();
        let last = if self.is_on_the_way_of(&defs[last..]) { 0 } else { last };
        for def in &defs[last..] {
            let Some(concat) = def.value() else {
                shape.lay(vec![def.rest()]);
                continue;
            };
            if let Some(n) = self.is_on_the_way(concat) {
                self.lookbacks += 1;
                if matches!(shape, Shape::Absent) {
                    self.holes += 1;
                    self.open_holes += 1;
                    self.outermost = self.outermost.min(n);
                    let way = &self.frames[n..];
                    let names: Vec<String> = way.iter().take(8).map(Frame::shown).collect();
                    let places = way.iter().map(|frame| frame.reference.place).collect();
                    self.circle = (names.join(", "), places);
                }
                break;
            }
            if def.field.append {
                match &mut shape {
                    Shape::Other(_, more) => more.push(More::Append(concat)),
                    other => *other = Shape::Other(None, vec![More::Append(concat)]),
                }
                continue;
            }
            let (open, problems) = (self.open_holes, self.problems.len());
            let mut found = self.concat_shape(path, concat);
            if let Shape::Block(pieces) = found {
                let pieces = if whole { self.open_blocks(path, concat, pieces) } else { pieces };
                found = if pieces.is_empty() { Shape::Absent } else { Shape::Block(pieces) };
            }
            if self.open_holes > open && !matches!(shape, Shape::Absent) {
                // What leads back to itself yields to what stood before it.
                self.open_holes = open;
                for problem in self.problems.drain(problems..) {
                    self.reported.remove(&problem.place);
                }
                continue;
            }
            match found {
                Shape::Absent => {}
                Shape::Block(pieces) => shape.lay(pieces),
                found => shape = found,
            }
            if let Shape::Block(pieces) = &shape
                && !self.step(pieces.len(), concat.place, path)
            {
                return Shape::Absent;
            }
        }
        shape
    }

    fn concat_shape(&mut self, path: &[String], concat: &'a Concat) -> Shape<'a> {
        let mut pieces: Option<Vec<Piece<'a>>> = None;
        for part in &concat.parts {
            match part {
                Part::Text(_) | Part::Null | Part::List(_) => {
                    return Shape::Other(Some(concat), Vec::new());
                }
                Part::Object(fields) => {
                    pieces.get_or_insert_default().push(Piece { fields, segment: 0 });
                }
                Part::Ref(reference) => {
                    if !self.step(1, reference.place, path) {
                        return Shape::Absent;
                    }
                    let found = self.follow(path, concat, reference, |this, target| {
                        let defs = this.defs_of(target, reference.place);
                        this.shape(target, &defs, false)
                    });
                    match found {
                        Some(Shape::Block(found)) => pieces.get_or_insert_default().extend(found),
                        Some(Shape::Other(..)) => return Shape::Other(Some(concat), Vec::new()),
                        Some(Shape::Absent) | None if self.variable(reference).is_some() => {
                            return Shape::Other(Some(concat), Vec::new());
                        }
                        // Also where an earlier definition would do.
                        Some(Shape::Absent) => self.undefined(path, reference),
                        None => {}
                    }
                }
            }
        }
        pieces.map_or(Shape::Absent, Shape::Block)
    }

    /// Follows a substitution: first from where its file was included, then from the root.
    /// `None`: it is a circle. An optional one is then left out, another is reported.
    fn follow<T>(
        &mut self,
        path: &[String],
        concat: &'a Concat,
        reference: &'a Ref,
        look: impl Fn(&mut Self, &[String]) -> T,
    ) -> Option<T>
    where
        T: Found,
    {
        let own = self.frames.len();
        let outermost = std::mem::replace(&mut self.outermost, usize::MAX);
        self.frames.push(Frame { concat, key: path.join("."), reference });
        self.depth += 3;
        let (holes, open) = (self.holes, self.open_holes);
        let mut found = None;
        if !reference.within.is_empty() {
            let target = [&reference.within[..], &reference.path].concat();
            found = Some(look(self, &target)).filter(|found| !found.is_absent());
        }
        let found = match found {
            Some(found) => found,
            None => look(self, &reference.path),
        };
        self.depth -= 3;
        self.frames.pop();
        // A circle that does not lead through here may have been optional: then nothing is
        // what it comes to.
        let through = self.holes > holes && self.outermost <= own;
        self.outermost = self.outermost.min(outermost);
        let circle = self.open_holes > open || (found.is_absent() && through);
        self.open_holes = if reference.optional { open } else { self.open_holes };
        if !circle {
            return Some(found);
        }
        if !reference.optional {
            let (way, places) = self.circle.clone();
            self.report_circle(reference.place, path, &way);
            self.reported.extend(places);
        }
        None
    }

    fn report_circle(&mut self, place: Place, path: &[String], way: &str) {
        let message = format!("found substitutions that lead back to themselves: {way}");
        self.report(place, path, message, "give one of these keys a value of its own");
    }

    /// Without the blocks that are being read: if there are no others, it is a circle.
    fn open_blocks(
        &mut self,
        path: &[String],
        concat: &'a Concat,
        pieces: Vec<Piece<'a>>,
    ) -> Vec<Piece<'a>> {
        let inner = |this: &Self, piece: &Piece<'a>| {
            !piece.fields.is_empty() && this.blocks.iter().any(|block| block.is(piece))
        };
        if !pieces.iter().any(|piece| inner(self, piece)) {
            return pieces;
        }
        self.lookbacks += 1;
        let others: Vec<_> = pieces.iter().copied().filter(|piece| !inner(self, piece)).collect();
        if !others.is_empty() {
            return others;
        }
        let mut references = concat.parts.iter().filter_map(|part| match part {
            Part::Ref(reference) => Some(reference),
            _ => None,
        });
        let Some(reference) = references.next_back() else { return pieces };
        let way = format!("{} = ${{{}}}", path.join("."), reference.path.join("."));
        if !self.frames.is_empty() {
            self.holes += 1;
            self.open_holes += 1;
            self.outermost = 0;
            self.circle = (way, vec![reference.place]);
        } else if !reference.optional {
            self.report_circle(reference.place, path, &way);
        }
        others
    }

    /// Reports a substitution that came to nothing, if nothing defines what it needs. As in
    /// EMQX, a key that is there and came to nothing is nothing.
    fn undefined(&mut self, path: &[String], reference: &Ref) {
        if reference.optional || !self.defs_of(&reference.path, reference.place).is_empty() {
            return;
        }
        let (message, hint) = if reference.secret {
            ("found a substitution that nothing defines".to_owned(), "quote a `$` that is meant")
        } else {
            let path = reference.path.join(".");
            let hint = "define the key, or write ${?…} to leave it out";
            (format!("found ${{{path}}}, which nothing defines"), hint)
        };
        self.report(reference.place, path, message, hint);
    }

    fn variable(&self, reference: &Ref) -> Option<String> {
        (self.env)(&reference.path.join("."))
    }
}

/// What a substitution was followed for.
trait Found {
    fn is_absent(&self) -> bool;
}

impl Found for Shape<'_> {
    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl Found for Option<Node> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}
