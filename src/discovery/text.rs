//! What backends and libraries say, made fit for one line.

/// The error and everything beneath it: a library's outermost text alone is
/// often only "transport error".
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let line = inner.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        source = inner.source();
    }
    text
}

/// The cause alone, where the layers around it say nothing.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Foreign text fit for a log line: quoted, escaped, cut.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    if text.chars().nth(LONGEST).is_some() {
        format!("{:?}…", text.chars().take(LONGEST).collect::<String>())
    } else {
        format!("{text:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::{chain, innermost, shown};

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), 203);
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("inner"));
        assert_eq!(chain(&error), "outer: inner");
        assert_eq!(innermost(&error), "inner");
    }
}
