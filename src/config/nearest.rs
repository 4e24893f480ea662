//! "Did you mean": the nearest of a few known words.

/// The candidate with the fewest edits from `word`; letter case does not count.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Like [`nearest`], if it is near enough to be what was meant.
pub(super) fn near<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let found = nearest(word, candidates)?;
    let edits = distance(&word.to_ascii_lowercase(), &found.to_ascii_lowercase());
    (edits * 2 <= found.chars().count().max(2)).then_some(found)
}

/// Edits, over at most the first 64 characters of either.
fn distance(a: &str, b: &str) -> usize {
    let first = |text: &str| text.chars().take(64).collect::<String>();
    strsim::levenshtein(&first(a), &first(b))
}
