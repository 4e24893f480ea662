//! How much substitutions multiply. `b = ${a}${a}`, `c = ${b}${b}`, … doubles with
//! every line; the parser follows it until memory ends.

/// Copies that substitutions may make of other values, all told. Configuration makes
/// a handful.
const MAX_COPIES: u64 = 10_000;

/// The substitutions of a text, field by field, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct References {
    fields: Vec<Field>,
    /// The next substitution begins a new field.
    fresh: bool,
}

#[derive(Clone, Debug)]
struct Field {
    path: Vec<String>,
    targets: Vec<Vec<String>>,
}

impl References {
    /// Another key was read.
    pub(super) fn field(&mut self) {
        self.fresh = true;
    }

    /// The value at `path` refers to `target`.
    pub(super) fn add(&mut self, path: &[String], target: &str) {
        let target = target.split('.').map(|s| s.trim().trim_matches('"').to_owned()).collect();
        let path: Vec<String> = path.iter().take_while(|s| !s.starts_with('[')).cloned().collect();
        match self.fields.last_mut() {
            Some(field) if !self.fresh && field.path == path => field.targets.push(target),
            _ => self.fields.push(Field { path, targets: vec![target] }),
        }
        self.fresh = false;
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.fields.extend(other.fields);
    }

    /// The first key whose value comes to more copies than are allowed.
    pub(super) fn excess(&self) -> Option<Vec<String>> {
        let mut weights = vec![0; self.fields.len()];
        // A reference may point forwards, so weights are taken until they stand still.
        // In a circle they never do, and grow slowly: the parser refuses it by itself.
        for _ in 0..self.fields.len() {
            let before = weights.clone();
            for n in 0..self.fields.len() {
                weights[n] = self.weight(n, &weights);
                if weights[n] > MAX_COPIES {
                    return Some(self.fields[n].path.clone());
                }
                weights[n] = weights[n].min(MAX_COPIES);
            }
            if weights == before {
                break;
            }
        }
        None
    }

    fn weight(&self, n: usize, weights: &[u64]) -> u64 {
        self.uses(n)
            .map(|used| weights[used])
            .fold(self.fields[n].targets.len() as u64, u64::saturating_add)
    }

    /// The fields that a field's substitutions bring in, as often as they do: those
    /// at, above or below the target. A reference to itself means what stood before.
    fn uses(&self, n: usize) -> impl Iterator<Item = usize> {
        let field = &self.fields[n];
        let related = |a: &[String], b: &[String]| a.iter().zip(b).all(|(a, b)| a == b);
        field.targets.iter().flat_map(move |target| {
            let own = related(target, &field.path);
            self.fields
                .iter()
                .enumerate()
                .filter(move |(m, other)| {
                    *m != n && (!own || *m < n) && related(target, &other.path)
                })
                .map(|(m, _)| m)
        })
    }
}
