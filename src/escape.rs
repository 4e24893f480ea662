//! Foreign text made harmless.

/// Longest text that is shown, characters.
const LONGEST: usize = 512;

/// A peer's text as one harmless line: control characters escaped, cut at 512
/// characters.
///
/// Whoever logs, shows or passes on what a stranger chose does it through this: it can
/// neither forge a line of the log nor steer a terminal.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == LONGEST {
            out.push('…');
            break;
        }
        // Besides control characters, those that reorder or hide what follows.
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hidden {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn peers_text_is_one_harmless_line() {
        assert_eq!(escaped("a\nb\u{1b}[31m\u{202e}c"), "a\\u{a}b\\u{1b}[31m\\u{202e}c");
        assert_eq!(escaped(&"x".repeat(600)).chars().count(), 513);
        // What has been made harmless stays as it is.
        assert_eq!(escaped(&escaped("a\nb")), escaped("a\nb"));
    }
}
